#!/usr/bin/env python3
"""Perplexity of the same GGUF file over the same text in mixt and in llama.cpp, for every type.

    bench/perplexity_versus_llama_cpp.py --peer LLAMA_CPP/build/bin MODEL TEXT [--window 256]

MODEL (a folder, or a GGUF file) is converted by `mixt convert` to each type; both programs then
read that file. llama.cpp keeps keys and values in F32 and attention without the fused kernel, so
that what differs is the products with the weights.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "IQ4_XS",
         "IQ4_NL", "MXFP4", "Q3_K_M", "Q2_K"]


def run(command):
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = process.stdout.decode(errors="replace")
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: status {process.returncode}\n{output[-2000:]}")
    return output


def number(pattern, text):
    found = re.search(pattern, text)
    if found is None:  # llama.cpp's log sometimes loses its last line: the last running value then
        running = re.findall(r"\[\d+\]([0-9.]+),", text)
        if running:
            return float(running[-1])
        sys.exit(f"no perplexity in:\n{text[-1000:]}")
    return float(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--peer", required=True, help="folder of llama-perplexity")
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", nargs="*", default=TYPES)
    options = parser.parse_args()
    print("| type | bytes | mixt | llama.cpp | difference |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.types:
            file = os.path.join(folder, f"{name}.gguf")
            run([options.mixt, "convert", options.model, "-o", file, "--type", name, "--pure"]
                if name in ("Q2_K", "MXFP4", "Q4_0", "Q4_1", "Q5_0", "Q5_1") else
                [options.mixt, "convert", options.model, "-o", file, "--type", name])
            ours = number(r"perplexity ([0-9.]+) \+/-",
                          run([options.mixt, "eval", "-m", file, "--ppl-file", options.text, "-c",
                               str(options.window), "-t", str(options.threads)]))
            theirs = number(r"Final estimate: PPL = ([0-9.]+)",
                            run([os.path.join(options.peer, "llama-perplexity"), "-m", file, "-f",
                                 options.text, "-c", str(options.window), "-t",
                                 str(options.threads), "-fa", "off", "-ctk", "f32", "-ctv", "f32"]))
            print(f"| {name} | {os.path.getsize(file):,} | {ours:.4f} | {theirs:.4f} |"
                  f" {100 * (ours / theirs - 1):+.3f} % |", flush=True)
            os.remove(file)


if __name__ == "__main__":
    main()
