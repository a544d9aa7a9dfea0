/* Mixtures of dense models: which compute what the dense model does, in double; what is kept; noise
 * and fresh units; refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "model/parameters.h"
#include "model_checks.h"

enum { WIDTH = 24, ROWS = TEST_ROWS * TEST_WINDOW };

static mixt_model *new_dense(void)
{
    mixt_model_options options = test_small_options();
    options.experts = 0;
    options.ffn_size = WIDTH;
    options.attention.qk_norm = MIXT_QK_NORM_HEAD;
    return test_new_model(&options, 0.1);
}

/* The options of a mixture of it. */
static mixt_model_options mixture_options(const mixt_model *dense, int experts, int chosen,
                                          int ffn_size)
{
    mixt_model_options options = dense->options;
    options.experts = experts;
    options.experts_per_token = chosen;
    options.ffn_size = ffn_size;
    return options;
}

static mixt_model *upcycle(const mixt_model *dense, const mixt_model_options *options,
                           const mixt_upcycle_options *chosen)
{
    static const mixt_upcycle_options plain = {.seed = 5};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    if (mixt_model_upcycle(dense, options, chosen != NULL ? chosen : &plain, &model, &error) !=
        MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return model;
}

/* Losses of the tokens of one batch, in double. */
static void losses(const mixt_model *model, double nll[ROWS])
{
    mixt_context *context = test_context(2, NULL);
    test_rows rows;
    test_batch batch = test_random_batch(&rows, model->options.vocab_size, true);
    test_run run;
    test_run_create(&context->device, model, &batch, sizeof(double), false, &run);
    memcpy(nll, mixt_instance_view(run.instance, run.graph->nll), ROWS * sizeof *nll);
    test_run_free(&run);
    mixt_context_free(context);
}

static double difference(const mixt_model *a, const mixt_model *b)
{
    double x[ROWS], y[ROWS], worst = 0;
    losses(a, x);
    losses(b, y);
    for (int i = 0; i < ROWS; i++) {
        worst = fmax(worst, fabs(x[i] - y[i]));
    }
    return worst;
}

/* Compares, and what the model says of itself. */
static void expect(const char *what, const mixt_model *dense, const mixt_model_options *options,
                   bool same, double tolerance)
{
    mixt_model *model = upcycle(dense, options, NULL);
    double worst = difference(dense, model);
    print_message("%-40s differs by %.1e\n", what, worst);
    if (tolerance > 0 && !(worst <= tolerance)) {
        fail_msg("%s: %g is more than %g", what, worst, tolerance);
    }
    assert_true(tolerance > 0 || worst > 1e-3);
    assert_non_null(mixt_model_remark(model, 0));
    assert_non_null(strstr(mixt_model_remark(model, 0),
                           same ? "it computes what that does" : "it does not compute"));
    mixt_model_free(model);
}

#define EXACT 1e-12
#define ROUNDED 2e-6 /* the factor of down is no power of two */

static void copies_compute_the_same(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 5, 2, WIDTH);
    expect("copies, softmax renormalised", dense, &o, true, EXACT);
    o.router.score = MIXT_SCORE_SIGMOID;
    expect("copies, sigmoid renormalised", dense, &o, true, EXACT);
    o.router.renormalise = false;
    expect("copies, sigmoid", dense, &o, false, 0);
    o.router.score = MIXT_SCORE_TOP_K_SOFTMAX;
    expect("copies, softmax of the chosen", dense, &o, true, EXACT);
    o.experts_per_token = 1;
    expect("one copy, softmax of the chosen", dense, &o, true, EXACT);
    o.router.score = MIXT_SCORE_SOFTMAX;
    expect("one copy, softmax over all", dense, &o, false, 0);
    o.experts_per_token = 5;
    expect("all copies, softmax over all", dense, &o, true, EXACT);
    o = mixture_options(dense, 4, 2, WIDTH);
    o.router.scale = 2;
    expect("copies, weights scaled", dense, &o, true, EXACT);
    o.router.logits = MIXT_LOGITS_ATTENTION;
    expect("copies, attention router", dense, &o, true, EXACT);
    o.router.logits = MIXT_LOGITS_LINEAR;
    o.leading_dense_layers = 1;
    expect("copies above a dense layer", dense, &o, true, EXACT);
    o.leading_dense_layers = 0;
    o.moe_period = 2;
    expect("copies in every second layer", dense, &o, true, EXACT);
    o.moe_period = 0;
    o.router.select = 1;
    expect("copies by hash", dense, &o, true, EXACT);
    mixt_model_free(dense);
}

/* With logits of 0 (a router that begins at 0) weights that are not renormalised are known too. */
static void the_factor_is_right_for_weights_of_zero_logits(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 8, 2, WIDTH);
    o.router.renormalise = false;
    o.initializer_range = 0;
    expect("router 0, softmax over all", dense, &o, false, EXACT);
    o.ffn_size = WIDTH / 2;
    expect("router 0, halves", dense, &o, false, EXACT);
    o.router.score = MIXT_SCORE_SIGMOID;
    expect("router 0, sigmoid, halves", dense, &o, false, EXACT);
    mixt_model_free(dense);
}

static void parts_compute_the_same(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 4, 4, WIDTH / 4);
    expect("four quarters of four", dense, &o, true, EXACT);
    o = mixture_options(dense, 16, 4, WIDTH / 4);
    expect("four quarters of sixteen", dense, &o, true, EXACT);
    o.experts_per_token = 8;
    expect("eight quarters of sixteen", dense, &o, true, EXACT);
    o.router.score = MIXT_SCORE_SIGMOID;
    expect("the same, sigmoid renormalised", dense, &o, true, EXACT);
    o.experts_per_token = 6;
    expect("six quarters of sixteen", dense, &o, false, 0);
    o.experts_per_token = 4;
    o.router.select = 1;
    expect("four quarters by hash", dense, &o, false, 0);
    o = mixture_options(dense, 6, 3, WIDTH / 3);
    expect("three thirds of six", dense, &o, true, ROUNDED);
    o = mixture_options(dense, 6, 3, WIDTH / 4);
    o.shared_experts = 1;
    expect("a shared quarter, three of six", dense, &o, true, ROUNDED);
    o.shared_gate = true;
    expect("the same behind a gate", dense, &o, true, ROUNDED);
    o = mixture_options(dense, 4, 2, WIDTH / 4);
    o.shared_experts = 2;
    o.shared_ffn_size = WIDTH / 2;
    expect("a shared half, two quarters of four", dense, &o, true, EXACT);
    mixt_model_free(dense);
}

/* Routers that decide for more than a token, drop choices, or draw something. */
static void other_routers(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options copies = mixture_options(dense, 4, 2, WIDTH), o = copies;
    mixt_model_options parts = mixture_options(dense, 8, 4, WIDTH / 4);
    o.router.scope = MIXT_SCOPE_GLOBAL;
    expect("copies, one decision for all layers", dense, &o, true, EXACT);
    o = parts;
    o.router.scope = MIXT_SCOPE_GLOBAL;
    o.router.unit = MIXT_UNIT_SEGMENT;
    o.router.segment = 4;
    expect("quarters, one decision for a segment", dense, &o, true, EXACT);
    o = copies;
    o.router.noise = MIXT_NOISE_TOP_K;
    expect("copies, noise", dense, &o, true, EXACT);
    o = parts;
    o.router.noise = MIXT_NOISE_TOP_K;
    mixt_model *model = upcycle(dense, &o, NULL);
    assert_non_null(strstr(mixt_model_remark(model, 0), "it does not compute"));
    mixt_model_free(model);
    o = copies;
    o.router.capacity = 1;
    expect("copies, a capacity", dense, &o, false, 0);
    o = parts;
    o.router.select = 2; /* all */
    o.experts_per_token = 8;
    expect("all eight quarters", dense, &o, true, EXACT);
    mixt_model_free(dense);
}

static const float *values(const mixt_model *model, mixt_slot slot, int layer)
{
    int index = mixt_model_find(model, slot, layer);
    assert_true(index >= 0);
    return mixt_model_block(model) + model->parameters[index].offset;
}

/* Bit for bit, under the dense model's names; and the same again of the same seed alone. */
static void the_rest_is_kept(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 4, 2, WIDTH / 2);
    mixt_model *model = upcycle(dense, &o, NULL), *again = upcycle(dense, &o, NULL);
    mixt_model *other = upcycle(dense, &o, &(mixt_upcycle_options){.seed = 6});
    size_t bytes = model->weight_count * sizeof(float);
    assert_memory_equal(mixt_model_block(model), mixt_model_block(again), bytes);
    int kept = 0;
    for (int i = 0; i < dense->parameter_count; i++) {
        const mixt_parameter *p = &dense->parameters[i];
        if (mixt_slot_part(p->slot) != MIXT_PART_MLP) {
            assert_memory_equal(values(model, p->slot, p->layer), values(dense, p->slot, p->layer),
                                p->count * sizeof(float));
            kept++;
        }
    }
    assert_int_equal(kept, 3 + 2 * 8);
    int64_t d = o.hidden_size;
    const float *router = values(model, MIXT_SLOT_ROUTER, 1);
    assert_memory_not_equal(router, values(other, MIXT_SLOT_ROUTER, 1), (size_t)d * sizeof(float));
    assert_memory_equal(router, router + d, (size_t)d * sizeof(float)); /* halves of one copy */
    assert_memory_not_equal(router, router + 2 * d, (size_t)d * sizeof(float));
    mixt_model_free(other);
    mixt_model_free(again);
    mixt_model_free(model);
    mixt_model_free(dense);
}

/* Deviation of what noise added, over the dense matrix's root mean square. */
static void noise_is_as_large_as_asked(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 8, 2, WIDTH);
    mixt_model *model = upcycle(dense, &o, &(mixt_upcycle_options){.noise = 0.1, .seed = 3});
    static const mixt_slot slots[][2] = {{MIXT_SLOT_EXPERT_GATE, MIXT_SLOT_DENSE_GATE},
                                         {MIXT_SLOT_EXPERT_UP, MIXT_SLOT_DENSE_UP},
                                         {MIXT_SLOT_EXPERT_DOWN, MIXT_SLOT_DENSE_DOWN}};
    size_t count = WIDTH * (size_t)o.hidden_size;
    for (int i = 0; i < 3; i++) {
        const float *to = values(model, slots[i][0], 0), *from = values(dense, slots[i][1], 0);
        double squares = 0, noise = 0, together = 0;
        for (size_t j = 0; j < 8 * count; j++) {
            double x = (double)from[j % count], change = (double)to[j] - x;
            squares += x * x;
            noise += change * change;
            together += change * ((double)to[(j + count) % (8 * count)] - x);
        }
        assert_true(fabs(sqrt(noise / squares) - 0.1) < 0.01);
        assert_true(fabs(together) < 0.1 * noise); /* every expert has its own */
    }
    assert_non_null(strstr(mixt_model_remark(model, 0), "changed at random"));
    assert_true(difference(dense, model) > 1e-3);
    mixt_model_free(model);
    mixt_model_free(dense);
}

/* The same units of gate, up and down, as many as asked, others in each expert; the rest stays. */
static void units_are_drawn_anew(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options o = mixture_options(dense, 4, 2, WIDTH);
    mixt_model *model = upcycle(dense, &o, &(mixt_upcycle_options){.reinit = 0.25, .seed = 3});
    int64_t d = o.hidden_size;
    unsigned sets[4] = {0};
    for (int e = 0; e < 4; e++) {
        const float *gate = values(model, MIXT_SLOT_EXPERT_GATE, 1) + e * WIDTH * d;
        const float *up = values(model, MIXT_SLOT_EXPERT_UP, 1) + e * WIDTH * d;
        const float *down = values(model, MIXT_SLOT_EXPERT_DOWN, 1) + e * WIDTH * d;
        int fresh = 0;
        for (int u = 0; u < WIDTH; u++) {
            int changed[3] = {0};
            for (int64_t i = 0; i < d; i++) {
                changed[0] += gate[u * d + i] != values(dense, MIXT_SLOT_DENSE_GATE, 1)[u * d + i];
                changed[1] += up[u * d + i] != values(dense, MIXT_SLOT_DENSE_UP, 1)[u * d + i];
                changed[2] +=
                    down[i * WIDTH + u] != values(dense, MIXT_SLOT_DENSE_DOWN, 1)[i * WIDTH + u];
            }
            assert_true(changed[0] == changed[1] && changed[1] == changed[2]);
            assert_true(changed[0] == 0 || changed[0] == d);
            fresh += changed[0] != 0;
            sets[e] |= changed[0] != 0 ? 1u << u : 0;
        }
        assert_int_equal(fresh, WIDTH / 4);
    }
    assert_true(sets[0] != sets[1] && sets[1] != sets[2] && sets[2] != sets[3]);
    mixt_model_free(model);
    mixt_model_free(dense);
}

static void refused(const mixt_model *dense, const mixt_model_options *options,
                    const mixt_upcycle_options *chosen, const char *part)
{
    static const mixt_upcycle_options plain = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    assert_int_equal(
        mixt_model_upcycle(dense, options, chosen != NULL ? chosen : &plain, &model, &error),
        MIXT_ERROR_ARGUMENT);
    assert_null(model);
    if (strstr(error.message, part) == NULL || strchr(error.message, '\n') != NULL) {
        fail_msg("%s: no word of %s", error.message, part);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    mixt_model *dense = new_dense();
    mixt_model_options good = mixture_options(dense, 4, 2, WIDTH), o = good;
    mixt_model *mixture = upcycle(dense, &good, NULL);
    refused(mixture, &good, NULL, "a mixture already, of 4 experts");
    o.experts = 0;
    refused(dense, &o, NULL, "upcycle: a mixture needs experts");
    o = mixture_options(dense, 4, 2, 7);
    refused(dense, &o, NULL, "ffn_size 7 does not divide 24, the dense model's");
    o = mixture_options(dense, 4, 2, 2 * WIDTH);
    refused(dense, &o, NULL, "ffn_size 48 does not divide 24");
    o = mixture_options(dense, 4, 2, 7);
    o.shared_experts = 1;
    refused(dense, &o, NULL,
            "7 does not divide 17, the dense model's 24 less the shared experts' 7");
    o = mixture_options(dense, 5, 2, WIDTH / 2);
    refused(dense, &o, NULL, "5 experts are no multiple of the 2 parts");
    o = good;
    o.shared_experts = 1;
    refused(dense, &o, NULL, "shared experts of width 24 leave nothing of 24");
    o = good;
    o.leading_dense_layers = 1;
    o.dense_ffn_size = 30;
    refused(dense, &o, NULL, "dense_ffn_size 30 is not the dense model's width 24");
    o = good;
    o.moe_period = 2;
    o.dense_ffn_size = 30;
    refused(dense, &o, NULL, "dense_ffn_size 30 is not the dense model's width 24");
    o = good;
    o.vocab_size++;
    refused(dense, &o, NULL, "vocab_size is 37 in the dense model and 38 in the mixture");
    o = good;
    o.kv_heads = 4;
    refused(dense, &o, NULL, "kv_heads is 2 in the dense model and 4");
    o = good;
    o.attention.qkv_bias = true;
    refused(dense, &o, NULL, "other tensors than the dense model has");
    o = good;
    o.expert_bias = true;
    refused(dense, &o, NULL, "biases in the MLPs");
    o = good;
    o.experts_per_token = 5;
    refused(dense, &o, NULL, "5");
    refused(dense, &good, &(mixt_upcycle_options){.noise = -1}, "noise -1 is not in 0..1000");
    refused(dense, &good, &(mixt_upcycle_options){.reinit = 1.5}, "reinit 1.5 is not in 0..1");
    refused(dense, &good, &(mixt_upcycle_options){.reserved = {1}}, "mixt_upcycle_options");
    mixt_model_free(mixture);
    mixt_model_free(dense);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_compute_the_same),
        cmocka_unit_test(the_factor_is_right_for_weights_of_zero_logits),
        cmocka_unit_test(parts_compute_the_same),
        cmocka_unit_test(other_routers),
        cmocka_unit_test(the_rest_is_kept),
        cmocka_unit_test(noise_is_as_large_as_asked),
        cmocka_unit_test(units_are_drawn_anew),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
