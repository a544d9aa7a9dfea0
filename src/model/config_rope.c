/* RoPE and its scaling in config.json: rope_scaling of older files, rope_parameters of newer ones.
 */
#include "model/config_rope.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json_t *mixt_rope_scaling_json(const mixt_rope_options *rope)
{
    if (rope->factor == 0) {
        return json_null();
    }
    json_t *object =
        json_pack("{s:s, s:s, s:f, s:i, s:f, s:f}", "type", "yarn", "rope_type", "yarn", "factor",
                  rope->factor, "original_max_position_embeddings", rope->original_context,
                  "beta_fast", rope->beta_fast, "beta_slow", rope->beta_slow);
    if (rope->mscale > 0) {
        json_object_set_new(object, "mscale", json_real(rope->mscale));
    }
    if (rope->mscale_all_dim > 0) {
        json_object_set_new(object, "mscale_all_dim", json_real(rope->mscale_all_dim));
    }
    if (rope->no_truncate) {
        json_object_set_new(object, "truncate", json_false());
    }
    return object;
}

static mixt_status unsupported(const mixt_json_object *json, const char *key, const char *format,
                               ...) __attribute__((format(printf, 3, 4)));

static mixt_status unsupported(const mixt_json_object *json, const char *key, const char *format,
                               ...)
{
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return mixt_fail(json->error, MIXT_ERROR_UNSUPPORTED, "%s: %s%s: %s", json->file, json->place,
                     key, text);
}

static mixt_status read_yarn(const mixt_json_object *json, mixt_rope_options *rope, int context)
{
    int64_t original = context;
    bool truncate = !rope->no_truncate;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    mixt_json_range positive = {1e-6, 1e6}, any = {0, 1e6};
    MIXT_TRY(mixt_json_number(json, "factor", (mixt_json_range){1, 1e6}, &rope->factor));
    MIXT_TRY(mixt_json_integer_or(json, "original_max_position_embeddings",
                                  (mixt_json_range){1, 1 << 24}, &original));
    MIXT_TRY(mixt_json_number_or(json, "beta_fast", positive, &rope->beta_fast));
    MIXT_TRY(mixt_json_number_or(json, "beta_slow", positive, &rope->beta_slow));
    MIXT_TRY(mixt_json_number_or(json, "mscale", any, &rope->mscale));
    MIXT_TRY(mixt_json_number_or(json, "mscale_all_dim", any, &rope->mscale_all_dim));
    MIXT_TRY(mixt_json_bool_or(json, "truncate", &truncate));
    rope->original_context = (int)original;
    rope->no_truncate = !truncate;
    if (mixt_json_has(json, "attention_factor")) {
        double factor;
        MIXT_TRY(mixt_json_number(json, "attention_factor", any, &factor));
        if (fabs(factor - mixt_rope_factor(rope)) > 1e-6) {
            return unsupported(json, "attention_factor", "only %g is supported",
                               mixt_rope_factor(rope));
        }
    }
    return MIXT_OK;
}

/* rope_scaling, or rope_parameters of newer files, which hold rope_theta too. */
mixt_status mixt_rope_scaling_read(const mixt_json_object *json, mixt_model_options *options)
{
    const char *key = mixt_json_has(json, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    if (!mixt_json_has(json, key)) {
        return MIXT_OK;
    }
    char place[32];
    snprintf(place, sizeof place, "%s.", key);
    mixt_json_object inner = {json_object_get(json->json, key), json->file, place, json->error};
    if (!json_is_object(inner.json)) {
        return mixt_json_fail(json, key, "is not an object");
    }
    const char *type = "default";
    const char *name = mixt_json_has(&inner, "rope_type") ? "rope_type" : "type";
    MIXT_TRY(mixt_json_string_or(&inner, name, &type));
    if (!mixt_json_has(json, "rope_theta")) {
        MIXT_TRY(mixt_json_number_or(&inner, "rope_theta", (mixt_json_range){1, 1e12},
                                     &options->rope_theta));
    }
    if (strcmp(type, "default") == 0) {
        return MIXT_OK;
    }
    if (strcmp(type, "yarn") != 0) {
        return unsupported(&inner, name, "'%s' is not supported, only yarn is", type);
    }
    return read_yarn(&inner, &options->rope, options->context_length);
}
