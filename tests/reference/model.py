#!/usr/bin/env python3
"""Makes tests/fixtures/model/NAME: a tiny model as transformers saves it (config.json,
model.safetensors in fp32) and expected.safetensors, what PyTorch computes with it.

    python model.py [--out FOLDER] [NAME ...]

expected.safetensors, for two batches of [B, T] = [2, 24] tokens. `plain.` sees whole windows;
`borders.` has documents inside the windows that do not see each other, with positions that restart
and targets of -100 at each document's end:

    BATCH.tokens, BATCH.targets      I32 [B, T]
    borders.documents, .positions    I32 [B, T]
    BATCH.logits                     F64 [B, T, V], from float64 arithmetic
    BATCH.logits_fp32                F32, the same by float32 arithmetic
    BATCH.loss.{cross_entropy, balance, z, total}       F64 [1]
    BATCH.loss_fp32.{...}            F64 [1], values of float32 arithmetic
    BATCH.gradient.NAME              d total / d parameter NAME (Hugging Face name): F64 in the
                                     batch `plain` of moe and dense, else F32 (from float64)
    BATCH.router.{logits, weights}   F64 [L, B*T, E], [L, B*T, k]; MoE only
    BATCH.router.ids                 I32 [L, B*T, k], by falling weight

total = cross_entropy + 0.01 balance + 0.001 z. cross_entropy: mean over targets that are not -100.
balance: mean over layers of E sum_i f_i P_i, f_i = counts_i / (T k), P_i the mean softmax
probability, both over all tokens of the batch. z: mean over tokens and layers of logsumexp^2.
"""

import argparse
import pathlib

import torch

import model_common as common
import model_plain

ROWS, LENGTH = 2, 24
# Lengths of the documents in each window of the batch `borders`; the last is cut by the window.
DOCUMENTS = [[7, 1, 10, 6], [16, 8]]


def border_layout():
    documents = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    positions = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    ends = []
    for row, lengths in enumerate(DOCUMENTS):
        start = 0
        for index, length in enumerate(lengths):
            documents[row, start:start + length] = index
            positions[row, start:start + length] = torch.arange(length)
            start += length
            if start < LENGTH:
                ends.append((row, start - 1))
        assert start == LENGTH
    return documents, positions, ends


def expected(model, precise, batch, wide):
    """One batch's entries. `precise` is the float64 copy; wide keeps its gradients in F64."""
    config = model.config
    tokens, targets, documents, positions = batch
    entries = {"tokens": tokens.int(), "targets": targets.int()}
    if documents is not None:
        entries.update(documents=documents.int(), positions=positions.int())
    with common.double_precision():
        precise.zero_grad()
        logits, router_logits = common.run(precise, tokens, documents, positions)
        loss = common.losses(config, logits, router_logits, targets)
        loss["total"].backward()
    check_plain(config, precise, logits, batch)
    entries["logits"] = logits.detach()
    for key, value in loss.items():
        entries["loss." + key] = value.detach().reshape(1)
    for name, parameter in precise.named_parameters():
        kind = torch.float64 if wide else torch.float32
        entries["gradient." + name] = parameter.grad.detach().clone().to(kind)
    model.zero_grad()
    single, single_router = common.run(model, tokens, documents, positions)
    single_loss = common.losses(config, single, single_router, targets)
    single_loss["total"].backward()
    entries["logits_fp32"] = single.detach()
    for key, value in single_loss.items():
        entries["loss_fp32." + key] = value.detach().double().reshape(1)
    if router_logits:
        chosen = [common.routes(layer, config.num_experts_per_tok) for layer in router_logits]
        entries["router.logits"] = torch.stack(router_logits).detach()
        entries["router.ids"] = torch.stack([ids for ids, _ in chosen]).int()
        entries["router.weights"] = torch.stack([weights for _, weights in chosen]).detach()
        gap = common.margin(router_logits, config.num_experts_per_tok)
        assert gap > 1e-3, f"routing nearly tied: {gap}"
        print(f"  smallest routing margin {gap:.2e}")
    difference = (single.double() - logits).abs().max().item()
    worst = max(((own.grad - exact.grad).abs().max() / exact.grad.abs().max()).item()
                for own, exact in zip(model.parameters(), precise.parameters()))
    print(f"  loss {loss['total'].item():.6f} (fp32 {single_loss['total'].item():.6f}), balance "
          f"{loss['balance'].item():.4f}, z {loss['z'].item():.4f}, fp32 - fp64: logits {difference:.1e}, worst "
          f"gradient {worst:.1e} of its largest element")
    return entries


def check_plain(config, precise, logits, batch):
    tokens, _, documents, positions = batch
    if documents is None:
        documents = torch.zeros_like(tokens)
        positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
    weights = {name: value.detach() for name, value in precise.named_parameters()}
    own = model_plain.forward(config, weights, tokens, documents, positions)
    difference = (own - logits).abs().max().item()
    assert difference < 1e-11, f"float64 is not float64 everywhere: {difference}"


def make(name, folder):
    print(name)
    model = common.build(name)
    with common.double_precision():
        precise = common.as_double(model)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    stream = common.Stream(2024, model.config.vocab_size)
    tokens, targets = stream.batch(ROWS, LENGTH)
    entries = {}
    batch = (tokens, targets, None, None)
    for key, value in expected(model, precise, batch, name in ("moe", "dense")).items():
        entries["plain." + key] = value
    tokens, targets = stream.batch(ROWS, LENGTH)
    documents, positions, ends = border_layout()
    for row, column in ends:
        targets[row, column] = common.IGNORE
    batch = (tokens, targets, documents, positions)
    for key, value in expected(model, precise, batch, False).items():
        entries["borders." + key] = value
    common.save(entries, folder / "expected.safetensors")
    (folder / "model.safetensors").chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures" / "model")
    parser.add_argument("names", nargs="*", default=list(common.MODELS))
    arguments = parser.parse_args()
    for name in arguments.names:
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        make(name, folder)


if __name__ == "__main__":
    main()
