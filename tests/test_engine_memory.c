/* Engines without memory: each allocation of everything that an engine does fails once. The call
 * says so, what was there before stays, and the same call once more goes on with the same bits. The
 * allocation functions are wrapped when this program is linked (Makefile). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_checks.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static unsigned long made;    /* allocations so far */
static unsigned long fail_at; /* the one that fails; 0: none */

static bool fails(void)
{
    return ++made == fail_at;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return fails() ? NULL : __real_realloc(block, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

/* ------------------------------------------------------------------------------------------ */

#define TOKENS 150

static mixt_context *context;
static mixt_model *model;
static int failures; /* calls that said that there is no memory */
static bool sweeps;  /* steps have more rows than batches */

/* `call`, and where it had no memory once more. */
#define AGAIN(call)                                                                                \
    do {                                                                                           \
        mixt_error error = MIXT_ERROR_INIT;                                                        \
        mixt_status status = call;                                                                 \
        if (status != MIXT_OK) {                                                                   \
            if (status != MIXT_ERROR_MEMORY) {                                                     \
                fail_msg("allocation %lu: %s", fail_at, error.message);                            \
            }                                                                                      \
            failures++;                                                                            \
            error = (mixt_error)MIXT_ERROR_INIT;                                                   \
            if (call != MIXT_OK) {                                                                 \
                fail_msg("allocation %lu, again: %s", fail_at, error.message);                     \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static const int32_t *tokens(void)
{
    static int32_t list[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        list[i] = (i * 7 + i / 5) % 37;
    }
    return list;
}

static void finish(mixt_engine *engine)
{
    while (mixt_engine_waiting(engine) > 0) {
        AGAIN(mixt_engine_step(engine, &error));
    }
}

/* Everything once; the logits of three sequences behind one another. */
static void use(float logits[3 * 37])
{
    mixt_engine *engine;
    mixt_sequence *s[3];
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = 2;
    options.batch_tokens = 60;
    options.step_tokens = sweeps ? 200 : 0;
    options.positions = 64 * 6;
    options.experts_per_token_max = 3;
    const mixt_sequence_options all = {.all_logits = true, .routes = true};
    AGAIN(mixt_engine_create(context, model, &options, &engine, &error));
    for (int i = 0; i < 3; i++) {
        AGAIN(mixt_sequence_create(engine, i == 1 ? &all : NULL, &s[i], &error));
    }
    AGAIN(mixt_sequence_change_routing(s[1], MIXT_ROUTING_TOP_K, -1, 3, &error));
    AGAIN(mixt_sequence_change_routing(s[1], MIXT_ROUTING_MASK, 1, 2, &error));
    for (int i = 0; i < 3; i++) {
        AGAIN(mixt_sequence_feed(s[i], tokens(), TOKENS, &error));
    }
    finish(engine);
    assert_int_equal(mixt_sequence_truncate(s[0], 70), MIXT_OK);
    AGAIN(mixt_sequence_feed(s[0], tokens() + 1, 3, &error));
    AGAIN(mixt_sequence_feed(s[0], tokens() + 1, 100, &error));
    finish(engine);
    for (int i = 0; i < 3; i++) {
        memcpy(logits + 37 * (ptrdiff_t)i, mixt_sequence_logits(s[i]), 37 * sizeof(float));
        mixt_sequence_free(s[i]);
    }
    mixt_engine_statistics count;
    mixt_engine_describe(engine, &count);
    assert_int_equal(count.pages_used, 0);
    mixt_engine_free(engine);
}

static void every_allocation_may_fail(mixt_model_options options)
{
    float expected[3 * 37], logits[3 * 37];
    context = test_context(1, NULL);
    model = test_new_model(&options, 0.3);
    failures = 0;
    fail_at = made = 0;
    use(expected);
    unsigned long all = made;
    assert_true(all > 50);
    for (unsigned long n = 1; n <= all; n++) {
        made = 0;
        fail_at = n;
        use(logits);
        fail_at = 0;
        if (memcmp(logits, expected, sizeof logits) != 0) {
            fail_msg("allocation %lu: other logits", n);
        }
    }
    assert_true(failures > 20);
    mixt_model_free(model);
    mixt_context_free(context);
}

static void of_an_engine(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    options.context_length = 256;
    every_allocation_may_fail(options);
}

static void of_sweeps(void **state)
{
    sweeps = true;
    of_an_engine(state);
    sweeps = false;
}

/* RoPE by length needs memory in every step. */
static void of_steps(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    options.context_length = 256;
    options.rope = (mixt_rope_options){
        .kind = MIXT_ROPE_LONGROPE, .factor = 4, .original_context = 48, .divisors = 3};
    for (int i = 0; i < 3; i++) {
        options.rope.short_divisors[i] = 1;
        options.rope.long_divisors[i] = 2 + (float)i;
    }
    every_allocation_may_fail(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_an_engine),
        cmocka_unit_test(of_sweeps),
        cmocka_unit_test(of_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
