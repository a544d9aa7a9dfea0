/* What mixt reads of configurations, for config_defaults.py: paths of config.json files on standard
 * input, for each a line of JSON on standard output, {"options": {...}} or {"refused": TEXT}.
 *     cc -Iinclude tests/reference/config_reader.c build/release/libmixt.a \
 *        -ljansson -lpcre2-8 -lm -lpthread -ldl -o config_reader */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "mixt.h"

int main(void)
{
    char path[4096];
    while (fgets(path, sizeof path, stdin) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT;
        json_t *line;
        if (mixt_model_options_read(path, &options, &error) != MIXT_OK) {
            line = json_pack("{s:s}", "refused", error.message);
        } else {
            json_t *read = json_object();
            const char *name;
            double value;
            for (int i = 0; mixt_model_option(&options, i, &name, &value); i++) {
                json_object_set_new(read, name, json_real(value));
            }
            line = json_pack("{s:o}", "options", read);
        }
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(line);
    }
    return 0;
}
