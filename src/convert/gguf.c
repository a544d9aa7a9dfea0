/* GGUF files: metadata, tokenizer, tensors in their own or in quantised types. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/memory.h"
#include "formats/gguf.h"
#include "convert/convert.h"
#include "model/config_gguf.h"
#include "model/config_gguf_rope.h"
#include "model/importance.h"
#include "model/laid.h"
#include "quant/quant.h"
#include "tokenizer/tokenizer.h"

#define SLAB_BYTES ((size_t)64 << 20) /* of fp32 rows held at a time */
#define ROWS_OF_ITEM 16
#define WHOLE_BLOCKS 256 /* columns that are whole blocks of every type */

static mixt_place place_of(const mixt_model *model, const mixt_parameter *p)
{
    switch ((int)p->slot) {
    case MIXT_SLOT_EMBED:
        return model->options.tie_embeddings ? MIXT_PLACE_OUTPUT : MIXT_PLACE_EMBED;
    case MIXT_SLOT_OUTPUT:
        return MIXT_PLACE_OUTPUT;
    case MIXT_SLOT_K:
        return MIXT_PLACE_KEY;
    case MIXT_SLOT_V:
        return MIXT_PLACE_VALUE;
    case MIXT_SLOT_O:
        return MIXT_PLACE_ATTENTION_OUTPUT;
    case MIXT_SLOT_DENSE_DOWN:
    case MIXT_SLOT_SHARED_DOWN:
        return MIXT_PLACE_DOWN;
    case MIXT_SLOT_EXPERT_DOWN:
        return MIXT_PLACE_DOWN_STACK;
    case MIXT_SLOT_EXPERT_GATE:
    case MIXT_SLOT_EXPERT_UP:
        return MIXT_PLACE_OTHER_STACK;
    default:
        return MIXT_PLACE_OTHER;
    }
}

/* The one type of all rows of a parameter in its source, MIXT_TYPE_COUNT where they differ or are
 * fp32 values. */
static mixt_type held_type(const mixt_model *model, int parameter)
{
    const mixt_held *held = model->held != NULL ? &model->held[parameter] : NULL;
    if (held == NULL || held->matrices == NULL) {
        return MIXT_TYPE_COUNT;
    }
    for (int i = 1; i < held->count; i++) {
        if (held->matrices[i].type != held->matrices[0].type) {
            return MIXT_TYPE_COUNT;
        }
    }
    return held->matrices[0].type;
}

static void choose_type(const mixt_conversion *c, mixt_target *target)
{
    int parameter = c->parts[target->first].parameter;
    const mixt_parameter *p = &c->model->parameters[parameter];
    const mixt_model_options *o = &c->model->options;
    int64_t columns = target->piece->shape[target->piece->rank - 1];
    mixt_type wanted = MIXT_TYPE_COUNT;
    target->type = MIXT_TYPE_F32;
    if (mixt_parameter_is_matrix(p) && c->mix != NULL) {
        mixt_mix_request request = {
            /* no mix but MXFP4's, which means the experts alone, has a rule for this place */
            .place = c->options->pure ? MIXT_PLACE_OTHER_STACK : place_of(c->model, p),
            .layer = p->layer,
            .layers = o->layers,
            .experts = o->experts,
            .head_group = o->kv_heads > 0 ? o->heads / o->kv_heads : 1,
            .columns = columns,
            .importance = c->options->importance != NULL,
        };
        target->type = mixt_mix_type(c->mix, &request);
        request.columns = WHOLE_BLOCKS;
        wanted = mixt_mix_type(c->mix, &request);
    } else if (mixt_parameter_is_matrix(p)) {
        mixt_type held = held_type(c->model, parameter);
        bool writable = held != MIXT_TYPE_COUNT && mixt_type_info(held)->number >= 0;
        target->type = writable ? held : MIXT_TYPE_F32;
    }
    target->wanted = wanted != MIXT_TYPE_COUNT ? wanted : target->type;
    target->bytes =
        mixt_target_count(target) / (size_t)columns * mixt_type_row_bytes(target->type, columns);
}

int64_t *mixt_target_row_order(const mixt_conversion *c, const mixt_target *target)
{
    const mixt_target_part *part = &c->parts[target->first];
    const mixt_parameter *p = &c->model->parameters[part->parameter];
    const mixt_layout_piece *piece = &part->piece;
    int64_t columns = target->piece->shape[target->piece->rank - 1];
    int64_t rows = (int64_t)mixt_target_count(target) / columns;
    if (target->parts != 1 || p->size[p->rank - 1] != columns || piece->count[3] != columns ||
        piece->stride[3] != 1 || piece->from != 0) {
        return NULL;
    }
    int64_t *order = malloc((size_t)rows * sizeof *order);
    int64_t n = 0;
    for (int64_t a = 0; order != NULL && a < piece->count[0]; a++) {
        for (int64_t b = 0; b < piece->count[1]; b++) {
            for (int64_t r = 0; r < piece->count[2]; r++, n++) {
                int64_t at = a * piece->stride[0] + b * piece->stride[1] + r * piece->stride[2];
                if (at % columns != 0 || at / columns >= rows || n >= rows) {
                    free(order);
                    return NULL;
                }
                order[at / columns] = n + (int64_t)piece->offset / columns;
            }
        }
    }
    return order;
}

/* Rows [begin, end) of one matrix of a target on their way into the file. */
typedef struct slab {
    const mixt_conversion *c;
    const mixt_target *target;
    int parameter;
    const int64_t *order; /* row of the parameter for each row of the slab */
    const float *values;  /* or the values themselves, [rows, columns] */
    int64_t rows, columns;
    const float *importance;
    char *out;
    float *scratch;  /* [threads, ROWS_OF_ITEM, columns] */
    double *squares; /* [items, 2]: of values and of what they lost */
    mixt_error errors[MIXT_THREADS_MAX];
} slab;

/* A row as it lies, where the type stays; false where it does not. */
static bool copy_stored_row(const slab *s, int64_t row, char *out)
{
    const mixt_held *held = s->c->model->held != NULL ? &s->c->model->held[s->parameter] : NULL;
    if (held == NULL || held->matrices == NULL || s->order == NULL) {
        return false;
    }
    int64_t each = held->matrices[0].n, at = s->order[row];
    assert(at >= 0 && at < each * held->count);
    const mixt_matrix *matrix = &held->matrices[at / each];
    bool same = matrix->type == s->target->type && matrix->k == s->columns;
    if (same) {
        mixt_held_row(held, (int)(at / each), at % each, out);
    }
    return same;
}

/* What a row lost, read back into `back`. */
static void measure_row(const slab *s, const float *values, const char *out, float *back,
                        double squares[2])
{
    mixt_dequantise(s->target->type, out, back, s->columns);
    for (int64_t i = 0; i < s->columns; i++) {
        double lost = (double)values[i] - (double)back[i];
        squares[0] += (double)values[i] * (double)values[i];
        squares[1] += lost * lost;
    }
}

static void convert_rows(void *context, int64_t item, int thread)
{
    slab *s = context;
    size_t row_bytes = mixt_type_row_bytes(s->target->type, s->columns);
    float *scratch = s->scratch + (int64_t)thread * ROWS_OF_ITEM * s->columns;
    int64_t begin = item * ROWS_OF_ITEM;
    int64_t end = mixt_least(begin + ROWS_OF_ITEM, s->rows);
    for (int64_t row = begin; row < end; row++) {
        char *out = s->out + (size_t)row * row_bytes;
        if (copy_stored_row(s, row, out)) {
            continue;
        }
        const float *values = scratch;
        if (s->order != NULL) {
            mixt_model_values(s->c->model, s->parameter, (size_t)(s->order[row] * s->columns),
                              (size_t)s->columns, scratch);
        } else {
            values = s->values + row * s->columns;
        }
        if (mixt_quantise(s->target->type, values, 1, s->columns, s->importance, out,
                          &s->errors[thread]) == MIXT_OK &&
            s->target->type != MIXT_TYPE_F32) {
            measure_row(s, values, out, scratch + s->columns, s->squares + 2 * item);
        }
    }
}

static mixt_status run_slab(slab *s, mixt_gguf_writer *writer)
{
    mixt_conversion *c = (mixt_conversion *)s->c;
    int threads = mixt_context_threads(c->context);
    int64_t items = mixt_divide_up(s->rows, ROWS_OF_ITEM);
    memset(s->errors, 0, (size_t)threads * sizeof *s->errors);
    memset(s->squares, 0, 2 * (size_t)items * sizeof *s->squares);
    mixt_pool_run(mixt_context_pool(c->context), items, convert_rows, s);
    for (int64_t i = 0; i < items; i++) { /* in one order, whoever computed them */
        c->value_squares += s->squares[2 * i];
        c->error_squares += s->squares[2 * i + 1];
    }
    for (int i = 0; i < threads; i++) {
        if (s->errors[i].status != MIXT_OK) {
            return mixt_fail(c->error, s->errors[i].status, "tensor %s: %s", s->target->piece->name,
                             s->errors[i].message);
        }
    }
    size_t bytes = (size_t)s->rows * mixt_type_row_bytes(s->target->type, s->columns);
    MIXT_TRY(mixt_conversion_advance(c, bytes));
    return mixt_gguf_writer_write(writer, s->out, bytes, c->error);
}

/* One matrix of a target after another, each in slabs of rows. */
static mixt_status write_slabs(slab *s, const int64_t *order, const float *values,
                               mixt_gguf_writer *writer)
{
    const mixt_conversion *c = s->c;
    const mixt_layout_piece *piece = s->target->piece;
    int64_t matrices = piece->rank == 3 ? piece->shape[0] : 1;
    int64_t each = (int64_t)mixt_target_count(s->target) / s->columns / matrices;
    int64_t step = (int64_t)(SLAB_BYTES / sizeof(float)) / s->columns + 1;
    step = mixt_least(step, each);
    mixt_importance_place place;
    mixt_target_importance(c, s->target, &place);
    float *means = malloc((size_t)s->columns * sizeof *means);
    s->out = malloc((size_t)step * mixt_type_row_bytes(s->target->type, s->columns));
    s->scratch = malloc((size_t)mixt_context_threads(c->context) * ROWS_OF_ITEM *
                        (size_t)s->columns * sizeof *s->scratch);
    s->squares = malloc(2 * (size_t)mixt_divide_up(step, ROWS_OF_ITEM) * sizeof *s->squares);
    mixt_status status = means == NULL || s->out == NULL || s->scratch == NULL || s->squares == NULL
                             ? mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory")
                             : MIXT_OK;
    for (int64_t m = 0; m < matrices && status == MIXT_OK; m++) {
        bool known = c->options->importance != NULL &&
                     mixt_importance_of(c->options->importance, place.name, place.first + m,
                                        s->columns, means);
        s->importance = known ? means : NULL;
        for (int64_t begin = 0; begin < each && status == MIXT_OK; begin += step) {
            s->rows = each - begin < step ? each - begin : step;
            s->order = order != NULL ? order + m * each + begin : NULL;
            s->values = values != NULL ? values + (m * each + begin) * s->columns : NULL;
            status = run_slab(s, writer);
        }
    }
    free(means);
    free(s->out);
    free(s->scratch);
    free(s->squares);
    return status;
}

static mixt_status write_target(mixt_conversion *c, mixt_gguf_writer *writer,
                                const mixt_target *target)
{
    const mixt_target_part *part = &c->parts[target->first];
    slab *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    }
    s->c = c;
    s->target = target;
    s->parameter = part->parameter;
    s->columns = target->piece->shape[target->piece->rank - 1];
    int64_t *order = mixt_target_row_order(c, target);
    float *values = NULL;
    mixt_status status = MIXT_OK;
    if (order == NULL) { /* not whole rows: all of it at once */
        values = calloc(mixt_target_count(target), sizeof *values);
        status = values == NULL ? mixt_fail(c->error, MIXT_ERROR_MEMORY,
                                            "convert: no memory for tensor %s", target->piece->name)
                                : mixt_target_values(c, target, values);
    }
    if (status == MIXT_OK) {
        status = write_slabs(s, order, values, writer);
    }
    free(order);
    free(values);
    free(s);
    return status;
}

static mixt_status write_metadata(mixt_conversion *c, mixt_gguf_writer *writer)
{
    MIXT_TRY(mixt_model_gguf_keys(c->model, writer, c->error));
    if (c->options->name != NULL) {
        MIXT_TRY(mixt_gguf_writer_string(writer, "general.name", c->options->name, c->error));
    }
    MIXT_TRY(mixt_gguf_writer_u32(writer, "general.quantization_version", 2, c->error));
    MIXT_TRY(mixt_gguf_writer_u32(writer, "general.file_type", (uint32_t)mixt_mix_file_type(c->mix),
                                  c->error));
    return c->options->tokenizer != NULL
               ? mixt_tokenizer_to_gguf(c->options->tokenizer, c->model->options.vocab_size, writer,
                                        c->error)
               : mixt_gguf_writer_string(writer, "tokenizer.ggml.model", "none", c->error);
}

static mixt_status add_target(const mixt_conversion *c, mixt_gguf_writer *writer,
                              const mixt_target *target)
{
    int64_t size[4] = {1, 1, 1, 1};
    int rank = target->piece->rank;
    for (int i = 0; i < rank; i++) { /* the fastest first */
        size[i] = target->piece->shape[rank - 1 - i];
    }
    return mixt_gguf_writer_add(writer, target->piece->name, target->type, rank, size, c->error);
}

/* Tensors of RoPE's factors, before the others: their headers, then their bytes. */
static mixt_status put_rope(const mixt_conversion *c, mixt_gguf_writer *writer, bool bytes)
{
    mixt_gguf_rope_pairs found[2];
    int count = mixt_gguf_rope_tensors(&c->model->options, found);
    for (int i = 0; i < count; i++) {
        int64_t size = found[i].count;
        MIXT_TRY(
            bytes ? mixt_gguf_writer_write(writer, found[i].values, (size_t)size * sizeof(float),
                                           c->error)
                  : mixt_gguf_writer_add(writer, found[i].name, MIXT_TYPE_F32, 1, &size, c->error));
    }
    return MIXT_OK;
}

/* Importance is of this model, or refused. The embedding's is passed over where it has another
 * size, as by llama.cpp, whose imatrix says nothing of use about it. */
static mixt_status check_importance(const mixt_conversion *c, const mixt_target *target)
{
    const mixt_layout_piece *piece = target->piece;
    if (c->options->importance == NULL || strcmp(piece->name, "token_embd.weight") == 0) {
        return MIXT_OK;
    }
    mixt_importance_place place;
    mixt_target_importance(c, target, &place);
    return mixt_importance_check(c->options->importance, place.name, place.matrices,
                                 piece->shape[piece->rank - 1], c->error);
}

/* One that has none of this model's tensors is another model's, and would do nothing. */
static mixt_status check_importance_names(const mixt_conversion *c)
{
    const mixt_importance *importance = c->options->importance;
    bool known = importance == NULL;
    for (size_t i = 0; i < c->target_count && !known; i++) {
        mixt_importance_place place;
        mixt_target_importance(c, &c->targets[i], &place);
        known = mixt_importance_has(importance, place.name);
    }
    return known ? MIXT_OK
                 : mixt_fail(c->error, MIXT_ERROR_FORMAT,
                             "%s: none of its %d tensors is one of this model's",
                             mixt_importance_path(importance), importance->count);
}

mixt_status mixt_convert_to_gguf(mixt_conversion *c)
{
    MIXT_TRY(check_importance_names(c));
    mixt_gguf_writer *writer;
    MIXT_TRY(mixt_gguf_writer_create(c->path, c->options->shard_bytes, &writer, c->error));
    mixt_status status = write_metadata(c, writer);
    if (status == MIXT_OK) {
        status = put_rope(c, writer, false);
    }
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        status = check_importance(c, &c->targets[i]);
        choose_type(c, &c->targets[i]);
    }
    if (status == MIXT_OK && c->automatic) {
        status = mixt_budget_choose(c);
    }
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        c->total += (double)c->targets[i].bytes;
        status = add_target(c, writer, &c->targets[i]);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_begin(writer, c->error);
    }
    if (status == MIXT_OK) {
        status = put_rope(c, writer, true);
    }
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        status = write_target(c, writer, &c->targets[i]);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_finish(writer, c->error);
    }
    mixt_gguf_writer_free(writer);
    return status;
}
