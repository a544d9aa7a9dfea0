/* OpenAI's endpoints: models, completions. */
#include "openai.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what both generating endpoints share */

#define AT(member) offsetof(openai_request, member)

const field_rule openai_fields[] = {
    {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
    {"n", FIELD_INT, AT(common.n), 1, 128, NULL},
    {"stream_options", FIELD_VALUE, AT(stream_options), 0, 0, NULL},
    {"response_format", FIELD_VALUE, AT(response_format), 0, 0, NULL},
    {"max_tokens", FIELD_LONG, AT(common.max_tokens), -1, INT_MAX, NULL},
    {"n_predict", FIELD_LONG, AT(common.max_tokens), -1, INT_MAX, NULL}, /* llama.cpp's name */
    {"timings_per_token", FIELD_REFUSED, 0, 0, 0, "/completion has them"},
    {"return_progress", FIELD_REFUSED, 0, 0, 0, NULL},
    {"user", FIELD_IGNORED, 0, 0, 0, NULL},
    {"metadata", FIELD_IGNORED, 0, 0, 0, NULL},
    {"store", FIELD_IGNORED, 0, 0, 0, NULL},
    {"service_tier", FIELD_IGNORED, 0, 0, 0, NULL},
    {"safety_identifier", FIELD_IGNORED, 0, 0, 0, NULL},
    {"prompt_cache_key", FIELD_IGNORED, 0, 0, 0, NULL},
    {"prompt_cache_retention", FIELD_IGNORED, 0, 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

/* What response_format says; some of it is read for its type alone, as the text always follows the
 * schema. */
typedef struct format_fields {
    const char *type, *name, *description;
    const json_t *schema, *json_schema;
    bool strict;
} format_fields;

#define FORMAT(member) offsetof(format_fields, member)

static const field_rule format_text[] = {
    {"response_format.type", FIELD_TEXT, FORMAT(type), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};
static const field_rule format_object[] = {
    {"response_format.type", FIELD_TEXT, FORMAT(type), 0, 0, NULL},
    {"response_format.schema", FIELD_VALUE, FORMAT(schema), 0, 0, NULL}, /* llama.cpp's */
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};
static const field_rule format_schema[] = {
    {"response_format.type", FIELD_TEXT, FORMAT(type), 0, 0, NULL},
    {"response_format.schema", FIELD_VALUE, FORMAT(schema), 0, 0, NULL},
    {"response_format.json_schema", FIELD_VALUE, FORMAT(json_schema), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};
static const field_rule inside_schema[] = {
    {"response_format.json_schema.schema", FIELD_VALUE, FORMAT(schema), 0, 0, NULL},
    {"response_format.json_schema.name", FIELD_TEXT, FORMAT(name), 0, 0, NULL},
    {"response_format.json_schema.description", FIELD_TEXT, FORMAT(description), 0, 0, NULL},
    {"response_format.json_schema.strict", FIELD_BOOL, FORMAT(strict), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

/* {"type": "json_schema", "json_schema": {"schema": ..., "name", "description", "strict"}} */
static bool read_schema(openai_request *request, const format_fields *format, api_problem *problem)
{
    format_fields inner = {0};
    if (format->json_schema != NULL && !json_is_object(format->json_schema)) {
        return api_fail(problem, 400, "invalid_type", "response_format.json_schema",
                        "response_format.json_schema must be an object");
    }
    if (!fields_read_inside(format->json_schema, "response_format.json_schema.", inside_schema,
                            &inner, problem) ||
        !fields_agree("response_format.json_schema.schema", inner.schema, "response_format.schema",
                      format->schema, problem)) {
        return false;
    }
    const json_t *schema = inner.schema != NULL ? inner.schema : format->schema;
    return schema != NULL ? request_schema(&request->common, schema, "response_format", problem)
                          : api_fail(problem, 400, "invalid_schema", "response_format",
                                     "response_format: json_schema.schema is needed");
}

static bool read_format(openai_request *request, api_problem *problem)
{
    static const struct {
        const char *type;
        const field_rule *rules;
    } kinds[] = {
        {"text", format_text}, {"json_object", format_object}, {"json_schema", format_schema}};
    enum { TEXT, OBJECT, SCHEMA, KINDS };
    const json_t *format = request->response_format;
    const char *type = json_string_value(json_object_get(format, "type"));
    format_fields fields = {0};
    int kind = TEXT;
    if (format == NULL) {
        return true;
    }
    while (kind < KINDS && (type == NULL || strcmp(type, kinds[kind].type) != 0)) {
        kind++;
    }
    if (kind == KINDS) {
        return api_fail(problem, 400, "invalid_value", "response_format",
                        "response_format: type must be text, json_object or json_schema");
    }
    if (!fields_read_inside(format, "response_format.", kinds[kind].rules, &fields, problem)) {
        return false;
    }
    if (kind == SCHEMA) {
        return read_schema(request, &fields, problem);
    }
    json_t *any = kind == OBJECT ? json_pack("{s:s}", "type", "object") : NULL;
    bool good = kind == TEXT ||
                request_schema(&request->common, fields.schema != NULL ? fields.schema : any,
                               "response_format", problem);
    json_decref(any);
    return good;
}

static const field_rule stream_options[] = {
    {"stream_options.include_usage", FIELD_BOOL, AT(include_usage), 0, 0, NULL},
    {"stream_options.include_obfuscation", FIELD_BOOL, AT(include_obfuscation), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

bool openai_read_options(openai_request *request, const char *prefix, api_call *call)
{
    api_problem *problem = &call->problem;
    snprintf(request->id, sizeof request->id, "%s-%llx%08llx", prefix,
             (unsigned long long)call->server->created, (unsigned long long)call->request->number);
    if (request->stream_options != NULL &&
        (!request->common.stream || !json_is_object(request->stream_options))) {
        return api_fail(problem, 400, "invalid_value", "stream_options",
                        "stream_options is an object beside \"stream\": true");
    }
    return fields_read_inside(request->stream_options, "stream_options.", stream_options, request,
                              problem) &&
           model_is_served(call->server, request->model, problem) && read_format(request, problem);
}

void openai_write_head(const api_call *call, const char *object, text_buffer *out)
{
    const openai_request *request = call->settings;
    text_put(out, "{");
    text_member(out, "id", request->id);
    text_member(out, "object", object);
    text_member_integer(out, "created",
                        (int64_t)call->server->created +
                            (call->request->began - call->server->started) / 1000);
    text_member(out, "model", call_model(call, request->model));
    text_member(out, "system_fingerprint", "mixt-" MIXT_VERSION);
}

void openai_write_usage(const api_call *call, text_buffer *out)
{
    generation_counts counts;
    generation_times times;
    generation_describe(call->generation, &counts, &times);
    text_key(out, "usage");
    text_put(out, "{");
    text_member_integer(out, "prompt_tokens", (int64_t)counts.prompt_tokens);
    text_member_integer(out, "completion_tokens", (int64_t)counts.drawn_tokens);
    text_member_integer(out, "total_tokens", (int64_t)(counts.prompt_tokens + counts.drawn_tokens));
    text_key(out, "prompt_tokens_details");
    text_put(out, "{");
    text_member_integer(out, "cached_tokens", (int64_t)counts.cached_tokens);
    text_put(out, "}}");
}

void openai_write_end(api_call *call, const char *object, text_buffer *out)
{
    const openai_request *request = call->settings;
    if (request->include_usage) {
        text_put(out, "data: ");
        openai_write_head(call, object, out);
        text_put(out, ",\"choices\":[]");
        openai_write_usage(call, out);
        text_put(out, "}\n\n");
    }
    text_put(out, "data: [DONE]\n\n");
}

void openai_failed(api_call *call, const api_problem *problem, text_buffer *out)
{
    (void)call;
    text_put(out, "data: ");
    write_problem(problem, out);
    text_put(out, "\n\n");
}

/* ---- models */

static void write_model(const serve_server *server, const char *name, text_buffer *out)
{
    const mixt_model_info *info = &server->info;
    text_comma(out);
    text_put(out, "{");
    text_member(out, "id", name);
    text_member(out, "object", "model");
    text_member_integer(out, "created", server->created);
    text_member(out, "owned_by", "mixt");
    text_key(out, "meta");
    text_put(out, "{");
    text_member(out, "family", info->family);
    text_member_integer(out, "n_vocab", info->options.vocab_size);
    text_member_integer(out, "n_ctx", (int64_t)generator_context(server->generator));
    text_member_integer(out, "n_ctx_train", info->options.context_length);
    text_member_integer(out, "n_embd", info->options.hidden_size);
    text_member_integer(out, "n_params", (int64_t)info->parameters_total);
    text_member_integer(out, "n_params_active", (int64_t)info->parameters_active);
    text_member_integer(out, "size", (int64_t)info->weight_bytes);
    text_member_integer(out, "layers", info->options.layers);
    text_member_integer(out, "moe_layers", info->moe_layers);
    text_member_integer(out, "experts", info->options.experts);
    text_member_integer(out, "experts_per_token", info->options.experts_per_token);
    text_put(out, "}}");
}

static http_progress answer_models(api_call *call, http_reply *reply)
{
    const serve_options *options = call->server->options;
    text_put(&reply->body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < options->alias_count; i++) {
        if (strcmp(options->aliases[i], "*") != 0) {
            write_model(call->server, options->aliases[i], &reply->body);
        }
    }
    text_put(&reply->body, "]}");
    return HTTP_ANSWERED;
}

/* %XX of a path; false where it is none. */
static bool decode_path(const char *path, text_buffer *out)
{
    for (; *path != 0; path++) {
        unsigned int byte = 0;
        if (*path != '%') {
            text_add(out, path, 1);
            continue;
        }
        for (int i = 1; i <= 2; i++) {
            static const char digits[] = "0123456789abcdef";
            const char *digit =
                path[i] != 0 ? strchr(digits, path[i] | (path[i] > '9' ? 32 : 0)) : NULL;
            if (digit == NULL) {
                return false;
            }
            byte = 16 * byte + (unsigned int)(digit - digits);
        }
        if (byte < 0x20) {
            return false;
        }
        text_add(out, (char[]){(char)byte}, 1);
        path += 2;
    }
    return !out->failed;
}

static http_progress answer_model(api_call *call, http_reply *reply)
{
    text_buffer name = {0};
    const char *path = strstr(call->request->path, "/models/") + strlen("/models/");
    if (!decode_path(path, &name) || !utf8_valid(name.bytes, name.length)) {
        api_fail(&call->problem, 404, "model_not_found", "model", "there is no such model");
    } else if (model_is_served(call->server, name.bytes, &call->problem)) {
        write_model(call->server, name.bytes, &reply->body);
    }
    text_free(&name);
    return HTTP_ANSWERED;
}

/* ---- completions */

typedef struct completion_request {
    openai_request openai;
    const json_t *prompt;
    int best_of, logprobs;
    bool echo;
    size_t count;      /* of prompts */
    text_buffer *said; /* [count] with echo: their texts */
    size_t *offsets;   /* [choices] characters written so far, for text_offset */
} completion_request;

#undef AT
#define AT(member) offsetof(completion_request, member)

static const field_rule completion_fields[] = {
    {"prompt", FIELD_VALUE, AT(prompt), 0, 0, NULL},
    {"best_of", FIELD_INT, AT(best_of), 1, 128, NULL},
    {"logprobs", FIELD_INT, AT(logprobs), 0, 100, NULL},
    {"echo", FIELD_BOOL, AT(echo), 0, 0, NULL},
    {"suffix", FIELD_REFUSED, 0, 0, 0, "the model is not asked to fill in the middle"},
    {"stream_options", FIELD_VALUE, AT(openai.stream_options), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static void completion_free(void *settings)
{
    completion_request *request = settings;
    prompt_texts_free(request->said, request->count);
    free(request->offsets);
    request_free(&request->openai.common);
    free(request);
}

static bool read_prompts(api_call *call, generation_prompt **prompts, size_t *count)
{
    completion_request *request = call->settings;
    const serve_server *server = call->server;
    size_t most = (size_t)server->options->choices;
    if (!encode_prompts(server, request->prompt, most, prompts, count, &call->problem)) {
        return false;
    }
    request->count = *count;
    request->said = calloc(*count + 1, sizeof *request->said);
    if (request->said == NULL) {
        return api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
    }
    for (size_t i = 0; request->echo && i < *count; i++) {
        const json_t *one = prompt_at(request->prompt, i);
        if (json_is_string(one)) {
            text_put(&request->said[i], json_string_value(one));
        } else {
            prompt_text(server, &(*prompts)[i], true, &request->said[i]);
        }
    }
    return true;
}

static size_t characters(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return count;
}

/* A token as OpenAI names it: its text, or bytes:\xNN where that is no UTF-8. */
static void write_name(const serve_server *server, int32_t id, text_buffer *out)
{
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, id, &length);
    if (bytes == NULL || utf8_valid(bytes, length)) {
        text_json(out, bytes != NULL ? bytes : "", length);
        return;
    }
    text_put(out, "\"bytes:");
    for (size_t i = 0; i < length; i++) {
        text_format(out, "\\\\x%02x", (unsigned char)bytes[i]);
    }
    text_put(out, "\"");
}

static bool same_name(const serve_server *server, int32_t a, int32_t b)
{
    size_t length_a = 0, length_b = 0;
    const char *bytes_a = mixt_tokenizer_bytes_of(server->tokenizer, a, &length_a);
    const char *bytes_b = mixt_tokenizer_bytes_of(server->tokenizer, b, &length_b);
    return a == b || (length_a == length_b && bytes_a != NULL && bytes_b != NULL &&
                      memcmp(bytes_a, bytes_b, length_a) == 0);
}

/* {"text": logprob, ...}: the most probable ones, and the token itself. */
static void write_tops(const serve_server *server, const generation_piece *piece, text_buffer *out)
{
    bool itself = false;
    text_put(out, "{");
    for (int i = 0; i < piece->top_count && piece->top_ids[i] >= 0; i++) {
        bool again = false;
        for (int j = 0; j < i; j++) {
            again = again || same_name(server, piece->top_ids[i], piece->top_ids[j]);
        }
        if (again) {
            continue; /* another id of the same text, less probable */
        }
        text_comma(out);
        write_name(server, piece->top_ids[i], out);
        text_put(out, ":");
        text_number(out, piece->top_values[i]);
        itself = itself || same_name(server, piece->top_ids[i], piece->token);
    }
    if (!itself) {
        text_comma(out);
        write_name(server, piece->token, out);
        text_put(out, ":");
        text_number(out, piece->logprob);
    }
    text_put(out, "}");
}

/* The token that a prompt was given to begin with, which is not in the text. */
static bool unsaid(const serve_server *server, const generation_piece *piece)
{
    return piece->kind == PIECE_PROMPT && piece->position == 0 &&
           (piece->token == mixt_tokenizer_around(server->tokenizer, MIXT_SPECIAL_BOS) ||
            piece->token == mixt_tokenizer_separator(server->tokenizer));
}

/* One of the four arrays of a choice's logprobs. */
typedef enum logprobs_part { PART_TOKENS, PART_VALUES, PART_TOPS, PART_OFFSETS } logprobs_part;

static void write_part(const api_call *call, const generation_piece *pieces, int choice,
                       logprobs_part part, text_buffer *out)
{
    completion_request *request = call->settings;
    const serve_server *server = call->server;
    size_t offset = request->offsets[choice];
    bool one = call->stream; /* a stream's event has one piece */
    text_put(out, "[");
    for (const generation_piece *piece = pieces; piece != NULL; piece = one ? NULL : piece->next) {
        if (piece->choice != choice || piece->kind == PIECE_END) {
            continue;
        }
        size_t length = 0;
        const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, piece->token, &length);
        text_comma(out);
        switch (part) {
        case PART_TOKENS:
            write_name(server, piece->token, out);
            break;
        case PART_VALUES:
            if (piece->has_logprob) {
                text_number(out, piece->logprob);
            } else {
                text_put(out, "null");
            }
            break;
        case PART_TOPS:
            if (piece->has_logprob) {
                write_tops(server, piece, out);
            } else {
                text_put(out, "null");
            }
            break;
        case PART_OFFSETS:
            text_format(out, "%zu", offset);
            break;
        }
        offset += bytes != NULL && !unsaid(server, piece) ? characters(bytes, length) : 0;
    }
    text_put(out, "]");
    if (part == PART_OFFSETS) {
        request->offsets[choice] = offset;
    }
}

static void write_logprobs(const api_call *call, const generation_piece *pieces, int choice,
                           text_buffer *out)
{
    const completion_request *request = call->settings;
    text_key(out, "logprobs");
    if (request->logprobs < 0) {
        text_put(out, "null");
        return;
    }
    text_put(out, "{");
    text_key(out, "tokens");
    write_part(call, pieces, choice, PART_TOKENS, out);
    text_key(out, "token_logprobs");
    write_part(call, pieces, choice, PART_VALUES, out);
    text_key(out, "top_logprobs");
    write_part(call, pieces, choice, PART_TOPS, out);
    text_key(out, "text_offset");
    write_part(call, pieces, choice, PART_OFFSETS, out);
    text_put(out, "}");
}

static const char *finish_word(finish_reason finish)
{
    return finish == FINISH_NONE ? NULL : finish == FINISH_LENGTH ? "length" : "stop";
}

static void write_choice(const api_call *call, const generation_piece *pieces, int choice,
                         int index, text_buffer *out)
{
    const completion_request *request = call->settings;
    const generation_order *order = generation_order_of(call->generation);
    text_buffer text = {0};
    finish_reason finish = FINISH_NONE;
    text_put(&text, "");
    if (request->echo) {
        const text_buffer *said = &request->said[choice / order->n];
        text_add(&text, said->bytes != NULL ? said->bytes : "", said->length);
    }
    for (const generation_piece *piece = pieces; piece != NULL; piece = piece->next) {
        if (piece->choice == choice) {
            text_add(&text, piece->text, piece->text_length);
            finish = piece->kind == PIECE_END ? piece->finish : finish;
        }
    }
    text_comma(out);
    text_put(out, "{");
    text_key(out, "text");
    text_json(out, text.bytes != NULL ? text.bytes : "", text.length);
    out->failed = out->failed || text.failed;
    text_free(&text);
    text_member_integer(out, "index", index);
    write_logprobs(call, pieces, choice, out);
    text_member(out, "finish_reason", finish_word(finish));
    if (request->openai.common.routing) {
        write_routing(call->server, pieces, choice, false, out);
    }
    text_put(out, "}");
}

/* Mean log probability of a choice's tokens. */
static double mean_logprob(const generation_piece *pieces, int choice)
{
    double sum = 0;
    int count = 0;
    for (; pieces != NULL; pieces = pieces->next) {
        if (pieces->choice == choice && pieces->kind == PIECE_TOKEN) {
            sum += pieces->logprob;
            count++;
        }
    }
    return count > 0 ? sum / count : -INFINITY;
}

/* The `n` best of the best_of choices of one prompt, best first; ties: the first drawn. */
static void write_best(const api_call *call, const generation_piece *pieces, int prompt,
                       text_buffer *out)
{
    const completion_request *request = call->settings;
    int drawn = generation_order_of(call->generation)->n, n = request->openai.common.n;
    double means[128];
    for (int i = 0; i < drawn; i++) {
        means[i] = mean_logprob(pieces, prompt * drawn + i);
    }
    for (int i = 0; i < n; i++) {
        int best = 0;
        for (int j = 1; j < drawn; j++) {
            best = means[j] > means[best] || isnan(means[best]) ? j : best;
        }
        write_choice(call, pieces, prompt * drawn + best, prompt * n + i, out);
        means[best] = NAN;
    }
}

static void completion_whole(api_call *call, const generation_piece *pieces, text_buffer *out)
{
    const completion_request *request = call->settings;
    const generation_order *order = generation_order_of(call->generation);
    openai_write_head(call, "text_completion", out);
    text_key(out, "choices");
    text_put(out, "[");
    for (int prompt = 0; prompt < (int)order->prompt_count; prompt++) {
        if (order->n > request->openai.common.n) {
            write_best(call, pieces, prompt, out);
            continue;
        }
        for (int i = 0; i < order->n; i++) {
            write_choice(call, pieces, prompt * order->n + i, prompt * order->n + i, out);
        }
    }
    text_put(out, "]");
    openai_write_usage(call, out);
    text_put(out, "}");
}

static void write_event(const api_call *call, const generation_piece *piece, const char *text,
                        size_t length, text_buffer *out)
{
    const completion_request *request = call->settings;
    text_put(out, "data: ");
    openai_write_head(call, "text_completion", out);
    text_key(out, "choices");
    text_put(out, "[{");
    text_key(out, "text");
    text_json(out, text, length);
    text_member_integer(out, "index", piece->choice);
    write_logprobs(call, piece, piece->choice, out);
    text_member(out, "finish_reason",
                finish_word(piece->kind == PIECE_END ? piece->finish : FINISH_NONE));
    if (request->openai.common.routing && piece->kind != PIECE_END) {
        write_routing(call->server, piece, piece->choice, true, out);
    }
    text_put(out, "}]");
    if (request->openai.include_usage) {
        text_put(out, ",\"usage\":null");
    }
    text_put(out, "}\n\n");
}

static void completion_begin(api_call *call, text_buffer *out)
{
    const completion_request *request = call->settings;
    const generation_order *order = generation_order_of(call->generation);
    completion_request quiet = *request;
    quiet.logprobs = -1;
    quiet.openai.common.routing = false;
    for (int i = 0; request->echo && i < (int)order->prompt_count * order->n; i++) {
        const text_buffer *said = &request->said[i / order->n];
        generation_piece piece = {.kind = PIECE_PROMPT, .choice = i};
        call->settings = &quiet; /* the text of a prompt alone; its tokens follow */
        write_event(call, &piece, said->bytes != NULL ? said->bytes : "", said->length, out);
        call->settings = (void *)(uintptr_t)request;
    }
}

static void completion_piece(api_call *call, const generation_piece *piece, text_buffer *out)
{
    const completion_request *request = call->settings;
    bool said = piece->text_length > 0 || piece->kind == PIECE_END || request->logprobs >= 0 ||
                request->openai.common.routing;
    if (said) {
        write_event(call, piece, piece->text, piece->text_length, out);
    }
}

static void completion_end(api_call *call, text_buffer *out)
{
    openai_write_end(call, "text_completion", out);
}

static const api_format completion_format = {
    .stream_type = "text/event-stream",
    .begin = completion_begin,
    .piece = completion_piece,
    .end = completion_end,
    .whole = completion_whole,
    .failed = openai_failed,
};

static bool make_order(api_call *call, generation_order *order)
{
    completion_request *request = call->settings;
    api_request *common = &request->openai.common;
    generation_prompt *prompts;
    size_t count;
    int n = common->n;
    bool good = read_prompts(call, &prompts, &count);
    if (!good) {
        *order = (generation_order){.prompts = prompts, .prompt_count = count, .n = 1};
        return false;
    }
    common->n = request->best_of;
    good = request_order(call->server, common, prompts, count, order, &call->problem);
    common->n = n;
    request->offsets = calloc(count * (size_t)order->n + 1, sizeof *request->offsets);
    return good && (request->offsets != NULL ||
                    api_fail(&call->problem, 503, "no_memory", NULL, "out of memory"));
}

static http_progress answer_completion(api_call *call, http_reply *reply)
{
    static const field_rule *const tables[] = {completion_fields, openai_fields, request_fields,
                                               NULL};
    completion_request *request = calloc(1, sizeof *request);
    api_problem *problem = &call->problem;
    generation_order order = {0};
    (void)reply;
    if (request == NULL) {
        api_fail(problem, 503, "no_memory", NULL, "out of memory");
        return HTTP_ANSWERED;
    }
    call->settings = request;
    call->settings_free = completion_free;
    api_request *common = &request->openai.common;
    request_defaults(common, false);
    common->max_tokens = 16; /* OpenAI's default */
    request->logprobs = -1;
    if (!fields_read(call->body, tables, request, problem) ||
        !openai_read_options(&request->openai, "cmpl", call)) {
        return HTTP_ANSWERED;
    }
    request->best_of = request->best_of > 0 ? request->best_of : common->n;
    if (request->best_of < common->n || (common->stream && request->best_of > common->n)) {
        api_fail(problem, 400, "invalid_value", "best_of",
                 "best_of must be n or more, and is nothing for a stream");
        return HTTP_ANSWERED;
    }
    common->top_logprobs = request->logprobs;
    if (request->best_of > common->n && common->top_logprobs < 0) {
        common->top_logprobs = 0;
    }
    common->prompt_logprobs = request->echo && request->logprobs >= 0;
    if (!call_reserve(call)) {
        return HTTP_ANSWERED;
    }
    if (!make_order(call, &order)) {
        generation_order_free(&order);
        return HTTP_ANSWERED;
    }
    return call_generate(call, &order, &completion_format);
}

const api_route openai_routes[] = {
    {.method = "GET", .path = "/v1/models", .answer = answer_models},
    {.method = "GET", .path = "/models", .answer = answer_models},
    {.method = "GET", .path = "/v1/models/*", .answer = answer_model},
    {.method = "POST", .path = "/v1/completions", .answer = answer_completion, .body = true},
    {.method = "POST", .path = "/v1/chat/completions", .answer = answer_chat, .body = true},
    {.method = "POST", .path = "/chat/completions", .answer = answer_chat, .body = true},
    {.method = NULL},
};
