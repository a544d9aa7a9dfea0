/* A model beside its quantised copy, on a text. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "eval/compare.h"

typedef struct fidelity {
    mixt_comparison comparison;
    mixt_fidelity *result;
    float *divergences; /* [tokens], of which the 99th of 100 is found */
    size_t capacity;
    uint64_t *counted; /* [layers] */
} fidelity;

static mixt_status add_row(fidelity *f, int64_t row, mixt_error *error)
{
    const mixt_comparison *c = &f->comparison;
    mixt_fidelity *to = f->result;
    const float *a = mixt_instance_view(c->a->instance, c->a->graph->nll);
    const float *b = mixt_instance_view(c->b->instance, c->b->graph->nll);
    for (int layer = 0; layer < c->layers; layer++) {
        const mixt_compared_route *route = &c->routes[row * c->layers + layer];
        if (route->sets >= 0) {
            to->layer[layer].sets += (double)route->sets;
            to->layer[layer].first += (double)route->first;
            to->layer[layer].kept += (double)route->kept;
            to->layer[layer].kl += (double)route->kl * 1.4426950408889634; /* bits */
            f->counted[layer]++;
        }
    }
    if (c->a->batch.targets[row] < 0) {
        return MIXT_OK;
    }
    if (!mixt_grow(&f->divergences, &f->capacity, (size_t)to->tokens + 1, sizeof *f->divergences)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "fidelity: no memory");
    }
    f->divergences[to->tokens++] = c->kl[row];
    to->kl += (double)c->kl[row];
    to->same_top += c->same[row];
    to->nats[0] += (double)a[row];
    to->nats[1] += (double)b[row];
    return MIXT_OK;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static mixt_status finish(fidelity *f, mixt_error *error)
{
    mixt_fidelity *to = f->result;
    double tokens = (double)to->tokens;
    if (to->tokens == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "fidelity: the text has no token to score");
    }
    if (!isfinite(to->nats[0]) || !isfinite(to->nats[1]) || !isfinite(to->kl)) {
        return mixt_fail(error, MIXT_ERROR_NUMERIC, "fidelity: the loss is not a finite number");
    }
    qsort(f->divergences, (size_t)to->tokens, sizeof *f->divergences, by_size);
    to->kl_99 = (double)f->divergences[(size_t)ceil(0.99 * tokens) - 1];
    to->kl /= tokens;
    to->same_top /= tokens;
    for (int i = 0; i < to->layers; i++) {
        double counted = (double)f->counted[i];
        mixt_fidelity_layer *layer = &to->layer[i];
        layer->layer = f->comparison.a->graph->routes[i].layer;
        layer->sets = counted > 0 ? layer->sets / counted : (double)NAN;
        layer->first = counted > 0 ? layer->first / counted : (double)NAN;
        layer->kept = counted > 0 ? layer->kept / counted : (double)NAN;
        layer->kl = counted > 0 ? layer->kl / counted : (double)NAN;
    }
    return MIXT_OK;
}

/* The next batch of both; *done where there is none. */
static mixt_status run_batch(fidelity *f, const mixt_fidelity_options *options, bool *done,
                             mixt_error *error)
{
    mixt_comparison *c = &f->comparison;
    MIXT_TRY(mixt_scorer_next(c->a, error));
    MIXT_TRY(mixt_scorer_next(c->b, error));
    *done = c->a->piece_count == 0;
    if (*done) {
        return MIXT_OK;
    }
    mixt_comparison_run(c);
    for (int i = 0; i < c->a->piece_count; i++) {
        const mixt_excerpt *piece = &c->a->pieces[i];
        for (int64_t row = piece->row; row < piece->row + piece->count; row++) {
            MIXT_TRY(add_row(f, row, error));
        }
    }
    return mixt_go_on(options->progress, options->user, (double)c->a->done, (double)c->a->total,
                      error);
}

mixt_status mixt_fidelity_measure(mixt_context *context, const mixt_model *first,
                                  const mixt_model *other, const mixt_data *data,
                                  const mixt_fidelity_options *options, mixt_fidelity *result,
                                  mixt_error *error)
{
    *result = (mixt_fidelity){0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_fidelity_options, options, error));
    fidelity f = {.result = result};
    mixt_status status =
        mixt_comparison_open(context, first, other, data, options, &f.comparison, error);
    if (status == MIXT_OK) {
        result->layers = f.comparison.layers;
        result->layer = calloc((size_t)result->layers + 1, sizeof *result->layer);
        f.counted = calloc((size_t)result->layers + 1, sizeof *f.counted);
        status = result->layer != NULL && f.counted != NULL
                     ? MIXT_OK
                     : mixt_fail(error, MIXT_ERROR_MEMORY, "fidelity: no memory");
    }
    bool done = false;
    while (status == MIXT_OK && !done) {
        status = run_batch(&f, options, &done, error);
    }
    if (status == MIXT_OK) {
        status = finish(&f, error);
    }
    mixt_comparison_close(&f.comparison);
    free(f.divergences);
    free(f.counted);
    if (status != MIXT_OK) {
        mixt_fidelity_free(result);
    }
    return status;
}

void mixt_fidelity_free(mixt_fidelity *result)
{
    free(result->layer);
    *result = (mixt_fidelity){0};
}
