/* What a tokenizer says beside its vocabulary: special tokens, ends, the chat template; and the way
 * from ids back to text. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/json.h"
#include "tokenizer/tokenizer.h"

#define TEMPLATE_LIMIT ((size_t)32 << 20) /* bytes of a chat template */

/* --- Looking -----------------------------------------------------------------------------------
 */

int mixt_tokenizer_special(const mixt_tokenizer *tokenizer, mixt_special which)
{
    return which >= MIXT_SPECIAL_BOS && which <= MIXT_SPECIAL_PAD ? tokenizer->special[which] : -1;
}

bool mixt_tokenizer_adds_bos(const mixt_tokenizer *tokenizer)
{
    return tokenizer->adds_bos && tokenizer->special[MIXT_SPECIAL_BOS] >= 0;
}

bool mixt_tokenizer_adds_eos(const mixt_tokenizer *tokenizer)
{
    return tokenizer->adds_eos && tokenizer->special[MIXT_SPECIAL_EOS] >= 0;
}

bool mixt_tokenizer_is_end(const mixt_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->vocab_size && tokenizer->tokens[id].is_end;
}

const char *mixt_tokenizer_chat_template(const mixt_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}

/* --- Ends --------------------------------------------------------------------------------------
 */

/* Tokens that end a text or a turn in the models of these families and their relatives. */
static const char *const end_texts[] = {
    "</s>",       "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>",
    "<|eom_id|>", "<|im_end|>",    "<|end|>",         "<|return|>",
    "<|call|>",   "<end_of_turn>", "<eos>",           "[EOS]",
    "<eod>",      "<|EOT|>",       "<EOT>",           "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<|eos|>",
};

bool mixt_is_end_text(const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        if (strlen(end_texts[i]) == length && memcmp(end_texts[i], text, length) == 0) {
            return true;
        }
    }
    return false;
}

static int32_t find_special(const mixt_tokenizer *tokenizer, const char *text)
{
    size_t length = strlen(text);
    for (int32_t id = 0; id < tokenizer->vocab_size; id++) {
        const mixt_token *token = &tokenizer->tokens[id];
        if (token->bytes != NULL && token->length == length &&
            (token->is_added || token->type == MIXT_TOKEN_CONTROL) &&
            memcmp(token->bytes, text, length) == 0) {
            return id;
        }
    }
    return -1;
}

void mixt_tokenizer_mark_ends(mixt_tokenizer *tokenizer)
{
    int32_t return_id = -1, end_id = -1;
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        int32_t id = find_special(tokenizer, end_texts[i]);
        if (id >= 0) {
            tokenizer->tokens[id].is_end = true;
        }
        return_id = strcmp(end_texts[i], "<|return|>") == 0 ? id : return_id;
        end_id = strcmp(end_texts[i], "<|end|>") == 0 ? id : end_id;
    }
    if (return_id >= 0 && end_id >= 0) { /* gpt-oss: <|end|> closes one of several messages */
        tokenizer->tokens[end_id].is_end = false;
    }
    int32_t eos = tokenizer->special[MIXT_SPECIAL_EOS];
    if (eos >= 0 && eos < tokenizer->vocab_size) {
        tokenizer->tokens[eos].is_end = true;
    }
    if (tokenizer->separator < 0) {
        tokenizer->separator = tokenizer->special[MIXT_SPECIAL_BOS];
    }
}

/* --- tokenizer_config.json and chat_template.jinja -----------------------------------------------
 */

/* A token's name, written as a string or as an object with "content". */
static mixt_status read_special(mixt_tokenizer *tokenizer, const mixt_json_object *config,
                                const char *key, mixt_special which)
{
    const char *text = NULL;
    const json_t *value = json_object_get(config->json, key);
    if (value == NULL || json_is_null(value)) {
        return MIXT_OK;
    }
    if (json_is_object(value)) {
        value = json_object_get(value, "content");
    }
    text = json_string_value(value);
    if (text == NULL) {
        return mixt_json_fail(config, key, "not a token's text");
    }
    int32_t id = find_special(tokenizer, text);
    if (id >= 0) { /* transformers would add a token that the vocabulary lacks; no model knows it */
        tokenizer->special[which] = id;
    }
    return MIXT_OK;
}

static mixt_status keep_template(mixt_tokenizer *tokenizer, const char *text, mixt_error *error)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the chat template");
    }
    free(tokenizer->chat_template);
    tokenizer->chat_template = copy;
    return MIXT_OK;
}

/* A string, or a list of {"name", "template"}, of which "default" is taken. */
static mixt_status read_template(mixt_tokenizer *tokenizer, const mixt_json_object *config)
{
    const json_t *value = json_object_get(config->json, "chat_template");
    if (value == NULL || json_is_null(value)) {
        return MIXT_OK;
    }
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *text = json_string_value(json_object_get(item, "template"));
        if (name == NULL || text == NULL) {
            return mixt_json_fail(config, "chat_template", "entry %zu lacks name or template", i);
        }
        if (strcmp(name, "default") == 0) {
            return keep_template(tokenizer, text, config->error);
        }
    }
    if (json_is_array(value)) {
        return MIXT_OK;
    }
    return json_is_string(value)
               ? keep_template(tokenizer, json_string_value(value), config->error)
               : mixt_json_fail(config, "chat_template", "neither a string nor a list");
}

/* Fast tokenizers of a class of their own rebuild the post-processor from these keys;
 * PreTrainedTokenizerFast keeps what tokenizer.json says. */
static mixt_status read_additions(mixt_tokenizer *tokenizer, const mixt_json_object *config)
{
    const char *class = "";
    MIXT_TRY(mixt_json_string_or(config, "tokenizer_class", &class));
    free(tokenizer->class_name);
    tokenizer->class_name = class[0] != '\0' ? strdup(class) : NULL;
    if (tokenizer->json != NULL && strcmp(class, "PreTrainedTokenizerFast") == 0) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_json_bool_or(config, "add_bos_token", &tokenizer->adds_bos));
    return mixt_json_bool_or(config, "add_eos_token", &tokenizer->adds_eos);
}

static mixt_status read_config_file(mixt_tokenizer *tokenizer, const char *path, mixt_error *error)
{
    static const char *const keys[4] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    json_t *root = NULL;
    mixt_status status = mixt_json_read(path, TEMPLATE_LIMIT, &root, error);
    mixt_json_object config = {root, path, "", error};
    for (int i = 0; status == MIXT_OK && i < 4; i++) {
        status = read_special(tokenizer, &config, keys[i], (mixt_special)i);
    }
    if (status == MIXT_OK) {
        status = read_additions(tokenizer, &config);
    }
    if (status == MIXT_OK) {
        status = read_template(tokenizer, &config);
    }
    json_decref(root);
    return status;
}

static mixt_status read_template_file(mixt_tokenizer *tokenizer, const char *path,
                                      mixt_error *error)
{
    char *text = NULL;
    size_t length;
    mixt_status status = mixt_file_read(path, TEMPLATE_LIMIT, &text, &length, error);
    if (status == MIXT_OK && strlen(text) != length) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: a NUL in the template", path);
    }
    if (status == MIXT_OK) {
        status = keep_template(tokenizer, text, error);
    }
    free(text);
    return status;
}

mixt_status mixt_tokenizer_read_config(mixt_tokenizer *tokenizer, const char *folder,
                                       mixt_error *error)
{
    char *config = mixt_path_join(folder, "tokenizer_config.json");
    char *jinja = mixt_path_join(folder, "chat_template.jinja");
    mixt_status status = MIXT_OK;
    if (config == NULL || jinja == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (status == MIXT_OK && mixt_path_exists(config)) {
        status = read_config_file(tokenizer, config, error);
    }
    if (status == MIXT_OK && mixt_path_exists(jinja)) {
        status = read_template_file(tokenizer, jinja, error);
    }
    free(config);
    free(jinja);
    mixt_tokenizer_mark_ends(tokenizer);
    return status;
}

/* --- Decoding ----------------------------------------------------------------------------------
 */

/* Encoding puts a space before the text or before every stretch between added tokens; `*strip` says
 * that the next bytes begin with it. */
static void append_token(const mixt_tokenizer *t, const mixt_token *token, bool skip_special,
                         bool *strip, mixt_buffer *to)
{
    if (token->type == MIXT_TOKEN_CONTROL) {
        mixt_buffer_append(to, token->bytes, skip_special ? 0 : token->length);
        *strip = *strip || t->strip_each;
    } else if (token->is_added) {
        mixt_buffer_append(to, token->bytes, token->length);
        *strip = t->strip_each;
    } else {
        size_t from = *strip && token->length != 0 && token->bytes[0] == ' ';
        mixt_buffer_append(to, token->bytes + from, token->length - from);
        *strip = false;
    }
}

mixt_status mixt_tokenizer_decode(const mixt_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                  bool skip_special, char **text, size_t *length, mixt_error *error)
{
    mixt_buffer out = {0};
    bool strip = tokenizer->strip_space;
    *text = NULL;
    *length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size;
        const char *bytes = mixt_tokenizer_bytes_of(tokenizer, ids[i], &size);
        if (bytes == NULL) {
            mixt_buffer_free(&out);
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "no token has id %d", (int)ids[i]);
        }
        append_token(tokenizer, &tokenizer->tokens[ids[i]], skip_special, &strip, &out);
    }
    mixt_buffer_append(&out, "", 1);
    if (out.failed) {
        mixt_buffer_free(&out);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for text");
    }
    *text = out.data;
    *length = out.length - 1;
    return MIXT_OK;
}
