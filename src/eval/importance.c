/* Gathers importance matrices while a text is scored. */
#include "model/importance.h"

#include <stdlib.h>
#include <string.h>

#include "eval/score.h"

typedef struct gathering {
    const mixt_model *model;
    const mixt_scorer *scorer;
    const mixt_plan *plan;
    mixt_importance *importance;
    float *rows;      /* [capacity * k, widest]: a copy of what a record multiplied */
    size_t room;      /* of it, in values */
    int32_t *offsets; /* [E + 2] */
    int32_t *order;   /* [capacity * k]: of the last route, whose choice a row is */
    int64_t choices;  /* k of it */
    bool *used;       /* [capacity]: rows of the batch that are tokens of a text */
    bool failed;      /* no memory */
} gathering;

/* The entry of the parameter behind input `input` of a record, NULL where it is none. */
static mixt_importance_entry *entry_of(gathering *g, const mixt_record *record, int input)
{
    mixt_value_id id = record->in[input];
    if (id < 0 || g->plan->values[id].kind != MIXT_VALUE_PARAMETER) {
        return NULL;
    }
    const mixt_parameter *p = &g->model->parameters[g->plan->values[id].index];
    if (p->slot == MIXT_SLOT_EMBED) { /* a tied head: files have no output.weight for it */
        return NULL;
    }
    mixt_importance_entry *entry = mixt_importance_entry_of(
        g->importance, p->gguf_name, p->rank == 3 ? p->size[0] : 1, p->size[p->rank - 1]);
    g->failed = g->failed || entry == NULL;
    return entry;
}

/* Room for `count` values. */
static bool make_room(gathering *g, size_t count)
{
    if (count > g->room) {
        free(g->rows);
        g->rows = malloc(count * sizeof *g->rows);
        g->room = g->rows != NULL ? count : 0;
        g->failed = g->failed || g->rows == NULL;
    }
    return count <= g->room;
}

/* Adds rows [begin, end) to a matrix of an entry, but those of no text: sequences end with rows
 * that nobody scores. `stack`: in the order of experts. */
static void add_used(gathering *g, mixt_importance_entry *entry, int64_t matrix, bool stack)
{
    int64_t begin = g->offsets[stack ? matrix : 0], end = g->offsets[stack ? matrix + 1 : 1];
    for (int64_t row = begin; row < end; row++) {
        if (g->used[stack ? g->order[row] / g->choices : row]) {
            mixt_importance_add(entry, matrix, g->rows + row * entry->columns, 1);
        }
    }
}

/* Adds the rows that a weight was multiplied with, to each matrix of a stack its own. */
static void add_rows(gathering *g, const mixt_instance *instance, const mixt_record *record,
                     mixt_importance_entry *entry, const mixt_multiplied *by)
{
    mixt_value_id rows =
        by->side == MIXT_MULTIPLIED_OUT ? record->out[by->slot] : record->in[by->slot];
    int64_t count = mixt_instance_rows(instance, rows), matrices = entry->matrices;
    g->offsets[0] = 0;
    g->offsets[1] = (int32_t)count;
    if (by->offsets >= 0) {
        mixt_instance_read(instance, record->in[by->offsets], 0, g->offsets,
                           (size_t)(matrices + 1) * sizeof *g->offsets);
        count = g->offsets[matrices]; /* behind them rows of experts without weights */
    }
    size_t values = (size_t)count * (size_t)entry->columns;
    if (values == 0 || !make_room(g, values)) {
        return;
    }
    mixt_instance_read(instance, rows, 0, g->rows, values * sizeof *g->rows);
    for (int64_t i = 0; i < matrices; i++) {
        add_used(g, entry, i, by->offsets >= 0);
    }
}

/* Most experts that a token has in any layer: a layer may be changed to choose more than the model.
 */
static int most_chosen(const mixt_graph *graph)
{
    int most = 1;
    for (int i = 0; i < graph->moe_layers; i++) {
        most = graph->routes[i].spec->chosen > most ? graph->routes[i].spec->chosen : most;
    }
    return most;
}

/* What the rows of a batch are, and those in expert order. */
static void follow(gathering *g, const mixt_instance *instance, int index)
{
    const mixt_record *record = &g->plan->records[index];
    if (index == 0) {
        memset(g->used, 0, (size_t)g->scorer->capacity * sizeof *g->used);
        for (int i = 0; i < g->scorer->piece_count; i++) {
            const mixt_excerpt *piece = &g->scorer->pieces[i];
            memset(g->used + piece->row, true, (size_t)piece->count * sizeof *g->used);
        }
    }
    for (int i = 0; i < g->scorer->graph->moe_layers; i++) {
        const mixt_route_values *route = &g->scorer->graph->routes[i];
        mixt_value_id order = route->value[ROUTE_ORDER];
        if (record->out[ROUTE_ORDER] == order) {
            g->choices = route->spec->chosen;
            mixt_instance_read(instance, order, 0, g->order,
                               (size_t)mixt_instance_rows(instance, order) * sizeof *g->order);
        }
    }
}

static void observe(void *user, const mixt_instance *instance, int index)
{
    gathering *g = user;
    const mixt_record *record = &g->plan->records[index];
    follow(g, instance, index);
    const mixt_operator *row = mixt_operator_row(record->op);
    for (int input = 0; input < row->inputs; input++) {
        const mixt_multiplied *by = &row->multiplied[input];
        mixt_importance_entry *entry =
            by->side != MIXT_MULTIPLIED_NOT ? entry_of(g, record, input) : NULL;
        if (entry != NULL) {
            add_rows(g, instance, record, entry, by);
        }
    }
}

mixt_status mixt_importance_collect(mixt_context *context, const mixt_model *model,
                                    const mixt_data *data, const mixt_importance_options *options,
                                    mixt_importance **result, mixt_error *error)
{
    *result = NULL;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_importance_options, options, error));
    MIXT_TRY(mixt_model_refuse_spread(model, "weighed by importance", error));
    if (model->adapters != NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "importance: the model has adapters; save it and open it again");
    }
    mixt_scorer_options scoring = {.window = options->window, .max_tokens = options->max_tokens};
    mixt_scorer *scorer;
    mixt_status status = mixt_scorer_create(context, model, data, &scoring, &scorer, error);
    if (status != MIXT_OK) {
        return status;
    }
    size_t capacity = (size_t)scorer->capacity;
    size_t choices = capacity * (size_t)most_chosen(scorer->graph);
    gathering g = {.model = model, .scorer = scorer, .plan = scorer->graph->plan};
    g.importance = calloc(1, sizeof *g.importance);
    g.offsets = calloc((size_t)model->options.experts + 2, sizeof *g.offsets);
    g.order = calloc(choices, sizeof *g.order);
    g.used = calloc(capacity, sizeof *g.used);
    if (g.importance == NULL || g.offsets == NULL || g.order == NULL || g.used == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "importance: no memory");
    }
    mixt_instance_observe(scorer->instance, observe, &g);
    while (status == MIXT_OK) {
        status = mixt_scorer_next(scorer, error);
        if (status != MIXT_OK || scorer->piece_count == 0) {
            break;
        }
        if (g.failed) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "importance: no memory");
        }
        if (status == MIXT_OK) {
            status = mixt_go_on(options->progress, options->user, (double)scorer->done,
                                (double)scorer->total, error);
        }
    }
    mixt_scorer_free(scorer);
    free(g.rows);
    free(g.offsets);
    free(g.order);
    free(g.used);
    if (status != MIXT_OK) {
        mixt_importance_free(g.importance);
        return status;
    }
    mixt_importance_count_chunks(g.importance, options->window);
    *result = g.importance;
    return MIXT_OK;
}
