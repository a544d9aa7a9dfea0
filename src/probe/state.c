/* The state of an interrupted probe: its sums, in a safetensors file beside the results. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "core/files.h"
#include "core/sha256.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"
#include "probe/probe.h"

#define FORMAT "mixt-probe-state"
#define SAVE_SHARE 20 /* of the time at most a twentieth is spent on saving */
#define KEY_FORMAT "format"
#define KEY_IDENTITY "identity"

static void hash_number(mixt_sha256 *state, int64_t value)
{
    mixt_sha256_update_u64(state, (uint64_t)value);
}

/* All that the numbers hang on: model, text, options, and how matrices are multiplied. */
mixt_status mixt_probe_identify(mixt_probe *probe, mixt_error *error)
{
    const mixt_probe_options *o = probe->options;
    char model[65];
    mixt_sha256 state;
    MIXT_TRY(mixt_model_hash(probe->model, model, error));
    mixt_sha256_init(&state);
    mixt_sha256_update(&state, FORMAT " 1", sizeof FORMAT " 1");
    mixt_sha256_update(&state, model, sizeof model);
    const char *data = mixt_data_hash(probe->data);
    const char *tokenizer = mixt_tokenizer_hash(probe->tokenizer);
    mixt_sha256_update(&state, data, strlen(data) + 1);
    mixt_sha256_update(&state, tokenizer, strlen(tokenizer) + 1);
    const int64_t numbers[] = {o->experiments,
                               o->first_layer,
                               o->last_layer,
                               o->window,
                               (int64_t)o->max_tokens,
                               o->heldout,
                               o->draws,
                               (int64_t)o->seed,
                               (int64_t)mixt_context_matmul(probe->context),
                               (int64_t)probe->sum_values,
                               (int64_t)probe->target_count};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        hash_number(&state, numbers[i]);
    }
    for (size_t i = 0; i < probe->target_count; i++) {
        hash_number(&state, probe->targets[i].count);
        for (int j = 0; j < probe->targets[i].count; j++) {
            hash_number(&state, probe->targets[i].layer[j]);
            hash_number(&state, probe->targets[i].expert[j]);
        }
    }
    for (int layer = 0; layer < probe->model->options.layers; layer++) { /* changed routing */
        const mixt_router_spec *spec = &probe->base[layer];
        hash_number(&state, spec->chosen);
        hash_number(&state, spec->options.renormalise);
        for (int e = 0; e < spec->experts; e++) {
            hash_number(&state, spec->mask != NULL && spec->mask[e] != 0);
        }
        for (int j = 0; j < spec->chosen && spec->forced != NULL; j++) {
            hash_number(&state, spec->forced[j]);
        }
    }
    mixt_sha256_final_hex(&state, probe->identity);
    return MIXT_OK;
}

static mixt_status write_state(const mixt_probe *probe, mixt_safetensors_writer *writer,
                               mixt_error *error)
{
    const int64_t values = (int64_t)probe->sum_values, one = 1;
    size_t bytes = probe->sum_values * sizeof *probe->sums;
    uint32_t sum = mixt_crc32c(0, probe->sums, bytes);
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_FORMAT, FORMAT, error));
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_IDENTITY, probe->identity, error));
    MIXT_TRY(mixt_safetensors_writer_add(writer, "sums", MIXT_DTYPE_F64, 1, &values, error));
    MIXT_TRY(mixt_safetensors_writer_add(writer, "checksum", MIXT_DTYPE_U32, 1, &one, error));
    MIXT_TRY(mixt_safetensors_writer_begin(writer, error));
    MIXT_TRY(mixt_safetensors_writer_write(writer, probe->sums, bytes, error));
    MIXT_TRY(mixt_safetensors_writer_write(writer, &sum, sizeof sum, error));
    return mixt_safetensors_writer_finish(writer, error);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

mixt_status mixt_probe_save(mixt_probe *probe, bool at_once, mixt_error *error)
{
    double usual = fmax(1, SAVE_SHARE * probe->save_cost);
    double wanted = probe->options->save_seconds != 0 ? probe->options->save_seconds : usual;
    double time = now();
    probe->saved = probe->saved > 0 ? probe->saved : time;
    if (!at_once && time - probe->saved < wanted) {
        return MIXT_OK;
    }
    mixt_safetensors_writer *writer = NULL;
    mixt_status status = mixt_safetensors_writer_create(probe->partial, 0, &writer, error);
    if (status == MIXT_OK) {
        status = write_state(probe, writer, error);
    }
    mixt_safetensors_writer_free(writer);
    probe->saved = now();
    probe->save_cost = probe->saved - time;
    return status;
}

/* Numbers that count or name something, each behind `step` others. */
static bool are_whole(const double *values, size_t count, size_t step)
{
    for (size_t i = 0; i < count; i += step) {
        if (!(values[i] >= 0 && values[i] < 0x1p53 && values[i] == floor(values[i]))) {
            return false;
        }
    }
    return true;
}

/* What steps, batches and results are found by, as no probe leaves it otherwise. */
static bool holds_together(const mixt_probe *probe)
{
    const size_t *count = probe->sum_count;
    double *const *sum = probe->sum;
    return are_whole(sum[SUM_CURSOR], count[SUM_CURSOR], 1) &&
           sum[SUM_CURSOR][CURSOR_PASS] <= (double)probe->k_count &&
           are_whole(sum[SUM_TOKENS], count[SUM_TOKENS], 1) &&
           are_whole(sum[SUM_USE] + USE_CHOICES, count[SUM_USE], USE_SUMS) &&
           are_whole(sum[SUM_OUTPUT] + OUTPUT_TOKEN, count[SUM_OUTPUT], OUTPUT_SUMS) &&
           are_whole(sum[SUM_OUTPUT] + OUTPUT_COLUMN, count[SUM_OUTPUT], OUTPUT_SUMS);
}

static mixt_status read_state(mixt_probe *probe, const mixt_safetensors *file, mixt_error *error)
{
    const char *format = mixt_safetensors_metadata(file, KEY_FORMAT);
    const char *identity = mixt_safetensors_metadata(file, KEY_IDENTITY);
    const mixt_tensor_info *sums = mixt_safetensors_find(file, "sums");
    const mixt_tensor_info *check = mixt_safetensors_find(file, "checksum");
    size_t bytes = probe->sum_values * sizeof *probe->sums;
    uint32_t wanted = 0;
    if (format == NULL || strcmp(format, FORMAT) != 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: it is not the state of a probe",
                         probe->partial);
    }
    if (identity == NULL || strcmp(identity, probe->identity) != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%.400s: begun with another model, text or other options; remove it to "
                         "begin anew",
                         probe->partial);
    }
    if (sums == NULL || check == NULL || sums->dtype != MIXT_DTYPE_F64 || sums->bytes != bytes ||
        check->dtype != MIXT_DTYPE_U32 || check->bytes != sizeof wanted) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: sums are missing", probe->partial);
    }
    MIXT_TRY(mixt_safetensors_read(file, sums, 0, bytes, probe->sums, error));
    MIXT_TRY(mixt_safetensors_read(file, check, 0, sizeof wanted, &wanted, error));
    if (mixt_crc32c(0, probe->sums, bytes) != wanted) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: damaged, its checksum is wrong",
                         probe->partial);
    }
    return holds_together(probe)
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_FORMAT,
                           "%.400s: damaged, a count is not a whole number, or too large",
                           probe->partial);
}

mixt_status mixt_probe_load(mixt_probe *probe, mixt_error *error)
{
    if (!mixt_path_exists(probe->partial)) {
        return MIXT_OK;
    }
    mixt_safetensors *file;
    MIXT_TRY(mixt_safetensors_open(probe->partial, &file, error));
    mixt_status status = read_state(probe, file, error);
    mixt_safetensors_close(file);
    return status;
}
