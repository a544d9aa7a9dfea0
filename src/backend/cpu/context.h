/* The public context is a compute. */
#ifndef MIXT_BACKEND_CPU_CONTEXT_H
#define MIXT_BACKEND_CPU_CONTEXT_H

#include "ops/kernels.h"

struct mixt_context {
    mixt_compute *compute;
};

#endif
