/* Memory planned ahead. A value lives from the record that makes it to the last that reads or adds
 * to it, an input all the time; two values share bytes only when their lives do not meet. Placing
 * the largest first, each at the lowest offset that is free during its life, comes close to the
 * peak of live bytes. */
#include "plan/plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    size_t bytes, offset;
    int first, last;
    mixt_value_id value; /* or -1 for a workspace */
    int record;
} piece;

static bool planned(const mixt_value *value)
{
    return value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT ||
           value->kind == MIXT_VALUE_INPUT;
}

static void touch(mixt_plan *plan, mixt_value_id id, int record)
{
    if (id < 0) {
        return;
    }
    mixt_value *value = &plan->values[id];
    if (value->first < 0) {
        value->first = record;
    }
    value->last = record;
}

static void find_lives(mixt_plan *plan)
{
    for (int i = 0; i < plan->value_count; i++) {
        plan->values[i].first = -1;
        plan->values[i].last = -1;
    }
    for (int r = 0; r < plan->record_count; r++) {
        const mixt_record *record = &plan->records[r];
        const mixt_operator *row = mixt_operator_row(record->op);
        bool backward = record->pass == MIXT_PASS_BACKWARD;
        for (int i = 0; i < MIXT_SLOTS; i++) {
            if (!backward || (row->reads_in >> i & 1) != 0) {
                touch(plan, record->in[i], r);
            }
            if (!backward || (row->reads_out >> i & 1) != 0) {
                touch(plan, record->out[i], r);
            }
            if (backward) {
                touch(plan, record->d_in[i], r);
                touch(plan, record->d_out[i], r);
            }
        }
    }
    for (int i = 0; i < plan->value_count; i++) {
        mixt_value *value = &plan->values[i];
        value->used = value->last;
        if (value->kind == MIXT_VALUE_INPUT) { /* what was written stays for all runs */
            value->first = 0;
        }
        if (value->keep || value->kind == MIXT_VALUE_INPUT) {
            value->last = INT_MAX;
        }
    }
}

static int compare_pieces(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x->first != y->first ? (x->first < y->first ? -1 : 1)
                                : (x->value > y->value) - (x->value < y->value);
}

/* Lowest offset where `pieces[index]` meets none of the placed ones, which `placed` holds in
 * rising offset. */
static void place(piece *pieces, int index, int *placed, int *placed_count)
{
    piece *it = &pieces[index];
    size_t offset = 0;
    for (int i = 0; i < *placed_count; i++) {
        const piece *other = &pieces[placed[i]];
        if (other->last < it->first || other->first > it->last) {
            continue;
        }
        if (other->offset >= offset + it->bytes) {
            break;
        }
        if (other->offset + other->bytes > offset) {
            offset = other->offset + other->bytes;
        }
    }
    it->offset = offset;
    int at = *placed_count;
    while (at > 0 && pieces[placed[at - 1]].offset > offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = index;
    ++*placed_count;
}

static int collect(const mixt_plan *plan, piece *pieces)
{
    int count = 0;
    for (int i = 0; i < plan->value_count; i++) {
        const mixt_value *value = &plan->values[i];
        if (planned(value) && value->first >= 0 && value->bytes != 0) {
            pieces[count++] = (piece){
                mixt_round_up(value->bytes, MIXT_ALIGNMENT), 0, value->first, value->last, i, -1};
        }
    }
    for (int r = 0; r < plan->record_count; r++) {
        if (plan->records[r].workspace != 0) {
            pieces[count++] =
                (piece){mixt_round_up(plan->records[r].workspace, MIXT_ALIGNMENT), 0, r, r, -1, r};
        }
    }
    return count;
}

mixt_status mixt_plan_layout(mixt_plan *plan, mixt_error *error)
{
    find_lives(plan);
    size_t most = (size_t)plan->value_count + (size_t)plan->record_count + 1;
    piece *pieces = calloc(most, sizeof *pieces);
    int *placed = calloc(most, sizeof *placed);
    if (pieces == NULL || placed == NULL) {
        free(pieces);
        free(placed);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    int count = collect(plan, pieces);
    qsort(pieces, (size_t)count, sizeof *pieces, compare_pieces);
    int placed_count = 0;
    plan->memory_size = 0;
    for (int i = 0; i < count; i++) {
        place(pieces, i, placed, &placed_count);
        size_t end = pieces[i].offset + pieces[i].bytes;
        plan->memory_size = end > plan->memory_size ? end : plan->memory_size;
        if (pieces[i].value >= 0) {
            plan->values[pieces[i].value].offset = pieces[i].offset;
        } else {
            plan->records[pieces[i].record].workspace_offset = pieces[i].offset;
        }
    }
    free(pieces);
    free(placed);
    return MIXT_OK;
}
