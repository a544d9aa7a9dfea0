/* The dense soft mixture (Jacobs, Jordan, Nowlan & Hinton 1991): every expert of every token,
 * weighed by the router's scores. */
#include "router/method.h"

int64_t mixt_all_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    (void)spec;
    (void)training;
    (void)capacity;
    return 0;
}

mixt_status mixt_all_check(const mixt_router_spec *spec, mixt_error *error)
{
    MIXT_TRY(mixt_weigh_check(spec, error));
    MIXT_TRY(mixt_plain_check(spec, error));
    int left = 0;
    for (int e = 0; e < spec->experts; e++) {
        left += spec->mask == NULL || spec->mask[e] == 0;
    }
    if (spec->chosen != spec->experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: select all takes %d experts per token, %d are asked for",
                         spec->experts, spec->chosen);
    }
    for (int j = 0; j < spec->chosen && spec->forced != NULL; j++) {
        if (spec->forced[j] != -1) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "router: select all has every expert, none can be forced");
        }
    }
    return left > 0 ? MIXT_OK
                    : mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: the mask leaves no expert");
}
