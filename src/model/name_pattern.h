/* Patterns of module names in adapter_config.json: regular expressions as Python's re has them, of
 * which what can stand in a name is read: . | ( ) (?: ) [ ] * + ? {m,n} ^ $ \d \w \s and escaped
 * marks. */
#ifndef MIXT_MODEL_NAME_PATTERN_H
#define MIXT_MODEL_NAME_PATTERN_H

#include <stdbool.h>

/* Whether `name` or what follows one of its full stops is matched to its end, as PEFT matches
 * ("(.*\.)?(PATTERN)$"). Takes time that grows with pattern times name, whatever they are. *problem
 * is what is not understood, mixt_pattern_memory without memory, or NULL. */
extern const char mixt_pattern_memory[];
bool mixt_name_matches(const char *pattern, const char *name, const char **problem);

#endif
