/* Which rank steps what: ZeRO-1 (Rajbhandari et al. 2020, 1910.02054). Each region of the gradients
 * is cut into as many slices as ranks sum it. A rank gets the sum of its slice, has the moments of
 * that alone, steps it, and gives its weights to the others. */
#include <stdlib.h>
#include <string.h>

#include "model/parameters.h"
#include "train/trainer.h"

int mixt_train_region(const mixt_trainer *trainer, int parameter)
{
    const mixt_model *model = trainer->model;
    return model->ranks != NULL && model->ranks->expert > 1 &&
           mixt_slot_is_spread(model->parameters[parameter].slot);
}

static mixt_group group_of(int region)
{
    return region == 0 ? MIXT_GROUP_ALL : MIXT_GROUP_DATA;
}

mixt_group mixt_train_group(const mixt_trainer *trainer, int parameter)
{
    return group_of(mixt_train_region(trainer, parameter));
}

size_t mixt_train_unit(const mixt_parameter *p)
{
    bool many = p->rank == 3 || mixt_slot_is_spread(p->slot);
    return many ? p->count / (size_t)p->size[0] : p->count;
}

/* ------------------------------------------------------------------------------------------ */
/* Cutting                                                                                    */

/* A place among the gradients, and the same one among the weights. */
typedef struct cut {
    size_t gradient, weight;
} cut;

/* Where a slice may begin inside of a parameter, nearest to `offset` <= its count. Muon needs
 * matrices whole; elsewhere the parts of a norm are. */
static size_t nearest(const mixt_trainer *trainer, const mixt_parameter *p, size_t offset)
{
    size_t unit = mixt_train_unit(p), within = offset % unit;
    bool whole = mixt_train_uses_muon(trainer, p) || unit < MIXT_SQUARES_PART;
    size_t step = whole ? unit : MIXT_SQUARES_PART;
    size_t down = within / step * step, up = down + step < unit ? down + step : unit;
    return offset - within + (within - down <= up - within ? down : up);
}

/* Where a slice may begin, nearest to so many values of the gradients; at most the region's end. */
static cut find_cut(const mixt_trainer *trainer, int region, size_t target)
{
    const mixt_model *model = trainer->model;
    cut at = {0, 0};
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        size_t place = mixt_train_place(trainer, MIXT_TRAIN_GRADIENTS, i);
        size_t room = mixt_round_up(p->count, MIXT_ALIGNMENT / sizeof(float));
        if (mixt_train_region(trainer, i) != region || place == MIXT_NOWHERE) {
            continue;
        }
        at = (cut){place + room, p->offset + room};
        if (target < at.gradient) {
            size_t offset = target < place + p->count ? target - place : p->count;
            offset = nearest(trainer, p, offset);
            return offset < p->count ? (cut){place + offset, p->offset + offset} : at;
        }
    }
    return at;
}

/* A region begins where the one before it ends, its learning parameters first. */
static mixt_status cut_region(mixt_trainer *trainer, int region, size_t first, mixt_error *error)
{
    mixt_train_slices *slices = &trainer->slices;
    int places = mixt_group_size(trainer->ranks, group_of(region));
    size_t *begin = calloc((size_t)places + 1, sizeof *begin);
    size_t *weights = calloc((size_t)places + 1, sizeof *weights);
    slices->begin[region] = begin;
    slices->weights[region] = weights;
    if (begin == NULL || weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    size_t end = find_cut(trainer, region, SIZE_MAX).gradient;
    size_t values = end > first ? end - first : 0;
    for (int place = 0; place <= places; place++) {
        double share = (double)place / places;
        size_t target = place < places ? first + (size_t)(share * (double)values) : SIZE_MAX;
        cut at = find_cut(trainer, region, target);
        begin[place] = at.gradient;
        weights[place] = at.weight;
    }
    return MIXT_OK;
}

mixt_status mixt_train_slices_create(mixt_trainer *trainer, mixt_error *error)
{
    mixt_train_slices *slices = &trainer->slices;
    const mixt_backend *backend = mixt_device_backend(&trainer->context->device, sizeof(float));
    size_t used = 0, first = 0;
    for (int region = 0; region < MIXT_TRAIN_REGIONS && trainer->ranks != NULL; region++) {
        mixt_group group = group_of(region);
        int own = mixt_group_place(trainer->ranks, group);
        MIXT_TRY(cut_region(trainer, region, first, error));
        const size_t *begin = slices->begin[region];
        first = begin[mixt_group_size(trainer->ranks, group)];
        slices->summed[region] = mixt_group_size(trainer->ranks, group) > 1 ||
                                 (region == 0 && trainer->options.exact_reduce);
        slices->place[region] = used;
        used += slices->summed[region] ? begin[own + 1] - begin[own] : 0;
    }
    return trainer->ranks == NULL
               ? MIXT_OK
               : mixt_device_memory_create(backend,
                                           mixt_round_up(used * sizeof(float) + 1, MIXT_ALIGNMENT),
                                           &slices->sums, error);
}

void mixt_train_slices_free(mixt_trainer *trainer)
{
    mixt_device_memory_free(&trainer->slices.sums);
    for (int region = 0; region < MIXT_TRAIN_REGIONS; region++) {
        free(trainer->slices.begin[region]);
        free(trainer->slices.weights[region]);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Asking                                                                                     */

static size_t clamp(size_t value, size_t low, size_t high)
{
    return value < low ? low : value > high ? high : value;
}

mixt_train_range mixt_train_stepped(const mixt_trainer *trainer, int parameter, int place)
{
    size_t count = trainer->model->parameters[parameter].count;
    size_t first = mixt_train_place(trainer, MIXT_TRAIN_GRADIENTS, parameter);
    if (first == MIXT_NOWHERE) {
        return (mixt_train_range){0, 0};
    }
    if (trainer->ranks == NULL) {
        return (mixt_train_range){0, count};
    }
    const size_t *begin = trainer->slices.begin[mixt_train_region(trainer, parameter)] + place;
    return (mixt_train_range){clamp(begin[0], first, first + count) - first,
                              clamp(begin[1], first, first + count) - first};
}

static int own_place(const mixt_trainer *trainer, int region)
{
    return trainer->ranks != NULL ? mixt_group_place(trainer->ranks, group_of(region)) : 0;
}

mixt_train_range mixt_train_own(const mixt_trainer *trainer, int parameter)
{
    return mixt_train_stepped(trainer, parameter,
                              own_place(trainer, mixt_train_region(trainer, parameter)));
}

const mixt_device_memory *mixt_train_gradient(const mixt_trainer *trainer, int parameter,
                                              size_t *place)
{
    const mixt_train_slices *slices = &trainer->slices;
    int region = mixt_train_region(trainer, parameter);
    *place = mixt_train_place(trainer, MIXT_TRAIN_GRADIENTS, parameter) +
             mixt_train_own(trainer, parameter).begin;
    if (!slices->summed[region]) {
        return mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS);
    }
    *place += slices->place[region];
    *place -= slices->begin[region][own_place(trainer, region)];
    return &slices->sums;
}

/* ------------------------------------------------------------------------------------------ */
/* A step                                                                                     */

void mixt_train_clear(const mixt_trainer *trainer)
{
    mixt_device_memory_zero(mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS));
    if (trainer->ranks != NULL) {
        mixt_device_memory_zero(&trainer->slices.sums);
    }
}

void mixt_train_clear_run(const mixt_trainer *trainer)
{
    const mixt_device_memory *gradients = mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS);
    size_t end = trainer->slices.begin[0][mixt_group_size(trainer->ranks, MIXT_GROUP_ALL)];
    mixt_device_memory_clear(gradients, 0, end * sizeof(float));
}

/* With exact_reduce the last copy of the experts holds the totals of all of them after a run (the
 * operator experts): the first one goes on from there, or behind the last run each gets its slice.
 */
static mixt_status pass_totals(const mixt_trainer *trainer, float *values, float *sum, bool last,
                               mixt_error *error)
{
    const size_t *begin = trainer->slices.begin[1];
    int copies = mixt_group_size(trainer->ranks, MIXT_GROUP_DATA);
    int own = mixt_group_place(trainer->ranks, MIXT_GROUP_DATA);
    size_t bytes = (begin[copies] - begin[0]) * sizeof *values;
    if (!last) {
        return mixt_ranks_pass(trainer->ranks, MIXT_GROUP_DATA, copies - 1, 0, values + begin[0],
                               bytes, error);
    }
    if (own < copies - 1) {
        return mixt_ranks_pass(trainer->ranks, MIXT_GROUP_DATA, copies - 1, own, sum,
                               (begin[own + 1] - begin[own]) * sizeof *sum, error);
    }
    for (int place = 0; place < own; place++) {
        MIXT_TRY(mixt_ranks_pass(trainer->ranks, MIXT_GROUP_DATA, own, place, values + begin[place],
                                 (begin[place + 1] - begin[place]) * sizeof *values, error));
    }
    memcpy(sum, values + begin[own], (begin[copies] - begin[own]) * sizeof *sum);
    return MIXT_OK;
}

mixt_status mixt_train_reduce(const mixt_trainer *trainer, bool last, mixt_error *error)
{
    const mixt_train_slices *slices = &trainer->slices;
    const mixt_device_memory *gradients = mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS);
    void *values, *sums = NULL;
    MIXT_TRY(mixt_device_memory_map(gradients, &values, error));
    mixt_status status = mixt_device_memory_map(&slices->sums, &sums, error);
    for (int region = 0; region < MIXT_TRAIN_REGIONS && status == MIXT_OK; region++) {
        float *sum = (float *)sums + slices->place[region];
        if (slices->summed[region] && region == 1 && trainer->options.exact_reduce) {
            status = pass_totals(trainer, values, sum, last, error);
        } else if (slices->summed[region]) {
            status =
                mixt_ranks_reduce(trainer->ranks, group_of(region), values, slices->begin[region],
                                  sum, mixt_context_pool(trainer->context), error);
        }
    }
    mixt_device_memory_unmap(gradients, values, !last && trainer->options.exact_reduce);
    mixt_device_memory_unmap(&slices->sums, sums, true);
    return status;
}

mixt_status mixt_train_spread(const mixt_trainer *trainer, mixt_error *error)
{
    const mixt_device_memory *weights = mixt_train_memory(trainer, MIXT_TRAIN_WEIGHTS);
    void *values;
    mixt_status status = mixt_device_memory_map(weights, &values, error);
    for (int region = 0; region < MIXT_TRAIN_REGIONS && status == MIXT_OK; region++) {
        status = mixt_ranks_spread(trainer->ranks, group_of(region), values,
                                   trainer->slices.weights[region], error);
    }
    mixt_device_memory_unmap(weights, values, status == MIXT_OK);
    return status;
}
