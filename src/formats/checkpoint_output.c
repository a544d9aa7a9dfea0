#include "formats/checkpoint_output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"

mixt_status mixt_checkpoint_output_open(mixt_checkpoint_output *out, const char *path,
                                        mixt_error *error)
{
    *out = (mixt_checkpoint_output){.path = path, .descriptor = mixt_file_create(path, error)};
    mixt_sha256_init(&out->sum);
    return out->descriptor >= 0 ? MIXT_OK : MIXT_ERROR_IO;
}

mixt_status mixt_checkpoint_output_write(mixt_checkpoint_output *out, const void *data,
                                         uint64_t length, uint32_t *crc, mixt_error *error)
{
    assert(out->descriptor >= 0);
    const unsigned char *from = data;
    uint32_t sum = 0;
    while (length != 0) {
        size_t step = length < MIXT_OUTPUT_CHUNK ? (size_t)length : MIXT_OUTPUT_CHUNK;
        if (crc != NULL) {
            sum = mixt_crc32c(sum, from, step);
        }
        if (!out->unhashed) {
            mixt_sha256_update(&out->sum, from, step);
        }
        MIXT_TRY(mixt_write_all(out->descriptor, from, step, out->path, error));
        from += step;
        length -= step;
        out->bytes += step;
    }
    if (crc != NULL) {
        *crc = sum;
    }
    return MIXT_OK;
}

mixt_status mixt_checkpoint_output_end(mixt_checkpoint_output *out, mixt_manifest_file *record,
                                       mixt_status status, mixt_error *error)
{
    status = mixt_file_settle(&out->descriptor, out->path, status, error);
    if (status == MIXT_OK) {
        record->bytes = out->bytes;
        mixt_sha256_final_hex(&out->sum, record->sha256);
    }
    return status;
}

mixt_status mixt_checkpoint_output_describe(mixt_arena *arena,
                                            const mixt_checkpoint_tensor *tensors, size_t count,
                                            mixt_manifest_file *record, mixt_buffer *header,
                                            mixt_error *error)
{
    static const mixt_text_pair metadata = {"format", "pt"}; /* transformers insists on it */
    mixt_tensor_info *infos = calloc(count, sizeof *infos);
    record->tensors = mixt_arena_allocate(arena, count, sizeof *record->tensors);
    if (infos == NULL || record->tensors == NULL) {
        free(infos);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", record->name);
    }
    mixt_status status = MIXT_OK;
    record->tensor_count = count;
    for (size_t i = 0; i < count; i++) {
        const mixt_checkpoint_tensor *tensor = &tensors[i];
        mixt_manifest_tensor *sum = &record->tensors[i];
        sum->name = tensor->name;
        sum->dtype = tensor->dtype;
        sum->rank = tensor->rank;
        if (tensor->dtype == MIXT_DTYPE_UNKNOWN || tensor->rank > MIXT_CHECKPOINT_RANK_MAX ||
            !mixt_tensor_bytes(tensor->dtype, tensor->rank, tensor->shape, &sum->bytes)) {
            status = mixt_fail(error, MIXT_ERROR_ARGUMENT,
                               "%s: tensor \"%.200s\" has an impossible type or shape",
                               record->name, tensor->name);
            break;
        }
        memcpy(sum->shape, tensor->shape, sizeof sum->shape);
        infos[i] = (mixt_tensor_info){.name = tensor->name,
                                      .shape = tensor->shape,
                                      .bytes = sum->bytes,
                                      .rank = tensor->rank,
                                      .dtype = tensor->dtype};
    }
    if (status == MIXT_OK) {
        mixt_tensor_header parts = {infos, count, &metadata, 1};
        status = mixt_safetensors_header(&parts, record->name, header, error);
    }
    free(infos);
    return status;
}
