"""What the tokenizers library (its Oniguruma) counts to a class of characters, asked code point by code point, and the
rows of src/tokenizer/unicode_classes.h: characters that it knows and Unicode 14 does not, and those that were not
alphabetic there (GROWN: where tokenizer_unicode.py's classes differ without them). Needs tokenizers, regex (for names of
scripts), and a Python whose unicodedata is version 14 (3.11).

    python3 tests/reference/unicode_classes.py > rows.txt
"""
import unicodedata

import regex
from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
SCRIPTS = sorted({name.title() for name in regex._regex_core.PROPERTIES["SCRIPT"][1] if len(name) != 4 or name == "KAWI"}
                 - {"Common", "Unknown", "Inherited"})  # four letters are codes
GROWN = [*range(0x363, 0x370), 0xF82, 0xF83, *range(0x1DD3, 0x1DE7), 0x11080, 0x11081]
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
script = {}
young = [c for c in sorted(category) if unicodedata.category(chr(c)) != category[c]]
for name in SCRIPTS:
    try:
        held = members(rf"\p{{{name}}}")
    except Exception:  # a name of more words, or one that Oniguruma does not have
        continue
    script |= {c: name for c in young if c in held}
rows = []
for c in sorted(category):
    if unicodedata.category(chr(c)) == category[c] and not (c in GROWN and c in alphabetic):
        continue
    kind = (category[c], c in alphabetic, script.get(c, ""))
    if rows and rows[-1][1] == c - 1 and rows[-1][2] == kind:
        rows[-1][1] = c
    else:
        rows.append([c, c, kind])
for first, last, (name, letters, of) in rows:
    print(f'    {{0x{first:x}, 0x{last:x}, "{name}", {str(letters).lower()}, "{of}"}},')
