/* The reverse walk. For each forward record from the last to the first, if a gradient reached one
 * of its outputs and one of its inputs wants one, the operator's backward record is emitted. Where
 * it reads a value whose maker is flagged `recompute`, that maker is emitted again first. */
#include "plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct walk {
    mixt_plan *plan;
    int forward_count;
    bool *wants;          /* of each forward value: a trainable parameter lies behind it */
    int *maker;           /* record that made each forward value, -1 for bound ones */
    mixt_value_id *again; /* its recomputed copy, or itself */
    int value_count;      /* forward values */
} walk;

/* A value like `id`. */
static mixt_value_id new_value(mixt_plan *plan, mixt_value_id id, mixt_value_kind kind,
                               const char *prefix)
{
    mixt_value *value = mixt_plan_new_value(plan);
    if (value == NULL) {
        return MIXT_NO_VALUE;
    }
    const mixt_value *like = &plan->values[id];
    *value = *like;
    value->kind = kind;
    value->gradient = MIXT_NO_VALUE;
    value->keep = false;
    char name[sizeof value->name];
    snprintf(name, sizeof name, "%s%.30s", prefix, like->name);
    memcpy(value->name, name, sizeof name);
    return plan->value_count++;
}

/* `like` may be one of the plan's own. */
static mixt_record *new_record(mixt_plan *plan, const mixt_record *like, mixt_pass pass)
{
    mixt_record copy = *like;
    mixt_record *record = mixt_plan_new_record(plan);
    if (record != NULL) {
        copy.pass = pass;
        copy.recompute = false;
        *record = copy;
        plan->record_count++;
    }
    return record;
}

/* The id under which a forward value can be read now, emitting its maker again where flagged. */
static mixt_value_id readable(walk *w, mixt_value_id id)
{
    mixt_plan *plan = w->plan;
    if (id < 0 || w->maker[id] < 0 || !plan->records[w->maker[id]].recompute) {
        return id;
    }
    if (w->again[id] != id) {
        return w->again[id];
    }
    const mixt_record *first = &plan->records[w->maker[id]];
    mixt_value_id in[MIXT_SLOTS], out[MIXT_SLOTS], old[MIXT_SLOTS];
    memcpy(old, first->out, sizeof old);
    for (int i = 0; i < MIXT_SLOTS; i++) { /* as deep as a chain of flagged records */
        in[i] = readable(w, plan->records[w->maker[id]].in[i]);
    }
    for (int i = 0; i < MIXT_SLOTS; i++) {
        out[i] =
            old[i] < 0 ? MIXT_NO_VALUE : new_value(plan, old[i], MIXT_VALUE_ACTIVATION, "again.");
        if (old[i] >= 0) {
            w->again[old[i]] = out[i];
        }
    }
    mixt_record *record = new_record(plan, &plan->records[w->maker[id]], MIXT_PASS_RECOMPUTE);
    if (record == NULL) {
        return id;
    }
    memcpy(record->in, in, sizeof in);
    memcpy(record->out, out, sizeof out);
    return w->again[id];
}

static mixt_status refuse(const mixt_record *record, mixt_error *error)
{
    const char *name = mixt_operator_row(record->op)->name;
    if (record->layer >= 0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "plan: layer %d: %s has no backward but lies on a gradient path",
                         record->layer, name);
    }
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                     "plan: %s has no backward but lies on a gradient path", name);
}

static size_t backward_workspace(const mixt_plan *plan, const mixt_record *record)
{
    mixt_shape_request request = {.attributes = &record->attributes, .capacity = plan->capacity};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        if (record->in[i] >= 0) {
            request.in[i] = plan->values[record->in[i]].shape;
        }
        request.wanted |= record->d_in[i] >= 0 ? 1U << i : 0;
    }
    mixt_operator_row(record->op)->shape(&request, NULL); /* accepted when it was built */
    return (size_t)request.backward_workspace * plan->real_size;
}

/* Where the gradient of input `id` goes: a parameter's sum, or an activation's value. */
static mixt_value_id gradient_of(mixt_plan *plan, mixt_value_id id, bool *add)
{
    mixt_value *value = &plan->values[id];
    bool parameter = value->kind == MIXT_VALUE_PARAMETER;
    *add = parameter || value->gradient != MIXT_NO_VALUE;
    if (value->gradient == MIXT_NO_VALUE) {
        mixt_value_id made = new_value(
            plan, id, parameter ? MIXT_VALUE_PARAMETER_GRADIENT : MIXT_VALUE_GRADIENT, "d.");
        plan->values[id].gradient = made; /* new_value may have moved the array */
    }
    return plan->values[id].gradient;
}

static mixt_status emit_backward(walk *w, int index, mixt_value_id root, mixt_error *error)
{
    mixt_plan *plan = w->plan;
    mixt_record forward = plan->records[index];
    const mixt_operator *row = mixt_operator_row(forward.op);
    bool reached = false, wanted = false;
    for (int i = 0; i < MIXT_SLOTS; i++) {
        reached = reached ||
                  (forward.out[i] >= 0 && (forward.out[i] == root ||
                                           plan->values[forward.out[i]].gradient != MIXT_NO_VALUE));
        wanted = wanted || (forward.in[i] >= 0 && w->wants[forward.in[i]]);
    }
    if (!reached || !wanted) {
        return MIXT_OK;
    }
    if (!row->has_backward) {
        return refuse(&forward, error);
    }
    mixt_record backward = forward;
    for (int i = 0; i < MIXT_SLOTS; i++) {
        backward.d_out[i] =
            forward.out[i] >= 0 ? plan->values[forward.out[i]].gradient : MIXT_NO_VALUE;
        if (i >= row->inputs || (row->reads_in >> i & 1) == 0) {
            /* still named so that shapes are known, but not kept alive: see layout */
            backward.in[i] = forward.in[i];
        } else {
            backward.in[i] = readable(w, forward.in[i]);
        }
    }
    for (int i = 0; i < row->outputs; i++) {
        if ((row->reads_out >> i & 1) != 0) {
            backward.out[i] = readable(w, forward.out[i]);
        }
    }
    for (int i = 0; i < row->inputs; i++) {
        if (forward.in[i] >= 0 && w->wants[forward.in[i]]) {
            backward.d_in[i] = gradient_of(plan, forward.in[i], &backward.add[i]);
        }
    }
    backward.workspace = backward_workspace(plan, &backward);
    new_record(plan, &backward, MIXT_PASS_BACKWARD);
    return plan->error.status == MIXT_OK
               ? MIXT_OK
               : mixt_fail(error, plan->error.status, "%s", plan->error.message);
}

static void find_wanting(walk *w)
{
    mixt_plan *plan = w->plan;
    for (int i = 0; i < w->value_count; i++) {
        w->wants[i] = plan->values[i].kind == MIXT_VALUE_PARAMETER && plan->values[i].trainable;
        w->maker[i] = -1;
        w->again[i] = i;
    }
    for (int r = 0; r < w->forward_count; r++) {
        const mixt_record *record = &plan->records[r];
        bool any = false;
        for (int i = 0; i < MIXT_SLOTS; i++) {
            any = any || (record->in[i] >= 0 && w->wants[record->in[i]]);
        }
        for (int i = 0; i < MIXT_SLOTS; i++) {
            if (record->out[i] >= 0) {
                w->maker[record->out[i]] = r;
                w->wants[record->out[i]] =
                    any && plan->values[record->out[i]].shape.dtype == MIXT_ELEMENT_REAL;
            }
        }
    }
}

mixt_status mixt_plan_differentiate(mixt_plan *plan, mixt_value_id root, mixt_error *error)
{
    if (plan->error.status != MIXT_OK || root < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s",
                         plan->error.status != MIXT_OK ? plan->error.message
                                                       : "plan: no root to differentiate");
    }
    walk w = {.plan = plan, .forward_count = plan->record_count, .value_count = plan->value_count};
    size_t count = (size_t)w.value_count;
    w.wants = calloc(count, sizeof *w.wants);
    w.maker = calloc(count, sizeof *w.maker);
    w.again = calloc(count, sizeof *w.again);
    mixt_status status = MIXT_OK;
    if (w.wants == NULL || w.maker == NULL || w.again == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    } else {
        find_wanting(&w);
        if (!w.wants[root]) {
            status =
                mixt_fail(error, MIXT_ERROR_ARGUMENT, "plan: nothing to train before the loss");
        }
    }
    for (int r = w.forward_count - 1; r >= 0 && status == MIXT_OK; r--) {
        status = emit_backward(&w, r, root, error);
    }
    free(w.wants);
    free(w.maker);
    free(w.again);
    return status;
}
