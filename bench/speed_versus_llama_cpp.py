#!/usr/bin/env python3
"""mixt and llama.cpp on the same GGUF files: prompt processing, generation, loading, memory.

    bench/speed_versus_llama_cpp.py --peer LLAMA_CPP/build/bin FILE.gguf ... [--rounds 5]

Rounds interleave the two programs (and which of them goes first); medians are compared. The read
bandwidth is the one that `mixt bench` measures at the start of each of its runs. `--peer` may be
given several times (NAME=FOLDER). Loading is measured as one generated token, files in the page
cache, with the greatest resident memory of the process.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def run(command):
    """Output, seconds and greatest resident memory (bytes) of a command that must succeed."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    seconds = time.monotonic() - begin
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: status {process.returncode}\n{errors.decode()[-2000:]}")
    return output.decode(), seconds


def resident(command):
    """Seconds and greatest resident memory of a command (a shell counts it for us)."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        return float("nan"), float("nan")
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def mixt_rows(options, file):
    output, _ = run([options.mixt, "bench", "-m", file, "-p", str(options.prompt), "-n",
                     str(options.generate), "-r", "1", "-t", str(options.threads), "-o", "json"])
    rows = {row["test"]: row for row in json.loads(output)}
    prompt, generate = rows[f"pp{options.prompt}"], rows[f"tg{options.generate}"]
    return (prompt["tokens_per_second"], generate["tokens_per_second"],
            generate["machine_read_bytes"] / 1e9)


def peer_rows(options, folder, file):
    output, _ = run([os.path.join(folder, "llama-bench"), "-m", file, "-p", str(options.prompt),
                     "-n", str(options.generate), "-r", "1", "-t", str(options.threads), "-o",
                     "json"])
    prompt = generate = float("nan")
    for row in json.loads(output):
        if row["n_prompt"] > 0:
            prompt = row["avg_ts"]
        elif row["n_gen"] > 0:
            generate = row["avg_ts"]
    return prompt, generate


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--peer", action="append", required=True, help="[NAME=]FOLDER of llama-bench")
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--load", action="store_true", help="also loading time and memory")
    options = parser.parse_args()
    peers = [(peer.split("=", 1) if "=" in peer else ["llama.cpp", peer]) for peer in options.peer]
    print(f"| file | program | pp{options.prompt} t/s | ratio | tg{options.generate} t/s | ratio |"
          " read GB/s | load s | memory GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for file in options.files:
        found = {name: [] for name in ["mixt"] + [name for name, _ in peers]}
        bandwidths = []
        for turn in range(options.rounds):
            order = [("mixt", None)] + peers
            for name, folder in order if turn % 2 == 0 else order[::-1]:
                if folder is None:
                    prompt, generate, bandwidth = mixt_rows(options, file)
                    bandwidths.append(bandwidth)
                else:
                    prompt, generate = peer_rows(options, folder, file)
                found[name].append((prompt, generate))
                print(f"round {turn + 1} {name}: pp {prompt:.1f} tg {generate:.1f}", file=sys.stderr)
        middle = {name: [statistics.median(value) for value in zip(*rows)]
                  for name, rows in found.items()}
        for name, folder in [("mixt", None)] + peers:
            prompt, generate = middle[name]
            load = ("", "")
            if options.load:
                command = ([options.mixt, "bench", "-m", file, "--no-limits", "-p", "0", "-n", "1", "-r",
                            "1", "-t", str(options.threads)]
                           if folder is None else
                           [os.path.join(folder, "llama-bench"), "-m", file, "-p", "0", "-n", "1",
                            "-r", "1", "-t", str(options.threads)])
                seconds, memory = resident(command)
                load = (f"{seconds:.1f}", f"{memory / 1e9:.1f}")
            ratios = ((f"{middle['mixt'][0] / prompt:.2f}", f"{middle['mixt'][1] / generate:.2f}")
                      if folder is not None else ("", ""))
            bandwidth = f"{statistics.median(bandwidths):.1f}" if folder is None else ""
            print(f"| {os.path.basename(file)} | {name} | {prompt:.1f} | {ratios[0]} |"
                  f" {generate:.1f} | {ratios[1]} | {bandwidth} | {load[0]} | {load[1]} |",
                  flush=True)


if __name__ == "__main__":
    main()
