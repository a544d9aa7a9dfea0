/* The parts of balancing that have one precision: sizes, and the loss-free bias. */
#include <assert.h>

#include "router/method.h"

/* for each chunk of rows: P [E], z */
int64_t mixt_balance_workspace(int64_t capacity, int64_t experts)
{
    return mixt_divide_up(capacity, MIXT_BALANCE_ROWS) * (experts + 1);
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
