/* Options for the library's own structs: every field has one switch. */
#include <math.h>

#include "shared.h"

#define MACHINE(field) offsetof(machine_settings, field)
#define MODEL(field) offsetof(mixt_model_options, field)
#define ROUTER(field) offsetof(mixt_router_options, field)
#define TRAIN(field) offsetof(mixt_train_options, field)
#define ABOVE_ZERO 5e-324 /* the least double above 0 */
#define FAR 1e15          /* whole numbers up to here are exact in a double */

#define COLOR_ROW                                                                                  \
    {                                                                                              \
        .name = "color", .kind = OPTION_CHOICE, .offset = MACHINE(color),                          \
        .choices = "auto always never",                                                            \
        .help = "colours in the terminal; NO_COLOR is respected; --color alone: always",           \
        .aliases = "-co", .bare = "always", .synonyms = "on=always off=never"                      \
    }

/* name, letter, kind, offset, low, high, value, help, aliases */
#define ROW(n, l, k, o, lo, hi, v, h, a) OPEN_ROW(n, l, k, o, lo, hi, v, h, a, NULL)
/* Of an option that is left open; what it comes to then. */
#define OPEN_ROW(n, l, k, o, lo, hi, v, h, a, f)                                                   \
    {                                                                                              \
        .name = n, .letter = l, .kind = OPTION_##k, .offset = o, .low = lo, .high = hi,            \
        .value = v, .help = h, .aliases = a, .fallback = f                                         \
    }
#define CHOICE(n, o, c, h)                                                                         \
    {                                                                                              \
        .name = n, .kind = OPTION_CHOICE, .offset = o, .choices = c, .help = h                     \
    }

const cli_option options_color[] = {
    COLOR_ROW,
    {0},
};

const cli_option options_machine[] = {
    {.name = "threads",
     .letter = 't',
     .kind = OPTION_INT,
     .offset = MACHINE(threads),
     .low = 1,
     .high = 256,
     .help = "threads to compute with",
     .fallback = "every core"},
    CHOICE("cpu", MACHINE(cpu), "auto scalar avx2 avx512 amx neon dotprod i8mm", "kernels to use"),
    CHOICE("matmul", MACHINE(matmul), "exact blas bf16",
           "matrix products: exact has the same bits on every machine, blas is OpenBLAS, bf16 "
           "rounds operands"),
    COLOR_ROW,
    {.name = "config",
     .kind = OPTION_TEXT,
     .offset = MACHINE(config),
     .value = "FILE",
     .help = "read options from lines of key = value"},
    {0},
};

const cli_option options_model[] = {
    ROW("vocab-size", 0, INT, MODEL(vocab_size), 2, 1 << 24, "N", "ids in the vocabulary", NULL),
    ROW("context-length", 'c', INT, MODEL(context_length), 1, 1 << 24, "N",
        "longest window of the model", "ctx-size"),
    ROW("layers", 0, INT, MODEL(layers), 1, 1024, "N", "layers", "n-layer num-hidden-layers"),
    ROW("hidden-size", 0, INT, MODEL(hidden_size), 1, 1 << 16, "N", "width of the residual stream",
        "n-embd dim"),
    ROW("heads", 0, INT, MODEL(heads), 1, 1024, "N", "attention heads", "n-head"),
    ROW("kv-heads", 0, INT, MODEL(kv_heads), 1, 1024, "N", "heads of keys and values", "n-kv-head"),
    ROW("head-dim", 0, INT, MODEL(head_dim), 0, 1 << 16, "N", "width of a head; 0: hidden / heads",
        NULL),
    ROW("ffn-size", 0, INT, MODEL(ffn_size), 1, 1 << 20, "N",
        "width of one expert, or of a dense layer", "intermediate-size"),
    ROW("experts", 0, INT, MODEL(experts), 0, 4096, "E",
        "experts with weights in a layer; 0: a dense model", "n-exp num-experts"),
    ROW("experts-per-token", 0, INT, MODEL(experts_per_token), 1, OPTIONS_EXPERTS_PER_TOKEN_MAX,
        "K", "experts chosen for a token", "moe-top-k num-experts-per-tok"),
    ROW("identity-experts", 0, INT, MODEL(identity_experts), 0, 4095, "N",
        "experts without weights that give the token's row back (docs/routers.md)", NULL),
    ROW("zero-experts", 0, INT, MODEL(zero_experts), 0, 4095, "N",
        "experts without weights that give nothing", NULL),
    ROW("shared-experts", 0, INT, MODEL(shared_experts), 0, 64, "N", "experts that are always on",
        NULL),
    ROW("leading-dense-layers", 0, INT, MODEL(leading_dense_layers), 0, 1024, "N",
        "layers without experts at the bottom", NULL),
    ROW("moe-period", 0, INT, MODEL(moe_period), 0, 4096, "N",
        "behind those every N-th layer has experts; 0: all", NULL),
    ROW("dense-ffn-size", 0, INT, MODEL(dense_ffn_size), 0, 1 << 20, "N",
        "width of layers without experts; 0: ffn-size * experts-per-token", NULL),
    ROW("rope-theta", 0, NUMBER, MODEL(rope_theta), 1, 1e12, "X", "base of the rotary embedding",
        NULL),
    ROW("norm-epsilon", 0, NUMBER, MODEL(norm_epsilon), ABOVE_ZERO, 1, "X", "epsilon of RMSNorm",
        NULL),
    ROW("initializer-range", 0, NUMBER, MODEL(initializer_range), 0, 10, "X",
        "deviation of the first weights", NULL),
    ROW("tie-embeddings", 0, FLAG, MODEL(tie_embeddings), 0, 0, NULL,
        "the head uses the embedding's weights", NULL),
    ROW("shared-ffn-size", 0, INT, MODEL(shared_ffn_size), 0, 1 << 24, "N",
        "width of the shared experts as one; 0: shared-experts * ffn-size", NULL),
    ROW("shared-gate", 0, FLAG, MODEL(shared_gate), 0, 0, NULL,
        "the shared experts' output times a sigmoid of its own (Qwen)", NULL),
    CHOICE("qk-norm", MODEL(attention.qk_norm), "none head whole",
           "RMSNorm of each head of q and k (Qwen3), or of the whole vectors (OLMoE)"),
    ROW("qkv-bias", 0, FLAG, MODEL(attention.qkv_bias), 0, 0, NULL, "biases of q, k and v (Qwen2)",
        NULL),
    ROW("clip-qkv", 0, NUMBER, MODEL(attention.clip), 0, 1e30, "X",
        "q, k and v clamped to this; 0: off (OLMo)", NULL),
    ROW("attention-scale", 0, NUMBER, MODEL(attention.scale), 0, 1e9, "X",
        "factor on q.k; 0: 1 / sqrt(head-dim)", NULL),
    ROW("attention-soft-cap", 0, NUMBER, MODEL(attention.soft_cap), 0, 1e9, "X",
        "scores capped by X tanh(score / X); 0: off (Grok-1)", NULL),
    ROW("sliding-window", 0, INT, MODEL(attention.window), 0, 1 << 24, "N",
        "keys that a token sees, its own included; 0: all (Mistral)", NULL),
    ROW("filter", 0, FLAG, MODEL(attention.filter), 0, 0, NULL,
        "Localized Filtering-based Attention on q and k (Yuan 2.0)", NULL),
    ROW("mixed-qk", 0, FLAG, MODEL(attention.mixed_qk), 0, 0, NULL,
        "q and k packed head by head across both matrices (Yuan 2.0)", NULL),
    ROW("rope-dims", 0, INT, MODEL(rope.dims), 0, 1 << 16, "N", "rotated values of a head; 0: all",
        NULL),
    CHOICE("activation", MODEL(activation), "silu gelu clamped", "of the gate in experts and MLPs"),
    ROW("post-norms", 0, FLAG, MODEL(post_norms), 0, 0, NULL,
        "RMSNorm of each branch before it is added (Grok-1)", NULL),
    ROW("embedding-scale", 0, NUMBER, MODEL(embedding_scale), 0, 1e9, "X",
        "factor on embeddings; 0: 1", NULL),
    ROW("logit-scale", 0, NUMBER, MODEL(logit_scale), 0, 1e9, "X", "factor on logits; 0: 1", NULL),
    {0},
};

const cli_option options_router[] = {
    CHOICE("router-select", ROUTER(select), mixt_router_selects + 1,
           "how experts are chosen (docs/routers.md)"),
    CHOICE("router-unit", ROUTER(unit), "token sequence segment",
           "what one decision is made for: a token, a document in a window, a segment"),
    ROW("router-segment", 0, INT, ROUTER(segment), 0, 1 << 24, "N", "tokens of a segment", NULL),
    CHOICE("router-scope", ROUTER(scope), "layer global",
           "global: the first layer with experts decides for all"),
    CHOICE("score", ROUTER(score), "softmax top-k-softmax sigmoid",
           "softmax before or after the choice, or sigmoid"),
    ROW("renormalise", 0, FLAG, ROUTER(renormalise), 0, 0, NULL,
        "weights of the chosen experts sum to 1", "renormalize norm-topk-prob"),
    ROW("router-scale", 0, NUMBER, ROUTER(scale), ABOVE_ZERO, 1e6, "X",
        "factor on the chosen weights", NULL),
    CHOICE("router-logits", ROUTER(logits), "linear attention",
           "the router's logits: W x, or Yuan's attention among the experts"),
    ROW("router-deviation", 0, NUMBER, ROUTER(normalise), 0, 1e6, "X",
        "router logits are given this standard deviation; 0: off (Skywork-MoE)", NULL),
    ROW("router-soft-cap", 0, NUMBER, ROUTER(soft_cap), 0, 1e9, "X",
        "router logits capped by X tanh(logit / X); 0: off", NULL),
    CHOICE("router-weights", ROUTER(weights), "learned frozen redrawn",
           "frozen: random and never trained; redrawn: random anew in every step"),
    CHOICE("router-noise", ROUTER(noise), "none top-k",
           "top-k: logits + normal softplus(W x) in training (Shazeer 2017)"),
    ROW("router-jitter", 0, NUMBER, ROUTER(jitter), 0, 0.999999, "X",
        "router inputs times 1 +- X in training; 0: off (Switch: 0.01)", NULL),
    ROW("capacity", 0, NUMBER, ROUTER(capacity), 0, OPTIONS_CAPACITY_MAX, "X",
        "choices an expert takes of a training batch, over its equal share; 0: all", NULL),
    ROW("evaluation-capacity", 0, NUMBER, ROUTER(evaluation_capacity), 0, OPTIONS_CAPACITY_MAX, "X",
        "the same where held-out text is scored or traced; 0: all", NULL),
    CHOICE("drop", ROUTER(drop), "position weight",
           "what is dropped beyond a capacity: the last choices, or those of least weight"),
    CHOICE("balance", ROUTER(balance), "switch gshard skywork",
           "load balance loss over all choices or first choices, or of mean scores alone"),
    CHOICE("balance-scope", ROUTER(balance_scope), "batch step sequence",
           "tokens over which the balance loss counts"),
    CHOICE("choice-scope", ROUTER(choice_scope), "batch sequence",
           "tokens among which the experts of expert-choice choose: the batch's or a document's"),
    ROW("adaptive-balance", 0, FLAG, ROUTER(adaptive_balance), 0, 0, NULL,
        "each layer's balance coefficient follows its drop rate (Skywork-MoE)", NULL),
    CHOICE("bias-update", ROUTER(bias_update), "sign quantile",
           "how a selection bias is balanced: by --bias-rate, or set to the load's quantile"),
    ROW("balance-coefficient", 0, NUMBER, ROUTER(balance_coefficient), 0, 1e6, "X",
        "its coefficient; 0: off", "aux-loss-weight"),
    ROW("balance-groups", 0, INT, ROUTER(balance_groups), 0, 4096, "D",
        "experts in D groups with a balance loss of their own, as on D devices; 0: none "
        "(DeepSeekMoE)",
        NULL),
    ROW("device-balance-coefficient", 0, NUMBER, ROUTER(device_balance_coefficient), 0, 1e6, "X",
        "coefficient of that loss; 0: off", NULL),
    ROW("z-coefficient", 0, NUMBER, ROUTER(z_coefficient), 0, 1e6, "X",
        "coefficient of the router z-loss; 0: off", "router-z-loss-weight"),
    ROW("bias-rate", 0, NUMBER, ROUTER(bias_rate), 0, 1, "X",
        "step of the loss-free balancing bias; 0: off", NULL),
    {0},
};

const cli_option options_training[] = {
    ROW("steps", 0, LONG, TRAIN(steps), 0, FAR, "N", "optimizer steps", "max-iters"),
    ROW("seconds", 0, NUMBER, TRAIN(seconds), 0, 1e9, "S",
        "train for this time instead of a number of steps; 0: off", NULL),
    ROW("batch-size", 'b', INT, TRAIN(batch_size), 1, 65536, "N", "windows in a micro batch", NULL),
    ROW("accumulation", 0, INT, TRAIN(accumulation), 1, 65536, "N", "micro batches in a step",
        "gradient-accumulation-steps"),
    ROW("window", 0, INT, TRAIN(window), 1, 1 << 24, "N", "tokens in a window", "block-size"),
    OPEN_ROW("learning-rate", 0, NUMBER, TRAIN(learning_rate), 0, 1e6, "X", "highest learning rate",
             "lr", "0.002; 0.004 where auto took Muon"),
    ROW("minimum-rate", 0, NUMBER, TRAIN(minimum_rate), 0, 1, "X",
        "learning rate at the end, as a fraction of the highest", NULL),
    ROW("warmup", 0, LONG, TRAIN(warmup), 0, FAR, "N", "steps of warm-up", "warmup-iters"),
    CHOICE("schedule", TRAIN(schedule), "cosine wsd constant", "learning rate over time"),
    ROW("decay-fraction", 0, NUMBER, TRAIN(decay_fraction), 0, 1, "X",
        "part of a wsd run that decays", NULL),
    ROW("beta1", 0, NUMBER, TRAIN(beta1), 0, 0.9999999, "X", "AdamW: decay of the mean", NULL),
    ROW("beta2", 0, NUMBER, TRAIN(beta2), 0, 0.9999999, "X", "AdamW: decay of the square", NULL),
    ROW("epsilon", 0, NUMBER, TRAIN(epsilon), 1e-30, 1, "X", "AdamW: epsilon", NULL),
    ROW("weight-decay", 0, NUMBER, TRAIN(weight_decay), 0, 1e6, "X",
        "AdamW: decoupled weight decay", NULL),
    CHOICE(
        "optimizer", TRAIN(optimizer), "adamw muon auto",
        "muon: of matrices in attention, experts and MLPs, AdamW of all else (2502.16982); auto: "
        "muon where that costs a step little, adamw else and of adapters"),
    OPEN_ROW("momentum", 0, NUMBER, TRAIN(momentum), 1e-30, 0.9999999, "X",
             "Muon: of the gradients", NULL, "0.95; 0.9 where auto took it"),
    OPEN_ROW("muon-steps", 0, LONG, TRAIN(muon_steps), 1, 100, NULL,
             "Muon: steps of the iteration that makes matrices orthogonal", NULL,
             "5; 3 where auto took it"),
    ROW("embedding-rate", 0, NUMBER, TRAIN(embedding_rate), 0, 1e6, "X",
        "highest learning rate of the embeddings; 0: learning-rate, 5 times that where auto took "
        "Muon",
        NULL),
    ROW("clip", 0, NUMBER, TRAIN(clip), 0, 1e30, "X", "largest gradient norm; 0: off", "grad-clip"),
    ROW("seed", 's', SEED, TRAIN(seed), 0, 0, "N", "seed of weights and data order; -1: random",
        NULL),
    ROW("bf16", 0, FLAG, TRAIN(bf16), 0, 0, NULL, "bfloat16 products with fp32 sums and weights",
        NULL),
    ROW("exact-reduce", 0, FLAG, TRAIN(exact_reduce), 0, 0, NULL,
        "add gradients up micro batch by micro batch: the same bits on any number of ranks", NULL),
    ROW("recompute", 0, FLAG, TRAIN(recompute), 0, 0, NULL,
        "recompute expert activations in the backward pass: less memory", NULL),
    ROW("checkpoint-every", 0, LONG, TRAIN(checkpoint_every), 0, FAR, "N",
        "steps between checkpoints; 0: by time and at the end", NULL),
    ROW("checkpoint-seconds", 0, NUMBER, TRAIN(checkpoint_seconds), 0, 1e9, "S",
        "time between checkpoints; 0: off", NULL),
    ROW("keep-checkpoints", 0, INT, TRAIN(keep_checkpoints), 2, 1 << 20, "N",
        "verified checkpoints to keep", NULL),
    ROW("evaluate-every", 0, LONG, TRAIN(evaluate_every), 0, FAR, "N",
        "steps between evaluations; 0: at the end", "eval-interval"),
    ROW("log-every", 0, LONG, TRAIN(log_every), 1, FAR, "N", "steps between lines of the log",
        "log-interval"),
    {0},
};

machine_settings machine_defaults(mixt_matmul matmul)
{
    return (machine_settings){.matmul = (int)matmul};
}
