/* linear: y = x weight^T + bias. */
#include "ops/support_tmpl.h"

static void bias_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t n = call->in_shape[LINEAR_WEIGHT].size[0];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[LINEAR_X], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        real *y = (real *)call->out[LINEAR_Y] + t * n;
        kernels->add(n, y, y, call->in[LINEAR_BIAS]);
    }
}

void MIXT_REAL(mixt_linear_forward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[LINEAR_X], call->tokens);
    int64_t n = call->in_shape[LINEAR_WEIGHT].size[0], k = call->in_shape[LINEAR_WEIGHT].size[1];
    mixt_gemm product = {
        .m = rows,
        .n = n,
        .k = k,
        .a = call->in[LINEAR_X],
        .a_row = k,
        .a_column = 1,
        .b = call->in[LINEAR_WEIGHT],
        .b_row = 1,
        .b_column = k,
        .packed = call->packed[LINEAR_WEIGHT] != NULL ? call->packed[LINEAR_WEIGHT][0] : NULL,
        .matrix = call->matrices[LINEAR_WEIGHT],
        .c = call->out[LINEAR_Y],
        .c_row = n,
        .exact = call->attributes->exact,
    };
    mixt_gemm_run(call->compute, &product, 1);
    if (call->in[LINEAR_BIAS] != NULL) {
        mixt_for_chunks(call, rows, MIXT_ROWS, bias_forward_rows);
    }
}

static void bias_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t n = call->in_shape[LINEAR_WEIGHT].size[0];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[LINEAR_X], call->tokens), MIXT_SUM_ROWS, item);
    real *sum = (real *)call->workspace + item * n;
    memset(sum, 0, (size_t)n * sizeof *sum);
    mixt_add_sum(mixt_kernels_of(call), n, sum,
                 (const real *)call->d_out[LINEAR_Y] + range.begin * n, range.end - range.begin, n);
}

void mixt_linear_gradients(const mixt_call *call, int x, int weight, const real *dy, bool exact)
{
    int64_t rows = mixt_rows(&call->in_shape[x], call->tokens);
    int64_t n = call->in_shape[weight].size[0], k = call->in_shape[weight].size[1];
    mixt_gemm products[2];
    int count = 0;
    if (call->d_in[x] != NULL) {
        products[count++] = (mixt_gemm){
            .m = rows,
            .n = k,
            .k = n,
            .a = dy,
            .a_row = n,
            .a_column = 1,
            .b = call->in[weight],
            .b_row = k,
            .b_column = 1,
            .c = call->d_in[x],
            .c_row = k,
            .accumulate = call->add[x],
            .exact = exact,
        };
    }
    if (call->d_in[weight] != NULL) {
        products[count++] = (mixt_gemm){
            .m = n,
            .n = k,
            .k = rows,
            .a = dy,
            .a_row = 1,
            .a_column = n,
            .b = call->in[x],
            .b_row = k,
            .b_column = 1,
            .c = call->d_in[weight],
            .c_row = k,
            .accumulate = call->add[weight],
            .exact = exact,
        };
    }
    mixt_gemm_run(call->compute, products, count);
}

/* d bias = sum of the rows of dy */
void MIXT_REAL(mixt_linear_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[LINEAR_X], call->tokens);
    int64_t n = call->in_shape[LINEAR_WEIGHT].size[0], k = call->in_shape[LINEAR_WEIGHT].size[1];
    if (call->d_out[LINEAR_Y] == NULL) {
        mixt_put_zero(call, LINEAR_X, rows * k);
        mixt_put_zero(call, LINEAR_WEIGHT, n * k);
        mixt_put_zero(call, LINEAR_BIAS, n);
        return;
    }
    mixt_linear_gradients(call, LINEAR_X, LINEAR_WEIGHT, call->d_out[LINEAR_Y],
                          call->attributes->exact);
    if (call->d_in[LINEAR_BIAS] != NULL) {
        mixt_for_chunks(call, rows, MIXT_SUM_ROWS, bias_backward_rows);
        mixt_put_zero(call, LINEAR_BIAS, n);
        mixt_add_sum(mixt_kernels_of(call), n, call->d_in[LINEAR_BIAS], call->workspace,
                     mixt_divide_up(rows, MIXT_SUM_ROWS), n);
    }
}

/* head_linear: a matrix for each head */

/* Whether another operator has every row. */
static bool all_elsewhere(const mixt_call *call)
{
    const int32_t *first = call->in[HEAD_LINEAR_FIRST], *last = call->in[HEAD_LINEAR_LAST];
    for (int64_t t = 0; t < call->tokens; t++) {
        if (!call->attributes->partial || first[t] <= last[t]) {
            return false;
        }
    }
    return true;
}

void MIXT_REAL(mixt_head_linear_forward)(const mixt_call *call)
{
    if (all_elsewhere(call)) {
        return;
    }
    int64_t heads = call->in_shape[HEAD_LINEAR_WEIGHT].size[0];
    int64_t n = call->in_shape[HEAD_LINEAR_WEIGHT].size[1];
    int64_t k = call->in_shape[HEAD_LINEAR_WEIGHT].size[2];
    int64_t rows = mixt_rows(&call->in_shape[HEAD_LINEAR_X], call->tokens);
    mixt_gemm *list = call->workspace;
    for (int64_t head = 0; head < heads; head++) {
        list[head] = (mixt_gemm){
            .m = rows,
            .n = n,
            .k = k,
            .a = (const real *)call->in[HEAD_LINEAR_X] + head * k,
            .a_row = heads * k,
            .a_column = 1,
            .b = call->in[HEAD_LINEAR_WEIGHT] != NULL
                     ? (const real *)call->in[HEAD_LINEAR_WEIGHT] + head * n * k
                     : NULL,
            .b_row = 1,
            .b_column = k,
            .packed = call->packed[HEAD_LINEAR_WEIGHT] != NULL
                          ? call->packed[HEAD_LINEAR_WEIGHT][head]
                          : NULL,
            .matrix = call->matrices[HEAD_LINEAR_WEIGHT] != NULL
                          ? &call->matrices[HEAD_LINEAR_WEIGHT][head]
                          : NULL,
            .c = (real *)call->out[HEAD_LINEAR_Y] + head * n,
            .c_row = heads * n,
        };
    }
    mixt_gemm_run(call->compute, list, heads);
}

/* dx = dy weight, d weight = dy^T x, head by head */
void MIXT_REAL(mixt_head_linear_backward)(const mixt_call *call)
{
    int64_t heads = call->in_shape[HEAD_LINEAR_WEIGHT].size[0];
    int64_t n = call->in_shape[HEAD_LINEAR_WEIGHT].size[1];
    int64_t k = call->in_shape[HEAD_LINEAR_WEIGHT].size[2];
    int64_t rows = mixt_rows(&call->in_shape[HEAD_LINEAR_X], call->tokens);
    int64_t count = 0;
    mixt_gemm *list = call->workspace;
    if (call->d_out[HEAD_LINEAR_Y] == NULL) {
        mixt_put_zero(call, HEAD_LINEAR_X, rows * heads * k);
        mixt_put_zero(call, HEAD_LINEAR_WEIGHT, heads * n * k);
        return;
    }
    for (int64_t head = 0; head < heads && call->d_in[HEAD_LINEAR_X] != NULL; head++) {
        list[count++] = (mixt_gemm){
            .m = rows,
            .n = k,
            .k = n,
            .a = (const real *)call->d_out[HEAD_LINEAR_Y] + head * n,
            .a_row = heads * n,
            .a_column = 1,
            .b = (const real *)call->in[HEAD_LINEAR_WEIGHT] + head * n * k,
            .b_row = k,
            .b_column = 1,
            .c = (real *)call->d_in[HEAD_LINEAR_X] + head * k,
            .c_row = heads * k,
            .accumulate = call->add[HEAD_LINEAR_X],
        };
    }
    for (int64_t head = 0; head < heads && call->d_in[HEAD_LINEAR_WEIGHT] != NULL; head++) {
        list[count++] = (mixt_gemm){
            .m = n,
            .n = k,
            .k = rows,
            .a = (const real *)call->d_out[HEAD_LINEAR_Y] + head * n,
            .a_row = 1,
            .a_column = heads * n,
            .b = (const real *)call->in[HEAD_LINEAR_X] + head * k,
            .b_row = heads * k,
            .b_column = 1,
            .c = (real *)call->d_in[HEAD_LINEAR_WEIGHT] + head * n * k,
            .c_row = k,
            .accumulate = call->add[HEAD_LINEAR_WEIGHT],
        };
    }
    mixt_gemm_run(call->compute, list, count);
}
