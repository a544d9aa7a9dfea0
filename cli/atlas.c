/* mixt atlas: tables and coloured text in the terminal, and the page. */
#include "atlas_measures.h"
#include "shared.h"
#include "terminal.h"

typedef struct atlas_settings {
    machine_settings machine;
    measures_settings measures;
    string_list traces;
    const char *page;
    const char *probe;
    int text_tokens;
    bool text;
    bool json;
} atlas_settings;

static const cli_option atlas_options[] = {
    {.name = "trace",
     .kind = OPTION_LIST,
     .offset = offsetof(atlas_settings, traces),
     .value = "FILE",
     .help = "trace file of mixt trace; two to compare: beside each other on the page, or by "
             "measures that take two"},
    {.name = "html",
     .kind = OPTION_TEXT,
     .offset = offsetof(atlas_settings, page),
     .value = "FILE",
     .help = "write one self-contained page with the figures"},
    {.name = "probe",
     .kind = OPTION_TEXT,
     .offset = offsetof(atlas_settings, probe),
     .value = "FILE",
     .help = "results of mixt probe for the page: what masking an expert does"},
    {.name = "text",
     .kind = OPTION_FLAG,
     .offset = offsetof(atlas_settings, text),
     .help = "print text coloured by expert; --no-text leaves it out"},
    {.name = "text-tokens",
     .letter = 'n',
     .kind = OPTION_INT,
     .offset = offsetof(atlas_settings, text_tokens),
     .low = 1,
     .high = 1 << 24,
     .help = "coloured tokens for each domain"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(atlas_settings, json),
     .help = "print the numbers as one JSON object, not tables"},
    {0},
};

static void atlas_defaults(void *user)
{
    atlas_settings *settings = user;
    settings->text = true;
    settings->text_tokens = 120;
}

static mixt_status show_all(const atlas_settings *settings, const mixt_atlas_options *options,
                            mixt_error *error)
{
    mixt_trace *trace = NULL;
    mixt_trace *second = NULL;
    mixt_status status = mixt_trace_open(settings->traces.items[0], &trace, error);
    if (status == MIXT_OK && settings->traces.count > 1) {
        status = mixt_trace_open(settings->traces.items[1], &second, error);
    }
    if (status == MIXT_OK) {
        status = show_trace(trace, options, error);
    }
    if (status == MIXT_OK && settings->page != NULL) {
        const mixt_atlas_page_options page = {.second = second, .probe = settings->probe};
        interrupt_begin(); /* the page is whole before a signal ends the program */
        status = mixt_atlas_page_with(trace, &page, settings->page, error);
        interrupt_end();
    }
    mixt_trace_free(trace);
    mixt_trace_free(second);
    return status;
}

/* Switches that speak of the other of the two: tables of measures, or the whole atlas. */
static int refuse_mixed(const atlas_settings *settings, const cli_arguments *arguments)
{
    static const char *const of_measures[] = {"format", "out", "shuffles", "seed"};
    static const char *const of_atlas[] = {"html", "text", "text-tokens", "json"};
    const char *names = settings->measures.names;
    for (size_t i = 0; i < 4; i++) {
        if (names == NULL && options_given(arguments, of_measures[i])) {
            return fail_usage("--%s: is for --measure", of_measures[i]);
        }
        if (names != NULL && options_given(arguments, of_atlas[i])) {
            return fail_usage("--%s: not together with --measure%s", of_atlas[i],
                              i == 3 ? "; that has --format json" : "");
        }
    }
    if (settings->traces.count == 0) {
        return fail_usage("--trace: needed");
    }
    if (names == NULL && settings->traces.count > 2) {
        return fail_usage("--trace: one or two, not %zu", settings->traces.count);
    }
    if (settings->page == NULL &&
        (settings->probe != NULL || (names == NULL && settings->traces.count > 1))) {
        return settings->probe != NULL
                   ? fail_usage("--probe: is for a page; give --html too")
                   : fail_usage("a second trace: is for a page, --html, or for measures of two, as "
                                "--measure agreement");
    }
    return STATUS_DONE;
}

static int run_atlas(void *user, cli_arguments *arguments)
{
    const atlas_settings *settings = user;
    if (settings->measures.list) {
        return list_measures();
    }
    int status = refuse_mixed(settings, arguments);
    if (status == STATUS_DONE) {
        status = refuse_replacing("html", settings->page, settings->traces.items,
                                  settings->traces.count, NULL);
    }
    if (status == STATUS_DONE && settings->probe != NULL) {
        status = refuse_replacing("html", settings->page, &settings->probe, 1, NULL);
    }
    if (status != STATUS_DONE) {
        return status;
    }
    if (settings->measures.names != NULL) {
        return run_measures(&settings->measures, &settings->traces);
    }
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_atlas_options options = {
        .color = terminal_color(settings->machine.color, stdout),
        .text_tokens = settings->text ? settings->text_tokens : 0,
        .width = terminal_width(stdout),
        .part = settings->json ? MIXT_ATLAS_JSON : MIXT_ATLAS_ALL,
    };
    if (show_all(settings, &options, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    if (settings->page != NULL) {
        say(stderr, "page: %s\n", settings->page);
    }
    return STATUS_DONE;
}

const cli_command command_atlas = {
    .name = "atlas",
    .summary = "tables, figures and a page from a trace",
    .synopsis = "TRACE [TRACE2] [--html FILE] [--probe FILE] [--no-text | --json] | TRACE... "
                "--measure NAME[,NAME...]|all",
    .about = "Prints what the routers did: repetition of consecutive tokens for each layer beside "
             "the random level, the experts of each domain, what experts tell of domains and "
             "tokens, and text coloured by expert. With --html it writes the figures as one page "
             "that works offline; a second trace, of another model or precision, stands beside the "
             "first there. With --measure it prints tables of single measures, each with levels "
             "and intervals, as text, JSON, CSV or figures (docs/measures.md); in place of a trace "
             "the folder of a training run has how the use of its experts settled.",
    .examples = "  mixt atlas trace.safetensors --html atlas.html\n"
                "  mixt atlas f16.safetensors q4.safetensors --html atlas.html\n"
                "  mixt atlas trace.safetensors --measure load --format csv\n"
                "  mixt atlas trace.safetensors --measure all --format svg --out figures\n"
                "  mixt atlas run --measure training\n",
    .positional = "trace",
    .groups =
        (const cli_group[]){{"options", atlas_options, 0},
                            {"measures", options_measures, offsetof(atlas_settings, measures)},
                            {"terminal", options_color, offsetof(atlas_settings, machine)},
                            {0}},
    .leaves_files = true,
    .settings_size = sizeof(atlas_settings),
    .defaults = atlas_defaults,
    .run = run_atlas,
};
