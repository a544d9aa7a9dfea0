/* Added tokens: pieces of text that become one id before pre-tokenisation. The longest one at the
 * leftmost place is taken, as Hugging Face tokenizers does. */
#ifndef MIXT_TOKENIZER_ADDED_H
#define MIXT_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_ADDED_LENGTH 4096 /* bytes of a token's text */

typedef struct mixt_added_token {
    const char *text; /* lives as long as the set */
    size_t length;
    int32_t id;
    bool special;     /* taken from text only where the caller asks for it */
    bool single_word; /* only between characters that are no parts of words */
    bool left_strip;  /* takes the white space before it */
    bool right_strip;
} mixt_added_token;

typedef struct mixt_added_set mixt_added_set;

mixt_added_set *mixt_added_set_create(void);
void mixt_added_set_free(mixt_added_set *set);
/* false without memory. */
bool mixt_added_set_add(mixt_added_set *set, const mixt_added_token *token);

/* The tokens in no order that means anything; NULL behind the last. One that was added again under
 * the same text is there twice, the valid one last. */
const mixt_added_token *mixt_added_set_at(const mixt_added_set *set, size_t index);

typedef struct mixt_added_match {
    size_t begin, end;             /* end == begin: none */
    const mixt_added_token *token; /* of the set */
} mixt_added_match;

/* The longest token that begins at `at` (< length), or NULL. */
const mixt_added_token *mixt_added_longest(const mixt_added_set *set, const char *text,
                                           size_t length, size_t at);
/* The first token in text[from, length). */
mixt_added_match mixt_added_find(const mixt_added_set *set, const char *text, size_t length,
                                 size_t from, bool specials);

#endif
