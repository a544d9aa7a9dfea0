/* Configurations: absent keys have the class's own defaults, every spelling is read, and a key that
 * nobody knows is refused by name, in config.json and in GGUF files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "mixt.h"
#include "model/config_gguf.h"
#include "model/model.h"

#define FIXTURES "tests/fixtures/config/"

static char home[64], path[96];

static int make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/mixt-config-XXXXXX");
    if (mkdtemp(home) == NULL) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/config.json", home);
    return 0;
}

static int remove_home(void **state)
{
    (void)state;
    return mixt_folder_remove(home, NULL) != MIXT_OK;
}

static json_t *read_fixture(const char *name)
{
    json_t *root;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_json_read(name, MIXT_JSON_CONFIG_MAX, &root, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return root;
}

static mixt_status read_options(const json_t *config, mixt_model_options *options,
                                mixt_error *error)
{
    *error = (mixt_error)MIXT_ERROR_INIT;
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    assert_int_equal(mixt_file_replace(path, text, strlen(text), NULL), MIXT_OK);
    free(text);
    return mixt_model_options_read(path, options, error);
}

static double option(const mixt_model_options *options, const char *wanted)
{
    const char *name;
    double value;
    for (int i = 0; mixt_model_option(options, i, &name, &value); i++) {
        if (strcmp(name, wanted) == 0) {
            return value;
        }
    }
    fail_msg("no option is called '%s'", wanted);
    return 0;
}

/* One line that names the file and the key. */
static void expect_refused(const json_t *config, const char *key, const char *about)
{
    mixt_model_options options;
    mixt_error error;
    char place[160];
    snprintf(place, sizeof place, "%s: %s: ", path, key);
    mixt_status status = read_options(config, &options, &error);
    if (!mixt_status_is_refusal(status) || strncmp(error.message, place, strlen(place)) != 0 ||
        strchr(error.message, '\n') != NULL) {
        fail_msg("%s: %s: status %d, '%s'", about, key, (int)status, error.message);
    }
}

static void expect_options(const json_t *config, const json_t *expected, const char *about)
{
    mixt_model_options options;
    mixt_error error;
    const char *name;
    json_t *value;
    if (read_options(config, &options, &error) != MIXT_OK) {
        fail_msg("%s: %s", about, error.message);
    }
    json_object_foreach((json_t *)expected, name, value)
    {
        double wanted = json_is_true(value) ? 1 : json_number_value(value);
        double found = option(&options, name);
        if (fabs(found - wanted) > 1e-12 * fabs(wanted)) {
            char *text = json_dumps(config, 0);
            fail_msg("%s: %s is %.17g, not %.17g: %s", about, name, found, wanted, text);
        }
    }
}

/* What two objects hold together; the second wins. */
static json_t *together(const json_t *first, const json_t *second)
{
    json_t *both = first != NULL ? json_copy((json_t *)first) : json_object();
    assert_int_equal(json_object_update(both, (json_t *)second), 0);
    return both;
}

/* ------------------------------------------------------------------------------------------ */

/* tests/reference/config_defaults.py: what the classes of transformers make of random subsets of
 * keys, and of the folders that its versions 4.57 and 5.24 save. */
static void random_configurations(void **state)
{
    (void)state;
    json_t *root = read_fixture(FIXTURES "random.json");
    const json_t *cases = json_object_get(root, "cases");
    const json_t *families = json_object_get(root, "families");
    assert_true(json_array_size(cases) > 300);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *family = json_string_value(json_object_get(one, "family"));
        const json_t *common = family != NULL ? json_object_get(families, family) : NULL;
        json_t *config =
            together(json_object_get(common, "config"), json_object_get(one, "config"));
        const char *refused = json_string_value(json_object_get(one, "refused"));
        char about[64];
        snprintf(about, sizeof about, "case %zu (%s)", i, family != NULL ? family : "saved");
        if (refused != NULL) {
            expect_refused(config, refused, about);
        } else {
            json_t *expected =
                together(json_object_get(common, "options"), json_object_get(one, "options"));
            expect_options(config, expected, about);
            json_decref(expected);
        }
        json_decref(config);
    }
    json_decref(root);
}

/* The keys and values of published models open; with one key more they are refused. */
static void published_configurations(void **state)
{
    (void)state;
    static const char *const added[] = {"attention_multiplier",   "final_logit_softcapping",
                                        "attn_logit_softcapping", "residual_multiplier",
                                        "use_parallel_residual",  "a_new_key"};
    json_t *root = read_fixture(FIXTURES "published.json");
    const json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) > 25);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *config = json_object_get(one, "config");
        expect_options(config, json_object_get(one, "options"), name);
        for (size_t k = 0; k < sizeof added / sizeof *added; k++) {
            json_t *changed = json_copy((json_t *)config);
            json_object_set_new(changed, added[k], k < 4 ? json_real(0.5) : json_true());
            expect_refused(changed, added[k], name);
            json_object_set_new(changed, added[k], json_null());
            expect_options(changed, json_object_get(one, "options"), name);
            json_decref(changed);
        }
    }
    json_decref(root);
}

/* A published configuration with one change. */
typedef struct change {
    const char *name; /* of the model */
    const char *key;  /* "a.b": b in the object a */
    const char *json; /* its value; NULL: taken away */
    const char *rule; /* refused with this key in the line; NULL: read */
    const char *option;
    double value;
} change;

static const change changes[] = {
    /* spellings */
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "2.0", NULL, "experts_per_token", 2},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "\"2\"", NULL, "experts_per_token", 2},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "2.5", "num_experts_per_tok", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "\"two\"", "num_experts_per_tok", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "\" 2\"", NULL, "experts_per_token", 2},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "\"2x\"", "num_experts_per_tok", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "true", "num_experts_per_tok", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", "null", "num_experts_per_tok", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_experts_per_tok", NULL, NULL, "experts_per_token", 2},
    {"Mixtral-8x7B-v0.1", "rope_theta", "1000000", NULL, "rope_theta", 1e6},
    {"Mixtral-8x7B-v0.1", "rope_theta", "\"1e6\"", NULL, "rope_theta", 1e6},
    {"Mixtral-8x7B-v0.1", "rms_norm_eps", "\"1e-05\"", NULL, "norm_epsilon", 1e-5},
    {"Mixtral-8x7B-v0.1", "rms_norm_eps", "null", "rms_norm_eps", NULL, 0},
    {"Mixtral-8x7B-v0.1", "num_key_value_heads", "null", NULL, "kv_heads", 32},
    {"Mixtral-8x7B-v0.1", "num_key_value_heads", NULL, NULL, "kv_heads", 8},
    {"Mixtral-8x7B-v0.1", "head_dim", "null", NULL, "head_dim", 128},
    {"Mixtral-8x7B-v0.1", "max_position_embeddings", "null", NULL, "context_length", 131072},
    {"Mixtral-8x7B-v0.1", "initializer_range", "null", NULL, "initializer_range", 0.02},
    {"Mixtral-8x7B-v0.1", "hidden_size", NULL, "hidden_size", NULL, 0},
    {"Mixtral-8x7B-v0.1", "sliding_window", "0", "sliding_window", NULL, 0},
    {"OLMoE-1B-7B-0924", "norm_topk_prob", "1", NULL, "router.renormalise", 1},
    {"OLMoE-1B-7B-0924", "norm_topk_prob", "2", "norm_topk_prob", NULL, 0},
    {"OLMoE-1B-7B-0924", "norm_topk_prob", "\"false\"", "norm_topk_prob", NULL, 0},
    {"DeepSeek-V3", "norm_topk_prob", "null", NULL, "router.renormalise", 0},
    {"OLMoE-1B-7B-0924", "attention_bias", "0", NULL, "attention.qkv_bias", 0},
    {"OLMoE-1B-7B-0924", "attention_bias", "null", NULL, "attention.qkv_bias", 0},
    {"OLMoE-1B-7B-0924", "attention_bias", "1", NULL, "attention.qkv_bias", 1},
    /* of training and bookkeeping */
    {"Mixtral-8x7B-v0.1", "ffn_dropout", "0.1", NULL, "experts", 8},
    {"Mixtral-8x7B-v0.1", "model_max_length", "4096", NULL, "context_length", 32768},
    {"Mixtral-8x7B-v0.1", "bf16", "true", NULL, "experts", 8},
    /* names of one thing */
    {"Mixtral-8x7B-v0.1", "num_experts", "8", NULL, "experts", 8},
    {"Mixtral-8x7B-v0.1", "num_experts", "4", "num_experts", NULL, 0},
    {"Qwen3-30B-A3B", "num_local_experts", "64", "num_local_experts", NULL, 0},
    {"DeepSeek-V3", "num_local_experts", "256", NULL, "experts", 256},
    {"DeepSeek-V3", "head_dim", "64", NULL, "attention.position_dim", 64},
    {"DeepSeek-V3", "head_dim", "128", "head_dim", NULL, 0},
    {"DeepSeek-V3", "qk_head_dim", "192", NULL, "head_dim", 192},
    {"gpt-oss-20b", "experts_per_token", "2", "experts_per_token", NULL, 0},
    /* defaults of the classes */
    {"Mixtral-8x7B-v0.1", "rope_theta", NULL, NULL, "rope_theta", 1e6},
    {"gpt-oss-20b", "rope_theta", NULL, NULL, "rope_theta", 150000},
    {"gpt-oss-20b", "head_dim", NULL, NULL, "head_dim", 64},
    {"gpt-oss-20b", "sliding_window", NULL, NULL, "attention.window", 128},
    {"gpt-oss-20b", "rms_norm_eps", NULL, NULL, "norm_epsilon", 1e-5},
    {"Qwen3-0.6B", "head_dim", NULL, NULL, "head_dim", 128},
    {"Qwen3-0.6B", "attention_bias", "true", NULL, "attention.output_bias", 1},
    {"Qwen2.5-0.5B", "num_key_value_heads", "null", NULL, "kv_heads", 14},
    {"Mistral-7B-v0.1", "rms_norm_eps", NULL, NULL, "norm_epsilon", 1e-6},
    {"Mistral-7B-v0.3", "sliding_window", NULL, NULL, "attention.window", 4096},
    {"DeepSeek-V3", "norm_topk_prob", NULL, NULL, "router.renormalise", 1},
    {"DeepSeek-V3", "routed_scaling_factor", NULL, NULL, "router.scale", 2.5},
    {"DeepSeek-V3", "first_k_dense_replace", NULL, NULL, "leading_dense_layers", 3},
    {"DeepSeek-V3", "n_group", NULL, NULL, "router.groups", 8},
    {"DeepSeek-V3", "q_lora_rank", NULL, NULL, "attention.query_latent_size", 1536},
    {"DeepSeek-V3", "n_shared_experts", NULL, NULL, "shared_experts", 1},
    {"DeepSeek-V3", "routed_scaling_factor", "0", "routed_scaling_factor", NULL, 0},
    {"DeepSeek-V2", "topk_method", NULL, NULL, "router.groups", 0},
    {"DeepSeek-V2", "n_shared_experts", NULL, NULL, "shared_experts", 2},
    {"deepseek-moe-16b-base", "num_experts_per_tok", NULL, "num_experts_per_tok", NULL, 0},
    {"deepseek-moe-16b-base", "n_shared_experts", NULL, NULL, "shared_experts", 0},
    {"grok-1 (hpcai-tech)", "max_attn_value", NULL, NULL, "attention.soft_cap", 30},
    {"grok-1 (hpcai-tech)", "tie_word_embeddings", NULL, NULL, "tie_embeddings", 1},
    {"Yuan2-M32-hf", "max_position_embeddings", NULL, NULL, "context_length", 8192},
    /* values that change what is computed */
    {"DeepSeek-V2", "topk_method", "3", "topk_method", NULL, 0},
    {"DeepSeek-V2", "topk_method", "null", "topk_method", NULL, 0},
    {"DeepSeek-V2", "topk_method", "\"noaux_tc\"", "topk_method", NULL, 0},
    {"DeepSeek-V2", "norm_topk_prob", "true", "norm_topk_prob", NULL, 0},
    {"DeepSeek-V2", "mlp_bias", "true", "mlp_bias", NULL, 0},
    {"DeepSeek-V3", "scoring_func", "\"softmax\"", "scoring_func", NULL, 0},
    {"DeepSeek-V3", "rope_interleave", "null", "rope_interleave", NULL, 0},
    {"DeepSeek-V3", "moe_layer_freq", "2", "moe_layer_freq", NULL, 0},
    {"gpt-oss-20b", "layer_types", "3", "layer_types", NULL, 0},
    {"gpt-oss-20b", "layer_types", "{}", "layer_types", NULL, 0},
    {"gpt-oss-20b", "layer_types", "[\"sliding_attention\"]", "layer_types", NULL, 0},
    {"gpt-oss-20b", "layer_types", "null", NULL, "attention.window_period", 2},
    {"gpt-oss-20b", "swiglu_limit", "6.0", "swiglu_limit", NULL, 0},
    {"gpt-oss-20b", "swiglu_alpha", "1.7", "swiglu_alpha", NULL, 0},
    {"gpt-oss-20b", "sliding_window", "null", "sliding_window", NULL, 0},
    {"gpt-oss-20b", "quantization_config.quant_method", "\"awq\"",
     "quantization_config.quant_method", NULL, 0},
    {"Meta-Llama-3-8B", "sliding_window", "4096", "sliding_window", NULL, 0},
    {"Meta-Llama-3-8B", "num_experts", "8", "num_experts", NULL, 0},
    {"Meta-Llama-3-8B", "num_experts", "0", NULL, "experts", 0},
    {"Meta-Llama-3-8B", "is_causal", "false", "is_causal", NULL, 0},
    {"Meta-Llama-3-8B", "hidden_act", "\"gelu\"", "hidden_act", NULL, 0},
    {"Meta-Llama-3-8B", "hidden_act", "\"swish\"", NULL, "activation", 0},
    {"Meta-Llama-3-8B", "layer_types", "[]", "layer_types", NULL, 0},
    {"Meta-Llama-3-8B", "quantization", "{\"group_size\": 64, \"bits\": 4}", "quantization", NULL,
     0},
    {"Qwen3-30B-A3B", "use_sliding_window", "true", "use_sliding_window", NULL, 0},
    {"MiniMax-M2", "model_type", "\"minimax\"", NULL, "experts", 256},
    {"MiniMax-M2", "layer_types", "[\"linear_attention\"]", "layer_types", NULL, 0},
    {"MiniMax-M2", "full_attn_alpha_factor", "1.5", "full_attn_alpha_factor", NULL, 0},
    {"MiniMax-M2", "attn_type_list", "[1, 0]", "attn_type_list", NULL, 0},
    {"MiniMax-M2", "layernorm_mlp_beta", "0.5", "layernorm_mlp_beta", NULL, 0},
    {"MiniMax-M2", "shared_intermediate_size", "8", "shared_intermediate_size", NULL, 0},
    {"MiniMax-M2", "scoring_func", "\"softmax\"", "scoring_func", NULL, 0},
    {"MiniMax-M2", "rotary_dim", NULL, NULL, "rope.dims", 128},
    {"MiniMax-M2", "partial_rotary_factor", "0.25", NULL, "rope.dims", 32},
    {"GLM-4.5-Air", "n_group", "2", "n_group", NULL, 0},
    {"GLM-4.5-Air", "use_qk_norm", "1", NULL, "attention.qk_norm", 1},
    {"GLM-4.5-Air", "use_qk_norm", "2", "use_qk_norm", NULL, 0},
    {"GLM-4.5-Air", "partial_rotary_factor", NULL, NULL, "rope.dims", 64},
    {"GLM-4.7-Flash", "scoring_func", "\"softmax\"", "scoring_func", NULL, 0},
    {"GLM-4.7-Flash", "mlp_layer_types", "[\"sparse\"]", "mlp_layer_types", NULL, 0},
    {"GLM-4.7-Flash", "mlp_layer_types", "{}", "mlp_layer_types", NULL, 0},
    {"GLM-4.7-Flash", "partial_rotary_factor", "0.5", "partial_rotary_factor", NULL, 0},
    {"Qwen3-0.6B", "use_sliding_window", "true", "use_sliding_window", NULL, 0},
    {"Qwen3-0.6B", "mlp_bias", "true", "mlp_bias", NULL, 0},
    {"Qwen3-0.6B", "num_experts", "8", "num_experts", NULL, 0},
    {"Qwen2.5-0.5B", "use_sliding_window", "true", "use_sliding_window", NULL, 0},
    {"Qwen2.5-0.5B", "use_mrope", "true", "use_mrope", NULL, 0},
    {"Qwen3-30B-A3B", "mlp_only_layers", "[0]", "mlp_only_layers", NULL, 0},
    {"Qwen3-30B-A3B", "decoder_sparse_step", "2", "decoder_sparse_step", NULL, 0},
    {"Qwen1.5-MoE-A2.7B", "num_local_experts", "60", "num_local_experts", NULL, 0},
    {"Yuan2-M32-hf", "moe_config.gated_linear_unit", "false", "moe_config.gated_linear_unit", NULL,
     0},
    {"Yuan2-M32-hf", "moe_config.moe_scale", "2", "moe_config.moe_scale", NULL, 0},
    {"Skywork-MoE-Base", "moe_2layer_gate", "true", "moe_2layer_gate", NULL, 0},
    {"grok-1 (keyfan)", "hidden_act", "\"silu\"", "hidden_act", NULL, 0},
};

static const json_t *published(const json_t *root, const char *name)
{
    const json_t *cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0) {
            return json_object_get(one, "config");
        }
    }
    fail_msg("no published configuration is called '%s'", name);
    return NULL;
}

static void set_key(json_t *config, const char *key, const char *text)
{
    const char *dot = strchr(key, '.');
    json_t *object = config;
    if (dot != NULL) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(dot - key), key);
        object = json_object_get(config, name);
        key = dot + 1;
    }
    if (text == NULL) {
        assert_int_equal(json_object_del(object, key), 0);
    } else {
        json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(object, key, value);
    }
}

/* Our own family, whose keys are also under "mixt": hostile values, and keys that say two things.
 */
static void keys_of_our_own(void **state)
{
    static const struct {
        const char *key, *text, *refused; /* refused NULL: read */
    } rows[] = {
        {"router_segment", "7", NULL},
        {"router_segment", "0", "router"},
        {"router_segment", "-7", "router_segment"},
        {"router_segment", "16777217", "router_segment"},
        {"router_unit", "7", "router"},
        {"router_scope", "9", "router"},
        {"router_noise", "2", "router"},
        {"router_select", "200", "router"},
        {"moe_period", "2", NULL},
        {"moe_period", "-1", "moe_period"},
        {"router_evaluation_capacity", "1e300", NULL},
        {"router_evaluation_capacity", "-1", "router_evaluation_capacity"},
        {"router_evaluation_capacity", "\"NaN\"", "router_evaluation_capacity"},
        {"mixt.balance_groups", "2", NULL},
        {"mixt.balance_groups", "3", "router"},
        {"mixt.balance_groups", "4097", "mixt.balance_groups"},
        {"mixt.balance_groups", "-1", "mixt.balance_groups"},
        {"mixt.balance_groups", "2.5", "mixt.balance_groups"},
        {"mixt.device_balance_coefficient", "0.05", "router"},
        {"mixt.device_balance_coefficient", "1e300", "mixt.device_balance_coefficient"},
        {"mixt.choice_scope", "9", "mixt.choice_scope"},
        {"mixt.choice_scope", "1", "router"},
        {"mixt.weights", "9", "mixt.weights"},
        {"mixt.drop", "0", NULL},
        {"mixt.drop", "1", "mixt.drop"},
        {"router_drop", "1", "mixt.drop"},
        {"router_scale", "2.5", "mixt.scale"},
        {"mixt.scale", "2.5", "mixt.scale"},
        {"router_score", "2", "mixt.score"},
        {"mixt.renormalise", "false", "mixt.renormalise"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *config = json_pack(
            "{s:s s:i s:i s:i s:i s:i s:i s:i s:i s:i s:i s:i s:i s:f s:b s:{s:i s:f s:b s:i s:i}}",
            "model_type", "mixt", "vocab_size", 37, "max_position_embeddings", 64,
            "num_hidden_layers", 3, "hidden_size", 16, "num_attention_heads", 2,
            "num_key_value_heads", 1, "head_dim", 8, "intermediate_size", 16, "num_experts", 4,
            "num_experts_per_tok", 2, "router_unit", 2, "router_segment", 5, "router_scale", 1.0,
            "router_renormalise", 1, "mixt", "version", 1, "scale", 1.0, "renormalise", 1, "score",
            0, "drop", 0);
        assert_non_null(config);
        json_object_set_new(config, "router_score", json_integer(0));
        json_object_set_new(config, "router_drop", json_integer(0));
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        set_key(config, rows[i].key, rows[i].text);
        if (rows[i].refused != NULL) {
            expect_refused(config, rows[i].refused, rows[i].key);
        } else if (read_options(config, &options, &error) != MIXT_OK) {
            fail_msg("%s: %s: %s", rows[i].key, rows[i].text, error.message);
        }
        json_decref(config);
    }
}

static void changed_configurations(void **state)
{
    (void)state;
    json_t *root = read_fixture(FIXTURES "published.json");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const change *c = &changes[i];
        char about[160];
        snprintf(about, sizeof about, "%s with %s: %s", c->name, c->key,
                 c->json != NULL ? c->json : "(absent)");
        json_t *config = json_deep_copy(published(root, c->name));
        set_key(config, c->key, c->json);
        if (c->rule != NULL) {
            expect_refused(config, c->rule, about);
        } else {
            json_t *expected = json_pack("{s:f}", c->option, c->value);
            expect_options(config, expected, about);
            json_decref(expected);
        }
        json_decref(config);
    }
    json_decref(root);
}

/* ------------------------------------------------------------------------------------------ */
/* GGUF                                                                                       */

typedef struct gguf_change {
    const char *family; /* file of tests/fixtures/families */
    const char *key;
    char kind; /* u: u32, f: f32, b: bool, s: string, a: list of f32; of i32 l: twice the same,
                  o: one, d: two that differ */
    double value;
    const char *rule; /* part of the refusal; NULL: read */
} gguf_change;

static const gguf_change gguf_changes[] = {
    {"llama", "llama.final_logit_softcapping", 'f', 30, "30: not known to mixt"},
    {"llama", "llama.final_logit_softcapping", 'f', 0, NULL},
    {"llama", "llama.attention.scale", 'f', 0.5, "not known to mixt for Llama"},
    {"llama", "llama.attention.causal", 'b', 1, NULL},
    {"llama", "llama.attention.causal", 'b', 0, "only 1 is supported"},
    {"llama", "llama.residual_scale", 'f', 1, NULL},
    {"llama", "llama.residual_scale", 'f', 0.5, "only 1 is supported"},
    {"llama", "llama.use_parallel_residual", 'b', 1, "not known to mixt"},
    {"llama", "llama.use_parallel_residual", 'b', 0, NULL},
    {"llama", "llama.tensor_data_layout", 's', 0, NULL},
    {"llama", "llama.a_new_key", 's', 0, "not known to mixt"},
    {"llama", "llama.a_new_key", 'a', 1, "not known to mixt"},
    {"llama", "llama.swiglu_clamp_exp", 'a', 0, NULL},
    {"llama", "qwen2.final_logit_softcapping", 'f', 30, NULL}, /* of another architecture */
    {"llama", "general.a_new_key", 'u', 3, NULL},
    {"llama", "llama.rope.freq_base_swa", 'f', 5, "is not supported"},
    {"mixtral", "llama.expert_weights_norm", 'b', 1, NULL},
    {"mixtral", "llama.expert_weights_norm", 'b', 0, "only 1 is supported"},
    {"mixtral", "llama.expert_group_count", 'u', 4, "only 1 is supported"},
    {"mixtral", "llama.expert_weights_scale", 'f', 2, "only 1 is supported"},
    {"mixtral", "llama.expert_shared_count", 'u', 1, "not known to mixt"},
    {"deepseek_v3", "deepseek2.nextn_predict_layers", 'u', 1, NULL},
    {"deepseek_v3", "deepseek2.nextn_predict_layers", 'u', 3, "leaves none of block_count"},
    {"deepseek_v3", "deepseek2.attention.temperature_length", 'u', 8, "not known to mixt"},
    {"gpt_oss", "gpt-oss.feed_forward_length", 'u', 32, NULL},
    {"gpt_oss", "gpt-oss.attention.sliding_window_pattern", 'u', 2, NULL},
    {"gpt_oss", "gpt-oss.attention.sliding_window_pattern", 'u', 4, "only 2 is supported"},
    {"mixtral", "llama.attention.head_count_kv", 'l', 2, NULL},
    {"mixtral", "llama.attention.head_count", 'l', 4, NULL},
    {"mixtral", "llama.feed_forward_length", 'l', 48, NULL},
    {"mixtral", "llama.attention.head_count_kv", 'd', 2, "is 2 for layer 0 and 3 for layer 1"},
    {"mixtral", "llama.feed_forward_length", 'd', 48, "only one number for all layers"},
    {"grok-1", "grok.router_logit_softcapping", 'f', 30, NULL},
    {"grok-1", "grok.final_logit_softcapping", 'f', 50, "not known to mixt for Grok-1"},
};

static mixt_status put_changed(mixt_gguf_writer *writer, const gguf_change *c, mixt_error *error)
{
    float number = (float)c->value;
    int32_t layers[] = {(int32_t)c->value, (int32_t)c->value + (c->kind == 'd')};
    mixt_gguf_array array = {MIXT_GGUF_F32, 1, &number, NULL, NULL};
    if (strchr("lod", c->kind) != NULL) {
        array = (mixt_gguf_array){MIXT_GGUF_I32, c->kind == 'o' ? 1 : 2, layers, NULL, NULL};
    }
    switch (c->kind) {
    case 'u':
        return mixt_gguf_writer_u32(writer, c->key, (uint32_t)c->value, error);
    case 'f':
        return mixt_gguf_writer_f32(writer, c->key, number, error);
    case 'b':
        return mixt_gguf_writer_bool(writer, c->key, c->value != 0, error);
    case 's':
        return mixt_gguf_writer_string(writer, c->key, "a text", error);
    default:
        return mixt_gguf_writer_array(writer, c->key, &array, error);
    }
}

/* The keys of a fixture with one more; its tensors are left, but for the names that matter. */
static void write_changed(const char *target, const char *source, const gguf_change *c)
{
    mixt_gguf *file;
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_gguf_open(source, &file, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_create(target, 0, &writer, &error), MIXT_OK);
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(file, i, &kind);
        if (strcmp(key, c->key) != 0) {
            assert_int_equal(mixt_gguf_writer_copy(writer, file, key, &error), MIXT_OK);
        }
    }
    if (c->kind != '-') {
        assert_int_equal(put_changed(writer, c, &error), MIXT_OK);
    }
    const mixt_gguf_tensor *table = mixt_gguf_find(file, "token_embd.weight");
    assert_int_equal(
        mixt_gguf_writer_add(writer, table->name, table->type, table->rank, table->size, &error),
        MIXT_OK);
    assert_int_equal(mixt_gguf_writer_begin(writer, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_write(writer, table->data, table->bytes, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_finish(writer, &error), MIXT_OK);
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(file);
}

static void write_changed_fixture(const char *target, const gguf_change *c)
{
    char source[128];
    snprintf(source, sizeof source, "tests/fixtures/families/%s.gguf", c->family);
    write_changed(target, source, c);
}

static void gguf_keys(void **state)
{
    (void)state;
    char file[96];
    snprintf(file, sizeof file, "%s/model.gguf", home);
    for (size_t i = 0; i < sizeof gguf_changes / sizeof *gguf_changes; i++) {
        gguf_change c = gguf_changes[i];
        if (strcmp(c.family, "llama") == 0) {
            c.family = "llama-gqa";
        }
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        write_changed_fixture(file, &c);
        mixt_status status = mixt_model_options_read(file, &options, &error);
        if (c.rule == NULL
                ? status != MIXT_OK
                : status != MIXT_ERROR_UNSUPPORTED || strstr(error.message, c.rule) == NULL ||
                      strstr(error.message, c.key) == NULL) {
            fail_msg("%s %g: status %d, '%s'", c.key, c.value, (int)status, error.message);
        }
    }
}

/* DeepSeek-V3's fixture without its kind of scores, with other numbers of layers and of ids. */
static void write_sizes(const char *target, uint32_t layers, uint32_t behind, int64_t ids)
{
    static const char *const replaced[] = {"deepseek2.expert_gating_func", "deepseek2.block_count",
                                           "deepseek2.vocab_size"};
    mixt_gguf *file;
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_gguf_open("tests/fixtures/families/deepseek_v3.gguf", &file, &error), 0);
    assert_int_equal(mixt_gguf_writer_create(target, 0, &writer, &error), MIXT_OK);
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(file, i, &kind);
        bool copied = true;
        for (size_t k = 0; k < sizeof replaced / sizeof *replaced; k++) {
            copied = copied && strcmp(key, replaced[k]) != 0;
        }
        if (copied) {
            assert_int_equal(mixt_gguf_writer_copy(writer, file, key, &error), MIXT_OK);
        }
    }
    const int64_t size[] = {1, ids};
    float *table = calloc((size_t)ids, sizeof *table);
    assert_non_null(table);
    assert_int_equal(mixt_gguf_writer_u32(writer, replaced[1], layers, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_u32(writer, "deepseek2.nextn_predict_layers", behind, &error),
                     MIXT_OK);
    assert_int_equal(
        mixt_gguf_writer_add(writer, "token_embd.weight", MIXT_TYPE_F32, 2, size, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_begin(writer, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_write(writer, table, (size_t)ids * sizeof *table, &error),
                     MIXT_OK);
    assert_int_equal(mixt_gguf_writer_finish(writer, &error), MIXT_OK);
    free(table);
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(file);
}

/* Files of GLM-4.7-Flash do not say that their scores are sigmoids; llama.cpp knows them by 47
 * layers and 154,880 ids, and takes the softmax of DeepSeek-V2 elsewhere. */
static void flash_is_told_by_its_sizes(void **state)
{
    (void)state;
    static const struct {
        uint32_t layers, behind;
        int64_t ids;
        mixt_score score;
    } rows[] = {{47, 0, 154880, MIXT_SCORE_SIGMOID},
                {48, 1, 154880, MIXT_SCORE_SIGMOID},
                {47, 1, 154880, MIXT_SCORE_SOFTMAX},
                {47, 0, 154879, MIXT_SCORE_SOFTMAX}};
    char target[96];
    snprintf(target, sizeof target, "%s/model.gguf", home);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        write_sizes(target, rows[i].layers, rows[i].behind, rows[i].ids);
        if (mixt_model_options_read(target, &options, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(options.router.score, rows[i].score);
        assert_int_equal(options.layers, rows[i].layers - rows[i].behind);
    }
}

/* An eos of -1 in a signed key is none, as the same bits in an unsigned one. */
static void a_negative_end_is_none(void **state)
{
    (void)state;
    static const char key[] = "tokenizer.ggml.eos_token_id";
    char target[96], *bytes;
    size_t length, at = 0;
    mixt_model_options options;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(target, sizeof target, "%s/model.gguf", home);
    write_changed_fixture(target, &(gguf_change){"mixtral", key, 'u', UINT32_MAX, NULL});
    assert_int_equal(mixt_file_read(target, 1 << 24, &bytes, &length, &error), MIXT_OK);
    while (memcmp(bytes + at, key, strlen(key)) != 0) {
        at++;
    }
    bytes[at + strlen(key)] = MIXT_GGUF_I32; /* the kind stands behind the key */
    FILE *file = fopen(target, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
    free(bytes);
    if (mixt_model_options_read(target, &options, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(options.separator, -1);
}

/* Keys that llama.cpp wants, its own defaults of others, and broken lists. */
/* A file of our own family, with its tables of embeddings alone. */
static void write_own(const char *target)
{
    mixt_model_options options = mixt_model_options_default();
    mixt_model *model;
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    options.vocab_size = 32;
    options.hidden_size = 8;
    options.layers = options.heads = options.kv_heads = 1;
    options.head_dim = options.ffn_size = 8;
    options.experts = 4;
    options.router.unit = MIXT_UNIT_SEGMENT;
    options.router.segment = 7;
    assert_int_equal(mixt_model_create(&options, 1, &model, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_create(target, 0, &writer, &error), MIXT_OK);
    assert_int_equal(mixt_model_gguf_keys(model, writer, &error), MIXT_OK);
    const int64_t size[] = {8, 32};
    assert_int_equal(
        mixt_gguf_writer_add(writer, "token_embd.weight", MIXT_TYPE_F32, 2, size, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_begin(writer, &error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_write(writer, model->weights, sizeof(float[8 * 32]), &error),
                     MIXT_OK);
    assert_int_equal(mixt_gguf_writer_finish(writer, &error), MIXT_OK);
    mixt_gguf_writer_free(writer);
    mixt_model_free(model);
}

static void gguf_keys_of_our_own(void **state)
{
    static const struct {
        gguf_change change;
        const char *part; /* NULL: read */
    } rows[] = {
#define KEY(kind, name, value) {"mixt", "mixt-own." name, kind, value, NULL}
        {KEY('u', "router_segment", 9), NULL},
        {KEY('u', "router_segment", 0), "a segment's tokens are said where"},
        {KEY('u', "router_segment", 4294967295.0), "router_segment\" is 4294967295, not 0 to"},
        {KEY('u', "router_unit", 7), "router: unit 7 is not known"},
        {KEY('u', "router_scope", 9), "router: scope 9 is not known"},
        {KEY('u', "router_drop", 9), "router: drop 9 is not known"},
        {KEY('u', "moe_period", 2), "moe_period 2 leaves no layer with experts of 1"},
        {KEY('f', "router_evaluation_capacity", NAN), "router_evaluation_capacity\" is nan"},
        {KEY('f', "router_evaluation_capacity", -1), "router_evaluation_capacity\" is -1"},
        {KEY('u', "router_score", 2), "mixt-own.router_score: expert_gating_func says another"},
        {KEY('u', "expert_gating_func", 2), "mixt-own.router_score: expert_gating_func says"},
        {KEY('-', "expert_gating_func", 0), NULL},
#undef KEY
    };
    (void)state;
    char source[96], file[96];
    snprintf(source, sizeof source, "%s/own.gguf", home);
    snprintf(file, sizeof file, "%s/model.gguf", home);
    write_own(source);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        write_changed(file, source, &rows[i].change);
        mixt_status status = mixt_model_options_read(file, &options, &error);
        if (rows[i].part == NULL
                ? status != MIXT_OK
                : !mixt_status_is_refusal(status) || strstr(error.message, rows[i].part) == NULL) {
            fail_msg("%s %g: status %d, '%s'", rows[i].change.key, rows[i].change.value,
                     (int)status, error.message);
        }
    }
}

static void absent_gguf_keys(void **state)
{
    (void)state;
    static const gguf_change absent[] = {
        {"mixtral", "llama.attention.layer_norm_rms_epsilon", '-', 0, "is missing"},
        {"mixtral", "llama.context_length", '-', 0, "is missing"},
        {"mixtral", "llama.expert_used_count", '-', 0, "is missing"},
        {"gpt_oss", "gpt-oss.attention.sliding_window", '-', 0, "is missing"},
        {"mixtral", "llama.attention.head_count_kv", 'o', 2, "has 1 numbers for 2 layers"},
        {"mixtral", "llama.attention.head_count_kv", 'l', -2, "is -2, not"},
        {"mixtral", "llama.rope.freq_base", '-', 10000, NULL},
        {"gpt_oss", "gpt-oss.rope.freq_base", '-', 10000, NULL},
    };
    char file[96];
    snprintf(file, sizeof file, "%s/model.gguf", home);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        write_changed_fixture(file, &absent[i]);
        mixt_status status = mixt_model_options_read(file, &options, &error);
        if (absent[i].rule == NULL) {
            assert_int_equal(status, MIXT_OK);
            assert_true(option(&options, "rope_theta") == absent[i].value);
        } else if (!mixt_status_is_refusal(status) ||
                   strstr(error.message, absent[i].rule) == NULL ||
                   strstr(error.message, absent[i].key) == NULL) {
            fail_msg("%s: status %d, '%s'", absent[i].key, (int)status, error.message);
        }
    }
}

/* What --options prints leaves none out. */
static void options_have_names(void **state)
{
    (void)state;
    mixt_model_options options = mixt_model_options_default();
    options.dense_bias = true;
    options.rope.kind = MIXT_ROPE_YARN;
    options.rope.attention_factor = 1.25;
    options.rope.no_truncate = true;
    assert_true(option(&options, "dense_bias") == 1);
    assert_true(option(&options, "rope.kind") == MIXT_ROPE_YARN);
    assert_true(option(&options, "rope.attention_factor") == 1.25);
    assert_true(option(&options, "rope.no_truncate") == 1);
    const char *name;
    double value;
    assert_false(mixt_model_option(&options, -1, &name, &value));
    assert_false(mixt_model_option(&options, 1000, &name, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_configurations),  cmocka_unit_test(published_configurations),
        cmocka_unit_test(changed_configurations), cmocka_unit_test(gguf_keys),
        cmocka_unit_test(absent_gguf_keys),       cmocka_unit_test(options_have_names),
        cmocka_unit_test(a_negative_end_is_none), cmocka_unit_test(keys_of_our_own),
        cmocka_unit_test(gguf_keys_of_our_own),   cmocka_unit_test(flash_is_told_by_its_sizes),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
