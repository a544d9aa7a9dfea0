#!/usr/bin/env python3
"""Ratios of results that speed_versus_llama_cpp.py saved, apart by what memory read in their round.

    ratios_by_reading.py [--at 45] RESULT.json...     all files' rounds together; generation alone

For machines whose bandwidth has two states: rounds below and above `--at` GB/s."""
import argparse
import collections
import json
import statistics

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
parser.add_argument("--at", type=float, default=45, help="GB/s between the two (45)")
parser.add_argument("results", nargs="+")
options = parser.parse_args()
ratios = collections.defaultdict(lambda: ([], []))
for name in options.results:
    with open(name, encoding="utf-8") as file:
        saved = json.load(file)
    for model in saved["files"]:
        samples = dict(model["samples"])
        ours = samples.pop("mixt")
        for peer, theirs in samples.items():
            for own, other in zip(ours, theirs):
                fast = own["read_bytes"] > 1e9 * options.at
                ratios[model["file"], peer][fast].append(own["generate"] / other["generate"])
print("| file | peer | GB/s | rounds | least | median | most |\n|---|---|---|---|---|---|---|")
for (model, peer), states in ratios.items():
    for sign, values in zip("<>", states):
        if values:
            print(f"| {model} | {peer} | {sign} {options.at:g} | {len(values)} | {min(values):.2f} | "
                  f"{statistics.median(values):.2f} | {max(values):.2f} |")
