/* mixt probe: experiments on routing, each beside the unchanged model. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "shared.h"
#include "terminal.h"

typedef struct probe_settings {
    model_settings model;
    string_list data;
    const char *output;
    const char *experiments;
    const char *layers;
    string_list experts;
    double heldout;
    int window;
    int64_t max_tokens;
    int draws;
    uint64_t seed;
} probe_settings;

static const cli_option probe_options[] = {
    OPTIONS_OF_MODEL(probe_settings, model),
    OPTION_OF_DATA(probe_settings),
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(probe_settings, output),
     .value = "FILE",
     .help = "results to write (JSON); FILE.partial is what an interrupted probe goes on from"},
    {.name = "experiments",
     .kind = OPTION_TEXT,
     .offset = offsetof(probe_settings, experiments),
     .value = "LIST",
     .help = "of mask first top-k routes super reap lens norms noise, with commas; all",
     .aliases = "experiment"},
    {.name = "only-layers",
     .kind = OPTION_TEXT,
     .offset = offsetof(probe_settings, layers),
     .value = "A-B",
     .help = "layers of the model, from 0 on",
     .fallback = "all"},
    {.name = "only-experts",
     .kind = OPTION_LIST,
     .offset = offsetof(probe_settings, experts),
     .value = "E",
     .help = "experts that are masked or come first: E in each of these layers, LAYER:E, or some "
             "that are masked together, LAYER:E+LAYER:E",
     .fallback = "all"},
    OPTION_OF_HELDOUT(probe_settings, "probe only this share of the documents, the one that mixt "
                                      "train holds out; 0: all"),
    OPTION_OF_WINDOW(probe_settings, 0,
                     "tokens in a window; 0: 512, or the model's context if "
                     "that is less"),
    OPTION_OF_MAX_TOKENS(probe_settings, "most tokens of each domain; 0: no limit"),
    {.name = "draws",
     .kind = OPTION_INT,
     .offset = offsetof(probe_settings, draws),
     .low = 1,
     .high = 4096,
     .help = "routes: other routes of each sampled token"},
    {.name = "seed",
     .letter = 's',
     .kind = OPTION_SEED,
     .offset = offsetof(probe_settings, seed),
     .help = "of sampled tokens, routes and noise; -1 draws one"},
    {0},
};

static void probe_defaults(void *user)
{
    probe_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
    settings->output = "probe.json";
    settings->experiments = "all";
    settings->max_tokens = 16384;
    settings->draws = 8;
}

/* "mask,reap" as bits. */
static mixt_status read_experiments(const char *text, int64_t *bits, mixt_error *error)
{
    static const char *const words[] = {MIXT_PROBE_WORDS};
    *bits = 0;
    for (const char *at = text; at != NULL;) {
        size_t length = strcspn(at, ",");
        int64_t found = length == 3 && strncmp(at, "all", 3) == 0 ? MIXT_PROBE_ALL : 0;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
            if (strlen(words[i]) == length && strncmp(words[i], at, length) == 0) {
                found = (int64_t)1 << i;
            }
        }
        if (found == 0) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--experiments: '%.40s' is none of mask first top-k routes super reap "
                             "lens norms noise all",
                             at);
        }
        *bits |= found;
        at = at[length] != 0 ? at + length + 1 : NULL;
    }
    return MIXT_OK;
}

/* A whole number, and where it ends; -1: there is none, or a huge one. */
static int read_number(const char *at, const char **end)
{
    char *after = NULL;
    long value = *at >= '0' && *at <= '9' ? strtol(at, &after, 10) : -1;
    *end = after != NULL ? after : at;
    return value <= 1 << 20 ? (int)value : -1;
}

/* "A-B", or "A" alone. */
static mixt_status read_layers(const char *text, mixt_probe_options *options, mixt_error *error)
{
    const char *at = text;
    if (text == NULL) {
        return MIXT_OK;
    }
    options->first_layer = options->last_layer = read_number(at, &at);
    if (options->first_layer >= 0 && *at == '-') {
        options->last_layer = read_number(at + 1, &at);
    }
    return options->first_layer >= 0 && options->last_layer >= options->first_layer && *at == 0
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_ARGUMENT, "--only-layers: '%.40s' is not A-B", text);
}

/* "E", "LAYER:E", "LAYER:E+LAYER:E". */
static bool read_target(const char *text, mixt_probe_target *target)
{
    *target = (mixt_probe_target){0};
    for (const char *at = text; at != NULL && target->count < MIXT_PROBE_TOGETHER;) {
        int layer = -1, expert = read_number(at, &at);
        if (expert >= 0 && *at == ':') {
            layer = expert;
            expert = read_number(at + 1, &at);
        }
        bool last = *at == 0;
        if (expert < 0 || (!last && *at != '+') || (layer < 0 && (!last || target->count > 0))) {
            return false;
        }
        target->layer[target->count] = layer;
        target->expert[target->count++] = expert;
        at = last ? NULL : at + 1;
        if (last) {
            return true;
        }
    }
    return false;
}

static mixt_status read_targets(const string_list *experts, mixt_probe_target **targets,
                                mixt_error *error)
{
    *targets = NULL;
    if (experts->count == 0) {
        return MIXT_OK;
    }
    *targets = calloc(experts->count, sizeof **targets);
    if (*targets == NULL) {
        return set_memory_error(error);
    }
    for (size_t i = 0; i < experts->count; i++) {
        if (!read_target(experts->items[i], &(*targets)[i])) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--only-experts: '%.60s' is not E, LAYER:E or LAYER:E+LAYER:E of at "
                             "most %d",
                             experts->items[i], MIXT_PROBE_TOGETHER);
        }
    }
    return MIXT_OK;
}

static mixt_status run_experiments(const probe_settings *settings, mixt_probe_options *options,
                                   cli_resources *resources, mixt_error *error)
{
    TRY(open_all(&settings->model, resources, error));
    const text_request texts = {.paths = &settings->data,
                                .heldout = settings->heldout,
                                .max_tokens = settings->max_tokens,
                                .purpose = "to probe on"};
    TRY(open_texts(&texts, resources, error));
    options->window = window_that_fits(settings->window, 512, resources->model);
    progress_line progress;
    progress_begin(&progress, "probe");
    options->progress = progress_callback;
    options->user = &progress;
    interrupt_begin();
    mixt_status status = mixt_probe_run(resources->context, resources->model, resources->data,
                                        resources->tokenizer, options, error);
    interrupt_end();
    progress_end(&progress);
    if (status == MIXT_OK) {
        say(stderr, "probe: %s\n", settings->output);
        status = mixt_probe_print(settings->output, stdout, error);
    }
    return status;
}

static mixt_status probe(const void *user, cli_resources *resources, mixt_error *error)
{
    const probe_settings *settings = user;
    mixt_probe_options options = mixt_probe_options_default();
    mixt_probe_target *targets = NULL;
    options.output = settings->output;
    options.model_name = settings->model.path;
    options.max_tokens = (uint64_t)settings->max_tokens;
    options.heldout = settings->heldout > 0;
    options.draws = settings->draws;
    options.seed = settings->seed;
    TRY(read_experiments(settings->experiments, &options.experiments, error));
    TRY(read_layers(settings->layers, &options, error));
    mixt_status status = read_targets(&settings->experts, &targets, error);
    if (status == MIXT_OK) {
        options.targets = targets;
        options.target_count = settings->experts.count;
        status = run_experiments(settings, &options, resources, error);
    }
    free(targets);
    return status;
}

static int run_probe(void *user, cli_arguments *arguments)
{
    const probe_settings *settings = user;
    int status = refuse_memory(&settings->model, arguments);
    if (status == STATUS_DONE) {
        status = refuse_recording(&settings->model, &settings->data, settings->output);
    }
    return status == STATUS_DONE ? with_resources(probe, settings) : status;
}

static int work_probe(void *user, cli_arguments *arguments)
{
    const probe_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_probe = {
    .name = "probe",
    .summary = "what experts do: mask them, force them, swap them, each beside the model",
    .synopsis = "-m MODEL --data PATH... [-o FILE] [--experiments LIST]",
    .about = "Runs experiments on the routing of a model: an expert masked or forced, another "
             "number of experts, other routes of equal compute, the first expert alone, noise on "
             "what routers are given; and measures what experts give: REAP scores, super experts, "
             "norms, likeness. Every change of the loss comes by domain and token class, with a "
             "95 % interval over documents. Killed at any time, the same command goes on where it "
             "was, with the same results bit for bit.",
    .examples = "  mixt probe -m demo/model --data demo/text --heldout 0.05 -o probe.json\n"
                "  mixt probe -m MODEL --data text/ --experiments mask,reap --only-layers 0-3\n"
                "  mixt probe -m MODEL --data text/ --only-experts 3:5 3:7 3:5+3:7\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", probe_options, 0},
                                  GROUPS_OF_MODEL(probe_settings, model),
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(probe_settings),
    .defaults = probe_defaults,
    .run = run_probe,
    .work = work_probe,
};
