#include "train/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/jsonl_log.h"
#include "formats/safetensors.h" /* mixt_json_quote */
#include "formats/tensorboard.h"

struct mixt_log {
    mixt_jsonl_log *lines;
    mixt_jsonl_log *loads; /* NULL: there are no experts */
    mixt_tensorboard *events;
};

static mixt_status open_lines(const char *folder, const char *name, int64_t step,
                              mixt_jsonl_log **lines, mixt_error *error)
{
    char *path = mixt_path_join(folder, name);
    mixt_status status = path != NULL
                             ? mixt_jsonl_open(path, step, lines, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    free(path);
    return status;
}

mixt_status mixt_log_open(const char *folder, int64_t step, bool routes, mixt_log **result,
                          mixt_error *error)
{
    *result = NULL;
    mixt_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = open_lines(folder, "log.jsonl", step, &log->lines, error);
    if (status == MIXT_OK && routes) {
        status = open_lines(folder, "load.jsonl", step, &log->loads, error);
    }
    if (status == MIXT_OK) {
        status = mixt_tensorboard_create(folder, step > 0 ? step + 1 : 0, &log->events, error);
    }
    if (status != MIXT_OK) {
        mixt_log_close(log);
        return status;
    }
    *result = log;
    return MIXT_OK;
}

mixt_status mixt_log_sync(mixt_log *log, mixt_error *error)
{
    MIXT_TRY(mixt_tensorboard_flush(log->events, error));
    MIXT_TRY(mixt_jsonl_sync(log->lines, error));
    return log->loads != NULL ? mixt_jsonl_sync(log->loads, error) : MIXT_OK;
}

void mixt_log_close(mixt_log *log)
{
    if (log != NULL) {
        mixt_jsonl_close(log->lines);
        mixt_jsonl_close(log->loads);
        mixt_tensorboard_free(log->events);
        free(log);
    }
}

/* Appends the lines and releases them. */
static mixt_status write_lines(mixt_jsonl_log *log, mixt_buffer *lines, mixt_error *error)
{
    mixt_status status = lines->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "log: no memory")
                                       : mixt_jsonl_append(log, lines->data, lines->length, error);
    mixt_buffer_free(lines);
    return status;
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

/* ,"balance_coefficients":[...], and an event for each layer with experts. */
static mixt_status put_coefficients(mixt_log *log, int64_t step, const mixt_log_balance *balance,
                                    mixt_buffer *line, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int i = 0; i < balance->layers; i++) {
        char tag[48];
        mixt_buffer_format(line, "%s%.9g", i == 0 ? ",\"balance_coefficients\":[" : ",",
                           balance->coefficients[i]);
        snprintf(tag, sizeof tag, "balance_coefficient/%d", i);
        mixt_scalar scalar = {tag, balance->coefficients[i]};
        mixt_status added = mixt_tensorboard_add(log->events, step, &scalar, 1, error);
        status = status != MIXT_OK ? status : added;
    }
    mixt_buffer_text(line, "]");
    return status;
}

mixt_status mixt_log_step(mixt_log *log, const mixt_step_report *report, int64_t tokens,
                          const mixt_log_balance *balance, mixt_error *error)
{
    mixt_scalar scalars[14] = {
        {"loss", report->loss},
        {"balance", report->balance_loss},
        {"z", report->z_loss},
        {"lr", report->learning_rate},
        {"grad_norm", report->gradient_norm},
        {"tokens_per_second", report->tokens_per_second},
        {"load_max_over_mean", report->load_max_over_mean},
        {"max_violation", report->max_violation},
        {"dead_fraction", report->dead_fraction},
        {"effective_experts", report->effective_experts},
    };
    int count = 10;
    if (balance->capacity) {
        scalars[count++] = (mixt_scalar){"dropped", report->dropped};
    }
    if (balance->groups) {
        scalars[count++] = (mixt_scalar){"device_balance", report->device_balance_loss};
    }
    if (balance->weightless) {
        scalars[count++] = (mixt_scalar){"identity_share", report->identity_share};
        scalars[count++] = (mixt_scalar){"zero_share", report->zero_share};
    }
    mixt_buffer line = {0};
    mixt_buffer_format(&line, "{\"step\":%lld", (long long)report->step);
    for (int i = 0; i < count; i++) {
        put_number(&line, scalars[i].tag, scalars[i].value);
    }
    mixt_status third = balance->coefficients != NULL
                            ? put_coefficients(log, report->step, balance, &line, error)
                            : MIXT_OK;
    mixt_buffer_format(&line, ",\"tokens\":%lld,\"skipped\":%lld,\"was_skipped\":%s}\n",
                       (long long)tokens, (long long)report->skipped,
                       report->was_skipped ? "true" : "false");
    mixt_status status = write_lines(log->lines, &line, error);
    mixt_status second =
        mixt_tensorboard_add(log->events, report->step, scalars, (size_t)count, error);
    status = status != MIXT_OK ? status : second;
    return status != MIXT_OK ? status : third;
}

bool mixt_log_load_due(int64_t step)
{
    int64_t every = 1;
    while (step / every >= 128) {
        every *= 2;
    }
    return step % every == 0;
}

mixt_status mixt_log_loads(mixt_log *log, int64_t step, const mixt_log_load *load,
                           mixt_error *error)
{
    mixt_buffer line = {0};
    mixt_buffer_format(&line, "{\"step\":%lld,\"tokens\":%lld,\"layers\":[", (long long)step,
                       (long long)load->tokens);
    for (int layer = 0; layer < load->layers; layer++) {
        mixt_buffer_format(&line, "%s%d", layer == 0 ? "" : ",", load->number(load->user, layer));
    }
    mixt_buffer_text(&line, "],\"choices\":[");
    for (int layer = 0; layer < load->layers; layer++) {
        for (int e = 0; e < load->experts; e++) {
            mixt_buffer_format(&line, "%s%lld",
                               e > 0        ? ","
                               : layer == 0 ? "["
                                            : "],[",
                               (long long)load->counts[(int64_t)layer * load->experts + e]);
        }
    }
    mixt_buffer_text(&line, "]]}\n");
    return write_lines(log->loads, &line, error);
}

static double bits(const mixt_score_row *row, uint64_t units)
{
    return row->nats / log(2.0) / (double)units;
}

mixt_status mixt_log_scores(mixt_log *log, int64_t step, const mixt_score_row *rows, int count,
                            mixt_error *error)
{
    mixt_buffer line = {0};
    mixt_status second = MIXT_OK;
    for (int i = 0; i < count; i++) {
        const char *domain = rows[i].domain != NULL ? rows[i].domain : "all";
        if (rows[i].tokens == 0) {
            continue;
        }
        mixt_buffer_format(&line, "{\"step\":%lld,\"heldout\":", (long long)step);
        mixt_json_quote(&line, domain);
        put_number(&line, "bits_per_token", bits(&rows[i], rows[i].tokens));
        put_number(&line, "bits_per_byte", rows[i].bytes > 0 ? bits(&rows[i], rows[i].bytes) : NAN);
        if (rows[i].choices > 0) {
            put_number(&line, "dropped", (double)rows[i].dropped / (double)rows[i].choices);
        }
        mixt_buffer_format(&line, ",\"tokens\":%llu,\"bytes\":%llu}\n",
                           (unsigned long long)rows[i].tokens, (unsigned long long)rows[i].bytes);
        char tag[128];
        snprintf(tag, sizeof tag, "heldout/%.100s", domain);
        mixt_scalar scalar = {tag, bits(&rows[i], rows[i].tokens)};
        mixt_status added = mixt_tensorboard_add(log->events, step, &scalar, 1, error);
        second = second != MIXT_OK ? second : added;
    }
    mixt_status status = write_lines(log->lines, &line, error);
    return status != MIXT_OK ? status : second;
}

mixt_status mixt_log_losses(mixt_log *log, const mixt_step_report *report, mixt_error *error)
{
    const mixt_scalar scalars[] = {{"train_loss", report->train_loss},
                                   {"val_loss", report->heldout_loss}};
    mixt_buffer line = {0};
    mixt_buffer_format(&line, "{\"step\":%lld", (long long)report->step);
    put_number(&line, scalars[0].tag, scalars[0].value);
    put_number(&line, scalars[1].tag, scalars[1].value);
    mixt_buffer_text(&line, "}\n");
    mixt_status status = write_lines(log->lines, &line, error);
    mixt_status second = mixt_tensorboard_add(log->events, report->step, scalars, 2, error);
    return status != MIXT_OK ? status : second;
}
