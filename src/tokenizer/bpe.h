/* Byte-pair encoding (Sennrich et al. 2016) of words of bytes: the pair of neighbours whose merge
 * was learnt first is joined, leftmost first, until no pair has a merge. */
#ifndef MIXT_TOKENIZER_BPE_H
#define MIXT_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

typedef struct mixt_merge {
    int32_t left, right;
    int32_t result;
} mixt_merge;

/* A growing list of ids; `failed` stays set once memory ran out. */
typedef struct mixt_ids {
    int32_t *data;
    size_t count, capacity;
    bool failed;
} mixt_ids;

void mixt_ids_append(mixt_ids *ids, const int32_t *more, size_t count);

typedef struct mixt_bpe mixt_bpe;

/* byte_ids [256]: -1 for a byte without a token. merges [merge_count] in order of rank; of two
 * with the same pair the later one counts. */
mixt_bpe *mixt_bpe_create(const int32_t *byte_ids, const mixt_merge *merges, size_t merge_count);
void mixt_bpe_free(mixt_bpe *bpe);
/* For ignore_merges: words that are tokens are taken whole. false without memory. The bytes must
 * live as long as `bpe`. */
bool mixt_bpe_add_word(mixt_bpe *bpe, const char *bytes, size_t length, int32_t id);
/* Joins symbols [count] (overwritten), which need not be bytes, and appends what remains. */
void mixt_bpe_merge(const mixt_bpe *bpe, int32_t *symbols, size_t count, mixt_ids *ids);
/* Appends the ids of a word, in O(n log n). Returns -1, or a byte that has no token. */
int mixt_bpe_encode(mixt_bpe *bpe, const char *word, size_t length, mixt_ids *ids);

#endif
