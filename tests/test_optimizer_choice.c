/* Which optimizer a run has that leaves it open: by cost when it begins, and then as it began. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "train/trainer.h"
#include "train_setup.h"

static mixt_train_options choose(const mixt_model_options *model, mixt_train_options options,
                                 double *share)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_train_options_choose(model, &options, share, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return options;
}

/* The default shape and a large one, which begins to have Muon where its steps have enough tokens.
 */
static void chosen_by_cost(void **state)
{
    (void)state;
    mixt_model_options model = mixt_model_options_default();
    mixt_train_options o = mixt_train_options_default(), got;
    double share, less;
    assert_int_equal(o.optimizer, MIXT_OPTIMIZER_AUTO);
    got = choose(&model, o, &share);
    assert_int_equal(got.optimizer, MIXT_OPTIMIZER_MUON);
    assert_int_equal(got.muon_steps, 3);
    assert_true(got.momentum == 0.9 && got.learning_rate == 0.004 && got.embedding_rate == 0.02 &&
                share > 0.3 && share < 0.7);
    o.accumulation = 4;
    choose(&model, o, &less);
    assert_true(fabs(4 * less - share) < 1e-12);
    o.accumulation = 1;
    o.batch_size = 1;
    got = choose(&model, o, &share);
    assert_int_equal(got.optimizer, MIXT_OPTIMIZER_ADAMW);
    assert_true(got.muon_steps == 0 && got.embedding_rate == 0 && share > 2);
    o = mixt_train_options_default();
    model.hidden_size = 1024;
    model.ffn_size = 2048;
    model.heads = 16;
    model.head_dim = 64;
    got = choose(&model, o, &share);
    assert_int_equal(got.optimizer, MIXT_OPTIMIZER_ADAMW);
    assert_true(share > 2);
    o.accumulation = 64;
    assert_int_equal(choose(&model, o, NULL).optimizer, MIXT_OPTIMIZER_MUON);
}

/* Multiply-adds counted by hand: of a dense model without attention to speak of. */
static void share_by_hand(void **state)
{
    (void)state;
    mixt_model_options model = mixt_model_options_default();
    mixt_train_options o = mixt_train_options_default();
    model.layers = 1;
    model.experts = 0;
    model.vocab_size = 16;
    model.hidden_size = 256;
    model.heads = model.kv_heads = 1;
    model.head_dim = 256;
    model.dense_ffn_size = 1024;
    model.context_length = o.window = 4;
    o.batch_size = 512;
    o.parts = MIXT_PART_MLP;
    double share, wide = 256 * 1024, gram = 256 * 256;
    double muon = 2 * 3 * 3 * (1.5 * 256 * wide + 0.5 * 256 * gram); /* symmetric: half */
    double forward = 3 * wide + 4 * gram + 16 * 256, backward = 2 * 3 * wide + 16 * 256;
    choose(&model, o, &share);
    double rest = 2 * 2048 * (forward + backward);
    assert_true(share > 0.9 * muon / rest && share < 1.1 * muon / rest);
}

static void what_is_said_stays(void **state)
{
    (void)state;
    mixt_model_options model = mixt_model_options_default();
    mixt_train_options o = mixt_train_options_default(), got;
    double share;
    o.muon_steps = 6;
    assert_int_equal(choose(&model, o, NULL).optimizer, MIXT_OPTIMIZER_ADAMW); /* costs more */
    o.muon_steps = 5;
    o.accumulation = 2;
    o.momentum = 0.8;
    o.embedding_rate = 0.004;
    got = choose(&model, o, NULL);
    assert_true(got.optimizer == MIXT_OPTIMIZER_MUON && got.muon_steps == 5 &&
                got.momentum == 0.8 && got.embedding_rate == 0.004);
    o.batch_size = 1;
    got = choose(&model, o, NULL);
    assert_true(got.optimizer == MIXT_OPTIMIZER_ADAMW && got.embedding_rate == 0.004);
    assert_true(got.muon_steps == 0 && got.momentum == 0);
    for (int kind = 0; kind < MIXT_OPTIMIZER_AUTO; kind++) {
        for (int batch = 1; batch <= 64; batch += 63) {
            o = mixt_train_options_default();
            o.optimizer = (mixt_optimizer_kind)kind;
            o.batch_size = batch;
            got = choose(&model, o, &share);
            assert_true(o.learning_rate < 0 && got.learning_rate == 0.002);
            o.learning_rate = 0.002;
            assert_memory_equal(&got, &o, sizeof o);
            assert_true(share == 0);
        }
    }
    o = mixt_train_options_default();
    o.parts = MIXT_PART_EMBEDDINGS | MIXT_PART_ROUTER | MIXT_PART_NORMS; /* none is Muon's */
    assert_int_equal(choose(&model, o, &share).optimizer, MIXT_OPTIMIZER_ADAMW);
    assert_true(share == 0);
    o.parts = MIXT_PART_ALL;
    o.batch_size = 64;
    o.lora_rank = 4;
    assert_int_equal(choose(&model, o, &share).optimizer, MIXT_OPTIMIZER_ADAMW);
    o.lora_rank = 0;
    o.window = 0;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_train_options_choose(&model, &o, &share, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "window"));
}

static void steps_and_hash(train_setup *setup, int count, mixt_optimizer_kind kind,
                           char hash[MIXT_SHA256_HEX])
{
    mixt_trainer *trainer = train_setup_trainer(setup);
    assert_int_equal(mixt_trainer_optimizer(trainer), kind);
    train_setup_steps(trainer, count);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    snprintf(hash, MIXT_SHA256_HEX, "%s", mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
}

/* A run that began with one optimizer, said or chosen, has it when it goes on and leaves it open,
 * also where the rule says the other one; what it comes to is what it would have come to. */
static void run_keeps_it(mixt_optimizer_kind first, int batch, mixt_optimizer_kind kind)
{
    train_setup setup;
    char whole[MIXT_SHA256_HEX], broken[MIXT_SHA256_HEX];
    for (int parts = 1; parts <= 2; parts++) {
        train_setup_open(&setup, 1, NULL);
        setup.options.batch_size = batch;
        setup.options.optimizer = first;
        setup.options.learning_rate = -1; /* left open, as the momentum is */
        steps_and_hash(&setup, 6 / parts, kind, parts == 1 ? whole : broken);
        if (parts == 2) {
            train_setup_new_model(&setup, NULL);
            setup.options.optimizer = MIXT_OPTIMIZER_AUTO;
            steps_and_hash(&setup, 3, kind, broken);
            setup.options.optimizer =
                kind == MIXT_OPTIMIZER_MUON ? MIXT_OPTIMIZER_ADAMW : MIXT_OPTIMIZER_MUON;
            mixt_trainer *trainer;
            assert_int_equal(mixt_trainer_create(setup.context, setup.model, setup.data,
                                                 setup.tokenizer, &setup.options, setup.run,
                                                 &trainer, NULL),
                             MIXT_ERROR_ARGUMENT);
        }
        train_setup_close(&setup);
    }
    assert_string_equal(whole, broken);
}

static void a_run_keeps_it(void **state)
{
    (void)state;
    run_keeps_it(MIXT_OPTIMIZER_AUTO, 8, MIXT_OPTIMIZER_MUON);
    run_keeps_it(MIXT_OPTIMIZER_AUTO, 1, MIXT_OPTIMIZER_ADAMW);
    run_keeps_it(MIXT_OPTIMIZER_ADAMW, 8, MIXT_OPTIMIZER_ADAMW); /* by cost it had been Muon */
    run_keeps_it(MIXT_OPTIMIZER_MUON, 1, MIXT_OPTIMIZER_MUON);   /* and here AdamW */
}

/* A checkpoint that cannot be read is no reason to begin again with another one. */
static void damage_is_said(void **state)
{
    (void)state;
    train_setup setup;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    char hash[MIXT_SHA256_HEX], path[300];
    train_setup_open(&setup, 1, NULL);
    setup.options.optimizer = MIXT_OPTIMIZER_AUTO;
    steps_and_hash(&setup, 1, MIXT_OPTIMIZER_MUON, hash);
    snprintf(path, sizeof path, "%s/step-00000001/state.json", setup.run);
    assert_int_equal(mixt_file_replace(path, "{}", 2, NULL), MIXT_OK);
    assert_int_equal(mixt_trainer_create(setup.context, setup.model, setup.data, setup.tokenizer,
                                         &setup.options, setup.run, &trainer, &error),
                     MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "none of 1 checkpoints verifies"));
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chosen_by_cost),     cmocka_unit_test(share_by_hand),
        cmocka_unit_test(what_is_said_stays), cmocka_unit_test(a_run_keeps_it),
        cmocka_unit_test(damage_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
