/* Models with every choice of a router: derivatives in double, the same logits in training, prompt
 * and token by token where the choice is causal, folders and GGUF files and back, and what is said
 * of those that see later tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "model_checks.h"
#include "scratch.h"

typedef struct choice {
    const char *name;
    void (*set)(mixt_model_options *o);
    bool causal;  /* training = prompt = token by token */
    bool another; /* training computes something else than what is run: noise, drops */
} choice;

static void by_sequence(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEQUENCE;
}

static void by_segment(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEGMENT;
    o->router.segment = 4;
}

static void by_one_token_segments(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEGMENT;
    o->router.segment = 1;
}

static void for_all_layers(mixt_model_options *o)
{
    o->router.scope = MIXT_SCOPE_GLOBAL;
    o->router.bias_rate = 0.001;
}

static void segment_for_all_layers(mixt_model_options *o)
{
    by_segment(o);
    o->router.scope = MIXT_SCOPE_GLOBAL;
    o->leading_dense_layers = 1;
    o->layers = 3;
}

static void redrawn(mixt_model_options *o)
{
    o->router.weights = MIXT_ROUTER_REDRAWN;
}

static void with_jitter(mixt_model_options *o)
{
    o->router.jitter = 0.1;
}

static void with_capacity(mixt_model_options *o)
{
    o->router.capacity = 0.75;
    o->router.evaluation_capacity = 1.5;
}

static void dropped_by_weight(mixt_model_options *o)
{
    o->router.capacity = 0.5;
    o->router.evaluation_capacity = 2;
    o->router.drop = MIXT_DROP_WEIGHT;
}

static void every_second_layer(mixt_model_options *o)
{
    o->layers = 4;
    o->moe_period = 2;
    o->router.scope = MIXT_SCOPE_GLOBAL;
}

static void without_weights(mixt_model_options *o)
{
    o->identity_experts = 2;
    o->zero_experts = 1;
    o->router.bias_rate = 0.001;
}

/* More choices than experts with weights, and a capacity, which counts theirs too. */
static void mostly_without_weights(mixt_model_options *o)
{
    o->experts = 1;
    o->identity_experts = 1;
    o->zero_experts = 3;
    o->experts_per_token = 3;
    o->router.capacity = 0.75;
}

static const choice choices[] = {
    {"a decision for a sequence", by_sequence, false, false},
    {"a decision for a segment", by_segment, true, false},
    {"a decision for each token by those before it", by_one_token_segments, true, false},
    {"one decision for all layers", for_all_layers, true, false},
    {"a segment's decision for all layers", segment_for_all_layers, true, false},
    {"routers drawn anew", redrawn, true, false},
    {"jitter", with_jitter, true, true},
    {"a capacity", with_capacity, true, true},
    {"drops by weight", dropped_by_weight, true, true},
    {"experts in every second layer", every_second_layer, true, false},
    {"experts without weights", without_weights, true, false},
    {"more of them than of others", mostly_without_weights, true, true},
};

#define CHOICES (sizeof choices / sizeof *choices)

static mixt_model *model_of(const choice *c)
{
    mixt_model_options o = test_small_options();
    c->set(&o);
    return test_new_model(&o, 0);
}

static void derivatives(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHOICES; i++) {
        mixt_model *model = model_of(&choices[i]);
        test_gradients(model, choices[i].name);
        mixt_model_free(model);
    }
}

static void phases_agree(void **state)
{
    (void)state;
    int checked = 0;
    for (size_t i = 0; i < CHOICES; i++) {
        if (choices[i].causal && !choices[i].another) {
            mixt_model *model = model_of(&choices[i]);
            test_phases(model, 0);
            mixt_model_free(model);
            checked++;
        }
    }
    assert_true(checked >= 7);
}

/* The same bits of gradients for any number of threads. */
static void threads_agree(void **state)
{
    (void)state;
    static test_rows rows;
    for (size_t i = 0; i < CHOICES; i++) {
        mixt_model *model = model_of(&choices[i]);
        size_t bytes = model->weight_count * sizeof(float);
        test_batch batch = test_random_batch(&rows, model->options.vocab_size, true);
        void *first = NULL;
        for (int threads = 1; threads <= 5; threads += 2) {
            mixt_context *context = test_context(threads, threads == 1 ? "scalar" : NULL);
            test_run run;
            test_run_create(&context->device, model, &batch, 4, threads == 5, &run);
            if (first == NULL) {
                first = malloc(bytes);
                assert_non_null(first);
                memcpy(first, run.gradients, bytes);
            }
            assert_memory_equal(first, run.gradients, bytes);
            test_run_free(&run);
            mixt_context_free(context);
        }
        free(first);
        mixt_model_free(model);
    }
}

#define LONG_PROMPT 1100 /* tokens: three parts as a session feeds them */

static mixt_session *must_session(mixt_context *context, const mixt_model *model)
{
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_session_create(context, model, 0, &session, &error), &error);
    return session;
}

static void feed(mixt_session *session, const int32_t *tokens, size_t count)
{
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_session_feed(session, tokens, count, &error), &error);
}

static void same_logits(const mixt_session *a, const mixt_session *b, const mixt_model *model)
{
    assert_int_equal(mixt_session_length(a), mixt_session_length(b));
    assert_memory_equal(mixt_session_logits(a), mixt_session_logits(b),
                        (size_t)model->options.vocab_size * sizeof(float));
}

static mixt_model *long_model(void (*set)(mixt_model_options *o), int32_t tokens[LONG_PROMPT])
{
    mixt_random_key key = {7, MIXT_RANDOM_DATA, 1};
    mixt_model_options o = test_small_options();
    o.context_length = 2048;
    set(&o);
    for (int i = 0; i < LONG_PROMPT; i++) {
        tokens[i] = (int32_t)mixt_random_below(&key, (uint64_t)i, (uint64_t)o.vocab_size);
    }
    return test_new_model(&o, 0);
}

static void by_segments_of_seven(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEGMENT;
    o->router.segment = 7;
}

/* A prompt that is fed in parts, at places that no segment ends at, is the same text token by
 * token; and so is what is left of it when it was cut and went on in another way. */
static void parts_of_a_prompt_agree(void **state)
{
    (void)state;
    static int32_t tokens[LONG_PROMPT];
    static const size_t lengths[] = {1090, 1024, 517, 512, 511, 15, 14, 13, 1, 0};
    mixt_model *model = long_model(by_segments_of_seven, tokens);
    mixt_context *context = test_context(2, NULL);
    mixt_session *one = must_session(context, model), *many = must_session(context, model);
    mixt_session *cut = must_session(context, model);
    feed(many, tokens, LONG_PROMPT);
    feed(cut, tokens, LONG_PROMPT);
    for (size_t i = 0; i < LONG_PROMPT; i++) {
        feed(one, tokens + i, 1);
        if (i == 510 || i == 512 || i == 515 || i == 1023) {
            mixt_session_truncate(many, 0);
            feed(many, tokens, i + 1);
            same_logits(one, many, model);
        }
    }
    mixt_session_truncate(many, 0);
    feed(many, tokens, 300);
    feed(many, tokens + 300, 1);
    feed(many, tokens + 301, LONG_PROMPT - 301);
    same_logits(one, many, model);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) { /* each from the one before */
        mixt_session_truncate(cut, lengths[i]);
        feed(cut, tokens + 100, 9);
        mixt_session *fresh = must_session(context, model);
        if (lengths[i] > 0) {
            feed(fresh, tokens, lengths[i]);
        }
        feed(fresh, tokens + 100, 9);
        same_logits(cut, fresh, model);
        mixt_session_free(fresh);
    }
    mixt_session_free(cut);
    mixt_session_free(many);
    mixt_session_free(one);
    mixt_context_free(context);
    mixt_model_free(model);
}

/* A sequence is decided by what is fed first. Where some of that is cut, what is left of it
 * decides: what a session holds never depends on tokens that are gone. */
static void a_sequence_is_decided_by_its_prompt(void **state)
{
    (void)state;
    static int32_t tokens[LONG_PROMPT];
    mixt_model *model = long_model(by_sequence, tokens);
    mixt_context *context = test_context(2, NULL);
    mixt_session *used = must_session(context, model), *fresh = must_session(context, model);
    feed(used, tokens, 600);
    feed(fresh, tokens, 600);
    mixt_session_truncate(used, 550);
    feed(used, tokens + 550, 50); /* what was cut and comes again */
    same_logits(used, fresh, model);
    mixt_session_truncate(used, 1);
    feed(used, tokens + 1, 599);
    mixt_session_free(fresh);
    fresh = must_session(context, model);
    feed(fresh, tokens, 1);
    feed(fresh, tokens + 1, 599);
    same_logits(used, fresh, model);
    mixt_session_truncate(used, 0);
    feed(used, tokens + 40, 20);
    mixt_session_free(fresh);
    fresh = must_session(context, model);
    feed(fresh, tokens + 40, 20);
    same_logits(used, fresh, model);
    feed(used, tokens, 3);
    feed(fresh, tokens, 1);
    feed(fresh, tokens + 1, 2);
    same_logits(used, fresh, model);
    mixt_session_free(fresh);
    mixt_session_free(used);
    mixt_context_free(context);
    mixt_model_free(model);
}

/* One router for all layers is changed for all of them, and by the layer that has it. */
static void one_router_is_changed_for_all(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    segment_for_all_layers(&o);
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    for (int chosen = 1; chosen <= o.experts; chosen++) {
        mixt_model *by_layer = test_new_model(&o, 0), *by_all = test_new_model(&o, 0);
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_model_change_routing(by_layer, MIXT_ROUTING_TOP_K, 2, chosen, &error),
                         MIXT_ERROR_ARGUMENT);
        assert_string_equal(error.message, "routing: layer 2 has no router of its own, layer 1 "
                                           "decides for all");
        error = (mixt_error)MIXT_ERROR_INIT;
        must(mixt_model_change_routing(by_layer, MIXT_ROUTING_TOP_K, 1, chosen, &error), &error);
        must(mixt_model_change_routing(by_all, MIXT_ROUTING_TOP_K, -1, chosen, &error), &error);
        mixt_session *one = must_session(scratch_context, by_layer);
        mixt_session *all = must_session(scratch_context, by_all);
        const int32_t *ids;
        const float *weights;
        feed(one, tokens, 5);
        feed(all, tokens, 5);
        same_logits(one, all, by_all);
        mixt_session_routes(one, &ids, &weights);
        for (int i = 0; i < chosen; i++) {
            assert_true(ids[i] >= 0);
            int second = chosen > o.experts_per_token ? chosen : o.experts_per_token;
            assert_int_equal(ids[i], ids[second + i]); /* of layers 1 and 2 */
        }
        mixt_session_free(one);
        mixt_session_free(all);
        mixt_model_free(by_layer);
        mixt_model_free(by_all);
    }
}

/* What is computed with; what was trained with is in folders alone. */
static void same_model(mixt_model *a, mixt_model *b, bool folder)
{
    char x[65], y[65];
    const char *name;
    double value, other;
    for (int i = 0; mixt_model_option(&a->options, i, &name, &value); i++) {
        assert_true(mixt_model_option(&b->options, i, &name, &other));
        bool training = !mixt_option_fields[i].required;
        bool shape = strncmp(name, "rope", 4) != 0 && strcmp(name, "separator") != 0;
        if (shape && (folder || !training) && value != other) {
            fail_msg("%s: %g, read as %g", name, value, other);
        }
    }
    if (folder) {
        assert_int_equal(mixt_model_hash(a, x, NULL), MIXT_OK);
        assert_int_equal(mixt_model_hash(b, y, NULL), MIXT_OK);
        assert_string_equal(x, y);
    }
}

static void files_hold_them(void **state)
{
    (void)state;
    char *folder = scratch_path("folder"), *file = scratch_path("file.gguf");
    for (size_t i = 0; i < CHOICES; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model *model = model_of(&choices[i]);
        must(mixt_model_save(model, folder, &error), &error);
        mixt_model *read = must_open_model(folder);
        same_model(model, read, true);
        mixt_convert_options options = mixt_convert_options_default();
        options.output = file;
        must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
        mixt_model *converted = must_open_model(file);
        same_model(model, converted, false);
        mixt_model_free(converted);
        mixt_model_free(read);
        mixt_model_free(model);
        must(mixt_folder_remove(folder, NULL), NULL);
        unlink(file);
    }
    free(folder);
    free(file);
}

/* Where several things have to be known of scores all are said, and no other. */
static void all_that_holds_is_said(void **state)
{
    (void)state;
    static const char *const words[] = {"sees the later ones", "let experts choose",
                                        "balanced them over the batch", "it was drawn anew",
                                        "hangs on what is scored beside it"};
    for (int i = 0; i < 5 * 3 * 3 * 2; i++) {
        mixt_router_options o = {.select = i % 5,
                                 .unit = (mixt_router_unit)(i / 5 % 3),
                                 .weights = (mixt_router_weights)(i / 15 % 3),
                                 .evaluation_capacity = i / 45};
        const char *select = mixt_router_select_name(o.select);
        bool token = o.unit == MIXT_UNIT_TOKEN;
        const bool holds[] = {o.unit == MIXT_UNIT_SEQUENCE,
                              token && strcmp(select, "expert-choice") == 0,
                              token && strcmp(select, "sinkhorn") == 0,
                              o.weights == MIXT_ROUTER_REDRAWN, i / 45 == 1};
        if (!token && i % 5 >= 3) {
            continue; /* refused */
        }
        const char *said = mixt_router_held_out(&o);
        bool any = false;
        for (int w = 0; w < 5; w++) {
            any = any || holds[w];
            if ((strstr(said, words[w]) != NULL) != holds[w]) {
                fail_msg("%s, unit %d, weights %d, capacity %d: '%s'", select, (int)o.unit,
                         (int)o.weights, i / 45, said);
            }
        }
        assert_int_equal(any, said[0] != '\0');
        assert_null(strchr(said, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives),
        cmocka_unit_test(phases_agree),
        cmocka_unit_test(threads_agree),
        cmocka_unit_test(parts_of_a_prompt_agree),
        cmocka_unit_test(a_sequence_is_decided_by_its_prompt),
        cmocka_unit_test(one_router_is_changed_for_all),
        cmocka_unit_test(files_hold_them),
        cmocka_unit_test(all_that_holds_is_said),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
