/* The files beside a vocabulary: between folder.c, which reads them, and beside.c, which adds the
 * tokens that they name. */
#ifndef MIXT_TOKENIZER_BESIDE_H
#define MIXT_TOKENIZER_BESIDE_H

#include <jansson.h>

#include "tokenizer/tokenizer.h"

typedef struct mixt_beside_file {
    char *path;
    json_t *root; /* NULL: not there */
} mixt_beside_file;

typedef struct mixt_beside {
    mixt_beside_file config, map, added; /* tokenizer_config, special_tokens_map, added_tokens */
    const char *class_name;              /* tokenizer_class, or NULL */
    mixt_error *error;
} mixt_beside;

/* The value of a special token's key, and the file that has it; NULL: none names it. */
const json_t *mixt_beside_value(const mixt_beside *b, const char *key, const char **file);
/* A token's text, written as a string or as an object with "content"; NULL for other values. */
const char *mixt_beside_text(const json_t *value);

/* Puts tokens that a tokenizer.json lacks, and flags that it has otherwise, into its added_tokens,
 * with the ids that the tokenizers library gives them; other ids are refused. *text becomes that of
 * `root` where something changed. */
mixt_status mixt_beside_add_to_json(const mixt_beside *b, json_t *root, char **text,
                                    size_t *length);
/* The same for the pieces of a tokenizer.model. */
mixt_status mixt_beside_add_to_pieces(const mixt_beside *b, mixt_tokenizer *tokenizer);
/* legacy and add_prefix_space. */
mixt_status mixt_beside_piece_rules(const mixt_beside *b, mixt_piece_rules *rules);

#endif
