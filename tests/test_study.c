/* mixt study: specs and what is wrong with them, statistics, a small study run whole, stopped,
 * killed, with several runs at once, changed, and with a run that fails.
 *   test_study --kills COUNT [SEED]: kills a study COUNT times at random moments. */
#define _GNU_SOURCE /* asprintf, in study_atlas.c */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cli/study_atlas.c"
#include "../cli/study_statistics.c"
#include "scratch.h"
#include "shell.h"

#define STUDY "\"$MIXT\" study "

/* What all specs here are made of: two cells, two seeds, a second of work. */
static const char base[] = "title = 'A <b>small</b> study & more'\n"
                           "question = \"Is it the same?\"\n"
                           "data = text\n"
                           "seeds = 1 2\n"
                           "layers = 1\nhidden-size = 16\nheads = 2\nkv_heads = 1\nhead-dim = 8\n"
                           "ffn-size = 16\nexperts = 4\nvocab-size = 270\nwindow = 16\n"
                           "context-length = 16\nbatch-size = 2\nsteps = 12\nwarmup = 2\n"
                           "heldout = 0.3\ntrace-tokens = 200\neval-tokens = 400\n"
                           "checkpoint-every = 3\n";
static const char axis[] = "axis.router-weights = learned frozen\nbaseline = learned\n"
                           "published.frozen = \"9.810\"\n"
                           "published = 'Fan et al.: \"learned\" 9.907'\n";

static int set_up(void **state)
{
    int status = shell_make(state);
    char folder[4096];
    if (status == 0 && getcwd(folder, sizeof folder - 20) != NULL) {
        setenv("EXAMPLES", strcat(folder, "/examples/studies"), 1);
        shell_do("mkdir -p text/one text/two; for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6; "
                 "do echo \"int a$i = $j;\" >>text/one/$i.txt; "
                 "echo \"The fox jumps over $i dogs $j times.\" >>text/two/$i.txt; done; done");
    }
    return status;
}

static void write_spec(const char *name, const char *more)
{
    char text[8000];
    snprintf(text, sizeof text, "%s%s", base, more);
    shell_write(name, text);
}

/* ---- statistics */

/* Tables of Student's t (0.975) and two samples by hand. */
static void means_and_intervals(void **state)
{
    static const struct {
        double freedom, t;
    } rows[] = {{1, 12.706204736}, {2, 4.302652730},  {3, 3.182446305},
                {4, 2.776445105},  {5, 2.570581836},  {9, 2.262157163},
                {24, 2.063898562}, {30, 2.042272456}, {120, 1.979930405}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(fabs(mixt_student_reach(rows[i].freedom) - rows[i].t) < 1e-8);
    }
    const double sample[] = {2.0, NAN, 4.0, 6.0};
    study_estimate e = study_estimate_of(sample, 4); /* deviation 2, error 2 / sqrt(3) */
    assert_int_equal(e.count, 3);
    assert_true(e.mean == 4.0);
    assert_true(fabs(e.error - 1.1547005383792515) < 1e-15);
    assert_true(fabs(e.high - (4 + 4.302652729911275 * 1.1547005383792515)) < 1e-9);
    assert_true(fabs(e.low + e.high - 8) < 1e-12);
    e = study_estimate_of(sample, 2);
    assert_true(e.count == 1 && e.mean == 2.0 && isnan(e.error) && isnan(e.low));
    e = study_estimate_of(sample + 1, 1);
    assert_true(e.count == 0 && isnan(e.mean));
}

/* ---- atlas */

static void append_number(void *user, const char *path, double value)
{
    char *text = user;
    size_t used = strlen(text);
    snprintf(text + used, 400 - used, "%s=%g ", path, value);
}

/* Layers are called by their number and not by their place. */
static void numbers_have_paths(void **state)
{
    char have[400] = "";
    (void)state;
    assert_int_equal(study_atlas_numbers("{\"a\": {\"b\": [1, -2.5e1], \"c\": null, \"d\": \"3\"},"
                                         " \"layers\": [{\"layer\": 1, \"x\": 4},"
                                         " {\"layer\": 3, \"x\": [5, {\"y\": 6}]}], \"e\": 7}",
                                         append_number, have),
                     MIXT_OK);
    assert_string_equal(have, "a.b.0=1 a.b.1=-25 layers.1.layer=1 layers.1.x=4 layers.3.layer=3 "
                              "layers.3.x.0=5 layers.3.x.1.y=6 e=7 ");
    static const char *const bad[] = {"", "{\"a\": 1", "{\"a\": 1} 2", "{\"a\": nan}", "[1,]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        have[0] = 0;
        assert_int_equal(study_atlas_numbers(bad[i], append_number, have), MIXT_ERROR_FORMAT);
        assert_string_equal(have, "");
    }
}

/* ---- specs */

static void bad_specs_are_refused_with_their_line(void **state)
{
    static const struct {
        const char *more, *part; /* behind the base, whose lines are 21 */
    } rows[] = {
        {"axis.router-weights = learned frozen\nexprets = 3\n",
         "bad.study:23: exprets: no such key; is it experts?"},
        {"axis.router-weights = learned frozen\nbaselin = frozen\n",
         "bad.study:23: baselin: no such key; is it baseline?"},
        {"axis.router-weights = learned frozen\nsomething = 3\n",
         "bad.study:23: something: no such key of a study or of mixt train"},
        {"axis.router-weights = learned frozen\nlayers = 3\n",
         "bad.study:23: layers: is said in line 5 already"},
        {"axis.router-weights\n", "bad.study:22: not a line of the form key = value"},
        {"axis.k = one \"two\n", "bad.study:22: \"two: a value is a word of letters, digits"},
        {"axis.router-weights = learned learned\n",
         "bad.study:22: axis.router-weights: the value learned is there twice"},
        {"axis.router-weights = learned cold\n",
         "bad.study:22: the cell cold: --router-weights: \"cold\" is not one of: learned"},
        {"axis.seeds = 1 2\n", "bad.study:22: axis.seeds: is the same in every cell"},
        {"axis.heldout = 0.1 0.2\n", "bad.study:22: heldout: heldout is the same in every cell"},
        {"axis.k = one two\nk.three.experts = 3\n",
         "bad.study:23: k.three.experts: the axis k has no value three"},
        {"axis.k = one two\nkk.one.experts = 3\n",
         "bad.study:23: kk.one.experts: there is no axis kk"},
        {"axis.k = one two\nk.one.exprets = 3\n",
         "bad.study:23: k.one.exprets: no such key; is it experts?"},
        {"axis.k = one two\nk.one.out = x\n",
         "bad.study:23: k.one.out: out is not the spec's to say"},
        {"axis.k = one two\nk.experts = 3\n", "bad.study:23: k.experts: is said as k.VALUE.OPTION"},
        {"axis.k = one two\nseed = 3\n", "bad.study:23: seed: seeds = ... says it"},
        {"axis.k = one two\nskip = k=three\n", "bad.study:23: skip: the axis k has no value three"},
        {"axis.k = one two\nskip = j=one\n", "bad.study:23: skip: j=one is not AXIS=VALUE"},
        {"axis.k = one two\nskip = k=one,two\n", "bad.study: no cells"},
        {"axis.k = one two\nbaseline = tow\n",
         "bad.study:23: baseline: there is no cell tow; is it two?"},
        {"axis.k = one two\npublished.three = 1\n",
         "bad.study:23: published.three: there is no such cell"},
        {"axis.k = one two\ncell.one.experts = 2\n", "bad.study:22: two cells are called one"},
        {"axis.k = one two\ncell.a/b.experts = 2\n",
         "bad.study:23: cell.a/b.experts: is said as cell.NAME.OPTION"},
        {"axis.k = one two\nk.one.init-from = @three\n",
         "bad.study:23: init-from: there is no cell three"},
        {"axis.k = one two\nk.one.init-from = @two\nk.two.init-from = @one\n",
         "begins with itself in the end"},
        {"axis.k = one two\nk.two.experts-per-token = 9\n", "bad.study:22: the cell two: "},
        {"axis.k = one two\nk.two.seconds = 9\n",
         "bad.study:22: the cell two: --seconds: a study's runs end after --steps"},
        {"axis.k = one two\nquick.exprets = 3\n",
         "bad.study:23: exprets: no such key; is it experts?"},
        {"axis.k = one two\nquick.experts-per-token = 9\n", "bad.study:22: the cell one: "},
        {"axis.k = one two\nquick.data = text\nname = a/b\n",
         "bad.study:24: name: \"a/b\" is not of letters"},
        {"axis.k = one two\ntrace-tokens = many\n",
         "bad.study:23: trace-tokens: is said in line 19 already"},
        {"axis.k = one two\nmax_iters = 3\n",
         "bad.study:23: max_iters: is said in line 16 already"},
        {"axis.k = one two\neval_iters = 3\n", "bad.study:23: eval-iters: no such key of a study"},
        {"axis.k = one two\ntokenizer = nowhere\n", "nowhere"},
        {"", "bad.study: no cells"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_spec("bad.study", rows[i].more);
        shell_refuses(STUDY "bad.study --out bad", rows[i].part);
        shell_do("! [ -e bad ]");
    }
    shell_write("seeds.study", "data = text\naxis.k = one two\nseeds = 1 2 1\n");
    shell_refuses(STUDY "seeds.study", "seeds.study:3: seeds: 1 is there twice");
    shell_write("seeds.study", "data = text\naxis.k = one two\nseeds = 1 -2\n");
    shell_refuses(STUDY "seeds.study", "seeds.study:3: seeds: -2 is not a whole number");
    shell_do("{ cat two.study 2>/dev/null || echo 'data = text'; for a in 1 2 3 4; do "
             "echo \"axis.a$a = $(seq -s ' ' -f 'w%g' 40)\"; done; } >many.study");
    shell_refuses(STUDY "many.study", "more than 65536 combinations");
    shell_write("none.study", "axis.k = one two\n");
    shell_refuses(STUDY "none.study", "data: needed, in the spec or as --data");
    shell_refuses(STUDY "nowhere.study", "nowhere.study");
    shell_refuses(STUDY, "--spec: needed");
}

/* ---- a study */

static void run_reference(void)
{
    write_spec("two.study", axis);
    shell_do("[ -e whole/results.json ] || " STUDY "two.study --out whole -t 1");
}

/* The figure by seconds is the machine's. */
static const char same[] = "cmp whole/results.csv again/results.csv; "
                           "cmp whole/results.json again/results.json; "
                           "diff -r -x loss-by-seconds.svg whole/figures again/figures; "
                           "rm -r again";

/* The table's numbers are those of the runs. */
static void a_small_study_is_a_table(void **state)
{
    (void)state;
    shell_do("rm -rf whole");
    run_reference();
    assert_has(shell_out, "A <b>small</b> study & more\nIs it the same?\n");
    assert_has(shell_out, "\nlearned ");
    assert_has(shell_out, " baseline ");
    assert_has(shell_out, "9.810\n");
    assert_has(shell_out, "published: Fan et al.: \"learned\" 9.907");
    shell_do(
        "of() { sed -n \"s/ $2\\$//p\" whole/cells/$1/result; }; "
        "column() { awk -F, -v n=\"$2\" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == n) c = i "
        "} $1 == \"'$1'\" { print $c }' whole/results.csv; }; "
        "a=$(of learned-seed1 loss); b=$(of learned-seed2 loss); "
        "c=$(of frozen-seed1 loss); d=$(of frozen-seed2 loss); "
        "awk -v a=$a -v b=$b -v c=$c -v d=$d -v mean=$(column learned loss) "
        "-v error=$(column learned loss_error) -v apart=$(column frozen loss_difference) "
        "-v low=$(column frozen loss_difference_low) "
        "-v high=$(column frozen loss_difference_high) 'function near(x, y) "
        "{ return (x - y) ^ 2 < 1e-14 * (1 + y * y) } BEGIN { e = sqrt(((a - b) / 2) ^ 2); "
        "x = (c - a + d - b) / 2; r = 12.706204736 * sqrt(((c - a - d + b) / 2) ^ 2); "
        "exit !(near(mean, (a + b) / 2) && near(error, e) && near(apart, x) && "
        "near(low, x - r) && near(high, x + r)) }'; "
        "[ $(column learned tokens) = 384 ]; [ $(column learned moe_layers) = 1 ]; "
        "[ $(column learned runs) = 2 ]; [ -z \"$(column learned loss_difference)\" ]; "
        "[ $(column frozen published) = 9.810 ]; "
        "\"$MIXT\" eval -m whole/cells/frozen-seed2 --data whole/corpus.tokens --heldout 0.3 "
        "--max-tokens 400 --json | grep -q \"\\\"nats\\\": .*\\\"perplexity\\\": "
        "$(printf %.5s $(of frozen-seed2 perplexity))\"; "
        "[ -z \"$(ls -d whole/cells/*/step-* 2>/dev/null)\" ]; "
        "grep -q '&lt;b&gt;small&lt;/b&gt; study &amp; more' whole/study.html; "
        "! grep -q '<b>small\\|<script\\|http:' whole/study.html");
    shell_do("sed -n '2,$p' whole/times.csv | wc -l; sed '/id=\"layers\"/,$d' whole/study.html | "
             "grep -c '<path class=\"curve\" style'");
    assert_has(shell_out, "4\n3\n"); /* four runs; two lines and a figure with both curves */
    /* once more: nothing is left to do, and all is as it was */
    shell_do("cp whole/results.json before.json; " STUDY "two.study --out whole; "
             "cmp before.json whole/results.json");
    assert_lacks(shell_err, "vocabulary:");
}

/* As files of their own, with the cells' names where only colours tell them apart. */
static void its_figures_are_files(void **state)
{
    (void)state;
    write_spec("layers.study", "axis.router-weights = learned frozen\n"
                               "cell.dense.experts = 0\nbaseline = learned\n");
    shell_do("sed -i 's/^layers = 1$/layers = 2/' layers.study; " STUDY
             "layers.study --out layers -t 1");
    shell_do(
        "cd layers/figures; ls | tr '\\n' ' '; for f in *.svg; do grep -q '^<svg xmlns=' $f; "
        "tail -n 1 $f | grep -q '^</svg>$'; ! grep -q '<script\\|href' $f; done; "
        "for f in curves curves-by-flops repetition token class; do "
        "for cell in learned frozen; do grep -q \">$cell</text>\" $f.svg; "
        "grep -q \"<title>$cell</title>\" $f.svg; done; done; grep -q '>chance</text>' "
        "repetition.svg; "
        "! grep -q '<title>dense' repetition.svg; grep -q '<title>dense: ' loss-by-flops.svg; "
        "grep -q '>frozen</text>' differences.svg; ! grep -q '>learned</text>' differences.svg");
    assert_has(shell_out, "class.svg curves-by-flops.svg curves.svg differences.svg "
                          "loss-by-flops.svg loss-by-seconds.svg repetition.svg token.svg ");
    /* each once in the page */
    shell_do(
        "[ $(grep -o '<figcaption>' layers/study.html | wc -l) = $(ls layers/figures | wc -l) ]");
    /* one that there is no more goes */
    run_reference();
    shell_do("echo old >whole/figures/loss-by-flops.svg; " STUDY "two.study --out whole; "
             "[ -e whole/figures/curves.svg ]; ! [ -e whole/figures/loss-by-flops.svg ]");
}

/* Long names: a row each below the curves, and inside of the figure beside their points. */
static void long_names_have_room(void **state)
{
    (void)state;
    write_spec("long.study", "axis.router-weights = learned frozen\naxis.k = "
                             "one-of-the-experts-for-each-token-of-all-documents\n"
                             "cell.dense.experts = 0\nbaseline = dense\n");
    shell_do(STUDY
             "long.study --out long -t 1; cd long/figures; "
             "[ $(grep -o '<text x=\"34\" y' curves.svg | wc -l) = 3 ]; "
             "! grep -q '<text x=\"264\" y' curves.svg; "
             "[ $(grep -o '<text class=\"y\" x=[^>]*>[lf][a-z]*_one-of' loss-by-flops.svg | wc -l) "
             "= 2 ]");
}

/* Found before the runs, and nothing is written through a link. */
static void figures_are_a_folder(void **state)
{
    (void)state;
    run_reference();
    shell_do("rm -rf away; cp -r whole away; mkdir others; echo kept >others/curves.svg; echo kept "
             ">others/token.svg; rm -r away/figures; ln -s ../others away/figures");
    shell_refuses(STUDY "two.study --out away", "away/figures: is a link; remove it");
    shell_do("grep -c kept others/curves.svg others/token.svg; rm away/figures; echo kept "
             ">away/figures");
    shell_refuses(STUDY "two.study --out away", "away/figures: is no folder; remove it");
    shell_do("grep kept away/figures; rm away/figures; mkdir -p away/figures/token.svg");
    shell_refuses(STUDY "two.study --out away", "away/figures/token.svg: is a folder; remove it");
    shell_do("rm -r away/figures; " STUDY "two.study --out away; diff -r whole/figures "
             "away/figures; rm -r away others");
}

static void as_many_at_once_as_one_likes(void **state)
{
    (void)state;
    run_reference();
    shell_do(STUDY "two.study --out again --jobs 3 -t 2");
    shell_do(same);
}

static void the_same_data_elsewhere(void **state)
{
    (void)state;
    run_reference();
    shell_do("mkdir -p sub/deep; cp two.study sub/deep/; cp -r text sub/deep/; cd sub; " STUDY
             "deep/two.study --out ../again -t 1");
    shell_do(same);
    shell_do("sed 's/^data/#/' two.study >sub/two.study; " STUDY
             "sub/two.study --data text --out again -t 1");
    shell_do(same);
}

/* What stops a study costs no more than time. */
static void ctrl_c_and_go_on(void **state)
{
    (void)state;
    run_reference();
    shell_do(
        "sed 's/^steps.*/steps = 1000000/; s/^checkpoint.*/checkpoint-every = 0/' two.study "
        ">long.study; " STUDY "long.study --out long --jobs 2 & p=$!; "
        "until grep -qs '\"step\":3,' long/cells/learned-seed1/log.jsonl; do sleep 0.05; done; "
        "kill -INT $p; wait $p && exit 1; [ $? = 130 ]; "
        "grep -q 'stopped at step' long/cells/learned-seed1/output.txt; "
        "[ -e long/cells/learned-seed1/LATEST ]; rm -r long");
    assert_has(shell_err, "stopped: 0 of 4 runs are finished. Go on with: ");
    assert_has(shell_err, "study long.study --out long");
}

static void kill_at_random(int count, unsigned seed)
{
    char lines[1000];
    snprintf(lines, sizeof lines,
             "RANDOM=%u; killed=0; while [ $killed -lt %d ]; do " STUDY
             "two.study --out again --jobs $((RANDOM %% 3 + 1)) -t 1 2>log & p=$!; "
             "sleep 0.$(printf %%03d $((RANDOM %% 900))); "
             "victim=$p; if [ $((RANDOM %% 3)) = 0 ]; then victim=$(pgrep -P $p | head -n 1); fi; "
             "kill -9 ${victim:-$p} 2>/dev/null && killed=$((killed + 1)); "
             "if wait $p; then %s; fi; done; for i in 1 2 3; do " STUDY
             "two.study --out again -t 1 && break; done; %s",
             seed, count, same, same);
    shell_do(lines);
}

static void killed_studies_go_on(void **state)
{
    (void)state;
    run_reference();
    kill_at_random(6, 5);
}

static void what_changed_is_refused_by_name(void **state)
{
    (void)state;
    run_reference();
    shell_do("cp -r whole again; sed 's/^warmup.*/warmup = 3/' two.study >changed.study");
    shell_refuses(STUDY "changed.study --out again",
                  "the cell learned (cells/learned-seed1) began with other settings: "
                  "\"warmup = 2\", now \"warmup = 3\"");
    shell_do("cmp whole/results.json again/results.json; " STUDY
             "changed.study --out again --redo -t 1; cmp -s whole/results.csv again/results.csv && "
             "exit 1; "
             "grep -q '^warmup = 3' again/cells/frozen-seed2/train.conf; rm -r again; "
             "mkdir other; cp -r text other/; echo more >other/text/one/1.txt");
    shell_refuses(STUDY "two.study --data other/text --out whole",
                  "--out: the folder was made of other data");
    shell_do("sed 's/^vocab.*/vocab-size = 280/' two.study >changed.study");
    shell_refuses(STUDY "changed.study --out whole", "or with another vocabulary");
    shell_do("mkdir -p foreign/cells; echo x >foreign/cells/x");
    shell_refuses(STUDY "two.study --out foreign", "there are files of another kind in it");
}

static void a_run_that_fails_is_named(void **state)
{
    (void)state;
    run_reference();
    shell_do("cp -r whole again; cd again/cells/frozen-seed1; rm -r result trained model; "
             "ln -s /nowhere model; cd ../../..; " STUDY "two.study --out again -t 1 && exit 1; "
             "[ $? = 1 ]");
    assert_has(shell_err, "cells/frozen-seed1: mixt train: ");
    assert_has(shell_err, "is a link; remove it");
    assert_has(shell_err, "1 of 4 runs failed");
    assert_has(shell_out, "\nfrozen "); /* its other seed counts */
    shell_do("grep -q '\"failure\": \"mixt train:' again/results.json; "
             "rm again/cells/frozen-seed1/model; " STUDY "two.study --out again -t 1");
    shell_do(same);
}

/* What a full disk or a hand took away is made again, or said with what to do. */
static void files_that_are_lost_or_cut(void **state)
{
    static const struct {
        const char *file, *part;
    } cut[] = {
        {"cells/frozen-seed2/result", "cells/frozen-seed2/result: is cut short; remove the file"},
        {"cells/frozen-seed1/log.jsonl", "cells/frozen-seed1/log.jsonl: ends at "},
    };
    (void)state;
    run_reference();
    shell_do("cp -r whole again; cd again; rm -r tokenizer cells/frozen-seed2; cd ..; " STUDY
             "two.study --out again -t 1");
    shell_do(same);
    shell_do(
        "cp -r whole again; cd again; rm -r cells/frozen-seed2; "
        "dd if=../whole/corpus.tokens of=corpus.tokens bs=900 count=1 2>/dev/null; cd ..; " STUDY
        "two.study --out again -t 1; cmp whole/corpus.tokens again/corpus.tokens");
    shell_do(same);
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        char lines[600];
        snprintf(lines, sizeof lines,
                 "cp -r whole again; grep -v worst_vio whole/%s | "
                 "grep -v '\"step\":12,' >again/%s",
                 cut[i].file, cut[i].file);
        shell_do(lines);
        shell_refuses(STUDY "two.study --out again -t 1", cut[i].part);
        snprintf(lines, sizeof lines, "head -c -1 whole/%s >again/%s", cut[i].file, cut[i].file);
        shell_do(lines);
        if (i == 0) {
            shell_refuses(STUDY "two.study --out again -t 1", cut[i].part);
            shell_do("rm again/cells/frozen-seed2/result; cp whole/times.csv .; " STUDY
                     "two.study --out again -t 1; cmp times.csv again/times.csv");
        } else {
            shell_do(STUDY "two.study --out again -t 1"); /* a line's end is not its number */
        }
        shell_do(same);
    }
}

/* Cells that stand by themselves, one that begins with another one's model, skips, the quick form.
 */
static void forms_of_a_spec(void **state)
{
    (void)state;
    write_spec("forms.study", "axis.router_weights = learned frozen\naxis.experts = 2 4\n"
                              "skip = router-weights=frozen experts=2\n"
                              "experts.4.experts_per_token = 1\nexperts.4.renormalise = false\n"
                              "cell.dense.experts = 0\ncell.more.init-from = @dense\n"
                              "cell.more.experts = 0\ncell.more.clip = unset\nclip = 2\n"
                              "quick.seeds = 7\nquick.steps = 2\nquick.axis.experts = 4\n"
                              "quick.published = 'in short'\npublished = a\npublished = b\n");
    shell_do(STUDY "forms.study --dry-run -t 1");
    assert_has(shell_out, "5 cells, 2 seeds: 10 runs");
    assert_has(shell_out, "\ndense ");
    assert_has(shell_out, "\nmore ");
    assert_has(shell_out, "\nlearned_experts-2 ");
    assert_has(shell_out, "\nlearned_experts-4 ");
    assert_has(shell_out, "\nfrozen_experts-4 ");
    assert_lacks(shell_out, "frozen_experts-2");
    assert_has(shell_out, "in all 3,840 tokens"); /* 12 steps of 2 * 16, 10 runs */
    assert_has(shell_out, "an estimate");
    shell_do("[ ! -e forms ]; " STUDY "forms.study --quick -t 1 --jobs 2");
    assert_has(shell_out, "published: in short");
    assert_lacks(shell_out, "published: a");
    shell_do(
        "ls forms-quick/cells | tr '\\n' ' '; grep init-from forms-quick/cells/more-seed7/*.conf; "
        "[ $(grep -c clip forms-quick/cells/more-seed7/cell.conf) = 0 ]; "
        "grep -q 'clip = 2' forms-quick/cells/dense-seed7/cell.conf; "
        "grep -c renormalise forms-quick/cells/learned_experts-4-seed7/cell.conf; rm -r "
        "forms-quick");
    assert_has(shell_out, "dense-seed7 frozen_experts-4-seed7 learned_experts-4-seed7 more-seed7 ");
    assert_has(shell_out, "init-from = cells/dense-seed7/model");
}

/* Adapters over the model of another cell, which is not there when the cells are checked. */
static void adapters_over_a_cell(void **state)
{
    (void)state;
    write_spec("over.study", "axis.lora-rank = 2 4\nlora-alpha = 4\nlora-targets = up\n"
                             "init-from = @base\ncell.base.init-from = unset\n"
                             "cell.base.lora-alpha = unset\ncell.base.lora-targets = unset\n"
                             "cell.again.init-from = @lora-rank-2\ncell.again.lora-rank = 1\n"
                             "quick.seeds = 7\nquick.steps = 2\n");
    shell_do(STUDY
             "over.study --quick -t 1; cd over-quick/cells; "
             "grep -h -e '\"r\"' -e base_model */model/adapter_config.json; "
             "cmp base-seed7/model/model.safetensors lora-rank-4-seed7/model/model.safetensors; "
             "cd ../..; rm -r over-quick");
    assert_has(shell_out, "cells/lora-rank-2-seed7/model\",\n  \"r\": 1,");
    assert_has(shell_out, "cells/base-seed7/model\",\n  \"r\": 4,");
    /* its numbers are of the model that it begins with */
    write_spec("over.study", "axis.k = one two three\nk.one.experts = 5\n"
                             "k.two.experts = unset\nk.two.init-from = @one\n"
                             "k.three.experts = unset\nk.three.init-from = @two\n");
    shell_do(STUDY "over.study --dry-run -t 1 | awk '$1 ~ /^(one|two|three)$/ { print $2 }' >list; "
                   "wc -l <list; sort -u list | wc -l");
    assert_string_equal(shell_out, "3\n1\n");
    write_spec("over.study", "axis.lora-rank = 2 4\n");
    shell_refuses(STUDY "over.study", "the cell lora-rank-2: --lora-rank: adapters are of a");
}

/* Every spec that comes with mixt, in both forms; scores that see later tokens are marked. */
static void the_specs_of_the_examples(void **state)
{
    (void)state;
    /* cells are checked before the data are looked for */
    shell_do("for spec in \"$EXAMPLES\"/*.study; do case $spec in */upcycling.study) "
             "\"$MIXT\" help train | grep -q -e --upcycle || continue ;; esac; "
             "for form in '' --quick; do { " STUDY
             "$spec $form --data nowhere --dry-run 2>&1 || true; } | grep -q nowhere || "
             "echo $spec $form; done; done");
    assert_string_equal(shell_out, "");
    write_spec("units.study", "axis.router-unit = token sequence\nquick.seeds = 1\n"
                              "quick.eval-tokens = 50\n");
    shell_do(STUDY "units.study --quick -t 1");
    assert_has(shell_out, "\nsequence* ");
    assert_has(shell_out, "\ntoken ");
    assert_has(shell_out, "\n* of sequence: ");
    shell_do(
        "grep -q '^sequence,.*later' units-quick/results.csv; [ $(grep -c '^token,.*later' "
        "units-quick/results.csv) = 0 ]; grep -q '>sequence[*]<' units-quick/study.html; rm -r "
        "units-quick");
}

static void tasks_are_checked(void **state)
{
    (void)state;
    shell_write("task.study", "task = vowels\ndata = text\n");
    shell_refuses(STUDY "task.study", "task.study:1: task: \"vowels\" is not one of: vowels-1991");
    shell_write("task.study", "task = vowels-1991\ndata = text\nlayers = 3\n");
    shell_refuses(STUDY "task.study", "task.study:3: layers: no such key of a task");
    shell_write("task.study", "task = vowels-1991\nruns = many\n");
    shell_refuses(STUDY "task.study", "task.study:2: runs: \"many\" is not a whole number");
    shell_write("task.study", "task = vowels-1991\n");
    shell_refuses(STUDY "task.study", "data: needed, in the spec or as --data");
    shell_write("task.study", "task = vowels-1991\ndata = text/one/1.txt\nruns = 2\n");
    shell_refuses(STUDY "task.study --out task", "1.txt");
    shell_do("! [ -e task ]; mkdir task");
    shell_refuses(STUDY "task.study --out task", "1.txt");
    shell_do("rmdir task"); /* one that was there stays */
}

static int run_kills(int argc, char **argv)
{
    int count = atoi(argv[2]), failed = 0, done = 0;
    unsigned seed = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    void *state = NULL;
    if (set_up(&state) != 0) {
        return 1;
    }
    run_reference();
    for (; done < count; done += 5) { /* no child of a test may be silent for long */
        kill_at_random(count - done < 5 ? count - done : 5, seed + (unsigned)done);
        printf("%d kills\n", done + 5 < count ? done + 5 : count);
        fflush(stdout);
    }
    scratch_remove(&state);
    printf("%d passed, %d failed\n", count, failed);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_and_intervals),
        cmocka_unit_test(numbers_have_paths),
        cmocka_unit_test(bad_specs_are_refused_with_their_line),
        cmocka_unit_test(a_small_study_is_a_table),
        cmocka_unit_test(its_figures_are_files),
        cmocka_unit_test(long_names_have_room),
        cmocka_unit_test(figures_are_a_folder),
        cmocka_unit_test(as_many_at_once_as_one_likes),
        cmocka_unit_test(the_same_data_elsewhere),
        cmocka_unit_test(ctrl_c_and_go_on),
        cmocka_unit_test(killed_studies_go_on),
        cmocka_unit_test(what_changed_is_refused_by_name),
        cmocka_unit_test(a_run_that_fails_is_named),
        cmocka_unit_test(files_that_are_lost_or_cut),
        cmocka_unit_test(forms_of_a_spec),
        cmocka_unit_test(adapters_over_a_cell),
        cmocka_unit_test(the_specs_of_the_examples),
        cmocka_unit_test(tasks_are_checked),
    };
    if (argc > 2 && strcmp(argv[1], "--kills") == 0) {
        return run_kills(argc, argv);
    }
    return cmocka_run_group_tests_name("study", tests, set_up, scratch_remove);
}
