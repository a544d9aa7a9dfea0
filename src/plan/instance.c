/* A plan made ready to run: its memory on a device, what was bound, the calls of its records. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plan/plan.h"

/* Where a value is. */
typedef struct place {
    void *data; /* the device's, NULL: nowhere yet */
    const mixt_packed *const *packed;
    const mixt_matrix *matrices;
    const mixt_store *store;
    void *mirror; /* a kept value on the host, where the device's memory is another */
    bool written; /* of an input */
} place;

/* Somebody who is told of a value. */
typedef struct listener {
    mixt_value_id value;
    mixt_teller tell;
    void *user;
    int next; /* of the same record, from 1; 0: none */
} listener;

struct mixt_instance {
    const mixt_plan *plan;
    const mixt_backend *backend;
    mixt_compute compute; /* the device's, with this instance's kind of matrix products */
    mixt_device_memory memory;
    place *places;                       /* of each value */
    mixt_call *calls;                    /* of each record */
    mixt_shape (*shapes)[2][MIXT_SLOTS]; /* of each record: in, out */
    bool resolved;
    int64_t tokens;    /* of the last run */
    int64_t picked;    /* rows of every `take`; 0: all */
    mixt_ranks *ranks; /* of its operators, or NULL */
    double *seconds;   /* of each record when profiling, else NULL */
    mixt_observer observe;
    void *observe_user;
    listener *listeners;
    size_t listener_count, listener_capacity;
    int *told;               /* [records] the first listener, from 1; 0: none. NULL: none at all */
    const mixt_store *store; /* one of those that were bound, or NULL: begins and ends a run */
    mixt_fault fault;
};

static mixt_status check_kernels(const mixt_plan *plan, const mixt_backend *backend,
                                 mixt_error *error)
{
    if (backend == NULL || plan->real_size != backend->real_size) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan: %zu-byte reals on backend %s",
                         plan->real_size, backend == NULL ? "none" : backend->name);
    }
    for (int r = 0; r < plan->record_count; r++) {
        const mixt_record *record = &plan->records[r];
        bool backward = record->pass == MIXT_PASS_BACKWARD;
        if ((backward ? backend->backward : backend->forward)[record->op] == NULL) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "backend %s has no %s %s kernel",
                             backend->name, mixt_operator_row(record->op)->name,
                             backward ? "backward" : "forward");
        }
    }
    return MIXT_OK;
}

/* Whether a value lies in the plan's own memory. */
static bool planned(const mixt_value *value)
{
    return value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT ||
           value->kind == MIXT_VALUE_INPUT;
}

static bool place_values(mixt_instance *instance)
{
    const mixt_plan *plan = instance->plan;
    bool complete = true;
    for (int i = 0; i < plan->value_count; i++) {
        const mixt_value *value = &plan->values[i];
        if (planned(value)) {
            instance->places[i].data = (char *)instance->memory.data + value->offset;
        }
        if (value->keep && !instance->backend->host_memory) {
            instance->places[i].mirror = calloc(1, value->bytes + 1);
            complete = complete && instance->places[i].mirror != NULL;
        }
    }
    return complete;
}

mixt_status mixt_instance_create(const mixt_plan *plan, const mixt_device *device,
                                 mixt_matmul matmul, mixt_instance **result, mixt_error *error)
{
    *result = NULL;
    const mixt_backend *backend = mixt_device_backend(device, plan->real_size);
    MIXT_TRY(check_kernels(plan, backend, error));
    mixt_instance *instance = calloc(1, sizeof *instance);
    if (instance == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    instance->plan = plan;
    instance->backend = backend;
    instance->compute = *device->compute;
    instance->compute.matmul = matmul;
    instance->places = calloc((size_t)plan->value_count + 1, sizeof *instance->places);
    instance->calls = calloc((size_t)plan->record_count + 1, sizeof *instance->calls);
    instance->shapes = calloc((size_t)plan->record_count + 1, sizeof *instance->shapes);
    mixt_error inner = MIXT_ERROR_INIT;
    if (instance->places == NULL || instance->calls == NULL || instance->shapes == NULL ||
        mixt_device_memory_create(backend, plan->memory_size, &instance->memory, &inner) !=
            MIXT_OK ||
        !place_values(instance)) {
        mixt_instance_free(instance);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan %s: no memory for %.1f MB", plan->phase,
                         (double)plan->memory_size / 1e6);
    }
    for (int r = 0; r < plan->record_count; r++) {
        mixt_ranks *ranks = plan->records[r].attributes.ranks;
        instance->ranks = ranks != NULL ? ranks : instance->ranks;
    }
    *result = instance;
    return MIXT_OK;
}

void mixt_instance_free(mixt_instance *instance)
{
    if (instance == NULL) {
        return;
    }
    for (int i = 0; instance->places != NULL && i < instance->plan->value_count; i++) {
        free(instance->places[i].mirror);
    }
    mixt_device_memory_free(&instance->memory);
    free(instance->places);
    free(instance->calls);
    free(instance->shapes);
    free(instance->seconds);
    free(instance->listeners);
    free(instance->told);
    free(instance);
}

const mixt_plan *mixt_instance_plan(const mixt_instance *instance)
{
    return instance->plan;
}

/* ------------------------------------------------------------------------------------------ */
/* Values                                                                                     */

void mixt_instance_bind(mixt_instance *instance, mixt_value_id value,
                        const mixt_device_memory *memory, size_t offset)
{
    if (value < 0) {
        return;
    }
    assert(memory->backend == instance->backend);
    assert(!planned(&instance->plan->values[value]));
    assert(offset <= memory->size && instance->plan->values[value].bytes <= memory->size - offset);
    instance->places[value].data = (char *)memory->data + offset;
    instance->resolved = false;
}

mixt_status mixt_instance_bind_packed(mixt_instance *instance, mixt_value_id value,
                                      const mixt_packed *const *packed, mixt_error *error)
{
    if (value < 0) {
        return MIXT_OK;
    }
    if (!mixt_packed_fits(&instance->compute, packed[0])) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "plan %s: %s was packed for other matrix products", instance->plan->phase,
                         instance->plan->values[value].name);
    }
    instance->places[value].packed = packed;
    instance->resolved = false;
    return MIXT_OK;
}

void mixt_instance_bind_matrices(mixt_instance *instance, mixt_value_id value,
                                 const mixt_matrix *matrices)
{
    if (value >= 0) {
        instance->places[value].matrices = matrices;
        instance->resolved = false;
    }
}

void mixt_instance_bind_store(mixt_instance *instance, mixt_value_id value, const mixt_store *store)
{
    if (value >= 0) {
        instance->places[value].store = store;
        instance->store = store;
        instance->resolved = false;
    }
}

mixt_status mixt_instance_tell(mixt_instance *instance, mixt_value_id value, mixt_teller tell,
                               void *user, mixt_error *error)
{
    const mixt_plan *plan = instance->plan;
    int record = plan->values[value].first; /* which makes it */
    assert(plan->values[value].kind == MIXT_VALUE_ACTIVATION && plan->values[value].keep);
    assert(record >= 0);
    if (instance->told == NULL) {
        instance->told = calloc((size_t)plan->record_count, sizeof *instance->told);
    }
    if (instance->told == NULL ||
        !mixt_grow(&instance->listeners, &instance->listener_capacity, instance->listener_count + 1,
                   sizeof *instance->listeners)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan %s: no memory", plan->phase);
    }
    instance->listeners[instance->listener_count++] =
        (listener){value, tell, user, instance->told[record]};
    instance->told[record] = (int)instance->listener_count;
    return MIXT_OK;
}

int64_t mixt_instance_rows(const mixt_instance *instance, mixt_value_id value)
{
    const mixt_shape *shape = &instance->plan->values[value].shape;
    return shape->per_token                        ? instance->tokens * shape->multiple
           : shape->picked && instance->picked > 0 ? instance->picked
                                                   : shape->size[0];
}

/* Bytes of a value that the last run worked on. */
static size_t active_bytes(const mixt_instance *instance, mixt_value_id value)
{
    const mixt_value *v = &instance->plan->values[value];
    return v->shape.per_token || v->shape.picked
               ? v->bytes / (size_t)v->shape.size[0] * (size_t)mixt_instance_rows(instance, value)
               : v->bytes;
}

void mixt_instance_write(mixt_instance *instance, mixt_value_id value, const void *from,
                         size_t size)
{
    if (value < 0) {
        return;
    }
    place *at = &instance->places[value];
    assert(at->data != NULL && size <= instance->plan->values[value].bytes);
    instance->backend->copy_in(at->data, from, size);
    instance->resolved = instance->resolved && at->written;
    at->written = true;
}

void mixt_instance_read(const mixt_instance *instance, mixt_value_id value, size_t offset, void *to,
                        size_t size)
{
    const place *at = &instance->places[value];
    assert(at->data != NULL && offset <= instance->plan->values[value].bytes);
    assert(size <= instance->plan->values[value].bytes - offset);
    instance->backend->copy_out(to, (const char *)at->data + offset, size);
}

const void *mixt_instance_view(const mixt_instance *instance, mixt_value_id value)
{
    if (value < 0 || !instance->plan->values[value].keep) {
        return NULL;
    }
    const place *at = &instance->places[value];
    if (instance->backend->host_memory) {
        return at->data;
    }
    instance->backend->copy_out(at->mirror, at->data, active_bytes(instance, value));
    return at->mirror;
}

void mixt_instance_route(const mixt_instance *instance, const mixt_route_values *values,
                         mixt_route *route)
{
    const mixt_value_id *value = values->value;
    *route = (mixt_route){
        .layer = values->layer,
        .tokens = instance->tokens,
        .experts = values->spec->experts,
        .chosen = (int)instance->plan->values[value[ROUTE_IDS]].shape.size[1],
        .ids = mixt_instance_view(instance, value[ROUTE_IDS]),
        .weights = mixt_instance_view(instance, value[ROUTE_WEIGHTS]),
        .counts = mixt_instance_view(instance, value[ROUTE_COUNTS]),
        .offsets = mixt_instance_view(instance, value[ROUTE_OFFSETS]),
        .order = mixt_instance_view(instance, value[ROUTE_ORDER]),
        .place = mixt_instance_view(instance, value[ROUTE_PLACE]),
        .scores = mixt_instance_view(instance, value[ROUTE_SCORES]),
        .losses = mixt_instance_view(instance, value[ROUTE_LOSSES]),
        .finite = mixt_instance_view(instance, value[ROUTE_FINITE]),
    };
}

/* ------------------------------------------------------------------------------------------ */
/* Cuts                                                                                       */

/* Bytes of a value that is made before the cut and read behind it; 0: it is none. */
static size_t cut_bytes(const mixt_value *value, int record, int64_t tokens)
{
    bool made = (value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT) &&
                value->first >= 0 && value->first < record;
    if (!made || value->used < record) {
        return 0;
    }
    const mixt_shape *shape = &value->shape;
    return shape->per_token
               ? value->bytes / (size_t)shape->size[0] * (size_t)(tokens * shape->multiple)
               : value->bytes;
}

size_t mixt_instance_cut_bytes(const mixt_instance *instance, int record, int64_t tokens)
{
    size_t bytes = 0;
    for (int i = 0; i < instance->plan->value_count; i++) {
        bytes += cut_bytes(&instance->plan->values[i], record, tokens);
    }
    return bytes;
}

void mixt_instance_cut_save(const mixt_instance *instance, int record, int64_t tokens, void *to)
{
    size_t offset = 0;
    for (int i = 0; i < instance->plan->value_count; i++) {
        size_t bytes = cut_bytes(&instance->plan->values[i], record, tokens);
        if (bytes > 0) {
            instance->backend->copy_out((char *)to + offset, instance->places[i].data, bytes);
            offset += bytes;
        }
    }
}

void mixt_instance_cut_restore(mixt_instance *instance, int record, int64_t tokens,
                               const void *from)
{
    size_t offset = 0;
    for (int i = 0; i < instance->plan->value_count; i++) {
        size_t bytes = cut_bytes(&instance->plan->values[i], record, tokens);
        if (bytes > 0) {
            instance->backend->copy_in(instance->places[i].data, (const char *)from + offset,
                                       bytes);
            offset += bytes;
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Looking on                                                                                 */

mixt_status mixt_instance_profile(mixt_instance *instance, mixt_error *error)
{
    free(instance->seconds);
    instance->seconds = calloc((size_t)instance->plan->record_count + 1, sizeof *instance->seconds);
    return instance->seconds != NULL ? MIXT_OK
                                     : mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
}

double mixt_instance_seconds(mixt_instance *instance, int record)
{
    double seconds = instance->seconds[record];
    instance->seconds[record] = 0;
    return seconds;
}

void mixt_instance_observe(mixt_instance *instance, mixt_observer observe, void *user)
{
    instance->observe = observe;
    instance->observe_user = user;
}

/* ------------------------------------------------------------------------------------------ */
/* Running                                                                                    */

static void *data_of(const mixt_instance *instance, mixt_value_id id)
{
    return id >= 0 ? instance->places[id].data : NULL;
}

/* Fills input i of a call; false where nothing was bound or written. */
static bool resolve_input(mixt_instance *instance, int index, int i)
{
    const mixt_record *record = &instance->plan->records[index];
    mixt_value_id id = record->in[i];
    mixt_call *call = &instance->calls[index];
    call->in[i] = data_of(instance, id);
    if (id < 0) {
        return true;
    }
    const mixt_value *value = &instance->plan->values[id];
    const place *at = &instance->places[id];
    bool backward = record->pass == MIXT_PASS_BACKWARD;
    bool typed = !backward && (mixt_operator_row(record->op)->matrix_in >> i & 1) != 0;
    instance->shapes[index][0][i] = value->shape;
    call->packed[i] = at->packed;
    call->matrices[i] = typed ? at->matrices : NULL;
    call->stores[i] = typed ? at->store : NULL;
    return value->kind == MIXT_VALUE_INPUT
               ? at->written
               : call->in[i] != NULL || call->matrices[i] != NULL || call->stores[i] != NULL;
}

/* The rows of what a `take` gave, in the shapes that the calls have. */
static void resolve_picked(mixt_instance *instance, int index)
{
    const mixt_record *record = &instance->plan->records[index];
    for (int i = 0; i < MIXT_SLOTS; i++) {
        const mixt_value_id ids[] = {record->in[i], record->out[i]};
        for (int side = 0; side < 2; side++) {
            if (ids[side] >= 0 && instance->plan->values[ids[side]].shape.picked) {
                instance->shapes[index][side][i].size[0] = mixt_instance_rows(instance, ids[side]);
            }
        }
    }
}

void mixt_instance_take(mixt_instance *instance, int64_t rows)
{
    assert(rows > 0);
    if (rows == instance->picked) {
        return;
    }
    instance->picked = rows;
    for (int r = 0; r < instance->plan->record_count && instance->resolved; r++) {
        resolve_picked(instance, r);
    }
}

static mixt_status resolve_record(mixt_instance *instance, int index, mixt_error *error)
{
    const mixt_plan *plan = instance->plan;
    const mixt_record *record = &plan->records[index];
    const mixt_operator *row = mixt_operator_row(record->op);
    mixt_call *call = &instance->calls[index];
    call->compute = &instance->compute;
    call->attributes = &record->attributes;
    call->fault = &instance->fault;
    call->layer = record->layer;
    call->in_shape = instance->shapes[index][0];
    call->out_shape = instance->shapes[index][1];
    call->workspace = (char *)instance->memory.data + record->workspace_offset;
    for (int i = 0; i < MIXT_SLOTS; i++) {
        bool there = resolve_input(instance, index, i);
        if (record->out[i] >= 0) {
            instance->shapes[index][1][i] = plan->values[record->out[i]].shape;
        }
        call->out[i] = data_of(instance, record->out[i]);
        call->d_in[i] = data_of(instance, record->d_in[i]);
        call->d_out[i] = data_of(instance, record->d_out[i]);
        call->add[i] = record->add[i];
        if (!there || (record->d_in[i] >= 0 && call->d_in[i] == NULL)) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan %s: %s: %s is not bound",
                             plan->phase, row->name, plan->values[record->in[i]].name);
        }
        if (record->pass == MIXT_PASS_BACKWARD) { /* what ops.def does not list may be gone */
            call->in[i] = (row->reads_in >> i & 1) != 0 ? call->in[i] : NULL;
            call->out[i] = (row->reads_out >> i & 1) != 0 ? call->out[i] : NULL;
        }
    }
    resolve_picked(instance, index);
    return MIXT_OK;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void run_record(mixt_instance *instance, int index)
{
    const mixt_record *record = &instance->plan->records[index];
    const mixt_backend *backend = instance->backend;
    mixt_call *call = &instance->calls[index];
    call->tokens = instance->tokens;
    double begin = instance->seconds != NULL ? now() : 0;
    if (record->pass == MIXT_PASS_BACKWARD) {
        backend->backward[record->op](call);
    } else {
        backend->forward[record->op](call);
    }
    if (instance->ranks != NULL) {
        mixt_ranks_go_on(instance->ranks);
    }
    if (instance->observe != NULL && record->pass == MIXT_PASS_FORWARD) {
        backend->synchronise();
        instance->observe(instance->observe_user, instance, index);
    }
    if (instance->seconds != NULL) {
        backend->synchronise();
        instance->seconds[index] += now() - begin;
    }
    for (int i = instance->told != NULL ? instance->told[index] : 0; i > 0;
         i = instance->listeners[i - 1].next) {
        const listener *one = &instance->listeners[i - 1];
        backend->synchronise();
        const mixt_shape *shape = &instance->plan->values[one->value].shape;
        int64_t row = shape->rank > 1 ? shape->size[1] : 1;
        one->tell(one->user, mixt_instance_view(instance, one->value),
                  mixt_instance_rows(instance, one->value) * row);
    }
}

mixt_status mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                              mixt_error *error)
{
    const mixt_plan *plan = instance->plan;
    assert(0 <= from && from <= to && to <= plan->record_count);
    if (tokens < 1 || tokens > plan->capacity) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan %s: %lld tokens is not in 1..%lld",
                         plan->phase, (long long)tokens, (long long)plan->capacity);
    }
    for (int r = 0; r < plan->record_count && !instance->resolved; r++) {
        MIXT_TRY(resolve_record(instance, r, error));
    }
    instance->resolved = true;
    instance->tokens = tokens;
    mixt_fault_clear(&instance->fault);
    if (instance->store != NULL && instance->store->begin != NULL) {
        instance->store->begin(instance->store->user, tokens);
    }
    for (int r = from; r < to; r++) {
        run_record(instance, r);
    }
    instance->backend->synchronise();
    if (instance->store != NULL && instance->store->end != NULL) {
        instance->store->end(instance->store->user);
    }
    return instance->fault.error.status == MIXT_OK
               ? MIXT_OK
               : mixt_fail(error, instance->fault.error.status, "plan %s: %s", plan->phase,
                           instance->fault.error.message);
}
