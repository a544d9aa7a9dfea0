/* mixt eval: perplexity and bits per byte, whole and by domain. */
#include <math.h>
#include <stdlib.h>

#include "files.h"
#include "shared.h"
#include "terminal.h"

enum { TEXT_BYTES_MAX = 1 << 30 };

typedef struct eval_settings {
    model_settings model;
    cache_settings cache;
    string_list data;
    double heldout;
    int window;
    int64_t max_tokens;
    const char *text;
    int chunks;
    bool json;
} eval_settings;

static const cli_option eval_options[] = {
    OPTIONS_OF_MODEL(eval_settings, model),
    OPTION_OF_DATA(eval_settings),
    OPTION_OF_HELDOUT(eval_settings, "score only this share of the documents, the one that mixt "
                                     "train holds out; 0: score all"),
    OPTION_OF_WINDOW(eval_settings, 0,
                     "tokens in a window; 0: the model's context, 4096 at most, with --ppl-file "
                     "512 at most"),
    OPTION_OF_MAX_TOKENS(eval_settings, "most tokens of each domain; 0: no limit"),
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
    OPTIONS_OF_CACHE(eval_settings, cache, "type of the cache as which keys and values are seen"),
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(eval_settings, json),
     .help = "print JSON instead of a table; a number that is not finite is null"},
    {0},
};

static void eval_defaults(void *user)
{
    eval_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
}

/* Running values, "[1]4.1021,[2]4.5370,", as they come. */
static void report_chunk(void *user, const mixt_perplexity *so_far, int chunks)
{
    (void)user;
    (void)chunks;
    printf("[%d]%.4f,", so_far->chunks, so_far->value);
    fflush(stdout);
}

static void print_json_perplexity(const mixt_perplexity *result, int window)
{
    fputs("{\"perplexity\": ", stdout);
    print_json_measure(stdout, result->value);
    fputs(", \"deviation\": ", stdout);
    print_json_measure(stdout, result->deviation);
    fputs(", \"nats\": ", stdout);
    print_json_measure(stdout, result->nats);
    printf(", \"tokens\": %llu, \"chunks\": %d, \"window\": %d%s}\n",
           (unsigned long long)result->tokens, result->chunks, window,
           isfinite(result->value) ? "" : ", \"note\": \"perplexity is not finite\"");
}

static mixt_status evaluate_text(const eval_settings *settings, cli_resources *resources,
                                 mixt_error *error)
{
    char *text = NULL;
    char what[200];
    size_t length = 0;
    mixt_status status = files_read(settings->text, TEXT_BYTES_MAX, &text, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "%.250s: %s", settings->text, what);
    }
    length -= length > 0 && text[length - 1] == '\n' ? 1 : 0; /* as llama-perplexity does */
    mixt_perplexity_options options = {
        .text = text,
        .length = length,
        .window = window_that_fits(settings->window, 512, resources->model),
        .chunks = settings->chunks,
        .report = settings->json ? NULL : report_chunk};
    mixt_perplexity result;
    status = mixt_text_perplexity(resources->context, resources->model, resources->tokenizer,
                                  &options, &result, error);
    if (status == MIXT_OK && settings->json) {
        print_json_perplexity(&result, options.window);
    } else {
        printf(result.chunks > 0 && !settings->json ? "\n" : "");
    }
    if (status == MIXT_OK && !settings->json) {
        printf("perplexity %.4f +/- %.5f over %llu token%s\n", result.value, result.deviation,
               (unsigned long long)result.tokens, plural(result.tokens));
    }
    free(text);
    return status;
}

static mixt_status evaluate(const void *user, cli_resources *resources, mixt_error *error)
{
    const eval_settings *settings = user;
    TRY(open_all(&settings->model, resources, error));
    if (settings->text != NULL) {
        return evaluate_text(settings, resources, error);
    }
    const text_request texts = {.paths = &settings->data,
                                .heldout = settings->heldout,
                                .max_tokens = settings->max_tokens,
                                .purpose = "to score"};
    TRY(open_texts(&texts, resources, error));
    mixt_score_row *rows;
    const score_request request = {
        .label = "eval",
        .heldout = settings->heldout > 0,
        .window = window_of_scores(settings->window, resources->model),
        .max_tokens = (uint64_t)settings->max_tokens,
    };
    TRY(score_data(resources, &request, &rows, error));
    int domains = mixt_data_domain_count(resources->data);
    if (settings->json) {
        print_scores_json(resources->model, rows, domains, stdout);
    } else {
        print_scores(resources->model, rows, domains, stdout);
    }
    free(rows);
    return MIXT_OK;
}

static int run_eval(void *user, cli_arguments *arguments)
{
    eval_settings *settings = user;
    if (settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    if (refuse_memory(&settings->model, arguments) != STATUS_DONE ||
        cache_type_of(&settings->cache, &settings->model.machine.cache_type) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    if ((settings->data.count == 0) == (settings->text == NULL)) {
        return fail_usage("--data or --ppl-file: one is needed");
    }
    return with_resources(evaluate, settings);
}

static int work_eval(void *user, cli_arguments *arguments)
{
    const eval_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_eval = {
    .name = "eval",
    .summary = "perplexity and bits per byte by domain",
    .synopsis = "-m MODEL (--data PATH... | --ppl-file FILE) [options]",
    .about = "Scores documents with a model and prints perplexity and bits per byte for each "
             "domain and over everything. --ppl-file gives the perplexity of one text as "
             "llama-perplexity computes it.",
    .examples = "  mixt eval -m demo/model --data demo/text --heldout 0.05\n"
                "  mixt eval -m MODEL --data corpus.jsonl.zst --json\n"
                "  mixt eval -m model-Q4_K_M.gguf --ppl-file wiki.test.raw -c 512\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", eval_options, 0},
                                  GROUPS_OF_MODEL(eval_settings, model),
                                  {0}},
    .settings_size = sizeof(eval_settings),
    .defaults = eval_defaults,
    .run = run_eval,
    .work = work_eval,
};
