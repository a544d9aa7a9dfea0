#include "build_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool find_build(char *path, size_t size)
{
    const char *given = getenv("MIXT_BUILD");
    if (given != NULL) {
        return (size_t)snprintf(path, size, "%s", given) < size;
    }
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    if (length < 0) {
        return false;
    }
    path[length] = '\0';
    *strrchr(path, '/') = '\0'; /* BUILD/tests */
    *strrchr(path, '/') = '\0'; /* BUILD */
    return true;
}
