/* mixt probe and mixt convert --drop-experts as a person meets them. */
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

#define PROBE "\"$MIXT\" probe run --data text --max-tokens 300 -c 64 -t 1 "

/* Killed by turns, it comes to the end, with the results of a run of its own. */
static void test_killed(void **state)
{
    (void)state;
    shell_train();
    shell_do(PROBE "-o whole.json --experiments mask,lens,reap,top-k; [ ! -e whole.json.partial ]");
    assert_has(shell_err, "probe: whole.json");
    assert_has(shell_out, "An expert masked: what the loss gains (12 measured)");
    assert_has(shell_out, "The first expert alone, in one layer\nlayer   cosine_layer");
    shell_do(
        "for wait in 0.2 0.4 0.8 1.6 3.2 6.4 60; do echo $wait; timeout -s KILL $wait " PROBE
        "-o parts.json --experiments mask,lens,reap,top-k || true; [ ! -e parts.json ] || break; "
        "done; cmp whole.json parts.json");
}

static void test_refused(void **state)
{
    (void)state;
    shell_train();
    shell_refuses(PROBE "-o x.json --experiments mask,masks", "masks");
    shell_refuses(PROBE "-o x.json --only-layers 2-1", "--only-layers");
    shell_do("! " PROBE "-o x.json --only-layers 3"); /* behind the line about the texts */
    assert_has(shell_err, "layers 3 to 3");
    shell_do("! " PROBE "-o x.json --only-experts 4");
    assert_has(shell_err, "expert 4");
    shell_refuses(PROBE "-o x.json --only-experts 1+2", "--only-experts");
    shell_refuses(PROBE "-o text/one/1.txt", "read here");
    shell_refuses("\"$MIXT\" probe run", "--data: needed");
    shell_refuses("\"$MIXT\" convert run -o y --by reap", "--drop-experts");
    shell_refuses("\"$MIXT\" convert run -o y --drop-experts 25%", "--probe FILE");
    shell_refuses("\"$MIXT\" convert run -o y --drop-experts 25% --probe text/one/1.txt", "1.txt");
    shell_do("printf '0: 1\\n1: 1\\n' >list");
    shell_refuses("\"$MIXT\" convert run -o y --drop-experts list", "one number of experts");
}

/* Experts that were asked for, and pairs of them, are the rows of the results. */
static void test_chosen(void **state)
{
    (void)state;
    shell_train();
    shell_do(PROBE
             "-o some.json --experiments mask --only-layers 1-2 --only-experts 3 0:1 0:1+2:2; "
             "grep -c '\"effect\"' some.json; grep -o '\"with\": [^}]*]]' some.json");
    assert_has(shell_out, "4\n\"with\": [[2, 2]]");
}

/* What is dropped is said, with what it costs; both forms are opened again. */
static void test_dropped(void **state)
{
    (void)state;
    shell_train();
    shell_do("\"$MIXT\" convert run -o small --drop-experts 25% --by frequency --data text "
             "--max-tokens 300 -c 64 -t 1");
    assert_has(shell_err, "dropped: 1 of 4 experts in each of 3 layers");
    assert_has(shell_err, "results: small.probe.json");
    assert_has(shell_out, "nats/token");
    assert_has(shell_out, "\nall  ");
    shell_do("\"$MIXT\" convert run -o small.gguf --drop-experts 25% --by frequency --probe "
             "small.probe.json --type Q8_0; \"$MIXT\" info small; \"$MIXT\" info small.gguf");
    assert_has(shell_err, "was not measured");
    assert_has(shell_out, "3 of width 32");
    /* GGUF files have rotated pairs the other way round: the same but for the last digits. */
    shell_do("for m in small again.gguf; do [ -e $m ] || \"$MIXT\" convert small -o $m; "
             "\"$MIXT\" eval $m --data text --max-tokens 300 -c 64 --json | "
             "grep -o '\"perplexity\": [0-9]*[.][0-9]' | tail -n 1 >$m.txt; done; "
             "[ -s small.txt ]; cmp small.txt again.gguf.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_chosen),
        cmocka_unit_test(test_dropped),
    };
    return cmocka_run_group_tests(tests, shell_make, scratch_remove);
}
