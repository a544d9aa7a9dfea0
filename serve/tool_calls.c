/* Calls of tools in what a model replied. */
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "json_scan.h"

static const char tag_begins[] = "<tool_call>", tag_ends[] = "</tool_call>",
                  mark_begins[] = "[TOOL_CALLS]", python_tag[] = "<|python_tag|>",
                  args_begin[] = "[ARGS]", id_begins[] = "[CALL_ID]", thought_begins[] = "<think>",
                  thought_ends[] = "</think>";

tool_form tool_form_of(const char *chat_template)
{
    if (chat_template == NULL) {
        return TOOLS_UNKNOWN;
    }
    if (strstr(chat_template, tag_begins) != NULL) {
        /* Others write XML between the tags (Qwen3-Coder, GLM), and no such member. */
        return strstr(chat_template, "\"arguments\"") != NULL ||
                       strstr(chat_template, "\\\"arguments\\\"") != NULL
                   ? TOOLS_TAGS
                   : TOOLS_UNKNOWN;
    }
    if (strstr(chat_template, mark_begins) != NULL) {
        return strstr(chat_template, args_begin) != NULL ? TOOLS_ARGS : TOOLS_MARK;
    }
    return strstr(chat_template, "\"parameters\":") != NULL ||
                   strstr(chat_template, python_tag) != NULL
               ? TOOLS_JSON
               : TOOLS_UNKNOWN;
}

/* Where `mark` begins at or behind `at`, or with `partly` might begin at the text's end. */
static size_t find_mark(span text, size_t at, const char *mark, bool partly)
{
    size_t size = strlen(mark);
    while (at < text.length) {
        const char *next = memchr(text.bytes + at, mark[0], text.length - at);
        if (next == NULL) {
            break;
        }
        at = (size_t)(next - text.bytes);
        size_t left = text.length - at < size ? text.length - at : size;
        if ((left == size || partly) && memcmp(next, mark, left) == 0) {
            return at;
        }
        at++;
    }
    return text.length;
}

static bool begins_with(span text, size_t at, const char *mark)
{
    return text.length - at >= strlen(mark) && memcmp(text.bytes + at, mark, strlen(mark)) == 0;
}

/* What stands between text and calls is of both. */
static size_t trim_end(span text, size_t from, size_t end)
{
    while (end > from && is_space(text.bytes[end - 1])) {
        end--;
    }
    return end;
}

/* ---- thoughts */

static const char *mark_of(tool_form form)
{
    return form == TOOLS_TAGS ? tag_begins : form == TOOLS_JSON ? python_tag : mark_begins;
}

/* Where the JSON of a call lies whose mark ends at `at`. */
static size_t json_of_call(tool_form form, span text, size_t at)
{
    if (form == TOOLS_ARGS) {
        size_t next = find_mark(text, at, mark_begins, false);
        size_t end = find_mark(text, at, thought_ends, false);
        size_t args = find_mark(text, at, args_begin, false);
        at = args < next && args < end ? args + sizeof args_begin - 1 : at;
    }
    return skip_space(text, at);
}

/* How much of a reply's beginning is thought, where a call is only spoken of. The prompt may have
 * begun the thoughts; what ends them may also stand inside a call, and ends nothing there. */
static size_t thoughts_end(tool_form form, span text)
{
    const size_t end_size = sizeof thought_ends - 1;
    const char *mark = mark_of(form);
    size_t at = skip_space(text, 0);
    if (begins_with(text, at, thought_begins)) {
        size_t end = find_mark(text, at, thought_ends, false);
        return end < text.length ? end + end_size : text.length;
    }
    bool call = form == TOOLS_JSON && at < text.length && text.bytes[at] == '{';
    while (at < text.length) {
        if (!call) {
            size_t end = find_mark(text, at, thought_ends, false);
            size_t begin = find_mark(text, at, mark, false);
            if (end <= begin) {
                return end < text.length ? end + end_size : 0;
            }
            at = json_of_call(form, text, begin + strlen(mark));
        }
        size_t value = at;
        json_scan scan = scan_json(text, &value);
        if (scan == SCAN_CUT) {
            return 0; /* it may be seen later */
        }
        at = scan == SCAN_WHOLE ? value : at;
        call = false;
    }
    return 0;
}

size_t tool_calls_begin(tool_form form, const char *bytes, size_t length)
{
    span text = {bytes, length};
    if (form == TOOLS_UNKNOWN) {
        return length;
    }
    size_t from = thoughts_end(form, text), at = skip_space(text, from);
    if (form == TOOLS_JSON) {
        bool maybe = at == length || text.bytes[at] == '{' ||
                     find_mark((span){bytes + at, length - at}, 0, python_tag, true) == 0;
        return maybe ? from : length;
    }
    return trim_end(text, from, find_mark(text, from, mark_of(form), true));
}

/* ---- calls */

void tool_calls_cut(tool_calls *calls, size_t count)
{
    while (calls->count > count) {
        calls->count--;
        free(calls->calls[calls->count].name);
        free(calls->calls[calls->count].arguments);
    }
}

void tool_calls_free(tool_calls *calls)
{
    tool_calls_cut(calls, 0);
    free(calls->calls);
    text_free(&calls->behind);
    *calls = (tool_calls){0};
}

/* Takes the name. The arguments are passed on as the model wrote them: any number keeps its
 * digits. */
static bool add_call(tool_calls *calls, char *name, span arguments)
{
    tool_call *grown = realloc(calls->calls, (calls->count + 1) * sizeof *grown);
    char *copy = strndup(arguments.bytes, arguments.length);
    if (grown != NULL) {
        calls->calls = grown;
    }
    if (grown == NULL || copy == NULL || name == NULL) {
        free(name);
        free(copy);
        return false;
    }
    calls->calls[calls->count++] = (tool_call){name, copy};
    return true;
}

/* A string in its quotes as text; NULL where it is none. */
static char *open_string(span quoted)
{
    json_t *value = serve_json_any(quoted.bytes, quoted.length);
    const char *text = json_string_value(value);
    char *copy = text != NULL ? strdup(text) : NULL;
    json_decref(value);
    return copy;
}

/* {"name": ..., "arguments" or "parameters": {...}} at `at`, which moves behind it. */
static bool add_object(tool_calls *calls, span text, size_t *at)
{
    span name = {0}, arguments = {0}, parameters = {0}, key, value;
    size_t end = *at;
    if (end == text.length || text.bytes[end] != '{' || scan_json(text, &end) != SCAN_WHOLE) {
        return false;
    }
    for (size_t next = *at + 1; scan_member(text, &next, &key, &value);) {
        span *place = span_is(key, "\"name\"")         ? &name
                      : span_is(key, "\"arguments\"")  ? &arguments
                      : span_is(key, "\"parameters\"") ? &parameters
                                                       : NULL;
        if (place != NULL && place->bytes != NULL) {
            return false; /* which of the two? */
        }
        if (place != NULL) {
            *place = value;
        }
    }
    arguments = arguments.bytes != NULL ? arguments : parameters;
    if (calls->form != TOOLS_JSON && (arguments.bytes == NULL || span_is(arguments, "null"))) {
        arguments = (span){"{}", 2}; /* without a mark such an object may be anything */
    }
    if (name.bytes == NULL || name.bytes[0] != '"' || arguments.bytes == NULL ||
        arguments.bytes[0] != '{' || !add_call(calls, open_string(name), arguments)) {
        return false;
    }
    *at = end;
    return true;
}

/* Objects of calls up to the first that is none: one, an array of them, or, where nothing marks
 * them, one behind the other. */
static bool add_objects(tool_calls *calls, span text, size_t *at)
{
    size_t count = calls->count, next = skip_space(text, *at);
    bool array = next < text.length && text.bytes[next] == '[', more = true;
    next = array ? skip_space(text, next + 1) : next;
    while (more && add_object(calls, text, &next)) {
        *at = next;
        next = skip_space(text, next);
        char c = next < text.length ? text.bytes[next] : 0;
        if (array) {
            more = c == ',';
            *at = more || c == ']' ? next + 1 : *at;
        } else {
            more = calls->form == TOOLS_JSON && (c == ';' || c == ',' || c == '{');
        }
        next = skip_space(text, next + (more && c != '{'));
    }
    return calls->count > count;
}

/* name[ARGS]{...}; an id may stand between (Mistral Small 3.2). */
static bool add_named(tool_calls *calls, span text, size_t *at)
{
    size_t next = find_mark(text, *at, mark_begins, false);
    size_t args = find_mark(text, *at, args_begin, false);
    size_t id = find_mark(text, *at, id_begins, false);
    size_t name_end = id < args ? id : args;
    if (args >= next || name_end == *at) {
        return false;
    }
    size_t begin = skip_space(text, args + sizeof args_begin - 1), end = begin;
    if (begin == text.length || text.bytes[begin] != '{' || scan_json(text, &end) != SCAN_WHOLE ||
        !add_call(calls, strndup(text.bytes + *at, name_end - *at),
                  (span){text.bytes + begin, end - begin})) {
        return false;
    }
    *at = end;
    return true;
}

/* What a mark that ends at `at` announces; `at` moves behind it. */
static bool add_marked(tool_calls *calls, span text, size_t *at)
{
    if (calls->form == TOOLS_ARGS) {
        return add_named(calls, text, at);
    }
    if (!add_objects(calls, text, at)) {
        return false;
    }
    size_t end = skip_space(text, *at);
    if (calls->form == TOOLS_TAGS && find_mark(text, end, tag_ends, true) == end) {
        /* the reply may have ended before its end tag */
        *at = text.length - end < sizeof tag_ends - 1 ? text.length : end + sizeof tag_ends - 1;
    }
    return true;
}

/* Text that is no call and stands behind one. */
static void add_behind(tool_calls *calls, span text, size_t from, size_t end)
{
    from = skip_space(text, from);
    end = trim_end(text, from, end);
    if (end > from) {
        text_put(&calls->behind, calls->behind.length > 0 ? "\n" : "");
        text_add(&calls->behind, text.bytes + from, end - from);
    }
}

tool_calls tool_calls_read(tool_form form, const char *bytes, size_t length)
{
    tool_calls calls = {.form = form, .content = length};
    span text = {bytes, length};
    if (form == TOOLS_UNKNOWN) {
        return calls;
    }
    const char *mark = mark_of(form);
    size_t from = thoughts_end(form, text), at = skip_space(text, from), end;
    if (form == TOOLS_JSON) { /* the mark may be missing, and comes first or not at all */
        at += begins_with(text, at, mark) ? strlen(mark) : 0;
        if (add_objects(&calls, text, &at)) {
            calls.content = from;
            add_behind(&calls, text, at, length);
        }
        return calls;
    }
    while ((at = find_mark(text, at, mark, false)) < length) {
        end = at + strlen(mark);
        bool first = calls.count == 0;
        if (!add_marked(&calls, text, &end)) {
            at++;
            continue;
        }
        if (first) {
            calls.content = trim_end(text, from, at);
        } else {
            add_behind(&calls, text, from, at);
        }
        from = at = end;
    }
    if (calls.count > 0) {
        add_behind(&calls, text, from, length);
    }
    return calls;
}

text_buffer tool_calls_content(const tool_calls *calls, const char *text, size_t shown)
{
    text_buffer content = {0};
    text_put(&content, "");
    if (shown < calls->content) {
        text_add(&content, text + shown, calls->content - shown);
    }
    if (calls->behind.length > 0) {
        text_put(&content, calls->content > 0 ? "\n" : "");
        text_add(&content, calls->behind.bytes, calls->behind.length);
    }
    content.failed = content.failed || calls->behind.failed;
    return content;
}

void write_arguments(const tool_call *call, text_buffer *out)
{
    bool quoted = false;
    for (const char *c = call->arguments; *c != 0;) {
        size_t size = 1;
        while (quoted && strchr("\"\\", c[size]) == NULL) { /* NUL ends it, too */
            size++;
        }
        if (quoted && *c == '\\') {
            size = 2;
        } else if (*c == '"') {
            quoted = !quoted;
            size = 1;
        }
        text_add_utf8(out, c, quoted || !is_space(*c) ? size : 0);
        c += size;
    }
}

/* The templates of Mistral want nine letters or digits. Else the reply's own id and a number. */
static void write_call_id(tool_form form, const char *id, size_t number, text_buffer *out)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint64_t hash = 14695981039346656037U; /* FNV-1a */
    if (form != TOOLS_MARK && form != TOOLS_ARGS) {
        text_format(out, "\"call_%s_%zu\"", id, number);
        return;
    }
    for (const char *c = id; *c != 0; c++) {
        hash = (hash ^ (unsigned char)*c) * 1099511628211U;
    }
    hash = (hash ^ number) * 1099511628211U;
    text_put(out, "\"");
    for (int i = 0; i < 9; i++) {
        text_add(out, &letters[hash % 36], 1);
        hash /= 36;
    }
    text_put(out, "\"");
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
        write_call_id(calls->form, id, i, out);
        text_member(out, "type", "function");
        text_key(out, "function");
        text_put(out, "{");
        text_member(out, "name", calls->calls[i].name);
        text_member(out, "arguments", calls->calls[i].arguments);
        text_put(out, "}}");
    }
    text_put(out, "]");
}
