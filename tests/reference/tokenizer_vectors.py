#!/usr/bin/env python3
"""Tokenizers against libraries that we did not write: sentencepiece 0.1.97 and tokenizers 0.20.

  tokenizer_vectors.py compare PROGRAM SHARED [COUNT]
        ids of COUNT (10000) random strings for every vocabulary below SHARED/tokenizers
  tokenizer_vectors.py one PROGRAM PATH [COUNT]
        the same for one tokenizer.model or tokenizer.json
  tokenizer_vectors.py gguf PROGRAM LLAMA_TOKENIZE PATH [COUNT]
        the same for a GGUF file against llama.cpp; LLAMA_TOKENIZE is llama_tokenize.c, built
  tokenizer_vectors.py fixtures
        trains the small models in tests/fixtures/tokenizer/pieces and writes their ids of strings.hex

PROGRAM is the built tests/test_tokenizer, which encodes hexadecimal lines."""
import glob
import json
import os
import random
import subprocess
import sys
import tempfile

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
    command = [program, path] if "llama_tokenize" in program else [program, "encode", path]
    done = subprocess.run(command + ["1" if special else "0"], check=True, text=True,
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


def gguf(program, llama, path, count):
    draw = random.Random(20240108)
    strings = [random_string(draw) for _ in range(count)]
    bad = 0
    for special in (False, True):
        expected = mixt_ids(llama, path, strings, special)
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


# --- Fixtures -----------------------------------------------------------------------------------

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures", "tokenizer")
RULES = [("\uff21", "A"), ("\uff22", "B"), ("\ufb01", "fi"), ("\u00bd", "1\u20442"), ("e\u0301", "\u00e9"), ("\u00a0", " "), ("\u3000", " "),
         ("\t", " "), ("\n", " "), ("\u200b", ""), ("\u3314", "\u30ad\u30ed"), ("\u2003", " ")]


def train_models(folder):
    """Small vocabularies of every kind; normalisation rules of our own keep the files small."""
    import sentencepiece

    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for source, target in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        rules.flush()
        plain = dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
        ruled = dict(normalization_rule_tsv=rules.name)
        kinds = {
            "bpe": dict(model_type="bpe", vocab_size=620, byte_fallback=True, user_defined_symbols=["<tool>", "\n\n", "  "],
                        control_symbols=["[INST]", "[/INST]"], allow_whitespace_only_pieces=True, split_digits=True, **plain),
            "bpe-rules": dict(model_type="bpe", vocab_size=360, pad_id=3, **ruled),
            "unigram": dict(model_type="unigram", vocab_size=250, user_defined_symbols=["<tool>", "expert"], control_symbols=["[CLS]"], **ruled),
            "unigram-bytes": dict(model_type="unigram", vocab_size=490, byte_fallback=True, add_dummy_prefix=False, **plain),
        }
        for name, options in kinds.items():
            sentencepiece.SentencePieceTrainer.train(input=os.path.join(FIXTURES, "training.txt"), model_prefix=os.path.join(folder, name),
                                                     character_coverage=0.98, minloglevel=2, **options)
            os.remove(os.path.join(folder, name + ".vocab"))
        sentencepiece.SentencePieceTrainer.train(input=os.path.join(FIXTURES, "training.txt"), model_prefix=os.path.join(folder, "char"),
                                                 model_type="char", vocab_size=60, minloglevel=2, **plain)
        os.remove(os.path.join(folder, "char.vocab"))


def unused(folder):
    """bpe.model with some pieces out of use: they are taken apart again."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.ParseFromString(open(os.path.join(folder, "bpe.model"), "rb").read())
    for index, piece in enumerate(model.pieces):
        if piece.type == 1 and len(piece.piece) > 1 and index % 3 == 0:
            piece.type = 5
    open(os.path.join(folder, "bpe-unused.model"), "wb").write(model.SerializeToString())


def json_tokenizers(folder):
    """tokenizer.json as the converters of transformers write them, old and new, and a Unigram one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer
    from transformers.convert_slow_tokenizer import convert_slow_tokenizer

    for name, legacy in (("llama", True), ("llama-first", False)):
        slow = LlamaTokenizer(os.path.join(folder, "bpe.model"), legacy=legacy)
        convert_slow_tokenizer(slow).save(os.path.join(folder, name + ".json"))
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    text = open(os.path.join(FIXTURES, "training.txt"), encoding="utf-8").read()
    tokenizer.train_from_iterator([text] * 3, trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "<s>"], unk_token="<unk>",
                                                                      show_progress=False))
    made = json.loads(tokenizer.to_str())
    # Few digits: the library's JSON reader is off by one unit in the last place for long numbers.
    made["model"]["vocab"] = [[piece, round(score, 5)] for piece, score in made["model"]["vocab"]]
    json.dump(made, open(os.path.join(folder, "unigram.json"), "w"), ensure_ascii=False)
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for name, regex in (("word", r"\w+\b|\B\W"),):
        made = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                          "fuse_unk": False, "byte_fallback": False, "vocab": alphabet, "merges": []}}
        json.dump(made, open(os.path.join(folder, name + ".json"), "w"), ensure_ascii=False)


def fixtures():
    folder = os.path.join(FIXTURES, "pieces")
    os.makedirs(folder, exist_ok=True)
    train_models(folder)
    unused(folder)
    json_tokenizers(folder)
    strings = [bytes.fromhex(line).decode() for line in open(os.path.join(FIXTURES, "strings.hex"))]
    for path in sorted(glob.glob(os.path.join(folder, "*.json")) + glob.glob(os.path.join(folder, "*.model"))):
        if path.endswith("char.model"):
            continue
        with open(path + ".ids", "w") as out:
            for encode in reference(path).values():
                for text in strings:
                    print(*encode(text), file=out)


def main():
    if sys.argv[1:] == ["fixtures"]:
        return fixtures()
    if len(sys.argv) >= 5 and sys.argv[1] == "gguf":
        sys.exit(1 if gguf(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 10000) else 0)
    if len(sys.argv) < 4 or sys.argv[1] not in ("compare", "one"):
        sys.exit(__doc__)
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 10000
    sys.exit(1 if {"compare": compare, "one": one}[sys.argv[1]](sys.argv[2], sys.argv[3], count) else 0)


main()
