/* Measures of use and of caches: against numpy (tests/reference/atlas_use.py), planted structure,
 * and no structure. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas_trace.h"
#include "measure_fixture.h"

static const char *const of_use[] = {"balance",         "concentration", "ranks",   "reuse",
                                     "reuse_quantiles", "cache",         "segments"};
enum { MEASURES = sizeof of_use / sizeof *of_use };

static void test_numpy(void **state)
{
    (void)state;
    assert_true(measure_check_fixture("tests/fixtures/atlas/use.txt") > 2000);
}

/* Whether a value's interval lies above (1), below (-1) or around the level. */
static int against(const mixt_table *table, const double *keys, int count, const char *level,
                   const char *prefix)
{
    char low[32], high[32];
    snprintf(low, sizeof low, "%slow", prefix);
    snprintf(high, sizeof high, "%shigh", prefix);
    double at = measure_cell(table, keys, count, level);
    double from = measure_cell(table, keys, count, low);
    double to = measure_cell(table, keys, count, high);
    assert_false(isnan(at) || isnan(from) || isnan(to));
    return from > at ? 1 : to < at ? -1 : 0;
}

/* Tokens of the first layer stay with their experts, those of the second do not, and the third uses
 * experts unequally: each measure finds its own. */
static void test_planted(void **state)
{
    (void)state;
    const double stay[] = {0.7, 0, 0};
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 3,
                                                                .experts = 16,
                                                                .experts_per_token = 2,
                                                                .domains = 2,
                                                                .documents = 20,
                                                                .document_tokens = 90,
                                                                .stay = stay,
                                                                .seed = 3});
    atlas_trace_options skewed = {.layers = 1,
                                  .experts = 16,
                                  .experts_per_token = 2,
                                  .domains = 2,
                                  .documents = 20,
                                  .document_tokens = 90,
                                  .skew = 2,
                                  .seed = 3};
    mixt_trace *other = atlas_trace_make(&skewed); /* the same documents */
    assert_int_equal(other->info.tokens, trace->info.tokens);
    uint64_t size = trace->info.tokens * 2;
    memcpy(trace->experts + 2 * size, other->experts, size * sizeof *trace->experts);
    mixt_trace_free(other);
    double layer[3];
    for (int i = 0; i < 3; i++) {
        layer[i] = trace->layer_numbers[i];
    }
    mixt_table *reuse = measure_of(trace, "reuse", NULL);
    mixt_table *cache = measure_of(trace, "cache", NULL);
    mixt_table *segments = measure_of(trace, "segments", NULL);
    mixt_table *balance = measure_of(trace, "balance", NULL);
    mixt_table *concentration = measure_of(trace, "concentration", NULL);
    for (int i = 0; i < 3; i++) {
        const double within[] = {layer[i], 1}, lru[] = {layer[i], 0, 4}, eight[] = {layer[i], 8};
        const double top[] = {layer[i], 4};
        assert_int_equal(against(reuse, within, 2, "use", ""), i == 0);
        assert_int_equal(against(cache, lru, 3, "use", ""), i == 0);
        assert_int_equal(against(segments, eight, 2, "srp_use", "srp_"), i == 0);
        assert_int_equal(against(segments, eight, 2, "sch2_use", "sch2_"), i == 0);
        assert_int_equal(against(balance, layer + i, 1, "jain_random", "jain_"), i == 2 ? -1 : 0);
        assert_int_equal(against(concentration, top, 2, "random", ""), i == 2);
    }
    mixt_table_free(reuse);
    mixt_table_free(cache);
    mixt_table_free(segments);
    mixt_table_free(balance);
    mixt_table_free(concentration);
    mixt_trace_free(trace);
}

/* A bigger cache never hits less, nothing beats the optimum, and a cache of all experts misses each
 * of them once. */
static void test_policies(void **state)
{
    (void)state;
    const double stay[] = {0.5, 0.2};
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 2,
                                                                .experts = 40,
                                                                .experts_per_token = 3,
                                                                .domains = 2,
                                                                .documents = 6,
                                                                .document_tokens = 60,
                                                                .stay = stay,
                                                                .skew = 1,
                                                                .none = 0.1,
                                                                .seed = 5});
    mixt_table *table = measure_of(trace, "cache", NULL);
    const double layers[] = {trace->layer_numbers[0], trace->layer_numbers[1], -1};
    for (int l = 0; l < 3; l++) {
        double before[4] = {0}, items = l < 2 ? 40 : 80;
        for (double size = 1; size <= items; size++) {
            const double keys[4][3] = {{layers[l], 0, size},
                                       {layers[l], 1, size},
                                       {layers[l], 2, size},
                                       {layers[l], 3, size}};
            if (measure_row(table, keys[0], 3) < 0) {
                assert_true(size > 32 && size < items);
                continue;
            }
            double best = measure_cell(table, keys[2], 3, "hits");
            for (int policy = 0; policy < 4; policy++) {
                double hits = measure_cell(table, keys[policy], 3, "hits");
                assert_true(hits >= before[policy] && hits <= best);
                before[policy] = hits;
            }
        }
        const double all[] = {layers[l], 0, items};
        double uses = measure_cell(table, all, 3, "uses");
        double missed = (1 - measure_cell(table, all, 3, "hits")) * uses;
        assert_true(fabs(missed - items) < 1e-6);
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* Routing without structure: how often the interval holds the level. Seeds are many enough that a
 * level or an interval that is off shows; docs/measures/use.md has the numbers of longer runs. */
typedef struct calibration {
    const char *measure, *level, *prefix;
    double keys[3];
    int key_count;
    double skew;
    int held;
} calibration;

static void test_calibration(void **state)
{
    (void)state;
    const char *count = getenv("MIXT_SEEDS");
    int seeds = count != NULL ? atoi(count) : 50;
    calibration all[] = {
        {"concentration", "random", "", {0, 3}, 2, 0, 0},
        {"balance", "jain_random", "jain_", {0}, 1, 0, 0},
        {"reuse", "use", "", {0, 1}, 2, 2, 0},
        {"reuse", "use", "", {0, 8}, 2, 2, 0},
        {"reuse_quantiles", "use", "", {0, 50}, 2, 2, 0},
        {"cache", "use", "", {0, 0, 4}, 3, 2, 0},
        {"cache", "use", "", {0, 2, 4}, 3, 2, 0},
        {"cache", "use", "", {0, 3, 4}, 3, 2, 0},
        {"segments", "srp_use", "srp_", {0, 8}, 2, 2, 0},
        {"segments", "sch2_use", "sch2_", {0, 8}, 2, 2, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (int seed = 0; seed < seeds; seed++) {
            mixt_trace *trace =
                atlas_trace_make(&(atlas_trace_options){.layers = 1,
                                                        .experts = 12,
                                                        .experts_per_token = 2,
                                                        .domains = 2,
                                                        .documents = 15,
                                                        .document_tokens = 60,
                                                        .skew = all[i].skew,
                                                        .seed = 100 + (uint64_t)seed});
            all[i].keys[0] = trace->layer_numbers[0];
            mixt_table *table = measure_of(trace, all[i].measure, NULL);
            all[i].held +=
                against(table, all[i].keys, all[i].key_count, all[i].level, all[i].prefix) == 0;
            mixt_table_free(table);
            mixt_trace_free(trace);
        }
        print_message("%s %s: %d of %d\n", all[i].measure, all[i].level, all[i].held, seeds);
        assert_true(all[i].held >= 0.86 * seeds);
    }
}

/* What has little in it is measured, or left empty, without a number that is not one. */
static void test_odd_traces(void **state)
{
    (void)state;
    const atlas_trace_options odd[] = {
        {.layers = 1,
         .experts = 1,
         .experts_per_token = 1,
         .domains = 1,
         .documents = 1,
         .document_tokens = 3},
        {.layers = 2,
         .experts = 4,
         .experts_per_token = 4,
         .domains = 2,
         .documents = 3,
         .document_tokens = 9},
        {.layers = 1,
         .experts = 8,
         .experts_per_token = 2,
         .domains = 1,
         .documents = 1,
         .document_tokens = 1},
        {.layers = 2,
         .experts = 8,
         .experts_per_token = 3,
         .domains = 3,
         .documents = 2,
         .document_tokens = 12,
         .none = 1},
        {.layers = 2,
         .experts = 300,
         .experts_per_token = 3,
         .domains = 3,
         .documents = 2,
         .document_tokens = 12,
         .none = 0.9},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        mixt_trace *trace = atlas_trace_make(&odd[i]);
        for (int m = 0; m < MEASURES; m++) {
            mixt_table *table = measure_of(trace, of_use[m], NULL);
            const mixt_column *columns;
            int count = mixt_table_columns(table, &columns);
            for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
                for (int c = 0; c < count; c++) {
                    double value = mixt_table_value(table, row, c);
                    bool key = columns[c].role == MIXT_ROLE_KEY;
                    bool share = columns[c].kind == MIXT_COLUMN_SHARE;
                    assert_false(isinf(value) || (key && isnan(value)));
                    assert_false(share && !isnan(value) && (value < 0 || value > 1 + 1e-12));
                }
            }
            mixt_table_free(table);
        }
        mixt_trace_free(trace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy),      cmocka_unit_test(test_planted),
        cmocka_unit_test(test_policies),   cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_odd_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
