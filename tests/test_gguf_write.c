/* The GGUF writer: the bytes of the gguf package, shards, order of calls, faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "fault/shim.c"
#include "formats/gguf.h"
#include "scratch.h"

#define KINDS "tests/fixtures/gguf/kinds.gguf"
#define OK(call)                                                                                   \
    do {                                                                                           \
        mixt_error error_[1] = {MIXT_ERROR_INIT};                                                  \
        if ((call) != MIXT_OK) {                                                                   \
            fail_msg("%s", error_->message);                                                       \
        }                                                                                          \
    } while (0)

/* A file copied key by key and tensor by tensor has the same bytes. */
static void test_same_bytes(void **state)
{
    (void)state;
    char *path = scratch_path("again.gguf");
    mixt_gguf *file;
    mixt_gguf_writer *writer;
    OK(mixt_gguf_open(KINDS, &file, error_));
    OK(mixt_gguf_writer_create(path, 0, &writer, error_));
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        OK(mixt_gguf_writer_copy(writer, file, mixt_gguf_key_at(file, i, NULL), error_));
    }
    for (size_t i = 0; i < mixt_gguf_tensor_count(file); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        OK(mixt_gguf_writer_add(writer, tensor->name, tensor->type, tensor->rank, tensor->size,
                                error_));
    }
    OK(mixt_gguf_writer_begin(writer, error_));
    for (size_t i = 0; i < mixt_gguf_tensor_count(file); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        OK(mixt_gguf_writer_write(writer, tensor->data, tensor->bytes / 2, error_));
        OK(mixt_gguf_writer_write(writer, (const char *)tensor->data + tensor->bytes / 2,
                                  tensor->bytes - tensor->bytes / 2, error_));
    }
    assert_false(mixt_path_exists(path));
    OK(mixt_gguf_writer_finish(writer, error_));
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(file);

    char *own;
    char *theirs;
    size_t length;
    size_t expected;
    OK(mixt_file_read(path, 1u << 20, &own, &length, error_));
    OK(mixt_file_read(KINDS, 1u << 20, &theirs, &expected, error_));
    assert_int_equal(length, expected);
    assert_memory_equal(own, theirs, length);
    free(own);
    free(theirs);
    free(path);
}

/* Metadata of every kind and four tensors: 40 floats, none, a scalar, 3 x 2 blocks of Q8_0. */
static mixt_status write_model(const char *path, uint64_t shard_bytes, mixt_error *error)
{
    static const char data[204] = {1, 2, 3};
    static const int32_t integers[] = {-1, 2};
    static const char *const texts[] = {"x\0y", "", "zz"};
    static const uint64_t lengths[] = {3, 0, 2};
    const mixt_gguf_array numbers = {.kind = MIXT_GGUF_I32, .count = 2, .data = integers};
    const mixt_gguf_array strings = {
        .kind = MIXT_GGUF_STRING, .count = 3, .strings = texts, .lengths = lengths};
    const int64_t forty[] = {40};
    const int64_t none[] = {32, 0};
    const int64_t experts[] = {32, 3, 2};
    mixt_gguf_writer *writer;
    mixt_status status = mixt_gguf_writer_create(path, shard_bytes, &writer, error);
#define STEP(call) status = status == MIXT_OK ? (call) : status
    STEP(mixt_gguf_writer_string(writer, "general.architecture", "olmoe", error));
    STEP(mixt_gguf_writer_u32(writer, "a.u32", 7, error));
    STEP(mixt_gguf_writer_f32(writer, "a.f32", 0.25f, error));
    STEP(mixt_gguf_writer_bool(writer, "a.bool", true, error));
    STEP(mixt_gguf_writer_array(writer, "a.numbers", &numbers, error));
    STEP(mixt_gguf_writer_array(writer, "a.strings", &strings, error));
    STEP(mixt_gguf_writer_add(writer, "forty", MIXT_TYPE_F32, 1, forty, error));
    STEP(mixt_gguf_writer_add(writer, "none", MIXT_TYPE_Q8_0, 2, none, error));
    STEP(mixt_gguf_writer_add(writer, "scalar", MIXT_TYPE_F16, 0, NULL, error));
    STEP(mixt_gguf_writer_add(writer, "experts", MIXT_TYPE_Q8_0, 3, experts, error));
    STEP(mixt_gguf_writer_begin(writer, error));
    STEP(mixt_gguf_writer_write(writer, data, 160, error));
    STEP(mixt_gguf_writer_write(writer, data, 2, error));
    STEP(mixt_gguf_writer_write(writer, data, 204, error));
    STEP(mixt_gguf_writer_finish(writer, error));
#undef STEP
    mixt_gguf_writer_free(writer);
    return status;
}

static void check_model(const char *path)
{
    mixt_gguf *file;
    OK(mixt_gguf_open(path, &file, error_));
    const mixt_gguf_range any = {-1e9, 1e9};
    int64_t integer;
    double value;
    bool flag = false;
    const char *text;
    mixt_gguf_array array;
    OK(mixt_gguf_string(file, "general.architecture", &text, error_));
    assert_string_equal(text, "olmoe");
    OK(mixt_gguf_integer(file, "a.u32", any, &integer, error_));
    assert_int_equal(integer, 7);
    OK(mixt_gguf_number(file, "a.f32", any, &value, error_));
    assert_true(value == 0.25);
    OK(mixt_gguf_bool(file, "a.bool", &flag, error_));
    assert_true(flag);
    OK(mixt_gguf_array_of(file, "a.numbers", MIXT_GGUF_I32, &array, error_));
    assert_int_equal(array.count, 2);
    OK(mixt_gguf_array_of(file, "a.strings", MIXT_GGUF_STRING, &array, error_));
    assert_int_equal(array.lengths[0], 3);
    assert_memory_equal(array.strings[0], "x\0y", 3);
    assert_int_equal(mixt_gguf_tensor_count(file), 4);
    assert_int_equal(mixt_gguf_find(file, "none")->bytes, 0);
    assert_int_equal(mixt_gguf_find(file, "scalar")->rank, 0);
    assert_int_equal(mixt_gguf_find(file, "scalar")->bytes, 2);
    assert_int_equal(mixt_gguf_find(file, "forty")->bytes, 160);
    const mixt_gguf_tensor *experts = mixt_gguf_find(file, "experts");
    assert_int_equal(experts->bytes, 204);
    assert_int_equal(experts->size[2], 2);
    assert_memory_equal(experts->data, "\1\2\3\0", 4);
    assert_int_equal((uintptr_t)experts->data % 32, 0);
    mixt_gguf_close(file);
}

static void test_shards(void **state)
{
    (void)state;
    char *target = scratch_path("shards");
    char *path = scratch_path("shards/m.gguf");
    const struct {
        uint64_t shard_bytes;
        const char *first;
        size_t files;
    } cases[] = {{0, "shards/m.gguf", 1},
                 {1u << 20, "shards/m.gguf", 1},
                 {200, "shards/m-00001-of-00002.gguf", 2},
                 {1, "shards/m-00001-of-00003.gguf", 3}};
    for (int i = 0; i < 4; i++) {
        OK(mixt_folder_create(target, error_));
        OK(write_model(path, cases[i].shard_bytes, error_));
        char **names;
        size_t count;
        OK(mixt_folder_list(target, &names, &count, error_));
        assert_int_equal(count, cases[i].files);
        mixt_names_free(names, count);
        char *first = scratch_path(cases[i].first);
        check_model(first);
        free(first);
        OK(mixt_folder_remove(target, error_));
    }
    mixt_gguf_writer *writer;
    assert_int_equal(mixt_gguf_writer_create("name", 5, &writer, NULL), MIXT_ERROR_ARGUMENT);
    free(path);
    free(target);
}

/* Zeros that were skipped read as zeros, at the end of the file too; others stay in their place. */
static void test_holes(void **state)
{
    (void)state;
    char *path = scratch_path("holes.gguf");
    const int64_t many[] = {1 << 18};
    const char data[4] = {1, 2, 3, 4};
    static const char zeros[1 << 20];
    for (int refused = 0; refused < 2; refused++) {
        mixt_gguf_writer *writer;
        OK(mixt_gguf_writer_create(path, 0, &writer, error_));
        OK(mixt_gguf_writer_add(writer, "first", MIXT_TYPE_F32, 1, many, error_));
        OK(mixt_gguf_writer_add(writer, "last", MIXT_TYPE_F32, 1, many, error_));
        OK(mixt_gguf_writer_begin(writer, error_));
        OK(mixt_gguf_writer_skip(writer, (1 << 20) - 4, error_));
        OK(mixt_gguf_writer_write(writer, data, 4, error_));
        if (refused) {
            assert_int_equal(mixt_gguf_writer_skip(writer, (1 << 20) + 1, NULL),
                             MIXT_ERROR_ARGUMENT);
        } else {
            OK(mixt_gguf_writer_skip(writer, 1 << 20, error_));
            OK(mixt_gguf_writer_finish(writer, error_));
        }
        mixt_gguf_writer_free(writer);
    }
    mixt_gguf *file;
    OK(mixt_gguf_open(path, &file, error_));
    const char *first = mixt_gguf_find(file, "first")->data;
    assert_memory_equal(first, zeros, (1 << 20) - 4);
    assert_memory_equal(first + (1 << 20) - 4, data, 4);
    assert_memory_equal(mixt_gguf_find(file, "last")->data, zeros, 1 << 20);
    mixt_gguf_close(file);
    free(path);
}

static mixt_gguf_writer *start(const char *path)
{
    mixt_gguf_writer *writer;
    OK(mixt_gguf_writer_create(path, 0, &writer, error_));
    return writer;
}

/* What callers do wrong is refused, and nothing is left on the disk. */
static void test_misuse(void **state)
{
    (void)state;
    char *path = scratch_path("misuse.gguf");
    const int64_t one[] = {1};
    const int64_t odd[] = {33};
    const int64_t minus[] = {-32, 1};
    const int64_t huge[] = {INT64_MAX, INT64_MAX};
    const char byte = 1;
    char name[65] = "";
    memset(name, 'n', 64);
    for (int i = 0; i < 16; i++) {
        mixt_gguf_writer *writer = start(path);
        mixt_status status = MIXT_OK;
        if (i == 0) {
            status = mixt_gguf_writer_u32(writer, "", 1, NULL);
        } else if (i == 1) {
            status = mixt_gguf_writer_u32(writer, "\xc3\xa4", 1, NULL);
        } else if (i == 2) {
            status = mixt_gguf_writer_add(writer, name, MIXT_TYPE_F32, 1, one, NULL);
        } else if (i == 3) {
            status = mixt_gguf_writer_add(writer, "a", MIXT_TYPE_Q8_0, 1, odd, NULL);
        } else if (i == 4) {
            status = mixt_gguf_writer_add(writer, "a", MIXT_TYPE_F32, 2, minus, NULL);
        } else if (i == 5) {
            status = mixt_gguf_writer_add(writer, "a", MIXT_TYPE_F32, 2, huge, NULL);
        } else if (i == 6) {
            status = mixt_gguf_writer_add(writer, "a", MIXT_TYPE_F32, 5, one, NULL);
        } else if (i == 7) {
            status = mixt_gguf_writer_finish(writer, NULL);
        } else if (i == 8) {
            status = mixt_gguf_writer_write(writer, &byte, 1, NULL);
        } else {
            const char *second = i == 9 ? "a" : "b";
            OK(mixt_gguf_writer_add(writer, "a", MIXT_TYPE_F32, 1, one, error_));
            OK(mixt_gguf_writer_add(writer, second, MIXT_TYPE_F32, 1, one, error_));
            OK(mixt_gguf_writer_bool(writer, "key", true, error_));
            OK(mixt_gguf_writer_bool(writer, i == 10 ? "key" : "yek", true, error_));
            status = mixt_gguf_writer_begin(writer, NULL);
            if (i > 10) {
                assert_int_equal(status, MIXT_OK);
                status = i == 11   ? mixt_gguf_writer_finish(writer, NULL)
                         : i == 12 ? mixt_gguf_writer_write(writer, "12345", 5, NULL)
                         : i == 13 ? mixt_gguf_writer_begin(writer, NULL)
                         : i == 14 ? mixt_gguf_writer_add(writer, "c", MIXT_TYPE_F32, 1, one, NULL)
                                   : mixt_gguf_writer_u32(writer, "c", 1, NULL);
            }
        }
        assert_int_equal(status, MIXT_ERROR_ARGUMENT);
        assert_int_equal(mixt_gguf_writer_begin(writer, NULL), MIXT_ERROR_ARGUMENT);
        mixt_gguf_writer_free(writer);
        char *temporary = scratch_path("misuse.gguf.tmp");
        assert_false(mixt_path_exists(path) || mixt_path_exists(temporary));
        free(temporary);
    }
    mixt_gguf_writer_free(NULL);
    free(path);
}

/* Number of the first call of this name behind call `from`; 0: there is none. */
static int find_call(const char *name, int from, int last)
{
    for (int i = from + 1; i <= last; i++) {
        if (strcmp(mixt_fault.calls[i], name) == 0) {
            return i;
        }
    }
    return 0;
}

/* Every system call fails once: the old file stays whole, or the new one is there; no other. */
static void test_faults(void **state)
{
    (void)state;
    char *target = scratch_path("faults");
    char *path = scratch_path("faults/m.gguf");
    OK(mixt_folder_create(target, error_));
    mixt_fault = (mixt_fault_plan){.folder = target};
    OK(write_model(path, 0, error_));
    int last = mixt_fault.count;
    int synced = find_call("fsync", 0, last);
    int renamed = find_call("rename", 0, last);
    assert_true(synced != 0 && synced < renamed); /* the data before the name, the name at last */
    assert_true(find_call("fsync", renamed, last) != 0);
    mixt_fault = (mixt_fault_plan){0};
    assert_true(last > 8);
    int failed = 0;
    for (int call = 1; call <= last; call++) {
        OK(mixt_file_replace(path, "old", 3, error_));
        mixt_fault = (mixt_fault_plan){.folder = target, .fail_at = call, .number = ENOSPC};
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = write_model(path, 0, &error);
        mixt_fault = (mixt_fault_plan){0};
        char **names;
        size_t count;
        OK(mixt_folder_list(target, &names, &count, error_));
        assert_int_equal(count, 1);
        mixt_names_free(names, count);
        char *bytes;
        size_t length;
        OK(mixt_file_read(path, 1u << 20, &bytes, &length, error_));
        bool old = length == 3 && memcmp(bytes, "old", 3) == 0;
        free(bytes);
        if (!old) {
            check_model(path); /* the folder may have failed to sync behind the renaming */
        }
        if (status == MIXT_OK) {
            assert_false(old);
            continue;
        }
        failed++;
        assert_int_equal(status, MIXT_ERROR_IO);
        assert_non_null(strstr(error.message, strerror(ENOSPC)));
    }
    assert_true(failed >= last - 2);
    free(path);
    free(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_holes),      cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
