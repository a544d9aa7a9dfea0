/* A tokenizer's folder: the vocabulary, and what the files beside it say. In this order:
 * tokens outside the vocabulary file: added_tokens_decoder of tokenizer_config.json; without that
 *   key added_tokens.json; then special tokens with names;
 * names of bos, eos, unk and pad: tokenizer_config.json, and special_tokens_map.json before it
 * where there is no added_tokens_decoder; else what the class has by default; ends: the eos of
 * both, generation_config.json's ids or else config.json's, and known texts. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/json.h"
#include "tokenizer/beside.h"
#include "tokenizer/json.h"

#define FILE_LIMIT ((size_t)64 << 20)
#define CONFIG_LIMIT ((size_t)32 << 20) /* a chat template may stand in it */

static mixt_status no_memory(const char *folder, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
}

/* --- Files -------------------------------------------------------------------------------------
 */

/* The root of folder/name, NULL where there is no such file; *path is malloc'd. */
static mixt_status read_beside(const char *folder, const char *name, char **path, json_t **root,
                               mixt_error *error)
{
    *root = NULL;
    *path = mixt_path_join(folder, name);
    if (*path == NULL) {
        return no_memory(folder, error);
    }
    return mixt_path_exists(*path) ? mixt_json_read(*path, CONFIG_LIMIT, root, error) : MIXT_OK;
}

static void close_beside(mixt_beside *b)
{
    json_decref(b->config.root);
    json_decref(b->map.root);
    json_decref(b->added.root);
    free(b->config.path);
    free(b->map.path);
    free(b->added.path);
}

static mixt_status open_beside(const char *folder, mixt_beside *b, mixt_error *error)
{
    *b = (mixt_beside){.error = error};
    MIXT_TRY(read_beside(folder, "tokenizer_config.json", &b->config.path, &b->config.root, error));
    MIXT_TRY(read_beside(folder, "special_tokens_map.json", &b->map.path, &b->map.root, error));
    MIXT_TRY(read_beside(folder, "added_tokens.json", &b->added.path, &b->added.root, error));
    mixt_json_object config = {b->config.root, b->config.path, "", error};
    if (b->config.root == NULL) {
        return MIXT_OK;
    }
    bool split = false;
    MIXT_TRY(mixt_json_bool_or(&config, "split_special_tokens", &split));
    if (split) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: split_special_tokens: only false is supported", b->config.path);
    }
    return mixt_json_string_or(&config, "tokenizer_class", &b->class_name);
}

/* --- Special tokens ----------------------------------------------------------------------------
 */

const json_t *mixt_beside_value(const mixt_beside *b, const char *key, const char **file)
{
    const json_t *decoder = json_object_get(b->config.root, "added_tokens_decoder");
    const json_t *value = decoder == NULL ? json_object_get(b->map.root, key) : NULL;
    *file = value != NULL ? b->map.path : b->config.path;
    return value != NULL ? value : json_object_get(b->config.root, key);
}

const char *mixt_beside_text(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* What the classes of transformers have where no file names a token (4.57 and 5.24 agree but for
 * GPT-NeoX's pad), and whether they put bos and eos around a text whatever tokenizer.json says:
 * add_bos_token and add_eos_token then say which, and these are their defaults. */
typedef struct known_class {
    const char *name;
    const char *specials[4];
    bool around, bos;
} known_class;

static const known_class classes[] = {
    {"LlamaTokenizer", {"<s>", "</s>", "<unk>", NULL}, true, true},
    {"CodeLlamaTokenizer", {"<s>", "</s>", "<unk>", NULL}, true, true},
    {"GemmaTokenizer", {"<bos>", "<eos>", "<unk>", "<pad>"}, true, true},
    {"CohereTokenizer", {"<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", NULL}, true, true},
    {"GPTNeoXTokenizer", {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL}, true, false},
    {"GPT2Tokenizer", {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL}, false, false},
    {"Qwen2Tokenizer", {NULL, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}, false, false},
};

/* NULL for a class that keeps to what the files say. */
static const known_class *find_class(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof classes / sizeof *classes; i++) {
        size_t length = strlen(classes[i].name);
        if (strncmp(name, classes[i].name, length) == 0 &&
            (name[length] == '\0' || strcmp(name + length, "Fast") == 0)) {
            return &classes[i];
        }
    }
    return NULL;
}

static mixt_status read_special(mixt_tokenizer *tokenizer, const mixt_beside *b, int which)
{
    static const char *const keys[4] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    const known_class *class = find_class(b->class_name);
    const char *file;
    const json_t *value = mixt_beside_value(b, keys[which], &file);
    int32_t *special = &tokenizer->special[which];
    if (value == NULL) {
        const char *usual = class != NULL ? class->specials[which] : NULL;
        int32_t id = usual != NULL ? mixt_tokenizer_find_special(tokenizer, usual) : -1;
        *special = id >= 0 && *special < 0 ? id : *special;
        return MIXT_OK;
    }
    if (json_is_null(value)) { /* the template sees none; what goes around a text is in `before` */
        bool own = tokenizer->json != NULL && which != MIXT_SPECIAL_UNKNOWN;
        *special = own ? -1 : *special;
        return MIXT_OK;
    }
    const char *text = mixt_beside_text(value);
    if (text == NULL) {
        mixt_json_object object = {value, file, "", b->error};
        return mixt_json_fail(&object, keys[which], "not a token's text");
    }
    int32_t id = mixt_tokenizer_find_special(tokenizer, text);
    *special = id >= 0 ? id : *special;
    return MIXT_OK;
}

/* Which tokens go around a text. */
static mixt_status read_around(mixt_tokenizer *tokenizer, const mixt_beside *b)
{
    const known_class *class = find_class(b->class_name);
    mixt_json_object config = {b->config.root, b->config.path, "", b->error};
    if (tokenizer->json != NULL && (class == NULL || !class->around)) {
        return MIXT_OK; /* as tokenizer.json has it */
    }
    if (class != NULL && class->around) {
        tokenizer->before = tokenizer->behind = -1;
        tokenizer->adds_bos = class->bos;
        tokenizer->adds_eos = false;
    }
    if (b->config.root == NULL) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_json_bool_or(&config, "add_bos_token", &tokenizer->adds_bos));
    return mixt_json_bool_or(&config, "add_eos_token", &tokenizer->adds_eos);
}

/* --- Chat template -----------------------------------------------------------------------------
 */

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
            return mixt_tokenizer_keep_template(tokenizer, text, config->error);
        }
    }
    if (json_is_array(value)) {
        return MIXT_OK;
    }
    return json_is_string(value)
               ? mixt_tokenizer_keep_template(tokenizer, json_string_value(value), config->error)
               : mixt_json_fail(config, "chat_template", "neither a string nor a list");
}

static mixt_status read_template_file(mixt_tokenizer *tokenizer, const char *folder,
                                      mixt_error *error)
{
    char *path = mixt_path_join(folder, "chat_template.jinja");
    char *text = NULL;
    size_t length = 0;
    mixt_status status = path == NULL ? no_memory(folder, error) : MIXT_OK;
    if (status == MIXT_OK && mixt_path_exists(path)) {
        status = mixt_file_read(path, CONFIG_LIMIT, &text, &length, error);
        if (status == MIXT_OK && strlen(text) != length) {
            status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: a NUL in the template", path);
        }
        if (status == MIXT_OK) {
            status = mixt_tokenizer_keep_template(tokenizer, text, error);
        }
    }
    free(text);
    free(path);
    return status;
}

/* --- Ends --------------------------------------------------------------------------------------
 */

/* An id or a list of ids; *named: there is at least one. */
static mixt_status read_ends(mixt_tokenizer *tokenizer, const mixt_json_object *config, bool *named)
{
    const json_t *value = json_object_get(config->json, "eos_token_id");
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (value == NULL || json_is_null(value)) {
        return MIXT_OK;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(item)) {
            return mixt_json_fail(config, "eos_token_id", "neither an id nor a list of ids");
        }
        json_int_t id = json_integer_value(item);
        if (id >= tokenizer->vocab_size || (id >= 0 && tokenizer->tokens[id].bytes == NULL)) {
            mixt_remark(&tokenizer->remarks,
                        "%s: eos_token_id: passed over %lld, which no token has", config->file,
                        (long long)id);
        }
        mixt_tokenizer_declare_end(tokenizer, id);
        *named = true;
    }
    return MIXT_OK;
}

/* Of generation_config.json, else of config.json or the model inside it, as transformers. */
static mixt_status read_model_ends(mixt_tokenizer *tokenizer, const char *folder, mixt_error *error)
{
    static const char *const names[] = {"generation_config.json", "config.json"};
    mixt_status status = MIXT_OK;
    bool named = false;
    for (int i = 0; i < 2 && status == MIXT_OK && !named; i++) {
        char *path;
        json_t *root;
        status = read_beside(folder, names[i], &path, &root, error);
        mixt_json_object config = {root, path, "", error};
        if (status == MIXT_OK && root != NULL) {
            status = read_ends(tokenizer, &config, &named);
        }
        const json_t *inner = i == 1 ? json_object_get(root, "text_config") : NULL;
        if (status == MIXT_OK && !named && json_is_object(inner)) {
            config = (mixt_json_object){inner, path, "text_config.", error};
            status = read_ends(tokenizer, &config, &named);
        }
        json_decref(root);
        free(path);
    }
    return status;
}

mixt_status mixt_tokenizer_take_ends(mixt_tokenizer *tokenizer, const char *model_path,
                                     mixt_error *error)
{
    if (mixt_path_is_folder(model_path)) {
        return read_model_ends(tokenizer, model_path, error);
    }
    mixt_gguf *file;
    MIXT_TRY(mixt_gguf_open(model_path, &file, error));
    mixt_status status = mixt_tokenizer_gguf_ends(tokenizer, file, error);
    status = status == MIXT_OK ? mixt_gguf_intact(file, error) : status;
    mixt_gguf_close(file);
    return status;
}

/* ------------------------------------------------------------------------------------------------
 */

static mixt_status read_config(mixt_tokenizer *tokenizer, const char *folder, const mixt_beside *b)
{
    mixt_json_object config = {b->config.root, b->config.path, "", b->error};
    for (int i = 0; i < 4; i++) {
        MIXT_TRY(read_special(tokenizer, b, i));
    }
    MIXT_TRY(read_around(tokenizer, b));
    tokenizer->class_name = b->class_name != NULL ? strdup(b->class_name) : NULL;
    if (config.json != NULL) {
        MIXT_TRY(read_template(tokenizer, &config));
    }
    MIXT_TRY(read_template_file(tokenizer, folder, b->error));
    mixt_tokenizer_mark_ends(tokenizer);
    const json_t *files[] = {b->config.root, b->map.root}; /* whichever goes before the other */
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *text = mixt_beside_text(json_object_get(files[i], "eos_token"));
        if (text != NULL) {
            mixt_tokenizer_declare_end(tokenizer, mixt_tokenizer_find_special(tokenizer, text));
        }
    }
    return read_model_ends(tokenizer, folder, b->error);
}

static mixt_status open_json(const char *path, const mixt_beside *b, mixt_tokenizer **tokenizer,
                             mixt_error *error)
{
    char *text = NULL;
    size_t length;
    json_t *root = NULL;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_file_read(path, FILE_LIMIT, &text, &length, error);
    if (status == MIXT_OK) {
        status = mixt_hf_parse(text, length, &root, &local);
        if (status == MIXT_OK) {
            status = mixt_beside_add_to_json(b, root, &text, &length);
        }
        if (status == MIXT_OK) {
            status = mixt_hf_build(root, text, length, tokenizer, &local);
        }
        if (local.message[0] != '\0') {
            mixt_fail(error, status, "%s: %s", path, local.message);
        }
    }
    json_decref(root);
    free(text);
    return status;
}

static mixt_status open_pieces(const char *path, const mixt_beside *b, mixt_tokenizer **tokenizer,
                               mixt_error *error)
{
    char *text = NULL;
    size_t length;
    mixt_piece_rules rules;
    mixt_error local = MIXT_ERROR_INIT;
    MIXT_TRY(mixt_beside_piece_rules(b, &rules));
    MIXT_TRY(mixt_file_read(path, FILE_LIMIT, &text, &length, error));
    mixt_status status = mixt_tokenizer_from_model(text, length, &rules, tokenizer, &local);
    free(text);
    return status != MIXT_OK ? mixt_fail(error, status, "%s: %s", path, local.message)
                             : mixt_beside_add_to_pieces(b, *tokenizer);
}

mixt_status mixt_tokenizer_open_folder(const char *folder, mixt_tokenizer **tokenizer,
                                       mixt_error *error)
{
    char *json = mixt_path_join(folder, "tokenizer.json");
    char *model = mixt_path_join(folder, "tokenizer.model");
    mixt_beside beside;
    mixt_status status = open_beside(folder, &beside, error);
    if (status == MIXT_OK && (json == NULL || model == NULL)) {
        status = no_memory(folder, error);
    }
    if (status == MIXT_OK) {
        bool pieces = !mixt_path_exists(json) && mixt_path_exists(model);
        status = pieces ? open_pieces(model, &beside, tokenizer, error)
                        : open_json(json, &beside, tokenizer, error);
    }
    if (status == MIXT_OK) {
        status = read_config(*tokenizer, folder, &beside);
    }
    close_beside(&beside);
    free(json);
    free(model);
    return status;
}
