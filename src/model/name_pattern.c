#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/name_pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_LIMIT 2000
#define MATCH_LIMIT 20000u /* steps of one match; a name needs some hundred */
#define HEAP_LIMIT_KIB (1u << 10)

struct mixt_name_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* What PCRE2 would read otherwise than Python; NULL: nothing. */
static const char *foreign(const char *text)
{
    bool in_set = false;
    if (strlen(text) > PATTERN_LIMIT / 2) {
        return "is too long";
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\\') {
            at++;
            if (strchr("dDwWsS", *at) == NULL &&
                ((*at >= '0' && *at <= '9') || ((*at | 32) >= 'a' && (*at | 32) <= 'z'))) {
                return "has a sequence behind a backslash that is not read";
            }
            if (*at == '\0') {
                return "ends with a backslash";
            }
        } else if (in_set) {
            bool named = *at == '[' && (at[1] == ':' || at[1] == '.' || at[1] == '=');
            if (named) {
                return "has a class of characters by name, which Python does not know";
            }
            in_set = *at != ']';
        } else if (*at == '[') {
            in_set = true;
            at += at[1] == '^';
            at += at[1] == ']'; /* stands for itself there */
        } else if (*at == '(' && (at[1] == '*' || (at[1] == '?' && at[2] != ':'))) {
            return "has a group that is not read";
        }
    }
    return NULL;
}

/* The pattern with what has to be around it; Python's {,n} is {0,n}, which PCRE2 before 10.43 does
 * not know. */
static void put_whole(const char *text, char whole[2 * PATTERN_LIMIT])
{
    char *to = whole + sprintf(whole, "(?:.*\\.)?(?:");
    for (const char *at = text; *at != '\0'; at++) {
        *to++ = *at;
        size_t digits = *at == '{' && at[1] == ',' ? strspn(at + 2, "0123456789") : 0;
        if (*at == '{' && at[1] == ',' && at[2 + digits] == '}') {
            *to++ = '0';
        }
    }
    memcpy(to, ")$", 3);
}

mixt_status mixt_name_pattern_create(const char *text, mixt_name_pattern **result,
                                     char problem[MIXT_PATTERN_PROBLEM])
{
    const char *wrong = foreign(text);
    *result = NULL;
    if (wrong != NULL) {
        snprintf(problem, MIXT_PATTERN_PROBLEM, "%s", wrong);
        return MIXT_ERROR_FORMAT;
    }
    char whole[2 * PATTERN_LIMIT];
    mixt_name_pattern *pattern = calloc(1, sizeof *pattern);
    pcre2_compile_context *compile = pcre2_compile_context_create(NULL);
    int number = PCRE2_ERROR_HEAP_FAILED;
    if (pattern != NULL && compile != NULL) {
        PCRE2_SIZE offset;
        put_whole(text, whole);
        pcre2_set_parens_nest_limit(compile, 100);
        pattern->code = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED,
                                      &number, &offset, compile);
        pattern->data = pcre2_match_data_create(1, NULL);
        pattern->context = pcre2_match_context_create(NULL);
    }
    pcre2_compile_context_free(compile);
    if (pattern != NULL && pattern->code != NULL && pattern->data != NULL &&
        pattern->context != NULL) {
        pcre2_set_match_limit(pattern->context, MATCH_LIMIT);
        pcre2_set_heap_limit(pattern->context, HEAP_LIMIT_KIB);
        *result = pattern;
        return MIXT_OK;
    }
    bool memory = pattern == NULL || pattern->code != NULL || number == PCRE2_ERROR_HEAP_FAILED;
    mixt_name_pattern_free(pattern);
    if (memory) {
        return MIXT_ERROR_MEMORY;
    }
    PCRE2_UCHAR message[100];
    pcre2_get_error_message(number, message, sizeof message);
    snprintf(problem, MIXT_PATTERN_PROBLEM, "is no regular expression: %s", (char *)message);
    return MIXT_ERROR_FORMAT;
}

void mixt_name_pattern_free(mixt_name_pattern *pattern)
{
    if (pattern != NULL) {
        pcre2_code_free(pattern->code);
        pcre2_match_data_free(pattern->data);
        pcre2_match_context_free(pattern->context);
        free(pattern);
    }
}

mixt_status mixt_name_pattern_match(const mixt_name_pattern *pattern, const char *name,
                                    bool *matches)
{
    int found = pcre2_match(pattern->code, (PCRE2_SPTR)name, strlen(name), 0, 0, pattern->data,
                            pattern->context);
    *matches = found >= 0;
    return found >= 0 || found == PCRE2_ERROR_NOMATCH ? MIXT_OK
           : found == PCRE2_ERROR_NOMEMORY            ? MIXT_ERROR_MEMORY
                                                      : MIXT_ERROR_FORMAT;
}
