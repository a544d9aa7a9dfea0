/* Benchmarks: the speed of training, prompts and generation, and the machine's limits. A chapter
 * of mixt.h, which includes it at its place. */
#ifndef MIXT_H
#error "mixt/bench.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_BENCH_H)
#define MIXT_BENCH_H

typedef struct mixt_bench_row {
    const char *name;      /* "train step", "pp512", "tg128", "pp512+tg128", "tg128 @ d1024" (behind
                              so many tokens), or an operator */
    const char *direction; /* of an operator "forward", "recompute", "backward", or the name of the
                              test of prompts and generation that it ran in; else "" */
    double seconds;        /* mean of a repetition */
    double deviation;      /* of a repetition, by n - 1; 0 of one */
    double tokens;         /* tokens a repetition */
    double flops;          /* a repetition, from the cost formulas */
    double bytes;
    double int8_flops; /* of flops, those of weights in blocks: products of bytes */
    uint64_t reserved[3];
} mixt_bench_row;

typedef struct mixt_bench_options {
    int batch_size; /* training */
    int window;
    int prompt;   /* tokens of prompt processing; 0: skip */
    int generate; /* tokens of generation; 0: skip */
    bool train;
    bool operators; /* also one row for each operator of each test */
    int repetitions;
    int depth;                  /* tokens that stand in the context before prompt and generation */
    bool together;              /* one row for the prompt and the generation behind it */
    mixt_cache_type cache_type; /* of prompts and generation */
    uint64_t reserved[7];
} mixt_bench_options;

/* Runs the benchmarks; *rows is malloc'd, names inside belong to the library. */
MIXT_API mixt_status mixt_bench_run(mixt_context *context, mixt_model *model,
                                    const mixt_bench_options *options, mixt_bench_row **rows,
                                    size_t *count, mixt_error *error);

typedef struct mixt_machine_limits {
    double fp32_flops; /* measured fused multiply-adds, all threads */
    double bf16_flops; /* 0 where the CPU has no bf16 products */
    double read_bytes; /* bytes per second over 256 MiB */
    double int8_flops; /* products of bytes and their sums as two operations each; 0: not known */
    uint64_t reserved[3];
} mixt_machine_limits;

MIXT_API void mixt_bench_machine(mixt_context *context, mixt_machine_limits *limits);

/* What a context runs on, and how products of MIXT_MATMUL_BF16 are computed in it: each way gives
 * the same bits, the fastest is taken. */
#define MIXT_HOST_BF16_WAYS 4
typedef struct mixt_host {
    const char *cpu; /* the tier */
    int threads;
    int bf16_ways, bf16_chosen;                  /* entries of the two below, and the one taken */
    const char *bf16_names[MIXT_HOST_BF16_WAYS]; /* "fp32": of rounded operands; "vdpbf16ps" */
    double bf16_flops[MIXT_HOST_BF16_WAYS];      /* of a small product, packed on the way */
    mixt_machine_limits limits;
    double exact_flops; /* of the same product in MIXT_MATMUL_EXACT */
    uint64_t reserved[7];
} mixt_host;

/* Measures it in about a second; the limits as mixt_bench_machine. */
MIXT_API void mixt_bench_host(mixt_context *context, mixt_host *host);

#endif
