/* Tokenizers of SentencePiece's kind, put together from pieces, types and scores. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/utf8.h"
#include "tokenizer/tokenizer.h"

int mixt_byte_of_piece(const char *piece, size_t length)
{
    if (length != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>') {
        return -1;
    }
    int high = mixt_hex_digit(piece[3]), low = mixt_hex_digit(piece[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

size_t mixt_piece_unescape(const char *piece, size_t length, char *to)
{
    size_t mark = strlen(MIXT_SPACE_MARK), count = 0;
    for (size_t at = 0; at < length;) {
        bool space = length - at >= mark && memcmp(piece + at, MIXT_SPACE_MARK, mark) == 0;
        to[count++] = space ? ' ' : piece[at];
        at += space ? mark : 1;
    }
    return count;
}

static mixt_status spell(mixt_tokenizer *t, int id, bool escape, mixt_error *error)
{
    mixt_token *token = &t->tokens[id];
    char *bytes = mixt_arena_bytes(t->arena, token->piece, token->piece_length);
    if (bytes == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the vocabulary");
    }
    token->bytes = bytes;
    token->length = token->piece_length;
    if (token->type == MIXT_TOKEN_BYTE) {
        int byte = mixt_byte_of_piece(token->piece, token->piece_length);
        if (byte < 0) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "token %d: \"%.*s\" is of type byte but not <0x00> to <0xFF>", id,
                             (int)(token->piece_length > 20 ? 20 : token->piece_length),
                             token->piece);
        }
        bytes[0] = (char)byte;
        token->length = 1;
    } else if (escape && token->type != MIXT_TOKEN_CONTROL) {
        token->length = (uint32_t)mixt_piece_unescape(token->piece, token->piece_length, bytes);
    }
    return MIXT_OK;
}

mixt_status mixt_spm_spell(mixt_tokenizer *tokenizer, bool escape, const char *unknown,
                           size_t unknown_length, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int id = 0; status == MIXT_OK && id < tokenizer->vocab_size; id++) {
        mixt_token *token = &tokenizer->tokens[id];
        if (token->piece == NULL) {
            continue;
        }
        if (token->type == MIXT_TOKEN_UNKNOWN && unknown != NULL) {
            token->bytes = mixt_arena_bytes(tokenizer->arena, unknown, unknown_length);
            token->length = (uint32_t)unknown_length;
            status = token->bytes != NULL
                         ? MIXT_OK
                         : mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the vocabulary");
        } else {
            status = spell(tokenizer, id, escape, error);
        }
    }
    return status;
}

/* Control tokens in the text, for callers that ask for them. */
static bool add_specials(mixt_tokenizer *t)
{
    for (int id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        mixt_added_token added = {
            .text = token->piece, .length = token->piece_length, .id = id, .special = true};
        bool special = token->type == MIXT_TOKEN_CONTROL || token->type == MIXT_TOKEN_UNKNOWN;
        if (special && token->piece_length <= MIXT_ADDED_LENGTH &&
            !mixt_added_set_add(t->added_raw, &added)) {
            return false;
        }
    }
    return true;
}

/* What the ids of a text depend on beside the bytes of tokens. */
static void hash_rules(mixt_tokenizer *t, const mixt_spm_options *options,
                       const mixt_spaces *spaces)
{
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    const bool flags[] = {options->unigram,       options->byte_fallback, options->match_user,
                          options->double_scores, spaces->prefix,         spaces->remove_extra,
                          spaces->escape,         spaces->suffix,         spaces->first_only};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        mixt_sha256_update_u64(&hash, flags[i]);
    }
    for (int id = 0; id < t->vocab_size; id++) {
        uint64_t bits;
        memcpy(&bits, &t->tokens[id].score, sizeof bits);
        mixt_sha256_update_u64(&hash, t->tokens[id].type);
        mixt_sha256_update_u64(&hash, bits);
    }
    if (t->charsmap != NULL) {
        size_t length;
        const char *data = mixt_charsmap_data(t->charsmap, &length);
        mixt_sha256_update(&hash, data, length);
    }
    mixt_sha256_final_hex(&hash, t->rules);
    mixt_tokenizer_set_hash(t);
}

mixt_status mixt_spm_build(mixt_tokenizer *tokenizer, const mixt_spm_options *options,
                           const mixt_spaces *spaces, mixt_error *error)
{
    mixt_spm_options filled = *options;
    mixt_spaces normal = *spaces;
    filled.tokens = tokenizer->tokens;
    filled.vocab_size = tokenizer->vocab_size;
    tokenizer->kind = MIXT_TOKENIZER_PIECES;
    tokenizer->spaces = *spaces;
    MIXT_TRY(mixt_spm_create(&filled, &tokenizer->spm, error));
    normal.map = tokenizer->charsmap;
    normal.keep_bytes = options->byte_fallback;
    normal.user_defined = options->match_user ? mixt_spm_user_defined(tokenizer->spm) : NULL;
    if (!mixt_normalizer_add_spaces(tokenizer->normalizer, &normal) || !add_specials(tokenizer)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the vocabulary");
    }
    tokenizer->strip_space = spaces->prefix && !spaces->suffix;
    tokenizer->strip_each = tokenizer->strip_space && !spaces->first_only;
    hash_rules(tokenizer, options, spaces);
    return MIXT_OK;
}
