#!/usr/bin/env python3
"""What training and running over ranks costs on this machine, beside one rank and beside what
`mixt info --plan train --ranks` says of it (docs/distributed.md).

    python3 bench/ranks.py [overhead] [scaling] [crowded] [exact] [curves] [run]   # these, without a name
    python3 bench/ranks.py apart --network BITS --delay US   # as bench/two_machines.sh calls it

    overhead  one rank under the launcher against the plain program, in turns
    scaling   steps of two ranks with a core each against one with a core, at equal work for each: as
              copies (2 x 1) and with experts spread (1 x 2), against the prediction, which is made
              first; and two programs side by side that know nothing of each other
    crowded   steps of 4 and of 8 ranks that share the cores, in all splits, against the prediction,
              which is told that a rank has that share of a core's operations and bandwidth
    exact     the same steps with --exact-reduce, on one and on two ranks
    apart     steps of 2 x 1 and of 1 x 2, rows in 1, 2 and 4 chunks, over a network that is known:
              --network bits a second each way, --delay microseconds that a message is late
    curves    losses of 1, 2, 4 and 8 ranks, on as many cores as there are, in all splits
    run       a model run by two ranks against one: the same text, and how fast

Every number is the median of ROUNDS runs that take turns; a run counts the median of its steps but
the first three. Raw values, commands and the machine's name go to bench/results/ranks-NAME.json.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# A second a step of 4 micro batches on a core.
SPEED = ("--layers 4 --hidden-size 256 --heads 8 --kv-heads 4 --ffn-size 256 --experts 8 --experts-per-token 2 "
         "--vocab-size 2048 --context-length 256 --window 256 --batch-size 2")
# Small: 200 steps of eight processes on two cores in a minute.
CURVES = ("--layers 2 --hidden-size 64 --heads 4 --kv-heads 2 --ffn-size 64 --experts 8 --experts-per-token 2 "
          "--vocab-size 1024 --context-length 64 --window 64 --batch-size 2 --accumulation 8 --warmup 20 "
          "--learning-rate 3e-4 --schedule constant")
SKIPPED = 3
STEP_SHAPE = "bench/shapes/small.json" # steps of RUNS micro batches of 1,024 tokens on each rank
RUNS = 4


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more)


class Bench:
    def __init__(self, arguments, folder):
        self.a = arguments
        self.folder = pathlib.Path(folder)
        self.commands = []
        self.made = 0
        self.text = self.folder / "text.txt"
        self.text.write_bytes(b"".join(p.read_bytes() for p in sorted((ROOT / "docs").glob("*.md"))))
        self.tokenizers = {}
        library = pathlib.Path(arguments.mixt).with_name("libmixt-mpi.so") # which is beside the program
        mpi = "mpirun" in arguments.pinned
        self.environment = os.environ | ({"MIXT_TRANSPORT": str(library)} if mpi else {})

    def timed(self, command, **more):
        command = shlex.split(self.a.wrap) + command
        self.commands.append(shlex.join(command))
        return run(command, **more)

    def launch(self, ranks, command, pinned=False):
        """The command as so many ranks; 0: the plain program."""
        if ranks == 0:
            return command
        launcher = (self.a.pinned if pinned else self.a.launcher).format(ranks=ranks)
        return shlex.split(launcher) + command

    def tokenizer(self, vocabulary):
        """Trained once, so that no run spends time on it."""
        if vocabulary not in self.tokenizers:
            out = self.folder / f"tokenizer-{vocabulary}"
            run([self.a.mixt, "train", "--data", str(self.text), "--out", str(out), "--steps", "1", "--layers", "1",
                 "--hidden-size", "16", "--heads", "2", "--kv-heads", "2", "--ffn-size", "16", "--experts", "2",
                 "--vocab-size", str(vocabulary), "--window", "16", "-b", "1", "--warmup", "0"])
            self.tokenizers[vocabulary] = str(out / "tokenizer")
        return self.tokenizers[vocabulary]

    def train_command(self, shape, more):
        self.made += 1
        out = self.folder / f"run-{self.made}"
        vocabulary = re.search(r"--vocab-size (\d+)", shape).group(1)
        return out, [self.a.mixt, "train", "--data", str(self.text), "--tokenizer", self.tokenizer(int(vocabulary)),
                     "--heldout", "0", "--optimizer", "adamw", "--out", str(out), *shlex.split(shape), *shlex.split(more)]

    def losses(self, out):
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        shutil.rmtree(out)
        return [line for line in lines if "loss" in line and "tokens_per_second" in line]

    def speed(self, ranks, shape, more, pinned=False, core=None):
        """Tokens a second of a run: the median of its steps."""
        out, command = self.train_command(shape, more)
        command = self.launch(ranks, command, pinned)
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        self.timed(command)
        return statistics.median(line["tokens_per_second"] for line in self.losses(out)[SKIPPED:])

    def rounds(self, cases):
        """Medians of cases {name: function}, all once a round."""
        values = {name: [] for name in cases}
        for _ in range(self.a.rounds):
            for name, function in cases.items():
                values[name].append(function())
        return values

    def save(self, name, results):
        results |= {"machine": machine(), "launcher": self.a.launcher, "pinned": self.a.pinned,
                    "commit": commit(), "commands": [c.replace(str(self.folder), "TMP") for c in self.commands]}
        path = HERE / "results" / f"ranks-{name}.json"
        path.write_text(re.sub(r"/tmp/tmp\.\w+", "TMP", json.dumps(results, indent=1).replace(str(ROOT), ".")) + "\n")
        self.commands = []
        return results


def machine():
    model = re.search(r"^Model name:\s*(.*)$", run(["lscpu"]).stdout, re.M)
    return f"{model.group(1) if model else os.uname().machine}, {os.cpu_count()} cores"


def commit():
    try:
        return run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return ""


def table(rows):
    print("\n" + "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in
                           (rows[0], ["---"] * len(rows[0]), *rows[1:])))


def spread(values):
    return f"{min(values):,.0f} - {max(values):,.0f}"


def overhead(bench):
    steps = "--accumulation 4 --steps 14"
    values = bench.rounds({
        "plain": lambda: bench.speed(0, SPEED, steps),
        "one rank": lambda: bench.speed(1, SPEED, steps),
    })
    ratios = [b / a for a, b in zip(values["plain"], values["one rank"])]
    bench.save("overhead", {"tokens_per_second": values, "ratios": ratios})
    table([["program", "tokens/s", "range", "of the plain program"]] +
          [[name, f"{statistics.median(v):,.0f}", spread(v),
            "1" if name == "plain" else f"{statistics.median(ratios):.3f}"] for name, v in values.items()])


def predict(bench, data, expert, limits, efficiency, exact=False, chunks=0):
    ranks = data * expert
    command = [bench.a.mixt, "info", STEP_SHAPE, "--plan", "train", "--ranks", str(ranks), "--data-parallel", str(data),
               "--accumulation", str(RUNS * ranks), "-b", "4", "--window", "256", "--optimizer", "adamw",
               "--flops", f"{limits['fp32_flops']:.6g}", "--bandwidth", f"{limits['read_bytes']:.6g}",
               "--efficiency", f"{efficiency:.4f}", "--network", f"{8 * limits['network_bytes']:.6g}",
               "--latency", f"{1e6 * limits['latency']:.4g}", "--delay", f"{1e6 * limits.get('delay', 0):.4g}",
               "--json"]
    command += ["--exchange-chunks", str(chunks)] if chunks > 0 else []
    return json.loads(run(command + ["--exact-reduce"] * exact).stdout)


def step(bench, data=1, expert=1, exact=False, core=None, steps=9, chunks=0):
    """Tokens a second of steps with a core for each rank."""
    command = [bench.a.programs + "/ranks_step", STEP_SHAPE, str(data), str(expert), str(RUNS), str(steps),
               "exact" if exact else "usual", "1", str(chunks)]
    if data * expert == 1:
        command = ["taskset", "-c", str(core or 0), *command]
    else:
        command = bench.launch(data * expert, command, data * expert <= os.cpu_count())
    return json.loads(bench.timed(command, env=bench.environment).stdout)["tokens_per_second"]


def side_by_side(bench):
    """Two that know nothing of each other, on a core each, together."""
    one = shlex.join([bench.a.programs + "/ranks_step", STEP_SHAPE, "1", "1", str(RUNS), "9"])
    lines = bench.timed(["sh", "-c", f"taskset -c 0 {one} & taskset -c 1 {one}; wait"]).stdout.splitlines()
    return sum(json.loads(line)["tokens_per_second"] for line in lines)


def network(bench, ranks=2):
    """Bytes a second and seconds of a message between ranks, with a core each where there are as many."""
    pinned = ranks <= os.cpu_count()
    found = [json.loads(bench.timed(bench.launch(ranks, [bench.a.programs + "/network"], pinned),
                                    env=bench.environment).stdout) for _ in range(bench.a.rounds)]
    return {key: statistics.median(f[key] for f in found) for key in found[0]}


def core_limits(bench):
    """Of one core, and the share of them that a rank alone on it reaches."""
    limits = json.loads(bench.timed(["taskset", "-c", "0", bench.a.mixt, "info", "--machine", "--json"]).stdout)
    alone = statistics.median(step(bench) for _ in range(3))
    at_limits = predict(bench, 1, 1, limits | {"network_bytes": 1e9, "latency": 0}, 1)
    return limits, min(1.0, at_limits["step_seconds"] / (at_limits["tokens"] / alone))


def scaling(bench):
    limits, efficiency = core_limits(bench)
    limits |= network(bench)
    predicted = {"2 x 1": predict(bench, 2, 1, limits, efficiency), "1 x 2": predict(bench, 1, 2, limits, efficiency)}
    print(f"predicted before: {({n: round(p['efficiency'], 3) for n, p in predicted.items()})}, operators reach "
          f"{efficiency:.2f} of the limits; network {limits['network_bytes'] / 1e9:.2f} GB/s, "
          f"{1e6 * limits['latency']:.2f} us", flush=True)
    values = bench.rounds({
        "one": lambda: step(bench),
        "side by side": lambda: side_by_side(bench),
        "2 x 1": lambda: step(bench, 2, 1),
        "1 x 2": lambda: step(bench, 1, 2),
    })
    shares = {name: [v / (2 * a) for a, v in zip(values["one"], values[name])] for name in list(values)[1:]}
    bench.save("scaling", {"tokens_per_second": values, "efficiency": shares, "limits": limits, "reached": efficiency,
                           "predicted": predicted})
    table([["ranks", "tokens/s", "range", "of twice one", "predicted"]] +
          [[name, f"{statistics.median(v):,.0f}", spread(v),
            f"{statistics.median(shares[name]):.3f}" if name in shares else "",
            f"{predicted[name]['efficiency']:.3f}" if name in predicted else ""] for name, v in values.items()])


CROWDS = [(4, 1), (2, 2), (1, 4), (8, 1), (4, 2), (2, 4), (1, 8)]


def crowded(bench):
    core, efficiency = core_limits(bench)
    limits, predicted = {}, {}
    for ranks in sorted({data * expert for data, expert in CROWDS}):
        share = min(1.0, os.cpu_count() / ranks)
        limits[ranks] = core | {key: share * core[key] for key in ("fp32_flops", "read_bytes")} | network(bench, ranks)
        print(f"{ranks} ranks, {share:g} of a core each: {limits[ranks]['network_bytes'] / 1e9:.2f} GB/s, "
              f"{1e6 * limits[ranks]['latency']:.2f} us", flush=True)
    for data, expert in CROWDS:
        predicted[f"{data} x {expert}"] = predict(bench, data, expert, limits[data * expert], efficiency)
    per_second = {name: p["tokens"] / p["step_seconds"] for name, p in predicted.items()}
    print(f"predicted before: {({n: round(v) for n, v in per_second.items()})} tokens/s, operators reach "
          f"{efficiency:.2f} of the limits", flush=True)
    values = bench.rounds({"one": lambda: step(bench, steps=5)} |
                          {f"{d} x {e}": (lambda d=d, e=e: step(bench, d, e, steps=5)) for d, e in CROWDS})
    bench.save("crowded", {"tokens_per_second": values, "limits": limits, "reached": efficiency,
                           "predicted": predicted})
    table([["ranks", "tokens/s", "range", "predicted", "measured of predicted"]] +
          [[name, f"{statistics.median(values[name]):,.0f}", spread(values[name]), f"{said:,.0f}",
            f"{statistics.median(values[name]) / said:.3f}"] for name, said in per_second.items()])


MESSAGE = 2e-5 # of a processor, over TCP


def apart(bench):
    limits, efficiency = core_limits(bench)
    limits |= {"network_bytes": bench.a.network / 8, "latency": MESSAGE, "delay": 1e-6 * bench.a.delay}
    cases = {"2 x 1": (2, 1, 0)} | {f"1 x 2, {c} chunks": (1, 2, c) for c in (1, 2, 4)}
    predicted = {name: predict(bench, d, e, limits, efficiency, chunks=c) for name, (d, e, c) in cases.items()}
    said = {name: p["tokens"] / p["step_seconds"] for name, p in predicted.items()}
    print(f"predicted before: {({n: round(v) for n, v in said.items()})} tokens/s, operators reach "
          f"{efficiency:.2f} of the limits", flush=True)
    values = bench.rounds({name: (lambda d=d, e=e, c=c: step(bench, d, e, steps=5, chunks=c))
                           for name, (d, e, c) in cases.items()})
    bench.save(f"apart-{bench.a.delay:g}us{bench.a.label}",
               {"tokens_per_second": values, "limits": limits, "reached": efficiency, "predicted": predicted})
    table([["ranks", "tokens/s", "range", "predicted", "measured of predicted"]] +
          [[name, f"{statistics.median(v):,.0f}", spread(v), f"{said[name]:,.0f}",
            f"{statistics.median(v) / said[name]:.3f}"] for name, v in values.items()])


def exact(bench):
    cases = {"one": (1, 1), "2 x 1": (2, 1), "1 x 2": (1, 2), "2 x 2": (2, 2)} # the last on half a core each
    values = bench.rounds({name + kind: (lambda s=split, e=bool(kind): step(bench, *s, exact=e))
                           for name, split in cases.items() for kind in ("", ", exact")})
    ratios = {name: [e / u for u, e in zip(values[name], values[name + ", exact"])] for name in cases}
    bench.save("exact", {"tokens_per_second": values, "ratios": ratios})
    table([["ranks", "tokens/s", "exact", "ratio"]] +
          [[name, f"{statistics.median(values[name]):,.0f}", f"{statistics.median(values[name + ', exact']):,.0f}",
            f"{statistics.median(ratios[name]):.3f}"] for name in cases])


SPLITS = [(1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (8, 1), (4, 2), (2, 4), (1, 8)]


def curves(bench):
    found = {}
    for flag in ("", " --exact-reduce"):
        for data, expert in SPLITS:
            ranks = data * expert
            more = f"--steps {bench.a.steps} --threads 1{flag}"
            more += f" --data-parallel {data} --expert-parallel {expert}" if ranks > 1 else ""
            out, command = bench.train_command(CURVES, more)
            bench.timed(bench.launch(ranks if ranks > 1 else 0, command))
            lines = bench.losses(out)
            found[f"{data} x {expert}{flag}"] = [line["loss"] for line in lines]
    rows = [["D x E", "first loss", "last loss", "largest difference from one rank", "at step"]]
    results = {}
    for name, losses in found.items():
        one = found["1 x 1 --exact-reduce" if "exact" in name else "1 x 1"]
        assert len(losses) == len(one) == bench.a.steps, name
        apart = [abs(a - b) for a, b in zip(one, losses)]
        results[name] = {"losses": losses, "largest_difference": max(apart)}
        rows.append([name, f"{losses[0]:.6f}", f"{losses[-1]:.6f}", f"{max(apart):.3g}",
                     apart.index(max(apart)) + 1 if max(apart) > 0 else ""])
    bench.save("curves", {"steps": bench.a.steps, "curves": results})
    table(rows)
    exact_apart = max(r["largest_difference"] for n, r in results.items() if "exact" in n)
    usual_apart = max(r["largest_difference"] for r in results.values())
    print(f"\nlargest difference {usual_apart:.3g}, with --exact-reduce {exact_apart:.3g}")
    return exact_apart == 0 and usual_apart < bench.a.allowed


def generate(bench):
    out, command = bench.train_command(SPEED, "--accumulation 4 --steps 30 --threads 2")
    run(command)
    model = str(out / "model")
    asked = [bench.a.mixt, "run", "-m", model, "-p", "The licence", "-n", "128", "--temp", "0", "--threads", "1"]

    def speed(ranks):
        done = bench.timed(bench.launch(ranks, asked, ranks > 1))
        texts.setdefault(ranks, done.stdout)
        assert texts[ranks] == done.stdout
        return float(re.search(r"generated: .*?([\d,.]+) tokens/s", done.stderr).group(1).replace(",", ""))

    texts = {}
    values = bench.rounds({"one": lambda: speed(0), "2 ranks": lambda: speed(2)})
    same = texts[0] == texts[2]
    bench.save("run", {"tokens_per_second": values, "same_text": same})
    table([["ranks", "tokens/s", "range"]] +
          [[name, f"{statistics.median(v):,.1f}", spread(v)] for name, v in values.items()])
    print(f"\nthe same text: {'yes' if same else 'NO'}")
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--mixt", default=str(ROOT / "build/release/mixt"))
    parser.add_argument("--programs", default=str(ROOT / "build/release/bench"), help="folder of ranks_step, network")
    parser.add_argument("--launcher", help="command that starts {ranks} of what follows")
    parser.add_argument("--pinned", help="the same with a core for each")
    parser.add_argument("--wrap", default="", help="command before every timed one")
    parser.add_argument("--network", type=float, default=1e9, help="of apart: bits a second")
    parser.add_argument("--delay", type=float, default=500, help="of apart: microseconds")
    parser.add_argument("--label", default="", help="of apart: behind the name of its raw values")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of curves")
    parser.add_argument("--allowed", type=float, default=0.01, help="difference of losses that curves may have")
    a = parser.parse_args()
    if a.launcher is None and shutil.which("mpirun"):
        root = " --allow-run-as-root" if os.getuid() == 0 else ""
        a.launcher = "mpirun" + root + " --oversubscribe --bind-to none -n {ranks}"
        a.pinned = a.pinned or "mpirun" + root + " --bind-to core -n {ranks}"
    a.launcher = a.launcher or str(ROOT / "build/release/tests/launch") + " -n {ranks}"
    a.pinned = a.pinned or a.launcher
    every = {"overhead": overhead, "scaling": scaling, "crowded": crowded, "exact": exact, "curves": curves,
             "run": generate}
    known = every | {"apart": apart}
    unknown = [name for name in a.names if name not in known]
    if unknown:
        parser.error(f"{unknown[0]}: not one of {' '.join(known)}")
    good = True
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        bench = Bench(a, folder)
        for name in a.names or every:
            print(f"\n{name}: {machine()}", flush=True)
            good = known[name](bench) is not False and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
