/* Fields of a body by tables: each that is known has a kind, a range and a place in a struct; what
 * is accepted without effect and what is refused by name is in the tables too, all else is unknown.
 */
#ifndef MIXT_SERVE_FIELDS_H
#define MIXT_SERVE_FIELDS_H

#include "json.h"

/* What is wrong with a request, as the reply says it. */
typedef struct api_problem {
    int status; /* 0: nothing */
    const char *code;
    char param[64];
    char message[500];
    int retry_after;
} api_problem;

/* Fills a problem, for `return`: always false. */
bool api_fail(api_problem *problem, int status, const char *code, const char *param,
              const char *format, ...) __attribute__((format(printf, 5, 6)));

typedef enum field_kind {
    FIELD_BOOL,    /* bool */
    FIELD_INT,     /* int within [low, high] */
    FIELD_LONG,    /* int64_t within [low, high] */
    FIELD_NUMBER,  /* double within [low, high]; integers are numbers */
    FIELD_TEXT,    /* const char *, as long as the body */
    FIELD_VALUE,   /* const json_t *, looked at by whoever uses it */
    FIELD_IGNORED, /* changes nothing that this server does */
    FIELD_REFUSED, /* would change the result: refused unless null, false, 0 or empty */
} field_kind;

typedef struct field_rule {
    const char *name;
    field_kind kind;
    size_t offset;
    double low, high;
    const char *reason; /* of a refusal, or NULL */
} field_rule;

/* Reads an object's fields; null is as if the field were not there. `tables` ends with NULL, each
 * table with a rule without name; the first rule of a name counts. Several names of one place have
 * to agree. */
bool fields_read(const json_t *object, const field_rule *const *tables, void *settings,
                 api_problem *problem);
/* The same of an object inside a body. `place` is what stands in front of its fields' names, a dot
 * at its end; the names of its rules begin with that. */
bool fields_read_inside(const json_t *object, const char *place, const field_rule *rules,
                        void *settings, api_problem *problem);
/* The first rule of a name, or NULL. */
const field_rule *fields_find(const field_rule *const *tables, const char *name);
/* false, 0 or empty. */
bool fields_is_nothing(const json_t *value);

/* Whether two names of one option have the same value; NULL and null: it is not there. */
bool fields_agree(const char *name, const json_t *value, const char *other,
                  const json_t *other_value, api_problem *problem);

#endif
