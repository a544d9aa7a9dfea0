/* Durable checkpoints: a run folder with one folder for each kept step.
 *
 *   run/lock               held (flock) by the process that writes; a dead process holds nothing
 *   run/LATEST             name of the newest finished one, for people and scripts
 *   run/step-00000100/     model.safetensors, optimizer.safetensors, config.json, state.json, ...
 *                          and manifest.json: step, config hash, size and SHA-256 of every file,
 *                          CRC-32C of every tensor, and its own SHA-256 at its end
 *   run/step-00000200.tmp/ one being written, or left over from a process that died
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
/* mixt_checkpoint_find in the store's folder; what it finds need not be verified again later. */
mixt_status mixt_checkpoints_newest(mixt_checkpoints *store, mixt_checkpoint **checkpoint,
                                    char **passed_over, mixt_error *error);

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
/* Reads the tensors into the caller's memory. Every tensor of the files that are named must be
 * asked for, with its type and shape; the checksums are checked once more on the way. */
mixt_status mixt_checkpoint_load(const mixt_checkpoint *checkpoint,
                                 const mixt_checkpoint_tensor *tensors, size_t count,
                                 mixt_error *error);
/* A whole small file in malloc'd memory with a NUL behind it. */
mixt_status mixt_checkpoint_read_file(const mixt_checkpoint *checkpoint, const char *name,
                                      char **data, size_t *length, mixt_error *error);

#endif
