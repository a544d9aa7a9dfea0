/* Option tables that several commands share, and what most commands open. */
#ifndef MIXT_CLI_SHARED_H
#define MIXT_CLI_SHARED_H

#include "cli.h"
#include "routing.h"
#include "store.h"

#define OPTION_OF_DATA(settings)                                                                   \
    {                                                                                              \
        .name = "data", .kind = OPTION_LIST, .offset = offsetof(settings, data), .value = "PATH",  \
        .help =                                                                                    \
            "text files, .jsonl, .jsonl.zst, token shards, or folders of them; subfolders name "   \
            "domains"                                                                              \
    }

/* One group in every command that computes or prints. */
typedef struct machine_settings {
    int threads; /* 0: every core */
    int cpu;     /* place in "auto scalar avx2 avx512 amx neon dotprod i8mm" */
    int matmul;  /* mixt_matmul */
    int color;   /* color_choice */
    const char *config;
    mixt_cache_type cache_type; /* that scores are made for */
} machine_settings;

/* How a command opens the model that it runs. */
typedef struct model_settings {
    machine_settings machine;
    routing_settings routing;
    store_settings store;
    const char *path;
    const char *tokenizer; /* NULL: the model's */
    string_list adapters;  /* merged into it, one after another */
    bool check;
    bool no_mmap; /* weights in memory */
} model_settings;

/* The type of a key/value cache; keys and values have one. */
typedef struct cache_settings {
    int type;         /* mixt_cache_type */
    int keys, values; /* 0: not said, else one more than a mixt_cache_type */
} cache_settings;

#define CACHE_TYPES "f32 f16 bf16 q8_0"
/* Rows for it; `settings` holds a cache_settings `member`. */
#define OPTIONS_OF_CACHE(settings, member, text)                                                   \
    {.name = "cache-type",                                                                         \
     .kind = OPTION_CHOICE,                                                                        \
     .offset = offsetof(settings, member.type),                                                    \
     .choices = CACHE_TYPES,                                                                       \
     .help = text ": " CACHE_TYPES},                                                               \
        {.name = "cache-type-k",                                                                   \
         .kind = OPTION_CHOICE,                                                                    \
         .offset = offsetof(settings, member.keys),                                                \
         .choices = "auto " CACHE_TYPES,                                                           \
         .help = "of its keys, for who knows llama.cpp; keys and values have one type",            \
         .aliases = "-ctk",                                                                        \
         .fallback = "cache-type"},                                                                \
    {                                                                                              \
        .name = "cache-type-v", .kind = OPTION_CHOICE,                                             \
        .offset = offsetof(settings, member.values), .choices = "auto " CACHE_TYPES,               \
        .help = "of its values, likewise", .aliases = "-ctv", .fallback = "cache-type"             \
    }

/* A row for a mixt_latent `member` of `settings`. */
#define OPTION_OF_LATENT(settings, member)                                                         \
    {                                                                                              \
        .name = "latent", .kind = OPTION_CHOICE, .offset = offsetof(settings, member),             \
        .choices = "auto absorbed expanded",                                                       \
        .help = "form of DeepSeek's latent attention; auto: the cheaper one for what is fed at "   \
                "once; the others have the same bits however it is fed: auto absorbed expanded"    \
    }

/* What options of the memory that a model may take are refused: the exit status. */
int refuse_memory(const model_settings *settings, const cli_arguments *arguments);
/* The one type that was asked for: 0, or the status of what is refused. */
int cache_type_of(const cache_settings *settings, mixt_cache_type *type);

/* Rows for the options by which every command names a model and its text: `settings` is the type
 * that holds them, `member` the place in it. */
#define OPTION_OF_MODEL(settings, member)                                                          \
    {                                                                                              \
        .name = "model", .letter = 'm', .kind = OPTION_TEXT, .offset = offsetof(settings, member), \
        .value = "MODEL", .help = "GGUF file, Hugging Face folder, or run folder of mixt train"    \
    }
#define OPTION_OF_TOKENIZER(settings, member)                                                      \
    {                                                                                              \
        .name = "tokenizer", .kind = OPTION_TEXT, .offset = offsetof(settings, member),            \
        .value = "PATH", .help = "tokenizer.json, tokenizer.model, a folder or a GGUF file",       \
        .fallback = "the model's"                                                                  \
    }
#define OPTION_OF_MEMORY(settings, member)                                                         \
    {                                                                                              \
        .name = "no-mmap", .kind = OPTION_FLAG, .offset = offsetof(settings, member),              \
        .help = "read the weights into memory, in large pages, instead of mapping their files"     \
    }
/* ... and for all of a model_settings, with its groups. */
#define OPTIONS_OF_MODEL(settings, member)                                                         \
    OPTION_OF_MODEL(settings, member.path), OPTION_OF_TOKENIZER(settings, member.tokenizer),       \
        {.name = "check",                                                                          \
         .kind = OPTION_FLAG,                                                                      \
         .offset = offsetof(settings, member.check),                                               \
         .help = "read every weight first and refuse NaN and Inf",                                 \
         .aliases = "check-tensors"},                                                              \
        OPTION_OF_MEMORY(settings, member.no_mmap),                                                \
    {                                                                                              \
        .name = "lora", .kind = OPTION_LIST, .offset = offsetof(settings, member.adapters),        \
        .value = "FOLDER",                                                                         \
        .help = "LoRA adapters in PEFT's format, folders with adapter_config.json or runs of "     \
                "mixt train, that are merged into the model when it is opened"                     \
    }
#define GROUPS_OF_MODEL(settings, member)                                                          \
    {"routing", options_routing, offsetof(settings, member.routing)},                              \
        {"memory", options_store, offsetof(settings, member.store)},                               \
    {                                                                                              \
        "machine", options_machine, offsetof(settings, member.machine)                             \
    }
#define OPTION_OF_HELDOUT(settings, text)                                                          \
    {                                                                                              \
        .name = "heldout", .kind = OPTION_NUMBER, .offset = offsetof(settings, heldout), .low = 0, \
        .high = 0.9, .value = "X", .help = text                                                    \
    }
#define OPTION_OF_WINDOW(settings, least, text)                                                    \
    {                                                                                              \
        .name = "window", .letter = 'c', .kind = OPTION_INT, .offset = offsetof(settings, window), \
        .low = least, .high = 1 << 24, .help = text, .aliases = "ctx-size"                         \
    }
#define OPTION_OF_CHUNKS(settings, member)                                                         \
    {                                                                                              \
        .name = "exchange-chunks", .kind = OPTION_INT, .offset = offsetof(settings, member),       \
        .low = 1, .high = 16, .value = "C",                                                        \
        .help = "in which rows go to experts of other ranks, one computed while others travel",    \
        .fallback = "as messages are large enough for, 4 at most"                                  \
    }
#define OPTION_OF_MAX_TOKENS(settings, text)                                                       \
    {                                                                                              \
        .name = "max-tokens", .letter = 'n', .kind = OPTION_LONG,                                  \
        .offset = offsetof(settings, max_tokens), .low = 0, .high = 1e15, .help = text             \
    }

machine_settings machine_defaults(mixt_matmul matmul);

extern const cli_option options_machine[]; /* machine_settings */
extern const cli_option options_color[];   /* machine_settings, for commands that only print */
enum { OPTIONS_EXPERTS_PER_TOKEN_MAX = 64, OPTIONS_CAPACITY_MAX = 1000000 }; /* of all keys */
extern const cli_option options_model[];    /* mixt_model_options */
extern const cli_option options_router[];   /* mixt_router_options */
extern const cli_option options_training[]; /* mixt_train_options */

/* What a command opened; freed at once by resources_free, in the right order. */
typedef struct cli_resources {
    mixt_context *context;
    mixt_model *model;
    mixt_tokenizer *tokenizer;
    mixt_corpus *corpus;
    mixt_data *data;
    char model_path[4096]; /* GGUF file, or folder that holds config.json */
    bool store_report;     /* is said when the model is freed */
} cli_resources;

void resources_free(cli_resources *resources);

/* Runs `work`, releases what it opened and says what went wrong: the exit status. */
typedef mixt_status (*cli_work)(const void *settings, cli_resources *resources, mixt_error *error);
int with_resources(cli_work work, const void *settings);

mixt_status open_context(const machine_settings *machine, cli_resources *resources,
                         mixt_error *error);
/* Finds the folder that holds config.json: the path itself, its model/, or the checkpoint that its
 * LATEST names; a path without any of them is itself. */
mixt_status resolve_model(const char *path, char *out, size_t size, mixt_error *error);
/* A GGUF file, a Hugging Face folder, or a run folder: then its model/ or its newest checkpoint. */
mixt_status open_model(const char *path, cli_resources *resources, mixt_error *error);
/* The folder of an adapter: `path` itself, or the model of a run folder, which has one beside it.
 */
mixt_status find_adapter(const char *path, char *out, size_t size, mixt_error *error);
/* Merges the adapter in a folder into the open model, and says what should be known of it. */
mixt_status merge_adapter(const char *folder, cli_resources *resources, mixt_error *error);
/* The tokenizer at `path`, or the model's own where path is NULL. */
mixt_status open_tokenizer(const char *path, cli_resources *resources, mixt_error *error);
/* The chat template that was asked for by `wanted` (NULL: none was): a built-in one, else a file;
 * without, the model's own, or the built-in one of its family. text NULL: there is none. */
typedef struct chat_template {
    const char *text;
    const char *name; /* in messages */
    char *read;       /* from a file, to be freed */
    bool of_family;
} chat_template;
mixt_status find_template(const char *wanted, const cli_resources *resources, chat_template *found,
                          mixt_error *error);
/* All that a model_settings names, with weights checked, routing changed and memory limited as it
 * asks. */
mixt_status open_all(const model_settings *settings, cli_resources *resources, mixt_error *error);
/* What other ranks do for a command that opens a model so, in place of running it. */
int work_on_model(const model_settings *settings);
/* Corpus and token data for training; says on standard error how much there is and what was
 * skipped. */
mixt_status open_training_data(const string_list *paths, double heldout, cli_resources *resources,
                               mixt_error *error);

/* The same for what only reads texts. */
typedef struct text_request {
    const string_list *paths;
    double heldout;      /* share of which alone is read; 0: all is */
    int64_t max_tokens;  /* of each domain; 0: no limit */
    const char *purpose; /* "to score" */
    double apart;        /* share that is held out and not read, for later; 0: none */
} text_request;

mixt_status open_texts(const text_request *request, cli_resources *resources, mixt_error *error);

/* ---- work that several commands do */

typedef struct score_request {
    const char *label; /* of the progress line */
    bool heldout;
    int window;
    uint64_t max_tokens; /* of each domain; 0: no limit */
} score_request;

/* rows [domains + 1] are malloc'd. */
mixt_status score_data(const cli_resources *resources, const score_request *request,
                       mixt_score_row **rows, mixt_error *error);
mixt_status trace_data(const cli_resources *resources, const mixt_trace_options *options,
                       mixt_error *error);
/* Prints what a trace holds. */
mixt_status show_trace(const mixt_trace *trace, const mixt_atlas_options *options,
                       mixt_error *error);

/* Refuses the file `output` of a switch where it is one of the files that are read, or lies among
 * them; `data` NULL: there are none. */
int refuse_replacing(const char *flag, const char *output, const char *const *read, size_t count,
                     const string_list *data);
/* The same of a command that reads texts through a model and writes what it saw to `output`;
 * refused too without a model or texts. */
int refuse_recording(const model_settings *model, const string_list *data, const char *output);

/* Fills `info`, and both numbers of parameters as text. */
void describe_model(const mixt_model *model, mixt_model_info *info, char total[32],
                    char active[32]);
/* The context length of a window of 0. */
int window_or_context(int window, const mixt_model *model);
/* The same of texts that are scored or traced: a context may be claimed that no memory holds, so
 * that of a longer one SCORE_WINDOW tokens are taken, said aloud. */
#define SCORE_WINDOW 4096
int window_of_scores(int window, const mixt_model *model);
/* A window of 0 is `usual`, or the model's context where that is less, which is said. */
int window_that_fits(int window, int usual, const mixt_model *model);
double bits_per_byte(const mixt_score_row *row);
/* A table of scores by domain, or JSON. */
void print_scores(const mixt_model *model, const mixt_score_row *rows, int domains, FILE *stream);
void print_scores_json(const mixt_model *model, const mixt_score_row *rows, int domains,
                       FILE *stream);

#endif
