/* RoPE in GGUF files, as llama.cpp reads it: without rope.scaling.type the factor is linear,
 * attn_factor multiplies cosines and sines whatever the architecture and type, and three tensors
 * hold what each pair is slower by. What llama.cpp has no key for stands under "mixt.rope.". */
#include "model/config_gguf_rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config_gguf.h"

#define FREQS "rope_freqs.weight"
#define SHORT "rope_factors_short.weight"
#define LONG "rope_factors_long.weight"

/* What llama.cpp has no key for. */
#define OWN_UNROUNDED "mixt.rope.no_truncate"
#define OWN_DYNAMIC "mixt.rope.dynamic_factor"
#define OWN_LLAMA3 "mixt.rope.llama3_factor"
#define OWN_LOW "mixt.rope.low_frequency_factor"
#define OWN_HIGH "mixt.rope.high_frequency_factor"
#define OWN_ORIGINAL "mixt.rope.original_context_length"

const char *const mixt_gguf_rope_keys[] = {"rope.freq_base",
                                           "rope.dimension_count",
                                           "rope.scale_linear",
                                           "rope.scaling.type",
                                           "rope.scaling.factor",
                                           "rope.scaling.attn_factor",
                                           "rope.scaling.original_context_length",
                                           "rope.scaling.finetuned", /* a remark */
                                           "rope.scaling.yarn_ext_factor",
                                           "rope.scaling.yarn_attn_factor",
                                           "rope.scaling.yarn_beta_fast",
                                           "rope.scaling.yarn_beta_slow",
                                           "rope.scaling.yarn_log_multiplier",
                                           NULL};

static const char *const tensors[] = {FREQS, SHORT, LONG};

bool mixt_gguf_rope_tensor(const char *name)
{
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        if (strcmp(name, tensors[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------------------------------ */
/* Reading                                                                                    */

static const mixt_gguf_range positive = {1e-6, 1e6};

/* One number where the key is there; *value stays where it is not. */
static mixt_status number_or(const mixt_gguf_reader *r, const char *name, mixt_gguf_range range,
                             double *value)
{
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    return mixt_gguf_has(r->file, key) ? mixt_gguf_number(r->file, key, range, value, r->error)
                                       : MIXT_OK;
}

static mixt_status context_or(const mixt_gguf_reader *r, const char *key, int *value)
{
    if (mixt_gguf_has(r->file, key)) {
        int64_t number;
        MIXT_TRY(mixt_gguf_integer(r->file, key, (mixt_gguf_range){0, 1 << 24}, &number, r->error));
        *value = number > 0 ? (int)number : *value;
    }
    return MIXT_OK;
}

/* A key of RoPE's that is not known may change anything. */
static mixt_status check_keys(const mixt_gguf_reader *r)
{
    char prefix[160];
    mixt_gguf_key(r->arch, "rope.", prefix);
    for (size_t i = 0; i < mixt_gguf_key_count(r->file); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(r->file, i, &kind);
        if (strncmp(key, prefix, strlen(prefix)) != 0) {
            continue;
        }
        const char *name = key + strlen(r->arch) + 1;
        bool known = false;
        for (size_t k = 0; mixt_gguf_rope_keys[k] != NULL && !known; k++) {
            known = strcmp(mixt_gguf_rope_keys[k], name) == 0;
        }
        if (!known) {
            return mixt_gguf_unsupported(r, name, "is not supported");
        }
    }
    return MIXT_OK;
}

static mixt_status read_yarn(const mixt_gguf_reader *r, double attention, mixt_model_options *o)
{
    mixt_rope_options *rope = &o->rope;
    double log_multiplier = 0, unused = 1, extrapolation = 1;
    if (rope->factor < 1) {
        return mixt_gguf_unsupported(r, "rope.scaling.factor", "is below 1");
    }
    MIXT_TRY(number_or(r, "rope.scaling.yarn_beta_fast", positive, &rope->beta_fast));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_beta_slow", positive, &rope->beta_slow));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_log_multiplier", (mixt_gguf_range){0, 1e6},
                       &log_multiplier));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_attn_factor", positive, &unused));
    MIXT_TRY(
        number_or(r, "rope.scaling.yarn_ext_factor", (mixt_gguf_range){-1, 1e6}, &extrapolation));
    if (unused != 1) {
        return mixt_gguf_unsupported(r, "rope.scaling.yarn_attn_factor", "only 1 is supported");
    }
    if (extrapolation != 1 && extrapolation != -1) {
        return mixt_gguf_unsupported(r, "rope.scaling.yarn_ext_factor", "only 1 is supported");
    }
    if (mixt_gguf_has(r->file, OWN_UNROUNDED)) {
        MIXT_TRY(mixt_gguf_bool(r->file, OWN_UNROUNDED, &rope->no_truncate, r->error));
    }
    if (o->attention.latent_size == 0) {
        rope->attention_factor = attention == 1 ? 0 : attention * mixt_rope_growth(rope->factor);
        return log_multiplier == 0
                   ? MIXT_OK
                   : mixt_gguf_unsupported(r, "rope.scaling.yarn_log_multiplier",
                                           "is supported for latent attention alone");
    }
    if (attention != 1) {
        return mixt_gguf_unsupported(r, "rope.scaling.attn_factor",
                                     "only 1 is supported for latent attention with yarn");
    }
    if (log_multiplier == 0) { /* cosines, sines and the scale all grow */
        rope->attention_factor = mixt_rope_growth(rope->factor);
        rope->mscale_all_dim = 1;
    } else { /* 0.1 mscale_all_dim; both mscales are alike, cosines and sines keep their size */
        rope->mscale = rope->mscale_all_dim = round(log_multiplier * 10 * 1e5) / 1e5;
    }
    return MIXT_OK;
}

/* Numbers of each pair from a tensor, times the linear factor; all that factor where there is no
 * tensor. */
static mixt_status read_divisors(const mixt_gguf_reader *r, const char *name, double factor,
                                 int pairs, float *divisors)
{
    const mixt_gguf_tensor *tensor = mixt_gguf_find(r->file, name);
    const char *path = mixt_gguf_path(r->file, 0);
    if (tensor != NULL &&
        (tensor->rank != 1 || tensor->size[0] != pairs || tensor->type != MIXT_TYPE_F32)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "%s: tensor %s: is not F32 for the %d rotated pairs of a head", path, name,
                         pairs);
    }
    for (int i = 0; i < pairs; i++) {
        float number = 1;
        if (tensor != NULL) {
            memcpy(&number, (const char *)tensor->data + (size_t)i * sizeof number, sizeof number);
        }
        divisors[i] = (float)((double)number * factor);
        if (!(divisors[i] > 0) || !isfinite(divisors[i])) {
            return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: tensor %s: factor %d is not above 0",
                             path, name, i);
        }
    }
    return MIXT_OK;
}

static mixt_status read_pairs(const mixt_gguf_reader *r, double attention, const char *of_short,
                              const char *of_long, mixt_model_options *o)
{
    mixt_rope_options *rope = &o->rope;
    mixt_model_options filled = *o;
    mixt_model_fill(&filled);
    int pairs = filled.rope.dims / 2;
    if (pairs > MIXT_ROPE_PAIRS_MAX) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor %s: only %d rotated pairs of a head are supported",
                         mixt_gguf_path(r->file, 0), of_short, MIXT_ROPE_PAIRS_MAX);
    }
    MIXT_TRY(read_divisors(r, of_short, rope->factor, pairs, rope->short_divisors));
    MIXT_TRY(read_divisors(r, of_long, rope->factor, pairs, rope->long_divisors));
    rope->kind = MIXT_ROPE_LONGROPE;
    rope->divisors = pairs;
    rope->attention_factor = attention;
    rope->factor = 1;
    return MIXT_OK;
}

/* What mixt wrote beside rope_freqs.weight, which must be that of these numbers. */
static mixt_status read_llama3(const mixt_gguf_reader *r, mixt_model_options *o)
{
    mixt_rope_options *rope = &o->rope;
    MIXT_TRY(read_pairs(r, 1, FREQS, FREQS, o));
    mixt_model_options own = *o;
    own.rope = (mixt_rope_options){.dims = 2 * rope->divisors,
                                   .interleaved = rope->interleaved,
                                   .kind = MIXT_ROPE_LLAMA3,
                                   .original_context = rope->original_context};
    MIXT_TRY(mixt_gguf_number(r->file, OWN_LLAMA3, (mixt_gguf_range){1, 1e6}, &own.rope.factor,
                              r->error));
    MIXT_TRY(
        mixt_gguf_number(r->file, OWN_LOW, positive, &own.rope.low_frequency_factor, r->error));
    MIXT_TRY(
        mixt_gguf_number(r->file, OWN_HIGH, positive, &own.rope.high_frequency_factor, r->error));
    MIXT_TRY(context_or(r, OWN_ORIGINAL, &own.rope.original_context));
    for (int i = 0; i < rope->divisors; i++) {
        if (mixt_rope_divisor(&own, i, false) != rope->short_divisors[i]) {
            return MIXT_OK; /* another program changed one of the two: the tensor is the rule */
        }
    }
    own.rope.dims = rope->dims;
    *rope = own.rope;
    return MIXT_OK;
}

mixt_status mixt_gguf_rope_read(const mixt_gguf *file, const char *arch, mixt_model_options *o,
                                mixt_error *error)
{
    mixt_gguf_reader r = {file, arch, error};
    mixt_rope_options *rope = &o->rope;
    char key[160];
    const char *type = "linear";
    double factor = 0, attention = 1;
    *rope = (mixt_rope_options){.dims = rope->dims,
                                .interleaved = rope->interleaved,
                                .original_context = o->context_length};
    MIXT_TRY(check_keys(&r));
    mixt_gguf_key(arch, "rope.scaling.type", key);
    if (mixt_gguf_has(file, key)) {
        MIXT_TRY(mixt_gguf_string(file, key, &type, error));
    }
    mixt_gguf_key(arch, "rope.scaling.factor", key);
    const char *of_factor = mixt_gguf_has(file, key) ? "rope.scaling.factor" : "rope.scale_linear";
    MIXT_TRY(number_or(&r, of_factor, (mixt_gguf_range){0, 1e6}, &factor));
    MIXT_TRY(number_or(&r, "rope.scaling.attn_factor", positive, &attention));
    mixt_gguf_key(arch, "rope.scaling.original_context_length", key);
    MIXT_TRY(context_or(&r, key, &rope->original_context));
    bool yarn = strcmp(type, "yarn") == 0, longrope = strcmp(type, "longrope") == 0;
    bool none = strcmp(type, "none") == 0;
    if (!yarn && !longrope && !none && strcmp(type, "linear") != 0) {
        return mixt_gguf_unsupported(&r, "rope.scaling.type",
                                     "only none, linear, yarn and longrope are supported");
    }
    rope->factor = factor == 0 || none ? 1 : factor;
    if (none && factor != 0 && factor != 1 && o->attention.window > 0) {
        return mixt_gguf_unsupported(&r, "rope.scaling.factor",
                                     "is not supported with the type none and a sliding window");
    }
    bool freqs = mixt_gguf_find(file, FREQS) != NULL;
    bool factors = mixt_gguf_find(file, SHORT) != NULL || mixt_gguf_find(file, LONG) != NULL;
    if (yarn ? freqs || factors : factors && (!longrope || freqs)) {
        return mixt_gguf_unsupported(&r, "rope.scaling.type",
                                     "is not supported with the tensors of rope factors");
    }
    if (yarn) {
        rope->kind = MIXT_ROPE_YARN;
        return read_yarn(&r, attention, o);
    }
    if (o->attention.latent_size > 0 && !freqs && !factors &&
        (rope->factor != 1 || attention != 1)) {
        /* llama.cpp scales q.k too, though nothing says so */
        return mixt_gguf_unsupported(&r, attention != 1 ? "rope.scaling.attn_factor" : of_factor,
                                     "only 1 is supported for latent attention without yarn");
    }
    if (freqs && mixt_gguf_has(file, OWN_LLAMA3)) {
        return read_llama3(&r, o);
    }
    if (freqs || factors || attention != 1) {
        return read_pairs(&r, attention, freqs ? FREQS : SHORT, freqs ? FREQS : LONG, o);
    }
    rope->kind = rope->factor == 1 ? MIXT_ROPE_DEFAULT : MIXT_ROPE_LINEAR;
    rope->factor = rope->kind == MIXT_ROPE_LINEAR ? rope->factor : 0;
    if (mixt_gguf_has(file, OWN_DYNAMIC)) {
        rope->kind = MIXT_ROPE_DYNAMIC;
        return mixt_gguf_number(file, OWN_DYNAMIC, (mixt_gguf_range){1, 1e6}, &rope->factor, error);
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Writing                                                                                    */

typedef struct keys {
    mixt_gguf_writer *writer;
    const char *arch;
    mixt_status status;
    mixt_error *error;
} keys;

static void put_context(keys *k, const char *key, int value)
{
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_u32(k->writer, key, (uint32_t)value, k->error);
    }
}

static void put_number(keys *k, const char *key, double value)
{
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_f32(k->writer, key, (float)value, k->error);
    }
}

static void put_scaling(keys *k, const char *name, double value)
{
    char key[160];
    mixt_gguf_key(k->arch, name, key);
    put_number(k, key, value);
}

static void put_type(keys *k, const char *type)
{
    char key[160];
    mixt_gguf_key(k->arch, "rope.scaling.type", key);
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_string(k->writer, key, type, k->error);
    }
}

static void put_original(keys *k, const mixt_rope_options *rope)
{
    char key[160];
    mixt_gguf_key(k->arch, "rope.scaling.original_context_length", key);
    put_context(k, key, rope->original_context);
}

static void put_attention(keys *k, double factor)
{
    if ((float)factor != 1) {
        put_scaling(k, "rope.scaling.attn_factor", factor);
    }
}

static void put_yarn(keys *k, const mixt_model_options *o)
{
    const mixt_rope_options *rope = &o->rope;
    put_type(k, "yarn");
    put_scaling(k, "rope.scaling.factor", rope->factor);
    put_original(k, rope);
    put_scaling(k, "rope.scaling.yarn_beta_fast", rope->beta_fast);
    put_scaling(k, "rope.scaling.yarn_beta_slow", rope->beta_slow);
    if (rope->no_truncate && k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_bool(k->writer, OWN_UNROUNDED, true, k->error);
    }
    double factor = mixt_rope_factor(o), usual = mixt_rope_growth(rope->factor);
    if (o->attention.latent_size == 0) {
        put_attention(k, factor / usual);
    } else if (factor == 1 && rope->mscale_all_dim > 0) {
        put_scaling(k, "rope.scaling.yarn_log_multiplier", 0.1 * rope->mscale_all_dim);
    } else if (k->status == MIXT_OK && rope->factor > 1 &&
               (factor != usual || rope->mscale_all_dim != 1)) {
        k->status = mixt_fail(k->error, MIXT_ERROR_UNSUPPORTED,
                              "model: GGUF files cannot hold a YaRN with mscale %g and "
                              "mscale_all_dim %g",
                              rope->mscale, rope->mscale_all_dim);
    }
}

static bool one_set(const mixt_rope_options *rope)
{
    bool same = true;
    for (int i = 0; i < rope->divisors; i++) {
        same = same && rope->short_divisors[i] == rope->long_divisors[i];
    }
    return same;
}

mixt_status mixt_gguf_rope_write(mixt_gguf_writer *writer, const char *arch,
                                 const mixt_model_options *options, mixt_error *error)
{
    keys k = {writer, arch, MIXT_OK, error};
    const mixt_rope_options *rope = &options->rope;
    switch (rope->kind) {
    case MIXT_ROPE_LINEAR:
        if (options->attention.latent_size == 0) { /* else a tensor of factors */
            put_type(&k, "linear");
            put_scaling(&k, "rope.scaling.factor", rope->factor);
        }
        break;
    case MIXT_ROPE_DYNAMIC:
        put_number(&k, OWN_DYNAMIC, rope->factor);
        break;
    case MIXT_ROPE_YARN:
        put_yarn(&k, options);
        break;
    case MIXT_ROPE_LLAMA3:
        put_number(&k, OWN_LLAMA3, rope->factor);
        put_number(&k, OWN_LOW, rope->low_frequency_factor);
        put_number(&k, OWN_HIGH, rope->high_frequency_factor);
        put_context(&k, OWN_ORIGINAL, rope->original_context);
        break;
    case MIXT_ROPE_LONGROPE:
        if (!one_set(rope)) {
            put_type(&k, "longrope");
            put_original(&k, rope);
        }
        put_attention(&k, mixt_rope_factor(options));
        break;
    case MIXT_ROPE_DEFAULT:
    default:
        break;
    }
    return k.status;
}

int mixt_gguf_rope_tensors(const mixt_model_options *options, mixt_gguf_rope_pairs found[2])
{
    const mixt_rope_options *rope = &options->rope;
    bool sets = rope->kind == MIXT_ROPE_LONGROPE && !one_set(rope);
    bool latent = rope->kind == MIXT_ROPE_LINEAR && options->attention.latent_size > 0;
    bool one = rope->kind == MIXT_ROPE_LLAMA3 || rope->kind == MIXT_ROPE_LONGROPE || latent;
    int count = sets ? 2 : one ? 1 : 0;
    for (int t = 0; t < count; t++) {
        found[t].name = !sets ? FREQS : t == 0 ? LONG : SHORT;
        found[t].count = rope->dims / 2;
        for (int i = 0; i < found[t].count; i++) {
            found[t].values[i] = mixt_rope_divisor(options, i, t == 0);
        }
    }
    return count;
}
