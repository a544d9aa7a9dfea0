/* mixt eval: perplexity and bits per byte, whole and by domain. */
#include <stdlib.h>

#include "files.h"
#include "routing.h"
#include "shared.h"
#include "terminal.h"

enum { TEXT_BYTES_MAX = 1 << 30 };

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
    const char *text;
    int chunks;
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
     .help = "tokens in a window; 0: the model's context, with --ppl-file 512",
     .aliases = "ctx-size"},
    {.name = "max-tokens",
     .letter = 'n',
     .kind = OPTION_LONG,
     .offset = offsetof(eval_settings, max_tokens),
     .low = 0,
     .high = 1e15,
     .help = "most tokens of each domain; 0: no limit"},
    {.name = "ppl-file",
     .letter = 'f',
     .kind = OPTION_TEXT,
     .offset = offsetof(eval_settings, text),
     .value = "FILE",
     .help = "perplexity of one text as llama-perplexity computes it, instead of --data"},
    {.name = "chunks",
     .kind = OPTION_INT,
     .offset = offsetof(eval_settings, chunks),
     .low = 0,
     .high = 1 << 30,
     .help = "most windows of --ppl-file; 0: all"},
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

/* Running values, "[1]4.1021,[2]4.5370,", as they come. */
static void report_chunk(void *user, const mixt_perplexity *so_far, int chunks)
{
    (void)user;
    (void)chunks;
    printf("[%d]%.4f,", so_far->chunks, so_far->value);
    fflush(stdout);
}

static mixt_status evaluate_text(const eval_settings *settings, cli_resources *resources,
                                 mixt_error *error)
{
    char *text = NULL;
    char what[200];
    size_t length = 0;
    if (!files_read(settings->text, TEXT_BYTES_MAX, &text, &length, what)) {
        error->status = MIXT_ERROR_ARGUMENT;
        snprintf(error->message, sizeof error->message, "%.250s: %s", settings->text, what);
        return error->status;
    }
    length -= length > 0 && text[length - 1] == '\n' ? 1 : 0; /* as llama-perplexity does */
    mixt_perplexity_options options = {.text = text,
                                       .length = length,
                                       .window = settings->window > 0 ? settings->window : 512,
                                       .chunks = settings->chunks,
                                       .report = settings->json ? NULL : report_chunk};
    mixt_perplexity result;
    mixt_status status = mixt_text_perplexity(resources->context, resources->model,
                                              resources->tokenizer, &options, &result, error);
    if (status == MIXT_OK && settings->json) {
        printf("{\"perplexity\": %.17g, \"deviation\": %.17g, \"nats\": %.17g, \"tokens\": %llu, "
               "\"chunks\": %d, \"window\": %d}\n",
               result.value, result.deviation, result.nats, (unsigned long long)result.tokens,
               result.chunks, options.window);
    } else {
        printf(result.chunks > 0 && !settings->json ? "\n" : "");
    }
    if (status == MIXT_OK && !settings->json) {
        printf("perplexity %.4f +/- %.5f over %llu tokens\n", result.value, result.deviation,
               (unsigned long long)result.tokens);
    }
    free(text);
    return status;
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
    if (status == MIXT_OK && settings->text != NULL) {
        return evaluate_text(settings, resources, error);
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
    if ((settings->data.count == 0) == (settings->text == NULL)) {
        return fail_usage("--data or --ppl-file: one is needed");
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
    .synopsis = "-m MODEL (--data PATH... | --ppl-file FILE) [options]",
    .about = "Scores documents with a model and prints perplexity and bits per byte for each "
             "domain and over everything. --ppl-file gives the perplexity of one text as "
             "llama-perplexity computes it.",
    .examples = "  mixt eval -m demo/model --data demo/text --heldout 0.02\n"
                "  mixt eval -m MODEL --data corpus.jsonl.zst --json\n"
                "  mixt eval -m model-Q4_K_M.gguf --ppl-file wiki.test.raw -c 512\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", eval_options, 0},
                                  {"routing", options_routing, offsetof(eval_settings, routing)},
                                  {"machine", options_machine, offsetof(eval_settings, machine)},
                                  {0}},
    .settings_size = sizeof(eval_settings),
    .defaults = eval_defaults,
    .run = run_eval,
};
