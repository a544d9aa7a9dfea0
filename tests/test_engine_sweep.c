/* Steps of more rows than a plan has: how many rows they take, in which order layers and blocks
 * run, and what is left of one that fails on the way. That they give the same bits is in
 * test_engine.c. mixt_instance_run is wrapped when this program is linked (Makefile). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/arithmetic.h"
#include "infer/engine.h"
#include "model_checks.h"
#include "scratch.h"

#define BATCH 7
#define VOCABULARY 37

mixt_status __real_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error);
mixt_status __wrap_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error);

/* The runs since `run_count` was set to 0: rows and first record of each. */
static struct {
    int64_t rows;
    int from;
} runs[1000];
static int run_count, fail_at; /* the run that fails, from 1; 0: none */

mixt_status __wrap_mixt_instance_run(mixt_instance *instance, int64_t tokens, int from, int to,
                                     mixt_error *error)
{
    if (run_count < 1000) {
        runs[run_count].rows = tokens;
        runs[run_count].from = from;
    }
    return ++run_count == fail_at ? mixt_fail(error, MIXT_ERROR_IO, "run %d", fail_at)
                                  : __real_mixt_instance_run(instance, tokens, from, to, error);
}

static mixt_context *context;
static mixt_model *model; /* three layers, the experts of the first decide for all */

static int set_up(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    options.context_length = 256;
    options.layers = 3;
    options.router.scope = MIXT_SCOPE_GLOBAL;
    context = test_context(1, NULL);
    model = test_new_model(&options, 0.3);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mixt_model_free(model);
    mixt_context_free(context);
    return 0;
}

static mixt_engine *open_engine(int sequences, int step_tokens)
{
    mixt_engine *engine;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = sequences;
    options.batch_tokens = BATCH;
    options.step_tokens = step_tokens;
    must(mixt_engine_create(context, model, &options, &engine, &error), &error);
    return engine;
}

static void feed(mixt_sequence *sequence, int text, int count)
{
    mixt_error error = MIXT_ERROR_INIT;
    int32_t tokens[256];
    for (int i = 0; i < count; i++) {
        size_t position = mixt_sequence_length(sequence) + (size_t)i;
        tokens[i] = (int32_t)((position * 7 + (size_t)text * 5) % 31);
    }
    must(mixt_sequence_feed(sequence, tokens, (size_t)count, &error), &error);
}

static mixt_sequence *open_sequence(mixt_engine *engine, int text, int count)
{
    static const mixt_sequence_options routes = {.routes = true};
    mixt_sequence *sequence;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_sequence_create(engine, &routes, &sequence, &error), &error);
    feed(sequence, text, count);
    return sequence;
}

static void step(mixt_engine *engine)
{
    mixt_error error = MIXT_ERROR_INIT;
    run_count = 0;
    must(mixt_engine_step(engine, &error), &error);
}

static size_t rows_of(const mixt_sequence *sequence)
{
    mixt_sequence_rows rows;
    mixt_sequence_computed(sequence, &rows);
    return rows.count;
}

static void close_engine(mixt_engine *engine, mixt_sequence **sequences, int count)
{
    for (int i = 0; i < count; i++) {
        mixt_sequence_free(sequences[i]);
    }
    mixt_engine_free(engine);
}

/* Each layer over all blocks of a step, then the next; what is left is a batch as ever. */
static void layers_go_over_all_blocks(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(2, 3 * BATCH - 2);
    mixt_sequence *s = open_sequence(engine, 1, 24);
    const int *layers = engine->many.graph->layers;
    assert_true(layers[0] == 1 && layers[1] > layers[0] && layers[2] > layers[1]);
    const int blocks[] = {7, 7, 5};
    step(engine);
    assert_int_equal(rows_of(s), 19);
    assert_int_equal(run_count, 3 * 3);
    for (int i = 0; i < run_count; i++) {
        assert_int_equal(runs[i].rows, blocks[i % 3]);
        assert_int_equal(runs[i].from, i < 3 ? 0 : layers[i / 3]);
    }
    step(engine);
    assert_int_equal(rows_of(s), 5);
    assert_int_equal(run_count, 1);
    close_engine(engine, &s, 1);
}

/* Who generates waits for two batches, not for more; both come first. */
static void who_generates_waits_for_two_batches(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(3, 100);
    mixt_sequence *s[] = {open_sequence(engine, 1, 3), open_sequence(engine, 2, 90), NULL};
    step(engine); /* nobody generates: all of both */
    assert_int_equal(rows_of(s[0]) + rows_of(s[1]), 93);
    assert_int_equal(run_count, 3 * 14);
    s[2] = open_sequence(engine, 3, 200);
    for (int i = 0; i < 3; i++) {
        feed(s[0], 1, 1);
        feed(s[1], 2, 1);
        step(engine);
        assert_int_equal(rows_of(s[0]), 1);
        assert_int_equal(rows_of(s[1]), 1);
        assert_int_equal(rows_of(s[2]), 2 * BATCH - 2);
    }
    step(engine);
    assert_int_equal(rows_of(s[2]), 100);
    mixt_engine_statistics count;
    mixt_engine_describe(engine, &count);
    assert_int_equal(count.steps, 5);
    assert_int_equal(count.rows, 93 + 3 * 14 + 100);
    close_engine(engine, s, 3);
}

/* Wherever a step fails, nothing has become of it, and it gives the same when it is tried again. */
static void a_failed_step_leaves_nothing(void **state)
{
    (void)state;
    float expected[2][VOCABULARY];
    for (int at = 0; at <= 3 * 5; at++) {
        mixt_engine *engine = open_engine(2, 100);
        mixt_sequence *s[] = {open_sequence(engine, 1, 20), open_sequence(engine, 2, 15)};
        mixt_error error = MIXT_ERROR_INIT;
        run_count = 0;
        fail_at = at;
        if (at > 0) {
            assert_int_equal(mixt_engine_step(engine, &error), MIXT_ERROR_IO);
            assert_int_equal(run_count, at);
            for (int i = 0; i < 2; i++) {
                assert_int_equal(rows_of(s[i]), 0);
                assert_int_equal(mixt_sequence_state(s[i], NULL), MIXT_OK);
                assert_false(mixt_sequence_last_routes(s[i], NULL, NULL, NULL));
            }
            assert_int_equal(mixt_sequence_waiting(s[0]), 20);
            assert_int_equal(mixt_sequence_waiting(s[1]), 15);
        }
        fail_at = 0;
        step(engine);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(mixt_sequence_waiting(s[i]), 0);
            const float *logits = mixt_sequence_logits(s[i]);
            if (at == 0) {
                memcpy(expected[i], logits, sizeof expected[i]);
            }
            assert_memory_equal(logits, expected[i], sizeof expected[i]);
        }
        close_engine(engine, s, 2);
    }
}

/* A token whose row is not a number breaks its own sequence, in whichever block it stands. */
static void a_broken_row_is_found_in_its_block(void **state)
{
    (void)state;
    const int broken = 36; /* a token that feed() does not give */
    float *row =
        model->weights + model->parameters[mixt_model_find(model, MIXT_SLOT_EMBED, -1)].offset;
    row += (size_t)broken * (size_t)model->options.hidden_size;
    float kept = row[0];
    row[0] = NAN;
    mixt_engine *engine = open_engine(2, 100);
    mixt_sequence *s[] = {open_sequence(engine, 1, 12), open_sequence(engine, 2, 30)};
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_sequence_feed(s[0], (int32_t[]){broken, 2}, 2, &error), &error);
    step(engine);
    row[0] = kept;
    assert_int_equal(mixt_sequence_state(s[0], &error), MIXT_ERROR_NUMERIC);
    assert_string_equal(error.message,
                        "layer 0: the router's logits are not finite at position 12");
    assert_int_equal(rows_of(s[1]), 30);
    float expected[VOCABULARY];
    memcpy(expected, mixt_sequence_logits(s[1]), sizeof expected);
    mixt_sequence *alone = open_sequence(engine, 2, 30);
    step(engine);
    assert_memory_equal(expected, mixt_sequence_logits(alone), sizeof expected);
    mixt_sequence_free(alone);
    close_engine(engine, s, 2);
}

static void options_are_filled(void **state)
{
    (void)state;
    mixt_engine_options o = mixt_engine_options_default();
    mixt_error error = MIXT_ERROR_INIT;
    mixt_engine *engine;
    o.step_tokens = 65537;
    assert_int_equal(mixt_engine_create(context, model, &o, &engine, &error), MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "engine: number of rows of a step 65537 is not in 0..65536");
    static const struct {
        int step, batch, applied;
    } cases[] = {{0, 512, 512}, {100, 512, 512}, {1000, 64, 1000}, {9000, 64, 2 * 256}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o = (mixt_engine_options){
            .sequences = 2, .step_tokens = cases[i].step, .batch_tokens = cases[i].batch};
        must(mixt_engine_create(context, model, &o, &engine, &error), &error);
        mixt_engine_describe_options(engine, &o);
        assert_int_equal(o.step_tokens, mixt_least(cases[i].applied, 2 * 256));
        assert_null(engine->sweep.cuts);
        mixt_engine_free(engine);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Experts that are read from files                                                           */

enum { EXPERTS = 12, LAYERS = 4, PROMPT = 60 };

/* Logits behind a prompt of a stored model (memory 0: of a mapped one), and what the store counts
 * then. */
static void run_prompt(const char *path, uint64_t memory, int batch, int64_t step_tokens,
                       mixt_store_statistics *counts, float logits[VOCABULARY])
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *opened = must_open_model(path);
    const mixt_store_options options = {
        .memory = memory, .policy = "lru", .prefetch = MIXT_STORE_PREFETCH_NEVER, .always = true};
    if (memory > 0) {
        must(mixt_model_store(opened, &options, &error), &error);
    }
    mixt_engine *engine;
    const mixt_engine_options o = {
        .sequences = 1, .batch_tokens = batch, .step_tokens = step_tokens};
    must(mixt_engine_create(context, opened, &o, &engine, &error), &error);
    mixt_sequence *s = open_sequence(engine, 1, PROMPT);
    while (mixt_engine_waiting(engine) > 0) {
        step(engine);
    }
    memcpy(logits, mixt_sequence_logits(s), VOCABULARY * sizeof *logits);
    assert_true(mixt_store_describe(opened, counts) == (memory > 0));
    close_engine(engine, &s, 1);
    mixt_model_free(opened);
}

/* A pool of one layer's experts is enough for a prompt to read each of them once, if at all; and
 * where there is no memory to go layer by layer, it goes batch by batch. */
static void a_prompt_reads_each_expert_once(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options o = test_small_options();
    o.context_length = PROMPT;
    o.layers = LAYERS;
    o.experts = EXPERTS;
    o.hidden_size = 64;
    o.ffn_size = 96;
    mixt_model *made = test_new_model(&o, 0.3);
    scratch_make(state);
    char *path = scratch_path("model");
    must(mixt_model_save(made, path, &error), &error);
    mixt_model_free(made);
    mixt_store_statistics all, swept, batches, least;
    float expected[VOCABULARY], logits[VOCABULARY];
    run_prompt(path, 0, BATCH, BATCH, &all, expected);
    run_prompt(path, (uint64_t)1 << 30, BATCH, 0, &all,
               logits); /* 0: a stored model takes all of it */
    assert_memory_equal(logits, expected, sizeof logits);
    assert_true(all.steps == 1 && all.rows == PROMPT && all.slots == EXPERTS * LAYERS);
    uint64_t slot = all.pool_bytes / (uint64_t)all.slots;
    uint64_t memory = all.resident_bytes + all.other_bytes + EXPERTS * slot;
    run_prompt(path, memory, BATCH, 0, &swept, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    assert_true(swept.steps == 1 && swept.slots == EXPERTS);
    assert_int_equal(swept.bytes_read, all.bytes_read);
    run_prompt(path, memory, BATCH, BATCH, &batches, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    assert_int_equal(batches.steps, (PROMPT + BATCH - 1) / BATCH);
    assert_true(batches.bytes_read > 3 * swept.bytes_read);
    /* two blocks that want all experts, half of which are held: the second reads the other half */
    mixt_store_statistics half;
    run_prompt(path, (uint64_t)1 << 30, PROMPT / 2, 0, &all, logits);
    memory = all.resident_bytes + all.other_bytes + EXPERTS / 2 * slot;
    run_prompt(path, memory, PROMPT / 2, 0, &half, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    assert_true(half.slots == EXPERTS / 2 && all.requests == EXPERTS * LAYERS);
    assert_true(half.bytes_read <= all.bytes_read + LAYERS * (EXPERTS / 2) * slot);
    memory = batches.resident_bytes + batches.other_bytes + 2 * slot;
    run_prompt(path, memory, BATCH, 0, &least, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    assert_int_equal(least.steps, batches.steps);
    free(path);
    scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_go_over_all_blocks),
        cmocka_unit_test(who_generates_waits_for_two_batches),
        cmocka_unit_test(a_failed_step_leaves_nothing),
        cmocka_unit_test(a_broken_row_is_found_in_its_block),
        cmocka_unit_test(options_are_filled),
        cmocka_unit_test(a_prompt_reads_each_expert_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
