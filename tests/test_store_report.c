/* What a store says of itself: its curve and its report, from facts that are made up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/random.h"
#include "store/report.h"

enum { LAYERS = 6, EXPERTS = 20, ITEMS = LAYERS * EXPERTS, CHOSEN = 2 };
static int32_t first[LAYERS + 1];
static const int class_of[LAYERS] = {0, 0, 0, 0, 1, 1};

static uint64_t draw(uint64_t *state, uint64_t bound)
{
    mixt_random_key key = {.seed = 31, .purpose = MIXT_RANDOM_DATA};
    return mixt_random_below(&key, (*state)++, bound);
}

static mixt_record_book *make_book(uint64_t most, int steps)
{
    mixt_record_book *book;
    uint64_t state = 0;
    assert_int_equal(mixt_record_book_create(most, &book, NULL), MIXT_OK);
    for (int step = 0; step < steps; step++) {
        mixt_record_book_step(book);
        for (int layer = 0; layer < LAYERS; layer++) {
            int a = (int)draw(&state, 1 + draw(&state, EXPERTS - 1));
            mixt_record_book_use(book, first[layer] + a, 1);
            mixt_record_book_use(book, first[layer] + a + 1, 1);
        }
    }
    return book;
}

/* 40 + 18 of 80 + 40 experts of 3 and 1 MB; a disk of 1 GB/s. */
static mixt_store_statistics statistics;
static mixt_expert_class classes[] = {{3000000, 40, 80}, {1000000, 18, 40}};
static const mixt_policy_shape shape = {.layers = LAYERS, .first = first};

static mixt_store_facts facts_of(const mixt_record_book *book)
{
    statistics = (mixt_store_statistics){.memory = 300000000,
                                         .resident_bytes = 100000000,
                                         .other_bytes = 50000000,
                                         .pool_bytes = 138000000,
                                         .expert_bytes = 280000000,
                                         .token_bytes = 28000000,
                                         .experts = ITEMS,
                                         .slots = 58,
                                         .policy = "fading",
                                         .reader = "io_uring",
                                         .steps = 1000,
                                         .rows = 1000,
                                         .requests = 12000,
                                         .hits = 9000,
                                         .bytes_read = 6000000000,
                                         .seconds = 10,
                                         .disk_seconds = 6,
                                         .wait_seconds = 4,
                                         .prefetch_recall = NAN};
    return (mixt_store_facts){&statistics, &shape, 2, classes, class_of, book};
}

static void check_lines(const char *text)
{
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (length > 100 || line[length] != '\n') {
            fail_msg("too long: %s", line);
        }
        assert_true(length == 0 || line[length - 1] != ' ');
        line += length + 1;
    }
}

static void expect_in(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("no \"%s\" in:\n%s", words, text);
    }
}

static void test_curve(void **unused)
{
    (void)unused;
    mixt_record_book *book = make_book(1 << 20, 1000);
    mixt_store_facts facts = facts_of(book);
    mixt_store_point *points;
    int count, now;
    assert_int_equal(mixt_store_facts_curve(&facts, &points, &count, &now, NULL), MIXT_OK);
    assert_int_equal(count, 11);
    assert_int_equal(now, 4); /* between 48 and 60 */
    assert_int_equal(points[now].slots, 58);
    assert_int_equal(points[now].memory, 300000000); /* all that is not pool stays as it is */
    assert_int_equal(points[0].slots, 12);
    assert_int_equal(points[count - 1].slots, ITEMS);
    uint64_t requests = mixt_record_book_count(book);
    mixt_request *list = calloc(requests, sizeof *list);
    uint8_t *hit = calloc(requests, 1);
    for (uint64_t i = 0; i < requests; i++) {
        list[i] = mixt_record_book_get(book, i);
    }
    mixt_simulated simulated = {shape, 2, class_of, list, requests, false};
    for (int i = 0; i < count; i++) {
        const char *const names[] = {"lru", "lfu", "fading", "optimum"};
        const double shares[] = {points[i].lru, points[i].lfu, points[i].own, points[i].optimum};
        int64_t slots[2] = {8 * (i + (i < now)), 4 * (i + (i < now))};
        if (i == now) {
            slots[0] = 40;
            slots[1] = 18;
        }
        for (int policy = 0; policy < 4; policy++) {
            uint64_t hits = 0;
            assert_int_equal(mixt_simulate_pool(&simulated, names[policy], slots, hit, NULL), 0);
            for (uint64_t j = 0; j < requests; j++) {
                hits += hit[j];
            }
            assert_int_equal(lround(shares[policy] * (double)requests), hits);
        }
        assert_true(i == 0 || points[i].rate > points[i - 1].rate);
    }
    assert_true(points[count - 1].rate < 1000 / 6.0); /* arithmetic took 6 s */
    free(points);
    free(list);
    free(hit);
    mixt_record_book_free(book);
}

static void test_report(void **unused)
{
    (void)unused;
    mixt_record_book *book = make_book(1 << 20, 1000);
    mixt_store_facts facts = facts_of(book);
    char *text;
    assert_int_equal(mixt_store_facts_report(&facts, &text, NULL), MIXT_OK);
    check_lines(text);
    expect_in(text, "58 of 120 experts at a time");
    expect_in(text, "12,000 by 1,000 steps of 1,000 tokens");
    expect_in(text, "75.0 %"); /* hits */
    expect_in(text, "1.00 GB/s");
    expect_in(text, "33.3 %"); /* 2 of 6 s behind arithmetic */
    expect_in(text, "\n>   300.0 MB");
    expect_in(text, "The disk bounds the speed: steps waited 40 %");
    assert_null(strstr(text, "warning"));
    free(text);
    statistics.wait_seconds = 0.3;
    statistics.token_bytes = 150000000;
    statistics.prefetched = 1234;
    statistics.prefetch_used = 617;
    statistics.prefetch_recall = 0.8;
    assert_int_equal(mixt_store_facts_report(&facts, &text, NULL), MIXT_OK);
    check_lines(text);
    expect_in(text, "Arithmetic, not the disk, bounds the speed");
    expect_in(text, "would hardly help");
    expect_in(text,
              "warning: the pool (138.0 MB) is smaller than what one token works with (150.0 MB)");
    expect_in(text, "1,234  experts, 50.0 % wanted then");
    free(text);
    mixt_record_book_clear(book); /* nothing has run since */
    statistics = (mixt_store_statistics){
        .policy = "lru", .slots = 58, .experts = ITEMS, .prefetch_recall = NAN};
    assert_int_equal(mixt_store_facts_report(&facts, &text, NULL), MIXT_OK);
    check_lines(text);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    free(text);
    mixt_record_book_free(book);
}

/* A record that has forgotten its beginning: pools are warm where hits are counted. */
static void test_warm(void **unused)
{
    (void)unused;
    mixt_record_book *book = make_book(3000, 1000);
    assert_false(mixt_record_book_whole(book));
    mixt_store_facts facts = facts_of(book);
    mixt_store_point *points;
    int count, now;
    assert_int_equal(mixt_store_facts_curve(&facts, &points, &count, &now, NULL), MIXT_OK);
    assert_true(points[count - 1].lru > 0.99);
    free(points);
    mixt_record_book_free(book);
}

/* A million requests among 6,144 experts: a second or so. */
static void test_cost(void **unused)
{
    (void)unused;
    enum { MANY = 48, OF = 128 };
    int32_t bounds[MANY + 1];
    int one[MANY] = {0};
    for (int layer = 0; layer <= MANY; layer++) {
        bounds[layer] = layer * OF;
    }
    mixt_record_book *book;
    uint64_t state = 0;
    assert_int_equal(mixt_record_book_create(1 << 20, &book, NULL), MIXT_OK);
    for (int step = 0; step < 2700; step++) {
        mixt_record_book_step(book);
        for (int layer = 0; layer < MANY; layer++) {
            for (int k = 0; k < 8; k++) {
                mixt_record_book_use(book, bounds[layer] + 16 * k + (int)draw(&state, 16), 1);
            }
        }
    }
    mixt_expert_class class = {2000000, 3000, MANY * OF};
    mixt_policy_shape large = {.layers = MANY, .first = bounds};
    mixt_store_facts facts = facts_of(book);
    facts.shape = &large;
    facts.class_count = 1;
    facts.classes = &class;
    facts.class_of = one;
    mixt_store_point *points;
    int count, now;
    clock_t begin = clock();
    assert_int_equal(mixt_store_facts_curve(&facts, &points, &count, &now, NULL), MIXT_OK);
    print_message("%.2f s\n", (double)(clock() - begin) / CLOCKS_PER_SEC);
    assert_true(fabs(points[now].lru - points[now].uniform) < 0.05);
    free(points);
    mixt_record_book_free(book);
}

int main(void)
{
    for (int layer = 0; layer <= LAYERS; layer++) {
        first[layer] = layer * EXPERTS;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_warm),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
