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

mixt_status mixt_checkpoint_open(const char *path, mixt_checkpoint **checkpoint, mixt_error *error)
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
    if (status == MIXT_OK) {
        status = verify_files(path, &made->manifest, error);
    }
    if (status != MIXT_OK) {
        mixt_checkpoint_free(made);
        return status;
    }
    *checkpoint = made;
    return MIXT_OK;
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
static mixt_status open_step(const char *folder, int64_t step, mixt_checkpoint **checkpoint,
                             mixt_error *error)
{
    char name[MIXT_STEP_NAME_MAX];
    mixt_step_name(name, step);
    char *path = mixt_path_join(folder, name);
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = mixt_checkpoint_open(path, checkpoint, error);
    if (status == MIXT_OK && (*checkpoint)->manifest.step != step) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: its manifest is that of step %lld", path,
                           (long long)(*checkpoint)->manifest.step);
        mixt_checkpoint_free(*checkpoint);
        *checkpoint = NULL;
    }
    free(path);
    return status;
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
        status = open_step(folder, steps[i], checkpoint, &reason);
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

static int compare_sums(const void *a, const void *b)
{
    return strcmp((*(const mixt_manifest_tensor *const *)a)->name,
                  (*(const mixt_manifest_tensor *const *)b)->name);
}

/* A file's tensors in the manifest, sorted by name; NULL without memory. */
static const mixt_manifest_tensor **sort_sums(const mixt_manifest_file *record)
{
    const mixt_manifest_tensor **sums = calloc(record->tensor_count + 1, sizeof *sums);
    for (size_t i = 0; i < record->tensor_count && sums != NULL; i++) {
        sums[i] = &record->tensors[i];
    }
    if (sums != NULL) {
        qsort(sums, record->tensor_count, sizeof *sums, compare_sums);
    }
    return sums;
}

/* One file of a checkpoint that is read. */
typedef struct loaded_file {
    mixt_safetensors *file;
    const mixt_manifest_file *record;
    const mixt_manifest_tensor **sums; /* of the record, by name */
} loaded_file;

/* Reads one tensor after comparing its declaration. */
static mixt_status load_tensor(const loaded_file *from, const mixt_checkpoint_tensor *wanted,
                               mixt_error *error)
{
    const mixt_safetensors *file = from->file;
    const mixt_manifest_file *record = from->record;
    const mixt_tensor_info *found = mixt_safetensors_find(file, wanted->name);
    const mixt_manifest_tensor named = {.name = wanted->name}, *key = &named;
    const mixt_manifest_tensor **at =
        bsearch(&key, from->sums, record->tensor_count, sizeof *from->sums, compare_sums);
    const mixt_manifest_tensor *sum = at != NULL ? *at : NULL;
    if (found == NULL || sum == NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: no tensor \"%.200s\"", record->name,
                         wanted->name);
    }
    const char *path = mixt_safetensors_path(file, found);
    if (found->dtype != wanted->dtype || found->rank != wanted->rank ||
        memcmp(found->shape, wanted->shape, wanted->rank * sizeof *wanted->shape) != 0) {
        char here[100];
        char there[100];
        shape_text(found->rank, found->shape, there, sizeof there);
        shape_text(wanted->rank, wanted->shape, here, sizeof here);
        return mixt_fail(
            error, MIXT_ERROR_FORMAT, "%s: tensor \"%.200s\" is %s %s, the model wants %s %s", path,
            wanted->name, found->dtype_name, there, mixt_dtype_name(wanted->dtype), here);
    }
    MIXT_TRY(mixt_safetensors_read(file, found, 0, (size_t)found->bytes, wanted->data, error));
    if (mixt_crc32c(0, wanted->data, (size_t)found->bytes) != sum->crc) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: tensor \"%.200s\" changed while it was read", path, wanted->name);
    }
    return MIXT_OK;
}

/* Tensors [0, count) share a file. */
static mixt_status load_file(const mixt_checkpoint *checkpoint,
                             const mixt_checkpoint_tensor *tensors, size_t count, mixt_error *error)
{
    loaded_file from = {.record = find_file(checkpoint, tensors[0].file)};
    char *path = mixt_path_join(checkpoint->path, tensors[0].file);
    mixt_status status = MIXT_OK;
    if (path != NULL && from.record == NULL) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: not in the checkpoint", path);
    } else if (path == NULL || (from.sums = sort_sums(from.record)) == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", checkpoint->path);
    } else {
        status = mixt_safetensors_open(path, &from.file, error);
    }
    if (status == MIXT_OK && mixt_safetensors_count(from.file) != count) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: holds %zu tensors, the model wants %zu",
                           path, mixt_safetensors_count(from.file), count);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        status = load_tensor(&from, &tensors[i], error);
    }
    mixt_safetensors_close(from.file);
    free(from.sums);
    free(path);
    return status;
}

mixt_status mixt_checkpoint_load(const mixt_checkpoint *checkpoint,
                                 const mixt_checkpoint_tensor *tensors, size_t count,
                                 mixt_error *error)
{
    for (size_t i = 0; i < count;) {
        size_t same = 1;
        while (i + same < count && strcmp(tensors[i + same].file, tensors[i].file) == 0) {
            same++;
        }
        MIXT_TRY(load_file(checkpoint, tensors + i, same, error));
        i += same;
    }
    return MIXT_OK;
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
