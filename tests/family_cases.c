#include "family_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "model_checks.h"

static void as_llama(mixt_model_options *o)
{
    o->experts = 0;
}

/* Granite's code models */
static void as_biased_llama(mixt_model_options *o)
{
    o->experts = 0;
    o->attention.qkv_bias = o->attention.output_bias = o->dense_bias = true;
}

static void as_mistral(mixt_model_options *o)
{
    o->experts = 0;
    o->attention.window = 3;
}

static void as_qwen2(mixt_model_options *o)
{
    o->experts = 0;
    o->attention.qkv_bias = true;
}

static void as_qwen3(mixt_model_options *o)
{
    o->experts = 0;
    o->attention.qk_norm = MIXT_QK_NORM_HEAD;
}

static void as_mixtral(mixt_model_options *o)
{
    (void)o;
}

static void as_deepseek(mixt_model_options *o)
{
    o->shared_experts = 2;
    o->leading_dense_layers = 1;
    o->dense_ffn_size = 28;
    o->router.renormalise = false;
}

static void as_qwen2_moe(mixt_model_options *o)
{
    o->attention.qkv_bias = true;
    o->shared_experts = 1;
    o->shared_ffn_size = 28;
    o->shared_gate = true;
    o->router.renormalise = false;
}

static void as_olmoe(mixt_model_options *o)
{
    o->attention.qk_norm = MIXT_QK_NORM_WHOLE;
    o->attention.clip = 1.1;
    o->router.renormalise = false;
}

static void as_qwen3_moe(mixt_model_options *o)
{
    o->attention.qk_norm = MIXT_QK_NORM_HEAD;
}

static void as_yuan(mixt_model_options *o)
{
    o->kv_heads = o->heads;
    o->rope.dims = o->hidden_size / o->heads;
    o->attention.filter = o->attention.mixed_qk = true;
    o->router.logits = MIXT_LOGITS_ATTENTION;
}

static void as_skywork(mixt_model_options *o)
{
    o->router.normalise = 1.2;
}

static void as_grok(mixt_model_options *o)
{
    o->post_norms = o->tie_embeddings = true;
    o->activation = MIXT_ACTIVATION_GELU;
    o->attention.scale = 0.4;
    o->attention.soft_cap = 2;
    o->embedding_scale = 4;
    o->logit_scale = 0.5773502691896257;
    o->router.renormalise = false;
}

static void as_deepseek_v2(mixt_model_options *o)
{
    as_deepseek(o);
    o->kv_heads = 0;
    o->experts = 8;
    o->attention.latent_size = 10;
    o->attention.position_dim = 4;
    o->head_dim = 6 + 4;
    o->attention.value_dim = 8;
    o->router.groups = 4;
    o->router.groups_used = 2;
    o->rope = (mixt_rope_options){.interleaved = true,
                                  .kind = MIXT_ROPE_YARN,
                                  .factor = 4,
                                  .original_context = 16,
                                  .mscale = 0.707,
                                  .mscale_all_dim = 0.707};
}

static void as_deepseek_v3(mixt_model_options *o)
{
    as_deepseek_v2(o);
    o->attention.query_latent_size = 12;
    o->router.score = MIXT_SCORE_SIGMOID;
    o->router.select_bias = o->router.renormalise = true;
    o->router.group_score = MIXT_GROUP_TOP_TWO;
    o->router.scale = 2.5;
    o->router.balance_coefficient = 0;
    o->router.z_coefficient = 0;
}

static void as_minimax_m2(mixt_model_options *o)
{
    o->attention.qk_norm = MIXT_QK_NORM_WHOLE;
    o->rope.dims = o->head_dim - 2;
    o->router.score = MIXT_SCORE_SIGMOID;
    o->router.select_bias = true;
    o->router.z_coefficient = 0;
}

static void as_glm4_moe(mixt_model_options *o)
{
    o->attention.qkv_bias = true;
    o->attention.qk_norm = MIXT_QK_NORM_HEAD;
    o->rope.dims = o->head_dim - 2;
    o->shared_experts = 1;
    o->leading_dense_layers = 1;
    o->dense_ffn_size = 28;
    o->router.score = MIXT_SCORE_SIGMOID;
    o->router.select_bias = true;
    o->router.scale = 2.5;
    o->router.balance_coefficient = 0;
    o->router.z_coefficient = 0;
}

static void as_gpt_oss(mixt_model_options *o)
{
    o->attention.qkv_bias = o->attention.output_bias = o->attention.sinks = true;
    o->attention.window = 4;
    o->attention.window_period = 2;
    o->expert_bias = true;
    o->activation = MIXT_ACTIVATION_CLAMPED;
    o->router.score = MIXT_SCORE_TOP_K_SOFTMAX;
    o->router.renormalise = false;
    o->router.logit_bias = true;
    o->rope = (mixt_rope_options){
        .kind = MIXT_ROPE_YARN, .factor = 4, .original_context = 16, .no_truncate = true};
}

const test_family test_families[] = {
    {"llama", as_llama},
    {"llama", as_biased_llama},
    {"mistral", as_mistral},
    {"qwen2", as_qwen2},
    {"qwen3", as_qwen3},
    {"mixtral", as_mixtral},
    {"deepseek", as_deepseek},
    {"qwen2_moe", as_qwen2_moe},
    {"olmoe", as_olmoe},
    {"qwen3_moe", as_qwen3_moe},
    {"yuan", as_yuan},
    {"skywork", as_skywork},
    {"grok-1", as_grok},
    {"deepseek_v2", as_deepseek_v2},
    {"deepseek_v3", as_deepseek_v3},
    {"gpt_oss", as_gpt_oss},
    {"minimax_m2", as_minimax_m2},
    {"glm4_moe", as_glm4_moe},
};
const size_t test_family_count = sizeof test_families / sizeof *test_families;

mixt_model *test_family_model(const test_family *family)
{
    mixt_model_options options = test_small_options();
    family->change(&options);
    mixt_model *model = test_new_model(&options, 0.3);
    assert_string_equal(model->family->name, family->name);
    return model;
}

const test_family *test_family_find(const char *name)
{
    for (size_t i = 0; i < test_family_count; i++) {
        if (strcmp(test_families[i].name, name) == 0) {
            return &test_families[i];
        }
    }
    fail_msg("no family %s", name);
    return NULL;
}

const char *const test_mixture_files[] = {"deepseek",
                                          "deepseek.gguf",
                                          "deepseek_v2",
                                          "deepseek_v2-lite.gguf",
                                          "deepseek_v3",
                                          "deepseek_v3.gguf",
                                          "deepseek_v3.old.gguf",
                                          "glm4_moe",
                                          "glm4_moe-air.gguf",
                                          "glm4_moe_lite",
                                          "gpt_oss",
                                          "gpt_oss.gguf",
                                          "gpt_oss-mxfp4",
                                          "gpt_oss-mxfp4.gguf",
                                          "grok-1",
                                          "grok-1.gguf",
                                          "longcat",
                                          "minimax_m2",
                                          "minimax_m2.gguf",
                                          "mixtral",
                                          "mixtral.gguf",
                                          "mixtral.old.gguf",
                                          "olmoe",
                                          "olmoe.gguf",
                                          "qwen2_moe",
                                          "qwen2_moe.gguf",
                                          "qwen3_moe",
                                          "qwen3_moe.gguf",
                                          "skywork",
                                          "yuan"};
const size_t test_mixture_file_count = sizeof test_mixture_files / sizeof *test_mixture_files;
