/* The messages of a chat, and the files in which they are kept. */
#ifndef MIXT_CLI_CONVERSATION_H
#define MIXT_CLI_CONVERSATION_H

#include "cli.h"

typedef struct conversation {
    mixt_chat_message *messages; /* roles and contents are ours */
    size_t count, capacity;
} conversation;

void conversation_free(conversation *talk);
mixt_status conversation_add(conversation *talk, const char *role, const char *content,
                             size_t length, mixt_error *error);
/* Forgets all behind the first `keep`. */
void conversation_drop(conversation *talk, size_t keep);
/* 1 where it begins with a message of the system, else 0. */
size_t conversation_systems(const conversation *talk);
/* Puts a message of the system first, in place of the one that is there. */
mixt_status conversation_set_system(conversation *talk, const char *text, mixt_error *error);
/* Messages of this role. */
size_t conversation_count(const conversation *talk, const char *role);
bool conversation_ends_with(const conversation *talk, const char *role);

/* A JSON object whose "messages" are those of OpenAI's chat completions: role and content. */
mixt_status conversation_save(const conversation *talk, const char *path, mixt_error *error);
/* Such an object, or the array alone; contents may be lists of texts. What cannot be kept (other
 * contents, calls of tools) is refused by name. `talk` is replaced only where all is good. */
mixt_status conversation_load(conversation *talk, const char *path, mixt_error *error);

#endif
