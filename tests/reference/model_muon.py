#!/usr/bin/env python3
"""Makes expected-muon.json in tests/fixtures/model/{moe,dense}: 30 steps of torch.optim.Muon.

    python model_muon.py [--out FOLDER]

Needs torch 2.9 or newer, and transformers 4 (in which an expert's matrices are parameters of their
own). Batches, rates, clipping and the form of the file are those of model_adamw.py. The matrices of
attention, experts and MLPs are torch.optim.Muon's (momentum 0.95 with Nesterov,
adjust_lr_fn="match_rms_adamw"), the others torch.optim.AdamW's. torch runs the Newton-Schulz
iteration in bfloat16, as the losses "total_bf16" have it, of a model in float32; for all else its
own code is given a module `torch` whose bfloat16 is the precision of the run, float64 or float32.
"""

import contextlib

import torch
from torch.optim import _muon

import model_adamw as adamw
import model_common as common
import model_curve as curves

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


def make(name, folder):
    model = common.build(name)
    batches = curves.batches_of(OPTIONS, model)
    with common.double_precision(), precise(torch.float64):
        double = common.as_double(model)
        curve, gap = curves.train(OPTIONS, double, optimizers(double), batches)
        norms = {key: value.norm().item() for key, value in double.named_parameters()}
    with precise(torch.float32):
        single, _ = curves.train(OPTIONS, model, optimizers(model), batches)
    usual = common.build(name)
    curve["total_bf16"] = curves.train(OPTIONS, usual, optimizers(usual), batches)[0]["total"]
    curves.write(folder / "expected-muon.json", OPTIONS, batches, (curve, gap, norms), single)


def main():
    out = curves.out_folder(__doc__)
    for name in ("moe", "dense"):
        make(name, out / name)


if __name__ == "__main__":
    main()
