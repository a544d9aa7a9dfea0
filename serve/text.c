#include "text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_free(text_buffer *text)
{
    free(text->bytes);
    *text = (text_buffer){0};
}

static bool reserve(text_buffer *text, size_t more)
{
    size_t wanted = text->length + more + 1;
    if (text->failed || wanted < more) {
        text->failed = true;
        return false;
    }
    if (wanted > text->capacity) {
        size_t capacity = wanted < 256 ? 256 : wanted + wanted / 2;
        char *grown = realloc(text->bytes, capacity);
        if (grown == NULL) {
            text->failed = true;
            return false;
        }
        text->bytes = grown;
        text->capacity = capacity;
    }
    return true;
}

void text_add(text_buffer *text, const char *bytes, size_t length)
{
    if (!reserve(text, length)) {
        return;
    }
    if (length > 0) {
        memcpy(text->bytes + text->length, bytes, length);
    }
    text->length += length;
    text->bytes[text->length] = 0;
}

void text_put(text_buffer *text, const char *string)
{
    text_add(text, string, strlen(string));
}

void text_format(text_buffer *text, const char *format, ...)
{
    va_list values, again;
    va_start(values, format);
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, values);
    if (length < 0) {
        text->failed = true;
    } else if (reserve(text, (size_t)length)) {
        vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
    va_end(values);
}

/* The program never leaves the C locale, so that printf writes a point. */
static void add_shortest(text_buffer *text, double value, const int *digits, bool single)
{
    char number[40];
    if (!isfinite(value)) {
        text_put(text, "null");
        return;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(number, sizeof number, "%.*g", digits[i], value);
        double back = strtod(number, NULL);
        if (single ? (float)back == (float)value : back == value) {
            break;
        }
    }
    text_put(text, number);
}

void text_number(text_buffer *text, double value)
{
    static const int digits[3] = {15, 16, 17};
    add_shortest(text, value, digits, false);
}

void text_float(text_buffer *text, float value)
{
    static const int digits[3] = {6, 8, 9};
    add_shortest(text, (double)value, digits, true);
}

/* ---- UTF-8 */

int utf8_length(const char *bytes, size_t length)
{
    const unsigned char *c = (const unsigned char *)bytes;
    if (length == 0) {
        return -1;
    }
    int wanted = c[0] < 0x80                   ? 1
                 : c[0] >= 0xC2 && c[0] < 0xE0 ? 2
                 : (c[0] & 0xF0) == 0xE0       ? 3
                 : c[0] >= 0xF0 && c[0] < 0xF5 ? 4
                                               : 0;
    for (int i = 1; i < wanted; i++) {
        if ((size_t)i == length) {
            return -1;
        }
        bool good = (c[i] & 0xC0) == 0x80;
        if (i == 1) { /* overlong forms, surrogates, beyond U+10FFFF */
            good = good && !(c[0] == 0xE0 && c[1] < 0xA0) && !(c[0] == 0xED && c[1] >= 0xA0) &&
                   !(c[0] == 0xF0 && c[1] < 0x90) && !(c[0] == 0xF4 && c[1] >= 0x90);
        }
        if (!good) {
            return 0;
        }
    }
    return wanted;
}

bool utf8_valid(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length;) {
        int size = utf8_length(bytes + i, length - i);
        if (size <= 0) {
            return false;
        }
        i += (size_t)size;
    }
    return true;
}

size_t utf8_whole(const char *bytes, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        size_t at = length - back;
        if (((unsigned char)bytes[at] & 0xC0) != 0x80) {
            return utf8_length(bytes + at, back) < 0 ? at : length;
        }
    }
    return length;
}

void text_add_utf8(text_buffer *text, const char *bytes, size_t length)
{
    size_t from = 0;
    for (size_t i = 0; i < length;) {
        int size = utf8_length(bytes + i, length - i);
        if (size > 0) {
            i += (size_t)size;
            continue;
        }
        text_add(text, bytes + from, i - from);
        text_put(text, "\xEF\xBF\xBD");
        from = ++i;
    }
    text_add(text, bytes + from, length - from);
}

/* ---- JSON */

void text_json(text_buffer *text, const char *bytes, size_t length)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    text_put(text, "\"");
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)bytes[i];
        int size = c < 0x80 ? 1 : utf8_length(bytes + i, length - i);
        if (size > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) {
            i += (size_t)size;
            continue;
        }
        text_add(text, bytes + from, i - from);
        if (size <= 0) {
            text_put(text, "\xEF\xBF\xBD");
        } else if (c == '"' || c == '\\') {
            text_add(text, (char[]){'\\', (char)c}, 2);
        } else if (c == '\n') {
            text_put(text, "\\n");
        } else if (c == '\t') {
            text_put(text, "\\t");
        } else if (c == '\r') {
            text_put(text, "\\r");
        } else {
            text_add(text, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        }
        from = ++i;
    }
    text_add(text, bytes + from, length - from);
    text_put(text, "\"");
}

void text_json_string(text_buffer *text, const char *string)
{
    text_json(text, string, strlen(string));
}

void text_comma(text_buffer *text)
{
    char last = text->length > 0 ? text->bytes[text->length - 1] : '{';
    if (last != '{' && last != '[') {
        text_put(text, ",");
    }
}

void text_key(text_buffer *text, const char *name)
{
    text_comma(text);
    text_json_string(text, name);
    text_put(text, ":");
}

void text_member(text_buffer *text, const char *name, const char *value)
{
    text_key(text, name);
    if (value != NULL) {
        text_json_string(text, value);
    } else {
        text_put(text, "null");
    }
}

void text_member_integer(text_buffer *text, const char *name, int64_t value)
{
    text_key(text, name);
    text_format(text, "%lld", (long long)value);
}

void text_member_number(text_buffer *text, const char *name, double value)
{
    text_key(text, name);
    text_number(text, value);
}

void text_member_bool(text_buffer *text, const char *name, bool value)
{
    text_key(text, name);
    text_put(text, value ? "true" : "false");
}
