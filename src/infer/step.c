/* One forward over what is next: rows of many sequences go in, and what each gave is handed out. */
#include <stdlib.h>
#include <string.h>

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
    for (int64_t i = piece->row; i < piece->row + piece->count; i++) {
        engine->batch.positions[i] = (int32_t)i;
    }
    return MIXT_OK;
}

/* Fills the batch; how many rows have logits. */
static mixt_status fill_batch(mixt_engine *engine, int64_t *logits, mixt_error *error)
{
    mixt_batch *batch = &engine->batch;
    batch->rows = *logits = 0;
    for (int p = 0; p < engine->piece_count; p++) {
        mixt_piece *piece = &engine->pieces[p];
        const mixt_sequence *s = piece->sequence;
        piece->row = batch->rows;
        piece->logits = *logits;
        place_line(engine, p, s);
        for (int64_t i = 0; i < piece->count; i++) {
            mixt_batch_place(batch, piece->row + i, s->tokens[(int64_t)s->held + i], p,
                             (int64_t)s->held + i);
        }
        batch->rows += piece->count;
        for (int64_t i = piece->logits_count; i > 0; i--) {
            batch->take[(*logits)++] = (int32_t)(batch->rows - i);
        }
        if (engine->rope_by_length) {
            MIXT_TRY(place_rope(engine, piece, error));
        }
    }
    batch->takes = *logits > 0 ? *logits : 1; /* that nobody computes where there are none */
    batch->take[0] = *logits > 0 ? batch->take[0] : 0;
    return MIXT_OK;
}

/* The error of each sequence whose routers gave something that is not a number. */
static void check_finite(mixt_engine *engine, const mixt_runner *r)
{
    for (int layer = 0; layer < r->graph->moe_layers; layer++) {
        mixt_route route;
        mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
        if (mixt_route_broken(&route, NULL) == 0) {
            continue;
        }
        for (int p = 0; p < engine->piece_count; p++) {
            const mixt_piece *piece = &engine->pieces[p];
            int64_t i = 0;
            while (i < piece->count && route.finite[piece->row + i] != 0) {
                i++;
            }
            if (i < piece->count) { /* the first message stays */
                mixt_fail(&piece->sequence->error, MIXT_ERROR_NUMERIC,
                          "layer %d: the router's logits are not finite at position %zu",
                          route.layer, piece->sequence->held + (size_t)i);
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

/* The choices of rows of a sequence in every MoE layer; a layer that chooses fewer has -1 behind
 * them. */
static void read_routes(const mixt_sequence *s, const mixt_runner *r, const route_rows *to)
{
    size_t columns = s->engine->chosen, layers = s->engine->moe_layers;
    for (size_t layer = 0; layer < layers; layer++) {
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
}

bool mixt_sequence_last_routes(const mixt_sequence *s, int32_t *ids, float *weights, float *margins)
{
    /* and nothing of it was cut off since */
    bool fresh = mixt_sequence_is_fresh(s) && s->rows.count > 0 &&
                 s->done == s->rows.position + s->rows.count;
    if (fresh) {
        route_rows last = {s->last_row, 1, ids, weights, margins};
        read_routes(s, s->engine->ran, &last);
    }
    return fresh;
}

/* Publishes pages that have become whole; one that is there already takes the place of ours. */
static void publish(mixt_sequence *s, size_t from)
{
    mixt_engine *engine = s->engine;
    const size_t block = MIXT_ATTENTION_BLOCK;
    uint64_t before = from < block ? MIXT_PAGE_BEGINNING(s->variant->number)
                                   : mixt_page_serial(engine->pool, s->pages[from / block - 1]);
    for (size_t p = from / block; p < s->held / block && before != 0; p++) {
        s->pages[p] = mixt_page_publish(engine->pool, s->pages[p], before, s->tokens + p * block);
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

/* Logits of the last row or of all, or states of all. */
static void read_head(mixt_engine *engine, const mixt_runner *r, const mixt_piece *piece)
{
    mixt_sequence *s = piece->sequence;
    const mixt_model_options *o = &engine->model->options;
    size_t vocabulary = (size_t)o->vocab_size, hidden = (size_t)o->hidden_size;
    size_t first = (size_t)piece->logits, count = (size_t)piece->logits_count;
    if (count > 0 && s->options.states) {
        float *to = engine->states + first * hidden;
        read_rows(r, r->graph->states, first, count, hidden, to);
        s->rows.states = to;
    } else if (count > 0) {
        read_rows(r, r->graph->logits, first + count - 1, 1, vocabulary, s->logits);
        s->rows.logits = s->logits;
    }
    if (count > 0 && s->options.all_logits) {
        float *to = engine->logits + first * vocabulary;
        read_rows(r, r->graph->logits, first, count, vocabulary, to);
        s->rows.logits = to;
    }
}

static void hand_out(mixt_engine *engine, const mixt_runner *r, const mixt_piece *piece)
{
    mixt_sequence *s = piece->sequence;
    s->rows = (mixt_sequence_rows){.position = s->done};
    if (s->error.status != MIXT_OK) {
        return;
    }
    size_t from = s->held, end = from + (size_t)piece->count;
    size_t fresh = end > s->done ? end - s->done : 0; /* rows that were not handed out before */
    fresh = fresh < (size_t)piece->count ? fresh : (size_t)piece->count;
    s->rows.position = end - fresh;
    s->rows.count = fresh;
    s->last_row = piece->row + piece->count - 1;
    s->rows.logits_count = (size_t)piece->logits_count;
    s->rows.logits_position = end - s->rows.logits_count;
    read_head(engine, r, piece);
    if (s->options.routes && fresh > 0) {
        int64_t row = piece->row + piece->count - (int64_t)fresh;
        size_t at = (size_t)row * engine->moe_layers;
        route_rows to = {.row = row,
                         .count = (int64_t)fresh,
                         .ids = engine->route_ids + at * engine->chosen,
                         .weights = engine->route_weights + at * engine->chosen,
                         .margins = engine->route_margins + at};
        read_routes(s, r, &to);
        s->rows.route_ids = to.ids;
        s->rows.route_weights = to.weights;
        s->rows.route_margins = to.margins;
    }
    s->held = end;
    s->done = s->done > end ? s->done : end;
    if (engine->sharing) {
        publish(s, from);
    }
}

/* How far the plan has to be run: not to the head where nobody wants it, nor to its product where
 * only states are wanted. */
static int last_record(const mixt_engine *engine, const mixt_graph *graph)
{
    int end = graph->head;
    for (int p = 0; p < engine->piece_count; p++) {
        const mixt_piece *piece = &engine->pieces[p];
        if (piece->logits_count > 0 && !piece->sequence->options.states) {
            return graph->plan->record_count;
        }
        end = piece->logits_count > 0 ? graph->logits_head : end;
    }
    return end;
}

mixt_status mixt_engine_step(mixt_engine *engine, mixt_error *error)
{
    engine->step++;
    mixt_engine_schedule(engine);
    if (engine->piece_count == 0) {
        return MIXT_OK;
    }
    int64_t logits;
    mixt_status status = fill_batch(engine, &logits, error);
    int64_t rows = engine->batch.rows;
    const mixt_runner *r =
        rows <= engine->few.graph->options.capacity ? &engine->few : &engine->many;
    if (status == MIXT_OK) {
        mixt_batch_write(&engine->batch, r->graph, r->instance);
        status = mixt_instance_run(r->instance, rows, 0, last_record(engine, r->graph), error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_intact(engine->model, error);
    }
    if (status != MIXT_OK) { /* nothing was computed */
        for (int p = 0; p < engine->piece_count; p++) {
            engine->pieces[p].sequence->served = 0;
        }
        return status;
    }
    check_finite(engine, r);
    engine->ran = r;
    for (int p = 0; p < engine->piece_count; p++) {
        hand_out(engine, r, &engine->pieces[p]);
    }
    engine->count.steps++;
    engine->count.rows += (uint64_t)rows;
    engine->count.logits_rows += (uint64_t)logits;
    return MIXT_OK;
}
