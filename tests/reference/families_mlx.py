#!/usr/bin/env python3
"""Expected logits of tests/fixtures/families from mlx-lm (Apple's MLX; its Linux CPU build does).

  python families_mlx.py [--check] [NAME...]

Writes DeepSeekMoE (V1), which transformers never carried, and GLM-4.7-Flash, whose class there has
another epsilon for the latent norms than for all others, and with --check is a second opinion on
every family that it holds. All in float32. README.md says which version was used.
"""


import mlx.core as mx
import mlx_lm
import numpy
from mlx_lm.utils import load_model

from families_common import read_tokens, run


def logits_of(folder):
    model, _ = load_model(folder, lazy=False)
    model.set_dtype(mx.float32)
    tokens = mx.array(read_tokens(folder).tolist())[None]
    return numpy.array(model(tokens)[0].astype(mx.float32))


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    print("mlx", mx.__version__, "mlx-lm", mlx_lm.__version__)
    run(__doc__, ["deepseek", "glm4_moe_lite"], logits_of)
