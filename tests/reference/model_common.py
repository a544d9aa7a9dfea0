"""Shared by the scripts that make model fixtures: tiny models, double precision, losses.

The models are transformers' own classes. Their code computes some parts (norms, softmax, rotary
angles) in float32 whatever the type of the weights; `double_precision` lifts that, so that one and
the same code gives float64 values. Losses of the router are written out here from the router's
logits, after mixt's definitions (include/mixt.h).
"""

import contextlib
import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers import modeling_rope_utils
from transformers.models.llama import modeling_llama
from transformers.models.mixtral import modeling_mixtral

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

BALANCE_COEFFICIENT = 0.01
Z_COEFFICIENT = 0.001
IGNORE = -100  # target that no loss is taken of

COMMON = dict(max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, use_cache=False,
              bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)

# name: (configuration, seed). moe and dense are the plain pair; the others have odd sizes (no
# multiple of a vector), more experts, tied embeddings, or as many K/V heads as heads.
MODELS = {
    "moe": (MixtralConfig(vocab_size=67, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, intermediate_size=48, num_local_experts=4,
                          num_experts_per_tok=2, sliding_window=None, router_aux_loss_coef=0.01,
                          **COMMON), 11),
    "moe-odd": (MixtralConfig(vocab_size=71, hidden_size=30, num_hidden_layers=3,
                              num_attention_heads=5, num_key_value_heads=1, intermediate_size=13,
                              num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
                              router_aux_loss_coef=0.01, **COMMON), 12),
    "dense": (LlamaConfig(vocab_size=67, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, intermediate_size=48, **COMMON), 13),
    "dense-tied": (LlamaConfig(vocab_size=67, hidden_size=36, num_hidden_layers=2,
                               num_attention_heads=3, num_key_value_heads=3, intermediate_size=41,
                               **{**COMMON, "tie_word_embeddings": True}), 14),
}


class DoubleTorch:
    """Stands in for the module `torch` in transformers' files: float32 means float64."""

    float32 = torch.float64
    float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def double_precision():
    places = [modeling_llama, modeling_mixtral, modeling_rope_utils]
    before = torch.get_default_dtype()
    for place in places:
        place.torch = DoubleTorch()
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        del torch.Tensor.float
        for place in places:
            place.torch = torch


def class_of(config):
    return MixtralForCausalLM if isinstance(config, MixtralConfig) else LlamaForCausalLM


def build(name):
    """The fp32 model: weights about 1/sqrt(fan in), larger at the router, norms around 1."""
    config, seed = MODELS[name]
    config._attn_implementation = "eager"
    model = class_of(config)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1.0 + 0.2 * noise)
            elif "embed_tokens" in parameter_name:
                parameter.copy_((0.5 if config.tie_word_embeddings else 1.0) * noise)
            elif ".gate.weight" in parameter_name:
                parameter.copy_(1.5 * noise / math.sqrt(parameter.shape[1]))
            else:
                parameter.copy_(1.2 * noise / math.sqrt(parameter.shape[1]))
    return model.train()  # no dropout or jitter in these configurations: same as eval()


def as_double(model):
    """A float64 copy with rotary angles in float64. Call, and use, inside double_precision()."""
    copy = class_of(model.config)(model.config)
    copy.load_state_dict({key: value.double() for key, value in model.state_dict().items()})
    for buffer_name, buffer in copy.named_buffers():
        assert buffer.dtype == torch.float64, buffer_name
    return copy.train()


def document_mask(documents, dtype):
    """documents [B, T] -> additive mask [B, 1, T, T]: causal, and inside one document only."""
    length = documents.shape[1]
    causal = torch.tril(torch.ones(length, length, dtype=torch.bool))
    same = documents[:, :, None] == documents[:, None, :]
    mask = torch.zeros(documents.shape[0], 1, length, length, dtype=dtype)
    return mask.masked_fill(~(causal & same)[:, None], torch.finfo(dtype).min)


def run(model, tokens, documents=None, positions=None):
    """Logits [B, T, V] and a list of router logits [B*T, E], one a layer (empty where dense)."""
    arguments = {}
    if documents is not None:
        arguments["attention_mask"] = document_mask(documents, model.lm_head.weight.dtype)
        arguments["position_ids"] = positions
    if isinstance(model, MixtralForCausalLM):
        arguments["output_router_logits"] = True
        if documents is not None:  # its own balance loss cannot take a 4D mask: ask the inner model
            hidden = model.model(tokens, **arguments)
            return model.lm_head(hidden.last_hidden_state), list(hidden.router_logits)
        output = model(tokens, **arguments)
        return output.logits, list(output.router_logits)
    return model(tokens, **arguments).logits, []


def routes(router_logits, k):
    """ids and weights [T, k] by falling weight: softmax, the best k, divided by their sum."""
    probabilities = torch.softmax(router_logits, dim=-1)
    weights, ids = torch.topk(probabilities, k, dim=-1)
    return ids, weights / weights.sum(dim=-1, keepdim=True)


def losses(config, logits, router_logits, targets):
    """cross_entropy, balance, z and total, each a scalar."""
    cross_entropy = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long(), ignore_index=IGNORE)
    zero = torch.zeros((), dtype=logits.dtype)
    balance, z = zero, zero
    for layer in router_logits:
        experts = layer.shape[1]
        ids, _ = routes(layer, config.num_experts_per_tok)
        counts = torch.bincount(ids.reshape(-1), minlength=experts).to(layer.dtype)
        share = counts / ids.numel()  # f_i, no gradient
        balance = balance + experts * (share * torch.softmax(layer, dim=-1).mean(dim=0)).sum()
        z = z + torch.logsumexp(layer, dim=-1).square().mean()
    if router_logits:
        balance, z = balance / len(router_logits), z / len(router_logits)
    return dict(cross_entropy=cross_entropy, balance=balance, z=z,
                total=cross_entropy + BALANCE_COEFFICIENT * balance + Z_COEFFICIENT * z)


def margin(router_logits, k):
    """Smallest gap between the k-th and the next router logit: below it the choice may flip."""
    gaps = []
    for layer in router_logits:
        ordered = layer.sort(dim=-1, descending=True).values
        gaps.append((ordered[:, k - 1] - ordered[:, k]).min().item())
    return min(gaps) if gaps else math.inf


def save(entries, path):
    save_file({key: value.detach().clone().contiguous() for key, value in entries.items()},
              str(path))
    path.chmod(0o644)


class Stream:
    """The fixtures' token stream. A linear congruential generator (Numerical Recipes)
    x <- (1664525 x + 1013904223) mod 2^32, r = x >> 16; the next token is
    (5 * previous + 3 + (r mod 4)) mod vocabulary, so that there is something to learn.
    The first token is r mod vocabulary. Batches [rows, length + 1] are filled row by row."""

    def __init__(self, seed, vocabulary):
        self.state = seed
        self.vocabulary = vocabulary
        self.previous = self.draw() % vocabulary

    def draw(self):
        self.state = (1664525 * self.state + 1013904223) & 0xFFFFFFFF
        return self.state >> 16

    def token(self):
        token = self.previous
        self.previous = (5 * token + 3 + self.draw() % 4) % self.vocabulary
        return token

    def batch(self, rows, length):
        """Tokens and targets, [rows, length] each."""
        values = torch.tensor([[self.token() for _ in range(length + 1)] for _ in range(rows)])
        return values[:, :-1].contiguous(), values[:, 1:].contiguous()
