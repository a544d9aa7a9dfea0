/* Writing of a tokenizer.json for byte-level BPE that came from a GGUF file. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/json.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

static json_t *text_of(const mixt_token *token)
{
    return json_stringn(token->piece, token->piece_length); /* NULL where it is no UTF-8 */
}

static json_t *byte_level(bool regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", (int)regex);
}

static json_t *pre_tokenizer(const mixt_pre_tokenizer *pre)
{
    if (pre->patterns[1] == NULL && strcmp(pre->patterns[0], MIXT_GPT2_PATTERN) == 0) {
        return byte_level(true);
    }
    json_t *list = json_array();
    for (int i = 0; i < MIXT_PRE_STAGES && pre->patterns[i] != NULL; i++) {
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                              "pattern", "Regex", pre->patterns[i], "behavior",
                                              "Isolated", "invert", 0));
    }
    json_array_append_new(list, byte_level(false));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

static json_t *added_tokens(const mixt_tokenizer *t)
{
    json_t *list = json_array();
    for (int id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (token->is_added && token->piece_length != 0) {
            json_array_append_new(list,
                                  json_pack("{s:i, s:o*, s:b, s:b, s:b, s:b, s:b}", "id", id,
                                            "content", text_of(token), "single_word", 0, "lstrip",
                                            0, "rstrip", 0, "normalized", 0, "special",
                                            (int)(token->type != MIXT_TOKEN_USER_DEFINED)));
        }
    }
    return list;
}

static json_t *special_part(const mixt_token *token)
{
    return json_pack("{s:{s:o*, s:i}}", "SpecialToken", "id", text_of(token), "type_id", 0);
}

/* Token around a text: [bos] $A [eos]. */
static json_t *post_processor(const mixt_tokenizer *t)
{
    bool wanted[2] = {mixt_tokenizer_adds_bos(t), mixt_tokenizer_adds_eos(t)};
    if (!wanted[0] && !wanted[1]) {
        return byte_level(true);
    }
    json_t *single = json_array(), *pair = json_array(), *specials = json_object();
    for (int i = 0; i < 3; i++) {
        if (i == 1) {
            json_array_append_new(single,
                                  json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
            json_array_append_new(pair,
                                  json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
            json_array_append_new(pair,
                                  json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
            continue;
        }
        int id = t->special[i == 0 ? MIXT_SPECIAL_BOS : MIXT_SPECIAL_EOS];
        json_t *text = wanted[i / 2] ? text_of(&t->tokens[id]) : NULL;
        if (text != NULL) {
            json_array_append_new(single, special_part(&t->tokens[id]));
            json_array_append_new(pair, special_part(&t->tokens[id]));
            json_object_set_new(
                specials, json_string_value(text),
                json_pack("{s:O, s:[i], s:[O]}", "id", text, "ids", id, "tokens", text));
        }
        json_decref(text);
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", specials);
}

/* The model's vocabulary by text; *bad is an id whose text is no UTF-8 or there twice. */
static json_t *vocabulary(const mixt_tokenizer *t, int *bad)
{
    json_t *object = json_object();
    for (int id = 0; id < t->vocab_size && *bad < 0; id++) {
        const mixt_token *token = &t->tokens[id];
        if (mixt_token_is_padding(t, id) || (token->is_added && token->piece_length == 0)) {
            continue;
        }
        json_t *text = text_of(token);
        if (text == NULL || strlen(json_string_value(text)) != token->piece_length ||
            json_object_get(object, json_string_value(text)) != NULL) {
            *bad = id;
        } else {
            json_object_set_new(object, json_string_value(text), json_integer(id));
        }
        json_decref(text);
    }
    return object;
}

static json_t *merges(const mixt_tokenizer *t)
{
    json_t *list = json_array();
    mixt_buffer text = {0};
    for (size_t i = 0; i < t->merge_count; i++) {
        const mixt_token *left = &t->tokens[t->merges[i].left];
        const mixt_token *right = &t->tokens[t->merges[i].right];
        text.length = 0;
        mixt_buffer_append(&text, left->piece, left->piece_length);
        mixt_buffer_text(&text, " ");
        mixt_buffer_append(&text, right->piece, right->piece_length);
        json_array_append_new(list, json_stringn(text.data, text.length));
    }
    if (text.failed) {
        json_decref(list);
        list = NULL;
    }
    mixt_buffer_free(&text);
    return list;
}

mixt_status mixt_tokenizer_write_json(const mixt_tokenizer *tokenizer, mixt_buffer *to,
                                      mixt_error *error)
{
    int bad = -1;
    mixt_json_begin();
    json_t *vocab = vocabulary(tokenizer, &bad);
    json_t *model =
        json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                  "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                  "byte_fallback", 0, "ignore_merges", (int)tokenizer->pre->whole_words, "vocab",
                  vocab, "merges", merges(tokenizer));
    json_t *normalizer = tokenizer->pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *root =
        json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation",
                  "padding", "added_tokens", added_tokens(tokenizer), "normalizer", normalizer,
                  "pre_tokenizer", pre_tokenizer(tokenizer->pre), "post_processor",
                  post_processor(tokenizer), "decoder", byte_level(true), "model", model);
    char *text = bad < 0 && root != NULL ? mixt_json_text(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (bad >= 0 && !mixt_json_failed()) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "tokenizer.json has no form for token %d: not UTF-8, or there twice", bad);
    }
    if (text == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for tokenizer.json");
    }
    mixt_buffer_text(to, text);
    free(text);
    return to->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory") : MIXT_OK;
}
