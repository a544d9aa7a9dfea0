/* mixt serve's endpoints in the forms of OpenAI, llama.cpp and Ollama, on a tiny model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"
#include "serve_client.h"

static pid_t server;

/* A template with tools, in the form of Qwen. */
static const char template[] = "{% if tools %}tools: {{ tools | tojson }} <tool_call>"
                               "{\"name\": ..., \"arguments\": ...}\n{% endif %}"
                               "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
                               "{% if add_generation_prompt %}assistant: {% endif %}";

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
        shell_write("chat.jinja", template);
        server = serve_begin("--template chat.jinja -a tiny -a other --experts-max 4");
    }
    return status;
}

static int tear_down(void **state)
{
    return serve_tear_down(state, server);
}

/* Texts of a stream's events joined: of "text", "content" or "response" strings. */
static void join(const char *events, const char *key, char *text, size_t size)
{
    char mark[40];
    size_t used = 0;
    snprintf(mark, sizeof mark, "\"%s\":", key);
    for (const char *at = events; (at = strstr(at, mark)) != NULL;) {
        at += strlen(mark);
        json_t *value = json_loads(at, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
        if (json_is_string(value)) {
            used += (size_t)snprintf(text + used, size - used, "%s", json_string_value(value));
            assert_true(used < size);
        }
        json_decref(value);
    }
    text[used] = 0;
}

/* ---- what there is */

static void test_models(void **state)
{
    json_t *root = ask_json("/v1/models", NULL, 200);
    (void)state;
    assert_string_equal(text_at(root, "data.0.id"), "tiny");
    assert_string_equal(text_at(root, "data.1.id"), "other");
    assert_true(integer_at(root, "data.0.meta.experts") == 4);
    json_decref(root);
    json_decref(ask_json("/v1/models/other", NULL, 200));
    json_decref(ask_json("/v1/models/%74iny", NULL, 200));
    json_decref(ask_json("/v1/models/third", NULL, 404));
    json_decref(ask_json("/v1/models/%zz", NULL, 404));
    root = ask_json("/api/tags", NULL, 200);
    assert_string_equal(text_at(root, "models.0.name"), "tiny");
    json_decref(root);
    root = ask_json("/api/show", "{\"model\":\"tiny:latest\"}", 200);
    assert_string_equal(text_at(root, "details.family"), "mixtral");
    assert_has(ask_body, "\"mixtral.expert_count\":4,");
    json_decref(root);
    json_decref(ask_json("/api/show", "{\"model\":\"third\"}", 404));
    json_decref(ask_json("/api/version", NULL, 200));
    root = ask_json("/props", NULL, 200);
    assert_true(integer_at(root, "total_slots") == 8);
    assert_true(integer_at(root, "default_generation_settings.n_ctx") == 256);
    assert_string_equal(text_at(root, "chat_template"), template);
    json_decref(root);
    root = ask_json("/slots", NULL, 200);
    assert_int_equal(json_array_size(root), 8);
    json_decref(root);
    json_decref(ask_json("/health", NULL, 200));
}

static void test_tokens(void **state)
{
    char body[400];
    json_t *root = ask_json("/tokenize", "{\"content\":\"The quick \\u00e9\"}", 200);
    (void)state;
    char *ids = json_dumps(json_at(root, "tokens"), JSON_COMPACT);
    json_decref(root);
    shell("\"$MIXT\" tokenize -m run -p 'The quick \xC3\xA9' | tr -d '\\n' | tr ' ' ','");
    snprintf(body, sizeof body, "[%.300s]", shell_out);
    assert_string_equal(ids, body);
    snprintf(body, sizeof body, "{\"tokens\":%s}", ids);
    root = ask_json("/detokenize", body, 200);
    assert_string_equal(text_at(root, "content"), "The quick \xC3\xA9");
    json_decref(root);
    root = ask_json("/tokenize",
                    "{\"content\":\"\\u00e9\",\"with_pieces\":true,\"add_special\":true}", 200);
    assert_string_equal(text_at(root, "tokens.0.piece"), "<|endoftext|>");
    assert_true(integer_at(root, "tokens.1.piece.0") == 0xC3);
    json_decref(root);
    free(ids);
    json_decref(ask_json("/detokenize", "{\"tokens\":[-1]}", 400));
    json_decref(ask_json("/detokenize", "{\"tokens\":[99999]}", 400));
    json_decref(ask_json("/detokenize", "{\"tokens\":\"a\"}", 400));
}

/* ---- completions */

#define GREEDY "\"temperature\":0,"

static void test_completion(void **state)
{
    char stream[400], expected[600];
    json_t *root =
        ask_json("/v1/completions", "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":20}", 200);
    (void)state;
    const char *text = text_at(root, "choices.0.text");
    shell_do(
        "\"$MIXT\" run -m run -p 'The quick' --temp 0 -n 20 --hide-prompt -q --cache-type f16");
    snprintf(expected, sizeof expected, "%s\n", text);
    assert_string_equal(shell_out, expected);
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "length");
    assert_true(integer_at(root, "usage.completion_tokens") == 20);
    assert_true(integer_at(root, "usage.total_tokens") ==
                20 + integer_at(root, "usage.prompt_tokens"));
    assert_int_equal(ask("POST", "/v1/completions",
                         "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":20,\"stream\":true,"
                         "\"stream_options\":{\"include_usage\":true}}"),
                     200);
    assert_has(ask_head, "text/event-stream");
    assert_has(ask_body, "\"usage\":{");
    assert_has(ask_body, "data: [DONE]\n\n");
    join(ask_body, "text", stream, sizeof stream);
    assert_string_equal(stream, text);
    /* The other families say the same. */
    json_t *other =
        ask_json("/completion", "{\"prompt\":\"The quick\"," GREEDY "\"n_predict\":20}", 200);
    assert_string_equal(text_at(other, "content"), text);
    assert_string_equal(text_at(other, "stop_type"), "limit");
    json_decref(other);
    assert_int_equal(ask("POST", "/completion",
                         "{\"prompt\":\"The quick\"," GREEDY "\"n_predict\":20,\"stream\":true}"),
                     200);
    join(ask_body, "content", stream, sizeof stream);
    assert_string_equal(stream, text);
    other = ask_json("/api/generate",
                     "{\"model\":\"tiny\",\"prompt\":\"The quick\",\"raw\":true,\"stream\":false,"
                     "\"options\":{\"temperature\":0,\"num_predict\":20}}",
                     200);
    assert_string_equal(text_at(other, "response"), text);
    json_decref(other);
    json_decref(root);
}

/* Probabilities of a prompt that is echoed are those of the tokens when they were drawn. */
static void test_logprobs(void **state)
{
    char body[600], stream[600];
    json_t *drawn =
        ask_json("/v1/completions",
                 "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":6,\"logprobs\":3}", 200);
    (void)state;
    snprintf(stream, sizeof stream, "The quick%.300s", text_at(drawn, "choices.0.text"));
    snprintf(body, sizeof body,
             "{\"prompt\":\"%.400s\"," GREEDY "\"max_tokens\":0,\"logprobs\":3,\"echo\":true}",
             stream);
    json_t *echoed = ask_json("/v1/completions", body, 200);
    assert_string_equal(text_at(echoed, "choices.0.text"), stream);
    const json_t *before = json_at(drawn, "choices.0.logprobs.token_logprobs");
    const json_t *after = json_at(echoed, "choices.0.logprobs.token_logprobs");
    size_t prompt = json_array_size(after) - json_array_size(before);
    assert_int_equal(json_array_size(before), 6);
    assert_true(json_is_null(json_array_get(after, 0)));
    for (size_t i = 0; i < 6; i++) {
        double value = json_number_value(json_array_get(before, i));
        assert_true(value < 0);
        assert_true(value == json_number_value(json_array_get(after, prompt + i)));
        const json_t *tops = json_array_get(json_at(drawn, "choices.0.logprobs.top_logprobs"), i);
        const char *token =
            json_string_value(json_array_get(json_at(drawn, "choices.0.logprobs.tokens"), i));
        assert_int_equal(json_object_size(tops), 3);
        /* Greedy: the token is the best of them. */
        assert_true(json_number_value(json_object_get(tops, token)) == value);
        const char *name;
        json_t *top;
        json_object_foreach((json_t *)(uintptr_t)tops, name, top)
        {
            assert_true(json_number_value(top) <= value);
        }
    }
    json_decref(echoed);
    /* Chat and llama.cpp's form have the same numbers. */
    json_t *other = ask_json(
        "/completion", "{\"prompt\":\"The quick\"," GREEDY "\"n_predict\":6,\"n_probs\":3}", 200);
    assert_true(number_at(other, "completion_probabilities.2.logprob") ==
                json_number_value(json_array_get(before, 2)));
    assert_true(number_at(other, "completion_probabilities.2.top_logprobs.0.logprob") ==
                json_number_value(json_array_get(before, 2)));
    json_decref(other);
    /* A prompt in pieces: the whole context, by ids, in chunks of a forward. */
    other = ask_json("/v1/completions",
                     "{\"prompt\":[[283,292,286],[283]],\"max_tokens\":0,\"logprobs\":0,"
                     "\"echo\":true}",
                     200);
    assert_int_equal(json_array_size(json_at(other, "choices.0.logprobs.token_logprobs")), 3);
    assert_int_equal(json_array_size(json_at(other, "choices.1.logprobs.token_logprobs")), 1);
    json_decref(other);
    json_decref(drawn);
}

static void test_choices(void **state)
{
    json_t *root = ask_json("/v1/completions",
                            "{\"prompt\":[\"The\",\"The quick\"],\"n\":3,\"max_tokens\":8,"
                            "\"seed\":5}",
                            200);
    (void)state;
    assert_int_equal(json_array_size(json_at(root, "choices")), 6);
    for (int i = 0; i < 6; i++) {
        char path[40];
        snprintf(path, sizeof path, "choices.%d.index", i);
        assert_true(integer_at(root, path) == i);
    }
    json_t *again = ask_json("/v1/completions",
                             "{\"prompt\":[\"The\",\"The quick\"],\"n\":3,\"max_tokens\":8,"
                             "\"seed\":5}",
                             200);
    assert_true(json_equal(json_at(root, "choices"), json_at(again, "choices")));
    json_decref(again);
    /* One by one, with the seeds that they had together. */
    again = ask_json("/v1/completions", "{\"prompt\":\"The\",\"max_tokens\":8,\"seed\":7}", 200);
    assert_string_equal(text_at(again, "choices.0.text"), text_at(root, "choices.2.text"));
    json_decref(again);
    json_decref(root);
    root = ask_json("/v1/completions",
                    "{\"prompt\":\"The\",\"best_of\":4,\"n\":2,\"max_tokens\":8,\"logprobs\":0,"
                    "\"seed\":5}",
                    200);
    double sums[2] = {0};
    for (int i = 0; i < 2; i++) {
        char path[60];
        size_t at;
        json_t *value;
        snprintf(path, sizeof path, "choices.%d.logprobs.token_logprobs", i);
        const json_t *values = json_at(root, path);
        json_array_foreach((json_t *)(uintptr_t)values, at, value)
        {
            sums[i] += json_number_value(value) / (double)json_array_size(values);
        }
    }
    assert_true(sums[0] >= sums[1]);
    json_decref(root);
}

static void test_stops(void **state)
{
    char stream[400];
    json_t *root = ask_json(
        "/v1/completions",
        "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":30,\"stop\":[\"zzz\",\"x j\"]}", 200);
    (void)state;
    assert_string_equal(text_at(root, "choices.0.text"), " brown fo");
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "stop");
    json_decref(root);
    assert_int_equal(ask("POST", "/v1/completions",
                         "{\"prompt\":\"The quick\"," GREEDY
                         "\"max_tokens\":30,\"stop\":\"x j\",\"stream\":true}"),
                     200);
    join(ask_body, "text", stream, sizeof stream);
    assert_string_equal(stream, " brown fo");
    root =
        ask_json("/completion",
                 "{\"prompt\":\"The quick\"," GREEDY "\"n_predict\":30,\"stop\":[\"x j\"]}", 200);
    assert_string_equal(text_at(root, "stopping_word"), "x j");
    assert_string_equal(text_at(root, "stop_type"), "word");
    json_decref(root);
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"stop\":[\"\"]}", 400));
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"stop\":5}", 400));
}

/* Bytes of a character that is drawn in pieces never appear by themselves. */
static void test_characters(void **state)
{
    (void)state;
    assert_int_equal(ask("POST", "/v1/completions",
                         "{\"prompt\":\"The\",\"max_tokens\":6,\"stream\":true,"
                         "\"grammar\":\"root ::= \\\"\\u00e9\\u20ac\\\"\"}"),
                     200);
    char stream[400];
    join(ask_body, "text", stream, sizeof stream);
    assert_string_equal(stream, "\xC3\xA9\xE2\x82\xAC");
    assert_lacks(ask_body, "\xEF\xBF\xBD");
}

static void test_constraints(void **state)
{
    json_t *root = ask_json("/v1/completions",
                            "{\"prompt\":\"The\",\"max_tokens\":9,"
                            "\"grammar\":\"root ::= \\\"cat\\\" | \\\"dog\\\"\"}",
                            200);
    (void)state;
    const char *text = text_at(root, "choices.0.text");
    assert_true(strcmp(text, "cat") == 0 || strcmp(text, "dog") == 0);
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "stop");
    json_decref(root);
    root = ask_json("/v1/completions",
                    "{\"prompt\":\"The\",\"max_tokens\":4,\"logit_bias\":{\"65\":100}}", 200);
    assert_string_equal(text_at(root, "choices.0.text"), "bbbb");
    json_decref(root);
    root = ask_json("/completion",
                    "{\"prompt\":\"The\",\"n_predict\":4," GREEDY
                    "\"logit_bias\":[[\"b\",50],[\" quick\",false]]}",
                    200);
    assert_string_equal(text_at(root, "content"), "bbbb");
    json_decref(root);
    static const char *const bad[] = {
        "{\"prompt\":\"The\",\"grammar\":\"root = a\"}",
        "{\"prompt\":\"The\",\"logit_bias\":{\"999999\":1}}",
        "{\"prompt\":\"The\",\"logit_bias\":{\"5\":\"a\"}}",
        "{\"prompt\":\"The\",\"response_format\":{\"type\":\"xml\"}}",
        "{\"prompt\":\"The\",\"response_format\":{\"type\":\"json_schema\"}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_decref(ask_json("/v1/completions", bad[i], 400));
    }
}

/* ---- routing */

static const json_t *layers_of(const json_t *token)
{
    return json_object_get(token, "layers");
}

/* Each token's experts and margins are the same beside others, with probabilities of the prompt or
 * without, and a layer's own number of experts is its alone. */
static void test_routing_of_layers(void **state)
{
    json_t *root =
        ask_json("/v1/completions",
                 "{\"prompt\":\"The quick brown\"," GREEDY "\"max_tokens\":5,\"routing\":true,"
                 "\"experts_per_token\":[[-1,1],[1,3]]}",
                 200);
    json_t *echo = ask_json("/v1/completions",
                            "{\"prompt\":\"The quick brown\"," GREEDY
                            "\"max_tokens\":5,\"routing\":true,\"n\":3,\"echo\":true,"
                            "\"logprobs\":1,\"experts_per_token\":[[-1,1],[1,3]]}",
                            200);
    size_t index;
    json_t *token;
    (void)state;
    const json_t *tokens = json_at(root, "choices.0.routing.tokens");
    for (int choice = 0; choice < 3; choice++) {
        char path[64];
        snprintf(path, sizeof path, "choices.%d.routing.tokens", choice);
        assert_true(json_equal(tokens, json_at(echo, path)));
    }
    json_array_foreach((json_t *)(uintptr_t)tokens, index, token)
    {
        static const size_t wanted[3] = {1, 3, 1};
        for (size_t layer = 0; layer < 3; layer++) {
            assert_int_equal(json_array_size(json_array_get(layers_of(token), layer)),
                             wanted[layer]);
        }
    }
    json_decref(root);
    json_decref(echo);
    root = ask_json("/props", NULL, 200);
    assert_string_equal(json_string_value(json_at(root, "moe.router_select")), "top-k");
    assert_int_equal(strlen(json_string_value(json_at(root, "moe.tokenizer_hash"))), 64);
    json_decref(root);
}

static void test_routing(void **state)
{
    json_t *root =
        ask_json("/v1/completions",
                 "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":5,\"routing\":true}", 200);
    size_t index;
    json_t *token;
    (void)state;
    const json_t *tokens = json_at(root, "choices.0.routing.tokens");
    assert_int_equal(json_array_size(tokens), integer_at(root, "usage.total_tokens"));
    json_array_foreach((json_t *)(uintptr_t)tokens, index, token)
    {
        assert_int_equal(json_integer_value(json_object_get(token, "position")), index);
        assert_int_equal(json_array_size(layers_of(token)), 3);
        for (size_t layer = 0; layer < 3; layer++) {
            const json_t *chosen = json_array_get(layers_of(token), layer);
            assert_int_equal(json_array_size(chosen), 2);
            double sum = 0;
            for (size_t i = 0; i < 2; i++) {
                sum += json_number_value(json_array_get(json_array_get(chosen, i), 1));
            }
            assert_true(fabs(sum - 1) < 1e-5);
        }
        const json_t *margins = json_object_get(token, "margins");
        assert_int_equal(json_array_size(margins), 3);
        for (size_t layer = 0; layer < 3; layer++) {
            assert_true(json_is_real(json_array_get(margins, layer)));
            assert_true(json_real_value(json_array_get(margins, layer)) >= 0);
        }
    }
    json_decref(root);
    root = ask_json("/v1/completions",
                    "{\"prompt\":\"The quick\"," GREEDY "\"max_tokens\":5,\"routing\":true,"
                    "\"expert_mask\":[[0,0],[-1,1]],\"expert_force\":[[2,3]]}",
                    200);
    tokens = json_at(root, "choices.0.routing.tokens");
    json_array_foreach((json_t *)(uintptr_t)tokens, index, token)
    {
        bool forced = false;
        for (size_t layer = 0; layer < 3; layer++) {
            const json_t *chosen = json_array_get(layers_of(token), layer);
            for (size_t i = 0; i < json_array_size(chosen); i++) {
                json_int_t id = json_integer_value(json_array_get(json_array_get(chosen, i), 0));
                assert_true(id != 1 && (layer != 0 || id != 0));
                forced = forced || (layer == 2 && id == 3);
            }
        }
        assert_true(forced);
    }
    json_decref(root);
    for (int k = 1; k <= 4; k += 3) {
        char body[200];
        snprintf(body, sizeof body,
                 "{\"prompt\":\"The\"," GREEDY "\"max_tokens\":2,\"ignore_eos\":true,"
                 "\"routing\":true,\"experts_per_token\":%d}",
                 k);
        root = ask_json("/v1/completions", body, 200);
        assert_int_equal(json_array_size(json_at(root, "choices.0.routing.tokens.2.layers.1")), k);
        /* of 4 experts, none is left to compare with */
        const json_t *margin = json_at(root, "choices.0.routing.tokens.2.margins.1");
        assert_true(k == 4 ? json_is_null(margin) : json_is_real(margin));
        json_decref(root);
    }
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"experts_per_token\":9}", 400));
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"expert_mask\":[[0,4]]}", 400));
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"expert_mask\":[[3,0]]}", 400));
    json_decref(ask_json("/v1/completions", "{\"prompt\":\"a\",\"expert_mask\":[0]}", 400));
    /* Too few are left to choose from: the engine's word. */
    json_decref(
        ask_json("/v1/completions", "{\"prompt\":\"a\",\"expert_mask\":[[0,0],[0,1],[0,2]]}", 400));
}

/* ---- chat */

#define SAY "\"messages\":[{\"role\":\"user\",\"content\":\"The quick\"}],"
/* A model that knows no JSON writes spaces for ever where it may. */
#define NO_SPACE "\"logit_bias\":[[\" \",-50],[\"\\n\",-50],[\"\\t\",-50],[\"\\r\",-50]],"
#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":"  \
    "\"object\",\"properties\":{},\"additionalProperties\":false}}}],"

static void test_chat(void **state)
{
    char stream[600];
    json_t *root = ask_json("/apply-template",
                            "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
                            "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
                            "\"text\",\"text\":\"b\"}]}]}",
                            200);
    (void)state;
    assert_string_equal(text_at(root, "prompt"), "system: S\nuser: a\nb\nassistant: ");
    json_decref(root);
    root = ask_json("/v1/chat/completions",
                    "{\"model\":\"tiny\"," SAY GREEDY "\"max_tokens\":12,\"logprobs\":true,"
                    "\"top_logprobs\":2,\"n\":2}",
                    200);
    const char *text = text_at(root, "choices.1.message.content");
    assert_string_equal(text, text_at(root, "choices.0.message.content"));
    assert_string_equal(text_at(root, "choices.0.message.role"), "assistant");
    assert_int_equal(json_array_size(json_at(root, "choices.0.logprobs.content")), 12);
    assert_true(number_at(root, "choices.0.logprobs.content.3.top_logprobs.0.logprob") ==
                number_at(root, "choices.0.logprobs.content.3.logprob"));
    assert_int_equal(ask("POST", "/v1/chat/completions",
                         "{" SAY GREEDY "\"max_completion_tokens\":12,\"stream\":true}"),
                     200);
    join(ask_body, "content", stream, sizeof stream);
    assert_string_equal(stream, text);
    assert_has(ask_body, "\"object\":\"chat.completion.chunk\"");
    assert_has(ask_body, "data: [DONE]\n\n");
    assert_int_equal(ask("POST", "/api/chat",
                         "{\"model\":\"tiny\"," SAY
                         "\"options\":{\"temperature\":0,\"num_predict\":12}}"),
                     200);
    assert_has(ask_head, "application/x-ndjson");
    assert_has(ask_body, "\"done_reason\":\"length\"");
    join(ask_body, "content", stream, sizeof stream);
    assert_string_equal(stream, text);
    json_decref(root);
}

static void test_tools(void **state)
{
    json_t *root =
        ask_json("/v1/chat/completions",
                 "{" SAY TOOLS NO_SPACE "\"tool_choice\":\"required\",\"max_tokens\":100}", 200);
    (void)state;
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.name"), "look");
    assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.arguments"), "{}");
    assert_true(json_is_null(json_at(root, "choices.0.message.content")));
    json_decref(root);
    assert_int_equal(ask("POST", "/v1/chat/completions",
                         "{" SAY TOOLS NO_SPACE
                         "\"tool_choice\":{\"type\":\"function\",\"function\":"
                         "{\"name\":\"look\"}},\"max_tokens\":100,\"stream\":true}"),
                     200);
    assert_has(ask_body, "\"tool_calls\":[{\"index\":0,\"id\":\"call_");
    assert_has(ask_body, "\"finish_reason\":\"tool_calls\"");
    assert_lacks(ask_body, "<tool_call>");
    json_decref(ask_json("/v1/chat/completions",
                         "{" SAY TOOLS NO_SPACE
                         "\"tool_choice\":{\"type\":\"function\",\"function\":"
                         "{\"name\":\"other\"}}}",
                         400));
    json_decref(ask_json("/v1/chat/completions", "{" SAY "\"tool_choice\":\"required\"}", 400));
}

/* The other forms of calls, each by a template that has it. */
static void test_tool_forms(void **state)
{
    static const char *const forms[] = {
        "[TOOL_CALLS]",
        "<|python_tag|>{\"name\":, \"parameters\":}",
    };
    int port = serve_port;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char text[600];
        snprintf(text, sizeof text, "{%% if tools %%}{{ tools | tojson }} %s{%% endif %%}%s",
                 forms[i], "{% for m in messages %}{{ m.content }}{% endfor %}");
        shell_write("other.jinja", text);
        pid_t other = serve_begin("--template other.jinja");
        json_t *root = ask_json(
            "/v1/chat/completions",
            "{" SAY TOOLS NO_SPACE "\"tool_choice\":\"required\",\"max_tokens\":100}", 200);
        assert_string_equal(text_at(root, "choices.0.finish_reason"), "tool_calls");
        assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.name"), "look");
        json_decref(root);
        assert_int_equal(serve_end(other), 0);
    }
    /* A template without tools refuses them, one without a form cannot require any. */
    shell_write("other.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    pid_t other = serve_begin("--template other.jinja --no-metrics --no-slots --no-props");
    json_decref(ask_json("/v1/chat/completions", "{" SAY TOOLS "\"max_tokens\":1}", 400));
    assert_has(ask_body, "knows none");
    json_decref(ask_json("/v1/chat/completions",
                         "{" SAY TOOLS "\"tool_choice\":\"none\",\"max_tokens\":1}", 400));
    json_decref(ask_json("/metrics", NULL, 501));
    json_decref(ask_json("/slots", NULL, 501));
    json_decref(ask_json("/props", NULL, 501));
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

static void test_json_text(void **state)
{
    static const char *const formats[] = {
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":"
        "{\"type\":\"object\",\"properties\":{\"x\":{\"enum\":[1,2]}},\"required\":[\"x\"],"
        "\"additionalProperties\":false}}},",
        "\"json_schema\":{\"type\":\"object\",\"properties\":{\"x\":{\"enum\":[1,2]}},"
        "\"required\":[\"x\"],\"additionalProperties\":false},",
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char body[600];
        snprintf(body, sizeof body, "{" SAY NO_SPACE "%s\"max_tokens\":60}", formats[i]);
        json_t *root = ask_json("/v1/chat/completions", body, 200);
        json_t *said = json_loads(text_at(root, "choices.0.message.content"), 0, NULL);
        assert_non_null(said);
        assert_true(integer_at(said, "x") == 1 || integer_at(said, "x") == 2);
        json_decref(said);
        json_decref(root);
    }
    json_decref(ask_json("/v1/chat/completions",
                         "{" SAY "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                         "{\"schema\":{\"type\":\"nothing\"}}}}",
                         400));
}

/* ---- what is refused, by name */

static void test_refused(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *part;
    } bad[] = {
        {"/v1/completions", "{}", 400, "prompt is needed"},
        {"/v1/completions", "{\"prompt\":[]}", 400, "prompt is needed"},
        {"/v1/completions", "{\"prompt\":[-1]}", 400, "token -1"},
        {"/v1/completions", "{\"prompt\":[300]}", 400, "token 300"},
        {"/v1/completions", "{\"prompt\":[4294967297]}", 400, "token 4294967297"},
        {"/v1/completions", "{\"prompt\":[1,\"a\",[2]]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":\"a\",\"model\":\"b\"}", 404, "model_not_found"},
        {"/v1/completions", "{\"prompt\":\"a\",\"n\":0}", 400, "n must lie in 1 to 128"},
        {"/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"n\":100}", 400, "more than 128"},
        {"/v1/completions", "{\"prompt\":\"a\",\"n\":2,\"best_of\":1}", 400, "best_of"},
        {"/v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "suffix is not supported"},
        {"/v1/completions", "{\"prompt\":\"a\",\"top_p\":1.5}", 400, "top_p must lie in 0 to 1"},
        {"/v1/completions", "{\"prompt\":\"a\",\"temperature\":\"b\"}", 400, "temperature must be"},
        {"/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1.5}", 400, "must be an integer"},
        {"/v1/completions", "{\"prompt\":\"a\",\"logprobs\":101}", 400, "logprobs must lie"},
        {"/v1/completions", "{\"prompt\":\"a\",\"stream_options\":{}}", 400, "stream_options"},
        {"/v1/completions", "{\"prompt\":\"a\",\"lora\":[1]}", 400, "lora is not supported"},
        {"/v1/completions", "{\"prompt\":\"a\",\"samplers\":[\"nothing\"]}", 400, "nothing"},
        {"/v1/chat/completions", "{}", 400, "messages must be"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\"}]}", 400, "content is needed"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400,
         "type text"},
        {"/v1/chat/completions", "{" SAY "\"functions\":[{}]}", 400, "functions is not supported"},
        {"/v1/chat/completions", "{" SAY "\"top_logprobs\":2}", 400, "logprobs"},
        {"/v1/chat/completions", "{" SAY "\"tools\":[{}]}", 400, "tools must be"},
        {"/completion", "{\"prompt\":\"a\",\"post_sampling_probs\":true}", 400, "not supported"},
        {"/completion", "{\"prompt\":\"a\",\"id_slot\":3,\"what\":1}", 400, "\\\"what\\\""},
        {"/api/generate", "{\"prompt\":\"a\"}", 400, "model is needed"},
        {"/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\",\"options\":{\"what\":1}}", 400,
         "what"},
        {"/api/chat", "{\"model\":\"tiny\"," SAY "\"options\":{\"num_ctx\":9000}}", 400, "num_ctx"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_decref(ask_json(bad[i].path, bad[i].body, bad[i].status));
        assert_has(ask_body, bad[i].part);
    }
    /* Harmless ones pass. */
    json_decref(ask_json("/v1/completions",
                         "{\"prompt\":\"a\",\"max_tokens\":1,\"user\":\"me\",\"metadata\":{\"a\":"
                         "\"b\"},\"store\":true,\"top_k\":null,\"lora\":[]}",
                         200));
}

static void test_context(void **state)
{
    char *body = malloc(100000);
    (void)state;
    assert_non_null(body);
    strcpy(body, "{\"prompt\":\"");
    for (int i = 0; i < 300; i++) {
        strcat(body, " fox");
    }
    strcat(body, "\"}");
    json_decref(ask_json("/v1/completions", body, 400));
    assert_has(ask_body, "context_length_exceeded");
    assert_has(ask_body, "maximum context length is 256");
    /* A text that ends where the context does. */
    json_t *root = ask_json("/v1/completions",
                            "{\"prompt\":\"The\",\"max_tokens\":100000,\"ignore_eos\":true}", 200);
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "length");
    assert_true(integer_at(root, "usage.total_tokens") == 256);
    json_decref(root);
    free(body);
}

/* Nothing is held once all were answered. */
static void test_nothing_left(void **state)
{
    (void)state;
    await_metric("mixt_orders", 0);
    await_metric("mixt_cache_pages_used", 0);
    assert_true(metric("mixt_requests_failed_total") >= 0);
    assert_true(metric("mixt_generated_tokens_total") > 100);
    assert_true(metric("llamacpp:tokens_predicted_total") == metric("mixt_generated_tokens_total"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),       cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_completion),   cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_choices),      cmocka_unit_test(test_stops),
        cmocka_unit_test(test_characters),   cmocka_unit_test(test_constraints),
        cmocka_unit_test(test_routing),      cmocka_unit_test(test_routing_of_layers),
        cmocka_unit_test(test_chat),         cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_forms),   cmocka_unit_test(test_json_text),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_context),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
