/* Runs a model's training plan on one batch in fp32 or fp64, for tests. */
#ifndef MIXT_TESTS_MODEL_RUNNER_H
#define MIXT_TESTS_MODEL_RUNNER_H

#include "model/batch.h"

typedef struct test_batch {
    int rows, window;         /* windows and tokens in each */
    const int32_t *tokens;    /* [rows * window] */
    const int32_t *targets;   /* [rows * window], -1: ignored */
    const int32_t *positions; /* [rows * window]: place in the document; NULL: in the window */
} test_batch;

typedef struct test_run {
    mixt_graph *graph;
    mixt_instance *instance;
    void *weights;   /* real [weight_count], a copy of the model's; each run takes it as it is */
    void *gradients; /* real [weight_count], of the last run with a backward */
    mixt_device_memory device_weights, device_gradients, rope;
    mixt_device_memory seen; /* of the runs so far, where the balance loss counts a step's */
    mixt_batch batch;
    double scale[2];
    int64_t tokens;
    double cross_entropy, balance, device, z; /* means; the losses of routers over layers */
} test_run;

/* Builds, binds and runs forward and backward of (mean cross-entropy + weighted routing losses).
 * real_size 4 or 8. Asserts on failure. */
void test_run_create(const mixt_device *device, const mixt_model *model, const test_batch *batch,
                     size_t real_size, bool recompute, test_run *run);
/* The same with other options of the graph; real_size and phase are given, the rest follows from
 * the batch. */
void test_run_create_with(const mixt_device *device, const mixt_model *model,
                          const test_batch *batch, const mixt_graph_options *options,
                          test_run *run);
/* The forward alone, in fp32, as held-out text is scored. */
void test_score_create(const mixt_device *device, const mixt_model *model, const test_batch *batch,
                       test_run *run);
/* Runs again with the weights as they are now; `backward`: gradients too (zeroed first). Returns
 * the total loss with coefficients. */
/* Gives the next run another batch of the same shape. */
void test_run_fill(test_run *run, const test_batch *batch);
double test_run_again(const mixt_model *model, test_run *run, bool backward);
void test_run_free(test_run *run);
/* Writes two scales as reals into a graph's `scale`. */
void test_write_scale(mixt_instance *instance, const mixt_graph *graph, const double scale[2]);

#endif
