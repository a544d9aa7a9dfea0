/* The vowel task of 1991: its data, one training run, and the test that compares systems. */
#ifndef MIXT_STUDY_VOWELS_H
#define MIXT_STUDY_VOWELS_H

#include "plan/plan.h"

enum {
    MIXT_VOWEL_FORMANTS = 2,
    MIXT_VOWEL_COUNT = 4,
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
    bool steady;    /* given up where the loss rises by more than a hundredth over an epoch */
} mixt_vowel_task;

/* experts and hidden units of a system */
void mixt_vowel_system_size(int system, int *experts, int *hidden);
int mixt_vowel_parameters(int system, mixt_vowel_coding coding);
mixt_status mixt_vowel_train(const mixt_device *device, const mixt_vowel_task *task,
                             mixt_vowel_run *run, mixt_error *error);

/* P(|T| >= |t|) of Student's t with `freedom` degrees of freedom (at least 1). */
double mixt_student_tails(double t, double freedom);
/* Student's t of two samples with a pooled variance; NaN where there are not two numbers each, or
 * none of them differ. */
double mixt_student_pooled(const double *first, int first_count, const double *second,
                           int second_count);

#endif
