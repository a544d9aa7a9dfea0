/* The vowel task of 1991, as a study. */
#ifndef MIXT_CLI_STUDY_VOWELS_H
#define MIXT_CLI_STUDY_VOWELS_H

#include <stdint.h>

/* Runs the task (mixt_vowels) on a CSV file, in each way that its text can be read; prints a table
 * of each and writes out/results.csv and out/results.json. The exit status. */
int study_vowels_run(const char *csv, const char *out, uint64_t seed, int runs, int threads);

#endif
