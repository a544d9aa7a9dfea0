/* Reading of tokenizer.model, SentencePiece's own file (a ModelProto message). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/model_proto.h"
#include "tokenizer/protobuf.h"
#include "tokenizer/tokenizer.h"

typedef struct text {
    const char *bytes;
    size_t length;
} text;

typedef struct model_reader {
    mixt_tokenizer *tokenizer;
    const char *data;
    size_t length;
    uint64_t model_type;
    bool byte_fallback, suffix;
    text charsmap, unknown_surface;
    text names[4]; /* of special pieces, by mixt_special */
    bool prefix, remove_extra, escape;
    mixt_piece_rules rules;
    int32_t unknown;
    mixt_error *error;
} model_reader;

static mixt_status no_memory(model_reader *r)
{
    return mixt_fail(r->error, MIXT_ERROR_MEMORY, "no memory");
}

static mixt_status broken(model_reader *r, const char *place)
{
    return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: not a SentencePiece message", place);
}

static mixt_message message_of(const mixt_field *field)
{
    return (mixt_message){(const unsigned char *)field->bytes, field->length, 0, false};
}

/* --- Settings ----------------------------------------------------------------------------------
 */

static mixt_status read_trainer(model_reader *r, const mixt_field *whole)
{
    mixt_message m = message_of(whole);
    mixt_field field;
    while (mixt_message_next(&m, &field)) {
        bool number = field.wire == MIXT_WIRE_VARINT, bytes = field.wire == MIXT_WIRE_BYTES;
        if (number && field.number == TRAINER_MODEL_TYPE) {
            r->model_type = field.value;
        } else if (number && field.number == TRAINER_SUFFIX) {
            r->suffix = field.value != 0;
        } else if (number && field.number == TRAINER_BYTE_FALLBACK) {
            r->byte_fallback = field.value != 0;
        } else if (bytes && field.number == TRAINER_UNKNOWN_SURFACE) {
            r->unknown_surface = (text){field.bytes, field.length};
        } else if (bytes && field.number == TRAINER_UNKNOWN) {
            r->names[MIXT_SPECIAL_UNKNOWN] = (text){field.bytes, field.length};
        } else if (bytes && field.number == TRAINER_BOS) {
            r->names[MIXT_SPECIAL_BOS] = (text){field.bytes, field.length};
        } else if (bytes && field.number == TRAINER_EOS) {
            r->names[MIXT_SPECIAL_EOS] = (text){field.bytes, field.length};
        } else if (bytes && field.number == TRAINER_PAD) {
            r->names[MIXT_SPECIAL_PAD] = (text){field.bytes, field.length};
        }
    }
    return m.broken ? broken(r, "trainer_spec") : MIXT_OK;
}

static mixt_status read_normalizer(model_reader *r, const mixt_field *whole)
{
    mixt_message m = message_of(whole);
    mixt_field field;
    while (mixt_message_next(&m, &field)) {
        bool number = field.wire == MIXT_WIRE_VARINT;
        if (field.wire == MIXT_WIRE_BYTES && field.number == NORMALIZER_CHARSMAP) {
            r->charsmap = (text){field.bytes, field.length};
        } else if (number && field.number == NORMALIZER_PREFIX) {
            r->prefix = field.value != 0;
        } else if (number && field.number == NORMALIZER_REMOVE_EXTRA) {
            r->remove_extra = field.value != 0;
        } else if (number && field.number == NORMALIZER_ESCAPE) {
            r->escape = field.value != 0;
        }
    }
    return m.broken ? broken(r, "normalizer_spec") : MIXT_OK;
}

static mixt_status check_denormalizer(model_reader *r, const mixt_field *whole)
{
    mixt_message m = message_of(whole);
    mixt_field field;
    while (mixt_message_next(&m, &field)) {
        if (field.number == NORMALIZER_CHARSMAP && field.length != 0) {
            return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                             "denormalizer_spec: no support for rules of decoding");
        }
    }
    return m.broken ? broken(r, "denormalizer_spec") : MIXT_OK;
}

/* --- Pieces ------------------------------------------------------------------------------------
 */

static mixt_status bad_piece(model_reader *r, int id, const char *rule)
{
    return mixt_fail(r->error, MIXT_ERROR_FORMAT, "piece %d: %s", id, rule);
}

static mixt_status read_piece(model_reader *r, const mixt_field *whole, int id)
{
    mixt_message m = message_of(whole);
    mixt_field field;
    text piece = {NULL, 0};
    float score = 0;
    uint64_t type = MIXT_TOKEN_NORMAL;
    while (mixt_message_next(&m, &field)) {
        if (field.number == PIECE_TEXT && field.wire == MIXT_WIRE_BYTES) {
            piece = (text){field.bytes, field.length};
        } else if (field.number == PIECE_SCORE && field.wire == MIXT_WIRE_FIXED32) {
            score = mixt_field_float(&field);
        } else if (field.number == PIECE_TYPE && field.wire == MIXT_WIRE_VARINT) {
            type = field.value;
        }
    }
    if (m.broken) {
        return bad_piece(r, id, "not a message");
    }
    if (piece.length == 0 || piece.length > UINT32_MAX / 2) {
        return bad_piece(r, id, "no text");
    }
    if (!isfinite(score)) {
        return bad_piece(r, id, "its score is not a finite number");
    }
    if (type < MIXT_TOKEN_NORMAL || type > MIXT_TOKEN_BYTE) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "piece %d: no support for type %" PRIu64,
                         id, type);
    }
    mixt_token *token = &r->tokenizer->tokens[id];
    token->type = (uint8_t)type;
    token->score = score;
    token->piece = mixt_arena_bytes(r->tokenizer->arena, piece.bytes, piece.length);
    token->piece_length = (uint32_t)piece.length;
    return token->piece != NULL ? MIXT_OK : no_memory(r);
}

static mixt_status read_pieces(model_reader *r)
{
    mixt_message m = {(const unsigned char *)r->data, r->length, 0, false};
    mixt_field field;
    size_t count = 0;
    while (mixt_message_next(&m, &field)) {
        count += field.number == MODEL_PIECES && field.wire == MIXT_WIRE_BYTES;
    }
    if (m.broken || count == 0 || count > INT32_MAX) {
        return m.broken ? broken(r, "tokenizer.model")
                        : mixt_fail(r->error, MIXT_ERROR_FORMAT, "tokenizer.model: no pieces");
    }
    r->tokenizer->tokens = calloc(count, sizeof *r->tokenizer->tokens);
    if (r->tokenizer->tokens == NULL) {
        return no_memory(r);
    }
    r->tokenizer->vocab_size = (int)count;
    m.at = 0;
    for (int id = 0; mixt_message_next(&m, &field);) {
        if (field.number == MODEL_PIECES && field.wire == MIXT_WIRE_BYTES) {
            MIXT_TRY(read_piece(r, &field, id++));
        }
    }
    return MIXT_OK;
}

/* SentencePiece refuses two equal pieces, and none or two for unknown text. */
static mixt_status check_pieces(model_reader *r)
{
    mixt_tokenizer *t = r->tokenizer;
    mixt_pieces *seen = mixt_pieces_create((size_t)t->vocab_size);
    int bytes = 0;
    mixt_status status = seen != NULL ? MIXT_OK : no_memory(r);
    r->unknown = -1;
    for (int id = 0; status == MIXT_OK && id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (mixt_pieces_find(seen, token->piece, token->piece_length) >= 0) {
            status = bad_piece(r, id, "its text is that of an earlier piece");
        } else if (!mixt_pieces_add(seen, token->piece, token->piece_length, id)) {
            status = no_memory(r);
        } else if (token->type == MIXT_TOKEN_UNKNOWN && r->unknown >= 0) {
            status = bad_piece(r, id, "a second one for unknown text");
        }
        r->unknown = token->type == MIXT_TOKEN_UNKNOWN ? id : r->unknown;
        bytes += token->type == MIXT_TOKEN_BYTE;
    }
    mixt_pieces_free(seen);
    if (status == MIXT_OK && r->unknown < 0) {
        status = mixt_fail(r->error, MIXT_ERROR_FORMAT, "no piece for unknown text");
    }
    if (status == MIXT_OK && bytes != (r->byte_fallback ? 256 : 0)) {
        status = mixt_fail(r->error, MIXT_ERROR_FORMAT, "byte_fallback with %d byte pieces", bytes);
    }
    return status;
}

/* --- Putting together --------------------------------------------------------------------------
 */

static void find_specials(model_reader *r)
{
    static const char *const usual[4] = {"<s>", "</s>", "<unk>", "<pad>"};
    mixt_tokenizer *t = r->tokenizer;
    for (int i = 0; i < 4; i++) {
        text name = r->names[i].bytes != NULL ? r->names[i] : (text){usual[i], strlen(usual[i])};
        for (int id = 0; id < t->vocab_size; id++) {
            const mixt_token *token = &t->tokens[id];
            if (token->type == MIXT_TOKEN_CONTROL && token->piece_length == name.length &&
                memcmp(token->piece, name.bytes, name.length) == 0) {
                t->special[i] = id;
            }
        }
    }
    t->special[MIXT_SPECIAL_UNKNOWN] = r->unknown;
}

static mixt_status finish(model_reader *r)
{
    mixt_tokenizer *t = r->tokenizer;
    text surface = r->unknown_surface.bytes != NULL
                       ? r->unknown_surface
                       : (text){MIXT_UNKNOWN_SURFACE, strlen(MIXT_UNKNOWN_SURFACE)};
    MIXT_TRY(mixt_spm_spell(t, r->escape, surface.bytes, surface.length, r->error));
    if (r->charsmap.length != 0) {
        MIXT_TRY(
            mixt_charsmap_create(r->charsmap.bytes, r->charsmap.length, &t->charsmap, r->error));
    }
    find_specials(r);
    return mixt_spm_build(t,
                          &(mixt_spm_options){.unigram = r->model_type == MODEL_UNIGRAM,
                                              .byte_fallback = r->byte_fallback,
                                              .match_user = true,
                                              .unknown = r->unknown},
                          &(mixt_spaces){.prefix = r->prefix && !r->rules.no_prefix,
                                         .first_only = r->rules.first_only,
                                         .remove_extra = r->remove_extra,
                                         .escape = r->escape,
                                         .suffix = r->suffix},
                          r->error);
}

static mixt_status read_root(model_reader *r)
{
    mixt_message m = {(const unsigned char *)r->data, r->length, 0, false};
    mixt_field field;
    while (mixt_message_next(&m, &field)) {
        if (field.wire == MIXT_WIRE_BYTES) {
            MIXT_TRY(field.number == MODEL_TRAINER        ? read_trainer(r, &field)
                     : field.number == MODEL_NORMALIZER   ? read_normalizer(r, &field)
                     : field.number == MODEL_DENORMALIZER ? check_denormalizer(r, &field)
                                                          : MIXT_OK);
        }
    }
    if (m.broken) {
        return broken(r, "tokenizer.model");
    }
    if (r->model_type == MODEL_CHAR || r->model_type == MODEL_WORD) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                         "trainer_spec.model_type: no support for \"%s\"",
                         r->model_type == MODEL_CHAR ? "char" : "word");
    }
    if (r->model_type != MODEL_UNIGRAM && r->model_type != MODEL_BPE) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                         "trainer_spec.model_type: no support for %" PRIu64, r->model_type);
    }
    MIXT_TRY(read_pieces(r));
    MIXT_TRY(check_pieces(r));
    return finish(r);
}

mixt_status mixt_tokenizer_from_model(const char *data, size_t length,
                                      const mixt_piece_rules *rules, mixt_tokenizer **tokenizer,
                                      mixt_error *error)
{
    *tokenizer = NULL;
    model_reader r = {.data = data,
                      .length = length,
                      .model_type = MODEL_UNIGRAM,
                      .prefix = true,
                      .remove_extra = true,
                      .escape = true,
                      .rules = rules != NULL ? *rules : (mixt_piece_rules){0},
                      .error = error};
    r.tokenizer = mixt_tokenizer_new();
    mixt_status status = r.tokenizer == NULL ? no_memory(&r) : read_root(&r);
    if (status == MIXT_OK) {
        r.tokenizer->adds_bos = r.tokenizer->special[MIXT_SPECIAL_BOS] >= 0;
        r.tokenizer->model = malloc(length + 1);
        r.tokenizer->model_length = length;
        status = r.tokenizer->model == NULL ? no_memory(&r) : MIXT_OK;
    }
    if (status != MIXT_OK) {
        mixt_tokenizer_free(r.tokenizer);
        return status;
    }
    memcpy(r.tokenizer->model, data, length);
    mixt_tokenizer_mark_ends(r.tokenizer);
    *tokenizer = r.tokenizer;
    return MIXT_OK;
}
