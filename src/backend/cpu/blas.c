#include "backend/cpu/blas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "core/platform.h"

/* dlsym gives a data pointer; POSIX lets its bytes be those of a function pointer. */
static bool find_function(void *library, const char *name, void *function, size_t size)
{
    void *address = dlsym(library, name);
    memset(function, 0, size);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

/* What OpenBLAS maps for each of its threads, and two more: a buffer of 128 MiB (of the largest of
 * its kernels), a stack and an arena of malloc. */
#define THREAD_BYTES ((size_t)208 << 20)
#define THREADS_MAX 256

/* OpenBLAS asks for its buffers again and again, for ever, where there is no memory for them, when
 * it is loaded (for every core) and when its threads start. So it is asked here first, in pieces
 * like its own, which are only mapped and given back. */
static bool has_room(int threads)
{
    void *pieces[THREADS_MAX + 2];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int wanted = (int)(cores > threads ? cores : threads), count = 0;
    wanted = (wanted < THREADS_MAX ? wanted : THREADS_MAX) + 2;
    bool good = true;
    while (good && count < wanted) {
        pieces[count] = mixt_pages_map(THREAD_BYTES);
        good = pieces[count] != NULL;
        count += good;
    }
    while (count-- > 0) {
        munmap(pieces[count], THREAD_BYTES);
    }
    return good;
}

/* One product large enough for all threads: what they need they have from here on. */
static bool start_threads(const struct mixt_gemm_engine *engine, int threads)
{
    const int side = 160;
    float *values = calloc((size_t)side * (size_t)side * 2, sizeof *values);
    if (values == NULL) {
        return false;
    }
    if (engine->blas_threads != NULL) {
        engine->blas_threads(threads);
    }
    engine->sgemm(101, 111, 111, side, side, side, 1, values, side, values, side, 0,
                  values + side * side, side);
    free(values);
    return true;
}

mixt_status mixt_blas_open(struct mixt_gemm_engine *engine, int threads, mixt_error *error)
{
    if (!has_room(threads)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "matmul: no memory for OpenBLAS, which takes %zu MB of addresses for each "
                         "core",
                         THREAD_BYTES >> 20);
    }
    static const char *const names[] = {"libopenblas.so.0", "libblas.so.3"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            continue;
        }
        if (find_function(library, "cblas_sgemm", &engine->sgemm, sizeof engine->sgemm)) {
            find_function(library, "openblas_set_num_threads", &engine->blas_threads,
                          sizeof engine->blas_threads);
            return start_threads(engine, threads)
                       ? MIXT_OK
                       : mixt_fail(error, MIXT_ERROR_MEMORY, "matmul: no memory");
        }
        dlclose(library);
    }
    return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                     "matmul: no BLAS library (libopenblas.so.0 or libblas.so.3 with cblas_sgemm)");
}
