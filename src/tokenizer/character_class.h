/* Classes of characters as the tokenizers library has them, in PCRE2's syntax. */
#ifndef MIXT_TOKENIZER_CHARACTER_CLASS_H
#define MIXT_TOKENIZER_CHARACTER_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"

/* White space as Unicode has it; PCRE2's \s also takes U+180E. */
#define MIXT_CLASS_SPACE "\\t-\\r\\x{85}\\p{Z}"

/* Appends what stands in brackets for \p{name}: the system's own property and the characters that
 * it may lack. Names as Oniguruma has them: general categories, Alphabetic, Any, scripts. */
void mixt_class_property(const char *name, size_t length, mixt_buffer *to);
/* Whether a name means what no other category holds: C, Cn. */
bool mixt_class_is_rest(const char *name, size_t length);
/* The same as mixt_class_property for the other categories; `others`: those of C but Cn too. */
void mixt_class_assigned(bool others, mixt_buffer *to);
/* The same for \w, where \p{Alphabetic}, marks, decimal digits and connectors are meant. */
void mixt_class_word(mixt_buffer *to);
/* Whether a character is a mark that Unicode 14 does not know, or not as a letter. */
bool mixt_class_is_young_mark(uint32_t character);
/* The same as mixt_class_property for [:name:] with its brackets; false for names that are not
 * known. */
bool mixt_class_posix(const char *name, size_t length, mixt_buffer *to);

#endif
