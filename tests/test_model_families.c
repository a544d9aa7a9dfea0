/* Families as data: a new model of each is saved as that family; what is written is read back, from
 * config.json and from GGUF keys; derivatives of whole tiny models; training, prompt and decode
 * agree; options that no family holds, or that would be computed wrongly, are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "family_cases.h"
#include "model/config_gguf.h"
#include "model/parameters.h"
#include "model_checks.h"

static void gradients_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        test_gradients(model, test_families[i].name);
        mixt_model_free(model);
    }
}

static void phases_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        test_phases(model, 0);
        mixt_model_free(model);
    }
}

static void same_options(const mixt_model *model, const mixt_model_options *read, bool gguf)
{
    mixt_model_options checked = *read;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_check(&checked, "read", &error) != MIXT_OK) {
        fail_msg("%s: %s", model->family->name, error.message);
    }
    const mixt_model_options *o = &model->options;
    if (!gguf && !mixt_family_holds(model->family, &checked, MIXT_FORM_FOLDER)) {
        fail_msg("%s: does not hold what it wrote", model->family->name);
    }
    assert_int_equal(checked.vocab_size, o->vocab_size);
    assert_int_equal(checked.head_dim, o->head_dim);
    assert_int_equal(checked.kv_heads, o->kv_heads);
    assert_int_equal(checked.ffn_size, o->ffn_size);
    assert_int_equal(checked.shared_ffn_size, o->shared_ffn_size);
    assert_int_equal(checked.leading_dense_layers, o->leading_dense_layers);
    assert_int_equal(checked.rope.dims, o->rope.dims);
    assert_int_equal(checked.attention.window, o->attention.window);
    assert_int_equal(checked.attention.window_period, o->attention.window_period);
    assert_int_equal(checked.attention.latent_size, o->attention.latent_size);
    assert_int_equal(checked.attention.query_latent_size, o->attention.query_latent_size);
    assert_int_equal(checked.attention.position_dim, o->attention.position_dim);
    assert_int_equal(checked.attention.value_dim, o->attention.value_dim);
    assert_int_equal(checked.tie_embeddings, o->tie_embeddings);
    assert_int_equal(checked.router.score, o->router.score);
    assert_int_equal(checked.router.renormalise, o->router.renormalise);
    assert_int_equal(checked.router.groups, o->router.groups);
    assert_int_equal(checked.router.groups_used, o->router.groups_used);
    const double pairs[][2] = {{checked.attention.scale, o->attention.scale},
                               {checked.attention.soft_cap, o->attention.soft_cap},
                               {checked.attention.clip, o->attention.clip},
                               {checked.embedding_scale, o->embedding_scale},
                               {checked.logit_scale, o->logit_scale},
                               {checked.router.scale, o->router.scale},
                               {checked.router.normalise, o->router.normalise},
                               {checked.rope.factor, o->rope.factor},
                               {checked.rope.mscale, o->rope.mscale},
                               {checked.rope.mscale_all_dim, o->rope.mscale_all_dim},
                               {checked.rope_theta, o->rope_theta},
                               {checked.norm_epsilon, o->norm_epsilon}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        double tolerance = gguf ? 1e-6 * fabs(pairs[i][1]) : 0; /* GGUF keys are fp32 */
        if (!(fabs(pairs[i][0] - pairs[i][1]) <= tolerance)) {
            fail_msg("%s: number %zu is %g, was %g", model->family->name, i, pairs[i][0],
                     pairs[i][1]);
        }
    }
}

static void configs_come_back(void **state)
{
    (void)state;
    char folder[] = "/tmp/mixt-families-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        mixt_error error = MIXT_ERROR_INIT;
        char *text;
        mixt_model_options read;
        const mixt_family *family = NULL;
        assert_int_equal(mixt_model_config_text(model, &text, &error), MIXT_OK);
        assert_int_equal(mixt_file_replace(path, text, strlen(text), &error), MIXT_OK);
        if (mixt_model_config_read(path, &read, &family, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_ptr_equal(family, model->family);
        assert_int_equal(read.rope.interleaved, family->hf_interleaved);
        same_options(model, &read, false);
        free(text);
        mixt_model_free(model);
    }
    mixt_folder_remove(folder, NULL);
}

/* Saved and opened again, every value has its bits. */
static void folders_come_back(void **state)
{
    (void)state;
    char folder[] = "/tmp/mixt-families-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]), *read = NULL;
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_model_save(model, folder, &error) != MIXT_OK ||
            mixt_model_open(folder, &read, &error) != MIXT_OK) {
            fail_msg("%s: %s", test_families[i].name, error.message);
        }
        assert_int_equal(read->parameter_count, model->parameter_count);
        for (int p = 0; p < model->parameter_count; p++) {
            const mixt_parameter *parameter = &model->parameters[p];
            float *values = calloc(parameter->count, sizeof *values);
            assert_non_null(values);
            mixt_model_values(read, p, 0, parameter->count, values);
            if (memcmp(values, model->weights + parameter->offset,
                       parameter->count * sizeof *values) != 0) {
                fail_msg("%s: %s is another", test_families[i].name, parameter->name);
            }
            free(values);
        }
        mixt_model_free(read);
        mixt_model_free(model);
    }
    mixt_folder_remove(folder, NULL);
}

/* Grok-1's weights as others compute them: the same as a model that was made so. */
static void renormalised_weights(void **state)
{
    (void)state;
    mixt_context *context = test_context(1, NULL);
    mixt_model_options options = test_small_options();
    test_family_find("grok-1")->change(&options);
    mixt_model *authors = test_new_model(&options, 0.3);
    float logits[3][37];
    for (int i = 0; i < 3; i++) {
        mixt_session *session;
        mixt_error error = MIXT_ERROR_INIT;
        if (i > 0) {
            assert_int_equal(
                mixt_model_change_routing(authors, MIXT_ROUTING_RENORMALISE, -1, i == 1, &error),
                MIXT_OK);
        }
        assert_int_equal(mixt_session_create(context, authors, 0, &session, &error), MIXT_OK);
        assert_int_equal(mixt_session_feed(session, (int32_t[]){3, 1, 4, 1, 5}, 5, &error),
                         MIXT_OK);
        const int32_t *ids;
        const float *weights;
        mixt_session_routes(session, &ids, &weights);
        double sum = (double)weights[0] + weights[1];
        assert_true(i == 1 ? fabs(sum - 1) < 1e-6 : sum < 0.999);
        memcpy(logits[i], mixt_session_logits(session), sizeof logits[i]);
        mixt_session_free(session);
    }
    assert_memory_equal(logits[0], logits[2], sizeof logits[0]);
    assert_true(memcmp(logits[0], logits[1], sizeof logits[0]) != 0);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_model_change_routing(authors, MIXT_ROUTING_RENORMALISE, -1, 2, &error),
                     MIXT_ERROR_ARGUMENT);
    mixt_model_free(authors);
    mixt_context_free(context);
}

static void write_gguf(const mixt_model *model, const char *path)
{
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    static float zeros[64 * 64];
    int64_t shape[] = {model->options.hidden_size, model->options.vocab_size};
    const char *const names[] = {"token_embd.weight", "output.weight"};
    size_t count = model->options.tie_embeddings ? 1 : 2;
    mixt_status status = mixt_gguf_writer_create(path, 0, &writer, &error);
    if (status == MIXT_OK) {
        status = mixt_model_gguf_keys(model, writer, &error);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        status = mixt_gguf_writer_add(writer, names[i], MIXT_TYPE_F32, 2, shape, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_begin(writer, &error);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        status = mixt_gguf_writer_write(writer, zeros, (size_t)(shape[0] * shape[1]) * 4, &error);
    }
    if (status != MIXT_OK || mixt_gguf_writer_finish(writer, &error) != MIXT_OK) {
        fail_msg("%s: %s", model->family->name, error.message);
    }
    mixt_gguf_writer_free(writer);
}

static void gguf_keys_come_back(void **state)
{
    (void)state;
    char folder[] = "/tmp/mixt-families-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        write_gguf(model, path);
        mixt_gguf *file;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model_options read;
        const mixt_family *family = NULL;
        if (mixt_gguf_open(path, &file, &error) != MIXT_OK ||
            mixt_model_config_gguf(file, &read, &family, &error) != MIXT_OK) {
            fail_msg("%s: %s", test_families[i].name, error.message);
        }
        assert_string_equal(family->gguf_arch, model->family->gguf_arch);
        assert_int_equal(read.rope.interleaved, family->gguf_interleaved);
        same_options(model, &read, true);
        mixt_gguf_close(file);
        mixt_model_free(model);
    }
    mixt_folder_remove(folder, NULL);
}

/* One key of a good file's is written as something else. `rule`: what the refusal must say. */
typedef struct bad_key {
    const char *name;
    char kind; /* u: u32, f: f32, a: an array of u32 in its place, s: a string */
    double value;
    const char *rule;
} bad_key;

static const bad_key bad_keys[] = {
    {"attention.head_count", 'u', 0, "llama.attention.head_count"},
    {"attention.head_count_kv", 'u', 3, "does not divide"},
    {"attention.head_count_kv", 'a', 2, "llama.attention.head_count_kv"},
    {"block_count", 'u', 2147483648.0, "llama.block_count"},
    {"block_count", 's', 0, "llama.block_count"},
    {"embedding_length", 'u', 0, "llama.embedding_length"},
    {"rope.dimension_count", 'u', 8, "rope dims 8 is more than head_dim 6"},
    {"rope.dimension_count", 'u', 5, "odd"},
    {"attention.key_length", 'u', 0, "llama.attention.key_length"},
    {"attention.value_length", 'u', 4, "value_dim 4 is not head_dim 6"},
    {"attention.layer_norm_rms_epsilon", 'f', 0, "llama.attention.layer_norm_rms_epsilon"},
    {"attention.layer_norm_rms_epsilon", 'f', NAN, "llama.attention.layer_norm_rms_epsilon"},
    {"rope.freq_base", 'f', INFINITY, "llama.rope.freq_base"},
    {"context_length", 'u', 4294967295.0, "llama.context_length"},
    {"expert_used_count", 'u', 0, "llama.expert_used_count"},
    {"expert_used_count", 'u', 6, "6"},
    {"expert_count", 'u', 1e6, "llama.expert_count"},
    {"feed_forward_length", 'u', 0, "llama.feed_forward_length"},
    {"expert_gating_func", 'u', 2, "llama.expert_count"},
    {"expert_gating_func", 'u', 4, "llama.expert_gating_func"},
    {"rope.scaling.type", 's', 0, "llama.rope.scaling.type"},
    {"rope.scale_linear", 'f', -4, "llama.rope.scale_linear"},
    {"rope.scaling.attn_factor", 'f', 0, "llama.rope.scaling.attn_factor"},
    {"rope.scaling.yarn_alpha", 'f', 1, "llama.rope.scaling.yarn_alpha"},
    {"rope.dimension_sections", 'u', 2, "llama.rope.dimension_sections"},
    {"final_logit_softcapping", 'f', 30, "llama.final_logit_softcapping"},
};

static const struct {
    const char *name;
    double value;
} good_keys[] = {
    {"block_count", 2},
    {"embedding_length", 16},
    {"attention.head_count", 4},
    {"expert_count", 5},
    {"attention.head_count_kv", 2},
    {"attention.key_length", 6},
    {"expert_used_count", 2},
    {"feed_forward_length", 20},
    {"context_length", 64},
    {"attention.layer_norm_rms_epsilon", 1e-5},
};

static void put_key(mixt_gguf_writer *writer, const bad_key *k, mixt_error *error)
{
    char key[160];
    mixt_gguf_key("llama", k->name, key);
    mixt_status status = MIXT_OK;
    if (k->kind == 'u') {
        status = mixt_gguf_writer_u32(writer, key, (uint32_t)k->value, error);
    } else if (k->kind == 'f') {
        status = mixt_gguf_writer_f32(writer, key, (float)k->value, error);
    } else if (k->kind == 's') {
        status = mixt_gguf_writer_string(writer, key, "linear-ish", error);
    } else {
        static const uint32_t values[] = {2, 1};
        mixt_gguf_array array = {.kind = MIXT_GGUF_U32, .count = 2, .data = values};
        status = mixt_gguf_writer_array(writer, key, &array, error);
    }
    if (status != MIXT_OK) {
        fail_msg("%s: %s", key, error->message);
    }
}

static mixt_status read_with(const char *path, const bad_key *bad, mixt_error *error)
{
    mixt_gguf_writer *writer;
    mixt_gguf *file;
    int64_t shape[] = {16, 4};
    static const float zeros[64];
    assert_int_equal(mixt_gguf_writer_create(path, 0, &writer, error), MIXT_OK);
    mixt_gguf_writer_string(writer, "general.architecture", "llama", error);
    for (size_t i = 0; i < sizeof good_keys / sizeof *good_keys; i++) {
        if (bad == NULL || strcmp(good_keys[i].name, bad->name) != 0) {
            put_key(writer,
                    &(bad_key){good_keys[i].name, good_keys[i].value < 1 ? 'f' : 'u',
                               good_keys[i].value, NULL},
                    error);
        }
    }
    if (bad != NULL) {
        put_key(writer, bad, error);
    }
    mixt_gguf_writer_add(writer, "token_embd.weight", MIXT_TYPE_F32, 2, shape, error);
    mixt_gguf_writer_begin(writer, error);
    mixt_gguf_writer_write(writer, zeros, sizeof zeros, error);
    mixt_gguf_writer_finish(writer, error);
    mixt_gguf_writer_free(writer);
    mixt_model_options options;
    const mixt_family *family = NULL;
    assert_int_equal(mixt_gguf_open(path, &file, error), MIXT_OK);
    mixt_status status = mixt_model_config_gguf(file, &options, &family, error);
    mixt_gguf_close(file);
    return status == MIXT_OK ? mixt_model_check(&options, path, error) : status;
}

static void bad_gguf_keys_are_refused(void **state)
{
    (void)state;
    char folder[] = "/tmp/mixt-families-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    mixt_error error = MIXT_ERROR_INIT;
    if (read_with(path, NULL, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    for (size_t i = 0; i < sizeof bad_keys / sizeof *bad_keys; i++) {
        mixt_error refusal = MIXT_ERROR_INIT;
        mixt_status status = read_with(path, &bad_keys[i], &refusal);
        if (!mixt_status_is_refusal(status) || strstr(refusal.message, bad_keys[i].rule) == NULL ||
            strstr(refusal.message, path) == NULL) {
            fail_msg("%s, %g: '%s'", bad_keys[i].name, bad_keys[i].value, refusal.message);
        }
    }
    mixt_folder_remove(folder, NULL);
}

typedef struct bad_value {
    const char *from, *to, *rule;
} bad_value;

/* Values of config.json keys of an otherwise good Mixtral (or another family). */
static const bad_value bad_values[] = {
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 3.5", "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": \"eight\"", "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": null", "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1e400", "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": -1", "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9007199254740993",
     "num_experts_per_tok"},
    {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 6", "6"},
    {"\"hidden_size\": 16", "\"hidden\": 16", "hidden_size"},
    {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act"},
    {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}",
     "rope_scaling.type"},
    {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\"}", "rope_scaling.factor"},
    {"\"rope_scaling\": null", "\"rope_scaling\": 2", "rope_scaling"},
    {"\"use_cache\"", "\"final_logit_softcapping\": 30.0, \"use_cache\"",
     "final_logit_softcapping"},
    {"\"model_type\": \"mixtral\"", "\"model_type\": \"mixtrol\"", "mixtrol"},
};

/* Of one that chooses by hash, which our own family holds; "mixt.family" and "mixt.select" are of
 * files that mixt wrote before it had one. */
static const bad_value bad_own_values[] = {
    {"\"version\": 1", "\"family\": \"mixtrol\"", "mixt.family: 'mixtrol'"},
    {"\"version\": 1", "\"family\": 3", "mixt.family"},
    {"\"version\": 1", "\"family\": \"mixtral\"", "sliding_window"},
    {"\"version\": 1", "\"select\": \"mash\"", "mixt.select: 'mash'"},
    {"\"version\": 1", "\"select\": 1", "mixt.select"},
    {"\"router_select\": 1", "\"router_select\": 99", "select 99"},
    {"\"router_select\": 1", "\"router_select\": \"hash\"", "router_select"},
    {"\"num_experts\": 5", "\"number\": 5", "num_experts"},
    {"\"bias_rate\": 0.0", "\"bias_rate\": 0.5", "hash"},
};

static void refuse_values(int select, const bad_value *values, size_t count)
{
    char folder[] = "/tmp/mixt-families-XXXXXX", path[64], *text;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
    mixt_model_options options = test_small_options();
    options.router.select = select;
    mixt_model *model = test_new_model(&options, 0);
    assert_int_equal(mixt_model_config_text(model, &text, NULL), MIXT_OK);
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(text, values[i].from);
        char changed[8192];
        mixt_error error = MIXT_ERROR_INIT;
        if (at == NULL) {
            fail_msg("'%s' is not written", values[i].from);
        }
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, values[i].to,
                 at + strlen(values[i].from));
        assert_int_equal(mixt_file_replace(path, changed, strlen(changed), NULL), MIXT_OK);
        mixt_status status = mixt_model_options_read(path, &options, &error);
        if (!mixt_status_is_refusal(status) || strstr(error.message, values[i].rule) == NULL ||
            strstr(error.message, path) == NULL) {
            fail_msg("%s: '%s'", values[i].to, error.message);
        }
    }
    free(text);
    mixt_model_free(model);
    mixt_folder_remove(folder, NULL);
}

static void bad_config_values_are_refused(void **state)
{
    (void)state;
    refuse_values(0, bad_values, sizeof bad_values / sizeof *bad_values);
    refuse_values(1, bad_own_values, sizeof bad_own_values / sizeof *bad_own_values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree),
        cmocka_unit_test(phases_agree),
        cmocka_unit_test(configs_come_back),
        cmocka_unit_test(folders_come_back),
        cmocka_unit_test(renormalised_weights),
        cmocka_unit_test(gguf_keys_come_back),
        cmocka_unit_test(bad_gguf_keys_are_refused),
        cmocka_unit_test(bad_config_values_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
