/* The two models of SentencePiece (Kudo & Richardson 2018) over normalised text: merges by score,
 * and the unigram language model (Kudo 2018). */
#ifndef MIXT_TOKENIZER_SENTENCEPIECE_H
#define MIXT_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pieces.h"

#define MIXT_SPACE_MARK "\xe2\x96\x81"        /* U+2581, which stands for a space in pieces */
#define MIXT_UNKNOWN_SURFACE " \xe2\x81\x87 " /* U+2047, which is shown for an unknown piece */

struct mixt_token;

typedef struct mixt_spm_options {
    const struct mixt_token *tokens; /* [vocab_size], with piece, type and score; outlive it */
    int vocab_size;
    bool unigram;
    bool byte_fallback; /* unknown characters become byte tokens */
    bool match_user;    /* user-defined pieces are found first, as SentencePiece does */
    bool double_scores; /* sums in double, as tokenizers and llama.cpp add them */
    bool untyped;       /* every piece may become text, as in tokenizer.json */
    int32_t unknown;    /* id, -1: none */
} mixt_spm_options;

typedef struct mixt_spm mixt_spm;

mixt_status mixt_spm_create(const mixt_spm_options *options, mixt_spm **spm, mixt_error *error);
void mixt_spm_free(mixt_spm *spm);
const mixt_added_set *mixt_spm_user_defined(const mixt_spm *spm);
/* Appends the ids of normalised text of any bytes. Returns -1, or a byte that has no token. */
int mixt_spm_encode(mixt_spm *spm, const char *text, size_t length, mixt_ids *ids);

/* --- Between sentencepiece.c, score_merge.c and unigram.c ------------------------------------- */

typedef struct mixt_trie mixt_trie; /* of the pieces a unigram model may use */

/* A stretch of text and the piece it became; id is `unknown` where none did. */
typedef struct mixt_span {
    uint32_t begin, length;
    int32_t id;
    bool known; /* although its id is that of unknown text */
} mixt_span;

typedef struct mixt_spans {
    mixt_span *data;
    size_t count, capacity;
    bool failed;
} mixt_spans;

struct mixt_spm {
    mixt_spm_options options;
    mixt_pieces *pieces;   /* normal, user-defined and unused ones: what text may become */
    mixt_pieces *reserved; /* control, unknown and byte pieces */
    mixt_added_set *user_defined;
    uint32_t *ranks;        /* [vocab_size] by falling score, equal for equal scores */
    uint32_t *unused_split; /* [vocab_size] length of the left half that last made an unused piece;
                               NULL where no piece is unused */
    mixt_trie *trie;
    double lowest, highest; /* scores of normal pieces; highest at least FLT_MIN */
    int32_t byte_ids[256];
};

void mixt_spans_append(mixt_spans *spans, mixt_span span);
/* Length of the character at `text` (1 for a byte that is not UTF-8). */
size_t mixt_spm_character(const char *text, size_t length);
int32_t mixt_spm_id(const mixt_spm *spm, const char *text, size_t length);
void mixt_spm_merge(mixt_spm *spm, const char *text, size_t length, mixt_spans *spans);
bool mixt_unigram_prepare(mixt_spm *spm);
void mixt_trie_free(mixt_trie *trie);
void mixt_unigram_best(const mixt_spm *spm, const char *text, size_t length, mixt_spans *spans);

#endif
