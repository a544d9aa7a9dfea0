/* Traces and the atlas: measures against hand-made cases and against numpy
 * (tests/reference/atlas.py), the bootstrap, files good and bad. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas/counts.h"
#include "atlas/distance.h"
#include "atlas/repetition.h"
#include "atlas/statistics.h"
#include "atlas/vocabulary.h"
#include "atlas_demo.h"
#include "atlas_trace.h"

#define FIXTURES "tests/fixtures/atlas/"

#define assert_near(value, expected, tolerance) near(value, expected, tolerance, __LINE__)

static void near(double value, double expected, double tolerance, int line)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("line %d: %.12g is not within %g of %.12g", line, value, tolerance, expected);
    }
}

static mixt_repetition *measure_all(const mixt_trace *trace)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_units *units = mixt_units_create(trace);
    size_t rows = (size_t)trace->info.layers * ((size_t)trace->info.domains + 1);
    mixt_repetition *table = calloc(rows * MIXT_REPEAT_COUNT, sizeof *table);
    assert_int_equal(mixt_repetition_measure(trace, units, 0, trace->info.layers, table, &error),
                     MIXT_OK);
    mixt_units_free(units);
    return table;
}

static const mixt_repetition *row_of(const mixt_trace *trace, const mixt_repetition *table,
                                     int layer, int domain, int which)
{
    int row = domain < 0 ? trace->info.domains : domain;
    return &table[(layer * (trace->info.domains + 1) + row) * MIXT_REPEAT_COUNT + which];
}

/* Every pair of subsets of k out of E, counted. */
static double enumerated_level(int experts, int k)
{
    uint64_t meeting = 0;
    uint64_t pairs = 0;
    for (unsigned a = 0; a < 1u << experts; a++) {
        for (unsigned b = 0; b < 1u << experts; b++) {
            if (__builtin_popcount(a) == k && __builtin_popcount(b) == k) {
                pairs++;
                meeting += (a & b) != 0;
            }
        }
    }
    return (double)meeting / (double)pairs;
}

static void test_random_level(void **state)
{
    (void)state;
    for (int experts = 1; experts <= 9; experts++) {
        for (int k = 1; k <= experts; k++) {
            assert_near(mixt_atlas_random_level(experts, k, 1), enumerated_level(experts, k),
                        1e-14);
            assert_near(mixt_atlas_random_level(experts, k, 0), 1.0 / experts, 0);
        }
    }
    assert_near(mixt_atlas_random_level(8, 2, 1), 1 - 15.0 / 28, 1e-15);
    /* Exact rational values, computed with integers of any length (Python's fractions). */
    assert_near(mixt_atlas_random_level(512, 1, 1), 1.0 / 512, 1e-18);
    assert_near(mixt_atlas_random_level(512, 8, 1), 0.11914614397635925, 1e-15);
    assert_near(mixt_atlas_random_level(512, 256, 1), 1, 1e-15);
    assert_near(mixt_atlas_random_level(64, 8, 1), 0.6790689102423071, 1e-15);
    assert_near(mixt_atlas_random_level(8, 9, 1), 0, 0);
}

/* Two documents: 1 1 2 | 2 2 3 3. Inside them 3 of 5 pairs repeat; the pair 2 2 over the border
 * does not count. */
static void test_borders(void **state)
{
    (void)state;
    const uint16_t choices[] = {1, 1, 2, 2, 2, 3, 3};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace = atlas_trace_of_choices(choices, 7, 4);
    for (int i = 3; i < 7; i++) {
        trace->document[i] = 1;
    }
    assert_int_equal(mixt_trace_check(trace, "hand", &error), MIXT_OK);
    mixt_rate rate;
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 0, &rate, &error), MIXT_OK);
    assert_int_equal(rate.pairs, 5);
    assert_near(rate.value, 3.0 / 5, 1e-15);
    assert_true(rate.low <= rate.value && rate.value <= rate.high);
    assert_int_equal(mixt_atlas_repetition(trace, 0, 0, 1, &rate, &error), MIXT_OK);
    assert_near(rate.value, 3.0 / 5, 1e-15);
    double shares[4];
    assert_int_equal(mixt_atlas_proportions(trace, 0, -1, -1, shares, &error), MIXT_OK);
    assert_near(shares[0], 0, 0);
    assert_near(shares[2], 3.0 / 7, 1e-15);
    mixt_counts *counts = mixt_counts_create(trace);
    mixt_load load = mixt_load_of(counts, 0, NULL);
    assert_int_equal(load.dead, 1);
    assert_int_equal(load.never_first, 1);
    assert_near(load.max_over_mean, 3 / (7.0 / 4), 1e-15);
    mixt_counts_free(counts);
    mixt_trace_free(trace);
}

/* Expert 3 is chosen, but by no token first; expert 2 by none at all. */
static void test_never_first(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(3, 8, 2);
    for (uint64_t t = 0; t < trace->info.tokens; t++) {
        uint16_t *chosen = trace->experts + 2 * t; /* of layer 0 */
        chosen[0] = (uint16_t)(t % 2);
        chosen[1] = 3;
    }
    assert_int_equal(mixt_trace_check(trace, "hand", NULL), MIXT_OK);
    mixt_counts *counts = mixt_counts_create(trace);
    mixt_load load = mixt_load_of(counts, 0, NULL);
    assert_int_equal(load.dead, 5);
    assert_int_equal(load.never_first, 6);
    mixt_counts_free(counts);
    mixt_trace_free(trace);
}

/* The same with - for no expert: 1 1 - 2 | - 2 2 3 -. Pairs count where both have a choice: of 1 1,
 * 2 2 and 2 3 two repeat. Shares are of the six choices made. */
static void test_none(void **state)
{
    (void)state;
    const uint16_t none = MIXT_TRACE_NONE;
    const uint16_t choices[] = {1, 1, none, 2, none, 2, 2, 3, none};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace = atlas_trace_of_choices(choices, 9, 4);
    for (int i = 4; i < 9; i++) {
        trace->document[i] = 1;
    }
    assert_int_equal(mixt_trace_check(trace, "hand", &error), MIXT_OK);
    assert_true(trace->has_none);
    assert_int_equal(trace->dropped[0], 3);
    mixt_repetition *table = measure_all(trace);
    for (int which = 0; which < 2; which++) {
        const mixt_repetition *row = row_of(trace, table, 0, -1, which);
        assert_int_equal(row->rate.pairs, 3);
        assert_near(row->rate.value, 2.0 / 3, 1e-15);
        assert_near(row->random, 0.25, 1e-15);
        assert_near(row->usage, (2 * 1 + 3 * 2) / (6.0 * 5), 1e-15);
    }
    free(table);
    double shares[4];
    assert_int_equal(mixt_atlas_proportions(trace, 0, -1, 0, shares, &error), MIXT_OK);
    assert_near(shares[1], 2.0 / 6, 1e-15);
    assert_near(shares[2], 3.0 / 6, 1e-15);
    mixt_counts *counts = mixt_counts_create(trace);
    mixt_load load = mixt_load_of(counts, 0, NULL);
    assert_int_equal(load.dead, 1);
    assert_near(load.max_over_mean, 3 / (6.0 / 4), 1e-15);
    mixt_counts_free(counts);
    for (int i = 0; i < 9; i++) { /* nothing chosen at all: no pair, no share, no NaN */
        trace->experts[i] = none;
    }
    assert_int_equal(mixt_trace_check(trace, "hand", &error), MIXT_OK);
    mixt_rate rate;
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 1, &rate, &error), MIXT_OK);
    assert_int_equal(rate.pairs, 0);
    assert_near(rate.value, 0, 0);
    assert_near(rate.high, 1, 0);
    assert_int_equal(mixt_atlas_proportions(trace, 0, -1, -1, shares, &error), MIXT_OK);
    assert_near(shares[1], 0, 0);
    counts = mixt_counts_create(trace);
    load = mixt_load_of(counts, 0, NULL);
    assert_int_equal(load.dead, 4);
    assert_near(load.max_over_mean, 0, 0);
    assert_near(load.effective, 0, 0);
    mixt_counts_free(counts);
    mixt_trace_free(trace);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    const uint16_t choices[] = {0, 1};
    mixt_trace *trace = atlas_trace_of_choices(choices, 2, 2);
    double shares[2];
    mixt_rate rate;
    const int bad[][3] = {{1, 0, 0}, {-1, 0, 0}, {0, 1, 0}, {0, -2, 0}, {0, 0, 2}, {0, 0, -2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(
            mixt_atlas_repetition(trace, bad[i][0], bad[i][1], bad[i][2], &rate, &error),
            MIXT_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, "the trace has"));
        assert_int_equal(
            mixt_atlas_proportions(trace, bad[i][0], bad[i][1], bad[i][2], shares, NULL),
            MIXT_ERROR_ARGUMENT);
    }
    assert_null(mixt_trace_domain(trace, 1));
    assert_int_equal(mixt_trace_layer(trace, 1), -1);
    mixt_trace_free(trace);
}

/* One document, too short for blocks, or whose pairs never change: nothing is known about spread.
 * Two documents whose pairs never change bound the rate as two trials would. */
static void test_few_documents(void **state)
{
    (void)state;
    uint16_t choices[400] = {0};
    mixt_rate rate;
    mixt_trace *trace = atlas_trace_of_choices(choices, 8, 2);
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 0, &rate, NULL), MIXT_OK);
    assert_near(rate.low, 0, 0);
    assert_near(rate.high, 1, 0);
    mixt_trace_free(trace);
    trace = atlas_trace_of_choices(choices, 400, 2);
    mixt_repetition *table = measure_all(trace);
    assert_near(table[0].rate.value, 1, 0);
    assert_true(table[0].single);
    assert_false(mixt_repetition_has_interval(&table[0]));
    assert_false(mixt_repetition_is_above(&table[0]));
    assert_near(table[0].usage, 1, 0);
    free(table);
    for (int i = 200; i < 400; i++) {
        trace->document[i] = 1;
    }
    assert_int_equal(mixt_trace_check(trace, "alike", NULL), MIXT_OK);
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 0, &rate, NULL), MIXT_OK);
    assert_near(rate.low, sqrt(0.025), 1e-12); /* Clopper and Pearson, 2 of 2 */
    assert_near(rate.high, 1, 0);
    mixt_trace_free(trace);
    trace = atlas_trace_of_choices(choices, 1, 2); /* no pair at all */
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 0, &rate, NULL), MIXT_OK);
    assert_int_equal(rate.pairs, 0);
    assert_near(rate.value, 0, 0);
    assert_near(rate.high, 1, 0);
    mixt_trace_free(trace);
}

/* Of 40 intervals over independent uniform choices about 38 hold the random level; fewer than 33
 * has a chance below 10^-3. The level from use agrees with the random one. */
static void test_uniform(void **state)
{
    (void)state;
    int held = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        atlas_trace_options options = {.layers = 1,
                                       .experts = 8,
                                       .experts_per_token = 2,
                                       .domains = 2,
                                       .documents = 12,
                                       .document_tokens = 60,
                                       .seed = seed + 100};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_repetition *table = measure_all(trace);
        for (int which = 0; which < 2; which++) {
            const mixt_repetition *row = row_of(trace, table, 0, -1, which);
            held += row->rate.low <= row->random && row->random <= row->rate.high;
            assert_near(row->usage, row->random, which == 0 ? 0.02 : 0.03);
        }
        free(table);
        mixt_trace_free(trace);
    }
    assert_in_range(held, 33, 40);
}

/* Uniform choices of which a third is dropped: the random level, which knows how many experts each
 * token kept, lies in about 38 of 40 intervals, and the level from use agrees with it. Layers of
 * 3, 2 and 1 choices, of which the second is counted exactly. */
static void test_uniform_with_drops(void **state)
{
    (void)state;
    const int chosen[] = {3, 2, 1};
    int held = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        atlas_trace_options options = {.layers = 3,
                                       .experts = 8,
                                       .experts_per_token = 3,
                                       .domains = 2,
                                       .documents = 12,
                                       .document_tokens = 90,
                                       .seed = seed + 500,
                                       .chosen = chosen,
                                       .none = 1.0 / 3};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_repetition *table = measure_all(trace);
        for (int layer = 0; layer < 3; layer++) {
            const mixt_repetition *row = row_of(trace, table, layer, -1, MIXT_REPEAT_SETS);
            held += layer < 2 && row->rate.low <= row->random && row->random <= row->rate.high;
            assert_near(row->usage, row->random, 0.03);
            assert_near(row_of(trace, table, layer, -1, MIXT_REPEAT_FIRST)->random, 0.125, 0);
        }
        free(table);
        mixt_trace_free(trace);
    }
    assert_in_range(held, 33, 40);
}

/* Skewed use raises repetition without locality: the random level is left behind, the level from
 * use is not. A planted share of kept experts is found: s + (1 - s) * level. */
static void test_planted(void **state)
{
    (void)state;
    const double stay[] = {0, 0.2};
    for (int k = 1; k <= 3; k++) {
        atlas_trace_options options = {.layers = 2,
                                       .experts = 8,
                                       .experts_per_token = k,
                                       .domains = 3,
                                       .documents = 20,
                                       .document_tokens = 150,
                                       .seed = 7,
                                       .stay = stay,
                                       .skew = 2};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_repetition *table = measure_all(trace);
        for (int which = 0; which < 2; which++) {
            const mixt_repetition *plain = row_of(trace, table, 0, -1, which);
            const mixt_repetition *kept = row_of(trace, table, 1, -1, which);
            assert_true(plain->rate.low > plain->random);
            assert_true(plain->rate.low <= plain->usage && plain->usage <= plain->rate.high);
            assert_false(mixt_repetition_is_above(plain));
            assert_true(mixt_repetition_is_above(kept));
            double expected = 0.2 + 0.8 * kept->usage;
            assert_near(kept->rate.value, expected, 0.02);
            assert_true(kept->rate.high - kept->rate.low < 0.04);
        }
        free(table);
        mixt_trace_free(trace);
    }
}

/* Documents that repeat always or never: pairs are plenty, yet the interval must be as wide as 20
 * coin throws make it, not as 2000 pairs would. */
static void test_documents_matter(void **state)
{
    (void)state;
    uint16_t choices[2000];
    for (int i = 0; i < 2000; i++) {
        choices[i] = (uint16_t)((i / 100) % 2 == 0 ? 0 : i % 2);
    }
    mixt_trace *trace = atlas_trace_of_choices(choices, 2000, 4);
    for (int i = 0; i < 2000; i++) {
        trace->document[i] = i / 100;
    }
    assert_int_equal(mixt_trace_check(trace, "coins", NULL), MIXT_OK);
    mixt_rate rate;
    assert_int_equal(mixt_atlas_repetition(trace, 0, -1, 0, &rate, NULL), MIXT_OK);
    assert_near(rate.value, 0.5, 1e-12);
    assert_true(rate.high - rate.low > 0.35 && rate.high - rate.low < 0.6);
    mixt_trace_free(trace);
}

/* All layers at once = one layer at a time, also where documents have pairs at some layers only. */
static void test_deterministic(void **state)
{
    (void)state;
    const double none[] = {0, 0.2, 0.9};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        atlas_trace_options options = {.layers = 3,
                                       .experts = 16,
                                       .experts_per_token = 4,
                                       .domains = 2,
                                       .documents = 9,
                                       .document_tokens = 40,
                                       .none = none[i]};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_repetition *table = measure_all(trace);
        for (int layer = 0; layer < 3; layer++) {
            for (int which = 0; which < 2; which++) {
                mixt_rate rate;
                assert_int_equal(mixt_atlas_repetition(trace, layer, 1, which, &rate, NULL), 0);
                const mixt_repetition *row = row_of(trace, table, layer, 1, which);
                assert_memory_equal(&rate, &row->rate, sizeof rate);
            }
        }
        if (none[i] == 0.9) { /* first choices are rare: some documents have no pair of them */
            assert_true(row_of(trace, table, 0, -1, MIXT_REPEAT_FIRST)->units < 17);
        }
        free(table);
        mixt_trace_free(trace);
    }
}

static void test_statistics(void **state)
{
    (void)state;
    /* Student's t from tables: Phi(-sqrt(n/(n-1)) t). */
    assert_near(mixt_expanded_tail(2), 0.5 * erfc(12.706205), 1e-12);
    assert_near(mixt_expanded_tail(10), 0.5 * erfc(sqrt(10.0 / 9) * 2.262157 / sqrt(2)), 2e-6);
    assert_near(mixt_expanded_tail(5), 0.5 * erfc(sqrt(5.0 / 4) * 2.776445 / sqrt(2)), 2e-5);
    assert_near(mixt_expanded_tail(1000000), 0.025, 1e-6);
    const double sorted[] = {1, 2, 4, 8};
    assert_near(mixt_sorted_quantile(sorted, 4, 0), 1, 0);
    assert_near(mixt_sorted_quantile(sorted, 4, 0.5), 3, 0);
    assert_near(mixt_sorted_quantile(sorted, 4, 1), 8, 0);
}

/* -- Against numpy ------------------------------------------------------------------------- */

typedef struct fixture {
    const char *name;
    mixt_trace *trace;
    mixt_repetition *repetition;
    mixt_counts *counts;
    mixt_distance *distance;
} fixture;

static void fixture_open(fixture *f, const char *name)
{
    char path[256];
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, FIXTURES "%s.safetensors", name);
    if (mixt_trace_open(path, &f->trace, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    f->name = name;
    f->repetition = measure_all(f->trace);
    f->counts = mixt_counts_create(f->trace);
    f->distance =
        calloc((size_t)f->trace->info.layers * (size_t)f->trace->info.domains, sizeof *f->distance);
    mixt_units *units = mixt_units_create(f->trace);
    assert_int_equal(mixt_distance_measure(f->trace, units, f->counts, f->distance, &error),
                     MIXT_OK);
    mixt_units_free(units);
}

static void fixture_close(fixture *f)
{
    mixt_trace_free(f->trace);
    free(f->repetition);
    mixt_counts_free(f->counts);
    free(f->distance);
}

/* Numbers from a line into values; returns how many. */
static int numbers_of(char *text, double *values, int room)
{
    int count = 0;
    for (char *word = strtok(text, " \n"); word != NULL && count < room;
         word = strtok(NULL, " \n")) {
        values[count++] = strtod(word, NULL);
    }
    return count;
}

static void check_repetition(const fixture *f, const double *v)
{
    const mixt_repetition *row = row_of(f->trace, f->repetition, (int)v[0], (int)v[1], (int)v[2]);
    double width = v[5] - v[4];
    assert_near(row->rate.value, v[3], 1e-11);
    assert_near(row->rate.low, v[4], 0.12 * width);
    assert_near(row->rate.high, v[5], 0.12 * width);
    assert_int_equal(row->rate.pairs, (uint64_t)v[6]);
    /* Sets of three come from 32,768 random pairs: three standard errors. */
    bool sampled = f->trace->chosen[(int)v[0]] > 2 && v[2] > 0;
    assert_near(row->usage, v[7], sampled ? 0.0085 : 1e-11);
    assert_false(row->single);
}

static void check_proportions(const fixture *f, const double *v)
{
    double shares[16];
    assert_int_equal(
        mixt_atlas_proportions(f->trace, (int)v[0], (int)v[1], (int)v[2], shares, NULL), MIXT_OK);
    for (int e = 0; e < f->trace->info.experts; e++) {
        assert_near(shares[e], v[3 + e], 1e-11);
    }
}

static void check_load(const fixture *f, const double *v)
{
    mixt_load load = mixt_load_of(f->counts, (int)v[0], NULL);
    assert_near(load.max_over_mean, v[1], 1e-11);
    assert_int_equal(load.dead, (int)v[2]);
    assert_near(load.effective, v[3], 1e-11);
}

/* The level is a mean over 200 splits here and 2000 there, by other coins. */
static void check_distance(const fixture *f, const double *v)
{
    const mixt_distance *row = &f->distance[(int)v[0] * f->trace->info.domains + (int)v[1]];
    assert_near(row->value, v[2], 1e-11);
    assert_near(row->level, v[3], 0.12 * v[3]);
    assert_near(row->high, v[4], 0.2 * v[4]);
}

/* Only of the trace whose tokens have different numbers of experts: the random level. */
static void check_random(const fixture *f, const double *v)
{
    const mixt_repetition *row = row_of(f->trace, f->repetition, (int)v[0], (int)v[1], (int)v[2]);
    assert_near(row->random, v[3], 1e-11);
}

static void check_dropped(const fixture *f, const double *v)
{
    assert_int_equal(f->trace->dropped[(int)v[0]], (uint64_t)v[1]);
}

/* v: layer, expert, place, token, occurrences, share */
static void check_top(const fixture *f, const double *v)
{
    enum { TOP = 3 };
    mixt_top_token *rows = calloc((size_t)f->trace->info.experts * TOP, sizeof *rows);
    assert_int_equal(mixt_top_tokens(f->trace, (int)v[0], TOP, rows, NULL), MIXT_OK);
    const mixt_top_token *row = &rows[(int)v[1] * TOP + (int)v[2]];
    assert_int_equal(row->token, (int)v[3]);
    assert_int_equal(row->occurrences, (uint64_t)v[4]);
    assert_near(row->share, v[5], 1e-11);
    free(rows);
}

static const struct {
    const char *name;
    void (*check)(const fixture *f, const double *v);
} measures[] = {
    {"repetition", check_repetition}, {"proportions", check_proportions}, {"load", check_load},
    {"distance", check_distance},     {"random", check_random},           {"top", check_top},
    {"dropped", check_dropped},
};

static void test_against_numpy(void **state)
{
    (void)state;
    static const char *const names[] = {"pairs", "triples", "holes"};
    fixture fixtures[3];
    for (int i = 0; i < 3; i++) {
        fixture_open(&fixtures[i], names[i]);
    }
    FILE *file = fopen(FIXTURES "expected.txt", "r");
    assert_non_null(file);
    char line[1024];
    int lines = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        char measure[32];
        char name[32];
        int at = 0;
        double v[20] = {0};
        assert_int_equal(sscanf(line, "%31s %31s %n", measure, name, &at), 2);
        numbers_of(line + at, v, 20);
        int f = 0;
        while (f < 2 && strcmp(name, names[f]) != 0) {
            f++;
        }
        assert_string_equal(fixtures[f].name, name);
        size_t m = 0;
        while (m + 1 < sizeof measures / sizeof *measures &&
               strcmp(measure, measures[m].name) != 0) {
            m++;
        }
        assert_string_equal(measure, measures[m].name);
        measures[m].check(&fixtures[f], v);
        lines++;
    }
    fclose(file);
    assert_int_equal(lines, 230);
    for (int i = 0; i < 3; i++) {
        fixture_close(&fixtures[i]);
    }
}

/* A domain that prefers other experts stands out; domains alike stay at the level. */
static void test_distance(void **state)
{
    (void)state;
    for (int shifted = 0; shifted < 2; shifted++) {
        atlas_trace_options options = {.layers = 4,
                                       .experts = 8,
                                       .experts_per_token = 2,
                                       .domains = 5,
                                       .documents = 16,
                                       .document_tokens = 80,
                                       .seed = 3,
                                       .domain_shift = shifted};
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_counts *counts = mixt_counts_create(trace);
        mixt_units *units = mixt_units_create(trace);
        mixt_distance rows[20];
        assert_int_equal(mixt_distance_measure(trace, units, counts, rows, NULL), MIXT_OK);
        int above = 0;
        double sum = 0;
        double level = 0;
        for (int i = 0; i < 20; i++) {
            above += rows[i].value > rows[i].high;
            sum += rows[i].value;
            level += rows[i].level;
            if (i % 5 == 4 && shifted) {
                assert_true(rows[i].value > 1.5 * rows[i].high);
            }
        }
        if (!shifted) { /* 5 % of 20 are expected */
            assert_in_range(above, 0, 4);
            assert_near(sum / level, 1, 0.15);
        }
        mixt_units_free(units);
        mixt_counts_free(counts);
        mixt_trace_free(trace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_level),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_never_first),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_uniform_with_drops),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_few_documents),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_documents_matter),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_against_numpy),
        cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests_name("atlas", tests, NULL, NULL);
}
