#!/usr/bin/env python3
"""mixt and llama.cpp on the same GGUF files: prompt processing, generation, loading, memory.

    bench/speed_versus_llama_cpp.py --peer LLAMA_CPP/build/bin FILE.gguf ... [--rounds 5]

Rounds interleave the programs (and which of them goes first); medians are compared, ratios are
taken round by round. `--peer` may be given several times (NAME=FOLDER of a llama-bench, of
llama.cpp or ik_llama.cpp). A peer that does not open a file is left out of its table.

Shares are of what `mixt bench` measures of the machine at the start of each of its runs:
generation, of the bytes that a token reads over the read bandwidth; prompts, of multiply-adds over
the peak of 8-bit products (files of less than 15 bits a weight) or of fp32. Bytes and operations
are mixt's count for the same work, for the peers too (cache included, in the type of `--cache-type`).

`--depth N` puts N tokens in the context before each test; ik_llama.cpp has that for generation
only. Loading is measured as one generated token, files in the page cache, with the greatest
resident memory of the process.
"""
import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time

NAN = float("nan")


def run(command):
    """The JSON that a command prints, or None with its last words if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
    try:
        return (json.loads(done.stdout) if done.returncode == 0 else None), words
    except ValueError:
        return None, words


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
        return NAN, NAN
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def prefix(options):
    return shlex.split(options.wrap) + (["chrt", "-r", "5"] if options.priority else [])


def machine():
    name = platform.processor()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return {"cpu": name, "cores": os.cpu_count(), "system": platform.platform()}


def commit(folder):
    done = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip()


class Mixt:
    name = "mixt"

    def __init__(self, options):
        self.options = options
        # of the program, where it lies in its tree; else of the tree of this script
        self.commit = (commit(os.path.dirname(os.path.realpath(options.mixt)))
                       or commit(os.path.dirname(os.path.realpath(__file__))))

    def load(self, file):
        return [self.options.mixt, "bench", "-m", file, "--no-limits", "-p", "0", "-n", "1", "-r",
                "1", "-t", str(self.options.threads)]

    def command(self, file):
        o = self.options
        words = [o.mixt, "bench", "-m", file, "-p", str(o.prompt), "-n", str(o.generate), "-r",
                 str(o.repetitions), "-t", str(o.threads), "-o", "json"]
        words += ["-d", str(o.depth)] if o.depth > 0 else []
        words += ["-ctk", o.cache_type, "-ctv", o.cache_type] if o.cache_type else []
        words += ["--cpu", o.cpu] if o.cpu else []
        return words + shlex.split(o.mixt_flags)

    def measure(self, file):
        rows, words = run(prefix(self.options) + self.command(file))
        if rows is None:
            sys.exit(f"{' '.join(self.command(file))}: " + "\n".join(words))
        sample = {"prompt": NAN, "generate": NAN, "raw": rows}
        bits = 8 * os.path.getsize(file) / rows[0]["params"]
        for row in rows:
            wide = bits >= 15 or row.get("machine_int8_ops", 0) == 0
            sample["read_bytes"] = row["machine_read_bytes"]
            if row["n_gen"] > 0:
                sample["generate"] = row["tokens_per_second"]
                sample["bytes_per_token"] = row["bytes"] / row["n_gen"]
            else:
                sample["prompt"] = row["tokens_per_second"]
                sample["flops_per_token"] = row["flops"] / row["n_prompt"]
                sample["peak"] = row["machine_flops"] if wide else row["machine_int8_ops"]
        return sample


class Peer:
    def __init__(self, options, text):
        self.options = options
        self.name, folder = text.split("=", 1) if "=" in text else ("llama.cpp", text)
        self.program = os.path.join(folder, "llama-bench")
        done = subprocess.run([self.program, "--help"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        self.has_depth = b"--n-depth" in done.stdout
        self.commit = ""

    def load(self, file):
        return [self.program, "-m", file, "-p", "0", "-n", "1", "-r", "1", "-t",
                str(self.options.threads)]

    def command(self, file):
        o = self.options
        prompt, generate = str(o.prompt), str(o.generate)
        if o.depth > 0 and self.has_depth:
            tests = ["-p", prompt, "-n", generate, "-d", str(o.depth)]
        elif o.depth > 0:
            tests = ["-p", "0", "-n", "0", "-gp", f"{o.depth},{generate}"]
        else:
            tests = ["-p", prompt, "-n", generate]
        words = [self.program, "-m", file, *tests, "-r", str(o.repetitions), "-t", str(o.threads),
                 "-o", "json"]
        if o.cache_type:
            words += ["-fa", "1", "-ctk", o.cache_type, "-ctv", o.cache_type]
        elif o.depth > 0:
            words += ["-fa", "1"]
        return words + shlex.split(o.peer_flags)

    def measure(self, file):
        rows, words = run(prefix(self.options) + self.command(file))
        if rows is None:
            print(f"{self.name} {os.path.basename(file)}: " + "\n".join(words), file=sys.stderr)
            return None
        sample = {"prompt": NAN, "generate": NAN,
                  "raw": [{key: row.get(key) for key in ("n_prompt", "n_gen", "n_depth", "type_k",
                                                         "flash_attn", "samples_ns", "samples_ts")}
                          for row in rows]}
        for row in rows:
            self.commit = row.get("build_commit", "")
            sample["generate" if row["n_gen"] > 0 else "prompt"] = row["avg_ts"]
        return sample


def shares(sample, ours):
    """Speed over what the machine allows in the same round."""
    if "peak" in ours:
        sample["prompt_share"] = sample["prompt"] * ours["flops_per_token"] / ours["peak"]
    if "bytes_per_token" in ours:
        sample["generate_share"] = (sample["generate"] * ours["bytes_per_token"]
                                    / ours["read_bytes"])


def middle(values):
    known = [value for value in values if value == value]
    return statistics.median(known) if known else NAN


def show(value, form):
    return format(value, form) if value == value else ""


def measure_file(options, programs, file):
    """One list of samples for each program that opens the file; turns go back and forth."""
    found = {program.name: [] for program in programs}
    closed = set()
    for turn in range(options.rounds):
        for program in programs if turn % 2 == 0 else programs[::-1]:
            if program.name in closed:
                continue
            sample = program.measure(file)
            if sample is None:
                closed.add(program.name)
                continue
            found[program.name].append(sample)
            print(f"round {turn + 1} {os.path.basename(file)} {program.name}: pp"
                  f" {show(sample['prompt'], '.1f')} tg {show(sample['generate'], '.2f')}",
                  file=sys.stderr)
        for samples in found.values():
            if samples:
                shares(samples[-1], found["mixt"][-1])
    return {name: samples for name, samples in found.items() if samples}


def row_of(options, file, program, found):
    samples, ours = found[program.name], found["mixt"]
    cells = [os.path.basename(file), program.name]
    for test in ("prompt", "generate"):
        ratio = middle([own[test] / their[test] for own, their in zip(ours, samples)])
        cells += [show(middle([s[test] for s in samples]), ".1f"),
                  show(ratio, ".2f") if program.name != "mixt" else "",
                  show(middle([s.get(test + "_share", NAN) for s in samples]), ".0%")]
    cells.append(show(middle([s["read_bytes"] / 1e9 for s in samples]), ".1f")
                 if program.name == "mixt" else "")
    if options.load:
        seconds, memory = resident(prefix(options) + program.load(file))
        cells += [show(seconds, ".1f"), show(memory / 1e9, ".1f")]
    return "| " + " | ".join(cells) + " |"


def save(options, programs, results):
    about = {"script": "bench/speed_versus_llama_cpp.py",
             "arguments": sys.argv[1:],
             "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
             "machine": machine(),
             "commits": {program.name: program.commit for program in programs},
             "commands": {program.name: " ".join(program.command("FILE")) for program in programs},
             "files": results}
    text = json.dumps(about, indent=1, allow_nan=True).replace("NaN", "null")
    with open(options.save, "w", encoding="utf-8") as output:
        output.write(text + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--peer", action="append", default=[], help="[NAME=]FOLDER of llama-bench")
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512, help="tokens; 0: no prompts")
    parser.add_argument("--generate", type=int, default=64, help="tokens; 0: no generation")
    parser.add_argument("--depth", type=int, default=0, help="tokens in the context before each test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1, help="of each test in one run")
    parser.add_argument("--cache-type", choices=["f32", "f16", "bf16", "q8_0"],
                        help="of keys and values, on all sides (with -fa 1 there)")
    parser.add_argument("--cpu", help="mixt's tier: avx2, avx512, ...")
    parser.add_argument("--mixt-flags", default="", help="more flags for mixt bench")
    parser.add_argument("--peer-flags", default="", help="more flags for llama-bench")
    parser.add_argument("--priority", action="store_true", help="all programs under chrt -r 5")
    parser.add_argument("--wrap", default="", help="a command to put before each program")
    parser.add_argument("--load", action="store_true", help="also loading time and memory")
    parser.add_argument("--save", metavar="FILE", help="raw samples, machine and commands as JSON")
    return parser.parse_args()


def main():
    options = parse()
    programs = [Mixt(options)] + [Peer(options, text) for text in options.peer]
    behind = f" @ {options.depth}" if options.depth > 0 else ""
    print(f"| file | program | pp{options.prompt}{behind} t/s | ratio | of peak |"
          f" tg{options.generate}{behind} t/s | ratio | of reads | read GB/s |"
          + (" load s | memory GB |" if options.load else ""))
    print("|---|---|---|---|---|---|---|---|---|" + ("---|---|" if options.load else ""))
    results = []
    for file in options.files:
        found = measure_file(options, programs, file)
        results.append({"file": os.path.basename(file), "bytes": os.path.getsize(file),
                        "samples": found})
        if options.save:
            save(options, programs, results)
        for program in programs:
            if program.name in found:
                print(row_of(options, file, program, found), flush=True)


if __name__ == "__main__":
    main()
