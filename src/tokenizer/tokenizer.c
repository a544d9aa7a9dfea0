#include "tokenizer/tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/utf8.h"

/* --- Bytes as characters (GPT-2, Radford et al. 2019) ------------------------------------------
 */

/* Printable bytes stand for themselves; the other 68, in order, for U+0100 and on. */
static bool is_visible(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

uint32_t mixt_byte_character(unsigned char byte)
{
    if (is_visible(byte)) {
        return byte;
    }
    if (byte <= 0x20) {
        return 0x100u + byte;
    }
    return byte == 0xad ? 0x143u : 0x100u + 33u + (byte - 0x7fu);
}

/* The byte behind a visible character; -1 for one that stands for none. */
static int character_byte(uint32_t character)
{
    if (character < 0x100) {
        return is_visible(character) ? (int)character : -1;
    }
    if (character <= 0x120) {
        return (int)(character - 0x100);
    }
    if (character < 0x143) {
        return (int)(character - 0x121 + 0x7f);
    }
    return character == 0x143 ? 0xad : -1;
}

size_t mixt_visible_to_bytes(const char *text, size_t length, char *to)
{
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character((const unsigned char *)text + at, length - at);
        int byte = size == 0
                       ? -1
                       : character_byte(mixt_utf8_decode((const unsigned char *)text + at, size));
        if (byte < 0) {
            memcpy(to, text, length);
            return length;
        }
        to[count++] = (char)byte;
        at += size;
    }
    return count;
}

/* Ids follow the order of the characters. */
int mixt_id_of_byte(unsigned char byte)
{
    int id = 0;
    for (int other = 0; other < 256; other++) {
        id += mixt_byte_character((unsigned char)other) < mixt_byte_character(byte);
    }
    return id;
}

unsigned char mixt_byte_of_id(int id)
{
    assert(id >= 0 && id < 256);
    int byte = 0;
    while (byte < 255 && mixt_id_of_byte((unsigned char)byte) != id) {
        byte++;
    }
    return (unsigned char)byte;
}

/* --- Making ------------------------------------------------------------------------------------
 */

mixt_tokenizer *mixt_tokenizer_new(void)
{
    mixt_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        return NULL;
    }
    tokenizer->separator = -1;
    tokenizer->before = tokenizer->behind = tokenizer->unknown = -1;
    for (int i = 0; i < 4; i++) {
        tokenizer->special[i] = -1;
    }
    tokenizer->arena = mixt_arena_create();
    tokenizer->trie = calloc(1, sizeof *tokenizer->trie);
    tokenizer->normalizer = mixt_normalizer_create();
    tokenizer->splitter = mixt_splitter_create();
    tokenizer->added_raw = mixt_added_set_create();
    tokenizer->added_normalized = mixt_added_set_create();
    if (tokenizer->arena == NULL || tokenizer->trie == NULL || tokenizer->normalizer == NULL ||
        tokenizer->splitter == NULL || tokenizer->added_raw == NULL ||
        tokenizer->added_normalized == NULL) {
        mixt_tokenizer_free(tokenizer);
        return NULL;
    }
    return tokenizer;
}

void mixt_tokenizer_free(mixt_tokenizer *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    mixt_arena_free(tokenizer->arena);
    mixt_normalizer_free(tokenizer->normalizer);
    mixt_charsmap_free(tokenizer->charsmap);
    mixt_spm_free(tokenizer->spm);
    mixt_pieces_free(tokenizer->pieces);
    mixt_splitter_free(tokenizer->splitter);
    mixt_added_set_free(tokenizer->added_raw);
    mixt_added_set_free(tokenizer->added_normalized);
    mixt_bpe_free(tokenizer->bpe);
    free(tokenizer->tokens);
    free(tokenizer->merges);
    free(tokenizer->json);
    free(tokenizer->model);
    free(tokenizer->chat_template);
    free(tokenizer->class_name);
    mixt_remarks_free(&tokenizer->remarks);
    if (tokenizer->trie != NULL) {
        mixt_token_trie_free(tokenizer->trie->made);
        free(tokenizer->trie);
    }
    free(tokenizer);
}

void mixt_tokenizer_set_hash(mixt_tokenizer *tokenizer)
{
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    mixt_sha256_update_u64(&hash, (uint64_t)tokenizer->vocab_size);
    for (int i = 0; i < tokenizer->vocab_size; i++) {
        const mixt_token *token = &tokenizer->tokens[i];
        mixt_sha256_update_u64(&hash, token->bytes == NULL ? UINT64_MAX : token->length);
        mixt_sha256_update(&hash, token->bytes, token->length);
    }
    mixt_sha256_update_u64(&hash, tokenizer->merge_count);
    for (size_t i = 0; i < tokenizer->merge_count; i++) {
        mixt_sha256_update_u64(&hash, (uint64_t)tokenizer->merges[i].left);
        mixt_sha256_update_u64(&hash, (uint64_t)tokenizer->merges[i].right);
    }
    mixt_sha256_update(&hash, tokenizer->rules, strlen(tokenizer->rules));
    mixt_sha256_final_hex(&hash, tokenizer->hash);
}

mixt_status mixt_tokenizer_finish(mixt_tokenizer *tokenizer, const int32_t byte_ids[256],
                                  mixt_error *error)
{
    tokenizer->bpe = mixt_bpe_create(byte_ids, tokenizer->merges, tokenizer->merge_count);
    if (tokenizer->bpe == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for merges");
    }
    mixt_tokenizer_set_hash(tokenizer);
    return MIXT_OK;
}

mixt_status mixt_tokenizer_bytes(mixt_tokenizer **tokenizer, mixt_error *error)
{
    char bytes[256];
    mixt_token tokens[257] = {0};
    for (int id = 0; id < 256; id++) {
        bytes[id] = (char)mixt_byte_of_id(id);
        tokens[id] = (mixt_token){.bytes = &bytes[id], .length = 1};
    }
    return mixt_tokenizer_make(tokens, 257, NULL, 0, tokenizer, error);
}

/* --- Encoding ----------------------------------------------------------------------------------
 */

typedef struct encoding {
    const mixt_tokenizer *tokenizer;
    bool specials;
    bool at_start; /* nothing of the text has been encoded */
    mixt_ids ids;
    int missing; /* a byte without a token, or -1 */
    mixt_error *error;
} encoding;

static bool encode_word(void *context, const char *word, size_t length)
{
    encoding *e = context;
    switch (e->tokenizer->kind) {
    case MIXT_TOKENIZER_BYTES:
        e->missing = mixt_bpe_encode(e->tokenizer->bpe, word, length, &e->ids);
        break;
    case MIXT_TOKENIZER_CHARACTERS:
        e->missing = mixt_characters_encode(e->tokenizer, word, length, &e->ids);
        break;
    case MIXT_TOKENIZER_PIECES:
        e->missing = mixt_spm_encode(e->tokenizer->spm, word, length, &e->ids);
        break;
    }
    return e->missing < 0 && !e->ids.failed;
}

/* A word of Metaspace: spaces become U+2581, one goes before it where the scheme says so, and it
 * is cut before each one. */
static bool encode_metaspace(void *context, const char *word, size_t length)
{
    encoding *e = context;
    const mixt_tokenizer *t = e->tokenizer;
    size_t mark = strlen(MIXT_SPACE_MARK);
    mixt_buffer marked = {0};
    bool has_mark = word[0] == ' ' || (length >= mark && memcmp(word, MIXT_SPACE_MARK, mark) == 0);
    if (!has_mark && (t->metaspace == MIXT_METASPACE_ALWAYS ||
                      (t->metaspace == MIXT_METASPACE_FIRST && e->at_start))) {
        mixt_buffer_text(&marked, MIXT_SPACE_MARK);
    }
    e->at_start = false;
    for (size_t at = 0; at < length;) {
        const char *space = memchr(word + at, ' ', length - at);
        size_t size = space != NULL ? (size_t)(space - word) - at : length - at;
        mixt_buffer_append(&marked, word + at, size);
        mixt_buffer_text(&marked, space != NULL ? MIXT_SPACE_MARK : "");
        at += size + (space != NULL);
    }
    bool go_on = !marked.failed;
    e->ids.failed = e->ids.failed || marked.failed;
    for (size_t at = 0; go_on && at < marked.length;) {
        size_t end = t->metaspace_split ? at + 1 : marked.length;
        while (end < marked.length && (marked.length - end < mark ||
                                       memcmp(marked.data + end, MIXT_SPACE_MARK, mark) != 0)) {
            end++;
        }
        go_on = encode_word(e, marked.data + at, end - at);
        at = end;
    }
    mixt_buffer_free(&marked);
    return go_on;
}

static mixt_status encode_words(encoding *e, const char *text, size_t length)
{
    const mixt_tokenizer *tokenizer = e->tokenizer;
    char *prefixed = NULL;
    if (length == 0) {
        return MIXT_OK;
    }
    mixt_word_function function =
        tokenizer->metaspace == MIXT_METASPACE_NONE ? encode_word : encode_metaspace;
    if (tokenizer->kind != MIXT_TOKENIZER_BYTES && mixt_splitter_is_empty(tokenizer->splitter)) {
        function(e, text, length);
        e->at_start = false;
        return MIXT_OK;
    }
    if (tokenizer->prefix_space && text[0] != ' ') {
        prefixed = malloc(length + 1);
        if (prefixed == NULL) {
            e->ids.failed = true;
            return MIXT_OK;
        }
        prefixed[0] = ' ';
        memcpy(prefixed + 1, text, length);
        text = prefixed;
        length++;
    }
    mixt_status status =
        mixt_splitter_run(tokenizer->splitter, text, length, function, e, e->error);
    free(prefixed);
    return status;
}

static mixt_status encode_normalized(encoding *e, const char *text, size_t length)
{
    mixt_status status = MIXT_OK;
    for (size_t at = 0; status == MIXT_OK && at < length && e->missing < 0;) {
        mixt_added_match match =
            mixt_added_find(e->tokenizer->added_normalized, text, length, at, e->specials);
        status = encode_words(e, text + at, match.begin - at);
        if (match.token != NULL) {
            mixt_ids_append(&e->ids, &match.token->id, 1);
            e->at_start = false;
        }
        at = match.end;
    }
    return status;
}

static mixt_status encode_raw(encoding *e, const char *text, size_t length)
{
    if (mixt_normalizer_keeps(e->tokenizer->normalizer, text, length)) {
        return encode_normalized(e, text, length);
    }
    mixt_buffer normalized = {0};
    mixt_normalizer_run(e->tokenizer->normalizer, text, length, e->at_start, &normalized);
    mixt_status status = MIXT_OK;
    if (normalized.failed) {
        e->ids.failed = true;
    } else {
        status = encode_normalized(e, normalized.data, normalized.length);
    }
    mixt_buffer_free(&normalized);
    return status;
}

mixt_status mixt_tokenizer_encode(const mixt_tokenizer *tokenizer, const char *text, size_t length,
                                  bool parse_special, int32_t **ids, size_t *count,
                                  mixt_error *error)
{
    *ids = NULL;
    *count = 0;
    encoding e = {.tokenizer = tokenizer,
                  .specials = parse_special,
                  .at_start = true,
                  .missing = -1,
                  .error = error};
    mixt_status status = MIXT_OK;
    for (size_t at = 0; status == MIXT_OK && at < length && e.missing < 0;) {
        mixt_added_match match =
            mixt_added_find(tokenizer->added_raw, text, length, at, parse_special);
        status = encode_raw(&e, text + at, match.begin - at);
        if (match.token != NULL) {
            mixt_ids_append(&e.ids, &match.token->id, 1);
            e.at_start = false;
        }
        at = match.end;
    }
    if (status == MIXT_OK && e.missing >= 0) {
        status = mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "tokenizer: no token for byte 0x%02x of the text", e.missing);
    }
    if (status == MIXT_OK && e.ids.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for ids");
    }
    if (status == MIXT_OK && e.ids.data == NULL) { /* so that the caller has something to free */
        e.ids.data = malloc(sizeof *e.ids.data);
        if (e.ids.data == NULL) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for ids");
        }
    }
    if (status != MIXT_OK) {
        free(e.ids.data);
        return status;
    }
    for (size_t i = 0; i < e.ids.count; i++) {
        assert(e.ids.data[i] >= 0 && e.ids.data[i] < tokenizer->vocab_size);
    }
    *ids = e.ids.data;
    *count = e.ids.count;
    return MIXT_OK;
}

/* --- Looking -----------------------------------------------------------------------------------
 */

int mixt_tokenizer_vocab_size(const mixt_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

int mixt_tokenizer_separator(const mixt_tokenizer *tokenizer)
{
    return tokenizer->separator;
}

const char *mixt_tokenizer_bytes_of(const mixt_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const mixt_token *token = id >= 0 && id < tokenizer->vocab_size ? &tokenizer->tokens[id] : NULL;
    *length = token != NULL ? token->length : 0;
    return token != NULL ? token->bytes : NULL;
}

const char *mixt_tokenizer_hash(const mixt_tokenizer *tokenizer)
{
    return tokenizer->hash;
}
