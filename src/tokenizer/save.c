/* Writing of tokenizer.json and tokenizer_config.json, as Hugging Face's fast tokenizers read
 * them. A tokenizer that came from a file is written as it was. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/json.h"
#include "tokenizer/tokenizer.h"
#include "core/utf8.h"

#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"                    \
    "\"use_regex\":true}"

/* A text begins with the separator, as documents do in training. */
static void write_template(mixt_buffer *to)
{
    static const char begin[] =
        "{\"SpecialToken\":{\"id\":\"" MIXT_SEPARATOR_TEXT "\",\"type_id\":0}}";
    static const char text[] = "{\"Sequence\":{\"id\":\"%c\",\"type_id\":0}}";
    mixt_buffer_format(to, "{\"type\":\"TemplateProcessing\",\n\"single\":[%s,", begin);
    mixt_buffer_format(to, text, 'A');
    mixt_buffer_format(to, "],\n\"pair\":[%s,", begin);
    mixt_buffer_format(to, text, 'A');
    mixt_buffer_text(to, ",");
    mixt_buffer_format(to, text, 'B');
    mixt_buffer_format(to,
                       "],\n\"special_tokens\":{\"%s\":{\"id\":\"%s\",\"ids\":[%d],"
                       "\"tokens\":[\"%s\"]}}}",
                       MIXT_SEPARATOR_TEXT, MIXT_SEPARATOR_TEXT, MIXT_SEPARATOR_ID,
                       MIXT_SEPARATOR_TEXT);
}

/* A token in visible characters, escaped for JSON. */
static void write_visible(mixt_buffer *to, const mixt_token *token)
{
    for (uint32_t i = 0; i < token->length; i++) {
        char text[8] = "\\";
        uint32_t character = mixt_byte_character((unsigned char)token->bytes[i]);
        bool escaped = character == '"' || character == '\\';
        size_t size = mixt_utf8_encode(character, text + escaped);
        mixt_buffer_append(to, text, size + escaped);
    }
}

static void write_json(const mixt_token *tokens, int vocab_size, const mixt_merge *merges,
                       size_t merge_count, mixt_buffer *to)
{
    mixt_buffer_text(to, "{\n\"version\":\"1.0\",\n\"truncation\":null,\n\"padding\":null,\n"
                         "\"added_tokens\":[");
    mixt_buffer_format(to,
                       "{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":true}],\n",
                       MIXT_SEPARATOR_ID, MIXT_SEPARATOR_TEXT);
    mixt_buffer_text(to, "\"normalizer\":null,\n\"pre_tokenizer\":" BYTE_LEVEL
                         ",\n\"post_processor\":");
    write_template(to);
    mixt_buffer_text(to, ",\n\"decoder\":" BYTE_LEVEL
                         ",\n\"model\":{\n\"type\":\"BPE\",\n\"dropout\":null,\n"
                         "\"unk_token\":null,\n\"continuing_subword_prefix\":null,\n"
                         "\"end_of_word_suffix\":null,\n\"fuse_unk\":false,\n"
                         "\"byte_fallback\":false,\n\"ignore_merges\":false,\n\"vocab\":{");
    for (int id = 0; id < vocab_size; id++) {
        mixt_buffer_text(to, id == 0 ? "\n\"" : ",\n\"");
        if (id == MIXT_SEPARATOR_ID) {
            mixt_buffer_text(to, MIXT_SEPARATOR_TEXT);
        } else {
            write_visible(to, &tokens[id]);
        }
        mixt_buffer_format(to, "\":%d", id);
    }
    mixt_buffer_text(to, "},\n\"merges\":[");
    for (size_t i = 0; i < merge_count; i++) {
        mixt_buffer_text(to, i == 0 ? "\n\"" : ",\n\"");
        write_visible(to, &tokens[merges[i].left]);
        mixt_buffer_text(to, " ");
        write_visible(to, &tokens[merges[i].right]);
        mixt_buffer_text(to, "\"");
    }
    mixt_buffer_text(to, "]\n}\n}\n");
}

mixt_status mixt_tokenizer_make(const mixt_token *tokens, int vocab_size, const mixt_merge *merges,
                                size_t merge_count, mixt_tokenizer **tokenizer, mixt_error *error)
{
    mixt_buffer json = {0};
    *tokenizer = NULL;
    write_json(tokens, vocab_size, merges, merge_count, &json);
    mixt_status status = json.failed
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory")
                             : mixt_tokenizer_from_json(json.data, json.length, tokenizer, error);
    mixt_buffer_free(&json);
    return status;
}

/* --- Files -------------------------------------------------------------------------------------
 */

static const char *class_name(const mixt_tokenizer *t)
{
    return t->class_name != NULL                  ? t->class_name
           : t->kind == MIXT_TOKENIZER_PIECES     ? "LlamaTokenizer"
           : t->kind == MIXT_TOKENIZER_CHARACTERS ? "LlamaTokenizerFast"
                                                  : "PreTrainedTokenizerFast";
}

static json_t *special_text(const mixt_tokenizer *t, int which)
{
    int id = t->special[which];
    if (id < 0 && which != MIXT_SPECIAL_PAD && t->special[MIXT_SPECIAL_EOS] < 0) {
        id = t->separator; /* of mixt's own tokenizers */
    }
    if (id < 0 || t->tokens[id].bytes == NULL) {
        return NULL;
    }
    const mixt_token *token = &t->tokens[id];
    return token->piece != NULL ? json_stringn(token->piece, token->piece_length)
                                : json_stringn(token->bytes, token->length);
}

/* Tokens that a tokenizer.model cannot say, with their flags. */
static void put_added_tokens(const mixt_tokenizer *t, json_t *root)
{
    bool outside = false;
    for (int id = 0; t->kind == MIXT_TOKENIZER_PIECES && t->json == NULL && id < t->vocab_size;
         id++) {
        outside = outside || t->tokens[id].is_added;
    }
    if (!outside && !(t->kind == MIXT_TOKENIZER_PIECES && t->json == NULL && t->added_rules)) {
        return;
    }
    json_t *decoder = json_object();
    const mixt_added_token *token;
    for (size_t i = 0; (token = mixt_added_set_at(t->added_raw, i)) != NULL; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", (int)token->id);
        json_t *text = json_stringn(token->text, token->length);
        if (text != NULL) {
            json_object_set_new(decoder, id,
                                json_pack("{s:o, s:b, s:b, s:b, s:b, s:b}", "content", text,
                                          "lstrip", (int)token->left_strip, "normalized", 0,
                                          "rstrip", (int)token->right_strip, "single_word",
                                          (int)token->single_word, "special", (int)token->special));
        }
    }
    json_object_set_new(root, "added_tokens_decoder", decoder);
}

/* generation_config.json with every end, so that other programs stop there too; what it holds
 * otherwise stays. Nothing is written where config.json's own eos says all of it. */
static mixt_status write_ends(const mixt_tokenizer *t, const char *folder, mixt_error *error)
{
    char *path = mixt_path_join(folder, "generation_config.json");
    mixt_json_begin();
    json_t *root = NULL, *ends = json_array();
    mixt_status status = path != NULL && ends != NULL
                             ? MIXT_OK
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    for (int id = 0; id < t->vocab_size; id++) {
        if (t->tokens[id].is_end) {
            json_array_append_new(ends, json_integer(id));
        }
    }
    if (status == MIXT_OK && mixt_json_failed()) { /* no ends are not the same as none found */
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (status == MIXT_OK && mixt_path_exists(path)) {
        status = mixt_json_read(path, (size_t)1 << 20, &root, error);
    }
    size_t count = json_array_size(ends);
    bool own = count == 1 && t->special[MIXT_SPECIAL_EOS] >= 0;
    if (status == MIXT_OK && count != 0 && (root != NULL || !own)) {
        root = root != NULL ? root : json_object();
        json_object_set(root, "eos_token_id", count == 1 ? json_array_get(ends, 0) : ends);
        char *text = mixt_json_text(root, JSON_INDENT(2));
        status = text != NULL ? mixt_file_replace_in(folder, "generation_config.json", text,
                                                     strlen(text), error)
                              : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
        free(text);
    }
    json_decref(ends);
    json_decref(root);
    free(path);
    return status;
}

static char *config_text(const mixt_tokenizer *t)
{
    static const char *const keys[4] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    mixt_json_begin();
    json_t *root = json_object();
    for (int i = 0; i < 4; i++) {
        json_t *text = special_text(t, i);
        if (text != NULL) {
            json_object_set_new(root, keys[i], text);
        }
    }
    if (t->kind == MIXT_TOKENIZER_BYTES) {
        json_object_set_new(root, "add_prefix_space", json_boolean(t->prefix_space));
    } else {
        json_object_set_new(root, "legacy", json_boolean(!t->spaces.first_only));
    }
    if (t->kind == MIXT_TOKENIZER_PIECES && t->json == NULL && !t->spaces.prefix) {
        json_object_set_new(root, "add_prefix_space", json_false());
    }
    put_added_tokens(t, root);
    if (t->kind != MIXT_TOKENIZER_BYTES || t->adds_bos || t->adds_eos) {
        json_object_set_new(root, "add_bos_token", json_boolean(mixt_tokenizer_adds_bos(t)));
        json_object_set_new(root, "add_eos_token", json_boolean(mixt_tokenizer_adds_eos(t)));
    }
    json_object_set_new(root, "clean_up_tokenization_spaces", json_false());
    json_object_set_new(root, "tokenizer_class", json_string(class_name(t)));
    if (t->chat_template != NULL) {
        json_object_set_new(root, "chat_template", json_string(t->chat_template));
    }
    char *text = mixt_json_text(root, JSON_INDENT(2));
    json_decref(root);
    return text;
}

/* The vocabulary itself: as it was read, or made from what a GGUF file held. */
static mixt_status write_vocabulary(const mixt_tokenizer *t, const char *folder, mixt_error *error)
{
    if (t->json != NULL) {
        return mixt_file_replace_in(folder, "tokenizer.json", t->json, t->json_length, error);
    }
    if (t->model != NULL) {
        return mixt_file_replace_in(folder, "tokenizer.model", t->model, t->model_length, error);
    }
    bool pieces = t->kind == MIXT_TOKENIZER_PIECES;
    mixt_buffer text = {0};
    mixt_status status = pieces ? mixt_tokenizer_write_model(t, &text, error)
                                : mixt_tokenizer_write_json(t, &text, error);
    if (status == MIXT_OK) {
        status = mixt_file_replace_in(folder, pieces ? "tokenizer.model" : "tokenizer.json",
                                      text.data, text.length, error);
    }
    mixt_buffer_free(&text);
    return status;
}

mixt_status mixt_tokenizer_save(const mixt_tokenizer *tokenizer, const char *folder,
                                mixt_error *error)
{
    char *config = config_text(tokenizer);
    mixt_status status = config == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY,
                                                    "%s: no memory for the tokenizer", folder)
                                        : mixt_folder_create(folder, error);
    if (status == MIXT_OK) {
        status =
            mixt_file_replace_in(folder, "tokenizer_config.json", config, strlen(config), error);
    }
    if (status == MIXT_OK) {
        status = write_ends(tokenizer, folder, error);
    }
    if (status == MIXT_OK) { /* last: a folder with it is complete */
        status = write_vocabulary(tokenizer, folder, error);
    }
    free(config);
    return status;
}
