/* The letter of HTTP/1.1 (RFC 9112), byte by byte as they come from a client: line ends, field
 * lines, lengths, chunks. What does the reading behind it is more lenient than two readers of one
 * connection may be; where this refuses, nothing of the connection is taken any more. */
#ifndef MIXT_SERVE_FRAMING_H
#define MIXT_SERVE_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAMING_NAME_MAX = 24 }; /* of the fields that framing knows */

typedef struct framing_state {
    int state, next; /* framing.c's; `next`: behind the LF that a CR asks for */
    uint64_t number; /* of the request whose bytes come, from 0 */
    bool chunked;
    bool has_encoding, has_length;
    uint64_t left; /* bytes of the body, or of the chunk */
    int digits;    /* of a length or a chunk's size */
    int extension; /* bytes of a chunk's extensions */
    int word;      /* characters of the request line's part */
    bool quoted;   /* in a chunk's extension */
    char name[FRAMING_NAME_MAX + 1];
    size_t name_length;          /* FRAMING_NAME_MAX + 1: longer than any that is known */
    char value[16];              /* of Transfer-Encoding, without spaces around it */
    size_t value_length, spaces; /* spaces: behind the value so far */
    const char *problem;         /* of request `number`; NULL: none */
} framing_state;

/* The next bytes; false once there is a problem. */
bool framing_take(framing_state *framing, const char *bytes, size_t length);
/* Characters that a name of a field, and a method, may hold (RFC 9110, 5.6.2). */
bool framing_is_token(unsigned char c);

#endif
