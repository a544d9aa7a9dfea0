/* experts: E gated blocks, each on its own rows (offsets[e] .. offsets[e + 1]):
 * y = (activation(rows w_gate^T + b_gate) * (rows w_up^T + b_up)) w_down^T + b_down.
 * All experts' products run as one list, so that small ones fill the gaps of large ones; where a
 * store has the experts, they come in waves, those first that are there. Experts without rows are
 * left out; the rest of the house never sees raggedness. Behind them may stand groups of experts
 * without weights, whose rows are copied or cleared. */
#include <assert.h>

#include "ops/experts.h"
#include "ops/support_tmpl.h"

typedef struct experts_run {
    const mixt_call *call;
    const int32_t *offsets;
    int64_t experts, ffn, d;
    int64_t rows, values;    /* of experts with weights; of gate */
    int64_t kept, all;       /* where rows that are given back end, and all in use */
    const mixt_store *store; /* has the experts' matrices, or NULL */
    int32_t *wave;           /* experts that are worked on: all with rows, or those taken */
    int64_t wave_count, wave_rows;
    mixt_gemm *list;
    int64_t count;
    real *hidden, *d_gate, *d_up; /* [rows, F] */
    real *product;                /* [E, F, d]: of a part, of one matrix */
} experts_run;

static experts_run experts_start(const mixt_call *call)
{
    experts_run run = {
        .call = call,
        .offsets = call->in[EXPERTS_OFFSETS],
        .experts = call->in_shape[EXPERTS_W_GATE].size[0],
        .ffn = call->in_shape[EXPERTS_W_GATE].size[1],
        .d = call->in_shape[EXPERTS_W_GATE].size[2],
        .list = call->workspace,
    };
    run.wave = (int32_t *)(void *)(run.list + 4 * run.experts); /* behind products and chains */
    run.rows = run.offsets[run.experts];
    for (int slot = EXPERTS_W_GATE; slot <= EXPERTS_W_DOWN; slot++) {
        run.store = call->stores[slot] != NULL ? call->stores[slot] : run.store;
    }
    run.kept = run.offsets[run.experts + call->attributes->identity_experts];
    run.all = run.offsets[mixt_values(call, EXPERTS_OFFSETS) - 1];
    assert(run.offsets[0] == 0 && run.rows >= 0 && run.kept >= run.rows && run.all >= run.kept);
    assert(run.all <= mixt_rows(&call->in_shape[EXPERTS_ROWS], call->tokens));
    run.values = run.rows * run.ffn;
    return run;
}

/* Which matrices a product of one expert reads and writes. */
typedef struct experts_matrices {
    const real *a;
    const void *weights; /* [E, n, k] or, not transposed, [E, k, n] */
    real *c;
    int64_t n, k;
    bool transposed, accumulate;
    int slot; /* forward: of the weights, which may be packed, typed, or elsewhere */
} experts_matrices;

/* Every expert with rows is worked on at once. */
static void take_all(experts_run *run)
{
    run->wave_count = 0;
    run->wave_rows = run->rows;
    for (int64_t e = 0; e < run->experts; e++) {
        assert(run->offsets[e + 1] >= run->offsets[e]); /* offsets rise */
        if (run->offsets[e + 1] > run->offsets[e]) {
            run->wave[run->wave_count++] = (int32_t)e;
        }
    }
}

/* The next experts that the store has; false: none are left, or one cannot be had. */
static bool take_wave(experts_run *run)
{
    mixt_error error = MIXT_ERROR_INIT;
    run->wave_count = run->store->take(run->store->user, run->offsets, run->wave, &error);
    if (run->wave_count < 0) {
        mixt_call_fail_expert(run->call, run->wave[0], &error);
    }
    run->wave_rows = 0;
    for (int64_t i = 0; i < run->wave_count; i++) {
        run->wave_rows += run->offsets[run->wave[i] + 1] - run->offsets[run->wave[i]];
    }
    return run->wave_count > 0;
}

/* The typed rows of an expert's matrix, or NULL. */
static const mixt_matrix *typed_rows(const experts_run *run, int slot, int64_t e)
{
    const mixt_call *call = run->call;
    return call->stores[slot] != NULL ? run->store->rows(run->store->user, slot - EXPERTS_W_GATE, e)
           : call->matrices[slot] != NULL ? &call->matrices[slot][e]
                                          : NULL;
}

/* For each expert of the wave: C rows [n] = A rows [k] times its weights. */
static void add_row_products(experts_run *run, const experts_matrices *matrices)
{
    int64_t n = matrices->n, k = matrices->k;
    const mixt_call *call = run->call;
    bool forward = matrices->transposed;
    for (int64_t i = 0; i < run->wave_count; i++) {
        int64_t e = run->wave[i], begin = run->offsets[e];
        const mixt_packed *packed = forward && call->packed[matrices->slot] != NULL
                                        ? call->packed[matrices->slot][e]
                                        : NULL;
        run->list[run->count++] = (mixt_gemm){
            .m = run->offsets[e + 1] - begin,
            .n = n,
            .k = k,
            .a = matrices->a + begin * k,
            .a_row = k,
            .a_column = 1,
            .b = matrices->weights != NULL ? (const real *)matrices->weights + e * n * k : NULL,
            .b_row = matrices->transposed ? 1 : n,
            .b_column = matrices->transposed ? k : 1,
            .packed = packed,
            .matrix = forward ? typed_rows(run, matrices->slot, e) : NULL,
            .c = matrices->c + begin * n,
            .c_row = n,
            .accumulate = matrices->accumulate,
        };
    }
}

/* Whose product is the gradient of a weight [m, n] by expert: left [rows, m]^T right [rows, n]. */
typedef struct weight_product {
    int input;
    int64_t m, n;
    const real *left, *right;
} weight_product;

static void add_weight_product(experts_run *run, const weight_product *p, mixt_range rows, real *c,
                               bool accumulate)
{
    run->list[run->count++] = (mixt_gemm){
        .m = p->m,
        .n = p->n,
        .k = rows.end - rows.begin,
        .a = p->left + rows.begin * p->m,
        .a_row = 1,
        .a_column = p->m,
        .b = p->right + rows.begin * p->n,
        .b_row = p->n,
        .b_column = 1,
        .c = c,
        .c_row = p->n,
        .accumulate = accumulate,
    };
}

/* For each expert: d weights (+)= the product over its rows. An expert without rows gets zeros, or
 * nothing added. */
static void add_weight_products(experts_run *run, const weight_product *p)
{
    const mixt_call *call = run->call;
    for (int64_t e = 0; call->d_in[p->input] != NULL && e < run->experts; e++) {
        mixt_range rows = {run->offsets[e], run->offsets[e + 1]};
        real *gradient = (real *)call->d_in[p->input] + e * p->m * p->n;
        if (rows.begin < rows.end) {
            add_weight_product(run, p, rows, gradient, call->add[p->input]);
        } else if (!call->add[p->input]) {
            memset(gradient, 0, (size_t)(p->m * p->n) * sizeof *gradient);
        }
    }
}

/* The rows of an expert in one of its parts. */
static mixt_range part_of(const experts_run *run, int64_t e, int64_t part)
{
    const int32_t *parts = run->call->in[EXPERTS_PARTS];
    mixt_range rows = {run->offsets[e], run->offsets[e + 1]};
    int64_t count = parts != NULL ? run->call->in_shape[EXPERTS_PARTS].size[1] : 1;
    for (int64_t i = 0; i < part && parts != NULL; i++) {
        rows.begin += parts[e * count + i];
    }
    rows.end = parts != NULL ? rows.begin + parts[e * count + part] : rows.end;
    assert(rows.begin <= rows.end && rows.end <= run->offsets[e + 1]);
    return rows;
}

static int64_t parts_of(const experts_run *run)
{
    const mixt_call *call = run->call;
    return !call->attributes->exact_parts    ? 0
           : call->in[EXPERTS_PARTS] == NULL ? 1
                                             : call->in_shape[EXPERTS_PARTS].size[1];
}

/* An expert's product of a part onto its gradient. */
typedef struct exact_run {
    const experts_run *run;
    const weight_product *product;
    int64_t part;
} exact_run;

static void add_exact_product(void *context, int64_t e, int thread)
{
    (void)thread;
    const exact_run *exact = context;
    const experts_run *run = exact->run;
    int64_t values = exact->product->m * exact->product->n;
    real *gradient = (real *)run->call->d_in[exact->product->input] + e * values;
    mixt_range rows = part_of(run, e, exact->part);
    if (rows.begin < rows.end) {
        mixt_kernels_of(run->call)->add(values, gradient, gradient, run->product + e * values);
    }
}

static void experts_run_list(experts_run *run)
{
    mixt_gemm_run(run->call->compute, run->list, run->count);
    run->count = 0;
}

/* Moves the running total of a weight's gradient from one copy of the experts to the next, of which
 * this one is the sender or the receiver. */
static void pass_total(const experts_run *run, int input, int from, int to)
{
    const mixt_call *call = run->call;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks = call->attributes->ranks;
    const mixt_shape *shape = &call->in_shape[input];
    int64_t values = shape->size[0] * shape->size[1] * (shape->rank == 3 ? shape->size[2] : 1);
    assert(call->add[input]);
    if (mixt_ranks_pass(ranks, MIXT_GROUP_DATA, from, to, call->d_in[input],
                        (size_t)values * sizeof(real), &error) != MIXT_OK) {
        mixt_call_fail_ranks(call, "experts", &error);
    }
}

static bool has_copies(const experts_run *run, int input)
{
    return run->call->attributes->ranks != NULL && run->call->d_in[input] != NULL;
}

/* What the copies before this one have added up. */
static void take_total(const experts_run *run, int input)
{
    int own = has_copies(run, input)
                  ? mixt_group_place(run->call->attributes->ranks, MIXT_GROUP_DATA)
                  : 0;
    if (own > 0) {
        pass_total(run, input, own - 1, own);
    }
}

/* With this one's, to the next. Behind the last one the trainer has it. */
static void give_total(const experts_run *run, int input)
{
    const mixt_ranks *ranks = run->call->attributes->ranks;
    int own = has_copies(run, input) ? mixt_group_place(ranks, MIXT_GROUP_DATA) : 0;
    if (has_copies(run, input) && own + 1 < mixt_group_size(ranks, MIXT_GROUP_DATA)) {
        pass_total(run, input, own, own + 1);
    }
}

/* The same with one product for each part, made from zero and added in the order of the parts. */
static void run_exact_products(experts_run *run, const weight_product *p)
{
    const mixt_call *call = run->call;
    int64_t values = p->m * p->n;
    if (call->d_in[p->input] == NULL) {
        return;
    }
    mixt_put_zero(call, p->input, run->experts * values);
    for (int64_t part = 0; part < parts_of(run); part++) {
        for (int64_t e = 0; e < run->experts; e++) {
            mixt_range rows = part_of(run, e, part);
            if (rows.begin < rows.end) {
                add_weight_product(run, p, rows, run->product + e * values, false);
            }
        }
        experts_run_list(run);
        exact_run exact = {run, p, part};
        mixt_pool_run(call->compute->pool, run->experts, add_exact_product, &exact);
    }
}

/* Fewer rows than these read weights faster as they lie than packed for all. */
#define CHAIN_ROWS 64

/* Whether each expert's products may run as a chain: weights of plain numbers in memory, nothing
 * between the products but the activation, and rows that are worth it. */
static bool run_in_chains(const experts_run *run)
{
    const mixt_call *call = run->call;
    bool plain = call->compute->matmul != MIXT_MATMUL_BLAS && run->rows >= CHAIN_ROWS;
    for (int slot = EXPERTS_W_GATE; slot <= EXPERTS_W_DOWN; slot++) {
        plain = plain && call->in[slot] != NULL && call->packed[slot] == NULL &&
                call->matrices[slot] == NULL && call->stores[slot] == NULL;
    }
    return plain && call->in[EXPERTS_B_GATE] == NULL && call->in[EXPERTS_B_UP] == NULL;
}

/* The expert's product of `matrices`, behind what the list holds. */
static void add_to_chain(experts_run *run, int64_t e, const experts_matrices *matrices)
{
    int64_t begin = run->offsets[e], n = matrices->n, k = matrices->k;
    run->list[run->count++] = (mixt_gemm){
        .m = run->offsets[e + 1] - begin,
        .n = n,
        .k = k,
        .a = matrices->a + begin * k,
        .a_row = k,
        .a_column = 1,
        .b = (const real *)matrices->weights + e * n * k,
        .b_row = matrices->transposed ? 1 : n,
        .b_column = matrices->transposed ? k : 1,
        .c = matrices->c + begin * n,
        .c_row = n,
        .accumulate = matrices->accumulate,
    };
}

/* For each expert the products of `matrices`, with `between` behind the first `before`. The list
 * has a place for each product and each chain. */
static void run_chains(experts_run *run, const experts_matrices *matrices, int count, int before,
                       void (*between)(void *context, int64_t e, int64_t begin, int64_t end))
{
    mixt_gemm_chain *chains = (mixt_gemm_chain *)(void *)(run->list + count * run->experts);
    _Static_assert(sizeof(mixt_gemm_chain) <= sizeof(mixt_gemm), "a chain takes a place");
    for (int64_t e = 0; e < run->experts; e++) {
        chains[e] = (mixt_gemm_chain){run->list + run->count, count, before, between, run};
        for (int i = 0; i < count; i++) {
            add_to_chain(run, e, &matrices[i]);
        }
    }
    mixt_gemm_run_chains(run->call->compute, chains, run->experts);
    run->count = 0;
}

/* Values of the wave's rows of `width`, whose experts need not be neighbours: calls `each` for
 * those of `range`, counted within the wave, expert by expert. */
static void each_of_wave(const experts_run *run, int64_t width, mixt_range range,
                         void (*each)(const experts_run *run, int64_t e, mixt_range values,
                                      void *with),
                         void *with)
{
    int64_t before = 0;
    for (int64_t i = 0; i < run->wave_count && before < range.end; i++) {
        int64_t e = run->wave[i], first = run->offsets[e] * width;
        int64_t count = run->offsets[e + 1] * width - first;
        int64_t begin = mixt_most(range.begin - before, 0);
        int64_t end = mixt_least(range.end - before, count);
        if (begin < end) {
            each(run, e, (mixt_range){first + begin, first + end}, with);
        }
        before += count;
    }
}

/* Adding each row's expert's bias to an output [rows, n]. */
typedef struct bias_run {
    const experts_run *run;
    const real *bias; /* [E, n] */
    real *y;
    int64_t n;
} bias_run;

static void add_bias_of(const experts_run *run, int64_t e, mixt_range rows, void *with)
{
    const bias_run *add = with;
    for (int64_t r = rows.begin; r < rows.end; r++) {
        real *y = add->y + r * add->n;
        mixt_kernels_of(run->call)->add(add->n, y, y, add->bias + e * add->n);
    }
}

static void add_bias_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    bias_run *add = context;
    each_of_wave(add->run, 1, mixt_chunk(add->run->wave_rows, MIXT_ROWS, item), add_bias_of, add);
}

static void add_bias(const experts_run *run, int bias, int output)
{
    const mixt_call *call = run->call;
    bias_run add = {run, call->in[bias], call->out[output], call->out_shape[output].size[1]};
    if (add.bias != NULL) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(run->wave_rows, MIXT_ROWS), add_bias_rows,
                      &add);
    }
}

static void hidden_forward(const experts_run *run, mixt_range values)
{
    mixt_activate(run->call, values.end - values.begin, run->hidden + values.begin,
                  (const real *)run->call->out[EXPERTS_GATE] + values.begin,
                  (const real *)run->call->out[EXPERTS_UP] + values.begin);
}

static void hidden_forward_of(const experts_run *run, int64_t e, mixt_range values, void *with)
{
    (void)e;
    (void)with;
    hidden_forward(run, values);
}

static void hidden_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const experts_run *run = context;
    each_of_wave(run, run->ffn, mixt_chunk(run->wave_rows * run->ffn, MIXT_ELEMENTS, item),
                 hidden_forward_of, NULL);
}

/* Values of gate and up in rows of an expert. */
static mixt_range values_of(const experts_run *run, int64_t e, int64_t begin, int64_t end)
{
    int64_t first = run->offsets[e];
    return (mixt_range){(first + begin) * run->ffn, (first + end) * run->ffn};
}

static void hidden_forward_rows(void *context, int64_t e, int64_t begin, int64_t end)
{
    const experts_run *run = context;
    hidden_forward(run, values_of(run, e, begin, end));
}

/* Rows of experts without weights: as they are, or zeros. */
typedef struct weightless_run {
    const experts_run *run;
    const real *from;
    real *to;
    bool add;
} weightless_run;

static void put_weightless_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const weightless_run *put = context;
    const experts_run *run = put->run;
    int64_t d = run->d;
    mixt_range range = mixt_chunk(run->all - run->rows, MIXT_ROWS, item);
    for (int64_t r = run->rows + range.begin; r < run->rows + range.end; r++) {
        if (r < run->kept) {
            mixt_put(mixt_kernels_of(run->call), d, put->to + r * d, put->from + r * d, put->add);
        } else if (!put->add) {
            memset(put->to + r * d, 0, (size_t)d * sizeof *put->to);
        }
    }
}

static void put_weightless(const experts_run *run, const real *from, real *to, bool add)
{
    weightless_run put = {run, from, to, add};
    if (to != NULL) {
        mixt_pool_run(run->call->compute->pool, mixt_divide_up(run->all - run->rows, MIXT_ROWS),
                      put_weightless_rows, &put);
    }
}

/* The three products of the wave's experts, with what stands between. */
static void run_wave(experts_run *run, const experts_matrices *matrices)
{
    const mixt_call *call = run->call;
    add_row_products(run, &matrices[0]);
    add_row_products(run, &matrices[1]);
    experts_run_list(run);
    add_bias(run, EXPERTS_B_GATE, EXPERTS_GATE);
    add_bias(run, EXPERTS_B_UP, EXPERTS_UP);
    mixt_pool_run(call->compute->pool, mixt_divide_up(run->wave_rows * run->ffn, MIXT_ELEMENTS),
                  hidden_forward_values, run);
    add_row_products(run, &matrices[2]);
    experts_run_list(run);
    add_bias(run, EXPERTS_B_DOWN, EXPERTS_Y);
}

void MIXT_REAL(mixt_experts_forward)(const mixt_call *call)
{
    experts_run run = experts_start(call);
    run.hidden = call->out[EXPERTS_HIDDEN];
    const experts_matrices matrices[3] = {
        {
            .a = call->in[EXPERTS_ROWS],
            .weights = call->in[EXPERTS_W_GATE],
            .c = call->out[EXPERTS_GATE],
            .n = run.ffn,
            .k = run.d,
            .transposed = true,
            .slot = EXPERTS_W_GATE,
        },
        {
            .a = call->in[EXPERTS_ROWS],
            .weights = call->in[EXPERTS_W_UP],
            .c = call->out[EXPERTS_UP],
            .n = run.ffn,
            .k = run.d,
            .transposed = true,
            .slot = EXPERTS_W_UP,
        },
        {
            .a = run.hidden,
            .weights = call->in[EXPERTS_W_DOWN],
            .c = call->out[EXPERTS_Y],
            .n = run.d,
            .k = run.ffn,
            .transposed = true,
            .slot = EXPERTS_W_DOWN,
        },
    };
    take_all(&run);
    if (run_in_chains(&run)) {
        run_chains(&run, matrices, 3, 2, hidden_forward_rows);
        add_bias(&run, EXPERTS_B_DOWN, EXPERTS_Y);
    } else if (run.store == NULL) {
        run_wave(&run, matrices);
    } else {
        while (take_wave(&run)) {
            run_wave(&run, matrices);
        }
    }
    put_weightless(&run, call->in[EXPERTS_ROWS], call->out[EXPERTS_Y], false);
}

/* hidden again, and d hidden (held where d up goes) into d gate and d up */
static void hidden_backward(const experts_run *run, mixt_range range)
{
    real d_hidden[MIXT_PIECE];
    for (int64_t i = range.begin; i < range.end; i += MIXT_PIECE) {
        int64_t n = mixt_least(MIXT_PIECE, range.end - i);
        const real *gate = (const real *)run->call->out[EXPERTS_GATE] + i;
        const real *up = (const real *)run->call->out[EXPERTS_UP] + i;
        mixt_activate(run->call, n, run->hidden + i, gate, up);
        memcpy(d_hidden, run->d_up + i, (size_t)n * sizeof *d_hidden);
        mixt_activate_backward(run->call, n, (mixt_gated){run->d_gate + i, run->d_up + i}, gate, up,
                               d_hidden);
    }
}

static void hidden_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const experts_run *run = context;
    hidden_backward(run, mixt_chunk(run->values, MIXT_ELEMENTS, item));
}

static void hidden_backward_rows(void *context, int64_t e, int64_t begin, int64_t end)
{
    const experts_run *run = context;
    hidden_backward(run, values_of(run, e, begin, end));
}

/* d bias of one expert: the sum of its rows' gradients [rows, n], in their order; with parts each
 * one's from zero, in the product's place. */
static void add_bias_gradient(const experts_run *run, int bias, int64_t e, const real *gradient,
                              int64_t n)
{
    const mixt_call *call = run->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t begin = run->offsets[e];
    if (call->d_in[bias] == NULL) {
        return;
    }
    real *d_bias = (real *)call->d_in[bias] + e * n;
    if (!call->add[bias]) {
        memset(d_bias, 0, (size_t)n * sizeof *d_bias);
    }
    if (parts_of(run) == 0) {
        mixt_add_sum(kernels, n, d_bias, gradient + begin * n, run->offsets[e + 1] - begin, n);
    }
    for (int64_t part = 0; part < parts_of(run); part++) {
        mixt_range rows = part_of(run, e, part);
        real *sum = run->product + e * run->ffn * run->d;
        memset(sum, 0, (size_t)n * sizeof *sum);
        mixt_add_sum(kernels, n, sum, gradient + rows.begin * n, rows.end - rows.begin, n);
        kernels->add(n, d_bias, d_bias, sum);
    }
}

static void bias_backward_expert(void *context, int64_t e, int thread)
{
    (void)thread;
    const experts_run *run = context;
    add_bias_gradient(run, EXPERTS_B_GATE, e, run->d_gate, run->ffn);
    add_bias_gradient(run, EXPERTS_B_UP, e, run->d_up, run->ffn);
    add_bias_gradient(run, EXPERTS_B_DOWN, e, run->call->d_out[EXPERTS_Y], run->d);
}

/* d hidden, through the activation, and d rows = d gate w_gate + d up w_up. The last two add to the
 * same rows: without chains they are two lists, the second to be run last. */
static void rows_backward(experts_run *run, experts_matrices *last)
{
    const mixt_call *call = run->call;
    const experts_matrices matrices[3] = {
        {
            .a = call->d_out[EXPERTS_Y],
            .weights = call->in[EXPERTS_W_DOWN],
            .c = run->d_up,
            .n = run->ffn,
            .k = run->d,
        },
        {
            .a = run->d_gate,
            .weights = call->in[EXPERTS_W_GATE],
            .c = call->d_in[EXPERTS_ROWS],
            .n = run->d,
            .k = run->ffn,
            .accumulate = call->add[EXPERTS_ROWS],
        },
        {
            .a = run->d_up,
            .weights = call->in[EXPERTS_W_UP],
            .c = call->d_in[EXPERTS_ROWS],
            .n = run->d,
            .k = run->ffn,
            .accumulate = true,
        },
    };
    if (matrices[1].c != NULL && run_in_chains(run)) {
        run_chains(run, matrices, 3, 1, hidden_backward_rows);
        return;
    }
    take_all(run);
    add_row_products(run, &matrices[0]);
    experts_run_list(run);
    mixt_pool_run(call->compute->pool, mixt_divide_up(run->values, MIXT_ELEMENTS),
                  hidden_backward_values, run);
    if (matrices[1].c != NULL) {
        add_row_products(run, &matrices[1]);
        *last = matrices[2];
    }
}

void MIXT_REAL(mixt_experts_backward)(const mixt_call *call)
{
    experts_run run = experts_start(call);
    run.hidden = (real *)call->workspace + mixt_gemm_list_reals(5 * run.experts);
    run.d_gate = run.hidden + run.values;
    run.d_up = run.d_gate + run.values;
    run.product = run.d_up + run.values;
    if (call->d_out[EXPERTS_Y] == NULL) {
        mixt_put_zero(call, EXPERTS_ROWS,
                      mixt_rows(&call->in_shape[EXPERTS_ROWS], call->tokens) * run.d);
        for (int weight = EXPERTS_W_GATE; weight <= EXPERTS_W_DOWN; weight++) {
            mixt_put_zero(call, weight, run.experts * run.ffn * run.d);
        }
        mixt_put_zero(call, EXPERTS_B_GATE, run.experts * run.ffn);
        mixt_put_zero(call, EXPERTS_B_UP, run.experts * run.ffn);
        mixt_put_zero(call, EXPERTS_B_DOWN, run.experts * run.d);
        return;
    }
    experts_matrices last = {.c = NULL};
    rows_backward(&run, &last);
    const weight_product products[3] = {
        {EXPERTS_W_DOWN, run.d, run.ffn, call->d_out[EXPERTS_Y], run.hidden},
        {EXPERTS_W_GATE, run.ffn, run.d, run.d_gate, call->in[EXPERTS_ROWS]},
        {EXPERTS_W_UP, run.ffn, run.d, run.d_up, call->in[EXPERTS_ROWS]},
    };
    for (int i = 0; i < 3; i++) {
        if (call->attributes->exact_parts) {
            take_total(&run, products[i].input);
            run_exact_products(&run, &products[i]);
            give_total(&run, products[i].input);
        } else {
            add_weight_products(&run, &products[i]);
        }
    }
    experts_run_list(&run);
    if (last.c != NULL) {
        add_row_products(&run, &last);
        experts_run_list(&run);
    }
    put_weightless(&run, call->d_out[EXPERTS_Y], call->d_in[EXPERTS_ROWS], call->add[EXPERTS_ROWS]);
    for (int input = EXPERTS_B_GATE; input <= EXPERTS_B_DOWN; input++) {
        take_total(&run, input);
    }
    mixt_pool_run(call->compute->pool, run.experts, bias_backward_expert, &run);
    for (int input = EXPERTS_B_GATE; input <= EXPERTS_B_DOWN; input++) {
        give_total(&run, input);
    }
}

void MIXT_REAL(mixt_experts_compute)(const mixt_call *call)
{
    MIXT_REAL(mixt_experts_forward)(call);
}

void MIXT_REAL(mixt_experts_derive)(const mixt_call *call)
{
    MIXT_REAL(mixt_experts_backward)(call);
}
