/* What another type changes: predictions and routing against sessions that are fed token by token,
 * the divergence of routers against traces, and types chosen under a budget. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "corpus/data.h"
#include "formats/gguf.h"
#include "mixt.h"
#include "model/sensitivity.h"
#include "scratch.h"
#include "train_setup.h"

#define WINDOW 32

/* A model that was trained a little, opened; and in few bits. */
typedef struct models {
    train_setup setup;
    char source_path[200], written_path[200];
    mixt_model *source, *written;
} models;

static void convert(models *m, const mixt_convert_options *wanted, mixt_convert_report *report)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_convert_options options = *wanted;
    options.output = m->written_path;
    options.report = report;
    mixt_model_free(m->written);
    m->written = NULL;
    must(mixt_convert(m->setup.context, m->source, &options, NULL, NULL, &error), &error);
    m->written = must_open_model(m->written_path);
}

static models shared; /* of all tests, which only read but for what they convert to */

static void open_models(models *m)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = train_setup_model_options();
    memset(m, 0, sizeof *m);
    options.hidden_size = 64;
    options.head_dim = 16;
    options.ffn_size = 64;
    options.experts = 6;
    options.layers = 3;
    train_setup_open(&m->setup, 2, &options);
    m->setup.options.steps = 60;
    mixt_trainer *trainer = train_setup_trainer(&m->setup);
    train_setup_steps(trainer, 60);
    mixt_trainer_free(trainer);
    snprintf(m->source_path, sizeof m->source_path, "%s/source.gguf", m->setup.folder);
    snprintf(m->written_path, sizeof m->written_path, "%s/written.gguf", m->setup.folder);
    mixt_convert_options to_file = mixt_convert_options_default();
    to_file.output = m->source_path;
    must(mixt_convert(m->setup.context, m->setup.model, &to_file, NULL, NULL, &error), &error);
    m->source = must_open_model(m->source_path);
}

static void close_models(models *m)
{
    mixt_model_free(m->source);
    mixt_model_free(m->written);
    remove(m->source_path);
    remove(m->written_path);
    train_setup_close(&m->setup);
}

static mixt_fidelity measure(models *m, const mixt_model *a, const mixt_model *b)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_fidelity result;
    const mixt_fidelity_options options = {.window = WINDOW};
    must(mixt_fidelity_measure(m->setup.context, a, b, m->setup.data, &options, &result, &error),
         &error);
    return result;
}

static void near(double value, double expected, const char *what)
{
    if (!(fabs(value - expected) <= 1e-5 + 1e-5 * fabs(expected))) {
        fail_msg("%s: %.9g is not %.9g", what, value, expected);
    }
}

/* -- Against sessions ------------------------------------------------------------------------ */

typedef struct sums {
    double nats[2], kl, same, tokens;
    double sets[8], first[8], kept[8];
    double divergences[8192];
} sums;

/* log of the sum of exp over all logits */
static double log_sum(const float *logits)
{
    double sum = 0;
    for (int i = 0; i < 257; i++) {
        sum += exp((double)logits[i]);
    }
    return log(sum);
}

static void add_token(sums *to, mixt_session *sessions[2], int target)
{
    const float *a = mixt_session_logits(sessions[0]), *b = mixt_session_logits(sessions[1]);
    double x_sum = log_sum(a), y_sum = log_sum(b), kl = 0;
    int top[2] = {0, 0};
    for (int i = 0; i < 257; i++) {
        double x = (double)a[i] - x_sum, y = (double)b[i] - y_sum;
        kl += exp(x) * (x - y);
        top[0] = a[i] > a[top[0]] ? i : top[0];
        top[1] = b[i] > b[top[1]] ? i : top[1];
    }
    to->nats[0] -= (double)a[target] - x_sum;
    to->nats[1] -= (double)b[target] - y_sum;
    to->kl += kl;
    to->same += top[0] == top[1];
    to->divergences[(int)to->tokens++] = kl;
    const int32_t *x, *y;
    const float *v, *w;
    mixt_session_routes(sessions[0], &x, &v);
    mixt_session_routes(sessions[1], &y, &w);
    for (int layer = 0; layer < 3; layer++, x += 2, y += 2, v += 2) {
        bool stays[2] = {x[0] == y[0] || x[0] == y[1], x[1] == y[0] || x[1] == y[1]};
        to->sets[layer] += (stays[0] + stays[1]) / 2.0;
        to->first[layer] += x[0] == y[0];
        to->kept[layer] +=
            ((double)v[0] * stays[0] + (double)v[1] * stays[1]) / ((double)v[0] + (double)v[1]);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Every window of every document by itself, as mixt_evaluate cuts them. */
static void run_sessions(models *m, sums *to)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_model *both[2] = {m->source, m->written};
    const mixt_data_split *split = mixt_data_split_of(m->setup.data, false);
    mixt_session *sessions[2];
    for (int i = 0; i < 2; i++) {
        must(mixt_session_create(m->setup.context, both[i], WINDOW, &sessions[i], &error), &error);
    }
    for (size_t d = 0; d < split->document_count; d++) {
        const mixt_data_document *document = &split->documents[d];
        for (uint64_t i = 0; i + 1 < document->length; i++) {
            int32_t token = mixt_data_token(split, document->start + i);
            for (int s = 0; s < 2; s++) {
                if (i % WINDOW == 0) {
                    mixt_session_truncate(sessions[s], 0);
                }
                must(mixt_session_feed(sessions[s], &token, 1, &error), &error);
            }
            assert_true(to->tokens < 8192);
            add_token(to, sessions, mixt_data_token(split, document->start + i + 1));
        }
    }
    mixt_session_free(sessions[0]);
    mixt_session_free(sessions[1]);
}

static void test_against_sessions(void **state)
{
    (void)state;
    static sums expected;
    memset(&expected, 0, sizeof expected);
    convert(&shared, &(mixt_convert_options){.type = "Q4_0"}, NULL);
    mixt_fidelity found = measure(&shared, shared.source, shared.written);
    run_sessions(&shared, &expected);
    qsort(expected.divergences, (size_t)expected.tokens, sizeof(double), by_size);
    assert_true((double)found.tokens == expected.tokens && expected.tokens > 300);
    near(found.nats[0], expected.nats[0], "nats of the source");
    near(found.nats[1], expected.nats[1], "nats of the written");
    near(found.kl, expected.kl / expected.tokens, "kl");
    near(found.kl_99, expected.divergences[(int)ceil(0.99 * expected.tokens) - 1], "kl_99");
    near(found.same_top, expected.same / expected.tokens, "same_top");
    assert_true(found.kl > 1e-4 && found.kl_99 > found.kl);
    assert_int_equal(found.layers, 3);
    double broken = 0;
    for (int layer = 0; layer < 3; layer++) {
        assert_int_equal(found.layer[layer].layer, layer);
        near(found.layer[layer].sets, expected.sets[layer] / expected.tokens, "sets");
        near(found.layer[layer].first, expected.first[layer] / expected.tokens, "first");
        near(found.layer[layer].kept, expected.kept[layer] / expected.tokens, "kept");
        broken += 1 - found.layer[layer].sets;
    }
    assert_true(broken > 0);
    mixt_fidelity_free(&found);
}

/* A model beside itself loses nothing, and one whose routers stay the same has the same choices. */
static void test_itself(void **state)
{
    (void)state;
    mixt_fidelity found = measure(&shared, shared.source, shared.source);
    assert_true(found.kl == 0 && found.kl_99 == 0 && found.same_top == 1);
    assert_true(found.nats[0] == found.nats[1]);
    for (int i = 0; i < found.layers; i++) {
        const mixt_fidelity_layer *layer = &found.layer[i];
        assert_true(layer->sets == 1 && layer->first == 1 && layer->kl == 0);
        near(layer->kept, 1, "kept");
    }
    mixt_fidelity_free(&found);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *other = must_open_model("tests/fixtures/families/mixtral");
    const mixt_fidelity_options options = {.window = WINDOW};
    assert_int_equal(mixt_fidelity_measure(shared.setup.context, shared.source, other,
                                           shared.setup.data, &options, &found, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "ids in the vocabulary"));
    mixt_model_free(other);
}

/* -- A budget -------------------------------------------------------------------------------- */

static mixt_sensitivity *sensitivity; /* of the shared models */

static mixt_sensitivity *try_matrices(models *m)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_sensitivity *tried = NULL;
    const mixt_fidelity_options options = {.window = WINDOW};
    must(mixt_sensitivity_measure(m->setup.context, m->source, m->setup.data, NULL, &options,
                                  &tried, &error),
         &error);
    return tried;
}

/* Each matrix alone in few bits, as a model of its own would be. */
static void test_sensitivity(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_pool *pool = NULL;
    must(mixt_pool_create(2, &pool, &error), &error);
    int tried = 0;
    for (int i = 0; i < sensitivity->count; i++) {
        const mixt_sensitivity_entry *entry = &sensitivity->entries[i];
        if (entry->type == MIXT_TYPE_COUNT) {
            continue;
        }
        mixt_rounded rounded;
        must(mixt_rounded_create(shared.source, i, entry->type, NULL, pool, &rounded, &error),
             &error);
        mixt_fidelity found = measure(&shared, shared.source, &rounded.model);
        double routing = 0;
        for (int layer = 0; layer < found.layers; layer++) {
            routing += found.layer[layer].kl * log(2) / found.layers;
        }
        near(entry->kl, found.kl, "kl");
        near(entry->routing, routing, "routing");
        assert_true(entry->kl > 0);
        mixt_fidelity_free(&found);
        mixt_rounded_free(&rounded);
        tried++;
    }
    assert_int_equal(tried, 3 * 7 + 2);
    mixt_pool_free(pool);
}

static void test_budget(void **state)
{
    (void)state;
    static const char *const mixes[] = {"Q4_0", "Q5_0", "Q8_0"};
    for (int i = 0; i < 3; i++) {
        mixt_convert_report mix, chosen;
        convert(&shared, &(mixt_convert_options){.type = mixes[i]}, &mix);
        mixt_fidelity by_mix = measure(&shared, shared.source, shared.written);
        convert(&shared,
                &(mixt_convert_options){
                    .type = "auto", .budget = mix.bytes, .sensitivity = sensitivity},
                &chosen);
        mixt_fidelity by_choice = measure(&shared, shared.source, shared.written);
        assert_true(chosen.bytes <= mix.bytes);
        assert_true((double)chosen.bytes > 0.97 * (double)mix.bytes);
        assert_true(by_choice.kl < by_mix.kl);
        mixt_fidelity_free(&by_mix);
        mixt_fidelity_free(&by_choice);
    }
    /* what the source has is enough for all: copied, and nothing lost */
    mixt_convert_report all;
    convert(&shared,
            &(mixt_convert_options){.type = "auto", .budget = 1 << 30, .sensitivity = sensitivity},
            &all);
    assert_true(all.error == 0);
}

static void refused(models *m, mixt_convert_options options, const char *part)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (options.output == NULL) {
        options.output = m->written_path;
    }
    assert_int_equal(mixt_convert(m->setup.context, m->source, &options, NULL, NULL, &error),
                     MIXT_ERROR_ARGUMENT);
    if (strstr(error.message, part) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, part);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    char folder[220];
    snprintf(folder, sizeof folder, "%s/folder", shared.setup.folder);
    refused(&shared, (mixt_convert_options){.type = "auto", .sensitivity = sensitivity},
            "needs a budget");
    refused(&shared,
            (mixt_convert_options){.type = "auto", .budget = 1000, .sensitivity = sensitivity},
            "budget: 1000 bytes, but the tensors have ");
    refused(&shared, (mixt_convert_options){.type = "auto", .budget = 1 << 30},
            "needs the sensitivity of this model");
    refused(&shared, (mixt_convert_options){.type = "Q8_0", .budget = 1 << 30},
            "of type auto alone");
    refused(&shared,
            (mixt_convert_options){
                .type = "auto", .budget = 1 << 30, .sensitivity = sensitivity, .pure = true},
            "excludes pure");
    refused(&shared,
            (mixt_convert_options){
                .type = "auto", .budget = 1 << 30, .sensitivity = sensitivity, .output = folder},
            "GGUF files alone");
    mixt_error error = MIXT_ERROR_INIT;
    mixt_sensitivity *none = NULL;
    const mixt_fidelity_options options = {.window = WINDOW};
    assert_int_equal(mixt_sensitivity_measure(shared.setup.context, shared.setup.model,
                                              shared.setup.data, NULL, &options, &none, &error),
                     MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "of an opened model"));
}

static int set_up(void **state)
{
    int status = scratch_make(state);
    open_models(&shared);
    sensitivity = try_matrices(&shared);
    return status;
}

static int tear_down(void **state)
{
    mixt_sensitivity_free(sensitivity);
    close_models(&shared);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_sessions), cmocka_unit_test(test_itself),
        cmocka_unit_test(test_sensitivity),      cmocka_unit_test(test_budget),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
