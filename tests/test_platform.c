/* What one system has and another has not (core/platform.h), in the way that this build has it:
 * Linux's, or that of POSIX alone (MIXT_PORTABLE). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/memory_limit.h"
#include "core/platform.h"
#include "core/threads.h"
#include "scratch.h"

static void assert_content(const char *path, const char *expected)
{
    size_t length;
    char *bytes = read_file(path, &length);
    assert_string_equal(bytes, expected);
    free(bytes);
}

/* Both names are there at every moment, or nothing has happened. */
static void test_exchange(void **state)
{
    (void)state;
    char *a = scratch_path("a"), *b = scratch_path("b"), *none = scratch_path("none");
    write_file(a, "first", 5);
    write_file(b, "second", 6);
    errno = 0;
    if (mixt_paths_exchange(a, b) == 0) {
        assert_content(a, "second");
        assert_content(b, "first");
        errno = 0;
        assert_int_equal(mixt_paths_exchange(a, none), -1);
        assert_int_equal(errno, ENOENT);
    } else {
#if defined(__linux__) && !defined(MIXT_PORTABLE)
        assert_int_equal(errno, EINVAL); /* the file system cannot */
#else
        assert_int_equal(errno, ENOSYS);
#endif
        assert_content(a, "first");
        assert_content(b, "second");
    }
    assert_false(mixt_path_exists(none));
    free(a);
    free(b);
    free(none);
}

static void test_temporary_file(void **state)
{
    (void)state;
    char *path = scratch_path("part-XXXXXX"), *other = scratch_path("part-XXXXXX");
    char *nowhere = scratch_path("nowhere/part-XXXXXX");
    int first = mixt_temporary_open(path), second = mixt_temporary_open(other);
    assert_true(first >= 0 && second >= 0);
    assert_string_not_equal(path, other);
    assert_true(mixt_path_exists(path));
    assert_true((fcntl(first, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(write(first, "x", 1), 1);
    assert_int_equal(mixt_temporary_open(nowhere), -1);
    assert_int_equal(errno, ENOENT);
    close(first);
    close(second);
    free(path);
    free(other);
    free(nowhere);
}

static void test_pages(void **state)
{
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 8 * page;
    char *block = mixt_pages_map(size);
    assert_non_null(block);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(block[i], 0);
        block[i] = 1;
    }
    assert_true(mixt_page_replace(block + 2 * page, page));
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(block[i], i / page != 2);
    }
    assert_int_equal(munmap(block, size), 0);
    errno = 0;
    assert_null(mixt_pages_map(SIZE_MAX / 2 / page * page));
    assert_int_equal(errno, ENOMEM);
}

static void test_large_pages(void **state)
{
    (void)state;
    const size_t size = (size_t)4 << 20;
    char *block = aligned_alloc((size_t)2 << 20, size);
    assert_non_null(block);
    memset(block, 3, size);
    errno = 0;
    mixt_pages_enlarge(block, size);
    assert_true(block[0] == 3 && block[size - 1] == 3);
    free(block);
}

/* No more than the machine has, and enough for this program. */
static void test_memory(void **state)
{
    (void)state;
    uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t available = mixt_memory_available(NULL);
    assert_true(available > 0 && available <= all);
    assert_int_equal(mixt_memory_installed(), all);
#if defined(__linux__) && !defined(MIXT_PORTABLE)
    assert_true(available < all); /* somebody uses some */
#else
    assert_true(available == all);
#endif
}

/* A process that is kept to one processor makes one thread. */
static void test_processors(void **state)
{
    (void)state;
    long on = sysconf(_SC_NPROCESSORS_ONLN);
    assert_in_range(mixt_processors_allowed(), 1, on);
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before)) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
#if defined(__linux__) && !defined(MIXT_PORTABLE)
    const int expected = 1;
#else
    const int expected = (int)on;
#endif
    mixt_pool *pool;
    int allowed = mixt_processors_allowed();
    mixt_status status = mixt_pool_create(0, &pool, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(allowed, expected);
    assert_int_equal(status, MIXT_OK);
    assert_int_equal(mixt_pool_threads(pool), expected);
    mixt_pool_free(pool);
}

enum { ITEMS_MOST = 9 };

typedef struct counted_loop {
    int runs[ITEMS_MOST];
    int threads;
    _Atomic int strangers;
} counted_loop;

static void count_item(void *context, int64_t item, int thread)
{
    counted_loop *loop = context;
    loop->runs[item]++;
    if (thread < 0 || thread >= loop->threads) {
        loop->strangers++;
    }
}

/* Loops so short that workers come late to them, too late or not at all: every item runs once, and
 * none behind its loop's end. */
static void test_short_loops(void **state)
{
    (void)state;
    static const int counts[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        mixt_pool *pool;
        assert_int_equal(mixt_pool_create(counts[i], &pool, NULL), MIXT_OK);
        for (int number = 0; number < 5000; number++) {
            int items = number % (ITEMS_MOST + 1);
            counted_loop loop = {.threads = counts[i]};
            mixt_pool_run(pool, items, count_item, &loop);
            for (int item = 0; item < ITEMS_MOST; item++) {
                assert_int_equal(loop.runs[item], item < items);
            }
            assert_int_equal(loop.strangers, 0);
            if (number % 500 == 0) {
                usleep(300); /* workers sleep */
            }
        }
        mixt_pool_free(pool);
    }
}

typedef struct slow_loop {
    _Atomic int done;
    int seen; /* of others, by the first item */
} slow_loop;

static void wait_for_others(void *context, int64_t item, int thread)
{
    (void)thread;
    slow_loop *loop = context;
    if (item > 0) {
        atomic_fetch_add(&loop->done, 1);
        return;
    }
    for (int i = 0; i < 100000 && atomic_load(&loop->done) < ITEMS_MOST - 1; i++) {
        usleep(100);
    }
    loop->seen = atomic_load(&loop->done);
}

/* Who has done its own items does those behind one that takes long, wherever they are. */
static void test_slow_items(void **state)
{
    (void)state;
    for (int threads = 2; threads < 5; threads++) {
        mixt_pool *pool;
        assert_int_equal(mixt_pool_create(threads, &pool, NULL), MIXT_OK);
        for (int number = 0; number < 20; number++) {
            slow_loop loop = {.seen = 0};
            mixt_pool_run(pool, ITEMS_MOST, wait_for_others, &loop);
            assert_int_equal(loop.seen, ITEMS_MOST - 1);
        }
        mixt_pool_free(pool);
    }
}

static void test_entropy(void **state)
{
    (void)state;
    unsigned char first[64] = {0}, second[64] = {0}, zeros[64] = {0};
    assert_true(mixt_entropy_read(first, sizeof first));
    assert_true(mixt_entropy_read(second, sizeof second));
    assert_memory_not_equal(first, zeros, sizeof first);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_not_equal(first + 32, zeros, 32); /* all of it */
    assert_true(mixt_random_seed() != mixt_random_seed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),    cmocka_unit_test(test_temporary_file),
        cmocka_unit_test(test_pages),       cmocka_unit_test(test_large_pages),
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_processors),
        cmocka_unit_test(test_short_loops), cmocka_unit_test(test_slow_items),
        cmocka_unit_test(test_entropy),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
