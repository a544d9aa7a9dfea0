/* A configuration file (train.conf, nanoGPT's) of each command; the first byte chooses one. Refused
 * in one line, or written again and read as the same settings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cli/cli.h"
#include "shared/fuzz.h"

static cli_arguments begin(const cli_command *command)
{
    cli_arguments arguments = {.command = command};
    arguments.settings = calloc(1, command->settings_size + 1);
    FUZZ_REQUIRE(arguments.settings != NULL, "no memory");
    options_reset(&arguments);
    return arguments;
}

static void end(cli_arguments *arguments)
{
    options_free(arguments);
    free(arguments->settings);
}

static char *written(const cli_arguments *arguments, size_t *size)
{
    char *text;
    FILE *stream = open_memstream(&text, size);
    FUZZ_REQUIRE(stream != NULL, "a stream");
    options_write_config(arguments->command, arguments->settings, "machine", stream);
    fclose(stream);
    return text;
}

static void check_line(const char *message)
{
    FUZZ_REQUIRE(message[0] != '\0' && strchr(message, '\n') == NULL, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX], *none[] = {NULL};
    size_t count = 0, first_size, second_size;
    while (commands[count] != NULL) {
        count++;
    }
    if (size == 0) {
        return 0;
    }
    const cli_command *command = commands[data[0] % count];
    fuzz_write(fuzz_path("settings.conf", path), data + 1, size - 1);
    cli_arguments arguments = begin(command);
    if (!options_parse_over(&arguments, path)) {
        check_line(arguments.message);
        end(&arguments);
        return 0;
    }
    if (strcmp(command->name, "train") != 0) { /* the one that writes its settings */
        end(&arguments);
        return 0;
    }
    char *text = written(&arguments, &first_size);
    fuzz_write(path, text, first_size);
    cli_arguments again = begin(command);
    again.argv = none;
    FUZZ_REQUIRE(options_parse_over(&again, path), again.message);
    char *second = written(&again, &second_size);
    FUZZ_REQUIRE(first_size == second_size && memcmp(text, second, first_size) == 0, text);
    free(second);
    free(text);
    end(&again);
    end(&arguments);
    return 0;
}
