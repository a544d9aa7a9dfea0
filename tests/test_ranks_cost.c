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
#include "hub.h"
#include "train/trainer.h"

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
    o.optimizer = MIXT_OPTIMIZER_ADAMW;
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
    assert_near(cost.messages, 3 + 3 + 3 * 3);
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
    for (int ranks = 2; ranks <= 32; ranks *= 2) { /* beyond, gathers go in fewer messages */
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

/* All wait for the rank with most rows; where experts are not spread nobody does. */
static void test_imbalance(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    const mixt_train_options train = training(4);
    mixt_ranks_paper p = paper(4, 1, 4);
    p.latency = 0;
    mixt_ranks_cost even = predict(&model, &train, &p);
    p.imbalance = 2;
    mixt_ranks_cost waits = predict(&model, &train, &p);
    assert_true(waits.exchange > 1.99 * even.exchange && waits.exchange <= 2 * even.exchange);
    assert_true(waits.compute > even.compute && waits.compute < 2 * even.compute);
    assert_true(waits.exchange_bytes == even.exchange_bytes);
    assert_true(waits.alone_step == even.alone_step);
    p = paper(4, 4, 1);
    even = predict(&model, &train, &p);
    p.imbalance = 2;
    assert_true(predict(&model, &train, &p).step == even.step);
}

/* What sets out together is late once: four ways and the counts in each of two layers; a turn of
 * sums, the weights, and three gathers of numbers. Chunks do not hide it, being late all alike. */
static void test_delay(void **state)
{
    (void)state;
    const mixt_model_options model = shape();
    const mixt_train_options train = training(4);
    for (int chunks = 1; chunks <= 2; chunks++) {
        mixt_ranks_paper p = paper(4, 1, 4);
        p.chunks = chunks;
        const mixt_ranks_cost prompt = predict(&model, &train, &p);
        p.delay = 1e-3;
        const mixt_ranks_cost late = predict(&model, &train, &p);
        assert_near(late.exchange - prompt.exchange, 2 * 5 * 1e-3);
        assert_near(late.exchange_hidden, prompt.exchange_hidden);
        assert_near(late.reduce - prompt.reduce, 1e-3);
        assert_near(late.spread - prompt.spread, 1e-3);
        assert_near(late.numbers - prompt.numbers, 3 * 1e-3);
        assert_near(late.step - prompt.step, 15 * 1e-3);
        assert_true(late.alone_step == prompt.alone_step && late.messages == prompt.messages);
    }
}

/* Rows travel while the shared expert is computed: two of four ways. */
static void test_hidden(void **state)
{
    (void)state;
    mixt_model_options model = shape();
    const mixt_train_options train = training(4);
    mixt_ranks_paper p = paper(4, 1, 4);
    p.latency = 0;
    mixt_ranks_cost cost = predict(&model, &train, &p);
    assert_true(cost.exchange_hidden == 0);
    assert_near(cost.step, cost.compute + cost.exchange + cost.reduce + cost.numbers +
                               cost.optimizer + cost.spread);
    model.shared_experts = 1;
    model.shared_ffn_size = 4096; /* long enough for all of it */
    cost = predict(&model, &train, &p);
    const mixt_ranks_way *out = &cost.forward_out, *back = &cost.backward_back;
    double counts = 4.0 * (8 - 2) / 1e9; /* which are waited for */
    assert_near(out->hidden, out->seconds - counts);
    assert_near(back->hidden, back->seconds);
    assert_true(cost.forward_back.hidden == 0 && cost.backward_out.hidden == 0);
    assert_near(cost.exchange_hidden, 2 * (out->hidden + back->hidden));
    p.flops = p.read_bytes = 1e15; /* nothing is computed for long enough to hide much */
    mixt_ranks_cost fast = predict(&model, &train, &p);
    assert_true(fast.exchange == cost.exchange);
    assert_true(fast.exchange_hidden < 0.01 * cost.exchange_hidden);
}

/* ---- what is really sent */

enum { RANKS_MOST = 8, LAYERS_MOST = 4, EXPERTS_MOST = 16 };

/* A transport that counts what another one sends. */
typedef struct counter {
    mixt_transport transport;
    const mixt_transport *inner;
    int64_t bytes, messages;
} counter;

static void *count_start(void *user, const mixt_message *messages, int count, char *text)
{
    counter *c = user;
    for (int i = 0; i < count; i++) {
        c->bytes += messages[i].receive ? 0 : (int64_t)messages[i].bytes;
        c->messages += messages[i].receive ? 0 : 1;
    }
    return c->inner->start(c->inner->user, messages, count, text);
}

static mixt_wait count_wait(void *user, void *request, double seconds, int *rank, char *text)
{
    const counter *c = user;
    return c->inner->wait(c->inner->user, request, seconds, rank, text);
}

static void count_abort(void *user, const char *why)
{
    const counter *c = user;
    c->inner->abort(c->inner->user, why);
}

static void count_close(void *user)
{
    const counter *c = user;
    c->inner->close(c->inner->user);
}

/* The second step of one micro batch a rank, and what each rank sent in it: in the first one they
 * tell each other more of the norm. */
typedef struct real_step {
    mixt_model_options model;
    mixt_train_options train;
    int ranks, data, expert;
    int64_t gradient_bytes[RANKS_MOST]; /* in mixt_trainer_gradients and mixt_optimizer_step */
    int64_t step_bytes[RANKS_MOST];
    int64_t messages[RANKS_MOST];
    int64_t counts[RANKS_MOST][LAYERS_MOST][EXPERTS_MOST];
    double slices[RANKS_MOST]; /* values that a rank sends of its gradients */
    double spread[RANKS_MOST]; /* and of its weights */
    double parts[RANKS_MOST];  /* of the norm */
} real_step;

static void stage(mixt_trainer *trainer, mixt_batch *batch, int rank)
{
    int64_t window = trainer->options.window;
    batch->rows = trainer->rows;
    for (int64_t row = 0; row < batch->rows; row++) {
        batch->tokens[row] = (int32_t)((row * 7 + row / 5 * rank + 31 * rank) % 512);
        batch->targets[row] = (int32_t)((row * 11) % 512);
    }
    for (int64_t row = 0; row < batch->rows; row += window) {
        mixt_batch_sequence(batch, row, window);
    }
}

static void note_slices(const mixt_trainer *trainer, real_step *step, int rank)
{
    const mixt_train_slices *slices = &trainer->slices;
    for (int region = 0; region < MIXT_TRAIN_REGIONS; region++) {
        mixt_group group = region == 0 ? MIXT_GROUP_ALL : MIXT_GROUP_DATA;
        int places = mixt_group_size(trainer->ranks, group);
        int own = mixt_group_place(trainer->ranks, group);
        const size_t *begin = slices->begin[region], *weights = slices->weights[region];
        double all = (double)(begin[places] - begin[0]),
               mine = (double)(begin[own + 1] - begin[own]);
        if (region == 1 && trainer->options.exact_reduce) { /* one run: passed on, then cut */
            step->slices[rank] += own + 1 < places ? all : places > 1 ? all - mine : 0;
        } else {
            step->slices[rank] += places == 1 ? 0 : all - mine;
        }
        step->spread[rank] += (places - 1) * (double)(weights[own + 1] - weights[own]);
    }
}

static void note_parts(const mixt_trainer *trainer, real_step *step, int rank)
{
    for (int i = 0; i < trainer->model->parameter_count; i++) {
        mixt_train_range own = mixt_train_own(trainer, i);
        size_t unit = mixt_train_unit(&trainer->model->parameters[i]), end;
        for (size_t at = own.begin; at < own.end; at = end) {
            end = at - at % unit + unit < own.end ? at - at % unit + unit : own.end;
            step->parts[rank] += (double)((end - at + MIXT_SQUARES_PART - 1) / MIXT_SQUARES_PART);
        }
    }
}

static mixt_status run_step(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    real_step *step = user;
    mixt_context *context;
    mixt_model *model;
    mixt_trainer *trainer = NULL;
    counter counted = {.inner = ranks->transport};
    counted.transport = *ranks->transport;
    counted.transport.user = &counted;
    counted.transport.start = count_start;
    counted.transport.wait = count_wait;
    counted.transport.abort = count_abort;
    counted.transport.close = count_close;
    const mixt_context_options options = {.threads = 1};
    MIXT_TRY(mixt_context_create(&options, &context, error));
    MIXT_TRY(mixt_ranks_arrange(ranks, step->data, step->expert, step->model.experts, error));
    MIXT_TRY(mixt_model_create_spread(&step->model, 1, ranks, &model, error));
    MIXT_TRY(mixt_trainer_make(context, model, &step->train, &trainer, error));
    for (int run = 0; run < trainer->runs; run++) {
        stage(trainer, &trainer->batches[run], rank);
    }
    mixt_step_sums sums = {.targets = trainer->rows * step->ranks};
    const mixt_transport *inner = ranks->transport;
    mixt_status status = mixt_trainer_gradients(trainer, &sums, error);
    ranks->transport = &counted.transport;
    status = status == MIXT_OK ? mixt_trainer_gradients(trainer, &sums, error) : status;
    step->gradient_bytes[rank] = counted.bytes;
    status = status == MIXT_OK ? mixt_optimizer_step(trainer, 1e-3, 1, error) : status;
    step->step_bytes[rank] = counted.bytes - step->gradient_bytes[rank];
    step->messages[rank] = counted.messages;
    ranks->transport = inner;
    for (int i = 0; i < trainer->graph->moe_layers && status == MIXT_OK; i++) {
        mixt_route route;
        mixt_instance_route(trainer->instance, &trainer->graph->routes[i], &route);
        for (int e = 0; e < step->model.experts; e++) {
            step->counts[rank][i][e] = route.offsets[e + 1] - route.offsets[e];
        }
    }
    note_slices(trainer, step, rank);
    note_parts(trainer, step, rank);
    mixt_trainer_free(trainer);
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

/* Rows of a layer that a rank sends to the others of its copy, and that it gets of them. */
static void real_rows(const real_step *step, int rank, int layer, int64_t *sent, int64_t *received)
{
    const mixt_split split = {step->expert, step->model.experts};
    int place = rank % step->expert, first = rank - place;
    *sent = mixt_split_rows_sent(&split, place, step->counts[rank][layer]);
    *received = 0;
    for (int other = 0; other < step->expert; other++) {
        const int64_t *counts = step->counts[first + other][layer];
        for (int e = place * split.experts / split.places, n = 0;
             n < mixt_split_held(&split, place) && other != place; n++) {
            *received += counts[e + n];
        }
    }
}

/* Every byte of a step: rows by the counts that routers made, counts before them, gradients and
 * weights by slices; and beside it what was predicted without running anything. */
static void check_step(real_step *step)
{
    mixt_ranks_paper p = paper(step->ranks, step->data, step->expert);
    mixt_ranks_cost cost = predict(&step->model, &step->train, &p);
    const mixt_split split = {step->expert, step->model.experts};
    double mean_rows = 0, mean_reduce = 0, mean_spread = 0, parts = 0, most_parts = 0;
    hub_run(step->ranks, run_step, step);
    for (int rank = 0; rank < step->ranks; rank++) {
        parts += step->parts[rank];
        most_parts = step->parts[rank] > most_parts ? step->parts[rank] : most_parts;
    }
    for (int rank = 0; rank < step->ranks; rank++) {
        int held = mixt_split_held(&split, rank % step->expert);
        int64_t width = step->model.hidden_size * 4, rows = 0;
        for (int layer = 0; layer < step->model.layers; layer++) {
            int64_t sent, received;
            real_rows(step, rank, layer, &sent, &received);
            /* out and back, forward and, once more, backward: the gradients of the same rows */
            rows +=
                2 * (sent + received) * width + (step->expert > 1 ? (split.experts - held) * 4 : 0);
        }
        /* without the rows with a target; of parts as many as the rank has that has most */
        double numbers =
            cost.numbers_bytes + (step->ranks - 1) * 8 * (most_parts - parts / step->ranks - 1);
        assert_int_equal(step->gradient_bytes[rank],
                         rows + (int64_t)(4 * step->slices[rank] + numbers + 0.5));
        assert_int_equal(step->step_bytes[rank], (int64_t)(4 * step->spread[rank]));
        assert_true((double)rows <= cost.exchange_worst_bytes);
        mean_rows += (double)rows / step->ranks;
        mean_reduce += 4 * step->slices[rank] / step->ranks;
        mean_spread += 4 * step->spread[rank] / step->ranks;
    }
    /* as many rows go out as come in, of all ranks together: an even load is right on average */
    assert_near(mean_reduce, cost.reduce_bytes);
    assert_near(mean_spread, cost.spread_bytes);
    /* none is empty, so that some may be missing; those of the rows with targets are not counted */
    double messages = cost.messages - (step->ranks - 1);
    assert_true((double)step->messages[step->expert - 1] <= messages);
    assert_true((double)step->messages[step->expert - 1] >= 0.75 * messages);
    print_message("%d x %d: rows %.0f bytes, %.0f predicted, at worst %.0f\n", step->data,
                  step->expert, mean_rows, cost.exchange_bytes, cost.exchange_worst_bytes);
}

static void test_bytes(void **state)
{
    static const struct {
        int ranks, data, expert;
        bool exact;
    } splits[] = {{2, 2, 1, false}, {2, 1, 2, false}, {4, 2, 2, false}, {4, 1, 4, false},
                  {3, 1, 3, false}, {8, 2, 4, false}, {2, 2, 1, true},  {2, 1, 2, true},
                  {4, 2, 2, true},  {8, 4, 2, true}};
    (void)state;
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        real_step step = {.model = shape(),
                          .train = training(splits[i].ranks),
                          .ranks = splits[i].ranks,
                          .data = splits[i].data,
                          .expert = splits[i].expert};
        step.train.exact_reduce = splits[i].exact;
        check_step(&step);
    }
}

/* What exact_reduce sends beyond the usual sums, of several runs: all ranks together. */
static void test_exact_bytes(void **state)
{
    static const int splits[][2] = {{2, 2}, {4, 2}, {2, 4}};
    (void)state;
    for (int i = 0; i < 9; i++) {
        double sent[2] = {0}, predicted[2];
        for (int exact = 0; exact < 2; exact++) {
            int data = splits[i / 3][0], expert = splits[i / 3][1], ranks = data * expert;
            real_step step = {.model = shape(),
                              .train = training((i % 3 + 1) * ranks),
                              .ranks = ranks,
                              .data = data,
                              .expert = expert};
            step.train.exact_reduce = exact;
            mixt_ranks_paper p = paper(ranks, data, expert);
            predicted[exact] = predict(&step.model, &step.train, &p).reduce_bytes;
            hub_run(ranks, run_step, &step);
            for (int rank = 0; rank < ranks; rank++) {
                sent[exact] += (double)step.gradient_bytes[rank] / ranks;
            }
        }
        assert_near(sent[1] - sent[0], predicted[1] - predicted[0]);
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
    p.imbalance = 0.5;
    assert_refused(&model, &train, &p, "imbalance");
    p = paper(4, 4, 1);
    train.window = 65;
    assert_refused(&model, &train, &p, "window 65");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),       cmocka_unit_test(test_alone),
        cmocka_unit_test(test_copies),      cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_delay),       cmocka_unit_test(test_imbalance),
        cmocka_unit_test(test_hidden),      cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_exact_bytes), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
