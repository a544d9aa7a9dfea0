/* What methods check of a spec alike. */
#include "router/method.h"

mixt_status mixt_weigh_check(const mixt_router_spec *spec, mixt_error *error)
{
    switch (spec->options.score) {
    case MIXT_SCORE_SOFTMAX:
    case MIXT_SCORE_TOP_K_SOFTMAX:
    case MIXT_SCORE_SIGMOID:
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: score %d is not known",
                     (int)spec->options.score);
}

mixt_status mixt_plain_check(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    const char *name = mixt_router_select_name(options->select);
    if (options->groups != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: select %s has no groups, %d are asked for", name,
                         options->groups);
    }
    if (options->select_bias || options->bias_rate != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: select %s sees no selection bias, so none can balance it", name);
    }
    return MIXT_OK;
}

mixt_status mixt_forced_check(const mixt_router_spec *spec, mixt_error *error)
{
    for (int j = 0; j < spec->chosen && spec->forced != NULL; j++) {
        int32_t id = spec->forced[j];
        if (id < -1 || id >= spec->experts) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: forced expert %d is not in 0..%d",
                             id, spec->experts - 1);
        }
        if (id >= 0 && spec->mask != NULL && spec->mask[id] != 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: expert %d is forced and masked",
                             id);
        }
        for (int i = 0; i < j && id >= 0; i++) {
            if (spec->forced[i] == id) {
                return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: expert %d is forced twice",
                                 id);
            }
        }
    }
    return MIXT_OK;
}
