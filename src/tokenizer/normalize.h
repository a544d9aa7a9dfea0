/* Unicode normalisation form C (UAX 15) in linear time. */
#ifndef MIXT_TOKENIZER_NORMALIZE_H
#define MIXT_TOKENIZER_NORMALIZE_H

#include <stddef.h>

#include "core/memory.h"

/* Whether text is surely in NFC already: nothing in it is at or above U+0300. */
int mixt_nfc_is_plain(const char *text, size_t length);
/* Appends the NFC of `text` to `to`; bytes that are not UTF-8 pass through unchanged. */
void mixt_nfc_append(const char *text, size_t length, mixt_buffer *to);

#endif
