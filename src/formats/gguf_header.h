/* What gguf.c (opening and getters), gguf_header.c (parsing) and gguf_write.c share. */
#ifndef MIXT_FORMATS_GGUF_HEADER_H
#define MIXT_FORMATS_GGUF_HEADER_H

#include "core/map.h"
#include "core/memory.h"
#include "formats/gguf.h"

#define MIXT_GGUF_MAGIC "GGUF"
#define MIXT_GGUF_VERSION 3
#define MIXT_GGUF_KEY_MAX 65535 /* bytes */
#define MIXT_GGUF_NAME_MAX 63   /* bytes of a tensor's name: 64 with the NUL that ggml adds */
#define MIXT_GGUF_RANK_MAX 4
#define MIXT_GGUF_ALIGNMENT 32             /* of tensor data, where the file does not say */
#define MIXT_GGUF_ALIGNMENT_MAX (1u << 20) /* a limit of ours */

typedef struct mixt_gguf_value {
    const char *key;
    mixt_gguf_kind kind;
    uint64_t bits;    /* numbers and bools: their bytes, zero-extended */
    const char *text; /* strings: a copy with a NUL behind it */
    size_t length;    /* of text */
    mixt_gguf_array array;
    const unsigned char *raw; /* the value in the file, behind its kind */
    size_t raw_bytes;
} mixt_gguf_value;

/* One file: what its header says. `keys` and `names` are sorted for searching: no choice of names
 * makes a binary search slow, as it can a hash table. */
typedef struct mixt_gguf_part {
    char *path;
    mixt_map *map; /* NULL: bytes of the caller */
    const unsigned char *bytes;
    uint64_t size;
    mixt_gguf_value *values;
    size_t value_count;
    const mixt_gguf_value **keys; /* [value_count], by key */
    mixt_gguf_tensor *tensors;
    size_t tensor_count;
} mixt_gguf_part;

/* Bytes of one element; 0 for strings and arrays. */
size_t mixt_gguf_kind_bytes(mixt_gguf_kind kind);
const char *mixt_gguf_kind_name(mixt_gguf_kind kind);
/* Parses and checks part->bytes; what it makes lies in the arena. */
mixt_status mixt_gguf_parse(mixt_gguf_part *part, int shard, mixt_arena *arena, mixt_error *error);
const mixt_gguf_value *mixt_gguf_value_of(const mixt_gguf_part *part, const char *key);
/* A value of the first shard, or NULL. */
const mixt_gguf_value *mixt_gguf_first_value(const mixt_gguf *file, const char *key);

#endif
