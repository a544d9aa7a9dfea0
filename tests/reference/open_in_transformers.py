#!/usr/bin/env python3
"""Opens a folder written by mixt in transformers and compares logits with what mixt computed.

    python open_in_transformers.py FOLDER RESULT [--tolerance 1e-4]

RESULT is what mixt computed with that folder's model: a .safetensors file with `tokens` (I32 or I64,
[T] or [B, T]) and `logits` (F32, [T, V] or [B, T, V]), or JSON with the same two keys as nested
lists. JSON may have a key `text` as well: the tokenizer must then encode it to the first row of
tokens, and decode that row to it. Without RESULT the folder is only opened.

Exit status: 0 when everything agrees, 1 when a logit differs by more than the tolerance, weights
are missing or left over, or the tokenizer disagrees.
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging


logging.set_verbosity_error()


def read_result(path):
    if path.suffix == ".safetensors":
        tensors = load_file(str(path))
        return tensors["tokens"].long(), tensors["logits"].float(), None
    values = json.loads(path.read_text())
    return torch.tensor(values["tokens"]).long(), torch.tensor(values["logits"]), values.get("text")


def open_model(folder):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    print(f"{type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters")
    trouble = {key: value for key, value in report.items() if value}
    for key, value in trouble.items():
        print(f"{key}: {sorted(value)[:5]}", file=sys.stderr)
    return model.eval(), not trouble


def tokenizer_agrees(folder, text, tokens):
    if not (folder / "tokenizer.json").exists():
        print("no tokenizer.json")
        return text is None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    print(f"{type(tokenizer).__name__}, {len(tokenizer)} tokens")
    if text is None:
        return True
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if ids != tokens or tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text:
        print(f"the tokenizer gives {ids[:12]}..., mixt {tokens[:12]}...", file=sys.stderr)
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("result", type=pathlib.Path, nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    model, good = open_model(arguments.folder)
    if arguments.result is None:
        return 0 if good and tokenizer_agrees(arguments.folder, None, None) else 1
    tokens, logits, text = read_result(arguments.result)
    if tokens.dim() == 1:
        tokens, logits = tokens[None], logits[None]
    good = tokenizer_agrees(arguments.folder, text, tokens[0].tolist()) and good
    with torch.no_grad():
        theirs = model(tokens).logits
    if theirs.shape != logits.shape:
        print(f"logits have the shape {list(logits.shape)}, not {list(theirs.shape)}",
              file=sys.stderr)
        return 1
    difference = (theirs - logits).abs().max().item()
    print(f"largest logit {theirs.abs().max().item():.4f}, largest difference {difference:.2e} "
          f"(tolerance {arguments.tolerance:g}) over {tokens.numel()} positions")
    # Written so that NaN fails.
    return 0 if good and difference <= arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
