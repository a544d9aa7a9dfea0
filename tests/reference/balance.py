"""Makes tests/fixtures/router/balance.txt: balance losses, their gradients and quantile biases of other
programs' own code on the same logits.

Run from the repository root (needs torch):

  python3 tests/reference/balance.py MEGATRON QB DEEPSEEK TITAN

with files that are read and run, and not kept here:
  MEGATRON  megatron/core/transformer/moe/moe_utils.py of Megatron-LM as of July 2025
            (switch_ and sequence_load_balancing_loss_func; a global loss gives it the mean counts of the step so far)
  QB        the same of its pull request 5349 (qb_dual_update)
  DEEPSEEK  modeling_deepseek.py of DeepSeek-V2 (class MoEGate)
  TITAN     torchtitan/models/kimi_k3/quantile_balance.py of pytorch/torchtitan, pull request 4577
            (class QuantileBalancer)

Nobody has published code of Skywork's loss, so that one is its equation 5 with torch's derivative. A line of
the fixture is a name, a count, and numbers.
"""
import ast
import math
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F

OUT = "tests/fixtures/router/balance.txt"
BATCHES, ROWS, DOCUMENT, EXPERTS, CHOSEN = 3, 32, 8, 8, 2


def take(path, name):
    """A function or class of a file, without the rest of it."""
    node = next(n for n in ast.parse(open(path).read()).body if getattr(n, "name", None) == name)

    class Module(nn.Module):
        class Config:
            pass

    scope = {"torch": torch, "nn": nn, "F": F, "math": math, "Module": Module, "dataclass": dataclass,
             "DTensor": type("DTensor", (), {})}
    exec(ast.unparse(node), scope)
    return scope[name]


megatron, qb, deepseek, titan = sys.argv[1:]
switch = take(megatron, "switch_load_balancing_loss_func")
by_sequence = take(megatron, "sequence_load_balancing_loss_func")
qb_dual_update = take(qb, "qb_dual_update")
gate_class = take(deepseek, "MoEGate")
balancer_class = take(titan, "QuantileBalancer")

generator = torch.Generator().manual_seed(11)
slant = torch.linspace(-1, 1, EXPERTS)
logits = (torch.randn(BATCHES, ROWS, EXPERTS, generator=generator) + slant).float()
bias = (torch.randn(EXPERTS, generator=generator) * 0.125).float()
written = {"logits": logits, "bias": bias}


def counts_of(scores):
    ids = scores.topk(CHOSEN, dim=-1).indices.reshape(-1)
    return torch.bincount(ids, minlength=EXPERTS)


def keep(name, loss_of):
    """The loss of the last batch and its gradient of the logits."""
    x = logits[-1].clone().requires_grad_()
    loss = loss_of(x)
    loss.backward()
    written[name] = torch.cat([loss.detach().reshape(1), x.grad.reshape(-1)])


def share(x, sigmoid):
    scores = torch.sigmoid(x) if sigmoid else torch.softmax(x, dim=-1)
    return scores / scores.sum(dim=-1, keepdim=True)


def megatron_loss(x, sigmoid, counts):
    return switch(share(x, sigmoid), counts, CHOSEN, 1.0)


def sequence_loss(x, sigmoid):
    scores = share(x, sigmoid)
    chosen = torch.zeros_like(scores).scatter(1, scores.topk(CHOSEN, dim=-1).indices, 1)
    documents = len(x) // DOCUMENT  # its rows are of all sequences in turn
    turned = [v.reshape(documents, DOCUMENT, EXPERTS).transpose(0, 1).reshape(-1, EXPERTS) for v in (scores, chosen)]
    return by_sequence(*turned, documents, DOCUMENT, CHOSEN, 1.0)


def gate_loss(x, sequences):
    config = SimpleNamespace(num_experts_per_tok=CHOSEN, n_routed_experts=EXPERTS, routed_scaling_factor=1.0,
                             scoring_func="softmax", aux_loss_alpha=1.0, seq_aux=sequences, topk_method="gready",
                             n_group=1, topk_group=1, norm_topk_prob=True, hidden_size=EXPERTS, device_level_loss=0,
                             comm_balance_loss=0, n_devices=1, device_groups=[])
    gate = gate_class(config)
    gate.weight = nn.Parameter(torch.eye(EXPERTS))
    gate.train()
    return gate(x.reshape(-1, DOCUMENT, EXPERTS))[2]


for name, sigmoid in (("softmax", False), ("sigmoid", True)):
    one = counts_of(logits[-1])
    step = sum(counts_of(logits[i]) for i in range(BATCHES)) / BATCHES
    keep("megatron_batch_" + name, lambda x: megatron_loss(x, sigmoid, one))
    keep("megatron_step_" + name, lambda x: megatron_loss(x, sigmoid, step))
    keep("skywork_" + name, lambda x: ((1 / EXPERTS - share(x, sigmoid).mean(dim=0)) ** 2).sum())
    keep("megatron_sequence_" + name, lambda x: sequence_loss(x, sigmoid))
keep("deepseek_batch", lambda x: gate_loss(x, False))
keep("deepseek_sequence", lambda x: gate_loss(x, True))

balancer = balancer_class(SimpleNamespace(num_experts=EXPERTS, top_k=CHOSEN, num_bins=1000))
balancer.train()
for batch in logits:
    scores = torch.sigmoid(batch)
    cutoff = (scores + bias).topk(CHOSEN + 1, dim=-1).values[:, -1:]
    balancer.observe(scores, cutoff, bias)
written["titan_bias"] = balancer.estimate_expert_bias(bias)
scores = torch.sigmoid(logits.reshape(-1, EXPERTS))
beta = qb_dual_update(scores, CHOSEN, -bias)[1]
written["megatron_bias"] = -(beta - beta.mean())
required = (scores + bias).topk(CHOSEN + 1, dim=-1).values[:, -1:] - scores
quantile = torch.quantile(required, CHOSEN / EXPERTS, dim=0)
written["torch_bias"] = quantile - quantile.mean()

with open(OUT, "w") as file:
    for name, values in written.items():
        values = values.reshape(-1).tolist()
        print(name, len(values), *(f"{v:.9g}" for v in values), file=file)
