/* The writer of safetensors files: what it writes reads back, misuse and every fault at a system
 * call leave nothing half-done, and shards with their index are found again, or refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "fault/shim.c"
#include "formats/safetensors.h"
#include "scratch.h"

static mixt_safetensors_writer *start(const char *path, uint64_t shard_bytes)
{
    mixt_safetensors_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_safetensors_writer_create(path, shard_bytes, &writer, &error), &error);
    return writer;
}

static void add(mixt_safetensors_writer *writer, const char *name, mixt_dtype dtype, int64_t rows,
                int64_t columns)
{
    int64_t shape[2] = {rows, columns};
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_safetensors_writer_add(writer, name, dtype, 2, shape, &error), &error);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        mixt_error ok_error = MIXT_ERROR_INIT;                                                     \
        mixt_error *error_ = &ok_error;                                                            \
        if ((call) != MIXT_OK) {                                                                   \
            fail_msg("%s: %s", #call, ok_error.message);                                           \
        }                                                                                          \
    } while (0)

static void test_writes_what_it_reads(void **state)
{
    (void)state;
    char *path = scratch_path("written.safetensors");
    mixt_safetensors_writer *writer = start(path, 0);
    OK(mixt_safetensors_writer_metadata(writer, "format", "pt", error_));
    OK(mixt_safetensors_writer_metadata(writer, "odd \"key\"\n", "v\\\x01\xc3\xbc", error_));
    add(writer, "one", MIXT_DTYPE_F32, 2, 3);
    add(writer, "none", MIXT_DTYPE_F32, 0, 3);
    add(writer, "t\xc3\xbc", MIXT_DTYPE_U16, 1, 5);
    OK(mixt_safetensors_writer_add(writer, "scalar", MIXT_DTYPE_I64, 0, NULL, error_));
    OK(mixt_safetensors_writer_begin(writer, error_));
    assert_false(mixt_path_exists(path));
    unsigned char data[24 + 10 + 8];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(i * 37 + 1);
    }
    for (size_t i = 0; i < sizeof data; i += 5) { /* pieces that cross the borders of tensors */
        size_t step = sizeof data - i < 5 ? sizeof data - i : 5;
        OK(mixt_safetensors_writer_write(writer, data + i, step, error_));
    }
    assert_false(mixt_path_exists(path));
    OK(mixt_safetensors_writer_finish(writer, error_));
    mixt_safetensors_writer_free(writer);

    mixt_safetensors *file;
    OK(mixt_safetensors_open(path, &file, error_));
    assert_int_equal(mixt_safetensors_count(file), 4);
    assert_string_equal(mixt_safetensors_metadata(file, "odd \"key\"\n"), "v\\\x01\xc3\xbc");
    unsigned char back[sizeof data];
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(file, i);
        OK(mixt_safetensors_read(file, tensor, 0, (size_t)tensor->bytes, back + at, error_));
        at += (size_t)tensor->bytes;
    }
    assert_int_equal(at, sizeof data);
    assert_memory_equal(back, data, sizeof data);
    assert_int_equal(mixt_safetensors_tensor(file, 0)->offset % 8, 0);
    mixt_safetensors_close(file);
    char *temporary = scratch_path("written.safetensors.tmp");
    assert_false(mixt_path_exists(temporary));
    free(temporary);
    free(path);
}

static void test_writer_refusals(void **state)
{
    (void)state;
    char *path = scratch_path("refused.safetensors");
    char *temporary = scratch_path("refused.safetensors.tmp");
    char byte = 0;
    mixt_safetensors_writer *writer = start(path, 0);
    add(writer, "a", MIXT_DTYPE_U8, 1, 2);
    assert_int_equal(mixt_safetensors_writer_write(writer, &byte, 1, NULL), MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(writer);

    writer = start(path, 0); /* too little and too much data */
    add(writer, "a", MIXT_DTYPE_U8, 1, 2);
    OK(mixt_safetensors_writer_begin(writer, error_));
    OK(mixt_safetensors_writer_write(writer, &byte, 1, error_));
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_writer_finish(writer, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "before all data"));
    assert_true(mixt_path_exists(temporary));
    mixt_safetensors_writer_free(writer);
    assert_false(mixt_path_exists(temporary));
    assert_false(mixt_path_exists(path));

    writer = start(path, 0);
    add(writer, "a", MIXT_DTYPE_U8, 1, 1);
    OK(mixt_safetensors_writer_begin(writer, error_));
    OK(mixt_safetensors_writer_write(writer, &byte, 1, error_));
    assert_int_equal(mixt_safetensors_writer_write(writer, &byte, 1, NULL), MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(writer);

    writer = start(path, 0); /* the same name twice */
    add(writer, "a", MIXT_DTYPE_U8, 1, 1);
    add(writer, "a", MIXT_DTYPE_U8, 1, 1);
    assert_int_equal(mixt_safetensors_writer_begin(writer, NULL), MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(writer);

    writer = start(path, 0);
    add(writer, "\xff", MIXT_DTYPE_U8, 1, 1);
    assert_int_equal(mixt_safetensors_writer_begin(writer, NULL), MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(writer);

    writer = start(path, 0);
    int64_t shape[2] = {INT64_MAX, 3};
    assert_int_equal(mixt_safetensors_writer_add(writer, "a", MIXT_DTYPE_F32, 2, shape, NULL),
                     MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(writer);

    writer = start("/nowhere/at/all.safetensors", 0);
    assert_int_equal(mixt_safetensors_writer_begin(writer, NULL), MIXT_ERROR_IO);
    mixt_safetensors_writer_free(writer);
    assert_int_equal(mixt_safetensors_writer_create("x.bin", 10, &writer, NULL),
                     MIXT_ERROR_ARGUMENT);
    mixt_safetensors_writer_free(NULL);
    free(path);
    free(temporary);
}

/* Three shards in `target`, each tensor filled with its own byte. */
static void write_shards(const char *target)
{
    OK(mixt_folder_create(target, error_));
    char *path = mixt_path_join(target, "model.safetensors");
    mixt_safetensors_writer *writer = start(path, 100);
    add(writer, "a", MIXT_DTYPE_U8, 4, 10);
    add(writer, "b", MIXT_DTYPE_U8, 6, 10);
    add(writer, "c", MIXT_DTYPE_U8, 20, 10); /* larger than a shard: a file of its own */
    add(writer, "d", MIXT_DTYPE_U8, 0, 10);
    add(writer, "e", MIXT_DTYPE_U8, 1, 10);
    OK(mixt_safetensors_writer_begin(writer, error_));
    unsigned char data[310];
    memset(data, 'a', 40);
    memset(data + 40, 'b', 60);
    memset(data + 100, 'c', 200);
    memset(data + 300, 'e', 10);
    OK(mixt_safetensors_writer_write(writer, data, sizeof data, error_));
    OK(mixt_safetensors_writer_finish(writer, error_));
    mixt_safetensors_writer_free(writer);
    free(path);
}

static void test_shards(void **state)
{
    (void)state;
    char *target = scratch_path("sharded");
    OK(mixt_folder_create(target, error_));
    char *stale = mixt_path_join(target, "model.safetensors");
    write_file(stale, "old", 3);
    write_shards(target);
    assert_false(mixt_path_exists(stale)); /* it would have hidden the shards */
    char **names;
    size_t count;
    OK(mixt_folder_list(target, &names, &count, error_));
    assert_int_equal(count, 4);
    assert_string_equal(names[0], "model-00001-of-00003.safetensors");
    assert_string_equal(names[2], "model-00003-of-00003.safetensors");
    assert_string_equal(names[3], "model.safetensors.index.json");
    mixt_names_free(names, count);
    mixt_safetensors *file;
    OK(mixt_safetensors_open(target, &file, error_));
    assert_int_equal(mixt_safetensors_count(file), 5);
    const char *const letters[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_find(file, letters[i]);
        assert_non_null(tensor);
        char data[200];
        OK(mixt_safetensors_read(file, tensor, 0, (size_t)tensor->bytes, data, error_));
        for (uint64_t j = 0; j < tensor->bytes; j++) {
            assert_int_equal(data[j], letters[i][0]);
        }
    }
    assert_non_null(strstr(mixt_safetensors_path(file, mixt_safetensors_find(file, "c")), "00002"));
    mixt_safetensors_close(file);
    free(stale);
    free(target);
}

/* The calls of write_shards, with every result handed on. */
static mixt_status try_shards(const char *path, mixt_error *error)
{
    static const char data[310];
    const int64_t shape[2] = {1, 155};
    mixt_safetensors_writer *writer;
    mixt_status status = mixt_safetensors_writer_create(path, 160, &writer, error);
    for (int i = 0; i < 2 && status == MIXT_OK; i++) {
        status =
            mixt_safetensors_writer_add(writer, i == 0 ? "a" : "b", MIXT_DTYPE_U8, 2, shape, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(writer, data, sizeof data, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, error);
    }
    mixt_safetensors_writer_free(writer);
    return status;
}

/* Every system call of writing two shards fails once: one line, and no file under its final name
 * that is not whole; where the writer says done, everything is there. */
static void test_writer_faults(void **state)
{
    (void)state;
    char *target = scratch_path("faults");
    char *path = scratch_path("faults/model.safetensors");
    OK(mixt_folder_create(target, error_));
    mixt_fault = (mixt_fault_plan){.folder = target};
    OK(try_shards(path, error_));
    int last = mixt_fault.count;
    mixt_fault = (mixt_fault_plan){0};
    assert_true(last > 15);
    int refused = 0;
    for (int call = 1; call <= last; call++) {
        OK(mixt_folder_remove(target, error_));
        OK(mixt_folder_create(target, error_));
        mixt_fault = (mixt_fault_plan){.folder = target, .fail_at = call, .number = ENOSPC};
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = try_shards(path, &error);
        mixt_fault = (mixt_fault_plan){0};
        mixt_safetensors *file = NULL;
        if (status == MIXT_OK) {
            OK(mixt_safetensors_open(target, &file, error_));
            assert_int_equal(mixt_safetensors_count(file), 2);
            mixt_safetensors_close(file);
            continue;
        }
        refused++;
        assert_int_equal(status, MIXT_ERROR_IO);
        assert_non_null(strstr(error.message, strerror(ENOSPC)));
        char **names;
        size_t count;
        OK(mixt_folder_list(target, &names, &count, error_));
        for (size_t i = 0; i < count; i++) {
            if (strstr(names[i], "index") == NULL) {
                char *name = mixt_path_join(target, names[i]);
                OK(mixt_safetensors_open(name, &file, error_)); /* a whole shard at most */
                mixt_safetensors_close(file);
                free(name);
            }
        }
        mixt_names_free(names, count);
    }
    assert_true(refused >= last - 2); /* closing a synced folder may fail in silence */
    free(path);
    free(target);
}

/* The order of calls is kept, whatever the caller does. */
static void test_writer_order(void **state)
{
    (void)state;
    char *path = scratch_path("order.safetensors");
    const int64_t shape[1] = {1};
    char byte = 1;
    for (int i = 0; i < 5; i++) {
        mixt_safetensors_writer *writer = start(path, 0);
        if (i == 0) { /* finished before it began */
            assert_int_equal(mixt_safetensors_writer_finish(writer, NULL), MIXT_ERROR_ARGUMENT);
            assert_int_equal(mixt_safetensors_writer_begin(writer, NULL), MIXT_ERROR_ARGUMENT);
        } else {
            OK(mixt_safetensors_writer_add(writer, "a", MIXT_DTYPE_U8, 1, shape, error_));
            OK(mixt_safetensors_writer_begin(writer, error_));
        }
        if (i == 1) {
            assert_int_equal(mixt_safetensors_writer_begin(writer, NULL), MIXT_ERROR_ARGUMENT);
        } else if (i == 2) {
            assert_int_equal(mixt_safetensors_writer_metadata(writer, "a", "b", NULL),
                             MIXT_ERROR_ARGUMENT);
        } else if (i == 3) {
            assert_int_equal(
                mixt_safetensors_writer_add(writer, "b", MIXT_DTYPE_U8, 1, shape, NULL),
                MIXT_ERROR_ARGUMENT);
        } else if (i == 4) {
            OK(mixt_safetensors_writer_write(writer, &byte, 1, error_));
            OK(mixt_safetensors_writer_finish(writer, error_));
            assert_int_equal(mixt_safetensors_writer_finish(writer, NULL), MIXT_ERROR_ARGUMENT);
            assert_int_equal(mixt_safetensors_writer_write(writer, &byte, 1, NULL),
                             MIXT_ERROR_ARGUMENT);
        }
        mixt_safetensors_writer_free(writer);
        assert_int_equal(mixt_path_exists(path), i == 4);
    }
    free(path);
}

static void expect_index(const char *target, const char *index_text, mixt_status wanted,
                         const char *rule)
{
    char *index = mixt_path_join(target, "model.safetensors.index.json");
    write_file(index, index_text, strlen(index_text));
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_safetensors_open(target, &file, &error);
    if (status != wanted || (rule != NULL && strstr(error.message, rule) == NULL)) {
        fail_msg("%s: status %d, \"%s\", wanted \"%s\"", index_text, (int)status, error.message,
                 rule == NULL ? "" : rule);
    }
    mixt_safetensors_close(file);
    free(index);
}

static void test_index_refusals(void **state)
{
    (void)state;
    char *target = scratch_path("hostile");
    write_shards(target);
    char path[300];
    snprintf(path, sizeof path, "%s/fifo", target);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/zero", target);
    assert_int_equal(symlink("/dev/zero", path), 0);
    snprintf(path, sizeof path, "%s/outside", target);
    assert_int_equal(symlink("../outside.safetensors", path), 0);
    snprintf(path, sizeof path, "%s/inside", target);
    assert_int_equal(symlink("model-00003-of-00003.safetensors", path), 0);
    snprintf(path, sizeof path, "%s/folder", target);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/../outside.safetensors", target);
    write_file(path, "\2\0\0\0\0\0\0\0{}", 10);
#define MAP(name, file) "{\"weight_map\":{\"" name "\":\"" file "\"}}"
    const char *const names[] = {"../x", "/etc/passwd", "a/../../b", "", ".", "..", "./x"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[100];
        snprintf(text, sizeof text, MAP("a", "%s"), names[i]);
        expect_index(target, text, MIXT_ERROR_FORMAT, "plain file name");
    }
    expect_index(target, MAP("a", "x\\u0000y"), MIXT_ERROR_FORMAT, "\\u0000");
    expect_index(target, MAP("a", "fifo"), MIXT_ERROR_FORMAT, "not a regular file");
    expect_index(target, MAP("a", "folder"), MIXT_ERROR_FORMAT, "not a regular file");
    expect_index(target, MAP("a", "zero"), MIXT_ERROR_FORMAT, "not a regular file");
    expect_index(target, MAP("a", "outside"), MIXT_ERROR_FORMAT, "link out");
    expect_index(target, MAP("e", "inside"), MIXT_OK, NULL);
    expect_index(target, MAP("a", "absent"), MIXT_ERROR_NOT_FOUND, "missing");
    expect_index(target, MAP("a", "model-00003-of-00003.safetensors"), MIXT_ERROR_FORMAT,
                 "\"a\" is not in");
    expect_index(target,
                 "{\"weight_map\":{\"e\":\"model-00003-of-00003.safetensors\","
                 "\"d\":\"inside\"}}",
                 MIXT_ERROR_FORMAT, "twice");
    expect_index(target, "{\"weight_map\":{\"a\":7}}", MIXT_ERROR_FORMAT, "must be a text");
    expect_index(target, "{\"weight_map\":{}}", MIXT_ERROR_FORMAT, "empty");
    expect_index(target, "{\"weight_map\":[]}", MIXT_ERROR_FORMAT, "must be an object");
    expect_index(target, "{}", MIXT_ERROR_FORMAT, "must be an object");
    expect_index(target, "[", MIXT_ERROR_FORMAT, "line 1");
    free(target);
}

/* A hub cache: snapshots/REVISION/NAME links to ../../blobs/HASH. */
static void test_hub_cache(void **state)
{
    (void)state;
    char *target = scratch_path("hub/snapshots/abc");
    write_shards(target);
    char from[300];
    char to[300];
    snprintf(to, sizeof to, "%s/hub/blobs", scratch);
    OK(mixt_folder_create(to, error_));
    snprintf(from, sizeof from, "%s/model-00002-of-00003.safetensors", target);
    snprintf(to, sizeof to, "%s/hub/blobs/0123", scratch);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(symlink("../../blobs/0123", from), 0);
    mixt_safetensors *file;
    OK(mixt_safetensors_open(target, &file, error_));
    assert_non_null(mixt_safetensors_find(file, "c"));
    mixt_safetensors_close(file);
    free(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_what_it_reads),
        cmocka_unit_test(test_writer_refusals),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_writer_faults),
        cmocka_unit_test(test_writer_order),
        cmocka_unit_test(test_index_refusals),
        cmocka_unit_test(test_hub_cache),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
