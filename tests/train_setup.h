/* A corpus, a tokenizer, a model and options small enough to train in milliseconds. */
#ifndef TESTS_TRAIN_SETUP_H
#define TESTS_TRAIN_SETUP_H

#include "mixt.h"

typedef struct train_setup {
    char folder[128]; /* below TMPDIR, if short; of processes (hub.h) the first one's */
    char run[160];    /* folder/run */
    mixt_context *context;
    mixt_tokenizer *tokenizer;
    mixt_data *data;
    mixt_model *model;
    mixt_train_options options;
} train_setup;

mixt_model_options train_setup_model_options(void);
/* Documents of two domains; `variant` changes one word in one of them. */
mixt_data *train_setup_data(const char *folder, const mixt_tokenizer *tokenizer, int variant);
/* Fails the test when something cannot be made. */
void train_setup_open(train_setup *setup, int threads, const mixt_model_options *options);
/* The setup's options for ranks: steps of so many micro batches of one window, at one rate. */
mixt_train_options train_setup_of_ranks(const train_setup *setup, int micro_batches);
/* A second model with the weights of the first; the first is freed. */
void train_setup_new_model(train_setup *setup, const mixt_model_options *options);
/* Sets one weight of the model that a trainer trains, where the trainer has it. */
void train_setup_poke(mixt_trainer *trainer, size_t place, float value);
/* A trainer of the setup's run, and its last of so many steps; both fail the test where they fail.
 */
mixt_trainer *train_setup_trainer(train_setup *setup);
mixt_step_report train_setup_steps(mixt_trainer *trainer, int count);
/* Twelve steps at once, and of a run that is broken behind the fifth, with two more lost, and goes
 * on with a thread more: the same state. `open` is train_setup_open and what a test adds to it,
 * with a model of these options; `recompute`: the broken run also computes activations again. */
void train_setup_check_resume(void (*open)(train_setup *setup, int threads, int64_t parts),
                              int64_t parts, const mixt_model_options *options, bool recompute);
void train_setup_close(train_setup *setup);

#endif
