/* What a client of mixt serve sends. The first byte chooses an endpoint, whose body the rest is:
 * refused in one line, or ordered and given up; or the rest is bytes of a connection, whose framing
 * is the same whole and split anywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../serve/intake.h"
#include "../serve/json.h"
#include "../serve/server.h"
#include "shared/mutate.h"

enum { ROUTES_MAX = 64, FRAMING = 255 };

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    if (size < 2 || seed % 32 == 0) {
        data[0] = (uint8_t)(seed >> 8);
        return size > 0 ? size : 1;
    }
    return 1 + (data[0] == FRAMING ? LLVMFuzzerMutate(data + 1, size - 1, max_size - 1)
                                   : fuzz_mutate_json(data + 1, size - 1, max_size - 1, seed));
}

static size_t find_routes(const api_route *routes[ROUTES_MAX])
{
    const api_route *const families[] = {openai_routes, llama_routes, ollama_routes};
    size_t count = 0;
    for (size_t i = 0; i < 3; i++) {
        for (const api_route *route = families[i]; route->method != NULL; route++) {
            if (route->body && count < ROUTES_MAX) {
                routes[count++] = route;
            }
        }
    }
    return count;
}

/* A server with a model, that listens nowhere. */
static serve_server *get_server(void)
{
    static const char *const names[] = {"m"};
    static serve_options options = {.aliases = names,
                                    .alias_count = 1,
                                    .model_path = "m",
                                    .chat_template = "{% for m in messages %}{{ m.role }}: "
                                                     "{{ m.content }}{% endfor %}{{ tools }}",
                                    .body_bytes = 1 << 20,
                                    .queue = 64,
                                    .choices = 16,
                                    .buffer_bytes = 1 << 16,
                                    .slots = true,
                                    .props = true,
                                    .quiet = true};
    static serve_server *server;
    mixt_error error = MIXT_ERROR_INIT;
    if (server == NULL) {
        mixt_model_options shape = mixt_model_options_default();
        mixt_model *model = NULL;
        mixt_tokenizer *tokenizer = NULL;
        FUZZ_REQUIRE(mixt_tokenizer_bytes(&tokenizer, &error) == MIXT_OK, error.message);
        shape.vocab_size = mixt_tokenizer_vocab_size(tokenizer);
        shape.layers = 1;
        shape.hidden_size = 8;
        shape.heads = shape.kv_heads = 1;
        shape.head_dim = 8;
        shape.ffn_size = 8;
        shape.experts = 4;
        shape.context_length = 64;
        FUZZ_REQUIRE(mixt_model_create(&shape, 1, &model, &error) == MIXT_OK, error.message);
        server = calloc(1, sizeof *server);
        FUZZ_REQUIRE(server != NULL, "no memory");
        options.engine = mixt_engine_options_default();
        options.engine.sequences = 4;
        server->options = &options;
        metrics_create(&server->metrics);
        server->live = live_create(1 << 16, 1);
        FUZZ_REQUIRE(serve_ready(server, fuzz_context(), model, tokenizer, &error) == MIXT_OK,
                     error.message);
    }
    return server;
}

static void check_refused(const api_problem *problem)
{
    FUZZ_REQUIRE(problem->status >= 400 && problem->status <= 503 && problem->status != 500,
                 problem->message);
    FUZZ_REQUIRE(problem->message[0] != 0, "nothing is said");
    for (const char *c = problem->message; *c != 0; c++) {
        FUZZ_REQUIRE((unsigned char)*c >= 0x20 && *c != 0x7F, problem->message);
    }
}

static void ask(const api_route *route, const char *body, size_t length)
{
    char problem[300];
    http_request request = {.method = route->method,
                            .path = route->path,
                            .query = "",
                            .body = body,
                            .body_length = length};
    http_reply reply = {.status = 200};
    api_call call = {.server = get_server(), .request = &request, .route = route};
    bool no_memory;
    call.body = serve_json_parse(body, length, problem, &no_memory);
    if (call.body == NULL) {
        api_fail(&call.problem, 400, "invalid_json", NULL, "%s", problem);
    } else {
        http_progress progress = route->answer(&call, &reply);
        FUZZ_REQUIRE((progress == HTTP_WAITS) == (call.generation != NULL), "it waits for nothing");
    }
    if (call.problem.status != 0) {
        check_refused(&call.problem);
        FUZZ_REQUIRE(call.generation == NULL, "refused and ordered");
    }
    generation_free(call.generation);
    if (call.reserved) {
        generator_give_back(call.server->generator);
    }
    if (call.settings_free != NULL) {
        call.settings_free(call.settings);
    }
    json_decref(call.body);
    text_free(&call.out);
    text_free(&reply.body);
}

static void split(const char *bytes, size_t length)
{
    framing_state whole = {0};
    bool good = framing_take(&whole, bytes, length);
    FUZZ_REQUIRE(good == (whole.problem == NULL), "a problem without a word");
    framing_state parts = {0}, passed = {0};
    intake_state intake = {0};
    fuzz_dice dice = fuzz_dice_of(length);
    for (size_t at = 0; at < length;) {
        char given[16];
        size_t count = 1 + fuzz_below(&dice, length - at < 8 ? length - at : 8);
        framing_take(&parts, bytes + at, count);
        FUZZ_REQUIRE(intake_take(&intake, bytes + at, count), "no memory");
        if (intake.as_is) {
            framing_take(&passed, bytes + at, count);
        }
        for (size_t got; (got = intake_give(&intake, given, sizeof given)) > 0;) {
            framing_take(&passed, given, got);
        }
        at += count;
    }
    intake_free(&intake);
    FUZZ_REQUIRE(passed.problem == NULL, "something wrong is passed on");
    FUZZ_REQUIRE(passed.number == whole.number + (whole.problem != NULL),
                 "another number of requests is passed on");
    FUZZ_REQUIRE(whole.state == parts.state && whole.number == parts.number &&
                     whole.problem == parts.problem && whole.left == parts.left,
                 "another framing in parts");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const api_route *routes[ROUTES_MAX];
    if (size == 0) {
        return 0;
    }
    char *body = malloc(size); /* of its own, so that what reads behind it is seen */
    FUZZ_REQUIRE(body != NULL, "no memory");
    memcpy(body, data + 1, size - 1);
    body[size - 1] = 0; /* as http.c's buffers end */
    if (data[0] == FRAMING) {
        split(body, size - 1);
    } else {
        ask(routes[data[0] % find_routes(routes)], body, size - 1);
    }
    free(body);
    return 0;
}
