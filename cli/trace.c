/* mixt trace: every routing decision over a corpus, into a file. */
#include "shared.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct trace_settings {
    model_settings model;
    cache_settings cache;
    string_list data;
    const char *output;
    double heldout;
    int window;
    int64_t max_tokens;
    bool logits, ahead, append;
    const char *import;
    string_list join;
} trace_settings;

static const cli_option trace_options[] = {
    OPTIONS_OF_MODEL(trace_settings, model),
    OPTION_OF_DATA(trace_settings),
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(trace_settings, output),
     .value = "FILE",
     .help = "trace file to write (safetensors)"},
    OPTION_OF_HELDOUT(trace_settings, "trace only this share of the documents, the one that mixt "
                                      "train holds out; 0: all"),
    OPTION_OF_WINDOW(trace_settings, 0,
                     "tokens routed together; 0: the model's context, 4096 at most"),
    OPTION_OF_MAX_TOKENS(trace_settings, "most tokens of each domain; 0: no limit"),
    OPTIONS_OF_CACHE(trace_settings, cache, "type of the cache as which keys and values are seen"),
    {.name = "logits",
     .kind = OPTION_FLAG,
     .offset = offsetof(trace_settings, logits),
     .help = "keep the router logits too"},
    {.name = "ahead",
     .kind = OPTION_FLAG,
     .offset = offsetof(trace_settings, ahead),
     .help = "keep too which experts each layer would choose by what the layer before it read"},
    {.name = "append",
     .kind = OPTION_FLAG,
     .offset = offsetof(trace_settings, append),
     .help = "put the documents behind those of the trace that is there already"},
    {.name = "join",
     .kind = OPTION_LIST,
     .offset = offsetof(trace_settings, join),
     .value = "FILE",
     .help = "instead of running a model, make one trace of several of the same model"},
    {.name = "import",
     .kind = OPTION_TEXT,
     .offset = offsetof(trace_settings, import),
     .value = "FILE",
     .help = "instead of running a model, make a trace of routes that another program recorded "
             "(arrays in a safetensors file: docs/traces.md), with --tokenizer"},
    {0},
};

static void trace_defaults(void *user)
{
    trace_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
    settings->output = "trace.safetensors";
    settings->max_tokens = 100000;
}

/* Where the new part is kept until it stands behind the old one. */
static char *part_path(const char *output)
{
    size_t size = strlen(output) + sizeof ".append";
    char *path = malloc(size);
    if (path != NULL) {
        snprintf(path, size, "%s.append", output);
    }
    return path;
}

/* Traces, and joins with what is there where that is asked for. */
static mixt_status trace_or_append(const trace_settings *settings, mixt_trace_options *options,
                                   cli_resources *resources, mixt_error *error)
{
    if (!settings->append || access(settings->output, F_OK) != 0) {
        return trace_data(resources, options, error);
    }
    char *part = part_path(settings->output);
    if (part == NULL) {
        return set_memory_error(error);
    }
    options->output = part;
    mixt_status status = trace_data(resources, options, error);
    if (status == MIXT_OK) {
        const char *const parts[] = {settings->output, part};
        interrupt_begin(); /* the file is whole before a signal ends the program */
        status = mixt_trace_join(parts, 2, settings->output, error);
        interrupt_end();
        if (status == MIXT_OK) {
            remove(part);
        } else { /* they may have taken long */
            say(stderr, "trace: the new documents are in %s\n", part);
        }
    }
    free(part);
    return status;
}

static void say_written(const trace_settings *settings)
{
    say(stderr, "trace: %s; look at it with: ", settings->output);
    print_shell_word(stderr, program_path);
    fputs(" atlas ", stderr);
    print_shell_word(stderr, settings->output);
    fputc('\n', stderr);
}

static mixt_status write_trace(const void *user, cli_resources *resources, mixt_error *error)
{
    const trace_settings *settings = user;
    TRY(open_all(&settings->model, resources, error));
    const text_request texts = {.paths = &settings->data,
                                .heldout = settings->heldout,
                                .max_tokens = settings->max_tokens,
                                .purpose = "to trace"};
    TRY(open_texts(&texts, resources, error));
    mixt_trace_options options = {
        .output = settings->output,
        .model_name = settings->model.path,
        .window = window_of_scores(settings->window, resources->model),
        .max_tokens = (uint64_t)settings->max_tokens,
        .heldout = settings->heldout > 0,
        .logits = settings->logits,
        .ahead = settings->ahead,
    };
    TRY(trace_or_append(settings, &options, resources, error));
    say_written(settings);
    return MIXT_OK;
}

static mixt_status write_without_model(const void *user, cli_resources *resources,
                                       mixt_error *error)
{
    const trace_settings *settings = user;
    if (settings->import != NULL) {
        TRY(open_tokenizer(settings->model.tokenizer, resources, error));
    }
    interrupt_begin();
    mixt_status status =
        settings->import != NULL
            ? mixt_trace_import(settings->import, resources->tokenizer, settings->output, error)
            : mixt_trace_join(settings->join.items, (int)settings->join.count, settings->output,
                              error);
    interrupt_end();
    TRY(status);
    say_written(settings);
    return MIXT_OK;
}

/* Nothing is run: options that say how would do nothing. */
static int run_without_model(const trace_settings *settings, const cli_arguments *arguments)
{
    static const char *const used[] = {"import", "join", "output", "config", "color"};
    const char *by = settings->import != NULL ? "import" : "join";
    for (size_t i = 0; i < arguments->given_count; i++) {
        const char *name = arguments->given[i].option->name;
        bool applies = settings->import != NULL && strcmp(name, "tokenizer") == 0;
        for (size_t j = 0; j < sizeof used / sizeof *used; j++) {
            applies = applies || strcmp(name, used[j]) == 0;
        }
        if (!applies || (settings->import != NULL && strcmp(name, "join") == 0)) {
            return fail_usage("--%s: does nothing with --%s", name, by);
        }
    }
    if (settings->import != NULL && settings->model.tokenizer == NULL) {
        return fail_usage("--tokenizer: needed with --import");
    }
    if (settings->import == NULL && settings->join.count < 2) {
        return fail_usage("--join: needs two traces or more");
    }
    const char *const read[] = {settings->import, settings->model.tokenizer};
    int status =
        refuse_replacing("output", settings->output, read, settings->import != NULL ? 2 : 0, NULL);
    return status == STATUS_DONE ? with_resources(write_without_model, settings) : status;
}

static int run_trace(void *user, cli_arguments *arguments)
{
    trace_settings *settings = user;
    if (cache_type_of(&settings->cache, &settings->model.machine.cache_type) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    if (settings->import != NULL || settings->join.count > 0) {
        return run_without_model(settings, arguments);
    }
    int status = refuse_memory(&settings->model, arguments);
    if (status == STATUS_DONE) {
        status = refuse_recording(&settings->model, &settings->data, settings->output);
    }
    return status == STATUS_DONE ? with_resources(write_trace, settings) : status;
}

static int work_trace(void *user, cli_arguments *arguments)
{
    const trace_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_trace = {
    .name = "trace",
    .summary = "record every routing decision over a corpus",
    .synopsis = "(-m MODEL --data PATH... [--append] | --join FILE... | "
                "--import FILE --tokenizer PATH) [-o FILE]",
    .about = "Sends documents through a model and writes which experts each token took in every "
             "layer, as a safetensors file that mixt atlas reads and Python opens as it is.",
    .examples = "  mixt trace -m demo/model --data demo/text --heldout 0.05 -o trace.safetensors\n"
                "  mixt trace -m demo/model --data more --append -o trace.safetensors\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", trace_options, 0},
                                  GROUPS_OF_MODEL(trace_settings, model),
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(trace_settings),
    .defaults = trace_defaults,
    .run = run_trace,
    .work = work_trace,
};
