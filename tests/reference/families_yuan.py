#!/usr/bin/env python3
"""Expected logits of tests/fixtures/families/yuan from the authors' own modeling code.

  MIXT_YUAN_CODE=DIR python families_yuan.py [--check]

DIR holds yuan_moe_hf_model.py and configuration_yuan.py from the repository IEIT-Yuan/Yuan2.0-M32,
folder 3rd_party/AutoGPTQ/auto_gptq/modeling (the copy that runs without flash-attention). It is
read, not changed on disk, with one edit in memory: rotary frequencies stay float32, where the
Hugging Face class rounds them to bfloat16; the code the model was trained with (Megatron) does not.
Needs torch, einops and a transformers of 4.3x to 4.4x. Runs in float32.
"""

import importlib.util
import json
import os
import pathlib
import sys

import torch
import transformers

from families_common import load, read_tokens, run

EDIT = ("inv_freq = inv_freq.to(torch.bfloat16)", "pass")


def import_code(folder):
    """The two files as a package `yuan_code`, since they import each other relatively."""
    package = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("yuan_code", None, is_package=True))
    sys.modules["yuan_code"] = package
    for name in ("configuration_yuan", "yuan_moe_hf_model"):
        text = (pathlib.Path(folder) / f"{name}.py").read_text()
        if name == "yuan_moe_hf_model":
            assert text.count(EDIT[0]) == 1
            text = text.replace(*EDIT)
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(f"yuan_code.{name}", None))
        module.__package__ = "yuan_code"
        sys.modules[module.__name__] = module
        exec(compile(text, f"{folder}/{name}.py", "exec"), module.__dict__)
    return sys.modules["yuan_code.configuration_yuan"], sys.modules["yuan_code.yuan_moe_hf_model"]


def logits_of(folder):
    configuration, modeling = import_code(os.environ["MIXT_YUAN_CODE"])
    config = configuration.YuanConfig(**json.loads((folder / "config.json").read_text()))
    config.use_flash_attention = False
    model = modeling.YuanForCausalLM(config).float().eval()
    weights = load(folder / "model.safetensors")
    model.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    tokens = torch.tensor(read_tokens(folder).tolist())[None]
    with torch.no_grad():
        return model(tokens, use_cache=False).logits[0].numpy()


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    print("transformers", transformers.__version__, "torch", torch.__version__)
    run(__doc__, ["yuan"], logits_of)
