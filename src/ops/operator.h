/* Operators: what a plan is made of. Each is one entry in ops.def and, in its stage files,
 *
 *   mixt_NAME_shape     checks input shapes, gives output shapes and workspace
 *   mixt_NAME_cost      floating-point operations and bytes moved, forward and backward
 *   mixt_NAME_forward   side by side with
 *   mixt_NAME_backward  the derivative, written by hand
 *
 * Forward and backward exist as _f32 and _f64 (*_tmpl.c, core/real.h). They call kernels on rows
 * and matrix products through call->compute, never allocate, and never fail on values.
 *
 * Rows: a tensor whose shape is `per_token` was planned for a capacity of tokens; a call works on
 * call->tokens of them (its leading dimension is tokens * multiple). Everything else is static: of
 * rows that are `picked` a call is given the shape that they have in this run. */
#ifndef MIXT_OPS_OPERATOR_H
#define MIXT_OPS_OPERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "dist/ranks.h"
#include "ops/kernels.h"

#define MIXT_SLOTS 12 /* more than any operator has inputs or outputs */
#define MIXT_SQUARES_PART 65536

typedef enum mixt_op {
#define MIXT_OP_BEGIN(name, NAME, backward) MIXT_OP_##name,
#include "ops/ops.def"
    MIXT_OP_COUNT
} mixt_op;

/* The slots of each operator: EXPERTS_ROWS, EXPERTS_OFFSETS, ..., EXPERTS_INPUTS number in[],
 * EXPERTS_Y, ..., EXPERTS_OUTPUTS number out[]. */
/* clang-format off */
#define MIXT_OP_BEGIN(name, NAME, backward) enum {
#define MIXT_IN(NAME, slot, flags) NAME##_##slot,
#define MIXT_OP_END(name, NAME) NAME##_INPUTS };
#include "ops/ops.def"
#define MIXT_OP_BEGIN(name, NAME, backward) enum {
#define MIXT_OUT(NAME, slot, flags) NAME##_##slot,
#define MIXT_OP_END(name, NAME) NAME##_OUTPUTS };
#include "ops/ops.def"
/* clang-format on */

/* What ROUTE_LOSSES holds: means over the tokens, without coefficients. */
enum {
    ROUTE_LOSS_BALANCE,
    ROUTE_LOSS_Z,
    ROUTE_LOSS_DEVICE, /* of the balance groups; 0 where there are none */
    ROUTE_LOSS_COUNT,
};

/* What LOSS_SCALE and ROUTE_SCALE hold: what the gradients of either are multiplied by. */
enum { MIXT_SCALE_LOSS, MIXT_SCALE_ROUTER, MIXT_SCALES };

/* What DRAW inputs hold: a training step's place among all random numbers of a run. */
enum {
    MIXT_DRAW_SEED_LOW,
    MIXT_DRAW_SEED_HIGH,
    MIXT_DRAW_STEP,
    MIXT_DRAW_BATCH, /* of the step's micro batches */
    MIXT_DRAWS
};

typedef enum mixt_element {
    MIXT_ELEMENT_REAL, /* fp32 or fp64, by the plan's precision */
    MIXT_ELEMENT_I32,
    MIXT_ELEMENT_F64,  /* sums, in both precisions */
    MIXT_ELEMENT_BYTE, /* rows of a cache in a short type */
} mixt_element;

typedef struct mixt_shape {
    mixt_element dtype;
    bool per_token;   /* size[0] = capacity * multiple */
    bool picked;      /* what a `take` gave: not more than size[0] rows, as the instance was told */
    int64_t multiple; /* rows for each token: 1, or k behind dispatch */
    int rank;         /* 0: absent (an optional input) */
    int64_t size[4];
} mixt_shape;

struct mixt_router_spec; /* router/router.h */

/* What the builder fixes; each operator reads the fields that ops.def names for it. */
typedef struct mixt_attributes {
    double epsilon;      /* norm */
    double scale;        /* attention: multiplies q.k; embed, scale: the row; low_rank: b a */
    double soft_cap;     /* attention: c tanh(s / c) of the scaled score; 0: off */
    double limit;        /* clamp: to +-limit */
    int heads, kv_heads; /* attention; rope, slice, join: heads */
    int head_dim;  /* attention, cache_round, rope, slice, join; norm: size of a group (0: the row)
                    */
    int value_dim; /* attention: of a head of v and y; 0: head_dim */
    int rope_dims; /* rope: leading values of a head that are rotated; 0: all */
    bool interleaved;           /* rope: pairs (2i, 2i + 1) instead of (i, i + n/2) */
    int from, size;             /* slice: columns of each head */
    mixt_activation activation; /* swiglu, experts */
    int identity_experts;       /* experts: groups behind those with weights whose rows are given */
    int zero_experts;           /* back; and behind those, whose rows are cleared */
    int64_t window;             /* attention, shift: rows of one training sequence (0: a cache) */
    mixt_type cache_type;       /* attention, kv_write, cache_round: of its rows; F32: reals */
    int64_t positions; /* attention: most of a sequence in a cache, for its cost (0: all) */
    bool exact;        /* linear: exact fp32 product whatever the mode */
    /* attention over a cache, head_linear: rows that see nothing are another operator's. Attention
     * leaves them as they are, head_linear where all of them are. */
    bool partial;
    const struct mixt_router_spec *router; /* route */
    /* route: those that ROUTE_VARIANT numbers, which differ from `router` in what
     * mixt_model_change_routing changes. The owner may put others in their places between runs. */
    const struct mixt_router_spec *const *variants;
    int columns;                       /* route: of the record, where variants choose more (0) */
    double balance_weight;             /* route: coefficient / layers of the balance loss */
    double device_weight;              /* route: the same of the loss over balance groups */
    double z_weight;                   /* route: coefficient / layers of the z-loss */
    bool training;                     /* route: what is done in training alone */
    double capacity;                   /* route: mixt_router_capacity's factor */
    int segment;                       /* pool: tokens of one, 0: whole documents */
    double jitter;                     /* jitter: how far from 1 */
    mixt_ranks *ranks;                 /* with whom its rows or sums are; NULL: alone */
    int rows;                          /* exchange, give_back: for each token, on the far side */
    int chunks;                        /* exchange, far_experts: in which rows go; 0: one */
    bool exact_parts;                  /* experts: gradients of weights are summed part by part */
    bool head;                         /* exchange: only place 0 has rows, and says so before */
    const mixt_adamw_arguments *adamw; /* adamw: the step */
    const mixt_muon_arguments *muon;   /* muon: the step */
    /* far_experts: whether what was computed may be given to others, or an error; NULL: it may */
    mixt_status (*intact)(const void *user, mixt_error *error);
    const void *intact_user;
} mixt_attributes;

/* Given to a shape rule: in[] filled, out[] and workspaces to fill. `capacity` tokens. */
typedef struct mixt_shape_request {
    const mixt_attributes *attributes;
    int64_t capacity;
    unsigned wanted; /* bit i: a backward gives a gradient of in[i]; 0: not known */
    mixt_shape in[MIXT_SLOTS];
    mixt_shape out[MIXT_SLOTS];
    int64_t forward_workspace;  /* in reals */
    int64_t backward_workspace; /* in reals */
} mixt_shape_request;

/* Given to a cost formula. */
typedef struct mixt_cost_request {
    const mixt_attributes *attributes;
    const mixt_shape *in, *out; /* [MIXT_SLOTS], as planned */
    int64_t tokens;             /* active ones */
    /* [MIXT_SLOTS]: bytes that a value of a weight takes where it lies, 4 or fewer in typed rows */
    const double *value_bytes;
} mixt_cost_request;

typedef struct mixt_cost {
    double forward_flops, forward_bytes;
    double backward_flops, backward_bytes;
} mixt_cost;

/* Experts of a layer that lie elsewhere (on disk, on another rank) and are had once a router has
 * chosen them; one for the matrices gate, up and down of a layer's experts. Called from one thread
 * at a time. offsets [E + 1]: the rows of expert e are offsets[e] to offsets[e + 1]. */
typedef struct mixt_store {
    void *user;
    /* Around a run of records over `tokens` tokens; NULL: nothing is to be done. */
    void (*begin)(void *user, int64_t tokens);
    void (*end)(void *user);
    /* These experts will be taken: those that are not there are fetched from now on. */
    void (*ask)(void *user, const int32_t *offsets);
    /* Some of the experts with rows that were not given yet, in experts[E]: those that are there;
     * it waits for one at least. Gives how many; 0: all were given. What it gave before is given
     * back. -1, an error, and in experts[0] whose it is: one cannot be had. Asks, where nobody did
     * since all were given. */
    int64_t (*take)(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error);
    /* A matrix (0 gate, 1 up, 2 down) of an expert that was taken, in the device's memory. */
    const mixt_matrix *(*rows)(void *user, int matrix, int64_t expert);
} mixt_store;

/* What went wrong in a run, for operators that get data from outside. The first one stays; the run
 * goes on harmlessly, and whoever ran it reads the error behind it. */
typedef struct mixt_fault {
    mixt_error error;
} mixt_fault;

/* One operator's turn. Pointers are to real of the function's precision or to int32_t. */
typedef struct mixt_call {
    const mixt_compute *compute;
    const mixt_attributes *attributes;
    int64_t tokens;              /* active ones, <= capacity */
    int layer;                   /* of the model, -1: outside the layers */
    mixt_fault *fault;           /* of the run */
    const mixt_shape *in_shape;  /* [MIXT_SLOTS], planned shapes */
    const mixt_shape *out_shape; /* [MIXT_SLOTS] */
    void *in[MIXT_SLOTS];        /* NULL: absent */
    void *out[MIXT_SLOTS];
    /* Weights packed for generation, beside in[]: NULL, or one for a matrix, or one for each
     * expert. */
    const mixt_packed *const *packed[MIXT_SLOTS];
    /* Weights as typed rows in a file or in memory, in the place of in[] (then NULL) in fp32
     * calls: NULL, or one for a matrix, or one for each expert. */
    const mixt_matrix *matrices[MIXT_SLOTS];
    /* Or experts to be taken, in the place of both, one store for all matrices; NULL: they are
     * here. */
    const mixt_store *stores[MIXT_SLOTS];
    /* Backward only. d_out[i] NULL: no gradient flows into that output (treat as zero).
     * d_in[i] NULL: not wanted. add[i]: add to what d_in[i] holds, else overwrite. */
    void *d_out[MIXT_SLOTS];
    void *d_in[MIXT_SLOTS];
    bool add[MIXT_SLOTS];
    void *workspace;
} mixt_call;

typedef void (*mixt_op_function)(const mixt_call *call);
typedef mixt_status (*mixt_shape_function)(mixt_shape_request *request, mixt_error *error);
typedef void (*mixt_cost_function)(const mixt_cost_request *request, mixt_cost *cost);

#define MIXT_BACKWARD_YES(name, suffix) void mixt_##name##_backward_##suffix(const mixt_call *call)
#define MIXT_BACKWARD_NO(name, suffix) void mixt_##name##_forward_##suffix(const mixt_call *call)
#define MIXT_OP_BEGIN(name, NAME, backward)                                                        \
    mixt_status mixt_##name##_shape(mixt_shape_request *request, mixt_error *error);               \
    void mixt_##name##_cost(const mixt_cost_request *request, mixt_cost *cost);                    \
    void mixt_##name##_forward_f32(const mixt_call *call);                                         \
    void mixt_##name##_forward_f64(const mixt_call *call);                                         \
    MIXT_BACKWARD_##backward(name, f32);                                                           \
    MIXT_BACKWARD_##backward(name, f64);
#include "ops/ops.def"

/* Whose rows a weight was multiplied with, behind a forward call. */
typedef struct mixt_multiplied {
    enum { MIXT_MULTIPLIED_NOT, MIXT_MULTIPLIED_IN, MIXT_MULTIPLIED_OUT } side;
    int slot;    /* in[slot] or out[slot] */
    int offsets; /* the input that says which rows are whose of a stack of matrices; -1: one matrix
                  */
} mixt_multiplied;

/* The row of an operator. */
typedef struct mixt_operator {
    const char *name;
    int inputs, outputs;
    unsigned reads_in, reads_out; /* bit i: the backward reads in[i] / out[i] */
    unsigned matrix_in;           /* bit i: the forward takes in[i] as matrices[i] as well */
    mixt_multiplied multiplied[MIXT_SLOTS]; /* of inputs */
    bool has_backward;
    mixt_shape_function shape;
    mixt_cost_function cost;
} mixt_operator;

const mixt_operator *mixt_operator_row(mixt_op op);

void mixt_fault_clear(mixt_fault *fault);
/* Experts could not be taken: the run's fault, with layer and expert. */
void mixt_call_fail_expert(const mixt_call *call, int64_t expert, const mixt_error *error);
/* The ranks of its attributes cannot be heard, or say what cannot be: the run's fault, with layer
 * and what was done, and the end of all that they do together. */
void mixt_call_fail_ranks(const mixt_call *call, const char *what, const mixt_error *error);
bool mixt_call_failed(const mixt_call *call);

/* Shorthands for shape rules. */
mixt_shape mixt_shape_tokens(int64_t capacity, int64_t multiple, int64_t columns);
mixt_shape mixt_shape_static(int rank, int64_t a, int64_t b, int64_t c);
mixt_shape mixt_shape_integers(mixt_shape shape); /* the same with i32 elements */

#endif
