/* Maps of files that somebody else shortens while they are read. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/map.h"
#include "core/memory.h"
#include "scratch.h"

#define SIZE ((size_t)256 * 1024 + 96) /* not whole pages */

static void write_sevens(const char *path)
{
    static unsigned char bytes[SIZE];
    memset(bytes, 7, sizeof bytes);
    write_file(path, bytes, sizeof bytes);
}

static sigjmp_buf elsewhere; /* where a fault outside of all maps of ours leads */

static void on_other_fault(int number)
{
    (void)number;
    siglongjmp(elsewhere, 1);
}

/* Sum of all bytes. */
static void *read_everything(void *context)
{
    const volatile unsigned char *data = mixt_map_data(context);
    uintptr_t sum = 0;
    for (uint64_t i = 0; i < mixt_map_size(context); i++) {
        sum += data[i];
    }
    return (void *)sum;
}

/* Lost pages, or a lost part of one, are zeros to every thread, and the map knows. */
static void test_shortened(void **state)
{
    (void)state;
    char *path = mixt_path_join(scratch, "short");
    const off_t sizes[] = {8192, SIZE - 50, 0};
    for (int i = 0; i < 3; i++) {
        mixt_map *map;
        write_sevens(path);
        assert_int_equal(mixt_map_open(path, &map, NULL), MIXT_OK);
        assert_true(mixt_map_intact(map));
        assert_int_equal(truncate(path, sizes[i]), 0);
        pthread_t threads[4];
        for (int j = 0; j < 4; j++) {
            assert_int_equal(pthread_create(&threads[j], NULL, read_everything, map), 0);
        }
        for (int j = 0; j < 4; j++) {
            void *sum;
            assert_int_equal(pthread_join(threads[j], &sum), 0);
            assert_int_equal((uintptr_t)sum, 7 * sizes[i]);
        }
        assert_false(mixt_map_intact(map));
        assert_int_equal(truncate(path, SIZE), 0); /* too late where pages were lost */
        if (i != 1) {
            assert_false(mixt_map_intact(map));
        }
        mixt_map_close(map);
    }
    free(path);
}

/* What was read into memory stays where the map had it, and no longer depends on the file. */
static void test_loaded(void **state)
{
    (void)state;
    char *path = mixt_path_join(scratch, "loaded");
    mixt_map *map;
    write_sevens(path);
    assert_int_equal(mixt_map_open(path, &map, NULL), MIXT_OK);
    const void *data = mixt_map_data(map);
    for (int i = 0; i < 2; i++) { /* the second time nothing happens */
        assert_int_equal(mixt_map_load(map, path, NULL), MIXT_OK);
        assert_ptr_equal(mixt_map_data(map), data);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal((uintptr_t)read_everything(map), 7 * SIZE);
        assert_true(mixt_map_intact(map));
    }
    mixt_map_close(map);
    for (int i = 0; i < 2; i++) { /* cut, or written to, before it was read */
        mixt_error error = MIXT_ERROR_INIT;
        write_sevens(path);
        assert_int_equal(mixt_map_open(path, &map, NULL), MIXT_OK);
        const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        assert_int_equal(i == 0 ? truncate(path, 5000) : utimensat(AT_FDCWD, path, times, 0), 0);
        assert_int_equal(mixt_map_load(map, path, &error), MIXT_ERROR_IO);
        assert_non_null(strstr(error.message, "became shorter or was written to"));
        assert_false(mixt_map_intact(map));
        mixt_map_close(map);
    }
    free(path);
}

/* A fault in somebody else's map goes to the handler that was there before. */
static void test_other_faults(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_other_fault};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    char *path = mixt_path_join(scratch, "strange");
    mixt_map *map;
    write_sevens(path);
    assert_int_equal(mixt_map_open(path, &map, NULL), MIXT_OK);
    int descriptor = open(path, O_RDONLY);
    volatile char *strange = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, descriptor, 0);
    assert_true(strange != MAP_FAILED);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal((uintptr_t)read_everything(map), 0); /* ours, as ever */
    if (sigsetjmp(elsewhere, 1) == 0) {
        (void)strange[0];
        fail_msg("no fault");
    }
    close(descriptor);
    munmap((void *)strange, SIZE);
    mixt_map_close(map);
    free(path);
}

/* Maps come and go; slots are used again. */
static void test_many(void **state)
{
    (void)state;
    char *path = mixt_path_join(scratch, "many");
    write_sevens(path);
    mixt_map *maps[100];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            assert_int_equal(mixt_map_open(path, &maps[i], NULL), MIXT_OK);
            assert_int_equal(mixt_map_size(maps[i]), SIZE);
            assert_true(mixt_map_intact(maps[i]));
        }
        for (int i = 0; i < 100; i++) {
            mixt_map_close(maps[(i * 37) % 100]);
        }
    }
    mixt_map_close(NULL);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shortened),
        cmocka_unit_test(test_loaded),
        cmocka_unit_test(test_other_faults),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
