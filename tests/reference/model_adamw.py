#!/usr/bin/env python3
"""Makes expected-adamw.json in tests/fixtures/model/{moe,dense}: 50 steps of torch.optim.AdamW.

    python model_adamw.py [--out FOLDER]

Batches of [2, 24] tokens from the stream of model_common.Stream with seed 99, one a step; the 50
batches' tokens and targets are in the file as well. Step s (from 0) has the rate

    s < warmup:  rate * (s + 1) / warmup
    otherwise:   minimum + (rate - minimum) / 2 * (1 + cos(pi (s - warmup) / (steps - warmup)))

Gradients of the total loss (model.py) are clipped to a global norm of 1 as torch's clip_grad_norm_
does: multiplied by min(1, 1 / (norm + 1e-6)). Weight decay is on parameters of two dimensions,
embeddings included. The file holds, for each step, the losses before the update, the gradient norm
before clipping and the rate, from float64 and (suffix _fp32) float32 arithmetic, and the final
weights' Euclidean norms by name. `smallest_margin` is the smallest gap between the last expert that
was chosen and the first that was not, over all steps.
"""

import argparse
import json
import math
import pathlib

import torch

import model_common as common

OPTIONS = dict(steps=50, warmup=5, learning_rate=3e-3, minimum_rate=3e-4, beta1=0.9, beta2=0.95,
               epsilon=1e-8, weight_decay=0.1, clip=1.0, rows=2, length=24, seed=99,
               balance_coefficient=common.BALANCE_COEFFICIENT, z_coefficient=common.Z_COEFFICIENT)


def rate_at(step):
    rate, minimum, warmup = (OPTIONS[key] for key in ("learning_rate", "minimum_rate", "warmup"))
    if step < warmup:
        return rate * (step + 1) / warmup
    turn = math.pi * (step - warmup) / (OPTIONS["steps"] - warmup)
    return minimum + (rate - minimum) * 0.5 * (1 + math.cos(turn))


def train(model, batches):
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2],
               "weight_decay": OPTIONS["weight_decay"]},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIONS["learning_rate"], eps=OPTIONS["epsilon"],
                                  betas=(OPTIONS["beta1"], OPTIONS["beta2"]))
    curve = {key: [] for key in ("cross_entropy", "balance", "z", "total", "gradient_norm")}
    gap = math.inf
    for step, (tokens, targets) in enumerate(batches):
        optimizer.zero_grad()
        logits, router_logits = common.run(model, tokens)
        loss = common.losses(model.config, logits, router_logits, targets)
        loss["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIONS["clip"])
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        optimizer.step()
        for key, value in loss.items():
            curve[key].append(value.item())
        curve["gradient_norm"].append(norm.item())
        if router_logits:
            gap = min(gap, common.margin(router_logits, model.config.num_experts_per_tok))
    return curve, gap


def make(name, folder):
    model = common.build(name)
    stream = common.Stream(OPTIONS["seed"], model.config.vocab_size)
    batches = [stream.batch(OPTIONS["rows"], OPTIONS["length"]) for _ in range(OPTIONS["steps"])]
    with common.double_precision():
        precise = common.as_double(model)
        curve, gap = train(precise, batches)
        norms = {key: value.norm().item() for key, value in precise.named_parameters()}
    curve_fp32, _ = train(model, batches)
    worst = max(abs(a - b) for a, b in zip(curve["total"], curve_fp32["total"]))
    print(f"{name}: loss {curve['total'][0]:.4f} -> {curve['total'][-1]:.4f}, largest difference "
          f"fp32 - fp64 {worst:.1e}, smallest margin {gap:.1e}")
    result = dict(options=OPTIONS, rate=[rate_at(step) for step in range(OPTIONS["steps"])])
    result.update(curve)
    result.update({key + "_fp32": value for key, value in curve_fp32.items()})
    result["final_norms"] = norms
    if math.isfinite(gap):
        result["smallest_margin"] = gap
    result["tokens"] = [tokens.tolist() for tokens, _ in batches]
    result["targets"] = [targets.tolist() for _, targets in batches]
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    (folder / "expected-adamw.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures" / "model")
    out = parser.parse_args().out
    for name in ("moe", "dense"):
        (out / name).mkdir(parents=True, exist_ok=True)
        make(name, out / name)


if __name__ == "__main__":
    main()
