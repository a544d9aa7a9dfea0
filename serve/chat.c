#include "chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES_MAX = 4096 };

/* ---- messages */

static bool bad_message(size_t index, const char *what, api_problem *problem)
{
    char param[40];
    snprintf(param, sizeof param, "messages[%zu]", index);
    return api_fail(problem, 400, "invalid_message", param, "messages[%zu]: %s", index, what);
}

/* Content of parts [{"type": "text", "text": ...}] as one text. */
static json_t *join_parts(const json_t *parts, size_t index, api_problem *problem)
{
    text_buffer text = {0};
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *said = json_object_get(part, "text");
        if (type == NULL || (strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0) ||
            !json_is_string(said)) {
            text_free(&text);
            bad_message(index, "content: only parts of type text are supported", problem);
            return NULL;
        }
        text_add(&text, json_string_value(said), json_string_length(said));
    }
    json_t *joined =
        text.failed ? NULL : json_stringn(text.length > 0 ? text.bytes : "", text.length);
    text_free(&text);
    if (joined == NULL) {
        api_fail(problem, 503, "no_memory", NULL, "out of memory");
    }
    return joined;
}

/* Arguments of calls come as JSON in a string; templates expect the object. */
static bool open_arguments(json_t *message, size_t index, api_problem *problem)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    if (calls == NULL || json_is_null(calls)) {
        return true;
    }
    if (!json_is_array(calls)) {
        return bad_message(index, "tool_calls must be an array", problem);
    }
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        const json_t *arguments = json_object_get(function, "arguments");
        if (!json_is_string(json_object_get(function, "name"))) {
            return bad_message(index, "tool_calls: a call is {\"function\": {\"name\": ...}}",
                               problem);
        }
        if (json_is_string(arguments)) {
            json_t *opened =
                serve_json_any(json_string_value(arguments), json_string_length(arguments));
            if (opened != NULL && json_object_set_new(function, "arguments", opened) != 0) {
                return api_fail(problem, 503, "no_memory", NULL, "out of memory");
            }
        }
    }
    return true;
}

/* A copy of the messages as templates expect them; NULL: the problem is set. */
static json_t *copy_messages(const json_t *given, api_problem *problem)
{
    if (!json_is_array(given) || json_array_size(given) == 0 ||
        json_array_size(given) > MESSAGES_MAX) {
        api_fail(problem, 400, "invalid_message", "messages",
                 "messages must be an array of 1 to %d messages", MESSAGES_MAX);
        return NULL;
    }
    json_t *messages = json_deep_copy(given);
    bool good = messages != NULL || api_fail(problem, 503, "no_memory", NULL, "out of memory");
    for (size_t i = 0; good && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        const json_t *content = json_object_get(message, "content");
        json_t *text = NULL;
        if (!json_is_string(json_object_get(message, "role"))) {
            good = bad_message(i, "a role is needed", problem);
        } else if (json_is_array(content)) {
            text = join_parts(content, i, problem);
            good = text != NULL;
        } else if (content == NULL || json_is_null(content)) {
            good = json_object_get(message, "tool_calls") != NULL ||
                   bad_message(i, "content is needed", problem);
            text = good ? json_string("") : NULL;
        } else if (!json_is_string(content)) {
            good = bad_message(i, "content must be a string or an array of parts", problem);
        }
        if (text != NULL && json_object_set_new(message, "content", text) != 0) {
            good = api_fail(problem, 503, "no_memory", NULL, "out of memory");
        }
        good = good && open_arguments(message, i, problem);
    }
    if (!good) {
        json_decref(messages);
        messages = NULL;
    }
    return messages;
}

/* Variables of the command line, then those of the request. */
static json_t *make_variables(const serve_server *server, const chat_input *input, json_t *messages,
                              api_problem *problem)
{
    const char *fixed = server->options->variables;
    json_t *all = fixed != NULL ? serve_json_any(fixed, strlen(fixed)) : json_object();
    bool good = all != NULL && json_is_object(all);
    if (good && input->variables != NULL) {
        if (!json_is_object(input->variables)) {
            api_fail(problem, 400, "invalid_type", "chat_template_kwargs",
                     "chat_template_kwargs must be an object");
            good = false;
        } else {
            good = json_object_update(all, (json_t *)(uintptr_t)input->variables) == 0;
        }
    }
    good = good && json_object_set(all, "messages", messages) == 0 &&
           (input->tools == NULL ||
            json_object_set(all, "tools", (json_t *)(uintptr_t)input->tools) == 0);
    if (!good) {
        api_fail(problem, 503, "no_memory", NULL, "out of memory");
        json_decref(all);
        all = NULL;
    }
    return all;
}

char *chat_render(const serve_server *server, const chat_input *input, api_problem *problem)
{
    char *text = NULL;
    text_buffer variables = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_chat_options options = mixt_chat_options_default();
    if (server->options->chat_template == NULL) {
        api_fail(problem, 400, "no_chat_template", NULL,
                 "the model has no chat template (mixt serve --template gives it one)");
        return NULL;
    }
    json_t *messages = copy_messages(input->messages, problem);
    json_t *all = messages != NULL ? make_variables(server, input, messages, problem) : NULL;
    if (all != NULL) {
        text_json_value(&variables, all);
        options.add_generation_prompt = !input->no_generation_prompt;
        options.bos_token = server->bos.length > 0 ? server->bos.bytes : NULL;
        options.eos_token = server->eos.length > 0 ? server->eos.bytes : NULL;
        options.variables = variables.bytes;
        options.name = server->options->chat_name;
        mixt_status status = variables.failed ? MIXT_ERROR_MEMORY
                                              : mixt_chat_render(server->options->chat_template,
                                                                 NULL, 0, &options, &text, &error);
        if (status != MIXT_OK) {
            api_fail(problem, status == MIXT_ERROR_MEMORY ? 503 : 400, "template_failed",
                     "messages", "%.450s",
                     status == MIXT_ERROR_MEMORY ? "out of memory" : error.message);
        }
    }
    json_decref(all);
    json_decref(messages);
    text_free(&variables);
    return text;
}

bool chat_prompt(const serve_server *server, const chat_input *input, generation_prompt *prompt,
                 api_problem *problem)
{
    char *text = chat_render(server, input, problem);
    bool good = text != NULL && encode_prompt(server, text, strlen(text), true, prompt, problem);
    free(text);
    return good;
}

/* ---- calls of tools */

static const char tag_begins[] = "<tool_call>", tag_ends[] = "</tool_call>",
                  mark_begins[] = "[TOOL_CALLS]", python_tag[] = "<|python_tag|>";

tool_form tool_form_of(const char *chat_template)
{
    return chat_template == NULL                        ? TOOLS_UNKNOWN
           : strstr(chat_template, tag_begins) != NULL  ? TOOLS_TAGS
           : strstr(chat_template, mark_begins) != NULL ? TOOLS_MARK
           : strstr(chat_template, "\"parameters\":") != NULL ||
                   strstr(chat_template, python_tag) != NULL
               ? TOOLS_JSON
               : TOOLS_UNKNOWN;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t skip_space(const char *text, size_t length, size_t at)
{
    while (at < length && is_space(text[at])) {
        at++;
    }
    return at;
}

/* Where `mark` begins in the text, or might begin at its end. */
static size_t find_mark(const char *text, size_t length, const char *mark)
{
    size_t size = strlen(mark);
    for (size_t i = 0; i < length; i++) {
        size_t left = length - i < size ? length - i : size;
        if (memcmp(text + i, mark, left) == 0) {
            return i;
        }
    }
    return length;
}

size_t tool_calls_begin(tool_form form, const char *text, size_t length)
{
    size_t at = skip_space(text, length, 0);
    switch (form) {
    case TOOLS_UNKNOWN:
        return length;
    case TOOLS_TAGS:
        at = find_mark(text, length, tag_begins);
        break;
    case TOOLS_MARK:
        at = find_mark(text, length, mark_begins);
        break;
    case TOOLS_JSON:
        return at == length || text[at] == '{' || find_mark(text + at, length - at, python_tag) == 0
                   ? 0
                   : length;
    }
    while (at > 0 && is_space(text[at - 1])) { /* what stands between text and calls is of both */
        at--;
    }
    return at;
}

void tool_calls_free(tool_calls *calls)
{
    for (size_t i = 0; i < calls->count; i++) {
        free(calls->calls[i].name);
        free(calls->calls[i].arguments);
    }
    free(calls->calls);
    *calls = (tool_calls){0};
}

/* {"name": ..., "arguments" or "parameters": {...}} */
static bool add_call(tool_calls *calls, const json_t *call)
{
    const char *name = json_string_value(json_object_get(call, "name"));
    const json_t *arguments = json_object_get(call, "arguments");
    text_buffer text = {0};
    arguments = arguments != NULL ? arguments : json_object_get(call, "parameters");
    if (name == NULL || !json_is_object(arguments)) {
        return false;
    }
    tool_call *grown = realloc(calls->calls, (calls->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    calls->calls = grown;
    text_json_value(&text, arguments);
    char *copy = strdup(name);
    if (text.failed || copy == NULL) {
        text_free(&text);
        free(copy);
        return false;
    }
    calls->calls[calls->count++] = (tool_call){copy, text.bytes};
    return true;
}

/* An object, or an array of them, is the text whole. */
static bool add_calls(tool_calls *calls, const char *text, size_t length)
{
    json_t *value = serve_json_any(text, length);
    bool good = value != NULL && (!json_is_array(value) || json_array_size(value) > 0);
    for (size_t i = 0; good && i < (json_is_array(value) ? json_array_size(value) : 1); i++) {
        good = add_call(calls, json_is_array(value) ? json_array_get(value, i) : value);
    }
    json_decref(value);
    return good;
}

static bool add_tagged(tool_calls *calls, const char *text, size_t length)
{
    const size_t begin_size = sizeof tag_begins - 1, end_size = sizeof tag_ends - 1;
    size_t at = skip_space(text, length, calls->content);
    while (at < length) {
        if (length - at < begin_size || memcmp(text + at, tag_begins, begin_size) != 0) {
            return false;
        }
        at += begin_size;
        size_t end = at + find_mark(text + at, length - at, tag_ends);
        if (!add_calls(calls, text + at, end - at)) {
            return false;
        }
        end += length - end < end_size ? length - end : end_size; /* it ended before its end tag */
        at = skip_space(text, length, end);
    }
    return true;
}

tool_calls tool_calls_read(tool_form form, const char *text, size_t length)
{
    tool_calls calls = {.content = tool_calls_begin(form, text, length)};
    size_t at = skip_space(text, length, calls.content);
    bool good = at < length;
    if (good && form == TOOLS_TAGS) {
        good = add_tagged(&calls, text, length);
    } else if (good && (form == TOOLS_MARK || form == TOOLS_JSON)) {
        const char *mark = form == TOOLS_MARK ? mark_begins : python_tag;
        bool marked = length - at >= strlen(mark) && memcmp(text + at, mark, strlen(mark)) == 0;
        at += marked ? strlen(mark) : 0;
        good = (marked || form == TOOLS_JSON) && add_calls(&calls, text + at, length - at);
    } else {
        good = false;
    }
    if (!good) {
        tool_calls_free(&calls);
        calls.content = length;
    }
    return calls;
}

void write_tool_calls(const tool_calls *calls, const char *id, bool indexed, text_buffer *out)
{
    text_put(out, "[");
    for (size_t i = 0; i < calls->count; i++) {
        text_comma(out);
        text_put(out, "{");
        if (indexed) {
            text_member_integer(out, "index", (int64_t)i);
        }
        text_key(out, "id");
        text_format(out, "\"call_%s_%zu\"", id, i);
        text_member(out, "type", "function");
        text_key(out, "function");
        text_put(out, "{");
        text_member(out, "name", calls->calls[i].name);
        text_member(out, "arguments", calls->calls[i].arguments);
        text_put(out, "}}");
    }
    text_put(out, "]");
}

/* ---- which tool is to be called */

/* The schema of one call: its name is fixed, its arguments are what the tool takes. */
static bool write_call_schema(const json_t *tool, const char *arguments, text_buffer *out)
{
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = json_object_get(function, "parameters");
    text_put(out, "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":");
    text_json_string(out, json_string_value(json_object_get(function, "name")));
    text_format(out, "},\"%s\":", arguments);
    if (json_is_object(parameters)) {
        text_json_value(out, parameters);
    } else {
        text_put(out, "{\"type\":\"object\"}");
    }
    text_format(out, "},\"required\":[\"name\",\"%s\"],\"additionalProperties\":false}", arguments);
    return !out->failed;
}

/* A grammar with its rule root called `call`, in front of which others can be put. */
static void rename_root(const char *grammar, text_buffer *out)
{
    char quote = 0;
    for (const char *c = grammar; *c != 0; c++) {
        bool word = c == grammar || strchr(" \t\n()|", c[-1]) != NULL;
        if (quote == 0 && word && strncmp(c, "root", 4) == 0 &&
            (c[4] == 0 || strchr(" \t\n)|*+?{", c[4]) != NULL)) {
            text_put(out, "call");
            c += 3;
            continue;
        }
        if (quote != 0 && *c == '\\' && c[1] != 0) {
            text_add(out, c++, 1);
        } else if (quote == 0 && (*c == '"' || *c == '[')) {
            quote = *c == '"' ? '"' : ']';
        } else if (*c == quote) {
            quote = 0;
        }
        text_add(out, c, 1);
    }
}

/* The grammar of one call or more in the model's form. */
static bool make_call_grammar(tool_form form, const char *schema, size_t length,
                              api_request *request, api_problem *problem)
{
    char *grammar = NULL;
    text_buffer text = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_json_schema_grammar(schema, length, &grammar, &error);
    if (status != MIXT_OK) {
        return api_fail(problem, status == MIXT_ERROR_MEMORY ? 503 : 400, "invalid_schema", "tools",
                        "tools: %.400s", error.message);
    }
    text_put(&text, form == TOOLS_TAGS   ? "root ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n"
                    : form == TOOLS_MARK ? "root ::= \"[TOOL_CALLS][\" call \"]\"\n"
                                         : "root ::= call\n");
    rename_root(grammar, &text);
    free(grammar);
    if (text.failed) {
        text_free(&text);
        return api_fail(problem, 503, "no_memory", NULL, "out of memory");
    }
    request->made_grammar = text.bytes;
    return true;
}

static bool check_tools(const json_t *tools, api_problem *problem)
{
    for (size_t i = 0; i < json_array_size(tools) || !json_is_array(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *type = json_string_value(json_object_get(tool, "type"));
        const json_t *function = json_object_get(tool, "function");
        if (type == NULL || strcmp(type, "function") != 0 ||
            !json_is_string(json_object_get(function, "name"))) {
            return api_fail(problem, 400, "invalid_tool", "tools",
                            "tools must be an array of {\"type\": \"function\", \"function\": "
                            "{\"name\": ..., ...}}");
        }
    }
    return true;
}

/* Tools that must be called: any of them, or the one that is named. */
static bool require_call(const serve_server *server, const json_t *tools, const char *name,
                         api_request *request, api_problem *problem)
{
    tool_form form = tool_form_of(server->options->chat_template);
    const char *arguments = form == TOOLS_JSON ? "parameters" : "arguments";
    text_buffer schema = {0};
    bool found = false;
    if (form == TOOLS_UNKNOWN) {
        return api_fail(problem, 400, "unsupported_parameter", "tool_choice",
                        "tool_choice: the model's template has no form of calls that is known, so "
                        "that none can be required");
    }
    if (request->grammar != NULL || request->json_schema != NULL || request->made_grammar != NULL) {
        return api_fail(problem, 400, "invalid_value", "tool_choice",
                        "tool_choice: the text is constrained by another field already");
    }
    text_put(&schema, "{\"anyOf\":[");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *own =
            json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (name == NULL || strcmp(own, name) == 0) {
            text_comma(&schema);
            write_call_schema(tool, arguments, &schema);
            found = true;
        }
    }
    text_put(&schema, "]}");
    bool good = found && !schema.failed
                    ? make_call_grammar(form, schema.bytes, schema.length, request, problem)
                    : api_fail(problem, 400, "invalid_value", "tool_choice",
                               "tool_choice: there is no such tool");
    text_free(&schema);
    return good;
}

bool tool_choice_read(const serve_server *server, const json_t *tools, const json_t *choice,
                      api_request *request, bool *used, api_problem *problem)
{
    const char *word = json_string_value(choice);
    const char *name =
        json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    bool none = tools == NULL || (json_is_array(tools) && json_array_size(tools) == 0);
    *used = false;
    if (choice != NULL && name == NULL &&
        (word == NULL || (strcmp(word, "none") != 0 && strcmp(word, "auto") != 0 &&
                          strcmp(word, "required") != 0))) {
        return api_fail(problem, 400, "invalid_value", "tool_choice",
                        "tool_choice must be none, auto, required, or {\"type\": \"function\", "
                        "\"function\": {\"name\": ...}}");
    }
    if (none) {
        return (name == NULL && (word == NULL || strcmp(word, "required") != 0)) ||
               api_fail(problem, 400, "invalid_value", "tool_choice",
                        "tool_choice: there are no tools");
    }
    if (!check_tools(tools, problem)) {
        return false;
    }
    if (server->options->chat_template != NULL &&
        strstr(server->options->chat_template, "tools") == NULL) {
        return api_fail(problem, 400, "unsupported_parameter", "tools",
                        "tools: the model's chat template knows none");
    }
    *used = word == NULL || strcmp(word, "none") != 0;
    return (name == NULL && (word == NULL || strcmp(word, "required") != 0)) ||
           require_call(server, tools, name, request, problem);
}
