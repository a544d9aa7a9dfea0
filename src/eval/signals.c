#include "eval/signals.h"

#include "core/arithmetic.h"

#define ROWS 16 /* of an item of work */

typedef struct route_signals {
    const mixt_kernels_f32 *kernels;
    const mixt_signal_rows *rows;
    mixt_route route;
    const float *bias; /* [E], NULL: none */
    float *margins, *entropies;
} route_signals;

static void signal_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const route_signals *s = context;
    const mixt_router_spec *spec = s->rows->values->spec;
    int64_t end = mixt_least(s->rows->count, (item + 1) * ROWS);
    for (int64_t i = item * ROWS; i < end; i++) {
        int64_t row = s->rows->first + i;
        const float *logits = s->route.scores + row * s->route.experts;
        const int32_t *ids = s->route.ids + row * s->route.chosen;
        s->margins[i] = mixt_router_margin_f32(s->kernels, spec, logits, s->bias, ids);
        s->entropies[i] = mixt_router_entropy_f32(s->kernels, spec, logits);
    }
}

void mixt_signals_of_route(const mixt_signal_rows *rows, float *margins, float *entropies)
{
    float bias[MIXT_EXPERTS_MAX];
    mixt_value_id from = rows->values->select_bias;
    route_signals s = {.kernels = rows->context->device.compute->f32,
                       .rows = rows,
                       .bias = from != MIXT_NO_VALUE ? bias : NULL,
                       .margins = margins,
                       .entropies = entropies};
    mixt_instance_route(rows->instance, rows->values, &s.route);
    if (from != MIXT_NO_VALUE) {
        mixt_instance_read(rows->instance, from, 0, bias, (size_t)s.route.experts * sizeof *bias);
    }
    mixt_pool_run(mixt_context_pool(rows->context), mixt_divide_up(rows->count, ROWS), signal_rows,
                  &s);
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
        float most = l->kernels->max(tokens, row);
        int64_t at = 0;
        while (at < tokens && row[at] != most) {
            at++;
        }
        l->likeliest[i] = at < tokens ? (int32_t)at : 0;
    }
}

void mixt_signals_likeliest(const mixt_context *context, const mixt_logit_rows *rows,
                            int32_t *likeliest)
{
    likeliest_rows l = {context->device.compute->f32, rows, likeliest};
    mixt_pool_run(mixt_context_pool(context), mixt_divide_up(rows->count, ROWS), find_likeliest,
                  &l);
}
