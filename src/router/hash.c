/* Hash layers (Roller et al. 2021, arXiv 2106.04426): a token's experts are a function of its id
 * alone, drawn once and for all for each layer. What they weigh is the router's to learn; with one
 * expert and renormalised weights it is 1, as published. */
#include "router/method.h"

int64_t mixt_hash_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    (void)spec;
    (void)training;
    (void)capacity;
    return 0;
}

mixt_status mixt_hash_check(const mixt_router_spec *spec, mixt_error *error)
{
    MIXT_TRY(mixt_weigh_check(spec, error));
    MIXT_TRY(mixt_plain_check(spec, error));
    int left = 0;
    for (int e = 0; e < spec->experts; e++) {
        left += spec->mask == NULL || spec->mask[e] == 0;
    }
    if (left < spec->chosen) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: the mask leaves %d experts, %d are chosen per token", left,
                         spec->chosen);
    }
    return mixt_forced_check(spec, error);
}
