/* The CPU backend's tables: every operator's functions in both precisions. */
#include <string.h>

#include "core/memory.h"
#include "ops/operator.h"

static void copy(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

static void synchronise(void)
{
}

#define FORWARD_ENTRY(name, suffix) [MIXT_OP_##name] = mixt_##name##_forward_##suffix,
#define BACKWARD_YES_ENTRY(name, suffix) [MIXT_OP_##name] = mixt_##name##_backward_##suffix,
#define BACKWARD_NO_ENTRY(name, suffix)

const mixt_backend mixt_backend_cpu_f32 = {
    .name = "cpu",
    .real_size = sizeof(float),
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
    .copy_in = copy,
    .copy_out = copy,
    .synchronise = synchronise,
};

const mixt_backend mixt_backend_cpu_f64 = {
    .name = "cpu-f64",
    .real_size = sizeof(double),
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
    .copy_in = copy,
    .copy_out = copy,
    .synchronise = synchronise,
};
