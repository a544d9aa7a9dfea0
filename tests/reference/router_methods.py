"""Makes tests/fixtures/router/methods.txt: what experts take by flaxformer's expert choice, and what
tokens get by Megatron-LM's Sinkhorn router, on logits that fp32 holds exactly.

Run from the repository root, with clones of github.com/google/flaxformer (399ea3a) and
github.com/NVIDIA/Megatron-LM (d98e8a6), torch and jax:

  python3 tests/reference/router_methods.py \
      FLAXFORMER/flaxformer/architectures/moe/routing.py \
      MEGATRON/megatron/core/transformer/moe/moe_utils.py \
      MEGATRON/megatron/core/transformer/moe/router.py

The functions are taken out of the files, whose other imports are not needed. One case is a line
  choice NAME tokens experts taken_by_each   or   sinkhorn NAME tokens experts chosen training
then the logits [T, E] and what each expert weighs for each token [T, E], 0 where it has not got it.
"""
import ast
import sys
import types
from typing import Any, Optional, Tuple

import jax
import jax.numpy as jnp
import torch

OUT = "tests/fixtures/router/methods.txt"


def take(path, name, names):
    """The function or method `name` of a file, with `names` for what it refers to."""
    tree = ast.parse(open(path).read())
    where = name.split(".")
    node = tree
    for part in where:
        node = next(n for n in node.body if getattr(n, "name", None) == part)
    module = ast.Module([node], [])
    exec(compile(module, path, "exec"), names)
    return names[where[-1]]


def logits_of(seed, tokens, experts, scale, skew):
    """Normal numbers, the first expert better by `skew`, in steps of 1 / 1024."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(tokens, experts, generator=generator) * scale
    logits[:, 0] += skew
    return (logits * 1024).round() / 1024


def expert_choice(path, logits, takes):
    names = {"jax": jax, "jnp": jnp, "Array": Any, "Optional": Optional, "Tuple": Tuple,
             "RouterMask": lambda dispatch, combine, loss: combine,
             "_favor_one_hot_slices": lambda: False}
    for helper in ("_take_along_axis", "_top_k"):
        take(path, helper, names)
    route = take(path, "ExpertsChooseMaskedRouter._compute_routing_instructions", names)
    scores = jax.nn.softmax(jnp.asarray(logits.numpy()), axis=-1)
    combine = route(types.SimpleNamespace(dtype=jnp.float32), scores[None], None, takes)
    return torch.tensor(jnp.sum(combine[0], axis=-1).tolist())


def sinkhorn(utils, router, logits, chosen, training):
    names = {"torch": torch}
    take(utils, "sinkhorn", names)
    route = take(router, "TopKRouter.sinkhorn_load_balancing", names)
    self = types.SimpleNamespace(topk=chosen, training=training,
                                 config=types.SimpleNamespace(moe_aux_loss_coeff=0))
    scores, chosen_map = route(self, logits)
    assert (chosen_map.sum(dim=1) == chosen).all()
    return scores


def numbers(tensor):
    return " ".join(f"{value:.9g}" for value in tensor.flatten().tolist()) + "\n"


def main():
    flaxformer, utils, router = sys.argv[1:4]
    with open(OUT, "w") as file:
        for i, (tokens, experts, takes, skew) in enumerate(
                [(24, 4, 12, 0.0), (30, 6, 10, 1.5), (16, 8, 2, 0.0), (12, 3, 12, 0.5)]):
            logits = logits_of(i, tokens, experts, 1.0, skew)
            weights = expert_choice(flaxformer, logits, takes)
            file.write(f"choice flaxformer-{i} {tokens} {experts} {takes}\n")
            file.write(numbers(logits) + numbers(weights))
        for i, (tokens, experts, chosen, training, skew) in enumerate(
                [(32, 4, 1, 1, 0.0), (40, 6, 2, 1, 2.0), (48, 8, 1, 1, 3.0), (24, 5, 3, 1, 0.5),
                 (24, 4, 1, 0, 1.0), (24, 6, 2, 0, 0.0)]):
            logits = logits_of(100 + i, tokens, experts, 1.5, skew)
            weights = sinkhorn(utils, router, logits, chosen, bool(training))
            file.write(f"sinkhorn megatron-{i} {tokens} {experts} {chosen} {training}\n")
            file.write(numbers(logits) + numbers(weights))


main()
