/* How alike the experts of a layer are: cosines of their mean outputs, and of all their weights. */
#include <math.h>
#include <stdlib.h>

#include "probe/probe.h"

#define SLAB_VALUES ((size_t)1 << 16) /* of each expert at a time */

/* Sums of products [E, E] become cosines; the products of nothing 0. */
static void normalise(double *products, int experts)
{
    size_t count = (size_t)experts;
    for (size_t a = 0; a < count; a++) {
        for (size_t b = 0; b < a; b++) {
            double norm = sqrt(products[a * count + a] * products[b * count + b]);
            double cosine = norm > 0 ? products[a * count + b] / norm : 0;
            products[a * count + b] = products[b * count + a] = cosine;
        }
    }
    for (size_t a = 0; a < count; a++) {
        products[a * count + a] = 1;
    }
}

void mixt_probe_output_cosines(const mixt_probe *probe, int layer, double *cosines)
{
    size_t experts = (size_t)probe->experts, width = (size_t)probe->width;
    const double *means = probe->sum[SUM_MEANS] + (size_t)layer * experts * width;
    for (size_t a = 0; a < experts; a++) {
        for (size_t b = 0; b <= a; b++) {
            double sum = 0;
            for (size_t i = 0; i < width; i++) {
                sum += means[a * width + i] * means[b * width + i];
            }
            cosines[a * experts + b] = sum;
        }
    }
    normalise(cosines, probe->experts);
}

/* A slab of values of every expert, and the products to add them to. */
typedef struct slab {
    const float *values; /* [E, size] */
    size_t size, experts;
    double *products;
} slab;

static void add_products(void *context, int64_t a, int thread)
{
    (void)thread;
    const slab *s = context;
    const float *left = s->values + (size_t)a * s->size;
    for (size_t b = 0; b <= (size_t)a; b++) {
        const float *right = s->values + b * s->size;
        double sum = 0;
        for (size_t i = 0; i < s->size; i++) {
            sum += (double)left[i] * (double)right[i];
        }
        s->products[(size_t)a * s->experts + b] += sum;
    }
}

/* Adds the products of one stack of matrices, whole rows at a time. */
static void add_stack(const mixt_probe *probe, const mixt_model *model, int index, float *values,
                      double *products)
{
    const mixt_parameter *p = &model->parameters[index];
    size_t experts = (size_t)p->size[0], each = p->count / experts;
    size_t columns = (size_t)p->size[p->rank - 1];
    size_t step = SLAB_VALUES / columns > 0 ? SLAB_VALUES / columns * columns : columns;
    for (size_t first = 0; first < each; first += step) {
        size_t size = each - first < step ? each - first : step;
        for (size_t e = 0; e < experts; e++) {
            mixt_model_values(model, index, e * each + first, size, values + e * size);
        }
        slab s = {values, size, (size_t)probe->experts, products};
        mixt_pool_run(mixt_context_pool(probe->context), (int64_t)experts, add_products, &s);
    }
}

mixt_status mixt_probe_weight_cosines(const mixt_probe *probe, int layer, double *cosines,
                                      mixt_error *error)
{
    static const mixt_slot slots[] = {MIXT_SLOT_EXPERT_GATE, MIXT_SLOT_EXPERT_UP,
                                      MIXT_SLOT_EXPERT_DOWN};
    const mixt_model_options *o = &probe->model->options;
    size_t widest = (size_t)(o->hidden_size > o->ffn_size ? o->hidden_size : o->ffn_size);
    size_t most = widest > SLAB_VALUES ? widest : SLAB_VALUES;
    mixt_model whole;
    MIXT_TRY(mixt_model_whole(probe->model, &whole, error));
    float *values = malloc((size_t)o->experts * most * sizeof *values);
    if (values == NULL) {
        mixt_model_whole_free(&whole);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    for (int i = 0; i < probe->experts * probe->experts; i++) {
        cosines[i] = 0;
    }
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        int index = mixt_model_find(probe->model, slots[i], layer);
        if (index >= 0) {
            add_stack(probe, &whole, index, values, cosines);
        }
    }
    free(values);
    mixt_model_whole_free(&whole);
    normalise(cosines, probe->experts);
    return mixt_model_intact(probe->model, error);
}
