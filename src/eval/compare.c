#include "eval/compare.h"

#include <math.h>
#include <stdlib.h>

/* log of the sum of exp over values [count]. */
static double log_sum(const float *values, int64_t count)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < count; i++) {
        most = (double)values[i] > most ? (double)values[i] : most;
    }
    for (int64_t i = 0; i < count; i++) {
        sum += (double)expf((float)((double)values[i] - most));
    }
    return most + log(sum);
}

/* KL of softmax(a) from softmax(b), nats; whether both have their largest value at one place. */
static double divergence(const float *a, const float *b, int64_t count, bool *same)
{
    double sum_a = log_sum(a, count), sum_b = log_sum(b, count), kl = 0;
    int64_t top_a = 0, top_b = 0;
    for (int64_t i = 0; i < count; i++) {
        double log_a = (double)a[i] - sum_a, p = (double)expf((float)log_a);
        kl += p > 0 ? p * (log_a - ((double)b[i] - sum_b)) : 0;
        top_a = a[i] > a[top_a] ? i : top_a;
        top_b = b[i] > b[top_b] ? i : top_b;
    }
    *same = top_a == top_b;
    return kl > 0 || isnan(kl) ? kl : 0;
}

static int place_of(const int32_t *ids, int count, int32_t id)
{
    for (int i = 0; i < count; i++) {
        if (ids[i] == id) {
            return i;
        }
    }
    return -1;
}

static mixt_compared_route compare_routes(const mixt_route *a, const mixt_route *b, int64_t row)
{
    const int32_t *x = a->ids + row * a->chosen, *y = b->ids + row * b->chosen;
    const float *weights = a->weights + row * a->chosen;
    int both = 0, of_a = 0, of_b = 0;
    double kept = 0, total = 0;
    for (int c = 0; c < b->chosen; c++) {
        of_b += y[c] >= 0;
    }
    for (int c = 0; c < a->chosen; c++) {
        bool shared = x[c] >= 0 && place_of(y, b->chosen, x[c]) >= 0;
        of_a += x[c] >= 0;
        both += shared;
        kept += shared ? (double)weights[c] : 0;
        total += x[c] >= 0 ? (double)weights[c] : 0;
    }
    bool unused;
    mixt_compared_route found = {.sets = -1};
    if (of_a > 0 && of_b > 0 && total > 0) {
        found.sets = (float)both / (float)(of_a > of_b ? of_a : of_b);
        found.first = x[0] == y[0];
        found.kept = (float)(kept / total);
        found.kl = (float)divergence(a->scores + row * a->experts, b->scores + row * b->experts,
                                     a->experts, &unused);
    }
    return found;
}

/* A row of the batch. */
static void compare_row(void *context, int64_t row, int thread)
{
    mixt_comparison *c = context;
    (void)thread;
    int64_t vocabulary = c->a->model->options.vocab_size;
    const float *a = mixt_instance_view(c->a->instance, c->a->graph->logits);
    const float *b = mixt_instance_view(c->b->instance, c->b->graph->logits);
    if (c->a->batch.targets[row] >= 0) {
        c->kl[row] = (float)divergence(a + row * vocabulary, b + row * vocabulary, vocabulary,
                                       &c->same[row]);
    }
    for (int layer = 0; layer < c->layers; layer++) {
        mixt_route x, y;
        mixt_instance_route(c->a->instance, &c->a->graph->routes[layer], &x);
        mixt_instance_route(c->b->instance, &c->b->graph->routes[layer], &y);
        c->routes[row * c->layers + layer] = compare_routes(&x, &y, row);
    }
}

void mixt_comparison_run(mixt_comparison *c)
{
    mixt_pool_run(mixt_context_pool(c->context), c->a->batch.rows, compare_row, c);
}

static mixt_status check_models(const mixt_model *a, const mixt_model *b, mixt_error *error)
{
    const char *what = NULL;
    int x = a->options.vocab_size, y = b->options.vocab_size;
    if (x != y) {
        what = "ids in the vocabulary";
    } else if ((x = mixt_model_moe_layers(a)) != (y = mixt_model_moe_layers(b))) {
        what = "layers with experts";
    } else if (x > 0 && (x = a->router.experts) != (y = b->router.experts)) {
        what = "experts in a layer";
    } else {
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                     "fidelity: the models cannot be compared: %d and %d %s", x, y, what);
}

mixt_status mixt_comparison_open(mixt_context *context, const mixt_model *first,
                                 const mixt_model *other, const mixt_data *data,
                                 const mixt_fidelity_options *options, mixt_comparison *c,
                                 mixt_error *error)
{
    *c = (mixt_comparison){.context = context, .layers = mixt_model_moe_layers(first)};
    mixt_scorer_options scoring = {.window = options->window,
                                   .max_tokens = options->max_tokens,
                                   .heldout = options->heldout,
                                   .drops = c->layers > 0,
                                   .logits = true};
    MIXT_TRY(check_models(first, other, error));
    MIXT_TRY(mixt_scorer_create(context, first, data, &scoring, &c->a, error));
    MIXT_TRY(mixt_scorer_create(context, other, data, &scoring, &c->b, error));
    size_t rows = (size_t)c->a->capacity;
    c->kl = calloc(rows, sizeof *c->kl);
    c->same = calloc(rows, sizeof *c->same);
    c->routes = calloc(rows * (size_t)(c->layers + 1), sizeof *c->routes);
    return c->kl != NULL && c->same != NULL && c->routes != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "fidelity: no memory");
}

void mixt_comparison_close(mixt_comparison *c)
{
    mixt_scorer_free(c->a);
    mixt_scorer_free(c->b);
    free(c->kl);
    free(c->same);
    free(c->routes);
}
