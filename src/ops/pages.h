/* Pages: how the positions of many sequences lie in one cache. A page is MIXT_ATTENTION_BLOCK rows,
 * the block in which attention sums, so that a row's bits do not depend on where its pages lie. A
 * table [sequences, per_sequence] names the pages of each sequence in the order of its positions;
 * what a sequence has not reached yet is never looked up. */
#ifndef MIXT_OPS_PAGES_H
#define MIXT_OPS_PAGES_H

#include "ops/shape.h"

#define MIXT_ATTENTION_BLOCK 64 /* query rows, and keys, of one block; rows of a page */

/* A cache of rows of `columns` values: reals, or bytes of a short type. */
static inline mixt_shape mixt_cache_shape(mixt_type type, int64_t rows, int64_t columns)
{
    mixt_shape shape = mixt_shape_static(2, rows, columns, 0);
    if (type != MIXT_TYPE_F32) {
        shape.dtype = MIXT_ELEMENT_BYTE;
        shape.size[1] = (int64_t)mixt_type_row_bytes(type, columns);
    }
    return shape;
}

/* Refuses types that are none of a cache, and heads (or rows) of `values` that are not whole
 * blocks.
 */
mixt_status mixt_expect_cache(mixt_type type, int64_t values, const char *name, mixt_error *error);

/* The row of the cache that holds a position of a sequence. */
static inline int64_t mixt_cache_row(const int32_t *pages, int64_t per_sequence, int64_t sequence,
                                     int64_t position)
{
    assert(sequence >= 0 && position >= 0 && position < per_sequence * MIXT_ATTENTION_BLOCK);
    int64_t page = pages[sequence * per_sequence + position / MIXT_ATTENTION_BLOCK];
    assert(page >= 0);
    return page * MIXT_ATTENTION_BLOCK + position % MIXT_ATTENTION_BLOCK;
}

/* The table of a call and the line in it of each row. */
typedef struct mixt_pages {
    const int32_t *table;    /* NULL: positions are rows */
    const int32_t *sequence; /* [T] */
    int64_t per_sequence;
} mixt_pages;

static inline mixt_pages mixt_pages_of(const mixt_call *call, int pages, int sequence)
{
    return (mixt_pages){call->in[pages], call->in[sequence], call->in_shape[pages].size[1]};
}

/* The row that holds a position of the sequence of row t. */
static inline int64_t mixt_pages_row(const mixt_pages *pages, int64_t t, int64_t position)
{
    return pages->table == NULL
               ? position
               : mixt_cache_row(pages->table, pages->per_sequence, pages->sequence[t], position);
}

/* Whether two rows are of one sequence. */
static inline bool mixt_pages_same(const mixt_pages *pages, int64_t t, int64_t other)
{
    return pages->table == NULL || pages->sequence[t] == pages->sequence[other];
}

/* The shapes of a table and its rows at two inputs of an operator, which are there both or not at
 * all, and of the cache that they divide. `name` begins error lines. */
mixt_status mixt_expect_pages(const mixt_shape_request *request, int pages, int sequence, int cache,
                              const char *name, mixt_error *error);

#endif
