#!/usr/bin/env python3
"""Models larger than memory: mixt's store, mixt mapping the file, and llama.cpp, in a cgroup.

    bench/larger_than_memory.py FILE.gguf ... [--share 60 40] [--peer build/release/bench/text_speed_llama]

Each run has a cgroup of a share of the file's size and begins with none of the file in the page
cache. Runs are interleaved, and which program goes first alternates; medians are printed. All
programs get the same tokens: a prompt, then tokens one at a time (bench/text_speed.c,
bench/text_speed_llama.c); those of --text where the file has a tokenizer, else random ids. Bytes are
those that the kernel counts for the process (/proc/PID/io). In the same minute the disk is
measured: direct reads of the file at random places, of --piece MiB, --depth at a time. What the disk
allows is that speed over the bytes that the store's misses are, at the hit rate that it had and at
that of the optimum (Belady's, which knows the future) on the same requests.

`busy` is the share of the time in which the store had reads under way. With --tokens 0 the table is of
prompts (the second of two alike: the first pays for clearing the pool's memory), beside the time of reading the file once at the disk's speed and (program `memory`: no
limit, the file in the page cache) of the arithmetic alone.

--disk-limit MB/S measures as on a slower disk: the kernel lets no more through.

Making cgroups and dropping caches may need root. What is missing is left out and named.
"""
import argparse
import ctypes
import datetime
import fcntl
import json
import mmap
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time

NAN = float("nan")


def say(text):
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------ the machine

def put(folder, name, value):
    """A setting of a cgroup."""
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(str(value))


class Group:
    """A cgroup with a limit of memory: version 1 where the memory controller has a mount of its own."""

    def __init__(self):
        name = f"mixt-{os.getpid()}"
        self.v1 = os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes") or os.path.exists(
            "/sys/fs/cgroup/memory/cgroup.procs")
        if self.v1:
            self.path = f"/sys/fs/cgroup/memory/{name}"
        else:
            with open("/proc/self/cgroup", encoding="utf-8") as lines:
                own = lines.read().strip().split("::")[-1].strip("/")
            parent = os.path.join("/sys/fs/cgroup", os.path.dirname(own))
            self.path = os.path.join(parent, name)
        try:
            os.mkdir(self.path)
        except OSError as failure:
            sys.exit(f"{self.path}: {failure.strerror}: a cgroup with a limit of memory is needed"
                     " (as root, or under systemd-run --user --scope -p Delegate=yes)")

    def write(self, name, value):
        put(self.path, name, value)

    def limit(self, size):
        if self.v1:
            try:
                self.write("memory.force_empty", 0)
            except OSError:
                pass
            self.write("memory.limit_in_bytes", size)
        else:
            self.write("memory.max", size)
            try:
                self.write("memory.swap.max", 0)
            except OSError:
                pass

    def enter(self):
        """In the child, before the program begins."""
        self.write("cgroup.procs", os.getpid())

    def peak(self):
        name = "memory.max_usage_in_bytes" if self.v1 else "memory.peak"
        try:
            with open(os.path.join(self.path, name), encoding="utf-8") as file:
                return int(file.read())
        except OSError:
            return 0

    def reset(self):
        try:
            self.write("memory.max_usage_in_bytes" if self.v1 else "memory.peak", 0)
        except OSError:
            pass

    def remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


class SlowDisk:
    """All reads of the file's disk together no faster than so many bytes a second: the block
    throttle of cgroup version 1, which this program enters with all that it starts."""

    def __init__(self, path, speed):
        root = "/sys/fs/cgroup/blkio"
        self.root, self.path = root, f"{root}/mixt-{os.getpid()}"
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        whole = os.path.realpath(f"/sys/dev/block/{number}")
        if os.path.exists(os.path.join(whole, "partition")):  # limits are of whole disks
            with open(os.path.join(os.path.dirname(whole), "dev"), encoding="utf-8") as file:
                number = file.read().strip()
        try:
            os.mkdir(self.path)
            put(self.path, "blkio.throttle.read_bps_device", f"{number} {speed}")
            put(self.path, "cgroup.procs", os.getpid())
        except OSError as failure:
            sys.exit(f"--disk-limit: {self.path}: {failure.strerror}: the blkio controller of cgroup"
                     " version 1 is needed, as root")

    def remove(self):
        put(self.root, "cgroup.procs", os.getpid())
        os.rmdir(self.path)


def forget(path):
    """No page of the file stays in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def disk_speed(path, options):
    """Bytes a second of direct reads at random places, into large pages: small ones are segments
    of their own for some disks, which are then three times as slow."""
    piece, depth = options.piece << 20, options.depth
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    pieces = os.path.getsize(path) // piece
    large = 2 << 20
    memory = mmap.mmap(-1, depth * piece + large, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    begin = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % large
    buffers = [memoryview(memory)[begin + i * piece:begin + (i + 1) * piece] for i in range(depth)]
    for buffer in buffers:
        buffer[::4096] = bytes(len(buffer[::4096]))
    done = [0] * depth
    stop = time.monotonic() + options.disk_seconds

    def read(worker):
        if options.priority:  # of this thread
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
        place = random.Random(worker)
        while time.monotonic() < stop:
            done[worker] += os.preadv(descriptor, [buffers[worker]], place.randrange(pieces) * piece)

    begin = time.monotonic()
    workers = [threading.Thread(target=read, args=(i,)) for i in range(depth)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.close(descriptor)
    return sum(done) / (time.monotonic() - begin)


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines
                        if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def commit():
    folder = os.path.dirname(os.path.realpath(__file__))
    done = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip()


# ------------------------------------------------------------------------------ programs

def programs_of(options):
    """Name -> words behind the common arguments, with the program before them."""
    found = {}
    for name in options.programs:
        if name == "llama.cpp":
            if options.peer and os.access(options.peer, os.X_OK):
                found[name] = (options.peer, [])
            else:
                say("llama.cpp is left out: --peer names no program (make bench-text-llama)")
        elif name in ("mapped", "memory"):
            found[name] = (options.speed, ["none"])
        else:  # mixt, or mixt:POLICY[:PREFETCH]
            parts = name.split(":")
            words = ["auto"] + (parts[1:2] or ["-"]) + (parts[2:3] or ["measured"])
            found[name] = (options.speed, words)
    if not os.access(options.speed, os.X_OK):
        sys.exit(f"{options.speed} is not there: make bench-build")
    return found


def write_ids(options, file, path):
    """Ids of the text where the file has a tokenizer; says whether it does."""
    wanted = max(options.prompt) + options.tokens + options.skip + 1
    ids = []
    if options.text:
        done = subprocess.run([options.mixt, "tokenize", "-m", file, "-f", options.text],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        ids = done.stdout.decode().split() if done.returncode == 0 else []
    real = len(ids) >= wanted
    if not real:
        done = subprocess.run([options.mixt, "info", file, "--json"], stdout=subprocess.PIPE,
                              check=True)
        vocab = json.loads(done.stdout)["vocab_size"]
        draw = random.Random(1)
        ids = [str(draw.randrange(vocab)) for _ in range(wanted)]
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(ids[options.skip:]) + "\n")
    return real


def warm(path):
    """The whole file is in the page cache, where it fits."""
    buffer = bytearray(8 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def refresh():
    """Memory as after a start: nothing cached, large pages to be had. As root."""
    for name in ("drop_caches", "compact_memory"):
        with open(f"/proc/sys/vm/{name}", "w", encoding="utf-8") as file:
            file.write("1")


def run(options, group, program, file, ids, counts, size):
    """One run within the limit (None: without one); a sample, or what failed."""
    path, words = program
    if size and options.margin and words[:1] == ["auto"]:
        words = [str(size - (options.margin << 20))] + words[1:]
    group.limit(size or 1 << 50)
    group.reset()
    if options.fresh:
        refresh()
    if size:
        forget(file)
    else:
        warm(file)
    command = (["chrt", "-r", "5"] if options.priority else []) + [
        path, file, ids, str(counts[0]), str(counts[1]), str(options.threads)] + words
    speed = disk_speed(file, options)
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              preexec_fn=group.enter, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        say(f"{os.path.basename(path)}: no end after {options.timeout} s")
        return {"failed": f"longer than {options.timeout} s", "disk": speed}
    wall = time.monotonic() - begin
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-2:]
        say(f"{os.path.basename(path)}: status {done.returncode} " + " ".join(words))
        return {"failed": f"status {done.returncode}: " + " ".join(words), "disk": speed}
    sample = json.loads(done.stdout)
    if options.reports:
        sys.stderr.write(done.stderr.decode(errors="replace"))
    speed = statistics.mean([speed, disk_speed(file, options)])
    if options.disk_limit:  # the throttle lets a burst through at first
        speed = min(speed, options.disk_limit * 1e6)
    return dict(sample, disk=speed, wall=wall, peak=group.peak(), limit=size)


class Lock:
    """One timed run on this machine at a time; afterwards others have as long."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        if self.path:
            self.file = open(self.path, "w", encoding="utf-8")
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self.begin = time.monotonic()

    def __exit__(self, *_):
        if self.path:
            time.sleep(min(20.0, time.monotonic() - self.begin))
            self.file.close()


# ------------------------------------------------------------------------------ tables

def middle(values):
    known = [value for value in values if value == value]
    return statistics.median(known) if known else NAN


def show(value, form):
    return format(value, form) if value == value else ""


def derive(sample):
    """Speeds and shares of one run."""
    if "failed" in sample:
        return {}
    found = {"prompt": sample["prompt_tokens"] / sample["prompt_seconds"]
             if sample["prompt_tokens"] else NAN}
    tokens = sample["tokens"]
    if tokens == 0:
        return found
    found["rate"] = tokens / sample["seconds"]
    found["bytes"] = sample["bytes"] / tokens
    store = sample.get("store")
    if store and store["requests"] > 0:
        each = store["expert_bytes"] / store["experts"]
        wanted = store["requests"] / tokens * each
        # what a prefetch brought was read too
        hits = (store["hits"] - store["prefetch_used"]) / store["requests"]
        found["hits"] = hits
        found["busy"] = store["disk_seconds"] / store["seconds"]
        if hits < 1:
            found["share"] = found["rate"] * wanted * (1 - hits) / sample["disk"]
        known = sample.get("simulated", {})
        for name in ("lru", "lfu", "optimum", "own", "uniform"):
            found[name] = known.get(name, NAN)
        if found["optimum"] < 1:
            found["share_optimum"] = found["rate"] * wanted * (1 - found["optimum"]) / sample["disk"]
    return found


def row_of(file, share, name, samples, base):
    figures = [derive(sample) for sample in samples]

    def take(key):
        return middle([figure.get(key, NAN) for figure in figures])

    rate = take("rate")
    cells = [os.path.basename(file), f"{share} %", name, show(rate, ".2f"),
             show(rate / base if base else NAN, ".2f"), show(take("bytes") / 1e9, ".3f"),
             show(middle([sample["disk"] for sample in samples]) / 1e9, ".2f"),
             show(take("hits"), ".1%"), show(take("lru"), ".1%"), show(take("lfu"), ".1%"),
             show(take("optimum"), ".1%"), show(take("uniform"), ".1%"), show(take("share"), ".0%"),
             show(take("share_optimum"), ".0%"), show(take("busy"), ".0%"),
             show(middle([sample.get("prompt_seconds", NAN) for sample in samples]), ".1f"),
             show(middle([sample.get("peak", NAN) for sample in samples]) / 1e9, ".2f")]
    failed = [sample["failed"] for sample in samples if "failed" in sample]
    return "| " + " | ".join(cells) + " |" + (f" {failed[0]}" if failed else "")


def prompt_row(file, share, name, samples):
    """Of a prompt: beside reading the file once at the speed that the disk had around the run."""
    good = [sample for sample in samples if "failed" not in sample]
    seconds = middle([sample["prompt_seconds"] for sample in good])
    once = middle([os.path.getsize(file) / sample["disk"] for sample in good])
    ratio = middle([sample["prompt_seconds"] * sample["disk"] / os.path.getsize(file)
                    for sample in good])
    cells = [os.path.basename(file), f"{share} %" if name != "memory" else "all", name,
             str(good[0]["prompt_tokens"]) if good else "", show(seconds, ".1f"),
             show(middle([sample["prompt_tokens"] / sample["prompt_seconds"] for sample in good]),
                  ".1f"),
             show(middle([sample["prompt_bytes"] for sample in good]) / 1e9, ".2f"),
             show(os.path.getsize(file) / 1e9, ".2f"), show(once, ".1f"), show(ratio, ".2f")]
    failed = [sample["failed"] for sample in samples if "failed" in sample]
    return "| " + " | ".join(cells) + " |" + (f" {failed[0]}" if failed else "")


def header(options):
    if options.tokens == 0:
        print("| file | memory | program | tokens | s | t/s | GB read | GB of the file | s of reading it"
              " once | ratio |")
        print("|---" * 10 + "|")
        return
    print("| file | memory | program | t/s | of llama.cpp | GB a token | disk GB/s | hits | LRU | LFU"
          " | optimum | uniform | of the disk's limit | at the optimum's hits | busy | prompt s | peak GB |")
    print("|---" * 17 + "|")


def save(options, results):
    about = {"script": "bench/larger_than_memory.py", "arguments": sys.argv[1:],
             "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
             "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
             "commit": commit(), "results": results}
    with open(options.save, "w", encoding="utf-8") as output:
        output.write(json.dumps(about, indent=1).replace("NaN", "null") + "\n")


def one(options, group, program, file, ids, counts):
    """One run of the program named, said as it is done."""
    name, share = program[0], counts[2]
    size = None if name == "memory" else os.path.getsize(file) * share // 100
    sample = run(options, group, program[1], file, ids, counts, size)
    figures = derive(sample)
    say(f"{os.path.basename(file)} {share} % {name}: {show(figures.get('rate', NAN), '.2f')} t/s"
        f" {show(figures.get('bytes', NAN) / 1e9, '.3f')} GB a token, hits"
        f" {show(figures.get('hits', NAN), '.1%')}, prompt"
        f" {show(sample.get('prompt_seconds', NAN), '.1f')} s, disk {sample['disk'] / 1e9:.2f} GB/s")
    return sample


def measure(options, group, file, share, prompt):
    """Samples by program; one round is one holding of the lock."""
    programs = programs_of(options)
    found = {name: [] for name in programs}
    ids = os.path.join(options.scratch, f"ids-{os.getpid()}")
    real = write_ids(options, file, ids)
    names = list(programs)
    for turn in range(options.rounds):
        with Lock(options.lock):
            for name in names if turn % 2 == 0 else names[::-1]:
                slow = name in ("mapped", "llama.cpp")
                tokens = min(options.tokens, options.slow_tokens) if slow else options.tokens
                if any("failed" in sample for sample in found[name]) or (
                        slow and turn >= options.slow_rounds):
                    continue
                found[name].append(one(options, group, (name, programs[name]), file, ids,
                                       (prompt, tokens, share)))
    os.remove(ids)
    return found, real


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--programs", nargs="+", default=["mixt", "mapped", "llama.cpp"],
                        help="of: mixt[:POLICY[:PREFETCH]], mapped, llama.cpp")
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--speed", default="build/release/bench/text_speed")
    parser.add_argument("--peer", default="build/release/bench/text_speed_llama")
    parser.add_argument("--share", nargs="+", type=int, default=[60, 40],
                        help="of the file's size that the cgroup may have, percent")
    parser.add_argument("--prompt", nargs="+", type=int, default=[64], help="tokens")
    parser.add_argument("--tokens", type=int, default=32, help="behind the prompt, one at a time")
    parser.add_argument("--margin", type=int, default=0, metavar="MIB",
                        help="--memory of mixt is the limit less this; 0: auto")
    parser.add_argument("--slow-tokens", type=int, default=1 << 30,
                        help="no more of them for mapped and llama.cpp")
    parser.add_argument("--slow-rounds", type=int, default=1 << 30, help="for them")
    parser.add_argument("--text", help="a file with text, for models with a tokenizer")
    parser.add_argument("--skip", type=int, default=0, help="tokens of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--piece", type=int, default=2, help="MiB of a read in measuring the disk")
    parser.add_argument("--depth", type=int, default=8, help="of them at a time")
    parser.add_argument("--disk-seconds", type=float, default=1.0)
    parser.add_argument("--disk-limit", type=int, default=0, metavar="MB/S",
                        help="the disk is made as slow as that; 0: as it is")
    parser.add_argument("--timeout", type=float, default=110)
    parser.add_argument("--fresh", action="store_true",
                        help="before each run drop the whole page cache and make large pages")
    parser.add_argument("--priority", action="store_true", help="all programs under chrt -r 5")
    parser.add_argument("--lock", help="a file that is locked during each run")
    parser.add_argument("--reports", action="store_true", help="also the store's reports")
    parser.add_argument("--scratch", default="/tmp", help="folder for files of ids")
    parser.add_argument("--save", metavar="FILE", help="raw samples, machine and commands as JSON")
    return parser.parse_args()


def main():
    options = parse()
    group = Group()
    slow = SlowDisk(options.files[0], options.disk_limit * 1000000) if options.disk_limit else None
    results = []
    try:
        header(options)
        for file in options.files:
            if not os.path.exists(file):
                say(f"{file} is left out: not there")
                continue
            for share in options.share:
                for prompt in options.prompt:
                    found, real = measure(options, group, file, share, prompt)
                    results.append({"file": os.path.basename(file), "bytes": os.path.getsize(file),
                                    "share": share, "prompt": prompt, "text": real,
                                    "samples": found})
                    if options.save:
                        save(options, results)
                    base = middle([derive(s).get("rate", NAN) for s in found.get("llama.cpp", [])])
                    for name, samples in found.items():
                        if samples and options.tokens == 0:
                            print(prompt_row(file, share, name, samples), flush=True)
                        elif samples:
                            print(row_of(file, share, name, samples, base), flush=True)
    finally:
        group.remove()
        if slow:
            slow.remove()


if __name__ == "__main__":
    main()
