/* Generated mathematics: the digest is that of a text whose 3,200 answers
 * tests/reference/mathematics.py checked with sympy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/sha256.h"
#include "mixt.h"

#define CHECKED "fa2f576cf1e5b77c5db47453adf68c92e85ea236b869599a7e722fe2f61e7076"

typedef struct collected {
    mixt_sha256 hash;
    size_t bytes, documents;
    size_t stop_after; /* documents; 0: never */
} collected;

static mixt_status collect(void *user, const char *text, size_t length, mixt_error *error)
{
    collected *all = user;
    size_t lines = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        assert_true(c == '\n' || (c >= 0x20 && c < 0x7f));
        assert_false(c == '\n' && (i == 0 || text[i - 1] == '\n')); /* no empty line */
        lines += c == '\n';
    }
    assert_int_equal(lines, 128);
    assert_int_equal(text[length - 1], '\n');
    mixt_sha256_update(&all->hash, text, length);
    all->bytes += length;
    all->documents++;
    (void)error;
    return all->documents == all->stop_after ? MIXT_ERROR_IO : MIXT_OK;
}

static mixt_status generate(uint64_t seed, size_t bytes, collected *all, char digest[65])
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_sha256_init(&all->hash);
    mixt_status status = mixt_mathematics_generate(seed, bytes, collect, all, &error);
    mixt_sha256_final_hex(&all->hash, digest);
    return status;
}

static void test_checked_text(void **state)
{
    (void)state;
    collected all = {0};
    char digest[65];
    assert_int_equal(generate(1, 200000, &all, digest), MIXT_OK);
    assert_in_range(all.bytes, 200000, 200000 + 20000);
    assert_string_equal(digest, CHECKED);
}

static void test_seeds_and_sizes(void **state)
{
    (void)state;
    collected first = {0}, second = {0}, none = {0}, one = {0};
    char a[65], b[65];
    assert_int_equal(generate(7, 300000, &first, a), MIXT_OK);
    assert_int_equal(generate(8, 300000, &second, b), MIXT_OK);
    assert_string_not_equal(a, b);
    assert_int_equal(generate(7, 0, &none, a), MIXT_OK);
    assert_int_equal(none.documents, 0);
    assert_int_equal(generate(7, 1, &one, a), MIXT_OK);
    assert_int_equal(one.documents, 1);
}

static void test_sink_stops(void **state)
{
    (void)state;
    collected all = {.stop_after = 3};
    char digest[65];
    assert_int_equal(generate(7, 1000000, &all, digest), MIXT_ERROR_IO);
    assert_int_equal(all.documents, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked_text),
        cmocka_unit_test(test_seeds_and_sizes),
        cmocka_unit_test(test_sink_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
