#!/usr/bin/env python3
"""Opens adapters that mixt trained in transformers and PEFT, and compares logits with mixt's.

    python open_adapters.py BASE FOLDER LOGITS [TEXT]

BASE is the model that the run began with (--init-from), FOLDER a checkpoint or the model of a run
with --lora-rank, LOGITS the example program (make examples). The adapters are merged here, in
numpy, from the two files; mixt computes the logits of that, and they are compared with those of

    * FOLDER, a complete model with embedded adapters, in AutoModelForCausalLM.from_pretrained,
    * BASE with FOLDER over it, in peft.PeftModel.from_pretrained.

Needs transformers and PEFT. Exit status: 0 where all agree to 1e-5 and the adapters change
something.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
warnings.simplefilter("ignore")

import numpy
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file

transformers.logging.set_verbosity_error()
PREFIX = "base_model.model."


def merge(folder, to):
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    adapters = load_file(folder / "adapter_model.safetensors")
    modules = {name.rsplit(".lora_", 1)[0] for name in adapters}
    for module in modules:
        key = module[len(PREFIX):]
        targets = config["target_modules"]
        good = (re.fullmatch(targets, key) if isinstance(targets, str)
                else key.rsplit(".", 1)[1] in targets)
        assert good, f"{key} is not meant by target_modules"
        b, a = (adapters[f"{module}.lora_{which}.weight"].astype(numpy.float64) for which in "BA")
        weight = tensors[f"{key}.weight"]
        merged = weight + config["lora_alpha"] / config["r"] * (b @ a)
        tensors[f"{key}.weight"] = merged.astype(numpy.float32)
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("adapter_*", "model.safetensors"))
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return len(modules)


def logits_of(model, tokens):
    with torch.no_grad():
        return model.eval()(tokens).logits[0]


def open_plain(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager")


def main():
    base, folder, program = (pathlib.Path(path) for path in sys.argv[1:4])
    text = sys.argv[4] if len(sys.argv) > 4 else "the cat sat on a mat, far away"
    with tempfile.TemporaryDirectory() as place:
        merged = pathlib.Path(place) / "merged"
        modules = merge(folder, merged)
        result = json.loads(subprocess.run([program, merged, text], check=True,
                                           capture_output=True, text=True).stdout)
    tokens, mine = torch.tensor(result["tokens"]).long()[None], torch.tensor(result["logits"])
    embedded = open_plain(folder)
    change = (mine - logits_of(open_plain(base), tokens)).abs().max().item()
    apart = {"embedded": (mine - logits_of(embedded, tokens)).abs().max().item()}
    over = peft.PeftModel.from_pretrained(open_plain(base), folder)
    apart["over the base"] = (mine - logits_of(over, tokens)).abs().max().item()
    print(f"{type(embedded).__name__}, transformers {transformers.__version__}, "
          f"PEFT {peft.__version__}: {modules} modules change logits by {change:.3g}; "
          + ", ".join(f"{key} {value:.1e} apart" for key, value in apart.items()))
    return 0 if change > 1e-3 and max(apart.values()) < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
