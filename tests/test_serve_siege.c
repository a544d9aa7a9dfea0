/* mixt serve under siege, in its short form: tests/siege/siege.py says what each phase is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),    cmocka_unit_test(test_clients),
        cmocka_unit_test(test_slow),      cmocka_unit_test(test_ends),
        cmocka_unit_test(test_cut_model), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
