/* --memory and its like as a person meets them, on a tiny model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"
#include "shell.h"

#define MIXT "\"$MIXT\" "

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
    }
    return status;
}

/* Each command that runs a model refuses the same in the same words. */
static void sizes_are_read(void **state)
{
    static const char *const commands[] = {"run -m run -p x",
                                           "chat -m run",
                                           "eval -m run --data text",
                                           "trace -m run --data text -o t.safetensors",
                                           "probe -m run --data text",
                                           "serve -m run",
                                           "bench -m run"};
    static const char *const wrong[] = {"12X",   "-1G",       "0",     "1e3",  "G",   "12 G B",
                                        "1.2.3", "9999999TB", "auto1", "all ", "0.4B"};
    char line[200], said[200];
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            snprintf(line, sizeof line, MIXT "%s --memory '%s'", commands[i], wrong[j]);
            snprintf(said, sizeof said,
                     "--memory: \"%s\" is not a size (12G, 800M, 12.5GiB), auto or all", wrong[j]);
            shell_refuses(line, said);
        }
        snprintf(line, sizeof line, MIXT "%s --memory 1G --no-mmap", commands[i]);
        shell_refuses(line, "--no-mmap and --memory: the whole model is read, or what fits");
        snprintf(line, sizeof line, MIXT "%s --memory all --store-policy lru", commands[i]);
        shell_refuses(line, "--store-policy: does nothing with --memory all");
        snprintf(line, sizeof line, MIXT "%s --no-mmap --store-report", commands[i]);
        shell_refuses(line, "--store-report: does nothing with --no-mmap");
        snprintf(line, sizeof line, MIXT "%s --store-policy best", commands[i]);
        shell_refuses(line, "--store-policy: \"best\" is not one of:");
        snprintf(line, sizeof line, MIXT "%s --store-reader fast", commands[i]);
        shell_refuses(line, "--store-reader: \"fast\" is not one of: auto ring threads");
    }
    shell_refuses(MIXT "info run --memory 12X", "--memory: \"12X\" is not a size");
    shell_refuses(MIXT "info run --memory 1G --tensors", "--memory: not with --plan");
    shell_refuses(MIXT "bench --memory 1G", "--memory: needs --model");
    shell_refuses(MIXT "bench -m run --train --memory 1G",
                  "--memory: a model that trains is read whole");
}

/* What fits is mapped as ever, and nothing is said unless a report was asked for. */
static void what_fits_is_mapped(void **state)
{
    (void)state;
    shell_do(MIXT "run -m run -t 1 -n 9 --temp 0 -q -p 'int a' --memory all >all; " MIXT
                  "run -m run -t 1 -n 9 --temp 0 -q -p 'int a' 2>said | cmp - all; "
                  "! test -s said; " MIXT
                  "run -m run -t 1 -n 9 --temp 0 -q -p 'int a' --store-report 2>said | cmp - all; "
                  "grep -q 'in memory or mapped, nothing was stored' said");
    shell_do(MIXT
             "bench -m run -t 1 -p 4 -n 2 -r 1 --no-limits -o json | grep -q '\"store\": null}'");
}

static void fails(const char *line, const char *part)
{
    assert_int_equal(shell(line), 1);
    assert_has(shell_err, part);
}

/* Sixteen experts in each of three layers, 14 MB, of which 6 MB stay: the same text, and a report.
 */
static void what_does_not_fit_is_read(void **state)
{
    (void)state;
    shell_do(MIXT "train --data text --out large --steps 4 --vocab-size 300 --layers 3 "
                  "--hidden-size 64 --heads 2 --experts 16 --experts-per-token 2 --batch-size 2 "
                  "--window 32 --context-length 256 --learning-rate 0.01 -t 1");
    shell_do("run() { " MIXT "run -m large -t 1 -n 8 -c 128 --temp 0 -p 'int a' -q \"$@\"; }; "
             "run >all; for options in '--store-reader threads --store-policy lru' "
             "'--store-policy lfu --store-prefetch always' '--store-prefetch never' ''; do "
             "run --memory 6M $options 2>said | cmp - all; grep -q 'note: .* of .* of weights fit "
             "the 6.0 MB of --memory: experts are read from disk' said; done");
    shell_do(
        "run() { what=$1; shift; " MIXT "$what -m large -t 1 --data text --max-tokens 200 "
        "--window 16 \"$@\"; }; run eval --json >all; run eval --json --memory 25M | cmp - all; "
        "run trace -o all.st; run trace -o part.st --memory 25M; cmp all.st part.st; " MIXT
        "run -m large -t 1 -n 2 -c 128 -p x --memory 6M --store-policy static "
        "--store-profile all.st");
    shell_do("printf 'Hello\\n' | " MIXT
             "chat -m large -t 1 -n 3 --memory 9M -c 256 --template chatml");
    shell_do(MIXT "bench -m large -t 1 -p 4 -n 2 -r 1 --no-limits -o json --memory 8M >rows && "
                  "[ $(grep -c '\"store\": {\"memory\": 8000000, ' rows) = 2 ] && grep -q "
                  "'\"prefetching\": [a-z]*}}' rows");
    fails(MIXT "run -m large -p x --memory 300K", "of memory are too little");
    shell_refuses(MIXT "run -m large -p x --memory 6M --store-policy static", "static");
    shell_refuses(MIXT "run -m large -p x --memory 6M --store-profile nothing", "nothing: ");
    shell_refuses(MIXT "run -m large -p x --memory 6M --store-policy lru --store-profile all.st",
                  "policy lru: has no use for a profile");
    fails(MIXT "run -m large -p x --memory 900000G", "is above the ");
}

/* A default context that does not fit is shorter, in one line; one that was asked for is refused.
 */
static void contexts_are_made_to_fit(void **state)
{
    (void)state;
    shell_do(MIXT "train --data text --out long --steps 1 --vocab-size 300 --layers 3 "
                  "--hidden-size 64 --heads 2 --experts 16 --experts-per-token 2 --batch-size 2 "
                  "--window 32 --context-length 4096 -t 1 >train 2>&1");
    shell_do(
        "for command in 'run -p x' 'chat --template chatml'; do "
        "echo hi | " MIXT
        "$command -m long -t 1 -n 2 --memory 8M >out 2>said; grep -q 'note: the context has "
        "[0-9]* tokens, whose cache and plans take .*: the usual 4096 do not fit the 8.0 MB of "
        "memory (-c N' said; done");
    shell_do("n=$(sed -n 's/note: the context has \\([0-9]*\\) tokens.*/\\1/p' said); "
             "[ $((n % 256)) = 0 ]; " MIXT "run -m long -t 1 -n 2 --memory 8M -p x -c $n 2>said; "
             "! grep -q 'the context has' said");
    fails(MIXT "run -m long -p x -t 1 --memory 8M -c 4096", "the longest context that fits has ");
    fails(MIXT "eval -m long -t 1 --data text --memory 3M --window 512",
          "shorter windows than 512");
    shell_do(MIXT "run -m long -t 1 -n 2 -p x 2>said; ! grep -q 'the context has' said");
}

static void plans_are_printed(void **state)
{
    (void)state;
    shell_do(MIXT "info large --memory 6M >said; grep -q '^memory  *6.0 MB$' said; grep -q "
                  "'^experts .* of 14 MB: 1[0-9] of 48 at a time' said; grep -q '^hits ' said; ! "
                  "grep -q '^warning' said");
    shell_do(MIXT "info large --memory 1500K | grep -q '^warning'");
    shell_do(MIXT "info large --memory 900G | grep -q 'all of them fit'");
    shell_do(MIXT "info large --memory 6M --json | grep -q '\"below_one_token\": false}'");
    fails(MIXT "info large --memory 100K", "of memory are too little");
}

/* In a folder that mixt convert writes an expert's matrices lie side by side. */
static void converted_experts_are_whole(void **state)
{
    (void)state;
    shell_do(
        MIXT
        "convert large/model -o whole 2>/dev/null; "
        "at() { grep -ao \"layers.1.block_sparse_moe.experts.$1.weight\\\":{[^}]*}\" "
        "whole/model.safetensors | grep -o '\\[[0-9, ]*\\]}' | tr -d '[]} ' | cut -d, -f$2; }; "
        "for e in 0 7 15; do [ -n \"$(at $e.w1 1)\" ]; [ $(at $e.w1 2) = $(at $e.w3 1) ]; "
        "[ $(at $e.w3 2) = $(at $e.w2 1) ]; done; [ $(at 7.w2 2) = $(at 8.w1 1) ]; "
        "run() { " MIXT "run -m $1 -t 1 -n 8 -c 128 --temp 0 -p 'int a' -q --memory 6M; }; "
        "run large >all; run whole | cmp - all");
}

/* The library's form of it. */
static void the_example_runs(void **state)
{
    char program[BUILT_PATH_MAX], line[BUILT_PATH_MAX + 200];
    (void)state;
    assert_true(find_built("examples/larger_than_memory", program));
    snprintf(line, sizeof line, "'%s' large/model 'int a' 6", program);
    shell_do(line);
    assert_has(shell_out, " of 48 experts fit; ");
    snprintf(line, sizeof line, "'%s' large/model 'int a'", program);
    shell_do(line);
    assert_has(shell_out, "all of it fits");
    snprintf(line, sizeof line, "'%s' large/model 'int a' 1", program);
    fails(line, "of memory are too little");
}

/* Interrupted or not, the report comes. */
static void reports_come_at_the_end(void **state)
{
    (void)state;
    shell_do(MIXT "run -m large -t 1 -n 20 -c 128 -p 'int a' --memory 6M --store-report 2>said; "
                  "grep -q '^experts wanted: ' said");
    shell_do(MIXT "run -m large -t 1 -c 128 -p 'int a' --memory 6M --context-shift --ignore-eos "
                  "--store-report >said.text 2>said & until [ -s said.text ]; do sleep 0.1; done; "
                  "kill -INT $!; status=0; wait $! || status=$?; [ $status = 130 ]; "
                  "grep -q '^experts wanted: ' said");
    shell_do(MIXT "eval -m large -t 1 --data text --max-tokens 200 --window 16 --memory 25M "
                  "--store-report 2>said; grep -q '^experts wanted: ' said");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(what_fits_is_mapped),
        cmocka_unit_test(what_does_not_fit_is_read),
        cmocka_unit_test(contexts_are_made_to_fit),
        cmocka_unit_test(plans_are_printed),
        cmocka_unit_test(converted_experts_are_whole),
        cmocka_unit_test(the_example_runs),
        cmocka_unit_test(reports_come_at_the_end),
    };
    return cmocka_run_group_tests_name("memory", tests, set_up, scratch_remove);
}
