/* mixt eval: perplexity and bits per byte, whole and by domain. */
#include <stdlib.h>

#include "shared.h"
#include "routing.h"
#include "terminal.h"

typedef struct eval_settings {
    machine_settings machine;
    routing_settings routing;
    bool check;
    const char *model;
    const char *tokenizer;
    string_list data;
    double heldout;
    int window;
    int64_t max_tokens;
    bool json;
} eval_settings;

static const cli_option eval_options[] = {
    OPTION_OF_MODEL(eval_settings),
    OPTION_OF_TOKENIZER(eval_settings),
    OPTION_OF_CHECK(eval_settings),
    OPTION_OF_DATA(eval_settings),
    {.name = "heldout",
     .kind = OPTION_NUMBER,
     .offset = offsetof(eval_settings, heldout),
     .low = 0,
     .high = 0.9,
     .value = "X",
     .help = "score only this share of the documents, the one that mixt train holds out; 0: score "
             "all"},
    {.name = "window",
     .letter = 'c',
     .kind = OPTION_INT,
     .offset = offsetof(eval_settings, window),
     .low = 0,
     .high = 1 << 24,
     .help = "tokens in a window; 0: the model's context",
     .aliases = "ctx-size"},
    {.name = "max-tokens",
     .letter = 'n',
     .kind = OPTION_LONG,
     .offset = offsetof(eval_settings, max_tokens),
     .low = 0,
     .high = 1e15,
     .help = "most tokens of each domain; 0: no limit"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(eval_settings, json),
     .help = "print JSON instead of a table"},
    {0},
};

static void eval_defaults(void *user)
{
    eval_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
}

static mixt_status evaluate(const eval_settings *settings, cli_resources *resources,
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
    int domains = mixt_data_domain_count(resources->data);
    mixt_score_row *rows = calloc((size_t)domains + 1, sizeof *rows);
    if (rows == NULL) {
        error->status = MIXT_ERROR_MEMORY;
        return MIXT_ERROR_MEMORY;
    }
    progress_line progress;
    progress_begin(&progress, "eval");
    status =
        mixt_evaluate(resources->context, resources->model, resources->data, settings->heldout > 0,
                      settings->window > 0 ? settings->window : info.options.context_length,
                      (uint64_t)settings->max_tokens, rows, progress_callback, &progress, error);
    progress_end(&progress);
    if (status == MIXT_OK && settings->json) {
        print_scores_json(rows, domains, stdout);
    } else if (status == MIXT_OK) {
        print_scores(rows, domains, stdout);
    }
    free(rows);
    return status;
}

static int run_eval(void *user, cli_arguments *arguments)
{
    const eval_settings *settings = user;
    (void)arguments;
    if (settings->model == NULL) {
        return fail_usage("--model: needed");
    }
    if (settings->data.count == 0) {
        return fail_usage("--data: needed");
    }
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = evaluate(settings, &resources, &error);
    resources_free(&resources);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

const cli_command command_eval = {
    .name = "eval",
    .summary = "perplexity and bits per byte by domain",
    .synopsis = "-m MODEL --data PATH...",
    .about = "Scores documents with a model and prints perplexity and bits per byte for each "
             "domain and over everything.",
    .examples = "  mixt eval -m demo/model --data demo/text --heldout 0.02\n"
                "  mixt eval -m MODEL --data corpus.jsonl.zst --json\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", eval_options, 0},
                                  {"routing", options_routing, offsetof(eval_settings, routing)},
                                  {"machine", options_machine, offsetof(eval_settings, machine)},
                                  {0}},
    .settings_size = sizeof(eval_settings),
    .defaults = eval_defaults,
    .run = run_eval,
};
