/* Strings: lengths, formats. */
#include <string.h>

#include "sampling/schema.h"

typedef struct format {
    const char *name, *body;
} format;

#define HOUR "([01] [0-9] | \"2\" [0-3])"
#define SIXTY "[0-5] [0-9]"
/* RFC 3339, of the years 1000 to 9999 and without leap seconds, as Python's datetime has it. */
#define DAY                                                                                        \
    "([1-9] [0-9]{3} \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" " \
    "[01]) | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\") | \"02-\" (\"0\" "   \
    "[1-9] | \"1\" [0-9] | \"2\" [0-8])) | ([1-9] [0-9] (\"0\" [48] | [2468] [048] | [13579] "     \
    "[26]) | ([2468] [048] | [13579] [26]) \"00\") \"-02-29\")"
#define CLOCK                                                                                      \
    HOUR " \":\" " SIXTY " \":\" " SIXTY " (\".\" [0-9]{1,6})? (\"Z\" | [-+] " HOUR                \
         " \":\" " SIXTY ")"

static const format formats[] = {
    {"date", DAY},
    {"time", CLOCK},
    {"date-time", DAY " \"T\" " CLOCK},
    {"uuid", "[0-9a-fA-F]{8} (\"-\" [0-9a-fA-F]{4}){3} \"-\" [0-9a-fA-F]{12}"},
    {"ipv4",
     "((\"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9]{2} | [1-9]? [0-9]) \".\"){3} (\"25\" "
     "[0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9]{2} | [1-9]? [0-9])"},
};

static mixt_status write_format(mixt_schema *schema, const json_t *name, mixt_buffer *to)
{
    const char *text = json_string_value(name);
    for (size_t i = 0; text != NULL && i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(text, formats[i].name) == 0) {
            mixt_buffer_format(to, "(%s)", formats[i].body);
            return MIXT_OK;
        }
    }
    return mixt_schema_refuse(schema,
                              "format \"%.60s\" is none of date, time, date-time, uuid and ipv4",
                              text != NULL ? text : "?");
}

mixt_status mixt_schema_string(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    json_t *pattern = json_object_get(node, "pattern"), *name = json_object_get(node, "format");
    int64_t least = 0, most = -1;
    MIXT_TRY(mixt_schema_size(schema, node, "minLength", &least));
    MIXT_TRY(mixt_schema_size(schema, node, "maxLength", &most));
    int asked = (pattern != NULL) + (name != NULL) + (least > 0 || most >= 0);
    if (asked > 1) {
        return mixt_schema_refuse(schema, "pattern, format and lengths of one string cannot be "
                                          "held by a grammar together");
    }
    if (most >= 0 && least > most) {
        return mixt_schema_refuse(schema, "no string has at least %lld and at most %lld characters",
                                  (long long)least, (long long)most);
    }
    if (asked == 0) {
        mixt_buffer_text(to, mixt_schema_use(schema, MIXT_SHARED_STRING));
        return MIXT_OK;
    }
    mixt_buffer_text(to, "\"\\\"\" ");
    if (pattern != NULL && !json_is_string(pattern)) {
        return mixt_schema_refuse(schema, "pattern is no text");
    }
    if (pattern != NULL) {
        MIXT_TRY(mixt_schema_pattern(schema, json_string_value(pattern), to));
    } else if (name != NULL) {
        MIXT_TRY(write_format(schema, name, to));
    } else {
        mixt_buffer_format(to, "%s{%lld,", mixt_schema_use(schema, MIXT_SHARED_CHAR),
                           (long long)least);
        if (most >= 0) {
            mixt_buffer_format(to, "%lld", (long long)most);
        }
        mixt_buffer_text(to, "}");
    }
    mixt_buffer_text(to, " \"\\\"\"");
    return MIXT_OK;
}
