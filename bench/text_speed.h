/* What both programs that time a text share. */
#ifndef MIXT_BENCH_TEXT_SPEED_H
#define MIXT_BENCH_TEXT_SPEED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Of Linux; 0 elsewhere. */
static inline double bytes_read(void)
{
    char line[128];
    double bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "read_bytes:", 11) == 0) {
            bytes = strtod(line + 11, NULL);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return bytes;
}

#endif
