#include "gather.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "files.h"
#include "terminal.h"

enum {
    FILE_BYTES_MAX = 400000, /* larger files are tables more often than text */
    TEXT_BYTES_MIN = 200,    /* of a document */
    EXCERPT_BYTES = 6000,    /* longer files give a part: many documents tell more than long ones */
    PARAGRAPH_BYTES_MIN = 80, /* shorter ones may repeat */
    FOLDER_DEPTH_MAX = 12,
    MATHEMATICS_SEED = 1,
};

const gather_domain gather_domains[] = {
    {"c", "C headers", "#include <stdio.h>\n\n/* "},
    {"perl", "Perl modules", "package "},
    {"python", "Python's library", "def "},
    {"legal", "licences and copyright", "Permission is hereby granted"},
    {"man", "manual pages", ".SH NAME\n"},
    {"changelog", "changelogs", "mixt (0.1.0-1) unstable; urgency=medium\n\n  * "},
    {"pod", "Perl documentation", "=head1 NAME\n\n"},
    {"cpp", "C++ headers", "  template<typename _Tp>\n"},
    {"shell", "shell scripts", "#!/bin/sh\nset -e\n\nif "},
    {"mathematics", "generated questions", "What is 2 times 3?\n6\nWhat is 5 times 7?\n"},
    {0},
};

typedef enum text_form {
    FORM_PLAIN,
    FORM_PROSE, /* paragraphs seen before are dropped: licence texts repeat */
    FORM_CODE_OF_PERL,
    FORM_POD_OF_PERL,
    FORM_SHELL, /* must begin with #! and a shell */
    FORM_C,     /* without what only C++ has */
} text_form;

/* Where a domain lies. */
typedef struct gather_rule {
    const char *domain;
    const char *folders; /* glob patterns separated by spaces */
    const char *names;   /* patterns for the file name, separated by spaces */
    const char *without; /* patterns for the whole path that are left out */
    text_form form;
} gather_rule;

#define PERL_FOLDERS "/usr/share/perl /usr/share/perl5 /usr/lib/*/perl /usr/lib/*/perl5"

static const gather_rule rules[] = {
    {"c", "/usr/include /usr/lib/gcc/*/*/include", "*.h", "*/c++/*", FORM_C},
    {"perl", PERL_FOLDERS, "*.pm *.pl", "*/unicore/* */Unicode/*", FORM_CODE_OF_PERL},
    {"python", "/usr/lib/python3*", "*.py", "*/test/* */tests/* */encodings/*", FORM_PLAIN},
    {"legal", "/usr/share/common-licenses /usr/share/doc",
     "copyright Apache* Artistic BSD CC0* "
     "GFDL* GPL* LGPL* MPL*",
     NULL, FORM_PROSE},
    {"man", "/usr/share/man/man[1-8]", "*.[1-8]* *.[1-8]*.gz", NULL, FORM_PROSE},
    {"changelog", "/usr/share/doc", "changelog.gz changelog.Debian.gz changelog", NULL, FORM_PROSE},
    {"pod", PERL_FOLDERS, "*.pm *.pod", "*/unicore/*", FORM_POD_OF_PERL},
    {"cpp", "/usr/include/c++", "*", NULL, FORM_PLAIN},
    {"shell", "/usr/bin /usr/sbin /usr/lib/dpkg /usr/lib/init", "*", NULL, FORM_SHELL},
    {"shell", "/usr/share /usr/lib", "*.sh", NULL, FORM_SHELL},
    {"shell", "/usr/share/bash-completion", "*", NULL, FORM_PLAIN},
};

/* ---- finding files */

typedef struct found_file {
    char *path;
    uint64_t order; /* hash of the path: a choice over the whole tree, not of its first names */
    text_form form;
} found_file;

typedef struct found_files {
    found_file *items;
    size_t count, capacity;
} found_files;

/* FNV-1a, 64 bits. */
static uint64_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    }
    return hash ^ (hash >> 29);
}

static bool matches(const char *patterns, const char *text, int flags)
{
    while (patterns != NULL && *patterns != 0) {
        char pattern[100];
        size_t size = strcspn(patterns, " ");
        snprintf(pattern, sizeof pattern, "%.*s", (int)size, patterns);
        if (fnmatch(pattern, text, flags) == 0) {
            return true;
        }
        patterns += size + strspn(patterns + size, " ");
    }
    return false;
}

static bool add_file(found_files *found, const char *path, text_form form)
{
    char *copy = strdup(path);
    if (copy == NULL ||
        !list_grow(&found->items, &found->capacity, found->count + 1, sizeof *found->items)) {
        free(copy);
        return false;
    }
    found->items[found->count++] = (found_file){copy, hash_bytes(path, strlen(path)), form};
    return true;
}

static bool walk(found_files *found, const gather_rule *rule, const char *folder, int depth)
{
    DIR *stream = opendir(folder);
    if (stream == NULL || depth > FOLDER_DEPTH_MAX) {
        if (stream != NULL) {
            closedir(stream);
        }
        return true; /* nothing to see there */
    }
    bool good = true;
    struct dirent *entry;
    while (good && (entry = readdir(stream)) != NULL) {
        char path[4096];
        struct stat stat;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            !files_join(path, sizeof path, folder, entry->d_name) || lstat(path, &stat) != 0) {
            continue;
        }
        if (S_ISDIR(stat.st_mode)) {
            good = walk(found, rule, path, depth + 1);
        } else if (S_ISREG(stat.st_mode) && stat.st_size >= TEXT_BYTES_MIN / 4 &&
                   stat.st_size <= FILE_BYTES_MAX && matches(rule->names, entry->d_name, 0) &&
                   !matches(rule->without, path, 0)) {
            good = add_file(found, path, rule->form);
        }
    }
    closedir(stream);
    return good;
}

static bool walk_patterns(found_files *found, const gather_rule *rule)
{
    bool good = true;
    const char *patterns = rule->folders;
    while (good && *patterns != 0) {
        char pattern[100];
        glob_t list;
        size_t size = strcspn(patterns, " ");
        snprintf(pattern, sizeof pattern, "%.*s", (int)size, patterns);
        if (glob(pattern, 0, NULL, &list) == 0) {
            for (size_t i = 0; good && i < list.gl_pathc; i++) {
                struct stat stat;
                if (lstat(list.gl_pathv[i], &stat) == 0 && S_ISDIR(stat.st_mode)) {
                    good = walk(found, rule, list.gl_pathv[i], 0);
                }
            }
            globfree(&list);
        }
        patterns += size + strspn(patterns + size, " ");
    }
    return good;
}

static int by_order(const void *a, const void *b)
{
    const found_file *left = a;
    const found_file *right = b;
    if (left->order != right->order) {
        return left->order < right->order ? -1 : 1;
    }
    return strcmp(left->path, right->path);
}

static void free_files(found_files *found)
{
    for (size_t i = 0; i < found->count; i++) {
        free(found->items[i].path);
    }
    free(found->items);
    *found = (found_files){0};
}

/* ---- reading files */

/* What gzip -dc says about a file; gzip is on every Debian machine. */
static bool read_gzip(const char *path, char **text, size_t *length)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
        close(ends[0]);
        execlp("gzip", "gzip", "-dc", "--", path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    size_t used = 0;
    while (child > 0 && bytes != NULL && used < FILE_BYTES_MAX) {
        ssize_t got = read(ends[0], bytes + used, FILE_BYTES_MAX - used);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            break;
        }
        used += got > 0 ? (size_t)got : 0;
    }
    close(ends[0]); /* gzip ends when it has more to say than is wanted */
    int status = 0;
    bool ended = child > 0 && waitpid(child, &status, 0) == child &&
                 (used == FILE_BYTES_MAX || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    if (!ended || used == 0) { /* a damaged file is no text */
        free(bytes);
        return false;
    }
    while (used == FILE_BYTES_MAX && bytes[used - 1] != '\n' && used > 1) {
        used--; /* cut off: end with a whole line */
    }
    bytes[used] = 0;
    *text = bytes;
    *length = used;
    return true;
}

/* Valid UTF-8 as it is, Latin-1 converted; anything with control characters is no text. */
static bool make_utf8(char **text, size_t *length)
{
    size_t high = 0;
    for (size_t i = 0; i < *length; i++) {
        unsigned char c = (unsigned char)(*text)[i];
        high += c >= 0x80;
        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r' && c != '\f') || c == 0x7F) {
            return false;
        }
    }
    if (high == 0 || text_is_utf8(*text, *length)) {
        return true;
    }
    char *wide = malloc(*length + high + 1);
    size_t used = 0;
    for (size_t i = 0; wide != NULL && i < *length; i++) {
        unsigned char c = (unsigned char)(*text)[i];
        if (c >= 0x80 && c < 0xA0) { /* no letters in Latin-1: some other encoding */
            free(wide);
            return false;
        }
        if (c >= 0x80) {
            wide[used++] = (char)(0xC0 | c >> 6);
            c = 0x80 | (c & 0x3F);
        }
        wide[used++] = (char)c;
    }
    if (wide == NULL) {
        return false;
    }
    wide[used] = 0;
    free(*text);
    *text = wide;
    *length = used;
    return true;
}

/* Takes embedded documentation (perlpod) out of Perl: in place, returns the length that is left;
 * with `keep_pod` the other way round. */
static size_t split_perl(char *text, size_t length, bool keep_pod)
{
    size_t used = 0;
    bool in_pod = false;
    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && text[end] != '\n') {
            end++;
        }
        end += end < length;
        bool is_cut = end - at >= 4 && memcmp(text + at, "=cut", 4) == 0;
        bool is_end = end - at >= 7 && memcmp(text + at, "__END__", 7) == 0;
        if (!in_pod && !is_cut && text[at] == '=' && end - at > 1 &&
            isalpha((unsigned char)text[at + 1])) {
            in_pod = true;
        }
        if (in_pod == keep_pod && !is_cut && !is_end) {
            memmove(text + used, text + at, end - at);
            used += end - at;
        }
        in_pod = in_pod && !is_cut;
        at = end;
    }
    text[used] = 0;
    return used;
}

static bool is_shell(const char *text, size_t length)
{
    size_t line = strcspn(text, "\n");
    if (length < 10 || memcmp(text, "#!", 2) != 0 || line > 60) {
        return false;
    }
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)line, text);
    return strstr(first, "/sh") != NULL || strstr(first, "bash") != NULL ||
           strstr(first, "dash") != NULL;
}

static bool is_cpp(const char *text)
{
    return strstr(text, "namespace ") != NULL || strstr(text, "template<") != NULL ||
           strstr(text, "template <") != NULL || strstr(text, "\nclass ") != NULL;
}

/* ---- repeated text */

typedef struct seen_hashes {
    uint64_t *slots; /* 0: free */
    size_t capacity, count;
} seen_hashes;

/* Was it there before? Adds it. Without memory nothing was. */
static bool seen_before(seen_hashes *seen, uint64_t hash)
{
    hash += hash == 0;
    if (2 * seen->count >= seen->capacity) {
        seen_hashes grown = {.capacity = seen->capacity ? 2 * seen->capacity : 4096};
        grown.slots = calloc(grown.capacity, sizeof *grown.slots);
        if (grown.slots == NULL) {
            return false;
        }
        for (size_t i = 0; i < seen->capacity; i++) {
            if (seen->slots[i] != 0) {
                seen_before(&grown, seen->slots[i]);
            }
        }
        free(seen->slots);
        *seen = grown;
    }
    size_t at = hash % seen->capacity;
    while (seen->slots[at] != 0 && seen->slots[at] != hash) {
        at = (at + 1) % seen->capacity;
    }
    if (seen->slots[at] == hash) {
        return true;
    }
    seen->slots[at] = hash;
    seen->count++;
    return false;
}

/* Hash of letters and digits alone, so that line breaks and comment marks do not count. */
static uint64_t hash_words(const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) {
        if (isalnum((unsigned char)text[i])) {
            hash = (hash ^ (unsigned char)tolower((unsigned char)text[i])) * 0x100000001b3u;
        }
    }
    return hash ^ (hash >> 29);
}

/* Drops paragraphs that were there before, in place. A line with nothing but blanks or a dot (as in
 * Debian's copyright files) ends a paragraph. */
static size_t drop_repeated(char *text, size_t length, seen_hashes *seen)
{
    size_t used = 0;
    size_t start = 0;
    for (size_t at = 0; at <= length;) {
        size_t end = at;
        while (end < length && text[end] != '\n') {
            end++;
        }
        size_t blank = at;
        while (blank < end && strchr(" \t.\r", text[blank]) != NULL) {
            blank++;
        }
        end += end < length;
        if (blank >= end || text[blank] == '\n' || end >= length) {
            size_t size = end - start;
            if (size < PARAGRAPH_BYTES_MIN || !seen_before(seen, hash_words(text + start, size))) {
                memmove(text + used, text + start, size);
                used += size;
            }
            start = end;
        }
        if (end >= length) {
            break;
        }
        at = end;
    }
    text[used] = 0;
    return used;
}

/* ---- writing domains */

typedef struct domain_writer {
    FILE *stream;
    const char *domain;
    gather_count count;
    seen_hashes documents, paragraphs;
} domain_writer;

static void write_document(domain_writer *writer, const char *text, size_t length,
                           const char *source)
{
    fputs("{\"text\": ", writer->stream);
    print_json_text(writer->stream, text);
    fputs(", \"domain\": ", writer->stream);
    print_json_text(writer->stream, writer->domain);
    if (source != NULL && text_is_utf8(source, strlen(source))) {
        fputs(", \"source\": ", writer->stream);
        print_json_text(writer->stream, source);
    }
    fputs("}\n", writer->stream);
    writer->count.documents++;
    writer->count.bytes += length;
}

/* Cuts whole lines of at most EXCERPT_BYTES out of a longer text, at a place that `order` names. */
static char *take_excerpt(char *text, size_t *length, uint64_t order)
{
    if (*length <= EXCERPT_BYTES) {
        return text;
    }
    size_t start = (size_t)(order % (*length - EXCERPT_BYTES + 1));
    while (start > 0 && text[start - 1] != '\n') {
        start--;
    }
    size_t size = *length - start < EXCERPT_BYTES ? *length - start : EXCERPT_BYTES;
    while (size > TEXT_BYTES_MIN && text[start + size - 1] != '\n') {
        size--;
    }
    if (text[start + size - 1] != '\n') { /* one long line: no excerpt */
        size = 0;
    }
    text[start + size] = 0;
    *length = size;
    return text + start;
}

static void take_file(domain_writer *writer, const found_file *file)
{
    char *text = NULL;
    char what[200];
    size_t length = 0;
    size_t name = strlen(file->path);
    bool packed = name > 3 && strcmp(file->path + name - 3, ".gz") == 0;
    if (packed ? !read_gzip(file->path, &text, &length)
               : files_read(file->path, FILE_BYTES_MAX, &text, &length, what) != MIXT_OK) {
        return;
    }
    bool good = (file->form != FORM_SHELL || is_shell(text, length)) &&
                (file->form != FORM_C || !is_cpp(text)) && make_utf8(&text, &length);
    if (good && (file->form == FORM_CODE_OF_PERL || file->form == FORM_POD_OF_PERL)) {
        length = split_perl(text, length, file->form == FORM_POD_OF_PERL);
    }
    if (good && (file->form == FORM_PROSE || file->form == FORM_POD_OF_PERL)) {
        length = drop_repeated(text, length, &writer->paragraphs);
    }
    char *excerpt = good ? take_excerpt(text, &length, file->order) : text;
    if (good && length >= TEXT_BYTES_MIN &&
        !seen_before(&writer->documents, hash_words(excerpt, length))) {
        write_document(writer, excerpt, length, file->path);
    }
    free(text);
}

static mixt_status take_mathematics(void *user, const char *text, size_t length, mixt_error *error)
{
    char *copy = malloc(length + 1);
    if (copy == NULL) {
        return set_memory_error(error);
    }
    memcpy(copy, text, length);
    copy[length] = 0;
    write_document(user, copy, length, NULL);
    free(copy);
    return MIXT_OK;
}

static bool collect(domain_writer *writer, uint64_t bytes)
{
    found_files found = {0};
    bool good = true;
    for (size_t i = 0; good && i < sizeof rules / sizeof rules[0]; i++) {
        if (strcmp(rules[i].domain, writer->domain) == 0) {
            good = walk_patterns(&found, &rules[i]);
        }
    }
    if (found.count > 0) {
        qsort(found.items, found.count, sizeof *found.items, by_order);
    }
    for (size_t i = 0; good && i < found.count && writer->count.bytes < bytes; i++) {
        take_file(writer, &found.items[i]);
    }
    free_files(&found);
    return good;
}

static bool gather_one(const char *path, const gather_domain *domain, uint64_t bytes,
                       gather_count *count)
{
    mixt_error error = MIXT_ERROR_INIT;
    domain_writer writer = {.domain = domain->name, .stream = fopen(path, "wbx")};
    if (writer.stream == NULL) {
        return false;
    }
    bool is_generated = domain[1].name == NULL;
    bool good = is_generated ? mixt_mathematics_generate(MATHEMATICS_SEED, bytes, take_mathematics,
                                                         &writer, &error) == MIXT_OK
                             : collect(&writer, bytes);
    free(writer.documents.slots);
    free(writer.paragraphs.slots);
    good = good && fflush(writer.stream) == 0 && !ferror(writer.stream) &&
           fsync(fileno(writer.stream)) == 0;
    good = fclose(writer.stream) == 0 && good;
    *count = writer.count;
    return good;
}

bool gather_text(const char *folder, uint64_t bytes, uint64_t least, gather_count *counts,
                 char what[300])
{
    progress_line progress;
    progress_begin(&progress, "text");
    for (size_t i = 0; gather_domains[i].name != NULL; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s.jsonl", folder, gather_domains[i].name);
        progress_draw(&progress, 0.1 * (double)i, gather_domains[i].what);
        errno = 0;
        if (!gather_one(path, &gather_domains[i], bytes, &counts[i])) {
            progress_end(&progress);
            snprintf(what, 300, "%.200s: %s", path, errno != 0 ? strerror(errno) : "not written");
            return false;
        }
        if (counts[i].bytes < least) {
            counts[i] = (gather_count){0};
            unlink(path);
        }
    }
    progress_end(&progress);
    return true;
}
