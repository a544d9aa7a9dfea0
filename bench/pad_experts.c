/* A trained model whose experts are made as large as a real model's: each gets units that give
 * nothing (rows of gate and up and columns of down that are zero), so that outputs and with them
 * routes stay what they were, while every expert has the bytes and the arithmetic of a larger one.
 * For measuring how experts come from disk under routing as trained routers do it.
 *
 *   pad_experts SMALL.gguf LARGE.gguf UNITS
 *
 * UNITS: of an expert afterwards. Blocks are copied and blocks of zero bytes, which are zeros in
 * every type of which a scale is a factor, stand beside them; both widths are whole blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/gguf.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool is_width(const char *key)
{
    return ends_with(key, ".feed_forward_length") || ends_with(key, ".expert_feed_forward_length");
}

/* Which dimension of a tensor counts units: -1 none. */
static int unit_dimension(const mixt_gguf_tensor *t)
{
    return ends_with(t->name, "ffn_down_exps.weight")   ? 0
           : ends_with(t->name, "ffn_gate_exps.weight") ? 1
           : ends_with(t->name, "ffn_up_exps.weight")   ? 1
                                                        : -1;
}

static mixt_status declare(const mixt_gguf *from, mixt_gguf_writer *w, int units, mixt_error *error)
{
    for (size_t i = 0; i < mixt_gguf_key_count(from); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(from, i, &kind);
        MIXT_TRY(is_width(key) ? mixt_gguf_writer_u32(w, key, (uint32_t)units, error)
                               : mixt_gguf_writer_copy(w, from, key, error));
    }
    for (size_t i = 0; i < mixt_gguf_tensor_count(from); i++) {
        const mixt_gguf_tensor *t = mixt_gguf_tensor_at(from, i);
        int64_t size[4] = {t->size[0], t->size[1], t->size[2], t->size[3]};
        int at = unit_dimension(t);
        if (at >= 0 &&
            (t->rank != 3 || size[at] > units || mixt_type_row_bytes(t->type, units) == 0)) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "%s: %d units are fewer than it has or no whole blocks of %s", t->name,
                             units, mixt_type_info(t->type)->name);
        }
        if (at >= 0) {
            size[at] = units;
        }
        MIXT_TRY(mixt_gguf_writer_add(w, t->name, t->type, t->rank, size, error));
    }
    return mixt_gguf_writer_begin(w, error);
}

/* `pieces` of `bytes` each, every one followed by zeros up to `padded` bytes. */
static mixt_status write_padded(mixt_gguf_writer *w, const mixt_gguf_tensor *t, size_t bytes,
                                size_t padded, mixt_error *error)
{
    const char *data = t->data;
    char *piece = calloc(padded, 1);
    mixt_status status =
        piece != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", t->name);
    for (size_t done = 0; done < t->bytes && status == MIXT_OK; done += bytes) {
        memcpy(piece, data + done, bytes);
        status = mixt_gguf_writer_write(w, piece, padded, error);
    }
    free(piece);
    return status;
}

static mixt_status copy(const mixt_gguf *from, mixt_gguf_writer *w, int units, mixt_error *error)
{
    MIXT_TRY(declare(from, w, units, error));
    for (size_t i = 0; i < mixt_gguf_tensor_count(from); i++) {
        const mixt_gguf_tensor *t = mixt_gguf_tensor_at(from, i);
        int at = unit_dimension(t);
        size_t row = mixt_type_row_bytes(t->type, t->size[0]);
        if (at < 0) {
            MIXT_TRY(mixt_gguf_writer_write(w, t->data, t->bytes, error));
        } else if (at == 0) { /* every row grows */
            MIXT_TRY(write_padded(w, t, row, mixt_type_row_bytes(t->type, units), error));
        } else { /* every expert gets more rows */
            MIXT_TRY(write_padded(w, t, row * (size_t)t->size[1], row * (size_t)units, error));
        }
    }
    return mixt_gguf_writer_finish(w, error);
}

int main(int argc, char **argv)
{
    int units = argc == 4 ? atoi(argv[3]) : 0;
    if (units <= 0) {
        fprintf(stderr, "usage: pad_experts SMALL.gguf LARGE.gguf UNITS\n");
        return 2;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *from = NULL;
    mixt_gguf_writer *writer = NULL;
    mixt_status status = mixt_gguf_open(argv[1], &from, &error);
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_create(argv[2], 0, &writer, &error);
    }
    if (status == MIXT_OK) {
        status = copy(from, writer, units, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "pad_experts: %s\n", error.message);
    }
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(from);
    return status == MIXT_OK ? 0 : 1;
}
