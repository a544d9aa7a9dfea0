#include "build_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool find_built(const char *name, char path[BUILT_PATH_MAX])
{
    const char *given = getenv("MIXT_BUILD");
    char build[BUILT_PATH_MAX];
    if (given == NULL) {
        ssize_t length = readlink("/proc/self/exe", build, sizeof build - 1);
        if (length < 0) {
            return false;
        }
        build[length] = '\0';
        *strrchr(build, '/') = '\0'; /* BUILD/tests */
        *strrchr(build, '/') = '\0'; /* BUILD */
    }
    return snprintf(path, BUILT_PATH_MAX, "%s/%s", given != NULL ? given : build, name) <
           BUILT_PATH_MAX;
}
