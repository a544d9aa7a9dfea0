#include "prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "terminal.h"

enum { PROMPT = 32, SAID = 32, TRIES = 16 }; /* tokens; continuations of each domain */

/* What a model does with the texts. */
typedef struct scores {
    mixt_score_row *rows; /* [domains + 1] */
    mixt_continuations said;
} scores;

static void free_scores(scores *of)
{
    free(of->rows);
    mixt_continuations_free(&of->said);
}

static mixt_status measure(const prune_settings *settings, const char *label,
                           const cli_resources *resources, scores *of, mixt_error *error)
{
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    int context = info.options.context_length;
    const score_request request = {.label = label,
                                   .heldout = settings->heldout,
                                   .window = settings->window,
                                   .max_tokens = (uint64_t)settings->max_tokens};
    TRY(score_data(resources, &request, &of->rows, error));
    mixt_continuation_options options = {
        .count = TRIES, .prompt = PROMPT, .length = SAID, .heldout = settings->heldout};
    if (context < PROMPT + SAID) {
        options.prompt = options.length = context / 2;
    }
    progress_line progress;
    progress_begin(&progress, label);
    options.progress = progress_callback;
    options.user = &progress;
    interrupt_begin();
    mixt_status status = mixt_continue(resources->context, resources->model, resources->data,
                                       &options, &of->said, error);
    interrupt_end();
    progress_end(&progress);
    return status;
}

/* Of continuations of a domain (-1: all): how many, how many say the same to the end, and the share
 * of tokens before the first that differs. */
static void compare(const mixt_continuations *a, const mixt_continuations *b, int domain,
                    int *count, int *same, double *share)
{
    double agreed = 0;
    *count = *same = 0;
    for (int i = 0; i < a->count; i++) {
        if (domain < 0 || a->domain[i] == domain) {
            int at = 0;
            while (at < a->length &&
                   a->tokens[i * a->length + at] == b->tokens[i * b->length + at]) {
                at++;
            }
            agreed += at;
            *same += at == a->length;
            (*count)++;
        }
    }
    *share = *count > 0 ? agreed / ((double)*count * a->length) : 0;
}

static void print_costs(const cli_resources *resources, const scores *before, const scores *after)
{
    int domains = mixt_data_domain_count(resources->data);
    printf("%-20s %10s %10s %10s %9s   %s\n", "domain", "nats/token", "without", "change", "",
           "continuations the same, tokens before the first that differs");
    for (int d = 0; d <= domains; d++) {
        const mixt_score_row *a = &before->rows[d], *b = &after->rows[d];
        int count, same;
        double share, tokens = (double)a->tokens;
        compare(&before->said, &after->said, d < domains ? d : -1, &count, &same, &share);
        if (a->tokens == 0) {
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "%s", d < domains ? a->domain : "all");
        say(stdout, "%-20.20s", name);
        printf(" %10.4f %10.4f %+10.4f %+8.1f%%   ", a->nats / tokens, b->nats / tokens,
               (b->nats - a->nats) / tokens, 100 * (b->nats / a->nats - 1));
        if (count > 0) {
            printf("%d of %d, %.0f%%\n", same, count, 100 * share);
        } else {
            printf("no document is long enough\n");
        }
    }
}

/* "25%" as a share; NaN: it is a file. */
static double read_share(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    return end != text && strcmp(end, "%") == 0 ? value / 100 : (double)NAN;
}

/* Results measured on the texts, beside the output, where none are given. */
static mixt_status measure_experts(const prune_settings *settings, const cli_resources *resources,
                                   const char *path, mixt_error *error)
{
    mixt_probe_options options = mixt_probe_options_default();
    options.output = path;
    options.model_name = settings->model;
    options.experiments = settings->by == MIXT_PRUNE_PROBE ? MIXT_PROBE_MASK : MIXT_PROBE_REAP;
    options.window = settings->window;
    options.max_tokens = (uint64_t)settings->max_tokens;
    progress_line progress;
    progress_begin(&progress, "probe");
    options.progress = progress_callback;
    options.user = &progress;
    interrupt_begin();
    mixt_status status = mixt_probe_run(resources->context, resources->model, resources->data,
                                        resources->tokenizer, &options, error);
    interrupt_end();
    progress_end(&progress);
    return status;
}

static mixt_status choose(const prune_settings *settings, const cli_resources *resources,
                          uint8_t *drop, mixt_error *error)
{
    char path[4300];
    double share = read_share(settings->drop);
    if (isnan(share)) {
        return mixt_experts_read(resources->model, settings->drop, drop, error);
    }
    const char *results = settings->results;
    if (results == NULL && !settings->has_data) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--drop-experts %.20s: needs the results of mixt probe (--probe FILE), or "
                         "texts to measure them on (--data PATH)",
                         settings->drop);
    }
    if (results == NULL) {
        int length = snprintf(path, sizeof path, "%s.probe.json", settings->output);
        if (length < 0 || (size_t)length >= sizeof path) {
            return set_error(error, MIXT_ERROR_ARGUMENT, "--output: the path is too long");
        }
        TRY(measure_experts(settings, resources, path, error));
        say(stderr, "results: %s\n", path);
        results = path;
    }
    return mixt_experts_choose(resources->model, results, (mixt_prune_by)settings->by, share, drop,
                               error);
}

static void say_dropped(const mixt_model_info *info, const uint8_t *drop)
{
    int each = 0;
    for (int e = 0; e < info->options.experts; e++) {
        each += drop[e] != 0;
    }
    fprintf(stderr, "dropped: %d of %d experts in each of %d layer%s\n", each,
            info->options.experts, info->moe_layers, plural((uint64_t)info->moe_layers));
}

static mixt_status drop_and_measure(const prune_settings *settings, cli_resources *resources,
                                    const uint8_t *drop, mixt_error *error)
{
    mixt_model_info info;
    scores before = {0}, after = {0};
    mixt_status status = MIXT_OK;
    mixt_model_describe(resources->model, &info);
    if (settings->has_data) {
        status = measure(settings, "with all experts", resources, &before, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_drop_experts(resources->model, drop, error);
    }
    if (status == MIXT_OK) {
        say_dropped(&info, drop);
    }
    if (status == MIXT_OK && settings->has_data) {
        status = measure(settings, "without", resources, &after, error);
    } else if (status == MIXT_OK) {
        fprintf(stderr, "note: what that costs was not measured: no texts (--data PATH)\n");
    }
    if (status == MIXT_OK && settings->has_data) {
        print_costs(resources, &before, &after);
    }
    free_scores(&before);
    free_scores(&after);
    return status;
}

mixt_status drop_experts(const prune_settings *settings, cli_resources *resources,
                         mixt_error *error)
{
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    if (info.moe_layers == 0) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--drop-experts: the model is dense, it has no experts");
    }
    uint8_t *drop = calloc((size_t)info.moe_layers * (size_t)info.options.experts, sizeof *drop);
    if (drop == NULL) {
        return set_memory_error(error);
    }
    mixt_status status = choose(settings, resources, drop, error);
    if (status == MIXT_OK) {
        status = drop_and_measure(settings, resources, drop, error);
    }
    free(drop);
    return status;
}
