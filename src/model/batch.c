#include "model/batch.h"

#include <assert.h>
#include <stdlib.h>

#include "ops/pages.h"

#define ARRAYS 12 /* by row */

static mixt_status create(int64_t capacity, int64_t takes, int64_t pages, mixt_batch *batch,
                          mixt_error *error)
{
    size_t count = (size_t)(ARRAYS * capacity + takes + pages);
    int32_t *all = calloc(count, sizeof *all);
    *batch = (mixt_batch){0};
    if (all == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "batch: no memory for %lld rows",
                         (long long)capacity);
    }
    *batch = (mixt_batch){.capacity = capacity,
                          .tokens = all,
                          .positions = all + capacity,
                          .first = all + 2 * capacity,
                          .last = all + 3 * capacity,
                          .windowed = all + 4 * capacity,
                          .targets = all + 5 * capacity,
                          .slots = all + 6 * capacity,
                          .sequence = all + 7 * capacity,
                          .variant = all + 8 * capacity,
                          .expanded = all + 9 * capacity,
                          .absorbed_first = all + 10 * capacity,
                          .expanded_first = all + 11 * capacity,
                          .takes = takes,
                          .take = all + ARRAYS * capacity,
                          .pages = all + ARRAYS * capacity + takes};
    return MIXT_OK;
}

mixt_status mixt_batch_create(int64_t capacity, int64_t takes, mixt_batch *batch, mixt_error *error)
{
    return create(capacity, takes, 0, batch, error);
}

mixt_status mixt_batch_create_paged(const mixt_graph *graph, mixt_batch *batch, mixt_error *error)
{
    const mixt_shape *table = &graph->plan->values[graph->pages].shape;
    int64_t takes = graph->plan->values[graph->take].shape.size[0];
    int64_t pages = table->size[0] * table->size[1];
    MIXT_TRY(create(graph->options.capacity, takes, pages, batch, error));
    batch->sequences = table->size[0];
    batch->pages_per_sequence = table->size[1];
    for (int64_t i = 0; i < pages; i++) {
        batch->pages[i] = -1;
    }
    return MIXT_OK;
}

void mixt_batch_place(mixt_batch *batch, int64_t row, int32_t token, int64_t sequence,
                      int64_t position)
{
    assert(row >= 0 && row < batch->capacity && sequence < batch->sequences);
    batch->tokens[row] = token;
    batch->sequence[row] = (int32_t)sequence;
    batch->first[row] = 0;
    batch->expanded[row] = 0;
    batch->positions[row] = batch->last[row] = (int32_t)position;
    batch->slots[row] =
        (int32_t)mixt_cache_row(batch->pages, batch->pages_per_sequence, sequence, position);
}

void mixt_batch_free(mixt_batch *batch)
{
    free(batch->tokens); /* the head of the one block */
    *batch = (mixt_batch){0};
}

void mixt_batch_sequence(mixt_batch *batch, int64_t row, int64_t count)
{
    assert(row >= 0 && row + count <= batch->capacity);
    for (int64_t i = 0; i < count; i++) {
        batch->positions[row + i] = (int32_t)i;
        batch->first[row + i] = (int32_t)row;
        batch->last[row + i] = (int32_t)(row + i);
    }
}

void mixt_batch_nothing(mixt_batch *batch, int64_t row, int64_t end)
{
    assert(row >= 0 && end <= batch->capacity);
    for (; row < end; row++) {
        batch->tokens[row] = batch->positions[row] = 0;
        batch->first[row] = batch->last[row] = (int32_t)row;
        batch->targets[row] = -1;
    }
}

/* The first key of each row in layers with a sliding window. */
static void fill_windowed(mixt_batch *batch, int window)
{
    for (int64_t i = 0; i < batch->rows; i++) {
        int32_t begin = batch->last[i] - window + 1;
        batch->windowed[i] = begin > batch->first[i] ? begin : batch->first[i];
    }
}

/* The first key of each row in the form of latent attention that it has; in the other it sees
 * nothing. */
static void fill_forms(mixt_batch *batch)
{
    for (int64_t i = 0; i < batch->rows; i++) {
        int32_t none = batch->last[i] + 1;
        batch->absorbed_first[i] = batch->expanded[i] != 0 ? none : batch->first[i];
        batch->expanded_first[i] = batch->expanded[i] != 0 ? batch->first[i] : none;
    }
}

void mixt_batch_write(mixt_batch *batch, const mixt_graph *graph, mixt_instance *instance)
{
    assert(batch->rows > 0 && batch->rows <= batch->capacity);
    assert(batch->rows <= graph->options.capacity);
    if (graph->first_windowed != MIXT_NO_VALUE) {
        fill_windowed(batch, graph->model->options.attention.window);
    }
    if (graph->first_expanded != MIXT_NO_VALUE) {
        fill_forms(batch);
    }
    const struct {
        mixt_value_id value;
        const int32_t *from;
    } arrays[] = {
        {graph->tokens, batch->tokens},
        {graph->positions, batch->positions},
        {graph->first, batch->first},
        {graph->last, batch->last},
        {graph->first_windowed, batch->windowed},
        {graph->first_absorbed, batch->absorbed_first},
        {graph->first_expanded, batch->expanded_first},
        {graph->targets, batch->targets},
        {graph->slots, batch->slots},
        {graph->sequence, batch->sequence},
        {graph->variant == graph->sequence ? MIXT_NO_VALUE : graph->variant, batch->variant},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        mixt_instance_write(instance, arrays[i].value, arrays[i].from,
                            (size_t)batch->rows * sizeof(int32_t));
    }
    if (graph->pages != MIXT_NO_VALUE) {
        const mixt_shape *table = &graph->plan->values[graph->pages].shape;
        assert(batch->sequences == table->size[0] && batch->pages_per_sequence == table->size[1]);
        mixt_instance_write(instance, graph->pages, batch->pages,
                            (size_t)(table->size[0] * table->size[1]) * sizeof(int32_t));
    }
    if (graph->take != MIXT_NO_VALUE) {
        assert(batch->takes <= graph->plan->values[graph->take].shape.size[0]);
        mixt_instance_take(instance, batch->takes);
        mixt_instance_write(instance, graph->take, batch->take,
                            (size_t)batch->takes * sizeof(int32_t));
    }
}
