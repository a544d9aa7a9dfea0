#!/usr/bin/env python3
"""Makes tests/fixtures/adapters: LoRA adapters as PEFT writes them, for bases of
tests/fixtures/families, and the logits of base + adapter by PEFT.

    python adapters.py [NAME...]    # transformers 5.24.0, torch, peft 0.21.2

Each folder holds adapter_config.json, adapter_model.safetensors, and expected.safetensors with
`tokens` i32 [T] and `logits` f32 [T, V] behind each of them: of the base in float32 with the
adapter merged (merge_and_unload). Both matrices of every adapter are far from zero. `base` in
__metadata__ of expected.safetensors names the base's folder.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from families_common import FIXTURES as BASES
from families_common import generator

FIXTURES = BASES.parent / "adapters"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name: (base, arguments of LoraConfig, type of the adapter's tensors)
CASES = {
    "llama": ("llama-gqa", dict(
        r=3, lora_alpha=6, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"],
        rank_pattern={"k_proj": 2, r"layers\.1\.mlp\.(up|down)_proj": 5},
        alpha_pattern={r"^model\.layers\.[01]\.self_attn\.q_proj": 9, r"layers\.\d+\.mlp\.up_proj": 1}),
        torch.float32),
    "mistral": ("mistral", dict(
        r=4, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj", "lm_head"]),
        torch.bfloat16),
    "mixtral": ("mixtral", dict(
        r=2, lora_alpha=5, target_modules=["q_proj", "v_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"],
        rank_pattern={r".*\.gate_up_proj": 3}), torch.float32),
    "qwen2_moe": ("qwen2_moe", dict(
        r=2, lora_alpha=4, target_modules=["k_proj", "shared_expert.up_proj", "shared_expert.down_proj",
                                           "shared_expert_gate"],
        target_parameters=["experts.down_proj"]), torch.float16),
    "gpt_oss": ("gpt_oss", dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "k_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), torch.float32),
    "deepseek_v3": ("deepseek_v3", dict(
        r=2, lora_alpha=4, target_modules=["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj",
                                           "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.gate.weight"]), torch.float32),
}


def open_base(name):
    return AutoModelForCausalLM.from_pretrained(BASES / name, dtype=torch.float32,
                                                attn_implementation="eager").eval()


def fill(tensors, name, dtype):
    """Random values by name, so that products change the logits by much."""
    for key in sorted(tensors):
        random = generator("adapters", name, key)
        values = torch.from_numpy(random.standard_normal(tensors[key].shape)) * 0.2
        tensors[key] = values.to(dtype).contiguous()
    return tensors


def per_expert(config):
    """The names of Mixtral's experts before transformers 5, which adapters on the hub have."""
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for expert in range(config.num_local_experts):
            for module in ("w1", "w2", "w3"):
                sizes = (config.hidden_size, config.intermediate_size)
                columns, rows = sizes if module != "w2" else sizes[::-1]
                at = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{module}."
                tensors[at + "lora_A.weight"] = torch.zeros(2, columns)
                tensors[at + "lora_B.weight"] = torch.zeros(rows, 2)
    return tensors


def write_adapter(name, folder):
    if name == "mixtral-experts":
        base = "mixtral"
        config = dict(peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path=None, r=2,
                      lora_alpha=3, lora_dropout=0.0, target_modules=["w1", "w2", "w3"],
                      bias="none", inference_mode=True)
        tensors, dtype = per_expert(open_base(base).config), torch.bfloat16
    else:
        base, arguments, dtype = CASES[name]
        adapted = get_peft_model(open_base(base), LoraConfig(task_type="CAUSAL_LM", **arguments))
        adapted.save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
    config["base_model_name_or_path"] = base
    for key, value in config.items():  # sets come in any order
        config[key] = sorted(value) if isinstance(value, list) else value
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(fill(tensors, name, dtype), folder / "adapter_model.safetensors",
              metadata={"format": "pt"})
    return base


def expect(base, folder):
    tokens = load_file(BASES / base / "expected.safetensors")["tokens"]
    plain = open_base(base)
    with torch.no_grad():
        before = plain(tokens.long()[None]).logits[0]
        adapted = PeftModel.from_pretrained(plain, folder, autocast_adapter_dtype=False)
        merged = adapted.float().merge_and_unload(safe_merge=True)
        logits = merged(tokens.long()[None]).logits[0]
        with tempfile.TemporaryDirectory() as both:
            for source in (BASES / base, folder):
                for file in ("config.json", "model.safetensors", "adapter_config.json",
                             "adapter_model.safetensors"):
                    if (source / file).exists():
                        shutil.copy(source / file, both)
            embedded = AutoModelForCausalLM.from_pretrained(
                both, dtype=torch.float32, attn_implementation="eager").eval()
            unmerged = embedded(tokens.long()[None]).logits[0]
    save_file({"tokens": tokens.to(torch.int32), "logits": logits.float().contiguous()},
              folder / "expected.safetensors", metadata={"base": base})
    print(f"{folder.name}: the adapter moves logits by up to {(logits - before).abs().max():.3g}; "
          f"unmerged beside the base: {(unmerged - logits).abs().max():.2g}")


def write_patterns():
    """What Python's re says of names as PEFT matches them (get_pattern_key)."""
    names = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.experts.3.w1",
             "model.layers.1.mlp.up_proj", "lm_head", "model.layers.0.mlp.experts.gate_up_proj"]
    patterns = ["q_proj", "proj", "_proj", "self_attn.q_proj", "layers.0.self_attn.q_proj",
                "^model.layers.0.self_attn.q_proj", "^layers.0.self_attn.q_proj", "^lm_head$", r"lm.head",
                r".*\.gate_up_proj", r"(q|k|v|o)_proj", r"(?:up|down)_proj", r"layers\.\d\..*",
                r"layers\.\d+\..*w1", r"layers\.\d{2}\..*", r"layers\.\d{1,2}\.mlp\..*",
                r"layers\.\d{3,}\..*", r"experts\.[0-3]\.w[123]", r"experts\.[^0-2]\.\w+", r"experts\.[4-9].w1",
                r"[a-z_]+", r"[\w]+_proj", r"[.\d]*w1", "", ".*", ".+?", "x|lm_head", "lm_head|x", "a|b|c",
                r"model\.(layers\.\d+\.)?mlp\.up_proj", r"model(\.\w+)*\.w1", r"(\w+\.){2}up_proj",
                r"(\w+\.){,2}lm_head", r"up_proj)|(q_proj", r"\Sm_head", r"[]_a-z]+", r"q{1}_proj", r"q{0}_?up_proj",
                r"q_proj.*?", r"layers{ 1}", r"(\w+\.){,}w1", r"q{}_proj", r"q_pro{1,2}j", r"{x}|lm_head", r"layers\.(0|1)\.(self_attn|mlp)\.(q|up)_proj"]
    rows = [[pattern, name, re.match(rf"(.*\.)?({pattern})$", name) is not None]
            for pattern in patterns for name in names]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (FIXTURES / "patterns.json").write_text("[\n" + lines + "\n]\n")


def main():
    write_patterns()
    names = sys.argv[1:] or [*CASES, "mixtral-experts"]
    for name in names:
        folder = FIXTURES / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        base = write_adapter(name, folder)
        (folder / "README.md").unlink(missing_ok=True)
        expect(base, folder)


main()
