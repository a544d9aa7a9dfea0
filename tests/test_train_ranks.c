/* Several ranks train one model: the losses of one rank, the same bits for the same ranks, and with
 * exact_reduce for any number of them. Ranks are threads, or the processes of mpirun (hub.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub.h"
#include "train/trainer.h"
#include "train_setup.h"

enum { STEPS = 20, MICRO_BATCHES = 8, MOST_RANKS = 8 };

/* What a rank saw. */
typedef struct rank_result {
    double losses[STEPS];
    mixt_step_report last;
    char hash[MIXT_SHA256_HEX];
    size_t moments; /* values */
} rank_result;

/* What ranks train. */
typedef struct group_run {
    const train_setup *setup;
    mixt_model_options model;
    mixt_train_options options;
    int data, expert; /* 0, 0: one rank without any */
    int steps;
    /* Before a step of a rank, NULL: nothing. */
    void (*before)(mixt_trainer *trainer, int rank, int64_t step);
    int number; /* of its folder: each start has one of its own */
    char refused[sizeof(mixt_error)];
    rank_result of[MOST_RANKS];
} group_run;

static mixt_status train_steps(mixt_trainer *trainer, group_run *run, int rank, mixt_error *error)
{
    for (int step = 0; step < run->steps; step++) {
        if (run->before != NULL) {
            run->before(trainer, rank, step);
        }
        MIXT_TRY(mixt_trainer_step(trainer, &run->of[rank].last, error));
        run->of[rank].losses[step % STEPS] = run->of[rank].last.loss;
    }
    const char *hash = mixt_trainer_state_hash(trainer);
    if (hash == NULL) {
        return mixt_ranks_barrier(trainer->ranks, MIXT_GROUP_ALL, error); /* says why */
    }
    snprintf(run->of[rank].hash, sizeof run->of[rank].hash, "%s", hash);
    run->of[rank].moments = trainer->blocks.values[MIXT_TRAIN_FIRST_MOMENTS] +
                            trainer->blocks.values[MIXT_TRAIN_SECOND_MOMENTS];
    return MIXT_OK;
}

static mixt_status train_model(mixt_context *context, mixt_model *model, group_run *run, int rank,
                               mixt_error *error)
{
    char folder[200];
    mixt_trainer *trainer = NULL;
    snprintf(folder, sizeof folder, "%s/run%d", run->setup->folder, run->number); /* shared */
    MIXT_TRY(mixt_trainer_create(context, model, run->setup->data, run->setup->tokenizer,
                                 &run->options, folder, &trainer, error));
    mixt_status status = train_steps(trainer, run, rank, error);
    mixt_trainer_free(trainer);
    return status;
}

static mixt_status run_rank(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    group_run *run = user;
    mixt_context_options options = {.threads = 1};
    mixt_context *context;
    mixt_model *model = NULL;
    MIXT_TRY(mixt_context_create(&options, &context, error));
    mixt_status status = MIXT_OK;
    if (ranks == NULL) {
        status = mixt_model_create(&run->model, 7, &model, error);
    } else {
        status = mixt_ranks_arrange(ranks, run->data, run->expert, run->model.experts, error);
        if (status == MIXT_OK) { /* rows in 1, 2, 3 chunks by E = 1, 2, 4, where experts suffice */
            int most = run->model.experts / run->expert, chunks = 1 + run->expert / 2;
            status = mixt_ranks_set_chunks(ranks, chunks < most ? chunks : most, error);
        }
        if (status == MIXT_OK) {
            status = mixt_model_create_spread(&run->model, 7, ranks, &model, error);
        }
    }
    if (status == MIXT_OK) {
        status = train_model(context, model, run, rank, error);
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

static void number(group_run *run)
{
    static int runs;
    run->number = ++runs;
}

static void train_together(group_run *run, int data, int expert)
{
    run->data = data;
    run->expert = expert;
    number(run);
    if (data == 0) {
        hub_alone(run_rank, run);
        hub_tell(&run->of[0], sizeof run->of[0]);
    } else {
        hub_run(data * expert, run_rank, run);
        hub_gather(run->of, sizeof run->of[0]);
    }
    for (int rank = 1; rank < data * expert; rank++) { /* all of them know the same */
        assert_memory_equal(run->of[rank].losses, run->of[0].losses, sizeof run->of[0].losses);
        assert_string_equal(run->of[rank].hash, run->of[0].hash);
        assert_true(run->of[rank].last.gradient_norm == run->of[0].last.gradient_norm);
    }
}

static void open_run(train_setup *setup, group_run *run)
{
    train_setup_open(setup, 1, NULL);
    memset(run, 0, sizeof *run);
    run->setup = setup;
    run->steps = STEPS;
    run->model = train_setup_model_options();
    run->options = train_setup_of_ranks(setup, MICRO_BATCHES);
}

/* ------------------------------------------------------------------------------------------ */
/* What is trained                                                                            */

static void plain(group_run *run)
{
    (void)run;
}

static void sigmoid_with_bias(group_run *run)
{
    run->model.router.score = MIXT_SCORE_SIGMOID;
    run->model.router.renormalise = true;
    run->model.router.bias_rate = 0.01;
}

static void expert_choice(group_run *run)
{
    run->model.router.select = 3;
    run->model.router.capacity = 1.5;
}

static void capacity(group_run *run)
{
    run->model.router.capacity = 1.0;
}

static void capacity_by_weight(group_run *run)
{
    run->model.router.capacity = 1.0;
    run->model.router.drop = MIXT_DROP_WEIGHT;
}

static void shared_and_tied(group_run *run)
{
    run->model.shared_experts = 1;
    run->model.tie_embeddings = true;
    run->model.leading_dense_layers = 1;
}

static void sinkhorn(group_run *run)
{
    run->model.router.select = 4;
}

static void balance_over_step(group_run *run)
{
    run->model.router.balance_scope = MIXT_BALANCE_OVER_STEP;
    run->model.router.balance_coefficient = 0.1;
}

static void balance_over_sequence(group_run *run)
{
    run->model.router.balance_scope = MIXT_BALANCE_OVER_SEQUENCE;
    run->model.router.balance_coefficient = 0.1;
}

static void skywork(group_run *run)
{
    run->model.router.balance = MIXT_BALANCE_SKYWORK;
    run->model.router.balance_coefficient = 0.1;
    run->model.router.adaptive_balance = true;
    run->model.router.capacity = 1.0;
}

static void quantile(group_run *run)
{
    run->model.router.score = MIXT_SCORE_SIGMOID;
    run->model.router.select_bias = true;
    run->model.router.bias_update = MIXT_BIAS_QUANTILE;
}

static void muon(group_run *run)
{
    run->options.optimizer = MIXT_OPTIMIZER_MUON;
}

static void latent_attention(group_run *run)
{
    run->model.kv_heads = run->model.heads;
    run->model.attention.latent_size = 16;
    run->model.attention.position_dim = 4;
}

static void dense(group_run *run)
{
    run->model.experts = 0;
    run->model.experts_per_token = 0;
}

static void weightless(group_run *run)
{
    run->model.identity_experts = 1;
    run->model.zero_experts = 1;
}

static void noisy_and_redrawn(group_run *run)
{
    run->model.router.jitter = 0.01;
    run->model.router.weights = MIXT_ROUTER_REDRAWN;
}

static void parts(group_run *run)
{
    run->options.parts = MIXT_PART_EXPERTS | MIXT_PART_NORMS | MIXT_PART_HEAD;
}

static void attention_alone(group_run *run)
{
    run->options.parts = MIXT_PART_ATTENTION;
}

static void recomputed(group_run *run)
{
    run->options.recompute = true;
    run->model.router.noise = MIXT_NOISE_TOP_K;
}

static void adapters(group_run *run)
{
    run->options.lora_rank = 2;
    run->options.optimizer = MIXT_OPTIMIZER_MUON;
}

static void adapters_and_norms(group_run *run)
{
    run->model.experts = 7;
    run->model.router.balance_groups = 0;
    run->model.router.capacity = 1.25;
    run->options.lora_rank = 3;
    run->options.lora_alpha = 8;
    run->options.lora_targets = MIXT_LORA_UP | MIXT_LORA_DOWN;
    run->options.parts = MIXT_PART_NORMS | MIXT_PART_ROUTER;
    run->options.evaluate_every = 7;
}

static void uneven(group_run *run)
{
    run->model.experts = 7;
    run->model.router.balance_groups = 0;
}

static void biases(group_run *run)
{
    run->model.expert_bias = true;
}

/* So that eight ranks have two each. */
static void more_micro_batches(group_run *run)
{
    run->options.accumulation = 2 * MICRO_BATCHES;
}

static void eight_experts(group_run *run)
{
    run->model.experts = 8;
}

static const struct {
    const char *name;
    void (*set)(group_run *run);
} cases[] = {{"top-k softmax", plain},
             {"sigmoid with a selection bias", sigmoid_with_bias},
             {"expert choice", expert_choice},
             {"capacity", capacity},
             {"capacity by weight", capacity_by_weight},
             {"shared and tied", shared_and_tied},
             {"sinkhorn", sinkhorn},
             {"balance over the step", balance_over_step},
             {"balance over sequences", balance_over_sequence},
             {"skywork", skywork},
             {"quantile balancing", quantile},
             {"muon", muon},
             {"latent attention", latent_attention},
             {"dense", dense},
             {"weightless experts", weightless},
             {"noisy and redrawn", noisy_and_redrawn},
             {"parts", parts},
             {"attention alone", attention_alone},
             {"recomputed", recomputed},
             {"adapters", adapters},
             {"adapters and norms", adapters_and_norms},
             {"seven experts", uneven},
             {"biases of experts", biases},
             {"two micro batches a rank", more_micro_batches},
             {"eight experts", eight_experts}};

enum { CASES = sizeof cases / sizeof *cases };

/* D and E. */
static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 2}, {4, 1}, {1, 4},
                                 {2, 2}, {8, 1}, {4, 2}, {2, 4}, {1, 8}};

enum { LAYOUTS = sizeof layouts / sizeof *layouts };

/* ------------------------------------------------------------------------------------------ */

static bool refuses_exact(const group_run *run)
{
    return run->options.exact_reduce && run->options.lora_rank > 0;
}

/* Over how many of eight ranks experts are spread: eight take long, so one of their layouts for
 * each case. */
static int expert_of_eight(const group_run *run, int number)
{
    bool whole = run->model.experts == 0 || refuses_exact(run);
    return run->model.experts == MOST_RANKS ? MOST_RANKS : whole ? 1 : 1 << number % 3;
}

/* Dense models have no experts that are spread, and exact_reduce no adapters of such. */
static bool has_layout(const group_run *run, int number, const int *layout)
{
    int ranks = layout[0] * layout[1];
    if (!hub_has(ranks) || (ranks == MOST_RANKS && layout[1] != expert_of_eight(run, number))) {
        return false;
    }
    return layout[1] == 1 || (run->model.experts > 0 && !refuses_exact(run));
}

static double difference(const double *a, const double *b, int count)
{
    double most = 0;
    for (int i = 0; i < count; i++) {
        most = fmax(most, fabs(a[i] - b[i]));
    }
    return most;
}

/* Nor are norms of gradients, where no choice fell the other way. */
static void check_norms(const group_run *one, const group_run *many, double apart, const char *name)
{
    double a = one->of[0].last.gradient_norm, b = many->of[0].last.gradient_norm;
    if (apart < 1e-6 && !(fabs(a - b) < 1e-4 * a)) {
        fail_msg("%s, %d x %d ranks: norms of gradients %g and %g", name, many->data, many->expert,
                 a, b);
    }
}

/* A case as one rank trains it, and the same for many. */
static void train_alone(int number, void (*change)(group_run *run), train_setup *setup,
                        group_run *one, group_run *many)
{
    open_run(setup, one);
    cases[number].set(one);
    change(one);
    *many = *one;
    train_together(one, 0, 0);
}

static void ranks_train_as_one_does(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        train_setup setup;
        static group_run one, many;
        train_alone(i, plain, &setup, &one, &many);
        double most = 0;
        for (int l = 0; l < LAYOUTS; l++) {
            char hash[MIXT_SHA256_HEX];
            int times = l % 3 == i % 3 ? 2 : 1;
            if (!has_layout(&many, i, layouts[l])) {
                continue;
            }
            for (int again = 0; again < times; again++) {
                train_together(&many, layouts[l][0], layouts[l][1]);
                double apart = difference(one.of[0].losses, many.of[0].losses, STEPS);
                most = fmax(most, apart);
                if (!(apart < 1e-3)) {
                    fail_msg("%s, %d x %d ranks: losses %g apart", cases[i].name, layouts[l][0],
                             layouts[l][1], apart);
                }
                check_norms(&one, &many, apart, cases[i].name);
                if (again) {
                    assert_string_equal(hash, many.of[0].hash);
                }
                strcpy(hash, many.of[0].hash);
            }
            if (layouts[l][0] * layouts[l][1] == 1) {
                assert_string_equal(one.of[0].hash, many.of[0].hash);
            }
        }
        printf("%s: losses at most %.2g apart\n", cases[i].name, most);
        train_setup_close(&setup);
    }
}

static void same_bits_on_any_ranks(void (*change)(group_run *run))
{
    for (int i = 0; i < CASES; i++) {
        train_setup setup;
        static group_run one, many;
        train_alone(i, change, &setup, &one, &many);
        for (int l = 0; l < LAYOUTS; l++) {
            if (!has_layout(&many, i, layouts[l])) {
                continue;
            }
            train_together(&many, layouts[l][0], layouts[l][1]);
            if (strcmp(one.of[0].hash, many.of[0].hash) != 0) {
                fail_msg("%s, %d x %d ranks: other bits than one", cases[i].name, layouts[l][0],
                         layouts[l][1]);
            }
            assert_memory_equal(one.of[0].losses, many.of[0].losses, sizeof one.of[0].losses);
        }
        train_setup_close(&setup);
    }
}

static void not_at_all(group_run *run)
{
    run->steps = 0;
}

/* Adapters too begin with the numbers that one rank has. */
static void ranks_begin_as_one_does(void **state)
{
    (void)state;
    same_bits_on_any_ranks(not_at_all);
}

static void exactly(group_run *run)
{
    run->options.exact_reduce = true;
}

static void exact_reduce_is_the_same_on_any_ranks(void **state)
{
    (void)state;
    same_bits_on_any_ranks(exactly);
}

/* Parameters that are cut inside, and matrices that are not. */
static void large(group_run *run)
{
    run->model.hidden_size = 128;
    run->model.head_dim = 32;
    run->model.ffn_size = 320;
    run->model.vocab_size = 1100;
    run->steps = 3;
}

static void moments_are_shared_out(void **state)
{
    (void)state;
    train_setup setup;
    static group_run one, many;
    for (int kind = 0; kind < 2; kind++) {
        open_run(&setup, &one);
        large(&one);
        one.options.optimizer = kind == 0 ? MIXT_OPTIMIZER_ADAMW : MIXT_OPTIMIZER_MUON;
        one.options.exact_reduce = true;
        many = one;
        train_together(&one, 0, 0);
        for (int l = 0; l < LAYOUTS; l++) {
            int ranks = layouts[l][0] * layouts[l][1];
            if (!has_layout(&many, 0, layouts[l])) {
                continue;
            }
            train_together(&many, layouts[l][0], layouts[l][1]);
            assert_string_equal(one.of[0].hash, many.of[0].hash);
            for (int rank = 0; rank < ranks; rank++) {
                double share = (double)many.of[rank].moments * ranks / (double)one.of[0].moments;
                assert_true(share <
                            (kind == 0 ? 1.1 : 1.6)); /* of values, Muon's have one moment */
            }
        }
        train_setup_close(&setup);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* What goes wrong                                                                            */

/* One rank's weights get a NaN in one step, and their value back behind it. */
static void poison(mixt_trainer *trainer, int rank, int64_t step)
{
    static float value;
    size_t place =
        trainer->model->parameters[mixt_model_find(trainer->model, MIXT_SLOT_Q, 0)].offset;
    if (rank != 1 || (step != 2 && step != 3)) {
        return;
    }
    if (step == 2) {
        mixt_device_memory_read(mixt_train_memory(trainer, MIXT_TRAIN_WEIGHTS),
                                place * sizeof value, &value, sizeof value);
    }
    train_setup_poke(trainer, place, step == 2 ? NAN : value);
}

/* Four ranks: copies of all experts, or each of them spread over two. */
enum { FOUR = 4 };

static void a_nan_on_one_rank_skips_the_step_on_all(void **state)
{
    (void)state;
    if (!hub_has(FOUR)) {
        skip();
    }
    train_setup setup;
    static group_run run;
    open_run(&setup, &run);
    run.steps = 5;
    run.before = poison;
    for (int kind = 0; kind < 4; kind++) {
        int expert = 1 + kind % 2;
        run.options.exact_reduce = kind >= 2;
        train_together(&run, FOUR / expert, expert);
        for (int rank = 0; rank < FOUR; rank++) {
            assert_int_equal(run.of[rank].last.skipped, 1);
            assert_int_equal(run.of[rank].last.step, 5);
            assert_false(run.of[rank].last.was_skipped);
        }
    }
    train_setup_close(&setup);
}

static void a_lost_rank_ends_the_others(void **state)
{
    (void)state;
    hub_only();
    train_setup setup;
    static group_run run;
    open_run(&setup, &run);
    for (int64_t message = 40; message < 800; message += 71) {
        mixt_error errors[FOUR];
        hub_options options = {.count = FOUR,
                               .kill_rank = (int)(message % FOUR),
                               .kill_message = message,
                               .timeout = 5,
                               .limit = 60};
        run.expert = 1 + (int)(message / FOUR % 2);
        run.data = FOUR / run.expert;
        run.options.exact_reduce = message / 71 % 2 == 0;
        number(&run);
        hub_run_with(&options, run_rank, &run, errors);
        for (int rank = 0; rank < FOUR; rank++) {
            assert_int_not_equal(errors[rank].status, MIXT_OK);
            assert_true(strlen(errors[rank].message) > 0);
        }
    }
    train_setup_close(&setup);
}

/* ------------------------------------------------------------------------------------------ */
/* Together                                                                                   */

static void late_and_early_messages_change_nothing(void **state)
{
    (void)state;
    hub_only();
    train_setup setup;
    static group_run run;
    open_run(&setup, &run);
    for (int kind = 0; kind < 4; kind++) {
        char hash[MIXT_SHA256_HEX];
        int expert = 1 + kind % 2;
        run.options.exact_reduce = kind >= 2;
        train_together(&run, FOUR / expert, expert);
        strcpy(hash, run.of[0].hash);
        for (uint64_t seed = 1; seed <= 2; seed++) {
            mixt_error errors[FOUR];
            hub_options options = {.count = FOUR, .seed = seed, .delay = 300};
            number(&run);
            hub_run_with(&options, run_rank, &run, errors);
            for (int rank = 0; rank < FOUR; rank++) {
                assert_int_equal(errors[rank].status, MIXT_OK);
                assert_string_equal(hash, run.of[rank].hash);
            }
        }
    }
    train_setup_close(&setup);
}

static void scores_are_those_of_one_rank(void **state)
{
    (void)state;
    train_setup setup;
    static group_run one, many;
    open_run(&setup, &one);
    one.options.exact_reduce = true;
    one.options.evaluate_every = 5;
    many = one;
    train_together(&one, 0, 0);
    for (int l = 0; l < LAYOUTS; l++) {
        if (!has_layout(&many, 0, layouts[l])) {
            continue;
        }
        train_together(&many, layouts[l][0], layouts[l][1]);
        for (int rank = 0; rank < layouts[l][0] * layouts[l][1]; rank++) {
            assert_true(many.of[rank].last.evaluated);
            assert_true(many.of[rank].last.heldout_loss == one.of[0].last.heldout_loss);
            assert_true(many.of[rank].last.train_loss == one.of[0].last.train_loss);
        }
    }
    train_setup_close(&setup);
}

/* Steps of all ranks until all of them are done, by rank 0's clock. */
static mixt_status run_for_a_while(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    group_run *run = user;
    mixt_context_options options = {.threads = 1};
    mixt_context *context;
    mixt_model *model;
    mixt_trainer *trainer = NULL;
    char folder[200];
    HUB_CHECK(mixt_context_create(&options, &context, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_arrange(ranks, 0, 1, run->model.experts, NULL) == MIXT_OK);
    HUB_CHECK(mixt_model_create_spread(&run->model, 7, ranks, &model, NULL) == MIXT_OK);
    snprintf(folder, sizeof folder, "%s/time", run->setup->folder); /* shared */
    mixt_status status =
        mixt_trainer_create(context, model, run->setup->data, run->setup->tokenizer, &run->options,
                            folder, &trainer, error);
    while (status == MIXT_OK && trainer->counters.seconds < 0.2) {
        status = mixt_trainer_step(trainer, &run->of[rank].last, error);
        run->of[rank].losses[0] = trainer->counters.seconds;
        run->of[rank].losses[1] = (double)trainer->counters.step;
        run->of[rank].losses[2] = run->of[rank].last.learning_rate;
    }
    mixt_trainer_free(trainer);
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

static void all_ranks_go_by_the_first_ones_clock(void **state)
{
    (void)state;
    train_setup setup;
    static group_run run;
    open_run(&setup, &run);
    run.options.seconds = 0.3;
    run.options.schedule = MIXT_SCHEDULE_COSINE;
    int ranks = hub_ranks(FOUR);
    hub_run(ranks, run_for_a_while, &run);
    hub_gather(run.of, sizeof run.of[0]);
    for (int rank = 1; rank < ranks; rank++) {
        assert_memory_equal(run.of[rank].losses, run.of[0].losses, sizeof run.of[0].losses);
    }
    assert_true(run.of[0].losses[0] >= 0.2);
    train_setup_close(&setup);
}

/* ------------------------------------------------------------------------------------------ */
/* What is refused                                                                            */

static mixt_status check_rank(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    group_run *run = user;
    mixt_model *model;
    mixt_error refused = MIXT_ERROR_INIT;
    (void)error;
    HUB_CHECK(mixt_ranks_arrange(ranks, run->data, run->expert, run->model.experts, NULL) ==
              MIXT_OK);
    HUB_CHECK(mixt_model_create_spread(&run->model, 7, ranks, &model, NULL) == MIXT_OK);
    HUB_CHECK(mixt_trainer_check(model, &run->options, &refused) != MIXT_OK);
    mixt_model_free(model);
    if (rank == 0) {
        memcpy(run->refused, refused.message, sizeof refused.message);
    }
    return MIXT_OK;
}

static void refuses(group_run *run, int data, int expert, const char *line)
{
    if (hub_has(data * expert)) {
        run->data = data;
        run->expert = expert;
        hub_run(data * expert, check_rank, run);
        hub_tell(run->refused, sizeof run->refused);
        assert_string_equal(run->refused, line);
    }
}

static void refusals_name_what_would_do(void **state)
{
    (void)state;
    train_setup setup;
    static group_run run;
    open_run(&setup, &run);
    run.options.accumulation = 1;
    run.options.batch_size = 8;
    refuses(&run, 4, 1,
            "training: accumulation 1 is not a multiple of the 4 ranks; accumulation 4 with "
            "batch_size 2 trains on as many tokens in a step");
    refuses(&run, 3, 1,
            "training: accumulation 1 is not a multiple of the 3 ranks; accumulation 3 with "
            "batch_size 8 trains on 24 windows in a step instead of 8");
    run.options.accumulation = 4;
    run.options.batch_size = 9;
    refuses(&run, 3, 1,
            "training: accumulation 4 is not a multiple of the 3 ranks; accumulation 6 with "
            "batch_size 6 trains on as many tokens in a step");
    run.options.lora_rank = 2;
    run.options.exact_reduce = true;
    refuses(&run, 2, 2,
            "training: exact_reduce: of adapters (lora_rank) whose experts are spread over 2 "
            "ranks, gradients hang on how many there are; data_parallel 4 does");
    train_setup_close(&setup);
}

static mixt_status run_other(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    group_run own = *(group_run *)user;
    own.options.seed += rank == 2;
    return run_rank(ranks, rank, &own, error);
}

static void ranks_with_other_options_are_refused(void **state)
{
    (void)state;
    hub_only();
    train_setup setup;
    static group_run run;
    mixt_error errors[FOUR];
    hub_options options = {.count = FOUR};
    open_run(&setup, &run);
    run.data = FOUR;
    run.expert = 1;
    number(&run);
    hub_run_with(&options, run_other, &run, errors);
    for (int rank = 0; rank < FOUR; rank++) {
        assert_int_equal(errors[rank].status, MIXT_ERROR_ARGUMENT);
        assert_string_equal(errors[rank].message, "training: rank 2 has other options than rank 0");
    }
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_train_as_one_does),
        cmocka_unit_test(ranks_begin_as_one_does),
        cmocka_unit_test(exact_reduce_is_the_same_on_any_ranks),
        cmocka_unit_test(moments_are_shared_out),
        cmocka_unit_test(a_nan_on_one_rank_skips_the_step_on_all),
        cmocka_unit_test(a_lost_rank_ends_the_others),
        cmocka_unit_test(late_and_early_messages_change_nothing),
        cmocka_unit_test(scores_are_those_of_one_rank),
        cmocka_unit_test(all_ranks_go_by_the_first_ones_clock),
        cmocka_unit_test(refusals_name_what_would_do),
        cmocka_unit_test(ranks_with_other_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
