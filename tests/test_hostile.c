/* What files, names and other processes may do to us: nothing that is there but cannot be read is
 * left out, no name reaches a terminal as it is, sizes follow from what a file holds, and a source
 * that changes while it is read gives nothing. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas_trace.h"
#include "core/error.h"
#include "core/files.h"
#include "core/remarks.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "mixt.h"
#include "model/importance.h"
#include "scratch.h"

#define TOKENIZER "tests/fixtures/tokenizer/small/"
#define FAMILIES "tests/fixtures/families/"

static void copy_file(const char *from, const char *folder, const char *name)
{
    size_t length;
    char *data = read_file(from, &length), *to = mixt_path_join(folder, name);
    write_file(to, data, length);
    free(to);
    free(data);
}

/* -- Files that are there and cannot be read ------------------------------------------------------
 */

/* Root reads what nobody may, so these stand for it. */
enum { A_FOLDER, A_LOOP, A_FIFO, A_DANGLING_LINK, A_LINK_INTO_A_FILE, UNREADABLE_COUNT };

static void make_unreadable(const char *path, int kind)
{
    const char *name = strrchr(path, '/') + 1;
    int result = kind == A_FOLDER          ? mkdir(path, 0777)
                 : kind == A_LOOP          ? symlink(name, path)
                 : kind == A_FIFO          ? mkfifo(path, 0666)
                 : kind == A_DANGLING_LINK ? symlink("nowhere", path)
                                           : symlink("/etc/passwd/x", path);
    assert_int_equal(result, 0);
}

static void optional_files_are_read_or_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer.json",          "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json",
                                        "generation_config.json",  "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int kind = 0; kind < UNREADABLE_COUNT; kind++) {
            char *folder = scratch_path("optional"), *path = mixt_path_join(folder, names[i]);
            must(mixt_folder_create(folder, NULL), NULL);
            copy_file(TOKENIZER "tokenizer.json", folder, "tokenizer.json");
            copy_file(TOKENIZER "tokenizer_config.json", folder, "tokenizer_config.json");
            unlink(path);
            make_unreadable(path, kind);
            mixt_tokenizer *tokenizer;
            mixt_error error = MIXT_ERROR_INIT;
            mixt_status status = mixt_tokenizer_open(folder, &tokenizer, &error);
            must_refuse(status, &error, names[i], "", names[i]);
            assert_int_not_equal(status, MIXT_ERROR_NOT_FOUND); /* which callers pass over */
            assert_null(tokenizer);
            must(mixt_folder_remove(folder, NULL), NULL);
            free(path);
            free(folder);
        }
    }
}

/* A tokenizer.model beside it does not take the place of a tokenizer.json that cannot be read. */
static void another_vocabulary_does_not_stand_in(void **state)
{
    (void)state;
    char *folder = scratch_path("two"), *path = mixt_path_join(folder, "tokenizer.json");
    must(mixt_folder_create(folder, NULL), NULL);
    copy_file("tests/fixtures/tokenizer/pieces/bpe.model", folder, "tokenizer.model");
    must(mixt_folder_create(path, NULL), NULL);
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    must_refuse(mixt_tokenizer_open(folder, &tokenizer, &error), &error, path, "is a folder", path);
    free(path);
    free(folder);
}

static void configurations_are_read_or_refused(void **state)
{
    (void)state;
    for (int kind = 0; kind < UNREADABLE_COUNT; kind++) {
        char *folder = scratch_path("model"), *path = mixt_path_join(folder, "config.json");
        must(mixt_folder_create(folder, NULL), NULL);
        make_unreadable(path, kind);
        mixt_model_options options;
        mixt_model *model;
        mixt_error error = MIXT_ERROR_INIT, second = MIXT_ERROR_INIT;
        must_refuse(mixt_model_options_read(folder, &options, &error), &error, path, "", path);
        must_refuse(mixt_model_open(folder, &model, &second), &second, path, "", path);
        must(mixt_folder_remove(folder, NULL), NULL);
        free(path);
        free(folder);
    }
}

/* Of a folder whose names just fit, the longer ones do not. */
static void names_too_long_to_look_up(void **state)
{
    (void)state;
    char long_name[6000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    char *path = scratch_path(long_name);
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_open(path, &tokenizer, &error);
    assert_true(mixt_status_is_refusal(status));
    assert_int_not_equal(status, MIXT_ERROR_NOT_FOUND);
    assert_int_equal(status, error.status);
    free(path);
}

/* -- Status
 * ---------------------------------------------------------------------------------------- */

static void write_config(const char *folder, const char *change)
{
    char text[2000], *path = mixt_path_join(folder, "config.json");
    snprintf(text, sizeof text,
             "{\"model_type\": \"mixtral\", \"architectures\": [\"MixtralForCausalLM\"], "
             "\"vocab_size\": 64, \"hidden_size\": 32, \"num_hidden_layers\": 1, "
             "\"num_attention_heads\": 4, \"intermediate_size\": 32, \"num_local_experts\": 4%s}",
             change);
    write_file(path, text, strlen(text));
    free(path);
}

static void the_status_is_the_errors(void **state)
{
    (void)state;
    static const char *const changes[] = {", \"num_key_value_heads\": 3",
                                          ", \"num_experts_per_tok\": 9",
                                          ", \"head_dim\": 7",
                                          ", \"rope_theta\": \"many\"",
                                          ", \"hidden_act\": 5",
                                          ", \"layer_types\": 3",
                                          ", \"num_key_value_heads\": 4",
                                          ", \"sliding_window\": {}",
                                          ", \"rope_scaling\": [1]",
                                          ", \"tie_word_embeddings\": \"\"",
                                          ", \"rms_norm_eps\": []"};
    char *folder = scratch_path("status");
    must(mixt_folder_create(folder, NULL), NULL);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        mixt_model *model;
        mixt_model_options options;
        mixt_error error = MIXT_ERROR_INIT, second = MIXT_ERROR_INIT;
        write_config(folder, changes[i]);
        must_refuse(mixt_model_open(folder, &model, &error), &error, folder, "", changes[i]);
        mixt_status status = mixt_model_options_read(folder, &options, &second);
        assert_int_equal(status, second.status);
    }
    free(folder);
}

static void the_first_message_keeps_its_status(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_fail(&error, MIXT_ERROR_FORMAT, "inner"), MIXT_ERROR_FORMAT);
    assert_int_equal(mixt_fail(&error, MIXT_ERROR_MEMORY, "outer"), MIXT_ERROR_FORMAT);
    assert_int_equal(mixt_fail_errno(&error, 5, "outer"), MIXT_ERROR_FORMAT);
    assert_string_equal(error.message, "inner");
}

/* -- Text for a terminal
 * --------------------------------------------------------------------------- */

static void text_cannot_act_on_a_terminal(void **state)
{
    (void)state;
    char text[] = "a\x1b[31mb\x7f\n\xc2\x9b"
                  "31m \xe2\x80\xae \xe2\x81\xa6 \xd8\x9c \xe2\x80\xa8 \xff caf\xc3\xa9 "
                  "\xf0\x9f\x98\x80";
    mixt_text_plain(text);
    assert_string_equal(text, "a?[31mb????31m ??? ??? ?? ??? ? caf\xc3\xa9 \xf0\x9f\x98\x80");
    mixt_error error = MIXT_ERROR_INIT;
    mixt_fail(&error, MIXT_ERROR_FORMAT, "%s: x", "evil\xe2\x80\xaetxt.\x1b]0;");
    assert_string_equal(error.message, "evil???txt.?]0;: x");
    mixt_remarks remarks = {0};
    mixt_remark(&remarks, "%s", "\xc2\x9b\xe2\x81\xa9");
    assert_string_equal(mixt_remarks_get(&remarks, 0), "?????");
    mixt_remarks_free(&remarks);
    mixt_buffer quoted = {0};
    mixt_json_quote(&quoted, "\x1b\x7f\"\\\xc2\x9b\xe2\x80\xae\xc3\xa9\xff");
    mixt_buffer_append(&quoted, "", 1);
    assert_string_equal(quoted.data, "\"\\u001b\\u007f\\\"\\\\\\u009b\\u202e\xc3\xa9\xff\"");
    mixt_buffer_free(&quoted);
}

static void remarks_are_not_without_end(void **state)
{
    (void)state;
    char *folder = scratch_path("remarks"),
         *path = mixt_path_join(folder, "generation_config.json");
    must(mixt_folder_create(folder, NULL), NULL);
    copy_file(TOKENIZER "tokenizer.json", folder, "tokenizer.json");
    mixt_buffer text = {0};
    mixt_buffer_text(&text, "{\"eos_token_id\": [0");
    for (int i = 0; i < 20000; i++) {
        mixt_buffer_format(&text, ", %d", 1000000 + i);
    }
    mixt_buffer_text(&text, "]}");
    write_file(path, text.data, text.length);
    mixt_buffer_free(&text);
    mixt_tokenizer *tokenizer = open_tokenizer(folder);
    assert_non_null(mixt_tokenizer_remark(tokenizer, 10));
    assert_null(mixt_tokenizer_remark(tokenizer, 50));
    mixt_tokenizer_free(tokenizer);
    free(path);
    free(folder);
}

/* -- Sizes
 * ----------------------------------------------------------------------------------------- */

static size_t page_bytes(const mixt_trace *trace)
{
    char *path = scratch_path("page.html");
    mixt_error error = MIXT_ERROR_INIT;
    size_t length;
    must(mixt_atlas_page(trace, path, &error), &error);
    char *page = read_file(path, &length);
    free(page);
    free(path);
    return length;
}

static size_t table_bytes(const mixt_trace *trace)
{
    char *text;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_atlas_options options = {.text_tokens = 40};
    must(mixt_atlas_print(trace, &options, stream, &error), &error);
    fclose(stream);
    assert_null(memchr(text, 0x1b, length));
    free(text);
    return length;
}

/* A name of 40 KB stood in every table. */
static void a_page_is_not_made_of_one_name(void **state)
{
    (void)state;
    static char long_name[40001], other[40001];
    memset(long_name, '<', sizeof long_name - 1);
    memset(other, 0x1b, sizeof other - 1);
    const char *names[] = {long_name, other};
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 6,
                                                                .experts = 8,
                                                                .experts_per_token = 2,
                                                                .domains = 2,
                                                                .documents = 3,
                                                                .document_tokens = 12,
                                                                .seed = 1,
                                                                .names = names,
                                                                .model = long_name});
    trace->info.router_select = other;
    assert_true(page_bytes(trace) < 600000);
    assert_true(table_bytes(trace) < 100000);
    mixt_trace_free(trace);
}

/* Experts and domains that a trace names and hardly uses. */
static void a_page_is_not_made_of_claims(void **state)
{
    (void)state;
    mixt_trace *trace = atlas_trace_make(&(atlas_trace_options){.layers = 1,
                                                                .experts = 4096,
                                                                .experts_per_token = 1,
                                                                .domains = 120,
                                                                .documents = 1,
                                                                .document_tokens = 6,
                                                                .seed = 1});
    assert_true(page_bytes(trace) < 4000000);
    mixt_trace_free(trace);
}

static void more_cells_than_a_trace_justifies(void **state)
{
    (void)state;
    mixt_trace_info info = {
        .tokens = 1, .layers = 1, .experts = 4096, .experts_per_token = 1, .domains = 4096};
    mixt_trace *trace = mixt_trace_allocate(&info, 1, 1);
    mixt_error error = MIXT_ERROR_INIT;
    must_refuse(mixt_trace_check(trace, "claims", &error), &error, "claims",
                "too many for the 1 tokens", "cells");
    mixt_trace_free(trace);
}

static void importance_of_many_names(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    char *path = scratch_path("many.dat");
    mixt_buffer file = {0};
    for (int twice = 0; twice < 2; twice++) {
        file.length = 0;
        const int32_t head = COUNT + twice;
        mixt_buffer_append(&file, &head, sizeof head);
        for (int i = 0; i < COUNT + twice; i++) {
            char name[40];
            const int32_t length = snprintf(name, sizeof name, "blk.0.%08x.weight",
                                            (unsigned)(i % COUNT) * 2654435761u);
            const int32_t sizes[2] = {1, 1};
            const float value = (float)(i % COUNT);
            mixt_buffer_append(&file, &length, sizeof length);
            mixt_buffer_append(&file, name, (size_t)length);
            mixt_buffer_append(&file, sizes, sizeof sizes);
            mixt_buffer_append(&file, &value, sizeof value);
        }
        write_file(path, file.data, file.length);
        mixt_importance *importance;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_importance_open(path, &importance, &error);
        if (twice) {
            must_refuse(status, &error, path, "is there twice", "twice");
            break;
        }
        must(status, &error);
        for (int i = 0; i < COUNT; i += 7) {
            char name[40];
            float mean;
            snprintf(name, sizeof name, "blk.0.%08x.weight", (unsigned)i * 2654435761u);
            assert_true(mixt_importance_of(importance, name, 0, 1, &mean));
            assert_true(mean == (float)i);
        }
        assert_false(mixt_importance_has(importance, "blk.0"));
        mixt_importance_free(importance);
    }
    mixt_buffer_free(&file);
    free(path);
}

/* Domains in an order that is not that of their names, one the beginning of another. */
static void domains_of_many_names(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    char *path = scratch_path("many.jsonl");
    mixt_buffer file = {0};
    for (int i = 0; i < 3 * COUNT; i++) {
        mixt_buffer_format(&file, "{\"text\": \"x\", \"domain\": \"d%d\"}\n", i * 7919 % COUNT);
    }
    write_file(path, file.data, file.length);
    mixt_buffer_free(&file);
    mixt_corpus *corpus;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_corpus_open((const char *const[]){path}, 1, &corpus, &error), &error);
    const mixt_document *document;
    int i = 0;
    for (;; i++) {
        must(mixt_corpus_next(corpus, &document, &error), &error);
        if (document == NULL) {
            break;
        }
        char name[20];
        snprintf(name, sizeof name, "d%d", i * 7919 % COUNT);
        assert_string_equal(mixt_corpus_domain_name(corpus, document->domain), name);
    }
    assert_int_equal(i, 3 * COUNT);
    assert_int_equal(mixt_corpus_domain_count(corpus), COUNT);
    mixt_corpus_free(corpus);
    free(path);
}

/* -- Sources that change while they are read
 * ------------------------------------------------------- */

typedef struct meddler {
    const char *path;
    char *bytes;
    size_t length;
    int calls, at; /* it strikes at call `at` */
    size_t keep;   /* bytes that stay; `length`: written anew with another last byte */
} meddler;

static bool meddle(void *user, double done, double total)
{
    meddler *m = user;
    (void)done;
    (void)total;
    if (m->calls++ != m->at) {
        return true;
    }
    if (m->keep < m->length) {
        assert_int_equal(truncate(m->path, (off_t)m->keep), 0);
        return true;
    }
    assert_int_equal(truncate(m->path, 0), 0);
    m->bytes[m->length - 1] ^= 0x40;
    write_file(m->path, m->bytes, m->length);
    return true;
}

static void a_changed_source_gives_nothing(void **state)
{
    (void)state;
    static const char *const outputs[] = {"kept.gguf", "kept"};
    char *source = scratch_path("changes.gguf");
    size_t length, length_after;
    char *bytes = read_file(FAMILIES "mixtral.gguf", &length);
    for (int form = 0; form < 2; form++) {
        char *output = scratch_path(outputs[form]), *path;
        path = form == 0 ? strdup(output) : mixt_path_join(output, "model.safetensors");
        mixt_convert_options options = mixt_convert_options_default();
        mixt_error error = MIXT_ERROR_INIT;
        options.output = output;
        mixt_model *model = must_open_model(FAMILIES "mixtral.gguf");
        must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
        mixt_model_free(model);
        char *before = read_file(path, &length_after);
        size_t length_before = length_after;
        for (int at = 0; at < 12; at++) {
            write_file(source, bytes, length);
            meddler m = {.path = source, .bytes = bytes, .length = length, .at = at};
            m.keep = at % 3 == 0 ? length - 1 : at % 3 == 1 ? length / 2 : length;
            error = (mixt_error)MIXT_ERROR_INIT;
            model = must_open_model(source);
            mixt_status status = mixt_convert(scratch_context, model, &options, meddle, &m, &error);
            mixt_model_free(model);
            if (m.calls <= at) {
                must(status, &error);
                break;
            }
            assert_int_equal(status, error.status);
            if (status != MIXT_ERROR_IO || strstr(error.message, "changes.gguf") == NULL) {
                fail_msg("call %d, %zu bytes kept: status %d, '%s'", at, m.keep, (int)status,
                         error.message);
            }
            char *after = read_file(path, &length_after);
            assert_int_equal(length_before, length_after);
            assert_memory_equal(before, after, length_before);
            free(after);
        }
        free(before);
        free(path);
        free(output);
    }
    free(bytes);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optional_files_are_read_or_refused),
        cmocka_unit_test(another_vocabulary_does_not_stand_in),
        cmocka_unit_test(configurations_are_read_or_refused),
        cmocka_unit_test(names_too_long_to_look_up),
        cmocka_unit_test(the_status_is_the_errors),
        cmocka_unit_test(the_first_message_keeps_its_status),
        cmocka_unit_test(text_cannot_act_on_a_terminal),
        cmocka_unit_test(remarks_are_not_without_end),
        cmocka_unit_test(a_page_is_not_made_of_one_name),
        cmocka_unit_test(a_page_is_not_made_of_claims),
        cmocka_unit_test(more_cells_than_a_trace_justifies),
        cmocka_unit_test(importance_of_many_names),
        cmocka_unit_test(domains_of_many_names),
        cmocka_unit_test(a_changed_source_gives_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
