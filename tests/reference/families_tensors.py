"""Names, kinds and shapes of the tensors in each family's published files, from its config.json.

Each function yields (name, kind, shape); the kinds are those of families_common.draw.
"""


def heads(config):
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim


def ends(config, tied=False, scale="weight"):
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", "gentle" if tied else "embed", (vocab, hidden)
    yield f"model.norm.{scale}", "norm", (hidden,)
    if not tied:
        yield "lm_head.weight", "matrix", (vocab, hidden)


def norms(prefix, hidden, names=("input_layernorm", "post_attention_layernorm"), scale="weight"):
    for name in names:
        yield f"{prefix}.{name}.{scale}", "norm", (hidden,)


def attention(prefix, config, biases="", kind="matrix"):
    """q, k, v and o; `biases` names those of them that have one."""
    hidden = config["hidden_size"]
    q, kv = heads(config)
    for name, rows, columns in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden),
                                ("o", hidden, q)):
        weight_kind = kind if name in "qk" else "matrix"
        yield f"{prefix}.{name}_proj.weight", weight_kind, (rows, columns)
        if name in biases:
            yield f"{prefix}.{name}_proj.bias", "bias", (rows,)


def gated(prefix, hidden, width, names=("gate_proj", "up_proj", "down_proj")):
    yield f"{prefix}.{names[0]}.weight", "matrix", (width, hidden)
    yield f"{prefix}.{names[1]}.weight", "matrix", (width, hidden)
    yield f"{prefix}.{names[2]}.weight", "matrix", (hidden, width)


def llama(config):
    """Also Qwen2 (biases of q, k and v) and Qwen3 (norm of each head of q and k)."""
    family = config["model_type"]
    yield from ends(config, config["tie_word_embeddings"])
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, config["hidden_size"])
        yield from attention(f"{prefix}.self_attn", config, "qkv" if family == "qwen2" else "")
        if family == "qwen3":
            yield from norms(f"{prefix}.self_attn", config["head_dim"], ("q_norm", "k_norm"))
        yield from gated(f"{prefix}.mlp", config["hidden_size"], config["intermediate_size"])


def mixtral(config):
    """Also Skywork-MoE, whose released files use the same names."""
    hidden = config["hidden_size"]
    experts = config.get("num_local_experts") or config["num_experts"][0]
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config)
        yield f"{prefix}.block_sparse_moe.gate.weight", "router", (experts, hidden)
        for expert in range(experts):
            yield from gated(f"{prefix}.block_sparse_moe.experts.{expert}", hidden,
                             config["intermediate_size"], ("w1", "w3", "w2"))


def minimax(config):
    hidden, experts = config["hidden_size"], config["num_local_experts"]
    q, kv = heads(config)
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config)
        yield from norms(f"{prefix}.self_attn", q, ("q_norm",))
        yield from norms(f"{prefix}.self_attn", kv, ("k_norm",))
        moe = f"{prefix}.block_sparse_moe"
        yield f"{moe}.gate.weight", "router", (experts, hidden)
        yield f"{moe}.e_score_correction_bias", "small", (experts,)
        for expert in range(experts):
            yield from gated(f"{moe}.experts.{expert}", hidden, config["intermediate_size"],
                             ("w1", "w3", "w2"))


def deepseek_ffn(prefix, config, layer):
    hidden = config["hidden_size"]
    if layer < config["first_k_dense_replace"]:
        yield from gated(f"{prefix}.mlp", hidden, config["intermediate_size"])
        return
    width = config["moe_intermediate_size"]
    yield f"{prefix}.mlp.gate.weight", "router", (config["n_routed_experts"], hidden)
    if config.get("topk_method") == "noaux_tc":
        yield f"{prefix}.mlp.gate.e_score_correction_bias", "small", (config["n_routed_experts"],)
    for expert in range(config["n_routed_experts"]):
        yield from gated(f"{prefix}.mlp.experts.{expert}", hidden, width)
    yield from gated(f"{prefix}.mlp.shared_experts", hidden, width * config["n_shared_experts"])


def deepseek(config):
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, config["hidden_size"])
        yield from attention(f"{prefix}.self_attn", config)
        yield from deepseek_ffn(prefix, config, layer)


def latent_attention(prefix, config):
    hidden, latent = config["hidden_size"], config["kv_lora_rank"]
    count, nope, rope = (config["num_attention_heads"], config["qk_nope_head_dim"],
                         config["qk_rope_head_dim"])
    rank, value = config["q_lora_rank"], config["v_head_dim"]
    if rank is None:
        yield f"{prefix}.q_proj.weight", "matrix", (count * (nope + rope), hidden)
    else:
        yield f"{prefix}.q_a_proj.weight", "matrix", (rank, hidden)
        yield f"{prefix}.q_a_layernorm.weight", "norm", (rank,)
        yield f"{prefix}.q_b_proj.weight", "matrix", (count * (nope + rope), rank)
    yield f"{prefix}.kv_a_proj_with_mqa.weight", "matrix", (latent + rope, hidden)
    yield f"{prefix}.kv_a_layernorm.weight", "norm", (latent,)
    yield f"{prefix}.kv_b_proj.weight", "matrix", (count * (nope + value), latent)
    yield f"{prefix}.o_proj.weight", "matrix", (hidden, count * value)


def glm(config):
    """GLM-4.5 and its successors; a few tensors of a layer for multi-token prediction as V3's."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    yield from ends(config)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config, "qkv")
        if config["use_qk_norm"]:
            yield from norms(f"{prefix}.self_attn", config["head_dim"], ("q_norm", "k_norm"))
        yield from deepseek_ffn(prefix, {**config, "topk_method": "noaux_tc"}, layer)
    if config["num_nextn_predict_layers"]:
        yield from norms(f"model.layers.{layers}", hidden, ("enorm", "hnorm"))
        yield f"model.layers.{layers}.eh_proj.weight", "matrix", (hidden, 2 * hidden)


def deepseek_latent(config):
    """DeepSeek-V2 and V3, GLM-4.7-Flash. Files of the last two also hold a layer for multi-token
    prediction behind the last one, which takes no part in plain generation: a few of its tensors
    are there to be ignored."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    yield from ends(config)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from latent_attention(f"{prefix}.self_attn", config)
        yield from deepseek_ffn(prefix, config, layer)
    if config.get("num_nextn_predict_layers"):
        yield from norms(f"model.layers.{layers}", hidden, ("enorm", "hnorm"))
        yield f"model.layers.{layers}.eh_proj.weight", "matrix", (hidden, 2 * hidden)


def qwen2_moe(config):
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config, "qkv")
        yield f"{prefix}.mlp.gate.weight", "router", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            yield from gated(f"{prefix}.mlp.experts.{expert}", hidden, width)
        yield from gated(f"{prefix}.mlp.shared_expert", hidden,
                         config["shared_expert_intermediate_size"])
        yield f"{prefix}.mlp.shared_expert_gate.weight", "matrix", (1, hidden)


def normed_moe(config):
    """OLMoE (norm over the whole q and k) and Qwen3-MoE (norm of each head)."""
    hidden = config["hidden_size"]
    q, kv = heads(config)
    whole = config["model_type"] == "olmoe"
    width = config["intermediate_size" if whole else "moe_intermediate_size"]
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config)
        yield f"{prefix}.self_attn.q_norm.weight", "norm", (q if whole else config["head_dim"],)
        yield f"{prefix}.self_attn.k_norm.weight", "norm", (kv if whole else config["head_dim"],)
        yield f"{prefix}.mlp.gate.weight", "router", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            yield from gated(f"{prefix}.mlp.experts.{expert}", hidden, width)


def yuan(config):
    hidden, projection = config["hidden_size"], config["attention_projection_size"]
    experts, width = config["moe_config"]["moe_num_experts"], \
        config["moe_config"]["ffn_hidden_size"]
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        for name in ("q", "k", "v"):
            yield f"{prefix}.self_attn.{name}_proj.weight", "matrix", (projection, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", "matrix", (hidden, projection)
        gate = f"{prefix}.self_attn.lf_gate"
        yield f"{gate}.conv1.weight", "matrix", (hidden // 2, hidden, 2, 1)
        yield f"{gate}.conv1.bias", "bias", (hidden // 2,)
        yield f"{gate}.conv2.weight", "matrix", (hidden, hidden // 2, 2, 1)
        yield f"{gate}.conv2.bias", "bias", (hidden,)
        yield f"{gate}.output_layernorm.weight", "norm", (hidden,)
        for name in ("query", "key", "value"):
            yield f"{prefix}.mlp.gate.{name}.weight", "matrix", (experts, hidden)
        for expert in range(experts):
            yield f"{prefix}.mlp.experts.{expert}.w1.weight", "matrix", (2 * width, hidden)
            yield f"{prefix}.mlp.experts.{expert}.w2.weight", "matrix", (hidden, width)


def grok(config):
    hidden = config["hidden_size"]
    yield from ends(config, True, "scale")
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden, ("pre_attn_norm", "post_attn_norm", "pre_moe_norm",
                                          "post_moe_norm"), "scale")
        # strong q and k: attention logits of 30 and more, where the cap acts
        yield from attention(f"{prefix}.attn", config, kind="wide")
        yield f"{prefix}.moe_block.gate.weight", "router", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            yield from gated(f"{prefix}.moe_block.experts.{expert}", hidden,
                             config["intermediate_size"], ("linear", "linear_v", "linear_1"))


def gpt_oss(config):
    hidden, width, experts = (config["hidden_size"], config["intermediate_size"],
                              config["num_local_experts"])
    yield from ends(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield from norms(prefix, hidden)
        yield from attention(f"{prefix}.self_attn", config, "qkvo")
        yield f"{prefix}.self_attn.sinks", "sinks", (config["num_attention_heads"],)
        yield f"{prefix}.mlp.router.weight", "router", (experts, hidden)
        yield f"{prefix}.mlp.router.bias", "bias", (experts,)
        mlp = f"{prefix}.mlp.experts"
        if "quantization_config" in config:  # rows of blocks of 32: [E, out, in / 32, 16]
            yield f"{mlp}.gate_up_proj_blocks", "blocks", (experts, 2 * width, hidden // 32, 16)
            yield f"{mlp}.gate_up_proj_scales", "scales", (experts, 2 * width, hidden // 32)
            yield f"{mlp}.down_proj_blocks", "blocks", (experts, hidden, width // 32, 16)
            yield f"{mlp}.down_proj_scales", "scales", (experts, hidden, width // 32)
        else:  # wide: gates of 7 and more, where the clamp acts
            yield f"{mlp}.gate_up_proj", "wide_in_out", (experts, hidden, 2 * width)
            yield f"{mlp}.down_proj", "gentle_in_out", (experts, width, hidden)
        yield f"{mlp}.gate_up_proj_bias", "bias", (experts, 2 * width)
        yield f"{mlp}.down_proj_bias", "bias", (experts, hidden)


MAKERS = {
    "llama": llama, "mistral": llama, "qwen2": llama, "qwen3": llama, "mixtral": mixtral,
    "skywork": mixtral,
    "deepseek": deepseek, "deepseek_v2": deepseek_latent, "deepseek_v3": deepseek_latent,
    "qwen2_moe": qwen2_moe, "olmoe": normed_moe, "qwen3_moe": normed_moe, "yuan": yuan,
    "Grok1ModelForCausalLM": grok, "gpt_oss": gpt_oss, "minimax_m2": minimax, "glm4_moe": glm,
    "glm4_moe_lite": deepseek_latent,
}
