/* Mutations that leave a format whole: a changed number, key, shape or type, and everything behind
 * it laid out anew, so that an input gets past its header. Each gives the new size, at most
 * max_size; bytes that are no such file are mutated as bytes. */
#ifndef MIXT_FUZZ_MUTATE_H
#define MIXT_FUZZ_MUTATE_H

#include <jansson.h>

#include "fuzz.h"

size_t fuzz_mutate_json(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t fuzz_mutate_gguf(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* One change somewhere below an object or array. */
void fuzz_change_json(json_t *root, fuzz_dice *dice);
/* Some numbers of tensor data changed: to NaN, infinity, or anything. */
void fuzz_change_data(uint8_t *data, size_t size, fuzz_dice *dice);

/* Files of a folder in one input: of each a line "== NAME BYTES" and its bytes, one behind the
 * other. */
#define FUZZ_FILES_MAX 24
typedef struct fuzz_file {
    char name[64]; /* one plain component, or folder/name */
    const uint8_t *data;
    size_t size;
} fuzz_file;

/* Number of files; sizes beyond the end are cut. */
size_t fuzz_unpack(const uint8_t *data, size_t size, fuzz_file files[FUZZ_FILES_MAX]);
/* The other way; 0 where they do not fit. `to` may not hold them. */
size_t fuzz_pack(const fuzz_file *files, size_t count, uint8_t *to, size_t max_size);
/* Mutates one of the files by its name's ending (.json, .safetensors, .gguf, else bytes); rarely
 * removes, renames or swaps some. */
size_t fuzz_mutate_pack(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

#endif
