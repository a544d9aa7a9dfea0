/* The writing half of checkpoints: lock, save, remove. */
#define _GNU_SOURCE
#include "formats/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/platform.h"
#include "core/threads.h"
#include "formats/checkpoint_output.h"

#define KEEP_LEAST 2
#define LOCK_TRIES 100 /* of others that clean up at the same time */
#define BEING_WRITTEN ".tmp"
#define BEING_REMOVED ".old.tmp"

struct mixt_checkpoints {
    char *folder;
    int lock;
    int64_t *verified; /* steps that this process wrote or verified */
    size_t verified_count;
    size_t verified_capacity;
};

/* -- The run folder -------------------------------------------------------------------------- */

static mixt_status refuse_busy(int descriptor, const char *folder, mixt_error *error)
{
    char owner[24] = "";
    for (int i = 0; i < 20 && owner[0] == '\0'; i++) { /* it writes its number a moment later */
        ssize_t length = pread(descriptor, owner, sizeof owner - 1, 0);
        owner[length > 0 ? strcspn(owner, "\n") : 0] = '\0';
        if (owner[0] == '\0') {
            nanosleep(&(struct timespec){0, 5000000}, NULL);
        }
    }
    return mixt_fail(error, MIXT_ERROR_BUSY,
                     "%s: another process%s%s is working in this run folder", folder,
                     owner[0] != '\0' ? ", " : "", owner);
}

static mixt_status lock_file(const char *path, const char *folder, int *lock, mixt_error *error)
{
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (*lock < 0) {
        return mixt_fail_errno(error, errno, "%s: cannot open", path);
    }
    while (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return refuse_busy(*lock, folder, error);
        }
        if (errno != EINTR) {
            return mixt_fail_errno(error, errno, "%s: cannot lock", path);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_run_lock(const char *folder, int *lock, mixt_error *error)
{
    *lock = -1;
    char *path = mixt_path_join(folder, "lock");
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = MIXT_OK;
    for (int i = 0; i < LOCK_TRIES && status == MIXT_OK; i++) {
        mixt_error inner = MIXT_ERROR_INIT;
        status = mixt_folder_create(folder, error);
        if (status == MIXT_OK && lock_file(path, folder, lock, &inner) != MIXT_OK &&
            (mixt_path_is_folder(folder) || i + 1 == LOCK_TRIES)) {
            status = mixt_fail(error, inner.status, "%s", inner.message);
        }
        /* Who cleans up after a refused run takes the name away, and a lock on what has none keeps
         * nobody out. */
        if (status == MIXT_OK && *lock >= 0 && mixt_path_is_of(path, *lock)) {
            break;
        }
        mixt_run_unlock(*lock);
        *lock = -1;
    }
    if (status == MIXT_OK && *lock < 0) {
        status = mixt_fail(error, MIXT_ERROR_BUSY,
                           "%s: cannot be locked, its lock is removed again "
                           "and again",
                           folder);
    }
    if (status == MIXT_OK) { /* for the message above; nothing depends on it */
        char owner[24];
        int length = snprintf(owner, sizeof owner, "%ld\n", (long)getpid());
        if (ftruncate(*lock, 0) == 0) {
            ssize_t written = pwrite(*lock, owner, (size_t)length, 0);
            (void)written;
        }
    }
    free(path);
    return status;
}

void mixt_run_unlock(int lock)
{
    if (lock >= 0) {
        close(lock); /* gives it back */
    }
}

/* step-N.tmp, step-N.old.tmp or LATEST.tmp */
static bool is_leftover(const char *name)
{
    size_t length = strlen(name);
    const char *const ends[] = {BEING_REMOVED, BEING_WRITTEN};
    for (size_t i = 0; i < 2; i++) {
        size_t tail = strlen(ends[i]);
        if (length > tail && length - tail < MIXT_STEP_NAME_MAX &&
            strcmp(name + length - tail, ends[i]) == 0) {
            char stem[MIXT_STEP_NAME_MAX];
            memcpy(stem, name, length - tail);
            stem[length - tail] = '\0';
            return mixt_step_number(stem) >= 0 || strcmp(stem, "LATEST") == 0;
        }
    }
    return false;
}

static mixt_status remove_leftovers(const char *folder, mixt_error *error)
{
    char **names;
    size_t count;
    mixt_status status = mixt_folder_list(folder, &names, &count, error);
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        if (is_leftover(names[i])) {
            char *path = mixt_path_join(folder, names[i]);
            status = path == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
                                  : mixt_folder_remove(path, error);
            free(path);
        }
    }
    mixt_names_free(names, count);
    return status;
}

mixt_status mixt_checkpoints_open(const char *folder, mixt_checkpoints **store, mixt_error *error)
{
    int lock;
    *store = NULL;
    MIXT_TRY(mixt_run_lock(folder, &lock, error));
    mixt_status status = mixt_checkpoints_open_locked(folder, lock, store, error);
    mixt_run_unlock(lock);
    return status;
}

mixt_status mixt_checkpoints_open_locked(const char *folder, int lock, mixt_checkpoints **store,
                                         mixt_error *error)
{
    *store = NULL;
    mixt_checkpoints *made = calloc(1, sizeof *made);
    if (made == NULL || (made->folder = strdup(folder)) == NULL) {
        free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = MIXT_OK;
    made->lock = fcntl(lock, F_DUPFD_CLOEXEC, 3); /* the same lock, held until both are closed */
    if (made->lock < 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot keep its lock", folder);
    }
    if (status == MIXT_OK) {
        status = remove_leftovers(folder, error);
    }
    if (status != MIXT_OK) {
        mixt_checkpoints_close(made);
        return status;
    }
    *store = made;
    return MIXT_OK;
}

void mixt_checkpoints_close(mixt_checkpoints *store)
{
    if (store == NULL) {
        return;
    }
    mixt_run_unlock(store->lock);
    free(store->verified);
    free(store->folder);
    free(store);
}

static bool is_known(const mixt_checkpoints *store, int64_t step)
{
    for (size_t i = 0; i < store->verified_count; i++) {
        if (store->verified[i] == step) {
            return true;
        }
    }
    return false;
}

/* Without memory the step is not remembered, and verified again when that matters. */
static void remember(mixt_checkpoints *store, int64_t step)
{
    if (!is_known(store, step) && mixt_grow(&store->verified, &store->verified_capacity,
                                            store->verified_count + 1, sizeof step)) {
        store->verified[store->verified_count++] = step;
    }
}

static void forget(mixt_checkpoints *store, int64_t step)
{
    for (size_t i = 0; i < store->verified_count; i++) {
        if (store->verified[i] == step) {
            store->verified[i] = store->verified[--store->verified_count];
            return;
        }
    }
}

/* `once`: unless it says so already. */
static mixt_status write_latest(const mixt_checkpoints *store, int64_t step, bool once,
                                mixt_error *error)
{
    char *path = mixt_path_join(store->folder, "LATEST"), *said = NULL;
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", store->folder);
    }
    char line[MIXT_STEP_NAME_MAX + 1];
    size_t length;
    mixt_step_name(line, step);
    strcat(line, "\n");
    mixt_status status = MIXT_OK;
    if (!once || mixt_file_read(path, sizeof line, &said, &length, NULL) != MIXT_OK ||
        strcmp(said, line) != 0) {
        status = mixt_file_replace(path, line, strlen(line), error);
    }
    free(said);
    free(path);
    return status;
}

mixt_status mixt_checkpoints_newest(mixt_checkpoints *store, mixt_checkpoint **checkpoint,
                                    char **passed_over, mixt_error *error)
{
    MIXT_TRY(mixt_checkpoint_find(store->folder, checkpoint, passed_over, error));
    if (*checkpoint == NULL) {
        return MIXT_OK;
    }
    remember(store, mixt_checkpoint_step(*checkpoint));
    /* A save may have ended between the folder's name and this one. */
    mixt_status status = write_latest(store, mixt_checkpoint_step(*checkpoint), true, error);
    if (status != MIXT_OK) {
        mixt_checkpoint_free(*checkpoint);
        free(*passed_over);
        *checkpoint = NULL;
        *passed_over = NULL;
    }
    return status;
}

/* -- One save -------------------------------------------------------------------------------- */

typedef struct save {
    mixt_checkpoints *store;
    const mixt_checkpoint_state *state;
    char *temporary; /* step-N.tmp */
    char *final;     /* step-N */
    mixt_manifest manifest;
    size_t file_capacity;
    bool keep_temporary;
} save;

static mixt_status no_memory(const save *job, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", job->temporary);
}

/* A fresh record in the manifest, or NULL without memory. */
static mixt_manifest_file *new_record(save *job, const char *name)
{
    mixt_manifest *manifest = &job->manifest;
    if (manifest->file_count == job->file_capacity) {
        size_t capacity = job->file_capacity == 0 ? 16 : job->file_capacity * 2;
        mixt_manifest_file *more =
            mixt_arena_allocate(manifest->arena, capacity, sizeof *manifest->files);
        if (more == NULL) {
            return NULL;
        }
        if (manifest->file_count != 0) {
            memcpy(more, manifest->files, manifest->file_count * sizeof *more);
        }
        manifest->files = more;
        job->file_capacity = capacity;
    }
    mixt_manifest_file *record = &manifest->files[manifest->file_count];
    record->name = mixt_arena_string(manifest->arena, name);
    if (record->name == NULL) {
        return NULL;
    }
    manifest->file_count++;
    return record;
}

static bool has_record(const save *job, const char *name)
{
    for (size_t i = 0; i < job->manifest.file_count; i++) {
        if (strcmp(job->manifest.files[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Name and record for a new file of the checkpoint. */
static mixt_status begin_file(save *job, const char *name, mixt_manifest_file **record, char **path,
                              mixt_error *error)
{
    *path = NULL;
    *record = NULL;
    if (!mixt_name_is_plain(name, strlen(name)) || strcmp(name, MIXT_MANIFEST_NAME) == 0 ||
        has_record(job, name)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: file \"%.200s\" is there twice or has an impossible name",
                         job->temporary, name);
    }
    *path = mixt_path_join(job->temporary, name);
    *record = new_record(job, name);
    if (*path == NULL || *record == NULL) {
        free(*path);
        *path = NULL;
        return no_memory(job, error);
    }
    return MIXT_OK;
}

/* One safetensors file of the checkpoint. */
typedef struct listed_file {
    const mixt_checkpoint_tensor *tensors; /* [count] */
    size_t count;
    size_t record; /* index in the manifest */
    char *path;
    mixt_buffer header;
} listed_file;

/* All of them. One thread writes; their SHA-256 sums, which take longer than writing to a fast
 * disk, are computed beside it from the same memory, one file to a thread. */
typedef struct tensor_files {
    save *job;
    listed_file *files; /* [count] */
    size_t count;
    uint64_t bytes;
    mixt_status status; /* of writing */
    mixt_error error;
    _Atomic bool stop; /* writing failed: the sums are of no use */
} tensor_files;

static mixt_status write_tensor_file(const save *job, const listed_file *file, mixt_error *error)
{
    mixt_manifest_file *record = &job->manifest.files[file->record];
    uint32_t unused;
    mixt_checkpoint_output out;
    mixt_status status = mixt_checkpoint_output_open(&out, file->path, error);
    out.unhashed = true;
    if (status == MIXT_OK) {
        status = mixt_checkpoint_output_write(&out, file->header.data, file->header.length, &unused,
                                              error);
    }
    for (size_t i = 0; i < file->count && status == MIXT_OK; i++) {
        mixt_manifest_tensor *sum = &record->tensors[i];
        assert(sum->name ==
               file->tensors[i].name); /* as mixt_checkpoint_output_describe left them */
        status =
            mixt_checkpoint_output_write(&out, file->tensors[i].data, sum->bytes, &sum->crc, error);
    }
    status = mixt_file_settle(&out.descriptor, out.path, status, error);
    record->bytes = out.bytes;
    return status;
}

static void hash_tensor_file(tensor_files *all, const listed_file *file)
{
    mixt_manifest_file *record = &all->job->manifest.files[file->record];
    mixt_sha256 sum;
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, file->header.data, file->header.length);
    for (size_t i = 0; i < file->count; i++) {
        const unsigned char *from = file->tensors[i].data;
        for (uint64_t left = record->tensors[i].bytes; left != 0;) {
            size_t step = left < MIXT_OUTPUT_CHUNK ? (size_t)left : MIXT_OUTPUT_CHUNK;
            if (atomic_load_explicit(&all->stop, memory_order_relaxed)) {
                return;
            }
            mixt_sha256_update(&sum, from, step);
            from += step;
            left -= step;
        }
    }
    mixt_sha256_final_hex(&sum, record->sha256);
}

/* Item 0 writes every file, item i > 0 hashes file i - 1. */
static void tensor_item(void *context, int64_t item, int thread)
{
    (void)thread;
    tensor_files *all = context;
    if (item != 0) {
        hash_tensor_file(all, &all->files[item - 1]);
        return;
    }
    for (size_t i = 0; i < all->count && all->status == MIXT_OK; i++) {
        all->status = write_tensor_file(all->job, &all->files[i], &all->error);
    }
    if (all->status != MIXT_OK) {
        atomic_store(&all->stop, true);
    }
}

/* Records and headers of all files: runs of tensors with the same file name. */
static mixt_status plan_tensor_files(tensor_files *all, mixt_error *error)
{
    save *job = all->job;
    const mixt_checkpoint_state *state = job->state;
    all->files = calloc(state->tensor_count + 1, sizeof *all->files);
    if (all->files == NULL) {
        return no_memory(job, error);
    }
    for (size_t i = 0; i < state->tensor_count;) {
        listed_file *file = &all->files[all->count++];
        mixt_manifest_file *record;
        file->tensors = state->tensors + i;
        file->count = 1;
        while (i + file->count < state->tensor_count &&
               strcmp(file->tensors[file->count].file, file->tensors[0].file) == 0) {
            file->count++;
        }
        i += file->count;
        MIXT_TRY(begin_file(job, file->tensors[0].file, &record, &file->path, error));
        file->record = (size_t)(record - job->manifest.files);
        MIXT_TRY(mixt_checkpoint_output_describe(job->manifest.arena, file->tensors, file->count,
                                                 record, &file->header, error));
        for (size_t j = 0; j < file->count; j++) {
            all->bytes += record->tensors[j].bytes;
        }
    }
    return MIXT_OK;
}

static mixt_status save_tensors(save *job, mixt_error *error)
{
    tensor_files all = {.job = job};
    mixt_status status = plan_tensor_files(&all, error);
    if (status == MIXT_OK) {
        mixt_pool *pool = NULL; /* no threads: everything happens here, one after the other */
        if (all.bytes >= MIXT_CHECKPOINT_PARALLEL && mixt_pool_create(0, &pool, NULL) != MIXT_OK) {
            pool = NULL;
        }
        mixt_pool_run(pool, (int64_t)all.count + 1, tensor_item, &all);
        mixt_pool_free(pool);
        status = all.status;
        if (status != MIXT_OK) {
            mixt_fail(error, status, "%s", all.error.message);
        }
    }
    for (size_t i = 0; i < all.count; i++) {
        mixt_buffer_free(&all.files[i].header);
        free(all.files[i].path);
    }
    free(all.files);
    return status;
}

/* Writes bytes as a file of the checkpoint. */
static mixt_status save_bytes(save *job, const mixt_checkpoint_file *file, mixt_error *error)
{
    char *path;
    mixt_manifest_file *record;
    MIXT_TRY(begin_file(job, file->name, &record, &path, error));
    mixt_checkpoint_output out;
    mixt_status status = mixt_checkpoint_output_open(&out, path, error);
    if (status == MIXT_OK) {
        status = mixt_checkpoint_output_write(&out, file->data, file->length, NULL, error);
    }
    status = mixt_checkpoint_output_end(&out, record, status, error);
    free(path);
    return status;
}

/* Syncs and records a file that the caller's function wrote. */
static mixt_status adopt_file(save *job, const char *name, mixt_error *error)
{
    char *path;
    mixt_manifest_file *record;
    MIXT_TRY(begin_file(job, name, &record, &path, error));
    char *data = NULL;
    size_t length = 0;
    mixt_status status = mixt_file_read(path, (size_t)1 << 30, &data, &length, error);
    if (status == MIXT_OK) {
        int descriptor = open(path, O_RDONLY | O_CLOEXEC);
        status = descriptor < 0 ? mixt_fail_errno(error, errno, "%s: cannot open", path)
                                : mixt_file_settle(&descriptor, path, MIXT_OK, error);
    }
    if (status == MIXT_OK) {
        mixt_sha256 sum;
        mixt_sha256_init(&sum);
        mixt_sha256_update(&sum, data, length);
        mixt_sha256_final_hex(&sum, record->sha256);
        record->bytes = length;
    }
    free(data);
    free(path);
    return status;
}

static mixt_status save_foreign_files(save *job, mixt_error *error)
{
    mixt_status status = job->state->write_files(job->state->user, job->temporary, error);
    char **names = NULL;
    size_t count = 0;
    if (status == MIXT_OK) {
        status = mixt_folder_list(job->temporary, &names, &count, error);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        if (!has_record(job, names[i])) {
            status = adopt_file(job, names[i], error);
        }
    }
    mixt_names_free(names, count);
    return status;
}

static mixt_status save_manifest(save *job, mixt_error *error)
{
    char *path = mixt_path_join(job->temporary, MIXT_MANIFEST_NAME);
    mixt_buffer text = {0};
    mixt_manifest_write(&job->manifest, &text);
    mixt_status status = MIXT_OK;
    mixt_checkpoint_output out = {.descriptor = -1};
    if (path == NULL || text.failed) {
        status = no_memory(job, error);
    } else {
        status = mixt_checkpoint_output_open(&out, path, error);
    }
    if (status == MIXT_OK) {
        status = mixt_checkpoint_output_write(&out, text.data, text.length, NULL, error);
    }
    status = mixt_file_settle(&out.descriptor, out.path, status, error);
    mixt_buffer_free(&text);
    free(path);
    return status;
}

/* The files that a rank wrote and synced, as it describes them. */
static mixt_status adopt_part(save *job, const char *text, size_t length, mixt_error *error)
{
    mixt_manifest part;
    mixt_status status = mixt_manifest_parse(text, length, job->temporary, &part, error);
    if (status == MIXT_OK &&
        (part.step != job->state->step || strcmp(part.config_hash, job->state->config_hash) != 0)) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: a rank wrote the files of another model",
                           job->temporary);
    }
    for (size_t i = 0; i < part.file_count && status == MIXT_OK; i++) {
        const mixt_manifest_file *from = &part.files[i];
        char *path;
        mixt_manifest_file *record;
        status = begin_file(job, from->name, &record, &path, error);
        if (status == MIXT_OK) {
            const char *name = record->name;
            *record = *from;
            record->name = name;
            status = mixt_manifest_copy_tensors(job->manifest.arena, record, error);
        }
        free(path);
    }
    mixt_manifest_free(&part);
    return status;
}

static mixt_status make_folder(const char *temporary, mixt_error *error)
{
    MIXT_TRY(mixt_folder_remove(temporary, error)); /* of a failed attempt */
    return mkdir(temporary, 0777) == 0
               ? MIXT_OK
               : mixt_fail_errno(error, errno, "%s: cannot create folder", temporary);
}

static mixt_status write_everything(save *job, mixt_error *error)
{
    const mixt_checkpoint_state *state = job->state;
    if (state->part_count == 0) {
        MIXT_TRY(make_folder(job->temporary, error));
    }
    MIXT_TRY(save_tensors(job, error));
    for (size_t i = 0; i < state->part_count; i++) {
        MIXT_TRY(adopt_part(job, state->parts[i].data, state->parts[i].length, error));
    }
    for (size_t i = 0; i < state->file_count; i++) {
        MIXT_TRY(save_bytes(job, &state->files[i], error));
    }
    if (state->write_files != NULL) {
        MIXT_TRY(save_foreign_files(job, error));
    }
    MIXT_TRY(save_manifest(job, error));
    return mixt_folder_sync(job->temporary, error);
}

/* step-N.tmp becomes step-N. Where step-N is there already the two change names in one move, so
 * that one of them is there at every moment; file systems that cannot do that keep the old one
 * where it verifies, which holds the same step. */
static mixt_status move_in_place(save *job, mixt_error *error)
{
    int result = mixt_path_exists(job->final) ? mixt_paths_exchange(job->temporary, job->final)
                                              : rename(job->temporary, job->final);
    if (result != 0 && (errno == EINVAL || errno == ENOSYS) && mixt_path_exists(job->final)) {
        mixt_checkpoint *old;
        if (mixt_checkpoint_open(job->final, &old, NULL) == MIXT_OK) {
            mixt_checkpoint_free(old);
            return MIXT_OK;
        }
        MIXT_TRY(mixt_folder_remove(job->final, error));
        result = rename(job->temporary, job->final);
    }
    return result == 0 ? MIXT_OK
                       : mixt_fail_errno(error, errno, "%s: cannot rename", job->temporary);
}

/* Publishes a complete step-N.tmp. */
static mixt_status publish(save *job, mixt_error *error)
{
    MIXT_TRY(move_in_place(job, error));
    mixt_status status = mixt_folder_sync(job->store->folder, error);
    if (status != MIXT_OK) {
        /* The new name may not survive a power cut, and a later sync that succeeds would not say
         * so: take it back. Where that fails too, both stay. */
        job->keep_temporary = mixt_path_exists(job->temporary)
                                  ? mixt_paths_exchange(job->final, job->temporary) != 0
                                  : rename(job->final, job->temporary) != 0;
        return status;
    }
    return write_latest(job->store, job->state->step, false, error);
}

/* -- Removing old ones ------------------------------------------------------------------------ */

static bool step_verifies(mixt_checkpoints *store, int64_t step)
{
    if (is_known(store, step)) {
        return true;
    }
    char name[MIXT_STEP_NAME_MAX];
    mixt_step_name(name, step);
    char *path = mixt_path_join(store->folder, name);
    mixt_checkpoint *checkpoint = NULL;
    bool good = path != NULL && mixt_checkpoint_open(path, &checkpoint, NULL) == MIXT_OK &&
                mixt_checkpoint_step(checkpoint) == step;
    mixt_checkpoint_free(checkpoint);
    free(path);
    if (good) {
        remember(store, step);
    }
    return good;
}

/* A folder loses its name before its files, so that a kill in between leaves no half folder. */
static void remove_step(mixt_checkpoints *store, int64_t step)
{
    char name[MIXT_STEP_NAME_MAX];
    char gone[MIXT_STEP_NAME_MAX + sizeof BEING_REMOVED];
    mixt_step_name(name, step);
    snprintf(gone, sizeof gone, "%s" BEING_REMOVED, name);
    char *from = mixt_path_join(store->folder, name);
    char *to = mixt_path_join(store->folder, gone);
    if (from != NULL && to != NULL && rename(from, to) == 0) {
        forget(store, step);
        mixt_folder_remove(to, NULL); /* what stays is removed by the next start */
    }
    free(from);
    free(to);
}

/* Removes all steps older than the newest `keep` that verify. Failing to remove is no failure of
 * the save: the next one tries again. */
static void remove_old(mixt_checkpoints *store, int64_t newest, int keep)
{
    int64_t *steps;
    size_t count;
    if (mixt_step_list(store->folder, &steps, &count, NULL) != MIXT_OK) {
        return;
    }
    int kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept >= keep) {
            remove_step(store, steps[i]);
        } else if (i + (size_t)(keep - kept) >= count) {
            break; /* not more than `keep` are left: no need to read them */
        } else if (steps[i] <= newest && step_verifies(store, steps[i])) {
            kept++;
        }
    }
    free(steps);
}

char *mixt_checkpoint_unfinished(const char *folder, int64_t step)
{
    char name[MIXT_STEP_NAME_MAX], *path = NULL;
    mixt_step_name(name, step);
    return asprintf(&path, "%s/%s" BEING_WRITTEN, folder, name) < 0 ? NULL : path;
}

mixt_status mixt_checkpoints_begin(mixt_checkpoints *store, int64_t step, mixt_error *error)
{
    char *path = mixt_checkpoint_unfinished(store->folder, step);
    mixt_status status = path == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", store->folder)
                             : make_folder(path, error);
    free(path);
    return status;
}

void mixt_checkpoints_abandon(mixt_checkpoints *store, int64_t step)
{
    char *path = mixt_checkpoint_unfinished(store->folder, step);
    if (path != NULL) {
        mixt_folder_remove(path, NULL); /* what stays is removed by the next start */
    }
    free(path);
}

mixt_status mixt_checkpoints_save(mixt_checkpoints *store, const mixt_checkpoint_state *state,
                                  int keep, mixt_error *error)
{
    if (state->step < 0 || state->step > MIXT_CHECKPOINT_STEP_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: step %lld cannot be saved", store->folder,
                         (long long)state->step);
    }
    save job = {.store = store, .state = state};
    job.manifest.step = state->step;
    job.manifest.config_hash = state->config_hash;
    job.manifest.arena = mixt_arena_create();
    char name[MIXT_STEP_NAME_MAX];
    mixt_step_name(name, state->step);
    job.final = mixt_path_join(store->folder, name);
    job.temporary = mixt_checkpoint_unfinished(store->folder, state->step);
    if (job.final == NULL || job.manifest.arena == NULL || job.temporary == NULL) {
        mixt_manifest_free(&job.manifest);
        free(job.temporary);
        free(job.final);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", store->folder);
    }
    forget(store, state->step);
    mixt_status status = write_everything(&job, error);
    if (status == MIXT_OK) {
        status = publish(&job, error);
    }
    if (!job.keep_temporary) {
        mixt_folder_remove(job.temporary, NULL); /* a failed attempt, or what step-N was before */
    }
    if (status == MIXT_OK) {
        remember(store, state->step);
        remove_old(store, state->step, keep < KEEP_LEAST ? KEEP_LEAST : keep);
    }
    mixt_manifest_free(&job.manifest);
    free(job.temporary);
    free(job.final);
    return status;
}
