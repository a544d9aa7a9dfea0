/* The fuzz targets of fuzz/ without libFuzzer: every input of fuzz/corpus, and a few that their
 * mutators make of each. FUZZ_TARGETS (the Makefile) lists the targets as X(name) X(name) ... */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"

#define CORPUS "fuzz/corpus/"
#define INPUT_MAX (1 << 20)
#define MUTANTS 4
#define LONGER 4096 /* bytes that a mutant may have more */

typedef int run_function(const uint8_t *data, size_t size);
typedef size_t mutate_function(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

#define X(name)                                                                                    \
    run_function fuzz_run_##name;                                                                  \
    mutate_function fuzz_mutate_as_##name __attribute__((weak)); /* where it has one */
FUZZ_TARGETS
#undef X

typedef struct target {
    const char *name;
    run_function *run;
    mutate_function *mutate;
} target;

static target targets[] = {
#define X(name) {#name, fuzz_run_##name, fuzz_mutate_as_##name},
    FUZZ_TARGETS
#undef X
};

static void run_mutants(const target *t, const char *data, size_t size, unsigned int first)
{
    for (unsigned int i = 0; i < MUTANTS; i++) {
        uint8_t *changed = malloc(size + LONGER);
        assert_non_null(changed);
        memcpy(changed, data, size);
        size_t length = t->mutate(changed, size, size + LONGER, first + i);
        assert_true(length <= size + LONGER);
        uint8_t *exact = realloc(changed, length + (length == 0)); /* a read beyond its end shows */
        assert_non_null(exact);
        assert_int_equal(t->run(exact, length), 0);
        free(exact);
    }
}

static void replay(void **state)
{
    const target *t = *state;
    char folder[256], path[600], **names, *data;
    size_t count, size;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(folder, sizeof folder, CORPUS "%s", t->name);
    if (mixt_folder_list(folder, &names, &count, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (mixt_file_read(path, INPUT_MAX, &data, &size, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(t->run((const uint8_t *)data, size), 0);
        if (t->mutate != NULL) {
            run_mutants(t, data, size, (unsigned int)(i * MUTANTS));
        }
        free(data);
    }
    mixt_names_free(names, count);
}

int main(void)
{
    enum { COUNT = sizeof targets / sizeof *targets };
    struct CMUnitTest tests[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        tests[i] = (struct CMUnitTest){targets[i].name, replay, NULL, NULL, &targets[i]};
    }
    return cmocka_run_group_tests_name("corpora", tests, NULL, NULL);
}
