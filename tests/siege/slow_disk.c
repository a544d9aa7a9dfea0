/* Put in front of mixt serve (LD_PRELOAD): every pread takes SLOW_MILLISECONDS longer, as if the
 * disk did. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void be_slow(void)
{
    const char *given = getenv("SLOW_MILLISECONDS");
    long milliseconds = given != NULL ? strtol(given, NULL, 10) : 0;
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

ssize_t pread(int file, void *to, size_t size, off_t offset)
{
    __typeof__(&pread) real;
    *(void **)&real = dlsym(RTLD_NEXT, "pread");
    be_slow();
    return real(file, to, size, offset);
}

/* The same under the name that programs for large files call. */
ssize_t pread64(int file, void *to, size_t size, off64_t offset)
{
    __typeof__(&pread64) real;
    *(void **)&real = dlsym(RTLD_NEXT, "pread64");
    be_slow();
    return real(file, to, size, offset);
}
