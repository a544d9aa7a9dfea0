/* The kernel table and the matrix product in one precision. Only kernels.h includes this file, once
 * for each, and defines before: `real`, the number type, and MIXT_NAME(name), which appends f32 or
 * f64. So what is called mixt_kernels here is mixt_kernels_f32 and mixt_kernels_f64 elsewhere. All
 * of it is undefined again at the end. */
#define mixt_gemm_kernels MIXT_NAME(mixt_gemm_kernels)
#define mixt_scores MIXT_NAME(mixt_scores)
#define mixt_cached MIXT_NAME(mixt_cached)
#define mixt_kernels MIXT_NAME(mixt_kernels)
#define mixt_gemm MIXT_NAME(mixt_gemm)
#define mixt_tile_kernel MIXT_NAME(mixt_tile_kernel)
#define mixt_gemm_chain MIXT_NAME(mixt_gemm_chain)
#define mixt_gemm_run MIXT_NAME(mixt_gemm_run)
#define mixt_gemm_run_chains MIXT_NAME(mixt_gemm_run_chains)
#define mixt_gemm_block MIXT_NAME(mixt_gemm_block)

/* C tile [rows, columns] = panel product (+ C); rows >= 1, columns >= 1. */
typedef void mixt_tile_kernel(int64_t cells, const real *a, const real *b, real *c,
                              int64_t c_stride, int rows, int columns, bool accumulate);

/* How the matrix product driver reads memory. A panel is [cells, width] with width = tile_rows for
 * A and tile_columns for B; a cell is one k, or where `pairs` is set two bfloat16 (even k in the
 * low half) in the place of one fp32. */
typedef struct mixt_gemm_kernels {
    int tile_rows, tile_columns;
    bool pairs;
    /* Packs x(p, i) = x[p * x_k + i * x_width], p < k, i < width, into panels of
     * panel_width columns one behind the other; the last is filled with zeros behind `width`.
     * One of x_k, x_width is 1. */
    void (*pack)(int64_t k, int64_t width, const real *x, int64_t x_k, int64_t x_width,
                 real *panels, int panel_width);
    /* The same for A where its panels are not made as those of B; NULL: they are. */
    void (*pack_rows)(int64_t k, int64_t width, const real *x, int64_t x_k, int64_t x_width,
                      real *panels, int panel_width);
    mixt_tile_kernel *tile;
    /* The same by lanes: `cells` k in rising order in A, one lane's behind another's in B. NULL:
     * there are no such products (bfloat16). */
    mixt_tile_kernel *tile_lanes;
    /* Packs typed rows of plain floats: column i of the panels is row i of `from`. NULL: the
     * driver makes reals of them and packs those. */
    void (*pack_typed)(const mixt_row_range *from, real *panels, int panel_width);
    /* Products of few rows of activations with typed rows of plain floats, of BF16 and an even k
     * alone where `pairs` is set; fp32 table only, NULL: the driver does them too. The second are
     * those by lanes. */
    mixt_stream_kernel *stream, *stream_half;
    /* A thread's modes that `tile` needs, and what stood before put back; both NULL: none. Between
     * the two it runs `pack` and `tile` alone. */
    uint64_t (*enter)(void);
    void (*leave)(uint64_t before);
} mixt_gemm_kernels;

/* A block of attention scores. softmax has a column for each query (so sixteen queries are one
 * vector), softmax_rows and softmax_backward a row. first, last: keys that each query sees, counted
 * as `origin` counts the block's first (0 in softmax); NULL: all of them. */
typedef struct mixt_scores {
    int64_t keys, queries, stride;
    real *scores; /* softmax [keys, stride], others [queries, stride]: q.k, then the weights */
    real scale;
    const real *first, *last; /* [queries]; softmax_rows [1], of all */
    real *max, *sum, *change; /* [queries], softmax and softmax_rows */
    const real *lse, *delta;  /* [queries], softmax_backward */
    real *d_scores;           /* [queries, stride]: dy.v, and afterwards d score */
    int64_t origin;           /* softmax_backward */
} mixt_scores;

/* Rows of a cache as they lie, `stride` bytes apart, in heads of n values, head_bytes apart, of
 * which each is for `group` queries. */
typedef struct mixt_cached {
    mixt_type type; /* F32: reals */
    int64_t rows, stride;
    int64_t heads, group, n, head_bytes;
    const char *at;
    const char *next; /* what is read behind them, which may be fetched ahead; or NULL */
    const real *x;    /* query j (of kv head j / group) begins at x + j x_row */
    int64_t x_row;
    real *y;
    int64_t y_row;
} mixt_cached;

typedef struct mixt_kernels {
    const char *name;
    /* reductions over n values */
    real (*dot)(int64_t n, const real *a, const real *b);
    real (*sum)(int64_t n, const real *a);
    real (*max)(int64_t n, const real *a); /* NaN where one is among them; n >= 1 */
    /* y = a + b; y += alpha x; y = alpha x; y = a * b; y may be an input */
    void (*add)(int64_t n, real *y, const real *a, const real *b);
    void (*axpy)(int64_t n, real *y, real alpha, const real *x);
    void (*scale)(int64_t n, real *y, real alpha, const real *x);
    void (*multiply)(int64_t n, real *y, const real *a, const real *b);
    /* y = exp(x - shift), returns the 16-lane sum of y; x = -INFINITY gives exactly 0 */
    real (*exp_sum)(int64_t n, real *y, const real *x, real shift);
    /* y = silu(gate) * up, silu(z) = z / (1 + exp(-z)) */
    void (*swiglu)(int64_t n, real *y, const real *gate, const real *up);
    /* derivatives of it; dgate may be gate, dup may be up */
    void (*swiglu_backward)(int64_t n, real *dgate, real *dup, const real *gate, const real *up,
                            const real *dy);
    /* the same with gelu by its tanh formula, which is z / (1 + exp(-2 u)) with
     * u = sqrt(2 / pi) (z + 0.044715 z^3) */
    void (*geglu)(int64_t n, real *y, const real *gate, const real *up);
    void (*geglu_backward)(int64_t n, real *dgate, real *dup, const real *gate, const real *up,
                           const real *dy);
    /* and with g = min(gate, 7), u = clamp(up, -7, 7): y = g / (1 + exp(-1.702 g)) (u + 1) */
    void (*clamped_glu)(int64_t n, real *y, const real *gate, const real *up);
    void (*clamped_glu_backward)(int64_t n, real *dgate, real *dup, const real *gate,
                                 const real *up, const real *dy);
    /* RMSNorm: y = (x * inverse) * weight; inverse = 1 / rms given */
    void (*norm_apply)(int64_t n, real *y, const real *x, real inverse, const real *weight);
    /* rotates pairs (i, i + n/2) by angles whose cos, sin are [n/2]; y may be x.
     * `sign` +1 forward, -1 the inverse rotation (backward) */
    void (*rope)(int64_t n, real *y, const real *x, const real *cosine, const real *sine,
                 real sign);
    /* Online softmax over one more block of keys: x = scale score (hidden: -INFINITY);
     * max' = the largest so far; weights = exp(x - max'); change = exp(max - max');
     * sum = sum change + weights added in rising key. A query that has seen nothing yet keeps
     * max -INFINITY, weights 0. */
    void (*softmax)(const mixt_scores *scores);
    void (*softmax_rows)(
        const mixt_scores *scores); /* the same of queries that see the same keys */
    /* p = exp(scale score - lse), d score = (p (dy.v - delta)) scale */
    void (*softmax_backward)(const mixt_scores *scores);
    /* n values of a cache's row to F16, BF16 or Q8_0 (n whole blocks) and back, by way of fp32.
     * Q8_0 as ggml has it: d = largest / 127 as a half, q = x / (largest / 127) to the nearest,
     * ties to even; NaN makes its block NaN. */
    void (*narrow)(int64_t n, void *y, const real *x, mixt_type type);
    void (*widen)(int64_t n, real *y, const void *x, mixt_type type);
    /* y[j][r] = x[j] . row r, as a matrix product sums; y[j][i] = the sum over rows r of
     * x[j][r] row_r[i], multiply-adds in rising r from zero. */
    void (*cached_dot)(const mixt_cached *cached);
    void (*cached_sum)(const mixt_cached *cached);
    void (*adamw)(int64_t n, real *w, real *m, real *v, const real *gradient,
                  const mixt_adamw_arguments *arguments);
    mixt_gemm_kernels gemm;
    mixt_gemm_kernels gemm_bf16; /* of products in bfloat16; fp64 has the same as `gemm` */
    const struct mixt_matrix_kernels *matrix; /* quantised weights; fp32 table only */
} mixt_kernels;

/* C [m, n] = A [m, k] B [k, n] (+ C). Strides are in elements. */
typedef struct mixt_gemm {
    int64_t m, n, k;
    const real *a;
    int64_t a_row, a_column; /* A[i][p] = a[i * a_row + p * a_column]; one of them is 1 */
    const real *b;
    int64_t b_row, b_column;          /* B[p][j] = b[p * b_row + j * b_column]; one of them is 1 */
    const struct mixt_packed *packed; /* B packed before by mixt_pack_f32, or NULL */
    const mixt_matrix *matrix; /* fp32: B [k, n] = the transpose of these rows, instead of b */
    real *c;
    int64_t c_row;
    bool accumulate;
    bool exact; /* fp32 exact whatever compute->matmul says (routers) */
    bool lower; /* only C[i][j <= i] is wanted, as of a symmetric C; the rest may be written too */
} mixt_gemm;

/* Runs `count` independent products (no C overlaps) as one parallel region over tiles. m, n
 * or k may be 0: k = 0 writes zeros, or nothing where it accumulates. */
void mixt_gemm_run(const mixt_compute *compute, const mixt_gemm *list, int64_t count);
/* Products of the same rows, one behind the other: a thread takes some rows through all of them, so
 * that one may read what those before it wrote to the same rows. `between` is called for rows
 * [begin, end) of chain `chain` when the first `before` products have them. */
typedef struct mixt_gemm_chain {
    const mixt_gemm *products; /* neither packed nor typed */
    int count, before;
    void (*between)(void *context, int64_t chain, int64_t begin, int64_t end);
    void *context;
} mixt_gemm_chain;

/* Most products of a chain. */
#define MIXT_CHAIN_MOST 3

/* Runs independent chains as mixt_gemm_run would their products, to the same bits; never by BLAS.
 */
void mixt_gemm_run_chains(const mixt_compute *compute, const mixt_gemm_chain *list, int64_t count);
/* One product on the calling thread alone, from inside a pool item; always exact fp32 / fp64
 * chains (attention blocks). `thread` selects the pack buffers. */
void mixt_gemm_block(const mixt_compute *compute, int thread, const mixt_gemm *gemm);

#undef mixt_gemm_kernels
#undef mixt_scores
#undef mixt_cached
#undef mixt_kernels
#undef mixt_gemm
#undef mixt_tile_kernel
#undef mixt_gemm_chain
#undef mixt_gemm_run
#undef mixt_gemm_run_chains
#undef mixt_gemm_block
#undef MIXT_NAME
#undef real
