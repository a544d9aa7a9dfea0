/* Reading of tokenizer.json (Hugging Face tokenizers): byte-level BPE, BPE over characters with
 * byte tokens (Llama, Mixtral), and Unigram. What would give other tokens is refused by name. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/json.h"
#include "tokenizer/json.h"
#include "core/utf8.h"

#define HOLE_LIMIT 65536 /* ids beyond twice the entries of the file */

static mixt_status check_model(mixt_hf_reader *r, const json_t *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model)) {
        return mixt_hf_wrong(r, "model", "no such object");
    }
    bool unigram = mixt_hf_is_type(model, "Unigram");
    if (type != NULL && !mixt_hf_is_type(model, "BPE") && (!unigram || r->byte_level)) {
        return mixt_hf_refuse(r, "model.type", type);
    }
    r->tokenizer->kind = r->byte_level ? MIXT_TOKENIZER_BYTES
                         : unigram     ? MIXT_TOKENIZER_PIECES
                                       : MIXT_TOKENIZER_CHARACTERS;
    const json_t *dropout = json_object_get(model, "dropout");
    if (!mixt_hf_is_null(dropout) && json_number_value(dropout) != 0) {
        return mixt_hf_refuse(r, "model.dropout", dropout);
    }
    const json_t *fallback = json_object_get(model, "byte_fallback");
    if (!mixt_hf_is_null(fallback) && (!json_is_boolean(fallback) || r->byte_level) &&
        !json_is_false(fallback)) {
        return mixt_hf_refuse(r, "model.byte_fallback", fallback);
    }
    r->tokenizer->byte_fallback = json_is_true(fallback);
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(model, empty[i]);
        if (!mixt_hf_is_null(value) && !(json_is_string(value) && json_string_length(value) == 0)) {
            return mixt_hf_refuse(r, empty[i], value);
        }
    }
    return MIXT_OK;
}

/* --- Vocabulary --------------------------------------------------------------------------------
 */

static mixt_status check_id(mixt_hf_reader *r, const char *place, const char *token,
                            const json_t *value)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= r->id_limit) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "%s: id of \"%.60s\" is not a whole number from 0 to %lld", place, token,
                         (long long)r->id_limit - 1);
    }
    return MIXT_OK;
}

/* What a token stands for, into `to` [length]; its length. */
static size_t spell(const mixt_hf_reader *r, const char *text, size_t length, char *to)
{
    int byte = r->tokenizer->byte_fallback ? mixt_byte_of_piece(text, length) : -1;
    if (r->byte_level) {
        return mixt_visible_to_bytes(text, length, to);
    }
    if (byte >= 0) {
        to[0] = (char)byte;
        return 1;
    }
    memcpy(to, text, length);
    return r->unescape ? mixt_piece_unescape(text, length, to) : length;
}

/* Gives an id its bytes; `in_model`: it is one of the model's tokens, not an added one. */
static mixt_status set_token(mixt_hf_reader *r, const char *place, const json_t *id_value,
                             const char *text, bool in_model)
{
    mixt_tokenizer *tokenizer = r->tokenizer;
    size_t length = strlen(text);
    MIXT_TRY(check_id(r, place, text, id_value));
    json_int_t id = json_integer_value(id_value);
    mixt_token *token = &tokenizer->tokens[id];
    if (token->bytes != NULL) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: \"%.60s\" has id %lld of another token",
                         place, text, (long long)id);
    }
    char *bytes = mixt_arena_bytes(tokenizer->arena, text, length);
    token->piece = mixt_arena_bytes(tokenizer->arena, text, length);
    if (bytes == NULL || token->piece == NULL) {
        return mixt_hf_no_memory(r);
    }
    token->piece_length = (uint32_t)length;
    token->length = (uint32_t)(in_model ? spell(r, text, length, bytes) : length);
    token->bytes = bytes;
    token->type = MIXT_TOKEN_NORMAL;
    token->is_added = !in_model;
    if (id >= tokenizer->vocab_size) {
        tokenizer->vocab_size = (int)id + 1;
    }
    return MIXT_OK;
}

/* Unigram's vocabulary: [piece, score] by id. */
static mixt_status read_scored(mixt_hf_reader *r)
{
    size_t count = json_array_size(r->vocabulary);
    mixt_status status = MIXT_OK;
    r->names = mixt_pieces_create(count);
    if (r->names == NULL) {
        return mixt_hf_no_memory(r);
    }
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        const json_t *item = json_array_get(r->vocabulary, i);
        const char *text = json_string_value(json_array_get(item, 0));
        const json_t *score = json_array_get(item, 1);
        json_t *id = json_integer((json_int_t)i);
        if (json_array_size(item) != 2 || text == NULL || !json_is_number(score) || id == NULL) {
            status = mixt_fail(r->error, MIXT_ERROR_FORMAT,
                               "model.vocab[%zu]: not a piece and a score", i);
        } else {
            status = set_token(r, "model.vocab", id, text, true);
        }
        json_decref(id);
        if (status == MIXT_OK) {
            mixt_token *token = &r->tokenizer->tokens[i];
            token->score = json_number_value(score);
            status = mixt_pieces_add(r->names, token->piece, token->piece_length, (int32_t)i)
                         ? MIXT_OK
                         : mixt_hf_no_memory(r);
        }
    }
    return status;
}

static mixt_status read_vocabulary(mixt_hf_reader *r)
{
    bool scored = r->tokenizer->kind == MIXT_TOKENIZER_PIECES;
    size_t entries = json_object_size(r->vocabulary) + json_array_size(r->vocabulary) +
                     json_array_size(r->added);
    if (scored ? !json_is_array(r->vocabulary) : !json_is_object(r->vocabulary)) {
        return mixt_hf_wrong(r, "model.vocab", scored ? "no such array" : "no such object");
    }
    r->id_limit = (json_int_t)(2 * entries + HOLE_LIMIT);
    r->tokenizer->tokens = calloc((size_t)r->id_limit, sizeof *r->tokenizer->tokens);
    if (r->tokenizer->tokens == NULL) {
        return mixt_hf_no_memory(r);
    }
    if (scored) {
        return read_scored(r);
    }
    const char *text;
    json_t *id;
    mixt_status status = MIXT_OK;
    json_object_foreach((json_t *)(uintptr_t)r->vocabulary, text, id)
    {
        status = set_token(r, "model.vocab", id, text, true);
        if (status != MIXT_OK) {
            break;
        }
    }
    return status;
}

/* The id of one of the model's tokens, -1 for other text. */
static int32_t find_token(const mixt_hf_reader *r, const char *text, size_t length)
{
    if (r->names != NULL) {
        return mixt_pieces_find(r->names, text, length);
    }
    const json_t *id = json_object_getn(r->vocabulary, text, length);
    return id != NULL ? (int32_t)json_integer_value(id) : -1;
}

static mixt_status add_to_set(mixt_hf_reader *r, const json_t *item, const char *place,
                              const char *text, size_t length)
{
    bool normalized;
    mixt_added_token token = {.text = text, .length = length};
    token.id = (int32_t)json_integer_value(json_object_get(item, "id"));
    MIXT_TRY(mixt_hf_flag(r, item, place, "special", false, &token.special));
    MIXT_TRY(mixt_hf_flag(r, item, place, "single_word", false, &token.single_word));
    MIXT_TRY(mixt_hf_flag(r, item, place, "lstrip", false, &token.left_strip));
    MIXT_TRY(mixt_hf_flag(r, item, place, "rstrip", false, &token.right_strip));
    MIXT_TRY(mixt_hf_flag(r, item, place, "normalized", !token.special, &normalized));
    if (normalized && !mixt_normalizer_keeps(r->tokenizer->normalizer, text, length)) {
        mixt_buffer nfc = {0};
        mixt_normalizer_run(r->tokenizer->normalizer, text, length, true, &nfc);
        token.text =
            nfc.failed ? NULL : mixt_arena_bytes(r->tokenizer->arena, nfc.data, nfc.length);
        token.length = nfc.length;
        mixt_buffer_free(&nfc);
        if (token.text == NULL) {
            return mixt_hf_no_memory(r);
        }
    }
    if (token.single_word || token.left_strip || token.right_strip) {
        r->tokenizer->added_rules = true;
    }
    mixt_added_set *set = normalized ? r->tokenizer->added_normalized : r->tokenizer->added_raw;
    return mixt_added_set_add(set, &token) ? MIXT_OK : mixt_hf_no_memory(r);
}

static mixt_status read_added_token(mixt_hf_reader *r, const json_t *item, const char *place)
{
    const json_t *content = json_object_get(item, "content"), *id = json_object_get(item, "id");
    const char *text = json_string_value(content);
    if (text == NULL || text[0] == '\0' || json_string_length(content) > MIXT_ADDED_LENGTH) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s.content: not a string of 1 to %d bytes",
                         place, MIXT_ADDED_LENGTH);
    }
    MIXT_TRY(check_id(r, place, text, id));
    int32_t known = find_token(r, text, strlen(text));
    mixt_token *token = &r->tokenizer->tokens[json_integer_value(id)];
    if (known < 0) {
        MIXT_TRY(set_token(r, place, id, text, false));
    } else if (known != json_integer_value(id)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "%s: \"%.60s\" has id %" JSON_INTEGER_FORMAT
                         " here and another one in model.vocab",
                         place, text, json_integer_value(id));
    } else if (token->is_added) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: \"%.60s\" is added twice", place, text);
    } else { /* its text is what it says */
        token->bytes = mixt_arena_bytes(r->tokenizer->arena, text, strlen(text));
        token->length = (uint32_t)strlen(text);
        token->is_added = true;
    }
    if (token->bytes == NULL) {
        return mixt_hf_no_memory(r);
    }
    bool special = json_is_true(json_object_get(item, "special"));
    token->type = special ? MIXT_TOKEN_CONTROL : MIXT_TOKEN_USER_DEFINED;
    if (strcmp(text, MIXT_SEPARATOR_TEXT) == 0) {
        r->tokenizer->separator = (int)json_integer_value(id);
    }
    return add_to_set(r, item, place, token->bytes, token->length);
}

static mixt_status read_added_tokens(mixt_hf_reader *r)
{
    if (!mixt_hf_is_null(r->added) && !json_is_array(r->added)) {
        return mixt_hf_wrong(r, "added_tokens", "not an array");
    }
    for (size_t i = 0; i < json_array_size(r->added); i++) {
        char place[64];
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        MIXT_TRY(read_added_token(r, json_array_get(r->added, i), place));
    }
    return MIXT_OK;
}

/* --- Merges ------------------------------------------------------------------------------------
 */

/* The halves of a merge, "a b" or ["a", "b"], into parts and lengths. */
static bool merge_halves(const json_t *item, const char *parts[2], size_t lengths[2])
{
    if (json_is_array(item) && json_array_size(item) == 2) {
        for (size_t i = 0; i < 2; i++) {
            parts[i] = json_string_value(json_array_get(item, i));
            lengths[i] = json_string_length(json_array_get(item, i));
        }
        return parts[0] != NULL && parts[1] != NULL;
    }
    const char *text = json_string_value(item);
    const char *space = text != NULL ? strchr(text, ' ') : NULL;
    if (space == NULL || strchr(space + 1, ' ') != NULL) {
        return false;
    }
    parts[0] = text;
    lengths[0] = (size_t)(space - text);
    parts[1] = space + 1;
    lengths[1] = strlen(space + 1);
    return true;
}

static mixt_status read_merge(mixt_hf_reader *r, const json_t *item, size_t index,
                              mixt_buffer *joined)
{
    const char *parts[2];
    size_t lengths[2];
    if (!merge_halves(item, parts, lengths)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "model.merges[%zu]: not two tokens with one space or in an array", index);
    }
    joined->length = 0;
    mixt_buffer_append(joined, parts[0], lengths[0]);
    mixt_buffer_append(joined, parts[1], lengths[1]);
    if (joined->failed) {
        return mixt_hf_no_memory(r);
    }
    mixt_merge *merge = &r->tokenizer->merges[index];
    merge->left = find_token(r, parts[0], lengths[0]);
    merge->right = find_token(r, parts[1], lengths[1]);
    merge->result = joined->length == 0 ? -1 : find_token(r, joined->data, joined->length);
    if (merge->left < 0 || merge->right < 0 || merge->result < 0) {
        int half = merge->left < 0 ? 0 : 1;
        bool unknown = merge->left < 0 || merge->right < 0;
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "model.merges[%zu]: \"%.*s\" is not in model.vocab", index,
                         (int)(unknown ? lengths[half] : joined->length) % 100,
                         unknown                ? parts[half]
                         : joined->data != NULL ? joined->data
                                                : "");
    }
    r->tokenizer->merge_count = index + 1;
    return MIXT_OK;
}

static mixt_status read_merges(mixt_hf_reader *r, const json_t *model)
{
    const json_t *list = json_object_get(model, "merges");
    size_t count = json_array_size(list);
    if (!json_is_array(list)) {
        return mixt_hf_wrong(r, "model.merges", "no such array");
    }
    r->tokenizer->merges = calloc(count + 1, sizeof *r->tokenizer->merges);
    if (r->tokenizer->merges == NULL) {
        return mixt_hf_no_memory(r);
    }
    mixt_buffer joined = {0};
    mixt_status status = MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        status = read_merge(r, json_array_get(list, i), i, &joined);
    }
    mixt_buffer_free(&joined);
    return status;
}

/* Words that ignore_merges takes whole. */
static mixt_status add_words(mixt_hf_reader *r)
{
    mixt_tokenizer *tokenizer = r->tokenizer;
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->vocabulary, text, value)
    {
        size_t length = strlen(text);
        char *bytes = mixt_arena_bytes(tokenizer->arena, text, length);
        if (bytes == NULL) {
            return mixt_hf_no_memory(r);
        }
        length = mixt_visible_to_bytes(text, length, bytes);
        if (!mixt_bpe_add_word(tokenizer->bpe, bytes, length, (int32_t)json_integer_value(value))) {
            return mixt_hf_no_memory(r);
        }
    }
    return MIXT_OK;
}

static mixt_status finish_bytes(mixt_hf_reader *r)
{
    int32_t byte_ids[256];
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        size_t size = mixt_utf8_encode(mixt_byte_character((unsigned char)byte), text);
        byte_ids[byte] = find_token(r, text, size);
    }
    MIXT_TRY(mixt_tokenizer_finish(r->tokenizer, byte_ids, r->error));
    return r->tokenizer->whole_words ? add_words(r) : MIXT_OK;
}

static void find_byte_tokens(const mixt_hf_reader *r, int32_t ids[256])
{
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        ids[byte] = r->tokenizer->byte_fallback ? find_token(r, text, 6) : -1;
    }
}

/* The unknown token: the name of one of the model's tokens, or none. */
static mixt_status read_unknown(mixt_hf_reader *r)
{
    const json_t *value = json_object_get(r->model, "unk_token");
    if (mixt_hf_is_null(value)) {
        return MIXT_OK;
    }
    const char *text = json_string_value(value);
    int32_t id = text != NULL ? find_token(r, text, strlen(text)) : -1;
    r->tokenizer->special[MIXT_SPECIAL_UNKNOWN] = id;
    r->tokenizer->unknown = id;
    return id >= 0 ? MIXT_OK : mixt_hf_wrong(r, "model.unk_token", "not in model.vocab");
}

static mixt_status finish_characters(mixt_hf_reader *r)
{
    static const int32_t no_bytes[256];
    mixt_tokenizer *t = r->tokenizer;
    MIXT_TRY(read_unknown(r));
    MIXT_TRY(mixt_hf_flag(r, r->model, "model", "fuse_unk", false, &t->fuse_unknown));
    t->pieces = mixt_pieces_create((size_t)t->vocab_size);
    for (int id = 0; t->pieces != NULL && id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (token->piece != NULL && find_token(r, token->piece, token->piece_length) == id &&
            !mixt_pieces_add(t->pieces, token->piece, token->piece_length, id)) {
            mixt_pieces_free(t->pieces);
            t->pieces = NULL;
        }
    }
    if (t->pieces == NULL) {
        return mixt_hf_no_memory(r);
    }
    find_byte_tokens(r, t->byte_tokens);
    return mixt_tokenizer_finish(t, no_bytes, r->error);
}

static mixt_status finish_unigram(mixt_hf_reader *r)
{
    mixt_tokenizer *t = r->tokenizer;
    const json_t *unknown = json_object_get(r->model, "unk_id");
    if (!mixt_hf_is_null(unknown)) {
        json_int_t id = json_integer_value(unknown);
        if (!json_is_integer(unknown) || id < 0 || (size_t)id >= json_array_size(r->vocabulary)) {
            return mixt_hf_wrong(r, "model.unk_id", "not the index of a piece");
        }
        t->special[MIXT_SPECIAL_UNKNOWN] = (int32_t)id;
    }
    mixt_spm_options options = {.tokens = t->tokens,
                                .vocab_size = (int)json_array_size(r->vocabulary),
                                .unigram = true,
                                .byte_fallback = t->byte_fallback,
                                .double_scores = true,
                                .untyped = true,
                                .unknown = t->special[MIXT_SPECIAL_UNKNOWN]};
    MIXT_TRY(mixt_spm_create(&options, &t->spm, r->error));
    find_byte_tokens(r, t->spm->byte_ids);
    mixt_tokenizer_set_hash(t);
    return MIXT_OK;
}

/* Hash of what the tokens of a text depend on beside vocabulary and merges. */
static mixt_status hash_rules(mixt_hf_reader *r)
{
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "added_tokens"};
    static const char *const model_keys[] = {"ignore_merges", "byte_fallback", "fuse_unk",
                                             "unk_token", "unk_id"};
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    size_t count = r->byte_level ? 4 : 8;
    mixt_json_begin();
    for (size_t i = 0; i < count; i++) {
        const json_t *value = i < 3 ? json_object_get(r->root, keys[i])
                                    : json_object_get(r->model, model_keys[i - 3]);
        char *text = mixt_hf_is_null(value)
                         ? strdup("null")
                         : mixt_json_text(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        if (text == NULL) {
            return mixt_hf_no_memory(r);
        }
        mixt_sha256_update(&hash, text, strlen(text) + 1);
        free(text);
    }
    for (int id = 0; r->names != NULL && id < r->tokenizer->vocab_size; id++) {
        uint64_t bits;
        memcpy(&bits, &r->tokenizer->tokens[id].score, sizeof bits);
        mixt_sha256_update_u64(&hash, bits);
    }
    mixt_sha256_final_hex(&hash, r->tokenizer->rules);
    return MIXT_OK;
}

static mixt_status read_root(mixt_hf_reader *r)
{
    if (!json_is_object(r->root)) {
        return mixt_hf_wrong(r, "tokenizer.json", "not a JSON object");
    }
    r->model = json_object_get(r->root, "model");
    r->vocabulary = json_object_get(r->model, "vocab");
    r->added = json_object_get(r->root, "added_tokens");
    MIXT_TRY(mixt_hf_read_rules(r));
    MIXT_TRY(check_model(r, r->model));
    MIXT_TRY(read_vocabulary(r));
    MIXT_TRY(read_added_tokens(r));
    MIXT_TRY(mixt_hf_read_post_processor(r));
    if (r->names == NULL) {
        MIXT_TRY(read_merges(r, r->model));
    }
    MIXT_TRY(
        mixt_hf_flag(r, r->model, "model", "ignore_merges", false, &r->tokenizer->whole_words));
    MIXT_TRY(hash_rules(r));
    return r->names != NULL ? finish_unigram(r)
           : r->byte_level  ? finish_bytes(r)
                            : finish_characters(r);
}

mixt_status mixt_hf_parse(const char *text, size_t length, json_t **root, mixt_error *error)
{
    json_error_t fault;
    *root = mixt_json_load(text, length, JSON_REJECT_DUPLICATES, &fault);
    if (*root == NULL && json_error_code(&fault) == json_error_out_of_memory) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory");
    }
    return *root != NULL ? MIXT_OK
                         : mixt_fail(error, MIXT_ERROR_FORMAT, "line %d, column %d: %s", fault.line,
                                     fault.column, fault.text);
}

mixt_status mixt_hf_build(json_t *root, const char *text, size_t length, mixt_tokenizer **tokenizer,
                          mixt_error *error)
{
    *tokenizer = NULL;
    mixt_hf_reader r = {.root = root, .error = error};
    r.tokenizer = mixt_tokenizer_new();
    mixt_status status = r.tokenizer == NULL ? mixt_hf_no_memory(&r) : read_root(&r);
    mixt_pieces_free(r.names);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(r.tokenizer);
        return status;
    }
    r.tokenizer->json = malloc(length + 1);
    if (r.tokenizer->json == NULL) {
        mixt_tokenizer_free(r.tokenizer);
        return mixt_hf_no_memory(&r);
    }
    memcpy(r.tokenizer->json, text, length);
    r.tokenizer->json[length] = '\0';
    r.tokenizer->json_length = length;
    mixt_tokenizer_mark_ends(r.tokenizer);
    *tokenizer = r.tokenizer;
    return MIXT_OK;
}

mixt_status mixt_tokenizer_from_json(const char *text, size_t length, mixt_tokenizer **tokenizer,
                                     mixt_error *error)
{
    json_t *root;
    *tokenizer = NULL;
    MIXT_TRY(mixt_hf_parse(text, length, &root, error));
    mixt_status status = mixt_hf_build(root, text, length, tokenizer, error);
    json_decref(root);
    return status;
}
