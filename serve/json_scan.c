#include "json_scan.h"

#include <string.h>

bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t skip_space(span text, size_t at)
{
    while (at < text.length && is_space(text.bytes[at])) {
        at++;
    }
    return at;
}

bool span_is(span text, const char *same)
{
    return text.length == strlen(same) && memcmp(text.bytes, same, text.length) == 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static json_scan scan_string(span text, size_t *at)
{
    for (size_t i = *at + 1; i < text.length; i++) {
        char c = text.bytes[i];
        if (c == '"') {
            *at = i + 1;
            return SCAN_WHOLE;
        }
        if ((unsigned char)c < 0x20) {
            return SCAN_BAD;
        }
        if (c != '\\') {
            continue;
        }
        if (++i == text.length) {
            return SCAN_CUT;
        }
        if (text.bytes[i] == 'u') {
            for (int k = 0; k < 4; k++) {
                if (++i == text.length) {
                    return SCAN_CUT;
                }
                if (!is_hex(text.bytes[i])) {
                    return SCAN_BAD;
                }
            }
        } else if (memchr("\"\\/bfnrt", text.bytes[i], 8) == NULL) {
            return SCAN_BAD;
        }
    }
    return SCAN_CUT;
}

/* One digit at least. */
static json_scan scan_digits(span text, size_t *at)
{
    size_t begin = *at;
    while (*at < text.length && is_digit(text.bytes[*at])) {
        ++*at;
    }
    return *at > begin ? SCAN_WHOLE : *at == text.length ? SCAN_CUT : SCAN_BAD;
}

static json_scan scan_number(span text, size_t *at)
{
    size_t i = *at + (text.bytes[*at] == '-');
    bool zero = i < text.length && text.bytes[i] == '0';
    json_scan scan = SCAN_WHOLE;
    if (zero) {
        i++;
    } else {
        scan = scan_digits(text, &i);
    }
    if (scan == SCAN_WHOLE && i < text.length && text.bytes[i] == '.') {
        i++;
        scan = scan_digits(text, &i);
    }
    if (scan == SCAN_WHOLE && i < text.length && (text.bytes[i] == 'e' || text.bytes[i] == 'E')) {
        i++;
        i += i < text.length && (text.bytes[i] == '+' || text.bytes[i] == '-');
        scan = scan_digits(text, &i);
    }
    *at = scan == SCAN_WHOLE ? i : *at;
    return scan;
}

static json_scan scan_word(span text, size_t *at)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t size = strlen(words[i]), left = text.length - *at;
        if (memcmp(text.bytes + *at, words[i], left < size ? left : size) == 0) {
            *at += left < size ? 0 : size;
            return left < size ? SCAN_CUT : SCAN_WHOLE;
        }
    }
    return SCAN_BAD;
}

static json_scan scan_scalar(span text, size_t *at)
{
    char c = text.bytes[*at];
    return c == '"'                  ? scan_string(text, at)
           : c == '-' || is_digit(c) ? scan_number(text, at)
                                     : scan_word(text, at);
}

/* A key and its colon. */
static json_scan scan_key(span text, size_t *at)
{
    json_scan scan = text.bytes[*at] == '"' ? scan_string(text, at) : SCAN_BAD;
    if (scan == SCAN_WHOLE) {
        *at = skip_space(text, *at);
        scan = *at == text.length ? SCAN_CUT : text.bytes[*at] == ':' ? SCAN_WHOLE : SCAN_BAD;
        *at += scan == SCAN_WHOLE;
    }
    return scan;
}

json_scan scan_json(span text, size_t *at)
{
    char closes[JSON_SCAN_DEPTH_MAX]; /* of what is open */
    int depth = 0;
    size_t i = *at;
    bool begun = false, ended = false; /* a bracket has just been opened; a value has ended */
    while (depth > 0 || !ended) {
        json_scan scan = SCAN_WHOLE;
        i = skip_space(text, i);
        if (i == text.length) {
            return SCAN_CUT;
        }
        char c = text.bytes[i];
        if (depth > 0 && (begun || ended) && c == closes[depth - 1]) {
            depth--;
            i++;
            begun = false;
            ended = true;
            continue;
        }
        if (ended) {
            if (c != ',') {
                return SCAN_BAD;
            }
            ended = false;
            i = skip_space(text, i + 1);
            if (i == text.length) {
                return SCAN_CUT;
            }
        }
        if (depth > 0 && closes[depth - 1] == '}') {
            scan = scan_key(text, &i);
            i = scan == SCAN_WHOLE ? skip_space(text, i) : i;
            if (scan != SCAN_WHOLE || i == text.length) {
                return scan == SCAN_BAD ? SCAN_BAD : SCAN_CUT;
            }
        }
        c = text.bytes[i];
        begun = c == '{' || c == '[';
        if (begun && depth == JSON_SCAN_DEPTH_MAX) {
            return SCAN_BAD;
        }
        if (begun) {
            closes[depth++] = c == '{' ? '}' : ']';
            i++;
        } else if ((scan = scan_scalar(text, &i)) != SCAN_WHOLE) {
            return scan;
        } else {
            ended = true;
        }
    }
    *at = i;
    return SCAN_WHOLE;
}

bool scan_member(span text, size_t *at, span *key, span *value)
{
    size_t i = skip_space(text, *at), begin;
    if (i < text.length && text.bytes[i] == ',') {
        i = skip_space(text, i + 1);
    }
    begin = i;
    if (i == text.length || text.bytes[i] != '"' || scan_string(text, &i) != SCAN_WHOLE) {
        return false;
    }
    *key = (span){text.bytes + begin, i - begin};
    i = skip_space(text, i);
    i = skip_space(text, i + (i < text.length));
    begin = i;
    if (i == text.length || scan_json(text, &i) != SCAN_WHOLE) {
        return false;
    }
    *value = (span){text.bytes + begin, i - begin};
    *at = i;
    return true;
}
