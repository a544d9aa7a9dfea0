"""Makes tests/fixtures/atlas/*: three small trace files, written by the safetensors package, and the
atlas' measures of them, computed with numpy alone. In the third, "holes", layers choose different
numbers of experts and a fifth of the choices was dropped.

Run from the repository root: python3 tests/reference/atlas.py (needs numpy and safetensors). The
package writes the metadata in any order, so a trace made again may differ in that.
"""
import json
import math
import os

import numpy as np
from safetensors.numpy import save_file

OUT = "tests/fixtures/atlas"
NONE = 65535  # no expert at this place


def make(seed, layers, experts, k, domains, documents, stay, chosen):
    rng = np.random.default_rng(seed)
    tokens, document, domain = [], [], []
    for d in range(domains * documents):
        n = int(rng.integers(8, 40))
        tokens += list(rng.integers(0, 12, n))
        document += [d] * n
        domain += [d // documents] * n
    total = len(tokens)
    ids = np.zeros((layers, total, k), np.uint16)
    weights = np.zeros((layers, total, k), np.float16)
    for layer in range(layers):
        base = rng.dirichlet(np.full(experts, 4.0))
        tilt = rng.dirichlet(np.full(experts, 2.0), size=domains)
        for i in range(total):
            same = i > 0 and document[i] == document[i - 1]
            if same and rng.random() < stay[layer]:
                ids[layer, i] = ids[layer, i - 1]
            else:
                p = base if domain[i] == 0 else 0.5 * base + 0.5 * tilt[domain[i]]
                ids[layer, i] = rng.choice(experts, size=k, replace=False, p=p)
            w = np.sort(rng.dirichlet(np.ones(k)))[::-1]
            weights[layer, i] = w
    if chosen:
        holes = np.random.default_rng(seed + 100)
        for layer in range(layers):
            none = holes.random((total, k)) < 0.2
            none[:, chosen[layer]:] = True
            ids[layer][none] = NONE
            weights[layer][none] = 0
    vocab = [b"a", b" b", b"\n", b"\xc3", b"\xa9", b"the", b"", b"\t", b" self", b"<b>", b"0", b"."]
    return {
        "tokens": np.array(tokens, np.int32),
        "document": np.array(document, np.int32),
        "domain": np.array(domain, np.uint16),
        "experts": ids,
        "weights": weights,
        "vocab_bytes": np.frombuffer(b"".join(vocab), np.uint8),
        "vocab_offsets": np.cumsum([0] + [len(v) for v in vocab]).astype(np.int64),
    }


def metadata(name, layers, experts, k, domains, chosen):
    return ({"experts_per_layer": json.dumps(chosen)} if chosen else {}) | {
        "format": "mixt-trace",
        "version": "2" if chosen else "1",
        "model": name,
        "model_hash": "ab" * 32,
        "corpus_hash": "cd" * 32,
        "tokenizer_hash": "ef" * 32,
        "experts": str(experts),
        "experts_per_token": str(k),
        "layers": json.dumps([2 * i + 1 for i in range(layers)]),
        "domains": json.dumps(["code", "m\u00e4thematics", "prose"][:domains], ensure_ascii=False),
    }


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


def interval(hits, pairs, strata, rng):
    """Expanded percentile bootstrap over documents, ratio of sums, within each domain."""
    units = sum(int((pairs[s] > 0).sum()) - 1 for s in strata) + 1
    top = np.zeros(20000)
    bottom = np.zeros(20000)
    for s in strata:
        s = s[pairs[s] > 0]
        draws = rng.integers(0, len(s), (20000, len(s)))
        top += hits[s][draws].sum(1)
        bottom += pairs[s][draws].sum(1)
    reach = math.sqrt(units / (units - 1)) * t_quantile(units - 1)
    tail = 0.5 * math.erfc(reach / math.sqrt(2))
    return np.quantile(top / bottom, [tail, 1 - tail])


def usage(rows):
    """Chance that two different tokens agree in the first choice, and that their sets meet: of the
    tokens that have a first choice, and of those that have an expert."""
    experts = np.arange(int(rows[rows != NONE].max()) + 1)
    has = (rows[:, :, None] == experts).any(1).astype(float)
    levels = []
    for agree, counted in ((rows[:, 0][:, None] == rows[:, 0][None, :], rows[:, 0] != NONE),
                           (has @ has.T > 0, has.any(1))):
        agree = agree[np.ix_(counted, counted)]
        levels.append(agree[~np.eye(len(agree), dtype=bool)].mean())
    return levels


def set_of(row):
    return set(row) - {NONE}


def chance(experts, a, b):
    """That uniform sets of a and b experts meet."""
    return 1 - math.comb(experts - a, b) / math.comb(experts, b)


def wilson_low(hits, trials):
    z = 1.959963984540054
    share = hits / trials
    centre = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return (centre - reach) / (1 + z * z / trials)


def top_tokens(rows, tokens, experts):
    """Three tokens of each expert: those with a first choice at least ten times, of which it has
    more than 1/E, the surest first."""
    made = rows[:, 0] != NONE
    for expert in range(experts):
        found = []
        for token in range(12):
            seen = int((made & (tokens == token)).sum())
            taken = int(((rows[:, 0] == expert) & (tokens == token)).sum())
            if seen >= 10 and taken * experts > seen:
                found.append((-wilson_low(taken, seen), token, seen, taken / seen))
        for place, (_, token, seen, share) in enumerate(sorted(found)[:3]):
            yield f"{expert} {place} {token} {seen} {share:.12f}"


def measure(name, trace, experts, k, domains, chosen, out):
    layers = trace["experts"].shape[0]
    document, domain = trace["document"], trace["domain"]
    documents = int(document[-1]) + 1
    domain_of = np.array([domain[document == d][0] for d in range(documents)])
    inside = document[1:] == document[:-1]
    rng = np.random.default_rng(99)
    for layer in range(layers):
        rows = trace["experts"][layer].astype(np.int64)
        made = rows[:, 0] != NONE
        size = np.array([len(set_of(row)) for row in rows])
        first = rows[1:, 0] == rows[:-1, 0]
        sets = np.array([len(set_of(a) & set_of(b)) > 0 for a, b in zip(rows[:-1], rows[1:])])
        meets = np.array([chance(experts, a, b) for a, b in zip(size[:-1], size[1:])])
        levels = [usage(rows[domain == d]) for d in range(domains)]
        for which, (met, counts) in enumerate(((first, made), (sets, size > 0))):
            counted = inside & counts[1:] & counts[:-1]
            of_pair = document[:-1][counted]
            pairs = np.bincount(of_pair, minlength=documents).astype(float)
            hits = np.bincount(of_pair, weights=met[counted], minlength=documents)
            weight = [pairs[domain_of == d].sum() for d in range(domains)]
            for d in list(range(domains)) + [-1]:
                strata = [np.flatnonzero(domain_of == e) for e in range(domains) if d in (e, -1)]
                units = np.concatenate(strata)
                low, high = interval(hits, pairs, strata, rng)
                level = levels[d][which] if d >= 0 else np.average([v[which] for v in levels],
                                                                   weights=weight)
                out.append(f"repetition {name} {layer} {d} {which} "
                           f"{hits[units].sum() / pairs[units].sum():.12f} {low:.6f} {high:.6f} "
                           f"{int(pairs[units].sum())} {level:.12f}")
                if chosen:
                    here = counted & ((domain[:-1] == d) | (d < 0))
                    random = meets[here].mean() if which else 1 / experts
                    out.append(f"random {name} {layer} {d} {which} {random:.12f}")
        means = []
        for d in list(range(domains)) + [-1]:
            use = rows if d < 0 else rows[domain == d]
            for choice in (-1, 0, k - 1):
                flat = use.reshape(-1) if choice < 0 else use[:, choice]
                flat = flat[flat != NONE]
                share = np.bincount(flat, minlength=experts) / max(len(flat), 1)
                out.append(f"proportions {name} {layer} {d} {choice} " +
                           " ".join(f"{s:.12f}" for s in share))
                if choice < 0 and d >= 0:
                    means.append(share)
        load = np.bincount(rows[rows != NONE], minlength=experts).astype(float)
        p = load / load.sum()
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        out.append(f"load {name} {layer} {load.max() / load.mean():.12f} {int((load == 0).sum())} "
                   f"{math.exp(entropy) / experts:.12f}")
        if chosen:
            out.append(f"dropped {name} {layer} {(rows[:, :chosen[layer]] == NONE).sum()}")
            out.extend(f"top {name} {layer} {line}"
                       for line in top_tokens(rows, trace["tokens"], experts))
        means = np.array(means)
        for d, v in enumerate(0.5 * np.abs(means - means.mean(0)).sum(1)):
            # The level: documents of each domain by coins into two halves, half the difference.
            noise = []
            for _ in range(2000):
                errors = []
                for e in range(domains):
                    ids = np.flatnonzero(domain_of == e)
                    coin = rng.random(len(ids)) < 0.5
                    if coin.all() or not coin.any():
                        coin[0] = not coin[0]
                    halves = [rows[np.isin(document, ids[c])] for c in (coin, ~coin)]
                    parts = [np.bincount(half[half != NONE], minlength=experts) for half in halves]
                    errors.append((parts[0] / parts[0].sum() - parts[1] / parts[1].sum()) / 2)
                errors = np.array(errors)
                noise.append(0.5 * np.abs(errors - errors.mean(0)).sum(1)[d])
            out.append(f"distance {name} {layer} {d} {v:.12f} {np.mean(noise):.6f} "
                       f"{np.quantile(noise, 0.95):.6f}")


def main():
    os.makedirs(OUT, exist_ok=True)
    out = []
    for name, seed, layers, experts, k, domains, documents, stay, chosen in (
            ("pairs", 1, 3, 6, 2, 3, 10, (0.0, 0.3, 0.15), None),
            ("triples", 2, 2, 10, 3, 2, 12, (0.1, 0.4), None),
            ("holes", 3, 3, 7, 3, 2, 9, (0.1, 0.3, 0.2), [3, 1, 2])):
        trace = make(seed, layers, experts, k, domains, documents, stay, chosen)
        save_file(trace, f"{OUT}/{name}.safetensors",
                  metadata(name, layers, experts, k, domains, chosen))
        measure(name, trace, experts, k, domains, chosen, out)
    with open(f"{OUT}/expected.txt", "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
