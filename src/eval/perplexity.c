/* Perplexity of one text in llama-perplexity's manner, so that figures can be compared. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/score.h"

typedef struct ids {
    int32_t *tokens;
    size_t count;
} ids;

/* The text as ids, with the first id of a text where the tokenizer adds one. */
static mixt_status encode(const mixt_tokenizer *tokenizer, const mixt_perplexity_options *options,
                          int32_t bos, ids *all, mixt_error *error)
{
    int32_t *encoded;
    size_t count;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_encode(tokenizer, options->text, options->length, false,
                                               &encoded, &count, &local);
    if (status != MIXT_OK) {
        status = mixt_fail(error, status, "the text: %s", local.message);
    }
    if (status != MIXT_OK || bos < 0) {
        all->tokens = encoded;
        all->count = status == MIXT_OK ? count : 0;
        return status;
    }
    all->tokens = malloc((count + 1) * sizeof *all->tokens);
    if (all->tokens != NULL) {
        all->tokens[0] = bos;
        memcpy(all->tokens + 1, encoded, count * sizeof *encoded);
        all->count = count + 1;
    }
    free(encoded);
    return all->tokens != NULL ? MIXT_OK
                               : mixt_fail(error, MIXT_ERROR_MEMORY, "perplexity: no memory");
}

/* Chunk `tokens` [window] into the rows from `row` on: the second half is scored. */
static void fill_chunk(mixt_scorer *scorer, int64_t row, const int32_t *tokens, int32_t bos)
{
    int64_t window = scorer->options.window;
    mixt_batch *batch = &scorer->batch;
    mixt_batch_sequence(batch, row, window);
    for (int64_t i = 0; i < window; i++) {
        batch->tokens[row + i] = i == 0 && bos >= 0 ? bos : tokens[i];
        batch->targets[row + i] = i >= window / 2 && i + 1 < window ? tokens[i + 1] : -1;
    }
}

static void add_chunk(const mixt_scorer *scorer, int64_t row, mixt_perplexity *sum)
{
    int64_t window = scorer->options.window;
    const float *nll = mixt_instance_view(scorer->instance, scorer->graph->nll);
    for (int64_t i = window / 2; i + 1 < window; i++) {
        double value = nll[row + i];
        sum->nats += value;
        sum->squares += value * value;
        sum->tokens++;
    }
    double mean = sum->nats / (double)sum->tokens;
    double variance = sum->squares / (double)sum->tokens - mean * mean;
    sum->value = exp(mean);
    sum->deviation = variance > 0 && sum->tokens > 1
                         ? sqrt(variance / (double)(sum->tokens - 1)) * sum->value
                         : 0;
    sum->chunks++;
}

static mixt_status run(mixt_scorer *scorer, const ids *all, int32_t bos, int chunks,
                       const mixt_perplexity_options *options, mixt_perplexity *sum,
                       mixt_error *error)
{
    int64_t window = scorer->options.window, most = scorer->capacity / window;
    mixt_status status = MIXT_OK;
    for (int64_t chunk = 0; chunk < chunks && status == MIXT_OK;) {
        int64_t part = chunks - chunk < most ? chunks - chunk : most;
        for (int64_t i = 0; i < part; i++) {
            fill_chunk(scorer, i * window, all->tokens + (chunk + i) * window, bos);
        }
        status = mixt_scorer_run(scorer, part * window, error);
        for (int64_t i = 0; i < part && status == MIXT_OK; i++) {
            add_chunk(scorer, i * window, sum);
            if (options->report != NULL) {
                options->report(options->user, sum, chunks);
            }
        }
        chunk += part;
    }
    if (status == MIXT_OK && !isfinite(sum->nats)) {
        status = mixt_fail(error, MIXT_ERROR_NUMERIC, "perplexity: the loss is not finite");
    }
    return status;
}

/* Only an id that the text uses needs a row of the model. */
static mixt_status check_rows(const mixt_model *model, int32_t bos, const ids *all,
                              mixt_error *error)
{
    int32_t largest = bos;
    for (size_t i = 0; i < all->count; i++) {
        largest = all->tokens[i] > largest ? all->tokens[i] : largest;
    }
    return largest < model->options.vocab_size
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "perplexity: the text uses id %d, the model's vocab_size is %d",
                           (int)largest, model->options.vocab_size);
}

mixt_status mixt_text_perplexity(mixt_context *context, const mixt_model *model,
                                 const mixt_tokenizer *tokenizer,
                                 const mixt_perplexity_options *options, mixt_perplexity *result,
                                 mixt_error *error)
{
    *result = (mixt_perplexity){0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_perplexity_options, options, error));
    mixt_scorer_options scorer_options = {.window = options->window};
    mixt_scorer *scorer = NULL;
    ids all = {0};
    int32_t bos = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    if (options->window < 4) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "perplexity: window %d is less than 4",
                         options->window);
    }
    mixt_status status = encode(tokenizer, options, bos, &all, error);
    if (status == MIXT_OK) {
        status = check_rows(model, bos, &all, error);
    }
    size_t window = (size_t)options->window;
    if (status == MIXT_OK && all.count < 2 * window) {
        status = mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "perplexity: the text has %zu tokens, two windows of %zu are needed",
                           all.count, window);
    }
    if (status == MIXT_OK) {
        status = mixt_scorer_open(context, model, &scorer_options, &scorer, error);
    }
    if (status == MIXT_OK) {
        size_t chunks = all.count / window;
        bool fewer = options->chunks > 0 && (size_t)options->chunks < chunks;
        status =
            run(scorer, &all, bos, fewer ? options->chunks : (int)chunks, options, result, error);
    }
    mixt_scorer_free(scorer);
    free(all.tokens);
    return status;
}
