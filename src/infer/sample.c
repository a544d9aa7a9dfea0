/* Samplers in llama.cpp's order: penalties, top-k, top-p, min-p, temperature, draw. All of them
 * after the penalties work on candidates sorted by falling logit, ties by rising id. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"
#include "infer/sample.h"

mixt_sampling mixt_sampling_default(void)
{
    return (mixt_sampling){.temperature = 0.8,
                           .top_k = 40,
                           .top_p = 0.95,
                           .min_p = 0.05,
                           .repeat_penalty = 1.0,
                           .repeat_last = 64};
}

static bool within(double value, double low, double high)
{
    return value >= low && value <= high; /* false for NaN */
}

static mixt_status check(const mixt_sampling *s, mixt_error *error)
{
    if (!within(s->temperature, 0, 1e6)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "temperature %g is not in 0..1e6",
                         s->temperature);
    }
    if (s->top_k < 0 || !within(s->top_p, 0, 1) || !within(s->min_p, 0, 1)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "top-k %d, top-p %g or min-p %g is out of range", s->top_k, s->top_p,
                         s->min_p);
    }
    if (!within(s->repeat_penalty, 1e-3, 1e3) || !within(s->frequency_penalty, -100, 100) ||
        !within(s->presence_penalty, -100, 100) || s->repeat_last < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "a penalty is out of range");
    }
    return MIXT_OK;
}

static int compare_candidates(const void *a, const void *b)
{
    const mixt_candidate *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit < y->logit ? 1 : -1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

/* Moves heap[0] down to where nothing below it is worse. */
static void sift(mixt_candidate *heap, int count)
{
    for (int at = 0, child = 1; child < count; child = 2 * at + 1) {
        child += child + 1 < count && compare_candidates(&heap[child + 1], &heap[child]) > 0;
        if (compare_candidates(&heap[child], &heap[at]) <= 0) {
            return;
        }
        mixt_candidate kept = heap[at];
        heap[at] = heap[child];
        heap[child] = kept;
        at = child;
    }
}

/* Brings the best `wanted` of `count` to the front, sorted. Sorting a whole vocabulary takes longer
 * than a small model takes for a token; so a heap with the worst of the best at its top goes
 * through it. */
static void sort_best(mixt_candidate *list, int count, int wanted)
{
    if (wanted < count) {
        qsort(list, (size_t)wanted, sizeof *list, compare_candidates);
        for (int i = 0; i < wanted / 2; i++) { /* worst first is a heap */
            mixt_candidate kept = list[i];
            list[i] = list[wanted - 1 - i];
            list[wanted - 1 - i] = kept;
        }
        for (int i = wanted; i < count; i++) {
            if (compare_candidates(&list[i], &list[0]) < 0) {
                list[0] = list[i];
                sift(list, wanted);
            }
        }
    }
    qsort(list, (size_t)wanted, sizeof *list, compare_candidates);
}

/* Counts each token among the last ones (in `probability`, which is free until the softmax), then
 * applies the penalties once for each. */
static void penalize(const mixt_sampling *s, mixt_candidate *candidates, int vocab_size,
                     const mixt_history *history)
{
    size_t last = (size_t)s->repeat_last;
    for (size_t i = history->count > last ? history->count - last : 0; i < history->count; i++) {
        int32_t id = history->tokens[i];
        if (id >= 0 && id < vocab_size) {
            candidates[id].probability += 1;
        }
    }
    for (int id = 0; id < vocab_size; id++) {
        double count = candidates[id].probability, logit = candidates[id].logit;
        if (count > 0) {
            logit = logit <= 0 ? logit * s->repeat_penalty : logit / s->repeat_penalty;
            candidates[id].logit = logit - count * s->frequency_penalty - s->presence_penalty;
        }
    }
}

/* Probabilities at temperature 1 of the first `count` candidates. */
static void softmax(mixt_candidate *candidates, int count, double temperature)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        candidates[i].probability = exp((candidates[i].logit - candidates[0].logit) / temperature);
        sum += candidates[i].probability;
    }
    for (int i = 0; i < count; i++) {
        candidates[i].probability /= sum;
    }
}

static int keep_top_p(mixt_candidate *candidates, int count, double top_p)
{
    softmax(candidates, count, 1.0);
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += candidates[i].probability;
        if (sum >= top_p) {
            return i + 1;
        }
    }
    return count;
}

static int keep_min_p(const mixt_candidate *candidates, int count, double min_p)
{
    double lowest = candidates[0].logit + log(min_p);
    int kept = 1;
    while (kept < count && candidates[kept].logit >= lowest) {
        kept++;
    }
    return kept;
}

mixt_status mixt_sample_candidates(const mixt_sampling *sampling, const float *logits,
                                   int vocab_size, const mixt_history *history,
                                   mixt_candidates *result, mixt_error *error)
{
    *result = (mixt_candidates){0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_sampling, sampling, error));
    mixt_status status = check(sampling, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_candidate *list = calloc((size_t)vocab_size, sizeof *list);
    if (list == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampling: no memory");
    }
    for (int i = 0; i < vocab_size; i++) {
        if (isnan(logits[i])) {
            free(list);
            return mixt_fail(error, MIXT_ERROR_NUMERIC, "sampling: the logit of token %d is NaN",
                             i);
        }
        list[i] = (mixt_candidate){i, logits[i], 0};
    }
    penalize(sampling, list, vocab_size, history);
    int count = sampling->temperature == 0                            ? 1
                : sampling->top_k > 0 && sampling->top_k < vocab_size ? sampling->top_k
                                                                      : vocab_size;
    sort_best(list, vocab_size, count);
    if (!isfinite(list[0].logit)) {
        free(list);
        return mixt_fail(error, MIXT_ERROR_NUMERIC, "sampling: the largest logit is not finite");
    }
    if (sampling->temperature != 0) {
        count = sampling->top_p < 1 ? keep_top_p(list, count, sampling->top_p) : count;
        count = sampling->min_p > 0 ? keep_min_p(list, count, sampling->min_p) : count;
    }
    softmax(list, count, sampling->temperature == 0 ? 1.0 : sampling->temperature);
    *result = (mixt_candidates){list, count};
    return MIXT_OK;
}

mixt_status mixt_sample(const mixt_sampling *sampling, const float *logits, int vocab_size,
                        const int32_t *history, size_t history_count, uint64_t position,
                        int32_t *token, mixt_error *error)
{
    *token = 0;
    mixt_candidates candidates;
    mixt_history past = {history, history_count};
    mixt_status status =
        mixt_sample_candidates(sampling, logits, vocab_size, &past, &candidates, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_random_key key = {sampling->seed, MIXT_RANDOM_SAMPLE, 0};
    double draw = mixt_random_uniform(&key, position), sum = 0;
    int chosen = candidates.count - 1; /* rounding may leave the sum just below 1 */
    for (int i = 0; i < candidates.count; i++) {
        sum += candidates.list[i].probability;
        if (draw < sum) {
            chosen = i;
            break;
        }
    }
    *token = candidates.list[chosen].id;
    free(candidates.list);
    return MIXT_OK;
}
