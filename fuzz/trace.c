/* A trace file: refused in one line, or shown, in the terminal and as a page, in sizes that the
 * file's own justifies; measured; joined with itself; and the same bytes as arrays to import. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/mutate.h"

#define PAGE_BASE (1 << 20) /* of any page: style, script, axes */
#define PAGE_FACTOR 600     /* bytes of page for a byte of trace */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}

static void print(const mixt_trace *trace, bool color, size_t limit)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    mixt_atlas_options options = {.color = color, .text_tokens = color ? 60 : 20, .width = 100};
    mixt_error error = MIXT_ERROR_INIT;
    FUZZ_REQUIRE(stream != NULL, "a stream");
    mixt_status status = mixt_atlas_print(trace, &options, stream, &error);
    fclose(stream);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    FUZZ_REQUIRE(size <= limit, "text larger than the trace justifies");
    fuzz_check_terminal(text, size, color);
    free(text);
}

static void page(const mixt_trace *trace, size_t limit)
{
    char path[FUZZ_PATH_MAX];
    struct stat place;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_atlas_page(trace, fuzz_path("page.html", path), &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return;
    }
    FUZZ_REQUIRE(stat(path, &place) == 0, path);
    FUZZ_REQUIRE((size_t)place.st_size <= limit, "a page larger than the trace justifies");
}

/* What reads the arrays that not every trace has. */
static void measure(const mixt_trace *trace)
{
    static const char *const names[] = {"entropy", "margin", "lookahead", "confidence"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_table *table;
        mixt_status status = mixt_measure(names[i], &trace, 1, NULL, &table, &error);
        if (status != MIXT_OK) {
            fuzz_refused(status, &error);
        } else {
            FUZZ_REQUIRE(mixt_table_rows(table) < 1 << 24, "rows");
            mixt_table_free(table);
        }
    }
}

/* Twice the trace, behind one another, with as many tokens. */
static void join(const char *path, const mixt_trace_info *info)
{
    char twice[FUZZ_PATH_MAX];
    const char *const paths[] = {path, path};
    mixt_trace *joined;
    mixt_trace_info both;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_trace_join(paths, 2, fuzz_path("twice.safetensors", twice), &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return;
    }
    FUZZ_REQUIRE(mixt_trace_open(twice, &joined, &error) == MIXT_OK, error.message);
    mixt_trace_describe(joined, &both);
    FUZZ_REQUIRE(both.tokens == 2 * info->tokens && both.documents == 2 * info->documents,
                 "twice the tokens and documents");
    mixt_trace_free(joined);
}

/* As routes that were recorded elsewhere: what is taken opens as a trace. */
static void import(const char *path)
{
    static mixt_tokenizer *tokenizer;
    char imported[FUZZ_PATH_MAX];
    mixt_trace *trace;
    mixt_error error = MIXT_ERROR_INIT;
    FUZZ_REQUIRE(tokenizer != NULL || mixt_tokenizer_bytes(&tokenizer, &error) == MIXT_OK,
                 error.message);
    mixt_status status =
        mixt_trace_import(path, tokenizer, fuzz_path("imported.safetensors", imported), &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return;
    }
    FUZZ_REQUIRE(mixt_trace_open(imported, &trace, &error) == MIXT_OK, error.message);
    mixt_trace_free(trace);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    mixt_trace *trace;
    mixt_trace_info info;
    mixt_error error = MIXT_ERROR_INIT;
    size_t limit = PAGE_BASE + PAGE_FACTOR * size;
    fuzz_write(fuzz_path("trace.safetensors", path), data, size);
    import(path);
    mixt_status status = mixt_trace_open(path, &trace, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(trace == NULL, error.message);
        fuzz_refused(status, &error);
        return 0;
    }
    mixt_trace_describe(trace, &info);
    print(trace, fuzz_hash(data, size) % 2 == 0, limit);
    page(trace, limit);
    measure(trace);
    join(path, &info);
    mixt_trace_free(trace);
    return 0;
}
