"""Which tokens go around a text, by class: what AutoTokenizer of the installed transformers does for a tokenizer.json with
and without a post-processor. tests/test_tokenizer_folders.c holds what 4.57 and 5.24 say.

    python3 tests/reference/tokenizer_folders.py
"""
import itertools
import json
import pathlib
import tempfile

from transformers import AutoTokenizer

CLASSES = ["PreTrainedTokenizerFast", "TokenizersBackend", "Qwen2Tokenizer", "GPT2Tokenizer", "BloomTokenizerFast",
           "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer",
           "GPTNeoXTokenizer"]
ADDED = [{"id": 4 + i, "content": f"<|{name}|>", "single_word": False, "lstrip": False, "rstrip": False,
          "normalized": False, "special": True} for i, name in enumerate("abc")]
SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
FIRST = {"SpecialToken": {"id": "<|c|>", "type_id": 0}}
TEMPLATE = {"type": "TemplateProcessing", "single": [FIRST, SEQUENCE], "pair": [FIRST, SEQUENCE, SEQUENCE],
            "special_tokens": {"<|c|>": {"id": "<|c|>", "ids": [6], "tokens": ["<|c|>"]}}}


def vocabulary(post):
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": ADDED, "normalizer": None,
            "pre_tokenizer": level, "post_processor": post, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {"p": 0, "q": 1, "r": 2, "\u0120": 3}, "merges": []}}


for name, post, flags in itertools.product(CLASSES, (None, TEMPLATE), (None, True, False)):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        config = {"tokenizer_class": name, "bos_token": "<|a|>", "eos_token": "<|b|>", "unk_token": "<|c|>"}
        if flags is not None:
            config |= {"add_bos_token": flags, "add_eos_token": flags}
        (path / "tokenizer.json").write_text(json.dumps(vocabulary(post)))
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        try:
            print(name, post is not None, flags, AutoTokenizer.from_pretrained(folder)("pq").input_ids)
        except Exception as error:  # noqa: BLE001
            print(name, post is not None, flags, type(error).__name__)
