/* Pre-tokenizers that GGUF files name (tokenizer.ggml.pre): the patterns that cut a text for a
 * byte-level vocabulary, as the tokenizer.json files of these families have them. */
#ifndef MIXT_TOKENIZER_PRE_TOKENIZER_H
#define MIXT_TOKENIZER_PRE_TOKENIZER_H

#include <stdbool.h>

#define MIXT_PRE_STAGES 6

typedef struct mixt_pre_tokenizer {
    const char *name;
    const char *patterns[MIXT_PRE_STAGES]; /* each cuts the pieces of the one before */
    bool nfc;                              /* text is brought to NFC first */
    bool whole_words;                      /* ignore_merges */
    bool adds_bos;                         /* where the file does not say */
} mixt_pre_tokenizer;

/* NULL for a name that is not known. */
const mixt_pre_tokenizer *mixt_pre_tokenizer_find(const char *name);
/* The name for a chain of patterns, so that a vocabulary of tokenizer.json can become GGUF; NULL
 * where none has these. */
const mixt_pre_tokenizer *mixt_pre_tokenizer_match(const char *const *patterns, int count, bool nfc,
                                                   bool whole_words);
/* For files older than the key: what models of this architecture have; NULL where that differs. */
const char *mixt_pre_tokenizer_of_architecture(const char *architecture);

#endif
