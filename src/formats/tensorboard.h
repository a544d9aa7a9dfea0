/* TensorBoard event files: TFRecord frames (length, masked CRC-32C, data, masked CRC-32C) of Event
 * messages in protocol buffer form (tensorboard/compat/proto/event.proto, summary.proto). Scalars
 * only. Every start of a process writes a file of its own; where a run goes on at step N,
 * TensorBoard drops what older files hold of step N and later. */
#ifndef MIXT_FORMATS_TENSORBOARD_H
#define MIXT_FORMATS_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "mixt.h"

typedef struct mixt_tensorboard mixt_tensorboard;

typedef struct mixt_scalar {
    const char *tag; /* "loss/train": the part before '/' is a section of the page */
    double value;    /* stored as fp32 */
} mixt_scalar;

/* Creates events.out.tfevents.TIME.HOST.PID.N in `folder`. first_step: the first step that will be
 * written; above 0 the file tells readers to forget it and what came after. */
mixt_status mixt_tensorboard_create(const char *folder, int64_t first_step,
                                    mixt_tensorboard **writer, mixt_error *error);
/* Adds the scalars of a step. Records go to the file every few seconds, or when 64 KiB wait; after
 * a failure the file ends with a whole record and what waited is dropped. */
mixt_status mixt_tensorboard_add(mixt_tensorboard *writer, int64_t step, const mixt_scalar *scalars,
                                 size_t count, mixt_error *error);
mixt_status mixt_tensorboard_flush(mixt_tensorboard *writer, mixt_error *error);
/* Flushes. */
void mixt_tensorboard_free(mixt_tensorboard *writer);
const char *mixt_tensorboard_path(const mixt_tensorboard *writer);

/* The records themselves, appended to `out`. */
void mixt_event_version(mixt_buffer *out, double wall_time, int64_t step);
void mixt_event_restart(mixt_buffer *out, double wall_time, int64_t step);
void mixt_event_scalars(mixt_buffer *out, double wall_time, int64_t step,
                        const mixt_scalar *scalars, size_t count);

#endif
