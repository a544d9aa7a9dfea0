/* Where the weights of an opened model lie. Big matrices are typed rows that point into the mapped
 * files; what is small, or laid out in another way than products read, is held in memory. */
#ifndef MIXT_MODEL_STORAGE_H
#define MIXT_MODEL_STORAGE_H

#include "core/sha256.h"
#include "formats/gguf.h"
#include "model/parameters.h"

#define MIXT_SOURCE_RANK_MAX 5

/* A tensor of a file, whatever the format. */
typedef struct mixt_source_tensor {
    const void *key;       /* stands for the tensor in its file */
    const char *path;      /* of its file */
    const char *type_name; /* as the file says */
    mixt_type type;        /* MIXT_TYPE_COUNT: none that mixt computes with */
    int rank;
    int64_t size[MIXT_SOURCE_RANK_MAX]; /* slowest first; the first ones where there are more */
    const char *data;
    size_t bytes;
    size_t row_bytes; /* of rows as a parameter's piece has them */
} mixt_source_tensor;

/* A Hugging Face folder or GGUF files, mapped. */
typedef struct mixt_source mixt_source;

mixt_status mixt_source_open_folder(const char *path, mixt_source **source, mixt_error *error);
/* Takes `file`, also where it fails. */
mixt_status mixt_source_take_gguf(mixt_gguf *file, mixt_source **source, mixt_error *error);
void mixt_source_close(mixt_source *source);
const char *mixt_source_path(const mixt_source *source);
bool mixt_source_is_gguf(const mixt_source *source);
size_t mixt_source_count(const mixt_source *source);
/* Weights that all tensors can hold. */
double mixt_source_elements(const mixt_source *source);
/* Name and key of a tensor. */
const char *mixt_source_name(const mixt_source *source, size_t index, const void **key);
/* False where there is none of that name. */
bool mixt_source_find(const mixt_source *source, const char *name, mixt_source_tensor *tensor);
/* A type that factors of F8_E4M3 have: F32, F16, BF16, or F8_E8M0, which is 2^(byte - 127). */
bool mixt_source_is_factor(const mixt_source_tensor *tensor);
/* The map in which `data` lies, with the file's path and the place in it; NULL: it is in memory. */
const struct mixt_map *mixt_source_locate(const mixt_source *source, const void *data,
                                          const char **path, uint64_t *offset);
/* Bytes of all files. */
uint64_t mixt_source_bytes(const mixt_source *source);
/* Reads all of what is mapped into memory. */
mixt_status mixt_source_load(const mixt_source *source, mixt_error *error);
/* An error where a file shrank under its map. */
mixt_status mixt_source_intact(const mixt_source *source, mixt_error *error);

/* Memory that lives as long as the source, for weights that cannot be read in place; NULL: none. */
void *mixt_source_memory(mixt_source *source, size_t bytes);
/* Bytes of all that it has given so. */
uint64_t mixt_source_held(const mixt_source *source);

/* Rows and columns of a tensor of F8_E4M3 that share a factor; 0: the whole matrix. */
typedef struct mixt_f8_blocks {
    bool known; /* the configuration says them */
    int64_t rows, columns;
} mixt_f8_blocks;

/* A piece of a parameter with its tensor. */
typedef struct mixt_held_piece {
    const mixt_parameter *parameter;
    mixt_layout_piece piece;
    mixt_source_tensor tensor; /* of MXFP4 in a folder: the blocks */
    mixt_source_tensor scales; /* of MXFP4, and of F8_E4M3: factors of [.., block rows, columns] */
    mixt_f8_blocks f8;
    const float *factors; /* of F8_E4M3, as fp32 */
} mixt_held_piece;

/* Room for a parameter's matrices or values; then its pieces one by one. */
mixt_status mixt_held_begin(mixt_held *held, const mixt_parameter *parameter, bool matrix,
                            mixt_source *source, mixt_error *error);
mixt_status mixt_held_add(mixt_held *held, const mixt_held_piece *found, mixt_source *source,
                          mixt_error *error);

/* Gives every parameter of `model` its weights in `source`, which the model takes, also where it
 * fails. Names of tensors are looked up and their shapes and types checked before anything is held
 * in memory; a tensor that no parameter reads is refused unless it is known to mean nothing. Each
 * tensor is read by its own type, whatever the configuration says of it. */
mixt_status mixt_model_hold(mixt_model *model, mixt_source *source, mixt_f8_blocks f8,
                            mixt_error *error);
/* A GGUF file; *model may be there where it fails. */
mixt_status mixt_model_open_gguf(const char *path, mixt_model **model, mixt_error *error);
void mixt_model_release(mixt_model *model);
void mixt_model_hash_weights(const mixt_model *model, mixt_sha256 *state);

#endif
