#include "model/importance.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "formats/gguf.h"

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
    free(importance);
}

static mixt_importance_entry *find(const mixt_importance *importance, const char *name)
{
    for (int i = 0; i < importance->count; i++) {
        if (strcmp(importance->entries[i].name, name) == 0) {
            return &importance->entries[i];
        }
    }
    return NULL;
}

mixt_importance_entry *mixt_importance_entry_of(mixt_importance *importance, const char *name,
                                                int64_t matrices, int64_t columns)
{
    mixt_importance_entry *entry = find(importance, name);
    if (entry != NULL) {
        return entry->matrices == matrices && entry->columns == columns ? entry : NULL;
    }
    if (!mixt_grow(&importance->entries, &importance->capacity, (size_t)importance->count + 1,
                   sizeof *entry)) {
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
    importance->count++;
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

bool mixt_importance_of(const mixt_importance *importance, const char *name, int64_t matrix,
                        int64_t columns, float *means)
{
    const mixt_importance_entry *entry = find(importance, name);
    if (entry == NULL || entry->columns != columns || matrix >= entry->matrices ||
        !(entry->counts[matrix] > 0)) {
        return false;
    }
    const float *sums = entry->sums + matrix * columns;
    for (int64_t i = 0; i < columns; i++) {
        means[i] = sums[i] / entry->counts[matrix];
    }
    return true;
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

/* --- Files: NAME.in_sum2 [columns, matrices] and NAME.counts [1, matrices] ---------------------
 */

static mixt_status add_tensors(mixt_gguf_writer *writer, const mixt_importance_entry *entry,
                               mixt_error *error)
{
    char name[112];
    snprintf(name, sizeof name, "%s.in_sum2", entry->name);
    MIXT_TRY(mixt_gguf_writer_add(writer, name, MIXT_TYPE_F32, 2,
                                  (int64_t[]){entry->columns, entry->matrices}, error));
    snprintf(name, sizeof name, "%s.counts", entry->name);
    return mixt_gguf_writer_add(writer, name, MIXT_TYPE_F32, 2, (int64_t[]){1, entry->matrices},
                                error);
}

static mixt_status write_entry(mixt_gguf_writer *writer, const mixt_importance_entry *entry,
                               mixt_error *error)
{
    size_t matrices = (size_t)entry->matrices;
    MIXT_TRY(mixt_gguf_writer_write(writer, entry->sums,
                                    matrices * (size_t)entry->columns * sizeof(float), error));
    return mixt_gguf_writer_write(writer, entry->counts, matrices * sizeof(float), error);
}

mixt_status mixt_importance_save(const mixt_importance *importance, const char *path,
                                 mixt_error *error)
{
    mixt_gguf_writer *writer;
    MIXT_TRY(mixt_gguf_writer_create(path, 0, &writer, error));
    static const char *const none[] = {"text"};
    const mixt_gguf_array datasets = {
        .kind = MIXT_GGUF_STRING, .count = 1, .strings = none, .lengths = (uint64_t[]){4}};
    mixt_status status = mixt_gguf_writer_string(writer, "general.type", "imatrix", error);
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_array(writer, "imatrix.datasets", &datasets, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_u32(writer, "imatrix.chunk_count",
                                      (uint32_t)importance->chunk_count, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_u32(writer, "imatrix.chunk_size",
                                      (uint32_t)importance->chunk_size, error);
    }
    for (int i = 0; i < importance->count && status == MIXT_OK; i++) {
        status = add_tensors(writer, &importance->entries[i], error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_begin(writer, error);
    }
    for (int i = 0; i < importance->count && status == MIXT_OK; i++) {
        status = write_entry(writer, &importance->entries[i], error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_finish(writer, error);
    }
    mixt_gguf_writer_free(writer);
    return status;
}

/* Adds what NAME.in_sum2 holds, with its counts. */
static mixt_status read_tensor(mixt_importance *importance, const mixt_gguf *file,
                               const mixt_gguf_tensor *sums, size_t name_length, mixt_error *error)
{
    char name[160];
    const char *path = mixt_gguf_path(file, sums->shard);
    snprintf(name, sizeof name, "%.*s.counts", (int)name_length, sums->name);
    const mixt_gguf_tensor *counts = mixt_gguf_find(file, name);
    if (sums->type != MIXT_TYPE_F32 || counts == NULL || counts->type != MIXT_TYPE_F32 ||
        counts->size[0] * counts->size[1] != sums->size[1] || sums->size[2] != 1) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: tensor %s: not F32 [columns, matrices] with .counts beside it", path,
                         sums->name);
    }
    name[name_length] = 0;
    mixt_importance_entry *entry =
        mixt_importance_entry_of(importance, name, sums->size[1], sums->size[0]);
    if (entry == NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor %s: name or size is not usable",
                         path, sums->name);
    }
    memcpy(entry->sums, sums->data, sums->bytes);
    memcpy(entry->counts, counts->data, counts->bytes);
    for (int64_t i = 0; i < entry->matrices * entry->columns; i++) {
        if (!(entry->sums[i] >= 0) || entry->sums[i] > 3e38F) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor %s: not all sums are finite",
                             path, sums->name);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_importance_open(const char *path, mixt_importance **result, mixt_error *error)
{
    *result = NULL;
    mixt_gguf *file;
    mixt_status status = mixt_gguf_open(path, &file, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_importance *importance = calloc(1, sizeof *importance);
    if (importance == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    for (size_t i = 0; i < mixt_gguf_tensor_count(file) && status == MIXT_OK; i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        size_t length = strlen(tensor->name), ending = strlen(".in_sum2");
        if (length > ending && strcmp(tensor->name + length - ending, ".in_sum2") == 0) {
            status = read_tensor(importance, file, tensor, length - ending, error);
        }
    }
    if (status == MIXT_OK && importance->count == 0) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT,
                           "%s: no importance matrix (tensors NAME.in_sum2) in this file", path);
    }
    mixt_gguf_close(file);
    if (status != MIXT_OK) {
        mixt_importance_free(importance);
        return status;
    }
    *result = importance;
    return MIXT_OK;
}
