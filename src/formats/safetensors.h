/* safetensors: 8 bytes of header length, a JSON header that names every tensor with type, shape and
 * byte range, then the data (huggingface/safetensors, README and tensor.rs define the rules).
 *
 * Reading follows the reference implementation: at most 100,000,000 bytes of header, strict UTF-8
 * and JSON, byte ranges that start at 0 and touch without gap or overlap, sizes that equal
 * shape x type, and nothing behind the last tensor. White space around the header object is
 * accepted. Stricter than the reference: duplicate names, names with a NUL, dimensions beyond
 * 2^63 - 1 and more than MIXT_TENSOR_RANK_MAX of them are refused. Looser: a type that mixt has
 * never heard of is refused only when its data are read.
 *
 * Data are read with pread into the caller's memory, or mapped (core/map.h): either way a file that
 * another process shortens gives an error instead of a SIGBUS. */
#ifndef MIXT_FORMATS_SAFETENSORS_H
#define MIXT_FORMATS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "formats/dtype.h"
#include "mixt.h"

#define MIXT_SAFETENSORS_HEADER_MAX 100000000u
#define MIXT_TENSOR_RANK_MAX 64

typedef struct mixt_tensor_info {
    const char *name;
    const char *dtype_name; /* as the file has it, also for types that mixt does not know */
    const int64_t *shape;   /* [rank] */
    uint64_t offset;        /* of the first byte, in its file */
    uint64_t bytes;
    uint32_t rank;
    uint32_t shard; /* number of the file */
    mixt_dtype dtype;
} mixt_tensor_info;

/* -- Reading ------------------------------------------------------------------------------- */

typedef struct mixt_safetensors mixt_safetensors;

/* A .safetensors file, or a folder with model.safetensors or model.safetensors.index.json. Shard
 * names from the index must be plain names of regular files in that folder; a link may lead only
 * into the folder itself or, as in a hub cache (snapshots/REVISION/), into ../../blobs. */
mixt_status mixt_safetensors_open(const char *path, mixt_safetensors **file, mixt_error *error);
/* The same over bytes in memory, which must outlive the object; `name` is for messages. */
mixt_status mixt_safetensors_open_memory(const void *bytes, size_t length, const char *name,
                                         mixt_safetensors **file, mixt_error *error);
void mixt_safetensors_close(mixt_safetensors *file);

/* Tensors in the order of their data. */
size_t mixt_safetensors_count(const mixt_safetensors *file);
const mixt_tensor_info *mixt_safetensors_tensor(const mixt_safetensors *file, size_t index);
/* NULL where there is none; the cost is logarithmic. */
const mixt_tensor_info *mixt_safetensors_find(const mixt_safetensors *file, const char *name);
/* Value of a key of __metadata__ (first shard), or NULL. */
const char *mixt_safetensors_metadata(const mixt_safetensors *file, const char *key);
/* Keys of __metadata__ (first shard), in rising order. */
size_t mixt_safetensors_metadata_count(const mixt_safetensors *file);
const char *mixt_safetensors_metadata_key(const mixt_safetensors *file, size_t index);
/* File that holds the tensor, for messages. */
const char *mixt_safetensors_path(const mixt_safetensors *file, const mixt_tensor_info *tensor);
/* Elements of a shape. */
uint64_t mixt_tensor_elements(const mixt_tensor_info *tensor);

/* Bytes [first, first + length) of a tensor. */
mixt_status mixt_safetensors_read(const mixt_safetensors *file, const mixt_tensor_info *tensor,
                                  uint64_t first, size_t length, void *to, mixt_error *error);
/* Elements [first, first + count) of an F32, F16 or BF16 tensor as fp32, exactly. */
mixt_status mixt_safetensors_read_f32(const mixt_safetensors *file, const mixt_tensor_info *tensor,
                                      uint64_t first, size_t count, float *to, mixt_error *error);

/* Maps the files; then mixt_safetensors_data gives a tensor's bytes in place (NULL before), for as
 * long as the object lives. */
mixt_status mixt_safetensors_map(mixt_safetensors *file, mixt_error *error);
const void *mixt_safetensors_data(const mixt_safetensors *file, const mixt_tensor_info *tensor);
/* The file in whose map `data` lies, with its path and the place in it; NULL: in none. */
const struct mixt_map *mixt_safetensors_locate(const mixt_safetensors *file, const void *data,
                                               const char **path, uint64_t *offset);
/* Of the files that are mapped: their bytes; and all of them into memory, tensors stay where they
 * are. */
uint64_t mixt_safetensors_mapped(const mixt_safetensors *file);
mixt_status mixt_safetensors_load(const mixt_safetensors *file, mixt_error *error);
/* An error where a file shrank under its map (its lost pages then read as zeros). */
mixt_status mixt_safetensors_intact(const mixt_safetensors *file, mixt_error *error);

/* -- Writing ------------------------------------------------------------------------------- */

/* Declares tensors first, then takes their bytes in the order of declaration, in pieces of any
 * size. Nothing is held in memory but the header. The file appears under its name only when it is
 * complete and synced; until then it has ".tmp" behind its name. */
typedef struct mixt_safetensors_writer mixt_safetensors_writer;

/* NAME.safetensors.index.json as transformers writes it: the file of each tensor, and all bytes. */
typedef struct mixt_tensor_place {
    const char *name, *file;
} mixt_tensor_place;

void mixt_safetensors_index(const mixt_tensor_place *places, size_t count, uint64_t bytes,
                            mixt_buffer *out);

/* shard_bytes > 0: data beyond it go to further files, named NAME-00001-of-0000N.safetensors, with
 * NAME.safetensors.index.json beside them (`path` must end in ".safetensors" then). A tensor is
 * never split. */
mixt_status mixt_safetensors_writer_create(const char *path, uint64_t shard_bytes,
                                           mixt_safetensors_writer **writer, mixt_error *error);
mixt_status mixt_safetensors_writer_metadata(mixt_safetensors_writer *writer, const char *key,
                                             const char *value, mixt_error *error);
mixt_status mixt_safetensors_writer_add(mixt_safetensors_writer *writer, const char *name,
                                        mixt_dtype dtype, uint32_t rank, const int64_t *shape,
                                        mixt_error *error);
/* Ends the declarations and writes the first header. */
mixt_status mixt_safetensors_writer_begin(mixt_safetensors_writer *writer, mixt_error *error);
mixt_status mixt_safetensors_writer_write(mixt_safetensors_writer *writer, const void *data,
                                          size_t length, mixt_error *error);
/* Refuses when bytes are missing; syncs and renames. */
mixt_status mixt_safetensors_writer_finish(mixt_safetensors_writer *writer, mixt_error *error);
/* Removes what was not finished. */
void mixt_safetensors_writer_free(mixt_safetensors_writer *writer);

/* -- Parts that the two share with checkpoints ---------------------------------------------- */

typedef struct mixt_text_pair {
    const char *key;
    const char *value;
} mixt_text_pair;

typedef struct mixt_tensor_header {
    const mixt_tensor_info *tensors; /* [count], in the order of their data; offset is set here */
    size_t count;
    const mixt_text_pair *metadata; /* [metadata_count] */
    size_t metadata_count;
} mixt_tensor_header;

/* Length field and header, padded with spaces so that the data start at a multiple of 8 bytes.
 * Refuses names that are not UTF-8 and headers beyond the limit. */
mixt_status mixt_safetensors_header(const mixt_tensor_header *header, const char *path,
                                    mixt_buffer *out, mixt_error *error);
/* Bytes of a tensor of this type and shape into *bytes; false where they do not fit 63 bits, a
 * dimension is negative or the bits do not fill whole bytes. */
bool mixt_tensor_bytes(mixt_dtype dtype, uint32_t rank, const int64_t *shape, uint64_t *bytes);
/* A JSON string with its quotes. */
void mixt_json_quote(mixt_buffer *out, const char *text);
bool mixt_utf8_valid(const char *text, size_t length);

#endif
