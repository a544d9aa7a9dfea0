"""Makes tests/fixtures/atlas/use.txt: the measures of use and of caches (src/atlas/measures/use.c,
reuse.c, cache.c, segments.c) of the three small traces, by their formulas with numpy alone. Caches
are simulated size by size, windows counted one by one, levels drawn by numpy's generator.

Run from the repository root: python3 tests/reference/atlas_use.py (needs numpy, scipy and
safetensors, and the traces of tests/reference/atlas.py).

A line: trace, measure, keys (layer and up to two more, - for none), column, value, tolerance.
"""
import json
import math

import numpy as np
from safetensors import safe_open
from scipy.stats import t as student

OUT = "tests/fixtures/atlas"
NONE = 65535
GROUPS = 20
DRAWS = 400
lines = []


class Trace:
    def __init__(self, name):
        self.name = name
        with safe_open(f"{OUT}/{name}.safetensors", "numpy") as f:
            meta = f.metadata()
            self.document = f.get_tensor("document")
            self.domain = f.get_tensor("domain")
            self.ids = f.get_tensor("experts").astype(np.int64)
            self.weights = f.get_tensor("weights").astype(np.float64)
        self.E = int(meta["experts"])
        self.k = int(meta["experts_per_token"])
        self.layers = json.loads(meta["layers"])
        self.chosen = json.loads(meta.get("experts_per_layer", "[]")) or [self.k] * len(self.layers)
        self.docs = [np.where(self.document == d)[0] for d in range(self.document.max() + 1)]
        # Documents take turns, domain by domain.
        group, turn = {}, 0
        for domain in range(self.domain.max() + 1):
            for d, at in enumerate(self.docs):
                if self.domain[at[0]] == domain:
                    group[d] = turn % GROUPS
                    turn += 1
        self.groups = min(turn, GROUPS)
        self.group = np.array([group[d] for d in range(len(self.docs))])

    def sets(self, layer, ids=None):
        ids = self.ids[layer] if ids is None else ids
        return [[int(e) for e in row if e != NONE] for row in ids]

    def shuffled(self, layer, rng):
        """Rows change places within their domain."""
        ids = self.ids[layer].copy()
        for domain in range(self.domain.max() + 1):
            at = np.where(self.domain == domain)[0]
            ids[at] = ids[rng.permutation(at)]
        return ids

    def uniform(self, layer, rng):
        return [list(rng.choice(self.E, len(s), replace=False)) for s in self.sets(layer)]


def put(trace, measure, keys, column, value, tolerance=1e-9):
    keys = [str(k) for k in keys] + ["-"] * (3 - len(keys))
    lines.append(f"{trace.name} {measure} {' '.join(keys)} {column} {value:.12g} {tolerance:.6g}")


def put_span(trace, measure, keys, names, whole, without, least=0.0, most=1.0):
    """Delete-a-group jackknife with Student's t; the library's quantile is within 0.3 %."""
    n = len(without)
    if n < 2:
        return
    without = np.array(without)
    error = math.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    reach = student.ppf(0.975, n - 1) * error
    put(trace, measure, keys, names[0], max(whole - reach, least), 0.004 * reach + 1e-9)
    put(trace, measure, keys, names[1], min(whole + reach, most), 0.004 * reach + 1e-9)


def put_level(trace, measure, keys, column, draws, shuffles=20):
    """The mean of `shuffles` draws lies within five standard errors of both means."""
    draws = np.array(draws)
    error = draws.std(ddof=1) * math.sqrt(1 / shuffles + 1 / len(draws))
    put(trace, measure, keys, column, draws.mean(), 5 * error + 1e-9)


# ---- use


def evenness(counts):
    n = np.asarray(counts, float)
    s = n / n.sum()
    positive = s[s > 0]
    return {
        "jain": n.sum() ** 2 / (len(n) * np.sum(n ** 2)),
        "effective": math.exp(-np.sum(positive * np.log(positive))) / len(n),
        "max_over_mean": n.max() / n.mean(),
        "variation": n.std() / n.mean(),
    }


def tops(counts, ns):
    n = np.sort(np.asarray(counts, float))[::-1]
    return {top: n[:top].sum() / n.sum() for top in ns}


def use(trace, rng):
    E = trace.E
    ns = sorted({n for n in (1, 2, 5, -(-E // 10), -(-E // 4), -(-E // 2)) if n <= E})
    of_token = trace.group[trace.document]
    every = []  # of each layer: whole, without each group, drawn
    for layer, number in enumerate(trace.layers):
        counts = np.zeros((trace.groups, E))
        for i, s in enumerate(trace.sets(layer)):
            counts[of_token[i], s] += 1
        whole = counts.sum(0)
        without = [whole - c for c in counts if c.sum() > 0]
        drawn = []
        for _ in range(DRAWS):
            made = np.zeros(E)
            for s in trace.uniform(layer, rng):
                made[s] += 1
            drawn.append(made)
        every.append((whole, without, drawn))
        put_use(trace, number, ns, [every[-1]])
    put_use(trace, -1, ns, every)


def put_use(trace, number, ns, layers):
    """The means over layers, here one or all of them."""
    def mean(of, which):
        return np.mean([of(layer[which]) for layer in layers])

    def means(of, which):
        return [np.mean([of(layer[which][i]) for layer in layers])
                for i in range(len(layers[0][which]))]

    for name in evenness(layers[0][0]):
        def of(counts, name=name):
            return evenness(counts)[name]
        put(trace, "balance", [number], name, mean(of, 0))
        put_span(trace, "balance", [number], (name + "_low", name + "_high"), mean(of, 0),
                 means(of, 1), 0, 1 if name in ("jain", "effective") else math.inf)
        put_level(trace, "balance", [number], name + "_random", means(of, 2))
    for n in ns:
        def of(counts, n=n):
            return tops(counts, ns)[n]
        put(trace, "concentration", [number, n], "share", mean(of, 0))
        put_span(trace, "concentration", [number, n], ("low", "high"), mean(of, 0), means(of, 1))
        put_level(trace, "concentration", [number, n], "random", means(of, 2))


def ranks(trace):
    of_token = trace.group[trace.document]
    for layer, number in enumerate(trace.layers):
        there = trace.ids[layer] != NONE
        w = np.where(there, trace.weights[layer], 0)
        total = w.sum(1, keepdims=True)
        size = there.sum(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(total > 0, w / total, 1 / size)
            even = 1 / size
        for rank in range(trace.chosen[layer]):
            at = there[:, rank]
            keys = [number, rank + 1]
            put(trace, "ranks", keys, "tokens", at.sum())
            put(trace, "ranks", keys, "even", even[at, 0].mean())
            for column, values in (("share", share), ("weight", w)):
                value = values[at, rank].mean()
                without = [values[at & (of_token != g), rank].mean() for g in range(trace.groups)
                           if (at & (of_token == g)).any()]
                names = ("low", "high") if column == "share" else ("weight_low", "weight_high")
                put(trace, "ranks", keys, column, value)
                put_span(trace, "ranks", keys, names, value, without, -math.inf, math.inf)


# ---- reuse


def distances(trace, sets):
    """Of every use: tokens since the expert's use before in the document, 0 for none; and its
    document."""
    far, document = [], []
    for d, at in enumerate(trace.docs):
        last = {}
        for i in at:
            for e in sets[i]:
                far.append(i - last[e] if e in last else 0)
                document.append(d)
                last[e] = i
    return np.array(far), np.array(document)


def expected(trace, layer, alike):
    """Expected uses at each distance, where each token has expert e with probability p by itself."""
    longest = max(len(d) for d in trace.docs)
    far = np.zeros(longest + 1)
    sets = trace.sets(layer)
    for domain in range(trace.domain.max() + 1):
        docs = [d for d in trace.docs if trace.domain[d[0]] == domain]
        tokens = sum(len(d) for d in docs)
        counts = np.zeros(trace.E)
        for d in docs:
            for i in d:
                counts[sets[i]] += 1
        p = counts / tokens
        if alike:
            p = np.full(trace.E, p.mean())
        for d in range(1, longest + 1):
            pairs = sum(max(len(doc) - d, 0) for doc in docs)
            far[d] += pairs * np.sum(p ** 2 * (1 - p) ** (d - 1))
    return far


def quantile(far, part):
    """far [longest + 1] counts; distance d is anything from d - 1 to d."""
    sums = np.cumsum(far)
    target = part * sums[-1]
    d = int(np.argmax((sums >= target) & (far > 0)))
    return d - 1 + (target - (sums[d] - far[d])) / far[d]


def reuse(trace):
    longest = max(len(d) for d in trace.docs)
    for layer, number in enumerate(trace.layers):
        far, document = distances(trace, trace.sets(layer))
        group = trace.group[document]
        level = {"use": expected(trace, layer, False), "random": expected(trace, layer, True)}
        b = 0
        while b <= 10 and (b == 0 or 2 ** (b - 1) < longest):
            keys = [number, 2 ** b]
            hit = (far > 0) & (far <= 2 ** b)
            put(trace, "reuse", keys, "share", hit.mean())
            put_span(trace, "reuse", keys, ("low", "high"), hit.mean(),
                     [hit[group != g].mean() for g in range(trace.groups) if (group == g).any()])
            for name, values in level.items():
                put(trace, "reuse", keys, name, values[1:2 ** b + 1].sum() / len(far))
            b += 1
        counts = np.bincount(far, minlength=longest + 1).astype(float)
        counts[0] = 0
        for percent in (10, 25, 50, 75, 90, 99):
            keys = [number, percent]
            value = quantile(counts, percent / 100)
            without = []
            for g in range(trace.groups):
                left = np.bincount(far[group != g], minlength=longest + 1).astype(float)
                left[0] = 0
                if ((group == g) & (far > 0)).any():
                    without.append(quantile(left, percent / 100))
            put(trace, "reuse_quantiles", keys, "tokens", value)
            put_span(trace, "reuse_quantiles", keys, ("low", "high"), value, without, 0, longest)
            for name, values in level.items():
                put(trace, "reuse_quantiles", keys, name, quantile(values, percent / 100), 1e-6)


# ---- cache


def simulate(uses, policy, size):
    """Hits, use by use, of a cache that starts empty and always takes in what is used."""
    following = [math.inf] * len(uses)
    seen = {}
    for t in range(len(uses) - 1, -1, -1):
        following[t] = seen.get(uses[t], math.inf)
        seen[uses[t]] = t
    held, last, count, needed = set(), {}, {}, {}
    hits = np.zeros(len(uses), bool)
    for t, e in enumerate(uses):
        hits[t] = e in held
        if not hits[t] and len(held) == size:
            if policy == "lru":
                out = min(held, key=lambda x: last[x])
            elif policy == "lfu":
                out = min(held, key=lambda x: (count[x], last[x]))
            else:
                out = max(held, key=lambda x: needed[x])
            held.remove(out)
        held.add(e)
        last[e] = t
        count[e] = count.get(e, 0) + 1
        needed[e] = following[t]
    return hits


def wanted_last(batches, at, layers, E):
    """When each expert will be wanted again, in tokens, as it looks behind batch `at`: turns until
    its layer, and then as many tokens as lie between its uses, by the mean of two shares of the
    layer's tokens that used it, in which a token counts half after 16 and after 128."""
    here = batches[at][0]
    steps = {}
    for layer, k in enumerate(layers):
        past = [set(used) for other, used in batches[:at + 1] if other == layer][::-1]
        ahead = (layer - here - 1) % len(layers) / len(layers)
        for e in range(layer * E, layer * E + E):
            share = 0
            for half_life in (16, 128):
                kept = 2 ** (-1 / half_life)
                share += sum((1 - kept) * kept ** age for age, used in enumerate(past) if e in used)
                share += kept ** len(past) * k / E
            steps[e] = ahead + 2 / share
    return steps


def simulate_fading(batches, size, wants):
    """Hits of a cache that knows all that a token wants of a layer, a batch (layer, experts)."""
    held, last, clock, hits = set(), {}, 0, []
    for at, (_, used) in enumerate(batches):
        hits += [e in held for e in used]
        for e in used:
            clock += 1
            last[e] = clock
        steps = wants[at]
        for e in used:
            if e not in held and len(held) == size:
                # In single precision, as far as it tells experts apart; then the older.
                held.remove(max((x for x in held if x not in used),
                                key=lambda x: (np.float32(steps[x]), -last[x])))
            held.add(e)
    return np.array(hits)


def cache_rows(trace, key, sequence, items, draw, rng, sizes):
    uses, group = sequence
    drawn = [draw(rng) for _ in range(8)]
    for number, policy in enumerate(("lru", "lfu", "optimum")):
        for size in sizes:
            keys = [key, number, size]
            hits = simulate(uses, policy, size)
            put(trace, "cache", keys, "hits", hits.mean())
            put(trace, "cache", keys, "random", size / items)
            put_span(trace, "cache", keys, ("low", "high"), hits.mean(),
                     [hits[group != g].mean() for g in range(trace.groups) if (group == g).any()])
            if size in sizes[::3]:
                put_level(trace, "cache", keys, "use",
                          [simulate(d, policy, size).mean() for d in drawn])


def fading_rows(trace, key, batches, group, sizes):
    chosen = [trace.chosen[trace.layers.index(key)]] if key >= 0 else trace.chosen
    wants = [wanted_last(batches, at, chosen, trace.E) for at in range(len(batches))]
    for size in sizes:
        hits = simulate_fading(batches, size, wants)
        put(trace, "cache", [key, 3, size], "hits", hits.mean())
        assert len(hits) == len(group)


def cache(trace, rng):
    of_token = trace.group[trace.document]
    for layer, number in enumerate(trace.layers):
        def flat(sets):
            return [e for s in sets for e in s]
        sets = trace.sets(layer)
        group = np.array([of_token[i] for i, s in enumerate(sets) for _ in s])
        cache_rows(trace, number, (flat(sets), group), trace.E,
                   lambda rng, layer=layer: flat(trace.sets(layer, trace.shuffled(layer, rng))),
                   rng, list(range(1, trace.E + 1)))
        fading_rows(trace, number, [(0, s) for s in sets if s], group,
                    list(range(trace.chosen[layer], trace.E + 1)))

    def all_layers(of):
        return [layer * trace.E + e for i in range(len(trace.document))
                for layer in range(len(trace.layers)) for e in of[layer][i]]

    sets = [trace.sets(layer) for layer in range(len(trace.layers))]
    group = np.array([of_token[i] for i in range(len(trace.document))
                      for layer in range(len(trace.layers)) for _ in sets[layer][i]])
    items = trace.E * len(trace.layers)
    cache_rows(trace, -1, (all_layers(sets), group), items,
               lambda rng: all_layers([trace.sets(layer, trace.shuffled(layer, rng))
                                       for layer in range(len(trace.layers))]),
               rng, [1, 2, 5, 9, 13, items])
    fading_rows(trace, -1, [(layer, [layer * trace.E + e for e in sets[layer][i]])
                            for i in range(len(trace.document))
                            for layer in range(len(trace.layers)) if sets[layer][i]],
                group, [s for s in (5, 9, 13, items) if s >= trace.k])


# ---- segments


def windows(trace, sets, length):
    """Uses [windows, E] of all stretches of `length` tokens inside documents; their documents."""
    rows, documents = [], []
    for d, at in enumerate(trace.docs):
        one = np.zeros((len(at), trace.E), int)
        for j, i in enumerate(at):
            one[j, sets[i]] += 1
        for j in range(len(at) - length + 1):
            rows.append(one[j:j + length].sum(0))
            documents.append(d)
    return np.array(rows).reshape(-1, trace.E), np.array(documents, int)


def segment_values(rows, length, k):
    best = 0
    for least in range(1, length + 1):
        taken = rows >= least
        f1 = 2 * rows[taken].sum() / (length * taken.sum() + rows.sum())
        best = max(best, f1)
    ordered = np.sort(rows, axis=1)[:, ::-1]
    return {"srp": best, "sch1": ordered[:, :k].sum() / rows.sum(),
            "sch2": ordered[:, :2 * k].sum() / rows.sum()}


def segments(trace, rng):
    for layer, number in enumerate(trace.layers):
        k = trace.chosen[layer]
        for length in (4, 8, 16, 32):
            rows, document = windows(trace, trace.sets(layer), length)
            if len(rows) == 0:
                continue
            keys = [number, length]
            group = trace.group[document]
            whole = segment_values(rows, length, k)
            without = [segment_values(rows[group != g], length, k) for g in range(trace.groups)
                       if (group == g).any() and (group != g).any()]
            put(trace, "segments", keys, "segments", len(rows))
            drawn = {
                "random": [segment_values(windows(trace, trace.uniform(layer, rng), length)[0],
                                          length, k) for _ in range(20)],
                "use": [segment_values(
                    windows(trace, trace.sets(layer, trace.shuffled(layer, rng)), length)[0],
                    length, k) for _ in range(20)]}
            for name, value in whole.items():
                put(trace, "segments", keys, name, value)
                put_span(trace, "segments", keys, (name + "_low", name + "_high"), value,
                         [w[name] for w in without])
                for level, values in drawn.items():
                    put_level(trace, "segments", keys, f"{name}_{level}",
                              [v[name] for v in values])


def main():
    rng = np.random.default_rng(13)
    for name in ("pairs", "triples", "holes"):
        trace = Trace(name)
        use(trace, rng)
        ranks(trace)
        reuse(trace)
        segments(trace, rng)
        if name != "triples":
            cache(trace, rng)
    with open(f"{OUT}/use.txt", "w") as f:
        f.write("# python3 tests/reference/atlas_use.py\n")
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
