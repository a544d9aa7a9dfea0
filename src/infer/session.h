/* Inside a session: what session.c and session_file.c share. */
#ifndef MIXT_INFER_SESSION_H
#define MIXT_INFER_SESSION_H

#include "infer/engine.h"
#include "mixt.h"

struct mixt_session {
    mixt_engine *engine;
    mixt_sequence *sequence;
    int32_t *route_ids;   /* [moe_layers, k] of the last token */
    float *route_weights; /* [moe_layers, k] */
};

#endif
