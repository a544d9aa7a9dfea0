/* Checkpoints and resume: bit-exact in one process and through SIGKILL, locks, refusals.
 *
 *   test_resume --kills COUNT [SEED]   kills a training process COUNT times at random moments
 *   test_resume --worker FOLDER        that process: trains until it is killed, saying on stdout
 *                                      what it resumed and what it saved */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "train/trainer.h"
#include "train_setup.h"

static const char *program; /* argv[0] */

/* Hash after 12 steps without a break. */
static void reference_hash(const mixt_model_options *model, const mixt_train_options *options,
                           char hash[65])
{
    train_setup setup;
    train_setup_open(&setup, 1, model);
    setup.options = *options;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    train_setup_steps(trainer, 12);
    strcpy(hash, mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

static int lines_of(const train_setup *setup, const char *name, int64_t *last)
{
    char path[200], *text;
    size_t length;
    int lines = 0;
    snprintf(path, sizeof path, "%s/%s", setup->run, name);
    assert_int_equal(mixt_file_read(path, 1 << 20, &text, &length, NULL), MIXT_OK);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        long long step = 0;
        assert_int_equal(sscanf(line, "{\"step\":%lld", &step), 1);
        assert_int_equal(step, ++lines);
        *last = step;
    }
    free(text);
    return lines;
}

/* Lines of the log, one a step; that of the load has as many, as in all short runs. */
static int log_lines(const train_setup *setup, int64_t *last)
{
    int lines = lines_of(setup, "log.jsonl", last);
    assert_int_equal(lines_of(setup, "load.jsonl", last), lines);
    return lines;
}

/* Another context: threads and CPU tier do not change a bit, so a resumed run may have others. */
static void change_context(train_setup *setup, int threads, const char *cpu)
{
    mixt_context_options options = {.threads = threads, .cpu = cpu};
    mixt_context_free(setup->context);
    assert_int_equal(mixt_context_create(&options, &setup->context, NULL), MIXT_OK);
}

static void resume_case(const mixt_model_options *model, const mixt_train_options *options)
{
    char expected[65], at_five[65];
    reference_hash(model, options, expected);
    train_setup setup;
    train_setup_open(&setup, 1, model);
    setup.options = *options;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    assert_null(mixt_trainer_resumed(trainer));
    train_setup_steps(trainer, 5);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trainer_checkpoint(trainer, &error), MIXT_OK);
    strcpy(at_five, mixt_trainer_state_hash(trainer));
    train_setup_steps(trainer, 2); /* lost: they are not in a checkpoint */
    mixt_trainer_free(trainer);
    train_setup_new_model(&setup, model);
    change_context(&setup, 2, "scalar");
    trainer = train_setup_trainer(&setup);
    assert_non_null(mixt_trainer_resumed(trainer));
    assert_non_null(strstr(mixt_trainer_resumed(trainer), "step 5"));
    assert_string_equal(mixt_trainer_state_hash(trainer), at_five);
    int64_t last = 0;
    assert_int_equal(log_lines(&setup, &last), 5); /* the lost steps left the log */
    train_setup_steps(trainer, 7);
    assert_string_equal(mixt_trainer_state_hash(trainer), expected);
    assert_true(mixt_trainer_done(trainer)); /* and saved by itself at the end */
    mixt_trainer_free(trainer);
    assert_int_equal(log_lines(&setup, &last), 12);
    train_setup_new_model(&setup, model);
    trainer = train_setup_trainer(&setup);
    assert_string_equal(mixt_trainer_state_hash(trainer), expected);
    assert_true(mixt_trainer_done(trainer));
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

static mixt_train_options standard_options(void)
{
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_train_options options = setup.options;
    train_setup_close(&setup);
    return options;
}

static void a_resumed_run_is_the_same_run(void **state)
{
    (void)state;
    mixt_train_options options = standard_options();
    resume_case(NULL, &options);
    mixt_model_options by_hash = train_setup_model_options();
    by_hash.router.select = 1;
    resume_case(&by_hash, &options);
    for (int i = 0; i < 4; i++) { /* all, experts that choose, Sinkhorn, noise */
        mixt_model_options other = train_setup_model_options();
        other.router.select = i < 3 ? 2 + i : 0;
        other.router.noise = i < 3 ? MIXT_NOISE_NONE : MIXT_NOISE_TOP_K;
        other.experts_per_token = i == 0 ? other.experts : other.experts_per_token;
        resume_case(&other, &options);
    }
    mixt_model_options drawn = train_setup_model_options(); /* all random numbers of a step */
    drawn.router.weights = MIXT_ROUTER_REDRAWN;
    drawn.router.jitter = 0.05;
    drawn.router.capacity = 1;
    resume_case(&drawn, &options);
    options.optimizer = MIXT_OPTIMIZER_MUON;
    options.muon_steps = 3;
    options.embedding_rate = 0.01;
    resume_case(NULL, &options);
    options.optimizer = MIXT_OPTIMIZER_ADAMW;
    options.muon_steps = 0; /* as 5 */
    options.schedule = MIXT_SCHEDULE_WSD;
    options.batch_size = 4;
    options.accumulation = 2; /* 96 windows in 12 steps: into another epoch */
    options.recompute = true;
    mixt_model_options model = train_setup_model_options();
    model.router.bias_rate = 0.001;
    model.router.weights = MIXT_ROUTER_FROZEN;
    model.tie_embeddings = true;
    resume_case(&model, &options);
    drawn.router.unit = MIXT_UNIT_SEGMENT;
    drawn.router.segment = 3;
    drawn.router.scope = MIXT_SCOPE_GLOBAL;
    resume_case(&drawn, &options);
}

/* What balances over steps of several micro batches: counts, coefficients, quantiles. */
static void balance_is_resumed(void **state)
{
    (void)state;
    mixt_train_options options = standard_options();
    options.accumulation = 3;
    for (int i = 0; i < 3; i++) {
        mixt_model_options model = train_setup_model_options();
        mixt_router_options *r = &model.router;
        r->balance_coefficient = 0.01;
        r->balance_scope = i == 0 ? MIXT_BALANCE_OVER_STEP : MIXT_BALANCE_OVER_SEQUENCE;
        r->balance = i == 1 ? MIXT_BALANCE_SKYWORK : MIXT_BALANCE_SWITCH;
        r->adaptive_balance = i == 1;
        r->capacity = i == 1 ? 1.25 : 0;
        r->bias_update = i == 2 ? MIXT_BIAS_QUANTILE : MIXT_BIAS_SIGN;
        r->balance_groups = i == 0 ? 2 : 0;
        r->device_balance_coefficient = i == 0 ? 0.05 : 0;
        resume_case(&model, &options);
    }
}

/* Epoch borders: more windows are used than the data have. */
static void the_place_in_the_data_survives(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    setup.options.batch_size = 8;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    int64_t per_step = 8;
    train_setup_steps(trainer, 11);
    uint64_t seen = 11 * (uint64_t)per_step;
    assert_true(seen > trainer->order.windows);
    assert_int_equal(trainer->counters.epoch, seen / trainer->order.windows);
    assert_int_equal(trainer->counters.index, seen % trainer->order.windows);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    mixt_counters before = trainer->counters;
    mixt_trainer_free(trainer);
    trainer = train_setup_trainer(&setup);
    assert_memory_equal(&before, &trainer->counters, sizeof before);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

static void skips_are_counted_across_a_resume(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    mixt_model *model = setup.model;
    size_t place = model->parameters[mixt_model_find(model, MIXT_SLOT_Q, 0)].offset;
    float good = mixt_model_block(model)[place];
    train_setup_poke(trainer, place, NAN);
    train_setup_steps(trainer, 1);
    train_setup_poke(trainer, place, good);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    mixt_trainer_free(trainer);
    trainer = train_setup_trainer(&setup);
    mixt_step_report report;
    assert_int_equal(mixt_trainer_step(trainer, &report, NULL), MIXT_OK);
    assert_int_equal(report.step, 2);
    assert_int_equal(report.skipped, 1);
    assert_int_equal(trainer->counters.updates, 1);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

static void a_second_trainer_is_refused(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_trainer *first = train_setup_trainer(&setup), *second;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trainer_create(setup.context, setup.model, setup.data, setup.tokenizer,
                                         &setup.options, setup.run, &second, &error),
                     MIXT_ERROR_BUSY);
    assert_null(second);
    mixt_trainer_free(first);
    second = train_setup_trainer(&setup);
    mixt_trainer_free(second);
    train_setup_close(&setup);
}

static void refused(train_setup *s, const char *word)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    assert_int_equal(mixt_trainer_create(s->context, s->model, s->data, s->tokenizer, &s->options,
                                         s->run, &trainer, &error),
                     MIXT_ERROR_ARGUMENT);
    if (strstr(error.message, word) == NULL || strchr(error.message, '\n') != NULL) {
        fail_msg("%s: no word of %s", error.message, word);
    }
}

static void other_options_are_refused_by_name(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    train_setup_steps(trainer, 1);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    mixt_trainer_free(trainer);
    mixt_train_options good = setup.options;
    setup.options.batch_size = 3;
    refused(&setup, "batch_size was 2 when this run began and is 3 now");
    setup.options = good;
    setup.options.seed = 99;
    refused(&setup, "seed");
    setup.options = good;
    setup.options.window = 16;
    refused(&setup, "window");
    setup.options = good;
    setup.options.learning_rate = 0.25;
    refused(&setup, "learning_rate");
    setup.options = good;
    setup.options.optimizer = MIXT_OPTIMIZER_MUON;
    refused(&setup, "optimizer was adamw when this run began and is muon now");
    setup.options = good;
    setup.options.momentum = 0.9;
    refused(&setup, "momentum was 0.95 when this run began and is 0.9 now");
    setup.options = good;
    setup.options.muon_steps = 3;
    refused(&setup, "muon_steps was 5 when this run began and is 3 now");
    setup.options = good;
    setup.options.embedding_rate = 0.01;
    refused(&setup, "embedding_rate was 0 when this run began and is 0.01 now");
    setup.options = good;
    mixt_model_options model = train_setup_model_options();
    model.ffn_size = 32;
    train_setup_new_model(&setup, &model);
    refused(&setup, "intermediate_size was 16 when this run began and is 32 now");
    model = train_setup_model_options();
    model.router.balance_coefficient = 0.02;
    train_setup_new_model(&setup, &model);
    refused(&setup, "router_aux_loss_coef was 0.3");
    model = train_setup_model_options();
    model.router.select = 1;
    train_setup_new_model(&setup, &model);
    refused(&setup, "router.select was top-k when this run began and is hash now");
    train_setup_new_model(&setup, NULL);
    mixt_data *data = setup.data;
    setup.data = train_setup_data(setup.folder, setup.tokenizer, 1);
    refused(&setup, "the data's hash");
    mixt_data_free(setup.data);
    setup.data = data;
    /* What does not change the result may change. */
    setup.options.log_every = 5;
    setup.options.steps = 20;
    setup.options.recompute = true;
    setup.options.checkpoint_every = 3;
    trainer = train_setup_trainer(&setup);
    assert_int_equal(trainer->counters.step, 1);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

static void a_broken_checkpoint_is_passed_over(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    setup.options.checkpoint_every = 2;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    char at_two[65], path[200];
    train_setup_steps(trainer, 2);
    strcpy(at_two, mixt_trainer_state_hash(trainer));
    train_setup_steps(trainer, 2);
    mixt_trainer_free(trainer);
    snprintf(path, sizeof path, "%s/step-00000004/optimizer.safetensors", setup.run);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -20, SEEK_END), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -20, SEEK_END), 0);
    fputc(byte ^ 4, file);
    assert_int_equal(fclose(file), 0);
    train_setup_new_model(&setup, NULL);
    trainer = train_setup_trainer(&setup);
    assert_string_equal(mixt_trainer_state_hash(trainer), at_two);
    assert_non_null(strstr(mixt_trainer_resumed(trainer), "passed over"));
    assert_non_null(strstr(mixt_trainer_resumed(trainer), "step-00000004"));
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

/* A checkpoint is a Hugging Face folder with a tokenizer. */
static void a_checkpoint_opens_as_a_model(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    train_setup_steps(trainer, 2);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    char path[200];
    snprintf(path, sizeof path, "%s/step-00000002", setup.run);
    mixt_model *model;
    mixt_tokenizer *tokenizer = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_open(path, &model, &error) != MIXT_OK ||
        mixt_model_load(model, &error) != MIXT_OK ||
        mixt_tokenizer_open(path, &tokenizer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_memory_equal(mixt_model_block(model), mixt_model_block(setup.model),
                        setup.model->weight_count * sizeof(float));
    assert_string_equal(mixt_tokenizer_hash(tokenizer), mixt_tokenizer_hash(setup.tokenizer));
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

/* ------------------------------------------------------------------------------------------ */
/* SIGKILL                                                                                    */

#define ENDLESS 100000000 /* steps of the run that is killed: the schedule needs an end */

/* The router's way of choosing, for workers too; -1: top-k, and adapters learn. */
static const char *kill_select = "0";

static void endless_options(train_setup *setup)
{
    setup->options.steps = ENDLESS;
    setup->options.batch_size = 1;
    setup->options.window = 16;
    setup->options.checkpoint_every = 1;
    setup->options.lora_rank = atoi(kill_select) < 0 ? 2 : 0;
}

static mixt_model_options tiny_model(void)
{
    mixt_model_options options = train_setup_model_options();
    options.layers = 1;
    options.hidden_size = 16;
    options.heads = 2;
    options.kv_heads = 1;
    options.router.select = atoi(kill_select) < 0 ? 0 : atoi(kill_select);
    return options;
}

static int worker(const char *folder)
{
    mixt_model_options model = tiny_model();
    train_setup setup;
    train_setup_open(&setup, 1, &model);
    /* The corpus is in memory now; this process will not live to remove it. */
    mixt_folder_remove(setup.folder, NULL);
    snprintf(setup.run, sizeof setup.run, "%s", folder);
    endless_options(&setup);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    if (mixt_trainer_create(setup.context, setup.model, setup.data, setup.tokenizer, &setup.options,
                            setup.run, &trainer, &error) != MIXT_OK) {
        printf("E %s\n", error.message);
        fflush(stdout);
        return 1;
    }
    printf("R %lld %s\n", (long long)trainer->counters.step, mixt_trainer_state_hash(trainer));
    fflush(stdout);
    for (;;) {
        mixt_step_report report;
        if (mixt_trainer_step(trainer, &report, &error) != MIXT_OK) {
            printf("E %s\n", error.message);
            fflush(stdout);
            return 1;
        }
        printf("S %lld\n", (long long)report.step);
        fflush(stdout);
    }
}

typedef struct kill_run {
    train_setup setup; /* of the run that is never killed */
    mixt_trainer *never;
    char folder[160];            /* of the one that is */
    double open_time, step_time; /* of a worker, as seen so far */
    int64_t saved;               /* the newest step that the killed run said it had saved */
    int64_t resumed;             /* where it last resumed */
    int lost, exact, different, failed, unopened, in_save;
} kill_run;

/* When to kill: `share` of what opening takes, or of three steps behind the opening. */
typedef struct kill_time {
    bool opening;
    double share;
} kill_time;

/* One line of a worker. */
static void heard(kill_run *run, const char *line)
{
    long long step;
    char hash[65];
    if (sscanf(line, "R %lld %64s", &step, hash) == 2) {
        run->lost += step < run->saved;
        while (run->never->counters.step < step) {
            train_setup_steps(run->never, 1);
        }
        bool exact = run->never->counters.step == step &&
                     strcmp(mixt_trainer_state_hash(run->never), hash) == 0;
        run->exact += exact;
        run->different += !exact;
        run->resumed = step;
    } else if (sscanf(line, "S %lld", &step) == 1) {
        run->saved = step;
    } else {
        fprintf(stderr, "%s\n", line);
        run->failed++;
    }
}

static pid_t start_worker(const kill_run *run, FILE **said)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* nobody waits for it longer */
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        setenv("TMPDIR", run->setup.folder, 1); /* what it leaves behind is removed with ours */
        execl(program, program, "--worker", run->folder, kill_select, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *said = fdopen(ends[0], "r");
    assert_non_null(*said);
    return child;
}

static void sleep_for(double seconds)
{
    struct timespec rest = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&rest, NULL);
}

static bool was_saving(const kill_run *run)
{
    char **names;
    size_t count;
    bool found = false;
    if (mixt_folder_list(run->folder, &names, &count, NULL) == MIXT_OK) {
        for (size_t i = 0; i < count; i++) {
            found = found || strstr(names[i], ".tmp") != NULL;
        }
        mixt_names_free(names, count);
    }
    return found;
}

/* Starts a worker, kills it, and holds what it said against the run that was never killed. The
 * pipe takes all it says: a worker makes no more than a few steps. */
static void one_kill(kill_run *run, kill_time when)
{
    FILE *said;
    char line[600];
    double begin = mixt_train_time();
    pid_t child = start_worker(run, &said);
    bool opened = false;
    if (when.opening) {
        sleep_for(when.share * run->open_time);
    } else if (fgets(line, sizeof line, said) != NULL) {
        opened = true;
        run->open_time = 0.7 * run->open_time + 0.3 * (mixt_train_time() - begin);
        begin = mixt_train_time();
        sleep_for(when.share * 3 * run->step_time);
    }
    kill(child, SIGKILL);
    double lived = mixt_train_time() - begin;
    waitpid(child, NULL, 0);
    bool saving = was_saving(run);
    int made = 0;
    if (opened) {
        line[strcspn(line, "\n")] = '\0';
        heard(run, line);
    }
    while (fgets(line, sizeof line, said) != NULL && strchr(line, '\n') != NULL) {
        line[strcspn(line, "\n")] = '\0';
        made += line[0] == 'S';
        opened = true;
        heard(run, line);
    }
    fclose(said);
    run->unopened += !opened;
    run->in_save += opened && saving; /* opening removes what an earlier one left */
    if (!when.opening) {              /* at least a part of a step was made */
        run->step_time = 0.9 * run->step_time + 0.1 * lived / (made + 0.5);
    }
}

static void kill_many(kill_run *run, int count, uint64_t seed)
{
    mixt_model_options model = tiny_model();
    memset(run, 0, sizeof *run);
    train_setup_open(&run->setup, 1, &model);
    endless_options(&run->setup);
    run->setup.options.checkpoint_every = 0;
    snprintf(run->folder, sizeof run->folder, "%s/killed", run->setup.folder);
    run->never = train_setup_trainer(&run->setup);
    run->open_time = run->step_time = 0.02;
    mixt_random_key key = {seed, MIXT_RANDOM_DATA, 1};
    for (int i = 0; i < count; i++) {
        uint64_t draw = 2 * (uint64_t)i;
        one_kill(run, (kill_time){.opening = mixt_random_below(&key, draw, 5) == 0,
                                  .share = mixt_random_uniform(&key, draw + 1)});
    }
    one_kill(run, (kill_time){.share = 0}); /* looks at what the last kill left behind */
    mixt_trainer_free(run->never);
    train_setup_close(&run->setup);
}

static void kills_lose_nothing(void **state)
{
    (void)state;
    kill_run run;
    kill_many(&run, 20, 1);
    assert_int_equal(run.lost, 0);
    assert_int_equal(run.different, 0);
    assert_int_equal(run.failed, 0);
    assert_true(run.exact > 10);
    assert_true(run.in_save > 0);
}

static int kill_program(int count, uint64_t seed)
{
    kill_run run;
    double begin = mixt_train_time();
    kill_many(&run, count, seed);
    printf("%d kills in %.0f s: %d inside a save, %d while the run was being opened\n", count + 1,
           mixt_train_time() - begin, run.in_save, run.unopened);
    printf("%d resumes compared, the last at step %lld; lost: %d, bit-exact: %d, different: %d, "
           "failed: %d\n",
           run.exact + run.different, (long long)run.resumed, run.lost, run.exact, run.different,
           run.failed);
    int bad = run.lost + run.different + run.failed;
    printf("%d passed, %d failed\n", run.exact, bad);
    return bad == 0 && run.exact > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc == 4 && strcmp(argv[1], "--worker") == 0) {
        kill_select = argv[3];
        return worker(argv[2]);
    }
    if (argc >= 3 && strcmp(argv[1], "--kills") == 0) {
        kill_select = argc > 4 ? argv[4] : kill_select;
        return kill_program(atoi(argv[2]), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_is_the_same_run),
        cmocka_unit_test(balance_is_resumed),
        cmocka_unit_test(the_place_in_the_data_survives),
        cmocka_unit_test(skips_are_counted_across_a_resume),
        cmocka_unit_test(a_second_trainer_is_refused),
        cmocka_unit_test(other_options_are_refused_by_name),
        cmocka_unit_test(a_broken_checkpoint_is_passed_over),
        cmocka_unit_test(a_checkpoint_opens_as_a_model),
        cmocka_unit_test(kills_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
