#include "atlas/vocabulary.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"
#include "core/error.h"

#define MAX_CANDIDATES 4096 /* bounds the table; the most frequent stay */

typedef struct candidates {
    int32_t *slot;         /* [vocab_size]: row in the table, or -1 */
    int32_t *token;        /* [count] */
    uint64_t *occurrences; /* [vocab_size] with a first choice */
    uint32_t *chosen;      /* [count, E] first choices */
    int count;
} candidates;

static int descending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a < b) - (a > b);
}

/* Smallest number of occurrences that keeps at most MAX_CANDIDATES tokens. */
static uint64_t find_threshold(const candidates *set, int vocab_size, uint64_t *sorted)
{
    memcpy(sorted, set->occurrences, (size_t)vocab_size * sizeof *sorted);
    qsort(sorted, (size_t)vocab_size, sizeof *sorted, descending);
    uint64_t threshold = MIXT_TOP_MIN_OCCURRENCES;
    if (vocab_size > MAX_CANDIDATES && sorted[MAX_CANDIDATES] >= threshold) {
        threshold = sorted[MAX_CANDIDATES] + 1;
    }
    return threshold;
}

static bool collect(const mixt_trace *trace, int layer, candidates *set)
{
    size_t vocab = (size_t)trace->vocab_size;
    set->slot = malloc(vocab * sizeof *set->slot);
    set->token = malloc(MAX_CANDIDATES * sizeof *set->token);
    set->occurrences = calloc(vocab, sizeof *set->occurrences);
    uint64_t *sorted = malloc(vocab * sizeof *sorted);
    if (set->slot == NULL || set->token == NULL || set->occurrences == NULL || sorted == NULL) {
        free(sorted);
        return false;
    }
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        bool chosen = mixt_trace_experts(trace, layer, i)[0] != MIXT_TRACE_NONE;
        set->occurrences[trace->tokens[i]] += chosen;
    }
    uint64_t threshold = find_threshold(set, trace->vocab_size, sorted);
    free(sorted);
    for (int32_t token = 0; token < trace->vocab_size; token++) {
        bool kept = set->occurrences[token] >= threshold && set->count < MAX_CANDIDATES;
        set->slot[token] = kept ? set->count : -1;
        if (kept) {
            set->token[set->count++] = token;
        }
    }
    size_t cells = (size_t)(set->count + 1) * (size_t)trace->info.experts;
    set->chosen = calloc(cells, sizeof *set->chosen);
    return set->chosen != NULL;
}

/* The best `per_expert` of one expert, by insertion; bounds [per_expert] is scratch. */
static void rank_expert(const candidates *set, const mixt_trace *trace, int expert, int per_expert,
                        double *bounds, mixt_top_token *rows)
{
    int filled = 0;
    for (int i = 0; i < per_expert; i++) {
        rows[i] = (mixt_top_token){-1, 0, 0};
    }
    for (int c = 0; c < set->count; c++) {
        double occurrences = (double)set->occurrences[set->token[c]];
        double taken = set->chosen[(size_t)c * (size_t)trace->info.experts + (size_t)expert];
        double low;
        double high;
        if (taken * trace->info.experts <= occurrences) {
            continue;
        }
        mixt_wilson(taken, occurrences, &low, &high);
        int place = filled;
        while (place > 0 && bounds[place - 1] < low) {
            place--;
        }
        if (place >= per_expert) {
            continue;
        }
        filled += filled < per_expert;
        size_t moved = (size_t)(filled - place - 1);
        memmove(rows + place + 1, rows + place, moved * sizeof *rows);
        memmove(bounds + place + 1, bounds + place, moved * sizeof *bounds);
        bounds[place] = low;
        rows[place] =
            (mixt_top_token){set->token[c], set->occurrences[set->token[c]], taken / occurrences};
    }
}

mixt_status mixt_top_tokens(const mixt_trace *trace, int layer, int per_expert,
                            mixt_top_token *rows, mixt_error *error)
{
    assert(layer >= 0 && layer < trace->info.layers && per_expert >= 1);
    candidates set = {0};
    mixt_status status = MIXT_OK;
    double *bounds = malloc((size_t)per_expert * sizeof *bounds);
    if (bounds == NULL || !collect(trace, layer, &set)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "tokens of experts: no memory");
    }
    for (uint64_t i = 0; i < trace->info.tokens && status == MIXT_OK; i++) {
        int32_t slot = set.slot[trace->tokens[i]];
        uint16_t expert = mixt_trace_experts(trace, layer, i)[0];
        if (slot >= 0 && expert != MIXT_TRACE_NONE) {
            set.chosen[(size_t)slot * (size_t)trace->info.experts + expert]++;
        }
    }
    for (int e = 0; e < trace->info.experts && status == MIXT_OK; e++) {
        rank_expert(&set, trace, e, per_expert, bounds, rows + (size_t)e * (size_t)per_expert);
    }
    free(bounds);
    free(set.slot);
    free(set.token);
    free(set.occurrences);
    free(set.chosen);
    return status;
}
