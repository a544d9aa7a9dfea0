/* Adapters as files: the keys of adapter_config.json and which of them are read. */
#include "model/peft.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/json.h"
#include "model/adapters.h"
#include "model/config_keys.h"

#define CONFIG_BYTES ((size_t)1 << 20)
#define RANK_MOST (1 << 20)
#define PATTERNS_MOST 1024

/* Keys that say where an adapter came from, how it was trained and which modules were asked for:
 * which have been adapted is what the tensors say. Of `bias`, `modules_to_save` and their like the
 * tensors would be there too, and are refused by name. */
static const char *const harmless[] = {
    "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform",
    "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "target_modules", "target_parameters",
    "task_type", "velora_config",
    /* read here */
    "alpha_pattern", "init_lora_weights", "lora_alpha", "peft_type", "r", "rank_pattern",
    "use_rslora", NULL};

/* Beginnings that leave the base's weights alone. Others (pissa, olora, corda, loftq) take their
 * first update out of them, each time the adapter is opened. */
static mixt_status check_beginning(const mixt_json_object *json)
{
    static const char *const known[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_object_get(json->json, "init_lora_weights");
    const char *word = json_string_value(value);
    bool good = value == NULL || json_is_null(value) || json_is_boolean(value);
    for (size_t i = 0; word != NULL && i < sizeof known / sizeof *known; i++) {
        good = good || strcmp(word, known[i]) == 0;
    }
    return good ? MIXT_OK
                : mixt_config_unsupported(json, "init_lora_weights",
                                          "'%.40s' changes the base model as well, which mixt does "
                                          "not do; PEFT's save_pretrained converts such adapters",
                                          word != NULL ? word : "(no text)");
}

static mixt_status read_pattern(const mixt_json_object *json, const char *key, const char *text,
                                mixt_peft_patterns *patterns)
{
    char problem[MIXT_PATTERN_PROBLEM];
    mixt_status status =
        mixt_name_pattern_create(text, &patterns->patterns[patterns->count], problem);
    if (status == MIXT_ERROR_FORMAT) {
        return mixt_json_fail(json, key, "the pattern '%.60s' %s", text, problem);
    }
    patterns->count += status == MIXT_OK;
    return status == MIXT_OK
               ? status
               : mixt_fail(json->error, MIXT_ERROR_MEMORY, "%s: no memory", json->file);
}

static mixt_status read_patterns(const mixt_json_object *json, const char *key,
                                 mixt_json_range range, mixt_peft_patterns *patterns)
{
    const json_t *all = json_object_get(json->json, key);
    if (all == NULL || json_is_null(all)) {
        return MIXT_OK;
    }
    if (!json_is_object(all) || json_object_size(all) > PATTERNS_MOST) {
        return mixt_json_fail(json, key, "must be an object of at most %d patterns", PATTERNS_MOST);
    }
    patterns->patterns = calloc(json_object_size(all) + 1, sizeof(mixt_name_pattern *));
    patterns->values = calloc(json_object_size(all) + 1, sizeof *patterns->values);
    if (patterns->patterns == NULL || patterns->values == NULL) {
        return mixt_fail(json->error, MIXT_ERROR_MEMORY, "%s: no memory", json->file);
    }
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)all, text, value)
    {
        double number = json_number_value(value);
        bool whole = !json_is_real(value) || range.low < 1;
        if (!json_is_number(value) || !whole || !(number >= range.low && number <= range.high)) {
            return mixt_json_fail(json, key, "the value of '%.60s' must be a number from %g to %g",
                                  text, range.low, range.high);
        }
        patterns->values[patterns->count] = number;
        MIXT_TRY(read_pattern(json, key, text, patterns));
    }
    return MIXT_OK;
}

static void free_patterns(mixt_peft_patterns *patterns)
{
    for (size_t i = 0; i < patterns->count; i++) {
        mixt_name_pattern_free(patterns->patterns[i]);
    }
    free(patterns->patterns);
    free(patterns->values);
}

static mixt_status read_config(mixt_peft *adapter, mixt_error *error)
{
    static const mixt_config_row none[] = {{.type = MIXT_FIELD_END}};
    static const mixt_json_range ranks = {1, RANK_MOST}, alphas = {-1e9, 1e9};
    MIXT_TRY(mixt_json_read(adapter->config, CONFIG_BYTES, &adapter->root, error));
    const mixt_json_object json = {adapter->root, adapter->config, "", error};
    const char *type = "";
    adapter->rank = 8; /* PEFT's own, where a file does not say them */
    adapter->alpha = 8;
    MIXT_TRY(mixt_json_string(&json, "peft_type", &type));
    if (strcmp(type, "LORA") != 0) {
        return mixt_config_unsupported(&json, "peft_type", "'%.40s' is not supported, only LORA is",
                                       type);
    }
    MIXT_TRY(mixt_json_integer_or(&json, "r", ranks, &adapter->rank));
    MIXT_TRY(mixt_json_number_or(&json, "lora_alpha", alphas, &adapter->alpha));
    MIXT_TRY(mixt_json_bool_or(&json, "use_rslora", &adapter->by_root));
    MIXT_TRY(read_patterns(&json, "rank_pattern", ranks, &adapter->ranks));
    MIXT_TRY(read_patterns(&json, "alpha_pattern", alphas, &adapter->alphas));
    MIXT_TRY(check_beginning(&json));
    return mixt_config_object_check(&json, none, harmless, "a LoRA adapter");
}

mixt_status mixt_peft_open(const char *folder, mixt_peft *adapter, mixt_error *error)
{
    *adapter = (mixt_peft){0};
    adapter->config = mixt_path_join(folder, MIXT_ADAPTER_CONFIG);
    adapter->weights = mixt_path_join(folder, MIXT_ADAPTER_WEIGHTS);
    if (adapter->config == NULL || adapter->weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (!mixt_path_exists(adapter->config)) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                         "%s: no such file; an adapter is a folder "
                         "with " MIXT_ADAPTER_CONFIG " and " MIXT_ADAPTER_WEIGHTS,
                         adapter->config);
    }
    MIXT_TRY(read_config(adapter, error));
    if (!mixt_path_exists(adapter->weights)) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                         "%s: no such file; adapters are read from safetensors alone",
                         adapter->weights);
    }
    return mixt_safetensors_open(adapter->weights, &adapter->file, error);
}

void mixt_peft_close(mixt_peft *adapter)
{
    mixt_safetensors_close(adapter->file);
    json_decref(adapter->root);
    free_patterns(&adapter->ranks);
    free_patterns(&adapter->alphas);
    free(adapter->config);
    free(adapter->weights);
    *adapter = (mixt_peft){0};
}

/* The value of the first pattern that matches, in the file's order. */
static mixt_status find_pattern(const mixt_peft *adapter, const mixt_peft_patterns *patterns,
                                const char *module, double *value, mixt_error *error)
{
    bool matches = false;
    for (size_t i = 0; i < patterns->count && !matches; i++) {
        mixt_status status = mixt_name_pattern_match(patterns->patterns[i], module, &matches);
        if (status != MIXT_OK) {
            return mixt_fail(error, status, "%s: %s", adapter->config,
                             status == MIXT_ERROR_MEMORY ? "no memory"
                                                         : "a pattern of modules takes too long");
        }
        *value = matches ? patterns->values[i] : *value;
    }
    return MIXT_OK;
}

mixt_status mixt_peft_scale(const mixt_peft *adapter, const char *module, int64_t *rank,
                            double *scale, mixt_error *error)
{
    double r = (double)adapter->rank, alpha = adapter->alpha;
    MIXT_TRY(find_pattern(adapter, &adapter->ranks, module, &r, error));
    MIXT_TRY(find_pattern(adapter, &adapter->alphas, module, &alpha, error));
    *rank = (int64_t)r;
    *scale = alpha / (adapter->by_root ? sqrt(r) : r);
    return MIXT_OK;
}

bool mixt_peft_targets_parameter(const mixt_peft *adapter, const char *name)
{
    size_t index;
    json_t *value;
    json_array_foreach(json_object_get(adapter->root, "target_parameters"), index, value)
    {
        const char *target = json_string_value(value);
        size_t length = strlen(name), end = target != NULL ? strlen(target) : length + 1;
        if (end <= length && strcmp(name + length - end, target) == 0 &&
            (end == length || name[length - end - 1] == '.')) {
            return true;
        }
    }
    return false;
}

static bool is_in(const char *folder, const char *name)
{
    char path[PATH_MAX]; /* longer ones cannot be opened */
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mixt_path_exists(path);
}

bool mixt_peft_is_in(const char *folder)
{
    return is_in(folder, MIXT_ADAPTER_CONFIG);
}

bool mixt_peft_is_cut(const char *folder)
{
    return !mixt_peft_is_in(folder) && is_in(folder, MIXT_ADAPTER_WEIGHTS);
}

mixt_status mixt_peft_check_output(const char *folder, mixt_error *error)
{
    bool model = is_in(folder, "config.json") || is_in(folder, "model.safetensors") ||
                 is_in(folder, "model.safetensors.index.json");
    return model || !mixt_peft_is_in(folder)
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "%s: holds an adapter, which would be applied to a model there", folder);
}
