/* How the program feels to somebody who knows llama.cpp: flags, slips, defaults, pipes, words. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"
#include "shell.h"

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
    }
    return status;
}

#define MIXT "\"$MIXT\" "
#define ON_ONE " -t 1 "

/* ---- flags */

/* What a letter means wherever it stands, and the options that it may stand for: llama.cpp's
 * meaning where llama.cpp has the letter. -o is a file there too, but llama-bench's form. */
static const struct {
    char letter;
    const char *names;
} meanings[] = {
    {'a', " alias "},
    {'b', " batch-size "},
    {'c', " context-length window "}, /* --ctx-size */
    {'d', " depth "},
    {'e', " escape "},
    {'f', " file ppl-file "},
    {'i', " interactive "},
    {'j', " json-schema "},
    {'l', " logit-bias "},
    {'m', " model tokenizer "},
    {'n', " predict generate max-tokens text-tokens tokens "},
    {'o', " out output "},
    {'p', " prompt "},
    {'q', " quiet "},
    {'r', " repetitions reverse-prompt "}, /* llama-bench's, and llama-cli's */
    {'s', " seed "},
    {'t', " threads "},
    {'v', " verbose "},
};

static int meaning_of(char letter)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (meanings[i].letter == letter) {
            return (int)i;
        }
    }
    return -1;
}

static void letters_have_one_meaning(void **state)
{
    bool seen[sizeof meanings / sizeof *meanings] = {false};
    (void)state;
    shell_do("for c in demo train run chat serve eval trace atlas probe convert study bench info "
             "tokenize "
             "help; do " MIXT
             "help $c; done | sed -n 's/^  -\\(.\\), --\\([a-z-]*\\).*/\\1 \\2/p'; " MIXT
             "--help | grep -c '^  [a-z]'");
    int rows = 0;
    for (char *line = strtok(shell_out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char padded[80];
        if (isdigit((unsigned char)line[0])) {
            assert_string_equal(line, "15"); /* every command was looked at */
            continue;
        }
        int place = meaning_of(line[0]);
        snprintf(padded, sizeof padded, " %s ", line + 2);
        if (place < 0 || strstr(meanings[place].names, padded) == NULL) {
            fail_msg("-%c is --%s somewhere", line[0], line + 2);
        }
        seen[place] = true;
        rows++;
    }
    assert_true(rows > 30);
    for (size_t i = 0; i < sizeof seen; i++) {
        assert_true(seen[i]);
    }
}

/* Every long name and alias of every command, in the order of the man page. */
static struct {
    char word[48], option[48];
} words[1024];
static size_t word_count;

static void add_word(const char *word, size_t length, const char *option)
{
    assert_true(word_count < sizeof words / sizeof *words && length < sizeof words[0].word);
    memcpy(words[word_count].word, word, length);
    words[word_count].word[length] = 0;
    snprintf(words[word_count].option, sizeof words[0].option, "%s", option);
    word_count++;
}

static void read_words(char *man)
{
    char option[48] = "";
    for (char *line = strtok(man, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const char *name = strstr(line, "--");
        const char *also = strstr(line, "[also ");
        if (strncmp(line, ".B ", 3) == 0 && name != NULL) {
            snprintf(option, sizeof option, "%.*s", (int)strcspn(name + 2, " "), name + 2);
            add_word(option, strlen(option), option);
        }
        for (const char *at = also == NULL ? "" : also + 6; *at != 0 && *at != ']';) {
            size_t length = strcspn(at, " ]");
            add_word(at, length, option);
            at += length + (at[length] == ' ');
        }
    }
}

/* A word is one option, whichever command has it. --ctx-size is llama.cpp's for a window and for a
 * context; mixt tokenize takes the tokenizer of a --model; top_k is also a key of nanoMoE. */
static void words_have_one_meaning(void **state)
{
    (void)state;
    shell_do(MIXT "help --man | sed 's/[\\]-/-/g'");
    read_words(shell_out);
    assert_true(word_count > 200);
    for (size_t i = 0; i < word_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(words[i].word, words[j].word) == 0 &&
                strcmp(words[i].option, words[j].option) != 0 &&
                strstr(" ctx-size model top-k ", words[i].word) == NULL) {
                fail_msg("--%s is --%s and --%s", words[i].word, words[i].option, words[j].option);
            }
        }
    }
}

static void seed_is_seed_in_chat(void **state)
{
    (void)state;
    shell_do("echo hello | " MIXT "chat -m run -t 1 -n 12 --template chatml -s 1 >one; "
             "echo hello | " MIXT "chat -m run -t 1 -n 12 --template chatml --seed 1 >same; "
             "echo hello | " MIXT "chat -m run -t 1 -n 12 --template chatml --seed 2 >other; "
             "cmp one same && ! cmp -s one other");
    shell_do("for s in --system -sys --sys --system-prompt; do echo hello | " MIXT
             "chat -m run -t 1 -n 12 -s 1 --template chatml -v $s 'Be kind to foxes.' 2>&1 | "
             "sed 's/,.*//'; done >said; echo hello | " MIXT
             "chat -m run -t 1 -n 12 -s 1 --template chatml -v 2>&1 | sed 's/,.*//' >without; "
             "[ $(sort said | uniq -c | sort -n | sed 's/ *\\([0-9]*\\).*/\\1/' | uniq) = 4 ] && "
             "! grep -qxFf without said");
    shell_refuses(MIXT "chat -s words -m run", "--seed: words is not -1 or in 0..");
}

typedef struct slip {
    const char *line, *answer; /* NULL: none close enough */
} slip;

static const slip slips[] = {
    {"runn", "run"},
    {"rnu", "run"},
    {"trian", "train"},
    {"tarin", "train"},
    {"tran", "train"},
    {"demos", "demo"},
    {"bnech", "bench"},
    {"tokenise", "tokenize"},
    {"covnert", "convert"},
    {"atlsa", "atlas"},
    {"quantize", NULL},
    {"server", "serve"},
    {"servr", "serve"},
    {"perplexity", NULL},
    {"keep", NULL},
    {"generate", NULL},
    {"run --tepm", "--temp"},
    {"run --temperatur", "--temp"},
    {"run --topk", "--top-k"},
    {"run --top_kk", "--top-k"},
    {"run --sead", "--seed"},
    {"run --n-predit", "--predict"},
    {"run --repaet-penalty", "--repeat-penalty"},
    {"run --treads", "--threads"},
    {"run --promt", "--prompt"},
    {"run --contextlenght", "--context-length"},
    {"run --kep", "--keep"},
    {"run --top-a", NULL},
    {"run --min-k", NULL},
    {"run --ngl", NULL},
    {"run --samplrs", "--samplers"},
    {"run --tfs", NULL},
    {"run --xx", NULL},
    {"train --learningrate", "--learning-rate"},
    {"train --learn-rate", "--learning-rate"},
    {"train --layrs", "--layers"},
    {"train --grad-clipp", "--clip"},
    {"train --label-smoothing", NULL},
    {"train --deterministic", NULL},
    {"train -d", "--data"},
    {"eval -d", "--data"},
    {"tokenize -d", "--decode"},
    {"run -d", NULL},
    {"run -Z", NULL},
};

static void slips_get_the_right_answer(void **state)
{
    char line[300], part[80];
    (void)state;
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        snprintf(line, sizeof line, MIXT "%s", slips[i].line);
        snprintf(part, sizeof part, "; is it %s?", slips[i].answer);
        shell_refuses(line, slips[i].answer != NULL ? part : ": no such ");
        if (slips[i].answer == NULL) {
            assert_lacks(shell_err, "is it");
        }
        if (strchr(slips[i].line, ' ') == NULL) { /* help knows the same */
            char *said = strdup(shell_err);
            assert_non_null(said);
            snprintf(line, sizeof line, MIXT "help %s", slips[i].line);
            shell_refuses(line, said);
            free(said);
        }
    }
}

static void color_needs_no_value(void **state)
{
    (void)state;
    shell_do(MIXT "trace -m run --data text -o routes -n 400" ON_ONE);
    shell_do(MIXT "atlas routes --color >bare; " MIXT "atlas --color routes >before; " MIXT
                  "atlas routes --color on >on; " MIXT "atlas routes --color always >always; " MIXT
                  "atlas routes --color=off >off; " MIXT "atlas routes --color auto >auto; " MIXT
                  "atlas routes >plain; cmp bare before && cmp bare on && cmp bare always && "
                  "cmp off auto && cmp off plain && ! cmp -s on off");
    shell_refuses(MIXT "atlas routes --color=blue", "\"blue\" is not one of: auto always never");
}

/* ---- prompts */

static void the_last_newline_of_a_prompt_goes(void **state)
{
    (void)state;
    shell_write("with", "int a3 =\n");
    shell_write("without", "int a3 =");
    shell_write("two", "int a3 =\n\n");
    shell_write("empty", "\n");
    shell_do("run() { " MIXT "run -m run -t 1 -n 8 --temp 0 -q \"$@\"; }; "
             "run -p 'int a3 =' >plain; run -f with >a; run -f without >b; run -p - <with >c; "
             "run -f two >d; run -f empty >e; run -p '' >f; "
             "cmp plain a && cmp plain b && cmp plain c && ! cmp -s plain d && cmp e f");
}

/* ---- readers and disks */

/* Commands that print, each with files of its own. */
static const char *const printing[] = {
    "help train",
    "help --man",
    "--help",
    "--version",
    "--completion-bash",
    "info -m run",
    "info -m run --plan train",
    "info --families",
    "run -m run -p The -n 60 -t 1",
    "run -m run -p The -n 60 -t 1 -q",
    "eval -m run --data text -t 1",
    "eval -m run --data text --json -t 1",
    "eval -m run --ppl-file text/one/1.txt -c 32 -t 1",
    "atlas routes",
    "atlas routes --html page.html",
    "tokenize -m run -f text/one/1.txt",
    "tokenize -m run -f text/one/1.txt --pieces",
    "bench -m run -p 8 -n 2 -r 1 -t 1 --no-limits -o jsonl",
    "bench -m run -p 8 -n 2 -r 1 -t 1 --no-limits",
    "train --data text --out run -t 1 --steps 13",
    "chat -m run --template chatml -n 4 -t 1",
};

/* Standard output is a pipe that nobody reads any more. */
static void readers_may_leave(void **state)
{
    char lines[600];
    (void)state;
    for (size_t i = 0; i < sizeof printing / sizeof *printing; i++) {
        snprintf(lines, sizeof lines, "exec 3> >(exec true); wait $!; echo hello | " MIXT "%s >&3",
                 printing[i]);
        int status = shell(lines);
        if (status != 141) {
            fail_msg("%s: status %d: %s", printing[i], status, shell_err);
        }
        assert_memory_not_equal(shell_err, "mixt", 4); /* no line of an error's */
        assert_lacks(shell_err, "\nmixt");
        assert_lacks(shell_err, "Broken pipe");
    }
    /* what makes files makes them all the same */
    shell_do("rm -f page.html; exec 3> >(exec true); wait $!; " MIXT
             "atlas routes --html page.html >&3 || test $? = 141; grep -q '</html>' page.html");
    shell_do(MIXT "atlas routes | head -n 2 >first; grep -q . first");
    assert_string_equal(shell_err, "");
}

static void full_disks_are_said(void **state)
{
    char lines[600];
    (void)state;
    for (size_t i = 0; i < sizeof printing / sizeof *printing; i++) {
        snprintf(lines, sizeof lines, "echo hello | " MIXT "%s >/dev/full", printing[i]);
        int status = shell(lines);
        const char *said = strstr(shell_err, ": standard output: "); /* and why, or "write error" */
        if (status != 1 || said == NULL || strstr(said + 4, "standard output") != NULL ||
            strstr(said, "\nmixt") != NULL) {
            fail_msg("%s: status %d: %s", printing[i], status, shell_err);
        }
    }
}

/* ---- words and defaults */

static void what_is_read_is_said(void **state)
{
    (void)state;
    shell_do("test \"$(printf 'three fish' | " MIXT "tokenize -m run -p -)\" = \"$(" MIXT
             "tokenize -m run -p 'three fish')\"");
    shell_do(MIXT "convert run -o plain.gguf --type BF16 --data text" ON_ONE);
    assert_has(shell_err, "note: importance does nothing here");
    shell_do(MIXT "eval -m run --data text --heldout 0.3" ON_ONE);
    assert_has(shell_err, " held-out tokens to score, 2 domains (of ");
    assert_lacks(shell_err, "train");
    shell_do(MIXT "eval -m run --data text -n 100" ON_ONE);
    assert_has(shell_err, " tokens to score, 2 domains, at most 100 of each domain\n");
    shell_do(MIXT "trace -m run --data text -o routes.2" ON_ONE);
    assert_has(shell_err, " tokens to trace, 2 domains, at most 100,000 of each domain\n");
    assert_lacks(shell_err, "train");
    shell_do(MIXT "convert run/model -o q.gguf --type Q8_0 --data text -n 300" ON_ONE);
    assert_has(shell_err, " tokens to measure importance on, 2 domains, at most 300 of each");
    assert_has(shell_err, "note: the model has a context of 256 tokens: windows have so many in "
                          "place of 512\n");
}

static void defaults_fit_small_models(void **state)
{
    (void)state;
    shell_do("for i in 1 2 3 4 5 6; do cat text/two/*.txt; done >long; " MIXT
             "eval -m run --ppl-file long --chunks 1" ON_ONE);
    assert_has(shell_err, "windows have so many in place of 512");
    shell_do(MIXT "bench -m run -r 1 --no-limits -o csv" ON_ONE);
    assert_has(shell_err, "note: run/model has a context of 256 tokens: the prompt is 256 in place "
                          "of 512\n");
    assert_has(shell_out, ",pp256,");
    assert_has(shell_out, ",tg128,");
    shell_do(MIXT "bench -m run -r 1 --no-limits -o csv -d 200" ON_ONE);
    assert_has(shell_out, ",pp56 @ d200,");
    assert_has(shell_out, ",tg56 @ d200,");
    shell_refuses(MIXT "bench -m run -p 512 -r 1 --no-limits" ON_ONE,
                  "run/model: its context of 256 tokens is less than the 512 of the longest test");
    shell_refuses(MIXT "bench -m run -d 256 --no-limits" ON_ONE, "of 256 tokens is less than");
    shell_refuses(MIXT "eval -m run --ppl-file long -c 512" ON_ONE, "512");
    shell_do(MIXT "bench --train --layers 1 --hidden-size 32 --heads 2 --kv-heads 1 --ffn-size 32 "
                  "--experts 2 --vocab-size 300 --context-length 64 -r 1 -b 1 --no-limits" ON_ONE);
}

static void bench_takes_lists(void **state)
{
    (void)state;
    shell_do(MIXT "convert run/model -o small.gguf" ON_ONE "&& " MIXT
                  "bench -m run -m small.gguf -p 8,16 -n 2 -pg 8,2 -pg 4,1 -d 0,32 -t 1,2 -r 1 "
                  "--no-limits -o csv | cut -d, -f1,4,7,15-");
    static const char *const models[] = {"run", "small.gguf"};
    static const char *const tests[][2] = {
        {"pp8", "8,0"}, {"pp16", "16,0"}, {"tg2", "0,2"}, {"pp8+tg2", "8,2"}, {"pp4+tg1", "4,1"}};
    char wanted[4000] = "model,threads,test,n_prompt,n_gen,n_depth\n";
    for (int i = 0; i < 2 * 2 * 2 * 5; i++) { /* the test runs fastest, then depth, then threads */
        char test[60];
        size_t used = strlen(wanted);
        bool deep = i / 5 % 2 == 1;
        snprintf(test, sizeof test, "%s%s,%s", tests[i % 5][0], deep ? " @ d32" : "",
                 tests[i % 5][1]);
        snprintf(wanted + used, sizeof wanted - used, "%s,%d,%s,%d\n", models[i / 20],
                 1 + i / 10 % 2, test, deep ? 32 : 0);
    }
    assert_string_equal(shell_out, wanted);
    shell_do(MIXT "bench -m run -p 4-8+2,2-8*2 -n 0 -r 1 --no-limits -o csv" ON_ONE "| cut -d, -f7 "
                  "| tr '\\n' ' '");
    assert_string_equal(shell_out, "test pp4 pp6 pp8 pp2 pp4 pp8 ");
    shell_do(MIXT "bench run small.gguf -p 4 -n 0 -r 1 --no-limits" ON_ONE);
    assert_has(shell_out, "\n| model      | test ");
    assert_has(shell_out, "\n| small.gguf | pp4 ");
    shell_do("mkdir -p 'a,\"b'; ln -sfn ../run 'a,\"b/m'; " MIXT
             "bench -m 'a,\"b/m' -p 4 -n 0 -r 1 --no-limits -o csv" ON_ONE);
    assert_has(shell_out, "\n\"a,\"\"b/m\",");
    static const char *const bad[] = {"-p x",       "-p 64,", "-p 8-4",    "-p 1-9*1", "-p -5-9",
                                      "-p 2000000", "-n 1.5", "-t 0",      "-t 1,x",   "-pg 5",
                                      "-pg 0,5",    "-pg 5,", "-pg 5,5,5", "-d 3-",    "-p 0-8*2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[200];
        snprintf(line, sizeof line, MIXT "bench -m run --no-limits %s", bad[i]);
        shell_refuses(line, "mixt bench: ");
    }
}

static void conversions_say_what_was_lost(void **state)
{
    (void)state;
    shell_do(MIXT "convert run/model -o k.gguf --type Q4_K_M" ON_ONE);
    assert_has(shell_err, "are no multiple of their type's block: written as ");
    assert_has(shell_err, "% of the weights)\n");
    assert_has(shell_err, " bits a weight; converted matrices lost ");
    shell_do(MIXT "convert run/model -o eight.gguf --type Q8_0" ON_ONE);
    assert_lacks(shell_err, "no multiple of");
    double eight = 0, four = 0;
    assert_int_equal(sscanf(strstr(shell_err, "lost "), "lost %lf%%", &eight), 1);
    shell_do(MIXT "convert run/model -o four.gguf --type Q4_0 --pure" ON_ONE);
    assert_int_equal(sscanf(strstr(shell_err, "lost "), "lost %lf%%", &four), 1);
    assert_true(eight > 0.1 && eight < 1.5 && four > 4 * eight && four < 20);
    shell_do(MIXT "convert eight.gguf -o again.gguf --type Q4_0" ON_ONE);
    assert_has(shell_err, "note: quantised already, and now once more: ");
    shell_do(MIXT "convert eight.gguf -o copy.gguf" ON_ONE);
    assert_lacks(shell_err, "lost");
    assert_lacks(shell_err, "quantised already");
}

/* What a capacity dropped has no expert in a trace either: the atlas counts what eval counts. */
static void dropped_choices_have_no_expert(void **state)
{
    (void)state;
    shell_train();
    shell_do(
        "\"$MIXT\" train --data text --out full --steps 2 --vocab-size 300 --layers 2 "
        "--hidden-size 32 --heads 2 --ffn-size 32 --experts 4 --experts-per-token 2 "
        "--evaluation-capacity 0.5 -t 1; \"$MIXT\" trace full --data text -o full.trace -t 1; "
        "\"$MIXT\" eval full --data text -t 1 | awk '$1 == \"all\" { print $NF + 0 }' >of_eval; "
        "\"$MIXT\" atlas full.trace --no-text | awk '/^layer .*dropped/ { on = 1; next } "
        "/^even/ { on = 0 } on { sum += $NF + 0; n++ } END { print sum / n }' >of_atlas; "
        "paste of_eval of_atlas | awk '{ exit !($1 > 30 && ($1 - $2) ^ 2 < 0.5 ^ 2) }'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_have_one_meaning),
        cmocka_unit_test(words_have_one_meaning),
        cmocka_unit_test(seed_is_seed_in_chat),
        cmocka_unit_test(slips_get_the_right_answer),
        cmocka_unit_test(color_needs_no_value),
        cmocka_unit_test(the_last_newline_of_a_prompt_goes),
        cmocka_unit_test(readers_may_leave),
        cmocka_unit_test(full_disks_are_said),
        cmocka_unit_test(what_is_read_is_said),
        cmocka_unit_test(defaults_fit_small_models),
        cmocka_unit_test(bench_takes_lists),
        cmocka_unit_test(conversions_say_what_was_lost),
        cmocka_unit_test(dropped_choices_have_no_expert),
    };
    return cmocka_run_group_tests_name("use", tests, set_up, scratch_remove);
}
