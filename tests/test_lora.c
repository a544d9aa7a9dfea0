/* Low-rank adapters on experts: what the model computes with them, how they learn beside a model
 * that keeps its bits, and the files in which PEFT finds them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "model/adapters.h"
#include "model_checks.h"
#include "ops/low_rank.h"
#include "train/trainer.h"
#include "train_setup.h"

#define RANK 3

static mixt_model_options model_options(void)
{
    mixt_model_options options = train_setup_model_options();
    options.layers = 3;
    options.leading_dense_layers = 1;
    options.shared_experts = 1;
    return options;
}

static void lora_open(train_setup *setup, int threads)
{
    mixt_model_options options = model_options();
    train_setup_open(setup, threads, &options);
    setup->options.lora_rank = RANK;
    setup->options.lora_alpha = 6;
    setup->options.lora_base = "the base";
    setup->options.learning_rate = 0.02;
}

static double step(mixt_trainer *trainer)
{
    mixt_step_report report = train_setup_steps(trainer, 1);
    assert_true(report.gradient_norm > 0);
    return report.loss;
}

/* The row function does what its header says, operation by operation. */
static void rows_are_said_exactly(void **state)
{
    enum { COLUMNS = 700, ROW_RANK = 5 };
    static float w[COLUMNS], a[ROW_RANK * COLUMNS], y[COLUMNS], b[ROW_RANK];
    (void)state;
    for (int i = 0; i < ROW_RANK * COLUMNS; i++) {
        a[i] = (float)sin(i);
        w[i % COLUMNS] = (float)cos(3 * (i % COLUMNS));
        b[i % ROW_RANK] = (float)exp(-(i % ROW_RANK));
    }
    mixt_low_rank shape = {COLUMNS, ROW_RANK, 2.0 / 3};
    mixt_low_rank_row_f32(&shape, w, b, a, y);
    for (int i = 0; i < COLUMNS; i++) {
        volatile float sum = 0, product;
        for (int k = 0; k < ROW_RANK; k++) {
            product = b[k] * a[k * COLUMNS + i];
            sum = sum + product;
        }
        product = (float)(2.0 / 3) * sum;
        sum = w[i] + product;
        assert_memory_equal(&y[i], (const float[]){sum}, sizeof *y);
    }
    mixt_low_rank_row_f32(&shape, w, b, a, w); /* in place */
    assert_memory_equal(w, y, sizeof y);
}

/* Adapters at random places, B too. */
static mixt_model *adapted_model(const mixt_model_options *options)
{
    mixt_model *model = test_new_model(options, 0.1);
    mixt_adapters adapters = {.rank = RANK, .alpha = 4, .targets = MIXT_LORA_UP | MIXT_LORA_DOWN};
    assert_int_equal(mixt_adapters_check(model, &adapters, NULL), MIXT_OK);
    assert_int_equal(mixt_adapters_add(model, &adapters, 5, NULL), MIXT_OK);
    mixt_random_key key = {3, MIXT_RANDOM_DATA, 9};
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        for (size_t k = 0; mixt_slot_is_adapter(p->slot) && k < p->count; k++) {
            model->weights[p->offset + k] = (float)(0.3 * mixt_random_normal(&key, k));
        }
        model->parameters[i].trainable = p->trainable || mixt_slot_is_adapter(p->slot);
    }
    return model;
}

/* Derivatives of adapters and of all else under them; the same logits in every phase. */
static void derivatives_and_phases(void **state)
{
    (void)state;
    mixt_model_options options = test_small_options();
    mixt_model *model = adapted_model(&options);
    test_gradients(model, "a model with adapters");
    test_phases(model, 0);
    mixt_model_free(model);
}

/* Whether what is no adapter still has the bits of `before`, of which `count` values are. */
static bool base_is(const mixt_model *model, const float *before, size_t count)
{
    return memcmp(mixt_model_block(model), before, count * sizeof(float)) == 0;
}

static float *copy_block(const mixt_model *model)
{
    float *copy = malloc(model->weight_count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, mixt_model_block(model), model->weight_count * sizeof *copy);
    return copy;
}

/* The first step sees the base model; then the adapters alone learn. */
static void adapters_learn_alone(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options options = model_options();
    train_setup_open(&setup, 1, &options);
    size_t count = setup.model->weight_count;
    float *before = copy_block(setup.model);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    double first = step(trainer);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);

    lora_open(&setup, 2);
    trainer = train_setup_trainer(&setup);
    assert_true(first == step(trainer)); /* the same bits */
    double last = first;
    for (int i = 1; i < 12; i++) {
        last = step(trainer);
    }
    assert_true(last < first - 0.2);
    assert_true(base_is(setup.model, before, count));
    uint64_t adapters = 2 * 4 * 3 * RANK * (32 + 16);
    assert_int_equal(mixt_trainer_learning(trainer, MIXT_PART_ADAPTERS), adapters);
    assert_int_equal(mixt_trainer_learning(trainer, MIXT_PART_ALL), 0);
    assert_true(mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS)->size <
                (adapters + 12 * 16) * sizeof(float));
    mixt_trainer_free(trainer);
    free(before);
    train_setup_close(&setup);
}

/* A begins inside its bounds by the seed, B at zero. */
static void how_adapters_begin(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 3; seed++) {
        mixt_model_options options = model_options();
        mixt_model *model = test_new_model(&options, 0), *other = test_new_model(&options, 0);
        mixt_adapters adapters = {.rank = RANK, .alpha = 3, .targets = MIXT_LORA_ALL};
        assert_int_equal(mixt_adapters_add(model, &adapters, 1, NULL), MIXT_OK);
        assert_int_equal(mixt_adapters_add(other, &adapters, seed, NULL), MIXT_OK);
        int index = mixt_model_find(model, MIXT_SLOT_EXPERT_DOWN_A, 2);
        assert_true(index >= 0 && mixt_model_find(model, MIXT_SLOT_EXPERT_DOWN_A, 0) < 0);
        const mixt_parameter *p = &model->parameters[index], *b = p + 1;
        const float *a = model->weights + p->offset;
        double largest = 0;
        for (size_t k = 0; k < p->count; k++) {
            largest = fmax(largest, fabs((double)a[k]));
        }
        assert_true(largest <= 0.25 && largest > 0.24); /* 1 / sqrt(16) */
        assert_true((memcmp(a, other->weights + p->offset, p->count * sizeof *a) == 0) ==
                    (seed == 1));
        for (size_t k = 0; k < b->count; k++) {
            assert_true(model->weights[b->offset + k] == 0);
        }
        assert_string_equal(p->name, "base_model.model.model.layers.2.mlp.experts.{E}.down_proj."
                                     "lora_A.weight");
        mixt_model_free(model);
        mixt_model_free(other);
    }
}

/* Parts that are named learn beside the adapters, in both optimizers; nothing else moves. */
static void parts_learn_beside(void **state)
{
    (void)state;
    for (int muon = 0; muon < 2; muon++) {
        train_setup setup;
        lora_open(&setup, 1);
        setup.options.parts = MIXT_PART_ROUTER | MIXT_PART_NORMS;
        setup.options.lora_targets = MIXT_LORA_DOWN;
        setup.options.optimizer = muon ? MIXT_OPTIMIZER_MUON : MIXT_OPTIMIZER_ADAMW;
        mixt_model *model = setup.model;
        float *before = copy_block(model);
        size_t count = model->weight_count;
        mixt_trainer *trainer = train_setup_trainer(&setup);
        for (int i = 0; i < 3; i++) {
            step(trainer);
        }
        for (int i = 0; i < model->parameter_count; i++) {
            const mixt_parameter *p = &model->parameters[i];
            bool learns = (mixt_slot_part(p->slot) & setup.options.parts) != 0;
            bool moved =
                p->offset < count && memcmp(mixt_model_block(model) + p->offset, before + p->offset,
                                            p->count * sizeof(float)) != 0;
            assert_int_equal(moved, p->offset < count && learns);
            assert_int_equal(mixt_slot_is_adapter(p->slot), p->offset >= count);
        }
        assert_int_equal(model->parameter_count - mixt_model_find(model, MIXT_SLOT_OUTPUT, -1), 5);
        mixt_trainer_free(trainer);
        free(before);
        train_setup_close(&setup);
    }
}

/* With recomputation, a broken run and threads: the same bits. */
static void open_with_parts(train_setup *setup, int threads, int64_t parts)
{
    lora_open(setup, threads);
    setup->options.parts = parts;
}

static void a_resumed_run_is_the_same(void **state)
{
    (void)state;
    mixt_model_options options = model_options();
    train_setup_check_resume(open_with_parts, MIXT_PART_ROUTER, &options, true);
}

/* Every expert's A and B in the file, with the bits that were trained, and nothing else. */
static void compare_file(const mixt_model *model, const char *folder)
{
    char path[300], name[128];
    mixt_safetensors *file;
    size_t tensors = 0;
    snprintf(path, sizeof path, "%s/" MIXT_ADAPTER_WEIGHTS, folder);
    assert_int_equal(mixt_safetensors_open(path, &file, NULL), MIXT_OK);
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        for (int e = 0; mixt_slot_is_adapter(p->slot) && e < p->size[0]; e++) {
            size_t values = p->count / (size_t)p->size[0];
            float *read = malloc(values * sizeof *read);
            mixt_parameter_expert_name(p, e, name);
            const mixt_tensor_info *tensor = mixt_safetensors_find(file, name);
            assert_non_null(tensor);
            assert_int_equal(tensor->rank, 2);
            assert_int_equal(tensor->shape[0], p->size[1]);
            assert_int_equal(tensor->shape[1], p->size[2]);
            assert_int_equal(
                mixt_safetensors_read(file, tensor, 0, values * sizeof *read, read, NULL), MIXT_OK);
            assert_memory_equal(read, mixt_model_block(model) + p->offset + (size_t)e * values,
                                values * sizeof *read);
            free(read);
            tensors++;
        }
    }
    assert_int_equal(tensors, mixt_safetensors_count(file));
    mixt_safetensors_close(file);
}

static void compare_config(const char *folder, const char *modules)
{
    char path[300];
    json_t *root;
    snprintf(path, sizeof path, "%s/" MIXT_ADAPTER_CONFIG, folder);
    assert_int_equal(mixt_json_read(path, 1 << 20, &root, NULL), MIXT_OK);
    assert_int_equal(json_integer_value(json_object_get(root, "r")), RANK);
    assert_int_equal(json_integer_value(json_object_get(root, "lora_alpha")), 6);
    assert_string_equal(json_string_value(json_object_get(root, "peft_type")), "LORA");
    assert_string_equal(json_string_value(json_object_get(root, "base_model_name_or_path")),
                        "the base");
    const json_t *has = json_object_get(root, "target_modules");
    char *text = mixt_json_text(has, JSON_ENCODE_ANY | JSON_COMPACT);
    assert_string_equal(text, modules);
    free(text);
    json_decref(root);
}

/* Checkpoints and saved models are complete folders with the adapters beside the base. */
static void folders_hold_both(void **state)
{
    (void)state;
    train_setup setup;
    lora_open(&setup, 1);
    char path[300], whole[320];
    mixt_model *opened;
    mixt_trainer *trainer = train_setup_trainer(&setup);
    train_setup_steps(trainer, 3);
    assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
    snprintf(path, sizeof path, "%s/step-00000003", setup.run);
    compare_file(setup.model, path);
    /* gate_proj is the dense layer's too, so that a regular expression names the modules */
    compare_config(path, "\"model\\\\.layers\\\\.\\\\d+\\\\.mlp\\\\.experts\\\\.(?:\\\\d+\\\\.)?"
                         "gate_proj|model\\\\.layers\\\\.\\\\d+\\\\.mlp\\\\.experts\\\\.(?:\\\\d+"
                         "\\\\.)?up_proj|model\\\\.layers\\\\.\\\\d+\\\\.mlp\\\\.experts\\\\.(?:"
                         "\\\\d+\\\\.)?down_proj\"");
    snprintf(path, sizeof path, "%s/saved", setup.folder);
    assert_int_equal(mixt_model_save(setup.model, path, NULL), MIXT_OK);
    compare_file(setup.model, path);
    mixt_trainer_free(trainer);
    /* a model without adapters that takes the folder takes theirs away */
    mixt_model_options options = model_options();
    train_setup_new_model(&setup, &options);
    assert_int_equal(mixt_model_save(setup.model, path, NULL), MIXT_OK);
    snprintf(whole, sizeof whole, "%s/" MIXT_ADAPTER_CONFIG, path);
    assert_false(mixt_path_exists(whole));
    assert_int_equal(mixt_model_open(path, &opened, NULL), MIXT_OK);
    mixt_model_free(opened);
    train_setup_close(&setup);
}

/* Where nothing else is called w1, w2 or w3, the names say it. */
static void names_where_they_are_alone(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_adapters adapters = {
        .rank = RANK, .alpha = 6, .targets = MIXT_LORA_ALL, .base = "the base"};
    assert_int_equal(mixt_adapters_add(setup.model, &adapters, 1, NULL), MIXT_OK);
    assert_int_equal(mixt_model_save(setup.model, setup.run, NULL), MIXT_OK);
    compare_config(setup.run, "[\"w1\",\"w3\",\"w2\"]");
    train_setup_close(&setup);
}

static void refused(train_setup *s, const char *part)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    mixt_status status = mixt_trainer_create(s->context, s->model, s->data, s->tokenizer,
                                             &s->options, s->run, &trainer, &error);
    if (status == MIXT_OK || strstr(error.message, part) == NULL ||
        strchr(error.message, '\n') != NULL) {
        fail_msg("%s: no word of %s", error.message, part);
    }
    assert_null(trainer);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    train_setup setup;
    lora_open(&setup, 1);
    mixt_model_options dense = train_setup_model_options();
    setup.options.lora_rank = 17;
    refused(&setup, "lora_rank 17 is more than 16");
    setup.options.lora_rank = -1;
    refused(&setup, "lora_rank -1 is not in");
    setup.options.lora_rank = 0;
    refused(&setup, "lora_alpha: of adapters");
    setup.options.lora_rank = RANK;
    setup.options.lora_alpha = -1;
    refused(&setup, "lora_alpha -1 is not in");
    setup.options.lora_alpha = 1.1e9; /* no adapter with it would be read */
    refused(&setup, "lora_alpha 1100000000 is not in 0..1e+09");
    setup.options.lora_alpha = NAN;
    refused(&setup, "lora_alpha");
    setup.options.lora_alpha = INFINITY;
    refused(&setup, "lora_alpha");
    setup.options.lora_alpha = 0;
    setup.options.lora_targets = 8;
    refused(&setup, "lora_targets 8 is not in 0..7");
    setup.options.lora_targets = 0;
    setup.options.parts = MIXT_PART_EXPERTS | MIXT_PART_ROUTER;
    refused(&setup, "experts stay as they are under adapters");
    setup.options.parts = 0;
    setup.options.lora_base = "\xff";
    refused(&setup, "lora_base is not UTF-8");
    setup.options.lora_base = NULL;
    dense.experts = 0;
    train_setup_new_model(&setup, &dense);
    refused(&setup, "the model is dense");
    train_setup_close(&setup);
}

/* A model that has adapters goes on with them and with no others. */
static void adapters_go_on(void **state)
{
    (void)state;
    train_setup setup;
    lora_open(&setup, 1);
    mixt_trainer *trainer = train_setup_trainer(&setup);
    double first = step(trainer);
    for (int i = 0; i < 8; i++) {
        step(trainer);
    }
    mixt_trainer_free(trainer);
    assert_int_equal(mixt_folder_remove(setup.run, NULL), MIXT_OK);
    setup.options.lora_rank = 2;
    refused(&setup, "other adapters, of rank 3");
    setup.options.lora_rank = 0;
    setup.options.lora_alpha = 0;
    refused(&setup, "the model has adapters of rank 3");
    setup.options.lora_rank = RANK;
    setup.options.lora_alpha = 6;
    trainer = train_setup_trainer(&setup);
    assert_true(step(trainer) < first - 0.1);
    mixt_trainer_free(trainer);
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_said_exactly),     cmocka_unit_test(derivatives_and_phases),
        cmocka_unit_test(how_adapters_begin),        cmocka_unit_test(adapters_learn_alone),
        cmocka_unit_test(parts_learn_beside),        cmocka_unit_test(a_resumed_run_is_the_same),
        cmocka_unit_test(folders_hold_both),         cmocka_unit_test(names_where_they_are_alone),
        cmocka_unit_test(what_cannot_be_is_refused), cmocka_unit_test(adapters_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
