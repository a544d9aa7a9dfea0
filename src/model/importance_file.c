/* Importance matrices in files: GGUF, which we write, and the older form of llama.cpp's
 * llama-imatrix (".dat"). Lengths come from the files, so that each is held against the bytes that
 * are really there before anything is copied. */
#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/map.h"
#include "core/memory.h"
#include "formats/gguf.h"
#include "model/importance.h"

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

static mixt_status check_numbers(const mixt_importance_entry *entry, const char *path,
                                 mixt_error *error)
{
    for (int64_t i = 0; i < entry->matrices * entry->columns; i++) {
        if (!(entry->sums[i] >= 0) || entry->sums[i] > 3e38F) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor %s: not all sums are finite",
                             path, entry->name);
        }
    }
    for (int64_t i = 0; i < entry->matrices; i++) {
        if (!(entry->counts[i] >= 0) || entry->counts[i] > FLT_MAX) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor %s: count %lld is %g", path,
                             entry->name, (long long)i, (double)entry->counts[i]);
        }
    }
    for (int64_t i = 0; i < entry->matrices * entry->columns; i++) {
        float count = entry->counts[i / entry->columns];
        if (count > 0 && entry->sums[i] / count > FLT_MAX) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: tensor %s: the mean of column %lld is not finite", path,
                             entry->name, (long long)(i % entry->columns));
        }
    }
    return MIXT_OK;
}

/* Adds what NAME.in_sum2 holds, with its counts: one for each matrix, or one for all. Shapes are
 * said in several ways, so that the numbers of elements decide, which are those of the bytes. */
static mixt_status read_tensor(mixt_importance *importance, const mixt_gguf *file,
                               const mixt_gguf_tensor *sums, size_t name_length, mixt_error *error)
{
    char name[160];
    const char *path = mixt_gguf_path(file, sums->shard);
    snprintf(name, sizeof name, "%.*s.counts", (int)name_length, sums->name);
    const mixt_gguf_tensor *counts = mixt_gguf_find(file, name);
    bool right = sums->type == MIXT_TYPE_F32 && counts != NULL && counts->type == MIXT_TYPE_F32 &&
                 sums->bytes > 0 && counts->bytes > 0;
    int64_t values = (int64_t)(sums->bytes / sizeof(float));
    int64_t matrices = right ? (int64_t)(counts->bytes / sizeof(float)) : 1;
    if (!right || (matrices != 1 && matrices != values / sums->size[0])) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: tensor %s: not F32 [columns, matrices] with as many .counts (or one) "
                         "beside it",
                         path, sums->name);
    }
    if (importance->count == MIXT_IMPORTANCE_ENTRIES) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: more than %d tensors", path,
                         MIXT_IMPORTANCE_ENTRIES);
    }
    name[name_length] = 0;
    mixt_importance_entry *entry =
        mixt_importance_entry_of(importance, name, matrices, values / matrices);
    if (entry == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: tensor %s: no memory", path, sums->name);
    }
    memcpy(entry->sums, sums->data, (size_t)values * sizeof(float));
    memcpy(entry->counts, counts->data, (size_t)matrices * sizeof(float));
    return check_numbers(entry, path, error);
}

/* How many chunks of which size, where the file says it. */
static mixt_status read_chunks(mixt_importance *importance, const mixt_gguf *file,
                               mixt_error *error)
{
    const mixt_gguf_range range = {0, INT_MAX};
    int64_t count = 0, size = 0;
    if (mixt_gguf_has(file, "imatrix.chunk_count")) {
        MIXT_TRY(mixt_gguf_integer(file, "imatrix.chunk_count", range, &count, error));
    }
    if (mixt_gguf_has(file, "imatrix.chunk_size")) {
        MIXT_TRY(mixt_gguf_integer(file, "imatrix.chunk_size", range, &size, error));
    }
    importance->chunk_count = (int)count;
    importance->chunk_size = (int)size;
    return MIXT_OK;
}

static mixt_status read_gguf(mixt_importance *importance, const char *path, mixt_error *error)
{
    mixt_gguf *file;
    MIXT_TRY(mixt_gguf_open(path, &file, error));
    mixt_status status = read_chunks(importance, file, error);
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
    if (status == MIXT_OK) {
        status = mixt_gguf_intact(file, error);
    }
    mixt_gguf_close(file);
    return status;
}

/* --- The older form: int32 number of entries; of each, int32 length and bytes of the name, int32
 * calls, int32 number of values and the values in fp32, which are means of squares times calls (of
 * all experts' matrices behind each other). Then, in newer files, int32 number of chunks, and int32
 * length and bytes of the text's name. */

typedef struct legacy {
    const unsigned char *at;
    size_t left;
    const char *path;
    int entry; /* counted from 1; 0 before and behind them */
    mixt_error *error;
} legacy;

static mixt_status legacy_end(const legacy *in, const char *where)
{
    return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: entry %d: the file ends inside %s",
                     in->path, in->entry, where);
}

static bool take_i32(legacy *in, int32_t *value)
{
    if (in->left < sizeof *value) {
        return false;
    }
    memcpy(value, in->at, sizeof *value);
    in->at += sizeof *value;
    in->left -= sizeof *value;
    return true;
}

static mixt_status take_name(legacy *in, const mixt_importance *importance, char *name, size_t room)
{
    int32_t length;
    if (!take_i32(in, &length)) {
        return legacy_end(in, "the length of its name");
    }
    if (length < 1 || (size_t)length >= room) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: entry %d: a name of %d bytes; this is neither GGUF nor an older "
                         "importance file",
                         in->path, in->entry, (int)length);
    }
    if (in->left < (size_t)length) {
        return legacy_end(in, "its name");
    }
    memcpy(name, in->at, (size_t)length);
    name[length] = 0;
    in->at += length;
    in->left -= (size_t)length;
    if (strlen(name) != (size_t)length) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: entry %d: its name holds a NUL",
                         in->path, in->entry);
    }
    return mixt_importance_has(importance, name)
               ? mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: tensor %s is there twice", in->path,
                           name)
               : MIXT_OK;
}

static mixt_status take_entry(legacy *in, mixt_importance *importance)
{
    char name[sizeof importance->entries->name];
    int32_t calls, values;
    MIXT_TRY(take_name(in, importance, name, sizeof name));
    if (!take_i32(in, &calls) || !take_i32(in, &values)) {
        return legacy_end(in, "its sizes");
    }
    if (values < 1) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: tensor %s: %d values", in->path, name,
                         (int)values);
    }
    size_t bytes = (size_t)values * sizeof(float);
    if (in->left < bytes) {
        return legacy_end(in, "its values");
    }
    mixt_importance_entry *entry = mixt_importance_entry_of(importance, name, 1, values);
    if (entry == NULL) {
        return mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: tensor %s: no memory", in->path, name);
    }
    memcpy(entry->sums, in->at, bytes);
    entry->counts[0] = calls > 0 ? (float)calls : 1; /* as llama.cpp: means where there are none */
    in->at += bytes;
    in->left -= bytes;
    return check_numbers(entry, in->path, in->error);
}

static mixt_status read_legacy(mixt_importance *importance, legacy *in)
{
    int32_t entries, chunks = 0, length = 0;
    if (!take_i32(in, &entries) || entries < 1 || entries > MIXT_IMPORTANCE_ENTRIES) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: neither GGUF nor an older importance file", in->path);
    }
    for (in->entry = 1; in->entry <= entries; in->entry++) {
        MIXT_TRY(take_entry(in, importance));
    }
    bool whole = in->left == 0 || (take_i32(in, &chunks) && chunks >= 0);
    if (whole && in->left > 0) {
        whole = take_i32(in, &length) && length >= 0 && in->left == (size_t)length;
    }
    if (!whole) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: behind its %d entries: no number of chunks and name of the text",
                         in->path, (int)entries);
    }
    importance->chunk_count = chunks;
    return MIXT_OK;
}

static mixt_status read_file(mixt_importance *importance, const char *path, mixt_error *error)
{
    mixt_map *map;
    MIXT_TRY(mixt_map_open(path, &map, error));
    legacy in = {
        .at = mixt_map_data(map), .left = (size_t)mixt_map_size(map), .path = path, .error = error};
    bool gguf = in.left >= 4 && memcmp(in.at, "GGUF", 4) == 0;
    mixt_status status = gguf ? MIXT_OK : read_legacy(importance, &in);
    if (status == MIXT_OK && !mixt_map_intact(map)) {
        status = mixt_fail(error, MIXT_ERROR_IO,
                           "%s: became shorter or was written to while it was read", path);
    }
    mixt_map_close(map);
    return status == MIXT_OK && gguf ? read_gguf(importance, path, error) : status;
}

mixt_status mixt_importance_open(const char *path, mixt_importance **result, mixt_error *error)
{
    *result = NULL;
    mixt_importance *importance = calloc(1, sizeof *importance);
    if (importance == NULL || (importance->path = strdup(path)) == NULL) {
        free(importance);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = read_file(importance, path, error);
    if (status != MIXT_OK) {
        mixt_importance_free(importance);
        return status;
    }
    *result = importance;
    return MIXT_OK;
}
