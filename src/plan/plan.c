#include "plan/plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"

mixt_status mixt_plan_create(const char *phase, int64_t capacity, size_t real_size,
                             mixt_plan **result, mixt_error *error)
{
    *result = NULL;
    if (capacity < 1 || capacity > INT32_MAX / 2) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan: %lld tokens is not in 1..%d",
                         (long long)capacity, INT32_MAX / 2);
    }
    mixt_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    plan->phase = phase;
    plan->capacity = capacity;
    plan->real_size = real_size;
    *result = plan;
    return MIXT_OK;
}

void mixt_plan_free(mixt_plan *plan)
{
    if (plan != NULL) {
        free(plan->values);
        free(plan->records);
        free(plan);
    }
}

mixt_value *mixt_plan_new_value(mixt_plan *plan)
{
    if (!mixt_grow(&plan->values, &plan->value_capacity, (size_t)plan->value_count + 1,
                   sizeof *plan->values)) {
        mixt_fail(&plan->error, MIXT_ERROR_MEMORY, "plan: no memory");
        return NULL;
    }
    return &plan->values[plan->value_count];
}

mixt_record *mixt_plan_new_record(mixt_plan *plan)
{
    if (!mixt_grow(&plan->records, &plan->record_capacity, (size_t)plan->record_count + 1,
                   sizeof *plan->records)) {
        mixt_fail(&plan->error, MIXT_ERROR_MEMORY, "plan: no memory");
        return NULL;
    }
    return &plan->records[plan->record_count];
}

/* Bytes of a value at full capacity; false where they do not fit. */
static bool value_bytes(const mixt_plan *plan, const mixt_shape *shape, size_t *bytes)
{
    *bytes = shape->dtype == MIXT_ELEMENT_REAL   ? plan->real_size
             : shape->dtype == MIXT_ELEMENT_F64  ? sizeof(double)
             : shape->dtype == MIXT_ELEMENT_BYTE ? 1
                                                 : sizeof(int32_t);
    for (int i = 0; i < shape->rank; i++) {
        if (shape->size[i] < 0 || !mixt_multiply_size(*bytes, (size_t)shape->size[i], bytes)) {
            return false;
        }
    }
    return *bytes <= SIZE_MAX / 4;
}

static mixt_value_id add_value(mixt_plan *plan, const mixt_value *value)
{
    if (plan->error.status != MIXT_OK) {
        return MIXT_NO_VALUE;
    }
    mixt_value *slot = mixt_plan_new_value(plan);
    if (slot == NULL) {
        return MIXT_NO_VALUE;
    }
    *slot = *value;
    slot->gradient = MIXT_NO_VALUE;
    if (!value_bytes(plan, &slot->shape, &slot->bytes)) {
        mixt_fail(&plan->error, MIXT_ERROR_MEMORY, "plan: %s does not fit into memory", slot->name);
        return MIXT_NO_VALUE;
    }
    return plan->value_count++;
}

static mixt_value_id bound_value(mixt_plan *plan, mixt_value_kind kind, const char *name,
                                 const mixt_shape *shape)
{
    mixt_value value = {.kind = kind, .shape = *shape};
    snprintf(value.name, sizeof value.name, "%s", name);
    return add_value(plan, &value);
}

mixt_value_id mixt_plan_parameter(mixt_plan *plan, const char *name, int index, bool trainable,
                                  mixt_shape shape)
{
    mixt_value_id id = bound_value(plan, MIXT_VALUE_PARAMETER, name, &shape);
    if (id >= 0) {
        plan->values[id].index = index;
        plan->values[id].trainable = trainable;
    }
    return id;
}

mixt_value_id mixt_plan_input(mixt_plan *plan, const char *name, mixt_shape shape)
{
    return bound_value(plan, MIXT_VALUE_INPUT, name, &shape);
}

mixt_value_id mixt_plan_state(mixt_plan *plan, const char *name, mixt_shape shape)
{
    return bound_value(plan, MIXT_VALUE_STATE, name, &shape);
}

void mixt_plan_keep(mixt_plan *plan, mixt_value_id value)
{
    if (value >= 0) {
        plan->values[value].keep = true;
    }
}

static void fail_in_layer(mixt_plan *plan, const mixt_operation *operation, const mixt_error *inner)
{
    const char *name = mixt_operator_row(operation->op)->name;
    if (operation->layer >= 0) {
        mixt_fail(&plan->error, inner->status, "plan: layer %d: %s: %s", operation->layer, name,
                  inner->message);
    } else {
        mixt_fail(&plan->error, inner->status, "plan: %s: %s", name, inner->message);
    }
}

/* The values that an operation makes, by its shape rule; the request keeps the workspace. */
static void make_outputs(mixt_plan *plan, const mixt_operation *operation,
                         mixt_shape_request *request, mixt_value_id made[MIXT_SLOTS])
{
    const mixt_operator *row = mixt_operator_row(operation->op);
    mixt_error inner = MIXT_ERROR_INIT;
    for (int i = 0; i < row->inputs && plan->error.status == MIXT_OK; i++) {
        assert(operation->in[i] < plan->value_count);
        if (operation->in[i] >= 0) {
            request->in[i] = plan->values[operation->in[i]].shape;
        }
    }
    if (plan->error.status == MIXT_OK && row->shape(request, &inner) != MIXT_OK) {
        fail_in_layer(plan, operation, &inner);
    }
    for (int i = 0; i < row->outputs && plan->error.status == MIXT_OK; i++) {
        mixt_value value = {.kind = MIXT_VALUE_ACTIVATION, .shape = request->out[i]};
        snprintf(value.name, sizeof value.name, i == 0 ? "%s" : "%s.%d", row->name, i);
        made[i] = add_value(plan, &value);
    }
}

void mixt_plan_operator(mixt_plan *plan, const mixt_operation *operation, mixt_value_id *out)
{
    const mixt_operator *row = mixt_operator_row(operation->op);
    mixt_shape_request request = {.attributes = operation->attributes, .capacity = plan->capacity};
    mixt_value_id made[MIXT_SLOTS];
    for (int i = 0; i < MIXT_SLOTS; i++) {
        made[i] = MIXT_NO_VALUE;
    }
    make_outputs(plan, operation, &request, made);
    mixt_record *record = plan->error.status == MIXT_OK ? mixt_plan_new_record(plan) : NULL;
    if (record != NULL) {
        plan->record_count++;
        *record = (mixt_record){.op = operation->op,
                                .layer = operation->layer,
                                .recompute = operation->recompute,
                                .attributes = *operation->attributes,
                                .workspace = (size_t)request.forward_workspace * plan->real_size};
        for (int i = 0; i < MIXT_SLOTS; i++) {
            record->in[i] = i < row->inputs ? operation->in[i] : MIXT_NO_VALUE;
            record->out[i] = made[i];
            record->d_in[i] = record->d_out[i] = MIXT_NO_VALUE;
        }
        plan->forward_count = plan->record_count;
    }
    for (int i = 0; out != NULL && i < row->outputs; i++) {
        out[i] = made[i];
    }
}

mixt_status mixt_plan_finish(mixt_plan *plan, mixt_error *error)
{
    if (plan->error.status != MIXT_OK) {
        return mixt_fail(error, plan->error.status, "%s", plan->error.message);
    }
    return mixt_plan_layout(plan, error);
}

static void record_shapes(const mixt_plan *plan, const mixt_record *record,
                          mixt_shape in[MIXT_SLOTS], mixt_shape out[MIXT_SLOTS])
{
    for (int i = 0; i < MIXT_SLOTS; i++) {
        in[i] = record->in[i] >= 0 ? plan->values[record->in[i]].shape : (mixt_shape){0};
        out[i] = record->out[i] >= 0 ? plan->values[record->out[i]].shape : (mixt_shape){0};
    }
}

void mixt_plan_cost(const mixt_plan *plan, int index, int64_t tokens, const double *value_bytes,
                    double *flops, double *bytes)
{
    const mixt_record *record = &plan->records[index];
    mixt_shape in[MIXT_SLOTS], out[MIXT_SLOTS];
    double in_bytes[MIXT_SLOTS];
    record_shapes(plan, record, in, out);
    for (int i = 0; i < MIXT_SLOTS; i++) {
        in[i].size[0] = in[i].picked ? mixt_least(in[i].size[0], tokens) : in[i].size[0];
        out[i].size[0] = out[i].picked ? mixt_least(out[i].size[0], tokens) : out[i].size[0];
        const mixt_value *value = record->in[i] >= 0 ? &plan->values[record->in[i]] : NULL;
        bool given = value_bytes != NULL && value != NULL && value->kind == MIXT_VALUE_PARAMETER;
        in_bytes[i] = given ? value_bytes[value->index] : sizeof(float);
    }
    mixt_cost_request request = {&record->attributes, in, out, tokens, in_bytes};
    mixt_cost cost = {0};
    mixt_operator_row(record->op)->cost(&request, &cost);
    bool backward = record->pass == MIXT_PASS_BACKWARD;
    *flops = backward ? cost.backward_flops : cost.forward_flops;
    *bytes = backward ? cost.backward_bytes : cost.forward_bytes;
}

static void print_value(mixt_buffer *buffer, const mixt_plan *plan, mixt_value_id id)
{
    if (id < 0) {
        mixt_buffer_text(buffer, " -");
        return;
    }
    const mixt_value *value = &plan->values[id];
    mixt_buffer_format(buffer, " %%%d:%s[", id, value->name);
    for (int i = 0; i < value->shape.rank; i++) {
        mixt_buffer_format(buffer, "%s%lld", i == 0 ? "" : ",", (long long)value->shape.size[i]);
    }
    mixt_buffer_text(buffer, "]");
}

static void print_record(mixt_buffer *buffer, const mixt_plan *plan, int index)
{
    static const char *const pass_names[] = {"forward", "recompute", "backward"};
    const mixt_record *record = &plan->records[index];
    const mixt_operator *row = mixt_operator_row(record->op);
    double flops, bytes;
    mixt_plan_cost(plan, index, plan->capacity, NULL, &flops, &bytes);
    mixt_buffer_format(buffer, "%4d  ", index);
    if (record->layer >= 0) {
        mixt_buffer_format(buffer, "layer %-3d ", record->layer);
    } else {
        mixt_buffer_text(buffer, "          ");
    }
    mixt_buffer_format(buffer, "%-9s %-9s%s %8.1f MFLOP %8.2f MB  ", row->name,
                       pass_names[record->pass], record->recompute ? "*" : " ", flops / 1e6,
                       bytes / 1e6);
    if (record->pass == MIXT_PASS_BACKWARD) {
        for (int i = 0; i < row->inputs; i++) {
            if (record->d_in[i] >= 0) {
                mixt_buffer_text(buffer, record->add[i] ? " +=" : " =");
                print_value(buffer, plan, record->d_in[i]);
            }
        }
    } else {
        for (int i = 0; i < row->outputs; i++) {
            print_value(buffer, plan, record->out[i]);
        }
        mixt_buffer_text(buffer, " <-");
        for (int i = 0; i < row->inputs; i++) {
            print_value(buffer, plan, record->in[i]);
        }
    }
    mixt_buffer_text(buffer, "\n");
}

mixt_status mixt_plan_print(const mixt_plan *plan, char **text, mixt_error *error)
{
    *text = NULL;
    mixt_buffer buffer = {0};
    size_t unshared = 0;
    double flops = 0;
    for (int i = 0; i < plan->value_count; i++) {
        const mixt_value *value = &plan->values[i];
        if (value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT) {
            unshared += value->bytes;
        }
    }
    for (int i = 0; i < plan->record_count; i++) {
        double one, bytes;
        mixt_plan_cost(plan, i, plan->capacity, NULL, &one, &bytes);
        flops += one;
    }
    mixt_buffer_format(&buffer,
                       "plan %s: %lld token%s, %d records (%d forward), %d values, %.3g GFLOP, "
                       "%.3g MB of memory (%.3g MB without sharing); * = recomputed in backward\n",
                       plan->phase, (long long)plan->capacity, plan->capacity == 1 ? "" : "s",
                       plan->record_count, plan->forward_count, plan->value_count, flops / 1e9,
                       (double)plan->memory_size / 1e6, (double)unshared / 1e6);
    for (int i = 0; i < plan->record_count; i++) {
        print_record(&buffer, plan, i);
    }
    mixt_buffer_append(&buffer, "", 1);
    if (buffer.failed) {
        mixt_buffer_free(&buffer);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    *text = buffer.data;
    return MIXT_OK;
}
