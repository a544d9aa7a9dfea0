/* RoPE in config.json, as transformers 5 reads it: rope_parameters, or the older rope_scaling,
 * which hold what they say of rope_theta and partial_rotary_factor before the keys beside them.
 * Inside, every key is applied, known to mean nothing for the kind of scaling, or refused. */
#include "model/config_rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config_keys.h"

const char *const mixt_rope_keys[] = {"rope_theta",
                                      "rope_scaling",
                                      "rope_parameters",
                                      "partial_rotary_factor",
                                      "original_max_position_embeddings",
                                      NULL};

#define KIND(kind) (1U << MIXT_ROPE_##kind)
#define WITH_ORIGINAL (KIND(YARN) | KIND(LLAMA3) | KIND(LONGROPE))
#define EVERY_KIND (~0U)

static const struct {
    const char *name;
    mixt_rope_kind kind;
} kinds[] = {
    {"default", MIXT_ROPE_DEFAULT}, {"linear", MIXT_ROPE_LINEAR}, {"dynamic", MIXT_ROPE_DYNAMIC},
    {"yarn", MIXT_ROPE_YARN},       {"llama3", MIXT_ROPE_LLAMA3}, {"longrope", MIXT_ROPE_LONGROPE},
    {"su", MIXT_ROPE_LONGROPE}, /* as Phi-3's first files call it */
};

/* Keys inside the object: the kinds that read them, and whether others pass over them whatever they
 * say (as all kinds do with some); else only the neutral value is accepted. */
static const struct {
    const char *key;
    unsigned kinds;
    bool harmless;
    double neutral; /* NAN: none */
} inner_keys[] = {
    {"type", EVERY_KIND, false, NAN},
    {"rope_type", EVERY_KIND, false, NAN},
    {"rope_theta", EVERY_KIND, false, NAN},
    {"partial_rotary_factor", EVERY_KIND, false, NAN},
    {"factor", EVERY_KIND & ~KIND(DEFAULT), false, 1},
    {"original_max_position_embeddings", WITH_ORIGINAL | KIND(DYNAMIC), true, NAN},
    {"attention_factor", KIND(YARN) | KIND(LONGROPE), false, 1},
    {"beta_fast", KIND(YARN), true, NAN},
    {"beta_slow", KIND(YARN), true, NAN},
    {"mscale", KIND(YARN), false, 0},
    {"mscale_all_dim", KIND(YARN), false, 0},
    {"truncate", KIND(YARN), true, NAN},
    {"low_freq_factor", KIND(LLAMA3), false, NAN},
    {"high_freq_factor", KIND(LLAMA3), false, NAN},
    {"short_factor", KIND(LONGROPE), false, NAN},
    {"long_factor", KIND(LONGROPE), false, NAN},
    {"short_mscale", 0, false, 1}, /* Phi-3.5-MoE's attention factors */
    {"long_mscale", 0, false, 1},
    {"attn_factor", 0, false, 1}, /* of the first YaRN models' own code */
    {"extrapolation_factor", 0, false, 1},
    {"finetuned", 0, true, NAN},
};

/* ------------------------------------------------------------------------------------------ */
/* Reading                                                                                    */

/* An object of RoPE's and the config.json around it. */
typedef struct scope {
    const mixt_json_object *inner, *root;
    mixt_model_options *options;
} scope;

static mixt_status read_kind(const mixt_json_object *inner, mixt_rope_kind *kind)
{
    const char *type = NULL, *rope_type = NULL;
    MIXT_TRY(mixt_json_string_or(inner, "type", &type));
    MIXT_TRY(mixt_json_string_or(inner, "rope_type", &rope_type));
    const char *names[] = {rope_type, type};
    int found[] = {-1, -1};
    for (int n = 0; n < 2; n++) {
        for (size_t i = 0; names[n] != NULL && i < sizeof kinds / sizeof *kinds; i++) {
            found[n] = strcmp(names[n], kinds[i].name) == 0 ? (int)kinds[i].kind : found[n];
        }
        if (names[n] != NULL && found[n] < 0) {
            return mixt_config_unsupported(
                inner, n == 0 ? "rope_type" : "type",
                "'%.40s' is not supported, only default, linear, dynamic, yarn, "
                "llama3 and longrope are",
                names[n]);
        }
    }
    if (type != NULL && rope_type != NULL && found[0] != found[1]) {
        return mixt_config_unsupported(inner, "type", "'%.40s' is not what rope_type says, '%.40s'",
                                       type, rope_type);
    }
    *kind = rope_type != NULL ? (mixt_rope_kind)found[0]
            : type != NULL    ? (mixt_rope_kind)found[1]
                              : MIXT_ROPE_DEFAULT;
    return MIXT_OK;
}

/* Every key is read by this kind, or changes nothing. */
static mixt_status check_keys(const mixt_json_object *inner, mixt_rope_kind kind)
{
    const char *key;
    json_t *value;
    size_t count = sizeof inner_keys / sizeof *inner_keys;
    json_object_foreach((json_t *)inner->json, key, value)
    {
        size_t i = 0;
        while (i < count && strcmp(inner_keys[i].key, key) != 0) {
            i++;
        }
        if (json_is_null(value) ||
            (i < count && ((inner_keys[i].kinds & (1U << kind)) != 0 || inner_keys[i].harmless))) {
            continue;
        }
        if (i == count || isnan(inner_keys[i].neutral)) {
            return mixt_config_unsupported(inner, key, "is not supported");
        }
        if (!json_is_number(value) || json_number_value(value) != inner_keys[i].neutral) {
            return mixt_config_unsupported(
                inner, key, "only %g is supported for this kind of scaling", inner_keys[i].neutral);
        }
    }
    return MIXT_OK;
}

/* The key beside the object (Phi, MiniCPM), else in it, else the context of the model. */
static mixt_status read_original(const scope *s, int *original)
{
    int64_t value = s->options->context_length;
    bool beside = mixt_json_has(s->root, "original_max_position_embeddings");
    MIXT_TRY(mixt_json_integer_or(beside ? s->root : s->inner, "original_max_position_embeddings",
                                  (mixt_json_range){1, 1 << 24}, &value));
    *original = (int)value;
    return MIXT_OK;
}

/* Required; null where the kind takes the ratio of the contexts for it. */
static mixt_status read_factor(const scope *s, double low, bool ratio, double *factor)
{
    if (ratio && !mixt_json_has(s->inner, "factor")) {
        *factor = (double)s->options->context_length / s->options->rope.original_context;
        return MIXT_OK;
    }
    return mixt_json_number(s->inner, "factor", (mixt_json_range){low, 1e6}, factor);
}

static mixt_status read_yarn(const scope *s)
{
    mixt_rope_options *rope = &s->options->rope;
    bool truncate = true;
    mixt_json_range positive = {1e-6, 1e6}, any = {0, 1e6};
    bool null = json_is_null(json_object_get(s->inner->json, "factor"));
    MIXT_TRY(read_original(s, &rope->original_context));
    MIXT_TRY(read_factor(s, 1, null, &rope->factor));
    MIXT_TRY(mixt_json_number_or(s->inner, "beta_fast", any, &rope->beta_fast));
    MIXT_TRY(mixt_json_number_or(s->inner, "beta_slow", any, &rope->beta_slow));
    MIXT_TRY(mixt_json_number_or(s->inner, "mscale", any, &rope->mscale));
    MIXT_TRY(mixt_json_number_or(s->inner, "mscale_all_dim", any, &rope->mscale_all_dim));
    MIXT_TRY(mixt_json_number_or(s->inner, "attention_factor", positive, &rope->attention_factor));
    MIXT_TRY(mixt_json_bool_or(s->inner, "truncate", &truncate));
    /* where null is what Python takes for false */
    rope->no_truncate = !truncate || json_is_null(json_object_get(s->inner->json, "truncate"));
    return MIXT_OK;
}

static mixt_status read_llama3(const scope *s)
{
    mixt_rope_options *rope = &s->options->rope;
    mixt_json_range positive = {1e-6, 1e6};
    MIXT_TRY(read_original(s, &rope->original_context));
    MIXT_TRY(read_factor(s, 1, false, &rope->factor));
    MIXT_TRY(mixt_json_number(s->inner, "low_freq_factor", positive, &rope->low_frequency_factor));
    return mixt_json_number(s->inner, "high_freq_factor", positive, &rope->high_frequency_factor);
}

static mixt_status read_divisors(const scope *s, const char *key, float *divisors)
{
    const json_t *list;
    int pairs = s->options->rope.dims / 2;
    MIXT_TRY(mixt_json_array(s->inner, key, &list));
    if (pairs > MIXT_ROPE_PAIRS_MAX) {
        return mixt_config_unsupported(s->inner, key, "only %d pairs of a head are supported",
                                       MIXT_ROPE_PAIRS_MAX);
    }
    if (json_array_size(list) != (size_t)pairs) {
        return mixt_json_fail(s->inner, key, "has %zu factors for %d rotated pairs of a head",
                              json_array_size(list), pairs);
    }
    for (int i = 0; i < pairs; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        divisors[i] = (float)json_number_value(value);
        if (!json_is_number(value) || !(divisors[i] > 0) || !isfinite(divisors[i])) {
            return mixt_json_fail(s->inner, key, "factor %d is not a number above 0", i);
        }
    }
    s->options->rope.divisors = pairs;
    return MIXT_OK;
}

static mixt_status read_longrope(const scope *s)
{
    mixt_rope_options *rope = &s->options->rope;
    MIXT_TRY(read_original(s, &rope->original_context));
    MIXT_TRY(read_factor(s, 1e-6, true, &rope->factor));
    MIXT_TRY(mixt_json_number_or(s->inner, "attention_factor", (mixt_json_range){1e-6, 1e6},
                                 &rope->attention_factor));
    MIXT_TRY(read_divisors(s, "short_factor", rope->short_divisors));
    return read_divisors(s, "long_factor", rope->long_divisors);
}

/* In the original context dynamic scaling does nothing, so it must be the model's. */
static mixt_status read_dynamic(const scope *s)
{
    int64_t original = s->options->context_length;
    MIXT_TRY(mixt_json_integer_or(s->inner, "original_max_position_embeddings",
                                  (mixt_json_range){1, 1 << 24}, &original));
    if (original != s->options->context_length) {
        return mixt_config_unsupported(
            s->inner, "original_max_position_embeddings",
            "only max_position_embeddings, %d, is supported with dynamic scaling",
            s->options->context_length);
    }
    return read_factor(s, 1, false, &s->options->rope.factor);
}

/* partial_rotary_factor: the beginning of each head that is rotated. */
static mixt_status read_part(const mixt_json_object *json, mixt_model_options *options)
{
    static const char key[] = "partial_rotary_factor";
    double part = 1;
    MIXT_TRY(mixt_json_number(json, key, (mixt_json_range){0, 1}, &part));
    if (options->attention.latent_size > 0) {
        return part == 1
                   ? MIXT_OK
                   : mixt_config_unsupported(json, key, "only 1 is supported for latent attention");
    }
    int head = options->head_dim > 0 || options->heads == 0 ? options->head_dim
                                                            : options->hidden_size / options->heads;
    options->rope.dims = (int)(head * part);
    if (options->rope.dims < 2 || options->rope.dims % 2 != 0) {
        return mixt_config_unsupported(json, key,
                                       "%d of %d values of a head cannot be rotated in pairs",
                                       options->rope.dims, head);
    }
    return MIXT_OK;
}

/* What an object says, or only the keys beside it where there is none (inner NULL). */
static mixt_status read_scope(const scope *s)
{
    static const char part[] = "partial_rotary_factor";
    mixt_model_options filled;
    bool inside = s->inner != NULL && mixt_json_has(s->inner, part);
    if (inside || mixt_json_has(s->root, part)) {
        MIXT_TRY(read_part(inside ? s->inner : s->root, s->options));
    }
    if (s->inner == NULL) {
        return MIXT_OK;
    }
    mixt_rope_options *rope = &s->options->rope;
    filled = *s->options;
    mixt_model_fill(&filled);
    bool own_dims = rope->dims != 0;
    *rope = (mixt_rope_options){.dims = filled.rope.dims, .interleaved = rope->interleaved};
    MIXT_TRY(read_kind(s->inner, &rope->kind));
    MIXT_TRY(check_keys(s->inner, rope->kind));
    MIXT_TRY(mixt_json_number_or(s->inner, "rope_theta", (mixt_json_range){1, 1e12},
                                 &s->options->rope_theta));
    switch (rope->kind) {
    case MIXT_ROPE_LINEAR:
        MIXT_TRY(read_factor(s, 1e-6, false, &rope->factor));
        break;
    case MIXT_ROPE_DYNAMIC:
        MIXT_TRY(read_dynamic(s));
        break;
    case MIXT_ROPE_YARN:
        MIXT_TRY(read_yarn(s));
        break;
    case MIXT_ROPE_LLAMA3:
        MIXT_TRY(read_llama3(s));
        break;
    case MIXT_ROPE_LONGROPE:
        MIXT_TRY(read_longrope(s));
        break;
    case MIXT_ROPE_DEFAULT:
    default:
        break;
    }
    rope->dims = own_dims ? rope->dims : 0;
    return MIXT_OK;
}

/* One object for each kind of layer: only where all say the same. */
static mixt_status take_layers(const mixt_json_object *json, const char *key, const json_t **object)
{
    const char *name, *first = NULL;
    json_t *value;
    const json_t *nested = *object;
    json_object_foreach((json_t *)nested, name, value)
    {
        if (!json_is_object(value)) {
            continue;
        }
        if (first == NULL) {
            first = name;
            *object = value;
        } else if (!json_equal(*object, value)) {
            return mixt_config_unsupported(json, key,
                                           "%.60s and %.60s differ, one RoPE for all layers is "
                                           "supported",
                                           first, name);
        }
    }
    if (first != NULL && json_object_size(nested) > 1) {
        json_object_foreach((json_t *)nested, name, value)
        {
            if (!json_is_object(value)) {
                return mixt_config_unsupported(
                    json, key, "%.60s beside objects for layers is not supported", name);
            }
        }
    }
    return MIXT_OK;
}

/* The object of this key; NULL: none. */
static mixt_status find_object(const mixt_json_object *json, const char *key, const json_t **object)
{
    *object = NULL;
    if (!mixt_json_has(json, key)) {
        return MIXT_OK;
    }
    *object = json_object_get(json->json, key);
    return json_is_object(*object) ? take_layers(json, key, object)
                                   : mixt_json_fail(json, key, "is not an object");
}

static mixt_status read_object(const mixt_json_object *json, const char *key, const json_t *object,
                               mixt_model_options *options)
{
    char place[32];
    snprintf(place, sizeof place, "%s.", key);
    mixt_json_object inner = {object, json->file, place, json->error};
    scope s = {object == NULL ? NULL : &inner, json, options};
    return read_scope(&s);
}

mixt_status mixt_rope_read(const mixt_json_object *json, mixt_model_options *options)
{
    const json_t *parameters, *scaling;
    MIXT_TRY(find_object(json, "rope_parameters", &parameters));
    MIXT_TRY(find_object(json, "rope_scaling", &scaling));
    scaling = json_object_size(scaling) > 0 ? scaling : NULL;
    if (scaling == NULL || json_object_size(parameters) == 0) {
        return scaling != NULL ? read_object(json, "rope_scaling", scaling, options)
                               : read_object(json, "rope_parameters", parameters, options);
    }
    mixt_model_options other = *options;
    MIXT_TRY(read_object(json, "rope_parameters", parameters, options));
    MIXT_TRY(read_object(json, "rope_scaling", scaling, &other));
    return mixt_rope_same(options, &other)
               ? MIXT_OK
               : mixt_config_unsupported(json, "rope_scaling",
                                         "does not say the same as rope_parameters");
}

/* ------------------------------------------------------------------------------------------ */
/* Writing                                                                                    */

static void put(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, json_real(value));
}

static void put_positive(json_t *object, const char *key, double value)
{
    if (value > 0) {
        put(object, key, value);
    }
}

static void put_list(json_t *object, const char *key, const float *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(list, json_real((double)values[i]));
    }
    json_object_set_new(object, key, list);
}

static void put_kind(json_t *object, const mixt_model_options *options)
{
    const mixt_rope_options *rope = &options->rope;
    if (rope->kind != MIXT_ROPE_LINEAR && rope->kind != MIXT_ROPE_DYNAMIC) {
        json_object_set_new(object, "original_max_position_embeddings",
                            json_integer(rope->original_context));
    }
    if (rope->kind == MIXT_ROPE_YARN) {
        put(object, "beta_fast", rope->beta_fast);
        put(object, "beta_slow", rope->beta_slow);
        put_positive(object, "mscale", rope->mscale);
        put_positive(object, "mscale_all_dim", rope->mscale_all_dim);
        put_positive(object, "attention_factor", rope->attention_factor);
        if (rope->no_truncate) {
            json_object_set_new(object, "truncate", json_false());
        }
    } else if (rope->kind == MIXT_ROPE_LLAMA3) {
        put(object, "low_freq_factor", rope->low_frequency_factor);
        put(object, "high_freq_factor", rope->high_frequency_factor);
    } else if (rope->kind == MIXT_ROPE_LONGROPE) {
        /* said outright: transformers 4 and 5 take different factors for it */
        put(object, "attention_factor", mixt_rope_factor(options));
        put_list(object, "short_factor", rope->short_divisors, rope->divisors);
        put_list(object, "long_factor", rope->long_divisors, rope->divisors);
    }
}

/* A part of a head that the family's class does not rotate by itself has no key: only our own
 * family holds it. */
void mixt_rope_write(const mixt_family *family, const mixt_model_options *options, json_t *root)
{
    const mixt_rope_options *rope = &options->rope;
    json_t *object = json_null();
    if (rope->kind != MIXT_ROPE_DEFAULT) {
        const char *name = kinds[rope->kind].name;
        object = json_pack("{s:s, s:s}", "type", name, "rope_type", name);
        put_positive(object, "factor", rope->factor);
        put_kind(object, options);
    } else if (family->constants.rope.kind != MIXT_ROPE_DEFAULT) {
        object = json_pack("{s:s}", "rope_type", "default"); /* nothing would be the family's */
    }
    json_object_set_new(root, "rope_scaling", object);
    if (rope->kind == MIXT_ROPE_LONGROPE) { /* where transformers 4 looks for it */
        json_object_set_new(root, "original_max_position_embeddings",
                            json_integer(rope->original_context));
    }
}
