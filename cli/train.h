/* What the files of mixt train share. */
#ifndef CLI_TRAIN_H
#define CLI_TRAIN_H

#include "nanogpt.h"
#include "training.h"

typedef struct train_settings {
    machine_settings machine;
    mixt_model_options model;
    mixt_train_options training;
    nanogpt_settings nanogpt;
    string_list data;
    string_list parts;   /* that learn */
    string_list targets; /* of adapters */
    const char *out;
    const char *tokenizer;
    const char *init_from;
    const char *upcycle;
    const char *model_config;
    double upcycle_noise, upcycle_reinit;
    double heldout;
    int64_t tokenizer_bytes;
    int64_t sample_every;
    bool must_resume; /* init_from = resume */
    bool resumes;     /* there is a checkpoint, which has what --optimizer auto came to */
    bool dry_run, measure;
    int data_parallel, expert_parallel, exchange_chunks; /* 0: as follows */
    char note[200];                                      /* on what followed from other options */
    char choice_note[100];
    char optimizer_line[300]; /* what --optimizer auto came to; "": it was not asked */
    char nanogpt_note[NANOGPT_NOTE_SIZE];
} train_settings;

/* begin.c: what a run begins with */
/* Weights of a model that there is, in the place of random ones. */
bool train_has_source(const train_settings *settings);
/* --init-from and --upcycle: the model that the run begins with, with the options that were said.
 */
mixt_status train_open_source(train_settings *settings, const cli_arguments *arguments,
                              cli_resources *resources, mixt_error *error);
/* Who says that all experts are chosen need not say how many. */
void train_fit_choices(train_settings *settings, const cli_arguments *arguments);
/* A window and a context length that fit: where one of them was not said it follows the other. */
mixt_status train_fit_window(train_settings *settings, const cli_arguments *arguments,
                             mixt_error *error);
/* What --optimizer auto stands for in a new run, which train.conf then says. The model's options
 * are those that the run has. */
mixt_status train_choose_optimizer(train_settings *settings, mixt_error *error);
/* As --optimizer names the one that was chosen. */
const char *train_optimizer_name(const mixt_train_options *training);
/* Context and tokenizer (`kept`: the run's own, or NULL), and the model where it begins with one.
 */
mixt_status train_prepare(train_settings *settings, const cli_arguments *arguments,
                          const char *kept, cli_resources *resources, mixt_error *error);
/* Behind that: data and model. */
mixt_status train_prepare_data(train_settings *settings, cli_resources *resources,
                               mixt_error *error);
/* train_ranks.c: several ranks that a launcher started */
extern const cli_option options_train_ranks[];
/* What they cannot do, and ranks that are not there: the exit status. */
int train_check_ranks(const train_settings *settings);
/* Of a model of files, before anything of them is read, its share. */
mixt_status train_spread_source(const train_settings *settings, int experts,
                                cli_resources *resources, mixt_error *error);
/* Weights of the model that the run begins with, or of a new one, as these ranks share them. */
mixt_status train_share_model(const train_settings *settings, cli_resources *resources,
                              mixt_error *error);
/* Refuses what rank 0 has not: the same text, of `what`. All ranks call it. */
mixt_status train_compare(const char *what, const char *text, mixt_error *error);
/* Is the family one that can be trained? `flag` names it. */
mixt_status train_check_trainable(const mixt_model_options *model, const char *flag,
                                  const char *path, mixt_error *error);

#endif
