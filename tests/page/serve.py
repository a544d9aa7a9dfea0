#!/usr/bin/env python3
"""Tries the page of `mixt serve` in headless Chromium: serve.py MIXT MODEL DENSE LARGE FOLDER. The model is
one with a few experts, DENSE one without, LARGE one of 14 MB, most of it experts; FOLDER takes screenshots, the trace and the browser's own files. Needs nothing but
Python's own library and chromium; exits with 77 where there is no chromium."""
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time

from browser import Browser, find

SIZES = {"phone": (360, 740), "desk": (1280, 800), "wide": (1920, 1080)}
LONG = 10000  # tokens of the long answer
problems = []


def check(fine, text):
    if not fine:
        problems.append(text)
        print("page:", text, file=sys.stderr)


class Server:
    def __init__(self, program, model, log, *options):
        self.process = subprocess.Popen([program, "serve", "-m", model, "--port", "0", *options],
                                        stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)
        line = self.process.stdout.readline()
        self.address = re.search(r"http://[0-9.:]+", line).group(0)
        while self.get("/health")[0] == 503:  # it is loading: the console would say that of /props
            time.sleep(0.05)

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection(self.address[7:], timeout=30)
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), body

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(30) == 0, f"the server ends with {self.process.returncode}")


def check_files(server):
    status, headers, body = server.get("/")
    check(status == 200 and headers["Content-Type"] == "text/html; charset=utf-8", f"/: {status}")
    policy = headers.get("Content-Security-Policy", "")
    check("default-src 'none'" in policy and "unsafe" not in policy, f"policy {policy!r}")
    for name in re.findall(rb'(?:src|href)="([^"]*)"', body):
        name = name.decode()
        if name != "data:,":
            check(server.get(name)[0] == 200, f"{name} is not there")
    tag = headers["ETag"]
    status, headers, body = server.get("/", **{"If-None-Match": tag})
    check(status == 304 and body == b"" and headers["ETag"] == tag, f"kept: {status}")
    check(server.get("/embed.sh")[0] == 404, "a file that is no part of the page is given")
    check(server.get("/page.js", "POST")[0] == 405, "the page takes a POST")


def app(browser, script):
    """The value of an expression in which `app` is the page's."""
    return browser.run(f"import('/page.js').then(async ({{ app, showToken }}) => {{ {script} }})")


def ask(browser, text):
    browser.run("document.getElementById('message').focus()")
    browser.type(text)
    browser.press("Enter", text="\r", number=13)


def finished(browser):
    return browser.wait("!document.getElementById('send').hidden")


def set_field(browser, name, value):
    browser.run(f"{{ const f = document.getElementById('{name}'); f.value = '{value}';"
                f" f.dispatchEvent(new Event('input')); }}")


def go_past_the_end(browser):
    """Answers are as long as they may be."""
    app(browser, "const plain = app.settings; app.settings = () => ({ ...plain(), ignore_eos: true });")


ANSWER = "const a = app.chat.last.answers[0];"


def check_conversation(browser):
    set_field(browser, "max_tokens", 120)
    browser.run("""window.asked = []; const plain = window.fetch;
        const halves = (body) => { /* a small model may be done before anybody looks: its first bytes wait for the rest */
            const reader = body.getReader();
            let waits = 3;
            return new ReadableStream({ async pull(to) {
                const { done, value } = await reader.read();
                if (done) { to.close(); return; }
                const half = waits > 0 ? value.length >> 1 : value.length;
                to.enqueue(value.slice(0, half));
                if (waits-- > 0) { await new Promise((go) => setTimeout(go, 300)); to.enqueue(value.slice(half)); }
            } });
        };
        window.fetch = async (where, what) => {
            asked.push(what && what.body);
            const got = await plain(where, what);
            const stream = what && what.body && JSON.parse(what.body).stream === true;
            return stream ? new Response(halves(got.body), { status: got.status, headers: got.headers }) : got;
        };
        window.lengths = new Set();
        window.watch = new MutationObserver(() => lengths.add(document.querySelectorAll('.answer .t').length));
        watch.observe(document.body, { childList: true, subtree: true }); 0""")
    ask(browser, "Who jumps <img src=x onerror=document.title='owned'> over dogs?")
    check(finished(browser), "the first answer does not end")
    lengths = browser.run("window.fetch = plain; watch.disconnect(); [...lengths].join(' ')")
    check(browser.run("asked.some((body) => body && JSON.parse(body).stream === true)"),
          "the answer was not asked for as it grows")
    check(len(set(lengths.split()) - {"0"}) > 1, f"the answer came at once: {lengths}")
    browser.wait("import('/page.js').then(({ app }) => app.grid.used.some((u) => u > 0))", 60)
    found = app(browser, ANSWER + """
        return { tokens: a.list.length, spans: a.view.spans.length, known: a.list.known.filter(Boolean).length,
                 prompt: a.prompt.length, text: a.text, shown: a.view.holder.textContent, foot: a.foot.textContent,
                 counted: app.statistics.tokens, lit: app.grid.used.some((u) => u > 0),
                 pairs: app.statistics.pairs[0] };""")
    check(found["tokens"] == found["spans"] == 120, f"tokens {found}")
    check(found["known"] >= 119 and found["prompt"] > 10, f"experts are known of {found}")
    check(found["counted"] == found["known"] + found["prompt"], f"counted {found['counted']}")
    check(found["pairs"] == found["known"] + found["prompt"] - 2, f"pairs {found['pairs']}")
    check(found["text"].replace("\n", "") == found["shown"].replace("\n", ""), "text is not what is shown")
    check("120 tokens" in found["foot"] and found["lit"], f"foot {found['foot']!r}")
    check(browser.run("document.querySelector('img') === null && document.title !== 'owned'"),
          "a message became markup")
    check(browser.run("document.getElementById('said').textContent") != "", "nothing is said")

    # A second question: what the first has shown of the prompt is not counted again.
    ask(browser, "And then?")
    check(finished(browser), "the second answer does not end")
    again = app(browser, ANSWER + """
        const before = app.chat.turns[0].answers[0].sequence;
        let same = 0;
        while (before[same] === a.sequence[same]) { same++; }
        return [app.chat.turns.length, same, same + a.prompt.length + a.list.length, a.sequence.length];""")
    check(again[0] == 2 and again[1] > 10 and again[2] == again[3], f"second question {again}")

    # Stopped by a key, written anew, taken back.
    set_field(browser, "max_tokens", 100000)
    ask(browser, "Go on for long")
    browser.wait("document.querySelectorAll('.turn:last-child .answer .t').length > 3")
    browser.press("Escape", number=27)
    check(finished(browser), "Esc does not stop")
    check(app(browser, ANSWER + "return a.finish;") in ("stopped", "length", "stop"), "how it ended")
    set_field(browser, "max_tokens", 40)
    before = app(browser, ANSWER + "return a.seed;")
    browser.run("document.querySelector('.turn-actions button').click()")
    check(finished(browser), "the answer is not written anew")
    after = app(browser, ANSWER + "return [a.seed, a.list.length, app.chat.turns.length];")
    check(after[0] != before and after[1] == 40 and after[2] == 3, f"written anew: {after}")
    browser.run("document.getElementById('message').focus()")
    browser.press("ArrowUp", number=38)
    check(app(browser, "return [app.chat.turns.length, document.getElementById('message').value];")
          == [2, "Go on for long"], "the last message is not taken back")
    set_field(browser, "message", "")


def check_token(browser):
    browser.run("document.querySelectorAll('.answer .t')[5].click()")
    found = app(browser, """
        const { view, token } = app.selected;
        const rows = [...document.querySelectorAll('#detail tbody tr')].map((row) =>
          [...row.querySelectorAll('.pairing')].map((pair) => pair.textContent));
        const first = app.model.layers.map((_, layer) => view.list.first(token, layer));
        const margins = [...document.querySelectorAll('#detail tbody tr')].map((row) => row.lastChild.textContent);
        const known = app.model.layers.map((_, layer) => view.list.margin(token, layer));
        return { token, rows, first, margins, known, path: app.grid.path.length, layers: app.model.layers.length,
                 chosen: app.model.chosen };""")
    check(found["token"] == 5 and len(found["rows"]) == found["layers"], f"token {found}")
    check(found["path"] == found["layers"] * found["chosen"], "the token's path in the grid")
    for row, first in zip(found["rows"], found["first"]):
        check(len(row) == found["chosen"] and re.match(rf"{first}[01]\.\d\d$", row[0]), f"row {row}")
    for shown, margin in zip(found["margins"], found["known"]):
        check(margin is not None and margin >= 0 and abs(float(shown) - margin) <= 0.05 * margin,
              f"margin {shown}, not {margin}")
    browser.run("document.querySelector('.answer .text').focus()")
    browser.press("ArrowRight", number=39)
    check(app(browser, "return app.selected.token;") == 6, "keys do not walk")
    before = browser.run("[...document.querySelectorAll('.answer .t')].map((t) => t.className).join()")
    set_field(browser, "layer", 0)
    check(app(browser, "return app.layer;") == 0 and
          before != browser.run("[...document.querySelectorAll('.answer .t')].map((t) => t.className).join()"),
          "the layer's colours do not change")


def click_cell(browser, layer, expert):
    x, y = app(browser, f"""
        const [x, y, wide, tall] = app.grid.box({layer} * app.model.experts + {expert});
        const box = document.getElementById('grid').getBoundingClientRect();
        return [box.left + (x + wide / 2) / app.grid.ratio, box.top + (y + tall / 2) / app.grid.ratio];""")
    browser.click(x, y)


def check_expert(browser):
    layer, expert = app(browser, "return [1, app.chat.lists()[1].first(3, 1)];")
    click_cell(browser, layer, expert)
    found = app(browser, f"""
        const took = app.chat.lists().reduce((sum, list) => sum + list.known.filter((known, token) =>
          known && list.weightOf(token, {layer}, {expert}) >= 0).length, 0);
        const shown = app.chat.turns.reduce((sum, turn) => sum + turn.answers[0].list.known.filter((known, token) =>
          known && turn.answers[0].list.weightOf(token, {layer}, {expert}) >= 0).length, 0);
        return {{ took, shown, text: document.getElementById('detail').textContent,
                 framed: document.querySelectorAll('.took').length }};""")
    check(f"Took {found['took']} of" in found["text"], f"expert {found}")
    check(found["framed"] == found["shown"] > 0, f"framed {found['framed']}, not {found['shown']}")
    return expert


def check_changes(browser, expert):
    # An expert is switched off by key, another forced by its button; the answer side by side.
    browser.run("document.getElementById('grid').focus()")
    app(browser, "app.grid.cursor = app.model.experts - 1;")
    browser.press("ArrowRight", number=39)
    for _ in range(expert):
        browser.press("ArrowRight", number=39)
    browser.press("o", text="o", number=79)
    check(app(browser, "return [...app.changes.off].join();") ==
          str(app(browser, "return app.model.experts;") + expert), "the key o does not switch off")
    browser.run("document.getElementById('routing').open = true")
    browser.run("document.getElementById('compare').click()")
    check(finished(browser), "the two answers do not end")
    found = app(browser, f"""
        const [left, right] = app.chat.last.answers;
        const took = (list) => list.known.filter((known, token) => known && list.weightOf(token, 1, {expert}) >= 0).length;
        let same = 0;
        while (same < left.list.length && left.list.ids[same] === right.list.ids[same]) {{ same++; }}
        return {{ columns: document.querySelectorAll('.columns.two .answer').length, seeds: left.seed === right.seed,
                 left: took(left.list), right: took(right.list), prompt: took(right.prompt), same,
                 verdict: document.querySelector('.verdict').textContent, length: left.list.length }};""")
    check(found["columns"] == 2 and found["seeds"], f"side by side {found}")
    check(found["right"] == 0 and found["prompt"] == 0, f"an expert that is off took tokens: {found}")
    check(found["left"] > 0, f"the answer without changes is changed: {found}")
    check("same" in found["verdict"] or "part" in found["verdict"], f"verdict {found['verdict']!r}")
    browser.run("document.querySelectorAll('.pick')[1].click()")
    check(app(browser, "return app.chat.last.picked;") == 1, "the other answer is not taken")
    browser.run("document.getElementById('undo').click()")
    check(app(browser, "return app.changes.any();") is False, "changes are not undone")
    # More experts than the server allows are refused in the field; then one for each token.
    set_field(browser, "top", 99)
    turns = app(browser, "return app.chat.turns.length;")
    ask(browser, "With too many")
    check(app(browser, "return app.chat.turns.length;") == turns, "99 experts are passed over")
    set_field(browser, "message", "")
    set_field(browser, "top", 1)
    ask(browser, "With one expert")
    check(finished(browser), "the answer with one expert does not end")
    check(app(browser, ANSWER + """return a.list.known.every((known, token) => !known ||
        [...Array(a.list.layers).keys()].every((layer) => a.list.experts[a.list.at(token, layer) + 1] === 65535));"""),
          "more than one expert for a token")
    # ... and two again in one layer.
    layer = app(browser, "return app.model.layers[1];")
    browser.run(f"document.getElementById('top-layer').value = {layer};"
                " document.getElementById('top-layer').dispatchEvent(new Event('change'))")
    check(browser.run("document.getElementById('top').value") == "", "a layer has the number of another")
    set_field(browser, "top", 2)
    check(app(browser, "return JSON.stringify(app.changes.fields());") ==
          json.dumps({"experts_per_token": [[-1, 1], [layer, 2]]}, separators=(",", ":")), "changes of layers")
    ask(browser, "With two in one layer")
    check(finished(browser), "the answer with two experts in one layer does not end")
    counts = app(browser, ANSWER + """return a.list.known.flatMap((known, token) => !known ? [] :
        [app.model.layers.map((_, layer) => { let n = 0; a.list.each(token, layer, () => { n++; }); return n; }).join()]);""")
    check(set(counts) == {",".join("2" if i == 1 else "1" for i in range(app(browser, "return app.model.layers.length;")))},
          f"experts of layers {set(counts)}")
    browser.run("document.getElementById('undo').click()")
    check(browser.run("document.getElementById('top').value") == "", "the field keeps what was undone")
    # A choice without an expert keeps its rank.
    found = app(browser, """
        const { TokenList } = await import('/record.js');
        const list = new TokenList(1, 2);
        list.setExperts(list.add(7, 'x'), [[null, [3, 0.5]]], [null]);
        return [list.first(0, 0), list.weightOf(0, 0, 3), list.experts[1], Number.isNaN(list.margin(0, 0))];""")
    check(found == [-1, 0.5, 3, True], f"a choice without an expert: {found}")


def trace_header(path):
    with open(path, "rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def check_trace(browser, server, program, folder):
    browser.run("document.getElementById('save').click()")
    for _ in range(200):
        names = [name for name in os.listdir(browser.downloads) if name.endswith(".safetensors")]
        if names:
            break
        browser.receive(0.05)
    check(names, "no trace was saved")
    if not names:
        return
    path = os.path.join(browser.downloads, names[0])
    known = app(browser, """return app.chat.turns.reduce((sum, turn) => sum + turn.answers.reduce((part, answer, number) =>
        part + answer.list.known.filter(Boolean).length + (number === 0 ? answer.prompt.known.filter(Boolean).length : 0), 0), 0);""")
    done = subprocess.run([program, "atlas", path, "--html", os.path.join(folder, "atlas.html")],
                          capture_output=True, text=True, timeout=60, check=False)
    words = " ".join(done.stdout.split())
    check(done.returncode == 0, f"mixt atlas: {done.stderr[:300]}")
    check(f"; {known} tokens of " in words, f"{known} tokens are not in {words[:300]}")
    for domain in ("prompt", "answer", "answer, changed"):
        check(domain in words, f"no domain {domain}")
    check("changed by hand" in words, "the change is not told")
    moe = json.loads(server.get("/props")[2])["moe"]
    metadata = json.loads(trace_header(path))["__metadata__"]
    check(metadata["tokenizer_hash"] == moe["tokenizer_hash"] and "router_select" not in metadata,
          f"what the trace says of itself: {metadata}")
    with open(os.path.join(folder, "atlas.html"), encoding="utf-8") as page:
        check(moe["tokenizer_hash"] in page.read(), "the atlas does not name the tokenizer")
    # Of a router that chooses otherwise.
    select = app(browser, """
        const { traceOfChat } = await import('/page.js');
        app.model.router_select = 'sinkhorn';
        const bytes = await traceOfChat().arrayBuffer();
        app.model.router_select = 'top-k';
        const length = Number(new DataView(bytes).getBigUint64(0, true));
        return JSON.parse(new TextDecoder().decode(bytes.slice(8, 8 + length))).__metadata__.router_select;""")
    check(select == "sinkhorn", f"router_select {select}")


FEED = """
    const { Answer } = await import('/answer.js');
    const chat = app.chat, model = app.model;
    if (!window.long) {
      chat.clear();
      const section = document.createElement('section');
      chat.log.append(section);
      const answer = new Answer(model, section, { seed: 1, title: '' });
      window.long = { text: '', section, answers: [answer], picked: 0 };
      answer.running = true;
      chat.turns.push(window.long);
    }
    const answer = window.long.answers[0];
    const words = ['The', ' quick', ' brown', ' fox', ' jumps', ' over', ' lazy', ' dogs', '.\\n', ' again'];
    for (let i = 0; i < COUNT; i++) {
      const position = answer.list.length;
      const token = words[(position * 7) % words.length];
      const layers = model.layers.map((_, layer) => Array.from({ length: model.chosen }, (_, rank) =>
        [(position * 5 + layer + rank) % model.experts, 0.5 - rank / 8]));
      const margins = model.layers.map((_, layer) => layer + position % 7 / 8);
      answer.take({ delta: { content: token } },
        { tokens: [{ position, id: position % 300, token, prompt: false, layers, margins }] }, [],
        (list, which) => app.onToken(answer, list, which));
      if (i % 10 === 9) {
        chat.changed(window.long, answer);
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    }
    return answer.view.spans.length;"""


def check_long(browser):
    """10,000 tokens, ten in a frame; what the first and the last thousand cost."""
    browser.size(*SIZES["desk"])
    costs = []
    for step in range(LONG // 1000):
        before = browser.layout_milliseconds()
        count = app(browser, FEED.replace("COUNT", "1000"))
        after = browser.layout_milliseconds()
        costs.append({name: after[name] - before[name] for name in after})
    check(count == LONG, f"{count} tokens are shown")
    for name, cost in (("first", costs[0]), ("last", costs[-1])):
        print(f"{name} 1,000 of {LONG:,} tokens: layout {cost['LayoutDuration']:.0f} ms, style "
              f"{cost['RecalcStyleDuration']:.0f} ms, all {cost['TaskDuration']:.0f} ms", flush=True)
    chapters = browser.run("""(() => { const chapters = [...document.querySelectorAll('.chapter')];
        const seen = (chapter) => chapter.firstChild.checkVisibility({ contentVisibilityAuto: true });
        return [chapters.length, chapters.filter(seen).length,
                Math.max(...chapters.map((c) => c.querySelectorAll('.t').length))]; })()""")
    check(chapters[0] >= 10 and chapters[1] < chapters[0] / 2 and chapters[2] < 1500, f"chapters {chapters}")
    before = time.monotonic()
    app(browser, "window.long.answers[0].view.paint(0);")
    print(f"colours of another layer: {1000 * (time.monotonic() - before):.0f} ms; "
          f"{chapters[0]} chapters, {chapters[1]} in sight")
    app(browser, "app.chat.clear();")


def take_pictures(browser, folder):
    for name, (width, height) in SIZES.items():
        for dark in (False, True):
            browser.size(width, height, dark=dark, mobile=name == "phone")
            browser.run("new Promise((resolve) => setTimeout(resolve, 150))")
            wide = browser.run("document.documentElement.scrollWidth")
            check(wide <= width, f"{wide} pixels wide in a window of {width}")
            browser.screenshot(os.path.join(folder, f"serve-{name}-{'dark' if dark else 'light'}.png"))
    browser.size(*SIZES["phone"], mobile=True)
    browser.run("document.getElementById('sheet').click()")
    check(browser.run("getComputedStyle(document.getElementById('chat')).display") == "none", "the sheet")
    browser.screenshot(os.path.join(folder, "serve-sheet.png"))
    browser.run("document.getElementById('sheet').click()")
    browser.call("Emulation.setEmulatedMedia", media="print")
    check(browser.run("getComputedStyle(document.getElementById('compose')).display") == "none", "print")
    browser.call("Emulation.setEmulatedMedia", media="", features=[
        {"name": "prefers-reduced-motion", "value": "reduce"}])
    check(app(browser, "return app.grid.calm.matches;"), "less motion is not asked for")


def check_key(browser, program, model, folder):
    """A server that wants a key; plain text, which the model goes on with."""
    server = Server(program, model, os.path.join(folder, "key.log"), "--api-key", "a secret")
    browser.size(*SIZES["desk"])
    browser.call("Page.navigate", url=server.address + "/")
    check(browser.wait("document.getElementById('ask-key')?.open"), "no key is asked for")
    browser.type("a secret")
    browser.press("Enter", text="\r", number=13)
    check(browser.wait("document.documentElement.className === 'ready'"), "the key does not open")
    browser.console = [line for line in browser.console if "401" not in line]
    set_field(browser, "max_tokens", 8)
    go_past_the_end(browser)
    browser.run("document.getElementById('settings').open = true")
    browser.run("document.getElementById('plain').click()")
    ask(browser, "The quick")
    check(finished(browser), "a text is not gone on with")
    found = app(browser, ANSWER + "return [a.list.length, a.text, a.view.holder.textContent, a.prompt.names.join('')];")
    check(found[0] == 8 and found[1] == found[2] and found[3].endswith("The quick") and "user" not in found[3],
          f"completion {found}")
    server.close()


def check_dense(browser, program, model, folder):
    """A model without experts: a chat as any other."""
    server = Server(program, model, os.path.join(folder, "dense.log"), "--template", "chatml")
    check(browser.open(server.address + "/"), "the page of a dense model does not come to be ready")
    set_field(browser, "max_tokens", 20)
    go_past_the_end(browser)
    ask(browser, "Hello")
    check(finished(browser), "a dense model does not answer")
    browser.run("document.querySelector('.answer .t').click()")
    found = app(browser, ANSWER + "return [a.list.length > 0, a.text === a.view.holder.textContent, a.finish, "
                "a.foot.textContent.split(' · ')[0]];")
    check(found == [True, True, "length", "20 tokens"], f"a dense model's answer {found}")
    check(browser.run("document.getElementById('study').offsetParent === null"), "experts of a dense model")
    server.close()


def check_store(browser, program, model, folder):
    """A model whose experts are on disk: numbers, and a curve when it is asked for."""
    server = Server(program, model, os.path.join(folder, "store.log"), "--template", "chatml", "--memory", "6M",
                    "-c", "128", "-np", "2")
    check(browser.open(server.address + "/"), "the page of a stored model does not come to be ready")
    set_field(browser, "max_tokens", 20)
    go_past_the_end(browser)
    ask(browser, "Hello")
    check(finished(browser), "a stored model does not answer")
    check(browser.wait("/^: \\d+\\.\\d.% hits$/.test(document.getElementById('store-rate').textContent)", 60),
          "no rate of hits: " + browser.run("document.getElementById('store-rate').textContent"))
    rows = browser.run("[...document.querySelectorAll('#store-facts tr')].map((row) => row.textContent)")
    check([row[:4] for row in rows] == ["Hits", "Read", "Wait", "Memo", "Read", "Room"], f"rows {rows}")
    check("of 48 experts" in rows[3] and "6.0\u00a0MB" in rows[3], f"memory {rows[3]}")
    check(browser.run("document.getElementById('store-warning').hidden"), "a warning without a reason")
    browser.run("document.getElementById('store-survey').click()")
    check(browser.wait("document.querySelectorAll('#store-curve path.value').length === 1 &&"
                       " !document.getElementById('store-survey').disabled", 60), "no curve is drawn")
    check("LRU" in browser.run("document.getElementById('store-words').textContent"), "the curve has no words")
    words = browser.run("import('/store.js').then(({ warning }) => [warning({ slots: 2, experts: 9, pool_bytes: 1e6,"
                        " token_bytes: 2e6 }), warning({ slots: 9, experts: 9, pool_bytes: 1e6, token_bytes: 2e6 })])")
    check("one token works with 2.0\u00a0MB" in words[0] and words[1] == "", f"warnings {words}")
    for size in SIZES:
        browser.size(*SIZES[size])
        browser.screenshot(os.path.join(folder, f"store-{size}.png"))
    browser.size(*SIZES["desk"])
    server.close()


def main():
    program, model, dense, large, folder = sys.argv[1:]
    if find() is None:
        sys.exit(77)
    server = Server(program, model, os.path.join(folder, "serve.log"), "--template", "chatml",
                    "--context-length", "4096")
    check_files(server)
    browser = Browser(folder)
    browser.size(*SIZES["desk"])
    check(browser.open(server.address + "/"), "the page does not come to be ready")
    go_past_the_end(browser)
    check_conversation(browser)
    check_token(browser)
    expert = check_expert(browser)
    check_changes(browser, expert)
    check_trace(browser, server, program, folder)
    browser.run("document.querySelectorAll('.answer .t')[5].click()")
    take_pictures(browser, folder)
    check_long(browser)
    server.close()
    check_key(browser, program, model, folder)
    check_dense(browser, program, dense, folder)
    check_store(browser, program, large, folder)
    check(not browser.console, f"the console says {browser.console[:5]}")
    foreign = [address for address in browser.addresses
               if not re.match(r"http://127\.0\.0\.1:|data:,$|blob:http://127\.0\.0\.1:", address)]
    check(not foreign, f"something is asked of {foreign[:3]}")
    browser.close()
    sys.exit(1 if problems else 0)


main()
