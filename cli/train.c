/* mixt train: from scratch, on from a checkpoint, or from another model. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "terminal.h"
#include "training.h"

typedef struct train_settings {
    machine_settings machine;
    mixt_model_options model;
    mixt_train_options training;
    string_list data;
    const char *out;
    const char *tokenizer;
    const char *init_from;
    const char *model_config;
    double heldout;
    int64_t tokenizer_bytes;
    int64_t eval_tokens;
} train_settings;

static const cli_option train_options[] = {
    OPTION_OF_DATA(train_settings),
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, out),
     .value = "FOLDER",
     .help = "run folder: checkpoints, log, and in the end model/; a run that is there goes on",
     .aliases = "out-dir"},
    {.name = "tokenizer",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, tokenizer),
     .value = "PATH",
     .help = "tokenizer.json or a folder with it",
     .fallback = "trained on the data first"},
    {.name = "init-from",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, init_from),
     .value = "FOLDER",
     .help = "begin with the weights and tokenizer of this model"},
    {.name = "model-config",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, model_config),
     .value = "FILE",
     .help =
         "config.json of a model of any family: a new one of its shape; model options beside it "
         "change it"},
    OPTION_OF_HELDOUT(train_settings, "share of the documents kept apart for the final scores"),
    {.name = "tokenizer-bytes",
     .kind = OPTION_LONG,
     .offset = offsetof(train_settings, tokenizer_bytes),
     .low = 0,
     .high = 1e15,
     .help = "text of each domain that the vocabulary is trained on; 0: all"},
    {.name = "eval-tokens",
     .kind = OPTION_LONG,
     .offset = offsetof(train_settings, eval_tokens),
     .low = 0,
     .high = 1e15,
     .help = "most held-out tokens of each domain to score; 0: all",
     .aliases = "eval-iters"},
    {0},
};

static void train_defaults(void *user)
{
    train_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model = mixt_model_options_default();
    settings->training = mixt_train_options_default();
    settings->heldout = 0.02;
    settings->tokenizer_bytes = 4000000;
    settings->eval_tokens = 50000;
}

/* The corpus and a tokenizer: the run's own, the given one, or a new one. */
static mixt_status prepare_tokenizer(const train_settings *settings, const char *kept,
                                     cli_resources *resources, mixt_error *error)
{
    char file[4200];
    bool is_kept = files_join(file, sizeof file, kept, "tokenizer.json") && files_exist(file);
    if (is_kept) {
        return mixt_tokenizer_open(kept, &resources->tokenizer, error);
    }
    mixt_status status = MIXT_OK;
    if (settings->tokenizer != NULL || settings->init_from != NULL) {
        status = open_tokenizer(settings->tokenizer, resources, error);
    } else {
        mixt_corpus *corpus = NULL;
        status = mixt_corpus_open(settings->data.items, settings->data.count, &corpus, error);
        if (status == MIXT_OK) {
            status =
                train_vocabulary(corpus, settings->model.vocab_size,
                                 (uint64_t)settings->tokenizer_bytes, &resources->tokenizer, error);
        }
        mixt_corpus_free(corpus);
    }
    if (status == MIXT_OK && !files_make_folder(kept)) {
        return set_io_error(error, kept);
    }
    return status == MIXT_OK ? mixt_tokenizer_save(resources->tokenizer, kept, error) : status;
}

static mixt_status prepare(train_settings *settings, cli_resources *resources, mixt_error *error)
{
    char kept[4200];
    files_join(kept, sizeof kept, settings->out, "tokenizer");
    TRY(open_context(&settings->machine, resources, error));
    if (settings->init_from != NULL) {
        TRY(open_model(settings->init_from, resources, error));
    }
    TRY(prepare_tokenizer(settings, kept, resources, error));
    TRY(open_data(&settings->data, settings->heldout, resources, error));
    if (settings->init_from != NULL) {
        return MIXT_OK;
    }
    settings->model.vocab_size = mixt_tokenizer_vocab_size(resources->tokenizer);
    return mixt_model_create(&settings->model, settings->training.seed, &resources->model, error);
}

static void print_model_line(const mixt_model *model)
{
    mixt_model_info info;
    char total[32], active[32];
    describe_model(model, &info, total, active);
    fprintf(stderr, "model: %s, %d layers of %d, %s parameters, %s active for a token\n",
            info.family, info.options.layers, info.options.hidden_size, total, active);
    if (info.authors_code) {
        fprintf(stderr, "note: transformers opens the family %s only with its authors' code\n",
                info.family);
    }
    if (info.alone[0] != '\0') {
        fprintf(stderr, "note: only mixt will open it, as no family that others know holds %s\n",
                info.alone);
    }
}

/* Of the machine's options only the kind of products belongs to the run: bits depend on it. */
static void write_matmul(const cli_arguments *arguments, FILE *stream)
{
    char value[40];
    size_t offset = 0;
    const cli_option *option = options_find(arguments->command, "matmul", 6, &offset);
    options_format(option, (const char *)arguments->settings + offset, value, sizeof value);
    fprintf(stream, "# machine\nmatmul = %s\n", value);
}

/* Keeps the settings of a new run, so that `mixt train --out FOLDER` alone goes on. */
static int keep_config(const cli_arguments *arguments, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    if (files_exist(path)) {
        return STATUS_DONE;
    }
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return fail_with(STATUS_FAILED, "out of memory");
    }
    fputs("# Settings of this run; `mixt train --out FOLDER` reads them to go on.\n", stream);
    options_write_config(arguments->command, arguments->settings, "machine", stream);
    write_matmul(arguments, stream);
    fclose(stream);
    bool good = files_replace(path, text, length);
    free(text);
    return good ? STATUS_DONE : fail_with(STATUS_FAILED, "%s: %s", path, strerror(errno));
}

static int train_and_save(train_settings *settings, cli_arguments *arguments,
                          const char *config_path)
{
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    char again[4400];
    char model_folder[4200];
    snprintf(again, sizeof again, "mixt train --out %s", settings->out);
    files_join(model_folder, sizeof model_folder, settings->out, "model");
    if (prepare(settings, &resources, &error) != MIXT_OK) {
        resources_free(&resources);
        return fail_error(&error);
    }
    print_model_line(resources.model);
    int status = keep_config(arguments, config_path);
    if (status == STATUS_DONE) {
        status = train_run(&(training_run){&resources, &settings->training, settings->out, again});
    }
    mixt_score_row *rows = NULL;
    if (status == STATUS_DONE && mixt_data_tokens(resources.data, true) > 0) {
        const score_request request = {"held-out text", true, settings->training.window,
                                       (uint64_t)settings->eval_tokens};
        if (score_data(&resources, &request, &rows, &error) == MIXT_OK) {
            print_scores(rows, mixt_data_domain_count(resources.data), stdout);
        } else {
            status = fail_error(&error);
        }
    }
    free(rows);
    if (status == STATUS_DONE) {
        status = save_model(&resources, model_folder, &error) == MIXT_OK ? STATUS_DONE
                                                                         : fail_error(&error);
    }
    if (status == STATUS_DONE) {
        say(stderr, "model: %s\n", model_folder);
    }
    resources_free(&resources);
    return status;
}

/* A new run that is refused leaves what it found: settings of it would count for the next one. */
static int train_or_forget(train_settings *settings, cli_arguments *arguments,
                           const char *config_path)
{
    char tokenizer[4200], latest[4200];
    files_join(tokenizer, sizeof tokenizer, settings->out, "tokenizer");
    files_join(latest, sizeof latest, settings->out, "LATEST");
    bool had_folder = files_exist(settings->out), had_config = files_exist(config_path);
    bool had_tokenizer = files_exist(tokenizer);
    if (!files_make_folder(settings->out)) {
        return fail_with(STATUS_FAILED, "%s: %s", settings->out, strerror(errno));
    }
    int status = train_and_save(settings, arguments, config_path);
    if (status == STATUS_REFUSED && !files_exist(latest)) {
        if (!had_folder) {
            files_remove(settings->out);
        }
        if (!had_tokenizer) {
            files_remove(tokenizer);
        }
        if (!had_config) {
            files_remove(config_path);
        }
    }
    return status;
}

/* The shape in a config.json, then the command line over it. */
static int take_model_config(train_settings *settings, cli_arguments *arguments)
{
    mixt_model_options model;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_options_read(settings->model_config, &model, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    if (model.attention.latent_size > 0 || model.attention.sinks) {
        return fail_usage("--model-config: %.400s: models of this family are opened, not trained",
                          settings->model_config);
    }
    options_reset(arguments);
    settings->model = model;
    return options_parse(arguments, arguments->argc, arguments->argv)
               ? STATUS_DONE
               : fail_usage("%s", arguments->message);
}

static int run_train(void *user, cli_arguments *arguments)
{
    train_settings *settings = user;
    char config_path[4200];
    if (settings->out == NULL) {
        return fail_usage("--out: needed");
    }
    if (!files_join(config_path, sizeof config_path, settings->out, "train.conf")) {
        return fail_usage("--out: the path is too long");
    }
    if (files_exist(config_path)) {
        if (!options_parse_over(arguments, config_path)) {
            return fail_usage("%s", arguments->message);
        }
    } else if (settings->model_config != NULL) {
        int status = take_model_config(settings, arguments);
        if (status != STATUS_DONE) {
            return status;
        }
    }
    if (settings->data.count == 0) {
        return fail_usage("--data: needed for a new run");
    }
    if (settings->training.window > settings->model.context_length && settings->init_from == NULL) {
        return fail_usage("--window: %d is more than --context-length %d",
                          settings->training.window, settings->model.context_length);
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (settings->init_from == NULL &&
        mixt_model_options_check(&settings->model, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    return train_or_forget(settings, arguments, config_path);
}

const cli_command command_train = {
    .name = "train",
    .summary = "train a model, or go on with a run",
    .synopsis = "[FILE.conf] --data PATH... --out FOLDER [options]",
    .about = "Trains a Mixture-of-Experts (or with --experts 0 a dense) language model. Without "
             "--tokenizer or --init-from a byte-level BPE vocabulary is trained first. Ctrl-C "
             "finishes the step, writes a checkpoint and ends with status 130; the same --out goes "
             "on from there. A config file holds lines of key = value.",
    .examples = "  mixt train --data text/ --out run --layers 4 --experts 8 --steps 2000\n"
                "  mixt train small.conf --learning_rate=3e-4 --out run2\n"
                "  mixt train --out run\n"
                "  mixt train --init-from run/model --data more.jsonl --out run3\n",
    .positional = "config",
    .groups =
        (const cli_group[]){{"options", train_options, 0},
                            {"training", options_training, offsetof(train_settings, training)},
                            {"model", options_model, offsetof(train_settings, model)},
                            {"router", options_router, offsetof(train_settings, model.router)},
                            {"machine", options_machine, offsetof(train_settings, machine)},
                            {0}},
    .settings_size = sizeof(train_settings),
    .defaults = train_defaults,
    .run = run_train,
};
