/* Perplexity by domain. */
#include <math.h>

#include "eval/score.h"

/* The share of a document's bytes that its scored tokens stand for: all of them unless the limit
 * cut it. */
static uint64_t bytes_before(const mixt_data_document *document, uint64_t scored)
{
    double share = (double)scored / (double)(document->length - 1);
    return (uint64_t)((double)document->bytes * share + 0.5);
}

static void add_pieces(const mixt_scorer *scorer, mixt_score_row *rows)
{
    const float *nll = mixt_instance_view(scorer->instance, scorer->graph->nll);
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        const mixt_data_document *document = &scorer->split->documents[piece->document];
        mixt_score_row *row = &rows[document->domain];
        uint64_t end = piece->from + (uint64_t)piece->count;
        for (int64_t r = 0; r < piece->count; r++) {
            row->nats += nll[piece->row + r];
        }
        row->tokens += (uint64_t)piece->count;
        row->bytes += bytes_before(document, end) - bytes_before(document, piece->from);
    }
}

/* Choices of the pieces' rows, and those that have no place. */
static void add_drops(const mixt_scorer *scorer, mixt_score_row *rows)
{
    for (int layer = 0; layer < scorer->graph->moe_layers; layer++) {
        mixt_route route;
        mixt_instance_route(scorer->instance, &scorer->graph->routes[layer], &route);
        for (int i = 0; i < scorer->piece_count; i++) {
            const mixt_excerpt *piece = &scorer->pieces[i];
            mixt_score_row *row = &rows[scorer->split->documents[piece->document].domain];
            int64_t end = (piece->row + piece->count) * route.chosen;
            for (int64_t j = piece->row * route.chosen; j < end; j++) {
                row->choices += route.ids[j] >= 0;
                row->dropped += route.ids[j] >= 0 && route.place[j] < 0;
            }
        }
    }
}

mixt_status mixt_evaluate(mixt_context *context, const mixt_model *model, const mixt_data *data,
                          bool heldout, int window, uint64_t max_tokens, mixt_score_row *rows,
                          mixt_progress progress, void *user, mixt_error *error)
{
    int domains = mixt_data_domain_count(data);
    for (int i = 0; i <= domains; i++) {
        const char *name = i < domains ? mixt_data_domain_name(data, i) : NULL;
        rows[i] = (mixt_score_row){.domain = name};
    }
    mixt_scorer_options options = {.heldout = heldout,
                                   .window = window,
                                   .max_tokens = max_tokens,
                                   .drops = model->options.experts > 0 &&
                                            model->options.router.evaluation_capacity > 0};
    mixt_scorer *scorer;
    mixt_status status = mixt_scorer_create(context, model, data, &options, &scorer, error);
    while (status == MIXT_OK) {
        status = mixt_scorer_next(scorer, error);
        if (status != MIXT_OK || scorer->piece_count == 0) {
            break;
        }
        add_pieces(scorer, rows);
        if (options.drops) {
            add_drops(scorer, rows);
        }
        status = mixt_go_on(progress, user, (double)scorer->done, (double)scorer->total, error);
    }
    mixt_scorer_free(scorer);
    for (int i = 0; i < domains; i++) {
        rows[domains].tokens += rows[i].tokens;
        rows[domains].bytes += rows[i].bytes;
        rows[domains].nats += rows[i].nats;
        rows[domains].choices += rows[i].choices;
        rows[domains].dropped += rows[i].dropped;
    }
    if (status == MIXT_OK && !isfinite(rows[domains].nats)) {
        return mixt_fail(error, MIXT_ERROR_NUMERIC, "evaluation: the loss is not a finite number");
    }
    return status;
}
