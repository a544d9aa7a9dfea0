/* A probe, batch by batch and step by step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "probe/probe.h"

static bool does(const mixt_probe *probe, int64_t experiment)
{
    return (probe->experiments & experiment) != 0;
}

/* The steps of a batch, in order. The first runs the unchanged model; the others hang on a layer.
 */
typedef struct step {
    enum { STEP_BASE, STEP_NOISE, STEP_ALONE, STEP_ROUTES, STEP_MASK, STEP_FIRST } kind;
    int layer;
    size_t target;
} step;

typedef struct step_list {
    step *steps;
    size_t count;
} step_list;

static int lowest_layer(const mixt_probe_target *target)
{
    int layer = target->layer[0];
    for (int i = 1; i < target->count; i++) {
        layer = target->layer[i] < layer ? target->layer[i] : layer;
    }
    return layer;
}

/* The steps whose runs begin at place `layer`. */
static void list_layer(const mixt_probe *probe, int layer, bool first, step_list *list)
{
    int number = probe->scorer->graph->routes[layer].layer;
    if (mixt_probe_wants_layer(probe, layer)) {
        if (does(probe, MIXT_PROBE_NOISE)) {
            list->steps[list->count++] = (step){STEP_NOISE, layer, 0};
        }
        if (does(probe, MIXT_PROBE_LENS)) {
            list->steps[list->count++] = (step){STEP_ALONE, layer, 0};
        }
        if (does(probe, MIXT_PROBE_ROUTES)) {
            list->steps[list->count++] = (step){STEP_ROUTES, layer, 0};
            if (first) {
                list->steps[list->count++] = (step){STEP_ROUTES, probe->layers, 0};
            }
        }
    }
    for (size_t i = 0; i < probe->target_count; i++) {
        if (lowest_layer(&probe->targets[i]) == number) {
            if (does(probe, MIXT_PROBE_MASK)) {
                list->steps[list->count++] = (step){STEP_MASK, layer, i};
            }
            if (does(probe, MIXT_PROBE_FIRST)) {
                list->steps[list->count++] = (step){STEP_FIRST, layer, i};
            }
        }
    }
}

static mixt_status list_steps(const mixt_probe *probe, step_list *list, mixt_error *error)
{
    bool first = true;
    *list = (step_list){0};
    list->steps = calloc(2 + 4 * (size_t)probe->layers + 2 * probe->target_count, sizeof(step));
    if (list->steps == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    list->steps[list->count++] = (step){STEP_BASE, -1, 0};
    for (int layer = 0; layer < probe->layers; layer++) {
        list_layer(probe, layer, first, list);
        first = first && !mixt_probe_wants_layer(probe, layer);
    }
    return MIXT_OK;
}

static mixt_status run_step(mixt_probe *probe, const step *at, mixt_error *error)
{
    switch (at->kind) {
    case STEP_NOISE:
        return mixt_probe_noise(probe, at->layer, error);
    case STEP_ALONE:
        return mixt_probe_alone(probe, at->layer, error);
    case STEP_ROUTES:
        return mixt_probe_routes(probe, at->layer, error);
    case STEP_MASK:
        return mixt_probe_mask(probe, at->target, error);
    case STEP_FIRST:
        return mixt_probe_first(probe, at->target, error);
    case STEP_BASE: /* was run to begin with */
        break;
    }
    return MIXT_OK;
}

static void count_tokens(const mixt_probe *probe)
{
    const mixt_scorer *scorer = probe->scorer;
    for (int i = 0; i < scorer->piece_count; i++) {
        const mixt_excerpt *piece = &scorer->pieces[i];
        double *cell = probe->sum[SUM_TOKENS] + probe->group[piece->document] * probe->buckets;
        for (int64_t row = piece->row; row < piece->row + piece->count; row++) {
            if (scorer->batch.targets[row] >= 0) {
                cell[scorer->split->documents[piece->document].domain]++;
                cell[mixt_probe_class(probe, row)]++;
            }
        }
    }
}

/* Which experts the batch's tokens chose. */
static void note_chosen(const mixt_probe *probe)
{
    const mixt_scorer *scorer = probe->scorer;
    memset(probe->chosen, 0, (size_t)(probe->layers * probe->experts) * sizeof *probe->chosen);
    for (int layer = 0; layer < probe->layers; layer++) {
        mixt_route route;
        mixt_instance_route(scorer->instance, &scorer->graph->routes[layer], &route);
        for (int i = 0; i < scorer->piece_count; i++) {
            const mixt_excerpt *piece = &scorer->pieces[i];
            int64_t end = (piece->row + piece->count) * route.chosen;
            for (int64_t j = piece->row * route.chosen; j < end; j++) {
                if (route.ids[j] >= 0) {
                    probe->chosen[layer * probe->experts + route.ids[j]] = true;
                }
            }
        }
    }
}

/* The unchanged model; `look`: what its experts give is counted, else it was before. */
static mixt_status run_base(mixt_probe *probe, mixt_probe_observer *observer, bool look,
                            mixt_error *error)
{
    mixt_scorer *scorer = probe->scorer;
    mixt_probe_reset(probe);
    if (look) {
        mixt_probe_look(observer);
    }
    mixt_status status = mixt_scorer_run(scorer, scorer->batch.rows, error);
    if (status == MIXT_OK && look) {
        status = mixt_probe_observed(observer, error);
    }
    if (status != MIXT_OK) {
        return status;
    }
    const float *nll = mixt_instance_view(scorer->instance, scorer->graph->nll);
    memcpy(probe->nll, nll, (size_t)scorer->batch.rows * sizeof *nll);
    note_chosen(probe);
    if (look) {
        count_tokens(probe);
        mixt_probe_add_loss(probe, false, probe->sum[SUM_BASE]);
    }
    probe->layer = -1;
    probe->position = 0;
    return MIXT_OK;
}

/* A step is done: the next one, the state, the progress. */
static mixt_status advance(mixt_probe *probe, double weight, mixt_error *error)
{
    probe->sum[SUM_CURSOR][CURSOR_STEP]++;
    probe->done += weight;
    MIXT_TRY(mixt_probe_save(probe, false, error));
    mixt_status status = mixt_go_on(probe->options->progress, probe->options->user, probe->done,
                                    probe->total, error);
    if (status != MIXT_OK) {
        mixt_error other = MIXT_ERROR_INIT;
        (void)mixt_probe_save(probe, true, &other); /* the interrupt's line counts */
    }
    return status;
}

static double tokens_of(const mixt_scorer *scorer)
{
    double tokens = 0;
    for (int i = 0; i < scorer->piece_count; i++) {
        tokens += (double)scorer->pieces[i].count;
    }
    return tokens;
}

/* One batch from the step on that the cursor names. */
static mixt_status run_batch(mixt_probe *probe, mixt_probe_observer *observer,
                             const step_list *list, mixt_error *error)
{
    double *cursor = probe->sum[SUM_CURSOR], weight = tokens_of(probe->scorer);
    probe->done += weight * cursor[CURSOR_STEP];
    if (cursor[CURSOR_STEP] < (double)list->count) {
        MIXT_TRY(run_base(probe, observer, cursor[CURSOR_STEP] == 0, error));
    }
    while (cursor[CURSOR_STEP] < (double)list->count) {
        MIXT_TRY(run_step(probe, &list->steps[(size_t)cursor[CURSOR_STEP]], error));
        MIXT_TRY(advance(probe, weight, error));
    }
    cursor[CURSOR_BATCH]++;
    cursor[CURSOR_STEP] = 0;
    return MIXT_OK;
}

static mixt_status allocate(mixt_probe *probe, mixt_error *error)
{
    const mixt_graph *graph = probe->scorer->graph;
    size_t rows = (size_t)probe->scorer->capacity, layers = (size_t)probe->layers;
    size_t k = 1;
    probe->route_record = calloc(layers, sizeof *probe->route_record);
    for (int layer = 0; layer < probe->layers && probe->route_record != NULL; layer++) {
        mixt_value_id ids = graph->routes[layer].value[ROUTE_IDS];
        size_t columns = (size_t)graph->plan->values[ids].shape.size[1];
        k = columns > k ? columns : k;
        int record = 0;
        while (graph->plan->records[record].out[ROUTE_IDS] != ids) {
            record++;
        }
        probe->route_record[layer] = record;
    }
    probe->nll = calloc(rows, sizeof *probe->nll);
    probe->ids = calloc(rows * k, sizeof *probe->ids);
    probe->chosen = calloc(layers * (size_t)probe->experts, sizeof *probe->chosen);
    return probe->route_record != NULL && probe->nll != NULL && probe->ids != NULL &&
                   probe->chosen != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
}

static void release(mixt_probe *probe)
{
    mixt_scorer_free(probe->scorer);
    free(probe->route_record);
    free(probe->nll);
    free(probe->ids);
    free(probe->chosen);
    free(probe->cut);
    probe->scorer = NULL;
    probe->route_record = NULL;
    probe->nll = NULL;
    probe->ids = NULL;
    probe->chosen = NULL;
    probe->cut = NULL;
    probe->cut_bytes = 0;
}

/* All batches but those that were done. */
static mixt_status run_batches(mixt_probe *probe, mixt_probe_observer *observer,
                               const step_list *list, mixt_error *error)
{
    double *cursor = probe->sum[SUM_CURSOR];
    probe->total = (double)probe->scorer->total * (double)(list->count + (size_t)probe->k_count);
    for (double batch = 0; mixt_scorer_fill(probe->scorer) > 0; batch++) {
        if (batch < cursor[CURSOR_BATCH]) {
            probe->done += tokens_of(probe->scorer) * (double)list->count;
        } else {
            MIXT_TRY(run_batch(probe, observer, list, error));
        }
    }
    return MIXT_OK;
}

static mixt_status run_main(mixt_probe *probe, mixt_error *error)
{
    step_list list = {0};
    mixt_probe_observer *observer = NULL;
    mixt_status status = mixt_probe_scorer(probe, 0, &probe->scorer, error);
    if (status == MIXT_OK) {
        status = allocate(probe, error);
    }
    if (status == MIXT_OK) {
        status = list_steps(probe, &list, error);
    }
    if (status == MIXT_OK) {
        status = mixt_probe_observe(probe, &observer, error);
    }
    if (status == MIXT_OK && probe->sum[SUM_CURSOR][CURSOR_PASS] == 0) {
        status = run_batches(probe, observer, &list, error);
    } else if (status == MIXT_OK) {
        probe->total = (double)probe->scorer->total * (double)(list.count + (size_t)probe->k_count);
        probe->done = (double)probe->scorer->total *
                      ((double)list.count + probe->sum[SUM_CURSOR][CURSOR_PASS] - 1);
    }
    mixt_probe_observer_free(observer);
    free(list.steps);
    release(probe);
    return status;
}

/* Every token with k experts in all layers; NaN where the routers cannot choose so many. */
static mixt_status run_k(mixt_probe *probe, int index, mixt_error *error)
{
    int64_t size = (int64_t)probe->groups * probe->buckets;
    double *cursor = probe->sum[SUM_CURSOR], *cells = probe->sum[SUM_TOP_K] + index * size;
    mixt_status possible = MIXT_OK;
    mixt_probe_reset(probe);
    for (int layer = 0; layer < probe->model->options.layers; layer++) {
        if (mixt_model_layer_is_moe(probe->model, layer)) {
            mixt_probe_router *router = mixt_probe_change(probe, layer, 0);
            router->spec.forced = NULL; /* of as many as the model chooses */
            router->spec.chosen = probe->ks[index];
            possible = possible == MIXT_OK ? mixt_router_check(&router->spec, NULL) : possible;
        }
    }
    for (int64_t i = 0; i < size && possible != MIXT_OK; i++) {
        cells[i] = NAN;
    }
    mixt_status status = MIXT_OK;
    if (possible == MIXT_OK) {
        status = mixt_probe_scorer(probe, probe->ks[index], &probe->scorer, error);
        for (double batch = 0; status == MIXT_OK && mixt_scorer_fill(probe->scorer) > 0; batch++) {
            if (batch >= cursor[CURSOR_BATCH]) {
                status = mixt_scorer_run(probe->scorer, probe->scorer->batch.rows, error);
                if (status == MIXT_OK) {
                    mixt_probe_add_loss(probe, false, cells);
                    cursor[CURSOR_BATCH]++;
                    status = advance(probe, tokens_of(probe->scorer), error);
                }
            } else {
                probe->done += tokens_of(probe->scorer);
            }
        }
        release(probe);
    }
    return status;
}

static mixt_status run_all(mixt_probe *probe, mixt_error *error)
{
    double *cursor = probe->sum[SUM_CURSOR];
    MIXT_TRY(run_main(probe, error));
    if (cursor[CURSOR_PASS] == 0) {
        cursor[CURSOR_PASS] = 1;
        cursor[CURSOR_BATCH] = cursor[CURSOR_STEP] = 0;
    }
    while (cursor[CURSOR_PASS] <= (double)probe->k_count) {
        MIXT_TRY(run_k(probe, (int)cursor[CURSOR_PASS] - 1, error));
        cursor[CURSOR_PASS]++;
        cursor[CURSOR_BATCH] = cursor[CURSOR_STEP] = 0;
    }
    return mixt_probe_report(probe, error);
}

static char *partial_path(const char *output)
{
    static const char end[] = ".partial";
    size_t length = strlen(output);
    char *path = malloc(length + sizeof end);
    if (path != NULL) {
        memcpy(path, output, length);
        memcpy(path + length, end, sizeof end);
    }
    return path;
}

mixt_status mixt_probe_run(mixt_context *context, const mixt_model *model, const mixt_data *data,
                           const mixt_tokenizer *tokenizer, const mixt_probe_options *options,
                           mixt_error *error)
{
    mixt_probe probe = {.context = context,
                        .model = model,
                        .data = data,
                        .tokenizer = tokenizer,
                        .options = options};
    mixt_status status = mixt_probe_open(&probe, error);
    if (status == MIXT_OK && (probe.partial = partial_path(options->output)) == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    if (status == MIXT_OK) {
        status = mixt_probe_identify(&probe, error);
    }
    if (status == MIXT_OK) {
        status = mixt_probe_load(&probe, error);
    }
    if (status == MIXT_OK) {
        status = run_all(&probe, error);
    }
    if (status == MIXT_OK && mixt_path_exists(probe.partial)) {
        char *slash = strrchr(probe.partial, '/');
        const char *folder = slash == NULL ? "." : slash == probe.partial ? "/" : probe.partial;
        if (slash != NULL) {
            *slash = 0;
        }
        status = mixt_file_remove_in(folder, slash == NULL ? probe.partial : slash + 1, error);
    }
    mixt_probe_close(&probe);
    return status;
}
