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
             "-b 1 --recompute --optimizer adamw --json --ranks %d --network %s --flops %s "
             "--bandwidth %s "
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

/* What stands behind a word of a line up to the next space; 2: it is not there. */
static int count_of(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    return at != NULL ? atoi(at + strlen(word)) : 2;
}

/* What a launcher starts, over a transport of the tests, with a model small enough for it. A run
 * folder is made anew for each line of training. */
static void try_launch(const char *line)
{
    char command[4000], rest[1200];
    const char *at = strstr(line, " mixt ");
    snprintf(rest, sizeof rest, "%.*s", (int)strcspn(at + 6, "#;"), at + 6);
    bool trains = strncmp(rest, "train ", 6) == 0;
    snprintf(
        command, sizeof command,
        "%s MODEL=run/model; rest=$(sed 's#/shared/##g; s#MODEL#run/model#' <<'END'\n%s\nEND\n)\n"
        "eval \"\\\"$LAUNCH\\\" -n %d \\\"$MIXT\\\" $rest %s\"",
        trains ? "rm -rf run;" : "", rest, count_of(line, "-n "),
        trains ? "--steps 2 --layers 1 --hidden-size 16 --heads 2 --kv-heads 1 --ffn-size 16 "
                 "--experts 4 --vocab-size 270 --window 16 -b 2 --threads 1 --warmup 0"
               : "--threads 1");
    shell_do(command);
}

static void test_launches(void **state)
{
    (void)state;
    char line[1000];
    const char *at = manual;
    bool inside = false;
    int ran = 0;
    shell_do("mkdir -p text; for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6; do "
             "echo \"The licence of $i foxes jumps over $j dogs.\" >>text/$i.txt; done; done");
    while (next_line(&at, &inside, line, sizeof line)) {
        bool starts = strncmp(line, "mpirun ", 7) == 0 || strncmp(line, "srun ", 5) == 0;
        if (starts && strstr(line, " mixt ") != NULL && strstr(line, " mixt serve ") == NULL) {
            try_launch(line);
            ran++;
        }
    }
    assert_int_equal(ran, 6);
}

static int set_up(void **state)
{
    char sources[4096];
    read_text("docs/distributed.md", manual, sizeof manual);
    if (getcwd(sources, sizeof sources) == NULL || setenv("SOURCES", sources, 1) != 0) {
        return -1;
    }
    char launch[BUILT_PATH_MAX];
    int status = shell_make(state);
    return status == 0 && find_built("tests/launch", launch) ? setenv("LAUNCH", launch, 1) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_launches),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
