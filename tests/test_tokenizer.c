/* Tokenizers against Hugging Face's (tests/reference/tokenizer.py made the expected ids), and what
 * happens to files and texts that are not as they should be.
 *
 * Called with "encode TOKENIZER.json 0|1" it encodes hexadecimal lines, and with "train FOLDER" it
 * writes the small vocabulary, for that script. */
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
#include "tokenizer/tokenizer.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/tokenizer/"
#define SMALL_VOCABULARY 640

typedef struct one_text {
    const char *text;
    size_t length;
} one_text;

static const char *give_text(void *user, size_t *length)
{
    one_text *once = user;
    const char *text = once->text;
    once->text = NULL;
    *length = once->length;
    return text;
}

static mixt_tokenizer *train(const char *text, size_t length, int vocab_size)
{
    one_text once = {text, length};
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_train(give_text, &once, vocab_size, &tokenizer, &error) != MIXT_OK) {
        print_error("%s\n", error.message);
        fail();
    }
    return tokenizer;
}

static size_t from_hexadecimal(const char *line, size_t length, char *to)
{
    for (size_t i = 0; i + 1 < length; i += 2) {
        char digits[3] = {line[i], line[i + 1], '\0'};
        to[i / 2] = (char)strtoul(digits, NULL, 16);
    }
    return length / 2;
}

/* --- Against Hugging Face -----------------------------------------------------------------------
 */

static void compare_line(mixt_tokenizer *tokenizer, const char *hex, size_t hex_length, char *ids,
                         bool special)
{
    char text[4096];
    int32_t *got;
    size_t count, at = 0;
    mixt_error error = MIXT_ERROR_INIT;
    assert_true(hex_length / 2 <= sizeof text);
    size_t length = from_hexadecimal(hex, hex_length, text);
    assert_int_equal(mixt_tokenizer_encode(tokenizer, text, length, special, &got, &count, &error),
                     MIXT_OK);
    for (char *word = strtok(ids, " "); word != NULL; word = strtok(NULL, " "), at++) {
        if (at >= count || got[at] != atoi(word)) {
            print_error("text %.*s, token %zu: %d, expected %s\n", (int)length, text, at,
                        at < count ? got[at] : -1, word);
            fail();
        }
    }
    assert_int_equal(at, count);
    free(got);
}

/* Every string of strings.hex, first without special tokens, then with them. */
static void compare_ids(mixt_tokenizer *tokenizer, const char *ids_path)
{
    size_t length;
    char *strings = read_file(FIXTURES "strings.hex", &length);
    char *ids = read_file(ids_path, &length), *id_line = ids;
    int lines = 0;
    for (int special = 0; special < 2; special++) {
        for (const char *hex = strings; *hex != '\0'; lines++) {
            size_t hex_length = strcspn(hex, "\n");
            char *end = strchr(id_line, '\n');
            assert_non_null(end);
            *end = '\0';
            compare_line(tokenizer, hex, hex_length, id_line, special != 0);
            hex += hex_length + 1;
            id_line = end + 1;
        }
    }
    assert_int_equal(*id_line, '\0');
    assert_true(lines > 200);
    free(strings);
    free(ids);
}

static void test_training(void **state)
{
    (void)state;
    size_t length, merges_length, json_length, saved_length;
    char *text = read_file(FIXTURES "training.txt", &length);
    char *merges = read_file(FIXTURES "merges.txt", &merges_length), *line = merges;
    char *json = read_file(FIXTURES "small/tokenizer.json", &json_length);
    mixt_tokenizer *tokenizer = train(text, length, SMALL_VOCABULARY);
    assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), SMALL_VOCABULARY);
    assert_int_equal(mixt_tokenizer_separator(tokenizer), 256);
    char in_json[1 << 14] = "\"merges\":[\n\"";
    for (char *to = in_json + strlen(in_json); *line != '\0'; line++) { /* as JSON holds them */
        if (*line == '\n') {
            to += sprintf(to, line[1] == '\0' ? "\"" : "\",\n\"");
        } else {
            if (*line == '"' || *line == '\\') {
                *to++ = '\\';
            }
            *to++ = *line;
        }
        *to = '\0';
    }
    assert_non_null(strstr(tokenizer->json, in_json));
    char path[128];
    assert_int_equal(mixt_tokenizer_save(tokenizer, scratch, NULL), MIXT_OK);
    snprintf(path, sizeof path, "%s/tokenizer.json", scratch);
    char *saved = read_file(path, &saved_length);
    assert_int_equal(saved_length, json_length);
    assert_memory_equal(saved, json, json_length);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", scratch);
    char *config = read_file(path, &length);
    assert_non_null(strstr(config, "\"eos_token\": \"<|endoftext|>\""));
    assert_non_null(strstr(config, "\"tokenizer_class\": \"PreTrainedTokenizerFast\""));
    mixt_tokenizer *again = open_tokenizer(scratch);
    assert_string_equal(mixt_tokenizer_hash(again), mixt_tokenizer_hash(tokenizer));
    assert_int_equal(strlen(mixt_tokenizer_hash(again)), 64);
    compare_ids(again, FIXTURES "small.ids");
    mixt_tokenizer_free(again);
    mixt_tokenizer_free(tokenizer);
    free(config);
    free(saved);
    free(json);
    free(merges);
    free(text);
}

static void test_known_vocabularies(void **state)
{
    (void)state;
    static const char *const known[][2] = {
        {"gpt2/tokenizer.json", FIXTURES "gpt2.ids"},
        {"olmo-gpt-neox/allenai_gpt-neox-olmo-dolma-v1_5.json", FIXTURES "neox.ids"},
        {"olmo-gpt-neox/allenai_dolma2.json", FIXTURES "dolma2.ids"},
    };
    const char *shared = getenv("MIXT_SHARED");
    int found = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/tokenizers/%s", shared != NULL ? shared : "../shared",
                 known[i][0]);
        if (!mixt_path_exists(path)) {
            print_message("SKIPPED: no %s (set MIXT_SHARED)\n", path);
            continue;
        }
        mixt_tokenizer *tokenizer = open_tokenizer(path);
        compare_ids(tokenizer, known[i][1]);
        mixt_tokenizer_free(tokenizer);
        found++;
    }
    if (found == 0) {
        skip();
    }
}

/* --- Round trips ---------------------------------------------------------------------------------
 */

static size_t round_trip(const mixt_tokenizer *tokenizer, const char *text, size_t length)
{
    int32_t *ids;
    size_t count, at = 0;
    assert_int_equal(mixt_tokenizer_encode(tokenizer, text, length, false, &ids, &count, NULL),
                     MIXT_OK);
    for (size_t i = 0; i < count; i++) {
        size_t size;
        const char *bytes = mixt_tokenizer_bytes_of(tokenizer, ids[i], &size);
        assert_non_null(bytes);
        assert_true(size <= length - at);
        if (memcmp(text + at, bytes, size) != 0) {
            fail();
        }
        at += size;
    }
    assert_int_equal(at, length);
    free(ids);
    return count;
}

static void test_random_bytes(void **state)
{
    (void)state;
    mixt_tokenizer *small = open_tokenizer(FIXTURES "small"), *bytes;
    assert_int_equal(mixt_tokenizer_bytes(&bytes, NULL), MIXT_OK);
    assert_int_equal(mixt_tokenizer_vocab_size(bytes), 257);
    mixt_random_key key = {7, MIXT_RANDOM_DATA, 0};
    uint64_t index = 0;
    for (int i = 0; i < 500; i++) {
        char text[300];
        size_t length = mixt_random_below(&key, index++, sizeof text + 1);
        for (size_t j = 0; j < length; j++) {
            uint64_t draw = mixt_random_bits(&key, index++);
            text[j] =
                draw % 3 == 0 ? (char)(draw >> 8) : " etaoin's\n\xc3\xa9\xe4\xb8\xad"[draw % 16];
        }
        round_trip(small, text, length);
        assert_int_equal(round_trip(bytes, text, length), length);
    }
    char all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    round_trip(small, all, 256);
    assert_int_equal(round_trip(bytes, all, 256), 256);
    mixt_tokenizer_free(small);
    mixt_tokenizer_free(bytes);
}

/* Long words of one kind must not take quadratic time. */
static void test_long_runs(void **state)
{
    (void)state;
    static const char *const units[] = {"^",  "A",      " ",    "\n", "0", "\u0301", "\u0300\u0316",
                                        "a'", "\u4e2d", "\xff", " \n"};
    const size_t longest = (size_t)guard_few(1000000, 100000);
    mixt_tokenizer *small = open_tokenizer(FIXTURES "small");
    assert_true(mixt_normalizer_add_form(small->normalizer, MIXT_NFC));
    char *text = malloc(longest + 8);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t size = strlen(units[i]), length = 0;
        int32_t *ids;
        size_t count;
        while (length < longest) {
            memcpy(text + length, units[i], size);
            length += size;
        }
        clock_t start = clock();
        assert_int_equal(mixt_tokenizer_encode(small, text, length, true, &ids, &count, NULL),
                         MIXT_OK);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        free(ids);
        if (seconds > 20) { /* quadratic would be hours; sanitizers and busy machines are slow */
            print_error("%s: %.1f s\n", units[i], seconds);
            fail();
        }
    }
    free(text);
    mixt_tokenizer_free(small);
}

/* --- Training ------------------------------------------------------------------------------------
 */

static void test_training_edges(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    one_text none = {NULL, 0};
    assert_int_equal(mixt_tokenizer_train(give_text, &none, 256, &tokenizer, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_null(tokenizer);
    tokenizer = train("", 0, 1000);
    assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), 257);
    mixt_tokenizer_free(tokenizer);
    tokenizer = train("\xff\xfe\xff\xfe\0\0\0\0", 8, 1000); /* no UTF-8 */
    round_trip(tokenizer, "\xff\xfe\xff\xfe\0\0\0\0", 8);
    mixt_tokenizer_free(tokenizer);
    tokenizer = train("aaaaaaaaaaaaaaaa", 16, 1000); /* one word: nothing but runs */
    assert_int_equal(round_trip(tokenizer, "aaaaaaaaaaaaaaaa", 16), 2);
    mixt_tokenizer_free(tokenizer);
    char *letters = malloc(200000);
    for (size_t i = 0; i < 200000; i++) {
        letters[i] = (char)('a' + i * i % 7 + i % 3);
    }
    mixt_tokenizer *first = train(letters, 200000, 600), *second = train(letters, 200000, 600);
    assert_string_equal(mixt_tokenizer_hash(first), mixt_tokenizer_hash(second));
    round_trip(first, letters, 200000);
    mixt_tokenizer_free(first);
    mixt_tokenizer_free(second);
    free(letters);
}

/* --- Files
 * ---------------------------------------------------------------------------------------- */

/* A tokenizer of a few letters; %s places: added tokens, normalizer, pre-tokenizer, decoder, start
 * of the model, vocabulary, merges. */
#define TINY_ADDED "{\"id\":9,\"content\":\"<|endoftext|>\",\"special\":true,\"normalized\":false}"
#define TINY_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define TINY_MODEL "\"type\":\"BPE\",\"unk_token\":null"
#define TINY_VOCABULARY "\"a\":0,\"b\":1,\"\u0120\":2,\"ab\":3,\"\u0120ab\":4"
#define TINY_MERGES "\"a b\",[\"\u0120\",\"ab\"]"

typedef struct tiny {
    const char *added, *normalizer, *pre_tokenizer, *decoder, *model, *vocabulary, *merges;
} tiny;

static mixt_status open_tiny(const tiny *t, mixt_tokenizer **tokenizer, mixt_error *error)
{
    char json[4096];
    *error = (mixt_error)MIXT_ERROR_INIT;
    int length = snprintf(
        json, sizeof json,
        "{\"version\":\"1.0\",\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"post_processor\":null,\"decoder\":%s,\"model\":{%s,\"vocab\":{%s},\"merges\":[%s]}}",
        t->added != NULL ? t->added : TINY_ADDED, t->normalizer != NULL ? t->normalizer : "null",
        t->pre_tokenizer != NULL ? t->pre_tokenizer : TINY_LEVEL,
        t->decoder != NULL ? t->decoder : TINY_LEVEL, t->model != NULL ? t->model : TINY_MODEL,
        t->vocabulary != NULL ? t->vocabulary : TINY_VOCABULARY,
        t->merges != NULL ? t->merges : TINY_MERGES);
    assert_true(length < (int)sizeof json);
    return mixt_tokenizer_from_json(json, (size_t)length, tokenizer, error);
}

static void expect_ids(mixt_tokenizer *tokenizer, const char *text, bool special,
                       const int32_t *expected, size_t expected_count)
{
    int32_t *ids;
    size_t count;
    assert_int_equal(
        mixt_tokenizer_encode(tokenizer, text, strlen(text), special, &ids, &count, NULL), MIXT_OK);
    assert_int_equal(count, expected_count);
    assert_memory_equal(ids, expected, count * sizeof *ids);
    free(ids);
}
#define EXPECT_IDS(tokenizer, text, special, ...)                                                  \
    expect_ids(tokenizer, text, special, (const int32_t[]){__VA_ARGS__},                           \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void test_tiny(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer;
    mixt_error error;
    assert_int_equal(open_tiny(&(tiny){0}, &tokenizer, &error), MIXT_OK);
    assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), 10); /* 5 to 8 are holes */
    assert_int_equal(mixt_tokenizer_separator(tokenizer), 9);
    size_t length;
    assert_null(mixt_tokenizer_bytes_of(tokenizer, 7, &length));
    assert_null(mixt_tokenizer_bytes_of(tokenizer, -1, &length));
    assert_null(mixt_tokenizer_bytes_of(tokenizer, 10, &length));
    assert_memory_equal(mixt_tokenizer_bytes_of(tokenizer, 4, &length), " ab", 3);
    assert_int_equal(length, 3);
    EXPECT_IDS(tokenizer, "ab abb<|endoftext|>a", true, 3, 4, 1, 9, 0);
    int32_t *ids;
    size_t count;
    assert_int_equal(mixt_tokenizer_encode(tokenizer, "abc", 3, true, &ids, &count, &error),
                     MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "byte 0x63"));
    assert_null(ids);
    assert_int_equal(mixt_tokenizer_encode(tokenizer, "", 0, true, &ids, &count, NULL), MIXT_OK);
    assert_int_equal(count, 0);
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

/* Values that Hugging Face tokenizers gives for these options. */
static void test_options(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer;
    mixt_error error;
    tiny prefix = {.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"};
    assert_int_equal(open_tiny(&prefix, &tokenizer, &error), MIXT_OK);
    EXPECT_IDS(tokenizer, "ab", false, 4);
    EXPECT_IDS(tokenizer, " ab<|endoftext|>ab", true, 4, 9, 4);
    mixt_tokenizer_free(tokenizer);
    tiny whole = {.model = TINY_MODEL ",\"ignore_merges\":true", .merges = ""};
    assert_int_equal(open_tiny(&whole, &tokenizer, &error), MIXT_OK);
    EXPECT_IDS(tokenizer, "ab aba", false, 3, 2, 0, 1, 0);
    mixt_tokenizer_free(tokenizer);
    tiny split = {.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                                   "\"pattern\":{\"String\":\"b\"},\"behavior\":\"Isolated\"},"
                                   "{\"type\":\"Digits\",\"individual_digits\":true},"
                                   "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                   "\"use_regex\":false}]}"};
    assert_int_equal(open_tiny(&split, &tokenizer, &error), MIXT_OK);
    EXPECT_IDS(tokenizer, "ab ab", false, 0, 1, 2, 0, 1);
    mixt_tokenizer_free(tokenizer);
    tiny strip = {.added = "{\"id\":9,\"content\":\"bab\",\"lstrip\":true,\"rstrip\":true},"
                           "{\"id\":8,\"content\":\"ba\",\"single_word\":true}"};
    assert_int_equal(open_tiny(&strip, &tokenizer, &error), MIXT_OK);
    EXPECT_IDS(tokenizer, "a  bab  a", false, 0, 9, 0);
    EXPECT_IDS(tokenizer, "a ba a", false, 0, 2, 8, 2, 0);
    EXPECT_IDS(tokenizer, "aba", false, 3, 0);
    mixt_tokenizer_free(tokenizer);
    tiny unusual = {.normalizer = "{\"type\":\"NFC\"}", .model = "\"unk_token\":null"};
    assert_int_equal(open_tiny(&unusual, &tokenizer, &error), MIXT_OK);
    mixt_tokenizer_free(tokenizer);
}

static void test_refused(void **state)
{
    (void)state;
#define SEQUENCE(split)                                                                            \
    "{\"type\":\"Sequence\",\"pretokenizers\":[" split                                             \
    ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define REGEX(text)                                                                                \
    SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" text "\"},\"behavior\":"              \
             "\"Isolated\"}")
    static const struct {
        tiny file;
        const char *part;
    } cases[] = {
        {{.pre_tokenizer = "{\"type\":\"Whitespace\"}"}, "Whitespace"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\"}"}, "Metaspace"},
        {{.pre_tokenizer = "null"}, "pre_tokenizer"},
        {{.pre_tokenizer = SEQUENCE("{\"type\":\"Punctuation\"}")}, "Punctuation"},
        {{.pre_tokenizer = "{\"type\":\"ByteLevel\",\"use_regex\":1}"}, "use_regex"},
        {{.pre_tokenizer = SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},"
                                    "\"behavior\":\"MergedWithNext\"}")},
         "MergedWithNext"},
        {{.pre_tokenizer = REGEX("(")}, "regular expression"},
        {{.pre_tokenizer = REGEX("[")}, "regular expression"},
        {{.pre_tokenizer = REGEX("\\\\h")}, "\\h"},
        {{.pre_tokenizer = REGEX("(?<n>a)")}, "(?<n>"},
        {{.pre_tokenizer = REGEX("(*UCP)a")}, "(*UCP)"},
        {{.pre_tokenizer = REGEX("[a-z&&b]")}, "&&b"},
        {{.pre_tokenizer = REGEX("[a[b]]")}, "[b]"},
        {{.pre_tokenizer = REGEX("a{,3}")}, "{,3}"},
        {{.pre_tokenizer = REGEX("\\\\p{Nonsense}")}, "regular expression"},
        {{.normalizer = "{\"type\":\"StripAccents\"}"}, "StripAccents"},
        {{.decoder = "{\"type\":\"WordPiece\"}"}, "WordPiece"},
        {{.model = "\"type\":\"Unigram\""}, "Unigram"},
        {{.model = "\"type\":\"WordLevel\""}, "WordLevel"},
        {{.model = TINY_MODEL ",\"dropout\":0.1"}, "model.dropout"},
        {{.model = TINY_MODEL ",\"byte_fallback\":true"}, "byte_fallback"},
        {{.model = TINY_MODEL ",\"end_of_word_suffix\":\"</w>\""}, "end_of_word_suffix"},
        {{.model = TINY_MODEL ",\"continuing_subword_prefix\":\"##\""}, "continuing_subword"},
        {{.vocabulary = "\"a\":0,\"b\":0"}, "another token"},
        {{.vocabulary = "\"a\":0,\"a\":1"}, "duplicate"},
        {{.vocabulary = "\"a\":-1"}, "\"a\""},
        {{.vocabulary = "\"a\":4294967296"}, "\"a\""},
        {{.vocabulary = "\"a\":100000"}, "\"a\""},
        {{.vocabulary = "\"a\":\"0\""}, "\"a\""},
        {{.vocabulary = "\"a\":1.5"}, "\"a\""},
        {{.merges = "\"a c\""}, "model.merges[0]: \"c\""},
        {{.merges = "\"a b\",\"c a\""}, "model.merges[1]: \"c\""},
        {{.merges = "\"b a\""}, "model.merges[0]: \"ba\""},
        {{.merges = "\"ab\""}, "model.merges[0]"},
        {{.merges = "\"a b \""}, "model.merges[0]"},
        {{.merges = "[\"a\"]"}, "model.merges[0]"},
        {{.merges = "[\"a\",3]"}, "model.merges[0]"},
        {{.merges = "[\"\",\"\"]"}, "model.merges[0]"},
        {{.added = "{\"id\":4,\"content\":\"x\"}"}, "added_tokens[0]"},
        {{.added = "{\"id\":9,\"content\":\"a\"}"}, "added_tokens[0]"},
        {{.added = "{\"id\":9,\"content\":\"\"}"}, "added_tokens[0].content"},
        {{.added = "{\"content\":\"x\"}"}, "added_tokens[0]"},
        {{.added = "3"}, "added_tokens[0]"},
        {{.added = TINY_ADDED "," TINY_ADDED}, "added_tokens[1]"},
        {{.added = "{\"id\":9,\"content\":\"x\",\"lstrip\":3}"}, "lstrip"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error;
        mixt_status status = open_tiny(&cases[i].file, &tokenizer, &error);
        if (status == MIXT_OK || strstr(error.message, cases[i].part) == NULL) {
            print_error("case %zu (%s): %s\n", i, cases[i].part, error.message);
            fail();
        }
        assert_true(mixt_status_is_refusal(status));
        assert_null(tokenizer);
        assert_null(strchr(error.message, '\n'));
    }
}

static void test_catastrophic_pattern(void **state)
{
    (void)state;
    mixt_tokenizer *tokenizer;
    mixt_error error;
    tiny file = {.pre_tokenizer = REGEX("(a+)+$")};
    char text[5001];
    memset(text, 'a', 5000);
    text[5000] = 'b';
    assert_int_equal(open_tiny(&file, &tokenizer, &error), MIXT_OK);
    int32_t *ids;
    size_t count;
    mixt_status status = mixt_tokenizer_encode(tokenizer, text, 5001, false, &ids, &count, &error);
    if (status != MIXT_OK) { /* given up, or done in linear time */
        assert_non_null(strstr(error.message, "the tokenizer's regular expression gave up"));
    }
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

static void test_json(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "[]",
                                      "null",
                                      "{}",
                                      "{",
                                      "{\"model\":3}",
                                      "{} {}",
                                      "\xef\xbb\xbf{}",
                                      "{\"model\":{\"type\":\"BPE\"}}",
                                      "\"",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":1e400}"};
    mixt_tokenizer *tokenizer;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_tokenizer_from_json(bad[i], strlen(bad[i]), &tokenizer, &error);
        assert_true(status != MIXT_OK && error.message[0] != '\0');
        assert_null(tokenizer);
    }
    size_t depth = 100000;
    char *deep = malloc(depth);
    memset(deep, '[', depth);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_from_json(deep, depth, &tokenizer, &error), MIXT_ERROR_FORMAT);
    free(deep);
    char path[128];
    snprintf(path, sizeof path, "%s/missing.json", scratch);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_open(path, &tokenizer, &error), MIXT_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, path));
}

static void try_json(const char *json, size_t length)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_from_json(json, length, &tokenizer, &error) != MIXT_OK) {
        assert_true(error.status != MIXT_OK && error.message[0] != '\0');
        return;
    }
    int32_t *ids;
    size_t count;
    mixt_tokenizer_encode(tokenizer, "ab a<|endoftext|>\u0301b", 19, true, &ids, &count, NULL);
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

/* Every start of a file, and every byte of it changed. */
static void test_changed_bytes(void **state)
{
    (void)state;
    static const char replacements[] = "\"0}]{,\xff\x80:-e\\";
    mixt_tokenizer *tokenizer;
    mixt_error error;
    assert_int_equal(open_tiny(&(tiny){0}, &tokenizer, &error), MIXT_OK);
    size_t length = tokenizer->json_length;
    char *json = malloc(length);
    memcpy(json, tokenizer->json, length);
    mixt_tokenizer_free(tokenizer);
    for (size_t end = 0; end <= length; end += (size_t)guard_few(1, 17)) {
        char *part = malloc(end + 1); /* so that reading behind it is noticed */
        memcpy(part, json, end);
        try_json(part, end);
        free(part);
    }
    for (size_t at = 0; at < length; at += (size_t)guard_few(1, 17)) {
        char kept = json[at];
        for (size_t i = 0; i < sizeof replacements; i++) { /* the last one is NUL */
            json[at] = replacements[i];
            try_json(json, length);
        }
        for (int bit = 0; bit < 8; bit++) {
            json[at] = (char)(kept ^ 1 << bit);
            try_json(json, length);
        }
        json[at] = kept;
    }
    free(json);
}

/* --- For the script
 * -------------------------------------------------------------------------------- */

static int encode_lines(const char *path, bool special)
{
    mixt_tokenizer *tokenizer = open_tokenizer(path);
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&line, &capacity, stdin)) > 0;) {
        char *text = malloc((size_t)length);
        size_t size = from_hexadecimal(line, (size_t)length - 1, text), count;
        int32_t *ids;
        if (mixt_tokenizer_encode(tokenizer, text, size, special, &ids, &count, NULL) != MIXT_OK) {
            printf("-1"); /* a byte without a token */
        }
        for (size_t i = 0; i < count; i++) {
            printf(i == 0 ? "%d" : " %d", ids[i]);
        }
        printf("\n");
        free(ids);
        free(text);
    }
    free(line);
    mixt_tokenizer_free(tokenizer);
    return 0;
}

static int train_small(const char *path)
{
    size_t length;
    char *text = read_file(FIXTURES "training.txt", &length);
    mixt_tokenizer *tokenizer = train(text, length, SMALL_VOCABULARY);
    mixt_status status = mixt_tokenizer_save(tokenizer, path, NULL);
    mixt_tokenizer_free(tokenizer);
    free(text);
    return status != MIXT_OK;
}

int main(int count, char **arguments)
{
    if (count == 4 && strcmp(arguments[1], "encode") == 0) {
        return encode_lines(arguments[2], strcmp(arguments[3], "1") == 0);
    }
    if (count == 3 && strcmp(arguments[1], "train") == 0) {
        return train_small(arguments[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_known_vocabularies),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_training_edges),
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_catastrophic_pattern),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_changed_bytes),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
