/* Reading of tokenizer.json (Hugging Face tokenizers): byte-level BPE in the forms of GPT-2,
 * GPT-NeoX, OLMo and the cl100k family. What would give other tokens is refused by name. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

#define HOLE_LIMIT 65536 /* ids beyond twice the entries of the file */

typedef struct reader {
    mixt_tokenizer *tokenizer;
    json_t *root;
    const json_t *vocabulary; /* model.vocab */
    const json_t *added;      /* added_tokens */
    json_int_t id_limit;
    mixt_error *error;
} reader;

static mixt_status no_memory(reader *r)
{
    return mixt_fail(r->error, MIXT_ERROR_MEMORY, "no memory");
}

static mixt_status refuse(reader *r, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "%s: no support for %.100s", key,
              text != NULL ? text : "this value");
    free(text);
    return MIXT_ERROR_UNSUPPORTED;
}

static mixt_status wrong(reader *r, const char *key, const char *rule)
{
    return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: %s", key, rule);
}

static bool is_null(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

static bool is_type(const json_t *value, const char *type)
{
    const char *name = json_string_value(json_object_get(value, "type"));
    return name != NULL && strcmp(name, type) == 0;
}

/* A boolean under a key; `otherwise` where it is absent. */
static mixt_status read_flag(reader *r, const json_t *object, const char *place, const char *key,
                             bool otherwise, bool *flag)
{
    const json_t *value = json_object_get(object, key);
    *flag = value == NULL ? otherwise : json_is_true(value);
    if (value != NULL && !json_is_boolean(value)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s.%s: not true or false", place, key);
    }
    return MIXT_OK;
}

/* --- Pre-tokenizer, normalizer, decoder --------------------------------------------------------
 */

static mixt_status read_byte_level(reader *r, const json_t *value, bool only_one)
{
    bool prefix, regex;
    mixt_status status =
        read_flag(r, value, "pre_tokenizer.ByteLevel", "add_prefix_space", true, &prefix);
    if (status == MIXT_OK) {
        status = read_flag(r, value, "pre_tokenizer.ByteLevel", "use_regex", true, &regex);
    }
    if (status != MIXT_OK) {
        return status;
    }
    if (prefix && !only_one) {
        return refuse(r, "pre_tokenizer: add_prefix_space behind a Split", value);
    }
    r->tokenizer->prefix_space = prefix;
    return regex ? mixt_splitter_add(r->tokenizer->splitter, MIXT_GPT2_PATTERN, false,
                                     MIXT_SPLIT_KEEP_ALL, r->error)
                 : MIXT_OK;
}

static mixt_status read_split(reader *r, const json_t *value)
{
    const json_t *pattern = json_object_get(value, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_string_value(json_object_get(value, "behavior"));
    bool invert;
    mixt_status status = read_flag(r, value, "pre_tokenizer.Split", "invert", false, &invert);
    if (status != MIXT_OK) {
        return status;
    }
    if ((regex == NULL) == (plain == NULL) || behavior == NULL) {
        return wrong(r, "pre_tokenizer.Split", "no pattern or behavior");
    }
    mixt_split_keep keep;
    if (strcmp(behavior, "Isolated") == 0) {
        keep = MIXT_SPLIT_KEEP_ALL;
    } else if (strcmp(behavior, "Removed") == 0) {
        keep = invert ? MIXT_SPLIT_KEEP_MATCHES : MIXT_SPLIT_KEEP_GAPS;
    } else {
        return refuse(r, "pre_tokenizer.Split.behavior", json_object_get(value, "behavior"));
    }
    const char *text = regex != NULL ? regex : plain;
    return mixt_splitter_add(r->tokenizer->splitter, text, regex == NULL, keep, r->error);
}

static mixt_status read_digits(reader *r, const json_t *value)
{
    bool individual;
    mixt_status status =
        read_flag(r, value, "pre_tokenizer.Digits", "individual_digits", false, &individual);
    return status == MIXT_OK
               ? mixt_splitter_add(r->tokenizer->splitter, individual ? "\\p{N}" : "\\p{N}+", false,
                                   MIXT_SPLIT_KEEP_ALL, r->error)
               : status;
}

static mixt_status read_pre_tokenizer(reader *r, const json_t *value)
{
    if (is_type(value, "ByteLevel")) {
        return read_byte_level(r, value, true);
    }
    const json_t *list = json_object_get(value, "pretokenizers");
    size_t count = json_array_size(list);
    if (!is_type(value, "Sequence") || count == 0 || count > 16 ||
        !is_type(json_array_get(list, count - 1), "ByteLevel")) {
        return refuse(r, "pre_tokenizer", value);
    }
    mixt_status status = MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        const json_t *item = json_array_get(list, i);
        if (i + 1 == count) {
            status = read_byte_level(r, item, i == 0);
        } else if (is_type(item, "Split")) {
            status = read_split(r, item);
        } else if (is_type(item, "Digits")) {
            status = read_digits(r, item);
        } else {
            status = refuse(r, "pre_tokenizer", item);
        }
    }
    return status;
}

static mixt_status read_normalizer(reader *r, const json_t *value)
{
    if (is_type(value, "Sequence")) {
        const json_t *list = json_object_get(value, "normalizers");
        if (!json_is_array(list) || json_array_size(list) > 1) {
            return refuse(r, "normalizer", value);
        }
        value = json_array_get(list, 0);
    }
    if (is_null(value)) {
        return MIXT_OK;
    }
    if (!is_type(value, "NFC")) {
        return refuse(r, "normalizer", value);
    }
    return mixt_normalizer_add_nfc(r->tokenizer->normalizer) ? MIXT_OK : no_memory(r);
}

/* Post-processors add special tokens, which mixt's encoding never asks for, or change offsets. */
static mixt_status check_post_processor(reader *r, const json_t *value)
{
    if (is_null(value) || is_type(value, "ByteLevel") || is_type(value, "TemplateProcessing")) {
        return MIXT_OK;
    }
    const json_t *list = json_object_get(value, "processors");
    if (!is_type(value, "Sequence") || !json_is_array(list)) {
        return refuse(r, "post_processor", value);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (!is_type(item, "ByteLevel") && !is_type(item, "TemplateProcessing")) {
            return refuse(r, "post_processor", item);
        }
    }
    return MIXT_OK;
}

static mixt_status check_model(reader *r, const json_t *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model)) {
        return wrong(r, "model", "no such object");
    }
    if (type != NULL && !is_type(model, "BPE")) {
        return refuse(r, "model.type", type);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (!is_null(dropout) && json_number_value(dropout) != 0) {
        return refuse(r, "model.dropout", dropout);
    }
    const json_t *fallback = json_object_get(model, "byte_fallback");
    if (!is_null(fallback) && !json_is_false(fallback)) {
        return refuse(r, "model.byte_fallback", fallback);
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(model, empty[i]);
        if (!is_null(value) && !(json_is_string(value) && json_string_length(value) == 0)) {
            return refuse(r, empty[i], value);
        }
    }
    return MIXT_OK;
}

/* --- Vocabulary --------------------------------------------------------------------------------
 */

static mixt_status check_id(reader *r, const char *place, const char *token, const json_t *value)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= r->id_limit) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "%s: id of \"%.60s\" is not a whole number from 0 to %lld", place, token,
                         (long long)r->id_limit - 1);
    }
    return MIXT_OK;
}

/* Gives an id its bytes; `visible`: they are written as visible characters. */
static mixt_status set_token(reader *r, const char *place, const json_t *id_value, const char *text,
                             bool visible)
{
    mixt_tokenizer *tokenizer = r->tokenizer;
    size_t length = strlen(text);
    mixt_status status = check_id(r, place, text, id_value);
    if (status != MIXT_OK) {
        return status;
    }
    json_int_t id = json_integer_value(id_value);
    mixt_token *token = &tokenizer->tokens[id];
    if (token->bytes != NULL) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: \"%.60s\" has id %lld of another token",
                         place, text, (long long)id);
    }
    char *bytes = mixt_arena_bytes(tokenizer->arena, text, length);
    if (bytes == NULL) {
        return no_memory(r);
    }
    token->length = (uint32_t)(visible ? mixt_visible_to_bytes(text, length, bytes) : length);
    token->bytes = bytes;
    token->is_added = !visible;
    if (id >= tokenizer->vocab_size) {
        tokenizer->vocab_size = (int)id + 1;
    }
    return MIXT_OK;
}

static mixt_status read_vocabulary(reader *r)
{
    size_t entries = json_object_size(r->vocabulary) + json_array_size(r->added);
    if (!json_is_object(r->vocabulary)) {
        return wrong(r, "model.vocab", "no such object");
    }
    r->id_limit = (json_int_t)(2 * entries + HOLE_LIMIT);
    r->tokenizer->tokens = calloc((size_t)r->id_limit, sizeof *r->tokenizer->tokens);
    if (r->tokenizer->tokens == NULL) {
        return no_memory(r);
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

static mixt_status add_to_set(reader *r, const json_t *item, const char *place, const char *text,
                              size_t length)
{
    bool normalized;
    mixt_added_token token = {.text = text, .length = length};
    token.id = (int32_t)json_integer_value(json_object_get(item, "id"));
    mixt_status status = read_flag(r, item, place, "special", false, &token.special);
    if (status == MIXT_OK) {
        status = read_flag(r, item, place, "single_word", false, &token.single_word);
    }
    if (status == MIXT_OK) {
        status = read_flag(r, item, place, "lstrip", false, &token.left_strip);
    }
    if (status == MIXT_OK) {
        status = read_flag(r, item, place, "rstrip", false, &token.right_strip);
    }
    if (status == MIXT_OK) {
        status = read_flag(r, item, place, "normalized", !token.special, &normalized);
    }
    if (status != MIXT_OK) {
        return status;
    }
    if (normalized && !mixt_normalizer_keeps(r->tokenizer->normalizer, text, length)) {
        mixt_buffer nfc = {0};
        mixt_normalizer_run(r->tokenizer->normalizer, text, length, &nfc);
        token.text =
            nfc.failed ? NULL : mixt_arena_bytes(r->tokenizer->arena, nfc.data, nfc.length);
        token.length = nfc.length;
        mixt_buffer_free(&nfc);
        if (token.text == NULL) {
            return no_memory(r);
        }
    }
    mixt_added_set *set = normalized ? r->tokenizer->added_normalized : r->tokenizer->added_raw;
    return mixt_added_set_add(set, &token) ? MIXT_OK : no_memory(r);
}

static mixt_status read_added_token(reader *r, const json_t *item, const char *place)
{
    const json_t *content = json_object_get(item, "content"), *id = json_object_get(item, "id");
    const char *text = json_string_value(content);
    if (text == NULL || text[0] == '\0' || json_string_length(content) > MIXT_ADDED_LENGTH) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s.content: not a string of 1 to %d bytes",
                         place, MIXT_ADDED_LENGTH);
    }
    mixt_status status = check_id(r, place, text, id);
    if (status != MIXT_OK) {
        return status;
    }
    const json_t *known = json_object_get(r->vocabulary, text);
    mixt_token *token = &r->tokenizer->tokens[json_integer_value(id)];
    if (known == NULL) {
        status = set_token(r, place, id, text, false);
    } else if (json_integer_value(known) != json_integer_value(id)) {
        status = mixt_fail(r->error, MIXT_ERROR_FORMAT,
                           "%s: \"%.60s\" has id %" JSON_INTEGER_FORMAT
                           " here and another one in model.vocab",
                           place, text, json_integer_value(id));
    } else if (token->is_added) {
        status =
            mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: \"%.60s\" is added twice", place, text);
    } else { /* its text is what it says */
        token->bytes = mixt_arena_bytes(r->tokenizer->arena, text, strlen(text));
        token->length = (uint32_t)strlen(text);
        token->is_added = true;
    }
    if (status == MIXT_OK && token->bytes == NULL) {
        status = no_memory(r);
    }
    if (status == MIXT_OK) {
        bool special = json_is_true(json_object_get(item, "special"));
        token->type = special ? MIXT_TOKEN_CONTROL : MIXT_TOKEN_USER_DEFINED;
    }
    if (status == MIXT_OK && strcmp(text, MIXT_SEPARATOR_TEXT) == 0) {
        r->tokenizer->separator = (int)json_integer_value(id);
    }
    return status == MIXT_OK ? add_to_set(r, item, place, token->bytes, token->length) : status;
}

static mixt_status read_added_tokens(reader *r)
{
    if (!is_null(r->added) && !json_is_array(r->added)) {
        return wrong(r, "added_tokens", "not an array");
    }
    mixt_status status = MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < json_array_size(r->added); i++) {
        char place[64];
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        status = read_added_token(r, json_array_get(r->added, i), place);
    }
    return status;
}

/* --- Merges ------------------------------------------------------------------------------------
 */

static int32_t find_token(const reader *r, const char *text, size_t length)
{
    const json_t *id = json_object_getn(r->vocabulary, text, length);
    return id != NULL ? (int32_t)json_integer_value(id) : -1;
}

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

static mixt_status read_merge(reader *r, const json_t *item, size_t index, mixt_buffer *joined)
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
        return no_memory(r);
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

static mixt_status read_merges(reader *r, const json_t *model)
{
    const json_t *list = json_object_get(model, "merges");
    size_t count = json_array_size(list);
    if (!json_is_array(list)) {
        return wrong(r, "model.merges", "no such array");
    }
    r->tokenizer->merges = calloc(count + 1, sizeof *r->tokenizer->merges);
    if (r->tokenizer->merges == NULL) {
        return no_memory(r);
    }
    mixt_buffer joined = {0};
    mixt_status status = MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        status = read_merge(r, json_array_get(list, i), i, &joined);
    }
    mixt_buffer_free(&joined);
    return status;
}

/* Builds the merge table and, for ignore_merges, the table of whole words. */
static mixt_status finish(reader *r, const json_t *model)
{
    mixt_tokenizer *tokenizer = r->tokenizer;
    int32_t byte_ids[256];
    bool whole_words;
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        size_t size = mixt_utf8_encode(mixt_byte_character((unsigned char)byte), text);
        byte_ids[byte] = find_token(r, text, size);
    }
    mixt_status status = read_flag(r, model, "model", "ignore_merges", false, &whole_words);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_finish(tokenizer, byte_ids, r->error);
    }
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->vocabulary, text, value)
    {
        if (status != MIXT_OK || !whole_words) {
            break;
        }
        size_t length = strlen(text);
        char *bytes = mixt_arena_bytes(tokenizer->arena, text, length);
        if (bytes == NULL) {
            return no_memory(r);
        }
        length = mixt_visible_to_bytes(text, length, bytes);
        if (!mixt_bpe_add_word(tokenizer->bpe, bytes, length, (int32_t)json_integer_value(value))) {
            return no_memory(r);
        }
    }
    return status;
}

/* Hash of what the tokens of a text depend on beside vocabulary and merges. */
static mixt_status hash_rules(reader *r, const json_t *model)
{
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "added_tokens"};
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    for (size_t i = 0; i < 4; i++) {
        const json_t *value =
            i < 3 ? json_object_get(r->root, keys[i]) : json_object_get(model, "ignore_merges");
        char *text = is_null(value)
                         ? strdup("null")
                         : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        if (text == NULL) {
            return no_memory(r);
        }
        mixt_sha256_update(&hash, text, strlen(text) + 1);
        free(text);
    }
    mixt_sha256_final_hex(&hash, r->tokenizer->rules);
    return MIXT_OK;
}

static mixt_status read_root(reader *r)
{
    if (!json_is_object(r->root)) {
        return wrong(r, "tokenizer.json", "not a JSON object");
    }
    const json_t *model = json_object_get(r->root, "model");
    const json_t *decoder = json_object_get(r->root, "decoder");
    r->vocabulary = json_object_get(model, "vocab");
    r->added = json_object_get(r->root, "added_tokens");
    mixt_status status = check_model(r, model);
    if (status == MIXT_OK) {
        status = read_normalizer(r, json_object_get(r->root, "normalizer"));
    }
    if (status == MIXT_OK) {
        status = read_pre_tokenizer(r, json_object_get(r->root, "pre_tokenizer"));
    }
    if (status == MIXT_OK) {
        status = check_post_processor(r, json_object_get(r->root, "post_processor"));
    }
    if (status == MIXT_OK && !is_null(decoder) && !is_type(decoder, "ByteLevel")) {
        status = refuse(r, "decoder", decoder);
    }
    if (status == MIXT_OK) {
        status = read_vocabulary(r);
    }
    if (status == MIXT_OK) {
        status = read_added_tokens(r);
    }
    if (status == MIXT_OK) {
        status = read_merges(r, model);
    }
    if (status == MIXT_OK) {
        status = hash_rules(r, model);
    }
    return status == MIXT_OK ? finish(r, model) : status;
}

mixt_status mixt_tokenizer_from_json(const char *text, size_t length, mixt_tokenizer **tokenizer,
                                     mixt_error *error)
{
    *tokenizer = NULL;
    json_error_t fault;
    reader r = {.error = error};
    r.root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
    if (r.root == NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "line %d, column %d: %s", fault.line,
                         fault.column, fault.text);
    }
    r.tokenizer = mixt_tokenizer_new();
    mixt_status status = r.tokenizer == NULL ? no_memory(&r) : read_root(&r);
    json_decref(r.root);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(r.tokenizer);
        return status;
    }
    r.tokenizer->json = malloc(length + 1);
    if (r.tokenizer->json == NULL) {
        mixt_tokenizer_free(r.tokenizer);
        return no_memory(&r);
    }
    memcpy(r.tokenizer->json, text, length);
    r.tokenizer->json_length = length;
    mixt_tokenizer_mark_ends(r.tokenizer);
    *tokenizer = r.tokenizer;
    return MIXT_OK;
}
