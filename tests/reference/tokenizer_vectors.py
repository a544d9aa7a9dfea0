#!/usr/bin/env python3
"""Tokenizers against libraries that we did not write: sentencepiece 0.1.97 and tokenizers 0.20.

  tokenizer_vectors.py compare PROGRAM SHARED [COUNT]
        ids of COUNT (10000) random strings for every vocabulary below SHARED/tokenizers
  tokenizer_vectors.py one PROGRAM PATH [COUNT]
        the same for one tokenizer.model or tokenizer.json

PROGRAM is the built tests/test_tokenizer, which encodes hexadecimal lines."""
import glob
import os
import random
import subprocess
import sys

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

POOLS = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJ", "0123456789", "  \t\n\r", "'", ".,;:!?-_/\\()[]{}<>|@#$%^&*+=~`\"",
         "éèêëàâäöüßñçÅå", "абвгдежз", "中文字漢語テスト한국어", "😀👍🏽👨‍👩‍👧🇩🇪", "\u0300\u0301\u0327\u0316\u0345\u05b0",
         "\u00a0\u2003\u3000\u1680\u180e\u200b\u2028\u2029\u0085\x0b\x0c\ufeff", "٣४५Ⅷ½²", "\u017f\u212a\u0130ıİ", "\x00\x01\x7f\x1c\x1f",
         "\U0001d400\U00020000\U000e0001", "ﬁﬀǅ゙がﾊﾟ각ｱｲ①㌔", "▁▁ ", "\ufffd\ufffe"]
WORDS = ["the ", "hello", " ", "  ", "   ", "\n\n", "\r\n", "def f(x):\n    return x", " " * 24, "don't", "I'LL", "WE'RE", "x'ſ", "The router",
         "<|endoftext|>", "|||IP_ADDRESS|||", "<|padding|>", "http://a.b/c?d=1", "1234567", "e\u0301", "\u1100\u1161\u11a8", " \u00a0 ", "<s>", "</s>",
         "<unk>", "<0x41>", "[INST]", "[/INST]", "<|im_start|>", "\t\t\t", "a" * 40, "antidisestablishmentarianism", "混合专家模型", "слова", "\n\n\n\n"]


def random_string(draw):
    pieces = []
    for _ in range(draw.randint(1, 12)):
        kind = draw.random()
        if kind < 0.35:
            pieces.append(draw.choice(WORDS))
        elif kind < 0.9:
            pool = draw.choice(POOLS)
            pieces.append("".join(draw.choice(pool) for _ in range(draw.randint(1, 8))))
        else:
            code = draw.randint(0, draw.choice([0x2fff, 0xffff, 0x10ffff]))
            pieces.append(chr(code if not 0xd800 <= code < 0xe000 else 0x41))
    return "".join(pieces)


def mixt_ids(program, path, strings, special):
    done = subprocess.run([program, "encode", path, "1" if special else "0"], check=True, text=True,
                          input="".join(text.encode().hex() + "\n" for text in strings), stdout=subprocess.PIPE)
    return [[int(word) for word in line.split()] for line in done.stdout.split("\n")[:-1]]


def reference(path):
    """Functions from text to ids, by whether special tokens in the text count."""
    if path.endswith(".json"):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(path)

        def encode(text, special):
            tokenizer.encode_special_tokens = not special
            return tokenizer.encode(text, add_special_tokens=False).ids

        return {special: lambda text, special=special: encode(text, special) for special in (False, True)}
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=path)
    return {False: model.encode}


def one(program, path, count):
    draw = random.Random(20240108)
    strings = [random_string(draw) for _ in range(count)]
    bad = 0
    for special, encode in reference(path).items():
        expected = [encode(text) for text in strings]
        got = mixt_ids(program, path, strings, special)
        differ = [(text, a, b) for text, a, b in zip(strings, expected, got) if a != b]
        print(f"{path} special={special}: {len(strings)} strings, {len(got)} answers, {len(differ)} differ", flush=True)
        for text, a, b in differ[:3]:
            print("   ", repr(text), "\n      expected", a, "\n      got     ", b)
        bad += len(differ) + (len(got) != len(strings))
    return bad


def compare(program, shared, count):
    folder = os.path.join(shared, "tokenizers")
    paths = sorted(glob.glob(f"{folder}/**/*.model*", recursive=True) + glob.glob(f"{folder}/gpt2/*.json") +
                   glob.glob(f"{folder}/olmo-gpt-neox/**/*.json", recursive=True))
    return sum(one(program, path, count) for path in paths if not path.endswith("_char.model"))


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("compare", "one"):
        sys.exit(__doc__)
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 10000
    sys.exit(1 if {"compare": compare, "one": one}[sys.argv[1]](sys.argv[2], sys.argv[3], count) else 0)


main()
