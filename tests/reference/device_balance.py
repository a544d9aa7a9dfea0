"""Makes tests/fixtures/router/device_balance.txt: DeepSeek's device-level balance loss and its gradient of the
logits in tests/fixtures/router/balance.txt.

Run from the repository root (needs torch):

  python3 tests/reference/device_balance.py

DeepSeek has published no code of this loss (modeling_deepseek.py has the expert-level one), so it is written here
as its papers do, term by term, with torch's derivative: DeepSeekMoE (arXiv 2401.06066) equations 12 to 17,
DeepSeek-V2 (2405.04434) equations 23 to 28. Over sequences it is that of each sequence, in the mean; over a step f_i
is that of all its batches. Sigmoid scores are divided by their sum, as DeepSeek-V3 (2412.19437) does in its loss.
A line is a name, a count, and numbers: the loss, then the gradient.
"""
import torch

OUT = "tests/fixtures/router/device_balance.txt"
BATCHES, ROWS, DOCUMENT, EXPERTS, CHOSEN = 3, 32, 8, 8, 2

with open("tests/fixtures/router/balance.txt") as file:
    lines = {line.split()[0]: [float(v) for v in line.split()[2:]] for line in file}
logits = torch.tensor(lines["logits"], dtype=torch.float64).reshape(BATCHES, ROWS, EXPERTS)


def affinities(x, sigmoid):
    scores = torch.sigmoid(x) if sigmoid else torch.softmax(x, dim=-1)
    return scores / scores.sum(dim=-1, keepdim=True)


def selected(x):
    """1 where token t (a row) selects expert i."""
    return torch.zeros_like(x).scatter(1, x.topk(CHOSEN, dim=-1).indices, 1)


def device_loss(scores, chosen, devices):
    """scores [T, N], and the choices of as many or more tokens."""
    size, tokens = EXPERTS // devices, len(chosen)
    f = [EXPERTS / (CHOSEN * tokens) * chosen[:, i].sum() for i in range(EXPERTS)]
    p = [scores[:, i].sum() / len(scores) for i in range(EXPERTS)]
    total = 0
    for d in range(devices):
        held = range(d * size, (d + 1) * size)
        f_device = sum(f[j] for j in held) / size
        p_device = sum(p[j] for j in held)
        total = total + f_device * p_device
    return total


def loss_of(x, scope, sigmoid, devices):
    if scope == "sequence":
        parts = x.split(DOCUMENT)
        return sum(device_loss(affinities(s, sigmoid), selected(s), devices) for s in parts) / len(parts)
    chosen = selected(torch.cat([*logits[:-1], x.detach()])) if scope == "step" else selected(x.detach())
    return device_loss(affinities(x, sigmoid), chosen, devices)


with open(OUT, "w") as file:
    for scope in ("batch", "step", "sequence"):
        for score in ("softmax", "sigmoid"):
            for devices in (2, 4, 8):
                x = logits[-1].clone().requires_grad_()
                loss = loss_of(x, scope, score == "sigmoid", devices)
                loss.backward()
                values = [loss.item(), *x.grad.reshape(-1).tolist()]
                print(f"{scope}_{score}_{devices}", len(values), *(f"{v:.9g}" for v in values), file=file)
