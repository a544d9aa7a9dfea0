"""Makes tests/fixtures/atlas/load.jsonl, a made-up log of a run's load, and training.txt: the measure
of it (src/atlas/measures/training.c) by its formulas with numpy alone; levels of uniform choices are
drawn by numpy's generator, each token's set by itself.

Run from the repository root: python3 tests/reference/atlas_training.py (needs numpy).

A line: step, layer (-1: all), column, value, tolerance.
"""
import json
import math

import numpy as np

OUT = "tests/fixtures/atlas"
E, K = 8, 2
NUMBERS = [1, 2, 5]
DRAWS = 4000
rng = np.random.default_rng(5)


def made_up():
    """Layer 1 settles, layer 2 falls onto two experts, layer 5 is silent for a step."""
    log = []
    for step, tokens in [(1, 300), (2, 300), (3, 300), (8, 40000), (200, 40000)]:
        choices = []
        for layer in NUMBERS:
            share = np.full(E, 1 / E)
            if layer == 2:
                share = np.exp(-np.arange(E) * math.log(1 + step) / 2)
                share /= share.sum()
            counts = rng.multinomial(tokens * K, share)
            if layer == 5 and step == 2:
                counts[:] = 0
            choices.append(counts.tolist())
        log.append({"step": step, "tokens": tokens, "layers": NUMBERS, "choices": choices})
    return log


def tell(counts):
    share = counts / counts.sum()
    some = share[share > 0]
    return {
        "max_over_mean": E * share.max(),
        "effective": math.exp(-(some * np.log(some)).sum()) / E,
        "unused": float((counts == 0).mean()),
    }


def levels(choices, tokens, cache={}):
    """Mean and standard error over draws; tokens have choices / tokens experts each, rounded."""
    if (choices, tokens) in cache:
        return cache[choices, tokens]
    sizes = np.diff(np.arange(tokens + 1) * choices // tokens)
    draws = []
    for _ in range(DRAWS if tokens < 1000 else 200):
        order = np.argsort(rng.random((tokens, E)), axis=1)
        chosen = np.arange(E)[None, :] < sizes[:, None]
        draws.append(tell(np.bincount(order[chosen], minlength=E)))
    made = {}
    for name in draws[0]:
        values = np.array([d[name] for d in draws])
        made[name] = values.mean(), values.std() / math.sqrt(len(values))
    cache[choices, tokens] = made
    return made


def measure(log):
    rows = []
    for i, line in enumerate(log):
        of_step = []
        for layer in range(len(NUMBERS)):
            counts = np.array(line["choices"][layer])
            row = {"choices": (int(counts.sum()), 0)}
            if counts.sum() > 0:
                for name, value in tell(counts).items():
                    row[name] = value, 1e-9
                    mean, error = levels(int(counts.sum()), line["tokens"])[name]
                    # both draw; a test with 400 draws errs more than the mean of these
                    row[name + "_random"] = mean, max(1e-9, 6 * error * math.sqrt(DRAWS / 400))
                before = np.array(log[i - 1]["choices"][layer]) if i > 0 else np.zeros(E)
                if before.sum() > 0:
                    a, b = counts.sum(), before.sum()
                    both = (counts + before) / (a + b)
                    spread = np.sqrt(both * (1 - both) * (1 / a + 1 / b))
                    row["moved"] = np.abs(counts / a - before / b).sum() / 2, 1e-9
                    row["moved_use"] = (math.sqrt(2 / math.pi) * spread).sum() / 2, 1e-9
            of_step.append(row)
        whole = {}
        for name in dict.fromkeys(n for row in of_step for n in row):
            values = [row[name] for row in of_step if name in row]
            if name == "choices":
                whole[name] = sum(v for v, _ in values), 0
            else:
                whole[name] = float(np.mean([v for v, _ in values])), max(t for _, t in values)
        for number, row in zip([-1] + NUMBERS, [whole] + of_step):
            rows += [(line["step"], number, name, value, tolerance)
                     for name, (value, tolerance) in row.items()]
    return rows


log = made_up()
with open(f"{OUT}/load.jsonl", "w") as f:
    for line in log:
        f.write(json.dumps(line, separators=(",", ":")) + "\n")
with open(f"{OUT}/training.txt", "w") as f:
    f.write("# python3 tests/reference/atlas_training.py\n")
    for step, number, name, value, tolerance in measure(log):
        f.write(f"{step} {number} {name} {value:.12g} {tolerance:.6g}\n")
