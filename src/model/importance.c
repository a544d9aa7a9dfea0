#include "model/importance.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

void mixt_importance_free(mixt_importance *importance)
{
    if (importance == NULL) {
        return;
    }
    for (int i = 0; i < importance->count; i++) {
        free(importance->entries[i].sums);
        free(importance->entries[i].counts);
    }
    free(importance->entries);
    free(importance->by_name);
    free(importance->path);
    free(importance);
}

const char *mixt_importance_path(const mixt_importance *importance)
{
    return importance->path != NULL ? importance->path : "importance";
}

/* The entry of a name, or NULL and the place in by_name where it would stand. */
static mixt_importance_entry *find_place(const mixt_importance *importance, const char *name,
                                         size_t *place)
{
    size_t low = 0, high = (size_t)importance->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        mixt_importance_entry *entry = &importance->entries[importance->by_name[middle]];
        int order = strcmp(name, entry->name);
        if (order == 0) {
            return entry;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *place = low;
    return NULL;
}

static mixt_importance_entry *find(const mixt_importance *importance, const char *name)
{
    size_t place;
    return find_place(importance, name, &place);
}

bool mixt_importance_has(const mixt_importance *importance, const char *name)
{
    return find(importance, name) != NULL;
}

mixt_importance_entry *mixt_importance_entry_of(mixt_importance *importance, const char *name,
                                                int64_t matrices, int64_t columns)
{
    size_t place = 0, count = (size_t)importance->count;
    mixt_importance_entry *entry = find_place(importance, name, &place);
    if (entry != NULL) {
        return entry->matrices == matrices && entry->columns == columns ? entry : NULL;
    }
    if (importance->count == MIXT_IMPORTANCE_ENTRIES ||
        !mixt_grow(&importance->entries, &importance->capacity, count + 1, sizeof *entry) ||
        !mixt_grow(&importance->by_name, &importance->by_name_capacity, count + 1,
                   sizeof *importance->by_name)) {
        return NULL;
    }
    size_t values;
    if (strlen(name) >= sizeof entry->name || matrices < 1 || columns < 1 ||
        !mixt_multiply_size((size_t)matrices, (size_t)columns, &values)) {
        return NULL;
    }
    entry = &importance->entries[importance->count];
    *entry = (mixt_importance_entry){.matrices = matrices, .columns = columns};
    memcpy(entry->name, name, strlen(name) + 1);
    entry->sums = calloc(values, sizeof *entry->sums);
    entry->counts = calloc((size_t)matrices, sizeof *entry->counts);
    if (entry->sums == NULL || entry->counts == NULL) {
        free(entry->sums);
        free(entry->counts);
        return NULL;
    }
    memmove(importance->by_name + place + 1, importance->by_name + place,
            (count - place) * sizeof *importance->by_name);
    importance->by_name[place] = importance->count++;
    assert((size_t)importance->count <= importance->capacity);
    return entry;
}

void mixt_importance_add(mixt_importance_entry *entry, int64_t matrix, const float *rows,
                         int64_t count)
{
    float *sums = entry->sums + matrix * entry->columns;
    for (int64_t row = 0; row < count; row++) {
        const float *x = rows + row * entry->columns;
        for (int64_t i = 0; i < entry->columns; i++) {
            sums[i] += x[i] * x[i];
        }
    }
    entry->counts[matrix] += (float)count;
}

/* The matrices that a count stands for: its own, or all that there are. */
static bool fits(const mixt_importance_entry *entry, int64_t matrices, int64_t columns)
{
    int64_t values;
    return !__builtin_mul_overflow(matrices, columns, &values) &&
           values == entry->matrices * entry->columns &&
           (entry->matrices == matrices || entry->matrices == 1);
}

mixt_status mixt_importance_check(const mixt_importance *importance, const char *name,
                                  int64_t matrices, int64_t columns, mixt_error *error)
{
    const mixt_importance_entry *entry = find(importance, name);
    if (entry == NULL || fits(entry, matrices, columns)) {
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_FORMAT,
                     "%s: importance of tensor %s: %lld values with %lld counts, of a tensor with "
                     "%lld matrices of %lld columns",
                     mixt_importance_path(importance), name,
                     (long long)(entry->matrices * entry->columns), (long long)entry->matrices,
                     (long long)matrices, (long long)columns);
}

bool mixt_importance_of(const mixt_importance *importance, const char *name, int64_t matrix,
                        int64_t columns, float *means)
{
    const mixt_importance_entry *entry = find(importance, name);
    if (entry == NULL || matrix >= entry->matrices * entry->columns / columns ||
        !fits(entry, entry->matrices * entry->columns / columns, columns)) {
        return false;
    }
    float count = entry->counts[entry->matrices == 1 ? 0 : matrix];
    const float *sums = entry->sums + matrix * columns;
    for (int64_t i = 0; i < columns && count > 0; i++) {
        means[i] = sums[i] / count;
    }
    return count > 0;
}

double mixt_importance_count(const mixt_importance *importance, const char *name, int64_t matrix)
{
    const mixt_importance_entry *entry = find(importance, name);
    bool each = entry != NULL && entry->matrices > 1 && matrix < entry->matrices;
    return each ? (double)entry->counts[matrix] : 1;
}

void mixt_importance_count_chunks(mixt_importance *importance, int window)
{
    double most = 0;
    for (int i = 0; i < importance->count; i++) {
        const mixt_importance_entry *entry = &importance->entries[i];
        for (int64_t m = 0; m < entry->matrices; m++) {
            most = entry->counts[m] > most ? (double)entry->counts[m] : most;
        }
    }
    double chunks = most / window;
    importance->chunk_count = chunks < 1 ? most > 0 : chunks < INT_MAX ? (int)chunks : INT_MAX;
    importance->chunk_size = window;
}

void mixt_importance_describe(const mixt_importance *importance, int *matrices, int *unused_experts)
{
    *matrices = 0;
    *unused_experts = 0;
    for (int i = 0; i < importance->count; i++) {
        const mixt_importance_entry *entry = &importance->entries[i];
        *matrices += (int)entry->matrices;
        bool gate = strstr(entry->name, "ffn_gate_exps") != NULL;
        for (int64_t m = 0; gate && m < entry->matrices; m++) {
            *unused_experts += entry->counts[m] == 0;
        }
    }
}
