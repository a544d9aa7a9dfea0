#!/usr/bin/env python3
"""Expected logits of tests/fixtures/families from Hugging Face transformers.

  python families_transformers.py [--check] [NAME...]

Runs each folder through the library's own loading and eager attention, with the weights and the
arithmetic in float64 (but for what the library computes in float32 whatever the type: norms,
softmax, rotary angles). Without --check writes expected.safetensors; with it, compares.
Any version of transformers that knows the family will do; README.md says which were used.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoModelForCausalLM

from families_common import read_tokens, run

NAMES = ["llama", "llama-gqa", "mistral", "mistral-window", "qwen2", "qwen3", "mixtral",
         "qwen2_moe", "olmoe", "olmoe-clip", "qwen3_moe", "deepseek_v2-lite", "deepseek_v2", "deepseek_v3",
         "minimax_m2", "glm4_moe", "glm4_moe-air", "gpt_oss",
         "gpt_oss-mxfp4"]


def logits_of(folder):
    options = {"attn_implementation": "eager", "torch_dtype": torch.float32}
    if int(transformers.__version__.split(".")[0]) >= 5:
        options["experts_implementation"] = "eager"
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    tokens = torch.tensor(read_tokens(folder).tolist())[None]
    with torch.no_grad():
        single = model.eval()(tokens, use_cache=False).logits[0]
        try:
            double = model.double()(tokens, use_cache=False).logits[0]
        except RuntimeError:  # code that mixes a fixed float32 into products
            return single.numpy()
    print(f"{folder.name:24} float32 and float64 differ by {(single - double).abs().max():.1e}")
    return double.numpy()


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print("transformers", transformers.__version__, "torch", torch.__version__)
    run(__doc__, NAMES, logits_of)
