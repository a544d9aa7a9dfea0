/* Files of a checkpoint while they are written: by one process, or by each of several ranks. */
#ifndef MIXT_FORMATS_CHECKPOINT_OUTPUT_H
#define MIXT_FORMATS_CHECKPOINT_OUTPUT_H

#include "formats/checkpoint_manifest.h"

#define MIXT_OUTPUT_CHUNK ((size_t)1 << 20) /* summed while it is in the cache, then written */

typedef struct mixt_checkpoint_output {
    int descriptor;
    const char *path;
    bool unhashed; /* somebody else makes its SHA-256 */
    mixt_sha256 sum;
    uint64_t bytes;
} mixt_checkpoint_output;

mixt_status mixt_checkpoint_output_open(mixt_checkpoint_output *out, const char *path,
                                        mixt_error *error);
/* *crc (NULL: none) gets the checksum of these bytes alone. */
mixt_status mixt_checkpoint_output_write(mixt_checkpoint_output *out, const void *data,
                                         uint64_t length, uint32_t *crc, mixt_error *error);
/* Syncs and closes; size and SHA-256 go into the record. `status` is how it went until then. */
mixt_status mixt_checkpoint_output_end(mixt_checkpoint_output *out, mixt_manifest_file *record,
                                       mixt_status status, mixt_error *error);
/* Header and record of the tensors [0, count) of one file. */
mixt_status mixt_checkpoint_output_describe(mixt_arena *arena,
                                            const mixt_checkpoint_tensor *tensors, size_t count,
                                            mixt_manifest_file *record, mixt_buffer *header,
                                            mixt_error *error);

#endif
