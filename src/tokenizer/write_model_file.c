/* Writing of a tokenizer.model for pieces that came from a GGUF file. */
#include <string.h>

#include "core/error.h"
#include "tokenizer/model_proto.h"
#include "tokenizer/protobuf.h"
#include "tokenizer/tokenizer.h"

bool mixt_token_is_padding(const mixt_tokenizer *tokenizer, int id)
{
    const mixt_token *token = &tokenizer->tokens[id];
    char text[32];
    snprintf(text, sizeof text, "[PAD%d]", id);
    return token->type == MIXT_TOKEN_UNUSED && token->piece_length == strlen(text) &&
           memcmp(token->piece, text, token->piece_length) == 0;
}

static mixt_status check(const mixt_tokenizer *t, int count, mixt_error *error)
{
    mixt_pieces *seen = mixt_pieces_create((size_t)count);
    int unknown = 0, bad = -1;
    bool memory = seen != NULL, user = false;
    for (int id = 0; memory && bad < 0 && id < count; id++) {
        const mixt_token *token = &t->tokens[id];
        unknown += token->type == MIXT_TOKEN_UNKNOWN;
        if (token->piece_length == 0 ||
            mixt_pieces_find(seen, token->piece, token->piece_length) >= 0) {
            bad = id;
        }
        user = user || (token->type == MIXT_TOKEN_USER_DEFINED && token->is_added);
        memory = mixt_pieces_add(seen, token->piece, token->piece_length, id);
    }
    mixt_pieces_free(seen);
    if (!memory) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory");
    }
    if (bad >= 0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "tokenizer.model has no form for token %d: empty or there twice", bad);
    }
    if (user) {
        return mixt_fail(
            error, MIXT_ERROR_UNSUPPORTED,
            "tokenizer.model has no form for user-defined tokens as llama.cpp has them");
    }
    return unknown == 1
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "tokenizer.model needs one unknown token, here are %d", unknown);
}

static void write_pieces(const mixt_tokenizer *t, int count, mixt_buffer *to)
{
    mixt_buffer piece = {0};
    for (int id = 0; id < count; id++) {
        const mixt_token *token = &t->tokens[id];
        piece.length = 0;
        mixt_message_write_bytes(&piece, PIECE_TEXT, token->piece, token->piece_length);
        mixt_message_write_float(&piece, PIECE_SCORE, (float)token->score);
        if (token->type != MIXT_TOKEN_NORMAL) {
            mixt_message_write_number(&piece, PIECE_TYPE, token->type);
        }
        mixt_message_write_bytes(to, MODEL_PIECES, piece.data, piece.length);
    }
    to->failed = to->failed || piece.failed;
    mixt_buffer_free(&piece);
}

static void write_trainer(const mixt_tokenizer *t, int count, mixt_buffer *to)
{
    static const uint32_t ids[4] = {TRAINER_BOS_ID, TRAINER_EOS_ID, TRAINER_UNKNOWN_ID,
                                    TRAINER_PAD_ID};
    static const uint32_t names[4] = {TRAINER_BOS, TRAINER_EOS, TRAINER_UNKNOWN, TRAINER_PAD};
    mixt_buffer trainer = {0};
    int bytes = 0;
    for (int id = 0; id < count; id++) {
        bytes += t->tokens[id].type == MIXT_TOKEN_BYTE;
    }
    mixt_message_write_number(&trainer, TRAINER_MODEL_TYPE,
                              t->spm->options.unigram ? MODEL_UNIGRAM : MODEL_BPE);
    mixt_message_write_number(&trainer, TRAINER_VOCABULARY, (uint64_t)count);
    mixt_message_write_number(&trainer, TRAINER_BYTE_FALLBACK, bytes == 256);
    for (int i = 0; i < 4; i++) { /* -1 is written as 64 bits */
        int64_t id = t->special[i] < count ? t->special[i] : -1;
        mixt_message_write_number(&trainer, ids[i], (uint64_t)id);
    }
    for (int i = 0; i < 4; i++) {
        if (t->special[i] >= 0 && t->special[i] < count) {
            const mixt_token *token = &t->tokens[t->special[i]];
            mixt_message_write_bytes(&trainer, names[i], token->piece, token->piece_length);
        }
    }
    mixt_message_write_bytes(to, MODEL_TRAINER, trainer.data, trainer.length);
    to->failed = to->failed || trainer.failed;
    mixt_buffer_free(&trainer);
}

static void write_normalizer(const mixt_tokenizer *t, mixt_buffer *to)
{
    mixt_buffer normalizer = {0};
    size_t length = 0;
    const char *map = t->charsmap != NULL ? mixt_charsmap_data(t->charsmap, &length) : "";
    const char *name = t->charsmap != NULL ? "nmt_nfkc" : "identity";
    mixt_message_write_bytes(&normalizer, NORMALIZER_NAME, name, strlen(name));
    mixt_message_write_bytes(&normalizer, NORMALIZER_CHARSMAP, map, length);
    mixt_message_write_number(&normalizer, NORMALIZER_PREFIX, t->spaces.prefix);
    mixt_message_write_number(&normalizer, NORMALIZER_REMOVE_EXTRA, t->spaces.remove_extra);
    mixt_message_write_number(&normalizer, NORMALIZER_ESCAPE, t->spaces.escape);
    mixt_message_write_bytes(to, MODEL_NORMALIZER, normalizer.data, normalizer.length);
    to->failed = to->failed || normalizer.failed;
    mixt_buffer_free(&normalizer);
}

/* User-defined tokens of llama.cpp's kind behind the pieces go into tokenizer_config.json, with the
 * control tokens between them. */
static int count_pieces(const mixt_tokenizer *t)
{
    int count = t->vocab_size;
    while (count > 1 && mixt_token_is_padding(t, count - 1)) {
        count--;
    }
    int pieces = count;
    for (int id = count - 1;
         id > 0 && (t->tokens[id].type == MIXT_TOKEN_CONTROL ||
                    t->tokens[id].type == MIXT_TOKEN_USER_DEFINED || mixt_token_is_padding(t, id));
         id--) {
        bool user = t->tokens[id].type == MIXT_TOKEN_USER_DEFINED && t->tokens[id].is_added;
        pieces = user ? id : pieces;
    }
    return pieces;
}

mixt_status mixt_tokenizer_write_model(const mixt_tokenizer *tokenizer, mixt_buffer *to,
                                       mixt_error *error)
{
    int count = count_pieces(tokenizer);
    MIXT_TRY(check(tokenizer, count, error));
    write_pieces(tokenizer, count, to);
    write_trainer(tokenizer, count, to);
    write_normalizer(tokenizer, to);
    return to->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory") : MIXT_OK;
}
