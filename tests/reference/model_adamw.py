#!/usr/bin/env python3
"""Makes expected-adamw.json in tests/fixtures/model/{moe,dense}: 50 steps of torch.optim.AdamW.

    python model_adamw.py [--out FOLDER]

Batches of [2, 24] tokens with seed 99, one a step, and the schedule are those of model_curve; the 50
batches' tokens and targets are in the file as well.

Gradients of the total loss (model.py) are clipped to a global norm of 1 as torch's clip_grad_norm_
does: multiplied by min(1, 1 / (norm + 1e-6)). Weight decay is on parameters of two dimensions,
embeddings included. The file holds, for each step, the losses before the update, the gradient norm
before clipping and the rate, from float64 and (suffix _fp32) float32 arithmetic, and the final
weights' Euclidean norms by name. `smallest_margin` is the smallest gap between the last expert that
was chosen and the first that was not, over all steps.
"""

import torch

import model_common as common
import model_curve as curves

OPTIONS = dict(steps=50, warmup=5, learning_rate=3e-3, minimum_rate=3e-4, beta1=0.9, beta2=0.95,
               epsilon=1e-8, weight_decay=0.1, clip=1.0, rows=2, length=24, seed=99,
               balance_coefficient=common.BALANCE_COEFFICIENT, z_coefficient=common.Z_COEFFICIENT)


def train(model, batches):
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2],
               "weight_decay": OPTIONS["weight_decay"]},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIONS["learning_rate"], eps=OPTIONS["epsilon"],
                                  betas=(OPTIONS["beta1"], OPTIONS["beta2"]))
    return curves.train(OPTIONS, model, [optimizer], batches)


def make(name, folder):
    model = common.build(name)
    batches = curves.batches_of(OPTIONS, model)
    with common.double_precision():
        precise = common.as_double(model)
        curve, gap = train(precise, batches)
        norms = {key: value.norm().item() for key, value in precise.named_parameters()}
    single, _ = train(model, batches)
    curves.write(folder / "expected-adamw.json", OPTIONS, batches, (curve, gap, norms), single,
                 keep=tuple(single))


def main():
    out = curves.out_folder(__doc__)
    for name in ("moe", "dense"):
        make(name, out / name)


if __name__ == "__main__":
    main()
