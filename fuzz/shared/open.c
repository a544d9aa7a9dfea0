#include "open.h"

#include <stdlib.h>
#include <string.h>

static void check_description(const mixt_model *model)
{
    mixt_model_info info;
    char *text;
    int64_t shape[4];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_describe(model, &info);
    FUZZ_REQUIRE(info.family != NULL && info.title != NULL, "a family");
    FUZZ_REQUIRE(info.parameters_active <= info.parameters_total, info.family);
    FUZZ_REQUIRE(info.type_count >= 1 && info.type_count <= MIXT_TYPES_MAX, info.family);
    for (int i = 0; i < mixt_model_tensor_count(model); i++) {
        FUZZ_REQUIRE(mixt_model_tensor(model, i, shape) != NULL && shape[0] > 0, info.family);
    }
    for (int i = 0; mixt_model_remark(model, i) != NULL; i++) {
        FUZZ_REQUIRE(strchr(mixt_model_remark(model, i), '\n') == NULL,
                     mixt_model_remark(model, i));
    }
    mixt_status status = mixt_model_plan_text(model, "decode", 1, &text, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    free(text);
}

void fuzz_open_model(const char *path)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_open(path, &model, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(model == NULL, error.message);
        fuzz_refused(status, &error);
        return;
    }
    FUZZ_REQUIRE(error.status == MIXT_OK, error.message);
    check_description(model);
    status = mixt_model_verify(model, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(status == error.status && error.message[0] != '\0', error.message);
    }
    fuzz_logits first = fuzz_generate(model), again = fuzz_generate(model);
    FUZZ_REQUIRE(fuzz_same_logits(&first, &again), "the same model, the same logits");
    free(first.values);
    free(again.values);
    mixt_model_free(model);
}

static void encode(const mixt_tokenizer *tokenizer, bool special)
{
    static const char text[] = "ab  a</s> b\xef\xbc\xa1\xc2\xbd e\xcc\x81 \xe2\x96\x81 <tool>\n\n"
                               "<s>\xe3\x8c\x94 \xff\xc2 don't 123";
    int32_t *ids = NULL;
    size_t count, length;
    char *back = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status =
        mixt_tokenizer_encode(tokenizer, text, sizeof text - 1, special, &ids, &count, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    } else {
        for (size_t i = 0; i < count; i++) {
            FUZZ_REQUIRE(mixt_tokenizer_bytes_of(tokenizer, ids[i], &length) != NULL, "its bytes");
        }
        status = mixt_tokenizer_decode(tokenizer, ids, count, special, &back, &length, &error);
        FUZZ_REQUIRE(status == MIXT_OK, error.message);
    }
    free(back);
    free(ids);
}

static void chat(const mixt_tokenizer *tokenizer, const char *template)
{
    static const mixt_chat_message messages[] = {{"user", "Gr\xc3\xb6\xc3\x9f"
                                                          "e?\n"},
                                                 {"assistant", "yes"},
                                                 {"user", ""}};
    mixt_chat_options options = mixt_chat_options_default();
    mixt_error error = MIXT_ERROR_INIT;
    char *text;
    options.date = "2024-12-31";
    options.bos_token = mixt_tokenizer_adds_bos(tokenizer) ? "<s>" : NULL;
    mixt_status status = mixt_chat_render(template, messages, 3, &options, &text, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    free(text);
}

void fuzz_open_tokenizer(const char *path)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_open(path, &tokenizer, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(tokenizer == NULL, error.message);
        fuzz_refused(status, &error);
        return;
    }
    int size = mixt_tokenizer_vocab_size(tokenizer);
    for (int which = MIXT_SPECIAL_BOS; which <= MIXT_SPECIAL_PAD; which++) {
        int id = mixt_tokenizer_special(tokenizer, (mixt_special)which);
        FUZZ_REQUIRE(id >= -1 && id < size, "a special token of the vocabulary");
    }
    FUZZ_REQUIRE(mixt_tokenizer_separator(tokenizer) < size, "a separator of the vocabulary");
    encode(tokenizer, false);
    encode(tokenizer, true);
    if (mixt_tokenizer_chat_template(tokenizer) != NULL) {
        chat(tokenizer, mixt_tokenizer_chat_template(tokenizer));
    }
    mixt_tokenizer_free(tokenizer);
}
