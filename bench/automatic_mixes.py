#!/usr/bin/env python3
"""The mix that `mixt convert --type auto` finds beside llama.cpp's mixes, at their sizes.

    python3 bench/automatic_mixes.py MIXT MODEL CALIBRATION HELDOUT [--mixes Q2_K,...] [--max-tokens N]

MODEL is quantised as each mix, then as auto with the bytes of that mix's tensors as the budget; both weigh errors with
importance from CALIBRATION and are compared with MODEL on HELDOUT (text that auto has not seen). The table is Markdown:
perplexity, KL of the predictions, the same likeliest token, and over all layers the mean of a token's experts that
stayed, of the weight that stayed, and of the routers' KL.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def convert(a, folder, flags):
    out = os.path.join(folder, "model.gguf")
    command = [a.mixt, "convert", a.model, "-o", out, "--data", a.calibration, "--report", "--report-data", a.heldout,
               "--json", "--max-tokens", str(a.max_tokens), *flags]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: {run.stderr}")
    os.remove(out)
    report = json.loads(run.stdout)
    report["bytes"] = sum(t["bytes"] for t in report["types"])
    report["weights"] = sum(t["weights"] for t in report["types"])
    return report


def row(name, r):
    layers = r["layers"]
    mean = [sum(layer[key] for layer in layers) / max(len(layers), 1) for key in ("sets", "first", "kept", "router_kl")]
    types = " ".join(f"{t['type']} {100 * t['bytes'] / r['bytes']:.0f}%" for t in r["types"])
    print(f"| {name} | {r['bytes']:,} | {8 * r['bytes'] / r['weights']:.3f} | {r['perplexity']:.3f} | {r['kl']:.5f} | "
          f"{r['kl_99']:.4f} | {100 * r['same_top']:.2f} | {100 * mean[0]:.2f} | {100 * mean[1]:.2f} | "
          f"{100 * mean[2]:.2f} | {1000 * mean[3]:.3f} | {types} |", flush=True)


def main():
    p = argparse.ArgumentParser()
    for name in ("mixt", "model", "calibration", "heldout"):
        p.add_argument(name)
    p.add_argument("--mixes", default="Q2_K,Q3_K_M,Q4_K_M,Q5_K_M")
    p.add_argument("--max-tokens", type=int, default=8192, help="of each domain")
    p.add_argument("--trial-tokens", type=int, default=1024, help="of each domain, for auto")
    a = p.parse_args()
    print("| type | bytes | bits/weight | perplexity | KL, nats | KL 99 % | same top, % | sets, % | first, % | "
          "weight kept, % | router KL, mbits | of the bytes |\n|" + "---|" * 12)
    with tempfile.TemporaryDirectory() as folder:
        for i, mix in enumerate(a.mixes.split(",")):
            r = convert(a, folder, ["--type", mix])
            if i == 0:
                print(f"| (source) | | | {r['source_perplexity']:.3f} | | | | | | | | |")
            row(mix, r)
            flags = ["--type", "auto", "--budget", f"{r['bytes'] / 1e9:.9f}GB", "--trial-tokens", str(a.trial_tokens)]
            row(f"auto, {mix}'s size", convert(a, folder, flags))


main()
