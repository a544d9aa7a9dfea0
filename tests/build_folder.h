/* Where the programs of this build lie. */
#ifndef MIXT_TESTS_BUILD_FOLDER_H
#define MIXT_TESTS_BUILD_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* The folder that holds mixt, examples/ and tests/: MIXT_BUILD of the environment, or the one above
 * the test program's own. */
bool find_build(char *path, size_t size);

#endif
