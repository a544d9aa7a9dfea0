#!/usr/bin/env python3
"""Writes tests/fixtures/families/NAME.gguf with llama.cpp's own converter.

  MIXT_LLAMA_CPP=DIR python families_gguf.py [--type bf16|f32] [--to FOLDER] [NAME...]

DIR is a llama.cpp checkout (its Python packages `conversion` and `gguf` are used as they are).
Two things are put in its way: the vocabulary, which is a byte-level one of 96 tokens made here,
and for Grok the tensor names, since it knows xAI's and not the Hugging Face form's.
`mixtral.old.gguf` is the form of before March 2024, one tensor an expert; it is written with the
gguf package from the tensors of mixtral.gguf.
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

NAMES = ["llama-gqa", "mistral", "mixtral", "deepseek", "qwen2_moe", "olmoe", "qwen3_moe",
         "grok-1", "deepseek_v2-lite", "deepseek_v3", "gpt_oss", "gpt_oss-mxfp4"]
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
        model_class = get_model_class(config["architectures"][0])
        model_class.set_vocab = vocabulary
        types = {"bf16": gguf.LlamaFileType.MOSTLY_BF16, "f32": gguf.LlamaFileType.ALL_F32}
        with torch.inference_mode():
            model_class(folder, types[kind], to / f"{name}.gguf", model_name=name).write()


def split_experts(source, path):
    """The same model with blk.N.ffn_gate.E.weight in place of blk.N.ffn_gate_exps.weight."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        match = re.fullmatch(r"(blk\.\d+\.ffn_(?:gate|up|down))_exps\.weight", tensor.name)
        pieces = [(tensor.name, tensor.data)] if match is None else \
            [(f"{match[1]}.{expert}.weight", data) for expert, data in enumerate(tensor.data)]
        for name, data in pieces:
            writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--to", type=pathlib.Path, default=FIXTURES)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    for fixture in arguments.names or NAMES:
        convert(fixture, arguments.type, arguments.to)
        if fixture == "mixtral":
            split_experts(arguments.to / "mixtral.gguf", arguments.to / "mixtral.old.gguf")
