/* How parameters lie in files: the tensors that hold them and where in those each value is. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "model/parameters.h"

static const char *row_name(const mixt_tensor_row *row, mixt_form form)
{
    return form == MIXT_FORM_GGUF ? row->gguf : row->hf;
}

static mixt_layout row_layout(const mixt_tensor_row *row, mixt_form form)
{
    return form == MIXT_FORM_GGUF ? row->gguf_layout : row->hf_layout;
}

/* Part `index` of a "{a,b,c}" at `at`; *after is what follows it. */
static void choose_part(const char *at, int index, char *to, size_t size, const char **after)
{
    const char *from = at + 1, *close = strchr(at, '}');
    for (; index > 0; index--) {
        const char *comma = memchr(from, ',', (size_t)(close - from));
        from = comma != NULL ? comma + 1 : from;
    }
    size_t length = strcspn(from, ",}");
    snprintf(to, size, "%.*s", (int)length, from);
    *after = close + 1;
}

static void make_name(const char *pattern, int layer, int index, char *name, size_t size)
{
    size_t used = 0;
    while (*pattern != '\0' && used + 24 < size) {
        if (strncmp(pattern, "{L}", 3) == 0 || strncmp(pattern, "{E}", 3) == 0) {
            used +=
                (size_t)snprintf(name + used, size - used, "%d", pattern[1] == 'L' ? layer : index);
            pattern += 3;
        } else if (*pattern == '{') {
            choose_part(pattern, index, name + used, size - used, &pattern);
            used += strlen(name + used);
        } else {
            name[used++] = *pattern++;
        }
    }
    name[used] = '\0';
}

static void set_shape(mixt_layout_piece *piece, int rank, const int64_t *shape)
{
    piece->rank = rank;
    memcpy(piece->shape, shape, (size_t)rank * sizeof *shape);
}

static void set_axis(mixt_layout_piece *piece, int axis, int64_t count, int64_t stride)
{
    piece->count[axis] = count;
    piece->stride[axis] = stride;
}

#define SHAPE(piece, rank, ...) set_shape(piece, rank, (int64_t[]){__VA_ARGS__})

/* Rows of q or k whose rotated pairs lie the other way in the file: halves (i, i + n/2) on one
 * side, neighbours (2i, 2i + 1) on the other. Of `heads` heads, in which n rows are rotated. */
static void permute_heads(const mixt_model *model, mixt_layout_piece *piece, int64_t heads,
                          int64_t columns)
{
    int64_t h = model->options.head_dim, n = model->options.rope.dims;
    bool pairs = model->options.rope.interleaved;
    set_axis(piece, 0, heads, h * columns);
    set_axis(piece, 1, pairs ? n / 2 : 2, columns);
    set_axis(piece, 2, pairs ? 2 : n / 2, pairs ? n / 2 * columns : 2 * columns);
    set_axis(piece, 3, columns, 1);
}

/* Where a part of each head is rotated: piece 2i is that part of head i, the next one its rest. */
static void permute_part(const mixt_model *model, mixt_layout_piece *piece, int index,
                         int64_t columns)
{
    int64_t h = model->options.head_dim, n = model->options.rope.dims;
    piece->from = (index / 2 * h + index % 2 * n) * columns;
    piece->offset = (size_t)piece->from;
    if (index % 2 == 0) {
        permute_heads(model, piece, 1, columns);
    } else {
        set_axis(piece, 0, 1, 0);
        set_axis(piece, 1, 1, 0);
        set_axis(piece, 2, h - n, columns);
        set_axis(piece, 3, columns, 1);
    }
}

mixt_model_options mixt_model_as_laid(const mixt_model_options *options, bool interleaved)
{
    mixt_model_options laid = *options;
    if (laid.attention.latent_size == 0) {
        laid.rope.interleaved = interleaved;
    }
    return laid;
}

static bool is_permuted(const mixt_model *model, const mixt_parameter *p, mixt_form form)
{
    bool rotated = p->slot == MIXT_SLOT_Q || p->slot == MIXT_SLOT_K ||
                   p->slot == MIXT_SLOT_Q_BIAS || p->slot == MIXT_SLOT_K_BIAS;
    bool pairs =
        form == MIXT_FORM_GGUF ? model->family->gguf_interleaved : model->family->hf_interleaved;
    return rotated && model->options.attention.latent_size == 0 &&
           pairs != model->options.rope.interleaved;
}

static bool is_permuted_in_part(const mixt_model *model, const mixt_parameter *p, mixt_form form)
{
    return is_permuted(model, p, form) && model->options.rope.dims < model->options.head_dim;
}

int mixt_layout_piece_count(const mixt_model *model, const mixt_parameter *p,
                            const mixt_tensor_row *row, mixt_form form)
{
    if (row_layout(row, form) == MIXT_LAYOUT_PARTS) {
        return 3;
    }
    if (is_permuted_in_part(model, p, form)) {
        return 2 * (int)(p->size[0] / model->options.head_dim);
    }
    return p->rank > 1 && strstr(row_name(row, form), "{E}") != NULL ? (int)p->size[0] : 1;
}

/* A stack [e, r, c] (e 1 for one matrix of it, or a matrix) in layouts that keep rows whole. */
static void lay_rows(mixt_layout_piece *piece, bool stacked, const int64_t size[3],
                     mixt_layout layout)
{
    bool half = layout == MIXT_LAYOUT_FIRST_HALF || layout == MIXT_LAYOUT_SECOND_HALF;
    bool woven = layout == MIXT_LAYOUT_MXFP4_EVEN || layout == MIXT_LAYOUT_MXFP4_ODD;
    int64_t e = size[0], r = size[1], c = size[2], rows = half || woven ? 2 * r : r;
    piece->mxfp4 = woven || layout == MIXT_LAYOUT_MXFP4;
    if (stacked) {
        SHAPE(piece, 3, e, rows, c);
    } else {
        SHAPE(piece, 2, rows, c);
    }
    piece->from = layout == MIXT_LAYOUT_SECOND_HALF ? r * c
                  : layout == MIXT_LAYOUT_MXFP4_ODD ? c
                                                    : 0;
    set_axis(piece, 1, e, rows * c);
    set_axis(piece, 2, r, woven ? 2 * c : c);
    set_axis(piece, 3, c, 1);
}

/* Columns 0, 2, .. or 1, 3, ..: of [e, c, 2 r], or for biases [e, f] of [e, 2 f]. */
static void lay_woven(mixt_layout_piece *piece, const mixt_parameter *p, bool odd)
{
    piece->from = odd ? 1 : 0;
    if (p->rank == 2) {
        SHAPE(piece, 2, p->size[0], 2 * p->size[1]);
        set_axis(piece, 2, p->size[0], 2 * p->size[1]);
        set_axis(piece, 3, p->size[1], 2);
        return;
    }
    int64_t e = p->size[0], r = p->size[1], c = p->size[2];
    SHAPE(piece, 3, e, c, 2 * r);
    set_axis(piece, 1, e, 2 * r * c);
    set_axis(piece, 2, r, 2);
    set_axis(piece, 3, c, 2 * r);
}

/* The keys [H, latent, key] or values [H, value, latent] of [H (key + value), latent]. */
static void lay_latent(const mixt_model *model, mixt_layout_piece *piece, const mixt_parameter *p,
                       bool values)
{
    const mixt_model_options *o = &model->options;
    int64_t key = o->head_dim - o->attention.position_dim, value = o->attention.value_dim;
    int64_t latent = o->attention.latent_size;
    SHAPE(piece, 2, p->size[0] * (key + value), latent);
    set_axis(piece, 1, p->size[0], (key + value) * latent);
    set_axis(piece, 2, values ? value : latent, values ? latent : 1);
    set_axis(piece, 3, values ? latent : key, values ? 1 : latent);
    piece->from = values ? key * latent : 0;
}

static void lay_plain(mixt_layout_piece *piece, const mixt_parameter *p, bool one_each)
{
    int first = one_each ? 1 : 0, rank = p->rank - first;
    set_shape(piece, rank, p->size + first);
    int64_t stride = 1;
    for (int i = 0; i < rank; i++) {
        set_axis(piece, 3 - i, p->size[p->rank - 1 - i], stride);
        stride *= p->size[p->rank - 1 - i];
    }
}

void mixt_layout_piece_get(const mixt_model *model, const mixt_parameter *p,
                           const mixt_tensor_row *row, mixt_form form, int index,
                           mixt_layout_piece *piece)
{
    assert(index >= 0 && index < mixt_layout_piece_count(model, p, row, form));
    *piece = (mixt_layout_piece){.count = {1, 1, 1, 1}};
    bool expert = strstr(row_name(row, form), "{E}") != NULL;
    make_name(row_name(row, form), p->layer, index + (expert ? model->share.first : 0), piece->name,
              sizeof piece->name);
    int64_t columns = p->rank > 1 ? p->size[1] : 1;
    if (is_permuted_in_part(model, p, form)) {
        lay_plain(piece, p, false);
        permute_part(model, piece, index, columns);
        return;
    }
    mixt_layout layout = row_layout(row, form);
    int count = mixt_layout_piece_count(model, p, row, form);
    bool one_each = count > 1 || expert;
    piece->offset = p->count / (size_t)count * (size_t)index;
    int64_t size[3] = {p->rank == 3 && !one_each ? p->size[0] : 1,
                       p->rank > 1 ? p->size[p->rank - 2] : 1, p->size[p->rank - 1]};
    switch (layout) {
    case MIXT_LAYOUT_PLAIN:
        lay_plain(piece, p, one_each);
        if (is_permuted(model, p, form)) {
            permute_heads(model, piece, p->size[0] / model->options.head_dim, columns);
        }
        break;
    case MIXT_LAYOUT_FIRST_HALF:
    case MIXT_LAYOUT_SECOND_HALF:
    case MIXT_LAYOUT_MXFP4:
    case MIXT_LAYOUT_MXFP4_EVEN:
    case MIXT_LAYOUT_MXFP4_ODD:
        lay_rows(piece, p->rank == 3 && !one_each, size, layout);
        break;
    case MIXT_LAYOUT_TRANSPOSED:
        SHAPE(piece, 3, size[0], size[2], size[1]);
        set_axis(piece, 1, size[0], size[1] * size[2]);
        set_axis(piece, 2, size[1], 1);
        set_axis(piece, 3, size[2], size[1]);
        break;
    case MIXT_LAYOUT_EVEN:
    case MIXT_LAYOUT_ODD:
        lay_woven(piece, p, layout == MIXT_LAYOUT_ODD);
        break;
    case MIXT_LAYOUT_KERNEL_FIRST:
    case MIXT_LAYOUT_KERNEL_SECOND:
        SHAPE(piece, 4, size[1], size[2], 2, 1);
        set_axis(piece, 2, size[1], 2 * size[2]);
        set_axis(piece, 3, size[2], 2);
        piece->from = layout == MIXT_LAYOUT_KERNEL_SECOND ? 1 : 0;
        break;
    case MIXT_LAYOUT_KEY_UP:
    case MIXT_LAYOUT_VALUE_UP:
        lay_latent(model, piece, p, layout == MIXT_LAYOUT_VALUE_UP);
        break;
    case MIXT_LAYOUT_PARTS:
        size[1] /= 3;
        lay_rows(piece, false, size, MIXT_LAYOUT_PLAIN);
        break;
    }
    assert((size_t)(piece->count[0] * piece->count[1] * piece->count[2] * piece->count[3]) ==
           p->count / (size_t)count);
}

bool mixt_layout_piece_is_plain(const mixt_layout_piece *piece)
{
    int64_t stride = 1, elements = 1;
    bool same = !piece->mxfp4 && piece->from == 0;
    for (int i = 3; i >= 0; i--) {
        same = same && (piece->count[i] == 1 || piece->stride[i] == stride);
        stride *= piece->count[i];
    }
    for (int i = 0; i < piece->rank; i++) {
        elements *= piece->shape[i];
    }
    return same && stride == elements;
}

size_t mixt_layout_piece_values(const mixt_layout_piece *piece)
{
    return (size_t)(piece->count[0] * piece->count[1] * piece->count[2] * piece->count[3]);
}

size_t mixt_layout_tensor_values(const mixt_layout_piece *piece)
{
    size_t total = 1;
    for (int i = 0; i < piece->rank; i++) {
        total *= (size_t)piece->shape[i];
    }
    return total;
}

int64_t mixt_layout_row_start(const mixt_layout_piece *piece, int64_t row)
{
    const int64_t *n = piece->count, *stride = piece->stride;
    return piece->from + row % n[2] * stride[2] + row / n[2] % n[1] * stride[1] +
           row / n[2] / n[1] * stride[0];
}

bool mixt_layout_keeps_rows(const mixt_layout_piece *piece)
{
    int64_t width = piece->rank > 0 ? piece->shape[piece->rank - 1] : 1;
    if (piece->stride[3] != 1 || piece->count[3] != width || piece->from % width != 0) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (piece->count[i] > 1 && piece->stride[i] % width != 0) {
            return false;
        }
    }
    return true;
}

void mixt_layout_scatter(const mixt_layout_piece *piece, const float *values, float *tensor)
{
    int64_t runs = piece->count[0] * piece->count[1] * piece->count[2];
    for (int64_t run = 0; run < runs; run++) {
        float *to = tensor + mixt_layout_row_start(piece, run);
        for (int64_t i = 0; i < piece->count[3]; i++) {
            to[i * piece->stride[3]] = *values++;
        }
    }
}

void mixt_layout_gather(const mixt_layout_piece *piece, const float *tensor, float *values)
{
    int64_t runs = piece->count[0] * piece->count[1] * piece->count[2];
    for (int64_t run = 0; run < runs; run++) {
        const float *from = tensor + mixt_layout_row_start(piece, run);
        for (int64_t i = 0; i < piece->count[3]; i++) {
            *values++ = from[i * piece->stride[3]];
        }
    }
}
