/* What each matrix costs in few bits: the model beside itself with that one quantised. */
#include "model/sensitivity.h"

#include <math.h>
#include <stdlib.h>

#include "eval/compare.h"

typedef struct measuring {
    mixt_comparison comparison;
    const mixt_model *model;
    const mixt_importance *importance;
    mixt_sensitivity *result;
    double tokens, routes; /* that the sums rest on */
    double done, total;    /* parameters times tokens read */
} measuring;

/* Sums over the batch that both ran. */
static void add_batch(measuring *m, mixt_sensitivity_entry *entry, double *tokens, double *routes)
{
    const mixt_comparison *c = &m->comparison;
    *tokens = *routes = 0;
    for (int i = 0; i < c->a->piece_count; i++) {
        const mixt_excerpt *piece = &c->a->pieces[i];
        for (int64_t row = piece->row; row < piece->row + piece->count; row++) {
            if (c->a->batch.targets[row] >= 0) {
                entry->kl += (double)c->kl[row];
                ++*tokens;
            }
            for (int layer = 0; layer < c->layers; layer++) {
                const mixt_compared_route *route = &c->routes[row * c->layers + layer];
                entry->routing += route->sets >= 0 ? (double)route->kl : 0;
                *routes += route->sets >= 0;
            }
        }
    }
}

/* The batch of the second scorer once more, or for the first time, with other weights. */
static mixt_status run_rounded(measuring *m, int parameter, bool first, mixt_error *error)
{
    mixt_scorer *b = m->comparison.b;
    mixt_context *context = m->comparison.context;
    mixt_rounded rounded;
    MIXT_TRY(mixt_rounded_create(m->model, parameter, m->result->entries[parameter].type,
                                 m->importance, mixt_context_pool(context), &rounded, error));
    mixt_weights_free(b->weights);
    b->weights = NULL;
    mixt_status status = mixt_weights_create(&rounded.model, &context->device, &b->weights, error);
    if (status == MIXT_OK) {
        status = mixt_weights_bind(b->weights, b->graph, b->instance, error);
    }
    if (status == MIXT_OK) {
        status = first ? mixt_scorer_next(b, error) : mixt_scorer_run(b, b->batch.rows, error);
    }
    if (status == MIXT_OK) {
        mixt_comparison_run(&m->comparison);
    }
    mixt_weights_free(b->weights);
    b->weights = NULL;
    mixt_rounded_free(&rounded);
    return status;
}

static mixt_status run_batch(measuring *m, const mixt_fidelity_options *options, bool *done,
                             mixt_error *error)
{
    mixt_comparison *c = &m->comparison;
    double tokens = 0, routes = 0, before = (double)c->a->done;
    MIXT_TRY(mixt_scorer_next(c->a, error));
    *done = c->a->piece_count == 0;
    bool first = true;
    for (int i = 0; i < m->model->parameter_count && !*done; i++) {
        mixt_sensitivity_entry *entry = &m->result->entries[i];
        if (entry->type != MIXT_TYPE_COUNT) {
            MIXT_TRY(run_rounded(m, i, first, error));
            add_batch(m, entry, &tokens, &routes);
            first = false;
        }
        double share = (double)(i + 1) / m->model->parameter_count;
        MIXT_TRY(mixt_go_on(options->progress, options->user,
                            before + share * ((double)c->a->done - before), (double)c->a->total,
                            error));
    }
    m->tokens += tokens;
    m->routes += routes;
    return MIXT_OK;
}

static mixt_status finish(const measuring *m, mixt_error *error)
{
    for (int i = 0; i < m->result->count; i++) {
        mixt_sensitivity_entry *entry = &m->result->entries[i];
        if (entry->type != MIXT_TYPE_COUNT) {
            entry->kl /= m->tokens;
            entry->routing /= m->routes > 0 ? m->routes : 1;
            if (!isfinite(entry->kl) || !isfinite(entry->routing)) {
                return mixt_fail(error, MIXT_ERROR_NUMERIC,
                                 "sensitivity: %s: the loss is not a finite number",
                                 m->model->parameters[i].name);
            }
        }
    }
    return m->tokens > 0 ? MIXT_OK
                         : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                                     "sensitivity: the text has no token to score");
}

static mixt_status allocate(measuring *m, mixt_error *error)
{
    size_t count = (size_t)m->model->parameter_count;
    m->result = calloc(1, sizeof *m->result);
    if (m->result != NULL) {
        m->result->entries = calloc(count + 1, sizeof *m->result->entries);
    }
    if (m->result == NULL || m->result->entries == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sensitivity: no memory");
    }
    m->result->count = (int)count;
    for (int i = 0; i < (int)count; i++) {
        m->result->entries[i].type = mixt_rounded_type(m->model, i);
    }
    return MIXT_OK;
}

mixt_status mixt_sensitivity_measure(mixt_context *context, const mixt_model *model,
                                     const mixt_data *data, const mixt_importance *importance,
                                     const mixt_fidelity_options *options,
                                     mixt_sensitivity **result, mixt_error *error)
{
    *result = NULL;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_fidelity_options, options, error));
    MIXT_TRY(mixt_model_refuse_spread(model, "tried in other types", error));
    if (model->held == NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "sensitivity: of an opened model; save this one and open it again");
    }
    measuring m = {.model = model, .importance = importance};
    mixt_status status =
        mixt_comparison_open(context, model, model, data, options, &m.comparison, error);
    if (status == MIXT_OK) {
        status = allocate(&m, error);
    }
    bool done = false;
    while (status == MIXT_OK && !done) {
        status = run_batch(&m, options, &done, error);
    }
    if (status == MIXT_OK) {
        status = finish(&m, error);
    }
    mixt_comparison_close(&m.comparison);
    if (status != MIXT_OK) {
        mixt_sensitivity_free(m.result);
        return status;
    }
    *result = m.result;
    return MIXT_OK;
}
