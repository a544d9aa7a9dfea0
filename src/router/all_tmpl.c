/* All experts of every row (all.c), those of the highest logits first; masked ones are left out. */
#include "ops/support_tmpl.h"
#include "router/method.h"

static void choose_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int experts = call->attributes->router->experts;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    int32_t order[MIXT_EXPERTS_MAX];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const mixt_router_spec *spec = mixt_router_of_row(call, t);
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + t * experts;
        int left = 0;
        MIXT_REAL(mixt_select_top_k)(logits, experts, experts, order);
        for (int j = 0; j < experts; j++) {
            if (spec->mask == NULL || spec->mask[order[j]] == 0) {
                ids[left++] = order[j];
            }
        }
        mixt_route_fill(call, left, ids);
        bool finite =
            MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum);
        MIXT_REAL(mixt_weigh_row)(call, t, finite ? scores : NULL);
    }
}

void MIXT_REAL(mixt_all_choose)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, choose_rows);
}

void MIXT_REAL(mixt_all_gradient)(const mixt_call *call, real *d_logits)
{
    MIXT_REAL(mixt_weigh_gradient)(call, d_logits);
}
