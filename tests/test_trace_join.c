/* Traces that become one, and routes that were recorded elsewhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas/trace_copy.h"
#include "atlas_trace.h"
#include "core/files.h"
#include "formats/safetensors.h"
#include "train_setup.h"

#define SIGNALS "tests/fixtures/atlas/signals.safetensors"
#define HOLES "tests/fixtures/atlas/holes.safetensors"

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/mixt-join-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int leave_folder(void **state)
{
    (void)state;
    return mixt_folder_remove(folder, NULL) != MIXT_OK;
}

static const char *in_folder(char *path, const char *name)
{
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
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

/* -- Joining -------------------------------------------------------------------------------- */

static const char *token_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return (const char *)mixt_trace_token_bytes(vocabulary, id, length);
}

/* Writes documents [from, to) of a trace, as a trace of the domains that they have. `change` (may
 * be NULL) changes the header. */
static void write_part(const mixt_trace *trace, uint64_t from, uint64_t to, const char *path,
                       void (*change)(mixt_trace_header *header))
{
    const char *names[16];
    int domains = 0, place[16];
    for (uint64_t d = from; d < to; d++) {
        int domain = trace->domain[trace->document_start[d]], i = 0;
        while (i < domains && place[i] != domain) {
            i++;
        }
        if (i == domains) {
            place[domains] = domain;
            names[domains++] = trace->domain_names[domain];
        }
    }
    mixt_trace_header header = mixt_trace_header_of(trace);
    header.domains = domains;
    header.domain_names = names;
    header.token_bytes = token_bytes;
    header.vocabulary = trace;
    if (change != NULL) {
        change(&header);
    }
    mixt_trace_writer *writer;
    mixt_trace_copier *copier;
    assert_int_equal(mixt_trace_writer_create(path, &header, &writer, NULL), MIXT_OK);
    assert_int_equal(mixt_trace_copier_create(trace, &copier, NULL), MIXT_OK);
    for (uint64_t d = from; d < to; d++) {
        mixt_trace_part part = {trace->document_start[d], trace->document_start[d + 1],
                                (int32_t)(d - from), 0};
        while (strcmp(names[part.domain],
                      trace->domain_names[trace->domain[trace->document_start[d]]]) != 0) {
            part.domain++;
        }
        assert_int_equal(mixt_trace_copier_append(copier, &part, writer, NULL), MIXT_OK);
    }
    assert_int_equal(mixt_trace_writer_finish(writer, NULL), MIXT_OK);
    mixt_trace_copier_free(copier);
    mixt_trace_writer_free(writer);
}

static void assert_same_halves(const uint16_t *a, const uint16_t *b, uint64_t count)
{
    assert_int_equal(a != NULL, b != NULL);
    if (a != NULL) {
        assert_memory_equal(a, b, count * 2);
    }
}

/* Domains may have other numbers, by name they are the same. */
static void assert_same(const mixt_trace *a, const mixt_trace *b)
{
    uint64_t tokens = a->info.tokens, rows = tokens * (uint64_t)a->info.layers;
    uint64_t k = (uint64_t)a->info.experts_per_token;
    assert_int_equal(tokens, b->info.tokens);
    assert_int_equal(a->info.domains, b->info.domains);
    assert_memory_equal(a->tokens, b->tokens, tokens * 4);
    assert_memory_equal(a->document, b->document, tokens * 4);
    assert_memory_equal(a->experts, b->experts, rows * k * 2);
    assert_same_halves(a->weights, b->weights, rows * k);
    assert_same_halves(a->logits, b->logits, rows * (uint64_t)a->info.experts);
    assert_same_halves(a->margins, b->margins, rows);
    assert_same_halves(a->entropies, b->entropies, rows);
    assert_same_halves(a->ahead, b->ahead, rows * k);
    assert_int_equal(a->predicted != NULL, b->predicted != NULL);
    if (a->predicted != NULL) {
        assert_memory_equal(a->predicted, b->predicted, tokens * 4);
    }
    for (uint64_t i = 0; i < tokens; i++) {
        assert_string_equal(a->domain_names[a->domain[i]], b->domain_names[b->domain[i]]);
    }
}

/* A trace in three parts, joined, is the trace; over one of the parts too. */
static void test_join(void **state)
{
    (void)state;
    static const char *const fixtures[] = {SIGNALS, HOLES};
    for (int f = 0; f < 2; f++) {
        mixt_trace *whole = read_trace(fixtures[f]);
        char a[128], b[128], c[128];
        const char *const parts[] = {in_folder(a, "a"), in_folder(b, "b"), in_folder(c, "c")};
        uint64_t documents = whole->info.documents;
        write_part(whole, 0, 1, a, NULL);
        write_part(whole, 1, documents - 2, b, NULL);
        write_part(whole, documents - 2, documents, c, NULL);
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_trace_join(parts, 3, a, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        mixt_trace *joined = read_trace(a);
        assert_same(joined, whole);
        assert_string_equal(joined->info.model, whole->info.model);
        mixt_trace_free(joined);
        mixt_trace_free(whole);
    }
}

static void other_model(mixt_trace_header *header)
{
    header->model = "another";
}

static void other_hash(mixt_trace_header *header)
{
    header->model_hash = "abcd";
}

static void other_tokenizer(mixt_trace_header *header)
{
    header->tokenizer_hash = "abcd";
}

static const char *other_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return token_bytes(vocabulary, id == 0 ? 1 : id, length);
}

static void other_vocabulary(mixt_trace_header *header)
{
    header->token_bytes = other_bytes;
}

static void other_layers(mixt_trace_header *header)
{
    static const int numbers[] = {1, 3, 6};
    header->layer_numbers = numbers;
}

static void other_experts(mixt_trace_header *header)
{
    header->experts = 9;
    header->logits = false;
}

static void other_identity(mixt_trace_header *header)
{
    header->zero_experts = 1;
}

static void other_choices(mixt_trace_header *header)
{
    static const int numbers[] = {2, 2, 2};
    header->experts_per_layer = numbers;
    header->router_select = "hash";
}

static void other_held_out(mixt_trace_header *header)
{
    header->held_out = "something";
}

static void no_logits(mixt_trace_header *header)
{
    header->logits = false;
}

static void no_margins(mixt_trace_header *header)
{
    header->margins = false;
}

static void no_entropies(mixt_trace_header *header)
{
    header->entropies = false;
}

static void no_predicted(mixt_trace_header *header)
{
    header->predicted = false;
}

static void no_ahead(mixt_trace_header *header)
{
    header->ahead = false;
}

static void test_join_refused(void **state)
{
    (void)state;
    static const struct {
        void (*change)(mixt_trace_header *header);
        const char *message;
    } cases[] = {
        {other_model, "differs: the model's name, without a hash"},
        {other_hash, "differs: the model's hash"},
        {other_tokenizer, "differs: the tokenizer's hash"},
        {other_vocabulary, "differs: the vocabulary"},
        {other_layers, "differs: the layers"},
        {other_experts, "differs: the number of experts"},
        {other_identity, "differs: the number of experts"},
        {other_choices, "differs: router_select"},
        {other_held_out, "differs: held_out"},
        {no_logits, "differs: that there are logits"},
        {no_margins, "differs: that there are margins"},
        {no_entropies, "differs: that there are entropies"},
        {no_predicted, "differs: that there are predicted tokens"},
        {no_ahead, "differs: that there are experts ahead"},
    };
    mixt_trace *whole = read_trace(SIGNALS);
    char a[128], b[128], c[128];
    const char *const parts[] = {in_folder(a, "a"), in_folder(b, "b")};
    write_part(whole, 0, 3, a, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        write_part(whole, 3, 6, b, cases[i].change);
        assert_int_equal(mixt_trace_join(parts, 2, in_folder(c, "never"), &error),
                         MIXT_ERROR_ARGUMENT);
        if (strstr(error.message, cases[i].message) == NULL || strstr(error.message, b) == NULL) {
            fail_msg("expected \"%s\", was told \"%s\"", cases[i].message, error.message);
        }
        assert_int_not_equal(access(c, F_OK), 0);
    }
    const char *const absent[] = {a, "/nowhere/trace"};
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_trace_join(absent, 2, c, &error), MIXT_OK);
    assert_non_null(strstr(error.message, "/nowhere/trace"));
    mixt_error alone = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trace_join(absent, 1, c, &alone), MIXT_ERROR_ARGUMENT);
    mixt_trace_free(whole);
}

/* -- Importing ------------------------------------------------------------------------------ */

enum { T = 5, L = 2, K = 2 };

/* A file of arrays: two documents of a domain each, [5, 2, 2] experts of 4. */
typedef struct arrays {
    const char *key, *value; /* one more of the metadata, or instead of "experts"; or NULL */
    const char *extra;       /* a tensor that a trace does not have; or NULL */
    mixt_dtype ids;          /* of tokens and documents */
    bool layers_first, weights, domains, no_tokens, both;
    bool no_number;    /* the first weight */
    int first;         /* the first token's document */
    int expert;        /* the first one of token 1 at layer 0 */
    int64_t documents; /* length of `document` */
} arrays;

static void put(mixt_safetensors_writer *file, const int32_t *values, size_t count, mixt_dtype type)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value = values[i];
        assert_int_equal(
            mixt_safetensors_writer_write(file, &value, mixt_dtype_bits(type) / 8, NULL), MIXT_OK);
    }
}

static void write_arrays(const arrays *a, const char *path)
{
    const int32_t tokens[T] = {3, 1, 4, 1, 5}, documents[T] = {a->first, a->first, 0, 1, 1};
    const int32_t domains[T] = {0, 0, 0, 1, 1};
    int32_t by_token[T * L * K], by_layer[T * L * K];
    for (int t = 0; t < T; t++) {
        for (int l = 0; l < L; l++) {
            for (int c = 0; c < K; c++) {
                int32_t expert = t == 1 && l == 0 && c == 0   ? a->expert
                                 : t == 4 && l == 1 && c == 1 ? -1
                                                              : (t + l + 2 * c) % 4;
                by_token[(t * L + l) * K + c] = by_layer[(l * T + t) * K + c] = expert;
            }
        }
    }
    const int64_t one[] = {T}, few[] = {a->documents}, first[] = {L, T, K}, second[] = {T, L, K};
    mixt_dtype ids = a->ids;
    mixt_safetensors_writer *file;
    assert_int_equal(mixt_safetensors_writer_create(path, 0, &file, NULL), MIXT_OK);
    if (a->key == NULL || strcmp(a->key, "experts") != 0) {
        mixt_safetensors_writer_metadata(file, "experts", "4", NULL);
    }
    if (a->key != NULL) {
        mixt_safetensors_writer_metadata(file, a->key, a->value, NULL);
    }
    if (!a->no_tokens) {
        mixt_safetensors_writer_add(file, "tokens", ids, 1, one, NULL);
    }
    mixt_safetensors_writer_add(file, "document", ids, 1, few, NULL);
    if (a->domains) {
        mixt_safetensors_writer_add(file, "domain", MIXT_DTYPE_U8, 1, one, NULL);
    }
    if (a->layers_first || a->both) {
        mixt_safetensors_writer_add(file, "experts", MIXT_DTYPE_I16, 3, first, NULL);
    }
    if (!a->layers_first || a->both) {
        mixt_safetensors_writer_add(file, "routed_experts", MIXT_DTYPE_I16, 3, second, NULL);
    }
    if (a->weights) {
        mixt_safetensors_writer_add(file, "weights", MIXT_DTYPE_F32, 3, first, NULL);
    }
    if (a->extra != NULL) {
        mixt_safetensors_writer_add(file, a->extra, MIXT_DTYPE_U8, 1, one, NULL);
    }
    assert_int_equal(mixt_safetensors_writer_begin(file, NULL), MIXT_OK);
    put(file, tokens, a->no_tokens ? 0 : T, ids);
    put(file, documents, (size_t)a->documents, ids);
    put(file, domains, a->domains ? T : 0, MIXT_DTYPE_U8);
    put(file, by_layer, a->layers_first || a->both ? T * L * K : 0, MIXT_DTYPE_I16);
    put(file, by_token, !a->layers_first || a->both ? T * L * K : 0, MIXT_DTYPE_I16);
    for (int i = 0; a->weights && i < T * L * K; i++) {
        float weight = a->no_number && i == 0 ? NAN
                       : by_layer[i] < 0      ? -0.0f
                                              : 0.25f * (float)(1 + i % 2);
        assert_int_equal(mixt_safetensors_writer_write(file, &weight, sizeof weight, NULL), 0);
    }
    put(file, tokens, a->extra != NULL ? T : 0, MIXT_DTYPE_U8);
    assert_int_equal(mixt_safetensors_writer_finish(file, NULL), MIXT_OK);
    mixt_safetensors_writer_free(file);
}

static void check_imported(const mixt_trace *trace, const arrays *a)
{
    static const int32_t tokens[T] = {3, 1, 4, 1, 5}, documents[T] = {0, 0, 0, 1, 1};
    assert_int_equal(trace->info.tokens, T);
    assert_int_equal(trace->info.layers, L);
    assert_int_equal(trace->info.experts, 4);
    assert_memory_equal(trace->tokens, tokens, sizeof tokens);
    assert_memory_equal(trace->document, documents, sizeof documents);
    for (int t = 0; t < T; t++) {
        assert_string_equal(trace->domain_names[trace->domain[t]],
                            a->domains ? (t < 3 ? "code" : "prose") : "text");
        for (int l = 0; l < L; l++) {
            const uint16_t *row = mixt_trace_experts(trace, l, (uint64_t)t);
            const uint16_t *weights = mixt_trace_weights(trace, l, (uint64_t)t);
            bool hole = t == 4 && l == 1;
            assert_int_equal(row[0], (t + l) % 4);
            assert_int_equal(row[1], hole ? MIXT_TRACE_NONE : (t + l + 2) % 4);
            assert_true(mixt_trace_weight(weights[0]) == (a->weights ? 0.25f : hole ? 1 : 0.5f));
            assert_true(mixt_trace_weight(weights[1]) == (hole ? 0 : 0.5f));
            assert_true(!hole || weights[1] == 0); /* -0 is written as 0 */
        }
    }
    assert_int_equal(strstr(trace->info.held_out, "weights were not recorded") == NULL, a->weights);
}

static void test_import(void **state)
{
    (void)state;
    static const mixt_dtype types[] = {MIXT_DTYPE_I32, MIXT_DTYPE_I64, MIXT_DTYPE_U16,
                                       MIXT_DTYPE_U8,  MIXT_DTYPE_U32, MIXT_DTYPE_I8,
                                       MIXT_DTYPE_U64, MIXT_DTYPE_I16};
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    for (int i = 0; i < 8; i++) {
        const arrays a = {.key = i % 4 < 2 ? NULL : "domains",
                          .value = "[\"code\", \"prose\"]",
                          .ids = types[i],
                          .layers_first = i % 2 != 0,
                          .weights = i % 3 == 0,
                          .domains = i % 4 >= 2,
                          .expert = 1,
                          .documents = T};
        char from[128], to[128];
        mixt_error error = MIXT_ERROR_INIT;
        write_arrays(&a, in_folder(from, "arrays"));
        if (mixt_trace_import(from, setup.tokenizer, in_folder(to, "imported"), &error) !=
            MIXT_OK) {
            fail_msg("%s", error.message);
        }
        mixt_trace *trace = read_trace(to);
        check_imported(trace, &a);
        assert_string_equal(trace->info.tokenizer_hash, mixt_tokenizer_hash(setup.tokenizer));
        mixt_trace_free(trace);
    }
    train_setup_close(&setup);
}

/* Arrays that a trace may have beside come through as they are. */
static void test_import_signals(void **state)
{
    (void)state;
    char *bytes;
    size_t length;
    char from[128], to[128];
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_trace *whole = read_trace(SIGNALS);
    mixt_safetensors *file;
    mixt_safetensors_writer *out;
    assert_int_equal(mixt_safetensors_open(SIGNALS, &file, NULL), MIXT_OK);
    assert_int_equal(mixt_safetensors_writer_create(in_folder(from, "arrays"), 0, &out, NULL), 0);
    mixt_safetensors_writer_metadata(out, "domains", "[\"text\", \"code\", \"math\"]", NULL);
    mixt_safetensors_writer_metadata(out, "layers", "[1, 3, 5]", NULL);
    mixt_safetensors_writer_metadata(out, "model", "signals", NULL);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < mixt_safetensors_count(file); i++) {
            const mixt_tensor_info *tensor = mixt_safetensors_tensor(file, i);
            if (strncmp(tensor->name, "vocab", 5) == 0) {
                continue;
            }
            if (pass == 0) {
                mixt_safetensors_writer_add(out, tensor->name, tensor->dtype, tensor->rank,
                                            tensor->shape, NULL);
                continue;
            }
            bytes = malloc((size_t)tensor->bytes);
            length = (size_t)tensor->bytes;
            assert_int_equal(mixt_safetensors_read(file, tensor, 0, length, bytes, NULL), 0);
            assert_int_equal(mixt_safetensors_writer_write(out, bytes, length, NULL), MIXT_OK);
            free(bytes);
        }
        if (pass == 0) {
            assert_int_equal(mixt_safetensors_writer_begin(out, NULL), MIXT_OK);
        }
    }
    assert_int_equal(mixt_safetensors_writer_finish(out, NULL), MIXT_OK);
    mixt_safetensors_writer_free(out);
    mixt_safetensors_close(file);
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_import(from, setup.tokenizer, in_folder(to, "imported"), &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    mixt_trace *trace = read_trace(to);
    assert_same(trace, whole);
    assert_memory_equal(trace->layer_numbers, whole->layer_numbers, 3 * sizeof(int));
    assert_string_equal(trace->info.held_out, "");
    mixt_trace_free(trace);
    mixt_trace_free(whole);
    train_setup_close(&setup);
}

static void test_import_refused(void **state)
{
    (void)state;
    static const struct {
        arrays a;
        const char *message;
    } cases[] = {
        {{.key = "format", .value = "mixt-trace"}, "is a trace already"},
        {{.key = "seed", .value = "1"}, "__metadata__ \"seed\": not known to an import"},
        {{.key = "experts", .value = "x"}, "\"experts\": must be a decimal number"},
        {{.key = "experts", .value = "3"}, "token 1, layer 0: expert 3 out of range or twice"},
        {{.key = "experts", .value = "0"}, "2 of 0 experts"},
        {{.key = "layers", .value = "[1]"}, "\"layers\": 1 entries, but there are 2 layers"},
        {{.key = "layers", .value = "[1, -2]"}, "\"layers\": entry 1 is -2"},
        {{.key = "layers", .value = "[3, 3]"}, "layer numbers must rise from 0 or more"},
        {{.key = "layers", .value = "[3, 1]"}, "layer numbers must rise from 0 or more"},
        {{.key = "domains", .value = "[1]"}, "\"domains\": must be a JSON array of strings"},
        {{.key = "tokenizer_hash", .value = "abcd"}, "was recorded with another tokenizer"},
        {{.domains = true}, "there is a tensor domain, but __metadata__ has no \"domains\""},
        {{.key = "domains", .value = "[\"code\"]", .domains = true}, "2 tokens of domain 1"},
        {{.extra = "hidden_states"}, "tensor \"hidden_states\": not known to an import"},
        {{.extra = "predicted", .documents = 4}, "document: dimension 0 is 4, must be 5"},
        {{.extra = "margins"}, "margins: type U8, must be F32, F16 or BF16"},
        {{.extra = "ahead"}, "ahead: 1 dimensions, must be 3"},
        {{.no_tokens = true}, "must have tokens, and either experts or routed_experts"},
        {{.both = true}, "must have tokens, and either experts or routed_experts"},
        {{.expert = 4}, "token 1, layer 0: expert 4 out of range or twice"},
        {{.expert = -2}, "token 1, layer 0: expert -2 out of range or twice"},
        {{.expert = 3}, "token 1, layer 0: expert 3 out of range or twice"},
        {{.weights = true, .no_number = true},
         "layer 0: expert 0 has a weight that is not a number"},
        {{.first = -1}, "document -1 of domain 0 behind document -1 of domain -1"},
        {{.ids = MIXT_DTYPE_F32}, "tokens: type F32, must be whole numbers"},
    };
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arrays a = cases[i].a;
        char from[128], to[128];
        mixt_error error = MIXT_ERROR_INIT;
        a.ids = a.ids != MIXT_DTYPE_UNKNOWN ? a.ids : MIXT_DTYPE_I32;
        a.expert = a.expert != 0 ? a.expert : 1;
        a.documents = a.documents != 0 ? a.documents : T;
        write_arrays(&a, in_folder(from, "arrays"));
        mixt_status status =
            mixt_trace_import(from, setup.tokenizer, in_folder(to, "never"), &error);
        if (!mixt_status_is_refusal(status) || strstr(error.message, cases[i].message) == NULL ||
            strchr(error.message, '\n') != NULL) {
            fail_msg("expected \"%s\", was told \"%s\"", cases[i].message, error.message);
        }
        assert_true(i == 4 || strstr(error.message, from) != NULL);
        assert_int_not_equal(access(to, F_OK), 0);
    }
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),           cmocka_unit_test(test_join_refused),
        cmocka_unit_test(test_import),         cmocka_unit_test(test_import_signals),
        cmocka_unit_test(test_import_refused),
    };
    return cmocka_run_group_tests_name("trace_join", tests, enter_folder, leave_folder);
}
