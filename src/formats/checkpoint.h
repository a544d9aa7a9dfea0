/* Durable checkpoints: a run folder with one folder for each kept step.
 *
 *   run/lock               held (flock) by the process that writes; a dead process holds nothing
 *   run/LATEST             name of the newest finished one, for people and scripts
 *   run/step-00000100/     model.safetensors, optimizer.safetensors, config.json, state.json, ...
 *                          and manifest.json: step, config hash, size and SHA-256 of every file,
 *                          CRC-32C of every tensor, and its own SHA-256 at its end
 *   run/step-00000200.tmp/ one being written, or left over from a process that died
 *
 * Of several ranks each writes files of its own (model-00001-of-00004.safetensors, ...) into that
 * folder, which they share; whoever holds the lock writes all else, and the manifest of all.
 *
 * A save writes every file into step-N.tmp, checks every result, syncs each file, writes the
 * manifest last, syncs the folder, renames it to step-N, syncs the run folder, replaces LATEST and
 * only then removes older ones. So step-N is there in full or not at all, and an error at any point
 * leaves the older ones as they were. After a failed sync nothing of that attempt is trusted: it is
 * removed, and the next save writes everything anew.
 *
 * Opening takes the newest step whose manifest and hashes verify; times of files mean nothing. */
#ifndef MIXT_FORMATS_CHECKPOINT_H
#define MIXT_FORMATS_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "formats/dtype.h"
#include "mixt.h"

#define MIXT_CHECKPOINT_RANK_MAX 4
#define MIXT_CHECKPOINT_VERSION 1
#define MIXT_CHECKPOINT_STEP_MAX 999999999999LL

/* A tensor in memory. Saving reads `data`, loading fills it. */
typedef struct mixt_checkpoint_tensor {
    const char *file; /* "model.safetensors": tensors of one file must follow each other */
    const char *name;
    mixt_dtype dtype;
    uint32_t rank;
    int64_t shape[MIXT_CHECKPOINT_RANK_MAX]; /* [rank] */
    void *data;
} mixt_checkpoint_tensor;

/* A small file given as bytes, such as state.json. */
typedef struct mixt_checkpoint_file {
    const char *name;
    const void *data;
    size_t length;
} mixt_checkpoint_file;

/* Writes further files (a tokenizer) into the new folder; they are synced and hashed afterwards. */
typedef mixt_status (*mixt_checkpoint_writer)(void *user, const char *folder, mixt_error *error);

typedef struct mixt_checkpoint_state {
    int64_t step;
    const char *config_hash; /* any text; comes back from mixt_checkpoint_config_hash */
    const mixt_checkpoint_tensor *tensors;
    size_t tensor_count;
    const mixt_checkpoint_file *files;
    size_t file_count;
    mixt_checkpoint_writer write_files; /* or NULL */
    void *user;
    /* What ranks wrote beside these (mixt_checkpoint_part_finish), into the folder that
     * mixt_checkpoints_begin made. */
    const mixt_checkpoint_file *parts;
    size_t part_count; /* 0: nothing was begun */
} mixt_checkpoint_state;

/* -- Writing ------------------------------------------------------------------------------- */

typedef struct mixt_checkpoints mixt_checkpoints;
typedef struct mixt_checkpoint mixt_checkpoint;

/* Creates the run folder where needed, locks it (MIXT_ERROR_BUSY when another process has it) and
 * removes what a dead process left half written. */
mixt_status mixt_checkpoints_open(const char *folder, mixt_checkpoints **store, mixt_error *error);
/* The same under a lock that mixt_run_lock gave and the caller keeps. */
mixt_status mixt_checkpoints_open_locked(const char *folder, int lock, mixt_checkpoints **store,
                                         mixt_error *error);
void mixt_checkpoints_close(mixt_checkpoints *store);
/* Saves, then keeps the newest `keep` (at least 2) that verify. A step that is there already is
 * replaced in one move. */
mixt_status mixt_checkpoints_save(mixt_checkpoints *store, const mixt_checkpoint_state *state,
                                  int keep, mixt_error *error);
/* Makes the folder of a step into which ranks write before it is saved; and gives that up. */
mixt_status mixt_checkpoints_begin(mixt_checkpoints *store, int64_t step, mixt_error *error);
void mixt_checkpoints_abandon(mixt_checkpoints *store, int64_t step);
/* mixt_checkpoint_find in the store's folder; what it finds need not be verified again later. */
mixt_status mixt_checkpoints_newest(mixt_checkpoints *store, mixt_checkpoint **checkpoint,
                                    char **passed_over, mixt_error *error);

/* -- One rank's files ---------------------------------------------------------------------- */

/* What a rank writes of a checkpoint into the folder that another one began. Tensors of one file
 * follow each other; their `data` mean nothing. */
typedef struct mixt_checkpoint_part_of {
    const char *folder; /* mixt_checkpoint_unfinished */
    int64_t step;
    const char *config_hash;
    const mixt_checkpoint_tensor *tensors; /* stay as they are until the part is freed */
    size_t tensor_count;
} mixt_checkpoint_part_of;

typedef struct mixt_checkpoint_part mixt_checkpoint_part;

/* Path of a step's folder while it is written, malloc'd; NULL without memory. */
char *mixt_checkpoint_unfinished(const char *folder, int64_t step);
mixt_status mixt_checkpoint_part_create(const mixt_checkpoint_part_of *of,
                                        mixt_checkpoint_part **part, mixt_error *error);
/* The next tensor's data. What goes wrong is kept until the end, as a rank has others to serve. */
void mixt_checkpoint_part_add(mixt_checkpoint_part *part, const void *data);
/* All are there, and synced: `text` is for mixt_checkpoint_state.parts. */
mixt_status mixt_checkpoint_part_finish(mixt_checkpoint_part *part, mixt_buffer *text,
                                        mixt_error *error);
void mixt_checkpoint_part_free(mixt_checkpoint_part *part);

/* -- Reading (needs no lock) --------------------------------------------------------------- */

/* The newest checkpoint of a run folder that verifies; *checkpoint is NULL when there is none at
 * all. *passed_over (malloc'd, or NULL) has one line for each newer one that did not verify, with
 * the reason. Fails when there are some but none verifies, and when the newest one is of a later
 * format version, so that no work is silently lost. */
mixt_status mixt_checkpoint_find(const char *folder, mixt_checkpoint **checkpoint,
                                 char **passed_over, mixt_error *error);
/* One step folder, verified. */
mixt_status mixt_checkpoint_open(const char *path, mixt_checkpoint **checkpoint, mixt_error *error);
void mixt_checkpoint_free(mixt_checkpoint *checkpoint);
const char *mixt_checkpoint_path(const mixt_checkpoint *checkpoint);
int64_t mixt_checkpoint_step(const mixt_checkpoint *checkpoint);
const char *mixt_checkpoint_config_hash(const mixt_checkpoint *checkpoint);
/* The same of a run folder's step, of which somebody else said that it verifies: only its manifest
 * is read here. */
mixt_status mixt_checkpoint_open_verified(const char *folder, int64_t step,
                                          mixt_checkpoint **checkpoint, mixt_error *error);
/* Reads the tensors into the caller's memory. Every tensor of the files that are named, or of their
 * shards (model-00001-of-00004.safetensors of model.safetensors), must be asked for, with its type
 * and shape; one without `data` is not read. The checksums of what is read are checked once more.
 */
mixt_status mixt_checkpoint_load(const mixt_checkpoint *checkpoint,
                                 const mixt_checkpoint_tensor *tensors, size_t count,
                                 mixt_error *error);
/* The same one after the other: `take` (may be NULL) gets the index of each that was read, before
 * the next one is, whose `data` may be the same memory. */
typedef struct mixt_checkpoint_wish {
    const mixt_checkpoint_tensor *tensors;
    size_t count;
    void (*take)(void *user, size_t index);
    void *user;
} mixt_checkpoint_wish;

mixt_status mixt_checkpoint_load_each(const mixt_checkpoint *checkpoint,
                                      const mixt_checkpoint_wish *wish, mixt_error *error);
/* A whole small file in malloc'd memory with a NUL behind it. */
mixt_status mixt_checkpoint_read_file(const mixt_checkpoint *checkpoint, const char *name,
                                      char **data, size_t *length, mixt_error *error);

#endif
