/* TensorBoard event files: records of [u64 length][masked CRC-32C of it][data][masked CRC-32C of
 * the data] whose data is an Event message in protocol buffer encoding. Only scalars are written:
 * Event {1: wall_time double, 2: step varint, 3: file_version string, 5: summary}, Summary {1:
 * repeated value}, Value {1: tag string, 2: simple_value float}. */
#ifndef MIXT_TRAIN_EVENTS_H
#define MIXT_TRAIN_EVENTS_H

#include "core/memory.h"

#define MIXT_EVENTS_NAME "events.out.tfevents.0000000000.mixt"

typedef struct mixt_scalar {
    const char *tag;
    double value;
} mixt_scalar;

/* Appends the record that begins a file. */
void mixt_events_begin(mixt_buffer *out, double wall_time);
/* Appends one record with `count` scalars of a step. */
void mixt_events_scalars(mixt_buffer *out, double wall_time, int64_t step,
                         const mixt_scalar *scalars, int count);
/* Bytes of the leading records that are whole and belong to steps up to `step`. */
size_t mixt_events_keep(const char *data, size_t length, int64_t step);

#endif
