/* One line of a .jsonl corpus: strict JSON (RFC 8259), read in place without building a tree, so
 * that a line costs no memory beyond its own bytes. */
#ifndef MIXT_CORPUS_DOCUMENT_H
#define MIXT_CORPUS_DOCUMENT_H

#include <stddef.h>

typedef struct mixt_json_document {
    const char *text; /* into the line, unescaped, valid UTF-8 without NUL */
    size_t length;
    const char *domain; /* "domain", else "meta"."pile_set_name"; NULL without either */
    size_t domain_length;
} mixt_json_document;

/* Parses and unescapes in place. NULL when the line is a good document, else why it is not, with
 * the place of the fault in *at. */
const char *mixt_document_parse(char *line, size_t length, mixt_json_document *document,
                                size_t *at);

#endif
