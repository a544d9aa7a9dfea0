#!/usr/bin/env python3
"""Makes expected-lora.json in tests/fixtures/model/moe: 12 steps of PEFT's LoRA on the experts.

    python model_lora.py [--out FOLDER]

Needs transformers 4 and PEFT (0.18): there an expert's matrices are modules, which PEFT adapts one
by one. Rank 3, alpha 5, on w1, w2 and w3 of every expert; only the adapters learn, by
torch.optim.AdamW with weight decay. Batches, rates, clipping and the form of the file are those of
model_curve.py. A and B begin as `begin` says, rounded to float32; B is not zero, so that all
derivatives count from the first step on.
"""

import math
import re

import torch
from peft import LoraConfig, get_peft_model

import model_adamw as adamw
import model_common as common
import model_curve as curves

OPTIONS = {**adamw.OPTIONS, "steps": 12, "seed": 55, "rank": 3, "alpha": 5}
NAME = re.compile(r"layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.lora_([AB])\.")
MATRICES = {"w1": 0, "w3": 1, "w2": 2}  # gate, up, down


def begin(name, shape):
    layer, expert, matrix, which = NAME.search(name).groups()
    start = 2.1 * int(layer) + 1.3 * int(expert) + 0.7 * MATRICES[matrix]
    values = [(0.3 * math.sin(start + 0.37 * i) if which == "A" else 0.2 * math.cos(start + 0.53 * i))
              for i in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def adapt(model):
    config = LoraConfig(r=OPTIONS["rank"], lora_alpha=OPTIONS["alpha"], lora_dropout=0.0,
                        target_modules=list(MATRICES), bias="none", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(begin(name, parameter.shape))
    return adapted


def train(adapted, batches):
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad],
                                  lr=OPTIONS["learning_rate"], eps=OPTIONS["epsilon"],
                                  weight_decay=OPTIONS["weight_decay"],
                                  betas=(OPTIONS["beta1"], OPTIONS["beta2"]))
    return curves.train(OPTIONS, adapted.get_base_model(), [optimizer], batches)


def make(name, folder):
    model = common.build(name)
    batches = curves.batches_of(OPTIONS, model)
    with common.double_precision():
        double = adapt(common.as_double(model))
        curve, gap = train(double, batches)
        norms = {key.replace(".default.", "."): value.norm().item()
                 for key, value in double.named_parameters() if value.requires_grad}
    single, _ = train(adapt(model), batches)
    curves.write(folder / "expected-lora.json", OPTIONS, batches, (curve, gap, norms), single)


def main():
    make("moe", curves.out_folder(__doc__) / "moe")


if __name__ == "__main__":
    main()
