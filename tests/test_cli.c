/* The program as a person or a script meets it: run as a process of its own. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "core/files.h"
#include "scratch.h"
#include "shell.h"

enum { TEXT_MAX = 1 << 20, ARGUMENTS_MAX = 64 };

static char model[4200], text_folder[4200];

typedef struct outcome {
    int status; /* exit status, or 1000 + signal */
    char out[TEXT_MAX], err[TEXT_MAX];
} outcome;

static outcome last;

/* ---- processes */

static const char *at(const char *name)
{
    static char paths[8][4300];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    return path;
}

/* Starts argv with files as its streams. */
static pid_t start(const char *const *argv, const char *in, const char *out)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(SHELL_SECONDS_MAX);
        redirect_stream(in, O_RDONLY, STDIN_FILENO);
        redirect_stream(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
        redirect_stream(at("stderr"), O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return child;
}

static void run_argv(const char *const *argv, const char *in, const char *out)
{
    last.status = finish_child(start(argv, in, out));
    read_text(at("stderr"), last.err, TEXT_MAX);
    last.out[0] = 0;
    if (strcmp(out, "/dev/full") != 0) {
        read_text(out, last.out, TEXT_MAX);
    }
}

/* Runs mixt with arguments up to NULL. */
static void mixt(const char *first, ...)
{
    const char *argv[ARGUMENTS_MAX] = {shell_program};
    size_t count = 1;
    va_list list;
    va_start(list, first);
    for (const char *a = first; a != NULL && count + 1 < ARGUMENTS_MAX;
         a = va_arg(list, const char *)) {
        argv[count++] = a;
    }
    va_end(list);
    run_argv(argv, "/dev/null", at("stdout"));
}

/* Status 2, one line on standard error that begins with "mixt" and holds `part`, nothing else. */
static void assert_refused(const char *part)
{
    if (last.status != 2) {
        fail_msg("status %d, not 2; %s", last.status, last.err);
    }
    assert_has(last.err, part);
    assert_memory_equal(last.err, "mixt", 4);
    char *end = strchr(last.err, '\n');
    assert_non_null(end);
    if (end[1] != 0) {
        fail_msg("more than one line: %s", last.err);
    }
    assert_string_equal(last.out, "");
}

static void assert_done(void)
{
    if (last.status != 0) {
        fail_msg("status %d: %s", last.status, last.err);
    }
}

/* ---- a tiny model for all tests */

static void make_text(void)
{
    static const char *const names[] = {"one", "two"};
    static const char *const lines[] = {"int main(void) { return 0; }\n",
                                        "The quick brown fox jumps over the lazy dog.\n"};
    for (int d = 0; d < 2; d++) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", text_folder, names[d]);
        mkdir(text_folder, 0700);
        mkdir(path, 0700);
        for (int f = 0; f < 12; f++) {
            char body[8192] = "";
            snprintf(path, sizeof path, "%s/%s/%d.txt", text_folder, names[d], f);
            for (int i = 0; i < 40 + f; i++) {
                size_t used = strlen(body);
                snprintf(body + used, sizeof body - used, "%d %s", i * f, lines[d]);
            }
            write_file(path, body, strlen(body));
        }
    }
}

static void train_tiny(const char *out, const char *steps)
{
    mixt("train", "--data", text_folder, "--out", out, "--steps", steps, "--vocab-size", "300",
         "--layers", "2", "--hidden-size", "32", "--heads", "2", "--kv-heads", "1", "--head-dim",
         "16", "--ffn_size=32", "--experts", "4", "--window", "32", "--context-length", "64",
         "--batch-size", "4", "--heldout", "0.3", "--warmup", "2", "-t", "1", NULL);
}

static int set_up(void **state)
{
    if (shell_make(state) != 0) {
        return -1;
    }
    snprintf(text_folder, sizeof text_folder, "%s/text", scratch);
    snprintf(model, sizeof model, "%s/run", scratch);
    make_text();
    train_tiny(model, "6");
    if (last.status != 0) {
        fprintf(stderr, "%s\n", last.err);
    }
    return last.status == 0 ? 0 : -1;
}

/* ---- usage */

static void test_help(void **state)
{
    static const char *const names[] = {"demo",  "train", "run",  "eval",     "trace", "atlas",
                                        "probe", "bench", "info", "tokenize", "help"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char line[80];
        mixt("help", names[i], NULL);
        assert_done();
        snprintf(line, sizeof line, "usage: mixt %s ", names[i]);
        assert_has(last.out, line);
        static char first[TEXT_MAX];
        strcpy(first, last.out);
        mixt(names[i], "--help", NULL);
        assert_done();
        assert_string_equal(first, last.out);
        mixt("--help", NULL);
        assert_done();
        assert_has(last.out, names[i]);
    }
    mixt("--version", NULL);
    assert_done();
    assert_memory_equal(last.out, "mixt 0.", 7);
    mixt(NULL, NULL);
    assert_int_equal(last.status, 2);
    mixt("help", "--man", NULL);
    assert_done();
    assert_has(last.out, ".TH MIXT 1");
    assert_has(last.out, "\\-\\-learning\\-rate");
}

static void test_completion(void **state)
{
    (void)state;
    mixt("--completion-bash", NULL);
    assert_done();
    write_file(at("completion"), last.out, strlen(last.out));
    char script[9000];
    snprintf(script, sizeof script,
             ". %s; COMP_WORDS=(mixt train --learn); COMP_CWORD=2; _mixt; echo ${COMPREPLY[@]}; "
             "COMP_WORDS=(mixt tr); COMP_CWORD=1; _mixt; echo ${COMPREPLY[@]}",
             at("completion"));
    run_argv((const char *const[]){"/bin/bash", "-c", script, NULL}, "/dev/null", at("stdout"));
    assert_done();
    assert_string_equal(last.out, "--learning-rate\ntrain trace\n");
}

/* ---- refusals */

typedef struct refusal {
    const char *arguments[6];
    const char *part;
} refusal;

static const refusal refusals[] = {
    {{"dmeo"}, "dmeo: no such command; is it demo? (see mixt help)"},
    {{"frobnicate"}, "frobnicate: no such command"},
    {{"--frob"}, "--frob: no such option"},
    {{"train", "--threads", "0"},
     "mixt train: --threads: 0 is not in 1..256 (see mixt help train)"},
    {{"train", "--threads", "-1"}, "--threads: -1 is not in 1..256"},
    {{"train", "--threads=1000000000"}, "is not in 1..256"},
    {{"run", "-c", "9223372036854775808"}, "--context-length: 9223372036854775808 is not in"},
    {{"run", "-m", "x", "-ctk", "f16"}, "keys and values have one type; say both, or --cache-type"},
    {{"eval", "-m", "x", "-ctv", "q8_0"}, "keys and values have one type"},
    {{"bench", "-ctk", "f16", "-ctv", "bf16"}, "keys and values have one type"},
    {{"trace", "-m", "x", "-ctk", "bf16"}, "keys and values have one type"},
    {{"chat", "-m", "x", "-ctv", "f16"}, "keys and values have one type"},
    {{"run", "-ctk", "q4_0"}, "--cache-type-k: \"q4_0\" is not one of: auto f32 f16 bf16 q8_0"},
    {{"eval", "--cache-type", "iq4_nl"}, "\"iq4_nl\" is not one of: f32 f16 bf16 q8_0"},
    {{"run", "--ctx-size=-9223372036854775809"}, "is not in 0.."},
    {{"train", "--steps", "99999999999999999999"}, "--steps: 99999999999999999999 is not in"},
    {{"train", "--steps", "ten"}, "--steps: \"ten\" is not a whole number"},
    {{"train", "--steps", "1.5"}, "is not a whole number"},
    {{"train", "--steps", ""}, "is not a whole number"},
    {{"train", "--steps", " 5"}, "is not a whole number"},
    {{"train", "--learning-rate", "fast"}, "--learning-rate: \"fast\" is not a number"},
    {{"train", "--learning-rate", "nan"}, "is not a number"},
    {{"train", "--learning-rate", "inf"}, "is not a number"},
    {{"train", "--learning-rate", "-1"}, "--learning-rate: -1 is not in 0.."},
    {{"train", "--learning-rate", "0x1p-3"}, "is not a number"},
    {{"train", "--beta1", "1"}, "--beta1: 1 is not in"},
    {{"train", "--schedule", "square"}, "\"square\" is not one of: cosine wsd constant"},
    {{"train", "--seed", "-2"}, "--seed: -2 is not -1 or in 0..18446744073709551615"},
    {{"train", "--seed", "18446744073709551616"}, "--seed: 18446744073709551616 is not"},
    {{"train", "--bf16=perhaps"}, "--bf16: \"perhaps\" is not true or false"},
    {{"train", "--bach-size", "3"}, "--bach-size: no such option; is it --batch-size?"},
    {{"train", "--no-steps"}, "--no-steps: no such option"},
    {{"train", "-Z"}, "-Z: no such option"},
    {{"train", "-dx"}, "-dx: no such option"},
    {{"train", "--steps"}, "--steps: needs a value"},
    {{"train", "--steps", "--seed", "1"}, "--steps: needs a value"},
    {{"train", "--out", ""}, "--out: the value is empty"},
    {{"train", "--data", "x"}, "--out: needed"},
    {{"train", "--out", "/tmp/nothing-is-there"}, "--data: needed"},
    {{"train", "a.conf", "b.conf"}, "a.conf: No such file or directory"},
    {{"train", "--config", "/tmp"}, "/tmp: is a folder, not a file"},
    {{"train", "--config", "/dev/zero"}, "/dev/zero: not a regular file"},
    {{"train", "--cpu", "sse2"}, "is not one of: auto scalar avx2 avx512 amx neon dotprod i8mm"},
    {{"run", "-p", "x"}, "--model: needed"},
    {{"run", "-m", "x"}, "--prompt, --file or --interactive: one is needed"},
    {{"run", "-m", "x", "-p", "y", "-f"}, "--file: needs a value (FILE)"},
    {{"run", "-m", "x", "-f", "/nowhere"}, "/nowhere: No such file"},
    {{"run", "-m", "x", "-f", "/dev/zero"}, "/dev/zero: not a regular file"},
    {{"run", "-m", "/nowhere", "-p", "x"}, "/nowhere"},
    {{"run", "-m", "/dev/zero", "-p", "x"}, "/dev/zero"},
    {{"run", "--temp", "-0.5"}, "--temp: -0.5 is not in 0..1000"},
    {{"run", "--top-p", "1.5"}, "--top-p: 1.5 is not in 0..1"},
    {{"run", "--repeat-penalty", "0"}, "--repeat-penalty: 0 is not above 0 and at most"},
    {{"run", "-n", "-2"}, "--predict: -2 is not in"},
    {{"eval", "-m", "x"}, "--data or --ppl-file: one is needed"},
    {{"eval", "--heldout", "1"}, "--heldout: 1 is not in 0..0.9"},
    {{"trace", "-m", "x"}, "--data: needed"},
    {{"atlas"}, "--trace: needed"},
    {{"atlas", "one", "two"}, "a second trace: is for a page"},
    {{"atlas", "/nowhere"}, "/nowhere"},
    {{"atlas", "/dev/zero"}, "/dev/zero"},
    {{"info"}, "--model: needed"},
    {{"info", "/nowhere"}, "/nowhere"},
    {{"info", "x", "--plan", "all"}, "is not one of"},
    {{"info", "x", "--layers", "4"}, "--layers: of --plan train --ranks N"},
    {{"info", "x", "--ranks", "4"}, "--ranks: goes with --plan train"},
    {{"info", "--plan", "train", "--ranks", "4", "--network=fast"}, "\"fast\" is not a rate"},
    {{"info", "--plan", "train", "--ranks", "4", "--tokens=4"}, "--tokens: not with --ranks"},
    {{"bench", "-r", "0"}, "--repetitions: 0 is not in 1..10000"},
    {{"bench", "-o", "sql"}, "is not one of: md csv json jsonl"},
    {{"tokenize", "-p", "x"}, "--tokenizer: needed"},
    {{"tokenize", "-m", "/nowhere", "-p", "x"}, "/nowhere"},
    {{"help", "nothing"}, "nothing: no such command"},
    {{"demo", "--seconds", "0"}, "--seconds: 0 is not in"},
    {{"train", "\xff\xfe"}, "argument 1: not valid UTF-8"},
    {{"train", "--out", "\xc0\x80"}, "argument 2: not valid UTF-8"},
    {{"\xff"}, "not valid UTF-8"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const char *argv[8] = {shell_program};
        for (size_t j = 0; j < 6 && refusals[i].arguments[j] != NULL; j++) {
            argv[j + 1] = refusals[i].arguments[j];
        }
        run_argv(argv, "/dev/null", at("stdout"));
        assert_refused(refusals[i].part);
    }
}

static void test_huge_argument(void **state)
{
    (void)state;
    static char huge[128 * 1024 - 8];
    memset(huge, 'a', sizeof huge - 1);
    mixt("run", "-p", huge, NULL);
    assert_refused("argument 2: 131063 bytes are more than 65536");
}

static void test_odd_model_paths(void **state)
{
    (void)state;
    mkdir(at("empty-folder"), 0700);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    write_file(at("empty-file"), "", 0);
    const char *const paths[] = {at("empty-folder"), at("fifo"), at("empty-file")};
    for (size_t i = 0; i < 3; i++) {
        mixt("run", "-m", paths[i], "-p", "x", NULL);
        assert_refused(paths[i]);
        mixt("eval", "-m", model, "--data", paths[i], NULL);
        assert_int_equal(last.status, 2);
        mixt("tokenize", "-m", paths[i], "-p", "x", NULL);
        assert_refused(paths[i]);
        mixt("atlas", paths[i], NULL);
        assert_refused(paths[i]);
    }
}

/* ---- config files */

typedef struct config_case {
    const char *text;
    const char *part;
} config_case;

static void test_config_refusals(void **state)
{
    static const config_case cases[] = {
        {"steps = 10\nbatch_size = none\n", ":2: batch-size: \"none\" is not a whole number"},
        {"steps 10\n", ":1: not a line of the form key = value"},
        {"= 10\n", ":1: not a line of the form key = value"},
        {"# fine\n\n  stepz = 10\n", ":3: stepz: no such option; is it steps?"},
        {"threads = 0 # none\n", ":1: threads: 0 is not in 1..256"},
        {"out = 'run\n", ":1: the quote is not closed"},
        {"out = 'run' later\n", ":1: text behind the closing quote"},
        {"config = other.conf\n", ":1: a config file cannot name another"},
        {"out = \xff\n", ":1: not valid UTF-8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(at("bad.conf"), cases[i].text, strlen(cases[i].text));
        mixt("train", at("bad.conf"), NULL);
        assert_refused(cases[i].part);
        assert_has(last.err, "bad.conf");
    }
    static char line[9000];
    memset(line, 'x', sizeof line);
    write_file(at("bad.conf"), line, sizeof line);
    mixt("train", "--config", at("bad.conf"), NULL);
    assert_refused(":1: the line is longer than");
}

/* A config file as nanoGPT writes it; what stands later on the command line wins. */
static void test_config(void **state)
{
    (void)state;
    char text[5000];
    snprintf(text, sizeof text,
             "# a run\nout_dir = '%s' # where\ndata = \"%s\"\nmax_iters = 500\nn_layer = 1\n"
             "n_embd = 32\nn_head=2\nkv_heads = 1\nhead_dim = 16\nffn-size = 32\nexperts = 2\n"
             "block_size = 32\nbatch_size = 2\nvocab_size = 280\ntie_embeddings = True\n"
             "grad_clip = 0.5\nlearning_rate = 1e-3\n",
             at("configured"), text_folder);
    write_file(at("good.conf"), text, strlen(text));
    mixt("train", at("good.conf"), "--max_iters=2", "--seed", "7", "--threads", "1", NULL);
    assert_done();
    static char kept[TEXT_MAX];
    char path[4400];
    snprintf(path, sizeof path, "%s/train.conf", at("configured"));
    read_text(path, kept, TEXT_MAX);
    assert_has(kept, "\nsteps = 2\n");
    assert_has(kept, "\nseed = 7\n");
    assert_has(kept, "\nlayers = 1\n");
    assert_has(kept, "\ntie-embeddings = true\n");
    assert_has(kept, "\nclip = 0.5\n");
    assert_has(kept, "\nlearning-rate = 0.001\n");
    snprintf(path, sizeof path, "%s", at("configured"));
    mixt("info", path, "--json", NULL);
    assert_done();
    assert_has(last.out, "\"layers\": 1,");
    assert_has(last.out, "\"experts\": 2,");
}

static void test_machine(void **state)
{
    (void)state;
    mixt("info", "--machine", NULL);
    assert_done();
    assert_has(last.out, "\n--matmul bf16          fp32, ");
    assert_has(last.out, " GFLOP/s, taken\n");
    mixt("info", "--machine", "--json", NULL);
    assert_done();
    assert_has(last.out, "\"bf16_ways\": {\"fp32\": ");
}

/* ---- the commands on the tiny model */

static void test_run(void **state)
{
    (void)state;
    mixt("run", "-m", model, "-p", "The quick", "-n", "12", "--temp", "0", NULL);
    assert_done();
    assert_memory_equal(last.out, "The quick", 9);
    assert_has(last.err, "generated: ");
    static char first[TEXT_MAX];
    strcpy(first, last.out);
    char folder_model[4300];
    snprintf(folder_model, sizeof folder_model, "%s/model", model);
    mixt("run", folder_model, "--prompt=The quick", "-n12", NULL);
    assert_refused("-n12: no such option");
    mixt("run", folder_model, "--prompt=The quick", "--predict=12", "--temp", "0", "-t", "2", NULL);
    assert_done();
    assert_string_equal(first, last.out);
    mixt("run", "-m", model, "-p", "The quick", "-n", "12", "--temp", "0", "--no-mmap", NULL);
    assert_done();
    assert_string_equal(first, last.out);
    mixt("run", "-m", model, "-p", "The quick", "-n", "20", "-s", "5", NULL);
    assert_done();
    strcpy(first, last.out);
    mixt("run", "-m", model, "-p", "The quick", "-n", "20", "-s", "5", NULL);
    assert_string_equal(first, last.out);
    mixt("run", "-m", model, "-p", "The quick", "-n", "4", "--hide-prompt", "-q", NULL);
    assert_done();
    assert_string_equal(last.err, "");
    mixt("run", "-m", model, "-p", "", "-n", "4", NULL);
    assert_done();
}

static bool is_utf8(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != 0;) {
        int more = *c < 0x80   ? 0
                   : *c < 0xC2 ? -1
                   : *c < 0xE0 ? 1
                   : *c < 0xF0 ? 2
                   : *c < 0xF5 ? 3
                               : -1;
        if (more < 0) {
            return false;
        }
        for (c++; more > 0; more--, c++) {
            if ((*c & 0xC0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

/* At a high temperature a tiny model emits random bytes: what comes out is UTF-8 all the same. */
static void test_run_writes_characters(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 3; seed++) {
        char number[16];
        snprintf(number, sizeof number, "%d", seed);
        mixt("run", "-m", model, "-p", "\xc3\xa9", "-n", "60", "--temp", "50", "--top-k", "0",
             "--top-p", "1", "--min-p", "0", "-s", number, NULL);
        assert_done();
        assert_true(is_utf8(last.out));
        assert_has(last.out, "\xef\xbf\xbd");
    }
}

static void test_prompts(void **state)
{
    (void)state;
    const char *from_stdin[] = {shell_program, "run", "-m", model, "-p", "-", "-n", "3", NULL};
    write_file(at("prompt"), "The lazy", 8);
    run_argv(from_stdin, at("prompt"), at("stdout"));
    assert_done();
    assert_memory_equal(last.out, "The lazy", 8);
    mixt("run", "-m", model, "-f", at("prompt"), "-n", "3", NULL);
    assert_done();
    assert_memory_equal(last.out, "The lazy", 8);
    write_file(at("prompt"), "a\0b", 3);
    run_argv(from_stdin, at("prompt"), at("stdout"));
    assert_true(last.status == 0 || last.status == 2);
    write_file(at("prompt"), "a\xff", 2);
    run_argv(from_stdin, at("prompt"), at("stdout"));
    assert_refused("standard input: not valid UTF-8");
    static char big[4000];
    memset(big, '#', sizeof big);
    for (size_t i = 0; i < sizeof big; i += 3) {
        big[i] = (char)('a' + i % 26);
    }
    write_file(at("prompt"), big, sizeof big);
    mixt("run", "-m", model, "-f", at("prompt"), NULL);
    assert_refused("tokens do not fit into a context of 64");
}

static void test_interactive(void **state)
{
    (void)state;
    const char *argv[] = {shell_program, "run", "-m", model, "-i", "-n", "4", "--temp", "0", NULL};
    write_file(at("lines"), "The quick\nbrown\n", 16);
    run_argv(argv, at("lines"), at("stdout"));
    assert_done();
    int lines = 0;
    for (const char *c = last.out; *c != 0; c++) {
        lines += *c == '\n';
    }
    assert_true(lines >= 2);
    run_argv(argv, "/dev/null", at("stdout"));
    assert_done();
}

static void test_eval(void **state)
{
    (void)state;
    mixt("eval", "-m", model, "--data", text_folder, NULL);
    assert_done();
    assert_has(last.out, "bits/byte");
    assert_has(last.out, "\none ");
    assert_has(last.out, "\nall ");
    mixt("eval", "-m", model, "--data", text_folder, "--heldout", "0.3", "--json", NULL);
    assert_done();
    assert_has(last.out, "{\"domains\": [{\"domain\": \"one\", \"tokens\": ");
    assert_has(last.out, "\"all\": {\"tokens\": ");
}

static void test_trace_and_atlas(void **state)
{
    (void)state;
    char trace[4300];
    char page[4300];
    snprintf(trace, sizeof trace, "%s", at("trace.safetensors"));
    snprintf(page, sizeof page, "%s", at("atlas.html"));
    mixt("trace", "-m", model, "--data", text_folder, "-o", trace, "-n", "500", NULL);
    assert_done();
    mixt("trace", "-m", model, "--data", text_folder, "-o", trace, "-n", "500", "--append",
         "--cache-type", "f16", NULL);
    assert_int_equal(last.status, 2); /* behind lines of work that was done */
    assert_has(last.err, "differs: held_out");
    mixt("atlas", trace, "--html", page, NULL);
    assert_done();
    assert_null(strchr(last.out, '\033')); /* no colours into a file */
    assert_has(last.out, "one");
    static char html[TEXT_MAX];
    read_text(page, html, TEXT_MAX);
    assert_has(html, "<svg");
    mixt("atlas", trace, "--color", "always", NULL);
    assert_done();
    assert_non_null(strchr(last.out, '\033'));
    size_t with_text = strlen(last.out);
    mixt("atlas", trace, "--color", "always", "--no-text", NULL);
    assert_done();
    assert_true(strlen(last.out) < with_text);
    mixt("trace", "-m", model, "--data", text_folder, "-o", trace, "--top-experts", "0:1", NULL);
    assert_done();
    mixt("atlas", trace, "--no-text", NULL);
    assert_done();
    assert_has(last.out, "1 to 2 of 4 experts a token");
}

/* The way of choosing goes by its one switch into files, words and refusals. */
static void test_router_select(void **state)
{
    (void)state;
    char out[200], trace[200], gguf[200];
    snprintf(out, sizeof out, "%s", at("hash"));
    snprintf(trace, sizeof trace, "%s", at("hash.safetensors"));
    snprintf(gguf, sizeof gguf, "%s", at("hash.gguf"));
    mixt("train", "--data", text_folder, "--out", out, "--steps", "3", "--layers", "2",
         "--hidden-size", "32", "--heads", "2", "--kv-heads", "1", "--head-dim", "16",
         "--ffn_size=32", "--experts", "4", "--window", "32", "--context-length", "64",
         "--vocab-size", "300", "--router-select", "hash", "--heldout", "0.3", NULL);
    assert_int_equal(last.status, 0);
    mixt("info", out, NULL);
    assert_has(last.out, "2 of 4 experts chosen by hash");
    mixt("run", "-m", out, "-p", "the", "-n", "4", "--seed", "1", NULL);
    assert_int_equal(last.status, 0);
    mixt("trace", "-m", out, "--data", text_folder, "-o", trace, NULL);
    assert_int_equal(last.status, 0);
    mixt("atlas", trace, NULL);
    assert_has(last.out, "2 of 4 experts a token, chosen by hash;");
    mixt("convert", out, "-o", gguf, NULL);
    assert_int_equal(last.status, 0);
    assert_has(last.err, "only mixt opens it, as no family that others know holds router.select "
                         "hash (mixtral: top-k)");
    mixt("info", gguf, NULL);
    assert_has(last.out, "2 of 4 experts chosen by hash");
    mixt("train", "--data", text_folder, "--out", out, "--steps", "5", "--router-select", "top-k",
         NULL);
    assert_int_equal(last.status, 2);
    mixt("train", "--data", text_folder, "--out", at("other"), "--router-select", "dice", NULL);
    assert_int_equal(last.status, 2);
    assert_has(last.err,
               "--router-select: \"dice\" is not one of: top-k hash all expert-choice sinkhorn");
}

/* Ways of choosing that see more in training than elsewhere say so wherever numbers are printed. */
static void test_router_methods(void **state)
{
    (void)state;
    static const struct {
        const char *flag, *word, *says, *note; /* note NULL: training chose as everything does */
    } ways[] = {
        {"--router-select", "all", "all 4 experts", NULL},
        {"--router-select", "expert-choice", "the best 2 of 4 experts (expert-choice), weighed by",
         "each token has its own k best experts, as in generation; training let experts choose"},
        {"--router-select", "sinkhorn", "the best 2 of 4 experts (sinkhorn), weighed by",
         "each token has its own k best experts, as in generation; training balanced them over the "
         "batch"},
        {"--router-unit", "sequence", "for a document by the mean of its rows",
         "the router decides once for a document's tokens in a window and sees the later ones, "
         "which generation cannot"},
        {"--router-weights", "redrawn", "the router random",
         "the router is the one that training began with; in each step it was drawn anew"},
        {"--router-noise", "top-k", "noise of learned deviation added in training", NULL},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char out[200], trace[200], gguf[200];
        snprintf(out, sizeof out, "%s", at(ways[i].word));
        snprintf(trace, sizeof trace, "%s.safetensors", at(ways[i].word));
        snprintf(gguf, sizeof gguf, "%s.gguf", at(ways[i].word));
        mixt("train", "--data", text_folder, "--out", out, "--steps", "3", "--layers", "2",
             "--hidden-size", "32", "--heads", "2", "--kv-heads", "1", "--head-dim", "16",
             "--ffn_size=32", "--experts", "4", "--window", "32", "--context-length", "64",
             "--vocab-size", "300", ways[i].flag, ways[i].word, "--heldout", "0.3", NULL);
        assert_done();
        assert_true((ways[i].note != NULL) == (strstr(last.out, "held-out scores: ") != NULL));
        assert_has(last.out, ways[i].note != NULL ? ways[i].note : "bits/byte");
        mixt("info", out, NULL);
        assert_has(last.out, ways[i].says);
        mixt("run", "-m", out, "-p", "the", "-n", "4", "--seed", "1", NULL);
        assert_done();
        assert_true((ways[i].note != NULL) == (strstr(last.err, "note: ") != NULL));
        mixt("eval", "-m", out, "--data", text_folder, "--json", NULL);
        assert_done();
        assert_true((ways[i].note != NULL) == (strstr(last.out, "\"held_out\": ") != NULL));
        mixt("trace", "-m", out, "--data", text_folder, "-o", trace, NULL);
        assert_done();
        mixt("atlas", trace, NULL);
        assert_done();
        assert_true((ways[i].note != NULL) == (strstr(last.out, "Mind that ") != NULL));
        mixt("convert", out, "-o", gguf, NULL);
        assert_done();
        mixt("info", gguf, NULL); /* GGUF has no place for how a router was trained */
        assert_has(last.out, strcmp(ways[i].word, "redrawn") == 0 ? "routing" : ways[i].says);
        mixt("run", "-m", gguf, "-p", "the", "-n", "4", "--seed", "1", NULL);
        assert_done();
    }
}

/* Several things that have to be known of the same scores: all of them, in one line. */
static void test_router_notes(void **state)
{
    (void)state;
    char out[200], trace[200], page[200];
    static const char *const words[] = {
        "sees the later ones, which generation cannot", "; and the router is ",
        "it was drawn anew; and what is dropped ", "generation drops nothing"};
    snprintf(out, sizeof out, "%s", at("notes"));
    snprintf(trace, sizeof trace, "%s", at("notes.safetensors"));
    snprintf(page, sizeof page, "%s", at("notes.html"));
    mixt("train", "--data", text_folder, "--out", out, "--steps", "2", "--layers", "1",
         "--hidden-size", "32", "--heads", "2", "--kv-heads", "1", "--head-dim", "16",
         "--ffn_size=32", "--experts", "4", "--window", "32", "--vocab-size", "300",
         "--router-unit", "sequence", "--router-weights", "redrawn", "--evaluation-capacity", "1.5",
         "--heldout", "0.3", NULL);
    for (int look = 0; look < 4; look++) {
        const char *file = look < 2 ? at("stdout") : look == 2 ? trace : page;
        if (look == 1) {
            mixt("eval", "-m", out, "--data", text_folder, "--json", NULL);
        } else if (look == 2) {
            mixt("trace", "-m", out, "--data", text_folder, "-o", trace, NULL);
        } else if (look == 3) {
            mixt("atlas", trace, "--html", page, NULL);
        }
        assert_done();
        char *text = NULL;
        size_t length = 0, begin = look == 2 ? 8 : 0; /* behind the length of the header */
        assert_int_equal(mixt_file_read(file, 1 << 24, &text, &length, NULL), MIXT_OK);
        for (int i = 0; i < 4; i++) {
            if (strstr(text + begin, words[i]) == NULL) {
                fail_msg("%s has no '%s'", file, words[i]);
            }
        }
        free(text);
    }
}

/* What could not be trained or saved leaves nothing; what only mixt opens is said at the start. */
static void test_option_sets(void **state)
{
    (void)state;
    char out[200], gguf[200];
    snprintf(out, sizeof out, "%s", at("never"));
    mixt("train", "--data", text_folder, "--out", out, "--experts-per-token", "1", NULL);
    assert_refused("the router would not learn");
    assert_int_not_equal(access(out, F_OK), 0);
    mixt("train", "--data", text_folder, "--out", out, "--head-dim", "7", NULL);
    assert_refused("head_dim 7 is odd");
    assert_int_not_equal(access(out, F_OK), 0);
    mixt("train", "--data", at("nothing"), "--out", out, NULL);
    assert_refused("nothing");
    assert_int_not_equal(access(out, F_OK), 0);
    mixt("train", "--data", text_folder, "--out", out, "--init-from",
         "tests/fixtures/families/gpt_oss", "--tokenizer", model, NULL);
    assert_int_equal(last.status, 2);
    assert_int_not_equal(access(out, F_OK), 0);
    snprintf(out, sizeof out, "%s", at("scaled"));
    snprintf(gguf, sizeof gguf, "%s", at("scaled.gguf"));
    mixt("train", "--data", text_folder, "--out", out, "--steps", "2", "--layers", "1",
         "--hidden-size", "32", "--heads", "2", "--kv-heads", "1", "--head-dim", "16",
         "--ffn_size=32", "--experts", "4", "--window", "32", "--context-length", "64",
         "--vocab-size", "300", "--router-scale", "2", "--heldout", "0.3", NULL);
    assert_int_equal(last.status, 0);
    assert_has(last.err, "only mixt will open it, as no family that others know holds router.scale "
                         "2 (mixtral: 1)");
    mixt("train", "--out", out, "--steps", "3", NULL);
    assert_int_equal(last.status, 0);
    assert_has(last.err, "resumed");
    mixt("run", "-m", out, "-p", "the", "-n", "4", "--seed", "1", NULL);
    assert_int_equal(last.status, 0);
    mixt("convert", out, "-o", gguf, NULL);
    assert_int_equal(last.status, 0);
    mixt("convert", gguf, "-o", gguf, NULL);
    assert_refused("is the model that is converted");
    mixt("convert", gguf, "-o", at("other.gguf"), "--data", text_folder, "--save-importance", gguf,
         NULL);
    assert_refused("is read here; it would be written over");
    mixt("trace", "-m", gguf, "--data", text_folder, "-o", gguf, NULL);
    assert_refused("is read here; it would be written over");
    char weights[300];
    snprintf(weights, sizeof weights, "%s/model/model.safetensors", out);
    assert_int_equal(access(weights, F_OK), 0);
    mixt("trace", "-m", at("scaled/model"), "--data", text_folder, "-o", weights, NULL);
    assert_refused("is read here; it would be written over");
}

static void test_info(void **state)
{
    (void)state;
    mixt("info", model, NULL);
    assert_done();
    assert_has(last.out, "family                 mixtral (Mixtral)\n");
    assert_has(last.out, "4 of width 32, 2 for a token\n");
    assert_has(last.out, "softmax over 4 experts, the best 2, weights renormalised, scale 1\n");
    assert_has(last.out, "\nF32 ");
    mixt("info", "--families", NULL);
    assert_done();
    assert_has(last.out, "gpt_oss");
    mixt("info", model, "--check", "--json", NULL);
    assert_done();
    assert_has(last.out, "\"types\": [{\"type\": \"F32\"");
    mixt("info", model, "--tensors", NULL);
    assert_done();
    assert_has(last.out, "[300, 32]");
    static const char *const phases[] = {"train", "score", "prefill", "decode"};
    for (int i = 0; i < 4; i++) {
        mixt("info", model, "--plan", phases[i], "-n", "16", NULL);
        assert_done();
        assert_has(last.out, "experts");
        assert_has(last.out, "route");
    }
}

/* On paper: of a model's own shape, which options change, and of one that is nowhere. */
static void test_ranks_cost(void **state)
{
    (void)state;
    mixt("info", model, "--plan", "train", "--ranks", "4", "-b", "1", "--window", "16",
         "--data-parallel", "4", "--flops", "1T", "--bandwidth", "100G", NULL);
    assert_done();
    assert_has(last.out, "4: 4 copies of the experts, each over 1; a rank holds 4 of a layer's\n");
    assert_has(last.out, " for 64 tokens: each rank runs 1 micro batch of 16\n");
    assert_has(last.out, "network                12.5 GB/s each way, 5 us a message\n");
    assert_has(last.out, "\n  gradients summed ");
    mixt("info", model, "--plan", "train", "--ranks=2", "--experts=6", "--accumulation=4", "--json",
         "--window=16", "--data-parallel=2", "--flops=1e12", "--bandwidth=1e11", NULL);
    assert_done();
    assert_has(last.out, "{\"ranks\": 2, \"data_parallel\": 2, \"expert_parallel\": 1, "
                         "\"experts_held\": 6, \"moe_layers\": 2, \"runs\": 2, ");
    assert_has(last.out, ", \"flops\": 1e+12, \"read_bytes\": 1e+11, ");
    mixt("info", "--plan", "train", "--ranks", "3", "--data-parallel", "3", "--layers", "100",
         "--flops", "10T", "--bandwidth", "1T", "--network", "400G", NULL);
    assert_done();
    assert_has(last.out, "efficiency ");
    mixt("info", "--plan", "train", "--ranks", "2", "--experts", "8", "--exchange-chunks", "3",
         "--flops", "10T", "--bandwidth", "1T", NULL);
    assert_done();
    assert_has(last.out, " of it hidden; 3 chunks\n");
    mixt("info", "--plan", "train", "--ranks", "2", "--exchange-chunks", "17", NULL);
    assert_refused("--exchange-chunks");
    mixt("info", "--plan", "train", "--ranks", "2", "--experts", "8", "--exchange-chunks", "5",
         "--flops", "10T", "--bandwidth", "1T", NULL);
    assert_refused("exchange_chunks 5: a rank has 4 experts of a layer");
    mixt("info", "--plan", "train", "--ranks", "3", "--accumulation", "4", NULL);
    assert_refused("accumulation 4");
}

static void test_tokenize(void **state)
{
    (void)state;
    mixt("tokenize", "-m", model, "-p", "The quick \xe2\x82\xac", NULL);
    assert_done();
    char ids[1000];
    snprintf(ids, sizeof ids, "%.900s", last.out);
    ids[strcspn(ids, "\n")] = 0;
    mixt("tokenize", "-m", model, "-p", ids, "--decode", NULL);
    assert_done();
    assert_string_equal(last.out, "The quick \xe2\x82\xac");
    mixt("tokenize", "-m", model, "-p", "ab\n", "--pieces", NULL);
    assert_done();
    assert_has(last.out, "\\x0a\n");
    mixt("tokenize", "-m", model, "-p", "", "--count", NULL);
    assert_done();
    assert_string_equal(last.out, "0\n");
    mixt("tokenize", "-m", model, "-p", "5 300", "--decode", NULL);
    assert_int_equal(last.status, 2);
    assert_has(last.err, "\"300\" is not an id in 0..299");
}

static void test_bench(void **state)
{
    (void)state;
    mixt("bench", "-m", model, "-p", "16", "-n", "4", "-r", "2", "-t", "1", NULL);
    assert_done();
    assert_has(last.out, "| pp16 ");
    assert_has(last.out, "| tg4 ");
    mixt("bench", "-m", model, "--train", "--window", "16", "-b", "2", "-r", "2", "-t", "1", "-o",
         "jsonl", NULL);
    assert_done();
    const char *once = strstr(last.out, "\"tokens_per_second\": ");
    assert_non_null(once);
    assert_non_null(strstr(once + 1, "\"tokens_per_second\": "));
    mixt("bench", "-m", model, "-p", "16", "-n", "0", "-r", "1", "-o", "csv", "-t", "1", NULL);
    assert_done();
    assert_memory_equal(last.out, "model,params,", 13);
    mixt("bench", "-m", model, "-p", "0", "-n", "4", "-r", "2", "-t", "1", "--operators", NULL);
    assert_done();
    assert_has(last.out, "| experts                  | tg4 ");
    assert_null(strstr(last.out, "backward")); /* which --train has */
    mixt("bench", "--train", "--no-limits", "-b", "65536", "--window", "4096", "-c", "4096",
         "--layers", "2", "--hidden-size", "256", "--heads", "2", NULL);
    assert_int_equal(last.status, 1);
    assert_has(last.err, "GB of activations do not fit the ");
}

/* ---- streams and signals */

static void test_full_disk(void **state)
{
    (void)state;
    run_argv((const char *const[]){shell_program, "help", NULL}, "/dev/null", "/dev/full");
    assert_int_equal(last.status, 1);
    assert_has(last.err, "mixt help: standard output: No space left on device");
    run_argv((const char *const[]){shell_program, "help", "train", NULL}, "/dev/null", "/dev/full");
    assert_int_equal(last.status, 1);
    /* or "write error", where a write before the last one failed: its reason is gone */
    assert_has(last.err, "mixt help: standard output: ");
    run_argv(
        (const char *const[]){shell_program, "run", "-m", model, "-p", "The", "-n", "-1", NULL},
        "/dev/null", "/dev/full");
    assert_int_equal(last.status, 1);
}

static void test_closed_pipe(void **state)
{
    (void)state;
    char script[9000];
    snprintf(script, sizeof script, "{ %s run -m %s -p The -n 60; echo $? >%s; } | exit 0",
             shell_program, model, at("status"));
    run_argv((const char *const[]){"/bin/sh", "-c", script, NULL}, "/dev/null", at("stdout"));
    char status[TEXT_MAX > 64 ? 64 : TEXT_MAX] = "";
    for (int i = 0; i < 600 && status[0] == 0; i++) {
        FILE *file = fopen(at("status"), "r");
        if (file != NULL) {
            if (fgets(status, sizeof status, file) == NULL) {
                status[0] = 0;
            }
            fclose(file);
        }
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    assert_string_equal(status, "141\n"); /* of SIGPIPE, as cat ends */
}

/* Ctrl-C in training: a checkpoint, a line that says how to go on, status 130, and it does go on.
 */
static void test_interrupted_training(void **state)
{
    (void)state;
    char out[4300];
    char lines[4400];
    snprintf(out, sizeof out, "%s", at("interrupted"));
    snprintf(lines, sizeof lines, "%s/log.jsonl", out);
    const char *argv[] = {shell_program,  "train", "--data",  text_folder, "--out",    out,
                          "--init-from",  model,   "--steps", "1000000",   "--window", "32",
                          "--batch-size", "2",     "-t",      "1",         NULL};
    pid_t child = start(argv, "/dev/null", at("stdout"));
    struct stat found;
    for (int i = 0; i < 2400 && (stat(lines, &found) != 0 || found.st_size == 0); i++) {
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    kill(child, SIGINT);
    assert_int_equal(finish_child(child), 130);
    read_text(at("stderr"), last.err, TEXT_MAX);
    assert_has(last.err, "stopped at step ");
    assert_has(last.err, "mixt train --out ");
    mixt("train", "--out", out, "--seconds", "0.01", "--steps", "0", NULL);
    assert_has(last.err, "resumed ");
    assert_done();
}

static void test_second_run_goes_on(void **state)
{
    (void)state;
    char kept[4400];
    train_tiny(at("twice"), "2");
    assert_done();
    snprintf(kept, sizeof kept, "%s/train.conf", at("twice"));
    read_text(kept, last.out, TEXT_MAX);
    assert_has(last.out, "\nmatmul = exact\n");
    mixt("train", "--out", at("twice"), "--matmul", "blas", NULL);
    assert_int_equal(last.status, 2);
    assert_has(last.err, "the kind of matrix products was exact");
    mixt("train", "--out", at("twice"), "--batch-size", "5", NULL);
    assert_int_equal(last.status, 2);
    assert_has(last.err, "batch_size was 4 when this run began and is 5 now");
    mixt("train", "--out", at("twice"), "--steps", "4", NULL);
    assert_done();
    assert_has(last.err, "at step 2");
    assert_has(last.err, "trained 4 steps");
}

/* ---- examples */

static void test_examples(void **state)
{
    (void)state;
    char train[BUILT_PATH_MAX], generate[BUILT_PATH_MAX];
    char out[4300];
    assert_true(find_built("examples/train", train));
    assert_true(find_built("examples/generate", generate));
    snprintf(out, sizeof out, "%s", at("example"));
    run_argv((const char *const[]){train, text_folder, out, "3", NULL}, "/dev/null", at("stdout"));
    assert_done();
    assert_has(last.out, "step 3  loss ");
    run_argv((const char *const[]){generate, out, "The", "5", NULL}, "/dev/null", at("stdout"));
    assert_done();
    assert_true(strlen(last.out) > 1);
    run_argv((const char *const[]){generate, "/nowhere", "The", NULL}, "/dev/null", at("stdout"));
    assert_int_equal(last.status, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_huge_argument),
        cmocka_unit_test(test_odd_model_paths),
        cmocka_unit_test(test_config_refusals),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_writes_characters),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_interactive),
        cmocka_unit_test(test_eval),
        cmocka_unit_test(test_trace_and_atlas),
        cmocka_unit_test(test_router_select),
        cmocka_unit_test(test_router_methods),
        cmocka_unit_test(test_router_notes),
        cmocka_unit_test(test_option_sets),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_ranks_cost),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_closed_pipe),
        cmocka_unit_test(test_interrupted_training),
        cmocka_unit_test(test_second_run_goes_on),
        cmocka_unit_test(test_examples),
    };
    return cmocka_run_group_tests_name("cli", tests, set_up, scratch_remove);
}
