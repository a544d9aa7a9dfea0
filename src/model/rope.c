/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864) as a table of cosines and sines,
 * with YaRN's context extension (Peng et al. 2023, arXiv 2309.00071). */
#include <math.h>
#include <stdlib.h>

#include "model/model.h"

/* YaRN's growth of attention's temperature: 0.1 m ln(factor) + 1. */
static double growth(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

double mixt_rope_factor(const mixt_rope_options *rope)
{
    double m = rope->mscale == 0 ? 1 : rope->mscale;
    return growth(rope->factor, m) / growth(rope->factor, rope->mscale_all_dim);
}

double mixt_rope_attention_scale(const mixt_model_options *options)
{
    double m = growth(options->rope.factor, options->rope.mscale_all_dim);
    return options->attention.scale * m * m;
}

/* Pair that turns `turns` times in the original context. */
static double turning_pair(const mixt_model_options *o, double turns)
{
    double length = o->rope.original_context / (turns * 2 * acos(-1.0));
    return o->rope.dims * log(length) / (2 * log(o->rope_theta));
}

/* Radians of pair i for each position. Fast pairs stay, slow ones are stretched by the factor,
 * those between move from one to the other ("NTK by parts"). */
static double rate_of(const mixt_model_options *o, int64_t i)
{
    const mixt_rope_options *rope = &o->rope;
    double rate = pow(o->rope_theta, -2.0 * (double)i / rope->dims);
    if (rope->factor == 0 || o->rope_theta <= 1) {
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
    double slow = fmin(fmax(((double)i - low) / (high - low), 0), 1);
    return rate / rope->factor * slow + rate * (1 - slow);
}

void mixt_rope_table(const mixt_model *model, int64_t positions, size_t real_size, void *table)
{
    int64_t half = model->options.rope.dims / 2;
    double factor = mixt_rope_factor(&model->options.rope);
    for (int64_t i = 0; i < half; i++) {
        double rate = rate_of(&model->options, i);
        for (int64_t p = 0; p < positions; p++) {
            double c = factor * cos((double)p * rate), s = factor * sin((double)p * rate);
            int64_t at = p * 2 * half + i;
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

mixt_status mixt_rope_create(const mixt_model *model, const mixt_backend *backend,
                             int64_t positions, mixt_device_memory *memory, mixt_error *error)
{
    size_t bytes = (size_t)positions * (size_t)model->options.rope.dims * backend->real_size;
    void *table = malloc(bytes == 0 ? 1 : bytes);
    if (table == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "rope: no memory for %lld positions",
                         (long long)positions);
    }
    mixt_rope_table(model, positions, backend->real_size, table);
    mixt_status status = mixt_device_memory_create(backend, bytes, memory, error);
    if (status == MIXT_OK) {
        mixt_device_memory_write(memory, 0, table, bytes);
    }
    free(table);
    return status;
}
