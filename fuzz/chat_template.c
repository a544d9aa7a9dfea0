/* A chat template of any bytes must render or be refused in one line, in bounded time. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mixt.h"
#include "template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char variables[] =
        "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", "
        "\"content\": \"Gr\\u00f6\\u00dfe? 1 < 2\\n\"}, {\"role\": \"assistant\", \"content\": "
        "\"<think>\\nx</think>\\n\\nyes\"}], \"add_generation_prompt\": true, \"tools\": "
        "[{\"name\": \"f\", \"parameters\": {\"a\": [1, 2.5, null, true]}}], \"n\": 3}";
    static json_t *context;
    mixt_error error = MIXT_ERROR_INIT;
    template_date date;
    char *text;
    if (context == NULL) {
        context = json_loads(variables, 0, NULL);
    }
    if (mixt_template_parse_date("2024-02-09", &date, NULL) != MIXT_OK) {
        abort();
    }
    mixt_status status =
        mixt_template_render("t", (const char *)data, size, context, &date, &text, &error);
    if (status == MIXT_OK ? text == NULL
                          : text != NULL || error.status != status || error.message[0] == '\0' ||
                                strchr(error.message, '\n') != NULL) {
        abort();
    }
    free(text);
    return 0;
}
