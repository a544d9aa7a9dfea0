/* The program among hostile names and unusual models, run as a process of its own. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/files.h"
#include "mixt.h"
#include "scratch.h"
#include "shell.h"

/* The status of a command whose streams are both in shell_out. */
static int run(const char *arguments)
{
    char line[4400];
    snprintf(line, sizeof line, "\"$MIXT\" %s 2>&1", arguments);
    return shell(line);
}

/* A model with the tokenizer of bytes in scratch/NAME. */
static void make_model(const char *name, double logit_scale)
{
    char *folder = scratch_path(name);
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 257;
    options.context_length = 32;
    options.layers = 1;
    options.hidden_size = 32;
    options.heads = 2;
    options.kv_heads = 1;
    options.head_dim = 16;
    options.ffn_size = 32;
    options.experts = 4;
    options.initializer_range = 0.3;
    options.logit_scale = logit_scale;
    mixt_model *model;
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_model_create(&options, 1, &model, &error), &error);
    must(mixt_tokenizer_bytes(&tokenizer, &error), &error);
    must(mixt_folder_create(folder, NULL), NULL);
    must(mixt_model_save(model, folder, &error), &error);
    must(mixt_tokenizer_save(tokenizer, folder, &error), &error);
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    free(folder);
}

/* JSON has no number for what a perplexity of e^1000 is. */
static void json_holds_no_infinity(void **state)
{
    (void)state;
    make_model("steep", 1e6);
    shell_write("text.txt", "a text to score");
    assert_int_equal(run("eval steep --data text.txt --json"), 0);
    json_t *root = json_loads(strstr(shell_out, "{\"domains"), JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(root);
    json_t *all = json_object_get(root, "all");
    assert_true(json_is_null(json_object_get(all, "perplexity")));
    assert_string_equal(json_string_value(json_object_get(all, "note")),
                        "perplexity is not finite");
    assert_true(json_real_value(json_object_get(all, "nats")) > 1000);
    json_decref(root);
    shell_write("long.txt", "a text of more than two windows, which llama-perplexity would score");
    assert_int_equal(run("eval steep -f long.txt --window 16 --json"), 0);
    root = json_loads(strstr(shell_out, "{\"perplexity"), JSON_DISABLE_EOF_CHECK, NULL);
    assert_true(json_is_null(json_object_get(root, "perplexity")));
    assert_true(json_is_string(json_object_get(root, "note")));
    json_decref(root);
    make_model("plain", 1);
    assert_int_equal(run("eval plain --data text.txt --json"), 0);
    root = json_loads(strstr(shell_out, "{\"domains"), JSON_DISABLE_EOF_CHECK, NULL);
    all = json_object_get(root, "all");
    assert_true(json_is_real(json_object_get(all, "perplexity")));
    assert_null(json_object_get(all, "note"));
    json_decref(root);
}

static void assert_inert(const char *what)
{
    static const char *const acting[] = {"\x1b",     "\x7f",         "\r",          "\x07",
                                         "\xc2\x9b", "\xe2\x80\xae", "\xe2\x81\xa6"};
    for (size_t i = 0; i < sizeof acting / sizeof *acting; i++) {
        if (strstr(shell_out, acting[i]) != NULL) {
            fail_msg("%s: %s", what, shell_out);
        }
    }
}

#define EVIL "e\x1b[31m\x7f\r\x07\xc2\x9b\x32J\xe2\x80\xaetxt\xe2\x81\xa6"

static void names_do_not_act_on_a_terminal(void **state)
{
    (void)state;
    make_model("plain", 1);
    char *folder = scratch_path("texts/" EVIL);
    must(mixt_folder_create(folder, NULL), NULL);
    shell_write("texts/" EVIL "/a.txt", "a text of a domain");
    shell_write("texts/" EVIL "/b.txt", "not a \xff text");
    make_model(EVIL, 1);
    static const struct {
        const char *arguments;
        int status;
    } cases[] = {
        {"eval plain --data texts", 0},
        {"eval plain --data texts --json", 0},
        {"eval plain --data 'nothing" EVIL "'", 2},
        {"info 'nothing" EVIL "'", 2},
        {"info '" EVIL "'", 0},
        {"convert '" EVIL "' -o '" EVIL ".gguf'", 0},
        {"convert '" EVIL "' -o '" EVIL "'", 2},
        {"trace plain --data texts -o '" EVIL ".trace'", 0},
        {"atlas '" EVIL ".trace'", 0},
        {"atlas '" EVIL "'", 2},
        {"run plain -p x -n '" EVIL "'", 2},
        {"run plain --'" EVIL "'", 2},
        {"'" EVIL "'", 2},
        {"chat plain --template '" EVIL "'", 2},
        {"train --init-from plain --data texts -o '" EVIL "run' --steps 1 --window 8", 0},
        {"train --config '" EVIL "'", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = run(cases[i].arguments);
        assert_inert(cases[i].arguments);
        if (status != cases[i].status) {
            fail_msg("%zu: status %d: %s", i, status, shell_out);
        }
    }
    char *page = scratch_path("page.html");
    assert_int_equal(run("atlas '" EVIL ".trace' --html page.html"), 0);
    size_t length;
    char *text = read_file(page, &length);
    assert_null(strstr(text, "\xe2\x80\xae"));
    assert_null(strstr(text, "\xc2\x9b"));
    free(text);
    free(page);
    free(folder);
}

/* Every command that reads text, of a model without a tokenizer. */
static void text_without_a_tokenizer(void **state)
{
    (void)state;
    make_model("mute", 1);
    shell_write("text.txt", "a text");
    char *json = scratch_path("mute/tokenizer.json"),
         *config = scratch_path("mute/tokenizer_config.json");
    unlink(json);
    unlink(config);
    static const char *const cases[] = {
        "run mute -p x",
        "run mute -f text.txt",
        "chat mute",
        "eval mute --data text.txt",
        "trace mute --data text.txt -o t",
        "convert mute -o o.gguf --data text.txt",
        "train --init-from mute --data text.txt -o mute-run --steps 1",
        "tokenize -m mute -p x",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = run(cases[i]);
        if (status != 2 || strstr(shell_out, "tokenizer") == NULL) {
            fail_msg("%s: status %d: %s", cases[i], status, shell_out);
        }
    }
    assert_int_equal(run("convert mute -o o.gguf"), 0);
    assert_non_null(strstr(shell_out, "no tokenizer beside the model"));
    /* one that is there, but not to be read, is another thing */
    assert_int_equal(mkdir(json, 0777), 0);
    assert_int_equal(run("convert mute -o p.gguf"), 2);
    assert_non_null(strstr(shell_out, "tokenizer.json: is a folder"));
    free(json);
    free(config);
}

/* A file that a command reads is never its output, by whichever option it is read, at any depth of
 * a folder, under any spelling. */
static void what_is_read_is_not_written_over(void **state)
{
    (void)state;
    make_model("read", 1);
    shell_write("importance.txt", "a text to measure importance on");
    char *deep = scratch_path("corpus/of/texts");
    must(mixt_folder_create(deep, NULL), NULL);
    free(deep);
    shell_write("corpus/of/texts/a.gguf", "a text below two folders");
    shell_write("corpus/of/texts/a.txt", "a text below two folders");
    shell_write("text.gguf", "a text with the name of a model");
    assert_int_equal(run("convert read -o q.gguf --type Q8_0 --data importance.txt "
                         "--save-importance importance.gguf"),
                     0);
    assert_int_equal(run("convert read -o tokenizer.gguf"), 0);
    assert_int_equal(run("trace read --data importance.txt -o trace.st"), 0);
    static const struct {
        const char *arguments, *kept;
    } cases[] = {
        {"convert read -o importance.gguf --type Q8_0 --importance importance.gguf",
         "importance.gguf"},
        {"convert read -o ./importance.gguf --type Q8_0 --importance importance.gguf",
         "importance.gguf"},
        {"convert read -o text.gguf --type Q8_0 --data text.gguf", "text.gguf"},
        {"convert read -o corpus/of/texts/a.gguf --type Q8_0 --data corpus",
         "corpus/of/texts/a.gguf"},
        {"convert read -o tokenizer.gguf --tokenizer tokenizer.gguf", "tokenizer.gguf"},
        {"convert read -o p.gguf --type Q8_0 --data corpus --save-importance "
         "corpus/of/../of/texts/a.txt",
         "corpus/of/texts/a.txt"},
        {"convert read -o p.gguf --type Q8_0 --data text.gguf --tokenizer tokenizer.gguf "
         "--save-importance tokenizer.gguf",
         "tokenizer.gguf"},
        {"trace read --data corpus -o corpus/of/texts/a.txt", "corpus/of/texts/a.txt"},
        {"trace read --data text.gguf --tokenizer tokenizer.gguf -o tokenizer.gguf",
         "tokenizer.gguf"},
        {"trace . --data text.gguf -o read/config.json", "read/config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = scratch_path(cases[i].kept);
        size_t before, after;
        char *was = read_file(path, &before);
        int status = run(cases[i].arguments);
        char *is = read_file(path, &after);
        if (status != 2 || before != after || memcmp(was, is, before) != 0 ||
            strstr(shell_out, "is read here; it would be written over") == NULL) {
            fail_msg("%s: status %d: %s", cases[i].arguments, status, shell_out);
        }
        free(was);
        free(is);
        free(path);
    }
    assert_int_equal(run("convert read -o one.gguf --type Q8_0 --data text.gguf "
                         "--save-importance ./read/../one.gguf"),
                     2);
    assert_non_null(strstr(shell_out, "is --output too"));
    /* the model that a new run would replace in the end is somebody's */
    assert_int_equal(run("train --init-from read --data text.gguf -o read/.. --steps 1"), 0);
    assert_int_equal(run("convert read -o other/model"), 0);
    assert_int_equal(run("train --init-from other/model --data text.gguf -o other --steps 1"), 2);
    assert_non_null(strstr(shell_out, "other/model is there already and of no run"));
    char *began = scratch_path("other/train.conf");
    assert_int_equal(access(began, F_OK), -1);
    free(began);
}

/* A run folder without a model is said to be what is wrong with its LATEST. */
static void latest_is_named(void **state)
{
    (void)state;
    static const char *const makings[] = {
        "printf '' >run/LATEST",
        "echo ../read >run/LATEST",
        "echo step-00000099 >run/LATEST",
        "head -c 1000 /dev/zero >run/LATEST",
        "mkfifo run/LATEST",
        "mkdir run/LATEST",
        "ln -s LATEST run/LATEST",
        "ln -s nowhere run/LATEST",
    };
    for (size_t i = 0; i < sizeof makings / sizeof *makings; i++) {
        shell_do("rm -rf run; mkdir run");
        shell_do(makings[i]);
        static const char *const reading[] = {"info run", "run run -p x",
                                              "tokenize --tokenizer run -p x"};
        for (size_t k = 0; k < 3; k++) {
            int status = run(reading[k]);
            if (status != 2 || strstr(shell_out, "run/LATEST: ") == NULL) {
                fail_msg("%s: %s: status %d: %s", makings[i], reading[k], status, shell_out);
            }
        }
    }
}

/* What the configuration claims asks for no memory that the texts do not need. */
static void claimed_context(void **state)
{
    (void)state;
    make_model("claim", 1);
    shell_write("text.txt", "a short text");
    shell_do("sed -i 's/\"max_position_embeddings\": 32/\"max_position_embeddings\": 16777216/' "
             "claim/config.json");
    static const char *const cases[] = {"eval claim --data text.txt",
                                        "trace claim --data text.txt -o claim.st"};
    for (size_t i = 0; i < 2; i++) {
        int status = run(cases[i]);
        if (status != 0 ||
            strstr(shell_out,
                   "note: the model has a context of 16777216 tokens: windows have 4096, "
                   "unless --window says otherwise\n") == NULL) {
            fail_msg("%s: status %d: %s", cases[i], status, shell_out);
        }
    }
    assert_int_equal(run("eval claim --data text.txt --window 64"), 0);
    assert_null(strstr(shell_out, "note:"));
}

/* Importance of another model is refused with the file's name, whichever way it does not fit. */
static void importance_of_another_model(void **state)
{
    (void)state;
    make_model("mine", 1);
    shell_write("text.txt", "a text to measure importance on");
    assert_int_equal(run("convert mine -o q.gguf --type Q8_0 --data text.txt "
                         "--save-importance mine.gguf"),
                     0);
    assert_int_equal(run("convert mine -o q.gguf --type Q8_0 --importance mine.gguf"), 0);
    static const struct {
        const char *command, *wrong;
    } cases[] = {
        {"sed 's/blk[.]0[.]/blk.7./g; s/output[.]weight/outpux.weight/g' mine.gguf >other.gguf",
         "other.gguf: none of its "},
        {"printf '\\1\\0\\0\\0\\23\\0\\0\\0blk.0.attn_q.weight\\1\\0\\0\\0"
         "\\1\\0\\0\\0\\0\\0\\0\\0' >other.gguf",
         "other.gguf: importance of tensor blk.0.attn_q.weight: 1 values"},
    };
    for (size_t i = 0; i < 2; i++) {
        shell_do(cases[i].command);
        int status = run("convert mine -o q.gguf --type Q8_0 --importance other.gguf");
        if (status != 2 || strstr(shell_out, cases[i].wrong) == NULL) {
            fail_msg("%zu: status %d: %s", i, status, shell_out);
        }
    }
}

static atomic_bool done;

/* Writes to a file again and again, as far as its time says. */
static void *touch(void *path)
{
    for (long i = 0; !atomic_load(&done); i++) {
        const struct timespec times[2] = {{1000, i % 1000000000}, {1000, i % 1000000000}};
        utimensat(AT_FDCWD, path, times, 0);
    }
    return NULL;
}

/* A trace that is written to while it is read is refused. */
static void trace_that_changes(void **state)
{
    (void)state;
    make_model("traced", 1);
    shell_write("text.txt", "a text to trace");
    assert_int_equal(run("trace traced --data text.txt -o changing.st"), 0);
    char *path = scratch_path("changing.st");
    mixt_trace *trace;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_trace_open(path, &trace, &error), &error);
    mixt_trace_free(trace);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, touch, path), 0);
    mixt_status status = MIXT_OK;
    for (int i = 0; i < 100000 && status == MIXT_OK; i++) { /* the thread may begin late */
        status = mixt_trace_open(path, &trace, &error);
        mixt_trace_free(trace);
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    assert_int_equal(status, MIXT_ERROR_IO);
    assert_null(trace);
    assert_non_null(strstr(error.message, "changing.st: became shorter or was written to"));
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_holds_no_infinity),
        cmocka_unit_test(names_do_not_act_on_a_terminal),
        cmocka_unit_test(text_without_a_tokenizer),
        cmocka_unit_test(what_is_read_is_not_written_over),
        cmocka_unit_test(latest_is_named),
        cmocka_unit_test(claimed_context),
        cmocka_unit_test(importance_of_another_model),
        cmocka_unit_test(trace_that_changes),
    };
    return cmocka_run_group_tests(tests, shell_make, scratch_remove);
}
