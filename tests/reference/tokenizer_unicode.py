"""Writes tests/fixtures/tokenizer/unicode.txt: what tokenizers (0.23.3, whose Oniguruma has Unicode 16) makes of random
strings over all of Unicode: pieces by patterns, text by normalizers. Needs tokenizers, sentencepiece and protobuf.

    python3 tests/reference/tokenizer_unicode.py > tests/fixtures/tokenizer/unicode.txt
    python3 tests/reference/tokenizer_unicode.py 10000 > FILE; UNICODE_LINES=FILE build/release/tests/test_tokenizer_unicode
                                                                               more strings for each rule
    python3 tests/reference/tokenizer_unicode.py classes > FILE              every character in every class, likewise
"""
import json
import pathlib
import random
import re
import sys

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
ROWS = (HERE / "../../src/tokenizer/unicode_classes.h").read_text()
YOUNG = [(int(a, 16), min(int(b, 16), int(a, 16) + 30)) for a, b in re.findall(r"\{0x([0-9a-f]+), 0x([0-9a-f]+)", ROWS)]
COMMON = ["I love you", "don't", "  ", "\n\n", "1234", "ｶﾞﾎﾟ", "ﬁ①²", "e\u0301\u0327", "ÅǅΣİ", "각ᄀ", "слова", "中文", "!?", "\u3000x", "한"]
PATTERNS = [
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+",
    r"\s?\p{L}+|\s?\p{P}+|\p{N}", r"\w+|[^\w\s]+", r"\b\w|\d+|\D", r"[[:alpha:]]+|[[:digit:]]|[[:space:]]+",
    r"\P{L}+", r"[\p{Han}]+|\p{Hiragana}+|\p{Katakana}+|\p{Latin}+|\p{Cyrillic}+"]


def random_string(draw):
    parts = []
    for _ in range(draw.randint(1, 6)):
        kind = draw.random()
        if kind < 0.4:
            parts.append(draw.choice(COMMON))
        elif kind < 0.7:
            point = draw.randint(1, draw.choice([0x2FFF, 0xFFFF, 0x3FFFF]))
            parts.append(chr(point) if not 0xD800 <= point < 0xE000 else "x")
        else:
            first, last = draw.choice(YOUNG)
            parts.append("".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 2))))
    return "".join(parts)


last = ""


def line(kind, rule, text, pieces):
    """An empty rule is that of the line before."""
    global last
    print(kind, rule if rule != last else "", text.encode().hex(), " ".join(piece.encode().hex() for piece in pieces), sep="\t")
    last = rule


CLASSES = [r"\p{%s}" % name for name in (
    "L M N P S Z C Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Alphabetic "
    "Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Hebrew Thai Devanagari").split()]
CLASSES += [r"\w", r"\s", r"\d"] + ["[[:%s:]]" % name for name in "alpha alnum digit space blank word xdigit cntrl".split()]


def every_character():
    """Lines of 200 characters that follow each other; a piece each where the class holds them, else with the neighbours,
    which it does not hold."""
    for pattern in CLASSES:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        between = "\n" if len(split.pre_tokenize_str("\n\n")) == 1 else "a"
        assert len(split.pre_tokenize_str(between * 2)) == 1
        for first in range(1, 0x110000, 200):
            text = between.join(chr(point) for point in range(first, min(first + 200, 0x110000)) if not 0xD800 <= point < 0xE000)
            if text:
                line("split", pattern, text, [piece for piece, _ in split.pre_tokenize_str(text)])


if sys.argv[1:] == ["classes"]:
    every_character()
    sys.exit()
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 16
draw = random.Random(9)
for pattern in PATTERNS:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    for text in ["I love you \U0001fa77"] + [random_string(draw) for _ in range(COUNT)]:
        line("split", pattern, text, [piece for piece, _ in split.pre_tokenize_str(text)])
model = sentencepiece_model_pb2.ModelProto()
model.ParseFromString((HERE / "../fixtures/tokenizer/pieces/unigram.model").read_bytes())
rules = model.normalizer_spec.precompiled_charsmap
strip = normalizers.Strip
chain = [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]
for made in [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(), strip(),
             strip(left=False), strip(right=False), normalizers.Replace(Regex(r" {2,}|\A\w"), "_"), normalizers.Precompiled(rules),
             normalizers.Sequence(chain)]:
    state = made.__getstate__().decode()
    for text in ["  ﬁ x  "] + [random_string(draw) for _ in range(COUNT)]:
        line("normalizer", json.dumps(json.loads(state)), text, [made.normalize_str(text)])
