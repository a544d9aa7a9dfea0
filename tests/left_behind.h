/* Whether descriptors or threads of this process outlive what made them: entries of
 * "/proc/self/fd" or "/proc/self/task", counted before and after. */
#ifndef MIXT_TESTS_LEFT_BEHIND_H
#define MIXT_TESTS_LEFT_BEHIND_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static inline int count_entries(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

/* No more than `count` are left. A thread that was joined is listed for a moment longer, also
 * where `count` was taken: there may be fewer now. */
static inline void expect_no_more_entries(const char *path, int count)
{
    for (int tries = 0; tries < 1000 && count_entries(path) > count; tries++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_in_range(count_entries(path), 1, count);
}

#endif
