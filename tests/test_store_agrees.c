/* A pool that runs, the simulator of its report, and the atlas' measure of caches on the run's own
 * routes find the same hits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/trace.h"
#include "measure_fixture.h"
#include "model_checks.h"
#include "scratch.h"

enum {
    LAYERS = 4,
    EXPERTS = 16,
    CHOSEN = 3,
    ITEMS = LAYERS * EXPERTS,
    TOKENS = 500,
    VOCABULARY = 97
};
#define ROOM ((uint64_t)1 << 30)

static char *path;
static int32_t tokens[TOKENS];
static uint16_t routes[LAYERS][TOKENS][CHOSEN];

/* The first `prompt` tokens at once, the others one by one; notes where these went. */
static void generate(const mixt_model *model, int prompt)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    must(mixt_session_create(scratch_context, model, TOKENS, &session, &error), &error);
    for (int i = 0; i < TOKENS; i++) {
        int count = i == 0 ? prompt : 1;
        must(mixt_session_feed(session, tokens + i, count, &error), &error);
        i += count - 1;
        const int32_t *ids;
        const float *weights;
        mixt_session_routes(session, &ids, &weights);
        for (int place = 0; place < LAYERS * CHOSEN; place++) {
            routes[place / CHOSEN][i][place % CHOSEN] = (uint16_t)ids[place];
        }
    }
    mixt_session_free(session);
}

static uint64_t limit_for(int64_t slots)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    const mixt_store_options options = {.memory = ROOM, .always = true};
    mixt_model *model = must_open_model(path);
    must(mixt_model_store(model, &options, &error), &error);
    mixt_session *session;
    must(mixt_session_create(scratch_context, model, TOKENS, &session, &error), &error);
    assert_true(mixt_store_describe(model, &s));
    uint64_t limit =
        s.resident_bytes + s.other_bytes + (uint64_t)slots * (s.pool_bytes / (uint64_t)s.slots);
    mixt_session_free(session);
    mixt_model_free(model);
    return limit;
}

/* Share of hits of a run; the curve's is the same. */
static double run(const char *policy, int64_t slots, int prompt)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_store_statistics s;
    mixt_store_point *points;
    int count, now;
    const mixt_store_options options = {.memory = limit_for(slots),
                                        .policy = policy,
                                        .prefetch = MIXT_STORE_PREFETCH_NEVER,
                                        .always = true};
    mixt_model *model = must_open_model(path);
    must(mixt_model_store(model, &options, &error), &error);
    generate(model, prompt);
    assert_true(mixt_store_describe(model, &s));
    assert_int_equal(s.slots, slots);
    must(mixt_store_curve(model, &points, &count, &now, &error), &error);
    assert_int_equal(points[now].slots, slots);
    assert_int_equal(lround(points[now].own * (double)s.requests), s.hits);
    for (int i = 0; i < count; i++) {
        double most = points[i].optimum + 1e-9;
        assert_true(points[i].own <= most && points[i].lru <= most && points[i].lfu <= most);
        assert_true(i == 0 || points[i].slots > points[i - 1].slots);
        assert_true(i == 0 || points[i].own >= points[i - 1].own);
    }
    char *text;
    must(mixt_store_report(model, &text, &error), &error);
    assert_non_null(strstr(text, s.policy));
    free(text);
    free(points);
    mixt_model_free(model);
    return (double)s.hits / (double)s.requests;
}

static mixt_trace *trace_of_run(void)
{
    const mixt_trace_info info = {.tokens = TOKENS,
                                  .layers = LAYERS,
                                  .experts = EXPERTS,
                                  .experts_per_token = CHOSEN,
                                  .domains = 1};
    mixt_trace *trace = mixt_trace_allocate(&info, 1, 1);
    mixt_error error = MIXT_ERROR_INIT;
    assert_non_null(trace);
    trace->domain_names[0] = "run";
    trace->vocab_offsets[1] = 1;
    trace->vocab_bytes[0] = 'x';
    for (int layer = 0; layer < LAYERS; layer++) {
        trace->layer_numbers[layer] = layer;
    }
    memcpy(trace->experts, routes, sizeof routes);
    must(mixt_trace_check(trace, "run", &error), &error);
    return trace;
}

/* Here a token works with 12 of 64 experts. Of lru and lfu the measure sees a token's choices one
 * after the other, which matters in the smallest pools (by 2 % at 20 slots). */
static void the_measure_agrees(void **state)
{
    (void)state;
    static const char *const policies[] = {"lru", "lfu", "fading"};
    static const int words[] = {0, 1, 3}; /* in the measure's table */
    static const int64_t slots[] = {20, 32, 42, 51};
    mixt_table *table = NULL;
    for (int i = 0; i < 4; i++) {
        for (int policy = i == 0 ? 2 : 0; policy < 3; policy++) {
            double hits = run(policies[policy], slots[i], 1);
            if (table == NULL) { /* routes are the same whatever the pool */
                mixt_trace *trace = trace_of_run();
                table = measure_of(trace, "cache", NULL);
                mixt_trace_free(trace);
            }
            const double keys[] = {-1, words[policy], (double)slots[i]};
            double measured = measure_cell(table, keys, 3, "hits");
            if (!(fabs(measured - hits) <= (policy == 2 ? 0.001 : 0.01))) {
                fail_msg("%s, %d slots: the pool %f, the measure %f", policies[policy],
                         (int)slots[i], hits, measured);
            }
        }
    }
    mixt_table_free(table);
}

static void the_curve_agrees_behind_a_prompt(void **state)
{
    (void)state;
    static const int64_t slots[] = {EXPERTS, 25, 40, ITEMS};
    for (int i = 0; i < 4; i++) {
        run("lru", slots[i], 60);
        run("lfu", slots[i], 60);
        run("fading", slots[i], 60);
    }
}

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    scratch_make_context(state);
    mixt_model_options o = test_block_options(VOCABULARY, TOKENS);
    o.layers = LAYERS;
    o.ffn_size = 32;
    o.shared_ffn_size = 0;
    o.experts = EXPERTS;
    o.experts_per_token = CHOSEN;
    mixt_model *model = test_new_model(&o, 0.1);
    path = scratch_path("model");
    must(mixt_model_save(model, path, &error), &error);
    mixt_model_free(model);
    for (int i = 0; i < TOKENS; i++) { /* stretches of few different tokens */
        tokens[i] = (i / 90 * 31 + i * i % 7 * 3) % VOCABULARY;
    }
    return 0;
}

static int tear_down(void **state)
{
    free(path);
    return scratch_remove_context(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_measure_agrees),
        cmocka_unit_test(the_curve_agrees_behind_a_prompt),
    };
    return cmocka_run_group_tests_name("store_agrees", tests, set_up, tear_down);
}
