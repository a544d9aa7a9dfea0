/* Classes of characters and normalizers against the tokenizers library, over all of Unicode:
 * tests/reference/tokenizer_unicode.py made tests/fixtures/tokenizer/unicode.txt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mixt.h"
#include "tokenizer/split.h"
#include "tokenizer/tokenizer.h"
#include "scratch.h"

/* --- Running a rule ----------------------------------------------------------------------------
 */

static void append_hex(mixt_buffer *to, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        mixt_buffer_format(to, "%02x", (unsigned char)bytes[i]);
    }
}

static bool append_piece(void *user, const char *word, size_t length)
{
    mixt_buffer *to = user;
    mixt_buffer_text(to, to->length != 0 ? " " : "");
    append_hex(to, word, length);
    return true;
}

static void run_split(const char *pattern, const char *text, size_t length, mixt_buffer *to)
{
    mixt_splitter *splitter = mixt_splitter_create();
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_splitter_add(splitter, pattern, false, MIXT_SPLIT_KEEP_ALL, &error), &error);
    must(mixt_splitter_run(splitter, text, length, append_piece, to, &error), &error);
    mixt_splitter_free(splitter);
}

static mixt_status open_with(const char *normalizer, mixt_tokenizer **tokenizer, mixt_error *error)
{
    mixt_buffer json = {0};
    mixt_buffer_format(&json,
                       "{\"added_tokens\":[],\"normalizer\":%s,\"pre_tokenizer\":{\"type\":"
                       "\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\","
                       "\"vocab\":{\"a\":0},\"merges\":[]}}",
                       normalizer);
    mixt_status status = mixt_tokenizer_from_json(json.data, json.length, tokenizer, error);
    mixt_buffer_free(&json);
    return status;
}

static void run_normalizer(const char *rule, const char *text, size_t length, mixt_buffer *to)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_buffer normal = {0};
    must(open_with(rule, &tokenizer, &error), &error);
    if (mixt_normalizer_keeps(tokenizer->normalizer, text, length)) {
        mixt_buffer_append(&normal, text, length);
    } else {
        mixt_normalizer_run(tokenizer->normalizer, text, length, true, &normal);
    }
    assert_false(normal.failed);
    append_hex(to, normal.data, normal.length);
    mixt_buffer_free(&normal);
    mixt_tokenizer_free(tokenizer);
}

/* ------------------------------------------------------------------------------------------------
 */

static void test_fixture(void **state)
{
    (void)state;
    size_t length;
    const char *more = getenv("UNICODE_LINES"); /* tests/reference/tokenizer_unicode.py COUNT */
    char *file = read_file(more != NULL ? more : "tests/fixtures/tokenizer/unicode.txt", &length);
    const char *rule = "";
    int lines = 0, bad = 0;
    for (char *at = file; *at != '\0'; lines++) {
        char *fields[4], text[1024];
        for (int i = 0; i < 4; i++) {
            fields[i] = at;
            at += strcspn(at, i < 3 ? "\t" : "\n");
            assert_int_equal(*at, i < 3 ? '\t' : '\n');
            *at++ = '\0';
        }
        rule = fields[1][0] != '\0' ? fields[1] : rule;
        size_t count = strlen(fields[2]) / 2;
        assert_true(count <= sizeof text);
        for (size_t i = 0; i < count; i++) {
            char digits[3] = {fields[2][2 * i], fields[2][2 * i + 1], '\0'};
            text[i] = (char)strtoul(digits, NULL, 16);
        }
        mixt_buffer got = {0};
        mixt_buffer_text(&got, "");
        (strcmp(fields[0], "split") == 0 ? run_split : run_normalizer)(rule, text, count, &got);
        mixt_buffer_append(&got, "", 1);
        if (strcmp(got.data, fields[3]) != 0) {
            fprintf(stderr, "%s: %s\n  is  %s\n  not %s\n", rule, fields[2], got.data, fields[3]);
            bad++;
        }
        mixt_buffer_free(&got);
    }
    free(file);
    print_message("%d strings, %d differ\n", lines, bad);
    assert_true(lines > 300);
    assert_int_equal(bad, 0);
}

/* Bytes that are not UTF-8 pass through every normalizer. */
static void test_broken_text(void **state)
{
    (void)state;
    static const char *const rules[] = {
        "{\"type\":\"NFD\"}",
        "{\"type\":\"NFKC\"}",
        "{\"type\":\"NFKD\"}",
        "{\"type\":\"Lowercase\"}",
        "{\"type\":\"Strip\"}",
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"y\"}"};
    static const char text[] = "\xff\xcc\xe2\x82z\xc3";
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        mixt_buffer got = {0};
        run_normalizer(rules[i], text, strlen(text), &got);
        mixt_buffer_append(&got, "", 1);
        assert_string_equal(got.data, "ffcce2827ac3");
        mixt_buffer_free(&got);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const normalizers[][2] = {
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AB*=\"}", "not base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "precompiled_charsmap"},
        {"{\"type\":\"Precompiled\"}", "not base64"},
        {"{\"type\":\"StripAccents\"}", "StripAccents"},
        {"{\"type\":\"Strip\",\"strip_left\":1}", "strip_left"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}", "regular"},
    };
    for (size_t i = 0; i < sizeof normalizers / sizeof *normalizers; i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error = MIXT_ERROR_INIT;
        assert_true(mixt_status_is_refusal(open_with(normalizers[i][0], &tokenizer, &error)));
        assert_non_null(strstr(error.message, normalizers[i][1]));
    }
    /* what a class cannot say of characters that the system does not know */
    static const char *const patterns[] = {"[\\P{L}]",   "[\\D]",       "\\pL",
                                           "[^\\p{^N}]", "[[:punct:]]", "[[:^alpha:]]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        mixt_splitter *splitter = mixt_splitter_create();
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(
            mixt_splitter_add(splitter, patterns[i], false, MIXT_SPLIT_KEEP_ALL, &error),
            MIXT_ERROR_UNSUPPORTED);
        mixt_splitter_free(splitter);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_broken_text),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
