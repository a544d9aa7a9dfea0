/* Simulated power cuts, after SQLite's crash tests. The shim's calls are written into a journal; at
 * the cut every change that no fsync has made durable is, by chance, kept, undone or trashed:
 *
 *   written data   kept, lost, cut short, or a sector of 512 bytes zeroed, until fsync of the file
 *   create, mkdir, rename, unlink, rmdir   kept or undone, in any combination, until fsync of the
 *                                          folder that holds the name
 *
 * Needs fault/shim.c before it. */
#ifndef MIXT_TESTS_FAULT_POWER_H
#define MIXT_TESTS_FAULT_POWER_H

#include <dirent.h>
#include <stdint.h>

#define POWER_CHANGES 4096

typedef struct power_change {
    fault_kind kind;
    bool durable;
    bool dropped;
    char *path; /* at the time of the change */
    char *to;   /* rename */
    char *kept; /* what unlink or rename took away, under another name; NULL where nothing was */
} power_change;

static struct {
    power_change changes[POWER_CHANGES];
    size_t count;
    char grave[PATH_MAX]; /* folder for what was unlinked, on the same file system */
    uint64_t random;
    bool quiet; /* the journal's own calls are not told */
} power;

static uint64_t power_random(uint64_t bound)
{
    power.random ^= power.random << 13; /* xorshift64 (Marsaglia 2003) */
    power.random ^= power.random >> 7;
    power.random ^= power.random << 17;
    return power.random % bound;
}

/* Replaces a leading `from` (a whole path or its folders) by `to`. */
static void power_move(char path[PATH_MAX], const char *from, const char *to)
{
    size_t length = strlen(from);
    if (strncmp(path, from, length) == 0 && (path[length] == '/' || path[length] == '\0')) {
        char rest[PATH_MAX];
        strcpy(rest, path + length);
        if (strlen(to) + strlen(rest) < PATH_MAX) {
            strcpy(stpcpy(path, to), rest);
        }
    }
}

/* Where the name of change i is now: later renames that were not undone carry it along. */
static void power_place(size_t i, const char *name, char path[PATH_MAX])
{
    strcpy(path, name);
    for (size_t j = i + 1; j < power.count; j++) {
        const power_change *change = &power.changes[j];
        if (change->kind == FAULT_RENAME && !change->dropped) {
            power_move(path, change->path, change->to);
        }
    }
}

static bool power_is_parent(const char *folder, const char *path)
{
    size_t length = strlen(folder);
    return strncmp(folder, path, length) == 0 && path[length] == '/' &&
           strchr(path + length + 1, '/') == NULL;
}

static void power_synced(const char *path)
{
    for (size_t i = 0; i < power.count; i++) {
        power_change *change = &power.changes[i];
        char now[PATH_MAX];
        power_place(i, change->kind == FAULT_RENAME ? change->to : change->path, now);
        if (change->kind == FAULT_WRITE ? strcmp(now, path) == 0 : power_is_parent(path, now)) {
            change->durable = true;
        }
    }
}

/* Keeps a second name for what is about to lose its own. */
static char *power_bury(const char *path)
{
    char name[PATH_MAX + 32];
    snprintf(name, sizeof name, "%s/%zu", power.grave, power.count);
    return link(path, name) == 0 ? strdup(name) : NULL;
}

static void power_before(fault_kind kind, const char *path, const char *to)
{
    if (power.count == POWER_CHANGES) {
        abort();
    }
    power_change *change = &power.changes[power.count];
    *change = (power_change){.kind = kind, .path = strdup(path), .to = to ? strdup(to) : NULL};
    if (kind == FAULT_UNLINK || kind == FAULT_RENAME) {
        change->kept = power_bury(kind == FAULT_RENAME ? to : path);
    }
    power.count++;
}

static void power_forget_last(void)
{
    power_change *change = &power.changes[--power.count];
    free(change->path);
    free(change->to);
    free(change->kept);
}

static void power_after(bool done)
{
    power_change *change = &power.changes[power.count - 1];
    if (change->kind == FAULT_SYNC) {
        char path[PATH_MAX];
        strcpy(path, change->path);
        power_forget_last();
        if (done) {
            power_synced(path);
        }
    } else if (!done) {
        power_forget_last();
    }
}

static void power_begin(const char *grave, uint64_t seed)
{
    while (power.count != 0) {
        power_forget_last();
    }
    snprintf(power.grave, sizeof power.grave, "%s", grave);
    power.random = seed * 2654435761u + 88172645463325252u;
    power_random(2);
    mixt_fault.before = power_before;
    mixt_fault.after = power_after;
}

static void power_trash(const char *path)
{
    struct stat size;
    if (stat(path, &size) != 0 || !S_ISREG(size.st_mode)) {
        return;
    }
    uint64_t length = (uint64_t)size.st_size;
    switch (power_random(4)) {
    case 0:
        break;
    case 1:
        (void)!truncate(path, 0);
        break;
    case 2:
        (void)!truncate(path, (off_t)power_random(length + 1));
        break;
    default: {
        static const char zeros[512];
        int descriptor = open(path, O_WRONLY);
        if (descriptor >= 0 && length != 0) {
            off_t sector = (off_t)(power_random(length) / 512 * 512);
            size_t bytes =
                length - (uint64_t)sector < 512 ? (size_t)(length - (uint64_t)sector) : 512;
            (void)!pwrite(descriptor, zeros, bytes, sector);
        }
        close(descriptor);
    }
    }
}

/* Removes a folder that never was, with what lies in it (one level is all that there is). */
static void power_remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char name[PATH_MAX + 260];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        unlink(name);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(path);
}

static void power_undo(size_t i)
{
    power_change *change = &power.changes[i];
    char path[PATH_MAX];
    char to[PATH_MAX];
    power_place(i, change->path, path);
    change->dropped = true;
    switch (change->kind) {
    case FAULT_CREATE:
        unlink(path);
        break;
    case FAULT_MKDIR:
        power_remove_folder(path);
        break;
    case FAULT_RENAME:
        power_place(i, change->to, to);
        if (rename(to, path) == 0 && change->kept != NULL) {
            (void)!link(change->kept, to);
        }
        break;
    case FAULT_UNLINK:
        if (change->kept != NULL) {
            (void)!link(change->kept, path);
        }
        break;
    case FAULT_RMDIR:
        mkdir(path, 0777);
        break;
    case FAULT_WRITE:
    case FAULT_SYNC:
        break;
    }
}

/* Cuts the power: what is not durable is decided by chance, the latest change first. Returns how
 * many changes were undone or trashed. */
static int power_cut(void)
{
    int lost = 0;
    mixt_fault.before = NULL;
    mixt_fault.after = NULL;
    mixt_fault.folder = NULL;
    for (size_t i = power.count; i-- > 0;) {
        if (power.changes[i].durable) {
            continue;
        }
        if (power.changes[i].kind == FAULT_WRITE) {
            char path[PATH_MAX];
            power_place(i, power.changes[i].path, path);
            power_trash(path);
            lost++;
        } else if (power_random(2) == 0) {
            power_undo(i);
            lost++;
        }
    }
    while (power.count != 0) {
        power_forget_last();
    }
    return lost;
}

#endif
