#!/usr/bin/env python3
"""Training speed of mixt against PyTorch, taken in turns so that both meet the same machine.

    python train_versus_pytorch.py [--shapes A,B] [--rounds 5] [--mixt COMMAND ...]

PyTorch (pytorch_train.py, see there for what makes it a fair peer) is first run in each of its forms
for a few steps by itself: transformers' loop over experts and its grouped products, with and without
torch.compile, in fp32 and in bf16 autocast; --form NAME=FLAGS replaces the list. The fastest of each
type is the peer: it stays alive and runs one step a turn. Each mixt command is run once a turn and must
print one JSON line a repetition with "tokens_per_second" in it, whose median counts. Fields in COMMAND
are filled from the shape: {hidden} {layers} {heads} {experts} {ffn} {k} {window} {batch} {vocab}
{threads}. Give --mixt 'NAME=COMMAND' more than once to compare several (fp32, bf16). Prints a Markdown
table of medians, shares of the fp32 peak that `mixt bench` measures in each round, and the medians of
the ratios taken round by round.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

import pytorch_train
import speed_versus_llama_cpp as versus

HERE = pathlib.Path(__file__).resolve().parent
MIXT = ("{program} bench --train --vocab-size {vocab} --hidden-size {hidden} --layers {layers} "
        "--heads {heads} --kv-heads {heads} --head-dim 0 --experts {experts} --ffn-size {ffn} "
        "--experts-per-token {k} --context-length {window} --batch-size {batch} "
        "--window {window} --threads {threads} --repetitions 3 --output jsonl --matmul ")


FORMS = {
    f"PyTorch {name}{kind}": f"{flags}{bf16}"
    for kind, bf16 in (("", ""), (" bf16", " --bf16"))
    for name, flags in (("loop", "--experts eager"), ("grouped", "--experts grouped_mm"),
                        ("loop, compiled", "--experts eager --compile default"),
                        ("grouped, compiled", "--experts grouped_mm --compile default"))
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", default="A,B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="Python with torch, transformers")
    parser.add_argument("--patience", type=float, default=20,
                        help="seconds to wait before each turn for other programs to end")
    parser.add_argument("--form", action="append", metavar="NAME=FLAGS",
                        help="flags for pytorch_train.py; those with --bf16 are one race, others another")
    parser.add_argument("--form-steps", type=int, default=3, help="steps to choose the form by")
    parser.add_argument("--mixt", action="append", metavar="NAME=COMMAND",
                        help="default: ./mixt bench --train with each --matmul")
    parser.add_argument("--program", default="./mixt", help="mixt of the default commands")
    parser.add_argument("--priority", action="store_true", help="all programs under chrt -r 5")
    parser.add_argument("--lock", metavar="FILE",
                        help="flock it during each turn, where others time programs too")
    parser.add_argument("--save", metavar="FILE", help="raw samples, machine and commands as JSON")
    return parser.parse_args()


def prefix(arguments):
    return ["chrt", "-r", "5"] if arguments.priority else []


@contextlib.contextmanager
def turn(arguments):
    """One program's turn on the machine; True in it if nothing else seemed to run."""
    with contextlib.ExitStack() as stack:
        if arguments.lock:
            file = stack.enter_context(open(arguments.lock, "a", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield wait_for_quiet(arguments.patience)


class Peer:
    def __init__(self, arguments, shape, flags):
        self.command = [*prefix(arguments), arguments.python, str(HERE / "pytorch_train.py"), "--shape",
                        shape, "--steps", "0", "--wait", "--threads", str(arguments.threads),
                        *shlex.split(flags)]
        self.process = subprocess.Popen(self.command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        self.about = json.loads(line) if line else None  # None: this form does not run

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("train_versus_pytorch.py: PyTorch ended")
        return json.loads(line)["tokens_per_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def fastest_forms(arguments, shape):
    """Speeds of each form by itself, and the names of the fastest without and with --bf16."""
    forms = dict(item.split("=", 1) for item in arguments.form) if arguments.form else FORMS
    speeds = {}
    for name, flags in forms.items():
        with turn(arguments):
            peer = Peer(arguments, shape, flags)
            if peer.about is not None:
                speeds[name] = [peer.step() for _ in range(arguments.form_steps)]
                print(f"shape {shape}, {name}: {statistics.median(speeds[name]):.0f}",
                      file=sys.stderr)
            peer.close()
    best = []
    for reduced in (False, True):
        race = [name for name in speeds if ("--bf16" in forms[name]) == reduced]
        if race:
            best.append(max(race, key=lambda name: statistics.median(speeds[name])))
    if not best:
        sys.exit("train_versus_pytorch.py: no form of PyTorch runs")
    return {name: forms[name] for name in best}, speeds


def run_mixt(arguments, command):
    """Tokens a second, and the machine's fp32 peak where the program says it."""
    done = subprocess.run(prefix(arguments) + shlex.split(command), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"train_versus_pytorch.py: exit status {done.returncode} from: {command}")
    speeds, peak = [], None
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            peak = row.get("machine_flops", peak)
            if row.get("tokens_per_second"):
                speeds.append(row["tokens_per_second"])
    if not speeds:
        sys.exit(f"train_versus_pytorch.py: no tokens_per_second from: {command}")
    return statistics.median(speeds), peak


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
    fields = dict(pytorch_train.SHAPES[shape], threads=arguments.threads, program=arguments.program)
    forms, alone = fastest_forms(arguments, shape)
    peers = {name: Peer(arguments, shape, flags) for name, flags in forms.items()}
    speeds = {name: [] for name in [*peers, *commands]}
    peaks = []
    for index in range(arguments.rounds):
        all_quiet = True
        for name, peer in peers.items():
            with turn(arguments) as quiet:
                speeds[name].append(peer.step())
            all_quiet = all_quiet and quiet
        for name, command in commands.items():
            with turn(arguments) as quiet:
                speed, peak = run_mixt(arguments, command.format(**fields))
            speeds[name].append(speed)
            peaks += [peak] if peak else []
            all_quiet = all_quiet and quiet
        print(f"shape {shape}, round {index + 1}: " + ", ".join(
            f"{name} {values[-1]:.0f}" for name, values in speeds.items())
            + f" (load {load()}{'' if all_quiet else ', others were running'})", file=sys.stderr)
    about = [peer.about for peer in peers.values()]
    lines = {**{name: shlex.join(peer.command) for name, peer in peers.items()},
             **{name: command.format(**fields) for name, command in commands.items()}}
    for peer in peers.values():
        peer.close()
    return {"shape": shape, "peers": about, "commands": lines, "forms_alone": alone,
            "fp32_peaks": peaks, "tokens_per_second": speeds}


def rows(found):
    """Ratios are to the first peer, which is the fastest in fp32."""
    shape, speeds = found["shape"], found["tokens_per_second"]
    flops = found["peers"][0]["flops_per_step"]
    size = pytorch_train.SHAPES[shape]
    tokens = size["batch"] * size["window"]
    first = next(iter(speeds))
    peak = statistics.median(found["fp32_peaks"]) if found["fp32_peaks"] else float("nan")
    for name, values in speeds.items():
        median = statistics.median(values)
        rate = flops * median / tokens
        ratios = [own / theirs for own, theirs in zip(values, speeds[first])]
        yield (f"| {shape} | {name} | {median:,.0f} | {min(values):,.0f} - {max(values):,.0f} | "
               f"{rate / 1e9:.0f} | {rate / peak:.0%} | {statistics.median(ratios):.2f} |")


def main():
    arguments = parse()
    commands = dict(item.split("=", 1) for item in arguments.mixt) if arguments.mixt else {
        f"mixt {mode}": MIXT + mode for mode in ("exact", "blas", "bf16")}
    results = []
    print(f"load before: {load()}", file=sys.stderr)
    for shape in arguments.shapes.split(","):
        results.append(measure(arguments, shape, commands))
        if arguments.save:
            about = {"script": "bench/train_versus_pytorch.py", "arguments": sys.argv[1:],
                     "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": versus.machine(),
                     "commit": versus.commit(str(HERE)), "shapes": results}
            pathlib.Path(arguments.save).write_text(json.dumps(about, indent=1) + "\n",
                                                    encoding="utf-8")
    about = results[0]["peers"][0]
    print(f"{arguments.rounds} rounds in turn, {arguments.threads} threads; torch {about['torch']}, "
          f"transformers {about['transformers']}, {about['blas'][-1]}\n")
    print("| shape | program | median tokens/s | range | GFLOP/s | of fp32 peak | ratio to PyTorch fp32 |")
    print("|---|---|---|---|---|---|---|")
    for found in results:
        print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
