/* The program as several ranks (over the hub): it prints and writes what one process does, once;
 * what cannot be is refused in one line; ranks that are lost end it, and nothing hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "build_folder.h"
#include "scratch.h"
#include "shell.h"

/* Runs a command line alone and as N ranks, and compares what it printed and how it ended. */
#define SAME                                                                                       \
    "IN=/dev/null\nsame() { n=$1; shift; a=0; b=0\n"                                               \
    "  \"$MIXT\" \"$@\" <$IN >one.out 2>one.err || a=$?\n"                                         \
    "  \"$LAUNCH\" -n $n \"$MIXT\" \"$@\" <$IN >many.out 2>many.err || b=$?\n"                     \
    "  [ $a = 0 ] && [ $b = 0 ] && cmp one.out many.out || { cat one.err many.err; exit 1; }; }\n"

static int set_up(void **state)
{
    static char launch[BUILT_PATH_MAX];
    int status = shell_make(state);
    if (status == 0) {
        assert_true(find_built("tests/launch", launch));
        setenv("LAUNCH", launch, 1);
        shell_train();
        shell_do("\"$MIXT\" convert run -o q.gguf --type Q8_0 2>convert.err");
    }
    return status;
}

static void prints_what_one_process_does(void **state)
{
    (void)state;
    shell_do(SAME "printf 'a line\\nanother\\n' >lines; cat text/*/* >all\n"
                  "for m in run q.gguf; do for n in 2 3; do\n"
                  "  same $n run -m $m -p 'the' -n 30 -s 5 -q\n"
                  "  IN=lines same $n run -m $m -i -n 5 -s 5 -q\n"
                  "  IN=lines same $n chat -m $m -n 10 -s 5 --template chatml\n"
                  "  same $n eval -m $m --data text --json\n"
                  "  same $n eval -m $m --ppl-file all -c 32\n"
                  "done; done");
}

static void writes_what_one_process_does(void **state)
{
    (void)state;
    shell_do(
        "for n in 2 4; do\n"
        "  rm -f one.* many.*\n"
        "  M='--data text --max-tokens 600'\n"
        "  \"$MIXT\" trace -m run $M -o one.st --logits --ahead >out 2>&1\n"
        "  \"$LAUNCH\" -n $n \"$MIXT\" trace -m run $M -o many.st --logits --ahead >out 2>&1\n"
        "  cmp one.st many.st\n"
        "  \"$MIXT\" probe -m q.gguf $M -o one.json >out 2>&1\n"
        "  \"$LAUNCH\" -n $n \"$MIXT\" probe -m q.gguf $M -o many.json >out 2>&1\n"
        "  cmp one.json many.json\n"
        "  \"$MIXT\" run -m run -p 'the' -n 9 -s 1 --prompt-cache one.pc >one.out 2>/dev/null\n"
        "  \"$LAUNCH\" -n $n \"$MIXT\" run -m run -p 'the' -n 9 -s 1 --prompt-cache many.pc "
        ">many.out 2>/dev/null\n"
        "  cmp one.pc many.pc; cmp one.out many.out\n"
        "  \"$LAUNCH\" -n $n \"$MIXT\" run -m run -p 'the' -n 9 -s 1 --prompt-cache one.pc "
        ">many.out 2>/dev/null\n"
        "  cmp one.out many.out\n"
        "done");
}

static void bench_measures_ranks(void **state)
{
    (void)state;
    shell_do(
        "\"$LAUNCH\" -n 2 \"$MIXT\" bench -m q.gguf -p 16 -n 4 -r 1 --no-limits >out 2>err\n"
        "grep -q pp16 out && [ $(grep -c tg4 out) = 1 ]\n"
        "\"$LAUNCH\" -n 2 \"$MIXT\" bench --hidden-size 64 --layers 2 --vocab-size 300 -p 16 -n 4 "
        "-r 1 --no-limits >out 2>err\n"
        "grep -q pp16 out");
}

/* Each rank reads its share of the model that training begins with. */
static void trains_adapters_of_a_folder(void **state)
{
    (void)state;
    shell_do(
        "\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out lora --init-from run --lora-rank 2 "
        "--steps 2 --accumulation 2 --batch-size 1 >out 2>&1\n"
        "cmp run/model/model.safetensors lora/model/model.safetensors\n"
        "\"$MIXT\" info lora/model | grep -q adapter\n"
        "\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out more --init-from run "
        "--steps 1 --accumulation 2 --batch-size 1 --learning-rate 0 >out 2>&1\n"
        "cmp run/model/model.safetensors more/model/model.safetensors");
}

/* Each in one line, of rank 0 alone. */
static void refuses_in_one_line(void **state)
{
    (void)state;
    shell_refuses("\"$LAUNCH\" -n 3 \"$MIXT\" info run", "runs as one process; 3 ranks");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" convert run -o z.gguf", "runs as one process");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" nonsense", "no such command");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" run -m run -p a --nonsense", "no such option");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" run -m run", "one is needed");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" run -m nowhere -p a", "nowhere");
    shell_refuses("\"$LAUNCH\" -n 40 \"$MIXT\" run -m run -p a",
                  "40 ranks, each of which runs experts of its own");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" run -m run -p a --memory 1G", "--memory");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" run -m run -p a --no-mmap", "--no-mmap");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" bench -m run -m q.gguf", "several ranks share one");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" bench -m run --train", "--train");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" bench -m run -t 1,2", "--threads");
    /* before a tokenizer is trained, and nothing is left behind */
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out odd --accumulation 3",
                  "accumulation 4 with batch_size 6 trains on as many tokens");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out odd --accumulation 2 "
                  "--expert-parallel 2 --experts 4 --exchange-chunks 3",
                  "exchange_chunks 3: a rank has 2 experts of a layer");
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out odd --accumulation 2 "
                  "--data-parallel 2 --exchange-chunks 2",
                  "no rows travel where expert_parallel is 1");
    /* before a text is read */
    shell_refuses("\"$LAUNCH\" -n 2 \"$MIXT\" train --data text --out odd --accumulation 2 "
                  "--init-from run --lora-rank 2 --exact-reduce",
                  "adapters (lora_rank) whose experts are spread over 2 ranks");
    shell_do("[ ! -e odd ] && ! grep -q encod err");
}

/* Rank 1, 2 or 0 in its Nth message: rank 0 says so in one line, all end. */
static void a_lost_rank_ends_it(void **state)
{
    (void)state;
    shell_do("for k in 1 2 3 4 6 9 14 30 77 200; do for r in 1 2; do\n"
             "  \"$LAUNCH\" -n 3 --seconds 60 --kill-message $r:$k \"$MIXT\" run -m run -p 'the' "
             "-n 100000 --ignore-eos --context-shift -q >out 2>err && exit 1\n"
             "  [ $(sed 's,^mixt[^:]*:,,' err | sort -u | grep -c 'was lost') = 1 ]\n"
             "done\n"
             "  \"$LAUNCH\" -n 3 --seconds 60 --kill-message 0:$k \"$MIXT\" run -m run -p 'the' "
             "-n 100000 --ignore-eos --context-shift -q >out 2>err && exit 1\n"
             "  [ $? != 124 ]\n"
             "done");
}

/* Asks a server at $P: the text of a completion. */
#define ASK                                                                                        \
    "ask() { B='{\"prompt\": \"the\", \"max_tokens\": 8, \"temperature\": 0}'\n"                   \
    "  exec 3<>/dev/tcp/127.0.0.1/$P\n"                                                            \
    "  printf 'POST /v1/completions HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n"    \
    "Content-Length: %d\\r\\n\\r\\n%s' ${#B} \"$B\" >&3\n"                                         \
    "  cat <&3; exec 3<&-; }\n"                                                                    \
    "ready() { for i in $(seq 600); do grep -q 'is ready' $1 && break; sleep 0.1; done\n"          \
    "  P=$(sed 's/.*://' $2); }\n"

static void serves(void **state)
{
    (void)state;
    shell_do(ASK "\"$MIXT\" serve -m run --port 0 >one.out 2>one.err & S=$!\n"
                 "ready one.err one.out; ask | grep -o '\"text\":[^}]*' >one.text\n"
                 "kill -TERM $S; wait $S\n"
                 "\"$LAUNCH\" -n 3 \"$MIXT\" serve -m run --port 0 >many.out 2>many.err & S=$!\n"
                 "ready many.err many.out; ask | grep -o '\"text\":[^}]*' >many.text\n"
                 "cmp one.text many.text; [ -s one.text ]\n"
                 "kill -TERM $(ps -o pid= --ppid $S); wait $S\n"
                 "[ $(grep -c 'is ready' many.err) = 1 ]");
}

/* A worker that is lost: this request and all further ones are told, and the server ends as always.
 */
static void says_so_on_every_request(void **state)
{
    (void)state;
    shell_do(ASK "\"$LAUNCH\" -n 2 --kill-message 1:60 \"$MIXT\" serve -m run --port 0 >lost.out "
                 "2>lost.err & S=$!\n"
                 "ready lost.err lost.out\n"
                 "for i in $(seq 30); do ask >reply; done\n"
                 "grep -q 'rank 1 was lost' reply; grep -q ' 500 ' reply\n"
                 "ask >reply; grep -q 'rank 1 was lost' reply\n"
                 "kill -TERM $(ps -o pid= --ppid $S); ! wait $S");
}

/* A signal to all of them, as Ctrl-C in a terminal: as rank 0 alone would. */
static void an_interrupt_ends_all(void **state)
{
    (void)state;
    shell_do("\"$LAUNCH\" -n 3 \"$MIXT\" run -m run -p 'the' -n 1000000 --ignore-eos "
             "--context-shift >out 2>err & S=$!\n"
             "for i in $(seq 300); do [ -s out ] && break; sleep 0.1; done\n"
             "kill -INT $(ps -o pid= --ppid $S)\n"
             "wait $S && exit 1 || [ $? = 130 ]\n"
             "grep -q generated err");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_what_one_process_does),
        cmocka_unit_test(writes_what_one_process_does),
        cmocka_unit_test(bench_measures_ranks),
        cmocka_unit_test(trains_adapters_of_a_folder),
        cmocka_unit_test(refuses_in_one_line),
        cmocka_unit_test(a_lost_rank_ends_it),
        cmocka_unit_test(serves),
        cmocka_unit_test(says_so_on_every_request),
        cmocka_unit_test(an_interrupt_ends_all),
    };
    return cmocka_run_group_tests_name("spread_cli", tests, set_up, scratch_remove);
}
