"""What the scripts that record an optimizer's curve share: the schedule, the loop, and the file.

Batches of [rows, length] tokens come from the stream of model_common.Stream, one a step. Step s
(from 0) has the rate

    s < warmup:  rate * (s + 1) / warmup
    otherwise:   minimum + (rate - minimum) / 2 * (1 + cos(pi (s - warmup) / (steps - warmup)))
"""

import argparse
import json
import math
import pathlib

import torch

import model_common as common


def rate_at(options, step):
    rate, minimum, warmup = (options[key] for key in ("learning_rate", "minimum_rate", "warmup"))
    if step < warmup:
        return rate * (step + 1) / warmup
    turn = math.pi * (step - warmup) / (options["steps"] - warmup)
    return minimum + (rate - minimum) * 0.5 * (1 + math.cos(turn))


def batches_of(options, model):
    stream = common.Stream(options["seed"], model.config.vocab_size)
    return [stream.batch(options["rows"], options["length"]) for _ in range(options["steps"])]


def train(options, model, optimizers, batches):
    """Losses and gradient norm of each step, and the smallest gap between the last expert that was
    chosen and the first that was not (inf: there are no experts). Learns what asks for gradients."""
    learning = [p for p in model.parameters() if p.requires_grad]
    curve = {key: [] for key in ("cross_entropy", "balance", "z", "total", "gradient_norm")}
    gap = math.inf
    for step, (tokens, targets) in enumerate(batches):
        model.zero_grad()
        logits, router_logits = common.run(model, tokens)
        loss = common.losses(model.config, logits, router_logits, targets)
        loss["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(learning, options["clip"])
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(options, step)
            optimizer.step()
        for key, value in loss.items():
            curve[key].append(value.item())
        curve["gradient_norm"].append(norm.item())
        if router_logits:
            gap = min(gap, common.margin(router_logits, model.config.num_experts_per_tok))
    return curve, gap


def write(path, options, batches, double, single, keep=("total",)):
    """`double`: curve, gap and final norms in float64; `single`: the curve in float32, of which `keep`
    is written."""
    curve, gap, norms = double
    worst = max(abs(a - b) for a, b in zip(curve["total"], single["total"]))
    print(f"{path.parent.name}: loss {curve['total'][0]:.4f} -> {curve['total'][-1]:.4f}, largest "
          f"difference fp32 - fp64 {worst:.1e}, smallest margin {gap:.1e}")
    result = dict(options=options, rate=[rate_at(options, s) for s in range(options["steps"])])
    result.update(curve)
    result.update({key + "_fp32": single[key] for key in keep})
    result["final_norms"] = norms
    if math.isfinite(gap):
        result["smallest_margin"] = gap
    result["tokens"] = [tokens.tolist() for tokens, _ in batches]
    result["targets"] = [targets.tolist() for _, targets in batches]
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def out_folder(description):
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures" / "model")
    return parser.parse_args().out
