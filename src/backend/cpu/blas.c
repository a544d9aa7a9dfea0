#include "backend/cpu/blas.h"

#include <dlfcn.h>
#include <string.h>

#include "core/error.h"

/* dlsym gives a data pointer; POSIX lets its bytes be those of a function pointer. */
static bool find_function(void *library, const char *name, void *function, size_t size)
{
    void *address = dlsym(library, name);
    memset(function, 0, size);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

mixt_status mixt_blas_open(struct mixt_gemm_engine *engine, mixt_error *error)
{
    static const char *const names[] = {"libopenblas.so.0", "libblas.so.3"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            continue;
        }
        if (find_function(library, "cblas_sgemm", &engine->sgemm, sizeof engine->sgemm)) {
            find_function(library, "openblas_set_num_threads", &engine->blas_threads,
                          sizeof engine->blas_threads);
            return MIXT_OK;
        }
        dlclose(library);
    }
    return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                     "matmul: no BLAS library (libopenblas.so.0 or libblas.so.3 with cblas_sgemm)");
}
