#include "core/memory_limit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/platform.h"

#define PATH_BYTES 4096

typedef struct least {
    uint64_t bytes;
    const char *limit;
} least;

static void consider(least *l, uint64_t bytes, const char *limit)
{
    if (bytes < l->bytes) {
        *l = (least){bytes, limit};
    }
}

static uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* ---- files of the kernel's */

static FILE *open_below(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length < 0 || (size_t)length >= sizeof path ? NULL : fopen(path, "re");
}

/* Digits alone; false: another text, such as "max". */
static bool read_number(const char *text, uint64_t *number)
{
    char *end;
    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && (*end == '\0' || *end == '\n' || *end == ' ');
}

static bool read_number_file(const char *folder, const char *name, uint64_t *number)
{
    char line[64];
    FILE *stream = open_below(folder, name);
    bool found =
        stream != NULL && fgets(line, sizeof line, stream) != NULL && read_number(line, number);
    if (stream != NULL) {
        fclose(stream);
    }
    return found;
}

/* Number behind `key` in lines of a key and a number; 0 where there is none. */
static uint64_t read_key(const char *folder, const char *name, const char *key)
{
    char line[256];
    size_t length = strlen(key);
    uint64_t number = 0;
    bool found = false;
    FILE *stream = open_below(folder, name);
    while (stream != NULL && !found && fgets(line, sizeof line, stream) != NULL) {
        const char *value = line + length;
        found = strncmp(line, key, length) == 0 && *value == ' ' &&
                read_number(value + strspn(value, " "), &number);
    }
    if (stream != NULL) {
        fclose(stream);
    }
    return found ? number : 0;
}

/* ---- control groups */

/* The memory hierarchy of one version: the group's path, and where it is mounted. */
typedef struct hierarchy {
    char group[PATH_BYTES];
    char folder[PATH_BYTES]; /* of the group; "": none */
    size_t top;              /* length of the mount point in it */
} hierarchy;

static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Lines of /proc/self/cgroup: number:controllers:path; version 2 has number 0 and no controllers.
 */
static void read_groups(FILE *stream, hierarchy *first, hierarchy *second)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stream) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (path == NULL || path[1] != '/' || strlen(path + 1) >= PATH_BYTES) {
            continue;
        }
        *controllers++ = '\0';
        *path++ = '\0';
        if (strcmp(line, "0") == 0 && *controllers == '\0') {
            strcpy(second->group, path);
        } else if (has_word(controllers, "memory")) {
            strcpy(first->group, path);
        }
    }
    free(line);
}

/* The kernel writes space, tab, line end and backslash as three octal digits. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* What is left of a group's path below what is mounted; "" where it is not below that, as in a
 * container that sees its own group at the mount point. */
static const char *below(const char *group, const char *mounted)
{
    size_t length = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
    const char *rest = group + length;
    bool inside = strncmp(group, mounted, length) == 0 && (*rest == '/' || *rest == '\0');
    return !inside || strcmp(rest, "/") == 0 || strstr(rest, "/..") != NULL ? "" : rest;
}

static bool exists(const char *path)
{
    return access(path, X_OK) == 0;
}

static void take_mount(hierarchy *h, const char *root, const char *mounted, const char *point)
{
    const char *rest = below(h->group, mounted);
    bool better = h->folder[0] == '\0' || *rest != '\0';
    if (h->group[0] == '\0' || !better ||
        strlen(root) + strlen(point) + strlen(rest) >= PATH_BYTES) {
        return;
    }
    size_t top = strlen(root) + strlen(point);
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s%s%s", root, point, rest);
    if (!exists(folder)) {
        folder[top] = '\0';
    }
    strcpy(h->folder, folder);
    h->top = top;
}

/* Lines of /proc/self/mountinfo: number, number, device, what of the file system is mounted, where,
 * options, any number of fields, "-", type, source, options of the file system. */
static void read_mounts(FILE *stream, const char *root, hierarchy *first, hierarchy *second)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stream) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = strstr(line, " - "), *next = NULL, *fields[5] = {NULL};
        if (rest == NULL) {
            continue;
        }
        *rest = '\0';
        char *word = strtok_r(line, " ", &next);
        for (int i = 0; i < 5 && word != NULL; i++) {
            fields[i] = word;
            word = strtok_r(NULL, " ", &next);
        }
        const char *type = strtok_r(rest + 3, " ", &next);
        const char *source = strtok_r(NULL, " ", &next), *options = strtok_r(NULL, " ", &next);
        if (fields[4] == NULL || type == NULL || source == NULL || options == NULL) {
            continue;
        }
        unescape(fields[3]);
        unescape(fields[4]);
        if (strcmp(type, "cgroup2") == 0) {
            take_mount(second, root, fields[3], fields[4]);
        } else if (strcmp(type, "cgroup") == 0 && has_word(options, "memory")) {
            take_mount(first, root, fields[3], fields[4]);
        }
    }
    free(line);
}

/* Names of a version's files and of its keys in memory.stat (Documentation/admin-guide/
 * cgroup-v1/memory.rst and cgroup-v2.rst of Linux). */
typedef struct group_names {
    const char *used;
    const char *cache[2],
        *busy[2];         /* pages of files; those of them that have to be written first */
    const char *limit[2]; /* files; NULL: no second one */
    const char *whose[2];
    const char *limit_key, *whose_key; /* or a key, NULL: none */
} group_names;

static const group_names first_names = {
    .used = "memory.usage_in_bytes",
    .cache = {"total_inactive_file", "total_active_file"},
    .busy = {"total_dirty", "total_writeback"},
    .limit = {"memory.limit_in_bytes", NULL},
    .whose = {"memory.limit_in_bytes of the control group", NULL},
    .limit_key = "hierarchical_memory_limit",
    .whose_key = "hierarchical_memory_limit of the control group",
};
static const group_names second_names = {
    .used = "memory.current",
    .cache = {"inactive_file", "active_file"},
    .busy = {"file_dirty", "file_writeback"},
    .limit = {"memory.max", "memory.high"},
    .whose = {"memory.max of the control group", "memory.high of the control group"},
};

static void consider_group(least *l, const char *folder, const group_names *names)
{
    static const char stat[] = "memory.stat";
    uint64_t limit, used = 0;
    read_number_file(folder, names->used, &used);
    uint64_t cache =
        read_key(folder, stat, names->cache[0]) + read_key(folder, stat, names->cache[1]);
    uint64_t busy = read_key(folder, stat, names->busy[0]) + read_key(folder, stat, names->busy[1]);
    used = difference(used, difference(cache, busy));
    for (int i = 0; i < 2 && names->limit[i] != NULL; i++) {
        if (read_number_file(folder, names->limit[i], &limit)) {
            consider(l, difference(limit, used), names->whose[i]);
        }
    }
    limit = names->limit_key != NULL ? read_key(folder, stat, names->limit_key) : 0;
    if (limit != 0) {
        consider(l, difference(limit, used), names->whose_key);
    }
}

/* The group and those that it is in. */
static void consider_all(least *l, hierarchy *h, const group_names *names)
{
    while (h->folder[0] != '\0') {
        consider_group(l, h->folder, names);
        char *slash = strlen(h->folder) > h->top ? strrchr(h->folder, '/') : NULL;
        if (slash == NULL || (size_t)(slash - h->folder) < h->top) {
            return;
        }
        *slash = '\0';
    }
}

static void consider_groups(least *l, const char *root)
{
    hierarchy *both = calloc(2, sizeof *both);
    FILE *groups = open_below(root, "proc/self/cgroup");
    FILE *mounts = open_below(root, "proc/self/mountinfo");
    if (both != NULL && groups != NULL && mounts != NULL) {
        read_groups(groups, &both[0], &both[1]);
        read_mounts(mounts, root, &both[0], &both[1]);
        consider_all(l, &both[0], &first_names);
        consider_all(l, &both[1], &second_names);
    }
    if (groups != NULL) {
        fclose(groups);
    }
    if (mounts != NULL) {
        fclose(mounts);
    }
    free(both);
}

/* ---- all of it */

static least available_by(const char *root)
{
    least l = {UINT64_MAX, "no limit is known"};
    consider(&l, mixt_memory_installed(), "the machine");
    if (root != NULL) {
        uint64_t kilobytes = read_key(root, "proc/meminfo", "MemAvailable:");
        if (kilobytes != 0 && kilobytes <= UINT64_MAX >> 10) {
            consider(&l, kilobytes << 10, "the machine");
        }
        consider_groups(&l, root);
    }
    return l;
}

uint64_t mixt_memory_available_by(const char *root, const char **limit)
{
    least l = available_by(root);
    if (limit != NULL) {
        *limit = l.limit;
    }
    return l.bytes;
}

uint64_t mixt_memory_available(const char **limit)
{
    return mixt_memory_available_by(mixt_system_files(), limit);
}

/* Pages of address space, and of data and stacks: the first and the sixth number of statm. */
static void read_own(uint64_t *space, uint64_t *data)
{
    unsigned long long numbers[6] = {0};
    const char *root = mixt_system_files();
    FILE *stream = root == NULL ? NULL : open_below(root, "proc/self/statm");
    int found = stream == NULL
                    ? 0
                    : fscanf(stream, "%llu %llu %llu %llu %llu %llu", &numbers[0], &numbers[1],
                             &numbers[2], &numbers[3], &numbers[4], &numbers[5]);
    if (stream != NULL) {
        fclose(stream);
    }
    long page = sysconf(_SC_PAGESIZE);
    *space = found == 6 ? numbers[0] * (uint64_t)page : 0;
    *data = found == 6 ? numbers[5] * (uint64_t)page : 0;
}

uint64_t mixt_memory_limit(const char **limit)
{
    struct rlimit now;
    uint64_t space, data;
    least l = available_by(mixt_system_files());
    read_own(&space, &data);
    if (getrlimit(RLIMIT_AS, &now) == 0 && now.rlim_cur != RLIM_INFINITY) {
        consider(&l, difference(now.rlim_cur, space), "ulimit -v");
    }
    if (getrlimit(RLIMIT_DATA, &now) == 0 && now.rlim_cur != RLIM_INFINITY) {
        consider(&l, difference(now.rlim_cur, data), "ulimit -d");
    }
    if (limit != NULL) {
        *limit = l.limit;
    }
    return l.bytes;
}
