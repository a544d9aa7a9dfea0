/* A backend: every operator's functions in one precision, and the memory that they work on. A plan
 * runs on whatever fills this table; nothing outside a backend knows which one it is. */
#ifndef MIXT_OPS_BACKEND_H
#define MIXT_OPS_BACKEND_H

#include "ops/operator.h"

typedef struct mixt_backend {
    const char *name;
    size_t real_size; /* 4 or 8 */
    /* Its memory is the host's: what allocate gives may be read and written in place, and host
     * memory may be bound as it is. Elsewhere only copies cross. */
    bool host_memory;
    mixt_op_function forward[MIXT_OP_COUNT];
    mixt_op_function backward[MIXT_OP_COUNT]; /* NULL where the operator has none */
    void *(*allocate)(size_t size);           /* zeros; NULL: no memory */
    void (*release)(void *block, size_t size);
    /* The same for memory that may stay unused in part: it costs nothing until it is written. */
    void *(*reserve)(size_t size);
    void (*release_reserved)(void *block, size_t size);
    void (*copy_in)(void *to, const void *from, size_t size);  /* host to device */
    void (*copy_out)(void *to, const void *from, size_t size); /* device to host */
    void (*fill_zero)(void *to, size_t size);
    void (*synchronise)(void);
    /* Weights [n, k] in the order that this backend's products read (ops/kernels.h: mixt_packed);
     * NULL: it reads weights as they lie. */
    mixt_status (*pack)(const mixt_compute *compute, const void *weights, int64_t n, int64_t k,
                        mixt_packed **packed, mixt_error *error);
} mixt_backend;

/* What a context owns: where plans run. */
typedef struct mixt_device {
    const mixt_backend *f32, *f64; /* by the size of a plan's reals */
    mixt_compute *compute;
} mixt_device;

/* The backend of a device for reals of 4 or 8 bytes. */
static inline const mixt_backend *mixt_device_backend(const mixt_device *device, size_t real_size)
{
    return real_size == sizeof(double) ? device->f64 : device->f32;
}

#endif
