#include "model/laid.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "core/arithmetic.h"
#include "model/stored.h"
#include "quant/quant.h"

#define TILE 32 /* rows whose neighbours in the file share a line of the processor's cache */

/* Where bytes of a tensor are: parts[i] begins at byte first[i] of it. */
typedef struct origin {
    const char *parts[MIXT_LAID_PARTS];
    size_t first[MIXT_LAID_PARTS];
} origin;

/* ------------------------------------------------------------------------------------------ */
/* What lies where                                                                            */

/* Byte of a part in which an element of the tensor begins; that of a row that is moved as it is,
 * whose bytes may be more than those of its elements. */
static size_t place_of(const mixt_laid_piece *laid, int part, int64_t element)
{
    if (laid->piece.mxfp4) {
        return (size_t)element / (part == 0 ? 2 : 32);
    }
    return laid->whole ? (size_t)(element / laid->k) * laid->tensor.row_bytes
                       : mixt_type_row_bytes(laid->tensor.type, element);
}

bool mixt_laid_plan(const mixt_held_piece *found, int64_t k, mixt_laid_piece *laid)
{
    const mixt_layout_piece *piece = &found->piece;
    mixt_type type = found->tensor.type;
    bool scaled = !piece->mxfp4 && type == MIXT_TYPE_F8_E4M3;
    bool plain = !piece->mxfp4 && !scaled && mixt_type_info(type)->elements == 1;
    *laid = (mixt_laid_piece){.piece = *piece,
                              .tensor = found->tensor,
                              .scales = found->scales,
                              .type = piece->mxfp4 ? MIXT_TYPE_MXFP4 : type,
                              .k = k,
                              .whole = !piece->mxfp4 && !scaled && mixt_layout_keeps_rows(piece)};
    laid->row_bytes = mixt_type_row_bytes(laid->type, k);
    return piece->mxfp4 || laid->whole || plain;
}

mixt_laid_range mixt_laid_part(const mixt_laid *laid, int part)
{
    const mixt_laid_piece *p = laid->piece;
    if (part > 0 && !p->piece.mxfp4) {
        return (mixt_laid_range){0, 0};
    }
    /* rows of one matrix lie at even steps: the last one is the furthest */
    int64_t step = p->piece.count[2] == laid->count && laid->count > 1 ? laid->count - 1 : 1;
    int64_t low = INT64_MAX, high = 0;
    for (int64_t row = 0; row < laid->count; row += step) {
        int64_t start = mixt_layout_row_start(&p->piece, laid->first + row);
        low = mixt_least(low, start);
        high = mixt_most(high, start);
    }
    size_t begin = place_of(p, part, low);
    size_t end = p->piece.mxfp4 ? place_of(p, part, high + p->k)
                 : p->whole     ? place_of(p, part, high) + p->row_bytes
                                : place_of(p, part, high + (p->k - 1) * p->piece.stride[3] + 1);
    return (mixt_laid_range){begin, end - begin};
}

/* ------------------------------------------------------------------------------------------ */
/* Laying                                                                                     */

/* Blocks of a folder's MXFP4: pairs of neighbours in a byte become halves of the block. Two bytes
 * at once, which compilers turn into vectors: 12 GB/s in place of 4. */
static void lay_mxfp4(const uint8_t *restrict blocks, const uint8_t *restrict scales, int64_t count,
                      uint8_t *restrict to)
{
    for (int64_t b = 0; b < count / 32; b++, blocks += 16, to += 17) {
        uint16_t pairs[8];
        for (int j = 0; j < 8; j++) {
            uint16_t low = blocks[j], high = blocks[j + 8]; /* elements 2 j, 2 j + 1 and 16 on */
            pairs[j] = (uint16_t)(((low | low << 4) & 0x0f0f) | ((high << 4 | high << 8) & 0xf0f0));
        }
        to[0] = scales[b];
        memcpy(to + 1, pairs, sizeof pairs);
    }
}

/* Elements that lie `stride` bytes apart, of rows that begin `row_stride` bytes apart. */
typedef struct gathering {
    const char *from;
    size_t stride, row_stride;
    char *to;
    size_t row_bytes;
} gathering;

static inline void gather_elements(const gathering *g, int64_t rows, int64_t count, size_t bytes)
{
    for (int64_t i = 0; i < count; i++) {
        const char *from = g->from + (size_t)i * g->stride;
        for (int64_t row = 0; row < rows; row++) {
            memcpy(g->to + (size_t)row * g->row_bytes + (size_t)i * bytes,
                   from + (size_t)row * g->row_stride, bytes);
        }
    }
}

static void gather(const gathering *g, int64_t rows, int64_t count, size_t bytes)
{
    if (bytes == 2) {
        gather_elements(g, rows, count, 2);
    } else if (bytes == 4) {
        gather_elements(g, rows, count, 4);
    } else {
        gather_elements(g, rows, count, bytes);
    }
}

/* Values [from, from + count) of `rows` rows, which begin `step` elements apart from `start` on. */
typedef struct strip {
    int64_t start, step, rows, from, count;
} strip;

static void lay_strip(const mixt_laid_piece *laid, const origin *o, const strip *s, char *to)
{
    const char *tensor = o->parts[0] + (place_of(laid, 0, s->start) - o->first[0]);
    if (laid->piece.mxfp4) {
        const char *scales = o->parts[1] + (place_of(laid, 1, s->start) - o->first[1]);
        lay_mxfp4((const uint8_t *)tensor + s->from / 2, (const uint8_t *)scales + s->from / 32,
                  s->count, (uint8_t *)to);
    } else if (laid->whole) {
        memcpy(to, tensor + mixt_type_row_bytes(laid->type, s->from),
               mixt_type_row_bytes(laid->type, s->count));
    } else {
        size_t bytes = mixt_type_row_bytes(laid->type, 1);
        size_t stride = (size_t)laid->piece.stride[3] * bytes;
        const gathering g = {.from = tensor + (size_t)s->from * stride,
                             .stride = stride,
                             .row_stride = (size_t)s->step * bytes,
                             .to = to,
                             .row_bytes = laid->row_bytes};
        gather(&g, s->rows, s->count, bytes);
    }
}

/* Rows of strided elements that lie side by side are laid together: the file is read line by line.
 */
static void lay_rows(const mixt_laid *laid, const origin *o, char *to)
{
    const mixt_laid_piece *p = laid->piece;
    bool strided = !p->piece.mxfp4 && !p->whole;
    for (int64_t row = 0; row < laid->count;) {
        strip s = {.start = mixt_layout_row_start(&p->piece, laid->first + row),
                   .step = p->piece.stride[2],
                   .rows = 1,
                   .count = p->k};
        while (strided && s.rows < TILE && row + s.rows < laid->count &&
               mixt_layout_row_start(&p->piece, laid->first + row + s.rows) ==
                   s.start + s.rows * s.step) {
            s.rows++;
        }
        lay_strip(p, o, &s, to + (size_t)row * p->row_bytes);
        row += s.rows;
    }
}

void mixt_laid_matrix(const mixt_laid *laid, const char *const parts[MIXT_LAID_PARTS], char *to)
{
    origin o;
    for (int i = 0; i < MIXT_LAID_PARTS; i++) {
        o.parts[i] = parts[i];
        o.first[i] = mixt_laid_part(laid, i).offset;
    }
    lay_rows(laid, &o, to);
}

static origin in_files(const mixt_laid *laid)
{
    return (origin){.parts = {laid->piece->tensor.data, laid->piece->scales.data}};
}

void mixt_laid_from_files(const mixt_laid *laid, char *to)
{
    const origin o = in_files(laid);
    lay_rows(laid, &o, to);
}

void mixt_laid_row(const mixt_laid *laid, int64_t row, int64_t from, int64_t count, char *to)
{
    const origin o = in_files(laid);
    const strip s = {.start = mixt_layout_row_start(&laid->piece->piece, laid->first + row),
                     .rows = 1,
                     .from = from,
                     .count = count};
    lay_strip(laid->piece, &o, &s, to);
}

/* ------------------------------------------------------------------------------------------ */
/* What is held                                                                               */

const mixt_laid *mixt_held_laid(const mixt_held *held, int i)
{
    return held->laid != NULL && held->matrices[i].data == NULL ? &held->laid[i] : NULL;
}

void mixt_held_row(const mixt_held *held, int i, int64_t row, char *to)
{
    const mixt_laid *laid = mixt_held_laid(held, i);
    const mixt_matrix *matrix = &held->matrices[i];
    if (laid != NULL) {
        mixt_laid_row(laid, row, 0, matrix->k, to);
    } else {
        memcpy(to, (const char *)matrix->data + (size_t)row * matrix->row_bytes,
               mixt_type_row_bytes(matrix->type, matrix->k));
    }
}

static mixt_status lay_held(const mixt_model *model, int index, mixt_error *error)
{
    const mixt_held *held = &model->held[index];
    const mixt_laid_piece *first = NULL; /* others may lie as they are read */
    size_t bytes = 0;
    for (int i = 0; i < held->count; i++) {
        const mixt_laid *laid = mixt_held_laid(held, i);
        if (laid != NULL) {
            first = first == NULL ? laid->piece : first;
            bytes += (size_t)held->matrices[i].n * held->matrices[i].row_bytes;
        }
    }
    char *to = first != NULL ? mixt_source_memory(model->source, bytes) : NULL;
    if (first != NULL && to == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB of tensor %s",
                         first->tensor.path, (double)bytes / 1e6, first->piece.name);
    }
    for (int i = 0; i < held->count && to != NULL; i++) {
        const mixt_laid *laid = mixt_held_laid(held, i);
        if (laid != NULL) {
            mixt_laid_from_files(laid, to);
            held->matrices[i].data = to;
            to += (size_t)held->matrices[i].n * held->matrices[i].row_bytes;
        }
    }
    return MIXT_OK;
}

mixt_status mixt_model_lay(const mixt_model *model, mixt_error *error)
{
    static pthread_mutex_t laying = PTHREAD_MUTEX_INITIALIZER;
    mixt_status status = MIXT_OK;
    pthread_mutex_lock(&laying);
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        if (model->held[i].laid != NULL && !mixt_stored_has(model, i)) {
            status = lay_held(model, i, error);
        }
    }
    pthread_mutex_unlock(&laying);
    return status;
}
