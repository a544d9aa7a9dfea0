/* JSON getters, the JSON lines log and TensorBoard events. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

#include "core/files.h"
#include "formats/json.h"
#include "formats/jsonl_log.h"
#include "formats/tensorboard.h"
#include "scratch.h"

static int make_folder(void **state)
{
    signal(SIGXFSZ, SIG_IGN); /* a limit on file size serves as a full disk */
    return scratch_make(state);
}

/* -- JSON ------------------------------------------------------------------------------------- */

static void expect_parse(const char *text, size_t length, const char *rule)
{
    json_t *root;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_json_parse(text, length, "config.json", &root, &error);
    if (rule == NULL) {
        if (status != MIXT_OK) {
            fail_msg("%s: %s", text, error.message);
        }
    } else if (status != MIXT_ERROR_FORMAT || strstr(error.message, rule) == NULL || root != NULL ||
               strncmp(error.message, "config.json: ", 13) != 0) {
        fail_msg("%s: wanted \"%s\", got \"%s\"", text, rule, error.message);
    }
    json_decref(root);
}

static void test_json_refusals(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"{}", NULL},
        {" \n{\"a\": [1, {\"b\": null}], \"unknown\": true} \r\n", NULL},
        {"{\"a\": \"\\ud83d\\ude00\"}", NULL},
        {"{\"a\": -0.0, \"b\": 1E+2, \"c\": 9223372036854775807}", NULL},
        {"", "line 1"},
        {"[]", "must hold a JSON object"},
        {"3", "line 1"},
        {"{\"a\": 1} x", "end of file expected"},
        {"{\"a\": 1,}", "line 1"},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key near '\"a\"'"},
        {"{\"a\": NaN}", "invalid token near 'NaN'"},
        {"{\"a\": Infinity}", "invalid token"},
        {"{\"a\": 1e400}", "config.json: a: line 1"},
        {"{\"first\": 1,\n \"num_experts_per_tok\": 1e400}", "num_experts_per_tok: line 2"},
        {"{\"x\": 99999999999999999999, \"y\": [-1000000000000000019884624838656], "
         "\"z\": 12345678901234567890.5, \"e\": 12345678901234567890E+2}",
         NULL},
        {"{\"x\": 99999999999999999999, \"y\": 1e400}", "x: line 1"},
        {"{\"x\": 99999999999999999999x}", "line 1"},
        {"{\"list\": [1, 1e400]}", "line 1"},
        {"{\"a\": 01}", "line 1"},
        {"{\"a\": .5}", "line 1"},
        {"{\"a\": +1}", "line 1"},
        {"{\"a\": 'x'}", "line 1"},
        {"{\"a\": \"\\ud800\"}", "line 1"},      /* lone surrogate */
        {"{\"a\": \"\xed\xa0\x80\"}", "line 1"}, /* the same in UTF-8 */
        {"{\"a\": \"\xc0\xaf\"}", "line 1"},     /* overlong */
        {"{\"a\": \"\xff\"}", "line 1"},
        {"{\"a\": \"\t\"}", "line 1"},
        {"{\"a\": \"\\u0000\"}", "\\u0000"},
        {"\xef\xbb\xbf{}", "line 1"}, /* byte order mark */
        {"{\"a\": 1 // no\n}", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_parse(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    }
    expect_parse("{\0}", 3, "line 1");
    expect_parse("\xff\xfe{\0}\0", 6, "line 1"); /* UTF-16 */
}

static void test_json_depth(void **state)
{
    (void)state;
    static const size_t depths[] = {MIXT_JSON_DEPTH_MAX - 1, MIXT_JSON_DEPTH_MAX, 100000};
    for (size_t i = 0; i < 3; i++) {
        size_t depth = depths[i]; /* arrays inside one object */
        char *text = malloc(2 * depth + 20);
        assert_non_null(text);
        strcpy(text, "{\"a\":");
        memset(text + 5, '[', depth);
        memset(text + 5 + depth, ']', depth);
        strcpy(text + 5 + 2 * depth, "}");
        expect_parse(text, strlen(text), i == 0 ? NULL : "nested deeper than 64");
        free(text);
    }
    /* brackets in texts are no nesting */
    char text[400] = "{\"a\":\"\\\"";
    memset(text + strlen(text), '[', 300);
    strcat(text, "\\\\\"}");
    expect_parse(text, strlen(text), NULL);
}

static void test_json_files(void **state)
{
    (void)state;
    char *path = scratch_path("big.json");
    json_t *root;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_read(path, 100, &root, &error), MIXT_ERROR_NOT_FOUND);
    assert_null(root);
    assert_int_equal(mixt_file_replace(path, "{\"a\":1}   ", 10, NULL), MIXT_OK);
    assert_int_equal(mixt_json_read(path, 10, &root, NULL), MIXT_OK);
    json_decref(root);
    mixt_error second = MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_read(path, 9, &root, &second), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(second.message, "10 bytes, more than the 9 allowed"));
    free(path);
}

/* The getters on one object; each refusal names file and key. */
static void expect_line(const mixt_error *error, const char *line)
{
    if (strcmp(error->message, line) != 0) {
        fail_msg("wanted \"%s\", got \"%s\"", line, error->message);
    }
}

static void test_json_getters(void **state)
{
    (void)state;
    static const char text[] =
        "{\"whole\": 8, \"half\": 3.5, \"text\": \"8\", \"none\": null, \"minus\": -1,"
        " \"large\": 9007199254740993, \"yes\": true, \"three\": 3.0, \"list\": [], \"map\": {}}";
    json_t *root;
    assert_int_equal(mixt_json_parse(text, strlen(text), "config.json", &root, NULL), MIXT_OK);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_json_object object = {root, "config.json", "", &error};
    const mixt_json_range range = {1, 8};
    int64_t whole = -7;
    double number = -7;
    bool flag = false;
    const char *string = NULL;
    const json_t *array;
    assert_int_equal(mixt_json_integer(&object, "whole", range, &whole), MIXT_OK);
    assert_int_equal(whole, 8);
    assert_int_equal(mixt_json_number(&object, "half", range, &number), MIXT_OK);
    assert_true(number == 3.5);
    assert_int_equal(mixt_json_number(&object, "whole", range, &number), MIXT_OK);
    assert_true(number == 8);
    assert_int_equal(mixt_json_bool(&object, "yes", &flag), MIXT_OK);
    assert_true(flag);
    assert_int_equal(mixt_json_string(&object, "text", &string), MIXT_OK);
    assert_string_equal(string, "8");
    assert_int_equal(mixt_json_array(&object, "list", &array), MIXT_OK);
    assert_true(mixt_json_has(&object, "yes") && !mixt_json_has(&object, "none") &&
                !mixt_json_has(&object, "absent"));
    whole = -7;
    const char *const absent[] = {"none", "absent"};
    for (int i = 0; i < 2; i++) { /* left as they were */
        assert_int_equal(mixt_json_integer_or(&object, absent[i], range, &whole), MIXT_OK);
        assert_int_equal(mixt_json_number_or(&object, absent[i], range, &number), MIXT_OK);
        assert_int_equal(mixt_json_bool_or(&object, absent[i], &flag), MIXT_OK);
        assert_int_equal(mixt_json_string_or(&object, absent[i], &string), MIXT_OK);
    }
    assert_int_equal(whole, -7);
    assert_true(number == 8 && flag && strcmp(string, "8") == 0);
    assert_int_equal(mixt_json_integer_or(&object, "whole", range, &whole), MIXT_OK);
    assert_int_equal(whole, 8);

    const char *const lines[][2] = {
        {"half", "config.json: half: 3.5 is not an integer in 1..8"},
        {"three", "config.json: three: 3 is not an integer in 1..8"},
        {"text", "config.json: text: \"8\" is not an integer in 1..8"},
        {"none", "config.json: none: null is not an integer in 1..8"},
        {"minus", "config.json: minus: -1 is not an integer in 1..8"},
        {"large", "config.json: large: 9007199254740993 is not an integer in 1..8"},
        {"yes", "config.json: yes: true is not an integer in 1..8"},
        {"list", "config.json: list: an array is not an integer in 1..8"},
        {"map", "config.json: map: an object is not an integer in 1..8"},
        {"absent", "config.json: absent: is missing"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        error = (mixt_error)MIXT_ERROR_INIT;
        assert_int_equal(mixt_json_integer(&object, lines[i][0], range, &whole), MIXT_ERROR_FORMAT);
        expect_line(&error, lines[i][1]);
    }
    error = (mixt_error)MIXT_ERROR_INIT; /* exact up to 2^53 only, whatever the range says */
    assert_int_equal(mixt_json_integer(&object, "large", (mixt_json_range){0, 1e18}, &whole),
                     MIXT_ERROR_FORMAT);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_number(&object, "minus", range, &number), MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: minus: -1 is not a number in 1..8");
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_bool(&object, "whole", &flag), MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: whole: 8 is not true or false");
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_string(&object, "whole", &string), MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: whole: 8 is not a text");
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_array(&object, "whole", &array), MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: whole: 8 is not an array");
    error = (mixt_error)MIXT_ERROR_INIT;
    object.place = "rope_scaling.";
    assert_int_equal(mixt_json_bool_or(&object, "half", &flag), MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: rope_scaling.half: 3.5 is not true or false");
    json_decref(root);
}

/* As Python writes model_max_length: a real number, and the text beside it stays. */
static void test_json_huge(void **state)
{
    (void)state;
    json_t *wide;
    static const char huge[] = "{\"huge\": 1000000000000000019884624838656, \"digits\": "
                               "\"\\\"99999999999999999999 }\", \"whole\": 8}";
    assert_int_equal(mixt_json_parse(huge, strlen(huge), "config.json", &wide, NULL), MIXT_OK);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_json_object object = {wide, "config.json", "", &error};
    int64_t whole;
    const char *string;
    assert_int_equal(mixt_json_integer(&object, "huge", (mixt_json_range){1, 8}, &whole),
                     MIXT_ERROR_FORMAT);
    expect_line(&error, "config.json: huge: 1e+30 is not an integer in 1..8");
    assert_int_equal(mixt_json_string(&object, "digits", &string), MIXT_OK);
    assert_string_equal(string, "\"99999999999999999999 }");
    json_decref(wide);
}

/* Shortest, still real where they were, and text that looks like one stays. */
static void test_json_reals(void **state)
{
    (void)state;
    json_t *value;
    static const char text[] = "{\"epsilon\": 1e-05, \"rate\": -0.0003, \"theta\": 10000.0, "
                               "\"far\": 1.5e-05, \"huge\": 1e+30, \"third\": "
                               "0.3333333333333333, \"text\": \"\\\\\\\"0.30000000000000001\", "
                               "\"whole\": 300, \"least\": 5e-324, \"list\": [0.1, -0.0, false]}";
    static const char wanted[] = "{\"epsilon\":1e-5,\"rate\":-0.0003,\"theta\":10000.0,"
                                 "\"far\":1.5e-5,\"huge\":1e30,\"third\":0.3333333333333333,"
                                 "\"text\":\"\\\\\\\"0.30000000000000001\",\"whole\":300,"
                                 "\"least\":5e-324,\"list\":[0.1,-0.0,false]}";
    assert_int_equal(mixt_json_parse(text, strlen(text), "x.json", &value, NULL), MIXT_OK);
    mixt_json_begin();
    char *written = mixt_json_text(value, JSON_COMPACT);
    assert_string_equal(written, wanted);
    free(written);
    json_decref(value);
}

/* -- The JSON lines log ----------------------------------------------------------------------- */

static void expect_file(const char *path, const char *wanted)
{
    char *text;
    size_t length;
    assert_int_equal(mixt_file_read(path, 1u << 24, &text, &length, NULL), MIXT_OK);
    assert_string_equal(text, wanted);
    free(text);
}

static void open_and_close(const char *path, int64_t last_step)
{
    mixt_jsonl_log *log;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_jsonl_open(path, last_step, &log, &error), &error);
    mixt_jsonl_close(log);
}

static void test_log_resumes(void **state)
{
    (void)state;
    char *path = scratch_path("log.jsonl");
    mixt_jsonl_log *log;
    assert_int_equal(mixt_jsonl_open(path, -1, &log, NULL), MIXT_OK);
    for (int i = 1; i <= 5; i++) {
        char line[40];
        int length = snprintf(line, sizeof line, "{\"step\": %d, \"x\": \"step\"}\n", i);
        assert_int_equal(mixt_jsonl_append(log, line, (size_t)length, NULL), MIXT_OK);
    }
    assert_int_equal(mixt_jsonl_sync(log, NULL), MIXT_OK);
    mixt_jsonl_close(log);
    open_and_close(path, 5);
    open_and_close(path, 3);
    expect_file(path, "{\"step\": 1, \"x\": \"step\"}\n{\"step\": 2, \"x\": \"step\"}\n"
                      "{\"step\": 3, \"x\": \"step\"}\n");
    open_and_close(path, 0);
    expect_file(path, "");
    const char *const tails[] = {"{\"step\": 3, \"x",
                                 "{\"step\": 4}\n{\"step\": 5}\n",
                                 "{\"step\": 3",
                                 "garbage\n",
                                 "\n\n",
                                 "{\"step\": -1}\n",
                                 "{\"step\": \"2\"}\n",
                                 "[{\"step\": 2}]\n"};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        static const char kept[] = "{\"note\": 1}\n{\"step\": 2}\n{\"step\": 3, \"eval\": {}}\n";
        char text[200];
        int length = snprintf(text, sizeof text, "%s%s", kept, tails[i]);
        assert_int_equal(mixt_file_replace(path, text, (size_t)length, NULL), MIXT_OK);
        open_and_close(path, 3);
        expect_file(path, kept);
    }
    open_and_close(path, -1);
    expect_file(path, "");
    mixt_jsonl_close(NULL);
    free(path);
}

/* Lines around and beyond the blocks that are searched backwards. */
static void test_log_long_lines(void **state)
{
    (void)state;
    char *path = scratch_path("long.jsonl");
    for (size_t filler = 65500; filler < 65560; filler += 7) {
        size_t size = 3 * filler + 200;
        char *text = malloc(size);
        char *kept = malloc(size);
        assert_true(text != NULL && kept != NULL);
        size_t used = 0;
        for (int i = 1; i <= 3; i++) {
            used += (size_t)sprintf(text + used, "{\"step\": %d, \"x\": \"", i);
            memset(text + used, 'y', filler);
            used += filler;
            used += (size_t)sprintf(text + used, "\"}\n");
            if (i == 2) {
                memcpy(kept, text, used + 1);
            }
        }
        assert_int_equal(mixt_file_replace(path, text, used, NULL), MIXT_OK);
        open_and_close(path, 3);
        expect_file(path, text);
        open_and_close(path, 2);
        expect_file(path, kept);
        free(text);
        free(kept);
    }
    free(path);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_log_on_a_full_disk(void **state)
{
    (void)state;
    char *path = scratch_path("full.jsonl");
    mixt_jsonl_log *log;
    assert_int_equal(mixt_jsonl_open(path, -1, &log, NULL), MIXT_OK);
    assert_int_equal(mixt_jsonl_append(log, "{\"step\": 1}\n", 12, NULL), MIXT_OK);
    limit_files(20);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_jsonl_append(log, "{\"step\": 2}\n", 12, &error), MIXT_ERROR_IO);
    limit_files(RLIM_INFINITY);
    assert_non_null(strstr(error.message, strerror(EFBIG)));
    expect_file(path, "{\"step\": 1}\n"); /* no half line */
    assert_int_equal(mixt_jsonl_append(log, "{\"step\": 2}\n", 12, NULL), MIXT_OK);
    expect_file(path, "{\"step\": 1}\n{\"step\": 2}\n");
    mixt_jsonl_close(log);
    assert_int_equal(mixt_jsonl_open(scratch, -1, &log, NULL), MIXT_ERROR_IO);
    char *fifo = scratch_path("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(mixt_jsonl_open(fifo, -1, &log, NULL), MIXT_ERROR_FORMAT);
    free(fifo);
    free(path);
}

/* -- TensorBoard ------------------------------------------------------------------------------ */

/* The same records as tests/reference/tensorboard_fixture.py makes with the tensorboard package. */
static void test_event_bytes(void **state)
{
    (void)state;
    char *wanted;
    size_t length;
    assert_int_equal(
        mixt_file_read("tests/fixtures/tensorboard/events.bin", 10000, &wanted, &length, NULL),
        MIXT_OK);
    char long_tag[201];
    memset(long_tag, 'x', 200);
    long_tag[200] = '\0';
    const mixt_scalar scalars[] = {{"loss/train", 2.5}, {"load/\xc3\xbc", -0.0}, {"rate", 3e-4}};
    const mixt_scalar odd = {long_tag, NAN};
    mixt_buffer out = {0};
    mixt_event_version(&out, 1234567890.25, 0);
    mixt_event_version(&out, 1234567890.5, 300);
    mixt_event_restart(&out, 1234567890.5, 300);
    mixt_event_scalars(&out, 1234567891.0, 300, scalars, 3);
    mixt_event_scalars(&out, 1234567892.0, ((int64_t)1 << 40) + 5, &odd, 1);
    mixt_event_scalars(&out, 1234567893.0, 0, NULL, 0);
    assert_false(out.failed);
    assert_int_equal(out.length, length);
    assert_memory_equal(out.data, wanted, length);
    mixt_buffer_free(&out);
    free(wanted);
}

static size_t file_size(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (size_t)status.st_size;
}

static void test_event_files(void **state)
{
    (void)state;
    char *place = scratch_path("events");
    mixt_tensorboard *first;
    mixt_tensorboard *second;
    assert_int_equal(mixt_tensorboard_create(place, 0, &first, NULL), MIXT_OK);
    assert_int_equal(mixt_tensorboard_create(place, 8, &second, NULL), MIXT_OK);
    assert_string_not_equal(mixt_tensorboard_path(first), mixt_tensorboard_path(second));
    assert_non_null(strstr(mixt_tensorboard_path(first), "/events/events.out.tfevents."));
    size_t begin = file_size(mixt_tensorboard_path(first));
    assert_int_equal(begin, 16 + 9 + 15);                          /* frame, wall time, version */
    assert_true(file_size(mixt_tensorboard_path(second)) > begin); /* and the restart */
    const mixt_scalar scalar = {"loss", 1.5};
    assert_int_equal(mixt_tensorboard_add(first, 1, &scalar, 1, NULL), MIXT_OK);
    assert_int_equal(mixt_tensorboard_flush(first, NULL), MIXT_OK);
    size_t one = file_size(mixt_tensorboard_path(first)) - begin;
    for (int i = 2; i <= 3000; i++) {
        assert_int_equal(mixt_tensorboard_add(first, i % 100, &scalar, 1, NULL), MIXT_OK);
    }
    assert_true(file_size(mixt_tensorboard_path(first)) > begin + 1000 * one); /* by size */
    char *path = strdup(mixt_tensorboard_path(first));
    assert_non_null(path);
    mixt_tensorboard_free(first);
    assert_true(file_size(path) >= begin + 2970 * one);
    mixt_tensorboard_free(second);
    mixt_tensorboard_free(NULL);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tensorboard_create(path, 0, &first, &error), MIXT_ERROR_IO);
    free(path);
    free(place);
}

static void test_events_on_a_full_disk(void **state)
{
    (void)state;
    char *place = scratch_path("full-events");
    mixt_tensorboard *writer;
    assert_int_equal(mixt_tensorboard_create(place, 0, &writer, NULL), MIXT_OK);
    size_t begin = file_size(mixt_tensorboard_path(writer));
    const mixt_scalar scalar = {"loss", 1.5};
    assert_int_equal(mixt_tensorboard_add(writer, 1, &scalar, 1, NULL), MIXT_OK);
    limit_files(begin + 10);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_tensorboard_flush(writer, &error), MIXT_ERROR_IO);
    limit_files(RLIM_INFINITY);
    assert_int_equal(file_size(mixt_tensorboard_path(writer)), begin); /* no half record */
    assert_int_equal(mixt_tensorboard_add(writer, 2, &scalar, 1, NULL), MIXT_OK);
    assert_int_equal(mixt_tensorboard_flush(writer, NULL), MIXT_OK);
    assert_true(file_size(mixt_tensorboard_path(writer)) > begin + 16);
    mixt_tensorboard_free(writer);
    free(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_refusals),      cmocka_unit_test(test_json_depth),
        cmocka_unit_test(test_json_files),         cmocka_unit_test(test_json_getters),
        cmocka_unit_test(test_json_huge),          cmocka_unit_test(test_json_reals),
        cmocka_unit_test(test_log_resumes),        cmocka_unit_test(test_log_long_lines),
        cmocka_unit_test(test_log_on_a_full_disk), cmocka_unit_test(test_event_bytes),
        cmocka_unit_test(test_event_files),        cmocka_unit_test(test_events_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, make_folder, scratch_remove);
}
