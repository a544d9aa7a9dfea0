"""What the tokenizers library (its Oniguruma) counts to a class of characters, asked code point by code point, and the
rows of src/tokenizer/unicode_classes.h: characters that it knows and Unicode 14 does not. Needs tokenizers, and a Python
whose unicodedata is version 14 (3.11).

    python3 tests/reference/unicode_classes.py > rows.txt
"""
import unicodedata

from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
SCRIPTS = "Han Hiragana Katakana Latin Cyrillic Arabic".split()
assert unicodedata.unidata_version == "14.0.0"


def members(pattern):
    """Code points that a Split on the pattern takes away."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for block in range(0, 0x110000, 256):
        points = [c for c in range(block, block + 256) if not 0xD800 <= c < 0xE000]
        left = {ord(c) for part, _ in split.pre_tokenize_str("".join(map(chr, points))) for c in part}
        found |= set(points) - left
    return found


category = {c: name for name in CATEGORIES for c in members(rf"\p{{{name}}}")}
alphabetic = members(r"\p{Alphabetic}")
script = {c: name for name in SCRIPTS for c in members(rf"\p{{{name}}}")}
rows = []
for c in sorted(category):
    if unicodedata.category(chr(c)) == category[c]:
        continue
    kind = (category[c], c in alphabetic, script.get(c, ""))
    if rows and rows[-1][1] == c - 1 and rows[-1][2] == kind:
        rows[-1][1] = c
    else:
        rows.append([c, c, kind])
for first, last, (name, letters, of) in rows:
    print(f'    {{0x{first:x}, 0x{last:x}, "{name}", {str(letters).lower()}, "{of}"}},')
