/* The options of a run as a table: ranges, and which of them a resumed run may change. */
#ifndef MIXT_TRAIN_OPTIONS_H
#define MIXT_TRAIN_OPTIONS_H

#include "core/memory.h"
#include "core/number.h"
#include "mixt.h"

typedef struct mixt_train_option {
    const char *name;
    enum {
        MIXT_TRAIN_INT,
        MIXT_TRAIN_LONG,
        MIXT_TRAIN_SEED,
        MIXT_TRAIN_REAL,
        MIXT_TRAIN_BOOL
    } type;
    size_t offset; /* in mixt_train_options */
    double low, high;
    bool fixed; /* changes the result: a resumed run must have the same */
    bool newer; /* than version 1 of state.json: where it is not there, it was that of
                  mixt_train_options_older */
} mixt_train_option;

/* What counts where an option is left open and no choice of an optimizer has another one. */
#define MIXT_TRAIN_RATE 0.002
#define MIXT_TRAIN_MOMENTUM 0.95
#define MIXT_TRAIN_MUON_STEPS 5

/* Ends with a NULL name. */
extern const mixt_train_option mixt_train_option_rows[];

/* What runs had before an option was there that a checkpoint does not have. */
mixt_train_options mixt_train_options_older(void);

/* The value exactly, as text: what state.json holds. */
void mixt_train_option_text(const mixt_train_option *row, const mixt_train_options *options,
                            char text[MIXT_NUMBER_SIZE]);
/* Whether two such texts are the same value: 0.0003 has several. */
bool mixt_train_option_is(const mixt_train_option *row, const char *a, const char *b);
/* Such a text for a reader: words for truths, choices and parts. `to` may be `text`. */
#define MIXT_TRAIN_SHOWN 80
void mixt_train_option_show(const mixt_train_option *row, const char *text,
                            char to[MIXT_TRAIN_SHOWN]);
/* The words of parts (mixt_train_part), joined by commas. */
void mixt_train_parts_text(int64_t parts, char to[MIXT_TRAIN_SHOWN]);

#endif
