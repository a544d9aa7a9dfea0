/* Opening, finding and reading; shards. */
#include "formats/safetensors.h"

#include <assert.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/map.h"
#include "formats/json.h"
#include "formats/safetensors_header.h"

#define SHARDS_MAX 4096
#define INDEX_MAX ((size_t)64 << 20) /* bytes of an index file */
#define CONVERT_CHUNK 8192           /* elements on the stack while halves become floats */

typedef struct shard_file {
    char *path;
    int descriptor; /* -1: bytes in memory */
    const unsigned char *memory;
    mixt_map *map; /* NULL until mixt_safetensors_map */
    uint64_t size;
    char *header; /* decoded in place; names and texts point into it */
    mixt_parsed_header parsed;
} shard_file;

typedef struct tensor_name {
    const char *name;
    const mixt_tensor_info *tensor;
} tensor_name;

struct mixt_safetensors {
    shard_file *files;
    size_t file_count;
    tensor_name *names; /* [count], sorted by name */
    size_t count;
};

static mixt_status file_read(const shard_file *file, void *to, size_t length, uint64_t offset,
                             mixt_error *error)
{
    if (file->descriptor >= 0) {
        return mixt_read_at(file->descriptor, to, length, offset, file->path, error);
    }
    if (length != 0) { /* callers stay inside the size that was checked at the start */
        memcpy(to, file->memory + offset, length);
    }
    return MIXT_OK;
}

/* Reads and parses the header of a file whose descriptor or memory is set. */
static mixt_status file_load(shard_file *file, uint32_t shard, mixt_error *error)
{
    unsigned char prefix[8];
    if (file->size < sizeof prefix) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %llu bytes are too short for a safetensors file", file->path,
                         (unsigned long long)file->size);
    }
    MIXT_TRY(file_read(file, prefix, sizeof prefix, 0, error));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) {
        length = length << 8 | prefix[i];
    }
    if (length > MIXT_SAFETENSORS_HEADER_MAX) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: header of %llu bytes, more than %u (not a safetensors file?)",
                         file->path, (unsigned long long)length, MIXT_SAFETENSORS_HEADER_MAX);
    }
    if (length > file->size - sizeof prefix) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: header of %llu bytes in a file of %llu bytes", file->path,
                         (unsigned long long)length, (unsigned long long)file->size);
    }
    file->header = malloc((size_t)length + 1);
    if (file->header == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for the header", file->path);
    }
    MIXT_TRY(file_read(file, file->header, (size_t)length, sizeof prefix, error));
    file->header[length] = '\0';
    uint64_t data_at = sizeof prefix + length;
    mixt_status status = mixt_safetensors_parse(file->header, (size_t)length, file->size - data_at,
                                                file->path, &file->parsed, error);
    for (size_t i = 0; i < file->parsed.count; i++) {
        file->parsed.tensors[i].offset += data_at;
        file->parsed.tensors[i].shard = shard;
    }
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const tensor_name *)a)->name, ((const tensor_name *)b)->name);
}

/* One sorted index over all files; finds names that are there twice. */
static mixt_status build_names(mixt_safetensors *all, mixt_error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < all->file_count; i++) {
        count += all->files[i].parsed.count;
    }
    all->names = calloc(count + 1, sizeof *all->names);
    if (all->names == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %zu names",
                         all->files[0].path, count);
    }
    for (size_t i = 0; i < all->file_count; i++) {
        for (size_t j = 0; j < all->files[i].parsed.count; j++) {
            const mixt_tensor_info *tensor = &all->files[i].parsed.tensors[j];
            all->names[all->count++] = (tensor_name){tensor->name, tensor};
        }
    }
    qsort(all->names, count, sizeof *all->names, compare_names);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(all->names[i - 1].name, all->names[i].name) != 0) {
            continue;
        }
        const char *first = mixt_safetensors_path(all, all->names[i - 1].tensor);
        const char *second = mixt_safetensors_path(all, all->names[i].tensor);
        bool same = first == second;
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor \"%.200s\" is there twice%s%s",
                         first, all->names[i].name, same ? "" : ", also in ", same ? "" : second);
    }
    return MIXT_OK;
}

static mixt_safetensors *new_object(size_t files)
{
    mixt_safetensors *all = calloc(1, sizeof *all);
    if (all != NULL) {
        all->files = calloc(files, sizeof *all->files);
        if (all->files == NULL) {
            free(all);
            return NULL;
        }
        for (size_t i = 0; i < files; i++) {
            all->files[i].descriptor = -1;
        }
        all->file_count = files;
    }
    return all;
}

/* Takes `path` (malloc'd). */
static mixt_status open_file(shard_file *file, uint32_t shard, char *path, mixt_error *error)
{
    mixt_error local = MIXT_ERROR_INIT; /* its status says why there is no descriptor */
    file->path = path;
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for a path");
    }
    file->descriptor = mixt_file_open(path, &file->size, &local);
    if (file->descriptor < 0) {
        return mixt_fail(error, local.status, "%s", local.message);
    }
    return file_load(file, shard, error);
}

/* Where a shard name of an index leads, links followed, or NULL with the error set. */
static char *resolve_shard(const char *folder, const char *name, const char *index,
                           mixt_error *error)
{
    if (!mixt_name_is_plain(name, strlen(name))) {
        mixt_fail(error, MIXT_ERROR_FORMAT,
                  "%s: weight_map: \"%.200s\" is not a plain file name in this folder", index,
                  name);
        return NULL;
    }
    char *joined = mixt_path_join(folder, name);
    char *home = realpath(folder, NULL), *target = NULL;
    bool no_memory = joined == NULL || home == NULL || !mixt_path_resolve(joined, &target);
    char *result = NULL;
    struct stat status;
    if (no_memory) {
        mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for paths", folder);
    } else if (!mixt_path_exists(joined)) {
        mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: shard is missing (named in %s)", joined, index);
    } else if (target == NULL || stat(target, &status) != 0) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: shard cannot be opened (named in %s)", joined,
                  index);
    } else if (!S_ISREG(status.st_mode)) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: shard is not a regular file", joined);
    } else {
        char *home_copy = strdup(home); /* dirname and basename write into theirs */
        char *parent = home_copy == NULL ? NULL : dirname(home_copy);
        char *target_copy = strdup(target);
        char *place = target_copy == NULL ? NULL : dirname(target_copy);
        bool inside = place != NULL && strcmp(place, home) == 0;
        const char *slash = parent == NULL ? NULL : strrchr(parent, '/');
        if (!inside && place != NULL && slash != NULL && strcmp(slash, "/snapshots") == 0) {
            size_t length = (size_t)(slash - parent); /* the hub cache's folder of this model */
            inside = strncmp(place, parent, length) == 0 && strcmp(place + length, "/blobs") == 0;
        }
        if (home_copy == NULL || target_copy == NULL) {
            mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for paths", folder);
        } else if (inside) {
            result = target;
            target = NULL;
        } else {
            mixt_fail(error, MIXT_ERROR_FORMAT, "%s: shard is a link out of its folder", joined);
        }
        free(home_copy);
        free(target_copy);
    }
    free(joined);
    free(home);
    free(target);
    return result;
}

/* Distinct shard names of a weight_map into `order` (name -> number). */
static mixt_status collect_shards(json_t *map, json_t *order, const char *index, mixt_error *error)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (name == NULL) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: weight_map: \"%.200s\": file name must be a text", index, tensor);
        }
        if (json_object_get(order, name) != NULL) {
            continue;
        }
        size_t count = json_object_size(order);
        if (count == SHARDS_MAX) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: more than %d shards", index,
                             SHARDS_MAX);
        }
        if (json_object_set_new(order, name, json_integer((json_int_t)count)) != 0) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", index);
        }
    }
    if (json_object_size(order) == 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: weight_map is empty", index);
    }
    return MIXT_OK;
}

/* Every tensor of the map is in the shard that the map names. */
static mixt_status check_map(const mixt_safetensors *all, json_t *map, json_t *order,
                             const char *index, mixt_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        const mixt_tensor_info *tensor = mixt_safetensors_find(all, name);
        json_int_t shard = json_integer_value(json_object_get(order, json_string_value(value)));
        if (tensor == NULL || tensor->shard != (uint32_t)shard) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: weight_map: tensor \"%.200s\" is not in %s", index, name,
                             all->files[shard].path);
        }
    }
    return MIXT_OK;
}

static mixt_status open_shards(const char *folder, const char *index, json_t *map, json_t *order,
                               mixt_safetensors **file, mixt_error *error)
{
    mixt_status status = collect_shards(map, order, index, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_safetensors *all = new_object(json_object_size(order));
    if (all == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", index);
    }
    mixt_error local = MIXT_ERROR_INIT;
    const char *name;
    json_t *number;
    json_object_foreach(order, name, number)
    {
        uint32_t shard = (uint32_t)json_integer_value(number);
        char *path = resolve_shard(folder, name, index, &local);
        status = path == NULL ? mixt_fail(error, local.status, "%s", local.message)
                              : open_file(&all->files[shard], shard, path, error);
        if (status != MIXT_OK) {
            break;
        }
    }
    if (status == MIXT_OK) {
        status = build_names(all, error);
    }
    if (status == MIXT_OK) {
        status = check_map(all, map, order, index, error);
    }
    if (status != MIXT_OK) {
        mixt_safetensors_close(all);
        return status;
    }
    *file = all;
    return MIXT_OK;
}

static mixt_status open_index(const char *folder, const char *index, mixt_safetensors **file,
                              mixt_error *error)
{
    json_t *root;
    mixt_status status = mixt_json_read(index, INDEX_MAX, &root, error);
    if (status != MIXT_OK) {
        return status;
    }
    json_t *map = json_object_get(root, "weight_map");
    json_t *order = json_object();
    if (!json_is_object(map)) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: weight_map must be an object", index);
    } else if (order == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", index);
    } else {
        status = open_shards(folder, index, map, order, file, error);
    }
    json_decref(order);
    json_decref(root);
    return status;
}

static mixt_status open_single(mixt_safetensors *all, mixt_status loaded, mixt_safetensors **file,
                               mixt_error *error)
{
    mixt_status status = loaded == MIXT_OK ? build_names(all, error) : loaded;
    if (status != MIXT_OK) {
        mixt_safetensors_close(all);
        return status;
    }
    *file = all;
    return MIXT_OK;
}

/* Neither a single file nor an index; the folder may hold the pickled form that came before. */
static mixt_status no_weights(const char *folder, mixt_error *error)
{
    static const char *const pickled[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                          "consolidated.00.pth"};
    for (size_t i = 0; i < sizeof pickled / sizeof *pickled; i++) {
        char *path = mixt_path_join(folder, pickled[i]);
        if (path == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
        }
        bool there = mixt_path_exists(path);
        free(path);
        if (there) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "%s: %s: pickled weights are not read: have save_pretrained of "
                             "transformers write model.safetensors",
                             folder, pickled[i]);
        }
    }
    return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                     "%s: holds neither model.safetensors nor model.safetensors.index.json",
                     folder);
}

mixt_status mixt_safetensors_open(const char *path, mixt_safetensors **file, mixt_error *error)
{
    *file = NULL;
    char *single = NULL;
    if (mixt_path_is_folder(path)) {
        single = mixt_path_join(path, "model.safetensors");
        char *index = mixt_path_join(path, "model.safetensors.index.json");
        if (single == NULL || index == NULL) {
            free(single);
            free(index);
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for paths", path);
        }
        if (!mixt_path_exists(single)) {
            mixt_status status = mixt_path_exists(index) ? open_index(path, index, file, error)
                                                         : no_weights(path, error);
            free(single);
            free(index);
            return status;
        }
        free(index);
    } else {
        single = strdup(path);
    }
    mixt_safetensors *all = new_object(1);
    if (all == NULL) {
        free(single);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    return open_single(all, open_file(&all->files[0], 0, single, error), file, error);
}

mixt_status mixt_safetensors_open_memory(const void *bytes, size_t length, const char *name,
                                         mixt_safetensors **file, mixt_error *error)
{
    *file = NULL;
    mixt_safetensors *all = new_object(1);
    if (all == NULL || (all->files[0].path = strdup(name)) == NULL) {
        mixt_safetensors_close(all);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", name);
    }
    all->files[0].memory = bytes;
    all->files[0].size = length;
    return open_single(all, file_load(&all->files[0], 0, error), file, error);
}

void mixt_safetensors_close(mixt_safetensors *file)
{
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < file->file_count; i++) {
        shard_file *one = &file->files[i];
        if (one->descriptor >= 0) {
            close(one->descriptor);
        }
        mixt_map_close(one->map);
        mixt_parsed_header_free(&one->parsed);
        free(one->header);
        free(one->path);
    }
    free(file->files);
    free(file->names);
    free(file);
}

size_t mixt_safetensors_count(const mixt_safetensors *file)
{
    return file->count;
}

const mixt_tensor_info *mixt_safetensors_tensor(const mixt_safetensors *file, size_t index)
{
    for (size_t i = 0; i < file->file_count; i++) {
        if (index < file->files[i].parsed.count) {
            return &file->files[i].parsed.tensors[index];
        }
        index -= file->files[i].parsed.count;
    }
    return NULL;
}

const mixt_tensor_info *mixt_safetensors_find(const mixt_safetensors *file, const char *name)
{
    tensor_name wanted = {name, NULL};
    const tensor_name *found =
        bsearch(&wanted, file->names, file->count, sizeof wanted, compare_names);
    return found == NULL ? NULL : found->tensor;
}

const char *mixt_safetensors_metadata(const mixt_safetensors *file, const char *key)
{
    const mixt_parsed_header *parsed = &file->files[0].parsed;
    size_t low = 0;
    size_t high = parsed->metadata_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, parsed->metadata[middle].key);
        if (order == 0) {
            return parsed->metadata[middle].value;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    assert(low == 0 || strcmp(parsed->metadata[low - 1].key, key) < 0);
    assert(low == parsed->metadata_count || strcmp(key, parsed->metadata[low].key) < 0);
    return NULL;
}

size_t mixt_safetensors_metadata_count(const mixt_safetensors *file)
{
    return file->files[0].parsed.metadata_count;
}

const char *mixt_safetensors_metadata_key(const mixt_safetensors *file, size_t index)
{
    assert(index < file->files[0].parsed.metadata_count);
    return file->files[0].parsed.metadata[index].key;
}

const char *mixt_safetensors_path(const mixt_safetensors *file, const mixt_tensor_info *tensor)
{
    assert(tensor->shard < file->file_count);
    return file->files[tensor->shard].path;
}

mixt_status mixt_safetensors_map(mixt_safetensors *file, mixt_error *error)
{
    for (size_t i = 0; i < file->file_count; i++) {
        shard_file *one = &file->files[i];
        if (one->descriptor < 0 || one->map != NULL) {
            continue;
        }
        MIXT_TRY(mixt_map_open(one->path, &one->map, error));
        if (mixt_map_size(one->map) != one->size) {
            return mixt_fail(error, MIXT_ERROR_IO,
                             "%s: was %llu bytes when its header was read and is %llu now",
                             one->path, (unsigned long long)one->size,
                             (unsigned long long)mixt_map_size(one->map));
        }
    }
    return MIXT_OK;
}

const void *mixt_safetensors_data(const mixt_safetensors *file, const mixt_tensor_info *tensor)
{
    const shard_file *one = &file->files[tensor->shard];
    const unsigned char *bytes = one->map != NULL ? mixt_map_data(one->map) : one->memory;
    assert(tensor->offset <= one->size && tensor->bytes <= one->size - tensor->offset);
    return bytes != NULL ? bytes + tensor->offset : NULL;
}

mixt_status mixt_safetensors_intact(const mixt_safetensors *file, mixt_error *error)
{
    for (size_t i = 0; i < file->file_count; i++) {
        const shard_file *one = &file->files[i];
        if (one->map != NULL && !mixt_map_intact(one->map)) {
            return mixt_fail(error, MIXT_ERROR_IO,
                             "%s: became shorter or was written to while it was in use", one->path);
        }
    }
    return MIXT_OK;
}

const mixt_map *mixt_safetensors_locate(const mixt_safetensors *file, const void *data,
                                        const char **path, uint64_t *offset)
{
    for (size_t i = 0; i < file->file_count; i++) {
        const shard_file *one = &file->files[i];
        if (one->map != NULL && mixt_map_place(one->map, data, offset)) {
            *path = one->path;
            return one->map;
        }
    }
    return NULL;
}

uint64_t mixt_safetensors_mapped(const mixt_safetensors *file)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->file_count; i++) {
        bytes += file->files[i].map != NULL ? file->files[i].size : 0;
    }
    return bytes;
}

mixt_status mixt_safetensors_load(const mixt_safetensors *file, mixt_error *error)
{
    for (size_t i = 0; i < file->file_count; i++) {
        const shard_file *one = &file->files[i];
        if (one->map != NULL) {
            MIXT_TRY(mixt_map_load(one->map, one->path, error));
        }
    }
    return MIXT_OK;
}

mixt_status mixt_safetensors_read(const mixt_safetensors *file, const mixt_tensor_info *tensor,
                                  uint64_t first, size_t length, void *to, mixt_error *error)
{
    const shard_file *one = &file->files[tensor->shard];
    if (tensor->dtype == MIXT_DTYPE_UNKNOWN) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor \"%.200s\": dtype \"%.60s\" is not known", one->path,
                         tensor->name, tensor->dtype_name);
    }
    if (first > tensor->bytes || length > tensor->bytes - first) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: tensor \"%.200s\": %zu bytes at %llu of %llu", one->path,
                         tensor->name, length, (unsigned long long)first,
                         (unsigned long long)tensor->bytes);
    }
    return file_read(one, to, length, tensor->offset + first, error);
}

mixt_status mixt_safetensors_read_f32(const mixt_safetensors *file, const mixt_tensor_info *tensor,
                                      uint64_t first, size_t count, float *to, mixt_error *error)
{
    if (tensor->dtype != MIXT_DTYPE_F32 && tensor->dtype != MIXT_DTYPE_F16 &&
        tensor->dtype != MIXT_DTYPE_BF16) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor \"%.200s\": dtype \"%.60s\" where F32, F16 or BF16 is needed",
                         mixt_safetensors_path(file, tensor), tensor->name, tensor->dtype_name);
    }
    unsigned size = mixt_dtype_bits(tensor->dtype) / 8;
    uint64_t elements = tensor->bytes / size;
    if (first > elements || count > elements - first) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: tensor \"%.200s\": %zu elements at %llu of %llu",
                         mixt_safetensors_path(file, tensor), tensor->name, count,
                         (unsigned long long)first, (unsigned long long)elements);
    }
    if (tensor->dtype == MIXT_DTYPE_F32) {
        return mixt_safetensors_read(file, tensor, first * size, count * size, to, error);
    }
    uint16_t halves[CONVERT_CHUNK];
    for (size_t done = 0; done < count;) {
        size_t step = count - done < CONVERT_CHUNK ? count - done : CONVERT_CHUNK;
        MIXT_TRY(
            mixt_safetensors_read(file, tensor, (first + done) * size, step * size, halves, error));
        if (tensor->dtype == MIXT_DTYPE_BF16) {
            mixt_bf16_to_f32(halves, to + done, step);
        } else {
            mixt_f16_to_f32(halves, to + done, step);
        }
        done += step;
    }
    return MIXT_OK;
}
