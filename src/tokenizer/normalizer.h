/* What is done to a text before it is cut: a chain of steps as tokenizer.json writes them, or
 * SentencePiece's normaliser as one step. */
#ifndef MIXT_TOKENIZER_NORMALIZER_H
#define MIXT_TOKENIZER_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/memory.h"
#include "tokenizer/added.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/normalize.h"
#include "tokenizer/split.h"

typedef struct mixt_spaces {
    const mixt_charsmap *map;           /* NULL: identity */
    const mixt_added_set *user_defined; /* stays as it is; may be NULL */
    bool prefix;                        /* add_dummy_prefix */
    bool first_only;                    /* which goes before the whole text alone, and not where
                                           a space stands there already (Metaspace's "first") */
    bool remove_extra;                  /* remove_extra_whitespaces */
    bool escape;                        /* spaces become U+2581 */
    bool keep_bytes;                    /* bytes that are not UTF-8 stay (there are byte tokens);
                                           otherwise each becomes U+FFFD */
    bool suffix;                        /* treat_whitespace_as_suffix: the prefix goes behind */
} mixt_spaces;

typedef struct mixt_normalizer mixt_normalizer;

mixt_normalizer *mixt_normalizer_create(void);
void mixt_normalizer_free(mixt_normalizer *normalizer);
/* Whether this text is surely in normal form already, at a look. */
bool mixt_normalizer_keeps(const mixt_normalizer *normalizer, const char *text, size_t length);
/* Whether it does nothing but NFC, once or more. */
bool mixt_normalizer_is_nfc(const mixt_normalizer *normalizer);
/* Whether it does what SentencePiece's normaliser does without rules: spaces become U+2581, with
 * *prefix one before the text. */
bool mixt_normalizer_is_llama(const mixt_normalizer *normalizer, bool *prefix);
/* Each adds a step; false without memory or beyond 16 steps. Texts are copied, what mixt_spaces
 * points to is not. */
bool mixt_normalizer_add_form(mixt_normalizer *normalizer, mixt_normal_form form);
bool mixt_normalizer_add_lower(mixt_normalizer *normalizer);
/* White space off the beginning, off the end. */
bool mixt_normalizer_add_strip(mixt_normalizer *normalizer, bool left, bool right);
bool mixt_normalizer_add_replace(mixt_normalizer *normalizer, const char *from, const char *to);
/* The matches of a pattern; the splitter, of one stage, becomes the normalizer's also where this
 * fails. */
bool mixt_normalizer_add_pattern(mixt_normalizer *normalizer, mixt_splitter *pattern,
                                 const char *to);
bool mixt_normalizer_add_precompiled(mixt_normalizer *normalizer, const mixt_charsmap *map);
bool mixt_normalizer_add_prepend(mixt_normalizer *normalizer, const char *text);
bool mixt_normalizer_add_spaces(mixt_normalizer *normalizer, const mixt_spaces *spaces);
/* Puts the normal form of `text` behind `to`; `to->failed` without memory. `at_start`: nothing of
 * the whole text lies before it. */
void mixt_normalizer_run(const mixt_normalizer *normalizer, const char *text, size_t length,
                         bool at_start, mixt_buffer *to);

#endif
