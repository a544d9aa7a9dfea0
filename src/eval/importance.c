/* Gathers importance matrices while a text is scored. */
#include "model/importance.h"

#include <stdlib.h>

#include "eval/score.h"

typedef struct gathering {
    const mixt_model *model;
    const mixt_plan *plan;
    mixt_importance *importance;
    float *rows; /* [capacity * k, widest]: a copy of what a record multiplied */
    size_t room; /* of it, in values */
    int32_t *offsets;
    bool failed; /* no memory */
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

static void add_experts(gathering *g, const mixt_instance *instance, int index)
{
    static const int weights[] = {EXPERTS_W_GATE, EXPERTS_W_UP, EXPERTS_W_DOWN};
    const mixt_record *record = &g->plan->records[index];
    int64_t experts = g->plan->values[record->in[EXPERTS_W_GATE]].shape.size[0];
    mixt_instance_read(instance, record->in[EXPERTS_OFFSETS], 0, g->offsets,
                       (size_t)(experts + 1) * sizeof *g->offsets);
    for (int i = 0; i < 3; i++) {
        mixt_importance_entry *entry = entry_of(g, record, weights[i]);
        size_t values = entry == NULL ? 0 : (size_t)g->offsets[experts] * (size_t)entry->columns;
        if (values == 0 || !make_room(g, values)) {
            continue;
        }
        if (weights[i] == EXPERTS_W_DOWN) {
            mixt_instance_read_workspace(instance, index, mixt_experts_hidden_offset(experts),
                                         g->rows, values * sizeof *g->rows);
        } else {
            mixt_instance_read(instance, record->in[EXPERTS_ROWS], 0, g->rows,
                               values * sizeof *g->rows);
        }
        for (int64_t e = 0; e < experts; e++) {
            mixt_importance_add(entry, e, g->rows + g->offsets[e] * entry->columns,
                                g->offsets[e + 1] - g->offsets[e]);
        }
    }
}

static void add_rows(gathering *g, const mixt_instance *instance, int index, int input, int weight)
{
    const mixt_record *record = &g->plan->records[index];
    mixt_importance_entry *entry = entry_of(g, record, weight);
    int64_t rows = mixt_instance_rows(instance, record->in[input]);
    size_t values = entry == NULL ? 0 : (size_t)rows * (size_t)entry->columns;
    if (values > 0 && make_room(g, values)) {
        mixt_instance_read(instance, record->in[input], 0, g->rows, values * sizeof *g->rows);
        mixt_importance_add(entry, 0, g->rows, rows);
    }
}

static void observe(void *user, const mixt_instance *instance, int index)
{
    gathering *g = user;
    mixt_op op = g->plan->records[index].op;
    if (op == MIXT_OP_experts) {
        add_experts(g, instance, index);
    } else if (op == MIXT_OP_linear) {
        add_rows(g, instance, index, LINEAR_X, LINEAR_WEIGHT);
    } else if (op == MIXT_OP_loss) {
        add_rows(g, instance, index, LOSS_X, LOSS_WEIGHT);
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
    g.offsets = calloc((size_t)model->options.experts + 1, sizeof *g.offsets);
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
        g.importance->chunk_count++;
        g.importance->chunk_size = options->window;
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
    *result = g.importance;
    return MIXT_OK;
}
