/* The chain of samplers against fixtures/samplers.json (made by tests/reference/samplers.py with
 * numpy and transformers), what a sampler remembers, stop strings against a plain search. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "sampling/chain.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"

enum { VOCABULARY_MAX = 256, HISTORY_MAX = 256 };

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL ? fallback : json_number_value(value);
}

/* What is absent is off. */
static mixt_sampler_options read_options(const json_t *json, mixt_logit_bias biases[8])
{
    mixt_sampler_options o = mixt_sampler_options_default();
    const json_t *list = json_object_get(json, "biases");
    o.sampling = (mixt_sampling){
        .temperature = number(json, "temperature", 1),
        .top_k = (int)number(json, "top_k", 0),
        .top_p = number(json, "top_p", 1),
        .min_p = number(json, "min_p", 0),
        .repeat_penalty = number(json, "repeat_penalty", 1),
        .frequency_penalty = number(json, "frequency_penalty", 0),
        .presence_penalty = number(json, "presence_penalty", 0),
        .repeat_last = (int)number(json, "repeat_last", 64),
    };
    o.temperature_range = number(json, "temperature_range", 0);
    o.temperature_exponent = number(json, "temperature_exponent", 1);
    o.typical_p = number(json, "typical_p", 1);
    o.top_n_sigma = number(json, "top_n_sigma", 0);
    o.xtc_probability = number(json, "xtc_probability", 0);
    o.xtc_threshold = number(json, "xtc_threshold", 0.1);
    o.dry_multiplier = number(json, "dry_multiplier", 0);
    o.dry_base = number(json, "dry_base", 1.75);
    o.dry_allowed_length = (int)number(json, "dry_allowed_length", 2);
    o.dry_last = (int)number(json, "dry_last", -1);
    o.mirostat = (int)number(json, "mirostat", 0);
    o.mirostat_tau = number(json, "mirostat_tau", 5);
    o.min_keep = (int)number(json, "min_keep", 0);
    o.order = json_string_value(json_object_get(json, "order"));
    o.bias_count = json_array_size(list);
    assert_true(o.bias_count <= 8);
    for (size_t i = 0; i < o.bias_count; i++) {
        const json_t *pair = json_array_get(list, i), *bias = json_array_get(pair, 1);
        biases[i].token = (int32_t)json_integer_value(json_array_get(pair, 0));
        biases[i].bias = json_is_null(bias) ? -INFINITY : (float)json_number_value(bias);
    }
    o.biases = biases;
    return o;
}

static size_t read_ids(const json_t *list, int32_t *ids, size_t most)
{
    assert_true(json_array_size(list) <= most);
    for (size_t i = 0; i < json_array_size(list); i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return json_array_size(list);
}

static bool holds(const int32_t *ids, size_t count, int32_t id)
{
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found = found || ids[i] == id;
    }
    return found;
}

static void check_case(const json_t *json)
{
    const json_t *list = json_object_get(json, "logits"), *tokens = json_object_get(json, "tokens");
    const char *name = json_string_value(json_object_get(json, "name"));
    float logits[VOCABULARY_MAX];
    int32_t history[HISTORY_MAX], breakers[8], marks[VOCABULARY_MAX] = {0};
    mixt_candidate candidates[VOCABULARY_MAX];
    mixt_logit_bias biases[8];
    int vocab_size = (int)json_array_size(list);
    assert_true(vocab_size <= VOCABULARY_MAX);
    for (int i = 0; i < vocab_size; i++) {
        logits[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    }
    mixt_sampler_options options = read_options(json_object_get(json, "options"), biases);
    mixt_chain chain;
    mixt_chain_text text = {.tokens = history,
                            .breakers = breakers,
                            .marks = marks,
                            .vocab_size = vocab_size,
                            .mirostat_mu = 2 * options.mirostat_tau};
    text.count = read_ids(json_object_get(json, "history"), history, HISTORY_MAX);
    text.breaker_count = read_ids(json_object_get(json, "breakers"), breakers, 8);
    while (text.unbroken < text.count &&
           !holds(breakers, text.breaker_count, history[text.count - 1 - text.unbroken])) {
        text.unbroken++;
    }
    mixt_candidates left = {.list = candidates};
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_chain_create(&options, &chain, &error) != MIXT_OK ||
        mixt_sampling_gather(&options, logits, vocab_size, NULL, &left, &error) != MIXT_OK) {
        fail_msg("%s: %s", name, error.message);
    }
    assert_true(mixt_chain_run(&chain, &text, &left));
    if ((size_t)left.count != json_array_size(tokens)) {
        fail_msg("%s: %d candidates, not %zu", name, left.count, json_array_size(tokens));
    }
    for (int i = 0; i < left.count; i++) {
        double expected =
            json_number_value(json_array_get(json_object_get(json, "probabilities"), (size_t)i));
        if (left.list[i].id != json_integer_value(json_array_get(tokens, (size_t)i)) ||
            fabs(left.list[i].probability - expected) > 1e-9) {
            fail_msg("%s: candidate %d is %d with %.12g, not %.12g", name, i, left.list[i].id,
                     left.list[i].probability, expected);
        }
    }
    for (int i = 0; i < vocab_size; i++) {
        assert_int_equal(marks[i], 0);
    }
}

static void fixtures_agree(void **state)
{
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file("tests/fixtures/samplers.json", 0, &error);
    if (cases == NULL) {
        fail_msg("tests/fixtures/samplers.json: %s (run from the project's root)", error.text);
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(json_array_get(cases, i));
    }
    printf("%zu cases of the chain\n", json_array_size(cases));
    assert_true(json_array_size(cases) >= 60);
    json_decref(cases);
}

static mixt_sampler *make(const mixt_tokenizer *tokenizer, int vocab_size,
                          const mixt_sampler_options *options)
{
    mixt_sampler *sampler = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_sampler_create(tokenizer, vocab_size, options, &sampler, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return sampler;
}

static int32_t draw(mixt_sampler *sampler, const float *logits)
{
    int32_t token = -1;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_sampler_next(sampler, logits, &token, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return token;
}

static void accept(mixt_sampler *sampler, int32_t token, bool drawn)
{
    assert_int_equal(mixt_sampler_accept(sampler, token, drawn, NULL), MIXT_OK);
}

/* A sampler draws what mixt_sample draws at the place that counts the drawn tokens. */
static void a_sampler_draws_as_mixt_sample(void **state)
{
    enum { ROWS = 50, DRAWS = 200 };
    float logits[ROWS];
    int32_t text[DRAWS + 3] = {4, 9, 4};
    mixt_sampler_options options = mixt_sampler_options_default();
    (void)state;
    options.sampling.seed = 99;
    options.sampling.repeat_penalty = 1.2;
    options.sampling.frequency_penalty = 0.1;
    options.sampling.temperature = 1.5;
    mixt_sampler *sampler = make(NULL, ROWS, &options);
    for (int i = 0; i < 3; i++) {
        accept(sampler, text[i], false);
    }
    for (int i = 0; i < DRAWS; i++) {
        for (int k = 0; k < ROWS; k++) {
            logits[k] = (float)((k * 7919 + i * 104729) % 1000) / 200;
        }
        int32_t expected = -1;
        assert_int_equal(mixt_sample(&options.sampling, logits, ROWS, text, (size_t)i + 3,
                                     (uint64_t)i, &expected, NULL),
                         MIXT_OK);
        assert_int_equal(draw(sampler, logits), expected);
        assert_int_equal(draw(sampler, logits), expected); /* drawing changes nothing */
        text[i + 3] = expected;
        accept(sampler, expected, true);
    }
    assert_false(mixt_sampler_complete(sampler));
    mixt_sampler_free(sampler);
}

/* 64 equal logits surprise by 6 bits each. With tau 5 and eta 4.5 the first draw is among all of
 * them and leaves mu at 10 - 4.5 (6 - 5) = 5.5: nothing is as little surprising, the first stays.
 * That one surprises by 0 bits, and mu is 5.5 + 4.5 * 5 = 28: all again. */
static void mirostat_follows_the_surprise(void **state)
{
    float logits[64] = {0};
    mixt_sampler_options options = mixt_sampler_options_default();
    int firsts[2] = {0};
    (void)state;
    options.mirostat = 2;
    options.mirostat_eta = 4.5;
    options.sampling.temperature = 1;
    for (uint64_t seed = 0; seed < 50; seed++) {
        options.sampling.seed = seed;
        mixt_sampler *sampler = make(NULL, 64, &options);
        for (int i = 0; i < 3; i++) {
            int32_t token = draw(sampler, logits);
            accept(sampler, token, true);
            if (i == 1) {
                assert_int_equal(token, 0);
            } else {
                firsts[i / 2] += token == 0;
            }
        }
        mixt_sampler_free(sampler);
    }
    assert_true(firsts[0] < 8 && firsts[1] < 8);
}

/* With two tokens of 0.6 and 0.4 the first is left out in 3 of 10 draws, and drawn in 6 of 10 of
 * the others: the two chances are independent. */
static void xtc_has_chances_of_its_own(void **state)
{
    const int draws = 20000;
    const float logits[] = {logf(0.6f), logf(0.4f)};
    mixt_sampler_options options = mixt_sampler_options_default();
    int first = 0;
    (void)state;
    options.sampling.temperature = 1;
    options.sampling.min_p = 0;
    options.sampling.seed = 3;
    options.xtc_probability = 0.3;
    mixt_sampler *sampler = make(NULL, 2, &options);
    for (int i = 0; i < draws; i++) {
        int32_t token = draw(sampler, logits);
        first += token == 0;
        accept(sampler, token, true);
    }
    mixt_sampler_free(sampler);
    double p = 0.7 * 0.6;
    assert_true(fabs(first - draws * p) < 5 * sqrt(draws * p * (1 - p)));
}

static int32_t drawn_behind(const mixt_tokenizer *tokenizer, const mixt_sampler_options *options,
                            const char *text)
{
    float logits[257] = {0};
    logits['d'] = 2;
    logits['*'] = 1;
    mixt_sampler *sampler = make(tokenizer, 257, options);
    for (const char *c = text; *c != '\0'; c++) {
        accept(sampler, mixt_id_of_byte((unsigned char)*c), false);
    }
    float by_id[257];
    for (int i = 0; i < 256; i++) {
        by_id[mixt_id_of_byte((unsigned char)i)] = logits[i];
    }
    by_id[256] = 0;
    int32_t token = draw(sampler, by_id);
    mixt_sampler_free(sampler);
    return token == 256 ? token : mixt_byte_of_id(token);
}

/* "d" is the best, and "*" the next one, which as a breaker is never penalized. */
static void dry_breaks_at_texts(void **state)
{
    const char *const several[] = {"bc", "zzz"};
    mixt_sampler_options options = mixt_sampler_options_default();
    mixt_tokenizer *tokenizer = NULL;
    (void)state;
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    options.sampling.temperature = 0;
    options.dry_multiplier = 10;
    assert_int_equal(drawn_behind(tokenizer, &options, "abcd abc"), '*');
    assert_int_equal(drawn_behind(tokenizer, &options, "abc* abc"), 'd');
    assert_int_equal(drawn_behind(tokenizer, &options, "abcd ab:c"), 'd');
    assert_int_equal(drawn_behind(tokenizer, &options, ":bcd :bc"), '*'); /* "bc" is long enough */
    assert_int_equal(drawn_behind(tokenizer, &options, "a:cd a:c"), 'd'); /* "c" is not */
    options.dry_breakers = several;
    options.dry_breaker_count = 2;
    assert_int_equal(drawn_behind(tokenizer, &options, "a:cd a:c"), '*');
    assert_int_equal(drawn_behind(tokenizer, &options, "abcd abc"), 'd'); /* over two tokens */
    options.dry_breaker_count = 0;
    assert_int_equal(drawn_behind(tokenizer, &options, "abcd abc"), '*');
    mixt_tokenizer_free(tokenizer);
}

/* Samplers of one grammar, breakers, biases and mirostat draw what samplers of their own do,
 * whichever is freed first. */
static void samplers_alike_have_parts_together(void **state)
{
    enum { DRAWS = 60 };
    float logits[257];
    const mixt_logit_bias bias = {mixt_id_of_byte('b'), 1.5f};
    mixt_sampler_options options = mixt_sampler_options_default();
    mixt_tokenizer *tokenizer = NULL;
    (void)state;
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    options.sampling.temperature = 1;
    options.dry_multiplier = 2;
    options.biases = &bias;
    options.bias_count = 1;
    options.mirostat = 2;
    options.grammar = "root ::= ([a-c] [x-z:])*";
    options.sampling.seed = 1;
    mixt_sampler *like = make(tokenizer, 257, &options), *alike[2] = {NULL};
    for (int i = 0; i < 257; i++) {
        logits[i] = (float)(i * 7919 % 100) / 50;
    }
    accept(like, draw(like, logits), true); /* what it draws is nothing to the others */
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(mixt_sampler_create_alike(like, i + 2, &alike[i], NULL), MIXT_OK);
    }
    mixt_sampler_free(like);
    for (int i = 0; i < 2; i++) {
        int differ = 0;
        options.sampling.seed = (uint64_t)i + 2;
        mixt_sampler *own = make(tokenizer, 257, &options);
        for (int k = 0; k < DRAWS; k++) {
            int32_t token = draw(own, logits);
            assert_int_equal(draw(alike[i], logits), token);
            accept(own, token, true);
            accept(alike[i], token, true);
            differ += token != mixt_id_of_byte('b');
        }
        assert_true(differ > DRAWS / 2);
        assert_int_equal(mixt_sampler_accept(alike[i], mixt_id_of_byte('q'), true, NULL),
                         MIXT_ERROR_ARGUMENT);
        mixt_sampler_free(own);
        mixt_sampler_free(alike[i]);
    }
    options.grammar = "root ::= \"\"";
    like = make(tokenizer, 257, &options);
    assert_int_equal(mixt_sampler_create_alike(like, 2, alike, NULL), MIXT_OK);
    assert_true(mixt_sampler_complete(like) && mixt_sampler_complete(alike[0]));
    mixt_sampler_free(alike[0]);
    mixt_sampler_free(like);
    mixt_tokenizer_free(tokenizer);
}

static void ends_are_ignored(void **state)
{
    float logits[257] = {0};
    mixt_sampler_options options = mixt_sampler_options_default();
    mixt_tokenizer *tokenizer = NULL;
    (void)state;
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    int32_t end = mixt_tokenizer_separator(tokenizer);
    logits[end] = 50;
    logits[7] = 40;
    options.sampling.temperature = 0;
    mixt_sampler *sampler = make(tokenizer, 257, &options);
    assert_int_equal(draw(sampler, logits), end);
    mixt_sampler_free(sampler);
    options.ignore_end = true;
    sampler = make(tokenizer, 257, &options);
    assert_int_equal(draw(sampler, logits), 7);
    mixt_sampler_free(sampler);
    mixt_tokenizer_free(tokenizer);
}

static void refused(const mixt_sampler_options *options, const char *part)
{
    mixt_sampler *sampler = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_sampler_create(NULL, 10, options, &sampler, &error), MIXT_ERROR_ARGUMENT);
    assert_null(sampler);
    if (strstr(error.message, part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, part);
    }
}

#define REFUSED(field, wrong, part)                                                                \
    do {                                                                                           \
        mixt_sampler_options options_ = mixt_sampler_options_default();                            \
        options_.field = wrong;                                                                    \
        refused(&options_, part);                                                                  \
    } while (0)

static void bad_options_are_refused(void **state)
{
    const mixt_logit_bias beyond = {10, 1}, below = {-1, 1}, none = {3, NAN}, all = {3, INFINITY};
    const char *const empty[] = {""};
    (void)state;
    REFUSED(sampling.temperature, NAN, "temperature nan");
    REFUSED(sampling.repeat_last, -2, "penalties -2");
    REFUSED(temperature_range, -1, "temperature range");
    REFUSED(temperature_exponent, NAN, "temperature exponent");
    REFUSED(typical_p, 1.5, "typical-p 1.5");
    REFUSED(top_n_sigma, NAN, "top-n-sigma");
    REFUSED(xtc_probability, 2, "xtc probability 2");
    REFUSED(xtc_threshold, -1, "xtc threshold -1");
    REFUSED(dry_multiplier, -1, "dry multiplier -1");
    REFUSED(dry_base, 0.5, "dry base 0.5");
    REFUSED(dry_allowed_length, -1, "dry allowed length -1");
    REFUSED(dry_last, -2, "tokens of dry -2");
    REFUSED(mirostat, 3, "mirostat 3");
    REFUSED(mirostat_tau, -1, "mirostat tau -1");
    REFUSED(mirostat_eta, NAN, "mirostat eta");
    REFUSED(min_keep, -1, "keep -1");
    REFUSED(order, "top_k;best", "\"best\"");
    REFUSED(order, "top_k;;top_p", "\"\"");
    REFUSED(ignore_end, true, "tokenizer");
    REFUSED(dry_multiplier, 1, "dry breakers need a tokenizer");
    REFUSED(reserved[3], 1, "mixt_sampler_options");
    mixt_sampler_options options = mixt_sampler_options_default();
    options.bias_count = 1;
    const mixt_logit_bias *const bad[] = {&beyond, &below, &none, &all};
    for (int i = 0; i < 4; i++) {
        options.biases = bad[i];
        refused(&options, "logit bias");
    }
    options.bias_count = 0;
    options.dry_multiplier = 1;
    options.dry_breakers = empty;
    options.dry_breaker_count = 1;
    mixt_tokenizer *tokenizer = NULL;
    mixt_sampler *sampler = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    assert_int_equal(mixt_sampler_create(tokenizer, 10, &options, &sampler, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "dry breaker 1 is empty");
    mixt_tokenizer_free(tokenizer);
    options = mixt_sampler_options_default();
    sampler = make(NULL, 10, &options);
    assert_int_equal(mixt_sampler_accept(sampler, 10, false, NULL), MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_sampler_accept(sampler, -1, true, NULL), MIXT_ERROR_ARGUMENT);
    mixt_sampler_free(sampler);
}

/* ---- log probabilities */

static void log_probabilities_are_of_the_softmax(void **state)
{
    const float logits[] = {1, 3, -2, 3, 0.5f, -INFINITY};
    double sum = 0, of_token = 0, values[8];
    int32_t ids[8];
    const int32_t order[] = {1, 3, 0, 4, 2, 5, -1, -1};
    (void)state;
    for (int i = 0; i < 6; i++) {
        sum += exp((double)logits[i]);
    }
    mixt_log_probabilities(logits, 6, 4, &of_token, 8, ids, values);
    assert_true(fabs(of_token - log(exp(0.5) / sum)) < 1e-12);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ids[i], order[i]);
        assert_true(i < 5 ? fabs(values[i] - log(exp((double)logits[ids[i]]) / sum)) < 1e-12
                          : values[i] == -(double)INFINITY);
    }
    mixt_log_probabilities(logits, 6, 0, NULL, 2, ids, values);
    assert_true(ids[0] == 1 && ids[1] == 3);
    mixt_log_probabilities(logits, 6, 9, &of_token, 0, NULL, NULL);
    assert_true(of_token == -(double)INFINITY);
}

/* ---- stop strings */

static uint32_t numbers = 1;

static uint32_t below(uint32_t bound)
{
    numbers = numbers * 1664525U + 1013904223U;
    return (numbers >> 8) % bound;
}

/* The first place at which a string is complete, the longest one there: where it begins, or -1. */
static long search(const char *text, size_t length, char strings[][8], size_t count, int *which)
{
    for (size_t end = 1; end <= length; end++) {
        long begin = -1;
        for (size_t s = 0; s < count; s++) {
            size_t size = strlen(strings[s]);
            if (size <= end && memcmp(text + end - size, strings[s], size) == 0 &&
                (begin < 0 || (long)(end - size) < begin)) {
                begin = (long)(end - size);
                *which = (int)s;
            }
        }
        if (begin >= 0) {
            return begin;
        }
    }
    return -1;
}

/* Most bytes at the end that begin a string. */
static size_t held_back(const char *text, size_t length, char strings[][8], size_t count)
{
    size_t most = 0;
    for (size_t s = 0; s < count; s++) {
        for (size_t size = strlen(strings[s]); size > most; size--) {
            if (size <= length && memcmp(text + length - size, strings[s], size) == 0) {
                most = size;
            }
        }
    }
    return most;
}

static void stops_are_those_of_a_plain_search(void **state)
{
    char strings[4][8], text[65];
    int met_count = 0;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t count = 1 + below(4), length = 1 + below(64);
        const char *pointers[4];
        for (size_t s = 0; s < count; s++) {
            size_t size = 1 + below(6);
            for (size_t i = 0; i < size; i++) {
                strings[s][i] = (char)('a' + below(2));
            }
            strings[s][size] = '\0';
            pointers[s] = strings[s];
        }
        uint32_t letters = 2 + below(3); /* with a third one most texts go on for a while */
        for (size_t i = 0; i < length; i++) {
            text[i] = (char)('a' + below(letters));
        }
        mixt_stop *stop = NULL;
        assert_int_equal(mixt_stop_create(pointers, count, &stop, NULL), MIXT_OK);
        for (size_t split = 0; split <= length; split++) {
            size_t shown = 0;
            mixt_stop_reset(stop);
            for (int half = 0; half < 2; half++) {
                size_t from = half == 0 ? 0 : split, to = half == 0 ? split : length;
                int which = -1;
                long begin = search(text, to, strings, count, &which);
                size_t may = mixt_stop_feed(stop, text + from, to - from);
                assert_true(may >= shown);
                shown = may;
                if (begin >= 0) {
                    assert_int_equal(may, begin);
                    assert_string_equal(strings[mixt_stop_met(stop)], strings[which]);
                } else {
                    assert_int_equal(mixt_stop_met(stop), -1);
                    assert_int_equal(may, to - held_back(text, to, strings, count));
                }
            }
            met_count += mixt_stop_met(stop) >= 0;
        }
        mixt_stop_free(stop);
    }
    assert_true(met_count > 10000);
}

static void bad_stops_are_refused(void **state)
{
    const char *const strings[] = {"a", ""};
    mixt_stop *stop = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    assert_int_equal(mixt_stop_create(strings, 2, &stop, &error), MIXT_ERROR_ARGUMENT);
    assert_null(stop);
    assert_string_equal(error.message, "stop string 2 is empty");
    assert_int_equal(mixt_stop_create(NULL, 0, &stop, NULL), MIXT_OK);
    assert_int_equal(mixt_stop_feed(stop, "abc", 3), 3);
    mixt_stop_free(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_agree),
        cmocka_unit_test(a_sampler_draws_as_mixt_sample),
        cmocka_unit_test(mirostat_follows_the_surprise),
        cmocka_unit_test(xtc_has_chances_of_its_own),
        cmocka_unit_test(dry_breaks_at_texts),
        cmocka_unit_test(samplers_alike_have_parts_together),
        cmocka_unit_test(ends_are_ignored),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(log_probabilities_are_of_the_softmax),
        cmocka_unit_test(stops_are_those_of_a_plain_search),
        cmocka_unit_test(bad_stops_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
