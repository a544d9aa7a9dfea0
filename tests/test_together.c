/* Which experts go together and what they take: numpy's numbers
 * (tests/reference/atlas_together.py), routes that were planted, routes without structure, and
 * traces at the edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/measure.h"
#include "atlas/statistics.h"
#include "atlas/token_class.h"
#include "atlas_trace.h"
#include "measure_fixture.h"
#include "core/random.h"

#define FIXTURES "tests/fixtures/atlas/"

static mixt_table *measure(const char *name, const mixt_trace *trace, int shuffles, uint64_t seed)
{
    return measure_of(trace, name, &(mixt_measure_options){.shuffles = shuffles, .seed = seed});
}

/* The row whose first cells are keys [count]; fails where there is none. */
static uint64_t row_of(const mixt_table *table, const double *keys, int count)
{
    int64_t row = measure_row(table, keys, count);
    if (row < 0) {
        fail_msg("%s has no row %g %g %g", mixt_table_measure(table)->name, keys[0],
                 count > 1 ? keys[1] : 0, count > 2 ? keys[2] : 0);
    }
    return (uint64_t)row;
}

static double cell(const mixt_table *table, uint64_t row, const char *name)
{
    return mixt_table_value(table, row, measure_column(table, name));
}

/* -- numpy ---------------------------------------------------------------------------------- */

static mixt_trace *open_fixture(const char *name)
{
    char path[128];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace;
    snprintf(path, sizeof path, FIXTURES "%s.safetensors", name);
    if (mixt_trace_open(path, &trace, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return trace;
}

/* One line of the fixture; returns how many cells it held beside ours. */
static int compare_line(const mixt_table *table, char *at, const char *line)
{
    char *rest;
    double keys[4];
    int count = (int)strtol(at, &rest, 10), cells = 0;
    assert_in_range(count, 1, 4);
    for (int i = 0; i < count; i++) {
        keys[i] = strtod(rest, &rest);
    }
    uint64_t row = row_of(table, keys, count);
    for (char *name = strtok_r(rest, " \n", &rest); name != NULL;
         name = strtok_r(rest, " \n", &rest)) {
        char *value = strtok_r(rest, " \n", &rest), *behind;
        double expected = strtod(value, &behind), found = cell(table, row, name);
        double tolerance = *behind == '~' ? strtod(behind + 1, NULL) : 1e-8 * fabs(expected) + 1e-9;
        if (!(fabs(found - expected) <= tolerance)) {
            fail_msg("%s is %.10g, not %.10g within %g: %s", name, found, expected, tolerance,
                     line);
        }
        cells++;
    }
    return cells;
}

static void test_numpy(void **state)
{
    (void)state;
    FILE *file = fopen(FIXTURES "together.txt", "r");
    assert_non_null(file);
    char line[2048], copy[2048], before[64] = "", measured[32], trace_name[32];
    mixt_trace *trace = NULL;
    mixt_table *table = NULL;
    int cells = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        int length;
        if (sscanf(line, "%31s %31s %n", measured, trace_name, &length) < 2 || line[0] == '#') {
            continue;
        }
        char which[64];
        snprintf(which, sizeof which, "%s %s", measured, trace_name);
        if (strcmp(which, before) != 0) {
            mixt_table_free(table);
            mixt_trace_free(trace);
            trace = open_fixture(trace_name);
            table = measure(measured, trace, 100, 7);
            strcpy(before, which);
        }
        strcpy(copy, line);
        cells += compare_line(table, copy + length, line);
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
    fclose(file);
    assert_true(cells > 5000);
}

/* scipy.stats: 2 * t.sf(t, freedom). */
static void test_student(void **state)
{
    (void)state;
    static const double cases[][3] = {
        {1, 1, 0.5},
        {2.5, 7.3, 0.0396502346656},
        {0.1, 19, 0.921391949765},
        {-12, 19, 2.59089463722e-10},
        {4, 2.2, 0.0487306267278},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double p = mixt_student_p(cases[i][0], cases[i][1]);
        if (!(fabs(p - cases[i][2]) <= 1e-9 * cases[i][2])) {
            fail_msg("t %g of %g: %.12g", cases[i][0], cases[i][1], p);
        }
    }
    assert_true(isnan(mixt_student_p(NAN, 3)) && isnan(mixt_student_p(1, 0)));
    assert_true(mixt_student_p(INFINITY, 3) == 0 && mixt_student_p(0, 3) == 1);
}

static void test_class_words(void **state)
{
    (void)state;
    mixt_trace *trace = open_fixture("pairs");
    mixt_table *table = measure("classes", trace, 0, 0);
    const mixt_column *columns;
    mixt_table_columns(table, &columns);
    const char *const *words = columns[measure_column(table, "class")].words;
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        assert_string_equal(words[c], mixt_token_class_name(c));
    }
    assert_null(words[MIXT_CLASS_COUNT]);
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* -- Planted --------------------------------------------------------------------------------- */

typedef enum planted { PLANT_NOTHING, PLANT_TOPIC, PLANT_SYNTAX, PLANT_PAIR, PLANT_PLACE } planted;

#define TOPIC_EXPERT 3  /* in six of ten tokens of domain 1 */
#define SYNTAX_EXPERT 5 /* in all operators and punctuation */
#define FAITHFUL 6      /* brings PARTNER with it */
#define PARTNER 7
#define PLACE_EXPERT 2 /* at the first seven places of each document */

static mixt_trace *make_trace(planted plant, uint64_t seed)
{
    atlas_trace_options options = {.layers = 1,
                                   .experts = 8,
                                   .experts_per_token = 2,
                                   .domains = 3,
                                   .documents = 12,
                                   .document_tokens = 120,
                                   .seed = seed,
                                   .skew = 0.5};
    mixt_trace *trace = atlas_trace_make(&options);
    mixt_random_key key = {seed, MIXT_RANDOM_DATA, 99};
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        uint16_t *row = trace->experts + i * 2;
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, trace->tokens[i], &length);
        mixt_token_class kind = mixt_token_class_of(bytes, length);
        bool topic = trace->domain[i] == 1 && mixt_random_uniform(&key, i) < 0.6;
        bool mark = kind == MIXT_CLASS_OPERATORS || kind == MIXT_CLASS_PUNCTUATION;
        bool early = i - trace->document_start[trace->document[i]] < 7;
        int wanted = plant == PLANT_TOPIC && topic   ? TOPIC_EXPERT
                     : plant == PLANT_SYNTAX && mark ? SYNTAX_EXPERT
                     : plant == PLANT_PLACE && early ? PLACE_EXPERT
                                                     : -1;
        if (plant == PLANT_PAIR && (row[0] == FAITHFUL || row[1] == FAITHFUL)) {
            wanted = PARTNER;
            row[0] = FAITHFUL;
            row[1] = PARTNER;
        }
        if (wanted >= 0 && row[0] != wanted && row[1] != wanted) {
            row[1] = (uint16_t)wanted;
        }
    }
    return trace;
}

/* Rows whose q is below 0.01; *best: the one with the largest effect of those. */
static int discoveries(const mixt_table *table, uint64_t *best)
{
    int p = measure_column(table, "q"), effect = mixt_table_find(table, MIXT_ROLE_EFFECT, 2),
        count = 0;
    double most = -INFINITY;
    for (uint64_t r = 0; r < mixt_table_rows(table); r++) {
        if (mixt_table_value(table, r, p) < 0.01) {
            count++;
            if (mixt_table_value(table, r, effect) > most) {
                most = mixt_table_value(table, r, effect);
                *best = r;
            }
        }
    }
    return count;
}

/* `name` finds the cell of these two keys first; or nothing where expert is -1. */
static void finds(const char *name, planted plant, double expert, double other)
{
    mixt_trace *trace = make_trace(plant, 5);
    mixt_table *table = measure(name, trace, 0, 0);
    uint64_t best = 0;
    int found = discoveries(table, &best);
    double first = mixt_table_value(table, best, 1), second = mixt_table_value(table, best, 2);
    if (expert < 0 ? found != 0 : found == 0 || first != expert || second != other) {
        fail_msg("%s, plant %d: %d discoveries, first %g %g", name, plant, found, first, second);
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
}

static void test_planted_cells(void **state)
{
    (void)state;
    finds("domains", PLANT_TOPIC, TOPIC_EXPERT, 1);
    finds("domains", PLANT_SYNTAX, -1, -1);
    finds("domains", PLANT_PAIR, -1, -1);
    finds("domains", PLANT_PLACE, -1, -1);
    finds("classes", PLANT_SYNTAX, SYNTAX_EXPERT, MIXT_CLASS_OPERATORS);
    finds("classes", PLANT_TOPIC, -1, -1);
    finds("classes", PLANT_PAIR, -1, -1);
    finds("classes", PLANT_PLACE, -1, -1);
    finds("coactivation", PLANT_PAIR, FAITHFUL, PARTNER);
    finds("coactivation", PLANT_TOPIC, -1, -1);
    finds("coactivation", PLANT_SYNTAX, -1, -1);
    finds("coactivation", PLANT_PLACE, -1, -1);
    finds("positions", PLANT_PLACE, PLACE_EXPERT, 0);
    finds("positions", PLANT_TOPIC, -1, -1);
    finds("positions", PLANT_SYNTAX, -1, -1);
    finds("positions", PLANT_PAIR, -1, -1);
}

/* p of the first row of a measure by layers. */
static double layer_p(const char *name, planted plant, double word)
{
    mixt_trace *trace = make_trace(plant, 5);
    mixt_table *table = measure(name, trace, 199, 0);
    const double keys[] = {0, word, -1};
    uint64_t row = row_of(table, keys, strcmp(name, "togetherness") == 0 ? 1 : 2);
    double p = cell(table, row, "p");
    mixt_table_free(table);
    mixt_trace_free(trace);
    return p;
}

static void test_planted_layers(void **state)
{
    (void)state;
    assert_true(layer_p("togetherness", PLANT_PAIR, 0) == 0.005);
    assert_true(layer_p("togetherness", PLANT_TOPIC, 0) > 0.01);
    assert_true(layer_p("togetherness", PLANT_SYNTAX, 0) > 0.01);
    assert_true(layer_p("vocabulary", PLANT_SYNTAX, 0) == 0.005);
    assert_true(layer_p("vocabulary", PLANT_SYNTAX, 1) > 0.01); /* of the next id */
    assert_true(layer_p("vocabulary", PLANT_TOPIC, 0) > 0.01);
    assert_true(layer_p("vocabulary", PLANT_PAIR, 0) > 0.01);
    assert_true(layer_p("divergence", PLANT_SYNTAX, 0) == 0.005);
    assert_true(layer_p("divergence", PLANT_SYNTAX, 1) == 0.005);
    assert_true(layer_p("divergence", PLANT_TOPIC, 0) > 0.01);
    assert_true(layer_p("divergence", PLANT_PAIR, 1) > 0.01);
    assert_true(layer_p("languages", PLANT_TOPIC, 0) == 0.005);
    assert_true(layer_p("languages", PLANT_SYNTAX, 0) > 0.01);
    assert_true(layer_p("languages", PLANT_PAIR, 0) > 0.01);
}

/* Low end of the reliability of a profile. */
static double reliable(planted plant, double profile)
{
    mixt_trace *trace = make_trace(plant, 5);
    mixt_table *table = measure("reliability", trace, 0, 0);
    const double keys[] = {0, profile};
    double low = cell(table, row_of(table, keys, 2), "low");
    mixt_table_free(table);
    mixt_trace_free(trace);
    return low;
}

static void test_planted_reliability(void **state)
{
    (void)state;
    assert_true(reliable(PLANT_TOPIC, 0) > 0.9);
    assert_true(reliable(PLANT_TOPIC, 1) < 0);
    assert_true(reliable(PLANT_SYNTAX, 0) < 0);
    assert_true(reliable(PLANT_SYNTAX, 1) > 0.9);
}

static void test_planted_tokens(void **state)
{
    (void)state;
    mixt_trace *trace = make_trace(PLANT_SYNTAX, 5);
    mixt_table *table = measure("tokens", trace, 0, 0);
    for (uint64_t r = 0; r < mixt_table_rows(table); r++) {
        size_t length;
        int32_t token = (int32_t)mixt_table_value(table, r, 2);
        const uint8_t *bytes = mixt_trace_token_bytes(trace, token, &length);
        mixt_token_class kind = mixt_token_class_of(bytes, length);
        bool mark = kind == MIXT_CLASS_OPERATORS || kind == MIXT_CLASS_PUNCTUATION;
        bool own = mixt_table_value(table, r, 1) == SYNTAX_EXPERT;
        assert_int_equal(own, mark && cell(table, r, "share") == 1);
        assert_true(cell(table, r, "low") > 0.4 || !own);
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* -- Routes without structure ---------------------------------------------------------------- */

static int seeds = 25; /* more: the program's argument */

/* What a measure says of a trace without structure: whether the null lies within its interval. With
 * levels by draws: whether the value is neither above nor below all 39 of them. */
typedef struct calibration {
    const char *name;
    int keys;
    double key[3];
    const char *low, *high; /* NULL: by draws */
    double null;
} calibration;

static const calibration calibrations[] = {
    {"coactivation", 3, {0, 1, 4}, "lift_low", "lift_high", 1},
    {"coactivation", 3, {0, 6, 7}, "lift_low", "lift_high", 1},
    {"domains", 3, {0, 1, 1}, "p", NULL, 0},
    {"domains", 3, {0, 6, 2}, "p", NULL, 0},
    {"classes", 3, {0, 2, MIXT_CLASS_OPERATORS}, "lift_low", "lift_high", 1},
    {"classes", 3, {0, 7, MIXT_CLASS_FUNCTION}, "lift_low", "lift_high", 1},
    {"positions", 3, {0, 3, 15}, "lift_low", "lift_high", 1},
    {"positions", 3, {0, 3, 0}, "lift_low", "lift_high", 1},
    {"togetherness", 1, {0}, NULL, NULL, 0},
    {"vocabulary", 2, {0, 0}, NULL, NULL, 0},
    {"vocabulary", 2, {0, 1}, NULL, NULL, 0},
    {"divergence", 2, {0, 0}, NULL, NULL, 0},
    {"divergence", 2, {0, 1}, NULL, NULL, 0},
    {"languages", 3, {0, 0, 1}, NULL, NULL, 0},
    {"reliability", 2, {0, 0}, "low", "high", 0},
    {"reliability", 2, {0, 1}, "low", "high", 0},
};

static bool null_within(const mixt_table *table, const calibration *c)
{
    uint64_t row = row_of(table, c->key, c->keys);
    if (c->low == NULL) {
        double p = cell(table, row, "p");
        return p > 1.5 / 40 && p < 1;
    }
    if (c->high == NULL) {
        return cell(table, row, "p") > 0.05;
    }
    return cell(table, row, c->low) <= c->null && c->null <= cell(table, row, c->high);
}

/* Refused is what lies more than 3.2 standard errors of the binomial below 0.95: 20 of 25 and
 * fewer. */
static void test_null(void **state)
{
    (void)state;
    enum { COUNT = sizeof calibrations / sizeof *calibrations };
    int within[COUNT] = {0};
    for (int seed = 0; seed < seeds; seed++) {
        mixt_trace *trace = make_trace(PLANT_NOTHING, 1000 + (uint64_t)seed);
        mixt_table *table = NULL;
        for (int i = 0; i < COUNT; i++) {
            const calibration *c = &calibrations[i];
            if (i == 0 || strcmp(c->name, calibrations[i - 1].name) != 0) {
                mixt_table_free(table);
                table = measure(c->name, trace, strcmp(c->name, "reliability") == 0 ? 10 : 39,
                                (uint64_t)seed);
            }
            within[i] += null_within(table, c);
        }
        mixt_table_free(table);
        mixt_trace_free(trace);
    }
    for (int i = 0; i < COUNT; i++) {
        double rate = (double)within[i] / seeds;
        if (seeds > 100) {
            print_message("%s %g %g: %.1f %%\n", calibrations[i].name, calibrations[i].key[1],
                          calibrations[i].key[2], 100 * rate);
        }
        if (rate < 0.95 - 3.2 * sqrt(0.95 * 0.05 / seeds)) {
            fail_msg("%s %g: the null is within in %d of %d", calibrations[i].name,
                     calibrations[i].key[1], within[i], seeds);
        }
    }
}

/* -- Edges ------------------------------------------------------------------------------------ */

/* Cells keep to what their columns say: shares lie in 0 to 1, p and q too, ends around the value.
 */
static void check_cells(const mixt_table *table)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (uint64_t r = 0; r < mixt_table_rows(table); r++) {
        for (int c = 0; c < count; c++) {
            double value = mixt_table_value(table, r, c);
            bool share = columns[c].kind == MIXT_COLUMN_SHARE || columns[c].role == MIXT_ROLE_P ||
                         columns[c].role == MIXT_ROLE_Q;
            double least = columns[c].role == MIXT_ROLE_EFFECT ? -1 : 0; /* a difference */
            bool fits = !share || isnan(value) || (value >= least && value <= 1 + 1e-9);
            if (columns[c].role == MIXT_ROLE_KEY) {
                fits = value >= -1;
            }
            int whole = mixt_table_find(table, MIXT_ROLE_VALUE, columns[c].group);
            double middle = mixt_table_value(table, r, whole);
            if (columns[c].role == MIXT_ROLE_LOW) {
                fits = fits && !(value > middle + 1e-9);
            } else if (columns[c].role == MIXT_ROLE_HIGH) {
                fits = fits && !(value < middle - 1e-9);
            }
            if (!fits) {
                fail_msg("%s, row %llu, %s: %g beside %g", mixt_table_measure(table)->name,
                         (unsigned long long)r, columns[c].name, value, middle);
            }
        }
    }
}

static void test_edges(void **state)
{
    (void)state;
    static const int chosen[] = {3, 1};
    static const atlas_trace_options cases[] = {
        {.experts = 1, .experts_per_token = 1, .domains = 2, .documents = 3, .document_tokens = 20},
        {.experts = 4, .experts_per_token = 4, .domains = 2, .documents = 3, .document_tokens = 20},
        {.experts = 6, .experts_per_token = 2, .domains = 1, .documents = 1, .document_tokens = 90},
        {.experts = 6, .experts_per_token = 1, .domains = 3, .documents = 1, .document_tokens = 1},
        {.experts = 6,
         .experts_per_token = 3,
         .domains = 2,
         .documents = 5,
         .document_tokens = 30,
         .chosen = chosen,
         .none = 0.4},
        {.experts = 5,
         .experts_per_token = 2,
         .domains = 2,
         .documents = 4,
         .document_tokens = 30,
         .none = 1},
        {.experts = 40,
         .experts_per_token = 4,
         .domains = 30,
         .documents = 2,
         .document_tokens = 40,
         .skew = 6},
    };
    static const char *const names[] = {"coactivation", "togetherness", "domains", "classes",
                                        "positions",    "vocabulary",   "tokens",  "divergence",
                                        "languages",    "reliability"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atlas_trace_options options = cases[i];
        options.layers = 2;
        mixt_trace *trace = atlas_trace_make(&options);
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            mixt_table *table = measure(names[n], trace, 5, 0);
            check_cells(table);
            mixt_table_free(table);
        }
        mixt_trace_free(trace);
    }
}

static void same_rows(const mixt_table *table, uint64_t first, uint64_t second, double tolerance)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (int c = 0; c < count; c++) {
        double a = mixt_table_value(table, first, c), b = mixt_table_value(table, second, c);
        if (columns[c].role != MIXT_ROLE_KEY && columns[c].role != MIXT_ROLE_Q &&
            !(fabs(a - b) <= tolerance)) {
            fail_msg("%s: %g beside %g", columns[c].name, a, b);
        }
    }
}

/* A model that predicts what it has just read, and one that predicts what comes. */
static void test_predicted(void **state)
{
    (void)state;
    mixt_trace *trace = make_trace(PLANT_SYNTAX, 5);
    int32_t *predicted = calloc(trace->info.tokens, sizeof *predicted);
    memcpy(predicted, trace->tokens, trace->info.tokens * sizeof *predicted);
    trace->predicted = predicted;
    mixt_table *table = measure("vocabulary", trace, 5, 0);
    same_rows(table, row_of(table, (double[]){0, 0}, 2), row_of(table, (double[]){0, 2}, 2), 0);
    mixt_table_free(table);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        bool last = i + 1 == trace->info.tokens || trace->document[i] != trace->document[i + 1];
        predicted[i] = last ? -1 : trace->tokens[i + 1];
    }
    table = measure("vocabulary", trace, 5, 0);
    same_rows(table, row_of(table, (double[]){0, 1}, 2), row_of(table, (double[]){0, 2}, 2), 0);
    mixt_table_free(table);
    trace->predicted = NULL;
    free(predicted);
    mixt_trace_free(trace);
}

/* Logits whose softmax has the chosen experts' weights give what the weights give. */
static void test_logits(void **state)
{
    (void)state;
    mixt_trace *trace = make_trace(PLANT_TOPIC, 5);
    mixt_table *weights = measure("languages", trace, 5, 0);
    size_t experts = (size_t)trace->info.experts;
    uint16_t *logits = calloc(trace->info.tokens * experts, sizeof *logits);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        for (size_t e = 0; e < experts; e++) {
            float logit = -INFINITY;
            for (int c = 0; c < 2; c++) {
                if (mixt_trace_experts(trace, 0, i)[c] == e) {
                    logit = logf(mixt_trace_weight(mixt_trace_weights(trace, 0, i)[c])) + 3;
                }
            }
            mixt_f32_to_f16(&logit, &logits[i * experts + e], 1);
        }
    }
    trace->logits = logits;
    mixt_table *table = measure("languages", trace, 5, 0);
    for (uint64_t r = 0; r < mixt_table_rows(table); r++) {
        for (int c = 0; c < 10; c++) {
            double a = mixt_table_value(weights, r, c), b = mixt_table_value(table, r, c);
            assert_true(fabs(a - b) <= 1e-3 * fabs(a));
        }
    }
    assert_non_null(strstr(mixt_table_note(table), "over all experts"));
    assert_non_null(strstr(mixt_table_note(weights), "no router logits"));
    mixt_table_free(table);
    mixt_table_free(weights);
    trace->logits = NULL;
    free(logits);
    mixt_trace_free(trace);
}

/* An expert that is never beside another, however often both are chosen, is found. */
static void test_avoided(void **state)
{
    (void)state;
    atlas_trace_options options = {.layers = 1,
                                   .experts = 4,
                                   .experts_per_token = 2,
                                   .domains = 2,
                                   .documents = 12,
                                   .document_tokens = 200};
    mixt_trace *trace = atlas_trace_make(&options);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        uint16_t *row = trace->experts + i * 2;
        if (row[0] + row[1] == 1) {
            row[1] = 2; /* not 0 beside 1 */
        }
    }
    mixt_table *table = measure("coactivation", trace, 0, 0);
    uint64_t row = row_of(table, (double[]){0, 0, 1}, 3);
    assert_true(cell(table, row, "tokens") == 0 && cell(table, row, "lift") == 0);
    assert_true(cell(table, row, "q") < 1e-6 && cell(table, row, "lift_high") < 0.2);
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* Of many experts the surest pairs stay, and q counts the others too. */
static void test_pairs_left_out(void **state)
{
    (void)state;
    atlas_trace_options options = {.layers = 1,
                                   .experts = 40,
                                   .experts_per_token = 4,
                                   .domains = 2,
                                   .documents = 12,
                                   .document_tokens = 60};
    mixt_trace *trace = atlas_trace_make(&options);
    mixt_table *table = measure("coactivation", trace, 0, 0);
    assert_int_equal(mixt_table_rows(table), 8 * 40);
    assert_non_null(strstr(mixt_table_note(table), "460 pairs are left out"));
    double least = 1;
    for (uint64_t r = mixt_table_rows(table); r-- > 0;) {
        least = fmin(least, cell(table, r, "p") * 780 / (double)(r + 1));
        assert_true(r == 0 || cell(table, r - 1, "p") <= cell(table, r, "p"));
        assert_true(fabs(cell(table, r, "q") - least) <= 1e-9);
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
}

int main(int count, char **arguments)
{
    if (count > 1) {
        seeds = atoi(arguments[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy),          cmocka_unit_test(test_student),
        cmocka_unit_test(test_class_words),    cmocka_unit_test(test_planted_cells),
        cmocka_unit_test(test_planted_layers), cmocka_unit_test(test_planted_reliability),
        cmocka_unit_test(test_planted_tokens), cmocka_unit_test(test_null),
        cmocka_unit_test(test_edges),          cmocka_unit_test(test_predicted),
        cmocka_unit_test(test_logits),         cmocka_unit_test(test_avoided),
        cmocka_unit_test(test_pairs_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
