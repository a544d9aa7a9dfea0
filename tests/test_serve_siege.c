/* mixt serve under siege, in its short form: tests/siege/siege.py says what each phase is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "build_folder.h"
#include "scratch.h"
#include "shell.h"
#include "sanitized.h"

static char script[BUILT_PATH_MAX];

static int set_up(void **state)
{
    char folder[BUILT_PATH_MAX - 30];
    assert_non_null(getcwd(folder, sizeof folder));
    snprintf(script, sizeof script, "%s/tests/siege/siege.py", folder);
    return shell_make(state);
}

static void lay_siege(const char *phases)
{
    if (shell("command -v python3") != 0) {
        printf("skipped: the siege needs python3\n");
        skip();
    }
    char line[BUILT_PATH_MAX + 200];
    snprintf(line, sizeof line,
             "python3 '%s' \"$MIXT\" --only %s --count 200 --seconds 4 --soak 20000%s", script,
             phases, SANITIZED ? " --sanitized" : "");
    if (shell(line) != 0) {
        fail_msg("%.4000s%.1000s", shell_out, shell_err);
    }
    assert_has(shell_out, " 0 failed");
}

static void test_bodies(void **state)
{
    (void)state;
    lay_siege("bodies");
}

static void test_clients(void **state)
{
    (void)state;
    lay_siege("idle,kill,soak");
}

static void test_slow(void **state)
{
    (void)state;
    lay_siege("slow");
}

static void test_ends(void **state)
{
    (void)state;
    lay_siege("ends");
}

static void test_cut_model(void **state)
{
    (void)state;
    lay_siege("model");
}

/* Sanitizers have allocators of their own, and say nothing of those that fail; the guarded backend
 * ends the program where it finds no memory. */
static void test_failing_allocations(void **state)
{
    (void)state;
    char option[BUILT_PATH_MAX + 40], library[BUILT_PATH_MAX];
    if (!find_built("tests/siege/failing.so", library) || access(library, R_OK) != 0) {
        print_message("skipped: not built with this sanitizer or backend\n");
        skip();
    }
    snprintf(option, sizeof option, "memory --failing '%s'", library);
    lay_siege(option);
}

/* Each thread that the server starts, refused by the system: one line, status 2 or 1, and an end.
 */
static void test_failing_threads(void **state)
{
    (void)state;
    char line[BUILT_PATH_MAX + 600], library[BUILT_PATH_MAX];
    if (!find_built("tests/siege/failing.so", library) || access(library, R_OK) != 0) {
        print_message("skipped: not built with this sanitizer or backend\n");
        skip();
    }
    shell_train();
    int failed = 0;
    for (bool ready = false; !ready; failed += !ready) {
        assert_true(failed < 20);
        snprintf(
            line, sizeof line,
            "LD_PRELOAD='%s' FAIL_THREAD=%d \"$MIXT\" serve -m run --port 0 -t 1 >serve.out "
            "2>serve.err & "
            "while kill -0 $! 2>kill.err && ! grep -q ' is ready' serve.err; do sleep 0.02; done; "
            "kill $! 2>kill.err; wait $!; status=$?; cat serve.err >&2; exit $status",
            library, failed + 1);
        int status = shell(line);
        ready = strstr(shell_err, " is ready") != NULL;
        if (ready) {
            assert_int_equal(status, 0);
            continue;
        }
        assert_int_equal(status, 1);
        assert_has(shell_err, "could not be started");
        assert_ptr_equal(strchr(shell_err, '\n'), strrchr(shell_err, '\n'));
    }
    assert_true(failed >= 4); /* two that prepare, the loop, and the one that generates */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_cut_model),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_failing_threads),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
