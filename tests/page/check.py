#!/usr/bin/env python3
"""Tries an atlas page in headless Chromium: check.py FOLDER [markup], which holds page.html and
tables.txt (the same trace's terminal tables); markup: without the browser. Needs nothing but
Python's own library and chromium; exits with 77 where there is no chromium."""
import base64
import html.parser
import json
import os
import re
import sys
import time
import xml.dom.minidom

from browser import Browser, find

ALLOWED_SCRIPTS = 2  # the page's own and its block of numbers
problems = []


def check(fine, text):
    if not fine:
        problems.append(text)


class Page(html.parser.HTMLParser):
    """What the markup holds, as a browser's parser would see it."""

    void = {"meta", "link", "input", "br", "img", "hr"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags = {}
        self.attributes = []
        self.open = []
        self.tokens = []
        self.tables = []
        self.styles = ""
        self.radios = {}

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        values = dict(attributes)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in self.void:
            self.open.append((tag, values))
        if tag == "span" and values.get("class") == "t":
            self.tokens.append("")
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr" and self.tables:
            self.tables[-1]["rows"].append([])
        if tag in ("td", "th") and self.tables:
            self.tables[-1]["rows"][-1].append("")

    def handle_startendtag(self, tag, attributes):  # <path .../> closes itself
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        check(self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}")
        if self.open:
            self.open.pop()

    def handle_data(self, data):
        for tag, values in self.open:
            if tag == "span" and values.get("class") == "t":
                self.tokens[-1] += data
            if tag == "style":
                self.styles += data
            if tag == "caption":
                self.tables[-1]["caption"] += data
            if tag in ("td", "th") and self.tables and self.tables[-1]["rows"]:
                self.tables[-1]["rows"][-1][-1] += data


def check_markup(text):
    """No address, no handler, nothing but our own elements."""
    page = Page()
    page.feed(text)
    page.close()
    check(not page.open, f"left open: {page.open}")
    check(page.tags.get("script", 0) == ALLOWED_SCRIPTS, f"{page.tags.get('script')} scripts")
    known = {"html", "head", "meta", "link", "title", "style", "body", "header", "main", "section",
             "nav", "a", "p", "h1", "h2", "h3", "h4", "dl", "div", "dt", "dd", "ul", "li", "span",
             "strong", "small", "b", "figure", "figcaption", "svg", "desc", "path", "text", "rect",
             "circle", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td",
             "input", "label", "code", "script", "br"}
    check(set(page.tags) <= known, f"unexpected elements {set(page.tags) - known}")
    for tag, name, value in page.attributes:
        check(not name.startswith("on"), f"handler {name} in <{tag}>")
        if name in ("href", "src", "srcset", "action", "data", "poster", "xlink:href"):
            check(value.startswith("#") or value == "data:,", f"<{tag} {name}={value!r}>")
    check("url(" not in page.styles and "@import" not in page.styles, "the style loads something")
    check("default-src 'none'" in text, "no content security policy")
    check("<title" in text and 'lang="en"' in text, "no title or language")
    check(text.count("<svg class=\"chart\"") == text.count("<desc id="), "a chart has no description")
    ids = [value for _, name, value in page.attributes if name == "id"]
    check(len(ids) == len(set(ids)), "an id is there twice")
    check(any("alert(1)" in token or "alert" in token for token in page.tokens), "hostile text gone")
    check(not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202e]", text), "a control character")
    return page


def check_numbers(page, tables):
    """The table over all domains against the terminal's summary, number by number."""
    rows = []
    summary = next(part for part in tables.split("\n\n") if "consecutive tokens" in part)
    for line in summary.splitlines():
        if re.match(r" *\d+ ", line):
            rows.append(re.findall(r"\d+\.?\d*", line.replace("\u25b2", "")))
    table = next(t for t in page.tables if t["caption"].startswith("All domains"))
    shown = [re.findall(r"\d+\.?\d*", " ".join(row).replace("\u25b2", ""))
             for row in table["rows"][1:]]
    check(len(rows) == len(shown) > 0, f"{len(rows)} layers in the terminal, {len(shown)} here")
    for terminal, browser in zip(rows, shown):
        # layer, then share, low, high, use for each measure and, on the page, random; in the
        # terminal that of sets where it differs between layers
        plain = browser[:1] + [v for i, v in enumerate(browser[1:])
                               if i % 5 != 4 or (i == 9 and len(terminal) == 10)]
        check(terminal == plain, f"terminal {terminal}, page {plain}")
    marks = [row.count("\u25b2") for row in summary.splitlines()
             if re.match(r" *\d+ ", row)]
    check(marks == ["".join(row).count("\u25b2") for row in table["rows"][1:]],
          "marks differ")


# A few words for the scripts below; the page's own names are those of src/atlas/page.
WORDS = """
var all = (what, within) => [...(within || document).querySelectorAll(what)];
var one = (what) => document.querySelector(what);
var shown = (what) => all(what).filter((e) => e.getClientRects().length > 0).length;
var press = (what, text) => all(what).find((e) => e.textContent === text).click();
var frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 10)));
var later = async () => { for (let i = 0; i < 8; i++) await frame(); };
var scrolled = async (what) => { one(what).scrollIntoView({ behavior: 'instant' }); await later(); await later(); };
"""


class Tried:
    """The page in a browser."""

    def __init__(self, folder, page, block):
        self.browser = Browser(folder)
        self.block = block
        self.folder = folder
        self.page = page
        self.opened = 0
        self.address = "file://" + os.path.join(folder, "page.html")

    def open(self, hash_="", script=True):
        self.browser.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.opened += 1  # another address each time, else it would only move within the page
        self.browser.call("Page.navigate", url=f"{self.address}?{self.opened}{hash_}")
        ready = "document.documentElement?.classList.contains('ready')" if script else \
            "document.querySelector('#method .hashes') !== null"
        check(self.browser.wait(f"location.search === '?{self.opened}' && document.readyState === 'complete' && {ready}", 60), "the page did not get ready")
        self.browser.run(WORDS + "0")

    def run(self, script):
        return self.browser.run(f"(async () => {{ {script} }})()" if "await" in script else script)

    def is_true(self, script, problem):
        """... or becomes true: the page draws what comes near the window a moment later."""
        check(self.browser.wait(f"!!(() => {{ try {{ return {script}; }} catch {{ return false; }} }})()", 60), problem)

    def saved(self, name):
        """A file that the page gave for download."""
        path = os.path.join(self.browser.downloads, name)
        for _ in range(200):
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    return file.read()
            time.sleep(0.05)
        check(False, f"{name} was not given")
        return ""


def check_sizes(tried):
    """No script, a phone and a desk: nothing wider than the window, lettering that can be read."""
    for script in (False, True):
        for width in (360, 1280):
            tried.browser.size(width, 800)
            tried.open(script=script)
            tried.run("all('details').forEach((e) => { e.open = true; }); 0")
            wide = tried.run("document.documentElement.scrollWidth")
            check(wide <= width, f"{wide} pixels wide in a window of {width}, script {script}")
            low = tried.run("Math.min(...all('#repetition .pair svg text').map((e) => e.getBoundingClientRect().height))")
            check((low or 0) >= 8, f"lettering of {low} pixels in a window of {width}, script {script}")
            check(tried.run("document.title").startswith("Atlas of demo <b>model</b>"), "the title")
            nodes = tried.run("document.querySelectorAll('*').length")
            check(nodes < 30000, f"{nodes} elements")
            still = tried.run("[shown('#map .still'), shown('#text .still .t'), shown('#tokens .still table')].map(Boolean)")
            check(still == [not script] * 3, f"what stands still: {still}, script {script}")
            if not script:
                check(tried.run("shown('.panel')") == 1 and tried.run("shown('canvas')") == 0, "panels without a script")


def check_map(tried, layers, experts):
    """A click on a cell, keys, the slider, and the address that leads to the same view."""
    tried.browser.size(1280, 900)
    tried.open()
    tried.run("await scrolled('#explore');")
    box = tried.run("(({x, y, width, height}) => [x, y, width, height])(one('canvas').getBoundingClientRect())")
    wide, high = (box[2] - 36) / experts, (box[3] - 18) / layers
    want = (layers - 1, experts // 2)
    tried.browser.click(box[0] + 36 + (want[1] + 0.5) * wide, box[1] + 18 + (want[0] + 0.5) * high)
    tried.run("await later();")
    tried.is_true(f"location.hash.includes('e={want[1]}')", "a click on the map is not in the address")
    tried.is_true(f"one('#expert h3').textContent.endsWith('expert {want[1]}')", "a click on the map shows no expert")
    tried.is_true("shown('#expert svg') >= 2", "the expert's bars")
    address = tried.run("location.hash")
    tried.browser.press("ArrowLeft", number=37)
    tried.is_true(f"location.hash.includes('e={want[1] - 1}') || {want[1]} === 1 && location.hash.includes('e=0')", "keys do not move")
    tried.open(address)
    tried.run("await scrolled('#explore');")
    tried.is_true(f"one('#expert h3').textContent.endsWith('expert {want[1]}')", "the address does not lead back")
    tried.run("var slide = one('#slide input'); slide.value = 0; slide.dispatchEvent(new Event('input')); 0")
    tried.run("await later();")
    tried.is_true("!location.hash.includes('l=') || location.hash.includes('l=0')", "the slider")
    # every view of every model, and the numbers of the first
    names = "all('#controls [aria-label=\"{}\"] button').map((e) => e.textContent)"
    for model in tried.run(names.format("Model")) or [None]:
        if model is not None:
            tried.run(f"press('#controls button', {json.dumps(model)}); 0")
        for view in tried.run(names.format("Show")) + tried.run(names.format("mixt probe")):
            tried.run(f"press('#controls button', {json.dumps(view)}); 0")
    tried.open()
    tried.run("one('#controls .tools button:last-child').click(); 0")
    rows = [line.split(",") for line in tried.saved("map-load.csv").splitlines()]
    check(len(rows) == layers * experts + 1, f"{len(rows)} rows of the map")
    for layer in sorted({row[0] for row in rows[1:]}):
        mean = sum(float(row[2] or 0) for row in rows[1:] if row[0] == layer) / experts
        check(abs(mean - 1) < 1e-6 or mean == 0, f"layer {layer}: a mean load of {mean}")
    tried.run("one('#controls .tools button').click(); 0")
    xml.dom.minidom.parseString(tried.saved("map-load.svg"))
    tried.run("await scrolled('#layer');")
    tried.run("one('#layer .tools button').click(); 0")


def map_column(tried, view, column=2):
    """(expert, value or None) of each cell, as the map's CSV has it."""
    tried.run("one('#controls .tools button:last-child').click(); 0")
    rows = [line.split(",") for line in tried.saved(f"map-{view}.csv").splitlines()[1:]]
    return [(int(row[1]), float(row[column]) if row[column] else None) for row in rows]


def check_probe(tried, experts):
    """tests/test_page.c makes results of an expert's number."""
    for view, wanted in (("mask", lambda e: e / 1000), ("maskc", lambda e: e / 500), ("maskd", lambda e: -e / 1000),
                         ("reap", lambda e: 2 * e), ("norm", lambda e: 0.5), ("largest", lambda e: e)):
        masked = view.startswith("mask")
        row = tried.run("classes.indexOf('words')") if view == "maskc" else tried.run("domains.indexOf('Python')")
        tried.open(f"#v={view}&l=1&e=3&{'c' if view == 'maskc' else 'd'}={row}")
        tried.run("await scrolled('#map');")
        cells = map_column(tried, view)
        check(all(value is None if masked and e + 1 == experts else value is not None and abs(value - wanted(e)) < 1e-3 * max(1, abs(wanted(e)))
                  for e, value in cells), f"{view} on the map: {cells[:experts]}")
    text = tried.run("one('#expert').textContent")
    for part in ("changes by 0.0030 nats a token", "REAP score is 6,", f"number {experts - 3} of the layer's {experts}", "mean norm of 0.5",
                 "largest value in it is 3.", "mean outputs)4 -0.25", "weights (cosine)4 0.75"):
        check(part in text.replace("\u2002", " "), f"{part!r} is not said of the expert: {text[:600]}")
    tried.is_true("all('#expert figcaption b').map((b) => b.textContent).filter((t) => t.startsWith('Masked, by')).length === 2", "bars of masking")
    check(all(value == float(e + 1 == experts) for e, value in map_column(tried, "largest", 5)), "super experts in the CSV")
    tried.is_true("one('#scale').textContent.includes('super expert')", "super experts in the legend")
    tried.run("await scrolled('#experiments');")
    tried.is_true("shown('#experiments table') === 2 && shown('#experiments svg.chart') === 4", "tables and figures of the experiments")
    tried.is_true("one('#experiments').textContent.includes('at once 87.5 % predict the next token worse')", "routes")
    first = tried.run("[...one('#experiments tbody tr').cells].slice(1, 3).map((cell) => cell.textContent)")
    check(first == [str(experts - 2), f"{(experts - 2) / 1000:.4f}"], f"costs most to lose: {first}")
    tried.run("one('#experiments .chart').parentElement.querySelector('.tools button:last-child').click(); 0")
    curve = tried.saved("other-numbers-of-experts-a-token-nats-a-token-more.csv").splitlines()
    check(curve[0] == "experts a token,value,low,high,unchanged" and len(curve) == 3 and curve[1].startswith("1,0.25"), f"the curve: {curve}")


def check_pair(tried, experts):
    """Two traces: tokens that agree but for one in nine; what is known of the first alone is not shown
    of the second."""
    check_probe(tried, experts)
    tried.open("#v=reap")
    tried.run("await scrolled('#map'); all('#controls button')[1].click(); await later();")
    tried.is_true("location.hash.includes('m=1') && !location.hash.includes('v=reap')", "the second has no results of a probe")
    tried.open("#m=2&l=1&e=3")
    tried.run("await scrolled('#map');")
    tried.is_true("all('#expert .second').length > 0", "no bars of the second")
    tried.open("#t=3")
    tried.is_true("all('#detail tbody tr').length > 0 && all('#detail tbody tr').every((row) => row.lastChild.textContent === '0.25')",
                  "margins of the second")
    first = tried.run("data.agreement.first")
    check(all(abs(value - 8 / 9) < 0.001 for value in first), f"agreement {first}")
    check(set(tried.run("data.agreement.sets")) == {1}, "sets are the same")


def numbers(text):
    """Whole numbers in LEB128, in base 64."""
    value, scale, found = 0, 0, []
    for byte in base64.b64decode(text):
        value |= (byte & 127) << scale
        scale += 7
        if byte < 128:
            found.append(value)
            value = scale = 0
    return found


def check_search(tried):
    """The places of "the" in the whole text, document by document, as the block of numbers has it; a
    place in an excerpt leads to its token, another one opens."""
    trace = tried.block["traces"][0]
    order, pieces, places = (numbers(trace[key]) for key in ("order", "pieces", "places"))
    check(len(places) == trace["tokens"] == trace["searched"], f"{len(places)} tokens to search in {trace['tokens']}")
    at, wanted, domains = 0, 0, set()
    for domain, _, count in zip(pieces[::3], pieces[1::3], pieces[2::3]):
        text = "".join(trace["words"][order[place]] for place in places[at:at + count]).lower()
        wanted += text.count("the")
        domains |= {domain} if "the" in text else set()
        at += count
    said = tried.run("one('#hits .note').textContent").replace("\u202f", "")
    check(said == f"{wanted} places in the whole text of {trace['tokens']} tokens", f"{said!r}, {wanted} places")
    check(wanted > 40, f"only {wanted} places to try with")
    bars = tried.run("all('#hits figure svg > g').length")
    check(bars == (len(domains) if len(domains) > 1 else 0), f"{bars} bars, {len(domains)} domains")
    tried.run("one('#hits .more').click(); 0")
    check(tried.run("all('#hits li').length") == min(80, wanted), "more places")
    tried.run("one('#hits [aria-expanded]').click(); 0")
    tried.is_true("one('#hits [aria-expanded]').textContent.length > all('#hits [aria-expanded]')[1].textContent.length",
                  "a place does not open")
    excerpt = tried.run("textOf(excerpts[0].at, excerpts[0].at + 6)")
    tried.run(f"one('#search').value = {json.dumps(excerpt)}; one('#search').dispatchEvent(new Event('input')); 0")
    tried.run("await later();")
    tried.run("all('#hits .context').find((own) => !own.hasAttribute('aria-expanded')).click(); 0")
    tried.run("await later();")
    tried.is_true("!one('#detail').hidden", "a place in an excerpt leads nowhere")
    address = tried.run("location.hash")
    tried.open(re.sub("q=[^&]*", "q=", address))
    seen = "(({ top }) => top > 0 && top < innerHeight)(one('#texts .t.on').getBoundingClientRect())"
    check(tried.browser.wait(f"one('#texts .t.on') !== null && {seen}", 60), "the address of a token does not lead to it")
    tried.run("one('#detail .close').click(); 0")


def check_texts(tried, layers):
    """Tokens, their experts as the markup has them, legend, search, filter."""
    tried.open()
    tried.run("await scrolled('#text');")
    titles = [value for tag, name, value in tried.page.attributes if name == "title" and value.startswith("expert ")]
    tried.is_true("all('#texts .t').length > 0 && all('#texts .t *').length === 0", "the text")
    tried.run("one('#texts .t').click(); 0")
    tried.is_true(f"all('#detail tbody tr').length === {layers}", "a token's layers")
    here = tried.run("all('#detail .here td')[0].textContent")
    found = [(int(n), float(w)) for n, w in re.findall(r"(\d+) (\d+\.\d+)", here)]
    wanted = [(int(n), float(w)) for n, w in re.findall(r"(\d+) \((\d+\.\d+)\)", titles[0])]
    check([n for n, _ in found] == [n for n, _ in wanted] and
          all(abs(a - b) < 0.011 for (_, a), (_, b) in zip(found, wanted)), f"token: {here!r}, {titles[0]!r}")
    tried.run("one('#texts .text').focus(); 0")
    tried.browser.press("ArrowRight", number=39)
    tried.is_true("all('#texts .t')[1].classList.contains('on')", "keys do not move in the text")
    tried.run("one('#detail .close').click(); 0")
    tried.is_true("one('#detail').hidden", "the token stays")
    tried.run("one('#keys .chip').click(); 0")
    tried.run("await later();")
    tried.is_true("location.hash.includes('e=') && shown('#texts .dim') > 0", "a legend chip does nothing")
    tried.run("press('#keys button', 'all tokens'); one('#search').value = 'the'; one('#search').dispatchEvent(new Event('input')); 0")
    tried.run("await later();")
    tried.is_true("location.hash.includes('q=the') && one('#hits').textContent.includes('places')", "search")
    check_search(tried)
    before = tried.run("all('#texts .excerpt').length")
    tried.run("one('#keys [aria-label=\"Domains shown\"] button').click(); 0")
    tried.run("await later();")
    check(tried.run("all('#texts .excerpt').length") == before - (before > 1), "a domain that is left out stays")


def check_looks(tried):
    """Dark is another picture; print shows what stands still."""
    tried.browser.size(1280, 900)
    tried.open()
    pixel = "one('canvas').toDataURL()"
    tried.run(f"var light = {pixel}; 0")
    tried.browser.size(1280, 900, dark=True)
    tried.is_true(f"{pixel} !== light", "the map is the same in the dark")
    tried.browser.call("Emulation.setEmulatedMedia", media="print")
    tried.is_true("shown('#explore') === 0 && shown('#map .still svg') > 0 && shown('.tools') === 0", "print")
    tried.browser.call("Emulation.setEmulatedMedia", media="")


def check_browser(folder, page, block):
    tried = Tried(folder, page, block)
    shape = (len(block["traces"][0]["layers"]), block["traces"][0]["experts"])
    try:
        check_sizes(tried)
        check_map(tried, *shape)
        check_texts(tried, shape[0])
        check_looks(tried)
        if len(block["traces"]) > 1:
            check_pair(tried, shape[1])
        check(not tried.browser.console, f"the console says {tried.browser.console[:3]}")
        asked = {a.split("?")[0] for a in tried.browser.addresses} - {tried.address, "about:blank", "data:,"}
        asked = {a for a in asked if not a.startswith("blob:")} # what it gives for download
        check(not asked, f"asked for {asked}")
        check("owned" not in tried.run("document.title"), "a token ran as a script")
    finally:
        tried.browser.close()


def main():
    folder = os.path.abspath(sys.argv[1])
    with open(os.path.join(folder, "page.html"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(folder, "tables.txt"), encoding="utf-8") as file:
        tables = file.read()
    page = check_markup(text)
    check_numbers(page, tables)
    check("\x1b" not in tables and "\u202e" not in tables, "the terminal text holds an escape")
    whole = sys.argv[2:] != ["markup"]
    chromium = find() if whole else None
    block = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1))
    if chromium is not None and not problems:
        check_browser(folder, page, block)
    for problem in problems:
        print("page:", problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    if chromium is None and whole:
        sys.exit(77)


main()
