/* What the files of mixt chat share. */
#ifndef MIXT_CLI_CHAT_H
#define MIXT_CLI_CHAT_H

#include "conversation.h"
#include "editor.h"
#include "generate.h"

typedef struct chat_settings {
    model_settings model;
    sampler_settings sampling;
    const char *system;
    const char *template;
    const char *variables;
    int64_t predict;
    mixt_session_options session;
    cache_settings kv;
    shift_settings shift;
    bool verbose;
    bool no_history;
} chat_settings;

/* One run of the command. */
typedef struct chat_state {
    const chat_settings *settings;
    const mixt_model *model;
    conversation talk;
    chat_template template;
    char *bos, *eos;
    mixt_chat_options options;
    generation_state generation;
    editor *editor; /* NULL: standard input is no terminal */
} chat_state;

/* The answer to the conversation as it stands, written as it comes and kept as a message; what goes
 * wrong is said, and behind an error the conversation has `before` messages. */
mixt_status chat_answer(chat_state *chat, size_t before);

/* What begins with a slash (chat_commands.c). */
/* Their names, as editor_options wants them. */
const char *chat_word(int index, bool *takes_file);
/* false: leave. */
bool chat_obey(chat_state *chat, const char *line);

/* The experts of the last answer by layer (chat_route.c). */
void chat_print_routes(const chat_state *chat, FILE *stream);

#endif
