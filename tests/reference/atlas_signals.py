"""Makes tests/fixtures/atlas/signals.safetensors: a small trace with everything that a trace may hold beside its
choices (router logits, margins, entropies, predicted tokens, experts ahead), computed with numpy alone.

Layer 0 routes at random. Layers 1 and 2 read what the layer before read, and more: what a router chooses ahead is often
what it chooses. Tokens whose routers are sure are predicted right more often. In the second domain routers are surer.

Run from the repository root: python3 tests/reference/atlas_signals.py (needs numpy and safetensors). The package writes
the metadata in any order, so a trace made again may differ in that.
"""
import json

import numpy as np
from safetensors.numpy import save_file

OUT = "tests/fixtures/atlas/signals.safetensors"
LAYERS, EXPERTS, K, NONE = 3, 8, 2, 65535


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(logits):
    return np.argsort(-logits, axis=-1, kind="stable")[..., :K]


def main():
    rng = np.random.default_rng(11)
    tokens, document, domain = [], [], []
    for d in range(24):
        n = int(rng.integers(10, 26))
        tokens += list(rng.integers(0, 12, n))
        document += [d] * n
        domain += [d % 3 if d < 21 else 2] * n
    total = len(tokens)
    tilt = rng.normal(0, 0.7, (LAYERS, EXPERTS))
    sharp = np.where(np.array(domain) == 1, 1.8, 0.9)[:, None]
    logits = np.empty((LAYERS, total, EXPERTS))
    ahead = np.full((LAYERS, total, K), NONE, np.uint16)
    logits[0] = sharp * (rng.normal(0, 1, (total, EXPERTS)) + tilt[0])
    for layer in range(1, LAYERS):
        seen = sharp * (rng.normal(0, 1, (total, EXPERTS)) + tilt[layer])
        logits[layer] = seen + rng.normal(0, 0.8, (total, EXPERTS))
        ahead[layer] = best(seen)
    logits = logits.astype(np.float16).astype(np.float64)
    experts = best(logits)
    chosen = np.take_along_axis(logits, experts, axis=-1)
    weights = softmax(chosen)
    rest = logits.copy()
    np.put_along_axis(rest, experts, -np.inf, axis=-1)
    margins = chosen.min(axis=-1) - rest.max(axis=-1)
    margins[2][rng.random(total) < 0.1] = np.nan  # as where a layer compared nothing
    ahead[2, rng.random(total) < 0.1, 1] = NONE
    p = softmax(logits)
    entropies = -(p * np.log2(p)).sum(axis=-1)
    # right with a chance that falls with the entropy of the last layer
    following = np.array(tokens[1:] + [0])
    right = rng.random(total) < 1 - entropies[-1] / np.log2(EXPERTS) * 0.8
    predicted = np.where(right, following, rng.integers(0, 12, total))
    vocab = [b"a", b" b", b"\n", b"\xc3", b"\xa9", b"the", b"", b"\t", b" self", b"<b>", b"0", b"."]
    save_file({
        "tokens": np.array(tokens, np.int32),
        "document": np.array(document, np.int32),
        "domain": np.array(domain, np.uint16),
        "experts": experts.astype(np.uint16),
        "weights": weights.astype(np.float16),
        "logits": logits.astype(np.float16),
        "margins": margins.astype(np.float16),
        "entropies": entropies.astype(np.float16),
        "predicted": predicted.astype(np.int32),
        "ahead": ahead,
        "vocab_bytes": np.frombuffer(b"".join(vocab), np.uint8),
        "vocab_offsets": np.cumsum([0] + [len(v) for v in vocab]).astype(np.int64),
    }, OUT, {"format": "mixt-trace", "version": "1", "experts": str(EXPERTS), "experts_per_token": str(K),
             "layers": json.dumps([1, 3, 5]), "domains": json.dumps(["text", "code", "math"]), "model": "signals"})


if __name__ == "__main__":
    main()
