/* OpenAI's chat completions. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "openai.h"

/* What has been said of one choice, for a stream. */
typedef struct chat_choice {
    text_buffer text; /* whole reply so far */
    size_t shown;
    bool named; /* the first delta had the role */
} chat_choice;

typedef struct chat_request {
    openai_request openai;
    const json_t *messages, *tools, *tool_choice, *variables, *modalities;
    const char *reasoning_effort;
    int top_logprobs;
    bool logprobs, parallel, generation_prompt;
    tool_form form; /* TOOLS_UNKNOWN where calls are not looked for */
    chat_choice *choices;
    int choice_count;
    json_t *made_variables;
} chat_request;

#define AT(member) offsetof(chat_request, member)

static const field_rule chat_fields[] = {
    {"messages", FIELD_VALUE, AT(messages), 0, 0, NULL},
    {"max_completion_tokens", FIELD_LONG, AT(openai.common.max_tokens), -1, INT_MAX, NULL},
    {"logprobs", FIELD_BOOL, AT(logprobs), 0, 0, NULL},
    {"top_logprobs", FIELD_INT, AT(top_logprobs), 0, 100, NULL},
    {"tools", FIELD_VALUE, AT(tools), 0, 0, NULL},
    {"tool_choice", FIELD_VALUE, AT(tool_choice), 0, 0, NULL},
    {"parallel_tool_calls", FIELD_BOOL, AT(parallel), 0, 0, NULL},
    {"chat_template_kwargs", FIELD_VALUE, AT(variables), 0, 0, NULL},
    {"add_generation_prompt", FIELD_BOOL, AT(generation_prompt), 0, 0, NULL},
    {"reasoning_effort", FIELD_TEXT, AT(reasoning_effort), 0, 0, NULL},
    {"modalities", FIELD_VALUE, AT(modalities), 0, 0, NULL},
    {"audio", FIELD_REFUSED, 0, 0, 0, "the model speaks text"},
    {"prediction", FIELD_IGNORED, 0, 0, 0, NULL}, /* of speed alone */
    {"web_search_options", FIELD_REFUSED, 0, 0, 0, NULL},
    {"functions", FIELD_REFUSED, 0, 0, 0, "tools have taken their place"},
    {"function_call", FIELD_REFUSED, 0, 0, 0, "tool_choice has taken its place"},
    {"verbosity", FIELD_REFUSED, 0, 0, 0, NULL},
    {"chat_template", FIELD_REFUSED, 0, 0, 0, "templates are the server's"},
    {"continue_final_message", FIELD_REFUSED, 0, 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static void chat_free(void *settings)
{
    chat_request *request = settings;
    for (int i = 0; request->choices != NULL && i < request->choice_count; i++) {
        text_free(&request->choices[i].text);
    }
    free(request->choices);
    json_decref(request->made_variables);
    request_free(&request->openai.common);
    free(request);
}

/* ---- probabilities */

static void write_token_probability(const serve_server *server, int32_t id, double logprob,
                                    text_buffer *out)
{
    text_key(out, "token");
    write_token(server, id, out);
    text_member_number(out, "logprob", logprob);
    text_key(out, "bytes");
    write_token_bytes(server, id, out);
}

/* "logprobs" of the pieces of a choice, or of one piece. */
static void write_logprobs(const api_call *call, const generation_piece *pieces, int choice,
                           bool one, text_buffer *out)
{
    const chat_request *request = call->settings;
    text_key(out, "logprobs");
    if (!request->logprobs) {
        text_put(out, "null");
        return;
    }
    text_put(out, "{\"content\":[");
    for (; pieces != NULL; pieces = one ? NULL : pieces->next) {
        if (pieces->choice != choice || pieces->kind != PIECE_TOKEN) {
            continue;
        }
        text_comma(out);
        text_put(out, "{");
        write_token_probability(call->server, pieces->token, pieces->logprob, out);
        text_key(out, "top_logprobs");
        text_put(out, "[");
        for (int i = 0; i < pieces->top_count && pieces->top_ids[i] >= 0; i++) {
            text_comma(out);
            text_put(out, "{");
            write_token_probability(call->server, pieces->top_ids[i], pieces->top_values[i], out);
            text_put(out, "}");
        }
        text_put(out, "]}");
    }
    text_put(out, "],\"refusal\":null}");
}

static const char *finish_word(finish_reason finish, bool called)
{
    return called                    ? "tool_calls"
           : finish == FINISH_NONE   ? NULL
           : finish == FINISH_LENGTH ? "length"
                                     : "stop";
}

/* Ids of calls have to differ between choices. */
static void call_id(const chat_request *request, int choice, char id[80])
{
    text_buffer text = {0};
    text_format(&text, "%s_%d", request->openai.id + strlen("chatcmpl-"), choice);
    id[0] = 0;
    if (!text.failed && text.length < 80) {
        memcpy(id, text.bytes, text.length + 1);
    }
    text_free(&text);
}

/* The calls in a reply; the first alone where the client takes no more at once. */
static tool_calls read_calls(const chat_request *request, const text_buffer *text)
{
    tool_calls calls = tool_calls_read(request->form, text->bytes, text->length);
    if (!request->parallel) {
        tool_calls_cut(&calls, 1);
    }
    return calls;
}

/* ---- whole replies */

static void write_message(const chat_request *request, int choice, const text_buffer *text,
                          const tool_calls *calls, text_buffer *out)
{
    char id[80];
    text_key(out, "message");
    text_put(out, "{\"role\":\"assistant\"");
    text_key(out, "content");
    text_buffer content = tool_calls_content(calls, text->bytes, 0);
    if (calls->count > 0 && content.length == 0) {
        text_put(out, "null");
    } else {
        text_json(out, content.bytes, content.length);
    }
    out->failed = out->failed || content.failed;
    text_free(&content);
    text_put(out, ",\"refusal\":null");
    if (calls->count > 0) {
        call_id(request, choice, id);
        text_key(out, "tool_calls");
        write_tool_calls(calls, id, false, out);
    }
    text_put(out, "}");
}

static void write_choice(const api_call *call, const generation_piece *pieces, int choice,
                         text_buffer *out)
{
    const chat_request *request = call->settings;
    text_buffer text = {0};
    finish_reason finish = FINISH_NONE;
    text_put(&text, "");
    for (const generation_piece *piece = pieces; piece != NULL; piece = piece->next) {
        if (piece->choice == choice) {
            text_add(&text, piece->text, piece->text_length);
            finish = piece->kind == PIECE_END ? piece->finish : finish;
        }
    }
    if (text.failed) {
        out->failed = true;
        text_free(&text);
        return;
    }
    tool_calls calls = read_calls(request, &text);
    text_comma(out);
    text_put(out, "{");
    text_member_integer(out, "index", choice);
    write_message(request, choice, &text, &calls, out);
    write_logprobs(call, pieces, choice, false, out);
    text_member(out, "finish_reason", finish_word(finish, calls.count > 0));
    if (request->openai.common.routing) {
        write_routing(call->server, pieces, choice, false, out);
    }
    text_put(out, "}");
    tool_calls_free(&calls);
    text_free(&text);
}

static void chat_whole(api_call *call, const generation_piece *pieces, text_buffer *out)
{
    const chat_request *request = call->settings;
    openai_write_head(call, "chat.completion", out);
    text_key(out, "choices");
    text_put(out, "[");
    for (int i = 0; i < request->choice_count; i++) {
        write_choice(call, pieces, i, out);
    }
    text_put(out, "]");
    openai_write_usage(call, out);
    text_put(out, "}");
}

/* ---- streams */

/* One chunk: `delta` is the inside of its object. */
static void write_chunk(const api_call *call, const generation_piece *piece, int choice,
                        const text_buffer *delta, const char *finish, text_buffer *out)
{
    const chat_request *request = call->settings;
    bool token = piece != NULL && piece->kind != PIECE_END;
    text_put(out, "data: ");
    openai_write_head(call, "chat.completion.chunk", out);
    text_key(out, "choices");
    text_put(out, "[{");
    text_member_integer(out, "index", choice);
    text_key(out, "delta");
    text_put(out, "{");
    text_add(out, delta->bytes != NULL ? delta->bytes : "", delta->length);
    text_put(out, "}");
    if (token && piece->kind == PIECE_TOKEN) {
        write_logprobs(call, piece, choice, true, out);
    } else {
        text_put(out, ",\"logprobs\":null");
    }
    text_member(out, "finish_reason", finish);
    if (token && request->openai.common.routing) {
        write_routing(call->server, piece, choice, true, out);
    }
    text_put(out, "}]");
    if (request->openai.include_usage) {
        text_put(out, ",\"usage\":null");
    }
    text_put(out, "}\n\n");
    out->failed = out->failed || delta->failed;
}

static void chat_begin(api_call *call, text_buffer *out)
{
    const chat_request *request = call->settings;
    text_buffer delta = {0};
    text_put(&delta, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    for (int i = 0; i < request->choice_count; i++) {
        write_chunk(call, NULL, i, &delta, NULL, out);
    }
    text_free(&delta);
}

static void write_content(const api_call *call, const generation_piece *piece, const char *text,
                          size_t length, text_buffer *out)
{
    text_buffer delta = {0};
    if (length > 0) {
        text_put(&delta, "\"content\":");
        text_json(&delta, text, length);
    }
    write_chunk(call, piece, piece->choice, &delta, NULL, out);
    text_free(&delta);
}

static void chat_piece(api_call *call, const generation_piece *piece, text_buffer *out)
{
    const chat_request *request = call->settings;
    chat_choice *choice = &request->choices[piece->choice];
    bool told = piece->kind != PIECE_END && (request->logprobs || request->openai.common.routing);
    text_add(&choice->text, piece->text, piece->text_length);
    if (choice->text.failed) {
        out->failed = true;
        return;
    }
    if (piece->kind != PIECE_END) {
        size_t until = tool_calls_begin(request->form, choice->text.bytes, choice->text.length);
        until = until > choice->shown ? until : choice->shown;
        if (until > choice->shown || told) {
            write_content(call, piece, choice->text.bytes + choice->shown, until - choice->shown,
                          out);
            choice->shown = until;
        }
        return;
    }
    tool_calls calls = read_calls(request, &choice->text);
    text_buffer delta = {0},
                content = tool_calls_content(&calls, choice->text.bytes, choice->shown);
    if (content.length > 0) {
        write_content(call, piece, content.bytes, content.length, out);
    }
    out->failed = out->failed || content.failed;
    text_free(&content);
    if (calls.count > 0) {
        char id[80];
        call_id(request, piece->choice, id);
        text_put(&delta, "\"tool_calls\":");
        write_tool_calls(&calls, id, true, &delta);
        write_chunk(call, NULL, piece->choice, &delta, NULL, out);
        text_free(&delta);
    }
    write_chunk(call, piece, piece->choice, &delta, finish_word(piece->finish, calls.count > 0),
                out);
    tool_calls_free(&calls);
}

static void chat_end(api_call *call, text_buffer *out)
{
    openai_write_end(call, "chat.completion.chunk", out);
}

static const api_format chat_format = {
    .stream_type = "text/event-stream",
    .begin = chat_begin,
    .piece = chat_piece,
    .end = chat_end,
    .whole = chat_whole,
    .failed = openai_failed,
};

/* ---- requests */

static bool read_modalities(const chat_request *request, api_problem *problem)
{
    const char *only = json_string_value(json_array_get(request->modalities, 0));
    return request->modalities == NULL ||
           (json_array_size(request->modalities) == 1 && only != NULL &&
            strcmp(only, "text") == 0) ||
           api_fail(problem, 400, "unsupported_parameter", "modalities",
                    "modalities: text alone is there");
}

/* What templates are told, where they ask for it. */
static bool check_effort(const api_call *call, const chat_request *request, api_problem *problem)
{
    static const char *const words[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    const char *effort = request->reasoning_effort;
    bool known = effort == NULL;
    for (size_t i = 0; !known && i < sizeof words / sizeof *words; i++) {
        known = strcmp(effort, words[i]) == 0;
    }
    if (!known) {
        return api_fail(problem, 400, "invalid_value", "reasoning_effort",
                        "reasoning_effort must be none, minimal, low, medium, high or xhigh");
    }
    if (!fields_agree("chat_template_kwargs.reasoning_effort",
                      json_object_get(request->variables, "reasoning_effort"), "reasoning_effort",
                      json_object_get(call->body, "reasoning_effort"), problem)) {
        return false;
    }
    return effort == NULL || call->server->options->chat_template == NULL ||
           template_names(call->server, "reasoning_effort") ||
           api_fail(problem, 400, "unsupported_parameter", "reasoning_effort",
                    "reasoning_effort: the model's chat template does not read it");
}

static bool read_chat(api_call *call, chat_request *request, chat_input *input)
{
    api_problem *problem = &call->problem;
    bool used = false;
    if (!read_modalities(request, problem) || !check_effort(call, request, problem) ||
        !tool_choice_read(call->server, request->tools, request->tool_choice,
                          &request->openai.common, &used, problem)) {
        return false;
    }
    if (request->top_logprobs >= 0 && !request->logprobs) {
        return api_fail(problem, 400, "invalid_value", "top_logprobs",
                        "top_logprobs is nothing without \"logprobs\": true");
    }
    request->openai.common.top_logprobs = !request->logprobs          ? -1
                                          : request->top_logprobs < 0 ? 0
                                                                      : request->top_logprobs;
    request->form = used ? tool_form_of(call->server->options->chat_template) : TOOLS_UNKNOWN;
    *input = (chat_input){.messages = request->messages,
                          .tools = used ? request->tools : NULL,
                          .variables = request->variables,
                          .no_generation_prompt = !request->generation_prompt};
    if (request->reasoning_effort != NULL && json_is_object(request->variables)) {
        request->made_variables = json_copy((json_t *)(uintptr_t)request->variables);
    } else if (request->reasoning_effort != NULL && request->variables == NULL) {
        request->made_variables = json_object();
    }
    if (request->made_variables != NULL) {
        json_object_set_new(request->made_variables, "reasoning_effort",
                            json_string(request->reasoning_effort));
        input->variables = request->made_variables;
    }
    return true;
}

static bool make_order(api_call *call, const chat_input *input, generation_order *order)
{
    chat_request *request = call->settings;
    api_problem *problem = &call->problem;
    generation_prompt *prompt = calloc(1, sizeof *prompt);
    request->choice_count = request->openai.common.n;
    request->choices = calloc((size_t)request->choice_count, sizeof *request->choices);
    if (prompt == NULL || request->choices == NULL) {
        free(prompt);
        return api_fail(problem, 503, "no_memory", NULL, "out of memory");
    }
    if (!chat_prompt(call->server, input, prompt, problem)) {
        free(prompt->ids);
        free(prompt);
        return false;
    }
    return request_order(call->server, &request->openai.common, prompt, 1, order, problem);
}

http_progress answer_chat(api_call *call, http_reply *reply)
{
    static const field_rule *const tables[] = {chat_fields, openai_fields, request_fields, NULL};
    chat_request *request = calloc(1, sizeof *request);
    generation_order order = {0};
    chat_input input;
    (void)reply;
    if (request == NULL) {
        api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
        return HTTP_ANSWERED;
    }
    call->settings = request;
    call->settings_free = chat_free;
    request_defaults(&request->openai.common, false);
    request->top_logprobs = -1;
    request->parallel = request->generation_prompt = true;
    if (!fields_read(call->body, tables, request, &call->problem) ||
        !openai_read_options(&request->openai, "chatcmpl", call) ||
        !read_chat(call, request, &input) || !call_reserve(call)) {
        return HTTP_ANSWERED;
    }
    if (!make_order(call, &input, &order)) {
        generation_order_free(&order);
        return HTTP_ANSWERED;
    }
    return call_generate(call, &order, &chat_format);
}
