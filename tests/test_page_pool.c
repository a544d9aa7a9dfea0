/* Which pages are whose, against a list of what everybody has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "infer/page_pool.h"

#define PAGES 24
#define CHAINS 6
#define LONGEST 8
#define BEGINNING MIXT_PAGE_BEGINNING(0)

static mixt_page_pool *open_pool(int64_t pages, bool sharing)
{
    mixt_page_pool *pool;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_page_pool_create(pages, sharing, &pool, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return pool;
}

static const int32_t *tokens_of(int text)
{
    static int32_t tokens[MIXT_ATTENTION_BLOCK];
    for (int i = 0; i < MIXT_ATTENTION_BLOCK; i++) {
        tokens[i] = text;
    }
    return tokens;
}

static void pages_are_given_out_once(void **state)
{
    (void)state;
    mixt_page_pool *pool = open_pool(3, false);
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(mixt_page_take(pool), i);
    }
    assert_int_equal(mixt_page_take(pool), -1);
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(1)), -1);
    mixt_page_release(pool, 1);
    assert_int_equal(mixt_page_pool_used(pool), 2);
    assert_int_equal(mixt_page_take(pool), 1);
    mixt_page_pool_free(pool);
}

/* The same tokens behind something else are another page; what is withdrawn, or gone, is not found,
 * nor what stood behind it. */
static void chains_are_found_by_all_their_links(void **state)
{
    (void)state;
    mixt_page_pool *pool = open_pool(3, true);
    int32_t first = mixt_page_take(pool), second = mixt_page_take(pool);
    assert_int_equal(mixt_page_publish(pool, first, BEGINNING, tokens_of(1)), first);
    uint64_t serial = mixt_page_serial(pool, first);
    assert_int_equal(mixt_page_publish(pool, second, serial, tokens_of(2)), second);
    assert_int_equal(mixt_page_find(pool, MIXT_PAGE_BEGINNING(1), tokens_of(1)), -1);
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(2)), -1);
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(1)), first);
    assert_true(mixt_page_is_shared(pool, first));
    assert_int_equal(mixt_page_find(pool, serial, tokens_of(2)), second);
    mixt_page_release(pool, second);
    mixt_page_release(pool, first);
    mixt_page_release(pool, second);
    assert_int_equal(mixt_page_pool_kept(pool), 1);
    mixt_page_withdraw(pool, first); /* its user writes other tokens */
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(1)), -1);
    assert_int_equal(mixt_page_publish(pool, first, BEGINNING, tokens_of(3)), first);
    assert_int_equal(mixt_page_find(pool, mixt_page_serial(pool, first), tokens_of(2)), -1);
    mixt_page_pool_free(pool);
}

static void what_is_there_is_not_kept_twice(void **state)
{
    (void)state;
    mixt_page_pool *pool = open_pool(2, true);
    int32_t a = mixt_page_take(pool), b = mixt_page_take(pool);
    assert_int_equal(mixt_page_publish(pool, a, BEGINNING, tokens_of(1)), a);
    assert_int_equal(mixt_page_publish(pool, b, BEGINNING, tokens_of(1)), a);
    assert_int_equal(mixt_page_pool_used(pool), 1);
    assert_int_equal(mixt_page_take(pool), b);
    mixt_page_pool_free(pool);
}

static void least_recently_used_first_out(void **state)
{
    (void)state;
    mixt_page_pool *pool = open_pool(3, true);
    int32_t pages[3];
    for (int i = 0; i < 3; i++) {
        pages[i] = mixt_page_take(pool);
        (void)mixt_page_publish(pool, pages[i], BEGINNING, tokens_of(i));
    }
    for (int i = 0; i < 3; i++) {
        mixt_page_release(pool, pages[i]);
    }
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(0)), pages[0]); /* used again */
    mixt_page_release(pool, pages[0]);
    assert_int_equal(mixt_page_take(pool), pages[1]);
    assert_int_equal(mixt_page_find(pool, BEGINNING, tokens_of(1)), -1);
    assert_int_equal(mixt_page_take(pool), pages[2]);
    assert_int_equal(mixt_page_take(pool), pages[0]);
    assert_int_equal(mixt_page_pool_kept(pool), 0);
    mixt_page_pool_free(pool);
}

/* What somebody has: pages in the order of a text, whose links are numbers. */
typedef struct chain {
    int32_t pages[LONGEST];
    int links[LONGEST], count;
} chain;

/* What was written to each page when it was published, from the beginning on. */
typedef struct content {
    int links[LONGEST], count;
} content;

static uint64_t before(const mixt_page_pool *pool, const chain *c)
{
    return c->count == 0 ? BEGINNING : mixt_page_serial(pool, c->pages[c->count - 1]);
}

static void append(mixt_page_pool *pool, chain *c, content *contents, int link)
{
    int32_t page = mixt_page_find(pool, before(pool, c), tokens_of(link));
    c->links[c->count] = link;
    if (page < 0) {
        page = mixt_page_take(pool);
        if (page < 0) {
            return;
        }
        content *written = &contents[page];
        written->count = c->count + 1;
        memcpy(written->links, c->links, sizeof written->links);
        assert_int_equal(mixt_page_publish(pool, page, before(pool, c), tokens_of(link)), page);
    }
    assert_int_equal(contents[page].count, c->count + 1);
    assert_memory_equal(contents[page].links, c->links, (size_t)(c->count + 1) * sizeof(int));
    c->pages[c->count++] = page;
}

/* Texts grow, are cut and end at random; each finds pages that hold just its beginning. */
static void random_chains(void **state)
{
    (void)state;
    mixt_page_pool *pool = open_pool(PAGES, true);
    chain chains[CHAINS] = {{.count = 0}};
    content contents[PAGES];
    mixt_random_key key = {3, MIXT_RANDOM_DATA, 0};
    int64_t found = 0;
    for (uint64_t i = 0; i < 50000; i++) {
        chain *c = &chains[mixt_random_below(&key, 4 * i, CHAINS)];
        int64_t used = mixt_page_pool_used(pool);
        if (c->count < LONGEST && mixt_random_below(&key, 4 * i + 1, 4) > 0) {
            append(pool, c, contents, (int)mixt_random_below(&key, 4 * i + 2, 3));
            found += mixt_page_pool_used(pool) == used;
        } else {
            int left = (int)mixt_random_below(&key, 4 * i + 3, (uint64_t)c->count + 1);
            while (c->count > left) {
                mixt_page_release(pool, c->pages[--c->count]);
            }
        }
        int users[PAGES] = {0}, distinct = 0;
        for (int n = 0; n < CHAINS; n++) {
            for (int p = 0; p < chains[n].count; p++) {
                distinct += users[chains[n].pages[p]]++ == 0;
            }
        }
        assert_int_equal(mixt_page_pool_used(pool), distinct);
        assert_true(mixt_page_pool_kept(pool) <= PAGES - distinct);
    }
    assert_true(found > 1000);
    mixt_page_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_given_out_once),
        cmocka_unit_test(chains_are_found_by_all_their_links),
        cmocka_unit_test(what_is_there_is_not_kept_twice),
        cmocka_unit_test(least_recently_used_first_out),
        cmocka_unit_test(random_chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
