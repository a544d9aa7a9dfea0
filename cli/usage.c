/* Usage, man page and shell completion, all from the command and option tables. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { TEXT_WIDTH = 78, HELP_COLUMN = 30 };

void usage_program(FILE *stream)
{
    fprintf(stream, "mixt %s: train, run and look inside Mixture-of-Experts language models\n\n",
            MIXT_VERSION);
    fprintf(stream, "usage: mixt COMMAND [options]\n\n");
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(stream, "\n`mixt help COMMAND` lists a command's options; start with `mixt demo`.\n"
                    "Exit status: 0 done, 1 failed at work, 2 refused (bad input or usage), 130 "
                    "interrupted;\n141 where whoever read its output left first.\n");
}

/* Words of `text` between `indent` and TEXT_WIDTH, beginning at column `at`. */
static void print_wrapped(FILE *stream, const char *text, int at, int indent)
{
    int column = at;
    while (*text != 0) {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > TEXT_WIDTH) {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', stream);
            column++;
        }
        fprintf(stream, "%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', stream);
}

static void value_name(const cli_option *option, char *text, size_t size)
{
    text[0] = 0;
    if (option->kind == OPTION_CHOICE) {
        size_t used = 0;
        for (const char *c = option->choices; *c != 0 && used + 1 < size; c++) {
            text[used++] = *c == ' ' ? '|' : *c;
            text[used] = 0;
        }
    } else if (option->kind != OPTION_FLAG) {
        snprintf(text, size, "%s%s", option->value != NULL ? option->value : "N",
                 option->kind == OPTION_LIST ? "..." : "");
    }
}

/* Help with the default and other names behind it. */
static void describe(const cli_option *option, const void *field, char *text, size_t size)
{
    char value[300];
    size_t used = (size_t)snprintf(text, size, "%s", option->help);
    if (option->fallback != NULL) {
        snprintf(value, sizeof value, "%s", option->fallback);
    } else {
        options_format(option, field, value, sizeof value);
    }
    bool is_off = option->kind == OPTION_FLAG && strcmp(value, "false") == 0;
    if (value[0] != 0 && !is_off && used < size) {
        used += (size_t)snprintf(text + used, size - used, " (%s)",
                                 option->kind == OPTION_FLAG && option->fallback == NULL ? "on"
                                                                                         : value);
    }
    if (option->aliases != NULL && used < size) {
        snprintf(text + used, size - used, " [also %s]", option->aliases);
    }
}

static void print_option(FILE *stream, const cli_option *option, const void *field)
{
    char left[200];
    char value[120];
    char text[700];
    value_name(option, value, sizeof value);
    int used = option->letter != 0 ? snprintf(left, sizeof left, "  -%c, ", option->letter)
                                   : snprintf(left, sizeof left, "      ");
    used += snprintf(left + used, sizeof left - (size_t)used, "--%s%s%s", option->name,
                     value[0] != 0 ? " " : "", value);
    describe(option, field, text, sizeof text);
    if (used + 2 > HELP_COLUMN) {
        fprintf(stream, "%s\n%*s", left, HELP_COLUMN, "");
    } else {
        fprintf(stream, "%-*s", HELP_COLUMN, left);
    }
    print_wrapped(stream, text, HELP_COLUMN, HELP_COLUMN);
}

static void *default_settings(const cli_command *command)
{
    void *settings = calloc(1, command->settings_size > 0 ? command->settings_size : 1);
    if (settings != NULL && command->defaults != NULL) {
        command->defaults(settings);
    }
    return settings;
}

void usage_command(const cli_command *command, FILE *stream)
{
    char *settings = default_settings(command);
    if (settings == NULL) {
        return;
    }
    fprintf(stream, "usage: mixt %s %s\n\n", command->name, command->synopsis);
    print_wrapped(stream, command->about, 0, 0);
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        fprintf(stream, "\n%s:\n", group->title);
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            print_option(stream, row, settings + group->offset + row->offset);
        }
    }
    if (command->examples != NULL) {
        fprintf(stream, "\nexamples:\n%s", command->examples);
    }
    free(settings);
}

/* ---- man page */

/* Text for roff: dashes stay dashes, backslashes print, no line begins with a dot or quote. */
static void print_roff(FILE *stream, const char *text)
{
    bool at_start = true;
    for (const char *c = text; *c != 0; c++) {
        if (at_start && (*c == '.' || *c == '\'')) {
            fputs("\\&", stream);
        }
        if (*c == '-') {
            fputs("\\-", stream);
        } else if (*c == '\\') {
            fputs("\\e", stream);
        } else {
            fputc(*c, stream);
        }
        at_start = *c == '\n';
    }
}

static void man_option(FILE *stream, const cli_option *option, const void *field)
{
    char value[120];
    char text[700];
    value_name(option, value, sizeof value);
    describe(option, field, text, sizeof text);
    fputs(".TP\n.B ", stream);
    if (option->letter != 0) {
        fprintf(stream, "\\-%c, ", option->letter);
    }
    fputs("\\-\\-", stream);
    print_roff(stream, option->name);
    fputs(value[0] != 0 ? " \\fR" : "", stream);
    print_roff(stream, value);
    fputc('\n', stream);
    print_roff(stream, text);
    fputc('\n', stream);
}

static void man_command(FILE *stream, const cli_command *command)
{
    char *settings = default_settings(command);
    if (settings == NULL) {
        return;
    }
    fprintf(stream, ".SS \"mixt %s ", command->name);
    print_roff(stream, command->synopsis);
    fputs("\"\n", stream);
    print_roff(stream, command->about);
    fputc('\n', stream);
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            man_option(stream, row, settings + group->offset + row->offset);
        }
    }
    if (command->examples != NULL) {
        fputs(".PP\nExamples:\n.PP\n.nf\n", stream);
        print_roff(stream, command->examples);
        fputs(".fi\n", stream);
    }
    free(settings);
}

void usage_man(FILE *stream)
{
    fprintf(stream, ".TH MIXT 1 \"\" \"mixt %s\" \"User Commands\"\n", MIXT_VERSION);
    fputs(".SH NAME\nmixt \\- train, run and look inside Mixture\\-of\\-Experts language models\n"
          ".SH SYNOPSIS\n.B mixt\n.I COMMAND\n[options]\n.SH COMMANDS\n",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        man_command(stream, commands[i]);
    }
    fputs(".SH CONFIG FILES\nA line is\n.I key = value\nwith an option's long name as its key; # "
          "begins a comment; a value may stand in quotes, or in $\\(aq...\\(aq with escapes. "
          "Options and "
          "config files count in the order in which they stand: the "
          "later one wins.\n"
          ".SH ENVIRONMENT\n.TP\n.B MIXT_CPU\nscalar; avx2, avx512, amx; neon, dotprod, i8mm: the "
          "kernels to use.\n"
          ".TP\n.B NO_COLOR\nno colours unless \\-\\-color always.\n"
          ".SH EXIT STATUS\n0 done, 1 failed at work, 2 refused (bad input or usage), 130 "
          "interrupted, 141 where whoever read its output left first.\n",
          stream);
}

/* ---- bash completion */

void usage_completion(FILE *stream)
{
    fputs("# bash completion for mixt, written by `mixt --completion-bash`\n"
          "_mixt() {\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} options=\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(stream, "%s ", commands[i]->name);
    }
    fputs("version\" -- \"$current\"))\n        return\n    fi\n"
          "    case ${COMP_WORDS[COMP_CWORD-1]} in\n",
          stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        for (const cli_group *group = commands[i]->groups; group->title != NULL; group++) {
            for (const cli_option *row = group->options; row->name != NULL; row++) {
                if (row->kind == OPTION_CHOICE) {
                    fprintf(stream,
                            "    --%s) COMPREPLY=($(compgen -W \"%s\" -- \"$current\")); return "
                            ";;\n",
                            row->name, row->choices);
                }
            }
        }
    }
    fputs("    esac\n    case ${COMP_WORDS[1]} in\n", stream);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(stream, "    %s) options=\"", commands[i]->name);
        for (const cli_group *group = commands[i]->groups; group->title != NULL; group++) {
            for (const cli_option *row = group->options; row->name != NULL; row++) {
                fprintf(stream, "--%s ", row->name);
            }
        }
        fputs("--help\" ;;\n", stream);
    }
    fputs("    esac\n"
          "    case $current in\n"
          "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$current\")) ;;\n"
          "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
          "    esac\n}\n"
          "complete -o filenames -F _mixt mixt\n",
          stream);
}
