#!/usr/bin/env python3
"""Expected logits of tests/fixtures/families/grok-1 from the authors' own code.

  MIXT_GROK_CODE=model.py python families_grok.py [--check]

model.py is that of the repository xai-org/grok-1; it runs on one CPU device under the versions that
its requirements name (jax 0.4.25, dm-haiku 0.0.12). It is read, not changed on disk, with one edit
in memory: bfloat16 becomes float32, so that nothing is rounded between. Weights go in as its 8-bit
type with scales of 1, the only form in which its expert layer computes; they are transposed, since
JAX holds [in, out].
"""

import importlib.util
import json
import os
import pathlib
import sys

import haiku
import jax
import jax.numpy as jnp
import numpy
from jax.sharding import Mesh

from families_common import load, read_tokens, run

NORMS = {"rms_norm": "pre_attn_norm", "rms_norm_1": "post_attn_norm",
         "rms_norm_2": "pre_moe_norm", "rms_norm_3": "post_moe_norm"}
ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "linear": "o_proj"}


def import_code(path):
    text = pathlib.Path(path).read_text().replace("jnp.bfloat16", "jnp.float32")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("grok_code", None))
    sys.modules["grok_code"] = module
    exec(compile(text, path, "exec"), module.__dict__)
    return module


def weight_of(path, tensors, experts):
    """Value of the parameter at `path` (".../decoder_layer_0/multi_head_attention/query", ...)."""
    parts = path.split("/")
    if parts[-1] == "in_out_embed":
        return tensors["model.embed_tokens.weight"]
    layer = next((part for part in parts if part.startswith("decoder_layer_")), None)
    if layer is None:
        assert parts[-1] == "rms_norm", path
        return tensors["model.norm.scale"]
    prefix = f"model.layers.{layer.removeprefix('decoder_layer_')}"
    if parts[-1] in NORMS:
        return tensors[f"{prefix}.{NORMS[parts[-1]]}.scale"]
    if "multi_head_attention" in parts:
        return tensors[f"{prefix}.attn.{ATTENTION[parts[-1]]}.weight"].T
    if parts[-1] == "router":
        return tensors[f"{prefix}.moe_block.gate.weight"].T
    assert "moe" in parts, path
    return numpy.stack([tensors[f"{prefix}.moe_block.experts.{expert}.{parts[-1]}.weight"].T
                        for expert in range(experts)])


def logits_of(folder):
    code = import_code(os.environ["MIXT_GROK_CODE"])
    config = json.loads((folder / "config.json").read_text())
    hidden = config["hidden_size"]
    widening = config["intermediate_size"] * 3 / 2 / hidden
    assert code.ffn_size(hidden, widening) == config["intermediate_size"]
    transformer = code.TransformerConfig(
        emb_size=hidden, key_size=hidden // config["num_attention_heads"],
        num_q_heads=config["num_attention_heads"], num_kv_heads=config["num_key_value_heads"],
        num_layers=config["num_hidden_layers"], vocab_size=config["vocab_size"],
        widening_factor=widening, attn_output_multiplier=config["attn_output_multiplier"],
        num_experts=config["num_experts"], num_selected_experts=config["num_experts_per_tok"])
    language_model = code.LanguageModelConfig(
        model=transformer, vocab_size=config["vocab_size"],
        pad_token=-1,  # ids not above it are masked, and 0 is an ordinary id here
        eos_token=2, sequence_len=64,
        embedding_multiplier_scale=config["embedding_multiplier_scale"],
        output_multiplier_scale=config["output_multiplier_scale"])
    mesh = Mesh(numpy.array(jax.devices("cpu")[:1]).reshape(1, 1), ("data", "model"))
    forward = haiku.transform(lambda ids: language_model.make(mesh=mesh)(ids).logits)
    tokens = jnp.asarray(read_tokens(folder))[None]
    tensors = load(folder / "model.safetensors")
    with mesh:
        shapes = jax.eval_shape(forward.init, jax.random.PRNGKey(0), tokens)
        parameters, used = {}, 0
        for path, entries in shapes.items():
            for name, entry in entries.items():
                value = jnp.asarray(weight_of(path, tensors, config["num_experts"]))
                assert value.shape == entry.shape, (path, value.shape, entry.shape)
                used += value.shape[0] if "moe" in path.split("/") and value.ndim == 3 else 1
                if value.ndim == 3:
                    value = code.QuantizedWeight8bit(value, jnp.ones((value.shape[0], 1, 1)))
                parameters.setdefault(path, {})[name] = value
        assert used == len(tensors), (used, len(tensors))
        return forward.apply(parameters, None, tokens)[0]


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")
    print("jax", jax.__version__, "haiku", haiku.__version__)
    run(__doc__, ["grok-1"], logits_of)
