/* log.jsonl, one line a step, load.jsonl, how experts were used, and the TensorBoard events beside
 * them. */
#ifndef MIXT_TRAIN_LOG_H
#define MIXT_TRAIN_LOG_H

#include "mixt.h"

typedef struct mixt_log mixt_log;

/* Opens the log of a run folder for appending and begins a new file of events. Lines of steps
 * behind `step` (written after the checkpoint that was resumed) and torn ends are cut off; readers
 * of the events are told to forget those steps. `routes`: whether there is load to speak of. */
mixt_status mixt_log_open(const char *folder, int64_t step, bool routes, mixt_log **log,
                          mixt_error *error);
void mixt_log_close(mixt_log *log);
/* To the disk, before a checkpoint: a resumed run finds a line for each of its steps. */
mixt_status mixt_log_sync(mixt_log *log, mixt_error *error);
/* What is said of balance where it is there: drops with a capacity, the loss over groups of
 * experts, choices of experts without weights, coefficients that change. */
typedef struct mixt_log_balance {
    bool capacity, groups, weightless;
    const double *coefficients; /* [layers]; NULL: they do not change */
    int layers;
} mixt_log_balance;
/* One step; `tokens` seen so far. */
mixt_status mixt_log_step(mixt_log *log, const mixt_step_report *report, int64_t tokens,
                          const mixt_log_balance *balance, mixt_error *error);
/* How often a step's tokens chose each expert, layer by layer. */
typedef struct mixt_log_load {
    int layers, experts;
    int (*number)(const void *user, int layer); /* the model's number of a layer */
    const void *user;
    const int64_t *counts; /* [layers, experts] */
    int64_t tokens;        /* of the step */
} mixt_log_load;
/* Whether the load of a step is logged: of each of the first 64, then of 64 in every doubling, so
 * that a long run has some hundred lines and each of them is known from its number alone. */
bool mixt_log_load_due(int64_t step);
mixt_status mixt_log_loads(mixt_log *log, int64_t step, const mixt_log_load *load,
                           mixt_error *error);
/* Held-out scores after `step` steps; rows as mixt_evaluate gives them. */
mixt_status mixt_log_scores(mixt_log *log, int64_t step, const mixt_score_row *rows, int count,
                            mixt_error *error);
/* Both losses of an evaluation. */
mixt_status mixt_log_losses(mixt_log *log, const mixt_step_report *report, mixt_error *error);

#endif
