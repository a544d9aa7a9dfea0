/* Writing a model in another form: what the two directions share. */
#ifndef MIXT_CONVERT_CONVERT_H
#define MIXT_CONVERT_CONVERT_H

#include <dirent.h>

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
    mixt_type wanted; /* what the type would be if its rows were whole blocks of that */
    size_t bytes;
} mixt_target;

typedef struct mixt_conversion {
    mixt_context *context;
    const mixt_model *model; /* as the family as which it is written */
    const mixt_convert_options *options;
    mixt_form form;
    char *folder;        /* temporary, beside the output */
    DIR *listing;        /* the same, open: what it holds is removed without memory too */
    char *path;          /* in it: the file of weights */
    const mixt_mix *mix; /* NULL: types stay as they are, or: */
    bool automatic;      /* each tensor's is chosen under a budget */
    mixt_target_part *parts;
    size_t part_count, part_capacity;
    mixt_target *targets;
    size_t target_count, target_capacity;
    double done, total;                  /* bytes */
    double value_squares, error_squares; /* sums over values that a type was found for */
    mixt_progress progress;
    void *user;
    mixt_error *error;
} mixt_conversion;

/* All values of a target [shape] as fp32. */
mixt_status mixt_target_values(const mixt_conversion *c, const mixt_target *target, float *values);
/* Under which name importance knows the matrices of a target: of its own tensor, or matrix `first`
 * of those of the stack where the target is one expert's. */
typedef struct mixt_importance_place {
    char name[128];
    int64_t first, matrices;
} mixt_importance_place;

void mixt_target_importance(const mixt_conversion *c, const mixt_target *target,
                            mixt_importance_place *place);
/* Number of values of a target. */
size_t mixt_target_count(const mixt_target *target);
/* Moves the progress on; an error where the caller wants to end. */
mixt_status mixt_conversion_advance(mixt_conversion *c, size_t bytes);

/* Makes the temporary folder; refused where the output is the source. Looks at what was written
 * there; gives it the output's name; and removes what is left of the folder. (publish.c) */
mixt_status mixt_output_begin(mixt_conversion *c);
mixt_status mixt_output_verify(const mixt_conversion *c);
mixt_status mixt_output_publish(const mixt_conversion *c);
void mixt_output_end(mixt_conversion *c);

/* Sets type and bytes of all targets, which have those of their source. (budget.c) */
mixt_status mixt_budget_choose(mixt_conversion *c);
/* The parameter's row for each row of the target, malloc'd; NULL where it does not move whole rows.
 * (gguf.c) */
int64_t *mixt_target_row_order(const mixt_conversion *c, const mixt_target *target);

mixt_status mixt_convert_to_gguf(mixt_conversion *c);
/* Refused, before anything is made: types that folders do not hold. */
mixt_status mixt_folder_type_check(const mixt_conversion *c);
mixt_status mixt_convert_to_folder(mixt_conversion *c);

#endif
