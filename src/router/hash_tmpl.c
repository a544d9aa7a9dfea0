/* The choice by the token's id (hash.c). */
#include "core/random.h"
#include "ops/support_tmpl.h"
#include "router/method.h"

#define TABLE_SEED 0 /* one table for all models, so that files need not hold it */

/* k experts of those that are neither masked nor forced, every row of them as likely: the beginning
 * of a shuffle (Fisher & Yates); forced ones in their places. */
static void choose_ids(const mixt_router_spec *spec, int layer, int32_t token, int32_t *ids)
{
    mixt_random_key key = {TABLE_SEED, MIXT_RANDOM_HASH, (uint32_t)(layer + 1)};
    int32_t left[MIXT_EXPERTS_MAX];
    int chosen = spec->chosen, count = 0, drawn = 0;
    for (int e = 0; e < spec->experts; e++) {
        bool taken = spec->mask != NULL && spec->mask[e] != 0;
        for (int j = 0; j < chosen && spec->forced != NULL; j++) {
            taken = taken || spec->forced[j] == e;
        }
        if (!taken) {
            left[count++] = e;
        }
    }
    for (int j = 0; j < chosen; j++) {
        if (spec->forced != NULL && spec->forced[j] >= 0) {
            ids[j] = spec->forced[j];
            continue;
        }
        uint64_t index = (uint64_t)(uint32_t)token * MIXT_EXPERTS_MAX + (uint64_t)drawn;
        int place = drawn + (int)mixt_random_below(&key, index, (uint64_t)(count - drawn));
        ids[j] = left[place];
        left[place] = left[drawn++];
    }
}

static void choose_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t experts = call->attributes->router->experts,
            columns = call->out_shape[ROUTE_IDS].size[1];
    const int32_t *tokens = call->in[ROUTE_TOKENS];
    real scores[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const mixt_router_spec *spec = mixt_router_of_row(call, t);
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + t * columns;
        bool finite =
            MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum);
        choose_ids(spec, call->layer, tokens[t], ids);
        mixt_route_fill(call, spec->chosen, ids);
        MIXT_REAL(mixt_weigh_row)(call, t, finite ? scores : NULL);
    }
}

void MIXT_REAL(mixt_hash_choose)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, choose_rows);
}

void MIXT_REAL(mixt_hash_gradient)(const mixt_call *call, real *d_logits)
{
    MIXT_REAL(mixt_weigh_gradient)(call, d_logits);
}
