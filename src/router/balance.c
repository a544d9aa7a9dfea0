/* The parts of balancing that have one precision: sizes, the biases of both loss-free ways,
 * Skywork's coefficient. */
#include <assert.h>

#include "router/method.h"

/* for each chunk of rows: P [E], z */
int64_t mixt_balance_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    return mixt_divide_up(capacity, MIXT_BALANCE_ROWS) * (spec->experts + 1);
}

int64_t mixt_balance_ranks_workspace(const mixt_router_spec *spec, const mixt_ranks *ranks)
{
    return ranks == NULL ? 0 : (int64_t)mixt_group_size(ranks, MIXT_GROUP_ALL) * spec->experts;
}

int64_t mixt_balance_backward_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    bool reads_sums = spec->options.balance == MIXT_BALANCE_SKYWORK;
    return reads_sums ? mixt_balance_workspace(spec, capacity) : 0;
}

void mixt_router_update_bias(float *bias, const int64_t *counts, int experts, double rate)
{
    int64_t total = 0;
    for (int e = 0; e < experts; e++) {
        assert(counts[e] >= 0);
        total += counts[e];
    }
    for (int e = 0; e < experts; e++) {
        int64_t load = counts[e] * experts;
        bias[e] += (float)(load < total ? rate : load > total ? -rate : 0);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Quantile balancing                                                                         */

void mixt_router_required_bias(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                               const float *logits, const float *bias, float *required)
{
    int experts = spec->experts, cut = spec->chosen;
    float scores[MIXT_EXPERTS_MAX], biased[MIXT_EXPERTS_MAX], log_sum;
    int32_t ids[MIXT_EXPERTS_MAX];
    assert(cut < experts && experts <= MIXT_EXPERTS_MAX);
    bool finite = mixt_row_scores_f32(kernels, spec, logits, scores, &log_sum);
    bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
    const float *by = after || !finite ? logits : scores; /* the latter: the step is skipped */
    kernels->add(experts, biased, by, bias);
    mixt_select_top_k_f32(biased, experts, cut + 1, ids);
    for (int e = 0; e < experts; e++) {
        required[e] = biased[ids[cut]] - by[e];
    }
}

static void swap(float *values, int64_t a, int64_t b)
{
    float held = values[a];
    values[a] = values[b];
    values[b] = held;
}

/* Reorders values so that the place-th smallest is at its place, smaller ones before it, larger
 * ones behind it (Hoare 1961). */
static void find_place(float *values, int64_t count, int64_t place)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        float middle = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            for (; values[i] < middle; i++) {
            }
            for (; values[j] > middle; j--) {
            }
            if (i <= j) {
                swap(values, i++, j--);
            }
        }
        /* [low, j] <= middle, what is between them is middle, [i, high] >= middle */
        low = place <= j ? low : place >= i ? i : place;
        high = place >= i ? high : place <= j ? j : place;
    }
}

double mixt_router_quantile(float *values, int64_t count, double share)
{
    double at = share * (double)(count - 1);
    int64_t place = (int64_t)at;
    find_place(values, count, place);
    double below = (double)values[place], above = below;
    for (int64_t i = place + 1; i < count; i++) {
        above = i == place + 1 || (double)values[i] < above ? (double)values[i] : above;
    }
    return below + (at - (double)place) * (above - below);
}

void mixt_router_centre(double *bias, int experts, float *centred)
{
    double mean = 0;
    for (int e = 0; e < experts; e++) {
        mean += bias[e] / experts;
    }
    for (int e = 0; e < experts; e++) {
        centred[e] = (float)(bias[e] - mean);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Skywork's coefficient (2406.06563, equations 7 to 9)                                       */

int64_t mixt_router_dropped(const int32_t *counts, int experts, int64_t capacity)
{
    int64_t dropped = 0;
    for (int e = 0; e < experts; e++) {
        dropped += counts[e] > capacity ? counts[e] - capacity : 0;
    }
    return dropped;
}

double mixt_router_adapt(double coefficient, double drop_rate, double most)
{
    double wanted = drop_rate / 5;
    return 0.99 * coefficient + 0.01 * (wanted < most ? wanted : most);
}
