#include "fuzz.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/files.h"
#include "model/model.h"

#define CONTEXT_LENGTH 16

void fuzz_fail(const char *condition, const char *file, int line, const char *said)
{
    fprintf(stderr, "%s:%d: does not hold: %s (%s)\n", file, line, condition, said);
    abort();
}

void fuzz_refused(mixt_status status, const mixt_error *error)
{
    const char *text = error->message;
    FUZZ_REQUIRE(status != MIXT_OK && status == error->status, text);
    FUZZ_REQUIRE(status != MIXT_ERROR_MEMORY && status != MIXT_ERROR_IO, text);
    FUZZ_REQUIRE(text[0] != '\0', mixt_status_name(status));
    for (const char *c = text; *c != '\0'; c++) {
        FUZZ_REQUIRE((unsigned char)*c >= 0x20 && *c != 0x7f, text);
    }
}

static char home[64];

static void remove_home(void)
{
    mixt_folder_remove(home, NULL);
}

const char *fuzz_path(const char *name, char path[FUZZ_PATH_MAX])
{
    if (home[0] == '\0') {
        const char *base = getenv("TMPDIR");
        base = base != NULL ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(home, sizeof home, "%s/mixt-fuzz-XXXXXX", base);
        FUZZ_REQUIRE(mkdtemp(home) != NULL, base);
        atexit(remove_home);
    }
    snprintf(path, FUZZ_PATH_MAX, "%s%s%s", home, name[0] != '\0' ? "/" : "", name);
    return path;
}

void fuzz_write(const char *path, const void *data, size_t size)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    FUZZ_REQUIRE(descriptor >= 0 && write(descriptor, data, size) == (ssize_t)size, path);
    close(descriptor);
}

mixt_context *fuzz_context(void)
{
    static mixt_context *context;
    if (context == NULL) {
        mixt_context_options options = {.threads = 1};
        mixt_error error = MIXT_ERROR_INIT;
        FUZZ_REQUIRE(mixt_context_create(&options, &context, &error) == MIXT_OK, error.message);
    }
    return context;
}

fuzz_logits fuzz_generate(const mixt_model *model)
{
    fuzz_logits result = {MIXT_OK, 0, NULL};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    mixt_sampling sampling = mixt_sampling_default();
    const mixt_model_options *options = &model->options;
    size_t vocabulary = (size_t)options->vocab_size;
    int length =
        options->context_length < CONTEXT_LENGTH ? options->context_length : CONTEXT_LENGTH;
    sampling.temperature = 0;
    result.status = mixt_session_create(fuzz_context(), model, length, &session, &error);
    if (result.status != MIXT_OK) {
        fuzz_refused(result.status, &error);
        return result;
    }
    result.values = malloc(FUZZ_TOKENS * vocabulary * sizeof *result.values);
    int32_t token = options->vocab_size > 1;
    for (int i = 0; i < FUZZ_TOKENS && i < length && result.status == MIXT_OK; i++) {
        result.status = mixt_session_feed(session, &token, 1, &error);
        if (result.status == MIXT_OK) {
            memcpy(result.values + result.count, mixt_session_logits(session),
                   vocabulary * sizeof *result.values);
            result.status = mixt_sample(&sampling, result.values + result.count,
                                        options->vocab_size, NULL, 0, 0, &token, &error);
            result.count += vocabulary;
        }
    }
    if (result.status != MIXT_OK) {
        fuzz_refused(result.status, &error);
    }
    mixt_session_free(session);
    return result;
}

bool fuzz_same_logits(const fuzz_logits *a, const fuzz_logits *b)
{
    return a->status == b->status && a->count == b->count &&
           (a->count == 0 || memcmp(a->values, b->values, a->count * sizeof *a->values) == 0);
}

fuzz_dice fuzz_dice_of(uint64_t seed)
{
    return (fuzz_dice){seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du};
}

uint64_t fuzz_draw(fuzz_dice *dice)
{
    uint64_t x = dice->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

size_t fuzz_below(fuzz_dice *dice, size_t count)
{
    return count != 0 ? (size_t)(fuzz_draw(dice) % count) : 0;
}

bool fuzz_chance(fuzz_dice *dice, int percent)
{
    return (int)fuzz_below(dice, 100) < percent;
}

int64_t fuzz_integer(fuzz_dice *dice)
{
    static const int64_t small[] = {0,  1,  2,  3,  4,  5,   6,   7,   8,   12,  16,  24, 31,
                                    32, 33, 48, 64, 96, 100, 127, 128, 255, 256, 257, -1, -2};
    if (fuzz_chance(dice, 75)) {
        return small[fuzz_below(dice, sizeof small / sizeof *small)];
    }
    int64_t power = (int64_t)(UINT64_C(1) << fuzz_below(dice, 64));
    return (int64_t)((uint64_t)power + fuzz_below(dice, 3) - 1);
}

double fuzz_number(fuzz_dice *dice)
{
    static const double known[] = {
        0,     -0.0,    1,       -1,      0.5,     2,       1e-5,   1e-6,     1e-12, 1e-300, 5e-324,
        1e300, DBL_MAX, FLT_MAX, FLT_MIN, 1e-45,   1e38,    3.5e38, -FLT_MAX, 0.1,   10000,  1e6,
        1e12,  65504,   1e-8,    32,      0.33333, 1.00001, 448,    -0.5,     1e9,   4096};
    if (fuzz_chance(dice, 25)) {
        return (double)fuzz_integer(dice);
    }
    return known[fuzz_below(dice, sizeof known / sizeof *known)];
}

uint64_t fuzz_hash(const uint8_t *data, size_t size)
{
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ data[i]) * 1099511628211u;
    }
    return sum ^ (sum >> 29);
}

void fuzz_check_terminal(const char *text, size_t size, bool color)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        bool escape = c == 0x1b && color && i + 1 < size && text[i + 1] == '[';
        FUZZ_REQUIRE(c == '\n' || escape || (c >= 0x20 && c != 0x7f), "a control character");
        bool c1 = c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0;
        FUZZ_REQUIRE(!c1, "a control character of C1");
    }
}
