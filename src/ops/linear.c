/* linear: y = x weight^T + bias. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_linear_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[LINEAR_X], weight = request->in[LINEAR_WEIGHT];
    MIXT_TRY(mixt_expect_matrix(&x, "linear: x", error));
    MIXT_TRY(mixt_expect_matrix(&weight, "linear: weight", error));
    MIXT_TRY(mixt_expect(&weight, mixt_shape_static(2, weight.size[0], x.size[1], 0),
                         "linear: weight", error));
    request->out[LINEAR_Y] = mixt_shape_columns(x, weight.size[0]);
    if (request->in[LINEAR_BIAS].rank != 0) {
        MIXT_TRY(mixt_expect(&request->in[LINEAR_BIAS], mixt_shape_static(1, weight.size[0], 0, 0),
                             "linear: bias", error));
        request->backward_workspace = mixt_chunks(x.size[0], MIXT_SUM_ROWS) * weight.size[0];
    }
    return MIXT_OK;
}

void mixt_linear_cost(const mixt_attributes *attributes, const mixt_shape *in,
                      const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double products =
        2 * mixt_shape_values(&in[LINEAR_X], tokens) * (double)in[LINEAR_WEIGHT].size[0];
    double bytes = 4 * (mixt_shape_values(&in[LINEAR_X], tokens) +
                        mixt_shape_values(&in[LINEAR_WEIGHT], tokens) +
                        mixt_shape_values(&out[LINEAR_Y], tokens));
    *cost = (mixt_cost){products, bytes, 2 * products, 2 * bytes};
}
#endif

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

/* dx = dy weight, d weight = dy^T x, d bias = sum of the rows of dy */
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
    mixt_gemm products[2];
    int count = 0;
    if (call->d_in[LINEAR_X] != NULL) {
        products[count++] = (mixt_gemm){
            .m = rows,
            .n = k,
            .k = n,
            .a = call->d_out[LINEAR_Y],
            .a_row = n,
            .a_column = 1,
            .b = call->in[LINEAR_WEIGHT],
            .b_row = k,
            .b_column = 1,
            .c = call->d_in[LINEAR_X],
            .c_row = k,
            .accumulate = call->add[LINEAR_X],
            .exact = call->attributes->exact,
        };
    }
    if (call->d_in[LINEAR_WEIGHT] != NULL) {
        products[count++] = (mixt_gemm){
            .m = n,
            .n = k,
            .k = rows,
            .a = call->d_out[LINEAR_Y],
            .a_row = 1,
            .a_column = n,
            .b = call->in[LINEAR_X],
            .b_row = k,
            .b_column = 1,
            .c = call->d_in[LINEAR_WEIGHT],
            .c_row = k,
            .accumulate = call->add[LINEAR_WEIGHT],
            .exact = call->attributes->exact,
        };
    }
    mixt_gemm_run(call->compute, products, count);
    if (call->d_in[LINEAR_BIAS] != NULL) {
        mixt_for_chunks(call, rows, MIXT_SUM_ROWS, bias_backward_rows);
        mixt_put_zero(call, LINEAR_BIAS, n);
        mixt_add_sum(mixt_kernels_of(call), n, call->d_in[LINEAR_BIAS], call->workspace,
                     mixt_chunks(rows, MIXT_SUM_ROWS), n);
    }
}

/* head_linear: a matrix for each head */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_head_linear_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[HEAD_LINEAR_X], weight = request->in[HEAD_LINEAR_WEIGHT];
    int64_t heads = request->attributes->heads, n = weight.size[1];
    MIXT_TRY(mixt_expect_matrix(&x, "head_linear: x", error));
    if (heads < 1 || x.size[1] % heads != 0 || weight.rank != 3 || n < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "head_linear: rows of %lld are not %lld heads, or the weight is not "
                         "[heads, B, A]",
                         (long long)x.size[1], (long long)heads);
    }
    MIXT_TRY(mixt_expect(&weight, mixt_shape_static(3, heads, n, x.size[1] / heads),
                         "head_linear: weight", error));
    request->out[HEAD_LINEAR_Y] = mixt_shape_columns(x, heads * n);
    request->forward_workspace = mixt_gemm_list_reals(heads);
    request->backward_workspace = mixt_gemm_list_reals(2 * heads);
    return MIXT_OK;
}

void mixt_head_linear_cost(const mixt_attributes *attributes, const mixt_shape *in,
                           const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double products =
        2 * mixt_shape_values(&in[HEAD_LINEAR_X], tokens) * (double)in[HEAD_LINEAR_WEIGHT].size[1];
    double bytes = 4 * (mixt_shape_values(&in[HEAD_LINEAR_X], tokens) +
                        mixt_shape_values(&in[HEAD_LINEAR_WEIGHT], tokens) +
                        mixt_shape_values(&out[HEAD_LINEAR_Y], tokens));
    *cost = (mixt_cost){products, bytes, 2 * products, 2 * bytes};
}
#endif

void MIXT_REAL(mixt_head_linear_forward)(const mixt_call *call)
{
    int64_t heads = call->in_shape[HEAD_LINEAR_WEIGHT].size[0],
            n = call->in_shape[HEAD_LINEAR_WEIGHT].size[1];
    int64_t k = call->in_shape[HEAD_LINEAR_WEIGHT].size[2],
            rows = mixt_rows(&call->in_shape[HEAD_LINEAR_X], call->tokens);
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
    int64_t heads = call->in_shape[HEAD_LINEAR_WEIGHT].size[0],
            n = call->in_shape[HEAD_LINEAR_WEIGHT].size[1];
    int64_t k = call->in_shape[HEAD_LINEAR_WEIGHT].size[2],
            rows = mixt_rows(&call->in_shape[HEAD_LINEAR_X], call->tokens);
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
