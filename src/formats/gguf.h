/* GGUF version 3 files, alone or in shards: typed metadata and mapped tensors. Everything a file
 * says is checked when it is opened; what the getters give lies inside the file. */
#ifndef MIXT_FORMATS_GGUF_H
#define MIXT_FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "quant/types.h"

typedef struct mixt_gguf mixt_gguf;

/* Numbers as in the file. */
typedef enum mixt_gguf_kind {
    MIXT_GGUF_U8,
    MIXT_GGUF_I8,
    MIXT_GGUF_U16,
    MIXT_GGUF_I16,
    MIXT_GGUF_U32,
    MIXT_GGUF_I32,
    MIXT_GGUF_F32,
    MIXT_GGUF_BOOL,
    MIXT_GGUF_STRING,
    MIXT_GGUF_ARRAY,
    MIXT_GGUF_U64,
    MIXT_GGUF_I64,
    MIXT_GGUF_F64,
} mixt_gguf_kind;

typedef struct mixt_gguf_tensor {
    const char *name;
    mixt_type type;
    int rank;         /* 0 (a scalar) to 4 */
    int64_t size[4];  /* as in the file: the fastest (a row's elements) first; 1 behind the rank */
    const void *data; /* mapped, read only */
    size_t bytes;
    int shard;
} mixt_gguf_tensor;

/* Accepted range of a number, both ends included. */
typedef struct mixt_gguf_range {
    double low, high;
} mixt_gguf_range;

/* `path`: a file, or the first of its shards (NAME-00001-of-0000N.gguf), which opens all. */
/* True where a path is a GGUF file's: by its first bytes, as blobs have no suffix, or else by a
 * name in .gguf of any case, so that a damaged one is refused as what it should be. */
bool mixt_gguf_is(const char *path);
/* The first bytes alone. */
bool mixt_gguf_has_magic(const char *path);
/* The name alone. */
bool mixt_gguf_is_name(const char *path);
mixt_status mixt_gguf_open(const char *path, mixt_gguf **file, mixt_error *error);
/* One file from memory that outlives the result; `name` stands for it in errors. */
mixt_status mixt_gguf_open_memory(const void *bytes, size_t length, const char *name,
                                  mixt_gguf **file, mixt_error *error);
void mixt_gguf_close(mixt_gguf *file);
const char *mixt_gguf_path(const mixt_gguf *file, int shard);
uint64_t mixt_gguf_bytes(const mixt_gguf *file); /* of all shards */
/* The shard in whose map `data` lies, with its path and the place in the file; NULL: in none. */
const struct mixt_map *mixt_gguf_locate(const mixt_gguf *file, const void *data, const char **path,
                                        uint64_t *offset);
/* Reads all shards that are mapped into memory; tensors stay where they are. */
mixt_status mixt_gguf_load(const mixt_gguf *file, mixt_error *error);
/* An error where the file shrank under its mapping since (its lost pages then read as zeros). */
mixt_status mixt_gguf_intact(const mixt_gguf *file, mixt_error *error);

size_t mixt_gguf_tensor_count(const mixt_gguf *file);
const mixt_gguf_tensor *mixt_gguf_tensor_at(const mixt_gguf *file, size_t index);
const mixt_gguf_tensor *mixt_gguf_find(const mixt_gguf *file, const char *name); /* or NULL */

/* Metadata of the first shard. Getters of one value fail, naming file and key, where the key is
 * missing, of another kind (any integer kind serves an integer; any number kind a number) or out
 * of range. An fp32 number is given as the shortest decimal that rounds to it. */
size_t mixt_gguf_key_count(const mixt_gguf *file);
const char *mixt_gguf_key_at(const mixt_gguf *file, size_t index, mixt_gguf_kind *kind);
bool mixt_gguf_has(const mixt_gguf *file, const char *key);
mixt_status mixt_gguf_integer(const mixt_gguf *file, const char *key, mixt_gguf_range range,
                              int64_t *value, mixt_error *error);
mixt_status mixt_gguf_number(const mixt_gguf *file, const char *key, mixt_gguf_range range,
                             double *value, mixt_error *error);
mixt_status mixt_gguf_bool(const mixt_gguf *file, const char *key, bool *value, mixt_error *error);
/* NUL-terminated; strings with a NUL inside are refused here (arrays keep them). */
mixt_status mixt_gguf_string(const mixt_gguf *file, const char *key, const char **text,
                             mixt_error *error);

typedef struct mixt_gguf_array {
    mixt_gguf_kind kind; /* of an element */
    size_t count;
    const void *data;           /* elements as they lie (unaligned), NULL for strings */
    const char *const *strings; /* [count], not NUL-terminated */
    const uint64_t *lengths;    /* [count] */
} mixt_gguf_array;

/* An array of exactly this kind of element. */
mixt_status mixt_gguf_array_of(const mixt_gguf *file, const char *key, mixt_gguf_kind kind,
                               mixt_gguf_array *array, mixt_error *error);

/* ------------------------------------------------------------------------------------------ */
/* Writing: all metadata and tensor headers first, then the data in the same order. The file
 * appears under its name only when it is finished. shard_bytes > 0 splits it as
 * NAME-00001-of-0000N.gguf. */

typedef struct mixt_gguf_writer mixt_gguf_writer;

mixt_status mixt_gguf_writer_create(const char *path, uint64_t shard_bytes,
                                    mixt_gguf_writer **writer, mixt_error *error);
void mixt_gguf_writer_free(mixt_gguf_writer *writer); /* unfinished: leaves nothing behind */
mixt_status mixt_gguf_writer_u32(mixt_gguf_writer *writer, const char *key, uint32_t value,
                                 mixt_error *error);
mixt_status mixt_gguf_writer_f32(mixt_gguf_writer *writer, const char *key, float value,
                                 mixt_error *error);
mixt_status mixt_gguf_writer_f64(mixt_gguf_writer *writer, const char *key, double value,
                                 mixt_error *error);
mixt_status mixt_gguf_writer_bool(mixt_gguf_writer *writer, const char *key, bool value,
                                  mixt_error *error);
mixt_status mixt_gguf_writer_string(mixt_gguf_writer *writer, const char *key, const char *text,
                                    mixt_error *error);
/* Fixed-size kinds: `data` as it lies; MIXT_GGUF_STRING: strings and lengths. */
mixt_status mixt_gguf_writer_array(mixt_gguf_writer *writer, const char *key,
                                   const mixt_gguf_array *array, mixt_error *error);
/* A key and value of another file as they are. general.alignment and split.* are passed over: they
 * say how that file is laid out. */
mixt_status mixt_gguf_writer_copy(mixt_gguf_writer *writer, const mixt_gguf *from, const char *key,
                                  mixt_error *error);
mixt_status mixt_gguf_writer_add(mixt_gguf_writer *writer, const char *name, mixt_type type,
                                 int rank, const int64_t *size, mixt_error *error);
/* In place of all that follows: the file in memory (malloc'd) with zeros for its data. */
mixt_status mixt_gguf_writer_image(mixt_gguf_writer *writer, char **bytes, size_t *length,
                                   mixt_error *error);
mixt_status mixt_gguf_writer_begin(mixt_gguf_writer *writer, mixt_error *error);
/* The next bytes of the tensor in turn; a tensor may come in several pieces, none beyond its end.
 * Tensors without bytes need no call. */
mixt_status mixt_gguf_writer_write(mixt_gguf_writer *writer, const void *data, size_t bytes,
                                   mixt_error *error);
/* The next bytes are zeros, a hole in the file where the file system has such. */
mixt_status mixt_gguf_writer_skip(mixt_gguf_writer *writer, uint64_t bytes, mixt_error *error);
mixt_status mixt_gguf_writer_finish(mixt_gguf_writer *writer, mixt_error *error);

#endif
