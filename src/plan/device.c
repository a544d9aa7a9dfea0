#include "plan/device.h"

#include <assert.h>
#include <stdlib.h>

static mixt_status create(const mixt_backend *backend, size_t size, bool reserved,
                          mixt_device_memory *memory, mixt_error *error)
{
    size_t bytes = size == 0 ? 1 : size;
    void *data = reserved ? backend->reserve(bytes) : backend->allocate(bytes);
    *memory = (mixt_device_memory){backend, data, bytes, false, reserved};
    return data != NULL ? MIXT_OK
                        : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB",
                                    backend->name, (double)size / 1e6);
}

mixt_status mixt_device_memory_create(const mixt_backend *backend, size_t size,
                                      mixt_device_memory *memory, mixt_error *error)
{
    return create(backend, size, false, memory, error);
}

mixt_status mixt_device_memory_reserve(const mixt_backend *backend, size_t size,
                                       mixt_device_memory *memory, mixt_error *error)
{
    return create(backend, size, true, memory, error);
}

mixt_status mixt_device_memory_share(const mixt_backend *backend, void *bytes, size_t size,
                                     mixt_device_memory *memory, mixt_error *error)
{
    if (backend->host_memory) {
        *memory = (mixt_device_memory){backend, bytes, size, true, false};
        return MIXT_OK;
    }
    mixt_status status = mixt_device_memory_create(backend, size, memory, error);
    if (status == MIXT_OK) {
        mixt_device_memory_write(memory, 0, bytes, size);
    }
    return status;
}

void mixt_device_memory_free(mixt_device_memory *memory)
{
    if (memory->data != NULL && !memory->borrowed) {
        (memory->reserved ? memory->backend->release_reserved
                          : memory->backend->release)(memory->data, memory->size);
    }
    *memory = (mixt_device_memory){0};
}

bool mixt_device_memory_is(const mixt_device_memory *memory, const void *bytes)
{
    return memory->backend->host_memory && memory->data == bytes;
}

void mixt_device_memory_read(const mixt_device_memory *memory, size_t offset, void *to, size_t size)
{
    assert(offset <= memory->size && size <= memory->size - offset);
    memory->backend->copy_out(to, (const char *)memory->data + offset, size);
}

void mixt_device_memory_write(const mixt_device_memory *memory, size_t offset, const void *from,
                              size_t size)
{
    assert(offset <= memory->size && size <= memory->size - offset);
    memory->backend->copy_in((char *)memory->data + offset, from, size);
}

mixt_status mixt_device_memory_map(const mixt_device_memory *memory, void **bytes,
                                   mixt_error *error)
{
    *bytes = memory->data;
    if (!memory->backend->host_memory) {
        *bytes = malloc(memory->size);
        if (*bytes == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB",
                             memory->backend->name, (double)memory->size / 1e6);
        }
        mixt_device_memory_read(memory, 0, *bytes, memory->size);
    }
    return MIXT_OK;
}

void mixt_device_memory_unmap(const mixt_device_memory *memory, void *bytes, bool changed)
{
    if (bytes == NULL || memory->backend->host_memory) {
        return;
    }
    if (changed) {
        mixt_device_memory_write(memory, 0, bytes, memory->size);
    }
    free(bytes);
}

void mixt_device_memory_zero(const mixt_device_memory *memory)
{
    memory->backend->fill_zero(memory->data, memory->size);
}

void mixt_device_memory_clear(const mixt_device_memory *memory, size_t offset, size_t size)
{
    assert(offset <= memory->size && size <= memory->size - offset);
    memory->backend->fill_zero((char *)memory->data + offset, size);
}
