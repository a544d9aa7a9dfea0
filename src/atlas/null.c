/* Routes without structure, for levels that have no closed form (atlas/measure.h). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measure.h"
#include "core/error.h"
#include "core/random.h"

/* Use of experts at one place of the choice in one domain, as sums for drawing: sum[e] is that of
 * experts 0 to e. */
typedef struct nulls {
    const mixt_trace *trace;
    int layer;
    uint64_t *sums; /* [domains, k, E] */
    mixt_random_key key;
} nulls;

static bool taken(const uint16_t *row, int places, int expert)
{
    for (int i = 0; i < places; i++) {
        if (row[i] == expert) {
            return true;
        }
    }
    return false;
}

static void sum_use(nulls *n)
{
    const mixt_trace *trace = n->trace;
    size_t k = (size_t)trace->info.experts_per_token, experts = (size_t)trace->info.experts;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, n->layer, i);
        for (size_t c = 0; c < k; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                n->sums[(trace->domain[i] * k + c) * experts + row[c]]++;
            }
        }
    }
    for (size_t row = 0; row < (size_t)trace->info.domains * k; row++) {
        for (size_t e = 1; e < experts; e++) {
            n->sums[row * experts + e] += n->sums[row * experts + e - 1];
        }
    }
}

/* First expert whose sum exceeds `at`. */
static int find_expert(const uint64_t *sums, int experts, uint64_t at)
{
    int low = 0, high = experts - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (sums[middle] > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* An expert that the row does not hold yet, by `sums` (NULL: uniformly). Rejection first; where the
 * free experts are rare, or none of them is ever used here, uniformly among the free ones. */
static uint16_t draw_expert(const nulls *n, const uint64_t *sums, const uint16_t *row, int places,
                            uint64_t *index)
{
    int experts = n->trace->info.experts;
    for (int tries = 0; tries < 64; tries++) {
        int expert = sums == NULL
                         ? (int)mixt_random_below(&n->key, (*index)++, (uint64_t)experts)
                         : find_expert(sums, experts,
                                       mixt_random_below(&n->key, (*index)++, sums[experts - 1]));
        if (!taken(row, places, expert)) {
            return (uint16_t)expert;
        }
    }
    int expert = (int)mixt_random_below(&n->key, (*index)++, (uint64_t)experts);
    while (taken(row, places, expert)) {
        expert = (expert + 1) % experts;
    }
    return (uint16_t)expert;
}

static void draw_rows(const nulls *n, bool use, uint16_t *experts)
{
    const mixt_trace *trace = n->trace;
    size_t k = (size_t)trace->info.experts_per_token, all = (size_t)trace->info.experts;
    uint64_t index = 0;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, n->layer, i);
        uint16_t *made = experts + i * k;
        for (size_t c = 0; c < k; c++) {
            const uint64_t *sums = use ? n->sums + (trace->domain[i] * k + c) * all : NULL;
            made[c] = row[c] == MIXT_TRACE_NONE ? MIXT_TRACE_NONE
                                                : draw_expert(n, sums, made, (int)c, &index);
        }
    }
}

/* Rows of tokens order[0 .. count) change places among each other (Fisher & Yates); order NULL:
 * those of `begin`. */
static void permute(const nulls *n, const uint32_t *order, uint64_t begin, uint64_t count,
                    uint16_t *experts)
{
    size_t k = (size_t)n->trace->info.experts_per_token;
    for (uint64_t i = 0; i < count; i++) { /* from the inside out */
        uint64_t j = mixt_random_below(&n->key, begin + i, i + 1);
        uint64_t place = order != NULL ? order[i] : begin + i;
        uint64_t other = order != NULL ? order[j] : begin + j;
        memmove(experts + place * k, experts + other * k, k * sizeof *experts);
        memcpy(experts + other * k, mixt_trace_experts(n->trace, n->layer, place),
               k * sizeof *experts);
    }
}

mixt_status mixt_null_draw(const mixt_measuring *measuring, int layer, mixt_null null,
                           uint32_t draw, uint16_t *experts, mixt_error *error)
{
    const mixt_trace *trace = measuring->trace;
    const mixt_units *units = measuring->units;
    nulls n = {.trace = trace,
               .layer = layer,
               .key = {measuring->seed + ((uint64_t)layer << 32), MIXT_RANDOM_RESAMPLE, draw}};
    switch (null) {
    case MIXT_NULL_UNIFORM:
        draw_rows(&n, false, experts);
        return MIXT_OK;
    case MIXT_NULL_USE:
        n.sums = calloc((size_t)trace->info.domains * (size_t)trace->info.experts_per_token *
                            (size_t)trace->info.experts,
                        sizeof *n.sums);
        if (n.sums == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory for made-up routes");
        }
        sum_use(&n);
        draw_rows(&n, true, experts);
        free(n.sums);
        return MIXT_OK;
    case MIXT_NULL_DOMAIN:
        for (int domain = 0; domain < units->domains; domain++) {
            permute(&n, units->order + units->begin[domain], units->begin[domain],
                    units->begin[domain + 1] - units->begin[domain], experts);
        }
        return MIXT_OK;
    case MIXT_NULL_DOCUMENT:
        for (size_t d = 0; d < units->run_count; d++) {
            permute(&n, NULL, units->runs[d].begin, units->runs[d].end - units->runs[d].begin,
                    experts);
        }
        return MIXT_OK;
    }
    return MIXT_OK;
}
