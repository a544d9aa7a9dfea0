/* Pieces of text by their bytes: a hash table from spelling to id. */
#ifndef MIXT_TOKENIZER_PIECES_H
#define MIXT_TOKENIZER_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mixt_pieces mixt_pieces;

/* With room for `expected` pieces; it grows where more come. */
mixt_pieces *mixt_pieces_create(size_t expected);
void mixt_pieces_free(mixt_pieces *pieces);
/* The later of two equal pieces counts. The bytes must live as long as the table. false without
 * memory. */
bool mixt_pieces_add(mixt_pieces *pieces, const char *bytes, size_t length, int32_t id);
/* Its id, or -1. */
int32_t mixt_pieces_find(const mixt_pieces *pieces, const char *bytes, size_t length);
uint64_t mixt_pieces_hash(const char *bytes, size_t length, uint64_t seed);
/* From where an object lies, which nobody who wrote a file knows: no choice of pieces makes a table
 * slow. What is found never depends on it. */
uint64_t mixt_pieces_seed(const void *object);

#endif
