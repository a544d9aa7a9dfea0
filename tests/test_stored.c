/* Models whose experts stay on disk: the same bits as in memory at every budget, policy, way to
 * read and number of threads; what is counted; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "family_cases.h"
#include "model/laid.h"
#include "model_checks.h"
#include "scratch.h"

#define EXPERTS 12
#define LAYERS 4
#define PROMPT 40
#define GENERATED 24
#define TOKENS (PROMPT + GENERATED)
#define VOCABULARY 61
#define ROOM ((uint64_t)1 << 30)
#define FAMILY_PROMPT 9
#define FAMILY_TOKENS 20
#define FAMILY_VOCABULARY 512 /* at most */

static char *folder, *gguf;
static float expected[2][GENERATED][VOCABULARY]; /* of the folder, of the GGUF file */
static int32_t tokens[TOKENS];

/* Logits behind the prompt and each further token. */
static mixt_status generate(mixt_context *context, const mixt_model *model,
                            float (*logits)[VOCABULARY], mixt_error *error)
{
    mixt_session *session;
    MIXT_TRY(mixt_session_create(context, model, TOKENS, &session, error));
    mixt_status status = mixt_session_feed(session, tokens, PROMPT, error);
    for (int i = 0; i < GENERATED && status == MIXT_OK; i++) {
        memcpy(logits[i], mixt_session_logits(session), sizeof *logits);
        status = mixt_session_feed(session, tokens + PROMPT + i, 1, error);
    }
    mixt_session_free(session);
    return status;
}

static mixt_model *open_stored(const char *path, const mixt_store_options *options)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(path);
    must(mixt_model_store(model, options, &error), &error);
    return model;
}

/* A call failed, with this status and a line that holds both words. */
static void expect(mixt_status status, mixt_status wanted, mixt_error *error, const char *path,
                   const char *rule)
{
    if (status != wanted || strstr(error->message, path) == NULL ||
        strstr(error->message, rule) == NULL) {
        fail_msg("status %d: '%s'", status, error->message);
    }
    *error = (mixt_error)MIXT_ERROR_INIT;
}

/* The limit that leaves room for this many slots, as all experts are of one size here. */
static uint64_t limit_for(const char *path, int64_t slots)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    const mixt_store_options options = {.memory = ROOM, .always = true};
    mixt_model *model = open_stored(path, &options);
    mixt_session *session;
    must(mixt_session_create(scratch_context, model, TOKENS, &session, &error), &error);
    assert_true(mixt_store_describe(model, &s));
    assert_int_equal(s.experts, EXPERTS * LAYERS);
    assert_int_equal(s.slots, s.experts);
    uint64_t limit =
        s.resident_bytes + s.other_bytes + (uint64_t)slots * (s.pool_bytes / (uint64_t)s.slots);
    mixt_session_free(session);
    mixt_model_free(model);
    return limit;
}

static void check_bits(mixt_context *context, int file, const mixt_store_options *options,
                       mixt_store_statistics *s)
{
    mixt_error error = MIXT_ERROR_INIT;
    float logits[GENERATED][VOCABULARY];
    mixt_model *model = open_stored(file == 0 ? folder : gguf, options);
    must(generate(context, model, logits, &error), &error);
    assert_memory_equal(logits, expected[file], sizeof logits);
    assert_true(mixt_store_describe(model, s));
    mixt_model_free(model);
}

static void same_bits_at_every_budget(void **state)
{
    (void)state;
    static const int64_t slots[] = {2, 3, 5, 8, 13, 24, 47, EXPERTS * LAYERS};
    mixt_store_statistics s;
    double before = -1;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        for (int file = 0; file < 2; file++) {
            mixt_store_options options = {.memory = limit_for(file == 0 ? folder : gguf, slots[i]),
                                          .policy = "lru",
                                          .prefetch = MIXT_STORE_PREFETCH_NEVER,
                                          .always = true};
            check_bits(scratch_context, file, &options, &s);
            assert_int_equal(s.slots, slots[i]);
            assert_true(s.resident_bytes + s.other_bytes + s.pool_bytes <= s.memory);
            assert_int_equal(s.rows, TOKENS);
            assert_int_equal(s.steps, GENERATED + 1);
            assert_true(s.hits <= s.requests);
        }
        double hits = (double)s.hits / (double)s.requests;
        assert_true(hits >= before); /* least recently used: never fewer in a larger pool */
        before = hits;
    }
    assert_true(before > 0.7); /* at last only what comes for the first time is read */
    assert_true(s.bytes_read <= s.resident_bytes + s.expert_bytes + (1U << 20));
}

static void same_bits_by_every_policy(void **state)
{
    (void)state;
    mixt_store_statistics s;
    for (int policy = 0; mixt_store_policy(policy, NULL) != NULL; policy++) {
        for (int prefetch = 0; prefetch <= MIXT_STORE_PREFETCH_ALWAYS; prefetch++) {
            for (int reader = 0; reader <= MIXT_STORE_READER_THREADS; reader += 2) {
                const char *name = mixt_store_policy(policy, NULL);
                if (strcmp(name, "static") == 0) {
                    continue; /* needs a profile */
                }
                mixt_store_options options = {.memory = limit_for(gguf, 17),
                                              .policy = name,
                                              .prefetch = (mixt_store_prefetch)prefetch,
                                              .reader = (mixt_store_reader)reader,
                                              .always = true};
                check_bits(scratch_context, 1, &options, &s);
                assert_string_equal(s.policy, name);
            }
        }
    }
}

static void same_bits_on_any_number_of_threads(void **state)
{
    (void)state;
    mixt_store_statistics s;
    for (int threads = 1; threads <= 3; threads++) {
        mixt_context *context = test_context(threads, NULL);
        mixt_store_options options = {.memory = limit_for(gguf, 9), .always = true};
        check_bits(context, 1, &options, &s);
        mixt_context_free(context);
    }
}

/* Logits behind a prompt and some tokens of a family's model, from `path`. */
static mixt_status run_family(mixt_context *context, const char *path,
                              const mixt_store_options *options, float *logits,
                              mixt_store_statistics *s, mixt_error *error)
{
    mixt_session *session = NULL;
    mixt_model_info info;
    mixt_model *model = must_open_model(path);
    mixt_model_describe(model, &info);
    assert_true(info.options.vocab_size <= FAMILY_VOCABULARY);
    mixt_status status = options != NULL ? mixt_model_store(model, options, error) : MIXT_OK;
    if (status == MIXT_OK) {
        status = mixt_session_create(context, model, FAMILY_TOKENS, &session, error);
    }
    for (int i = 0; i < FAMILY_TOKENS - FAMILY_PROMPT && status == MIXT_OK; i++) {
        int32_t ids[FAMILY_PROMPT];
        int count = i == 0 ? FAMILY_PROMPT : 1;
        for (int j = 0; j < count; j++) {
            ids[j] = (i * 7 + j * 5 + 3) % info.options.vocab_size;
        }
        status = mixt_session_feed(session, ids, (size_t)count, error);
        memcpy(logits + i * info.options.vocab_size, mixt_session_logits(session),
               (size_t)info.options.vocab_size * sizeof *logits);
    }
    (void)mixt_store_describe(model, s);
    mixt_session_free(session);
    mixt_model_free(model);
    return status;
}

/* A family's file with the fewest slots that its memory allows; false where nothing of it can stay
 * on disk. */
static bool check_family(const char *path, const char *name)
{
    enum { VALUES = (FAMILY_TOKENS - FAMILY_PROMPT) * FAMILY_VOCABULARY };
    static float in_memory[VALUES], stored[VALUES];
    memset(in_memory, 0, sizeof in_memory);
    memset(stored, 0, sizeof stored);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    mixt_store_options options = {
        .memory = ROOM, .prefetch = MIXT_STORE_PREFETCH_ALWAYS, .always = true};
    must(run_family(scratch_context, path, NULL, in_memory, &s, &error), &error);
    mixt_status status = run_family(scratch_context, path, &options, stored, &s, &error);
    if (status == MIXT_ERROR_UNSUPPORTED) {
        return false;
    }
    must(status, &error);
    assert_memory_equal(stored, in_memory, sizeof stored);
    options.memory = s.resident_bytes + s.other_bytes + s.pool_bytes * 6 / 10;
    must(run_family(scratch_context, path, &options, stored, &s, &error), &error);
    if (s.slots >= s.experts || s.bytes_read == 0) {
        fail_msg("%s: %lld of %lld experts", name, (long long)s.slots, (long long)s.experts);
    }
    assert_memory_equal(stored, in_memory, sizeof stored);
    return true;
}

/* Files of every family as other implementations wrote them (tests/fixtures/families), and those of
 * ours. */
static void same_bits_of_every_family(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    for (size_t i = 0; i < test_mixture_file_count; i++) {
        char path[128];
        const char *name = test_mixture_files[i];
        snprintf(path, sizeof path, "tests/fixtures/families/%s", name);
        if (!check_family(path, name)) {
            fail_msg("%s: experts on disk", name);
        }
    }
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        char *path = scratch_path(test_families[i].name);
        bool moe = mixt_model_moe_layers(model) > 0;
        must(mixt_model_save(model, path, &error), &error);
        mixt_model_free(model);
        if (check_family(path, test_families[i].name) != moe) {
            fail_msg("%s: experts on disk", test_families[i].name);
        }
        free(path);
    }
}

/* Experts that are laid anew when they are read: at every budget, by every policy, on any number of
 * threads, by either reader. */
static void same_bits_of_laid_experts(void **state)
{
    (void)state;
    enum { VALUES = (FAMILY_TOKENS - FAMILY_PROMPT) * FAMILY_VOCABULARY };
    static const char *const paths[] = {"tests/fixtures/families/gpt_oss-mxfp4",
                                        "tests/fixtures/families/gpt_oss"};
    static float in_memory[VALUES], stored[VALUES];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    for (int number = 0; number < 2 * 3 * 3 * 5; number++) {
        const char *path = paths[number % 2], *policy = mixt_store_policy(number / 2 % 3, NULL);
        mixt_store_options options = {.memory = ROOM,
                                      .policy = policy,
                                      .prefetch = (mixt_store_prefetch)(number / 18 % 3),
                                      .reader = number / 6 % 2 == 0 ? MIXT_STORE_READER_AUTO
                                                                    : MIXT_STORE_READER_THREADS,
                                      .always = true};
        mixt_context *context = test_context(1 + number / 6 % 3, NULL);
        must(run_family(context, path, NULL, in_memory, &s, &error), &error);
        must(run_family(context, path, &options, stored, &s, &error), &error);
        assert_memory_equal(stored, in_memory, sizeof stored);
        options.memory =
            s.resident_bytes + s.other_bytes + s.pool_bytes * (uint64_t)(2 + number / 18) / 7;
        must(run_family(context, path, &options, stored, &s, &error), &error);
        assert_true(s.slots < s.experts && s.bytes_read > 0);
        assert_memory_equal(stored, in_memory, sizeof stored);
        mixt_context_free(context);
    }
}

/* Of a parameter's matrices, those that are in memory. */
static int count_laid(const mixt_model *model)
{
    int count = 0;
    const mixt_held *held = &model->held[mixt_model_find(model, MIXT_SLOT_EXPERT_UP, 0)];
    for (int i = 0; i < held->count; i++) {
        count += held->matrices[i].data != NULL;
    }
    return count;
}

/* They are laid in memory when a session wants them there, and not by opening, describing, reading
 * values, or a store. */
static void opening_lays_no_expert(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    mixt_session *session;
    char before[65], after[65];
    const char *path = "tests/fixtures/families/gpt_oss-mxfp4";
    const mixt_store_options options = {.memory = ROOM, .always = true};
    mixt_model *model = must_open_model(path);
    must(mixt_model_verify(model, &error), &error);
    must(mixt_model_hash(model, before, &error), &error);
    must(mixt_store_plan(model, &options, &s, &error), &error);
    assert_int_equal(count_laid(model), 0);
    must(mixt_session_create(scratch_context, model, FAMILY_TOKENS, &session, &error), &error);
    assert_int_equal(count_laid(model), model->options.experts);
    must(mixt_model_hash(model, after, &error), &error);
    assert_string_equal(after, before);
    mixt_session_free(session);
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_UNSUPPORTED, &error, path,
           "in memory");
    mixt_model_free(model);
    model = must_open_model(path);
    must(mixt_model_store(model, &options, &error), &error);
    must(mixt_session_create(scratch_context, model, FAMILY_TOKENS, &session, &error), &error);
    assert_int_equal(count_laid(model), 0);
    mixt_session_free(session);
    mixt_model_free(model);
}

/* A folder's file that is cut while it is in use. */
static void a_cut_file_lays_nothing(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    static float logits[(FAMILY_TOKENS - FAMILY_PROMPT) * FAMILY_VOCABULARY];
    static const char *const names[] = {"config.json", "model.safetensors"};
    char *copy = scratch_path("cut"), *file = NULL, *bytes = NULL;
    size_t length = 0;
    assert_int_equal(mkdir(copy, 0755), 0);
    for (int i = 0; i < 2; i++) {
        char from[128], to[512];
        snprintf(from, sizeof from, "tests/fixtures/families/gpt_oss-mxfp4/%s", names[i]);
        snprintf(to, sizeof to, "%s/%s", copy, names[i]);
        free(bytes);
        bytes = read_file(from, &length);
        write_file(to, bytes, length);
        free(file);
        file = strdup(to);
    }
    mixt_store_options options = {.memory = ROOM, .always = true};
    must(run_family(scratch_context, copy, &options, logits, &s, &error), &error);
    options.memory = s.resident_bytes + s.other_bytes + s.pool_bytes / 2;
    mixt_model *model = open_stored(copy, &options);
    write_file(file, bytes, length / 2);
    mixt_session *session;
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    must(mixt_session_create(scratch_context, model, FAMILY_TOKENS, &session, &error), &error);
    expect(mixt_session_feed(session, ids, 8, &error), MIXT_ERROR_IO, &error, file,
           "became shorter");
    mixt_session_free(session);
    mixt_model_free(model);
    free(copy);
    free(file);
    free(bytes);
}

/* Bytes of a slot. */
static uint64_t slot_of(const char *path)
{
    mixt_store_statistics s;
    const mixt_store_options options = {.memory = ROOM, .always = true};
    mixt_model *model = open_stored(path, &options);
    assert_true(mixt_store_describe(model, &s));
    mixt_model_free(model);
    return s.pool_bytes / (uint64_t)s.slots;
}

/* Each expert's matrices side by side in the file: the same bits, and one piece where a stack has
 * three, each of which takes whole blocks of the disk. Matrices of Q8_0 end between the places at
 * which GGUF lets the next one begin. */
static void same_bits_of_experts_side_by_side(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    float logits[GENERATED][VOCABULARY];
    char *path = scratch_path("whole.gguf");
    mixt_model *model = must_open_model(folder);
    const mixt_convert_options to = {.output = path, .type = "Q8_0", .whole_experts = true};
    must(mixt_convert(scratch_context, model, &to, NULL, NULL, &error), &error);
    mixt_model_free(model);
    assert_true(slot_of(path) < slot_of(gguf));
    assert_true(slot_of(path) <= slot_of(folder));
    const mixt_store_options options = {.memory = limit_for(path, 9), .always = true};
    model = open_stored(path, &options);
    must(generate(scratch_context, model, logits, &error), &error);
    assert_memory_equal(logits, expected[1], sizeof logits);
    assert_true(mixt_store_describe(model, &s));
    assert_int_equal(s.slots, 9);
    mixt_model_free(model);
    free(path);
}

/* What is foreseen is counted: used or wasted, and how often the guess was right. */
static void foresight_is_counted(void **state)
{
    (void)state;
    mixt_store_statistics s;
    mixt_store_options options = {
        .memory = limit_for(gguf, 20), .prefetch = MIXT_STORE_PREFETCH_ALWAYS, .always = true};
    check_bits(scratch_context, 1, &options, &s);
    assert_true(s.prefetched > 0 && s.prefetch_used <= s.prefetched);
    assert_true(s.prefetch_recall > 0 && s.prefetch_recall <= 1);
    assert_true(s.prefetching);
    options.prefetch = MIXT_STORE_PREFETCH_NEVER;
    check_bits(scratch_context, 1, &options, &s);
    assert_int_equal(s.prefetched, 0);
    assert_false(s.prefetching);
}

static void a_model_that_fits_is_left_alone(void **state)
{
    (void)state;
    mixt_store_statistics s;
    const mixt_store_options options = {.memory = ROOM};
    mixt_model *model = open_stored(gguf, &options);
    assert_false(mixt_store_describe(model, &s));
    assert_int_equal(s.slots, 0);
    mixt_store_reset(model);
    mixt_model_free(model);
}

/* Evaluation runs another plan, on the same store. */
static void a_plan_says_what_would_be(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics plan, s;
    mixt_model *model = must_open_model(gguf);
    const mixt_store_options options = {.memory = limit_for(gguf, 30), .always = true};
    must(mixt_store_plan(model, &options, &plan, &error), &error);
    assert_false(mixt_store_describe(model, &s));
    must(mixt_model_store(model, &options, &error), &error);
    assert_true(mixt_store_describe(model, &s));
    assert_int_equal(plan.resident_bytes, s.resident_bytes);
    assert_int_equal(plan.expert_bytes, s.expert_bytes);
    assert_int_equal(plan.token_bytes, s.token_bytes);
    assert_int_equal(plan.slots, s.slots);
    mixt_model_free(model);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    mixt_model *model = must_open_model(gguf);
    mixt_store_options options = {.memory = (uint64_t)1 << 62, .always = true};
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_MEMORY, &error, gguf, "is above");
    options.memory = 1000;
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_MEMORY, &error, gguf,
           "too little");
    options.memory = limit_for(gguf, 2) - 1;
    must(mixt_model_store(model, &options, &error), &error); /* caches and plans come later */
    expect(mixt_session_create(scratch_context, model, TOKENS, &session, &error), MIXT_ERROR_MEMORY,
           &error, gguf, "too little");
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_ARGUMENT, &error, gguf,
           "or never");
    expect(mixt_model_to_memory(model, &error), MIXT_ERROR_ARGUMENT, &error, gguf, "or never");
    mixt_model_free(model);
    model = must_open_model(gguf);
    options = (mixt_store_options){.memory = ROOM, .policy = "best", .always = true};
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_ARGUMENT, &error, "", "best");
    options = (mixt_store_options){.memory = ROOM, .policy = "static", .always = true};
    expect(mixt_model_store(model, &options, &error), MIXT_ERROR_ARGUMENT, &error, "", "static");
    mixt_model_free(model);
}

/* Bytes of caches and plans of an engine for so many sequences. */
static uint64_t caches_of(const mixt_model *model, int sequences, int context, int64_t positions)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    mixt_engine *engine;
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = sequences;
    options.context_length = context;
    options.positions = positions;
    must(mixt_engine_create(scratch_context, model, &options, &engine, &error), &error);
    assert_true(mixt_store_describe(model, &s));
    mixt_engine_free(engine);
    return s.other_bytes;
}

static void expect_engine(const char *path, uint64_t limit, mixt_engine_options options,
                          int context, int64_t positions)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_engine *engine;
    const mixt_store_options store = {.memory = limit, .always = true};
    mixt_model *model = open_stored(path, &store);
    must(mixt_engine_create(scratch_context, model, &options, &engine, &error), &error);
    mixt_engine_describe_options(engine, &options);
    assert_int_equal(options.context_length, context);
    assert_int_equal(options.positions, positions);
    mixt_engine_free(engine);
    mixt_model_free(model);
}

/* Where nobody chose a context, or the cache of several, they are what fits. */
static void a_context_that_fits_is_taken(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    char *path = scratch_path("long.gguf");
    mixt_model_options o = test_block_options(VOCABULARY, 2048);
    mixt_model *model = test_new_model(&o, 0.1);
    const mixt_convert_options to = {.output = path, .type = "Q8_0"};
    must(mixt_convert(scratch_context, model, &to, NULL, NULL, &error), &error);
    mixt_model_free(model);
    mixt_store_options store = {.memory = ROOM, .always = true};
    model = open_stored(path, &store);
    assert_true(mixt_store_describe(model, &s));
    uint64_t least = s.resident_bytes + 2 * (s.pool_bytes / (uint64_t)s.slots);
    uint64_t one = least + caches_of(model, 1, 768, 768);
    uint64_t four = least + caches_of(model, 4, 2048, 2048 + 640);
    uint64_t small = least + caches_of(model, 4, 512, 512);
    uint64_t short_one = least + caches_of(model, 1, 192, 192);
    mixt_model_free(model);

    mixt_engine_options usual = mixt_engine_options_default();
    usual.sequences = 1;
    expect_engine(path, one, usual, 768, 768);
    expect_engine(path, one + 1000, usual, 768, 768);
    expect_engine(path, one - 1, usual, 512, 512);
    expect_engine(path, ROOM, usual, 2048, 2048);
    usual.sequences = 4;
    expect_engine(path, ROOM, usual, 2048, 8192);
    expect_engine(path, four, usual, 2048, 2048 + 640);
    expect_engine(path, four - 1, usual, 2048, 2048 + 576);
    expect_engine(path, small, usual, 512, 512);
    usual.context_length = 512; /* chosen; the cache of all is not */
    expect_engine(path, small, usual, 512, 512);

    mixt_session *session;
    mixt_engine *engine;
    store.memory = one;
    model = open_stored(path, &store);
    expect(mixt_session_create(scratch_context, model, 2048, &session, &error), MIXT_ERROR_MEMORY,
           &error, path, "the longest context that fits has ");
    usual = mixt_engine_options_default();
    usual.sequences = 1;
    usual.context_length = 1024;
    usual.positions = 1024;
    expect(mixt_engine_create(scratch_context, model, &usual, &engine, &error), MIXT_ERROR_MEMORY,
           &error, path, "the largest cache that fits has ");
    must(mixt_session_create(scratch_context, model, 0, &session, &error), &error);
    assert_true(mixt_session_capacity(session) >= 512 && mixt_session_capacity(session) < 2048);
    must(mixt_session_feed(session, tokens, PROMPT, &error), &error);
    mixt_session_free(session);
    mixt_model_free(model);
    store.memory = short_one; /* named, and not taken unasked */
    model = open_stored(path, &store);
    expect(mixt_session_create(scratch_context, model, 0, &session, &error), MIXT_ERROR_MEMORY,
           &error, path, "the longest context that fits has 192 positions");
    must(mixt_session_create(scratch_context, model, 192, &session, &error), &error);
    mixt_session_free(session);
    mixt_model_free(model);
    free(path);
}

/* A file that is written to while it is in use: one line, and no logits. */
static void a_changed_file_is_refused(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    size_t length;
    char *copy = scratch_path("copy.gguf"), *bytes = read_file(gguf, &length);
    write_file(copy, bytes, length);
    mixt_store_options options = {.memory = limit_for(gguf, 2), .always = true};
    mixt_model *model = open_stored(copy, &options);
    write_file(copy, bytes, length / 2);
    float logits[GENERATED][VOCABULARY];
    mixt_status status = generate(scratch_context, model, logits, &error);
    expect(status, MIXT_ERROR_IO, &error, copy, "became shorter");
    mixt_model_free(model);
    free(copy);
    free(bytes);
}

/* The share of operations that stored blocks multiply as bytes, of the row of a prompt. */
static double share_of_bytes(const char *path, const char *type)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_bench_options options = {.prompt = 8, .operators = true, .repetitions = 1};
    mixt_model *model = must_open_model(path);
    mixt_bench_row *rows;
    size_t count;
    must(mixt_bench_run(scratch_context, model, &options, &rows, &count, &error), &error);
    double share = -1, of_operators = 0;
    for (size_t i = 0; i < count; i++) {
        bool of_weights = strstr(rows[i].name, "experts") != NULL;
        assert_true(rows[i].int8_flops <= rows[i].flops);
        assert_true(!of_weights || type == NULL || rows[i].int8_flops == rows[i].flops);
        of_operators += rows[i].direction[0] != 0 ? rows[i].int8_flops : 0;
        share = strcmp(rows[i].name, "pp8") == 0 ? rows[i].int8_flops / rows[i].flops : share;
        assert_true(rows[i].deviation == 0); /* of one repetition */
    }
    assert_true((of_operators > 0) == (type != NULL));
    free(rows);
    mixt_model_free(model);
    return share;
}

static void a_bench_tells_products_of_bytes(void **state)
{
    (void)state;
    assert_true(share_of_bytes(folder, NULL) == 0);
    double share = share_of_bytes(gguf, "Q8_0");
    assert_true(share > 0.5 && share < 1);
}

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    scratch_make_context(state);
    mixt_model_options o = test_block_options(VOCABULARY, TOKENS);
    mixt_model *model = test_new_model(&o, 0.1);
    folder = scratch_path("model");
    gguf = scratch_path("model.gguf");
    must(mixt_model_save(model, folder, &error), &error);
    mixt_model_free(model);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (i * 11 + i * i) % VOCABULARY;
    }
    model = must_open_model(folder);
    must(generate(scratch_context, model, expected[0], &error), &error);
    mixt_model_free(model);
    model = must_open_model(folder);
    const mixt_convert_options to = {.output = gguf, .type = "Q8_0"};
    must(mixt_convert(scratch_context, model, &to, NULL, NULL, &error), &error);
    mixt_model_free(model);
    model = must_open_model(gguf);
    must(generate(scratch_context, model, expected[1], &error), &error);
    mixt_model_free(model);
    return 0;
}

static int tear_down(void **state)
{
    free(folder);
    free(gguf);
    return scratch_remove_context(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_at_every_budget),
        cmocka_unit_test(same_bits_by_every_policy),
        cmocka_unit_test(same_bits_on_any_number_of_threads),
        cmocka_unit_test(same_bits_of_every_family),
        cmocka_unit_test(same_bits_of_experts_side_by_side),
        cmocka_unit_test(same_bits_of_laid_experts),
        cmocka_unit_test(opening_lays_no_expert),
        cmocka_unit_test(a_cut_file_lays_nothing),
        cmocka_unit_test(foresight_is_counted),
        cmocka_unit_test(a_model_that_fits_is_left_alone),
        cmocka_unit_test(a_plan_says_what_would_be),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_context_that_fits_is_taken),
        cmocka_unit_test(a_changed_file_is_refused),
        cmocka_unit_test(a_bench_tells_products_of_bytes),
    };
    return cmocka_run_group_tests_name("stored", tests, set_up, tear_down);
}
