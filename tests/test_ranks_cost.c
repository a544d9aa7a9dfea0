/* What a step over ranks costs on paper: formulas against small cases by hand, what must grow and
 * shrink with what, refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/ranks_cost.h"
#include "core/error.h"
#include "dist/ranks.h"
#include "mixt.h"

static mixt_model_options shape(void)
{
    mixt_model_options o = mixt_model_options_default();
    o.vocab_size = 512;
    o.context_length = 64;
    o.layers = 2;
    o.hidden_size = 32;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = 8;
    o.ffn_size = 48;
    o.experts = 8;
    o.experts_per_token = 2;
    return o;
}

static mixt_train_options training(int accumulation)
{
    mixt_train_options o = mixt_train_options_default();
    o.batch_size = 2;
    o.window = 64;
    o.accumulation = accumulation;
    return o;
}

static mixt_ranks_paper paper(int ranks, int data, int expert)
{
    return (mixt_ranks_paper){.ranks = ranks,
                              .data = data,
                              .expert = expert,
                              .flops = 1e11,
                              .read_bytes = 2e10,
                              .network_bytes = 1e9,
                              .latency = 1e-5};
}

static mixt_ranks_cost predict(const mixt_model_options *model, const mixt_train_options *train,
                               const mixt_ranks_paper *p)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks_cost cost;
    if (mixt_ranks_predict(model, train, p, &cost, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return cost;
}

static void assert_near(double have, double want)
{
    if (!(fabs(have - want) <= 1e-9 * fabs(want))) {
        fail_msg("%.12g is not %.12g", have, want);
    }
}

/* ---- formulas */

static void test_split(void **state)
{
    const mixt_split even = {4, 8}, uneven = {4, 10};
    const int64_t counts[] = {1, 20, 300, 4000, 50000, 600000, 7000000, 80000000};
    (void)state;
    assert_int_equal(mixt_split_held(&even, 3), 2);
    assert_int_equal(mixt_split_rows_sent(&even, 0, counts), 87654300);
    assert_int_equal(mixt_split_rows_sent(&even, 3, counts), 654321);
    assert_near(mixt_split_rows_even(&even, 1, 400), 300);
    /* 10 over 4: 2, 3, 2, 3 */
    assert_int_equal(mixt_split_held(&uneven, 0), 2);
    assert_int_equal(mixt_split_held(&uneven, 1), 3);
    assert_int_equal(mixt_split_held(&uneven, 3), 3);
    assert_near(mixt_split_rows_even(&uneven, 3, 100), 70);
    assert_near(mixt_sliced_values(1000, 4), 750);
    assert_near(mixt_sliced_values(1000, 1), 0);
}

/* One rank: nothing is sent, and it is as fast as itself. */
static void test_alone(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    const mixt_train_options train = training(3);
    const mixt_ranks_paper p = paper(1, 0, 0);
    mixt_ranks_cost cost = predict(&model, &train, &p);
    assert_int_equal(cost.runs, 3);
    assert_int_equal(cost.micro_tokens, 128);
    assert_int_equal(cost.tokens, 384);
    assert_near(cost.efficiency, 1);
    assert_near(cost.step, cost.compute + cost.optimizer);
    assert_true(cost.exchange_bytes == 0 && cost.reduce_bytes == 0 && cost.spread_bytes == 0 &&
                cost.numbers_bytes == 0 && cost.messages == 0);
    assert_near(cost.memory, cost.alone_memory);
    assert_near(cost.moments, 2 * cost.weights);
    /* 28 bytes of a value for AdamW, 4 for the norm, at 20 GB/s */
    assert_near(cost.optimizer, cost.weights / 4 * 32 / 2e10);
}

/* Four copies: three quarters of the gradients go out, as many weights behind them; a quarter of
 * the moments stays. */
static void test_copies(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    const mixt_train_options train = training(8);
    const mixt_ranks_paper p = paper(4, 4, 1);
    mixt_ranks_cost cost = predict(&model, &train, &p);
    double values = cost.weights / 4;
    assert_int_equal(cost.data, 4);
    assert_int_equal(cost.expert, 1);
    assert_int_equal(cost.experts, 8);
    assert_int_equal(cost.runs, 2);
    assert_near(cost.reduce_bytes, values * 3);
    assert_near(cost.spread_bytes, values * 3);
    assert_near(cost.moments, values * 2);
    /* one turn of three messages; read two values and write one for each that is added */
    assert_true(values / 4 < MIXT_RANKS_ROOM);
    assert_near(cost.reduce, 3e-5 + values * 3 / 1e9 + values * 12 / 2e10);
    assert_near(cost.spread, 3e-5 + values * 3 / 1e9);
    assert_near(cost.messages, 3 + 3 + 3);
    assert_near(cost.step,
                cost.compute + cost.reduce + cost.numbers + cost.optimizer + cost.spread);
    assert_near(cost.efficiency, cost.alone_step / (4 * cost.step));
    const mixt_ranks_paper one = paper(1, 1, 1);
    mixt_ranks_cost alone = predict(&model, &train, &one);
    assert_near(cost.compute, alone.compute / 4);
    assert_near(cost.optimizer, alone.optimizer / 4);
    assert_near(cost.alone_step, alone.step);
}

/* ---- what must grow and shrink */

static void test_monotonic(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    double efficiency = 1, moments = INFINITY;
    for (int ranks = 2; ranks <= 64; ranks *= 2) {
        const mixt_train_options train = training(ranks);
        mixt_ranks_paper p = paper(ranks, ranks, 1);
        mixt_ranks_cost cost = predict(&model, &train, &p);
        assert_true(cost.efficiency < efficiency && cost.moments < moments);
        efficiency = cost.efficiency;
        moments = cost.moments;
        p.network_bytes *= 4;
        assert_true(predict(&model, &train, &p).step < cost.step);
        p = paper(ranks, ranks, 1);
        p.latency *= 4;
        assert_true(predict(&model, &train, &p).step > cost.step);
        p = paper(ranks, ranks, 1);
        p.efficiency = 0.5;
        assert_near(predict(&model, &train, &p).compute, 2 * cost.compute);
        /* more micro batches for the same gradients */
        const mixt_train_options longer = training(4 * ranks);
        p = paper(ranks, ranks, 1);
        assert_true(predict(&model, &longer, &p).efficiency > cost.efficiency);
    }
}

/* ---- refusals */

static void assert_refused(const mixt_model_options *model, const mixt_train_options *train,
                           const mixt_ranks_paper *p, const char *what)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks_cost cost;
    assert_int_equal(mixt_ranks_predict(model, train, p, &cost, &error), MIXT_ERROR_ARGUMENT);
    if (strstr(error.message, what) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, what);
    }
}

static void test_refused(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    mixt_train_options train = training(4);
    mixt_ranks_paper p = paper(4, 3, 1);
    assert_refused(&model, &train, &p, "is not the number of ranks");
    p = paper(16, 1, 16);
    train.accumulation = 16;
    assert_refused(&model, &train, &p, "a layer has only 8 experts");
    p = paper(3, 3, 1);
    assert_refused(&model, &train, &p, "accumulation 16");
    p = paper(0, 0, 0);
    assert_refused(&model, &train, &p, "ranks: 0 is not in 1..");
    p = paper(4, 4, 1);
    p.network_bytes = 0;
    assert_refused(&model, &train, &p, "network_bytes");
    p = paper(4, 4, 1);
    p.efficiency = 1.5;
    assert_refused(&model, &train, &p, "efficiency");
    p = paper(4, 4, 1);
    train.window = 65;
    assert_refused(&model, &train, &p, "window 65");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),   cmocka_unit_test(test_alone),
        cmocka_unit_test(test_copies),  cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
