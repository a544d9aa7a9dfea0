/* The public half of chat templates: messages in, text out; and the built-in templates. */
#include <string.h>

#include "formats/json.h"
#include "template/template.h"

static const struct {
    const char *name;
    const char *families; /* separated by spaces */
    const char *text;
} templates[] = {
#define CHAT_TEMPLATE(name, families, text) {name, families, text},
#include "template/chat_templates.def"
#undef CHAT_TEMPLATE
};

enum { TEMPLATE_COUNT = sizeof templates / sizeof templates[0] };

static bool has_word(const char *words, const char *word)
{
    size_t length = strlen(word);
    while (*words != '\0') {
        size_t size = strcspn(words, " ");
        if (size == length && memcmp(words, word, length) == 0) {
            return true;
        }
        words += size + (words[size] == ' ');
    }
    return false;
}

const char *mixt_chat_builtin(const char *name)
{
    for (int i = 0; i < TEMPLATE_COUNT; i++) {
        if (strcmp(templates[i].name, name) == 0 || has_word(templates[i].families, name)) {
            return templates[i].text;
        }
    }
    return NULL;
}

const char *mixt_chat_builtin_name(int index)
{
    return index >= 0 && index < TEMPLATE_COUNT ? templates[index].name : NULL;
}

mixt_chat_options mixt_chat_options_default(void)
{
    return (mixt_chat_options){.add_generation_prompt = true};
}

/* ---- the variables of a rendering */

static bool put_text(json_t *object, const char *key, const char *text)
{
    return text == NULL || json_object_set_new(object, key, json_string(text)) == 0;
}

static mixt_status put_messages(json_t *context, const mixt_chat_message *messages, size_t count,
                                mixt_error *error)
{
    json_t *list = json_array();
    if (list == NULL || json_object_set_new(context, "messages", list) != 0) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "chat: no memory for the messages");
    }
    for (size_t i = 0; i < count; i++) {
        json_t *message = json_object();
        if (messages[i].role == NULL || messages[i].content == NULL ||
            !put_text(message, "role", messages[i].role) ||
            !put_text(message, "content", messages[i].content) ||
            json_array_append_new(list, message) != 0) {
            json_decref(message);
            if (mixt_json_failed()) {
                return mixt_fail(error, MIXT_ERROR_MEMORY, "chat: no memory for the messages");
            }
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "message %zu: role and content must be valid UTF-8", i + 1);
        }
    }
    return MIXT_OK;
}

static mixt_status put_options(json_t *context, const mixt_chat_options *options, mixt_error *error)
{
    bool whole = json_object_set_new(context, "tools", json_null()) == 0 &&
                 json_object_set_new(context, "documents", json_null()) == 0 &&
                 json_object_set_new(context, "add_generation_prompt",
                                     json_boolean(options->add_generation_prompt)) == 0 &&
                 put_text(context, "bos_token", options->bos_token) &&
                 put_text(context, "eos_token", options->eos_token);
    if (mixt_json_failed()) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "chat: no memory");
    }
    if (!whole) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "chat: bos_token and eos_token must be valid UTF-8");
    }
    if (options->variables == NULL) {
        return MIXT_OK;
    }
    json_t *variables = NULL;
    mixt_status status = mixt_json_parse(options->variables, strlen(options->variables),
                                         "chat variables", &variables, error);
    if (status == MIXT_OK && (json_object_update(context, variables) != 0 || mixt_json_failed())) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "chat: no memory for the variables");
    }
    json_decref(variables);
    return status;
}

mixt_status mixt_chat_render(const char *template_text_, const mixt_chat_message *messages,
                             size_t count, const mixt_chat_options *options, char **text,
                             mixt_error *error)
{
    mixt_chat_options given = options != NULL ? *options : mixt_chat_options_default();
    template_date date;
    *text = NULL;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_chat_options, &given, error));
    MIXT_TRY(mixt_template_parse_date(given.date, &date, error));
    mixt_json_begin();
    json_t *context = json_object();
    if (context == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "chat: no memory");
    }
    mixt_status status = put_messages(context, messages, count, error);
    if (status == MIXT_OK) {
        status = put_options(context, &given, error);
    }
    if (status == MIXT_OK) {
        status =
            mixt_template_render(given.name != NULL ? given.name : "chat template", template_text_,
                                 strlen(template_text_), context, &date, text, error);
    }
    json_decref(context);
    return status;
}
