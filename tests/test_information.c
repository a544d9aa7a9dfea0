/* What experts tell of domains and tokens: classes by their rules, traces whose answers are known,
 * numpy's numbers (tests/reference/information.py), the JSON and the words. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/information.h"
#include "atlas_trace.h"
#include "core/files.h"
#include "core/random.h"

#define FIXTURES "tests/fixtures/atlas/"
#define ROWS (MIXT_LABEL_COUNT * MIXT_TOLD_COUNT)

#define assert_near(value, expected, tolerance) near(value, expected, tolerance, __LINE__)

static void near(double value, double expected, double tolerance, int line)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("line %d: %.12g is not within %g of %.12g", line, value, tolerance, expected);
    }
}

/* -- Classes -------------------------------------------------------------------------------- */

static void is_class(const char *text, size_t length, const char *expected)
{
    const char *found = mixt_token_class_name(mixt_token_class_of((const uint8_t *)text, length));
    if (strcmp(found, expected) != 0) {
        fail_msg("'%s' is %s, not %s", text, found, expected);
    }
}

static void test_classes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"    ", "space"},
        {"\t", "space"},
        {"\xc2\xa0", "space"},
        {"\n", "newline"},
        {"\r\n   ", "newline"},
        {" 7", "digits"},
        {"3.14", "digits"},
        {"\xc2\xbd", "digits"},
        {".", "punctuation"},
        {" (", "punctuation"},
        {"\xe2\x80\x9c", "punctuation"},
        {"'", "punctuation"},
        {" +=", "operators"},
        {"{", "operators"},
        {"->", "operators"},
        {" \xe2\x88\x91", "operators"},
        {"/*", "operators"},
        {" the", "function"},
        {" The", "function"},
        {"The", "function"},
        {"the", "continuation"},
        {" I", "function"},
        {"I", "continuation"},
        {"A", "continuation"},
        {" i", "words"},
        {" if", "function"},
        {"if", "keywords"},
        {"class", "keywords"},
        {" class", "words"},
        {" return", "keywords"},
        {"\tNone", "keywords"},
        {"none", "continuation"},
        {" Return", "names"},
        {" house", "words"},
        {" \xc3\x89t\xc3\xa9", "names"},
        {" \xc3\xa9t\xc3\xa9", "words"},
        {" don't", "words"},
        {"'s", "continuation"},
        {"ing", "continuation"},
        {"House", "continuation"},
        {"THE", "continuation"},
        {" THE", "function"},
        {"x1", "mixed"},
        {".get", "mixed"},
        {" _name", "mixed"},
        {"a\x01", "mixed"},
        {" well-known", "mixed"},
        {"\xe7\x9a\x84", "scripts"},
        {" \xd0\xb8", "scripts"},
        {"x\xce\xb1", "scripts"},
        {"\xc3", "bytes"},
        {"\x80", "bytes"},
        {"a\xff", "bytes"},
        {"", "other"},
        {"\x01", "other"},
        {"\xe2\x80\x8b", "other"},
        {"\xcc\x81", "continuation"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        is_class(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    }
    is_class("\0", 1, "other");
}

/* The lists of docs/atlas.md are those of the code: each word of them is known, in both forms. */
static void check_list(const char *text, const char *title, const char *bare, const char *spaced)
{
    const char *at = strstr(text, title);
    int words = 0;
    assert_non_null(at);
    at += strlen(title);
    while (*at != '\0' && strncmp(at, "\n\n", 2) != 0) {
        char word[32];
        size_t length = strcspn(++at, " \n");
        assert_in_range(length, 1, 30);
        snprintf(word, sizeof word, " %.*s", (int)length, at);
        is_class(word, length + 1, spaced);
        if (bare != NULL) {
            is_class(word + 1, length, bare);
        }
        at += length;
        words++;
    }
    assert_in_range(words, 40, 200);
}

static void test_lists(void **state)
{
    (void)state;
    char *text;
    size_t length;
    assert_int_equal(mixt_file_read("docs/atlas.md", 1 << 20, &text, &length, NULL), MIXT_OK);
    check_list(text, "**function words**:", NULL, "function");
    check_list(text, "**keywords**:", "keywords", "keywords");
    const char *both = strstr(text, "**keywords without a space alone**:");
    assert_non_null(both);
    for (const char *at = strchr(both, ':') + 1; *at != '\0' && strncmp(at, "\n\n", 2) != 0;) {
        size_t size = strcspn(++at, " \n");
        char word[32];
        snprintf(word, sizeof word, "%.*s", (int)size, at);
        is_class(word, size, "keywords");
        at += size;
    }
    free(text);
}

/* -- Answers that are known ----------------------------------------------------------------- */

typedef uint16_t (*rule)(const mixt_trace *trace, uint64_t i);

static uint16_t of_token(const mixt_trace *trace, uint64_t i)
{
    return (uint16_t)(trace->tokens[i] % 8);
}

static uint16_t of_domain(const mixt_trace *trace, uint64_t i)
{
    return trace->domain[i];
}

static uint16_t of_class(const mixt_trace *trace, uint64_t i)
{
    size_t length;
    const uint8_t *bytes = mixt_trace_token_bytes(trace, trace->tokens[i], &length);
    return (uint16_t)(mixt_token_class_of(bytes, length) % 8);
}

static uint16_t of_previous(const mixt_trace *trace, uint64_t i)
{
    bool first = i == 0 || trace->document[i] != trace->document[i - 1];
    return first ? 0 : (uint16_t)(trace->tokens[i - 1] % 8);
}

static uint16_t of_document(const mixt_trace *trace, uint64_t i)
{
    const mixt_random_key key = {9, MIXT_RANDOM_DATA, 3};
    return (uint16_t)mixt_random_below(&key, (uint64_t)trace->document[i], 8);
}

static const atlas_trace_options plain = {.layers = 2,
                                          .experts = 8,
                                          .experts_per_token = 1,
                                          .domains = 4,
                                          .documents = 10,
                                          .document_tokens = 90,
                                          .seed = 4};

/* rows [layers + 1, labels, 2] */
static mixt_information *measured(const mixt_trace *trace)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_units *units = mixt_units_create(trace);
    mixt_information *rows = calloc(((size_t)trace->info.layers + 1) * ROWS, sizeof *rows);
    assert_int_equal(mixt_information_measure(trace, units, 0, trace->info.layers, rows, &error),
                     MIXT_OK);
    mixt_units_free(units);
    return rows;
}

static const mixt_information *row_of(const mixt_information *rows, int layer, int label, int which)
{
    return &rows[layer * ROWS + label * MIXT_TOLD_COUNT + which];
}

/* Layer 0 follows the rule, layer 1 nothing. */
static mixt_trace *made_by(rule choose)
{
    mixt_trace *trace = atlas_trace_make(&plain);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        trace->experts[i] = choose(trace, i);
    }
    assert_int_equal(mixt_trace_check(trace, "made", NULL), MIXT_OK);
    return trace;
}

static void check_same_and_mean(const mixt_trace *trace, const mixt_information *rows)
{
    mixt_information again[ROWS];
    for (int layer = -1; layer < trace->info.layers; layer++) {
        assert_int_equal(mixt_atlas_information(trace, layer, again, NULL), MIXT_OK);
        for (int i = 0; i < ROWS; i++) {
            const mixt_information *row =
                &rows[(layer < 0 ? trace->info.layers : layer) * ROWS + i];
            assert_true(again[i].bits == row->bits && again[i].shuffled == row->shuffled);
            assert_true(again[i].spread == row->spread && again[i].count == row->count);
        }
    }
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        double excess = 0;
        for (int layer = 0; layer < trace->info.layers; layer++) {
            sum += rows[layer * ROWS + i].bits / trace->info.layers;
            excess += rows[layer * ROWS + i].excess / trace->info.layers;
        }
        assert_near(rows[trace->info.layers * ROWS + i].bits, sum, 1e-12);
        assert_near(rows[trace->info.layers * ROWS + i].excess, excess, 1e-12);
    }
}

/* What a label determines it tells all of; what it does not, no more than shuffles do. */
static void test_rules(void **state)
{
    (void)state;
    static const struct {
        rule choose;
        bool exceeds[MIXT_LABEL_COUNT];
        int whole; /* the label that tells all of H, or -1 */
    } cases[] = {
        {of_token, {false, true, true, false}, MIXT_LABEL_TOKEN},
        {of_class, {false, true, true, false}, MIXT_LABEL_CLASS},
        {of_domain, {true, false, false, false}, MIXT_LABEL_DOMAIN},
        {of_previous, {false, false, false, true}, MIXT_LABEL_PREVIOUS},
        {of_document, {false, false, false, false}, -1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        mixt_trace *trace = made_by(cases[c].choose);
        mixt_information *rows = measured(trace);
        for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
            const mixt_information *row = row_of(rows, 0, label, MIXT_TOLD_FIRST);
            assert_null(row->absent);
            assert_int_equal(row->shuffles, 20);
            assert_near(row->excess, row->bits - row->shuffled, 1e-12);
            if (mixt_information_exceeds(row) != cases[c].exceeds[label]) {
                fail_msg("rule %zu, %s: %g bits, %g +- %g shuffled, %g to %g", c,
                         mixt_label_name(label), row->bits, row->shuffled, row->spread, row->low,
                         row->high);
            }
            if (label == cases[c].whole) {
                assert_near(row->bits, row->entropy, 1e-12);
                assert_true(row->excess > 0.8 * row->entropy || label == MIXT_LABEL_DOMAIN);
            }
            if (!cases[c].exceeds[label]) {
                assert_near(row->excess, 0, 4 * row->spread + 1e-9);
            }
            assert_memory_equal(row, row_of(rows, 0, label, MIXT_TOLD_ALL), sizeof *row); /* k 1 */
            const mixt_information *idle = row_of(rows, 1, label, MIXT_TOLD_FIRST);
            assert_near(idle->excess, 0, 4 * idle->spread);
        }
        if (cases[c].choose == of_domain || cases[c].choose == of_document) {
            /* One expert a document: shuffles within it change nothing at all. */
            assert_near(row_of(rows, 0, MIXT_LABEL_TOKEN, 0)->spread, 0, 1e-12);
            assert_near(row_of(rows, 0, MIXT_LABEL_TOKEN, 0)->excess, 0, 1e-12);
        }
        check_same_and_mean(trace, rows);
        free(rows);
        mixt_trace_free(trace);
    }
}

/* Two experts of two: the choices of each token tell nothing, its first choice all. By hand, one
 * document a a b b with first choices 0 0 1 0: H(c) = 0.8113, H(c | z) = 0.5. */
static void test_by_hand(void **state)
{
    (void)state;
    mixt_trace_info info = {
        .tokens = 4, .layers = 1, .experts = 2, .experts_per_token = 2, .domains = 1};
    mixt_trace *trace = mixt_trace_allocate(&info, 2, 2);
    static const uint16_t experts[] = {0, 1, 0, 1, 1, 0, 0, 1};
    memcpy(trace->experts, experts, sizeof experts);
    memcpy(trace->vocab_bytes, "a1", 2);
    trace->vocab_offsets[1] = 1;
    trace->vocab_offsets[2] = 2;
    trace->tokens[2] = trace->tokens[3] = 1;
    trace->domain_names[0] = "text";
    assert_int_equal(mixt_trace_check(trace, "hand", NULL), MIXT_OK);
    mixt_information *rows = measured(trace);
    for (int label = MIXT_LABEL_CLASS; label <= MIXT_LABEL_TOKEN; label++) {
        const mixt_information *first = row_of(rows, 0, label, MIXT_TOLD_FIRST);
        const mixt_information *all = row_of(rows, 0, label, MIXT_TOLD_ALL);
        assert_near(first->entropy, 2 - 0.75 * log2(3), 1e-12);
        assert_near(first->bits, 1.5 - 0.75 * log2(3), 1e-12);
        assert_int_equal(first->count, 4);
        assert_int_equal(first->labels, 2);
        assert_near(all->entropy, 1, 1e-12);
        assert_near(all->bits, 0, 1e-12);
        assert_int_equal(all->count, 8);
    }
    /* Behind a a b there are a b b with 0 1 0. */
    const mixt_information *previous = row_of(rows, 0, MIXT_LABEL_PREVIOUS, MIXT_TOLD_FIRST);
    assert_int_equal(previous->count, 3);
    assert_near(previous->entropy, log2(3) - 2.0 / 3, 1e-12);
    assert_near(previous->bits, log2(3) - 2.0 / 3 - 2.0 / 3, 1e-12);
    const mixt_information *domain = row_of(rows, 0, MIXT_LABEL_DOMAIN, MIXT_TOLD_FIRST);
    assert_int_equal(domain->count, 0);
    assert_non_null(strstr(domain->absent, "one domain"));
    free(rows);
    mixt_trace_free(trace);
}

/* Independent choices: of 40 intervals about 38 hold 0, and excesses have no side. */
static void test_independent(void **state)
{
    (void)state;
    int held = 0;
    int exceeding = 0;
    double mean = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        atlas_trace_options options = plain;
        options.layers = 1;
        options.experts_per_token = 2;
        options.seed = seed + 100;
        options.none = seed % 2 == 0 ? 0.3 : 0;
        mixt_trace *trace = atlas_trace_make(&options);
        mixt_information *rows = measured(trace);
        for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
            const mixt_information *row = row_of(rows, 0, label, MIXT_TOLD_FIRST);
            held += row->low <= 0 && row->high >= 0;
            exceeding += mixt_information_exceeds(row);
            mean += row->excess / row->spread / 40;
        }
        free(rows);
        mixt_trace_free(trace);
    }
    assert_in_range(held, 33, 40);
    assert_in_range(exceeding, 0, 6);
    assert_near(mean, 0, 4 / sqrt(40));
}

/* -- What is not there ---------------------------------------------------------------------- */

static void check_absent(const mixt_trace *trace, int label, bool measured_too, const char *why)
{
    mixt_information *rows = measured(trace);
    for (int layer = 0; layer <= trace->info.layers; layer++) {
        for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
            const mixt_information *row = row_of(rows, layer, label, which);
            assert_non_null(row->absent);
            assert_non_null(strstr(row->absent, why));
            assert_int_equal(row->count != 0, measured_too);
            assert_int_equal(row->shuffles, 0);
            assert_true(isnan(row->low) && isnan(row->high) && row->excess == 0);
            assert_false(mixt_information_exceeds(row));
        }
    }
    free(rows);
}

static void test_absent(void **state)
{
    (void)state;
    atlas_trace_options options = plain;
    mixt_information rows[ROWS];
    mixt_error error = MIXT_ERROR_INIT;
    options.domains = 1;
    mixt_trace *trace = atlas_trace_make(&options);
    check_absent(trace, MIXT_LABEL_DOMAIN, false, "one domain");
    memset(trace->vocab_offsets, 0, ((size_t)trace->vocab_size + 1) * sizeof(int64_t));
    check_absent(trace, MIXT_LABEL_CLASS, false, "no text of its vocabulary");
    memset(trace->tokens, 0, (size_t)trace->info.tokens * sizeof(int32_t));
    check_absent(trace, MIXT_LABEL_TOKEN, false, "the same");
    check_absent(trace, MIXT_LABEL_PREVIOUS, false, "always the same");
    assert_int_equal(mixt_atlas_information(trace, 2, rows, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "the trace has 2"));
    assert_int_equal(mixt_atlas_information(trace, -2, rows, NULL), MIXT_ERROR_ARGUMENT);
    mixt_trace_free(trace);
    options = plain;
    options.documents = 1;
    trace = atlas_trace_make(&options);
    check_absent(trace, MIXT_LABEL_DOMAIN, true, "too few documents");
    for (uint64_t i = 0; i < trace->info.tokens; i++) { /* each token a document of its own */
        trace->document[i] = (int32_t)i;
    }
    assert_int_equal(mixt_trace_check(trace, "short", NULL), MIXT_OK);
    check_absent(trace, MIXT_LABEL_TOKEN, true, "two tokens to shuffle");
    check_absent(trace, MIXT_LABEL_PREVIOUS, false, "no document has two tokens");
    for (uint64_t i = 0; i < 2 * trace->info.tokens; i++) {
        trace->experts[i] = MIXT_TRACE_NONE;
        trace->weights[i] = 0;
    }
    assert_int_equal(mixt_trace_check(trace, "empty", NULL), MIXT_OK);
    check_absent(trace, MIXT_LABEL_TOKEN, false, "no token has such a choice");
    mixt_trace_free(trace);
}

/* -- Against numpy -------------------------------------------------------------------------- */

/* Levels are means over 20 shuffles here and over 100 there, by other draws; so is what of the
 * intervals depends on them. */
static void test_against_numpy(void **state)
{
    (void)state;
    FILE *file = fopen(FIXTURES "information.txt", "r");
    char opened[32] = "";
    char line[256];
    mixt_trace *trace = NULL;
    mixt_information *rows = NULL;
    int lines = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char name[32];
        int layer, label, which;
        double v[6];
        assert_int_equal(sscanf(line, "%31s %d %d %d %lf %lf %lf %lf %lf %lf", name, &layer, &label,
                                &which, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]),
                         10);
        if (strcmp(name, opened) != 0) {
            char path[256];
            snprintf(path, sizeof path, FIXTURES "%s.safetensors", name);
            free(rows);
            mixt_trace_free(trace);
            assert_int_equal(mixt_trace_open(path, &trace, NULL), MIXT_OK);
            rows = measured(trace);
            snprintf(opened, sizeof opened, "%s", name);
        }
        const mixt_information *row =
            row_of(rows, layer < 0 ? trace->info.layers : layer, label, which);
        assert_near(row->bits, v[0], 1e-11);
        assert_near(row->entropy, v[1], 1e-11);
        assert_near(row->shuffled, v[2], 4 * v[3] * sqrt(1.0 / 20 + 1.0 / 100));
        assert_near(row->spread, v[3], 0.6 * v[3]);
        assert_near((row->high - row->low) / (v[5] - v[4]), 1, 0.4);
        lines++;
    }
    fclose(file);
    free(rows);
    mixt_trace_free(trace);
    assert_int_equal(lines, 88);
}

/* -- JSON and words ------------------------------------------------------------------------- */

static char *printed(const mixt_trace *trace, mixt_atlas_part part)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    mixt_atlas_options options = {.width = 80, .part = part};
    assert_int_equal(mixt_atlas_print(trace, &options, stream, NULL), MIXT_OK);
    fclose(stream);
    return text;
}

static void test_json(void **state)
{
    (void)state;
    mixt_trace *trace = made_by(of_token);
    trace->domain_names[1] = "a \"name\"\n\x1b[31m";
    char *text = printed(trace, MIXT_ATLAS_JSON);
    json_error_t problem;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) {
        fail_msg("%d: %s", problem.line, problem.text);
    }
    assert_null(strchr(text, '\x1b'));
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "domains"), 1)),
                        trace->domain_names[1]);
    mixt_information *rows = measured(trace);
    double classes = 0;
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(root, "token_classes"), key, value)
    {
        classes += json_number_value(value);
    }
    assert_near(classes, 1, 1e-12);
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        json_t *part = json_object_get(
            json_object_get(json_object_get(root, "information"), mixt_label_name(label)), "first");
        json_t *layers = json_object_get(part, "layers");
        assert_int_equal(json_array_size(layers), 2);
        for (int layer = 0; layer <= 2; layer++) {
            const mixt_information *row = row_of(rows, layer, label, MIXT_TOLD_FIRST);
            json_t *shown =
                layer < 2 ? json_array_get(layers, (size_t)layer) : json_object_get(part, "mean");
            const struct {
                const char *key;
                double value;
            } numbers[] = {{"bits", row->bits},
                           {"entropy", row->entropy},
                           {"share", row->bits / row->entropy},
                           {"shuffled", row->shuffled},
                           {"spread", row->spread},
                           {"highest", row->highest},
                           {"excess", row->excess},
                           {"low", row->low},
                           {"high", row->high},
                           {"excess_share", row->excess / row->entropy},
                           {"shuffles", 20},
                           {"labels", row->labels},
                           {"count", (double)row->count}};
            for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
                json_t *number = json_object_get(shown, numbers[n].key);
                assert_true(json_is_number(number));
                assert_true(json_number_value(number) == numbers[n].value);
            }
            assert_true(json_is_null(json_object_get(shown, "absent")));
        }
    }
    free(rows);
    json_decref(root);
    free(text);
    mixt_trace_free(trace);
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        rule choose;
        const char *words;
    } cases[] = {
        {of_token, "the router follows tokens more than topics, and most of that is words, not"},
        {of_class, "the router follows tokens more than topics, and at least half of that is"},
        {of_domain, "the router follows topics more than tokens."},
        {of_document, "the router follows neither, as far as this shows."},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        mixt_trace *trace = made_by(cases[c].choose);
        char *text = printed(trace, MIXT_ATLAS_ALL);
        for (char *at = text; (at = strchr(at, '\n')) != NULL;) {
            *at = ' ';
        }
        if (strstr(text, cases[c].words) == NULL) {
            fail_msg("not '%s' in: %s", cases[c].words, strstr(text, "In words"));
        }
        free(text);
        mixt_trace_free(trace);
    }
    atlas_trace_options options = plain;
    options.domains = 1;
    mixt_trace *trace = atlas_trace_make(&options);
    memset(trace->vocab_offsets, 0, ((size_t)trace->vocab_size + 1) * sizeof(int64_t));
    char *text = printed(trace, MIXT_ATLAS_ALL);
    assert_non_null(strstr(text, "domain            - (all tokens are of one domain)"));
    assert_non_null(strstr(text, "token's class     - (the trace has no text of its vocabulary)"));
    assert_null(strstr(text, "nan"));
    free(text);
    mixt_trace_free(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_lists),
        cmocka_unit_test(test_rules),         cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_independent),   cmocka_unit_test(test_absent),
        cmocka_unit_test(test_against_numpy), cmocka_unit_test(test_json),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests_name("information", tests, NULL, NULL);
}
