/* The precompiled normalisation rules of SentencePiece files: a double-array trie (Aoe 1989, in
 * darts-clone's packing) from sequences of bytes to their replacements. */
#ifndef MIXT_TOKENIZER_CHARSMAP_H
#define MIXT_TOKENIZER_CHARSMAP_H

#include <stddef.h>

#include "mixt.h"

typedef struct mixt_charsmap mixt_charsmap;

/* Copies the rules. Everything is checked here or bounded where it is used. */
mixt_status mixt_charsmap_create(const void *data, size_t length, mixt_charsmap **map,
                                 mixt_error *error);
void mixt_charsmap_free(mixt_charsmap *map);
/* The bytes as they were in the file. */
const char *mixt_charsmap_data(const mixt_charsmap *map, size_t *length);
/* Length of the longest start of text[0, length) that a rule replaces, 0 for none. */
size_t mixt_charsmap_find(const mixt_charsmap *map, const char *text, size_t length,
                          const char **replacement);

#endif
