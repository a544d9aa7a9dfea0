/* Trace files: written and read back, refused when bad; tables, verdict and safe display. */
#define _GNU_SOURCE /* memmem */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas/display.h"
#include "atlas/report.h"
#include "atlas/trace_writer.h"
#include "atlas_demo.h"
#include "atlas_trace.h"
#include "core/files.h"
#include "formats/safetensors.h"

#define FIXTURE "tests/fixtures/atlas/pairs.safetensors"
/* Version 2: [3, 399, 3] experts of 7, some places without; layers choose 3, 1 and 2. */
#define HOLES "tests/fixtures/atlas/holes.safetensors"

/* With everything that a trace may hold: [3, SIGNALS_LAYER, 2] experts of 8. */
#define SIGNALS "tests/fixtures/atlas/signals.safetensors"
#define SIGNALS_LAYER 402

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/mixt-trace-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int leave_folder(void **state)
{
    (void)state;
    return mixt_folder_remove(folder, NULL) != MIXT_OK;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* -- Bad files ------------------------------------------------------------------------------ */

typedef struct bad_file {
    const char *from; /* text in the header, replaced by `to` (any length); or NULL */
    const char *to;
    const char *tensor; /* bytes of it overwritten at `offset`; or NULL */
    size_t offset;
    size_t length;
    uint64_t value; /* little-endian */
    const char *message;
} bad_file;

#define HEADER(from, to, message)                                                                  \
    {                                                                                              \
        from, to, NULL, 0, 0, 0, message                                                           \
    }
#define DATA(tensor, offset, length, value, message)                                               \
    {                                                                                              \
        NULL, NULL, tensor, offset, length, (uint64_t)(value), message                             \
    }

static const bad_file bad_files[] = {
    HEADER("mixt-trace", "mixt-model", "not a trace"),
    HEADER("\"format\"", "\"xormat\"", "not a trace"),
    HEADER("\"version\":\"1\"", "\"version\":\"3\"", "format version 3"),
    HEADER("\"version\":\"1\"", "\"xersion\":\"1\"", "has no \"version\""),
    HEADER("\"experts\":\"6\"", "\"experts\":\"x\"", "decimal number"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"\"", "decimal number"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"4294967302\"", "decimal number"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"-6\"", "decimal number"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"0\"", "2 of 0 experts"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"1\"", "2 of 1 experts"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"5\"", "not below the number of experts"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"65536\"", "of 65536 experts"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"6\",\"zero_experts\":\"7\"",
           "0 identity and 7 zero experts leave none of 6 with weights"),
    HEADER("\"experts\":\"6\"",
           "\"experts\":\"6\",\"identity_experts\":\"2\",\"zero_experts\":\"4\"",
           "2 identity and 4 zero experts leave none of 6 with weights"),
    HEADER("\"experts\":\"6\"", "\"experts\":\"6\",\"identity_experts\":\"x\"", "decimal number"),
    HEADER("\"experts_per_token\":\"2\"", "\"experts_per_token\":\"3\"",
           "experts: dimension 2 is 2, must be 3"),
    HEADER("[1, 3, 5]", "[1, 3]", "experts: dimension 0 is 3, must be 2"),
    HEADER("[1, 3, 5]", "[3, 1, 5]", "must rise"),
    HEADER("[1, 3, 5]", "[1, 1, 5]", "must rise"),
    HEADER("[1, 3, 5]", "[-1, 3, 5]", "entry 0 is -1"),
    HEADER("[1, 3, 5]", "[1, 3, 9999999999]", "entry 2 is 9999999999"),
    HEADER("[1, 3, 5]", "[1, 3.5, 5]", "array of whole numbers"),
    HEADER("[1, 3, 5]", "[1, 3, 5", "array of whole numbers"),
    HEADER("[1, 3, 5]", "{}", "array of whole numbers"),
    HEADER("[1, 3, 5]", "[]", "array of whole numbers"),
    HEADER("\\\"code\\\"", "7", "array of strings"),
    HEADER("\\\"code\\\"", "\\\"a\\\", \\\"code", "array of strings"),
    HEADER("\\\"code\\\", ", "", "there are 2 domains"),
    HEADER("\"tokens\":{\"dtype\":\"I32\"", "\"tokens\":{\"dtype\":\"U32\"",
           "tokens: type U32, must be I32"),
    HEADER("\"weights\":{\"dtype\":\"F16\"", "\"weights\":{\"dtype\":\"BF16\"",
           "weights: type BF16, must be F16"),
    HEADER("\"document\":{", "\"dxcument\":{", "no tensor \"document\""),
    HEADER("\"vocab_bytes\":{", "\"vocab_xytes\":{", "no tensor \"vocab_bytes\""),
    HEADER("\"vocab_offsets\":{", "\"vocab_xffsets\":{", "no tensor \"vocab_offsets\""),
    HEADER("\"vocab_offsets\":{\"dtype\":\"I64\"", "\"vocab_offsets\":{\"dtype\":\"U64\"",
           "vocab_offsets: type U64"),
    HEADER("\"document\":{\"dtype\":\"I32\",\"shape\":[",
           "\"document\":{\"dtype\":\"I32\",\"shape\":[1,", "document: 2 dimensions, must be 1"),
    HEADER("\"weights\":{\"dtype\":\"F16\",\"shape\":[3,",
           "\"logits\":{\"dtype\":\"F16\",\"shape\":[3,", "no tensor \"weights\""),
    DATA("vocab_offsets", 8, 8, 1000, "vocab_offsets[2]: smaller"),
    DATA("vocab_offsets", 8, 8, -5, "vocab_offsets[1]: smaller"),
    DATA("vocab_offsets", 0, 8, 1, "vocab_offsets: from 1"),
    DATA("vocab_offsets", 12 * 8, 8, 1 << 20, "vocab_offsets: from 0 to 1048576"),
    DATA("tokens", 4 * 5, 4, 12, "tokens[5]: id 12 outside the vocabulary of 12"),
    DATA("tokens", 0, 4, -1, "tokens[0]: id -1"),
    DATA("document", 0, 4, 1, "document[0]: 1 behind -1"),
    DATA("document", 0, 4, -1, "document[0]: -1 behind -1"),
    DATA("document", 4 * 3, 4, 2, "document[3]: 2 behind 0"),
    DATA("document", 4 * 3, 4, -1, "document[3]: -1 behind 0"),
    DATA("domain", 2, 2, 1, "domain[1]: changes inside document 0"),
    DATA("domain", 0, 2, 3, "domain[0]: 3, but there are 3 domains"),
    DATA("weights", 0, 2, 0xFE00, "has a weight that is not a number"),
    DATA("experts", 2 * 7, 2, 6, "experts[0, 3]: expert 6 is not below"),
    DATA("experts", 2 * 7, 2, 65535, "experts[0, 3]: expert 65535"),
    DATA("experts", 0, 4, 0x00010001, "experts[0, 0]: expert 1 chosen twice"),
};

static const bad_file bad_holes[] = {
    HEADER("\"version\":\"2\"", "\"version\":\"1\"",
           "experts[0, 0]: expert 65535 is not below the number of experts"),
    HEADER("[3, 1, 2]", "[2, 1, 2]", "experts[0, 2]: expert 4 stands behind the choices"),
    HEADER("[3, 1, 2]", "[3, 1, 1]", "experts[2, 0]: expert 6 stands behind the choices"),
    HEADER("[3, 1, 2]", "[3, 0, 2]", "experts_per_layer[1]: 0, must be 1 to the 3"),
    HEADER("[3, 1, 2]", "[3, 1, 4]", "experts_per_layer[2]: 4, must be 1 to the 3"),
    HEADER("[3, 1, 2]", "[3, -1, 2]", "\"experts_per_layer\": entry 1 is -1"),
    HEADER("[3, 1, 2]", "[3, 1, 9999999999]", "\"experts_per_layer\": entry 2 is 9999999999"),
    HEADER("[3, 1, 2]", "[3, 1]", "\"experts_per_layer\": 2 entries, but there are 3 layers"),
    HEADER("[3, 1, 2]", "[3, 1, 2.5]", "array of whole numbers"),
    HEADER("[3, 1, 2]", "[3, 1, 2", "array of whole numbers"),
    HEADER("[3, 1, 2]", "7", "array of whole numbers"),
    DATA("experts", 2 * 2, 2, 7, "experts[0, 0]: expert 7 is not below"),
    DATA("experts", 2 * 2, 2, 4096, "experts[0, 0]: expert 4096 is not below"),
    DATA("experts", 2 * 2, 2, 4097, "experts[0, 0]: expert 4097 is not below"),
    DATA("experts", 2 * 2, 2, 32768, "experts[0, 0]: expert 32768 is not below"),
    DATA("experts", 2 * 2, 2, 65534, "experts[0, 0]: expert 65534 is not below"),
    DATA("experts", 2 * 2, 2, 2, "experts[0, 0]: expert 2 chosen twice"),
    DATA("experts", 2 * (3 * 399 + 2), 2, 5, "experts[1, 0]: expert 5 stands behind the choices"),
    DATA("weights", 2 * 2, 2, 0x3C00, "experts[0, 0]: expert 65535 (none) has a weight"),
    DATA("weights", 2 * 2, 2, 0x0001, "experts[0, 0]: expert 65535 (none) has a weight"),
    DATA("weights", 2 * 2, 2, 0x7E00, "experts[0, 0]: expert 65535 (none) has a weight"),
};

static const bad_file bad_signals[] = {
    HEADER("\"margins\":{\"dtype\":\"F16\"", "\"margins\":{\"dtype\":\"U16\"",
           "margins: type U16, must be F16"),
    HEADER("\"margins\":{\"dtype\":\"F16\",\"shape\":[3,",
           "\"margins\":{\"dtype\":\"F16\",\"shape\":[1,3,", "margins: 3 dimensions, must be 2"),
    HEADER("\"entropies\":{\"dtype\":\"F16\",\"shape\":[3,",
           "\"entropies\":{\"dtype\":\"F16\",\"shape\":[1,3,",
           "entropies: 3 dimensions, must be 2"),
    HEADER("\"predicted\":{\"dtype\":\"I32\"", "\"predicted\":{\"dtype\":\"F32\"",
           "predicted: type F32, must be I32"),
    HEADER("\"ahead\":{\"dtype\":\"U16\"", "\"ahead\":{\"dtype\":\"I16\"",
           "ahead: type I16, must be U16"),
    HEADER("\"logits\":{\"dtype\":\"F16\"", "\"logits\":{\"dtype\":\"U16\"",
           "logits: type U16, must be F16"),
    DATA("margins", 2 * 3, 2, 0x8001, "margins[0, 3]: -5.96046e-08, must be 0 or more"),
    DATA("margins", 2 * 3, 2, 0xBC00, "margins[0, 3]: -1, must be 0 or more"),
    DATA("margins", 2 * 3, 2, 0x7C00, "margins[0, 3]: inf, must be 0 or more and finite"),
    DATA("margins", 2 * 3, 2, 0xFC00, "margins[0, 3]: -inf, must be 0 or more and finite"),
    DATA("entropies", 2 * 5, 2, 0x4202, "entropies[0, 5]: 3.00391, must be 0 to the log2 of 8"),
    DATA("entropies", 2 * 5, 2, 0x7C00, "entropies[0, 5]: inf, must be"),
    DATA("entropies", 2 * 5, 2, 0x7E00, "entropies[0, 5]: nan, must be"),
    DATA("entropies", 2 * 5, 2, 0xBC00, "entropies[0, 5]: -1, must be"),
    DATA("predicted", 4 * 7, 4, 12, "predicted[7]: id 12 outside the vocabulary of 12"),
    DATA("predicted", 4 * 7, 4, -1, "predicted[7]: id -1 outside"),
    DATA("ahead", 0, 2, 1, "ahead[0, 0]: expert 1 at the first layer"),
    DATA("ahead", SIGNALS_LAYER * 4, 2, 8, "ahead[1, 0]: expert 8 is not below the number"),
    DATA("ahead", SIGNALS_LAYER * 4, 2, 65534, "ahead[1, 0]: expert 65534 is not below"),
    DATA("ahead", SIGNALS_LAYER * 4, 4, 0x00030003, "ahead[1, 0]: expert 3 stands twice"),
};

/* A fixture with one change, written to the folder. */
static void write_changed(const char *fixture, const bad_file *bad, const char *path)
{
    char *bytes;
    size_t length;
    uint64_t header;
    assert_int_equal(mixt_file_read(fixture, 1 << 20, &bytes, &length, NULL), MIXT_OK);
    memcpy(&header, bytes, 8);
    mixt_buffer out = {0};
    mixt_buffer_append(&out, bytes, length);
    if (bad->from != NULL) {
        char *at = memmem(bytes + 8, header, bad->from, strlen(bad->from));
        if (at == NULL) {
            fail_msg("the fixture's header has no %s", bad->from);
        }
        size_t before = (size_t)(at - bytes);
        size_t after = before + strlen(bad->from);
        out.length = before;
        mixt_buffer_text(&out, bad->to);
        mixt_buffer_append(&out, bytes + after, length - after);
        header = header - strlen(bad->from) + strlen(bad->to);
        memcpy(out.data, &header, 8);
    } else {
        mixt_safetensors *file;
        assert_int_equal(mixt_safetensors_open(fixture, &file, NULL), MIXT_OK);
        const mixt_tensor_info *tensor = mixt_safetensors_find(file, bad->tensor);
        memcpy(out.data + tensor->offset + bad->offset, &bad->value, bad->length);
        mixt_safetensors_close(file);
    }
    assert_int_equal(mixt_file_replace(path, out.data, out.length, NULL), MIXT_OK);
    mixt_buffer_free(&out);
    free(bytes);
}

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        const char *path = in_folder("bad.safetensors");
        write_changed(FIXTURE, &bad_files[i], path);
        atlas_trace_refused(path, bad_files[i].message);
    }
    for (size_t i = 0; i < sizeof bad_holes / sizeof *bad_holes; i++) {
        const char *path = in_folder("bad.safetensors");
        write_changed(HOLES, &bad_holes[i], path);
        atlas_trace_refused(path, bad_holes[i].message);
    }
    for (size_t i = 0; i < sizeof bad_signals / sizeof *bad_signals; i++) {
        const char *path = in_folder("bad.safetensors");
        write_changed(SIGNALS, &bad_signals[i], path);
        atlas_trace_refused(path, bad_signals[i].message);
    }
}

static void test_cut_files(void **state)
{
    (void)state;
    char *bytes;
    size_t length;
    assert_int_equal(mixt_file_read(FIXTURE, 1 << 20, &bytes, &length, NULL), MIXT_OK);
    const char *path = in_folder("cut.safetensors");
    for (size_t cut = 0; cut < length; cut += cut < 1200 ? 37 : 1501) {
        assert_int_equal(mixt_file_replace(path, bytes, cut, NULL), MIXT_OK);
        atlas_trace_refused(path, "");
    }
    free(bytes);
    atlas_trace_refused(folder, "is a folder");
    atlas_trace_refused(in_folder("absent"), "no such file");
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    atlas_trace_refused(in_folder("fifo"), "FIFO");
}

/* -- Writing -------------------------------------------------------------------------------- */

static const char *token_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return (const char *)mixt_trace_token_bytes(vocabulary, id, length);
}

static mixt_trace_header header_of(const mixt_trace *trace)
{
    return (mixt_trace_header){.layers = trace->info.layers,
                               .layer_numbers = trace->layer_numbers,
                               .experts = trace->info.experts,
                               .experts_per_token = trace->info.experts_per_token,
                               .experts_per_layer = trace->chosen,
                               .domains = trace->info.domains,
                               .domain_names = trace->domain_names,
                               .model = "a \"quoted\" name",
                               .model_hash = "0123",
                               .corpus_hash = "4567",
                               .tokenizer_hash = NULL,
                               .vocab_size = trace->vocab_size,
                               .token_bytes = token_bytes,
                               .vocabulary = trace,
                               .margins = trace->margins != NULL,
                               .entropies = trace->entropies != NULL,
                               .predicted = trace->predicted != NULL,
                               .ahead = trace->ahead != NULL};
}

/* Appends a chunk with what else the trace has of its tokens, which begin at `begin`. */
static mixt_status append_optional(mixt_trace_writer *writer, const mixt_trace *trace,
                                   uint64_t begin, mixt_trace_chunk *chunk, mixt_error *error)
{
    size_t k = (size_t)trace->info.experts_per_token, layers = (size_t)trace->info.layers;
    float *margins = calloc(layers * chunk->count, sizeof *margins);
    float *entropies = calloc(layers * chunk->count, sizeof *entropies);
    int32_t *ahead = calloc(layers * chunk->count * k, sizeof *ahead);
    for (size_t i = 0; i < layers * chunk->count; i++) {
        size_t row = i / chunk->count * (size_t)trace->info.tokens + begin + i % chunk->count;
        margins[i] = trace->margins != NULL ? mixt_trace_weight(trace->margins[row]) : 0;
        entropies[i] = trace->entropies != NULL ? mixt_trace_weight(trace->entropies[row]) : 0;
        for (size_t c = 0; c < k && trace->ahead != NULL; c++) {
            uint16_t expert = trace->ahead[row * k + c];
            ahead[i * k + c] = expert == MIXT_TRACE_NONE ? -1 : expert;
        }
    }
    chunk->margins = trace->margins != NULL ? margins : NULL;
    chunk->entropies = trace->entropies != NULL ? entropies : NULL;
    chunk->ahead = trace->ahead != NULL ? ahead : NULL;
    chunk->predicted = trace->predicted != NULL ? trace->predicted + begin : NULL;
    mixt_status status = mixt_trace_writer_append(writer, chunk, error);
    free(margins);
    free(entropies);
    free(ahead);
    return status;
}

/* Tokens [begin, begin + count) of a trace, appended. */
static mixt_status append_part(mixt_trace_writer *writer, const mixt_trace *trace, uint64_t begin,
                               size_t count, bool logits, mixt_error *error)
{
    size_t k = (size_t)trace->info.experts_per_token;
    size_t layers = (size_t)trace->info.layers;
    int32_t *experts = malloc(layers * count * k * sizeof *experts);
    float *weights = malloc(layers * count * k * sizeof *weights);
    float *scores = calloc(layers * count * (size_t)trace->info.experts, sizeof *scores);
    for (size_t layer = 0; layer < layers; layer++) {
        for (size_t i = 0; i < count * k; i++) {
            size_t at = layer * count * k + i;
            uint16_t expert = mixt_trace_experts(trace, (int)layer, begin)[i];
            experts[at] = expert == MIXT_TRACE_NONE ? -1 : expert;
            weights[at] = mixt_trace_weight(mixt_trace_weights(trace, (int)layer, begin)[i]);
        }
    }
    mixt_trace_chunk chunk = {.count = count,
                              .domain = trace->domain[begin],
                              .tokens = trace->tokens + begin,
                              .documents = trace->document + begin,
                              .experts = experts,
                              .weights = weights,
                              .logits = logits ? scores : NULL};
    mixt_status status = append_optional(writer, trace, begin, &chunk, error);
    free(experts);
    free(weights);
    free(scores);
    return status;
}

/* Writes a trace, documents in two windows each. */
static void write_trace(const mixt_trace *trace, const char *path, bool logits)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace_header header = header_of(trace);
    mixt_trace_writer *writer;
    header.logits = logits;
    assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &error), MIXT_OK);
    for (uint64_t d = 0; d < trace->info.documents; d++) {
        uint64_t begin = trace->document_start[d];
        uint64_t end = trace->document_start[d + 1];
        uint64_t half = begin + (end - begin) / 2;
        assert_int_equal(append_part(writer, trace, begin, half - begin, logits, &error), 0);
        assert_int_equal(append_part(writer, trace, half, end - half, logits, &error), 0);
    }
    assert_int_equal(mixt_trace_writer_finish(writer, &error), MIXT_OK);
    mixt_trace_writer_free(writer);
}

static mixt_trace *read_trace(const char *path)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace;
    if (mixt_trace_open(path, &trace, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return trace;
}

static void assert_same_arrays(const mixt_trace *read, const mixt_trace *made)
{
    size_t tokens = (size_t)made->info.tokens;
    size_t choices = tokens * (size_t)made->info.layers * (size_t)made->info.experts_per_token;
    assert_int_equal(read->info.tokens, tokens);
    assert_memory_equal(read->tokens, made->tokens, tokens * 4);
    assert_memory_equal(read->document, made->document, tokens * 4);
    assert_memory_equal(read->domain, made->domain, tokens * 2);
    assert_memory_equal(read->experts, made->experts, choices * 2);
    assert_memory_equal(read->weights, made->weights, choices * 2);
    assert_memory_equal(read->chosen, made->chosen, (size_t)made->info.layers * sizeof(int));
    assert_memory_equal(read->dropped, made->dropped, (size_t)made->info.layers * 8);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int logits = 0; logits < 2; logits++) {
        static const char *const names[] = {"C", "m\xc3\xa4th \"x\"\n", "\xe4\xb8\xad\xe6\x96\x87"};
        atlas_trace_options options = {.layers = 3,
                                       .experts = 8,
                                       .experts_per_token = 2,
                                       .domains = 3,
                                       .documents = 9,
                                       .document_tokens = 30,
                                       .names = names};
        mixt_trace *made = atlas_trace_make(&options);
        made->layer_numbers[2] = 7;
        const char *path = in_folder("round.safetensors");
        write_trace(made, path, logits != 0);
        mixt_trace *read = read_trace(path);
        mixt_trace_info info;
        mixt_trace_describe(read, &info);
        assert_int_equal(info.documents, 27);
        assert_string_equal(info.model, "a \"quoted\" name");
        assert_string_equal(info.corpus_hash, "4567");
        assert_string_equal(info.tokenizer_hash, "");
        assert_int_equal(mixt_trace_layer(read, 2), 7);
        assert_int_equal(mixt_trace_layer_experts(read, 2), 2);
        assert_string_equal(mixt_trace_domain(read, 1), names[1]);
        assert_int_equal(read->logits != NULL, logits);
        assert_same_arrays(read, made);
        assert_int_equal(read->vocab_size, made->vocab_size);
        size_t offsets = ((size_t)made->vocab_size + 1) * sizeof(int64_t);
        assert_memory_equal(read->vocab_offsets, made->vocab_offsets, offsets);
        mixt_trace_free(read);
        mixt_trace_free(made);
    }
}

/* All that is not in every trace comes back as it was, and nothing else that was not there. */
static void test_round_trip_signals(void **state)
{
    (void)state;
    mixt_trace *made = read_trace(SIGNALS);
    size_t rows = (size_t)made->info.tokens * (size_t)made->info.layers;
    assert_int_equal(made->info.tokens, SIGNALS_LAYER);
    assert_true(made->logits != NULL && made->margins != NULL && made->entropies != NULL &&
                made->predicted != NULL && made->ahead != NULL);
    assert_memory_equal(mixt_trace_logits(made, 1, 2), made->logits + (made->info.tokens + 2) * 8,
                        16);
    const char *path = in_folder("signals.safetensors");
    write_trace(made, path, false);
    mixt_trace *read = read_trace(path);
    assert_same_arrays(read, made);
    assert_null(read->logits);
    assert_memory_equal(read->margins, made->margins, rows * 2);
    assert_memory_equal(read->entropies, made->entropies, rows * 2);
    assert_memory_equal(read->predicted, made->predicted, (size_t)made->info.tokens * 4);
    assert_memory_equal(read->ahead, made->ahead, rows * 2 * 2);
    assert_int_equal(mixt_trace_intact(read, NULL), MIXT_OK);
    assert_int_equal(truncate(path, 4096), 0);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trace_intact(read, &error), MIXT_ERROR_IO);
    assert_non_null(strstr(error.message, path));
    mixt_trace_free(read);
    mixt_trace_free(made);
    made = read_trace(FIXTURE);
    assert_true(made->logits == NULL && made->margins == NULL && made->entropies == NULL &&
                made->predicted == NULL && made->ahead == NULL);
    mixt_trace_free(made);
}

static void assert_metadata(const char *path, const char *key, const char *value)
{
    mixt_safetensors *file;
    assert_int_equal(mixt_safetensors_open(path, &file, NULL), MIXT_OK);
    const char *found = mixt_safetensors_metadata(file, key);
    if (value == NULL) {
        assert_null(found);
    } else {
        assert_non_null(found);
        assert_string_equal(found, value);
    }
    mixt_safetensors_close(file);
}

/* Places without an expert come back; only then is the file of version 2, and only where layers
 * choose different numbers does it say how many. */
static void test_round_trip_none(void **state)
{
    (void)state;
    static const int uneven[] = {3, 1, 2};
    for (int i = 0; i < 4; i++) {
        atlas_trace_options options = {.layers = 3,
                                       .experts = 8,
                                       .experts_per_token = 3,
                                       .domains = 2,
                                       .documents = 6,
                                       .document_tokens = 30,
                                       .none = i % 2 == 0 ? 0 : 0.2,
                                       .chosen = i < 2 ? NULL : uneven};
        mixt_trace *made = atlas_trace_make(&options);
        const char *path = in_folder("none.safetensors");
        write_trace(made, path, false);
        assert_metadata(path, "version", i == 0 ? "1" : "2");
        assert_metadata(path, "experts_per_layer", i < 2 ? NULL : "[3, 1, 2]");
        mixt_trace *read = read_trace(path);
        assert_same_arrays(read, made);
        assert_int_equal(read->has_none, i != 0);
        assert_int_equal(mixt_trace_has_dropped(read), i % 2 != 0);
        assert_int_equal(mixt_trace_layer_experts(read, 1), i < 2 ? 3 : 1);
        assert_int_equal(mixt_trace_layer_experts(read, 3), -1);
        mixt_trace_free(read);
        mixt_trace_free(made);
    }
}

/* What would not be read is not written: layer numbers that do not rise, tables of more cells than
 * one token justifies. */
static void refuse_unreadable(const char *path, mixt_trace_header header)
{
    const int below = -1, *const rising = header.layer_numbers;
    const char *names[130];
    int32_t zero = 0, experts[] = {1, 2};
    float weights[] = {0.5f, 0.5f};
    mixt_trace_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        names[i] = "a domain";
    }
    header.margins = header.entropies = header.predicted = header.ahead = false;
    header.layer_numbers = &below;
    assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "layer numbers must rise from 0 or more"));
    error = (mixt_error)MIXT_ERROR_INIT;
    header.layer_numbers = rising;
    header.domain_names = names;
    header.domains = sizeof names / sizeof *names;
    header.experts = 4096;
    assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &error), MIXT_OK);
    const mixt_trace_chunk chunk = {
        .count = 1, .tokens = &zero, .documents = &zero, .experts = experts, .weights = weights};
    assert_int_equal(mixt_trace_writer_append(writer, &chunk, &error), MIXT_OK);
    assert_int_equal(mixt_trace_writer_finish(writer, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "130 domains, 4096 experts: too many for the 1 tokens"));
    mixt_trace_writer_free(writer);
}

/* Nothing stays when a trace is not finished, and bad chunks are refused. */
static void test_writer_refuses(void **state)
{
    (void)state;
    atlas_trace_options options = {.layers = 1,
                                   .experts = 4,
                                   .experts_per_token = 2,
                                   .domains = 2,
                                   .documents = 1,
                                   .document_tokens = 9};
    mixt_trace *made = atlas_trace_make(&options);
    mixt_trace_header header = header_of(made);
    const char *path = in_folder("never.safetensors");
    char **names;
    size_t before;
    size_t after;
    assert_int_equal(mixt_folder_list(folder, &names, &before, NULL), MIXT_OK);
    mixt_names_free(names, before);
    header.margins = header.entropies = header.predicted = header.ahead = true;
    for (int bad = 0; bad < 15; bad++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_trace_writer *writer;
        int32_t token = bad == 0 ? made->vocab_size : 0;
        int32_t document = bad == 1 ? 1 : 0;
        int32_t experts[] = {bad == 2   ? 4
                             : bad == 3 ? -1 /* with a weight */
                             : bad == 6 ? -2
                             : bad == 7 ? 65535
                                        : 1,
                             bad == 4 ? 1 : 2};
        float weights[] = {0.5f, 0.5f};
        const int one = 1;
        header.experts_per_layer = bad == 8 ? &one : NULL;
        assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &error), MIXT_OK);
        float margin = bad == 9 ? -1e-6f : 0, entropy = bad == 10 ? 2.1f : bad == 11 ? NAN : 2;
        int32_t predicted = bad == 12 ? made->vocab_size : 0, ahead[] = {bad == 13 ? 1 : -1, -1};
        mixt_trace_chunk chunk = {1,
                                  bad == 5 ? 2 : 0,
                                  &token,
                                  &document,
                                  experts,
                                  weights,
                                  NULL,
                                  &margin,
                                  &entropy,
                                  &predicted,
                                  bad == 14 ? NULL : ahead};
        assert_int_equal(mixt_trace_writer_append(writer, &chunk, &error), MIXT_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, path));
        mixt_error second = MIXT_ERROR_INIT;
        assert_int_equal(mixt_trace_writer_finish(writer, &second), MIXT_ERROR_ARGUMENT);
        mixt_trace_writer_free(writer);
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace_writer *writer;
    header.experts_per_token = 5;
    assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &error), MIXT_ERROR_ARGUMENT);
    header.experts_per_token = 2;
    for (int choices = 0; choices <= 3; choices += 3) {
        mixt_error second = MIXT_ERROR_INIT;
        header.experts_per_layer = &choices;
        assert_int_equal(mixt_trace_writer_create(path, &header, &writer, &second),
                         MIXT_ERROR_ARGUMENT);
        assert_non_null(strstr(second.message, "must be 1 to 2"));
    }
    header.experts_per_layer = NULL;
    refuse_unreadable(path, header);
    mixt_error absent = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_trace_writer_create("/nowhere/t", &header, &writer, &absent),
                         MIXT_OK);
    assert_int_equal(mixt_folder_list(folder, &names, &after, NULL), MIXT_OK);
    mixt_names_free(names, after);
    assert_int_equal(before, after);
    mixt_trace_free(made);
}

/* -- Tables and words ----------------------------------------------------------------------- */

static char *printed(const mixt_trace *trace, const mixt_atlas_options *options)
{
    char *text = NULL;
    size_t length = 0;
    mixt_error error = MIXT_ERROR_INIT;
    FILE *stream = open_memstream(&text, &length);
    assert_int_equal(mixt_atlas_print(trace, options, stream, &error), MIXT_OK);
    fclose(stream);
    return text;
}

static void test_tables(void **state)
{
    (void)state;
    static const int uneven[] = {1, 2, 3, 1, 2, 3, 1, 2, 3};
    static const int shapes[][4] = {{4, 8, 2, 0},  {1, 1, 1, 0},   {2, 4, 4, 0},
                                    {9, 40, 3, 0}, {3, 200, 8, 0}, {9, 40, 3, 1}};
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        const int *shape = shapes[i / 2];
        atlas_trace_options make = {.layers = shape[0],
                                    .experts = shape[1],
                                    .experts_per_token = shape[2],
                                    .domains = 3,
                                    .documents = 5,
                                    .document_tokens = 60,
                                    .chosen = shape[3] != 0 ? uneven : NULL,
                                    .none = i % 2 == 0 ? 0 : 0.4};
        mixt_trace *trace = atlas_trace_make(&make);
        for (int width = 72; width <= 120; width += 24) {
            mixt_atlas_options options = {.color = false, .text_tokens = 40, .width = width};
            char *text = printed(trace, &options);
            assert_null(strchr(text, '\033'));
            assert_null(strstr(text, "nan"));
            assert_null(strstr(text, ".0100")); /* columns that touch */
            assert_non_null(strstr(text, "This trace shows"));
            assert_non_null(strstr(text, "never\nlayer  max/mean  chosen first  exp"));
            assert_int_equal(strstr(text, "dropped (%)") != NULL, i % 2 != 0);
            assert_int_equal(strstr(text, "exp(entropy)/E  choices") != NULL, shape[3]);
            assert_int_equal(strstr(text, "1 to 3 of 40 experts a token") != NULL, shape[3]);
            assert_int_equal(strstr(text, "\xe2\x82\x8b") != NULL, i % 2 != 0); /* none, below */
            for (char *line = text; *line != '\0';) {
                size_t length = strcspn(line, "\n");
                if (mixt_display_columns(line, length) > width) {
                    fail_msg("wider than %d: %.*s", width, (int)length, line);
                }
                line += length + (line[length] == '\n');
            }
            free(text);
        }
        mixt_atlas_options options = {.color = true, .text_tokens = 40};
        char *text = printed(trace, &options);
        assert_non_null(strstr(text, "48;5;"));
        free(text);
        mixt_trace_free(trace);
    }
}

/* A page without its data and script: in base 64 any letters may stand. */
static void leave_out_data(char *page)
{
    char *data = strstr(page, "<script type=\"application/json\"");
    assert_non_null(data);
    *data = '\0';
}

/* A domain that is named but has no tokens appears as such, not as zeros. */
static void test_empty_domain(void **state)
{
    (void)state;
    atlas_trace_options make = {.layers = 3,
                                .experts = 20,
                                .experts_per_token = 2,
                                .domains = 3,
                                .documents = 9,
                                .document_tokens = 60};
    mixt_trace *trace = atlas_trace_make(&make);
    trace->info.domains = 4;
    trace->domain_names[3] = "void & empty";
    assert_int_equal(mixt_trace_check(trace, "empty", NULL), MIXT_OK);
    mixt_rate rate;
    assert_int_equal(mixt_atlas_repetition(trace, 0, 3, 0, &rate, NULL), MIXT_OK);
    assert_int_equal(rate.pairs, 0);
    mixt_atlas_options options = {.color = false, .text_tokens = 40, .width = 80};
    char *text = printed(trace, &options);
    int rows = 0;
    for (char *at = text; (at = strstr(at, "void & empty")) != NULL; at++) {
        rows++;
        assert_memory_equal(at, "void & empty   no tokens in this trace\n", 39);
    }
    assert_int_equal(rows, 2 + 9 + 1); /* repetition, proportions, distance */
    assert_null(strstr(text, "nan"));
    free(text);
    size_t length;
    assert_int_equal(mixt_atlas_page(trace, in_folder("page.html"), NULL), MIXT_OK);
    assert_int_equal(mixt_file_read(in_folder("page.html"), 1 << 24, &text, &length, NULL), 0);
    leave_out_data(text);
    assert_non_null(strstr(text, "No tokens in this trace of: void &#38; empty."));
    assert_non_null(strstr(text, "<dt>Domains</dt><dd>3</dd>"));
    assert_null(strstr(text, "nan"));
    free(text);
    mixt_trace_free(trace);
}

/* Tables and page of tokens with fewer experts or none: numbers of a small trace, and one domain
 * and one layer without any expert at all. */
static void test_dropped(void **state)
{
    (void)state;
    static const int chosen[] = {3, 1, 2};
    atlas_trace_options make = {.layers = 3,
                                .experts = 8,
                                .experts_per_token = 3,
                                .domains = 2,
                                .documents = 9,
                                .document_tokens = 60,
                                .chosen = chosen,
                                .none = 0.2};
    mixt_trace *trace = atlas_trace_make(&make);
    mixt_atlas_options options = {.color = false, .text_tokens = 40, .width = 80};
    size_t choices = (size_t)trace->info.experts_per_token;
    for (int emptied = 0; emptied < 2; emptied++) {
        char line[100];
        size_t length;
        char *text = printed(trace, &options);
        assert_null(strstr(text, "nan"));
        snprintf(line, sizeof line, "        2  %8llu (%5.1f)\n",
                 (unsigned long long)trace->dropped[2],
                 100.0 * (double)trace->dropped[2] / (2.0 * (double)trace->info.tokens));
        assert_non_null(strstr(text, line));
        assert_int_equal(strstr(text, "no such choice at this layer") != NULL, emptied);
        free(text);
        assert_int_equal(mixt_atlas_page(trace, in_folder("page.html"), NULL), MIXT_OK);
        assert_int_equal(mixt_file_read(in_folder("page.html"), 1 << 24, &text, &length, NULL), 0);
        leave_out_data(text);
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "65535"));
        assert_non_null(strstr(text, "<dd>1 to 3 of 8</dd>"));
        assert_non_null(strstr(text, "Dropped choices"));
        assert_non_null(strstr(text, "[data-e=\"\xe2\x80\x93\"]"));
        assert_non_null(strstr(text, "No such choice at this layer.")); /* the second of one */
        free(text);
        for (uint64_t i = 0; i < trace->info.tokens; i++) { /* domain 0 at layer 0, and layer 2 */
            for (uint64_t c = 0; c < choices; c++) {
                uint64_t at = i * choices + c;
                uint64_t last = (2 * trace->info.tokens + i) * choices + c;
                trace->experts[last] = MIXT_TRACE_NONE;
                trace->weights[last] = 0;
                trace->experts[at] = trace->domain[i] == 0 ? MIXT_TRACE_NONE : trace->experts[at];
                trace->weights[at] = trace->domain[i] == 0 ? 0 : trace->weights[at];
            }
        }
        assert_int_equal(mixt_trace_check(trace, "emptied", NULL), MIXT_OK);
    }
    mixt_trace_free(trace);
}

static void test_full_disk(void **state)
{
    (void)state;
    FILE *stream = fopen("/dev/full", "w");
    if (stream == NULL) {
        skip();
    }
    uint16_t choices[] = {0, 1, 1, 0};
    mixt_trace *trace = atlas_trace_of_choices(choices, 4, 2);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_atlas_options options = {.width = 80};
    assert_int_equal(mixt_atlas_print(trace, &options, stream, &error), MIXT_ERROR_IO);
    fclose(stream);
    mixt_error second = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_atlas_page(trace, "/nowhere/page.html", &second), MIXT_OK);
    assert_non_null(strstr(second.message, "/nowhere/page.html"));
    mixt_trace_free(trace);
}

/* What the demo prints: the first table with text of four domains, and two sentences. */
static void test_parts(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    mixt_atlas_options options = {.text_tokens = 20, .width = 80, .part = MIXT_ATLAS_SHORT};
    char *text = printed(trace, &options);
    assert_non_null(strstr(text, "Repetition of consecutive tokens, all domains"));
    assert_non_null(strstr(text, "Text by first expert"));
    assert_null(strstr(text, "Load of the experts"));
    assert_null(strstr(text, "This trace shows"));
    int domains = 0;
    for (int d = 0; d < trace->info.domains; d++) {
        char line[100];
        snprintf(line, sizeof line, "\n%.80s:\n", trace->domain_names[d]);
        domains += strstr(text, line) != NULL;
    }
    assert_in_range(domains, 3, 4); /* one has a name that is shown otherwise */
    free(text);
    options.part = MIXT_ATLAS_WORDS;
    text = printed(trace, &options);
    const char *gap = strstr(text, "\n\n");
    assert_non_null(gap);
    assert_true(!islower((unsigned char)text[0]) && !islower((unsigned char)gap[2]) &&
                gap[-1] == '.' && strcmp(text + strlen(text) - 2, ".\n") == 0);
    assert_null(strstr(gap + 2, "\n\n"));
    free(text);
    mixt_trace_free(trace);
}

typedef struct verdict_case {
    double stay[3];
    double shift; /* of the last domain, which is mathematics */
    int shown;
    const char *repetition;
    const char *domains;
} verdict_case;

static void test_verdict(void **state)
{
    (void)state;
    static const char *const names[] = {"prose", "code", "law", "news", "DM Mathematics"};
    static const verdict_case cases[] = {
        {{0, 0.3, 0.2}, 1.0, 2, "and not at the first", "much alike except DM Mathematics"},
        {{0.03, 0.3, 0.2}, 1.0, 2, "and hardly at the first", "except DM Mathematics"},
        {{0.3, 0.3, 0.2}, 1.0, 1, "the first layer does so comparably", "except DM Mathematics"},
        {{0, 0.3, 0}, 0, 0, "explain only at the middle (", "domains use the experts alike"},
        {{0, 0, 0.3}, 0, 0, "explain, not at the middle (", "domains use the experts alike"},
        {{0.3, 0, 0.3}, 0, 0, ") but at the last layer (", "domains use the experts alike"},
        {{0.3, 0, 0}, 0, 0, "), though they do at the first (", "domains use the experts alike"},
        {{0, 0, 0}, 0, 0, "explain, neither at the middle (", "domains use the experts alike"},
        {{0, 0.3, 0.2}, 0, 1, "and not at the first", "domains use the experts alike"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atlas_trace_options options = {.layers = 3,
                                       .experts = 8,
                                       .experts_per_token = 2,
                                       .domains = 5,
                                       .documents = 25,
                                       .document_tokens = 120,
                                       .seed = 11,
                                       .stay = cases[i].stay,
                                       .domain_shift = cases[i].shift,
                                       .names = names};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_report *report;
        assert_int_equal(mixt_report_create(trace, false, &report, NULL), MIXT_OK);
        const mixt_verdict *verdict = &report->verdict;
        if (strstr(verdict->repetition, cases[i].repetition) == NULL ||
            strstr(verdict->domains, cases[i].domains) == NULL ||
            verdict->shown != cases[i].shown) {
            fail_msg("case %zu: %s: %s; %s", i, verdict->headline, verdict->repetition,
                     verdict->domains);
        }
        for (const char *c = verdict->repetition; *c != 0; c++) { /* words stay apart */
            assert_false(*c == ',' && isalpha((unsigned char)c[1]));
            assert_false(c[0] == ' ' && (c[1] == ' ' || c[1] == ','));
        }
        assert_true(strstr(verdict->repetition, "neither") == NULL ||
                    strstr(verdict->repetition, "does") == NULL);
        mixt_report_free(report);
        mixt_trace_free(trace);
    }
}

/* A token that always goes to its own expert comes first there. */
static void test_top_tokens(void **state)
{
    (void)state;
    atlas_trace_options options = {.layers = 1,
                                   .experts = 4,
                                   .experts_per_token = 1,
                                   .domains = 1,
                                   .documents = 20,
                                   .document_tokens = 100};
    mixt_trace *trace = atlas_trace_make(&options);
    uint64_t occurrences = 0;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        if (trace->tokens[i] == 12) {
            trace->experts[i] = 3;
            occurrences++;
        }
    }
    mixt_top_token rows[4 * 5];
    assert_int_equal(mixt_top_tokens(trace, 0, 5, rows, NULL), MIXT_OK);
    assert_int_equal(rows[15].token, 12);
    assert_int_equal(rows[15].occurrences, occurrences);
    assert_true(rows[15].share == 1);
    for (int i = 0; i < 20; i++) { /* above 1/E, and no token twice for an expert */
        assert_true(rows[i].token == -1 || rows[i].share > 0.25);
        assert_true(i % 5 == 0 || rows[i].token == -1 || rows[i].token != rows[i - 1].token);
    }
    mixt_trace_free(trace);
}

static void test_display(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        int style;
        const char *shown;
    } cases[] = {
        {"plain", 5, 0, "plain"},
        {"a b", 3, MIXT_DISPLAY_VISIBLE,
         "a\xe2\x90\xa3"
         "b"},
        {"\x1b[2J", 4, 0, "\xe2\x80\xb9U+001B\xe2\x80\xba[2J"},
        {"\x00", 1, 0, "\xe2\x80\xb9U+0000\xe2\x80\xba"},
        {"\xc3", 1, 0,
         "\xe2\x80\xb9"
         "C3\xe2\x80\xba"},
        {"\xc3\xa9", 2, 0, "\xc3\xa9"},
        {"\xed\xa0\x80", 3, 0,
         "\xe2\x80\xb9"
         "ED\xe2\x80\xba\xe2\x80\xb9"
         "A0\xe2\x80\xba\xe2\x80\xb9"
         "80\xe2\x80\xba"},
        {"\xe2\x80\xae", 3, 0, "\xe2\x80\xb9U+202E\xe2\x80\xba"},
        {"\xc2\x9b", 2, 0, "\xe2\x80\xb9U+009B\xe2\x80\xba"},
        {"\n", 1, MIXT_DISPLAY_NEWLINES, "\xe2\x8f\x8e\n"},
        {"\r\n", 2, 0, "\xe2\x80\xb9U+000D\xe2\x80\xba\xe2\x8f\x8e"},
        {"<a href='x'>&\"", 14, MIXT_DISPLAY_HTML, "&#60;a href=&#39;x&#39;&#62;&#38;&#34;"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_buffer out = {0};
        mixt_display_bytes(&out, cases[i].bytes, cases[i].length, cases[i].style);
        mixt_buffer_append(&out, "", 1);
        assert_string_equal(out.data, cases[i].shown);
        mixt_buffer_free(&out);
    }
    mixt_buffer out = {0};
    mixt_display_fit(&out, "\xe4\xb8\xad\xe6\x96\x87 long", 6);
    assert_int_equal(mixt_display_columns(out.data, out.length), 6);
    mixt_display_fit(&out, "", 3);
    assert_int_equal(mixt_display_columns(out.data, out.length), 9);
    mixt_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),  cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_dropped),    cmocka_unit_test(test_round_trip_none),
        cmocka_unit_test(test_tables),     cmocka_unit_test(test_empty_domain),
        cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_parts),      cmocka_unit_test(test_top_tokens),
        cmocka_unit_test(test_display),    cmocka_unit_test(test_round_trip_signals),
    };
    return cmocka_run_group_tests_name("trace", tests, enter_folder, leave_folder);
}
