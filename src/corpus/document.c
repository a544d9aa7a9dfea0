#include "corpus/document.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/utf8.h"

#define DEPTH_LIMIT 256

typedef struct parser {
    char *start;
    char *at;
    char *end;
    const char *reason; /* the first fault, at `at` */
} parser;

typedef struct string {
    char *text;
    size_t length;
} string;

static bool fault(parser *p, const char *reason)
{
    if (p->reason == NULL) {
        p->reason = reason;
    }
    return false;
}

static void skip_space(parser *p)
{
    while (p->at < p->end &&
           (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) {
        p->at++;
    }
}

static bool next_is(parser *p, char c)
{
    skip_space(p);
    assert(p->at >= p->start && p->at <= p->end);
    if (p->at < p->end && *p->at == c) {
        p->at++;
        return true;
    }
    return false;
}

static bool hexadecimal(parser *p, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int digit = p->at < p->end ? mixt_hex_digit(*p->at) : -1;
        if (digit < 0) {
            return fault(p, "bad \\u escape");
        }
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

/* The escape behind a backslash; writes its character to *to. */
static bool escape(parser *p, char **to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = p->at < p->end ? *p->at : '\0';
    const char *known = c != '\0' ? strchr(names, c) : NULL;
    if (known != NULL) {
        *(*to)++ = values[known - names];
        p->at++;
        return true;
    }
    if (c != 'u') {
        return fault(p, "bad escape in a string");
    }
    p->at++;
    uint32_t character, low;
    if (!hexadecimal(p, &character)) {
        return false;
    }
    if (character == 0) {
        return fault(p, "NUL in a string");
    }
    if (character >= 0xd800 && character < 0xe000) {
        if (character >= 0xdc00 || p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u') {
            return fault(p, "lone surrogate in a string");
        }
        p->at += 2;
        if (!hexadecimal(p, &low)) {
            return false;
        }
        if (low < 0xdc00 || low >= 0xe000) {
            return fault(p, "lone surrogate in a string");
        }
        character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
    }
    *to += mixt_utf8_encode(character, *to);
    return true;
}

/* A string behind its opening quote, unescaped where it stands: escapes never grow. */
static bool read_string(parser *p, string *result)
{
    char *to = p->at;
    result->text = to;
    while (p->at < p->end) {
        unsigned char c = (unsigned char)*p->at;
        if (c == '"') {
            p->at++;
            result->length = (size_t)(to - result->text);
            return true;
        }
        if (c == '\\') {
            p->at++;
            if (!escape(p, &to)) {
                return false;
            }
        } else if (c < 0x20) {
            return fault(p, c == 0 ? "NUL in a string" : "control character in a string");
        } else if (c < 0x80) {
            *to++ = *p->at++;
        } else {
            size_t size = mixt_utf8_character((unsigned char *)p->at, (size_t)(p->end - p->at));
            if (size == 0) {
                return fault(p, "invalid UTF-8");
            }
            memmove(to, p->at, size);
            to += size;
            p->at += size;
        }
    }
    return fault(p, "string without its end");
}

static bool digits(parser *p)
{
    char *from = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        p->at++;
    }
    return p->at > from || fault(p, "bad number");
}

static bool number(parser *p)
{
    if (*p->at == '-') {
        p->at++;
    }
    if (p->at < p->end && *p->at == '0') {
        p->at++;
    } else if (!digits(p)) {
        return false;
    }
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!digits(p)) {
            return false;
        }
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-')) {
            p->at++;
        }
        return digits(p);
    }
    return true;
}

static bool literal(parser *p, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0) {
        return fault(p, "bad JSON value");
    }
    p->at += length;
    return true;
}

static bool skip_value(parser *p, int depth);

/* A key and its colon. */
static bool read_key(parser *p, string *key)
{
    if (!next_is(p, '"')) {
        return fault(p, "no key in an object");
    }
    return read_string(p, key) && (next_is(p, ':') || fault(p, "no colon behind a key"));
}

/* What stands behind an element: true for a comma; *done for `close`. */
static bool more(parser *p, char close, bool *done)
{
    if (next_is(p, ',')) {
        return true;
    }
    if (next_is(p, close)) {
        *done = true;
        return true;
    }
    return fault(p, "no comma or end behind a value");
}

static bool skip_container(parser *p, char close, int depth)
{
    if (depth > DEPTH_LIMIT) {
        return fault(p, "more than 256 levels of JSON");
    }
    bool done = next_is(p, close);
    while (!done) {
        string key;
        if ((close == '}' && !read_key(p, &key)) || !skip_value(p, depth + 1) ||
            !more(p, close, &done)) {
            return false;
        }
    }
    return true;
}

static bool skip_value(parser *p, int depth)
{
    string text;
    skip_space(p);
    switch (p->at < p->end ? *p->at : '\0') {
    case '{':
        p->at++;
        return skip_container(p, '}', depth);
    case '[':
        p->at++;
        return skip_container(p, ']', depth);
    case '"':
        p->at++;
        return read_string(p, &text);
    case 't':
        return literal(p, "true");
    case 'f':
        return literal(p, "false");
    case 'n':
        return literal(p, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number(p);
    default:
        return fault(p, "bad JSON value");
    }
}

static bool is(const string *key, const char *name)
{
    return key->length == strlen(name) && memcmp(key->text, name, key->length) == 0;
}

/* A string under a key that may stand once; null reads as absent. */
static bool wanted_string(parser *p, string *value, const char *twice, const char *wrong_type)
{
    if (value->text != NULL) {
        return fault(p, twice);
    }
    if (next_is(p, '"')) {
        return read_string(p, value);
    }
    if (p->at < p->end && *p->at == 'n') {
        return literal(p, "null");
    }
    return fault(p, wrong_type);
}

static bool read_meta(parser *p, string *set_name)
{
    if (!next_is(p, '{')) {
        return skip_value(p, 1);
    }
    bool done = next_is(p, '}');
    while (!done) {
        string key;
        if (!read_key(p, &key)) {
            return false;
        }
        bool good = is(&key, "pile_set_name")
                        ? wanted_string(p, set_name, "key \"pile_set_name\" twice",
                                        "\"pile_set_name\" is not a string")
                        : skip_value(p, 2);
        if (!good || !more(p, '}', &done)) {
            return false;
        }
    }
    return true;
}

static bool read_document(parser *p, string *text, string *domain, string *set_name)
{
    if (!next_is(p, '{')) {
        return fault(p, "not a JSON object");
    }
    bool done = next_is(p, '}'), meta_seen = false;
    while (!done) {
        string key;
        if (!read_key(p, &key)) {
            return false;
        }
        bool good;
        if (is(&key, "text")) {
            good = wanted_string(p, text, "key \"text\" twice", "\"text\" is not a string");
        } else if (is(&key, "domain")) {
            good = wanted_string(p, domain, "key \"domain\" twice", "\"domain\" is not a string");
        } else if (is(&key, "meta")) {
            good = meta_seen ? fault(p, "key \"meta\" twice") : read_meta(p, set_name);
            meta_seen = true;
        } else {
            good = skip_value(p, 1);
        }
        if (!good || !more(p, '}', &done)) {
            return false;
        }
    }
    skip_space(p);
    return p->at == p->end || fault(p, "text behind the JSON object");
}

/* Domain names stand in tables, file names and metadata. */
static bool domain_is_fit(const string *domain)
{
    for (size_t i = 0; i < domain->length; i++) {
        unsigned char c = (unsigned char)domain->text[i];
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return domain->length <= 255;
}

const char *mixt_document_parse(char *line, size_t length, mixt_json_document *document, size_t *at)
{
    parser p = {line, line, line + length, NULL};
    string text = {0}, domain = {0}, set_name = {0};
    *document = (mixt_json_document){0};
    if (read_document(&p, &text, &domain, &set_name)) {
        if (domain.length == 0) {
            domain = set_name;
        }
        if (text.text == NULL) {
            fault(&p, "no \"text\"");
        } else if (text.length == 0) {
            fault(&p, "empty \"text\"");
        } else if (!domain_is_fit(&domain)) {
            fault(&p, "domain name over 255 bytes or with control characters");
        }
    }
    *at = (size_t)(p.at - p.start);
    if (p.reason == NULL) {
        assert(p.at == p.end);
        document->text = text.text;
        document->length = text.length;
        document->domain = domain.length != 0 ? domain.text : NULL;
        document->domain_length = domain.length;
    }
    return p.reason;
}
