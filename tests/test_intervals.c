/* How often the 95 % intervals of repetition hold the true rate: traces of known processes, made
 * many times. The test takes the cells in which intervals are hardest, bounded by what chance may
 * do; `test_intervals table` (make check-intervals) prints all of docs/atlas.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/distance.h"
#include "atlas/interval.h"
#include "atlas/repetition.h"
#include "atlas/statistics.h"
#include "atlas_trace.h"
#include "core/random.h"

#define EXPERTS 8
#define TRACES 200

typedef enum process {
    EXPERTS_STAY,  /* an expert stays for `run` tokens on average: pairs are independent */
    PAIRS_STAY,    /* repeating, and not repeating, goes on for `run` pairs on average */
    FAINT_REGIMES, /* pairs repeat with 0.6 or 0.3; that stays for `run` pairs on average */
    OWN_RATES,     /* as PAIRS_STAY, but each document has its own rate, 0.3 to 0.7 */
    PROCESSES,
} process;

static const char *const process_names[] = {"experts stay", "pairs stay", "faint regimes",
                                            "own rates"};

typedef struct cell {
    process process;
    int documents;
    int tokens; /* of each document */
    int run;
} cell;

typedef struct tally {
    int printed; /* of TRACES */
    int held;
    double width; /* sum over those printed */
} tally;

/* State of one document's process: the chance that the next pair repeats. */
typedef struct chain {
    double rate;     /* of the document in the long run */
    double keep;     /* chance that the state stays, whatever the rate */
    double fixed[2]; /* chance that a pair repeats in each state */
    bool state;
} chain;

static double uniform(const mixt_random_key *key, uint64_t *at)
{
    return mixt_random_uniform(key, (*at)++);
}

static chain start_chain(const cell *c, const mixt_random_key *key, uint64_t *at)
{
    /* State 1 with chance p, kept with chance `keep`, else drawn again: at p = 1/2 it stays for
     * 2 / (1 - keep) steps. */
    double run = c->run > 2 ? c->run : 2;
    chain made = {.rate = 0.5, .keep = 1 - 2 / run, .fixed = {0, 1}};
    double own = 0.3 + 0.4 * uniform(key, at);
    if (c->process == OWN_RATES) {
        made.rate = own;
    }
    if (c->process == FAINT_REGIMES) {
        made.fixed[0] = 0.3;
        made.fixed[1] = 0.6;
    }
    if (c->process == EXPERTS_STAY) {
        made.fixed[0] = made.fixed[1] = c->run > 1 ? 1 - 1.0 / c->run : 1.0 / EXPERTS;
    }
    made.state = uniform(key, at) < made.rate;
    return made;
}

static bool next_pair(chain *made, const mixt_random_key *key, uint64_t *at)
{
    double kept = uniform(key, at);
    double drawn = uniform(key, at);
    double pair = uniform(key, at);
    if (kept >= made->keep) {
        made->state = drawn < made->rate;
    }
    return pair < made->fixed[made->state];
}

/* The trace and its true rate: of all documents of the kind, or of the only one. */
static mixt_trace *make_trace(const cell *c, uint32_t number, double *truth)
{
    int tokens = c->documents * c->tokens;
    uint16_t *choices = calloc((size_t)tokens, sizeof *choices);
    const mixt_random_key key = {1000003 * (uint64_t)c->run + (uint64_t)c->process,
                                 MIXT_RANDOM_DATA, number};
    uint64_t at = 0;
    for (int d = 0; d < c->documents; d++) {
        chain made = start_chain(c, &key, &at);
        uint16_t expert = 0;
        *truth =
            made.fixed[0] + (made.fixed[1] - made.fixed[0]) * (c->documents == 1 ? made.rate : 0.5);
        for (int i = 0; i < c->tokens; i++) {
            if (!next_pair(&made, &key, &at)) {
                expert =
                    (uint16_t)((expert + 1 + mixt_random_below(&key, at++, EXPERTS - 1)) % EXPERTS);
            }
            choices[d * c->tokens + i] = expert;
        }
    }
    mixt_trace *trace = atlas_trace_of_choices(choices, tokens, EXPERTS);
    for (int i = 0; i < tokens; i++) {
        trace->document[i] = i / c->tokens;
    }
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trace_check(trace, "process", &error), MIXT_OK);
    free(choices);
    return trace;
}

static tally count_held(const cell *c)
{
    tally counted = {0};
    for (uint32_t t = 0; t < TRACES; t++) {
        double truth;
        mixt_rate rate;
        mixt_trace *trace = make_trace(c, t, &truth);
        assert_int_equal(mixt_atlas_repetition(trace, 0, 0, 0, &rate, NULL), MIXT_OK);
        mixt_trace_free(trace);
        if (rate.low > 0 || rate.high < 1) {
            counted.printed++;
            counted.held += rate.low <= truth && truth <= rate.high;
            counted.width += rate.high - rate.low;
        }
    }
    return counted;
}

/* Of intervals that hold in 90 % at least, fewer than this many do with a chance below 10^-3. */
static int least_held(int printed)
{
    return (int)floor(0.9 * printed - 3.1 * sqrt(0.09 * printed));
}

static void test_coverage(void **state)
{
    (void)state;
    static const int documents[] = {1, 2, 4, 8};
    static const int runs[] = {1, 10, 40};
    int failed = 0;
    for (int i = 0; i < PROCESSES * 4 * 3; i++) {
        cell c = {(process)(i / 12), documents[i / 3 % 4], 300, runs[i % 3]};
        tally counted = count_held(&c);
        if (counted.held < least_held(counted.printed) ||
            (c.run == 1 && counted.printed < TRACES * 9 / 10)) {
            print_error("%s, %d documents, runs of %d: %d of %d intervals hold, of %d traces\n",
                        process_names[c.process], c.documents, c.run, counted.held, counted.printed,
                        TRACES);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

/* A series that any language makes alike: autoregressive, of a linear congruential generator. */
static float *make_series(size_t count, double kept)
{
    float *values = malloc(count * sizeof *values);
    uint32_t bits = 12345;
    double value = 0;
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        bits = bits * 1664525U + 1013904223U;
        value = kept * value + (double)(bits >> 8) / 16777216 - 0.5;
        values[i] = (float)value;
    }
    return values;
}

/* Expected lengths from numpy: autocovariances by Fourier transform, the formulas of Patton,
 * Politis & White for blocks of fixed length. */
static void test_block_length(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        double kept, length;
    } cases[] = {{300, 0, 1},
                 {300, 0.5, 7.014744465410353},
                 {1000, 0.9, 50.36977471377975},
                 {3000, 0.8, 68.56462393741361}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float *values = make_series(cases[i].count, cases[i].kept);
        double length = mixt_block_length(values, cases[i].count, 1);
        assert_true(fabs(length - cases[i].length) < 1e-4 * cases[i].length);
        float *twice =
            malloc(2 * cases[i].count * sizeof *twice); /* the same values twice a step */
        for (size_t t = 0; t < 2 * cases[i].count; t++) {
            twice[t] = values[t / 2];
        }
        assert_true(fabs(mixt_block_length(twice, cases[i].count, 2) - length) < 1e-4 * length);
        free(twice);
        free(values);
    }
    const float constant[] = {2, 2, 2, 2, 2, 2, 2, 2};
    assert_true(mixt_block_length(constant, 8, 1) == 0);
}

/* Three documents of 10, 20 and 30 pairs; expected values from numpy, by leaving each out and by
 * the matrix of the quadratic form. */
static void test_jackknife(void **state)
{
    (void)state;
    const double hits[] = {3, 10, 4};
    const double pairs[] = {10, 20, 30};
    mixt_estimate estimate = mixt_estimate_of_units(hits, pairs, 1, 3);
    assert_true(fabs(estimate.value - 17.0 / 60) < 1e-12);
    assert_true(fabs(estimate.variance - 0.022831481481481484) < 1e-12);
    assert_true(fabs(estimate.freedom - 1.2865630582009568) < 1e-12);
    assert_true(fabs(estimate.low - 0.000501488131376771) < 1e-9);
    assert_true(fabs(estimate.high - 0.9968001790096647) < 1e-9);
    const double even[] = {20, 20, 20}; /* as many degrees of freedom as documents less one */
    assert_true(fabs(mixt_estimate_of_units(hits, even, 1, 3).freedom - 2) < 1e-12);
    const double alike[] = {4, 4, 4}; /* by accident: never of no width */
    estimate = mixt_estimate_of_units(alike, even, 1, 3);
    assert_true(estimate.low < 0.2 && estimate.high > 0.2);
    assert_true(mixt_student_975(1.5) > 6.2 && mixt_student_975(1.5) < 7.2); /* 6.54 */
}

/* A domain that knows nothing widens the interval over all by all that it may be. */
static void test_all_domains(void **state)
{
    (void)state;
    const double hits[] = {30, 33, 36, 27};
    const double pairs[] = {100, 100, 100, 100};
    mixt_estimate domains[2] = {mixt_estimate_of_units(hits, pairs, 1, 4),
                                {.value = 0.5, .pairs = 100, .low = 0, .high = 1, .units = 1}};
    mixt_estimate one = mixt_estimate_of_domains(domains, 1);
    assert_true(fabs(one.low - domains[0].low) < 1e-12);
    assert_true(fabs(one.high - domains[0].high) < 1e-12);
    mixt_estimate both = mixt_estimate_of_domains(domains, 2);
    assert_true(both.low < 0.8 * domains[0].low + 0.01);
    assert_true(both.high > 0.8 * domains[0].high + 0.2 - 0.01);
    mixt_estimate none = mixt_estimate_of_domains(domains + 1, 1);
    assert_true(none.low <= 0 && none.high >= 1);
}

/* Domains of one document each, alike but for chance: how many exceed what chance is said to give,
 * of how many that have a level. */
static void count_exceeding(int tokens, int run, int *leveled, int *exceeding)
{
    *leveled = *exceeding = 0;
    for (uint32_t t = 0; t < 60; t++) {
        double truth;
        mixt_error error = MIXT_ERROR_INIT;
        cell c = {EXPERTS_STAY, 3, tokens, run};
        mixt_trace *one = make_trace(&c, t, &truth);
        mixt_trace_info info = one->info;
        info.domains = 3;
        mixt_trace *trace = mixt_trace_allocate(&info, 1, 1);
        trace->vocab_offsets[1] = 1;
        for (int d = 0; d < 3; d++) {
            trace->domain_names[d] = mixt_arena_string(trace->arena, d == 0   ? "a"
                                                                     : d == 1 ? "b"
                                                                              : "c");
        }
        memcpy(trace->experts, one->experts, (size_t)info.tokens * sizeof(uint16_t));
        for (uint64_t i = 0; i < info.tokens; i++) {
            trace->document[i] = one->document[i];
            trace->domain[i] = (uint16_t)one->document[i];
        }
        assert_int_equal(mixt_trace_check(trace, "domains", &error), MIXT_OK);
        mixt_units *units = mixt_units_create(trace);
        mixt_counts *counts = mixt_counts_create(trace);
        mixt_distance rows[3];
        assert_int_equal(mixt_distance_measure(trace, units, counts, rows, &error), MIXT_OK);
        for (int d = 0; d < 3; d++) {
            *leveled += rows[d].leveled;
            *exceeding += mixt_distance_exceeds_chance(&rows[d]);
        }
        mixt_counts_free(counts);
        mixt_units_free(units);
        mixt_trace_free(trace);
        mixt_trace_free(one);
    }
}

/* 5 % of 180 domains are 9; they hang together by threes, so 24 leaves room for chance. Experts
 * that stay for 40 of 300 tokens say nothing of what chance would give. */
static void test_levels(void **state)
{
    (void)state;
    static const struct {
        int tokens, run;
    } cases[] = {{300, 1}, {3000, 1}, {3000, 10}, {3000, 40}, {300, 40}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int leveled;
        int exceeding;
        count_exceeding(cases[i].tokens, cases[i].run, &leveled, &exceeding);
        print_message("%d tokens, runs of %d: %d levels, %d exceeded\n", cases[i].tokens,
                      cases[i].run, leveled, exceeding);
        assert_true(exceeding <= 24);
        assert_true(cases[i].run > 1 || leveled >= 160);
        assert_true(cases[i].tokens > 300 || cases[i].run == 1 || leveled <= 9);
    }
}

static void print_table(void)
{
    static const int documents[] = {1, 2, 4, 8, 32};
    static const int runs[] = {1, 10, 40};
    static const int tokens[] = {300, 3000};
    printf("| pairs | tokens | runs |");
    for (int d = 0; d < 5; d++) {
        printf(" %d document%s |", documents[d], documents[d] == 1 ? "" : "s");
    }
    printf("\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < PROCESSES * 2 * 3; i++) {
        printf("| %s | %d | %d |", process_names[i / 6], tokens[i / 3 % 2], runs[i % 3]);
        for (int d = 0; d < 5; d++) {
            cell c = {(process)(i / 6), documents[d], tokens[i / 3 % 2], runs[i % 3]};
            tally counted = count_held(&c);
            if (counted.printed == 0) {
                printf(" none |");
                continue;
            }
            printf(" %.1f", 100.0 * counted.held / counted.printed);
            if (counted.printed < TRACES) {
                printf(" of %d", counted.printed);
            }
            printf(" (±%.1f) |", 50 * counted.width / counted.printed);
        }
        printf("\n");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "table") == 0) {
        print_table();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coverage),  cmocka_unit_test(test_block_length),
        cmocka_unit_test(test_jackknife), cmocka_unit_test(test_all_domains),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
