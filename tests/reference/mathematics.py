#!/usr/bin/env python3
"""Checks every answer of text from mixt_mathematics_generate with sympy.

  mathematics.py < pairs.txt

Prints how many pairs of each kind were checked; ends with status 1 when an answer is wrong or a question is not
understood. The digest in tests/test_mathematics.c is that of a text that passed."""
import collections
import re
import sys
from fractions import Fraction
from math import comb, gcd

import sympy
from sympy import Rational, factorint, isprime, sympify

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ORDINALS = ["zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
ROOTS = {"square": 2, "cube": 3, "fourth": 4, "fifth": 5, "sixth": 6}
SHARES = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "fifth": 5, "fifths": 5, "eighth": 8, "eighths": 8,
          "tenth": 10, "tenths": 10}
SIZES = {}
for names in ({"nanometer": 1, "micrometer": 10**3, "millimeter": 10**6, "centimeter": 10**7, "meter": 10**9, "kilometer": 10**12},
              {"nanogram": 1, "microgram": 10**3, "milligram": 10**6, "gram": 10**9, "kilogram": 10**12, "tonne": 10**15},
              {"millilitre": 1, "litre": 1000}, {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
              {"month": 1, "year": 12, "decade": 120}):
    for name, size in names.items():
        SIZES[name] = SIZES[name + "s"] = size
SIZES.update({"century": 1200, "centuries": 1200, "millennium": 12000, "millennia": 12000})


SYMBOLS = {c: sympy.Symbol(c) for c in "abcdefghijklmnopqrstuvwxyz"}


def parse(text):
    text = re.sub(r"(?<![\w.])(\d+\.\d+|\d+)(?![\w.])", r"Rational('\1')", text)
    text = re.sub(r"\*\*Rational\('(\d+)'\)", r"**\1", text)
    return eval(text, {"Rational": Rational, "sqrt": sympy.sqrt, "__builtins__": {}}, dict(SYMBOLS))


def number(text, known):
    value = parse(text)
    return value.subs({SYMBOLS[k]: v for k, v in known.items()}) if hasattr(value, "subs") else sympify(value)


def equation(text):
    left, right = text.split(" = ")
    return parse(left) - parse(right)


def solve(text, letter):
    return sympy.solve(equation(text), SYMBOLS[letter])


def minutes(text):
    clock, half = text.split(" ")
    hour, minute = clock.split(":")
    return int(hour) % 12 * 60 + int(minute) + (720 if half == "PM" else 0)


def bag(text):
    if text[0] == "{":
        return {part.split(": ")[0]: int(part.split(": ")[1]) for part in text[1:-1].split(", ")}
    return dict(collections.Counter(text))


def probability(event, counts):
    total = sum(counts.values())
    if event.startswith("sequence "):
        result, left = Fraction(1), dict(counts)
        for letter in event[9:]:
            result *= Fraction(left[letter], total)
            left[letter] -= 1
            total -= 1
        return result
    taken = {part.split(" ")[1]: int(part.split(" ")[0]) for part in re.split(r", | and ", event[8:])}
    result = Fraction(1, comb(total, sum(taken.values())))
    for letter, count in taken.items():
        result *= comb(counts[letter], count)
    return result


def listed(text):
    return [part for part in text.split(", ")]


def lettered(text):
    return re.findall(r"\((\w)\) (\S+)", text)


def digits(text, base):
    return int(text, base)


class Checker:
    def __init__(self):
        self.kinds = collections.Counter()

    def preamble(self, question):
        """Numbers and functions that sentences before the question define."""
        known, functions = {}, {}
        while True:
            match = re.match(r"Let (\w)\((\w)\) = (.*?)\. ", question)
            if match:
                functions[match[1]] = (SYMBOLS[match[2]], parse(match[3]))
            else:
                match = re.match(r"Let (\w) (?:=|be) (.*?)\. ", question)
                if match:
                    known[match[1]] = number(match[2], known)
                else:
                    match = re.match(r"Suppose (.*?)\. (?!What is \w\?$)", question)
                    if not match:
                        return known, functions, question
                    letter = re.search(r"[a-z]", match[1])[0]
                    known[letter], = solve(match[1], letter)
            question = question[match.end():]

    def expected(self, question):
        known, functions, q = self.preamble(question)
        value = lambda text: number(text, known)
        for pattern, kind, function in RULES:
            match = re.fullmatch(pattern, q)
            if match:
                result = function(match, value, functions)
                if result is not None:
                    self.kinds[kind] += 1
                    return kind, result
        return None, None


def same(x):
    return lambda answer: parse(answer) == x


def polynomial(x):
    return lambda answer: sympy.expand(parse(answer) - x) == 0 and "(" not in answer


def truth(x):
    return lambda answer: answer == ("True" if x else "False")


def text(x):
    return lambda answer: answer == x


def rank(match, value, names):
    chosen = sorted(names, key=lambda name: parse(name[1]), reverse=match["kind"] == "biggest")
    return text(chosen[ORDINALS.index((match["rank"] or "first").strip()) - 1][0])


def nearest(match, names):
    target = parse(match["target"])
    chosen = sorted(names, key=lambda name: abs(parse(name[1]) - target))
    assert abs(parse(chosen[0][1]) - target) < abs(parse(chosen[1][1]) - target)
    return text(chosen[0][0])


def root_near(degree, radicand):
    return lambda answer: (2 * int(answer) - 1) ** degree <= 2 ** degree * radicand <= (2 * int(answer) + 1) ** degree


def rounding(match):
    x, where = Fraction(match[1]), match[2]
    if where.startswith("the nearest "):
        step = {"integer": 1, "ten": 10, "hundred": 100, "thousand": 1000, "ten thousand": 10**4, "one hundred thousand": 10**5}[where[12:]]
    else:
        step = Fraction(1, 10 ** WORDS.index(where.split(" ")[0]))
    return lambda answer: Fraction(answer) % step == 0 and abs(Fraction(answer) - x) < Fraction(step) / 2


def sequence_value(match, at):
    terms = [int(t) for t in listed(match["terms"])]
    n = SYMBOLS["z"]
    fitted = sympy.interpolate(list(enumerate(terms, 1)), n)
    assert sympy.degree(fitted, n) < len(terms) - 1 if fitted.has(n) else True
    return fitted.subs(n, len(terms) + 1) if at is None else fitted.subs(n, SYMBOLS[at])


def apply_functions(expression, functions, value):
    results = {}
    while True:
        inner = re.search(r"\b([a-z])\(([^()]*)\)", expression)
        if not inner:
            break
        variable, body = functions[inner[1]]
        argument = results[inner[2]] if inner[2] in results else value(inner[2])
        name = "ABCD"[len(results)]
        results[name] = sympy.expand(body.subs(variable, argument))
        expression = expression[:inner.start()] + name + expression[inner.end():]
    return sympy.expand(eval(expression, {"__builtins__": {}}, results))


def rearranged(match, value, functions):
    form = re.fullmatch(r"(?:Rearrange|Express) (.*) (?:to|in) the form (.*) and give (\w)\.", match[0])
    letter = re.search(r"[a-z]", form[1])
    p = sympy.Poly(parse(form[1]), SYMBOLS[letter[0]])
    for part in form[2].split(" + "):
        if part[0] == form[3]:
            power = re.search(r"\*\*(\d+)", part)
            return same(p.coeff_monomial(SYMBOLS[letter[0]] ** (int(power[1]) if power else 1 if "*" in part else 0)))


def derivative(match):
    times = ORDINALS.index(match["times"]) if match.groupdict().get("times") else 1
    return polynomial(sympy.diff(sympy.expand(parse(match["body"])), SYMBOLS[match["x"]], times))


def factored(match):
    body = sympy.expand(parse(match[1]))
    return lambda answer: answer == str(sympy.factor(body)) and sympy.expand(parse(answer) - body) == 0


def prime_list(x):
    return text(", ".join(str(p) for p in sorted(factorint(int(x)))))


def roots(body, letter):
    return text(", ".join(str(r) for r in sorted(sympy.roots(sympy.Poly(parse(body), SYMBOLS[letter])))))


def together(match):
    first, second, letter = re.fullmatch(r"Solve (.*), (.*) for (\w)\.", match[0]).groups()
    letters = sorted(set(re.findall(r"[a-z]", first + second)))
    solution, = sympy.linsolve([equation(first), equation(second)], [SYMBOLS[c] for c in letters])
    return same(solution[letters.index(letter)])


def compared(a, relation, b):
    a, b = parse(a), parse(b)
    return truth({">": a > b, "<": a < b, "bigger than": a > b, "greater than": a > b, "smaller than": a < b, "less than": a < b,
                  "at least": a >= b, "at most": a <= b, ">=": a >= b, "<=": a <= b}[relation])


N = r"(-?\d+(?:\.\d+)?)"
V = r"(-?\d+|[a-z])"
END = r"[.?]?"
RULES = [
    (rf"(?:What is )?(-?\w+) \(base (\d+)\) (?:in|to) base (\d+){END}", "base",
     lambda m, v, f: lambda a: digits(a, int(m[3])) == digits(m[1], int(m[2]))),
    (r"In base (\d+), what is (-?\w+) ([+-]) (-?\w+)\?", "add in base",
     lambda m, v, f: lambda a: digits(a, int(m[1])) == digits(m[2], int(m[1])) + (1 if m[3] == "+" else -1) * digits(m[4], int(m[1]))),
    (rf"(?:What is |Add |What is the sum of |Total of ){N} (?:plus|and) {N}{END}", "add", lambda m, v, f: same(parse(m[1]) + parse(m[2]))),
    (rf"What is {N} minus {N}\?", "subtract", lambda m, v, f: same(parse(m[1]) - parse(m[2]))),
    (rf"(?:Subtract|Take|What is) {N} (?:from|away from|less than) {N}{END}", "subtract", lambda m, v, f: same(parse(m[2]) - parse(m[1]))),
    (rf"(?:What is |Multiply |Product of |What is the product of |){N} (?:times|and) {N}{END}", "multiply", lambda m, v, f: same(parse(m[1]) * parse(m[2]))),
    (rf"(?:What is |Divide |Calculate |){N} (?:divided by|by) {N}{END}", "divide", lambda m, v, f: same(parse(m[1]) / parse(m[2]))),
    (rf"What is the (\w+) root of (\d+) to the nearest integer\?", "root", lambda m, v, f: root_near(ROOTS[m[1]], int(m[2]))),
    (rf"What is (\d+) to the power of 1/(\d), to the nearest integer\?", "root", lambda m, v, f: root_near(int(m[2]), int(m[1]))),
    (r"Simplify (.*)\.", "surd", lambda m, v, f: lambda a: parse(a) == sympy.simplify(parse(m[1])) and a == str(sympy.simplify(parse(m[1])))),
    (rf"(?:What is|Round) {N} (?:rounded )?to (.*){END}", "round", lambda m, v, f: rounding(re.fullmatch(rf"{N} to (.*)", f"{m[1]} to {m[2].rstrip('.?')}"))),
    (rf"(?:What is|Calculate) the (?:greatest|highest) common (?:divisor|factor) of {V} and {V}{END}", "gcd", lambda m, v, f: same(sympy.igcd(v(m[1]), v(m[2])))),
    (rf"(?:What is|Calculate) the (?:least|lowest|smallest) common multiple of {V} and {V}{END}", "lcm", lambda m, v, f: same(sympy.ilcm(v(m[1]), v(m[2])))),
    (rf"(?:What is|Calculate) the common denominator of (\S+) and ([^.?]+){END}", "denominator",
     lambda m, v, f: same(sympy.ilcm(parse(m[1]).q, parse(m[2]).q))),
    (rf"(?:What is|Calculate) the remainder when {V} is divided by {V}{END}", "remainder", lambda m, v, f: same(v(m[1]) % v(m[2]))),
    (rf"Is (\d+) a factor of {V}\?", "factor", lambda m, v, f: truth(v(m[2]) % int(m[1]) == 0)),
    (rf"Does (\d+) divide {V}\?", "factor", lambda m, v, f: truth(v(m[2]) % int(m[1]) == 0)),
    (rf"Is {V} a multiple of (\d+)\?", "factor", lambda m, v, f: truth(v(m[1]) % int(m[2]) == 0)),
    (rf"Is {V} (?:a )?(prime|composite)(?: number)?\?", "prime", lambda m, v, f: truth(isprime(int(v(m[1]))) == (m[2] == "prime"))),
    (rf"(?:What are|List) the prime factors of {V}{END}", "factors", lambda m, v, f: prime_list(v(m[1]))),
    (rf"What is the (units|tens|hundreds|thousands|ten thousands|hundred thousands|millions|ten millions) digit of {V}\?", "digit",
     lambda m, v, f: same(int(v(m[2])) // 10 ** ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands", "millions",
                                                 "ten millions"].index(m[1]) % 10)),
    (r"Expand (.*)\.", "expand", lambda m, v, f: polynomial(sympy.expand(parse(m[1])))),
    (r"Collect the terms in (.*)\.", "collect", lambda m, v, f: polynomial(sympy.expand(parse(m[1])))),
    (r"(?:Rearrange|Express) .*", "rearrange", rearranged),
    (r"Differentiate (?P<body>.*) wrt (?P<x>\w)\.", "derivative", lambda m, v, f: derivative(m)),
    (r"(?:What is|Find) the (?P<times>\w+) derivative of (?P<body>.*) wrt (?P<x>\w)[.?]", "derivative", lambda m, v, f: derivative(m)),
    (r"Factor (.*)\.", "factor polynomial", lambda m, v, f: factored(m)),
    (r"Suppose (.*) = 0\. What is (\w)\?", "roots", lambda m, v, f: roots(m[1], m[2])),
    (r"Find (\w) such that (.*) = 0\.", "roots", lambda m, v, f: roots(m[2], m[1])),
    (r"(?:What is next in |What is the next term in |What comes next: )(?P<terms>[-\d, ]+)\?", "next", lambda m, v, f: same(sequence_value(m, None))),
    (r"What is the (?P<n>\w)'th term of (?P<terms>[-\d, ]+)\?", "nth", lambda m, v, f: polynomial(sequence_value(m, m["n"]))),
    (r"Solve [^,]* for \w\.", "linear", lambda m, v, f: same(solve(*re.fullmatch(r"Solve (.*) for (\w)\.", m[0]).groups())[0])),
    (r"Solve .*, .* for \w\.", "linear 2", lambda m, v, f: together(m)),
    (r"Which is (greater|bigger|smaller): (\S+) or (\S+)\?", "pair",
     lambda m, v, f: text((min if m[1] == "smaller" else max)([m[2], m[3]], key=parse))),
    (r"Is (\S+) equal to (\S+)\?", "pair", lambda m, v, f: truth(parse(m[1]) == parse(m[2]))),
    (r"Is (\S+) not equal to (\S+)\?", "pair", lambda m, v, f: truth(parse(m[1]) != parse(m[2]))),
    (r"Do (\S+) and (\S+) have (the same value|different values)\?", "pair", lambda m, v, f: truth((parse(m[1]) == parse(m[2])) == (m[3][0] == "t"))),
    (r"Is (\S+) ([a-z<>=]+(?: [a-z]+)?) (\S+)\?", "pair", lambda m, v, f: compared(m[1], m[2], m[3])),
    (r"Which is the (?P<rank>\w+ )?(?P<kind>biggest|smallest) value\?(?P<list>.*)", "rank", lambda m, v, f: rank(m, v, lettered(m["list"]))),
    (r"What is the (?P<rank>\w+ )?(?P<kind>biggest|smallest) value in (?P<list>.*)\?", "rank", lambda m, v, f: rank(m, v, [(t, t) for t in listed(m["list"])])),
    (r"Which is the (?:closest|nearest) to (?P<target>[^?]+)\?(?P<list>.*)", "closest", lambda m, v, f: nearest(m, lettered(m["list"]))),
    (r"What is the (?:closest|nearest) to (?P<target>\S+) in (?P<list>.*)\?", "closest", lambda m, v, f: nearest(m, [(t, t) for t in listed(m["list"])])),
    (r"(?:Sort|Put) (.*) in (\w+) order\.", "sort", lambda m, v, f: text(", ".join(sorted(listed(m[1]), key=parse, reverse=m[2][0] == "d")))),
    (r"How many minutes are there between (\S+ [AP]M) and (\S+ [AP]M)\?", "time", lambda m, v, f: same((minutes(m[2]) - minutes(m[1])) % 1440)),
    (r"What is (\d+) minutes (after|before) (\S+ [AP]M)\?", "time",
     lambda m, v, f: lambda a: minutes(a) == (minutes(m[3]) + (1 if m[2] == "after" else -1) * int(m[1])) % 1440),
    (r"How many (\w+) are there in (\w+) (\w+) of an? (\w+)\?", "share", lambda m, v, f: same(Rational(WORDS.index(m[2]), SHARES[m[3]]) * SIZES[m[4]] / SIZES[m[1]])),
    (r"What is (\d+/\d+) of an? (\w+) in (\w+)\?", "share", lambda m, v, f: same(parse(m[1]) * SIZES[m[2]] / SIZES[m[3]])),
    (rf"How many (\w+) are there in {N} (\w+)\?", "units", lambda m, v, f: same(parse(m[2]) * SIZES[m[3]] / SIZES[m[1]])),
    (rf"(?:What is|Convert) {N} (\w+) (?:in|to) (\w+)[.?]", "units", lambda m, v, f: same(parse(m[1]) * SIZES[m[2]] / SIZES[m[3]])),
    (r"(\w+) letters picked without replacement from ([^.]*)\. (?:What is|Give) prob of (.*)[.?]", "letters", lambda m, v, f: same(Rational(probability(m[3], bag(m[2]))))),
    (r"(?:What is|Calculate) prob of (.*) when \w+ letters picked without replacement from ([^.?]*)[.?]", "letters", lambda m, v, f: same(Rational(probability(m[1], bag(m[2]))))),
    (r"(?:What is|Give|Determine|Calculate) ([^?]*\w\([\w, ()-]+\)[^?]*?)[.?]", "function", lambda m, v, f: polynomial(apply_functions(m[1], f, v)) if f else None),
    (r"(?:What is |Work out |Calculate |Evaluate |)([-+*/() \d.]+?)[.?]?", "expression", lambda m, v, f: same(sympify(parse(m[1])))),
]


def main():
    lines = sys.stdin.read().split("\n")[:-1]
    assert len(lines) % 128 == 0, len(lines)
    checker, wrong = Checker(), 0
    for question, answer in zip(lines[::2], lines[1::2]):
        kind, check = checker.expected(question)
        if check is None or not check(answer):
            wrong += 1
            if wrong <= 20:
                print("NOT UNDERSTOOD" if check is None else "WRONG " + kind, "|", question, "|", answer)
    print(*(f"{kind} {count}" for kind, count in sorted(checker.kinds.items())), sep=", ")
    print(f"{len(lines) // 2} pairs, {wrong} wrong")
    sys.exit(wrong != 0)


main()
