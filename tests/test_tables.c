/* Tables of measures: every format read back, false discoveries against scipy, the jackknife, what
 * each null keeps, bad input, and mixt atlas --measure. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "atlas/display.h"
#include "atlas/measure.h"
#include "atlas_demo.h"
#include "atlas_trace.h"
#include "core/utf8.h"
#include "measure_fixture.h"
#include "scratch.h"
#include "shell.h"

static const char *const words[] = {"alpha", "be,ta", "=gamma", NULL};

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "domain", .kind = MIXT_COLUMN_DOMAIN, .role = MIXT_ROLE_KEY},
    {.name = "token", .kind = MIXT_COLUMN_TOKEN, .role = MIXT_ROLE_KEY},
    {.name = "word", .kind = MIXT_COLUMN_WORD, .role = MIXT_ROLE_KEY, .words = words},
    {.name = "share", .help = "of \"all\"", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_VALUE},
    {.name = "random", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "use", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, EXPERT, DOMAIN, TOKEN, WORD, SHARE, RANDOM, USE, LOW, HIGH, P, Q, TOKENS, COLUMNS };

static const mixt_measure_info info = {.name = "made_up",
                                       .title = "A <made> & \"quoted\" table",
                                       .source = "this test",
                                       .about = "Nothing is measured.",
                                       .traces = 1};

/* A row for every token of the vocabulary, over all domains, hostile ones among both. */
static mixt_table *make_table(const mixt_trace *trace, int rows)
{
    mixt_table *table = mixt_table_create(&info, trace, "", columns, COLUMNS);
    assert_non_null(table);
    for (int i = 0; i < rows; i++) {
        double *row = mixt_table_append(table);
        assert_non_null(row);
        row[LAYER] = i % 5 == 4 ? -1 : i % 4;
        row[EXPERT] = i % 7 == 6 ? -1 : i % 8;
        row[DOMAIN] = i % (trace->info.domains + 1) - 1;
        row[TOKEN] = i % trace->vocab_size;
        row[WORD] = i % 4 - 1;
        row[SHARE] = i % 11 == 10 ? NAN : (i + 0.25) / (rows + 1);
        row[RANDOM] = 0.125;
        row[USE] = i % 3 == 0 ? NAN : 0.15;
        row[LOW] = row[SHARE] * 0.9;
        row[HIGH] = row[SHARE] * 1.05;
        row[P] = i % 13 == 0 ? NAN : 1.0 / (i + 1);
        row[TOKENS] = 1000 + i;
    }
    mixt_buffer_format(&table->note, "A note with %s colour.", "\x1b[31m");
    assert_int_equal(mixt_table_discover(table, NULL), MIXT_OK);
    return table;
}

static char *print(const mixt_table *table, mixt_table_format format, int width, size_t *length)
{
    char *text = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    FILE *stream = open_memstream(&text, length);
    assert_non_null(stream);
    assert_int_equal(mixt_table_print(table, format, width, stream, &error), MIXT_OK);
    fclose(stream);
    return text;
}

/* Nothing that a terminal or a browser acts on. */
static void check_safe(const char *text, size_t length, bool carriage)
{
    size_t at = 0;
    while (at < length) {
        size_t size = mixt_utf8_character((const unsigned char *)text + at, length - at);
        if (size == 0) {
            fail_msg("not UTF-8: %.40s", text + (at > 20 ? at - 20 : 0));
        }
        uint32_t point = mixt_utf8_decode((const unsigned char *)text + at, size);
        bool line = point == '\n' || (carriage && point == '\r');
        assert_false(mixt_utf8_acts(point) && !line);
        at += size;
    }
}

static void check_json_cell(const mixt_table *table, uint64_t row, int c, const json_t *cell)
{
    double value = mixt_table_value(table, row, c);
    bool name = columns[c].kind <= MIXT_COLUMN_WORD;
    if (isnan(value) || (name && value < 0)) {
        assert_true(json_is_null(cell));
    } else if (columns[c].kind == MIXT_COLUMN_DOMAIN) {
        assert_string_equal(json_string_value(cell), table->trace->domain_names[(int)value]);
    } else if (columns[c].kind == MIXT_COLUMN_WORD) {
        assert_string_equal(json_string_value(cell), words[(int)value]);
    } else {
        assert_true(json_number_value(cell) == value);
    }
}

static void test_json(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    mixt_table *table = make_table(trace, 300);
    size_t length;
    char *text = print(table, MIXT_TABLE_JSON, 0, &length);
    check_safe(text, length, false);
    json_error_t wrong;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &wrong);
    if (root == NULL) {
        fail_msg("line %d: %s", wrong.line, wrong.text);
    }
    assert_string_equal(json_string_value(json_object_get(root, "format")), "mixt-table");
    assert_int_equal(json_integer_value(json_object_get(root, "version")), 1);
    assert_string_equal(json_string_value(json_object_get(root, "measure")), "made_up");
    assert_string_equal(json_string_value(json_object_get(root, "title")), info.title);
    assert_string_equal(json_string_value(json_object_get(root, "note")), mixt_table_note(table));
    const json_t *heads = json_object_get(root, "columns");
    assert_int_equal(json_array_size(heads), COLUMNS);
    const json_t *share = json_array_get(heads, SHARE), *q = json_array_get(heads, Q);
    assert_string_equal(json_string_value(json_object_get(share, "name")), "share");
    assert_string_equal(json_string_value(json_object_get(share, "kind")), "share");
    assert_string_equal(json_string_value(json_object_get(share, "role")), "value");
    assert_string_equal(json_string_value(json_object_get(share, "help")), "of \"all\"");
    assert_string_equal(json_string_value(json_object_get(q, "role")), "q");
    const json_t *rows = json_object_get(root, "rows");
    assert_int_equal(json_array_size(rows), 300);
    for (uint64_t row = 0; row < 300; row++) {
        for (int c = 0; c < COLUMNS; c++) {
            check_json_cell(table, row, c, json_array_get(json_array_get(rows, row), (size_t)c));
        }
    }
    const json_t *tokens = json_object_get(root, "tokens");
    size_t shown = trace->vocab_size < 300 ? (size_t)trace->vocab_size : 300;
    assert_int_equal(json_object_size(tokens), shown);
    json_decref(root);
    free(text);
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* One field of RFC 4180 into `field`; moves behind its comma or line end, which is returned. */
static char read_field(const char **at, char *field, size_t size)
{
    size_t length = 0;
    bool quoted = **at == '"';
    *at += quoted;
    while (quoted ? !(**at == '"' && (*at)[1] != '"') : strchr(",\r", **at) == NULL) {
        assert_true(**at != '\0' && length + 1 < size);
        *at += quoted && **at == '"';
        field[length++] = *(*at)++;
    }
    *at += quoted;
    field[length] = '\0';
    char end = *(*at)++;
    assert_true(end == ',' || end == '\r');
    if (end == '\r') {
        assert_true(*(*at)++ == '\n');
    }
    return end;
}

static void check_csv_cell(const mixt_table *table, uint64_t row, int c, const char *field)
{
    double value = mixt_table_value(table, row, c);
    int kind = columns[c].kind;
    if (isnan(value)) {
        assert_string_equal(field, "");
    } else if (kind == MIXT_COLUMN_WORD) {
        const char *formula = value == 2 ? "'" : "";
        char expected[32];
        snprintf(expected, sizeof expected, "%s%s", formula,
                 value < 0 ? "none" : words[(int)value]);
        assert_string_equal(field, expected);
    } else if (kind == MIXT_COLUMN_DOMAIN || (kind <= MIXT_COLUMN_EXPERT && value < 0)) {
        assert_true(value >= 0 || strcmp(field, "all") == 0);
    } else {
        assert_true(strtod(field, NULL) == value);
    }
}

static void test_csv(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    mixt_table *table = make_table(trace, 300);
    size_t length;
    char *text = print(table, MIXT_TABLE_CSV, 0, &length), field[4096];
    check_safe(text, length, true);
    const char *at = text;
    for (int c = 0; c < COLUMNS; c++) {
        char end = read_field(&at, field, sizeof field);
        assert_string_equal(field, columns[c].name);
        if (c == TOKEN) {
            end = read_field(&at, field, sizeof field);
            assert_string_equal(field, "token_text");
        }
        assert_int_equal(end, c + 1 < COLUMNS ? ',' : '\r');
    }
    for (uint64_t row = 0; row < 300; row++) {
        for (int c = 0; c < COLUMNS; c++) {
            char end = read_field(&at, field, sizeof field);
            check_csv_cell(table, row, c, field);
            if (c == TOKEN) {
                end = read_field(&at, field, sizeof field);
                assert_true(field[0] == '\0' || strchr("=+-@", field[0]) == NULL);
            }
            assert_int_equal(end, c + 1 < COLUMNS ? ',' : '\r');
        }
    }
    assert_int_equal(*at, '\0');
    free(text);
    mixt_table_free(table);
    mixt_trace_free(trace);
}

static void test_text(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    for (int rows = 0; rows <= 300; rows += 60) {
        mixt_table *table = make_table(trace, rows);
        const int widths[] = {0, 72, 100, 200};
        for (int w = 0; w < 4; w++) {
            size_t length;
            char *text = print(table, MIXT_TABLE_TEXT, widths[w], &length);
            check_safe(text, length, false);
            int limit = widths[w] == 0 ? 80 : widths[w];
            for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
                /* A block is as wide as its keys and one value. */
                int columns_used = mixt_display_columns(line, strlen(line));
                assert_true(columns_used <= (limit > 100 ? limit : 100));
            }
            free(text);
            text = print(table, MIXT_TABLE_TEXT, widths[w], &length);
            assert_int_equal(strstr(text, "Shown are 24 of 300 rows") != NULL, rows == 300);
            free(text);
        }
        mixt_table_free(table);
    }
    mixt_trace_free(trace);
}

/* Elements close in the order in which they open. */
static void check_nesting(const char *text)
{
    const char *open[64];
    size_t lengths[64];
    int depth = 0;
    for (const char *at = strchr(text, '<'); at != NULL; at = strchr(at + 1, '<')) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        size_t length = strcspn(at + 1, " />");
        if (at[1] == '/') {
            assert_true(depth > 0);
            depth--;
            assert_memory_equal(open[depth], at + 2, lengths[depth]);
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            open[depth] = at + 1;
            lengths[depth++] = length;
        }
    }
    assert_int_equal(depth, 0);
}

static void check_figure(const mixt_table *table, const char *part)
{
    size_t length;
    char *text = print(table, MIXT_TABLE_SVG, 0, &length);
    check_safe(text, length, false);
    check_nesting(text);
    assert_null(strstr(text, "<img"));
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_non_null(strstr(text, "xmlns=\"http://www.w3.org/2000/svg\""));
    assert_non_null(strstr(text, part));
    free(text);
}

static void test_figures(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    mixt_table *bars = make_table(trace, 300); /* of tokens: bars */
    check_figure(bars, "<rect class=\"bar\"");
    mixt_table_free(bars);
    static const struct {
        const char *measure, *part;
    } cases[] = {{"load", "<path fill=\"#"},     {"balance", "class=\"dashed\""},
                 {"reuse", "class=\"dotted\""},  {"reuse", ">within</text>"},
                 {"reuse", "<title>within 4: "}, {"ranks", "class=\"band\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_table *table = measure_of(trace, cases[i].measure, NULL);
        check_figure(table, cases[i].part);
        mixt_table_free(table);
    }
    /* A table without rows. */
    mixt_table *none = make_table(trace, 0);
    check_figure(none, "<svg");
    mixt_table_free(none);
    mixt_trace_free(trace);
}

static void test_discover(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(1, 4, 1);
    mixt_table *table = mixt_table_create(&info, trace, "", columns, COLUMNS);
    double expected[256], p;
    char line[256];
    int count = 0;
    FILE *file = fopen("tests/fixtures/atlas/discover.txt", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] != '#') {
            assert_int_equal(sscanf(line, "%lf %lf", &p, &expected[count++]), 2);
            mixt_table_append(table)[P] = p;
            mixt_table_append(table)[LAYER] = 1; /* without a p: counts for nothing */
        }
    }
    fclose(file);
    assert_true(count > 40);
    assert_int_equal(mixt_table_discover(table, NULL), MIXT_OK);
    for (int i = 0; i < count; i++) {
        double q = mixt_table_value(table, 2 * (uint64_t)i, Q);
        assert_true(fabs(q - expected[i]) <= 1e-12 * fabs(expected[i]));
        assert_true(isnan(mixt_table_value(table, 2 * (uint64_t)i + 1, Q)));
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
}

/* Of a mean, where the jackknife is Student's interval: numbers by scipy.stats.t.interval(0.95, 4,
 * mean, sem) of 3, 5, 4, 9, 6. */
static void test_jackknife(void **state)
{
    (void)state;
    const double values[] = {3, 5, 4, 9, 6}, ones[] = {1, 1, 1, 1, 1};
    double without[5];
    for (int g = 0; g < 5; g++) {
        without[g] = (27 - values[g]) / 4;
    }
    mixt_span span = mixt_jackknife(5.4, without, 5, -100, 100);
    assert_true(fabs(span.low - 2.5414748) < 0.01 && fabs(span.high - 8.2585252) < 0.01);
    mixt_span ratio = mixt_jackknife_ratio(values, ones, 5, -100, 100);
    assert_true(fabs(ratio.low - span.low) < 1e-12 && fabs(ratio.high - span.high) < 1e-12);
    span = mixt_jackknife(5.4, without, 5, 4, 7);
    assert_true(span.low == 4 && span.high == 7);
    span = mixt_jackknife(5.4, without, 1, 4, 7);
    assert_true(isnan(span.low) && isnan(span.high));
    const double draws[] = {1, 2, 3, 4};
    assert_true(mixt_draws_mean(draws, 4) == 2.5);
    assert_true(mixt_draws_p(draws, 4, 3) == 3.0 / 5);
    assert_true(mixt_draws_p(draws, 4, 9) == 1.0 / 5);
}

/* ---- nulls */

static void check_sets(const mixt_trace *trace, int layer, const uint16_t *made)
{
    int k = trace->info.experts_per_token;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = made + i * (uint64_t)k, *is = mixt_trace_experts(trace, layer, i);
        for (int c = 0; c < k; c++) {
            assert_int_equal(row[c] == MIXT_TRACE_NONE, is[c] == MIXT_TRACE_NONE);
            assert_true(row[c] == MIXT_TRACE_NONE || row[c] < trace->info.experts);
            for (int d = 0; d < c; d++) {
                assert_true(row[c] != row[d] || row[c] == MIXT_TRACE_NONE);
            }
        }
    }
}

static int by_row(const void *a, const void *b)
{
    return memcmp(a, b, 3 * sizeof(uint16_t));
}

/* Tokens [begin, end) have the same rows as before, in some order. */
static void check_permuted(const mixt_trace *trace, int layer, const uint16_t *made, uint64_t begin,
                           uint64_t end)
{
    size_t bytes = (size_t)(end - begin) * 3 * sizeof(uint16_t);
    uint16_t *was = malloc(bytes), *is = malloc(bytes);
    memcpy(was, mixt_trace_experts(trace, layer, begin), bytes);
    memcpy(is, made + begin * 3, bytes);
    qsort(was, end - begin, 3 * sizeof(uint16_t), by_row);
    qsort(is, end - begin, 3 * sizeof(uint16_t), by_row);
    assert_memory_equal(was, is, bytes);
    free(was);
    free(is);
}

/* How often each expert stands at a place of the rows of a domain: within five standard errors of
 * `expected` of the domain's choices there, as much of the trace's own use or 1/E. */
static void check_use(const mixt_trace *trace, const uint16_t *made, bool uniform)
{
    int experts = trace->info.experts;
    for (int domain = 0; domain < trace->info.domains; domain++) {
        double was[32] = {0}, is[32] = {0}, total = 0;
        for (uint64_t i = 0; i < trace->info.tokens; i++) {
            uint16_t before = mixt_trace_experts(trace, 0, i)[0];
            if (trace->domain[i] == domain && before != MIXT_TRACE_NONE) {
                was[before]++;
                is[made[i * 3]]++;
                total++;
            }
        }
        for (int e = 0; e < experts; e++) {
            double p = uniform ? 1.0 / experts : was[e] / total;
            double error = sqrt(total * p * (1 - p));
            assert_true(fabs(is[e] - total * p) <= 5 * error + 1e-9);
        }
    }
}

static void test_nulls(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 2,
                                                                .experts = 16,
                                                                .experts_per_token = 3,
                                                                .domains = 3,
                                                                .documents = 8,
                                                                .document_tokens = 80,
                                                                .skew = 3,
                                                                .none = 0.1,
                                                                .domain_shift = 3,
                                                                .seed = 8});
    mixt_units *units = mixt_units_create(trace);
    mixt_measuring m = {.trace = trace, .units = units, .seed = 4};
    uint64_t size = trace->info.tokens * 3;
    uint16_t *made = calloc(size, sizeof *made), *again = calloc(size, sizeof *again);
    for (int null = MIXT_NULL_UNIFORM; null <= MIXT_NULL_DOCUMENT; null++) {
        mixt_null kind = (mixt_null)null;
        assert_int_equal(mixt_null_draw(&m, 0, kind, 0, made, NULL), MIXT_OK);
        assert_int_equal(mixt_null_draw(&m, 0, kind, 0, again, NULL), MIXT_OK);
        assert_memory_equal(made, again, size * sizeof *made);
        assert_int_equal(mixt_null_draw(&m, 0, kind, 1, again, NULL), MIXT_OK);
        assert_true(memcmp(made, again, size * sizeof *made) != 0);
        if (kind <= MIXT_NULL_USE) {
            check_sets(trace, 0, made);
            check_use(trace, made, kind == MIXT_NULL_UNIFORM);
        }
        for (size_t d = 0; d < units->run_count && kind == MIXT_NULL_DOCUMENT; d++) {
            check_permuted(trace, 0, made, units->runs[d].begin, units->runs[d].end);
        }
        /* Domains lie one behind the other here. */
        uint64_t begin = 0;
        for (int d = 0; d < 3 && kind >= MIXT_NULL_DOMAIN; d++) {
            check_permuted(trace, 0, made, begin, begin + units->tokens[d]);
            begin += units->tokens[d];
        }
    }
    free(made);
    free(again);
    mixt_units_free(units);
    mixt_trace_free(trace);
}

/* ---- what is refused */

static void refused(const char *name, const mixt_trace *const *traces, int count,
                    const mixt_measure_options *options, const char *part)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table = NULL;
    assert_int_equal(mixt_measure(name, traces, count, options, &table, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_null(table);
    assert_non_null(strstr(error.message, part));
    assert_null(strchr(error.message, '\n'));
}

static void test_refused(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_demo_make(1, 4, 1);
    const mixt_trace *both[2] = {trace, trace};
    refused("nothing", both, 1, NULL, "none of this name");
    refused("load", both, 2, NULL, "one trace");
    refused("load", both, 1, &(mixt_measure_options){.shuffles = -1}, "shuffles");
    refused("load", both, 1, &(mixt_measure_options){.shuffles = 10001}, "shuffles");
    refused("load", both, 1, &(mixt_measure_options){.reserved = {1}}, "reserved");
    mixt_table *table = measure_of(trace, "load", NULL);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_table_print(table, (mixt_table_format)9, 0, stdout, &error),
                     MIXT_ERROR_ARGUMENT);
    error = (mixt_error)MIXT_ERROR_INIT;
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(mixt_table_print(table, MIXT_TABLE_CSV, 0, full, &error), MIXT_ERROR_IO);
    fclose(full);
    assert_true(isnan(mixt_table_value(table, mixt_table_rows(table), 0)));
    assert_true(isnan(mixt_table_value(table, 0, -1)));
    assert_null(mixt_measure_describe(-1));
    mixt_table_free(table);
    mixt_table_free(NULL);
    mixt_trace_free(trace);
}

/* ---- the program */

static void test_program(void **state)
{
    (void)state;
    shell_do("cp \"$SOURCES\"/tests/fixtures/atlas/pairs.safetensors routes\n"
             "$MIXT atlas --list-measures > list; grep -q '^load ' list\n"
             "$MIXT atlas routes --measure load,balance > text\n"
             "grep -q 'Use of each expert' text; grep -q 'Balance of' text\n"
             "$MIXT atlas routes --measure load --format csv > load.csv\n"
             "test $(wc -l < load.csv) = 19\n"
             "$MIXT atlas routes --measure balance --seed 1 --shuffles 3 --format json > a\n"
             "$MIXT atlas routes --measure balance --seed 1 --shuffles 3 --format json > b\n"
             "$MIXT atlas routes --measure balance --seed 2 --shuffles 3 --format json > c\n"
             "cmp a b; ! cmp -s a c");
    shell_do("$MIXT atlas routes --measure all --format svg --out figures 2> said\n"
             "for name in $(awk '!/; / { print $1 }' list); do\n"
             "  test -s figures/$name.svg || grep -q \"^skipped.*$name\" said\n"
             "done\n"
             "test -s figures/load.svg; ! ls figures | grep -v svg");
    shell_do("mkdir run; cp \"$SOURCES\"/tests/fixtures/atlas/load.jsonl run\n"
             "$MIXT atlas run --measure training | grep -q 'Use of experts over training'\n"
             "$MIXT atlas run/load.jsonl --measure all --format csv --out runs 2> said\n"
             "test $(wc -l < runs/training.csv) = 21; grep -q '^skipped load: takes one' said\n"
             "$MIXT atlas run --measure training --format svg | grep -q '<svg.* run<'\n"
             "$MIXT atlas run --measure training --format json | grep -q '\"model\": \"run\"'");
    shell_refuses("$MIXT atlas run --measure load", "load: takes one trace");
    shell_refuses("$MIXT atlas routes --measure training",
                  "training: takes the log of a training run");
    shell_refuses("$MIXT atlas run run --measure training", "takes the log of a training run");
    shell_refuses("$MIXT atlas figures --measure training", "figures/load.jsonl: no such file");
    shell_refuses("$MIXT atlas routes --measure nothing", "there is none of this name");
    shell_refuses("$MIXT atlas routes --measure comittee", "is it committee?");
    shell_refuses("$MIXT atlas routes --measure load,load", "named twice");
    shell_refuses("$MIXT atlas routes --measure load,", "there is none of this name");
    shell_refuses("$MIXT atlas routes routes --measure load", "takes one trace, not 2");
    shell_refuses("$MIXT atlas routes routes routes --measure load", "one or two traces, not 3");
    shell_refuses("$MIXT atlas routes routes", "a second trace: is for a page");
    shell_refuses("$MIXT atlas routes --measure load --json", "--format json");
    shell_refuses("$MIXT atlas routes --measure load --html page.html", "not together");
    shell_refuses("$MIXT atlas routes --format csv", "for --measure");
    shell_refuses("$MIXT atlas routes --shuffles 3", "for --measure");
    shell_refuses("$MIXT atlas routes --measure load,balance --format csv", "--out FOLDER");
    shell_refuses("$MIXT atlas --measure load", "--trace: needed");
    shell_refuses("cp routes load.csv; $MIXT atlas load.csv --measure load --format csv --out .",
                  "written over");
    shell_refuses("echo no > broken; $MIXT atlas broken --measure load", "broken");
}

/* Every paper by its arXiv number in a measure's source stands in its file. */
static void check_source(const char *name, const char *source, const char *text)
{
    for (const char *at = source; *at != '\0'; at++) {
        size_t digits = strspn(at, "0123456789");
        if (digits == 4 && at[4] == '.' && strspn(at + 5, "0123456789") == 5) {
            char number[11] = {0};
            memcpy(number, at, 10);
            if (strstr(text, number) == NULL) {
                fail_msg("docs/measures: %s does not name its source %s", name, number);
            }
        }
        at += digits > 0 ? digits - 1 : 0;
    }
}

/* Every measure has a section in docs/measures/, which has, with what stands above the first one, a
 * formula and levels; its file says how it was checked, what the intervals are and where it comes
 * from. docs/measures.md links it. */
static void test_documented(void **state)
{
    (void)state;
    static const char *const wanted[] = {"[-+=/|]", "[Ll]evel|`use`", "[Cc]hecked|atlas_router.py",
                                         "[Ii]nterval|±"};
    static char text[1 << 16];
    shell_do("cp \"$SOURCES\"/docs/measures.md .");
    for (int i = 0; mixt_measure_describe(i) != NULL; i++) {
        const mixt_measure_info *info_of = mixt_measure_describe(i);
        char lines[1024];
        snprintf(lines, sizeof lines,
                 "file=$(grep -lx '## %s' \"$SOURCES\"/docs/measures/*.md)\n"
                 "cp \"$file\" file; awk '/^## /{ out = $2 != \"%s\" } !out' \"$file\" > section\n"
                 "grep -qF \"[\\`%s\\`](measures/$(basename $file)#%s)\" measures.md",
                 info_of->name, info_of->name, info_of->name, info_of->name);
        if (shell(lines) != 0) {
            fail_msg("docs/measures: %s has no section that docs/measures.md links", info_of->name);
        }
        for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
            snprintf(lines, sizeof lines, "grep -qE -e '%s' %s", wanted[w],
                     w < 2 ? "section" : "file");
            if (shell(lines) != 0) {
                fail_msg("docs/measures: the section of %s lacks %s", info_of->name, wanted[w]);
            }
        }
        char *path = scratch_path("file");
        read_text(path, text, sizeof text);
        free(path);
        check_source(info_of->name, info_of->source, text);
    }
}

int main(void)
{
    char sources[4096]; /* tests run there; lines of the shell do not */
    if (getcwd(sources, sizeof sources) == NULL || setenv("SOURCES", sources, 1) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),     cmocka_unit_test(test_csv),
        cmocka_unit_test(test_text),     cmocka_unit_test(test_figures),
        cmocka_unit_test(test_discover), cmocka_unit_test(test_jackknife),
        cmocka_unit_test(test_nulls),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_program),  cmocka_unit_test(test_documented),
    };
    return cmocka_run_group_tests(tests, shell_make, scratch_remove);
}
