#include "train/schedule.h"

#include <math.h>

/* (position - begin) / (end - begin), kept in 0..1. */
static double share(double position, double begin, double end)
{
    if (!(end > begin)) {
        return position < end ? 0.0 : 1.0;
    }
    double s = (position - begin) / (end - begin);
    return s < 0.0 ? 0.0 : s > 1.0 ? 1.0 : s;
}

double mixt_schedule_rate(const mixt_train_options *options, const mixt_schedule_point *point)
{
    const double pi = 3.14159265358979323846;
    double high = options->learning_rate;
    double low = options->minimum_rate * high;
    if (point->step < options->warmup) {
        return high * (double)(point->step + 1) / (double)options->warmup;
    }
    switch (options->schedule) {
    case MIXT_SCHEDULE_COSINE: {
        double done = share(point->position, point->warm_end, point->end);
        return low + (high - low) * 0.5 * (1.0 + cos(pi * done));
    }
    case MIXT_SCHEDULE_WSD: {
        double begin = point->end * (1.0 - options->decay_fraction);
        return high + (low - high) * share(point->position, begin, point->end);
    }
    case MIXT_SCHEDULE_CONSTANT:
        break;
    }
    return high;
}
