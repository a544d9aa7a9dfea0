#!/usr/bin/env python3
"""What `mixt train` saves, in transformers and, as GGUF, in llama.cpp: logits for every option.

    python trained_options.py BUILD [NAME...]

BUILD holds mixt and examples/logits (build/release). Needs torch, transformers and xllamacpp. For
each option a tiny model is trained, and its logits are compared with those of transformers (all
positions, largest difference: 1e-4) and of llama.cpp (log-probabilities behind the last token: 1e-2,
its cache is fp16). A model of mixt's own family must be refused by both, and a GGUF file of a family
by llama.cpp where it would compute something else. Exit status 0 when nothing is computed differently without a word.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")

BASE = ["--steps", "12", "--layers", "2", "--hidden-size", "64", "--heads", "4", "--kv-heads", "2",
        "--head-dim", "16", "--ffn-size", "64", "--experts", "4", "--window", "32", "--batch-size", "2",
        "--context-length", "128", "--vocab-size", "300", "--heldout", "0", "--initializer-range", "0.15",
        "--learning-rate", "1e-2", "--warmup", "1"]
NO = ["--no-renormalise"]
CASES = {
    "mixtral": [],
    "tied": ["--tie-embeddings"],
    "top-k-softmax": ["--score", "top-k-softmax"],
    "sigmoid": ["--score", "sigmoid"],
    "no-renormalise": NO,
    "router-scale": ["--router-scale", "2"],
    "no-renormalise-scale": NO + ["--router-scale", "2.5"],
    "frozen": ["--router-weights", "frozen"],
    "gshard": ["--balance", "gshard"],
    "z-loss": ["--z-coefficient", "0.1"],
    "hash": ["--router-select", "hash"],
    "attention-router": ["--router-logits", "attention"],
    "deviation": ["--router-deviation", "1"],
    "router-soft-cap": ["--router-soft-cap", "5"],
    "bias-rate": ["--bias-rate", "0.01"],
    "head-dim": ["--head-dim", "24"],
    "rope-theta": ["--rope-theta", "12345.678"],
    "norm-epsilon": ["--norm-epsilon", "0.01"],
    "one-expert": NO + ["--experts-per-token", "1"],
    "qk-norm-head": ["--qk-norm", "head"],
    "qk-norm-head-no-renormalise": NO + ["--qk-norm", "head"],
    "qk-norm-whole": NO + ["--qk-norm", "whole"],
    "qk-norm-whole-renormalise": ["--qk-norm", "whole"],
    "clip": NO + ["--qk-norm", "whole", "--clip-qkv", "0.5"],
    "olmoe": NO + ["--qk-norm", "whole", "--kv-heads", "4"],
    "olmoe-clip": NO + ["--qk-norm", "whole", "--kv-heads", "4", "--clip-qkv", "0.5"],
    "clip-alone": ["--clip-qkv", "0.5"],
    "qkv-bias": ["--qkv-bias"],
    "shared": NO + ["--shared-experts", "1"],
    "shared-renormalise": ["--shared-experts", "2"],
    "fine-grained": NO + ["--experts", "16", "--ffn-size", "32", "--experts-per-token", "4", "--shared-experts", "2",
                          "--leading-dense-layers", "1"],
    "qwen2-moe": NO + ["--qkv-bias", "--shared-experts", "1", "--shared-gate", "--shared-ffn-size", "96"],
    "qwen2-moe-renormalise": ["--qkv-bias", "--shared-experts", "1", "--shared-gate", "--shared-ffn-size", "96"],
    "shared-gate": NO + ["--shared-experts", "1", "--shared-gate"],
    "leading-dense": NO + ["--leading-dense-layers", "1"],
    "window": ["--sliding-window", "8"],
    "dense": ["--experts", "0"],
    "dense-tied": ["--experts", "0", "--tie-embeddings"],
    "dense-window": ["--experts", "0", "--sliding-window", "8"],
    "dense-qkv-bias": ["--experts", "0", "--qkv-bias"],
    "attention-scale": ["--attention-scale", "0.4"],
    "attention-soft-cap": ["--attention-soft-cap", "2"],
    "rope-dims": ["--rope-dims", "8"],
    "gelu": ["--activation", "gelu"],
    "post-norms": ["--post-norms"],
    "embedding-scale": ["--embedding-scale", "3"],
    "logit-scale": ["--logit-scale", "0.5"],
    "grok": NO + ["--post-norms", "--tie-embeddings", "--activation", "gelu", "--attention-scale", "0.4",
                  "--attention-soft-cap", "30", "--embedding-scale", "4", "--logit-scale", "0.577"],
    "yuan": ["--kv-heads", "4", "--filter", "--mixed-qk", "--router-logits", "attention", "--head-dim", "32",
             "--rope-dims", "16"],
}
ALONE = ("yuan", "skywork") # architectures that llama.cpp does not have
TEXT = "the fish is red and the bird is blue and one tree runs"


def run(command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def write_data(path):
    words = "red green blue one two three fish bird tree runs is and the".split()
    state = 1
    with open(path, "w") as out:
        for _ in range(3000):
            state = (state * 1664525 + 1013904223) % 2 ** 32
            out.write(words[(state >> 16) % len(words)] + " ")


def in_transformers(folder, result):
    import torch
    from transformers import AutoModelForCausalLM, logging
    logging.set_verbosity_error()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    except (ValueError, KeyError) as error:
        return None, str(error).split("\n")[0][:60]
    left = {key: sorted(value)[:2] for key, value in report.items() if value}
    if left:
        return float("inf"), str(left)[:80]
    with torch.no_grad():
        theirs = model.eval()(torch.tensor([result["tokens"]])).logits[0]
    return (theirs - torch.tensor(result["logits"])).abs().max().item(), type(model).__name__


def log_softmax(row):
    import math
    top = max(row)
    total = math.log(sum(math.exp(x - top) for x in row))
    return [x - top - total for x in row]


LLAMA = """
import json, sys, urllib.request, xllamacpp as x
p = x.CommonParams()
p.model.path, p.cpuparams.n_threads, p.n_ctx, p.warmup = sys.argv[1], 2, 128, False
p.hostnames, p.port, p.ui = ["127.0.0.1"], 0, False
server = x.Server(p)
body = {"prompt": json.loads(sys.argv[2]), "n_predict": 1, "n_probs": 300, "temperature": 0, "cache_prompt": False}
request = urllib.request.Request(server.listening_address + "/completion", json.dumps(body).encode(),
                                 {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request))
print("RESULT", json.dumps([[t["id"], t["logprob"]] for t in answer["completion_probabilities"][0]["top_logprobs"]]))
"""


def in_llama_cpp(path, result):
    done = run([sys.executable, "-c", LLAMA, path, json.dumps(result["tokens"])])
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        return None, said[0].split("error", 1)[-1][:80] if said else "does not load"
    ours = log_softmax(result["logits"][-1])
    pairs = json.loads(lines[0][7:])
    return max(abs(p - ours[i]) for i, p in pairs if p > -30), f"{len(pairs)} tokens"


def check(build, name, options, home):
    out = home / name
    data = home / "data.txt"
    trained = run([build / "mixt", "train", "--data", data, "--out", out] + BASE + options)
    if trained.returncode == 2:
        return True, "refused: " + trained.stderr.strip().splitlines()[-1][:100]
    model = out / "model"
    if trained.returncode != 0:
        return False, "training failed: " + trained.stderr[-200:]
    family = json.loads((model / "config.json").read_text())["model_type"]
    result = json.loads(run([build / "examples" / "logits", model, TEXT]).stdout)
    converted = run([build / "mixt", "convert", model, "-o", home / "model.gguf"])
    if converted.returncode != 0:
        return False, "convert: " + converted.stderr[-200:]
    own_gguf = "only mixt opens it" in converted.stderr
    there, how = in_transformers(model, result)
    cpp, said = in_llama_cpp(home / "model.gguf", result)
    good = (there is None or there <= 1e-4) and (cpp is None or cpp <= 1e-2)
    good = good and (family != "mixt" or there is None) and (own_gguf or family in ALONE) == (cpp is None)
    text = (f"{family:12} transformers {'refuses' if there is None else format(there, '.1e')} ({how}); "
            f"llama.cpp {'refuses' if cpp is None else format(cpp, '.1e')} ({said})")
    return good, text


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    bad = 0
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        write_data(home / "data.txt")
        for name in sys.argv[2:] or CASES:
            good, text = check(build, name, CASES[name], home)
            bad += not good
            print(f"{'ok  ' if good else 'BAD '} {name:28} {text}", flush=True)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
