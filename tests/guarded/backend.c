/* The guarded backend's tables: the CPU's operators behind checks of what they are given.
 *
 * A call may name memory of the device alone: each tensor with its whole planned extent inside one
 * block, likewise its workspace and typed rows, whether they were bound or fetched. In the run of a
 * plan an operator's outputs and workspace hold no numbers before it: whoever reads what it did not
 * write gets NaN, or integers far outside of everything. */
#include <stdlib.h>
#include <string.h>

#include "guarded.h"
#include "plan/plan.h"

/* One operator in one direction, in one precision. */
typedef struct turn {
    mixt_op op;
    bool backward;
    size_t real_size;
} turn;

/* clang-format off */
static const char *const in_names[MIXT_OP_COUNT][MIXT_SLOTS] = {
#define MIXT_OP_BEGIN(name, NAME, backward) [MIXT_OP_##name] = {[MIXT_SLOTS - 1] = NULL,
#define MIXT_IN(NAME, slot, flags) [NAME##_##slot] = #slot,
#define MIXT_OP_END(name, NAME) },
#include "ops/ops.def"
};

static const char *const out_names[MIXT_OP_COUNT][MIXT_SLOTS] = {
#define MIXT_OP_BEGIN(name, NAME, backward) [MIXT_OP_##name] = {[MIXT_SLOTS - 1] = NULL,
#define MIXT_OUT(NAME, slot, flags) [NAME##_##slot] = #slot,
#define MIXT_OP_END(name, NAME) },
#include "ops/ops.def"
};
/* clang-format on */

/* Whether the host is in mixt_instance_run. */
static _Thread_local bool running;

mixt_status __real_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error);
mixt_status __wrap_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error);

mixt_status __wrap_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error)
{
    running = true;
    mixt_status status = __real_mixt_instance_run(instance, tokens, from, to, error);
    running = false;
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Tensors                                                                                     */

/* Bytes of a tensor, of all its rows or of `tokens` tokens'. */
static size_t bytes_of(const turn *t, const mixt_shape *shape, int64_t tokens)
{
    size_t bytes = shape->dtype == MIXT_ELEMENT_I32    ? sizeof(int32_t)
                   : shape->dtype == MIXT_ELEMENT_REAL ? t->real_size
                   : shape->dtype == MIXT_ELEMENT_BYTE ? 1
                                                       : sizeof(double);
    for (int i = 0; i < shape->rank; i++) {
        int64_t size =
            i == 0 && shape->per_token && tokens > 0 ? tokens * shape->multiple : shape->size[i];
        bytes *= (size_t)size;
    }
    return shape->rank == 0 ? 0 : bytes;
}

/* `slot` may be empty. */
static void *translate(const turn *t, const char *what, const char *slot, const void *address,
                       size_t size)
{
    void *real = guarded_real(address, size);
    if (real == NULL) {
        guarded_fail("%s %s: %s%s%s: %s", mixt_operator_row(t->op)->name,
                     t->backward ? "backward" : "forward", what, slot[0] != 0 ? " " : "", slot,
                     guarded_fault(address, size));
    }
    return real;
}

/* Translates the tensors of one kind of slots in place. */
static void translate_tensors(const turn *t, const char *what, const char *const *names,
                              const mixt_shape *shapes, void **tensors)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        const char *name = names[i] != NULL ? names[i] : "of no name";
        if (tensors[i] == NULL) {
            continue;
        }
        if (shapes == NULL || shapes[i].rank == 0) {
            guarded_fail("%s: %s %s has no shape", mixt_operator_row(t->op)->name, what, name);
        }
        tensors[i] = translate(t, what, name, tensors[i], bytes_of(t, &shapes[i], 0));
    }
}

/* Fills what an operator is to write; the rows behind `tokens` tokens' are none of its business. */
static void spoil(const turn *t, const mixt_shape *shapes, const bool *add, void *const *tensors,
                  int64_t tokens)
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        if (tensors[i] != NULL && (add == NULL || !add[i])) {
            memset(tensors[i], shapes[i].dtype == MIXT_ELEMENT_I32 ? 0x7F : 0xFF,
                   bytes_of(t, &shapes[i], tokens));
        }
    }
}

/* Bytes of workspace, as the shape rule says. */
static size_t workspace_of(const turn *t, const mixt_call *call)
{
    mixt_shape_request request = {.attributes = call->attributes, .capacity = call->tokens};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        if (call->in_shape[i].per_token) {
            request.capacity = call->in_shape[i].size[0] / call->in_shape[i].multiple;
        }
        request.in[i] = call->in_shape[i];
        request.wanted |= t->backward && call->d_in[i] != NULL ? 1U << i : 0;
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_operator_row(t->op)->shape(&request, &error) != MIXT_OK) {
        guarded_fail("%s: shapes that its rule refuses: %s", mixt_operator_row(t->op)->name,
                     error.message);
    }
    return t->real_size *
           (size_t)(t->backward ? request.backward_workspace : request.forward_workspace);
}

/* ------------------------------------------------------------------------------------------ */
/* Typed rows                                                                                  */

enum { EXPERT_MATRICES = 3 };

/* Those of one input: bound, or of experts that the operator takes. */
typedef struct typed {
    const turn *turn;
    int slot;
    int64_t count;
    const mixt_store *store; /* NULL: bound */
    mixt_store guarded;      /* what the operator sees of it */
    mixt_matrix *matrices;   /* [count], of a store [EXPERT_MATRICES, count], translated */
    bool *taken;             /* [count] */
} typed;

static void translate_matrix(const turn *t, int slot, const mixt_matrix *from, mixt_matrix *to)
{
    *to = *from;
    if (from->n > 0) {
        size_t size = (size_t)(from->n - 1) * from->row_bytes;
        to->data = translate(t, "rows of", in_names[t->op][slot], from->data,
                             size + mixt_type_row_bytes(from->type, from->k));
    }
    if (from->scales.values != NULL) {
        to->scales.values = translate(t, "factors of", in_names[t->op][slot], from->scales.values,
                                      (size_t)mixt_scales_count(from) * sizeof(float));
    }
}

static int64_t take(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error)
{
    typed *rows = user;
    memset(rows->taken, 0, (size_t)rows->count * sizeof *rows->taken);
    int64_t count = rows->store->take(rows->store->user, offsets, experts, error);
    for (int64_t i = 0; i < count; i++) {
        if (experts[i] < 0 || experts[i] >= rows->count ||
            offsets[experts[i] + 1] == offsets[experts[i]]) {
            guarded_fail("%s: expert %d is given, which has no rows",
                         mixt_operator_row(rows->turn->op)->name, (int)experts[i]);
        }
        rows->taken[experts[i]] = true;
    }
    return count;
}

static const mixt_matrix *rows_of(void *user, int matrix, int64_t expert)
{
    typed *rows = user;
    if (matrix < 0 || matrix >= EXPERT_MATRICES || expert < 0 || expert >= rows->count ||
        !rows->taken[expert]) {
        guarded_fail("%s: expert %lld of %lld was not taken",
                     mixt_operator_row(rows->turn->op)->name, (long long)expert,
                     (long long)rows->count);
    }
    mixt_matrix *to = &rows->matrices[matrix * rows->count + expert];
    translate_matrix(rows->turn, EXPERTS_W_GATE + matrix,
                     rows->store->rows(rows->store->user, matrix, expert), to);
    return to;
}

/* Translates what an input has of typed rows. */
static void translate_rows(const turn *t, mixt_call *call, int slot, typed *rows)
{
    const mixt_matrix *bound = call->matrices[slot];
    *rows = (typed){.turn = t, .slot = slot, .count = 1, .store = call->stores[slot]};
    if (bound == NULL && rows->store == NULL) {
        return;
    }
    if (call->in_shape[slot].rank == 3) {
        rows->count = call->in_shape[slot].size[0];
    }
    rows->matrices = calloc((size_t)rows->count * EXPERT_MATRICES, sizeof *rows->matrices);
    rows->taken = calloc((size_t)rows->count, sizeof *rows->taken);
    if (rows->matrices == NULL || rows->taken == NULL) {
        guarded_fail("no memory");
    }
    for (int64_t i = 0; bound != NULL && i < rows->count; i++) {
        translate_matrix(t, slot, &bound[i], &rows->matrices[i]);
    }
    call->matrices[slot] = bound != NULL ? rows->matrices : NULL;
    rows->guarded = (mixt_store){.user = rows, .take = take, .rows = rows_of};
    call->stores[slot] = rows->store != NULL ? &rows->guarded : NULL;
}

/* ------------------------------------------------------------------------------------------ */
/* Calls                                                                                       */

static void run(const turn *t, const mixt_call *call)
{
    const mixt_backend *cpu = __real_mixt_backend_cpu(t->real_size);
    mixt_call copy = *call;
    typed rows[MIXT_SLOTS];
    size_t workspace = workspace_of(t, call);
    translate_tensors(t, "input", in_names[t->op], call->in_shape, copy.in);
    translate_tensors(t, "output", out_names[t->op], call->out_shape, copy.out);
    translate_tensors(t, "gradient of", in_names[t->op], call->in_shape, copy.d_in);
    translate_tensors(t, "gradient of", out_names[t->op], call->out_shape, copy.d_out);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        translate_rows(t, &copy, i, &rows[i]);
    }
    copy.workspace =
        workspace > 0 ? translate(t, "workspace", "", call->workspace, workspace) : NULL;
    if (running && workspace > 0) {
        memset(copy.workspace, 0xFF, workspace);
    }
    if (running && t->backward) {
        spoil(t, call->in_shape, call->add, copy.d_in, call->tokens);
    } else if (running) {
        spoil(t, call->out_shape, NULL, copy.out, call->tokens);
    }
    (t->backward ? cpu->backward : cpu->forward)[t->op](&copy);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        free(rows[i].matrices);
        free(rows[i].taken);
    }
}

#define TURN(name, backward, suffix, size)                                                         \
    static void name##_##backward##_##suffix(const mixt_call *call)                                \
    {                                                                                              \
        static const turn t = {MIXT_OP_##name, backward, size};                                    \
        run(&t, call);                                                                             \
    }
#define BACKWARD_YES(name)                                                                         \
    TURN(name, true, f32, sizeof(float))                                                           \
    TURN(name, true, f64, sizeof(double))
#define BACKWARD_NO(name)
#define MIXT_OP_BEGIN(name, NAME, backward)                                                        \
    TURN(name, false, f32, sizeof(float))                                                          \
    TURN(name, false, f64, sizeof(double))                                                         \
    BACKWARD_##backward(name)
#include "ops/ops.def"

/* ------------------------------------------------------------------------------------------ */
/* Memory                                                                                      */

static void copy_in(void *to, const void *from, size_t size)
{
    void *real = guarded_real(to, size);
    if (real == NULL) {
        guarded_fail("copy to the device: %s", guarded_fault(to, size));
    }
    memcpy(real, from, size);
}

static void copy_out(void *to, const void *from, size_t size)
{
    const void *real = guarded_real(from, size);
    if (real == NULL) {
        guarded_fail("copy from the device: %s", guarded_fault(from, size));
    }
    memcpy(to, real, size);
}

static void fill_zero(void *to, size_t size)
{
    void *real = guarded_real(to, size);
    if (real == NULL) {
        guarded_fail("zeros: %s", guarded_fault(to, size));
    }
    memset(real, 0, size);
}

static void synchronise(void)
{
}

static mixt_status pack(const mixt_compute *compute, const void *weights, int64_t n, int64_t k,
                        mixt_packed **packed, mixt_error *error)
{
    size_t size = (size_t)(n * k) * sizeof(float);
    const void *real = guarded_real(weights, size);
    if (real == NULL) {
        guarded_fail("weights to pack: %s", guarded_fault(weights, size));
    }
    return __real_mixt_backend_cpu(sizeof(float))->pack(compute, real, n, k, packed, error);
}

#define MEMORY                                                                                     \
    .host_memory = false, .allocate = guarded_allocate, .release = guarded_release,                \
    .reserve = guarded_allocate, .release_reserved = guarded_release, .copy_in = copy_in,          \
    .copy_out = copy_out, .fill_zero = fill_zero, .synchronise = synchronise

/* clang-format off */
#define FORWARD_ENTRY(name, suffix) [MIXT_OP_##name] = name##_false_##suffix,
#define BACKWARD_YES_ENTRY(name, suffix) [MIXT_OP_##name] = name##_true_##suffix,
#define BACKWARD_NO_ENTRY(name, suffix)

static const mixt_backend guarded_f32 = {
    .name = "guarded",
    .real_size = sizeof(float),
    .forward = {
#define MIXT_OP_BEGIN(name, NAME, backward) FORWARD_ENTRY(name, f32)
#include "ops/ops.def"
    },
    .backward = {
#define MIXT_OP_BEGIN(name, NAME, backward) BACKWARD_##backward##_ENTRY(name, f32)
#include "ops/ops.def"
    },
    MEMORY,
    .pack = pack,
};

static const mixt_backend guarded_f64 = {
    .name = "guarded-f64",
    .real_size = sizeof(double),
    .forward = {
#define MIXT_OP_BEGIN(name, NAME, backward) FORWARD_ENTRY(name, f64)
#include "ops/ops.def"
    },
    .backward = {
#define MIXT_OP_BEGIN(name, NAME, backward) BACKWARD_##backward##_ENTRY(name, f64)
#include "ops/ops.def"
    },
    MEMORY,
};
/* clang-format on */

const mixt_backend *__wrap_mixt_backend_cpu(size_t real_size)
{
    return real_size == sizeof(double) ? &guarded_f64 : &guarded_f32;
}
