/* Option tables that several commands share, and what most commands open. */
#ifndef MIXT_CLI_SHARED_H
#define MIXT_CLI_SHARED_H

#include "cli.h"

/* Rows for the options by which every command names a model and its text; `settings` is the type
 * that holds them as model, tokenizer, data. */
#define OPTION_OF_MODEL(settings)                                                                  \
    {                                                                                              \
        .name = "model", .letter = 'm', .kind = OPTION_TEXT, .offset = offsetof(settings, model),  \
        .value = "MODEL", .help = "GGUF file, Hugging Face folder, or run folder of mixt train"    \
    }
#define OPTION_OF_TOKENIZER(settings)                                                              \
    {                                                                                              \
        .name = "tokenizer", .kind = OPTION_TEXT, .offset = offsetof(settings, tokenizer),         \
        .value = "PATH", .help = "tokenizer.json, tokenizer.model, a folder or a GGUF file",       \
        .fallback = "the model's"                                                                  \
    }
#define OPTION_OF_CHECK(settings)                                                                  \
    {                                                                                              \
        .name = "check", .kind = OPTION_FLAG, .offset = offsetof(settings, check),                 \
        .help = "read every weight first and refuse NaN and Inf"                                   \
    }
#define OPTION_OF_DATA(settings)                                                                   \
    {                                                                                              \
        .name = "data", .letter = 'd', .kind = OPTION_LIST, .offset = offsetof(settings, data),    \
        .value = "PATH",                                                                           \
        .help =                                                                                    \
            "text files, .jsonl, .jsonl.zst, token shards, or folders of them; subfolders name "   \
            "domains"                                                                              \
    }

/* One group in every command that computes or prints. */
typedef struct machine_settings {
    int threads; /* 0: every core */
    int cpu;     /* place in "auto scalar avx2 avx512" */
    int matmul;  /* mixt_matmul */
    int color;   /* color_choice */
    const char *config;
} machine_settings;

machine_settings machine_defaults(mixt_matmul matmul);

extern const cli_option options_machine[];  /* machine_settings */
extern const cli_option options_color[];    /* machine_settings, for commands that only print */
extern const cli_option options_model[];    /* mixt_model_options */
extern const cli_option options_router[];   /* mixt_router_options */
extern const cli_option options_training[]; /* mixt_train_options */
extern const cli_option options_sampling[]; /* mixt_sampling */

/* What a command opened; freed at once by resources_free, in the right order. */
typedef struct cli_resources {
    mixt_context *context;
    mixt_model *model;
    mixt_tokenizer *tokenizer;
    mixt_corpus *corpus;
    mixt_data *data;
    char model_path[4096]; /* GGUF file, or folder that holds config.json */
} cli_resources;

void resources_free(cli_resources *resources);
mixt_status open_context(const machine_settings *machine, cli_resources *resources,
                         mixt_error *error);
/* A GGUF file, a Hugging Face folder, or a run folder: then its model/ or its newest checkpoint. */
mixt_status open_model(const char *path, cli_resources *resources, mixt_error *error);
/* The tokenizer at `path`, or the model's own where path is NULL. */
mixt_status open_tokenizer(const char *path, cli_resources *resources, mixt_error *error);
/* Corpus and token data; says on standard error how much there is and what was skipped. */
mixt_status open_data(const string_list *paths, double heldout, cli_resources *resources,
                      mixt_error *error);

/* Bits per byte of summed nats. */
double bits_per_byte(double nats, uint64_t bytes);
/* A table of scores by domain, or JSON. */
void print_scores(const mixt_score_row *rows, int domains, FILE *stream);
void print_scores_json(const mixt_score_row *rows, int domains, FILE *stream);

#endif
