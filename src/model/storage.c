/* Giving an opened model its weights: every parameter's tensors are found and checked, then held.
 */
#include "model/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/memory.h"
#include "model/config_gguf_rope.h"

typedef struct holder {
    mixt_model *model;
    mixt_source *source;
    mixt_form form;
    mixt_f8_blocks f8;
    bool fill;         /* the second walk: everything was checked */
    const void **used; /* keys of the tensors that were looked up */
    size_t used_count, used_capacity;
    mixt_error *error;
} holder;

/* What a tensor must be. */
typedef enum wanted_type {
    WANT_WEIGHTS, /* a type that mixt computes with */
    WANT_BYTES,
    WANT_FACTOR, /* of F8_E4M3 */
} wanted_type;

/* ------------------------------------------------------------------------------------------ */
/* Finding and checking                                                                       */

static mixt_status remember(holder *h, const mixt_source_tensor *tensor)
{
    if (!mixt_grow(&h->used, &h->used_capacity, h->used_count + 1, sizeof *h->used)) {
        return mixt_fail(h->error, MIXT_ERROR_MEMORY, "%s: no memory", tensor->path);
    }
    h->used[h->used_count++] = tensor->key;
    return MIXT_OK;
}

static void write_shape(const int64_t *size, int rank, char text[128])
{
    text[0] = '\0';
    for (int i = 0; i < rank && i < MIXT_SOURCE_RANK_MAX; i++) {
        size_t used = strlen(text);
        snprintf(text + used, 128 - used, i == 0 ? "%lld" : ",%lld", (long long)size[i]);
    }
    if (rank > MIXT_SOURCE_RANK_MAX) {
        size_t used = strlen(text);
        snprintf(text + used, 128 - used, ",..");
    }
}

/* The dimensions that are not 1: [1, d] is written as [d] in some files and the other way round. */
static int squeeze(const int64_t *size, int rank, int64_t squeezed[MIXT_SOURCE_RANK_MAX])
{
    int count = 0;
    for (int i = 0; i < rank; i++) {
        if (size[i] != 1) {
            squeezed[count++] = size[i];
        }
    }
    return count;
}

static bool same_shape(const mixt_source_tensor *tensor, const int64_t *size, int rank)
{
    int64_t a[MIXT_SOURCE_RANK_MAX], b[MIXT_SOURCE_RANK_MAX];
    if (tensor->rank > MIXT_SOURCE_RANK_MAX) {
        return false;
    }
    int count = squeeze(tensor->size, tensor->rank, a);
    return count == squeeze(size, rank, b) && memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

/* What is read later must be there: the tensor's bytes are those of the shape that is wanted. */
static bool same_bytes(const mixt_source_tensor *tensor, const int64_t *size, int rank)
{
    size_t rows = 1, bytes, row = tensor->row_bytes;
    for (int i = 0; i < rank - 1; i++) {
        if (size[i] < 0 || !mixt_multiply_size(rows, (size_t)size[i], &rows)) {
            return false;
        }
    }
    if (tensor->type == MIXT_TYPE_COUNT) { /* bytes; another type is refused anyway */
        row = (size_t)size[rank - 1];
    }
    return mixt_multiply_size(rows, row, &bytes) && bytes == tensor->bytes;
}

static mixt_status check_shape(const holder *h, const char *name, const int64_t *size, int rank,
                               const mixt_source_tensor *tensor)
{
    if (same_shape(tensor, size, rank) &&
        (tensor->type == MIXT_TYPE_COUNT || tensor->row_bytes != 0)) {
        return MIXT_OK;
    }
    char found[128], wanted[128];
    write_shape(tensor->size, tensor->rank, found);
    write_shape(size, rank, wanted);
    int last = rank - 1;
    bool transposed = rank >= 2 && tensor->rank == rank && tensor->size[last] == size[last - 1] &&
                      tensor->size[last - 1] == size[last];
    return mixt_fail(h->error, MIXT_ERROR_FORMAT, "%s: tensor %s is [%s], %s makes it [%s]%s",
                     tensor->path, name, found,
                     h->form == MIXT_FORM_GGUF ? "the metadata" : "config.json", wanted,
                     transposed ? "; it is transposed" : "");
}

static mixt_status check_type(const holder *h, const char *name, wanted_type wanted,
                              const mixt_source_tensor *tensor)
{
    bool good = wanted == WANT_BYTES    ? strcmp(tensor->type_name, "U8") == 0
                : wanted == WANT_FACTOR ? mixt_source_is_factor(tensor)
                                        : tensor->type != MIXT_TYPE_COUNT;
    if (!good) {
        return mixt_fail(h->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor %s has type %s, which mixt does not compute with",
                         tensor->path, name, tensor->type_name);
    }
    return MIXT_OK;
}

/* The tensor `name`, which must be there with this shape, a type that is wanted, and all of its
 * bytes. */
static mixt_status find(holder *h, const char *name, const int64_t *size, int rank,
                        wanted_type wanted, mixt_source_tensor *tensor)
{
    if (!mixt_source_find(h->source, name, tensor)) {
        return mixt_fail(h->error, MIXT_ERROR_FORMAT, "%s: tensor %s is missing",
                         mixt_source_path(h->source), name);
    }
    if (tensor->type != MIXT_TYPE_COUNT) { /* by the shape that is wanted: ones count for nothing */
        tensor->row_bytes = mixt_type_row_bytes(tensor->type, size[rank - 1]);
    }
    if (!h->fill) {
        MIXT_TRY(check_shape(h, name, size, rank, tensor));
        MIXT_TRY(check_type(h, name, wanted, tensor));
        if (!same_bytes(tensor, size, rank)) {
            return mixt_fail(h->error, MIXT_ERROR_FORMAT,
                             "%s: tensor %s: %zu bytes are not those of its shape", tensor->path,
                             name, tensor->bytes);
        }
        MIXT_TRY(remember(h, tensor));
    }
    return MIXT_OK;
}

/* NAME_scale_inv of a tensor of F8_E4M3: a factor for each block of rows and columns; in files of
 * AutoFP8 it is NAME_scale, one factor for all. */
static mixt_status find_factors(holder *h, mixt_held_piece *found)
{
    const mixt_layout_piece *piece = &found->piece;
    char name[144];
    int64_t size[4];
    int rank = piece->rank;
    if (!h->f8.known || rank < 2 || rank > 3) {
        return mixt_fail(h->error, MIXT_ERROR_UNSUPPORTED, "%s: tensor %s has type F8_E4M3, %s",
                         found->tensor.path, piece->name,
                         h->f8.known ? "which mixt reads as matrices alone"
                                     : "but config.json has no quantization_config of fp8");
    }
    found->f8 = h->f8;
    found->f8.rows = h->f8.rows > 0 ? h->f8.rows : piece->shape[rank - 2];
    found->f8.columns = h->f8.columns > 0 ? h->f8.columns : piece->shape[rank - 1];
    size[0] = piece->shape[0];
    size[rank - 2] = mixt_divide_up(piece->shape[rank - 2], found->f8.rows);
    size[rank - 1] = mixt_divide_up(piece->shape[rank - 1], found->f8.columns);
    snprintf(name, sizeof name, "%s_scale", piece->name);
    if (mixt_source_find(h->source, name, &found->scales)) {
        found->f8.rows = piece->shape[rank - 2];
        found->f8.columns = piece->shape[rank - 1];
        size[rank - 2] = size[rank - 1] = 1;
    } else {
        snprintf(name, sizeof name, "%s_scale_inv", piece->name);
    }
    return find(h, name, size, rank, WANT_FACTOR, &found->scales);
}

/* A piece's tensor, or its two. */
static mixt_status find_piece(holder *h, mixt_held_piece *found)
{
    const mixt_layout_piece *piece = &found->piece;
    if (!piece->mxfp4) {
        MIXT_TRY(find(h, piece->name, piece->shape, piece->rank, WANT_WEIGHTS, &found->tensor));
        return found->tensor.type == MIXT_TYPE_F8_E4M3 ? find_factors(h, found) : MIXT_OK;
    }
    char name[144];
    int64_t size[6];
    int last = piece->rank - 1;
    if (piece->shape[last] % 32 != 0) {
        return mixt_fail(h->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor %s_blocks: rows of %lld values are not whole blocks of 32",
                         mixt_source_path(h->source), piece->name, (long long)piece->shape[last]);
    }
    memcpy(size, piece->shape, (size_t)last * sizeof *size);
    size[last] = piece->shape[last] / 32;
    size[last + 1] = 16;
    snprintf(name, sizeof name, "%s_scales", piece->name);
    MIXT_TRY(find(h, name, size, last + 1, WANT_BYTES, &found->scales));
    snprintf(name, sizeof name, "%s_blocks", piece->name);
    return find(h, name, size, last + 2, WANT_BYTES, &found->tensor);
}

static int compare_keys(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    return (x > y) - (x < y);
}

/* Tensors that some files carry and that change nothing that mixt computes, and those that are part
 * of the options. */
static bool means_nothing(const holder *h, const char *name)
{
    const mixt_model_options *o = &h->model->options;
    if (strstr(name, "rotary_emb.inv_freq") != NULL || mixt_gguf_rope_tensor(name) ||
        (o->tie_embeddings &&
         (strcmp(name, "lm_head.weight") == 0 || strcmp(name, "output.weight") == 0))) {
        return true;
    }
    /* factors of activations, which mixt does not round */
    const char *end = strrchr(name, '.');
    if (h->f8.known && end != NULL &&
        (strcmp(end, ".input_scale") == 0 || strcmp(end, ".activation_scale") == 0)) {
        return true;
    }
    /* layers behind the last predict further tokens (DeepSeek-V3) */
    int layer = -1;
    return (sscanf(name, "model.layers.%d.", &layer) == 1 ||
            sscanf(name, "layers.%d.", &layer) == 1 || sscanf(name, "blk.%d.", &layer) == 1) &&
           layer >= o->layers;
}

/* A tensor that nothing reads would silently be missing from what is computed. */
static mixt_status check_unread(holder *h)
{
    size_t count = mixt_source_count(h->source);
    qsort(h->used, h->used_count, sizeof *h->used, compare_keys);
    for (size_t i = 0; i < count; i++) {
        const void *key;
        const char *name = mixt_source_name(h->source, i, &key);
        if ((h->used_count == 0 ||
             bsearch(&key, h->used, h->used_count, sizeof key, compare_keys) == NULL) &&
            !means_nothing(h, name)) {
            return mixt_fail(h->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: tensor %.100s is no part of this %s as mixt knows it",
                             mixt_source_path(h->source), name, h->model->family->title);
        }
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Holding                                                                                    */

static bool is_there(const holder *h, const mixt_layout_piece *piece)
{
    mixt_source_tensor tensor;
    char name[144];
    snprintf(name, sizeof name, "%s%s", piece->name, piece->mxfp4 ? "_blocks" : "");
    return mixt_source_find(h->source, name, &tensor);
}

/* The row of the table whose first tensor the files hold; the first row where they hold none; NULL
 * where the parameter lies under its own name, as in a checkpoint of mixt. */
static const mixt_tensor_row *choose_row(const holder *h, const mixt_parameter *p)
{
    const mixt_family *family = h->model->family;
    const mixt_tensor_row *first = mixt_family_row(family, p->slot, h->form, NULL);
    for (const mixt_tensor_row *row = first; row != NULL;
         row = mixt_family_row(family, p->slot, h->form, row)) {
        mixt_layout_piece piece;
        mixt_layout_piece_get(h->model, p, row, h->form, 0, &piece);
        if (is_there(h, &piece)) {
            return row;
        }
    }
    mixt_source_tensor tensor;
    char name[128];
    mixt_parameter_expert_name(p, 0, name);
    return mixt_source_find(h->source, name, &tensor) ? NULL : first;
}

/* Piece `index` as the parameter's own name has it: whole, or one for each expert. */
static void own_piece(const mixt_parameter *p, int index, mixt_layout_piece *piece)
{
    int first = strstr(p->name, "{E}") != NULL ? 1 : 0;
    *piece = (mixt_layout_piece){.rank = p->rank - first, .count = {1, 1, 1, 1}};
    mixt_parameter_expert_name(p, index, piece->name);
    int64_t stride = 1;
    for (int i = piece->rank - 1, axis = 3; i >= 0; i--, axis--) {
        piece->shape[i] = piece->count[axis] = p->size[first + i];
        piece->stride[axis] = stride;
        stride *= piece->shape[i];
    }
    piece->offset = (size_t)stride * (size_t)index;
}

static mixt_status hold_parameter(holder *h, int index)
{
    const mixt_parameter *p = &h->model->parameters[index];
    const mixt_tensor_row *row = choose_row(h, p);
    bool each = strstr(p->name, "{E}") != NULL;
    int pieces = row != NULL ? mixt_layout_piece_count(h->model, p, row, h->form)
                 : each      ? (int)p->size[0]
                             : 1;
    mixt_held *held = h->fill ? &h->model->held[index] : NULL;
    if (h->fill) {
        MIXT_TRY(mixt_held_begin(held, p, mixt_parameter_is_matrix(p), h->source, h->error));
    }
    for (int i = 0; i < pieces; i++) {
        mixt_held_piece found = {.parameter = p};
        if (row != NULL) {
            mixt_layout_piece_get(h->model, p, row, h->form, i, &found.piece);
        } else {
            own_piece(p, i, &found.piece);
        }
        MIXT_TRY(find_piece(h, &found));
        if (h->fill) {
            MIXT_TRY(mixt_held_add(held, &found, h->source, h->error));
        }
    }
    return MIXT_OK;
}

static mixt_status walk(holder *h)
{
    for (int i = 0; i < h->model->parameter_count; i++) {
        MIXT_TRY(hold_parameter(h, i));
    }
    return MIXT_OK;
}

mixt_status mixt_model_hold(mixt_model *model, mixt_source *source, mixt_f8_blocks f8,
                            mixt_error *error)
{
    model->source = source;
    holder h = {.model = model,
                .source = source,
                .form = mixt_source_is_gguf(source) ? MIXT_FORM_GGUF : MIXT_FORM_FOLDER,
                .f8 = f8,
                .error = error};
    mixt_status status = walk(&h);
    if (status == MIXT_OK) {
        status = check_unread(&h);
    }
    free(h.used);
    if (status == MIXT_OK) {
        model->held = calloc((size_t)model->parameter_count, sizeof *model->held);
        h.fill = true;
        status = model->held != NULL ? walk(&h)
                                     : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory",
                                                 mixt_source_path(source));
    }
    return status == MIXT_OK ? mixt_source_intact(source, error) : status;
}

void mixt_model_release(mixt_model *model)
{
    for (int i = 0; model->held != NULL && i < model->parameter_count; i++) {
        free(model->held[i].matrices);
    }
    free(model->held);
    mixt_source_close(model->source);
    model->held = NULL;
    model->source = NULL;
}
