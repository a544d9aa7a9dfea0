/* Measures of how surely routers choose: against numpy, on traces that hold what they look for, and
 * on traces that hold nothing. */
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
#include "core/random.h"

#define SIGNALS "tests/fixtures/atlas/signals.safetensors"
#define EXPECTED "tests/fixtures/atlas/router.txt"

static double cell(const mixt_table *table, uint64_t row, const char *name)
{
    return mixt_table_value(table, row, measure_column(table, name));
}

/* -- Against numpy -------------------------------------------------------------------------- */

/* How far a cell may be off: ends of intervals hang on an expansion of Student's t, within 0.3 % of
 * their distance; means over layers are kept in fp32. */
static double allowed(const mixt_column *columns, int column, double expected, double value)
{
    bool end = columns[column].role == MIXT_ROLE_LOW || columns[column].role == MIXT_ROLE_HIGH;
    return 2e-6 * fabs(expected) + 1e-7 + (end ? 0.003 * fabs(expected - value) : 0);
}

/* The numbers of a line behind its measure and keys, "name [keys] 1 2 3\n". */
static void compare_row(const mixt_table *table, uint64_t row, char *line)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    double value = NAN;
    char *at = line;
    for (int c = 0; c < count; c++) {
        char *end;
        double expected = strtod(at, &end);
        if (end == at) {
            fail_msg("row %llu: no number for %s", (unsigned long long)row, columns[c].name);
        }
        at = end;
        value = columns[c].role == MIXT_ROLE_VALUE ? expected : value;
        double got = mixt_table_value(table, row, c);
        if (isnan(expected) != isnan(got) ||
            fabs(expected - got) > allowed(columns, c, expected, value)) {
            fail_msg("%s, row %llu, %s: %.12g, expected %.12g", mixt_table_measure(table)->name,
                     (unsigned long long)row, columns[c].name, got, expected);
        }
    }
    assert_true(*at == '\n');
}

static void test_numpy(void **state)
{
    (void)state;
    static const char *const names[] = {"entropy", "margin", "lookahead", "confidence"};
    mixt_trace *trace;
    assert_int_equal(mixt_trace_open(SIGNALS, &trace, NULL), MIXT_OK);
    FILE *file = fopen(EXPECTED, "r");
    assert_non_null(file);
    char line[2000];
    mixt_table *table = NULL;
    uint64_t row = 0, lines = 0;
    size_t next = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        size_t length = strcspn(line, " ");
        line[length] = '\0';
        if (table == NULL || strcmp(mixt_table_measure(table)->name, line) != 0) {
            assert_true(table == NULL || row == mixt_table_rows(table));
            mixt_table_free(table);
            assert_string_equal(line, names[next]);
            table = measure_of(trace, names[next++], NULL);
            row = 0;
        }
        compare_row(table, row++, line + length + 1);
        lines++;
    }
    assert_int_equal(row, mixt_table_rows(table));
    assert_int_equal(next, 4);
    assert_true(lines > 20);
    fclose(file);
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* -- Made-up traces ------------------------------------------------------------------------- */

typedef struct made {
    mixt_trace *trace;
    uint16_t *margins, *entropies;
} made;

/* Independent choices, with signals, predictions and experts ahead that hang on nothing; about a
 * third is predicted right. */
static made make(const atlas_trace_options *options)
{
    mixt_trace *trace = atlas_trace_make(options);
    size_t tokens = (size_t)trace->info.tokens, rows = tokens * (size_t)trace->info.layers;
    size_t k = (size_t)trace->info.experts_per_token;
    mixt_random_key key = {options->seed, MIXT_RANDOM_DATA, 77};
    made m = {trace, calloc(rows, 2), calloc(rows, 2)};
    trace->predicted = calloc(tokens, sizeof *trace->predicted);
    trace->ahead = calloc(rows * k, sizeof *trace->ahead);
    for (size_t i = 0; i < rows; i++) {
        float margin = (float)mixt_random_uniform(&key, 4 * i);
        float entropy = trace->info.experts > 1 ? (float)mixt_random_uniform(&key, 4 * i + 1) : 0;
        mixt_f32_to_f16(&margin, &m.margins[i], 1);
        mixt_f32_to_f16(&entropy, &m.entropies[i], 1);
    }
    for (size_t i = 0; i + 1 < tokens; i++) {
        bool right = mixt_random_uniform(&key, 4 * i + 2) < 1.0 / 3;
        int32_t next = trace->tokens[i + 1];
        trace->predicted[i] = right ? next : (next + 1) % trace->vocab_size;
    }
    for (size_t i = 0; i < rows * k; i++) { /* those of the layer before, of a token far away */
        size_t row = i / k;
        trace->ahead[i] =
            row < tokens
                ? MIXT_TRACE_NONE
                : trace->experts[(row / tokens * tokens + (row + tokens / 2) % tokens) * k + i % k];
    }
    trace->margins = m.margins;
    trace->entropies = m.entropies;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_check(trace, "made", &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return m;
}

static void made_free(made *m)
{
    mixt_trace_free(m->trace);
    free(m->margins);
    free(m->entropies);
}

/* Of so many traces without structure, the interval of lookahead holds its level and that of
 * confidence its own about 95 times in 100, where p is above 0.05. */
static void test_calibrated(void **state)
{
    (void)state;
    int held = 0, first_held = 0, confidence_held = 0, small = 0;
    enum { SEEDS = 200 };
    for (int seed = 1; seed <= SEEDS; seed++) {
        made m = make(&(atlas_trace_options){.layers = 2,
                                             .experts = 8,
                                             .experts_per_token = 2,
                                             .domains = 2,
                                             .documents = 20,
                                             .document_tokens = 30,
                                             .skew = 2,
                                             .seed = (uint64_t)seed});
        mixt_table *table = measure_of(m.trace, "lookahead", NULL);
        double use = cell(table, 0, "use"), first = cell(table, 0, "first_use");
        held += cell(table, 0, "low") <= use && use <= cell(table, 0, "high");
        first_held += cell(table, 0, "first_low") <= first && first <= cell(table, 0, "first_high");
        mixt_table_free(table);
        table = measure_of(m.trace, "confidence", NULL);
        use = cell(table, 0, "use");
        confidence_held += cell(table, 0, "low") <= use && use <= cell(table, 0, "high");
        small += cell(table, 0, "p") < 0.05;
        assert_true(fabs(cell(table, 0, "larger") - 0.5) < 0.12);
        mixt_table_free(table);
        made_free(&m);
    }
    printf("of %d: lookahead %d, first %d, confidence %d; p < 0.05: %d\n", SEEDS, held, first_held,
           confidence_held, small);
    assert_in_range(held, SEEDS * 90 / 100, SEEDS * 99 / 100);
    assert_in_range(first_held, SEEDS * 90 / 100, SEEDS * 99 / 100);
    assert_in_range(confidence_held, SEEDS * 90 / 100, SEEDS * 99 / 100);
    assert_in_range(confidence_held + small, SEEDS - 1, SEEDS + 1); /* t(0.975) is rounded */
}

/* What is known ahead is found, and only there; routers that are surer where the model is right
 * likewise. */
static void test_planted(void **state)
{
    (void)state;
    made m = make(&(atlas_trace_options){.layers = 3,
                                         .experts = 16,
                                         .experts_per_token = 2,
                                         .domains = 2,
                                         .documents = 20,
                                         .document_tokens = 30,
                                         .seed = 3});
    uint64_t tokens = m.trace->info.tokens;
    memcpy(m.trace->ahead + 2 * tokens * 2, m.trace->experts + 2 * tokens * 2, tokens * 2 * 2);
    for (uint64_t i = 0; i + 1 < tokens; i++) { /* the last layer is surer where it is right */
        if (m.trace->predicted[i] == m.trace->tokens[i + 1]) {
            float value = 0.5f * mixt_trace_weight(m.entropies[2 * tokens + i]);
            mixt_f32_to_f16(&value, &m.entropies[2 * tokens + i], 1);
        }
    }
    mixt_table *table = measure_of(m.trace, "lookahead", NULL);
    assert_int_equal(mixt_table_rows(table), 3);
    assert_true(fabs(cell(table, 0, "recall") - cell(table, 0, "use")) < 0.04);
    assert_true(cell(table, 1, "recall") == 1 && cell(table, 1, "first") == 1);
    assert_true(cell(table, 1, "low") > 1 - 1e-9 && cell(table, 1, "high") == 1);
    assert_true(fabs(cell(table, 1, "random") - 2.0 / 16) < 1e-12);
    mixt_table_free(table);
    table = measure_of(m.trace, "confidence", NULL);
    assert_int_equal(mixt_table_rows(table), 8);
    for (uint64_t row = 0; row < 8; row++) { /* entropy by layer and over all, then the margins */
        double q = cell(table, row, "q");
        if (row == 2 || row == 3) {
            assert_true(q < 1e-6 && cell(table, row, "high") < 0);
            assert_true(cell(table, row, "larger") < 0.45);
        } else {
            assert_true(q > 0.05);
        }
    }
    mixt_table_free(table);
    made_free(&m);
}

/* One document, a domain without tokens, one expert, all experts, places without an expert, layers
 * that choose different numbers, margins that are nowhere a number. */
static void test_edges(void **state)
{
    (void)state;
    static const int chosen[] = {1, 3};
    static const char *const names[] = {"entropy", "margin", "lookahead", "confidence"};
    const atlas_trace_options cases[] = {
        {.layers = 2,
         .experts = 4,
         .experts_per_token = 2,
         .domains = 1,
         .documents = 1,
         .document_tokens = 40},
        {.layers = 1,
         .experts = 1,
         .experts_per_token = 1,
         .domains = 1,
         .documents = 1,
         .document_tokens = 3},
        {.layers = 2,
         .experts = 3,
         .experts_per_token = 3,
         .domains = 3,
         .documents = 4,
         .document_tokens = 9},
        {.layers = 2,
         .experts = 5,
         .experts_per_token = 3,
         .domains = 2,
         .documents = 4,
         .document_tokens = 9,
         .none = 0.5,
         .chosen = chosen},
        {.layers = 2,
         .experts = 5,
         .experts_per_token = 2,
         .domains = 2,
         .documents = 4,
         .document_tokens = 9,
         .none = 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made m = make(&cases[i]);
        for (uint64_t t = 0; t < m.trace->info.tokens; t++) {
            m.margins[t] = 0x7E00;
        }
        for (size_t n = 0; n < 4; n++) {
            mixt_table *table = measure_of(m.trace, names[n], NULL);
            const mixt_column *columns;
            int count = mixt_table_columns(table, &columns);
            for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
                for (int c = 0; c < count; c++) {
                    double value = mixt_table_value(table, row, c);
                    if (columns[c].kind == MIXT_COLUMN_SHARE && !isnan(value)) {
                        assert_true(value >= 0 && value <= 1);
                    }
                    assert_false(columns[c].role == MIXT_ROLE_KEY && isnan(value));
                }
            }
            assert_true(n != 1 || mixt_table_rows(table) == (m.trace->info.layers > 1 ? 2 : 0));
            mixt_table_free(table);
        }
        made_free(&m);
    }
}

/* A trace without what a measure needs is refused with the measure's name. */
static void test_refused(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 2,
                                                                .experts = 4,
                                                                .experts_per_token = 2,
                                                                .domains = 1,
                                                                .documents = 2,
                                                                .document_tokens = 9});
    static const char *const names[] = {"entropy", "margin", "lookahead", "confidence"};
    for (size_t n = 0; n < 4; n++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_table *table;
        const mixt_trace *traces[] = {trace};
        assert_int_equal(mixt_measure(names[n], traces, 1, NULL, &table, &error),
                         MIXT_ERROR_ARGUMENT);
        assert_null(table);
        assert_non_null(strstr(error.message, names[n]));
        assert_non_null(strstr(error.message, "the trace has no "));
    }
    mixt_trace_free(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy),   cmocka_unit_test(test_calibrated),
        cmocka_unit_test(test_planted), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("router measures", tests, NULL, NULL);
}
