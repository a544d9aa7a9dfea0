/* Documents with their domain, one after the other, from the files that corpus_files.c found. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "core/memory.h"
#include "core/number.h"
#include "corpus/corpus_files.h"
#include "corpus/document.h"
#include "corpus/lines.h"
#include "core/utf8.h"

#define TEXT_LIMIT ((size_t)2 << 30) /* bytes of a plain text file */
#define SHARD_LIMIT ((uint64_t)1 << 31)
#define DOMAIN_LIMIT 65535 /* traces store domains in 16 bits */

/* llm.c shards: 256 little-endian int32 (magic, version, tokens), then the tokens. */
#define SHARD_HEADER 1024
#define SHARD_MAGIC_16 20240520u /* version 1, 16-bit tokens */
#define SHARD_MAGIC_32 20240801u /* version 7, 32-bit tokens */

struct mixt_corpus {
    mixt_corpus_files files;
    size_t next_file;
    mixt_lines *lines; /* the open .jsonl, files.items[next_file - 1] */
    char *text;        /* of the last text file */
    uint32_t *tokens;  /* of the last shard */
    char **domains;
    int domain_count;
    size_t domain_capacity;
    int *by_name; /* [domain_count]: the domains in the order of their names */
    size_t by_name_capacity;
    uint64_t skipped;
    char first_skipped[400];
    mixt_document document;
};

static void forget_document(mixt_corpus *corpus)
{
    free(corpus->text);
    free(corpus->tokens);
    corpus->text = NULL;
    corpus->tokens = NULL;
}

void mixt_corpus_free(mixt_corpus *corpus)
{
    if (corpus == NULL) {
        return;
    }
    mixt_lines_close(corpus->lines);
    forget_document(corpus);
    for (int i = 0; i < corpus->domain_count; i++) {
        free(corpus->domains[i]);
    }
    free(corpus->domains);
    free(corpus->by_name);
    mixt_corpus_files_free(&corpus->files);
    free(corpus);
}

mixt_status mixt_corpus_open(const char *const *paths, size_t path_count, mixt_corpus **corpus,
                             mixt_error *error)
{
    *corpus = NULL;
    mixt_corpus *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "corpus: no memory");
    }
    mixt_status status = mixt_corpus_files_find(paths, path_count, &made->files, error);
    if (status == MIXT_OK) {
        status = mixt_corpus_rewind(made, error);
    }
    if (status != MIXT_OK) {
        mixt_corpus_free(made);
        return status;
    }
    *corpus = made;
    return MIXT_OK;
}

mixt_status mixt_corpus_rewind(mixt_corpus *corpus, mixt_error *error)
{
    (void)error;
    mixt_lines_close(corpus->lines);
    corpus->lines = NULL;
    corpus->next_file = 0;
    corpus->skipped = corpus->files.skipped;
    memcpy(corpus->first_skipped, corpus->files.first_skipped, sizeof corpus->first_skipped);
    forget_document(corpus);
    return MIXT_OK;
}

static void skip(mixt_corpus *corpus, const char *format, ...) MIXT_PRINTF(2, 3);

/* Counts a line or file that is passed over and keeps the first message. */
static void skip(mixt_corpus *corpus, const char *format, ...)
{
    if (corpus->skipped++ != 0) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(corpus->first_skipped, sizeof corpus->first_skipped, format, arguments);
    va_end(arguments);
    mixt_text_plain(corpus->first_skipped); /* one line, whatever a path holds */
}

/* Order of the name `text` [length] and a domain's. */
static int compare_name(const char *text, size_t length, const char *domain)
{
    int order = strncmp(text, domain, length);
    return order != 0 ? order : domain[length] == '\0' ? 0 : -1;
}

/* Index of a domain, which is added at its first document. By a search in sorted names, which no
 * choice of names makes slow. */
static mixt_status find_domain(mixt_corpus *corpus, const char *name, size_t length, int *domain,
                               mixt_error *error)
{
    size_t low = 0, high = (size_t)corpus->domain_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_name(name, length, corpus->domains[corpus->by_name[middle]]);
        if (order == 0) {
            *domain = corpus->by_name[middle];
            return MIXT_OK;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (corpus->domain_count == DOMAIN_LIMIT) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "corpus: more than %d domains",
                         DOMAIN_LIMIT);
    }
    size_t count = (size_t)corpus->domain_count;
    char *copy = strndup(name, length);
    if (copy == NULL ||
        !mixt_grow(&corpus->domains, &corpus->domain_capacity, count + 1,
                   sizeof *corpus->domains) ||
        !mixt_grow(&corpus->by_name, &corpus->by_name_capacity, count + 1,
                   sizeof *corpus->by_name)) {
        free(copy);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "corpus: no memory for domains");
    }
    memmove(corpus->by_name + low + 1, corpus->by_name + low,
            (count - low) * sizeof *corpus->by_name);
    corpus->by_name[low] = *domain = corpus->domain_count;
    corpus->domains[corpus->domain_count++] = copy;
    return MIXT_OK;
}

/* A document of the open .jsonl; *found false at its end. */
static mixt_status next_line(mixt_corpus *corpus, bool *found, mixt_error *error)
{
    const mixt_corpus_file *file = &corpus->files.items[corpus->next_file - 1];
    *found = false;
    for (;;) {
        mixt_line line;
        mixt_status status = mixt_lines_next(corpus->lines, &line, error);
        if (status != MIXT_OK || line.text == NULL) {
            return status;
        }
        if (line.too_long) {
            skip(corpus, "%.250s: line %" PRIu64 ": over %zu MiB", file->path, line.number,
                 MIXT_LINE_LIMIT >> 20);
            continue;
        }
        if (line.length == strspn(line.text, " \t\r") || line.length == 0) {
            continue; /* blank lines are no fault */
        }
        mixt_json_document parsed;
        size_t at;
        const char *reason = mixt_document_parse(line.text, line.length, &parsed, &at);
        if (reason != NULL) {
            skip(corpus, "%.250s: line %" PRIu64 ", byte %zu: %s", file->path, line.number, at + 1,
                 reason);
            continue;
        }
        const char *domain = parsed.domain != NULL ? parsed.domain : file->domain;
        size_t length = parsed.domain != NULL ? parsed.domain_length : strlen(domain);
        corpus->document =
            (mixt_document){.text = parsed.text, .length = parsed.length, .source = file->path};
        *found = true;
        return find_domain(corpus, domain, length, &corpus->document.domain, error);
    }
}

/* A plain text file is one document. Files that are not text are passed over. */
static mixt_status open_text(mixt_corpus *corpus, const mixt_corpus_file *file, bool *found,
                             mixt_error *error)
{
    size_t length;
    MIXT_TRY(mixt_file_read(file->path, TEXT_LIMIT, &corpus->text, &length, error));
    const char *text = corpus->text;
    size_t valid = mixt_utf8_valid_prefix(text, length);
    const char *nul = memchr(text, '\0', length);
    if (valid != length || nul != NULL) {
        size_t at = nul != NULL && (size_t)(nul - text) < valid ? (size_t)(nul - text) : valid;
        skip(corpus, "%.250s: byte %zu: %s", file->path, at + 1,
             at == valid ? "invalid UTF-8" : "NUL");
        return MIXT_OK;
    }
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3; /* byte order mark */
        length -= 3;
    }
    if (length == 0) {
        skip(corpus, "%.250s: empty file", file->path);
        return MIXT_OK;
    }
    corpus->document = (mixt_document){.text = text, .length = length, .source = file->path};
    *found = true;
    return find_domain(corpus, file->domain, strlen(file->domain), &corpus->document.domain, error);
}

static uint32_t little_endian_32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* Where a shard's tokens begin, how many there are and how wide they are. */
static mixt_status shard_layout(const mixt_corpus_file *file, const unsigned char *data,
                                size_t length, size_t layout[3], mixt_error *error)
{
    uint32_t magic = length >= SHARD_HEADER ? little_endian_32(data) : 0;
    layout[0] = 0;
    layout[1] = length / 2;
    layout[2] = 2;
    if (magic == SHARD_MAGIC_16 || magic == SHARD_MAGIC_32) {
        uint32_t version = little_endian_32(data + 4), count = little_endian_32(data + 8);
        uint32_t expected = magic == SHARD_MAGIC_16 ? 1 : 7;
        layout[0] = SHARD_HEADER;
        layout[1] = count;
        layout[2] = magic == SHARD_MAGIC_16 ? 2 : 4;
        if (version != expected) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "%s: byte 4: token shard of version %u, not %u", file->path, version,
                             expected);
        }
        if ((length - SHARD_HEADER) / layout[2] != count ||
            (length - SHARD_HEADER) % layout[2] != 0) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: byte 8: header says %u tokens, the file holds %zu bytes of them",
                             file->path, count, length - SHARD_HEADER);
        }
    } else if (length % 2 != 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %zu bytes are not a whole number of 16-bit tokens", file->path,
                         length);
    }
    return MIXT_OK;
}

/* A token shard is one document here; mixt_data splits it at the separator. */
static mixt_status open_shard(mixt_corpus *corpus, const mixt_corpus_file *file, bool *found,
                              mixt_error *error)
{
    char *data;
    size_t length, layout[3];
    MIXT_TRY(mixt_file_read(file->path, SHARD_LIMIT, &data, &length, error));
    const unsigned char *bytes = (const unsigned char *)data;
    mixt_status status = shard_layout(file, bytes, length, layout, error);
    if (status == MIXT_OK && layout[1] == 0) {
        skip(corpus, "%.250s: no tokens", file->path);
    } else if (status == MIXT_OK) {
        corpus->tokens = malloc(layout[1] * sizeof *corpus->tokens);
        if (corpus->tokens == NULL) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %zu tokens", file->path,
                               layout[1]);
        }
    }
    if (status == MIXT_OK && corpus->tokens != NULL) {
        bytes += layout[0];
        for (size_t i = 0; i < layout[1]; i++) {
            corpus->tokens[i] = layout[2] == 2
                                    ? (uint32_t)bytes[2 * i] | (uint32_t)bytes[2 * i + 1] << 8
                                    : little_endian_32(bytes + 4 * i);
        }
        corpus->document = (mixt_document){
            .tokens = corpus->tokens, .token_count = layout[1], .source = file->path};
        *found = true;
        status = find_domain(corpus, file->domain, strlen(file->domain), &corpus->document.domain,
                             error);
    }
    free(data);
    return status;
}

mixt_status mixt_corpus_next(mixt_corpus *corpus, const mixt_document **document, mixt_error *error)
{
    *document = NULL;
    forget_document(corpus);
    mixt_status status = MIXT_OK;
    bool found = false;
    while (status == MIXT_OK && !found) {
        if (corpus->lines != NULL) {
            status = next_line(corpus, &found, error);
            if (status == MIXT_OK && !found) {
                mixt_lines_close(corpus->lines);
                corpus->lines = NULL;
            }
            continue;
        }
        if (corpus->next_file == corpus->files.count) {
            return MIXT_OK;
        }
        const mixt_corpus_file *file = &corpus->files.items[corpus->next_file++];
        forget_document(corpus);
        switch (file->kind) {
        case MIXT_CORPUS_TEXT:
            status = open_text(corpus, file, &found, error);
            break;
        case MIXT_CORPUS_LINES:
        case MIXT_CORPUS_LINES_PACKED:
            status = mixt_lines_open(file->path, file->kind == MIXT_CORPUS_LINES_PACKED,
                                     &corpus->lines, error);
            break;
        case MIXT_CORPUS_TOKENS:
            status = open_shard(corpus, file, &found, error);
            break;
        }
    }
    if (status == MIXT_OK) {
        *document = &corpus->document;
    }
    return status;
}

int mixt_corpus_domain_count(const mixt_corpus *corpus)
{
    return corpus->domain_count;
}

const char *mixt_corpus_domain_name(const mixt_corpus *corpus, int domain)
{
    return domain >= 0 && domain < corpus->domain_count ? corpus->domains[domain] : NULL;
}

uint64_t mixt_corpus_skipped(const mixt_corpus *corpus, const char **first)
{
    if (first != NULL) {
        *first = corpus->skipped != 0 ? corpus->first_skipped : NULL;
    }
    return corpus->skipped;
}

const char *mixt_corpus_hash(const mixt_corpus *corpus)
{
    return corpus->files.hash;
}
