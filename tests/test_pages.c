/* A cache of pages: a row's bits are the same in a batch with rows of other sequences and alone,
 * whatever the pages and the threads, and what others hold never reaches it. Operators on the
 * cases of tests/operator_cases_cache.c, and whole models against a session of one sequence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "backend/context.h"
#include "backend/cpu/compute.h"
#include "core/half.h"
#include "eval/score.h"
#include "model/weights.h"
#include "model_checks.h"
#include "operator_cases.h"

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Operators */

#define COMPUTES 3
static mixt_compute *computes[COMPUTES]; /* of 1, 2 and 5 threads */

/* An operator that reads a cache through pages. */
typedef struct reader {
    const operator_subject *subject;
    int pages, last, sequences; /* inputs; of a row of its table, how many sequences */
    int caches[2];              /* inputs */
    int outputs;
} reader;

static const mixt_type types[] = {
    [MIXT_CACHE_F32] = MIXT_TYPE_F32,
    [MIXT_CACHE_F16] = MIXT_TYPE_F16,
    [MIXT_CACHE_BF16] = MIXT_TYPE_BF16,
    [MIXT_CACHE_Q8_0] = MIXT_TYPE_Q8_0,
};
#define TYPES (sizeof types / sizeof types[0])

/* The tensors of one call in fp32; caches in the case's type. */
typedef struct tensors {
    void *in[MIXT_SLOTS], *out[MIXT_SLOTS];
} tensors;

static size_t values_of(const mixt_shape *shape)
{
    size_t values = shape->rank > 0 ? 1 : 0;
    for (int i = 0; i < shape->rank; i++) {
        values *= (size_t)shape->size[i];
    }
    return values;
}

static size_t bytes_of(const mixt_shape *shape)
{
    return values_of(shape) * (shape->dtype == MIXT_ELEMENT_BYTE ? 1 : 4);
}

static size_t row_bytes(const mixt_shape *shape)
{
    return shape->rank > 0 ? bytes_of(shape) / (size_t)shape->size[0] : 0;
}

static void open_case(const reader *r, int row, operator_case *c)
{
    memset(c, 0, sizeof *c);
    c->op = r->subject->op;
    c->p = r->subject->rows[row];
    c->tokens = c->p[0];
    c->layer = -1;
    c->request.capacity = c->p[1];
    c->request.attributes = &c->attributes;
    r->subject->prepare(c);
    case_seed(row);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        size_t values = values_of(&c->request.in[i]);
        c->integer[i] = calloc(values + 1, sizeof(int32_t));
        c->value[i] = calloc(values + 1, sizeof(double));
        for (size_t j = 0; j < values; j++) {
            c->value[i][j] = case_normal();
        }
    }
    r->subject->fill(c);
}

/* The same with caches of a type. */
static void set_type(const reader *r, operator_case *c, mixt_type type)
{
    c->attributes.cache_type = type;
    for (int i = 0; i < 2 && r->caches[i] >= 0; i++) {
        mixt_shape *shape = &c->request.in[r->caches[i]];
        *shape = mixt_cache_shape(type, shape->size[0], shape->size[1]);
    }
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_operator_row(c->op)->shape(&c->request, &error), &error);
}

static void close_case(operator_case *c)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        free(c->integer[i]);
        free(c->value[i]);
    }
}

static void free_tensors(tensors *t)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        free(t->in[i]);
        free(t->out[i]);
    }
}

/* Memory of the backend with what the host has, which may be nothing; NULL: no bytes. */
static void *stage(mixt_device_memory *memory, const void *host, size_t bytes)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (bytes == 0) {
        return NULL;
    }
    require(mixt_device_memory_create(mixt_backend_cpu(sizeof(float)), bytes, memory, &error),
            &error);
    if (host != NULL) {
        mixt_device_memory_write(memory, 0, host, bytes);
    }
    return memory->data;
}

static void run_call(const operator_case *c, const tensors *t, int64_t tokens, int compute)
{
    mixt_device_memory memory[2 * MIXT_SLOTS + 1] = {{0}};
    size_t reals = (size_t)c->request.forward_workspace + 1;
    mixt_call call = {.compute = computes[compute],
                      .attributes = &c->attributes,
                      .tokens = tokens,
                      .layer = -1,
                      .in_shape = c->request.in,
                      .out_shape = c->request.out};
    call.workspace = stage(&memory[2 * MIXT_SLOTS], NULL, reals * sizeof(float));
    for (int i = 0; i < MIXT_SLOTS; i++) {
        call.in[i] = stage(&memory[i], t->in[i], bytes_of(&c->request.in[i]));
        call.out[i] = stage(&memory[MIXT_SLOTS + i], t->out[i], bytes_of(&c->request.out[i]));
    }
    mixt_backend_cpu(sizeof(float))->forward[c->op](&call);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        mixt_device_memory *in = &memory[i], *out = &memory[MIXT_SLOTS + i];
        if (out->data != NULL) {
            mixt_device_memory_read(out, 0, t->out[i], out->size);
        }
        if (in->data != NULL && c->op == MIXT_OP_kv_write) { /* which changes caches */
            mixt_device_memory_read(in, 0, t->in[i], in->size);
        }
    }
    for (int i = 0; i <= 2 * MIXT_SLOTS; i++) {
        mixt_device_memory_free(&memory[i]);
    }
}

/* Writes a cache of a short type by the operator that does; its columns are what is left of what
 * the case has. */
static void write_cache(const operator_case *c, int slot, const float *values, void *to)
{
    const mixt_shape *cache = &c->request.in[slot];
    const mixt_type_row *type = mixt_type_info(c->attributes.cache_type);
    int64_t rows = cache->size[0], columns = cache->size[1] / type->bytes * type->elements;
    operator_case writer = {.op = MIXT_OP_kv_write, .attributes = c->attributes};
    mixt_shape_request *request = &writer.request;
    request->attributes = &writer.attributes;
    request->capacity = rows;
    request->in[KV_WRITE_K] = mixt_shape_tokens(rows, 1, columns);
    request->in[KV_WRITE_SLOTS] = mixt_shape_integers(mixt_shape_tokens(rows, 1, 0));
    request->in[KV_WRITE_CACHE_K] = *cache;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_operator_row(MIXT_OP_kv_write)->shape(request, &error), &error);
    int32_t *slots = malloc((size_t)rows * sizeof *slots);
    for (int64_t i = 0; i < rows; i++) {
        slots[i] = (int32_t)i;
    }
    tensors t = {{NULL}, {NULL}};
    t.in[KV_WRITE_K] = (void *)(uintptr_t)values;
    t.in[KV_WRITE_SLOTS] = slots;
    t.in[KV_WRITE_CACHE_K] = to;
    run_call(&writer, &t, rows, 1);
    free(slots);
}

static tensors create_tensors(const operator_case *c)
{
    tensors made = {{NULL}, {NULL}};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        const mixt_shape *in = &c->request.in[i];
        const mixt_type_row *type = mixt_type_info(c->attributes.cache_type);
        bool narrow = in->dtype == MIXT_ELEMENT_BYTE;
        size_t count = values_of(in) / (narrow ? (size_t)type->bytes : 1) *
                       (narrow ? (size_t)type->elements : 1);
        made.in[i] = in->rank > 0 ? malloc(count * sizeof(float)) : NULL;
        for (size_t j = 0; j < count; j++) {
            if (in->dtype == MIXT_ELEMENT_I32) {
                ((int32_t *)made.in[i])[j] = c->integer[i][j];
            } else {
                ((float *)made.in[i])[j] = (float)c->value[i][j];
            }
        }
        if (narrow) {
            float *values = made.in[i];
            made.in[i] = calloc(bytes_of(in), 1);
            write_cache(c, i, values, made.in[i]);
            free(values);
        }
        made.out[i] = calloc(values_of(&c->request.out[i]) + 1, sizeof(float));
    }
    return made;
}

/* Row t as the only one, its sequence in other pages, everything else NaN. */
static tensors alone(const reader *r, const operator_case *c, const tensors *mixed, int64_t t)
{
    tensors one = {{NULL}, {NULL}};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        const mixt_shape *shape = &c->request.in[i];
        size_t bytes = row_bytes(shape);
        one.in[i] = shape->rank > 0 ? malloc(bytes_of(shape)) : NULL;
        one.out[i] = calloc(values_of(&c->request.out[i]) + 1, sizeof(float));
        if (shape->rank > 0) {
            memcpy(one.in[i], mixed->in[i], bytes_of(shape));
        }
        if (shape->rank > 0 && shape->per_token) {
            memmove(one.in[i], (char *)one.in[i] + (size_t)t * bytes, bytes);
        }
    }
    const mixt_shape *table = &c->request.in[r->pages];
    int64_t each = table->size[1], line = c->integer[r->pages + 1][t];
    int64_t visible = c->integer[r->last][t] + 1, turn = case_below(each);
    int32_t *pages = one.in[r->pages];
    for (int64_t i = 0; i < table->size[0] * each; i++) {
        pages[i] = INT32_MIN;
    }
    for (int64_t i = 0; i * MIXT_ATTENTION_BLOCK < visible; i++) {
        pages[line * each + i] = (int32_t)((i + turn) % each);
    }
    for (int cache = 0; cache < 2 && r->caches[cache] >= 0; cache++) {
        int slot = r->caches[cache];
        size_t row = row_bytes(&c->request.in[slot]);
        memset(one.in[slot], 0xff, bytes_of(&c->request.in[slot]));
        for (int64_t p = 0; p < visible; p++) {
            size_t from = (size_t)case_row(c, r->pages, t, p);
            size_t to = (size_t)mixt_cache_row(pages, each, line, p);
            memcpy((char *)one.in[slot] + to * row, (char *)mixed->in[slot] + from * row, row);
        }
    }
    return one;
}

static void same_row(const reader *r, const operator_case *c, const tensors *mixed,
                     const tensors *one, int64_t t)
{
    for (int slot = 0; slot < r->outputs; slot++) {
        size_t bytes = row_bytes(&c->request.out[slot]);
        assert_memory_equal((char *)mixed->out[slot] + (size_t)t * bytes, one->out[slot], bytes);
    }
}

/* Value `value` of a block of a short type, by the formats' definition. */
static float read_value(mixt_type type, const unsigned char *block, int value)
{
    uint16_t bits;
    memcpy(&bits, type == MIXT_TYPE_Q8_0 ? block : block + 2 * value, sizeof bits);
    return type == MIXT_TYPE_BF16  ? mixt_bf16_value(bits)
           : type == MIXT_TYPE_F16 ? mixt_f16_value(bits)
                                   : mixt_f16_value(bits) * (float)(signed char)block[2 + value];
}

/* A cache of a short type gives what reals do that are the values it holds; these are as near to
 * the case's as the type comes. */
static void same_as_reals(const reader *r, const operator_case *c, const tensors *narrow)
{
    mixt_type type = c->attributes.cache_type;
    const mixt_type_row *info = mixt_type_info(type);
    const double allowed = type == MIXT_TYPE_F16    ? 0x1p-11
                           : type == MIXT_TYPE_BF16 ? 0x1p-8
                                                    : 0.005;
    operator_case plain = *c;
    plain.request.attributes = &plain.attributes;
    plain.attributes.cache_type = MIXT_TYPE_F32;
    for (int cache = 0; cache < 2 && r->caches[cache] >= 0; cache++) {
        int slot = r->caches[cache];
        const mixt_shape *shape = &c->request.in[slot];
        size_t blocks = values_of(shape) / (size_t)info->bytes, each = (size_t)info->elements;
        double *values = malloc(blocks * each * sizeof *values);
        for (size_t i = 0; i < blocks * each; i++) {
            const unsigned char *block =
                (const unsigned char *)narrow->in[slot] + i / each * (size_t)info->bytes;
            double was = c->value[slot][i], largest = fabs(was);
            for (size_t j = i / each * each; j < (i / each + 1) * each; j++) {
                largest = fmax(largest, fabs(c->value[slot][j]));
            }
            values[i] = (double)read_value(type, block, (int)(i % each));
            assert_true(was == 1e30 || fabs(values[i] - was) <= allowed * largest + 0x1p-24);
        }
        plain.value[slot] = values;
        plain.request.in[slot] =
            mixt_shape_static(2, shape->size[0], (int64_t)(blocks * each) / shape->size[0], 0);
    }
    tensors reals = create_tensors(&plain);
    run_call(&plain, &reals, plain.tokens, 0);
    for (int slot = 0; slot < r->outputs; slot++) {
        assert_memory_equal(reals.out[slot], narrow->out[slot],
                            (size_t)c->tokens * row_bytes(&c->request.out[slot]));
    }
    free_tensors(&reals);
    for (int cache = 0; cache < 2 && r->caches[cache] >= 0; cache++) {
        free(plain.value[r->caches[cache]]);
    }
}

static int check_case(const reader *r, int row, mixt_type type)
{
    operator_case c;
    open_case(r, row, &c);
    set_type(r, &c, type);
    tensors mixed[COMPUTES];
    for (int i = 0; i < COMPUTES; i++) {
        mixed[i] = create_tensors(&c);
        run_call(&c, &mixed[i], c.tokens, i);
        for (int slot = 0; slot < r->outputs; slot++) {
            assert_memory_equal(mixed[i].out[slot], mixed[0].out[slot],
                                (size_t)c.tokens * row_bytes(&c.request.out[slot]));
        }
    }
    for (int64_t t = 0; t < c.tokens; t++) {
        tensors one = alone(r, &c, &mixed[0], t);
        run_call(&c, &one, 1, (int)(t % COMPUTES));
        same_row(r, &c, &mixed[0], &one, t);
        free_tensors(&one);
    }
    if (type != MIXT_TYPE_F32) {
        same_as_reals(r, &c, &mixed[0]);
    }
    for (int i = 0; i < COMPUTES; i++) {
        free_tensors(&mixed[i]);
    }
    close_case(&c);
    return (int)c.tokens;
}

/* Whether heads are whole blocks; a filter's rows stay reals. */
static bool has_type(const reader *r, int row, mixt_type type)
{
    const int64_t *p = r->subject->rows[row];
    int64_t each = mixt_type_info(type)->elements;
    return type == MIXT_TYPE_F32 ||
           (r->subject->op == MIXT_OP_attention && p[4] % each == 0 && p[8] % each == 0);
}

static void operators_give_a_row_its_bits(void **state)
{
    (void)state;
    const reader readers[] = {
        {&attention_subject, ATTENTION_PAGES, ATTENTION_LAST, 10, {ATTENTION_K, ATTENTION_V}, 2},
        {&shift_subject, SHIFT_PAGES, SHIFT_LAST, 5, {SHIFT_SOURCE, -1}, 1},
    };
    int rows = 0, of_type[TYPES] = {0};
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        for (int row = 0; row < readers[i].subject->count; row++) {
            bool paged = readers[i].subject->rows[row][readers[i].sequences] > 0;
            for (size_t type = 0; paged && type < TYPES; type++) {
                bool has = has_type(&readers[i], row, types[type]);
                rows += has ? check_case(&readers[i], row, types[type]) : 0;
                of_type[type] += has;
            }
        }
    }
    print_message("%d rows alone and beside others\n", rows);
    assert_true(rows > 1500);
    for (size_t type = 0; type < TYPES; type++) {
        assert_true(of_type[type] >= 3);
    }
}

/* A mean of the rows that a document was fed first, beside a row of another whose position goes on
 * where the first one's rows end. */
static void documents_are_not_joined(void **state)
{
    (void)state;
    operator_case c = {.op = MIXT_OP_pool, .tokens = 4};
    mixt_shape_request *request = &c.request;
    request->attributes = &c.attributes;
    request->capacity = 4;
    request->in[POOL_X] = mixt_shape_tokens(4, 1, 1);
    request->in[POOL_FIRST] = request->in[POOL_LAST] = request->in[POOL_SEQUENCE] =
        mixt_shape_integers(mixt_shape_tokens(4, 1, 0));
    request->in[POOL_PAGES] = mixt_shape_integers(mixt_shape_static(2, 2, 1, 0));
    request->in[POOL_CACHE] = mixt_shape_static(2, 2 * MIXT_ATTENTION_BLOCK, 1, 0);
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_operator_row(MIXT_OP_pool)->shape(request, &error), &error);
    float x[] = {1, 2, 6, 50}, y[4], cache[2 * MIXT_ATTENTION_BLOCK] = {7}; /* line 1's mean */
    int32_t first[4] = {0}, last[] = {0, 1, 2, 3}, pages[] = {1, 0}, sequence[] = {0, 0, 0, 1};
    tensors t = {{NULL}, {y}};
    t.in[POOL_X] = x;
    t.in[POOL_FIRST] = first;
    t.in[POOL_LAST] = last;
    t.in[POOL_PAGES] = pages;
    t.in[POOL_SEQUENCE] = sequence;
    t.in[POOL_CACHE] = cache;
    run_call(&c, &t, 4, 0);
    const float expected[] = {3, 3, 3, 7};
    assert_memory_equal(y, expected, sizeof expected);
}

/* ------------------------------------------------------------------------------------------ */
/* Models */

#define POSITIONS 200 /* of a sequence */
#define SEQUENCES 4
#define POOL 14 /* pages; all sequences together need fewer */
#define ROWS 144
#define FORWARDS 8

/* Rows of each sequence in each forward: pieces of prompts beside single rows, over borders of
 * pages. */
static const int plan[FORWARDS][SEQUENCES] = {
    {40, 9, 0, 1}, {30, 1, 100, 1}, {1, 1, 1, 1}, {0, 70, 1, 12},
    {1, 1, 30, 1}, {60, 0, 1, 63},  {1, 1, 1, 1}, {7, 8, 9, 1},
};

typedef struct runner {
    mixt_graph *graph;
    mixt_instance *instance;
    mixt_weights *weights;
    mixt_device_memory cache, rope;
    mixt_batch batch;
    int length[SEQUENCES];
    int next_page;
    bool expanded; /* latent attention */
} runner;

static void bind(runner *r, mixt_error *error)
{
    static const float scale[MIXT_SCALES] = {0};
    size_t offset = 0;
    mixt_instance_write(r->instance, r->graph->scale, scale, sizeof scale);
    mixt_instance_bind(r->instance, r->graph->rope, &r->rope, 0);
    for (int i = 0; i < r->graph->cache_count; i++) {
        mixt_instance_bind(r->instance, r->graph->caches[i].value, &r->cache, offset);
        offset += r->graph->caches[i].bytes;
    }
    require(mixt_weights_bind(r->weights, r->graph, r->instance, error), error);
}

/* The cache holds NaN where nobody wrote. */
static void open_runner(const mixt_context *context, const mixt_model *model, mixt_type type,
                        runner *r)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_device *device = &context->device;
    const mixt_backend *backend = mixt_device_backend(device, sizeof(float));
    mixt_matmul matmul = mixt_context_matmul(context);
    mixt_graph_options options = {.phase = MIXT_PHASE_GENERATE,
                                  .capacity = ROWS,
                                  .cache_capacity = POSITIONS,
                                  .sequences = SEQUENCES,
                                  .cache_pages = POOL,
                                  .takes = SEQUENCES,
                                  .cache_type = type,
                                  .real_size = sizeof(float),
                                  .merged = mixt_weights_merge(model, device, matmul)};
    memset(r, 0, sizeof *r);
    require(mixt_graph_create(model, &options, &r->graph, &error), &error);
    require(mixt_instance_create(r->graph->plan, device, matmul, &r->instance, &error), &error);
    size_t bytes = mixt_graph_cache_bytes(r->graph);
    require(mixt_device_memory_create(backend, bytes, &r->cache, &error), &error);
    unsigned char *nothing = malloc(bytes);
    memset(nothing, 0xff, bytes);
    mixt_device_memory_write(&r->cache, 0, nothing, bytes);
    free(nothing);
    require(mixt_rope_create(model, backend, POSITIONS, &r->rope, &error), &error);
    assert_false(mixt_rope_by_length(&model->options, POSITIONS));
    require(mixt_weights_create(model, device, &r->weights, &error), &error);
    require(mixt_weights_pack(r->weights, matmul, &error), &error);
    require(mixt_batch_create_paged(r->graph, &r->batch, &error), &error);
    bind(r, &error);
}

static void close_runner(runner *r)
{
    mixt_instance_free(r->instance);
    mixt_graph_free(r->graph);
    mixt_weights_free(r->weights);
    mixt_device_memory_free(&r->cache);
    mixt_device_memory_free(&r->rope);
    mixt_batch_free(&r->batch);
}

static int32_t token_at(const mixt_model *model, int sequence, int position)
{
    return (int32_t)((position * 7 + sequence * 31 + position * position * (sequence + 3)) %
                     model->options.vocab_size);
}

/* One forward of the plan, sequences in an order that turns; pages are given out in an order that
 * jumps about. */
static void step(runner *r, const mixt_model *model, int forward)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_batch *batch = &r->batch;
    batch->rows = 0;
    memset(batch->take, 0, SEQUENCES * sizeof(int32_t));
    for (int i = 0; i < SEQUENCES; i++) {
        int sequence = (i * 3 + forward) % SEQUENCES;
        int32_t *pages = batch->pages + sequence * batch->pages_per_sequence;
        for (int row = 0; row < plan[forward][sequence]; row++, batch->rows++) {
            int position = r->length[sequence]++;
            if (pages[position / MIXT_ATTENTION_BLOCK] < 0) {
                assert_true(r->next_page < POOL);
                pages[position / MIXT_ATTENTION_BLOCK] = r->next_page++ * 5 % POOL;
            }
            mixt_batch_place(batch, batch->rows, token_at(model, sequence, position), sequence,
                             position);
            batch->expanded[batch->rows] = r->expanded;
            batch->take[sequence] = (int32_t)batch->rows;
        }
    }
    mixt_batch_write(batch, r->graph, r->instance);
    require(mixt_instance_run(r->instance, batch->rows, 0, r->graph->plan->record_count, &error),
            &error);
}

static void feed_alone(const mixt_model *model, mixt_session *session, int sequence, int count)
{
    mixt_error error = MIXT_ERROR_INIT;
    int32_t tokens[ROWS];
    int length = (int)mixt_session_length(session);
    for (int i = 0; i < count; i++) {
        tokens[i] = token_at(model, sequence, length + i);
    }
    require(mixt_session_feed(session, tokens, (size_t)count, &error), &error);
}

/* Every sequence of the plan beside the others and alone in a session. */
static void check_form(mixt_context *context, const mixt_model *model, mixt_cache_type type,
                       mixt_latent latent)
{
    size_t vocab = (size_t)model->options.vocab_size;
    float *logits = calloc(SEQUENCES * vocab, sizeof *logits);
    mixt_session *sessions[SEQUENCES];
    mixt_session_options options = {
        .context_length = POSITIONS, .cache_type = type, .latent = latent};
    mixt_error error = MIXT_ERROR_INIT;
    for (int i = 0; i < SEQUENCES; i++) {
        require(mixt_session_create_with(context, model, &options, &sessions[i], &error), &error);
    }
    runner r;
    open_runner(context, model, types[type], &r);
    r.expanded = latent == MIXT_LATENT_EXPANDED;
    for (int forward = 0; forward < FORWARDS; forward++) {
        step(&r, model, forward);
        mixt_instance_read(r.instance, r.graph->logits, 0, logits,
                           SEQUENCES * vocab * sizeof *logits);
        for (int i = 0; i < SEQUENCES; i++) {
            if (plan[forward][i] > 0) {
                feed_alone(model, sessions[i], i, plan[forward][i]);
                assert_memory_equal(mixt_session_logits(sessions[i]), logits + (size_t)i * vocab,
                                    vocab * sizeof *logits);
            }
        }
    }
    close_runner(&r);
    for (int i = 0; i < SEQUENCES; i++) {
        mixt_session_free(sessions[i]);
    }
    free(logits);
}

static void check_model(mixt_context *context, const mixt_model *model, mixt_cache_type type)
{
    check_form(context, model, type, MIXT_LATENT_ABSORBED);
    if (model->options.attention.latent_size > 0) {
        check_form(context, model, type, MIXT_LATENT_EXPANDED);
    }
}

/* What is scored for a type of cache has the bits of sessions with such a cache. */
static void check_scores(int threads, const mixt_model *model, mixt_cache_type type)
{
    enum { WINDOW = 40 };
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context;
    mixt_context_options with = {.threads = threads, .cache_type = type};
    require(mixt_context_create(&with, &context, &error), &error);
    mixt_scorer_options options = {.window = WINDOW, .logits = true, .rows = WINDOW};
    mixt_session_options cache = {.context_length = WINDOW, .cache_type = type};
    mixt_scorer *scorer;
    mixt_session *session;
    require(mixt_scorer_open(context, model, &options, &scorer, &error), &error);
    require(mixt_session_create_with(context, model, &cache, &session, &error), &error);
    mixt_batch_sequence(&scorer->batch, 0, WINDOW);
    for (int i = 0; i < WINDOW; i++) {
        scorer->batch.tokens[i] = token_at(model, 0, i);
        scorer->batch.targets[i] = -1;
    }
    require(mixt_scorer_run(scorer, WINDOW, &error), &error);
    size_t vocab = (size_t)model->options.vocab_size;
    float *logits = calloc(WINDOW * vocab, sizeof *logits);
    mixt_instance_read(scorer->instance, scorer->graph->logits, 0, logits,
                       WINDOW * vocab * sizeof *logits);
    for (size_t i = 0; i < WINDOW; i++) {
        require(mixt_session_feed(session, &scorer->batch.tokens[i], 1, &error), &error);
        assert_memory_equal(mixt_session_logits(session), logits + i * vocab,
                            vocab * sizeof *logits);
    }
    free(logits);
    mixt_session_free(session);
    mixt_scorer_free(scorer);
    mixt_context_free(context);
}

/* On one thread and on two, with this type and F32. */
static void on_threads(const mixt_model *model, mixt_cache_type type)
{
    check_scores(1, model, MIXT_CACHE_F32);
    check_scores(2, model, type);
    for (int threads = 1; threads <= 2; threads++) {
        mixt_context *context = test_context(threads, NULL);
        check_model(context, model, MIXT_CACHE_F32);
        check_model(context, model, type);
        mixt_context_free(context);
    }
}

static void families_give_a_sequence_its_bits(void **state)
{
    (void)state;
    static const char *const names[] = {
        "deepseek",       "deepseek_v2-lite",
        "deepseek_v3",    "glm4_moe",
        "glm4_moe_lite",  "gpt_oss-mxfp4.gguf",
        "grok-1",         "llama-gqa",
        "longcat",        "minimax_m2",
        "mistral-window", "mixtral.gguf",
        "olmoe-clip",     "qwen2",
        "qwen2_moe",      "qwen3",
        "qwen3_moe",      "skywork",
        "yuan",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model *model = NULL;
        char path[256];
        snprintf(path, sizeof path, "tests/fixtures/families/%s", names[i]);
        require(mixt_model_open(path, &model, &error), &error);
        on_threads(model, i % 2 == 0 ? MIXT_CACHE_F16 : MIXT_CACHE_BF16);
        mixt_model_free(model);
    }
}

/* Heads of whole blocks, as latents and as heads of their own. */
static void blocks_give_a_sequence_its_bits(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    options.head_dim = 64;
    mixt_model *model = test_new_model(&options, 0.1);
    on_threads(model, MIXT_CACHE_Q8_0);
    mixt_model_free(model);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session = NULL;
    mixt_context *context = test_context(1, NULL);
    options.head_dim = 48; /* two heads are whole blocks, one is not */
    model = test_new_model(&options, 0);
    mixt_session_options wanted = {.context_length = 64, .cache_type = MIXT_CACHE_Q8_0};
    assert_int_equal(mixt_session_create_with(context, model, &wanted, &session, &error),
                     MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "heads of 48 values are not whole blocks of 32, which a "
                                          "cache of Q8_0 has"));
    error = (mixt_error)MIXT_ERROR_INIT;
    wanted.cache_type = (mixt_cache_type)4;
    assert_int_equal(mixt_session_create_with(context, model, &wanted, &session, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "session: cache type 4 is not in 0..3");
    assert_null(session);
    mixt_context_options odd = {.cache_type = (mixt_cache_type)4};
    mixt_context *none;
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_context_create(&odd, &none, &error), MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "context: cache type 4 is not in 0..3");
    mixt_model_free(model);
    mixt_context_free(context);
}

/* Routers that decide by sums over a document keep these in the cache as well. */
static void segments_give_a_sequence_its_bits(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    options.router.unit = MIXT_UNIT_SEGMENT;
    options.router.segment = 7;
    mixt_model *model = test_new_model(&options, 0.1);
    on_threads(model, MIXT_CACHE_F16);
    mixt_model_free(model);
}

static void caches_that_are_too_large_are_refused(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    mixt_model *model = test_new_model(&options, 0);
    mixt_graph_options bad = {.phase = MIXT_PHASE_GENERATE,
                              .capacity = 1,
                              .cache_capacity = 1 << 20,
                              .sequences = 1 << 12,
                              .real_size = sizeof(float)};
    mixt_graph *graph;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_graph_create(model, &bad, &graph, &error), MIXT_ERROR_MEMORY);
    assert_string_equal(error.message, "plan: 4096 sequences of 1048576 positions are too many");
    error = (mixt_error)MIXT_ERROR_INIT;
    bad.sequences = 2;
    bad.cache_pages = INT64_C(1) << 40;
    assert_int_equal(mixt_graph_create(model, &bad, &graph, &error), MIXT_ERROR_MEMORY);
    assert_string_equal(error.message, "plan: a cache of 1099511627776 pages is too large");
    mixt_model_free(model);
}

static int start(void **state)
{
    (void)state;
    static const int threads[COMPUTES] = {1, 2, 5};
    for (int i = 0; i < COMPUTES; i++) {
        mixt_context_options options = {.threads = threads[i]};
        if (mixt_compute_create(&options, &computes[i], NULL) != MIXT_OK) {
            return 1;
        }
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (int i = 0; i < COMPUTES; i++) {
        mixt_compute_free(computes[i]);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_give_a_row_its_bits),
        cmocka_unit_test(documents_are_not_joined),
        cmocka_unit_test(families_give_a_sequence_its_bits),
        cmocka_unit_test(blocks_give_a_sequence_its_bits),
        cmocka_unit_test(segments_give_a_sequence_its_bits),
        cmocka_unit_test(caches_that_are_too_large_are_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
