/* SentencePiece vocabularies and those of GGUF files: ids against sentencepiece and tokenizers
 * (tests/reference/tokenizer_vectors.py fixtures made models and ids), the way into GGUF and back,
 * and files that are not as they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "guard.h"
#include "mixt.h"
#include "tokenizer/protobuf.h"
#include "tokenizer/tokenizer.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/tokenizer/"
#define PIECES FIXTURES "pieces/"

static size_t from_hexadecimal(const char *line, size_t length, char *to)
{
    for (size_t i = 0; i + 1 < length; i += 2) {
        char digits[3] = {line[i], line[i + 1], '\0'};
        to[i / 2] = (char)strtoul(digits, NULL, 16);
    }
    return length / 2;
}

/* --- Ids ---------------------------------------------------------------------------------------
 */

typedef void (*each_text)(void *user, const char *text, size_t length, bool special);

/* Every string of strings.hex; `passes` 2: then again with special tokens. */
static void for_each(int passes, each_text function, void *user)
{
    size_t length;
    char *strings = read_file(FIXTURES "strings.hex", &length);
    for (int special = 0; special < passes; special++) {
        for (const char *hex = strings; *hex != '\0';) {
            char text[4096];
            size_t hex_length = strcspn(hex, "\n");
            assert_true(hex_length / 2 <= sizeof text);
            size_t size = from_hexadecimal(hex, hex_length, text);
            function(user, text, size, special != 0);
            hex += hex_length + 1;
        }
    }
    free(strings);
}

typedef struct expected {
    const mixt_tokenizer *tokenizer;
    char *line;
    const char *name;
} expected;

static void expect_line(void *user, const char *text, size_t length, bool special)
{
    expected *e = user;
    int32_t *ids;
    size_t count, at = 0;
    char *end = strchr(e->line, '\n');
    assert_non_null(end);
    *end = '\0';
    assert_int_equal(mixt_tokenizer_encode(e->tokenizer, text, length, special, &ids, &count, NULL),
                     MIXT_OK);
    for (char *word = strtok(e->line, " "); word != NULL; word = strtok(NULL, " "), at++) {
        if (at >= count || ids[at] != atoi(word)) {
            print_error("%s: \"%.*s\", token %zu: %d, expected %s\n", e->name, (int)length, text,
                        at, at < count ? ids[at] : -1, word);
            fail();
        }
    }
    assert_int_equal(at, count);
    free(ids);
    e->line = end + 1;
}

static void test_ids(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int passes;
    } files[] = {{"bpe.model", 1},        {"bpe-unused.model", 1},    {"bpe-rules.model", 1},
                 {"unigram.model", 1},    {"unigram-bytes.model", 1}, {"llama.json", 2},
                 {"llama-first.json", 2}, {"unigram.json", 2},        {"word.json", 2}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        size_t length;
        snprintf(path, sizeof path, PIECES "%s", files[i].name);
        mixt_tokenizer *tokenizer = open_tokenizer(path);
        strcat(path, ".ids");
        char *ids = read_file(path, &length);
        expected e = {tokenizer, ids, files[i].name};
        for_each(files[i].passes, expect_line, &e);
        assert_int_equal(*e.line, '\0');
        free(ids);
        mixt_tokenizer_free(tokenizer);
    }
}

/* --- To GGUF, and from there to files ------------------------------------------------------------
 */

static void expect_same(void *user, const char *text, size_t length, bool special)
{
    mixt_tokenizer **both = user;
    int32_t *ids[2];
    size_t counts[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            mixt_tokenizer_encode(both[i], text, length, special, &ids[i], &counts[i], NULL),
            MIXT_OK);
    }
    if (counts[0] != counts[1] || memcmp(ids[0], ids[1], counts[0] * sizeof *ids[0]) != 0) {
        print_error("\"%.*s\", special %d, %s\n", (int)length, text, special,
                    mixt_tokenizer_hash(both[0]));
        fail();
    }
    free(ids[0]);
    free(ids[1]);
}

static mixt_status write_gguf(const mixt_tokenizer *tokenizer, int rows, const char *path,
                              mixt_error *error)
{
    mixt_gguf_writer *writer;
    *error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_gguf_writer_create(path, 0, &writer, error), MIXT_OK);
    mixt_status status = mixt_gguf_writer_string(writer, "general.architecture", "llama", error);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_to_gguf(tokenizer, rows, writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_begin(writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_finish(writer, error);
    }
    mixt_gguf_writer_free(writer);
    return status;
}

static void expect_alike(mixt_tokenizer *a, mixt_tokenizer *b)
{
    mixt_tokenizer *both[2] = {a, b};
    for_each(2, expect_same, both);
    for (int i = 0; i <= MIXT_SPECIAL_PAD; i++) {
        int id = mixt_tokenizer_special(a, (mixt_special)i);
        if (id >= 0) { /* llama's have usual ids in GGUF */
            assert_int_equal(id, mixt_tokenizer_special(b, (mixt_special)i));
        }
    }
    assert_int_equal(mixt_tokenizer_adds_bos(a), mixt_tokenizer_adds_bos(b));
    assert_int_equal(mixt_tokenizer_adds_eos(a), mixt_tokenizer_adds_eos(b));
    for (int id = 0; id < mixt_tokenizer_vocab_size(a); id++) {
        size_t lengths[2];
        const char *bytes[2] = {mixt_tokenizer_bytes_of(a, id, &lengths[0]),
                                mixt_tokenizer_bytes_of(b, id, &lengths[1])};
        if (bytes[0] != NULL && id != mixt_tokenizer_special(a, MIXT_SPECIAL_UNKNOWN)) {
            assert_int_equal(lengths[0], lengths[1]);
            assert_memory_equal(bytes[0], bytes[1], lengths[0]);
        }
        assert_int_equal(mixt_tokenizer_is_end(a, id), mixt_tokenizer_is_end(b, id));
    }
}

static void test_gguf(void **state)
{
    (void)state;
    static const char *const files[] = {PIECES "bpe.model",        PIECES "bpe-unused.model",
                                        PIECES "unigram.model",    PIECES "llama.json",
                                        PIECES "llama-first.json", FIXTURES "small"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        mixt_error error;
        mixt_tokenizer *tokenizer = open_tokenizer(files[i]);
        int size = mixt_tokenizer_vocab_size(tokenizer);
        snprintf(path, sizeof path, "%s/vocabulary.gguf", scratch);
        if (write_gguf(tokenizer, size + 3, path, &error) != MIXT_OK) {
            print_error("%s: %s\n", files[i], error.message);
            fail();
        }
        mixt_tokenizer *other = open_tokenizer(path);
        assert_int_equal(mixt_tokenizer_vocab_size(other), size + 3);
        expect_alike(tokenizer, other);
        char saved[128];
        snprintf(saved, sizeof saved, "%s/saved-%zu", scratch, i);
        assert_int_equal(mixt_tokenizer_save(other, saved, &error), MIXT_OK);
        mixt_tokenizer *third = open_tokenizer(saved);
        expect_alike(tokenizer, third);
        mixt_tokenizer_free(third);
        if (strstr(files[i], "/llama") !=
            NULL) { /* without its tokenizer.json, another program's */
            free(other->json);
            other->json = NULL;
            assert_int_equal(mixt_tokenizer_save(other, saved, &error), MIXT_ERROR_UNSUPPORTED);
            assert_non_null(strstr(error.message, "user-defined"));
        }
        mixt_tokenizer_free(other);
        mixt_tokenizer_free(tokenizer);
    }
}

static void test_no_gguf_form(void **state)
{
    (void)state;
    static const char *const files[][2] = {{PIECES "bpe-rules.model", "normaliser"},
                                           {PIECES "unigram-bytes.model", "byte_fallback"},
                                           {PIECES "unigram.json", "Unigram"},
                                           {PIECES "word.json", "pre_tokenizer"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        mixt_error error;
        mixt_tokenizer *tokenizer = open_tokenizer(files[i][0]);
        snprintf(path, sizeof path, "%s/none.gguf", scratch);
        assert_int_equal(write_gguf(tokenizer, mixt_tokenizer_vocab_size(tokenizer), path, &error),
                         MIXT_ERROR_UNSUPPORTED);
        assert_non_null(strstr(error.message, files[i][1]));
        assert_false(mixt_path_exists(path));
        mixt_tokenizer_free(tokenizer);
    }
}

/* --- Round trips ---------------------------------------------------------------------------------
 */

static void round_trip(const mixt_tokenizer *tokenizer, const char *text, size_t length)
{
    int32_t *ids;
    size_t count, back_length;
    char *back;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_encode(tokenizer, text, length, false, &ids, &count, &error),
                     MIXT_OK);
    assert_int_equal(
        mixt_tokenizer_decode(tokenizer, ids, count, false, &back, &back_length, &error), MIXT_OK);
    assert_int_equal(back_length, length);
    assert_memory_equal(back, text, length);
    free(back);
    free(ids);
}

static void test_random_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {PIECES "bpe.model", PIECES "unigram-bytes.model",
                                        PIECES "llama.json"};
    mixt_random_key key = {11, MIXT_RANDOM_DATA, 0};
    uint64_t index = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        mixt_tokenizer *tokenizer = open_tokenizer(files[i]);
        char text[256];
        for (int j = 0; j < 256; j++) {
            text[j] = (char)j;
        }
        round_trip(tokenizer, text, 256);
        for (int repeat = 0; repeat < 300; repeat++) {
            size_t length = mixt_random_below(&key, index++, sizeof text + 1);
            for (size_t j = 0; j < length; j++) {
                uint64_t draw = mixt_random_bits(&key, index++);
                text[j] =
                    draw % 4 == 0 ? (char)(draw >> 8) : "  the expert\n\xc3\xa9\xe4\xb8"[draw % 17];
            }
            round_trip(tokenizer, text, length);
        }
        mixt_tokenizer_free(tokenizer);
    }
}

static void test_long_runs(void **state)
{
    (void)state;
    static const char *const files[] = {PIECES "bpe.model", PIECES "unigram.model",
                                        PIECES "llama.json"};
    static const char *const units[] = {"a", " ", "\u0301", "\xff", "<tool>"};
    const size_t longest = (size_t)guard_few(1000000, 100000);
    char *text = malloc(longest + 8);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        mixt_tokenizer *tokenizer = open_tokenizer(files[i]);
        for (size_t j = 0; j < sizeof units / sizeof *units; j++) {
            size_t size = strlen(units[j]), length = 0, count;
            int32_t *ids;
            while (length < longest) {
                memcpy(text + length, units[j], size);
                length += size;
            }
            clock_t start = clock();
            assert_int_equal(
                mixt_tokenizer_encode(tokenizer, text, length, true, &ids, &count, NULL), MIXT_OK);
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            free(ids);
            assert_true(seconds < 20); /* quadratic would be hours */
        }
        mixt_tokenizer_free(tokenizer);
    }
    free(text);
}

/* --- tokenizer.model ----------------------------------------------------------------------------
 */

typedef struct piece {
    const char *text;
    float score;
    uint64_t type; /* 0: not written */
} piece;

static void write_piece(mixt_buffer *to, const piece *p)
{
    mixt_buffer one = {0};
    mixt_message_write_bytes(&one, 1, p->text, strlen(p->text));
    mixt_message_write_float(&one, 2, p->score);
    if (p->type != 0) {
        mixt_message_write_number(&one, 3, p->type);
    }
    mixt_message_write_bytes(to, 1, one.data, one.length);
    mixt_buffer_free(&one);
}

static void write_settings(mixt_buffer *to, uint64_t model_type, bool fallback, const char *map,
                           size_t map_length)
{
    mixt_buffer one = {0};
    mixt_message_write_number(&one, 3, model_type);
    mixt_message_write_number(&one, 35, fallback);
    mixt_message_write_bytes(to, 2, one.data, one.length);
    one.length = 0;
    mixt_message_write_bytes(&one, 2, map, map_length);
    mixt_message_write_bytes(to, 3, one.data, one.length);
    mixt_buffer_free(&one);
}

static const piece tiny[] = {{"<unk>", 0, 2},   {"<s>", 0, 3},       {"</s>", 0, 3},
                             {"a", -1, 0},      {"b", -2, 1},        {"ab", -0.5f, 1},
                             {"\u2581", -3, 1}, {"\u2581ab", -4, 5}, {"<u>", 0, 4}};

static mixt_status open_model(const mixt_buffer *model, mixt_tokenizer **tokenizer,
                              mixt_error *error)
{
    char *exact = malloc(model->length + 1); /* so that reading behind it is noticed */
    memcpy(exact, model->data, model->length);
    *error = (mixt_error)MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_from_model(exact, model->length, NULL, tokenizer, error);
    free(exact);
    return status;
}

static void expect_refused(mixt_buffer *model, const char *part)
{
    mixt_tokenizer *tokenizer;
    mixt_error error;
    mixt_status status = open_model(model, &tokenizer, &error);
    if (!mixt_status_is_refusal(status) || strstr(error.message, part) == NULL) {
        print_error("expected \"%s\": %s\n", part, error.message);
        fail();
    }
    assert_null(tokenizer);
    mixt_buffer_free(model);
}

static void test_refused_models(void **state)
{
    (void)state;
    static const struct {
        piece extra;
        const char *part;
    } pieces[] = {
        {{"a", 0, 1}, "earlier piece"},   {{"<unk2>", 0, 2}, "a second one"},
        {{"", 0, 1}, "no text"},          {{"x", 0, 7}, "type 7"},
        {{"x", 0.0f / 0.0f, 1}, "score"}, {{"x", 1.0f / 0.0f, 1}, "score"},
        {{"<0x-1>", 0, 6}, "byte"},       {{"<0x41>", 0, 6}, "byte_fallback"},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        mixt_buffer model = {0};
        for (size_t j = 0; j < sizeof tiny / sizeof *tiny; j++) {
            write_piece(&model, &tiny[j]);
        }
        write_piece(&model, &pieces[i].extra);
        write_settings(&model, 2, false, "", 0);
        expect_refused(&model, pieces[i].part);
    }
    static const struct {
        uint64_t type;
        const char *map;
        size_t map_length;
        const char *part;
    } settings[] = {
        {3, "", 0, "\"word\""},
        {4, "", 0, "\"char\""},
        {9, "", 0, "model_type"},
        {2, "abc", 3, "charsmap"},
        {2, "\4\0\0\0abcdx", 9, "charsmap"},
        {2,
         "\xff\xff\xff\xff"
         "abcd\0",
         9, "charsmap"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        mixt_buffer model = {0};
        for (size_t j = 0; j < sizeof tiny / sizeof *tiny; j++) {
            write_piece(&model, &tiny[j]);
        }
        write_settings(&model, settings[i].type, false, settings[i].map, settings[i].map_length);
        expect_refused(&model, settings[i].part);
    }
    mixt_buffer model = {0};
    write_piece(&model, &tiny[3]);
    expect_refused(&model, "unknown");
    mixt_buffer_text(&model, "{}");
    expect_refused(&model, "tokenizer.model");
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_open(PIECES "char.model", &tokenizer, &error),
                     MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "\"char\""));
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_from_model("", 0, NULL, &tokenizer, &error), MIXT_ERROR_FORMAT);
}

static void try_model(const char *data, size_t length)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_from_model(data, length, NULL, &tokenizer, &error) != MIXT_OK) {
        assert_true(error.status != MIXT_OK && error.message[0] != '\0' && tokenizer == NULL);
        return;
    }
    int32_t *ids;
    size_t count;
    mixt_tokenizer_encode(tokenizer, "ab  a\uff21\u00bd <u>\u0301\xff", 16, true, &ids, &count,
                          NULL);
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

/* Every start of a model with rules, and every byte of it changed. */
static void test_changed_models(void **state)
{
    (void)state;
    size_t length;
    char *model = read_file(PIECES "unigram.model", &length);
    for (size_t end = 0; end <= length; end++) {
        char *part = malloc(end + 1);
        memcpy(part, model, end);
        try_model(part, end);
        free(part);
    }
    for (size_t at = 0; at < length; at++) {
        char kept = model[at];
        static const char changes[] = {0, (char)0xff};
        for (size_t i = 0; i < sizeof changes; i++) {
            model[at] = changes[i];
            try_model(model, length);
        }
        for (int bit = 1; bit < 256; bit *= 128) {
            model[at] = (char)(kept ^ bit);
            try_model(model, length);
        }
        model[at] = kept;
    }
    free(model);
}

/* --- Bad vocabularies in GGUF
 * ---------------------------------------------------------------------
 */

/* What a GGUF file says of its vocabulary; NULL and 0 leave a key out. */
typedef struct vocabulary {
    const char *model, *pre;
    const char *const *tokens;
    const size_t *lengths; /* NULL: to the NUL */
    size_t count;
    const float *scores;
    const int32_t *types;
    size_t score_count, type_count; /* 0: count */
    bool swap;                      /* scores as integers, types as floats */
    const char *const *merges;
    size_t merge_count;
    uint32_t bos;
    bool add_bos;
} vocabulary;

static void add_strings(mixt_gguf_writer *writer, const char *key, const char *const *strings,
                        const size_t *given, size_t count)
{
    uint64_t lengths[32];
    assert_true(count <= 32);
    for (size_t i = 0; i < count; i++) {
        lengths[i] = given != NULL ? given[i] : strlen(strings[i]);
    }
    mixt_gguf_array array = {
        .kind = MIXT_GGUF_STRING, .count = count, .strings = strings, .lengths = lengths};
    assert_int_equal(mixt_gguf_writer_array(writer, key, &array, NULL), MIXT_OK);
}

static mixt_status open_vocabulary(const vocabulary *v, mixt_tokenizer **tokenizer,
                                   mixt_error *error)
{
    char path[128];
    mixt_gguf_writer *writer;
    snprintf(path, sizeof path, "%s/bad.gguf", scratch);
    assert_int_equal(mixt_gguf_writer_create(path, 0, &writer, NULL), MIXT_OK);
    mixt_gguf_writer_string(writer, "general.architecture", "mystery", NULL);
    mixt_gguf_writer_string(writer, "tokenizer.ggml.model", v->model, NULL);
    if (v->pre != NULL) {
        mixt_gguf_writer_string(writer, "tokenizer.ggml.pre", v->pre, NULL);
    }
    add_strings(writer, "tokenizer.ggml.tokens", v->tokens, v->lengths, v->count);
    if (v->scores != NULL) {
        mixt_gguf_array array = {.kind = v->swap ? MIXT_GGUF_I32 : MIXT_GGUF_F32,
                                 .count = v->score_count != 0 ? v->score_count : v->count,
                                 .data = v->scores};
        mixt_gguf_writer_array(writer, "tokenizer.ggml.scores", &array, NULL);
    }
    if (v->types != NULL) {
        mixt_gguf_array array = {.kind = v->swap ? MIXT_GGUF_F32 : MIXT_GGUF_I32,
                                 .count = v->type_count != 0 ? v->type_count : v->count,
                                 .data = v->types};
        mixt_gguf_writer_array(writer, "tokenizer.ggml.token_type", &array, NULL);
    }
    if (v->merges != NULL) {
        add_strings(writer, "tokenizer.ggml.merges", v->merges, NULL, v->merge_count);
    }
    if (v->bos != 0) {
        mixt_gguf_writer_u32(writer, "tokenizer.ggml.bos_token_id", v->bos, NULL);
    }
    if (v->add_bos) {
        mixt_gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", true, NULL);
    }
    *error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_gguf_writer_begin(writer, error), MIXT_OK);
    assert_int_equal(mixt_gguf_writer_finish(writer, error), MIXT_OK);
    mixt_gguf_writer_free(writer);
    return mixt_tokenizer_open(path, tokenizer, error);
}

static const char *const llama_tokens[] = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab"};
static const float llama_scores[] = {0, 0, 0, -1, -2, -3, -4, 0, 0};
static const int32_t llama_types[] = {2, 3, 3, 1, 1, 1, 1, 1, 1};
#define LLAMA                                                                                      \
    .model = "llama", .tokens = llama_tokens, .count = 7, .scores = llama_scores,                  \
    .types = llama_types
static const char *const bytes_tokens[] = {"a", "b", "\u0120", "ab", "<e>"};
#define BYTES .model = "gpt2", .pre = "gpt-2", .tokens = bytes_tokens, .count = 5

static void test_refused_vocabularies(void **state)
{
    (void)state;
    static const char *const bad_byte[] = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "<0x-1>"};
    static const char *const bad_digits[] = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "<0xZZ>"};
    static const int32_t byte_types[] = {2, 3, 3, 1, 1, 1, 6}, odd_types[] = {2, 3, 3, 1, 1, 1, 9};
    static const float endless[] = {0, 0, 0, 0, 1.0f / 0.0f, 0, 0};
    static const char *const good[] = {"a b"}, *const no_space[] = {"ab"},
                             *const unknown_half[] = {"a b", "a c"}, *const no_result[] = {"b a"};
    static const struct {
        vocabulary file;
        const char *part;
    } cases[] = {
        {{LLAMA, .score_count = 6}, "6 entries for 7 tokens"},
        {{LLAMA, .type_count = 8}, "8 entries for 7 tokens"},
        {{LLAMA, .swap = true}, "tokenizer.ggml.scores"},
        {{BYTES, .types = llama_types, .swap = true, .merges = good, .merge_count = 1},
         "tokenizer.ggml.token_type"},
        {{.model = "llama", .tokens = llama_tokens, .count = 7, .types = llama_types},
         "tokenizer.ggml.scores"},
        {{.model = "llama", .tokens = llama_tokens, .count = 7, .scores = llama_scores},
         "tokenizer.ggml.token_type"},
        {{.model = "llama",
          .tokens = bad_byte,
          .count = 7,
          .scores = llama_scores,
          .types = byte_types},
         "<0x-1>"},
        {{.model = "llama",
          .tokens = bad_digits,
          .count = 7,
          .scores = llama_scores,
          .types = byte_types},
         "<0xZZ>"},
        {{.model = "llama",
          .tokens = llama_tokens,
          .count = 7,
          .scores = llama_scores,
          .types = odd_types},
         "type 9"},
        {{.model = "llama",
          .tokens = llama_tokens,
          .count = 7,
          .scores = endless,
          .types = llama_types},
         "finite"},
        {{BYTES, .merges = good, .merge_count = 1, .add_bos = true}, "without a bos_token_id"},
        {{BYTES, .merges = no_space, .merge_count = 1}, "merges[0]"},
        {{BYTES, .merges = unknown_half, .merge_count = 2}, "merges[1]: \"a c\""},
        {{BYTES, .merges = no_result, .merge_count = 1}, "merges[0]"},
        {{BYTES}, "tokenizer.ggml.merges"},
        {{.model = "bert", .tokens = llama_tokens, .count = 7}, "\"bert\""},
        {{.model = "gpt2",
          .pre = "kimi-k2",
          .tokens = bytes_tokens,
          .count = 5,
          .merges = good,
          .merge_count = 1},
         "\"kimi-k2\""},
        {{.model = "gpt2", .tokens = bytes_tokens, .count = 5, .merges = good, .merge_count = 1},
         "tokenizer.ggml.pre: missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error;
        mixt_status status = open_vocabulary(&cases[i].file, &tokenizer, &error);
        if (!mixt_status_is_refusal(status) || strstr(error.message, cases[i].part) == NULL ||
            strstr(error.message, "bad.gguf") == NULL) {
            print_error("case %zu (%s): %s\n", i, cases[i].part, error.message);
            fail();
        }
        assert_null(tokenizer);
    }
}

/* GLM's words that are tokens are taken whole, whatever the merges make of them, as Llama 3's; none
 * of its names says that a text begins with an id. */
static void test_words_of_glm(void **state)
{
    (void)state;
    static const char *const tokens[] = {"a", "b", "ba", "ab"};
    static const char *const merges[] = {"b a"};
    static const struct {
        const char *pre;
        size_t count;
        int32_t ids[2];
    } rows[] = {{"glm4", 1, {3}},
                {"glm5", 1, {3}},
                {"minimax-m2", 2, {0, 1}},
                {"chatglm-bpe", 2, {0, 1}},
                {"dbrx", 2, {0, 1}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error;
        vocabulary file = {.model = "gpt2",
                           .pre = rows[i].pre,
                           .tokens = tokens,
                           .count = 4,
                           .merges = merges,
                           .merge_count = 1};
        assert_int_equal(open_vocabulary(&file, &tokenizer, &error), MIXT_OK);
        int32_t *ids;
        size_t count;
        assert_int_equal(mixt_tokenizer_encode(tokenizer, "ab", 2, false, &ids, &count, &error),
                         MIXT_OK);
        assert_false(mixt_tokenizer_adds_bos(tokenizer));
        assert_int_equal(count, rows[i].count);
        assert_memory_equal(ids, rows[i].ids, count * sizeof *ids);
        free(ids);
        mixt_tokenizer_free(tokenizer);
    }
}

/* What llama.cpp makes of ids beyond the vocabulary: its own default, and a word. */
static void test_ids_beyond_the_vocabulary(void **state)
{
    (void)state;
    static const uint32_t ids[] = {7, 1u << 31, UINT32_MAX};
    static const char *const good[] = {"a b"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error;
        vocabulary file = {LLAMA, .bos = ids[i]};
        assert_int_equal(open_vocabulary(&file, &tokenizer, &error), MIXT_OK);
        assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_BOS), 1);
        const char *remark = mixt_tokenizer_remark(tokenizer, 0);
        assert_true(ids[i] == UINT32_MAX ? remark == NULL : strstr(remark, "bos_token_id") != NULL);
        mixt_tokenizer_free(tokenizer);
        file = (vocabulary){LLAMA, .add_bos = true}; /* the same where the file names none */
        assert_int_equal(open_vocabulary(&file, &tokenizer, &error), MIXT_OK);
        assert_int_equal(mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS), 1);
        mixt_tokenizer_free(tokenizer);
        file =
            (vocabulary){BYTES, .merges = good, .merge_count = 1, .bos = ids[i], .add_bos = true};
        assert_int_equal(open_vocabulary(&file, &tokenizer, &error), MIXT_OK);
        assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_BOS), -1);
        assert_false(mixt_tokenizer_adds_bos(tokenizer));
        mixt_tokenizer_free(tokenizer);
    }
}

/* Equal, huge, empty and broken tokens are no reason to refuse a file. */
static void test_odd_vocabularies(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer;
    mixt_error error;
    size_t huge = 1 << 20, length;
    char *long_token = malloc(huge);
    memset(long_token, 'x', huge);
    const char *const tokens[] = {"<unk>", "<s>",      "</s>", "\u2581",   "a",
                                  "a",     long_token, "\0b",  "\xff\xfe", ""};
    const size_t lengths[] = {5, 3, 4, 3, 1, 1, huge, 2, 2, 0};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 4, 4, 1};
    static const float scores[10];
    vocabulary file = {.model = "llama",
                       .tokens = tokens,
                       .lengths = lengths,
                       .count = 10,
                       .scores = scores,
                       .types = types};
    if (open_vocabulary(&file, &tokenizer, &error) != MIXT_OK) {
        print_error("%s\n", error.message);
        fail();
    }
    for (int id = 6; id < 9; id++) {
        const char *bytes = mixt_tokenizer_bytes_of(tokenizer, id, &length);
        assert_int_equal(length, lengths[id]);
        assert_memory_equal(bytes, tokens[id], length);
    }
    round_trip(tokenizer,
               "a\0b\xff\xfe"
               "a",
               6);
    assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_BOS), 1);
    assert_true(mixt_tokenizer_adds_bos(tokenizer) && mixt_tokenizer_is_end(tokenizer, 2));
    mixt_tokenizer_free(tokenizer);
    free(long_token);
}

/* --- Beside the vocabulary ----------------------------------------------------------------------
 */

static void write_beside(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/beside/%s", scratch, name);
    assert_int_equal(mixt_file_replace(path, text, strlen(text), NULL), MIXT_OK);
}

static void test_config(void **state)
{
    (void)state;
    char path[128];
    size_t length;
    mixt_tokenizer *tokenizer;
    snprintf(path, sizeof path, "%s/beside", scratch);
    assert_int_equal(mixt_folder_create(path, NULL), MIXT_OK);
    char *model = read_file(PIECES "bpe.model", &length);
    snprintf(path, sizeof path, "%s/beside/tokenizer.model", scratch);
    assert_int_equal(mixt_file_replace(path, model, length, NULL), MIXT_OK);
    free(model);
    snprintf(path, sizeof path, "%s/beside", scratch);
    write_beside("tokenizer_config.json",
                 "{\"bos_token\":{\"content\":\"[INST]\"},\"eos_token\":\"[/INST]\","
                 "\"pad_token\":\"nobody\",\"add_bos_token\":false,\"add_eos_token\":true,"
                 "\"chat_template\":[{\"name\":\"tools\",\"template\":\"no\"},"
                 "{\"name\":\"default\",\"template\":\"{{ x }}\"}]}");
    tokenizer = open_tokenizer(path);
    int end = mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_EOS);
    assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_BOS), end - 1);
    /* a named token that no piece spells is the next one, as in transformers */
    assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_PAD),
                     mixt_tokenizer_vocab_size(tokenizer) - 1);
    assert_true(mixt_tokenizer_is_end(tokenizer, end) && mixt_tokenizer_adds_eos(tokenizer) &&
                !mixt_tokenizer_adds_bos(tokenizer));
    assert_string_equal(mixt_tokenizer_chat_template(tokenizer), "{{ x }}");
    mixt_tokenizer_free(tokenizer);
    write_beside("chat_template.jinja", "{{ y }}");
    tokenizer = open_tokenizer(path);
    assert_string_equal(mixt_tokenizer_chat_template(tokenizer), "{{ y }}");
    char saved[128];
    snprintf(saved, sizeof saved, "%s/beside-saved", scratch);
    assert_int_equal(mixt_tokenizer_save(tokenizer, saved, NULL), MIXT_OK);
    mixt_tokenizer *again = open_tokenizer(saved);
    expect_alike(tokenizer, again);
    assert_string_equal(mixt_tokenizer_chat_template(again), "{{ y }}");
    assert_string_equal(mixt_tokenizer_hash(again), mixt_tokenizer_hash(tokenizer));
    mixt_tokenizer_free(again);
    mixt_tokenizer_free(tokenizer);
    write_beside("tokenizer_config.json", "{\"chat_template\":3}");
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_open(path, &tokenizer, &error), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "chat_template"));
    assert_null(tokenizer);
}

static void test_decoding(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer = open_tokenizer(PIECES "bpe.model");
    const char text[] = "the expert</s>the<s> x";
    int32_t *ids;
    size_t count, length;
    char *back;
    assert_int_equal(mixt_tokenizer_encode(tokenizer, text, strlen(text), true, &ids, &count, NULL),
                     MIXT_OK);
    assert_int_equal(mixt_tokenizer_decode(tokenizer, ids, count, false, &back, &length, NULL),
                     MIXT_OK);
    assert_string_equal(back, text);
    free(back);
    assert_int_equal(mixt_tokenizer_decode(tokenizer, ids, count, true, &back, &length, NULL),
                     MIXT_OK);
    assert_string_equal(back, "the expertthe x");
    free(back);
    ids[0] = mixt_tokenizer_vocab_size(tokenizer);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_decode(tokenizer, ids, count, true, &back, &length, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_null(back);
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

/* ------------------------------------------------------------------------------------------------
 */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_no_gguf_form),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_refused_models),
        cmocka_unit_test(test_changed_models),
        cmocka_unit_test(test_refused_vocabularies),
        cmocka_unit_test(test_words_of_glm),
        cmocka_unit_test(test_ids_beyond_the_vocabulary),
        cmocka_unit_test(test_odd_vocabularies),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_decoding),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
