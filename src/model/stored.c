/* A model within a limit of memory: its experts in a store, all else resident. */
#include <string.h>

#include "core/error.h"
#include "core/platform.h"
#include "model/model.h"
#include "store/policy.h"

mixt_status mixt_model_store(mixt_model *model, const mixt_store_options *options,
                             mixt_error *error)
{
    (void)model;
    return MIXT_CHECK_RESERVED(mixt_store_options, options, error);
}

bool mixt_store_describe(const mixt_model *model, mixt_store_statistics *statistics)
{
    (void)model;
    memset(statistics, 0, sizeof *statistics);
    return false;
}

void mixt_store_reset(mixt_model *model)
{
    (void)model;
}

mixt_status mixt_store_curve(const mixt_model *model, mixt_store_point **points, int *count,
                             int *now, mixt_error *error)
{
    (void)model;
    *points = NULL;
    *count = *now = 0;
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "the model is not stored");
}

mixt_status mixt_store_report(const mixt_model *model, char **text, mixt_error *error)
{
    (void)model;
    *text = NULL;
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "the model is not stored");
}
