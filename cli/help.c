/* mixt help: usage of the program or of one command; man page and completion for packagers. */
#include "cli.h"

typedef struct help_settings {
    const char *topic;
    bool man;
    bool completion;
} help_settings;

static const cli_option help_options[] = {
    {.name = "command",
     .kind = OPTION_TEXT,
     .offset = offsetof(help_settings, topic),
     .value = "NAME",
     .help = "the command to describe"},
    {.name = "man",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_settings, man),
     .help = "print the man page (roff)"},
    {.name = "completion-bash",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_settings, completion),
     .help = "print the bash completion"},
    {0},
};

static int run_help(void *user, cli_arguments *arguments)
{
    const help_settings *settings = user;
    (void)arguments;
    if (settings->man) {
        usage_man(stdout);
    } else if (settings->completion) {
        usage_completion(stdout);
    } else if (settings->topic == NULL) {
        usage_program(stdout);
    } else {
        const cli_command *command = command_find(settings->topic);
        if (command == NULL) {
            return unknown_command(settings->topic);
        }
        usage_command(command, stdout);
    }
    return STATUS_DONE;
}

const cli_command command_help = {
    .name = "help",
    .summary = "this list, or a command's options",
    .synopsis = "[COMMAND]",
    .about = "Lists the commands, or one command's options.",
    .positional = "command",
    .groups = (const cli_group[]){{"options", help_options, 0}, {0}},
    .settings_size = sizeof(help_settings),
    .run = run_help,
};
