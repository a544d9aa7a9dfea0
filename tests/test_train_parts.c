/* Training a part of a model: what is left alone keeps its bits, has no gradient and no moments;
 * resumed, refused, and said. */
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
#include "train/trainer.h"
#include "train_setup.h"

static mixt_model_options model_options(void)
{
    mixt_model_options options = train_setup_model_options();
    options.layers = 3;
    options.leading_dense_layers = 1;
    options.shared_experts = 1;
    options.attention.qk_norm = MIXT_QK_NORM_HEAD;
    options.router.bias_rate = 0.01;
    options.router.score = MIXT_SCORE_SIGMOID;
    return options;
}

static void steps(mixt_trainer *trainer, int count)
{
    for (int i = 0; i < count; i++) {
        assert_true(train_setup_steps(trainer, 1).gradient_norm > 0);
    }
}

/* Quantile balancing moves selection biases where the router is trained, and only there. */
static void biases_are_of_the_router(void **state)
{
    (void)state;
    for (int router = 0; router < 2; router++) {
        train_setup setup;
        mixt_model_options options = model_options();
        options.router.bias_rate = 0;
        options.router.bias_update = MIXT_BIAS_QUANTILE;
        train_setup_open(&setup, 1, &options);
        setup.options.parts = router ? MIXT_PART_ROUTER : MIXT_PART_EXPERTS;
        mixt_trainer *trainer = train_setup_trainer(&setup);
        steps(trainer, 2);
        int index = mixt_model_find(setup.model, MIXT_SLOT_ROUTER_BIAS, 1), moved = 0;
        assert_true(index >= 0);
        for (int e = 0; e < 4; e++) {
            moved += mixt_model_block(
                         setup.model)[setup.model->parameters[index].offset + (size_t)e] != 0;
        }
        assert_int_equal(moved > 0, router);
        mixt_trainer_free(trainer);
        train_setup_close(&setup);
    }
}

static char *read_whole(const char *path)
{
    char *text = NULL;
    size_t length = 0;
    if (mixt_file_read(path, 1 << 20, &text, &length, NULL) != MIXT_OK) {
        fail_msg("%s cannot be read", path);
    }
    return text;
}

/* Every weight is of one part, and each part of this model has some. */
static void parts_are_whole(void **state)
{
    (void)state;
    mixt_model_options options = model_options();
    mixt_model *model = test_new_model(&options, 0);
    uint64_t sum = 0;
    int parts = 0;
    for (; mixt_train_part_name(parts) != NULL; parts++) {
        uint64_t count = mixt_model_learning(model, (int64_t)1 << parts);
        assert_true(count > 0);
        sum += count;
    }
    assert_int_equal((1 << parts) - 1, MIXT_PART_ALL);
    assert_int_equal(sum, mixt_model_learning(model, 0));
    mixt_model_info info;
    mixt_model_describe(model, &info);
    assert_int_equal(sum + 2 * 4, info.parameters_total); /* and two selection biases */
    mixt_model_free(model);
}

static void train_part(int part)
{
    train_setup setup;
    mixt_model_options options = model_options();
    train_setup_open(&setup, 2, &options);
    setup.options.parts = (int64_t)1 << part;
    mixt_model *model = setup.model;
    size_t bytes = model->weight_count * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, mixt_model_block(model), bytes);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    steps(trainer, 3);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    size_t learning = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        bool moved = memcmp(before + p->offset, mixt_model_block(model) + p->offset,
                            p->count * sizeof(float)) != 0;
        bool chosen = mixt_slot_part(p->slot) == setup.options.parts;
        if (moved != chosen) {
            fail_msg("%s: %s %s", mixt_train_part_name(part), p->name, moved ? "moved" : "stayed");
        }
        learning += chosen ? mixt_round_up(p->count, MIXT_ALIGNMENT / sizeof(float)) : 0;
        for (int block = 0; block < MIXT_TRAIN_BLOCKS; block++) {
            size_t place = mixt_train_place(trainer, (mixt_train_block)block, i);
            assert_true((place != MIXT_NOWHERE) == (chosen || block == MIXT_TRAIN_WEIGHTS));
        }
    }
    assert_true(learning > 0);
    assert_int_equal(mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS)->size,
                     learning * sizeof(float));
    assert_int_equal(mixt_train_memory(trainer, MIXT_TRAIN_FIRST_MOMENTS)->size,
                     learning * sizeof(float));
    mixt_trainer_free(trainer);
    free(before);
    train_setup_close(&setup);
}

static void what_is_left_keeps_its_bits(void **state)
{
    (void)state;
    for (int part = 0; mixt_train_part_name(part) != NULL; part++) {
        train_part(part);
    }
}

/* Muon keeps one moment of what it steps, and AdamW both of the rest; a checkpoint as well. */
static void muon_has_one_moment(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options options = model_options();
    train_setup_open(&setup, 1, &options);
    setup.options.optimizer = MIXT_OPTIMIZER_MUON;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    steps(trainer, 1);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    char path[250];
    snprintf(path, sizeof path, "%s/step-00000001/manifest.json", setup.run);
    char *manifest = read_whole(path);
    const int64_t hidden =
        MIXT_PART_ATTENTION | MIXT_PART_EXPERTS | MIXT_PART_SHARED | MIXT_PART_MLP;
    int muons = 0, others = 0;
    for (int i = 0; i < setup.model->parameter_count; i++) {
        const mixt_parameter *p = &setup.model->parameters[i];
        bool muon = (mixt_slot_part(p->slot) & hidden) != 0;
        assert_int_equal(mixt_train_uses_muon(trainer, p), muon);
        assert_true(mixt_train_place(trainer, MIXT_TRAIN_FIRST_MOMENTS, i) != MIXT_NOWHERE);
        assert_int_equal(mixt_train_place(trainer, MIXT_TRAIN_SECOND_MOMENTS, i) == MIXT_NOWHERE,
                         muon);
        for (int e = 0; e < (p->rank == 3 ? p->size[0] : 1); e++) {
            char name[128], first[160], second[160];
            mixt_parameter_expert_name(p, e, name);
            snprintf(first, sizeof first, "\"exp_avg.%s\"", name);
            snprintf(second, sizeof second, "\"exp_avg_sq.%s\"", name);
            assert_non_null(strstr(manifest, first));
            assert_int_equal(strstr(manifest, second) == NULL, muon);
        }
        muons += muon;
        others += !muon;
    }
    assert_true(muons == 4 * 3 + 3 + 2 * (3 + 3) && others > 10);
    free(manifest);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

/* Only matrices of Muon learn: the block of second moments is empty. */
static void muon_alone(void **state)
{
    (void)state;
    char hashes[2][65];
    for (int threads = 1; threads <= 2; threads++) {
        train_setup setup;
        train_setup_open(&setup, threads, NULL);
        setup.options.optimizer = MIXT_OPTIMIZER_MUON;
        setup.options.parts = MIXT_PART_EXPERTS;
        mixt_trainer *trainer = train_setup_trainer(&setup);
        steps(trainer, 3);
        strcpy(hashes[threads - 1], mixt_trainer_state_hash(trainer));
        mixt_trainer_free(trainer);
        train_setup_close(&setup);
    }
    assert_string_equal(hashes[0], hashes[1]);
}

/* Weights of the first step: under another rate of the embeddings these alone are others, and moved
 * by as much more. */
static void embeddings_have_a_rate(void **state)
{
    (void)state;
    const double rates[] = {0, 2e-3, 8e-3};
    for (int muon = 0; muon < 2; muon++) {
        float *weights[4];
        size_t count = 0, embeddings = 0;
        for (int i = 0; i < 4; i++) {
            train_setup setup;
            train_setup_open(&setup, 1, NULL);
            setup.options.optimizer = muon ? MIXT_OPTIMIZER_MUON : MIXT_OPTIMIZER_ADAMW;
            setup.options.learning_rate = 2e-3;
            setup.options.embedding_rate = i < 3 ? rates[i] : 0;
            mixt_trainer *trainer = train_setup_trainer(&setup);
            const mixt_parameter *p =
                &setup.model->parameters[mixt_model_find(setup.model, MIXT_SLOT_EMBED, -1)];
            assert_int_equal(p->offset, 0);
            count = setup.model->weight_count;
            embeddings = p->count;
            weights[i] = malloc(count * sizeof(float));
            assert_non_null(weights[i]);
            if (i < 3) {
                steps(trainer, 1);
            }
            memcpy(weights[i], mixt_model_block(setup.model), count * sizeof(float));
            mixt_trainer_free(trainer);
            train_setup_close(&setup);
        }
        assert_memory_equal(weights[0], weights[1], count * sizeof(float)); /* 0: the same rate */
        assert_memory_equal(weights[0] + embeddings, weights[2] + embeddings,
                            (count - embeddings) * sizeof(float));
        for (size_t i = 0; i < embeddings; i++) {
            double one = (double)weights[1][i] - weights[3][i];
            double four = (double)weights[2][i] - weights[3][i];
            assert_true(fabs(four - 4 * one) < 2e-6);
        }
        assert_memory_not_equal(weights[0], weights[3], embeddings * sizeof(float));
        for (int i = 0; i < 4; i++) {
            free(weights[i]);
        }
    }
}

static void open_with_parts(train_setup *setup, int threads, int64_t parts)
{
    mixt_model_options options = model_options();
    train_setup_open(setup, threads, &options);
    setup->options.parts = parts;
}

static void resume_part(int64_t parts)
{
    mixt_model_options options = model_options();
    train_setup_check_resume(open_with_parts, parts, &options, false);
}

static void a_resumed_part_is_the_same_part(void **state)
{
    (void)state;
    resume_part(MIXT_PART_ROUTER);
    resume_part(MIXT_PART_EXPERTS | MIXT_PART_NORMS);
}

/* What is made again for the backward half is what was there, whatever learns. */
static void recomputation_changes_nothing(void **state)
{
    (void)state;
    for (int part = 0; mixt_train_part_name(part) != NULL; part++) {
        char hashes[2][65];
        for (int recompute = 0; recompute < 2; recompute++) {
            train_setup setup;
            mixt_model_options options = model_options();
            train_setup_open(&setup, 1, &options);
            setup.options.parts = (int64_t)1 << part;
            setup.options.recompute = recompute != 0;
            mixt_trainer *trainer = train_setup_trainer(&setup);
            steps(trainer, 2);
            strcpy(hashes[recompute], mixt_trainer_state_hash(trainer));
            mixt_trainer_free(trainer);
            train_setup_close(&setup);
        }
        assert_string_equal(hashes[0], hashes[1]);
    }
}

/* By what asks before there are weights, too, if it is not the run that refuses. */
static void refused(train_setup *s, const char *part, bool by_run)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    assert_int_equal(mixt_trainer_create(s->context, s->model, s->data, s->tokenizer, &s->options,
                                         s->run, &trainer, &error),
                     MIXT_ERROR_ARGUMENT);
    if (strstr(error.message, part) == NULL || strchr(error.message, '\n') != NULL) {
        fail_msg("%s: no word of %s", error.message, part);
    }
    mixt_error early = MIXT_ERROR_INIT;
    mixt_status status = mixt_train_check(&s->model->options, &s->options, &early);
    assert_int_equal(status, by_run ? MIXT_OK : MIXT_ERROR_ARGUMENT);
    assert_string_equal(early.message, by_run ? "" : error.message);
}

static void other_parts_are_refused(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    setup.options.parts = MIXT_PART_SHARED | MIXT_PART_ROUTER;
    refused(&setup, "training: parts: the model has nothing of shared that learns", false);
    setup.options.parts = MIXT_PART_MLP;
    refused(&setup, "nothing of mlp", false);
    setup.options.parts = 256;
    refused(&setup, "training: parts 256 is not in 0..255", false);
    setup.options.parts = MIXT_PART_ALL;
    int window = setup.options.window;
    setup.options.window = setup.model->options.context_length + 1;
    refused(&setup, "is more than the model's context_length", false);
    setup.options.window = window;
    setup.options.parts = MIXT_PART_ROUTER | MIXT_PART_EXPERTS;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    steps(trainer, 1);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    mixt_trainer_free(trainer);
    setup.options.parts = MIXT_PART_ALL;
    refused(&setup,
            "parts was router,experts when this run began and is "
            "router,experts,shared,mlp,attention,embeddings,head,norms now",
            true);
    train_setup_close(&setup);
}

static void hash_of(const char *text, size_t length, char hash[MIXT_SHA256_HEX])
{
    mixt_sha256 sum;
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, text, length);
    mixt_sha256_final_hex(&sum, hash);
}

static void write_whole(const char *path, const mixt_buffer *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text->data, 1, text->length, file), text->length);
    assert_int_equal(fclose(file), 0);
}

/* Cuts state.json off at `from`, and mends the manifest: the row of state.json, and its seal. */
static void make_older(const char *folder, const char *from)
{
    char path[250], hash[MIXT_SHA256_HEX];
    mixt_buffer state = {0}, text = {0};
    snprintf(path, sizeof path, "%s/state.json", folder);
    char *old = read_whole(path);
    size_t kept = (size_t)(strstr(old, from) - old);
    assert_true(kept < strlen(old));
    mixt_buffer_format(&state, "%.*s\n  }\n}\n", (int)kept, old);
    write_whole(path, &state);
    hash_of(state.data, state.length, hash);
    free(old);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    old = read_whole(path);
    const char *row = strstr(old, "{\"name\": \"state.json\""), *next = strstr(row, ",\n{\"name\"");
    const char *seal = strstr(next, ",\n\"sha256\": \"");
    mixt_buffer_format(&text, "%.*s{\"name\": \"state.json\", \"bytes\": %zu, \"sha256\": \"%s\", ",
                       (int)(row - old), old, state.length, hash);
    mixt_buffer_format(&text, "\"tensors\": []}%.*s", (int)(seal - next), next);
    hash_of(text.data, text.length, hash);
    mixt_buffer_format(&text, ",\n\"sha256\": \"%s\"\n}\n", hash);
    write_whole(path, &text);
    free(old);
    mixt_buffer_free(&state);
    mixt_buffer_free(&text);
}

/* The state of a run that knew of no parts: all of them learned. */
static void an_older_run_goes_on(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    setup.options.parts = 0;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    steps(trainer, 1);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    mixt_trainer_free(trainer);
    char folder[200];
    snprintf(folder, sizeof folder, "%s/step-00000001", setup.run);
    make_older(folder, ",\n    \"parts\"");
    setup.options.parts = MIXT_PART_ROUTER;
    refused(&setup, "parts was router,experts,shared,mlp,", true);
    setup.options.parts = MIXT_PART_ALL;
    trainer = train_setup_trainer(&setup);
    assert_int_equal(trainer->counters.step, 1);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

/* The draws of all routers in a step, in the order of the trainer's. */
static float *draw_of(mixt_trainer *trainer, int64_t step, size_t count)
{
    float *draw = malloc(count * sizeof *draw);
    trainer->counters.step = step;
    mixt_redraw_begin(trainer);
    memcpy(draw, trainer->step_draw, count * sizeof *draw);
    mixt_redraw_end(trainer);
    return draw;
}

/* Routers that are drawn anew: another draw in each step and layer, the same whenever a step is
 * made again, and between the steps always the first. */
static void a_draw_is_of_its_step(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options options = train_setup_model_options();
    options.layers = 2;
    options.router.weights = MIXT_ROUTER_REDRAWN;
    size_t layer = (size_t)options.experts * (size_t)options.hidden_size, count = 2 * layer;
    train_setup_open(&setup, 1, &options);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    float *one = draw_of(trainer, 1, count), *two = draw_of(trainer, 2, count),
          *again = draw_of(trainer, 1, count);
    float *first = malloc(count * sizeof *first);
    memcpy(first, trainer->first_draw, count * sizeof *first);
    for (size_t i = 0; i < count; i++) {
        assert_true(one[i] != two[i] && one[i] != first[i] && one[i] != one[(i + layer) % count]);
    }
    assert_memory_equal(one, again, count * sizeof *one);
    trainer->counters.step = 0;
    train_setup_steps(trainer, 2);
    free(draw_of(trainer, 1, count)); /* reads what stands there after two steps */
    assert_memory_equal(trainer->first_draw, first, count * sizeof *first);
    free(one);
    free(two);
    free(again);
    free(first);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

/* In double, with the rest of the model frozen: what is left of the backward half is right. */
static void derivatives_of_a_part(void **state)
{
    (void)state;
    static const int64_t sets[] = {MIXT_PART_ROUTER,     MIXT_PART_EXPERTS,
                                   MIXT_PART_SHARED,     MIXT_PART_MLP,
                                   MIXT_PART_ATTENTION,  MIXT_PART_NORMS,
                                   MIXT_PART_EMBEDDINGS, MIXT_PART_HEAD | MIXT_PART_ROUTER};
    mixt_model_options options = test_small_options();
    options.layers = 3;
    options.leading_dense_layers = 1;
    options.shared_experts = 1;
    options.attention.qk_norm = MIXT_QK_NORM_HEAD;
    mixt_model *model = test_new_model(&options, 0.1);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char name[40];
        snprintf(name, sizeof name, "parts %lld", (long long)sets[i]);
        mixt_parameters_train(model, sets[i]);
        test_gradients(model, name);
    }
    mixt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_whole),
        cmocka_unit_test(what_is_left_keeps_its_bits),
        cmocka_unit_test(biases_are_of_the_router),
        cmocka_unit_test(muon_has_one_moment),
        cmocka_unit_test(muon_alone),
        cmocka_unit_test(embeddings_have_a_rate),
        cmocka_unit_test(a_resumed_part_is_the_same_part),
        cmocka_unit_test(recomputation_changes_nothing),
        cmocka_unit_test(other_parts_are_refused),
        cmocka_unit_test(an_older_run_goes_on),
        cmocka_unit_test(a_draw_is_of_its_step),
        cmocka_unit_test(derivatives_of_a_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
