/* A plan: a flat array of operator records over a flat array of values, built once for each
 * (model, phase, capacity) by a builder that reads like the paper. The backward half is the reverse
 * walk of the forward half (gradient.c), memory is laid out ahead by liveness (memory.c), and an
 * instance (instance.c) is the plan with memory, bound weights and a backend, ready to run. */
#ifndef MIXT_PLAN_PLAN_H
#define MIXT_PLAN_PLAN_H

#include "core/memory.h"
#include "ops/operator.h"

typedef int32_t mixt_value_id;
#define MIXT_NO_VALUE (-1)

typedef enum mixt_value_kind {
    MIXT_VALUE_ACTIVATION,         /* in the plan's memory */
    MIXT_VALUE_GRADIENT,           /* of an activation; in the plan's memory */
    MIXT_VALUE_PARAMETER,          /* bound: weights */
    MIXT_VALUE_PARAMETER_GRADIENT, /* bound: summed into */
    MIXT_VALUE_INPUT,              /* bound: tokens, targets, positions, ... */
    MIXT_VALUE_STATE,              /* bound: KV cache, selection bias */
} mixt_value_kind;

typedef struct mixt_value {
    char name[40];
    mixt_value_kind kind;
    mixt_shape shape;
    int index;              /* parameter: number in the model; else unused */
    bool trainable;         /* parameter */
    bool keep;              /* readable after the run: its memory is never given on */
    mixt_value_id gradient; /* of a parameter or activation, once the walk made one */
    size_t bytes;
    size_t offset;   /* in the plan's memory; activations and gradients */
    int first, last; /* records between which it lives */
} mixt_value;

typedef enum mixt_pass {
    MIXT_PASS_FORWARD,
    MIXT_PASS_RECOMPUTE, /* a forward run again for the backward behind it */
    MIXT_PASS_BACKWARD,
} mixt_pass;

typedef struct mixt_record {
    mixt_op op;
    mixt_pass pass;
    int layer;      /* -1 outside the layers */
    bool recompute; /* outputs are not kept for the backward but made again */
    mixt_value_id in[MIXT_SLOTS];
    mixt_value_id out[MIXT_SLOTS];
    mixt_value_id d_in[MIXT_SLOTS];  /* backward: where gradients go */
    mixt_value_id d_out[MIXT_SLOTS]; /* backward: where they come from */
    bool add[MIXT_SLOTS];
    mixt_attributes attributes;
    size_t workspace; /* bytes */
    size_t workspace_offset;
} mixt_record;

typedef struct mixt_plan {
    const char *phase; /* "train", "score", "generate" */
    int64_t capacity;  /* tokens */
    size_t real_size;  /* 4 or 8 */
    mixt_value *values;
    int value_count, value_capacity;
    mixt_record *records;
    int record_count, record_capacity;
    int forward_count;  /* records before the first backward one */
    size_t memory_size; /* bytes of the one block */
    int layer;          /* layer of the records being built */
    bool recompute;     /* flag given to the records being built */
    mixt_error error;   /* sticky: the builder goes on harmlessly after the first error */
} mixt_plan;

mixt_status mixt_plan_create(const char *phase, int64_t capacity, size_t real_size,
                             mixt_plan **plan, mixt_error *error);
void mixt_plan_free(mixt_plan *plan);

/* Values that are bound from outside. */
mixt_value_id mixt_plan_parameter(mixt_plan *plan, const char *name, int index, bool trainable,
                                  mixt_shape shape);
mixt_value_id mixt_plan_input(mixt_plan *plan, const char *name, mixt_shape shape);
mixt_value_id mixt_plan_state(mixt_plan *plan, const char *name, mixt_shape shape);

/* Appends one operator. in[] holds as many ids as the operator has inputs, MIXT_NO_VALUE where
 * absent; out[] receives the ids of its outputs (may be NULL). */
void mixt_plan_operator(mixt_plan *plan, mixt_op op, const mixt_attributes *attributes,
                        const mixt_value_id *in, mixt_value_id *out);
/* Keeps a value readable after the run. */
void mixt_plan_keep(mixt_plan *plan, mixt_value_id value);

/* Appends the backward half: gradients of `root` (output of a `loss`) for every trainable
 * parameter. Refused where an operator without backward lies on the way, by layer and name. */
mixt_status mixt_plan_differentiate(mixt_plan *plan, mixt_value_id root, mixt_error *error);
/* Ends building: lays out memory, or gives the sticky error. */
mixt_status mixt_plan_finish(mixt_plan *plan, mixt_error *error);
/* Liveness and offsets; called by mixt_plan_finish. */
mixt_status mixt_plan_layout(mixt_plan *plan, mixt_error *error);

/* One record a line with shapes, bytes and cost. *text is malloc'd. */
mixt_status mixt_plan_print(const mixt_plan *plan, char **text, mixt_error *error);
/* Cost of a record for `tokens` active tokens. */
void mixt_plan_cost(const mixt_plan *plan, int record, int64_t tokens, double *flops,
                    double *bytes);

/* ------------------------------------------------------------------------------------------ */

typedef struct mixt_instance {
    const mixt_plan *plan;
    const mixt_backend *backend;
    const mixt_compute *compute;
    void *memory;
    void **data;                         /* of each value */
    const mixt_packed *const **packed;   /* of each value, or NULL */
    const mixt_matrix **matrices;        /* of each value, or NULL */
    mixt_call *calls;                    /* of each record */
    mixt_shape (*shapes)[2][MIXT_SLOTS]; /* of each record: in, out */
    bool resolved;
    double *seconds; /* of each record when profiling, else NULL */
    void (*observe)(void *user, const mixt_record *record, const mixt_call *call);
    void *observe_user;
} mixt_instance;

/* Refused where the backend lacks a kernel, by name. The plan must outlive the instance. */
mixt_status mixt_instance_create(const mixt_plan *plan, const mixt_backend *backend,
                                 const mixt_compute *compute, mixt_instance **instance,
                                 mixt_error *error);
void mixt_instance_free(mixt_instance *instance);
void mixt_instance_bind(mixt_instance *instance, mixt_value_id value, void *data);
void mixt_instance_bind_packed(mixt_instance *instance, mixt_value_id value,
                               const mixt_packed *const *packed);
/* The value is read as typed rows; its data stay unbound. */
void mixt_instance_bind_matrices(mixt_instance *instance, mixt_value_id value,
                                 const mixt_matrix *matrices);
void *mixt_instance_data(const mixt_instance *instance, mixt_value_id value);
/* Adds up each record's time from now on. */
mixt_status mixt_instance_profile(mixt_instance *instance, mixt_error *error);
/* Calls `observe` behind each forward record from now on, while its inputs, outputs and workspace
 * are still there; NULL ends it. */
void mixt_instance_observe(mixt_instance *instance,
                           void (*observe)(void *user, const mixt_record *record,
                                           const mixt_call *call),
                           void *user);
/* Runs records [from, to) over `tokens` active tokens. Refused where a value is not bound. */
mixt_status mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                              mixt_error *error);

#endif
