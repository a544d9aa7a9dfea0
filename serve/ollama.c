/* Ollama's endpoints, whose streams are lines of JSON. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chat.h"

typedef struct ollama_request {
    api_request common;
    const char *model, *prompt, *system;
    const json_t *messages, *tools, *format, *options, *think;
    bool raw, streams;
    bool chat;   /* /api/chat, else /api/generate */
    int context; /* num_ctx */
    bool penalize_newline, f16_kv;
    const json_t *misplaced; /* among the options */
    tool_form form;
    text_buffer text; /* reply so far */
    size_t shown;
    json_t *made_messages, *made_variables;
} ollama_request;

#define AT(member) offsetof(ollama_request, member)

static const field_rule shared_fields[] = {
    {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
    {"stream", FIELD_BOOL, AT(streams), 0, 0, NULL},
    {"format", FIELD_VALUE, AT(format), 0, 0, NULL},
    {"options", FIELD_VALUE, AT(options), 0, 0, NULL},
    {"think", FIELD_VALUE, AT(think), 0, 0, NULL},
    {"keep_alive", FIELD_IGNORED, 0, 0, 0, NULL}, /* the model stays */
    {"routing", FIELD_BOOL, AT(common.routing), 0, 0, NULL},
    {"experts_per_token", FIELD_VALUE, AT(common.experts_per_token), 0, 0, NULL},
    {"expert_mask", FIELD_VALUE, AT(common.expert_mask), 0, 0, NULL},
    {"expert_force", FIELD_VALUE, AT(common.expert_force), 0, 0, NULL},
    {"logprobs", FIELD_REFUSED, 0, 0, 0, "/v1/chat/completions has them"},
    {"top_logprobs", FIELD_REFUSED, 0, 0, 0, "/v1/chat/completions has them"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule chat_fields[] = {
    {"messages", FIELD_VALUE, AT(messages), 0, 0, NULL},
    {"tools", FIELD_VALUE, AT(tools), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule generate_fields[] = {
    {"prompt", FIELD_TEXT, AT(prompt), 0, 0, NULL},
    {"system", FIELD_TEXT, AT(system), 0, 0, NULL},
    {"raw", FIELD_BOOL, AT(raw), 0, 0, NULL},
    {"suffix", FIELD_REFUSED, 0, 0, 0, "the model is not asked to fill in the middle"},
    {"template", FIELD_REFUSED, 0, 0, 0, "templates are the server's"},
    {"context", FIELD_REFUSED, 0, 0, 0, "send the conversation to /api/chat"},
    {"images", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static const field_rule option_fields[] = {
    {"num_predict", FIELD_LONG, AT(common.max_tokens), -2, INT_MAX, NULL},
    {"num_ctx", FIELD_INT, AT(context), 0, INT_MAX, NULL},
    {"num_keep", FIELD_IGNORED, 0, 0, 0, NULL}, /* contexts are never shifted */
    {"num_batch", FIELD_IGNORED, 0, 0, 0, NULL},
    {"num_gpu", FIELD_IGNORED, 0, 0, 0, NULL},
    {"main_gpu", FIELD_IGNORED, 0, 0, 0, NULL},
    {"num_thread", FIELD_IGNORED, 0, 0, 0, NULL},
    {"use_mmap", FIELD_IGNORED, 0, 0, 0, NULL},
    {"use_mlock", FIELD_IGNORED, 0, 0, 0, NULL},
    {"low_vram", FIELD_IGNORED, 0, 0, 0, NULL},
    {"numa", FIELD_IGNORED, 0, 0, 0, NULL},
    {"logits_all", FIELD_IGNORED, 0, 0, 0, NULL}, /* those that are asked for are given */
    {"f16_kv", FIELD_BOOL, AT(f16_kv), 0, 0, NULL},
    {"penalize_newline", FIELD_BOOL, AT(penalize_newline), 0, 0, NULL},
    {"vocab_only", FIELD_REFUSED, 0, 0, 0, NULL},
    {"embedding_only", FIELD_REFUSED, 0, 0, 0, NULL},
    {"num_gqa", FIELD_REFUSED, 0, 0, 0, "the model's file says it"},
    {"rope_frequency_base", FIELD_REFUSED, 0, 0, 0, "the model's file says it"},
    {"rope_frequency_scale", FIELD_REFUSED, 0, 0, 0, "the model's file says it"},
    {"stream", FIELD_VALUE, AT(misplaced), 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static void ollama_free(void *settings)
{
    ollama_request *request = settings;
    text_free(&request->text);
    json_decref(request->made_messages);
    json_decref(request->made_variables);
    request_free(&request->common);
    free(request);
}

static void write_time(text_buffer *out, const char *name, int64_t seconds)
{
    char text[40];
    struct tm utc;
    time_t when = (time_t)seconds;
    gmtime_r(&when, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    text_member(out, name, text);
}

static void write_head(const api_call *call, text_buffer *out)
{
    const ollama_request *request = call->settings;
    text_put(out, "{");
    text_member(out, "model", call_model(call, request->model));
    write_time(out, "created_at", (int64_t)time(NULL));
}

/* Calls as Ollama has them: the arguments are an object. */
static void write_calls(const tool_calls *calls, text_buffer *out)
{
    text_key(out, "tool_calls");
    text_put(out, "[");
    for (size_t i = 0; i < calls->count; i++) {
        text_comma(out);
        text_put(out, "{\"function\":{");
        text_member(out, "name", calls->calls[i].name);
        text_key(out, "arguments");
        write_arguments(&calls->calls[i], out);
        text_put(out, "}}");
    }
    text_put(out, "]");
}

static void write_said(const ollama_request *request, const char *text, size_t length,
                       const tool_calls *calls, text_buffer *out)
{
    if (!request->chat) {
        text_key(out, "response");
        text_json(out, text, length);
        return;
    }
    text_key(out, "message");
    text_put(out, "{\"role\":\"assistant\"");
    text_key(out, "content");
    text_json(out, text, length);
    if (calls != NULL && calls->count > 0) {
        write_calls(calls, out);
    }
    text_put(out, "}");
}

/* Of generation_now's times. */
static int64_t nanoseconds(int64_t from, int64_t to)
{
    return from > 0 && to > from ? (to - from) * 1000 : 0;
}

static void write_done(const api_call *call, finish_reason finish, text_buffer *out)
{
    generation_counts counts;
    generation_times times;
    int64_t now = generation_now();
    generation_describe(call->generation, &counts, &times);
    text_member_bool(out, "done", true);
    text_member(out, "done_reason", finish == FINISH_LENGTH ? "length" : "stop");
    text_member_integer(out, "total_duration", nanoseconds(1000 * call->request->began, now));
    text_member_integer(out, "load_duration", 0);
    text_member_integer(out, "prompt_eval_count", (int64_t)counts.prompt_tokens);
    text_member_integer(out, "prompt_eval_duration",
                        nanoseconds(times.begun, times.first > 0 ? times.first : now));
    text_member_integer(out, "eval_count", (int64_t)counts.drawn_tokens);
    text_member_integer(out, "eval_duration", nanoseconds(times.first, now));
    text_put(out, "}");
}

static void ollama_whole(api_call *call, const generation_piece *pieces, text_buffer *out)
{
    ollama_request *request = call->settings;
    finish_reason finish = FINISH_END;
    text_put(&request->text, "");
    for (const generation_piece *piece = pieces; piece != NULL; piece = piece->next) {
        text_add(&request->text, piece->text, piece->text_length);
        finish = piece->kind == PIECE_END ? piece->finish : finish;
    }
    if (request->text.failed) {
        out->failed = true;
        return;
    }
    tool_calls calls = tool_calls_read(request->form, request->text.bytes, request->text.length);
    write_head(call, out);
    text_buffer content = tool_calls_content(&calls, request->text.bytes, 0);
    write_said(request, content.bytes, content.length, &calls, out);
    out->failed = out->failed || content.failed;
    text_free(&content);
    if (request->common.routing) {
        write_routing(call->server, pieces, 0, false, out);
    }
    write_done(call, finish, out);
    tool_calls_free(&calls);
}

static void write_line(const api_call *call, const generation_piece *piece, const char *text,
                       size_t length, text_buffer *out)
{
    const ollama_request *request = call->settings;
    write_head(call, out);
    write_said(request, text, length, NULL, out);
    if (request->common.routing && piece->kind != PIECE_END) {
        write_routing(call->server, piece, 0, true, out);
    }
    text_member_bool(out, "done", false);
    text_put(out, "}\n");
}

static void ollama_piece(api_call *call, const generation_piece *piece, text_buffer *out)
{
    ollama_request *request = call->settings;
    text_add(&request->text, piece->text, piece->text_length);
    if (request->text.failed) {
        out->failed = true;
        return;
    }
    const char *text = request->text.bytes;
    if (piece->kind != PIECE_END) {
        size_t until = tool_calls_begin(request->form, text, request->text.length);
        if (until > request->shown || request->common.routing) {
            until = until > request->shown ? until : request->shown;
            write_line(call, piece, text + request->shown, until - request->shown, out);
            request->shown = until;
        }
        return;
    }
    tool_calls calls = tool_calls_read(request->form, text, request->text.length);
    text_buffer content = tool_calls_content(&calls, text, request->shown);
    if (content.length > 0) {
        write_line(call, piece, content.bytes, content.length, out);
    }
    out->failed = out->failed || content.failed;
    text_free(&content);
    write_head(call, out);
    write_said(request, "", 0, &calls, out);
    write_done(call, piece->finish, out);
    text_put(out, "\n");
    tool_calls_free(&calls);
}

static void ollama_end(api_call *call, text_buffer *out)
{
    (void)call; /* the last line was the end's */
    (void)out;
}

static void write_error(const api_problem *problem, text_buffer *out)
{
    text_put(out, "{");
    text_member(out, "error", problem->message);
    text_put(out, "}\n");
}

static void ollama_failed(api_call *call, const api_problem *problem, text_buffer *out)
{
    (void)call;
    write_error(problem, out);
}

static const api_format ollama_format = {
    .stream_type = "application/x-ndjson",
    .piece = ollama_piece,
    .end = ollama_end,
    .whole = ollama_whole,
    .failed = ollama_failed,
};

/* ---- requests */

/* "json", or a schema. */
static bool read_format(ollama_request *request, api_problem *problem)
{
    const char *word = json_string_value(request->format);
    if (request->format == NULL || (word != NULL && word[0] == 0)) {
        return true;
    }
    if (word != NULL && strcmp(word, "json") == 0) {
        json_t *any = json_pack("{s:s}", "type", "object");
        bool good = request_schema(&request->common, any, "format", problem);
        json_decref(any);
        return good;
    }
    return request_schema(&request->common, request->format, "format", problem);
}

/* What may stand in the body and among its options has to be the same in both. */
static bool check_options(const json_t *body, const json_t *options, api_problem *problem)
{
    static const char *const names[] = {"routing", "experts_per_token", "expert_mask",
                                        "expert_force"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char inner[40];
        snprintf(inner, sizeof inner, "options.%s", names[i]);
        if (!fields_agree(inner, json_object_get(options, names[i]), names[i],
                          json_object_get(body, names[i]), problem)) {
            return false;
        }
    }
    return true;
}

/* The body's `options`: those of loading have to be what is here already. */
static bool read_options(const api_call *call, ollama_request *request, api_problem *problem)
{
    static const field_rule *const tables[] = {option_fields, request_fields, NULL};
    size_t context = generator_context(call->server->generator);
    request->penalize_newline = request->f16_kv = true;
    if (request->options == NULL) {
        return true;
    }
    if (!json_is_object(request->options)) {
        return api_fail(problem, 400, "invalid_type", "options", "options must be an object");
    }
    if (!check_options(call->body, request->options, problem) ||
        !fields_read(request->options, tables, request, problem)) {
        return false;
    }
    if (request->misplaced != NULL) {
        return api_fail(problem, 400, "invalid_value", "options.stream",
                        "options.stream: stream stands beside options");
    }
    if (!request->f16_kv || !request->penalize_newline) {
        const char *name = request->f16_kv ? "penalize_newline" : "f16_kv";
        return api_fail(problem, 400, "unsupported_parameter", name, "%s: false is not supported%s",
                        name,
                        request->f16_kv ? "" : ": the type of the cache is the server's (-ctk)");
    }
    return (size_t)request->context <= context ||
           api_fail(problem, 400, "invalid_value", "num_ctx",
                    "num_ctx: the server's contexts have %zu positions (mixt serve -c)", context);
}

bool ollama_check_options(const api_call *call, const json_t *options, api_problem *problem)
{
    ollama_request request = {.options = options};
    if (!read_options(call, &request, problem)) {
        return false;
    }
    const api_request *common = &request.common;
    return (!common->routing && common->experts_per_token == NULL && common->expert_mask == NULL &&
            common->expert_force == NULL) ||
           api_fail(problem, 400, "unsupported_parameter", "options",
                    "options: experts are not changed, nor told, where texts are embedded");
}

/* Thinking is the template's: a switch, or one of three words. */
static bool read_think(const api_call *call, ollama_request *request, api_problem *problem)
{
    const char *word = json_string_value(request->think);
    const char *variable = word != NULL ? "reasoning_effort" : "enable_thinking";
    if (request->think == NULL) {
        return true;
    }
    if (!json_is_boolean(request->think) &&
        (word == NULL ||
         (strcmp(word, "low") != 0 && strcmp(word, "medium") != 0 && strcmp(word, "high") != 0))) {
        return api_fail(problem, 400, "invalid_value", "think",
                        "think must be true or false, or \"low\", \"medium\" or \"high\"");
    }
    if (json_is_true(request->think) || word != NULL) {
        if (request->raw) {
            return api_fail(problem, 400, "unsupported_parameter", "think",
                            "think: with raw there is no template that could be told");
        }
        if (!template_names(call->server, variable)) {
            return api_fail(problem, 400, "unsupported_parameter", "think",
                            "think: the model's chat template does not support thinking%s",
                            word != NULL ? " by low, medium and high" : "");
        }
    }
    request->made_variables = json_pack("{s:O}", variable, request->think);
    return request->made_variables != NULL ||
           api_fail(problem, 503, "no_memory", NULL, "out of memory");
}

static bool read_request(api_call *call, ollama_request *request)
{
    const field_rule *const tables[] = {request->chat ? chat_fields : generate_fields,
                                        shared_fields, NULL};
    api_problem *problem = &call->problem;
    if (!fields_read(call->body, tables, request, problem)) {
        return false;
    }
    if (request->model == NULL) {
        return api_fail(problem, 400, "invalid_value", "model", "model is needed");
    }
    if (!read_options(call, request, problem)) {
        return false;
    }
    request->common.max_tokens = request->common.max_tokens < 0 ? -1 : request->common.max_tokens;
    request->common.stream = request->streams;
    return read_think(call, request, problem) &&
           model_is_served(call->server, request->model, problem) && read_format(request, problem);
}

/* The messages that a prompt stands for. */
static bool make_messages(ollama_request *request, api_problem *problem)
{
    json_t *messages = json_array();
    bool good = messages != NULL;
    if (good && request->system != NULL) {
        good = json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content",
                                                         request->system)) == 0;
    }
    good = good && json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content",
                                                             request->prompt)) == 0;
    request->made_messages = messages;
    request->messages = messages;
    return good || api_fail(problem, 503, "no_memory", NULL, "out of memory");
}

static bool make_prompt(api_call *call, ollama_request *request, generation_prompt *prompt)
{
    api_problem *problem = &call->problem;
    const serve_server *server = call->server;
    bool used = false;
    if (!request->chat && (request->raw || server->options->chat_template == NULL)) {
        return (request->system == NULL || api_fail(problem, 400, "invalid_value", "system",
                                                    "system is nothing without a chat template")) &&
               encode_prompt(server, request->prompt, strlen(request->prompt), true, prompt,
                             problem);
    }
    if (!request->chat && !make_messages(request, problem)) {
        return false;
    }
    if (!tool_choice_read(server, request->tools, NULL, &request->common, &used, problem)) {
        return false;
    }
    request->form = used ? tool_form_of(server->options->chat_template) : TOOLS_UNKNOWN;
    const chat_input input = {.messages = request->messages,
                              .tools = used ? request->tools : NULL,
                              .variables = request->made_variables};
    return chat_prompt(server, &input, prompt, problem);
}

/* Without a text a client asks for the model to be loaded, which it is. */
static bool is_load(const ollama_request *request)
{
    return request->chat ? request->messages == NULL || (json_is_array(request->messages) &&
                                                         json_array_size(request->messages) == 0)
                         : request->prompt == NULL || request->prompt[0] == 0;
}

static http_progress answer_load(api_call *call, http_reply *reply)
{
    text_buffer *out = &reply->body;
    write_head(call, out);
    write_said(call->settings, "", 0, NULL, out);
    text_member_bool(out, "done", true);
    text_member(out, "done_reason", "load");
    text_put(out, "}");
    return HTTP_ANSWERED;
}

static http_progress answer_generate_or_chat(api_call *call, bool chat, http_reply *reply)
{
    ollama_request *request = calloc(1, sizeof *request);
    generation_prompt *prompt = calloc(1, sizeof *prompt);
    generation_order order = {0};
    if (request == NULL || prompt == NULL) {
        free(request);
        free(prompt);
        api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
        return HTTP_ANSWERED;
    }
    call->settings = request;
    call->settings_free = ollama_free;
    request_defaults(&request->common, true);
    request->chat = chat;
    request->streams = true;
    bool good = read_request(call, request);
    bool loads = good && is_load(request);
    if (!good || loads || !call_reserve(call) || !make_prompt(call, request, prompt)) {
        free(prompt->ids);
        free(prompt);
        return loads ? answer_load(call, reply) : HTTP_ANSWERED;
    }
    if (!request_order(call->server, &request->common, prompt, 1, &order, &call->problem)) {
        generation_order_free(&order);
        return HTTP_ANSWERED;
    }
    return call_generate(call, &order, &ollama_format);
}

static http_progress answer_chat(api_call *call, http_reply *reply)
{
    return answer_generate_or_chat(call, true, reply);
}

static http_progress answer_generate(api_call *call, http_reply *reply)
{
    return answer_generate_or_chat(call, false, reply);
}

/* ---- what there is */

static void write_count(text_buffer *out, const char *name, uint64_t parameters)
{
    static const struct {
        uint64_t size;
        char letter;
    } units[] = {{1000000000, 'B'}, {1000000, 'M'}, {1000, 'K'}};
    text_key(out, name);
    for (int i = 0; i < 3; i++) {
        if (parameters >= units[i].size || i == 2) {
            text_format(out, "\"%llu.%llu%c\"", (unsigned long long)(parameters / units[i].size),
                        (unsigned long long)(parameters % units[i].size * 10 / units[i].size),
                        units[i].letter);
            return;
        }
    }
}

static void write_details(const serve_server *server, text_buffer *out)
{
    const mixt_model_info *info = &server->info;
    text_key(out, "details");
    text_put(out, "{");
    text_member(out, "parent_model", "");
    text_member(out, "format", info->file_type != NULL ? "gguf" : "safetensors");
    text_member(out, "family", info->family);
    text_key(out, "families");
    text_put(out, "[");
    text_json_string(out, info->family);
    text_put(out, "]");
    write_count(out, "parameter_size", info->parameters_total);
    text_member(out, "quantization_level",
                info->file_type != NULL ? info->file_type
                : info->type_count > 0  ? info->types[0].type
                                        : "F32");
    text_put(out, "}");
}

static http_progress answer_tags(api_call *call, http_reply *reply)
{
    const serve_server *server = call->server;
    text_buffer *out = &reply->body;
    text_put(out, "{\"models\":[");
    for (size_t i = 0; i < server->options->alias_count; i++) {
        const char *name = server->options->aliases[i];
        if (strcmp(name, "*") == 0) {
            continue;
        }
        text_comma(out);
        text_put(out, "{");
        text_member(out, "name", name);
        text_member(out, "model", name);
        write_time(out, "modified_at", server->created);
        text_member_integer(out, "size", (int64_t)server->info.weight_bytes);
        text_member(out, "digest", mixt_tokenizer_hash(server->tokenizer));
        write_details(server, out);
        text_put(out, "}");
    }
    text_put(out, "]}");
    return HTTP_ANSWERED;
}

static http_progress answer_show(api_call *call, http_reply *reply)
{
    static const field_rule rules[] = {
        {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
        {"name", FIELD_TEXT, AT(model), 0, 0, NULL},
        {"verbose", FIELD_IGNORED, 0, 0, 0, NULL},
        {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
    };
    static const field_rule *const tables[] = {rules, NULL};
    const serve_server *server = call->server;
    const mixt_model_options *options = &server->info.options;
    const char *chat_template = server->options->chat_template;
    text_buffer *out = &reply->body;
    ollama_request request = {0};
    if (!fields_read(call->body, tables, &request, &call->problem) ||
        !model_is_served(server, request.model, &call->problem)) {
        return HTTP_ANSWERED;
    }
    text_put(out, "{");
    text_member(out, "modelfile", "");
    text_member(out, "parameters", "");
    text_member(out, "template", chat_template != NULL ? chat_template : "");
    write_details(server, out);
    text_key(out, "model_info");
    text_put(out, "{");
    text_member(out, "general.architecture", server->info.family);
    text_member_integer(out, "general.parameter_count", (int64_t)server->info.parameters_total);
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"context_length", options->context_length},
        {"embedding_length", options->hidden_size},
        {"block_count", options->layers},
        {"attention.head_count", options->heads},
        {"attention.head_count_kv", options->kv_heads},
        {"expert_count", options->experts},
        {"expert_used_count", options->experts_per_token},
        {"vocab_size", options->vocab_size},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        text_comma(out);
        text_format(out, "\"%s.%s\":%lld", server->info.family, rows[i].name,
                    (long long)rows[i].value);
    }
    text_put(out, "}");
    text_key(out, "capabilities");
    text_put(out, "[\"completion\"");
    if (template_names(server, "tools")) {
        text_put(out, ",\"tools\"");
    }
    text_put(out, "]");
    write_time(out, "modified_at", server->created);
    text_put(out, "}");
    return HTTP_ANSWERED;
}

static http_progress answer_version(api_call *call, http_reply *reply)
{
    (void)call;
    text_put(&reply->body, "{\"version\":\"" MIXT_VERSION "\"}");
    return HTTP_ANSWERED;
}

const api_route ollama_routes[] = {
    {.method = "POST", .path = "/api/chat", .answer = answer_chat, .body = true},
    {.method = "POST", .path = "/api/generate", .answer = answer_generate, .body = true},
    {.method = "GET", .path = "/api/tags", .answer = answer_tags},
    {.method = "POST", .path = "/api/show", .answer = answer_show, .body = true},
    {.method = "GET", .path = "/api/version", .answer = answer_version, .open = true},
    {.method = NULL},
};
