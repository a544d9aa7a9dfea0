/* Which tool is to be called: OpenAI's `tools` and `tool_choice`, and grammars that require calls.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"

static const char *tool_name(const json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

/* Whether the members of a schema's value are schemas by names of any kind. */
static bool names_schemas(const char *key)
{
    static const char *const keys[] = {"properties", "patternProperties", "$defs", "definitions",
                                       "dependentSchemas"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool move_references(json_t *schema, const char *root);

static bool move_reference(json_t *schema, const char *key, json_t *value, const char *root)
{
    const char *reference = strcmp(key, "$ref") == 0 ? json_string_value(value) : NULL;
    if (reference != NULL && reference[0] == '#' && (reference[1] == 0 || reference[1] == '/')) {
        return json_object_set_new(schema, key, json_sprintf("%s%s", root, reference + 1)) == 0;
    }
    if (json_is_object(value) && names_schemas(key)) {
        const char *name;
        json_t *named;
        bool good = true;
        json_object_foreach(value, name, named)
        {
            good = good && move_references(named, root);
        }
        return good;
    }
    /* values that look like schemas are none */
    return strcmp(key, "const") == 0 || strcmp(key, "enum") == 0 || move_references(value, root);
}

/* `#` of a schema means the document it is in: where it becomes a part of another one, whose place
 * `root` names, references move with it. */
static bool move_references(json_t *schema, const char *root)
{
    bool good = true;
    if (json_is_array(schema)) {
        for (size_t i = 0; good && i < json_array_size(schema); i++) {
            good = move_references(json_array_get(schema, i), root);
        }
    } else if (json_is_object(schema)) {
        const char *key;
        json_t *value;
        void *next;
        json_object_foreach_safe(schema, next, key, value)
        {
            good = good && move_reference(schema, key, value, root);
        }
    }
    return good;
}

/* What a tool takes, for the place `root` of a document; NULL: it is the document. */
static void write_parameters(const json_t *tool, const char *root, text_buffer *out)
{
    const json_t *parameters = json_object_get(json_object_get(tool, "function"), "parameters");
    if (!json_is_object(parameters)) {
        text_put(out, "{\"type\":\"object\"}");
        return;
    }
    json_t *moved = root != NULL ? json_deep_copy(parameters) : NULL;
    if (root == NULL) {
        text_json_value(out, parameters);
    } else if (moved != NULL && move_references(moved, root)) {
        text_json_value(out, moved);
    } else {
        out->failed = true;
    }
    json_decref(moved);
}

/* The schema of one call, which is number `index` of anyOf: its name is fixed, its arguments are
 * what the tool takes. */
static void write_call_schema(const json_t *tool, const char *arguments, size_t index,
                              text_buffer *out)
{
    char root[80];
    snprintf(root, sizeof root, "#/anyOf/%zu/properties/%s", index, arguments);
    text_put(out, "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":");
    text_json_string(out, tool_name(tool));
    text_format(out, "},\"%s\":", arguments);
    write_parameters(tool, root, out);
    text_format(out, "},\"required\":[\"name\",\"%s\"],\"additionalProperties\":false}", arguments);
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

/* A literal of GBNF. */
static void put_literal(const char *string, text_buffer *out)
{
    text_put(out, "\"");
    for (; *string != 0; string++) {
        text_put(out, *string == '"' || *string == '\\' ? "\\" : "");
        text_add(out, string, 1);
    }
    text_put(out, "\"");
}

/* The grammar of a call in the model's form. `name`: of the function, where the schema is that of
 * its arguments alone. */
static bool make_call_grammar(tool_form form, const char *name, const text_buffer *schema,
                              api_request *request, api_problem *problem)
{
    char *grammar = NULL;
    text_buffer text = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status =
        schema->failed ? MIXT_ERROR_MEMORY
                       : mixt_json_schema_grammar(schema->bytes, schema->length, &grammar, &error);
    if (status != MIXT_OK) {
        return api_fail(problem, status == MIXT_ERROR_MEMORY ? 503 : 400, "invalid_schema", "tools",
                        "tools: %.400s", error.message);
    }
    if (form == TOOLS_ARGS) {
        text_put(&text, "root ::= \"[TOOL_CALLS]\" ");
        put_literal(name, &text);
        text_put(&text, " \"[ARGS]\" call\n");
    } else {
        text_put(&text, form == TOOLS_TAGS
                            ? "root ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n"
                        : form == TOOLS_MARK ? "root ::= \"[TOOL_CALLS][\" call \"]\"\n"
                                             : "root ::= call\n");
    }
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
    const char *found = NULL;
    size_t count = 0;
    if (form == TOOLS_UNKNOWN) {
        return api_fail(problem, 400, "unsupported_parameter", "tool_choice",
                        "tool_choice: the model's template has no form of calls that is known, so "
                        "that none can be required");
    }
    if (request->grammar != NULL || request->json_schema != NULL || request->made_grammar != NULL) {
        return api_fail(problem, 400, "invalid_value", "tool_choice",
                        "tool_choice: the text is constrained by another field already");
    }
    if (form == TOOLS_ARGS && name == NULL && json_array_size(tools) > 1) {
        return api_fail(problem, 400, "unsupported_parameter", "tool_choice",
                        "tool_choice: in this model's form of calls one function can be required, "
                        "by its name, and not any of several");
    }
    text_put(&schema, form == TOOLS_ARGS ? "" : "{\"anyOf\":[");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        if (found != NULL && form == TOOLS_ARGS) {
            break; /* a second one of the same name */
        }
        if (name != NULL && strcmp(tool_name(tool), name) != 0) {
            continue;
        }
        found = tool_name(tool);
        if (form == TOOLS_ARGS) {
            write_parameters(tool, NULL, &schema);
        } else {
            text_comma(&schema);
            write_call_schema(tool, arguments, count++, &schema);
        }
    }
    text_put(&schema, form == TOOLS_ARGS ? "" : "]}");
    bool good = found != NULL ? make_call_grammar(form, found, &schema, request, problem)
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
    if (server->options->chat_template != NULL && !template_names(server, "tools")) {
        return api_fail(problem, 400, "unsupported_parameter", "tools",
                        "tools: the model's chat template knows none");
    }
    *used = word == NULL || strcmp(word, "none") != 0;
    return (name == NULL && (word == NULL || strcmp(word, "required") != 0)) ||
           require_call(server, tools, name, request, problem);
}
