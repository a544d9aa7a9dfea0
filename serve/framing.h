/* The letter of HTTP/1.1 (RFC 9112), byte by byte as they come from a client: line ends, field
 * lines, lengths, chunks. What does the reading behind it is more lenient than two readers of one
 * connection may be; where this refuses, nothing of the connection is taken any more. */
#ifndef MIXT_SERVE_FRAMING_H
#define MIXT_SERVE_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FRAMING_NAME_MAX = 24,   /* of the fields that framing knows */
    FRAMING_METHOD_MAX = 16, /* of the methods that are remembered */
    FRAMING_FIELDS_MAX = 100,
    FRAMING_PARTS_MAX = 1000, /* of query and cookies: who reads requests keeps each */
    FRAMING_END_MAX = 64,     /* bytes of framing_end */
};

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
    size_t head_max, head;       /* bytes of a request's line and fields; head_max 0: any number */
    int fields, parts;           /* parts: of the query and of cookies */
    char method[FRAMING_METHOD_MAX + 1]; /* "": it is not there yet, or longer */
    int major, minor;                    /* digits of the version */
    size_t whole; /* of the bytes taken last: those in front of the first part (a head, the line of
                     a chunk, what stands behind the last) that has not come to its end */
    int broken;   /* framing.c's: the state in which the problem was */
    int status;   /* of the reply that says the problem */
    const char *problem; /* of request `number`; NULL: none */
} framing_state;

/* The next bytes; false once there is a problem. */
bool framing_take(framing_state *framing, const char *bytes, size_t length);
/* Bytes by which a request with a problem ends well for who was given what is `whole` alone: a
 * request without fields worth reading where it broke in its head, else the last chunk. */
size_t framing_end(const framing_state *framing, char end[FRAMING_END_MAX]);
/* Characters that a name of a field, and a method, may hold (RFC 9110, 5.6.2). */
bool framing_is_token(unsigned char c);

#endif
