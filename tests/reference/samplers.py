#!/usr/bin/env python3
"""Makes tests/fixtures/samplers.json: what the whole chain leaves, and how probable it is.

    python samplers.py [--out FILE]

The formulas are those of llama.cpp's src/llama-sampler.cpp, written anew with numpy in float64:
logit biases, penalties, DRY over tokens with breakers of one token, top-n-sigma, top-k, typical,
top-p, min-p, xtc, dynamic temperature, mirostat 1 and 2, in any order, ties to the lowest id. Where
transformers has the same (TypicalLogitsWarper, MinPLogitsWarper, TopPLogitsWarper,
TopKLogitsWarper, TopHLogitsWarper not) it must agree.

Each case: "logits", "history" (tokens of a text), "options" (fields of mixt_sampler_options; what
is absent is off), "breakers" (token ids) and the result, "tokens" by falling probability with their
"probabilities". For xtc the chance is 1, so that no random number is asked. Mirostat has "mu" and
after it "surprises", the surprise in bits of each token that may be drawn.
"""

import argparse
import json
import math
import os
import pathlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from transformers import (MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper,
                          TypicalLogitsWarper)

USUAL = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc",
         "temperature"]
OFF = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0,
           frequency_penalty=0.0, presence_penalty=0.0, repeat_last=64, temperature_range=0.0,
           temperature_exponent=1.0, typical_p=1.0, top_n_sigma=0.0, xtc_probability=0.0,
           xtc_threshold=0.1, dry_multiplier=0.0, dry_base=1.75, dry_allowed_length=2, dry_last=-1,
           mirostat=0, mirostat_tau=5.0, mirostat_eta=0.1, min_keep=0, order=None, biases=[])


def softmax(values):
    shifted = numpy.exp(values - values.max())
    return shifted / shifted.sum()


class State:
    """Candidates as ids and logits; sorted when a sampler asks for it."""

    def __init__(self, logits):
        keep = numpy.flatnonzero(logits != -numpy.inf)
        self.ids, self.logits = keep, logits[keep].astype(numpy.float64)

    def sort(self):
        order = numpy.lexsort((self.ids, -self.logits))
        self.keep(order)

    def keep(self, which):
        self.ids, self.logits = self.ids[which], self.logits[which]

    def probabilities(self):
        return softmax(self.logits)


def away(values, edge, what):
    """No decision may hang on the last bits."""
    values = numpy.asarray(values, dtype=numpy.float64)
    assert len(values) == 0 or abs(values - edge).min() > 1e-6, f"on the edge of {what}"


def penalties(s, o, history, breakers):
    tail = history if o["repeat_last"] < 0 else history[-o["repeat_last"]:] if o["repeat_last"] else []
    for token in set(tail):
        at = numpy.flatnonzero(s.ids == token)
        if len(at):
            logit = s.logits[at[0]]
            logit = logit * o["repeat_penalty"] if logit <= 0 else logit / o["repeat_penalty"]
            s.logits[at[0]] = (logit - tail.count(token) * o["frequency_penalty"]
                               - o["presence_penalty"])


def dry(s, o, history, breakers):
    if o["dry_multiplier"] == 0 or o["dry_last"] == 0:
        return
    text = history if o["dry_last"] < 0 else history[-o["dry_last"]:]
    n, allowed = len(text), o["dry_allowed_length"]
    if n <= allowed:
        return
    limit = n
    for i in range(n):
        if text[n - 1 - i] in breakers:
            limit = i
            break
    if limit < allowed:
        return
    longest = {}
    for end in range(n - 1):  # a repetition that ends at text[end]; text[end + 1] went on with it
        length = 0
        while length <= end and text[end - length] == text[n - 1 - length]:
            length += 1
        length = min(length, limit)
        if length >= allowed:
            longest[text[end + 1]] = max(longest.get(text[end + 1], 0), length)
    for token, length in longest.items():
        if token not in breakers:
            at = numpy.flatnonzero(s.ids == token)
            power = length - allowed
            if o["dry_base"] > 1.000001:
                power = min(power, int(88.7228391 / math.log(o["dry_base"])))
            if len(at):
                s.logits[at[0]] -= o["dry_multiplier"] * o["dry_base"] ** power


def top_n_sigma(s, o, history, breakers):
    if o["top_n_sigma"] > 0 and len(s.ids) > 1:
        edge = s.logits.max() - o["top_n_sigma"] * s.logits.std()
        away(s.logits, edge, "top-n-sigma")
        s.keep(s.logits >= edge)


def top_k(s, o, history, breakers):
    if o["top_k"] > 0:
        s.sort()
        s.keep(slice(0, o["top_k"]))


def typ_p(s, o, history, breakers):
    if o["typical_p"] >= 1:
        return
    s.sort()
    p = s.probabilities()
    entropy = -(p * numpy.log(p)).sum()
    order = numpy.argsort(abs(-numpy.log(p) - entropy), kind="stable")
    sums = numpy.cumsum(p[order])
    away(sums, o["typical_p"], "typical-p")
    last = len(order)
    for i, total in enumerate(sums):
        if total > o["typical_p"] and (o["min_keep"] == 0 or i >= o["min_keep"] - 1):
            last = i + 1
            break
    if o["min_keep"] == 0 and len(set(s.logits)) == len(s.logits):
        scores = torch.tensor(s.logits)[None]
        kept = TypicalLogitsWarper(mass=o["typical_p"])(None, scores)[0] > -math.inf
        assert set(order[:last].tolist()) == set(torch.nonzero(kept).flatten().tolist())
    s.keep(order[:last])


def warper_agrees(s, warper, kept):
    if len(set(s.logits)) == len(s.logits):
        result = warper(None, torch.tensor(s.logits)[None])[0] > -math.inf
        assert set(torch.nonzero(result).flatten().tolist()) == set(range(kept))


def top_p(s, o, history, breakers):
    if o["top_p"] >= 1:
        return
    s.sort()
    sums = numpy.cumsum(s.probabilities())
    away(sums, o["top_p"], "top-p")
    last = len(sums)
    for i, total in enumerate(sums):
        if total >= o["top_p"] and i + 1 >= o["min_keep"]:
            last = i + 1
            break
    warper_agrees(s, TopPLogitsWarper(o["top_p"], min_tokens_to_keep=max(1, o["min_keep"])), last)
    s.keep(slice(0, last))


def min_p(s, o, history, breakers):
    if o["min_p"] > 0:
        s.sort()
        edge = s.logits[0] + math.log(o["min_p"])
        away(s.logits[1:], edge, "min-p")
        last = 1
        while last < len(s.ids) and (s.logits[last] >= edge or last < o["min_keep"]):
            last += 1
        warper_agrees(s, MinPLogitsWarper(o["min_p"], min_tokens_to_keep=max(1, o["min_keep"])),
                      last)
        s.keep(slice(0, last))


def xtc(s, o, history, breakers):
    if o["xtc_probability"] > 0 and o["xtc_threshold"] <= 0.5 and len(s.ids) >= 2:
        assert o["xtc_probability"] == 1
        s.sort()
        p = s.probabilities()
        away(p, o["xtc_threshold"], "xtc")
        last = 0
        for i in range(len(p)):
            if p[i] < o["xtc_threshold"]:
                break
            last = i
        if len(p) - last >= o["min_keep"] and last > 0:
            s.keep(slice(last, None))


def temperature(s, o, history, breakers):
    t = o["temperature"]
    if t == 0:
        s.sort()
        s.keep(slice(0, 1))
    elif o["temperature_range"] > 0 and o["mirostat"] == 0:
        if len(s.ids) > 1:
            p = s.probabilities()
            share = -(p[p > 0] * numpy.log(p[p > 0])).sum() / math.log(len(p))
            low, high = max(0.0, t - o["temperature_range"]), t + o["temperature_range"]
            s.logits = s.logits / (low + (high - low) * share ** o["temperature_exponent"])
    else:
        s.logits = s.logits / t


def mirostat_1(s, mu, vocabulary):
    s.sort()
    p = s.probabilities()
    t = numpy.log(numpy.arange(2, 101) / numpy.arange(1, 100))[:len(p) - 1]
    b = numpy.log(p[:-1] / p[1:])[:99]
    exponent = (t * b).sum() / (t * t).sum()
    e = exponent - 1
    k = ((e * 2 ** mu) / (1 - vocabulary ** -e)) ** (1 / exponent)
    assert abs(k - round(k)) > 1e-6
    s.keep(slice(0, max(int(k), 1)))


def mirostat_2(s, mu, vocabulary):
    s.sort()
    surprise = -numpy.log2(s.probabilities())
    away(surprise, mu, "mirostat")
    s.keep(slice(0, max(int((surprise <= mu).sum()), 1)))


NAMES = {f.__name__: f for f in (penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc,
                                 temperature)}


def survivors(logits, history, o, breakers):
    logits = logits.astype(numpy.float64)
    for token, bias in o["biases"]:
        logits[token] += -math.inf if bias is None else bias
    s = State(logits)
    if o["mirostat"]:
        temperature(s, o, history, breakers)
        (mirostat_1 if o["mirostat"] == 1 else mirostat_2)(s, 2 * o["mirostat_tau"], len(logits))
    else:
        for name in (USUAL if o["order"] is None else [n for n in o["order"].split(";") if n]):
            NAMES[name](s, o, history, breakers)
    s.sort()
    return s.ids.tolist(), s.probabilities().tolist()


def cases():
    random = numpy.random.RandomState(12)

    def normal(size=64, scale=2.0):
        return (random.standard_normal(size) * scale).astype(numpy.float32)

    history = [3, 7, 7, 1, 20, 7, 3, 11, 9, 3, 7, 7, 1, 20, 5, 3, 7, 7, 1]
    yield "typical 0.5", normal(), [], dict(typical_p=0.5), []
    yield "typical 0.95", normal(), [], dict(typical_p=0.95), []
    yield "typical 0.2 may drop the best", normal(scale=1.0), [], dict(typical_p=0.2), []
    yield "typical keeps 9", normal(), [], dict(typical_p=0.2, min_keep=9), []
    yield "typical behind top-k", normal(), [], dict(typical_p=0.7, top_k=12), []
    yield "top-n-sigma 1", normal(), [], dict(top_n_sigma=1.0), []
    yield "top-n-sigma 0.5", normal(), [], dict(top_n_sigma=0.5), []
    yield "top-n-sigma 2 then temperature", normal(), [], dict(top_n_sigma=2.0, temperature=1.7), []
    yield "top-n-sigma without what a bias forbids", normal(16), [], dict(
        top_n_sigma=1.0, biases=[[2, None], [5, None]]), []
    yield "xtc", normal(), [], dict(xtc_probability=1.0, xtc_threshold=0.05), []
    yield "xtc threshold 0.5", normal(scale=4.0), [], dict(xtc_probability=1.0,
                                                           xtc_threshold=0.5), []
    yield "xtc above 0.5 is off", normal(scale=4.0), [], dict(xtc_probability=1.0,
                                                              xtc_threshold=0.6), []
    yield "xtc with few left", normal(), [], dict(xtc_probability=1.0, xtc_threshold=0.01, top_k=5,
                                                  min_keep=4), []
    yield "xtc behind top-p", normal(), [], dict(xtc_probability=1.0, xtc_threshold=0.1,
                                                 top_p=0.8), []
    yield "dry", normal(32), history, dict(dry_multiplier=0.8), []
    yield "dry, one breaker", normal(32), history, dict(dry_multiplier=0.8), [3]
    yield "dry, the breaker is near", normal(32), history, dict(dry_multiplier=0.8), [7]
    yield "dry, the breaker goes on", normal(32), history, dict(dry_multiplier=0.8), [20]
    yield "dry, length 1", normal(32), history, dict(dry_multiplier=1.3, dry_base=1.5,
                                                     dry_allowed_length=1), []
    yield "dry, length 0", normal(32), history, dict(dry_multiplier=0.4, dry_allowed_length=0), []
    yield "dry, the last 8", normal(32), history, dict(dry_multiplier=0.8, dry_last=8), []
    yield "dry, the last 0", normal(32), history, dict(dry_multiplier=0.8, dry_last=0), []
    yield "dry, a long repetition", normal(16), [1, 2, 3] * 60, dict(dry_multiplier=0.8,
                                                                     dry_base=2.0), []
    yield "dry, base 1", normal(16), [1, 2, 3] * 9, dict(dry_multiplier=0.8, dry_base=1.0), []
    yield "dry, one token", normal(16), [4] * 30, dict(dry_multiplier=0.5, dry_base=1.1), []
    for i in range(12):
        text = random.randint(0, 4 + i % 3, 60 + i).tolist()
        yield f"dry, random {i}", normal(12), text, dict(
            dry_multiplier=0.3, dry_base=1.2, dry_allowed_length=i % 4, dry_last=[-1, 40][i % 2]), \
            [[], [2], [0, 3]][i % 3]
    yield "penalties over all", normal(32), history, dict(repeat_penalty=1.3, repeat_last=-1), []
    yield "dynamic temperature", normal(), [], dict(temperature=0.9, temperature_range=0.5), []
    yield "dynamic temperature, exponent 2", normal(), [], dict(
        temperature=0.9, temperature_range=0.5, temperature_exponent=2.0), []
    yield "dynamic temperature from 0", normal(), [], dict(temperature=0.3, temperature_range=0.8,
                                                           top_k=20), []
    yield "top-p keeps 10", normal(), [], dict(top_p=0.1, min_keep=10), []
    yield "min-p keeps 10", normal(), [], dict(min_p=0.5, min_keep=10), []
    yield "biases", normal(16), [], dict(biases=[[3, 2.5], [4, -1.25], [5, None], [3, 0.5]]), []
    yield "a bias wins at temperature 0", normal(16), [], dict(temperature=0.0,
                                                               biases=[[9, 100.0]]), []
    yield "temperature first", normal(), [], dict(temperature=2.0, min_p=0.2, top_p=0.9,
                                                  order="temperature;top_p;min_p"), []
    yield "temperature before penalties", normal(32), history, dict(
        temperature=0.5, repeat_penalty=1.4, frequency_penalty=0.1, order="temperature;penalties"), []
    yield "min-p before top-k", normal(), [], dict(min_p=0.1, top_k=3, order="min_p;top_k"), []
    yield "top-k before penalties", normal(32), history, dict(
        top_k=6, repeat_penalty=1.8, order="top_k;penalties;temperature"), []
    yield "greedy behind top-k and penalties", normal(32), history, dict(
        temperature=0.0, top_k=3, presence_penalty=50.0, order="top_k;penalties;temperature"), []
    yield "greedy behind typical", normal(scale=1.0), [], dict(temperature=0.0, typical_p=0.2), []
    yield "greedy behind xtc", normal(), [], dict(temperature=0.0, xtc_probability=1.0,
                                                  xtc_threshold=0.05), []
    yield "no sampler", normal(16), history, dict(temperature=0.5, top_k=2, order=""), []
    yield "temperature twice", normal(16), [], dict(temperature=0.5,
                                                    order="temperature;temperature"), []
    for tau in (1.0, 2.0, 3.0):
        yield f"mirostat 1, tau {tau}", normal(200), [], dict(mirostat=1, mirostat_tau=tau), []
        yield f"mirostat 2, tau {tau}", normal(200), [], dict(mirostat=2, mirostat_tau=tau), []
    yield "mirostat 2 passes over top-k", normal(200), history, dict(
        mirostat=2, mirostat_tau=2.0, top_k=1, temperature=1.5, repeat_penalty=2.0), []
    yield "mirostat 1, temperature 0.7", normal(200), [], dict(mirostat=1, mirostat_tau=2.0,
                                                               temperature=0.7), []
    yield "all of it", normal(96), history, dict(
        temperature=0.7, temperature_range=0.2, top_k=40, top_p=0.95, min_p=0.02, typical_p=0.9,
        top_n_sigma=2.5, xtc_probability=1.0, xtc_threshold=0.2, repeat_penalty=1.1,
        frequency_penalty=0.2, presence_penalty=0.1, repeat_last=6, dry_multiplier=0.8), [20]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures/samplers.json")
    out = parser.parse_args().out
    lines = []
    for name, logits, history, changed, breakers in cases():
        tokens, probabilities = survivors(logits, history, {**OFF, **changed}, breakers)
        assert math.isclose(sum(probabilities), 1, rel_tol=1e-12)
        lines.append(json.dumps(dict(name=name, logits=[float(x) for x in logits], history=history,
                                     options=changed, breakers=breakers, tokens=tokens,
                                     probabilities=[float(f"{p:.12g}") for p in probabilities])))
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} cases")


if __name__ == "__main__":
    main()
