/* The use of experts over training: what a run logs, what is read of it, and the measure against
 * numpy (tests/reference/atlas_training.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "measure_fixture.h"
#include "scratch.h"
#include "train/log.h"

#define LOG "tests/fixtures/atlas/load.jsonl"

static void test_numpy(void **state)
{
    (void)state;
    const mixt_measure_options options = {.shuffles = 400, .seed = 3};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table;
    if (mixt_measure_log("training", LOG, &options, &table, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    FILE *file = fopen("tests/fixtures/atlas/training.txt", "r");
    char line[200], column[64];
    int step, layer, count = 0;
    double value, tolerance;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(
            sscanf(line, "%d %d %63s %lf %lf", &step, &layer, column, &value, &tolerance), 5);
        const double keys[] = {step, layer};
        double cell = measure_cell(table, keys, 2, column);
        if (!(fabs(cell - value) <= tolerance)) {
            fail_msg("step %d, layer %d: %s is %.12g, by numpy %.12g", step, layer, column, cell,
                     value);
        }
        count++;
    }
    fclose(file);
    assert_true(count > 140);
    assert_int_equal(mixt_table_rows(table), 5 * 4);
    assert_true(isnan(measure_cell(table, (const double[]){1, 1}, 2, "moved")));
    assert_true(isnan(measure_cell(table, (const double[]){2, 5}, 2, "unused")));
    mixt_table_free(table);
}

/* Which steps are logged: by their number alone, so that a resumed run logs the same. */
static void test_due(void **state)
{
    (void)state;
    int first = 0, thousand = 0, million = 0;
    for (int64_t step = 1; step <= 1000000; step++) {
        bool due = mixt_log_load_due(step);
        first += due && step <= 127;
        thousand += due && step <= 1000;
        million += due;
        assert_true(due || step > 127);
    }
    assert_int_equal(first, 127);
    assert_true(thousand > 300 && thousand < 320);
    assert_true(million > 900 && million < 1000);
    assert_true(mixt_log_load_due((int64_t)1 << 62));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "no step is in it"},
        {"{\"step\":1", "no step is in it"}, /* the run is writing it */
        {"x\n", ":1: "},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]],\"z\":1}\n",
         ":1: \"z\" is not known here"},
        {"{\"step\":-1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]]}\n", ":1: step: "},
        {"{\"step\":1,\"tokens\":0,\"layers\":[0],\"choices\":[[1,3]]}\n", ":1: tokens: "},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0,1],\"choices\":[[1,3]]}\n", "as many entries"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[],\"choices\":[]}\n", "as many entries"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[]]}\n", "a count of each expert"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[3]}\n", "a count of each expert"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[-1],\"choices\":[[1]]}\n", "numbers of layers"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,-3]]}\n", "whole numbers"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,0.5]]}\n", "whole numbers"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0,1],\"choices\":[[1,3],[4]]}\n",
         "as many experts at each layer"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]]}\n"
         "{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]]}\n",
         ":2: step: "},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]]}\n"
         "{\"step\":2,\"tokens\":4,\"layers\":[1],\"choices\":[[1,3]]}\n",
         ":2: other layers than in the lines before"},
        {"{\"step\":1,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3]]}\n"
         "{\"step\":2,\"tokens\":4,\"layers\":[0],\"choices\":[[1,3,0]]}\n",
         ":2: \"choices\" must have as many experts"},
    };
    char *path = scratch_path("load.jsonl");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_table *table;
        assert_int_equal(mixt_file_replace(path, cases[i].text, strlen(cases[i].text), &error),
                         MIXT_OK);
        mixt_status status = mixt_measure_log("training", path, NULL, &table, &error);
        if (!mixt_status_is_refusal(status) || strstr(error.message, cases[i].message) == NULL ||
            strstr(error.message, path) != error.message) {
            fail_msg("expected \"%s\", was told \"%s\"", cases[i].message, error.message);
        }
        assert_null(table);
    }
    free(path);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table;
    assert_int_equal(mixt_measure_log("load", LOG, NULL, &table, &error), MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "measure load: takes one trace, not a log");
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_measure("training", NULL, 0, NULL, &table, &error), MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "measure training: takes the log of a training run, not 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("training_load", tests, scratch_make, scratch_remove);
}
