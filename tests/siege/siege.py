#!/usr/bin/env python3
"""siege.py MIXT [--only PHASE,...] [--seconds S] [--count N] [--soak M] [--sanitized]

mixt serve under siege: hostile bodies, clients that are slow, gone or killed, ten thousand that do
nothing, a soak, and ends at every state. Trains a tiny model into a folder of its own. Each phase
prints one line with what was counted; the last line is "N passed, M failed".

PHASE  bodies, slow, idle, kill, soak, ends, model (all of them unless said); memory, with --failing
S      seconds of the soak (10)
N      clients that are killed, and connections that idle (300)
M      requests of the soak at most
--sanitized: the program has a sanitizer's allocator, so that its memory says nothing
"""
import argparse, json, multiprocessing, os, random, re, resource, shutil, signal, socket, struct
import subprocess, sys, tempfile, threading, time

HOST = "Host: localhost\r\n"
WAIT = 120  # seconds that nothing may take


def train(mixt, folder):
    for name, line in (("one", "int a%d = %d; return %d;"), ("two", "The quick brown fox jumps over %d lazy dogs %d times %d.")):
        os.makedirs(f"{folder}/text/{name}")
        for i in range(1, 13):
            with open(f"{folder}/text/{name}/{i}.txt", "w") as out:
                out.writelines(line % (i, j, i * j) + "\n" for j in range(1, 17))
    words = ("--steps 12 --vocab-size 300 --layers 3 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 "
             "--ffn-size 32 --experts 4 --window 32 --context-length 256 --batch-size 4 --warmup 2 "
             "--heldout 0.3 --learning-rate 0.01 -t 1").split()
    subprocess.run([mixt, "train", "--data", "text", "--out", "run"] + words, cwd=folder, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Server:
    """The program, with its output in files; `port` once it is ready."""

    def __init__(self, mixt, folder, options="", ready=True, model="run", stderr=None, environment=None):
        self.folder = folder
        self.log = open(f"{folder}/serve.err", "wb") if stderr is None else stderr
        self.process = subprocess.Popen(
            [mixt, "serve", "-m", model, "--port", "0", "-t", "1"] + options.split(), cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
            env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline().decode()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        self.port = int(found.group(1)) if found else 0
        if ready:
            until(lambda: self.ask("GET", "/health")[0] == 200, "the server is not ready")

    def connect(self, timeout=WAIT):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(self, method, path, body=None):
        """(status, body) of a request on a connection of its own; status 0: closed without one."""
        head = f"{method} {path} HTTP/1.1\r\n{HOST}Connection: close\r\n"
        body = body.encode() if isinstance(body, str) else body
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        data = b""
        with self.connect() as client:
            try:
                client.sendall(head.encode() + b"\r\n" + (body or b""))
                while piece := client.recv(1 << 16):
                    data += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
        head, _, rest = data.partition(b"\r\n\r\n")
        if b"chunked" in head:
            rest = unchunk(rest)
        return (int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0), rest

    def metric(self, name):
        return float(re.search(rb"\n" + name.encode() + rb" (\S+)", self.ask("GET", "/metrics")[1]).group(1))

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def holds(self):
        """(descriptors, threads)"""
        base = f"/proc/{self.process.pid}"
        return len(os.listdir(base + "/fd")), len(os.listdir(base + "/task"))

    def at_rest(self):
        until(lambda: self.metric("mixt_orders") == 0, "orders are left")
        until(lambda: self.metric("mixt_cache_pages_used") == 0, "pages are lost")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(WAIT)
        self.process.stdout.close()
        return status

    def said(self):
        with open(f"{self.folder}/serve.err", errors="replace") as log:
            return log.read()


class Failure(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Failure(what)


def until(condition, what):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (ConnectionError, AttributeError):
            pass
        time.sleep(0.02)
    raise Failure(what)


def unchunk(data):
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        size = int(size, 16)
        out += data[:size]
        data = data[size + 2:]
    return out


def request(path, body, more=""):
    body = body.encode() if isinstance(body, str) else body
    return (f"POST {path} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n{more}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def replies(client, count):
    """So many replies with a length each: [(status, body)]."""
    data, out = b"", []
    while len(out) < count:
        piece = client.recv(1 << 18)
        require(piece, f"closed after {len(out)} of {count} replies")
        data += piece
        while True:
            head, mark, rest = data.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if not mark or len(rest) < int(length.group(1)):
                break
            out.append((int(head[9:12]), rest[:int(length.group(1))]))
            data = rest[int(length.group(1)):]
    return out


# ---- bodies

def judge(text):
    """Whether a body's JSON is to be taken: Python's reader, and the limits of docs/server.md."""
    def pairs(items):
        require(len(set(key for key, _ in items)) == len(items), "a key twice")
        for key, _ in items:
            string(key)
        return dict(items)

    def string(value):
        value.encode()  # no lone surrogates
        require("\0" not in value, "NUL")

    def integer(digits):
        require(-2**63 <= int(digits) < 2**63, "integer")
        return int(digits)

    def real(digits):
        require(abs(float(digits)) != float("inf"), "overflow")
        return float(digits)

    def walk(value, depth):
        require(depth <= 64 or not isinstance(value, (list, dict)), "depth")
        if isinstance(value, str):
            string(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item, depth + 1)

    def constant(name):
        raise Failure(name)

    try:
        decoded = text.decode()
        require("\0" not in decoded, "NUL")
        value = json.loads(decoded, object_pairs_hook=pairs, parse_int=integer, parse_float=real,
                           parse_constant=constant)
        require(isinstance(value, dict), "no object")
        walk(value, 1)
        return True
    except (Failure, ValueError, RecursionError):
        return False


def json_values():
    """The classes of JSONTestSuite, by description."""
    good = r"""[] {} [[]] [{}] {"a":[]} 0 -0 1 -1 10 123 1.5 -1.5 1e1 1E1 1e+1 1e-1 1E+2 0e1 0e+1 0.5e3 -0.0 1e-400
        9223372036854775807 -9223372036854775808 1e308 123.456e-7 true false null "" "a" "\"" "\\" "\/" "\b\f\n\r\t" "\u0041"
        "\u00e9" "\uD834\uDD1E" "\ud834\udd1e" "\uFFFF" "\uFFFE" "\u2028" "\u0020" "\u007F" "\u0001" "é" "€" "𝄞"
        "\u0022" "\u005C" [1,2] [1,[2,[3]]] [null,true,"a",1.0] {"a":1} {"a":{"b":{"c":1}}} {"":0} {"a":"","b":""}""".split()
    good += ["[ ]", "{ }", "[ 1 , 2 ]", '{ "a" : 1 }', "\t1\n", "\r\n[1]\r\n", '" "', '"\u2028\u2029"', '"\x7f"', '"[{"', '"]]]"']
    bad = r"""[ ] { } [[ [}  {] [1,] [,1] [,] [1,,2] ["a" "a [1 {"a" {"a": {"a":1, {"a":1,} {a:1} {'a':1} {1:1} {"a"1} {"a"::1}
        {"a":1,,"b":2} {"a":1"b":2} {"a","b"} ["a":1] {:1} {"a":} + - +1 -+1 ++1 .5 -.5 5. -5. 1.e1 1e 1e+ 1e- 1ee1 1e1.5 01 -01
        00 0x1 0b1 1_0 1,5 1.2.3 - -a 1a 0.e1 0e 0e+ 2.e3 2.e-3 NaN nan Infinity -Infinity inf +Inf -NaN 1e999 -1e999
        9223372036854775808 -9223372036854775809 123123e100000 True False None TRUE nul tru fals nulll truee undefined
        'a' `a` "\x" "\a" "\v" "\0" "\u" "\u1" "\u12" "\u123" "\u123g" "\U0041" "\ud800" "\udc00" "\udc00\ud800" "\ud800\u0041"
        "\ud800x" "\ud834\ud834" "\u0000" "a\u0000b" \u0041 "\" "a"" ""a" "a"b abc @ # $ * // /**/ 1//a [1]/*a*/ <a> = ; :
        {"a":1,"a":2} {"a":1,"\u0061":2} {"a":{"b":1,"b":1}} [1][2] {}{} {}[] 1]2 []] {}} ["a",] {"a":"b"}# 1-1 1+1 --1""".split()
    bad += ["", " ", '"a\nb"', '"a\tb"', '"\x00"', "\x00", "1\x00", '"\x1f"', "[1\x0c]", "[1\x0b]", "\u00a0[1]", "\u2060[1]", "\ufeff1",
            "[1\n", '{"a":\n', "[1 2]", '{"a" 1}', "tr ue", "1 .5", "- 1", "1e 5", '"\\ "', "[-]", "[--2.]", '["\\u00A']
    raw = [b'"\xff"', b'"\xc3"', b'"\xc3("', b'"\xe2\x82"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xc0\xaf"', b'"\xe0\x80\xaf"', b'"\xf5\x80\x80\x80"',
           b'"\xf8\x88\x80\x80\x80"', b'"\xf4\x90\x80\x80"', b'"\x80"', b'\xff', b'\xc3\xa9', b'\xef\xbb\xbf1', b'"\xf0\x9d\x84\x9e"', b'"\xef\xbf\xbf"']
    values = [value.encode() for value in good + bad] + raw
    for depth in (62, 63, 64, 65, 100000):
        values += [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth, b'{"a":' * depth]
    values += [b"9" * 5000, b"0." + b"1" * 5000, b"1e" + b"9" * 5000, b'"' + b"a" * 100000 + b'"', b"[" + b"1," * 50000 + b"1]"]
    return values


def mutate(dice, text):
    text = bytearray(text)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(text) + 1)
        what = dice.randrange(4)
        if what == 0:
            text[at:at] = dice.choice([b"\"", b"\\", b"[", b"]", b"{", b"}", b",", b":", b"0", b"-", b".", b"e", b"\0", b"\xff", b" ", b"\\u00"])
        elif what == 1 and at < len(text):
            del text[at]
        elif what == 2 and at < len(text):
            text[at] ^= 1 << dice.randrange(8)
        else:
            text[at:at] = text[dice.randrange(len(text) + 1):][:dice.randint(1, 8)]
    return bytes(text)


def compare_json(server, bodies):
    """Each is taken or refused as `judge` has it."""
    with server.connect() as client:
        for first in range(0, len(bodies), 20):
            some = bodies[first:first + 20]
            sender = threading.Thread(target=client.sendall, args=(b"".join(request("/tokenize", body) for body in some),))
            sender.start()
            for body, (status, reply) in zip(some, replies(client, len(some))):
                taken = status == 200 or b'"invalid_json"' not in reply
                require(status in (200, 400) and taken == judge(body),
                        f"JSON {'taken' if taken else 'refused'}, status {status}: {body[:200]!r} {reply[:200]!r}")
            sender.join()


def fields():
    """(path, body, statuses): every field with what it must not hold."""
    completion, chat = "/v1/completions", "/v1/chat/completions"
    say = '"messages":[{"role":"user","content":"a"}],'
    wrong = ['"x"', "true", "[]", "{}", "[1]", '{"a":1}', "1.5", "-1", "1e300", "-1e300", "9223372036854775807", "-9223372036854775808", '"NaN"', '""', "2147483648", "4294967296"]
    names = ("temperature top_p top_k min_p typical_p top_n_sigma frequency_penalty presence_penalty repeat_penalty repetition_penalty repeat_last_n "
             "dynatemp_range dynatemp_exponent xtc_probability xtc_threshold dry_multiplier dry_base dry_allowed_length dry_penalty_last_n "
             "dry_sequence_breakers mirostat mirostat_tau mirostat_eta min_keep samplers seed ignore_eos logit_bias stop n grammar json_schema "
             "response_format routing experts_per_token expert_mask expert_force logprobs echo stream stream_options best_of max_tokens user model").split()
    for name in names:
        for value in wrong:
            body = "{%s\"%s\":%s%s}" % ('"prompt":"a",', name, value, "" if name == "max_tokens" else ',"max_tokens":1')
            yield completion, body, (200, 400, 404)
            yield chat, "{%s\"%s\":%s%s}" % (say, name, value, "" if name == "max_tokens" else ',"max_tokens":1'), (200, 400, 404)
            yield "/completion", '{"prompt":"a","%s":%s%s}' % (name, value, ',"n_predict":1'), (200, 400, 404)
            yield "/api/generate", '{"model":"run","prompt":"a","stream":false,"options":{"num_predict":1,"%s":%s}}' % (name, value), (200, 400)
    for name, value in (("max_tokens", "1e300"), ("n", "1000000000"), ("n", "0"), ("n", "-1"), ("temperature", '"NaN"'), ("temperature", "-1"),
                        ("temperature", "1e308"), ("top_p", "2"), ("seed", "18446744073709551616"), ("max_tokens", "1.5"), ("logprobs", "-1"),
                        ("logprobs", "1000000"), ("logit_bias", '{"999999":5}'), ("logit_bias", '{"-3":1}'), ("logit_bias", '{"3":1e999}'),
                        ("logit_bias", '{"3":"a"}'), ("stop", '[""]'),
                        ("stop", json.dumps(["a"] * 10000)), ("stop", "[1]"), ("prompt", "[-1]"), ("prompt", "[300]"), ("prompt", "[[]]"), ("prompt", "[1.5]"),
                        ("prompt", "[]"), ("prompt", "{}"), ("prompt", "5"), ("prompt", "[[[1]]]"), ("prompt", json.dumps(["a"] * 129)),
                        ("expert_mask", "[[0,99]]"), ("expert_mask", "[[99,0]]"), ("expert_mask", "[[-1,0],[-1,1],[-1,2],[-1,3]]"), ("expert_force", "[[0]]"),
                        ("experts_per_token", "99"), ("experts_per_token", "0"), ("zzz", "[" * 60 + "]" * 60),
                        ("grammar", '"root ::= ' + "(" * 60000 + '"'), ("grammar", '"root ::= root"'), ("grammar", '"root ::= \\"a\\"{0,1000000000}"'),
                        ("grammar", '"a ::= \\"b\\""'), ("grammar", '"root ::= b"'),
                        ("json_schema", '{"$ref":"#"}'), ("json_schema", '{"type":"string","pattern":"(?<=x)*"}'),
                        ("json_schema", '{"type":"string","minLength":1000000000}'), ("json_schema", '{"minItems":100000000,"type":"array"}'),
                        ("response_format", '{"type":"json_schema","json_schema":{"schema":{"type":"nothing"}}}')):
        yield completion, '{"prompt":"a","max_tokens":1,"%s":%s}' % (name, value) if name not in ("prompt", "max_tokens") else '{"%s":%s}' % (name, value), (400,)
    deep = '{"type":"object","properties":{"a":' * 30 + "{}" + "}}" * 30
    yield completion, '{"prompt":"a","max_tokens":2,"json_schema":%s}' % deep, (200, 400)
    yield completion, '{"prompt":"a","max_tokens":2,"grammar":"root ::= (\\"a\\"?){400} (\\"a\\"*)*"}', (200, 400)
    yield completion, '{"prompt":"a","max_tokens":2,"grammar":"root ::= %s \\"b\\"\\n%s"}' % ("x0", "\\n".join("x%d ::= x%d x%d" % (i, i + 1, i + 1) for i in range(40)) + '\\nx40 ::= \\"a\\"'), (200, 400)
    yield completion, '{"prompt":"a","max_tokens":1,"stop":"%s"}' % ("b" * 9000000), (200, 400)
    yield completion, '{"prompt":"a","max_tokens":1,"logit_bias":{%s}}' % ",".join('"%d":1' % i for i in range(300)), (200,)
    yield completion, '{"prompt":"a","max_tokens":1,"logit_bias":{%s}}' % ",".join('"%d":-100' % i for i in range(300)), (200,)
    yield completion, '{"prompt":%s,"max_tokens":1}' % ([5] * 255), (200,)
    yield completion, '{"prompt":%s,"max_tokens":0,"echo":true,"logprobs":1}' % ([5] * 256), (200,)
    yield completion, '{"prompt":%s,"max_tokens":1}' % ([5] * 257), (400,)
    yield completion, '{"prompt":"a","max_tokens":1,"logit_bias":{"3.5":1,"b":2}}', (200,)  # texts, as llama.cpp has them
    yield completion, '{"prompt":"","max_tokens":1}', (200, 400)
    yield chat, '{"messages":%s,"max_tokens":1}' % json.dumps([{"role": "user", "content": "a"}] * 100000), (400,)
    for messages in ('[]', '{}', '"a"', '[1]', '[{}]', '[{"role":"user"}]', '[{"role":5,"content":"a"}]', '[{"role":"user","content":5}]', '[{"role":"user","content":[{"type":"image_url"}]}]', '[null]'):
        yield chat, '{"messages":%s}' % messages, (400,)
    for path, body in (("/tokenize", '{"content":%s}'), ("/detokenize", '{"tokens":%s}'), ("/apply-template", '{"messages":%s}'), ("/api/chat", '{"model":"run","messages":%s}'), ("/api/show", '{"model":%s}'), ("/completion", '{"prompt":%s,"n_predict":1}')):
        for value in wrong + ["null", "[null]", "[[1]]", '[{"a":1}]', "[-1]", "[99999999999]", "[1e300]"]:
            yield path, body % value, (200, 400, 404)


def phase_bodies(make, options):
    server = make("--timeout 30")
    dice, count = random.Random(1), 0
    values = [b'{"zzz":' + value + b"}" for value in json_values()] + json_values()
    compare_json(server, values)
    seeds = [value for value in values if len(value) < 200 and value]
    mutants = [mutate(dice, dice.choice(seeds)) for _ in range(max(options.count, 1000) * 4)]
    compare_json(server, mutants)
    count = len(values) + len(mutants)
    asked = 0
    for path, body, statuses in fields():
        status, reply = server.ask("POST", path, body)
        require(status in statuses, f"{path} {body[:300]}: status {status}, not {statuses}: {reply[:300]!r}")
        require(status == 200 or b'"error"' in reply, f"{path} {body[:300]}: {reply[:300]!r}")
        asked += 1
    server.at_rest()
    require(server.end() == 0, "status at the end")
    return f"{count} JSON texts as Python and the limits have them, {asked} bodies with fields that are wrong or extreme"


# ---- clients that are slow or do nothing

STREAM = '{"prompt":"The","stream":true,"ignore_eos":true,"max_tokens":%d,"seed":%d}'


def texts_alone(server):
    bodies = ['{"prompt":"The quick %d","max_tokens":40,"ignore_eos":true,"seed":%d}' % (i, i) for i in range(8)]
    return [(body, text_of(server, body)) for body in bodies]


def text_of(server, body):
    status, reply = server.ask("POST", "/v1/completions", body)
    require(status == 200, f"a witness has status {status}: {reply[:200]!r}")
    return json.loads(reply)["choices"][0]["text"]


class Witness:
    """Asks the same all the time beside what happens, after `pause` seconds each: the same bits each time."""

    def __init__(self, server, pause=0):
        self.server, self.alone, self.pause = server, texts_alone(server), pause
        self.count, self.wrong, self.slowest, self.stopping = 0, None, 0, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping and self.wrong is None:
            body, text = self.alone[self.count % len(self.alone)]
            began = time.monotonic()
            try:
                got = text_of(self.server, body)
                if got != text:
                    self.wrong = f"{body}: {got!r}, not {text!r}"
            except Exception as problem:
                self.wrong = f"{body}: {problem!r}"
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1
            time.sleep(self.pause)

    def end(self):
        self.stopping = True
        self.thread.join()
        require(self.wrong is None, self.wrong)
        return f"{self.count} texts beside them bit-equal"


def closes(client, limit):
    """Seconds until the server has closed."""
    began = time.monotonic()
    client.settimeout(limit)
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def phase_slow(make, options):
    server = make("-c 60000 --cache-positions 200000 --timeout 2 --buffer-bytes 65536 --queue 300")
    witness = Witness(server, pause=0.05)  # what happens is 14 s of waiting
    memory = server.memory()
    heads, bodies, unread, quiet = [], [], [], []
    for i in range(20):
        heads.append(server.connect())
        heads[-1].sendall(b"GET /health HTTP/1.1\r\nX-A: ")
        bodies.append(server.connect())
        bodies[-1].sendall(request("/tokenize", '{"content":"a"}')[:-9])
        if i < 6:  # of 8 places
            unread.append(server.connect())
            unread[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread[-1].sendall(request("/v1/completions", (STREAM % (50000, i))[:-1] + ',"logprobs":100}'))
        quiet.append(server.connect())
    end = time.monotonic() + 14  # the limit of headers is the timeout and 10 s
    alive = set(heads)
    while time.monotonic() < end:
        for client in list(alive):
            try:
                client.sendall(b"a")
            except OSError:
                alive.discard(client)
        time.sleep(0.5)
    require(not alive, f"{len(alive)} heads that never end are still open")
    for client in bodies + quiet:
        closes(client, 30)
    said = witness.end()
    server.at_rest()  # those that were not read are given up
    for client in heads + bodies + unread + quiet:
        client.close()
    grown = server.memory() - memory
    require(grown < 100000 or options.sanitized, f"{grown} kB more")
    # The client's end in the middle of a head and of a body.
    for data in (b"GET /hea", request("/tokenize", '{"content":"a"}')[:-3]):
        for cut in range(1, len(data), 7):
            with server.connect() as client:
                client.sendall(data[:cut])
                client.shutdown(socket.SHUT_WR)
                closes(client, 20)
    # Pipelining.
    with server.connect() as client:
        client.sendall((b"GET /health HTTP/1.1\r\n" + HOST.encode() + b"\r\n") * 1000)
        require(all(status == 200 for status, _ in replies(client, 1000)), "1,000 at once")
    require(server.end() == 0, "status at the end")
    return f"20 endless heads, 20 cut bodies, 6 streams that nobody reads, 20 that say nothing: closed, {grown} kB; {said}, the slowest {witness.slowest:.2f} s"


def phase_idle(make, options):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(max(options.count, 300), 10000, hard - 200)
    server = make(f"--connections {count + 100} --timeout 300")
    before, memory = server.holds(), server.memory()
    idle = []
    for i in range(count):
        idle.append(server.connect())
        if i % 3 == 1:
            idle[-1].sendall(b"GET /health HTTP/1.1\r\n")
        elif i % 3 == 2:
            idle[-1].sendall(b"GET /health HTTP/1.1\r\n" + HOST.encode() + b"\r\n")
    until(lambda: server.holds()[0] >= count, "not all are taken")
    grown = server.memory() - memory
    witness, waits = Witness(server), []
    for _ in range(200):
        began = time.monotonic()
        require(server.ask("GET", "/health")[0] == 200, "/health")
        waits.append(time.monotonic() - began)
    said = witness.end()
    for client in idle:
        client.close()
    until(lambda: server.holds()[0] <= before[0] + 1, "descriptors are left")
    require(server.end() == 0, "status at the end")
    waits.sort()
    return f"{count} connections that idle: {grown} kB, /health p50 {1000 * waits[100]:.1f} p99 {1000 * waits[198]:.1f} ms; {said}"


# ---- killed clients

def victim(port, seed, count):
    """A process with streams, to be killed."""
    dice = random.Random(seed)
    clients = []
    for i in range(count):
        clients.append(socket.create_connection(("127.0.0.1", port)))
        clients[-1].sendall(request("/v1/completions", STREAM % (5000, dice.randrange(1000))))
    while True:
        for client in clients:
            client.recv(dice.randint(1, 400))


def reset(server, dice):
    client = server.connect()
    client.sendall(request(dice.choice(["/v1/completions", "/v1/completions", "/v1/chat/completions"]), "{%s%s" % (
        '"messages":[{"role":"user","content":"a"}],', (STREAM % (5000, dice.randrange(1000)))[16:]) if dice.random() < 0.2 else STREAM % (5000, dice.randrange(1000))))
    if dice.random() < 0.8:
        client.recv(dice.choice([1, 100, 1000, 5000]))
    if dice.random() < 0.5:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif dice.random() < 0.3:
        client.shutdown(socket.SHUT_WR)
    client.close()


def phase_kill(make, options):
    server = make("-c 60000 --cache-positions 200000 --queue 2000 --connections 4000 --timeout 30 -np 16")
    witness = Witness(server)
    left = options.count
    dice, lock, problems = random.Random(7), threading.Lock(), []

    def resets(seed, count):
        own = random.Random(seed)
        try:
            for _ in range(count):
                reset(server, own)
        except Exception as problem:
            problems.append(repr(problem))

    threads = [threading.Thread(target=resets, args=(seed, left // 2 // 8)) for seed in range(8)]
    for thread in threads:
        thread.start()
    resets_done, killed = left // 2 // 8 * 8, 0
    while killed < left - resets_done:
        children = [multiprocessing.Process(target=victim, args=(server.port, dice.random(), 10)) for _ in range(4)]
        for child in children:
            child.start()
        time.sleep(dice.random() * 0.15)
        for child in children:
            child.kill()
            child.join()
        killed += 40
    for thread in threads:
        thread.join()
    require(not problems, "; ".join(problems[:3]))
    said = witness.end()
    server.at_rest()
    cancelled, failed = server.metric("mixt_requests_cancelled_total"), server.metric("mixt_requests_failed_total")
    require(failed == 0, f"{failed} requests failed")
    require(server.end() == 0, "status at the end")
    return f"{resets_done} clients reset or closed and {killed} killed in mid-stream ({cancelled:.0f} orders given up): no page held; {said}, the slowest {witness.slowest:.2f} s"


# ---- soak

def soak_batch(dice):
    """(bytes, replies that come; 0: the connection ends)"""
    kind = dice.randrange(12)
    if kind < 5:
        count = dice.randint(1, 40)
        good = [b"GET /health HTTP/1.1\r\n" + HOST.encode() + b"\r\n", request("/tokenize", '{"content":"The quick brown fox"}'),
                request("/tokenize", '{"content":5}'), request("/detokenize", '{"tokens":[1,2,3]}'), request("/v1/completions", '{"prompt":[-1]}'),
                b"GET /nothing HTTP/1.1\r\n" + HOST.encode() + b"\r\n", request("/apply-template", '{"messages":[{"role":"user","content":"a"}]}'),
                request("/v1/completions", '{"prompt":"a","grammar":"root ::= ((("}'), b"GET /metrics HTTP/1.1\r\n" + HOST.encode() + b"\r\n",
                b"GET /slots HTTP/1.1\r\n" + HOST.encode() + b"\r\n", request("/tokenize", b'{"content":"\xff"}')]
        return b"".join(dice.choice(good) for _ in range(count)), count
    if kind < 8:
        count = dice.randint(1, 8)
        bodies = ['{"prompt":"The quick","max_tokens":%d,"seed":%d}', '{"prompt":["a","b"],"max_tokens":%d,"seed":%d,"logprobs":2}',
                  '{"prompt":"The","max_tokens":%d,"seed":%d,"routing":true}', '{"prompt":"The","max_tokens":%d,"seed":%d,"grammar":"root ::= [a-z ]+"}',
                  '{"prompt":"The","max_tokens":%d,"seed":%d,"stop":["a","e"]}', '{"prompt":"The","max_tokens":%d,"seed":%d,"expert_mask":[[-1,1]]}']
        return b"".join(request("/v1/completions", dice.choice(bodies) % (dice.randint(1, 12), dice.randrange(100000))) for _ in range(count)), count
    if kind == 8:
        return request("/tokenize", '{"content":"a"}')[:dice.randint(1, 60)], 0
    if kind == 9:
        return dice.choice([b"GET / HTTP/1.1\n\n", b"\x16\x03\x01", b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"POST /tokenize HTTP/1.1\r\n" + HOST.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", bytes(dice.randrange(256) for _ in range(40))]), 0
    return request("/v1/completions", STREAM % (dice.randint(1, 60), dice.randrange(1000))), -1


def soak_worker(port, seed, until_time, most, done):
    dice, client = random.Random(seed), None
    while time.monotonic() < until_time and done.value < most:
        if client is None:
            client = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        data, count = soak_batch(dice)
        try:
            client.sendall(data)
            if count > 0:
                for status, body in replies(client, count):
                    require(status in (200, 400, 404, 503), f"status {status}: {body[:200]!r}")
            elif count < 0 and dice.random() < 0.7:
                got = b""
                while not got.endswith(b"0\r\n\r\n") and b'"error"' not in got:
                    piece = client.recv(65536)
                    require(piece, "a stream is cut: %r" % got[-200:])
                    got += piece
            elif count <= 0:
                client.recv(dice.choice([1, 500])) if count < 0 else client.shutdown(socket.SHUT_WR)
                client.close()
                client = None
        except (ConnectionResetError, BrokenPipeError):
            require(count == 0, "a connection with good requests was reset")
            client = None
        with done.get_lock():
            done.value += max(count, 1)


def phase_soak(make, options):
    server = make("--timeout 30 --queue 256 --connections 200")
    witness = Witness(server)
    before = None
    total, memories = 0, []

    def run(seconds, most, seed):
        done = multiprocessing.Value("q", 0)
        workers = [multiprocessing.Process(target=soak_worker, args=(server.port, seed + i, time.monotonic() + seconds, most, done)) for i in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        require(all(worker.exitcode == 0 for worker in workers), "a client met what it should not")
        return done.value

    total += run(options.seconds * 0.25, options.soak * 0.25, 100)
    parts = 5
    for part in range(parts):
        until(lambda: server.metric("mixt_orders") <= 1, "orders are left")
        memories.append(server.memory())
        total += run(options.seconds * 0.75 / parts, options.soak * 0.75 / parts, 1000 + 10 * part)
    said = witness.end()
    server.at_rest()
    time.sleep(0.3)
    memories.append(server.memory())
    holds = server.holds()
    drift = 100 * (memories[-1] / memories[0] - 1)
    if options.seconds >= 60 and not options.sanitized:  # whose allocators keep what was freed
        require(drift < 1, f"memory drifts by {drift:.2f} %: {memories}")
    require(holds[0] <= 20 and holds[1] <= 6, f"descriptors and threads: {holds}")
    require(server.end() == 0, "status at the end")
    return f"{total} requests, kB {' '.join(map(str, memories))} ({drift:+.2f} %), {holds[0]} descriptors, {holds[1]} threads; {said}"


# ---- ends

def phase_ends(make, options):
    done = []

    def ended(server, status, what):
        got = server.process.wait(WAIT)
        require(got == status, f"{what}: status {got}, not {status}")
        require(all(line.startswith(("{", "mixt")) or line == "" for line in server.said().split("\n")), f"{what}: {server.said()[-500:]}")
        done.append(what)

    def stream(server, tokens, extra=""):
        client = server.connect()
        client.sendall(request("/v1/completions", (STREAM % (tokens, 1))[:-1] + extra + "}"))
        return client

    for delay in (0, 0.01, 0.05):
        server = make("", ready=False)
        time.sleep(delay)
        server.process.terminate()
        ended(server, 0 if "is ready" in server.said() else server.process.wait(WAIT), f"while loading ({delay} s)")
        require(server.process.returncode in (0, 143, -15), f"status {server.process.returncode}")
    # Somebody sees that it is ready while the main thread still waits to write so.
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, b"\n" * 4096):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    server = make("--no-log", stderr=write)
    os.close(write)
    server.process.terminate()
    time.sleep(0.2)
    while os.read(read, 1 << 16):
        pass
    os.close(read)
    require(server.process.wait(WAIT) == 0, f"as soon as it is ready: status {server.process.returncode}, not 0")
    done.append("as soon as it is ready")
    server = make("")
    server.process.terminate()
    ended(server, 0, "idle")
    server = make("")
    quiet, half = server.connect(), server.connect()
    half.sendall(request("/tokenize", '{"content":"a"}')[:-4])
    time.sleep(0.1)
    server.process.terminate()
    ended(server, 0, "idle connections and half a body")
    server = make("-c 60000")
    client = server.connect()
    client.sendall(request("/v1/completions", '{"prompt":%s,"max_tokens":1}' % ([5] * 20000)))
    until(lambda: server.metric("mixt_orders") == 1, "no order")
    server.process.terminate()
    require(replies(client, 1)[0][0] == 200, "a prompt that is read is not finished")
    ended(server, 0, "in a prompt")
    server = make("-c 60000")
    client = stream(server, 2000)
    client.recv(100)
    server.process.terminate()
    data = b""
    while piece := client.recv(65536):
        data += piece
    require(b"[DONE]" in data, "a stream is cut")
    ended(server, 0, "in a stream")
    server = make("-c 60000 --timeout 2 --buffer-bytes 65536 --cache-positions 70000")
    client = stream(server, 50000, ',"logprobs":100')
    client.recv(100)
    time.sleep(0.3)
    server.process.terminate()
    ended(server, 0, "a stream that nobody reads")
    for second in (signal.SIGTERM, signal.SIGINT):
        server = make("-c 60000")
        client = stream(server, 50000)
        client.recv(100)
        server.process.terminate()
        time.sleep(0.2)
        server.process.send_signal(second)
        ended(server, 128 + second, f"a second signal ({second.name})")
    server = make("")
    other = subprocess.run([options.mixt, "serve", "-m", "run", "--port", str(server.port)], cwd=server.folder, capture_output=True, timeout=WAIT)
    require(other.returncode == 1 and other.stderr.count(b"\n") == 1 and b"in use" in other.stderr, f"a port in use: {other}")
    done.append("a port in use")
    require(server.end() == 0, "status at the end")
    with open("/dev/full", "wb") as full:
        server = make("", stderr=full)
        require(server.ask("POST", "/v1/completions", '{"prompt":"a","max_tokens":3}')[0] == 200, "a full disk for the log")
        require(server.end() == 0, "a full disk for the log: status at the end")
        done.append("a full disk for the log")
    read, write = os.pipe()
    server = make("", stderr=write)
    os.close(write)
    os.close(read)
    require(server.ask("POST", "/v1/completions", '{"prompt":"a","max_tokens":3}')[0] == 200, "the log's reader is gone")
    require(server.end() == 0, "the log's reader is gone: status at the end")
    done.append("the log's reader is gone")
    return f"{len(done)} ends: " + ", ".join(done)


def phase_model(make, options):
    """The model's file is cut while it is served: the pages that are gone are an error, or were read before."""
    folder = make.folder
    subprocess.run([options.mixt, "convert", "run", "-o", "cut.gguf"], cwd=folder, check=True, capture_output=True)
    server = make("", model="cut.gguf")
    require(server.ask("POST", "/v1/completions", '{"prompt":"a","max_tokens":3}')[0] == 200, "before")
    os.truncate(f"{folder}/cut.gguf", 4096)
    status = 0
    try:
        status = server.ask("POST", "/v1/completions", '{"prompt":"The quick brown","max_tokens":3}')[0]
    except ConnectionError:
        pass
    code = server.process.poll()
    if code is None:
        code = server.end()
    require(code in (0, 1), f"the model's file was cut: status {status}, then the server's {code}: {server.said()[-300:]}")
    return f"the model's file cut: reply {status}, server's status {code}"


def phase_memory(make, options):
    """Allocations fail, of the server and of its libraries: what there is no memory for is refused, and
    the rest goes on. (A limit of the address space would also end a stack that grows.)"""
    require(options.failing, "--failing: the library that makes allocations fail is needed")
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}, "b": {"enum": [1, 2]}}, "required": ["a", "b"]}
    talk = [{"role": "user", "content": "The quick brown fox. " * 9}]
    mixed = [("/v1/chat/completions", {"messages": talk, "max_tokens": 5, "n": 3, "logprobs": True, "top_logprobs": 5, "stream": True}),
             ("/v1/completions", {"prompt": ["The quick " * 20, "b"], "max_tokens": 5, "echo": True, "logprobs": 3, "routing": True}),
             ("/v1/completions", {"prompt": "a", "max_tokens": 20, "json_schema": schema, "stop": ["zz"]}),
             ("/completion", {"prompt": "int a1 " * 30, "n_predict": 9, "n_probs": 4, "logit_bias": [[5, 1.5], ["a", False]], "stream": True}),
             ("/v1/embeddings", {"input": ["The " * 50, "a b c"]}),
             ("/tokenize", {"content": "a b " * 200000, "with_pieces": True}),
             ("/api/chat", {"model": "run", "messages": talk, "options": {"num_predict": 5}}),
             ("/v1/completions", {"prompt": "a", "max_tokens": 8, "grammar": 'root ::= ("a"|"b"|"the" root)+', "expert_mask": [[0, 1]]})]
    texts = [(path, json.dumps(body)) for path, body in mixed]
    counts, failed, lock = {}, [], threading.Lock()

    def ask(server, first, end):
        number = first
        while time.monotonic() < end:
            number += 1
            try:
                status = server.ask("POST", *texts[number % len(texts)])[0]
            except ConnectionError:
                status = 0
            except socket.timeout:
                failed.append(texts[number % len(texts)][0])
                return
            with lock:
                counts[status] = counts.get(status, 0) + 1

    for rate in (3000, 300, 30):
        server = make("", environment={"LD_PRELOAD": options.failing, "FAIL_RATE": str(rate)})
        alone = texts_alone(server)
        server.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + options.seconds
        threads = [threading.Thread(target=ask, args=(server, i, end)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        require(server.process.poll() is None, f"one of {rate} fails: the server ended: {server.process.returncode}")
        server.process.send_signal(signal.SIGUSR1)
        server.at_rest()
        for body, text in alone:
            require(text_of(server, body) == text, f"one of {rate} fails: another text behind it")
        require(server.end() == 0, "status at the end")
    require(not failed, f"silence: {failed}")
    require(set(counts) <= {0, 200, 400, 500, 503} and counts.get(503, 0) > 0, f"replies {counts}")
    return "replies where allocations fail: " + ", ".join(f"{n} x {status or 'closed'}" for status, n in sorted(counts.items()))


PHASES = {"bodies": phase_bodies, "slow": phase_slow, "idle": phase_idle, "kill": phase_kill, "soak": phase_soak, "ends": phase_ends, "model": phase_model, "memory": phase_memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixt")
    parser.add_argument("--only", default=",".join(name for name in PHASES if name != "memory"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--sanitized", action="store_true", help="the program's memory is not its own")
    parser.add_argument("--soak", type=int, default=10**9)
    parser.add_argument("--failing", help="the library made of failing.c")
    options = parser.parse_args()
    options.mixt = os.path.abspath(options.mixt)
    options.failing = options.failing and os.path.abspath(options.failing)
    multiprocessing.set_start_method("fork")
    folder, failed, running = tempfile.mkdtemp(prefix="mixt-siege-"), 0, []

    def make(words, **more):
        server = Server(options.mixt, folder, words, **more)
        running.append(server)
        return server

    make.folder = folder
    train(options.mixt, folder)
    names = options.only.split(",")
    for name in names:
        began = time.monotonic()
        try:
            said = PHASES[name](make, options)
        except Exception as problem:
            failed += 1
            said = f"FAILED: {problem if isinstance(problem, Failure) else repr(problem)}"
            log = [line for line in running[-1].said().split("\n") if not line.startswith('{"')] if running else []
            said += "\n    " + "\n    ".join(log[-60:])
        print(f"{name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        for server in running:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()
        running.clear()
    shutil.rmtree(folder)
    print(f"{len(names) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
