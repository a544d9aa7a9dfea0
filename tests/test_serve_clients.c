/* mixt serve for clients that know nothing of it: embeddings, calls of tools in the forms of real
 * templates, and the lines of docs/server.md. Clients themselves are tried by tests/clients/. */
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

#include "scratch.h"
#include "serve_client.h"

enum { WIDTH_MAX = 512, SOURCE_MAX = 1 << 18 };

static pid_t server;

static int set_up(void **state)
{
    return serve_set_up(state, "--template qwen3 -a tiny -c 2048", &server);
}

static int tear_down(void **state)
{
    return serve_tear_down(state, server);
}

/* ---- embeddings */

/* The numbers of an array inside a reply; how many. */
static size_t numbers_at(const json_t *root, const char *path, double numbers[WIDTH_MAX])
{
    const json_t *array = json_at(root, path);
    size_t count = json_array_size(array);
    assert_true(count > 1 && count <= WIDTH_MAX);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = json_number_value(json_array_get(array, i));
    }
    return count;
}

static double norm(const double *numbers, size_t count, double power)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += pow(fabs(numbers[i]), power);
    }
    return pow(sum, 1 / power);
}

/* As the Python client of OpenAI asks for them: base64 of floats, of low byte first. */
static size_t decode_base64(const char *text, float numbers[WIDTH_MAX])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char bytes[4 * WIDTH_MAX + 3];
    size_t length = strlen(text), count = 0;
    assert_int_equal(length % 4, 0);
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        size_t padding = 0;
        for (size_t j = 0; j < 4; j++) {
            const char *digit = text[i + j] == '=' ? digits : strchr(digits, text[i + j]);
            assert_non_null(digit);
            padding += text[i + j] == '=';
            group = group << 6 | (uint32_t)(digit - digits);
        }
        for (size_t j = 0; j < 3 - padding; j++) {
            assert_true(count < sizeof bytes);
            bytes[count++] = (unsigned char)(group >> (16 - 8 * j));
        }
    }
    assert_int_equal(count % 4, 0);
    for (size_t i = 0; i < count / 4; i++) {
        uint32_t bits = 0;
        for (size_t j = 4; j > 0; j--) {
            bits = bits << 8 | bytes[4 * i + j - 1];
        }
        memcpy(&numbers[i], &bits, sizeof bits);
    }
    return count / 4;
}

static void test_embeddings(void **state)
{
    double alone[WIDTH_MAX], beside[WIDTH_MAX];
    float coded[WIDTH_MAX];
    json_t *root = ask_json("/v1/embeddings", "{\"model\":\"tiny\",\"input\":\"The quick\"}", 200);
    (void)state;
    size_t width = numbers_at(root, "data.0.embedding", alone);
    assert_true(fabs(norm(alone, width, 2) - 1) < 1e-6);
    assert_string_equal(text_at(root, "object"), "list");
    assert_string_equal(text_at(root, "data.0.object"), "embedding");
    assert_string_equal(text_at(root, "model"), "tiny");
    long long tokens = integer_at(root, "usage.prompt_tokens");
    assert_true(tokens > 1 && tokens == integer_at(root, "usage.total_tokens"));
    json_decref(root);
    /* The same bits beside others, and as base64. */
    root = ask_json("/v1/embeddings",
                    "{\"input\":[\"A text that is longer, so that more is to be computed of it\","
                    "\"The quick\",[5,6,7],\"The quick\",[5,\"quick\"]]}",
                    200);
    assert_int_equal(json_array_size(json_at(root, "data")), 5);
    for (size_t i = 1; i <= 3; i += 2) {
        char path[40];
        snprintf(path, sizeof path, "data.%zu.embedding", i);
        assert_int_equal(numbers_at(root, path, beside), width);
        assert_memory_equal(beside, alone, width * sizeof *alone);
        snprintf(path, sizeof path, "data.%zu.index", i);
        assert_true(integer_at(root, path) == (long long)i);
    }
    numbers_at(root, "data.2.embedding", beside);
    assert_true(memcmp(beside, alone, width * sizeof *alone) != 0);
    json_decref(root);
    root =
        ask_json("/v1/embeddings", "{\"input\":\"The quick\",\"encoding_format\":\"base64\"}", 200);
    assert_int_equal(decode_base64(text_at(root, "data.0.embedding"), coded), width);
    for (size_t i = 0; i < width; i++) {
        assert_true(coded[i] == (float)alone[i]);
    }
    json_decref(root);
    /* The forms of llama.cpp and Ollama. */
    root = ask_json("/embedding", "{\"content\":\"The quick\"}", 200);
    numbers_at(root, "0.embedding.0", beside);
    assert_memory_equal(beside, alone, width * sizeof *alone);
    json_decref(root);
    root = ask_json("/api/embed", "{\"model\":\"tiny\",\"input\":[\"The quick\",\"b\"]}", 200);
    assert_int_equal(json_array_size(json_at(root, "embeddings")), 2);
    numbers_at(root, "embeddings.0", beside);
    assert_memory_equal(beside, alone, width * sizeof *alone);
    assert_true(integer_at(root, "prompt_eval_count") > tokens);
    json_decref(root);
    root = ask_json("/api/embeddings", "{\"model\":\"tiny\",\"prompt\":\"The quick\"}", 200);
    numbers_at(root, "embedding", beside);
    double length = norm(beside, width, 2); /* not divided by */
    for (size_t i = 0; i < width; i++) {
        assert_true(fabs(beside[i] / length - alone[i]) < 1e-6);
    }
    json_decref(root);
}

static void test_norms(void **state)
{
    static const struct {
        int normalize;
        double power, wanted;
    } cases[] = {{1, 1, 1}, {2, 2, 1}, {3, 3, 1}, {0, 200, 32760}};
    double numbers[WIDTH_MAX], raw[WIDTH_MAX];
    json_t *root = ask_json("/embeddings", "{\"input\":\"The\",\"embd_normalize\":-1}", 200);
    (void)state;
    size_t width = numbers_at(root, "0.embedding.0", raw);
    json_decref(root);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[80];
        snprintf(body, sizeof body, "{\"input\":\"The\",\"embd_normalize\":%d}",
                 cases[i].normalize);
        root = ask_json("/embeddings", body, 200);
        numbers_at(root, "0.embedding.0", numbers);
        double length = norm(numbers, width, cases[i].power);
        if (cases[i].normalize == 0) { /* the largest alone */
            length = 0;
            for (size_t j = 0; j < width; j++) {
                length = fmax(length, fabs(numbers[j]));
            }
        }
        assert_true(fabs(length / cases[i].wanted - 1) < 1e-5);
        for (size_t j = 0; j < width; j++) { /* of the same direction */
            assert_true(fabs(numbers[j] * raw[0] - raw[j] * numbers[0]) <
                        1e-5 * fabs(cases[i].wanted * raw[0]));
        }
        json_decref(root);
    }
}

/* n times the mean of n tokens, less n - 1 times the mean of all but the last, is the last. */
static void test_pooling(void **state)
{
    double means[2][WIDTH_MAX], last[WIDTH_MAX];
    int port = serve_port;
    (void)state;
    pid_t other = serve_begin("--pooling last --cache-type f32");
    json_t *root =
        ask_json("/embedding", "{\"input\":[5,6,7,8,9,10,11],\"embd_normalize\":-1}", 200);
    size_t width = numbers_at(root, "0.embedding.0", last);
    json_decref(root);
    assert_int_equal(serve_end(other), 0);
    other = serve_begin("--pooling mean --cache-type f32");
    root = ask_json("/embedding",
                    "{\"input\":[[5,6,7,8,9,10,11],[5,6,7,8,9,10]],\"embd_normalize\":-1}", 200);
    numbers_at(root, "0.embedding.0", means[0]);
    numbers_at(root, "1.embedding.0", means[1]);
    json_decref(root);
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
    double size = norm(last, width, 2);
    for (size_t i = 0; i < width; i++) {
        assert_true(fabs(7 * means[0][i] - 6 * means[1][i] - last[i]) < 1e-5 * size);
    }
}

static void test_embeddings_refused(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *part;
    } cases[] = {
        {"/v1/embeddings", "{}", 400, "needed"},
        {"/v1/embeddings", "{\"input\":[]}", 400, "needed"},
        {"/v1/embeddings", "{\"input\":[[]]}", 400, "empty"},
        {"/v1/embeddings", "{\"input\":[{\"a\":1}]}", 400, "a prompt is"},
        {"/v1/embeddings", "{\"input\":[5,6.5]}", 400, "a prompt is"},
        {"/v1/embeddings", "{\"input\":[-1]}", 400, "not one of the model's"},
        {"/v1/embeddings", "{\"input\":\"a\",\"dimensions\":8}", 400, "dimensions"},
        {"/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"int8\"}", 400, "float or"},
        {"/v1/embeddings", "{\"input\":\"a\",\"content\":\"b\"}", 400, "content"},
        {"/v1/embeddings", "{\"input\":\"a\",\"model\":\"third\"}", 404, "not served"},
        {"/embedding", "{\"input\":\"a\",\"encoding_format\":\"base64\"}", 400, "must be float"},
        {"/embedding", "{\"input\":\"a\",\"embd_normalize\":-2}", 400, "embd_normalize"},
        {"/api/embed", "{\"input\":\"a\",\"truncate\":1}", 400, "truncate"},
        {"/api/embeddings", "{\"prompt\":[\"a\",\"b\"]}", 400, "more than 1"},
    };
    static char body[40000];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_decref(ask_json(cases[i].path, cases[i].body, cases[i].status));
        assert_has(ask_body, cases[i].part);
    }
    size_t used = (size_t)snprintf(body, sizeof body, "{\"input\":[[5");
    for (int i = 1; i < 2048; i++) {
        used += (size_t)snprintf(body + used, sizeof body - used, ",5");
    }
    snprintf(body + used, sizeof body - used, "]]}"); /* the whole context */
    json_decref(ask_json("/v1/embeddings", body, 200));
    snprintf(body + used, sizeof body - used, ",5]]}");
    json_decref(ask_json("/v1/embeddings", body, 400));
    assert_has(ask_body, "context_length_exceeded");
    used = (size_t)snprintf(body, sizeof body, "{\"input\":[[5]");
    for (int i = 1; i < 2049; i++) {
        used += (size_t)snprintf(body + used, sizeof body - used, ",[5]");
    }
    snprintf(body + used, sizeof body - used, "]}");
    json_decref(ask_json("/v1/embeddings", body, 400));
    assert_has(ask_body, "more than 2048");
    await_metric("mixt_cache_pages_used", 0);
}

/* ---- tools */

#define SAY "\"messages\":[{\"role\":\"user\",\"content\":\"The quick\"}],"
#define NO_SPACE "\"logit_bias\":[[\" \",-50],[\"\\n\",-50],[\"\\t\",-50],[\"\\r\",-50]],"
#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":"  \
    "\"object\",\"properties\":{\"deep\":{\"type\":\"boolean\"}},\"required\":[\"deep\"],"         \
    "\"additionalProperties\":false}}}],"
#define CALLED                                                                                     \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"       \
    "\"Q\",\"name\":null},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"       \
    "\"c1\",\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":"                  \
    "\"{\\\"deep\\\": true}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"no\","  \
    "\"tool_calls\":null}]}"

/* The built-in template of Qwen3 has its tools. */
static void test_builtin_tools(void **state)
{
    json_t *root = ask_json("/apply-template",
                            "{" TOOLS "\"messages\":[{\"role\":\"user\","
                            "\"content\":\"Q\"}]}",
                            200);
    (void)state;
    assert_has(text_at(root, "prompt"), "<|im_start|>system\n# Tools\n\n");
    assert_has(text_at(root, "prompt"), "\"name\": \"look\"");
    assert_has(text_at(root, "prompt"), "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n");
    json_decref(root);
    root = ask_json("/apply-template", CALLED, 200);
    assert_string_equal(text_at(root, "prompt"),
                        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
                        "<|im_start|>assistant\n<tool_call>\n{\"name\": \"look\", \"arguments\": "
                        "{\"deep\": true}}\n</tool_call><|im_end|>\n<|im_start|>user\n"
                        "<tool_response>\nno\n</tool_response><|im_end|>\n"
                        "<|im_start|>assistant\n");
    json_decref(root);
    root = ask_json("/v1/chat/completions",
                    "{" SAY TOOLS NO_SPACE "\"tool_choice\":\"required\",\"max_tokens\":200}", 200);
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.name"), "look");
    json_decref(root);
}

/* pydantic's nested models: `#` is the root of each tool's own parameters, also where a second tool
 * has another model of the same name, and what looks like a reference in a constant is a value. */
#define NESTED(name, member, type)                                                                 \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name                                        \
    "\",\"parameters\":{\"$defs\":{\"Place\":{"                                                    \
    "\"type\":\"object\",\"properties\":{\"" member "\":{\"type\":\"" type                         \
    "\"}},\"required\":[\"" member                                                                 \
    "\"],\"additionalProperties\":false}},\"type\":\"object\",\"properties\":{\"place\":{"         \
    "\"$ref\":\"#/$defs/Place\"},\"$ref\":{\"const\":{\"$ref\":\"#/"                               \
    "no\"}}},\"required\":[\"place\","                                                             \
    "\"$ref\"],\"additionalProperties\":false}}}"

static void test_nested_parameters(void **state)
{
    static const struct {
        const char *choice, *name;
    } cases[] = {
        {"{\"type\":\"function\",\"function\":{\"name\":\"go\"}}", "go"},
        {"{\"type\":\"function\",\"function\":{\"name\":\"see\"}}", "see"},
        {"\"required\"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[2000];
        snprintf(body, sizeof body,
                 "{" SAY "\"tools\":[" NESTED("go", "far", "boolean") "," NESTED(
                     "see", "high", "null") "]," NO_SPACE "\"tool_choice\":%s,\"max_tokens\":300}",
                 cases[i].choice);
        json_t *root = ask_json("/v1/chat/completions", body, 200);
        const char *name = text_at(root, "choices.0.message.tool_calls.0.function.name");
        json_t *arguments =
            json_loads(text_at(root, "choices.0.message.tool_calls.0.function.arguments"), 0, NULL);
        bool go = strcmp(name, "go") == 0;
        assert_true(cases[i].name == NULL || strcmp(name, cases[i].name) == 0);
        const json_t *value = json_at(arguments, go ? "place.far" : "place.high");
        assert_true(go ? json_is_boolean(value) : json_is_null(value));
        assert_string_equal(text_at(arguments, "$ref.$ref"), "#/no");
        json_decref(arguments);
        json_decref(root);
    }
}

/* A client that takes one call at once gets the first alone. */
static void test_calls_at_once(void **state)
{
    (void)state;
    for (int parallel = 0; parallel < 2; parallel++) {
        char body[1000];
        snprintf(body, sizeof body,
                 "{" SAY TOOLS "\"parallel_tool_calls\":%s,\"max_tokens\":300,\"grammar\":"
                 "\"root ::= \\\"<tool_call>{\\\\\\\"name\\\\\\\":\\\\\\\"look\\\\\\\","
                 "\\\\\\\"arguments\\\\\\\":{}}</tool_call>\\\" "
                 "\\\"<tool_call>{\\\\\\\"name\\\\\\\":\\\\\\\"see\\\\\\\","
                 "\\\\\\\"arguments\\\\\\\":{}}</tool_call>\\\"\"}",
                 parallel ? "true" : "false");
        json_t *root = ask_json("/v1/chat/completions", body, 200);
        assert_int_equal(json_array_size(json_at(root, "choices.0.message.tool_calls")),
                         parallel ? 2 : 1);
        assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.name"), "look");
        json_decref(root);
    }
}

/* A reply of exactly this text, as a grammar has it. */
static json_t *reply_of(const char *path, const char *text, bool stream, int status)
{
    static char body[20000], literal[6000];
    size_t length = 0;
    length += (size_t)snprintf(literal, sizeof literal, "root ::= \"");
    for (const char *c = text; *c != 0; c++) {
        assert_true(length + 4 < sizeof literal);
        length += (size_t)snprintf(literal + length, 4, *c == '\n' ? "\\n" : "%s%c",
                                   strchr("\"\\", *c) != NULL ? "\\" : "", *c);
    }
    snprintf(literal + length, 4, "\"");
    json_t *value = json_string(literal);
    char *quoted = json_dumps(value, JSON_ENCODE_ANY);
    bool ollama = strcmp(path, "/api/chat") == 0;
    snprintf(body, sizeof body, "{" SAY TOOLS "\"stream\":%s,%s%s%s", stream ? "true" : "false",
             ollama ? "\"model\":\"tiny\",\"options\":{\"num_predict\":1900,\"grammar\":"
                    : "\"max_tokens\":1900,\"grammar\":",
             quoted, ollama ? "}}" : "}");
    free(quoted);
    json_decref(value);
    if (!stream) {
        return ask_json(path, body, status);
    }
    assert_int_equal(ask("POST", path, body), status);
    return NULL;
}

/* The content that a stream has in pieces. */
static void join_content(char *joined, size_t room)
{
    joined[0] = 0;
    for (const char *at = ask_body; (at = strstr(at, "\"content\":\"")) != NULL; at++) {
        json_t *value =
            json_loads(at + strlen("\"content\":"), JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
        assert_true(strlen(joined) + json_string_length(value) < room);
        strcat(joined, json_string_value(value));
        json_decref(value);
    }
}

typedef struct call_case {
    const char *form; /* of the template, or NULL */
    const char *reply, *content;
    const char *arguments[2]; /* of the calls; NULL: there is no such call */
} call_case;

/* The reply whole and as a stream. */
static void check_calls(const call_case *row)
{
    char joined[2000], path[100];
    size_t count = 0;
    json_t *root = reply_of("/v1/chat/completions", row->reply, false, 200);
    const json_t *message = json_at(root, "choices.0.message");
    const char *content = json_string_value(json_object_get(message, "content"));
    const char *wanted = row->content != NULL ? row->content : "";
    if ((content == NULL) != (row->content == NULL) ||
        strcmp(content != NULL ? content : "", wanted) != 0) {
        fail_msg("%s: %s", row->reply, ask_body);
    }
    for (; count < 2 && row->arguments[count] != NULL; count++) {
        snprintf(path, sizeof path, "tool_calls.%zu.function.arguments", count);
        assert_string_equal(text_at(message, path), row->arguments[count]);
    }
    assert_int_equal(json_array_size(json_object_get(message, "tool_calls")), count);
    assert_string_equal(text_at(root, "choices.0.finish_reason"),
                        count > 0 ? "tool_calls" : "stop");
    json_decref(root);
    reply_of("/v1/chat/completions", row->reply, true, 200);
    join_content(joined, sizeof joined);
    assert_string_equal(joined, wanted);
    assert_true((strstr(ask_body, "\"tool_calls\":[{\"index\":0") != NULL) == (count > 0));
    reply_of("/api/chat", row->reply, true, 200);
    join_content(joined, sizeof joined);
    assert_string_equal(joined, wanted);
}

#define CALL(name, arguments)                                                                      \
    "<tool_call>\n{\"name\": \"" name "\", \"arguments\": " arguments "}\n</tool_call>"
#define DEEP10 "[[[[[[[[[["
#define SHALLOW10 "]]]]]]]]]]"
#define DEEP70 DEEP10 DEEP10 DEEP10 DEEP10 DEEP10 DEEP10 DEEP10
#define SHALLOW70 SHALLOW10 SHALLOW10 SHALLOW10 SHALLOW10 SHALLOW10 SHALLOW10 SHALLOW10

/* A call is read to its own end, and what the model wrote as arguments is what the client gets;
 * what is no call is content, whole or as a stream. */
static void test_calls_read_back(void **state)
{
    static const call_case cases[] = {
        {NULL, CALL("f", "{\"a\": \"</tool_call>\"}"), NULL, {"{\"a\": \"</tool_call>\"}"}},
        {NULL,
         CALL("f", "{\"a\": \"<tool_call> </think> \\\"\"}"),
         NULL,
         {"{\"a\": \"<tool_call> </think> \\\"\"}"}},
        {NULL, CALL("f", "{}") "\nSo be it.", "So be it.", {"{}"}},
        {NULL, "I look. " CALL("f", "{}") " So be it.", "I look.\nSo be it.", {"{}"}},
        {NULL, CALL("f", "{}") " and " CALL("g", "{\"b\": 1}"), "and", {"{}", "{\"b\": 1}"}},
        {NULL,
         CALL("f", "{}") "\n<tool_call>\n{\"name\": \"g\", \"arg",
         "<tool_call>\n{\"name\": \"g\", \"arg",
         {"{}"}},
        {NULL,
         "<tool_call>\n{\"name\"}\n</tool_call>" CALL("g", "{}"),
         "<tool_call>\n{\"name\"}\n</tool_call>",
         {"{}"}},
        {NULL, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}", NULL, {"{}"}},
        {NULL,
         "<think>\nShall I " CALL("f", "{}") "?\n</think>\n\nNo.",
         "<think>\nShall I " CALL("f", "{}") "?\n</think>\n\nNo.",
         {NULL}},
        {NULL,
         "<think>\nA <tool_call>?\n</think>\n\n" CALL("f", "{}"),
         "<think>\nA <tool_call>?\n</think>",
         {"{}"}},
        {NULL,
         "A <tool_call>, or " CALL("f", "{}") "?\n</think>\n\n" CALL("g", "{\"b\": 1}"),
         "A <tool_call>, or " CALL("f", "{}") "?\n</think>",
         {"{\"b\": 1}"}},
        {NULL, "<think>\n" CALL("f", "{}"), "<think>\n" CALL("f", "{}"), {NULL}},
        {NULL, "Write <tool_call> for a call.", "Write <tool_call> for a call.", {NULL}},
        {NULL,
         CALL("f", "{\"a\": 9223372036854775808, \"b\": -1e400}"),
         NULL,
         {"{\"a\": 9223372036854775808, \"b\": -1e400}"}},
        {NULL,
         CALL("f", "{\"a\": 0.1, \"b\": 1.0,\"c\":1E+2}"),
         NULL,
         {"{\"a\": 0.1, \"b\": 1.0,\"c\":1E+2}"}},
        {NULL, CALL("f", "{\"a\": \"\\u0000\\n\"}"), NULL, {"{\"a\": \"\\u0000\\n\"}"}},
        {NULL, CALL("f", "{\"a\": " DEEP70 SHALLOW70 "}"), NULL, {"{\"a\": " DEEP70 SHALLOW70 "}"}},
        {NULL, "<tool_call>{\"name\": \"f\"}</tool_call>", NULL, {"{}"}},
        {NULL, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", NULL, {"{}"}},
        {NULL,
         "<tool_call>{\"arguments\": {}}</tool_call>",
         "<tool_call>{\"arguments\": {}}</tool_call>",
         {NULL}},
        {NULL, CALL("f", "{\"a\": 01}"), CALL("f", "{\"a\": 01}"), {NULL}},
        {NULL, CALL("f", "{\"a\": [1, ]}"), CALL("f", "{\"a\": [1, ]}"), {NULL}},
        {NULL, CALL("f", "{\"a\": \"\\x\"}"), CALL("f", "{\"a\": \"\\x\"}"), {NULL}},
        {NULL, CALL("f", "{\"a\" 1}"), CALL("f", "{\"a\" 1}"), {NULL}},
        {NULL, CALL("f", "{\"a\": nul}"), CALL("f", "{\"a\": nul}"), {NULL}},
        {NULL, CALL("f", "[]"), CALL("f", "[]"), {NULL}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_calls(&cases[i]);
    }
    /* Ollama's arguments are a value, and a line of its own has none of the model's. */
    reply_of("/api/chat",
             CALL("f", "{\n \"a\": [ 9223372036854775808, 0.1 ],\n \"b\": \" \\\" \\\\\"\n}"), true,
             200);
    assert_has(ask_body, "\"arguments\":{\"a\":[9223372036854775808,0.1],\"b\":\" \\\" \\\\\"}");
}

/* The same in the forms without tags. */
static void test_calls_of_forms(void **state)
{
    static const call_case cases[] = {
        {"[TOOL_CALLS]",
         "So: [TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 0.1}}, {\"name\": \"g\"}] ok",
         "So:\nok",
         {"{\"a\": 0.1}", "{}"}},
        {"[TOOL_CALLS]",
         "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arg",
         "{\"name\": \"g\", \"arg",
         {"{}"}},
        {"[TOOL_CALLS] [ARGS]",
         "[TOOL_CALLS]f[ARGS]{\"a\": \"[TOOL_CALLS]\"}[TOOL_CALLS]g[CALL_ID]c[ARGS] {} ok",
         "ok",
         {"{\"a\": \"[TOOL_CALLS]\"}", "{}"}},
        {"[TOOL_CALLS] [ARGS]",
         "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{\"a\": ",
         "[TOOL_CALLS]g[ARGS]{\"a\":",
         {"{}"}},
        {"\"parameters\": ",
         "{\"name\": \"f\", \"parameters\": {\"a\": 1e2}}; {\"name\": \"g\", "
         "\"parameters\": {}}\nok",
         "ok",
         {"{\"a\": 1e2}", "{}"}},
        {"\"parameters\": ", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", NULL, {"{}"}},
        {"\"parameters\": ", "{\"name\": \"f\"}", "{\"name\": \"f\"}", {NULL}},
    };
    int port = serve_port;
    char text[600];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{%% if tools %%}{{ tools | tojson }} %s{%% endif %%}%s",
                 cases[i].form, "{% for m in messages %}{{ m.content }}{% endfor %}");
        shell_write("form.jinja", text);
        pid_t other = serve_begin("--template form.jinja -a tiny -c 2048");
        check_calls(&cases[i]);
        assert_int_equal(serve_end(other), 0);
    }
    serve_port = port;
}

/* What clients send back of earlier replies passes; what a message holds besides its text, and
 * names that nobody reads, are refused by name. */
static void test_members(void **state)
{
    static const char *const good[] = {
        "\"refusal\":null,\"audio\":null,\"function_call\":null,\"annotations\":[],\"parsed\":null",
        "\"images\":[],\"what\":null,\"refusal\":\"\",\"prefix\":false",
        "\"name\":\"n\",\"tool_call_id\":\"c\",\"tool_name\":\"t\",\"tool_calls\":[]",
        "\"reasoning_content\":\"r\",\"reasoning\":\"r\",\"thinking\":\"r\",\"cache_control\":{}",
    };
    static const struct {
        const char *member, *part;
    } bad[] = {
        {"\"images\":[\"iVBORw0KGgo=\"]", "messages[1]: images is not supported"},
        {"\"audio\":{\"id\":\"a\"}", "messages[1]: audio is not supported"},
        {"\"refusal\":\"no\"", "messages[1]: refusal is not supported"},
        {"\"annotations\":[{}]", "messages[1]: annotations is not supported"},
        {"\"function_call\":{\"name\":\"f\"}", "tool_calls has taken its place"},
        {"\"prefix\":true", "messages[1]: prefix is not supported"},
        {"\"Name\":\"n\"", "messages[1]: unknown member \\\"Name\\\""},
        {"\"mood\":\"n\"", "messages[1]: unknown member \\\"mood\\\""},
    };
    static const char *const paths[] = {"/v1/chat/completions", "/api/chat", "/apply-template"};
    static const char form[] =
        "{%s\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\","
        "\"content\":\"A\",%s},{\"role\":\"user\",\"content\":\"R\"}]}";
    char body[1000];
    int port = serve_port;
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        const char *head = k == 0 ? "\"max_tokens\":1,"
                           : k == 1
                               ? "\"model\":\"tiny\",\"options\":{\"num_predict\":1},\"stream\":"
                                 "false,"
                               : "";
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            snprintf(body, sizeof body, form, head, good[i]);
            json_decref(ask_json(paths[k], body, 200));
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            snprintf(body, sizeof body, form, head, bad[i].member);
            json_decref(ask_json(paths[k], body, 400));
            assert_has(ask_body, bad[i].part);
        }
    }
    /* A template that asks for a member gets it. */
    shell_write("mood.jinja", "{% for m in messages %}{{ m.content ~ m.mood }}{% endfor %}");
    pid_t other = serve_begin("--template mood.jinja");
    snprintf(body, sizeof body, form, "", "\"mood\":\"!\"");
    json_t *root = ask_json("/apply-template", body, 200);
    assert_string_equal(text_at(root, "prompt"), "QA!R");
    json_decref(root);
    snprintf(body, sizeof body, form, "", "\"moo\":\"!\"");
    json_decref(ask_json("/apply-template", body, 400));
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

/* Templates that add the arguments of a call to a text get them as one. */
static void test_arguments_as_text(void **state)
{
    int port = serve_port;
    (void)state;
    shell_write(
        "text.jinja",
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'call ' + c.function.name "
        "+ c.function.arguments }}{% endfor %}{% if m.role == 'bad' %}{{ "
        "raise_exception('no such role') }}{% endif %}{% endfor %}");
    pid_t other = serve_begin("--template text.jinja");
    json_t *root = ask_json("/apply-template", CALLED, 200);
    assert_string_equal(text_at(root, "prompt"), "call look{\"deep\": true}");
    json_decref(root);
    json_decref(
        ask_json("/apply-template", "{\"messages\":[{\"role\":\"bad\",\"content\":\"\"}]}", 400));
    assert_has(ask_body, "no such role");
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

/* Mistral's two forms, whose templates want ids of nine letters and digits; XML between tags is no
 * form that we know. */
static void test_tool_forms(void **state)
{
    static const struct {
        const char *form;
        bool known, nine;
    } cases[] = {
        {"<tool_call> \"arguments\": ", true, false},
        {"[TOOL_CALLS]", true, true},
        {"[TOOL_CALLS] [ARGS]", true, true},
        {"<tool_call><function=name><parameter=", false, false},
    };
    int port = serve_port;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[600], first[40];
        snprintf(text, sizeof text, "{%% if tools %%}{{ tools | tojson }} %s{%% endif %%}%s",
                 cases[i].form, "{% for m in messages %}{{ m.content }}{% endfor %}");
        shell_write("form.jinja", text);
        pid_t other = serve_begin("--template form.jinja -a tiny -c 2048");
        int status = cases[i].known ? 200 : 400;
        const char *body =
            "{" SAY TOOLS NO_SPACE "\"tool_choice\":{\"type\":\"function\",\"function\":"
            "{\"name\":\"look\"}},\"max_tokens\":200,\"seed\":1}";
        json_t *root = ask_json("/v1/chat/completions", body, status);
        if (cases[i].known) {
            json_t *again = ask_json("/v1/chat/completions", body, status);
            const char *path = "choices.0.message.tool_calls.0.id";
            if (strcmp(text_at(root, "choices.0.finish_reason"), "tool_calls") != 0) {
                fail_msg("%s", ask_body);
            }
            assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.name"),
                                "look");
            json_t *arguments = json_loads(
                text_at(root, "choices.0.message.tool_calls.0.function.arguments"), 0, NULL);
            assert_true(json_is_boolean(json_object_get(arguments, "deep")));
            json_decref(arguments);
            snprintf(first, sizeof first, "%s", text_at(root, path));
            assert_string_not_equal(first, text_at(again, path));
            size_t plain = strspn(first, "0123456789abcdefghijklmnopqrstuvwxyz");
            assert_true(cases[i].nine == (plain == 9 && first[9] == 0));
            json_decref(again);
            assert_int_equal(ask("POST", "/v1/chat/completions",
                                 "{" SAY TOOLS NO_SPACE
                                 "\"tool_choice\":{\"type\":\"function\",\"function\":"
                                 "{\"name\":\"look\"}},\"max_tokens\":200,\"stream\":true}"),
                             200);
            assert_has(ask_body, "\"tool_calls\":[{\"index\":0,\"id\":\"");
            assert_has(ask_body, "\"finish_reason\":\"tool_calls\"");
            assert_lacks(ask_body, "ARGS");
            assert_lacks(ask_body, "tool_call>");
        }
        json_decref(root);
        assert_int_equal(serve_end(other), 0);
    }
    serve_port = port;
}

/* ---- what clients of llama.cpp look at */

static void test_llama_replies(void **state)
{
    char body[300], text[2000];
    json_t *root = ask_json("/completion",
                            "{\"prompt\":\"The quick\",\"ignore_eos\":true,\"n_predict\":20}", 200);
    (void)state;
    /* The seed that was drawn gives the same text again. */
    long long seed = integer_at(root, "generation_settings.seed");
    assert_true(seed >= 0 && seed < 1LL << 53);
    snprintf(text, sizeof text, "%s", text_at(root, "content"));
    assert_true(number_at(root, "timings.prompt_ms") > 0);
    assert_true(number_at(root, "timings.predicted_per_second") > 0);
    assert_true(number_at(root, "timings.prompt_ms") < 60000);
    double rate = 1000 * (number_at(root, "timings.predicted_n") - 1) /
                  number_at(root, "timings.predicted_ms");
    assert_true(fabs(number_at(root, "timings.predicted_per_second") / rate - 1) < 1e-6);
    json_decref(root);
    snprintf(body, sizeof body,
             "{\"prompt\":\"The quick\",\"ignore_eos\":true,\"n_predict\":20,\"seed\":%lld}", seed);
    root = ask_json("/completion", body, 200);
    assert_string_equal(text_at(root, "content"), text);
    json_decref(root);
    /* llama.cpp's name of max_tokens is one of OpenAI's endpoints too. */
    root = ask_json("/v1/completions", "{\"prompt\":\"The\",\"n_predict\":3}", 200);
    assert_true(integer_at(root, "usage.completion_tokens") <= 3);
    json_decref(root);
    /* A prompt of texts and ids, and the form that llama.cpp has for one beside images. */
    root = ask_json("/completion",
                    "{\"prompt\":[\"The\",5,\" quick\"],\"ignore_eos\":true,\"n_predict\":1}", 200);
    assert_true(integer_at(root, "tokens_predicted") == 1);
    json_decref(root);
    root = ask_json("/completion",
                    "{\"prompt\":[{\"prompt_string\":\"The\"},[5,6]],\"n_predict\":1}", 200);
    assert_int_equal(json_array_size(root), 2);
    json_decref(root);
    /* A stream's end says whether there was a new line. */
    for (int line = 0; line < 2; line++) {
        snprintf(body, sizeof body,
                 "{\"prompt\":\"a\",\"n_predict\":4,\"stream\":true,\"grammar\":\"root ::= %s\"}",
                 line ? "\\\"b\\\\nb\\\"" : "\\\"bb\\\"");
        assert_int_equal(ask("POST", "/completion", body), 200);
        assert_has(ask_body, line ? "\"has_new_line\":true" : "\"has_new_line\":false");
    }
}

/* ---- docs/server.md */

/* Where the tests were started: the root of the sources. */
static char root_folder[4096];

static void read_source(const char *name, char text[SOURCE_MAX])
{
    char path[5000];
    snprintf(path, sizeof path, "%s/%s", root_folder, name);
    read_text(path, text, SOURCE_MAX);
    assert_true(text[0] != 0);
}

/* Sends what a line of curl says: `curl [-N] $U/path [-d 'body']`, NAME being the model's. */
static void try_line(const char *line)
{
    char path[200], body[1000] = "";
    const char *url = strstr(line, "$U/");
    const char *data = strstr(line, " -d '");
    assert_true(strncmp(line, "curl ", 5) == 0 && url != NULL);
    snprintf(path, sizeof path, "%.*s", (int)strcspn(url + 2, " "), url + 2);
    if (strstr(line, "curl -N ") != NULL) { /* it does not end */
        char request[300];
        int client = client_connect();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
        assert_true(client_put(client, request));
        assert_has(client_await(client, "text/event-stream"), "HTTP/1.1 200");
        close(client);
        return;
    }
    if (data != NULL) {
        const char *end = strrchr(data, '\'');
        const char *name = strstr(data, "NAME");
        data += strlen(" -d '");
        assert_true(end > data);
        if (name != NULL && name < end) {
            snprintf(body, sizeof body, "%.*stiny%.*s", (int)(name - data), data,
                     (int)(end - name - 4), name + 4);
        } else {
            snprintf(body, sizeof body, "%.*s", (int)(end - data), data);
        }
    }
    int status = ask(data != NULL ? "POST" : "GET", path, data != NULL ? body : NULL);
    if (status != 200) {
        fail_msg("%s: status %d: %.500s", line, status, ask_body);
    }
}

/* Every line of curl in the table of endpoints answers 200, every path in it is there, and every
 * path that the server has stands in the manual. */
static void test_manual(void **state)
{
    static char manual[SOURCE_MAX], source[SOURCE_MAX];
    int lines = 0, paths = 0;
    (void)state;
    read_source("docs/server.md", manual);
    const char *row = strstr(manual, "## Endpoints");
    assert_non_null(row);
    const char *end = strstr(row, "**Models.**");
    for (row = strstr(row, "\n| `"); row != NULL && row < end; row = strstr(row + 1, "\n| `")) {
        char line[2000];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(row + 1, "\n"), row + 1);
        char *curl = strstr(line, "`curl ");
        if (curl == NULL) {
            fail_msg("no line of curl: %s", line);
            return;
        }
        for (char *part = strtok(curl + 1, "`"); part != NULL; part = strtok(NULL, "`")) {
            if (strncmp(part, "curl ", 5) == 0) {
                try_line(part);
                lines++;
            }
        }
    }
    assert_true(lines >= 16);
    char folder[5000];
    snprintf(folder, sizeof folder, "%s/serve", root_folder);
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        char name[400];
        size_t length = strlen(entry->d_name);
        if (length < 3 || strcmp(entry->d_name + length - 2, ".c") != 0) {
            continue;
        }
        snprintf(name, sizeof name, "serve/%s", entry->d_name);
        read_source(name, source);
        for (const char *at = source; (at = strstr(at, ".path = \"")) != NULL; at++) {
            char path[100];
            at += strlen(".path = \"");
            snprintf(path, sizeof path, "`%.*s`", (int)strcspn(at, "\"*"), at);
            char spaced[104];
            snprintf(spaced, sizeof spaced, " %s", path + 1);
            path[strlen(path) - 1] = at[strcspn(at, "\"*")] == '*' ? 0 : '`';
            if (strstr(manual, path) == NULL && strstr(manual, spaced) == NULL) {
                fail_msg("%s: %s is not in docs/server.md", name, path);
            }
            paths++;
        }
    }
    closedir(directory);
    assert_true(paths >= 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embeddings),      cmocka_unit_test(test_norms),
        cmocka_unit_test(test_pooling),         cmocka_unit_test(test_embeddings_refused),
        cmocka_unit_test(test_builtin_tools),   cmocka_unit_test(test_tool_forms),
        cmocka_unit_test(test_calls_at_once),   cmocka_unit_test(test_arguments_as_text),
        cmocka_unit_test(test_llama_replies),   cmocka_unit_test(test_nested_parameters),
        cmocka_unit_test(test_calls_read_back), cmocka_unit_test(test_calls_of_forms),
        cmocka_unit_test(test_members),         cmocka_unit_test(test_manual),
    };
    if (getcwd(root_folder, sizeof root_folder) == NULL) {
        return 1;
    }
    return cmocka_run_group_tests_name("serve clients", tests, set_up, tear_down);
}
