/* mixt: finds the command, reads its options, runs it, and sees to it that output really went out.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ranks.h"
#include "terminal.h"

#define COMMAND(name) extern const cli_command command_##name;
#include "commands.def"
#undef COMMAND

const cli_command *const commands[] = {
#define COMMAND(name) &command_##name,
#include "commands.def"
#undef COMMAND
    NULL,
};

const char *program_path = "mixt";

static const char *running; /* name of the command, for messages */

const cli_command *command_find(const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static void print_failure(const char *format, va_list list, const char *behind)
    __attribute__((format(printf, 1, 0)));

static char failure[8192]; /* the last one */

const char *last_failure(void)
{
    return failure[0] != 0 ? failure : "failed";
}

static void print_failure(const char *format, va_list list, const char *behind)
{
    char text[8192];
    fflush(stdout);
    vsnprintf(text, sizeof text, format, list);
    snprintf(failure, sizeof failure, "%s", text);
    say(stderr, "mixt%s%s: %s%s\n", running != NULL ? " " : "", running != NULL ? running : "",
        text, behind);
}

int fail_with(int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_failure(format, list, "");
    va_end(list);
    return status;
}

int exit_status(mixt_status status)
{
    return mixt_status_is_refusal(status) ? STATUS_REFUSED : STATUS_FAILED;
}

int fail_error(const mixt_error *error)
{
    int interrupted = error->status == MIXT_ERROR_INTERRUPTED ? interrupt_status() : 0;
    int status = interrupted != 0 ? interrupted : exit_status(error->status);
    const char *text = error->message[0] != 0 ? error->message : mixt_status_name(error->status);
    return fail_with(status, "%s", text);
}

int fail_usage(const char *format, ...)
{
    char behind[80];
    snprintf(behind, sizeof behind, " (see mixt help%s%s)", running != NULL ? " " : "",
             running != NULL ? running : "");
    va_list list;
    va_start(list, format);
    print_failure(format, list, behind);
    va_end(list);
    return STATUS_REFUSED;
}

int options_refused(const cli_arguments *arguments)
{
    return arguments->failed ? fail_with(STATUS_FAILED, "%s", arguments->message)
                             : fail_usage("%s", arguments->message);
}

mixt_status set_error(mixt_error *error, mixt_status status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, list);
    va_end(list);
    return status;
}

mixt_status set_memory_error(mixt_error *error)
{
    return set_error(error, MIXT_ERROR_MEMORY, "out of memory");
}

mixt_status set_io_error(mixt_error *error, const char *path)
{
    return set_error(error, MIXT_ERROR_IO, "%.400s: %s", path, strerror(errno));
}

bool list_grow(void *array, size_t *capacity, size_t wanted, size_t size)
{
    if (wanted <= *capacity) {
        return true;
    }
    size_t grown = 2 * *capacity + 16;
    grown = grown > wanted ? grown : wanted;
    void *from, *to;
    memcpy(&from, array, sizeof from); /* whatever it points to */
    to = grown < SIZE_MAX / 2 / size ? realloc(from, grown * size) : NULL;
    if (to == NULL) {
        return false;
    }
    memcpy(array, &to, sizeof to);
    *capacity = grown;
    return true;
}

/* Has the reader of standard output left? What happened to writes before is not known any more. */
static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

/* Standard output may be a full disk: that is noticed here at the latest. A reader that leaves, as
 * head does, is no error: the program ends as cat does, of SIGPIPE. */
static int finish(int status)
{
    errno = 0;
    bool bad = fflush(stdout) != 0 || ferror(stdout) != 0;
    if (!bad) {
        return status;
    }
    int number = errno;
    if (number == EPIPE || reader_left()) {
        if (status == STATUS_DONE) {
            signal(SIGPIPE, SIG_DFL);
            raise(SIGPIPE);
        }
        return status;
    }
    fprintf(stderr, "mixt%s%s: standard output: %s\n", running != NULL ? " " : "",
            running != NULL ? running : "", number != 0 ? strerror(number) : "write error");
    return status == STATUS_DONE ? STATUS_FAILED : status;
}

static int run_command(const cli_command *command, int argc, char **argv)
{
    cli_arguments arguments = {.command = command};
    arguments.settings = calloc(1, command->settings_size > 0 ? command->settings_size : 1);
    if (arguments.settings == NULL) {
        return fail_with(STATUS_FAILED, "out of memory");
    }
    options_reset(&arguments);
    int status = STATUS_DONE;
    bool good = options_parse(&arguments, argc, argv);
    if (program_ranks != NULL) {
        good = ranks_agree_on_options(&arguments, good);
    }
    if (!good) {
        status = options_refused(&arguments);
    } else if (arguments.help) {
        usage_command(command, stdout);
    } else {
        if (command->leaves_files) {
            signal(SIGPIPE, SIG_IGN);
        }
        status = program_ranks != NULL ? ranks_run(command, &arguments)
                                       : command->run(arguments.settings, &arguments);
    }
    options_free(&arguments);
    free(arguments.settings);
    return status;
}

int unknown_command(const char *name)
{
    const char *nearest = NULL;
    int least = INT_MAX;
    running = NULL; /* mixt help NAME is refused as mixt NAME is */
    if (!text_is_utf8(name, strlen(name))) {
        return fail_usage("argument 1: not valid UTF-8");
    }
    for (size_t i = 0; commands[i] != NULL; i++) {
        int distance = options_distance(name, commands[i]->name);
        if (distance >= 0 && distance < least) {
            least = distance;
            nearest = commands[i]->name;
        }
    }
    if (nearest != NULL) {
        return fail_usage("%.80s: no such command; is it %s?", name, nearest);
    }
    return fail_usage("%.80s: no such %s", name, name[0] == '-' ? "option" : "command");
}

/* Descriptors 0 to 2 are what they are for, or /dev/null: the next file that is opened would become
 * standard output otherwise, and a line of progress a part of it. False: there is no /dev/null. */
static bool open_standard(void)
{
    int opened = open("/dev/null", O_RDWR);
    while (opened >= 0 && opened <= STDERR_FILENO) {
        opened = open("/dev/null", O_RDWR);
    }
    return opened >= 0 && close(opened) == 0;
}

int run_program(int argc, char **argv)
{
    const char *name = argv[1];
    running = NULL;
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0 || strcmp(name, "-V") == 0) {
        printf("mixt %s\n", mixt_version());
        return finish(STATUS_DONE);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        usage_program(stdout);
        return finish(STATUS_DONE);
    }
    if (strcmp(name, "--completion-bash") == 0) {
        usage_completion(stdout);
        return finish(STATUS_DONE);
    }
    const cli_command *command = command_find(name);
    if (command == NULL) {
        return finish(unknown_command(name));
    }
    running = command->name;
    return finish(run_command(command, argc - 2, argv + 2));
}

int main(int argc, char **argv)
{
    if (!open_standard()) {
        return STATUS_FAILED; /* there may be nowhere to say so */
    }
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files: writes fail with EFBIG */
    signal(SIGPIPE, SIG_DFL); /* also where whoever started it ignored it */
    if (argc < 2) {
        usage_program(stderr);
        return finish(STATUS_REFUSED);
    }
    program_path = argv[0];
    return mixt_ranks_launched() > 1 ? ranks_program(argc, argv) : run_program(argc, argv);
}
