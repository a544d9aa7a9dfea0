#include "guard.h"
#include "model_checks.h"
#include "ops/latent.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "difference.h"
#include "model/parameters.h"

mixt_context *test_context(int threads, const char *cpu)
{
    mixt_context *context;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = threads, .cpu = cpu};
    if (mixt_context_create(&options, &context, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return context;
}

mixt_model_options test_small_options(void)
{
    mixt_model_options o = mixt_model_options_default();
    o.vocab_size = 37;
    o.context_length = 64;
    o.layers = 2;
    o.hidden_size = 16;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = 6;
    o.ffn_size = 20;
    o.experts = 5;
    o.experts_per_token = 2;
    o.initializer_range = 0.3; /* so that no route is nearly a tie */
    return o;
}

mixt_model_options test_block_options(int vocabulary, int tokens)
{
    mixt_model_options o = test_small_options();
    o.vocab_size = vocabulary;
    o.context_length = tokens;
    o.layers = 4;
    o.hidden_size = 64;
    o.ffn_size = 96;
    o.shared_ffn_size = 32;
    o.experts = 12;
    o.experts_per_token = 3;
    return o;
}

mixt_model *test_new_model(const mixt_model_options *options, double noise)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_create(options, 11, &model, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    for (int p = 0; p < model->parameter_count && noise != 0; p++) {
        const mixt_parameter *parameter = &model->parameters[p];
        mixt_random_key key = {17, MIXT_RANDOM_DATA, (uint32_t)p};
        bool moved = mixt_slot_is_bias(parameter->slot) || mixt_slot_is_norm(parameter->slot);
        for (size_t i = 0; i < parameter->count && moved; i++) {
            model->weights[parameter->offset + i] += (float)(noise * mixt_random_normal(&key, i));
        }
    }
    return model;
}

test_batch test_random_batch(test_rows *rows, int vocab_size, bool documents)
{
    mixt_random_key key = {3, MIXT_RANDOM_DATA, 0};
    for (int i = 0; i < TEST_ROWS * TEST_WINDOW; i++) {
        uint64_t vocabulary = (uint64_t)vocab_size, n = (uint64_t)i;
        rows->tokens[i] = (int32_t)mixt_random_below(&key, n, vocabulary);
        rows->targets[i] = (int32_t)mixt_random_below(&key, 1000 + n, vocabulary);
        int in_window = i % TEST_WINDOW;
        rows->positions[i] = documents ? in_window % 5 : in_window;
        if (documents && in_window % 5 == 4) {
            rows->targets[i] = -1;
        }
    }
    return (test_batch){TEST_ROWS, TEST_WINDOW, rows->tokens, rows->targets, rows->positions};
}

void test_gradients(mixt_model *model, const char *what)
{
    mixt_context *context = test_context(1, NULL);
    test_rows rows;
    test_batch batch = test_random_batch(&rows, model->options.vocab_size, true);
    test_run run;
    test_run_create(&context->device, model, &batch, 8, false, &run);
    double *gradient = malloc(model->weight_count * sizeof *gradient);
    assert_non_null(gradient);
    memcpy(gradient, run.gradients, model->weight_count * sizeof *gradient);
    double *weights = run.weights, worst = 0;
    int checked = 0, trained = 0;
    const double step = 1e-5;
    for (int p = 0; p < model->parameter_count; p++) {
        const mixt_parameter *parameter = &model->parameters[p];
        double largest = 0;
        for (size_t i = 0; i < parameter->count; i++) {
            largest = fmax(largest, fabs(gradient[parameter->offset + i]));
        }
        if (!parameter->trainable) {
            assert_true(largest == 0);
            continue;
        }
        trained++;
        for (size_t i = 0; i < parameter->count;
             i += 1 + parameter->count / (size_t)guard_sample(12, 2)) {
            size_t at = parameter->offset + i;
            double kept = weights[at];
            weights[at] = kept + step;
            double up = test_run_again(model, &run, false);
            weights[at] = kept - step;
            double down = test_run_again(model, &run, false);
            weights[at] = kept;
            double difference = fabs((up - down) / (2 * step) - gradient[at]);
            difference /= fmax(largest, 1e-3);
            if (difference > 1e-6) {
                print_message("%s, %s: derivative %zu is %g, expected %g\n", what, parameter->name,
                              i, gradient[at], (up - down) / (2 * step));
            }
            worst = fmax(worst, difference);
            checked++;
        }
    }
    printf("%s: %d derivatives, worst relative error %.2e\n", what, checked, worst);
    assert_true(checked > 0 && checked >= guard_sample(4, 1) * trained);
    assert_true(worst <= 1e-6);
    free(gradient);
    test_run_free(&run);
    mixt_context_free(context);
}

/* The two forms of latent attention differ by rounding, by a mean of this part of the logits'
 * range; each by itself has the same bits however it is fed. */
#define FORMS_DIFFER 1e-5

static mixt_session *session_of(mixt_context *context, const mixt_model *model, mixt_latent latent)
{
    mixt_session_options options = mixt_session_options_default();
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    options.latent = latent;
    if (mixt_session_create_with(context, model, &options, &session, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return session;
}

/* A prompt expanded whole, in parts and token by token, and as AUTO has it, against `expected`: the
 * logits behind TEST_WINDOW tokens in the absorbed form. */
static void test_forms(mixt_context *context, const mixt_model *model, int32_t *tokens,
                       const float *expected)
{
    mixt_error error = MIXT_ERROR_INIT;
    size_t row = (size_t)model->options.vocab_size;
    mixt_session *whole = session_of(context, model, MIXT_LATENT_EXPANDED);
    mixt_session *parts = session_of(context, model, MIXT_LATENT_EXPANDED);
    mixt_session *automatic = session_of(context, model, MIXT_LATENT_AUTO);
    assert_int_equal(mixt_session_feed(whole, tokens, TEST_WINDOW, &error), MIXT_OK);
    assert_int_equal(mixt_session_feed(automatic, tokens, TEST_WINDOW, &error), MIXT_OK);
    for (int at = 0, count; at < TEST_WINDOW; at += count) {
        count = at == 0 ? TEST_WINDOW / 2 : 1;
        assert_int_equal(mixt_session_feed(parts, tokens + at, (size_t)count, &error), MIXT_OK);
    }
    const float *expanded = mixt_session_logits(whole);
    assert_memory_equal(expanded, mixt_session_logits(parts), row * sizeof *expanded);
    float most = 0;
    for (size_t i = 0; i < row; i++) {
        most = fabsf(expected[i]) > most ? fabsf(expected[i]) : most;
    }
    assert_true(test_largest_difference(expanded, expected, row) <= FORMS_DIFFER * (double)most);
    assert_true(test_largest_difference(mixt_session_logits(automatic), expected, row) <=
                FORMS_DIFFER * (double)most);
    mixt_latent_sizes sizes;
    bool two = mixt_model_latent(model, &sizes);
    bool expands = two && mixt_latent_expands(&sizes, 0, TEST_WINDOW);
    bool differs = memcmp(expanded, expected, row * sizeof *expanded) != 0;
    assert_int_equal(differs, two);
    assert_memory_equal(mixt_session_logits(automatic), expands ? expanded : expected,
                        row * sizeof *expanded);
    mixt_session_free(whole);
    mixt_session_free(parts);
    mixt_session_free(automatic);
}

void test_phases(mixt_model *model, double tolerance)
{
    mixt_context *context = test_context(2, NULL);
    test_rows rows;
    test_batch batch = test_random_batch(&rows, model->options.vocab_size, false);
    test_run run;
    const mixt_router_options *router = &model->options.router;
    if (router->noise != MIXT_NOISE_NONE || mixt_router_held_out(router)[0] != '\0') {
        test_score_create(&context->device, model, &batch, &run); /* training is another thing */
    } else {
        test_run_create(&context->device, model, &batch, 4, false, &run);
    }
    const float *trained = mixt_instance_view(run.instance, run.graph->logits);
    size_t row = (size_t)model->options.vocab_size;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *one = session_of(context, model, MIXT_LATENT_ABSORBED);
    mixt_session *many = session_of(context, model, MIXT_LATENT_ABSORBED);
    for (int i = 0; i < TEST_WINDOW; i++) {
        assert_int_equal(mixt_session_feed(one, &rows.tokens[i], 1, &error), MIXT_OK);
        mixt_session_truncate(many, 0);
        assert_int_equal(mixt_session_feed(many, rows.tokens, (size_t)i + 1, &error), MIXT_OK);
        const float *expected = trained + (size_t)i * row;
        assert_true(test_largest_difference(mixt_session_logits(one), expected, row) <= tolerance);
        assert_true(test_largest_difference(mixt_session_logits(many), expected, row) <= tolerance);
    }
    if (tolerance == 0 && model->options.attention.latent_size > 0) {
        test_forms(context, model, rows.tokens, mixt_session_logits(many));
    }
    mixt_session_free(one);
    mixt_session_free(many);
    test_run_free(&run);
    mixt_context_free(context);
}
