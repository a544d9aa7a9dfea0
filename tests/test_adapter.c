/* LoRA adapters: those of tests/fixtures/adapters, made and merged by PEFT
 * (tests/reference/adapters.py), merged here into models from folders and GGUF files, in memory and
 * mapped, beside their model and apart from it; and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/files.h"
#include "difference.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "mixt.h"
#include "model/adapters.h"
#include "model/model.h"
#include "model/name_pattern.h"
#include "model/parameters.h"
#include "scratch.h"
#include "shell.h"

#define ADAPTERS "tests/fixtures/adapters/"
#define FAMILIES "tests/fixtures/families/"
#define TOLERANCE 1e-5 /* of logits up to 1; beyond, of the largest one */
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* ------------------------------------------------------------------------------------------ */
/* Against PEFT                                                                               */

static mixt_model *base_of(const char *adapter, const char *end)
{
    char path[200];
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, ADAPTERS "%s/expected.safetensors", adapter);
    must(mixt_safetensors_open(path, &file, &error), &error);
    const char *base = mixt_safetensors_metadata(file, "base");
    assert_non_null(base);
    snprintf(path, sizeof path, FAMILIES "%s%s", base, end);
    mixt_safetensors_close(file);
    return must_open_model(path);
}

static void merge(mixt_model *model, const char *adapter)
{
    char path[200];
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, ADAPTERS "%s", adapter);
    must(mixt_model_merge(model, path, &error), &error);
}

/* All logits of the fixture's tokens, fed one by one. */
static void check_logits(const char *adapter, const mixt_model *model)
{
    char path[200];
    mixt_safetensors *file;
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, ADAPTERS "%s/expected.safetensors", adapter);
    must(mixt_safetensors_open(path, &file, &error), &error);
    const mixt_tensor_info *ids = mixt_safetensors_find(file, "tokens");
    const mixt_tensor_info *logits = mixt_safetensors_find(file, "logits");
    assert_true(ids != NULL && logits != NULL && logits->rank == 2);
    size_t count = (size_t)logits->shape[0], width = (size_t)logits->shape[1];
    int32_t *tokens = calloc(count, sizeof *tokens);
    float *expected = calloc(count * width, sizeof *expected);
    assert_true(tokens != NULL && expected != NULL);
    must(mixt_safetensors_read(file, ids, 0, count * sizeof *tokens, tokens, &error), &error);
    must(mixt_safetensors_read_f32(file, logits, 0, count * width, expected, &error), &error);
    mixt_safetensors_close(file);
    double largest = 1, worst = 0;
    for (size_t i = 0; i < count * width; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
    }
    must(mixt_session_create(scratch_context, model, (int)count, &session, &error), &error);
    for (size_t t = 0; t < count; t++) {
        must(mixt_session_feed(session, tokens + t, 1, &error), &error);
        const float *own = mixt_session_logits(session);
        for (size_t i = 0; i < width; i++) {
            double difference = fabs((double)own[i] - (double)expected[t * width + i]);
            worst = !(difference <= worst) ? difference : worst; /* NaN too */
        }
    }
    mixt_session_free(session);
    free(tokens);
    free(expected);
    print_message("%s: %.2g of logits up to %.3g\n", adapter, worst, largest);
    if (!(worst <= TOLERANCE * largest)) {
        fail_msg("%s: logits differ by %g, the largest is %g", adapter, worst, largest);
    }
}

static const char *const fixtures[] = {"llama",     "mistral", "mixtral",    "mixtral-experts",
                                       "qwen2_moe", "gpt_oss", "deepseek_v3"};

/* Mapped, in a block, and written: one model, PEFT's. */
static void merged_as_by_peft(void **state)
{
    const char *adapter = *state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = base_of(adapter, ""), *block = base_of(adapter, "");
    merge(model, adapter);
    check_logits(adapter, model);
    must(mixt_model_load(block, &error), &error);
    merge(block, adapter);
    test_same_values(adapter, model, block);
    must(mixt_model_load(model, &error), &error);
    test_same_values(adapter, model, block);
    char *path = scratch_path(adapter);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model *written = must_open_model(path);
    test_same_values(adapter, written, block);
    assert_null(mixt_model_remark(written, 0));
    mixt_model_free(written);
    mixt_model_free(model);
    mixt_model_free(block);
    free(path);
}

/* Rows of q and k lie the other way in a GGUF file, halves of experts as stacks. */
static void merged_into_gguf(void **state)
{
    const char *adapter = *state;
    char name[64];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = base_of(adapter, ".gguf");
    merge(model, adapter);
    check_logits(adapter, model);
    snprintf(name, sizeof name, "%s.gguf", adapter);
    char *path = scratch_path(name);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model *written = must_open_model(path);
    test_same_values(adapter, written, model);
    mixt_model_free(written);
    mixt_model_free(model);
    free(path);
}

/* ------------------------------------------------------------------------------------------ */
/* The values                                                                                 */

static float *tensor_of(mixt_safetensors *file, const char *name, int64_t rows, int64_t columns)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_tensor_info *tensor = mixt_safetensors_find(file, name);
    assert_non_null(tensor);
    assert_true(tensor->shape[0] == rows && tensor->shape[1] == columns);
    size_t count = (size_t)(rows * columns);
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    must(mixt_safetensors_read_f32(file, tensor, 0, count, values, &error), &error);
    return values;
}

/* w + s * (the sum over k from 0 on), every operation rounded to fp32: the bits of the training
 * plan's low_rank. */
static void values_are_the_formula(void **state)
{
    (void)state;
    enum { RANK = 2, ROWS = 24, COLUMNS = 32, EXPERT = 3 };
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors *file;
    mixt_model *base = base_of("mixtral-experts", ""), *model = base_of("mixtral-experts", "");
    merge(model, "mixtral-experts");
    must(mixt_safetensors_open(ADAPTERS "mixtral-experts/adapter_model.safetensors", &file, &error),
         &error);
    const char *at = "base_model.model.model.layers.1.block_sparse_moe.experts.3.w3.";
    char name[128];
    snprintf(name, sizeof name, "%slora_A.weight", at);
    float *a = tensor_of(file, name, RANK, COLUMNS);
    snprintf(name, sizeof name, "%slora_B.weight", at);
    float *b = tensor_of(file, name, ROWS, RANK);
    int up = mixt_model_find(model, MIXT_SLOT_EXPERT_UP, 1);
    float before[ROWS * COLUMNS], after[ROWS * COLUMNS];
    mixt_model_values(base, up, EXPERT * ROWS * COLUMNS, ROWS * COLUMNS, before);
    mixt_model_values(model, up, EXPERT * ROWS * COLUMNS, ROWS * COLUMNS, after);
    for (int row = 0; row < ROWS; row++) {
        for (int i = 0; i < COLUMNS; i++) {
            volatile float sum = 0;
            for (int k = 0; k < RANK; k++) {
                volatile float product = b[row * RANK + k] * a[k * COLUMNS + i];
                sum = sum + product;
            }
            volatile float scaled = 1.5f * sum;
            volatile float expected = before[row * COLUMNS + i] + scaled;
            assert_true(after[row * COLUMNS + i] == expected);
        }
    }
    free(a);
    free(b);
    mixt_safetensors_close(file);
    mixt_model_free(base);
    mixt_model_free(model);
}

/* A small mixture with adapters on all expert matrices, none of them 0. */
static mixt_model *model_in_training(void)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 64;
    options.layers = 2;
    options.hidden_size = 48;
    options.heads = 4;
    options.kv_heads = 2;
    options.ffn_size = 40;
    options.experts = 4;
    options.experts_per_token = 2;
    options.context_length = 32;
    must(mixt_model_create(&options, 7, &model, &error), &error);
    mixt_adapters adapters = {
        .rank = 3, .alpha = 5, .targets = MIXT_LORA_GATE | MIXT_LORA_UP | MIXT_LORA_DOWN};
    must(mixt_adapters_add(model, &adapters, 11, &error), &error);
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        for (size_t k = 0; mixt_slot_is_adapter(p->slot) && k < p->count; k++) {
            model->weights[p->offset + k] = (float)(0.2 * sin((double)(17 * k + (size_t)i)));
        }
    }
    return model;
}

static void logits_of(const mixt_model *model, float *logits, size_t width)
{
    static const int32_t tokens[] = {3, 14, 15, 9, 2, 6, 53, 58};
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_session_create(scratch_context, model, COUNT(tokens), &session, &error), &error);
    for (size_t t = 0; t < COUNT(tokens); t++) {
        must(mixt_session_feed(session, tokens + t, 1, &error), &error);
        memcpy(logits + t * width, mixt_session_logits(session), width * sizeof *logits);
    }
    mixt_session_free(session);
}

/* What a run saves opens as what it computed with, to the bit. */
static void a_run_is_merged_to_the_bit(void **state)
{
    (void)state;
    enum { WIDTH = 64, TOKENS = 8 };
    static float in_training[WIDTH * TOKENS], merged[WIDTH * TOKENS], base[WIDTH * TOKENS];
    mixt_error error = MIXT_ERROR_INIT;
    char *path = scratch_path("run"), *out = scratch_path("run-merged");
    mixt_model *run = model_in_training();
    must(mixt_model_save(run, path, &error), &error);
    logits_of(run, in_training, WIDTH);
    mixt_model *opened = must_open_model(path);
    assert_non_null(strstr(mixt_model_remark(opened, 0), "24 matrices, rank 3, scale 1.66667"));
    must(mixt_model_load(opened, &error), &error); /* as the run has it, in a block */
    logits_of(opened, merged, WIDTH);
    assert_memory_equal(merged, in_training, sizeof merged);
    /* and written */
    mixt_convert_options options = mixt_convert_options_default();
    options.output = out;
    must(mixt_convert(scratch_context, opened, &options, NULL, NULL, &error), &error);
    mixt_model *written = must_open_model(out);
    test_same_values("written", written, opened);
    mixt_model_free(written);
    mixt_model_free(opened);
    /* the adapters do something */
    must(mixt_file_remove_in(path, MIXT_ADAPTER_CONFIG, &error), &error);
    must(mixt_file_remove_in(path, MIXT_ADAPTER_WEIGHTS, &error), &error);
    opened = must_open_model(path);
    must(mixt_model_load(opened, &error), &error);
    logits_of(opened, base, WIDTH);
    assert_memory_not_equal(base, in_training, sizeof base);
    mixt_model_free(opened);
    /* one that learns cannot take another */
    must_refuse(mixt_model_merge(run, path, &error), &error, "model", "in training", "run");
    mixt_model_free(run);
    free(path);
    free(out);
}

/* Others stay in their files. */
static void only_what_is_adapted_lies_in_memory(void **state)
{
    (void)state;
    mixt_model *model = base_of("qwen2_moe", "");
    merge(model, "qwen2_moe");
    const mixt_held *down = &model->held[mixt_model_find(model, MIXT_SLOT_EXPERT_DOWN, 0)];
    const mixt_held *gate = &model->held[mixt_model_find(model, MIXT_SLOT_EXPERT_GATE, 0)];
    assert_true(down->matrices[0].type == MIXT_TYPE_F32);
    assert_true(gate->matrices[0].type == MIXT_TYPE_BF16);
    mixt_model_free(model);
}

/* What a quantised matrix stands for is merged with, in fp32; the others keep their blocks. */
static void quantised_models_are_merged(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = base_of("qwen2_moe", "");
    char *path = scratch_path("q8.gguf"), *out = scratch_path("q8-merged.gguf");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    options.type = "Q8_0";
    options.pure = true;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model_free(model);
    model = must_open_model(path);
    mixt_model *block = must_open_model(path);
    must(mixt_model_load(block, &error), &error);
    merge(model, "qwen2_moe");
    merge(block, "qwen2_moe");
    test_same_values("Q8_0", model, block);
    int q = mixt_model_find(model, MIXT_SLOT_Q, 0), k = mixt_model_find(model, MIXT_SLOT_K, 0);
    assert_true(model->held[q].matrices[0].type == MIXT_TYPE_Q8_0);
    assert_true(model->held[k].matrices[0].type == MIXT_TYPE_F32);
    options.output = out; /* as it is: what was changed as F32 */
    options.type = NULL;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model *written = must_open_model(out);
    test_same_values("written", written, block);
    mixt_model_free(written);
    mixt_model_free(block);
    mixt_model_free(model);
    free(path);
    free(out);
}

/* ------------------------------------------------------------------------------------------ */
/* Beside a model                                                                             */

static void copy_into(const char *from, const char *name, const char *folder)
{
    size_t length;
    char *source = mixt_path_join(from, name), *target = mixt_path_join(folder, name);
    char *data = read_file(source, &length);
    write_file(target, data, length);
    free(data);
    free(source);
    free(target);
}

static char *embed(const char *name, const char *base, const char *adapter)
{
    char *folder = scratch_path(name);
    must(mixt_folder_create(folder, NULL), NULL);
    if (base != NULL) {
        copy_into(base, "config.json", folder);
        copy_into(base, "model.safetensors", folder);
    }
    copy_into(adapter, "adapter_config.json", folder);
    copy_into(adapter, "adapter_model.safetensors", folder);
    return folder;
}

static bool is_there(const char *folder, const char *name)
{
    char *path = mixt_path_join(folder, name);
    bool there = mixt_path_exists(path);
    free(path);
    return there;
}

static void beside_its_model_it_is_applied(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_info info;
    char *both = embed("both", FAMILIES "mixtral", ADAPTERS "mixtral");
    mixt_model *model = must_open_model(both), *apart = base_of("mixtral", "");
    merge(apart, "mixtral");
    test_same_values("beside", model, apart);
    check_logits("mixtral", model);
    const char *remark = mixt_model_remark(model, 0);
    assert_non_null(remark);
    assert_non_null(strstr(remark, "both: LoRA adapter merged: 54 matrices, rank 2 to 3"));
    mixt_model_describe(model, &info);
    assert_non_null(info.adapter);
    assert_non_null(strstr(info.adapter, "both (54 matrices, rank 2 to 3, scale 1.66667 to 2.5)"));
    /* written elsewhere: the weights, no adapter */
    char *out = scratch_path("out");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = out;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    assert_false(is_there(out, "adapter_config.json"));
    /* trained from: the block has it */
    must(mixt_model_load(model, &error), &error);
    test_same_values("loaded", model, apart);
    char *saved = scratch_path("saved");
    must(mixt_model_save(model, saved, &error), &error);
    mixt_model *back = must_open_model(saved);
    test_same_values("saved", back, apart);
    assert_null(mixt_model_remark(back, 0));
    mixt_model_free(back);
    mixt_model_free(apart);
    mixt_model_free(model);
    free(saved);
    free(out);
    free(both);
}

static void an_older_adapter_is_not_applied_to_what_is_written(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char *old = embed("old", FAMILIES "mixtral", ADAPTERS "mixtral");
    char *saved = embed("old-saved", FAMILIES "mixtral", ADAPTERS "mixtral");
    mixt_model *plain = must_open_model(FAMILIES "mixtral");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = old;
    must(mixt_convert(scratch_context, plain, &options, NULL, NULL, &error), &error);
    must(mixt_model_save(plain, saved, &error), &error);
    const char *const folders[] = {old, saved};
    for (size_t i = 0; i < COUNT(folders); i++) {
        assert_false(is_there(folders[i], "adapter_config.json"));
        mixt_model *model = must_open_model(folders[i]);
        test_same_values(folders[i], model, plain);
        mixt_model_free(model);
    }
    mixt_model_free(plain);
    free(saved);
    free(old);
}

/* A save that fails loses nothing; one that ends with the weights in place leaves no adapter of
 * others over them. */
static void a_save_that_ends_early(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char *folder = embed("early", FAMILIES "mixtral", ADAPTERS "mixtral");
    mixt_model *plain = must_open_model(FAMILIES "mixtral"), *before = must_open_model(folder);
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){5000, limit.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_not_equal(mixt_model_save(plain, folder, &error), MIXT_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    mixt_model *after = must_open_model(folder);
    test_same_values("after a save that failed", after, before);
    mixt_model_free(after);
    mixt_model_free(before);
    /* adapter_model.safetensors cannot go: the last thing but for the configs */
    char *stays = mixt_path_join(folder, "adapter_model.safetensors");
    assert_int_equal(unlink(stays), 0);
    assert_int_equal(mkdir(stays, 0777), 0);
    assert_int_not_equal(mixt_model_save(plain, folder, &error), MIXT_OK);
    assert_false(is_there(folder, "adapter_config.json"));
    mixt_model *half = NULL;
    assert_int_not_equal(mixt_model_open(folder, &half, &error), MIXT_OK);
    assert_null(half);
    assert_int_equal(rmdir(stays), 0);
    /* the weights cannot be put in place: their adapter has gone before them */
    free(stays);
    char *other = embed("early-2", FAMILIES "mixtral", ADAPTERS "mixtral");
    char *weights = mixt_path_join(other, "model.safetensors");
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(mkdir(weights, 0777), 0);
    assert_int_not_equal(mixt_model_save(plain, other, &error), MIXT_OK);
    assert_false(is_there(other, "adapter_config.json"));
    assert_int_equal(rmdir(weights), 0);
    mixt_model_free(plain);
    free(weights);
    free(other);
    free(folder);
}

static void an_adapter_alone_is_no_model(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = NULL;
    char *alone = embed("alone", NULL, ADAPTERS "mixtral");
    must_refuse(mixt_model_open(alone, &model, &error), &error, alone, "mixt convert BASE --merge ",
                "alone");
    assert_null(model);
    /* and nothing is written over it */
    model = must_open_model(FAMILIES "mixtral");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = alone;
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error, alone,
                "holds an adapter", "convert");
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_model_save(model, alone, &error), &error, alone, "holds an adapter", "save");
    assert_true(is_there(alone, "adapter_model.safetensors"));
    assert_false(is_there(alone, "config.json"));
    mixt_model_free(model);
    free(alone);
}

/* ------------------------------------------------------------------------------------------ */
/* What is refused                                                                            */

typedef struct tensor {
    const char *name;
    int64_t rows, columns;
    mixt_dtype dtype;
} tensor;

#define PLACE "base_model.model.model.layers.0.self_attn.q_proj."
#define PAIR                                                                                       \
    {PLACE "lora_A.weight", 2, 32, MIXT_DTYPE_F32},                                                \
    {                                                                                              \
        PLACE "lora_B.weight", 32, 2, MIXT_DTYPE_F32                                               \
    }
#define GOOD "\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4"

/* An adapter of llama-gqa; the first value is `first`. */
static char *write_adapter(const char *keys, const tensor *tensors, size_t count, float first)
{
    static const float values[4096];
    char config[2048];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors_writer *writer;
    char *folder = scratch_path("refused");
    must(mixt_folder_create(folder, &error), &error);
    char *path = mixt_path_join(folder, "adapter_config.json");
    int length = snprintf(config, sizeof config, "{%s}", keys);
    write_file(path, config, (size_t)length);
    free(path);
    path = mixt_path_join(folder, "adapter_model.safetensors");
    must(mixt_safetensors_writer_create(path, 0, &writer, &error), &error);
    for (size_t i = 0; i < count; i++) {
        must(mixt_safetensors_writer_add(writer, tensors[i].name, tensors[i].dtype, 2,
                                         &tensors[i].rows, &error),
             &error);
    }
    must(mixt_safetensors_writer_begin(writer, &error), &error);
    for (size_t i = 0; i < count; i++) {
        size_t size = tensors[i].dtype == MIXT_DTYPE_F32 ? 4 : 1;
        size_t bytes = (size_t)(tensors[i].rows * tensors[i].columns) * size;
        if (i == 0 && bytes > 0) {
            must(mixt_safetensors_writer_write(writer, &first, size, &error), &error);
            bytes -= size;
        }
        must(mixt_safetensors_writer_write(writer, values, bytes, &error), &error);
    }
    must(mixt_safetensors_writer_finish(writer, &error), &error);
    mixt_safetensors_writer_free(writer);
    free(path);
    return folder;
}

static void must_refuse_to_merge(mixt_model *model, const char *folder, const char *rule)
{
    mixt_error error = MIXT_ERROR_INIT;
    must_refuse(mixt_model_merge(model, folder, &error), &error, folder, rule, folder);
}

static void refused(const char *keys, const tensor *tensors, size_t count, const char *rule)
{
    char *folder = write_adapter(keys, tensors, count, 0);
    mixt_model *model = must_open_model(FAMILIES "llama-gqa");
    mixt_model *untouched = must_open_model(FAMILIES "llama-gqa");
    must_refuse_to_merge(model, folder, rule);
    test_same_values(rule, model, untouched);
    assert_null(mixt_model_remark(model, 0));
    mixt_model_free(model);
    mixt_model_free(untouched);
    free(folder);
}

static void keys_that_change_more_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *rule;
    } cases[] = {
        {"\"r\": 2", "peft_type"},
        {"\"peft_type\": \"LOHA\", \"r\": 2", "peft_type: 'LOHA'"},
        {"\"peft_type\": 3", "peft_type"},
        {"\"peft_type\": \"LORA\", \"r\": 0", "r:"},
        {"\"peft_type\": \"LORA\", \"r\": -1", "r:"},
        {"\"peft_type\": \"LORA\", \"r\": 2147483648", "r:"},
        {"\"peft_type\": \"LORA\", \"r\": 2.5", "r:"},
        {"\"peft_type\": \"LORA\", \"r\": 3", "lora_A [2,32] and lora_B [32,2] must be [3,32]"},
        {"\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": NaN", "adapter_config.json"},
        {"\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1e300", "lora_alpha"},
        {"\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": \"4\"", "lora_alpha"},
        {GOOD ", \"fan_in_fan_out\": true", "fan_in_fan_out"},
        {GOOD ", \"use_dora\": true", "use_dora"},
        {GOOD ", \"use_qalora\": true", "use_qalora"},
        {GOOD ", \"lora_bias\": true", "lora_bias"},
        {GOOD ", \"modules_to_save\": [\"lm_head\"]", "modules_to_save"},
        {GOOD ", \"trainable_token_indices\": [1]", "trainable_token_indices"},
        {GOOD ", \"layer_replication\": [[0, 1]]", "layer_replication"},
        {GOOD ", \"alora_invocation_tokens\": [1]", "alora_invocation_tokens"},
        {GOOD ", \"kasa_config\": {\"a\": 1}", "kasa_config"},
        {GOOD ", \"use_bdlora\": {\"a\": 1}", "use_bdlora"},
        {GOOD ", \"something_new\": 1", "something_new: 1: not known"},
        {GOOD ", \"use_rslora\": 1", "use_rslora"},
        {GOOD ", \"init_lora_weights\": \"pissa_niter_4\"", "init_lora_weights: 'pissa_niter_4'"},
        {GOOD ", \"init_lora_weights\": \"olora\"", "init_lora_weights"},
        {GOOD ", \"init_lora_weights\": 7", "init_lora_weights"},
        {GOOD ", \"rank_pattern\": [1]", "rank_pattern"},
        {GOOD ", \"rank_pattern\": {\"q_proj\": 0}", "rank_pattern"},
        {GOOD ", \"rank_pattern\": {\"q_proj\": 1.5}", "rank_pattern"},
        {GOOD ", \"rank_pattern\": {\"q_proj\": 5}", "must be [5,32]"},
        {GOOD ", \"rank_pattern\": {\"q_(proj\": 2}",
         "'q_(proj' is no regular expression: missing closing"},
        {GOOD ", \"alpha_pattern\": {\"(?=q)\": 2}", "has a group that is not read"},
        {GOOD ", \"alpha_pattern\": {\"q\": \"2\"}", "alpha_pattern"},
        {GOOD ", \"alpha_pattern\": {\"(((a{200}){200}){200})\": 2}", "expression is too large"},
    };
    static const tensor pair[] = {PAIR};
    for (size_t i = 0; i < COUNT(cases); i++) {
        refused(cases[i].keys, pair, COUNT(pair), cases[i].rule);
    }
}

static void tensors_that_do_not_fit_are_refused(void **state)
{
    (void)state;
#define AT "base_model.model.model.layers.0."
#define F MIXT_DTYPE_F32
    static const struct {
        tensor tensors[4];
        const char *rule;
    } cases[] = {
        {{{0}}, "holds no adapter at all"},
        {{{PLACE "lora_A.weight", 2, 32, F}}, "lora_B.weight is missing"},
        {{{PLACE "lora_B.weight", 32, 2, F}}, "lora_A.weight is missing"},
        {{PAIR, {PLACE "lora_A.bias", 1, 2, F}}, "lora_bias"},
        {{PAIR, {PLACE "lora_magnitude_vector", 1, 32, F}}, "use_dora"},
        {{PAIR, {PLACE "base_layer.bias", 1, 32, F}}, "bias: all, lora_only"},
        {{PAIR, {"base_model.model.lm_head.modules_to_save.weight", 96, 32, F}}, "modules_to_save"},
        {{PAIR, {"base_model.model.lm_head.weight", 96, 32, F}}, "is no part of a LoRA adapter"},
        {{PAIR, {"model.layers.0.self_attn.k_proj.lora_A.weight", 2, 32, F}}, "is no part"},
        {{{"base_model.model.model.embed_tokens.lora_embedding_A", 2, 96, F},
          {"base_model.model.model.embed_tokens.lora_embedding_B", 32, 2, F}},
         "adapters of embeddings"},
        {{{"base_model.model.model.embed_tokens.lora_A.weight", 2, 32, F},
          {"base_model.model.model.embed_tokens.lora_B.weight", 96, 2, F}},
         "adapters of embeddings"},
        {{{"base_model.model.lm_head.lora_A.weight", 2, 32, F},
          {"base_model.model.lm_head.lora_B.weight", 96, 2, F}},
         "head is its embeddings"},
        {{{AT "self_attn.r_proj.lora_A.weight", 2, 32, F},
          {AT "self_attn.r_proj.lora_B.weight", 32, 2, F}},
         "the model has no such matrix"},
        {{{AT "input_layernorm.lora_A.weight", 2, 32, F},
          {AT "input_layernorm.lora_B.weight", 32, 2, F}},
         "adapts no matrix"},
        {{{AT "mlp.experts.lora_A.weight", 2, 32, F}, {AT "mlp.experts.lora_B.weight", 32, 2, F}},
         "the model has no such matrix"},
        {{{PLACE "lora_A.weight", 2, 31, F}, {PLACE "lora_B.weight", 32, 2, F}}, "must be [2,32]"},
        {{{PLACE "lora_A.weight", 32, 2, F}, {PLACE "lora_B.weight", 2, 32, F}}, "must be [2,32]"},
        {{{PLACE "lora_A.weight", 0, 32, F}, {PLACE "lora_B.weight", 32, 0, F}}, "is no matrix"},
        {{{PLACE "lora_A.weight", 2, 32, MIXT_DTYPE_U8}, {PLACE "lora_B.weight", 32, 2, F}},
         "has type U8"},
        {{PAIR, {PLACE "base_layer.weight", 16, 64, F}}, "another shape"},
        {{PAIR, {AT "self_attn.k_proj.base_layer.weight", 16, 32, F}}, "lora_A.weight is missing"},
        {{PAIR,
          {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight", 2, 32, F},
          {"base_model.model.layers.0.self_attn.q_proj.lora_B.weight", 32, 2, F}},
         "is adapted twice"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t count = 0;
        while (count < COUNT(cases[i].tensors) && cases[i].tensors[count].name != NULL) {
            count++;
        }
        refused(GOOD, cases[i].tensors, count, cases[i].rule);
    }
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const tensor pair[] = {PAIR};
    const float values[] = {NAN, INFINITY};
    for (size_t i = 0; i < COUNT(values); i++) {
        char *folder = write_adapter(GOOD, pair, COUNT(pair), values[i]);
        mixt_model *model = must_open_model(FAMILIES "llama-gqa");
        must_refuse_to_merge(model, folder,
                             i == 0 ? "holds NaN in row 0, column 0" : "holds Inf in row 0");
        mixt_model_free(model);
        free(folder);
    }
}

/* Cut anywhere, or a bit turned in the header: refused or merged, never worse. */
static void damaged_files_are_refused(void **state)
{
    (void)state;
    size_t length;
    char *data = read_file(ADAPTERS "mixtral/adapter_model.safetensors", &length);
    char *folder = embed("damaged", NULL, ADAPTERS "mixtral");
    char *path = mixt_path_join(folder, "adapter_model.safetensors");
    int refusals = 0, merged = 0;
    for (size_t i = 0; i < 400; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        char *copy = malloc(length);
        assert_non_null(copy);
        memcpy(copy, data, length);
        size_t bit = i * 7919 % (8 * 2500);
        copy[bit / 8] = (char)(copy[bit / 8] ^ (i % 2 != 0 ? 1 << bit % 8 : 0));
        write_file(path, copy, i % 2 != 0 ? length : length * i / 400);
        free(copy);
        mixt_model *model = must_open_model(FAMILIES "mixtral");
        mixt_status status = mixt_model_merge(model, folder, &error);
        merged += status == MIXT_OK;
        refusals += status != MIXT_OK;
        assert_true(status == MIXT_OK || mixt_status_is_refusal(status));
        assert_true(status == MIXT_OK || strstr(error.message, folder) != NULL);
        mixt_model_free(model);
    }
    assert_true(refusals >= 200 && refusals + merged == 400);
    unlink(path);
    mixt_model *model = must_open_model(FAMILIES "mixtral");
    must_refuse_to_merge(model, folder, "no such file");
    must_refuse_to_merge(model, FAMILIES "mixtral", "no such file; an adapter is a folder with");
    mixt_model_free(model);
    free(data);
    free(path);
    free(folder);
}

/* ------------------------------------------------------------------------------------------ */
/* Names                                                                                      */

/* [pattern, name, whether Python's re matches] */
static void patterns_match_as_in_python(void **state)
{
    (void)state;
    json_error_t problem;
    json_t *root = json_load_file(ADAPTERS "patterns.json", 0, &problem), *one;
    size_t index;
    assert_true(json_array_size(root) > 100);
    json_array_foreach(root, index, one)
    {
        char what[MIXT_PATTERN_PROBLEM] = "";
        const char *text = json_string_value(json_array_get(one, 0));
        const char *name = json_string_value(json_array_get(one, 1));
        bool matches = false;
        mixt_name_pattern *pattern;
        mixt_status status = mixt_name_pattern_create(text, &pattern, what);
        status = status == MIXT_OK ? mixt_name_pattern_match(pattern, name, &matches) : status;
        if (status != MIXT_OK || matches != json_is_true(json_array_get(one, 2))) {
            fail_msg("'%s' %s '%s' (%s)", text, matches ? "matches" : "does not match", name, what);
        }
        mixt_name_pattern_free(pattern);
    }
    json_decref(root);
}

/* Patterns over which a matcher that goes back would not end; and what is not read. */
static void no_pattern_takes_long(void **state)
{
    (void)state;
    static const char *const slow[] = {"(a*)*b", "(a|a)*b", "((a+)+)+b",
                                       "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b"};
    static const char *const bad[] = {"*a",       "(?P<x>a)", "a\\b",        "\\1",  "[a",
                                      "a{70000}", "[z-a]",    "(*ACCEPT)a",  "a)",   "((a)",
                                      "a\\",      ")",        "[[:alpha:]]", "\\Qa", "(?i)a"};
    char name[200], what[MIXT_PATTERN_PROBLEM];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    mixt_name_pattern *pattern;
    for (size_t i = 0; i < COUNT(slow); i++) { /* not matched, or given up: both at once */
        bool matches = false;
        assert_int_equal(mixt_name_pattern_create(slow[i], &pattern, what), MIXT_OK);
        mixt_name_pattern_match(pattern, name, &matches);
        assert_false(matches);
        mixt_name_pattern_free(pattern);
    }
    assert_int_equal(mixt_name_pattern_create("((a|aa)+)+[bc]", &pattern, what), MIXT_OK);
    bool matches;
    assert_int_equal(mixt_name_pattern_match(pattern, name, &matches), MIXT_ERROR_FORMAT);
    mixt_name_pattern_free(pattern);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (mixt_name_pattern_create(bad[i], &pattern, what) != MIXT_ERROR_FORMAT) {
            fail_msg("'%s' is read", bad[i]);
        }
    }
    char *deep = malloc(100001);
    assert_non_null(deep);
    for (int length = 1900; length <= 100000; length += 98100) {
        memset(deep, '(', (size_t)length);
        deep[length] = '\0';
        assert_int_equal(mixt_name_pattern_create(deep, &pattern, what), MIXT_ERROR_FORMAT);
    }
    free(deep);
}

/* ------------------------------------------------------------------------------------------ */
/* The program                                                                                */

static void the_program_merges(void **state)
{
    (void)state;
    char here[1024];
    assert_non_null(getcwd(here, sizeof here));
    setenv("FIXTURES", strcat(here, "/tests/fixtures"), 1);
    shell_do("BASE=$FIXTURES/families/mixtral\n"
             "mkdir both && cp $BASE/*.json $BASE/model.safetensors both\n"
             "cp -r $FIXTURES/adapters/mixtral adapter && cp adapter/adapter_* both\n"
             "$MIXT convert $BASE --merge adapter -o merged 2>said\n"
             "grep -q '^adapter: LoRA adapter merged: 54 matrices, rank 2 to 3, scale 1.66667 to "
             "2.5$' said\n"
             "$MIXT convert both -o opened && cmp merged/model.safetensors "
             "opened/model.safetensors\n"
             "test $(ls opened | grep -c adapter) = 0\n"
             "$MIXT convert $BASE -o old --merge adapter --type BF16\n"
             "cp adapter/adapter_* old && $MIXT convert $BASE -o old --type BF16\n"
             "$MIXT convert $BASE -o plain --type BF16\n"
             "cmp old/model.safetensors plain/model.safetensors && test ! -e "
             "old/adapter_config.json\n"
             "$MIXT info both\n");
    assert_has(shell_out, "adapter                both (54 matrices, rank 2 to 3");
    assert_has(shell_err, "note: both: LoRA adapter merged");
    shell_do("$MIXT info both --json");
    assert_has(shell_out, "\"adapter\": \"both (54 matrices");
}

static void the_program_refuses(void **state)
{
    (void)state;
    shell_refuses("$MIXT info adapter", "mixt convert BASE --merge adapter -o OUTPUT");
    shell_refuses("$MIXT convert $FIXTURES/families/mixtral --merge adapter -o adapter",
                  "--output: adapter is read here");
    shell_refuses("$MIXT convert $FIXTURES/families/mixtral --merge nowhere -o none",
                  "nowhere/adapter_config.json: no such file");
    shell_refuses("$MIXT convert $FIXTURES/families/llama --merge adapter -o none",
                  "the model has no such matrix");
    assert_int_equal(shell("$MIXT convert both --merge both/../both -o none"), 2);
    assert_has(shell_err, "both/../both: its adapter is in the model already");
    shell_do("mkdir -p run/model && cp both/* run/model");
    shell_refuses("$MIXT convert $FIXTURES/families/mixtral --merge run -o run/model",
                  "--output: run/model is read here");
    shell_do("cmp run/model/adapter_model.safetensors both/adapter_model.safetensors\n"
             "$MIXT convert $FIXTURES/families/mixtral --merge run -o of-run\n"
             "cmp merged/model.safetensors of-run/model.safetensors\n"
             "rm run/model/adapter_config.json");
    shell_refuses("$MIXT info run", "run/model: holds adapter_model.safetensors without its ");
    shell_do("sed -i 's/\"use_dora\": false/\"use_dora\": true/' both/adapter_config.json");
    shell_refuses("$MIXT info both", "both/adapter_config.json: use_dora: true");
    shell_do("test ! -e none && ls adapter/adapter_model.safetensors");
}

int main(void)
{
    struct CMUnitTest tests[32];
    size_t count = 0;
    for (size_t i = 0; i < COUNT(fixtures); i++) {
        tests[count++] = (struct CMUnitTest){.name = fixtures[i],
                                             .test_func = merged_as_by_peft,
                                             .initial_state = (void *)(uintptr_t)fixtures[i]};
        tests[count++] = (struct CMUnitTest){.name = "GGUF",
                                             .test_func = merged_into_gguf,
                                             .initial_state = (void *)(uintptr_t)fixtures[i]};
    }
    const struct CMUnitTest others[] = {
        cmocka_unit_test(values_are_the_formula),
        cmocka_unit_test(a_run_is_merged_to_the_bit),
        cmocka_unit_test(only_what_is_adapted_lies_in_memory),
        cmocka_unit_test(quantised_models_are_merged),
        cmocka_unit_test(beside_its_model_it_is_applied),
        cmocka_unit_test(an_older_adapter_is_not_applied_to_what_is_written),
        cmocka_unit_test(a_save_that_ends_early),
        cmocka_unit_test(an_adapter_alone_is_no_model),
        cmocka_unit_test(keys_that_change_more_are_refused),
        cmocka_unit_test(tensors_that_do_not_fit_are_refused),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(patterns_match_as_in_python),
        cmocka_unit_test(no_pattern_takes_long),
    };
    for (size_t i = 0; i < COUNT(others); i++) {
        tests[count++] = others[i];
    }
    const struct CMUnitTest of_program[] = {
        cmocka_unit_test(the_program_merges),
        cmocka_unit_test(the_program_refuses),
    };
    int failed = _cmocka_run_group_tests("adapter", tests, count, scratch_make_context,
                                         scratch_remove_context);
    return failed + cmocka_run_group_tests(of_program, shell_make, scratch_remove);
}
