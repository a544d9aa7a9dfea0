#include "tokenizer/protobuf.h"

#include <assert.h>
#include <string.h>

static bool read_varint(mixt_message *m, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && m->at < m->length; shift += 7) {
        uint64_t byte = m->data[m->at++];
        if (shift == 63 && byte > 1) {
            return false;
        }
        *value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static bool read_fixed(mixt_message *m, size_t size, uint64_t *value)
{
    if (m->length - m->at < size) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < size; i++) {
        *value |= (uint64_t)m->data[m->at++] << (8 * i);
    }
    return true;
}

static bool read_bytes(mixt_message *m, mixt_field *field)
{
    uint64_t length;
    if (!read_varint(m, &length) || length > m->length - m->at) {
        return false;
    }
    field->bytes = (const char *)m->data + m->at;
    field->length = (size_t)length;
    m->at += (size_t)length;
    return true;
}

bool mixt_message_next(mixt_message *m, mixt_field *field)
{
    uint64_t tag;
    assert(m->at <= m->length);
    if (m->broken || m->at == m->length) {
        return false;
    }
    *field = (mixt_field){0};
    bool good = read_varint(m, &tag) && tag >> 3 != 0 && tag >> 3 < 1u << 29;
    if (good) {
        field->number = (uint32_t)(tag >> 3);
        switch (tag & 7) {
        case MIXT_WIRE_VARINT:
            field->wire = MIXT_WIRE_VARINT;
            good = read_varint(m, &field->value);
            break;
        case MIXT_WIRE_FIXED64:
            field->wire = MIXT_WIRE_FIXED64;
            good = read_fixed(m, 8, &field->value);
            break;
        case MIXT_WIRE_BYTES:
            field->wire = MIXT_WIRE_BYTES;
            good = read_bytes(m, field);
            break;
        case MIXT_WIRE_FIXED32:
            field->wire = MIXT_WIRE_FIXED32;
            good = read_fixed(m, 4, &field->value);
            break;
        default: /* groups are older than these files */
            good = false;
        }
    }
    m->broken = !good;
    return good;
}

float mixt_field_float(const mixt_field *field)
{
    uint32_t bits = (uint32_t)field->value;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void write_varint(mixt_buffer *to, uint64_t value)
{
    unsigned char bytes[10];
    size_t count = 0;
    for (; value >= 0x80; value >>= 7) {
        bytes[count++] = (unsigned char)(0x80 | (value & 0x7f));
    }
    bytes[count++] = (unsigned char)value;
    mixt_buffer_append(to, bytes, count);
}

void mixt_message_write_number(mixt_buffer *to, uint32_t number, uint64_t value)
{
    write_varint(to, (uint64_t)number << 3 | MIXT_WIRE_VARINT);
    write_varint(to, value);
}

void mixt_message_write_float(mixt_buffer *to, uint32_t number, float value)
{
    uint32_t bits;
    unsigned char bytes[4];
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(bits >> (8 * i));
    }
    write_varint(to, (uint64_t)number << 3 | MIXT_WIRE_FIXED32);
    mixt_buffer_append(to, bytes, 4);
}

void mixt_message_write_bytes(mixt_buffer *to, uint32_t number, const char *bytes, size_t length)
{
    write_varint(to, (uint64_t)number << 3 | MIXT_WIRE_BYTES);
    write_varint(to, length);
    mixt_buffer_append(to, bytes, length);
}
