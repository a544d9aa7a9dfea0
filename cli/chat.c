/* mixt chat: a conversation with a model, each turn through its chat template. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "generate.h"
#include "interrupt.h"
#include "terminal.h"

enum { TEMPLATE_FILE_MAX = 1 << 20 };

typedef struct chat_settings {
    model_settings model;
    mixt_sampling sampling;
    const char *system;
    const char *template;
    const char *variables;
    int64_t predict;
    int context_length;
    bool verbose;
} chat_settings;

static const cli_option chat_options[] = {
    OPTIONS_OF_MODEL(chat_settings, model),
    {.name = "system",
     .kind = OPTION_TEXT,
     .choices = "",
     .offset = offsetof(chat_settings, system),
     .value = "TEXT",
     .help = "what the system says before the first turn",
     .aliases = "system-prompt sys -sys"},
    {.name = "template",
     .kind = OPTION_TEXT,
     .offset = offsetof(chat_settings, template),
     .value = "FILE|NAME",
     .help = "a Jinja file, or a built-in template: chatml, llama2, llama3, mistral, deepseek, "
             "deepseek3, qwen3, olmoe, yuan2, skywork, gpt-oss, zephyr, gemma, phi3",
     .aliases = "chat-template chat-template-file",
     .fallback = "the model's"},
    {.name = "variables",
     .kind = OPTION_TEXT,
     .offset = offsetof(chat_settings, variables),
     .value = "JSON",
     .help = "further variables for the template, such as {\"enable_thinking\": false}",
     .aliases = "chat-template-kwargs"},
    OPTION_OF_PREDICT(chat_settings),
    OPTION_OF_CONTEXT(chat_settings),
    {.name = "verbose",
     .letter = 'v',
     .kind = OPTION_FLAG,
     .offset = offsetof(chat_settings, verbose),
     .help = "print the speed after each answer"},
    {0},
};

static void chat_defaults(void *user)
{
    chat_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->sampling = generation_sampling();
    settings->predict = -1;
}

/* ---- the conversation */

typedef struct conversation {
    mixt_chat_message *messages; /* contents are ours */
    size_t count, capacity;
    const char *template;
    char *template_read; /* from a file */
    char *bos, *eos;
    mixt_chat_options options;
} conversation;

static mixt_status add_message(conversation *talk, const char *role, const char *content,
                               size_t length, mixt_error *error)
{
    char *copy = malloc(length + 1);
    if (copy == NULL ||
        !list_grow(&talk->messages, &talk->capacity, talk->count + 1, sizeof *talk->messages)) {
        free(copy);
        return set_memory_error(error);
    }
    memcpy(copy, content, length);
    copy[length] = 0;
    talk->messages[talk->count++] = (mixt_chat_message){role, copy};
    return MIXT_OK;
}

static void drop_messages(conversation *talk, size_t keep)
{
    while (talk->count > keep) {
        free((char *)(uintptr_t)talk->messages[--talk->count].content);
    }
}

static void conversation_free(conversation *talk)
{
    drop_messages(talk, 0);
    free(talk->messages);
    free(talk->template_read);
    free(talk->bos);
    free(talk->eos);
    memset(talk, 0, sizeof *talk);
}

static size_t system_messages(const conversation *talk)
{
    return talk->count > 0 && strcmp(talk->messages[0].role, "system") == 0;
}

/* The text of a special token, malloc'd, or NULL where it has none. */
static mixt_status special_text(const mixt_tokenizer *tokenizer, mixt_special which, char **text,
                                mixt_error *error)
{
    size_t length = 0;
    int id = mixt_tokenizer_special(tokenizer, which);
    const char *bytes = id >= 0 ? mixt_tokenizer_bytes_of(tokenizer, id, &length) : NULL;
    *text = NULL;
    if (bytes == NULL || !text_is_utf8(bytes, length)) {
        return MIXT_OK;
    }
    *text = malloc(length + 1);
    if (*text == NULL) {
        return set_memory_error(error);
    }
    memcpy(*text, bytes, length);
    (*text)[length] = 0;
    return MIXT_OK;
}

/* The template that was asked for (built in, else a file), the model's own, or its family's. */
static mixt_status find_template(const chat_settings *settings, const cli_resources *resources,
                                 conversation *talk, mixt_error *error)
{
    char what[200];
    size_t length = 0;
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    talk->options.name = "the model's chat template";
    if (settings->template != NULL) {
        talk->options.name = settings->template;
        talk->template = mixt_chat_builtin(settings->template);
        mixt_status status = MIXT_OK;
        if (talk->template == NULL) {
            status = files_read(settings->template, TEMPLATE_FILE_MAX, &talk->template_read,
                                &length, what);
            talk->template = talk->template_read;
        }
        if (status != MIXT_OK) {
            return set_error(error, status,
                             "--template %.200s: no built-in template, and as a file: %.200s",
                             settings->template, what);
        }
        return talk->template_read != NULL && strlen(talk->template_read) != length
                   ? set_error(error, MIXT_ERROR_FORMAT, "%.300s: it holds a NUL",
                               settings->template)
                   : MIXT_OK;
    }
    talk->template = mixt_tokenizer_chat_template(resources->tokenizer);
    if (talk->template == NULL) {
        talk->template = mixt_chat_builtin(info.family);
        talk->options.name = "the built-in chat template";
        if (talk->template != NULL) {
            fprintf(stderr,
                    "the model has no chat template: taking the built-in one of its family, %s\n",
                    info.family);
        }
    }
    return talk->template != NULL
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_NOT_FOUND,
                           "%.300s: no chat template, and none is built in for %.60s: choose with "
                           "--template",
                           resources->model_path, info.family);
}

/* ---- turns */

/* Renders the conversation and makes it what the session has read. */
static mixt_status feed(conversation *talk, generation_state *generation, mixt_error *error)
{
    char *text = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    mixt_status status =
        mixt_chat_render(talk->template, talk->messages, talk->count, &talk->options, &text, error);
    if (status == MIXT_OK) {
        status = encode_text(generation->tokenizer, "the conversation", text, strlen(text), &ids,
                             &count, error);
    }
    free(text);
    int bos = mixt_tokenizer_around(generation->tokenizer, MIXT_SPECIAL_BOS);
    bool adds = status == MIXT_OK && bos >= 0 && (count == 0 || ids[0] != bos);
    if (adds) { /* the model expects it, and the template did not say it */
        int32_t *grown = realloc(ids, (count + 1) * sizeof *ids);
        if (grown == NULL) {
            status = set_memory_error(error);
        } else {
            ids = grown;
            memmove(ids + 1, ids, count * sizeof *ids);
            ids[0] = bos;
            count++;
        }
    }
    if (status == MIXT_OK) {
        status = generation_replace(generation, ids, count, error);
    }
    free(ids);
    return status;
}

/* What a conversation keeps of an answer: in gpt-oss' format the last message alone, as its
 * template wants it; elsewhere all of it but the space that encoding takes for the begin of a word.
 */
static const char *kept_part(const char *text)
{
    static const char mark[] = "<|message|>";
    const char *begin = text + (text[0] == ' ');
    for (const char *next = strstr(begin, mark); next != NULL; next = strstr(begin, mark)) {
        begin = next + strlen(mark);
    }
    return begin;
}

/* One answer, written as it comes and kept as a message. */
static mixt_status answer(const chat_settings *settings, conversation *talk,
                          generation_state *generation, mixt_error *error)
{
    char *text = NULL;
    size_t length = 0;
    size_t from = generation->count;
    generation->skip_space = true;
    mixt_status status = generation_draw(generation, settings->predict, error);
    fputc('\n', stdout);
    fflush(stdout);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_decode(generation->tokenizer, generation->tokens + from,
                                       generation->count - from, false, &text, &length, error);
    }
    if (status == MIXT_OK) {
        const char *begin = kept_part(text);
        bool is_whole = strlen(text) == length;
        length = strlen(begin);
        for (int i = 0; i < 3 && length > 0 && !text_is_utf8(begin, length); i++) {
            length--; /* an answer that ends inside of a character */
        }
        if (!is_whole || !text_is_utf8(begin, length)) {
            fputs("the answer is not valid UTF-8: it is left out of the conversation\n", stderr);
            begin = "";
            length = 0;
        }
        status = add_message(talk, "assistant", begin, length, error);
    }
    free(text);
    if (settings->verbose && status == MIXT_OK) {
        generation_print_speed(generation);
        generation->prompt_tokens = generation->drawn_tokens = 0;
        generation->prompt_seconds = generation->drawn_seconds = 0;
    }
    return status;
}

/* A message of the user and the answer to it. What the caller got wrong is said, and the message
 * forgotten, so that a person can go on. */
static mixt_status take_turn(const chat_settings *settings, conversation *talk,
                             generation_state *generation, const char *text, size_t length)
{
    mixt_error error = MIXT_ERROR_INIT;
    size_t before = talk->count;
    mixt_status status = add_message(talk, "user", text, length, &error);
    if (status == MIXT_OK) {
        status = feed(talk, generation, &error);
    }
    if (status == MIXT_OK) {
        status = answer(settings, talk, generation, &error);
    }
    if (status != MIXT_OK) {
        drop_messages(talk, before);
        fail_error(&error);
    }
    if (generation->full) {
        fprintf(stderr,
                "the context of %zu tokens is full: /reset begins anew, -c N makes it "
                "larger\n",
                generation->context_length);
    }
    return status;
}

typedef struct chat_line {
    char *text; /* lines that ended with a backslash, joined */
    size_t length, capacity;
    input_line line;
} chat_line;

typedef enum line_kind { LINE_TEXT, LINE_END, LINE_BAD, LINE_AGAIN, LINE_FAILED } line_kind;

static bool append_line(chat_line *read, const char *line, size_t length)
{
    if (!list_grow(&read->text, &read->capacity, read->length + length + 1, 1)) {
        return false;
    }
    memcpy(read->text + read->length, line, length);
    read->length += length;
    read->text[read->length] = 0;
    return true;
}

/* The next turn of the user, over several lines where they end with a backslash; together they are
 * bounded like one. */
static line_kind read_turn(chat_line *read, mixt_error *error)
{
    read->length = 0;
    for (;;) {
        if (terminal_read_line(read->length == 0 ? "> " : "... ", &read->line, error) != MIXT_OK) {
            return LINE_FAILED;
        }
        ssize_t length = read->line.length;
        bool by_hand = isatty(STDIN_FILENO) != 0;
        if (interrupt_status() == STATUS_INTERRUPTED && by_hand) {
            interrupt_clear(); /* a line that was typed right behind Ctrl-C counts */
            if (length < 0) {
                fputs("\n/exit or Ctrl-D leaves\n", stderr);
                return LINE_AGAIN;
            }
        }
        if (length < 0 || interrupt_status() != 0) {
            return read->length > 0 && interrupt_status() == 0 ? LINE_TEXT : LINE_END;
        }
        while (length > 0 && strchr("\r\n", read->line.text[length - 1]) != NULL) {
            length--;
        }
        bool goes_on = length > 0 && read->line.text[length - 1] == '\\';
        if (read->length + (size_t)length > LINE_BYTES_MAX) {
            set_error(error, MIXT_ERROR_ARGUMENT, "standard input: a turn of more than %d bytes",
                      LINE_BYTES_MAX);
            return LINE_FAILED;
        }
        if (!append_line(read, read->line.text, (size_t)length - goes_on) ||
            (goes_on && !append_line(read, "\n", 1))) {
            set_memory_error(error);
            return LINE_FAILED;
        }
        if (!goes_on) {
            bool good = text_is_utf8(read->text, read->length) &&
                        memchr(read->text, 0, read->length) == NULL;
            return !good ? LINE_BAD : read->length == 0 ? LINE_AGAIN : LINE_TEXT;
        }
    }
}

/* What begins with a slash at the terminal; false: leave. */
static bool obey(const char *command, conversation *talk)
{
    if (strcmp(command, "/exit") == 0 || strcmp(command, "/quit") == 0) {
        return false;
    }
    if (strcmp(command, "/reset") == 0) {
        drop_messages(talk, system_messages(talk));
        fputs("the conversation begins anew\n", stderr);
    } else {
        fprintf(stderr,
                "%s/exit leaves, /reset forgets the conversation, /help prints this\n"
                "a \\ at the end of a line continues it; Ctrl-C stops an answer\n",
                strcmp(command, "/help") == 0 ? "" : "no such command; ");
    }
    return true;
}

static mixt_status take_turns(const chat_settings *settings, conversation *talk,
                              generation_state *generation)
{
    chat_line read = {0};
    bool by_hand = isatty(STDIN_FILENO);
    mixt_status status = MIXT_OK;
    while (!ferror(stdout)) {
        mixt_error error = MIXT_ERROR_INIT;
        line_kind kind = read_turn(&read, &error);
        if (kind == LINE_FAILED) {
            fail_error(&error);
            status = error.status;
            break;
        }
        if (kind == LINE_END) {
            fputs(by_hand ? "\n" : "", stderr);
            break;
        }
        if (kind == LINE_BAD) {
            fputs("that line is not valid UTF-8\n", stderr);
        } else if (kind == LINE_TEXT && by_hand && read.text[0] == '/') {
            if (!obey(read.text, talk)) {
                break;
            }
        } else if (kind == LINE_TEXT) {
            status = take_turn(settings, talk, generation, read.text, read.length);
            if (status != MIXT_OK && (!by_hand || !mixt_status_is_refusal(status))) {
                break;
            }
            status = MIXT_OK;
            if (!by_hand && interrupt_status() != 0) {
                break;
            }
            if (interrupt_status() == STATUS_INTERRUPTED) {
                interrupt_clear();
            }
        }
    }
    free(read.text);
    free(read.line.text);
    return status;
}

/* The exit status; messages are printed. */
static int chat(const chat_settings *settings, cli_resources *resources, conversation *talk,
                generation_state *generation)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = open_all(&settings->model, resources, &error);
    if (status == MIXT_OK) {
        status = find_template(settings, resources, talk, &error);
    }
    if (status == MIXT_OK) {
        status = generation_begin(resources, settings->context_length, generation, &error);
    }
    if (status == MIXT_OK && settings->system != NULL) {
        status = add_message(talk, "system", settings->system, strlen(settings->system), &error);
    }
    if (status == MIXT_OK) {
        status = special_text(resources->tokenizer, MIXT_SPECIAL_BOS, &talk->bos, &error);
    }
    if (status == MIXT_OK) {
        status = special_text(resources->tokenizer, MIXT_SPECIAL_EOS, &talk->eos, &error);
    }
    if (status != MIXT_OK) {
        return fail_error(&error);
    }
    generation->sampling = settings->sampling;
    talk->options.add_generation_prompt = true;
    talk->options.bos_token = talk->bos;
    talk->options.eos_token = talk->eos;
    talk->options.variables = settings->variables;
    interrupt_begin();
    status = take_turns(settings, talk, generation);
    int signal_status = interrupt_status();
    return status == MIXT_OK ? signal_status : exit_status(status);
}

static int run_chat(void *user, cli_arguments *arguments)
{
    const chat_settings *settings = user;
    cli_resources resources = {0};
    conversation talk = {0};
    generation_state generation = {0};
    (void)arguments;
    if (settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    int status = chat(settings, &resources, &talk, &generation);
    generation_end(&generation);
    conversation_free(&talk);
    resources_free(&resources);
    return status;
}

const cli_command command_chat = {
    .name = "chat",
    .summary = "talk with a model through its chat template",
    .synopsis = "-m MODEL [options]",
    .about =
        "Reads what you say line by line and prints the model's answers as they come; a \\ at the "
        "end of a line continues it. At a terminal Ctrl-C stops an answer, /reset forgets the "
        "conversation, /exit or Ctrl-D leaves. Elsewhere each line of standard input is a turn, "
        "and standard output holds the answers alone. The template is the model's own unless "
        "--template names another.",
    .examples = "  mixt chat -m model --system 'Answer in one sentence.'\n"
                "  printf 'Hello\\nAnd again\\n' | mixt chat -m model --temp 0 -n 50\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", chat_options, 0},
                                  {"sampling", options_sampling, offsetof(chat_settings, sampling)},
                                  GROUPS_OF_MODEL(chat_settings, model),
                                  {0}},
    .settings_size = sizeof(chat_settings),
    .defaults = chat_defaults,
    .run = run_chat,
};
