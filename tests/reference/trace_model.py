"""Makes tests/fixtures/atlas/{olmoe,deepseek_v3}: tiny models of two families over bytes, and in expected.safetensors what
a trace of them must hold on tests/fixtures/atlas/text.jsonl, from transformers: the experts of every layer, margins,
entropies, the likeliest next token, and the experts that a layer would choose one layer earlier.

The routers' inputs are taken from transformers by hooks, scores and choices follow the families' own code. Documents
begin with the separator, id 256, and are cut into windows of 32 tokens that see nothing of each other, as mixt does.

Run from the repository root: python3 tests/reference/trace_model.py (needs torch, transformers, safetensors; the expected
values are those of transformers 5.23.0). Weights are drawn anew, so all files change together.
"""
import json
import os

import torch
import transformers
from safetensors.torch import save_file

OUT, WINDOW, SEPARATOR = "tests/fixtures/atlas", 32, 256
COMMON = dict(vocab_size=257, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
              max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=256, eos_token_id=256,
              pad_token_id=None)
SEEDS = {"olmoe": 5, "deepseek_v3": 9}  # of which no choice is near a tie
# mixt's byte tokenizer numbers bytes as GPT-2 does: those that print first
PRINTING = [*range(33, 127), *range(161, 173), *range(174, 256)]
IDS = {byte: i for i, byte in enumerate(PRINTING + [b for b in range(256) if b not in PRINTING])}
TEXTS = ["The river rose in the night.", "int main(void) { return 0; }", "2 + 2 = 4; 3 * 7 = 21", "A",
         "for (int i = 0; i < 10; i++) sum += i * i;", "Nobody saw the bird that sang behind the old wall.",
         "x^2 - 4 = (x - 2)(x + 2)"]


def make(name):
    torch.manual_seed(SEEDS[name])
    if name == "olmoe":
        config = transformers.OlmoeConfig(**COMMON, intermediate_size=16, num_experts=8, num_experts_per_tok=2,
                                          norm_topk_prob=False)
        model = transformers.OlmoeForCausalLM(config)
    else:
        config = transformers.DeepseekV3Config(**COMMON, intermediate_size=48, moe_intermediate_size=16,
                                               n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1, n_group=4,
                                               topk_group=2, first_k_dense_replace=1, q_lora_rank=12, kv_lora_rank=16,
                                               qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
                                               routed_scaling_factor=2.5, norm_topk_prob=True)
        model = transformers.DeepseekV3ForCausalLM(config)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.dim() > 1:  # far from the small values that every model begins with
                value.normal_(0, 1.5 / value.shape[-1] ** 0.5)
            if key.endswith("gate.weight"):
                value.mul_(2)
            if key.endswith("e_score_correction_bias"):
                value.uniform_(-0.1, 0.1)
    model.to(torch.bfloat16).save_pretrained(f"{OUT}/{name}")
    # opened again: rounding the model rounds RoPE's frequencies too, which no file holds
    return transformers.AutoModelForCausalLM.from_pretrained(f"{OUT}/{name}", dtype=torch.float32).eval()


def choose(name, gate, h):
    """Logits [T, E], what is compared, with -inf where an expert may not be chosen, scores, ids [T, k]."""
    logits = h.float() @ gate.weight.float().T
    if name == "olmoe":
        return logits, logits, logits.softmax(-1), logits.topk(2).indices
    scores = logits.sigmoid()
    biased = scores + gate.e_score_correction_bias
    groups = biased.view(-1, 4, 2).topk(2).values.sum(-1)
    used = torch.zeros_like(groups).scatter_(1, groups.topk(2).indices, 1).bool()
    compared = biased.masked_fill(~used.repeat_interleave(2, 1), -torch.inf)
    return logits, compared, scores, compared.topk(3).indices


def main():
    with open(f"{OUT}/text.jsonl", "w") as file:
        for i, text in enumerate(TEXTS):
            print(json.dumps({"domain": "ab"[i // 4], "text": text}), file=file)
    for name in ["olmoe", "deepseek_v3"]:
        model = make(name)
        gates = [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]
        seen = {}
        for i, gate in enumerate(gates):
            gate.register_forward_hook(lambda _, inputs, __, i=i: seen.__setitem__(i, inputs[0].reshape(-1, 32)))
        expected = {"tokens": [], "document": [], "predicted": []}
        layered = {"experts": [], "margins": [], "entropies": [], "ahead": []}
        for d, text in enumerate(TEXTS):
            ids = [SEPARATOR] + [IDS[byte] for byte in text.encode()]
            for begin in range(0, len(ids), WINDOW):
                piece = torch.tensor([ids[begin:begin + WINDOW]])
                keep = slice(1 if begin == 0 else 0, None)
                with torch.no_grad():
                    out = model(piece).logits[0]
                expected["tokens"].append(piece[0][keep])
                expected["document"].append(torch.full_like(piece[0], d)[keep])
                expected["predicted"].append(out.argmax(-1)[keep])
                rows = {key: [] for key in layered}
                for i, gate in enumerate(gates):
                    _, compared, scores, ids_of = choose(name, gate, seen[i])
                    rest = compared.scatter(1, ids_of, -torch.inf)
                    p = scores / scores.sum(-1, keepdim=True)
                    before = choose(name, gate, seen[i - 1])[3] if i > 0 else torch.full_like(ids_of, -1)
                    rows["experts"].append(ids_of[keep])
                    rows["margins"].append((compared.gather(1, ids_of).min(-1).values - rest.max(-1).values)[keep])
                    rows["entropies"].append((torch.special.entr(p).sum(-1) / torch.log(torch.tensor(2.0)))[keep])
                    rows["ahead"].append(before[keep])
                for key in layered:
                    layered[key].append(torch.stack(rows[key]))
        folder = f"{OUT}/{name}"
        result = {key: torch.cat(value).int() for key, value in expected.items()}
        for key, value in layered.items():
            value = torch.cat(value, 1)
            result[key] = value.float().contiguous() if value.is_floating_point() else value.int().contiguous()
        save_file(result, f"{folder}/expected.safetensors")
        os.remove(f"{folder}/generation_config.json")
        print(name, "smallest margin", result["margins"].min().item())


main()
