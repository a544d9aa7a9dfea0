/* Reading of the vocabulary in a GGUF file (tokenizer.ggml.*). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "core/utf8.h"

#define KEY(name) "tokenizer.ggml." name
#define TEMPLATE_KEY "tokenizer.chat_template"

typedef struct gguf_reader {
    const mixt_gguf *file;
    mixt_tokenizer *tokenizer;
    mixt_error *error;
} gguf_reader;

static mixt_status no_memory(gguf_reader *r)
{
    return mixt_fail(r->error, MIXT_ERROR_MEMORY, "%s: no memory for the vocabulary",
                     mixt_gguf_path(r->file, 0));
}

static mixt_status wrong(gguf_reader *r, mixt_status status, const char *key, const char *rule)
{
    return mixt_fail(r->error, status, "%s: %s: %s", mixt_gguf_path(r->file, 0), key, rule);
}

static mixt_status read_flag(gguf_reader *r, const char *key, bool *flag)
{
    return mixt_gguf_has(r->file, key) ? mixt_gguf_bool(r->file, key, flag, r->error) : MIXT_OK;
}

/* --- Tokens ------------------------------------------------------------------------------------
 */

static mixt_status read_tokens(gguf_reader *r)
{
    mixt_gguf_array array;
    MIXT_TRY(mixt_gguf_array_of(r->file, KEY("tokens"), MIXT_GGUF_STRING, &array, r->error));
    if (array.count == 0 || array.count > INT32_MAX) {
        return wrong(r, MIXT_ERROR_FORMAT, KEY("tokens"), "none, or more than 2^31");
    }
    mixt_tokenizer *t = r->tokenizer;
    t->tokens = calloc(array.count, sizeof *t->tokens);
    if (t->tokens == NULL) {
        return no_memory(r);
    }
    t->vocab_size = (int)array.count;
    for (size_t i = 0; i < array.count; i++) {
        if (array.lengths[i] > UINT32_MAX / 2) {
            return wrong(r, MIXT_ERROR_FORMAT, KEY("tokens"), "one is longer than 2^31 bytes");
        }
        t->tokens[i].piece = mixt_arena_bytes(t->arena, array.strings[i], (size_t)array.lengths[i]);
        t->tokens[i].piece_length = (uint32_t)array.lengths[i];
        t->tokens[i].type = MIXT_TOKEN_NORMAL;
        if (t->tokens[i].piece == NULL) {
            return no_memory(r);
        }
    }
    return MIXT_OK;
}

/* An array with one entry for each token; *data NULL where it is absent. */
static mixt_status read_beside(gguf_reader *r, const char *key, mixt_gguf_kind kind,
                               const char **data)
{
    mixt_gguf_array array;
    *data = NULL;
    if (!mixt_gguf_has(r->file, key)) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_gguf_array_of(r->file, key, kind, &array, r->error));
    if (array.count != (size_t)r->tokenizer->vocab_size) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: %s: %zu entries for %d tokens",
                         mixt_gguf_path(r->file, 0), key, array.count, r->tokenizer->vocab_size);
    }
    *data = array.data;
    return MIXT_OK;
}

static mixt_status read_types(gguf_reader *r, bool needed)
{
    const char *data;
    MIXT_TRY(read_beside(r, KEY("token_type"), MIXT_GGUF_I32, &data));
    if (data == NULL) {
        return needed ? wrong(r, MIXT_ERROR_FORMAT, KEY("token_type"), "missing") : MIXT_OK;
    }
    for (int id = 0; id < r->tokenizer->vocab_size; id++) {
        int32_t type;
        memcpy(&type, data + 4 * (size_t)id, 4);
        if (type < 0 || type > MIXT_TOKEN_BYTE) {
            return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: %s: no support for type %d of token %d",
                             mixt_gguf_path(r->file, 0), KEY("token_type"), (int)type, id);
        }
        mixt_token *token = &r->tokenizer->tokens[id];
        if ((type == MIXT_TOKEN_USER_DEFINED || type == MIXT_TOKEN_NORMAL) &&
            mixt_is_end_text(token->piece, token->piece_length)) {
            type = MIXT_TOKEN_CONTROL; /* some files have </s> as user-defined; llama.cpp too */
        }
        token->type = (uint8_t)(type == 0 ? MIXT_TOKEN_NORMAL : type);
    }
    return MIXT_OK;
}

static mixt_status read_scores(gguf_reader *r)
{
    const char *data;
    MIXT_TRY(read_beside(r, KEY("scores"), MIXT_GGUF_F32, &data));
    if (data == NULL) {
        return wrong(r, MIXT_ERROR_FORMAT, KEY("scores"), "missing");
    }
    for (int id = 0; id < r->tokenizer->vocab_size; id++) {
        float score;
        memcpy(&score, data + 4 * (size_t)id, 4);
        if (!isfinite(score)) {
            return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                             "%s: %s: that of token %d is not a finite number",
                             mixt_gguf_path(r->file, 0), KEY("scores"), id);
        }
        r->tokenizer->tokens[id].score = score;
    }
    return MIXT_OK;
}

/* An id that the file names; -1 and a note where no token has it. */
static mixt_status read_id(gguf_reader *r, const char *key, int64_t *id)
{
    mixt_gguf_range range = {-2147483648.0, 4294967295.0};
    MIXT_TRY(mixt_gguf_integer(r->file, key, range, id, r->error));
    if (*id < 0 || *id >= r->tokenizer->vocab_size) {
        if (*id >= 0 && *id != UINT32_MAX) { /* -1 says that there is none */
            mixt_remark(&r->tokenizer->remarks, "%s: %s: passed over %lld, which no token has",
                        mixt_gguf_path(r->file, 0), key, (long long)*id);
        }
        *id = -1;
    }
    return MIXT_OK;
}

/* `usual`: ids where the file names none, -1 for none. */
static mixt_status read_specials(gguf_reader *r, const int32_t usual[4], bool adds_bos,
                                 bool adds_eos)
{
    static const char *const keys[4] = {KEY("bos_token_id"), KEY("eos_token_id"),
                                        KEY("unknown_token_id"), KEY("padding_token_id")};
    mixt_tokenizer *t = r->tokenizer;
    for (int i = 0; i < 4; i++) {
        int64_t id = usual[i] < t->vocab_size ? usual[i] : -1;
        if (mixt_gguf_has(r->file, keys[i])) {
            MIXT_TRY(read_id(r, keys[i], &id));
            id = id >= 0 || usual[i] >= t->vocab_size ? id : usual[i]; /* as llama.cpp has it */
        }
        t->special[i] = (int32_t)id;
    }
    t->adds_bos = adds_bos && t->special[MIXT_SPECIAL_BOS] >= 0;
    t->adds_eos = adds_eos && t->special[MIXT_SPECIAL_EOS] >= 0;
    MIXT_TRY(read_flag(r, KEY("add_bos_token"), &t->adds_bos));
    MIXT_TRY(read_flag(r, KEY("add_eos_token"), &t->adds_eos));
    if (mixt_gguf_has(r->file, KEY("add_bos_token")) && t->adds_bos && usual[0] < 0 &&
        !mixt_gguf_has(r->file, keys[0])) {
        return wrong(r, MIXT_ERROR_FORMAT, KEY("add_bos_token"), "true without a bos_token_id");
    }
    if (mixt_gguf_has(r->file, KEY("add_eos_token")) && t->adds_eos && usual[1] < 0 &&
        !mixt_gguf_has(r->file, keys[1])) {
        return wrong(r, MIXT_ERROR_FORMAT, KEY("add_eos_token"), "true without an eos_token_id");
    }
    return MIXT_OK;
}

/* Tokens that are found in the text as it is: user-defined ones always, control tokens where the
 * caller asks for them. */
static mixt_status add_tokens(gguf_reader *r, bool control)
{
    mixt_tokenizer *t = r->tokenizer;
    for (int id = 0; id < t->vocab_size; id++) {
        mixt_token *token = &t->tokens[id];
        bool special = token->type == MIXT_TOKEN_CONTROL || token->type == MIXT_TOKEN_UNKNOWN;
        token->is_added = token->is_added || token->type == MIXT_TOKEN_USER_DEFINED;
        mixt_added_token added = {
            .text = token->piece, .length = token->piece_length, .id = id, .special = special};
        if ((token->type == MIXT_TOKEN_USER_DEFINED || (special && control)) &&
            token->piece_length <= MIXT_ADDED_LENGTH && !mixt_added_set_add(t->added_raw, &added)) {
            return no_memory(r);
        }
    }
    return MIXT_OK;
}

/* The tokenizer.json that these pieces were made from, for saving them again. */
static mixt_status read_json(gguf_reader *r)
{
    const char *text;
    if (!mixt_gguf_has(r->file, MIXT_GGUF_JSON)) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_gguf_string(r->file, MIXT_GGUF_JSON, &text, r->error));
    r->tokenizer->json = strdup(text);
    r->tokenizer->json_length = strlen(text);
    return r->tokenizer->json != NULL ? MIXT_OK : no_memory(r);
}

static mixt_status read_template(gguf_reader *r)
{
    const char *text;
    if (!mixt_gguf_has(r->file, TEMPLATE_KEY)) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_gguf_string(r->file, TEMPLATE_KEY, &text, r->error));
    r->tokenizer->chat_template = strdup(text);
    return r->tokenizer->chat_template != NULL ? MIXT_OK : no_memory(r);
}

/* --- SentencePiece -----------------------------------------------------------------------------
 */

/* llama.cpp names the array of the rules' bytes as signed or unsigned. */
static mixt_status read_charsmap(gguf_reader *r)
{
    static const char key[] = KEY("precompiled_charsmap");
    mixt_gguf_array array;
    if (!mixt_gguf_has(r->file, key)) {
        return MIXT_OK;
    }
    mixt_status status = mixt_gguf_array_of(r->file, key, MIXT_GGUF_U8, &array, NULL);
    if (status != MIXT_OK) {
        status = mixt_gguf_array_of(r->file, key, MIXT_GGUF_I8, &array, r->error);
    }
    mixt_error local = MIXT_ERROR_INIT;
    if (status == MIXT_OK && array.count != 0) {
        status = mixt_charsmap_create(array.data, array.count, &r->tokenizer->charsmap, &local);
    }
    return status != MIXT_OK && local.message[0] != '\0'
               ? wrong(r, status, "tokenizer.ggml", local.message)
               : status;
}

/* `library`: user-defined pieces and sums of scores as SentencePiece has them. */
static mixt_status read_spaces(gguf_reader *r, bool unigram, bool *library, mixt_spaces *spaces)
{
    MIXT_TRY(read_flag(r, KEY("add_space_prefix"), &spaces->prefix));
    if (unigram) {
        MIXT_TRY(read_flag(r, KEY("remove_extra_whitespaces"), &spaces->remove_extra));
    }
    MIXT_TRY(read_flag(r, MIXT_GGUF_PREFIX_FIRST, &spaces->first_only));
    return read_flag(r, MIXT_GGUF_SENTENCEPIECE, library);
}

static mixt_status read_pieces(gguf_reader *r, bool unigram)
{
    bool library = false;
    static const int32_t llama[4] = {1, 2, 0, -1}, t5[4] = {-1, 1, 2, -1};
    mixt_spaces spaces = {.prefix = !unigram, .escape = true};
    mixt_error local = MIXT_ERROR_INIT;
    MIXT_TRY(read_scores(r));
    MIXT_TRY(read_types(r, true));
    MIXT_TRY(read_specials(r, unigram ? t5 : llama, !unigram, unigram));
    MIXT_TRY(read_spaces(r, unigram, &library, &spaces));
    if (unigram) {
        MIXT_TRY(read_charsmap(r));
    }
    mixt_status status = mixt_spm_spell(r->tokenizer, true, MIXT_UNKNOWN_SURFACE,
                                        strlen(MIXT_UNKNOWN_SURFACE), &local);
    if (status == MIXT_OK) {
        mixt_spm_options options = {.unigram = unigram,
                                    .byte_fallback = !unigram,
                                    .match_user = unigram || library,
                                    .double_scores = unigram && !library,
                                    .unknown = r->tokenizer->special[MIXT_SPECIAL_UNKNOWN]};
        status = mixt_spm_build(r->tokenizer, &options, &spaces, &local);
    }
    if (status != MIXT_OK) {
        return wrong(r, status, KEY("tokens"), local.message);
    }
    return unigram || library ? MIXT_OK : add_tokens(r, false);
}

/* --- Byte-level BPE ----------------------------------------------------------------------------
 */

static mixt_status spell_bytes(gguf_reader *r)
{
    mixt_tokenizer *t = r->tokenizer;
    for (int id = 0; id < t->vocab_size; id++) {
        mixt_token *token = &t->tokens[id];
        char *bytes = mixt_arena_bytes(t->arena, token->piece, token->piece_length);
        if (bytes == NULL) {
            return no_memory(r);
        }
        token->is_added = token->type == MIXT_TOKEN_CONTROL ||
                          token->type == MIXT_TOKEN_USER_DEFINED ||
                          token->type == MIXT_TOKEN_UNKNOWN;
        token->bytes = bytes;
        token->length =
            token->is_added
                ? token->piece_length
                : (uint32_t)mixt_visible_to_bytes(token->piece, token->piece_length, bytes);
    }
    return MIXT_OK;
}

/* "left right"; a token holds no space but may begin with one that is written as it is. */
static mixt_status read_merge(gguf_reader *r, const mixt_pieces *pieces, const char *text,
                              size_t length, mixt_merge *merge)
{
    const char *space = length > 1 ? memchr(text + 1, ' ', length - 1) : NULL;
    if (space == NULL) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "not two tokens with a space between");
    }
    size_t left = (size_t)(space - text), right = length - left - 1;
    merge->left = mixt_pieces_find(pieces, text, left);
    merge->right = mixt_pieces_find(pieces, space + 1, right);
    char *joined = malloc(length);
    if (joined == NULL) {
        return no_memory(r);
    }
    memcpy(joined, text, left);
    memcpy(joined + left, space + 1, right);
    merge->result = mixt_pieces_find(pieces, joined, left + right);
    free(joined);
    if (merge->left < 0 || merge->right < 0 || merge->result < 0) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "\"%.*s\" joins what is no token",
                         (int)(length > 60 ? 60 : length), text);
    }
    return MIXT_OK;
}

static mixt_status read_merges(gguf_reader *r, const mixt_pieces *pieces)
{
    mixt_gguf_array array;
    MIXT_TRY(mixt_gguf_array_of(r->file, KEY("merges"), MIXT_GGUF_STRING, &array, r->error));
    mixt_tokenizer *t = r->tokenizer;
    t->merges = calloc(array.count + 1, sizeof *t->merges);
    if (t->merges == NULL) {
        return no_memory(r);
    }
    for (size_t i = 0; i < array.count; i++) {
        mixt_error local = MIXT_ERROR_INIT;
        gguf_reader inner = {r->file, t, &local};
        mixt_status status =
            read_merge(&inner, pieces, array.strings[i], (size_t)array.lengths[i], &t->merges[i]);
        if (status != MIXT_OK) {
            return mixt_fail(r->error, status, "%s: %s[%zu]: %s", mixt_gguf_path(r->file, 0),
                             KEY("merges"), i, local.message);
        }
    }
    t->merge_count = array.count;
    return MIXT_OK;
}

static mixt_status find_pre_tokenizer(gguf_reader *r, const mixt_pre_tokenizer **pre)
{
    static const char key[] = KEY("pre");
    const char *name = NULL, *architecture;
    if (mixt_gguf_has(r->file, key)) {
        MIXT_TRY(mixt_gguf_string(r->file, key, &name, r->error));
    } else if (mixt_gguf_has(r->file, "general.architecture")) {
        MIXT_TRY(mixt_gguf_string(r->file, "general.architecture", &architecture, r->error));
        name = mixt_pre_tokenizer_of_architecture(architecture);
    }
    if (name == NULL) {
        return wrong(r, MIXT_ERROR_UNSUPPORTED, key, "missing: it says how text is cut");
    }
    *pre = mixt_pre_tokenizer_find(name);
    if (*pre == NULL) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "%s: %s: no support for \"%.60s\"",
                         mixt_gguf_path(r->file, 0), key, name);
    }
    return MIXT_OK;
}

static mixt_status use_pre_tokenizer(gguf_reader *r, const mixt_pre_tokenizer *pre)
{
    mixt_tokenizer *t = r->tokenizer;
    for (int i = 0; i < MIXT_PRE_STAGES && pre->patterns[i] != NULL; i++) {
        MIXT_TRY(
            mixt_splitter_add(t->splitter, pre->patterns[i], false, MIXT_SPLIT_KEEP_ALL, r->error));
    }
    if (pre->nfc && !mixt_normalizer_add_form(t->normalizer, MIXT_NFC)) {
        return no_memory(r);
    }
    t->pre = pre;
    snprintf(t->rules, sizeof t->rules, "%s", pre->name);
    return MIXT_OK;
}

static mixt_status build_bytes(gguf_reader *r, const mixt_pieces *pieces, bool whole_words)
{
    mixt_tokenizer *t = r->tokenizer;
    int32_t byte_ids[256];
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        size_t size = mixt_utf8_encode(mixt_byte_character((unsigned char)byte), text);
        byte_ids[byte] = mixt_pieces_find(pieces, text, size);
    }
    MIXT_TRY(mixt_tokenizer_finish(t, byte_ids, r->error));
    for (int id = 0; whole_words && id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (!token->is_added && token->length != 0 &&
            !mixt_bpe_add_word(t->bpe, token->bytes, token->length, id)) {
            return no_memory(r);
        }
    }
    return MIXT_OK;
}

static mixt_status read_byte_level(gguf_reader *r)
{
    static const int32_t none[4] = {-1, -1, -1, -1};
    mixt_tokenizer *t = r->tokenizer;
    const mixt_pre_tokenizer *pre = NULL;
    MIXT_TRY(find_pre_tokenizer(r, &pre));
    MIXT_TRY(use_pre_tokenizer(r, pre));
    MIXT_TRY(read_types(r, false));
    MIXT_TRY(read_specials(r, none, pre->adds_bos, false));
    MIXT_TRY(spell_bytes(r));
    mixt_pieces *pieces = mixt_pieces_create((size_t)t->vocab_size);
    for (int id = 0; pieces != NULL && id < t->vocab_size; id++) {
        if (!mixt_pieces_add(pieces, t->tokens[id].piece, t->tokens[id].piece_length, id)) {
            mixt_pieces_free(pieces);
            pieces = NULL;
        }
    }
    mixt_status status = pieces != NULL ? read_merges(r, pieces) : no_memory(r);
    if (status == MIXT_OK) {
        status = build_bytes(r, pieces, pre->whole_words);
    }
    mixt_pieces_free(pieces);
    return status == MIXT_OK ? add_tokens(r, true) : status;
}

/* ------------------------------------------------------------------------------------------------
 */

static mixt_status read_vocabulary(gguf_reader *r)
{
    const char *model;
    MIXT_TRY(mixt_gguf_string(r->file, KEY("model"), &model, r->error));
    if (strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0) {
        return mixt_fail(r->error, MIXT_ERROR_NOT_FOUND, "%s: the file holds no tokenizer",
                         mixt_gguf_path(r->file, 0));
    }
    bool bytes = strcmp(model, "gpt2") == 0, unigram = strcmp(model, "t5") == 0;
    if (!bytes && !unigram && strcmp(model, "llama") != 0) {
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "%s: %s: no support for \"%.60s\"",
                         mixt_gguf_path(r->file, 0), KEY("model"), model);
    }
    MIXT_TRY(read_tokens(r));
    MIXT_TRY(bytes ? read_byte_level(r) : read_pieces(r, unigram));
    MIXT_TRY(read_json(r));
    return read_template(r);
}

static int32_t find_separator(const mixt_tokenizer *t)
{
    for (int32_t id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (token->is_added && token->length == strlen(MIXT_SEPARATOR_TEXT) &&
            memcmp(token->bytes, MIXT_SEPARATOR_TEXT, token->length) == 0) {
            return id;
        }
    }
    return -1;
}

/* Of a file that names no such id, llama.cpp takes the token with one of these texts, whatever its
 * type, and it ends a text. Files with a tokenizer.json of ours say all ends themselves. */
static void find_fim_ends(mixt_tokenizer *t, const mixt_gguf *file)
{
    static const struct {
        const char *key, *texts[6];
    } kinds[] = {
        {KEY("fim_pad_token_id"), {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
        {KEY("fim_rep_token_id"),
         {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
        {KEY("fim_sep_token_id"), {"<|file_sep|>"}},
    };
    for (size_t i = 0; t->json == NULL && i < sizeof kinds / sizeof *kinds; i++) {
        bool named = mixt_gguf_has(file, kinds[i].key);
        for (int j = 0; !named && kinds[i].texts[j] != NULL; j++) {
            int32_t id = mixt_tokenizer_find_special(t, kinds[i].texts[j]);
            mixt_tokenizer_declare_end(t, id);
            named = id >= 0;
        }
    }
}

mixt_status mixt_tokenizer_gguf_ends(mixt_tokenizer *tokenizer, const mixt_gguf *file,
                                     mixt_error *error)
{
    static const char *const keys[] = {KEY("eos_token_id"),     KEY("eot_token_id"),
                                       KEY("eom_token_id"),     KEY("fim_pad_token_id"),
                                       KEY("fim_rep_token_id"), KEY("fim_sep_token_id")};
    gguf_reader r = {file, tokenizer, error};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = -1;
        if (mixt_gguf_has(file, keys[i])) {
            MIXT_TRY(read_id(&r, keys[i], &id));
        }
        mixt_tokenizer_declare_end(tokenizer, id);
    }
    find_fim_ends(tokenizer, file);
    mixt_gguf_array more = {.count = 0};
    if (mixt_gguf_has(file, MIXT_GGUF_ENDS)) {
        MIXT_TRY(mixt_gguf_array_of(file, MIXT_GGUF_ENDS, MIXT_GGUF_I32, &more, error));
    }
    for (size_t i = 0; i < more.count; i++) {
        int32_t id;
        memcpy(&id, (const char *)more.data + 4 * i, 4);
        mixt_tokenizer_declare_end(tokenizer, id);
    }
    return MIXT_OK;
}

mixt_status mixt_tokenizer_from_gguf(const mixt_gguf *file, mixt_tokenizer **tokenizer,
                                     mixt_error *error)
{
    *tokenizer = NULL;
    gguf_reader r = {file, mixt_tokenizer_new(), error};
    mixt_status status = r.tokenizer == NULL ? no_memory(&r) : read_vocabulary(&r);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(r.tokenizer);
        return status;
    }
    r.tokenizer->separator = find_separator(r.tokenizer);
    mixt_tokenizer_mark_ends(r.tokenizer);
    status = mixt_tokenizer_gguf_ends(r.tokenizer, file, error);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(r.tokenizer);
        return status;
    }
    *tokenizer = r.tokenizer;
    return MIXT_OK;
}
