/* Every operator over its table of cases (operator_cases.c): shape rules and what they refuse, the
 * forward against plain loops, the backward against central differences in double, fp32 against
 * fp64, and the bits of fp32 over threads, CPU tiers, tokens and packed weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "backend/cpu/compute.h"
#include "guard.h"
#include "operator_cases.h"
#include "plan/device.h"
#include "sanitized.h"

#define COORDINATES 20 /* of each input, checked by differences */
#define GUARD 0x5b

/* ------------------------------------------------------------------------------------------ */
/* Machines to run on: [0] is the reference */

typedef struct machine {
    const char *name;
    mixt_context_options options;
    mixt_compute *compute;
} machine;
static machine machines[] = {
    {"1 thread", {.threads = 1}, NULL},
    {"2 threads", {.threads = 2}, NULL},
    {"5 threads", {.threads = 5}, NULL},
    {"scalar", {.threads = 2, .cpu = "scalar"}, NULL},
    {"avx2", {.threads = 1, .cpu = "avx2"}, NULL},
    {"avx512", {.threads = 3, .cpu = "avx512"}, NULL},
    {"amx", {.threads = 2, .cpu = "amx"}, NULL},
    {"neon", {.threads = 1, .cpu = "neon"}, NULL},
    {"dotprod", {.threads = 3, .cpu = "dotprod"}, NULL},
    {"i8mm", {.threads = 2, .cpu = "i8mm"}, NULL},
};
#define MACHINES (int)(sizeof machines / sizeof machines[0])

static int machines_start(void **state)
{
    (void)state;
    for (int i = 0; i < MACHINES; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_compute_create(&machines[i].options, &machines[i].compute, &error) != MIXT_OK) {
            print_message("not on this machine: %s: %s\n", machines[i].name, error.message);
        }
    }
    return machines[0].compute == NULL;
}

static int machines_stop(void **state)
{
    (void)state;
    for (int i = 0; i < MACHINES; i++) {
        mixt_compute_free(machines[i].compute);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------ */
/* Cases */

static int64_t planned_values(const mixt_shape *shape)
{
    int64_t values = shape->rank > 0 ? 1 : 0;
    for (int i = 0; i < shape->rank; i++) {
        values *= shape->size[i];
    }
    return values;
}

static int64_t active_values(const mixt_shape *shape, int64_t tokens)
{
    int64_t values = planned_values(shape);
    return shape->per_token ? values / shape->size[0] * tokens * shape->multiple : values;
}

static void prepare_case(const operator_subject *subject, int row, operator_case *c)
{
    memset(c, 0, sizeof *c);
    c->op = subject->op;
    c->p = subject->rows[row];
    c->tokens = c->p[0];
    c->layer = -1;
    c->request.capacity = c->p[1];
    c->request.attributes = &c->attributes;
    subject->prepare(c);
}

static void create_case(const operator_subject *subject, int row, operator_case *c)
{
    prepare_case(subject, row, c);
    case_seed(c->op * 1000 + row);
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_operator_row(c->op)->shape(&c->request, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    for (int i = 0; i < MIXT_SLOTS; i++) {
        const mixt_shape *shape = &c->request.in[i];
        int64_t planned = planned_values(shape), active = active_values(shape, c->tokens);
        if (shape->rank > 0 && shape->dtype == MIXT_ELEMENT_I32) {
            c->integer[i] = malloc((size_t)planned * sizeof(int32_t));
            for (int64_t j = 0; j < planned; j++) {
                c->integer[i][j] = INT32_MIN / 4; /* whoever uses it reads far outside */
            }
        } else if (shape->rank > 0) {
            c->value[i] = malloc((size_t)planned * sizeof(double));
            for (int64_t j = 0; j < planned; j++) {
                c->value[i][j] = j < active ? case_normal() : NAN;
            }
        }
    }
    if (subject->fill != NULL) {
        subject->fill(c);
    }
}

static void free_case(operator_case *c)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        free(c->value[i]);
        free(c->integer[i]);
        free(c->implied[i]);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Running a case */

typedef struct block {
    void *data;
    size_t size, active; /* bytes */
    bool wide;           /* doubles */
} block;

typedef struct execution {
    bool wide; /* fp64 */
    block in[MIXT_SLOTS], out[MIXT_SLOTS], d_in[MIXT_SLOTS], d_out[MIXT_SLOTS];
    const mixt_packed *const *packed[MIXT_SLOTS];
    const mixt_matrix *matrices[MIXT_SLOTS];
} execution;

static double get(const block *from, int64_t i)
{
    return from->wide ? ((const double *)from->data)[i] : (double)((const float *)from->data)[i];
}

static void put(block *to, int64_t i, double value)
{
    if (to->wide) {
        ((double *)to->data)[i] = value;
    } else {
        ((float *)to->data)[i] = (float)value;
    }
}

/* `ragged`: rows behind those in use are never written, so they begin as zeros. */
static block create_block(const execution *run, const mixt_shape *shape, int64_t tokens,
                          bool ragged)
{
    bool wide =
        shape->dtype == MIXT_ELEMENT_F64 || (shape->dtype == MIXT_ELEMENT_REAL && run->wide);
    size_t each = wide ? 8 : 4;
    block made = {NULL, (size_t)planned_values(shape) * each,
                  (size_t)active_values(shape, tokens) * each, wide};
    if (shape->rank > 0) {
        made.data = malloc(made.size);
        memset(made.data, GUARD, made.size);
        memset(made.data, ragged ? 0 : GUARD, made.active);
    }
    return made;
}

static void check_guard(const block *checked, const char *what)
{
    for (size_t i = checked->active; checked->data != NULL && i < checked->size; i++) {
        if (((const unsigned char *)checked->data)[i] != GUARD) {
            fail_msg("%s: wrote behind the active rows", what);
        }
    }
}

static execution create_execution(const operator_case *c, bool wide)
{
    execution run = {.wide = wide};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        run.in[i] = create_block(&run, &c->request.in[i], c->tokens, false);
        run.out[i] =
            create_block(&run, &c->request.out[i], c->tokens, (c->ragged_out & (1U << i)) != 0);
        if (c->integer[i] != NULL) {
            memcpy(run.in[i].data, c->integer[i], run.in[i].size);
        }
        for (int64_t j = 0; c->value[i] != NULL && j < planned_values(&c->request.in[i]); j++) {
            put(&run.in[i], j, c->value[i][j]);
        }
    }
    return run;
}

static void free_blocks(block *blocks)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        free(blocks[i].data);
    }
}

static void free_execution(execution *run)
{
    free_blocks(run->in);
    free_blocks(run->out);
    free_blocks(run->d_in);
    free_blocks(run->d_out);
}

/* Blocks of host bytes on a device for one call. */
typedef struct staging {
    const mixt_backend *backend;
    mixt_device_memory memory[4 * MIXT_SLOTS + 1];
    void *host[4 * MIXT_SLOTS + 1];
    size_t sizes[4 * MIXT_SLOTS + 1];
    int count;
    mixt_matrix *matrices[MIXT_SLOTS];
    mixt_device_memory rows[MIXT_SLOTS];
} staging;

/* Where the device has a copy of `size` bytes of the host; NULL for none. */
static void *stage(staging *s, void *host, size_t size)
{
    if (host == NULL) {
        return NULL;
    }
    mixt_device_memory *memory = &s->memory[s->count];
    assert_int_equal(mixt_device_memory_create(s->backend, size, memory, NULL), MIXT_OK);
    mixt_device_memory_write(memory, 0, host, size);
    s->host[s->count] = host;
    s->sizes[s->count++] = size;
    return memory->data;
}

/* Typed rows: the device has its own, behind descriptions of their own. */
static const mixt_matrix *stage_matrices(staging *s, int slot, const mixt_matrix *matrices,
                                         const mixt_shape *shape)
{
    if (matrices == NULL || s->backend->host_memory) {
        return matrices;
    }
    size_t count = shape->rank == 3 ? (size_t)shape->size[0] : 1;
    size_t bytes = (size_t)matrices[0].n * matrices[0].row_bytes;
    s->matrices[slot] = calloc(count, sizeof *matrices);
    assert_int_equal(mixt_device_memory_create(s->backend, count * bytes, &s->rows[slot], NULL),
                     MIXT_OK);
    for (size_t i = 0; i < count; i++) {
        s->matrices[slot][i] = matrices[i];
        s->matrices[slot][i].data = (char *)s->rows[slot].data + i * bytes;
        mixt_device_memory_write(&s->rows[slot], i * bytes, matrices[i].data, bytes);
    }
    return s->matrices[slot];
}

/* Brings every block back. */
static void unstage(staging *s)
{
    for (int i = 0; i < s->count; i++) {
        mixt_device_memory_read(&s->memory[i], 0, s->host[i], s->sizes[i]);
        mixt_device_memory_free(&s->memory[i]);
    }
    for (int i = 0; i < MIXT_SLOTS; i++) {
        mixt_device_memory_free(&s->rows[i]);
        free(s->matrices[i]);
    }
}

/* forward or backward; `add` for all gradients */
static void execute(const operator_case *c, execution *run, const mixt_compute *compute,
                    bool backward, bool add)
{
    staging s = {.backend = mixt_backend_cpu(run->wide ? sizeof(double) : sizeof(float))};
    mixt_fault fault;
    mixt_fault_clear(&fault);
    mixt_call call = {
        .compute = compute,
        .attributes = &c->attributes,
        .tokens = c->tokens,
        .layer = c->layer,
        .fault = &fault,
        .in_shape = c->request.in,
        .out_shape = c->request.out,
    };
    int64_t reals = backward ? c->request.backward_workspace : c->request.forward_workspace;
    size_t size = (size_t)reals * s.backend->real_size, room = (size + 127) / 64 * 64;
    unsigned char *workspace = aligned_alloc(64, room);
    memset(workspace, 0xff, room); /* NaN */
    memset(workspace + size, GUARD, 64);
    call.workspace = stage(&s, workspace, room);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        call.in[i] = stage(&s, run->in[i].data, run->in[i].size);
        call.out[i] = stage(&s, run->out[i].data, run->out[i].size);
        call.d_in[i] = stage(&s, run->d_in[i].data, run->d_in[i].size);
        call.d_out[i] = stage(&s, run->d_out[i].data, run->d_out[i].size);
        call.packed[i] = run->packed[i];
        call.matrices[i] = stage_matrices(&s, i, run->matrices[i], &c->request.in[i]);
        call.add[i] = add;
    }
    (backward ? s.backend->backward : s.backend->forward)[c->op](&call);
    assert_false(mixt_call_failed(&call));
    unstage(&s);
    for (size_t i = size; i < size + 64 && i < room; i++) {
        assert_int_equal(workspace[i], GUARD);
    }
    free(workspace);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        check_guard(&run->out[i], "out");
        check_guard(&run->d_in[i], "d_in");
    }
}

/* Gives the run gradients of the outputs (fixed numbers by place) and places for those of the
 * inputs in `wanted`, which start with `start` (by place as well, when adding). */
static double output_weight(int slot, int64_t i)
{
    return (double)(float)sin((double)(i * 7 + slot * 31 + 1));
}

static void create_gradients(const operator_case *c, execution *run, unsigned wanted, bool add)
{
    free_blocks(run->d_in);
    free_blocks(run->d_out);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        run->d_in[i] = run->d_out[i] = (block){NULL, 0, 0, false};
        if ((wanted & (1U << i)) != 0) {
            run->d_in[i] =
                create_block(run, &c->request.in[i], c->tokens, (c->ragged_in & (1U << i)) != 0);
            int64_t active = active_values(&c->request.in[i], c->tokens);
            for (int64_t j = 0; add && j < active; j++) {
                put(&run->d_in[i], j, output_weight(i + 9, j));
            }
        }
        if ((c->functional & (1U << i)) != 0 && c->implied[i] == NULL) {
            run->d_out[i] = create_block(run, &c->request.out[i], c->tokens, false);
            int64_t active = active_values(&c->request.out[i], c->tokens);
            for (int64_t j = 0; j < active; j++) {
                put(&run->d_out[i], j, output_weight(i, j));
            }
        }
    }
}

static execution run_case(const operator_case *c, bool wide, const mixt_compute *compute, bool add)
{
    execution run = create_execution(c, wide);
    execute(c, &run, compute, false, false);
    if (mixt_operator_row(c->op)->has_backward && c->differentiable != 0) {
        create_gradients(c, &run, c->differentiable, add);
        execute(c, &run, compute, true, add);
    }
    return run;
}

typedef void (*case_check)(const operator_subject *subject, operator_case *c);

/* Every case of every operator; the number of them is printed and may not be 0. */
static void for_all_cases(case_check check, bool backward_only)
{
    int cases = 0;
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        const operator_subject *subject = operator_subjects[op];
        assert_int_equal(subject->op, op);
        assert_true(subject->count > 0);
        if (backward_only && !mixt_operator_row(subject->op)->has_backward) {
            continue;
        }
        for (int row = 0; row < subject->count; row++) {
            operator_case c;
            create_case(subject, row, &c);
            check(subject, &c);
            free_case(&c);
            cases++;
        }
    }
    print_message("%d cases\n", cases);
    assert_true(cases >= MIXT_OP_COUNT - 3);
}

/* ------------------------------------------------------------------------------------------ */
/* The checks */

static void expect_close(const operator_case *c, const block *have, const double *want,
                         int64_t count, double tolerance)
{
    double most = 1e-30, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        most = fmax(most, fabs(want[i]));
        worst = fmax(worst, fabs(get(have, i) - want[i]));
        assert_false(isnan(get(have, i)));
    }
    if (!(worst <= tolerance * most)) {
        fail_msg("%s: off by %g of %g", mixt_operator_row(c->op)->name, worst, most);
    }
}

static void check_naive(const operator_subject *subject, operator_case *c)
{
    execution run = create_execution(c, true);
    execute(c, &run, machines[0].compute, false, false);
    double *out[MIXT_SLOTS];
    int32_t *integers[MIXT_SLOTS];
    bool in_place = mixt_operator_row(c->op)->outputs == 0;
    const mixt_shape *shapes = in_place ? c->request.in : c->request.out;
    const block *have = in_place ? run.in : run.out;
    for (int i = 0; i < MIXT_SLOTS; i++) {
        size_t values = (size_t)planned_values(&shapes[i]);
        out[i] = calloc(values + 1, sizeof(double));
        integers[i] = calloc(values + 1, sizeof(int32_t));
        if (in_place && c->value[i] != NULL) {
            memcpy(out[i], c->value[i], values * sizeof(double));
        }
    }
    subject->naive(c, out, integers);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        int64_t active = active_values(&shapes[i], c->tokens);
        if (shapes[i].rank > 0 && shapes[i].dtype != MIXT_ELEMENT_I32) {
            expect_close(c, &have[i], out[i], active, 1e-12);
        } else if (shapes[i].rank > 0 && !in_place) {
            assert_memory_equal(have[i].data, integers[i], have[i].active);
        }
        free(out[i]);
        free(integers[i]);
    }
    free_execution(&run);
}

static void test_naive(void **state)
{
    (void)state;
    for_all_cases(check_naive, false);
}

/* Derivatives */

static double worst_error[MIXT_OP_COUNT];
static int64_t coordinates, excluded;

/* Whether the clamp of experts (7, of gpt-oss) does to every value what it did to base's: across it
 * there is no derivative. */
static bool clamps_alike(const operator_case *c, const execution *side, const execution *base)
{
    bool clamped = c->op == MIXT_OP_experts && c->attributes.activation == MIXT_ACTIVATION_CLAMPED;
    bool same = true;
    for (int slot = EXPERTS_GATE; clamped && slot <= EXPERTS_UP; slot++) {
        int64_t active = active_values(&c->request.out[slot], c->tokens);
        for (int64_t i = 0; i < active; i++) {
            same = same &&
                   (fabs(get(&side->out[slot], i)) > 7) == (fabs(get(&base->out[slot], i)) > 7);
        }
    }
    return same;
}

/* sum of weights * (out(+h) - out(-h)); false where choices or clamps are not those of `base` */
static bool difference(operator_case *c, const execution *base, double *place, double h,
                       double *result)
{
    double middle = *place;
    execution side[2];
    for (int i = 0; i < 2; i++) {
        *place = middle + (i == 0 ? h : -h);
        side[i] = create_execution(c, true);
        execute(c, &side[i], machines[0].compute, false, false);
    }
    *place = middle;
    *result = 0;
    bool same = clamps_alike(c, &side[0], base) && clamps_alike(c, &side[1], base);
    for (int slot = 0; slot < MIXT_SLOTS; slot++) {
        const mixt_shape *shape = &c->request.out[slot];
        for (int i = 0; i < 2 && shape->rank > 0 && shape->dtype == MIXT_ELEMENT_I32; i++) {
            same = same && memcmp(side[i].out[slot].data, base->out[slot].data,
                                  base->out[slot].active) == 0;
        }
        int64_t active = active_values(shape, c->tokens);
        for (int64_t i = 0; (c->functional & (1U << slot)) != 0 && i < active; i++) {
            double weight = c->implied[slot] != NULL ? c->implied[slot][i] : output_weight(slot, i);
            *result += weight * (get(&side[0].out[slot], i) - get(&side[1].out[slot], i));
        }
    }
    free_execution(&side[0]);
    free_execution(&side[1]);
    return same;
}

static void check_coordinate(operator_case *c, const execution *run, int slot, int64_t i)
{
    const double h = 1e-3;
    double near, far, most = 0;
    double *place = &c->value[slot][i];
    coordinates++;
    if (!difference(c, run, place, h, &near) || !difference(c, run, place, 2 * h, &far)) {
        excluded++;
        return;
    }
    double numeric = (8 * near - far) / (12 * h), written = get(&run->d_in[slot], i);
    for (int64_t j = 0; j < active_values(&c->request.in[slot], c->tokens); j++) {
        most = fmax(most, fabs(get(&run->d_in[slot], j)));
    }
    /* relative to the number, but no smaller than a thousandth of the tensor's largest */
    double scale = fmax(fmax(fabs(numeric), fabs(written)), 1e-3 * most);
    double error = scale > 0 ? fabs(numeric - written) / scale : 0;
    if (!(error <= 1e-6)) {
        fail_msg("%s: d in[%d][%lld] is %.12g, by differences %.12g",
                 mixt_operator_row(c->op)->name, slot, (long long)i, written, numeric);
    }
    worst_error[c->op] = fmax(worst_error[c->op], error);
}

static void check_derivative(const operator_subject *subject, operator_case *c)
{
    (void)subject;
    execution run = run_case(c, true, machines[0].compute, false);
    for (int slot = 0; slot < MIXT_SLOTS; slot++) {
        int64_t values = active_values(&c->request.in[slot], c->tokens);
        int count = (values > 10000 ? COORDINATES / 4 : COORDINATES) / guard_sample(1, 6);
        for (int i = 0; (c->differentiable & (1U << slot)) != 0 && i < count; i++) {
            if (values <= COORDINATES && i >= values) {
                break;
            }
            check_coordinate(c, &run, slot, values <= COORDINATES ? i : case_below(values));
        }
    }
    free_execution(&run);
}

static void test_derivatives(void **state)
{
    (void)state;
    for_all_cases(check_derivative, true);
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        if (mixt_operator_row((mixt_op)op)->has_backward) {
            print_message("%-10s worst relative error of the derivative %.1e\n",
                          mixt_operator_row((mixt_op)op)->name, worst_error[op]);
        }
    }
    print_message("%lld coordinates, %lld left out because the choice of experts changed\n",
                  (long long)coordinates, (long long)excluded);
    assert_true(coordinates > guard_sample(1000, 150) && excluded * 20 < coordinates);
}

/* Whether an operator is a gradient's root, or adds to one by itself. */
static bool is_root(mixt_op op)
{
    return op == MIXT_OP_loss || op == MIXT_OP_competitive || op == MIXT_OP_route;
}

/* Adding adds to what was there, one gradient alone is the same gradient, and an operator whose
 * outputs got no gradient gives zeros. */
static void check_gradient_rules(const operator_subject *subject, operator_case *c)
{
    (void)subject;
    execution fresh = run_case(c, true, machines[0].compute, false);
    execution added = run_case(c, true, machines[0].compute, true);
    execution alone = create_execution(c, true);
    execute(c, &alone, machines[0].compute, false, false);
    for (int slot = 0; slot < MIXT_SLOTS; slot++) {
        if ((c->differentiable & (1U << slot)) == 0) {
            continue;
        }
        int64_t active = active_values(&c->request.in[slot], c->tokens);
        double *sum = malloc((size_t)active * sizeof *sum);
        for (int64_t i = 0; i < active; i++) {
            sum[i] = get(&fresh.d_in[slot], i) + output_weight(slot + 9, i);
        }
        expect_close(c, &added.d_in[slot], sum, active, 1e-12);
        free(sum);
        create_gradients(c, &alone, 1U << slot, false);
        execute(c, &alone, machines[0].compute, true, false);
        assert_memory_equal(alone.d_in[slot].data, fresh.d_in[slot].data, fresh.d_in[slot].active);
        for (int pass = 0; pass < 2 && !is_root(c->op); pass++) {
            create_gradients(c, &alone, 1U << slot, pass == 1);
            free_blocks(alone.d_out);
            memset(alone.d_out, 0, sizeof alone.d_out);
            execute(c, &alone, machines[0].compute, true, pass == 1);
            for (int64_t i = 0; i < active; i++) {
                assert_true(get(&alone.d_in[slot], i) ==
                            (pass == 1 ? output_weight(slot + 9, i) : 0));
            }
        }
    }
    free_execution(&fresh);
    free_execution(&added);
    free_execution(&alone);
}

static void test_gradient_rules(void **state)
{
    (void)state;
    for_all_cases(check_gradient_rules, true);
}

/* fp32 */

static void check_precision(const operator_subject *subject, operator_case *c)
{
    execution narrow = run_case(c, false, machines[0].compute, false);
    execution wide = run_case(c, true, machines[0].compute, false);
    const block *sets[3][2] = {
        {narrow.in, wide.in}, {narrow.out, wide.out}, {narrow.d_in, wide.d_in}};
    for (int set = 0; set < 3; set++) {
        const mixt_shape *shapes = set == 1 ? c->request.out : c->request.in;
        for (int slot = 0; slot < MIXT_SLOTS; slot++) {
            int64_t active = active_values(&shapes[slot], c->tokens);
            if (sets[set][0][slot].data == NULL) {
                continue;
            }
            if (shapes[slot].dtype == MIXT_ELEMENT_I32) {
                assert_memory_equal(sets[set][0][slot].data, sets[set][1][slot].data,
                                    sets[set][1][slot].active);
                continue;
            }
            expect_close(c, &sets[set][0][slot], sets[set][1][slot].data, active,
                         subject->tolerance);
        }
    }
    free_execution(&narrow);
    free_execution(&wide);
}

static void test_precision(void **state)
{
    (void)state;
    for_all_cases(check_precision, false);
}

static int compared_machines;
static void check_bits(const operator_subject *subject, operator_case *c)
{
    (void)subject;
    execution reference = run_case(c, false, machines[0].compute, true);
    for (int i = 1; i < MACHINES; i += SANITIZED ? 2 : 1) { /* threads, scalar, best */
        if (machines[i].compute == NULL) {
            continue;
        }
        execution other = run_case(c, false, machines[i].compute, true);
        const block *sets[3][2] = {
            {reference.in, other.in}, {reference.out, other.out}, {reference.d_in, other.d_in}};
        for (int set = 0; set < 3; set++) {
            for (int slot = 0; slot < MIXT_SLOTS; slot++) {
                const block *a = &sets[set][0][slot], *b = &sets[set][1][slot];
                if (a->data != NULL && memcmp(a->data, b->data, a->active) != 0) {
                    fail_msg("%s: bits differ on %s (set %d, slot %d)",
                             mixt_operator_row(c->op)->name, machines[i].name, set, slot);
                }
            }
        }
        free_execution(&other);
        compared_machines++;
    }
    free_execution(&reference);
}

static void test_bits(void **state)
{
    (void)state;
    for_all_cases(check_bits, false);
    print_message("%d comparisons with threads and tiers\n", compared_machines);
    assert_true(compared_machines > 100);
}

/* ------------------------------------------------------------------------------------------ */
/* Shape rules */

static int refusals;

static void expect_refusal(const operator_case *c, const mixt_shape_request *request)
{
    mixt_shape_request tried = *request;
    mixt_error error = MIXT_ERROR_INIT;
    const char *name = mixt_operator_row(c->op)->name;
    if (mixt_operator_row(c->op)->shape(&tried, &error) == MIXT_OK) {
        fail_msg("%s takes a shape it should refuse", name);
    }
    assert_true(strncmp(error.message, name, strlen(name)) == 0 ||
                strncmp(error.message, "router:", 7) == 0);
    assert_null(strchr(error.message, '\n'));
    refusals++;
}

static void test_refusals(void **state)
{
    (void)state;
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        const operator_subject *subject = operator_subjects[op];
        for (int row = 0; row < subject->count; row++) {
            operator_case c;
            prepare_case(subject, row, &c);
            for (int slot = 0; slot < mixt_operator_row(subject->op)->inputs; slot++) {
                mixt_shape good = c.request.in[slot];
                if (good.rank == 0) {
                    continue;
                }
                mixt_shape *bad = &c.request.in[slot];
                bad->rank = 0;
                if ((subject->optional & (1U << slot)) == 0) {
                    expect_refusal(&c, &c.request);
                }
                *bad = good;
                bad->dtype = good.dtype == MIXT_ELEMENT_I32 ? MIXT_ELEMENT_REAL : MIXT_ELEMENT_I32;
                expect_refusal(&c, &c.request);
                *bad = good;
                bad->size[good.rank++] = 1;
                bad->rank = good.rank--;
                if (subject->op != MIXT_OP_adamw || slot != ADAMW_WEIGHT) {
                    expect_refusal(&c, &c.request);
                }
                *bad = good;
                bad->size[good.rank - 1]++;
                if ((subject->free_columns & (1U << slot)) == 0) {
                    expect_refusal(&c, &c.request);
                }
                *bad = good;
            }
        }
    }
    print_message("%d shapes refused\n", refusals);
    assert_true(refusals > 300);
}

static void test_attribute_refusals(void **state)
{
    (void)state;
    operator_case c;
    prepare_case(operator_subjects[MIXT_OP_rope], 0, &c);
    c.attributes.head_dim = 3;
    c.request.in[ROPE_X].size[1] = c.request.in[ROPE_TABLE].size[1] = 3;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_rope], 4, &c);
    c.attributes.rope_dims = c.attributes.head_dim + 2;
    c.request.in[ROPE_TABLE].size[1] = c.attributes.rope_dims;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_scale], 1, &c);
    c.attributes.scale = NAN;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_clamp], 1, &c);
    c.attributes.limit = 0;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_slice], 1, &c);
    c.attributes.from = 4;
    expect_refusal(&c, &c.request);
    c.attributes.from = -1;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_swiglu], 1, &c);
    c.attributes.activation = (mixt_activation)3;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_head_linear], 1, &c);
    c.attributes.heads = 3;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_shift], 1, &c);
    c.attributes.window = -1;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_attention], 1, &c);
    c.attributes.kv_heads = 3;
    expect_refusal(&c, &c.request);
    c.attributes.kv_heads = 0;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_attention], 1, &c);
    c.attributes.value_dim = c.attributes.head_dim + 1;
    expect_refusal(&c, &c.request);
    c.attributes.value_dim = 0;
    c.attributes.soft_cap = -1;
    expect_refusal(&c, &c.request);
    c.attributes.soft_cap = NAN;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_norm], 3, &c);
    c.attributes.head_dim = 7;
    expect_refusal(&c, &c.request);
    prepare_case(operator_subjects[MIXT_OP_route], 3, &c);
    c.attributes.router = NULL;
    expect_refusal(&c, &c.request);
}

/* ------------------------------------------------------------------------------------------ */
/* A row's bits do not depend on what is computed with it */

/* Row t of a training window, computed alone behind a cache of the window's keys. */
static void check_alone(const execution *train, const operator_case *c, int64_t t)
{
    int64_t q_row = c->request.in[ATTENTION_Q].size[1];
    int64_t y_row = c->request.out[ATTENTION_Y].size[1];
    int64_t window = c->p[5], origin = t / window * window;
    const int64_t p[CASE_NUMBERS] = {1, 1,      c->p[2], c->p[3], c->p[4],
                                     0, window, 0,       c->p[8], c->p[9]};
    operator_subject one = *operator_subjects[MIXT_OP_attention];
    one.rows = &p;
    one.count = 1;
    operator_case alone;
    create_case(&one, 0, &alone);
    for (int64_t i = 0; i < q_row; i++) {
        alone.value[ATTENTION_Q][i] = c->value[ATTENTION_Q][t * q_row + i];
    }
    for (int slot = ATTENTION_K; slot <= ATTENTION_V; slot++) {
        int64_t row = c->request.in[slot].size[1];
        for (int64_t i = 0; i < window * row; i++) {
            /* what lies behind row t in the cache is old stuff */
            bool written = i < (t + 1 - origin) * row;
            alone.value[slot][i] =
                written ? c->value[slot][origin * row + i] : (slot == ATTENTION_K ? 1e30 : NAN);
        }
    }
    for (int64_t head = 0; head < c->p[2] && c->value[ATTENTION_SINKS] != NULL; head++) {
        alone.value[ATTENTION_SINKS][head] = c->value[ATTENTION_SINKS][head];
    }
    alone.integer[ATTENTION_FIRST][0] = c->integer[ATTENTION_FIRST][t] - (int32_t)origin;
    alone.integer[ATTENTION_LAST][0] = c->integer[ATTENTION_LAST][t] - (int32_t)origin;
    execution run = create_execution(&alone, false);
    execute(&alone, &run, machines[0].compute, false, false);
    assert_memory_equal(run.out[ATTENTION_Y].data,
                        (float *)train->out[ATTENTION_Y].data + t * y_row,
                        (size_t)y_row * sizeof(float));
    assert_memory_equal(run.out[ATTENTION_LSE].data,
                        (float *)train->out[ATTENTION_LSE].data + t * c->p[2],
                        (size_t)c->p[2] * sizeof(float));
    free_execution(&run);
    free_case(&alone);
}

static void test_attention_alone(void **state)
{
    (void)state;
    int rows = 0;
    for (int row = 0; row < operator_subjects[MIXT_OP_attention]->count; row++) {
        operator_case c;
        create_case(operator_subjects[MIXT_OP_attention], row, &c);
        if (c.p[5] > 0 && c.p[7] < 2) {
            execution train = create_execution(&c, false);
            execute(&c, &train, machines[0].compute, false, false);
            for (int64_t t = 0; t<c.tokens; t += c.p[4]> 100 ? 8 : 1) {
                check_alone(&train, &c, t);
                rows++;
            }
            free_execution(&train);
        }
        free_case(&c);
    }
    print_message("%d rows of attention alone\n", rows);
    assert_true(rows > 400);
}

/* Weights packed before give the bits of unpacked ones. */
static void check_packed(const operator_case *c, int first, int last, int64_t experts)
{
    execution plain = create_execution(c, false), packed = create_execution(c, false);
    const mixt_packed *panels[MIXT_SLOTS][16] = {{NULL}};
    for (int slot = first; slot <= last; slot++) {
        const mixt_shape *shape = &c->request.in[slot];
        int64_t n = shape->size[shape->rank - 2], k = shape->size[shape->rank - 1];
        for (int64_t e = 0; e < experts; e++) {
            mixt_gemm_f32 product = {
                .n = n,
                .k = k,
                .b = (const float *)packed.in[slot].data + e * n * k,
                .b_row = 1,
                .b_column = k,
            };
            mixt_packed *made = NULL;
            assert_int_equal(mixt_pack_f32(machines[0].compute, &product, &made, NULL), MIXT_OK);
            panels[slot][e] = made;
        }
        packed.packed[slot] = panels[slot];
        memset(packed.in[slot].data, 0xff, packed.in[slot].size); /* only the panels are read */
    }
    execute(c, &plain, machines[0].compute, false, false);
    execute(c, &packed, machines[0].compute, false, false);
    for (int slot = 0; slot < mixt_operator_row(c->op)->outputs; slot++) {
        assert_memory_equal(plain.out[slot].data, packed.out[slot].data, plain.out[slot].active);
    }
    for (int i = 0; i < MIXT_SLOTS * 16; i++) {
        mixt_packed_free((mixt_packed *)panels[i / 16][i % 16]);
    }
    free_execution(&plain);
    free_execution(&packed);
}

/* Weights as typed rows of fp32 give the bits of plain ones. */
static void check_typed(const operator_case *c, int first, int last)
{
    execution plain = create_execution(c, false), typed = create_execution(c, false);
    mixt_matrix matrices[MIXT_SLOTS][16];
    for (int slot = first; slot <= last; slot++) {
        const mixt_shape *shape = &c->request.in[slot];
        int64_t n = shape->size[shape->rank - 2], k = shape->size[shape->rank - 1];
        int64_t count = shape->rank == 3 ? shape->size[0] : 1;
        for (int64_t e = 0; e < count; e++) {
            matrices[slot][e] = (mixt_matrix){
                .type = MIXT_TYPE_F32,
                .n = n,
                .k = k,
                .data = (const float *)plain.in[slot].data + e * n * k,
                .row_bytes = (size_t)k * sizeof(float),
            };
        }
        typed.matrices[slot] = matrices[slot];
        free(typed.in[slot].data);
        typed.in[slot].data = NULL;
    }
    execute(c, &plain, machines[0].compute, false, false);
    execute(c, &typed, machines[0].compute, false, false);
    for (int slot = 0; slot < mixt_operator_row(c->op)->outputs; slot++) {
        assert_memory_equal(plain.out[slot].data, typed.out[slot].data, plain.out[slot].active);
    }
    free_execution(&plain);
    free_execution(&typed);
}

static void test_packed(void **state)
{
    (void)state;
    static const struct {
        mixt_op op;
        int first, last;
    } subjects[] = {{MIXT_OP_linear, LINEAR_WEIGHT, LINEAR_WEIGHT},
                    {MIXT_OP_head_linear, HEAD_LINEAR_WEIGHT, HEAD_LINEAR_WEIGHT},
                    {MIXT_OP_experts, EXPERTS_W_GATE, EXPERTS_W_DOWN},
                    {MIXT_OP_loss, LOSS_WEIGHT, LOSS_WEIGHT}};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        const operator_subject *subject = operator_subjects[subjects[i].op];
        for (int row = 0; row < subject->count; row++) {
            operator_case c;
            create_case(subject, row, &c);
            const mixt_shape *weight = &c.request.in[subjects[i].first];
            check_packed(&c, subjects[i].first, subjects[i].last,
                         weight->rank == 3 ? weight->size[0] : 1);
            check_typed(&c, subjects[i].first, subjects[i].last);
            free_case(&c);
        }
    }
}

static mixt_cost cost_of(const operator_case *c, const double *value_bytes)
{
    mixt_cost cost = {0};
    mixt_cost_request request = {&c->attributes, c->request.in, c->request.out, c->tokens,
                                 value_bytes};
    mixt_operator_row(c->op)->cost(&request, &cost);
    return cost;
}

/* Weights in typed rows are read as they lie; nothing else of a cost changes with them. */
static void check_typed_cost(const operator_case *c)
{
    double plain[MIXT_SLOTS], typed[MIXT_SLOTS];
    for (int i = 0; i < MIXT_SLOTS; i++) {
        plain[i] = 4;
        typed[i] = (mixt_operator_row(c->op)->matrix_in >> i & 1) != 0 ? 0.5 : 4;
    }
    mixt_cost more = cost_of(c, plain), less = cost_of(c, typed);
    assert_true(more.forward_flops == less.forward_flops);
    assert_true(more.backward_flops == less.backward_flops);
    assert_true(case_reads_matrices(c) ? less.forward_bytes < more.forward_bytes
                                       : less.forward_bytes == more.forward_bytes);
}

static void test_costs(void **state)
{
    (void)state;
    const double fp32[MIXT_SLOTS] = {4, 4, 4, 4, 4, 4, 4, 4, 4, 4};
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        const operator_subject *subject = operator_subjects[op];
        operator_case c;
        create_case(subject, subject->count - 1, &c);
        mixt_cost cost = cost_of(&c, fp32);
        assert_true(cost.forward_bytes > 0 && cost.forward_flops >= 0);
        assert_true((cost.backward_bytes > 0) == mixt_operator_row(c.op)->has_backward);
        check_typed_cost(&c);
        free_case(&c);
    }
    operator_case c;
    create_case(operator_subjects[MIXT_OP_linear], 3, &c);
    assert_true(cost_of(&c, fp32).forward_flops == 2.0 * 130 * 24 * 31);
    assert_true(cost_of(&c, fp32).forward_bytes == 4.0 * (130 * 24 + 130 * 31 + 24 * 31));
    free_case(&c);
    create_case(operator_subjects[MIXT_OP_experts], 0, &c); /* one row, one expert of 1 x 1 */
    assert_true(cost_of(&c, fp32).forward_bytes == 8 + 12 + 3 * 4);
    free_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_attribute_refusals),
        cmocka_unit_test(test_naive),          cmocka_unit_test(test_derivatives),
        cmocka_unit_test(test_gradient_rules), cmocka_unit_test(test_precision),
        cmocka_unit_test(test_bits),           cmocka_unit_test(test_attention_alone),
        cmocka_unit_test(test_packed),         cmocka_unit_test(test_costs),
    };
    return cmocka_run_group_tests(tests, machines_start, machines_stop);
}
