#!/usr/bin/env python3
"""Makes expected-lora.json in tests/fixtures/model/moe: 12 steps of PEFT's LoRA on the experts.

    python model_lora.py [--out FOLDER]

Needs transformers 4 and PEFT (0.18): there an expert's matrices are modules, which PEFT adapts one
by one. Rank 3, alpha 5, on w1, w2 and w3 of every expert; only the adapters learn, by
torch.optim.AdamW with weight decay. Batches, rates, clipping and the form of the file are those of
model_adamw.py. A and B begin as `begin` says, rounded to float32; B is not zero, so that all
derivatives count from the first step on.
"""

import argparse
import json
import math
import pathlib
import re

import torch
from peft import LoraConfig, get_peft_model

import model_adamw as adamw
import model_common as common

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
    learning = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=OPTIONS["learning_rate"], eps=OPTIONS["epsilon"],
                                  weight_decay=OPTIONS["weight_decay"],
                                  betas=(OPTIONS["beta1"], OPTIONS["beta2"]))
    model = adapted.get_base_model()
    curve = {key: [] for key in ("cross_entropy", "balance", "z", "total", "gradient_norm")}
    gap = math.inf
    for step, (tokens, targets) in enumerate(batches):
        optimizer.zero_grad()
        logits, router_logits = common.run(model, tokens)
        loss = common.losses(model.config, logits, router_logits, targets)
        loss["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(learning, OPTIONS["clip"])
        for group in optimizer.param_groups:
            group["lr"] = adamw.rate_at(step)
        optimizer.step()
        for key, value in loss.items():
            curve[key].append(value.item())
        curve["gradient_norm"].append(norm.item())
        gap = min(gap, common.margin(router_logits, model.config.num_experts_per_tok))
    return curve, gap


def make(name, folder):
    model = common.build(name)
    stream = common.Stream(OPTIONS["seed"], model.config.vocab_size)
    batches = [stream.batch(OPTIONS["rows"], OPTIONS["length"]) for _ in range(OPTIONS["steps"])]
    with common.double_precision():
        double = adapt(common.as_double(model))
        curve, gap = train(double, batches)
        norms = {key.replace(".default.", "."): value.norm().item()
                 for key, value in double.named_parameters() if value.requires_grad}
    curve_fp32, _ = train(adapt(model), batches)
    worst = max(abs(a - b) for a, b in zip(curve["total"], curve_fp32["total"]))
    print(f"{name}: loss {curve['total'][0]:.4f} -> {curve['total'][-1]:.4f}, largest difference "
          f"fp32 - fp64 {worst:.1e}, smallest margin {gap:.1e}")
    result = dict(options=OPTIONS, rate=[adamw.rate_at(step) for step in range(OPTIONS["steps"])])
    result.update(curve)
    result["total_fp32"] = curve_fp32["total"]
    result["final_norms"] = norms
    result["smallest_margin"] = gap
    result["tokens"] = [tokens.tolist() for tokens, _ in batches]
    result["targets"] = [targets.tolist() for _, targets in batches]
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    (folder / "expected-lora.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures" / "model")
    out = parser.parse_args().out
    adamw.OPTIONS = OPTIONS  # rate_at
    make("moe", out / "moe")


if __name__ == "__main__":
    main()
