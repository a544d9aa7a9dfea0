#include "sampling/candidates.h"

#include <math.h>
#include <stdlib.h>

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

/* Sorting a whole vocabulary takes longer than a small model takes for a token; so a heap with the
 * worst of the best at its top goes through it. */
void mixt_candidates_best(mixt_candidates *candidates, int wanted)
{
    mixt_candidate *list = candidates->list;
    wanted = wanted < candidates->count ? wanted : candidates->count;
    if (!candidates->sorted && wanted < candidates->count) {
        qsort(list, (size_t)wanted, sizeof *list, compare_candidates);
        for (int i = 0; i < wanted / 2; i++) { /* worst first is a heap */
            mixt_candidate kept = list[i];
            list[i] = list[wanted - 1 - i];
            list[wanted - 1 - i] = kept;
        }
        for (int i = wanted; i < candidates->count; i++) {
            if (compare_candidates(&list[i], &list[0]) < 0) {
                list[0] = list[i];
                sift(list, wanted);
            }
        }
    }
    if (!candidates->sorted) {
        qsort(list, (size_t)wanted, sizeof *list, compare_candidates);
    }
    candidates->count = wanted;
    candidates->sorted = true;
}

void mixt_candidates_softmax(mixt_candidates *candidates)
{
    mixt_candidates_sort(candidates);
    mixt_candidate *list = candidates->list;
    double sum = 0;
    for (int i = 0; i < candidates->count; i++) {
        list[i].probability = exp((list[i].logit - list[0].logit) / candidates->temperature);
        sum += list[i].probability;
    }
    for (int i = 0; i < candidates->count; i++) {
        list[i].probability /= sum;
    }
}

void mixt_candidates_settle(mixt_candidates *candidates)
{
    if (candidates->temperature != 1) {
        for (int i = 0; i < candidates->count; i++) {
            candidates->list[i].logit /= candidates->temperature;
        }
        candidates->temperature = 1;
    }
}

double mixt_candidates_entropy(const mixt_candidates *candidates)
{
    double entropy = 0;
    for (int i = 0; i < candidates->count; i++) {
        double probability = candidates->list[i].probability;
        entropy -= probability > 0 ? probability * log(probability) : 0;
    }
    return entropy;
}

int mixt_candidates_draw(const mixt_candidates *candidates, double draw)
{
    double sum = 0;
    for (int i = 0; i < candidates->count; i++) {
        sum += candidates->list[i].probability;
        if (draw < sum) {
            return i;
        }
    }
    return candidates->count - 1; /* rounding may leave the sum just below 1 */
}

/* Whether (a, logit a) comes before (b, logit b). */
static bool is_better(const float *logits, int32_t a, int32_t b)
{
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

/* ids [*held] are sorted: puts `id` among the best `count`. */
static void insert_best(const float *logits, int32_t id, int count, int32_t *ids, int *held)
{
    if (*held == count && !is_better(logits, id, ids[count - 1])) {
        return;
    }
    int at = *held < count ? (*held)++ : count - 1;
    while (at > 0 && is_better(logits, id, ids[at - 1])) {
        ids[at] = ids[at - 1];
        at--;
    }
    ids[at] = id;
}

void mixt_log_probabilities(const float *logits, int vocab_size, int32_t token, double *of_token,
                            int count, int32_t *ids, double *values)
{
    double largest = -INFINITY, sum = 0;
    int held = 0;
    for (int i = 0; i < vocab_size; i++) {
        largest = logits[i] > largest ? (double)logits[i] : largest;
    }
    for (int i = 0; i < vocab_size; i++) {
        sum += exp((double)logits[i] - largest);
        if (count > 0) {
            insert_best(logits, i, count, ids, &held);
        }
    }
    double shift = largest + log(sum);
    if (of_token != NULL) {
        *of_token =
            token >= 0 && token < vocab_size ? (double)logits[token] - shift : -(double)INFINITY;
    }
    for (int i = 0; i < count; i++) {
        ids[i] = i < held ? ids[i] : -1;
        values[i] = i < held ? (double)logits[ids[i]] - shift : -(double)INFINITY;
    }
}
