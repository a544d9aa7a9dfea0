/* Token data as a file: what the texts give, whichever share is held out, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/sha256.h"
#include "corpus/data.h"
#include "mixt.h"
#include "scratch.h"

enum { HEADER = 176, DOCUMENT = 32 };

static mixt_tokenizer *bytes;
static char *text_folder, *file;

static int set_up(void **state)
{
    char name[64], text[400];
    if (scratch_make(state) != 0) {
        return -1;
    }
    text_folder = scratch_path("text");
    file = scratch_path("corpus.tokens");
    mkdir(text_folder, 0777);
    for (int d = 0; d < 2; d++) {
        snprintf(name, sizeof name, "text/%s", d == 0 ? "one" : "two words");
        char *folder = scratch_path(name);
        mkdir(folder, 0777);
        for (int i = 0; i < 9; i++) {
            char path[400];
            snprintf(path, sizeof path, "%s/%d.txt", folder, i);
            int length = snprintf(text, sizeof text, "document %d of %d: \xc3\xa4 %d", i, d, i * i);
            write_file(path, text, (size_t)length);
        }
        free(folder);
    }
    return mixt_tokenizer_bytes(&bytes, NULL) == MIXT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    mixt_tokenizer_free(bytes);
    free(text_folder);
    free(file);
    return scratch_remove(state);
}

static mixt_corpus *corpus(void)
{
    mixt_corpus *opened;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_corpus_open((const char *const *)&text_folder, 1, &opened, &error), &error);
    return opened;
}

static void write_it(const mixt_tokenizer *tokenizer)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *from = corpus();
    must(mixt_data_write(from, tokenizer, file, &error), &error);
    mixt_corpus_free(from);
}

static void is_the_data_of_the_texts(void **state)
{
    static const double shares[] = {0, 0.1, 0.3, 0.9, 1};
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    write_it(bytes);
    assert_true(mixt_data_is_file(file));
    assert_false(mixt_data_is_file(text_folder));
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        mixt_corpus *from = corpus();
        mixt_data *texts, *read;
        must(mixt_data_create(from, bytes, shares[i], &texts, &error), &error);
        must(mixt_data_open(file, bytes, shares[i], &read, &error), &error);
        assert_string_equal(mixt_data_hash(read), mixt_data_hash(texts));
        assert_string_equal(mixt_data_corpus_hash(read), mixt_corpus_hash(from));
        assert_int_equal(mixt_data_domain_count(read), 2);
        for (int d = 0; d < 2; d++) {
            uint64_t tokens[2], lengths[2];
            assert_string_equal(mixt_data_domain_name(read, d), mixt_data_domain_name(texts, d));
            for (int held = 0; held < 2; held++) {
                mixt_data_domain_size(read, held, d, &tokens[0], &lengths[0]);
                mixt_data_domain_size(texts, held, d, &tokens[1], &lengths[1]);
                assert_int_equal(tokens[0], tokens[1]);
                assert_int_equal(lengths[0], lengths[1]);
            }
        }
        mixt_data_free(texts);
        mixt_data_free(read);
        mixt_corpus_free(from);
    }
}

static void calls_are_checked(void **state)
{
    mixt_data *data;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    write_it(bytes);
    must_refuse(mixt_data_open(file, bytes, 1.5, &data, &error), &error, "held-out", "from 0 to 1",
                "a share");
    error = (mixt_error)MIXT_ERROR_INIT;
    char *nothing = scratch_path("nothing/here");
    assert_int_equal(mixt_data_open(nothing, bytes, 0, &data, &error), MIXT_ERROR_NOT_FOUND);
    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_corpus *from = corpus();
    assert_int_not_equal(mixt_data_write(from, bytes, nothing, &error), MIXT_OK);
    assert_non_null(strstr(error.message, "nothing/here"));
    mixt_corpus_free(from);
    free(nothing);
}

static void expect_refused(const char *content, size_t length, const char *rule)
{
    mixt_data *data = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    write_file(file, content, length);
    must_refuse(mixt_data_open(file, bytes, 0.1, &data, &error), &error, file, rule, rule);
    assert_null(data);
}

static void every_damage_is_refused(void **state)
{
    size_t length;
    (void)state;
    write_it(bytes);
    char *good = read_file(file, &length);
    char *bad = malloc(length + 1);
    for (size_t i = 0; i < length; i++) {
        memcpy(bad, good, length);
        bad[i] ^= (char)(1 << i % 8);
        expect_refused(bad, length, "");
    }
    for (size_t i = 0; i < length; i += i < 300 ? 1 : 37) {
        expect_refused(good, i, "");
    }
    memcpy(bad, good, length);
    bad[length] = 0;
    expect_refused(bad, length + 1, "fit");
    free(bad);
    free(good);
}

/* With the checksum made right: whoever wrote the file meant it so. */
static void refuse_signed(const char *good, size_t length, size_t at, uint64_t value, size_t size,
                          const char *rule)
{
    char *bad = malloc(length);
    mixt_sha256 hash;
    memcpy(bad, good, length);
    memcpy(bad + at, &value, size);
    mixt_sha256_init(&hash);
    mixt_sha256_update(&hash, bad, length - MIXT_SHA256_BYTES);
    mixt_sha256_final(&hash, (unsigned char *)bad + length - MIXT_SHA256_BYTES);
    expect_refused(bad, length, rule);
    free(bad);
}

static void what_the_numbers_say_is_checked(void **state)
{
    size_t length;
    (void)state;
    write_it(bytes);
    char *good = read_file(file, &length);
    size_t names = strlen("one") + strlen("two words") + 2, rows = HEADER + names;
    refuse_signed(good, length, 8, 2, 4, "version 2");
    refuse_signed(good, length, 12, 3, 4, "neither 2 nor 4");
    refuse_signed(good, length, 16, UINT64_MAX, 8, "do not fit");
    refuse_signed(good, length, 24, UINT64_MAX / 32, 8, "do not fit");
    refuse_signed(good, length, 32, 0, 8, "do not fit");
    refuse_signed(good, length, 32, 3, 8, "the names of the domains are cut");
    refuse_signed(good, length, 32, 1, 8, "more names than domains");
    refuse_signed(good, length, 40, UINT64_MAX, 8, "do not fit");
    refuse_signed(good, length, 48, 'x', 1, "another tokenizer");
    refuse_signed(good, length, 112, 'x', 1, "the hash of the corpus is none");
    refuse_signed(good, length, rows, UINT64_MAX, 8, "outside of the file");
    refuse_signed(good, length, rows + DOCUMENT * 17, 1, 8, "tokens of no document");
    refuse_signed(good, length, rows + 8, UINT64_MAX, 8, "outside of the file");
    refuse_signed(good, length, rows + 24, 2, 8, "outside of the file");
    refuse_signed(good, length, rows + DOCUMENT * 18, 257, 2, "token 0 is 257");
    free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_data_of_the_texts),
        cmocka_unit_test(calls_are_checked),
        cmocka_unit_test(every_damage_is_refused),
        cmocka_unit_test(what_the_numbers_say_is_checked),
    };
    return cmocka_run_group_tests_name("data_file", tests, set_up, tear_down);
}
