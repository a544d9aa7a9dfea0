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
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
        server = serve_begin("--template qwen3 -a tiny -c 256");
    }
    return status;
}

static int tear_down(void **state)
{
    int status = serve_end(server);
    return scratch_remove(state) != 0 || status != 0;
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

/* One is made of it, whatever the choices are. */
static void test_large_grammar(void **state)
{
    char *body = malloc(BODY_MAX);
    (void)state;
    assert_non_null(body);
    long before = most_memory();
    size_t used = (size_t)sprintf(body, "{\"prompt\":\"a\",\"n\":128,\"max_tokens\":1,"
                                        "\"grammar\":\"root ::= \\\"");
    memset(body + used, 'a', 1900000);
    strcpy(body + used + 1900000, "\\\"\"}");
    json_t *root = ask_json("/v1/completions", body, 200);
    assert_int_equal(json_array_size(json_at(root, "choices")), 128);
    assert_string_equal(text_at(root, "choices.127.text"), "a");
    json_decref(root);
    /* 128 compiled ones took 1900 MiB. */
    assert_in_range(most_memory() - before, 0, 500);
    used = (size_t)sprintf(body, "{\"prompt\":\"a\",\"n\":128,\"max_tokens\":1,"
                                 "\"json_schema\":{\"enum\":[\"value 0\"");
    for (int i = 1; i < 30000; i++) {
        used += (size_t)sprintf(body + used, ",\"value %d\"", i);
    }
    strcpy(body + used, "]}}");
    root = ask_json("/v1/completions", body, 200);
    assert_string_equal(text_at(root, "choices.127.text"), "\"");
    json_decref(root);
    free(body);
}

/* Where it stands, each choice has for itself, 8 MiB of it here, while it is drawn. */
static void test_wide_grammar(void **state)
{
    char *body = malloc(BODY_MAX);
    (void)state;
    assert_non_null(body);
    long before = most_memory();
    size_t used = (size_t)sprintf(body, "{\"prompt\":\"a\",\"n\":128,\"max_tokens\":1,"
                                        "\"grammar\":\"root ::= \\\"x\\\"");
    for (int i = 0; i < 200000; i++) {
        used += (size_t)sprintf(body + used, " | a");
    }
    strcpy(body + used, "\\na ::= \\\"y\\\"\"}");
    json_decref(ask_json("/v1/completions", body, 200));
    assert_in_range(most_memory() - before, 0, 500);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_grammar),
        cmocka_unit_test(test_wide_grammar),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
