/* Token choice: every token takes its k best experts (best_tmpl.c). */
#include "router/method.h"

int64_t mixt_top_k_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    (void)spec;
    (void)training;
    (void)capacity;
    return 0;
}

mixt_status mixt_top_k_check(const mixt_router_spec *spec, mixt_error *error)
{
    return mixt_best_check(spec, error);
}
