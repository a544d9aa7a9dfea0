/* Sessions with choices that the public header leaves out. */
#ifndef MIXT_INFER_SESSION_H
#define MIXT_INFER_SESSION_H

#include "mixt.h"
#include "ops/kernels.h"

/* mixt_session_create with a cache of this type: F32, F16, BF16 or Q8_0. */
mixt_status mixt_session_create_typed(mixt_context *context, const mixt_model *model,
                                      int context_length, mixt_type cache_type,
                                      mixt_session **session, mixt_error *error);

#endif
