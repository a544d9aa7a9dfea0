/* Files: whole-file reads with a limit, durable writes, folders.
 * No path that comes out of a file is opened except through mixt_name_is_plain. */
#ifndef MIXT_CORE_FILES_H
#define MIXT_CORE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

/* Opens a regular file for reading without ever blocking on a FIFO or device; *size is its length.
 * Refuses directories, FIFOs, sockets and devices by name. Returns a descriptor or -1; the error's
 * status is MIXT_ERROR_NOT_FOUND only where nothing has this name. */
int mixt_file_open(const char *path, uint64_t *size, mixt_error *error);

/* Reads a regular file of at most `limit` bytes into malloc'd memory with a NUL behind it.
 * The caller frees *data. */
mixt_status mixt_file_read(const char *path, size_t limit, char **data, size_t *length,
                           mixt_error *error);

/* Reads exactly `length` bytes at `offset`, through EINTR and short reads. */
mixt_status mixt_read_at(int descriptor, void *data, size_t length, uint64_t offset,
                         const char *path, mixt_error *error);
/* Writes all bytes, through EINTR and short writes. */
mixt_status mixt_write_all(int descriptor, const void *data, size_t length, const char *path,
                           mixt_error *error);

/* Opens a new file for writing, where nothing has the name. A descriptor, or -1. */
int mixt_file_create(const char *path, mixt_error *error);
/* The same for a temporary name. What is there under it, of a killed process, is removed and not
 * opened: it may be a link, or a second name of somebody's file. */
int mixt_file_temporary(const char *path, mixt_error *error);
/* Syncs (unless `status` is a failure already, which is kept) and closes; *descriptor becomes -1.
 */
mixt_status mixt_file_settle(int *descriptor, const char *path, mixt_status status,
                             mixt_error *error);

/* Writes a new file, syncs it, renames it over `path` and syncs the folder: a reader sees the old
 * content or the new, never a part. Where `path` or its temporary name is a link, the link is
 * replaced. */
mixt_status mixt_file_replace(const char *path, const void *data, size_t length, mixt_error *error);
/* The same for folder/name. */
mixt_status mixt_file_replace_in(const char *folder, const char *name, const void *data,
                                 size_t length, mixt_error *error);
/* Removes folder/name, which need not be there. */
mixt_status mixt_file_remove_in(const char *folder, const char *name, mixt_error *error);
mixt_status mixt_folder_sync(const char *path, mixt_error *error);
/* Of the folder that holds `path`. */
mixt_status mixt_parent_sync(const char *path, mixt_error *error);
/* mkdir -p. */
mixt_status mixt_folder_create(const char *path, mixt_error *error);
/* Removes a folder and what is in it (files and folders, never through a link). */
mixt_status mixt_folder_remove(const char *path, mixt_error *error);
/* Names in a folder in byte order, without . and ..; free with mixt_names_free. */
mixt_status mixt_folder_list(const char *path, char ***names, size_t *count, mixt_error *error);
void mixt_names_free(char **names, size_t count);
/* Byte order of two `char *`, for qsort. */
int mixt_compare_names(const void *a, const void *b);
bool mixt_path_is_folder(const char *path);
/* Whether there is something of this name, readable or not: a link that leads nowhere, a name that
 * cannot be looked up. Whoever opens it then says what is wrong with it. */
bool mixt_path_exists(const char *path);
/* Whether an open file or folder still has this name, itself and not by a link. */
bool mixt_path_is_of(const char *path, int descriptor);
/* Where a path leads, links followed, in malloc'd memory; *real is NULL where it leads nowhere,
 * with errno. False: without memory. */
bool mixt_path_resolve(const char *path, char **real);

/* "folder/name" in malloc'd memory; NULL without memory. */
char *mixt_path_join(const char *folder, const char *name);
bool mixt_ends_with(const char *text, const char *end);
/* One plain component: not empty, no '/', no NUL, not . or .., at most 255 bytes. */
bool mixt_name_is_plain(const char *name, size_t length);

#endif
