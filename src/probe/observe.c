/* What experts give, read while the unchanged model runs: how often they are chosen, gate times
 * norm (REAP), their largest output (super experts), norms, means, and how much of a layer's output
 * a token's first expert is (lens). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "probe/probe.h"

struct mixt_probe_observer {
    mixt_probe *probe;
    const mixt_plan *plan;
    float *rows;          /* [rows in use, d]: of the layer that is read */
    size_t room;          /* in values */
    float *first, *whole; /* [capacity, d]: first expert's output; the layer's */
    bool *has_first;      /* [capacity] */
    int16_t *group;       /* [capacity]: of the row's document, -1: no token of a text */
    mixt_route route;
    int layer;
    bool failed;
};

mixt_status mixt_probe_observe(mixt_probe *probe, mixt_probe_observer **result, mixt_error *error)
{
    *result = NULL;
    mixt_probe_observer *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    const mixt_scorer *scorer = probe->scorer;
    size_t rows = (size_t)scorer->capacity, values = rows * (size_t)probe->width;
    o->probe = probe;
    o->plan = scorer->graph->plan;
    o->first = calloc(values, sizeof *o->first);
    o->whole = calloc(values, sizeof *o->whole);
    o->has_first = calloc(rows, sizeof *o->has_first);
    o->group = calloc(rows, sizeof *o->group);
    if (o->first == NULL || o->whole == NULL || o->has_first == NULL || o->group == NULL) {
        mixt_probe_observer_free(o);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    *result = o;
    return MIXT_OK;
}

void mixt_probe_observer_free(mixt_probe_observer *observer)
{
    if (observer != NULL) {
        free(observer->rows);
        free(observer->first);
        free(observer->whole);
        free(observer->has_first);
        free(observer->group);
        free(observer);
    }
}

/* Whose rows are whose. */
static void begin(mixt_probe_observer *o)
{
    const mixt_scorer *scorer = o->probe->scorer;
    for (int64_t row = 0; row < scorer->capacity; row++) {
        o->group[row] = -1;
    }
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        for (int64_t j = 0; j < piece->count; j++) {
            o->group[piece->row + j] = o->probe->group[piece->document];
        }
    }
}

/* A row of an expert's output. */
typedef struct output_row {
    const float *values;
    int32_t token;
    double share; /* its gate, over the sum of the token's */
    int group;
} output_row;

static void add_row(const mixt_probe *probe, size_t expert, const output_row *row)
{
    size_t width = (size_t)probe->width;
    double *use =
        probe->sum[SUM_USE] + (expert * (size_t)probe->groups + (size_t)row->group) * USE_SUMS;
    double *out = probe->sum[SUM_OUTPUT] + expert * OUTPUT_SUMS;
    double squares = 0, largest = 0;
    size_t column = 0;
    for (size_t i = 0; i < width; i++) {
        double value = fabs((double)row->values[i]);
        squares += value * value;
        if (value > largest) {
            largest = value;
            column = i;
        }
    }
    double norm = sqrt(squares);
    use[USE_CHOICES]++;
    use[USE_REAP] += row->share * norm;
    out[OUTPUT_NORM] += norm;
    out[OUTPUT_SQUARE] += squares;
    if (largest > out[OUTPUT_LARGEST]) {
        out[OUTPUT_LARGEST] = largest;
        out[OUTPUT_TOKEN] = row->token;
        out[OUTPUT_COLUMN] = (double)column;
    }
    if (probe->sum_count[SUM_MEANS] > 0) {
        double *mean = probe->sum[SUM_MEANS] + expert * width;
        for (size_t i = 0; i < width; i++) {
            mean[i] += (double)row->values[i];
        }
    }
}

/* All rows of one expert: those of another are another's. */
static void add_expert(void *context, int64_t expert, int thread)
{
    (void)thread;
    mixt_probe_observer *o = context;
    const mixt_probe *probe = o->probe;
    const mixt_route *route = &o->route;
    size_t width = (size_t)probe->width;
    for (int32_t p = route->offsets[expert]; p < route->offsets[expert + 1]; p++) {
        int32_t choice = route->order[p], row = choice / route->chosen;
        if (o->group[row] < 0) {
            continue;
        }
        const float *weights = route->weights + (size_t)row * (size_t)route->chosen;
        double sum = 0;
        for (int j = 0; j < route->chosen; j++) {
            sum += (double)weights[j];
        }
        output_row out = {.values = o->rows + (size_t)p * width,
                          .token = probe->scorer->batch.tokens[row],
                          .share = sum > 0 ? (double)weights[choice % route->chosen] / sum : 0,
                          .group = o->group[row]};
        add_row(probe, (size_t)(o->layer * probe->experts) + (size_t)expert, &out);
        if (choice % route->chosen == 0) {
            memcpy(o->first + (size_t)row * width, out.values, width * sizeof *o->first);
            o->has_first[row] = true;
        }
    }
}

static void read_experts(mixt_probe_observer *o, const mixt_instance *instance)
{
    const mixt_graph *graph = o->probe->scorer->graph;
    mixt_instance_route(instance, &graph->routes[o->layer], &o->route);
    size_t values = (size_t)o->route.offsets[o->probe->experts] * (size_t)o->probe->width;
    if (values > o->room) {
        free(o->rows);
        o->rows = malloc(values * sizeof *o->rows);
        o->room = o->rows != NULL ? values : 0;
        o->failed = o->failed || o->rows == NULL;
    }
    memset(o->has_first, 0, (size_t)o->probe->scorer->capacity * sizeof *o->has_first);
    if (values <= o->room) {
        mixt_instance_read(instance, graph->mixtures[o->layer].rows, 0, o->rows,
                           values * sizeof *o->rows);
        mixt_pool_run(mixt_context_pool(o->probe->context), o->probe->experts, add_expert, o);
    }
}

static double cosine(const float *a, const float *b, int64_t width)
{
    double dot = 0, x = 0, y = 0;
    for (int64_t i = 0; i < width; i++) {
        dot += (double)a[i] * (double)b[i];
        x += (double)a[i] * (double)a[i];
        y += (double)b[i] * (double)b[i];
    }
    return x > 0 && y > 0 ? dot / sqrt(x * y) : 0;
}

/* The first expert against the sum of all that were chosen, or against the layer's output. */
static void read_sum(mixt_probe_observer *o, const mixt_instance *instance, mixt_value_id value,
                     int which)
{
    const mixt_probe *probe = o->probe;
    int64_t width = probe->width, rows = mixt_instance_rows(instance, value);
    if (probe->sum_count[SUM_LENS] == 0) {
        return;
    }
    mixt_instance_read(instance, value, 0, o->whole, (size_t)(rows * width) * sizeof *o->whole);
    for (int64_t row = 0; row < rows; row++) {
        if (o->group[row] >= 0 && o->has_first[row]) {
            double *lens = probe->sum[SUM_LENS] +
                           (o->layer * probe->groups + o->group[row]) * (int64_t)LENS_SUMS;
            lens[which] += cosine(o->first + row * width, o->whole + row * width, width);
            lens[LENS_TOKENS] += which == LENS_WHOLE;
        }
    }
}

static void observe(void *user, const mixt_instance *instance, int index)
{
    mixt_probe_observer *o = user;
    const mixt_record *record = &o->plan->records[index];
    const mixt_graph *graph = o->probe->scorer->graph;
    if (index == 0) {
        begin(o);
    }
    for (int layer = 0; layer < graph->moe_layers; layer++) {
        const mixt_mixture_values *mixture = &graph->mixtures[layer];
        o->layer = layer;
        if (record->out[EXPERTS_Y] == mixture->rows) {
            read_experts(o, instance);
        }
        if (record->out[COMBINE_Y] == mixture->routed) {
            read_sum(o, instance, mixture->routed, LENS_ROUTED);
        }
        if (record->out[0] == mixture->output) {
            read_sum(o, instance, mixture->output, LENS_WHOLE);
        }
    }
}

mixt_status mixt_probe_observed(mixt_probe_observer *observer, mixt_error *error)
{
    mixt_instance_observe(observer->probe->scorer->instance, NULL, NULL);
    return observer->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory") : MIXT_OK;
}

void mixt_probe_look(mixt_probe_observer *observer)
{
    mixt_instance_observe(observer->probe->scorer->instance, observe, observer);
}
