"""The Llama/Mixtral forward pass restated in a few lines of torch, to check that the float64 values
that model.py takes from transformers are float64 everywhere. Not a source of fixtures."""

import torch


def norm(x, weight, epsilon):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def rotate(x, positions, theta):
    """x [B, H, T, D], positions [B, T]: pairs (i, i + D/2)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = positions[:, None, :, None].to(x.dtype) * frequency
    low, high = x[..., :half], x[..., half:]
    return torch.cat((low * angle.cos() - high * angle.sin(),
                      high * angle.cos() + low * angle.sin()), dim=-1)


def forward(config, weights, tokens, documents, positions):
    """weights: dict of float64 tensors by their Hugging Face names. Returns logits [B, T, V]."""
    batch, length = tokens.shape
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    keep = torch.tril(torch.ones(length, length, dtype=torch.bool))
    keep = keep & (documents[:, :, None] == documents[:, None, :])
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config.num_hidden_layers):
        own = {key.split(".", 3)[3]: value for key, value in weights.items()
               if key.startswith(f"model.layers.{layer}.")}
        h = norm(x, own["input_layernorm.weight"], config.rms_norm_eps)

        def project(name, count):
            return (h @ own[f"self_attn.{name}_proj.weight"].T).view(
                batch, length, count, size).transpose(1, 2)

        q = rotate(project("q", heads), positions, config.rope_theta)
        k = rotate(project("k", groups), positions, config.rope_theta)
        k = k.repeat_interleave(heads // groups, dim=1)
        v = project("v", groups).repeat_interleave(heads // groups, dim=1)
        scores = (q @ k.transpose(2, 3)) / size ** 0.5
        scores = scores.masked_fill(~keep[:, None], float("-inf"))
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, length, -1)
        x = x + mixed @ own["self_attn.o_proj.weight"].T
        h = norm(x, own["post_attention_layernorm.weight"], config.rms_norm_eps)
        x = x + feed_forward(config, own, h)
    x = norm(x, weights["model.norm.weight"], config.rms_norm_eps)
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return x @ head.T


def gated(h, gate, up, down):
    return (torch.nn.functional.silu(h @ gate.T) * (h @ up.T)) @ down.T


def feed_forward(config, own, h):
    if "mlp.gate_proj.weight" in own:
        return gated(h, own["mlp.gate_proj.weight"], own["mlp.up_proj.weight"],
                     own["mlp.down_proj.weight"])
    # The dense way: every expert on every token, those not chosen with weight 0.
    logits = h @ own["block_sparse_moe.gate.weight"].T
    best = logits.topk(config.num_experts_per_tok, dim=-1)
    mixture = torch.zeros_like(logits).scatter(-1, best.indices, torch.softmax(best.values, -1))
    y = 0
    for expert in range(config.num_local_experts):
        w1, w2, w3 = (own[f"block_sparse_moe.experts.{expert}.w{i}.weight"] for i in (1, 2, 3))
        y = y + mixture[..., expert:expert + 1] * gated(h, w1, w3, w2)
    return y
