/* Opening Hugging Face folders: config.json says the shapes, the safetensors files stay mapped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/json.h"
#include "model/storage.h"

/* The files must hold as many weights as config.json asks memory for, before it is taken. */
static mixt_status check_size(const mixt_model_options *options, const mixt_source *source,
                              mixt_error *error)
{
    double held = mixt_source_elements(source);
    double moe = options->experts > 0 ? (double)options->experts * options->ffn_size : 0;
    double wanted = (double)options->hidden_size *
                    ((double)options->vocab_size +
                     (double)(options->layers - options->leading_dense_layers) * 3 * moe);
    if (wanted > held) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: config.json asks for more than %.0f weights, the files hold %.0f",
                         mixt_source_path(source), wanted, held);
    }
    return MIXT_OK;
}

/* The type of 16 bits in which config.json says that the weights are; MIXT_TYPE_COUNT where it says
 * none. */
static mixt_status read_half(const char *config, mixt_type *half, mixt_error *error)
{
    json_t *root;
    *half = MIXT_TYPE_COUNT;
    MIXT_TRY(mixt_json_read(config, MIXT_JSON_CONFIG_MAX, &root, error));
    static const char *const keys[] = {"torch_dtype", "dtype"};
    for (int i = 0; i < 2; i++) {
        const char *name = json_string_value(json_object_get(root, keys[i]));
        if (name != NULL && strcmp(name, "float16") == 0) {
            *half = MIXT_TYPE_F16;
        } else if (name != NULL && strcmp(name, "bfloat16") == 0) {
            *half = MIXT_TYPE_BF16;
        }
    }
    json_decref(root);
    return MIXT_OK;
}

static mixt_status open_folder(const char *path, const char *config, mixt_model **model,
                               mixt_error *error)
{
    mixt_model_options options;
    const mixt_family *family = NULL;
    mixt_type half = MIXT_TYPE_COUNT;
    mixt_source *source = NULL;
    mixt_status status = mixt_model_config_read(config, &options, &family, error);
    mixt_model_options checked = options;
    if (status == MIXT_OK) {
        status = mixt_model_check(&checked, config, error);
        status = status == MIXT_ERROR_ARGUMENT ? MIXT_ERROR_FORMAT : status;
    }
    if (status == MIXT_OK) {
        status = read_half(config, &half, error);
    }
    if (status == MIXT_OK) {
        status = mixt_source_open_folder(path, &source, error);
    }
    if (status == MIXT_OK) {
        status = check_size(&checked, source, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_layout(&options, family, config, model, error);
    }
    if (status != MIXT_OK) {
        mixt_source_close(source);
        return status;
    }
    return mixt_model_hold(*model, source, half, error);
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
                                : open_folder(path, config, model, error);
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
