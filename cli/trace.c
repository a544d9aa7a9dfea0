/* mixt trace: every routing decision over a corpus, into a file. */
#include "shared.h"
#include "terminal.h"

typedef struct trace_settings {
    model_settings model;
    string_list data;
    const char *output;
    double heldout;
    int window;
    int64_t max_tokens;
    bool logits;
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
    {.name = "logits",
     .kind = OPTION_FLAG,
     .offset = offsetof(trace_settings, logits),
     .help = "keep the router logits too"},
    {0},
};

static void trace_defaults(void *user)
{
    trace_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->output = "trace.safetensors";
    settings->max_tokens = 100000;
}

static mixt_status write_trace(const void *user, cli_resources *resources, mixt_error *error)
{
    const trace_settings *settings = user;
    TRY(open_all(&settings->model, resources, error));
    const text_request texts = {&settings->data, settings->heldout, settings->max_tokens,
                                "to trace"};
    TRY(open_texts(&texts, resources, error));
    const mixt_trace_options options = {
        .output = settings->output,
        .model_name = settings->model.path,
        .window = window_of_scores(settings->window, resources->model),
        .max_tokens = (uint64_t)settings->max_tokens,
        .heldout = settings->heldout > 0,
        .logits = settings->logits,
    };
    TRY(trace_data(resources, &options, error));
    say(stderr, "trace: %s; look at it with: ", settings->output);
    print_shell_word(stderr, program_path);
    fputs(" atlas ", stderr);
    print_shell_word(stderr, settings->output);
    fputc('\n', stderr);
    return MIXT_OK;
}

static int run_trace(void *user, cli_arguments *arguments)
{
    const trace_settings *settings = user;
    (void)arguments;
    if (settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    if (settings->data.count == 0) {
        return fail_usage("--data: needed");
    }
    const char *const read[] = {settings->model.path, settings->model.tokenizer};
    int status = refuse_replacing("output", settings->output, read, 2, &settings->data);
    return status == STATUS_DONE ? with_resources(write_trace, settings) : status;
}

const cli_command command_trace = {
    .name = "trace",
    .summary = "record every routing decision over a corpus",
    .synopsis = "-m MODEL --data PATH... [-o FILE]",
    .about = "Sends documents through a model and writes which experts each token took in every "
             "layer, as a safetensors file that mixt atlas reads and Python opens as it is.",
    .examples = "  mixt trace -m demo/model --data demo/text --heldout 0.02 -o trace.safetensors\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", trace_options, 0},
                                  GROUPS_OF_MODEL(trace_settings, model),
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(trace_settings),
    .defaults = trace_defaults,
    .run = run_trace,
};
