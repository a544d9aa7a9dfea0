/* Studies that the library runs by itself: the vowel task of 1991. A chapter of mixt.h, which
 * includes it at its place. docs/vowels.md has the task and what came of it. */
#ifndef MIXT_H
#error "mixt/study.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_STUDY_H)
#define MIXT_STUDY_H

/* "Adaptive mixtures of local experts" (Jacobs, Jordan, Nowlan & Hinton 1991), section 3: mixtures
 * of 4 and 8 experts against back-propagation networks with 6 and 12 hidden units, on the first two
 * formants of four vowels (Peterson & Barney 1952). Each expert is one linear map of the formants,
 * the gate a linear map and a softmax; of experts o_i and proportions p_i the loss of a case with
 * target d is -log sum_i p_i exp(-|d - o_i|^2 / 2). A network has one layer of logistic units and
 * half the squared error. All are trained by gradient descent without momentum, one step for each
 * pass over the training cases, until the average squared error of the system's output
 * (sum_i p_i o_i) over them is at most stop_error. */

/* What the outputs stand for, which the text leaves open. */
typedef enum mixt_vowel_coding {
    MIXT_VOWELS_PAIRS,   /* one output: 1 for [i] and [a], 0 for [I] and [V], each the other one of
                          * its pair; what is correct is told within the pair. With one decision
                          * line an expert and 24, 48, 25 and 49 parameters, which the text calls
                          * roughly equal */
    MIXT_VOWELS_CLASSES, /* four outputs: 1 for the vowel, 0 for the others */
} mixt_vowel_coding;

enum {
    MIXT_VOWEL_SYSTEMS = 4,     /* 4 experts, 8 experts, 6 hidden units, 12 hidden units */
    MIXT_VOWEL_COMPARISONS = 6, /* of each two of them */
};

typedef struct mixt_vowel_options {
    mixt_vowel_coding coding;
    bool linear;      /* outputs are linear instead of logistic, of experts and networks */
    bool standardise; /* formants get mean 0 and deviation 1 over the training cases; else they are
                       * in kHz, as in the paper's figure 2 */
    int runs;         /* of each system, from weights of their own: 25 */
    int train_speakers, test_speakers; /* 50 and 25 */
    uint64_t seed;                     /* of the split of the speakers and of all weights */
    double stop_error;                 /* mean over cases and outputs: 0.08 */
    int64_t epochs;                    /* a run that is not there by then is given up: 5000 */
    double deviation;                  /* of the normal first weights; the gate's are 0 */
    double rate[MIXT_VOWEL_SYSTEMS];   /* step on the mean gradient over the cases; 0: explored
                                        * (mixt_vowel_system) */
    double rise; /* where rates are explored: what the loss may rise over an epoch, as a share of
                  * itself: 0.01, so that every step descends; 0: anything, so that the runs may
                  * swing */
    mixt_progress progress; /* runs done and to do; from the caller's thread */
    void *user;
    uint64_t reserved[8];
} mixt_vowel_options;

MIXT_API mixt_vowel_options mixt_vowel_options_default(void);

typedef struct mixt_vowel_run {
    bool reached;       /* the stopping error, within options.epochs */
    int64_t epochs;     /* weight updates */
    double error;       /* average squared error at the end */
    double train, test; /* shares of cases that are told correctly */
    int active;         /* experts with a proportion above 0.05 for some training case */
    uint64_t reserved[4];
} mixt_vowel_run;

/* What the runs of a system say; means and deviations (n - 1) of those that reached the error. */
typedef struct mixt_vowel_system {
    int experts, hidden; /* one of them is 0 */
    int parameters;
    double rate; /* where it was explored: of the powers of the square root of 2 from 64 to 1/16, or
                  * to a quarter of the best, that with which three other runs came to the error in
                  * the fewest epochs, the loss never rising by more than options.rise; 0: with
                  * none, and nothing was run */
    int reached;
    double epochs, epochs_deviation;
    double train, test, active;
    uint64_t reserved[8];
} mixt_vowel_system;

/* Student's t test of two systems' epochs with a pooled variance. */
typedef struct mixt_vowel_comparison {
    int first, second; /* systems */
    double t;          /* below 0: the first takes fewer epochs; NaN where there are not two runs */
    int freedom;       /* n1 + n2 - 2: 48 for 25 runs each */
    double p;          /* two-sided */
    uint64_t reserved[4];
} mixt_vowel_comparison;

typedef struct mixt_vowel_report {
    int train_cases, test_cases;
    int speakers;     /* in the file with all four vowels */
    char dropped[64]; /* the first of those that are not used, in the file's order, or "" */
    mixt_vowel_system systems[MIXT_VOWEL_SYSTEMS];
    mixt_vowel_comparison comparisons[MIXT_VOWEL_COMPARISONS];
    uint64_t reserved[8];
} mixt_vowel_report;

/* Runs the task on a CSV file with a header and the columns speaker, vowel (X-SAMPA: i, I, A, V;
 * others are passed over), f1 and f2 (Hz). The first train_speakers + test_speakers speakers are
 * used. runs [MIXT_VOWEL_SYSTEMS * options->runs] gets the runs, system by system; it may be NULL.
 * The context's threads work on runs side by side; what comes out does not depend on them. */
MIXT_API mixt_status mixt_vowels(mixt_context *context, const char *path,
                                 const mixt_vowel_options *options, mixt_vowel_report *report,
                                 mixt_vowel_run *runs, mixt_error *error);

/* Student's t at 0.975 with `freedom` >= 1 degrees of freedom, to ten digits: half a 95 % interval
 * in standard errors. */
MIXT_API double mixt_student_reach(double freedom);

#endif
