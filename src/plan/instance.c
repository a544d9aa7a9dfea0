#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static mixt_status check_kernels(const mixt_plan *plan, const mixt_backend *backend,
                                 mixt_error *error)
{
    if (plan->real_size != backend->real_size) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan: %zu-byte reals on backend %s",
                         plan->real_size, backend->name);
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

mixt_status mixt_instance_create(const mixt_plan *plan, const mixt_backend *backend,
                                 const mixt_compute *compute, mixt_instance **result,
                                 mixt_error *error)
{
    *result = NULL;
    mixt_status status = check_kernels(plan, backend, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_instance *instance = calloc(1, sizeof *instance);
    if (instance == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    instance->plan = plan;
    instance->backend = backend;
    instance->compute = compute;
    instance->data = calloc((size_t)plan->value_count + 1, sizeof *instance->data);
    instance->packed = calloc((size_t)plan->value_count + 1, sizeof *instance->packed);
    instance->matrices = calloc((size_t)plan->value_count + 1, sizeof *instance->matrices);
    instance->calls = calloc((size_t)plan->record_count + 1, sizeof *instance->calls);
    instance->shapes = calloc((size_t)plan->record_count + 1, sizeof *instance->shapes);
    instance->memory = backend->allocate(plan->memory_size == 0 ? 64 : plan->memory_size);
    if (instance->data == NULL || instance->packed == NULL || instance->matrices == NULL ||
        instance->calls == NULL || instance->shapes == NULL || instance->memory == NULL) {
        mixt_instance_free(instance);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan %s: no memory for %.1f MB", plan->phase,
                         (double)plan->memory_size / 1e6);
    }
    for (int i = 0; i < plan->value_count; i++) {
        const mixt_value *value = &plan->values[i];
        if (value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT) {
            instance->data[i] = (char *)instance->memory + value->offset;
        }
    }
    *result = instance;
    return MIXT_OK;
}

void mixt_instance_free(mixt_instance *instance)
{
    if (instance == NULL) {
        return;
    }
    if (instance->memory != NULL) {
        instance->backend->release(instance->memory, instance->plan->memory_size);
    }
    free(instance->data);
    free(instance->packed);
    free(instance->matrices);
    free(instance->calls);
    free(instance->shapes);
    free(instance->seconds);
    free(instance);
}

void mixt_instance_bind(mixt_instance *instance, mixt_value_id value, void *data)
{
    if (value >= 0) {
        instance->data[value] = data;
        instance->resolved = false;
    }
}

void mixt_instance_bind_packed(mixt_instance *instance, mixt_value_id value,
                               const mixt_packed *const *packed)
{
    if (value >= 0) {
        instance->packed[value] = packed;
        instance->resolved = false;
    }
}

void mixt_instance_bind_matrices(mixt_instance *instance, mixt_value_id value,
                                 const mixt_matrix *matrices)
{
    if (value >= 0) {
        instance->matrices[value] = matrices;
        instance->resolved = false;
    }
}

void *mixt_instance_data(const mixt_instance *instance, mixt_value_id value)
{
    return value >= 0 ? instance->data[value] : NULL;
}

mixt_status mixt_instance_profile(mixt_instance *instance, mixt_error *error)
{
    free(instance->seconds);
    instance->seconds = calloc((size_t)instance->plan->record_count + 1, sizeof *instance->seconds);
    return instance->seconds != NULL ? MIXT_OK
                                     : mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
}

void mixt_instance_observe(mixt_instance *instance,
                           void (*observe)(void *user, const mixt_record *record,
                                           const mixt_call *call),
                           void *user)
{
    instance->observe = observe;
    instance->observe_user = user;
}

static void *pointer(const mixt_instance *instance, mixt_value_id id)
{
    return id >= 0 ? instance->data[id] : NULL;
}

static mixt_status resolve_record(mixt_instance *instance, int index, mixt_error *error)
{
    const mixt_plan *plan = instance->plan;
    const mixt_record *record = &plan->records[index];
    const mixt_operator *row = mixt_operator_row(record->op);
    mixt_call *call = &instance->calls[index];
    call->compute = instance->compute;
    call->attributes = &record->attributes;
    call->in_shape = instance->shapes[index][0];
    call->out_shape = instance->shapes[index][1];
    call->workspace = (char *)instance->memory + record->workspace_offset;
    for (int i = 0; i < MIXT_SLOTS; i++) {
        if (record->in[i] >= 0) {
            instance->shapes[index][0][i] = plan->values[record->in[i]].shape;
            call->packed[i] = instance->packed[record->in[i]];
            bool typed = (row->matrix_in >> i & 1) != 0 && record->pass != MIXT_PASS_BACKWARD;
            call->matrices[i] = typed ? instance->matrices[record->in[i]] : NULL;
        }
        if (record->out[i] >= 0) {
            instance->shapes[index][1][i] = plan->values[record->out[i]].shape;
        }
        call->in[i] = pointer(instance, record->in[i]);
        call->out[i] = pointer(instance, record->out[i]);
        call->d_in[i] = pointer(instance, record->d_in[i]);
        call->d_out[i] = pointer(instance, record->d_out[i]);
        call->add[i] = record->add[i];
        if ((record->in[i] >= 0 && call->in[i] == NULL && call->matrices[i] == NULL) ||
            (record->d_in[i] >= 0 && call->d_in[i] == NULL)) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan %s: %s: %s is not bound",
                             plan->phase, row->name, plan->values[record->in[i]].name);
        }
        if (record->pass == MIXT_PASS_BACKWARD) { /* what ops.def does not list may be gone */
            call->in[i] = (row->reads_in >> i & 1) != 0 ? call->in[i] : NULL;
            call->out[i] = (row->reads_out >> i & 1) != 0 ? call->out[i] : NULL;
        }
    }
    return MIXT_OK;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

mixt_status mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                              mixt_error *error)
{
    const mixt_plan *plan = instance->plan;
    if (tokens < 1 || tokens > plan->capacity) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan %s: %lld tokens is not in 1..%lld",
                         plan->phase, (long long)tokens, (long long)plan->capacity);
    }
    if (!instance->resolved) {
        for (int r = 0; r < plan->record_count; r++) {
            mixt_status status = resolve_record(instance, r, error);
            if (status != MIXT_OK) {
                return status;
            }
        }
        instance->resolved = true;
    }
    for (int r = from; r < to; r++) {
        const mixt_record *record = &plan->records[r];
        mixt_call *call = &instance->calls[r];
        call->tokens = tokens;
        double begin = instance->seconds != NULL ? now() : 0;
        if (record->pass == MIXT_PASS_BACKWARD) {
            instance->backend->backward[record->op](call);
        } else {
            instance->backend->forward[record->op](call);
        }
        if (instance->observe != NULL && record->pass == MIXT_PASS_FORWARD) {
            instance->backend->synchronise();
            instance->observe(instance->observe_user, record, call);
        }
        if (instance->seconds != NULL) {
            instance->backend->synchronise();
            instance->seconds[r] += now() - begin;
        }
    }
    instance->backend->synchronise();
    return MIXT_OK;
}
