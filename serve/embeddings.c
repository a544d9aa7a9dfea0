/* Embeddings, in the forms of OpenAI, llama.cpp and Ollama: the states of a text's tokens behind
 * the last norm, pooled (--pooling) and divided by their length. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

enum {
    INPUTS_MAX = 2048, /* of one request, as OpenAI has it */
    NORM_NONE = -1,    /* llama.cpp's embd_normalize */
    NORM_MAXIMUM = 0,
    NORM_LENGTH = 2,
};

/* llama.cpp's numbers with NORM_MAXIMUM are as large as an int16_t almost. */
static const double norm_maximum_scale = 32760;

typedef enum embedding_form {
    FORM_OPENAI,        /* /v1/embeddings */
    FORM_LLAMA,         /* /embedding, /embeddings */
    FORM_OLLAMA,        /* /api/embed */
    FORM_OLLAMA_SINGLE, /* /api/embeddings */
} embedding_form;

typedef struct embedding_request {
    const char *model, *encoding;
    const json_t *input, *content, *options;
    int normalize;
    bool base64, truncate;
    embedding_form form;
} embedding_request;

#define AT(member) offsetof(embedding_request, member)

static const field_rule openai_rules[] = {
    {"input", FIELD_VALUE, AT(input), 0, 0, NULL},
    {"encoding_format", FIELD_TEXT, AT(encoding), 0, 0, NULL},
    {"embd_normalize", FIELD_INT, AT(normalize), NORM_NONE, INT_MAX, NULL}, /* llama.cpp's */
    {"user", FIELD_IGNORED, 0, 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule llama_rules[] = {
    {"input", FIELD_VALUE, AT(input), 0, 0, NULL},
    {"content", FIELD_VALUE, AT(content), 0, 0, NULL},
    {"embd_normalize", FIELD_INT, AT(normalize), NORM_NONE, INT_MAX, NULL},
    {"encoding_format", FIELD_TEXT, AT(encoding), 0, 0, NULL},
    {"user", FIELD_IGNORED, 0, 0, 0, NULL},
    {"image_data", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule ollama_rules[] = {
    {"input", FIELD_VALUE, AT(input), 0, 0, NULL},
    {"truncate", FIELD_BOOL, AT(truncate), 0, 0, NULL},
    {"options", FIELD_VALUE, AT(options), 0, 0, NULL},
    {"keep_alive", FIELD_IGNORED, 0, 0, 0, NULL}, /* the model stays */
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule ollama_single_rules[] = {
    {"prompt", FIELD_VALUE, AT(input), 0, 0, NULL},
    {"options", FIELD_VALUE, AT(options), 0, 0, NULL},
    {"keep_alive", FIELD_IGNORED, 0, 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule shared_rules[] = {
    {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
    {"dimensions", FIELD_REFUSED, 0, 0, 0, "an embedding has the model's width"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

/* ---- numbers */

/* What every number of an embedding is divided by; 0 where all are 0. Sums are relative to the
 * largest number, so that no power leaves the range of a double. */
static double norm_of(const generation_piece *piece, int normalize)
{
    double most = 0, sum = 0;
    for (int i = 0; i < piece->width; i++) {
        most = fmax(most, fabs(piece->pooled[i]));
    }
    if (normalize == NORM_NONE) {
        return 1;
    }
    if (normalize == NORM_MAXIMUM || most == 0) {
        return most / norm_maximum_scale;
    }
    for (int i = 0; i < piece->width; i++) {
        double part = fabs(piece->pooled[i]) / most;
        sum += normalize == NORM_LENGTH ? part * part : pow(part, normalize);
    }
    return most * (normalize == NORM_LENGTH ? sqrt(sum) : pow(sum, 1.0 / normalize));
}

/* [numbers], of single precision as those of everybody's are. */
static void write_numbers(const generation_piece *piece, double norm, text_buffer *out)
{
    text_put(out, "[");
    for (int i = 0; i < piece->width; i++) {
        text_comma(out);
        text_float(out, norm > 0 ? (float)(piece->pooled[i] / norm) : 0);
    }
    text_put(out, "]");
}

/* A string: base64 of the numbers' bytes, least significant first. */
static void write_base64(const generation_piece *piece, double norm, text_buffer *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t count = 4 * (size_t)piece->width;
    uint32_t group = 0;
    text_put(out, "\"");
    for (size_t i = 0; i < count; i++) {
        float value = norm > 0 ? (float)(piece->pooled[i / 4] / norm) : 0;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        group = group << 8 | (bits >> 8 * (i % 4) & 0xFF);
        if (i % 3 == 2) {
            text_add(out,
                     (char[]){digits[group >> 18], digits[group >> 12 & 63],
                              digits[group >> 6 & 63], digits[group & 63]},
                     4);
            group = 0;
        }
    }
    if (count % 3 == 1) {
        text_add(out, (char[]){digits[group >> 2], digits[group << 4 & 63], '=', '='}, 4);
    } else if (count % 3 == 2) {
        text_add(
            out,
            (char[]){digits[group >> 10], digits[group >> 4 & 63], digits[group << 2 & 63], '='},
            4);
    }
    text_put(out, "\"");
}

/* ---- replies */

/* The end of an input's piece: the inputs end in any order. */
static const generation_piece *end_of(const generation_piece *pieces, int input)
{
    while (pieces != NULL && (pieces->kind != PIECE_END || pieces->choice != input)) {
        pieces = pieces->next;
    }
    return pieces;
}

static void write_input(const embedding_request *request, const generation_piece *piece,
                        text_buffer *out)
{
    double norm = norm_of(piece, request->normalize);
    if (request->form == FORM_OLLAMA) {
        text_comma(out);
        write_numbers(piece, norm, out);
        return;
    }
    if (request->form == FORM_OLLAMA_SINGLE) {
        write_numbers(piece, norm, out);
        return;
    }
    text_comma(out);
    text_put(out, "{");
    if (request->form == FORM_OPENAI) {
        text_member(out, "object", "embedding");
    }
    text_member_integer(out, "index", piece->choice);
    text_key(out, "embedding");
    if (request->base64) {
        write_base64(piece, norm, out);
    } else {
        text_put(out, request->form == FORM_LLAMA ? "[" : "");
        write_numbers(piece, norm, out);
        text_put(out, request->form == FORM_LLAMA ? "]" : "");
    }
    text_put(out, "}");
}

static void write_end(const api_call *call, text_buffer *out)
{
    const embedding_request *request = call->settings;
    generation_counts counts;
    generation_times times;
    generation_describe(call->generation, &counts, &times);
    if (request->form == FORM_OPENAI) {
        text_member(out, "model", call_model(call, request->model));
        text_key(out, "usage");
        text_put(out, "{");
        text_member_integer(out, "prompt_tokens", (int64_t)counts.prompt_tokens);
        text_member_integer(out, "total_tokens", (int64_t)counts.prompt_tokens);
        text_put(out, "}");
    } else if (request->form == FORM_OLLAMA) {
        text_member(out, "model", call_model(call, request->model));
        text_member_integer(out, "total_duration", 1000 * (times.ended - times.queued));
        text_member_integer(out, "load_duration", 0);
        text_member_integer(out, "prompt_eval_count", (int64_t)counts.prompt_tokens);
    }
}

static void embedding_whole(api_call *call, const generation_piece *pieces, text_buffer *out)
{
    static const char *const before[] = {
        [FORM_OPENAI] = "{\"object\":\"list\",\"data\":[",
        [FORM_LLAMA] = "[",
        [FORM_OLLAMA] = "{\"embeddings\":[",
        [FORM_OLLAMA_SINGLE] = "{\"embedding\":",
    };
    const embedding_request *request = call->settings;
    int count = (int)generation_order_of(call->generation)->prompt_count;
    text_put(out, before[request->form]);
    const generation_piece *next = pieces;
    for (int i = 0; i < count; i++) {
        /* In their order mostly: the search goes on behind the last. */
        const generation_piece *piece = end_of(next, i);
        piece = piece != NULL ? piece : end_of(pieces, i);
        write_input(request, piece, out);
        next = piece->next;
    }
    text_put(out, request->form == FORM_OLLAMA_SINGLE ? "" : "]");
    write_end(call, out);
    text_put(out, request->form == FORM_LLAMA ? "" : "}");
}

static const api_format embedding_format = {.whole = embedding_whole};

/* ---- requests */

/* Behind a text comes what the tokenizer ends texts with: models of embeddings were trained so. */
static bool end_texts(const serve_server *server, const json_t *given, generation_prompt *prompts,
                      size_t count, api_problem *problem)
{
    int32_t last = mixt_tokenizer_around(server->tokenizer, MIXT_SPECIAL_EOS);
    for (size_t i = 0; last >= 0 && i < count; i++) {
        generation_prompt *prompt = &prompts[i];
        bool ended = prompt->count > 0 && prompt->ids[prompt->count - 1] == last;
        if (!ended && json_is_string(prompt_at(given, i)) &&
            !prompt_append(prompt, &last, 1, problem)) {
            return false;
        }
    }
    return true;
}

static bool read_encoding(embedding_request *request, api_problem *problem)
{
    const char *encoding = request->encoding != NULL ? request->encoding : "float";
    request->base64 = strcmp(encoding, "base64") == 0;
    if (strcmp(encoding, "float") != 0 && (!request->base64 || request->form != FORM_OPENAI)) {
        return api_fail(problem, 400, "invalid_value", "encoding_format",
                        "encoding_format must be float%s",
                        request->form == FORM_OPENAI ? " or base64" : "");
    }
    return true;
}

/* Ollama's clients ask for what is too long to be cut, and mostly send what is not. */
static void explain_truncate(const serve_server *server, api_problem *problem)
{
    if (problem->code != NULL && strcmp(problem->code, "context_length_exceeded") == 0) {
        *problem = (api_problem){0};
        api_fail(problem, 400, "context_length_exceeded", "truncate",
                 "truncate: a text of more than %zu tokens is refused, not cut",
                 generator_context(server->generator));
    }
}

static http_progress answer(api_call *call, embedding_form form, int normalize,
                            const field_rule *rules)
{
    const field_rule *const tables[] = {rules, shared_rules, NULL};
    const serve_server *server = call->server;
    api_problem *problem = &call->problem;
    embedding_request *request = calloc(1, sizeof *request);
    generation_prompt *prompts = NULL;
    generation_order order = {0};
    size_t count = 0;
    if (request == NULL) {
        api_fail(problem, 503, "no_memory", NULL, "out of memory");
        return HTTP_ANSWERED;
    }
    call->settings = request;
    call->settings_free = free;
    request->form = form;
    request->normalize = normalize;
    if (!fields_read(call->body, tables, request, problem) ||
        !ollama_check_options(call, request->options, problem) ||
        !fields_agree("content", request->content, "input", request->input, problem) ||
        !model_is_served(server, request->model, problem) || !read_encoding(request, problem) ||
        !call_reserve(call)) {
        return HTTP_ANSWERED;
    }
    const json_t *given = request->input != NULL ? request->input : request->content;
    size_t most = form == FORM_OLLAMA_SINGLE ? 1 : INPUTS_MAX;
    bool good = encode_prompts(server, given, most, &prompts, &count, problem) &&
                end_texts(server, given, prompts, count, problem);
    if (!good) {
        order = (generation_order){.prompts = prompts, .prompt_count = count, .n = 1};
    }
    if (!good || !request_embedding(server, prompts, count, &order, problem)) {
        if (request->truncate) {
            explain_truncate(server, problem);
        }
        generation_order_free(&order);
        return HTTP_ANSWERED;
    }
    return call_generate(call, &order, &embedding_format);
}

static http_progress answer_openai(api_call *call, http_reply *reply)
{
    (void)reply;
    return answer(call, FORM_OPENAI, NORM_LENGTH, openai_rules);
}

static http_progress answer_llama(api_call *call, http_reply *reply)
{
    (void)reply;
    return answer(call, FORM_LLAMA, NORM_LENGTH, llama_rules);
}

static http_progress answer_ollama(api_call *call, http_reply *reply)
{
    (void)reply;
    return answer(call, FORM_OLLAMA, NORM_LENGTH, ollama_rules);
}

static http_progress answer_ollama_single(api_call *call, http_reply *reply)
{
    (void)reply;
    return answer(call, FORM_OLLAMA_SINGLE, NORM_NONE, ollama_single_rules);
}

const api_route embedding_routes[] = {
    {.method = "POST", .path = "/v1/embeddings", .answer = answer_openai, .body = true},
    {.method = "POST", .path = "/embedding", .answer = answer_llama, .body = true},
    {.method = "POST", .path = "/embeddings", .answer = answer_llama, .body = true},
    {.method = "POST", .path = "/api/embed", .answer = answer_ollama, .body = true},
    {.method = "POST", .path = "/api/embeddings", .answer = answer_ollama_single, .body = true},
    {.method = NULL},
};
