/* The route operator: logits, choices by the spec's method, the record, the losses. */
#include <assert.h>
#include <stdlib.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

bool MIXT_REAL(mixt_row_scores)(const mixt_kernels *kernels, const mixt_router_spec *spec,
                                const real *logits, real *scores, real *log_sum)
{
    int64_t experts = spec->experts;
    bool finite = true;
    for (int64_t i = 0; i < experts; i++) {
        finite = finite && isfinite(logits[i]);
    }
    if (!finite) {
        return false;
    }
    real max = kernels->max(experts, logits);
    real sum = kernels->exp_sum(experts, scores, logits, max);
    *log_sum = max + (real)log((double)sum);
    if (spec->options.score != MIXT_SCORE_SIGMOID) {
        kernels->scale(experts, scores, 1 / sum, scores);
        return true;
    }
    kernels->scale(experts, scores, -1, logits);
    (void)kernels->exp_sum(experts, scores, scores, 0);
    for (int64_t i = 0; i < experts; i++) {
        scores[i] = 1 / (1 + scores[i]);
    }
    return true;
}

real MIXT_REAL(mixt_router_entropy)(const mixt_kernels *kernels, const mixt_router_spec *spec,
                                    const real *logits)
{
    real scores[MIXT_EXPERTS_MAX], log_sum;
    int experts = spec->experts;
    if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
        return (real)NAN;
    }
    double nats = 0, most = log((double)experts);
    if (spec->options.score != MIXT_SCORE_SIGMOID) { /* - sum p log p, log p = logit - log_sum */
        nats = (double)(log_sum - kernels->dot(experts, scores, logits));
    } else {
        double sum = (double)kernels->sum(experts, scores);
        for (int e = 0; e < experts && sum > 0; e++) {
            double p = (double)scores[e] / sum;
            nats -= p > 0 ? p * log(p) : 0;
        }
        nats = sum > 0 ? nats : most;
    }
    return (real)(fmin(fmax(nats, 0), most) / log(2));
}

/* Whether an expert has more choices than it takes. */
static bool has_excess(const mixt_call *call, int64_t capacity)
{
    const int32_t *counts = call->out[ROUTE_COUNTS];
    for (int e = 0; e < call->attributes->router->experts; e++) {
        if (counts[e] > capacity) {
            return true;
        }
    }
    return false;
}

/* The weight that the capacity-th best choice of an expert has, and how many of that weight itself
 * it still takes. */
typedef struct bound {
    real weight;
    int64_t left;
} bound;

static int compare_falling(const void *a, const void *b)
{
    real x = *(const real *)a, y = *(const real *)b;
    return (x < y) - (x > y);
}

/* Bounds of every expert that has more choices than it takes; the others take all. */
static void find_bounds(const mixt_call *call, int64_t capacity, bound *bounds)
{
    const int32_t *ids = call->out[ROUTE_IDS], *counts = call->out[ROUTE_COUNTS];
    const real *weights = call->out[ROUTE_WEIGHTS];
    int64_t choices = call->tokens * call->out_shape[ROUTE_IDS].size[1];
    real *sorted = call->workspace;
    for (int e = 0; e < call->attributes->router->experts; e++) {
        bounds[e] = (bound){-(real)INFINITY, INT64_MAX};
        if (counts[e] <= capacity) {
            continue;
        }
        int64_t held = 0;
        for (int64_t i = 0; i < choices; i++) {
            if (ids[i] == e) {
                sorted[held++] = weights[i];
            }
        }
        qsort(sorted, (size_t)held, sizeof *sorted, compare_falling);
        real weight = sorted[capacity - 1];
        int64_t above = 0;
        while (sorted[above] > weight) {
            above++;
        }
        bounds[e] = (bound){weight, capacity - above};
    }
}

/* Marks with -1 the places of choices beyond the capacity; the others keep 0. */
static void drop_choices(const mixt_call *call, int64_t capacity)
{
    const mixt_router_spec *spec = call->attributes->router;
    const int32_t *ids = call->out[ROUTE_IDS];
    const real *weights = call->out[ROUTE_WEIGHTS];
    int32_t *place = call->out[ROUTE_PLACE];
    int64_t columns = call->out_shape[ROUTE_IDS].size[1];
    bool by_weight = spec->options.drop == MIXT_DROP_WEIGHT;
    bound bounds[MIXT_EXPERTS_MAX];
    for (int e = 0; e < spec->experts; e++) {
        bounds[e] = (bound){-(real)INFINITY, capacity};
    }
    if (by_weight) {
        find_bounds(call, capacity, bounds);
    }
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = j; i < call->tokens * columns; i += columns) {
            bound *b = ids[i] >= 0 ? &bounds[ids[i]] : NULL;
            if (b == NULL || weights[i] < b->weight) {
                place[i] = -1;
            } else if (!by_weight || weights[i] == b->weight) {
                place[i] = b->left > 0 ? 0 : -1;
                b->left--;
            }
        }
    }
}

/* counts, offsets, order and place from ids: a counting sort, stable in t and j. Choices of no
 * expert and dropped ones have no place; what is left of order behind the rows in use is -1. */
static void sort_choices(const mixt_call *call)
{
    const mixt_router_spec *spec = call->attributes->router;
    const int32_t *ids = call->out[ROUTE_IDS];
    int32_t *counts = call->out[ROUTE_COUNTS], *offsets = call->out[ROUTE_OFFSETS];
    int32_t *order = call->out[ROUTE_ORDER], *place = call->out[ROUTE_PLACE];
    int64_t choices = call->tokens * call->out_shape[ROUTE_IDS].size[1];
    int64_t capacity = mixt_router_capacity(spec, call->attributes->capacity, call->tokens);
    int32_t next[MIXT_EXPERTS_MAX];
    assert(mixt_all_within(choices, ids, -1, spec->experts)); /* what every method owes */
    memset(counts, 0, (size_t)spec->experts * sizeof *counts);
    for (int64_t i = 0; i < choices; i++) {
        place[i] = ids[i] >= 0 ? 0 : -1;
        if (ids[i] >= 0) {
            counts[ids[i]]++;
        }
    }
    if (has_excess(call, capacity)) {
        drop_choices(call, capacity);
    }
    offsets[0] = 0;
    for (int e = 0; e < spec->experts; e++) {
        offsets[e + 1] = offsets[e] + (int32_t)mixt_least(counts[e], capacity);
        next[e] = offsets[e];
    }
    for (int64_t i = 0; i < choices; i++) {
        if (place[i] >= 0) {
            place[i] = next[ids[i]]++;
            order[place[i]] = (int32_t)i;
        }
    }
    int64_t room = mixt_rows(&call->out_shape[ROUTE_ORDER], call->tokens);
    assert(offsets[spec->experts] <= room);
    for (int64_t p = offsets[spec->experts]; p < room; p++) {
        order[p] = -1;
    }
}

/* Which rows have only finite logits. */
static void mark_finite(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t experts = call->attributes->router->experts;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        bool finite = true;
        for (int64_t e = 0; e < experts; e++) {
            finite = finite && isfinite(logits[e]);
        }
        ((int32_t *)call->out[ROUTE_FINITE])[t] = finite;
    }
}

void MIXT_REAL(mixt_route_decide)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, mark_finite);
    mixt_router_method_of(call->attributes->router)->MIXT_REAL(choose)(call);
    sort_choices(call);
    MIXT_REAL(mixt_balance_loss)(call);
}

void MIXT_REAL(mixt_route_forward)(const mixt_call *call)
{
    MIXT_REAL(mixt_logits_forward)(call);
    MIXT_REAL(mixt_route_decide)(call);
}

/* The choices themselves are constants. */
void MIXT_REAL(mixt_route_backward)(const mixt_call *call)
{
    int64_t values = call->tokens * call->attributes->router->experts;
    real *d_logits = call->workspace;
    if (call->d_out[ROUTE_WEIGHTS] != NULL) {
        mixt_router_method_of(call->attributes->router)->MIXT_REAL(gradient)(call, d_logits);
    } else {
        memset(d_logits, 0, (size_t)values * sizeof *d_logits);
    }
    MIXT_REAL(mixt_balance_gradient)(call, d_logits, d_logits + values);
    const real *d_raw = MIXT_REAL(mixt_logits_backward)(call, d_logits, d_logits + values);
    mixt_linear_gradients(call, ROUTE_X, ROUTE_WEIGHT, d_raw, true);
}
