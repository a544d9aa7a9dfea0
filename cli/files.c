#include "files.h"

#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* strerror into `what`, and whose fault it is. */
static mixt_status failed(int number, char what[200])
{
    snprintf(what, 200, "%s", strerror(number));
    return number == ENOMEM                                        ? MIXT_ERROR_MEMORY
           : number == EIO || number == EMFILE || number == ENFILE ? MIXT_ERROR_IO
                                                                   : MIXT_ERROR_NOT_FOUND;
}

mixt_status files_open(const char *path, FILE **file, char what[200])
{
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat stat;
    *file = NULL;
    if (descriptor < 0) {
        return failed(errno, what);
    }
    mixt_status status = fstat(descriptor, &stat) != 0 ? failed(errno, what) : MIXT_OK;
    if (status == MIXT_OK && !S_ISREG(stat.st_mode)) {
        snprintf(what, 200, "%s",
                 S_ISDIR(stat.st_mode) ? "is a folder, not a file" : "not a regular file");
        status = MIXT_ERROR_ARGUMENT;
    }
    if (status == MIXT_OK && (*file = fdopen(descriptor, "rb")) == NULL) {
        status = failed(errno, what);
    }
    if (status != MIXT_OK) {
        close(descriptor);
    }
    return status;
}

/* Reads no more than one byte above the limit. */
static mixt_status read_stream(FILE *file, size_t limit, char **data, size_t *length,
                               char what[200])
{
    size_t capacity = 0, used = 0;
    char *text = NULL;
    mixt_status status = MIXT_OK;
    do {
        size_t wanted = used + 65536 < limit + 2 ? used + 65536 : limit + 2;
        if (!list_grow(&text, &capacity, wanted, 1)) {
            snprintf(what, 200, "out of memory");
            status = MIXT_ERROR_MEMORY;
            break;
        }
        errno = 0;
        used += fread(text + used, 1, wanted - 1 - used, file);
    } while (used <= limit && !feof(file) && !ferror(file));
    if (status == MIXT_OK && ferror(file)) {
        snprintf(what, 200, "%s", strerror(errno));
        status = MIXT_ERROR_IO;
    } else if (status == MIXT_OK && used > limit) {
        snprintf(what, 200, "more than %zu bytes", limit);
        status = MIXT_ERROR_ARGUMENT;
    }
    if (status != MIXT_OK) {
        free(text);
        return status;
    }
    text[used] = 0;
    *data = text;
    *length = used;
    return MIXT_OK;
}

mixt_status files_read(const char *path, size_t limit, char **data, size_t *length, char what[200])
{
    if (strcmp(path, "-") == 0) {
        return read_stream(stdin, limit, data, length, what);
    }
    FILE *file;
    mixt_status status = files_open(path, &file, what);
    if (status == MIXT_OK) {
        status = read_stream(file, limit, data, length, what);
        fclose(file);
    }
    return status;
}

bool files_is_folder(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* Whether a folder that `path` lies in, at any depth, is the one of these numbers. */
static bool lies_in(const char *path, const struct stat *folder)
{
    char *real = realpath(path, NULL);
    bool found = false;
    for (char *slash; real != NULL && !found && (slash = strrchr(real, '/')) != NULL;) {
        struct stat above;
        *slash = 0;
        found = stat(slash == real ? "/" : real, &above) == 0 && above.st_dev == folder->st_dev &&
                above.st_ino == folder->st_ino;
    }
    free(real);
    return found;
}

bool files_would_replace(const char *output, const char *input)
{
    struct stat out, in;
    char inner[4400];
    if (output == NULL || input == NULL || stat(output, &out) != 0 || stat(input, &in) != 0) {
        return false;
    }
    const char *slash = strrchr(output, '/');
    bool same = out.st_dev == in.st_dev && out.st_ino == in.st_ino;
    return same || (S_ISDIR(in.st_mode) &&
                    (lies_in(output, &in) ||
                     (files_join(inner, sizeof inner, input, slash == NULL ? output : slash + 1) &&
                      files_would_replace(output, inner))));
}

bool files_are_one(const char *a, const char *b)
{
    char folders[2][4200];
    const char *const paths[] = {a, b}, *names[2];
    for (int i = 0; i < 2; i++) {
        const char *slash = strrchr(paths[i], '/');
        names[i] = slash == NULL ? paths[i] : slash + 1;
        int length = slash == NULL ? 1 : (int)(slash - paths[i]) + 1; /* with the slash, "/" too */
        snprintf(folders[i], sizeof folders[i], "%.*s", length, slash == NULL ? "." : paths[i]);
    }
    struct stat in, other;
    return strcmp(names[0], names[1]) == 0 && stat(folders[0], &in) == 0 &&
           stat(folders[1], &other) == 0 && in.st_dev == other.st_dev && in.st_ino == other.st_ino;
}

bool files_is_link(const char *path)
{
    struct stat found;
    return lstat(path, &found) == 0 && S_ISLNK(found.st_mode);
}

bool files_exist(const char *path)
{
    struct stat found;
    return lstat(path, &found) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool files_make_folder(const char *path)
{
    char part[4096];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        errno = length == 0 ? ENOENT : ENAMETOOLONG;
        return false;
    }
    memcpy(part, path, length + 1);
    for (char *c = part + 1; *c != 0; c++) {
        if (*c == '/') {
            *c = 0;
            if (mkdir(part, 0777) != 0 && errno != EEXIST) {
                return false;
            }
            *c = '/';
        }
    }
    if (mkdir(part, 0777) != 0 && errno != EEXIST) {
        return false;
    }
    errno = ENOTDIR;
    return files_is_folder(path);
}

void files_remove(const char *path)
{
    struct stat found;
    if (lstat(path, &found) == 0 && S_ISDIR(found.st_mode)) {
        files_remove_inside(path, "");
    }
    remove(path);
}

void files_remove_inside(const char *path, const char *kept)
{
    DIR *stream = opendir(path);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        char inner[4400];
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, kept) != 0 &&
            files_join(inner, sizeof inner, path, entry->d_name)) {
            files_remove(inner);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
}

bool files_replace(const char *path, const char *data, size_t length)
{
    char part[4200];
    int used = snprintf(part, sizeof part, "%s.part", path);
    if (used < 0 || (size_t)used >= sizeof part) {
        errno = ENAMETOOLONG;
        return false;
    }
    unlink(part); /* it may be a link, which is not to be written through */
    FILE *file = fopen(part, "wbx");
    if (file == NULL) {
        return false;
    }
    bool good =
        fwrite(data, 1, length, file) == length && fflush(file) == 0 && fsync(fileno(file)) == 0;
    good = fclose(file) == 0 && good;
    good = good && rename(part, path) == 0;
    if (!good) {
        int number = errno;
        unlink(part);
        errno = number;
    }
    return good;
}

bool files_join(char *out, size_t size, const char *folder, const char *name)
{
    int used = snprintf(out, size, "%s/%s", folder, name);
    return used >= 0 && (size_t)used < size;
}
