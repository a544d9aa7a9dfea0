#!/usr/bin/env python3
"""Makes tests/fixtures/checkpoints: folders as today's programs write them, and their logits.

  python checkpoints.py [NAME...]

Tiny random models, saved by transformers 5 (5.24 made the fixtures) with the stacks of experts
that it computes with (save_original_format=False), or changed by hand where no program at hand
writes the form (FP8, a head of its own beside tied embeddings). expected.safetensors holds
`tokens` i32 [T] and `logits` f32 [T, V] of transformers, in float64 where its code allows.
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import families_common as common

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "checkpoints"
V = 40
SMALL = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24,
         "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
DEEPSEEK = {**SMALL, "num_key_value_heads": 2, "head_dim": 4, "kv_lora_rank": 8,
            "q_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
            "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
            "moe_intermediate_size": 8, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1}
MODELS = {
    "mixtral": {**SMALL, "intermediate_size": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**SMALL, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 12,
                  "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1},
    "qwen3_moe": {**SMALL, "moe_intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2,
                  "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "olmoe": {**SMALL, "intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v2": {**DEEPSEEK, "topk_method": "group_limited_greedy", "norm_topk_prob": False},
    "deepseek_v3": DEEPSEEK,
    "llama": {**SMALL},
}


def redraw(model, words):
    """Values that hide no step: nothing is left at one or zero."""
    for name, parameter in sorted(model.named_parameters()):
        random = common.generator(words, name)
        shape = tuple(parameter.shape)
        kind = ("sinks" if "sinks" in name else "norm" if "norm" in name else
                "bias" if name.endswith("bias") else "embed" if "embed_tokens" in name else
                "router" if name.endswith(("gate.weight", "router.weight")) else "matrix")
        values = torch.tensor(common.draw(kind, shape, random) if kind != "matrix" else
                              1.2 * random.standard_normal(shape) / shape[-1] ** 0.5)
        parameter.data.copy_(values.to(torch.bfloat16))
    for name, buffer in sorted(model.named_buffers()):
        if "e_score_correction_bias" in name:
            values = common.draw("small", tuple(buffer.shape), common.generator(words, name))
            buffer.data.copy_(torch.tensor(values).to(torch.bfloat16))


def build(family, name, **changes):
    config = AutoConfig.for_model(family, **{**MODELS[family], **changes})
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                             dtype=torch.float32).eval()
    redraw(model, name)
    return model


def save(model, name, dtype=torch.bfloat16, original=False):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, save_original_format=original)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def record(folder, model=None):
    """Logits by the library's own reading of the folder, or of this model."""
    if model is None:
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", experts_implementation="eager",
            dtype=torch.float32).eval()
    tokens = torch.tensor(common.tokens_of(folder.name, V).tolist())[None]
    with torch.no_grad():
        logits = model.float()(tokens, use_cache=False).logits[0]
        try:
            logits = model.double()(tokens, use_cache=False).logits[0]
        except RuntimeError:  # code that mixes a fixed float32 into products
            pass
    common.save(folder / "expected.safetensors",
                {"tokens": common.tokens_of(folder.name, V),
                 "logits": logits.float().numpy()})
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder.name:24} largest {logits.abs().max():.2f}, {size} bytes")


def change_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config, indent=2) + "\n")


def fused(name):
    family = name.removesuffix("-fused")
    record(save(build(family, name), name))


def tied_head(name):
    """A head of its own, though config.json says tied."""
    model = build("qwen3_moe", name, tie_word_embeddings=False)
    folder = save(model, name, original=True)
    change_config(folder, tie_word_embeddings=True)
    record(folder)


def biased(family, name, dtype, **changes):
    model = build(family, name, **changes)
    record(save(model, name, dtype, original=True))


def to_fp8(values, rows, columns):
    """E4M3 and factors [ceil(R / rows), ceil(C / columns)], as DeepSeek-V3 and Qwen3 have them."""
    r, c = values.shape
    grid = torch.zeros(-(-r // rows), -(-c // columns))
    codes = torch.zeros(r, c, dtype=torch.float8_e4m3fn)
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            at = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
            grid[i, j] = values[at].abs().max() / 448
            codes[at] = (values[at] / grid[i, j]).to(torch.float8_e4m3fn)
    return codes, grid


def exact(codes, grid, rows, columns):
    r, c = codes.shape
    full = grid.float().repeat_interleave(rows, 0)[:r].repeat_interleave(columns, 1)[:, :c]
    return codes.float() * full


def fp8(family, name, block, scale_type=torch.float32, stacked=False, auto=False, **changes):
    """Matrices of the layers, but for routers, as FP8. The logits are those of the products of
    codes and factors in float64: the library's own dequantising rounds them to bfloat16."""
    model = build(family, name, **changes)
    rows, columns = block if block else (1 << 20, 1 << 20)
    folder = save(model, name, original=not stacked)
    path = folder / "model.safetensors"
    tensors, plain = load_file(path), {}
    for key in list(tensors):
        value = tensors[key].float()
        stack = stacked and ".experts." in key
        if ("layers" not in key or value.ndim < 2 or key.endswith("mlp.gate.weight")
                or not (stack or key.endswith(("proj.weight", "w1.weight", "w2.weight",
                                               "w3.weight")))):
            plain[key] = tensors[key].float()
            continue
        parts = [to_fp8(part, rows, columns) for part in (value if stack else [value])]
        parts = [(codes, grid.to(scale_type)) for codes, grid in parts]
        back = [exact(codes, grid, rows, columns) for codes, grid in parts]
        codes, grid = (torch.stack([p[i] for p in parts]) if stack else parts[0][i]
                       for i in (0, 1))
        tensors[key], plain[key] = codes, torch.stack(back) if stack else back[0]
        if auto:  # AutoFP8, as Mixtral-8x7B-Instruct-v0.1-FP8 is published
            tensors[key + "_scale"] = grid.reshape(1)
            tensors[key.removesuffix("weight") + "input_scale"] = torch.tensor([0.1])
        else:
            tensors[key + "_scale_inv"] = grid if block or stack else grid.reshape(())
    save_file(tensors, path, metadata={"format": "pt"})
    change_config(folder, quantization_config={
        "activation_scheme": "static", "ignored_layers": ["lm_head"], "quant_method": "fp8"}
        if auto else {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
        "weight_block_size": list(block) if block else None})
    scratch = folder / "plain"
    scratch.mkdir()
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (scratch / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    save_file(plain, scratch / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(
        scratch, attn_implementation="eager", experts_implementation="eager",
        dtype=torch.float32).eval()
    shutil.rmtree(scratch)
    record(folder, model)


def fp8_values(name):
    """Every number of the type, twice: count u32, codes, fp32 values (tests/test_quant.c)."""
    codes = numpy.arange(512, dtype=numpy.uint8)
    codes[codes % 128 == 127] = 0
    values = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    path = FIXTURES.parent / "quant" / name
    path.write_bytes(numpy.uint32(512).tobytes() + codes.tobytes() + values.tobytes())


RECIPES = {
    "F8_E4M3.bin": fp8_values,
    **{f"{family}-fused": fused for family in MODELS if family != "llama"},
    "qwen3_moe-head": tied_head,
    "llama-biases": lambda name: biased("llama", name, torch.float16, attention_bias=True,
                                        mlp_bias=True),
    "qwen3_moe-biases": lambda name: biased("qwen3_moe", name, torch.bfloat16,
                                            attention_bias=True),
    "olmoe-biases": lambda name: biased("olmoe", name, torch.bfloat16, attention_bias=True),
    "qwen2_moe-unbiased": lambda name: biased("qwen2_moe", name, torch.bfloat16, qkv_bias=False),
    # not multiples of the block on either side, the published block
    "qwen3_moe-fp8": lambda name: fp8("qwen3_moe", name, (128, 128), hidden_size=136,
                                      num_hidden_layers=1, moe_intermediate_size=24),
    "deepseek_v3-fp8": lambda name: fp8("deepseek_v3", name, (6, 5)),
    "qwen3_moe-fp8-bf16-scales": lambda name: fp8("qwen3_moe", name, (5, 7), torch.bfloat16),
    "qwen3_moe-fp8-stacked": lambda name: fp8("qwen3_moe", name, (5, 7), stacked=True),
    "qwen3_moe-fp8-tensor": lambda name: fp8("qwen3_moe", name, None),
    "mixtral-fp8-auto": lambda name: fp8("mixtral", name, None, auto=True),
}


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print("transformers", transformers.__version__, "torch", torch.__version__)
    for name in sys.argv[1:] or RECIPES:
        RECIPES[name](name)
