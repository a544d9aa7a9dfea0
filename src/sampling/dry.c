/* DRY ("don't repeat yourself", p-e-w 2024, as llama.cpp has it): a token that would make a
 * repetition longer than allowed is penalized, exponentially in the repetition's length. */
#include <math.h>
#include <stdlib.h>

#include "sampling/chain.h"

/* lengths[k] of the `count` last tokens: how many tokens that end k before the last one are those
 * at the end (the Z function of the reversed text: Gusfield 1997, 1.4). */
static void measure_repetitions(const int32_t *tokens, size_t count, size_t *lengths)
{
    size_t left = 0, right = 0; /* the stretch [left, right) that is known to repeat the end */
    const int32_t *last = tokens + count - 1;
    lengths[0] = count;
    for (size_t k = 1; k < count; k++) {
        size_t length = 0;
        if (k < right) {
            length = lengths[k - left] < right - k ? lengths[k - left] : right - k;
        }
        while (k + length < count && *(last - length) == *(last - k - length)) {
            length++;
        }
        lengths[k] = length;
        if (k + length > right) {
            left = k;
            right = k + length;
        }
    }
}

static int compare_ids(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Notes in `marks`, for each token that would go on with a repetition, the longest one's length + 1
 * (an allowed length of 0 has repetitions of length 0). */
static void mark_repetitions(const mixt_chain_text *text, const int32_t *tokens,
                             const size_t *lengths, size_t count, size_t allowed)
{
    for (size_t k = 1; k < count; k++) {
        size_t length = lengths[k] < text->unbroken ? lengths[k] : text->unbroken;
        int32_t next = tokens[count - k];
        int32_t mark = length < INT32_MAX - 1 ? (int32_t)length + 1 : INT32_MAX;
        if (length >= allowed && next >= 0 && next < text->vocab_size && mark > text->marks[next]) {
            text->marks[next] = mark;
        }
    }
}

bool mixt_dry_apply(const mixt_sampler_options *options, const mixt_chain_text *text,
                    mixt_candidates *candidates)
{
    size_t allowed = (size_t)options->dry_allowed_length;
    size_t count = options->dry_last < 0 || (size_t)options->dry_last > text->count
                       ? text->count
                       : (size_t)options->dry_last;
    if (count <= allowed || text->unbroken < allowed) {
        return true;
    }
    const int32_t *tokens = text->tokens + (text->count - count);
    size_t *lengths = calloc(count, sizeof *lengths);
    if (lengths == NULL) {
        return false;
    }
    measure_repetitions(tokens, count, lengths);
    mark_repetitions(text, tokens, lengths, count, allowed);
    free(lengths);
    mixt_candidates_settle(candidates);
    /* Where the power would not fit into a float, llama.cpp's type for it. */
    double most = options->dry_base > 1.000001 ? floor(log(0x1.fffffep127) / log(options->dry_base))
                                               : INFINITY;
    for (int i = 0; i < candidates->count; i++) {
        mixt_candidate *c = &candidates->list[i];
        if (text->marks[c->id] > 0 &&
            (text->breaker_count == 0 || bsearch(&c->id, text->breakers, text->breaker_count,
                                                 sizeof c->id, compare_ids) == NULL)) {
            double beyond = fmin((double)text->marks[c->id] - 1 - (double)allowed, most);
            c->logit -= options->dry_multiplier * pow(options->dry_base, beyond);
        }
    }
    for (size_t k = 1; k < count; k++) {
        int32_t next = tokens[count - k];
        if (next >= 0 && next < text->vocab_size) {
            text->marks[next] = 0;
        }
    }
    candidates->sorted = false;
    return true;
}
