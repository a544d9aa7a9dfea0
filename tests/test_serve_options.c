/* mixt serve and the options of a request that change nothing, cannot be met, or ask for much. */
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

static pid_t server;

static int set_up(void **state)
{
    return serve_set_up(state, "--template qwen3 -a tiny -c 256", &server);
}

static int tear_down(void **state)
{
    return serve_tear_down(state, server);
}

/* ---- large grammars */

enum { BODY_MAX = 4 << 20 };

/* Most memory that the server has had, in MiB. */
static long most_memory(void)
{
    char path[40], line[200];
    long kibibytes = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (kibibytes < 0 && fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "VmHWM: %ld", &kibibytes);
    }
    fclose(file);
    assert_true(kibibytes > 0);
    return kibibytes / 1024;
}

/* Room for a request of 128 choices and its beginning, up to the value of `constraint`; `used`:
 * bytes of it. */
static char *begin_large(const char *constraint, size_t *used)
{
    char *body = malloc(BODY_MAX);
    assert_non_null(body);
    *used =
        (size_t)sprintf(body, "{\"prompt\":\"a\",\"n\":128,\"max_tokens\":1,\"%s\":", constraint);
    return body;
}

/* Each choice has the text, and the server took no memory for each. */
static void check_large(char *body, const char *text)
{
    long before = most_memory();
    json_t *root = ask_json("/v1/completions", body, 200);
    assert_int_equal(json_array_size(json_at(root, "choices")), 128);
    assert_string_equal(text_at(root, "choices.127.text"), text);
    json_decref(root);
    assert_in_range(most_memory() - before, 0, 500);
    free(body);
}

/* One is made of it, whatever the choices are: 128 compiled ones took 1900 MiB. */
static void test_large_grammar(void **state)
{
    size_t used;
    char *body = begin_large("grammar", &used);
    (void)state;
    used += (size_t)sprintf(body + used, "\"root ::= \\\"");
    memset(body + used, 'a', 1900000);
    strcpy(body + used + 1900000, "\\\"\"}");
    check_large(body, "a");
    body = begin_large("json_schema", &used);
    used += (size_t)sprintf(body + used, "{\"enum\":[\"value 0\"");
    for (int i = 1; i < 30000; i++) {
        used += (size_t)sprintf(body + used, ",\"value %d\"", i);
    }
    strcpy(body + used, "]}}");
    check_large(body, "\"");
}

/* Where it stands, each choice has for itself, 8 MiB of it here, while it is drawn. */
static void test_wide_grammar(void **state)
{
    size_t used;
    char *body = begin_large("grammar", &used);
    (void)state;
    used += (size_t)sprintf(body + used, "\"root ::= \\\"x\\\"");
    for (int i = 0; i < 200000; i++) {
        used += (size_t)sprintf(body + used, " | a");
    }
    strcpy(body + used, "\\na ::= \\\"y\\\"\",\"logit_bias\":[[\"x\",50]]}");
    check_large(body, "x");
}

/* ---- options that are spelled twice, or do not exist */

#define SAY "\"messages\":[{\"role\":\"user\",\"content\":\"The quick\"}],"
#define ONE "\"max_tokens\":1,"

typedef struct asked {
    const char *path, *body;
    int status;
    const char *part; /* of the reply, or NULL */
} asked;

static void check_all(const asked *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int status = ask("POST", cases[i].path, cases[i].body);
        if (status != cases[i].status ||
            (cases[i].part != NULL && strstr(ask_body, cases[i].part) == NULL)) {
            fail_msg("%s %s: %d %s", cases[i].path, cases[i].body, status, ask_body);
        }
    }
}

static void test_two_spellings(void **state)
{
    static const asked cases[] = {
        {"/v1/chat/completions", "{" SAY "\"max_tokens\":5,\"max_completion_tokens\":6}", 400,
         "max_tokens and max_completion_tokens are one option"},
        {"/v1/chat/completions", "{" SAY "\"max_completion_tokens\":6,\"n_predict\":5}", 400,
         "max_completion_tokens and n_predict are one option"},
        {"/v1/chat/completions", "{" SAY ONE "\"max_completion_tokens\":1.0}", 200, NULL},
        {"/v1/chat/completions", "{" SAY ONE "\"max_completion_tokens\":null}", 200, NULL},
        {"/v1/chat/completions",
         "{" SAY ONE "\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{"
         "\"reasoning_effort\":\"high\"}}",
         400, "chat_template_kwargs.reasoning_effort and reasoning_effort are one option"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE "\"repeat_penalty\":1.1,\"repetition_penalty\":1.2}", 400,
         "repeat_penalty and repetition_penalty are one option"},
        {"/completion",
         "{\"prompt\":\"a\"," ONE "\"repeat_penalty\":1.5,\"repetition_penalty\":1.5}", 200, NULL},
        {"/completion", "{\"prompt\":\"a\",\"max_tokens\":1,\"n_predict\":2}", 400,
         "max_tokens and n_predict are one option"},
        {"/embedding", "{\"content\":\"a\",\"input\":\"b\"}", 400,
         "content and input are one option"},
        {"/embedding", "{\"content\":\"a\",\"input\":\"a\"}", 200, NULL},
        {"/api/generate",
         "{\"model\":\"tiny\",\"prompt\":\"a\",\"routing\":true,\"options\":{\"routing\":false}}",
         400, "options.routing and routing are one option"},
        {"/api/show", "{\"model\":\"tiny\",\"name\":\"other\"}", 400, "are one option"},
    };
    (void)state;
    check_all(cases, sizeof cases / sizeof *cases);
}

/* ---- biases that leave nothing */

/* A list of biases of every token but one (-1: of every one). */
static void write_biases(char *body, size_t size, const char *begins, int left, const char *ends)
{
    assert_int_equal(ask("GET", "/v1/models", NULL), 200);
    json_t *root = json_loads(ask_body, 0, NULL);
    long long vocab_size = integer_at(root, "data.0.meta.n_vocab");
    json_decref(root);
    size_t used = (size_t)snprintf(body, size, "{%s,\"logit_bias\":[", begins);
    for (int id = 0, written = 0; id < vocab_size; id++) {
        if (id != left) {
            used += (size_t)snprintf(body + used, size - used,
                                     written++ > 0 ? ",[%d,false]" : "[%d,false]", id);
        }
    }
    snprintf(body + used, size - used, "]%s}", ends);
}

static void test_no_token_is_left(void **state)
{
    static char body[100000];
    (void)state;
    write_biases(body, sizeof body, "\"prompt\":\"a\"", -1, "");
    json_decref(ask_json("/v1/completions", body, 400));
    assert_has(ask_body, "leaves no token to be drawn");
    write_biases(body, sizeof body, "\"prompt\":\"a\"", -1, ",\"stream\":true");
    json_decref(ask_json("/v1/completions", body, 400));
    /* Nothing is drawn. */
    write_biases(body, sizeof body,
                 "\"prompt\":\"a\",\"echo\":true,\"logprobs\":1,\"max_tokens\":0", -1, "");
    json_decref(ask_json("/v1/completions", body, 200));
    /* One is left, which the grammar allows once. */
    json_t *root = ask_json("/tokenize", "{\"content\":\"b\"}", 200);
    int left = (int)integer_at(root, "tokens.0");
    json_decref(root);
    write_biases(body, sizeof body, "\"prompt\":\"a\",\"max_tokens\":3", left, "");
    root = ask_json("/v1/completions", body, 200);
    assert_string_equal(text_at(root, "choices.0.text"), "bbb");
    json_decref(root);
    write_biases(body, sizeof body, "\"prompt\":\"a\"", left,
                 ",\"grammar\":\"root ::= \\\"c\\\"\"");
    json_decref(ask_json("/v1/completions", body, 400));
    assert_has(ask_body, "no token of the vocabulary can follow beside the logit biases");
    write_biases(body, sizeof body, "\"prompt\":\"a\"", left,
                 ",\"grammar\":\"root ::= \\\"bc\\\"\",\"stream\":true");
    assert_int_equal(ask("POST", "/v1/completions", body), 200);
    assert_has(ask_body, "\"text\":\"b\"");
    assert_has(ask_body, "no token of the vocabulary can follow");
}

/* ---- options that would do nothing */

static void test_no_effect(void **state)
{
    static const asked cases[] = {
        {"/v1/chat/completions", "{" SAY ONE "\"reasoning_effort\":\"zzz\"}", 400,
         "reasoning_effort must be none, minimal, low"},
        {"/v1/chat/completions", "{" SAY ONE "\"reasoning_effort\":\"low\"}", 400,
         "does not read it"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE "\"response_format\":{\"type\":\"text\",\"what\":1}}", 400,
         "response_format.what"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE "\"response_format\":{\"type\":\"json_object\",\"strict\":true}}",
         400, "response_format.strict"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE
         "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{},"
         "\"shape\":1}}}",
         400, "response_format.json_schema.shape"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE
         "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{},"
         "\"strict\":\"yes\"}}}",
         400, "strict must be true or false"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE
         "\"response_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"null\"},"
         "\"json_schema\":{\"schema\":{\"type\":\"boolean\"}}}}",
         400, "are one option"},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE
         "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{},"
         "\"strict\":true,\"name\":\"n\",\"description\":null}}}",
         200, NULL},
        {"/v1/completions",
         "{\"prompt\":\"a\"," ONE "\"stream\":true,\"stream_options\":{\"include_usage\":\"yes\"}}",
         400, "stream_options.include_usage must be true or false"},
        {"/v1/completions", "{\"prompt\":\"a\"," ONE "\"seed\":-5}", 400, "seed must lie in"},
    };
    (void)state;
    check_all(cases, sizeof cases / sizeof *cases);
}

/* Those of Ollama. */

#define TINY "\"model\":\"tiny\","
#define SHORT "\"options\":{\"num_predict\":1}"

static void test_ollama_options(void **state)
{
    static const asked cases[] = {
        {"/api/generate", "{" TINY "\"prompt\":\"a\",\"options\":{\"stream\":false}}", 400,
         "options.stream"},
        {"/api/generate", "{" TINY "\"prompt\":\"a\",\"options\":{\"seed\":-5}}", 400, "seed must"},
        {"/api/generate", "{" TINY "\"prompt\":\"a\",\"options\":{\"num_ctx\":257}}", 400,
         "num_ctx"},
        {"/api/generate",
         "{" TINY "\"prompt\":\"a\",\"options\":{\"num_ctx\":128,\"num_predict\":1}}", 200, NULL},
        {"/api/generate", "{" TINY "\"prompt\":\"a\",\"raw\":true,\"think\":true}", 400,
         "think: with raw"},
        {"/api/generate", "{" TINY "\"prompt\":\"a\",\"raw\":true,\"think\":false," SHORT "}", 200,
         NULL},
        {"/api/chat", "{" TINY SAY "\"think\":true," SHORT "}", 200, NULL},
        {"/api/chat", "{" TINY SAY "\"think\":\"high\"," SHORT "}", 400,
         "does not support thinking by low"},
        {"/api/chat", "{" TINY SAY "\"think\":\"much\"," SHORT "}", 400, "think must be"},
    };
    (void)state;
    check_all(cases, sizeof cases / sizeof *cases);
}

/* ---- what Ollama's clients send to load a model */

static void test_load(void **state)
{
    static const asked cases[] = {
        {"/api/generate", "{" TINY "\"keep_alive\":\"5m\"}", 200, "\"done_reason\":\"load\""},
        {"/api/generate", "{" TINY "\"prompt\":\"\"}", 200, "\"response\":\"\",\"done\":true"},
        {"/api/chat", "{" TINY "\"messages\":[]}", 200, "\"content\":\"\"},\"done\":true"},
        {"/api/chat", "{" TINY "\"messages\":{}}", 400, "messages must be"},
        {"/api/generate", "{\"model\":\"third\"}", 404, "third"},
        {"/api/generate", "{" TINY "\"options\":{\"what\":1}}", 400, "what"},
        {"/api/generate",
         "{" TINY "\"prompt\":\"a\",\"options\":{\"num_predict\":1,\"f16_kv\":true,"
         "\"penalize_newline\":true,\"logits_all\":false,\"num_gqa\":0,\"low_vram\":false}}",
         200, NULL},
        {"/api/generate", "{" TINY "\"options\":{\"f16_kv\":false}}", 400, "f16_kv: false is not"},
        {"/api/generate", "{" TINY "\"options\":{\"penalize_newline\":false}}", 400,
         "penalize_newline: false is not"},
        {"/api/generate", "{" TINY "\"options\":{\"rope_frequency_base\":5000}}", 400,
         "rope_frequency_base is not supported"},
        {"/api/embed",
         "{" TINY "\"input\":\"a\",\"truncate\":true,\"options\":{\"num_ctx\":64,\"temperature\":0,"
         "\"f16_kv\":true}}",
         200, NULL},
        {"/api/embeddings", "{" TINY "\"prompt\":\"a\",\"options\":{\"num_thread\":4}}", 200, NULL},
        {"/api/embed", "{" TINY "\"input\":\"a\",\"options\":{\"num_ctx\":9000}}", 400, "num_ctx"},
        {"/api/embed", "{" TINY "\"input\":\"a\",\"options\":{\"what\":1}}", 400, "what"},
        {"/api/embed", "{" TINY "\"input\":\"a\",\"options\":{\"expert_mask\":[[0,1]]}}", 400,
         "experts are not changed"},
    };
    static char body[4000] = "{" TINY "\"truncate\":true,\"input\":[5";
    (void)state;
    check_all(cases, sizeof cases / sizeof *cases);
    for (int i = 0; i < 300; i++) {
        strcat(body, ",5");
    }
    strcat(body, "]}");
    json_decref(ask_json("/api/embed", body, 400));
    assert_has(ask_body, "truncate: a text of more than 256 tokens is refused");
}

/* ---- choices, names */

static void test_choices_of_completion(void **state)
{
    static const asked cases[] = {
        {"/completion", "{\"prompt\":\"a\"," ONE "\"n\":2}", 200, "\"index\":1"},
        {"/completion", "{\"prompt\":\"a\"," ONE "\"n_cmpl\":3}", 200, "\"index\":2"},
        {"/completion", "{\"prompt\":\"a\"," ONE "\"n\":2,\"n_cmpl\":3}", 400, "are one option"},
    };
    (void)state;
    check_all(cases, sizeof cases / sizeof *cases);
}

/* A server that serves any name shows one all the same. */
static void test_any_name(void **state)
{
    static const struct {
        const char *options, *name;
    } cases[] = {{"-a *", "run"}, {"-a * -a own", "own"}};
    (void)state;
    assert_int_equal(serve_end(server), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        server = serve_begin(cases[i].options);
        assert_int_equal(ask("GET", "/v1/models", NULL), 200);
        json_t *root = json_loads(ask_body, 0, NULL);
        assert_int_equal(json_array_size(json_at(root, "data")), 1);
        assert_string_equal(text_at(root, "data.0.id"), cases[i].name);
        json_decref(root);
        assert_int_equal(ask("GET", "/api/tags", NULL), 200);
        root = json_loads(ask_body, 0, NULL);
        assert_string_equal(text_at(root, "models.0.name"), cases[i].name);
        json_decref(root);
        root = ask_json("/v1/completions", "{\"prompt\":\"a\"," ONE "\"model\":\"what\"}", 200);
        assert_string_equal(text_at(root, "model"), "what");
        json_decref(root);
        root = ask_json("/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200);
        assert_string_equal(text_at(root, "model"), cases[i].name);
        json_decref(root);
        if (i == 0) {
            assert_int_equal(serve_end(server), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_grammar), cmocka_unit_test(test_wide_grammar),
        cmocka_unit_test(test_two_spellings), cmocka_unit_test(test_no_token_is_left),
        cmocka_unit_test(test_no_effect),     cmocka_unit_test(test_ollama_options),
        cmocka_unit_test(test_load),          cmocka_unit_test(test_choices_of_completion),
        cmocka_unit_test(test_any_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
