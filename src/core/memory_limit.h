/* How much memory this process may take: free memory of the machine, and what the limits of its
 * control groups leave, of either version, at every level that can be seen. Page cache counts as
 * free, as the kernel gives it up before it ends anybody. */
#ifndef MIXT_CORE_MEMORY_LIMIT_H
#define MIXT_CORE_MEMORY_LIMIT_H

#include <stdint.h>

#include "mixt.h"

/* Bytes that could be had without swapping and without being killed for them; *limit (or NULL):
 * what says so. Limits of address space (mixt_memory_limit has them too) only make calls fail. */
uint64_t mixt_memory_available(const char **limit);
/* The same by the files below a folder that stands for /, or by none of them (NULL). */
uint64_t mixt_memory_available_by(const char *root, const char **limit);

#endif
