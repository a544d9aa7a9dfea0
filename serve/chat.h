/* Conversations: messages and tools as a prompt through the model's template, and calls of tools in
 * what the model replied. */
#ifndef MIXT_SERVE_CHAT_H
#define MIXT_SERVE_CHAT_H

#include "request.h"

typedef struct chat_input {
    const json_t *messages;
    const json_t *tools;     /* NULL: none */
    const json_t *variables; /* further ones for the template, or NULL */
    bool no_generation_prompt;
} chat_input;

/* The text that the messages become; malloc'd, NULL: the problem is set. */
char *chat_render(const serve_server *server, const chat_input *input, api_problem *problem);
bool chat_prompt(const serve_server *server, const chat_input *input, generation_prompt *prompt,
                 api_problem *problem);

/* How a model's template has it call tools. */
typedef enum tool_form {
    TOOLS_UNKNOWN, /* calls are text like any other */
    TOOLS_TAGS,    /* <tool_call>{"name": ..., "arguments": ...}</tool_call> (Hermes, Qwen) */
    TOOLS_JSON,    /* {"name": ..., "parameters": ...} is the whole reply (Llama 3) */
    TOOLS_MARK,    /* [TOOL_CALLS][{"name": ..., "arguments": ...}, ...] (Mistral) */
    TOOLS_ARGS,    /* [TOOL_CALLS]name[ARGS]{...}, again for each further call (newer Mistral) */
} tool_form;

tool_form tool_form_of(const char *chat_template);
/* Whether there is a template that has a word in it, as one has that reads a variable. */
bool template_names(const serve_server *server, const char *word);

typedef struct tool_call {
    char *name, *arguments; /* JSON text as the model wrote it */
} tool_call;

typedef struct tool_calls {
    tool_form form;
    tool_call *calls;
    size_t count;
    size_t content;     /* bytes of the text before them */
    text_buffer behind; /* text between and behind them that is no call */
} tool_calls;

/* The calls in a whole reply. What does not follow the form is text, and so are thoughts, whatever
 * they speak of. */
tool_calls tool_calls_read(tool_form form, const char *text, size_t length);
void tool_calls_free(tool_calls *calls);
/* Forgets all but the first `count`. */
void tool_calls_cut(tool_calls *calls, size_t count);
/* The reply's text without the calls, from its byte `shown` on. */
text_buffer tool_calls_content(const tool_calls *calls, const char *text, size_t shown);
/* The arguments as a JSON value without space. */
void write_arguments(const tool_call *call, text_buffer *out);
/* How much of the beginning of a reply is certainly no call; never less when more has come. */
size_t tool_calls_begin(tool_form form, const char *text, size_t length);
/* Checks OpenAI's `tools`, and with `choice` "required" or a function's name makes a grammar of
 * calls into the request. *used: whether the template gets the tools. */
bool tool_choice_read(const serve_server *server, const json_t *tools, const json_t *choice,
                      api_request *request, bool *used, api_problem *problem);
/* [{"id":...,"type":"function","function":{...}}] of the reply that `id` names; with `indexed` as
 * a stream has them. */
void write_tool_calls(const tool_calls *calls, const char *id, bool indexed, text_buffer *out);

#endif
