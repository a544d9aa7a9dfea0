/* The manifest of a checkpoint: written by the saving half, read by the loading half. */
#ifndef MIXT_FORMATS_CHECKPOINT_MANIFEST_H
#define MIXT_FORMATS_CHECKPOINT_MANIFEST_H

#include "core/memory.h"
#include "core/sha256.h"
#include "formats/checkpoint.h"

#define MIXT_MANIFEST_NAME "manifest.json"
#define MIXT_MANIFEST_MAX ((size_t)64 << 20)
#define MIXT_STEP_NAME_MAX 32
#define MIXT_CHECKPOINT_PARALLEL ((uint64_t)4 << 20) /* fewer bytes are not worth threads */

typedef struct mixt_manifest_tensor {
    const char *name;
    mixt_dtype dtype;
    uint32_t rank;
    int64_t shape[MIXT_CHECKPOINT_RANK_MAX];
    uint64_t bytes;
    uint32_t crc;
} mixt_manifest_tensor;

typedef struct mixt_manifest_file {
    const char *name;
    uint64_t bytes;
    char sha256[MIXT_SHA256_HEX];
    mixt_manifest_tensor *tensors; /* in the order of their data, up to the end of the file */
    size_t tensor_count;
} mixt_manifest_file;

typedef struct mixt_manifest {
    int64_t step;
    const char *config_hash;
    mixt_manifest_file *files;
    size_t file_count;
    mixt_arena *arena; /* owns the texts and arrays */
} mixt_manifest;

/* JSON text whose last member is the SHA-256 of everything before it, in one fixed form: any
 * changed bit shows. */
void mixt_manifest_write(const mixt_manifest *manifest, mixt_buffer *out);
/* Reads manifest.json of a step folder; *manifest is filled even where the version is not
 * supported, as far as step goes. Free with mixt_manifest_free in any case. */
mixt_status mixt_manifest_read(const char *folder, mixt_manifest *manifest, mixt_error *error);
/* The same of a text that stands at `path`. */
mixt_status mixt_manifest_parse(const char *text, size_t length, const char *path,
                                mixt_manifest *manifest, mixt_error *error);
/* Gives the tensors of a file, which are another manifest's, to this arena. */
mixt_status mixt_manifest_copy_tensors(mixt_arena *arena, mixt_manifest_file *file,
                                       mixt_error *error);
void mixt_manifest_free(mixt_manifest *manifest);

/* Compares one file with its record: size, tensor checksums, SHA-256. Names the tensor at fault. */
mixt_status mixt_manifest_verify_file(const char *folder, const mixt_manifest_file *file,
                                      mixt_error *error);

/* "step-00000100" and back; -1 for any other name. */
void mixt_step_name(char text[MIXT_STEP_NAME_MAX], int64_t step);
int64_t mixt_step_number(const char *name);
/* Step numbers of the step folders in a run folder, newest first, malloc'd. */
mixt_status mixt_step_list(const char *folder, int64_t **steps, size_t *count, mixt_error *error);

#endif
