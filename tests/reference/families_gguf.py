#!/usr/bin/env python3
"""Writes tests/fixtures/families/NAME.gguf with llama.cpp's own converter.

  MIXT_LLAMA_CPP=DIR python families_gguf.py [--type bf16|f32] [--to FOLDER] [NAME...]

DIR is a llama.cpp checkout (its Python packages `conversion` and `gguf` are used as they are).
Two things are put in its way: the vocabulary, which is a byte-level one of 96 tokens made here,
and for Grok the tensor names, since it knows xAI's and not the Hugging Face form's.
Older forms are written with the gguf package from its files: `mixtral.old.gguf` (before March 2024)
has one tensor for each expert, `deepseek_v3.old.gguf` (before April 2025) kv_b in one piece.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

sys.path[:0] = [os.environ["MIXT_LLAMA_CPP"], os.path.join(os.environ["MIXT_LLAMA_CPP"], "gguf-py")]

import gguf
import torch
from conversion import get_model_class

from families_common import FIXTURES, load, save, to_bfloat16

NAMES = ["llama-gqa", "mistral", "qwen2", "qwen3", "mixtral", "deepseek", "qwen2_moe", "olmoe",
         "qwen3_moe", "grok-1", "deepseek_v2-lite", "deepseek_v3", "minimax_m2",
         "glm4_moe", "glm4_moe-air", "glm4_moe_lite", "gpt_oss", "gpt_oss-mxfp4"]
GROK = [("model.embed_tokens", "transformer.in_out_embed"), ("model.norm", "transformer.rms_norm"),
        (r"model.layers.(\d+)", r"transformer.decoder_layer.\1"), ("pre_attn_norm", "rms_norm"),
        ("post_attn_norm", "rms_norm_1"), ("pre_moe_norm", "rms_norm_2"),
        ("post_moe_norm", "rms_norm_3"), ("attn.q_proj", "multi_head_attention.query"),
        ("attn.k_proj", "multi_head_attention.key"), ("attn.v_proj", "multi_head_attention.value"),
        ("attn.o_proj", "multi_head_attention.linear"), ("moe_block.gate", "router"),
        ("moe_block.experts", "moe"), (".scale", ".weight")]


def vocabulary(model):
    """93 printable characters, the space, one merge and an end of text: 96 tokens."""
    tokens = [chr(code) for code in range(33, 126)] + ["\u0120", "th", "<|end|>"]
    writer = model.gguf_writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 95 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(95)
    writer.add_eos_token_id(95)


def grok_folder(folder, to):
    """A copy under the names that the converter knows."""
    config = json.loads((folder / "config.json").read_text())
    config.update(architectures=["Grok1ForCausalLM"], num_local_experts=config["num_experts"])
    (to / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, values in load(folder / "model.safetensors").items():
        for pattern, replacement in GROK:
            name = re.sub(pattern.replace(".", r"\.") if "(" not in pattern else pattern,
                          replacement, name)
        tensors[name] = to_bfloat16(values)
    save(to / "model.safetensors", tensors)


def convert(name, kind, to):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / name
        folder.mkdir()
        if name == "grok-1":
            grok_folder(FIXTURES / name, folder)
        else:
            for file in ("config.json", "model.safetensors"):
                shutil.copy(FIXTURES / name / file, folder)
        config = json.loads((folder / "config.json").read_text())
        if name == "glm4_moe_lite":  # llama.cpp knows the published one by its sizes
            config["scoring_func"] = "sigmoid"
            (folder / "config.json").write_text(json.dumps(config))
        model_class = get_model_class(config["architectures"][0])
        model_class.set_vocab = vocabulary
        types = {"bf16": gguf.LlamaFileType.MOSTLY_BF16, "f32": gguf.LlamaFileType.ALL_F32}
        with torch.inference_mode():
            model_class(folder, types[kind], to / f"{name}.gguf", model_name=name).write()


def rewrite(source, path, change, replace):
    """A copy of a GGUF file. change: {key: value} for keys that differ, None to leave one out;
    replace(tensor) -> [(name, data)] in place of a tensor."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        value = change.get(field.name, field.contents())
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or value is None:
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        for name, data in replace(tensor):
            writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split_experts(folder):
    """mixtral.old.gguf: blk.N.ffn_gate.E.weight in place of blk.N.ffn_gate_exps.weight."""
    def replace(tensor):
        match = re.fullmatch(r"(blk\.\d+\.ffn_(?:gate|up|down))_exps\.weight", tensor.name)
        if match is None:
            return [(tensor.name, tensor.data)]
        return [(f"{match[1]}.{expert}.weight", data) for expert, data in enumerate(tensor.data)]

    rewrite(folder / "mixtral.gguf", folder / "mixtral.old.gguf", {}, replace)


def join_latent(folder):
    """deepseek_v3.old.gguf: one attn_kv_b as Hugging Face has it, and the head sizes of plain
    attention, as files of before April 2025."""
    config = json.loads((FIXTURES / "deepseek_v3" / "config.json").read_text())
    head = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    change = {"deepseek2.attention.head_count_kv": config["num_attention_heads"],
              "deepseek2.attention.key_length": head,
              "deepseek2.attention.value_length": config["v_head_dim"],
              "deepseek2.attention.key_length_mla": None,
              "deepseek2.attention.value_length_mla": None}

    def replace(tensor):
        match = re.fullmatch(r"blk\.(\d+)\.attn_(k|v)_b\.weight", tensor.name)
        if match is None:
            return [(tensor.name, tensor.data)]
        if match[2] == "v":
            return []
        joined = load(FIXTURES / "deepseek_v3" / "model.safetensors")[
            f"model.layers.{match[1]}.self_attn.kv_b_proj.weight"]
        if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            joined = to_bfloat16(joined).view("uint8")
        return [(f"blk.{match[1]}.attn_kv_b.weight", joined)]

    rewrite(folder / "deepseek_v3.gguf", folder / "deepseek_v3.old.gguf", change, replace)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--to", type=pathlib.Path, default=FIXTURES)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    for fixture in arguments.names or NAMES:
        convert(fixture, arguments.type, arguments.to)
        if fixture == "mixtral":
            split_experts(arguments.to)
        if fixture == "deepseek_v3":
            join_latent(arguments.to)
