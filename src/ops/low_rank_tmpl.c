/* low_rank: a stack of weights with low-rank updates (Hu et al. 2021, arXiv 2106.09685):
 * y[e] = w[e] + s b[e] a[e]. */
#include "ops/low_rank.h"
#include "ops/support_tmpl.h"

#define mixt_low_rank_row MIXT_REAL(mixt_low_rank_row)

#define WIDTH                                                                                      \
    32 /* columns at once: as many as a compiler makes vectors of without asking how many */

/* Columns [from, from + n) of a row, n <= WIDTH. */
static void some_columns(const mixt_low_rank *shape, int64_t from, int64_t n, const real *b,
                         const real *a, real *sum)
{
    for (int64_t k = 0; k < shape->rank; k++) {
        const real *row = a + k * shape->columns + from, factor = b[k];
        for (int64_t i = 0; i < n; i++) {
            sum[i] += factor * row[i];
        }
    }
}

/* The same of WIDTH columns; four k at once, in their order, spare the sums the way to memory. */
static void whole_columns(const mixt_low_rank *shape, int64_t from, const real *b, const real *a,
                          real *sum)
{
    real kept[WIDTH] = {0};
    int64_t columns = shape->columns, k = 0;
    for (; k + 4 <= shape->rank; k += 4) {
        const real *row = a + k * columns + from;
        const real *second = row + columns, *third = second + columns, *fourth = third + columns;
        for (int i = 0; i < WIDTH; i++) {
            kept[i] = (((kept[i] + b[k] * row[i]) + b[k + 1] * second[i]) + b[k + 2] * third[i]) +
                      b[k + 3] * fourth[i];
        }
    }
    for (; k < shape->rank; k++) {
        const real *row = a + k * columns + from;
        for (int i = 0; i < WIDTH; i++) {
            kept[i] += b[k] * row[i];
        }
    }
    memcpy(sum, kept, sizeof kept);
}

void mixt_low_rank_row(const mixt_low_rank *shape, const real *w, const real *b, const real *a,
                       real *y)
{
    real scale = (real)shape->scale;
    for (int64_t from = 0; from < shape->columns; from += WIDTH) {
        int64_t n = mixt_least(WIDTH, shape->columns - from);
        real sum[WIDTH] = {0};
        if (n == WIDTH) {
            whole_columns(shape, from, b, a, sum);
        } else {
            some_columns(shape, from, n, b, a, sum);
        }
        for (int64_t i = 0; i < n; i++) {
            y[from + i] = w[from + i] + scale * sum[i];
        }
    }
}

static void forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_shape *weight = &call->in_shape[LOW_RANK_WEIGHT];
    int64_t out = weight->size[1], columns = weight->size[2];
    mixt_low_rank shape = {columns, call->in_shape[LOW_RANK_A].size[1], call->attributes->scale};
    mixt_range range = mixt_chunk(weight->size[0] * out, MIXT_ROWS, item);
    for (int64_t row = range.begin; row < range.end; row++) {
        mixt_low_rank_row(&shape, (const real *)call->in[LOW_RANK_WEIGHT] + row * columns,
                          (const real *)call->in[LOW_RANK_B] + row * shape.rank,
                          (const real *)call->in[LOW_RANK_A] + row / out * shape.rank * columns,
                          (real *)call->out[LOW_RANK_Y] + row * columns);
    }
}

void MIXT_REAL(mixt_low_rank_forward)(const mixt_call *call)
{
    const mixt_shape *weight = &call->in_shape[LOW_RANK_WEIGHT];
    mixt_for_chunks(call, weight->size[0] * weight->size[1], MIXT_ROWS, forward_rows);
}

/* The gradient of an input from the values of `from`, times a factor. */
typedef struct scaled_put {
    const mixt_call *call;
    int input;
    real factor;
    const real *from;
} scaled_put;

static void put_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const scaled_put *put = context;
    const mixt_kernels *kernels = mixt_kernels_of(put->call);
    mixt_range range = mixt_chunk(mixt_values(put->call, put->input), MIXT_ELEMENTS, item);
    int64_t n = range.end - range.begin;
    real *to = (real *)put->call->d_in[put->input] + range.begin;
    if (put->call->add[put->input]) {
        kernels->axpy(n, to, put->factor, put->from + range.begin);
    } else {
        kernels->scale(n, to, put->factor, put->from + range.begin);
    }
}

static void put_scaled(const mixt_call *call, int input, real factor, const real *from)
{
    scaled_put put = {call, input, factor, from};
    if (call->d_in[input] != NULL) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(mixt_values(call, input), MIXT_ELEMENTS),
                      put_values, &put);
    }
}

/* Appends b^T dy [r, in] to `d_a` and dy a^T [out, r] to `d_b` for each matrix of the stack, as far
 * as they are wanted. Exact in every mode: adapters are small. */
static int64_t add_products(const mixt_call *call, mixt_gemm *list, real *d_a, real *d_b)
{
    const mixt_shape *weight = &call->in_shape[LOW_RANK_WEIGHT];
    int64_t out = weight->size[1], columns = weight->size[2], count = 0;
    int64_t rank = call->in_shape[LOW_RANK_A].size[1];
    for (int64_t e = 0; e < weight->size[0]; e++) {
        const real *dy = (const real *)call->d_out[LOW_RANK_Y] + e * out * columns;
        mixt_gemm product = {.a = dy, .b = dy, .exact = true};
        if (call->d_in[LOW_RANK_A] != NULL) {
            product.m = rank, product.n = columns, product.k = out;
            product.a = (const real *)call->in[LOW_RANK_B] + e * out * rank;
            product.a_row = 1, product.a_column = rank;
            product.b = dy;
            product.b_row = columns, product.b_column = 1;
            product.c = d_a + e * rank * columns;
            product.c_row = columns;
            list[count++] = product;
        }
        if (call->d_in[LOW_RANK_B] != NULL) {
            product.m = out, product.n = rank, product.k = columns;
            product.a = dy;
            product.a_row = columns, product.a_column = 1;
            product.b = (const real *)call->in[LOW_RANK_A] + e * rank * columns;
            product.b_row = 1, product.b_column = columns;
            product.c = d_b + e * out * rank;
            product.c_row = rank;
            list[count++] = product;
        }
    }
    return count;
}

/* dw = dy, da = s b^T dy, db = s dy a^T */
void MIXT_REAL(mixt_low_rank_backward)(const mixt_call *call)
{
    const mixt_shape *weight = &call->in_shape[LOW_RANK_WEIGHT];
    if (call->d_out[LOW_RANK_Y] == NULL) {
        for (int i = 0; i < LOW_RANK_INPUTS; i++) {
            mixt_put_zero(call, i, mixt_values(call, i));
        }
        return;
    }
    mixt_gemm *list = call->workspace;
    real *d_a = (real *)call->workspace + mixt_gemm_list_reals(2 * weight->size[0]);
    real *d_b = d_a + mixt_values(call, LOW_RANK_A);
    mixt_gemm_run(call->compute, list, add_products(call, list, d_a, d_b));
    put_scaled(call, LOW_RANK_WEIGHT, 1, call->d_out[LOW_RANK_Y]);
    put_scaled(call, LOW_RANK_A, (real)call->attributes->scale, d_a);
    put_scaled(call, LOW_RANK_B, (real)call->attributes->scale, d_b);
}
