/* JSON schemas as grammars: what the parts that write one share. */
#ifndef MIXT_SAMPLING_SCHEMA_H
#define MIXT_SAMPLING_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/memory.h"

enum {
    MIXT_SCHEMA_RULES_MAX = 50000,
    MIXT_SCHEMA_NAME = 24, /* bytes of a rule's name */
};
#define MIXT_SCHEMA_TEXT_MAX ((size_t)4 << 20) /* of what is written, and of what was merged */

/* Rules that schemas share; they are written where one is used. */
typedef enum mixt_schema_shared {
    MIXT_SHARED_WS,
    MIXT_SHARED_CHAR,
    MIXT_SHARED_PLAIN, /* a character that is spelled in one way only */
    MIXT_SHARED_STRING,
    MIXT_SHARED_NUMBER,
    MIXT_SHARED_INTEGER,
    MIXT_SHARED_VALUE,
    MIXT_SHARED_OBJECT,
    MIXT_SHARED_ARRAY,
    MIXT_SHARED_COUNT,
} mixt_schema_shared;

typedef struct mixt_schema {
    json_t *root;
    json_t *names;     /* number of the rule by the text of its schema */
    mixt_buffer rules; /* those that are done */
    int rule_count;
    size_t work; /* bytes of schemas that were looked at */
    int depth;
    bool uses[MIXT_SHARED_COUNT];
    char place[400]; /* in the schema, as a pointer: "#/properties/a" */
    mixt_error *error;
} mixt_schema;

/* Refuses what stands at the current place: "schema: #/a: ...". */
mixt_status mixt_schema_refuse(const mixt_schema *schema, const char *format, ...)
    MIXT_PRINTF(2, 3);
mixt_status mixt_schema_no_memory(const mixt_schema *schema);
/* The name of the rule for a schema, which is written where it is new; `step` leads to it from the
 * current place. */
mixt_status mixt_schema_rule(mixt_schema *schema, json_t *node, const char *step,
                             char name[MIXT_SCHEMA_NAME]);
/* Begins a rule without a schema of its own. */
mixt_status mixt_schema_new_name(mixt_schema *schema, char name[MIXT_SCHEMA_NAME]);
void mixt_schema_write_rule(mixt_schema *schema, const char *name, const mixt_buffer *body);
/* The name of a shared rule, which is used from now on. */
const char *mixt_schema_use(mixt_schema *schema, mixt_schema_shared which);

/* Counts the work of holding two lists beside each other; refuses what would take too long. */
mixt_status mixt_schema_charge(mixt_schema *schema, size_t a, size_t b);

/* Text in quotes, as GBNF has it. */
void mixt_schema_literal(mixt_buffer *to, const char *text, size_t length);
/* A value as the one text that JSON without spaces has for it. */
mixt_status mixt_schema_constant(mixt_schema *schema, const json_t *value, mixt_buffer *to);
/* A size ("minItems"): *value stays where the key is not there. */
mixt_status mixt_schema_size(const mixt_schema *schema, const json_t *node, const char *key,
                             int64_t *value);

/* Resolves $ref and allOf of a node: a new object without them (schema_merge.c). */
mixt_status mixt_schema_flatten(mixt_schema *schema, json_t *node, json_t **flat);
/* What both accept, as a new object. */
mixt_status mixt_schema_merge(mixt_schema *schema, json_t *a, json_t *b, json_t **both);
/* Whether no value is accepted by both; false where that is not plain to see. */
bool mixt_schema_are_disjoint(mixt_schema *schema, json_t *a, json_t *b);
bool mixt_schema_is_annotation(const char *key);

/* One type of a flat node each: writes an expression. */
mixt_status mixt_schema_object(mixt_schema *schema, json_t *node, mixt_buffer *to);
mixt_status mixt_schema_array(mixt_schema *schema, json_t *node, mixt_buffer *to);
mixt_status mixt_schema_string(mixt_schema *schema, json_t *node, mixt_buffer *to);
mixt_status mixt_schema_number(mixt_schema *schema, json_t *node, bool whole, mixt_buffer *to);
/* A regular expression of ECMA-262 that some part of the string matches, quotes not included. */
mixt_status mixt_schema_pattern(mixt_schema *schema, const char *pattern, mixt_buffer *to);

#endif
