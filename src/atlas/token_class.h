/* What kind of token a vocabulary entry is, told from its bytes alone: so the class is a function
 * of the token, and no model, tagger or dictionary is needed. The rules are those of docs/atlas.md.
 */
#ifndef MIXT_ATLAS_TOKEN_CLASS_H
#define MIXT_ATLAS_TOKEN_CLASS_H

#include <stddef.h>
#include <stdint.h>

typedef enum mixt_token_class {
    MIXT_CLASS_SPACE,        /* blanks and tabs: indentation */
    MIXT_CLASS_NEWLINE,      /* whitespace with a line's end */
    MIXT_CLASS_DIGITS,       /* a number, without letters */
    MIXT_CLASS_PUNCTUATION,  /* marks of prose */
    MIXT_CLASS_OPERATORS,    /* marks of code and mathematics */
    MIXT_CLASS_FUNCTION,     /* English articles, pronouns, prepositions, ... */
    MIXT_CLASS_KEYWORDS,     /* of programming languages */
    MIXT_CLASS_WORDS,        /* other words behind a space */
    MIXT_CLASS_NAMES,        /* such words that begin with a capital */
    MIXT_CLASS_CONTINUATION, /* letters without a space before them */
    MIXT_CLASS_MIXED,        /* letters beside digits or marks */
    MIXT_CLASS_SCRIPTS,      /* letters that are not Latin */
    MIXT_CLASS_BYTES,        /* not whole UTF-8: part of a character */
    MIXT_CLASS_OTHER,        /* empty, or control characters */
    MIXT_CLASS_COUNT,
} mixt_token_class;

mixt_token_class mixt_token_class_of(const uint8_t *bytes, size_t length);

/* Words of ours: "space", "newline", ...; NULL behind the last. */
extern const char *const mixt_token_class_names[MIXT_CLASS_COUNT + 1];
const char *mixt_token_class_name(int token_class);

#endif
