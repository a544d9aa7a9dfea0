"""Makes tests/fixtures/router/families.txt: what the routers of eight families choose, computed with
PyTorch in the way of each family's published code, in double on inputs that fp32 holds exactly.

Run from the repository root: python3 tests/reference/router_families.py (needs torch).

One case is a line of names and numbers (the switches of mixt_router_options), then named arrays.
"""
import torch
import torch.nn.functional as F

OUT = "tests/fixtures/router/families.txt"
TOKENS, HIDDEN = 6, 8
torch.set_default_dtype(torch.float64)


def values(generator, *size, scale=1.0):
    return (torch.randn(*size, generator=generator) * scale).float().double()


def mixtral(c, x, w):
    logits = F.linear(x, w["weight"])
    weights = F.softmax(logits, dim=1)
    weights, ids = torch.topk(weights, c["chosen"], dim=-1)
    weights /= weights.sum(dim=-1, keepdim=True)
    return logits, ids, weights


def softmax_all(c, x, w):
    """Grok-1, OLMoE, DeepSeekMoE, Qwen1.5-MoE: the weights stay as they are."""
    logits = F.linear(x, w["weight"])
    weights, ids = torch.topk(F.softmax(logits, dim=1), c["chosen"], dim=-1)
    return logits, ids, weights


def deepseek_v2(c, x, w):
    logits = F.linear(x, w["weight"])
    scores = logits.softmax(dim=-1)
    n, groups = scores.shape[0], c["groups"]
    group_scores = scores.view(n, groups, -1).max(dim=-1).values
    group_ids = torch.topk(group_scores, k=c["groups_used"], dim=-1, sorted=False)[1]
    group_mask = torch.zeros_like(group_scores)
    group_mask.scatter_(1, group_ids, 1)
    mask = group_mask.unsqueeze(-1).expand(n, groups, c["experts"] // groups).reshape(n, -1)
    weights, ids = torch.topk(scores.masked_fill(~mask.bool(), 0.0), k=c["chosen"], dim=-1)
    return logits, ids, weights * c["scale"]


def deepseek_v3(c, x, w):
    logits = F.linear(x, w["weight"])
    original = logits.sigmoid()
    scores = original + w["select_bias"]
    scores = scores.view(x.size(0), c["groups"], -1)
    group_scores = scores.topk(2, dim=-1)[0].sum(dim=-1)
    indices = group_scores.topk(c["groups_used"], dim=-1)[1]
    mask = torch.ones(x.size(0), c["groups"], dtype=torch.bool).scatter_(1, indices, False)
    scores = scores.masked_fill(mask.unsqueeze(-1), float("-inf")).flatten(1)
    ids = torch.topk(scores, c["chosen"], dim=-1)[1]
    weights = original.gather(1, ids)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
    return logits, ids, weights * c["scale"]


def gpt_oss(c, x, w):
    logits = F.linear(x, w["weight"], w["logit_bias"])
    best, ids = torch.topk(logits, c["chosen"], dim=-1)
    return logits, ids, F.softmax(best, dim=1)


def yuan(c, x, w):
    mixed = F.linear(x, w["weight"])
    q, k, v = torch.chunk(mixed, 3, dim=-1)
    attention = torch.softmax(q.unsqueeze(2) * k.unsqueeze(1), dim=-1)
    logits = torch.matmul(attention, v.unsqueeze(2)).squeeze(2)
    best, ids = torch.topk(logits, c["chosen"], dim=-1)
    return logits, ids, torch.softmax(best, dim=-1)


def skywork(c, x, w):
    logits = F.linear(x, w["weight"])
    logits = logits / (logits.std(dim=-1, keepdim=True) / c["normalise"])
    weights, ids = torch.topk(F.softmax(logits, dim=-1), c["chosen"], dim=-1)
    return logits, ids, weights / weights.sum(dim=-1, keepdim=True)


def capped(c, x, w):
    logits = c["soft_cap"] * torch.tanh(F.linear(x, w["weight"]) / c["soft_cap"])
    weights, ids = torch.topk(F.softmax(logits, dim=1), c["chosen"], dim=-1)
    return logits, ids, weights


PLAIN = dict(attention=0, logit_bias=0, normalise=0, soft_cap=0, select_bias=0, groups=0,
             groups_used=0, top_two=0, score=0, renormalise=0, scale=1)
CASES = [
    ("mixtral", mixtral, dict(experts=8, chosen=2, renormalise=1)),
    ("grok", softmax_all, dict(experts=8, chosen=2)),
    ("olmoe", softmax_all, dict(experts=64, chosen=8)),
    ("deepseek-v2", deepseek_v2, dict(experts=24, chosen=4, groups=8, groups_used=3, scale=16)),
    ("deepseek-v3", deepseek_v3, dict(experts=32, chosen=6, groups=8, groups_used=4, top_two=1,
                                      score=2, select_bias=1, renormalise=1, scale=2.5)),
    ("gpt-oss", gpt_oss, dict(experts=32, chosen=4, logit_bias=1, score=1)),
    ("yuan", yuan, dict(experts=16, chosen=2, attention=1, score=1)),
    ("yuan-renormalised", yuan, dict(experts=16, chosen=2, attention=1, renormalise=1)),
    ("skywork", skywork, dict(experts=16, chosen=2, normalise=1, renormalise=1)),
    ("capped", capped, dict(experts=8, chosen=2, soft_cap=1.5)),
]


def write(out, name, tensor):
    numbers = " ".join(format(float(v), ".9g") for v in tensor.flatten())
    out.write(f"{name} {tensor.numel()} {numbers}\n")


def main():
    with open(OUT, "w") as out:
        for at, (name, route, switches) in enumerate(CASES):
            c = {**PLAIN, **switches}
            generator = torch.Generator().manual_seed(1000 + at)
            x = values(generator, TOKENS, HIDDEN)
            rows = c["experts"] * (3 if c["attention"] else 1)
            w = {"weight": values(generator, rows, HIDDEN, scale=0.5)}
            if c["select_bias"]:
                w["select_bias"] = values(generator, c["experts"], scale=0.2)
            if c["logit_bias"]:
                w["logit_bias"] = values(generator, c["experts"], scale=0.5)
            logits, ids, weights = route(c, x, w)
            order = ["experts", "chosen"] + list(PLAIN)
            out.write(f"case {name} {TOKENS} {HIDDEN} ")
            out.write(" ".join(format(c[key], "g") for key in order) + "\n")
            write(out, "x", x)
            write(out, "weight", w["weight"])
            write(out, "select_bias", w.get("select_bias", torch.empty(0)))
            write(out, "logit_bias", w.get("logit_bias", torch.empty(0)))
            write(out, "logits", logits)
            write(out, "ids", ids)
            write(out, "weights", weights)


main()
