#include "eval/signals.h"

#include <math.h>

#include "core/arithmetic.h"
#include "ops/head.h"

#define ROWS 16 /* of an item of work */

typedef struct route_signals {
    const mixt_kernels_f32 *kernels;
    const mixt_router_spec *spec;
    mixt_route route;
    int64_t count;
    const float *bias; /* [E], NULL: none */
    float *margins, *entropies;
} route_signals;

static void signal_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const route_signals *s = context;
    int64_t end = mixt_least(s->count, (item + 1) * ROWS);
    for (int64_t i = item * ROWS; i < end; i++) {
        const float *logits = s->route.scores + i * s->route.experts;
        const int32_t *ids = s->route.ids + i * s->route.chosen;
        s->margins[i] = mixt_router_margin_f32(s->kernels, s->spec, logits, s->bias, ids);
        s->entropies[i] = mixt_router_entropy_f32(s->kernels, s->spec, logits);
    }
}

void mixt_signals_of_route(const mixt_context *context, const mixt_instance *instance,
                           const mixt_route_values *values, float *margins, float *entropies)
{
    float bias[MIXT_EXPERTS_MAX];
    mixt_value_id from = values->select_bias;
    route_signals s = {.kernels = context->device.compute->f32,
                       .spec = values->spec,
                       .bias = from != MIXT_NO_VALUE ? bias : NULL,
                       .margins = margins,
                       .entropies = entropies};
    mixt_instance_route(instance, values, &s.route);
    s.count = s.route.tokens;
    if (from != MIXT_NO_VALUE) {
        mixt_instance_read(instance, from, 0, bias, (size_t)s.route.experts * sizeof *bias);
    }
    mixt_pool_run(mixt_context_pool(context), mixt_divide_up(s.count, ROWS), signal_rows, &s);
}

typedef struct likeliest_rows {
    const mixt_kernels_f32 *kernels;
    const mixt_logit_rows *rows;
    int32_t *likeliest;
} likeliest_rows;

static void find_likeliest(void *context, int64_t item, int thread)
{
    (void)thread;
    const likeliest_rows *l = context;
    int64_t tokens = l->rows->tokens;
    int64_t end = mixt_least(l->rows->count, (item + 1) * ROWS);
    for (int64_t i = item * ROWS; i < end; i++) {
        const float *row = l->rows->logits + i * l->rows->vocabulary;
        int32_t known = l->rows->largest[i];
        if (known < 0 || known >= tokens) {
            mixt_largest_f32(l->kernels, tokens, row, &known);
        }
        l->likeliest[i] = known >= 0 ? known : 0;
    }
}

void mixt_signals_likeliest(const mixt_context *context, const mixt_logit_rows *rows,
                            int32_t *likeliest)
{
    likeliest_rows l = {context->device.compute->f32, rows, likeliest};
    mixt_pool_run(mixt_context_pool(context), mixt_divide_up(rows->count, ROWS), find_likeliest,
                  &l);
}
