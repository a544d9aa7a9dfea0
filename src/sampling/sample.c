/* One draw by the plain samplers, for programs that keep the text themselves. */
#include "sampling/sample.h"

#include <stdlib.h>

#include "core/error.h"
#include "sampling/sampler.h"

mixt_sampling mixt_sampling_default(void)
{
    return (mixt_sampling){.temperature = 0.8,
                           .top_k = 40,
                           .top_p = 0.95,
                           .min_p = 0.05,
                           .repeat_penalty = 1.0,
                           .repeat_last = 64};
}

typedef struct one_draw {
    mixt_chain chain;
    mixt_chain_text text;
    mixt_candidates candidates;
} one_draw;

static mixt_status choose(const mixt_sampling *sampling, const float *logits, int vocab_size,
                          one_draw *draw, mixt_error *error)
{
    mixt_sampler_options options = mixt_sampler_options_default();
    options.sampling = *sampling;
    MIXT_TRY(mixt_chain_create(&options, &draw->chain, error));
    draw->text.vocab_size = vocab_size;
    draw->text.marks = calloc((size_t)vocab_size, sizeof *draw->text.marks);
    draw->candidates.list = calloc((size_t)vocab_size, sizeof *draw->candidates.list);
    mixt_status status = MIXT_OK;
    if (draw->text.marks == NULL || draw->candidates.list == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "sampling: no memory");
    }
    if (status == MIXT_OK) {
        status = mixt_sampling_gather(&options, logits, vocab_size, NULL, &draw->candidates, error);
    }
    if (status == MIXT_OK && !mixt_chain_run(&draw->chain, &draw->text, &draw->candidates)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "sampling: no memory");
    }
    free(draw->text.marks);
    if (status != MIXT_OK) {
        free(draw->candidates.list);
    }
    return status;
}

mixt_status mixt_sample_candidates(const mixt_sampling *sampling, const float *logits,
                                   int vocab_size, const mixt_history *history,
                                   mixt_candidates *result, mixt_error *error)
{
    one_draw draw = {.text = {.tokens = history->tokens, .count = history->count}};
    *result = (mixt_candidates){0};
    MIXT_TRY(choose(sampling, logits, vocab_size, &draw, error));
    *result = draw.candidates;
    return MIXT_OK;
}

mixt_status mixt_sample(const mixt_sampling *sampling, const float *logits, int vocab_size,
                        const int32_t *history, size_t history_count, uint64_t position,
                        int32_t *token, mixt_error *error)
{
    one_draw draw = {
        .text = {.tokens = history, .count = history_count, .drawn = position},
    };
    *token = 0;
    MIXT_TRY(choose(sampling, logits, vocab_size, &draw, error));
    *token = draw.candidates.list[mixt_chain_draw(&draw.chain, &draw.text, &draw.candidates)].id;
    free(draw.candidates.list);
    return MIXT_OK;
}
