/* Gathers importance matrices while a text is scored. */
#include "model/importance.h"

#include <stdlib.h>

#include "eval/score.h"

typedef struct gathering {
    const mixt_model *model;
    const mixt_plan *plan;
    mixt_importance *importance;
    float *rows;      /* [capacity * k, widest]: a copy of what a record multiplied */
    size_t room;      /* of it, in values */
    int32_t *offsets; /* [E + 2] */
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

/* Adds the rows that a weight was multiplied with, to each matrix of a stack its own. */
static void add_rows(gathering *g, const mixt_instance *instance, const mixt_record *record,
                     mixt_importance_entry *entry, const mixt_multiplied *by)
{
    mixt_value_id rows =
        by->side == MIXT_MULTIPLIED_OUT ? record->out[by->slot] : record->in[by->slot];
    int64_t count = mixt_instance_rows(instance, rows), matrices = 1;
    g->offsets[0] = 0;
    g->offsets[1] = (int32_t)count;
    if (by->offsets >= 0) {
        matrices = g->plan->values[record->in[by->offsets]].shape.size[0] - 1;
        mixt_instance_read(instance, record->in[by->offsets], 0, g->offsets,
                           (size_t)(matrices + 1) * sizeof *g->offsets);
        count = g->offsets[matrices];
    }
    size_t values = (size_t)count * (size_t)entry->columns;
    if (values == 0 || !make_room(g, values)) {
        return;
    }
    mixt_instance_read(instance, rows, 0, g->rows, values * sizeof *g->rows);
    for (int64_t i = 0; i < matrices; i++) {
        mixt_importance_add(entry, i, g->rows + g->offsets[i] * entry->columns,
                            g->offsets[i + 1] - g->offsets[i]);
    }
}

static void observe(void *user, const mixt_instance *instance, int index)
{
    gathering *g = user;
    const mixt_record *record = &g->plan->records[index];
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
    mixt_scorer_options scoring = {.window = options->window, .max_tokens = options->max_tokens};
    mixt_scorer *scorer;
    mixt_status status = mixt_scorer_create(context, model, data, &scoring, &scorer, error);
    if (status != MIXT_OK) {
        return status;
    }
    gathering g = {.model = model, .plan = scorer->graph->plan};
    g.importance = calloc(1, sizeof *g.importance);
    g.offsets = calloc((size_t)model->options.experts + 2, sizeof *g.offsets);
    if (g.importance == NULL || g.offsets == NULL) {
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
        if (options->progress != NULL) {
            options->progress(options->user, (double)scorer->done, (double)scorer->total);
        }
    }
    mixt_scorer_free(scorer);
    free(g.rows);
    free(g.offsets);
    if (status != MIXT_OK) {
        mixt_importance_free(g.importance);
        return status;
    }
    mixt_importance_count_chunks(g.importance, options->window);
    *result = g.importance;
    return MIXT_OK;
}
