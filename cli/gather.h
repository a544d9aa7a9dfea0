/* Text by domain from the machine's own system folders, for mixt demo. Only real files below /usr
 * are read, no link is followed; the same files give the same text. */
#ifndef MIXT_CLI_GATHER_H
#define MIXT_CLI_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gather_domain {
    const char *name;
    const char *what;   /* for people */
    const char *prompt; /* how a text of this domain may begin */
} gather_domain;

/* All domains that are looked for, best first; ends with a row without name. The last one,
 * mathematics, is generated. */
extern const gather_domain gather_domains[];

typedef struct gather_count {
    uint64_t documents;
    uint64_t bytes;
} gather_count;

/* Writes FOLDER/DOMAIN.jsonl of at most `bytes` of text for every domain that has at least
 * `least` bytes; counts belong to the rows of gather_domains. false: `what` says why. */
bool gather_text(const char *folder, uint64_t bytes, uint64_t least, gather_count *counts,
                 char what[300]);

#endif
