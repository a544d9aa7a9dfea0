/* The files of a corpus: what the caller's paths stand for, found once, in byte order of their
 * names. Links that lead out of a folder, FIFOs and devices are passed over and counted. */
#ifndef MIXT_CORPUS_CORPUS_FILES_H
#define MIXT_CORPUS_CORPUS_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/sha256.h"
#include "mixt.h"

typedef enum mixt_corpus_kind {
    MIXT_CORPUS_TEXT,
    MIXT_CORPUS_LINES,        /* .jsonl */
    MIXT_CORPUS_LINES_PACKED, /* .jsonl.zst */
    MIXT_CORPUS_TOKENS,       /* .bin */
} mixt_corpus_kind;

typedef struct mixt_corpus_file {
    const char *path;
    const char *domain; /* of documents without a label of their own */
    uint64_t size;
    mixt_corpus_kind kind;
} mixt_corpus_file;

typedef struct mixt_corpus_files {
    mixt_arena *arena; /* owns the strings */
    mixt_corpus_file *items;
    size_t count, capacity;
    uint64_t skipped; /* entries passed over */
    char first_skipped[400];
    char hash[MIXT_SHA256_HEX]; /* names, sizes and ends */
} mixt_corpus_files;

mixt_status mixt_corpus_files_find(const char *const *paths, size_t path_count,
                                   mixt_corpus_files *files, mixt_error *error);
void mixt_corpus_files_free(mixt_corpus_files *files);

#endif
