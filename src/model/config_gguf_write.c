/* The metadata of a model in a GGUF file: its family's rows, and what follows one rule whatever the
 * family. */
#include <stdio.h>
#include <stdlib.h>

#include "model/config_gguf.h"
#include "model/config_gguf_rope.h"

typedef struct keys {
    mixt_gguf_writer *writer;
    const char *arch;
    bool exact; /* numbers as double: nobody else reads them */
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
        k->status = k->exact ? mixt_gguf_writer_f64(k->writer, key, value, k->error)
                             : mixt_gguf_writer_f32(k->writer, key, (float)value, k->error);
    }
}

static void put_row(keys *k, const mixt_config_row *row, const mixt_model_options *options)
{
    char key[160];
    double value = mixt_row_get(row, options);
    bool number = row->type == MIXT_FIELD_NUMBER || row->type == MIXT_FIELD_NULL_NUMBER;
    bool nothing = row->type == MIXT_FIELD_NULL_NUMBER || row->type == MIXT_FIELD_NULL_INTEGER;
    if (nothing && value == 0) {
        return;
    }
    if (row->type == MIXT_FIELD_BOOL) {
        mixt_gguf_key(k->arch, row->gguf, key);
        if (k->status == MIXT_OK) {
            k->status = mixt_gguf_writer_bool(k->writer, key, value != 0, k->error);
        }
    } else if (number) {
        put_f32(k, row->gguf, value);
    } else {
        put_u32(k, row->gguf, (int)value);
    }
}

mixt_status mixt_model_gguf_keys(const mixt_model *model, mixt_gguf_writer *writer,
                                 mixt_error *error)
{
    const mixt_model_options *o = &model->options;
    const mixt_attention_options *a = &o->attention;
    const mixt_family *family = model->family;
    mixt_model_options said = mixt_model_as_laid(o, family->gguf_interleaved);
    keys k = {writer, family->gguf_arch, family->universal, MIXT_OK, error};
    k.status = mixt_gguf_writer_string(writer, "general.architecture", family->gguf_arch, error);
    for (const mixt_config_row *row = family->config; row->type != MIXT_FIELD_END; row++) {
        if (mixt_row_written(family->config, row, MIXT_FORM_GGUF)) {
            put_row(&k, row, &said);
        }
    }
    if (a->latent_size > 0) { /* the cache as one head of keys, whose beginning is the values */
        put_u32(&k, "attention.head_count_kv", 1);
        put_u32(&k, "attention.key_length", a->latent_size + a->position_dim);
        put_u32(&k, "attention.value_length", a->latent_size);
    } else {
        put_u32(&k, "rope.dimension_count", o->rope.dims);
        put_u32(&k, "attention.value_length", o->head_dim);
    }
    if (o->experts > 0) {
        put_u32(&k, "expert_gating_func",
                o->router.score == MIXT_SCORE_SOFTMAX   ? 1
                : o->router.score == MIXT_SCORE_SIGMOID ? 2
                                                        : 3);
    }
    return k.status == MIXT_OK ? mixt_gguf_rope_write(writer, k.arch, o, error) : k.status;
}
