/* Hash layers (Roller et al. 2021, arXiv 2106.04426): a token's experts are a function of its id
 * alone, drawn once and for all for each layer. What they weigh is the router's to learn; with one
 * expert and renormalised weights it is 1, as published. */
#include "router/method.h"

int64_t mixt_hash_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    (void)spec;
    (void)capacity;
    return 0;
}

mixt_status mixt_hash_check(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    MIXT_TRY(mixt_weigh_check(spec, error));
    if (options->groups != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: select hash has no groups, %d are asked for", options->groups);
    }
    if (options->select_bias || options->bias_rate != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: select hash sees no selection bias, so none can balance it");
    }
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
