/* Models whose experts are spread over ranks: what rank 0 computes has the same bits as alone, for
 * every family and file, whatever it runs; what cannot be is refused on all ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "family_cases.h"
#include "hub.h"
#include "model_checks.h"
#include "ops/exchange.h"
#include "scratch.h"

#define PROMPT 9
#define TOKENS 17
#define VOCABULARY 512 /* at most */
#define VALUES ((TOKENS - PROMPT) * VOCABULARY)

/* What rank 0 does with a model: `out` is the same at every number of ranks. */
typedef mixt_status (*head_work)(mixt_context *context, mixt_model *model, float *out,
                                 mixt_error *error);

typedef struct spread_case {
    const char *path;
    head_work work;
    float *out;
} spread_case;

static int experts_of(const mixt_model *model)
{
    return model->options.experts;
}

static int chunks; /* in which rows go, of the next ranks; 0: as is worth it */

/* A rank's part: opens the model, keeps its share, and runs it or works for rank 0. */
static mixt_status take_part(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const spread_case *c = user;
    mixt_model *model = NULL;
    mixt_context *context = NULL;
    mixt_context_options options = {.threads = rank == 1 ? 2 : 1};
    mixt_status status = mixt_context_create(&options, &context, error);
    if (status == MIXT_OK) {
        status = mixt_model_open(c->path, &model, error);
    }
    if (status == MIXT_OK) {
        status = mixt_ranks_arrange(ranks, 1, 0, experts_of(model), error);
        ranks->chunks_told = chunks;
    }
    if (status == MIXT_OK) {
        status = mixt_model_spread(model, ranks, error);
    }
    if (status == MIXT_OK && rank > 0) {
        status = mixt_model_work(context, model, error);
    } else if (status == MIXT_OK) {
        status = c->work(context, model, c->out, error);
        mixt_error left = MIXT_ERROR_INIT;
        mixt_status dismissed = mixt_model_dismiss(model, &left);
        if (status == MIXT_OK && dismissed != MIXT_OK) {
            *error = left;
            status = dismissed;
        }
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

/* Logits behind a prompt, and behind each of some tokens more. */
static mixt_status generate(mixt_context *context, mixt_model *model, float *out, mixt_error *error)
{
    mixt_session *session;
    int vocabulary = model->options.vocab_size;
    MIXT_TRY(mixt_session_create(context, model, TOKENS, &session, error));
    mixt_status status = MIXT_OK;
    for (int i = 0; i < TOKENS - PROMPT && status == MIXT_OK; i++) {
        int32_t ids[PROMPT];
        int count = i == 0 ? PROMPT : 1;
        for (int j = 0; j < count; j++) {
            ids[j] = (i * 7 + j * 5 + 3) % vocabulary;
        }
        status = mixt_session_feed(session, ids, (size_t)count, error);
        memcpy(out + i * vocabulary, mixt_session_logits(session),
               (size_t)vocabulary * sizeof *out);
    }
    mixt_session_free(session);
    return status;
}

/* Runs it over so many ranks; what the first one has is `alone` bit for bit. */
static bool same_over(int ranks, hub_function function, void *user, const float *alone,
                      float *spread, size_t count)
{
    memset(spread, 0, count * sizeof *spread);
    hub_run(ranks, function, user);
    hub_tell(spread, count * sizeof *spread);
    return memcmp(alone, spread, count * sizeof *spread) == 0;
}

/* The same of a file at 2, 3, 4 and 8 ranks as alone; false where the model has no experts. */
static bool check_file(const char *path, const char *name)
{
    static float alone[VALUES], spread[VALUES];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(path);
    int experts = mixt_model_moe_layers(model) > 0 ? experts_of(model) : 0;
    assert_true(model->options.vocab_size <= VOCABULARY);
    memset(alone, 0, sizeof alone);
    must(generate(scratch_context, model, alone, &error), &error);
    mixt_model_free(model);
    for (int ranks = 1; ranks <= 8 && ranks <= experts; ranks += ranks < 4 ? 1 : 4) {
        chunks = 1 + ranks % 3; /* as far as experts suffice */
        if (hub_has(ranks) && !same_over(ranks, take_part, &(spread_case){path, generate, spread},
                                         alone, spread, VALUES)) {
            fail_msg("%s on %d ranks: other bits", name, ranks);
        }
    }
    if (experts > 0 && experts < 8) {
        print_message("%s has %d experts, for as many ranks at most\n", name, experts);
    }
    return experts > 0;
}

static void same_bits_of_every_family(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    for (size_t i = 0; i < test_mixture_file_count; i++) {
        char path[128];
        const char *name = test_mixture_files[i];
        snprintf(path, sizeof path, "tests/fixtures/families/%s", name);
        assert_true(check_file(path, name));
    }
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model_options options = test_small_options();
        test_families[i].change(&options);
        options.experts = options.experts > 0 ? 8 : 0;
        mixt_model *model = test_new_model(&options, 0.3);
        assert_string_equal(model->family->name, test_families[i].name);
        char *path = scratch_path(test_families[i].name);
        bool moe = mixt_model_moe_layers(model) > 0;
        must(mixt_model_save(model, path, &error), &error);
        mixt_model_free(model);
        assert_int_equal(check_file(path, test_families[i].name), moe);
        free(path);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* What rank 0 runs, on a model of 4 layers of 12 experts and a shared one                      */

#define SEQUENCES 3
#define TEXT 90 /* tokens of each: more than a page, and than a batch */
#define BLOCK_VOCABULARY 61
#define BLOCK_VALUES (SEQUENCES * TEXT * BLOCK_VOCABULARY)

static char *folder, *gguf;

static int32_t token_of(int sequence, int position)
{
    return (position * 11 + position * position + 7 * sequence) % BLOCK_VOCABULARY;
}

/* Logits of all tokens of some texts side by side: prompts of several batches, then token by token.
 * A step goes layer by layer over several batches where `step_tokens` says so. */
static mixt_status run_texts(mixt_context *context, mixt_model *model, int64_t step_tokens,
                             float *out, mixt_error *error)
{
    mixt_engine *engine;
    mixt_sequence *sequences[SEQUENCES] = {NULL};
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = SEQUENCES;
    options.context_length = TEXT;
    options.batch_tokens = 16;
    options.step_tokens = step_tokens;
    MIXT_TRY(mixt_engine_create(context, model, &options, &engine, error));
    mixt_status status = MIXT_OK;
    for (int s = 0; s < SEQUENCES && status == MIXT_OK; s++) {
        const mixt_sequence_options all = {.all_logits = true};
        status = mixt_sequence_create(engine, &all, &sequences[s], error);
    }
    for (int i = 0; i < TEXT && status == MIXT_OK; i += i == 0 ? TEXT - 12 + 1 : 1) {
        int count = i == 0 ? TEXT - 12 + 1 : 1;
        for (int s = 0; s < SEQUENCES && status == MIXT_OK; s++) {
            int32_t ids[TEXT];
            for (int j = 0; j < count; j++) {
                ids[j] = token_of(s, i + j);
            }
            status = mixt_sequence_feed(sequences[s], ids, (size_t)count, error);
        }
        while (status == MIXT_OK && mixt_engine_waiting(engine) > 0) {
            status = mixt_engine_step(engine, error);
            for (int s = 0; s < SEQUENCES && status == MIXT_OK; s++) {
                mixt_sequence_rows rows;
                mixt_sequence_computed(sequences[s], &rows);
                if (rows.count > 0) {
                    memcpy(out + ((size_t)s * TEXT + rows.logits_position) * BLOCK_VOCABULARY,
                           rows.logits, rows.logits_count * BLOCK_VOCABULARY * sizeof *out);
                }
            }
        }
    }
    for (int s = 0; s < SEQUENCES; s++) {
        mixt_sequence_free(sequences[s]);
    }
    mixt_engine_free(engine);
    return status;
}

static mixt_status run_batches(mixt_context *context, mixt_model *model, float *out,
                               mixt_error *error)
{
    return run_texts(context, model, 0, out, error);
}

static mixt_status run_sweeps(mixt_context *context, mixt_model *model, float *out,
                              mixt_error *error)
{
    return run_texts(context, model, 64, out, error);
}

/* Two engines and a session on one model, one behind the other and side by side. */
static mixt_status run_several(mixt_context *context, mixt_model *model, float *out,
                               mixt_error *error)
{
    mixt_session *session;
    int32_t first = 3;
    MIXT_TRY(mixt_session_create(context, model, TEXT, &session, error));
    mixt_status status = mixt_session_feed(session, &first, 1, error);
    status = status == MIXT_OK ? run_texts(context, model, 48, out, error) : status;
    status = status == MIXT_OK ? mixt_session_feed(session, &first, 1, error) : status;
    if (status == MIXT_OK) {
        memcpy(out, mixt_session_logits(session), BLOCK_VOCABULARY * sizeof *out);
    }
    mixt_session_free(session);
    return status;
}

/* Every token to the same experts, which are the last rank's, or the first's. */
static mixt_status run_forced(mixt_context *context, mixt_model *model, const int *experts,
                              float *out, mixt_error *error)
{
    for (int i = 0; i < 3; i++) {
        MIXT_TRY(mixt_model_change_routing(model, MIXT_ROUTING_FORCE, -1, experts[i], error));
    }
    return run_texts(context, model, 0, out, error);
}

static mixt_status run_on_last(mixt_context *context, mixt_model *model, float *out,
                               mixt_error *error)
{
    return run_forced(context, model, (const int[]){11, 10, 9}, out, error);
}

static mixt_status run_on_first(mixt_context *context, mixt_model *model, float *out,
                                mixt_error *error)
{
    return run_forced(context, model, (const int[]){0, 1, 2}, out, error);
}

/* None chooses what rank 1 of 4 has. */
static mixt_status run_without(mixt_context *context, mixt_model *model, float *out,
                               mixt_error *error)
{
    for (int e = 3; e < 6; e++) {
        MIXT_TRY(mixt_model_change_routing(model, MIXT_ROUTING_MASK, -1, e, error));
    }
    return run_texts(context, model, 0, out, error);
}

static const head_work works[] = {run_batches, run_sweeps,   run_several,
                                  run_on_last, run_on_first, run_without};

static void same_bits_of_all_work(void **state)
{
    (void)state;
    static float alone[BLOCK_VALUES], spread[BLOCK_VALUES];
    static const int counts[] = {2, 3, 4, 5, 8, 12};
    mixt_error error = MIXT_ERROR_INIT;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        const char *path = i % 2 == 0 ? gguf : folder;
        mixt_model *model = must_open_model(path);
        memset(alone, 0, sizeof alone);
        must(works[i](scratch_context, model, alone, &error), &error);
        mixt_model_free(model);
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
            chunks = (int)((i + j) % 4);
            if (hub_has(counts[j]) &&
                !same_over(counts[j], take_part, &(spread_case){path, works[i], spread}, alone,
                           spread, BLOCK_VALUES)) {
                fail_msg("work %zu on %d ranks: other bits", i, counts[j]);
            }
        }
    }
}

/* Messages that are late, in another order among pairs of ranks: the same bits. */
static void late_messages_change_nothing(void **state)
{
    (void)state;
    hub_only();
    static float alone[BLOCK_VALUES], spread[BLOCK_VALUES];
    mixt_error error = MIXT_ERROR_INIT, errors[HUB_RANKS_MAX];
    mixt_model *model = must_open_model(gguf);
    must(run_batches(scratch_context, model, alone, &error), &error);
    mixt_model_free(model);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        hub_options options = {.count = 4, .seed = seed, .delay = 200};
        chunks = (int)seed;
        hub_run_with(&options, take_part, &(spread_case){gguf, run_batches, spread}, errors);
        must(errors[0].status, &errors[0]);
        assert_memory_equal(alone, spread, sizeof alone);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* What goes wrong                                                                              */

/* A rank that is lost in any message: all the others end with an error that names it. */
static void lost_ranks_end_all(void **state)
{
    (void)state;
    hub_only();
    static float spread[BLOCK_VALUES];
    static const int64_t messages[] = {1, 2, 3, 4, 5, 7, 10, 19, 40, 101, 250};
    mixt_error errors[HUB_RANKS_MAX];
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        for (int rank = 0; rank < 3; rank++) {
            hub_options options = {
                .count = 3, .kill_rank = rank, .kill_message = messages[i], .limit = 60};
            chunks = 1 + (int)i % 3;
            hub_run_with(&options, take_part, &(spread_case){gguf, run_batches, spread}, errors);
            for (int other = 0; other < 3; other++) {
                if (errors[other].status == MIXT_OK ||
                    (other != rank && strstr(errors[other].message, "rank ") == NULL)) {
                    fail_msg("rank %d lost in message %lld, rank %d: %s", rank,
                             (long long)messages[i], other, errors[other].message);
                }
            }
        }
    }
}

static mixt_status send(mixt_model *model, mixt_summons summons, mixt_error *error)
{
    return mixt_ranks_broadcast(model->ranks, MIXT_GROUP_ALL, 0, &summons, sizeof summons, error);
}

/* A plan that no rank has memory for is refused by all, and the work goes on without. */
static mixt_status announce_too_much(mixt_context *context, mixt_model *model, float *out,
                                     mixt_error *error)
{
    static const mixt_summons plans[] = {
        {.kind = MIXT_SUMMONS_PLAN, .tokens = INT64_MAX, .rows = 1},
        {.kind = MIXT_SUMMONS_PLAN, .tokens = 1 << 28, .rows = 3},
        {.kind = MIXT_SUMMONS_PLAN, .tokens = 0, .rows = 1},
        {.kind = MIXT_SUMMONS_PLAN, .tokens = 5, .rows = 1000},
    };
    MIXT_TRY(run_batches(context, model, out, error));
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        mixt_error refused = MIXT_ERROR_INIT;
        MIXT_TRY(send(model, plans[i], error));
        HUB_CHECK(mixt_ranks_agree(model->ranks, MIXT_OK, &refused) != MIXT_OK);
        HUB_CHECK(strstr(refused.message, "rank 1: ") == refused.message);
    }
    return run_batches(context, model, out, error);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static float alone[BLOCK_VALUES], spread[BLOCK_VALUES];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(gguf);
    must(run_batches(scratch_context, model, alone, &error), &error);
    mixt_model_free(model);
    assert_true(same_over(hub_ranks(3), take_part, &(spread_case){gguf, announce_too_much, spread},
                          alone, spread, BLOCK_VALUES));
}

static mixt_summons wrong; /* what rank 0 says in the next test */

static mixt_status say_wrong(mixt_context *context, mixt_model *model, float *out,
                             mixt_error *error)
{
    (void)context;
    (void)out;
    return send(model, wrong, error);
}

/* As many chunks as no rank has experts, of a plan that was announced. */
static mixt_status say_chunks(mixt_context *context, mixt_model *model, float *out,
                              mixt_error *error)
{
    MIXT_TRY(run_batches(context, model, out, error));
    return send(model, wrong, error);
}

static void wrong_chunks_end_a_worker(void **state)
{
    (void)state;
    hub_only();
    static float spread[BLOCK_VALUES];
    static const int64_t counts[] = {0, -1, 7, INT64_MAX};
    mixt_error errors[HUB_RANKS_MAX];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char line[80];
        wrong = (mixt_summons){.kind = MIXT_SUMMONS_LAYER, .tokens = 1, .rows = counts[i]};
        hub_run_with(&(hub_options){.count = 2}, take_part,
                     &(spread_case){gguf, say_chunks, spread}, errors);
        snprintf(line, sizeof line, "rank 0 asks for %lld chunks of 6 experts",
                 (long long)counts[i]);
        assert_int_equal(errors[1].status, MIXT_ERROR_FORMAT);
        assert_string_equal(errors[1].message, line);
    }
}

/* What no rank 0 says ends the worker in one line, before anything is computed. */
static void nonsense_ends_a_worker(void **state)
{
    (void)state;
    hub_only();
    static const mixt_summons all[] = {
        {.kind = MIXT_SUMMONS_KINDS},
        {.kind = -1},
        {.kind = MIXT_SUMMONS_LAYER, .layer = 0, .tokens = 1},
        {.kind = MIXT_SUMMONS_LAYER, .layer = 4, .tokens = 1},
        {.kind = MIXT_SUMMONS_LAYER, .layer = -1, .tokens = 1},
    };
    mixt_error errors[HUB_RANKS_MAX];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        wrong = all[i];
        hub_run_with(&(hub_options){.count = 2}, take_part, &(spread_case){gguf, say_wrong, NULL},
                     errors);
        assert_int_equal(errors[1].status, MIXT_ERROR_FORMAT);
        assert_non_null(strstr(errors[1].message, "rank 0 "));
    }
}

static void refused(mixt_status status, mixt_error *error)
{
    HUB_CHECK(status == MIXT_ERROR_UNSUPPORTED);
    HUB_CHECK(strstr(error->message, "spread over") != NULL);
    *error = (mixt_error)MIXT_ERROR_INIT;
}

/* What needs all experts in one place says so, or takes them from the files. */
static mixt_status know_the_whole(mixt_context *context, mixt_model *model, float *out,
                                  mixt_error *error)
{
    char hash[65];
    mixt_error no = MIXT_ERROR_INIT;
    const uint8_t drop[4 * 12] = {0};
    const mixt_convert_options convert = {.output = "/nonexistent/x.gguf"};
    const mixt_store_options store = {.always = true, .memory = 1 << 30};
    refused(mixt_model_save(model, "/nonexistent/x", &no), &no);
    refused(mixt_convert(context, model, &convert, NULL, NULL, &no), &no);
    refused(mixt_model_drop_experts(model, drop, &no), &no);
    refused(mixt_model_store(model, &store, &no), &no);
    refused(mixt_model_to_memory(model, &no), &no);
    refused(mixt_model_merge(model, "/nonexistent/x", &no), &no);
    MIXT_TRY(mixt_model_hash(model, hash, error));
    memcpy(out, hash, sizeof hash);
    mixt_model_info info;
    mixt_model_describe(model, &info);
    memcpy(out + sizeof hash, &info.parameters_total, sizeof info.parameters_total);
    return MIXT_OK;
}

static void the_whole_is_known(void **state)
{
    (void)state;
    static float known[200];
    mixt_error error = MIXT_ERROR_INIT;
    for (int file = 0; file < 2; file++) {
        const char *path = file == 0 ? folder : gguf;
        char hash[65];
        mixt_model_info info;
        mixt_model *model = must_open_model(path);
        must(mixt_model_hash(model, hash, &error), &error);
        mixt_model_describe(model, &info);
        mixt_model_free(model);
        hub_run(hub_ranks(3), take_part, &(spread_case){path, know_the_whole, known});
        hub_tell(known, sizeof known);
        assert_string_equal((const char *)known, hash);
        assert_memory_equal(known + sizeof hash, &info.parameters_total,
                            sizeof info.parameters_total);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Models that were made over ranks                                                            */

static mixt_model_options made_options(void)
{
    return test_block_options(BLOCK_VOCABULARY, TEXT);
}

static mixt_status take_part_in_made(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_model_options options = made_options();
    MIXT_TRY(mixt_context_create(NULL, &context, error));
    mixt_status status = mixt_ranks_arrange(ranks, 1, 0, options.experts, error);
    if (status == MIXT_OK) {
        status = mixt_model_create_spread(&options, 7, ranks, &model, error);
    }
    if (status == MIXT_OK && rank > 0) {
        status = mixt_model_work(context, model, error);
    } else if (status == MIXT_OK) {
        status = run_batches(context, model, user, error);
        status = status == MIXT_OK ? mixt_model_dismiss(model, error) : status;
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

static void made_models_have_the_same_bits(void **state)
{
    (void)state;
    static float alone[BLOCK_VALUES], spread[BLOCK_VALUES];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    mixt_model_options options = made_options();
    must(mixt_model_create(&options, 7, &model, &error), &error);
    must(run_batches(scratch_context, model, alone, &error), &error);
    mixt_model_free(model);
    for (int ranks = 2; ranks <= 8; ranks++) {
        assert_true(!hub_has(ranks) ||
                    same_over(ranks, take_part_in_made, spread, alone, spread, BLOCK_VALUES));
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Models that are trained on                                                                 */

/* Other options for a share of files: no more than the share is read, with the values that these
 * experts have in the whole model. */
static mixt_status take_options(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const mixt_model *whole = user;
    mixt_model *model = NULL;
    mixt_error refused = MIXT_ERROR_INIT;
    (void)rank;
    MIXT_TRY(mixt_model_open(folder, &model, error));
    mixt_model_options options = model->options;
    mixt_status status = mixt_ranks_arrange(ranks, 1, 0, options.experts, error);
    if (status == MIXT_OK) {
        status = mixt_model_spread(model, ranks, error);
    }
    options.experts++;
    HUB_CHECK(status != MIXT_OK || mixt_model_set_options(model, &options, &refused) != MIXT_OK);
    HUB_CHECK(status != MIXT_OK || model->weights == NULL);
    options.experts--;
    options.router.z_coefficient = 0.125;
    if (status == MIXT_OK) {
        status = mixt_model_set_options(model, &options, error);
    }
    HUB_CHECK(status != MIXT_OK || model->options.router.z_coefficient == 0.125);
    HUB_CHECK(status != MIXT_OK || model->weight_count < whole->weight_count);
    for (int i = 0; status == MIXT_OK && i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i], *q = &whole->parameters[i];
        size_t before =
            q->count == p->count ? 0 : q->count / (size_t)q->size[0] * (size_t)model->share.first;
        HUB_CHECK(memcmp(model->weights + p->offset, whole->weights + q->offset + before,
                         p->count * sizeof(float)) == 0);
    }
    mixt_model_free(model);
    return status;
}

static void shares_take_other_options(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *whole = must_open_model(folder);
    must(mixt_model_load(whole, &error), &error);
    for (int ranks = 2; ranks <= 4; ranks++) {
        if (hub_has(ranks)) {
            hub_run(ranks, take_options, whole);
        }
    }
    mixt_model_free(whole);
}

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    scratch_make_context(state);
    mixt_model_options o = made_options();
    mixt_model *model = test_new_model(&o, 0.1);
    folder = scratch_path("model");
    gguf = scratch_path("model.gguf");
    must(mixt_model_save(model, folder, &error), &error);
    mixt_model_free(model);
    model = must_open_model(folder);
    const mixt_convert_options to = {.output = gguf, .type = "Q8_0"};
    must(mixt_convert(scratch_context, model, &to, NULL, NULL, &error), &error);
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
        cmocka_unit_test(same_bits_of_every_family),
        cmocka_unit_test(same_bits_of_all_work),
        cmocka_unit_test(late_messages_change_nothing),
        cmocka_unit_test(lost_ranks_end_all),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(wrong_chunks_end_a_worker),
        cmocka_unit_test(nonsense_ends_a_worker),
        cmocka_unit_test(the_whole_is_known),
        cmocka_unit_test(made_models_have_the_same_bits),
        cmocka_unit_test(shares_take_other_options),
    };
    return cmocka_run_group_tests_name("spread", tests, set_up, tear_down);
}
