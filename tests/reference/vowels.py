"""Makes tests/fixtures/study/competitive.json: losses and gradients of small systems of the vowel task, in double,
once by PyTorch's derivative of equation 1.3 as it is printed, and once by plain numpy with the gradients of the
paper (h - p for the gate, h (d - o) for the experts); the script refuses to write where the two differ.

Run from the repository root: python3 tests/reference/vowels.py (needs torch and numpy).
"""
import json

import numpy as np
import torch

OUT = "tests/fixtures/study/competitive.json"
CASES = 7
torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(1991)


def numbers(*size):
    return np.float64(np.float32(rng.normal(size=size)))


def by_torch(system, x, d, parameters):
    p = [torch.tensor(v, requires_grad=True) for v in parameters]
    x, d = torch.tensor(x), torch.tensor(d)
    squash = (lambda z: z) if system["linear"] else torch.sigmoid
    if system["experts"] > 0:
        o = squash(x @ p[0].T + p[1]).view(len(x), system["experts"], system["outputs"])
        gate = torch.softmax(x @ p[2].T + p[3], dim=1)
        loss = -torch.log((gate * torch.exp(-0.5 * ((d[:, None] - o) ** 2).sum(2))).sum(1))
        mixture = (gate[:, :, None] * o).sum(1)
    else:
        mixture = squash(torch.sigmoid(x @ p[0].T + p[1]) @ p[2].T + p[3])
        loss = 0.5 * ((d - mixture) ** 2).sum(1)
    loss.mean().backward()
    return loss.detach().numpy(), mixture.detach().numpy(), [v.grad.numpy() for v in p]


def by_numpy(system, x, d, parameters):
    n, e, c = len(x), system["experts"], system["outputs"]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    if e == 0:
        hidden = sigmoid(x @ parameters[0].T + parameters[1])
        y = hidden @ parameters[2].T + parameters[3]
        y = y if system["linear"] else sigmoid(y)
        dz = (y - d) * (1 if system["linear"] else y * (1 - y)) / n
        dh = dz @ parameters[2] * hidden * (1 - hidden)
        return 0.5 * ((d - y) ** 2).sum(1), y, [dh.T @ x, dh.sum(0), dz.T @ hidden, dz.sum(0)]
    z = (x @ parameters[0].T + parameters[1]).reshape(n, e, c)
    o = z if system["linear"] else sigmoid(z)
    s = x @ parameters[2].T + parameters[3]
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    q = p * np.exp(-0.5 * ((d[:, None] - o) ** 2).sum(2))
    h = q / q.sum(1, keepdims=True)
    dz = -h[:, :, None] * (d[:, None] - o) * (1 if system["linear"] else o * (1 - o)) / n
    dz, ds = dz.reshape(n, e * c), (p - h) / n
    return -np.log(q.sum(1)), (p[:, :, None] * o).sum(1), [dz.T @ x, dz.sum(0), ds.T @ x, ds.sum(0)]


def main():
    systems = []
    for experts, hidden, outputs, linear in [(4, 0, 1, False), (8, 0, 4, True), (3, 0, 4, False), (0, 6, 1, False),
                                             (0, 5, 4, True)]:
        system = {"experts": experts, "hidden": hidden, "outputs": outputs, "linear": linear}
        sizes = [(experts * outputs, 2), (experts * outputs,), (experts, 2), (experts,)] if experts > 0 else \
            [(hidden, 2), (hidden,), (outputs, hidden), (outputs,)]
        x, parameters = numbers(CASES, 2), [numbers(*size) for size in sizes]
        d = np.float64(rng.integers(0, 2, size=(CASES, outputs)))
        loss, mixture, gradients = by_torch(system, x, d, parameters)
        loss2, mixture2, gradients2 = by_numpy(system, x, d, parameters)
        worst = max(np.abs(a - b).max() for a, b in zip([loss, mixture] + gradients, [loss2, mixture2] + gradients2))
        print(system, "torch and numpy differ by", worst)
        assert worst < 1e-14
        flat = lambda arrays: np.concatenate([a.ravel() for a in arrays]).tolist()
        system |= {"formants": flat([x]), "targets": flat([d]), "weights": flat(parameters), "loss": loss.tolist(),
                   "mixture": flat([mixture]), "gradients": flat(gradients)}
        systems.append(system)
    with open(OUT, "w") as file:
        json.dump({"cases": CASES, "systems": systems}, file)
        file.write("\n")


main()
