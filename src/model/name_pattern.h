/* Patterns of module names in adapter_config.json, regular expressions of Python's re, by PCRE2. */
#ifndef MIXT_MODEL_NAME_PATTERN_H
#define MIXT_MODEL_NAME_PATTERN_H

#include "mixt.h"

#define MIXT_PATTERN_PROBLEM 128

typedef struct mixt_name_pattern mixt_name_pattern;

/* MIXT_ERROR_FORMAT where the pattern is none, or means something else in Python than in PCRE2,
 * with the reason in `problem`; MIXT_ERROR_MEMORY. */
mixt_status mixt_name_pattern_create(const char *text, mixt_name_pattern **pattern,
                                     char problem[MIXT_PATTERN_PROBLEM]);
void mixt_name_pattern_free(mixt_name_pattern *pattern);
/* Whether `name`, or what follows one of its full stops, is matched to its end, as PEFT matches
 * ("(.*\.)?(PATTERN)$"). MIXT_ERROR_FORMAT where that takes too many steps; MIXT_ERROR_MEMORY. */
mixt_status mixt_name_pattern_match(const mixt_name_pattern *pattern, const char *name,
                                    bool *matches);

#endif
