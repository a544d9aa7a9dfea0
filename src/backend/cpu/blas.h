/* The BLAS library, loaded when a context asks for it. */
#ifndef MIXT_BACKEND_CPU_BLAS_H
#define MIXT_BACKEND_CPU_BLAS_H

#include "ops/gemm.h"

/* Finds cblas_sgemm in libopenblas.so.0 or libblas.so.3. The library stays loaded, with what it
 * needs for `threads` threads; refused where there is no memory for that. */
mixt_status mixt_blas_open(struct mixt_gemm_engine *engine, int threads, mixt_error *error);

#endif
