/* Importance matrices: sums of squares of what each weight matrix's columns meet. */
#ifndef MIXT_MODEL_IMPORTANCE_H
#define MIXT_MODEL_IMPORTANCE_H

#include "core/error.h"

#define MIXT_IMPORTANCE_ENTRIES 65536 /* at most */

/* One weight tensor under its GGUF name. A file may have one count for all matrices of a tensor:
 * then it is one matrix with the columns of all of them. */
typedef struct mixt_importance_entry {
    char name[96];
    int64_t matrices; /* 1, or E */
    int64_t columns;
    float *sums;   /* [matrices, columns], of squares */
    float *counts; /* [matrices], of rows */
} mixt_importance_entry;

struct mixt_importance {
    mixt_importance_entry *entries;
    int count;
    size_t capacity;
    int *by_name; /* [count]: the entries in the order of their names */
    size_t by_name_capacity;
    int chunk_count, chunk_size; /* of the text, and tokens of one; 0 where a file does not say */
    char *path;                  /* of the file, or NULL where it was gathered */
};

/* Whether there is an entry of this name. */
bool mixt_importance_has(const mixt_importance *importance, const char *name);
/* The entry of a name, made with zeros where there is none; NULL without memory, where an entry has
 * another size, or where name, size or number of entries are beyond what is held. */
mixt_importance_entry *mixt_importance_entry_of(mixt_importance *importance, const char *name,
                                                int64_t matrices, int64_t columns);
/* Adds the squares of rows [rows, columns] to one matrix of an entry. */
void mixt_importance_add(mixt_importance_entry *entry, int64_t matrix, const float *rows,
                         int64_t count);
/* Says how many chunks of `window` tokens were gathered, as llama.cpp counts them: by the matrix
 * that met most rows. */
void mixt_importance_count_chunks(mixt_importance *importance, int window);
/* The file's name, or what stands for one in messages. */
const char *mixt_importance_path(const mixt_importance *importance);
/* Refused where an entry of this name is there that has another size than the tensor. */
mixt_status mixt_importance_check(const mixt_importance *importance, const char *name,
                                  int64_t matrices, int64_t columns, mixt_error *error);
/* Writes mean squares [columns] of one matrix of a tensor; false where nothing is known of it: no
 * such entry, another size, or an expert that no token reached. */
bool mixt_importance_of(const mixt_importance *importance, const char *name, int64_t matrix,
                        int64_t columns, float *means);
/* Rows that one matrix of a tensor met; where all matrices have one count, and where there is no
 * entry, 1. */
double mixt_importance_count(const mixt_importance *importance, const char *name, int64_t matrix);

#endif
