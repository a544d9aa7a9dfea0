/* Folders and files as others write them today (tests/fixtures/checkpoints, made by
 * tests/reference/checkpoints.py): their logits, those of what they are converted into, what is
 * said of them, and what is refused. */
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

#include "core/files.h"
#include "formats/safetensors.h"
#include "model/storage.h"
#include "quant/quant.h"

#define FOLDER "tests/fixtures/checkpoints/"
#define FAMILIES "tests/fixtures/families/"
#define TOLERANCE 2e-5 /* two fp32 implementations on logits of up to 6 */

static mixt_context *context;
static char home[64];

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

static char *in_home(const char *name)
{
    static char path[4][160];
    static int next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], "%s/%s", home, name);
    return to;
}

static char *fixture(const char *name)
{
    static char path[4][160];
    static int next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], FOLDER "%s", name);
    return to;
}

/* ------------------------------------------------------------------------------------------ */
/* Logits                                                                                     */

typedef struct expected {
    size_t count, vocab;
    int32_t tokens[64];
    float logits[64 * 64];
} expected;

static void read_expected(const char *folder, expected *to)
{
    char path[200];
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    require(mixt_safetensors_open(path, &file, &error), &error);
    const mixt_tensor_info *logits = mixt_safetensors_find(file, "logits");
    const mixt_tensor_info *tokens = mixt_safetensors_find(file, "tokens");
    assert_true(logits != NULL && tokens != NULL && logits->rank == 2);
    to->count = (size_t)logits->shape[0];
    to->vocab = (size_t)logits->shape[1];
    assert_true(to->count <= 64 && to->count * to->vocab <= 64 * 64);
    require(mixt_safetensors_read(file, tokens, 0, 4 * to->count, to->tokens, &error), &error);
    require(mixt_safetensors_read_f32(file, logits, 0, to->count * to->vocab, to->logits, &error),
            &error);
    mixt_safetensors_close(file);
}

static void check_logits(const char *what, const mixt_model *model, const expected *wanted)
{
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    double worst = 0;
    require(mixt_session_create(context, model, (int)wanted->count, &session, &error), &error);
    for (size_t t = 0; t < wanted->count; t++) {
        require(mixt_session_feed(session, wanted->tokens + t, 1, &error), &error);
        const float *logits = mixt_session_logits(session);
        for (size_t i = 0; i < wanted->vocab; i++) {
            double difference = fabs((double)logits[i] - wanted->logits[t * wanted->vocab + i]);
            if (!(difference <= TOLERANCE)) {
                fail_msg("%s: logit %zu behind token %zu is %g, expected %g", what, i, t,
                         (double)logits[i], (double)wanted->logits[t * wanted->vocab + i]);
            }
            worst = fmax(worst, difference);
        }
    }
    mixt_session_truncate(session, 0);
    require(mixt_session_feed(session, wanted->tokens, wanted->count, &error), &error);
    for (size_t i = 0; i < wanted->vocab; i++) {
        float logit = wanted->logits[(wanted->count - 1) * wanted->vocab + i];
        assert_true(fabs((double)mixt_session_logits(session)[i] - logit) <= TOLERANCE);
    }
    print_message("%s: largest difference %.1e\n", what, worst);
    mixt_session_free(session);
}

static mixt_model *open_model(const char *path)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_model_open(path, &model, &error), &error);
    return model;
}

static void convert(const mixt_model *model, const char *output)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_convert_options options = mixt_convert_options_default();
    options.output = output;
    require(mixt_convert(context, model, &options, NULL, NULL, &error), &error);
}

/* The fixture, and as a GGUF file, as a folder, saved from memory, and out of the GGUF file. */
static void agrees(void **state)
{
    const char *name = *state;
    expected wanted;
    mixt_error error = MIXT_ERROR_INIT;
    read_expected(fixture(name), &wanted);
    mixt_model *model = open_model(fixture(name));
    require(mixt_model_verify(model, &error), &error);
    check_logits(name, model, &wanted);
    convert(model, in_home("model.gguf"));
    convert(model, in_home("folder"));
    require(mixt_model_load(model, &error), &error);
    check_logits("  in memory", model, &wanted);
    require(mixt_model_save(model, in_home("saved"), &error), &error);
    mixt_model_free(model);
    static const char *const forms[] = {"model.gguf", "folder", "saved"};
    for (int i = 0; i < 3; i++) {
        model = open_model(in_home(forms[i]));
        assert_null(mixt_model_remark(model, 0));
        check_logits(forms[i], model, &wanted);
        if (i == 0) {
            convert(model, in_home("back"));
        }
        mixt_model_free(model);
    }
    model = open_model(in_home("back"));
    check_logits("back", model, &wanted);
    mixt_model_free(model);
    mixt_folder_remove(in_home("folder"), NULL);
    mixt_folder_remove(in_home("saved"), NULL);
    mixt_folder_remove(in_home("back"), NULL);
}

/* ------------------------------------------------------------------------------------------ */
/* Copies of fixtures, changed                                                                */

static char *read_text(const char *path, size_t *length)
{
    char *text;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_file_read(path, (size_t)1 << 20, &text, length, &error), &error);
    return text;
}

/* Copies a file and puts `to`, of the same length, where `from` stands (NULL: nothing). */
static void copy_file(const char *path, const char *copy, const char *from, const char *to)
{
    size_t length;
    mixt_error error = MIXT_ERROR_INIT;
    char *text = read_text(path, &length);
    size_t size = from != NULL ? strlen(from) : 0;
    bool found = from == NULL;
    for (size_t i = 0; from != NULL && i + size <= length; i++) {
        if (memcmp(text + i, from, size) == 0) {
            assert_int_equal(strlen(to), size);
            memcpy(text + i, to, size);
            found = true;
        }
    }
    assert_true(found);
    require(mixt_file_replace(copy, text, length, &error), &error);
    free(text);
}

/* A copy of the fixture below home; `from` becomes `to` in config.json. */
static const char *copy_folder(const char *name, const char *from, const char *to)
{
    mixt_error error = MIXT_ERROR_INIT;
    char path[200];
    require(mixt_folder_create(in_home("copy"), &error), &error);
    snprintf(path, sizeof path, FOLDER "%s/config.json", name);
    copy_file(path, in_home("copy/config.json"), from, to);
    snprintf(path, sizeof path, FOLDER "%s/model.safetensors", name);
    copy_file(path, in_home("copy/model.safetensors"), NULL, NULL);
    return in_home("copy");
}

static void refuses(const char *path, const char *says)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_open(path, &model, &error);
    assert_true(mixt_status_is_refusal(status));
    assert_null(model);
    if (strstr(error.message, says) == NULL) {
        fail_msg("'%s' is not in '%s'", says, error.message);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Heads                                                                                      */

static void heads_of_their_own_are_kept(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = open_model(fixture("qwen3_moe-head"));
    const char *remark = mixt_model_remark(model, 0);
    assert_non_null(remark);
    assert_non_null(strstr(remark, "qwen3_moe-head/config.json: tie_word_embeddings: is true"));
    assert_null(mixt_model_remark(model, 1));
    assert_null(mixt_model_remark(model, -1));
    assert_false(model->options.tie_embeddings);
    mixt_model_free(model);

    /* no head at all, where the configuration says that there is one */
    copy_folder("qwen3_moe-head", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\":false");
    copy_file(fixture("qwen3_moe-head/model.safetensors"), in_home("copy/model.safetensors"),
              "\"lm_head.weight\"", "\"model.layers.9\"");
    refuses(in_home("copy"), "tensor lm_head.weight is missing");

    /* the embeddings once more are nothing to speak of */
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 40;
    options.hidden_size = 32;
    options.layers = 1;
    options.head_dim = 8;
    options.heads = options.kv_heads = 4;
    mixt_model *made;
    require(mixt_model_create(&options, 3, &made, &error), &error);
    int embed = mixt_model_find(made, MIXT_SLOT_EMBED, -1);
    int head = mixt_model_find(made, MIXT_SLOT_OUTPUT, -1);
    memcpy(made->weights + made->parameters[head].offset,
           made->weights + made->parameters[embed].offset,
           made->parameters[embed].count * sizeof(float));
    require(mixt_model_save(made, in_home("copy"), &error), &error);
    mixt_model_free(made);
    copy_file(in_home("copy/config.json"), in_home("copy/config.json"),
              "\"tie_word_embeddings\": false", "\"tie_word_embeddings\":  true");
    model = open_model(in_home("copy"));
    assert_null(mixt_model_remark(model, 0));
    assert_true(model->options.tie_embeddings);
    mixt_model_free(model);
    mixt_folder_remove(in_home("copy"), NULL);
}

/* ------------------------------------------------------------------------------------------ */
/* FP8                                                                                        */

static void fp8_stays_mapped(void **state)
{
    (void)state;
    mixt_model_info info;
    mixt_model *model = open_model(fixture("qwen3_moe-fp8"));
    mixt_model_describe(model, &info);
    assert_true(info.mapped);
    bool found = false;
    for (int i = 0; i < info.type_count; i++) {
        bool fp8 = strcmp(info.types[i].type, "F8_E4M3") == 0;
        found = found || fp8;
        assert_true(!fp8 || info.types[i].bytes == info.types[i].parameters);
    }
    assert_true(found);
    mixt_model_free(model);
}

/* All codes by the format's definition: sign, exponent less 7, fraction of three bits. */
static void codes_of_fp8(void **state)
{
    (void)state;
    uint8_t codes[256];
    float values[256];
    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)i;
    }
    mixt_dequantise(MIXT_TYPE_F8_E4M3, codes, values, 256);
    for (int i = 0; i < 256; i++) {
        int e = i >> 3 & 15, f = i & 7;
        double value = e == 0 ? ldexp(f, -9) : ldexp(8 + f, e - 10);
        if ((i & 127) == 127) {
            assert_true(isnan(values[i]));
        } else {
            assert_true((double)values[i] == (i > 127 ? -value : value));
            assert_int_equal(signbit(values[i]) != 0, i > 127);
        }
        assert_int_equal(mixt_find_bad_block(MIXT_TYPE_F8_E4M3, &codes[i], 1),
                         (i & 127) == 127 ? 0 : -1);
    }
    assert_int_equal(mixt_type_from_number(-1), MIXT_TYPE_COUNT);
}

static void nan_codes_are_found(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors *file;
    size_t length;
    copy_folder("qwen3_moe-fp8", NULL, NULL);
    require(mixt_safetensors_open(in_home("copy"), &file, &error), &error);
    const mixt_tensor_info *tensor =
        mixt_safetensors_find(file, "model.layers.0.mlp.experts.1.up_proj.weight");
    assert_non_null(tensor);
    uint64_t at = tensor->offset + 136 * 3 + 7;
    mixt_safetensors_close(file);
    for (int code = 0x7f; code <= 0xff; code += 0x80) {
        char *bytes = read_text(in_home("copy/model.safetensors"), &length);
        bytes[at] = (char)code;
        require(mixt_file_replace(in_home("copy/model.safetensors"), bytes, length, &error),
                &error);
        free(bytes);
        mixt_model *model = open_model(in_home("copy"));
        assert_int_equal(mixt_model_verify(model, &error), MIXT_ERROR_NUMERIC);
        assert_non_null(strstr(error.message, "experts.1.up_proj.weight holds NaN in row 3, "
                                              "column 7"));
        error = (mixt_error)MIXT_ERROR_INIT;
        mixt_model_free(model);
    }
    mixt_folder_remove(in_home("copy"), NULL);
}

static void other_fp8_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } changes[] = {
        {"\"quant_method\": \"fp8\"", "\"quant_method\": \"awq\"",
         "config.json: quantization_config.quant_method: 'awq' is not supported"},
        {"\"fmt\": \"e4m3\"", "\"fmt\": \"e5m2\"", "quantization_config.fmt"},
        {"\"activation_scheme\": \"dynamic\"", "\"activation_scheme\": \"dynamo!\"",
         "quantization_config.activation_scheme"},
        {"\"fmt\": \"e4m3\"", "\"fnt\": \"e4m3\"", "quantization_config.fnt: is not a key"},
        {"\"quantization_config\": {", "\"task_specific_params\":{",
         "has type F8_E4M3, but config.json has no quantization_config of fp8"},
        {"      5,", "      3,", "_scale_inv is ["},
        {"      5,", "      0,", "quantization_config.weight_block_size: must be two sizes"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        refuses(copy_folder("qwen3_moe-fp8-bf16-scales", changes[i].from, changes[i].to),
                changes[i].says);
    }
    copy_folder("qwen3_moe-fp8-bf16-scales", NULL, NULL);
    copy_file(fixture("qwen3_moe-fp8-bf16-scales/model.safetensors"),
              in_home("copy/model.safetensors"), "v_proj.weight_scale_inv",
              "v_proj.weight_scale_ivn");
    refuses(in_home("copy"), "v_proj.weight_scale_inv is missing");
    copy_file(fixture("qwen3_moe-fp8-bf16-scales/model.safetensors"),
              in_home("copy/model.safetensors"), "\"F8_E4M3\"", "\"F8_E5M2\"");
    refuses(in_home("copy"), "has type F8_E5M2, which mixt does not compute with");
    mixt_folder_remove(in_home("copy"), NULL);
}

/* ------------------------------------------------------------------------------------------ */
/* Files                                                                                      */

static void gguf_goes_by_its_first_bytes(void **state)
{
    (void)state;
    static const char *const names[] = {"sha256-0a1b", "MODEL.GGUF", "model"};
    mixt_error error = MIXT_ERROR_INIT;
    for (int i = 0; i < 3; i++) {
        copy_file(FAMILIES "qwen3_moe.gguf", in_home(names[i]), NULL, NULL);
        mixt_model *model = open_model(in_home(names[i]));
        mixt_model_free(model);
        mixt_tokenizer *tokenizer;
        require(mixt_tokenizer_open(in_home(names[i]), &tokenizer, &error), &error);
        mixt_tokenizer_free(tokenizer);
    }
    assert_false(mixt_gguf_is(fixture("qwen3_moe-fp8/model.safetensors")));
    assert_false(mixt_gguf_is(in_home("nothing")));
    mixt_model *model = open_model(in_home("sha256-0a1b"));
    convert(model, in_home("OUT.GGUF"));
    mixt_model_free(model);
    model = open_model(in_home("OUT.GGUF"));
    mixt_model_free(model);
}

/* Files of qwen2moe from before June 2024 have no key for the experts' widths. */
static void old_qwen2moe_is_read(void **state)
{
    (void)state;
    expected wanted;
    read_expected(FAMILIES "qwen2_moe", &wanted);
    copy_file(FAMILIES "qwen2_moe.gguf", in_home("old.gguf"), "qwen2moe.expert_feed_forward_length",
              "general.nothing_that_mixt_reads_now");
    copy_file(in_home("old.gguf"), in_home("old.gguf"),
              "qwen2moe.expert_shared_feed_forward_length",
              "general.nothing_that_mixt_reads_here___now");
    mixt_model *model = open_model(in_home("old.gguf"));
    check_logits("old qwen2moe", model, &wanted);
    mixt_model_free(model);
}

/* Each tensor by its own type: here BF16 in a configuration that says float16. */
static void halves_of_another_type_are_read(void **state)
{
    (void)state;
    expected wanted;
    read_expected(fixture("mixtral-fused"), &wanted);
    copy_folder("mixtral-fused", "\"dtype\": \"bfloat16\"", "\"dtype\":  \"float16\"");
    mixt_model *model = open_model(in_home("copy"));
    check_logits("half of another type", model, &wanted);
    mixt_model_free(model);
    mixt_folder_remove(in_home("copy"), NULL);
}

/* The fixture's tensors, but `name` with another shape and as many bytes as that needs. */
static void write_shape(const char *fixture_name, const char *name, uint32_t rank,
                        const int64_t *shape)
{
    mixt_safetensors *from;
    mixt_safetensors_writer *to;
    mixt_error error = MIXT_ERROR_INIT;
    char *bytes = calloc(1, 1 << 16);
    assert_non_null(bytes);
    copy_folder(fixture_name, NULL, NULL);
    require(mixt_safetensors_open(fixture(fixture_name), &from, &error), &error);
    require(mixt_safetensors_writer_create(in_home("copy/model.safetensors"), 0, &to, &error),
            &error);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < mixt_safetensors_count(from); i++) {
            const mixt_tensor_info *tensor = mixt_safetensors_tensor(from, i);
            bool other = strcmp(tensor->name, name) == 0;
            uint64_t size = tensor->bytes;
            if (other) {
                assert_true(mixt_tensor_bytes(tensor->dtype, rank, shape, &size));
            }
            assert_true(size <= 1 << 16);
            if (pass == 0) {
                require(mixt_safetensors_writer_add(to, tensor->name, tensor->dtype,
                                                    other ? rank : tensor->rank,
                                                    other ? shape : tensor->shape, &error),
                        &error);
                continue;
            }
            memset(bytes, 0, 1 << 16);
            if (!other) {
                require(mixt_safetensors_read(from, tensor, 0, (size_t)size, bytes, &error),
                        &error);
            }
            require(mixt_safetensors_writer_write(to, bytes, (size_t)size, &error), &error);
        }
        if (pass == 0) {
            require(mixt_safetensors_writer_begin(to, &error), &error);
        }
    }
    require(mixt_safetensors_writer_finish(to, &error), &error);
    mixt_safetensors_writer_free(to);
    mixt_safetensors_close(from);
    free(bytes);
}

/* Shapes of more dimensions than anything has, one of them 0: no bytes stand behind them. */
static void shapes_of_many_dimensions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fixture, *name;
        uint32_t rank;
        int64_t shape[9];
    } shapes[] = {
        {"mixtral-fused", "model.norm.weight", 6, {16, 1, 1, 1, 1, 0}},
        {"mixtral-fused", "model.norm.weight", 9, {1, 1, 1, 1, 1, 16, 1, 1, 0}},
        {"mixtral-fused", "model.norm.weight", 6, {16, 1, 1, 1, 1, 1}},
        {"mixtral-fused", "model.norm.weight", 2, {0, 16}},
        {"mixtral-fused", "model.norm.weight", 0, {0}},
        {"mixtral-fused", "model.layers.1.mlp.gate.weight", 6, {4, 16, 1, 1, 1, 0}},
        {"mixtral-fused", "model.layers.0.mlp.experts.down_proj", 7, {4, 16, 8, 1, 1, 0, 1}},
        {"mixtral-fused", "model.layers.0.mlp.experts.gate_up_proj", 6, {4, 16, 16, 1, 1, 0}},
        {"mixtral-fused", "model.embed_tokens.weight", 6, {40, 16, 1, 1, 1, 0}},
        {"qwen3_moe-fp8-bf16-scales",
         "model.layers.0.self_attn.q_proj.weight_scale_inv",
         6,
         {4, 3, 1, 1, 1, 0}},
        {"qwen3_moe-fp8-bf16-scales",
         "model.layers.0.self_attn.q_proj.weight",
         6,
         {16, 16, 1, 1, 1, 0}},
        {"llama-biases", "model.layers.1.self_attn.k_proj.bias", 6, {8, 1, 1, 1, 1, 0}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        write_shape(shapes[i].fixture, shapes[i].name, shapes[i].rank, shapes[i].shape);
        refuses(in_home("copy"), shapes[i].name);
    }
    static const int64_t one_more[] = {16, 1, 1, 1, 1}; /* ones mean nothing */
    write_shape("mixtral-fused", "model.norm.weight", 5, one_more);
    mixt_model_free(open_model(in_home("copy")));
    mixt_folder_remove(in_home("copy"), NULL);
}

static int make_home(void **state)
{
    (void)state;
    mixt_context_options options = {.threads = 2};
    snprintf(home, sizeof home, "/tmp/mixt-checkpoints-XXXXXX");
    return mkdtemp(home) == NULL || mixt_context_create(&options, &context, NULL) != MIXT_OK;
}

static int remove_home(void **state)
{
    (void)state;
    mixt_context_free(context);
    return mixt_folder_remove(home, NULL) != MIXT_OK;
}

int main(void)
{
    static char names[40][64];
    static struct CMUnitTest tests[60];
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(heads_of_their_own_are_kept),
        cmocka_unit_test(fp8_stays_mapped),
        cmocka_unit_test(codes_of_fp8),
        cmocka_unit_test(nan_codes_are_found),
        cmocka_unit_test(other_fp8_is_refused),
        cmocka_unit_test(gguf_goes_by_its_first_bytes),
        cmocka_unit_test(old_qwen2moe_is_read),
        cmocka_unit_test(halves_of_another_type_are_read),
        cmocka_unit_test(shapes_of_many_dimensions_are_refused),
    };
    size_t count = 0, more = sizeof others / sizeof *others;
    DIR *folder = opendir(FOLDER);
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.' && strchr(entry->d_name, '.') == NULL && count < 40) {
            snprintf(names[count], sizeof names[0], "%.63s", entry->d_name);
            tests[count] = (struct CMUnitTest){names[count], agrees, NULL, NULL, names[count]};
            count++;
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    memcpy(tests + count, others, sizeof others);
    if (count < 16) {
        fprintf(stderr, "checkpoints: only %zu fixtures below " FOLDER "\n", count);
        return 1;
    }
    return _cmocka_run_group_tests("checkpoints", tests, count + more, make_home, remove_home);
}
