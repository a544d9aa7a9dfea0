#!/usr/bin/env python3
"""Training speed of mixt against PyTorch, taken in turns so that both meet the same machine.

    python train_versus_pytorch.py [--shapes A,B] [--rounds 5] [--mixt COMMAND ...]

PyTorch (pytorch_train.py, see there for what makes it a fair peer) stays alive and runs one step a
turn; each mixt command is run once a turn and must print one JSON line a repetition with
"tokens_per_second" in it, whose median counts. Fields in COMMAND are filled from the shape:
{hidden} {layers} {heads} {experts} {ffn} {k} {window} {batch} {vocab} {threads}. Give --mixt
'NAME=COMMAND' more than once to compare several (fp32, bf16). Prints a Markdown table of medians and
of the median of the ratios taken round by round.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

import pytorch_train

HERE = pathlib.Path(__file__).resolve().parent
MIXT = ("./mixt bench --train --vocab-size {vocab} --hidden-size {hidden} --layers {layers} "
        "--heads {heads} --kv-heads {heads} --head-dim 0 --experts {experts} --ffn-size {ffn} "
        "--experts-per-token {k} --context-length {window} --batch-size {batch} "
        "--window {window} --threads {threads} --repetitions 3 --output jsonl --matmul ")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", default="A,B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="Python with torch, transformers")
    parser.add_argument("--patience", type=float, default=20,
                        help="seconds to wait before each turn for other programs to end")
    parser.add_argument("--peer-flags", default="", help="more flags for pytorch_train.py")
    parser.add_argument("--mixt", action="append", metavar="NAME=COMMAND",
                        help="default: ./mixt bench --train with each --matmul")
    return parser.parse_args()


class Peer:
    def __init__(self, arguments, shape):
        command = [arguments.python, str(HERE / "pytorch_train.py"), "--shape", shape, "--steps",
                   "0", "--wait", "--threads", str(arguments.threads)]
        self.process = subprocess.Popen(command + shlex.split(arguments.peer_flags), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("train_versus_pytorch.py: PyTorch ended")
        return json.loads(line)

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()["tokens_per_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def run_mixt(command):
    done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"train_versus_pytorch.py: exit status {done.returncode} from: {command}")
    speeds = []
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            value = json.loads(line).get("tokens_per_second")
            if value:
                speeds.append(value)
    if not speeds:
        sys.exit(f"train_versus_pytorch.py: no tokens_per_second from: {command}")
    return statistics.median(speeds)


def load():
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def wait_for_quiet(patience):
    """Until nothing but this program has run for half a second; gives up after `patience` s."""
    end, calm = time.monotonic() + patience, 0
    while calm < 5 and time.monotonic() < end:
        running = int(pathlib.Path("/proc/loadavg").read_text().split()[3].split("/")[0])
        calm = calm + 1 if running <= 1 else 0
        time.sleep(0.1)
    return calm >= 5


def measure(arguments, shape, commands):
    fields = dict(pytorch_train.SHAPES[shape], threads=arguments.threads)
    peer = Peer(arguments, shape)
    speeds = {"PyTorch": [], **{name: [] for name in commands}}
    for index in range(arguments.rounds):
        quiet = wait_for_quiet(arguments.patience)
        speeds["PyTorch"].append(peer.step())
        for name, command in commands.items():
            quiet = wait_for_quiet(arguments.patience) and quiet
            speeds[name].append(run_mixt(command.format(**fields)))
        print(f"shape {shape}, round {index + 1}: " + ", ".join(
            f"{name} {values[-1]:.0f}" for name, values in speeds.items())
            + f" (load {load()}{'' if quiet else ', others were running'})", file=sys.stderr)
    peer.close()
    return peer.about, speeds


def rows(shape, about, speeds):
    flops = about["flops_per_step"]
    size = pytorch_train.SHAPES[shape]
    tokens = size["batch"] * size["window"]
    for name, values in speeds.items():
        median = statistics.median(values)
        ratios = [own / theirs for own, theirs in zip(values, speeds["PyTorch"])]
        yield (f"| {shape} | {name} | {median:,.0f} | {min(values):,.0f} - {max(values):,.0f} | "
               f"{flops * median / tokens / 1e9:.0f} | {statistics.median(ratios):.2f} |")


def main():
    arguments = parse()
    commands = dict(item.split("=", 1) for item in arguments.mixt) if arguments.mixt else {
        f"mixt {mode}": MIXT + mode for mode in ("exact", "blas", "bf16")}
    table, about = [], None
    print(f"load before: {load()}", file=sys.stderr)
    for shape in arguments.shapes.split(","):
        about, speeds = measure(arguments, shape, commands)
        table += rows(shape, about, speeds)
    print(f"{arguments.rounds} rounds in turn, {arguments.threads} threads; torch {about['torch']}, "
          f"transformers {about['transformers']}, {about['type']}, {about['blas'][-1]}\n")
    print("| shape | program | median tokens/s | range | GFLOP/s | ratio to PyTorch |")
    print("|---|---|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main()
