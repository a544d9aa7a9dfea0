/* Changes of the routing: each runs the plan again from the router of the first layer that it
 * changes, over the same rows, and adds up what the loss is more than the unchanged model's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "probe/probe.h"

/* ------------------------------------------------------------------------------------------ */
/* Running from a cut                                                                         */

static int model_layer(const mixt_probe *probe, int layer)
{
    return probe->scorer->graph->routes[layer].layer;
}

mixt_status mixt_probe_go_to(mixt_probe *probe, int layer, mixt_error *error)
{
    mixt_instance *instance = probe->scorer->instance;
    int record = probe->route_record[layer];
    int64_t rows = probe->scorer->batch.rows;
    if (probe->layer >= 0) {
        mixt_instance_cut_restore(instance, probe->position, rows, probe->cut);
    }
    mixt_probe_reset(probe);
    if (probe->layer == layer) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_instance_run(instance, rows, probe->position, record, error));
    size_t bytes = mixt_instance_cut_bytes(instance, record, rows);
    if (bytes > probe->cut_bytes) {
        free(probe->cut);
        probe->cut = malloc(bytes);
        probe->cut_bytes = probe->cut != NULL ? bytes : 0;
        if (probe->cut == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
        }
    }
    mixt_instance_cut_save(instance, record, rows, probe->cut);
    probe->layer = layer;
    probe->position = record;
    return MIXT_OK;
}

mixt_status mixt_probe_run_rest(mixt_probe *probe, mixt_error *error)
{
    return mixt_instance_run(probe->scorer->instance, probe->scorer->batch.rows, probe->position,
                             probe->scorer->graph->plan->record_count, error);
}

int mixt_probe_class(const mixt_probe *probe, int64_t row)
{
    return probe->domains + probe->class_of[probe->scorer->batch.targets[row]];
}

void mixt_probe_add_loss(const mixt_probe *probe, bool less, double *cells)
{
    const mixt_scorer *scorer = probe->scorer;
    const float *nll = mixt_instance_view(scorer->instance, scorer->graph->nll);
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        double *cell = cells + probe->group[piece->document] * probe->buckets;
        int domain = scorer->split->documents[piece->document].domain;
        for (int64_t row = piece->row; row < piece->row + piece->count; row++) {
            if (scorer->batch.targets[row] >= 0) {
                double value = (double)nll[row] - (less ? (double)probe->nll[row] : 0);
                cell[domain] += value;
                cell[mixt_probe_class(probe, row)] += value;
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Experts masked or forced                                                                   */

static int place_of(const mixt_probe *probe, int layer)
{
    int place = 0;
    while (model_layer(probe, place) != layer) {
        place++;
    }
    return place;
}

/* Where no token of the batch chose one of the experts, and choices hang on nothing else, masking
 * them changes nothing. */
static bool is_idle(const mixt_probe *probe, const mixt_probe_target *target)
{
    const mixt_router_options *o = &probe->model->options.router;
    bool idle = o->select == 0 && o->groups == 0;
    for (int i = 0; i < target->count && idle; i++) {
        int place = place_of(probe, target->layer[i]);
        idle = !probe->chosen[place * probe->experts + target->expert[i]];
    }
    return idle;
}

static void make_nan(double *cells, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        cells[i] = NAN;
    }
}

mixt_status mixt_probe_mask(mixt_probe *probe, size_t index, mixt_error *error)
{
    const mixt_probe_target *target = &probe->targets[index];
    int64_t size = (int64_t)probe->groups * probe->buckets;
    double *cells = probe->sum[SUM_MASK] + (int64_t)index * size;
    if (is_idle(probe, target)) {
        return MIXT_OK;
    }
    int first = place_of(probe, target->layer[0]);
    for (int i = 1; i < target->count; i++) {
        int place = place_of(probe, target->layer[i]);
        first = place < first ? place : first;
    }
    MIXT_TRY(mixt_probe_go_to(probe, first, error));
    mixt_status possible = MIXT_OK;
    for (int i = 0; i < target->count; i++) {
        int place = target->layer[i] * MIXT_PROBE_NUMBERS;
        mixt_probe_router *router = &probe->changed[place];
        if (probe->routers[place] != &router->spec) {
            router = mixt_probe_change(probe, target->layer[i], 0);
        }
        router->mask[target->expert[i]] = 1;
        router->spec.mask = router->mask;
    }
    for (int i = 0; i < target->count && possible == MIXT_OK; i++) {
        possible = mixt_router_check(probe->routers[target->layer[i] * MIXT_PROBE_NUMBERS], NULL);
    }
    if (possible != MIXT_OK) { /* fewer are left than a token has: there is no such model */
        make_nan(cells, size);
        return MIXT_OK;
    }
    MIXT_TRY(mixt_probe_run_rest(probe, error));
    mixt_probe_add_loss(probe, true, cells);
    return MIXT_OK;
}

mixt_status mixt_probe_first(mixt_probe *probe, size_t index, mixt_error *error)
{
    const mixt_probe_target *target = &probe->targets[index];
    int64_t size = (int64_t)probe->groups * probe->buckets;
    double *cells = probe->sum[SUM_FIRST] + (int64_t)index * size;
    if (target->count != 1) { /* there is one first place */
        make_nan(cells, size);
        return MIXT_OK;
    }
    MIXT_TRY(mixt_probe_go_to(probe, place_of(probe, target->layer[0]), error));
    mixt_probe_router *router = mixt_probe_change(probe, target->layer[0], 0);
    router->forced[0] = target->expert[0];
    router->spec.forced = router->forced;
    if (mixt_router_check(&router->spec, NULL) != MIXT_OK) {
        make_nan(cells, size);
        return MIXT_OK;
    }
    MIXT_TRY(mixt_probe_run_rest(probe, error));
    mixt_probe_add_loss(probe, true, cells);
    return MIXT_OK;
}

mixt_status mixt_probe_alone(mixt_probe *probe, int layer, mixt_error *error)
{
    int64_t size = (int64_t)probe->groups * probe->buckets;
    MIXT_TRY(mixt_probe_go_to(probe, layer, error));
    mixt_probe_router *router = mixt_probe_change(probe, model_layer(probe, layer), 0);
    router->spec.chosen = 1;
    if (mixt_router_check(&router->spec, NULL) != MIXT_OK) {
        make_nan(probe->sum[SUM_ALONE] + layer * size, size);
        return MIXT_OK;
    }
    MIXT_TRY(mixt_probe_run_rest(probe, error));
    mixt_probe_add_loss(probe, true, probe->sum[SUM_ALONE] + layer * size);
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Other routes of a token                                                                    */

/* Nats that rounding makes of the router's own experts in another order: no gain and no loss. */
#define SAME_LOSS 1e-5

/* A token whose experts are replaced, one of a piece of a document: what comes before it in the
 * piece is as it was. */
typedef struct sampled {
    int64_t row;
    uint64_t number; /* of the token in the split */
    int domain, group;
    int better; /* draws that predict worse than the router's own choice, and half of equal ones */
    double sum, best;
} sampled;

/* Keys of draws: of the token, and of the experts in a layer. */
static mixt_random_key key_of(const mixt_probe *probe, int layer, int experiment)
{
    return (mixt_random_key){probe->options->seed, MIXT_RANDOM_PROBE,
                             (uint32_t)(layer + 1) * 4 + (uint32_t)experiment};
}

static int sample(const mixt_probe *probe, sampled *tokens)
{
    const mixt_scorer *scorer = probe->scorer;
    mixt_random_key key = key_of(probe, -1, 0);
    int count = 0;
    for (int i = 0; i < scorer->piece_count && count < MIXT_PROBE_NUMBERS - 1; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        const mixt_data_document *d = &scorer->split->documents[piece->document];
        uint64_t begin = d->start + piece->from;
        int64_t row = piece->row + (int64_t)mixt_random_below(&key, begin, (uint64_t)piece->count);
        if (scorer->batch.targets[row] >= 0) {
            tokens[count++] = (sampled){.row = row,
                                        .number = begin + (uint64_t)(row - piece->row),
                                        .domain = d->domain,
                                        .group = probe->group[piece->document],
                                        .best = -INFINITY};
        }
    }
    return count;
}

/* k distinct experts at random, as a token's choices in one layer. */
static void force_random(mixt_probe *probe, int layer, int number, const sampled *token, int draw)
{
    mixt_random_key key = key_of(probe, layer, 1);
    mixt_probe_router *router = mixt_probe_change(probe, layer, number);
    uint64_t experts = (uint64_t)probe->experts;
    uint64_t first = (token->number * 4096 + (uint64_t)draw) * experts;
    int32_t order[MIXT_EXPERTS_MAX];
    int left = 0;
    for (int32_t e = 0; e < probe->experts; e++) {
        if (router->spec.mask == NULL || router->spec.mask[e] == 0) {
            order[left++] = e;
        }
    }
    for (int j = 0; j < router->spec.chosen; j++) { /* the beginning of a shuffle */
        uint64_t at =
            (uint64_t)j + mixt_random_below(&key, first + (uint64_t)j, (uint64_t)(left - j));
        router->forced[j] = order[at];
        order[at] = order[j];
    }
    router->spec.forced = router->forced;
}

static void add_sampled(const mixt_probe *probe, int layer, const sampled *token)
{
    int buckets = probe->buckets + MIXT_PROBE_DIFFICULTIES;
    double *sums = probe->sum[SUM_ROUTES] +
                   ((int64_t)layer * probe->groups + token->group) * buckets * ROUTE_SUMS;
    int difficulty = 0, draws = probe->options->draws > 0 ? probe->options->draws : 8;
    while (difficulty < MIXT_PROBE_DIFFICULTIES - 1 &&
           (double)probe->nll[token->row] >= mixt_probe_difficulty[difficulty]) {
        difficulty++;
    }
    const int in[] = {token->domain, mixt_probe_class(probe, token->row),
                      probe->buckets + difficulty};
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        double *at = sums + in[i] * ROUTE_SUMS;
        at[ROUTE_SAMPLES]++;
        at[ROUTE_BETTER] += 0.5 * token->better / draws;
        at[ROUTE_MEAN] += token->sum / draws;
        at[ROUTE_BEST] += token->best;
    }
}

/* Which router decides for which row. */
static void number_rows(mixt_probe *probe, const sampled *tokens, int count, bool apart)
{
    mixt_batch *batch = &probe->scorer->batch;
    for (int i = 0; i < count; i++) {
        batch->variant[tokens[i].row] = apart ? i + 1 : 0;
    }
    mixt_instance_write(probe->scorer->instance, probe->scorer->graph->variant, batch->variant,
                        (size_t)batch->rows * sizeof *batch->variant);
}

static mixt_status draw_routes(mixt_probe *probe, int layer, sampled *tokens, int count,
                               mixt_error *error)
{
    const mixt_graph *graph = probe->scorer->graph;
    int draws = probe->options->draws > 0 ? probe->options->draws : 8, from = layer;
    for (int i = probe->layers - 1; i >= 0 && layer == probe->layers; i--) {
        from = mixt_probe_wants_layer(probe, i) ? i : from;
    }
    for (int draw = 0; draw < draws; draw++) {
        MIXT_TRY(mixt_probe_go_to(probe, from, error));
        for (int i = from; i < probe->layers; i++) {
            for (int j = 0; j < count && (i == layer || layer == probe->layers) &&
                            mixt_probe_wants_layer(probe, i);
                 j++) {
                force_random(probe, model_layer(probe, i), j + 1, &tokens[j], draw);
            }
        }
        MIXT_TRY(mixt_probe_run_rest(probe, error));
        const float *nll = mixt_instance_view(probe->scorer->instance, graph->nll);
        for (int j = 0; j < count; j++) {
            double gain = (double)probe->nll[tokens[j].row] - (double)nll[tokens[j].row];
            tokens[j].better += gain < -SAME_LOSS ? 2 : gain <= SAME_LOSS;
            tokens[j].sum += gain;
            tokens[j].best = gain > tokens[j].best ? gain : tokens[j].best;
        }
    }
    return MIXT_OK;
}

mixt_status mixt_probe_routes(mixt_probe *probe, int layer, mixt_error *error)
{
    sampled tokens[MIXT_PROBE_NUMBERS] = {{0}};
    int count = sample(probe, tokens);
    number_rows(probe, tokens, count, true);
    mixt_status status = count > 0 ? draw_routes(probe, layer, tokens, count, error) : MIXT_OK;
    number_rows(probe, tokens, count, false);
    for (int j = 0; j < count && status == MIXT_OK; j++) {
        add_sampled(probe, layer, &tokens[j]);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Noise on what the router is given                                                          */

typedef struct noisy {
    mixt_probe *probe;
    mixt_route_values values;
    const float *x; /* [rows, d]: without noise */
    float *made;    /* with */
    float *margins; /* [rows] of the choice without */
    int layer;
    int64_t width, rows;
    double sigma;
} noisy;

static void make_noise(const noisy *n, int level)
{
    const mixt_scorer *scorer = n->probe->scorer;
    mixt_random_key key = key_of(n->probe, n->layer * MIXT_PROBE_SIGMAS + level, 2);
    memcpy(n->made, n->x, (size_t)(n->rows * n->width) * sizeof *n->made);
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        uint64_t begin = scorer->split->documents[piece->document].start + piece->from;
        for (int64_t j = 0; j < piece->count; j++) {
            const float *x = n->x + (piece->row + j) * n->width;
            float *made = n->made + (piece->row + j) * n->width;
            double squares = 0;
            for (int64_t c = 0; c < n->width; c++) {
                squares += (double)x[c] * (double)x[c];
            }
            double size = mixt_probe_sigmas[level] * sqrt(squares / (double)n->width);
            uint64_t first = (begin + (uint64_t)j) * (uint64_t)n->width;
            for (int64_t c = 0; c < n->width; c++) {
                made[c] =
                    (float)((double)x[c] + size * mixt_random_normal(&key, first + (uint64_t)c));
            }
        }
    }
}

static bool has(const int32_t *ids, int count, int32_t id)
{
    for (int i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static void compare_choices(const noisy *n, int level)
{
    const mixt_probe *probe = n->probe;
    const mixt_scorer *scorer = probe->scorer;
    mixt_route route;
    mixt_instance_route(scorer->instance, &n->values, &route);
    int k = route.chosen;
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        double *sums = probe->sum[SUM_NOISE] +
                       (((int64_t)n->layer * MIXT_PROBE_SIGMAS + level) * probe->groups +
                        probe->group[piece->document]) *
                           NOISE_SUMS;
        for (int64_t row = piece->row; row < piece->row + piece->count; row++) {
            const int32_t *before = probe->ids + row * k, *after = route.ids + row * k;
            int changed = 0;
            for (int j = 0; j < k; j++) {
                changed += before[j] >= 0 && !has(after, k, before[j]);
                sums[NOISE_CHOICES] += before[j] >= 0;
            }
            double margin = isfinite(n->margins[row]) ? (double)n->margins[row] : 0;
            sums[NOISE_TOKENS]++;
            sums[NOISE_CHANGED] += changed;
            sums[NOISE_FIRST] += before[0] != after[0];
            sums[NOISE_MOVED] += changed > 0;
            sums[changed > 0 ? NOISE_MOVED_MARGIN : NOISE_STAYED_MARGIN] += margin;
        }
    }
}

/* The choices without noise, and how far each stands above the next. */
static void read_margins(const noisy *n)
{
    const mixt_probe *probe = n->probe;
    mixt_instance *instance = probe->scorer->instance;
    const mixt_kernels_f32 *kernels = probe->context->device.compute->f32;
    mixt_route route;
    float bias[MIXT_EXPERTS_MAX];
    mixt_instance_route(instance, &n->values, &route);
    bool biased = n->values.select_bias != MIXT_NO_VALUE;
    if (biased) {
        mixt_instance_read(instance, n->values.select_bias, 0, bias,
                           (size_t)route.experts * sizeof *bias);
    }
    memcpy(probe->ids, route.ids, (size_t)(n->rows * route.chosen) * sizeof *probe->ids);
    for (int64_t row = 0; row < n->rows; row++) {
        n->margins[row] = mixt_router_margin_f32(
            kernels, &probe->base[n->values.layer], route.scores + row * route.experts,
            biased ? bias : NULL, route.ids + row * route.chosen);
    }
}

static mixt_status run_noise(const noisy *n, mixt_value_id x, mixt_error *error)
{
    mixt_instance *instance = n->probe->scorer->instance;
    int record = n->probe->position;
    size_t bytes = (size_t)(n->rows * n->width) * sizeof(float);
    MIXT_TRY(mixt_instance_run(instance, n->rows, record, record + 1, error));
    read_margins(n);
    for (int level = 0; level < MIXT_PROBE_SIGMAS; level++) {
        make_noise(n, level);
        mixt_instance_write(instance, x, n->made, bytes);
        MIXT_TRY(mixt_instance_run(instance, n->rows, record, record + 1, error));
        compare_choices(n, level);
    }
    mixt_instance_write(instance, x, n->x, bytes);
    return MIXT_OK;
}

mixt_status mixt_probe_noise(mixt_probe *probe, int layer, mixt_error *error)
{
    MIXT_TRY(mixt_probe_go_to(probe, layer, error));
    const mixt_graph *graph = probe->scorer->graph;
    mixt_value_id x = graph->plan->records[probe->position].in[ROUTE_X];
    int64_t rows = probe->scorer->batch.rows, width = probe->width;
    size_t values = (size_t)(rows * width);
    float *block = malloc((2 * values + (size_t)rows) * sizeof *block);
    if (block == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    mixt_instance_read(probe->scorer->instance, x, 0, block, values * sizeof *block);
    noisy n = {.probe = probe,
               .values = graph->routes[layer],
               .x = block,
               .made = block + values,
               .margins = block + 2 * values,
               .layer = layer,
               .width = width,
               .rows = rows};
    mixt_status status = run_noise(&n, x, error);
    free(block);
    return status;
}
