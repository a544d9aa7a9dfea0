/* Opening Hugging Face folders: config.json says the shapes, the safetensors files stay mapped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/json.h"
#include "model/adapters.h"
#include "model/peft.h"
#include "model/storage.h"
#include "quant/quant.h"

/* The files must hold as many weights as config.json asks memory for, before it is taken. */
static mixt_status check_size(const mixt_model_options *options, const mixt_source *source,
                              mixt_error *error)
{
    double held = mixt_source_elements(source);
    double moe = options->experts > 0 ? (double)options->experts * options->ffn_size : 0;
    double wanted =
        (double)options->hidden_size *
        ((double)options->vocab_size + (double)mixt_options_moe_layers(options) * 3 * moe);
    if (wanted > held) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: config.json asks for more than %.0f weights, the files hold %.0f",
                         mixt_source_path(source), wanted, held);
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* quantization_config                                                                        */

static mixt_status refuse_quantisation(const char *config, const char *key, const char *rule,
                                       mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: quantization_config.%.60s: %s", config,
                     key, rule);
}

/* weight_block_size: [rows, columns], or null for one factor a tensor; 128 each where it is not
 * said, as in transformers. */
static mixt_status read_blocks(const char *config, const json_t *object, mixt_f8_blocks *blocks,
                               mixt_error *error)
{
    const json_t *size = json_object_get(object, "weight_block_size");
    *blocks = (mixt_f8_blocks){true, 128, 128};
    if (size == NULL) {
        return MIXT_OK;
    }
    if (json_is_null(size)) {
        *blocks = (mixt_f8_blocks){true, 0, 0};
        return MIXT_OK;
    }
    json_int_t rows = json_integer_value(json_array_get(size, 0));
    json_int_t columns = json_integer_value(json_array_get(size, 1));
    if (json_array_size(size) != 2 || rows < 1 || columns < 1 || rows > 1 << 24 ||
        columns > 1 << 24) {
        return refuse_quantisation(config, "weight_block_size", "must be two sizes above 0", error);
    }
    *blocks = (mixt_f8_blocks){true, rows, columns};
    return MIXT_OK;
}

/* Keys of quant_method fp8 that change what weights mean; the first row's word stands for all that
 * are harmless: which modules are of FP8 is what the tensors' types say, and mixt never rounds
 * activations. */
static mixt_status check_fp8_key(const char *config, const char *key, const json_t *value,
                                 mixt_error *error)
{
    static const struct {
        const char *key, *words[2]; /* words[0] NULL: harmless */
    } known[] = {
        {"quant_method", {NULL, NULL}},
        {"activation_scheme", {"dynamic", "static"}},
        {"fmt", {"e4m3", NULL}},
        {"scale_fmt", {"float", "ue8m0"}},
        {"expert_dtype", {"fp8", NULL}},
        {"weight_block_size", {NULL, NULL}},
        {"modules_to_not_convert", {NULL, NULL}},
        {"modules_to_convert", {NULL, NULL}},
        {"ignored_layers", {NULL, NULL}},
        {"dequantize", {NULL, NULL}},
    };
    const char *text = json_string_value(value);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].key, key) != 0) {
            continue;
        }
        bool good = known[i].words[0] == NULL || json_is_null(value);
        for (int j = 0; j < 2 && known[i].words[j] != NULL; j++) {
            good = good || (text != NULL && strcmp(text, known[i].words[j]) == 0);
        }
        return good
                   ? MIXT_OK
                   : refuse_quantisation(config, key, "mixt does not read this kind of FP8", error);
    }
    return refuse_quantisation(config, key, "is not a key of fp8 that mixt knows", error);
}

/* How weights of fewer bits lie in the folder: fp8 by blocks, gpt-oss's mxfp4; else refused. */
static mixt_status read_quantisation(const char *config, mixt_f8_blocks *blocks, mixt_error *error)
{
    json_t *root;
    *blocks = (mixt_f8_blocks){0};
    MIXT_TRY(mixt_json_read(config, MIXT_JSON_CONFIG_MAX, &root, error));
    json_t *object = json_object_get(root, "quantization_config");
    const char *method = json_string_value(json_object_get(object, "quant_method"));
    mixt_status status = MIXT_OK;
    if (object == NULL || json_is_null(object) ||
        (method != NULL && strcmp(method, "mxfp4") == 0)) {
        json_decref(root);
        return MIXT_OK;
    }
    if (method == NULL || strcmp(method, "fp8") != 0) {
        status = mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "%s: quantization_config.quant_method: '%.40s' is not supported, only "
                           "fp8 and mxfp4 are; a folder of BF16, F16 or F32 is read",
                           config, method != NULL ? method : "");
    }
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        status = status == MIXT_OK ? check_fp8_key(config, key, value, error) : status;
    }
    if (status == MIXT_OK) {
        status = read_blocks(config, object, blocks, error);
    }
    json_decref(root);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Tied embeddings                                                                            */

/* Values of two tensors of n rows, one row at a time. */
static bool same_values(const mixt_source_tensor *a, const mixt_source_tensor *b, float *rows)
{
    size_t k = (size_t)a->size[1];
    size_t a_bytes = mixt_type_row_bytes(a->type, a->size[1]);
    size_t b_bytes = mixt_type_row_bytes(b->type, a->size[1]);
    for (int64_t i = 0; i < a->size[0]; i++) {
        mixt_dequantise(a->type, a->data + (size_t)i * a_bytes, rows, (int64_t)k);
        mixt_dequantise(b->type, b->data + (size_t)i * b_bytes, rows + k, (int64_t)k);
        if (memcmp(rows, rows + k, k * sizeof *rows) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_float_matrix(const mixt_source_tensor *tensor)
{
    bool known = tensor->type == MIXT_TYPE_F32 || tensor->type == MIXT_TYPE_F16 ||
                 tensor->type == MIXT_TYPE_BF16;
    return known && tensor->rank == 2 &&
           (uintptr_t)tensor->data % (tensor->type == MIXT_TYPE_F32 ? 4 : 2) == 0;
}

/* Whether the head holds what the embeddings do: by bytes, or value by value where the types are
 * two. What cannot be compared differs. */
static mixt_status compare_head(const mixt_source_tensor *head, const mixt_source_tensor *table,
                                bool *same, mixt_error *error)
{
    *same = false;
    if (head->type == MIXT_TYPE_F8_E4M3 || head->rank != table->rank || head->rank != 2 ||
        memcmp(head->size, table->size, 2 * sizeof *head->size) != 0) {
        return MIXT_OK;
    }
    if (strcmp(head->type_name, table->type_name) == 0) {
        *same = head->bytes == table->bytes && memcmp(head->data, table->data, head->bytes) == 0;
        return MIXT_OK;
    }
    if (!is_float_matrix(head) || !is_float_matrix(table)) {
        return MIXT_OK;
    }
    float *rows = malloc(2 * (size_t)head->size[1] * sizeof *rows + 1);
    if (rows == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", head->path);
    }
    *same = same_values(head, table, rows);
    free(rows);
    return MIXT_OK;
}

/* A head of its own in files whose configuration says that it is the embeddings': training tools
 * write such folders, and transformers keeps it too. */
static mixt_status keep_head(const char *config, const mixt_family *family,
                             const mixt_source *source, mixt_model_options *options,
                             mixt_remarks *remarks, mixt_error *error)
{
    const mixt_tensor_row *output =
        mixt_family_row(family, MIXT_SLOT_OUTPUT, MIXT_FORM_FOLDER, NULL);
    const mixt_tensor_row *embed = mixt_family_row(family, MIXT_SLOT_EMBED, MIXT_FORM_FOLDER, NULL);
    mixt_source_tensor head, table;
    if (!options->tie_embeddings || output == NULL || embed == NULL ||
        !mixt_source_find(source, output->hf, &head) ||
        !mixt_source_find(source, embed->hf, &table)) {
        return MIXT_OK;
    }
    bool same;
    MIXT_TRY(compare_head(&head, &table, &same, error));
    if (!same) {
        options->tie_embeddings = false;
        mixt_remark(remarks,
                    "%s: tie_word_embeddings: is true, but %s is another tensor than %s; both are "
                    "kept",
                    config, output->hf, embed->hf);
    }
    return MIXT_OK;
}

static mixt_status open_folder(const char *path, const char *config, mixt_model **model,
                               mixt_error *error)
{
    mixt_model_options options;
    const mixt_family *family = NULL;
    mixt_f8_blocks f8;
    mixt_source *source = NULL;
    mixt_remarks remarks = {0};
    mixt_status status = mixt_model_config_read(config, &options, &family, error);
    mixt_model_options checked = options;
    if (status == MIXT_OK) {
        status = mixt_model_check_file(&checked, config, error);
    }
    if (status == MIXT_OK) {
        status = read_quantisation(config, &f8, error);
    }
    if (status == MIXT_OK) {
        status = mixt_source_open_folder(path, &source, error);
    }
    if (status == MIXT_OK) {
        status = check_size(&checked, source, error);
    }
    if (status == MIXT_OK) {
        status = keep_head(config, family, source, &options, &remarks, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_layout(&options, family, config, model, error);
    }
    if (status != MIXT_OK) {
        mixt_remarks_free(&remarks);
        mixt_source_close(source);
        return status;
    }
    (*model)->remarks = remarks;
    MIXT_TRY(mixt_model_hold(*model, source, f8, error));
    return mixt_peft_is_in(path) ? mixt_model_merge(*model, path, error) : MIXT_OK;
}

/* An adapter knows neither shapes nor weights of its model; and one of which only the weights are
 * left was meant to change it. */
static mixt_status check_alone(const char *path, const char *config, mixt_error *error)
{
    if (mixt_peft_is_cut(path)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: holds " MIXT_ADAPTER_WEIGHTS " without its " MIXT_ADAPTER_CONFIG
                         "; move it away for the model alone",
                         path);
    }
    return mixt_path_exists(config) || !mixt_peft_is_in(path)
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_FORMAT,
                           "%s: is a LoRA adapter without its model; merge the two: mixt convert "
                           "BASE --merge %s -o OUTPUT",
                           path, path);
}

mixt_status mixt_model_open(const char *path, mixt_model **model, mixt_error *error)
{
    *model = NULL;
    if (!mixt_path_exists(path)) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: no such folder or file", path);
    }
    mixt_status status;
    if (mixt_path_is_folder(path)) {
        char *config = mixt_path_join(path, "config.json");
        status = config == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path)
                                : check_alone(path, config, error);
        if (status == MIXT_OK) {
            status = open_folder(path, config, model, error);
        }
        free(config);
    } else {
        status = mixt_model_open_gguf(path, model, error);
    }
    if (status != MIXT_OK) {
        mixt_model_free(*model);
        *model = NULL;
    }
    return status;
}
