/* Speed of training steps over ranks, of random tokens, without files:
 *
 *   ranks_step CONFIG.json DATA EXPERT RUNS [STEPS [exact|usual [THREADS [CHUNKS]]]]
 *
 * Started by a launcher as DATA x EXPERT ranks, or alone as 1 x 1; THREADS (1) a rank. A step has
 * RUNS micro batches of 4 windows on each rank. Rank 0 prints the step's tokens a second, the
 * median of STEPS steps behind three, as JSON. CHUNKS 0 (as it is without): as many as are worth
 * it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/random.h"
#include "train/trainer.h"

enum { WINDOWS = 4, WARM = 3 };

static void stage(mixt_trainer *trainer, int run)
{
    mixt_batch *batch = &trainer->batches[run];
    int64_t window = trainer->options.window;
    mixt_random_key key = {1, MIXT_RANDOM_DATA, (uint32_t)mixt_train_micro(trainer, run)};
    batch->rows = trainer->rows;
    for (int64_t row = 0; row < batch->rows; row++) {
        uint64_t vocabulary = (uint64_t)trainer->model->options.vocab_size;
        batch->tokens[row] = (int32_t)mixt_random_below(&key, (uint64_t)row, vocabulary);
        batch->targets[row] = batch->tokens[row];
    }
    for (int64_t row = 0; row < batch->rows; row += window) {
        mixt_batch_sequence(batch, row, window);
    }
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* seconds[steps]. */
static mixt_status run_steps(mixt_trainer *trainer, int steps, double *seconds, mixt_error *error)
{
    mixt_step_sums sums = {.targets = trainer->rows * trainer->options.accumulation};
    for (int run = 0; run < trainer->runs; run++) {
        stage(trainer, run);
    }
    for (int step = -WARM; step < steps; step++) {
        double begin = mixt_train_time();
        mixt_step_sums of = sums;
        MIXT_TRY(mixt_trainer_gradients(trainer, &of, error));
        MIXT_TRY(mixt_optimizer_step(trainer, 1e-5, 1, error));
        if (step >= 0) {
            seconds[step] = mixt_train_time() - begin;
        }
    }
    qsort(seconds, (size_t)steps, sizeof *seconds, compare);
    return MIXT_OK;
}

typedef struct asked {
    const char *config;
    int data, expert, runs, steps, threads, chunks;
    bool exact;
} asked;

static mixt_status measure(const asked *a, mixt_ranks *ranks, mixt_error *error)
{
    mixt_model_options shape;
    mixt_train_options options = mixt_train_options_default();
    const mixt_context_options machine = {.threads = a->threads};
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_trainer *trainer = NULL;
    double *seconds = calloc((size_t)a->steps, sizeof *seconds);
    MIXT_TRY(mixt_model_options_read(a->config, &shape, error));
    MIXT_TRY(mixt_ranks_arrange(ranks, a->data, a->expert, shape.experts, error));
    MIXT_TRY(mixt_ranks_set_chunks(ranks, a->chunks, error));
    options.batch_size = WINDOWS;
    options.window = shape.context_length;
    options.accumulation = a->runs * a->data * a->expert;
    options.exact_reduce = a->exact;
    options.optimizer = MIXT_OPTIMIZER_ADAMW;
    mixt_status status = mixt_context_create(&machine, &context, error);
    if (status == MIXT_OK) {
        status = mixt_ranks_count(ranks) > 1
                     ? mixt_model_create_spread(&shape, 1, ranks, &model, error)
                     : mixt_model_create(&shape, 1, &model, error);
    }
    status =
        status == MIXT_OK ? mixt_trainer_make(context, model, &options, &trainer, error) : status;
    status = status == MIXT_OK ? run_steps(trainer, a->steps, seconds, error) : status;
    if (status == MIXT_OK && mixt_ranks_rank(ranks) == 0) {
        char text[100];
        mixt_format(text, sizeof text, "{\"tokens_per_second\": %.6g}",
                    (double)(trainer->rows * options.accumulation) / seconds[a->steps / 2]);
        puts(text);
    }
    mixt_trainer_free(trainer);
    mixt_model_free(model);
    mixt_context_free(context);
    free(seconds);
    return status;
}

static int number(char **argv, int argc, int at, int otherwise)
{
    return argc > at ? (int)mixt_number_read(argv[at], NULL) : otherwise;
}

int main(int argc, char **argv)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks_options options = mixt_ranks_options_default();
    mixt_ranks *ranks;
    const asked a = {.config = argc > 1 ? argv[1] : "",
                     .data = number(argv, argc, 2, 1),
                     .expert = number(argv, argc, 3, 1),
                     .runs = number(argv, argc, 4, 4),
                     .steps = number(argv, argc, 5, 9),
                     .exact = argc > 6 && strcmp(argv[6], "exact") == 0,
                     .threads = number(argv, argc, 7, 1),
                     .chunks = number(argv, argc, 8, 0)};
    if (argc < 5 || a.runs < 1 || a.steps < 1) {
        fputs("ranks_step CONFIG.json DATA EXPERT RUNS [STEPS [exact|usual [THREADS [CHUNKS]]]]\n",
              stderr);
        return 2;
    }
    mixt_status status = mixt_ranks_open(&options, &ranks, &error);
    status = status == MIXT_OK ? measure(&a, ranks, &error) : status;
    if (status != MIXT_OK) {
        fprintf(stderr, "ranks_step: %s\n", error.message);
    }
    mixt_ranks_close(ranks, status == MIXT_OK ? NULL : error.message);
    return status != MIXT_OK;
}
