#include "atlas/display.h"

#include <string.h>
#include <utf8proc.h>

#define NAME_CHARACTERS 80

/* Categories that a terminal or browser may act on, or that show nothing: control, format (with
 * bidirectional overrides), surrogate, private, unassigned, line and paragraph separators. */
static const uint32_t hidden_categories = 1u << UTF8PROC_CATEGORY_CC | 1u << UTF8PROC_CATEGORY_CF |
                                          1u << UTF8PROC_CATEGORY_CS | 1u << UTF8PROC_CATEGORY_CO |
                                          1u << UTF8PROC_CATEGORY_CN | 1u << UTF8PROC_CATEGORY_ZL |
                                          1u << UTF8PROC_CATEGORY_ZP;

static bool is_shown(utf8proc_int32_t point)
{
    return (hidden_categories >> utf8proc_category(point) & 1) == 0;
}

static void append_point(mixt_buffer *out, utf8proc_int32_t point, const uint8_t *bytes,
                         size_t length, int style)
{
    bool html = (style & MIXT_DISPLAY_HTML) != 0;
    if (point == '\n') {
        mixt_buffer_text(out, "\xe2\x8f\x8e"); /* U+23CE return symbol */
        mixt_buffer_text(out, (style & MIXT_DISPLAY_NEWLINES) != 0 ? "\n" : "");
    } else if (point == '\t') {
        mixt_buffer_text(out, "\xe2\x87\xa5"); /* U+21E5 rightwards arrow to bar */
    } else if (point == ' ' && (style & MIXT_DISPLAY_VISIBLE) != 0) {
        mixt_buffer_text(out, "\xe2\x90\xa3"); /* U+2423 open box */
    } else if (html &&
               (point == '&' || point == '<' || point == '>' || point == '"' || point == '\'')) {
        mixt_buffer_format(out, "&#%d;", (int)point);
    } else if (is_shown(point)) {
        mixt_buffer_append(out, bytes, length);
    } else {
        mixt_buffer_format(out, "\xe2\x80\xb9U+%04X\xe2\x80\xba", (unsigned)point);
    }
}

void mixt_display_bytes(mixt_buffer *out, const void *bytes, size_t length, int style)
{
    const uint8_t *at = bytes;
    const uint8_t *end = at + length;
    while (at < end) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used = utf8proc_iterate(at, end - at, &point);
        if (used <= 0) {
            mixt_buffer_format(out, "\xe2\x80\xb9%02X\xe2\x80\xba", *at);
            at++;
            continue;
        }
        append_point(out, point, at, (size_t)used, style);
        at += used;
    }
}

void mixt_display_text(mixt_buffer *out, const char *text, int style)
{
    mixt_display_bytes(out, text, strlen(text), style);
}

void mixt_display_name(mixt_buffer *out, const char *name, int style)
{
    size_t length = strlen(name), at = 0;
    for (int characters = 0; at < length && characters < NAME_CHARACTERS; characters++) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *)name + at, (utf8proc_ssize_t)(length - at), &point);
        at += used > 0 ? (size_t)used : 1;
    }
    mixt_display_bytes(out, name, at, style);
    mixt_buffer_text(out, at < length ? "\xe2\x80\xa6" : "");
}

int mixt_display_columns(const char *text, size_t length)
{
    int columns = 0;
    size_t at = 0;
    while (at < length) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &point);
        if (used <= 0) {
            columns++;
            at++;
        } else {
            columns += utf8proc_charwidth(point);
            at += (size_t)used;
        }
    }
    return columns;
}

void mixt_display_fit(mixt_buffer *out, const char *text, int columns)
{
    mixt_buffer safe = {0};
    mixt_display_text(&safe, text, MIXT_DISPLAY_PLAIN);
    out->failed = out->failed || safe.failed;
    if (safe.data == NULL) { /* empty text, or no memory */
        mixt_buffer_format(out, "%*s", columns, "");
        return;
    }
    int width = mixt_display_columns(safe.data, safe.length);
    if (width <= columns) {
        mixt_buffer_append(out, safe.data, safe.length);
    } else {
        size_t at = 0;
        width = 0;
        while (at < safe.length) {
            utf8proc_int32_t point;
            utf8proc_ssize_t used = utf8proc_iterate((const uint8_t *)safe.data + at,
                                                     (utf8proc_ssize_t)(safe.length - at), &point);
            int wide = used > 0 ? utf8proc_charwidth(point) : 1;
            if (width + wide > columns - 1) {
                break;
            }
            width += wide;
            at += used > 0 ? (size_t)used : 1;
        }
        mixt_buffer_append(out, safe.data, at);
        mixt_buffer_text(out, "\xe2\x80\xa6");
        width++;
    }
    if (width < columns) {
        mixt_buffer_format(out, "%*s", columns - width, "");
    }
    mixt_buffer_free(&safe);
}

void mixt_display_wrapped(mixt_buffer *out, const char *text, int width)
{
    int column = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        int columns = mixt_display_columns(text, length);
        if (column > 0 && column + 1 + columns > width) {
            mixt_buffer_text(out, "\n");
            column = 0;
        } else if (column > 0) {
            mixt_buffer_text(out, " ");
            column++;
        }
        mixt_buffer_append(out, text, length);
        column += columns;
        text += length;
        text += strspn(text, " ");
    }
    mixt_buffer_text(out, "\n");
}
