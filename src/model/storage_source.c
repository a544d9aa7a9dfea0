/* Checkpoints of either format as one kind of thing: named tensors in mapped files. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/memory_limit.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/storage.h"

typedef struct memory_block {
    void *data;
    size_t bytes;
} memory_block;

struct mixt_source {
    mixt_gguf *gguf; /* one of the two */
    mixt_safetensors *safetensors;
    char *path;
    memory_block *blocks; /* [block_count] */
    size_t block_count, block_capacity;
};

void mixt_source_close(mixt_source *source)
{
    if (source != NULL) {
        mixt_gguf_close(source->gguf);
        mixt_safetensors_close(source->safetensors);
        for (size_t i = 0; i < source->block_count; i++) {
            mixt_block_free(source->blocks[i].data, source->blocks[i].bytes);
        }
        free(source->blocks);
        free(source->path);
        free(source);
    }
}

void *mixt_source_memory(mixt_source *source, size_t bytes)
{
    if (!mixt_grow(&source->blocks, &source->block_capacity, source->block_count + 1,
                   sizeof *source->blocks)) {
        return NULL;
    }
    void *data = mixt_block_allocate(bytes);
    if (data != NULL) {
        source->blocks[source->block_count++] = (memory_block){data, bytes};
    }
    return data;
}

uint64_t mixt_source_held(const mixt_source *source)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < source->block_count; i++) {
        bytes += source->blocks[i].bytes;
    }
    return bytes;
}

mixt_status mixt_source_open_folder(const char *path, mixt_source **result, mixt_error *error)
{
    *result = NULL;
    mixt_source *source = calloc(1, sizeof *source);
    if (source == NULL || (source->path = strdup(path)) == NULL) {
        free(source);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = mixt_safetensors_open(path, &source->safetensors, error);
    if (status == MIXT_OK) {
        status = mixt_safetensors_map(source->safetensors, error);
    }
    if (status != MIXT_OK) {
        mixt_source_close(source);
        return status;
    }
    *result = source;
    return MIXT_OK;
}

mixt_status mixt_source_take_gguf(mixt_gguf *file, mixt_source **result, mixt_error *error)
{
    const char *path = mixt_gguf_path(file, 0);
    *result = NULL;
    mixt_source *source = calloc(1, sizeof *source);
    if (source == NULL || (source->path = strdup(path)) == NULL) {
        mixt_status status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
        free(source);
        mixt_gguf_close(file);
        return status;
    }
    source->gguf = file;
    *result = source;
    return MIXT_OK;
}

const char *mixt_source_path(const mixt_source *source)
{
    return source->path;
}

bool mixt_source_is_gguf(const mixt_source *source)
{
    return source->gguf != NULL;
}

size_t mixt_source_count(const mixt_source *source)
{
    return source->gguf != NULL ? mixt_gguf_tensor_count(source->gguf)
                                : mixt_safetensors_count(source->safetensors);
}

double mixt_source_elements(const mixt_source *source)
{
    double sum = 0;
    for (size_t i = 0; i < mixt_source_count(source); i++) {
        if (source->gguf != NULL) {
            const int64_t *size = mixt_gguf_tensor_at(source->gguf, i)->size;
            sum += (double)size[0] * (double)size[1] * (double)size[2] * (double)size[3];
        } else {
            const mixt_tensor_info *tensor = mixt_safetensors_tensor(source->safetensors, i);
            bool packed = tensor->dtype == MIXT_DTYPE_U8; /* two values of MXFP4 in a byte */
            bool known =
                tensor->dtype != MIXT_DTYPE_UNKNOWN; /* else its shape has no bytes behind */
            sum += known ? (double)mixt_tensor_elements(tensor) * (packed ? 2 : 1) : 0;
        }
    }
    return sum;
}

const char *mixt_source_name(const mixt_source *source, size_t index, const void **key)
{
    if (source->gguf != NULL) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(source->gguf, index);
        *key = tensor;
        return tensor->name;
    }
    const mixt_tensor_info *tensor = mixt_safetensors_tensor(source->safetensors, index);
    *key = tensor;
    return tensor->name;
}

static void describe_gguf(const mixt_source *source, const mixt_gguf_tensor *tensor,
                          mixt_source_tensor *found)
{
    *found = (mixt_source_tensor){.key = tensor,
                                  .path = mixt_gguf_path(source->gguf, tensor->shard),
                                  .type_name = mixt_type_info(tensor->type)->name,
                                  .type = tensor->type,
                                  .rank = tensor->rank,
                                  .data = tensor->data,
                                  .bytes = tensor->bytes};
    for (int i = 0; i < tensor->rank; i++) {
        found->size[i] = tensor->size[tensor->rank - 1 - i];
    }
}

static void describe_safetensors(const mixt_source *source, const mixt_tensor_info *tensor,
                                 mixt_source_tensor *found)
{
    static const struct {
        mixt_dtype dtype;
        mixt_type type;
    } types[] = {
        {MIXT_DTYPE_F32, MIXT_TYPE_F32},
        {MIXT_DTYPE_F16, MIXT_TYPE_F16},
        {MIXT_DTYPE_BF16, MIXT_TYPE_BF16},
        {MIXT_DTYPE_F8_E4M3, MIXT_TYPE_F8_E4M3},
    };
    *found = (mixt_source_tensor){.key = tensor,
                                  .path = mixt_safetensors_path(source->safetensors, tensor),
                                  .type_name = tensor->dtype_name,
                                  .type = MIXT_TYPE_COUNT,
                                  .rank = (int)tensor->rank,
                                  .data = mixt_safetensors_data(source->safetensors, tensor),
                                  .bytes = (size_t)tensor->bytes};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        found->type = types[i].dtype == tensor->dtype ? types[i].type : found->type;
    }
    for (int i = 0; i < found->rank && i < MIXT_SOURCE_RANK_MAX; i++) {
        found->size[i] = tensor->shape[i];
    }
}

bool mixt_source_find(const mixt_source *source, const char *name, mixt_source_tensor *found)
{
    if (source->gguf != NULL) {
        const mixt_gguf_tensor *tensor = mixt_gguf_find(source->gguf, name);
        if (tensor == NULL) {
            return false;
        }
        describe_gguf(source, tensor, found);
    } else {
        const mixt_tensor_info *tensor = mixt_safetensors_find(source->safetensors, name);
        if (tensor == NULL && strncmp(name, "model.", 6) == 0) {
            tensor = mixt_safetensors_find(source->safetensors, name + 6); /* a bare LlamaModel */
        }
        if (tensor == NULL) {
            return false;
        }
        describe_safetensors(source, tensor, found);
    }
    return true;
}

bool mixt_source_is_factor(const mixt_source_tensor *tensor)
{
    return tensor->type == MIXT_TYPE_F32 || tensor->type == MIXT_TYPE_F16 ||
           tensor->type == MIXT_TYPE_BF16 || strcmp(tensor->type_name, "F8_E8M0") == 0;
}

mixt_status mixt_source_intact(const mixt_source *source, mixt_error *error)
{
    return source->gguf != NULL ? mixt_gguf_intact(source->gguf, error)
                                : mixt_safetensors_intact(source->safetensors, error);
}

const struct mixt_map *mixt_source_locate(const mixt_source *source, const void *data,
                                          const char **path, uint64_t *offset)
{
    return source->gguf != NULL ? mixt_gguf_locate(source->gguf, data, path, offset)
                                : mixt_safetensors_locate(source->safetensors, data, path, offset);
}

uint64_t mixt_source_bytes(const mixt_source *source)
{
    return source->gguf != NULL ? mixt_gguf_bytes(source->gguf)
                                : mixt_safetensors_mapped(source->safetensors);
}

mixt_status mixt_source_load(const mixt_source *source, mixt_error *error)
{
    bool gguf = source->gguf != NULL;
    uint64_t bytes = mixt_source_bytes(source);
    const char *limit;
    uint64_t available = mixt_memory_available(&limit);
    if (bytes > available) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "%s: %llu bytes of weights do not fit the %llu bytes of memory that are "
                         "free (%s): they have to stay mapped",
                         source->path, (unsigned long long)bytes, (unsigned long long)available,
                         limit);
    }
    return gguf ? mixt_gguf_load(source->gguf, error)
                : mixt_safetensors_load(source->safetensors, error);
}
