/* Where any of several strings ends in a stream of bytes (Aho & Corasick 1975): one step a byte,
 * whatever the strings are. */
#ifndef MIXT_SAMPLING_MATCHER_H
#define MIXT_SAMPLING_MATCHER_H

#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_MATCHER_BYTES_MAX ((size_t)1 << 20) /* of all strings together */

typedef struct mixt_matcher mixt_matcher;

/* `what` names the strings in messages; none of them may be empty. */
mixt_status mixt_matcher_create(const char *const *strings, size_t count, const char *what,
                                mixt_matcher **matcher, mixt_error *error);
void mixt_matcher_free(mixt_matcher *matcher);
/* The state behind one more byte; 0 is the first one. */
uint32_t mixt_matcher_step(const mixt_matcher *matcher, uint32_t state, unsigned char byte);
/* Bytes at the stream's end that begin a string: as many as may be, a whole string's included. */
size_t mixt_matcher_depth(const mixt_matcher *matcher, uint32_t state);
/* The longest string that ends here: its index, or -1; and its length. */
int mixt_matcher_found(const mixt_matcher *matcher, uint32_t state, size_t *length);

#endif
