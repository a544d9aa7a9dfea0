/* JSON inside a longer text: where a value ends. Of values that go on to somebody else as they were
 * written, so that numbers of any size, NUL and depth are nothing that this server understands. */
#ifndef MIXT_SERVE_JSON_SCAN_H
#define MIXT_SERVE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_SCAN_DEPTH_MAX = 512 };

typedef struct span {
    const char *bytes;
    size_t length;
} span;

typedef enum json_scan {
    SCAN_WHOLE,
    SCAN_CUT, /* the text ended in it */
    SCAN_BAD,
} json_scan;

/* The value at *at, without space before it; *at moves behind it where it is whole. A number at the
 * text's very end is whole. */
json_scan scan_json(span text, size_t *at);
/* The next member of an object that is whole, from behind its brace or the last member: the key in
 * its quotes and the value. False: there is none. */
bool scan_member(span text, size_t *at, span *key, span *value);

bool is_space(char c);
size_t skip_space(span text, size_t at);
bool span_is(span text, const char *same);

#endif
