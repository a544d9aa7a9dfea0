/* Every family against an implementation that we did not write: the tiny random models below
 * tests/fixtures/families (its README.md names the implementation of each), as Hugging Face folders
 * and as GGUF files, and each converted into the other. All logits of 24 tokens, fed one by one,
 * all at once, in two parts, and again behind a cache that was cut back. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "formats/safetensors.h"
#include "model/model.h"

#define FOLDER "tests/fixtures/families/"
#define TOLERANCE 1e-4 /* on logits up to 10; beyond, of the largest one's tenth */
#define NAME_MAX_LENGTH 128
#define FIXTURES_LEAST 30 /* folders and GGUF files */
#define COUNT(list) (sizeof(list) / sizeof *(list))

typedef struct expected {
    int32_t *tokens; /* [count] */
    float *logits;   /* [count, vocab_size] */
    size_t count, vocab_size;
    double bound;
} expected;

static void fail_with(const char *what, const mixt_error *error)
{
    fail_msg("%s: %s", what, error->message);
}

/* expected.safetensors of the folder that `fixture` names up to its first full stop, so that
 * NAME.gguf and NAME.VARIANT.gguf share the values of NAME. */
static void expected_read(const char *fixture, expected *values)
{
    char path[NAME_MAX_LENGTH * 2];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors *file;
    snprintf(path, sizeof path, FOLDER "%.*s/expected.safetensors", (int)strcspn(fixture, "."),
             fixture);
    if (mixt_safetensors_open(path, &file, &error) != MIXT_OK) {
        fail_with(fixture, &error);
    }
    const mixt_tensor_info *tokens = mixt_safetensors_find(file, "tokens");
    const mixt_tensor_info *logits = mixt_safetensors_find(file, "logits");
    assert_true(tokens != NULL && tokens->rank == 1 && logits != NULL && logits->rank == 2);
    values->count = (size_t)logits->shape[0];
    values->vocab_size = (size_t)logits->shape[1];
    assert_int_equal(tokens->shape[0], logits->shape[0]);
    values->tokens = malloc(values->count * sizeof *values->tokens);
    values->logits = malloc(values->count * values->vocab_size * sizeof *values->logits);
    mixt_status status = mixt_safetensors_read(
        file, tokens, 0, values->count * sizeof *values->tokens, values->tokens, &error);
    if (status == MIXT_OK) {
        status = mixt_safetensors_read_f32(file, logits, 0, values->count * values->vocab_size,
                                           values->logits, &error);
    }
    if (status != MIXT_OK) {
        fail_with(fixture, &error);
    }
    double largest = 10;
    for (size_t i = 0; i < values->count * values->vocab_size; i++) {
        largest = fmax(largest, fabs(values->logits[i]));
    }
    values->bound = TOLERANCE * largest / 10;
    mixt_safetensors_close(file);
}

static void expected_free(expected *values)
{
    free(values->tokens);
    free(values->logits);
}

static void feed(const char *fixture, mixt_session *session, const int32_t *tokens, size_t count)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_session_feed(session, tokens, count, &error) != MIXT_OK) {
        fail_with(fixture, &error);
    }
}

/* Logits behind token `row`; returns the largest difference. */
static double check_row(const char *fixture, const char *how, const mixt_session *session,
                        const expected *values, size_t row)
{
    const float *own = mixt_session_logits(session);
    const float *theirs = values->logits + row * values->vocab_size;
    double worst = 0;
    for (size_t i = 0; i < values->vocab_size; i++) {
        double difference = fabs((double)own[i] - theirs[i]);
        if (!(difference <= values->bound)) {
            fail_msg("%s, %s: logit %zu behind token %zu is %g, expected %g", fixture, how, i, row,
                     (double)own[i], (double)theirs[i]);
        }
        worst = fmax(worst, difference);
    }
    return worst;
}

static void check_logits(const char *fixture, const char *form, mixt_context *device,
                         const mixt_model *model)
{
    expected values;
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_info info;
    expected_read(fixture, &values);
    mixt_model_describe(model, &info);
    assert_int_equal(info.options.vocab_size, values.vocab_size);
    if (mixt_session_create(device, model, (int)values.count, &session, &error) != MIXT_OK) {
        fail_with(fixture, &error);
    }
    size_t count = values.count, half = count / 2;
    double worst = 0;
    for (size_t t = 0; t < count; t++) {
        feed(fixture, session, values.tokens + t, 1);
        worst = fmax(worst, check_row(fixture, "token by token", session, &values, t));
    }
    /* cut back: a cache that rolls or keeps more than keys and values must find its state again */
    mixt_session_truncate(session, half);
    feed(fixture, session, values.tokens + half, count - half);
    worst = fmax(worst, check_row(fixture, "after a cut", session, &values, count - 1));
    mixt_session_truncate(session, 0);
    feed(fixture, session, values.tokens, count);
    worst = fmax(worst, check_row(fixture, "all at once", session, &values, count - 1));
    mixt_session_truncate(session, 0);
    for (size_t t = 0; t < count; t += 5) { /* pieces that end at no window's border */
        size_t piece = count - t < 5 ? count - t : 5;
        feed(fixture, session, values.tokens + t, piece);
        worst = fmax(worst, check_row(fixture, "in pieces", session, &values, t + piece - 1));
    }
    print_message("%s%s: largest difference %.1e\n", fixture, form, worst);
    mixt_session_free(session);
    expected_free(&values);
}

static mixt_model *open_model(const char *path)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_open(path, &model, &error) != MIXT_OK) {
        fail_with(path, &error);
    }
    return model;
}

/* products with blocks of few bits round activations to 8 bits: here the same blocks as fp32 */
static void load_blocks(const char *fixture, mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (strstr(fixture, "mxfp4") != NULL && mixt_model_load(model, &error) != MIXT_OK) {
        fail_with(fixture, &error);
    }
}

/* The fixture, and what it becomes in the other form. */
static void check_fixture(const char *fixture, mixt_context *device)
{
    char path[NAME_MAX_LENGTH * 2], folder[] = "/tmp/mixt-families-XXXXXX";
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, FOLDER "%s", fixture);
    mixt_model *model = open_model(path);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model%s", folder, strstr(fixture, ".gguf") ? "" : ".gguf");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    if (mixt_convert(device, model, &options, NULL, NULL, &error) != MIXT_OK) {
        fail_with(fixture, &error);
    }
    load_blocks(fixture, model);
    check_logits(fixture, "", device, model);
    mixt_model_free(model);
    model = open_model(path);
    load_blocks(fixture, model);
    check_logits(fixture, strstr(fixture, ".gguf") ? " as a folder" : " as GGUF", device, model);
    mixt_model_free(model);
    mixt_folder_remove(folder, NULL);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* Names of the folders and .gguf files below FOLDER, sorted. Returns how many. */
static size_t list_fixtures(char names[][NAME_MAX_LENGTH], size_t limit)
{
    DIR *folder = opendir(FOLDER);
    if (folder == NULL) {
        return 0;
    }
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');
        bool is_gguf = end != NULL && strcmp(end, ".gguf") == 0;
        if (entry->d_name[0] == '.' || (end != NULL && !is_gguf) || count == limit) {
            continue;
        }
        snprintf(names[count++], NAME_MAX_LENGTH, "%.*s", NAME_MAX_LENGTH - 1, entry->d_name);
    }
    closedir(folder);
    qsort(names, count, NAME_MAX_LENGTH, by_name);
    return count;
}

static mixt_context *context;

static int make_context(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 2};
    return mixt_context_create(&options, &context, &error) == MIXT_OK ? 0 : -1;
}

static int free_context(void **state)
{
    (void)state;
    mixt_context_free(context);
    return 0;
}

static void agrees(void **state)
{
    check_fixture(*state, context);
}

int main(void)
{
    static char names[64][NAME_MAX_LENGTH];
    static struct CMUnitTest tests[COUNT(names)];
    size_t count = list_fixtures(names, COUNT(names));
    if (count < FIXTURES_LEAST) {
        fprintf(stderr, "families: %zu fixtures below " FOLDER ", at least %d expected\n", count,
                FIXTURES_LEAST);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        tests[i] = (struct CMUnitTest){names[i], agrees, NULL, NULL, names[i]};
    }
    return _cmocka_run_group_tests("families", tests, count, make_context, free_context);
}
