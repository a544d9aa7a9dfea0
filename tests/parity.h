/* Runs a model's training or scoring plan on the fixtures that tests/reference/model.py made with
 * PyTorch. Everything is read back as double, whatever the plan's precision. */
#ifndef MIXT_TESTS_PARITY_H
#define MIXT_TESTS_PARITY_H

#include "formats/safetensors.h"
#include "model/batch.h"

#define PARITY_FOLDER "tests/fixtures/model/"

/* A model with the file of expected values beside it. */
typedef struct parity_fixture {
    const char *name;
    mixt_context *context;
    mixt_model *model;
    mixt_safetensors *expected;
} parity_fixture;

/* Fail the test where something is missing. `cpu` as in mixt_context_options. */
void parity_open(parity_fixture *fixture, const char *name, const char *cpu, mixt_matmul matmul);
void parity_close(parity_fixture *fixture);
/* Values of the tensor `batch`.`name` as doubles; malloc'd. *count may be NULL. */
double *parity_expected(const parity_fixture *fixture, const char *batch, const char *name,
                        size_t *count);
bool parity_has(const parity_fixture *fixture, const char *batch, const char *name);

/* A plan with memory and its own copy of the weights. */
typedef struct parity_run {
    const mixt_model *model;
    mixt_graph *graph;
    mixt_instance *instance;
    size_t real_size;
    int64_t tokens;  /* T of the batch */
    int64_t valid;   /* targets that count */
    void *weights;   /* reals, laid out as model->weights; each run takes them as they are */
    void *gradients; /* of the last run */
    mixt_device_memory device_weights, device_gradients, rope;
    mixt_batch batch;
} parity_run;

/* options: phase, capacity, window, real_size, recompute, keep_logits, keep_routes. */
void parity_run_create(const parity_fixture *fixture, const mixt_graph_options *options,
                       parity_run *run);
void parity_run_free(parity_run *run);
/* Fills the inputs. documents (number of a token's document inside its window) may be NULL: whole
 * windows. A negative target is ignored. Gradients become zero. */
void parity_run_batch(parity_run *run, const double *tokens, const double *targets,
                      const double *documents);
void parity_run_go(parity_run *run);
/* cross-entropy, balance, z (means) and total with the model's coefficients. */
void parity_run_losses(const parity_run *run, double losses[4]);
/* Element of an array of the run's reals. */
double parity_real(const parity_run *run, const void *values, size_t index);

/* max |a - b| / max |b|; NaN where one is NaN. */
double parity_difference(const double *a, const double *b, size_t count);
/* Fails with a readable line when the difference is above the bound or NaN. */
void parity_check(const char *what, const char *name, double difference, double bound);

#endif
