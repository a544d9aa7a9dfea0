#include "formats/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/crc32c.h"

#define FLUSH_BYTES 65536u
#define FLUSH_SECONDS 2.0
#define NAMES_TRIED 1000

struct mixt_tensorboard {
    char *path;
    int descriptor;
    uint64_t length; /* whole records in the file */
    mixt_buffer waiting;
    double flushed; /* time of the last flush */
};

/* -- Protocol buffers: key = field number * 8 + wire type (0 varint, 1 fixed64, 2 length, 5
 * fixed32)
 */

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static void put_varint(mixt_buffer *out, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        mixt_buffer_append(out, &byte, 1);
        value >>= 7;
    } while (value != 0);
}

static void put_key(mixt_buffer *out, unsigned field, unsigned wire)
{
    put_varint(out, field * 8 + wire);
}

static void put_bytes(mixt_buffer *out, unsigned field, const void *bytes, size_t length)
{
    put_key(out, field, WIRE_BYTES);
    put_varint(out, length);
    mixt_buffer_append(out, bytes, length);
}

/* wall_time (1) and step (2); a value of zero is left out, as proto3 does. */
static void put_event_front(mixt_buffer *out, double wall_time, int64_t step)
{
    if (wall_time != 0) {
        put_key(out, 1, WIRE_FIXED64);
        mixt_buffer_append(out, &wall_time, sizeof wall_time);
    }
    if (step != 0) {
        put_key(out, 2, WIRE_VARINT);
        put_varint(out, (uint64_t)step);
    }
}

static uint32_t masked_crc(const void *data, size_t length)
{
    uint32_t crc = mixt_crc32c(0, data, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Frames a message and releases it. */
static void put_record(mixt_buffer *out, mixt_buffer *message)
{
    uint64_t length = message->length;
    uint32_t length_crc = masked_crc(&length, sizeof length);
    uint32_t data_crc = masked_crc(message->data, message->length);
    mixt_buffer_append(out, &length, sizeof length);
    mixt_buffer_append(out, &length_crc, sizeof length_crc);
    mixt_buffer_append(out, message->data, message->length);
    mixt_buffer_append(out, &data_crc, sizeof data_crc);
    out->failed |= message->failed;
    mixt_buffer_free(message);
}

void mixt_event_version(mixt_buffer *out, double wall_time, int64_t step)
{
    static const char version[] = "brain.Event:2";
    mixt_buffer message = {0};
    put_event_front(&message, wall_time, step);
    put_bytes(&message, 3, version, sizeof version - 1); /* file_version */
    put_record(out, &message);
}

void mixt_event_restart(mixt_buffer *out, double wall_time, int64_t step)
{
    static const unsigned char start[] = {0x08, 0x01}; /* SessionLog.status = START */
    mixt_buffer message = {0};
    put_event_front(&message, wall_time, step);
    put_bytes(&message, 7, start, sizeof start); /* session_log */
    put_record(out, &message);
}

void mixt_event_scalars(mixt_buffer *out, double wall_time, int64_t step,
                        const mixt_scalar *scalars, size_t count)
{
    mixt_buffer summary = {0};
    for (size_t i = 0; i < count; i++) {
        mixt_buffer value = {0};
        float number = (float)scalars[i].value;
        put_bytes(&value, 1, scalars[i].tag, strlen(scalars[i].tag)); /* tag */
        put_key(&value, 2, WIRE_FIXED32);                             /* simple_value */
        mixt_buffer_append(&value, &number, sizeof number);
        put_bytes(&summary, 1, value.data, value.length); /* value */
        summary.failed |= value.failed;
        mixt_buffer_free(&value);
    }
    mixt_buffer message = {0};
    put_event_front(&message, wall_time, step);
    put_bytes(&message, 5, summary.data, summary.length); /* summary */
    message.failed |= summary.failed;
    mixt_buffer_free(&summary);
    put_record(out, &message);
}

/* -- The file -------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* TensorBoard reads files in the order of their names: the time has ten digits, the number six. */
static mixt_status create_file(mixt_tensorboard *writer, const char *folder, mixt_error *error)
{
    char host[64] = "localhost";
    if (gethostname(host, sizeof host) != 0) {
        snprintf(host, sizeof host, "localhost");
    }
    host[sizeof host - 1] = '\0';
    for (char *c = host; *c != '\0'; c++) {
        *c = *c == '/' ? '_' : *c;
    }
    for (int i = 0; i < NAMES_TRIED; i++) {
        char name[160];
        snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld.%06d", (long long)now(),
                 host, (long)getpid(), i);
        free(writer->path);
        writer->path = mixt_path_join(folder, name);
        if (writer->path == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
        }
        writer->descriptor = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->descriptor >= 0) {
            return MIXT_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    return mixt_fail_errno(error, errno, "%s: cannot create", writer->path);
}

mixt_status mixt_tensorboard_create(const char *folder, int64_t first_step,
                                    mixt_tensorboard **writer, mixt_error *error)
{
    *writer = NULL;
    MIXT_TRY(mixt_folder_create(folder, error));
    mixt_tensorboard *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    made->descriptor = -1;
    mixt_status status = create_file(made, folder, error);
    if (status == MIXT_OK) {
        int64_t step = first_step > 0 ? first_step : 0;
        mixt_event_version(&made->waiting, now(), step);
        if (step > 0) {
            mixt_event_restart(&made->waiting, now(), step);
        }
        status = mixt_tensorboard_flush(made, error);
    }
    if (status != MIXT_OK) {
        mixt_tensorboard_free(made);
        return status;
    }
    *writer = made;
    return MIXT_OK;
}

mixt_status mixt_tensorboard_flush(mixt_tensorboard *writer, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    if (writer->waiting.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", writer->path);
    } else if (writer->waiting.length != 0) {
        status = mixt_write_all(writer->descriptor, writer->waiting.data, writer->waiting.length,
                                writer->path, error);
        if (status == MIXT_OK) {
            writer->length += writer->waiting.length;
        } else if (ftruncate(writer->descriptor, (off_t)writer->length) != 0 ||
                   lseek(writer->descriptor, (off_t)writer->length, SEEK_SET) < 0) {
            status = MIXT_ERROR_IO; /* half a record stays: readers stop there */
        }
    }
    writer->waiting.length = 0;
    writer->waiting.failed = false;
    writer->flushed = now();
    return status;
}

mixt_status mixt_tensorboard_add(mixt_tensorboard *writer, int64_t step, const mixt_scalar *scalars,
                                 size_t count, mixt_error *error)
{
    double time = now();
    mixt_event_scalars(&writer->waiting, time, step, scalars, count);
    bool due = writer->waiting.failed || writer->waiting.length >= FLUSH_BYTES ||
               time - writer->flushed >= FLUSH_SECONDS || time < writer->flushed;
    return due ? mixt_tensorboard_flush(writer, error) : MIXT_OK;
}

void mixt_tensorboard_free(mixt_tensorboard *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->descriptor >= 0) {
        mixt_tensorboard_flush(writer, NULL);
        close(writer->descriptor);
    }
    mixt_buffer_free(&writer->waiting);
    free(writer->path);
    free(writer);
}

const char *mixt_tensorboard_path(const mixt_tensorboard *writer)
{
    return writer->path;
}
