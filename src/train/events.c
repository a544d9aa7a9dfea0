#include "train/events.h"

#include <string.h>

#include "formats/crc32c.h"

/* TensorFlow masks the checksum so that a checksum over data with checksums is not degenerate. */
static uint32_t masked(const void *data, size_t length)
{
    uint32_t crc = mixt_crc32c(0, data, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_varint(mixt_buffer *out, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        mixt_buffer_append(out, &byte, 1);
        value >>= 7;
    } while (value != 0);
}

/* Field number and wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
static void put_key(mixt_buffer *out, unsigned field, unsigned type)
{
    put_varint(out, field << 3 | type);
}

static void put_bytes(mixt_buffer *out, unsigned field, const void *data, size_t length)
{
    put_key(out, field, 2);
    put_varint(out, length);
    mixt_buffer_append(out, data, length);
}

static void put_record(mixt_buffer *out, const mixt_buffer *event)
{
    uint64_t length = event->length;
    uint32_t length_crc = masked(&length, sizeof length);
    uint32_t crc = masked(event->data, event->length);
    out->failed = out->failed || event->failed;
    mixt_buffer_append(out, &length, sizeof length);
    mixt_buffer_append(out, &length_crc, sizeof length_crc);
    mixt_buffer_append(out, event->data, event->length);
    mixt_buffer_append(out, &crc, sizeof crc);
}

static void put_time(mixt_buffer *event, double wall_time)
{
    put_key(event, 1, 1);
    mixt_buffer_append(event, &wall_time, sizeof wall_time);
}

void mixt_events_begin(mixt_buffer *out, double wall_time)
{
    static const char version[] = "brain.Event:2";
    mixt_buffer event = {0};
    put_time(&event, wall_time);
    put_bytes(&event, 3, version, sizeof version - 1);
    put_record(out, &event);
    mixt_buffer_free(&event);
}

void mixt_events_scalars(mixt_buffer *out, double wall_time, int64_t step,
                         const mixt_scalar *scalars, int count)
{
    mixt_buffer event = {0}, summary = {0}, value = {0};
    put_time(&event, wall_time);
    put_key(&event, 2, 0);
    put_varint(&event, (uint64_t)step);
    for (int i = 0; i < count; i++) {
        float number = (float)scalars[i].value;
        value.length = 0;
        put_bytes(&value, 1, scalars[i].tag, strlen(scalars[i].tag));
        put_key(&value, 2, 5);
        mixt_buffer_append(&value, &number, sizeof number);
        put_bytes(&summary, 1, value.data, value.length);
    }
    put_bytes(&event, 5, summary.data, summary.length);
    event.failed = event.failed || summary.failed || value.failed;
    put_record(out, &event);
    mixt_buffer_free(&event);
    mixt_buffer_free(&summary);
    mixt_buffer_free(&value);
}

/* The step of an event as written above: behind the time's 9 bytes; 0 where it has none. */
static int64_t event_step(const unsigned char *event, uint64_t length)
{
    uint64_t step = 0;
    if (length < 10 || event[9] != (2 << 3)) {
        return 0;
    }
    for (uint64_t i = 10, shift = 0; i < length && shift < 63; i++, shift += 7) {
        step |= (uint64_t)(event[i] & 0x7f) << shift;
        if (event[i] < 0x80) {
            break;
        }
    }
    return (int64_t)step;
}

size_t mixt_events_keep(const char *data, size_t length, int64_t step)
{
    size_t at = 0;
    while (length - at >= 16) {
        uint64_t size;
        uint32_t size_crc, crc;
        memcpy(&size, data + at, sizeof size);
        memcpy(&size_crc, data + at + 8, sizeof size_crc);
        if (size_crc != masked(&size, sizeof size) || size > length - at - 16) {
            break;
        }
        const char *event = data + at + 12;
        memcpy(&crc, event + size, sizeof crc);
        if (crc != masked(event, (size_t)size) ||
            event_step((const unsigned char *)event, size) > step) {
            break;
        }
        at += (size_t)size + 16;
    }
    return at;
}
