/* Put in front of mixt serve (LD_PRELOAD): from each SIGUSR1 on, every FAIL_RATE-th allocation of
 * the whole process, its libraries' too, finds no memory; from the next one on all find it again.
 * Which ones is a function of their number, spread as if drawn. And thread number FAIL_THREAD, from
 * 1, is not started. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* glibc's own names: dlsym allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static volatile sig_atomic_t failing;
static uint64_t rate, number;

static void toggle(int signal_number)
{
    (void)signal_number;
    failing = !failing;
}

__attribute__((constructor)) static void begin(void)
{
    const char *given = getenv("FAIL_RATE");
    rate = given != NULL ? strtoull(given, NULL, 10) : 0;
    if (rate > 0) {
        signal(SIGUSR1, toggle);
    }
}

static int fails(void)
{
    if (!failing) {
        return 0;
    }
    uint64_t x = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ x >> 31) * 0xBF58476D1CE4E5B9ULL;
    if ((x ^ x >> 29) % rate != 0) {
        return 0;
    }
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *user)
{
    static unsigned long threads;
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    const char *given = getenv("FAIL_THREAD");
    unsigned long asked = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    if (given != NULL && strtoul(given, NULL, 10) == asked) {
        return EAGAIN;
    }
    void *next = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&create, &next, sizeof create); /* POSIX: an object's pointer holds a function's */
    return create(thread, attributes, run, user);
}
