/* Merges by score: of all neighbours whose joined text is a piece, the one with the highest score
 * is joined, leftmost among equals, until none is left. */
#include <assert.h>
#include <stdlib.h>

#include "tokenizer/heap.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

#define NO_PAIR UINT32_MAX /* as a rank: it would be the score -NaN, which no piece has */

typedef struct symbol {
    uint32_t begin, length; /* 0: joined into one before it */
    uint32_t next, previous;
    uint32_t pair; /* rank of what this and the next one would make */
    bool frozen;   /* a user-defined piece */
} symbol;

typedef struct merging {
    mixt_spm *spm;
    const char *text;
    symbol *symbols;
    size_t count;
    mixt_heap heap;
} merging;

static uint32_t rank_pair(merging *m, uint32_t left)
{
    const symbol *a = &m->symbols[left];
    if (a->next >= m->count || a->frozen || m->symbols[a->next].frozen) {
        return NO_PAIR;
    }
    size_t length = a->length + m->symbols[a->next].length;
    int32_t id = mixt_pieces_find(m->spm->pieces, m->text + a->begin, length);
    if (id < 0) {
        return NO_PAIR;
    }
    if (m->spm->unused_split != NULL) {
        m->spm->unused_split[id] = a->length;
    }
    return m->spm->ranks[id];
}

static void offer(merging *m, uint32_t left)
{
    symbol *a = &m->symbols[left];
    a->pair = rank_pair(m, left);
    if (a->pair != NO_PAIR) {
        mixt_heap_push(&m->heap, (uint64_t)a->pair << 32 | left);
    }
}

static void join(merging *m, uint32_t left)
{
    assert(left < m->count && m->symbols[left].next < m->count);
    symbol *a = &m->symbols[left], *b = &m->symbols[a->next];
    assert(a->begin + a->length == b->begin);
    a->length += b->length;
    b->length = 0;
    a->next = b->next;
    if (a->next < m->count) {
        m->symbols[a->next].previous = left;
    }
    if (a->previous != NO_PAIR) {
        offer(m, a->previous);
    }
    offer(m, left);
}

/* An unused piece is taken apart again the way it was made. */
static void append_piece(const mixt_spm *spm, const char *text, mixt_span span, mixt_spans *spans)
{
    span.id = mixt_spm_id(spm, text + span.begin, span.length);
    uint32_t left = 0;
    if (spm->unused_split != NULL && span.id >= 0 &&
        spm->options.tokens[span.id].type == MIXT_TOKEN_UNUSED) {
        left = spm->unused_split[span.id];
    }
    if (left == 0 || left >= span.length) {
        mixt_spans_append(spans, span);
    } else {
        append_piece(spm, text, (mixt_span){span.begin, left, -1, false}, spans);
        append_piece(spm, text, (mixt_span){span.begin + left, span.length - left, -1, false},
                     spans);
    }
}

static size_t cut(const mixt_spm *spm, const char *text, size_t length, symbol *symbols)
{
    size_t count = 0;
    for (size_t at = 0; at < length; count++) {
        const mixt_added_token *user = mixt_added_longest(spm->user_defined, text, length, at);
        size_t size = user != NULL ? user->length : mixt_spm_character(text + at, length - at);
        if (symbols != NULL) {
            symbols[count] = (symbol){.begin = (uint32_t)at,
                                      .length = (uint32_t)size,
                                      .next = (uint32_t)count + 1,
                                      .previous = (uint32_t)count - 1,
                                      .pair = NO_PAIR,
                                      .frozen = user != NULL};
        }
        at += size;
    }
    return count;
}

/* A merge offers two pairs and joins two symbols: the heap never holds more than 3 * count. */
void mixt_spm_merge(mixt_spm *spm, const char *text, size_t length, mixt_spans *spans)
{
    merging m = {.spm = spm, .text = text, .count = cut(spm, text, length, NULL)};
    m.symbols = malloc((m.count + 1) * sizeof *m.symbols);
    m.heap.capacity = 3 * m.count + 1;
    m.heap.data = malloc(m.heap.capacity * sizeof *m.heap.data);
    if (m.symbols == NULL || m.heap.data == NULL) {
        spans->failed = true;
    } else {
        cut(spm, text, length, m.symbols);
        for (uint32_t i = 0; i < m.count; i++) {
            m.symbols[i].pair = rank_pair(&m, i);
            if (m.symbols[i].pair != NO_PAIR) {
                m.heap.data[m.heap.count++] = (uint64_t)m.symbols[i].pair << 32 | i;
            }
        }
        mixt_heap_build(&m.heap);
        while (m.heap.count != 0) {
            uint64_t top = mixt_heap_pop(&m.heap);
            uint32_t left = (uint32_t)top;
            if (m.symbols[left].length != 0 && m.symbols[left].pair == top >> 32) {
                join(&m, left);
            }
        }
        for (size_t i = 0; i < m.count; i = m.symbols[i].next) {
            append_piece(spm, text, (mixt_span){m.symbols[i].begin, m.symbols[i].length, -1, false},
                         spans);
        }
    }
    free(m.symbols);
    free(m.heap.data);
}
