/* Memory of a device. What lies there is reached by reading and writing copies; where the device's
 * memory is the host's, by the same calls at the price of a memcpy. */
#ifndef MIXT_PLAN_DEVICE_H
#define MIXT_PLAN_DEVICE_H

#include "ops/backend.h"

typedef struct mixt_device_memory {
    const mixt_backend *backend;
    void *data; /* the backend's; not to be followed on the host */
    size_t size;
    bool borrowed; /* the bytes belong to whoever gave them */
    bool reserved;
} mixt_device_memory;

/* `size` bytes of zeros. */
mixt_status mixt_device_memory_create(const mixt_backend *backend, size_t size,
                                      mixt_device_memory *memory, mixt_error *error);
/* The same, which costs nothing until it is written: for caches of which a part may stay empty. */
mixt_status mixt_device_memory_reserve(const mixt_backend *backend, size_t size,
                                       mixt_device_memory *memory, mixt_error *error);
/* What the host has in `bytes`: these very bytes where the backend's memory is the host's (they
 * must outlive it), else a copy of them. */
mixt_status mixt_device_memory_share(const mixt_backend *backend, void *bytes, size_t size,
                                     mixt_device_memory *memory, mixt_error *error);
void mixt_device_memory_free(mixt_device_memory *memory);
/* Whether `bytes` of the host are this memory itself, so that nothing has to be copied. */
bool mixt_device_memory_is(const mixt_device_memory *memory, const void *bytes);
/* Bytes [offset, offset + size). */
void mixt_device_memory_read(const mixt_device_memory *memory, size_t offset, void *to,
                             size_t size);
void mixt_device_memory_write(const mixt_device_memory *memory, size_t offset, const void *from,
                              size_t size);
/* All of it as host bytes: itself, or a copy; unmap gives the copy back, into the memory where it
 * was changed. */
mixt_status mixt_device_memory_map(const mixt_device_memory *memory, void **bytes,
                                   mixt_error *error);
void mixt_device_memory_unmap(const mixt_device_memory *memory, void *bytes, bool changed);
void mixt_device_memory_zero(const mixt_device_memory *memory);
void mixt_device_memory_clear(const mixt_device_memory *memory, size_t offset, size_t size);

#endif
