/* Models whose matrices are of a type that mixt reads and does not write: opened, run, converted.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "difference.h"
#include "formats/gguf.h"
#include "mixt.h"
#include "model/model.h"
#include "quant/mix.h"
#include "quant/quant.h"
#include "scratch.h"

#define VOCABULARY 64
#define PROMPT 9
#define TOKENS 14

/* A Mixture-of-Experts model all of whose matrices have rows of 256 or 512. */
static void write_source(const char *path)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = VOCABULARY;
    options.hidden_size = 256;
    options.heads = 4;
    options.kv_heads = 2;
    options.head_dim = 64;
    options.layers = 2;
    options.ffn_size = 512;
    options.experts = 4;
    options.experts_per_token = 4; /* of fewer, rounded activations would choose others */
    mixt_model *model;
    must(mixt_model_create(&options, 3, &model, &error), &error);
    mixt_convert_options conversion = mixt_convert_options_default();
    conversion.output = path;
    conversion.type = "Q4_K_S";
    conversion.pure = true;
    must(mixt_convert(scratch_context, model, &conversion, NULL, NULL, &error), &error);
    mixt_model_free(model);
}

static uint64_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void put_scale(mixt_type type, unsigned char *block, float d)
{
    uint16_t half = mixt_f16_bits(d);
    if (type == MIXT_TYPE_IQ1_M) {
        for (int i = 0; i < 4; i++) {
            block[49 + 2 * i] =
                (unsigned char)((block[49 + 2 * i] & 15) | (half >> 4 * i & 15) << 4);
        }
    } else if (type == MIXT_TYPE_NVFP4) {
        for (int i = 0; i < 4; i++) {
            block[i] = (unsigned char)(d == 1 ? 0x40 : 16 + block[i] % 8);
        }
    } else {
        memcpy(block + (type == MIXT_TYPE_TQ1_0   ? 52
                        : type == MIXT_TYPE_TQ2_0 ? 64
                                                  : 0),
               &half, sizeof half);
    }
}

/* Any bits, with a scale that leaves no value above 0.1. */
static void fill(mixt_type type, unsigned char *bytes, size_t size, uint64_t *state)
{
    const mixt_type_row *row = mixt_type_info(type);
    for (size_t at = 0; at < size; at += (size_t)row->bytes) {
        float values[256], most = 0;
        for (int i = 0; i < row->bytes; i++) {
            bytes[at + (size_t)i] = (unsigned char)random_bits(state);
        }
        put_scale(type, bytes + at, 1);
        mixt_dequantise(type, bytes + at, values, row->elements);
        for (int i = 0; i < row->elements; i++) {
            most = fmaxf(most, fabsf(values[i]));
        }
        put_scale(type, bytes + at, 0.1F / most);
    }
}

/* The source with every quantised tensor in the type. */
static void write_as(const char *source, const char *path, mixt_type type)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *file;
    mixt_gguf_writer *writer;
    uint64_t state = (uint64_t)type;
    must(mixt_gguf_open(source, &file, &error), &error);
    must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        mixt_gguf_kind kind;
        must(mixt_gguf_writer_copy(writer, file, mixt_gguf_key_at(file, i, &kind), &error), &error);
    }
    size_t count = mixt_gguf_tensor_count(file);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            const mixt_gguf_tensor *t = mixt_gguf_tensor_at(file, i);
            bool matrix = mixt_type_info(t->type)->elements > 1;
            mixt_type own = matrix ? type : t->type;
            if (pass == 0) {
                must(mixt_gguf_writer_add(writer, t->name, own, t->rank, t->size, &error), &error);
                continue;
            }
            size_t bytes =
                matrix ? mixt_type_row_bytes(own, t->size[0]) * (size_t)(t->size[1] * t->size[2])
                       : t->bytes;
            unsigned char *data = malloc(bytes);
            assert_non_null(data);
            memcpy(data, t->data, matrix ? 0 : bytes);
            if (matrix) {
                fill(own, data, bytes, &state);
            }
            must(mixt_gguf_writer_write(writer, data, bytes, &error), &error);
            free(data);
        }
        if (pass == 0) {
            must(mixt_gguf_writer_begin(writer, &error), &error);
        }
    }
    must(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(file);
}

static void run_logits(const char *path, int prompt, float *logits)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    mixt_session *session;
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (i * 17 + 3) % VOCABULARY;
    }
    must(mixt_model_open(path, &model, &error), &error);
    must(mixt_model_verify(model, &error), &error);
    must(mixt_session_create(scratch_context, model, 32, &session, &error), &error);
    must(mixt_session_feed(session, tokens, prompt, &error), &error);
    for (int i = prompt; i < TOKENS; i++) {
        must(mixt_session_feed(session, tokens + i, 1, &error), &error);
    }
    memcpy(logits, mixt_session_logits(session), VOCABULARY * sizeof *logits);
    mixt_session_free(session);
    mixt_model_free(model);
}

static void convert(const char *from, const char *to, const char *type)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    mixt_convert_options options = mixt_convert_options_default();
    options.output = to;
    options.type = type;
    must(mixt_model_open(from, &model, &error), &error);
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model_free(model);
}

/* Of every tensor the values, as F32. */
static void same_values(const char *path, const char *plain)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *a, *b;
    must(mixt_gguf_open(path, &a, &error), &error);
    must(mixt_gguf_open(plain, &b, &error), &error);
    assert_int_equal(mixt_gguf_tensor_count(a), mixt_gguf_tensor_count(b));
    for (size_t i = 0; i < mixt_gguf_tensor_count(a); i++) {
        const mixt_gguf_tensor *x = mixt_gguf_tensor_at(a, i), *y = mixt_gguf_find(b, x->name);
        assert_non_null(y);
        size_t count = x->bytes / (size_t)mixt_type_info(x->type)->bytes *
                       (size_t)mixt_type_info(x->type)->elements;
        assert_int_equal(y->type, MIXT_TYPE_F32);
        assert_int_equal(y->bytes, count * sizeof(float));
        float *expected = malloc(y->bytes);
        assert_non_null(expected);
        mixt_dequantise(x->type, x->data, expected, (int64_t)count);
        assert_memory_equal(expected, y->data, y->bytes);
        free(expected);
    }
    mixt_gguf_close(a);
    mixt_gguf_close(b);
}

/* A prompt gives the bits of its tokens one by one, and nearly those of the same values in fp32;
 * what is converted is the same blocks or the same values. */
static void models_of_read_types(void **state)
{
    (void)state;
    char *source = scratch_path("source.gguf"), *path = scratch_path("typed.gguf");
    char *plain = scratch_path("plain.gguf"), *again = scratch_path("again.gguf");
    int types = 0;
    write_source(source);
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        mixt_type type = (mixt_type)i;
        if (mixt_type_can_quantise(type) || mixt_type_info(type)->number < 0) {
            continue;
        }
        float prompt[VOCABULARY], single[VOCABULARY], exact[VOCABULARY];
        write_as(source, path, type);
        convert(path, again, NULL);
        test_same_tensors(mixt_type_info(type)->name, path, again);
        convert(path, plain, "F32");
        same_values(path, plain);
        run_logits(path, PROMPT, prompt);
        run_logits(path, 1, single);
        assert_memory_equal(prompt, single, sizeof prompt);
        run_logits(plain, PROMPT, exact);
        double wrong = 0, all = 0;
        for (int j = 0; j < VOCABULARY; j++) {
            wrong += pow((double)prompt[j] - exact[j], 2);
            all += pow((double)exact[j], 2);
        }
        if (!(all > 0 && wrong < 0.01 * all)) { /* a tenth */
            fail_msg("%s: error %g of %g", mixt_type_info(type)->name, sqrt(wrong), sqrt(all));
        }
        types++;
    }
    assert_int_equal(types, 12);
    free(source);
    free(path);
    free(plain);
    free(again);
}

/* llama.cpp's numbers and names; mixes have the number of their name. */
static void file_types_have_names(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *name;
    } known[] = {{0, "F32"},      {7, "Q8_0"},   {13, "Q3_K_L"}, {15, "Q4_K_M"},
                 {19, "IQ2_XXS"}, {27, "IQ3_M"}, {29, "IQ2_M"},  {31, "IQ1_M"},
                 {36, "TQ1_0"},   {39, "NVFP4"}, {41, "Q2_0"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_string_equal(mixt_file_type_name(known[i].number), known[i].name);
    }
    static const int none[] = {-1, 4, 5, 6, 33, 34, 35, 42, 1024};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_null(mixt_file_type_name(none[i]));
    }
    for (int i = 0; mixt_mix_name(i) != NULL; i++) {
        int number = mixt_mix_file_type(mixt_mix_by_name(mixt_mix_name(i)));
        assert_string_equal(mixt_file_type_name(number), mixt_mix_name(i));
    }
    assert_int_equal(mixt_mix_file_type(NULL), 1024);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    char *source = scratch_path("source.gguf"), *path = scratch_path("large.gguf");
    write_source(source);
    convert(source, path, "Q3_K_L");
    must(mixt_model_open(path, &model, &error), &error);
    mixt_model_info info;
    mixt_model_describe(model, &info);
    assert_string_equal(info.file_type, "Q3_K_L");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = path;
    options.type = "IQ2_XS";
    assert_int_equal(mixt_convert(scratch_context, model, &options, NULL, NULL, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "'IQ2_XS' is not a type that mixt can write"));
    assert_non_null(strstr(error.message, " Q3_K_L "));
    mixt_model_free(model);
    free(source);
    free(path);
}

/* The two mixes as llama-quant.cpp lays them: layer 0 of 16, with 8 experts and with others. */
static void mixes_are_llama_cpps(void **state)
{
    (void)state;
    const struct {
        const char *mix;
        mixt_place place;
        int experts, layer, group;
        mixt_type type;
    } rows[] = {
        {"Q3_K_L", MIXT_PLACE_VALUE, 0, 9, 1, MIXT_TYPE_Q5_K},
        {"Q3_K_L", MIXT_PLACE_VALUE, 8, 9, 1, MIXT_TYPE_Q8_0},
        {"Q3_K_L", MIXT_PLACE_KEY, 64, 9, 1, MIXT_TYPE_Q3_K},
        {"Q3_K_L", MIXT_PLACE_DOWN_STACK, 64, 9, 1, MIXT_TYPE_Q5_K},
        {"Q3_K_L", MIXT_PLACE_ATTENTION_OUTPUT, 64, 9, 1, MIXT_TYPE_Q5_K},
        {"Q3_K_L", MIXT_PLACE_ATTENTION_OUTPUT, 8, 9, 1, MIXT_TYPE_Q3_K},
        {"Q3_K_L", MIXT_PLACE_OUTPUT, 8, 9, 1, MIXT_TYPE_Q6_K},
        {"Q2_K_S", MIXT_PLACE_VALUE, 64, 9, 4, MIXT_TYPE_Q4_K},
        {"Q2_K_S", MIXT_PLACE_VALUE, 64, 9, 2, MIXT_TYPE_Q2_K},
        {"Q2_K_S", MIXT_PLACE_DOWN_STACK, 64, 1, 2, MIXT_TYPE_Q4_K},
        {"Q2_K_S", MIXT_PLACE_DOWN_STACK, 64, 2, 2, MIXT_TYPE_Q2_K},
        {"Q2_K_S", MIXT_PLACE_ATTENTION_OUTPUT, 8, 9, 2, MIXT_TYPE_Q2_K},
        {"Q2_K_S", MIXT_PLACE_EMBED, 8, 9, 2, MIXT_TYPE_Q2_K},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const mixt_mix_request request = {.place = rows[i].place,
                                          .layer = rows[i].layer,
                                          .layers = 16,
                                          .experts = rows[i].experts,
                                          .head_group = rows[i].group,
                                          .columns = 512};
        assert_int_equal(mixt_mix_type(mixt_mix_by_name(rows[i].mix), &request), rows[i].type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_of_read_types),
        cmocka_unit_test(file_types_have_names),
        cmocka_unit_test(mixes_are_llama_cpps),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
