"""Random configurations of every family that transformers has, against its own classes.

Each configuration is a tiny shape, from which random keys are left out or given in one of the
spellings that a config.json may have: as it is, null, 2.0 or "2" for 2, 0 and 1 for booleans. What
transformers makes of the plain spelling is compared with what mixt reads of the file (READER is
config_reader.c). A key that no table of mixt's can know is added to some: they must be refused,
naming it.

    python config_defaults.py compare READER [--count 10000]   prints the differences
    python config_defaults.py fixture OLD_PYTHON               makes tests/fixtures/config/random.json

OLD_PYTHON is one with transformers 4.57, whose saved folders are in the fixture beside those of the
transformers that runs this script (5.24).
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile

FIXTURE = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "config" / "random.json"

# what must be there, and what may be left out: key -> values to choose from
SHAPE = {"vocab_size": 96, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 32}
COMMON = {
    "max_position_embeddings": [64, 4096],
    "rope_theta": [10000.0, 1000000.0, 150000.0],
    "rms_norm_eps": [1e-5, 1e-6],
    "initializer_range": [0.02, 0.01],
    "tie_word_embeddings": [True, False],
    "num_key_value_heads": [32, 16, 8],
    "attention_dropout": [0.0],
    "use_cache": [True, False],
    "hidden_act": ["silu"],
}
WINDOWLESS = {
    "use_sliding_window": [False],
    "sliding_window": [4096],
    "max_window_layers": [2, 28],
}
ROUTED = {"num_experts_per_tok": [2, 3, 6], "output_router_logits": [False]}
MLA = {
    "q_lora_rank": [24, 48],
    "n_shared_experts": [1, 2],
    "first_k_dense_replace": [0, 1, 2],
    "norm_topk_prob": [True, False],
    "n_group": [1, 4, 8],
    "topk_group": [1, 2, 4],
    "attention_bias": [False],
    "pretraining_tp": [1],
}
MLA_SHAPE = {
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "intermediate_size": 80,
    "moe_intermediate_size": 24,
    "n_routed_experts": 64,
}
FAMILIES = {
    "llama": (
        {"intermediate_size": 80},
        {"head_dim": [4, 8], "attention_bias": [False], "mlp_bias": [False], "pretraining_tp": [1]},
    ),
    "mistral": ({"intermediate_size": 80}, {"head_dim": [4, 8], "sliding_window": [16, 4096]}),
    "qwen2": ({"intermediate_size": 80}, WINDOWLESS),
    "qwen3": (
        {"intermediate_size": 80},
        {**WINDOWLESS, "head_dim": [4, 8], "attention_bias": [False]},
    ),
    "mixtral": (
        {"intermediate_size": 80, "num_local_experts": 8},
        {
            **ROUTED,
            "head_dim": [4, 8],
            "sliding_window": [16],
            "router_aux_loss_coef": [0.02],
            "router_jitter_noise": [0.0],
        },
    ),
    "deepseek_v2": (
        {**MLA_SHAPE, "num_experts_per_tok": 4},
        {
            **MLA,
            "norm_topk_prob": [False],
            "routed_scaling_factor": [1.0, 16.0],
            "topk_method": ["greedy", "group_limited_greedy"],
        },
    ),
    "deepseek_v3": (
        MLA_SHAPE,
        {
            **MLA,
            "num_experts_per_tok": [2, 4],
            "routed_scaling_factor": [1.0, 2.5],
            "rope_interleave": [True],
            "num_nextn_predict_layers": [0, 1],
        },
    ),
    "minimax_m2": (
        {"intermediate_size": 80, "num_local_experts": 16},
        {
            **ROUTED,
            "head_dim": [4, 8],
            "rotary_dim": [2, 4],
            "router_aux_loss_coef": [0.02],
            "router_jitter_noise": [0.0],
        },
    ),
    "glm4_moe": (
        {"intermediate_size": 80, "moe_intermediate_size": 24, "n_routed_experts": 64},
        {
            "num_experts_per_tok": [2, 4],
            "head_dim": [4, 8],
            "n_shared_experts": [1, 2],
            "first_k_dense_replace": [0, 1, 2],
            "norm_topk_prob": [True, False],
            "n_group": [1],
            "topk_group": [1],
            "attention_bias": [True, False],
            "use_qk_norm": [True, False],
            "routed_scaling_factor": [1.0, 2.5],
            "num_nextn_predict_layers": [0, 1],
        },
    ),
    "glm4_moe_lite": (
        MLA_SHAPE,
        {
            **{key: MLA[key] for key in ("q_lora_rank", "n_shared_experts", "norm_topk_prob")},
            "n_group": [1, 4, 8],
            "topk_group": [1, 2, 4],
            "mlp_layer_types": [["dense"] * n + ["sparse"] * (4 - n) for n in range(4)],
            "num_experts_per_tok": [2, 4],
            "routed_scaling_factor": [1.0, 1.8],
            "rope_interleave": [True],
            "num_nextn_predict_layers": [0, 1],
        },
    ),
    "gpt_oss": (
        {"intermediate_size": 80, "num_local_experts": 8},
        {
            **ROUTED,
            "head_dim": [4, 8],
            "sliding_window": [16, 128],
            "swiglu_limit": [7.0],
            "router_aux_loss_coef": [0.9],
            "attention_bias": [True],
            "layer_types": [["sliding_attention", "full_attention"] * 2],
        },
    ),
    "olmoe": (
        {"intermediate_size": 80, "num_experts": 16},
        {**ROUTED, "clip_qkv": [0.5, 8.0], "norm_topk_prob": [True, False], "attention_bias": [False]},
    ),
    "qwen2_moe": (
        {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 16},
        {
            **ROUTED,
            **WINDOWLESS,
            "intermediate_size": [80],
            "norm_topk_prob": [True, False],
            "decoder_sparse_step": [1],
            "mlp_only_layers": [[]],
            "qkv_bias": [True],
        },
    ),
    "qwen3_moe": (
        {"moe_intermediate_size": 24, "num_experts": 16},
        {
            **ROUTED,
            **WINDOWLESS,
            "intermediate_size": [80],
            "head_dim": [4, 8],
            "norm_topk_prob": [True, False],
            "decoder_sparse_step": [1],
            "mlp_only_layers": [[]],
            "attention_bias": [False],
        },
    ),
}
EXPERTS = {
    "mixtral": "num_local_experts",
    "gpt_oss": "num_local_experts",
    "deepseek_v2": "n_routed_experts",
    "deepseek_v3": "n_routed_experts",
    "minimax_m2": "num_local_experts",
    "glm4_moe": "n_routed_experts",
    "glm4_moe_lite": "n_routed_experts",
    "olmoe": "num_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
}
ALIASES = {
    "mixtral": "num_experts",
    "gpt_oss": "num_experts",
    "deepseek_v2": "num_experts",
    "deepseek_v3": "num_local_experts",
    "minimax_m2": "num_experts",
    "glm4_moe": "num_local_experts",
    "glm4_moe_lite": "num_local_experts",
    "olmoe": "num_local_experts",
    "qwen3_moe": "num_local_experts",
}
UNKNOWN = ["attention_multiplier", "final_logit_softcapping", "router_scale", "qk_layernorm", "act"]


def odd(value, generator):
    """Another spelling of the same value."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return generator.choice([float(value), str(value)])
    if isinstance(value, float):
        return generator.choice([str(value), int(value) if value == int(value) else value])
    return value


def draw(family, generator):
    """(as mixt gets it, as transformers gets it, an unknown key or None, nulls, odd spellings)"""
    shape, free = FAMILIES[family]
    plain = {"model_type": family, **SHAPE, **shape}
    given = dict(plain)
    alias = ALIASES.get(family)
    if alias and generator.random() < 0.3:
        for config in (plain, given):
            config[alias] = config.pop(EXPERTS[family])
    nulls, odds = [], []
    for key, values in {**COMMON, **free}.items():
        how = generator.random()
        if how < 0.4:
            continue
        plain[key] = given[key] = generator.choice(values)
        if how > 0.97:
            plain[key] = given[key] = None
            nulls.append(key)
        elif how > 0.87:
            given[key] = odd(plain[key], generator)
            odds.append(key)
    for key in list(given):
        if key in SHAPE and generator.random() < 0.05:
            given[key] = odd(plain[key], generator)
    unknown = generator.choice(UNKNOWN) if generator.random() < 0.1 else None
    if unknown:
        given[unknown] = generator.choice([3, 0.5, "x", True, [1]])
    return given, plain, unknown, nulls, odds


def expected(family, config):
    """Options of mixt's by the attributes of a configuration of transformers."""
    c = config
    heads = c.num_attention_heads
    mla = hasattr(c, "kv_lora_rank")
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // heads
    options = {
        "vocab_size": c.vocab_size,
        "context_length": c.max_position_embeddings,
        "layers": c.num_hidden_layers,
        "hidden_size": c.hidden_size,
        "heads": heads,
        "kv_heads": heads if mla else c.num_key_value_heads,
        "head_dim": c.qk_nope_head_dim + c.qk_rope_head_dim if mla else head_dim,
        "rope_theta": c.rope_parameters["rope_theta"],
        "norm_epsilon": c.rms_norm_eps,
        "initializer_range": c.initializer_range,
        "tie_embeddings": int(c.tie_word_embeddings),
    }
    if family in EXPERTS:
        options["experts"] = getattr(c, EXPERTS[family])
        options["experts_per_token"] = c.num_experts_per_tok
    options["ffn_size"] = getattr(c, "moe_intermediate_size", c.intermediate_size)
    renormalise = {"deepseek_v2": False}.get(family, getattr(c, "norm_topk_prob", True))
    options["router.renormalise"] = int(bool(renormalise)) if family != "gpt_oss" else 0
    window = getattr(c, "sliding_window", None)
    if family == "gpt_oss":
        options["attention.window"] = window
    else:
        options["attention.window"] = 0 if family.startswith("qwen") else window or 0
    if hasattr(c, "router_aux_loss_coef"):
        options["router.balance_coefficient"] = c.router_aux_loss_coef
    if family == "olmoe":
        options["attention.clip"] = c.clip_qkv or 0
    if family == "qwen2_moe":
        options["shared_ffn_size"] = c.shared_expert_intermediate_size
    if mla:
        grouped = (c.n_group or 1) > 1
        grouped = grouped and (family != "deepseek_v2" or c.topk_method == "group_limited_greedy")
        options["router.groups"] = c.n_group if grouped else 0
        options["router.groups_used"] = c.topk_group if grouped else 0
        options["attention.query_latent_size"] = c.q_lora_rank or 0
    if hasattr(c, "n_shared_experts"):
        options["router.scale"] = c.routed_scaling_factor
        options["shared_experts"] = c.n_shared_experts
        dense = c.mlp_layer_types.count("dense") if family == "glm4_moe_lite" else None
        options["leading_dense_layers"] = c.first_k_dense_replace if dense is None else dense
    if family == "glm4_moe":
        options["attention.qk_norm"] = int(c.use_qk_norm)
        options["attention.qkv_bias"] = int(c.attention_bias)
    if family in ("glm4_moe", "minimax_m2"):
        part = c.rope_parameters.get("partial_rotary_factor", 1.0)
        options["rope.dims"] = int(head_dim * part)
    missing = [name for name, value in options.items() if value is None]
    if missing:  # the class passes it on, and its model cannot work with it
        raise ValueError(f"null for {missing}")
    return options


def transformers_options(family, plain):
    """(options, None) or (None, why transformers refuses it)"""
    from transformers import CONFIG_MAPPING

    try:
        return expected(family, CONFIG_MAPPING[family].from_dict(dict(plain))), None
    except Exception as problem:  # its validation has many kinds of errors
        return None, " ".join(str(problem).split())[:120]


def mixt_options(reader, paths):
    """(options, None) or (None, the error) of each."""
    done = subprocess.run(
        [reader], input="\n".join(paths) + "\n", capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line.get("options"), line.get("refused")) for line in lines]


def same(a, b):
    return a == b or abs(a - b) <= 1e-12 * abs(b)


def judge(family, drawn, mine, refusal):
    """(kind of result, text)"""
    given, plain, unknown, nulls, odds = drawn
    if unknown:
        if mine is not None:
            return "UNKNOWN KEY READ", json.dumps(given)
        return "unknown key refused" if f" {unknown}: " in refusal else "refused otherwise", ""
    theirs, why = transformers_options(family, plain)
    if theirs is None and mine is None:
        return "both refuse", ""
    if theirs is None:
        keys = ", ".join(key for key in nulls if key in why) or why
        return "read by mixt alone", f"{family}: null in {keys}" if keys != why else f"{family}: {why}"
    if mine is None:
        return "refused by mixt alone", f"{family}: " + refusal.split("config.json: ")[-1]
    wrong = [
        f"{name} {mine[name]:g}, not {value:g}"
        for name, value in theirs.items()
        if not same(mine[name], value)
    ]
    return ("DIFFERENT", f"{family}: {wrong} {json.dumps(given)}") if wrong else ("equal", "")


def compare(reader, count, seed):
    results, texts = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as home:
        for family in FAMILIES:
            generator = random.Random(f"{family}/{seed}")
            drawn = [draw(family, generator) for _ in range(count)]
            paths = [f"{home}/{family}-{i}.config.json" for i in range(count)]
            for path, (given, *_) in zip(paths, drawn):
                pathlib.Path(path).write_text(json.dumps(given))
            for case, (mine, refusal) in zip(drawn, mixt_options(reader, paths)):
                kind, text = judge(family, case, mine, refusal)
                results[family, kind] += 1
                if text:
                    texts[f"{kind}: {text}"] += 1
            print(family, {k[1]: n for k, n in results.items() if k[0] == family}, flush=True)
    for text, number in texts.most_common(60):
        print(f"{number:6} {text}")
    bad = sum(n for (_, kind), n in results.items() if kind in ("DIFFERENT", "UNKNOWN KEY READ"))
    print("different:", bad)
    return bad != 0


def known(family):
    from transformers import CONFIG_MAPPING

    return family in CONFIG_MAPPING


def saved(family):
    """The config.json that this transformers writes for a tiny model of the family."""
    from transformers import CONFIG_MAPPING

    shape, _ = FAMILIES[family]
    more = {} if "kv_lora_rank" in shape else {"num_key_value_heads": 16}
    if family == "gpt_oss":  # the default is 0.9 in 4.57
        more["router_aux_loss_coef"] = 0.5
    config = CONFIG_MAPPING[family](**SHAPE, **shape, **more)
    with tempfile.TemporaryDirectory() as home:
        config.save_pretrained(home)
        return json.loads((pathlib.Path(home) / "config.json").read_text())


def fixture(old_python):
    """{"families": {name: what its cases have in common}, "cases": [...]}"""
    families, cases = {}, []
    for family, (shape, _) in FAMILIES.items():
        plain = {"model_type": family, **SHAPE, **shape}
        options, _ = transformers_options(family, plain)
        plain.pop(EXPERTS.get(family), None)
        families[family] = {"config": plain, "options": options}
    generator = random.Random(300)
    while len(cases) < 300:
        family = list(FAMILIES)[len(cases) % len(FAMILIES)]
        common = families[family]
        given, plain, unknown, _, _ = draw(family, generator)
        options, why = transformers_options(family, plain)
        # mixt refuses false of the one and null of the other
        if why is None and plain.get("rope_interleave", True) and plain.get("topk_method", True):
            case = {"family": family, "config": without(given, common["config"])}
            if unknown:
                case["refused"] = unknown
            else:
                case["options"] = without(options, common["options"])
            cases.append(case)
    run = [old_python, __file__, "saved"]
    old = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    for family in FAMILIES:
        options, _ = transformers_options(family, saved(family))
        for config in filter(None, (saved(family), old.get(family))):
            cases.append({"config": config, "options": options})
    FIXTURE.parent.mkdir(exist_ok=True)
    lines = [json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases]
    head = json.dumps(families, separators=(",", ":"), sort_keys=True)
    FIXTURE.write_text(f'{{"families": {head},\n"cases": [\n' + ",\n".join(lines) + "\n]}\n")


def without(values, common):
    """Those that are not in `common` as they are."""
    missing = object()
    return {k: v for k, v in values.items() if repr(common.get(k, missing)) != repr(v)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["compare", "fixture", "saved"])
    parser.add_argument("program", nargs="?")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.task == "saved":
        print(json.dumps({family: saved(family) for family in FAMILIES if known(family)}))
    elif arguments.task == "fixture":
        fixture(arguments.program)
    else:
        sys.exit(compare(arguments.program, arguments.count, arguments.seed))


if __name__ == "__main__":
    main()
