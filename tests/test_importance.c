/* Importance matrices: llama.cpp's two forms of file (tests/reference/importance.py), files that
 * are not what they say, and the number of chunks. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "formats/gguf.h"
#include "mixt.h"
#include "model/importance.h"
#include "model/model.h"
#include "scratch.h"
#include "train_setup.h"

#define FIXTURES "tests/fixtures/importance/"

static mixt_importance *open_importance(const char *path)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_importance *importance;
    must(mixt_importance_open(path, &importance, &error), &error);
    return importance;
}

static void refused(const char *path, const char *part)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_importance *importance = NULL;
    assert_int_not_equal(mixt_importance_open(path, &importance, &error), MIXT_OK);
    assert_null(importance);
    if (strstr(error.message, part) == NULL || strstr(error.message, path) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, error.message);
    }
}

/* Both forms say the same, but of the expert that no token reached: nothing is known in one, all
 * columns weigh 1 in the other. */
static void test_forms(void **state)
{
    (void)state;
    mixt_importance *new = open_importance(FIXTURES "experts.gguf");
    mixt_importance *old = open_importance(FIXTURES "experts.dat");
    float a[8], b[8];
    assert_int_equal(new->chunk_count, 3);
    assert_int_equal(new->chunk_size, 512);
    assert_int_equal(old->chunk_count, 3);
    assert_int_equal(old->chunk_size, 0);
    const char *dense = "blk.0.attn_q.weight", *stack = "blk.0.ffn_gate_exps.weight";
    for (int matrix = -1; matrix < 4; matrix++) {
        const char *name = matrix < 0 ? dense : stack;
        int columns = matrix < 0 ? 8 : 6;
        bool known = mixt_importance_of(new, name, matrix < 0 ? 0 : matrix, columns, a);
        assert_true(mixt_importance_of(old, name, matrix < 0 ? 0 : matrix, columns, b));
        assert_int_equal(known, matrix != 2);
        for (int i = 0; i < columns; i++) {
            float expected = known ? a[i] : 1;
            assert_true(expected > 0 && fabsf(b[i] / expected - 1) < 1e-6F);
        }
    }
    const mixt_importance *both[2] = {new, old};
    for (int i = 0; i < 2; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_importance_check(both[i], dense, 1, 8, &error), MIXT_OK);
        assert_int_equal(mixt_importance_check(both[i], stack, 4, 6, &error), MIXT_OK);
        assert_int_equal(mixt_importance_check(both[i], "other", 3, 3, &error), MIXT_OK);
        assert_false(mixt_importance_of(both[i], "other", 0, 8, a));
        assert_false(mixt_importance_of(both[i], stack, 4, 6, a));
        assert_false(mixt_importance_of(both[i], stack, 0, 7, a));
        assert_int_equal(mixt_importance_check(both[i], stack, 5, 6, &error), MIXT_ERROR_FORMAT);
        assert_non_null(strstr(error.message, stack));
        assert_int_equal(mixt_importance_check(both[i], dense, 1, 9, NULL), MIXT_ERROR_FORMAT);
    }
    mixt_importance_free(new);
    mixt_importance_free(old);
}

/* What is read from either form is written as GGUF, chunks and all. */
static void test_round_trip(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char *path = scratch_path("again.gguf");
    for (int old = 0; old < 2; old++) {
        mixt_importance *from =
            open_importance(old ? FIXTURES "experts.dat" : FIXTURES "experts.gguf");
        must(mixt_importance_save(from, path, &error), &error);
        mixt_importance *again = open_importance(path);
        assert_int_equal(again->count, 2);
        assert_int_equal(again->chunk_count, 3);
        assert_int_equal(again->chunk_size, from->chunk_size);
        for (int e = 0; e < 4; e++) {
            float a[6] = {0}, b[6] = {0};
            const char *name = "blk.0.ffn_gate_exps.weight";
            assert_int_equal(mixt_importance_of(from, name, e, 6, a),
                             mixt_importance_of(again, name, e, 6, b));
            assert_memory_equal(a, b, sizeof a);
        }
        mixt_importance_free(from);
        mixt_importance_free(again);
    }
    free(path);
}

static void put_i32(char *at, int32_t value)
{
    memcpy(at, &value, sizeof value);
}

/* An older file cut anywhere, and one with each of its numbers wrong. */
static void test_bad_older_files(void **state)
{
    (void)state;
    size_t length;
    char *file = read_file(FIXTURES "experts.dat", &length), *path = scratch_path("bad.dat");
    size_t entries_end = length - 16, chunks_end = length - 12;
    for (size_t cut = 0; cut < length; cut++) {
        write_file(path, file, cut);
        if (cut == entries_end || cut == chunks_end) { /* as older programs wrote them */
            mixt_importance *importance = open_importance(path);
            assert_int_equal(importance->chunk_count, cut == entries_end ? 0 : 3);
            mixt_importance_free(importance);
        } else {
            refused(path, cut < 4 ? "neither GGUF" : cut < entries_end ? "ends inside" : "behind");
        }
    }
    const size_t name = 4, calls = name + 4 + 19, values = calls + 4, first = values + 4;
    const struct {
        size_t at;
        int32_t value;
        const char *part;
    } wrong[] = {
        {0, 0, "neither GGUF"},
        {0, -2, "neither GGUF"},
        {0, INT32_MAX, "neither GGUF"},
        {0, 1, "behind its 1 entries"},
        {0, 3, "entry 3"},
        {name, 0, "a name of 0 bytes"},
        {name, -1, "a name of -1 bytes"},
        {name, INT32_MAX, "a name of 2147483647 bytes"},
        {name + 4, 0, "NUL"},
        {values, 0, "blk.0.attn_q.weight: 0 values"},
        {values, -8, "-8 values"},
        {values, INT32_MAX, "ends inside its values"},
        {first, 0x7fc00000, "not all sums are finite"},
        {first, 0x7f800000, "not all sums are finite"},
        {first, (int32_t)0xbf800000, "not all sums are finite"},
        {entries_end, -1, "behind"},
        {chunks_end, -1, "behind"},
        {chunks_end, INT32_MAX, "behind"},
        {chunks_end, 7, "behind"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int32_t right;
        memcpy(&right, file + wrong[i].at, sizeof right);
        put_i32(file + wrong[i].at, wrong[i].value);
        write_file(path, file, length);
        refused(path, wrong[i].part);
        put_i32(file + wrong[i].at, right);
    }
    for (int32_t none = 0; none > -2; none--) { /* llama.cpp: the values are means already */
        float a[8], expected[8];
        put_i32(file + calls, none);
        write_file(path, file, length);
        memcpy(expected, file + first, sizeof expected);
        mixt_importance *importance = open_importance(path);
        assert_true(mixt_importance_of(importance, "blk.0.attn_q.weight", 0, 8, a));
        assert_memory_equal(a, expected, sizeof a);
        mixt_importance_free(importance);
    }
    /* one entry twice */
    size_t entry = first + 32 - 4;
    char *twice = malloc(4 + 2 * entry);
    assert_non_null(twice);
    put_i32(twice, 2);
    memcpy(twice + 4, file + 4, entry);
    memcpy(twice + 4 + entry, file + 4, entry);
    write_file(path, twice, 4 + 2 * entry);
    refused(path, "blk.0.attn_q.weight is there twice");
    free(twice);
    /* neither bytes that are no text nor control characters reach the terminal */
    memcpy(file + name + 4, "\x80\xc2\x9b\n", 4);
    put_i32(file + first, 0x7fc00000);
    write_file(path, file, length);
    refused(path, "tensor ????0.attn_q.weight: not all sums are finite");
    free(file);
    free(path);
}

/* GGUF of one tensor with `rank` dimensions of sums and of counts. */
static void write_gguf(const char *path, const int64_t *sums, int sums_rank, const int64_t *counts,
                       int counts_rank, float count)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf_writer *writer;
    static float values[8192];
    must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    const char *names[2] = {"blk.0.ffn_up.weight.in_sum2", "blk.0.ffn_up.weight.counts"};
    const int64_t *sizes[2] = {sums, counts};
    const int ranks[2] = {sums_rank, counts_rank};
    size_t bytes[2] = {sizeof(float), sizeof(float)};
    for (int i = 0; i < 2; i++) {
        must(mixt_gguf_writer_add(writer, names[i], MIXT_TYPE_F32, ranks[i], sizes[i], &error),
             &error);
        for (int j = 0; j < ranks[i]; j++) {
            bytes[i] *= (size_t)sizes[i][j];
        }
    }
    must(mixt_gguf_writer_begin(writer, &error), &error);
    for (int i = 0; i < 2; i++) {
        for (size_t j = 0; j < bytes[i] / sizeof(float); j++) {
            values[j] = i == 0 ? 6 : count;
        }
        must(mixt_gguf_writer_write(writer, values, bytes[i], &error), &error);
    }
    must(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
}

/* Numbers of values decide, whatever the shapes say; copying by one of two shapes wrote past the
 * other's memory. */
static void test_shapes(void **state)
{
    (void)state;
    char *path = scratch_path("shapes.gguf");
    float means[64];
    const char *name = "blk.0.ffn_up.weight";
    write_gguf(path, (int64_t[]){32, 1}, 2, (int64_t[]){1, 1, 4096}, 3, 2);
    refused(path, "in_sum2");
    write_gguf(path, (int64_t[]){32, 2, 8}, 3, (int64_t[]){1, 2}, 2, 2);
    refused(path, "in_sum2");
    write_gguf(path, (int64_t[]){32, 4}, 2, (int64_t[]){1, 2}, 2, 2);
    refused(path, "in_sum2");
    write_gguf(path, (int64_t[]){32, 2}, 2, (int64_t[]){0, 2}, 2, 2);
    refused(path, "in_sum2");
    write_gguf(path, (int64_t[]){32, 0}, 2, (int64_t[]){1, 1}, 2, 2);
    refused(path, "in_sum2");
    write_gguf(path, (int64_t[]){32, 2}, 2, (int64_t[]){1, 2}, 2, -1);
    refused(path, "count 0 is -1");
    write_gguf(path, (int64_t[]){32, 2}, 2, (int64_t[]){1, 2}, 2, NAN);
    refused(path, "count 0 is");
    write_gguf(path, (int64_t[]){32, 2}, 2, (int64_t[]){1, 2}, 2, 1e-40F);
    refused(path, "the mean of column 0 is not finite");
    const int64_t counts[3][3] = {{1, 2}, {2}, {1, 1, 1}}; /* of each matrix, or one for all */
    for (int i = 0; i < 3; i++) {
        write_gguf(path, (int64_t[]){32, 2}, 2, counts[i], i == 0 ? 2 : i == 1 ? 1 : 3, 2);
        mixt_importance *importance = open_importance(path);
        assert_true(mixt_importance_of(importance, name, 1, 32, means));
        assert_true(means[0] == 3 && means[31] == 3);
        mixt_importance_free(importance);
    }
    free(path);
}

/* Rows that an entry was gathered from: tokens that were read, once for each expert that they had.
 */
static void check_counts(const mixt_importance *importance, const train_setup *setup,
                         uint64_t tokens)
{
    const mixt_model_options *o = &setup->model->options;
    bool all = o->experts_per_token > o->experts; /* with weights, and some without */
    uint64_t chosen = (uint64_t)(all ? o->experts : o->experts_per_token);
    int stacks = 0;
    for (int i = 0; i < importance->count; i++) {
        const mixt_importance_entry *entry = &importance->entries[i];
        double sum = 0;
        for (int64_t m = 0; m < entry->matrices; m++) {
            sum += (double)entry->counts[m];
        }
        stacks += entry->matrices > 1;
        if (sum != (double)(entry->matrices > 1 ? tokens * chosen : tokens)) {
            fail_msg("%s: %g rows of %g tokens", entry->name, sum, (double)tokens);
        }
    }
    assert_true(stacks > 0 && stacks < importance->count);
}

/* Collects over windows of so many tokens; *tokens (may be NULL) is what they all are. */
static mixt_importance *collect(const train_setup *setup, int window, uint64_t *tokens)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_score_row rows[3];
    mixt_importance_options options = {.window = window};
    mixt_importance *importance;
    must(mixt_evaluate(setup->context, setup->model, setup->data, false, window, 0, rows, NULL,
                       NULL, &error),
         &error);
    must(mixt_importance_collect(setup->context, setup->model, setup->data, &options, &importance,
                                 &error),
         &error);
    if (tokens != NULL) {
        *tokens = rows[2].tokens;
    }
    return importance;
}

/* Chunks of the window, whatever the batches were: one for each window of tokens read. */
static void test_chunks(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 2, NULL);
    for (int window = 8; window <= 32; window *= 2) {
        uint64_t tokens;
        mixt_importance *importance = collect(&setup, window, &tokens);
        assert_int_equal(importance->chunk_size, window);
        assert_int_equal(importance->chunk_count, tokens / (uint64_t)window);
        assert_true(importance->chunk_count > 3);
        check_counts(importance, &setup, tokens);
        mixt_importance_free(importance);
    }
    train_setup_close(&setup);
}

/* Rows of experts without weights are no weight's. */
static void test_without_weights(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options o = train_setup_model_options();
    o.experts = 2;
    o.identity_experts = 2;
    o.zero_experts = 1;
    o.experts_per_token = 5;
    train_setup_open(&setup, 2, &o);
    uint64_t tokens;
    mixt_importance *importance = collect(&setup, 16, &tokens);
    check_counts(importance, &setup, tokens);
    mixt_importance_free(importance);
    train_setup_close(&setup);
}

/* A layer may be changed to choose more experts than the model says. */
static void test_more_chosen(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    train_setup setup;
    mixt_model_options o = train_setup_model_options();
    o.experts = 8;
    o.experts_per_token = 1;
    o.router.renormalise = false;
    train_setup_open(&setup, 2, &o);
    must(mixt_model_change_routing(setup.model, MIXT_ROUTING_TOP_K, -1, 8, &error), &error);
    mixt_importance *importance = collect(&setup, 16, NULL);
    for (int e = 0; e < 8; e++) { /* each has seen every token */
        float weights[64];
        const mixt_parameter *p =
            &setup.model->parameters[mixt_model_find(setup.model, MIXT_SLOT_EXPERT_GATE, 0)];
        assert_true(mixt_importance_of(importance, p->gguf_name, e, (int)p->size[2], weights));
    }
    mixt_importance_free(importance);
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),       cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_shapes),      cmocka_unit_test(test_bad_older_files),
        cmocka_unit_test(test_chunks),      cmocka_unit_test(test_without_weights),
        cmocka_unit_test(test_more_chosen),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
