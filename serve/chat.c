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

/* Content of parts [{"type": "text", "text": ...}] as one text of lines, as llama.cpp and vLLM
 * join them. */
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
        text_put(&text, i > 0 ? "\n" : "");
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

/* Checks calls, and makes objects of their arguments, which come as JSON in a string. */
static bool open_arguments(json_t *message, size_t index, bool opened, api_problem *problem)
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
        if (opened && json_is_string(arguments)) {
            json_t *value =
                serve_json_any(json_string_value(arguments), json_string_length(arguments));
            if (value != NULL && json_object_set_new(function, "arguments", value) != 0) {
                return api_fail(problem, 503, "no_memory", NULL, "out of memory");
            }
        }
    }
    return true;
}

/* Clients say null of what a message does not have, templates ask whether it is there. */
static void drop_nulls(json_t *message)
{
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(message, next, name, value)
    {
        if (json_is_null(value)) {
            json_object_del(message, name);
        }
    }
}

/* What is known of members: what a template may read, what is of no consequence, and what would
 * have to change the prompt and cannot. OpenAI's replies, which clients send back, have most of
 * these, null or empty. */
static const field_rule members[] = {
    {"role", FIELD_VALUE, 0, 0, 0, NULL},
    {"content", FIELD_VALUE, 0, 0, 0, NULL},
    {"name", FIELD_VALUE, 0, 0, 0, NULL},
    {"tool_calls", FIELD_VALUE, 0, 0, 0, NULL},
    {"tool_call_id", FIELD_VALUE, 0, 0, 0, NULL},
    {"tool_name", FIELD_VALUE, 0, 0, 0, NULL}, /* Ollama's name of who answers */
    {"reasoning_content", FIELD_VALUE, 0, 0, 0, NULL},
    {"reasoning", FIELD_VALUE, 0, 0, 0, NULL},
    {"thinking", FIELD_VALUE, 0, 0, 0, NULL},
    {"parsed", FIELD_IGNORED, 0, 0, 0, NULL},        /* content once more, of OpenAI's libraries */
    {"cache_control", FIELD_IGNORED, 0, 0, 0, NULL}, /* of speed alone */
    {"images", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {"audio", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {"videos", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {"files", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {"refusal", FIELD_REFUSED, 0, 0, 0, "say it as content"},
    {"annotations", FIELD_REFUSED, 0, 0, 0, NULL},
    {"function_call", FIELD_REFUSED, 0, 0, 0, "tool_calls has taken its place"},
    {"prefix", FIELD_REFUSED, 0, 0, 0, "a reply is begun, none is continued"},
    {"partial", FIELD_REFUSED, 0, 0, 0, "a reply is begun, none is continued"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};
static const field_rule *const member_tables[] = {members, NULL};

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool template_names(const serve_server *server, const char *word)
{
    const char *chat_template = server->options->chat_template;
    return chat_template != NULL && strstr(chat_template, word) != NULL;
}

/* Whether a template asks for a member: .name, or the name in quotes. */
static bool template_reads(const char *chat_template, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = chat_template; length > 0 && (at = strstr(at, name)) != NULL; at++) {
        if (at > chat_template && strchr(".'\"", at[-1]) != NULL && !is_word(at[length])) {
            return true;
        }
    }
    return false;
}

/* Every member is used, is of no consequence, or is refused. */
static bool check_members(json_t *message, size_t index, const char *chat_template,
                          api_problem *problem)
{
    char what[100];
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(message, next, name, value)
    {
        const field_rule *rule = fields_find(member_tables, name);
        bool refused = rule != NULL && rule->kind == FIELD_REFUSED;
        if (rule == NULL && !template_reads(chat_template, name)) {
            snprintf(what, sizeof what, "unknown member \"%.60s\"", name);
            return bad_message(index, what, problem);
        }
        if (refused && !fields_is_nothing(value)) {
            snprintf(what, sizeof what, "%s is not supported%s%s", name,
                     rule->reason != NULL ? ": " : "", rule->reason != NULL ? rule->reason : "");
            return bad_message(index, what, problem);
        }
        if (refused) { /* templates ask whether it is there */
            json_object_del(message, name);
        }
    }
    return true;
}

/* A copy of the messages as templates expect them, the arguments of calls as objects where
 * `opened`; NULL: the problem is set. */
static json_t *copy_messages(const json_t *given, const char *chat_template, bool opened,
                             api_problem *problem)
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
        drop_nulls(message);
        const json_t *content = json_object_get(message, "content");
        json_t *text = NULL;
        if (!json_is_string(json_object_get(message, "role"))) {
            good = bad_message(i, "a role is needed", problem);
        } else if (!check_members(message, i, chat_template, problem)) {
            good = false;
        } else if (json_is_array(content)) {
            text = join_parts(content, i, problem);
            good = text != NULL;
        } else if (content == NULL) {
            good = json_object_get(message, "tool_calls") != NULL ||
                   bad_message(i, "content is needed", problem);
            text = good ? json_string("") : NULL;
        } else if (!json_is_string(content)) {
            good = bad_message(i, "content must be a string or an array of parts", problem);
        }
        if (text != NULL && json_object_set_new(message, "content", text) != 0) {
            good = api_fail(problem, 503, "no_memory", NULL, "out of memory");
        }
        good = good && open_arguments(message, i, opened, problem);
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

static char *render(const serve_server *server, const chat_input *input, bool opened,
                    api_problem *problem)
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
    json_t *messages =
        copy_messages(input->messages, server->options->chat_template, opened, problem);
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

static bool has_calls(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (json_object_get(json_array_get(messages, i), "tool_calls") != NULL) {
            return true;
        }
    }
    return false;
}

/* Templates expect the arguments of calls as objects; some add them to a text. */
char *chat_render(const serve_server *server, const chat_input *input, api_problem *problem)
{
    char *text = render(server, input, true, problem);
    if (text == NULL && problem->status == 400 && has_calls(input->messages)) {
        api_problem other = {0};
        text = render(server, input, false, &other);
        if (text != NULL) {
            *problem = (api_problem){0};
        }
    }
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
