/* mixt trace: every routing decision over a corpus, into a file. */
#include "shared.h"
#include "routing.h"
#include "terminal.h"

typedef struct trace_settings {
    machine_settings machine;
    routing_settings routing;
    bool check;
    const char *model;
    const char *tokenizer;
    string_list data;
    const char *output;
    double heldout;
    int window;
    int64_t max_tokens;
    bool logits;
} trace_settings;

static const cli_option trace_options[] = {
    OPTION_OF_MODEL(trace_settings),
    OPTION_OF_TOKENIZER(trace_settings),
    OPTION_OF_CHECK(trace_settings),
    OPTION_OF_DATA(trace_settings),
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(trace_settings, output),
     .value = "FILE",
     .help = "trace file to write (safetensors)"},
    {.name = "heldout",
     .kind = OPTION_NUMBER,
     .offset = offsetof(trace_settings, heldout),
     .low = 0,
     .high = 0.9,
     .value = "X",
     .help = "trace only this share of the documents, the one that mixt train holds out; 0: all"},
    {.name = "window",
     .letter = 'c',
     .kind = OPTION_INT,
     .offset = offsetof(trace_settings, window),
     .low = 0,
     .high = 1 << 24,
     .help = "tokens routed together; 0: the model's context",
     .aliases = "ctx-size"},
    {.name = "max-tokens",
     .letter = 'n',
     .kind = OPTION_LONG,
     .offset = offsetof(trace_settings, max_tokens),
     .low = 0,
     .high = 1e15,
     .help = "most tokens of each domain; 0: no limit"},
    {.name = "logits",
     .kind = OPTION_FLAG,
     .offset = offsetof(trace_settings, logits),
     .help = "keep the router logits too"},
    {0},
};

static void trace_defaults(void *user)
{
    trace_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->output = "trace.safetensors";
    settings->max_tokens = 100000;
}

static mixt_status write_trace(const trace_settings *settings, cli_resources *resources,
                               mixt_error *error)
{
    mixt_status status = open_context(&settings->machine, resources, error);
    if (status == MIXT_OK) {
        status = open_model(settings->model, resources, error);
    }
    if (status == MIXT_OK && settings->check) {
        status = mixt_model_verify(resources->model, error);
    }
    if (status == MIXT_OK) {
        status = change_routing(&settings->routing, resources->model, error);
    }
    if (status == MIXT_OK) {
        status = open_tokenizer(settings->tokenizer, resources, error);
    }
    if (status == MIXT_OK) {
        status = open_data(&settings->data, settings->heldout, resources, error);
    }
    if (status != MIXT_OK) {
        return status;
    }
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    mixt_trace_options options = {
        .output = settings->output,
        .model_name = settings->model,
        .window = settings->window > 0 ? settings->window : info.options.context_length,
        .max_tokens = (uint64_t)settings->max_tokens,
        .heldout = settings->heldout > 0,
        .logits = settings->logits,
    };
    progress_line progress;
    progress_begin(&progress, "trace");
    status = mixt_trace_write(resources->context, resources->model, resources->data,
                              resources->tokenizer, &options, progress_callback, &progress, error);
    progress_end(&progress);
    return status;
}

static int run_trace(void *user, cli_arguments *arguments)
{
    const trace_settings *settings = user;
    (void)arguments;
    if (settings->model == NULL) {
        return fail_usage("--model: needed");
    }
    if (settings->data.count == 0) {
        return fail_usage("--data: needed");
    }
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = write_trace(settings, &resources, &error);
    resources_free(&resources);
    if (status != MIXT_OK) {
        return fail_error(&error);
    }
    fprintf(stderr, "trace: %s; look at it with: mixt atlas %s\n", settings->output,
            settings->output);
    return STATUS_DONE;
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
                                  {"routing", options_routing, offsetof(trace_settings, routing)},
                                  {"machine", options_machine, offsetof(trace_settings, machine)},
                                  {0}},
    .settings_size = sizeof(trace_settings),
    .defaults = trace_defaults,
    .run = run_trace,
};
