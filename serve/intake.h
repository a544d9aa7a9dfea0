/* What a client sent, held back until it may be passed on: heads, the lines of chunks and what
 * stands behind the last are given to who reads requests when they are whole and right; in place of
 * one that is not comes an end that it understands, and nothing more of the connection. */
#ifndef MIXT_SERVE_INTAKE_H
#define MIXT_SERVE_INTAKE_H

#include "framing.h"
#include "text.h"

typedef struct intake_state {
    framing_state framing;
    text_buffer held; /* first `ready` bytes that are to be passed on, then a part that has begun */
    size_t ready;
    bool as_is; /* the bytes taken last are to be passed on as they are; nothing is held */
} intake_state;

/* The next bytes of a client; false: no memory. */
bool intake_take(intake_state *intake, const char *bytes, size_t count);
/* What is ready: how many bytes of it, `size` at most. */
size_t intake_give(intake_state *intake, char *bytes, size_t size);
void intake_free(intake_state *intake);

#endif
