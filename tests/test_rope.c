/* RoPE's kinds against transformers (tests/reference/rope.py): the frequencies of published
 * configurations, and logits of the tiny models below tests/fixtures/families with other keys in
 * their config.json, as folders, as GGUF files and as folders again. Then what is refused. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/model.h"
#include "quant/quant.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/"
#define TOKENS 24
#define FIRST 10 /* tokens of a prompt, the others one by one behind it */
#define VOCAB 96
#define LEAST_TABLES 17
#define LEAST_MODELS 46
#define LEAST_FILES 25

static json_t *read_fixture(const char *name)
{
    json_t *root = json_load_file(name, 0, NULL);
    if (root == NULL) {
        fail_msg("%s is not there", name);
    }
    return root;
}

static void write_json(const char *path, const json_t *json)
{
    char *text = json_dumps(json, JSON_REAL_PRECISION(17));
    write_file(path, text, strlen(text));
    free(text);
}

static const char *string_of(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

/* ------------------------------------------------------------------------------------------ */
/* Frequencies                                                                                */

static void frequencies_are_transformers(void **state)
{
    (void)state;
    json_t *cases = read_fixture(FIXTURES "rope/tables.json"), *one;
    char *path = scratch_path("config.json");
    size_t index;
    assert_true(json_array_size(cases) >= LEAST_TABLES);
    json_array_foreach(cases, index, one)
    {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model_options options;
        write_json(path, json_object_get(one, "config"));
        must(mixt_model_options_read(path, &options, &error), &error);
        const json_t *rates = json_object_get(one, "rates");
        int64_t half = options.rope.dims / 2;
        assert_int_equal(json_array_size(rates), half);
        double *row = malloc(2 * (size_t)half * sizeof *row);
        mixt_rope_table(&options, 1, 1, json_integer_value(json_object_get(one, "length")),
                        sizeof(double), row);
        double factor = json_real_value(json_object_get(one, "factor"));
        for (int64_t i = 0; i < half; i++) {
            double rate = json_real_value(json_array_get(rates, (size_t)i));
            double own = atan2(row[half + i], row[i]), size = hypot(row[i], row[half + i]);
            if (!(fabs(own - rate) <= 1e-6 * rate) || !(fabs(size - factor) <= 1e-6 * factor)) {
                fail_msg("%s: pair %d turns by %.9g and grows by %.9g, expected %.9g and %.9g",
                         string_of(one, "name"), (int)i, own, size, rate, factor);
            }
        }
        free(row);
    }
    json_decref(cases);
    free(path);
}

/* ------------------------------------------------------------------------------------------ */
/* Models                                                                                     */

/* A fixture of families/ with other keys, in the folder scratch/NAME. */
static char *change_model(const char *name, const char *base, const json_t *change)
{
    char from[256], key_path[256];
    char *folder = scratch_path(name);
    mixt_folder_remove(folder, NULL);
    assert_int_equal(mixt_folder_create(folder, NULL), MIXT_OK);
    snprintf(from, sizeof from, FIXTURES "families/%s/config.json", base);
    json_t *config = read_fixture(from), *value;
    const char *key;
    if (json_object_get(change, "rope_parameters") != NULL) {
        json_object_del(config, "rope_scaling");
        json_object_del(config, "rope_theta");
    }
    json_object_foreach((json_t *)change, key, value)
    {
        if (json_is_null(value)) {
            json_object_del(config, key);
        } else {
            json_object_set(config, key, value);
        }
    }
    snprintf(key_path, sizeof key_path, "%s/config.json", folder);
    write_json(key_path, config);
    json_decref(config);
    snprintf(from, sizeof from, FIXTURES "families/%s/model.safetensors", base);
    char *real = realpath(from, NULL);
    snprintf(key_path, sizeof key_path, "%s/model.safetensors", folder);
    assert_int_equal(symlink(real, key_path), 0);
    free(real);
    return folder;
}

static void read_tokens(const char *base, int32_t tokens[TOKENS])
{
    char path[256];
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, FIXTURES "families/%s/expected.safetensors", base);
    must(mixt_safetensors_open(path, &file, &error), &error);
    const mixt_tensor_info *info = mixt_safetensors_find(file, "tokens");
    must(mixt_safetensors_read(file, info, 0, TOKENS * sizeof *tokens, tokens, &error), &error);
    mixt_safetensors_close(file);
}

typedef struct answer {
    float whole[VOCAB]; /* behind all tokens at once */
    float steps[VOCAB]; /* behind the last of those that came one by one */
    float table[2][4096];
    size_t table_values;
} answer;

static void ask(const char *path, const int32_t *tokens, answer *given)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    mixt_session *session;
    must(mixt_model_open(path, &model, &error), &error);
    must(mixt_session_create(scratch_context, model, 64, &session, &error), &error);
    must(mixt_session_feed(session, tokens, TOKENS, &error), &error);
    memcpy(given->whole, mixt_session_logits(session), sizeof given->whole);
    mixt_session_truncate(session, 0);
    must(mixt_session_feed(session, tokens, FIRST, &error), &error);
    for (int t = FIRST; t < TOKENS; t++) {
        must(mixt_session_feed(session, tokens + t, 1, &error), &error);
    }
    memcpy(given->steps, mixt_session_logits(session), sizeof given->steps);
    memset(given->table, 0, sizeof given->table);
    const mixt_model_options *options = &model->options;
    given->table_values = (size_t)options->rope.dims * TOKENS;
    assert_true(given->table_values <= 4096);
    mixt_rope_table(options, 0, TOKENS, 5, sizeof(float), given->table[0]);
    mixt_rope_table(options, 0, TOKENS, 70, sizeof(float), given->table[1]);
    mixt_session_free(session);
    mixt_model_free(model);
}

static void expect(const char *what, const json_t *logits, const float *own)
{
    double largest = 1;
    for (size_t i = 0; i < VOCAB; i++) {
        largest = fmax(largest, fabs(json_number_value(json_array_get(logits, i))));
    }
    assert_int_equal(json_array_size(logits), VOCAB);
    for (size_t i = 0; i < VOCAB; i++) {
        double value = json_number_value(json_array_get(logits, i));
        if (!(fabs((double)own[i] - value) <= 1e-5 * largest)) {
            fail_msg("%s: logit %zu is %g, expected %g", what, i, (double)own[i], value);
        }
    }
}

static mixt_status convert(const char *from, const char *to, mixt_error *error)
{
    mixt_model *model;
    mixt_convert_options options = mixt_convert_options_default();
    options.output = to;
    MIXT_TRY(mixt_model_open(from, &model, error));
    mixt_status status = mixt_convert(scratch_context, model, &options, NULL, NULL, error);
    mixt_model_free(model);
    return status;
}

/* Into a GGUF file, whose table has the same bits, and back into a folder, whose logits have. */
static void check_round_trip(const json_t *one, const char *folder, const int32_t *tokens,
                             const answer *first)
{
    mixt_error error = MIXT_ERROR_INIT;
    static answer gguf, again;
    char *file = scratch_path("model.gguf"), *back = scratch_path("back");
    mixt_folder_remove(back, NULL);
    remove(file);
    mixt_status status = convert(folder, file, &error);
    if (status != MIXT_OK) { /* llama.cpp's latent attention ties both mscales */
        assert_non_null(strstr(string_of(one, "base"), "deepseek_v"));
        assert_non_null(strstr(error.message, "cannot hold a YaRN with mscale"));
        free(file);
        free(back);
        return;
    }
    ask(file, tokens, &gguf);
    expect(string_of(one, "name"), json_object_get(one, "whole"), gguf.whole);
    expect(string_of(one, "name"), json_object_get(one, "steps"), gguf.steps);
    assert_int_equal(gguf.table_values, first->table_values);
    if (memcmp(gguf.table, first->table, sizeof gguf.table) != 0) {
        fail_msg("%s: the table of the GGUF file has other bits", string_of(one, "name"));
    }
    must(convert(file, back, &error), &error);
    ask(back, tokens, &again);
    if (memcmp(again.whole, first->whole, sizeof again.whole) != 0 ||
        memcmp(again.steps, first->steps, sizeof again.steps) != 0) {
        fail_msg("%s: the folder that came back has other logits", string_of(one, "name"));
    }
    free(file);
    free(back);
}

static void logits_are_transformers(void **state)
{
    (void)state;
    json_t *cases = read_fixture(FIXTURES "rope/models.json"), *one;
    static answer given;
    size_t index;
    assert_true(json_array_size(cases) >= LEAST_MODELS);
    json_array_foreach(cases, index, one)
    {
        int32_t tokens[TOKENS];
        char what[128];
        const char *base = string_of(one, "base");
        snprintf(what, sizeof what, "%s, %s", base, string_of(one, "name"));
        print_message("%s\n", what);
        char *folder = change_model("model", base, json_object_get(one, "change"));
        read_tokens(base, tokens);
        ask(folder, tokens, &given);
        expect(what, json_object_get(one, "whole"), given.whole);
        expect(what, json_object_get(one, "steps"), given.steps);
        check_round_trip(one, folder, tokens, &given);
        free(folder);
    }
    json_decref(cases);
}

/* ------------------------------------------------------------------------------------------ */
/* GGUF files                                                                                 */

static void put_key(mixt_gguf_writer *writer, const char *key, const json_t *value)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = MIXT_OK;
    if (json_is_string(value)) {
        status = mixt_gguf_writer_string(writer, key, json_string_value(value), &error);
    } else if (json_is_boolean(value)) {
        status = mixt_gguf_writer_bool(writer, key, json_is_true(value), &error);
    } else if (json_is_integer(value)) {
        status = mixt_gguf_writer_u32(writer, key, (uint32_t)json_integer_value(value), &error);
    } else if (json_is_real(value)) {
        status = mixt_gguf_writer_f32(writer, key, (float)json_real_value(value), &error);
    }
    must(status, &error);
}

static void put_keys(mixt_gguf_writer *writer, const mixt_gguf *base, const json_t *keys)
{
    mixt_error error = MIXT_ERROR_INIT;
    const char *arch, *name;
    char key[160];
    json_t *value;
    must(mixt_gguf_string(base, "general.architecture", &arch, &error), &error);
    for (size_t i = 0; i < mixt_gguf_key_count(base); i++) {
        mixt_gguf_kind kind;
        const char *old = mixt_gguf_key_at(base, i, &kind);
        bool changed = strncmp(old, arch, strlen(arch)) == 0 &&
                       json_object_get(keys, old + strlen(arch) + 1) != NULL;
        if (!changed) {
            must(mixt_gguf_writer_copy(writer, base, old, &error), &error);
        }
    }
    json_object_foreach((json_t *)keys, name, value)
    {
        snprintf(key, sizeof key, "%s.%s", arch, name);
        put_key(writer, key, value);
    }
}

/* A fixture of families/ as F32 with other keys and more tensors. */
static void change_file(const char *path, const json_t *one)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *base;
    mixt_gguf_writer *writer;
    char from[256];
    const char *name;
    json_t *tensors = json_object_get(one, "tensors"), *list;
    snprintf(from, sizeof from, FIXTURES "families/%s.gguf", string_of(one, "base"));
    must(mixt_gguf_open(from, &base, &error), &error);
    remove(path);
    must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    put_keys(writer, base, json_object_get(one, "keys"));
    for (size_t i = 0; i < mixt_gguf_tensor_count(base); i++) {
        const mixt_gguf_tensor *t = mixt_gguf_tensor_at(base, i);
        must(mixt_gguf_writer_add(writer, t->name, MIXT_TYPE_F32, t->rank, t->size, &error),
             &error);
    }
    json_object_foreach(tensors, name, list)
    {
        int64_t size = (int64_t)json_array_size(list);
        must(mixt_gguf_writer_add(writer, name, MIXT_TYPE_F32, 1, &size, &error), &error);
    }
    must(mixt_gguf_writer_begin(writer, &error), &error);
    for (size_t i = 0; i < mixt_gguf_tensor_count(base); i++) {
        const mixt_gguf_tensor *t = mixt_gguf_tensor_at(base, i);
        int64_t count = t->size[0] * t->size[1] * t->size[2] * t->size[3];
        float *values = malloc((size_t)count * sizeof *values);
        mixt_dequantise(t->type, t->data, values, count);
        must(mixt_gguf_writer_write(writer, values, (size_t)count * sizeof *values, &error),
             &error);
        free(values);
    }
    json_object_foreach(tensors, name, list)
    {
        for (size_t i = 0; i < json_array_size(list); i++) {
            float value = (float)json_number_value(json_array_get(list, i));
            must(mixt_gguf_writer_write(writer, &value, sizeof value, &error), &error);
        }
    }
    must(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(base);
}

/* Logarithms of probabilities, as llama.cpp gives them. */
static void normalise(float *logits)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) {
        sum += exp((double)logits[i]);
    }
    for (int i = 0; i < VOCAB; i++) {
        logits[i] -= (float)log(sum);
    }
}

static void files_are_llama_cpp(void **state)
{
    (void)state;
    json_t *cases = read_fixture(FIXTURES "rope/files.json"), *one;
    char *path = scratch_path("changed.gguf"), *back = scratch_path("folder");
    static answer given;
    size_t index;
    assert_true(json_array_size(cases) >= LEAST_FILES);
    json_array_foreach(cases, index, one)
    {
        int32_t tokens[TOKENS];
        char what[128];
        mixt_error error = MIXT_ERROR_INIT;
        const json_t *whole = json_object_get(one, "whole");
        snprintf(what, sizeof what, "%s, %s", string_of(one, "base"), string_of(one, "name"));
        print_message("%s\n", what);
        change_file(path, one);
        read_tokens(string_of(one, "base"), tokens);
        ask(path, tokens, &given);
        normalise(given.whole);
        expect(what, whole, given.whole);
        mixt_folder_remove(back, NULL); /* and the same as a folder */
        must(convert(path, back, &error), &error);
        ask(back, tokens, &given);
        normalise(given.whole);
        expect(what, whole, given.whole);
    }
    json_decref(cases);
    free(path);
    free(back);
}

/* ------------------------------------------------------------------------------------------ */
/* What is refused                                                                            */

static const struct {
    const char *change, *rule;
} refused[] = {
    {"{\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}}", "rope_scaling.type: 'ntk'"},
    {"{\"rope_scaling\": {\"type\": \"yarn\", \"rope_type\": \"linear\", \"factor\": 2}}",
     "rope_scaling.type: 'yarn' is not what rope_type says"},
    {"{\"rope_scaling\": {\"factor\": 2}}", "rope_scaling.factor: only 1"},
    {"{\"rope_scaling\": {\"type\": \"linear\"}}", "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"type\": \"yarn\"}}", "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"offset\": 3}}",
     "rope_scaling.offset"},
    {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2, \"alpha\": 1000}}",
     "rope_scaling.alpha"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"mscale\": 0.7}}",
     "rope_scaling.mscale: only 0"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"attention_factor\": 1.5}}",
     "rope_scaling.attention_factor: only 1"},
    {"{\"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [1, 1, 2]}}",
     "rope_scaling.mrope_section"},
    {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2, "
     "\"original_max_position_embeddings\": 32}}",
     "rope_scaling.original_max_position_embeddings"},
    {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}}",
     "rope_scaling.high_freq_factor"},
    {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1], "
     "\"long_factor\": [1, 1]}}",
     "rope_scaling.long_factor: has 2 factors for 4 rotated pairs"},
    {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 0], "
     "\"long_factor\": [1, 1, 1, 1]}}",
     "rope_scaling.short_factor: factor 3"},
    {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1], "
     "\"long_factor\": [1, 1, 1, 1], \"long_mscale\": 1.2}}",
     "rope_scaling.long_mscale: only 1"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, "
     "\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4}}",
     "rope_scaling: does not say the same as rope_parameters"},
    {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}, "
     "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 5}}}",
     "rope_parameters: full_attention and sliding_attention differ"},
    {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}, "
     "\"rope_theta\": 5}}",
     "rope_parameters: rope_theta beside objects"},
    {"{\"partial_rotary_factor\": 0.2}", "partial_rotary_factor: 1 of 8"},
    {"{\"partial_rotary_factor\": 0.4}", "partial_rotary_factor: 3 of 8"},
    {"{\"partial_rotary_factor\": 2}", "partial_rotary_factor"},
    {"{\"rope_scaling\": 3}", "rope_scaling: is not an object"},
};

/* Mixtral's configuration with other keys. */
static void write_changed(const char *path, const char *keys)
{
    json_t *config = read_fixture(FIXTURES "families/mixtral/config.json");
    json_t *change = json_loads(keys, 0, NULL);
    assert_non_null(change);
    json_object_update(config, change);
    write_json(path, config);
    json_decref(change);
    json_decref(config);
}

static void others_are_refused(void **state)
{
    (void)state;
    char *path = scratch_path("bad.json");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model_options options;
        write_changed(path, refused[i].change);
        mixt_status status = mixt_model_options_read(path, &options, &error);
        must_refuse(status, &error, path, refused[i].rule, refused[i].change);
    }
    free(path);
}

static const char *const accepted[] = {
    "{\"rope_scaling\": null}",
    "{\"rope_scaling\": {}}",
    "{\"rope_scaling\": {\"rope_type\": \"default\", \"factor\": 1.0}}",
    "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1, 1, 1, 1], "
    "\"long_factor\": [1, 1, 1, 2], \"short_mscale\": 1.0, \"long_mscale\": 1.0}}",
    "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"finetuned\": true}, "
    "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2}}",
    "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 2}, "
    "\"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}}",
    "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"beta_fast\": 32, "
    "\"original_max_position_embeddings\": 16}}",
    "{\"partial_rotary_factor\": 1.0}",
};

static void odd_spellings_are_read(void **state)
{
    (void)state;
    char *path = scratch_path("odd.json");
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model_options options;
        write_changed(path, accepted[i]);
        must(mixt_model_options_read(path, &options, &error), &error);
    }
    free(path);
}

/* transformers asks `if truncate`, for which null is false; only an absent key is true. */
static void null_does_not_truncate(void **state)
{
    (void)state;
    static const char *const spellings[] = {", \"truncate\": null", ", \"truncate\": false",
                                            ", \"truncate\": true", ""};
    char *path = scratch_path("truncate.json");
    for (int i = 0; i < 4; i++) {
        char text[160];
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model_options options;
        json_t *config = read_fixture(FIXTURES "families/mixtral/config.json");
        snprintf(text, sizeof text, "{\"type\": \"yarn\", \"factor\": 4%s}", spellings[i]);
        json_object_set_new(config, "rope_scaling", json_loads(text, 0, NULL));
        write_json(path, config);
        must(mixt_model_options_read(path, &options, &error), &error);
        assert_int_equal(options.rope.no_truncate, i < 2);
        json_decref(config);
    }
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_transformers), cmocka_unit_test(logits_are_transformers),
        cmocka_unit_test(files_are_llama_cpp),          cmocka_unit_test(others_are_refused),
        cmocka_unit_test(odd_spellings_are_read),       cmocka_unit_test(null_does_not_truncate),
    };
    return cmocka_run_group_tests_name("rope", tests, scratch_make_context, scratch_remove_context);
}
