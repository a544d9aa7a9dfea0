#include "atlas/page_encode.h"

#include "atlas/display.h"

void mixt_page_base64(mixt_buffer *out, const void *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = bytes;
    char text[1024];
    size_t filled = 0;
    for (size_t i = 0; i < length; i += 3) {
        size_t some = length - i < 3 ? length - i : 3;
        unsigned group = (unsigned)at[i] << 16;
        group |= some > 1 ? (unsigned)at[i + 1] << 8 : 0;
        group |= some > 2 ? (unsigned)at[i + 2] : 0;
        text[filled++] = digits[group >> 18 & 63];
        text[filled++] = digits[group >> 12 & 63];
        text[filled++] = some > 1 ? digits[group >> 6 & 63] : '=';
        text[filled++] = some > 2 ? digits[group & 63] : '=';
        if (filled == sizeof text) {
            mixt_buffer_append(out, text, filled);
            filled = 0;
        }
    }
    mixt_buffer_append(out, text, filled);
}

void mixt_page_varint(mixt_buffer *out, uint64_t number)
{
    unsigned char bytes[10];
    size_t length = 0;
    do {
        bytes[length++] = (unsigned char)((number & 127) | (number > 127 ? 128 : 0));
        number >>= 7;
    } while (number != 0);
    mixt_buffer_append(out, bytes, length);
}

void mixt_page_counts_add(mixt_page_counts *counts, uint64_t number)
{
    if (number == 0) {
        counts->zeros++;
        return;
    }
    mixt_page_counts_end(counts);
    mixt_page_varint(counts->bytes, number);
}

void mixt_page_counts_end(mixt_page_counts *counts)
{
    if (counts->zeros > 0) {
        mixt_page_varint(counts->bytes, 0);
        mixt_page_varint(counts->bytes, counts->zeros);
        counts->zeros = 0;
    }
}

void mixt_page_field(mixt_buffer *out, const char *key, mixt_buffer *bytes)
{
    mixt_buffer_format(out, ",\"%s\":\"", key);
    mixt_page_base64(out, bytes->data, bytes->length);
    mixt_buffer_text(out, "\"");
    out->failed = out->failed || bytes->failed;
    bytes->length = 0;
}

void mixt_page_string(mixt_buffer *out, const void *text, size_t length)
{
    const unsigned char *bytes = text;
    mixt_buffer_text(out, "\"");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = bytes[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == '\'') {
            mixt_buffer_format(out, "\\u%04x", c);
        } else {
            mixt_buffer_append(out, &c, 1);
        }
    }
    mixt_buffer_text(out, "\"");
}

void mixt_page_name_string(mixt_buffer *out, const char *name)
{
    mixt_buffer shown = {0};
    mixt_display_name(&shown, name, MIXT_DISPLAY_PLAIN);
    mixt_page_string(out, shown.data, shown.length);
    out->failed = out->failed || shown.failed;
    mixt_buffer_free(&shown);
}

void mixt_page_token_string(mixt_buffer *out, const mixt_trace *trace, int32_t token)
{
    size_t length;
    mixt_buffer shown = {0};
    const uint8_t *bytes = mixt_trace_token_bytes(trace, token, &length);
    mixt_display_bytes(&shown, bytes,
                       length < MIXT_PAGE_TOKEN_BYTES ? length : MIXT_PAGE_TOKEN_BYTES,
                       MIXT_DISPLAY_PLAIN);
    mixt_page_string(out, shown.data, shown.length);
    out->failed = out->failed || shown.failed;
    mixt_buffer_free(&shown);
}
