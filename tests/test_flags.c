/* docs/flags.md against the program: every row is what the program does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"
#include "scratch.h"
#include "shell.h"

#define MIXT "\"$MIXT\" "

static char page[SHELL_TEXT_MAX];

static int set_up(void **state)
{
    read_text("docs/flags.md", page, sizeof page);
    return shell_make(state);
}

/* ---- what the program's help says */

/* A name or letter and the option that it stands for. */
typedef struct known_word {
    char word[40], option[40];
} known_word;

typedef struct known_command {
    char name[20];
    known_word words[400];
    size_t count;
} known_command;

static void add_word(known_command *command, const char *word, size_t length, const char *option)
{
    known_word *row = &command->words[command->count++];
    assert_true(command->count < sizeof command->words / sizeof *command->words);
    snprintf(row->word, sizeof row->word, "%.*s", (int)length, word);
    snprintf(row->option, sizeof row->option, "%s", option);
}

/* The options of a command, from its help: "  -n, --predict N   ... [also n-predict]", which goes
 * on over lines. */
static void read_help(known_command *command, const char *name)
{
    char line[200], option[40] = "";
    snprintf(command->name, sizeof command->name, "%s", name);
    snprintf(line, sizeof line, MIXT "help %s", name);
    shell_do(line);
    bool in_also = false;
    for (char *at = strtok(shell_out, "\n"); at != NULL; at = strtok(NULL, "\n")) {
        const char *also = strstr(at, "[also");
        if (strncmp(at, "  -", 3) == 0 || strncmp(at, "      --", 8) == 0) {
            const char *found = strstr(at, "--");
            snprintf(option, sizeof option, "%.*s", (int)strcspn(found, " "), found);
            add_word(command, option, strlen(option), option);
            if (at[2] == '-' && at[3] != '-') {
                add_word(command, at + 2, 2, option);
            }
        }
        const char *word = in_also ? at : also != NULL ? also + 5 : "";
        in_also = in_also || also != NULL;
        for (word += strspn(word, " "); in_also && *word != 0; word += strspn(word, " ")) {
            size_t length = strcspn(word, " ]");
            char name_of[40];
            snprintf(name_of, sizeof name_of, "%s%.*s", word[0] == '-' ? "" : "--", (int)length,
                     word);
            add_word(command, name_of, strlen(name_of), option);
            in_also = word[length] != ']';
            word += length + (word[length] == ']');
        }
    }
    assert_true(command->count > 8);
}

static const known_command *command_of(const char *name)
{
    static known_command commands[8];
    static size_t count;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    assert_true(count < sizeof commands / sizeof *commands);
    read_help(&commands[count], name);
    return &commands[count++];
}

/* The option that a flag stands for, "" where it is none; --no-X is X. */
static const char *option_of(const known_command *command, const char *flag)
{
    char plain[60];
    for (size_t i = 0; i < command->count; i++) {
        if (strcmp(command->words[i].word, flag) == 0) {
            return command->words[i].option;
        }
    }
    if (strncmp(flag, "--no-", 5) == 0) {
        snprintf(plain, sizeof plain, "--%s", flag + 5);
        return option_of(command, plain);
    }
    return "";
}

/* ---- rows */

typedef struct flag_row {
    char flags[30][60];
    size_t flag_count;
    char value[40], here[60], text[200];
    char commands[100];
} flag_row;

static void take_cell(const char **at, char *cell, size_t size)
{
    size_t length = 0;
    *at += strspn(*at, " ");
    while (**at != '|' && **at != '\n' && **at != 0) {
        bool escaped = **at == '\\' && (*at)[1] == '|';
        *at += escaped;
        assert_true(length + 1 < size);
        cell[length++] = *(*at)++;
    }
    while (length > 0 && cell[length - 1] == ' ') {
        length--;
    }
    cell[length] = 0;
    *at += **at == '|';
}

/* False where a line is no row: heads and rules have no flag in their first cell. */
static bool read_row(const char *line, flag_row *row)
{
    char flags[2000];
    memset(row, 0, sizeof *row);
    if (strncmp(line, "| `-", 4) != 0) {
        return false;
    }
    const char *at = line + 1;
    take_cell(&at, flags, sizeof flags);
    take_cell(&at, row->value, sizeof row->value);
    take_cell(&at, row->commands, sizeof row->commands);
    take_cell(&at, row->here, sizeof row->here);
    take_cell(&at, row->text, sizeof row->text);
    for (char *next = flags; (next = strchr(next, '`')) != NULL;) {
        size_t length = strcspn(next + 1, "`");
        assert_true(row->flag_count < sizeof row->flags / sizeof *row->flags);
        snprintf(row->flags[row->flag_count++], sizeof row->flags[0], "%.*s", (int)length,
                 next + 1);
        next += length + 2;
    }
    assert_true(row->flag_count > 0 && row->commands[0] != 0 && row->here[0] != 0);
    return true;
}

/* A value of the kind that the row names. */
static const char *example_of(const char *value)
{
    static const char *const examples[][2] = {
        {"", ""},      {"N", " 1"},       {"X", " 0.5"},       {"P,N", " 1,1"},
        {"0|1", " 1"}, {"JSON", " '{}'"}, {"FACTOR", " 1.75"}, {"TYPE", " f16"}};
    static char first[60];
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        if (strcmp(value, examples[i][0]) == 0) {
            return examples[i][1];
        }
    }
    if (strchr(value, '|') == NULL) {
        return " word";
    }
    snprintf(first, sizeof first, " %.*s", (int)strcspn(value, "|"), value);
    return first;
}

/* --help behind it: what stands before is read, and nothing is done. */
static int try_flag(const char *command, const char *flag, const char *value)
{
    char line[300];
    snprintf(line, sizeof line, MIXT "%s %s%s --help", command, flag, value);
    return shell(line);
}

static void check_option(const flag_row *row, const char *command, bool *named)
{
    char wanted[60];
    snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(row->here + 1, "`"), row->here + 1);
    for (size_t i = 0; i < row->flag_count; i++) {
        const char *flag = row->flags[i], *option = option_of(command_of(command), flag);
        int status = try_flag(command, flag, example_of(row->value));
        if (status != 0 || shell_err[0] != 0) {
            fail_msg("mixt %s %s: status %d: %s", command, flag, status, shell_err);
        }
        const char *first = option_of(command_of(command), row->flags[0]);
        if (option[0] == 0 || strcmp(option, row->here[0] == '`' ? wanted : first) != 0) {
            fail_msg("mixt %s %s: it is \"%s\", the page says %s", command, flag, option,
                     row->here);
        }
        *named = *named || strcmp(option, flag) == 0 || strlen(flag) == 2;
    }
}

/* The line on standard error has the flag and the page's words. */
static void check_said(const flag_row *row, const char *command, bool refused)
{
    char wanted[400];
    for (size_t i = 0; i < row->flag_count; i++) {
        const char *flag = row->flags[i];
        int status = try_flag(command, flag, example_of(row->value));
        if (refused) {
            snprintf(wanted, sizeof wanted, "mixt %s: %s: %s (see", command, flag, row->text);
        } else {
            snprintf(wanted, sizeof wanted, "note: %s does nothing here: %s\n", flag, row->text);
        }
        if (status != (refused ? 2 : 0) || strstr(shell_err, wanted) == NULL ||
            option_of(command_of(command), flag)[0] != 0) {
            fail_msg("mixt %s %s: status %d: %s", command, flag, status, shell_err);
        }
    }
}

/* Each flag is a program of its own that reads its options and ends: where that is slow, every
 * eighth row is tried, and every row read. */
static void rows_are_what_happens(void **state)
{
    static flag_row row;
    int rows = 0, flags = 0;
    (void)state;
    for (const char *line = page; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!read_row(line, &row)) {
            continue;
        }
        flags += (int)row.flag_count;
        if (rows++ % guard_sample(1, 8) != 0) {
            continue;
        }
        bool same = strcmp(row.here, "same") == 0 || strcmp(row.here, "differs") == 0;
        bool refused = strcmp(row.here, "refused") == 0;
        bool said = refused || strcmp(row.here, "accepted") == 0;
        assert_true(same || said || row.here[0] == '`');
        char commands[100], *rest = NULL;
        snprintf(commands, sizeof commands, "%s", row.commands);
        for (char *name = strtok_r(commands, " ", &rest); name != NULL;
             name = strtok_r(NULL, " ", &rest)) {
            bool named = false;
            if (said) {
                check_said(&row, name, refused);
            } else {
                check_option(&row, name, &named);
                assert_true(named || !same);
            }
        }
    }
    assert_true(rows > 180 && flags > 480);
}

/* A value that is left out, and one behind "=". */
static void values_are_taken(void **state)
{
    (void)state;
    shell_refuses(MIXT "run -ngl", "-ngl: needs a value");
    assert_int_equal(shell(MIXT "run -fa --help"), 0);
    assert_int_equal(shell(MIXT "run --n-gpu-layers=99 --help"), 0);
    assert_has(shell_err, "note: --n-gpu-layers does nothing here");
    assert_int_equal(shell(MIXT "run -fa what -p x"), 2);
    assert_has(shell_err, "what: "); /* it is no such word, and so the model */
    shell_refuses(MIXT "train -ngl 3", "-ngl: no such option");
    shell_refuses(MIXT "run --rope-scale", "--rope-scale: what the model's file says");
}

static void escapes_are_characters(void **state)
{
    (void)state;
    shell_train();
    shell_do("run() { " MIXT "run -m run -t 1 -n 0 -q \"$@\"; }; "
             "run -e -p 'a\\n\\tb\\\\\\\"\\x41\\q\\x4' >escaped; "
             "printf 'a\\n\\tb\\\\\"A\\\\q\\\\x4\\n' >wanted; cmp escaped wanted; "
             "run -p 'a\\nb' >plain; printf 'a\\\\nb\\n' >wanted; cmp plain wanted; "
             "run --no-escape -p 'a\\nb' >plain; cmp plain wanted");
    shell_refuses(MIXT "run -m run -e -p '\\xff'", "--escape: the prompt is not valid UTF-8");
}

/* llama.cpp's variables are not read. */
static void the_environment_is_not_read(void **state)
{
    (void)state;
    shell_do(MIXT "run -m run -t 1 -n 9 --temp 0 -q -p 'int a' >plain; LLAMA_ARG_N_PREDICT=1 "
                  "LLAMA_ARG_CTX_SIZE=2 LLAMA_ARG_TOP_K=1 LLAMA_ARG_MODEL=nothing " MIXT
                  "run -m run -t 1 -n 9 --temp 0 -q -p 'int a' | cmp - plain");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_what_happens),
        cmocka_unit_test(values_are_taken),
        cmocka_unit_test(escapes_are_characters),
        cmocka_unit_test(the_environment_is_not_read),
    };
    return cmocka_run_group_tests_name("flags", tests, set_up, scratch_remove);
}
