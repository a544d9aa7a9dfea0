#!/usr/bin/env python3
"""Makes expected-muon.json in tests/fixtures/model/{moe,dense}: 30 steps of torch.optim.Muon.

    python model_muon.py [--out FOLDER]

Needs torch 2.9 or newer, and transformers 4 (in which an expert's matrices are parameters of their
own). Batches, rates, clipping and the form of the file are those of model_adamw.py. The matrices of
attention, experts and MLPs are torch.optim.Muon's (momentum 0.95 with Nesterov,
adjust_lr_fn="match_rms_adamw"), the others torch.optim.AdamW's. torch runs the Newton-Schulz
iteration in bfloat16; here its own code is given a module `torch` whose bfloat16 is the precision
of the run, float64 or float32.
"""

import argparse
import contextlib
import json
import math
import pathlib

import torch
from torch.optim import _muon

import model_adamw as adamw
import model_common as common

OPTIONS = {**adamw.OPTIONS, "steps": 30, "momentum": 0.95, "seed": 77}


class PreciseTorch:
    def __init__(self, dtype):
        self.bfloat16 = dtype

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def precise(dtype):
    _muon.torch = PreciseTorch(dtype)
    try:
        yield
    finally:
        _muon.torch = torch


def is_hidden(name, parameter):
    return parameter.dim() == 2 and not any(
        part in name for part in ("embed_tokens", "lm_head", ".gate.weight"))


def optimizers(model):
    named = list(model.named_parameters())
    decay = OPTIONS["weight_decay"]
    rest = [(name, p) for name, p in named if not is_hidden(name, p)]
    groups = [{"params": [p for _, p in rest if p.dim() >= 2], "weight_decay": decay},
              {"params": [p for _, p in rest if p.dim() < 2], "weight_decay": 0.0}]
    muon = torch.optim.Muon([p for name, p in named if is_hidden(name, p)],
                            lr=OPTIONS["learning_rate"], weight_decay=decay,
                            momentum=OPTIONS["momentum"], nesterov=True,
                            adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(groups, lr=OPTIONS["learning_rate"], eps=OPTIONS["epsilon"],
                                   betas=(OPTIONS["beta1"], OPTIONS["beta2"]))


def train(model, batches):
    both = optimizers(model)
    curve = {key: [] for key in ("cross_entropy", "balance", "z", "total", "gradient_norm")}
    gap = math.inf
    for step, (tokens, targets) in enumerate(batches):
        model.zero_grad()
        logits, router_logits = common.run(model, tokens)
        loss = common.losses(model.config, logits, router_logits, targets)
        loss["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIONS["clip"])
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = adamw.rate_at(step)
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
    with common.double_precision(), precise(torch.float64):
        double = common.as_double(model)
        curve, gap = train(double, batches)
        norms = {key: value.norm().item() for key, value in double.named_parameters()}
    with precise(torch.float32):
        curve_fp32, _ = train(model, batches)
    worst = max(abs(a - b) for a, b in zip(curve["total"], curve_fp32["total"]))
    print(f"{name}: loss {curve['total'][0]:.4f} -> {curve['total'][-1]:.4f}, largest difference "
          f"fp32 - fp64 {worst:.1e}, smallest margin {gap:.1e}")
    result = dict(options=OPTIONS, rate=[adamw.rate_at(step) for step in range(OPTIONS["steps"])])
    result.update(curve)
    result["total_fp32"] = curve_fp32["total"]
    result["final_norms"] = norms
    if math.isfinite(gap):
        result["smallest_margin"] = gap
    result["tokens"] = [tokens.tolist() for tokens, _ in batches]
    result["targets"] = [targets.tolist() for _, targets in batches]
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    (folder / "expected-muon.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures" / "model")
    out = parser.parse_args().out
    adamw.OPTIONS = OPTIONS  # rate_at
    for name in ("moe", "dense"):
        make(name, out / name)


if __name__ == "__main__":
    main()
