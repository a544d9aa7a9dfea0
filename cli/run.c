/* mixt run: continues a prompt, or takes turns with the person at the terminal. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "generate.h"
#include "interrupt.h"
#include "prompt_cache.h"
#include "terminal.h"

enum { PROMPT_BYTES_MAX = LINE_BYTES_MAX };

typedef struct run_settings {
    model_settings model;
    sampler_settings sampling;
    const char *prompt;
    const char *file;
    int64_t predict;
    mixt_session_options session;
    cache_settings kv;
    shift_settings shift;
    prompt_cache cache;
    bool interactive;
    bool hide_prompt;
    bool escape;
    bool quiet;
} run_settings;

static const cli_option run_options[] = {
    OPTIONS_OF_MODEL(run_settings, model),
    {.name = "prompt",
     .letter = 'p',
     .kind = OPTION_TEXT,
     .choices = "",
     .offset = offsetof(run_settings, prompt),
     .value = "TEXT",
     .help = "text to continue; - reads standard input, without its last newline"},
    {.name = "file",
     .letter = 'f',
     .kind = OPTION_TEXT,
     .offset = offsetof(run_settings, file),
     .value = "FILE",
     .help = "take the prompt from a file, without its last newline"},
    OPTION_OF_PREDICT(run_settings),
    OPTION_OF_CONTEXT(run_settings),
    OPTIONS_OF_SHIFT(run_settings),
    OPTIONS_OF_PROMPT_CACHE(run_settings),
    {.name = "interactive",
     .letter = 'i',
     .kind = OPTION_FLAG,
     .offset = offsetof(run_settings, interactive),
     .help = "read lines and continue each; Ctrl-C stops a continuation, Ctrl-D leaves"},
    {.name = "hide-prompt",
     .kind = OPTION_FLAG,
     .offset = offsetof(run_settings, hide_prompt),
     .help = "do not print the prompt before its continuation",
     .aliases = "no-display-prompt"},
    {.name = "escape",
     .letter = 'e',
     .kind = OPTION_FLAG,
     .offset = offsetof(run_settings, escape),
     .help = "in the prompt \\n, \\t, \\r, \\\\, \\\", \\' and \\xHH stand for characters"},
    {.name = "quiet",
     .letter = 'q',
     .kind = OPTION_FLAG,
     .offset = offsetof(run_settings, quiet),
     .help = "do not print the speed"},
    {0},
};

static void run_defaults(void *user)
{
    run_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
    settings->sampling = sampler_defaults();
    settings->predict = -1;
}

/* One turn after another until Ctrl-D, or Ctrl-C while a line is awaited. */
static mixt_status take_turns(const run_settings *settings, generation_state *generation,
                              mixt_error *error)
{
    input_line line = {0};
    mixt_status status = MIXT_OK;
    while (status == MIXT_OK && !generation->full && !ferror(stdout)) {
        status = terminal_read_line("> ", &line, error);
        if (status != MIXT_OK || line.length < 0 || interrupt_status() != 0) {
            fputs(isatty(STDIN_FILENO) ? "\n" : "", stderr);
            break;
        }
        if (!text_is_utf8(line.text, (size_t)line.length)) {
            fputs("that line is not valid UTF-8\n", stderr);
            continue;
        }
        status = generation_feed(generation, line.text, (size_t)line.length, error);
        if (status == MIXT_OK) {
            status = generation_draw(generation, settings->predict, error);
            fputc('\n', stdout);
            fflush(stdout);
            generation_print_shifts(generation);
            interrupt_clear();
        } else if (status == MIXT_ERROR_INTERRUPTED && isatty(STDIN_FILENO)) {
            fputs("\nstopped before there was a continuation\n", stderr);
            interrupt_clear();
            *error = (mixt_error)MIXT_ERROR_INIT;
            status = MIXT_OK;
        } else if (error->status == MIXT_ERROR_ARGUMENT) {
            say(stderr, "%s\n", error->message);
            *error = (mixt_error)MIXT_ERROR_INIT;
            status = MIXT_OK;
        }
    }
    free(line.text);
    return status;
}

/* The prompt and what comes behind it. */
static mixt_status continue_prompt(const run_settings *settings, generation_state *generation,
                                   const char *prompt, size_t length, mixt_error *error)
{
    TRY(generation_feed(generation, prompt, length, error));
    TRY(prompt_cache_after_prompt(&settings->cache, generation, !settings->quiet, error));
    if (!settings->hide_prompt) {
        text_write(&generation->out, prompt, length);
        fflush(stdout);
    }
    mixt_status status = generation_draw(generation, settings->predict, error);
    fputc('\n', stdout);
    fflush(stdout);
    generation_print_shifts(generation);
    return status;
}

static mixt_status generate(const run_settings *settings, cli_resources *resources,
                            const char *prompt, size_t length, mixt_error *error)
{
    generation_state generation = {0};
    mixt_status status = open_all(&settings->model, resources, error);
    if (status == MIXT_OK) {
        status = generation_begin(resources, &settings->session, &generation, error);
    }
    if (status == MIXT_OK) {
        status = generation_take_draws(&generation, &settings->sampling, error);
    }
    if (status == MIXT_OK) {
        status = prompt_cache_read(&settings->cache, &generation, error);
    }
    if (status == MIXT_OK) {
        generation.shift = settings->shift;
        interrupt_begin();
        if (prompt != NULL) {
            status = continue_prompt(settings, &generation, prompt, length, error);
        }
        if (status == MIXT_OK && settings->interactive) {
            interrupt_clear();
            status = take_turns(settings, &generation, error);
        }
    }
    if (status == MIXT_OK) {
        status = prompt_cache_at_end(&settings->cache, &generation, error);
    }
    if (status == MIXT_OK && !settings->quiet && !ferror(stdout)) {
        generation_print_speed(&generation);
    }
    generation_end(&generation);
    return status;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* What a backslash and a letter stand for becomes it, in place; others stay. The new length. */
static size_t take_escapes(char *text, size_t length)
{
    static const char letters[] = "ntr\\\"'", characters[] = "\n\t\r\\\"'";
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        const char *known = text[i] == '\\' && i + 1 < length ? strchr(letters, text[i + 1]) : NULL;
        int high =
            text[i] == '\\' && i + 3 < length && text[i + 1] == 'x' ? hex_digit(text[i + 2]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 3]) : -1;
        if (known != NULL && *known != 0) {
            text[out++] = characters[known - letters];
            i++;
        } else if (low >= 0) {
            text[out++] = (char)(16 * high + low);
            i += 3;
        } else {
            text[out++] = text[i];
        }
    }
    text[out] = 0;
    return out;
}

/* The prompt with its escapes taken, malloc'd. */
static mixt_status unescape(const char *prompt, size_t *length, char **text, mixt_error *error)
{
    *text = malloc(*length + 1);
    if (*text == NULL) {
        return set_memory_error(error);
    }
    memcpy(*text, prompt, *length);
    *length = take_escapes(*text, *length);
    return text_is_utf8(*text, *length)
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_ARGUMENT, "--escape: the prompt is not valid UTF-8");
}

static int run_run(void *user, cli_arguments *arguments)
{
    run_settings *settings = user;
    if (settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    if (refuse_memory(&settings->model, arguments) != STATUS_DONE ||
        cache_type_of(&settings->kv, &settings->session.cache_type) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    if (settings->prompt != NULL && settings->file != NULL) {
        return fail_usage("--prompt and --file exclude each other");
    }
    if (settings->prompt == NULL && settings->file == NULL && !settings->interactive) {
        return fail_usage("--prompt, --file or --interactive: one is needed");
    }
    if (refuse_keep(arguments, &settings->shift) != STATUS_DONE ||
        prompt_cache_check(&settings->cache) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    char *read = NULL;
    const char *prompt = settings->prompt;
    size_t length = prompt != NULL ? strlen(prompt) : 0;
    bool from_stdin = prompt != NULL && strcmp(prompt, "-") == 0;
    if (from_stdin || settings->file != NULL) {
        const char *path = from_stdin ? "-" : settings->file;
        const char *name = from_stdin ? "standard input" : settings->file;
        char what[200];
        mixt_status status = files_read(path, PROMPT_BYTES_MAX, &read, &length, what);
        if (status != MIXT_OK) {
            return fail_with(exit_status(status), "%s: %s", name, what);
        }
        if (!text_is_utf8(read, length)) {
            free(read);
            return fail_with(STATUS_REFUSED, "%s: not valid UTF-8", name);
        }
        length -= length > 0 && read[length - 1] == '\n'; /* as llama.cpp does */
        prompt = read;
    }
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = MIXT_OK;
    char *plain = NULL;
    if (settings->escape && prompt != NULL) {
        status = unescape(prompt, &length, &plain, &error);
        prompt = plain;
    }
    if (status == MIXT_OK) {
        status = generate(settings, &resources, prompt, length, &error);
    }
    int signal_status = interrupt_status();
    resources_free(&resources);
    free(plain);
    free(read);
    return status != MIXT_OK ? fail_error(&error) : signal_status;
}

static int work_run(void *user, cli_arguments *arguments)
{
    const run_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_run = {
    .name = "run",
    .summary = "generate text from a model",
    .synopsis = "-m MODEL (-p TEXT | -f FILE | -i) [options]",
    .about = "Continues a prompt and prints the text as it comes. With -i it then reads lines and "
             "continues each one: Ctrl-C stops a continuation, Ctrl-C or Ctrl-D at the prompt "
             "leaves. Speed goes to standard error.",
    .examples = "  mixt run -m demo/model -p '#include <stdio.h>' -n 100\n"
                "  echo 'Question: What is 3 + 4?' | mixt run -m demo/model -p - --temp 0\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", run_options, 0},
                                  {"sampling", options_sampling, offsetof(run_settings, sampling)},
                                  GROUPS_OF_MODEL(run_settings, model),
                                  {0}},
    .settings_size = sizeof(run_settings),
    .defaults = run_defaults,
    .run = run_run,
    .work = work_run,
};
