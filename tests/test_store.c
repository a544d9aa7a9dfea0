/* Experts that are taken from a store: the same bits as experts that are bound, whatever waves they
 * come in, only those taken that have rows, and what a run says where one cannot be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/context.h"
#include "model/weights.h"
#include "model_checks.h"
#include "quant/quant.h"

#define LAYERS 3
#define EXPERTS 6
#define CHOSEN 2
#define VOCABULARY 37
#define PROMPT 16
#define POSITIONS 24
#define BROKEN_LAYER 1
#define BROKEN_EXPERT 3

enum { GATE, UP, DOWN, MATRICES };
static const mixt_slot slots[MATRICES] = {MIXT_SLOT_EXPERT_GATE, MIXT_SLOT_EXPERT_UP,
                                          MIXT_SLOT_EXPERT_DOWN};

/* The experts' rows of one parameter. */
typedef struct shelf {
    mixt_device_memory memory;
    mixt_matrix matrices[EXPERTS];
} shelf;

/* The store of a layer: gives experts last first, `wave` at a time. */
typedef struct layer_store {
    shelf shelves[MATRICES];
    mixt_store store;
    int wave;
    int taken[EXPERTS];
    bool open, here[EXPERTS];
    unsigned broken; /* bit e: expert e cannot be had */
    int begun, ended;
} layer_store;

/* Where the experts are. */
typedef enum place { BOUND, TYPED, STORED } place;

/* A graph for generation with all that it runs on. */
typedef struct runner {
    const mixt_model *model;
    mixt_graph *graph;
    mixt_instance *instance;
    mixt_device_memory weights, cache, rope;
    layer_store layers[LAYERS];
    unsigned char *bytes[LAYERS][MATRICES]; /* behind the shelves */
    mixt_batch batch;
} runner;

static mixt_context *context;
static mixt_model *model;
static int32_t tokens[POSITIONS];

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

static void begin(void *user, int64_t count)
{
    layer_store *from = user;
    assert_true(count > 0);
    from->begun++;
}

static void end(void *user)
{
    layer_store *from = user;
    from->ended++;
}

static int64_t take(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error)
{
    layer_store *from = user;
    int64_t count = 0;
    if (!from->open) {
        memset(from->taken, 0, sizeof from->taken);
    }
    from->open = true;
    memset(from->here, 0, sizeof from->here);
    for (int e = EXPERTS - 1; e >= 0 && count < from->wave; e--) {
        if (offsets[e + 1] == offsets[e] || from->taken[e] > 0) {
            continue;
        }
        experts[count++] = e;
        from->taken[e]++;
        from->here[e] = true;
        if ((from->broken >> e & 1) != 0) {
            experts[0] = e;
            from->open = false;
            mixt_fail(error, MIXT_ERROR_IO, "no rows for number %d", e);
            return -1;
        }
    }
    from->open = count > 0;
    return count;
}

static const mixt_matrix *rows_of(void *user, int matrix, int64_t expert)
{
    layer_store *from = user;
    assert_in_range(expert, 0, EXPERTS - 1);
    assert_true(from->here[expert]);
    return &from->shelves[matrix].matrices[expert];
}

/* The rows of a parameter as `type`, one expert behind the other, in the device's memory. */
static void fill_shelf(const mixt_parameter *p, mixt_type type, shelf *to, unsigned char **bytes)
{
    mixt_error error = MIXT_ERROR_INIT;
    int64_t n = p->size[1], k = p->size[2];
    size_t row_bytes = mixt_type_row_bytes(type, k), size = (size_t)(EXPERTS * n) * row_bytes;
    const float *values = mixt_model_block(model) + p->offset;
    assert_int_equal(p->size[0], EXPERTS);
    assert_true(row_bytes > 0);
    *bytes = malloc(size);
    assert_non_null(*bytes);
    if (type == MIXT_TYPE_F32) {
        memcpy(*bytes, values, size);
    } else {
        require(mixt_quantise(type, values, EXPERTS * n, k, NULL, *bytes, &error), &error);
    }
    require(mixt_device_memory_share(mixt_device_backend(&context->device, sizeof(float)), *bytes,
                                     size, &to->memory, &error),
            &error);
    for (int64_t e = 0; e < EXPERTS; e++) {
        const char *data = (const char *)to->memory.data + (size_t)(e * n) * row_bytes;
        to->matrices[e] =
            (mixt_matrix){.type = type, .n = n, .k = k, .data = data, .row_bytes = row_bytes};
    }
}

static void bind(runner *r, place experts, mixt_type type)
{
    const mixt_graph *g = r->graph;
    size_t offset = 0;
    static const float scale[MIXT_SCALES] = {0};
    mixt_instance_write(r->instance, g->scale, scale, sizeof scale);
    mixt_instance_bind(r->instance, g->rope, &r->rope, 0);
    for (int i = 0; i < g->cache_count; i++) {
        mixt_instance_bind(r->instance, g->caches[i].value, &r->cache, offset);
        offset += g->caches[i].bytes;
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        int slot = 0;
        while (slot < MATRICES && slots[slot] != p->slot) {
            slot++;
        }
        if (slot == MATRICES || experts == BOUND) {
            mixt_instance_bind(r->instance, g->parameters[i], &r->weights,
                               p->offset * sizeof(float));
            continue;
        }
        layer_store *layer = &r->layers[p->layer];
        shelf *from = &layer->shelves[slot];
        fill_shelf(p, type, from, &r->bytes[p->layer][slot]);
        if (experts == TYPED) {
            mixt_instance_bind_matrices(r->instance, g->parameters[i], from->matrices);
        } else {
            mixt_instance_bind_store(r->instance, g->parameters[i], &layer->store);
        }
    }
}

static runner *open_runner(place experts, mixt_type type, int wave)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_backend *backend = mixt_device_backend(&context->device, sizeof(float));
    mixt_graph_options options = {.phase = MIXT_PHASE_GENERATE,
                                  .capacity = PROMPT,
                                  .cache_capacity = POSITIONS,
                                  .real_size = sizeof(float),
                                  .keep_routes = true};
    runner *r = calloc(1, sizeof *r);
    assert_non_null(r);
    require(mixt_graph_create(model, &options, &r->graph, &error), &error);
    require(mixt_instance_create(r->graph->plan, &context->device, MIXT_MATMUL_EXACT, &r->instance,
                                 &error),
            &error);
    require(mixt_device_memory_share(backend, (void *)(uintptr_t)mixt_model_block(model),
                                     model->weight_count * sizeof(float), &r->weights, &error),
            &error);
    require(
        mixt_device_memory_reserve(backend, mixt_graph_cache_bytes(r->graph), &r->cache, &error),
        &error);
    require(mixt_rope_create(model, backend, POSITIONS, &r->rope, &error), &error);
    require(mixt_batch_create_paged(r->graph, &r->batch, &error), &error);
    for (int i = 0; i < r->batch.pages_per_sequence; i++) {
        r->batch.pages[i] = i;
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        layer_store *store = &r->layers[layer];
        store->wave = wave;
        store->store =
            (mixt_store){.user = store, .begin = begin, .end = end, .take = take, .rows = rows_of};
    }
    bind(r, experts, type);
    return r;
}

static void close_runner(runner *r)
{
    mixt_instance_free(r->instance);
    mixt_graph_free(r->graph);
    mixt_device_memory_free(&r->weights);
    mixt_device_memory_free(&r->cache);
    mixt_device_memory_free(&r->rope);
    mixt_batch_free(&r->batch);
    for (int i = 0; i < LAYERS * MATRICES; i++) {
        mixt_device_memory_free(&r->layers[i / MATRICES].shelves[i % MATRICES].memory);
        free(r->bytes[i / MATRICES][i % MATRICES]);
    }
    free(r);
}

/* The tokens of positions [from, to) behind those before them. */
static mixt_status feed(runner *r, int from, int to, mixt_error *error)
{
    mixt_batch *batch = &r->batch;
    batch->rows = to - from;
    batch->take[0] = to - from - 1;
    for (int i = from; i < to; i++) {
        mixt_batch_place(batch, i - from, tokens[i], 0, i);
    }
    mixt_batch_write(batch, r->graph, r->instance);
    return mixt_instance_run(r->instance, batch->rows, 0, r->graph->plan->record_count, error);
}

static const int32_t *rows_of_experts(const runner *r, int layer)
{
    mixt_route route;
    mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
    assert_int_equal(route.layer, layer);
    return route.counts;
}

static void same_results(const runner *a, const runner *b)
{
    float logits[2][VOCABULARY];
    mixt_instance_read(a->instance, a->graph->logits, 0, logits[0], sizeof *logits);
    mixt_instance_read(b->instance, b->graph->logits, 0, logits[1], sizeof *logits);
    assert_memory_equal(logits[0], logits[1], sizeof *logits);
    for (int layer = 0; layer < LAYERS; layer++) {
        assert_memory_equal(rows_of_experts(a, layer), rows_of_experts(b, layer),
                            EXPERTS * sizeof(int32_t));
    }
}

/* Experts with rows were taken once, others never; gives how many had none. */
static int check_taken(const runner *r)
{
    int idle = 0;
    for (int layer = 0; layer < LAYERS; layer++) {
        const int32_t *counts = rows_of_experts(r, layer);
        for (int e = 0; e < EXPERTS; e++) {
            idle += counts[e] == 0;
            assert_int_equal(r->layers[layer].taken[e], counts[e] > 0);
        }
    }
    return idle;
}

/* A prompt, then token by token. */
static void check_store(place other, mixt_type type, int wave)
{
    runner *expected = open_runner(other, type, 0), *stored = open_runner(STORED, type, wave);
    mixt_error error = MIXT_ERROR_INIT;
    int from = 0;
    for (int to = PROMPT; to <= POSITIONS; from = to++) {
        require(feed(expected, from, to, &error), &error);
        require(feed(stored, from, to, &error), &error);
        same_results(expected, stored);
        int idle = check_taken(stored);
        if (to > PROMPT) {
            assert_int_equal(idle, LAYERS * (EXPERTS - CHOSEN));
        }
    }
    int begun = 0;
    for (int layer = 0; layer < LAYERS; layer++) { /* one of the stores stands for all */
        begun += stored->layers[layer].begun;
        assert_int_equal(stored->layers[layer].begun, stored->layers[layer].ended);
    }
    assert_int_equal(begun, POSITIONS - PROMPT + 1);
    close_runner(expected);
    close_runner(stored);
}

static void same_bits_as_weights(void **state)
{
    (void)state;
    for (int wave = 1; wave <= EXPERTS; wave++) {
        check_store(BOUND, MIXT_TYPE_F32, wave);
    }
}

static void same_bits_as_typed_rows(void **state)
{
    (void)state;
    check_store(TYPED, MIXT_TYPE_F32, EXPERTS);
    check_store(TYPED, MIXT_TYPE_F16, 1);
    check_store(TYPED, MIXT_TYPE_Q8_0, 2);
}

/* Who listens is told behind the record, in each run, what it made. */
typedef struct listening {
    const runner *r;
    int calls;
    int32_t rows;
} listening;

static void hear(void *user, const void *made, int64_t count)
{
    listening *l = user;
    const int32_t *offsets = made;
    assert_int_equal(count, EXPERTS + 1);
    l->calls++;
    l->rows = offsets[EXPERTS];
}

static void listeners_are_told(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    runner *r = open_runner(STORED, MIXT_TYPE_F32, EXPERTS);
    listening first = {r, 0, 0}, second = {r, 0, 0}, last = {r, 0, 0};
    mixt_value_id offsets = r->graph->routes[0].value[ROUTE_OFFSETS];
    require(mixt_instance_tell(r->instance, offsets, hear, &first, &error), &error);
    require(mixt_instance_tell(r->instance, offsets, hear, &second, &error), &error);
    require(mixt_instance_tell(r->instance, r->graph->routes[LAYERS - 1].value[ROUTE_OFFSETS], hear,
                               &last, &error),
            &error);
    require(feed(r, 0, PROMPT, &error), &error);
    assert_int_equal(first.rows, PROMPT * CHOSEN);
    require(feed(r, PROMPT, PROMPT + 1, &error), &error);
    assert_int_equal(first.calls, 2);
    assert_int_equal(second.calls, 2);
    assert_int_equal(last.calls, 2);
    assert_int_equal(first.rows, CHOSEN);
    assert_int_equal(last.rows, CHOSEN);
    close_runner(r);
}

static void expect_failure(runner *r, const char *message)
{
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(feed(r, 0, PROMPT, &error), MIXT_ERROR_IO);
    assert_string_equal(error.message, message);
}

static void failure_names_layer_and_expert(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    runner *expected = open_runner(BOUND, MIXT_TYPE_F32, 0);
    require(feed(expected, 0, PROMPT, &error), &error);
    assert_true(rows_of_experts(expected, BROKEN_LAYER)[BROKEN_EXPERT] > 0);
    for (int wave = 1; wave <= EXPERTS; wave += 2) {
        runner *stored = open_runner(STORED, MIXT_TYPE_F32, wave);
        layer_store *broken = &stored->layers[BROKEN_LAYER];
        broken->broken = 1U << BROKEN_EXPERT;
        expect_failure(stored, "plan generate: layer 1: expert 3: no rows for number 3");
        expect_failure(stored, "plan generate: layer 1: expert 3: no rows for number 3");
        broken->broken = 0;
        require(feed(stored, 0, PROMPT, &error), &error);
        same_results(expected, stored);
        close_runner(stored);
    }
    close_runner(expected);
}

/* The same expert is broken in this layer and all later ones: the first is said. */
static void first_failure_is_said(void **state)
{
    (void)state;
    runner *stored = open_runner(STORED, MIXT_TYPE_F32, EXPERTS);
    for (int layer = BROKEN_LAYER; layer < LAYERS; layer++) {
        stored->layers[layer].broken = 1U << BROKEN_EXPERT;
    }
    expect_failure(stored, "plan generate: layer 1: expert 3: no rows for number 3");
    close_runner(stored);
}

/* An expert that cannot be had fails those runs alone that choose it. */
static void idle_experts_may_be_broken(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    runner *expected = open_runner(BOUND, MIXT_TYPE_F32, 0);
    runner *stored = open_runner(STORED, MIXT_TYPE_F32, 1);
    layer_store *layer = &stored->layers[BROKEN_LAYER];
    int failed = 0, passed = 0;
    layer->broken = 1U << BROKEN_EXPERT;
    for (int i = 0; i < POSITIONS; i++) {
        mixt_error again = MIXT_ERROR_INIT;
        require(feed(expected, i, i + 1, &error), &error);
        bool wanted = rows_of_experts(expected, BROKEN_LAYER)[BROKEN_EXPERT] > 0;
        if (wanted) {
            assert_int_equal(feed(stored, i, i + 1, &again), MIXT_ERROR_IO);
            layer->broken = 0;
            require(feed(stored, i, i + 1, &error), &error);
            layer->broken = 1U << BROKEN_EXPERT;
            failed++;
        } else {
            require(feed(stored, i, i + 1, &error), &error);
            passed++;
        }
        same_results(expected, stored);
    }
    assert_true(failed > 0 && passed > 0);
    close_runner(expected);
    close_runner(stored);
}

static int set_up(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    o.vocab_size = VOCABULARY;
    o.layers = LAYERS;
    o.hidden_size = 32;
    o.ffn_size = 64;
    o.experts = EXPERTS;
    o.experts_per_token = CHOSEN;
    context = test_context(2, NULL);
    model = test_new_model(&o, 0.1);
    for (int i = 0; i < POSITIONS; i++) {
        tokens[i] = (i * 11 + i * i) % VOCABULARY;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mixt_model_free(model);
    mixt_context_free(context);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_as_weights),  cmocka_unit_test(same_bits_as_typed_rows),
        cmocka_unit_test(listeners_are_told),    cmocka_unit_test(failure_names_layer_and_expert),
        cmocka_unit_test(first_failure_is_said), cmocka_unit_test(idle_experts_may_be_broken),
    };
    return cmocka_run_group_tests_name("store", tests, set_up, tear_down);
}
