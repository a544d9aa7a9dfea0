"""Makes tests/fixtures/atlas/router.txt: the measures entropy, margin, lookahead and confidence of
tests/fixtures/atlas/signals.safetensors, computed with numpy alone from the formulas of docs/measures/router.md.

Run from the repository root: python3 tests/reference/atlas_router.py > tests/fixtures/atlas/router.txt
(needs numpy and safetensors). A line is a measure, its keys, and its values in the order of the columns.
"""
import json
import math

import numpy as np
from safetensors import safe_open

NONE, GROUPS = 65535, 20

with safe_open("tests/fixtures/atlas/signals.safetensors", "np") as file:
    data = {name: file.get_tensor(name) for name in file.keys()}
    meta = file.metadata()
E = int(meta["experts"])
numbers = json.loads(meta["layers"])
names = json.loads(meta["domains"])
experts, ahead = data["experts"], data["ahead"]
L, T, K = experts.shape
document, domain = data["document"], data["domain"].astype(int)
entropies = data["entropies"].astype(float)
margins = data["margins"].astype(float)

# documents take turns in groups, domain by domain
group_of_document = np.zeros(document.max() + 1, int)
turn = 0
for d in range(len(names)):
    for n in range(document.max() + 1):
        if domain[document == n][0] == d:
            group_of_document[n] = turn % GROUPS
            turn += 1
group = group_of_document[document]


def student_975(freedom):
    """Student's t at 0.975: the density integrated, the place bisected. mixt takes an expansion, within 0.3 %."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        x = np.linspace(0, middle, 20001)
        y = scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        low, high = (middle, high) if ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() < 0.475 else (low, middle)
    return low


def span(statistic, least, most, held=np.ones(T, bool)):
    """Delete-a-group jackknife of a statistic of a mask over tokens, by the groups that have some that are `held`."""
    whole = statistic(np.ones(T, bool))
    groups = np.unique(group[held])
    without = np.array([statistic(group != g) for g in groups])
    n = len(groups)
    reach = student_975(n - 1) * math.sqrt(((without - without.mean()) ** 2).sum() * (n - 1) / n)
    return whole, max(whole - reach, least), min(whole + reach, most)


def student_p(t, freedom):
    """Two-sided tail of Student's t: the density integrated."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    x = np.linspace(0, abs(t), 400001)
    y = scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    return 1 - 2 * ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()


def line(name, keys, *values):
    print(name, *keys, *("nan" if math.isnan(v) else f"{v:.12g}" for v in values))


def bits(p):
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def entropy():
    layer_use = lambda l, where: bits(np.bincount(experts[l][where].ravel(), minlength=E) / experts[l][where].size)
    for layer in list(range(L)) + [-1]:
        layers = range(L) if layer < 0 else [layer]
        for d in [-1] + list(range(len(names))):
            where = np.ones(T, bool) if d < 0 else domain == d
            mean = lambda mask: entropies[layers][:, mask & where].mean()
            value, low, high = span(mean, 0, math.log2(E), where)
            use = np.mean([layer_use(l, where) for l in layers])
            line("entropy", [numbers[layer] if layer >= 0 else -1, d], value, math.log2(E), use, low, high,
                 len(layers) * where.sum())


def margin():
    for layer in list(range(L)) + [-1]:
        rows = margins if layer < 0 else margins[layer:layer + 1]

        def values(mask):
            v = rows[:, mask].ravel()
            return v[~np.isnan(v)]

        at = lambda q: float(np.quantile(values(np.ones(T, bool)), q, method="inverted_cdf"))
        median = span(lambda mask: float(np.quantile(values(mask), 0.5, method="inverted_cdf")), 0, math.inf)
        near = span(lambda mask: (values(mask) < np.float16(0.01)).mean(), 0, 1)
        close = span(lambda mask: (values(mask) < np.float16(0.1)).mean(), 0, 1)
        line("margin", [numbers[layer] if layer >= 0 else -1], *median, at(0.05), at(0.25), at(0.75), at(0.95), *near,
             *close, values(np.ones(T, bool)).size)


def lookahead():
    pooled = dict(hits=0, firsts=0, count=0, first_count=0, random=0, use=0, first_use=0)
    every = []
    for layer in range(1, L):
        hit = (experts[layer][:, :, None] == ahead[layer][:, None, :]).any(-1)  # [T, k]
        first = experts[layer][:, 0] == ahead[layer][:, 0]
        recall = span(lambda mask: hit[mask].mean(), 0, 1)
        firsts = span(lambda mask: first[mask].mean(), 0, 1)
        has = ahead[layer] != NONE
        chosen = np.bincount(experts[layer].ravel(), minlength=E)
        foreseen = np.bincount(ahead[layer][has], minlength=E)
        random = has.sum() / T / E
        use = (chosen * foreseen / T).sum() / chosen.sum()
        a = np.bincount(experts[layer][:, 0], minlength=E)
        b = np.bincount(ahead[layer][:, 0], minlength=E)
        first_use = (a * b / T).sum() / T
        line("lookahead", [numbers[layer]], recall[0], random, use, recall[1], recall[2], firsts[0], 1 / E, first_use,
             firsts[1], firsts[2], hit.size)
        every.append((hit, first, random, use, first_use))
    recall = span(lambda mask: np.mean([h[mask].mean() for h, *_ in every]), 0, 1)
    firsts = span(lambda mask: np.mean([f[mask].mean() for _, f, *_ in every]), 0, 1)
    line("lookahead", [-1], recall[0], np.mean([x[2] for x in every]), np.mean([x[3] for x in every]), recall[1],
         recall[2], firsts[0], 1 / E, np.mean([x[4] for x in every]), firsts[1], firsts[2],
         sum(x[0].size for x in every))


def confidence():
    known = np.zeros(T, bool)
    known[:-1] = document[:-1] == document[1:]
    right = np.zeros(T, bool)
    right[:-1] = data["predicted"][:-1] == data["tokens"][1:]
    rows = []
    for word, signal in enumerate([entropies, margins]):
        for layer in list(range(L)) + [-1]:
            x = np.nanmean(signal, axis=0) if layer < 0 else signal[layer]
            there = known & ~np.isnan(x)

            def both(mask):
                """The difference of the tokens of the mask, and its level."""
                mine = mask & there
                R, W = (mine & right).sum(), (mine & ~right).sum()
                expected = sum((mine & right & (document == n)).sum() * x[mine & (document == n)].mean()
                               for n in np.unique(document[mine]))
                value = x[mine & right].mean() - x[mine & ~right].mean()
                return value, expected / R - (x[mine].sum() - expected) / W

            beyond = lambda mask: both(mask)[0] - both(mask)[1]
            value, use = both(np.ones(T, bool))
            _, low, high = span(beyond, -math.inf, math.inf, there)
            low, high = low + use, high + use  # as far from the value as from the difference
            freedom = len(np.unique(group[there])) - 1
            p = student_p((value - use) / ((high - value) / student_975(freedom)), freedom)
            a, b = x[there & right], x[there & ~right]
            if layer < 0:  # ranked as halves
                a, b = a.astype(np.float16), b.astype(np.float16)
            larger = ((a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])).mean()
            rows.append([[numbers[layer] if layer >= 0 else -1, word], value, 0, use, low, high, p, 0, larger,
                         x[there & right].mean(), x[there & ~right].mean(), there.sum()])
    p = np.array([r[6] for r in rows])
    order = np.argsort(p, kind="stable")
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    for r, each in zip(rows, np.minimum(q, 1)):
        r[7] = each
        line("confidence", *r)


entropy()
margin()
lookahead()
confidence()
