#include "tokenizer/sentencepiece.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/tokenizer.h"
#include "core/utf8.h"

size_t mixt_spm_character(const char *text, size_t length)
{
    size_t size = mixt_utf8_character((const unsigned char *)text, length);
    return size != 0 ? size : 1;
}

void mixt_spans_append(mixt_spans *spans, mixt_span span)
{
    if (spans->failed ||
        !mixt_grow(&spans->data, &spans->capacity, spans->count + 1, sizeof span)) {
        spans->failed = true;
        return;
    }
    spans->data[spans->count++] = span;
}

/* --- Making ------------------------------------------------------------------------------------
 */

/* Falling scores as rising numbers. */
static uint32_t rank_of_score(double score)
{
    float value = (float)score + 0.0f; /* no -0 */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

static bool add_piece(mixt_spm *spm, const mixt_token *token, int32_t id)
{
    switch (spm->options.untyped ? MIXT_TOKEN_NORMAL : token->type) {
    case MIXT_TOKEN_UNKNOWN:
    case MIXT_TOKEN_CONTROL:
        return mixt_pieces_add(spm->reserved, token->piece, token->piece_length, id);
    case MIXT_TOKEN_BYTE:
        spm->byte_ids[(unsigned char)token->bytes[0]] = id;
        return mixt_pieces_add(spm->reserved, token->piece, token->piece_length, id);
    case MIXT_TOKEN_USER_DEFINED: {
        mixt_added_token user = {.text = token->piece, .length = token->piece_length, .id = id};
        return mixt_pieces_add(spm->pieces, token->piece, token->piece_length, id) &&
               (!spm->options.match_user || mixt_added_set_add(spm->user_defined, &user));
    }
    case MIXT_TOKEN_UNUSED:
        if (spm->unused_split == NULL) {
            spm->unused_split = calloc((size_t)spm->options.vocab_size, sizeof *spm->unused_split);
        }
        return spm->unused_split != NULL &&
               mixt_pieces_add(spm->pieces, token->piece, token->piece_length, id);
    default:
        spm->lowest = fmin(spm->lowest, token->score);
        spm->highest = fmax(spm->highest, token->score);
        return mixt_pieces_add(spm->pieces, token->piece, token->piece_length, id);
    }
}

static bool fill(mixt_spm *spm)
{
    const mixt_spm_options *options = &spm->options;
    spm->pieces = mixt_pieces_create((size_t)options->vocab_size);
    spm->reserved = mixt_pieces_create(512);
    spm->user_defined = mixt_added_set_create();
    spm->ranks = calloc((size_t)options->vocab_size + 1, sizeof *spm->ranks);
    if (spm->pieces == NULL || spm->reserved == NULL || spm->user_defined == NULL ||
        spm->ranks == NULL) {
        return false;
    }
    for (int id = 0; id < options->vocab_size; id++) {
        const mixt_token *token = &options->tokens[id];
        spm->ranks[id] = rank_of_score(token->score);
        if (token->piece != NULL && !add_piece(spm, token, id)) {
            return false;
        }
    }
    if (!isfinite(spm->lowest)) { /* no normal pieces */
        spm->lowest = 0;
    }
    return !options->unigram || mixt_unigram_prepare(spm);
}

mixt_status mixt_spm_create(const mixt_spm_options *options, mixt_spm **spm, mixt_error *error)
{
    *spm = calloc(1, sizeof **spm);
    if (*spm != NULL) {
        (*spm)->options = *options;
        (*spm)->lowest = INFINITY;
        (*spm)->highest = FLT_MIN; /* SentencePiece's start: never below, scores are negative */
        memset((*spm)->byte_ids, 0xff, sizeof(*spm)->byte_ids);
        if (!fill(*spm)) {
            mixt_spm_free(*spm);
            *spm = NULL;
        }
    }
    return *spm != NULL ? MIXT_OK
                        : mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the vocabulary");
}

void mixt_spm_free(mixt_spm *spm)
{
    if (spm != NULL) {
        mixt_pieces_free(spm->pieces);
        mixt_pieces_free(spm->reserved);
        mixt_added_set_free(spm->user_defined);
        mixt_trie_free(spm->trie);
        free(spm->ranks);
        free(spm->unused_split);
        free(spm);
    }
}

const mixt_added_set *mixt_spm_user_defined(const mixt_spm *spm)
{
    return spm->user_defined;
}

/* --- Encoding ----------------------------------------------------------------------------------
 */

int32_t mixt_spm_id(const mixt_spm *spm, const char *text, size_t length)
{
    int32_t id = mixt_pieces_find(spm->reserved, text, length);
    id = id >= 0 ? id : mixt_pieces_find(spm->pieces, text, length);
    return id >= 0 ? id : spm->options.unknown;
}

/* Byte tokens of a stretch; false where one of them is not there. */
static bool append_bytes(const mixt_spm *spm, const char *text, size_t length, mixt_ids *ids)
{
    for (size_t i = 0; i < length; i++) {
        if (spm->byte_ids[(unsigned char)text[i]] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < length; i++) {
        mixt_ids_append(ids, &spm->byte_ids[(unsigned char)text[i]], 1);
    }
    return true;
}

/* tokenizer.json: a run of unknown characters is looked up as one piece (the unknown token's own
 * text is one) before it falls back to bytes. */
static void join_unknown(const mixt_spm *spm, const char *text, mixt_spans *spans)
{
    size_t kept = 0;
    for (size_t i = 0; i < spans->count; i++) {
        mixt_span *last = kept != 0 ? &spans->data[kept - 1] : NULL;
        bool unknown = spans->data[i].id == spm->options.unknown;
        if (unknown && last != NULL && last->id == spm->options.unknown) {
            last->length += spans->data[i].length;
        } else {
            spans->data[kept++] = spans->data[i];
        }
    }
    spans->count = kept;
    for (size_t i = 0; i < kept; i++) {
        mixt_span *span = &spans->data[i];
        span->known = span->id != spm->options.unknown ||
                      mixt_pieces_find(spm->pieces, text + span->begin, span->length) >= 0;
    }
}

int mixt_spm_encode(mixt_spm *spm, const char *text, size_t length, mixt_ids *ids)
{
    mixt_spans spans = {0};
    int missing = -1;
    if (length > INT32_MAX) {
        ids->failed = true;
        return -1;
    }
    if (spm->options.unigram) {
        mixt_unigram_best(spm, text, length, &spans);
    } else {
        mixt_spm_merge(spm, text, length, &spans);
    }
    if (spm->options.untyped) {
        join_unknown(spm, text, &spans);
    }
    bool was_unknown = false;
    for (size_t i = 0; i < spans.count && missing < 0; i++) {
        const mixt_span *span = &spans.data[i];
        bool unknown = span->id == spm->options.unknown;
        if (unknown && spm->options.byte_fallback && !span->known &&
            append_bytes(spm, text + span->begin, span->length, ids)) {
            unknown = false;
        } else if (span->id < 0) {
            missing = (unsigned char)text[span->begin];
        } else if (!unknown || !was_unknown) {
            mixt_ids_append(ids, &span->id, 1);
        }
        was_unknown = unknown;
    }
    ids->failed = ids->failed || spans.failed;
    free(spans.data);
    return missing;
}
