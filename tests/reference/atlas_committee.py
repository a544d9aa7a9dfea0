"""Makes tests/fixtures/atlas/committee.txt: the measures of src/atlas/measures/{committee,signature,joint,routes}.c
of the three traces of tests/reference/atlas.py, written from the formulas of docs/measures with numpy alone.

Run from the repository root: python3 tests/reference/atlas_committee.py (needs numpy and safetensors).
Lines: measure, trace, key cells joined by ":", column, value, tolerance. Levels that come from random draws are
computed here from many more draws, and have a tolerance.
"""
import json
import math

import numpy as np
from safetensors import safe_open

FOLDER = "tests/fixtures/atlas"
NONE = 65535
GROUPS = 20


class Trace:
    def __init__(self, name):
        with safe_open(f"{FOLDER}/{name}.safetensors", "numpy") as file:
            meta = file.metadata()
            self.tokens = file.get_tensor("tokens")
            self.document = file.get_tensor("document")
            self.domain = file.get_tensor("domain").astype(int)
            self.experts = file.get_tensor("experts").astype(int)
            self.weights = file.get_tensor("weights").astype(float)
        self.name = name
        self.E = int(meta["experts"])
        self.k = int(meta["experts_per_token"])
        self.numbers = json.loads(meta["layers"])
        self.domains = len(json.loads(meta["domains"]))
        self.chosen = json.loads(meta.get("experts_per_layer", "null")) or [self.k] * len(self.numbers)
        self.documents = int(self.document[-1]) + 1
        self.domain_of = np.array([self.domain[self.document == d][0] for d in range(self.documents)])
        self.group = np.zeros(self.documents, int)
        turn = 0
        for d in range(self.domains):
            for i in np.flatnonzero(self.domain_of == d):
                self.group[i] = turn % GROUPS
                turn += 1
        self.groups = min(turn, GROUPS)


def t_quantile(freedom):
    """Student's t at 0.975 by integrating its density."""
    c = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(
        freedom * math.pi)
    low, high = 0.0, 100.0
    for _ in range(60):
        mid = (low + high) / 2
        x = np.linspace(0, mid, 20001)
        y = c * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        area = float(np.sum((y[1:] + y[:-1]) / 2) * (x[1] - x[0]))
        low, high = (mid, high) if area < 0.475 else (low, mid)
    return low


def jackknife(whole, without, least, most):
    without = np.array(without)
    n = len(without)
    if n < 2:
        return math.nan, math.nan
    reach = t_quantile(n - 1) * math.sqrt(((without - without.mean()) ** 2).sum() * (n - 1) / n)
    return max(whole - reach, least), min(whole + reach, most)


def onehot(rows, E):
    return (rows[:, :, None] == np.arange(E)).astype(float)


# -- committee ---------------------------------------------------------------------------------


def audit(values, k):
    """The published committee of values [domains, E]: members, coverage."""
    lists = []
    for row in values:
        order = [e for e in np.argsort(-row, kind="stable")[:k] if row[e] > 0]
        if order:
            lists.append((order, row[order]))
    D = len(lists)
    E = values.shape[1]
    ranks = np.full((D, E), k + 1)
    listed = np.zeros((D, E))
    for d, (order, value) in enumerate(lists):
        ranks[d, order] = np.arange(1, len(order) + 1)
        listed[d, order] = value
    presence = (ranks <= k).sum(0)
    mu, var = ranks.mean(0), ranks.var(0)
    candidates = np.flatnonzero(presence >= math.ceil(0.8 * D))
    if len(candidates) == 0:
        candidates = np.flatnonzero(presence == presence.max())
    def dominated(a):
        return any(mu[b] <= mu[a] + 1e-12 and var[b] <= var[a] + 1e-12 and
                   (mu[b] < mu[a] - 1e-12 or var[b] < var[a] - 1e-12) for b in candidates)
    members = [e for e in candidates if not dominated(e)]
    return members, listed[:, members].sum() / listed.sum(), (listed[:, members] > 0).sum() / (listed > 0).sum()


def leading(count, k):
    return [e for e in range(len(count))
            if count[e] > 0 and sum(count[o] >= count[e] for o in range(len(count)) if o != e) < k]


def standing(counts, k):
    sets = [set(leading(row, k)) for row in counts if row.sum() > 0]
    return set.intersection(*sets) if sets else set()


def crossfit(halves, k):
    """Share of the standing experts of each half in the other, and as many of E."""
    E = halves.shape[2]
    sets = [standing(h, k) for h in halves]
    n = [h.sum() for h in halves]
    taken = sum(halves[h].sum(0)[sorted(sets[1 - h])].sum() for h in (0, 1))
    return taken / sum(n), sum(n[h] * len(sets[1 - h]) / E for h in (0, 1)) / sum(n), sets


def committee(t, out):
    rng = np.random.default_rng(5)
    sums = {}
    for layer, number in enumerate(t.numbers):
        k = t.chosen[layer]
        hot = onehot(t.experts[layer], t.E)
        chosen = hot.sum(1)
        weight = (hot * t.weights[layer][:, :, None]).sum(1)
        of_domain = [t.domain == d for d in range(t.domains)]
        eci = np.array([weight[of].mean(0) for of in of_domain])
        members, coverage, alike = audit(eci, k)
        last = np.flatnonzero(np.append(t.document[1:] != t.document[:-1], True))
        code = []
        for d in range(t.domains):
            rows = last[t.domain[last] == d]
            w = weight[rows]
            scaled = (w - w.min(0)) / (w.max(0) - w.min(0) + 1e-6)
            code.append(scaled.mean(0) * chosen[rows].mean(0))
        code_members, code_coverage, _ = audit(np.array(code), k)
        halves = np.array([[chosen[(t.group[t.document] % 2 == h) & of].sum(0) for of in of_domain]
                           for h in (0, 1)])
        share, even, sets = crossfit(halves, k)
        whole = standing(halves.sum(0), k)
        draws, covers = [], []
        for _ in range(1000):
            names = [rng.permutation(t.E) for _ in range(t.domains)]
            draws.append(crossfit(np.array([[row[n] for row, n in zip(h, names)] for h in halves]), k)[0])
            covers.append(audit(np.array([row[n] for row, n in zip(eci, names)]), k)[1])
        by_group = np.array([chosen[t.group[t.document] == g].sum(0) for g in range(t.groups)])
        taken = np.array([by_group[g][sorted(sets[1 - g % 2])].sum() for g in range(t.groups)])
        total = by_group.sum(1)
        without = (taken.sum() - taken) / (total.sum() - total)
        elected = [audit(np.array([weight[(t.group[t.document] % 2 == h) & of].sum(0) / of.sum() for of in of_domain]),
                         k)[0] for h in (0, 1)]
        of_members = np.array([by_group[g][elected[1 - g % 2]].sum() for g in range(t.groups)])
        member_even = sum(by_group[g].sum() * len(elected[1 - g % 2]) / t.E for g in range(t.groups)) / total.sum()
        member_without = (of_members.sum() - of_members) / (total.sum() - total)
        load = by_group.sum(0)
        row = {
            "share": share, "random": even, "use": np.mean(draws),
            "low": None, "high": None, "standing": len(whole),
            "standing_random": t.E * (k / t.E) ** t.domains,
            "members": len(members), "coverage": coverage, "coverage_alike": alike,
            "coverage_use": np.mean(covers),
            "ratio": coverage / len(members) / ((1 - coverage) / (t.E - len(members)))
            if coverage < 1 - 1e-12 else math.nan,
            "code_members": len(code_members), "code_coverage": code_coverage,
            "member_share": of_members.sum() / total.sum(), "member_random": member_even,
            "active": (load > 0).mean(), "hottest": load.max() / load.mean(), "choices": load.sum(),
        }
        row["without"], row["member_without"] = without, member_without
        for key, value in row.items():
            if value is not None:
                sums.setdefault(key, []).append(value)
        say_committee(t, number, row, out)
    mean = {key: np.mean(values, 0) for key, values in sums.items()}
    mean["choices"] = np.sum(sums["choices"])
    say_committee(t, -1, mean, out)


def say_committee(t, number, row, out):
    row = dict(row)
    row["low"], row["high"] = jackknife(row["share"], row.pop("without"), 0, 1)
    if row["random"] == 0:  # no expert stands
        row["share"] = row["random"] = row["low"] = row["high"] = math.nan
    row["member_low"], row["member_high"] = jackknife(row["member_share"], row.pop("member_without"), 0, 1)
    for column, value in row.items():
        # of 200 draws: the standard deviation of a share or coverage is below 0.35
        tolerance = 0.1 if column in ("use", "coverage_use") else 5e-3 * abs(value) if column in (
            "low", "high", "member_low", "member_high") else 1e-9 * max(1, abs(value))
        out.append(f"committee {t.name} {number} {column} {value:.12g} {tolerance:.3g}")


# -- signatures --------------------------------------------------------------------------------


def separation(cos, same):
    pair = np.tril(np.ones_like(cos, bool), -1)
    return cos[pair & same], cos[pair & ~same]


def nearest(unit, domain):
    """Leave-one-out nearest centroid by cosine; unit [documents, layers * E]."""
    right = tried = 0
    for i in range(len(unit)):
        rest = np.arange(len(unit)) != i
        if not (domain[rest] == domain[i]).any():
            continue
        best = {}
        for d in sorted(set(domain[rest])):
            centroid = unit[rest & (domain == d)].sum(0)
            best[d] = unit[i] @ centroid / math.sqrt(centroid @ centroid)
        right += max(best, key=best.get) == domain[i]
        tried += 1
    return right, tried


def wilson(hits, trials):
    z = 1.959963984540054
    share = hits / trials
    centre = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return (centre - reach) / (1 + z * z / trials), (centre + reach) / (1 + z * z / trials)


def signatures(t, out):
    rng = np.random.default_rng(6)
    units, loads = [], []

    def use(chosen):
        count = np.array([chosen[t.document == d].sum(0) for d in range(t.documents)])
        return count / np.sqrt((count ** 2).sum(1, keepdims=True))

    for layer in list(range(len(t.numbers))) + [-1]:
        if layer >= 0:
            chosen = onehot(t.experts[layer], t.E).sum(1)
            unit = use(chosen)
            units.append(unit)
            load = 0
            for _ in range(200):
                moved = use(chosen[rng.permutation(len(chosen))])
                cos = moved @ moved.T
                load += cos[np.tril(np.ones_like(cos, bool), -1)].mean() / 200
            loads.append(load)
        else:
            unit, load = np.concatenate(units, 1) / math.sqrt(len(units)), np.mean(loads)
        cos = unit @ unit.T
        same = t.domain_of[:, None] == t.domain_of[None, :]
        within, between = separation(cos, same)
        without = []
        for g in range(t.groups):
            keep = t.group != g
            w, b = separation(cos[np.ix_(keep, keep)], same[np.ix_(keep, keep)])
            without.append(w.mean() - b.mean())
        right, tried = nearest(unit, t.domain_of)
        dealt = [nearest(unit, rng.permutation(t.domain_of)) for _ in range(200)]
        pooled = math.sqrt((within.var() * len(within) + between.var() * len(between)) /
                           (len(within) + len(between) - 2))
        value = within.mean() - between.mean()
        low, high = jackknife(value, without, -1, 1)
        alow, ahigh = wilson(right, tried)
        row = {"separation": (value, 1e-9), "random": (0, 0), "use": (0, 0.01),
               "low": (low, 1e-3), "high": (high, 1e-3), "effect": (value / pooled, 1e-9),
               "within": (within.mean(), 1e-9), "between": (between.mean(), 1e-9),
               "within_use": (load, 0.005), "between_use": (load, 0.005),
               "accuracy": (right / tried, 1e-9), "accuracy_random": (1 / t.domains, 1e-9),
               "accuracy_use": (np.mean([a / b for a, b in dealt]), 0.05),
               "accuracy_low": (alow, 1e-9), "accuracy_high": (ahigh, 1e-9),
               "documents": (t.documents, 0)}
        number = t.numbers[layer] if layer >= 0 else -1
        for column, (value, tolerance) in row.items():
            out.append(f"signatures {t.name} {number} {column} {value:.12g} {tolerance:.3g}")


# -- joint, persistence ------------------------------------------------------------------------

DRAWS = 60


def bits(label, rows, keep):
    """Mutual information of label [T] (-1: none) and all experts of rows [T, k], and the entropy of the experts."""
    label = np.where(keep & (label >= 0), label, -1)
    each = np.repeat(label[:, None], rows.shape[1], 1)
    there = (each >= 0) & (rows != NONE)
    a, e = each[there], rows[there]
    _, a = np.unique(a, return_inverse=True)
    table = np.bincount(a * 100 + e, minlength=(a.max() + 1) * 100).reshape(-1, 100) / len(a)
    def h(p):
        p = p[p > 0]
        return -(p * np.log2(p)).sum()
    return h(table.sum(0)) + h(table.sum(1)) - h(table.ravel()), h(table.sum(0)), len(a)


def runs_of(*keys):
    """Lists of the tokens that agree in all keys."""
    found = {}
    for i, key in enumerate(zip(*keys)):
        found.setdefault(key, []).append(i)
    return [np.array(v) for v in found.values()]


def within(runs, count, rng):
    place = np.arange(count)
    for run in runs:
        place[run] = rng.permutation(run)
    return place


def told(t, rows, make, rng):
    """make(draw, rng): labels and places of rows. Excess with its spread, and without each group."""
    groups = t.group[t.document]
    everyone = np.ones(len(groups), bool)
    label, _ = make(0, rng)
    seen, entropy, count = bits(label, rows, everyone)
    less = np.array([bits(label, rows, groups != g)[0] for g in range(t.groups)])
    draws = []
    for draw in range(1, DRAWS + 1):
        label, place = make(draw, rng)
        draws.append(bits(label, rows[place], everyone)[0])
        less = less - np.array([bits(label, rows[place], groups != g)[0] for g in range(t.groups)]) / DRAWS
    return {"bits": seen, "entropy": entropy, "choices": count, "shuffled": np.mean(draws),
            "spread": np.std(draws, ddof=1), "less": less, "excess": seen - np.mean(draws)}


def classes(t):
    """As src/atlas/token_class.c tells the fixtures' vocabulary, by docs/atlas.md."""
    names = ["continuation", "words", "newline", "bytes", "bytes", "continuation", "other", "space", "keywords", "mixed",
             "digits", "punctuation"]
    return np.array([sorted(set(names)).index(names[i]) for i in t.tokens])


def joint(t, out):
    rng = np.random.default_rng(8)
    T = len(t.tokens)
    begins = np.append(True, t.document[1:] != t.document[:-1])
    previous = np.where(begins, -1, np.roll(t.tokens, 1)).astype(int)
    start = np.flatnonzero(begins)[t.document]
    position = np.floor(np.log2(np.arange(T) - start + 1)).astype(int)
    in_document = runs_of(t.document)
    of_token = runs_of(t.document, t.tokens)
    def dealt(draw, rng):
        return (rng.permutation(t.domain_of) if draw else t.domain_of)[t.document]
    def rows_in(label, runs):
        return lambda draw, rng: (label, within(runs, T, rng) if draw else np.arange(T))
    makers = {
        0: lambda draw, rng: (dealt(draw, rng), np.arange(T)),
        1: rows_in(classes(t), in_document), 2: rows_in(t.tokens.astype(int), in_document),
        3: rows_in(previous, in_document), 4: rows_in(position, in_document),
        5: lambda draw, rng: (t.tokens * 1000 + dealt(draw, rng), np.arange(T)),
        6: rows_in(np.where(previous < 0, -1, t.tokens * 1000 + previous), of_token),
    }
    movable = sum(len(r) for r in of_token if len(r) > 1) / T
    made = {7: {0: 1, 2: 1}, 8: {2: 1}, 9: {0: 1, 5: -1}, 10: {2: 1, 6: 1}, 11: {2: 1, 3: -1, 6: 1}, 12: {3: 1, 6: -1}}
    layers = []
    for layer in range(len(t.numbers)):
        layers.append({key: told(t, t.experts[layer], make, rng) for key, make in makers.items()})
    layers.append({key: {what: (np.sum if what == "choices" else np.mean)([row[key][what] for row in layers], 0)
                         for what in layers[0][key]} for key in makers})
    for number, rows in zip(t.numbers + [-1], layers):
        for key in makers:
            say_told("joint", t, f"{number}:{key}", rows[key], out, movable if key == 6 else 1)
        for key, signs in made.items():
            row = {"excess": sum(s * rows[i]["excess"] for i, s in signs.items()),
                   "less": sum(s * rows[i]["less"] for i, s in signs.items()),
                   "spread": math.sqrt(sum(rows[i]["spread"] ** 2 for i in signs)),
                   "entropy": rows[2]["entropy"], "choices": rows[2]["choices"]}
            say_told("joint", t, f"{number}:{key}", row, out, movable if 6 in signs else 1)


def say_told(measure, t, key, row, out, movable=1):
    error = 6 * row["spread"] * math.sqrt(1 / DRAWS + 1 / 200) + 1e-9
    groups, drawn = len(row["less"]), row["spread"] ** 2
    moved = ((row["less"] - row["less"].mean()) ** 2).sum() * (groups - 1) / groups
    # what is quadratic in the excess (all of it where nothing is told) the jackknife takes twice
    reach = t_quantile(groups - 1) * math.sqrt(max(moved - drawn, drawn) + drawn / 200)
    low, high = row["excess"] - reach, row["excess"] + reach
    lines = [("excess", row["excess"], error), ("entropy", row["entropy"], 1e-9), ("choices", row["choices"], 0),
             ("low", low, error + 0.1 * (high - low)), ("high", high, error + 0.1 * (high - low)),
             ("part", row["excess"] / row["entropy"], error / row["entropy"]), ("movable", movable, 1e-9)]
    if "bits" in row:
        lines += [("bits", row["bits"], 1e-9), ("shuffled", row["shuffled"], error)]
    for column, value, tolerance in lines:
        out.append(f"{measure} {t.name} {key} {column} {value:.12g} {tolerance:.3g}")


def persistence(t, out):
    rng = np.random.default_rng(9)
    T = len(t.tokens)
    runs = runs_of(t.document)
    sums = [[], []]
    for layer in range(1, len(t.numbers)):
        before = t.experts[layer - 1][:, 0]
        label = np.where(before == NONE, -1, before)
        make = lambda draw, rng: (label, within(runs, T, rng) if draw else np.arange(T))
        for which, rows in enumerate((t.experts[layer][:, :1], t.experts[layer])):
            row = told(t, rows, make, rng)
            sums[which].append(row)
            say_told("persistence", t, f"{t.numbers[layer]}:{13 + which}", row, out)
    for which in (0, 1):
        mean = {what: (np.sum if what == "choices" else np.mean)([row[what] for row in sums[which]], 0)
                for what in sums[which][0]}
        say_told("persistence", t, f"-1:{13 + which}", mean, out)


def routes(t, out):
    rng = np.random.default_rng(10)
    T = len(t.tokens)
    runs = runs_of(t.document)
    group = t.group[t.document]
    for layer in range(len(t.numbers) - 2):
        first = t.experts[layer:layer + 3, :, 0]
        def paths(places):
            found = np.array([first[i][places[i]] for i in range(3)])
            return np.where((found == NONE).any(0), -1, found[0] * 10000 + found[1] * 100 + found[2])
        seen = paths([np.arange(T)] * 3)
        value, count = np.unique(seen[(group % 2 == 0) & (seen >= 0)], return_counts=True)
        best = sorted(zip(-count, value))[:16]
        counted = (group % 2 == 1) & (seen >= 0)
        draws = []
        for _ in range(300):
            moved = paths([np.arange(T), within(runs, T, rng), within(runs, T, rng)])[group % 2 == 1]
            draws.append([(moved == path).sum() / counted.sum() for _, path in best])
        draws = np.array(draws)
        for i, (_, path) in enumerate(best):
            share = (seen[counted] == path).mean()
            without = [(seen[counted & (group != g)] == path).mean() for g in range(1, t.groups, 2)]
            low, high = jackknife(share, without, 0, 1)
            key = f"{t.numbers[layer]}:{path // 10000}:{path // 100 % 100}:{path % 100}"
            error = 6 * draws[:, i].std() * math.sqrt(1 / 300 + 1 / 200) + 1e-9
            for column, value, tolerance in (("share", share, 1e-9), ("random", t.E ** -3.0, 1e-9),
                                             ("use", draws[:, i].mean(), error), ("low", low, 1e-3 * high),
                                             ("high", high, 1e-3 * high), ("tokens", counted.sum(), 0)):
                out.append(f"routes {t.name} {key} {column} {value:.12g} {tolerance:.3g}")


def main():
    out = ["# made by tests/reference/atlas_committee.py"]
    for name in ("pairs", "triples", "holes"):
        trace = Trace(name)
        committee(trace, out)
        signatures(trace, out)
        joint(trace, out)
        persistence(trace, out)
        routes(trace, out)
    with open(f"{FOLDER}/committee.txt", "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
