/* Steps that mixt train and mixt demo share: vocabulary, training loop, the model's folder. */
#ifndef MIXT_CLI_TRAINING_H
#define MIXT_CLI_TRAINING_H

#include "shared.h"

/* Trains a vocabulary on at most `domain_bytes` of each domain (0: all) and rewinds the corpus. */
mixt_status train_vocabulary(mixt_corpus *corpus, int vocab_size, uint64_t domain_bytes,
                             mixt_tokenizer **tokenizer, mixt_error *error);

typedef struct training_run {
    cli_resources *resources; /* context, model, tokenizer, data */
    const mixt_train_options *options;
    const char *folder;       /* of the trainer */
    const char *const *again; /* the program's arguments that go on, then NULL */
    int64_t sample_every;     /* steps between a few sampled words; 0: none */
    bool *began;              /* NULL, or set where the trainer was made */
} training_run;

/* Trains to the end with a progress line. Returns 0, or the exit status with its message printed;
 * after Ctrl-C a checkpoint is written first. */
int train_run(const training_run *run);

/* Model and tokenizer into one Hugging Face folder, which appears only when it is whole. */
mixt_status save_model(const cli_resources *resources, const char *folder, mixt_error *error);

#endif
