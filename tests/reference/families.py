#!/usr/bin/env python3
"""Makes the tiny random checkpoints of tests/fixtures/families (config.json, model.safetensors).

  python3 tests/reference/families.py [NAME...]

The expected logits beside them come from implementations of others: families_transformers.py,
families_mlx.py, families_yuan.py, families_grok.py, families_skywork.py; what was used for which
family, and at which version, is in tests/fixtures/families/README.md.

Every config.json has the keys of a published file of the family, with tiny sizes. Sizes are chosen
so that a mix-up shows: heads * head_dim is not hidden_size where the family allows it, K and V have
fewer heads, no two widths are the same.
"""

import json
import sys

import numpy

from families_common import FIXTURES, draw, generator, save, to_bfloat16
from families_tensors import MAKERS

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.02, "intermediate_size": 88, "max_position_embeddings": 64,
    "mlp_bias": False, "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0", "use_cache": True, "vocab_size": 96,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "head_dim": 12, "hidden_act": "silu", "hidden_size": 40,
    "initializer_range": 0.02, "intermediate_size": 72, "max_position_embeddings": 64,
    "model_type": "mistral", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.42.0", "use_cache": True, "vocab_size": 96,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 0,
    "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
    "intermediate_size": 72, "max_position_embeddings": 64, "max_window_layers": 24,
    "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False,
    "use_sliding_window": False, "vocab_size": 96,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 1, "head_dim": 16, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.02, "intermediate_size": 72, "max_position_embeddings": 64,
    "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 96,
}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
    "intermediate_size": 24, "max_position_embeddings": 64, "model_type": "mixtral",
    "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "num_local_experts": 8, "output_router_logits": False,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0", "use_cache": True, "vocab_size": 96,
}
DEEPSEEK = {
    "architectures": ["DeepseekForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekConfig",
                 "AutoModel": "modeling_deepseek.DeepseekModel",
                 "AutoModelForCausalLM": "modeling_deepseek.DeepseekForCausalLM"},
    "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "first_k_dense_replace": 1,
    "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 84,
    "max_position_embeddings": 64, "model_type": "deepseek", "moe_intermediate_size": 12,
    "moe_layer_freq": 1, "n_routed_experts": 8, "n_shared_experts": 2, "norm_topk_prob": False,
    "num_attention_heads": 4, "num_experts_per_tok": 3, "num_hidden_layers": 3,
    "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 10000, "scoring_func": "softmax", "seq_aux": True, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.36.0", "use_cache": True,
    "vocab_size": 96,
}
QWEN2_MOE = {
    "architectures": ["Qwen2MoeForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 0,
    "decoder_sparse_step": 1, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.02, "intermediate_size": 56, "max_position_embeddings": 64,
    "max_window_layers": 21, "model_type": "qwen2_moe", "moe_intermediate_size": 24,
    "norm_topk_prob": False, "num_attention_heads": 4, "num_experts": 8, "num_experts_per_tok": 3,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "output_router_logits": False,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 56, "sliding_window": 32768, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.39.0.dev0", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 96,
}
OLMOE = {
    "architectures": ["OlmoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "clip_qkv": None, "eos_token_id": 79, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.02, "intermediate_size": 24, "max_position_embeddings": 64,
    "model_type": "olmoe", "norm_topk_prob": False, "num_attention_heads": 4, "num_experts": 8,
    "num_experts_per_tok": 3, "num_hidden_layers": 2, "num_key_value_heads": 4,
    "output_router_logits": False, "pad_token_id": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 10000.0, "router_aux_loss_coef": 0.01, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.43.0.dev0", "use_cache": True,
    "vocab_size": 96,
}
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 0, "decoder_sparse_step": 1, "eos_token_id": 1, "head_dim": 16,
    "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 96,
    "max_position_embeddings": 64, "max_window_layers": 48, "mlp_only_layers": [],
    "model_type": "qwen3_moe", "moe_intermediate_size": 20, "norm_topk_prob": True,
    "num_attention_heads": 4, "num_experts": 8, "num_experts_per_tok": 3, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "output_router_logits": False, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 96,
}
YUAN = {
    "architectures": ["YuanForCausalLM"], "attention_projection_size": 64,
    "auto_map": {"AutoConfig": "configuration_yuan.YuanConfig",
                 "AutoModelForCausalLM": "yuan_hf_model.YuanForCausalLM"},
    "bos_token": "<eod>", "bos_token_id": 90, "causal_mask": True, "dropout": 0,
    "eod_token": "<eod>", "eod_token_id": 90, "eos_token": "<eod>", "eos_token_id": 90,
    "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 24,
    "mask_token_id": 92, "max_position_embeddings": 64, "model_max_length": 64,
    "model_type": "yuan",
    "moe_config": {"moe_num_experts": 8, "moe_top_k": 2, "norm_topk_prob": True,
                   "ffn_hidden_size": 24, "gated_linear_unit": True},
    "num_attention_heads": 4, "num_hidden_layers": 2, "output_router_logits": False,
    "pad_token_id": 90, "reset_attention_mask": False, "reset_position_ids": True,
    "rms_norm_eps": 1e-06, "sep_token": "<sep>", "sep_token_id": 91,
    "tie_word_embeddings": False, "tokenizer_class": "YuanTokenizer", "torch_dtype": "bfloat16",
    "transformers_version": "4.30.0.dev0", "use_cache": True, "use_flash_attention": True,
    "use_loss_mask": False, "use_moe": True, "vocab_size": 96,
}
SKYWORK = {
    "architectures": ["SkyworkForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_skywork_moe.SkyworkMoeConfig",
                 "AutoModelForCausalLM": "modeling_skywork_moe.SkyworkForCausalLM"},
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.01, "intermediate_size": 24, "max_position_embeddings": 64,
    "model_type": "skywork", "moe_2layer_gate": False, "moe_expert_interval": 1,
    "moe_feature_no_mul_topk": True, "moe_gate_norm_std": 1.5, "moe_use_logits_norm": True,
    "moe_use_skywork_gating": False, "num_attention_heads": 4, "num_experts": [8],
    "num_hidden_layers": 2, "num_key_value_heads": 4, "pad_token_id": 0, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 10000.0, "rotary_percent": 1.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.38.2",
    "use_cache": True, "vocab_size": 96,
}
GROK = {
    "architectures": ["Grok1ModelForCausalLM"], "attn_output_multiplier": 0.35355339059327373,
    "auto_map": {"AutoConfig": "configuration_grok1.Grok1Config",
                 "AutoModel": "modeling_grok1.Grok1Model",
                 "AutoModelForCausalLM": "modeling_grok1.Grok1ModelForCausalLM"},
    "bos_token_id": 1, "embedding_multiplier_scale": 5.656854249492381, "eos_token_id": 2,
    "hidden_size": 32, "intermediate_size": 24, "max_attn_value": 30.0,
    "max_position_embeddings": 64, "num_attention_heads": 4,
    "num_experts": 8, "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "output_multiplier_scale": 0.5773502691896257, "output_router_logits": False,
    "pad_token_id": 0, "rms_norm_eps": 1e-05, "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.35.0",
    "use_cache": True, "vocab_size": 96,
}
DEEPSEEK_V2 = {
    **DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config",
                 "AutoModel": "modeling_deepseek.DeepseekV2Model",
                 "AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM"},
    "kv_lora_rank": 24, "max_position_embeddings": 128, "n_group": 1, "q_lora_rank": None,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 8, "mscale": 0.707,
                     "mscale_all_dim": 0.707, "original_max_position_embeddings": 16,
                     "type": "yarn"},
    "routed_scaling_factor": 1.0, "topk_group": 1, "topk_method": "greedy",
    "transformers_version": "4.33.1", "v_head_dim": 16,
}
DEEPSEEK_V3 = {
    **DEEPSEEK_V2, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config",
                 "AutoModel": "modeling_deepseek.DeepseekV3Model",
                 "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"},
    "ep_size": 1, "first_k_dense_replace": 1, "n_group": 4, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_nextn_predict_layers": 1, "q_lora_rank": 20,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 8, "mscale": 1.0,
                     "mscale_all_dim": 1.0, "original_max_position_embeddings": 16,
                     "type": "yarn"},
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_group": 2,
    "topk_method": "noaux_tc",
}
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
    "eos_token_id": 95, "experts_per_token": 2, "head_dim": 8, "hidden_act": "silu",
    "hidden_size": 64, "initial_context_length": 16, "initializer_range": 0.02,
    "intermediate_size": 32, "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 128, "model_type": "gpt_oss", "num_attention_heads": 4,
    "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "num_local_experts": 4, "output_router_logits": False, "pad_token_id": 94,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
                     "original_max_position_embeddings": 16, "rope_type": "yarn",
                     "truncate": False},
    "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 8, "swiglu_limit": 7.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.55.0.dev0", "use_cache": True, "vocab_size": 96,
}
GLM4_MOE = {
    "architectures": ["Glm4MoeForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
    "eos_token_id": [0, 1, 2], "first_k_dense_replace": 1, "head_dim": 16, "hidden_act": "silu",
    "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 84,
    "max_position_embeddings": 64, "model_type": "glm4_moe", "moe_intermediate_size": 12,
    "n_group": 1, "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_attention_heads": 6, "num_experts_per_tok": 3, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "pad_token_id": 0,
    "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 1000000, "routed_scaling_factor": 2.5, "tie_word_embeddings": False,
    "topk_group": 1, "torch_dtype": "bfloat16", "transformers_version": "4.54.0",
    "use_cache": True, "use_qk_norm": True, "vocab_size": 96,
}
GLM4_MOE_LITE = {
    "architectures": ["Glm4MoeLiteForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "dtype": "bfloat16", "eos_token_id": [0, 1, 2], "first_k_dense_replace": 1,
    "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 84, "kv_lora_rank": 24,
    "max_position_embeddings": 64, "model_type": "glm4_moe_lite", "moe_intermediate_size": 12,
    "n_group": 1, "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_attention_heads": 4, "num_experts_per_tok": 3, "num_hidden_layers": 3,
    "num_key_value_heads": 4, "num_nextn_predict_layers": 1, "pad_token_id": 0,
    "partial_rotary_factor": 1.0, "q_lora_rank": 20, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000,
    "routed_scaling_factor": 1.8, "tie_word_embeddings": False, "topk_group": 1,
    "topk_method": "noaux_tc", "transformers_version": "5.0.0rc0", "v_head_dim": 20,
    "vocab_size": 96,
}
MINIMAX_M2 = {
    "architectures": ["MiniMaxM2ForCausalLM"], "attention_dropout": 0.0,
    "attn_type_list": [1, 1],
    "auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config",
                 "AutoModelForCausalLM": "modeling_minimax_m2.MiniMaxM2ForCausalLM"},
    "bos_token_id": None, "eos_token_id": None, "head_dim": 16, "hidden_act": "silu",
    "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 12,
    "layernorm_full_attention_beta": 1.0, "layernorm_linear_attention_beta": 1.0,
    "layernorm_mlp_beta": 1.0, "max_position_embeddings": 64, "mlp_intermediate_size": 84,
    "model_type": "minimax_m2", "mtp_transformer_layers": 1, "num_attention_heads": 6,
    "num_experts_per_tok": 3, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "num_local_experts": 8, "num_mtp_modules": 3, "output_router_logits": False,
    "qk_norm_type": "per_layer", "rms_norm_eps": 1e-06, "rope_theta": 5000000, "rotary_dim": 8,
    "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "scoring_func": "sigmoid",
    "shared_intermediate_size": 0, "shared_moe_mode": "sigmoid", "sliding_window": None,
    "tie_word_embeddings": False, "transformers_version": "4.46.1", "use_cache": True,
    "use_mtp": True, "use_qk_norm": True, "use_routing_bias": True, "vocab_size": 96,
}

CONFIGS = {
    "llama": LLAMA,
    "llama-gqa": {**LLAMA, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "mistral": MISTRAL,
    "mistral-window": {**MISTRAL, "sliding_window": 8, "transformers_version": "4.34.0.dev0"},
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "mixtral": MIXTRAL,
    "deepseek": DEEPSEEK,
    "qwen2_moe": QWEN2_MOE,
    "olmoe": OLMOE,
    "olmoe-clip": {**OLMOE, "clip_qkv": 0.9},
    "qwen3_moe": QWEN3_MOE,
    "yuan": YUAN,
    "skywork": SKYWORK,
    "grok-1": GROK,
    "deepseek_v2-lite": DEEPSEEK_V2,
    "deepseek_v2": {**DEEPSEEK_V2, "n_group": 4, "topk_group": 2, "q_lora_rank": 20,
                    "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0},
    "deepseek_v3": DEEPSEEK_V3,
    "minimax_m2": MINIMAX_M2,
    "glm4_moe": GLM4_MOE,
    "glm4_moe-air": {**GLM4_MOE, "num_nextn_predict_layers": 0,
                     "routed_scaling_factor": 1.0, "use_qk_norm": False},
    "glm4_moe_lite": GLM4_MOE_LITE,
    "gpt_oss": GPT_OSS,
    "gpt_oss-mxfp4": {**GPT_OSS, "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                   "model.embed_tokens", "lm_head"],
        "quant_method": "mxfp4"}},
}


def make(name):
    config = CONFIGS[name]
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {}
    # the published Grok-1 has no model_type
    family = config.get("model_type", config["architectures"][0])
    for tensor, kind, shape in MAKERS[family](config):
        random = generator(name.removesuffix("-mxfp4"), tensor)
        if kind in ("blocks", "scales"):  # 4-bit values, and exponents around 2^-2
            low, high = (0, 256) if kind == "blocks" else (124, 127)
            tensors[tensor] = random.integers(low, high, shape).astype(numpy.uint8)
        else:
            values = draw(kind, shape, random)
            tensors[tensor] = values.astype(numpy.float32) if kind == "small" \
                else to_bfloat16(values)
    save(folder / "model.safetensors", tensors)
    size = (folder / "model.safetensors").stat().st_size
    print(f"{name:24} {len(tensors):4} tensors {size / 1000:7.1f} kB")


if __name__ == "__main__":
    for fixture in sys.argv[1:] or CONFIGS:
        make(fixture)
