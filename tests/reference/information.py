"""What experts tell of domains, classes and tokens, computed again with numpy from the text of
docs/atlas.md, whose lists of words it reads.

python3 tests/reference/information.py                  makes tests/fixtures/atlas/information.txt from the
                                                        three traces there (of tests/reference/atlas.py)
python3 tests/reference/information.py TRACE NUMBERS    holds the output of mixt atlas TRACE --json beside it

From the repository root; needs numpy and safetensors. Shuffles and groups of documents are drawn
differently here: what depends on them agrees within their spread.
"""
import json
import re
import sys
import unicodedata

import numpy as np
from safetensors import safe_open

FIXTURES = "tests/fixtures/atlas"
NONE = 65535
LABELS = ("domain", "class", "token", "previous")
CLASSES = ("space newline digits punctuation operators function keywords words names continuation "
           "mixed scripts bytes other").split()
LATIN = ((0, 0x2ff), (0x1d00, 0x1dbf), (0x1e00, 0x1eff), (0x2c60, 0x2c7f), (0xa720, 0xa7ff),
         (0xab30, 0xab6f), (0xfb00, 0xfb06), (0xff21, 0xff5a))
T95 = {18: 2.109815577833317, 20: 2.093024054408263}  # Student's t at 0.975, by groups


def listed(title, text):
    return set(re.search(r"\*\*" + title + r"\*\*: (.*?)\n\n", text, re.S)[1].split())


def class_of(raw, functions, keywords, bare):
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes"
    category = unicodedata.category
    blank = [category(c)[0] == "Z" or "\t" <= c <= "\r" for c in text]
    if not text:
        return "other"
    if all(blank):
        return "newline" if "\n" in text or "\r" in text else "space"
    solid = [c for c, b in zip(text, blank) if not b]
    first = blank.index(False)
    core = text[first:len(text) - blank[::-1].index(False)]
    kinds = [category(c)[0] for c in solid]
    if any(k == "L" and not any(a <= ord(c) <= b for a, b in LATIN)
           for c, k in zip(solid, kinds)):
        return "scripts"
    if not set(kinds) & set("LM"):
        if "N" in kinds:
            return "digits"
        if "C" in kinds:
            return "other"
        return ("operators" if any(k == "S" or c in "#%&*/@[\\]_{}" for c, k in zip(solid, kinds))
                else "punctuation")
    if any(k in "NCPS" and c not in "'\u2019" for c, k in zip(solid, kinds)):
        return "mixed"
    spaced = blank[0]
    lower = "".join(c.lower() if c.isascii() else c for c in core)
    function = lower in functions or core == "I"
    if spaced and function:
        return "function"
    if core in keywords or (not spaced and core in bare):
        return "keywords"
    capital = [category(c) in ("Lu", "Lt") for c in core]
    if spaced:
        return "names" if capital[0] else "words"
    if function and capital[0] and sum(capital) == 1 and len(core) > 1:
        return "function"
    return "continuation"


class Trace:
    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.metadata = file.metadata()
            get = file.get_tensor
            self.tokens, self.document = get("tokens").astype(np.int64), get("document")
            self.domain, self.experts = get("domain").astype(np.int64), get("experts")
            raw, offsets = get("vocab_bytes").tobytes(), get("vocab_offsets")
        with open("docs/atlas.md", encoding="utf-8") as file:
            text = file.read() + "\n\n"
        lists = [listed(t, text) for t in ("function words", "keywords",
                                           "keywords without a space alone")]
        classes = [CLASSES.index(class_of(raw[a:b], *lists))
                   for a, b in zip(offsets[:-1], offsets[1:])]
        previous = np.concatenate([[-1], self.tokens[:-1]])
        previous[1:][self.document[1:] != self.document[:-1]] = -1
        previous[0] = -1
        self.labels = (self.domain, np.array(classes)[self.tokens], self.tokens, previous)
        self.number = int(self.metadata["experts"])

    def shuffled(self, label, rng):
        """Rows of experts as they stand after a shuffle, and the labels."""
        tokens = len(self.tokens)
        if label == 0:
            start = np.flatnonzero(np.diff(self.document, prepend=-1))
            return np.arange(tokens), rng.permutation(self.domain[start])[self.document]
        return np.lexsort((rng.random(tokens), self.document)), self.labels[label]


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def information(rows, label, which, experts):
    """I and H of rows [T, k] and labels [T], in bits."""
    rows = rows[:, :1] if which == 0 else rows
    z = np.repeat(label, rows.shape[1])
    c = rows.reshape(-1).astype(np.int64)
    kept = (c != NONE) & (z >= 0)
    z, c = z[kept], c[kept]
    joint = np.bincount(z * experts + c)
    return entropy(np.bincount(c)) + entropy(np.bincount(z)) - entropy(joint), entropy(
        np.bincount(c))


def groups_of(trace):
    """Twenty groups of documents, dealt out domain by domain; a domain's only document in blocks."""
    unit = np.zeros(len(trace.tokens), np.int64)
    at = 0
    for d in range(trace.domain.max() + 1):
        documents = np.unique(trace.document[trace.domain == d])
        for document in documents:
            here = np.flatnonzero(trace.document == document)
            if len(documents) == 1:
                unit[here] = at + np.arange(len(here)) * 7 // len(here)
                at += 7
            else:
                unit[here] = at
                at += 1
    return unit % 20


def measure(trace, shuffles, seed=5):
    """{(layer, label, which): (bits, entropy, mean, spread, low, high)}; layer -1 is the mean."""
    rng = np.random.default_rng(seed)
    group = groups_of(trace)
    used = np.unique(group)
    layers = trace.experts.shape[0]
    result = {}
    for label in range(4):
        short = layers * len(trace.tokens) * (trace.experts.shape[2] + 1) <= 1 << 19
        below = shuffles if short or label == 0 else 4
        drawn = [(np.arange(len(trace.tokens)), trace.labels[label])]
        drawn += [trace.shuffled(label, rng) for _ in range(shuffles)]
        for which in (0, 1):
            table = np.zeros((layers, len(drawn), 2))
            less = np.zeros((layers, len(used)))
            for layer in range(layers):
                for s, (place, z) in enumerate(drawn):
                    rows = trace.experts[layer][place]
                    table[layer, s] = information(rows, z, which, trace.number)
                    for g in range(len(used)) if s <= below else ():
                        kept = group != used[g]
                        value = information(rows[kept], z[kept], which, trace.number)[0]
                        less[layer, g] += value if s == 0 else -value / below
            for layer in list(range(layers)) + [-1]:
                row = table[layer] if layer >= 0 else table.mean(0)
                left = less[layer] if layer >= 0 else less.mean(0)
                n = len(used)
                spread = row[1:, 0].std(ddof=1)
                moved = ((left - left.mean()) ** 2).sum() * (n - 1) / n
                error = np.sqrt(max(moved - spread ** 2, spread ** 2) + spread ** 2 / shuffles)
                excess = row[0, 0] - row[1:, 0].mean()
                result[layer, label, which] = (*row[0], row[1:, 0].mean(), spread,
                                               excess - T95[n] * error, excess + T95[n] * error)
    return result


def compare(path, numbers):
    trace = Trace(path)
    with open(numbers, encoding="utf-8") as file:
        atlas = json.load(file)
    worst = {"bits": 0.0, "shuffled": 0.0, "width": 0.0, "classes": 0.0}
    counts = np.bincount(trace.labels[1], minlength=len(CLASSES)) / len(trace.tokens)
    for name, share in zip(CLASSES, counts):
        worst["classes"] = max(worst["classes"], abs(share - atlas["token_classes"][name]))
    for (layer, label, which), row in measure(trace, 20).items():
        part = atlas["information"][LABELS[label]][("first", "all")[which]]
        mine = part["mean"] if layer < 0 else part["layers"][layer]
        bits, total, mean, spread, low, high = row
        error = (mine["spread"] + spread) / 2 * np.sqrt(2 / 20)
        worst["bits"] = max(worst["bits"], abs(bits - mine["bits"]), abs(total - mine["entropy"]))
        worst["shuffled"] = max(worst["shuffled"], abs(mean - mine["shuffled"]) / error)
        width = (mine["high"] - mine["low"]) / (high - low)
        worst["width"] = max(worst["width"], abs(np.log(width)))
        print(f"{layer:3d} {LABELS[label]:9s}{which} numpy {bits:.6f} {mean:.6f} {spread:.6f} "
              f"{low:.4f} {high:.4f} mixt {mine['bits']:.6f} {mine['shuffled']:.6f} "
              f"{mine['spread']:.6f} {mine['low']:.4f} {mine['high']:.4f}")
    print("largest differences: classes %.3g, bits %.3g, level %.2f standard errors, width of "
          "intervals %.1f %%" % (worst["classes"], worst["bits"], worst["shuffled"],
                                 100 * np.expm1(worst["width"])))


def main():
    if len(sys.argv) == 3:
        return compare(*sys.argv[1:])
    with open(f"{FIXTURES}/information.txt", "w", encoding="utf-8") as out:
        for name in ("pairs", "triples", "holes"):
            trace = Trace(f"{FIXTURES}/{name}.safetensors")
            for (layer, label, which), row in measure(trace, 100).items():
                out.write(f"{name} {layer} {label} {which} " + " ".join(f"{v:.12f}" for v in row) +
                          "\n")


main()
