/* mixt train as somebody meets it who knows nanoGPT, and who was given a folder by a stranger. */
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

/* A model that trains in a moment, for a new run. */
#define SHAPE                                                                                      \
    " --vocab-size 300 --layers 2 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 "          \
    "--ffn-size 32 --experts 4 --window 32 --context-length 64 --batch-size 4 --warmup 2 "         \
    "--heldout 0.3 -t 1 "
#define NEW "\"$MIXT\" train --data text " SHAPE

/* ---- folders of strangers */

/* No file of a run is written through a link. */
static void links_are_not_followed(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf v; mkdir v; for n in log lock latest conf token state; do echo kept >v/$n; "
             "done; mkdir v/tokenizer v/model");
    shell_do("rm -rf linked; cp -r run linked; rm linked/log.jsonl; ln -s ../v/log "
             "linked/log.jsonl");
    assert_int_equal(shell("\"$MIXT\" train --out linked --steps 14"), 2);
    assert_has(shell_err, "linked/log.jsonl: is a link");
    shell_do("rm linked/log.jsonl; ln -s ../v/latest linked/LATEST.tmp; ln -s ../v/state "
             "linked/step-00000014.tmp; \"$MIXT\" train --out linked --steps 14");
    shell_do("rm linked/LATEST; ln -s ../v/latest linked/LATEST; \"$MIXT\" train --out linked "
             "--steps 15; ! test -L linked/LATEST");
    shell_do("rm -rf linked/model; ln -s ../v/model linked/model");
    shell_refuses("\"$MIXT\" train --out linked --steps 16", "linked/model: is a link");
    shell_do("rm -rf linked; mkdir linked; ln -s ../v/conf linked/train.conf.part; " NEW
             "--out linked --steps 2; ! test -L linked/train.conf");
    shell_do("rm -rf linked; mkdir linked; ln -s ../v/tokenizer linked/tokenizer");
    shell_refuses(NEW "--out linked --steps 2", "linked/tokenizer: is a link");
    shell_do("rm -rf linked; mkdir -p linked/tokenizer; for n in tokenizer.json "
             "tokenizer_config.json generation_config.json; do ln -s ../../v/token "
             "linked/tokenizer/$n.tmp; done; " NEW "--out linked --steps 2");
    shell_do("rm -rf linked; mkdir -p linked/model; for n in config.json tokenizer.json "
             "model.safetensors generation_config.json; do ln -s ../../v/token "
             "linked/model/$n.tmp; done; " NEW "--out linked --steps 2");
    shell_do("grep -L kept v/log v/lock v/latest v/conf v/token v/state >list; test ! -s list; "
             "test -z \"$(ls v/tokenizer v/model | grep -v :)\"");
}

/* Paths that no other quotes hold are kept in train.conf and read again. */
static void odd_paths_are_kept(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf odd; mkdir odd; d=$'odd/a\nb\"c\\'d\\\\e #f\t\x01'; cp -r text \"$d\"; "
             "\"$MIXT\" train --data \"$d\" text/one " SHAPE "--out $'odd/r\n\"\\'' --steps 2");
    shell_do("\"$MIXT\" train --out $'odd/r\n\"\\'' --steps 3; cat odd/r*/train.conf");
    assert_has(shell_err, "at step 2");
    assert_has(shell_out, "\ndata = $'odd/a\\nb\"c\\'d\\\\e #f\\x09\\x01'\ndata = text/one\n");
    shell_write("bad.conf", "out = $'a\\qb'\n");
    shell_refuses("\"$MIXT\" train bad.conf", "bad.conf:1: \\q: no such escape");
    shell_write("bad.conf", "out = $'a\\'\n");
    shell_refuses("\"$MIXT\" train bad.conf", "bad.conf:1: the quote is not closed");
    shell_write("bad.conf", "out = $'a\\xff'\n");
    shell_refuses("\"$MIXT\" train bad.conf", "bad.conf:1: the value is not valid UTF-8");
    shell_do("long=$(printf '%04000d' 0 | tr 0 '\\001'); echo $(\"$MIXT\" train --data \"$long\" "
             "--out long 2>&1) >said; grep -q 'data: too long to be kept' said; ! test -e long");
}

/* ---- parts */

static void parts_are_said_kept_and_refused(void **state)
{
    (void)state;
    shell_train();
    shell_do(NEW "--out parts --steps 2 --train router norms,experts; cat parts/train.conf");
    assert_has(shell_err, " active for a token, 24,992 learn\n");
    assert_has(shell_out, "\ntrain = router\ntrain = norms,experts\n");
    shell_do("\"$MIXT\" train --out parts --steps 3");
    assert_has(shell_err, " 24,992 learn\n");
    assert_int_equal(shell("\"$MIXT\" train --out parts --steps 4 --train router"), 2);
    assert_has(shell_err, "parts was router,experts,norms when this run began and is router now");
    shell_refuses(NEW "--out parts2 --optimizer adamw --momentum 0.9",
                  "--momentum: of --optimizer muon");
    shell_refuses(NEW "--out parts2 --optimizer adamw --muon-steps 3",
                  "--muon-steps: of --optimizer muon");
    shell_do(NEW "--out muon --steps 2 --optimizer muon --momentum 0.9 --muon-steps 3 "
                 "--embedding-rate 0.01; cat muon/train.conf; \"$MIXT\" train "
                 "--out muon --steps 3; ! \"$MIXT\" train --out muon --steps 4 --optimizer adamw");
    assert_has(shell_err, "optimizer was muon when this run began and is adamw now");
    assert_has(shell_out, "\nmuon-steps = 3\nembedding-rate = 0.01\n");
    shell_refuses(NEW "--out parts2 --train router,expert", "--train: expert is none of router, ");
    /* of what cannot learn before any data are looked for */
    static const char *const nothing[][2] = {{"router", "--router-weights frozen"},
                                             {"router", "--router-weights redrawn"},
                                             {"experts,shared,norms", ""},
                                             {"experts", "--experts 0"},
                                             {"mlp", ""},
                                             {"head", "--tie-embeddings"},
                                             {"shared", "--init-from run"},
                                             {"router", "--dry-run --router-weights frozen"},
                                             {"mlp", "--upcycle mlp-of --experts 2"}};
    shell_do(NEW "--out mlp-of --experts 0 --steps 1");
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        char line[300];
        snprintf(line, sizeof line, "\"$MIXT\" train --data nowhere --out parts2 --train %s %s",
                 nothing[i][0], nothing[i][1]);
        assert_int_equal(shell(line), 2);
        const char *part = i == 2 ? "shared" : nothing[i][0];
        snprintf(line, sizeof line, "the model has nothing of %s that learns\n", part);
        assert_has(shell_err, line);
        assert_null(strstr(shell_err, "nowhere"));
        shell_do("test ! -e parts2");
    }
}

/* Adapters of experts beside --init-from: what learns is said, the base stays, the rest is refused.
 */
static void adapters_learn_beside_a_model(void **state)
{
#define LORA                                                                                       \
    "\"$MIXT\" train --data text --init-from run/model --batch-size 4 --warmup 2 --window 32 "     \
    "--heldout 0.3 -t 1 --out lora --lora-rank 4 "
    (void)state;
    shell_train();
    shell_do(LORA "--lora-alpha 8 --lora-targets up,down --train norms --steps 4 --sample-every 3; "
                  "cat lora/train.conf; cmp run/model/config.json lora/model/config.json");
    assert_has(shell_err, " active for a token\n");
    assert_has(shell_err, "learning: adapters 6,144, norms 224; ");
    assert_has(shell_err, "step 3: sample ");
    assert_has(shell_out,
               "\ntrain = norms\nlora-rank = 4\nlora-alpha = 8\nlora-targets = up,down\n");
    shell_do("\"$MIXT\" train --out lora --steps 6; cat lora/model/adapter_config.json; "
             "test -e lora/step-00000006/adapter_model.safetensors");
    assert_has(shell_err, "resumed lora/step-00000004 at step 4\n");
    assert_has(shell_out, "\"base_model_name_or_path\": \"run/model\"");
    assert_has(shell_out, "\"lora_alpha\": 8,");
    assert_has(shell_out, "\"w3\",\n    \"w2\"\n  ]");
    assert_int_equal(shell("\"$MIXT\" train --out lora --steps 7 --lora-targets up,gate"), 2);
    assert_has(shell_err, "lora_targets was up,down when this run began and is gate,up now");
    assert_int_equal(shell("\"$MIXT\" train --out lora --steps 7 --lora-alpha 9"), 2);
    assert_has(shell_err, "lora_alpha was 8 when this run began and is 9 now");
    shell_do("rm -rf lora; " LORA "--steps 3; cmp run/model/model.safetensors "
             "lora/model/model.safetensors");
    shell_do(
        "for m in \"run/model --lora lora\" lora run/model; do \"$MIXT\" eval -m $m --data text "
        "--tokenizer run --json 2>said >scores; grep -c merged said || true; "
        "tr -d ' ' <scores; echo; done");
    char with[4000], folder[4000], plain[4000];
    assert_int_equal(sscanf(shell_out, "1 %3999s 1 %3999s 0 %3999s", with, folder, plain), 3);
    assert_string_equal(with, folder);
    assert_string_not_equal(with, plain);
    shell_refuses("\"$MIXT\" run -m run/model --lora nowhere -p a", "nowhere");
    shell_do("rm -rf lora");
    shell_refuses(LORA "--train all", "--train: under --lora-rank experts stay as they are");
    shell_refuses(LORA "--train norms,experts", "--train: under --lora-rank experts stay");
    shell_refuses(LORA "--lora-targets up,w1", "--lora-targets: w1 is none of gate, up, down");
    shell_refuses(LORA "--lora-alpha 0", "--lora-alpha: 0 is not in");
    shell_refuses(LORA "--lora-alpha inf", "--lora-alpha: ");
    shell_refuses(LORA "--lora-alpha 1.1e9", "--lora-alpha: 1.1e9 is not in ");
    shell_do(LORA "--lora-alpha 1e9 --learning-rate 1e-12 --steps 2; \"$MIXT\" info lora/model; "
                  "rm -r lora");
    assert_has(shell_out, "rank 4, scale 2.5e+08)");
    shell_refuses(LORA "--dry-run --measure", "--measure: not with --lora-rank");
    shell_refuses(NEW "--out lora --lora-rank 4", "--lora-rank: adapters are of a trained model");
    shell_refuses(NEW "--out lora --lora-rank 0", "--lora-rank: 0 is not in 1..");
    shell_refuses(NEW "--out lora --lora-alpha 4", "--lora-alpha: of adapters");
    shell_refuses(NEW "--out lora --lora-targets up", "--lora-targets: of adapters");
    shell_do(LORA "--dry-run");
    shell_refuses(LORA "--dry-run --lora-rank 33", "lora_rank 33 is more than 32");
    assert_int_equal(shell(LORA "--lora-rank 33"), 2);
    assert_has(shell_err,
               "lora_rank 33 is more than 32, the smaller side of an expert's matrices\n");
    shell_do("test ! -e lora");
}

/* Groups of experts with a balance loss of their own: in the settings, the log, the model, beside
 * --init-from and in studies, and refused before any data are looked for. */
static void experts_are_balanced_in_groups(void **state)
{
    (void)state;
    shell_train();
    shell_do(NEW
             "--out groups --steps 2 --balance-groups 2 --device-balance-coefficient 0.05; "
             "cat groups/train.conf; \"$MIXT\" info groups --options; head -1 groups/log.jsonl");
    assert_has(shell_out, "\nbalance-groups = 2\n");
    assert_has(shell_out, "\ndevice-balance-coefficient = 0.05\n");
    assert_has(shell_out, "router.device_balance_coefficient 0.05\n");
    assert_has(shell_out, "router.balance_groups          2\n");
    assert_has(shell_out, "\"device_balance\":");
    assert_int_equal(shell("\"$MIXT\" train --out groups --steps 3 --balance-groups 4"), 2);
    assert_has(shell_err, "balance_groups was 2 when this run began and is 4 now");
    shell_do("\"$MIXT\" train --out groups --steps 3; \"$MIXT\" convert groups -o groups.gguf; "
             "\"$MIXT\" info groups.gguf --options; ! grep -q device_balance run/log.jsonl");
    assert_has(shell_out, "router.balance_groups          0\n");
    shell_do("\"$MIXT\" train --data text --out from-groups --init-from groups/model "
             "--balance-groups 1 --device-balance-coefficient 0 --steps 1 --warmup 0 -t 1; "
             "\"$MIXT\" info from-groups/model --options");
    assert_has(shell_out, "router.balance_groups          0\n");
    static const char *const bad[][2] = {
        {"--balance-groups 3", "balance_groups 3 does not divide 4 experts"},
        {"--balance-groups 8", "balance_groups 8 does not divide 4 experts"},
        {"--balance-groups -1", "--balance-groups: -1 is not in 0..4096"},
        {"--balance-groups 2 --balance skywork", "and Skywork's counts none"},
        {"--balance-groups 1 --device-balance-coefficient 0.1", "needs balance_groups, 2 or more"},
        {"--device-balance-coefficient 0.1", "needs balance_groups, 2 or more"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[400];
        snprintf(line, sizeof line,
                 "\"$MIXT\" train --data nowhere" SHAPE
                 "--out groups2 %s; s=$?; test ! -e groups2; "
                 "exit $s",
                 bad[i][0]);
        shell_refuses(line, bad[i][1]);
    }
    shell_write("groups.study", "title = \"groups\"\nlayers = 1\nhidden-size = 32\nheads = 2\n"
                                "kv-heads = 1\nhead-dim = 16\nffn-size = 32\nexperts = 4\n"
                                "context-length = 64\nwindow = 32\nvocab-size = 300\nsteps = 3\n"
                                "warmup = 1\nseeds = 1\nbalance-groups = 2\n"
                                "axis.device-balance-coefficient = 0 0.05\n");
    shell_do("\"$MIXT\" study groups.study --data text --dry-run");
    assert_has(shell_out, "2 cells");
}

/* The first line of a log has the loss of the weights as they were. */
static void dense_models_become_mixtures(void **state)
{
    (void)state;
    shell_train();
    shell_do(NEW "--out mlp --experts 0 --steps 30; \"$MIXT\" convert mlp -o mlp.gguf");
#define ON "\"$MIXT\" train --data text --batch-size 4 --warmup 2 --window 32 --heldout 0.3 -t 1 "
    shell_do(ON "--init-from mlp --out mlp-same --steps 3; " ON
                "--upcycle mlp.gguf --experts 4 --out mlp-gguf --steps 3; " ON
                "--upcycle mlp --experts 4 --out mlp-copies --steps 3; " ON
                "--upcycle mlp --experts 8 --experts-per-token 4 --ffn-size 8 --out mlp-parts "
                "--steps 3");
    shell_do("for r in same copies parts gguf; do head -1 mlp-$r/log.jsonl | "
             "sed 's/.*\"loss\":\\([0-9.]*\\).*/\\1/' | cut -c1-7; done | uniq -c");
    assert_has(shell_out, "      4 ");
    shell_do(ON "--upcycle mlp --experts 4 --moe-period 2 --out mlp-second --steps 3");
    assert_has(shell_err, "it computes what that does");
    shell_do("\"$MIXT\" info mlp-second | grep layers");
    assert_has(shell_out, "2, 1 of them with experts");
    shell_do(ON "--upcycle mlp --experts 4 --out mlp-copies --steps 3");
    assert_has(shell_err, "before the first step it computes what that does");
    shell_do("grep upcycle mlp-copies/train.conf; \"$MIXT\" train --out mlp-copies --steps 4");
    assert_has(shell_out, "upcycle = mlp\nupcycle-noise = 0\nupcycle-reinit = 0\n");
    assert_has(shell_err, "resumed mlp-copies/step-00000003");
    shell_refuses("\"$MIXT\" train --out mlp-copies --upcycle mlp-same",
                  "--upcycle: mlp-same is asked");
    shell_refuses("\"$MIXT\" train --out mlp-copies --upcycle-noise 1", "began with 0 and 0");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle mlp-copies", "a mixture already");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle nowhere", "nowhere");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle mlp --ffn-size 7",
                  "ffn_size 7 does not divide 32");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle mlp --layers 3 --heads 1",
                  "asked is --layers 3 (it has 2), --heads 1 (it has 2)");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle-reinit 0.5",
                  "of --upcycle MODEL");
    shell_refuses("\"$MIXT\" train --data text --out no --upcycle mlp --init-from mlp-copies",
                  "leave out --init-from");
    shell_do("test ! -e no");
}

/* Experts that compute nothing: what is said of them everywhere, and where they are refused. */
static void experts_without_weights(void **state)
{
    (void)state;
    shell_train();
    shell_do(NEW "--out light --steps 4 --identity-experts 2 --zero-experts 1 --bias-rate 0.01");
    assert_has(shell_err, "only mixt will open it, as no family that others know holds ");
    shell_do("cat light/train.conf; \"$MIXT\" info light; \"$MIXT\" info light --json");
    assert_has(shell_out, "identity-experts = 2\nzero-experts = 1\n");
    assert_has(shell_out, "4 of width 32, 2 identity, 1 zero; 2 of 7 for a token\n");
    assert_has(shell_out, "behind the 4 with weights 2 that give the row back and 1 that gives "
                          "nothing");
    assert_has(shell_out, ", fewer where a choice is an identity or zero expert\n");
    assert_has(shell_out, "\"experts\": 4, \"identity_experts\": 2, \"zero_experts\": 1, ");
    shell_do(
        "grep -c identity_share light/log.jsonl; cp -r light light2; \"$MIXT\" train --out light "
        "--steps 6; \"$MIXT\" train --out light2 --steps 6; cmp light/model/model.safetensors "
        "light2/model/model.safetensors; " NEW "--out light3 --steps 6 --identity-experts 2 "
        "--zero-experts 1 --bias-rate 0.01; tail -1 light3/log.jsonl");
    assert_has(shell_out, "\"zero_share\":0.");
    shell_do("\"$MIXT\" trace -m light --data text -o light.safetensors; \"$MIXT\" atlas "
             "light.safetensors; \"$MIXT\" atlas light.safetensors --json; \"$MIXT\" atlas "
             "light.safetensors --html light.html; grep -o '2 of 7, 4 and higher' light.html");
    assert_has(shell_out, "2 of 7 experts a token, 4 and higher without weights (2");
    assert_has(shell_out, "\"experts\": 7, \"identity_experts\": 2, \"zero_experts\": 1, ");
    assert_has(shell_out, "2 of 7, 4 and higher");
    shell_do("\"$MIXT\" convert light -o light.gguf --type Q8_0; \"$MIXT\" info light.gguf; "
             "\"$MIXT\" run -m light.gguf -p the -n 4 --seed 1 --mask-experts 0,1,2,3");
    assert_has(shell_out, "2 identity, 1 zero; 2 of 7 for a token");
    shell_do(ON "--upcycle mlp --experts 4 --zero-experts 1 --out light-up --steps 2");
    assert_has(shell_err, "it does not compute what that does (zero-computation experts may be ");
    shell_do(NEW "--out light-all --steps 2 --zero-experts 1 --router-select all");
    assert_has(shell_err, "--experts-per-token 5, as --router-select all is every expert");
    shell_refuses(NEW "--out no --init-from run --zero-experts 1", "--zero-experts 1 (it has 0)");
    shell_refuses(NEW "--out no --init-from light --identity-experts 0 --zero-experts 3",
                  "--identity-experts 0 (it has 2), --zero-experts 3 (it has 1)");
    shell_refuses(NEW "--out no --experts 0 --identity-experts 1",
                  "identity_experts 1 and zero_experts 0 without experts");
    shell_refuses(NEW "--out no --experts 4 --experts-per-token 7 --zero-experts 2",
                  "7 experts per token of 6 are not possible");
    shell_refuses(NEW "--out no --experts 4095 --zero-experts 2",
                  "4097 experts are not in 1..4096");
    shell_do("test ! -e no");
}

static double forward_flops(const char *options)
{
    char command[600];
    snprintf(command, sizeof command, NEW "--out no --dry-run --experts-per-token %s", options);
    shell_do(command);
    const char *at = strstr(shell_out, "\"forward_flops_per_token\": ");
    assert_non_null(at);
    return strtod(strchr(at, ':') + 1, NULL);
}

/* A token has at most all experts with weights, however many it chooses. */
static void flops_are_of_experts_with_weights(void **state)
{
    (void)state;
    shell_train();
    double one_expert = 2 * 6 * 32 * 32; /* in both layers */
    double all = forward_flops("4");
    assert_true(all - forward_flops("3") >= one_expert);
    assert_true(forward_flops("8 --identity-experts 2 --zero-experts 2") - all < one_expert);
    assert_true(forward_flops("6 --zero-experts 2 --router-select all") - all < one_expert);
}

/* Where a token has every id there is, shares and active parameters are known. */
static void shares_are_of_each_kind(void **state)
{
    (void)state;
    shell_train();
    shell_do(
        NEW "--out shares --steps 2 --identity-experts 3 --zero-experts 1 --router-select all "
            "--experts-per-token 8; head -1 shares/log.jsonl; "
            "\"$MIXT\" info shares --json | tr ',' '\\n' | grep parameters_ | sort -u -k2 | wc -l");
    assert_has(shell_out, "\"identity_share\":0.375,");
    assert_has(shell_out, "\"zero_share\":0.125,");
    assert_has(shell_out, "}\n1\n"); /* all parameters are active */
}

/* ---- runs that are refused, and several at once */

static void runs_are_not_written_over(void **state)
{
    (void)state;
    shell_train();
    shell_do("cp -r run other; find other -type f | sort | xargs cat | cksum >before");
    shell_refuses("\"$MIXT\" convert run -o other",
                  "other: is of a training run (other/log.jsonl)");
    shell_refuses("\"$MIXT\" convert run -o other/", "is of a training run");
    shell_refuses("\"$MIXT\" convert run -o other/model", "is of a training run");
    shell_refuses("\"$MIXT\" convert run -o other/$(cd other; ls -d step-* | tail -n 1)",
                  "is of a training run");
    shell_refuses("cd other && \"$MIXT\" convert ../run -o model", "model: is of a training run");
    shell_do("find other -type f | sort | xargs cat | cksum | cmp - before; "
             "\"$MIXT\" convert run -o other/copy; \"$MIXT\" convert run -o other/model.gguf; "
             "rm -r other");
}

static void refused_runs_leave_nothing(void **state)
{
    static const char *const arguments[] = {
        "--data nowhere --out left/x/y",
        "--data text --out left/x/y --steps 0",
        "--data text --out left/x/y --layers 2 --hidden-size 32 --heads 3 --kv-heads 2",
        "--data text --out left/x/y --window 64 --context-length 32",
        "--data text --out left/x/y --init-from run --window 512",
        "--data text --out left/x/y --init-from run --experts 8",
        "--data text --out left/x/y --init-from run --model-config run/model/config.json",
        "--data text --out left/x/y --tokenizer nowhere",
        "--data text --out left/x/y --tokenizer run --vocab-size 400",
        "--data text/one/1.txt --out left/x/y --tokenizer run --window 256 --heldout 0.9",
        "--data text --out left/x/y --init_from=resume",
    };
    (void)state;
    shell_train();
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        char line[400];
        snprintf(line, sizeof line, "rm -rf left; mkdir left; \"$MIXT\" train %s", arguments[i]);
        if (shell(line) != 2) {
            fail_msg("not refused: %s: %s", arguments[i], shell_err);
        }
        assert_lacks(shell_err, "vocabulary: ");
        shell_do("test -z \"$(ls left)\"");
    }
    shell_do("mkdir -p left/old; echo mine >left/old/notes; ! \"$MIXT\" train --data text --out "
             "left/old --tokenizer run --vocab-size 400; test \"$(ls left/old)\" = notes");
    shell_do(
        "export ASAN_OPTIONS=allocator_may_return_null=1; ! \"$MIXT\" train --data text "
        "--tokenizer run --out left/big --layers 1000 "
        "--hidden-size 65536 --heads 2 --head-dim 2048 --ffn-size 1048576; ! test -e left/big");
}

/* Of several that begin in one new folder with different data, one trains, the others change
 * nothing and say who does; and it can be gone on with. */
static void one_of_several_wins(void **state)
{
    (void)state;
    shell_train();
    for (int i = 0; i < 8; i++) {
        shell_do("rm -rf race err-*; for n in 1 2 3 4; do (\"$MIXT\" train " SHAPE
                 "--data text/one text/two/$n.txt --out race --steps $((30 + n)) 2>err-$n; "
                 "echo $? >status-$n) & done; wait");
        shell_do("won=0; for n in 1 2 3 4; do if grep -q '^trained' err-$n; then won=$((won + 1)); "
                 "grep -q \"^data = text/two/$n.txt\" race/train.conf; "
                 "else grep -q 'another process, [0-9]* is working' err-$n || "
                 "grep -q 'when this run began' err-$n; fi || exit 1; done; test $won = 1");
        shell_do("\"$MIXT\" train --out race --steps 40 2>&1 | grep '^trained 40 steps'");
    }
}

static void a_run_that_is_done_says_so(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf done; cp -r run done; \"$MIXT\" train --out done --steps 5");
    assert_has(shell_err, "nothing to train: done is at step 12, and --steps is 5\n");
    shell_do("\"$MIXT\" train --out done");
    assert_has(shell_err, "nothing to train: done is at step 12, and --steps is 12\n");
    assert_has(shell_out, "perplexity");
}

static void sources_stay_what_they_were(void **state)
{
    (void)state;
    shell_train();
    shell_refuses("\"$MIXT\" train --out run --init-from text --steps 20",
                  "--init-from: text is asked, and the run in run began with nothing");
    shell_refuses("\"$MIXT\" train --out run --tokenizer text --steps 20",
                  "--tokenizer: text is asked");
    shell_refuses("\"$MIXT\" train --out run --model-config run/model --steps 20",
                  "--model-config: run/model is asked");
    assert_int_equal(shell("\"$MIXT\" train --out run --balance-coefficient 0.0003"), 2);
    assert_has(shell_err, "router_aux_loss_coef was 0.1 when this run began and is 0.0003 now");
}

/* ---- the optimizer */

/* auto is settled when a run begins, said, kept in train.conf, and not asked again. */
static void optimizer_is_chosen_once(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf auto; " NEW "--out auto --steps 2 --batch-size 64; cat auto/train.conf");
    assert_has(shell_err, "\noptimizer: muon (auto; the arithmetic of Muon's iteration is 0.");
    assert_has(shell_err, " of the rest of a step; learning rate 0.004, of embeddings 0.02)\n");
    assert_has(shell_out, "\noptimizer = muon\nmomentum = 0.9\nmuon-steps = 3\n"
                          "embedding-rate = 0.02\n");
    shell_do("\"$MIXT\" train --out auto --steps 3");
    assert_lacks(shell_err, "optimizer: ");
    assert_int_equal(shell("\"$MIXT\" train --out auto --steps 4 --optimizer adamw"), 2);
    assert_has(shell_err, "optimizer was muon when this run began and is adamw now");
    shell_do("rm -rf auto; " NEW "--out auto --steps 2 --batch-size 1 --muon-steps 4; "
             "cat auto/train.conf");
    assert_has(shell_err, "\noptimizer: adamw (auto; the arithmetic of Muon's iteration is ");
    assert_has(shell_err, " of the rest of a step; --momentum and --muon-steps do nothing)\n");
    assert_has(shell_out, "\noptimizer = adamw\nembedding-rate = 0\n");
    /* of a run before there was the option, and asked for again: what its checkpoint has */
    shell_do("rm -rf auto-old; cp -r run auto-old; sed -i '/^optimizer/d; /^muon-steps/d' "
             "auto-old/train.conf; \"$MIXT\" train --out auto-old --steps 13");
    assert_lacks(shell_err, "optimizer: ");
    shell_do("\"$MIXT\" train --out auto-old --steps 14 --optimizer auto --muon-steps 5; "
             "rm -rf auto-lora; \"$MIXT\" train --data text --init-from run/model --lora-rank 2 "
             "--out auto-lora --steps 2 --window 32 --batch-size 64 -t 1; "
             "grep -x 'optimizer = adamw' auto-lora/train.conf");
    assert_has(shell_err, "\noptimizer: adamw (auto)\n");
    shell_do("for n in 64 1; do " NEW "--dry-run --batch-size $n; done");
    assert_has(shell_out, "\"optimizer\": \"muon\"");
    assert_has(shell_out, "\"optimizer\": \"adamw\"");
}

/* ---- beside --init-from */

static void options_beside_init_from(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf dense; " NEW "--experts 0 --out dense --steps 2");
    shell_refuses("\"$MIXT\" train --data text --out from --init-from dense --experts 4 "
                  "--router-weights frozen",
                  "--experts 4 (it has 0), --router-weights frozen (it has learned)");
    shell_refuses("\"$MIXT\" train --data text --out from --init-from run --layers 5 --heads 1 "
                  "--head-dim 32 --tie-embeddings --bias-rate 0.1 --shared-gate",
                  "--layers 5 (it has 3), --heads 1 (it has 2), --head-dim 32 (it has 16), "
                  "--tie-embeddings true (it has false), --shared-gate true (it has false), "
                  "--bias-rate 0.1 (it has 0)");
    shell_refuses("\"$MIXT\" train --data text --out from --init-from run --experts-per-token 9",
                  "9 experts per token of 4 are not possible");
    shell_refuses("\"$MIXT\" train --data text --out from --router-scale 0",
                  "--router-scale: 0 is not above 0 and at most 1000000");
    /* options that are only possible together */
    shell_refuses("\"$MIXT\" train --data text --out from --init-from run --layers 5 "
                  "--router-unit segment --router-segment 3",
                  "asked is --layers 5 (it has 3)");
    shell_refuses("\"$MIXT\" train --data text --out from --init-from run --router-unit segment",
                  "a segment's tokens are said where, and only where, the unit is segment");
    static const char *const together[] = {
        "--router-unit segment --router-segment 3", "--router-select all",
        "--router-select expert-choice --choice-scope sequence",
        "--adaptive-balance --capacity 1 --drop weight --router-jitter 0.1"};
    for (size_t i = 0; i < sizeof together / sizeof *together; i++) {
        char line[400];
        snprintf(line, sizeof line,
                 "\"$MIXT\" train --data text --out from --init-from run %s --steps 2 --warmup 1 "
                 "-t 1; rm -r from",
                 together[i]);
        shell_do(line);
        assert_has(shell_err, "trained 2 steps");
    }
    /* a dry run looks at the model too */
    shell_do(
        "\"$MIXT\" train --dry-run --data text --upcycle dense --experts 3 --router-select all "
        ">dry; \"$MIXT\" train --data text --out from --upcycle dense --experts 3 "
        "--router-select all --steps 2 --warmup 1 -t 1; rm -r from; cat dry");
    assert_has(shell_err, "model: mixt, ");
    assert_has(shell_out, "\"experts\": 3,");
    assert_has(shell_out, "\"routing\": \"all 3 experts");
    shell_do("rm -rf from; \"$MIXT\" train --data text --out from --init-from run --layers 3 "
             "--router-weights frozen --balance gshard --balance-coefficient 0.3 --z-coefficient "
             "0.25 --experts-per-token 3 --score top-k-softmax --context-length 96 --rope-theta "
             "500 --steps 3 --warmup 1 -t 1; cat from/train.conf");
    assert_has(shell_err, "note: --window 96, as --context-length is\n");
    assert_has(shell_out, "\nwindow = 96\n");
    assert_has(shell_out, "\nexperts = 4\n");
    assert_has(shell_out, "\nexperts-per-token = 3\n");
    assert_has(shell_out, "\nlayers = 3\n");
    assert_has(shell_out, "\nrope-theta = 500\n");
    assert_has(shell_out, "\nscore = top-k-softmax\n");
    assert_has(shell_out, "\nrouter-weights = frozen\n");
    assert_has(shell_out, "\nbalance = gshard\n");
    assert_has(shell_out, "\nbalance-coefficient = 0.3\n");
    shell_do("\"$MIXT\" info from/model --options");
    assert_has(shell_out, "experts_per_token              3\n");
    assert_has(shell_out, "context_length                 96\n");
    assert_has(shell_out, "rope_theta                     500\n");
    assert_has(shell_out, "router.weights                 1\n");
    assert_has(shell_out, "router.balance                 1\n");
    assert_has(shell_out, "router.balance_coefficient     0.3\n");
    assert_has(shell_out, "router.z_coefficient           0.25\n");
    shell_do("\"$MIXT\" train --out from --steps 4");
    assert_has(shell_err, "trained 4 steps");
    assert_int_equal(shell("\"$MIXT\" train --out from --router-weights learned"), 2);
    assert_has(shell_err, "router.weights was frozen when this run began and is learned now");
    assert_int_equal(shell("\"$MIXT\" train --out from --learning-rate 0.0003 --steps 5"), 2);
    assert_has(shell_err, "learning_rate was 0.004 when this run began and is 0.0003 now");
    assert_int_equal(shell("\"$MIXT\" train --out from --schedule wsd --steps 5"), 2);
    assert_has(shell_err, "schedule was cosine when this run began and is wsd now");
    assert_int_equal(shell("\"$MIXT\" train --out from --bf16 --steps 5"), 2);
    assert_has(shell_err, "bf16 was false when this run began and is true now");
}

/* The frozen router has the source's bits when all else has moved. */
static void frozen_routers_stay(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf ice fire; for o in 'ice --router-weights frozen' fire; do \"$MIXT\" train "
             "--data text --init-from run --steps 3 --warmup 1 -t 1 --out $o; done; "
             "for m in run ice fire; do \"$MIXT\" convert $m -o $m.gguf --type F32; done");
    shell_do("for m in ice fire; do cmp -l run.gguf $m.gguf | wc -l; done");
    long ice = strtol(shell_out, NULL, 10), fire = strtol(strchr(shell_out, '\n'), NULL, 10);
    /* 3 routers of [4, 32] fp32 numbers; of each at least one byte moved with the rest */
    assert_true(ice > 0 && fire - ice > 3 * 4 * 32 / 2);
}

static void families_that_are_only_opened(void **state)
{
    char fixtures[4300], line[9000];
    (void)state;
    shell_train();
    assert_non_null(realpath("tests/fixtures/families/gpt_oss", fixtures));
    snprintf(line, sizeof line,
             "\"$MIXT\" train --data text --out from2 --tokenizer run --init-from %s", fixtures);
    assert_int_equal(shell(line), 2);
    assert_has(shell_err, "models of this family are opened, not trained");
    snprintf(line, sizeof line,
             "\"$MIXT\" train --data text --out from2 --tokenizer run --model-config %s", fixtures);
    shell_refuses(line, "models of this family are opened, not trained");
}

/* What a config.json says that no option does (RoPE's scaling) is there again when a run goes on.
 */
static void shapes_of_files_go_on(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf shape shaped; mkdir shape; sed 's/\"rope_scaling\": null/\"rope_scaling\": "
             "{\"rope_type\": \"linear\", \"factor\": 2.0}/' run/model/config.json "
             ">shape/config.json; \"$MIXT\" train --data text --model-config shape/config.json "
             "--tokenizer run --out shaped --window 32 -b 2 --steps 2 --warmup 1 -t 1; \"$MIXT\" "
             "train --out shaped --steps 3; \"$MIXT\" info shaped/model --options");
    assert_has(shell_out, "rope.factor                    2\n");
}

/* ---- nanoGPT */

/* All keys of its train.py and of the files in its config/, and nanoMoE's. */
#define NANO_GOOD                                                                                  \
    "# as train_shakespeare_char.py\nimport time\nout_dir = 'nano'\neval_interval = 2 # often\n"   \
    "eval_iters = 3\nlog_interval = 1\neval_only = False\nalways_save_checkpoint = False\n"        \
    "wandb_log = False # not here\nwandb_project = 'owt'\n"                                        \
    "wandb_run_name = 'ft-' + str(time.time())\ngradient_accumulation_steps = 1 * 2\n"             \
    "batch_size = 2\nblock_size = 48\nn_layer = 2\nn_head = 2\nn_embd = 32\ndropout = 0.0\n"       \
    "bias = False\nlearning_rate = 1e-3\nmax_iters = 2 * 2\nweight_decay = 1e-1\nbeta1 = 0.9\n"    \
    "beta2 = 0.99\ngrad_clip = 1.0\ndecay_lr = True\nwarmup_iters = 1\nlr_decay_iters = 4\n"       \
    "min_lr = 2.5e-4\nbackend = 'nccl'\ndevice = 'cpu'\ndtype = 'float32'\ncompile = True\n"       \
    "init_from = 'scratch'\ndataset = 'shakespeare_char'\n"
#define NANO_MOE                                                                                   \
    "n_exp = 4\ntop_k = 2\nuse_aux_loss = True\naux_loss_weight = 0.02\nuse_router_z_loss = "      \
    "False\nrouter_z_loss_weight = 0.001\nuse_noisy_top_k = False\nuse_switch_tfm_init = False\n"  \
    "switch_tfm_init_scale = 1.0\nrouter_use_full_prec = True\nstride = 1\n"

static void nanogpt_is_obeyed(void **state)
{
    (void)state;
    shell_train();
    shell_write("nano.py", NANO_GOOD NANO_MOE);
    shell_do("rm -rf nano; \"$MIXT\" train nano.py --data text --vocab-size 300 --heldout 0.3 "
             "--ffn-size 32 --kv-heads 1 --head-dim 16 -t 1; cat nano/train.conf");
    assert_has(shell_err, "note: these do nothing here: ");
    assert_has(shell_err, "compile");
    assert_has(shell_err, "step 2: train loss 5.");
    assert_has(shell_err, ", val loss 5.");
    assert_has(shell_out, "\neval-tokens = 288\n"); /* 3 * 2 * 48 */
    assert_has(shell_out, "\naccumulation = 2\n");
    assert_has(shell_out, "\nsteps = 4\n");
    assert_has(shell_out, "\nwindow = 48\n");
    assert_has(shell_out, "\nminimum-rate = 0.25\n");
    assert_has(shell_out, "\nschedule = cosine\n");
    assert_has(shell_out, "\nexperts = 4\n");
    assert_has(shell_out, "\nbalance-coefficient = 0.02\n");
    assert_has(shell_out, "\nz-coefficient = 0\n");
    assert_lacks(shell_out, "dropout");
    assert_lacks(shell_out, "init-from");
    shell_do(
        "\"$MIXT\" train nano.py --init_from=resume --data text --heldout 0.3; \"$MIXT\" train "
        "--out nano");
    shell_do("rm -rf nano; \"$MIXT\" train nano.py --data text --vocab-size 300 --decay_lr=False "
             "--dtype=bfloat16 --block_size=300 --eval_tokens=100 --use_aux_loss=False --n_head=3 "
             "--n_embd=24 --ffn-size 16 --head-dim 8 -t 1; cat nano/train.conf");
    assert_has(shell_err, "note: --context-length 300, as the window\n");
    assert_has(shell_out, "\nschedule = constant\n");
    assert_has(shell_out, "\nwarmup = 0\n");
    assert_has(shell_out, "\nbf16 = true\n");
    assert_has(shell_out, "\neval-tokens = 100\n");
    assert_has(shell_out, "\nkv-heads = 3\n");
    assert_has(shell_out, "\nbalance-coefficient = 0\n");
}

/* A head is as wide as nanoGPT's, with keys and values of its own; mixt's words stay mixt's. */
static void nanogpt_heads_are_its_own(void **state)
{
    (void)state;
    shell_train();
    shell_write("nano.py",
                "n_head = 2\nn_embd = 48\nblock_size = 32\nmax_iters = 1\nn_layer = 1\n");
    shell_do("rm -rf nano; \"$MIXT\" train nano.py --data text --vocab-size 300 --ffn-size 16 "
             "--out nano -t 1; cat nano/train.conf");
    assert_has(shell_err, "note: --head-dim 24, as n_embd and n_head mean in nanoGPT\n");
    assert_has(shell_out, "\nhead-dim = 24\n");
    assert_has(shell_out, "\nkv-heads = 2\n");
    shell_do(
        "rm -rf nano; \"$MIXT\" train nano.py --data text --vocab-size 300 --ffn-size 16 "
        "--n-head=3 --out nano -t 1; \"$MIXT\" train --out nano --steps 2; cat nano/train.conf");
    assert_has(shell_out, "\nhead-dim = 16\n");
    assert_has(shell_out, "\nkv-heads = 3\n");
    shell_do("rm -rf nano; \"$MIXT\" train nano.py --data text --vocab-size 300 --ffn-size 16 "
             "--head-dim 8 --kv-heads 1 --out nano -t 1; cat nano/train.conf");
    assert_lacks(shell_err, "note: --head-dim");
    assert_has(shell_out, "\nhead-dim = 8\n");
    assert_has(shell_out, "\nkv-heads = 1\n");
    shell_do("rm -rf nano; " NEW "--out nano --steps 1 --hidden-size 48; cat nano/train.conf");
    assert_has(shell_out, "\nhead-dim = 16\n");
}

/* What cannot be obeyed comes at once, with what to write instead. */
static void nanogpt_is_listed(void **state)
{
    static const char *const parts[] = {
        "nano.py:2: frobnicate: no such option",
        "line 3: stepz: no such option; is it steps?",
        "line 4: dropout: 0.2: mixt has none; write 0",
        "line 5: bias: True:",
        "line 6: wandb_log:",
        "line 7: dataset: shakespeare_char: write data = PATH",
        "line 8: device: cuda:",
        "line 9: dtype: float16: write float32 or bfloat16",
        "line 10: lr_decay_iters: 600000:",
        "line 11: init_from: gpt2-xl:",
        "line 12: eval_only: True: use mixt eval",
        "line 13: min_capacity:",
        "line 14: use_noisy_top_k: True:",
        "line 15: stride: 2:",
        "line 16: min_lr: 0.5 is above learning_rate 0.002",
        "line 17: use_switch_tfm_init: True:",
    };
    (void)state;
    shell_train();
    shell_write("nano.py",
                "out_dir = 'never'\nfrobnicate = 3\nstepz = 4\ndropout = 0.2\nbias = True\n"
                "wandb_log = True\ndataset = 'shakespeare_char'\ndevice = 'cuda'\ndtype = "
                "'float16'\nlr_decay_iters = 600000\ninit_from = 'gpt2-xl'\neval_only = True\n"
                "min_capacity = 4\nuse_noisy_top_k = True\nstride = 2\nmin_lr = 0.5\n"
                "use_switch_tfm_init = True\n");
    shell_refuses("\"$MIXT\" train nano.py", "mixt train: nano.py:2: ");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_has(shell_err, parts[i]);
    }
    shell_do("! test -e never");
    shell_refuses(
        "\"$MIXT\" train --data text --out never --dropout=0.1 --device=cuda",
        "--device: cuda: mixt computes on the CPU; write cpu, or leave it out; --dropout: "
        "0.1: mixt has none");
}

/* ---- while it trains */

/* Scores and samples are said, and change no bit of what is trained. */
static void evaluations_and_samples(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf said still; " NEW "--out still --steps 6; " NEW "--out said --steps 3 "
             "--evaluate-every 2 --sample-every 3 --eval-tokens 64");
    assert_has(shell_err, "step 2: train loss 5.");
    assert_has(shell_err, "step 3: sample \"");
    shell_do("\"$MIXT\" train --out said --steps 6 --warmup 2");
    assert_has(shell_err, "step 4: train loss 5.");
    assert_has(shell_err, "step 6: sample \"");
    shell_do("cmp said/model/model.safetensors still/model/model.safetensors; "
             "grep -c '\"train_loss\":.*\"val_loss\":' said/log.jsonl");
    assert_string_equal(shell_out, "3\n");
    shell_do("grep '\"heldout\":\"all\"' said/log.jsonl | grep -o '\"tokens\":[0-9]*' | sort -u");
    assert_string_equal(shell_out, "\"tokens\":128\n"); /* 64 of each of two domains */
    shell_do("rm -rf again; " NEW "--out again --steps 3 --sample-every 3 2>a; grep sample a >b; "
             "rm -rf again; " NEW
             "--out again --steps 3 --sample-every 1 2>a; grep 'step 3: sample' "
             "a | cmp - b");
}

/* A conversion and a trace end before they are done, or are done and whole: nothing lies beside. */
static void a_signal_leaves_nothing_half_written(void **state)
{
    (void)state;
    shell_train();
    shell_do(
        "for i in 1 2 3 4 5 6; do for way in 'convert run -o made.gguf' 'convert run -o made' "
        "'trace -m run --data text -o made.trace'; do rm -rf made*; $MIXT $way 2>words & p=$!; "
        "sleep 0.0$i; kill -TERM $p 2>kill || true; s=0; wait $p || s=$?; case $s in 0|143) ;; *) "
        "exit 1 ;; esac; "
        "for f in made.gguf made; do test ! -e $f || $MIXT info -m $f >words || exit 1; done; "
        "test ! -e made.trace || $MIXT atlas made.trace >words || exit 1; "
        "test -z \"$(ls -d made*tmp* 2>kill)\" || exit 1; done; done");
}

static void a_hangup_leaves_a_checkpoint(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf hup; " NEW "--out hup --steps 1000000 2>words & p=$!; while ! test -s "
             "hup/log.jsonl; do sleep 0.05; done; kill -HUP $p; kill -HUP $p; s=0; wait $p "
             "|| s=$?; test $s = 129; grep -q 'stopped at step' words; test -e hup/LATEST");
    shell_do("(trap '' HUP; exec " NEW "--out nohup --steps 200 2>words) & p=$!; while ! test -s "
             "nohup/log.jsonl; do sleep 0.02; done; kill -HUP $p; wait $p; test $? = 0");
}

/* Before there is anything to go on with, a signal leaves what it found. */
static void early_signals_leave_nothing(void **state)
{
    (void)state;
    shell_do("rm -rf early large; mkdir early large; for i in 1 2 3 4 5 6 7 8; do seq 1 200000; "
             "done >large/a.txt");
    for (int kept = 0; kept < 2; kept++) { /* a new folder, and one that was there */
        shell_do(kept ? "mkdir -p early/x/y" : "true");
        shell_do(
            "\"$MIXT\" train --data large --vocab-size 4096 --out early/x/y/ 2>words & p=$!; "
            "while ! test -e early/x/y/lock; do sleep 0.01; done; kill -TERM $p; s=0; wait $p "
            "|| s=$?; test $s = 143; grep -q '^stopped before any step; all is as it was$' words; "
            "ls -A early early/x/y 2>/dev/null | tr '\\n' ' '");
        assert_string_equal(shell_out, kept ? "early: x  early/x/y: " : "early: ");
    }
    /* nor does a refusal, however the folder is spelled */
    shell_do("rm -rf deep; ! " NEW "--out deep//er/folder/ --tokenizer none 2>words; "
             "grep -q 'none: no such file' words; test ! -e deep");
}

/* The line that goes on can be pasted. */
static void the_way_on_is_quoted(void **state)
{
    static const char *const names[] = {"plain",  "two words", "it's",
                                        "$x;`y`", "-- a",      "\xc3\xa4 \xe2\x80\xae"};
    (void)state;
    shell_train();
    shell_do("rm -rf paste");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        shell_write("name", names[i]);
        shell_do(
            "d=paste/$(cat name); " NEW
            "--out \"$d\" --steps 1000000 2>words & p=$!; d=paste/$(cat name); while ! test -s "
            "\"$d\"/log.jsonl; do sleep 0.02; done; kill -INT $p; s=0; wait $p || s=$?; test $s = "
            "130; "
            "sed -n 's/.*Go on with: //p' words >paste.sh; echo ' --steps 1' >>paste.sh; "
            "bash -c \"$(tr -d '\\n' <paste.sh)\" 2>paste.err; grep -q 'nothing to train' "
            "paste.err; "
            "cat paste.sh");
        assert_has(shell_out, "train --out ");
    }
    shell_do("\"$MIXT\" trace -m run --data text -o \"it's a trace\" 2>words; bash -c \"$(sed -n "
             "'s/.*look at it with: //p' words) --no-text\"");
    assert_has(shell_out, "Atlas of run");
}

/* A limit on the size of files: a line, status 1, and nothing half written. */
static void limits_on_files(void **state)
{
    static const char *const commands[] = {
        NEW "--out limited --steps 2",
        "\"$MIXT\" convert run -o limited.gguf",
        "\"$MIXT\" convert run -o limited",
        "\"$MIXT\" trace -m run --data text -o limited.safetensors",
        "\"$MIXT\" atlas trace.safetensors --html limited.html",
    };
    (void)state;
    shell_train();
    shell_do("\"$MIXT\" trace -m run --data text -o trace.safetensors");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[1000];
        snprintf(line, sizeof line, "rm -rf limited*; trap '' XFSZ; trap - XFSZ; ulimit -f 8; %s",
                 commands[i]);
        if (shell(line) != 1) {
            fail_msg("%s: %s", commands[i], shell_err);
        }
        assert_has(shell_err, "File too large\n");
        shell_do("test -z \"$(find . -name '*.tmp*' -o -name '*.part')\"");
    }
}

static void data_are_named_by_their_use(void **state)
{
    (void)state;
    shell_train();
    shell_do("\"$MIXT\" eval -m run --data text");
    assert_lacks(shell_err, "to train on");
    assert_has(shell_err, "data: ");
    shell_do("\"$MIXT\" trace -m run --data text --heldout 0.3 -o trace.safetensors");
    assert_lacks(shell_err, "to train on");
    assert_has(shell_err, " held-out tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_are_not_followed),
        cmocka_unit_test(odd_paths_are_kept),
        cmocka_unit_test(parts_are_said_kept_and_refused),
        cmocka_unit_test(adapters_learn_beside_a_model),
        cmocka_unit_test(experts_are_balanced_in_groups),
        cmocka_unit_test(dense_models_become_mixtures),
        cmocka_unit_test(experts_without_weights),
        cmocka_unit_test(flops_are_of_experts_with_weights),
        cmocka_unit_test(shares_are_of_each_kind),
        cmocka_unit_test(runs_are_not_written_over),
        cmocka_unit_test(refused_runs_leave_nothing),
        cmocka_unit_test(one_of_several_wins),
        cmocka_unit_test(a_run_that_is_done_says_so),
        cmocka_unit_test(optimizer_is_chosen_once),
        cmocka_unit_test(sources_stay_what_they_were),
        cmocka_unit_test(options_beside_init_from),
        cmocka_unit_test(frozen_routers_stay),
        cmocka_unit_test(families_that_are_only_opened),
        cmocka_unit_test(shapes_of_files_go_on),
        cmocka_unit_test(nanogpt_is_obeyed),
        cmocka_unit_test(nanogpt_is_listed),
        cmocka_unit_test(nanogpt_heads_are_its_own),
        cmocka_unit_test(evaluations_and_samples),
        cmocka_unit_test(a_hangup_leaves_a_checkpoint),
        cmocka_unit_test(a_signal_leaves_nothing_half_written),
        cmocka_unit_test(early_signals_leave_nothing),
        cmocka_unit_test(the_way_on_is_quoted),
        cmocka_unit_test(limits_on_files),
        cmocka_unit_test(data_are_named_by_their_use),
    };
    return cmocka_run_group_tests(tests, shell_make, scratch_remove);
}
