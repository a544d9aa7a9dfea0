/* Each collective of dist/ranks.h against a plain reference: run by all ranks together, threads or
 * processes, over any transport. */
#ifndef MIXT_TESTS_RANKS_CHECKS_H
#define MIXT_TESTS_RANKS_CHECKS_H

#include "dist/ranks.h"

/* In every layout D x E of these ranks and each of its groups, with counts drawn by the seed,
 * `large` bytes in the longest message. What is wrong ends the program with a line. */
mixt_status check_collectives(mixt_ranks *ranks, uint64_t seed, size_t large, mixt_error *error);

#endif
