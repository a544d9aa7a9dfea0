/* docs/distributed.md: its commands run, its table is what the program says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "shell.h"

static char manual[SHELL_TEXT_MAX];

/* The number behind a name in the program's JSON. */
static double number(const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = strstr(shell_out, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

/* A row "| 20T | 64 | 100G | ..." of the table of steps on paper. */
static void check_row(const char *row)
{
    char machine[8], network[8], command[500], want[200];
    int ranks;
    if (sscanf(row, "| %7s | %d | %7s |", machine, &ranks, network) != 3) {
        fail_msg("not a row: %.80s", row);
    }
    bool accelerator = strcmp(machine, "400T") == 0;
    snprintf(command, sizeof command,
             "\"$MIXT\" info \"$SOURCES\"/bench/shapes/deepseek-v3.json --plan train --window 4096 "
             "-b 1 --recompute --json --ranks %d --network %s --flops %s --bandwidth %s "
             "--efficiency %s",
             ranks, network, machine, accelerator ? "3T" : "800G", accelerator ? "0.4" : "0.6");
    shell_do(command);
    snprintf(want, sizeof want, "| %s | %d | %s | %.1f | %.1f | %.1f | %.1f | %.0f %% |\n", machine,
             ranks, network, number("step_seconds"), number("compute_seconds"),
             number("exchange_seconds"), number("reduce_seconds") + number("spread_seconds"),
             100 * number("efficiency"));
    if (strncmp(row, want, strlen(want)) != 0) {
        fail_msg("docs/distributed.md: is %.*s, should be %s", (int)strcspn(row, "\n"), row, want);
    }
    snprintf(want, sizeof want, "%.0f GB (weights %.0f, ", number("memory") / 1e9,
             number("weights_memory") / 1e9);
    assert_true(ranks != 64 || strstr(manual, want) != NULL);
}

static void test_table(void **state)
{
    (void)state;
    int rows = 0;
    const char *table = strstr(manual, "\n| a rank | ranks |");
    assert_non_null(table);
    for (const char *row = strchr(strstr(table, "| --- |"), '\n') + 1; *row == '|';
         row = strchr(row, '\n') + 1) {
        check_row(row);
        rows++;
    }
    assert_int_equal(rows, 8);
}

/* Lines of the manual's blocks of sh, one after another; false behind the last. */
static bool next_line(const char **at, bool *inside, char *line, size_t size)
{
    while (**at != 0) {
        size_t length = strcspn(*at, "\n");
        snprintf(line, size, "%.*s", (int)length, *at);
        *at += length + ((*at)[length] != 0);
        if (strncmp(line, "```", 3) == 0) {
            *inside = strcmp(line, "```sh") == 0;
        } else if (*inside) {
            return true;
        }
    }
    return false;
}

/* What says what a step costs, as it stands there. */
static void test_predictions(void **state)
{
    (void)state;
    char line[1000], command[2000];
    const char *at = manual;
    bool inside = false;
    int ran = 0;
    shell_do("cp -r \"$SOURCES\"/bench . && cp bench/shapes/deepseek-v3.json config.json && "
             "ln -s \"$MIXT\" mixt");
    while (next_line(&at, &inside, line, sizeof line)) {
        if (strncmp(line, "mixt info ", 10) == 0) {
            snprintf(command, sizeof command, "PATH=.:$PATH; %.900s", line);
            shell_do(command);
            assert_has(shell_out, "efficiency ");
            ran++;
        }
    }
    assert_int_equal(ran, 2);
}

static int set_up(void **state)
{
    char sources[4096];
    read_text("docs/distributed.md", manual, sizeof manual);
    if (getcwd(sources, sizeof sources) == NULL || setenv("SOURCES", sources, 1) != 0) {
        return -1;
    }
    return shell_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_predictions),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
