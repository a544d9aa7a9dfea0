#!/usr/bin/env python3
"""Fixtures of RoPE's kinds from Hugging Face transformers: tests/fixtures/rope.

  python rope.py tables             # tables.json: frequencies of published configurations
  python rope.py models [--check]   # models.json: logits of the models of families/ with other keys
  python rope.py files              # files.json: the same of GGUF files, from llama.cpp (xllamacpp)

Made with transformers 5.24.0, torch 2.15.0, xllamacpp 2026.10 on the CPU; --check compares, also by
another version.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from families_common import read_tokens

HERE = pathlib.Path(__file__).resolve().parent
FAMILIES = HERE.parent / "fixtures" / "families"
OUT = HERE.parent / "fixtures" / "rope"
FIRST = 10  # tokens of a prompt, the others one by one behind it

# ---------------------------------------------------------------------------------------------
# Frequencies and attention factors of published configurations (what RoPE reads of them).

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
DEEPSEEK = {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
            "original_max_position_embeddings": 4096}
LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "moe_intermediate_size": 2048, "intermediate_size": 18432, "n_routed_experts": 8,
          "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0}


def rising(first, last, count):
    """Factors as LongRoPE's search leaves them: rising, of uneven steps (Phi-3.5's begin so)."""
    return [round(first + (last - first) * (i / (count - 1)) ** 2, 4) for i in range(count)]


def dense(hidden, heads, context, theta, **more):
    return {"model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads,
            "num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 64,
            "max_position_embeddings": context, "rope_theta": theta, **more}


def latent(kind, context, scaling):
    return dense(7168, 128, context, 10000.0, model_type=kind, rope_scaling=scaling, **LATENT)


PUBLISHED = {
    "Llama-2-7B": dense(4096, 32, 4096, 10000.0),
    "Llama-3.1-8B": dense(4096, 32, 131072, 500000.0, rope_scaling=LLAMA3),
    "Llama-3.2-1B": dense(2048, 32, 131072, 500000.0, head_dim=64,
                          rope_scaling=LLAMA3 | {"factor": 32.0}),
    "Mixtral of Llama 3.1": dense(4096, 32, 131072, 500000.0, model_type="mixtral",
                                  num_local_experts=8, num_experts_per_tok=2, rope_scaling=LLAMA3),
    "longchat-7b-16k": dense(4096, 32, 16384, 10000.0,
                             rope_scaling={"type": "linear", "factor": 8.0}),
    "dynamic, in its context": dense(4096, 32, 4096, 10000.0,
                                     rope_scaling={"type": "dynamic", "factor": 2.0}),
    "dynamic, beyond it": dense(4096, 32, 4096, 10000.0,
                                rope_scaling={"type": "dynamic", "factor": 2.0}),
    "Yarn-Llama-2-7b-64k": dense(4096, 32, 65536, 10000.0, rope_scaling={
        "type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096,
        "finetuned": True}),
    "Qwen3-30B-A3B with YaRN": dense(
        2048, 32, 40960, 1000000.0, model_type="qwen3_moe", head_dim=128, num_experts=8,
        num_experts_per_tok=2, moe_intermediate_size=64,
        rope_scaling={"rope_type": "yarn", "factor": 4.0,
                      "original_max_position_embeddings": 32768}),
    "DeepSeek-V2-Lite": latent("deepseek_v2", 163840,
                               DEEPSEEK | {"mscale": 0.707, "mscale_all_dim": 0.707}),
    "DeepSeek-V3": latent("deepseek_v3", 163840,
                          DEEPSEEK | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    "gpt-oss-20b": dense(
        2880, 64, 131072, 150000, model_type="gpt_oss", head_dim=64, num_key_value_heads=8,
        num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
        rope_scaling={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                      "original_max_position_embeddings": 4096, "truncate": False}),
    "Phi-3.5-MoE, short": dense(
        4096, 32, 131072, 10000.0, original_max_position_embeddings=4096,
        rope_scaling={"type": "longrope", "short_factor": rising(1.0, 2.8, 64),
                      "long_factor": rising(1.0, 64.8, 64)}),
    "Phi-3.5-MoE, long": dense(
        4096, 32, 131072, 10000.0, original_max_position_embeddings=4096,
        rope_scaling={"type": "longrope", "short_factor": rising(1.0, 2.8, 64),
                      "long_factor": rising(1.0, 64.8, 64)}),
    "MiniCPM4": dense(
        4096, 32, 32768, 10000.0,
        rope_scaling={"rope_type": "longrope", "original_max_position_embeddings": 32768,
                      "short_factor": rising(0.99, 38.9, 64),
                      "long_factor": rising(0.99, 38.9, 64)}),
    "Mistral-Large-like attention_factor": dense(
        4096, 32, 131072, 1000000.0, rope_scaling={
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16384,
            "attention_factor": 1.0, "beta_fast": 4.0}),
    "transformers 5": dense(4096, 32, 131072, 10000.0, rope_scaling={}, rope_parameters={
        **LLAMA3, "rope_theta": 500000.0}),
}
LENGTHS = {"dynamic, beyond it": 9000, "Phi-3.5-MoE, long": 4097}


def make_tables():
    cases = []
    for name, keys in PUBLISHED.items():
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "config.json").write_text(json.dumps(keys))
            config = AutoConfig.from_pretrained(folder)
        kind = config.rope_parameters["rope_type"]
        length = LENGTHS.get(name, 16)
        if kind == "default":
            head = config.hidden_size // config.num_attention_heads
            theta = config.rope_parameters["rope_theta"]
            rates = 1 / theta ** (torch.arange(0, head, 2, dtype=torch.float) / head)
            factor = 1.0
        else:
            rates, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
        cases.append({"name": name, "config": keys, "length": length, "factor": factor,
                      "rates": [float(f"{x:.9g}") for x in rates.tolist()]})
    write("tables.json", cases)


def write(name, cases):
    text = ",\n".join(json.dumps(case) for case in cases)
    (OUT / name).write_text(f"[{text}]\n")
    print(name, len(cases), "cases,", (OUT / name).stat().st_size, "bytes")


# ---------------------------------------------------------------------------------------------
# Logits of the tiny models of tests/fixtures/families with other keys; null takes a key away.

YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8}
SMALL_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.5, 2.0],
        "long_factor": [1.0, 2.0, 5.0, 9.5]}


def scaling(values, **more):
    return {"rope_theta": 500.0, "rope_scaling": values, **more}


MODELS = [
    ("mixtral", "linear", scaling({"type": "linear", "factor": 4.0})),
    ("mixtral", "linear of transformers 5, which says theta",
     {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 700.0}}),
    ("mixtral", "dynamic in its context", scaling({"type": "dynamic", "factor": 2.0})),
    ("mixtral", "dynamic beyond it", scaling({"rope_type": "dynamic", "factor": 2.0},
                                             max_position_embeddings=16)),
    ("mixtral", "yarn", scaling(YARN)),
    ("mixtral", "yarn with both mscales", scaling(YARN | {"mscale": 0.7, "mscale_all_dim": 1.2})),
    ("mixtral", "yarn with mscale", scaling(YARN | {"mscale": 0.7})),
    ("mixtral", "yarn with mscale_all_dim", scaling(YARN | {"mscale_all_dim": 0.7})),
    ("mixtral", "yarn with attention_factor",
     scaling(YARN | {"attention_factor": 1.37, "mscale": 0.7, "mscale_all_dim": 1.2})),
    ("mixtral", "yarn with betas", scaling(YARN | {"beta_fast": 4, "beta_slow": 0.25})),
    ("mixtral", "yarn with betas of nothing", scaling(YARN | {"beta_fast": 0, "beta_slow": None})),
    ("mixtral", "yarn unrounded", scaling(YARN | {"truncate": False})),
    ("mixtral", "yarn without a factor", scaling(YARN | {"factor": None})),
    ("mixtral", "llama3, the original context beside",
     scaling(SMALL_LLAMA3, original_max_position_embeddings=8)),
    ("mixtral", "yarn without an original context",
     scaling({"rope_type": "yarn", "factor": 8.0}, max_position_embeddings=32)),
    ("mixtral", "empty rope_scaling beside rope_parameters",
     {"rope_scaling": {}, "rope_parameters": YARN | {"rope_theta": 500.0}}),
    ("mixtral", "rope_parameters with theta alone",
     {"rope_parameters": {"rope_theta": 500.0}}),
    ("mixtral", "llama3", scaling(SMALL_LLAMA3)),
    ("mixtral", "longrope, short", scaling(LONG | {"original_max_position_embeddings": 32})),
    ("mixtral", "longrope, long", scaling(LONG | {"original_max_position_embeddings": 8})),
    ("mixtral", "longrope from short to long",
     scaling(LONG | {"original_max_position_embeddings": 16})),
    ("mixtral", "longrope with factors",
     scaling(LONG | {"factor": 6.0, "original_max_position_embeddings": 8})),
    ("mixtral", "longrope with attention_factor",
     scaling(LONG | {"attention_factor": 1.5}, original_max_position_embeddings=8)),
    ("llama-gqa", "linear", scaling({"type": "linear", "factor": 2.5})),
    ("llama-gqa", "llama3", scaling(SMALL_LLAMA3)),
    ("qwen2_moe", "yarn", scaling(YARN)),
    ("qwen3_moe", "yarn with both mscales",
     scaling(YARN | {"mscale": 1.0, "mscale_all_dim": 1.0})),
    ("qwen3_moe", "llama3", scaling(SMALL_LLAMA3)),
    ("olmoe", "dynamic beyond its context",
     scaling({"type": "dynamic", "factor": 4.0}, max_position_embeddings=12)),
    ("mistral", "linear", scaling({"rope_type": "linear", "factor": 4})),
    ("deepseek_v2", "yarn with both mscales",
     scaling(YARN | {"mscale": 0.707, "mscale_all_dim": 0.707})),
    ("deepseek_v3", "yarn with other mscales",
     scaling(YARN | {"mscale": 0.7, "mscale_all_dim": 1.2})),
    ("deepseek_v3", "yarn with mscale", scaling(YARN | {"mscale": 0.7})),
    ("deepseek_v3", "yarn with mscale_all_dim", scaling(YARN | {"mscale_all_dim": 0.7})),
    ("deepseek_v3", "yarn", scaling(YARN)),
    ("deepseek_v3", "yarn with attention_factor",
     scaling(YARN | {"attention_factor": 1.3, "mscale_all_dim": 1.0})),
    ("deepseek_v3", "linear", scaling({"rope_type": "linear", "factor": 4.0})),
    ("deepseek_v3", "llama3", scaling(SMALL_LLAMA3)),
    ("deepseek_v3", "longrope", scaling(LONG | {"original_max_position_embeddings": 8})),
    ("gpt_oss", "nothing said", {"rope_scaling": None}),
    ("gpt_oss", "default said", {"rope_scaling": {"rope_type": "default"}}),
    ("gpt_oss", "yarn, rounded", {"rope_scaling": {
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 16}}),
    ("mixtral", "a half", {"rope_theta": 500.0, "partial_rotary_factor": 0.5}),
    ("qwen3_moe", "a quarter", {"rope_theta": 500.0, "partial_rotary_factor": 0.25}),
    ("qwen3_moe", "a half with yarn", scaling(YARN, partial_rotary_factor=0.5)),
    ("mistral", "a half in rope_parameters", {"rope_parameters": {
        "rope_theta": 500.0, "rope_type": "default", "partial_rotary_factor": 0.5}}),
]


def rotate_parts(name):
    """Rotation of the beginning of a head, which these classes do not have, by GLM-4-MoE's code."""
    from transformers.models.glm4_moe import modeling_glm4_moe as glm
    module = __import__(f"transformers.models.{name}.modeling_{name}", fromlist=["x"])
    module.apply_rotary_pos_emb = glm.apply_rotary_pos_emb
    for attribute in dir(module):
        if attribute.endswith("RotaryEmbedding"):
            getattr(module, attribute).compute_default_rope_parameters = staticmethod(
                glm.Glm4MoeRotaryEmbedding.compute_default_rope_parameters)


def changed_folder(base, change, folder):
    config = json.loads((FAMILIES / base / "config.json").read_text())
    for key in ("rope_scaling", "rope_theta"):
        if "rope_parameters" in change:
            config.pop(key, None)
    config.update(change)
    config = {key: value for key, value in config.items() if value is not None}
    config.pop("auto_map", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").symlink_to(FAMILIES / base / "model.safetensors")


def load(folder):
    options = {"attn_implementation": "eager", "torch_dtype": torch.float32}
    if int(transformers.__version__.split(".")[0]) >= 5:
        options["experts_implementation"] = "eager"
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def logits_of(base, change):
    """Behind the last token: all at once, and one by one behind the first ten."""
    tokens = torch.tensor(read_tokens(FAMILIES / base).tolist())[None]
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = pathlib.Path(name)
        changed_folder(base, change, folder)
        whole = load(folder)(tokens, use_cache=False).logits[0, -1]
        model = load(folder)
        out = model(tokens[:, :FIRST], use_cache=True)
        for t in range(FIRST, tokens.shape[1]):
            out = model(tokens[:, t:t + 1], past_key_values=out.past_key_values, use_cache=True)
        return whole, out.logits[0, -1]


def make_models(check):
    cases = [] if not check else json.loads((OUT / "models.json").read_text())
    for base, name, change in MODELS:
        if "partial" in json.dumps(change):
            rotate_parts(base.split("-")[0])
        if base == "mixtral":  # whose class passes null on to most kinds
            change = {"head_dim": 8, **change}
        try:
            whole, steps = logits_of(base, change)
        except Exception as error:  # an older version may not know a form
            print(f"{base}, {name}: {type(error).__name__} {str(error)[:80]}")
            continue
        if check:
            case = next(c for c in cases if (c["base"], c["name"]) == (base, name))
            d = [float((torch.tensor(case[key]) - value).abs().max())
                 for key, value in (("whole", whole), ("steps", steps))]
            print(f"{base}, {name}: {d[0]:.1e} {d[1]:.1e}")
        else:
            print(f"{base}, {name}: whole and steps differ by {(whole - steps).abs().max():.1e}")
            cases.append({"base": base, "name": name, "change": change,
                          "whole": [float(f"{x:.7g}") for x in whole.tolist()],
                          "steps": [float(f"{x:.7g}") for x in steps.tolist()]})
    if not check:
        write("models.json", cases)


# ---------------------------------------------------------------------------------------------
# GGUF files of the same models with other keys behind "ARCH." and other tensors, F32 throughout.

GGUF_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0,
             "rope.scaling.original_context_length": 8, "rope.freq_base": 500.0}
GGUF_THETA = {"rope.freq_base": 500.0}
GGUF_LINEAR = GGUF_THETA | {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
GGUF_LONG = GGUF_THETA | {"rope.scaling.type": "longrope"}
FREQS = {"rope_freqs.weight": [1.0, 1.5, 2.5, 9.5]}
FACTORS = {"rope_factors_long.weight": [1.0, 1.5, 2.5, 9.5],
           "rope_factors_short.weight": [1.0, 1.0, 1.25, 1.5]}
FILES = [
    ("qwen3_moe", "nothing", GGUF_THETA, {}),
    ("qwen3_moe", "factor without a type", GGUF_THETA | {"rope.scaling.factor": 4.0}, {}),
    ("qwen3_moe", "scale_linear", GGUF_THETA | {"rope.scale_linear": 4.0}, {}),
    ("qwen3_moe", "factor before scale_linear",
     GGUF_THETA | {"rope.scale_linear": 4.0, "rope.scaling.factor": 2.0}, {}),
    ("qwen3_moe", "a factor of 0 before scale_linear",
     GGUF_THETA | {"rope.scale_linear": 4.0, "rope.scaling.factor": 0.0}, {}),
    ("qwen3_moe", "none with a factor",
     GGUF_THETA | {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {}),
    ("qwen3_moe", "linear with attn_factor",
     GGUF_LINEAR | {"rope.scaling.attn_factor": 1.3}, {}),
    ("qwen3_moe", "attn_factor alone", GGUF_THETA | {"rope.scaling.attn_factor": 1.3}, {}),
    ("qwen3_moe", "yarn", GGUF_YARN, {}),
    ("qwen3_moe", "yarn with attn_factor", GGUF_YARN | {"rope.scaling.attn_factor": 1.3}, {}),
    ("qwen3_moe", "yarn with finetuned", GGUF_YARN | {"rope.scaling.finetuned": True}, {}),
    ("qwen3_moe", "yarn without an original context", {
        k: v for k, v in GGUF_YARN.items() if not k.endswith("length")}, {}),
    ("mixtral", "linear", GGUF_LINEAR, {}),
    ("mixtral", "yarn", GGUF_YARN, {}),
    ("mixtral", "factors of pairs", GGUF_THETA, FREQS),
    ("mixtral", "factors of pairs and a linear one",
     GGUF_THETA | {"rope.scaling.factor": 2.0}, FREQS),
    ("mixtral", "factors of pairs with attn_factor",
     GGUF_THETA | {"rope.scaling.attn_factor": 1.3}, FREQS),
    ("mixtral", "longrope",
     GGUF_LONG | {"rope.scaling.original_context_length": 8, "rope.scaling.attn_factor": 1.3},
     FACTORS),
    ("mixtral", "longrope, short",
     GGUF_LONG | {"rope.scaling.original_context_length": 512}, FACTORS),
    ("mixtral", "longrope with a factor",
     GGUF_LONG | {"rope.scaling.original_context_length": 8, "rope.scaling.factor": 2.0},
     FACTORS),
    ("mixtral", "longrope without tensors", GGUF_LONG | {"rope.scaling.factor": 2.0}, {}),
    ("deepseek_v3", "yarn with a multiplier",
     GGUF_YARN | {"rope.scaling.yarn_log_multiplier": 0.0707}, {}),
    ("deepseek_v3", "yarn without one",
     GGUF_YARN | {"rope.scaling.yarn_log_multiplier": None}, {}),
    ("gpt_oss", "nothing", GGUF_THETA | {
        "rope.scaling.type": None, "rope.scaling.factor": None,
        "rope.scaling.original_context_length": None}, {}),
    ("gpt_oss", "yarn with attn_factor", GGUF_YARN | {"rope.scaling.attn_factor": 1.3}, {}),
]

SERVER = """
import json, sys, urllib.request
import xllamacpp as x
p = x.CommonParams()
p.model.path, p.cpuparams.n_threads, p.n_ctx, p.warmup = sys.argv[1], 1, 256, False
p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.hostnames, p.port, p.ui = ["127.0.0.1"], 0, False
server = x.Server(p)
body = {"prompt": json.loads(sys.argv[2]), "n_predict": 1, "temperature": 0,
        "cache_prompt": False, "n_probs": 96}
answer = urllib.request.urlopen(urllib.request.Request(
    server.listening_address + "/completion", json.dumps(body).encode(),
    {"Content-Type": "application/json"}))
top = json.load(answer)["completion_probabilities"][0]["top_logprobs"]
print("RESULT", json.dumps([[c["id"], c["logprob"]] for c in top]))
"""


def changed_file(base, keys, tensors, out):
    import gguf
    import gguf.quants
    import numpy
    reader = gguf.GGUFReader(str(FAMILIES / f"{base}.gguf"))
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(out), arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or (
                key.removeprefix(arch + ".") in keys):
            continue
        array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, field.contents(), field.types[0],
                             field.types[-1] if array else None)
    for key, value in keys.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32,
               float: writer.add_float32}.get(type(value))
        if add is not None:
            add(f"{arch}.{key}", value)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        writer.add_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
    for name, values in tensors.items():
        writer.add_tensor(name, numpy.array(values, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_files():
    import subprocess
    cases = []
    for base, name, keys, tensors in FILES:
        tokens = read_tokens(FAMILIES / base).tolist()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            changed_file(base, keys, tensors, path)
            run = subprocess.run([sys.executable, "-c", SERVER, str(path), json.dumps(tokens)],
                                 capture_output=True, text=True, timeout=120)
        line = [x for x in run.stdout.splitlines() if x.startswith("RESULT")]
        assert line, (base, name, run.stderr[-400:])
        found = dict(map(tuple, json.loads(line[0][7:])))
        cases.append({"base": base, "name": name, "keys": keys, "tensors": tensors,
                      "whole": [float(f"{found[i]:.7g}") for i in range(96)]})
    write("files.json", cases)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    print("transformers", transformers.__version__, "torch", torch.__version__)
    if sys.argv[1] == "tables":
        make_tables()
    elif sys.argv[1] == "files":
        make_files()
    else:
        make_models("--check" in sys.argv)
