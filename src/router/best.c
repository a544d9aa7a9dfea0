/* Choosing the k best of a row: which specs have as many. */
#include "router/method.h"

/* Experts of a group that may be chosen. */
static int count_allowed(const mixt_router_spec *spec, int group)
{
    int groups = spec->options.groups > 0 ? spec->options.groups : 1;
    int size = spec->experts / groups, allowed = 0;
    for (int e = group * size; e < (group + 1) * size; e++) {
        allowed += spec->mask == NULL || spec->mask[e] == 0;
    }
    return allowed;
}

static mixt_status check_groups(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    if (options->groups < 0 || options->groups > spec->experts ||
        spec->experts % options->groups != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %d groups do not divide %d experts",
                         options->groups, spec->experts);
    }
    int size = spec->experts / options->groups;
    if (options->groups_used < 1 || options->groups_used > options->groups) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: groups_used %d is not in 1..%d",
                         options->groups_used, options->groups);
    }
    if (options->group_score != MIXT_GROUP_MAX && options->group_score != MIXT_GROUP_TOP_TWO) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: group score %d is not known",
                         (int)options->group_score);
    }
    if (options->group_score == MIXT_GROUP_TOP_TWO && size < 2) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: groups of 1 expert have no two best to add up");
    }
    if (options->groups_used * size < spec->chosen) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: %d groups of %d experts are less than the %d experts per token",
                         options->groups_used, size, spec->chosen);
    }
    return MIXT_OK;
}

/* Whatever groups are best, k experts of them have to be left: counts the poorest ones. */
static mixt_status check_mask(const mixt_router_spec *spec, mixt_error *error)
{
    bool grouped = spec->options.groups > 0;
    int groups = grouped ? spec->options.groups : 1, used = grouped ? spec->options.groups_used : 1;
    int size = spec->experts / groups, left = 0, taken = 0;
    for (int allowed = 1; allowed <= size && taken < used; allowed++) {
        for (int group = 0; group < groups && taken < used; group++) {
            if (count_allowed(spec, group) == allowed) {
                left += allowed;
                taken++;
            }
        }
    }
    if (left < spec->chosen) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: the mask leaves %d experts%s, %d are chosen per token", left,
                         grouped ? " in some groups" : "", spec->chosen);
    }
    return MIXT_OK;
}

mixt_status mixt_best_check(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    MIXT_TRY(mixt_weigh_check(spec, error));
    MIXT_TRY(options->groups != 0 ? check_groups(spec, error) : MIXT_OK);
    MIXT_TRY(spec->mask != NULL ? check_mask(spec, error) : MIXT_OK);
    return mixt_forced_check(spec, error);
}
