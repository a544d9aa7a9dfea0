/* The reading half of checkpoints: find, verify, load. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "core/files.h"
#include "core/threads.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_manifest.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"

#define SMALL_FILE_MAX ((size_t)256 << 20)

struct mixt_checkpoint {
    char *path;
    mixt_manifest manifest;
};

/* Files are verified side by side: reading and hashing several GB is most of a resume. */
typedef struct verification {
    const char *path;
    const mixt_manifest *manifest;
    mixt_error *errors; /* [file_count] */
} verification;

static void verify_item(void *context, int64_t item, int thread)
{
    (void)thread;
    const verification *all = context;
    mixt_manifest_verify_file(all->path, &all->manifest->files[item], &all->errors[item]);
}

static mixt_status verify_files(const char *path, const mixt_manifest *manifest, mixt_error *error)
{
    verification all = {path, manifest, calloc(manifest->file_count + 1, sizeof *all.errors)};
    if (all.errors == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    uint64_t bytes = 0; /* each is at most 2^53, and there are few */
    for (size_t i = 0; i < manifest->file_count; i++) {
        bytes += manifest->files[i].bytes;
    }
    mixt_pool *pool = NULL;
    if (bytes >= MIXT_CHECKPOINT_PARALLEL && mixt_pool_create(0, &pool, NULL) != MIXT_OK) {
        pool = NULL; /* one after the other, then */
    }
    mixt_pool_run(pool, (int64_t)manifest->file_count, verify_item, &all);
    mixt_pool_free(pool);
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < manifest->file_count && status == MIXT_OK; i++) {
        status = all.errors[i].status;
        if (status != MIXT_OK) {
            mixt_fail(error, status, "%s", all.errors[i].message);
        }
    }
    free(all.errors);
    return status;
}

static mixt_status open_folder(const char *path, bool verify, mixt_checkpoint **checkpoint,
                               mixt_error *error)
{
    *checkpoint = NULL;
    struct stat place;
    if (lstat(path, &place) != 0 || !S_ISDIR(place.st_mode)) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: is not a folder", path);
    }
    mixt_checkpoint *made = calloc(1, sizeof *made);
    if (made == NULL || (made->path = strdup(path)) == NULL) {
        free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = mixt_manifest_read(path, &made->manifest, error);
    if (status == MIXT_OK && verify) {
        status = verify_files(path, &made->manifest, error);
    }
    if (status != MIXT_OK) {
        mixt_checkpoint_free(made);
        return status;
    }
    *checkpoint = made;
    return MIXT_OK;
}

mixt_status mixt_checkpoint_open(const char *path, mixt_checkpoint **checkpoint, mixt_error *error)
{
    return open_folder(path, true, checkpoint, error);
}

void mixt_checkpoint_free(mixt_checkpoint *checkpoint)
{
    if (checkpoint != NULL) {
        mixt_manifest_free(&checkpoint->manifest);
        free(checkpoint->path);
        free(checkpoint);
    }
}

const char *mixt_checkpoint_path(const mixt_checkpoint *checkpoint)
{
    return checkpoint->path;
}

int64_t mixt_checkpoint_step(const mixt_checkpoint *checkpoint)
{
    return checkpoint->manifest.step;
}

const char *mixt_checkpoint_config_hash(const mixt_checkpoint *checkpoint)
{
    return checkpoint->manifest.config_hash;
}

/* Opens step folder `step`; a manifest of another step (a renamed folder) is refused. */
static mixt_status open_step(const char *folder, int64_t step, bool verify,
                             mixt_checkpoint **checkpoint, mixt_error *error)
{
    char name[MIXT_STEP_NAME_MAX];
    mixt_step_name(name, step);
    char *path = mixt_path_join(folder, name);
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = open_folder(path, verify, checkpoint, error);
    if (status == MIXT_OK && (*checkpoint)->manifest.step != step) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: its manifest is that of step %lld", path,
                           (long long)(*checkpoint)->manifest.step);
        mixt_checkpoint_free(*checkpoint);
        *checkpoint = NULL;
    }
    free(path);
    return status;
}

mixt_status mixt_checkpoint_open_verified(const char *folder, int64_t step,
                                          mixt_checkpoint **checkpoint, mixt_error *error)
{
    return open_step(folder, step, false, checkpoint, error);
}

/* LATEST comes after the first checkpoint, and no more than the older ones are ever removed. */
static mixt_status refuse_lost(const char *folder, mixt_error *error)
{
    char *latest = mixt_path_join(folder, "LATEST");
    mixt_status status =
        latest == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
        : mixt_path_exists(latest)
            ? mixt_fail(error, MIXT_ERROR_FORMAT,
                        "%s: names a checkpoint, and there is none in the folder", latest)
            : MIXT_OK;
    free(latest);
    return status;
}

mixt_status mixt_checkpoint_find(const char *folder, mixt_checkpoint **checkpoint,
                                 char **passed_over, mixt_error *error)
{
    *checkpoint = NULL;
    *passed_over = NULL;
    if (!mixt_path_exists(folder)) {
        return MIXT_OK;
    }
    int64_t *steps;
    size_t count;
    mixt_status status = mixt_step_list(folder, &steps, &count, error);
    if (status != MIXT_OK) {
        return status;
    }
    if (count == 0) { /* a run that lost its checkpoints is not to begin again over what is left */
        free(steps);
        return refuse_lost(folder, error);
    }
    mixt_buffer lines = {0};
    mixt_error first = MIXT_ERROR_INIT;
    for (size_t i = 0; i < count && *checkpoint == NULL; i++) {
        mixt_error reason = MIXT_ERROR_INIT;
        status = open_step(folder, steps[i], true, checkpoint, &reason);
        if (status == MIXT_ERROR_MEMORY || status == MIXT_ERROR_UNSUPPORTED) {
            mixt_fail(error, status, "%s", reason.message); /* going back would lose work */
            break;
        }
        if (status != MIXT_OK) {
            first = i == 0 ? reason : first;
            mixt_buffer_format(&lines, "%s\n", reason.message);
            status = MIXT_OK;
        }
    }
    free(steps);
    if (status == MIXT_OK && *checkpoint == NULL) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: none of %zu checkpoints verifies: %.300s",
                           folder, count, first.message);
    }
    if (status == MIXT_OK && lines.length != 0) {
        lines.length--; /* the last line break */
        *passed_over = strndup(lines.data, lines.length);
    }
    if (lines.failed || (lines.length != 0 && status == MIXT_OK && *passed_over == NULL)) {
        mixt_checkpoint_free(*checkpoint);
        *checkpoint = NULL;
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_buffer_free(&lines);
    return status;
}

static const mixt_manifest_file *find_file(const mixt_checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->manifest.file_count; i++) {
        if (strcmp(checkpoint->manifest.files[i].name, name) == 0) {
            return &checkpoint->manifest.files[i];
        }
    }
    return NULL;
}

static void shape_text(uint32_t rank, const int64_t *shape, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (uint32_t i = 0; i < rank && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i == 0 ? "" : ", ",
                                 (long long)shape[i]);
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
}

/* A tensor of the set and the file of the set that has it. */
typedef struct listed_tensor {
    const mixt_manifest_tensor *sum;
    size_t file;
} listed_tensor;

/* The files that hold a set of tensors together: one of that name, or shards of it. */
typedef struct loaded_set {
    const mixt_checkpoint *checkpoint;
    const char *name;
    const mixt_manifest_file **records; /* [count] */
    mixt_safetensors **files;           /* [count], NULL: nothing was read of it yet */
    size_t count;
    listed_tensor *tensors; /* [tensor_count], by name */
    size_t tensor_count;
} loaded_set;

static int by_name(const void *a, const void *b)
{
    const listed_tensor *left = a, *right = b;
    return strcmp(left->sum->name, right->sum->name);
}

static size_t skip_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* "model-00001-of-00004.safetensors" is a shard of "model.safetensors". */
static bool is_of_set(const char *name, const char *set)
{
    const char *end = strrchr(set, '.');
    size_t stem = end != NULL ? (size_t)(end - set) : 0, digits;
    if (end == NULL || strncmp(name, set, stem) != 0 || name[stem] != '-') {
        return strcmp(name, set) == 0;
    }
    const char *at = name + stem + 1;
    digits = skip_digits(at);
    if (digits == 0 || strncmp(at + digits, "-of-", 4) != 0) {
        return false;
    }
    at += digits + 4;
    digits = skip_digits(at);
    return digits > 0 && strcmp(at + digits, end) == 0;
}

static void close_set(loaded_set *set)
{
    for (size_t i = 0; set->files != NULL && i < set->count; i++) {
        mixt_safetensors_close(set->files[i]);
    }
    free(set->files);
    free(set->records);
    free(set->tensors);
}

static mixt_status list_tensors(loaded_set *set, mixt_error *error)
{
    size_t total = 0;
    for (size_t i = 0; i < set->count; i++) {
        total += set->records[i]->tensor_count;
    }
    set->tensors = calloc(total + 1, sizeof *set->tensors);
    if (set->tensors == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", set->checkpoint->path);
    }
    for (size_t i = 0; i < set->count; i++) {
        for (size_t j = 0; j < set->records[i]->tensor_count; j++) {
            set->tensors[set->tensor_count++] = (listed_tensor){&set->records[i]->tensors[j], i};
        }
    }
    qsort(set->tensors, total, sizeof *set->tensors, by_name);
    for (size_t i = 1; i < total; i++) {
        const listed_tensor *a = &set->tensors[i - 1], *b = &set->tensors[i];
        if (strcmp(a->sum->name, b->sum->name) == 0) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: tensor \"%.200s\" is in %.100s and in %.100s",
                             set->checkpoint->path, a->sum->name, set->records[a->file]->name,
                             set->records[b->file]->name);
        }
    }
    return MIXT_OK;
}

static mixt_status open_set(const mixt_checkpoint *checkpoint, const char *name, loaded_set *set,
                            mixt_error *error)
{
    const mixt_manifest *manifest = &checkpoint->manifest;
    *set = (loaded_set){.checkpoint = checkpoint, .name = name};
    set->records = calloc(manifest->file_count + 1, sizeof *set->records);
    set->files = calloc(manifest->file_count + 1, sizeof *set->files);
    if (set->records == NULL || set->files == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", checkpoint->path);
    }
    for (size_t i = 0; i < manifest->file_count; i++) {
        if (is_of_set(manifest->files[i].name, name)) {
            set->records[set->count++] = &manifest->files[i];
        }
    }
    return set->count > 0 ? list_tensors(set, error)
                          : mixt_fail(error, MIXT_ERROR_FORMAT, "%s/%s: not in the checkpoint",
                                      checkpoint->path, name);
}

/* A file of the set, open. */
static mixt_status use_file(loaded_set *set, size_t index, mixt_error *error)
{
    const mixt_manifest_file *record = set->records[index];
    if (set->files[index] != NULL) {
        return MIXT_OK;
    }
    char *path = mixt_path_join(set->checkpoint->path, record->name);
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", set->checkpoint->path);
    }
    mixt_status status = mixt_safetensors_open(path, &set->files[index], error);
    if (status == MIXT_OK && mixt_safetensors_count(set->files[index]) != record->tensor_count) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: holds %zu tensors, the manifest says %zu",
                           path, mixt_safetensors_count(set->files[index]), record->tensor_count);
    }
    free(path);
    return status;
}

static mixt_status compare_shape(const mixt_manifest_file *record,
                                 const mixt_manifest_tensor *found,
                                 const mixt_checkpoint_tensor *wanted, mixt_error *error)
{
    if (found->dtype == wanted->dtype && found->rank == wanted->rank &&
        memcmp(found->shape, wanted->shape, wanted->rank * sizeof *wanted->shape) == 0) {
        return MIXT_OK;
    }
    char here[100];
    char there[100];
    shape_text(found->rank, found->shape, there, sizeof there);
    shape_text(wanted->rank, wanted->shape, here, sizeof here);
    return mixt_fail(error, MIXT_ERROR_FORMAT,
                     "%s: tensor \"%.200s\" is %s %s, the model wants %s %s", record->name,
                     wanted->name, mixt_dtype_name(found->dtype), there,
                     mixt_dtype_name(wanted->dtype), here);
}

/* Reads one tensor after comparing its declarations. */
static mixt_status load_tensor(loaded_set *set, const mixt_checkpoint_tensor *wanted,
                               mixt_error *error)
{
    const mixt_manifest_tensor named = {.name = wanted->name};
    const listed_tensor key = {&named, 0},
                        *at = bsearch(&key, set->tensors, set->tensor_count, sizeof key, by_name);
    if (at == NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s/%s: no tensor \"%.200s\"",
                         set->checkpoint->path, set->name, wanted->name);
    }
    const mixt_manifest_file *record = set->records[at->file];
    MIXT_TRY(compare_shape(record, at->sum, wanted, error));
    if (wanted->data == NULL) {
        return MIXT_OK;
    }
    MIXT_TRY(use_file(set, at->file, error));
    const mixt_safetensors *file = set->files[at->file];
    const mixt_tensor_info *found = mixt_safetensors_find(file, wanted->name);
    if (found == NULL || found->dtype != wanted->dtype || found->bytes != at->sum->bytes) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: has not the manifest's tensor \"%.200s\"",
                         record->name, wanted->name);
    }
    MIXT_TRY(mixt_safetensors_read(file, found, 0, (size_t)found->bytes, wanted->data, error));
    if (mixt_crc32c(0, wanted->data, (size_t)found->bytes) != at->sum->crc) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: tensor \"%.200s\" changed while it was read",
                         mixt_safetensors_path(file, found), wanted->name);
    }
    return MIXT_OK;
}

/* Tensors [first, first + count) are a set. */
static mixt_status load_set(const mixt_checkpoint *checkpoint, const mixt_checkpoint_wish *wish,
                            size_t first, size_t count, mixt_error *error)
{
    loaded_set set;
    mixt_status status = open_set(checkpoint, wish->tensors[first].file, &set, error);
    if (status == MIXT_OK && set.tensor_count != count) {
        status =
            mixt_fail(error, MIXT_ERROR_FORMAT, "%s/%s: holds %zu tensors, the model wants %zu",
                      checkpoint->path, set.name, set.tensor_count, count);
    }
    for (size_t i = first; i < first + count && status == MIXT_OK; i++) {
        status = load_tensor(&set, &wish->tensors[i], error);
        if (status == MIXT_OK && wish->take != NULL && wish->tensors[i].data != NULL) {
            wish->take(wish->user, i);
        }
    }
    close_set(&set);
    return status;
}

mixt_status mixt_checkpoint_load_each(const mixt_checkpoint *checkpoint,
                                      const mixt_checkpoint_wish *wish, mixt_error *error)
{
    const mixt_checkpoint_tensor *tensors = wish->tensors;
    for (size_t i = 0; i < wish->count;) {
        size_t same = 1;
        while (i + same < wish->count && strcmp(tensors[i + same].file, tensors[i].file) == 0) {
            same++;
        }
        MIXT_TRY(load_set(checkpoint, wish, i, same, error));
        i += same;
    }
    return MIXT_OK;
}

mixt_status mixt_checkpoint_load(const mixt_checkpoint *checkpoint,
                                 const mixt_checkpoint_tensor *tensors, size_t count,
                                 mixt_error *error)
{
    return mixt_checkpoint_load_each(
        checkpoint, &(mixt_checkpoint_wish){.tensors = tensors, .count = count}, error);
}

mixt_status mixt_checkpoint_read_file(const mixt_checkpoint *checkpoint, const char *name,
                                      char **data, size_t *length, mixt_error *error)
{
    *data = NULL;
    *length = 0;
    const mixt_manifest_file *record = find_file(checkpoint, name);
    if (record == NULL) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: holds no file %s", checkpoint->path,
                         name);
    }
    char *path = mixt_path_join(checkpoint->path, name);
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", checkpoint->path);
    }
    mixt_status status = mixt_file_read(path, SMALL_FILE_MAX, data, length, error);
    if (status == MIXT_OK) {
        char hash[MIXT_SHA256_HEX];
        mixt_sha256 sum;
        mixt_sha256_init(&sum);
        mixt_sha256_update(&sum, *data, *length);
        mixt_sha256_final_hex(&sum, hash);
        if (strcmp(hash, record->sha256) != 0) {
            status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: changed since it was verified", path);
            free(*data);
            *data = NULL;
            *length = 0;
        }
    }
    free(path);
    return status;
}
