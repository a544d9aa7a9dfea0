/* mixt chat: a conversation with a model, each turn through its chat template. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "interrupt.h"

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
    OPTIONS_OF_SHIFT(chat_settings),
    {.name = "verbose",
     .letter = 'v',
     .kind = OPTION_FLAG,
     .offset = offsetof(chat_settings, verbose),
     .help = "print the speed after each answer",
     .aliases = "show-timings"},
    {.name = "no-history",
     .kind = OPTION_FLAG,
     .offset = offsetof(chat_settings, no_history),
     .help = "neither read nor write the file of lines that were typed"},
    {0},
};

static void chat_defaults(void *user)
{
    chat_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
    settings->sampling = sampler_defaults();
    settings->predict = -1;
}

static void chat_free(chat_state *chat)
{
    editor_free(chat->editor);
    generation_end(&chat->generation);
    conversation_free(&chat->talk);
    free(chat->template.read);
    free(chat->bos);
    free(chat->eos);
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

static mixt_status choose_template(const cli_resources *resources, chat_state *chat,
                                   mixt_error *error)
{
    const chat_template *found = &chat->template;
    mixt_model_info info;
    TRY(find_template(chat->settings->template, resources, &chat->template, error));
    mixt_model_describe(resources->model, &info);
    chat->options.name = found->name;
    if (found->of_family) {
        fprintf(stderr,
                "the model has no chat template: taking the built-in one of its family, %s\n",
                info.family);
    }
    return found->text != NULL
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_NOT_FOUND,
                           "%.300s: no chat template, and none is built in for %.60s: choose with "
                           "--template",
                           resources->model_path, info.family);
}

/* ---- turns */

/* The first `messages` of the conversation as the model reads them. */
static mixt_status encode_messages(const chat_state *chat, size_t messages, int32_t **ids,
                                   size_t *count, mixt_error *error)
{
    char *text = NULL;
    const mixt_tokenizer *tokenizer = chat->generation.tokenizer;
    *ids = NULL;
    mixt_status status = mixt_chat_render(chat->template.text, chat->talk.messages, messages,
                                          &chat->options, &text, error);
    if (status == MIXT_OK) {
        status = encode_text(tokenizer, "the conversation", text, strlen(text), ids, count, error);
    }
    free(text);
    int bos = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    bool adds = status == MIXT_OK && bos >= 0 && (*count == 0 || (*ids)[0] != bos);
    if (adds) { /* the model expects it, and the template did not say it */
        int32_t *grown = realloc(*ids, (*count + 1) * sizeof *grown);
        if (grown == NULL) {
            return set_memory_error(error);
        }
        *ids = grown;
        memmove(grown + 1, grown, *count * sizeof *grown);
        grown[0] = bos;
        ++*count;
    }
    return status;
}

/* What --keep -1 keeps of these ids: all before the first answer. */
static mixt_status measure_prompt(chat_state *chat, const int32_t *ids, size_t count,
                                  mixt_error *error)
{
    int32_t *first = NULL;
    size_t length = 0, same = 0, messages = conversation_systems(&chat->talk) + 1;
    messages = messages < chat->talk.count ? messages : chat->talk.count;
    mixt_status status = encode_messages(chat, messages, &first, &length, error);
    while (status == MIXT_OK && same < length && same < count && first[same] == ids[same]) {
        same++;
    }
    chat->generation.prompt_count = same;
    free(first);
    return status;
}

/* Renders the conversation and makes it what the session has read. */
static mixt_status feed(chat_state *chat, mixt_error *error)
{
    int32_t *ids = NULL;
    size_t count = 0;
    mixt_status status = encode_messages(chat, chat->talk.count, &ids, &count, error);
    if (status == MIXT_OK && chat->generation.shift.on) {
        status = measure_prompt(chat, ids, count, error);
    }
    if (status == MIXT_OK) {
        status = generation_replace(&chat->generation, ids, count, error);
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
static mixt_status answer(chat_state *chat, mixt_error *error)
{
    generation_state *generation = &chat->generation;
    char *text = NULL;
    size_t length = 0;
    generation->skip_space = true;
    generation->answers_before = conversation_count(&chat->talk, "assistant");
    mixt_status status = generation_draw(generation, chat->settings->predict, error);
    fputc('\n', stdout);
    fflush(stdout);
    generation_print_shifts(generation);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_decode(generation->tokenizer, generation->drawn,
                                       generation->drawn_count, false, &text, &length, error);
    }
    if (status == MIXT_OK) {
        length = generation_cut(generation, text, length);
        text[length] = 0;
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
        status = conversation_add(&chat->talk, "assistant", begin, length, error);
    }
    free(text);
    if (chat->settings->verbose && status == MIXT_OK) {
        generation_print_speed(generation);
        generation->prompt_tokens = generation->drawn_tokens = 0;
        generation->prompt_seconds = generation->drawn_seconds = 0;
    }
    return status;
}

/* What the caller got wrong is said, and the message forgotten, so that a person can go on. */
mixt_status chat_answer(chat_state *chat, size_t before)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = feed(chat, &error);
    if (status == MIXT_OK) {
        status = answer(chat, &error);
    }
    if (status != MIXT_OK) {
        conversation_drop(&chat->talk, before);
    }
    if (status == MIXT_ERROR_INTERRUPTED) {
        fputs(chat->editor != NULL ? "\nstopped before there was an answer\n" : "", stderr);
    } else if (status != MIXT_OK) {
        fail_error(&error);
    }
    if (chat->generation.full) {
        fprintf(stderr,
                "the context of %zu tokens is full: /reset begins anew, -c N makes it "
                "larger, --context-shift goes on in it\n",
                chat->generation.context_length);
    }
    return status;
}

/* A message of the user and the answer to it. */
static mixt_status take_turn(chat_state *chat, const char *text, size_t length)
{
    mixt_error error = MIXT_ERROR_INIT;
    size_t before = chat->talk.count;
    if (conversation_add(&chat->talk, "user", text, length, &error) != MIXT_OK) {
        fail_error(&error);
        return error.status;
    }
    return chat_answer(chat, before);
}

typedef struct chat_line {
    char *text; /* lines that ended with a backslash, joined */
    size_t length, capacity;
    input_line line;
    int empty_interrupts; /* Ctrl-C at an empty prompt, one behind the other */
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

/* Ctrl-C while a line is awaited: what was typed is forgotten. At an empty prompt the second one
 * leaves. */
static line_kind meet_interrupt(chat_line *read, bool typed)
{
    interrupt_clear();
    read->empty_interrupts = typed || read->length > 0 ? 0 : read->empty_interrupts + 1;
    if (read->empty_interrupts == 2) {
        return LINE_END;
    }
    fputs(read->empty_interrupts == 1 ? "\n/exit or Ctrl-D leaves, or Ctrl-C once more\n" : "\n",
          stderr);
    return LINE_AGAIN;
}

/* The next turn of the user, over several lines where they end with a backslash; together they are
 * bounded like one. */
static line_kind read_turn(const chat_state *chat, chat_line *read, mixt_error *error)
{
    read->length = 0;
    for (;;) {
        bool typed = false;
        const char *prompt = read->length == 0 ? "> " : "... ";
        mixt_status status = chat->editor != NULL
                                 ? editor_read(chat->editor, prompt, &read->line, &typed, error)
                                 : terminal_read_line(prompt, &read->line, error);
        if (status != MIXT_OK) {
            return LINE_FAILED;
        }
        ssize_t length = read->line.length;
        if (interrupt_status() == STATUS_INTERRUPTED && isatty(STDIN_FILENO)) {
            if (length < 0) {
                return meet_interrupt(read, typed);
            }
            interrupt_clear(); /* a line that was typed right behind Ctrl-C counts */
        }
        read->empty_interrupts = 0;
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

/* A turn or a command; false: leave. */
static bool take_text(chat_state *chat, const chat_line *read, bool by_hand, mixt_status *status)
{
    if (chat->editor != NULL) {
        editor_remember(chat->editor, read->text);
    }
    if (by_hand && read->text[0] == '/') {
        if (!chat_obey(chat, read->text)) {
            return false;
        }
    } else {
        size_t space = by_hand && read->text[0] == ' ' && read->text[1] == '/'; /* no command */
        *status = take_turn(chat, read->text + space, read->length - space);
        if (*status != MIXT_OK &&
            (!by_hand || !(mixt_status_is_refusal(*status) || *status == MIXT_ERROR_INTERRUPTED))) {
            return false;
        }
    }
    *status = MIXT_OK;
    if (!by_hand && interrupt_status() != 0) {
        return false;
    }
    if (interrupt_status() == STATUS_INTERRUPTED) {
        interrupt_clear();
    }
    return true;
}

static mixt_status take_turns(chat_state *chat)
{
    chat_line read = {0};
    bool by_hand = isatty(STDIN_FILENO);
    mixt_status status = MIXT_OK;
    for (bool on = true; on && !ferror(stdout);) {
        mixt_error error = MIXT_ERROR_INIT;
        line_kind kind = read_turn(chat, &read, &error);
        if (kind == LINE_FAILED) {
            fail_error(&error);
            status = error.status;
            on = by_hand && status == MIXT_ERROR_ARGUMENT; /* a paste that is too long */
        } else if (kind == LINE_END) {
            fputs(by_hand ? "\n" : "", stderr);
            break;
        } else if (kind == LINE_BAD) {
            fputs("that line is not valid UTF-8\n", stderr);
        } else if (kind == LINE_TEXT) {
            on = take_text(chat, &read, by_hand, &status);
        }
    }
    free(read.text);
    free(read.line.text);
    return status;
}

static mixt_status open_chat(chat_state *chat, cli_resources *resources, mixt_error *error)
{
    const chat_settings *settings = chat->settings;
    TRY(open_all(&settings->model, resources, error));
    TRY(choose_template(resources, chat, error));
    TRY(generation_begin(resources, &settings->session, &chat->generation, error));
    TRY(special_text(resources->tokenizer, MIXT_SPECIAL_BOS, &chat->bos, error));
    TRY(special_text(resources->tokenizer, MIXT_SPECIAL_EOS, &chat->eos, error));
    chat->model = resources->model;
    TRY(generation_take_draws(&chat->generation, &settings->sampling, error));
    chat->generation.shift = settings->shift;
    chat->generation.keep_routes = chat->generation.moe_layers > 0;
    chat->options.add_generation_prompt = true;
    chat->options.bos_token = chat->bos;
    chat->options.eos_token = chat->eos;
    chat->options.variables = settings->variables;
    if (editor_is_possible()) {
        const editor_options options = {.word = chat_word, .no_history = settings->no_history};
        chat->editor = editor_create(&options);
        if (chat->editor == NULL) {
            return set_memory_error(error);
        }
    }
    return settings->system != NULL ? conversation_set_system(&chat->talk, settings->system, error)
                                    : MIXT_OK;
}

/* The exit status; messages are printed. */
static int chat_through(chat_state *chat, cli_resources *resources)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (open_chat(chat, resources, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    interrupt_begin();
    interrupt_be_patient(isatty(STDIN_FILENO));
    mixt_status status = take_turns(chat);
    int signal_status = interrupt_status();
    return status == MIXT_OK || signal_status != 0 ? signal_status : exit_status(status);
}

static int run_chat(void *user, cli_arguments *arguments)
{
    cli_resources resources = {0};
    chat_settings *settings = user;
    chat_state chat = {.settings = settings};
    if (chat.settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    if (refuse_memory(&settings->model, arguments) != STATUS_DONE ||
        cache_type_of(&settings->kv, &settings->session.cache_type) != STATUS_DONE ||
        refuse_keep(arguments, &chat.settings->shift) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    int status = chat_through(&chat, &resources);
    chat_free(&chat);
    resources_free(&resources);
    return status;
}

static int work_chat(void *user, cli_arguments *arguments)
{
    const chat_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_chat = {
    .name = "chat",
    .summary = "talk with a model through its chat template",
    .synopsis = "-m MODEL [options]",
    .about =
        "Reads what you say line by line and prints the model's answers as they come; a \\ at the "
        "end of a line continues it. At a terminal lines are edited and kept in a history, a paste "
        "of several lines is one message, /help lists commands, Ctrl-C stops an answer, and /exit "
        "or Ctrl-D leaves. Elsewhere each line of standard input is a turn, "
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
    .work = work_chat,
};
