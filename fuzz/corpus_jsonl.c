/* A corpus file of any bytes: the first byte chooses .jsonl, .jsonl.zst, .bin or text. Lines that
 * the reader takes must be what jansson takes too. */
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mixt.h"
#include "corpus/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/mixt-fuzz-XXXXXX";
static char path[128];

static void remove_files(void)
{
    unlink(path);
    rmdir(folder);
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
    if (path[0] == '\0') {
        if (mkdtemp(folder) == NULL) {
            abort();
        }
        atexit(remove_files);
    } else {
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
}

/* jansson is the second opinion. It is less strict on depth and on keys that stand twice, so only
 * what mixt takes is compared. */
static void compare_line(const uint8_t *data, size_t size)
{
    char *line = malloc(size + 1);
    mixt_json_document document;
    size_t at;
    memcpy(line, data, size);
    if (mixt_document_parse(line, size, &document, &at) == NULL) {
        json_t *root = json_loadb((const char *)data, size, JSON_DECODE_INT_AS_REAL, NULL);
        const json_t *text = json_object_get(root, "text");
        if (root != NULL &&
            (json_string_length(text) != document.length ||
             memcmp(json_string_value(text), document.text, document.length) != 0)) {
            abort();
        }
        json_decref(root);
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a.jsonl", "a.jsonl.zst", "a.bin", "a.txt"};
    if (size == 0) {
        return 0;
    }
    compare_line(data + 1, size - 1);
    write_file(names[data[0] & 3], data + 1, size - 1);
    const char *paths[] = {path};
    mixt_corpus *corpus;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_corpus_open(paths, 1, &corpus, &error) != MIXT_OK) {
        return 0;
    }
    const mixt_document *document;
    while (mixt_corpus_next(corpus, &document, &error) == MIXT_OK && document != NULL) {
        if (mixt_corpus_domain_name(corpus, document->domain) == NULL ||
            (document->text == NULL) == (document->tokens == NULL)) {
            abort();
        }
    }
    mixt_corpus_free(corpus);
    return 0;
}
