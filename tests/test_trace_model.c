/* Traces that models write: what is in them is what the model says elsewhere. */
#define _GNU_SOURCE /* memmem */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/model.h"
#include "atlas/trace.h"
#include "atlas_trace.h"
#include "core/files.h"
#include "corpus/data.h"
#include "formats/safetensors.h"
#include "train_setup.h"

#define SIGNALS "tests/fixtures/atlas/signals.safetensors"

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/mixt-trace-model-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int leave_folder(void **state)
{
    (void)state;
    return mixt_folder_remove(folder, NULL) != MIXT_OK;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
static mixt_trace *read_trace(const char *path)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace;
    if (mixt_trace_open(path, &trace, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return trace;
}

static void assert_metadata(const char *path, const char *key, const char *value)
{
    mixt_safetensors *file;
    assert_int_equal(mixt_safetensors_open(path, &file, NULL), MIXT_OK);
    const char *found = mixt_safetensors_metadata(file, key);
    if (value == NULL) {
        assert_null(found);
    } else {
        assert_non_null(found);
        assert_string_equal(found, value);
    }
    mixt_safetensors_close(file);
}

/* Halves that begin at an odd byte cannot be read where they lie: the vocabulary's bytes stand
 * before them, and are one more. */
static void test_odd_file(void **state)
{
    (void)state;
    char *bytes;
    size_t length;
    uint64_t header;
    assert_int_equal(mixt_file_read(SIGNALS, 1 << 20, &bytes, &length, NULL), MIXT_OK);
    memcpy(&header, bytes, 8);
    static const char odd[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}";
    mixt_safetensors *file;
    assert_int_equal(mixt_safetensors_open(SIGNALS, &file, NULL), MIXT_OK);
    mixt_buffer out = {0};
    mixt_buffer_append(&out, &header, 8);
    mixt_buffer_text(&out, odd);
    for (size_t i = 0; i < mixt_safetensors_count(file); i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(file, i);
        mixt_buffer_format(&out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name,
                           tensor->dtype_name);
        for (uint32_t j = 0; j < tensor->rank; j++) {
            mixt_buffer_format(&out, "%s%lld", j == 0 ? "" : ",", (long long)tensor->shape[j]);
        }
        uint64_t begin = tensor->offset - 8 - header + 1;
        mixt_buffer_format(&out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                           (unsigned long long)(begin + tensor->bytes));
    }
    const char *metadata = memmem(bytes, length, "\"__metadata__\":{", 16);
    assert_non_null(metadata);
    mixt_buffer_text(&out, ",");
    mixt_buffer_append(&out, metadata, (size_t)(strchr(metadata, '}') + 1 - metadata));
    mixt_buffer_text(&out, "}");
    while ((out.length - 8) % 8 != 0) {
        mixt_buffer_append(&out, " ", 1);
    }
    uint64_t own = out.length - 8;
    memcpy(out.data, &own, 8);
    mixt_buffer_append(&out, "x", 1);
    mixt_buffer_append(&out, bytes + 8 + header, length - 8 - header);
    const char *path = in_folder("odd.safetensors");
    assert_int_equal(mixt_file_replace(path, out.data, out.length, NULL), MIXT_OK);
    atlas_trace_refused(path, "logits: begins at an odd byte");
    mixt_safetensors_close(file);
    mixt_buffer_free(&out);
    free(bytes);
}

/* -- A trace of a model whose layers choose different numbers of experts ---------------------- */

/* Every id and weight is what a session has for the same tokens, none behind a layer's own. */
static void compare_with_session(const mixt_trace *trace, train_setup *setup)
{
    const mixt_data_split *split = mixt_data_split_of(setup->data, true);
    mixt_session *session;
    uint64_t at = 0;
    assert_int_equal(mixt_session_create(setup->context, setup->model, 32, &session, NULL), 0);
    for (size_t d = 0; d < split->document_count; d++) {
        for (size_t j = 0; j < split->documents[d].length; j++) {
            int32_t token = mixt_data_token(split, split->documents[d].start + j);
            const int32_t *ids;
            const float *weights;
            if (j % 32 == 0) {
                mixt_session_truncate(session, 0);
            }
            assert_int_equal(mixt_session_feed(session, &token, 1, NULL), MIXT_OK);
            mixt_session_routes(session, &ids, &weights);
            if (j == 0) { /* the separator is no text */
                continue;
            }
            assert_int_equal(trace->tokens[at], token);
            for (int i = 0; i < 2 * 3; i++) {
                uint16_t expert = mixt_trace_experts(trace, i / 3, at)[i % 3];
                uint16_t half;
                mixt_f32_to_f16(&weights[i], &half, 1);
                assert_int_equal(expert, ids[i] < 0 ? MIXT_TRACE_NONE : ids[i]);
                assert_int_equal(expert == MIXT_TRACE_NONE, i % 3 >= (i < 3 ? 1 : 3));
                assert_int_equal(mixt_trace_weights(trace, i / 3, at)[i % 3], half);
            }
            at++;
        }
    }
    assert_int_equal(at, trace->info.tokens);
    mixt_session_free(session);
}

/* What a router chose by logits that are not finite is not written. */
static void test_broken_router(void **state)
{
    (void)state;
    train_setup setup;
    mixt_error error = MIXT_ERROR_INIT;
    train_setup_open(&setup, 1, NULL);
    mixt_model *broken = setup.model;
    broken->weights[broken->parameters[mixt_model_find(broken, MIXT_SLOT_ROUTER, 1)].offset] = NAN;
    const char *path = in_folder("broken.safetensors");
    mixt_trace_options options = {
        .output = path, .model_name = "tiny", .window = 32, .heldout = true};
    assert_int_equal(mixt_trace_write(setup.context, broken, setup.data, setup.tokenizer, &options,
                                      NULL, NULL, &error),
                     MIXT_ERROR_NUMERIC);
    assert_non_null(strstr(error.message, "layer 1: the router's logits are not finite"));
    assert_int_not_equal(access(path, F_OK), 0);
    train_setup_close(&setup);
}

/* The token that is first read latest in the held-out texts, and how many were read by then. */
static int32_t latest_token(const mixt_data *data, size_t *read)
{
    const mixt_data_split *split = mixt_data_split_of(data, true);
    bool seen[512] = {false};
    int32_t latest = -1;
    for (size_t i = 0; i < split->token_count; i++) {
        int32_t token = mixt_data_token(split, i);
        assert_in_range(token, 0, 511);
        if (!seen[token]) {
            seen[token] = true;
            latest = token;
            *read = i + 1;
        }
    }
    return latest;
}

/* One bad token is found by its number among those read, behind texts that do not fill windows. Its
 * NaN may show in the rows before it, which attention multiplies by zero, but in its window alone.
 */
static void test_broken_token(void **state)
{
    (void)state;
    train_setup setup;
    mixt_error error = MIXT_ERROR_INIT;
    size_t read = 0;
    train_setup_open(&setup, 1, NULL);
    mixt_model *broken = setup.model;
    int32_t token = latest_token(setup.data, &read);
    assert_true(read > 32);
    const mixt_parameter *embed = &broken->parameters[mixt_model_find(broken, MIXT_SLOT_EMBED, -1)];
    broken->weights[embed->offset + (size_t)(token * embed->size[1])] = NAN;
    mixt_trace_options options = {.output = in_folder("broken.safetensors"),
                                  .model_name = "tiny",
                                  .window = 32,
                                  .heldout = true};
    assert_int_equal(mixt_trace_write(setup.context, broken, setup.data, setup.tokenizer, &options,
                                      NULL, NULL, &error),
                     MIXT_ERROR_NUMERIC);
    const char *number = strstr(error.message, "at token ");
    size_t found = number != NULL ? (size_t)atoi(number + strlen("at token ")) : 0;
    if (found + 32 <= read || found > read) {
        fail_msg("%s: not in the window of token %zu", error.message, read);
    }
    train_setup_close(&setup);
}

static void test_uneven_model(void **state)
{
    (void)state;
    train_setup setup;
    mixt_error error = MIXT_ERROR_INIT;
    train_setup_open(&setup, 1, NULL);
    assert_int_equal(mixt_model_change_routing(setup.model, MIXT_ROUTING_TOP_K, 0, 1, &error), 0);
    assert_int_equal(mixt_model_change_routing(setup.model, MIXT_ROUTING_TOP_K, 1, 3, &error), 0);
    const char *path = in_folder("uneven.safetensors");
    mixt_trace_options options = {
        .output = path, .model_name = "tiny", .window = 32, .heldout = true, .logits = true};
    if (mixt_trace_write(setup.context, setup.model, setup.data, setup.tokenizer, &options, NULL,
                         NULL, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_metadata(path, "version", "2");
    assert_metadata(path, "experts_per_token", "3");
    assert_metadata(path, "experts_per_layer", "[1, 3]");
    mixt_trace *trace = read_trace(path);
    assert_true(trace->has_none && !mixt_trace_has_dropped(trace));
    compare_with_session(trace, &setup);
    mixt_trace_free(trace);
    train_setup_close(&setup);
}

/* -- What a trace holds beside choices -------------------------------------------------------- */

static mixt_trace *trace_of(train_setup *setup, const mixt_model *model, bool heldout)
{
    mixt_error error = MIXT_ERROR_INIT;
    const char *path = in_folder("signals.safetensors");
    mixt_trace_options options = {.output = path,
                                  .model_name = "tiny",
                                  .window = 32,
                                  .heldout = heldout,
                                  .logits = true,
                                  .ahead = true};
    if (mixt_trace_write(setup->context, model, setup->data, setup->tokenizer, &options, NULL, NULL,
                         &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return read_trace(path);
}

/* Tensors that transformers gave for a model, see tests/reference/trace_model.py. */
static void *expected_tensor(const mixt_safetensors *file, const char *name)
{
    const mixt_tensor_info *tensor = mixt_safetensors_find(file, name);
    assert_non_null(tensor);
    void *values = malloc((size_t)tensor->bytes);
    assert_int_equal(mixt_safetensors_read(file, tensor, 0, (size_t)tensor->bytes, values, NULL),
                     MIXT_OK);
    return values;
}

static void assert_near(double got, double expected, double absolute)
{
    if (!(fabs(got - expected) <= absolute + 1e-3 * fabs(expected))) { /* halves have 11 bits */
        fail_msg("%g, expected %g", got, expected);
    }
}

static void compare_with_transformers(const mixt_trace *trace, const char *folder_of_model)
{
    char path[128];
    mixt_safetensors *file;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder_of_model);
    assert_int_equal(mixt_safetensors_open(path, &file, NULL), MIXT_OK);
    int32_t *tokens = expected_tensor(file, "tokens");
    int32_t *document = expected_tensor(file, "document");
    int32_t *predicted = expected_tensor(file, "predicted");
    int32_t *experts = expected_tensor(file, "experts"), *ahead = expected_tensor(file, "ahead");
    float *margins = expected_tensor(file, "margins");
    float *entropies = expected_tensor(file, "entropies");
    uint64_t count = mixt_safetensors_find(file, "tokens")->bytes / 4;
    size_t k = (size_t)trace->info.experts_per_token;
    assert_int_equal(trace->info.tokens, count);
    assert_int_equal(trace->info.layers * (int)count,
                     mixt_safetensors_find(file, "margins")->bytes / 4);
    assert_memory_equal(trace->tokens, tokens, count * 4);
    assert_memory_equal(trace->document, document, count * 4);
    assert_memory_equal(trace->predicted, predicted, count * 4);
    for (size_t row = 0; row < count * (size_t)trace->info.layers; row++) {
        assert_near((double)mixt_trace_weight(trace->margins[row]), (double)margins[row], 2e-5);
        assert_near((double)mixt_trace_weight(trace->entropies[row]), (double)entropies[row], 2e-5);
        for (size_t c = 0; c < k; c++) {
            int32_t foreseen = ahead[row * k + c];
            assert_int_equal(trace->experts[row * k + c], experts[row * k + c]);
            assert_int_equal(trace->ahead[row * k + c],
                             foreseen < 0 ? MIXT_TRACE_NONE : (uint16_t)foreseen);
        }
    }
    mixt_safetensors_close(file);
    free(tokens);
    free(document);
    free(predicted);
    free(experts);
    free(ahead);
    free(margins);
    free(entropies);
}

static void test_transformers(void **state)
{
    (void)state;
    static const char *const models[] = {"tests/fixtures/atlas/olmoe",
                                         "tests/fixtures/atlas/deepseek_v3"};
    static const char *const texts[] = {"tests/fixtures/atlas/text.jsonl"};
    train_setup setup;
    mixt_corpus *corpus;
    mixt_data *data;
    train_setup_open(&setup, 2, NULL);
    assert_int_equal(mixt_corpus_open(texts, 1, &corpus, NULL), MIXT_OK);
    assert_int_equal(mixt_data_create(corpus, setup.tokenizer, 0, &data, NULL), MIXT_OK);
    mixt_data_free(setup.data);
    setup.data = data;
    for (int i = 0; i < 2; i++) {
        mixt_model *model;
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_model_open(models[i], &model, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        mixt_trace *trace = trace_of(&setup, model, false);
        compare_with_transformers(trace, models[i]);
        mixt_trace_free(trace);
        mixt_model_free(model);
    }
    mixt_corpus_free(corpus);
    train_setup_close(&setup);
}

static void change_values(mixt_model *model, mixt_slot slot, int layer, const float *from)
{
    const mixt_parameter *p = &model->parameters[mixt_model_find(model, slot, layer)];
    size_t count = (size_t)p->size[0] * (p->rank > 1 ? (size_t)p->size[1] : 1) *
                   (p->rank > 2 ? (size_t)p->size[2] : 1);
    for (size_t i = 0; i < count; i++) {
        model->weights[p->offset + i] = from != NULL ? from[i] : 0;
    }
}

/* Where layers change nothing, all routers read the same, and each chooses ahead what it chooses;
 * where they do, a router with the weights of the one before it chooses ahead what that one chose.
 */
static void test_ahead(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_model *model = setup.model;
    mixt_trace *trace = trace_of(&setup, model, true);
    size_t tokens = (size_t)trace->info.tokens, k = (size_t)trace->info.experts_per_token;
    uint16_t *second = trace->experts + tokens * k;
    assert_int_equal(trace->info.layers, 2);
    assert_memory_not_equal(trace->ahead + tokens * k, second, tokens * k * 2);
    for (size_t i = 0; i < tokens * k; i++) {
        assert_int_equal(trace->ahead[i], MIXT_TRACE_NONE);
    }
    mixt_trace_free(trace);

    const mixt_parameter *first = &model->parameters[mixt_model_find(model, MIXT_SLOT_ROUTER, 0)];
    float *kept = malloc((size_t)(first->size[0] * first->size[1]) * sizeof *kept);
    const mixt_parameter *own = &model->parameters[mixt_model_find(model, MIXT_SLOT_ROUTER, 1)];
    memcpy(kept, model->weights + own->offset,
           (size_t)(first->size[0] * first->size[1]) * sizeof *kept);
    change_values(model, MIXT_SLOT_ROUTER, 1, model->weights + first->offset);
    trace = trace_of(&setup, model, true);
    assert_memory_equal(trace->ahead + tokens * k, trace->experts, tokens * k * 2);
    mixt_trace_free(trace);

    change_values(model, MIXT_SLOT_ROUTER, 1, kept);
    for (int layer = 0; layer < 2; layer++) {
        change_values(model, MIXT_SLOT_O, layer, NULL);
        change_values(model, MIXT_SLOT_EXPERT_DOWN, layer, NULL);
    }
    trace = trace_of(&setup, model, true);
    second = trace->experts + tokens * k;
    assert_memory_equal(trace->ahead + tokens * k, second, tokens * k * 2);
    assert_memory_not_equal(trace->experts, second, tokens * k * 2);
    mixt_trace_free(trace);
    free(kept);
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_router), cmocka_unit_test(test_broken_token),
        cmocka_unit_test(test_uneven_model),  cmocka_unit_test(test_odd_file),
        cmocka_unit_test(test_transformers),  cmocka_unit_test(test_ahead),
    };
    return cmocka_run_group_tests_name("trace_model", tests, enter_folder, leave_folder);
}
