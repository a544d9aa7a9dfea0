#include "conversation.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

enum { FILE_BYTES_MAX = 64 << 20 };

static void free_message(mixt_chat_message *message)
{
    free((char *)(uintptr_t)message->role);
    free((char *)(uintptr_t)message->content);
}

void conversation_drop(conversation *talk, size_t keep)
{
    while (talk->count > keep) {
        free_message(&talk->messages[--talk->count]);
    }
}

void conversation_free(conversation *talk)
{
    conversation_drop(talk, 0);
    free(talk->messages);
    memset(talk, 0, sizeof *talk);
}

/* Copies of both, or an error. */
static mixt_status make_message(const char *role, const char *content, size_t length,
                                mixt_chat_message *message, mixt_error *error)
{
    char *name = strdup(role), *copy = malloc(length + 1);
    if (name == NULL || copy == NULL) {
        free(name);
        free(copy);
        return set_memory_error(error);
    }
    memcpy(copy, content, length);
    copy[length] = 0;
    *message = (mixt_chat_message){name, copy};
    return MIXT_OK;
}

mixt_status conversation_add(conversation *talk, const char *role, const char *content,
                             size_t length, mixt_error *error)
{
    if (!list_grow(&talk->messages, &talk->capacity, talk->count + 1, sizeof *talk->messages)) {
        return set_memory_error(error);
    }
    TRY(make_message(role, content, length, &talk->messages[talk->count], error));
    talk->count++;
    return MIXT_OK;
}

size_t conversation_count(const conversation *talk, const char *role)
{
    size_t count = 0;
    for (size_t i = 0; i < talk->count; i++) {
        count += strcmp(talk->messages[i].role, role) == 0;
    }
    return count;
}

bool conversation_ends_with(const conversation *talk, const char *role)
{
    return talk->count > 0 && strcmp(talk->messages[talk->count - 1].role, role) == 0;
}

size_t conversation_systems(const conversation *talk)
{
    return talk->count > 0 && strcmp(talk->messages[0].role, "system") == 0;
}

mixt_status conversation_set_system(conversation *talk, const char *text, mixt_error *error)
{
    mixt_chat_message message;
    size_t there = conversation_systems(talk);
    if (!list_grow(&talk->messages, &talk->capacity, talk->count + 1, sizeof *talk->messages)) {
        return set_memory_error(error);
    }
    TRY(make_message("system", text, strlen(text), &message, error));
    if (there > 0) {
        free_message(&talk->messages[0]);
    } else {
        memmove(talk->messages + 1, talk->messages, talk->count * sizeof *talk->messages);
        talk->count++;
    }
    talk->messages[0] = message;
    return MIXT_OK;
}

/* ---- files */

static json_t *describe(const conversation *talk)
{
    json_t *messages = json_array(), *root = json_object();
    bool good = messages != NULL && root != NULL;
    for (size_t i = 0; good && i < talk->count; i++) {
        json_t *message = json_object();
        good = message != NULL && json_array_append_new(messages, message) == 0 &&
               json_object_set_new(message, "role", json_string(talk->messages[i].role)) == 0 &&
               json_object_set_new(message, "content", json_string(talk->messages[i].content)) == 0;
    }
    good = good && json_object_set(root, "messages", messages) == 0;
    json_decref(messages);
    if (!good) {
        json_decref(root);
        root = NULL;
    }
    return root;
}

mixt_status conversation_save(const conversation *talk, const char *path, mixt_error *error)
{
    json_t *root = describe(talk);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return set_memory_error(error);
    }
    size_t length = strlen(text);
    text[length] = '\n'; /* in place of the NUL */
    mixt_status status = files_is_folder(path)
                             ? set_error(error, MIXT_ERROR_ARGUMENT, "%.400s: it is a folder", path)
                         : files_replace(path, text, length + 1) ? MIXT_OK
                                                                 : set_io_error(error, path);
    free(text);
    return status;
}

/* The texts of a list of parts, joined; malloc'd, NULL where one is something else. */
static char *join_parts(const json_t *parts)
{
    char *joined = NULL;
    size_t length = 0, capacity = 0;
    bool good = list_grow(&joined, &capacity, 1, 1);
    for (size_t i = 0; good && i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *text = json_string_value(json_object_get(part, "text"));
        size_t size = text != NULL ? strlen(text) : 0;
        good = text != NULL && type != NULL && strcmp(type, "text") == 0 &&
               list_grow(&joined, &capacity, length + size + 1, 1);
        if (good) {
            memcpy(joined + length, text, size);
            length += size;
        }
    }
    if (!good) {
        free(joined);
        return NULL;
    }
    joined[length] = 0;
    return joined;
}

static mixt_status take_message(conversation *talk, const json_t *message, size_t place,
                                const char *path, mixt_error *error)
{
    const char *key;
    json_t *value;
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    if (role == NULL || role[0] == 0) {
        return set_error(error, MIXT_ERROR_FORMAT, "%.400s: message %zu: it has no role", path,
                         place);
    }
    json_object_foreach((json_t *)(uintptr_t)message, key, value)
    {
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0 && !json_is_null(value)) {
            return set_error(error, MIXT_ERROR_FORMAT,
                             "%.400s: message %zu: \"%.60s\" is not kept by mixt chat", path, place,
                             key);
        }
    }
    if (json_is_string(content)) {
        return conversation_add(talk, role, json_string_value(content), json_string_length(content),
                                error);
    }
    char *joined = json_is_array(content) ? join_parts(content) : NULL;
    mixt_status status =
        joined != NULL ? conversation_add(talk, role, joined, strlen(joined), error)
                       : set_error(error, MIXT_ERROR_FORMAT,
                                   "%.400s: message %zu: content must be a text or a list of texts",
                                   path, place);
    free(joined);
    return status;
}

mixt_status conversation_load(conversation *talk, const char *path, mixt_error *error)
{
    char what[200];
    char *data = NULL;
    size_t length = 0;
    json_error_t problem;
    conversation read = {0};
    mixt_status status = files_read(path, FILE_BYTES_MAX, &data, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "%.400s: %s", path, what);
    }
    json_t *root = json_loadb(data, length, JSON_REJECT_DUPLICATES, &problem);
    free(data);
    if (root == NULL) {
        return set_error(error, MIXT_ERROR_FORMAT, "%.400s: line %d: %.100s", path, problem.line,
                         problem.text);
    }
    const json_t *messages = json_is_array(root) ? root : json_object_get(root, "messages");
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        status = set_error(error, MIXT_ERROR_FORMAT, "%.400s: no list of messages", path);
    }
    for (size_t i = 0; status == MIXT_OK && i < json_array_size(messages); i++) {
        status = take_message(&read, json_array_get(messages, i), i + 1, path, error);
    }
    json_decref(root);
    if (status != MIXT_OK) {
        conversation_free(&read);
        return status;
    }
    conversation_free(talk);
    *talk = read;
    return MIXT_OK;
}
