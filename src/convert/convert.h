/* Writing a model in another form: what the two directions share. */
#ifndef MIXT_CONVERT_CONVERT_H
#define MIXT_CONVERT_CONVERT_H

#include "backend/context.h"
#include "model/parameters.h"
#include "quant/mix.h"

/* A tensor of the file to be written, and the parameters, or parts of them, that it holds. */
typedef struct mixt_target_part {
    int parameter;
    mixt_layout_piece piece;
} mixt_target_part;

typedef struct mixt_target {
    int first, parts;               /* in the list of parts */
    const mixt_layout_piece *piece; /* its name and shape: those of its first part */
    mixt_type type;
    size_t bytes;
} mixt_target;

typedef struct mixt_conversion {
    mixt_context *context;
    const mixt_model *model;
    const mixt_convert_options *options;
    mixt_form form;
    const mixt_mix *mix; /* NULL: types stay as they are */
    mixt_target_part *parts;
    size_t part_count, part_capacity;
    mixt_target *targets;
    size_t target_count, target_capacity;
    double done, total; /* bytes */
    mixt_progress progress;
    void *user;
    mixt_error *error;
} mixt_conversion;

/* All values of a target [shape] as fp32. */
mixt_status mixt_target_values(const mixt_conversion *c, const mixt_target *target, float *values);
/* Number of values of a target. */
size_t mixt_target_count(const mixt_target *target);
/* Moves the progress on. */
void mixt_conversion_advance(mixt_conversion *c, size_t bytes);

mixt_status mixt_convert_to_gguf(mixt_conversion *c);
mixt_status mixt_convert_to_folder(mixt_conversion *c);

#endif
