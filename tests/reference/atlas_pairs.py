"""Makes tests/fixtures/atlas/pairs_measures.json: the measures of two traces (docs/measures/pairs.md), computed
with numpy alone. The second trace of each pair is made from the first by a rule that tests/test_pairs.c
has too: every so often a token's row is another token's, and logits and margins are numbers of a rule.

Run from the repository root: python3 tests/reference/atlas_pairs.py (needs numpy and safetensors).
"""
import json
import math

import numpy as np
from safetensors import safe_open

from atlas import t_quantile

NONE = 65535
GROUPS = 20


def read(name):
    with safe_open(f"tests/fixtures/atlas/{name}.safetensors", "np") as f:
        t = {key: f.get_tensor(key) for key in f.keys()}
        meta = f.metadata()
    t["E"] = int(meta["experts"])
    t["layers"] = json.loads(meta["layers"])
    layers, tokens, k = t["experts"].shape
    t["chosen"] = json.loads(meta["experts_per_layer"]) if "experts_per_layer" in meta else [k] * layers
    return t


def second(t):
    layers, tokens, _ = t["experts"].shape
    b = dict(t, experts=t["experts"].copy(), weights=t["weights"].copy())
    for l in range(layers):
        for i in range(tokens):
            if (7 * i + 3 * l) % 5 == 0:
                b["experts"][l, i] = t["experts"][l, (13 * i + 5) % tokens]
                b["weights"][l, i] = t["weights"][l, (13 * i + 5) % tokens]
    return b


def logits_of(t, which):
    layers, tokens, _ = t["experts"].shape
    l, i, e = np.ogrid[:layers, :tokens, : t["E"]]
    logits = ((31 * i + 17 * l + 7 * e * e) % 23) / 4 - 2
    return logits + which * ((i + e) % 3) / 8


def margins_of(t):
    layers, tokens, _ = t["experts"].shape
    l, i = np.ogrid[:layers, :tokens]
    return ((5 * i + l) % 16) / 8


def groups_of(t):
    """Documents take turns, domain by domain."""
    domain = np.array([t["domain"][t["document"] == d][0] for d in range(t["document"].max() + 1)])
    group = np.zeros(len(domain), int)
    group[np.argsort(domain, kind="stable")] = np.arange(len(domain)) % GROUPS
    return group[t["document"]], min(GROUPS, len(domain))


def span(values, counted, group, groups, most=1.0):
    """Delete-a-group jackknife of a mean over tokens."""
    without = []
    for g in range(groups):
        keep = counted & (group != g)
        if keep.sum() > 0 and (counted & (group == g)).sum() > 0:
            without.append(values[keep].mean())
    if len(without) < 2:
        return [math.nan, math.nan]
    without, n = np.array(without), len(without)
    reach = t_quantile(n - 1) * math.sqrt(((without - without.mean()) ** 2).sum() * (n - 1) / n)
    mean = values[counted].mean()
    return [max(mean - reach, 0), min(mean + reach, most)]


def sets_of(t, l):
    return [frozenset(row[: t["chosen"][l]]) - {NONE} for row in t["experts"][l]]


def cell(values, counted, random, use, domain, wanted, group, groups, most=1.0):
    """values, random, use [tokens] over the counted tokens of a domain (-1: all)."""
    here = counted & ((domain == wanted) | (wanted < 0))
    if not here.any():
        return [math.nan] * 5
    return [values[here].mean(), random[here].mean(), use[here].mean()] + span(values, here, group, groups, most)


def all_pairs(t, number, good_a, good_b):
    """The mean of number(i, j) over rows i of the first and j of the second of each domain, put at its tokens."""
    use = np.zeros(len(t["domain"]))
    for d in np.unique(t["domain"]):
        at = np.flatnonzero(t["domain"] == d)
        values = [number(i, j) for i in at[good_a[at]] for j in at[good_b[at]]]
        use[at] = np.mean(values) if values else 0
    return use


def rows_of(t, quantities, domains, most=1.0):
    """quantities: for each number a list by layer of (values, counted, random, use). Rows: layer, domain, cells."""
    group, groups = groups_of(t)
    layers = [(t["layers"][l], [q[l] for q in quantities], t["domain"], group) for l in range(len(t["layers"]))]
    joined = [tuple(np.concatenate([layer[part] for layer in q]) for part in range(4)) for q in quantities]
    count = len(t["layers"])
    layers.append((-1, joined, np.tile(t["domain"], count), np.tile(group, count)))
    rows = []
    for number, cells, domain, g in layers:
        for d in [-1] + (list(np.unique(t["domain"])) if domains else []):
            row = [number] + ([int(d)] if domains else [])
            for c in cells:
                row += cell(*c, domain, d, g, groups, most)
            here = cells[0][1] & ((domain == d) | (d < 0))
            rows.append(row + [int(here.sum())])
    return rows


def share(x, y):
    return len(x & y) / max(len(x), len(y))


def choices(a, b):
    sets, first = [], []
    for l in range(len(a["layers"])):
        x, y = sets_of(a, l), sets_of(b, l)
        has_x, has_y = np.array([len(s) > 0 for s in x]), np.array([len(s) > 0 for s in y])
        counted = has_x & has_y
        values = np.array([share(x[i], y[i]) if counted[i] else 0 for i in range(len(x))])
        random = np.array([min(len(x[i]), len(y[i])) / a["E"] for i in range(len(x))])
        use = all_pairs(a, lambda i, j: share(x[i], y[j]), has_x, has_y)
        sets.append((values, counted, random, use))
        fx, fy = a["experts"][l, :, 0], b["experts"][l, :, 0]
        use = all_pairs(a, lambda i, j: float(fx[i] == fy[j]), fx != NONE, fy != NONE)
        first.append(((fx == fy).astype(float), (fx != NONE) & (fy != NONE), np.full(len(x), 1 / a["E"]), use))
    return sets, first


def flips(a, b):
    kept, moved, changed = [], [], []
    for l in range(len(a["layers"])):
        dense = []
        for t in (a, b):
            w = np.zeros((len(t["domain"]), t["E"]))
            for i, row in enumerate(t["experts"][l]):
                for c in range(t["chosen"][l]):
                    if row[c] != NONE:
                        w[i, row[c]] = max(float(t["weights"][l, i, c]), 0)
            good = w.sum(1) > 0
            w[good] /= w[good].sum(1, keepdims=True)
            dense.append((w, good))
        (w, good_a), (v, good_b) = dense
        x, y = sets_of(a, l), sets_of(b, l)
        counted = good_a & good_b
        numbers = (lambda i, j: sum(w[i, e] for e in x[i] & y[j]),
                   lambda i, j: float(np.abs(w[i] - v[j]).sum() / 2),
                   lambda i, j: float(x[i] != y[j]))
        randoms = (np.array([len(s) / a["E"] for s in y]), np.full(len(x), math.nan),
                   np.array([1 - (len(x[i]) == len(y[i])) / math.comb(a["E"], len(x[i])) for i in range(len(x))]))
        for to, number, random in zip((kept, moved, changed), numbers, randoms):
            values = np.array([number(i, i) for i in range(len(x))])
            to.append((values, counted, random, all_pairs(a, number, good_a, good_b)))
    return kept, moved, changed


def kl(a):
    p, q = logits_of(a, 0), logits_of(a, 1)
    out = []
    for l in range(len(a["layers"])):
        lp = p[l] - np.log(np.exp(p[l]).sum(-1, keepdims=True))
        lq = q[l] - np.log(np.exp(q[l]).sum(-1, keepdims=True))
        number = lambda i, j: float((np.exp(lp[i]) * (lp[i] - lq[j])).sum() / math.log(2))
        values = np.array([number(i, i) for i in range(len(lp))])
        random = math.log2(a["E"]) + (np.exp(lp) * lp).sum(-1) / math.log(2)
        counted = np.ones(len(lp), bool)
        out.append((values, counted, random, all_pairs(a, number, counted, counted)))
    return (out,)


PLACES = [1, 4, 16, 64, 256, 1024]


def breaks(a, b):
    """Rows of places and ids: kind, key, value, random, use, low, high, p, lift, margin, at breaks, tokens."""
    group, groups = groups_of(a)
    layers, tokens, _ = a["experts"].shape
    margins = margins_of(a)
    parts = np.full((layers, tokens), math.nan)
    chance = np.full((layers, tokens), math.nan)
    for l in range(layers):
        x, y = sets_of(a, l), sets_of(b, l)
        for i in range(tokens):
            if x[i] and y[i]:
                parts[l, i] = 1 - share(x[i], y[i])
                chance[l, i] = 1 - min(len(x[i]), len(y[i])) / a["E"]
    counted = ~np.isnan(parts).all(0)
    broken = np.where(counted, np.nansum(parts, 0) / np.maximum((~np.isnan(parts)).sum(0), 1), 0)
    random = np.where(counted, np.nansum(chance, 0) / np.maximum((~np.isnan(chance)).sum(0), 1), 0)
    start = np.array([np.flatnonzero(a["document"] == d)[0] for d in a["document"]])
    place = np.digitize(np.arange(tokens) - start, PLACES)
    bins = [(0, -1, np.ones(tokens, bool))]
    bins += [(2, p, place == p) for p in range(len(PLACES) + 1)]
    bins += [(3, int(v), a["tokens"] == v) for v in range(int(a["tokens"].max()) + 1)]
    rows = []
    for kind, key, which in bins:
        here = which & counted
        if here.sum() < (10 if kind == 3 else 1):
            continue
        expected = variance = 0.0
        for d in np.unique(a["document"]):
            all_of = broken[counted & (a["document"] == d)]
            n, m = (here & (a["document"] == d)).sum(), len(all_of)
            if n:
                expected += n * all_of.mean()
                variance += n * all_of.var() * (m - n) / (m - 1) if m > 1 else 0
        total = broken[here].sum()
        p = 0.5 * math.erfc((total - expected) / math.sqrt(2 * variance)) if kind and variance > 1e-12 else math.nan
        at = ~np.isnan(parts[:, here])
        torn = at & (np.nan_to_num(parts[:, here]) > 0)
        of = margins[:, here]
        rows.append([kind, key, total / here.sum(), random[here].mean(), expected / here.sum()]
                    + span(broken, here, group, groups) + [p, total / expected if expected else math.nan,
                    of[at].mean(), of[torn].mean() if torn.any() else math.nan, int(here.sum())])
    return rows


def information(x, y):
    table = np.zeros((x.max() + 1, y.max() + 1))
    np.add.at(table, (x, y), 1)
    p = table / table.sum()
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    return float((p[p > 0] * np.log2(p[p > 0] / outer[p > 0])).sum())


def entropy(x):
    p = np.bincount(x) / len(x)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def kinship(a, b):
    """Rows: layer, bits, use, share, tokens; use from 400 permutations within domains."""
    rng = np.random.default_rng(5)
    rows = []
    for l, number in enumerate(a["layers"]):
        x, y = a["experts"][l, :, 0].astype(int), b["experts"][l, :, 0].astype(int)
        good = (x != NONE) & (y != NONE)
        draws = []
        for _ in range(400):
            moved = x.copy()
            for d in np.unique(a["domain"]):
                at = np.flatnonzero(a["domain"] == d)
                moved[at] = x[rng.permutation(at)]
            ok = (moved != NONE) & (y != NONE)
            draws.append(information(moved[ok], y[ok]))
        bits, use = information(x[good], y[good]), float(np.mean(draws))
        least = min(entropy(x[good]), entropy(y[good]))
        rows.append([number, bits, use, (bits - use) / (least - use), int(good.sum())])
    return rows


def plain(rows):
    return [[None if isinstance(v, float) and math.isnan(v) else float(f"{v:.10g}") for v in row] for row in rows]


def main():
    out = {"made by": "python3 tests/reference/atlas_pairs.py"}
    for name in ("pairs", "triples", "holes"):
        a = read(name)
        b = second(a)
        sets, first = choices(a, b)
        out[name] = {
            "saturation": plain(rows_of(a, (sets, first), False)),
            "agreement": plain(rows_of(a, (sets, first), True)),
            "flips_effect": plain(rows_of(a, flips(a, b), True)),
            "router_kl": plain(rows_of(a, kl(a), True, math.inf)),
            "breaks": plain(breaks(a, b)),
            "kinship": plain(kinship(a, b)),
        }
    with open("tests/fixtures/atlas/pairs_measures.json", "w") as f:
        text = json.dumps(out)
        f.write(text.replace("]], ", "]],\n").replace("], [", "],\n["). replace("}, ", "},\n") + "\n")


main()
