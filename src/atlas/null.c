/* Routes without structure, for levels that have no closed form (atlas/measure.h). */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measure.h"
#include "core/error.h"
#include "core/random.h"

/* Of exchanges over all tokens; what the first leaves of the repair's order is small. */
#define SWEEPS 2
#define TRIES 1024 /* of an expert that its token holds already, to find another token */

void mixt_null_counts(const mixt_random_key *key, int experts, double mean, double variance,
                      double *counts)
{
    double middle = 0;
    for (int e = 0; e < experts; e++) {
        counts[e] = mixt_random_normal(key, (uint64_t)e);
        middle += counts[e] / experts;
    }
    double spread = experts > 1 ? sqrt(variance * experts / (experts - 1)) : 0;
    for (int e = 0; e < experts; e++) {
        counts[e] = fmax(mean + spread * (counts[e] - middle), 0);
    }
}

typedef struct nulls {
    const mixt_trace *trace;
    int layer;
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

/* An expert that the row does not hold yet, uniformly. */
static uint16_t draw_expert(const nulls *n, const uint16_t *row, int places, uint64_t *index)
{
    int experts = n->trace->info.experts;
    int expert = (int)mixt_random_below(&n->key, (*index)++, (uint64_t)experts);
    for (int tries = 0; tries < 64 && taken(row, places, expert); tries++) {
        expert = (int)mixt_random_below(&n->key, (*index)++, (uint64_t)experts);
    }
    while (taken(row, places, expert)) { /* the free ones are rare */
        expert = (expert + 1) % experts;
    }
    return (uint16_t)expert;
}

static void draw_rows(const nulls *n, uint16_t *experts)
{
    const mixt_trace *trace = n->trace;
    size_t k = (size_t)trace->info.experts_per_token;
    uint64_t index = 0;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, n->layer, i);
        uint16_t *made = experts + i * k;
        for (size_t c = 0; c < k; c++) {
            made[c] =
                row[c] == MIXT_TRACE_NONE ? MIXT_TRACE_NONE : draw_expert(n, made, (int)c, &index);
        }
    }
}

/* Two tokens exchange their experts at a place, where neither holds the other's at one before it.
 */
static bool exchange(uint16_t *row, uint16_t *other, size_t place)
{
    uint16_t expert = row[place];
    if (taken(other, (int)place, expert) || taken(row, (int)place, other[place])) {
        return false;
    }
    row[place] = other[place];
    other[place] = expert;
    return true;
}

/* The experts that `tokens` [count] have at a place are dealt to them anew, in any order in which
 * no token gets one that it has at a place before: shuffled, then each token exchanges with another
 * one, and goes on until its expert is none that it has. So each order is as likely (these
 * exchanges leave that as it is), and use at the place is kept, which drawing by it would make more
 * even with every place: who has the hottest expert already gets another. */
static void deal_place(const nulls *n, const uint32_t *tokens, uint64_t count, size_t place,
                       uint16_t *experts, uint64_t *index)
{
    size_t k = (size_t)n->trace->info.experts_per_token;
    for (uint64_t i = 0; i < count; i++) { /* from the inside out */
        uint64_t j = mixt_random_below(&n->key, (*index)++, i + 1);
        experts[tokens[i] * k + place] = experts[tokens[j] * k + place];
        experts[tokens[j] * k + place] = mixt_trace_experts(n->trace, n->layer, tokens[i])[place];
    }
    for (uint64_t i = 0; i < SWEEPS * count && place > 0; i++) {
        uint16_t *row = experts + tokens[i % count] * k;
        bool twice = taken(row, (int)place, row[place]), moved = false;
        for (int tries = 0; tries < (twice ? TRIES : 1) && !moved; tries++) {
            uint64_t j = mixt_random_below(&n->key, (*index)++, count);
            moved = exchange(row, experts + tokens[j] * k, place);
        }
        if (twice && !moved) { /* nearly all others have it too */
            row[place] = draw_expert(n, row, (int)place, index);
        }
    }
}

/* Place by place in each domain; room [tokens]. */
static void deal_rows(const nulls *n, const mixt_units *units, uint32_t *room, uint16_t *experts)
{
    const mixt_trace *trace = n->trace;
    size_t k = (size_t)trace->info.experts_per_token;
    uint64_t index = 0;
    for (int domain = 0; domain < units->domains; domain++) {
        for (size_t c = 0; c < k; c++) {
            uint64_t count = 0;
            for (uint64_t at = units->begin[domain]; at < units->begin[domain + 1]; at++) {
                uint32_t token = units->order[at];
                experts[token * k + c] = MIXT_TRACE_NONE;
                if (mixt_trace_experts(trace, n->layer, token)[c] != MIXT_TRACE_NONE) {
                    room[count++] = token;
                }
            }
            deal_place(n, room, count, c, experts, &index);
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
        draw_rows(&n, experts);
        return MIXT_OK;
    case MIXT_NULL_USE: {
        uint32_t *room = calloc(trace->info.tokens, sizeof *room);
        if (room == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory for made-up routes");
        }
        deal_rows(&n, units, room, experts);
        free(room);
        return MIXT_OK;
    }
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
