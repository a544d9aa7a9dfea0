/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864) as a table of cosines and sines,
 * with the ways in which published checkpoints stretch it. Formulas are those of transformers'
 * modeling_rope_utils.py, in double precision. Numbers that GGUF files hold as fp32 are rounded to
 * it first, so that a model has the same bits in either kind of file. */
#include <math.h>
#include <stdlib.h>

#include "model/model.h"

static double as_held(double number)
{
    return (double)(float)number;
}

/* YaRN's growth of attention's temperature: 0.1 m ln(factor) + 1. */
static double growth(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(as_held(factor)) + 1;
}

double mixt_rope_growth(double factor)
{
    return growth(factor, 1);
}

static double yarn_factor(const mixt_model_options *options)
{
    const mixt_rope_options *rope = &options->rope;
    double usual = mixt_rope_growth(rope->factor), factor = usual;
    if (rope->attention_factor > 0) {
        factor = rope->attention_factor;
    } else if (rope->mscale > 0 && rope->mscale_all_dim > 0) {
        factor = growth(rope->factor, rope->mscale) / growth(rope->factor, rope->mscale_all_dim);
    }
    /* GGUF files hold it by how much it differs from the usual; of latent attention not at all */
    return options->attention.latent_size > 0 ? factor : as_held(factor / usual) * usual;
}

static double longrope_factor(const mixt_rope_options *rope)
{
    if (rope->attention_factor > 0) {
        return as_held(rope->attention_factor);
    }
    return rope->factor <= 1
               ? 1
               : as_held(sqrt(1 + log(rope->factor) / log((double)rope->original_context)));
}

double mixt_rope_factor(const mixt_model_options *options)
{
    switch (options->rope.kind) {
    case MIXT_ROPE_YARN:
        return yarn_factor(options);
    case MIXT_ROPE_LONGROPE:
        return longrope_factor(&options->rope);
    case MIXT_ROPE_DEFAULT:
    case MIXT_ROPE_LINEAR:
    case MIXT_ROPE_DYNAMIC:
    case MIXT_ROPE_LLAMA3:
    default:
        return 1;
    }
}

double mixt_rope_attention_scale(const mixt_model_options *options)
{
    const mixt_rope_options *rope = &options->rope;
    bool grows = rope->kind == MIXT_ROPE_YARN && options->attention.latent_size > 0;
    double m = grows ? growth(rope->factor, rope->mscale_all_dim) : 1;
    return options->attention.scale * m * m;
}

/* Radians of pair i for each position, without scaling. */
static double plain_rate(const mixt_model_options *o, double theta, int64_t pair)
{
    return pow(theta, -2.0 * (double)pair / o->rope.dims);
}

/* Pair that turns `turns` times in the original context. */
static double turning_pair(const mixt_model_options *o, double turns)
{
    double length = o->rope.original_context / (as_held(turns) * 2 * acos(-1.0));
    return o->rope.dims * log(length) / (2 * log(as_held(o->rope_theta)));
}

/* Fast pairs stay, slow ones are stretched by the factor, those between move from one to the other
 * ("NTK by parts"). */
static double yarn_rate(const mixt_model_options *o, double rate, int64_t pair)
{
    const mixt_rope_options *rope = &o->rope;
    if (o->rope_theta <= 1) {
        return rate;
    }
    double low = turning_pair(o, rope->beta_fast), high = turning_pair(o, rope->beta_slow);
    if (!rope->no_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, rope->dims - 1);
    high = high == low ? high + 0.001 : high;
    double slow = fmin(fmax(((double)pair - low) / (high - low), 0), 1);
    return rate / as_held(rope->factor) * slow + rate * (1 - slow);
}

/* Waves shorter than the original context / high stay, those longer than it / low are stretched,
 * those between go from one to the other by how many of them fit into it. */
static double llama3_divisor(const mixt_model_options *o, int64_t pair)
{
    const mixt_rope_options *rope = &o->rope;
    double wave = 2 * acos(-1.0) / plain_rate(o, as_held(o->rope_theta), pair);
    double waves = rope->original_context / wave, low = rope->low_frequency_factor,
           high = rope->high_frequency_factor;
    if (waves > high) {
        return 1;
    }
    if (waves < low) {
        return rope->factor;
    }
    double fast = high == low ? 1 : (waves - low) / (high - low);
    return 1 / ((1 - fast) / rope->factor + fast);
}

float mixt_rope_divisor(const mixt_model_options *options, int64_t pair, bool long_sequence)
{
    const mixt_rope_options *rope = &options->rope;
    if (rope->kind == MIXT_ROPE_LLAMA3) {
        return (float)llama3_divisor(options, pair);
    }
    if (rope->kind == MIXT_ROPE_LINEAR) {
        return (float)rope->factor;
    }
    return rope->kind != MIXT_ROPE_LONGROPE ? 1
           : long_sequence                  ? rope->long_divisors[pair]
                                            : rope->short_divisors[pair];
}

/* Base of a sequence of `length` positions. */
static double dynamic_theta(const mixt_model_options *o, int64_t length)
{
    double theta = as_held(o->rope_theta), factor = as_held(o->rope.factor);
    double dims = o->rope.dims, context = o->context_length;
    if ((double)length <= context) {
        return theta;
    }
    return theta * pow(factor * (double)length / context - (factor - 1), dims / (dims - 2));
}

/* Radians of pair i for each position of a sequence of `length`. */
static double rate_of(const mixt_model_options *o, int64_t pair, int64_t length)
{
    const mixt_rope_options *rope = &o->rope;
    double rate = plain_rate(o, as_held(o->rope_theta), pair);
    switch (rope->kind) {
    case MIXT_ROPE_DYNAMIC:
        return plain_rate(o, dynamic_theta(o, length), pair);
    case MIXT_ROPE_YARN:
        return yarn_rate(o, rate, pair);
    case MIXT_ROPE_LINEAR:
    case MIXT_ROPE_LLAMA3:
    case MIXT_ROPE_LONGROPE:
        return rate / (double)mixt_rope_divisor(o, pair, length > rope->original_context);
    case MIXT_ROPE_DEFAULT:
    default:
        return rate;
    }
}

bool mixt_rope_by_length(const mixt_model_options *options, int64_t positions)
{
    const mixt_rope_options *rope = &options->rope;
    return (rope->kind == MIXT_ROPE_DYNAMIC && positions > options->context_length) ||
           (rope->kind == MIXT_ROPE_LONGROPE && positions > rope->original_context);
}

bool mixt_rope_same(const mixt_model_options *a, const mixt_model_options *b)
{
    mixt_model_options x = *a, y = *b;
    mixt_model_fill(&x);
    mixt_model_fill(&y);
    const mixt_rope_options *p = &x.rope, *q = &y.rope;
    if (p->dims != q->dims || mixt_rope_factor(&x) != mixt_rope_factor(&y) ||
        mixt_rope_attention_scale(&x) / x.attention.scale !=
            mixt_rope_attention_scale(&y) / y.attention.scale) {
        return false;
    }
    bool by_length = false;
    int64_t longer = 2 * (int64_t)1 << 24; /* than any context */
    for (int64_t pair = 0; pair < p->dims / 2; pair++) {
        double rate = rate_of(&x, pair, 1), slower = rate_of(&x, pair, longer);
        by_length = by_length || slower != rate;
        if (rate != rate_of(&y, pair, 1) || slower != rate_of(&y, pair, longer)) {
            return false;
        }
    }
    return !by_length || (p->kind == q->kind && (p->kind == MIXT_ROPE_DYNAMIC ||
                                                 p->original_context == q->original_context));
}

void mixt_rope_table(const mixt_model_options *options, int64_t first, int64_t count,
                     int64_t length, size_t real_size, void *table)
{
    int64_t half = options->rope.dims / 2;
    double factor = mixt_rope_factor(options);
    for (int64_t i = 0; i < half; i++) {
        double rate = rate_of(options, i, length);
        for (int64_t row = 0; row < count; row++) {
            double angle = (double)(first + row) * rate;
            double c = factor * cos(angle), s = factor * sin(angle);
            int64_t at = row * 2 * half + i;
            if (real_size == sizeof(double)) {
                ((double *)table)[at] = c;
                ((double *)table)[at + half] = s;
            } else {
                ((float *)table)[at] = (float)c;
                ((float *)table)[at + half] = (float)s;
            }
        }
    }
}

size_t mixt_rope_bytes(const mixt_model *model, int64_t positions, size_t real_size)
{
    return (size_t)positions * (size_t)model->options.rope.dims * real_size;
}

/* Room for rows on the host; NULL: none. */
static void *rows_of(const mixt_model *model, int64_t count, size_t real_size, size_t *bytes,
                     mixt_error *error)
{
    *bytes = mixt_rope_bytes(model, count, real_size);
    void *rows = malloc(*bytes == 0 ? 1 : *bytes);
    if (rows == NULL) {
        mixt_fail(error, MIXT_ERROR_MEMORY, "rope: no memory for %lld positions", (long long)count);
    }
    return rows;
}

mixt_status mixt_rope_create(const mixt_model *model, const mixt_backend *backend,
                             int64_t positions, mixt_device_memory *memory, mixt_error *error)
{
    size_t bytes;
    void *table = rows_of(model, positions, backend->real_size, &bytes, error);
    if (table == NULL) {
        return MIXT_ERROR_MEMORY;
    }
    mixt_rope_table(&model->options, 0, positions, positions, backend->real_size, table);
    mixt_status status = mixt_device_memory_create(backend, bytes, memory, error);
    if (status == MIXT_OK) {
        mixt_device_memory_write(memory, 0, table, bytes);
    }
    free(table);
    return status;
}

mixt_status mixt_rope_update(const mixt_model *model, const mixt_rope_rows *of,
                             mixt_device_memory *memory, mixt_error *error)
{
    size_t bytes;
    void *rows = rows_of(model, of->count, sizeof(float), &bytes, error);
    if (rows == NULL) {
        return MIXT_ERROR_MEMORY;
    }
    mixt_rope_table(&model->options, of->first, of->count, of->length, sizeof(float), rows);
    mixt_device_memory_write(memory, bytes / (size_t)of->count * (size_t)of->row, rows, bytes);
    free(rows);
    return MIXT_OK;
}
