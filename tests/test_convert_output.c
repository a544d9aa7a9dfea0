/* What a conversion leaves behind: never the source written over, never something half right in
 * place of something good, never a form in which the model is another. */
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
#include "formats/gguf.h"
#include "mixt.h"
#include "model/model.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/families/"

static mixt_status convert_to(const mixt_model *model, const char *output, uint64_t shard_bytes,
                              mixt_error *error)
{
    mixt_convert_options options = mixt_convert_options_default();
    options.output = output;
    options.shard_bytes = shard_bytes;
    *error = (mixt_error)MIXT_ERROR_INIT;
    return mixt_convert(scratch_context, model, &options, NULL, NULL, error);
}

static void convert(const mixt_model *model, const char *output)
{
    mixt_error error;
    must(convert_to(model, output, 0, &error), &error);
}

/* Names in the scratch folder that begin so. */
static int count_names(const char *start)
{
    char **names;
    size_t count;
    int found = 0;
    must(mixt_folder_list(scratch, &names, &count, NULL), NULL);
    for (size_t i = 0; i < count; i++) {
        found += strncmp(names[i], start, strlen(start)) == 0;
    }
    mixt_names_free(names, count);
    return found;
}

static void refused(const mixt_model *model, const char *output, uint64_t shard_bytes,
                    const char *says)
{
    mixt_error error;
    assert_int_equal(convert_to(model, output, shard_bytes, &error), MIXT_ERROR_ARGUMENT);
    if (strstr(error.message, says) == NULL) {
        fail_msg("%s: '%s'", output, error.message);
    }
}

static void the_source_is_never_written_over(void **state)
{
    (void)state;
    char *file = scratch_path("source.gguf"), *folder = scratch_path("source");
    char *link_to = scratch_path("link.gguf"), *slashed = scratch_path("source//");
    char *shard = scratch_path("many.gguf");
    mixt_model *model = must_open_model(FIXTURES "mixtral");
    convert(model, file);
    convert(model, folder);
    mixt_model_free(model);
    assert_int_equal(symlink(file, link_to), 0);
    size_t length, length_after;
    char *before = read_file(file, &length);
    model = must_open_model(file);
    refused(model, file, 0, "is the model that is converted");
    refused(model, link_to, 0, "is the model that is converted");
    convert(model, folder); /* another model's */
    mixt_model_free(model);
    char *after = read_file(file, &length_after);
    assert_int_equal(length, length_after);
    assert_memory_equal(before, after, length);
    free(before);
    free(after);
    model = must_open_model(folder);
    refused(model, folder, 0, "is the model that is converted");
    refused(model, slashed, 0, "is the model that is converted");
    mixt_error error;
    must(convert_to(model, shard, 1 << 12, &error), &error);
    mixt_model_free(model);
    char **names, *first = NULL;
    size_t count;
    must(mixt_folder_list(scratch, &names, &count, NULL), NULL);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "many-00001-of-", 14) == 0) {
            first = scratch_path(names[i]);
        }
    }
    mixt_names_free(names, count);
    assert_non_null(first);
    model = must_open_model(first);
    refused(model, shard, 1 << 12, "is the model that is converted");
    mixt_model_free(model);
    free(first);
    free(shard);
    free(slashed);
    free(link_to);
    free(folder);
    free(file);
}

/* A folder whose weights are links to another's, in either direction: refused as it stood. */
static void folders_of_shared_weights_stay(void **state)
{
    (void)state;
    char *one = scratch_path("one"), *other = scratch_path("other"), *weights, *linked;
    mixt_model *model = must_open_model(FIXTURES "mixtral");
    convert(model, one);
    convert(model, other);
    mixt_model_free(model);
    weights = mixt_path_join(one, "model.safetensors");
    linked = mixt_path_join(other, "model.safetensors");
    for (int symbolic = 0; symbolic < 2; symbolic++) {
        assert_int_equal(unlink(linked), 0);
        assert_int_equal(symbolic ? symlink(weights, linked) : link(weights, linked), 0);
        for (int back = 0; back < 2; back++) {
            model = must_open_model(back ? other : one);
            refused(model, back ? one : other, 0, "is the model that is converted");
            mixt_model_free(model);
            mixt_model_free(must_open_model(one));
            mixt_model_free(must_open_model(other));
        }
    }
    free(linked);
    free(weights);
    free(other);
    free(one);
}

static void names_of_the_other_kind_are_refused(void **state)
{
    (void)state;
    char *file = scratch_path("notes"), *folder = scratch_path("folder.gguf");
    char *slashed = scratch_path("notes/");
    mixt_model *model = must_open_model(FIXTURES "llama");
    write_file(file, "mine", 4);
    must(mixt_folder_create(folder, NULL), NULL);
    refused(model, file, 0, "is a file");
    refused(model, folder, 0, "is a folder");
    refused(model, slashed, 0, "is a file");
    mixt_model_free(model);
    free(slashed);
    free(file);
    free(folder);
}

static bool cut_source(void *user, double done, double total)
{
    (void)done;
    (void)total;
    assert_int_equal(truncate(user, 0), 0);
    return true;
}

static bool end_at_half(void *user, double done, double total)
{
    (void)user;
    return done < total / 2;
}

/* A caller that wants to end: nothing is left of what was begun. */
static void an_interrupted_conversion_leaves_nothing(void **state)
{
    (void)state;
    static const char *const outputs[] = {"ended.gguf", "ended"};
    mixt_model *model = must_open_model(FIXTURES "mixtral");
    for (int i = 0; i < 2; i++) {
        char *output = scratch_path(outputs[i]);
        mixt_convert_options options = mixt_convert_options_default();
        options.output = output;
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_convert(scratch_context, model, &options, end_at_half, NULL, &error),
                         MIXT_ERROR_INTERRUPTED);
        assert_string_equal(error.message, "interrupted; nothing was written");
        free(output);
    }
    mixt_model_free(model);
    assert_int_equal(count_names("ended"), 0);
}

/* A source that shrinks meanwhile reads as zeros: nothing of it takes the place of a good file. */
static void a_shrinking_source_leaves_what_was_there(void **state)
{
    (void)state;
    static const char *const outputs[] = {"good.gguf", "good"};
    for (int i = 0; i < 2; i++) {
        char *source = scratch_path("shrinks.gguf"), *output = scratch_path(outputs[i]), *path;
        mixt_model *model = must_open_model(FIXTURES "mixtral");
        size_t length, length_after;
        convert(model, source);
        convert(model, output);
        mixt_model_free(model);
        path = i == 0 ? strdup(output) : mixt_path_join(output, "model.safetensors");
        char *before = read_file(path, &length);
        mixt_convert_options options = mixt_convert_options_default();
        options.output = output;
        mixt_error error = MIXT_ERROR_INIT;
        model = must_open_model(source);
        assert_int_not_equal(
            mixt_convert(scratch_context, model, &options, cut_source, source, &error), MIXT_OK);
        assert_non_null(strstr(error.message, "shrinks.gguf"));
        mixt_model_free(model);
        char *after = read_file(path, &length_after);
        assert_int_equal(length, length_after);
        assert_memory_equal(before, after, length);
        mixt_model_free(must_open_model(output));
        assert_int_equal(count_names("good.gguf.tmp") + count_names("good.tmp"), 0);
        free(before);
        free(after);
        free(path);
        free(output);
        free(source);
    }
}

/* Over another model of more files: nothing of that is read beside the new one. */
static void an_older_model_goes(void **state)
{
    (void)state;
    char *output = scratch_path("older");
    mixt_error error;
    mixt_model *big = must_open_model(FIXTURES "deepseek"),
               *small = must_open_model(FIXTURES "llama");
    must(convert_to(big, output, 1 << 12, &error), &error);
    convert(small, output);
    mixt_model *back = must_open_model(output);
    assert_string_equal(back->family->name, "llama");
    mixt_model_free(back);
    must(convert_to(big, output, 1 << 12, &error), &error);
    back = must_open_model(output);
    assert_string_equal(back->family->name, "deepseek");
    mixt_model_free(back);
    mixt_model_free(big);
    mixt_model_free(small);
    free(output);
}

/* A model has more rows than its tokenizer ids: GGUF names them, a folder does not. */
static void rows_without_a_token(void **state)
{
    (void)state;
    char *gguf = scratch_path("rows.gguf"), *folder = scratch_path("rows");
    mixt_error error = MIXT_ERROR_INIT;
    mixt_tokenizer *tokenizer;
    must(mixt_tokenizer_open("tests/fixtures/tokenizer/small", &tokenizer, &error), &error);
    mixt_model_options shape = mixt_model_options_default();
    shape.vocab_size = mixt_tokenizer_vocab_size(tokenizer) + 3;
    mixt_model *model;
    must(mixt_model_create(&shape, 1, &model, &error), &error);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = gguf;
    options.tokenizer = tokenizer;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model_free(model);
    mixt_tokenizer_free(tokenizer);
    model = must_open_model(gguf);
    must(mixt_tokenizer_open(gguf, &tokenizer, &error), &error);
    assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), shape.vocab_size);
    options.output = folder;
    options.tokenizer = tokenizer;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model_free(model);
    mixt_tokenizer_free(tokenizer);
    must(mixt_tokenizer_open(folder, &tokenizer, &error), &error);
    assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), shape.vocab_size - 3);
    mixt_tokenizer_free(tokenizer);
    free(folder);
    free(gguf);
}

/* Types by any case; one that folders do not hold makes no folder. */
static void types_of_folders(void **state)
{
    (void)state;
    char *parent = scratch_path("parent"), *output = mixt_path_join(parent, "typed");
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(FIXTURES "llama");
    mixt_convert_options options = mixt_convert_options_default();
    options.output = output;
    options.type = "q8_0";
    assert_int_equal(mixt_convert(scratch_context, model, &options, NULL, NULL, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "folders hold F32, F16 or BF16"));
    assert_false(mixt_path_exists(parent));
    options.type = "bf16";
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    mixt_model_free(model);
    mixt_model_free(must_open_model(output));
    free(output);
    free(parent);
}

static mixt_model *made(void (*change)(mixt_model_options *options))
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 64;
    options.layers = 2;
    options.hidden_size = 32;
    options.heads = 4;
    options.head_dim = 8;
    options.ffn_size = 32;
    options.experts = 4;
    change(&options);
    mixt_model *model;
    must(mixt_model_create(&options, 1, &model, &error), &error);
    return model;
}

static void window(mixt_model_options *options)
{
    options->experts = 0;
    options->attention.window = 4;
}

static void narrow_heads(mixt_model_options *options)
{
    options->experts = 0;
    options->attention.qkv_bias = true;
    options->head_dim = 4;
}

static void part_of_a_head(mixt_model_options *options)
{
    options->rope.dims = 4;
}

static void top_k_softmax(mixt_model_options *options)
{
    options->router.score = MIXT_SCORE_TOP_K_SOFTMAX;
}

static void base(mixt_model_options *options)
{
    options->rope_theta = 12345.678; /* no fp32 number */
    options->norm_epsilon = 0.1;     /* above 0.1 as fp32 */
}

/* There and back they are the same; where llama.cpp would compute something else the file is of our
 * own architecture, which it refuses. */
static void forms_that_lost_something(void **state)
{
    (void)state;
    static const struct {
        void (*change)(mixt_model_options *options);
        const char *architecture, *family, *alone;
    } rows[] = {{window, "mixt-own", "mistral", "attention.window (llama.cpp's llama lacks it)"},
                {narrow_heads, "llama", "qwen2", ""},
                {part_of_a_head, "mixt-own", "mixt",
                 "rope.dims other than head_dim (llama.cpp's llama lacks it)"},
                {top_k_softmax, "llama", "mixtral", ""},
                {base, "llama", "mixtral", ""}};
    char *gguf = scratch_path("lost.gguf"), *folder = scratch_path("lost");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mixt_model *model = made(rows[i].change);
        mixt_error error = MIXT_ERROR_INIT;
        mixt_convert_options options = mixt_convert_options_default();
        mixt_convert_report report;
        options.output = gguf;
        options.report = &report;
        must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
        mixt_model *middle = must_open_model(gguf);
        convert(middle, folder);
        mixt_model *back = must_open_model(folder);
        assert_string_equal(model->family->name, rows[i].family);
        assert_string_equal(middle->family->gguf_arch, rows[i].architecture);
        assert_string_equal(report.alone, rows[i].alone);
        assert_string_equal(back->family->name, rows[i].family);
        assert_true(back->options.rope_theta == model->options.rope_theta);
        assert_true((float)back->options.norm_epsilon == (float)model->options.norm_epsilon);
        assert_int_equal(back->options.router.score, model->options.router.score);
        assert_int_equal(back->options.attention.window, model->options.attention.window);
        assert_int_equal(back->options.rope.dims, model->options.rope.dims);
        mixt_model_free(model);
        mixt_model_free(middle);
        mixt_model_free(back);
    }
    free(gguf);
    free(folder);
}

/* DeepSeek's GGUF files of before the key: softmax, here with a selection bias, which a folder of
 * DeepSeek-V2 cannot have. */
static void a_gguf_without_its_gating_key(void **state)
{
    (void)state;
    mixt_gguf *from;
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    char *gguf = scratch_path("ungated.gguf"), *folder = scratch_path("ungated");
    must(mixt_gguf_open(FIXTURES "deepseek_v3.gguf", &from, &error), &error);
    must(mixt_gguf_writer_create(gguf, 0, &writer, &error), &error);
    for (size_t i = 0; i < mixt_gguf_key_count(from); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(from, i, &kind);
        if (strcmp(key, "deepseek2.expert_gating_func") != 0) {
            must(mixt_gguf_writer_copy(writer, from, key, &error), &error);
        }
    }
    for (size_t i = 0; i < mixt_gguf_tensor_count(from); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(from, i);
        must(mixt_gguf_writer_add(writer, tensor->name, tensor->type, tensor->rank, tensor->size,
                                  &error),
             &error);
    }
    must(mixt_gguf_writer_begin(writer, &error), &error);
    for (size_t i = 0; i < mixt_gguf_tensor_count(from); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(from, i);
        must(mixt_gguf_writer_write(writer, tensor->data, tensor->bytes, &error), &error);
    }
    must(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
    mixt_gguf_close(from);
    mixt_model *model = must_open_model(gguf);
    assert_int_equal(model->options.router.score, MIXT_SCORE_SOFTMAX);
    assert_true(model->options.router.select_bias);
    convert(model, folder);
    mixt_model *back = must_open_model(folder);
    assert_string_equal(back->family->name, "mixt");
    assert_true(back->options.router.select_bias);
    assert_int_equal(back->options.router.score, MIXT_SCORE_SOFTMAX);
    mixt_model_free(back);
    mixt_model_free(model);
    free(gguf);
    free(folder);
}

static void what_is_said(void **state)
{
    (void)state;
    char *first = scratch_path("said.gguf"), *second = scratch_path("again.gguf");
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = made(top_k_softmax);
    mixt_convert_options options = mixt_convert_options_default();
    mixt_convert_report report;
    options.output = first;
    options.type = "Q4_K_M"; /* rows of 32: not of 256 */
    options.report = &report;
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    assert_true(report.fallback_count > 0 && report.fallbacks[0].tensors > 0);
    assert_int_equal(report.requantised, 0);
    assert_true(report.bits_per_weight > 4 && report.bits_per_weight < 12);
    mixt_model_free(model);
    model = must_open_model(first);
    options.output = second;
    options.type = "Q8_0";
    must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
    assert_true(report.requantised > 0);
    assert_int_equal(report.fallback_count, 0);
    mixt_model_free(model);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_source_is_never_written_over),
        cmocka_unit_test(folders_of_shared_weights_stay),
        cmocka_unit_test(names_of_the_other_kind_are_refused),
        cmocka_unit_test(a_shrinking_source_leaves_what_was_there),
        cmocka_unit_test(an_interrupted_conversion_leaves_nothing),
        cmocka_unit_test(an_older_model_goes),
        cmocka_unit_test(rows_without_a_token),
        cmocka_unit_test(types_of_folders),
        cmocka_unit_test(forms_that_lost_something),
        cmocka_unit_test(a_gguf_without_its_gating_key),
        cmocka_unit_test(what_is_said),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
