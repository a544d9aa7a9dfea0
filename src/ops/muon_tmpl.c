/* muon: one step on matrices, each by itself (Jordan et al. 2024). The momentum of the gradient,
 * looked at a step ahead (Nesterov), is brought near the closest matrix with orthonormal rows or
 * columns by a Newton-Schulz iteration in which every singular value s becomes a s + b s^3 + c s^5;
 * its length is that of AdamW's steps (Moonlight, arXiv 2502.16982). */
#include "ops/support_tmpl.h"

#define A 3.4445
#define B (-4.7750)
#define C 2.0315
#define LEAST 1e-7        /* norm that is divided by */
#define SYMMETRIC_ROWS 16 /* of an item, so that what it writes across the diagonal are lines */

typedef struct muon_work {
    const mixt_call *call;
    int64_t first, matrices; /* of the stack, in this group */
    int64_t rows, columns, values;
    int64_t side; /* the shorter one */
    bool exact;   /* products in fp32: with BLAS too, as their bits are not to depend on threads */
    mixt_gemm *list; /* [matrices] */
    double *sums;    /* [matrices, parts of MIXT_ELEMENTS values]: squares */
    real *x, *next;  /* [matrices, rows, columns] */
    real *gram;      /* [matrices, side, side]: x x^T, or x^T x */
    real *polynomial;
} muon_work;

static int64_t parts_of(int64_t values)
{
    return mixt_divide_up(values, MIXT_ELEMENTS);
}

/* One item for each part of each matrix of `values` values. */
static void for_parts(muon_work *w, int64_t values, mixt_item_function function)
{
    mixt_pool_run(w->call->compute->pool, w->matrices * parts_of(values), function, w);
}

/* The values of an item: from where on, counted from the first matrix of the group, and how many.
 */
static mixt_range part_range(int64_t values, int64_t item)
{
    int64_t parts = parts_of(values), matrix = item / parts;
    mixt_range range = mixt_chunk(values, MIXT_ELEMENTS, item % parts);
    return (mixt_range){matrix * values + range.begin, matrix * values + range.end};
}

static double squares(int64_t n, const real *x)
{
    double lanes[8] = {0};
    for (int64_t i = 0; i < n; i++) {
        lanes[i % 8] += (double)x[i] * (double)x[i];
    }
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

/* m = momentum m + (1 - momentum) g; x = momentum m + (1 - momentum) g */
static void accumulate(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    const mixt_kernels *kernels = mixt_kernels_of(w->call);
    const mixt_muon_arguments *step = w->call->attributes->muon;
    mixt_range range = part_range(w->values, item);
    int64_t n = range.end - range.begin, at = w->first * w->values + range.begin;
    real *m = (real *)w->call->in[MUON_M] + at, *x = w->x + range.begin;
    kernels->scale(n, x, (real)((1 - step->momentum) * step->scale),
                   (const real *)w->call->in[MUON_GRADIENT] + at);
    kernels->scale(n, m, (real)step->momentum, m);
    kernels->add(n, m, m, x);
    kernels->axpy(n, x, (real)step->momentum, m);
    w->sums[item] = squares(n, x);
}

static void normalise(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    int64_t parts = parts_of(w->values), matrix = item / parts;
    mixt_range range = part_range(w->values, item);
    double sum = 0;
    for (int64_t i = 0; i < parts; i++) {
        sum += w->sums[matrix * parts + i];
    }
    mixt_kernels_of(w->call)->scale(range.end - range.begin, w->x + range.begin,
                                    (real)(1 / fmax(sqrt(sum), LEAST)), w->x + range.begin);
}

/* Some rows of one of the matrices [side, side]: from where on, counted from the first matrix of
 * the group, and which. */
static mixt_range symmetric_rows(const muon_work *w, int64_t item, int64_t *at)
{
    int64_t parts = mixt_divide_up(w->side, SYMMETRIC_ROWS);
    *at = item / parts * w->side * w->side;
    return mixt_chunk(w->side, SYMMETRIC_ROWS, item % parts);
}

/* What lies across the diagonal from these rows' part up to it, of x [side, side]. */
static void mirror(real *x, int64_t side, mixt_range rows)
{
    for (int64_t j = 0; j < rows.end; j++) {
        for (int64_t i = mixt_most(rows.begin, j + 1); i < rows.end; i++) {
            x[j * side + i] = x[i * side + j];
        }
    }
}

static void finish_gram(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    int64_t at;
    mixt_range rows = symmetric_rows(w, item, &at);
    mirror(w->gram + at, w->side, rows);
}

/* polynomial = b gram + c gram^2, which is there up to the diagonal */
static void finish_polynomial(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    const mixt_kernels *kernels = mixt_kernels_of(w->call);
    int64_t at;
    mixt_range rows = symmetric_rows(w, item, &at);
    for (int64_t i = rows.begin; i < rows.end; i++) {
        real *row = w->polynomial + at + i * w->side;
        kernels->scale(i + 1, row, (real)C, row);
        kernels->axpy(i + 1, row, (real)B, w->gram + at + i * w->side);
    }
    mirror(w->polynomial + at, w->side, rows);
}

static void begin_next(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    mixt_range range = part_range(w->values, item);
    mixt_kernels_of(w->call)->scale(range.end - range.begin, w->next + range.begin, (real)A,
                                    w->x + range.begin);
}

/* weight = (1 - rate decay) weight - rate 0.2 sqrt(longer side) x */
static void apply(void *context, int64_t item, int thread)
{
    (void)thread;
    const muon_work *w = context;
    const mixt_kernels *kernels = mixt_kernels_of(w->call);
    const mixt_muon_arguments *step = w->call->attributes->muon;
    mixt_range range = part_range(w->values, item);
    int64_t n = range.end - range.begin;
    double longer = (double)(w->rows > w->columns ? w->rows : w->columns);
    real *weight = (real *)w->call->in[MUON_WEIGHT] + w->first * w->values + range.begin;
    kernels->scale(n, weight, (real)(1 - step->rate * step->decay), weight);
    kernels->axpy(n, weight, (real)(-0.2 * sqrt(longer) * step->rate), w->x + range.begin);
}

/* The products of a step, for matrix i of the group. Those of the shorter side are symmetric, to
 * the bit: sums of the same products in the same order. */
static mixt_gemm gram_product(const muon_work *w, int64_t i)
{
    bool wide = w->rows <= w->columns;
    const real *x = w->x + i * w->values;
    return (mixt_gemm){.m = w->side,
                       .n = w->side,
                       .k = wide ? w->columns : w->rows,
                       .a = x,
                       .a_row = wide ? w->columns : 1,
                       .a_column = wide ? 1 : w->columns,
                       .b = x,
                       .b_row = wide ? 1 : w->columns,
                       .b_column = wide ? w->columns : 1,
                       .c = w->gram + i * w->side * w->side,
                       .c_row = w->side,
                       .exact = w->exact,
                       .lower = true};
}

static mixt_gemm square_product(const muon_work *w, int64_t i)
{
    const real *gram = w->gram + i * w->side * w->side;
    return (mixt_gemm){.m = w->side,
                       .n = w->side,
                       .k = w->side,
                       .a = gram,
                       .a_row = w->side,
                       .a_column = 1,
                       .b = gram,
                       .b_row = w->side,
                       .b_column = 1,
                       .c = w->polynomial + i * w->side * w->side,
                       .c_row = w->side,
                       .exact = w->exact,
                       .lower = true};
}

static mixt_gemm next_product(const muon_work *w, int64_t i)
{
    bool wide = w->rows <= w->columns;
    const real *x = w->x + i * w->values, *polynomial = w->polynomial + i * w->side * w->side;
    return (mixt_gemm){.m = w->rows,
                       .n = w->columns,
                       .k = w->side,
                       .a = wide ? polynomial : x,
                       .a_row = w->side,
                       .a_column = 1,
                       .b = wide ? x : polynomial,
                       .b_row = w->columns,
                       .b_column = 1,
                       .c = w->next + i * w->values,
                       .c_row = w->columns,
                       .accumulate = true,
                       .exact = w->exact};
}

static void multiply(const muon_work *w, mixt_gemm (*product)(const muon_work *w, int64_t i))
{
    for (int64_t i = 0; i < w->matrices; i++) {
        w->list[i] = product(w, i);
    }
    mixt_gemm_run(w->call->compute, w->list, w->matrices);
}

/* x = a x + (b gram + c gram^2) x, or with the polynomial behind it */
static void iterate(muon_work *w)
{
    int64_t items = w->matrices * mixt_divide_up(w->side, SYMMETRIC_ROWS);
    multiply(w, gram_product);
    mixt_pool_run(w->call->compute->pool, items, finish_gram, w);
    multiply(w, square_product);
    mixt_pool_run(w->call->compute->pool, items, finish_polynomial, w);
    for_parts(w, w->values, begin_next);
    multiply(w, next_product);
    real *x = w->next;
    w->next = w->x;
    w->x = x;
}

void MIXT_REAL(mixt_muon_forward)(const mixt_call *call)
{
    const mixt_shape *shape = &call->in_shape[MUON_WEIGHT];
    assert(call->attributes->muon != NULL && call->attributes->muon->steps > 0);
    int64_t most = mixt_least(shape->size[0], MIXT_MUON_GROUP);
    muon_work w = {.call = call,
                   .rows = shape->size[1],
                   .columns = shape->size[2],
                   .values = shape->size[1] * shape->size[2],
                   .side = mixt_least(shape->size[1], shape->size[2]),
                   .exact = call->compute->matmul != MIXT_MATMUL_BF16};
    real *room = call->workspace;
    w.list = call->workspace;
    room += mixt_gemm_list_reals(most);
    w.sums = (double *)(void *)room;
    room += 2 * mixt_round_up_reals(most * parts_of(w.values));
    w.x = room;
    w.next = w.x + most * w.values;
    w.gram = w.next + most * w.values;
    w.polynomial = w.gram + most * w.side * w.side;
    for (; w.first < shape->size[0]; w.first += w.matrices) {
        w.matrices = mixt_least(shape->size[0] - w.first, MIXT_MUON_GROUP);
        for_parts(&w, w.values, accumulate);
        for_parts(&w, w.values, normalise);
        for (int64_t i = 0; i < call->attributes->muon->steps; i++) {
            iterate(&w);
        }
        for_parts(&w, w.values, apply);
    }
}
