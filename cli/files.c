#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

FILE *files_open(const char *path, char what[200])
{
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat stat;
    if (descriptor < 0 || fstat(descriptor, &stat) != 0) {
        snprintf(what, 200, "%s", strerror(errno));
        if (descriptor >= 0) {
            close(descriptor);
        }
        return NULL;
    }
    if (!S_ISREG(stat.st_mode)) {
        snprintf(what, 200, "%s",
                 S_ISDIR(stat.st_mode) ? "is a folder, not a file" : "not a regular file");
        close(descriptor);
        return NULL;
    }
    FILE *file = fdopen(descriptor, "rb");
    if (file == NULL) {
        snprintf(what, 200, "%s", strerror(errno));
        close(descriptor);
    }
    return file;
}

static bool read_stream(FILE *file, size_t limit, char **data, size_t *length, char what[200])
{
    size_t capacity = 65536;
    size_t used = 0;
    char *text = malloc(capacity + 1);
    while (text != NULL) {
        used += fread(text + used, 1, capacity - used, file);
        if (used < capacity || used > limit) {
            break;
        }
        capacity *= 2;
        char *grown = realloc(text, capacity + 1);
        if (grown == NULL) {
            free(text);
        }
        text = grown;
    }
    if (text == NULL || ferror(file) || used > limit) {
        if (text != NULL && used > limit) {
            snprintf(what, 200, "more than %zu bytes", limit);
        } else {
            snprintf(what, 200, "%s", text == NULL ? "out of memory" : strerror(errno));
        }
        free(text);
        return false;
    }
    text[used] = 0;
    *data = text;
    *length = used;
    return true;
}

bool files_read(const char *path, size_t limit, char **data, size_t *length, char what[200])
{
    if (strcmp(path, "-") == 0) {
        return read_stream(stdin, limit, data, length, what);
    }
    FILE *file = files_open(path, what);
    bool good = file != NULL && read_stream(file, limit, data, length, what);
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

bool files_is_folder(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

bool files_would_replace(const char *output, const char *input)
{
    struct stat out, in;
    char inner[4400];
    const char *slash = strrchr(output, '/');
    if (input == NULL || stat(output, &out) != 0 || stat(input, &in) != 0) {
        return false;
    }
    bool same = out.st_dev == in.st_dev && out.st_ino == in.st_ino;
    return same || (S_ISDIR(in.st_mode) &&
                    files_join(inner, sizeof inner, input, slash == NULL ? output : slash + 1) &&
                    files_would_replace(output, inner));
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
    bool folder = lstat(path, &found) == 0 && S_ISDIR(found.st_mode);
    DIR *stream = folder ? opendir(path) : NULL;
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        char inner[4400];
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            files_join(inner, sizeof inner, path, entry->d_name)) {
            files_remove(inner);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
    remove(path);
}

bool files_replace(const char *path, const char *data, size_t length)
{
    char part[4200];
    int used = snprintf(part, sizeof part, "%s.part", path);
    if (used < 0 || (size_t)used >= sizeof part) {
        errno = ENAMETOOLONG;
        return false;
    }
    FILE *file = fopen(part, "wb");
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
