/* Means over seeds. */
#ifndef MIXT_CLI_STUDY_STATISTICS_H
#define MIXT_CLI_STUDY_STATISTICS_H

#include <stddef.h>

/* NAN where there are too few: a deviation and an interval need two. */
typedef struct study_estimate {
    size_t count;
    double mean;
    double error;     /* standard error of the mean */
    double low, high; /* 95 % interval by Student's t */
} study_estimate;

/* Of values that are not NAN. */
study_estimate study_estimate_of(const double *values, size_t count);

#endif
