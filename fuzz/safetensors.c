/* Any bytes as a safetensors file. What is accepted must hold together: ranges inside the file and
 * touching, every name found again, all data readable; and a header written anew from what was read
 * must read back as the same tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"
#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void same_tensor(const mixt_tensor_info *a, const mixt_tensor_info *b)
{
    require(strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->rank == b->rank &&
            a->bytes == b->bytes);
    require(a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
}

/* Header from the tensors read, then the data behind it, read again. */
static void round_trip(const mixt_safetensors *file, const uint8_t *data, size_t size)
{
    size_t count = mixt_safetensors_count(file);
    mixt_tensor_info *tensors = calloc(count + 1, sizeof *tensors);
    require(tensors != NULL);
    uint64_t data_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *mixt_safetensors_tensor(file, i);
        data_bytes += tensors[i].bytes;
        if (tensors[i].dtype == MIXT_DTYPE_UNKNOWN) {
            free(tensors);
            return;
        }
    }
    mixt_tensor_header header = {.tensors = tensors, .count = count};
    mixt_buffer out = {0};
    require(mixt_safetensors_header(&header, "again", &out, NULL) == MIXT_OK);
    require(out.length % 8 == 0);
    mixt_buffer_append(&out, data + size - data_bytes, data_bytes);
    mixt_safetensors *again;
    require(mixt_safetensors_open_memory(out.data, out.length, "again", &again, NULL) == MIXT_OK);
    require(mixt_safetensors_count(again) == count);
    for (size_t i = 0; i < count; i++) {
        const mixt_tensor_info *found = mixt_safetensors_find(again, tensors[i].name);
        require(found != NULL);
        same_tensor(found, &tensors[i]);
    }
    mixt_safetensors_close(again);
    mixt_buffer_free(&out);
    free(tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_safetensors_open_memory(data, size, "input", &file, &error);
    if (status != MIXT_OK) {
        require(file == NULL && status == error.status && strchr(error.message, '\n') == NULL &&
                strncmp(error.message, "input: ", 7) == 0);
        return 0;
    }
    uint64_t at = 0;
    uint8_t chunk[256];
    float floats[16];
    for (size_t i = 0; i < mixt_safetensors_count(file); i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(file, i);
        require(mixt_safetensors_find(file, tensor->name) == tensor);
        require(i == 0 || tensor->offset == at);
        require(tensor->offset <= size && tensor->bytes <= size - tensor->offset);
        at = tensor->offset + tensor->bytes;
        for (uint64_t j = 0; j < tensor->bytes && tensor->dtype != MIXT_DTYPE_UNKNOWN;) {
            size_t step =
                tensor->bytes - j < sizeof chunk ? (size_t)(tensor->bytes - j) : sizeof chunk;
            require(mixt_safetensors_read(file, tensor, j, step, chunk, NULL) == MIXT_OK);
            require(memcmp(chunk, data + tensor->offset + j, step) == 0);
            j += step;
        }
        mixt_safetensors_read_f32(file, tensor, 0, 1, floats, NULL);
        mixt_safetensors_read_f32(file, tensor, 1, 16, floats, NULL);
    }
    require(mixt_safetensors_count(file) == 0 || at == size);
    round_trip(file, data, size);
    mixt_safetensors_close(file);
    return 0;
}
