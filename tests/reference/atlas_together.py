"""Which experts go together and what they take, computed again with numpy from the formulas of
docs/measures/*.md, on the three traces of tests/reference/atlas.py.

From the repository root: python3 tests/reference/atlas_together.py > tests/fixtures/atlas/together.txt
(needs numpy, scipy and safetensors).

A line: measure, trace, number of keys, keys, then name and value~tolerance of each cell (without ~: as it is
printed). Levels that are
means over shuffles are computed from other draws here: their tolerance is five standard errors of the
difference of two means, of 400 draws here and of 100 there.
"""

import numpy as np
from safetensors import safe_open
from scipy import stats

DRAWS = 400
GROUPS = 20
NONE = 65535
CLASSES = ("space newline digits punctuation operators function keywords words names continuation "
           "mixed scripts bytes other").split()
# The vocabulary of tests/reference/atlas.py, told by hand from the table of docs/atlas.md.
CLASS_OF = dict(zip([b"a", b" b", b"\n", b"\xc3", b"\xa9", b"the", b"", b"\t", b" self", b"<b>", b"0", b"."],
                    "continuation words newline bytes bytes continuation other space keywords mixed digits "
                    "punctuation".split()))


class Trace:
    def __init__(self, name):
        self.name = name
        with safe_open(f"tests/fixtures/atlas/{name}.safetensors", "numpy") as file:
            for key in file.keys():
                setattr(self, key, file.get_tensor(key))
            meta = file.metadata()
        self.E = int(meta["experts"])
        self.numbers = eval(meta["layers"])
        raw, at = bytes(self.vocab_bytes), self.vocab_offsets
        words = [raw[at[i]:at[i + 1]] for i in range(len(at) - 1)]
        self.classes = np.array([CLASSES.index(CLASS_OF[words[t]]) for t in self.tokens])
        self.D = int(self.domain.max()) + 1
        documents = int(self.document[-1]) + 1
        self.group = np.arange(documents) % GROUPS  # documents lie domain by domain here
        self.groups = min(GROUPS, documents)
        self.group_of_token = self.group[self.document]
        start = np.searchsorted(self.document, self.document)
        self.position = np.floor(np.log2(np.arange(len(self.tokens)) - start + 1)).astype(int)

    def has(self, layer):
        """[T, E]: the token has the expert."""
        return (self.experts[layer][:, :, None] == np.arange(self.E)).any(1).astype(float)


def out(measure, trace, keys, **cells):
    parts = [measure, trace.name, str(len(keys))] + [str(k) for k in keys]
    for name, value in cells.items():
        value, tolerance = value if isinstance(value, tuple) else (value, None)
        parts.append(f"{name} {value:.9g}" + (f"~{tolerance:.2g}" if tolerance is not None else ""))
    print(" ".join(parts))


def jackknife_error(without):
    without = np.asarray(without)
    n = len(without)
    return np.sqrt((n - 1) / n * ((without - without.mean(0))**2).sum(0))


def wilson(hits, n):
    z = stats.norm.ppf(0.975)
    centre = (hits / n + z * z / 2 / n) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(hits / n * (1 - hits / n) / n + z * z / 4 / n / n)
    return centre - reach, centre + reach


def span(value, error, df, low=-np.inf, high=np.inf):
    reach = stats.t.ppf(0.975, df) * error
    tolerance = 1e-3 * reach + 1e-9
    return (max(value - reach, low), tolerance), (min(value + reach, high), tolerance)


def t_p(t, df):
    return 2 * stats.t.sf(abs(t), df)


def discover(p):
    """Benjamini and Hochberg."""
    p = np.array(p)
    order = np.argsort(p)
    q = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    result = np.empty_like(p)
    result[order] = np.minimum(q, 1)
    return result


# -- coactivation, togetherness -------------------------------------------------------------------


def pairs_of(has, keep):
    return has[keep].T @ has[keep] * (1 - np.eye(has.shape[1]))


def expected_pairs(t, has, keep):
    """Quasi-independence in each domain: a_i a_j off the diagonal, with the row sums of the counts, by
    iterative proportional fitting of the whole table."""
    total = np.zeros((t.E, t.E))
    for d in range(t.D):
        counts = pairs_of(has, keep & (t.domain == d))
        fit = 1 - np.eye(t.E)
        margin = counts.sum(1)
        for _ in range(20000):
            before = fit
            rows = fit.sum(1)
            fit = fit * np.where(rows > 0, margin / np.maximum(rows, 1e-300), 0)[:, None]
            columns = fit.sum(0)
            fit = fit * np.where(columns > 0, margin / np.maximum(columns, 1e-300), 0)[None, :]
            if np.abs(fit - before).max() < 1e-12:
                break
        total += fit
    return total


def coactivation(t):
    rows = []
    for layer in range(len(t.numbers)):
        has = t.has(layer)
        everything = np.ones(len(t.tokens), bool)
        keeps = [everything] + [t.group_of_token != g for g in range(t.groups)]
        counts = [pairs_of(has, keep) for keep in keeps]
        if counts[0].sum() == 0:
            out("togetherness", t, [t.numbers[layer]], pairs=0)
            continue
        fits = [expected_pairs(t, has, keep) for keep in keeps]
        by_domain = [(expected_pairs(t, has * (t.domain == d)[:, None], everything), pairs_of(has, t.domain == d))
                     for d in np.unique(t.domain)]
        size = has.sum(1)
        upper = np.triu_indices(t.E, 1)
        moved = [np.abs(c - f)[upper].sum() / 2 / c[upper].sum() for c, f in zip(counts, fits)]
        picks = t.group_of_token % 2 == 0  # one half of the documents; the other is counted
        picked = (pairs_of(has, picks) - np.eye(t.E)).argmax(1)

        def partner(keep):
            """Of each expert's tokens those with its picked partner, and what is expected."""
            n, mine = has[keep & ~picks].sum(0), np.arange(t.E)
            both = pairs_of(has, keep & ~picks), expected_pairs(t, has, keep & ~picks)
            return [(of[mine, picked][n > 0] / n[n > 0]).mean() for of in both]

        partner_share, partner_use = partner(everything)
        beyond = [np.subtract(*partner(keep)) for keep in keeps[2::2]]
        low, high = span(moved[0], jackknife_error(moved[1:]), t.groups - 1, 0, 1)
        plow, phigh = span(partner_share, jackknife_error(beyond), len(beyond) - 1, 0, 1)
        n = has.sum(0)
        out("togetherness", t, [t.numbers[layer]], moved=(moved[0], 1e-8), moved_low=low, moved_high=high,
            partner=partner_share, partner_use=(partner_use, 1e-8), partner_low=plow, partner_high=phigh,
            partner_random=(has * (size[:, None] - 1)).sum() / n.sum() / (t.E - 1),
            pairs=counts[0][upper].sum())
        for i, j in zip(*upper):
            lifts = [c[i, j] / f[i, j] for c, f in zip(counts[1:], fits[1:])]
            e = fits[0][i, j]
            error = jackknife_error(lifts)
            if min(e, counts[0][i, j]) < 100:  # at least what drawing tokens gives, by the normal distribution
                drawn = sum(m[i, j] * max(1 - m[i, j] / c[i].sum() - m[i, j] / c[j].sum(), 0)
                            for m, c in by_domain if m[i, j] > 0)
                error = max(error, np.sqrt(drawn) / e * 1.959964 / stats.t.ppf(0.975, t.groups - 1))
            lift = counts[0][i, j] / e
            cells = {}
            low, high = span(lift, error, t.groups - 1, 0)
            for name, a in (("given", i), ("back", j)):
                use = e / n[a]
                cells[name] = counts[0][i, j] / n[a]
                cells[name + "_use"] = (use, 1e-7)
                cells[name + "_random"] = (has[:, a] * (size - 1)).sum() / n[a] / (t.E - 1)
                cells[name + "_low"], cells[name + "_high"] = span(cells[name], error * use, t.groups - 1, 0, 1)
            rows.append(((t.numbers[layer], i, j), t_p((lift - 1) / error, t.groups - 1),
                         cells | dict(lift=(lift, 1e-7), lift_low=low, lift_high=high,
                                      log2_lift=(np.log2(lift), 1e-7), tokens=counts[0][i, j])))
    for (keys, p, cells), q in zip(rows, discover([r[1] for r in rows])):
        if keys[0] == t.numbers[0] or t.name == "holes":
            out("coactivation", t, keys, p=(p, 4e-3 * p + 1e-9), q=(q, 4e-3 * q + 1e-9), **cells)


# -- domains, classes, positions ------------------------------------------------------------------


def share_estimate(hits, tokens, floor):
    """Share, variance and degrees of freedom from groups that have tokens."""
    used = tokens > 0
    without = (hits.sum() - hits[used]) / (tokens.sum() - tokens[used])
    return hits.sum() / tokens.sum(), max(jackknife_error(without)**2, floor), used.sum() - 1


def profile(t, measure, category, key):
    rows = []
    for layer in range(len(t.numbers)):
        has = t.has(layer)
        documents = np.unique(t.document)
        for e in range(t.E):
            for c in np.unique(category):
                here = category == c
                by_group = lambda x: np.bincount(t.group_of_token, x, t.groups)
                hits, tokens = by_group(has[:, e] * here), by_group(here * 1.0)
                level = np.zeros(t.groups)
                for d in documents:
                    inside = t.document == d
                    level[t.group[d]] += (here & inside).sum() * has[inside, e].mean()
                share, n = hits.sum() / tokens.sum(), tokens.sum()
                if measure == "domains":
                    use = has[:, e].mean()
                    floor = use * (1 - use) / n if min(use * n, hits.sum()) < 100 else 0
                    _, v, f = share_estimate(hits, tokens, floor)
                    other = by_group(1.0 * ~here)
                    rest, w, g = share_estimate(by_group(has[:, e] * ~here), other, 0)
                    p = t_p((share - rest) / np.sqrt(v + w), (v + w)**2 / (v * v / f + w * w / g))
                    low, high = span(share, np.sqrt(v), f, 0, 1)
                    bounds = [(b / use, tolerance / use) for b, tolerance in (low, high)]
                else:
                    use = level.sum() / n
                    used = tokens > 0
                    df = used.sum() - 1
                    lifts = [(hits.sum() - hits[g]) / (level.sum() - level[g]) for g in np.flatnonzero(used)]
                    shares = [(hits.sum() - hits[g]) / (n - tokens[g]) for g in np.flatnonzero(used)]
                    error = jackknife_error(lifts)
                    if min(level.sum(), hits.sum()) < 100:
                        error = max(error, np.sqrt((1 - use) / level.sum()) * 1.959964 / stats.t.ppf(0.975, df))
                    p = t_p((share / use - 1) / error, df)
                    low, high = span(share, jackknife_error(shares), df, 0, 1)
                    bounds = span(share / use, error, df, 0)
                rows.append(((t.numbers[layer], e, key(c)), p, dict(
                    share=share, share_random=has[here].sum() / n / t.E, share_use=use, share_low=low,
                    share_high=high, part=hits.sum() / has[:, e].sum(), part_random=here.mean(),
                    lift=share / use, lift_low=bounds[0], lift_high=bounds[1],
                    h=2 * np.arcsin(np.sqrt(share)) - 2 * np.arcsin(np.sqrt(use)), tokens=hits.sum(), of=n)))
    for (keys, p, cells), q in zip(rows, discover([r[1] for r in rows])):
        if keys[0] == t.numbers[1] and (measure == "domains" or t.name != "triples"):
            out(measure, t, keys, p=(p, 4e-3 * p + 1e-9), q=(q, 4e-3 * q + 1e-9), **cells)


# -- vocabulary, tokens ---------------------------------------------------------------------------


def shuffled(t, rng):
    """Places of tokens within their documents."""
    place = np.arange(len(t.tokens))
    for d in range(t.document[-1] + 1):
        inside = np.flatnonzero(t.document == d)
        place[inside] = rng.permutation(inside)
    return place


def id_share(has, ids, keep):
    shares, kept, counted = [], [], 0
    any_expert = has.sum(1) > 0
    for x in np.unique(ids[ids >= 0]):
        mine = (ids == x) & any_expert
        if mine.sum() >= 10:
            counted += mine.sum()
            kept.append(has[mine].sum())
            if (mine & keep).any():
                shares.append(has[mine & keep].sum(0).max() / (mine & keep).sum())
    return np.mean(shares), len(kept), counted, np.sum(kept)


def vocabulary(t, rng):
    following = np.append(t.tokens[1:], -1).astype(int)
    following[np.append(t.document[1:] != t.document[:-1], True)] = -1
    for layer in range(len(t.numbers)):
        has = t.has(layer)
        everything = np.ones(len(t.tokens), bool)
        for kind, ids in ((0, t.tokens.astype(int)), (1, following)):
            share, ids_counted, tokens, choices = id_share(has, ids, everything)
            without = [id_share(has, ids, t.group_of_token != g)[0] for g in range(t.groups)]
            draws = [id_share(has[shuffled(t, rng)], ids, everything)[0] for _ in range(DRAWS)]
            low, high = span(share, jackknife_error(without), t.groups - 1, 0, 1)
            out("vocabulary", t, [t.numbers[layer], kind], share=share, low=low, high=high,
                random=choices / tokens / t.E, ids=ids_counted, tokens=tokens,
                use=(np.mean(draws), 5 * np.std(draws) * np.sqrt(1 / DRAWS + 1 / 100)))
        size = has.sum(1) > 0
        for e in range(t.E):
            half, found = t.group_of_token % 2, []
            picks, counts = size & (half == 0), size & (half == 1)
            base, use = has[picks, e].mean(), has[counts, e].mean()
            for x in range(12):
                n, other = (picks & (t.tokens == x)), (counts & (t.tokens == x))
                if min(n.sum(), other.sum()) >= 10 and has[n, e].mean() > base:
                    found.append((-wilson(has[n, e].sum(), n.sum())[0], x, other))
            for _, x, other in sorted(found, key=lambda f: f[:2])[:5]:
                low, high = wilson(has[other, e].sum(), other.sum())
                share = has[other, e].mean()
                out("tokens", t, [t.numbers[layer], e, x], share=share, use=use, low=low, high=high,
                    random=has[counts].sum() / counts.sum() / t.E, lift=share / use, tokens=other.sum())


# -- divergence, languages, reliability -----------------------------------------------------------


def js(p, q):
    h = lambda x: -(x[x > 0] * np.log2(x[x > 0])).sum()
    return h((p + q) / 2) - (h(p) + h(q)) / 2


def divergence(t, rng):
    for layer in range(len(t.numbers)):
        has = t.has(layer)
        for of, cell in ((0, t.tokens.astype(int)), (1, t.classes)):
            table = np.eye(14)[cell]

            def all_pairs(rows, keep=slice(None)):
                counts = rows[keep].T @ table[keep]
                part = counts / counts.sum(1, keepdims=True)
                return np.array([js(part[i], part[j]) for i in range(t.E) for j in range(i + 1, t.E)])

            value = all_pairs(has)
            without = np.array([all_pairs(has, t.group_of_token != g) for g in range(t.groups)])
            draws = np.array([all_pairs(has[shuffled(t, rng)]) for _ in range(DRAWS)])
            low, high = span(value.mean(), jackknife_error(without.mean(1)), t.groups - 1, 0, 1)
            spread = 5 * draws.mean(1).std() * np.sqrt(1 / DRAWS + 1 / 100)
            out("divergence", t, [t.numbers[layer], of, -1, -1], divergence=value.mean(), low=low, high=high,
                use=(draws.mean(), spread), tokens=len(value))
            error = jackknife_error(without)
            at = 0
            for i in range(t.E):
                for j in range(i + 1, t.E):
                    low, high = span(value[at], error[at], t.groups - 1, 0, 1)
                    low, high = (low[0], low[1] + 1e-5), (high[0], high[1] + 1e-5)
                    if layer == 0:
                        out("divergence", t, [t.numbers[layer], of, i, j], divergence=(value[at], 1e-6),
                            low=low, high=high,
                            use=(draws[:, at].mean(), 5 * draws[:, at].std() * np.sqrt(1 / DRAWS + 1 / 100)),
                            tokens=min(has[:, i].sum(), has[:, j].sum()))
                    at += 1


def languages(t, rng):
    documents = int(t.document[-1]) + 1
    domain = np.array([t.domain[t.document == d][0] for d in range(documents)])
    for layer in range(len(t.numbers)):
        rows, weights = t.experts[layer], t.weights[layer].astype(float)
        p = np.zeros((len(t.tokens), t.E))
        for c in range(rows.shape[1]):
            made = rows[:, c] != NONE
            p[np.flatnonzero(made), rows[made, c]] += weights[made, c]
        total = p.sum(1)
        q = np.array([(p[(t.document == d) & (total > 0)] / total[(t.document == d) & (total > 0), None]).mean(0)
                      for d in range(documents)])

        def d_hjs(a, b):
            a, b = a.mean(0), b.mean(0)
            h = lambda x: -(x[x > 0] * np.log(x[x > 0])).sum()
            return js(a, b) * np.log(2) / (np.log(t.E) - (h(a) + h(b)) / 2), js(a, b)

        for x in range(t.D):
            for y in range(x + 1, t.D):
                value, plain = d_hjs(q[domain == x], q[domain == y])
                both = np.isin(domain, (x, y))
                groups = np.unique(t.group[both])
                without = [d_hjs(q[(domain == x) & (t.group != g)], q[(domain == y) & (t.group != g)])[0]
                           for g in range(t.groups)]
                draws = []
                for _ in range(DRAWS):
                    order = rng.permutation(np.flatnonzero(both))
                    cut = (domain == x).sum()
                    draws.append(d_hjs(q[order[:cut]], q[order[cut:]])[0])
                low, high = span(value, jackknife_error(without), t.groups - 1, 0)
                out("languages", t, [t.numbers[layer], x, y], divergence=value, plain=plain, low=low, high=high,
                    use=(np.mean(draws), 5 * np.std(draws) * np.sqrt(1 / DRAWS + 1 / 100)), documents=both.sum())


def reliability(t, rng):
    for which, (name, category) in enumerate((("domains", t.domain.astype(int)), ("classes", t.classes))):
        for layer in range(len(t.numbers)):
            has = t.has(layer)
            level = np.array([has[t.document == d].mean(0) for d in range(t.document[-1] + 1)])[t.document]
            categories = np.unique(category)

            def deviations(keep):
                if which == 0:
                    return np.array([has[keep & (category == c)].mean(0) - has[keep].mean(0) for c in categories])
                return np.array([(has - level)[keep & (category == c)].mean(0) for c in categories])

            weight = np.array([np.full(t.E, (category == c).sum()) for c in categories]).ravel()

            def halves():
                order = rng.permutation(t.groups)
                side = np.empty(t.groups, int)
                side[order] = np.arange(t.groups) % 2
                a, b = (deviations(side[t.group_of_token] == s).ravel() for s in (0, 1))
                return np.cov(a, b, aweights=weight)[0, 1] / np.sqrt(
                    np.cov(a, aweights=weight) * np.cov(b, aweights=weight))

            draws = [halves() for _ in range(DRAWS)]
            out("reliability", t, [t.numbers[layer], which],
                halves=(np.mean(draws), 5 * np.std(draws) * np.sqrt(1 / DRAWS + 1 / 100)), cells=len(weight), random=0)


def main():
    rng = np.random.default_rng(13)
    print("# python3 tests/reference/atlas_together.py > tests/fixtures/atlas/together.txt")
    for name in ("pairs", "triples", "holes"):
        t = Trace(name)
        coactivation(t)
        profile(t, "domains", t.domain.astype(int), int)
        profile(t, "classes", t.classes, int)
        profile(t, "positions", t.position, lambda c: 2**int(c) - 1)
        vocabulary(t, rng)
        divergence(t, rng)
        languages(t, rng)
        reliability(t, rng)


main()
