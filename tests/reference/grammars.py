#!/usr/bin/env python3
"""Makes tests/fixtures/grammars.json: grammars in GBNF, and which texts they accept.

    python grammars.py [--out FILE]

Most grammars are random trees of literals, classes, groups, alternatives and repetitions, written
both as GBNF (llama.cpp's grammars/README.md) and as a regular expression, whose verdict counts:
Python's re. Recursive ones are JSON (verdicts of Python's json with no constants and no duplicate
check), sums (Python's ast), balanced brackets (a counter).

Each case: "grammar", "accepted" and "refused" texts.
"""

import argparse
import ast
import json
import pathlib
import random
import re

ALPHABET = "ab\"\\]^-\n\té€😀"


def gbnf_char(c, in_class):
    special = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", '"': '\\"', "]": "\\]", "[": "\\["}
    if c in special:
        return special[c]
    if in_class and c in "^-":
        return f"\\x{ord(c):02X}"
    if ord(c) > 127 and random.random() < 0.5:
        return f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"
    return c


class Rules:
    """Extra rules, so that references are there too."""

    def __init__(self):
        self.lines = []

    def add(self, body):
        name = f"rule-{len(self.lines)}"
        self.lines.append(f"{name} ::= {body}")
        return name


def tree(rules, depth):
    """(GBNF, regular expression, a function that makes a text)"""
    kind = random.random()
    if depth == 0 or kind < 0.25:
        text = "".join(random.choice(ALPHABET) for _ in range(random.randint(1, 3)))
        return ('"' + "".join(gbnf_char(c, False) for c in text) + '"', f"(?:{re.escape(text)})",
                lambda: text)
    if kind < 0.4:
        chosen = sorted(random.sample(ALPHABET, random.randint(1, 4)))
        negated = random.random() < 0.3
        span = random.random() < 0.3
        pieces = [gbnf_char(c, True) for c in chosen] + (["a-c", "\u00e0-\u00ff"] if span else [])
        inner = "".join(re.escape(c) for c in chosen) + ("a-c\u00e0-\u00ff" if span else "")
        expression = f"[{'^' if negated else ''}{inner}]"
        choices = [c for c in ALPHABET if re.fullmatch(expression, c)] or ["z"]
        return (f"[{'^' if negated else ''}{''.join(pieces)}]", expression,
                lambda: random.choice(choices))
    if kind < 0.45:
        return ".", r"[\s\S]", lambda: random.choice(ALPHABET)
    if kind < 0.65:
        parts = [tree(rules, depth - 1) for _ in range(random.randint(2, 3))]
        gbnf = " ".join(p[0] for p in parts)
        return (f"({gbnf})", "(?:" + "".join(p[1] for p in parts) + ")",
                lambda: "".join(p[2]() for p in parts))
    if kind < 0.8:
        parts = [tree(rules, depth - 1) for _ in range(random.randint(2, 3))]
        if random.random() < 0.2:
            parts.insert(0, ("", "", lambda: ""))
        gbnf = " | ".join(p[0] for p in parts)
        made = "(" + gbnf + ")" if random.random() < 0.5 else rules.add(gbnf)
        return made, "(?:" + "|".join(p[1] for p in parts) + ")", lambda: random.choice(parts)[2]()
    inner = tree(rules, depth - 1)
    least = random.randint(0, 3)
    most = random.choice([None, least, least + random.randint(0, 3)])
    quantifier = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    if quantifier is None:
        quantifier = f"{{{least}}}" if most == least else f"{{{least},{'' if most is None else most}}}"
    count = lambda: random.randint(least, least + 2 if most is None else most)
    regular = f"(?:{inner[1]}){{{least},{'' if most is None else most}}}"
    return inner[0] + quantifier, regular, lambda: "".join(inner[2]() for _ in range(count()))


def mutate(text):
    at = random.randint(0, len(text))
    kind = random.randint(0, 2)
    if kind == 0 or not text:
        return text[:at] + random.choice(ALPHABET) + text[at:]
    at = random.randrange(len(text))
    return text[:at] + (random.choice(ALPHABET) if kind == 1 else "") + text[at + 1:]


def random_case():
    while True:
        rules = Rules()
        gbnf, expression, make = tree(rules, 3)
        texts = {make() for _ in range(12)}
        texts |= {mutate(t) for t in texts} | {mutate(mutate(t)) for t in texts} | {""}
        texts = sorted(t for t in texts if len(t) < 24)
        pattern = re.compile(expression)
        accepted = [t for t in texts if pattern.fullmatch(t)]
        refused = [t for t in texts if not pattern.fullmatch(t)]
        if accepted and refused and len(gbnf) < 300:
            lines = [f"root ::= {gbnf}"] + rules.lines
            random.shuffle(lines)
            return dict(grammar="# made up\n" + "\n".join(lines) + "\n", accepted=accepted[:14],
                        refused=refused[:14])


JSON_GRAMMAR = r'''root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
'''


def json_case():
    texts = ['{}', '[]', '[1,2]', '{"a":1}', '{"a": [true, false, null]}', '"x"', '-1.5e+3', '0',
             '[[[[]]]]', '{"\\u00e9": "é€😀"}', '["\\n", "\\"", "\\\\"]', 'true', '[1,]', '{', '}',
             '{"a"}', '{"a":}', '{a:1}', "['a']", '"\n"', '01', '1.', '.5', '+1', '[1 2]', 'nul',
             '"\\x"', '"\\u12"', '', '[]]', '{"a":1,}', '-', '1e', '"a', 'truefalse', '[,]',
             '{"a":1 "b":2}', '{"k": {"k": {"k": [0]}}}', '{\n "a": 1,\n\t"b": 2}']

    def accepts(text):
        try:
            json.loads(text)
            return True
        except ValueError:
            return False
    accepted = [t for t in texts if accepts(t)]
    return dict(grammar=JSON_GRAMMAR, accepted=[t for t in accepted if "\t" not in t],
                refused=[t for t in texts if not accepts(t)])


def sum_case():
    grammar = 'root ::= sum\nsum ::= term ([-+] term)*\nterm ::= factor ([*] factor)*\n' \
              'factor ::= [1-9] [0-9]* | "(" sum ")"\n'
    texts = ["1", "12+3", "1+2*3", "(1)", "((1+2)*3)", "1-(2-(3-4))", "", "+", "1+", "(1", "1)",
             "()", "1**2", "(1+2)*", "1 + 2", "2*(3", "(((((7)))))", "1-2-3*4*(5)"]

    def accepts(text):
        try:
            ast.parse(text, mode="eval")
            return " " not in text and "**" not in text and "()" not in text
        except SyntaxError:
            return False
    return dict(grammar=grammar, accepted=[t for t in texts if accepts(t)],
                refused=[t for t in texts if not accepts(t)])


def bracket_case():
    texts = ["".join(random.choice("()[]") for _ in range(random.randint(0, 8)))
             for _ in range(200)] + ["()[]", "([])", "(([]))", "[[()]()]", ""]

    def accepts(text):
        while "()" in text or "[]" in text:
            text = text.replace("()", "").replace("[]", "")
        return text == ""
    accepted = sorted({t for t in texts if accepts(t)})
    refused = sorted({t for t in texts if not accepts(t)})
    return [dict(grammar=g, accepted=accepted[:20], refused=refused[:20])
            for g in ('root ::= ("(" root ")" | "[" root "]")*\n',
                      'root ::= | "(" root ")" root | "[" root "]" root\n')]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures/grammars.json")
    out = parser.parse_args().out
    random.seed(12)
    cases = [json_case(), sum_case(), *bracket_case()] + [random_case() for _ in range(150)]
    out.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    print(f"{len(cases)} grammars, {sum(len(c['accepted']) for c in cases)} texts accepted, "
          f"{sum(len(c['refused']) for c in cases)} refused")


if __name__ == "__main__":
    main()
