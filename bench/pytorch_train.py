#!/usr/bin/env python3
"""Times a training step of transformers' Mixtral in PyTorch: the peer of `mixt bench --train`.

    python pytorch_train.py --shape A [--steps 5] [--threads 2] [--wait] [--bf16]
                            [--experts eager|grouped_mm] [--compile default]

One step is forward, backward, gradient clipping and AdamW on random tokens, with PyTorch's own
attention (sdpa) and fused AdamW. One JSON line a step on standard output; the first line describes
the set-up. --wait: each step is run when a line arrives on standard input, so that a driver can take
turns with another program (train_versus_pytorch.py, which also finds the fastest form).

Needs PyTorch 2.9 and transformers 5 or later (`pip install torch transformers`). --experts is
transformers' way of computing them: its loop (eager) or products of rows sorted by expert
(grouped_mm); its third way copies an expert's weights for each token, which is more than 20 GB at
shape A. --compile MODE is torch.compile. Before the first step the form is checked: loss and
gradient's norm of a batch must be those of the plain form (loop, no compiler, fp32) to 1e-4, with
--bf16, which is autocast of the forward, to 2e-2.

PyTorch is slow or fast by its BLAS. PyPI's torch has MKL built in. Debian's takes libblas.so.3, and
there only the OpenMP build of OpenBLAS shares threads with torch instead of fighting it: this script
starts itself again with LD_LIBRARY_PATH on that build's folder where there is one, and refuses to
measure without it or MKL (--any-blas lifts that). It also keeps glibc's malloc from giving memory back
to the system between steps, which costs PyTorch page faults.
"""

import argparse
import glob
import json
import os
import sys
import time

SHAPES = {  # issue: d, layers, heads, experts, expert width, k, window, batch, vocabulary
    "A": dict(hidden=256, layers=4, heads=8, experts=8, ffn=512, k=2, window=256, batch=8,
              vocab=256),
    "B": dict(hidden=512, layers=8, heads=8, experts=8, ffn=1024, k=2, window=512, batch=8,
              vocab=8192),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="A")
    parser.add_argument("--steps", type=int, default=5, help="timed steps (0 with --wait: no end)")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", action="store_true", help="a line on stdin before each step")
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--experts", choices=["eager", "grouped_mm"], default="grouped_mm")
    parser.add_argument("--compile", metavar="MODE", help="torch.compile: default, max-autotune, ...")
    parser.add_argument("--bf16", action="store_true", help="torch.autocast to bfloat16")
    parser.add_argument("--dense", action="store_true", help="a Llama of equal active width")
    parser.add_argument("--aux", action="store_true", help="with transformers' balance loss")
    parser.add_argument("--adamw", choices=["fused", "foreach", "plain"], default="fused")
    parser.add_argument("--profile", action="store_true", help="one more step, by operator")
    parser.add_argument("--any-blas", action="store_true")
    return parser.parse_args()


def force_blas(arguments):
    """Starts this script again with the OpenMP build of OpenBLAS in front, and thread counts set."""
    if os.environ.get("MIXT_BENCH_CHILD"):
        return
    folders = glob.glob("/usr/lib/*/openblas-openmp")
    environment = dict(os.environ, MIXT_BENCH_CHILD="1", OMP_NUM_THREADS=str(arguments.threads),
                       OPENBLAS_NUM_THREADS=str(arguments.threads),
                       MKL_NUM_THREADS=str(arguments.threads), TRANSFORMERS_OFFLINE="1")
    environment.setdefault("MALLOC_MMAP_MAX_", "0")
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 34))
    environment.setdefault("MALLOC_TOP_PAD_", str(1 << 26))
    if folders and not arguments.any_blas:
        path = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = folders[0] + (":" + path if path else "")
    os.execve(sys.executable, [sys.executable] + sys.argv, environment)


def blas_in_use():
    """What torch was built with, or the BLAS libraries that are mapped into this process."""
    import torch
    if torch.backends.mkl.is_available():
        return ["MKL"]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {os.path.realpath(line.split()[-1]) for line in maps if "r-xp" in line
                 and "blas" in line}
    return sorted(path for path in paths if "liblapack" not in path)


def make_model(arguments, shape):
    import transformers
    transformers.logging.set_verbosity_error()
    common = dict(vocab_size=shape["vocab"], hidden_size=shape["hidden"],
                  num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
                  num_key_value_heads=shape["heads"], max_position_embeddings=shape["window"],
                  rms_norm_eps=1e-5, use_cache=False, tie_word_embeddings=False,
                  rope_parameters=dict(rope_type="default", rope_theta=10000.0),
                  attn_implementation=arguments.attention)
    if arguments.dense:
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            intermediate_size=shape["ffn"] * shape["k"], **common))
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(
        intermediate_size=shape["ffn"], num_local_experts=shape["experts"],
        num_experts_per_tok=shape["k"], sliding_window=None, router_aux_loss_coef=0.01,
        output_router_logits=arguments.aux, experts_implementation="eager", **common))


def flops_per_step(shape, dense):
    """Multiply-adds count 2; backward is twice forward. Scores of causal attention count whole."""
    d, t = shape["hidden"], shape["window"]
    ffn = 3 * d * shape["ffn"] * shape["k"] + (0 if dense else d * shape["experts"])
    layer = 4 * d * d + ffn + 2 * t * d
    return 6 * shape["batch"] * t * (shape["layers"] * layer + d * shape["vocab"])


class Step:
    def __init__(self, arguments, shape):
        import torch
        self.torch, self.arguments, self.shape = torch, arguments, shape
        torch.manual_seed(1)
        torch.set_num_threads(arguments.threads)
        self.model = make_model(arguments, shape).train()
        plain = self.loss_and_norm(self.model, False)
        if not arguments.dense:
            self.model.set_experts_implementation(arguments.experts)
        self.call = (torch.compile(self.model, mode=arguments.compile) if arguments.compile
                     else self.model)
        self.check(plain, self.loss_and_norm(self.call, arguments.bf16))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1,
            fused=arguments.adamw == "fused", foreach=arguments.adamw == "foreach")

    def batch(self):
        shape = self.shape
        return self.torch.randint(shape["vocab"], (shape["batch"], shape["window"] + 1))

    def backward(self, call, tokens, bf16):
        """Gradients of a batch; returns its loss."""
        torch = self.torch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = call(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(
            output.logits.float().reshape(-1, self.shape["vocab"]), tokens[:, 1:].reshape(-1))
        if self.arguments.aux and not self.arguments.dense:
            loss = loss + 0.01 * self.balance(output)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        return loss

    def loss_and_norm(self, call, bf16):
        self.torch.manual_seed(2)
        loss = self.backward(call, self.batch(), bf16).item()
        return loss, self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0).item()

    def check(self, plain, own):
        allowed = 2e-2 if self.arguments.bf16 else 1e-4
        self.checked = dict(plain=plain, own=own)
        if any(abs(a / b - 1) > allowed for a, b in zip(own, plain)):
            sys.exit(f"pytorch_train.py: loss and norm {own}, of the plain form {plain}")

    def __call__(self):
        tokens = self.batch()
        start = time.perf_counter()
        loss = self.backward(self.call, tokens, self.arguments.bf16)
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - start, loss.item()

    def balance(self, output):
        from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
        return load_balancing_loss_func(output.router_logits, self.shape["experts"],
                                        self.shape["k"])


def describe(arguments, shape, step):
    import torch
    import transformers
    libraries = blas_in_use()
    if not arguments.any_blas and not any("openblas-openmp" in path or path == "MKL"
                                          for path in libraries):
        sys.exit(f"pytorch_train.py: the BLAS in use is {libraries}, neither MKL nor OpenBLAS with "
                 "OpenMP; install libopenblas0-openmp, or pass --any-blas")
    count = sum(parameter.numel() for parameter in step.model.parameters())
    return dict(program="pytorch", torch=torch.__version__, transformers=transformers.__version__,
                shape=arguments.shape, parameters=count, threads=torch.get_num_threads(),
                type="bf16 autocast" if arguments.bf16 else "fp32",
                attention=arguments.attention, experts=arguments.experts,
                compile=arguments.compile, adamw=arguments.adamw, blas=libraries,
                loss_and_norm=step.checked,
                flops_per_step=flops_per_step(shape, arguments.dense))


def main():
    arguments = parse()
    force_blas(arguments)
    shape = SHAPES[arguments.shape]
    step = Step(arguments, shape)
    for _ in range(arguments.warm_up):
        step()
    print(json.dumps(describe(arguments, shape, step)), flush=True)
    tokens, index = shape["batch"] * shape["window"], 0
    while index < arguments.steps or (arguments.wait and arguments.steps == 0):
        if arguments.wait and not sys.stdin.readline():
            break
        seconds, loss = step()
        print(json.dumps(dict(step=index, seconds=seconds, tokens=tokens,
                              tokens_per_second=tokens / seconds, loss=loss,
                              gflops=flops_per_step(shape, arguments.dense) / seconds / 1e9)),
              flush=True)
        index += 1
    if arguments.profile:
        import torch
        with torch.profiler.profile() as profile:
            step()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


if __name__ == "__main__":
    main()
