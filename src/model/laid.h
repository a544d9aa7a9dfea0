/* Matrices whose rows lie in files in another way than products read them: columns where rows are
 * wanted, MXFP4 in two tensors, addresses that a type is not read from. Experts' are laid anew when
 * something computes with them in memory (mixt_model_lay), or one by one as a store reads them
 * (model/stored.c); who wants values alone gets them row by row, from the files. */
#ifndef MIXT_MODEL_LAID_H
#define MIXT_MODEL_LAID_H

#include "model/storage.h"

#define MIXT_LAID_PARTS 2 /* ranges of bytes: the tensor, and the scales of MXFP4 */

/* A piece of a parameter, and how its rows are afterwards. */
typedef struct mixt_laid_piece {
    mixt_layout_piece piece;
    mixt_source_tensor tensor, scales;
    mixt_type type;
    int64_t k;
    size_t row_bytes;
    bool whole; /* rows of the tensor, moved as they are */
} mixt_laid_piece;

/* Rows [first, first + count) of the piece: a matrix. */
typedef struct mixt_laid {
    const mixt_laid_piece *piece;
    int64_t first, count;
} mixt_laid;

/* Bytes [offset, offset + bytes) of a tensor. */
typedef struct mixt_laid_range {
    size_t offset, bytes;
} mixt_laid_range;

/* False: such rows are made of all values of the tensor, and not moved. */
bool mixt_laid_plan(const mixt_held_piece *found, int64_t k, mixt_laid_piece *laid);
/* What a matrix needs of part 0, the tensor, and 1, its scales; no bytes where there are none. */
mixt_laid_range mixt_laid_part(const mixt_laid *laid, int part);
/* Lays a matrix from these ranges. */
void mixt_laid_matrix(const mixt_laid *laid, const char *const parts[MIXT_LAID_PARTS], char *to);
/* Values [from, from + count) of a row, from the files, as they are afterwards: whole blocks. */
void mixt_laid_row(const mixt_laid *laid, int64_t row, int64_t from, int64_t count, char *to);
/* The matrix from the files. */
void mixt_laid_from_files(const mixt_laid *laid, char *to);

/* How matrix i of a parameter lies; NULL: as products read it, or in memory. */
const mixt_laid *mixt_held_laid(const mixt_held *held, int i);
/* The bytes of a row of a matrix, whatever it is like. */
void mixt_held_row(const mixt_held *held, int i, int64_t row, char *to);
/* Matrices that are not in memory yet, of parameters that no store reads. From any thread. */
mixt_status mixt_model_lay(const mixt_model *model, mixt_error *error);

#endif
