/* Where the programs of this build lie. */
#ifndef MIXT_TESTS_BUILD_FOLDER_H
#define MIXT_TESTS_BUILD_FOLDER_H

#include <stdbool.h>

#define BUILT_PATH_MAX 4200

/* BUILD/name, where BUILD holds mixt, examples/ and tests/: MIXT_BUILD of the environment, or the
 * folder above the test program's own. */
bool find_built(const char *name, char path[BUILT_PATH_MAX]);

#endif
