/* An encoded corpus before it is split into training and held out, as token data and their file
 * (data_file.c) share it. */
#ifndef MIXT_CORPUS_DATA_ENCODED_H
#define MIXT_CORPUS_DATA_ENCODED_H

#include <stdbool.h>

#include "core/memory.h"
#include "core/sha256.h"
#include "corpus/data.h"

typedef struct mixt_encoded_document {
    mixt_data_document document;
    uint64_t key; /* of its text: decides the split */
    bool heldout;
} mixt_encoded_document;

/* Everything in corpus order. */
typedef struct mixt_encoded {
    const mixt_tokenizer *tokenizer;
    int separator, vocab_size;
    uint32_t largest;   /* id so far */
    size_t token_size;  /* 2 or 4 bytes */
    mixt_buffer tokens; /* token_size each */
    mixt_encoded_document *documents;
    size_t count, capacity;
    char **domains;
    int domain_count;
    char corpus_hash[MIXT_SHA256_HEX];
    mixt_error *error;
} mixt_encoded;

/* Whatever the status is, mixt_encoded_free releases what is there. */
mixt_status mixt_encoded_read(mixt_corpus *corpus, const mixt_tokenizer *tokenizer,
                              mixt_encoded *encoded, mixt_error *error);
void mixt_encoded_free(mixt_encoded *encoded);
/* Copies: the encoded corpus stays. */
mixt_status mixt_encoded_split(mixt_encoded *encoded, double heldout, mixt_data **data,
                               mixt_error *error);
mixt_status mixt_heldout_check(double heldout, mixt_error *error);

#endif
