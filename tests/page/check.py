#!/usr/bin/env python3
"""Tries an atlas page in headless Chromium: check.py FOLDER, which holds page.html and tables.txt
(the same trace's terminal tables). Needs nothing but Python's own library and chromium; exits with
77 where there is no chromium."""
import html
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

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
    """The first table of the page against the terminal's summary, number by number."""
    rows = []
    summary = next(part for part in tables.split("\n\n") if "consecutive tokens" in part)
    for line in summary.splitlines():
        if re.match(r" *\d+ ", line):
            rows.append(re.findall(r"\d+\.?\d*", line.replace("\u25b2", "")))
    shown = [re.findall(r"\d+\.?\d*", " ".join(row).replace("\u25b2", ""))
             for row in page.tables[0]["rows"][1:]]
    check(page.tables[0]["caption"].startswith("All domains"), "the first table is another one")
    check(len(rows) == len(shown) > 0, f"{len(rows)} layers in the terminal, {len(shown)} here")
    for terminal, browser in zip(rows, shown):
        # layer, then share, low, high, use for each measure and, on the page, random; in the
        # terminal that of sets where it differs between layers
        plain = browser[:1] + [v for i, v in enumerate(browser[1:])
                               if i % 5 != 4 or (i == 9 and len(terminal) == 10)]
        check(terminal == plain, f"terminal {terminal}, page {plain}")
    marks = [row.count("\u25b2") for row in summary.splitlines()
             if re.match(r" *\d+ ", row)]
    check(marks == ["".join(row).count("\u25b2") for row in page.tables[0]["rows"][1:]],
          "marks differ")


# Looks at the frames from outside; the page's own policy stays in force in them.
PROBE = """<script>
function all(d, what) { return Array.prototype.slice.call(d.querySelectorAll(what)); }
function experts(d) { return all(d, '.t').map(function (t) { return t.getAttribute('data-e'); }).join(); }
function look(frame) {
  var d = frame.contentDocument, w = frame.contentWindow, out = {};
  function shown(what) {
    return all(d, what).filter(function (e) { return w.getComputedStyle(e).display !== 'none'; }).length;
  }
  out.width = d.documentElement.scrollWidth;
  out.title = d.title;
  out.js = d.documentElement.className;
  out.panels = shown('#domains .panel');
  out.tokens = d.querySelectorAll('.t').length;
  out.dead = d.querySelectorAll('.text *:not(span), .text [onmouseover], .text [onerror]').length;
  out.dots = all(d.querySelector('#repetition .pair svg'), 'circle title').map(function (t) {
    return t.textContent; });
  out.lettering = Math.min.apply(null, all(d, '#repetition .pair svg text').map(function (t) {
    return t.getBoundingClientRect().height; }));
  out.coloured = w.getComputedStyle(d.querySelector('.t')).backgroundColor;
  out.switches = shown('.js-only');
  d.querySelector('.t').click();
  out.detail = d.getElementById('detail').hidden ? '' : d.getElementById('detail').textContent;
  out.chips = d.querySelectorAll('#detail .chip').length;
  d.querySelector('.text').dispatchEvent(
    new w.KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
  out.moved = d.querySelectorAll('.t')[1].classList.contains('on');
  var before = experts(d), layers = all(d, 'input[name=xl]');
  layers[layers.length - 1].click();
  out.repainted = layers.length < 2 || before !== experts(d);
  all(d, 'input[name=pl]').pop().click();
  out.panelsAfter = shown('#domains .panel');
  all(d, 'details').forEach(function (e) { e.open = true; });
  out.widthOpen = d.documentElement.scrollWidth;
  return out;
}
window.onload = function () {
  var found = all(document, 'iframe').map(look);
  document.body.innerHTML = '<pre id="result"></pre>';
  document.getElementById('result').textContent = JSON.stringify(found);
};
</script>"""


def browse(chromium, folder, name, width, extra=()):
    profile = tempfile.mkdtemp(dir=folder)
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions",
               "--disable-background-networking", "--disable-component-update", "--no-first-run",
               "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
               "--enable-logging=stderr", "--virtual-time-budget=5000",
               f"--window-size={width},900", "--dump-dom", *extra,
               "file://" + os.path.join(folder, name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    check(not console, f"{name}: the console says {console[:3]}")
    return done.stdout


def check_frame(out, width, page):
    """What holds with and without a script."""
    check(out["width"] <= width, f"{out['width']} pixels wide in a window of {width}")
    check(out["widthOpen"] <= width, f"{out['widthOpen']} pixels wide with tables open")
    check(out["title"].startswith("Atlas of demo <b>model</b>"), f"title {out['title']!r}")
    check(out["panels"] == 1 and out["panelsAfter"] == 1, f"panels shown: {out}")
    check(out["tokens"] == len(page.tokens) > 0, "tokens differ from the markup")
    check(out["dead"] == 0, "elements inside the text")
    check(out["lettering"] >= 8, f"lettering of {out['lettering']} pixels")
    check(out["coloured"] not in ("transparent", "rgba(0, 0, 0, 0)"), "text without colour")
    first = page.tables[0]["rows"][1]
    share = re.findall(r"\d+\.\d", first[1])[0]
    check(out["dots"][0].startswith(f"layer {first[0]}: {share} %"), f"dot {out['dots'][0]}")
    check(len(out["dots"]) == len(page.tables[0]["rows"]) - 1, "dots are missing")


def check_browser(chromium, folder, text, page):
    """A phone, a desk, and a phone without scripts, in frames whose documents the probe reads; then
    the file as a person opens it."""
    silent = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    frames = ((360, text), (1280, text), (360, silent))
    with open(os.path.join(folder, "probe.html"), "w", encoding="utf-8") as file:
        file.write('<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">')
        for width, document in frames:
            file.write(f'<iframe style="border:0;width:{width}px;height:800px" '
                       f'srcdoc="{html.escape(document)}"></iframe>')
        file.write(PROBE)
    dom = browse(chromium, folder, "probe.html", 1400)
    found = re.search(r'<pre id="result">(.*?)</pre>', dom, re.S)
    check(found is not None, "the page did not load")
    for (width, document), out in zip(frames, json.loads(html.unescape(found.group(1))) if found
                                      else []):
        check_frame(out, width, page)
        if document is silent:
            check(out["js"] == "" and out["switches"] == 0, "switches that do nothing are shown")
            continue
        check(out["js"] == "js" and out["switches"] == 1, "the script did not run under the policy")
        check("goes to" in out["detail"] and out["chips"] > 0, f"detail {out['detail']!r}")
        check(out["moved"] and out["repainted"], "keys or the layer switch do nothing")
    dom = browse(chromium, folder, "page.html", 1280)
    check('class="js"' in dom, "the script did not run from a file")
    check("owned</title>" not in dom, "a token ran as a script")


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "page.html"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(folder, "tables.txt"), encoding="utf-8") as file:
        tables = file.read()
    page = check_markup(text)
    check_numbers(page, tables)
    check("\x1b" not in tables and "\u202e" not in tables, "the terminal text holds an escape")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is not None and not problems:
        check_browser(chromium, folder, text, page)
    for problem in problems:
        print("page:", problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    if chromium is None:
        sys.exit(77)


main()
