/* Protocol buffers' wire format, as far as SentencePiece's files need it: fields are read in place,
 * and every length is checked against what is left. */
#ifndef MIXT_TOKENIZER_PROTOBUF_H
#define MIXT_TOKENIZER_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"

typedef enum mixt_wire {
    MIXT_WIRE_VARINT = 0,
    MIXT_WIRE_FIXED64 = 1,
    MIXT_WIRE_BYTES = 2,
    MIXT_WIRE_FIXED32 = 5,
} mixt_wire;

typedef struct mixt_message {
    const unsigned char *data;
    size_t length, at;
    bool broken; /* the bytes are no message */
} mixt_message;

typedef struct mixt_field {
    uint32_t number;
    mixt_wire wire;
    uint64_t value; /* of a number, as it lies */
    const char *bytes;
    size_t length;
} mixt_field;

/* The next field; false at the end and where the message is broken. */
bool mixt_message_next(mixt_message *message, mixt_field *field);
float mixt_field_float(const mixt_field *field); /* of a MIXT_WIRE_FIXED32 */

void mixt_message_write_number(mixt_buffer *to, uint32_t number, uint64_t value);
void mixt_message_write_float(mixt_buffer *to, uint32_t number, float value);
void mixt_message_write_bytes(mixt_buffer *to, uint32_t number, const char *bytes, size_t length);

#endif
