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
        cmocka_unit_test(test_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
