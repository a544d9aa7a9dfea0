/* The CPU backend's tables: every operator's functions in both precisions, on the host's memory. */
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/compute.h"
#include "core/memory.h"
#include "core/platform.h"

static void copy(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

static void fill_zero(void *to, size_t size)
{
    memset(to, 0, size);
}

static void synchronise(void)
{
}

/* A cache, of which memory is taken as positions reach it, in large pages: heads of a row are read
 * far apart, and many rows at a time. */
static void *reserve(size_t size)
{
    void *block = mixt_pages_map(size);
    if (block != NULL) {
        mixt_pages_enlarge(block, size);
    }
    return block;
}

static void release_reserved(void *block, size_t size)
{
    munmap(block, size);
}

static mixt_status pack(const mixt_compute *compute, const void *weights, int64_t n, int64_t k,
                        mixt_packed **packed, mixt_error *error)
{
    mixt_gemm_f32 product = {.n = n, .k = k, .b = weights, .b_row = 1, .b_column = k};
    return mixt_pack_f32(compute, &product, packed, error);
}

#define FORWARD_ENTRY(name, suffix) [MIXT_OP_##name] = mixt_##name##_forward_##suffix,
#define BACKWARD_YES_ENTRY(name, suffix) [MIXT_OP_##name] = mixt_##name##_backward_##suffix,
#define BACKWARD_NO_ENTRY(name, suffix)

static const mixt_backend backend_f32 = {
    .name = "cpu",
    .real_size = sizeof(float),
    .host_memory = true,
    .forward =
        {
#define MIXT_OP_BEGIN(name, NAME, backward) FORWARD_ENTRY(name, f32)
#include "ops/ops.def"
        },
    .backward =
        {
#define MIXT_OP_BEGIN(name, NAME, backward) BACKWARD_##backward##_ENTRY(name, f32)
#include "ops/ops.def"
        },
    .allocate = mixt_block_allocate,
    .release = mixt_block_free,
    .reserve = reserve,
    .release_reserved = release_reserved,
    .copy_in = copy,
    .copy_out = copy,
    .fill_zero = fill_zero,
    .synchronise = synchronise,
    .pack = pack,
};

static const mixt_backend backend_f64 = {
    .name = "cpu-f64",
    .real_size = sizeof(double),
    .host_memory = true,
    .forward =
        {
#define MIXT_OP_BEGIN(name, NAME, backward) FORWARD_ENTRY(name, f64)
#include "ops/ops.def"
        },
    .backward =
        {
#define MIXT_OP_BEGIN(name, NAME, backward) BACKWARD_##backward##_ENTRY(name, f64)
#include "ops/ops.def"
        },
    .allocate = mixt_block_allocate,
    .release = mixt_block_free,
    .reserve = reserve,
    .release_reserved = release_reserved,
    .copy_in = copy,
    .copy_out = copy,
    .fill_zero = fill_zero,
    .synchronise = synchronise,
};

const mixt_backend *mixt_backend_cpu(size_t real_size)
{
    return real_size == sizeof(double) ? &backend_f64 : &backend_f32;
}
