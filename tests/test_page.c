/* The atlas page in a real browser (tests/page/check.py), and the terminal tables beside it.
 * With an argument "write FOLDER LAYERS EXPERTS K" it only writes page and tables of the demo
 * trace, to look at; with "write-dropped ..." of one in which layers choose different numbers and
 * some choices were dropped; with "write-pair ..." of two precisions and results of a probe. With
 * "trace FILE LAYERS EXPERTS K TOKENS NOISE" it writes a made-up trace of 12 domains
 * (atlas_large.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas/page_search.h"
#include "atlas_demo.h"
#include "atlas_large.h"
#include "core/files.h"
#include "sanitized.h"

typedef struct page_case {
    int layers, experts, k;
    bool dropped, pair;
} page_case;

/* The same text with one token in nine routed otherwise. */
static mixt_trace *other_precision(const page_case *c)
{
    mixt_trace *other = atlas_demo_make(c->layers, c->experts, c->k);
    int k = c->k;
    other->info.model = "demo, q4 \"<i>\"";
    const float margin = 0.25f;
    uint64_t rows = (uint64_t)c->layers * other->info.tokens;
    uint16_t *margins = mixt_arena_allocate(other->arena, (size_t)rows, sizeof *margins);
    for (uint64_t i = 0; i < rows; i++) {
        mixt_f32_to_f16(&margin, &margins[i], 1);
    }
    other->margins = margins;
    for (int layer = 0; layer < c->layers; layer++) {
        for (uint64_t i = 0; i < other->info.tokens; i += 9) {
            uint16_t *row =
                other->experts + ((uint64_t)layer * other->info.tokens + i) * (uint64_t)k;
            const uint16_t first = row[0];
            row[0] = row[k - 1];
            row[k - 1] = first;
        }
    }
    return other;
}

/* Effects that are their expert's number, of all experts but the last of each layer; and of two at
 * once, which is of neither. REAP scores are twice that number, the last expert is a super expert
 * and the most similar one of each is the next. */
static void write_probe(const char *path, const page_case *c)
{
    FILE *stream = fopen(path, "w");
    fprintf(stream,
            "{\"format\": \"mixt-probe\", \"version\": 1, \"experts\": %d, \"domains\": [\"of no "
            "trace\", \"Python\"], \"classes\": [\"of none\", \"words\"], \"base\": {\"loss\": "
            "[2.5, 2, 3]}, \"mask\": [{\"layer\": 0, \"expert\": %d, \"with\": [[0, 1]], "
            "\"effect\": [9, 8, 10], \"domains\": [null, null]}",
            c->experts, c->experts - 1);
    for (int layer = 0; layer < c->layers; layer++) {
        for (int e = 0; e + 1 < c->experts; e++) {
            fprintf(stream,
                    ",\n{\"layer\": %d, \"expert\": %d, \"effect\": [%.3f, %.4f, null], "
                    "\"domains\": [[1, null, null], [%.3f, null, null]], \"classes\": [null, "
                    "[%.3f, null, null]]}",
                    layer, e, e / 1000.0, e / 2000.0, -e / 1000.0, e / 500.0);
        }
    }
    fprintf(stream, "], \"units\": [");
    for (int i = 0; i < c->layers * c->experts; i++) {
        int e = i % c->experts;
        fprintf(stream,
                "%s\n{\"layer\": %d, \"expert\": %d, \"reap\": [%d, null, null], \"norm\": 0.5, "
                "\"largest\": %d, \"largest_token\": 0, \"super\": %s, \"near_outputs\": [[%d, "
                "-0.25]], \"near_weights\": [[%d, 0.75]]}",
                i == 0 ? "" : ",", i / c->experts, e, 2 * e, e,
                e + 1 == c->experts ? "true" : "false", (e + 1) % c->experts, (e + 1) % c->experts);
    }
    fprintf(stream,
            "], \"lens\": [{\"layer\": 1, \"cosine_routed\": [0.5, 0.4, 0.6], "
            "\"cosine_layer\": null, \"effect\": [0.01, null, null]}], \"top-k\": [{\"k\": "
            "1, \"effect\": [0.25, 0.2, 0.3]}, {\"k\": 2, \"effect\": [0, 0, 0]}, {\"k\": "
            "3, \"effect\": null}], \"routes\": [{\"layer\": 0, \"better\": {\"value\": [0.75, "
            "0.7, 0.8]}}, {\"layer\": -1, \"better\": {\"value\": [0.875, null, null]}}]}\n");
    fclose(stream);
}

static mixt_status write_both(const char *folder, const page_case *c, mixt_error *error)
{
    mixt_trace *trace = atlas_demo_make(c->layers, c->experts, c->k);
    if (c->dropped) {
        atlas_demo_drop(trace);
    }
    char *page = mixt_path_join(folder, "page.html");
    char *tables = mixt_path_join(folder, "tables.txt");
    mixt_atlas_options options = {.color = false, .text_tokens = 60, .width = 100};
    FILE *stream = fopen(tables, "w");
    mixt_status status = mixt_atlas_print(trace, &options, stream, error);
    fclose(stream);
    if (status == MIXT_OK && !c->pair) {
        status = mixt_atlas_page(trace, page, error);
    }
    if (status == MIXT_OK && c->pair) {
        mixt_trace *other = other_precision(c);
        char *probe = mixt_path_join(folder, "probe.json");
        const mixt_atlas_page_options with = {.second = other, .probe = probe};
        write_probe(probe, c);
        status = mixt_atlas_page_with(trace, &with, page, error);
        free(probe);
        mixt_trace_free(other);
    }
    free(page);
    free(tables);
    mixt_trace_free(trace);
    return status;
}

/* Exit status 77 of the script: no browser here; 127 of the shell: no python3. A browser meets the
 * same page whoever made it, so under sanitizers only what is written is read. */
static void check_in_browser(const page_case *c)
{
    char folder[] = "/tmp/mixt-page-XXXXXX";
    mixt_error error = MIXT_ERROR_INIT;
    assert_non_null(mkdtemp(folder));
    if (write_both(folder, c, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    char command[256];
    snprintf(command, sizeof command, "python3 tests/page/check.py %s%s", folder,
             SANITIZED ? " markup" : "");
    int status = system(command);
    mixt_folder_remove(folder, &error);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) {
        print_message("skipped: the page was not tried in a browser (no chromium or python3)\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_small(void **state)
{
    (void)state;
    check_in_browser(&(page_case){.layers = 4, .experts = 8, .k = 2});
}

static void test_many_experts(void **state)
{
    (void)state;
    check_in_browser(&(page_case){.layers = 8, .experts = 64, .k = 8});
}

static void test_one_of_each(void **state)
{
    (void)state;
    check_in_browser(&(page_case){.layers = 1, .experts = 2, .k = 1});
}

static void test_dropped(void **state)
{
    (void)state;
    check_in_browser(&(page_case){.layers = 4, .experts = 8, .k = 3, .dropped = true});
}

static void test_pair(void **state)
{
    (void)state;
    check_in_browser(&(page_case){.layers = 6, .experts = 16, .k = 2, .pair = true});
}

/* What does not fit is refused in one line that names it. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const results[][2] = {
        {"{\"format\": \"mixt-trace\"}", "not mixt-probe"},
        {"{\"format\": \"mixt-probe\", \"experts\": 7}", "experts: 7: the trace has 8"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": []}",
         "mask: not there, nor units, lens"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8}", "domains: "},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"classes\": [2]}",
         "classes: a name is not a string"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"units\": [{\"layer\": 0, "
         "\"expert\": 0, \"near_weights\": [[8, 0.5]]}]}",
         "units[0].near_weights: entry 0"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"top-k\": [{\"k\": 9, "
         "\"effect\": [0, 0, 0]}]}",
         "top-k[0].k: "},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"lens\": [{\"layer\": "
         "5}]}",
         "lens[0].layer: 5"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [3], \"mask\": []}",
         "a name is not a string"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"mask\": [5]}", "mask[0]"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"mask\": [{\"layer\": 4, "
         "\"expert\": 0, \"domains\": []}]}",
         "mask[0].layer: 4: the trace has 8 experts at layers 0 to 3"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"mask\": [{\"layer\": 3, "
         "\"expert\": 8, \"domains\": []}]}",
         "mask[0].expert: 8"},
        {"{\"format\": \"mixt-probe\", \"experts\": 8, \"domains\": [], \"mask\": [{\"layer\": 3, "
         "\"expert\": 7, \"domains\": [null]}]}",
         "as many as the file's domains"},
    };
    char folder[] = "/tmp/mixt-page-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *page = mixt_path_join(folder, "page.html");
    char *probe = mixt_path_join(folder, "probe.json");
    mixt_trace *trace = atlas_demo_make(4, 8, 2);
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        const mixt_atlas_page_options with = {.probe = probe};
        assert_int_equal(mixt_file_replace(probe, results[i][0], strlen(results[i][0]), &error),
                         MIXT_OK);
        assert_int_not_equal(mixt_atlas_page_with(trace, &with, page, &error), MIXT_OK);
        if (strstr(error.message, results[i][1]) == NULL || strchr(error.message, '\n') != NULL) {
            fail_msg("%s: %s", results[i][1], error.message);
        }
    }
    mixt_trace *other = atlas_demo_make(4, 8, 2);
    other->domain_names[2] = "others";
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_atlas_page_options with = {.second = other};
    assert_int_equal(mixt_atlas_page_with(trace, &with, page, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "other domains"));
    mixt_trace_free(other);
    mixt_trace_free(trace);
    free(page);
    free(probe);
    mixt_folder_remove(folder, &error);
}

/* Of a text that does not fit, the first tokens of each domain shown: no more bytes than there are,
 * and most of these. */
static void test_search_fits(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace = atlas_demo_make(2, 8, 2);
    bool *shows = calloc((size_t)trace->info.domains, sizeof *shows);
    mixt_page page = {.trace = trace, .shows = shows};
    for (int d = 0; d < trace->info.domains; d++) { /* all but the second */
        shows[d] = d != 1;
        page.shown_count += shows[d];
    }
    static const size_t rooms[] = {1u << 30, 6000, 3000, 1500, 40, 0};
    uint64_t last = trace->info.tokens + 1;
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        mixt_page_search search;
        mixt_buffer pieces = {0};
        mixt_buffer places = {0};
        assert_int_equal(mixt_page_search_choose(&page, rooms[i], &search, &error), MIXT_OK);
        mixt_page_search_write(&page, &search, true, &pieces);
        mixt_page_search_write(&page, &search, false, &places);
        assert_true(search.tokens == 0 || search.bytes <= rooms[i]);
        assert_true(places.length >= search.tokens && pieces.length + places.length <= rooms[i]);
        assert_true(rooms[i] < 1500 ? search.tokens == 0 : search.tokens > 0);
        assert_true(search.tokens < last);
        if (i > 0 && search.tokens > 0) {
            assert_true(search.bytes > rooms[i] / 2);
        }
        last = search.tokens + (search.tokens == 0);
        mixt_page_search_free(&search);
        mixt_buffer_free(&pieces);
        mixt_buffer_free(&places);
    }
    free(shows);
    mixt_trace_free(trace);
}

int main(int argc, char **argv)
{
    if (argc == 8 && strcmp(argv[1], "trace") == 0) {
        mixt_error error = MIXT_ERROR_INIT;
        const atlas_large_options options = {.layers = atoi(argv[3]),
                                             .experts = atoi(argv[4]),
                                             .experts_per_token = atoi(argv[5]),
                                             .domains = 12,
                                             .tokens = strtoull(argv[6], NULL, 10),
                                             .noise = atoi(argv[7])};
        mixt_status status = atlas_large_write(argv[2], &options, &error);
        fprintf(stderr, "%s", error.message);
        return status != MIXT_OK;
    }
    if (argc == 6 && strncmp(argv[1], "write", 5) == 0) {
        mixt_error error = MIXT_ERROR_INIT;
        const page_case c = {atoi(argv[3]), atoi(argv[4]), atoi(argv[5]),
                             strcmp(argv[1], "write-dropped") == 0,
                             strcmp(argv[1], "write-pair") == 0};
        mixt_status status = write_both(argv[2], &c, &error);
        fprintf(stderr, "%s", error.message);
        return status != MIXT_OK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),       cmocka_unit_test(test_many_experts),
        cmocka_unit_test(test_one_of_each), cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_pair),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_search_fits),
    };
    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
