#!/usr/bin/env python3
"""Reference values for tests/test_tokenizer.c, from Hugging Face tokenizers and transformers.

  tokenizer.py training             writes training.txt, the text that the small vocabulary is trained on
  tokenizer.py fixtures SHARED      writes strings.hex, merges.txt and *.ids; SHARED holds tokenizers/gpt2, ...
  tokenizer.py compare PROGRAM TOKENIZER.json [COUNT]
        compares encodings of COUNT random strings; PROGRAM is the built tests/test_tokenizer
  tokenizer.py folder PROGRAM FOLDER
        loads FOLDER as transformers.PreTrainedTokenizerFast and compares it on strings.hex

small/tokenizer.json is what mixt itself saves after training on training.txt
(`test_tokenizer train FOLDER`); its ids come from Hugging Face.
Used with tokenizers 0.20 and transformers 4.45."""
import os
import random
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures", "tokenizer")
SMALL_VOCABULARY = 640

PARAGRAPHS = [
    "The router looks at a token and chooses two experts out of eight. The experts that were chosen do their work, "
    "the others rest, and the token goes on to the next layer. We'll see that it's not the subject that they've "
    "learnt but the shape of the words: I'm sure you'd say so too, don't you?",
    "Les experts ne se partagent pas les sujets, mais plutôt les formes : la ponctuation, les nombres, les mots "
    "français où l'accent compte. Voilà pourquoi la même couche choisit souvent le même expert.",
    "Die Aufteilung der Wörter ist größer, als man glaubt; schöne lange Wörter wie Wörterbuchübersetzung werden in "
    "viele Stücke zerlegt, und jedes Stück geht seinen eigenen Weg.",
    "混合专家模型把每个词交给两个专家。专家的选择由路由器决定。路由器学习的是语法，而不是主题。",
    "Эксперты выбирают слова, слова выбирают экспертов; так продолжается слой за слоем.",
    "def route(tokens, experts, k=2):\n    scores = tokens @ experts.T\n    best = scores.argsort(axis=-1)[:, -k:]\n"
    "    return best, scores\n\n\nfor (int i = 0; i < count; i++) {\n\tsum += values[i] * 0.125;\n\tif (sum > 1000) "
    "{\n\t\tbreak;\n\t}\n}",
    "Solve 12*x + 7 = 3*x - 20 for x.\n-3\nWhat is 1234567 + 7654321?\n8888888\nRound 3.14159 to two decimals.\n3.14",
    "aaaa aaaaaaaa aaaaaaaaaaaa bababababa abababab    spaces     and\n\n\nlines  \n  end",
    "naïve café 🙂🙂 👍🏽 e\u0301e\u0301 ½ ² Ⅷ ٣٤",
]

STRINGS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", " \n \n ", "a", " a", "a ", "  a", "a  b",
    "Hello, world!", "hello world", " Hello World", "HELLO WORLD", "don't", "I'll we've you're he'd it's I'm can't", "DON'T I'LL",
    "'s't're've'm'll'd", "’s ’t curly", "'", "''", "'''", "' s", "x'ſ", "'ſ", "'S 'T 'RE",
    "0", "12", "123", "1234", "12345678901234567890", "3.14159", "-1e-5", "1,000,000.00", "0x1F", "٣٤٥", "½ ² Ⅷ ①", "१२३",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a" * 33, "a" * 32, "ab" * 40,
    "the quick brown fox jumps over the lazy dog", "antidisestablishmentarianism", "tokenization tokenizers tokenize",
    "for (int i = 0; i < n; ++i) {\n    a[i] = b[i] * c;\n}\n", "def f(x):\n\treturn x ** 2\n", "<html><body>&amp;</body></html>",
    "https://example.org/a/b?c=d&e=f#g", "user@example.org", "C:\\path\\file.txt", "/usr/local/bin", "{\"key\": [1, 2, null]}",
    "$$\\sum_{i=0}^{n} x_i^2$$", "!!!", "...", "---", "===", "@@@@", "^^^^^^^^", "~`|\\", "#include <stdio.h>", "\"quoted\"", "a,b;c:d",
    "café", "cafe\u0301", "naïve façade", "Ångström A\u030angstro\u0308m", "ﬁ ﬀ ǅ", "Straße", "İstanbul ı", "ΑΒΓ αβγ", "привет мир",
    "中文字符", "中 文 字", "混合专家模型。", "日本語テスト", "か\u3099き\u3099", "한국어", "\u1112\u1161\u11ab\u1100\u1173\u11af", "ไทย", "हिन्दी", "עברית", "العربية",
    "🙂", "🙂🙂🙂", "👍🏽", "👨\u200d👩\u200d👧", "🇩🇪🇫🇷", "a🙂b", "\u0301", "\u0301\u0301\u0301", "e\u0301\u0316\u0327", "a\u0316\u0301", "\u0345\u0300",
    "\u00a0", "a\u00a0b", "\u2003\u2003", "\u3000x", "\u1680", "\u180e", "a\u180eb", "\u200b", "\u2028", "\u2029", "\u0085", "\x0b\x0c", "\ufeff", "\ufeffa",
    "\x00", "\x00\x00", "\x01\x02\x1f\x7f", "\ud7ff\ue000", "\ufffd", "\U0001d400\U00020000", "\U0010ffff", "\U000e0041",
    "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|endoftext|", "<<|endoftext|>>",
    "|||IP_ADDRESS|||", "x |||EMAIL_ADDRESS||| y", "<|padding|>", "<|im_start|>user\n<|im_end|>", "<|fim_prefix|>",
    "        indented by eight", "                                        forty", "x" + " " * 25 + "y", "\n        code\n", "   \n   \n",
    "trailing   ", "trailing \n", "one\n\ntwo\n\n\nthree", "mixed \t \n \t end", "line\r\nline\r\n\r\n", "a\rb",
    "The experts that were chosen do their work.", "Les experts ne se partagent pas", "12*x + 7 = 3*x - 20", "Wörterbuchübersetzung",
]

VOCABULARIES = [  # name, file below SHARED/tokenizers
    ("gpt2", "gpt2/tokenizer.json"),
    ("neox", "olmo-gpt-neox/allenai_gpt-neox-olmo-dolma-v1_5.json"),
    ("dolma2", "olmo-gpt-neox/allenai_dolma2.json"),
]


def encode(tokenizer, text, special):
    tokenizer.encode_special_tokens = not special
    return tokenizer.encode(text, add_special_tokens=False).ids


def write_ids(name, tokenizer):
    with open(os.path.join(FIXTURES, name + ".ids"), "w") as out:
        for special in (False, True):
            for text in STRINGS:
                print(*encode(tokenizer, text, special), file=out)


def fixtures(shared):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    with open(os.path.join(FIXTURES, "strings.hex"), "w") as out:
        for text in STRINGS:
            print(text.encode().hex(), file=out)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=SMALL_VOCABULARY, min_frequency=2, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    text = open(os.path.join(FIXTURES, "training.txt"), encoding="utf-8", newline="").read()
    tokenizer.train_from_iterator([text], trainer)
    import json
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    with open(os.path.join(FIXTURES, "merges.txt"), "w", encoding="utf-8") as out:
        for merge in merges:
            print(merge if isinstance(merge, str) else " ".join(merge), file=out)
    write_ids("small", Tokenizer.from_file(os.path.join(FIXTURES, "small", "tokenizer.json")))
    for name, path in VOCABULARIES:
        write_ids(name, Tokenizer.from_file(os.path.join(shared, "tokenizers", path)))


POOLS = ["abcdefghijklmnopqrstuvwxyz", "ABC", "0123456789", "  \t\n\r", "'", ".,;:!?-_/\\()[]{}<>|@#$%^&*+=~`\"", "éèêëàâäöüßñçÅå",
         "абвгдежз", "中文字漢語テスト한국어", "😀👍🏽👨‍👩‍👧🇩🇪", "\u0300\u0301\u0327\u0316\u0345\u05b0",
         "\u00a0\u2003\u3000\u1680\u180e\u200b\u2028\u2029\u0085\x0b\x0c\ufeff", "٣४५Ⅷ½²", "\u017f\u212a\u0130ıİ", "\x00\x01\x7f\x1c\x1f",
         "\U0001d400\U00020000\U000e0001", "ﬁﬀǅ゙がﾊﾟ각"]
WORDS = ["the ", "hello", "  ", "   ", "\n\n", "\r\n", "def f(x):\n    return x", " " * 24, "don't", "I'LL", "WE'RE", "x'ſ",
         "<|endoftext|>", "|||IP_ADDRESS|||", "<|padding|>", "http://a.b/c?d=1", "1234567", "e\u0301", "\u1100\u1161\u11a8", " \u00a0 ",
         "<|im_start|>", "\t\t\t", "a" * 40]


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


def mixt_ids(program, tokenizer, strings, special):
    done = subprocess.run([program, "encode", tokenizer, "1" if special else "0"], check=True, text=True,
                          input="".join(text.encode().hex() + "\n" for text in strings), stdout=subprocess.PIPE)
    return [[int(word) for word in line.split()] for line in done.stdout.split("\n")[:-1]]


def report(name, strings, expected, got):
    differ = [text for text, a, b in zip(strings, expected, got) if a != b]
    print(f"{name}: {len(strings)} strings, {len(got)} answers, {len(differ)} differ")
    for text in differ[:5]:
        print("   ", repr(text))
    if differ or len(got) != len(strings):
        sys.exit(1)


def compare(program, path, count):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    draw = random.Random(20240108)
    strings = [random_string(draw) for _ in range(count)]
    for special in (False, True):
        expected = [encode(tokenizer, text, special) for text in strings]
        report(f"{path} special={special}", strings, expected, mixt_ids(program, path, strings, special))


def folder(program, path):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    assert tokenizer.eos_token == "<|endoftext|>", tokenizer.eos_token
    expected = [tokenizer.encode(text, add_special_tokens=False) for text in STRINGS]
    report(path, STRINGS, expected, mixt_ids(program, os.path.join(path, "tokenizer.json"), STRINGS, True))
    for text, ids in zip(STRINGS, expected):
        assert tokenizer.decode(ids) == text, text
    print("decoded alike; eos", tokenizer.eos_token_id, "vocabulary", len(tokenizer))


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "training":
        with open(os.path.join(FIXTURES, "training.txt"), "w", encoding="utf-8", newline="") as out:
            out.write("\n\n".join(PARAGRAPHS * 2) + "\n")
    elif what == "fixtures" and len(sys.argv) == 3:
        fixtures(sys.argv[2])
    elif what == "compare" and len(sys.argv) >= 4:
        compare(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 10000)
    elif what == "folder" and len(sys.argv) == 4:
        folder(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)


main()
