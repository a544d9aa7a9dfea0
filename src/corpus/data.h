/* Token data for the trainer, the evaluator and the tracer: two splits (training and held out),
 * each one array of token ids with a table of documents. A document's tokens begin with the
 * tokenizer's separator (where it has one). */
#ifndef MIXT_CORPUS_DATA_H
#define MIXT_CORPUS_DATA_H

#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

typedef struct mixt_data_document {
    uint64_t start;  /* first token in its split */
    uint64_t length; /* tokens, separator included */
    uint64_t bytes;  /* of text, without a separator; 0 where it came as tokens */
    int domain;
} mixt_data_document;

typedef struct mixt_data_split {
    const uint16_t *narrow; /* [token_count], where the vocabulary has at most 65536 ids */
    const uint32_t *wide;   /* [token_count], else */
    size_t token_count;
    const mixt_data_document *documents; /* [document_count], in corpus order */
    size_t document_count;
} mixt_data_split;

const mixt_data_split *mixt_data_split_of(const mixt_data *data, bool heldout);
/* Token `index` of a split. */
static inline int32_t mixt_data_token(const mixt_data_split *split, size_t index)
{
    return split->narrow != NULL ? (int32_t)split->narrow[index] : (int32_t)split->wide[index];
}
/* Tokens [start, start + count) of a split into ids[count]; the range must lie in the split. */
void mixt_data_copy(const mixt_data_split *split, size_t start, size_t count, int32_t *ids);
/* Index of the document that holds token `index` of a split. */
size_t mixt_data_document_at(const mixt_data_split *split, size_t index);
/* The separator of the tokenizer that encoded the data. */
int mixt_data_separator(const mixt_data *data);
/* An error where the data uses an id that a model of `rows` ids has no row for. The tokenizer may
 * well have such ids. */
mixt_status mixt_data_check_ids(const mixt_data *data, int rows, mixt_error *error);
/* Hash of the corpus files (mixt_corpus_hash) that the data came from. */
const char *mixt_data_corpus_hash(const mixt_data *data);

#endif
