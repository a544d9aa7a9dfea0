/* Whole models: gradients in double against central differences, equality of training, prompt and
 * token-by-token logits, recomputation, planned memory, options that are refused. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/context.h"
#include "core/files.h"
#include "core/random.h"
#include "model_checks.h"

static test_rows batch_rows;

static void check_gradients(const mixt_model_options *options, const char *what)
{
    mixt_model *model = test_new_model(options, 0);
    test_gradients(model, what);
    mixt_model_free(model);
}

static void check_phases(const mixt_model_options *options)
{
    mixt_model *model = test_new_model(options, 0);
    test_phases(model, 0);
    mixt_model_free(model);
}

static void gradients_moe(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    check_gradients(&o, "mixtral block");
}

static void gradients_variants(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    o.shared_experts = 1;
    o.leading_dense_layers = 1;
    o.router.renormalise = false;
    o.router.balance = MIXT_BALANCE_GSHARD;
    check_gradients(&o, "shared experts, leading dense layer, GShard loss");
    o = test_small_options();
    o.experts = 0;
    o.tie_embeddings = true;
    check_gradients(&o, "dense, tied embeddings");
    o = test_small_options();
    o.router.weights = MIXT_ROUTER_FROZEN;
    o.router.bias_rate = 0.001;
    check_gradients(&o, "frozen router with selection bias");
    o = test_small_options();
    o.router.score = MIXT_SCORE_TOP_K_SOFTMAX;
    o.experts_per_token = 3;
    check_gradients(&o, "softmax over the best three");
    o = test_small_options();
    o.router.select = 1;
    check_gradients(&o, "experts by a hash of the token");
    o = test_small_options();
    o.router.select = 2;
    o.experts_per_token = o.experts;
    o.router.renormalise = false;
    check_gradients(&o, "all experts");
    o = test_small_options();
    o.router.select = 3;
    o.router.capacity = 1.5;
    o.router.renormalise = false;
    check_gradients(&o, "experts that choose their tokens");
    o.router.choice_scope = MIXT_CHOICE_OVER_SEQUENCE;
    check_gradients(&o, "experts that choose within documents");
    o = test_small_options();
    o.router.select = 4;
    check_gradients(&o, "Sinkhorn's assignment");
    o = test_small_options();
    o.router.noise = MIXT_NOISE_TOP_K;
    check_gradients(&o, "noisy top-k");
    o = test_small_options();
    o.experts = 6;
    o.router.balance_groups = 2;
    o.router.device_balance_coefficient = 0.7;
    check_gradients(&o, "groups of experts balanced too");
}

static void phases_agree(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    check_phases(&o);
    o.shared_experts = 1;
    o.leading_dense_layers = 1;
    o.router.renormalise = false;
    check_phases(&o);
    o = test_small_options();
    o.experts = 0;
    check_phases(&o);
    o = test_small_options();
    o.router.select = 1;
    check_phases(&o);
    o.router.select = 2;
    o.experts_per_token = o.experts;
    check_phases(&o);
    for (int select = 3; select <= 4; select++) {
        o = test_small_options();
        o.router.select = select;
        check_phases(&o);
    }
    o = test_small_options();
    o.router.noise = MIXT_NOISE_TOP_K;
    check_phases(&o);
}

static void recomputation_changes_nothing(void **state)
{
    (void)state;
    mixt_context *context = test_context(2, NULL);
    mixt_model_options o = test_small_options();
    o.shared_experts = 1;
    mixt_model *model = test_new_model(&o, 0);
    test_batch batch = test_random_batch(&batch_rows, o.vocab_size, true);
    test_run kept, again;
    test_run_create(&context->device, model, &batch, 4, false, &kept);
    test_run_create(&context->device, model, &batch, 4, true, &again);
    assert_memory_equal(kept.gradients, again.gradients, model->weight_count * sizeof(float));
    assert_true(again.graph->plan->record_count > kept.graph->plan->record_count);
    test_run_free(&kept);
    test_run_free(&again);
    mixt_model_free(model);
    mixt_context_free(context);
}

static void threads_and_tiers_agree(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    mixt_model *model = test_new_model(&o, 0);
    test_batch batch = test_random_batch(&batch_rows, o.vocab_size, true);
    static const struct {
        int threads;
        const char *cpu;
    } ways[] = {{1, "scalar"}, {3, "scalar"}, {1, NULL},   {2, NULL},
                {5, NULL},     {2, "avx2"},   {2, "neon"}, {2, "dotprod"}};
    float *first = NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        mixt_context *context;
        mixt_context_options options = {.threads = ways[i].threads, .cpu = ways[i].cpu};
        if (mixt_context_create(&options, &context, NULL) != MIXT_OK) {
            continue; /* a tier this CPU does not have */
        }
        test_run run;
        test_run_create(&context->device, model, &batch, 4, false, &run);
        if (first == NULL) {
            first = malloc(model->weight_count * sizeof *first);
            assert_non_null(first);
            memcpy(first, run.gradients, model->weight_count * sizeof *first);
        }
        assert_memory_equal(first, run.gradients, model->weight_count * sizeof *first);
        test_run_free(&run);
        mixt_context_free(context);
    }
    free(first);
    mixt_model_free(model);
}

static bool planned(const mixt_value *value)
{
    return (value->kind == MIXT_VALUE_ACTIVATION || value->kind == MIXT_VALUE_GRADIENT) &&
           value->first >= 0;
}

/* No two values that live at the same time share a byte, and sharing saves memory. */
static void memory_is_planned(void **state)
{
    (void)state;
    mixt_model_options o = test_small_options();
    o.layers = 6;
    mixt_model *model = test_new_model(&o, 0);
    mixt_graph_options options = {
        .phase = MIXT_PHASE_TRAIN, .capacity = 48, .window = 24, .real_size = 4};
    mixt_graph *graph;
    size_t sizes[2], sum = 0;
    for (int recompute = 0; recompute < 2; recompute++) {
        options.recompute = recompute == 1;
        assert_int_equal(mixt_graph_create(model, &options, &graph, NULL), MIXT_OK);
        const mixt_plan *plan = graph->plan;
        sum = 0;
        for (int i = 0; i < plan->value_count; i++) {
            const mixt_value *a = &plan->values[i];
            sum += planned(a) ? a->bytes : 0;
            for (int j = 0; planned(a) && j < i; j++) {
                const mixt_value *b = &plan->values[j];
                bool meet = planned(b) && a->first <= b->last && b->first <= a->last;
                assert_true(!meet || a->offset + a->bytes <= b->offset ||
                            b->offset + b->bytes <= a->offset);
            }
            assert_true(!planned(a) || a->offset + a->bytes <= plan->memory_size);
        }
        sizes[recompute] = plan->memory_size;
        mixt_graph_free(graph);
    }
    assert_true(sizes[0] < sum);
    assert_true(sizes[1] < sizes[0]);
    mixt_model_free(model);
}

static void append(mixt_plan *plan, mixt_op op, int layer, const mixt_value_id *in,
                   mixt_value_id *out)
{
    mixt_attributes none = {0};
    mixt_operation operation = {.op = op, .layer = layer, .attributes = &none, .in = in};
    mixt_plan_operator(plan, &operation, out);
}

/* A take (no backward) between the parameters and the loss. */
static void missing_backward_is_refused(void **state)
{
    (void)state;
    mixt_plan *plan;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_plan_create("train", 4, 4, &plan, &error), MIXT_OK);
    mixt_shape row = mixt_shape_tokens(4, 1, 0);
    row.rank = 1;
    mixt_value_id ids = mixt_plan_input(plan, "tokens", mixt_shape_integers(row));
    mixt_value_id table = mixt_plan_parameter(plan, "t", 0, true, mixt_shape_static(2, 9, 8, 0));
    mixt_value_id rows =
        mixt_plan_input(plan, "rows", mixt_shape_integers(mixt_shape_static(1, 4, 0, 0)));
    mixt_value_id scale = mixt_plan_input(plan, "scale", mixt_shape_static(1, 2, 0, 0));
    mixt_value_id out[MIXT_SLOTS], taken[MIXT_SLOTS], loss[MIXT_SLOTS];
    append(plan, MIXT_OP_embed, -1, (mixt_value_id[]){ids, table}, out);
    append(plan, MIXT_OP_take, 7, (mixt_value_id[]){out[EMBED_X], rows}, taken);
    plan->values[taken[TAKE_Y]].shape = plan->values[out[EMBED_X]].shape;
    append(plan, MIXT_OP_loss, -1, (mixt_value_id[]){taken[TAKE_Y], table, ids, scale}, loss);
    assert_int_equal(plan->error.status, MIXT_OK);
    assert_int_equal(mixt_plan_differentiate(plan, loss[0], &error), MIXT_ERROR_UNSUPPORTED);
    assert_string_equal(error.message,
                        "plan: layer 7: take has no backward but lies on a gradient path");
    mixt_plan_free(plan);
}

static void folders_round_trip(void **state)
{
    (void)state;
    char folder[] = "/tmp/mixt-model-XXXXXX";
    assert_non_null(mkdtemp(folder));
    mixt_model_options kinds[4] = {test_small_options(), test_small_options(), test_small_options(),
                                   test_small_options()};
    kinds[1].experts = 0;
    kinds[1].tie_embeddings = true;
    kinds[2].shared_experts = 2;
    kinds[2].leading_dense_layers = 1;
    kinds[2].router.renormalise = false;
    kinds[2].router.bias_rate = 0.001;
    kinds[3].router.select = 1;
    static const char *const names[] = {"mixtral", "llama", "mixt", "mixt"};
    for (int i = 0; i < 4; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model *model = test_new_model(&kinds[i], 0), *read;
        assert_int_equal(mixt_model_save(model, folder, &error), MIXT_OK);
        if (mixt_model_open(folder, &read, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_string_equal(read->family->name, names[i]);
        assert_int_equal(read->options.router.select, kinds[i].router.select);
        char a[65], b[65];
        assert_int_equal(mixt_model_hash(model, a, NULL), MIXT_OK);
        assert_int_equal(mixt_model_hash(read, b, NULL), MIXT_OK); /* mapped */
        assert_string_equal(a, b);
        assert_int_equal(mixt_model_load(read, &error), MIXT_OK);
        assert_int_equal(read->weight_count, model->weight_count);
        assert_memory_equal(read->weights, model->weights, model->weight_count * sizeof(float));
        assert_int_equal(mixt_model_hash(read, b, NULL), MIXT_OK);
        assert_string_equal(a, b);
        mixt_model_free(read);
        mixt_model_free(model);
    }
    mixt_folder_remove(folder, NULL);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        int value;
        const char *rule;
    } cases[] = {
        {offsetof(mixt_model_options, kv_heads), 3, "does not divide"},
        {offsetof(mixt_model_options, heads), 0, "heads 0 is not in"},
        {offsetof(mixt_model_options, head_dim), 7, "is odd"},
        {offsetof(mixt_model_options, ffn_size), (1 << 22) + 1, "is longer than 4194304"},
        {offsetof(mixt_model_options, experts_per_token), 6, "6"},
        {offsetof(mixt_model_options, experts), 5000, "experts 5000 is not in"},
        {offsetof(mixt_model_options, layers), -1, "layers -1 is not in"},
        {offsetof(mixt_model_options, vocab_size), 0, "vocab_size 0 is not in"},
        {offsetof(mixt_model_options, leading_dense_layers), 3, "is more than layers"},
        {offsetof(mixt_model_options, ffn_size), INT_MAX, "ffn_size 2147483647 is not in"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_model_options o = test_small_options();
        *(int *)(void *)((char *)&o + cases[i].offset) = cases[i].value;
        mixt_model *model;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_model_create(&o, 1, &model, &error);
        assert_true(mixt_status_is_refusal(status));
        assert_null(model);
        if (strstr(error.message, cases[i].rule) == NULL) {
            fail_msg("'%s' does not say '%s'", error.message, cases[i].rule);
        }
    }
}

/* Widths that follow from others: 256 times 2^24 would be 0 in 32 bits. */
static void wide_products_are_refused(void **state)
{
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        mixt_model_options o = test_small_options();
        o.ffn_size = 1 << 24;
        o.dense_ffn_size = shared ? 32 : 0;
        o.shared_experts = shared ? 256 : 0;
        o.shared_ffn_size = 0;
        o.experts = o.experts_per_token = 256;
        mixt_error error = MIXT_ERROR_INIT;
        assert_true(mixt_status_is_refusal(mixt_model_check(&o, "model", &error)));
        assert_string_equal(error.message,
                            shared ? "model: shared_ffn_size 2147483647 is not in 0..16777216"
                                   : "model: dense_ffn_size 2147483647 is not in 0..268435456");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_moe),
        cmocka_unit_test(gradients_variants),
        cmocka_unit_test(phases_agree),
        cmocka_unit_test(recomputation_changes_nothing),
        cmocka_unit_test(threads_and_tiers_agree),
        cmocka_unit_test(memory_is_planned),
        cmocka_unit_test(missing_backward_is_refused),
        cmocka_unit_test(folders_round_trip),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(wide_products_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
