#!/usr/bin/env python3
"""mixt serve and llama-server on the same GGUF file, with 1 to 16 clients at once.

    bench/serve_versus_llama_cpp.py --peer LLAMA_CPP/build/bin/llama-server FILE.gguf

Every client sends one streamed request after another to /completion, greedy and without an end of
the text, from prompts of random token ids: four in five short (--short), one long (--long). With
--shared N all prompts begin with the same N tokens. Both servers run all the time, one of them
working; rounds interleave them (and which goes first). Printed, as medians over the rounds: tokens
written in a second by all clients together, and the time to the first token (p50, p99 of all
requests). Python's standard library alone.
"""
import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def healthy(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return b" 200 " in line


def start(command, port, log):
    process = subprocess.Popen(command, stdout=log, stderr=log)
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit(f"{' '.join(command)}: ended with status {process.returncode}")
        try:
            if asyncio.run(healthy(port)):
                return process
        except OSError:
            pass
        time.sleep(0.25)
    sys.exit(f"{command[0]}: not ready after 300 s")


async def stream(port, prompt, count):
    """Seconds to the first token and tokens that came."""
    body = json.dumps({"prompt": prompt, "n_predict": count, "stream": True, "temperature": 0,
                       "ignore_eos": True, "cache_prompt": True}).encode()
    head = (f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode()
    begin, first, last = time.monotonic(), None, None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(head + body)
    await writer.drain()
    status = await reader.readline()
    if b" 200 " not in status:
        sys.exit(f"port {port}: {status!r} {await reader.read(2000)!r}")
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        first = first or time.monotonic() - begin
        last = json.loads(line[6:])
    writer.close()
    if not last or not last.get("stop"):
        sys.exit(f"port {port}: the stream ended early: {last}")
    return first, last["tokens_predicted"]


class Prompts:
    """The same sequence of requests for both servers and no beginning twice, but for --shared."""

    def __init__(self, options, round_number, clients):
        self.draw = random.Random(1000 * round_number + clients)
        self.options = options
        self.number = 0
        common = random.Random(7)
        self.shared = [common.randrange(10, options.vocab) for _ in range(options.shared)]

    def next(self):
        self.number += 1
        length = self.options.long if self.number % 5 == 0 else self.options.short
        return self.shared + [self.draw.randrange(10, self.options.vocab) for _ in range(length)]


async def load(port, options, round_number, clients):
    prompts = Prompts(options, round_number, clients)
    requests = max(options.requests, 2 * clients)
    left = [prompts.next() for _ in range(requests)]
    firsts, tokens = [], 0

    async def client():
        nonlocal tokens
        while left:
            first, count = await stream(port, left.pop(), options.generate)
            firsts.append(first)
            tokens += count

    begin = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return tokens / (time.monotonic() - begin), firsts


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--peer", help="llama-server")
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--clients", default="1,2,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10, help="of a round, at least two a client")
    parser.add_argument("--short", type=int, default=32)
    parser.add_argument("--long", type=int, default=512)
    parser.add_argument("--shared", type=int, default=0)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=30000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    clients = [int(word) for word in options.clients.split(",")]
    slots = max(clients)
    context = (options.shared + options.long + options.generate + 63) // 64 * 64
    commands = {"mixt": lambda port: [
        options.mixt, "serve", "-m", options.file, "--port", str(port), "-t", str(options.threads),
        "-np", str(slots), "-c", str(context)]}
    if options.peer:
        commands["llama.cpp"] = lambda port: [
            options.peer, "-m", options.file, "--port", str(port), "-t", str(options.threads), "-tb",
            str(options.threads), "-np", str(slots), "-c", str(context * slots), "-fa", "on", "--no-webui"]
    processes, ports, found = {}, {}, {}
    with tempfile.TemporaryFile() as log:
        try:
            for name, command in commands.items():
                ports[name] = free_port()
                processes[name] = start(command(ports[name]), ports[name], log)
            for turn in range(options.rounds):
                order = list(commands) if turn % 2 == 0 else list(commands)[::-1]
                for count in clients:
                    for name in order:
                        rate, firsts = asyncio.run(load(ports[name], options, turn, count))
                        found.setdefault((count, name), []).append((rate, firsts))
                        print(f"round {turn + 1} {count} clients {name}: {rate:.1f} t/s, first token "
                              f"{statistics.median(firsts):.2f} s", file=sys.stderr, flush=True)
        finally:
            for process in processes.values():
                process.terminate()
    print(f"{os.path.basename(options.file)}: prompts {options.short} and {options.long}, "
          f"{options.shared} shared, {options.generate} written, {options.threads} threads\n")
    print("| clients | program | tokens/s | ratio | first token p50 s | p99 s |")
    print("|---|---|---|---|---|---|")
    for count in clients:
        rates = {name: statistics.median(rate for rate, _ in found[count, name]) for name in commands}
        for name in commands:
            firsts = [first for _, round_firsts in found[count, name] for first in round_firsts]
            ratio = f"{rates['mixt'] / rates[name]:.2f}" if name != "mixt" else ""
            print(f"| {count} | {name} | {rates[name]:.1f} | {ratio} | {percentile(firsts, .5):.2f} |"
                  f" {percentile(firsts, .99):.2f} |")


if __name__ == "__main__":
    main()
