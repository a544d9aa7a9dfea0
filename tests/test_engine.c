/* Engines: many sequences at once give what each gives alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "family_cases.h"
#include "guard.h"
#include "infer/engine.h"
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

/* Heads that a cache of Q8_0 can hold. */
static void by_blocks(mixt_model_options *o)
{
    o->head_dim = 32;
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
    {"blocks", by_blocks},
};
#define OTHERS (sizeof others / sizeof *others)

/* One kind of model; what else can be chosen for it goes by `turn`. */
static void same_bits_of_one(const test_family *family, size_t turn, mixt_latent latent,
                             uint64_t pairs)
{
    static const mixt_cache_type types[] = {MIXT_CACHE_F32, MIXT_CACHE_F16, MIXT_CACHE_BF16};
    same_bits *bits = calloc(1, sizeof *bits);
    assert_non_null(bits);
    bits->name = family->name;
    bits->cache_type = family->change == by_blocks ? MIXT_CACHE_Q8_0 : types[turn % 3];
    bits->latent = latent;
    same_bits_prepare(bits, make_family, family);
    same_bits_run(bits, 1000 * turn + 1, pairs);
    bool latents = bits->model->options.attention.latent_size > 0;
    same_bits_free(bits);
    free(bits);
    if (latents && latent != MIXT_LATENT_EXPANDED) {
        same_bits_of_one(family, turn, latent + 1, pairs);
    }
}

static void same_bits_of(const test_family *families, size_t count)
{
    const char *asked = getenv("MIXT_SAME_BITS");
    size_t kinds = test_family_count + OTHERS;
    uint64_t pairs =
        asked != NULL ? strtoull(asked, NULL, 10) / kinds + 1 : (uint64_t)guard_few(PAIRS, 60);
    for (size_t i = 0; i < count; i++) {
        same_bits_of_one(&families[i], i, MIXT_LATENT_AUTO, pairs);
    }
    same_bits_counts all = same_bits_count();
    printf(
        "%llu rows compared; %llu positions were found, %llu sequences gave up their pages, %llu "
        "steps of more than one batch\n",
        (unsigned long long)all.compared, (unsigned long long)all.found,
        (unsigned long long)all.preemptions, (unsigned long long)all.sweeps);
    assert_true(all.found > 0 && all.preemptions > 0 && all.sweeps > 0);
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

/* ------------------------------------------------------------------------------------------ */
/* The schedule                                                                               */

static mixt_context *context;
static mixt_model *model; /* a Mixtral */

static int set_up(void **state)
{
    (void)state;
    context = test_context(1, NULL);
    model = make_family(test_family_find("mixtral"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mixt_model_free(model);
    mixt_context_free(context);
    return 0;
}

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

static mixt_engine *open_engine(int sequences, int64_t positions, int batch_tokens)
{
    mixt_engine *engine;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = sequences;
    options.positions = positions;
    options.batch_tokens = batch_tokens;
    options.experts_per_token_max = 3;
    require(mixt_engine_create(context, model, &options, &engine, &error), &error);
    return engine;
}

/* `count` tokens that depend on `text` alone, behind what the sequence holds. */
static void feed(mixt_sequence *sequence, int text, int count)
{
    mixt_error error = MIXT_ERROR_INIT;
    for (int i = 0; i < count; i++) {
        int32_t token = (int32_t)((mixt_sequence_length(sequence) * 7 + (size_t)text * 5) % 31);
        require(mixt_sequence_feed(sequence, &token, 1, &error), &error);
    }
}

static mixt_sequence *open_sequence(mixt_engine *engine, int text, int count)
{
    mixt_sequence *sequence;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_sequence_create(engine, NULL, &sequence, &error), &error);
    feed(sequence, text, count);
    return sequence;
}

static void step(mixt_engine *engine)
{
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_engine_step(engine, &error), &error);
}

static mixt_engine_statistics count_of(const mixt_engine *engine)
{
    mixt_engine_statistics count;
    mixt_engine_describe(engine, &count);
    return count;
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
    assert_int_equal(count_of(engine).pages_used, 0);
    mixt_engine_free(engine);
}

/* Each that generates has its row in every step, the prompt the rest; logits are computed of rows
 * that somebody wants, and of no others. */
static void a_long_prompt_stops_nobody(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(4, 0, 16);
    mixt_sequence *s[] = {open_sequence(engine, 1, 3), open_sequence(engine, 2, 5), NULL};
    step(engine);
    assert_int_equal(mixt_engine_waiting(engine), 0);
    assert_int_equal(count_of(engine).rows, 8);
    s[2] = open_sequence(engine, 3, 200);
    for (int i = 0; i < 14; i++) {
        feed(s[0], 1, 1);
        feed(s[1], 2, 1);
        step(engine);
        assert_int_equal(rows_of(s[0]), 1);
        assert_int_equal(rows_of(s[1]), 1);
        assert_int_equal(rows_of(s[2]), 14);
        assert_int_equal(mixt_sequence_waiting(s[2]), 200 - 14 * (i + 1));
    }
    mixt_engine_statistics count = count_of(engine);
    assert_int_equal(count.steps, 15);
    assert_int_equal(count.rows, 8 + 14 * 16);
    assert_int_equal(count.logits_rows, 2 + 14 * 2);
    step(engine);
    assert_int_equal(rows_of(s[0]), 0);
    assert_int_equal(rows_of(s[2]), 4);
    assert_int_equal(count_of(engine).logits_rows, 2 + 14 * 2 + 1);
    step(engine); /* nothing waits */
    assert_int_equal(count_of(engine).steps, 16);
    assert_int_equal(rows_of(s[2]), 0);
    close_engine(engine, s, 3);
}

/* One place: who came first has it until nothing of it waits. */
static void first_come_first_served(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(1, 512, 10);
    mixt_sequence *s[] = {open_sequence(engine, 1, 25), open_sequence(engine, 2, 5),
                          open_sequence(engine, 3, 5)};
    static const int rows[][3] = {{10, 0, 0}, {10, 0, 0}, {5, 0, 0}, {0, 5, 0}, {0, 0, 5}};
    for (int i = 0; i < 5; i++) {
        mixt_engine_statistics count = count_of(engine);
        assert_int_equal(count.running + count.waiting, i < 3 ? 3 : 5 - i);
        step(engine);
        for (int j = 0; j < 3; j++) {
            assert_int_equal(rows_of(s[j]), rows[i][j]);
        }
    }
    close_engine(engine, s, 3);
}

/* Four pages for two that need three each in the end: the newer one gives its own up, once, and has
 * them again when the older one is gone. */
static void the_newest_gives_its_pages_up(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(2, 4 * 64, 64);
    mixt_sequence *s[] = {open_sequence(engine, 1, 120), open_sequence(engine, 2, 120)};
    while (mixt_engine_waiting(engine) > 0) {
        step(engine);
    }
    assert_int_equal(count_of(engine).pages_used, 4);
    for (int i = 0; i < 20; i++) {
        feed(s[0], 1, 1);
        feed(s[1], 2, i < 5 ? 1 : 0);
        step(engine);
        assert_int_equal(rows_of(s[0]), 1);
    }
    assert_int_equal(count_of(engine).preemptions, 1);
    feed(s[1], 2, 20);
    step(engine);
    step(engine);
    assert_int_equal(count_of(engine).preemptions, 2); /* who has nothing to do gives way */
    assert_int_equal(mixt_sequence_waiting(s[0]), 0);
    while (mixt_engine_waiting(engine) > 0) {
        step(engine);
    }
    assert_int_equal(mixt_sequence_length(s[1]), 145);
    close_engine(engine, s, 2);
}

static void change(mixt_sequence *sequence, mixt_routing_change to, int value)
{
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_sequence_change_routing(sequence, to, -1, value, &error), &error);
}

static mixt_sequence *routed(mixt_engine *engine, mixt_routing_change to, int value)
{
    mixt_sequence *sequence;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_sequence_create(engine, NULL, &sequence, &error), &error);
    change(sequence, to, value);
    feed(sequence, 1, 200);
    return sequence;
}

static void finish(mixt_engine *engine)
{
    while (mixt_engine_waiting(engine) > 0) {
        step(engine);
    }
}

/* Whole pages are found by those that begin alike, while they are used and afterwards; not by those
 * that route otherwise. */
static void pages_are_found(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(4, 16 * 64, 512);
    mixt_sequence *s[6] = {open_sequence(engine, 1, 200)};
    finish(engine);
    s[1] = open_sequence(engine, 1, 192);
    finish(engine);
    assert_int_equal(mixt_sequence_found(s[1]), 128);     /* the last token's logits are its own */
    assert_int_equal(count_of(engine).pages_used, 5 - 1); /* and then the page is the same */
    assert_int_equal(count_of(engine).rows, 200 + 64);
    s[2] = routed(engine, MIXT_ROUTING_MASK, 1);
    finish(engine);
    assert_int_equal(mixt_sequence_found(s[2]), 0);
    s[3] = routed(engine, MIXT_ROUTING_MASK, 1);
    finish(engine);
    assert_int_equal(mixt_sequence_found(s[3]), 192);
    s[4] = routed(engine, MIXT_ROUTING_TOP_K, 2); /* as the model does */
    finish(engine);
    assert_int_equal(mixt_sequence_found(s[4]), 192);
    for (int i = 0; i < 5; i++) {
        mixt_sequence_free(s[i]);
        s[i] = NULL;
    }
    assert_int_equal(count_of(engine).pages_used, 0);
    assert_int_equal(count_of(engine).pages_kept, 3 + 3);
    s[5] = open_sequence(engine, 1, 200);
    finish(engine);
    assert_int_equal(mixt_sequence_found(s[5]), 192);
    close_engine(engine, s, 6);
}

/* What is written into a page that another one has goes into a copy of it. */
static void a_shared_page_is_copied(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(2, 8 * 64, 512);
    mixt_sequence *s[] = {open_sequence(engine, 1, 130), NULL};
    finish(engine);
    s[1] = open_sequence(engine, 1, 130);
    finish(engine);
    assert_int_equal(count_of(engine).pages_used, 4); /* two of both, one of each */
    float before[37];
    mixt_sequence_truncate(s[1], 100);
    assert_int_equal(count_of(engine).pages_used, 3);
    feed(s[1], 9, 1);
    finish(engine);
    assert_int_equal(count_of(engine).pages_used, 4);
    assert_int_equal(mixt_sequence_found(s[1]), 100);
    memcpy(before, mixt_sequence_logits(s[0]), sizeof before);
    mixt_sequence_truncate(s[0], 129);
    feed(s[0], 1, 1);
    finish(engine);
    assert_memory_equal(before, mixt_sequence_logits(s[0]), sizeof before);
    close_engine(engine, s, 2);
}

/* A token whose row is not a number breaks its own sequence, and no other one's bits. */
static void an_error_is_its_own(void **state)
{
    (void)state;
    const int broken = 36; /* a token that feed() does not give */
    float *row =
        model->weights + model->parameters[mixt_model_find(model, MIXT_SLOT_EMBED, -1)].offset;
    row += (size_t)broken * (size_t)model->options.hidden_size;
    float kept = row[0];
    row[0] = NAN;
    mixt_engine *engine = open_engine(2, 0, 512);
    mixt_sequence *s[] = {open_sequence(engine, 1, 70), open_sequence(engine, 2, 4)};
    mixt_error error = MIXT_ERROR_INIT;
    float expected[37];
    mixt_sequence *alone = open_sequence(engine, 2, 5);
    finish(engine);
    memcpy(expected, mixt_sequence_logits(alone), sizeof expected);
    mixt_sequence_free(alone);
    require(mixt_sequence_feed(s[0], (int32_t[]){broken, 2}, 2, &error), &error);
    feed(s[1], 2, 1);
    step(engine);
    row[0] = kept;
    assert_int_equal(mixt_sequence_state(s[0], &error), MIXT_ERROR_NUMERIC);
    assert_string_equal(error.message,
                        "layer 0: the router's logits are not finite at position 70");
    assert_int_equal(mixt_sequence_waiting(s[0]), 0);
    assert_int_equal(mixt_sequence_feed(s[0], (int32_t[]){1}, 1, NULL), MIXT_ERROR_NUMERIC);
    assert_int_equal(rows_of(s[1]), 1);
    assert_memory_equal(expected, mixt_sequence_logits(s[1]), sizeof expected);
    assert_int_equal(mixt_engine_waiting(engine), 0);
    close_engine(engine, s, 2);
}

/* The states of a prompt, times the head, are the logits of another sequence with the same tokens.
 */
static void states_times_the_head_are_logits(void **state)
{
    (void)state;
    enum { COUNT = 70, ROWS = 9 };
    mixt_engine_options options = mixt_engine_options_default();
    options.logits_rows = ROWS; /* so that both come in parts, some of them in one forward */
    mixt_engine *engine;
    mixt_sequence *s[3];
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_engine_create(context, model, &options, &engine, &error), &error);
    mixt_sequence_options wanted[] = {{.states = true}, {.all_logits = true}, {.routes = true}};
    for (int i = 0; i < 3; i++) {
        require(mixt_sequence_create(engine, &wanted[i], &s[i], &error), &error);
        feed(s[i], 3, COUNT);
    }
    size_t vocabulary = (size_t)model->options.vocab_size, d = (size_t)model->options.hidden_size;
    float *states = calloc(COUNT * d, sizeof *states);
    float *logits = calloc(COUNT * vocabulary, sizeof *logits);
    float *head = calloc(vocabulary * d, sizeof *head);
    size_t got[2] = {0, 0};
    while (mixt_engine_waiting(engine) > 0) {
        mixt_sequence_rows rows;
        step(engine);
        mixt_sequence_computed(s[0], &rows);
        assert_true(rows.logits_count == 0 || rows.logits_position == got[0]);
        assert_null(rows.logits);
        for (size_t i = 0; i < rows.logits_count * d; i++) {
            states[got[0] * d + i] = rows.states[i];
        }
        got[0] += rows.logits_count;
        mixt_sequence_computed(s[1], &rows);
        assert_null(rows.states);
        for (size_t i = 0; i < rows.logits_count * vocabulary; i++) {
            logits[got[1] * vocabulary + i] = rows.logits[i];
        }
        got[1] += rows.logits_count;
    }
    assert_true(got[0] == COUNT && got[1] == COUNT);
    int output = mixt_model_find(model, MIXT_SLOT_OUTPUT, -1);
    mixt_model_values(model, output, 0, vocabulary * d, head);
    for (size_t t = 0; t < COUNT; t++) {
        for (size_t v = 0; v < vocabulary; v++) {
            double sum = 0;
            for (size_t i = 0; i < d; i++) {
                sum += (double)states[t * d + i] * (double)head[v * d + i];
            }
            assert_float_equal(sum, logits[t * vocabulary + v], 1e-4);
        }
    }
    mixt_sequence_options both = {.all_logits = true, .states = true};
    mixt_sequence *none;
    assert_int_equal(mixt_sequence_create(engine, &both, &none, &error), MIXT_ERROR_ARGUMENT);
    free(states);
    free(logits);
    free(head);
    close_engine(engine, s, 3);
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Of k best logits: the k-th above the next one, in each layer. A sequence without `routes` has
 * none, and is told of its last token. */
static void margins_are_of_the_logits(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(2, 0, 16);
    mixt_sequence_options options = {.routes = true};
    mixt_sequence *s[2];
    mixt_error error = MIXT_ERROR_INIT;
    int k = model->options.experts_per_token, experts = model->options.experts, compared = 0;
    require(mixt_sequence_create(engine, &options, &s[0], &error), &error);
    feed(s[0], 1, 40);
    s[1] = open_sequence(engine, 2, 5);
    while (mixt_engine_waiting(engine) > 0) {
        mixt_sequence_rows rows, other;
        float last[8];
        step(engine);
        mixt_sequence_computed(s[0], &rows);
        mixt_sequence_computed(s[1], &other);
        assert_true(rows.moe_layers == 2 && other.route_margins == NULL);
        assert_true(mixt_sequence_last_routes(s[1], NULL, NULL, last) == (other.count > 0));
        for (size_t i = 0; i < rows.count; i++) {
            for (int layer = 0; layer < rows.moe_layers; layer++) {
                const mixt_runner *ran = engine->ran;
                mixt_route route;
                float logits[16];
                mixt_instance_route(ran->instance, &ran->graph->routes[layer], &route);
                int64_t row = s[0]->last_row + 1 - (int64_t)(rows.count - i);
                memcpy(logits, route.scores + row * experts, (size_t)experts * sizeof *logits);
                qsort(logits, (size_t)experts, sizeof *logits, falling);
                assert_true(rows.route_margins[i * 2 + (size_t)layer] == logits[k - 1] - logits[k]);
                compared++;
            }
        }
    }
    assert_int_equal(compared, 2 * 40);
    float last[8];
    assert_true(mixt_sequence_last_routes(s[0], NULL, NULL, last));
    assert_int_equal(mixt_sequence_truncate(s[0], 20), MIXT_OK);
    assert_false(mixt_sequence_last_routes(s[0], NULL, NULL, last)); /* it is gone */
    close_engine(engine, s, 2);
}

static void refuse_engine(mixt_engine_options options, const char *message)
{
    mixt_engine *engine;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_engine_create(context, model, &options, &engine, &error), MIXT_OK);
    assert_null(engine);
    assert_string_equal(error.message, message);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    mixt_engine_options o = mixt_engine_options_default();
    o.sequences = 0;
    refuse_engine(o, "engine: number of sequences 0 is not in 1..4096");
    o = mixt_engine_options_default();
    o.context_length = -1;
    refuse_engine(o, "engine: context -1 is not in 0..16777216");
    o = mixt_engine_options_default();
    o.batch_tokens = 65537;
    refuse_engine(o, "engine: batch of tokens 65537 is not in 1..65536");
    o = mixt_engine_options_default();
    o.positions = -64;
    refuse_engine(o, "engine: number of cached positions -64 is not in 1..2147483584");
    o = mixt_engine_options_default();
    o.logits_rows = 513;
    refuse_engine(o, "engine: number of rows with logits 513 is not in 1..512");
    o = mixt_engine_options_default();
    o.experts_per_token_max = 6;
    refuse_engine(o, "engine: number of experts of a token 6 is not in 0..5");
    o = mixt_engine_options_default();
    o.latent = (mixt_latent)3;
    refuse_engine(o, "engine: form of latent attention 3 is not in 0..2");
    o.latent = MIXT_LATENT_EXPANDED;
    refuse_engine(o, "engine: the model has no latent attention that could be expanded");
    o = mixt_engine_options_default();
    o.reserved[13] = 1;
    mixt_engine *engine;
    assert_int_equal(mixt_engine_create(context, model, &o, &engine, NULL), MIXT_ERROR_ARGUMENT);
}

static void refuse(mixt_status status, mixt_error *error, const char *message)
{
    assert_int_equal(status, MIXT_ERROR_ARGUMENT);
    assert_string_equal(error->message, message);
    *error = (mixt_error)MIXT_ERROR_INIT;
}

static void bad_calls_are_refused(void **state)
{
    (void)state;
    mixt_engine *engine = open_engine(2, 128, 512);
    mixt_sequence *s;
    mixt_error error = MIXT_ERROR_INIT;
    static const int32_t zeros[CONTEXT + 1];
    require(mixt_sequence_create(engine, NULL, &s, &error), &error);
    refuse(mixt_sequence_feed(s, zeros, CONTEXT + 1, &error), &error,
           "257 tokens behind 0 do not fit into a context of 256");
    refuse(mixt_sequence_feed(s, zeros, 129, &error), &error,
           "129 tokens behind 0 do not fit into a cache of 128 positions");
    refuse(mixt_sequence_feed(s, (int32_t[]){0, 37}, 2, &error), &error,
           "token 1: id 37 is not in 0..36");
    refuse(mixt_sequence_feed(s, zeros, 0, &error), &error,
           "0 tokens behind 0 do not fit into a context of 256");
    refuse(mixt_sequence_change_routing(s, MIXT_ROUTING_TOP_K, -1, 4, &error), &error,
           "routing: layer 0: number of experts 4 is not in 1..3");
    refuse(mixt_sequence_change_routing(s, MIXT_ROUTING_MASK, 2, 0, &error), &error,
           "routing: layer 2 has no experts (the model has 2 layers with them)");
    assert_int_equal(mixt_sequence_truncate(s, 1), MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_sequence_length(s), 0);
    feed(s, 1, 128);
    refuse(mixt_sequence_change_routing(s, MIXT_ROUTING_MASK, -1, 0, &error), &error,
           "sequence: routing is changed before anything is fed, not behind 128 tokens");
    finish(engine); /* alone it always fits */
    close_engine(engine, &s, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_have_the_same_bits),
        cmocka_unit_test(methods_have_the_same_bits),
        cmocka_unit_test(a_long_prompt_stops_nobody),
        cmocka_unit_test(first_come_first_served),
        cmocka_unit_test(the_newest_gives_its_pages_up),
        cmocka_unit_test(pages_are_found),
        cmocka_unit_test(a_shared_page_is_copied),
        cmocka_unit_test(an_error_is_its_own),
        cmocka_unit_test(states_times_the_head_are_logits),
        cmocka_unit_test(margins_are_of_the_logits),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(bad_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
