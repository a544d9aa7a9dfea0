/* Growing texts: replies, event streams, metrics. A text that could not grow remembers it, so that
 * whoever wrote many parts asks once. */
#ifndef MIXT_SERVE_TEXT_H
#define MIXT_SERVE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct text_buffer {
    char *bytes; /* with a NUL behind `length` bytes; NULL while empty */
    size_t length, capacity;
    bool failed; /* memory was out: what is there is not whole */
} text_buffer;

void text_free(text_buffer *text);
void text_add(text_buffer *text, const char *bytes, size_t length);
void text_put(text_buffer *text, const char *string);
/* printf without fractions, whose point would follow the locale. */
void text_format(text_buffer *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A JSON number that reads back as the same double; null where it is not finite. */
void text_number(text_buffer *text, double value);
/* The same of a float. */
void text_float(text_buffer *text, float value);
/* A JSON string in its quotes; what is no UTF-8 becomes U+FFFD. */
void text_json(text_buffer *text, const char *bytes, size_t length);
void text_json_string(text_buffer *text, const char *string);
/* "name":, with a comma before it unless an object or array has just begun. */
void text_key(text_buffer *text, const char *name);
/* A comma unless an object or array has just begun. */
void text_comma(text_buffer *text);
/* "name":"value", or null. */
void text_member(text_buffer *text, const char *name, const char *value);
void text_member_integer(text_buffer *text, const char *name, int64_t value);
void text_member_number(text_buffer *text, const char *name, double value);
void text_member_bool(text_buffer *text, const char *name, bool value);

/* Bytes of the character that begins here: 1 to 4; 0: no character begins so; -1: it is not whole.
 */
int utf8_length(const char *bytes, size_t length);
bool utf8_valid(const char *bytes, size_t length);
/* How many bytes there are before a character that is not whole. */
size_t utf8_whole(const char *bytes, size_t length);
/* Adds the bytes, each that belongs to no character as U+FFFD. */
void text_add_utf8(text_buffer *text, const char *bytes, size_t length);

#endif
