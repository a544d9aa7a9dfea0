/* One forward over what is next: rows of many sequences go in, and what each gave is handed out. A
 * step of more rows than a plan has is a sweep: its rows are cut into blocks, and each layer runs
 * over all of them before the next layer does, so that experts that come from files are read once
 * for all. What a block needs of the layers before is copied out and back (a cut of the plan); keys
 * and values of the blocks before it are in the cache by then. */
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "infer/engine.h"

/* Line i of the page table, and of the routers, is piece i's. */
static void place_line(mixt_engine *engine, int line, const mixt_sequence *s)
{
    mixt_batch *batch = &engine->batch;
    memcpy(batch->pages + line * batch->pages_per_sequence, s->pages,
           s->page_count * sizeof *s->pages);
    if (engine->lines[line] != s->variant) {
        engine->lines[line] = s->variant;
        for (int layer = 0; layer < engine->model->options.layers; layer++) {
            engine->routers[layer * engine->options.sequences + line] =
                mixt_routing_layer(s->variant->routing, layer);
        }
    }
}

/* RoPE by length: each row is rotated as in a sequence that ends with what it was fed with. */
static mixt_status place_rope(mixt_engine *engine, const mixt_piece *piece, mixt_error *error)
{
    const mixt_sequence *s = piece->sequence;
    for (int64_t i = 0, count; i < piece->count; i += count) {
        int64_t position = (int64_t)s->held + i;
        int32_t end = s->ends[position];
        for (count = 1; i + count < piece->count && s->ends[position + count] == end;) {
            count++;
        }
        mixt_rope_rows rows = {position, count, end, piece->row + i};
        MIXT_TRY(mixt_rope_update(engine->model, &rows, &engine->rope, error));
    }
    return MIXT_OK;
}

/* Places of the pieces among the step's rows; how many rows there are, and how many have logits. */
static mixt_status place_pieces(mixt_engine *engine, int64_t *rows, int64_t *logits,
                                mixt_error *error)
{
    *rows = *logits = 0;
    for (int p = 0; p < engine->piece_count; p++) {
        mixt_piece *piece = &engine->pieces[p];
        piece->row = *rows;
        piece->logits = *logits;
        piece->broken_layer = -1;
        *rows += piece->count;
        *logits += piece->logits_count;
        place_line(engine, p, piece->sequence);
        if (engine->rope_by_length) {
            MIXT_TRY(place_rope(engine, piece, error));
        }
    }
    return MIXT_OK;
}

/* Rows [row, row + count) of a step, which run at once. */
typedef struct step_block {
    const mixt_runner *runner;
    int64_t row, count;
    int64_t logits, logits_count; /* of the step's rows with logits, those in it */
    bool states_only;             /* nobody wants the logits themselves */
    bool last;                    /* it is what the instance holds when the step ends */
} step_block;

/* What a block has of a piece: rows [from, from + count) of the piece, [row, ..) of the block. */
typedef struct piece_part {
    int64_t from, count, row;
} piece_part;

static bool part_of(const mixt_piece *piece, const step_block *b, piece_part *part)
{
    int64_t from = mixt_most(piece->row, b->row);
    int64_t end = mixt_least(piece->row + piece->count, b->row + b->count);
    part->from = from - piece->row;
    part->count = end - from;
    part->row = from - b->row;
    return end > from;
}

/* Fills the batch with the rows of a block, and says what the block has of logits. */
static void fill_batch(mixt_engine *engine, step_block *b)
{
    mixt_batch *batch = &engine->batch;
    batch->rows = b->count;
    batch->takes = 0;
    b->states_only = true;
    for (int p = 0; p < engine->piece_count; p++) {
        const mixt_piece *piece = &engine->pieces[p];
        const mixt_sequence *s = piece->sequence;
        piece_part part;
        if (!part_of(piece, b, &part)) {
            continue;
        }
        for (int64_t i = 0; i < part.count; i++) {
            int64_t position = (int64_t)s->held + part.from + i;
            mixt_batch_place(batch, part.row + i, s->tokens[position], p, position);
            batch->expanded[part.row + i] = engine->forms && s->expanded[position];
            if (engine->rope_by_length) {
                batch->positions[part.row + i] = (int32_t)(b->row + part.row + i);
            }
        }
        int64_t silent = piece->count - piece->logits_count; /* rows before those with logits */
        for (int64_t i = mixt_most(silent - part.from, 0); i < part.count; i++) {
            if (batch->takes == 0) {
                b->logits = piece->logits + part.from + i - silent;
            }
            batch->take[batch->takes++] = (int32_t)(part.row + i);
            b->states_only = b->states_only && s->options.states;
        }
    }
    b->logits_count = batch->takes;
    if (batch->takes == 0) { /* nobody computes it */
        batch->takes = 1;
        batch->take[0] = 0;
    }
    mixt_batch_write(batch, b->runner->graph, b->runner->instance);
}

/* Notes the first row of each sequence for which a router gave something that is not a number. */
static void note_broken(mixt_engine *engine, const step_block *b, const mixt_route *route)
{
    if (mixt_route_broken(route, NULL) == 0) {
        return;
    }
    for (int p = 0; p < engine->piece_count; p++) {
        mixt_piece *piece = &engine->pieces[p];
        piece_part part;
        if (piece->broken_layer >= 0 || !part_of(piece, b, &part)) {
            continue;
        }
        for (int64_t i = 0; i < part.count && piece->broken_layer < 0; i++) {
            if (route->finite[part.row + i] == 0) {
                piece->broken_layer = route->layer;
                piece->broken_row = part.from + i;
            }
        }
    }
}

/* Rows [row, row + count) of the batch, and where their choices go: [count, moe_layers, chosen],
 * margins [count, moe_layers]; NULL: not wanted. */
typedef struct route_rows {
    int64_t row, count;
    int32_t *ids;
    float *weights, *margins;
} route_rows;

static void read_margins(const mixt_sequence *s, const mixt_runner *r, int layer,
                         const mixt_route *route, const route_rows *to)
{
    const mixt_engine *engine = s->engine;
    const mixt_kernels_f32 *kernels = engine->context->device.compute->f32;
    const mixt_router_spec *spec = mixt_routing_layer(s->variant->routing, route->layer);
    mixt_value_id from = r->graph->routes[layer].select_bias;
    float bias[MIXT_EXPERTS_MAX];
    if (from != MIXT_NO_VALUE) {
        mixt_instance_read(r->instance, from, 0, bias, (size_t)route->experts * sizeof *bias);
    }
    for (int64_t i = 0; i < to->count; i++) {
        int64_t row = to->row + i;
        to->margins[i * (int64_t)engine->moe_layers + layer] = mixt_router_margin_f32(
            kernels, spec, route->scores + row * route->experts,
            from != MIXT_NO_VALUE ? bias : NULL, route->ids + row * route->chosen);
    }
}

/* The choices of rows of a sequence in MoE layer `layer`; one that chooses fewer has -1 behind
 * them. */
static void read_layer(const mixt_sequence *s, const mixt_runner *r, size_t layer,
                       const route_rows *to)
{
    size_t columns = s->engine->chosen, layers = s->engine->moe_layers;
    mixt_route route;
    mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
    size_t k = (size_t)route.chosen;
    for (size_t t = 0; t < (size_t)to->count; t++) {
        size_t at = (t * layers + layer) * columns, from = ((size_t)to->row + t) * k;
        for (size_t i = 0; i < columns && to->ids != NULL; i++) {
            to->ids[at + i] = i < k ? route.ids[from + i] : -1;
        }
        for (size_t i = 0; i < columns && to->weights != NULL; i++) {
            to->weights[at + i] = i < k ? route.weights[from + i] : 0;
        }
    }
    if (to->margins != NULL) {
        read_margins(s, r, (int)layer, &route, to);
    }
}

/* Rows of a piece that were not handed out before: its last ones. */
static int64_t fresh_rows(const mixt_piece *piece)
{
    const mixt_sequence *s = piece->sequence;
    int64_t fresh = (int64_t)s->held + piece->count - (int64_t)s->done;
    return mixt_least(mixt_most(fresh, 0), piece->count);
}

/* Where the routes of the step's row `row` go that a sequence asked for. */
static route_rows asked_rows(const mixt_engine *engine, int64_t row, int64_t count)
{
    size_t at = (size_t)row * engine->moe_layers;
    return (route_rows){.count = count,
                        .ids = engine->route_ids + at * engine->chosen,
                        .weights = engine->route_weights + at * engine->chosen,
                        .margins = engine->route_margins + at};
}

/* Where the routes of the last row of piece `p` of a sweep go. */
static route_rows last_rows(const mixt_engine *engine, int p)
{
    size_t at = (size_t)p * engine->moe_layers;
    return (route_rows){.count = 1,
                        .ids = engine->sweep.ids + at * engine->chosen,
                        .weights = engine->sweep.weights + at * engine->chosen,
                        .margins = engine->sweep.margins + at};
}

/* What sequences are told of MoE layer `layer`, which a block has just run. */
static void gather_layer(mixt_engine *engine, const step_block *b, size_t layer)
{
    const mixt_runner *r = b->runner;
    mixt_route route;
    mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
    note_broken(engine, b, &route);
    for (int p = 0; p < engine->piece_count; p++) {
        const mixt_piece *piece = &engine->pieces[p];
        const mixt_sequence *s = piece->sequence;
        piece_part part;
        if (!part_of(piece, b, &part)) {
            continue;
        }
        int64_t end = part.from + part.count;
        int64_t first = mixt_most(part.from, piece->count - fresh_rows(piece));
        if (s->options.routes && first < end) {
            route_rows to = asked_rows(engine, piece->row + first, end - first);
            to.row = part.row + first - part.from;
            read_layer(s, r, layer, &to);
        }
        if (!b->last && end == piece->count) { /* the instance will not know it any more */
            route_rows to = last_rows(engine, p);
            to.row = part.row + part.count - 1;
            read_layer(s, r, layer, &to);
        }
    }
}

bool mixt_sequence_last_routes(const mixt_sequence *s, int32_t *ids, float *weights, float *margins)
{
    /* and nothing of it was cut off since */
    bool fresh = mixt_sequence_is_fresh(s) && s->rows.count > 0 &&
                 s->done == s->rows.position + s->rows.count;
    if (!fresh) {
        return false;
    }
    const mixt_engine *engine = s->engine;
    size_t layers = engine->moe_layers;
    if (s->last_row >= 0) {
        route_rows last = {s->last_row, 1, ids, weights, margins};
        for (size_t layer = 0; layer < layers; layer++) {
            read_layer(s, engine->ran, layer, &last);
        }
        return true;
    }
    route_rows last = last_rows(engine, s->piece);
    for (size_t i = 0; i < layers * engine->chosen; i++) {
        if (ids != NULL) {
            ids[i] = last.ids[i];
        }
        if (weights != NULL) {
            weights[i] = last.weights[i];
        }
    }
    for (size_t layer = 0; layer < layers && margins != NULL; layer++) {
        margins[layer] = last.margins[layer];
    }
    return true;
}

/* Publishes pages that have become whole; one that is there already takes the place of ours. */
static void publish(mixt_sequence *s, size_t from)
{
    mixt_engine *engine = s->engine;
    const size_t block = MIXT_ATTENTION_BLOCK;
    uint64_t before = from < block ? MIXT_PAGE_BEGINNING(s->variant->number)
                                   : mixt_page_serial(engine->pool, s->pages[from / block - 1]);
    int32_t room[MIXT_ATTENTION_BLOCK];
    for (size_t p = from / block; p < s->held / block && before != 0; p++) {
        s->pages[p] = mixt_page_publish(engine->pool, s->pages[p], before,
                                        mixt_sequence_page_tokens(s, p, room));
        before = mixt_page_serial(engine->pool, s->pages[p]);
    }
}

/* Rows [first, first + count) of a value of the head, `size` numbers each. */
static void read_rows(const mixt_runner *r, mixt_value_id value, size_t first, size_t count,
                      size_t size, float *to)
{
    size_t bytes = size * sizeof *to;
    mixt_instance_read(r->instance, value, first * bytes, to, count * bytes);
}

/* Logits of the last row or of all, or states of all, as far as a block has them. */
static void read_head(mixt_engine *engine, const step_block *b, const mixt_piece *piece)
{
    const mixt_runner *r = b->runner;
    const mixt_sequence *s = piece->sequence;
    const mixt_model_options *o = &engine->model->options;
    size_t vocabulary = (size_t)o->vocab_size, hidden = (size_t)o->hidden_size;
    int64_t begin = mixt_most(piece->logits, b->logits);
    int64_t last = piece->logits + piece->logits_count;
    int64_t end = mixt_least(last, b->logits + b->logits_count);
    if (end <= begin) {
        return;
    }
    size_t to = (size_t)begin, first = (size_t)(begin - b->logits), count = (size_t)(end - begin);
    if (s->options.states) {
        read_rows(r, r->graph->states, first, count, hidden, engine->states + to * hidden);
        return;
    }
    if (end == last) {
        read_rows(r, r->graph->logits, first + count - 1, 1, vocabulary, s->logits);
    }
    if (s->options.all_logits) {
        read_rows(r, r->graph->logits, first, count, vocabulary, engine->logits + to * vocabulary);
    }
}

static void hand_out(mixt_engine *engine, int p)
{
    const mixt_piece *piece = &engine->pieces[p];
    mixt_sequence *s = piece->sequence;
    s->rows = (mixt_sequence_rows){.position = s->done};
    if (piece->broken_layer >= 0) {
        (void)mixt_fail(&s->error, MIXT_ERROR_NUMERIC,
                        "layer %d: the router's logits are not finite at position %zu",
                        piece->broken_layer, s->held + (size_t)piece->broken_row);
        return;
    }
    size_t from = s->held, end = from + (size_t)piece->count;
    int64_t fresh = fresh_rows(piece);
    s->rows.position = end - (size_t)fresh;
    s->rows.count = (size_t)fresh;
    s->rows.logits_count = (size_t)piece->logits_count;
    s->rows.logits_position = end - s->rows.logits_count;
    s->piece = p;
    if (piece->logits_count > 0) {
        size_t first = (size_t)piece->logits;
        const mixt_model_options *o = &engine->model->options;
        if (s->options.states) {
            s->rows.states = engine->states + first * (size_t)o->hidden_size;
        } else {
            s->rows.logits =
                s->options.all_logits ? engine->logits + first * (size_t)o->vocab_size : s->logits;
        }
    }
    if (s->options.routes && fresh > 0) {
        route_rows rows = asked_rows(engine, piece->row + piece->count - fresh, fresh);
        s->rows.route_ids = rows.ids;
        s->rows.route_weights = rows.weights;
        s->rows.route_margins = rows.margins;
    }
    s->held = end;
    s->done = s->done > end ? s->done : end;
    if (engine->sharing) {
        publish(s, from);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Running                                                                                    */

/* How far a block has to be run: not to the head where nobody wants it, nor to its product where
 * only states are wanted. */
static int last_record(const step_block *b)
{
    const mixt_graph *graph = b->runner->graph;
    return b->logits_count == 0 ? graph->head
           : b->states_only     ? graph->logits_head
                                : graph->plan->record_count;
}

/* Runs the records of layers [from, end) over a block, the embedding before the first and the head
 * behind the last included, and gathers what they gave. */
static mixt_status run_layers(mixt_engine *engine, const step_block *b, int from, int end,
                              mixt_error *error)
{
    const mixt_runner *r = b->runner;
    int layers = engine->model->options.layers;
    int first = from == 0 ? 0 : r->graph->layers[from];
    int last = end == layers ? last_record(b) : r->graph->layers[end];
    MIXT_TRY(mixt_instance_run(r->instance, b->count, first, last, error));
    for (int i = 0; i < r->graph->moe_layers; i++) {
        const mixt_route_values *route = &r->graph->routes[i];
        if (route->made >= from && route->made < end) {
            gather_layer(engine, b, (size_t)i);
        }
    }
    for (int p = 0; p < engine->piece_count && end == layers; p++) {
        read_head(engine, b, &engine->pieces[p]);
    }
    return MIXT_OK;
}

/* Layer by layer over all blocks. */
static mixt_status sweep(mixt_engine *engine, int64_t rows, mixt_error *error)
{
    const mixt_runner *r = &engine->many;
    const int64_t most = r->graph->options.capacity;
    int layers = engine->model->options.layers;
    for (int layer = 0; layer < layers; layer++) {
        char *cut = engine->sweep.cuts;
        for (int64_t row = 0; row < rows; row += most, cut += engine->sweep.cut_bytes) {
            step_block b = {.runner = r, .row = row, .count = mixt_least(most, rows - row)};
            b.last = row + b.count == rows;
            fill_batch(engine, &b);
            if (layer > 0) {
                mixt_instance_cut_restore(r->instance, r->graph->layers[layer], b.count, cut);
            }
            MIXT_TRY(run_layers(engine, &b, layer, layer + 1, error));
            if (layer + 1 < layers) {
                mixt_instance_cut_save(r->instance, r->graph->layers[layer + 1], b.count, cut);
            }
        }
    }
    return MIXT_OK;
}

static mixt_status compute(mixt_engine *engine, int64_t rows, mixt_error *error)
{
    engine->ran = rows <= engine->few.graph->options.capacity ? &engine->few : &engine->many;
    if (rows > engine->ran->graph->options.capacity) {
        return sweep(engine, rows, error);
    }
    step_block b = {.runner = engine->ran, .count = rows, .last = true};
    fill_batch(engine, &b);
    return run_layers(engine, &b, 0, engine->model->options.layers, error);
}

/* Rows of the instance that the last rows of sequences are, -1 where it held others since. */
static void find_last_rows(mixt_engine *engine, int64_t rows)
{
    int64_t most = engine->ran->graph->options.capacity, begin = (rows - 1) / most * most;
    for (int p = 0; p < engine->piece_count; p++) {
        const mixt_piece *piece = &engine->pieces[p];
        int64_t last = piece->row + piece->count - 1;
        piece->sequence->last_row = last >= begin ? last - begin : -1;
    }
}

mixt_status mixt_engine_step(mixt_engine *engine, mixt_error *error)
{
    engine->step++;
    mixt_engine_schedule(engine);
    if (engine->piece_count == 0) {
        return MIXT_OK;
    }
    int64_t rows, logits;
    mixt_status status = place_pieces(engine, &rows, &logits, error);
    status = status == MIXT_OK ? compute(engine, rows, error) : status;
    status = status == MIXT_OK ? mixt_model_intact(engine->model, error) : status;
    if (status != MIXT_OK) { /* nothing was computed */
        for (int p = 0; p < engine->piece_count; p++) {
            engine->pieces[p].sequence->served = 0;
        }
        return status;
    }
    find_last_rows(engine, rows);
    for (int p = 0; p < engine->piece_count; p++) {
        hand_out(engine, p);
    }
    engine->count.steps++;
    engine->count.rows += (uint64_t)rows;
    engine->count.logits_rows += (uint64_t)logits;
    return MIXT_OK;
}
