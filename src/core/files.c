#define _GNU_SOURCE
#include "core/files.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/memory.h"

/* Why a file cannot be opened. Not found is only what has no name there at all: callers leave out a
 * file that is not there, and must not leave out one that they cannot read. */
static void open_failed(const char *path, int number, mixt_error *error)
{
    struct stat status;
    bool named = lstat(path, &status) == 0;
    if ((number == ENOENT || number == ENOTDIR) && !named) {
        mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: no such file", path);
    } else if (number == ENOENT || number == ENOTDIR) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is a link to a file that is not there", path);
    } else if (number == ENXIO) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is a device or socket, not a regular file", path);
    } else if (number == EACCES || number == EPERM || number == ELOOP || number == ENAMETOOLONG) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: cannot open: %s", path, strerror(number));
    } else {
        mixt_fail_errno(error, number, "%s: cannot open", path);
    }
}

int mixt_file_open(const char *path, uint64_t *size, mixt_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        open_failed(path, errno, error);
        return -1;
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        mixt_fail_errno(error, errno, "%s: cannot stat", path);
        close(descriptor);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is %s, not a regular file", path,
                  S_ISDIR(status.st_mode)    ? "a folder"
                  : S_ISFIFO(status.st_mode) ? "a FIFO"
                                             : "a device or socket");
        close(descriptor);
        return -1;
    }
    *size = (uint64_t)status.st_size;
    return descriptor;
}

mixt_status mixt_read_at(int descriptor, void *data, size_t length, uint64_t offset,
                         const char *path, mixt_error *error)
{
    char *to = data;
    while (length != 0) {
        ssize_t count =
            pread(descriptor, to, length < (1u << 30) ? length : 1u << 30, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return mixt_fail_errno(error, errno, "%s: cannot read at byte %llu", path,
                                   (unsigned long long)offset);
        }
        if (count == 0) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: ends at byte %llu, %zu bytes short",
                             path, (unsigned long long)offset, length);
        }
        to += count;
        offset += (uint64_t)count;
        length -= (size_t)count;
    }
    return MIXT_OK;
}

mixt_status mixt_write_all(int descriptor, const void *data, size_t length, const char *path,
                           mixt_error *error)
{
    const char *from = data;
    while (length != 0) {
        ssize_t count = write(descriptor, from, length < (1u << 30) ? length : 1u << 30);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return mixt_fail_errno(error, errno, "%s: cannot write", path);
        }
        from += count;
        length -= (size_t)count;
    }
    return MIXT_OK;
}

mixt_status mixt_file_read(const char *path, size_t limit, char **data, size_t *length,
                           mixt_error *error)
{
    *data = NULL;
    *length = 0;
    uint64_t size;
    mixt_error local = MIXT_ERROR_INIT; /* its status says why there is no descriptor */
    int descriptor = mixt_file_open(path, &size, &local);
    if (descriptor < 0) {
        return mixt_fail(error, local.status, "%s", local.message);
    }
    mixt_status status = MIXT_OK;
    char *bytes = NULL;
    if (size > limit) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %llu bytes, more than the %zu allowed",
                           path, (unsigned long long)size, limit);
    } else if ((bytes = malloc((size_t)size + 1)) == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %llu bytes", path,
                           (unsigned long long)size);
    } else {
        status = mixt_read_at(descriptor, bytes, (size_t)size, 0, path, error);
    }
    close(descriptor);
    if (status != MIXT_OK) {
        free(bytes);
        return status;
    }
    bytes[size] = '\0';
    *data = bytes;
    *length = (size_t)size;
    return MIXT_OK;
}

mixt_status mixt_folder_sync(const char *path, mixt_error *error)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return mixt_fail_errno(error, errno, "%s: cannot open folder", path);
    }
    mixt_status status = MIXT_OK;
    if (fsync(descriptor) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot sync folder", path);
    }
    close(descriptor);
    return status;
}

mixt_status mixt_parent_sync(const char *path, mixt_error *error)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    mixt_status status = folder != NULL
                             ? mixt_folder_sync(folder, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    free(folder);
    return status;
}

/* Where nothing has the name, not even a link. */
static int open_new(const char *path)
{
    int descriptor;
    do {
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

int mixt_file_create(const char *path, mixt_error *error)
{
    int descriptor = open_new(path);
    if (descriptor < 0) {
        mixt_fail_errno(error, errno, "%s: cannot create", path);
    }
    return descriptor;
}

int mixt_file_temporary(const char *path, mixt_error *error)
{
    for (int i = 0; i < 100; i++) {
        int descriptor = open_new(path);
        if (descriptor >= 0) {
            return descriptor;
        }
        if (errno != EEXIST || (unlink(path) != 0 && errno != ENOENT)) {
            break;
        }
    }
    mixt_fail_errno(error, errno, "%s: cannot create", path);
    return -1;
}

/* An interrupted fsync has not failed yet; any other failure is final for this attempt. Linux
 * closes even where close reports EINTR. */
mixt_status mixt_file_settle(int *descriptor, const char *path, mixt_status status,
                             mixt_error *error)
{
    if (*descriptor < 0) {
        assert(status != MIXT_OK);
        return status;
    }
    while (status == MIXT_OK && fsync(*descriptor) != 0) {
        status = errno != EINTR ? mixt_fail_errno(error, errno, "%s: cannot sync", path) : MIXT_OK;
    }
    if (close(*descriptor) != 0 && errno != EINTR && status == MIXT_OK) {
        status = mixt_fail_errno(error, errno, "%s: cannot close", path);
    }
    *descriptor = -1;
    return status;
}

mixt_status mixt_file_replace(const char *path, const void *data, size_t length, mixt_error *error)
{
    char *temporary;
    if (asprintf(&temporary, "%s.tmp", path) < 0) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    int descriptor = mixt_file_temporary(temporary, error);
    mixt_status status = MIXT_ERROR_IO;
    if (descriptor >= 0) {
        status = mixt_write_all(descriptor, data, length, temporary, error);
        status = mixt_file_settle(&descriptor, temporary, status, error);
        if (status == MIXT_OK && rename(temporary, path) != 0) {
            status = mixt_fail_errno(error, errno, "%s: cannot rename", temporary);
        }
        if (status != MIXT_OK) {
            unlink(temporary);
        } else {
            status = mixt_parent_sync(path, error);
        }
    }
    free(temporary);
    return status;
}

mixt_status mixt_file_replace_in(const char *folder, const char *name, const void *data,
                                 size_t length, mixt_error *error)
{
    char *path = mixt_path_join(folder, name);
    mixt_status status = path != NULL
                             ? mixt_file_replace(path, data, length, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    free(path);
    return status;
}

mixt_status mixt_file_remove_in(const char *folder, const char *name, mixt_error *error)
{
    char *path = mixt_path_join(folder, name);
    mixt_status status = MIXT_OK;
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        status =
            mixt_fail(error, MIXT_ERROR_IO, "%s: cannot be removed: %s", path, strerror(errno));
    }
    free(path);
    return status;
}

mixt_status mixt_folder_create(const char *path, mixt_error *error)
{
    char *copy = strdup(path);
    if (copy == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = MIXT_OK;
    for (char *c = copy + 1; status == MIXT_OK; c++) {
        if (*c != '/' && *c != '\0') {
            continue;
        }
        char end = *c;
        *c = '\0';
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && mixt_path_is_folder(copy))) {
            status = mixt_fail_errno(error, errno, "%s: cannot create folder", copy);
        }
        *c = end;
        if (end == '\0') {
            break;
        }
    }
    free(copy);
    return status;
}

/* 0, or the number of the first error. */
static int remove_tree(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) { /* POSIX says EPERM for a folder, Linux EISDIR */
        return errno;
    }
    int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0) {
        return errno;
    }
    DIR *folder = fdopendir(descriptor);
    if (folder == NULL) {
        int number = errno;
        close(descriptor);
        return number;
    }
    int result = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            int number = remove_tree(descriptor, entry->d_name);
            result = result != 0 ? result : number;
        }
    }
    closedir(folder);
    if (result == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0) {
        result = errno;
    }
    return result;
}

mixt_status mixt_folder_remove(const char *path, mixt_error *error)
{
    int number = remove_tree(AT_FDCWD, path);
    return number == 0 ? MIXT_OK : mixt_fail_errno(error, number, "%s: cannot remove", path);
}

int mixt_compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

mixt_status mixt_folder_list(const char *path, char ***names, size_t *count, mixt_error *error)
{
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOMEM || errno == EMFILE || errno == ENFILE
                   ? mixt_fail_errno(error, errno, "%s: cannot open folder", path)
                   : mixt_fail(error, MIXT_ERROR_NOT_FOUND, "%s: cannot open folder: %s", path,
                               strerror(errno));
    }
    size_t capacity = 0;
    mixt_status status = MIXT_OK;
    while (status == MIXT_OK) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            if (errno != 0) { /* a list with holes would look like files that are not there */
                status = mixt_fail_errno(error, errno, "%s: cannot list folder", path);
            }
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char *copy = strdup(entry->d_name);
        if (copy == NULL || !mixt_grow(names, &capacity, *count + 1, sizeof **names)) {
            free(copy);
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
            break;
        }
        (*names)[(*count)++] = copy;
    }
    closedir(folder);
    if (status != MIXT_OK) {
        mixt_names_free(*names, *count);
        *names = NULL;
        *count = 0;
        return status;
    }
    if (*count != 0) {
        qsort(*names, *count, sizeof **names, mixt_compare_names);
    }
    return MIXT_OK;
}

void mixt_names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
}

bool mixt_path_is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool mixt_path_exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool mixt_path_is_of(const char *path, int descriptor)
{
    struct stat open, named;
    return fstat(descriptor, &open) == 0 && lstat(path, &named) == 0 &&
           open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

bool mixt_path_resolve(const char *path, char **real)
{
    errno = 0;
    *real = realpath(path, NULL);
    return *real != NULL || errno != ENOMEM;
}

char *mixt_path_join(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    char *path = NULL;
    bool slash = length != 0 && folder[length - 1] == '/';
    return asprintf(&path, slash ? "%s%s" : "%s/%s", folder, name) < 0 ? NULL : path;
}

bool mixt_ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && memcmp(text + length - wanted, end, wanted) == 0;
}

bool mixt_name_is_plain(const char *name, size_t length)
{
    if (length == 0 || length > NAME_MAX || memchr(name, '/', length) != NULL ||
        memchr(name, '\0', length) != NULL) {
        return false;
    }
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}
