/* The two ends of a model: embed, and loss (the output layer with softmax cross-entropy). */
#include "ops/head.h"
#include "ops/support_tmpl.h"

/* embed */

#define COLUMNS 64 /* columns of the table that one item adds gradients to */

static real embed_scale(const mixt_call *call)
{
    return call->attributes->scale == 0 ? 1 : (real)call->attributes->scale;
}

static void embed_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const int32_t *tokens = call->in[EMBED_TOKENS];
    int64_t d = call->in_shape[EMBED_TABLE].size[1];
    real scale = embed_scale(call);
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        real *x = (real *)call->out[EMBED_X] + t * d;
        mixt_kernels_of(call)->scale(d, x, scale,
                                     MIXT_REAL(mixt_weight_row)(call, EMBED_TABLE, tokens[t], x));
    }
}

void MIXT_REAL(mixt_embed_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, embed_forward_rows);
}

/* An item has some columns of every row, so that a token's rows meet in token order. */
static void embed_backward_columns(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const int32_t *tokens = call->in[EMBED_TOKENS];
    int64_t d = call->in_shape[EMBED_TABLE].size[1];
    real scale = embed_scale(call);
    mixt_range range = mixt_chunk(d, COLUMNS, item);
    for (int64_t t = 0; t < call->tokens; t++) {
        mixt_kernels_of(call)->axpy(
            range.end - range.begin, (real *)call->d_in[EMBED_TABLE] + tokens[t] * d + range.begin,
            scale, (const real *)call->d_out[EMBED_X] + t * d + range.begin);
    }
}

void MIXT_REAL(mixt_embed_backward)(const mixt_call *call)
{
    int64_t d = call->in_shape[EMBED_TABLE].size[1];
    mixt_put_zero(call, EMBED_TABLE, call->in_shape[EMBED_TABLE].size[0] * d);
    if (call->d_in[EMBED_TABLE] != NULL && call->d_out[EMBED_X] != NULL) {
        mixt_for_chunks(call, d, COLUMNS, embed_backward_columns);
    }
}

/* loss: nll = logsumexp(logits) - logits[target], logits = x weight^T.
 * Both directions walk over slabs of rows, so that a slab's logits are still in cache when their
 * softmax is taken, and the gradient by logits is never held whole. A slab is one block of the
 * product d weight = d logits^T x (kernels.h), so slabs do not change its bits. */

#define SLAB_ROWS 8   /* rows of a slab that one item takes */
#define MAX_BLOCK 256 /* values whose maximum is taken at once */

typedef struct loss_slab {
    const mixt_call *call;
    mixt_range rows;
    real *d_logits; /* [rows, V], backward */
} loss_slab;

/* sum of exp(logits - max); the terms pass through `terms`, or are kept in it where `keep` */
static real exp_sum_pieces(const mixt_kernels *kernels, int64_t n, const real *logits, real max,
                           real *terms, bool keep)
{
    real sum = 0;
    for (int64_t i = 0; i < n; i += MIXT_PIECE) {
        sum += kernels->exp_sum(mixt_least(MIXT_PIECE, n - i), keep ? terms + i : terms, logits + i,
                                max);
    }
    return sum;
}

real MIXT_REAL(mixt_largest)(const mixt_kernels *kernels, int64_t n, const real *row,
                             int32_t *place)
{
    real most = -(real)INFINITY;
    int64_t block = 0;
    for (int64_t i = 0; i < n; i += MAX_BLOCK) {
        real of_block = kernels->max(mixt_least(MAX_BLOCK, n - i), row + i);
        if (!(of_block <= most)) {
            most = of_block;
            block = i;
        }
        if (isnan(of_block)) {
            *place = -1;
            return of_block;
        }
    }
    while (row[block] != most) {
        block++;
    }
    *place = (int32_t)block;
    return most;
}

static void loss_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const loss_slab *slab = context;
    const mixt_call *call = slab->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t vocabulary = call->in_shape[LOSS_WEIGHT].size[0];
    mixt_range range = mixt_chunk(slab->rows.end - slab->rows.begin, SLAB_ROWS, item);
    real terms[MIXT_PIECE];
    for (int64_t t = slab->rows.begin + range.begin; t < slab->rows.begin + range.end; t++) {
        const real *logits = (const real *)call->out[LOSS_LOGITS] + t * vocabulary;
        int32_t target = ((const int32_t *)call->in[LOSS_TARGETS])[t];
        int32_t likeliest = -1;
        real nll = 0;
        if (target >= 0 && target < vocabulary) {
            real max = MIXT_REAL(mixt_largest)(kernels, vocabulary, logits, &likeliest);
            real sum = exp_sum_pieces(kernels, vocabulary, logits, max, terms, false);
            nll = max - logits[target] + (real)log((double)sum);
        }
        ((real *)call->out[LOSS_NLL])[t] = nll;
        ((int32_t *)call->out[LOSS_LIKELIEST])[t] = likeliest;
    }
}

void MIXT_REAL(mixt_loss_forward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[LOSS_X], call->tokens);
    int64_t d = call->in_shape[LOSS_WEIGHT].size[1];
    int64_t vocabulary = call->in_shape[LOSS_WEIGHT].size[0];
    for (int64_t item = 0; item < mixt_divide_up(rows, MIXT_LOSS_SLAB); item++) {
        loss_slab slab = {call, mixt_chunk(rows, MIXT_LOSS_SLAB, item), NULL};
        mixt_gemm product = {
            .m = slab.rows.end - slab.rows.begin,
            .n = vocabulary,
            .k = d,
            .a = (const real *)call->in[LOSS_X] + slab.rows.begin * d,
            .a_row = d,
            .a_column = 1,
            .b = call->in[LOSS_WEIGHT],
            .b_row = 1,
            .b_column = d,
            .packed = call->packed[LOSS_WEIGHT] != NULL ? call->packed[LOSS_WEIGHT][0] : NULL,
            .matrix = call->matrices[LOSS_WEIGHT],
            .c = (real *)call->out[LOSS_LOGITS] + slab.rows.begin * vocabulary,
            .c_row = vocabulary,
        };
        mixt_gemm_run(call->compute, &product, 1);
        mixt_pool_run(call->compute->pool, mixt_divide_up(product.m, SLAB_ROWS), loss_forward_rows,
                      &slab);
    }
}

/* d logits = scale (softmax(logits) - [target]), 0 where the token is ignored */
static void loss_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const loss_slab *slab = context;
    const mixt_call *call = slab->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t vocabulary = call->in_shape[LOSS_WEIGHT].size[0];
    real scale = ((const real *)call->in[LOSS_SCALE])[MIXT_SCALE_LOSS];
    mixt_range range = mixt_chunk(slab->rows.end - slab->rows.begin, SLAB_ROWS, item);
    for (int64_t row = range.begin; row < range.end; row++) {
        int64_t t = slab->rows.begin + row;
        const real *logits = (const real *)call->out[LOSS_LOGITS] + t * vocabulary;
        real *d_logits = slab->d_logits + row * vocabulary;
        int32_t target = ((const int32_t *)call->in[LOSS_TARGETS])[t];
        if (target < 0 || target >= vocabulary) {
            memset(d_logits, 0, (size_t)vocabulary * sizeof *d_logits);
            continue;
        }
        real max = kernels->max(vocabulary, logits);
        real sum = exp_sum_pieces(kernels, vocabulary, logits, max, d_logits, true);
        kernels->scale(vocabulary, d_logits, scale / sum, d_logits);
        d_logits[target] -= scale;
    }
}

static int loss_backward_products(const loss_slab *slab, mixt_gemm products[2])
{
    const mixt_call *call = slab->call;
    int64_t rows = slab->rows.end - slab->rows.begin;
    int64_t d = call->in_shape[LOSS_WEIGHT].size[1];
    int64_t vocabulary = call->in_shape[LOSS_WEIGHT].size[0];
    int count = 0;
    if (call->d_in[LOSS_X] != NULL) {
        products[count++] = (mixt_gemm){
            .m = rows,
            .n = d,
            .k = vocabulary,
            .a = slab->d_logits,
            .a_row = vocabulary,
            .a_column = 1,
            .b = call->in[LOSS_WEIGHT],
            .b_row = d,
            .b_column = 1,
            .c = (real *)call->d_in[LOSS_X] + slab->rows.begin * d,
            .c_row = d,
            .accumulate = call->add[LOSS_X],
        };
    }
    if (call->d_in[LOSS_WEIGHT] != NULL) {
        products[count++] = (mixt_gemm){
            .m = vocabulary,
            .n = d,
            .k = rows,
            .a = slab->d_logits,
            .a_row = 1,
            .a_column = vocabulary,
            .b = (const real *)call->in[LOSS_X] + slab->rows.begin * d,
            .b_row = d,
            .b_column = 1,
            .c = call->d_in[LOSS_WEIGHT],
            .c_row = d,
            .accumulate = call->add[LOSS_WEIGHT] || slab->rows.begin > 0,
        };
    }
    return count;
}

void MIXT_REAL(mixt_loss_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[LOSS_X], call->tokens);
    for (int64_t item = 0; item < mixt_divide_up(rows, MIXT_LOSS_SLAB); item++) {
        loss_slab slab = {call, mixt_chunk(rows, MIXT_LOSS_SLAB, item), call->workspace};
        mixt_pool_run(call->compute->pool,
                      mixt_divide_up(slab.rows.end - slab.rows.begin, SLAB_ROWS),
                      loss_backward_rows, &slab);
        mixt_gemm products[2];
        mixt_gemm_run(call->compute, products, loss_backward_products(&slab, products));
    }
}
