/* Samplers against fixtures/sampling.json (made by tests/reference/sampling.py with numpy), draws
 * against their probabilities, bad settings. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "sampling/sample.h"

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL ? fallback : json_number_value(value);
}

static mixt_sampling settings(const json_t *json)
{
    return (mixt_sampling){
        .temperature = number(json, "temperature", 1),
        .top_k = (int)number(json, "top_k", 0),
        .top_p = number(json, "top_p", 1),
        .min_p = number(json, "min_p", 0),
        .repeat_penalty = number(json, "repeat_penalty", 1),
        .frequency_penalty = number(json, "frequency_penalty", 0),
        .presence_penalty = number(json, "presence_penalty", 0),
        .repeat_last = (int)number(json, "repeat_last", 64),
    };
}

static void check_case(const json_t *json)
{
    const json_t *list = json_object_get(json, "logits"), *past = json_object_get(json, "history");
    const json_t *tokens = json_object_get(json, "tokens");
    float logits[256];
    int32_t history[64];
    int vocab_size = (int)json_array_size(list);
    size_t history_count = json_array_size(past);
    assert_true(vocab_size <= 256 && history_count <= 64);
    for (int i = 0; i < vocab_size; i++) {
        logits[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    }
    for (size_t i = 0; i < history_count; i++) {
        history[i] = (int32_t)json_integer_value(json_array_get(past, i));
    }
    mixt_sampling sampling = settings(json_object_get(json, "sampling"));
    mixt_candidates candidates;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status =
        mixt_sample_candidates(&sampling, logits, vocab_size,
                               &(mixt_history){history, history_count}, &candidates, &error);
    const char *name = json_string_value(json_object_get(json, "name"));
    if (status != MIXT_OK || (size_t)candidates.count != json_array_size(tokens)) {
        fail_msg("%s: %s, %d candidates", name, error.message, candidates.count);
    }
    for (int i = 0; i < candidates.count; i++) {
        double expected =
            json_number_value(json_array_get(json_object_get(json, "probabilities"), (size_t)i));
        if (candidates.list[i].id != json_integer_value(json_array_get(tokens, (size_t)i)) ||
            fabs(candidates.list[i].probability - expected) > 1e-6) {
            fail_msg("%s: candidate %d is %d with %g", name, i, candidates.list[i].id,
                     candidates.list[i].probability);
        }
    }
    free(candidates.list);
}

static void fixtures_agree(void **state)
{
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file("tests/fixtures/sampling.json", 0, &error);
    if (cases == NULL) {
        fail_msg("tests/fixtures/sampling.json: %s (run from the project's root)", error.text);
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(json_array_get(cases, i));
    }
    printf("%zu sampling cases\n", json_array_size(cases));
    assert_true(json_array_size(cases) >= 20);
    json_decref(cases);
}

/* Shares of 20,000 draws within five standard deviations of the probabilities. */
static void draws_follow_probabilities(void **state)
{
    (void)state;
    const float logits[] = {0.5f, 1.5f, -0.5f, 1.0f};
    mixt_sampling sampling = mixt_sampling_default();
    sampling.temperature = 1;
    sampling.top_p = 1;
    sampling.min_p = 0;
    sampling.seed = 5;
    const int draws = 20000;
    int counts[4] = {0};
    double sum = 0;
    for (int i = 0; i < draws; i++) {
        int32_t token;
        assert_int_equal(mixt_sample(&sampling, logits, 4, NULL, 0, (uint64_t)i, &token, NULL),
                         MIXT_OK);
        counts[token]++;
    }
    for (int i = 0; i < 4; i++) {
        sum += exp((double)logits[i]);
    }
    for (int i = 0; i < 4; i++) {
        double p = exp((double)logits[i]) / sum;
        assert_true(fabs(counts[i] - draws * p) < 5 * sqrt(draws * p * (1 - p)));
    }
    int32_t one, two;
    mixt_sample(&sampling, logits, 4, NULL, 0, 77, &one, NULL);
    mixt_sample(&sampling, logits, 4, NULL, 0, 77, &two, NULL);
    assert_int_equal(one, two);
}

static void bad_settings_are_refused(void **state)
{
    (void)state;
    const float logits[] = {0, 1, NAN}, infinite[] = {0, INFINITY};
    mixt_sampling bad[6];
    for (int i = 0; i < 6; i++) {
        bad[i] = mixt_sampling_default();
    }
    bad[0].temperature = NAN;
    bad[1].temperature = -1;
    bad[2].top_p = 2;
    bad[3].min_p = -0.1;
    bad[4].repeat_penalty = 0;
    bad[5].top_k = -1;
    int32_t token;
    for (int i = 0; i < 6; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_sample(&bad[i], logits, 2, NULL, 0, 0, &token, &error),
                         MIXT_ERROR_ARGUMENT);
        assert_true(error.message[0] != '\0');
    }
    mixt_sampling good = mixt_sampling_default();
    assert_int_equal(mixt_sample(&good, logits, 3, NULL, 0, 0, &token, NULL), MIXT_ERROR_NUMERIC);
    assert_int_equal(mixt_sample(&good, infinite, 2, NULL, 0, 0, &token, NULL), MIXT_ERROR_NUMERIC);
}

/* The best k are those of the whole order, ties included, whatever k is. */
static void best_are_those_of_the_whole_order(void **state)
{
    enum { VOCABULARY = 500 };
    static float logits[VOCABULARY];
    uint32_t draw = 12345;
    (void)state;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < VOCABULARY; i++) {
            draw = draw * 1664525U + 1013904223U;
            logits[i] = (float)((draw >> 16) % (round < 10 ? 50 : 60000)); /* ties, and few */
        }
        mixt_sampling sampling = mixt_sampling_default();
        mixt_history none = {NULL, 0};
        mixt_candidates all, best;
        sampling.top_p = 1;
        sampling.min_p = 0;
        sampling.top_k = 0;
        assert_int_equal(mixt_sample_candidates(&sampling, logits, VOCABULARY, &none, &all, NULL),
                         MIXT_OK);
        assert_int_equal(all.count, VOCABULARY);
        const int counts[] = {1, 2, 3, 7, 40, 249, VOCABULARY - 1, VOCABULARY};
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            sampling.top_k = counts[c];
            assert_int_equal(
                mixt_sample_candidates(&sampling, logits, VOCABULARY, &none, &best, NULL), MIXT_OK);
            assert_int_equal(best.count, counts[c]);
            for (int i = 0; i < best.count; i++) {
                assert_int_equal(best.list[i].id, all.list[i].id);
            }
            free(best.list);
        }
        free(all.list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_agree),
        cmocka_unit_test(draws_follow_probabilities),
        cmocka_unit_test(bad_settings_are_refused),
        cmocka_unit_test(best_are_those_of_the_whole_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
