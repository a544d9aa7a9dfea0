/* Numbers of a study's runs, and what they are over the seeds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study.h"

double study_number(const study_run *run, const char *name)
{
    size_t low = 0, high = run->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, run->values[middle].name);
        if (order == 0) {
            return run->values[middle].value;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NAN;
}

static double number_of(const study *s, const study_cell *cell, size_t seed, const char *name)
{
    (void)s;
    const study_run *run = &cell->runs[seed];
    return !run->finished                           ? NAN
           : strcmp(name, "seconds") == 0           ? run->seconds
           : strcmp(name, "tokens_per_second") == 0 ? run->tokens_per_second
                                                    : study_number(run, name);
}

study_estimate study_mean(const study *s, const study_cell *cell, const char *name)
{
    double values[STUDY_SEEDS_MAX];
    for (size_t k = 0; k < s->seed_count; k++) {
        values[k] = number_of(s, cell, k, name);
    }
    return study_estimate_of(values, s->seed_count);
}

study_estimate study_difference(const study *s, const study_cell *cell, const char *name)
{
    double values[STUDY_SEEDS_MAX];
    const study_cell *baseline = &s->cells[s->baseline_cell];
    for (size_t k = 0; k < s->seed_count; k++) {
        values[k] = s->baseline != NULL && cell != baseline
                        ? number_of(s, cell, k, name) - number_of(s, baseline, k, name)
                        : NAN;
    }
    return study_estimate_of(values, s->seed_count);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **study_names(const study *s, size_t *count)
{
    size_t room = 1, used = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        for (size_t k = 0; k < s->seed_count; k++) {
            room += s->cells[c].runs[k].count;
        }
    }
    const char **names = calloc(room, sizeof *names);
    *count = 0;
    if (names == NULL) {
        return NULL;
    }
    for (size_t c = 0; c < s->cell_count; c++) {
        for (size_t k = 0; k < s->seed_count; k++) {
            const study_run *run = &s->cells[c].runs[k];
            for (size_t i = 0; i < run->count; i++) {
                names[used++] = run->values[i].name;
            }
        }
    }
    qsort(names, used, sizeof *names, compare_names);
    for (size_t i = 0; i < used; i++) {
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) {
            names[(*count)++] = names[i];
        }
    }
    return names;
}
