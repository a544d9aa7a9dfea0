/* Pre-tokenisation: text is cut into words by a chain of regular expressions (PCRE2, with its JIT
 * where there is one). */
#ifndef MIXT_TOKENIZER_SPLIT_H
#define MIXT_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/memory.h"
#include "mixt.h"

/* GPT-2's pattern, which Hugging Face's ByteLevel uses too. */
#define MIXT_GPT2_PATTERN                                                                          \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef enum mixt_split_keep {
    MIXT_SPLIT_KEEP_ALL,     /* Isolated: matches and what lies between */
    MIXT_SPLIT_KEEP_MATCHES, /* Removed, inverted */
    MIXT_SPLIT_KEEP_GAPS,    /* Removed */
} mixt_split_keep;

typedef struct mixt_splitter mixt_splitter;

mixt_splitter *mixt_splitter_create(void);
void mixt_splitter_free(mixt_splitter *splitter);
bool mixt_splitter_is_empty(const mixt_splitter *splitter); /* without stages */
/* Adds a stage, which cuts the pieces of the one before it. `literal`: the pattern is plain text.
 * The pattern is in Oniguruma's syntax, as Hugging Face has it; what PCRE2 would read otherwise is
 * refused by name. */
mixt_status mixt_splitter_add(mixt_splitter *splitter, const char *pattern, bool literal,
                              mixt_split_keep keep, mixt_error *error);

/* Gets each word in order; false stops. */
typedef bool (*mixt_word_function)(void *context, const char *word, size_t length);

/* Appends `text` with `content` for every match of the first stage; bytes that are not UTF-8 stay.
 * A pattern that gives up fails like missing memory. */
void mixt_splitter_replace(const mixt_splitter *splitter, const char *text, size_t length,
                           const char *content, mixt_buffer *to);

/* Cuts `text`, which may hold any bytes: a run of bytes that is not UTF-8 is a word of its own. */
mixt_status mixt_splitter_run(const mixt_splitter *splitter, const char *text, size_t length,
                              mixt_word_function function, void *context, mixt_error *error);

#endif
