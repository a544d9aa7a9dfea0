/* Sessions with choices that the public header leaves out. */
#ifndef MIXT_INFER_SESSION_H
#define MIXT_INFER_SESSION_H

#include "mixt.h"

/* mixt_session_create with a cache of this type. */
mixt_status mixt_session_create_typed(mixt_context *context, const mixt_model *model,
                                      int context_length, mixt_cache_type cache_type,
                                      mixt_session **session, mixt_error *error);

#endif
