/* A session: an engine with one sequence, which takes steps until what was fed is computed. */
#include <stdlib.h>
#include <string.h>

#include "infer/session.h"

/* Tokens of a prompt that are processed at once: many, so that an expert sees enough rows to be
 * worth unpacking; fewer where there is no memory for the plan. */
#define PREFILL_MOST 512

void mixt_session_free(mixt_session *session)
{
    if (session != NULL) {
        mixt_sequence_free(session->sequence);
        mixt_engine_free(session->engine);
        free(session->route_ids);
        free(session->route_weights);
        free(session);
    }
}

static size_t choices(const mixt_session *session)
{
    return session->engine->moe_layers * session->engine->chosen;
}

static mixt_status build(mixt_session *session, mixt_context *context, const mixt_model *model,
                         const mixt_engine_options *options, mixt_error *error)
{
    MIXT_TRY(mixt_engine_build(context, model, options, "session", &session->engine, error));
    MIXT_TRY(mixt_sequence_create(session->engine, NULL, &session->sequence, error));
    session->route_ids = calloc(choices(session) + 1, sizeof(int32_t));
    session->route_weights = calloc(choices(session) + 1, sizeof(float));
    return session->route_ids != NULL && session->route_weights != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
}

mixt_session_options mixt_session_options_default(void)
{
    return (mixt_session_options){.cache_type = MIXT_CACHE_F32};
}

mixt_status mixt_session_create_with(mixt_context *context, const mixt_model *model,
                                     const mixt_session_options *options, mixt_session **result,
                                     mixt_error *error)
{
    mixt_session_options chosen = options == NULL ? mixt_session_options_default() : *options;
    *result = NULL;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_session_options, &chosen, error));
    mixt_engine_options alone = {.context_length = chosen.context_length,
                                 .sequences = 1,
                                 .batch_tokens = PREFILL_MOST,
                                 .logits_rows = 1,
                                 .cache_type = chosen.cache_type,
                                 .latent = chosen.latent,
                                 .no_sharing = true};
    mixt_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    mixt_status status = build(session, context, model, &alone, error);
    if (status != MIXT_OK) {
        mixt_session_free(session);
        return status;
    }
    *result = session;
    return MIXT_OK;
}

mixt_status mixt_session_create(mixt_context *context, const mixt_model *model, int context_length,
                                mixt_session **session, mixt_error *error)
{
    mixt_session_options options = mixt_session_options_default();
    options.context_length = context_length;
    return mixt_session_create_with(context, model, &options, session, error);
}

static void keep_routes(mixt_session *session)
{
    (void)mixt_sequence_last_routes(session->sequence, session->route_ids, session->route_weights,
                                    NULL);
}

mixt_status mixt_session_feed(mixt_session *session, const int32_t *tokens, size_t count,
                              mixt_error *error)
{
    mixt_sequence *sequence = session->sequence;
    size_t before = sequence->length;
    MIXT_TRY(mixt_sequence_feed(sequence, tokens, count, error));
    while (mixt_sequence_has_work(sequence)) {
        mixt_status status = mixt_engine_step(session->engine, error);
        status = status == MIXT_OK ? mixt_sequence_state(sequence, error) : status;
        if (status != MIXT_OK) {
            mixt_sequence_recover(sequence, before);
            return status;
        }
        keep_routes(session);
    }
    return MIXT_OK;
}

const float *mixt_session_logits(const mixt_session *session)
{
    return session->sequence->logits;
}

size_t mixt_session_capacity(const mixt_session *session)
{
    return (size_t)session->engine->capacity;
}

size_t mixt_session_length(const mixt_session *session)
{
    return session->sequence->length;
}

const int32_t *mixt_session_tokens(const mixt_session *session)
{
    return session->sequence->tokens;
}

void mixt_session_truncate(mixt_session *session, size_t length)
{
    if (length < session->sequence->length) {
        (void)mixt_sequence_truncate(session->sequence, length);
    }
}

void mixt_session_routes(const mixt_session *session, const int32_t **ids, const float **weights)
{
    *ids = session->route_ids;
    *weights = session->route_weights;
}

void mixt_session_routes_shape(const mixt_session *session, int *moe_layers, int *chosen)
{
    *moe_layers = (int)session->engine->moe_layers;
    *chosen = (int)session->engine->chosen;
}
