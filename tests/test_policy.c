/* Which expert makes room, and the record of requests: each policy against one that keeps the whole
 * past and looks through it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "store/policy.h"
#include "store/record.h"

static uint64_t draw(uint64_t *state, uint64_t bound)
{
    mixt_random_key key = {.seed = 29, .purpose = MIXT_RANDOM_DATA};
    return mixt_random_below(&key, (*state)++, bound);
}

/* ------------------------------------------------------------------------------------------ */
/* Policies                                                                                   */

enum { LAYERS = 3, EXPERTS = 7, ITEMS = LAYERS * EXPERTS, USES = 3000 };
static const int32_t first[] = {0, EXPERTS, 2 * EXPERTS, 3 * EXPERTS};

typedef struct past {
    int32_t item[USES];
    int64_t rows[USES];
    int count;
} past;

/* Uses ago, and rows. */
static int age_of(const past *p, int32_t item)
{
    int age = 0;
    while (age < p->count && p->item[p->count - 1 - age] != item) {
        age++;
    }
    return age;
}

static int64_t rows_of(const past *p, int32_t item)
{
    int64_t rows = 0;
    for (int i = 0; i < p->count; i++) {
        rows += p->item[i] == item ? p->rows[i] : 0;
    }
    return rows;
}

static int64_t profile_of(const past *p, int32_t item)
{
    (void)p;
    return item * 5 % 4;
}

static int64_t same(const past *p, int32_t item)
{
    (void)p;
    (void)item;
    return 0;
}

static void check_order(const char *name, int64_t (*worth)(const past *, int32_t))
{
    uint64_t profile[ITEMS], state = 0;
    for (int i = 0; i < ITEMS; i++) {
        profile[i] = (uint64_t)profile_of(NULL, i);
    }
    mixt_policy_shape shape = {.layers = LAYERS, .first = first, .profile = profile};
    mixt_policy *policy;
    assert_int_equal(mixt_policy_create(name, &shape, &policy, NULL), MIXT_OK);
    assert_string_equal(mixt_policy_name(policy), name);
    past *p = calloc(1, sizeof *p);
    while (p->count < USES) {
        mixt_policy_step(policy);
        for (int layer = 0; layer < LAYERS && p->count < USES; layer++) {
            int32_t item = first[layer] + (int32_t)draw(&state, 1 + draw(&state, EXPERTS));
            int64_t rows = 1 + (int64_t)(draw(&state, 10) == 0 ? draw(&state, 50) : 0);
            mixt_policy_use(policy, item, rows);
            p->item[p->count] = item;
            p->rows[p->count++] = rows;
        }
        int32_t held[ITEMS];
        int count = 0;
        for (int32_t i = 0; i < ITEMS; i++) {
            if (age_of(p, i) < p->count && draw(&state, 2) == 0) {
                held[count++] = i;
            }
        }
        if (count == 0) {
            continue;
        }
        int32_t victim = mixt_policy_victim(policy, held, count), expected = held[0];
        for (int i = 1; i < count; i++) {
            int64_t less = worth(p, held[i]) - worth(p, expected);
            if (less < 0 || (less == 0 && age_of(p, held[i]) > age_of(p, expected))) {
                expected = held[i];
            }
        }
        assert_int_equal(victim, expected);
    }
    free(p);
    mixt_policy_free(policy);
}

static void test_orders(void **unused)
{
    (void)unused;
    check_order("lru", same);
    check_order("lfu", rows_of);
    check_order("static", profile_of);
}

/* "fading" from all that went before: a layer's tokens, and what part of them used an expert. */
enum { TURNS = 400, CHOSEN = 2 };
typedef struct turn {
    int layer;
    double rows, share[EXPERTS];
} turn;

static double wait_of(const turn *turns, int count, int layer, int e)
{
    double sum = 0;
    for (int h = 0; h < 2; h++) {
        double half_life = h == 0 ? 16 : 128, age = 0;
        for (int i = count; i-- > 0;) {
            if (turns[i].layer == layer) {
                sum += turns[i].share[e] *
                       (exp2(-age / half_life) - exp2(-(age + turns[i].rows) / half_life));
                age += turns[i].rows;
            }
        }
        sum += exp2(-age / half_life) * CHOSEN / EXPERTS;
    }
    return 2 / sum;
}

static void test_fading(void **unused)
{
    (void)unused;
    static const int chosen[LAYERS] = {CHOSEN, CHOSEN, CHOSEN};
    mixt_policy_shape shape = {.layers = LAYERS, .first = first, .chosen = chosen};
    mixt_policy *policy;
    assert_int_equal(mixt_policy_create("fading", &shape, &policy, NULL), MIXT_OK);
    turn *turns = calloc(TURNS, sizeof *turns);
    uint64_t state = 1000;
    double rows = 1, before = 1;
    for (int i = 0; i < TURNS; i++) {
        turn *t = &turns[i];
        t->layer = i % LAYERS;
        if (t->layer == 0) {
            mixt_policy_step(policy);
            before = rows;
            rows = draw(&state, 6) == 0 ? 1 + (double)draw(&state, 30) : 1;
        }
        t->rows = rows;
        int uses[EXPERTS] = {0};
        for (int row = 0; row < (int)rows; row++) {
            int a = (int)draw(&state, EXPERTS), b = (int)draw(&state, EXPERTS - 1);
            uses[a]++;
            uses[b + (b >= a)]++;
        }
        for (int e = 0; e < EXPERTS; e++) {
            t->share[e] = uses[e] / rows;
            if (uses[e] > 0) {
                mixt_policy_use(policy, first[t->layer] + e, uses[e]);
            }
        }
        int32_t all[ITEMS];
        double steps[ITEMS], least = 0;
        for (int32_t item = 0; item < ITEMS; item++) {
            int layer = item / EXPERTS;
            double next = layer > t->layer ? rows : fmin(rows, before);
            double turns_ahead = (layer + 2 * LAYERS - t->layer - 1) % LAYERS;
            all[item] = item;
            steps[item] =
                turns_ahead / LAYERS + wait_of(turns, i + 1, layer, item % EXPERTS) / next;
            least = fmax(least, steps[item]);
        }
        int32_t victim = mixt_policy_victim(policy, all, ITEMS);
        assert_true(steps[victim] > least * (1 - 1e-5));
    }
    free(turns);
    mixt_policy_free(policy);
}

/* A prompt whose parts ask one after the other, each for what the others did not, is one step. */
static void test_parts(void **unused)
{
    (void)unused;
    static const int chosen[LAYERS] = {CHOSEN, CHOSEN, CHOSEN};
    mixt_policy_shape shape = {.layers = LAYERS, .first = first, .chosen = chosen};
    mixt_policy *policy[2];
    for (int parts = 0; parts < 2; parts++) {
        assert_int_equal(mixt_policy_create("fading", &shape, &policy[parts], NULL), MIXT_OK);
        mixt_policy_step(policy[parts]);
        for (int32_t item = 0; item < 4; item++) { /* 512 rows */
            mixt_policy_use(policy[parts], item, 256);
        }
        if (parts == 1) {
            int32_t held[] = {0, 1};
            assert_int_equal(mixt_policy_victim(policy[parts], held, 2), 0);
        }
        mixt_policy_use(policy[parts], 4, 1);
        mixt_policy_use(policy[parts], 7, 512);
        mixt_policy_use(policy[parts], 8, 512);
    }
    int32_t all[ITEMS];
    uint64_t ranks[2][ITEMS];
    for (int32_t item = 0; item < ITEMS; item++) {
        all[item] = item;
    }
    mixt_policy_ranks(policy[0], all, ITEMS, ranks[0]);
    mixt_policy_ranks(policy[1], all, ITEMS, ranks[1]);
    for (int32_t item = 0; item < 5; item++) { /* rows of all parts against those of the first */
        double a = (double)(ranks[0][item] >> 32), b = (double)(ranks[1][item] >> 32);
        assert_true(fabs(a - b) < 2e6); /* a tenth or so of 2^23, a binary order */
    }
    assert_true(ranks[0][4] < ranks[0][0] && ranks[1][4] < ranks[1][0]);
    mixt_policy_free(policy[0]);
    mixt_policy_free(policy[1]);
}

static void test_names(void **unused)
{
    (void)unused;
    mixt_policy_shape shape = {.layers = LAYERS, .first = first};
    mixt_policy *policy;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_policy_create("mru", &shape, &policy, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "mru"));
    const char *help, *name;
    for (int i = 0; (name = mixt_store_policy(i, &help)) != NULL; i++) {
        assert_true(strlen(help) > 10);
        assert_non_null(strstr(error.message, name));
    }
    assert_null(mixt_store_policy(-1, NULL));
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_policy_create("static", &shape, &policy, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "profile"));
    assert_null(policy);
    assert_int_equal(mixt_policy_create(NULL, &shape, &policy, NULL), MIXT_OK);
    assert_string_equal(mixt_policy_name(policy), mixt_store_policy(0, NULL));
    mixt_policy_free(policy);
}

/* ------------------------------------------------------------------------------------------ */
/* The record                                                                                 */

/* Steps of 0 to 9 requests in a book for 20: it ends with the last of them, has whole steps, and as
 * many as fit. */
static void test_record(void **unused)
{
    (void)unused;
    enum { MOST = 20, STEPS = 500 };
    mixt_record_book *book, *copy;
    assert_int_equal(mixt_record_book_create(MOST, &book, NULL), MIXT_OK);
    int32_t items[STEPS * 10];
    bool begins[STEPS * 10];
    uint64_t state = 0, count = 0;
    for (int step = 0; step < STEPS; step++) {
        mixt_record_book_step(book);
        uint64_t uses = draw(&state, 10);
        for (uint64_t i = 0; i < uses; i++, count++) {
            items[count] = (int32_t)draw(&state, 1000);
            begins[count] = i == 0;
            mixt_record_book_use(book, items[count], items[count] + 1);
        }
        uint64_t there = mixt_record_book_count(book);
        assert_true(there <= MOST && there <= count && (there == count || there >= MOST - 9));
        assert_true(mixt_record_book_whole(book) == (there == count));
        assert_int_equal(mixt_record_book_copy(book, &copy, NULL), MIXT_OK);
        for (uint64_t i = 0; i < there; i++) {
            mixt_request request = mixt_record_book_get(book, i);
            assert_int_equal(request.item, items[count - there + i]);
            assert_int_equal(request.rows, request.item + 1);
            assert_true(request.begins == begins[count - there + i] && (i > 0 || request.begins));
            mixt_request other = mixt_record_book_get(copy, i);
            assert_true(other.item == request.item && other.begins == request.begins);
        }
        assert_true(mixt_record_book_count(copy) == there);
        mixt_record_book_free(copy);
    }
    mixt_record_book_clear(book);
    assert_true(mixt_record_book_count(book) == 0 && !mixt_record_book_whole(book));
    mixt_record_book_step(book); /* a step that is too long leaves nothing */
    for (int32_t i = 0; i < MOST + 5; i++) {
        mixt_record_book_use(book, i, 1);
    }
    assert_int_equal(mixt_record_book_count(book), 0);
    mixt_record_book_step(book);
    mixt_record_book_use(book, 3, 1);
    assert_int_equal(mixt_record_book_count(book), 1);
    mixt_record_book_free(book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders), cmocka_unit_test(test_fading), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_names),  cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
