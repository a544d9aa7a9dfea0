#!/usr/bin/env python3
"""Makes tests/fixtures/families/longcat: a tiny model of mixt's own family whose experts and router
are LongCat-Flash's, with identity experts and a selection bias beside softmax, and the logits that
transformers computes with it.

  python tests/reference/zero_experts.py [--check]

The model is transformers' Mixtral with each layer's block of experts replaced by LongcatFlashMoE as
it stands there (modeling_longcat_flash.py), all in float64 but for what the library computes in
float32 whatever the type. It also prints how many choices were identity experts.
"""

import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
import torch
import transformers
from transformers import LongcatFlashConfig, MixtralConfig, MixtralForCausalLM
from transformers.models.longcat_flash.modeling_longcat_flash import LongcatFlashMoE

from families_common import FIXTURES, draw, generator, load, read_tokens, record
from families_common import save, to_bfloat16

NAME = "longcat"
LAYERS, VOCABULARY, WIDTH, HEADS, KV_HEADS = 2, 96, 32, 4, 2
FFN, EXPERTS, IDENTITY, CHOSEN, SCALE = 20, 5, 3, 3, 1.75

# What LongCat-Flash computes, in the keys of mixt's own family.
CONFIG = {
    "architectures": ["MixtForCausalLM"], "model_type": "mixt", "vocab_size": VOCABULARY,
    "max_position_embeddings": 64, "num_hidden_layers": LAYERS, "hidden_size": WIDTH,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": WIDTH // HEADS,
    "intermediate_size": FFN, "num_experts": EXPERTS, "num_experts_per_tok": CHOSEN,
    "identity_experts": IDENTITY, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
    "router_scale": SCALE, "router_select_bias": True, "torch_dtype": "bfloat16",
}


def make(folder):
    """Random weights under mixt's names."""
    shapes = {"model.embed_tokens.weight": ("embed", (VOCABULARY, WIDTH)),
              "model.norm.weight": ("norm", (WIDTH,)),
              "lm_head.weight": ("matrix", (VOCABULARY, WIDTH))}
    head = WIDTH // HEADS
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = ("norm", (WIDTH,))
        shapes[at + "post_attention_layernorm.weight"] = ("norm", (WIDTH,))
        for name, rows in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            shapes[at + f"self_attn.{name}_proj.weight"] = ("matrix", (rows, WIDTH))
        shapes[at + "self_attn.o_proj.weight"] = ("matrix", (WIDTH, HEADS * head))
        shapes[at + "mlp.gate.weight"] = ("router", (EXPERTS + IDENTITY, WIDTH))
        shapes[at + "mlp.gate.e_score_correction_bias"] = ("small", (EXPERTS + IDENTITY,))
        for expert in range(EXPERTS):
            for name, shape in (("gate", (FFN, WIDTH)), ("up", (FFN, WIDTH)), ("down", (WIDTH, FFN))):
                shapes[at + f"mlp.experts.{expert}.{name}_proj.weight"] = ("strong", shape)
    tensors = {}
    for name, (kind, shape) in shapes.items():
        values = draw(kind, shape, generator(NAME, name))
        tensors[name] = values.astype(numpy.float32) if kind == "small" else to_bfloat16(values)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2, sort_keys=True) + "\n")
    save(folder / "model.safetensors", tensors)


def block_of(tensors, layer):
    """LongCat-Flash's experts and router with the weights of one layer."""
    config = LongcatFlashConfig(
        hidden_size=WIDTH, expert_ffn_hidden_size=FFN, n_routed_experts=EXPERTS,
        zero_expert_num=IDENTITY, moe_topk=CHOSEN, routed_scaling_factor=SCALE)
    config._experts_implementation = "eager"
    block = LongcatFlashMoE(config)
    at = f"model.layers.{layer}.mlp."
    stack = block.experts.gate_up_proj.data.zero_()
    for expert in range(EXPERTS):
        gate, up, down = (tensors[at + f"experts.{expert}.{name}_proj.weight"]
                          for name in ("gate", "up", "down"))
        stack[expert] = torch.tensor(numpy.concatenate([gate, up]))
        block.experts.down_proj.data[expert] = torch.tensor(down)
    block.router.classifier.weight.data.copy_(torch.tensor(tensors[at + "gate.weight"]))
    block.router.e_score_correction_bias.copy_(
        torch.tensor(tensors[at + "gate.e_score_correction_bias"]))
    return block


def logits_of(folder):
    tensors = {name: numpy.array(value) for name, value in load(folder / "model.safetensors").items()}
    config = MixtralConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=64,
        rms_norm_eps=1e-5, rope_theta=1000000.0, num_local_experts=2, attn_implementation="eager")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 1000000.0}
    model = MixtralForCausalLM(config).eval()
    plain = {name: torch.tensor(value) for name, value in tensors.items() if ".mlp." not in name}
    missing, unexpected = model.load_state_dict(plain, strict=False)
    assert not unexpected and all(".mlp." in name for name in missing), (missing, unexpected)
    chosen = []
    for index, layer in enumerate(model.model.layers):
        layer.mlp = block_of(tensors, index)
        layer.mlp.router.register_forward_hook(lambda module, given, out: chosen.append(out[2]))
    tokens = torch.tensor(read_tokens(folder).tolist())[None]
    with torch.no_grad():
        logits = model.double()(tokens, use_cache=False).logits[0].numpy()
    identity = int(sum((ids >= EXPERTS).sum() for ids in chosen))
    print(f"{identity} of {sum(ids.numel() for ids in chosen)} choices are identity experts")
    assert identity > 0
    return logits


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print("transformers", transformers.__version__, "torch", torch.__version__)
    check = "--check" in sys.argv[1:]
    if not check:
        make(FIXTURES / NAME)
    sys.exit(0 if record(FIXTURES / NAME, logits_of(FIXTURES / NAME), check) else 1)
