/* Nobody waits for ever: a Ctrl-C that comes as a line is awaited, a test that stands still. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "shell.h"

/* The program's waiting with both of its system calls in our hands: a signal is raised at the last
 * instant before one begins, which no amount of sleeping hits for sure. */
static int poll_hooked(struct pollfd *ready, nfds_t count, int milliseconds);
static ssize_t read_hooked(int descriptor, void *bytes, size_t size);
#define poll poll_hooked
#define read read_hooked
#include "../cli/interrupt.c"
#undef poll
#undef read

static int raise_before_poll, raise_before_read; /* signals; 0: none */
static bool stood_still;

static int poll_hooked(struct pollfd *ready, nfds_t count, int milliseconds)
{
    int number = raise_before_poll;
    raise_before_poll = 0;
    if (number != 0) {
        raise(number);
    }
    assert_int_equal(milliseconds, -1);
    int got = poll(ready, count, 3000);
    stood_still = stood_still || got == 0; /* it would wait until a key comes */
    return got;
}

static ssize_t read_hooked(int descriptor, void *bytes, size_t size)
{
    if (descriptor == STDIN_FILENO && raise_before_read != 0) {
        raise(raise_before_read);
        raise_before_read = 0;
    }
    return read(descriptor, bytes, size);
}

/* Standard input becomes `descriptor` for a while. */
static int replace_input(int descriptor)
{
    int before = dup(STDIN_FILENO);
    assert_true(before >= 0 && dup2(descriptor, STDIN_FILENO) == STDIN_FILENO);
    return before;
}

static void restore_input(int before)
{
    assert_int_equal(dup2(before, STDIN_FILENO), STDIN_FILENO);
    close(before);
    ahead.at = ahead.end = 0;
    interrupt_end();
}

static char *line;
static size_t capacity;

/* Nothing comes from `descriptor`, and a signal does in the last instant: it is noticed. */
static void check_race(int descriptor, int number)
{
    int before = replace_input(descriptor);
    interrupt_begin();
    stood_still = false;
    raise_before_poll = number;
    assert_int_equal(interrupt_read_line(&line, &capacity), -1);
    assert_int_equal(interrupt_status(), 128 + number);
    assert_false(stood_still);
    interrupt_clear();
    raise_before_poll = 0;
    restore_input(before);
}

static int open_pseudo_terminal(int *slave)
{
    char name[64];
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), number = 0, unlock = 0;
    assert_true(master >= 0 && ioctl(master, TIOCGPTN, &number) == 0 &&
                ioctl(master, TIOCSPTLCK, &unlock) == 0);
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    *slave = open(name, O_RDWR | O_NOCTTY);
    assert_true(*slave >= 0);
    return master;
}

static void signals_in_the_last_instant_count(void **state)
{
    int ends[2], slave;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    check_race(ends[0], SIGINT);
    check_race(ends[0], SIGTERM);
    int master = open_pseudo_terminal(&slave);
    check_race(slave, SIGINT);
    check_race(slave, SIGTERM);
    close(master);
    close(slave);
    close(ends[0]);
    close(ends[1]);
}

/* A line that is there is read whole, however the signal falls, and the signal stays known. */
static void lines_survive_signals(void **state)
{
    int ends[2];
    static const char text[] = "first\nsecond \\\n\nlast";
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    close(ends[1]);
    int before = replace_input(ends[0]);
    interrupt_begin();
    raise_before_read = SIGINT;
    assert_int_equal(interrupt_read_line(&line, &capacity), 6);
    assert_string_equal(line, "first\n");
    assert_int_equal(interrupt_status(), 130);
    interrupt_clear();
    assert_int_equal(interrupt_read_line(&line, &capacity), 9);
    assert_string_equal(line, "second \\\n");
    assert_int_equal(interrupt_read_line(&line, &capacity), 1);
    assert_int_equal(interrupt_read_line(&line, &capacity), 4);
    assert_string_equal(line, "last");
    assert_int_equal(interrupt_read_line(&line, &capacity), -1);
    assert_int_equal(errno, 0);
    assert_int_equal(interrupt_status(), 0);
    restore_input(before);
    close(ends[0]);
}

/* Longer than one read, and in pieces. */
static void long_lines_are_whole(void **state)
{
    static char text[3 * 4096 + 11];
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 2] = '\n';
    assert_int_equal(write(ends[1], text, sizeof text - 1), (ssize_t)sizeof text - 1);
    int before = replace_input(ends[0]);
    interrupt_begin();
    assert_int_equal(interrupt_read_line(&line, &capacity), (ssize_t)sizeof text - 1);
    assert_string_equal(line, text);
    restore_input(before);
    close(ends[0]);
    close(ends[1]);
}

/* ---- tests/run.sh */

/* Runs the programs of a folder, of which some fail. */
static void run_failing(const char *settings, const char *folder)
{
    char root[4200], lines[9000];
    assert_non_null(getcwd(root, sizeof root));
    snprintf(lines, sizeof lines, "unset MAKEFLAGS; %s %s/tests/run.sh %s", settings, root, folder);
    assert_int_equal(shell(lines), 1);
}

static void programs_that_stand_still_are_cut(void **state)
{
    (void)state;
    shell_do(
        "mkdir -p built/tests; cd built; printf 'test_good\\ntest_still\\ntest_bad\\n' >programs; "
        "printf '#!/bin/sh\\necho \"[  PASSED  ] 3 test(s).\"\\n' >tests/test_good; "
        "printf '#!/bin/sh\\necho \"[ RUN      ] stands_here\"\\nexec sleep 50\\n' "
        ">tests/test_still; "
        "printf '#!/bin/sh\\necho \"[  PASSED  ] 1 test(s).\"\\necho \"[  FAILED  ] 2 "
        "test(s)\"\\nexit 2\\n' >tests/test_bad; chmod +x tests/*");
    run_failing("MIXT_TEST_SECONDS=1", "built");
    assert_has(shell_out, "built test_good                     3 passed  ok");
    assert_has(shell_out, "built test_still                    0 passed  cut after 1 s");
    assert_has(shell_out, "    [ RUN      ] stands_here\n");
    assert_has(shell_out, "built test_bad                      1 passed  2 FAILED");
    assert_has(shell_out, "\n4 passed, 3 failed\n");
}

/* The one that takes long begins first, though it is listed last; whose runner is killed counts. */
static void long_programs_begin_first(void **state)
{
    (void)state;
    shell_do(
        "mkdir -p ordered/tests; cd ordered; "
        "printf 'test_a\ntest_kills\ntest_serve_siege\n' >programs; "
        "printf '#!/bin/sh\necho \"[  PASSED  ] 1 test(s).\"\n' >tests/test_a; "
        "cp tests/test_a tests/test_serve_siege; "
        "printf '#!/bin/sh\nkill -9 $(cut -d \" \" -f 4 /proc/$PPID/stat)\n' >tests/test_kills; "
        "chmod +x tests/*");
    run_failing("MIXT_TEST_JOBS=1", "ordered");
    const char *first = strstr(shell_out, "ordered test_serve_siege");
    const char *second = strstr(shell_out, "ordered test_a ");
    assert_true(first != NULL && second != NULL && first < second);
    assert_has(shell_out, "ordered test_kills: FAILED, no result\n");
    assert_has(shell_out, "\n2 passed, 1 failed\n");
}

static int remove_all(void **state)
{
    free(line);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_in_the_last_instant_count),
        cmocka_unit_test(lines_survive_signals),
        cmocka_unit_test(long_lines_are_whole),
        cmocka_unit_test(programs_that_stand_still_are_cut),
        cmocka_unit_test(long_programs_begin_first),
    };
    return cmocka_run_group_tests_name("waits", tests, shell_make, remove_all);
}
