/* Learning rate as a function of the place in the run. */
#ifndef MIXT_TRAIN_SCHEDULE_H
#define MIXT_TRAIN_SCHEDULE_H

#include "mixt.h"

/* Where the run is. Position and end are steps, or training seconds where options.seconds > 0. */
typedef struct mixt_schedule_point {
    int64_t step;    /* 0-based number of the step to take; rules the warm-up */
    double position; /* steps or seconds behind us */
    double warm_end; /* position at which the warm-up ended (used once step >= warmup) */
    double end;      /* steps or seconds in all */
} mixt_schedule_point;

/* Rate of a step. Warm-up: lr (step + 1) / warmup while step < warmup. Then
 * cosine: min + (lr - min) (1 + cos(pi (position - warm_end) / (end - warm_end))) / 2,
 * WSD: lr, then linear to min over the last decay_fraction of the end,
 * constant: lr; min = minimum_rate * lr. */
double mixt_schedule_rate(const mixt_train_options *options, const mixt_schedule_point *point);

#endif
