#include "corpus/corpus_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"

#define DEPTH_LIMIT 64
#define END_SIZE ((size_t)64 << 10) /* hashed at each end of a file */

typedef struct scan {
    mixt_corpus_files *files;
    mixt_sha256 hash;
    const char *root; /* real path of the folder that is scanned */
    mixt_error *error;
} scan;

static bool ends_with(const char *path, const char *end)
{
    return strlen(path) > strlen(end) && mixt_ends_with(path, end);
}

static mixt_corpus_kind kind_of(const char *path)
{
    if (ends_with(path, ".jsonl")) {
        return MIXT_CORPUS_LINES;
    }
    if (ends_with(path, ".jsonl.zst") || ends_with(path, ".jsonl.zstd")) {
        return MIXT_CORPUS_LINES_PACKED;
    }
    return ends_with(path, ".bin") ? MIXT_CORPUS_TOKENS : MIXT_CORPUS_TEXT;
}

static mixt_status no_memory(scan *s)
{
    return mixt_fail(s->error, MIXT_ERROR_MEMORY, "corpus: no memory for the list of files");
}

/* Name of a path's last component; of what it stands for where that is . or .. */
static const char *base_name(scan *s, const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) {
        return NULL;
    }
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/') {
        copy[--length] = '\0';
    }
    const char *slash = strrchr(copy, '/');
    const char *name = slash != NULL ? slash + 1 : copy;
    char *real = NULL;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        if (!mixt_path_resolve(path, &real)) {
            free(copy);
            return NULL;
        }
        slash = real != NULL ? strrchr(real, '/') : NULL;
        name = slash != NULL ? slash + 1 : "";
    }
    const char *kept = mixt_arena_string(s->files->arena, name[0] != '\0' ? name : "text");
    free(real);
    free(copy);
    return kept;
}

/* A file's name without the ends that say what kind it is. */
static const char *stem(scan *s, const char *path)
{
    static const char *const ends[] = {".jsonl", ".jsonl.zst", ".jsonl.zstd", ".bin",
                                       ".txt",   ".text",      ".md"};
    const char *name = base_name(s, path);
    for (size_t i = 0; name != NULL && i < sizeof ends / sizeof *ends; i++) {
        if (ends_with(name, ends[i])) {
            return mixt_arena_bytes(s->files->arena, name, strlen(name) - strlen(ends[i]));
        }
    }
    return name;
}

static void skip(scan *s, const char *path, const char *reason)
{
    if (s->files->skipped++ == 0) {
        snprintf(s->files->first_skipped, sizeof s->files->first_skipped, "%.300s: %s", path,
                 reason);
        mixt_text_plain(s->files->first_skipped);
    }
}

/* The hash takes a name below the caller's path, so that a corpus may move. */
static mixt_status hash_file(scan *s, const char *path, const char *name, uint64_t *size)
{
    mixt_error local = MIXT_ERROR_INIT;
    int descriptor = mixt_file_open(path, size, &local);
    if (descriptor < 0) {
        return mixt_fail(s->error, local.status, "%s", local.message);
    }
    char *end = malloc(END_SIZE);
    mixt_status status = end == NULL ? no_memory(s) : MIXT_OK;
    size_t part = *size < END_SIZE ? (size_t)*size : END_SIZE;
    mixt_sha256_update(&s->hash, name, strlen(name) + 1);
    mixt_sha256_update_u64(&s->hash, *size);
    for (int i = 0; status == MIXT_OK && i < 2; i++) {
        status = mixt_read_at(descriptor, end, part, i == 0 ? 0 : *size - part, path, s->error);
        if (status == MIXT_OK) {
            mixt_sha256_update(&s->hash, end, part);
        }
    }
    free(end);
    close(descriptor);
    return status;
}

static mixt_status add_file(scan *s, const char *path, const char *name, const char *domain)
{
    mixt_corpus_files *files = s->files;
    if (!mixt_grow(&files->items, &files->capacity, files->count + 1, sizeof *files->items)) {
        return no_memory(s);
    }
    mixt_corpus_file *file = &files->items[files->count];
    *file = (mixt_corpus_file){.kind = kind_of(path), .domain = domain};
    if (domain == NULL) {
        bool labelled_by_name = file->kind == MIXT_CORPUS_LINES ||
                                file->kind == MIXT_CORPUS_LINES_PACKED || s->root == NULL;
        file->domain = labelled_by_name ? stem(s, path) : base_name(s, s->root);
    }
    file->path = mixt_arena_string(files->arena, path);
    if (file->path == NULL || file->domain == NULL) {
        return no_memory(s);
    }
    files->count++;
    return hash_file(s, path, name, &file->size);
}

/* Whether a link inside a folder ends inside it, at a regular file; 1, 0 or, without memory, -1. */
static int link_is_inside(const scan *s, const char *path)
{
    char *real;
    if (!mixt_path_resolve(path, &real)) {
        return -1;
    }
    size_t length = strlen(s->root);
    struct stat status;
    bool inside = real != NULL && strncmp(real, s->root, length) == 0 &&
                  (real[length] == '/' || strcmp(s->root, "/") == 0) && stat(real, &status) == 0 &&
                  S_ISREG(status.st_mode);
    free(real);
    return inside;
}

static mixt_status scan_folder(scan *s, const char *path, const char *name, const char *domain,
                               int depth);

static mixt_status scan_entry(scan *s, const char *path, const char *name, const char *entry,
                              const char *domain, int depth)
{
    struct stat status;
    if (entry[0] == '.') {
        return MIXT_OK; /* hidden: .git, .cache, editors' files */
    }
    if (lstat(path, &status) != 0) {
        skip(s, path, strerror(errno));
        return MIXT_OK;
    }
    if (S_ISDIR(status.st_mode)) {
        if (domain == NULL) {
            domain = mixt_arena_string(s->files->arena, entry);
            if (domain == NULL) {
                return no_memory(s);
            }
        }
        return scan_folder(s, path, name, domain, depth + 1);
    }
    if (S_ISREG(status.st_mode)) {
        return add_file(s, path, name, domain);
    }
    int inside = S_ISLNK(status.st_mode) ? link_is_inside(s, path) : 0;
    if (inside != 0) {
        return inside < 0 ? no_memory(s) : add_file(s, path, name, domain);
    }
    skip(s, path,
         S_ISLNK(status.st_mode) ? "a link to a folder or out of the corpus"
                                 : "not a regular file or folder");
    return MIXT_OK;
}

/* domain NULL: at the top, where subfolders name domains. */
static mixt_status scan_folder(scan *s, const char *path, const char *name, const char *domain,
                               int depth)
{
    if (depth > DEPTH_LIMIT) {
        return mixt_fail(s->error, MIXT_ERROR_FORMAT, "%s: more than %d folders deep", path,
                         DEPTH_LIMIT);
    }
    char **names;
    size_t count;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_folder_list(path, &names, &count, &local);
    if (status != MIXT_OK) {
        return mixt_fail(s->error, status, "%s", local.message);
    }
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        char *below = mixt_path_join(path, names[i]);
        char *below_name = mixt_path_join(name, names[i]);
        status = below == NULL || below_name == NULL
                     ? no_memory(s)
                     : scan_entry(s, below, below_name, names[i], domain, depth);
        free(below);
        free(below_name);
    }
    mixt_names_free(names, count);
    return status;
}

static mixt_status scan_path(scan *s, const char *path)
{
    const char *name = base_name(s, path);
    if (name == NULL) {
        return no_memory(s);
    }
    if (!mixt_path_is_folder(path)) {
        s->root = NULL;
        if (ends_with(path, ".zst") && kind_of(path) == MIXT_CORPUS_TEXT) {
            return mixt_fail(s->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: compressed corpora are .jsonl.zst", path);
        }
        return add_file(s, path, name, NULL);
    }
    char *root = realpath(path, NULL);
    if (root == NULL) {
        return mixt_fail_errno(s->error, errno, "%s: cannot resolve", path);
    }
    s->root = root;
    mixt_status status = scan_folder(s, path, name, NULL, 0);
    free(root);
    return status;
}

mixt_status mixt_corpus_files_find(const char *const *paths, size_t path_count,
                                   mixt_corpus_files *files, mixt_error *error)
{
    *files = (mixt_corpus_files){.arena = mixt_arena_create()};
    scan s = {.files = files, .error = error};
    mixt_status status = files->arena == NULL ? no_memory(&s) : MIXT_OK;
    mixt_sha256_init(&s.hash);
    for (size_t i = 0; status == MIXT_OK && i < path_count; i++) {
        status = scan_path(&s, paths[i]);
    }
    if (status == MIXT_OK && files->count == 0) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: no files in the corpus",
                           path_count != 0 ? paths[0] : "corpus");
    }
    mixt_sha256_final_hex(&s.hash, files->hash);
    if (status != MIXT_OK) {
        mixt_corpus_files_free(files);
    }
    return status;
}

void mixt_corpus_files_free(mixt_corpus_files *files)
{
    mixt_arena_free(files->arena);
    free(files->items);
    *files = (mixt_corpus_files){0};
}
