#!/usr/bin/env python3
"""Makes tests/fixtures/sampling.json: which tokens survive the samplers, and how probable they are.

    python sampling.py [--out FILE]

The order is llama.cpp's: repetition, frequency and presence penalties over the last `repeat_last`
tokens; top-k; top-p; min-p; temperature; softmax. numpy computes every case in float64, with ties
to the lowest id. Where no two logits are equal, transformers' LogitsProcessor classes must agree
(frequency and presence penalties, which it has not, are applied before them).

Each case: "logits" (exact float32 values), "history", "sampling" (fields of mixt_sampling; what is
absent is off) and the result, "tokens" by falling probability (ids rise on ties) with their
"probabilities". No case has a probability sum within 1e-6 of top_p, nor a probability within 1e-6
(relative) of min_p times the largest, so that float32 arithmetic cannot change the set.
"""

import argparse
import json
import math
import os
import pathlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

OFF = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0,
           frequency_penalty=0.0, presence_penalty=0.0, repeat_last=64)


def softmax(values):
    shifted = numpy.exp(values - values.max())
    return shifted / shifted.sum()


def recent(history, count):
    return history[-count:] if count > 0 else []


def penalise(logits, history, options):
    """Divides a positive logit and multiplies the others; then takes the two linear penalties."""
    logits = logits.copy()
    tail = recent(history, options["repeat_last"])
    for token in sorted(set(tail)):
        positive = logits[token] > 0
        logits[token] *= 1 / options["repeat_penalty"] if positive else options["repeat_penalty"]
        logits[token] -= tail.count(token) * options["frequency_penalty"]
        logits[token] -= options["presence_penalty"]
    return logits


def survivors(logits, history, options):
    """Ids by falling probability, and the probabilities."""
    logits = penalise(logits.astype(numpy.float64), history, options)
    if options["temperature"] == 0:
        return [int(logits.argmax())], [1.0]
    ids = numpy.argsort(-logits, kind="stable")
    if options["top_k"] > 0:
        ids = ids[:options["top_k"]]
    if options["top_p"] < 1:
        sums = numpy.cumsum(softmax(logits[ids]))
        assert abs(sums - options["top_p"]).min() > 1e-6, "on the edge of top_p"
        ids = ids[:int(numpy.searchsorted(sums, options["top_p"])) + 1]
    if options["min_p"] > 0:
        share = numpy.exp(logits[ids] - logits[ids[0]])
        assert abs(share[1:] / options["min_p"] - 1).min(initial=1) > 1e-6, "on the edge of min_p"
        ids = ids[(share >= options["min_p"]) | (numpy.arange(len(ids)) == 0)]
    return ids.tolist(), softmax(logits[ids] / options["temperature"]).tolist()


def transformers_agrees(logits, history, options, tokens, probabilities):
    linear = options["frequency_penalty"] or options["presence_penalty"]
    scores = torch.tensor(logits, dtype=torch.float64)[None]
    tail = recent(history, options["repeat_last"])
    processors = LogitsProcessorList()
    if tail and linear:
        scores = torch.tensor(penalise(logits.astype(numpy.float64), history, options))[None]
    elif tail and options["repeat_penalty"] != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(options["repeat_penalty"]))
    if options["top_k"] > 0:
        processors.append(TopKLogitsWarper(options["top_k"]))
    if options["top_p"] < 1:
        processors.append(TopPLogitsWarper(options["top_p"]))
    if options["min_p"] > 0:
        processors.append(MinPLogitsWarper(options["min_p"]))
    if options["temperature"] != 1:
        processors.append(TemperatureLogitsWarper(float(options["temperature"])))
    result = torch.softmax(processors(torch.tensor([tail], dtype=torch.long), scores), -1)[0]
    assert set(tokens) == set(torch.nonzero(result).flatten().tolist()), (tokens, result)
    assert numpy.abs(result[tokens].numpy() - numpy.array(probabilities)).max() < 1e-12


def cases():
    random = numpy.random.RandomState(5)

    def normal(size, scale=2.0):
        return (random.standard_normal(size) * scale).astype(numpy.float32)

    history = [3, 7, 7, 1, 20, 7, 3, 11]
    yield "everything off", normal(32), [], {}
    yield "temperature 0.5", normal(32), [], dict(temperature=0.5)
    yield "temperature 2", normal(32), [], dict(temperature=2.0)
    yield "temperature 0 is greedy", normal(32), [], dict(temperature=0.0)
    yield "greedy after penalties", numpy.array([1.0, 5.0, 4.0], numpy.float32), [1], dict(
        temperature=0.0, repeat_penalty=1.5)
    yield "top-k 1", normal(32), [], dict(top_k=1)
    yield "top-k 5", normal(32), [], dict(top_k=5)
    yield "top-k above the vocabulary", normal(16), [], dict(top_k=40)
    yield "top-p 0.9", normal(64), [], dict(top_p=0.9)
    yield "top-p 0.01 keeps one", normal(64), [], dict(top_p=0.01)
    yield "top-p 0 keeps one", normal(64), [], dict(top_p=0.0)
    yield "min-p 0.1", normal(64), [], dict(min_p=0.1)
    yield "min-p 1 keeps the best", normal(64), [], dict(min_p=1.0)
    yield "top-k then top-p over what is left", normal(64, 1.0), [], dict(top_k=10, top_p=0.6)
    yield "min-p before temperature", normal(64), [], dict(min_p=0.2, temperature=3.0)
    yield "top-p before temperature", normal(64), [], dict(top_p=0.7, temperature=3.0)
    yield "repeat penalty, both signs", normal(24), history, dict(repeat_penalty=1.3)
    yield "repeat penalty below 1", normal(24), history, dict(repeat_penalty=0.8)
    yield "frequency penalty", normal(24), history, dict(frequency_penalty=0.7)
    yield "presence penalty", normal(24), history, dict(presence_penalty=0.9)
    yield "negative presence penalty", normal(24), history, dict(presence_penalty=-0.9)
    yield "all three penalties", normal(24), history, dict(
        repeat_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.4)
    yield "penalties look at the last 3 tokens", normal(24), history, dict(
        repeat_penalty=1.5, frequency_penalty=0.5, repeat_last=3)
    yield "repeat_last 0 switches penalties off", normal(24), history, dict(
        repeat_penalty=1.5, frequency_penalty=0.5, presence_penalty=0.5, repeat_last=0)
    yield "mixt's defaults", normal(96), history, dict(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
    yield "everything on", normal(96), history, dict(
        temperature=0.7, top_k=20, top_p=0.85, min_p=0.03, repeat_penalty=1.1,
        frequency_penalty=0.2, presence_penalty=0.1, repeat_last=6)
    yield "large logits", normal(32) + numpy.float32(30000), [], dict(temperature=0.5, top_k=4)
    yield "ties, top-k 2 takes the lowest ids", numpy.array([1, 2, 2, 2, 0], numpy.float32), [], \
        dict(top_k=2)
    yield "ties, top-p takes the lowest ids", numpy.zeros(8, numpy.float32), [], dict(top_p=0.3)
    yield "ties, greedy takes the lowest id", numpy.array([0, 3, 1, 3], numpy.float32), [], \
        dict(temperature=0.0)
    yield "one token", numpy.array([-4.0], numpy.float32), [0], dict(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures/sampling.json")
    out = parser.parse_args().out
    lines, compared = [], 0
    for name, logits, history, changed in cases():
        options = {**OFF, **changed}
        tokens, probabilities = survivors(logits, history, options)
        assert math.isclose(sum(probabilities), 1, rel_tol=1e-12)
        if len(set(logits.tolist())) == len(logits) and options["temperature"] > 0:
            transformers_agrees(logits, history, options, tokens, probabilities)
            compared += 1
        lines.append(json.dumps(dict(name=name, logits=[float(x) for x in logits], history=history,
                                     sampling=changed, tokens=tokens,
                                     probabilities=probabilities)))
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} cases, {compared} of them equal to transformers'")


if __name__ == "__main__":
    main()
