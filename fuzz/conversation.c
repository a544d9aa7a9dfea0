/* A conversation and its variables as JSON, through the built-in chat templates; the first byte
 * chooses one. Rendered, or refused in one line. "date" is the day of strftime_now. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    if (size < 2 || seed % 16 == 0) {
        data[0] = (uint8_t)(seed >> 8);
        return size > 0 ? size : 1;
    }
    return 1 + fuzz_mutate_json(data + 1, size - 1, max_size - 1, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mixt_chat_message message = {"user", "hello"};
    int templates = 0;
    while (mixt_chat_builtin_name(templates) != NULL) {
        templates++;
    }
    if (size == 0) {
        return 0;
    }
    char *variables = malloc(size), *text;
    FUZZ_REQUIRE(variables != NULL, "no memory");
    memcpy(variables, data + 1, size - 1);
    variables[size - 1] = '\0';
    json_t *root = json_loads(variables, 0, NULL);
    const char *date = json_string_value(json_object_get(root, "date"));
    mixt_chat_options options = mixt_chat_options_default();
    options.variables = variables;
    options.date = date != NULL ? date : "2024-12-31T23:59:59";
    options.bos_token = "<s>";
    options.eos_token = "</s>";
    mixt_error error = MIXT_ERROR_INIT;
    const char *template = mixt_chat_builtin(mixt_chat_builtin_name(data[0] % templates));
    mixt_status status = mixt_chat_render(template, &message, 1, &options, &text, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(text == NULL, error.message);
        fuzz_refused(status, &error);
    }
    free(text);
    json_decref(root);
    free(variables);
    return 0;
}
