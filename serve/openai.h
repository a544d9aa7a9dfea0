/* What OpenAI's two generating endpoints have in common. */
#ifndef MIXT_SERVE_OPENAI_H
#define MIXT_SERVE_OPENAI_H

#include "request.h"

extern const field_rule openai_fields[]; /* without effect, or refused */

/* The beginning of a settings struct of both. */
typedef struct openai_request {
    api_request common;
    const char *model;
    const json_t *stream_options, *response_format;
    bool include_usage, include_obfuscation; /* the latter is read for its type alone */
    char id[48];                             /* "cmpl-..." */
} openai_request;

bool openai_read_options(openai_request *request, const char *prefix, api_call *call);
/* The members of an object or chunk up to its choices. */
void openai_write_head(const api_call *call, const char *object, text_buffer *out);
void openai_write_usage(const api_call *call, text_buffer *out);
/* The events behind the last choice of a stream, and an error's. */
void openai_write_end(api_call *call, const char *object, text_buffer *out);
void openai_failed(api_call *call, const api_problem *problem, text_buffer *out);
http_progress answer_chat(api_call *call, http_reply *reply);

#endif
