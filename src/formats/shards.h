/* Tensor files on their way to disk: one file, or numbered shards of it. Each is written beside its
 * name (NAME.tmp) and synced; all get their names at the end, the first last, so that what is there
 * under a name is whole. After an error nothing but mixt_shards_free makes sense. */
#ifndef MIXT_FORMATS_SHARDS_H
#define MIXT_FORMATS_SHARDS_H

#include "core/memory.h"

typedef struct mixt_shard {
    char *path, *temporary;
    size_t first, count; /* of its tensors */
    uint64_t bytes;      /* of their data */
    bool created;        /* the temporary file is there */
} mixt_shard;

/* Appends what stands before the data of file `index`. */
typedef mixt_status (*mixt_shard_header)(void *writer, size_t index, mixt_buffer *to,
                                         mixt_error *error);

typedef struct mixt_shards {
    char *path;
    const char *suffix; /* ".gguf": stays behind the numbers */
    uint64_t limit;     /* bytes of data in a shard; 0: one file */
    mixt_shard_header header;
    void *writer;
    mixt_shard *files;
    size_t count;
    size_t current; /* file being written */
    int descriptor; /* -1: none is open */
    bool begun, failed, finished;
} mixt_shards;

/* Refused where a path that is to be sharded does not end in the suffix. `shards` is zeroed or was
 * freed; header and writer are set behind this call. */
mixt_status mixt_shards_init(mixt_shards *shards, const char *path, const char *suffix,
                             uint64_t limit, mixt_error *error);
/* Removes what was not finished. */
void mixt_shards_free(mixt_shards *shards);

/* Marks the shards as failed, without memory. */
mixt_status mixt_shards_memory(mixt_shards *shards, mixt_error *error);

/* Room for the files of so many tensors. */
mixt_status mixt_shards_plan(mixt_shards *shards, size_t tensors, mixt_error *error);
/* Deals the next tensor out: to the last file, or to a new one where that has data already and
 * would pass the limit. *offset is where its data lie in the file's. false: no file can hold so
 * much. */
bool mixt_shards_deal(mixt_shards *shards, uint64_t bytes, uint64_t *offset);
/* Names the files and opens the first one, with its header. */
mixt_status mixt_shards_begin(mixt_shards *shards, mixt_error *error);
mixt_status mixt_shards_write(mixt_shards *shards, const void *data, size_t length,
                              mixt_error *error);
/* Zeros: a hole where the file system has such. */
mixt_status mixt_shards_skip(mixt_shards *shards, uint64_t length, mixt_error *error);
/* Closes the current file and opens the next. */
mixt_status mixt_shards_next(mixt_shards *shards, mixt_error *error);
/* The end, in three steps: closes the last file, gives all their names, syncs the folder. */
mixt_status mixt_shards_close(mixt_shards *shards, mixt_error *error);
mixt_status mixt_shards_rename(mixt_shards *shards, mixt_error *error);
mixt_status mixt_shards_sync(mixt_shards *shards, mixt_error *error);

/* Sorts the texts and gives one that is there twice, or NULL. */
const char *mixt_find_twin(const char **texts, size_t count);

#endif
