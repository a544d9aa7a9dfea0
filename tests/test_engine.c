/* Engines: many sequences at once give what each gives alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "family_cases.h"
#include "guard.h"
#include "model_checks.h"
#include "same_bits.h"

#define CONTEXT 256
#define PAIRS 400 /* of each kind of model, unless MIXT_SAME_BITS has another number for all */

static mixt_model *make_family(const void *user)
{
    const test_family *family = user;
    mixt_model_options options = test_small_options();
    options.context_length = CONTEXT;
    family->change(&options);
    return test_new_model(&options, 0.3);
}

/* Ways to route, and RoPE by length, that no family's tiny model has. */
static void by_hash(mixt_model_options *o)
{
    o->router.select = 1;
}

static void by_all(mixt_model_options *o)
{
    o->router.select = 2;
    o->experts_per_token = o->experts;
}

static void by_experts(mixt_model_options *o)
{
    o->router.select = 3;
}

static void by_sinkhorn(mixt_model_options *o)
{
    o->router.select = 4;
}

static void by_segment(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEGMENT;
    o->router.segment = 16;
}

static void by_sequence(mixt_model_options *o)
{
    o->router.unit = MIXT_UNIT_SEQUENCE;
}

static void by_first_layer(mixt_model_options *o)
{
    o->router.scope = MIXT_SCOPE_GLOBAL;
}

static void longer_than_trained(mixt_model_options *o)
{
    o->rope = (mixt_rope_options){.kind = MIXT_ROPE_LONGROPE,
                                  .factor = 4,
                                  .original_context = 48,
                                  .divisors = o->head_dim / 2};
    for (int i = 0; i < o->rope.divisors; i++) {
        o->rope.short_divisors[i] = 1 + 0.1F * (float)i;
        o->rope.long_divisors[i] = 2 + (float)i;
    }
}

static const test_family others[] = {
    {"hash", by_hash},
    {"all", by_all},
    {"expert-choice", by_experts},
    {"sinkhorn", by_sinkhorn},
    {"segment", by_segment},
    {"sequence", by_sequence},
    {"global", by_first_layer},
    {"longrope", longer_than_trained},
};
#define OTHERS (sizeof others / sizeof *others)

static void same_bits_of(const test_family *families, size_t count)
{
    const char *asked = getenv("MIXT_SAME_BITS");
    size_t kinds = test_family_count + OTHERS;
    uint64_t pairs =
        asked != NULL ? strtoull(asked, NULL, 10) / kinds + 1 : (uint64_t)guard_few(PAIRS, 60);
    for (size_t i = 0; i < count; i++) {
        same_bits *bits = malloc(sizeof *bits);
        assert_non_null(bits);
        same_bits_prepare(bits, families[i].name, make_family, &families[i]);
        same_bits_run(bits, 1000 * i + 1, pairs);
        same_bits_free(bits);
        free(bits);
    }
    printf("%llu rows compared\n", (unsigned long long)same_bits_compared());
}

static void families_have_the_same_bits(void **state)
{
    (void)state;
    same_bits_of(test_families, test_family_count);
}

static void methods_have_the_same_bits(void **state)
{
    (void)state;
    same_bits_of(others, OTHERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_have_the_same_bits),
        cmocka_unit_test(methods_have_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
