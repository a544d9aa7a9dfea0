/* Keys of a config.json. A key that changes numbers is applied or refused by name, never passed
 * over: what no table names is refused unless its value is neutral. Neutral are null, false, 0, ""
 * and what is empty: a model that has a feature says so with a number, a word or true. Keys for
 * which that is wrong, since 1 or true is what changes nothing, stand in shared_fixed. */
#include "model/config_keys.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "formats/json.h"
#include "model/config_rope.h"

/* What every config.json may hold and no logit depends on: bookkeeping of transformers, ids and
 * texts of special tokens (the tokenizer's business), parameters of generation that old files keep
 * here, training. pretraining_tp cut products into slices, whose sums are the same. */
static const char *const shared_harmless[] = {
    "architectures",
    "model_type",
    "auto_map",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "transformers.js_config",
    "tokenizer_class",
    "processor_class",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "attn_implementation",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    "flash_attn",
    "use_liger",
    "chunk_size_feed_forward",
    "bf16",
    "fp16",
    "fp32",
    "name_or_path",
    "model_name",
    "license",
    "library_name",
    "trust_remote_code",
    "transformers_weights",
    "model_max_length",
    "tokenizer_model_max_length",
    "padding_side",
    "tokenizer_padding_side",
    "return_dict",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "tf_legacy_loss",
    "finetuning_task",
    "problem_type",
    "task_specific_params",
    "id2label",
    "label2id",
    "is_decoder",
    "prefix",
    "unsloth_fixed",
    "unsloth_version",
    "pretraining_tp",
    "ep_size",
    "gradient_checkpointing",
    "mixt",
    "quantization_config",
    /* tokens */
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "sep_token",
    "cls_token",
    "mask_token",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "sep_token_id",
    "cls_token_id",
    "mask_token_id",
    "decoder_start_token_id",
    "max_sequence_length",
    /* generation */
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    /* training */
    "initializer_range",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "neftune_noise_alpha",
    "gradient_checkpointing_kwargs",
    "loss_type",
    "router_jitter_noise",
    "router_aux_loss_coef",
    "router_z_loss_coef",
    "aux_loss_alpha",
    "seq_aux",
    NULL,
};

/* Of any family whose own tables do not name them: the value with which they change nothing. */
static const char *const shared_fixed[] = {
    "residual_multiplier",
    "1",
    "embedding_multiplier",
    "1",
    "logits_scaling",
    "1",
    "logit_scale",
    "1",
    "embedding_scale",
    "1",
    "scale_emb",
    "1",
    "routed_scaling_factor",
    "1",
    "rotary_pct",
    "1",
    "rotary_percent",
    "1",
    "moe_layer_freq",
    "1",
    "decoder_sparse_step",
    "1",
    "n_group",
    "1",
    "topk_group",
    "1",
    "is_causal",
    "true",
    "use_rope",
    "true",
    "use_rotary",
    "true",
    "use_rmsnorm",
    "true",
    "scale_attn_weights",
    "true",
    NULL,
};

mixt_status mixt_config_unsupported(const mixt_json_object *json, const char *key,
                                    const char *format, ...)
{
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(text, sizeof text, format, arguments);
    va_end(arguments);
    return mixt_fail(json->error, MIXT_ERROR_UNSUPPORTED, "%s: %s%.80s: %s", json->file,
                     json->place, key, text);
}

/* ------------------------------------------------------------------------------------------ */
/* Values                                                                                     */

static bool is_number(const mixt_config_row *row)
{
    return row->type == MIXT_FIELD_NUMBER || row->type == MIXT_FIELD_NULL_NUMBER ||
           row->type == MIXT_FIELD_TRAINING || row->type == MIXT_FIELD_PART_OF_HEAD;
}

/* The number that a value stands for: itself, or what a string spells as JSON would; NULL: none.
 * The result is a new reference. */
static json_t *spelled_number(const json_t *value)
{
    if (json_is_number(value)) {
        return json_incref((json_t *)value);
    }
    if (!json_is_string(value)) {
        return NULL;
    }
    json_t *number =
        mixt_json_load(json_string_value(value), json_string_length(value), JSON_DECODE_ANY, NULL);
    if (!json_is_number(number)) {
        json_decref(number);
        return NULL;
    }
    return number;
}

/* The same for rows of whole numbers: a real without a fraction becomes an integer. */
static json_t *spelled_integer(const json_t *value)
{
    json_t *number = spelled_number(value);
    double real = json_number_value(number);
    if (json_is_real(number) && real == floor(real) && fabs(real) < 9007199254740992.0) {
        json_decref(number);
        return json_integer((json_int_t)real);
    }
    return number;
}

static mixt_status read_null(const mixt_json_object *json, const mixt_config_row *row,
                             const char *key, double *value)
{
    switch (row->type) {
    case MIXT_FIELD_TRAINING:
    case MIXT_FIELD_LENGTH:
        *value = row->fallback;
        return MIXT_OK;
    case MIXT_FIELD_BOOL:
    case MIXT_FIELD_SWITCH:
    case MIXT_FIELD_NULL_INTEGER:
    case MIXT_FIELD_NULL_NUMBER:
    case MIXT_FIELD_BY_HEADS:
    case MIXT_FIELD_FROM_ONE:
        *value = 0;
        return MIXT_OK;
    case MIXT_FIELD_INTEGER:
    case MIXT_FIELD_NUMBER:
    case MIXT_FIELD_LIST_INTEGER:
    case MIXT_FIELD_LESS_POSITION:
    case MIXT_FIELD_PART_OF_HEAD:
    case MIXT_FIELD_END:
    default:
        return mixt_json_fail(json, key, "must not be null");
    }
}

static mixt_status read_bool(const mixt_json_object *json, const char *key, double *value)
{
    const json_t *given = json_object_get(json->json, key);
    double number = json_number_value(given);
    if (json_is_number(given) && (number == 0 || number == 1)) {
        *value = number;
        return MIXT_OK;
    }
    bool flag;
    MIXT_TRY(mixt_json_bool(json, key, &flag));
    *value = flag ? 1 : 0;
    return MIXT_OK;
}

mixt_status mixt_config_value(const mixt_json_object *json, const mixt_config_row *row,
                              const char *key, double *value)
{
    const json_t *given = json_object_get(json->json, key);
    mixt_json_range range = {row->low, row->high};
    if (json_is_null(given)) {
        return read_null(json, row, key, value);
    }
    if (row->type == MIXT_FIELD_BOOL || row->type == MIXT_FIELD_SWITCH) {
        return read_bool(json, key, value);
    }
    if (row->type == MIXT_FIELD_LIST_INTEGER && json_array_size(given) == 1) {
        given = json_array_get(given, 0);
    }
    mixt_json_object plain = *json;
    mixt_json_begin();
    json_t *number = is_number(row) ? spelled_number(given) : spelled_integer(given);
    json_t *alone = number != NULL ? json_pack("{s:o}", key, number) : NULL;
    if (mixt_json_failed()) {
        json_decref(alone);
        return mixt_fail(json->error, MIXT_ERROR_MEMORY, "%s: no memory", json->file);
    }
    if (alone != NULL) {
        plain.json = alone;
    }
    mixt_status status;
    if (is_number(row)) {
        status = mixt_json_number(&plain, key, range, value);
    } else {
        int64_t whole = 0;
        status = mixt_json_integer(&plain, key, range, &whole);
        *value = (double)whole;
    }
    json_decref(alone);
    return status;
}

/* The object that holds a key ("a.b": a, which may be missing) and the key inside it. */
typedef struct spot {
    mixt_json_object object;
    const char *key;
    char place[72];
} spot;

static void find_spot(const mixt_json_object *root, const char *key, spot *at)
{
    const char *dot = strchr(key, '.');
    at->object = *root;
    at->key = key;
    if (dot != NULL) {
        snprintf(at->place, sizeof at->place, "%.*s", (int)(dot - key), key);
        at->object.json = json_object_get(root->json, at->place);
        snprintf(at->place, sizeof at->place, "%.*s", (int)(dot - key + 1), key);
        at->object.place = at->place;
        at->key = dot + 1;
    }
}

static bool has_key(void *user, const char *key)
{
    spot at;
    find_spot(user, key, &at);
    return json_object_get(at.object.json, at.key) != NULL;
}

static mixt_status read_key(void *user, const mixt_config_row *row, const char *key, double *value)
{
    spot at;
    find_spot(user, key, &at);
    return mixt_config_value(&at.object, row, at.key, value);
}

mixt_status mixt_config_rows_read(const mixt_json_object *json, const mixt_family *family,
                                  mixt_model_options *options)
{
    mixt_json_object object = *json;
    mixt_row_source source = {MIXT_FORM_FOLDER, &object, has_key, read_key};
    return mixt_rows_read(family->config, &source, options);
}

/* ------------------------------------------------------------------------------------------ */
/* Values that are fixed                                                                      */

static bool is_neutral(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0;
    case JSON_TRUE:
    default:
        return false;
    }
}

/* Numbers by value, 0 and 1 as false and true; null where what is expected is nothing too. */
static bool is_same(const json_t *value, const json_t *expected)
{
    if (json_is_null(value)) {
        return is_neutral(expected);
    }
    if (json_is_boolean(expected) && json_is_number(value)) {
        return json_number_value(value) == (json_is_true(expected) ? 1 : 0);
    }
    if (json_is_number(expected)) {
        json_t *number = spelled_number(value);
        bool same = number != NULL && json_number_value(number) == json_number_value(expected);
        json_decref(number);
        return same;
    }
    return json_equal(value, expected) != 0;
}

static mixt_status check_fixed(const mixt_json_object *json, const char *key, const char *text,
                               const char *title)
{
    bool any = false, list = false;
    for (; strchr("?|-", *key) != NULL; key++) {
        any = any || *key == '?';
        list = list || *key == '|';
    }
    spot at;
    find_spot(json, key, &at);
    const json_t *value = json_object_get(at.object.json, at.key);
    if (any || value == NULL) {
        return MIXT_OK;
    }
    mixt_json_begin();
    json_t *expected = mixt_json_load(text, strlen(text), JSON_DECODE_ANY, NULL);
    bool same = !list && is_same(value, expected);
    for (size_t i = 0; list && i < json_array_size(expected) && !same; i++) {
        same = is_same(value, json_array_get(expected, i));
    }
    json_decref(expected);
    if (mixt_json_failed()) {
        return mixt_fail(json->error, MIXT_ERROR_MEMORY, "%s: no memory", json->file);
    }
    return same ? MIXT_OK
                : mixt_config_unsupported(&at.object, at.key, "only %s is supported for %s", text,
                                          title);
}

/* Names of one thing must not say two. */
static mixt_status check_names(const mixt_json_object *json, const mixt_family *family,
                               const mixt_model_options *options)
{
    for (const mixt_config_row *row = family->config; row->type != MIXT_FIELD_END; row++) {
        mixt_json_object object = *json;
        if (row->key == NULL || mixt_row_written(family->config, row, MIXT_FORM_FOLDER) ||
            !has_key(&object, row->key)) {
            continue;
        }
        double value;
        mixt_model_options other = *options;
        MIXT_TRY(read_key(&object, row, row->key, &value));
        mixt_row_set(row, &other, value);
        if (mixt_row_get(row, &other) != mixt_row_get(row, options)) {
            return mixt_json_fail(json, row->key, "%g, but another name of the same thing says %g",
                                  value, mixt_row_get(row, options));
        }
    }
    return MIXT_OK;
}

/* Kinds of attention, layer by layer, as transformers lists them. */
static mixt_status check_layer_types(const mixt_json_object *json,
                                     const mixt_model_options *options)
{
    const json_t *types = json_object_get(json->json, "layer_types");
    int window = options->attention.window, period = options->attention.window_period;
    if (types == NULL || json_is_null(types)) {
        return MIXT_OK;
    }
    if (!json_is_array(types)) {
        return mixt_json_fail(json, "layer_types", "is not a list");
    }
    if (json_array_size(types) != (size_t)options->layers) {
        return mixt_json_fail(json, "layer_types", "has %zu entries for %d layers",
                              json_array_size(types), options->layers);
    }
    for (int i = 0; i < options->layers; i++) {
        bool windowed = window > 0 && (period <= 1 || i % period == 0);
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        const char *expected = windowed ? "sliding_attention" : "full_attention";
        if (type == NULL || strcmp(type, expected) != 0) {
            char key[32];
            snprintf(key, sizeof key, "layer_types[%d]", i);
            return mixt_config_unsupported(json, key, "only \"%s\" is supported here", expected);
        }
    }
    return MIXT_OK;
}

/* Weights that are stored in another way than as numbers. */
static mixt_status check_quantisation(const mixt_json_object *json)
{
    const json_t *value = json_object_get(json->json, "quantization_config");
    if (value == NULL || is_neutral(value)) {
        return MIXT_OK;
    }
    const char *method = json_string_value(json_object_get(value, "quant_method"));
    if (method != NULL && (strcmp(method, "fp8") == 0 || strcmp(method, "mxfp4") == 0)) {
        return MIXT_OK;
    }
    return mixt_config_unsupported(json, "quantization_config.quant_method",
                                   "'%.40s' is not supported, only fp8 and mxfp4 are",
                                   method != NULL ? method : "(none)");
}

/* ------------------------------------------------------------------------------------------ */
/* Keys that nobody knows                                                                     */

static bool in_names(const char *const *names, const char *key)
{
    for (; names != NULL && *names != NULL; names++) {
        if (strcmp(*names, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Is it a key, or the object that holds one? */
static bool in_rows(const mixt_config_row *rows, const char *prefix, const char *key)
{
    size_t before = strlen(prefix), length = strlen(key);
    for (; rows->type != MIXT_FIELD_END; rows++) {
        if (rows->key != NULL && strncmp(rows->key, prefix, before) == 0 &&
            strncmp(rows->key + before, key, length) == 0 &&
            (rows->key[before + length] == '\0' || rows->key[before + length] == '.')) {
            return true;
        }
    }
    return false;
}

static bool in_fixed(const char *const *fixed, const char *prefix, const char *key)
{
    size_t before = strlen(prefix);
    for (; *fixed != NULL; fixed += 2) {
        const char *name = *fixed + strspn(*fixed, "?|-");
        if (strncmp(name, prefix, before) == 0 && strcmp(name + before, key) == 0) {
            return true;
        }
    }
    return false;
}

static mixt_status refuse_unknown(const mixt_json_object *json, const char *key,
                                  const json_t *value, const char *title)
{
    if (is_neutral(value)) {
        return MIXT_OK;
    }
    mixt_json_begin();
    char *text = mixt_json_text(value, JSON_ENCODE_ANY | JSON_COMPACT);
    mixt_status status =
        mixt_config_unsupported(json, key,
                                "%.60s: not known to mixt for %s, and it could change "
                                "what is computed",
                                text != NULL ? text : "", title);
    free(text);
    return status;
}

mixt_status mixt_config_object_check(const mixt_json_object *json, const mixt_config_row *rows,
                                     const char *const *names, const char *title)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json->json, key, value)
    {
        if (!in_rows(rows, "", key) && !in_names(names, key)) {
            MIXT_TRY(refuse_unknown(json, key, value, title));
        }
    }
    return MIXT_OK;
}

/* Keys of the root (prefix ""), or of an object that rows look into (prefix "a."). */
static mixt_status check_known(const mixt_json_object *json, const mixt_family *family)
{
    const char *key;
    json_t *value;
    bool root = json->place[0] == '\0';
    json_object_foreach((json_t *)json->json, key, value)
    {
        bool row = in_rows(family->config, json->place, key);
        if (row && json_is_object(value)) {
            char place[72];
            snprintf(place, sizeof place, "%.60s.", key);
            mixt_json_object inner = {value, json->file, place, json->error};
            MIXT_TRY(check_known(&inner, family));
        }
        bool known = row || in_fixed(family->fixed, json->place, key);
        known =
            known || (root && (in_names(family->harmless, key) || key[0] == '_' ||
                               strstr(key, "dropout") != NULL || /* in training alone */
                               in_names(shared_harmless, key) || in_names(mixt_rope_keys, key) ||
                               strcmp(key, "layer_types") == 0));
        if (!known && root && in_fixed(shared_fixed, "", key)) {
            continue; /* check_shared */
        }
        if (!known) {
            MIXT_TRY(refuse_unknown(json, key, value, family->title));
        }
    }
    return MIXT_OK;
}

static mixt_status check_shared(const mixt_json_object *json, const mixt_family *family)
{
    for (int i = 0; shared_fixed[i] != NULL; i += 2) {
        const json_t *value = json_object_get(json->json, shared_fixed[i]);
        if (value != NULL && !json_is_null(value) &&
            !in_rows(family->config, "", shared_fixed[i]) &&
            !in_fixed(family->fixed, "", shared_fixed[i])) {
            MIXT_TRY(check_fixed(json, shared_fixed[i], shared_fixed[i + 1], family->title));
        }
    }
    return MIXT_OK;
}

mixt_status mixt_config_keys_check(const mixt_json_object *json, const mixt_family *family,
                                   const mixt_model_options *options)
{
    for (int i = 0; family->fixed[i] != NULL; i += 2) {
        MIXT_TRY(check_fixed(json, family->fixed[i], family->fixed[i + 1], family->title));
    }
    MIXT_TRY(check_shared(json, family));
    MIXT_TRY(check_names(json, family, options));
    MIXT_TRY(check_layer_types(json, options));
    MIXT_TRY(check_quantisation(json));
    return check_known(json, family);
}
