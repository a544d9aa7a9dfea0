/* The table of operators and what shape rules are written with. */

#include <inttypes.h>
#include <stdio.h>

#include "ops/pages.h"

/* The flags of ops.def. */
enum { READ = 1, MATRIX = 2 };

#define BIT_IF(flags, flag, slot) ((flags) & (flag) ? 1 << (slot) : 0)

/* One mask of slots for each operator: those that have the flag. */
enum {
#define MIXT_OP_BEGIN(name, NAME, backward) NAME##_READS_IN = 0
#define MIXT_IN(NAME, slot, flags) | BIT_IF(flags, READ, NAME##_##slot)
#define MIXT_OP_END(name, NAME) ,
#include "ops/ops.def"
#define MIXT_OP_BEGIN(name, NAME, backward) NAME##_READS_OUT = 0
#define MIXT_OUT(NAME, slot, flags) | BIT_IF(flags, READ, NAME##_##slot)
#define MIXT_OP_END(name, NAME) ,
#include "ops/ops.def"
#define MIXT_OP_BEGIN(name, NAME, backward) NAME##_MATRIX_IN = 0
#define MIXT_IN(NAME, slot, flags) | BIT_IF(flags, MATRIX, NAME##_##slot)
#define MIXT_OP_END(name, NAME) ,
#include "ops/ops.def"
};

#define MIXT_OP_END(name, NAME)                                                                    \
    _Static_assert(NAME##_INPUTS <= MIXT_SLOTS && NAME##_OUTPUTS <= MIXT_SLOTS,                    \
                   "MIXT_SLOTS is too small for " #name);
#include "ops/ops.def"

/* Offsets of a product's parts. */
#define ALL(NAME) -1
#define BY_EXPERT(NAME) NAME##_OFFSETS

#define HAS_YES true
#define HAS_NO false

/* clang-format off */
static const mixt_operator rows[MIXT_OP_COUNT] = {
#define MIXT_OP_BEGIN(op, NAME, backward)       \
    [MIXT_OP_##op] = {                          \
        .name = #op,                            \
        .inputs = NAME##_INPUTS,                \
        .outputs = NAME##_OUTPUTS,              \
        .reads_in = NAME##_READS_IN,            \
        .reads_out = NAME##_READS_OUT,          \
        .matrix_in = NAME##_MATRIX_IN,          \
        .has_backward = HAS_##backward,         \
        .shape = mixt_##op##_shape,             \
        .cost = mixt_##op##_cost,
#define MIXT_PRODUCT(NAME, weight, side, rows, part) \
        .multiplied[NAME##_##weight] = {MIXT_MULTIPLIED_##side, NAME##_##rows, part(NAME)},
#define MIXT_OP_END(op, NAME) },
#include "ops/ops.def"
};
/* clang-format on */

const mixt_operator *mixt_operator_row(mixt_op op)
{
    return (unsigned)op < MIXT_OP_COUNT ? &rows[op] : NULL;
}

void mixt_fault_clear(mixt_fault *fault)
{
    fault->error = (mixt_error)MIXT_ERROR_INIT;
}

bool mixt_call_failed(const mixt_call *call)
{
    return call->fault != NULL && call->fault->error.status != MIXT_OK;
}

void mixt_call_fail_expert(const mixt_call *call, int64_t expert, const mixt_error *error)
{
    bool said = error->status != MIXT_OK;
    if (call->fault != NULL) {
        mixt_fail(&call->fault->error, said ? error->status : MIXT_ERROR_NOT_FOUND,
                  "layer %d: expert %lld: %s", call->layer, (long long)expert,
                  said ? error->message : "the store has nothing");
    }
}

void mixt_call_fail_ranks(const mixt_call *call, const char *what, const mixt_error *error)
{
    mixt_error *lost = &call->attributes->ranks->lost;
    mixt_fail(lost, error->status, "%s", error->message);
    if (call->fault != NULL) {
        mixt_fail(&call->fault->error, lost->status, "layer %d: %s: %s", call->layer, what,
                  lost->message);
    }
}

mixt_shape mixt_shape_tokens(int64_t capacity, int64_t multiple, int64_t columns)
{
    return (mixt_shape){
        .dtype = MIXT_ELEMENT_REAL,
        .per_token = true,
        .multiple = multiple,
        .rank = columns > 0 ? 2 : 1,
        .size = {capacity * multiple, columns > 0 ? columns : 0},
    };
}

mixt_shape mixt_shape_static(int rank, int64_t a, int64_t b, int64_t c)
{
    return (mixt_shape){
        .dtype = MIXT_ELEMENT_REAL,
        .rank = rank,
        .size = {a, rank > 1 ? b : 0, rank > 2 ? c : 0},
    };
}

mixt_shape mixt_shape_integers(mixt_shape shape)
{
    shape.dtype = MIXT_ELEMENT_I32;
    return shape;
}

mixt_shape mixt_shape_columns(mixt_shape shape, int64_t columns)
{
    shape.rank = 2;
    shape.size[1] = columns;
    return shape;
}

mixt_shape mixt_shape_leading(mixt_shape shape)
{
    shape.rank = 1;
    shape.size[1] = shape.size[2] = shape.size[3] = 0;
    return shape;
}

double mixt_shape_values(const mixt_shape *shape, int64_t tokens)
{
    if (shape->rank == 0) {
        return 0;
    }
    double values = (double)mixt_rows(shape, tokens);
    for (int i = 1; i < shape->rank; i++) {
        values *= (double)shape->size[i];
    }
    return values;
}

static void shape_text(const mixt_shape *shape, char text[96])
{
    int length = snprintf(text, 96, "%s[",
                          shape->dtype == MIXT_ELEMENT_I32    ? "i32 "
                          : shape->dtype == MIXT_ELEMENT_BYTE ? "bytes "
                                                              : "");
    for (int i = 0; i < shape->rank; i++) {
        length += snprintf(text + length, (size_t)(96 - length), "%s%" PRId64, i > 0 ? ", " : "",
                           shape->size[i]);
    }
    snprintf(text + length, (size_t)(96 - length), "]%s", shape->per_token ? " by token" : "");
}

mixt_status mixt_expect_activation(const mixt_attributes *attributes, const char *what,
                                   mixt_error *error)
{
    switch (attributes->activation) {
    case MIXT_ACTIVATION_SILU:
    case MIXT_ACTIVATION_GELU:
    case MIXT_ACTIVATION_CLAMPED:
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: activation %d is not known", what,
                     (int)attributes->activation);
}

mixt_status mixt_expect_matrix(const mixt_shape *have, const char *what, mixt_error *error)
{
    if (have->dtype == MIXT_ELEMENT_REAL && have->rank == 2 && have->size[0] > 0 &&
        have->size[1] > 0) {
        return MIXT_OK;
    }
    char text[96];
    shape_text(have, text);
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s is %s, not a matrix of numbers", what, text);
}

mixt_status mixt_expect(const mixt_shape *have, mixt_shape want, const char *what,
                        mixt_error *error)
{
    bool same = have->dtype == want.dtype && have->rank == want.rank &&
                have->per_token == want.per_token &&
                (!want.per_token || have->multiple == want.multiple);
    for (int i = 0; same && i < want.rank; i++) {
        same = have->size[i] == want.size[i];
    }
    if (same) {
        return MIXT_OK;
    }
    char have_text[96], want_text[96];
    shape_text(have, have_text);
    shape_text(&want, want_text);
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s is %s, needed is %s", what, have_text,
                     want_text);
}

mixt_status mixt_expect_cache(mixt_type type, int64_t values, const char *name, mixt_error *error)
{
    if (type != MIXT_TYPE_F32 && type != MIXT_TYPE_F16 && type != MIXT_TYPE_BF16 &&
        type != MIXT_TYPE_Q8_0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: no cache is of type %d", name,
                         (int)type);
    }
    const mixt_type_row *row = mixt_type_info(type);
    if (values % row->elements != 0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: heads of %" PRId64 " values are not whole blocks of %d, which a "
                         "cache of %s has",
                         name, values, row->elements, row->name);
    }
    return MIXT_OK;
}

mixt_status mixt_expect_pages(const mixt_shape_request *request, int pages, int sequence, int cache,
                              const char *name, mixt_error *error)
{
    mixt_shape table = request->in[pages];
    mixt_shape tokens = mixt_shape_tokens(request->capacity, 1, 0);
    if (table.rank == 0 && request->in[sequence].rank == 0) {
        return MIXT_OK;
    }
    char what[64];
    snprintf(what, sizeof what, "%s: pages", name);
    mixt_shape wanted = mixt_shape_static(2, table.size[0], table.size[1], 0);
    MIXT_TRY(mixt_expect(&table, mixt_shape_integers(wanted), what, error));
    snprintf(what, sizeof what, "%s: sequence", name);
    MIXT_TRY(mixt_expect(&request->in[sequence], mixt_shape_integers(tokens), what, error));
    int64_t cached = request->in[cache].size[0];
    if (request->in[cache].per_token || cached < 1 || cached % MIXT_ATTENTION_BLOCK != 0 ||
        table.size[0] < 1 || table.size[1] < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: pages [%" PRId64 ", %" PRId64 "] of %d rows do not divide %" PRId64
                         " rows of a cache",
                         name, table.size[0], table.size[1], MIXT_ATTENTION_BLOCK, cached);
    }
    return MIXT_OK;
}
