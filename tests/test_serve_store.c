/* mixt serve with a model whose experts are on disk, also a slow one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "build_folder.h"
#include "sanitized.h"
#include "scratch.h"
#include "serve_client.h"

#define ORDER "{\"prompt\":\"The quick\",\"max_tokens\":12,\"temperature\":0,\"ignore_eos\":true}"
#define SMALL "--memory 6M -c 128 -np 2 --store-reader threads --store-report"
#define HOST "Host: localhost\r\n"

static char answer[4000]; /* to ORDER, with all in memory */

/* Sixteen experts in each of three layers: 14 MB. */
static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_do("mkdir text; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do "
                 "echo \"The quick brown fox jumps over $i lazy dogs.\" >>text/$i.txt; done; "
                 "\"$MIXT\" train --data text --out run --steps 4 --vocab-size 300 --layers 3 "
                 "--hidden-size 64 --heads 2 --experts 16 --experts-per-token 2 --batch-size 2 "
                 "--window 32 --context-length 256 --learning-rate 0.01 -t 1");
    }
    return status;
}

static void test_not_stored(void **state)
{
    (void)state;
    pid_t server = serve_begin("-c 128 -np 2");
    json_t *root = ask_json("/v1/completions", ORDER, 200);
    snprintf(answer, sizeof answer, "%s", text_at(root, "choices.0.text"));
    json_decref(root);
    root = ask_json("/v1/store", NULL, 200);
    assert_true(json_is_false(json_at(root, "stored")));
    json_decref(root);
    root = ask_json("/v1/store/curve", NULL, 200);
    assert_true(json_array_size(json_at(root, "points")) == 0);
    json_decref(root);
    assert_int_equal(ask("GET", "/v1/store/report", NULL), 200);
    assert_has(ask_body, "in memory or mapped");
    assert_int_equal(ask("GET", "/metrics", NULL), 200);
    assert_lacks(ask_body, "mixt_store");
    root = ask_json("/props", NULL, 200);
    assert_true(json_is_false(json_at(root, "stored")));
    json_decref(root);
    assert_int_equal(ask("POST", "/v1/store", "{}"), 405);
    assert_int_equal(serve_end(server), 0);
}

/* The numbers of /v1/store are those of /metrics, and add up. */
static void check_numbers(void)
{
    json_t *root = ask_json("/v1/store", NULL, 200);
    assert_true(json_is_true(json_at(root, "stored")));
    assert_true(integer_at(root, "memory") == 6000000);
    assert_true(integer_at(root, "experts") == 48);
    long long slots = integer_at(root, "slots"), requests = integer_at(root, "requests");
    assert_true(slots > 0 && slots < 48);
    assert_true(requests > 0 && integer_at(root, "hits") <= requests);
    assert_true(integer_at(root, "bytes_read") > 0);
    assert_true(integer_at(root, "resident_bytes") + integer_at(root, "other_bytes") +
                    integer_at(root, "pool_bytes") <=
                6000000);
    assert_true(integer_at(root, "token_bytes") * 8 == integer_at(root, "expert_bytes"));
    assert_true(metric("mixt_store_requests_total") == (double)requests);
    assert_true(metric("mixt_store_slots") == (double)slots);
    assert_true(metric("mixt_store_hits_total") == (double)integer_at(root, "hits"));
    assert_true(metric("mixt_store_read_bytes_total") == (double)integer_at(root, "bytes_read"));
    assert_true(metric("mixt_store_wait_seconds_total") <= metric("mixt_store_step_seconds_total"));
    assert_has(ask_body, "mixt_store_info{policy=\"");
    json_decref(root);
}

/* The curve has the pool's own point, and more slots never hit less under the optimum. */
static void check_curve(void)
{
    json_t *root = ask_json("/v1/store/curve", NULL, 200);
    const json_t *points = json_at(root, "points");
    double before = 0;
    assert_true(integer_at(root, "now") < (long long)json_array_size(points));
    for (size_t i = 0; i < json_array_size(points); i++) {
        double optimum = number_at(json_array_get(points, i), "optimum");
        assert_true(optimum >= before && optimum <= 1);
        before = optimum;
    }
    json_decref(root);
}

static void test_stored(void **state)
{
    (void)state;
    pid_t server = serve_begin(SMALL);
    for (int i = 0; i < 2; i++) {
        json_t *root = ask_json("/v1/completions", ORDER, 200);
        assert_string_equal(text_at(root, "choices.0.text"), answer);
        json_decref(root);
    }
    check_numbers();
    check_curve();
    assert_int_equal(ask("GET", "/v1/store/report", NULL), 200);
    assert_true(strlen(ask_body) > 100);
    assert_has(ask_head, "text/plain");
    json_t *root = ask_json("/props", NULL, 200);
    assert_true(json_is_true(json_at(root, "stored")));
    json_decref(root);
    assert_int_equal(serve_end(server), 0);
    shell_do("grep -q 'experts are read from disk as routers choose them' serve.err && "
             "[ \"$(wc -l <serve.err)\" -gt 8 ]"); /* and the report at the end */
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* While steps wait for the disk the server does all else at once. */
static void test_slow_disk(void **state)
{
    char library[BUILT_PATH_MAX];
    (void)state;
    if (SANITIZED || !find_built("tests/siege/slow_disk.so", library) ||
        access(library, R_OK) != 0) {
        print_message("skipped: not built with this sanitizer or backend\n");
        skip();
    }
    setenv("LD_PRELOAD", library, 1);
    setenv("SLOW_MILLISECONDS", "20", 1);
    pid_t server = serve_begin(SMALL);
    unsetenv("LD_PRELOAD");
    int client = client_connect();
    client_put(client, "POST /v1/completions HTTP/1.1\r\n" HOST
                       "Content-Type: application/json\r\nContent-Length: 73\r\n\r\n"
                       "{\"prompt\":\"The\",\"max_tokens\":100000,\"stream\":true,\"ignore_eos\":"
                       "true    }\n");
    client_await(client, "HTTP/1.1 200");
    double steps = metric("mixt_steps_total"), begun = now(), longest = 0;
    int asked = 0;
    for (; now() - begun < 2; asked++) {
        double start = now();
        assert_int_equal(ask("GET", asked % 2 == 0 ? "/health" : "/v1/store", NULL), 200);
        longest = now() - start > longest ? now() - start : longest;
    }
    steps = metric("mixt_steps_total") - steps;
    print_message("%d requests in 2 s, the longest %.0f ms, beside %.0f steps\n", asked,
                  1e3 * longest, steps);
    assert_true(steps < 100); /* 20 ms each at least */
    assert_true(longest < 0.1);
    close(client);
    await_metric("mixt_orders", 0); /* given up behind the step that waits */
    assert_true(metric("mixt_requests_cancelled_total") == 1);
    assert_true(metric("mixt_store_wait_seconds_total") > 1);
    json_t *root = ask_json("/v1/completions", ORDER, 200);
    assert_string_equal(text_at(root, "choices.0.text"), answer);
    json_decref(root);
    assert_int_equal(serve_end(server), 0);
}

/* The cache of sixteen texts of 256 tokens is more than the limit: they share what is left of it.
 */
static void test_cache_that_fits(void **state)
{
    (void)state;
    pid_t server = serve_begin("--memory 6M -np 16");
    shell_do("grep -q 'note: the cache has [0-9]* positions for all texts, and with plans .*: 16 "
             "times 256 do not fit the 6.0 MB of memory (--cache-positions' serve.err");
    assert_true(metric("mixt_cache_bytes") < 6e6);
    json_t *root = ask_json("/v1/completions", ORDER, 200);
    assert_string_equal(text_at(root, "choices.0.text"), answer);
    json_decref(root);
    assert_int_equal(serve_end(server), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_stored),
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_slow_disk),
        cmocka_unit_test(test_cache_that_fits),
    };
    return cmocka_run_group_tests_name("serve store", tests, set_up, scratch_remove);
}
