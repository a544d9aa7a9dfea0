#!/usr/bin/env python3
"""Expected results of experiments on routing (mixt probe), from PyTorch.

  python tests/reference/probe.py

Writes tests/fixtures/probe/mixtral and qwen2_moe, tiny models of random bfloat16 weights, and beside
each expected.json. All but the mixtures is transformers' code, with weights and arithmetic in float64;
the mixtures are written out here from the formulas of docs/probe.md, and without a change have to give
what transformers' own give. In the Mixtral one expert of layer 1 is made important: its w2 is 40 times
as large. Used: transformers 5, torch 2.
"""

import json
import math
import os
import pathlib

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "probe"
WINDOW = 24
# The texts of tests/test_probe.c, by domain.
TEXTS = {"code": ["for (i = 0; i < 10; i++) sum += x[i];", "return a * (b - 3) / 7;", "int y = 0;"],
         "prose": ["The cat sat on the mat and saw a bird.", "Two birds flew away.", "It rained."]}
SEPARATOR = 256
SEED, DRAWS, SIGMAS = 9, 6, [0.01, 0.03, 0.1, 0.3, 1]  # of routes and noise; those of tests/test_probe.c
COMMON = dict(vocab_size=257, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
              num_key_value_heads=1, max_position_embeddings=64, rope_theta=10000.0,
              bos_token_id=256, eos_token_id=256, tie_word_embeddings=False)
MODELS = {
    "mixtral": transformers.MixtralConfig(intermediate_size=12, num_local_experts=4,
                                          num_experts_per_tok=2, sliding_window=None,
                                          rms_norm_eps=1e-5, **COMMON),
    "qwen2_moe": transformers.Qwen2MoeConfig(intermediate_size=20, moe_intermediate_size=12,
                                             shared_expert_intermediate_size=20, num_experts=4,
                                             num_experts_per_tok=2, norm_topk_prob=False,
                                             rms_norm_eps=1e-6, **COMMON),
}
PLANTED = {"mixtral": (1, 2)}


def byte_ids():
    """GPT-2's order of bytes: the printable ones of Latin-1 first."""
    first = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {byte: i for i, byte in enumerate(first + [b for b in range(256) if b not in first])}


IDS = byte_ids()


def documents():
    for domain, texts in enumerate(TEXTS.values()):
        for text in texts:
            yield domain, [SEPARATOR] + [IDS[b] for b in text.encode()]


class Random:
    """Philox 4x32-10 (Salmon et al. 2011): a number is a function of seed, purpose, step and index, as
    src/core/random.h has it; a probe's purpose is 14, its step 4 (layer + 1) and the experiment."""

    def __init__(self, layer, experiment):
        self.step = 4 * (layer + 1) + experiment

    def block(self, index):
        word = 2 ** 32 - 1
        x = [index & word, index >> 32, 14, self.step]
        keys = [SEED & word, SEED >> 32]
        for _ in range(10):
            p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
            x = [q >> 32 ^ x[1] ^ keys[0], q & word, p >> 32 ^ x[3] ^ keys[1], p & word]
            keys = [keys[0] + 0x9E3779B9 & word, keys[1] + 0xBB67AE85 & word]
        return x

    def below(self, index, bound):
        low, high = self.block(index)[:2]
        return (high << 32 | low) * bound >> 64

    def normal(self, index):
        u, v = ((word + 0.5) / 2 ** 32 for word in self.block(index)[:2])
        return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


class Mixture:
    """One layer's experts in float64, its routing open to changes."""

    def __init__(self, layer, tensors, renormalise, k):
        at = f"model.layers.{layer}."
        mixtral = at + "block_sparse_moe.gate.weight" in tensors
        router = "block_sparse_moe." if mixtral else "mlp."
        names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        self.router = tensors[at + router + "gate.weight"]
        self.experts = [[tensors[f"{at}{router}experts.{e}.{name}.weight"] for name in names]
                        for e in range(len(self.router))]
        self.shared = None
        if not mixtral:
            shared = [tensors[f"{at}mlp.shared_expert.{name}.weight"] for name in names]
            self.shared = (shared, tensors[at + "mlp.shared_expert_gate.weight"])
        self.renormalise, self.k = renormalise, k
        self.masked, self.first, self.given = set(), None, {}  # given: row -> experts
        self.records, self.inputs = [], []

    @staticmethod
    def expert(weights, x):
        gate, up, down = weights
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    def choose(self, scores):
        order = [e for e in torch.argsort(-scores, stable=True).tolist() if e not in self.masked]
        if self.first is not None:
            order = [self.first] + [e for e in order if e != self.first]
        return order[:self.k]

    def __call__(self, x, *_):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        scores = torch.softmax(x @ self.router.T, -1)
        out = torch.zeros_like(x)
        self.inputs.append(x)
        for t, row in enumerate(x):
            ids = self.given[t] if t in self.given else self.choose(scores[t])
            weights = scores[t][ids]
            share = weights / weights.sum()
            weights = share if self.renormalise else weights
            outputs = [self.expert(self.experts[e], row) for e in ids]
            out[t] = sum(w * y for w, y in zip(weights, outputs))
            whole = out[t].clone()
            if self.shared is not None:
                whole = whole + torch.sigmoid(self.shared[1] @ row) * self.expert(self.shared[0], row)
            self.records.append((ids, share.tolist(), outputs, out[t].clone(), whole))
            out[t] = whole
        return out.reshape(shape)


def pieces():
    """(domain, number of the first token among all, tokens, targets) of every piece of a window."""
    start = 0
    for domain, ids in documents():
        for begin in range(0, len(ids) - 1, WINDOW):
            end = min(begin + WINDOW, len(ids) - 1)
            yield domain, start + begin, ids[begin:end], ids[begin + 1:end + 1]
        start += len(ids)


def losses(model, tokens, targets):
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="none")


def forward(model, layers):
    """Summed loss and tokens of each domain."""
    nats, count = [0.0] * len(TEXTS), [0] * len(TEXTS)
    for layer in layers:
        layer.records.clear()
        layer.inputs.clear()
    for domain, _, tokens, targets in pieces():
        nats[domain] += losses(model, tokens, targets).sum().item()
        count[domain] += len(tokens)
    return nats, count


def effect(model, layers, base):
    """[over everything, each domain]: nats a token more than the unchanged model's."""
    nats, tokens = forward(model, layers)
    each = [(n - b) / t for n, b, t in zip(nats, base, tokens)]
    return [(sum(nats) - sum(base)) / sum(tokens)] + each


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


def look(layers, experts):
    """What experts gave in the last forward."""
    result = {"choices": [], "reap": [], "norm": [], "largest": [], "cosine_routed": [],
              "cosine_layer": [], "near": []}
    for layer in layers:
        rows = [[] for _ in range(experts)]
        for ids, share, outputs, _, _ in layer.records:
            for e, s, y in zip(ids, share, outputs):
                rows[e].append((s, y))
        mean = lambda values: sum(values) / len(values) if values else 0.0
        result["choices"].append([len(r) for r in rows])
        result["reap"].append([mean([s * y.norm().item() for s, y in r]) for r in rows])
        result["norm"].append([mean([y.norm().item() for _, y in r]) for r in rows])
        result["largest"].append([max([y.abs().max().item() for _, y in r], default=0.0) for r in rows])
        result["cosine_routed"].append(mean([cosine(y[0], r) for _, _, y, r, _ in layer.records]))
        result["cosine_layer"].append(mean([cosine(y[0], w) for _, _, y, _, w in layer.records]))
        flat = [torch.cat([w.reshape(-1) for w in weights]) for weights in layer.experts]
        sums = [sum((y for _, y in r), torch.zeros(layer.router.shape[1]).double()) for r in rows]
        result["near"].append([
            [mean([cosine(a[e], a[f]) if a[e].norm() > 0 and a[f].norm() > 0 else 0.0
                   for f in range(experts) if f != e]) for e in range(experts)] for a in (sums, flat)])
    return result


def super_experts(largest):
    """2507.23279: above the 99.5th percentile and a tenth of the largest, in 3/4 of the layers."""
    values = torch.tensor(largest).double()
    bound = max(torch.quantile(values.flatten(), 0.995).item(), values.max().item() / 10)
    return [[layer, e] for layer in range(len(largest) * 3 // 4)
            for e, value in enumerate(largest[layer]) if value > bound]


def drawn_experts(layer, experts, k, token, draw):
    """The beginning of a shuffle of all experts."""
    random, order = Random(layer, 1), list(range(experts))
    for j in range(k):
        at = j + random.below((token * 4096 + draw) * experts + j, experts - j)
        order[j], order[at] = order[at], order[j]
    return order[:k]


def routes(model, layers, changed, k):
    """One token of each piece with k other experts in the layers of `changed`, DRAWS times, against its own (2605.07260):
    means over tokens of [better, mean gain, best gain], over everything, by domain, and by difficulty."""
    samples = []
    for domain, number, tokens, targets in pieces():
        row = Random(-1, 0).below(number, len(tokens))
        own = losses(model, tokens, targets)[row].item()
        gains = []
        for draw in range(DRAWS):
            for i in changed:
                experts = len(layers[i].router)
                layers[i].given = {row: drawn_experts(i, experts, k, number + row, draw)}
            gains.append(own - losses(model, tokens, targets)[row].item())
            for i in changed:
                layers[i].given = {}
        # a draw may be the router's own choice: what rounding makes of that is no difference
        better = sum(0.5 if abs(g) < 1e-6 else g < 0 for g in gains) / DRAWS
        samples.append((domain, (own >= 0.5) + (own >= 2), [better, sum(gains) / DRAWS, max(gains)]))
    mean = lambda rows: [sum(x) / len(rows) for x in zip(*rows)] if rows else None
    return {"value": mean([v for _, _, v in samples]),
            "domains": [mean([v for d, _, v in samples if d == domain]) for domain in range(len(TEXTS))],
            "difficulty": [mean([v for _, d, v in samples if d == difficulty]) for difficulty in range(3)]}


def noise(layers, k):
    """Of the inputs of the last forward: what noise on them does to the choice, a row for each layer and sigma:
    [changed, first_changed, tokens_changed, margin_changed, margin_kept]."""
    numbers = [number for _, number, _, _ in pieces()]
    result = []
    for i, layer in enumerate(layers):
        width = layer.router.shape[1]
        for level, sigma in enumerate(SIGMAS):
            random, rows = Random(i * len(SIGMAS) + level, 2), []
            for number, inputs in zip(numbers, layer.inputs):
                for j, x in enumerate(inputs):
                    first = (number + j) * width
                    drawn = torch.tensor([random.normal(first + c) for c in range(width)]).double()
                    logits = layer.router @ x
                    before, margin = layer.choose(logits), logits.topk(k + 1).values
                    after = layer.choose(layer.router @ (x + sigma * x.square().mean().sqrt() * drawn))
                    rows.append((len(set(before) - set(after)), before[0] != after[0], (margin[k - 1] - margin[k]).item()))
            moved, kept = [m for c, _, m in rows if c > 0], [m for c, _, m in rows if c == 0]
            mean = lambda values: sum(values) / len(values) if values else None
            result.append([sum(c for c, _, _ in rows) / (k * len(rows)), mean([f for _, f, _ in rows]),
                           len(moved) / len(rows), mean(moved), mean(kept)])
    return result


def make_tensors(config, name):
    torch.manual_seed(len(name))
    model = transformers.AutoModelForCausalLM.from_config(config)
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(1, 0.1)
    model.bfloat16().save_pretrained(folder)
    from safetensors.torch import load_file
    tensors = load_file(folder / "model.safetensors")
    if name in PLANTED:
        layer, e = PLANTED[name]
        tensors[f"model.layers.{layer}.block_sparse_moe.experts.{e}.w2.weight"] *= 40
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)
    return {key: value.double() for key, value in tensors.items()}


def expected(name, config):
    tensors = make_tensors(config, name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER / name, attn_implementation="eager", experts_implementation="eager",
        dtype=torch.float64).eval()
    experts = getattr(config, "num_local_experts", None) or config.num_experts
    k = config.num_experts_per_tok
    before, _ = forward(model, [])
    renormalise = name == "mixtral"
    layers = [Mixture(i, tensors, renormalise, k) for i in range(config.num_hidden_layers)]
    for module, mixture in zip(model.model.layers, layers):
        module.mlp.forward = mixture
    base, tokens = forward(model, layers)
    assert all(abs(a - b) < 1e-4 * abs(a) for a, b in zip(before, base)), (before, base)
    result = {"tokens": tokens, "loss": [sum(base) / sum(tokens)] + [b / t for b, t in zip(base, tokens)],
              **look(layers, experts)}
    result["super"] = super_experts(result["largest"])
    result["noise"] = noise(layers, k)
    every = range(len(layers))
    result["routes"] = [routes(model, layers, changed, k) for changed in [*([i] for i in every), every]]
    for kind in ("mask", "first", "alone"):
        result[kind] = []
    for layer in layers:
        masked, first = [], []
        for e in range(experts):
            layer.masked = {e}
            masked.append(effect(model, layers, base))
            layer.masked = set()
            layer.first = e
            first.append(effect(model, layers, base))
            layer.first = None
        layer.k = 1
        result["alone"].append(effect(model, layers, base))
        layer.k = k
        result["mask"].append(masked)
        result["first"].append(first)
    layers[1].masked, layers[2].masked = {0}, {1}
    result["pair"] = effect(model, layers, base)
    layers[1].masked, layers[2].masked = set(), set()
    result["top_k"] = []
    for other in range(1, experts + 1):
        for layer in layers:
            layer.k = other
        result["top_k"].append(effect(model, layers, base))
    text = json.dumps(result, indent=1)
    (FOLDER / name / "expected.json").write_text(text + "\n")
    print(name, "loss", result["loss"][0], "super", result["super"], "choices", result["choices"])


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for model_name, model_config in MODELS.items():
        expected(model_name, model_config)
