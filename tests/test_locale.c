/* The library inside a program that writes numbers with a decimal comma: what it writes is the same
 * byte for byte, and it reads what it wrote. */
#include <locale.h>
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

#include "core/number.h"
#include "mixt.h"
#include "scratch.h"
#include "train_setup.h"

/* LC_NUMERIC as glibc compiles it: a magic number, six offsets, and texts and wide characters for
 * point, separator, grouping, and the code set. So no locale has to be installed. */
static bool comma_locale(void)
{
    static const unsigned char file[] = {
        0x14, 0x11, 0x03, 0x20, 6, 0, 0, 0,    0x20, 0, 0,   0,    0x22, 0,   0,   0,   0x23,
        0,    0,    0,    0x24, 0, 0, 0, 0x28, 0,    0, 0,   0x2c, 0,    0,   0,   ',', 0,
        0,    0,    ',',  0,    0, 0, 0, 0,    0,    0, 'U', 'T',  'F',  '-', '8', 0};
    char *folder = scratch_path("comma"), *path = scratch_path("comma/LC_NUMERIC");
    assert_int_equal(mkdir(folder, 0700), 0);
    write_file(path, file, sizeof file);
    free(path);
    free(folder);
    setenv("LOCPATH", scratch, 1);
    return setlocale(LC_NUMERIC, "comma") != NULL;
}

/* Sets the locale, or skips the test where the C library has another form of them. */
static void need_comma(void)
{
    static int known = -1;
    if (known < 0) {
        known = comma_locale();
    }
    if (!known || setlocale(LC_NUMERIC, "comma") == NULL) {
        print_message("skipped: this C library does not read glibc's compiled locales\n");
        skip();
    }
}

static void numbers_have_a_point(void **state)
{
    static const double values[] = {0.1, 3e-4, 1.0 / 3, -2.5, 1e300, 5e-324, 123456789.0, 1e22};
    (void)state;
    need_comma();
    char text[MIXT_NUMBER_SIZE], plain[MIXT_NUMBER_SIZE];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        mixt_number_write(values[i], text);
        assert_null(strchr(text, ','));
        assert_true(mixt_number_read(text, NULL) == values[i]);
        mixt_number_write_float((float)values[i], text);
        assert_true((float)mixt_number_read(text, NULL) == (float)values[i]);
    }
    mixt_number_write(0.0003, text);
    assert_string_equal(text, "0.0003");
    mixt_format(plain, sizeof plain, "%.2f", 2.5);
    assert_string_equal(plain, "2.50");
    snprintf(plain, sizeof plain, "%.2f", 2.5);
    assert_string_equal(plain, "2,50"); /* the program's own stay as it wants them */
    setlocale(LC_NUMERIC, "C");
}

/* ---- everything that is written */

/* A number behind this key depends on the clock. */
static void blank(char *text, const char *key)
{
    for (char *at = text; (at = strstr(at, key)) != NULL;) {
        at += strlen(key);
        for (; strchr("0123456789.e+- ", *at) != NULL && *at != '\0'; at++) {
            *at = ' ';
        }
    }
}

typedef struct written {
    char *all;
    size_t length;
} written;

static void keep(written *to, const char *folder, const char *name)
{
    size_t length;
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *text = read_file(path, &length);
    if (strstr(path, ".json") != NULL) {
        blank(text, "\"seconds\":");
        blank(text, "\"warm_end\":");
        blank(text, "\"tokens_per_second\":");
        size_t kept = 0; /* their length differs too */
        for (size_t i = 0; i < length; i++) {
            text[kept] = text[i];
            kept += text[i] != ' ';
        }
        length = kept;
    }
    to->all = realloc(to->all, to->length + length);
    assert_non_null(to->all);
    memcpy(to->all + to->length, text, length);
    to->length += length;
    free(text);
}

static void train(train_setup *s, int64_t steps)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    mixt_step_report report;
    s->options.learning_rate = 0.0123;
    s->options.evaluate_every = 2;
    s->options.checkpoint_seconds = 0;
    must(mixt_trainer_create(s->context, s->model, s->data, s->tokenizer, &s->options, s->run,
                             &trainer, &error),
         &error);
    for (int64_t i = 0; i < steps; i++) {
        must(mixt_trainer_step(trainer, &report, &error), &error);
    }
    must(mixt_trainer_checkpoint(trainer, &error), &error);
    mixt_trainer_free(trainer);
}

static void convert(train_setup *s, const mixt_model *model, const char *name, const char *type)
{
    mixt_error error = MIXT_ERROR_INIT;
    char path[400];
    mixt_convert_options options = mixt_convert_options_default();
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    options.output = path;
    options.type = type;
    must(mixt_convert(s->context, model, &options, NULL, NULL, &error), &error);
}

/* Trained, resumed, saved, converted, traced and shown. */
static written everything(void)
{
    mixt_error error = MIXT_ERROR_INIT;
    train_setup s;
    written to = {0};
    mixt_model_options shape = train_setup_model_options();
    char path[400], page[400];
    shape.rope_theta = 12345.5;
    train_setup_open(&s, 1, &shape);
    train(&s, 2);
    train_setup_new_model(&s, &shape);
    train(&s, 2); /* reads state.json again */
    keep(&to, s.run, "log.jsonl");
    keep(&to, s.run, "step-00000004/state.json");
    keep(&to, s.run, "step-00000004/config.json");
    convert(&s, s.model, "model.gguf", "Q8_0");
    keep(&to, s.folder, "model.gguf");
    snprintf(path, sizeof path, "%s/model.gguf", s.folder);
    mixt_model *model = must_open_model(path);
    convert(&s, model, "folder", NULL);
    keep(&to, s.folder, "folder/config.json");
    snprintf(path, sizeof path, "%s/trace", s.folder);
    snprintf(page, sizeof page, "%s/page.html", s.folder);
    mixt_trace_options options = {.output = path, .model_name = "model", .window = 16};
    mixt_trace *trace;
    must(mixt_trace_write(s.context, model, s.data, s.tokenizer, &options, NULL, NULL, &error),
         &error);
    must(mixt_trace_open(path, &trace, &error), &error);
    must(mixt_atlas_page(trace, page, &error), &error);
    keep(&to, s.folder, "page.html");
    mixt_trace_free(trace);
    mixt_model_free(model);
    train_setup_close(&s);
    mixt_chat_message message = {"user", "{{ 1.5 }}"};
    char *text;
    must(mixt_chat_render(
             "{{ 1.5 * 3 }} {{ '2.5'|float }} {{ 0.1|round(2) }} {{ variable|tojson }}", &message,
             1, &(mixt_chat_options){.variables = "{\"variable\": [0.1, 1e-7]}"}, &text, &error),
         &error);
    assert_string_equal(text, "4.5 2.5 0.1 [0.1, 1e-07]");
    free(text);
    return to;
}

static void files_are_the_same(void **state)
{
    (void)state;
    setlocale(LC_NUMERIC, "C");
    written plain = everything();
    need_comma();
    written comma = everything();
    char text[8];
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5"); /* and it is still set */
    setlocale(LC_NUMERIC, "C");
    assert_int_equal(plain.length, comma.length);
    assert_memory_equal(plain.all, comma.all, plain.length);
    free(plain.all);
    free(comma.all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_a_point),
        cmocka_unit_test(files_are_the_same),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
