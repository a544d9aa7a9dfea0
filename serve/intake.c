#include "intake.h"

#include <string.h>

void intake_free(intake_state *intake)
{
    text_free(&intake->held);
}

size_t intake_give(intake_state *intake, char *bytes, size_t size)
{
    text_buffer *held = &intake->held;
    size_t count = intake->ready < size ? intake->ready : size;
    if (count > 0) {
        memcpy(bytes, held->bytes, count);
        memmove(held->bytes, held->bytes + count, held->length - count);
        held->length -= count;
        intake->ready -= count;
    }
    if (held->length == 0) {
        text_free(held); /* most connections wait most of the time */
    }
    return count;
}

bool intake_take(intake_state *intake, const char *bytes, size_t count)
{
    char end[FRAMING_END_MAX];
    framing_state *framing = &intake->framing;
    text_buffer *held = &intake->held;
    size_t before = held->length;
    intake->as_is = false;
    if (framing->problem != NULL) {
        return true; /* nothing behind it is read */
    }
    bool good = framing_take(framing, bytes, count);
    if (before == 0 && framing->whole == count) {
        intake->as_is = true;
        return true;
    }
    text_add(held, bytes, good ? count : framing->whole);
    if (framing->whole > 0) {
        intake->ready = before + framing->whole;
    }
    if (!good) {
        held->length = intake->ready; /* without what broke */
        text_add(held, end, framing_end(framing, end));
        intake->ready = held->length;
    }
    return !held->failed;
}
