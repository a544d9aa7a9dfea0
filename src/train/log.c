#include "train/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/safetensors.h" /* mixt_json_quote */
#include "train/events.h"

#define LOG_MAX ((size_t)4 << 30) /* bytes that are looked through on resume */

struct mixt_log {
    char *lines_path, *events_path;
    int lines, events; /* descriptors */
};

/* Bytes of the leading whole lines of steps up to `step`. Every line begins {"step":N. */
static size_t lines_keep(const char *data, size_t length, int64_t step)
{
    static const char begin[] = "{\"step\":";
    size_t at = 0;
    while (at < length) {
        const char *end = memchr(data + at, '\n', length - at);
        if (end == NULL || strncmp(data + at, begin, sizeof begin - 1) != 0 ||
            strtoll(data + at + sizeof begin - 1, NULL, 10) > step) {
            break;
        }
        at = (size_t)(end - data) + 1;
    }
    return at;
}

/* Opens one file and cuts it to what `keep` allows. *size is what is left. */
static mixt_status open_cut(const char *path, int64_t step,
                            size_t (*keep)(const char *, size_t, int64_t), int *descriptor,
                            size_t *size, mixt_error *error)
{
    char *data = NULL;
    size_t length = 0;
    *size = 0;
    if (mixt_path_exists(path)) {
        mixt_status status = mixt_file_read(path, LOG_MAX, &data, &length, error);
        if (status != MIXT_OK) {
            return status;
        }
        *size = keep(data, length, step);
        free(data);
    }
    *descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*descriptor < 0 || (*size < length && ftruncate(*descriptor, (off_t)*size) != 0)) {
        return mixt_fail_errno(error, errno, "%s: cannot open for writing", path);
    }
    return MIXT_OK;
}

static double wall_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static mixt_status write_out(int descriptor, const char *path, mixt_buffer *buffer,
                             mixt_error *error)
{
    mixt_status status =
        buffer->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path)
                       : mixt_write_all(descriptor, buffer->data, buffer->length, path, error);
    mixt_buffer_free(buffer);
    return status;
}

mixt_status mixt_log_open(const char *folder, int64_t step, mixt_log **result, mixt_error *error)
{
    *result = NULL;
    mixt_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    log->lines = log->events = -1;
    log->lines_path = mixt_path_join(folder, "log.jsonl");
    log->events_path = mixt_path_join(folder, MIXT_EVENTS_NAME);
    size_t lines = 0, events = 0;
    mixt_status status = MIXT_OK;
    if (log->lines_path == NULL || log->events_path == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (status == MIXT_OK) {
        status = open_cut(log->lines_path, step, lines_keep, &log->lines, &lines, error);
    }
    if (status == MIXT_OK) {
        status = open_cut(log->events_path, step, mixt_events_keep, &log->events, &events, error);
    }
    if (status == MIXT_OK && events == 0) {
        mixt_buffer buffer = {0};
        mixt_events_begin(&buffer, wall_time());
        status = write_out(log->events, log->events_path, &buffer, error);
    }
    if (status != MIXT_OK) {
        mixt_log_close(log);
        return status;
    }
    *result = log;
    return MIXT_OK;
}

void mixt_log_close(mixt_log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->lines >= 0) {
        close(log->lines);
    }
    if (log->events >= 0) {
        close(log->events);
    }
    free(log->lines_path);
    free(log->events_path);
    free(log);
}

/* ,"name":value, with null for what JSON cannot say. */
static void put_number(mixt_buffer *out, const char *name, double value)
{
    if (isfinite(value)) {
        mixt_buffer_format(out, ",\"%s\":%.9g", name, value);
    } else {
        mixt_buffer_format(out, ",\"%s\":null", name);
    }
}

mixt_status mixt_log_step(mixt_log *log, const mixt_step_report *report, int64_t tokens,
                          mixt_error *error)
{
    const mixt_scalar scalars[] = {
        {"loss", report->loss},
        {"balance", report->balance_loss},
        {"z", report->z_loss},
        {"lr", report->learning_rate},
        {"grad_norm", report->gradient_norm},
        {"tokens_per_second", report->tokens_per_second},
        {"load_max_over_mean", report->load_max_over_mean},
        {"dead_fraction", report->dead_fraction},
        {"effective_experts", report->effective_experts},
    };
    const int count = (int)(sizeof scalars / sizeof *scalars);
    mixt_buffer line = {0}, event = {0};
    mixt_buffer_format(&line, "{\"step\":%lld", (long long)report->step);
    for (int i = 0; i < count; i++) {
        put_number(&line, scalars[i].tag, scalars[i].value);
    }
    mixt_buffer_format(&line, ",\"tokens\":%lld,\"skipped\":%lld,\"was_skipped\":%s}\n",
                       (long long)tokens, (long long)report->skipped,
                       report->was_skipped ? "true" : "false");
    mixt_events_scalars(&event, wall_time(), report->step, scalars, count);
    mixt_status status = write_out(log->lines, log->lines_path, &line, error);
    mixt_status second = write_out(log->events, log->events_path, &event, error);
    return status != MIXT_OK ? status : second;
}

static double bits(const mixt_score_row *row, uint64_t units)
{
    return row->nats / log(2.0) / (double)units;
}

mixt_status mixt_log_scores(mixt_log *log, int64_t step, const mixt_score_row *rows, int count,
                            mixt_error *error)
{
    mixt_buffer line = {0}, event = {0};
    for (int i = 0; i < count; i++) {
        const char *domain = rows[i].domain != NULL ? rows[i].domain : "all";
        if (rows[i].tokens == 0) {
            continue;
        }
        mixt_buffer_format(&line, "{\"step\":%lld,\"heldout\":", (long long)step);
        mixt_json_quote(&line, domain);
        put_number(&line, "bits_per_token", bits(&rows[i], rows[i].tokens));
        put_number(&line, "bits_per_byte", rows[i].bytes > 0 ? bits(&rows[i], rows[i].bytes) : NAN);
        mixt_buffer_format(&line, ",\"tokens\":%llu,\"bytes\":%llu}\n",
                           (unsigned long long)rows[i].tokens, (unsigned long long)rows[i].bytes);
        char tag[128];
        snprintf(tag, sizeof tag, "heldout/%.100s", domain);
        mixt_scalar scalar = {tag, bits(&rows[i], rows[i].tokens)};
        mixt_events_scalars(&event, wall_time(), step, &scalar, 1);
    }
    mixt_status status = write_out(log->lines, log->lines_path, &line, error);
    mixt_status second = write_out(log->events, log->events_path, &event, error);
    return status != MIXT_OK ? status : second;
}
