/* What holds for every model: derivatives, and the same logits in all phases. */
#ifndef MIXT_TESTS_MODEL_CHECKS_H
#define MIXT_TESTS_MODEL_CHECKS_H

#include "backend/context.h"
#include "model_runner.h"

#define TEST_WINDOW 12
#define TEST_ROWS 2

typedef struct test_rows {
    int32_t tokens[TEST_ROWS * TEST_WINDOW], targets[TEST_ROWS * TEST_WINDOW];
    int32_t positions[TEST_ROWS * TEST_WINDOW];
} test_rows;

/* Random ids and targets; with documents, positions that begin again every five tokens. */
test_batch test_random_batch(test_rows *rows, int vocab_size, bool documents);
mixt_context *test_context(int threads, const char *cpu);
mixt_model_options test_small_options(void);
/* The same with a shared expert and rows of whole blocks of Q8_0: 4 layers of 12 experts, 3 of them
 * a token's. */
mixt_model_options test_block_options(int vocabulary, int tokens);
/* A new model; norms and biases, which begin at 1 and 0, moved by `noise` times a normal. */
mixt_model *test_new_model(const mixt_model_options *options, double noise);
/* Every parameter's derivative in double against central differences at a few of its weights. */
void test_gradients(mixt_model *model, const char *what);
/* Logits of every position: as training computes them (scoring, where training has noise or experts
 * that see later tokens), from one prompt, and token by token, no further apart than `tolerance`.
 */
void test_phases(mixt_model *model, double tolerance);

#endif
