/* The vowel task of 1991: its data, one training run, and the test that compares systems. */
#ifndef MIXT_STUDY_VOWELS_H
#define MIXT_STUDY_VOWELS_H

#include "plan/plan.h"

enum {
    MIXT_VOWEL_FORMANTS = 2,
    MIXT_VOWEL_COUNT = 4,
    MIXT_VOWEL_PARAMETERS = 4,
    MIXT_VOWEL_SPEAKERS_MAX = 1000,
};

/* Cases: those of the training speakers, then those of the others. */
typedef struct mixt_vowel_data {
    int64_t train, test;
    float *formants; /* [train + test, 2], scaled */
    uint8_t *vowels; /* [train + test], place in "iIAV" */
    int speakers;    /* in the file with all four vowels */
    char dropped[64];
} mixt_vowel_data;

/* Reads a CSV file, splits its speakers by the seed and scales the formants. */
mixt_status mixt_vowel_data_read(const char *path, const mixt_vowel_options *options,
                                 mixt_vowel_data *data, mixt_error *error);
void mixt_vowel_data_free(mixt_vowel_data *data);

/* Outputs of a system, and the target of output i for a vowel. */
int mixt_vowel_outputs(mixt_vowel_coding coding);
float mixt_vowel_target(mixt_vowel_coding coding, int vowel, int i);

/* One run: a system from weights that (seed, system, run) name. */
typedef struct mixt_vowel_task {
    const mixt_vowel_data *data;
    const mixt_vowel_options *options;
    int system, run;
    double rate;
    int64_t epochs; /* at most */
    double rise;    /* given up where the loss rises by more, as a share; 0: whatever it does */
} mixt_vowel_task;

/* Experts and hidden units of a system. */
void mixt_vowel_system_size(int system, int *experts, int *hidden);
mixt_status mixt_vowel_train(const mixt_device *device, const mixt_vowel_task *task,
                             mixt_vowel_run *run, mixt_error *error);

typedef struct mixt_vowel_shape {
    int experts, hidden; /* one of them is 0 */
    int outputs;
    bool linear; /* outputs are not logistic */
} mixt_vowel_shape;

typedef struct mixt_vowel_parameter {
    mixt_value_id value;
    size_t first, count; /* among the weights */
    bool random;         /* normal at the start, else 0 */
} mixt_vowel_parameter;

/* The plan of a system, in both directions; inputs are formants [T, 2], targets [T, outputs] and
 * scale [MIXT_SCALES]. It may not be moved: the plan reads `gate`. */
typedef struct mixt_vowel_plan {
    mixt_plan *plan; /* to be freed by mixt_plan_free, on failure as well */
    mixt_router_spec gate;
    mixt_value_id formants, targets, scale;
    mixt_value_id nll, mixture, ids, proportions; /* kept; the last two of mixtures alone */
    /* Weight and bias of the experts, then of the gate; or of each layer. */
    mixt_vowel_parameter parameters[MIXT_VOWEL_PARAMETERS];
    int parameter_count;
    size_t weight_count;
} mixt_vowel_plan;

mixt_status mixt_vowel_plan_create(const mixt_vowel_shape *shape, int64_t cases, size_t real_size,
                                   mixt_vowel_plan *plan, mixt_error *error);

/* P(|T| >= |t|) of Student's t with `freedom` degrees of freedom (at least 1). */
double mixt_student_tails(double t, double freedom);
/* Student's t of two samples with a pooled variance; NaN where there are not two numbers each, or
 * none of them differ. */
double mixt_student_pooled(const double *first, int first_count, const double *second,
                           int second_count);

#endif
