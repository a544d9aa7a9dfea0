/* From fields of a body to an order: what the families of endpoints share. */
#ifndef MIXT_SERVE_REQUEST_H
#define MIXT_SERVE_REQUEST_H

#include "server.h"

/* What a body asks for. Values belong to the body; the rest is released by request_free. */
typedef struct api_request {
    mixt_sampler_options sampler;
    int64_t seed; /* -1: drawn */
    int64_t max_tokens;
    int n;
    int top_logprobs; /* -1: no probabilities */
    bool stream, routing, prompt_logprobs, stop_at_line;
    int64_t milliseconds;
    const char *grammar;
    const json_t *json_schema, *stop, *logit_bias, *samplers, *dry_breakers;
    const json_t *experts_per_token, *expert_mask, *expert_force;
    /* Made by request_order. */
    char *made_grammar;
    mixt_logit_bias *biases;
    size_t bias_count, bias_capacity;
    const char **breakers;
    char order[400]; /* of samplers */
} api_request;

/* `local`: the defaults of llama.cpp and Ollama; else OpenAI's, which draw from the whole
 * distribution. */
void request_defaults(api_request *request, bool local);
void request_free(api_request *request);
/* The rules of its fields, for tables whose struct begins with an api_request. */
extern const field_rule request_fields[];

/* The ids of a text, as the model wants a text to begin where `begins`; false: the problem is set.
 */
bool encode_prompt(const serve_server *server, const char *text, size_t length, bool begins,
                   generation_prompt *prompt, api_problem *problem);
/* The ids of every prompt of a field `prompt` or `input`: a string, {"prompt_string": a string}, an
 * array of ids among which texts may stand (llama.cpp), or an array of such, of strings alone too.
 * At most `most`; what was made so far is the caller's in any case. */
bool encode_prompts(const serve_server *server, const json_t *given, size_t most,
                    generation_prompt **prompts, size_t *count, api_problem *problem);
/* The i-th of them as it was given. */
const json_t *prompt_at(const json_t *given, size_t i);
bool prompt_append(generation_prompt *prompt, const int32_t *ids, size_t count,
                   api_problem *problem);
/* Takes the prompts ([count], malloc'd, with their ids) whatever happens; an order that was not
 * made is to be freed too. */
bool request_order(const serve_server *server, api_request *request, generation_prompt *prompts,
                   size_t count, generation_order *order, api_problem *problem);
/* The order of the prompts' embeddings; takes them likewise. */
bool request_embedding(const serve_server *server, generation_prompt *prompts, size_t count,
                       generation_order *order, api_problem *problem);
/* Constrains the text by a schema; `name` is the field's. */
bool request_schema(api_request *request, const json_t *schema, const char *name,
                    api_problem *problem);
/* The text of an id; bytes that are no UTF-8 become U+FFFD. */
void write_token(const serve_server *server, int32_t id, text_buffer *out);
/* [1,2,3] */
void write_token_bytes(const serve_server *server, int32_t id, text_buffer *out);
/* "routing":{"moe_layers":L,"tokens":[...]} of pieces of one choice, or of one piece. */
void write_routing(const serve_server *server, const generation_piece *pieces, int choice, bool one,
                   text_buffer *out);
/* A list of strings: one, or an array; copies [count], malloc'd. */
bool read_strings(const json_t *value, const char *name, size_t most, char ***strings,
                  size_t *count, api_problem *problem);

/* Adds the text of a prompt's ids, with special tokens or without them. */
void prompt_text(const serve_server *server, const generation_prompt *prompt, bool special,
                 text_buffer *out);
void prompt_texts_free(text_buffer *texts, size_t count); /* NULL: nothing */

/* Whether Ollama's `options` may stand beside texts that are embedded (ollama.c). */
bool ollama_check_options(const api_call *call, const json_t *options, api_problem *problem);

#endif
