/* Between tokenizer_json.c, which reads the vocabulary of a tokenizer.json, and
 * tokenizer_json_rules.c, which reads what happens to a text before and after it. */
#ifndef MIXT_TOKENIZER_JSON_H
#define MIXT_TOKENIZER_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "tokenizer/tokenizer.h"

typedef struct mixt_hf_reader {
    mixt_tokenizer *tokenizer;
    json_t *root;
    const json_t *model;
    const json_t *vocabulary; /* model.vocab: an object, or an array of pieces for Unigram */
    const json_t *added;      /* added_tokens */
    mixt_pieces *names;       /* of an array's pieces to ids */
    json_int_t id_limit;
    bool byte_level; /* tokens are written in visible characters */
    bool unescape;   /* the decoder makes spaces of U+2581 */
    mixt_error *error;
} mixt_hf_reader;

/* The two halves of mixt_tokenizer_from_json: `text` is that of `root`. */
mixt_status mixt_hf_parse(const char *text, size_t length, json_t **root, mixt_error *error);
mixt_status mixt_hf_build(json_t *root, const char *text, size_t length, mixt_tokenizer **tokenizer,
                          mixt_error *error);

mixt_status mixt_hf_no_memory(mixt_hf_reader *r);
/* Refuses a value by its name. */
mixt_status mixt_hf_refuse(mixt_hf_reader *r, const char *key, const json_t *value);
mixt_status mixt_hf_wrong(mixt_hf_reader *r, const char *key, const char *rule);
bool mixt_hf_is_null(const json_t *value);
bool mixt_hf_is_type(const json_t *value, const char *type);
/* A boolean under a key; `otherwise` where it is absent. */
mixt_status mixt_hf_flag(mixt_hf_reader *r, const json_t *object, const char *place,
                         const char *key, bool otherwise, bool *flag);

/* Normalizer, pre-tokenizer and decoder; before the vocabulary. */
mixt_status mixt_hf_read_rules(mixt_hf_reader *r);
/* Which tokens go around a text; after the vocabulary. */
mixt_status mixt_hf_read_post_processor(mixt_hf_reader *r);

#endif
