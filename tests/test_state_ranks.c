/* Checkpoints of ranks that train together: saved by some and resumed by others, the same state;
 * and what fails on one of them. Ranks are threads, or the processes of mpirun (hub.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/files.h"
#include "hub.h"
#include "train/trainer.h"
#include "train_setup.h"

enum { MICRO_BATCHES = 24, MOST_RANKS = 8 };

typedef struct layout {
    int data, expert; /* 0, 0: one rank without any */
} layout;

static const layout layouts[] = {{0, 0}, {2, 1}, {1, 2}, {1, 4}, {2, 2},
                                 {4, 1}, {2, 3}, {1, 3}, {8, 1}, {2, 4}};

#define LAYOUTS (sizeof layouts / sizeof *layouts)

/* Of a rank's state, when it starts and in the end. */
typedef struct hashes {
    char begins[MIXT_SHA256_HEX], ends[MIXT_SHA256_HEX];
} hashes;

/* What one start of a run does on all its ranks. */
typedef struct start {
    const train_setup *setup;
    mixt_model_options model;
    mixt_train_options options;
    layout layout;
    int steps;
    bool saves;
    const char *model_folder; /* NULL: the model is not saved */
    /* Before it saves, on each rank; NULL: nothing. */
    void (*before)(mixt_trainer *trainer, int rank);
    char folder[200];
    hashes of[MOST_RANKS];
} start;

static mixt_status work(mixt_trainer *trainer, start *s, int rank, mixt_error *error)
{
    mixt_step_report report;
    snprintf(s->of[rank].begins, MIXT_SHA256_HEX, "%s", mixt_trainer_state_hash(trainer));
    for (int i = 0; i < s->steps; i++) {
        MIXT_TRY(mixt_trainer_step(trainer, &report, error));
    }
    snprintf(s->of[rank].ends, MIXT_SHA256_HEX, "%s", mixt_trainer_state_hash(trainer));
    if (s->before != NULL) {
        s->before(trainer, rank);
    }
    return s->saves ? mixt_trainer_checkpoint(trainer, error) : MIXT_OK;
}

static mixt_status run_rank(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    start *s = user;
    mixt_context_options options = {.threads = 1};
    mixt_context *context;
    mixt_model *model = NULL;
    mixt_trainer *trainer = NULL;
    MIXT_TRY(mixt_context_create(&options, &context, error));
    mixt_status status = MIXT_OK;
    if (ranks == NULL) {
        status = mixt_model_create(&s->model, 7, &model, error);
    } else {
        status =
            mixt_ranks_arrange(ranks, s->layout.data, s->layout.expert, s->model.experts, error);
        if (status == MIXT_OK) {
            status = mixt_model_create_spread(&s->model, 7, ranks, &model, error);
        }
    }
    if (status == MIXT_OK) {
        status = mixt_trainer_create(context, model, s->setup->data, s->setup->tokenizer,
                                     &s->options, s->folder, &trainer, error);
    }
    if (status == MIXT_OK) {
        status = work(trainer, s, rank, error);
    }
    mixt_trainer_free(trainer);
    if (status == MIXT_OK && s->model_folder != NULL &&
        (rank == 0 || mixt_ranks_expert(ranks) > 1)) {
        status = mixt_model_save(model, s->model_folder, error);
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

static bool has_layout(layout l)
{
    return l.data == 0 || hub_has(l.data * l.expert);
}

static void run_start(start *s)
{
    int ranks = s->layout.data * s->layout.expert;
    if (ranks > 0) {
        hub_run(ranks, run_rank, s);
        hub_gather(s->of, sizeof s->of[0]);
    } else {
        hub_alone(run_rank, s);
        hub_tell(&s->of[0], sizeof s->of[0]);
    }
    for (int rank = 1; rank < ranks; rank++) {
        assert_string_equal(s->of[rank].begins, s->of[0].begins);
        assert_string_equal(s->of[rank].ends, s->of[0].ends);
    }
}

static void open_start(train_setup *setup, start *s)
{
    train_setup_open(setup, 1, NULL);
    memset(s, 0, sizeof *s);
    s->setup = setup;
    s->model = train_setup_model_options();
    s->options = train_setup_of_ranks(setup, MICRO_BATCHES);
    s->options.checkpoint_every = 0;
    s->saves = true;
    s->steps = 1;
    snprintf(s->folder, sizeof s->folder, "%s/run", setup->folder);
}

/* ------------------------------------------------------------------------------------------ */
/* Saved by some, resumed by others                                                           */

static void plain(start *s)
{
    (void)s;
}

/* No experts of a multiple of the ranks, rotated pairs, matrices that Muon steps whole. */
static void uneven_muon(start *s)
{
    s->model.experts = 7;
    s->model.shared_experts = 1;
    s->model.shared_ffn_size = 16;
    s->options.optimizer = MIXT_OPTIMIZER_MUON;
}

static void sigmoid_with_bias(start *s)
{
    s->model.router.score = MIXT_SCORE_SIGMOID;
    s->model.router.renormalise = true;
    s->model.router.bias_rate = 0.01;
    s->model.leading_dense_layers = 1;
    s->model.attention.qkv_bias = true;
}

static void tied_with_parts(start *s)
{
    s->model.tie_embeddings = true;
    s->options.parts = MIXT_PART_EXPERTS | MIXT_PART_ROUTER;
}

static void adapters(start *s)
{
    s->model.experts = 5;
    s->options.lora_rank = 2;
    s->options.parts = MIXT_PART_NORMS;
}

static void muons_adapters(start *s)
{
    s->options.lora_rank = 3;
    s->options.lora_targets = MIXT_LORA_DOWN;
    s->options.optimizer = MIXT_OPTIMIZER_MUON;
}

static void test_other_ranks_resume(void **state)
{
    (void)state;
    static void (*const kinds[])(start *) = {plain,           uneven_muon, sigmoid_with_bias,
                                             tied_with_parts, adapters,    muons_adapters};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        train_setup setup;
        start s;
        char saved[MIXT_SHA256_HEX] = "";
        open_start(&setup, &s);
        kinds[kind](&s);
        for (size_t i = 0; i < 2 * LAYOUTS; i++) { /* each behind two others */
            s.layout = layouts[i < LAYOUTS ? i : (i * 3) % LAYOUTS];
            if (!has_layout(s.layout)) {
                continue;
            }
            run_start(&s);
            if (i > 0) {
                assert_string_equal(s.of[0].begins, saved);
            }
            assert_string_not_equal(s.of[0].begins, s.of[0].ends);
            memcpy(saved, s.of[0].ends, sizeof saved);
        }
        train_setup_close(&setup);
    }
}

static char *read_file(const char *folder, const char *name, size_t *length)
{
    char path[300], *data = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (mixt_file_read(path, (size_t)1 << 26, &data, length, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return data;
}

enum { TURNS = 5 };

/* What 8 x 1, 2 x 1, 1 x 4, 4 x 1 and 1 x 2 ranks train in turns is what one trains, and saves. */
static void test_exact_runs_in_turns(void **state)
{
    (void)state;
    static const char *const files[] = {"model.safetensors", "config.json",
                                        "generation_config.json"};
    train_setup setup;
    start one, turns;
    char folders[2][160];
    open_start(&setup, &one);
    turns = one;
    one.options.exact_reduce = turns.options.exact_reduce = true;
    one.steps = 2 * TURNS;
    turns.steps = 2;
    snprintf(folders[0], sizeof folders[0], "%s/model-one", setup.folder);
    snprintf(folders[1], sizeof folders[1], "%s/model-turns", setup.folder);
    snprintf(turns.folder, sizeof turns.folder, "%s/turns", setup.folder);
    one.model_folder = folders[0];
    run_start(&one);
    static const layout order[TURNS] = {{8, 1}, {2, 1}, {1, 4}, {4, 1}, {1, 2}};
    for (int i = 0, turn = 0; i < TURNS * TURNS && turn < TURNS; i++) {
        turns.layout = order[i % TURNS];
        turns.model_folder = turn == TURNS - 1 ? folders[1] : NULL;
        if (has_layout(turns.layout)) {
            run_start(&turns);
            turn++;
        }
    }
    assert_string_equal(turns.of[0].ends, one.of[0].ends);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t lengths[2];
        char *a = read_file(folders[0], files[i], &lengths[0]);
        char *b = read_file(folders[1], files[i], &lengths[1]);
        assert_int_equal(lengths[0], lengths[1]);
        assert_memory_equal(a, b, lengths[0]);
        free(a);
        free(b);
    }
    train_setup_close(&setup);
}

/* The model's folder with adapters, of what all read from one checkpoint: the same files. */
static void test_adapters_are_saved_alike(void **state)
{
    (void)state;
    if (!hub_has(4)) { /* train it */
        skip();
    }
    static const char *const files[] = {"model.safetensors", "config.json",
                                        "adapter_model.safetensors", "adapter_config.json"};
    train_setup setup;
    start s;
    char folder[160];
    char *first[4] = {NULL};
    size_t lengths[4] = {0};
    open_start(&setup, &s);
    s.options.lora_rank = 3;
    s.layout = (layout){2, 2};
    s.steps = 3;
    run_start(&s);
    s.steps = 0;
    s.saves = false;
    s.model_folder = folder;
    for (size_t i = 0; i < LAYOUTS; i++) {
        s.layout = layouts[i];
        if (!has_layout(s.layout)) {
            continue;
        }
        snprintf(folder, sizeof folder, "%s/model-%zu", setup.folder, i);
        run_start(&s);
        for (size_t j = 0; j < sizeof files / sizeof *files; j++) {
            size_t length;
            char *data = read_file(folder, files[j], &length);
            if (first[j] == NULL) {
                first[j] = data;
                lengths[j] = length;
                continue;
            }
            assert_int_equal(length, lengths[j]);
            assert_memory_equal(data, first[j], length);
            free(data);
        }
    }
    for (size_t j = 0; j < sizeof files / sizeof *files; j++) {
        free(first[j]);
    }
    train_setup_close(&setup);
}

/* A file of the model's folder that rank 0 cannot write, before and behind others that it can: all
 * ranks end. */
static void test_a_folder_that_cannot_be_written(void **state)
{
    (void)state;
    static const char *const names[] = {"model.safetensors", "adapter_model.safetensors",
                                        "generation_config.json"};
    hub_only();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        train_setup setup;
        start s;
        char folder[160], path[300];
        mixt_error errors[MOST_RANKS];
        open_start(&setup, &s);
        snprintf(folder, sizeof folder, "%s/model", setup.folder);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(mkdir(folder, 0777), 0);
        assert_int_equal(mkdir(path, 0777), 0);
        snprintf(path, sizeof path, "%s/%s/full", folder, names[i]);
        assert_int_equal(mkdir(path, 0777), 0);
        s.options.lora_rank = 2;
        s.layout = (layout){1, 3};
        s.model_folder = folder;
        hub_run_with(&(hub_options){.count = 3, .timeout = 30}, run_rank, &s, errors);
        for (int rank = 0; rank < 3; rank++) {
            assert_int_not_equal(errors[rank].status, MIXT_OK);
            if (strstr(errors[rank].message, names[i]) == NULL) {
                fail_msg("rank %d: %s", rank, errors[rank].message);
            }
        }
        train_setup_close(&setup);
    }
}

/* A checkpoint of several ranks is a folder that opens as a model. */
static void test_opens_as_a_model(void **state)
{
    (void)state;
    if (!hub_has(4)) {
        skip();
    }
    for (int rank = 0; rank <= 2; rank += 2) { /* without adapters, and with */
        train_setup setup;
        start s;
        char path[300];
        mixt_model *model;
        mixt_error error = MIXT_ERROR_INIT;
        open_start(&setup, &s);
        s.options.lora_rank = rank;
        s.layout = (layout){1, 4};
        run_start(&s);
        snprintf(path, sizeof path, "%s/step-00000001", s.folder);
        free(read_file(path, "model.safetensors.index.json", &(size_t){0}));
        free(read_file(path, "model-00004-of-00004.safetensors", &(size_t){0}));
        if (mixt_model_open(path, &model, &error) != MIXT_OK ||
            mixt_model_verify(model, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(model->merged != NULL, rank > 0);
        mixt_model_free(model);
        train_setup_close(&setup);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* What fails                                                                                 */

static void break_weights(mixt_trainer *trainer, int rank)
{
    if (rank == 1) {
        train_setup_poke(trainer, 0, NAN);
    }
}

/* Its files cannot be written. */
static void break_folder(mixt_trainer *trainer, int rank)
{
    if (rank == 1) {
        free(trainer->folder);
        trainer->folder = strdup("/not/there");
    }
}

static void test_one_rank_fails(void **state)
{
    (void)state;
    hub_only();
    static const struct {
        void (*before)(mixt_trainer *trainer, int rank);
        const char *line;
    } cases[] = {{break_weights, "rank 1: "}, {break_folder, "rank 1: /not/there/step-"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        train_setup setup;
        start s;
        char path[300], saved[MIXT_SHA256_HEX];
        open_start(&setup, &s);
        s.layout = (layout){1, 3};
        run_start(&s);
        memcpy(saved, s.of[0].ends, sizeof saved);
        s.before = cases[i].before;
        mixt_error errors[MOST_RANKS];
        hub_run_with(&(hub_options){.count = 3}, run_rank, &s, errors);
        for (int rank = 0; rank < 3; rank++) {
            assert_int_not_equal(errors[rank].status, MIXT_OK);
            if (rank != 1 &&
                strncmp(errors[rank].message, cases[i].line, strlen(cases[i].line)) != 0) {
                fail_msg("rank %d: %s", rank, errors[rank].message);
            }
        }
        snprintf(path, sizeof path, "%s/step-00000002.tmp", s.folder);
        assert_false(mixt_path_exists(path));
        s.before = NULL;
        s.layout = (layout){2, 1};
        run_start(&s);
        assert_string_equal(s.of[0].begins, saved);
        train_setup_close(&setup);
    }
}

/* A rank that ends in the midst of a save, whichever message it is: the others end, and what was
 * saved before is there. */
static void test_ranks_die_while_saving(void **state)
{
    (void)state;
    hub_only();
    train_setup setup;
    start s;
    char saved[MIXT_SHA256_HEX];
    open_start(&setup, &s);
    s.layout = (layout){1, 2};
    run_start(&s);
    memcpy(saved, s.of[0].ends, sizeof saved);
    for (int64_t message = 1; message < 400; message += 23) {
        mixt_error errors[2];
        int killed = (int)(message % 2);
        s.steps = 0; /* so that there is nothing to save anew, but a start */
        s.before = NULL;
        s.saves = false;
        hub_run_with(
            &(hub_options){.count = 2, .kill_rank = killed, .kill_message = message, .timeout = 10},
            run_rank, &s, errors);
        s.steps = 1;
        s.saves = true;
        hub_run_with(
            &(hub_options){
                .count = 2, .kill_rank = killed, .kill_message = 200 + message, .timeout = 10},
            run_rank, &s, errors);
        s.steps = 0;
        s.saves = false;
        run_start(&s);
        assert_true(strlen(s.of[0].begins) == MIXT_SHA256_HEX - 1);
        if (strcmp(s.of[0].begins, saved) != 0) { /* the save had ended already */
            memcpy(saved, s.of[0].begins, sizeof saved);
        }
    }
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_ranks_resume),
        cmocka_unit_test(test_exact_runs_in_turns),
        cmocka_unit_test(test_adapters_are_saved_alike),
        cmocka_unit_test(test_a_folder_that_cannot_be_written),
        cmocka_unit_test(test_opens_as_a_model),
        cmocka_unit_test(test_one_rank_fails),
        cmocka_unit_test(test_ranks_die_while_saving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
