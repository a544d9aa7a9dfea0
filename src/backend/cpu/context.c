#include "backend/cpu/context.h"

#include <stdlib.h>

#include "core/error.h"

mixt_status mixt_context_create(const mixt_context_options *options, mixt_context **result,
                                mixt_error *error)
{
    *result = NULL;
    mixt_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for a context");
    }
    mixt_status status = mixt_compute_create(options, &context->compute, error);
    if (status != MIXT_OK) {
        mixt_context_free(context);
        return status;
    }
    *result = context;
    return MIXT_OK;
}

void mixt_context_free(mixt_context *context)
{
    if (context != NULL) {
        mixt_compute_free(context->compute);
        free(context);
    }
}

int mixt_context_threads(const mixt_context *context)
{
    return context->compute->threads;
}

const char *mixt_context_cpu(const mixt_context *context)
{
    return context->compute->f32->name;
}
