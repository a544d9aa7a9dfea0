#!/usr/bin/env python3
"""Expected logits of tests/fixtures/families/skywork.

  python families_skywork.py [--check]

No published implementation of Skywork-MoE runs on a CPU: the authors' is a fork of vLLM
(SkyworkAI/vllm, vllm/model_executor/models/skywork_moe.py and skywork_moe_quant.py). That file is
vLLM's Mixtral with one change, in the router; so this is transformers' Mixtral with the same change
put behind its gate as a hook: logits / (their standard deviation / moe_gate_norm_std), where the
deviation is torch.std (divided by n - 1) over a token's experts. Tensor names are the same.
Needs transformers before 5, where the gate is a module of its own.
"""

import json

import torch
import transformers
from transformers import MixtralConfig, MixtralForCausalLM

from families_common import load, read_tokens, run


def logits_of(folder):
    published = json.loads((folder / "config.json").read_text())
    kept = {key: published[key] for key in (
        "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
        "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "rope_theta", "vocab_size")}
    config = MixtralConfig(**kept, hidden_act=published["hidden_act"], num_experts_per_tok=2,
                           num_local_experts=published["num_experts"][0], sliding_window=None,
                           tie_word_embeddings=False, attn_implementation="eager")
    model = MixtralForCausalLM(config).eval()
    weights = load(folder / "model.safetensors")
    model.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    target = published["moe_gate_norm_std"]
    for layer in model.model.layers:
        layer.block_sparse_moe.gate.register_forward_hook(
            lambda module, inputs, logits: logits / (logits.std(dim=1, keepdim=True) / target))
    tokens = torch.tensor(read_tokens(folder).tolist())[None]
    with torch.no_grad():
        return model.double()(tokens, use_cache=False).logits[0].numpy()


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    print("transformers", transformers.__version__, "torch", torch.__version__)
    run(__doc__, ["skywork"], logits_of)
