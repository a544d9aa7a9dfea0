/* Opening, shards, and what a reader may ask. */
#include "formats/gguf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/number.h"
#include "core/utf8.h"
#include "formats/gguf_header.h"

#define SUFFIX ".gguf"
#define SHARD_TAIL 20 /* strlen("-00001-of-00002.gguf") */
#define SHARDS_MAX 65535

struct mixt_gguf {
    mixt_gguf_part **parts;
    size_t part_count;
    const mixt_gguf_tensor **tensors; /* [tensor_count], in the order of the files */
    const mixt_gguf_tensor **names;   /* the same, by name */
    size_t tensor_count;
    mixt_arena *arena;
};

/* ------------------------------------------------------------------------------------------ */
/* Opening */

static mixt_status no_memory(const char *path, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
}

/* A further part, with its path set. */
static mixt_gguf_part *new_part(mixt_gguf *file, const char *path)
{
    mixt_gguf_part **parts = realloc(file->parts, (file->part_count + 1) * sizeof(void *));
    if (parts == NULL) {
        return NULL;
    }
    file->parts = parts;
    mixt_gguf_part *part = mixt_arena_allocate(file->arena, 1, sizeof *part);
    if (part == NULL || (part->path = mixt_arena_string(file->arena, path)) == NULL) {
        return NULL;
    }
    parts[file->part_count++] = part;
    return part;
}

static mixt_status open_part(mixt_gguf *file, const char *path, mixt_error *error)
{
    mixt_gguf_part *part = new_part(file, path);
    if (part == NULL) {
        return no_memory(path, error);
    }
    MIXT_TRY(mixt_map_open(path, &part->map, error));
    part->bytes = mixt_map_data(part->map);
    part->size = mixt_map_size(part->map);
    return mixt_gguf_parse(part, (int)file->part_count - 1, file->arena, error);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const mixt_gguf_tensor *const *)a)->name,
                  (*(const mixt_gguf_tensor *const *)b)->name);
}

/* The tensors of all parts, in order and by name. */
static mixt_status list_tensors(mixt_gguf *file, mixt_error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < file->part_count; i++) {
        count += file->parts[i]->tensor_count;
    }
    file->tensors = mixt_arena_allocate(file->arena, count, sizeof(void *));
    file->names = mixt_arena_allocate(file->arena, count, sizeof(void *));
    if (file->tensors == NULL || file->names == NULL) {
        return no_memory(file->parts[0]->path, error);
    }
    for (size_t i = 0; i < file->part_count; i++) {
        for (size_t j = 0; j < file->parts[i]->tensor_count; j++) {
            file->tensors[file->tensor_count++] = &file->parts[i]->tensors[j];
        }
    }
    memcpy(file->names, file->tensors, count * sizeof(void *));
    qsort(file->names, count, sizeof(void *), compare_names);
    for (size_t i = 1; i < count; i++) {
        const mixt_gguf_tensor *first = file->names[i - 1];
        const mixt_gguf_tensor *second = file->names[i];
        if (strcmp(first->name, second->name) != 0) {
            continue;
        }
        bool same = first->shard == second->shard;
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor \"%s\" is there twice%s%s",
                         mixt_gguf_path(file, first->shard), first->name, same ? "" : ", also in ",
                         same ? "" : mixt_gguf_path(file, second->shard));
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Shards */

static bool to_integer(const mixt_gguf_value *value, int64_t *integer)
{
    int shift = 64 - 8 * (int)mixt_gguf_kind_bytes(value->kind);
    bool negative = value->bits >> 63 != 0;
    switch (value->kind) {
    case MIXT_GGUF_U8:
    case MIXT_GGUF_U16:
    case MIXT_GGUF_U32:
        *integer = (int64_t)value->bits;
        return true;
    case MIXT_GGUF_U64:
        *integer = negative ? INT64_MAX : (int64_t)value->bits; /* beyond every range */
        return true;
    case MIXT_GGUF_I8:
    case MIXT_GGUF_I16:
    case MIXT_GGUF_I32:
    case MIXT_GGUF_I64:
        *integer = (int64_t)(value->bits << shift) >> shift;
        return true;
    case MIXT_GGUF_F32:
    case MIXT_GGUF_BOOL:
    case MIXT_GGUF_STRING:
    case MIXT_GGUF_ARRAY:
    case MIXT_GGUF_F64:
        break;
    }
    return false;
}

/* A split.* key of a shard, `missing` where it is not there; -1 where it is no count. */
static int64_t split_number(const mixt_gguf_part *part, const char *key, int64_t missing)
{
    const mixt_gguf_value *value = mixt_gguf_value_of(part, key);
    int64_t number = -1;
    if (value == NULL) {
        return missing;
    }
    return to_integer(value, &number) && number >= 0 && number < INT64_MAX ? number : -1;
}

/* Shard `index` says that it belongs to the first. */
static mixt_status check_shard(const mixt_gguf *file, size_t index, int64_t count,
                               mixt_error *error)
{
    const mixt_gguf_part *first = file->parts[0];
    const mixt_gguf_part *part = file->parts[index];
    if (split_number(part, "split.count", 0) != count ||
        split_number(part, "split.no", -1) != (int64_t)index) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: says that it is shard %lld of %lld, not shard %zu of %lld",
                         part->path, (long long)split_number(part, "split.no", -1) + 1,
                         (long long)split_number(part, "split.count", 0), index + 1,
                         (long long)count);
    }
    const mixt_gguf_value *own = mixt_gguf_value_of(part, "general.architecture");
    const mixt_gguf_value *whole = mixt_gguf_value_of(first, "general.architecture");
    bool other = own != NULL && whole != NULL && own->text != NULL && whole->text != NULL &&
                 strcmp(own->text, whole->text) != 0;
    if (other || split_number(part, "split.tensors.count", -1) !=
                     split_number(first, "split.tensors.count", -1)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is a shard of another model than %s",
                         part->path, first->path);
    }
    return MIXT_OK;
}

/* The shards behind the first, which says how many there are. */
static mixt_status open_shards(mixt_gguf *file, int64_t count, mixt_error *error)
{
    const char *path = file->parts[0]->path;
    size_t length = strlen(path);
    char tail[40];
    snprintf(tail, sizeof tail, "-00001-of-%05d" SUFFIX, (int)count);
    if (length < SHARD_TAIL || !mixt_ascii_equal(path + length - SHARD_TAIL, tail)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: is the first of %lld shards, so its name must end in %s", path,
                         (long long)count, tail);
    }
    char *name = strdup(path);
    if (name == NULL) {
        return no_memory(path, error);
    }
    mixt_status status = check_shard(file, 0, count, error);
    for (int i = 1; i < count && status == MIXT_OK; i++) {
        snprintf(tail, sizeof tail, "-%05d-", i + 1); /* the rest in the case that it has */
        memcpy(name + length - SHARD_TAIL, tail, strlen(tail));
        status = open_part(file, name, error);
        if (status == MIXT_OK) {
            status = check_shard(file, (size_t)i, count, error);
        }
    }
    free(name);
    return status;
}

static mixt_status open_all(mixt_gguf *file, mixt_error *error)
{
    const mixt_gguf_part *first = file->parts[0];
    int64_t count = split_number(first, "split.count", 0);
    int64_t number = split_number(first, "split.no", 0);
    if (count < 0 || count > SHARDS_MAX || number < 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: split.count and split.no must be counts up to %d", first->path,
                         SHARDS_MAX);
    }
    if (number != 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: is shard %lld of %lld; the first one is to be opened", first->path,
                         (long long)number + 1, (long long)count);
    }
    if (count > 1) {
        MIXT_TRY(open_shards(file, count, error));
    }
    MIXT_TRY(list_tensors(file, error));
    int64_t tensors = split_number(first, "split.tensors.count", -1);
    if (count > 1 && tensors != (int64_t)file->tensor_count) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: its %lld shards hold %zu tensors, but split.tensors.count is %lld",
                         first->path, (long long)count, file->tensor_count, (long long)tensors);
    }
    return MIXT_OK;
}

static mixt_gguf *new_file(void)
{
    mixt_gguf *file = calloc(1, sizeof *file);
    if (file != NULL && (file->arena = mixt_arena_create()) == NULL) {
        free(file);
        file = NULL;
    }
    return file;
}

bool mixt_gguf_is_name(const char *path)
{
    size_t length = strlen(path), end = strlen(SUFFIX);
    return length > end && mixt_ascii_equal(path + length - end, SUFFIX);
}

bool mixt_gguf_has_magic(const char *path)
{
    uint64_t size;
    char magic[4] = {0};
    int descriptor = mixt_file_open(path, &size, NULL);
    if (descriptor >= 0) {
        if (size >= sizeof magic) {
            mixt_read_at(descriptor, magic, sizeof magic, 0, path, NULL);
        }
        close(descriptor);
    }
    return memcmp(magic, MIXT_GGUF_MAGIC, sizeof magic) == 0;
}

bool mixt_gguf_is(const char *path)
{
    return mixt_gguf_has_magic(path) || mixt_gguf_is_name(path);
}

mixt_status mixt_gguf_open(const char *path, mixt_gguf **file, mixt_error *error)
{
    *file = NULL;
    mixt_gguf *made = new_file();
    if (made == NULL) {
        return no_memory(path, error);
    }
    mixt_status status = open_part(made, path, error);
    if (status == MIXT_OK) {
        status = open_all(made, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_intact(made, error);
    }
    if (status != MIXT_OK) {
        mixt_gguf_close(made);
        return status;
    }
    *file = made;
    return MIXT_OK;
}

mixt_status mixt_gguf_open_memory(const void *bytes, size_t length, const char *name,
                                  mixt_gguf **file, mixt_error *error)
{
    *file = NULL;
    mixt_gguf *made = new_file();
    mixt_gguf_part *part = made == NULL ? NULL : new_part(made, name);
    if (part == NULL) {
        mixt_gguf_close(made);
        return no_memory(name, error);
    }
    part->bytes = bytes;
    part->size = length;
    mixt_status status = mixt_gguf_parse(part, 0, made->arena, error);
    if (status == MIXT_OK && split_number(part, "split.count", 0) > 1) {
        status = mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: one shard of several", name);
    }
    if (status == MIXT_OK) {
        status = open_all(made, error);
    }
    if (status != MIXT_OK) {
        mixt_gguf_close(made);
        return status;
    }
    *file = made;
    return MIXT_OK;
}

void mixt_gguf_close(mixt_gguf *file)
{
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < file->part_count; i++) {
        mixt_map_close(file->parts[i]->map);
    }
    free(file->parts);
    mixt_arena_free(file->arena);
    free(file);
}

const char *mixt_gguf_path(const mixt_gguf *file, int shard)
{
    assert(shard >= 0 && (size_t)shard < file->part_count);
    return file->parts[shard]->path;
}

uint64_t mixt_gguf_bytes(const mixt_gguf *file)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->part_count; i++) {
        bytes += file->parts[i]->size;
    }
    return bytes;
}

mixt_status mixt_gguf_intact(const mixt_gguf *file, mixt_error *error)
{
    for (size_t i = 0; i < file->part_count; i++) {
        const mixt_gguf_part *part = file->parts[i];
        if (part->map != NULL && !mixt_map_intact(part->map)) {
            return mixt_fail(error, MIXT_ERROR_IO,
                             "%s: became shorter or was written to while it was in use",
                             part->path);
        }
    }
    return MIXT_OK;
}

const mixt_map *mixt_gguf_locate(const mixt_gguf *file, const void *data, const char **path,
                                 uint64_t *offset)
{
    for (size_t i = 0; i < file->part_count; i++) {
        const mixt_gguf_part *part = file->parts[i];
        if (part->map != NULL && mixt_map_place(part->map, data, offset)) {
            *path = part->path;
            return part->map;
        }
    }
    return NULL;
}

mixt_status mixt_gguf_load(const mixt_gguf *file, mixt_error *error)
{
    for (size_t i = 0; i < file->part_count; i++) {
        const mixt_gguf_part *part = file->parts[i];
        if (part->map != NULL) {
            MIXT_TRY(mixt_map_load(part->map, part->path, error));
        }
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Tensors */

size_t mixt_gguf_tensor_count(const mixt_gguf *file)
{
    return file->tensor_count;
}

const mixt_gguf_tensor *mixt_gguf_tensor_at(const mixt_gguf *file, size_t index)
{
    assert(index < file->tensor_count);
    return file->tensors[index];
}

const mixt_gguf_tensor *mixt_gguf_find(const mixt_gguf *file, const char *name)
{
    size_t low = 0;
    size_t high = file->tensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, file->names[middle]->name);
        if (order == 0) {
            return file->names[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    assert(low == 0 || strcmp(file->names[low - 1]->name, name) < 0);
    assert(low == file->tensor_count || strcmp(name, file->names[low]->name) < 0);
    return NULL;
}

/* ------------------------------------------------------------------------------------------ */
/* Metadata */

size_t mixt_gguf_key_count(const mixt_gguf *file)
{
    return file->parts[0]->value_count;
}

const char *mixt_gguf_key_at(const mixt_gguf *file, size_t index, mixt_gguf_kind *kind)
{
    assert(index < file->parts[0]->value_count);
    const mixt_gguf_value *value = &file->parts[0]->values[index];
    if (kind != NULL) {
        *kind = value->kind;
    }
    return value->key;
}

const mixt_gguf_value *mixt_gguf_first_value(const mixt_gguf *file, const char *key)
{
    return mixt_gguf_value_of(file->parts[0], key);
}

bool mixt_gguf_has(const mixt_gguf *file, const char *key)
{
    return mixt_gguf_first_value(file, key) != NULL;
}

static mixt_status missing(const mixt_gguf *file, const char *key, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: key \"%.200s\" is missing",
                     file->parts[0]->path, key);
}

static mixt_status wrong_kind(const mixt_gguf *file, const mixt_gguf_value *value,
                              const char *wanted, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: key \"%.200s\" is of kind %s, not %s",
                     file->parts[0]->path, value->key, mixt_gguf_kind_name(value->kind), wanted);
}

mixt_status mixt_gguf_integer(const mixt_gguf *file, const char *key, mixt_gguf_range range,
                              int64_t *value, mixt_error *error)
{
    const mixt_gguf_value *found = mixt_gguf_first_value(file, key);
    int64_t integer;
    if (found == NULL) {
        return missing(file, key, error);
    }
    if (!to_integer(found, &integer)) {
        return wrong_kind(file, found, "an integer", error);
    }
    bool huge = found->kind == MIXT_GGUF_U64 && found->bits >> 63 != 0;
    if (huge || !((double)integer >= range.low && (double)integer <= range.high)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: key \"%.200s\" is %s%lld, not %.17g to %.17g", file->parts[0]->path,
                         key, huge ? "more than " : "", (long long)integer, range.low, range.high);
    }
    *value = integer;
    return MIXT_OK;
}

/* The shortest decimal that is this fp32 number: what somebody wrote as 0.1 is 0.1 again. */
static double as_written(float number)
{
    char text[MIXT_NUMBER_SIZE];
    mixt_number_write_float(number, text);
    return mixt_number_read(text, NULL);
}

mixt_status mixt_gguf_number(const mixt_gguf *file, const char *key, mixt_gguf_range range,
                             double *value, mixt_error *error)
{
    const mixt_gguf_value *found = mixt_gguf_first_value(file, key);
    int64_t integer;
    double number;
    if (found == NULL) {
        return missing(file, key, error);
    }
    if (found->kind == MIXT_GGUF_F32) {
        uint32_t bits = (uint32_t)found->bits;
        float single;
        memcpy(&single, &bits, sizeof single);
        number = as_written(single);
    } else if (found->kind == MIXT_GGUF_F64) {
        memcpy(&number, &found->bits, sizeof number);
    } else if (found->kind == MIXT_GGUF_U64) {
        number = (double)found->bits;
    } else if (to_integer(found, &integer)) {
        number = (double)integer;
    } else {
        return wrong_kind(file, found, "a number", error);
    }
    if (!(number >= range.low && number <= range.high)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: key \"%.200s\" is %.9g, not %.9g to %.9g",
                         file->parts[0]->path, key, number, range.low, range.high);
    }
    *value = number;
    return MIXT_OK;
}

mixt_status mixt_gguf_bool(const mixt_gguf *file, const char *key, bool *value, mixt_error *error)
{
    const mixt_gguf_value *found = mixt_gguf_first_value(file, key);
    if (found == NULL) {
        return missing(file, key, error);
    }
    if (found->kind != MIXT_GGUF_BOOL) {
        return wrong_kind(file, found, "bool", error);
    }
    *value = found->bits != 0;
    return MIXT_OK;
}

mixt_status mixt_gguf_string(const mixt_gguf *file, const char *key, const char **text,
                             mixt_error *error)
{
    const mixt_gguf_value *found = mixt_gguf_first_value(file, key);
    if (found == NULL) {
        return missing(file, key, error);
    }
    if (found->kind != MIXT_GGUF_STRING) {
        return wrong_kind(file, found, "string", error);
    }
    if (strlen(found->text) != found->length) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: key \"%.200s\" holds a NUL",
                         file->parts[0]->path, key);
    }
    *text = found->text;
    return MIXT_OK;
}

mixt_status mixt_gguf_array_of(const mixt_gguf *file, const char *key, mixt_gguf_kind kind,
                               mixt_gguf_array *array, mixt_error *error)
{
    const mixt_gguf_value *found = mixt_gguf_first_value(file, key);
    if (found == NULL) {
        return missing(file, key, error);
    }
    if (found->kind != MIXT_GGUF_ARRAY) {
        return wrong_kind(file, found, "array", error);
    }
    if (found->array.kind != kind) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: key \"%.200s\" is an array of %s, not of %s", file->parts[0]->path,
                         key, mixt_gguf_kind_name(found->array.kind), mixt_gguf_kind_name(kind));
    }
    *array = found->array;
    return MIXT_OK;
}
