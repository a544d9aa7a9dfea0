/* A configuration file (train.conf, nanoGPT's) of each command; the first byte chooses one. Refused
 * in one line, or written again and read as the same settings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cli/cli.h"
#include "shared/fuzz.h"

/* One of the command's options. */
static const cli_option *any_option(const cli_command *command, fuzz_dice *dice)
{
    size_t groups = 0, count = 0;
    while (command->groups[groups].title != NULL) {
        groups++;
    }
    const cli_option *options =
        groups > 0 ? command->groups[fuzz_below(dice, groups)].options : NULL;
    while (options != NULL && options[count].name != NULL) {
        count++;
    }
    return count > 0 ? &options[fuzz_below(dice, count)] : NULL;
}

/* A line that sets it. */
static size_t draw_line(const cli_option *option, fuzz_dice *dice, char line[200])
{
    static const char *const values[] = {"true", "a b",   "'a # b'",  "\"it's\"", "a\"b'c", "\"",
                                         "",     "\\n\\", "1e400",    "nan",      "0x10",   "-0",
                                         "auto", "#",     "\xc2\x9b", "inf",      "1,2,3",  "\\x"};
    size_t kind = fuzz_below(dice, 4);
    if (option->choices != NULL && kind < 2) {
        const char *word = option->choices;
        for (size_t skip = fuzz_below(dice, 4); skip > 0 && strchr(word, ' ') != NULL; skip--) {
            word = strchr(word, ' ') + 1;
        }
        return (size_t)snprintf(line, 200, "%.60s = %.*s\n", option->name,
                                (int)strcspn(word, " ") % 60, word);
    }
    if (kind == 0) {
        return (size_t)snprintf(line, 200, "%.60s = %lld\n", option->name,
                                (long long)fuzz_integer(dice));
    }
    if (kind == 1) {
        return (size_t)snprintf(line, 200, "%.60s=%.17g\n", option->name, fuzz_number(dice));
    }
    return (size_t)snprintf(line, 200, "%.60s = %s\n", option->name,
                            values[fuzz_below(dice, sizeof values / sizeof *values)]);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    char line[200];
    size_t count = 0;
    fuzz_dice dice = fuzz_dice_of(seed);
    while (commands[count] != NULL) {
        count++;
    }
    const cli_option *option = size > 0 ? any_option(commands[data[0] % count], &dice) : NULL;
    size_t length = option != NULL ? draw_line(option, &dice, line) : 0;
    if (length == 0 || length > max_size - size || fuzz_chance(&dice, 50)) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    size_t at = 1 + fuzz_below(&dice, size); /* to the next line's beginning */
    while (at < size && data[at - 1] != '\n') {
        at++;
    }
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, line, length);
    return size + length;
}

static cli_arguments begin(const cli_command *command)
{
    cli_arguments arguments = {.command = command};
    arguments.settings = calloc(1, command->settings_size + 1);
    FUZZ_REQUIRE(arguments.settings != NULL, "no memory");
    options_reset(&arguments);
    return arguments;
}

/* The file, and a command line with nothing on it. */
static bool read_settings(cli_arguments *arguments, const char *path)
{
    char *none[] = {NULL};
    return options_read(arguments, path) && options_parse(arguments, 0, none);
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
    options_write_config(arguments->command, arguments->settings,
                         "machine keys of nanoGPT and nanoMoE", stream);
    fclose(stream);
    return text;
}

static void check_line(const char *message)
{
    FUZZ_REQUIRE(message[0] != '\0' && strchr(message, '\n') == NULL, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
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
    if (!read_settings(&arguments, path)) {
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
    FUZZ_REQUIRE(read_settings(&again, path), again.message);
    char *second = written(&again, &second_size);
    FUZZ_REQUIRE(first_size == second_size && memcmp(text, second, first_size) == 0, text);
    free(second);
    free(text);
    end(&again);
    end(&arguments);
    return 0;
}
