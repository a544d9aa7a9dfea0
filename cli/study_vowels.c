/* The vowel task of 1991: runs in each reading of its text, a table of each beside the published
 * one, results.csv and results.json. */
#include "study_vowels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "files.h"
#include "terminal.h"

/* What the text leaves open (what the outputs stand for, and how far rates were explored), read in
 * several ways. */
static const struct {
    const char *name, *about;
    mixt_vowel_coding coding;
    bool linear, standardise;
    double rise; /* mixt_vowel_options */
} readings[] = {
    {"pairs",
     "one logistic output: which vowel of its pair; formants in kHz; the fastest rates with which "
     "every step descends",
     MIXT_VOWELS_PAIRS, false, false, 0.01},
    {"pairs-fastest", "the same with the fastest rates, even where the loss swings",
     MIXT_VOWELS_PAIRS, false, false, 0},
    {"classes-linear",
     "four linear outputs, one for each vowel; formants in kHz; the fastest rates, even where the "
     "loss swings",
     MIXT_VOWELS_CLASSES, true, false, 0},
    {"classes",
     "four logistic outputs, one for each vowel; formants of mean 0 and deviation 1; the fastest "
     "rates with which every step descends",
     MIXT_VOWELS_CLASSES, false, true, 0.01},
};
enum { READINGS = sizeof readings / sizeof *readings };

/* Table 1 of the paper. */
static const struct {
    double train, test, epochs, deviation;
} published[MIXT_VOWEL_SYSTEMS] = {
    {0.88, 0.90, 1124, 23},
    {0.88, 0.90, 1083, 12},
    {0.88, 0.90, 2209, 83},
    {0.88, 0.90, 2435, 124},
};

typedef struct results {
    const char *csv;
    mixt_vowel_options options;
    mixt_vowel_report reports[READINGS];
    mixt_vowel_run *runs[READINGS];
} results;

static void system_name(const mixt_vowel_system *system, char name[24])
{
    if (system->experts > 0) {
        snprintf(name, 24, "%d experts", system->experts);
    } else {
        snprintf(name, 24, "%d hidden units", system->hidden);
    }
}

/* ---- the terminal */

/* "1126 (28)", or a dash where no run counts. */
static void mean_text(double mean, double deviation, char text[32])
{
    if (!isfinite(mean)) {
        snprintf(text, 32, "-");
    } else if (!isfinite(deviation)) {
        snprintf(text, 32, "%.0f", mean);
    } else {
        snprintf(text, 32, "%.0f (%.0f)", mean, deviation);
    }
}

static void print_share(double share)
{
    if (isfinite(share)) {
        printf("  %5.1f", 100 * share);
    } else {
        printf("  %5s", "-");
    }
}

static void print_systems(const results *r, const mixt_vowel_report *report)
{
    printf("%-16s %10s %7s %7s  %14s  %5s  %5s  %6s  %s\n", "system", "parameters", "rate",
           "reached", "epochs (sd)", "train", "test", "active", "published: epochs, train, test");
    for (int i = 0; i < MIXT_VOWEL_SYSTEMS; i++) {
        const mixt_vowel_system *s = &report->systems[i];
        char name[24], epochs[32], reached[32];
        system_name(s, name);
        mean_text(s->epochs, s->epochs_deviation, epochs);
        snprintf(reached, sizeof reached, "%d/%d", s->reached, r->options.runs);
        printf("%-16s %10d %7.4g %7s  %14s", name, s->parameters, s->rate, reached, epochs);
        print_share(s->train);
        print_share(s->test);
        if (s->experts > 0 && isfinite(s->active)) {
            printf("  %6.2f", s->active);
        } else {
            printf("  %6s", "-");
        }
        printf("  %.0f (%.0f), %.0f %%, %.0f %%\n", published[i].epochs, published[i].deviation,
               100 * published[i].train, 100 * published[i].test);
    }
}

static void print_comparisons(const mixt_vowel_report *report)
{
    printf("epochs by Student's t with a pooled variance:\n");
    for (int i = 0; i < MIXT_VOWEL_COMPARISONS; i++) {
        const mixt_vowel_comparison *c = &report->comparisons[i];
        const mixt_vowel_system *first = &report->systems[c->first];
        const mixt_vowel_system *second = &report->systems[c->second];
        char names[2][24];
        system_name(first, names[0]);
        system_name(second, names[1]);
        printf("  %s and %s: ", names[0], names[1]);
        if (!isfinite(c->t)) {
            printf("too few runs reached the error\n");
            continue;
        }
        printf("%.0f and %.0f, ratio %.2f (published %.2f), t(%d) = %.2f, p = %.2g\n",
               first->epochs, second->epochs, second->epochs / first->epochs,
               published[c->second].epochs / published[c->first].epochs, c->freedom, c->t, c->p);
    }
}

static void print_reading(const results *r, int reading)
{
    const mixt_vowel_report *report = &r->reports[reading];
    printf("%s%s: %s\n", reading > 0 ? "\n" : "", readings[reading].name, readings[reading].about);
    print_systems(r, report);
    print_comparisons(report);
}

static void print_head(const results *r, const mixt_vowel_report *report)
{
    say(stdout, "%s: %d speakers with the vowels i, I, A and V", r->csv, report->speakers);
    printf("; %d to train (%d cases), %d to test (%d cases), drawn by seed %llu",
           r->options.train_speakers, report->train_cases, r->options.test_speakers,
           report->test_cases, (unsigned long long)r->options.seed);
    if (report->dropped[0] != 0) {
        say(stdout, "; from speaker %s on not used", report->dropped);
    }
    printf(
        "\n%d runs of each system, until the mean squared error is %g; epochs, shares and active "
        "experts are means of those that reached it\n\n",
        r->options.runs, r->options.stop_error);
}

/* ---- files */

static void write_csv(const results *r, FILE *stream)
{
    fprintf(stream, "reading,system,run,rate,epochs,reached,error,train,test,active\n");
    for (int reading = 0; reading < READINGS; reading++) {
        for (int i = 0; i < MIXT_VOWEL_SYSTEMS * r->options.runs; i++) {
            const mixt_vowel_run *run = &r->runs[reading][i];
            const mixt_vowel_system *s = &r->reports[reading].systems[i / r->options.runs];
            char name[24], rate[NUMBER_SIZE], error[NUMBER_SIZE], train[NUMBER_SIZE],
                test[NUMBER_SIZE];
            system_name(s, name);
            format_number(s->rate, rate);
            format_number(run->error, error);
            format_number(run->train, train);
            format_number(run->test, test);
            fprintf(stream, "%s,%s,%d,%s,%lld,%d,%s,%s,%s,%d\n", readings[reading].name, name,
                    i % r->options.runs, rate, (long long)run->epochs, run->reached, error, train,
                    test, run->active);
        }
    }
}

static void write_number(FILE *stream, const char *name, double value)
{
    fprintf(stream, ", \"%s\": ", name);
    print_json_number(stream, value);
}

static void write_system(FILE *stream, const mixt_vowel_system *s, int place)
{
    char name[24];
    system_name(s, name);
    fprintf(stream, "      {\"system\": \"%s\", \"parameters\": %d, \"reached\": %d", name,
            s->parameters, s->reached);
    write_number(stream, "rate", s->rate);
    write_number(stream, "epochs", s->epochs);
    write_number(stream, "epochs_deviation", s->epochs_deviation);
    write_number(stream, "train", s->train);
    write_number(stream, "test", s->test);
    write_number(stream, "active", s->experts > 0 ? s->active : NAN);
    write_number(stream, "published_epochs", published[place].epochs);
    write_number(stream, "published_epochs_deviation", published[place].deviation);
    write_number(stream, "published_train", published[place].train);
    write_number(stream, "published_test", published[place].test);
    fprintf(stream, "}%s\n", place + 1 < MIXT_VOWEL_SYSTEMS ? "," : "");
}

static void write_reading(const results *r, int reading, FILE *stream)
{
    const mixt_vowel_report *report = &r->reports[reading];
    fprintf(stream, "    {\"reading\": \"%s\", \"about\": ", readings[reading].name);
    print_json_text(stream, readings[reading].about);
    fprintf(stream, ", \"systems\": [\n");
    for (int i = 0; i < MIXT_VOWEL_SYSTEMS; i++) {
        write_system(stream, &report->systems[i], i);
    }
    fprintf(stream, "    ], \"epochs_compared\": [\n");
    for (int i = 0; i < MIXT_VOWEL_COMPARISONS; i++) {
        const mixt_vowel_comparison *c = &report->comparisons[i];
        char names[2][24];
        system_name(&report->systems[c->first], names[0]);
        system_name(&report->systems[c->second], names[1]);
        fprintf(stream, "      {\"first\": \"%s\", \"second\": \"%s\", \"freedom\": %d", names[0],
                names[1], c->freedom);
        write_number(stream, "t", c->t);
        write_number(stream, "p", c->p);
        fprintf(stream, "}%s\n", i + 1 < MIXT_VOWEL_COMPARISONS ? "," : "");
    }
    fprintf(stream, "    ]}%s\n", reading + 1 < READINGS ? "," : "");
}

static void write_json(const results *r, FILE *stream)
{
    const mixt_vowel_report *report = &r->reports[0];
    fprintf(stream, "{\n  \"task\": \"vowels-1991\",\n  \"data\": ");
    print_json_text(stream, r->csv);
    fprintf(stream, ",\n  \"seed\": %llu, \"runs\": %d, \"stop_error\": ",
            (unsigned long long)r->options.seed, r->options.runs);
    print_json_number(stream, r->options.stop_error);
    fprintf(stream,
            ", \"most_epochs\": %lld,\n  \"train_speakers\": %d, \"train_cases\": %d, "
            "\"test_speakers\": %d, \"test_cases\": %d, \"not_used_from\": ",
            (long long)r->options.epochs, r->options.train_speakers, report->train_cases,
            r->options.test_speakers, report->test_cases);
    print_json_text(stream, report->dropped);
    fprintf(stream, ",\n  \"readings\": [\n");
    for (int i = 0; i < READINGS; i++) {
        write_reading(r, i, stream);
    }
    fprintf(stream, "  ]\n}\n");
}

static mixt_status write_file(const results *r, const char *out, const char *name,
                              void (*write)(const results *r, FILE *stream), mixt_error *error)
{
    char path[4096], *text = NULL;
    size_t length = 0;
    if (!files_join(path, sizeof path, out, name)) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "%s/%s: too long a path", out, name);
    }
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return set_memory_error(error);
    }
    write(r, stream);
    bool whole = ferror(stream) == 0;
    whole = fclose(stream) == 0 && whole;
    mixt_status status = whole ? MIXT_OK : set_memory_error(error);
    if (whole && !files_replace(path, text, length)) {
        status = set_io_error(error, path);
    }
    free(text);
    return status;
}

/* ---- the study */

static mixt_status run_reading(mixt_context *context, results *r, int reading, mixt_error *error)
{
    char label[64];
    progress_line progress;
    mixt_vowel_options options = r->options;
    snprintf(label, sizeof label, "vowels: %s", readings[reading].name);
    options.coding = readings[reading].coding;
    options.linear = readings[reading].linear;
    options.standardise = readings[reading].standardise;
    options.rise = readings[reading].rise;
    options.progress = progress_callback;
    options.user = &progress;
    r->runs[reading] =
        calloc((size_t)MIXT_VOWEL_SYSTEMS * (size_t)options.runs, sizeof *r->runs[reading]);
    if (r->runs[reading] == NULL) {
        return set_memory_error(error);
    }
    progress_begin(&progress, label);
    interrupt_begin();
    mixt_status status =
        mixt_vowels(context, r->csv, &options, &r->reports[reading], r->runs[reading], error);
    interrupt_end();
    progress_end(&progress);
    return status;
}

static mixt_status run_all(mixt_context *context, results *r, const char *out, mixt_error *error)
{
    for (int i = 0; i < READINGS; i++) {
        TRY(run_reading(context, r, i, error));
        if (i == 0) {
            print_head(r, &r->reports[i]);
        }
        print_reading(r, i);
        fflush(stdout);
    }
    TRY(write_file(r, out, "results.csv", write_csv, error));
    return write_file(r, out, "results.json", write_json, error);
}

int study_vowels_run(const char *csv, const char *out, uint64_t seed, int runs, int threads)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options machine = {.threads = threads};
    mixt_context *context = NULL;
    results r = {.csv = csv, .options = mixt_vowel_options_default()};
    r.options.seed = seed;
    r.options.runs = runs;
    if (runs < 1 || runs > 1000) { /* before there is a list of that many */
        return fail_with(STATUS_REFUSED, "runs: %d is not in 1..1000", runs);
    }
    mixt_status status = mixt_context_create(&machine, &context, &error);
    bool there = files_exist(out);
    if (status == MIXT_OK && !files_make_folder(out)) { /* before the time is spent */
        status = set_io_error(&error, out);
    }
    if (status == MIXT_OK) {
        status = run_all(context, &r, out, &error);
    }
    if (status != MIXT_OK && !there) {
        rmdir(out); /* with nothing in it */
    }
    for (int i = 0; i < READINGS; i++) {
        free(r.runs[i]);
    }
    mixt_context_free(context);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}
