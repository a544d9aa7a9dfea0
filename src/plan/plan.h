/* A plan: a flat array of operator records over a flat array of values, built once for each
 * (model, phase, capacity) by a builder that reads like the paper. The backward half is the reverse
 * walk of the forward half (gradient.c), memory is laid out ahead by liveness (memory.c), and an
 * instance (instance.c) is the plan with memory, bound weights and a backend, ready to run. */
#ifndef MIXT_PLAN_PLAN_H
#define MIXT_PLAN_PLAN_H

#include "core/memory.h"
#include "plan/device.h"
#include "router/router.h"

typedef int32_t mixt_value_id;
#define MIXT_NO_VALUE (-1)

typedef enum mixt_value_kind {
    MIXT_VALUE_ACTIVATION,         /* in the plan's memory */
    MIXT_VALUE_GRADIENT,           /* of an activation; in the plan's memory */
    MIXT_VALUE_INPUT,              /* in the plan's memory; written before a run: tokens, ... */
    MIXT_VALUE_PARAMETER,          /* bound: weights */
    MIXT_VALUE_PARAMETER_GRADIENT, /* bound: summed into */
    MIXT_VALUE_STATE,              /* bound: KV cache, moments, tables */
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
    size_t offset;   /* in the plan's memory; of activations, gradients and inputs */
    int first, last; /* records between which it lives */
    int used;        /* the last record that reads it, kept or not */
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
    const char *phase; /* "train", "score", "generate", "update" */
    int64_t capacity;  /* tokens */
    size_t real_size;  /* 4 or 8 */
    mixt_value *values;
    int value_count;
    size_t value_capacity;
    mixt_record *records;
    int record_count;
    size_t record_capacity;
    int forward_count;  /* records before the first backward one */
    size_t memory_size; /* bytes of the one block */
    mixt_error error;   /* sticky: the builder goes on harmlessly after the first error */
} mixt_plan;

mixt_status mixt_plan_create(const char *phase, int64_t capacity, size_t real_size,
                             mixt_plan **plan, mixt_error *error);
void mixt_plan_free(mixt_plan *plan);

/* Values that come from outside: written (inputs) or bound. */
mixt_value_id mixt_plan_parameter(mixt_plan *plan, const char *name, int index, bool trainable,
                                  mixt_shape shape);
mixt_value_id mixt_plan_input(mixt_plan *plan, const char *name, mixt_shape shape);
mixt_value_id mixt_plan_state(mixt_plan *plan, const char *name, mixt_shape shape);

/* One operator of a plan. */
typedef struct mixt_operation {
    mixt_op op;
    int layer;      /* -1: outside the layers */
    bool recompute; /* its outputs are not kept for the backward but made again */
    const mixt_attributes *attributes;
    const mixt_value_id *in; /* as many as the operator has inputs, MIXT_NO_VALUE where absent */
} mixt_operation;

/* Appends it; out[] receives the ids of its outputs (may be NULL). */
void mixt_plan_operator(mixt_plan *plan, const mixt_operation *operation, mixt_value_id *out);
/* Keeps a value readable after the run. */
void mixt_plan_keep(mixt_plan *plan, mixt_value_id value);

/* Appends the backward half: gradients of `root` (output of a `loss`) for every trainable
 * parameter. Refused where an operator without backward lies on the way, by layer and name. */
mixt_status mixt_plan_differentiate(mixt_plan *plan, mixt_value_id root, mixt_error *error);
/* Room for one more, which counts once the caller has filled it and raised the count; NULL, and the
 * sticky error, without memory. */
mixt_value *mixt_plan_new_value(mixt_plan *plan);
mixt_record *mixt_plan_new_record(mixt_plan *plan);
/* Ends building: lays out memory, or gives the sticky error. */
mixt_status mixt_plan_finish(mixt_plan *plan, mixt_error *error);
/* Liveness and offsets; called by mixt_plan_finish. */
mixt_status mixt_plan_layout(mixt_plan *plan, mixt_error *error);

/* Ids of the outputs of a route record, and of the selection bias that it was decided with. */
typedef struct mixt_route_values {
    int layer; /* of the model */
    int made;  /* the layer that decided: itself, or the first one for all */
    const mixt_router_spec *spec;
    mixt_value_id value[ROUTE_OUTPUTS], select_bias;
    mixt_value_id ahead;    /* what ROUTE_IDS would be by what the router before this one read */
    mixt_value_id foreseen; /* the same, before the mixture of a layer below */
    mixt_value_id foreseen_late; /* ... and when this layer's block begins */
} mixt_route_values;

/* One record a line with shapes, bytes and cost. *text is malloc'd. */
mixt_status mixt_plan_print(const mixt_plan *plan, char **text, mixt_error *error);
/* Cost of a record for `tokens` active tokens. value_bytes: of each parameter, by its index, the
 * bytes that one of its values takes where it lies; NULL: 4 for all. */
void mixt_plan_cost(const mixt_plan *plan, int record, int64_t tokens, const double *value_bytes,
                    double *flops, double *bytes);

/* ------------------------------------------------------------------------------------------ */

/* A plan with memory, what was bound, and a device, ready to run. It is the only door to the
 * values of a plan. */
typedef struct mixt_instance mixt_instance;

/* Refused where the device lacks a kernel, by name. `matmul`: how this instance's matrix products
 * are done (those of exact records are exact all the same). The plan and the device must outlive
 * it. */
mixt_status mixt_instance_create(const mixt_plan *plan, const mixt_device *device,
                                 mixt_matmul matmul, mixt_instance **instance, mixt_error *error);
void mixt_instance_free(mixt_instance *instance);
const mixt_plan *mixt_instance_plan(const mixt_instance *instance);

/* Lets a parameter, its gradient or a state lie in `memory` from byte `offset` on. No value:
 * nothing. */
void mixt_instance_bind(mixt_instance *instance, mixt_value_id value,
                        const mixt_device_memory *memory, size_t offset);
/* Beside that, weights packed for this backend: one, or one for each expert or head. Refused where
 * they were packed for other products than this instance's. */
mixt_status mixt_instance_bind_packed(mixt_instance *instance, mixt_value_id value,
                                      const mixt_packed *const *packed, mixt_error *error);
/* Instead of that, typed rows in the device's memory; one, or one for each expert or head. */
void mixt_instance_bind_matrices(mixt_instance *instance, mixt_value_id value,
                                 const mixt_matrix *matrices);
/* Instead of that, experts that are taken once a router has chosen them: one store for the three
 * matrices of a layer's experts. It begins and ends with each run. */
void mixt_instance_bind_store(mixt_instance *instance, mixt_value_id value,
                              const mixt_store *store);
/* Calls `tell` in each run behind the record that makes a kept value, with the value as the host
 * reads it and how many elements of it this run made. */
typedef void (*mixt_teller)(void *user, const void *made, int64_t count);
mixt_status mixt_instance_tell(mixt_instance *instance, mixt_value_id value, mixt_teller tell,
                               void *user, mixt_error *error);

/* Copies the first `size` bytes of a value in. Inputs have to be written before a run that reads
 * them; they keep what they hold. */
void mixt_instance_write(mixt_instance *instance, mixt_value_id value, const void *from,
                         size_t size);
/* Copies bytes [offset, offset + size) of a value out. */
void mixt_instance_read(const mixt_instance *instance, mixt_value_id value, size_t offset, void *to,
                        size_t size);
/* A kept value as the last run left it: `tokens` rows of it where it is by token. Readable until
 * the next run; where the device's memory is not the host's, a copy that is made by the call. */
const void *mixt_instance_view(const mixt_instance *instance, mixt_value_id value);
/* The route record of a layer, likewise; what the plan does not keep of it is NULL. */
void mixt_instance_route(const mixt_instance *instance, const mixt_route_values *values,
                         mixt_route *route);

/* How many of the rows that a `take` gives are wanted from now on, 1 to all; at first all. */
void mixt_instance_take(mixt_instance *instance, int64_t rows);

/* Seconds of a record, added up from mixt_instance_profile on; mixt_instance_seconds takes them. */
mixt_status mixt_instance_profile(mixt_instance *instance, mixt_error *error);
double mixt_instance_seconds(mixt_instance *instance, int record);
/* What records before `record` made of `tokens` active tokens and it or later ones read: values
 * that a run from there on finds as they are. Copied out into `to`, and back, so that the same rows
 * can run from there again and again, or go on after others have run; inputs stay where they are.
 */
size_t mixt_instance_cut_bytes(const mixt_instance *instance, int record, int64_t tokens);
void mixt_instance_cut_save(const mixt_instance *instance, int record, int64_t tokens, void *to);
void mixt_instance_cut_restore(mixt_instance *instance, int record, int64_t tokens,
                               const void *from);
/* Calls `observe` behind each forward record from now on, while its inputs and outputs can still be
 * read; NULL ends it. */
typedef void (*mixt_observer)(void *user, const mixt_instance *instance, int record);
void mixt_instance_observe(mixt_instance *instance, mixt_observer observe, void *user);
/* Active rows of a value in the run that is observed, or the last. */
int64_t mixt_instance_rows(const mixt_instance *instance, mixt_value_id value);
/* Runs records [from, to) over `tokens` active tokens. Refused where a value is not bound or an
 * input was never written. Where an operator could not get its data (a store, another rank), the
 * first such error, which names layer and expert; what the run computed is then of no use. */
mixt_status mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                              mixt_error *error);

#endif
