/* Gathers importance matrices while a text is scored. */
#include "model/importance.h"

#include <stdlib.h>

#include "eval/score.h"

typedef struct gathering {
    const mixt_model *model;
    const mixt_plan *plan;
    mixt_importance *importance;
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

static void add_experts(gathering *g, const mixt_record *record, const mixt_call *call)
{
    const int32_t *offsets = call->in[1];
    int64_t experts = call->in_shape[2].size[0];
    for (int input = 2; input <= 4; input++) {
        mixt_importance_entry *entry = entry_of(g, record, input);
        const float *rows = input == 4 ? mixt_experts_hidden(call) : call->in[0];
        for (int64_t e = 0; entry != NULL && e < experts; e++) {
            mixt_importance_add(entry, e, rows + offsets[e] * entry->columns,
                                offsets[e + 1] - offsets[e]);
        }
    }
}

static void observe(void *user, const mixt_record *record, const mixt_call *call)
{
    gathering *g = user;
    if (record->op == MIXT_OP_experts) {
        add_experts(g, record, call);
    } else if (record->op == MIXT_OP_linear || record->op == MIXT_OP_loss) {
        mixt_importance_entry *entry = entry_of(g, record, 1);
        if (entry != NULL) {
            mixt_importance_add(entry, 0, call->in[0], call->tokens);
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
    gathering g = {model, scorer->graph->plan, calloc(1, sizeof *g.importance), false};
    if (g.importance == NULL) {
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
    if (status != MIXT_OK) {
        mixt_importance_free(g.importance);
        return status;
    }
    *result = g.importance;
    return MIXT_OK;
}
