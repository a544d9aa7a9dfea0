/* RoPE scaling in the metadata of GGUF files, as llama.cpp reads it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config_gguf.h"

typedef struct key_reader {
    const mixt_gguf *file;
    const char *arch;
    mixt_error *error;
} key_reader;

/* One number where the key is there; *value stays where it is not. */
static mixt_status number_or(const key_reader *r, const char *name, mixt_gguf_range range,
                             double *value)
{
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    return mixt_gguf_has(r->file, key) ? mixt_gguf_number(r->file, key, range, value, r->error)
                                       : MIXT_OK;
}

static mixt_status integer_or(const key_reader *r, const char *name, mixt_gguf_range range,
                              int *value)
{
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    if (mixt_gguf_has(r->file, key)) {
        int64_t number;
        MIXT_TRY(mixt_gguf_integer(r->file, key, range, &number, r->error));
        *value = (int)number;
    }
    return MIXT_OK;
}

static mixt_status unsupported(const key_reader *r, const char *name, const char *what)
{
    return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "%s: %s.%s: %s", mixt_gguf_path(r->file, 0),
                     r->arch, name, what);
}

static mixt_status read_yarn(const key_reader *r, mixt_model_options *o)
{
    mixt_rope_options *rope = &o->rope;
    mixt_gguf_range positive = {1e-6, 1e6};
    double log_multiplier = 0, attention = 1, extrapolation = 1;
    rope->original_context = o->context_length;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    MIXT_TRY(number_or(r, "rope.scaling.factor", (mixt_gguf_range){1, 1e6}, &rope->factor));
    if (rope->factor == 0) {
        return unsupported(r, "rope.scaling.factor", "is missing");
    }
    MIXT_TRY(integer_or(r, "rope.scaling.original_context_length", (mixt_gguf_range){1, 1 << 24},
                        &rope->original_context));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_beta_fast", positive, &rope->beta_fast));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_beta_slow", positive, &rope->beta_slow));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_log_multiplier", (mixt_gguf_range){0, 1e6},
                       &log_multiplier));
    MIXT_TRY(number_or(r, "rope.scaling.yarn_attn_factor", positive, &attention));
    MIXT_TRY(
        number_or(r, "rope.scaling.yarn_ext_factor", (mixt_gguf_range){-1, 1e6}, &extrapolation));
    /* 0.1 mscale_all_dim; files of this kind have both mscales alike, so that cosines and sines
     * keep their size */
    rope->mscale = rope->mscale_all_dim = round(log_multiplier * 10 * 1e5) / 1e5;
    if (attention != 1) {
        return unsupported(r, "rope.scaling.yarn_attn_factor", "only 1 is supported");
    }
    if (extrapolation != 1 && extrapolation != -1) {
        return unsupported(r, "rope.scaling.yarn_ext_factor", "only 1 is supported");
    }
    return MIXT_OK;
}

static mixt_status read_scaling(const key_reader *r, mixt_model_options *o)
{
    char key[160];
    double linear = 1;
    const char *type = "none";
    mixt_gguf_key(r->arch, "rope.scaling.type", key);
    if (mixt_gguf_has(r->file, key)) {
        MIXT_TRY(mixt_gguf_string(r->file, key, &type, r->error));
    }
    MIXT_TRY(number_or(r, "rope.scale_linear", (mixt_gguf_range){0, 1e6}, &linear));
    if (strcmp(type, "linear") == 0) {
        MIXT_TRY(number_or(r, "rope.scaling.factor", (mixt_gguf_range){0, 1e6}, &linear));
        type = "none";
    }
    if (strcmp(type, "none") == 0 && linear == 1) {
        return MIXT_OK;
    }
    return strcmp(type, "yarn") == 0 && linear == 1
               ? read_yarn(r, o)
               : unsupported(r, "rope.scaling.type", "only none and yarn are supported");
}

mixt_status mixt_gguf_rope_read(const mixt_gguf *file, const char *arch,
                                mixt_model_options *options, mixt_error *error)
{
    key_reader r = {file, arch, error};
    return read_scaling(&r, options);
}

/* ------------------------------------------------------------------------------------------ */
/* Writing                                                                                    */

typedef struct keys {
    mixt_gguf_writer *writer;
    const char *arch;
    mixt_status status;
    mixt_error *error;
} keys;

static void put_u32(keys *k, const char *name, int value)
{
    char key[160];
    mixt_gguf_key(k->arch, name, key);
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_u32(k->writer, key, (uint32_t)value, k->error);
    }
}

static void put_f32(keys *k, const char *name, double value)
{
    char key[160];
    mixt_gguf_key(k->arch, name, key);
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_f32(k->writer, key, (float)value, k->error);
    }
}

static void put_yarn(keys *k, const mixt_rope_options *rope)
{
    char key[160];
    mixt_gguf_key(k->arch, "rope.scaling.type", key);
    if (k->status == MIXT_OK) {
        k->status = mixt_gguf_writer_string(k->writer, key, "yarn", k->error);
    }
    put_f32(k, "rope.scaling.factor", rope->factor);
    put_u32(k, "rope.scaling.original_context_length", rope->original_context);
    put_f32(k, "rope.scaling.yarn_beta_fast", rope->beta_fast);
    put_f32(k, "rope.scaling.yarn_beta_slow", rope->beta_slow);
    if (rope->mscale_all_dim > 0) {
        put_f32(k, "rope.scaling.yarn_log_multiplier", 0.1 * rope->mscale_all_dim);
    }
}

mixt_status mixt_gguf_rope_write(mixt_gguf_writer *writer, const char *arch,
                                 const mixt_model_options *options, mixt_error *error)
{
    keys k = {writer, arch, MIXT_OK, error};
    if (options->rope.factor > 0) {
        put_yarn(&k, &options->rope);
    }
    return k.status;
}
