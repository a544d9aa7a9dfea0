/* What normalizers do to characters: the normal forms of Unicode (UAX 15) in linear time, small
 * letters, SentencePiece's rules. Tables are those of the tokenizers library. */
#ifndef MIXT_TOKENIZER_NORMALIZE_H
#define MIXT_TOKENIZER_NORMALIZE_H

#include <stddef.h>

#include "core/memory.h"
#include "tokenizer/charsmap.h"

typedef enum mixt_normal_form { MIXT_NFC, MIXT_NFD, MIXT_NFKC, MIXT_NFKD } mixt_normal_form;

/* Whether text is surely in NFC already: nothing in it is at or above U+0300. */
int mixt_nfc_is_plain(const char *text, size_t length);
/* Each appends what becomes of `text` to `to`; bytes that are not UTF-8 pass through unchanged. */
void mixt_normal_form_append(mixt_normal_form form, const char *text, size_t length,
                             mixt_buffer *to);
void mixt_lower_append(const char *text, size_t length, mixt_buffer *to);
/* Rules as Precompiled of tokenizer.json applies them: to clusters of characters of less than 6
 * bytes, else to single characters, by the shortest start that has a rule. SentencePiece itself
 * takes the longest. */
void mixt_precompiled_append(const mixt_charsmap *map, const char *text, size_t length,
                             mixt_buffer *to);

#endif
