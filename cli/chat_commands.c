/* What a person says to mixt chat itself. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"

typedef struct chat_command {
    const char *name;
    const char *value; /* what stands behind it; NULL: nothing may */
    const char *help;
    bool optional;                                     /* the value */
    bool (*obey)(chat_state *chat, const char *value); /* false: leave */
} chat_command;

static bool leave(chat_state *chat, const char *value)
{
    (void)chat;
    (void)value;
    return false;
}

static bool clear(chat_state *chat, const char *value)
{
    (void)value;
    conversation_drop(&chat->talk, conversation_systems(&chat->talk));
    fputs("the conversation begins anew\n", stderr);
    return true;
}

/* What a message begins with, in one line. */
static void print_begin(const char *text)
{
    size_t length = 0;
    for (int columns = 0; text[length] != 0 && text[length] != '\n' && columns < 60; columns++) {
        length++;
        while (((unsigned char)text[length] & 0xc0) == 0x80) {
            length++;
        }
    }
    say(stderr, "%.*s%s\n", (int)length, text, text[length] != 0 ? " ..." : "");
}

/* Messages behind the last one of the user, that among them where `with` says so. */
static bool drop_turn(chat_state *chat, bool with)
{
    const conversation *talk = &chat->talk;
    size_t keep = talk->count;
    while (keep > 0 && strcmp(talk->messages[keep - 1].role, "user") != 0) {
        keep--;
    }
    if (keep == 0) {
        fputs("there is no turn yet\n", stderr);
        return false;
    }
    if (with) {
        fputs("forgotten: ", stderr);
        print_begin(talk->messages[keep - 1].content);
    }
    conversation_drop(&chat->talk, with ? keep - 1 : keep);
    return true;
}

static bool undo(chat_state *chat, const char *value)
{
    (void)value;
    drop_turn(chat, true);
    return true;
}

/* The same draws would give the same answer: they are those of the next seed. */
static bool answer_again(chat_state *chat, const char *value)
{
    (void)value;
    bool answered = conversation_ends_with(&chat->talk, "assistant");
    if (!drop_turn(chat, false)) {
        return true;
    }
    if (answered && chat->generation.draws.options.sampling.temperature > 0) {
        chat->generation.draws.options.sampling.seed++;
        fprintf(stderr, "the seed is %llu now\n",
                (unsigned long long)chat->generation.draws.options.sampling.seed);
    }
    chat_answer(chat, chat->talk.count);
    return true;
}

static bool set_system(chat_state *chat, const char *value)
{
    mixt_error error = MIXT_ERROR_INIT;
    const conversation *talk = &chat->talk;
    if (value[0] == 0) {
        bool there = conversation_systems(talk) > 0;
        say(stderr, "%s%s\n", there ? "the system says: " : "the system says nothing",
            there ? talk->messages[0].content : "");
    } else if (conversation_set_system(&chat->talk, value, &error) != MIXT_OK) {
        fail_error(&error);
    } else {
        fputs("from now on the system says this, before all that was said\n", stderr);
    }
    return true;
}

/* "~/" as a shell reads it, and no blanks at the end; malloc'd. */
static char *expand(const char *path, mixt_error *error)
{
    const char *home = path[0] == '~' && path[1] == '/' ? getenv("HOME") : NULL;
    size_t size = strlen(path) + (home != NULL ? strlen(home) : 0) + 1;
    char *text = malloc(size);
    if (text == NULL) {
        set_memory_error(error);
        return NULL;
    }
    snprintf(text, size, "%s%s", home != NULL ? home : "", home != NULL ? path + 1 : path);
    for (size_t end = strlen(text); end > 0 && strchr(" \t", text[end - 1]) != NULL; end--) {
        text[end - 1] = 0; /* what completion or a finger left */
    }
    return text;
}

static void move_file(chat_state *chat, const char *value, bool is_load)
{
    mixt_error error = MIXT_ERROR_INIT;
    char *path = expand(value, &error);
    mixt_status status = path == NULL ? error.status
                         : is_load    ? conversation_load(&chat->talk, path, &error)
                                      : conversation_save(&chat->talk, path, &error);
    if (status != MIXT_OK) {
        fail_error(&error);
    } else {
        say(stderr, "%s: %zu message%s %s\n", path, chat->talk.count, plural(chat->talk.count),
            is_load ? "read" : "written");
        if (is_load && conversation_ends_with(&chat->talk, "user")) {
            fputs("the last one has no answer: /regen gives one\n", stderr);
        }
    }
    free(path);
}

static bool save(chat_state *chat, const char *value)
{
    move_file(chat, value, false);
    return true;
}

static bool load(chat_state *chat, const char *value)
{
    move_file(chat, value, true);
    return true;
}

static bool show_routes(chat_state *chat, const char *value)
{
    (void)value;
    chat_print_routes(chat, stderr);
    return true;
}

static bool show_store(chat_state *chat, const char *value)
{
    (void)value;
    store_print_report(chat->model);
    return true;
}

static bool help(chat_state *chat, const char *value);

static const chat_command chat_commands[] = {
    {"/help", NULL, "prints this", false, help},
    {"/save", "FILE", "writes the conversation as JSON: OpenAI's messages", false, save},
    {"/load", "FILE", "goes on with the conversation in such a file", false, load},
    {"/regen", NULL, "answers once more, by the next seed", false, answer_again},
    {"/undo", NULL, "forgets the last turn", false, undo},
    {"/system", "TEXT", "what the system says before the first turn; alone shows it", true,
     set_system},
    {"/route", NULL, "shows the experts of the last answer, layer by layer", false, show_routes},
    {"/store", NULL, "what was read of experts on disk, and what hit (--memory)", false,
     show_store},
    {"/clear", NULL, "forgets the conversation, but not what the system says", false, clear},
    {"/reset", NULL, "the same", false, clear},
    {"/exit", NULL, "leaves, as Ctrl-D does", false, leave},
    {"/quit", NULL, "the same", false, leave},
    {0},
};

const char *chat_word(int index, bool *takes_file)
{
    const chat_command *row = &chat_commands[index];
    *takes_file = row->value != NULL && strcmp(row->value, "FILE") == 0;
    return row->name;
}

static bool help(chat_state *chat, const char *value)
{
    (void)chat;
    (void)value;
    for (const chat_command *row = chat_commands; row->name != NULL; row++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", row->name, row->value != NULL ? row->value : "");
        fprintf(stderr, "%-14s %s\n", left, row->help);
    }
    fputs("A \\ at the end of a line continues it, a paste of several lines is one message, and\n"
          "a space before a / sends it to the model. Ctrl-C stops an answer.\n",
          stderr);
    return true;
}

static void refuse_unknown(const char *name)
{
    const char *nearest = NULL;
    int least = INT_MAX;
    for (const chat_command *row = chat_commands; row->name != NULL; row++) {
        int distance = options_distance(name, row->name);
        if (distance >= 0 && distance < least) {
            least = distance;
            nearest = row->name;
        }
    }
    if (nearest != NULL) {
        say(stderr, "%.80s: no such command; is it %s?\n", name, nearest);
    } else {
        say(stderr, "%.80s: no such command; /help lists them\n", name);
    }
}

bool chat_obey(chat_state *chat, const char *line)
{
    char name[80];
    size_t length = strcspn(line, " \t\n");
    const char *value = line + length + strspn(line + length, " \t\n");
    snprintf(name, sizeof name, "%.*s", (int)(length < 79 ? length : 79), line);
    for (const chat_command *row = chat_commands; row->name != NULL; row++) {
        if (strcmp(row->name, name) != 0) {
            continue;
        }
        if (row->value == NULL ? value[0] != 0 : value[0] == 0 && !row->optional) {
            fprintf(stderr,
                    row->value == NULL ? "%s takes nothing behind it\n" : "%s %s: it is needed\n",
                    row->name, row->value);
            return true;
        }
        return row->obey(chat, value);
    }
    refuse_unknown(name);
    return true;
}
