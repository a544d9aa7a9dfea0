/* Keys of nanoGPT's and nanoMoE's configuration files that are no options of mixt train: what they
 * ask for is put into those that are, or complained of, all at once. */
#ifndef MIXT_CLI_NANOGPT_H
#define MIXT_CLI_NANOGPT_H

#include "shared.h"

typedef struct nanogpt_settings {
    bool decay_lr, bias, wandb_log, eval_only;
    bool use_aux_loss, use_router_z_loss, use_noisy_top_k, use_switch_init;
    double min_lr, dropout, train_capacity, eval_capacity, min_capacity;
    int64_t lr_decay_iters, eval_iters, stride, top_k;
    const char *dataset, *device, *dtype;
} nanogpt_settings;

enum { NANOGPT_NOTE_SIZE = 120 };

extern const cli_option options_nanogpt[]; /* nanogpt_settings */

/* Where their wishes go. */
typedef struct nanogpt_target {
    const nanogpt_settings *asked;
    mixt_model_options *model;
    mixt_train_options *training;
    const char **init_from; /* NULL instead of scratch and resume */
    bool *must_resume;
    char *note; /* [NANOGPT_NOTE_SIZE] what follows from its keys, or "" */
    bool has_data;
} nanogpt_target;

void nanogpt_translate(const nanogpt_target *target, cli_arguments *arguments);

#endif
