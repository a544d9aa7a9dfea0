/* Conversion: every family there and back without a bit lost, GGUF files tensor by tensor equal to
 * those of llama.cpp's converter, quantised types, importance matrices, shards. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "difference.h"
#include "core/files.h"
#include "formats/gguf.h"
#include "mixt.h"
#include "model/importance.h"
#include "model/model.h"
#include "quant/quant.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/families/"

/* The first of them are fixtures of llama.cpp's converter too. */
static const char *const families[] = {
    "llama-gqa",   "mistral",    "qwen2",        "qwen3",       "mixtral",
    "deepseek",    "qwen2_moe",  "olmoe",        "qwen3_moe",   "grok-1",
    "deepseek_v3", "minimax_m2", "glm4_moe-air", "gpt_oss",     "deepseek_v2-lite",
    "llama",       "yuan",       "skywork",      "deepseek_v2", "glm4_moe"};
#define COUNT(list) (sizeof(list) / sizeof *(list))
#define OF_LLAMA_CPP 15

static void convert(const mixt_model *model, const mixt_convert_options *options)
{
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_convert(scratch_context, model, options, NULL, NULL, &error), &error);
}

static void there_and_back(void **state)
{
    const char *name = *state;
    char from[200], gguf[200], back[200];
    snprintf(from, sizeof from, FIXTURES "%s", name);
    snprintf(gguf, sizeof gguf, "%s/%s.gguf", scratch, name);
    snprintf(back, sizeof back, "%s/%s", scratch, name);
    mixt_model *original = must_open_model(from);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = gguf;
    convert(original, &options);
    mixt_model *middle = must_open_model(gguf);
    options.output = back;
    convert(middle, &options);
    mixt_model *again = must_open_model(back);
    test_same_values(name, original, again);
    const mixt_router_options *a = &original->options.router, *b = &again->options.router;
    assert_true(a->score == b->score && a->renormalise == b->renormalise && a->scale == b->scale &&
                a->logits == b->logits && a->groups == b->groups);
    mixt_model_free(original);
    mixt_model_free(middle);
    mixt_model_free(again);
}

static void tensor_values(const mixt_gguf_tensor *tensor, float *values)
{
    int64_t count = tensor->size[0] * tensor->size[1] * tensor->size[2] * tensor->size[3];
    mixt_dequantise(tensor->type, tensor->data, values, count);
}

/* What llama.cpp's converter made of the same folder. */
static void as_llama_cpp(void **state)
{
    const char *name = *state;
    char from[200], ours[200], theirs[200];
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(theirs, sizeof theirs, FIXTURES "%s.gguf", name);
    snprintf(from, sizeof from, FIXTURES "%s", name);
    snprintf(ours, sizeof ours, "%s/%s-ours.gguf", scratch, name);
    mixt_model *model = must_open_model(from);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = ours;
    convert(model, &options);
    mixt_gguf *a, *b;
    must(mixt_gguf_open(ours, &a, &error), &error);
    must(mixt_gguf_open(theirs, &b, &error), &error);
    for (size_t i = 0; i < mixt_gguf_tensor_count(a); i++) {
        const mixt_gguf_tensor *x = mixt_gguf_tensor_at(a, i), *y = mixt_gguf_find(b, x->name);
        if (y == NULL) {
            fail_msg("%s: llama.cpp has no tensor %s", name, x->name);
        }
        size_t count = (size_t)(x->size[0] * x->size[1] * x->size[2] * x->size[3]);
        assert_memory_equal(x->size, y->size, sizeof x->size);
        float *values = malloc(2 * count * sizeof *values);
        assert_non_null(values);
        tensor_values(x, values);
        tensor_values(y, values + count);
        if (memcmp(values, values + count, count * sizeof *values) != 0) {
            fail_msg("%s: tensor %s differs from llama.cpp's", name, x->name);
        }
        free(values);
    }
    for (size_t i = 0; i < mixt_gguf_key_count(b); i++) { /* keys of the architecture */
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(b, i, &kind);
        double x, y;
        mixt_error ignored = MIXT_ERROR_INIT;
        const mixt_gguf_range any = {-INFINITY, INFINITY};
        if (strncmp(key, "general.", 8) != 0 && strncmp(key, "tokenizer.", 10) != 0 &&
            mixt_gguf_has(a, key) && kind != MIXT_GGUF_ARRAY && kind != MIXT_GGUF_STRING &&
            kind != MIXT_GGUF_BOOL && mixt_gguf_number(a, key, any, &x, &ignored) == MIXT_OK &&
            mixt_gguf_number(b, key, any, &y, &ignored) == MIXT_OK &&
            fabs(x - y) > 1e-6 * fabs(y)) {
            fail_msg("%s: key %s is %g, llama.cpp's %g", name, key, x, y);
        }
    }
    mixt_gguf_close(a);
    mixt_gguf_close(b);
    mixt_model_free(model);
}

/* A model with rows of whole blocks of 256, and eight experts. */
static mixt_model *wide_model(void)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 64;
    options.hidden_size = 256;
    options.heads = 4;
    options.kv_heads = 2;
    options.head_dim = 64;
    options.layers = 2;
    options.ffn_size = 96; /* of 32, not of 256: w_down falls back */
    mixt_model *model;
    must(mixt_model_create(&options, 3, &model, &error), &error);
    return model;
}

/* Share of the squared values that the change of type lost. */
static double loss_of(const mixt_model *a, const mixt_model *b)
{
    double lost = 0, all = 0;
    for (int i = 0; i < a->parameter_count; i++) {
        const mixt_parameter *p = &a->parameters[i];
        float *x = malloc(p->count * sizeof *x), *y = malloc(p->count * sizeof *y);
        assert_true(x != NULL && y != NULL);
        mixt_model_values(a, i, 0, p->count, x);
        mixt_model_values(b, i, 0, p->count, y);
        for (size_t j = 0; p->rank > 1 && j < p->count; j++) {
            lost += (double)(x[j] - y[j]) * (x[j] - y[j]);
            all += (double)x[j] * x[j];
        }
        free(x);
        free(y);
    }
    return sqrt(lost / all);
}

static void every_type(void **state)
{
    (void)state;
    /* greatest loss of each mix, by its bits */
    static const struct {
        const char *type;
        double loss;
    } rows[] = {{"F16", 1e-3},    {"BF16", 4e-3},   {"Q8_0", 0.01},  {"Q6_K", 0.03},
                {"Q5_K_M", 0.05}, {"Q5_K_S", 0.05}, {"Q4_K_M", 0.1}, {"Q4_K_S", 0.1},
                {"Q3_K_M", 0.2},  {"Q3_K_S", 0.2},  {"Q2_K", 0.35},  {"IQ4_XS", 0.11},
                {"IQ4_NL", 0.11}, {"Q5_1", 0.06},   {"Q5_0", 0.06},  {"Q4_1", 0.12},
                {"Q4_0", 0.12},   {"MXFP4", 0.15},  {"F32", 0.0}};
    mixt_model *model = wide_model();
    /* training leaves a permutation behind: compare what was read from the same kind of file */
    mixt_convert_options options = mixt_convert_options_default();
    char path[200], plain[200];
    snprintf(plain, sizeof plain, "%s/plain.gguf", scratch);
    options.output = plain;
    options.type = "F32";
    convert(model, &options);
    mixt_model *exact = must_open_model(plain);
    for (size_t i = 0; i < COUNT(rows); i++) {
        snprintf(path, sizeof path, "%s/%s.gguf", scratch, rows[i].type);
        options.output = path;
        options.type = rows[i].type;
        convert(model, &options);
        mixt_model *small = must_open_model(path);
        double loss = loss_of(exact, small);
        if (loss > rows[i].loss || (rows[i].loss > 0) != (loss > 0)) {
            fail_msg("%s: lost %.4f, expected at most %.4f", rows[i].type, loss, rows[i].loss);
        }
        mixt_model_free(small);
    }
    options.type = "Q9_K";
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_convert(scratch_context, model, &options, NULL, NULL, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "Q9_K"));
    mixt_model_free(exact);
    mixt_model_free(model);
}

static void check_type(const mixt_gguf *file, const char *name, mixt_type type)
{
    const mixt_gguf_tensor *tensor = mixt_gguf_find(file, name);
    assert_non_null(tensor);
    if (tensor->type != type) {
        fail_msg("%s is %s", name, mixt_type_info(tensor->type)->name);
    }
}

/* The rules of llama.cpp's Q4_K_M for eight experts, and fallbacks where 256 do not divide. */
static void mixes_follow_rules(void **state)
{
    (void)state;
    char path[200];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *file;
    mixt_model *model = wide_model();
    snprintf(path, sizeof path, "%s/mix.gguf", scratch);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    options.type = "q4_k_m";
    convert(model, &options);
    must(mixt_gguf_open(path, &file, &error), &error);
    check_type(file, "token_embd.weight", MIXT_TYPE_Q4_K);
    check_type(file, "output.weight", MIXT_TYPE_Q6_K);
    check_type(file, "output_norm.weight", MIXT_TYPE_F32);
    check_type(file, "blk.0.attn_q.weight", MIXT_TYPE_Q4_K);
    check_type(file, "blk.0.attn_k.weight", MIXT_TYPE_Q8_0);
    check_type(file, "blk.0.attn_v.weight", MIXT_TYPE_Q8_0);
    check_type(file, "blk.0.attn_output.weight", MIXT_TYPE_Q5_K);
    check_type(file, "blk.1.ffn_gate_inp.weight", MIXT_TYPE_F32);
    check_type(file, "blk.1.ffn_gate_exps.weight", MIXT_TYPE_Q4_K);
    check_type(file, "blk.1.ffn_down_exps.weight", MIXT_TYPE_Q8_0); /* Q6_K, but 96 wide */
    mixt_gguf_close(file);
    options.pure = true;
    convert(model, &options);
    must(mixt_gguf_open(path, &file, &error), &error);
    check_type(file, "output.weight", MIXT_TYPE_Q4_K);
    check_type(file, "blk.1.ffn_down_exps.weight", MIXT_TYPE_Q5_0);
    mixt_gguf_close(file);
    mixt_model_free(model);
}

/* An expert without tokens is quantised as if nothing were known; the others by what is known. */
static void importance_by_expert(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char path[200], matrix[200];
    snprintf(path, sizeof path, "%s/blind.gguf", scratch);
    snprintf(matrix, sizeof matrix, "%s/importance.gguf", scratch);
    mixt_model *model = wide_model();
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    options.type = "Q4_K_S";
    convert(model, &options);
    mixt_model *blind = must_open_model(path);

    mixt_importance *importance = calloc(1, sizeof *importance), *read;
    const char *name = "blk.1.ffn_gate_exps.weight";
    mixt_importance_entry *entry = mixt_importance_entry_of(importance, name, 8, 256);
    assert_non_null(entry);
    float row[256];
    for (int i = 0; i < 256; i++) {
        row[i] = i < 8 ? 30.0F : 0.1F;
    }
    for (int e = 0; e < 8; e++) {
        if (e != 5) {
            mixt_importance_add(entry, e, row, 1);
        }
    }
    must(mixt_importance_save(importance, matrix, &error), &error);
    must(mixt_importance_open(matrix, &read, &error), &error);
    int matrices, unused;
    mixt_importance_describe(read, &matrices, &unused);
    assert_int_equal(matrices, 8);
    assert_int_equal(unused, 1);
    snprintf(path, sizeof path, "%s/seeing.gguf", scratch);
    options.importance = read;
    convert(model, &options);
    mixt_model *seeing = must_open_model(path);
    int index = mixt_model_find(model, MIXT_SLOT_EXPERT_GATE, 1);
    size_t each = model->parameters[index].count / 8;
    float *x = malloc(3 * each * sizeof *x), *y = x + each, *z = y + each;
    for (size_t e = 0; e < 8; e++) {
        mixt_model_values(model, index, e * each, each, x);
        mixt_model_values(blind, index, e * each, each, y);
        mixt_model_values(seeing, index, e * each, each, z);
        double without = 0, with = 0;
        for (size_t i = 0; i < each; i++) {
            if (i % 256 < 8) {
                without += (double)(x[i] - y[i]) * (x[i] - y[i]);
                with += (double)(x[i] - z[i]) * (x[i] - z[i]);
            }
        }
        if (e == 5) {
            assert_memory_equal(y, z, each * sizeof *y);
        } else if (!(with < 0.8 * without)) {
            fail_msg("expert %zu: error of the weighted columns %g, without weights %g", e, with,
                     without);
        }
    }
    free(x);
    options.whole_experts = true; /* the same bits where each expert has its tensors */
    snprintf(path, sizeof path, "%s/seeing-whole.gguf", scratch);
    options.output = path;
    convert(model, &options);
    mixt_model *whole = must_open_model(path);
    test_same_values("importance of experts by themselves", seeing, whole);
    mixt_model_free(whole);
    mixt_importance_free(importance);
    mixt_importance_free(read);
    mixt_model_free(model);
    mixt_model_free(blind);
    mixt_model_free(seeing);
}

/* Gate, up and down of each expert follow each other, and nothing is in stacks. */
static void check_whole_experts(const char *path)
{
    static const char *const kinds[] = {"gate", "up", "down"};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *file;
    must(mixt_gguf_open(path, &file, &error), &error);
    size_t found = 0;
    for (size_t i = 0; i < mixt_gguf_tensor_count(file); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        int layer, expert, end = 0;
        assert_null(strstr(tensor->name, "_exps.weight"));
        if (sscanf(tensor->name, "blk.%d.ffn_gate.%d.weight%n", &layer, &expert, &end) == 2 &&
            end > 0) {
            for (int m = 0; m < 3; m++) {
                char name[64];
                snprintf(name, sizeof name, "blk.%d.ffn_%s.%d.weight", layer, kinds[m], expert);
                const mixt_gguf_tensor *of = mixt_gguf_tensor_at(file, i + (size_t)m);
                assert_string_equal(of->name, name);
            }
            found++;
        }
    }
    assert_true(found > 0);
    mixt_gguf_close(file);
}

/* Every family with each expert by itself, back into stacks: the same file as straight away. */
static void whole_experts(void **state)
{
    (void)state;
    static const char *const types[] = {NULL, "Q4_0"};
    for (size_t i = 0; i < 2 * COUNT(families); i++) {
        const char *name = families[i / 2];
        char from[200], whole[200], stacks[200], straight[200];
        snprintf(from, sizeof from, FIXTURES "%s", name);
        snprintf(whole, sizeof whole, "%s/whole.gguf", scratch);
        snprintf(stacks, sizeof stacks, "%s/stacks.gguf", scratch);
        snprintf(straight, sizeof straight, "%s/straight.gguf", scratch);
        mixt_model *model = must_open_model(from);
        mixt_convert_options options = mixt_convert_options_default();
        options.type = types[i % 2];
        options.output = straight;
        convert(model, &options);
        options.output = whole;
        options.whole_experts = true;
        convert(model, &options);
        mixt_model_free(model);
        model = must_open_model(whole);
        if (mixt_model_moe_layers(model) > 0) {
            check_whole_experts(whole);
        }
        options = mixt_convert_options_default();
        options.output = stacks;
        convert(model, &options);
        mixt_model_free(model);
        test_same_tensors(name, stacks, straight);
    }
}

static void whole_experts_that_cannot_be(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char path[200];
    snprintf(path, sizeof path, "%s/whole", scratch);
    mixt_model *model = must_open_model(FIXTURES "gpt_oss");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    options.whole_experts = true;
    must_refuse(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error, path,
                "all experts of a layer in one tensor", "a folder of gpt-oss");
    snprintf(path, sizeof path, "%s/whole-auto.gguf", scratch);
    options.type = "auto";
    options.budget = 1 << 20;
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error, "auto",
                "one by one", "type auto");
    mixt_model_free(model);
}

static void shards(void **state)
{
    (void)state;
    char path[200], first[220];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = wide_model();
    mixt_convert_options options = mixt_convert_options_default();
    snprintf(path, sizeof path, "%s/cut.gguf", scratch);
    options.output = path;
    options.shard_bytes = 1 << 20;
    convert(model, &options);
    assert_int_not_equal(access(path, R_OK), 0);
    int found = 0;
    DIR *list = opendir(scratch);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (strncmp(entry->d_name, "cut-00001-of-", 13) == 0) {
            snprintf(first, sizeof first, "%s/%.100s", scratch, entry->d_name);
        }
        found += strncmp(entry->d_name, "cut-", 4) == 0;
    }
    closedir(list);
    assert_true(found >= 3);
    mixt_model *cut = must_open_model(first);
    options.shard_bytes = 0;
    convert(model, &options);
    mixt_model *whole = must_open_model(path);
    test_same_values("shards", cut, whole);
    mixt_model_free(cut);
    mixt_model_free(whole);
    mixt_model_free(model);
    (void)error;
}

int main(void)
{
    struct CMUnitTest tests[COUNT(families) + OF_LLAMA_CPP + 6];
    static char titles[COUNT(families) + OF_LLAMA_CPP][64];
    size_t count = 0;
    for (size_t i = 0; i < COUNT(families); i++) {
        snprintf(titles[count], sizeof titles[count], "there_and_back %s", families[i]);
        tests[count] = (struct CMUnitTest){titles[count], there_and_back, NULL, NULL,
                                           (void *)(uintptr_t)families[i]};
        count++;
    }
    for (size_t i = 0; i < OF_LLAMA_CPP; i++) {
        snprintf(titles[count], sizeof titles[count], "as_llama_cpp %s", families[i]);
        tests[count] = (struct CMUnitTest){titles[count], as_llama_cpp, NULL, NULL,
                                           (void *)(uintptr_t)families[i]};
        count++;
    }
    const struct CMUnitTest others[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(mixes_follow_rules),
        cmocka_unit_test(importance_by_expert),
        cmocka_unit_test(whole_experts),
        cmocka_unit_test(whole_experts_that_cannot_be),
        cmocka_unit_test(shards),
    };
    memcpy(&tests[count], others, sizeof others);
    return _cmocka_run_group_tests("convert", tests, COUNT(tests), scratch_make_context,
                                   scratch_remove_context);
}
