/* A stored model on a disk that fails: one line or the right bits, never others; afterwards the
 * same model goes on, and nothing is left behind. The linker puts the test's own word on what a
 * read has brought before that of store/disk.c. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "left_behind.h"
#include "model_checks.h"
#include "sanitized.h"
#include "scratch.h"
#include "store/disk_parts.h"

#define EXPERTS 12
#define LAYERS 4
#define PROMPT 24
#define GENERATED 12
#define TOKENS (PROMPT + GENERATED)
#define VOCABULARY 61
#define SLOTS 7

/* ---- the disk */

typedef enum fault {
    NONE,
    FAILS,     /* EIO, `shots` times, behind `after` reads */
    SHORT,     /* every second read brings two thirds of what was asked for */
    DISTURBED, /* every third is interrupted, every fifth to be asked for again */
    SLOW,
} fault;

static atomic_int mode;
static atomic_long reads, after, shots, done;

static void set_fault(fault f, long from, long count)
{
    atomic_store(&reads, 0);
    atomic_store(&done, 0);
    atomic_store(&after, from);
    atomic_store(&shots, count);
    atomic_store(&mode, f);
}

/* bytes or -errno */
static int64_t judge(int64_t result)
{
    long number = atomic_fetch_add(&reads, 1);
    switch ((fault)atomic_load(&mode)) {
    case FAILS:
        if (number < atomic_load(&after) || number >= atomic_load(&after) + atomic_load(&shots)) {
            return result;
        }
        atomic_fetch_add(&done, 1);
        return -EIO;
    case SHORT:
        return result > 1 && number % 2 == 0 ? result - result / 3 : result;
    case DISTURBED:
        return number % 3 == 0 ? -EINTR : number % 5 == 0 ? -EAGAIN : result;
    case SLOW:
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        return result;
    case NONE:
        break;
    }
    return result;
}

int64_t __real_mixt_disk_result(const mixt_disk *disk, const mixt_disk_piece *piece,
                                int64_t result);
int64_t __wrap_mixt_disk_result(const mixt_disk *disk, const mixt_disk_piece *piece,
                                int64_t result);

/* What every read of either reader has brought. */
int64_t __wrap_mixt_disk_result(const mixt_disk *disk, const mixt_disk_piece *piece, int64_t result)
{
    result = __real_mixt_disk_result(disk, piece, result);
    return atomic_load(&mode) == NONE ? result : judge(result);
}

/* ---- a model */

static char *gguf;
static float expected[GENERATED][VOCABULARY];
static int32_t tokens[TOKENS];

/* Logits behind the prompt and each further token; half way `then` (or NULL) is called. */
static mixt_status generate(const mixt_model *model, float (*logits)[VOCABULARY],
                            void (*then)(const char *path), const char *path, mixt_error *error)
{
    mixt_session *session;
    MIXT_TRY(mixt_session_create(scratch_context, model, TOKENS, &session, error));
    mixt_status status = mixt_session_feed(session, tokens, PROMPT, error);
    for (int i = 0; i < GENERATED && status == MIXT_OK; i++) {
        memcpy(logits[i], mixt_session_logits(session), sizeof *logits);
        if (i == GENERATED / 2 && then != NULL) {
            then(path);
        }
        status = mixt_session_feed(session, tokens + PROMPT + i, 1, error);
    }
    mixt_session_free(session);
    return status;
}

static void expect_bits(const mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    float logits[GENERATED][VOCABULARY];
    must(generate(model, logits, NULL, NULL, &error), &error);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* One line with these words. */
static void expect_line(const mixt_error *error, const char *const *words)
{
    assert_null(strchr(error->message, '\n'));
    for (; *words != NULL; words++) {
        if (strstr(error->message, *words) == NULL) {
            fail_msg("no '%s' in '%s'", *words, error->message);
        }
    }
}

static uint64_t limit; /* that leaves room for SLOTS experts */

static mixt_model *open_stored(const char *path, mixt_store_reader reader,
                               mixt_store_prefetch prefetch)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(path);
    const mixt_store_options options = {
        .memory = limit, .reader = reader, .prefetch = prefetch, .always = true};
    must(mixt_model_store(model, &options, &error), &error);
    return model;
}

static uint64_t limit_for(const char *path, uint64_t slots)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    limit = (uint64_t)1 << 30;
    mixt_model *model = open_stored(path, MIXT_STORE_READER_AUTO, MIXT_STORE_PREFETCH_NEVER);
    mixt_session *session;
    must(mixt_session_create(scratch_context, model, TOKENS, &session, &error), &error);
    assert_true(mixt_store_describe(model, &s));
    mixt_session_free(session);
    mixt_model_free(model);
    return s.resident_bytes + s.other_bytes + slots * (s.pool_bytes / (uint64_t)s.slots);
}

/* Those that this system has. */
static int list_readers(mixt_store_reader *readers)
{
    int count = 0;
    for (int reader = MIXT_STORE_READER_RING; reader <= MIXT_STORE_READER_THREADS; reader++) {
        mixt_model *model = must_open_model(gguf);
        const mixt_store_options options = {
            .memory = limit, .reader = (mixt_store_reader)reader, .always = true};
        if (mixt_model_store(model, &options, NULL) == MIXT_OK) {
            readers[count++] = (mixt_store_reader)reader;
        } else {
            assert_int_equal(reader, MIXT_STORE_READER_RING);
        }
        mixt_model_free(model);
    }
    return count;
}

/* ---- what happens */

/* From some read on nothing can be read: the step that wanted it fails, naming what it is about.
 * Then the disk works again, and the same model too. */
static void test_a_disk_that_fails(void **state)
{
    (void)state;
    static const long from[] = {0, 1, 2, 7, 20, 50};
    static const char *const words[] = {
        "/model.gguf: ",      "layer ", "expert ", "cannot read ", " at byte ",
        "Input/output error", NULL};
    mixt_store_reader readers[2];
    int count = list_readers(readers);
    int descriptors = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof from / sizeof *from; k++) {
            mixt_error error = MIXT_ERROR_INIT;
            float logits[GENERATED][VOCABULARY];
            mixt_model *model = open_stored(gguf, readers[i], MIXT_STORE_PREFETCH_NEVER);
            set_fault(FAILS, from[k], 1000000);
            mixt_status status = generate(model, logits, NULL, NULL, &error);
            set_fault(NONE, 0, 0);
            assert_int_equal(status, MIXT_ERROR_IO);
            expect_line(&error, words);
            expect_bits(model);
            mixt_model_free(model);
        }
    }
    expect_no_more_entries("/proc/self/fd", descriptors);
    expect_no_more_entries("/proc/self/task", threads);
}

/* A single read fails, which may be one that nobody waits for. */
static void test_one_read_that_fails(void **state)
{
    (void)state;
    static const char *const words[] = {"/model.gguf: ", "Input/output error", NULL};
    mixt_store_reader readers[2];
    int count = list_readers(readers), lines = 0;
    for (int i = 0; i < count; i++) {
        for (int prefetch = 0; prefetch <= MIXT_STORE_PREFETCH_ALWAYS; prefetch++) {
            for (long k = 0; k < 60; k += SANITIZED ? 19 : 7) {
                mixt_error error = MIXT_ERROR_INIT;
                float logits[GENERATED][VOCABULARY];
                mixt_model *model = open_stored(gguf, readers[i], (mixt_store_prefetch)prefetch);
                set_fault(FAILS, k, 1);
                mixt_status status = generate(model, logits, NULL, NULL, &error);
                set_fault(NONE, 0, 0);
                if (status == MIXT_OK) {
                    assert_memory_equal(logits, expected, sizeof logits);
                } else {
                    assert_int_equal(status, MIXT_ERROR_IO);
                    expect_line(&error, words);
                    lines++;
                }
                expect_bits(model);
                mixt_model_free(model);
            }
        }
    }
    assert_true(lines > 0);
}

static void test_a_disk_that_is_odd(void **state)
{
    (void)state;
    static const fault faults[] = {SHORT, DISTURBED, SLOW};
    mixt_store_reader readers[2];
    int count = list_readers(readers);
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
            for (int prefetch = 1; prefetch <= MIXT_STORE_PREFETCH_ALWAYS; prefetch++) {
                set_fault(NONE, 0, 0);
                mixt_model *model = must_open_model(gguf);
                const mixt_store_options options = {.memory = limit,
                                                    .reader = readers[i],
                                                    .prefetch = (mixt_store_prefetch)prefetch,
                                                    .always = true};
                mixt_error error = MIXT_ERROR_INIT;
                set_fault(faults[k], 0, 0); /* also for what stays in memory */
                must(mixt_model_store(model, &options, &error), &error);
                expect_bits(model);
                assert_true(atomic_load(&reads) > 20);
                set_fault(NONE, 0, 0);
                mixt_model_free(model);
            }
        }
    }
}

/* Experts that are laid anew behind their reads (a folder of gpt-oss): a read that fails, or that
 * comes in parts, of blocks or scales. */
static void test_laid_experts(void **state)
{
    (void)state;
    const char *path = "tests/fixtures/families/gpt_oss-mxfp4";
    static const char *const words[] = {"/model.safetensors: ", "layer ", "expert ",
                                        "Input/output error", NULL};
    static const fault faults[] = {FAILS, SHORT, DISTURBED, SLOW};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_reader readers[2];
    float right[GENERATED][VOCABULARY], logits[GENERATED][VOCABULARY];
    int count = list_readers(readers), threads = count_entries("/proc/self/task");
    mixt_model *model = must_open_model(path);
    must(generate(model, right, NULL, NULL, &error), &error);
    mixt_model_free(model);
    uint64_t all = limit, few = limit_for(path, 2);
    for (int i = 0; i < count * 4 * 6; i++) {
        mixt_store_options options = {.memory = few,
                                      .reader = readers[i % count],
                                      .prefetch = (mixt_store_prefetch)(i / count % 3),
                                      .always = true};
        fault f = faults[i / count / 6];
        model = must_open_model(path);
        must(mixt_model_store(model, &options, &error), &error);
        set_fault(f, f == FAILS ? i / count % 6 : 0, 1000000);
        mixt_status status = generate(model, logits, NULL, NULL, &error);
        set_fault(NONE, 0, 0);
        if (f == FAILS) {
            assert_int_equal(status, MIXT_ERROR_IO);
            expect_line(&error, words);
            error = (mixt_error)MIXT_ERROR_INIT;
            status = generate(model, logits, NULL, NULL, &error);
        }
        must(status, &error);
        assert_memory_equal(logits, right, sizeof logits);
        mixt_model_free(model);
    }
    limit = all;
    expect_no_more_entries("/proc/self/task", threads);
}

/* The disk fails while what stays in memory is read: no store, and the model as it was. */
static void test_a_disk_that_fails_at_once(void **state)
{
    (void)state;
    static const char *const words[] = {"/model.gguf: cannot read ", "Input/output error", NULL};
    mixt_store_reader readers[2];
    int count = list_readers(readers);
    for (int i = 0; i < count; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_store_statistics s;
        mixt_model *model = must_open_model(gguf);
        const mixt_store_options options = {.memory = limit, .reader = readers[i], .always = true};
        set_fault(FAILS, 0, 1000000);
        mixt_status status = mixt_model_store(model, &options, &error);
        set_fault(NONE, 0, 0);
        assert_int_equal(status, MIXT_ERROR_IO);
        expect_line(&error, words);
        assert_false(mixt_store_describe(model, &s));
        mixt_model_free(model);
    }
}

/* ---- what happens to the file */

static void cut(const char *path)
{
    struct stat now;
    assert_int_equal(stat(path, &now), 0);
    assert_int_equal(truncate(path, now.st_size / 4), 0);
}

static void touch(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Another file takes its name: garbage of its size. */
static void replace(const char *path)
{
    size_t length;
    char *bytes = read_file(path, &length), *other = scratch_path("other");
    memset(bytes, 7, length);
    write_file(other, bytes, length);
    assert_int_equal(rename(other, path), 0);
    free(bytes);
    free(other);
}

static char *copy_model(void)
{
    size_t length;
    char *bytes = read_file(gguf, &length), *copy = scratch_path("copy.gguf");
    unlink(copy);
    write_file(copy, bytes, length);
    free(bytes);
    return copy;
}

static void test_a_file_that_changes(void **state)
{
    (void)state;
    static const struct {
        void (*change)(const char *path);
        const char *words[3]; /* none: right bits */
    } changes[] = {{cut, {"/copy.gguf: ", "became shorter", NULL}},
                   {touch, {"/copy.gguf: ", "written to", NULL}},
                   {replace, {NULL}}};
    mixt_store_reader readers[2];
    int count = list_readers(readers);
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
            mixt_error error = MIXT_ERROR_INIT;
            float logits[GENERATED][VOCABULARY];
            char *copy = copy_model();
            mixt_model *model = open_stored(copy, readers[i], MIXT_STORE_PREFETCH_NEVER);
            mixt_status status = generate(model, logits, changes[k].change, copy, &error);
            if (changes[k].words[0] == NULL) {
                must(status, &error);
                assert_memory_equal(logits, expected, sizeof logits);
                expect_bits(model);
            } else {
                assert_int_equal(status, MIXT_ERROR_IO);
                expect_line(&error, changes[k].words);
            }
            mixt_model_free(model);
            free(copy);
        }
    }
}

/* Between opening and storing. */
static void test_a_file_that_was_replaced(void **state)
{
    (void)state;
    static const char *const words[] = {"/copy.gguf: ", "was replaced or written to", NULL};
    mixt_error error = MIXT_ERROR_INIT;
    char *copy = copy_model();
    mixt_model *model = must_open_model(copy);
    const mixt_store_options options = {.memory = limit, .always = true};
    replace(copy);
    assert_int_equal(mixt_model_store(model, &options, &error), MIXT_ERROR_IO);
    expect_line(&error, words);
    mixt_model_free(model);
    free(copy);
}

/* A profile that is none: one line that names it, and the model can be stored without. */
static void test_profiles(void **state)
{
    (void)state;
    char *profile = scratch_path("profile");
    static const char *const contents[] = {"", "garbage", "{\"mixt_trace\": 1}\n", NULL};
    for (int i = 0; i < 4; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        unlink(profile);
        if (contents[i] != NULL) {
            write_file(profile, contents[i], strlen(contents[i]));
        }
        mixt_model *model = must_open_model(gguf);
        mixt_store_options options = {.memory = limit, .profile = profile, .always = true};
        mixt_status status = mixt_model_store(model, &options, &error);
        must_refuse(status, &error, "/profile", "", "a profile");
        assert_null(strchr(error.message, '\n'));
        options.profile = NULL;
        error = (mixt_error)MIXT_ERROR_INIT;
        must(mixt_model_store(model, &options, &error), &error);
        expect_bits(model);
        mixt_model_free(model);
    }
    free(profile);
}

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    scratch_make_context(state);
    mixt_model_options o = test_block_options(VOCABULARY, TOKENS);
    mixt_model *model = test_new_model(&o, 0.1);
    gguf = scratch_path("model.gguf");
    const mixt_convert_options to = {.output = gguf, .type = "Q8_0"};
    must(mixt_convert(scratch_context, model, &to, NULL, NULL, &error), &error);
    mixt_model_free(model);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (i * 11 + i * i) % VOCABULARY;
    }
    model = must_open_model(gguf);
    must(generate(model, expected, NULL, NULL, &error), &error);
    mixt_model_free(model);
    limit = limit_for(gguf, SLOTS);
    return 0;
}

static int tear_down(void **state)
{
    free(gguf);
    return scratch_remove_context(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_disk_that_fails),
        cmocka_unit_test(test_one_read_that_fails),
        cmocka_unit_test(test_a_disk_that_is_odd),
        cmocka_unit_test(test_laid_experts),
        cmocka_unit_test(test_a_disk_that_fails_at_once),
        cmocka_unit_test(test_a_file_that_changes),
        cmocka_unit_test(test_a_file_that_was_replaced),
        cmocka_unit_test(test_profiles),
    };
    return cmocka_run_group_tests_name("store faults", tests, set_up, tear_down);
}
