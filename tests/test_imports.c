/* Routes of a tiny model as transformers, vLLM and Megatron recorded them
 * (tests/reference/imports.py, with the scripts of docs/traces.md), imported, against what mixt's
 * own session routes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "atlas/trace.h"
#include "formats/dtype.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/imports/"
enum { LAYERS = 2, EXPERTS = 8, CHOICES = 2 };

/* The program's arrays as a trace. */
static mixt_trace *import(const char *arrays)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace;
    mixt_tokenizer *tokenizer = open_tokenizer(FIXTURES "model");
    char *path = scratch_path("imported.safetensors");
    must(mixt_trace_import(arrays, tokenizer, path, &error), &error);
    must(mixt_trace_open(path, &trace, &error), &error);
    mixt_tokenizer_free(tokenizer);
    free(path);
    assert_int_equal(trace->info.layers, LAYERS);
    assert_int_equal(trace->info.experts, EXPERTS);
    assert_int_equal(trace->info.experts_per_token, CHOICES);
    assert_int_equal(trace->layer_numbers[0], 0);
    assert_int_equal(trace->layer_numbers[1], 1);
    return trace;
}

/* Is the expert at this place, or where bfloat16 hides which of two is better, at any? */
static bool is_chosen(const int32_t *ids, int place, int expert, bool ordered)
{
    bool found = false;
    for (int i = 0; i < CHOICES; i++) {
        found = found || (ids[i] == expert && (i == place || !ordered));
    }
    return found;
}

/* Every token of the trace, document by document: the same experts, in the same order unless it was
 * made of bfloat16, and the same weights where they were recorded. */
static void compare(const mixt_trace *trace, const mixt_model *model, bool weights, bool ordered)
{
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_session_create(scratch_context, model, 64, &session, &error), &error);
    for (uint64_t t = 0; t < trace->info.tokens; t++) {
        const int32_t *ids;
        const float *shares;
        if (t == 0 || trace->document[t] != trace->document[t - 1]) {
            mixt_session_truncate(session, 0);
        }
        must(mixt_session_feed(session, &trace->tokens[t], 1, &error), &error);
        mixt_session_routes(session, &ids, &shares);
        for (int i = 0; i < LAYERS * CHOICES; i++) {
            int layer = i / CHOICES, place = i % CHOICES;
            assert_true(is_chosen(ids + layer * CHOICES, place,
                                  mixt_trace_experts(trace, layer, t)[place], ordered));
            double share = (double)mixt_trace_weight(mixt_trace_weights(trace, layer, t)[place]);
            assert_true(fabs(share - (weights ? (double)shares[i] : 0.5)) < 1e-3);
        }
    }
    mixt_session_free(session);
}

static void check_program(const char *arrays, uint64_t documents, bool weights, bool logits)
{
    bool ordered = !logits || weights; /* Megatron writes its logits in bfloat16 */
    mixt_model *model = must_open_model(FIXTURES "model");
    mixt_trace *trace = import(arrays);
    assert_int_equal(trace->info.documents, documents);
    assert_int_equal(trace->logits != NULL, logits);
    compare(trace, model, weights, ordered);
    mixt_trace_free(trace);
    mixt_model_free(model);
}

static void test_vllm(void **state)
{
    (void)state;
    check_program(FIXTURES "vllm.safetensors", 4, false, false);
}

/* Two steps of two micro-batches of four sequences. */
static void test_megatron(void **state)
{
    (void)state;
    check_program(FIXTURES "megatron.safetensors", 16, false, true);
}

/* What the script makes of logits is what mixt writes into its own trace of the same tokens: the
 * texts without their first token, the separator, which no trace of mixt has. */
static void test_transformers(void **state)
{
    (void)state;
    check_program(FIXTURES "transformers.safetensors", 4, true, true);
}

static void near_half(uint16_t found, uint16_t wanted, double tolerance)
{
    double a = (double)mixt_trace_weight(found), b = (double)mixt_trace_weight(wanted);
    assert_true(fabs(a - b) <= tolerance * fmax(1, fabs(b)));
}

/* The texts of tests/reference/imports.py, traced by mixt. */
static mixt_trace *trace_texts(const mixt_model *model)
{
    static const char text[] =
        "{\"domain\": \"code\", \"text\": \"int main(void) { return 0; }\"}\n"
        "{\"domain\": \"code\", \"text\": \"for (i = 0; i < 10; i++) sum += i * i;\"}\n"
        "{\"domain\": \"text\", \"text\": \"The river rose in the night.\"}\n"
        "{\"domain\": \"text\", \"text\": \"Nobody saw the bird that sang behind the old "
        "wall.\"}\n";
    mixt_error error = MIXT_ERROR_INIT;
    char *texts = scratch_path("texts.jsonl"), *path = scratch_path("own.safetensors");
    const char *paths[] = {texts};
    mixt_tokenizer *tokenizer = open_tokenizer(FIXTURES "model");
    mixt_corpus *corpus;
    mixt_data *data;
    mixt_trace *trace;
    const mixt_trace_options options = {
        .output = path, .model_name = "tiny", .window = 64, .logits = true};
    write_file(texts, text, sizeof text - 1);
    must(mixt_corpus_open(paths, 1, &corpus, &error), &error);
    must(mixt_data_create(corpus, tokenizer, 0, &data, &error), &error);
    must(mixt_trace_write(scratch_context, model, data, tokenizer, &options, NULL, NULL, &error),
         &error);
    must(mixt_trace_open(path, &trace, &error), &error);
    mixt_data_free(data);
    mixt_corpus_free(corpus);
    mixt_tokenizer_free(tokenizer);
    free(texts);
    free(path);
    return trace;
}

static void test_own_trace(void **state)
{
    (void)state;
    mixt_model *model = must_open_model(FIXTURES "model");
    mixt_trace *theirs = import(FIXTURES "transformers.safetensors"), *own = trace_texts(model);
    uint64_t at = 0;
    for (uint64_t t = 0; t < theirs->info.tokens; t++) {
        if (t == 0 || theirs->document[t] != theirs->document[t - 1]) {
            continue; /* the separator */
        }
        assert_true(at < own->info.tokens);
        assert_int_equal(own->tokens[at], theirs->tokens[t]);
        assert_int_equal(own->document[at], theirs->document[t]);
        assert_int_equal(own->domain[at], theirs->domain[t]);
        assert_int_equal(own->predicted[at], theirs->predicted[t]);
        for (int layer = 0; layer < LAYERS; layer++) {
            uint64_t a = (uint64_t)layer * own->info.tokens + at;
            uint64_t b = (uint64_t)layer * theirs->info.tokens + t;
            for (int i = 0; i < CHOICES; i++) {
                assert_int_equal(own->experts[a * CHOICES + i], theirs->experts[b * CHOICES + i]);
            }
            near_half(own->margins[a], theirs->margins[b], 2e-3);
            near_half(own->entropies[a], theirs->entropies[b], 2e-3);
            for (int e = 0; e < EXPERTS; e++) {
                near_half(own->logits[a * EXPERTS + e], theirs->logits[b * EXPERTS + e], 2e-3);
            }
        }
        at++;
    }
    assert_int_equal(at, own->info.tokens);
    mixt_trace_free(theirs);
    mixt_trace_free(own);
    mixt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vllm),
        cmocka_unit_test(test_megatron),
        cmocka_unit_test(test_transformers),
        cmocka_unit_test(test_own_trace),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
