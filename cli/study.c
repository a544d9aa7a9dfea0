/* mixt study: a grid of design choices, trained and compared. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "study.h"
#include "study_chart.h"
#include "study_vowels.h"
#include "terminal.h"
#include "training.h"

static const cli_option study_options_table[] = {
    {.name = "spec",
     .kind = OPTION_TEXT,
     .offset = offsetof(study_settings, spec),
     .value = "FILE",
     .help = "the study: lines of key = value (docs/studies.md)"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(study_settings, out),
     .value = "FOLDER",
     .help = "folder of the study; one that is there goes on",
     .fallback = "the study's name, with -quick behind it where that is asked for"},
    {.name = "data",
     .kind = OPTION_LIST,
     .offset = offsetof(study_settings, data),
     .value = "PATH",
     .help = "in place of the data of the spec"},
    {.name = "jobs",
     .kind = OPTION_INT,
     .offset = offsetof(study_settings, jobs),
     .low = 1,
     .high = 256,
     .help = "runs at once, which share the threads"},
    {.name = "quick",
     .kind = OPTION_FLAG,
     .offset = offsetof(study_settings, quick),
     .help = "the short form that the spec has beside the whole one"},
    {.name = "dry-run",
     .kind = OPTION_FLAG,
     .offset = offsetof(study_settings, dry_run),
     .help = "check every cell, say how many runs, tokens, FLOPs and hours it would be, and end"},
    {.name = "redo",
     .kind = OPTION_FLAG,
     .offset = offsetof(study_settings, redo),
     .help = "train cells anew whose settings changed; what they had is removed"},
    {0},
};

static void study_defaults(void *user)
{
    study_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->jobs = 1;
}

/* ---- the corpus that all cells share */

/* The value of an option of mixt train that all cells share, its default where nothing is said. */
static void train_value(const study *s, const char *name, char *text, size_t size)
{
    const cli_command *train = command_find("train");
    const char *said = study_value_of(&s->base, name);
    size_t offset = 0;
    const cli_option *option = options_find(train, name, strlen(name), &offset);
    void *settings = calloc(1, train->settings_size);
    text[0] = 0;
    if (said != NULL) {
        snprintf(text, size, "%s", said);
    } else if (settings != NULL && option != NULL) {
        train->defaults(settings);
        options_format(option, (const char *)settings + offset, text, size);
    }
    free(settings);
}

/* What tokens and vocabulary depend on, as the file that remembers it. */
static mixt_status corpus_record(const study *s, const mixt_corpus *corpus, char text[600],
                                 mixt_error *error)
{
    char size[40], bytes[40], hash[80] = "trained";
    const char *given = study_value_of(&s->base, "tokenizer");
    if (given != NULL) {
        mixt_tokenizer *tokenizer = NULL;
        TRY(mixt_tokenizer_open(given, &tokenizer, error));
        snprintf(hash, sizeof hash, "%s", mixt_tokenizer_hash(tokenizer));
        mixt_tokenizer_free(tokenizer);
    }
    train_value(s, "vocab-size", size, sizeof size);
    train_value(s, "tokenizer-bytes", bytes, sizeof bytes);
    snprintf(text, 600, "corpus = %s\ntokenizer = %s\nvocab-size = %s\ntokenizer-bytes = %s\n",
             mixt_corpus_hash(corpus), hash, given != NULL ? "its own" : size,
             given != NULL ? "0" : bytes);
    return MIXT_OK;
}

static mixt_status keep_record(const char *text, mixt_error *error)
{
    char what[200], *before;
    size_t length;
    if (!files_exist("corpus.conf")) {
        if (files_exist("tokenizer") || files_exist("cells") || files_exist("train.conf")) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--out: there are files of another kind in it; use a new folder");
        }
        return files_replace("corpus.conf", text, strlen(text))
                   ? MIXT_OK
                   : set_io_error(error, "corpus.conf");
    }
    mixt_status status = files_read("corpus.conf", 4096, &before, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "corpus.conf: %s", what);
    }
    if (strcmp(before, text) != 0) {
        status = set_error(error, MIXT_ERROR_ARGUMENT,
                           "--out: the folder was made of other data, or with another vocabulary "
                           "(corpus.conf in it says which); use a new folder");
    }
    free(before);
    return status;
}

static mixt_status make_tokenizer(const study *s, mixt_corpus *corpus, cli_resources *resources,
                                  mixt_error *error)
{
    char size[40], bytes[40];
    const char *given = study_value_of(&s->base, "tokenizer");
    if (files_exist("tokenizer")) {
        return mixt_tokenizer_open("tokenizer", &resources->tokenizer, error);
    }
    train_value(s, "vocab-size", size, sizeof size);
    train_value(s, "tokenizer-bytes", bytes, sizeof bytes);
    TRY(given != NULL ? mixt_tokenizer_open(given, &resources->tokenizer, error)
                      : train_vocabulary(corpus, atoi(size), strtoull(bytes, NULL, 10),
                                         &resources->tokenizer, error));
    files_remove("tokenizer.part");
    if (!files_make_folder("tokenizer.part")) {
        return set_io_error(error, "tokenizer.part");
    }
    TRY(mixt_tokenizer_save(resources->tokenizer, "tokenizer.part", error));
    if (rename("tokenizer.part", "tokenizer") != 0) {
        return set_io_error(error, "tokenizer");
    }
    mixt_tokenizer_free(resources->tokenizer); /* all see it as it was saved */
    resources->tokenizer = NULL;
    return mixt_tokenizer_open("tokenizer", &resources->tokenizer, error);
}

/* Are the tokens there, and whole? Else they are made again, from what they were made of. */
static bool has_tokens(const mixt_tokenizer *tokenizer)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_data *data = NULL;
    bool there = files_exist("corpus.tokens");
    if (there && mixt_data_open("corpus.tokens", tokenizer, 0, &data, &error) != MIXT_OK) {
        there = error.status != MIXT_ERROR_FORMAT;
    }
    mixt_data_free(data);
    return there;
}

/* In the study's folder: vocabulary and tokens, made once. */
static mixt_status make_corpus(const study *s, mixt_corpus *corpus, mixt_error *error)
{
    cli_resources resources = {0};
    char text[600];
    const char *first;
    TRY(corpus_record(s, corpus, text, error));
    TRY(keep_record(text, error));
    mixt_status status = make_tokenizer(s, corpus, &resources, error);
    if (status == MIXT_OK && !has_tokens(resources.tokenizer)) {
        status = mixt_data_write(corpus, resources.tokenizer, "corpus.tokens", error);
        if (status == MIXT_OK && mixt_corpus_skipped(corpus, &first) > 0) {
            say(stderr, "skipped %llu of the corpus; the first: %s\n",
                (unsigned long long)mixt_corpus_skipped(corpus, NULL), first);
        }
    }
    resources_free(&resources);
    return status;
}

/* ---- before it starts */

static void print_plan(study *s, const study_settings *settings)
{
    double tokens = 0, flops = 0, seconds = 0;
    char count[32], total[32], active[32], spent[24];
    printf("%zu cells, %zu seed%s: %zu runs\n\n", s->cell_count, s->seed_count,
           plural(s->seed_count), s->cell_count * s->seed_count);
    fflush(stdout);
    study_measure(s, study_threads(settings));
    printf("%-32s %14s %14s %14s %12s %9s\n", "cell", "parameters", "active", "tokens",
           "MFLOP/token", "s/step");
    for (size_t i = 0; i < s->cell_count; i++) {
        const study_cell *cell = &s->cells[i];
        double run = cell->steps * cell->tokens_per_step;
        format_count((uint64_t)cell->parameters_total, total);
        format_count((uint64_t)cell->parameters_active, active);
        format_count((uint64_t)run, count);
        say(stdout, "%-32s", cell->name);
        printf(" %14s %14s %14s %12.4g %9.3g\n", total, active, count, cell->training_flops / 1e6,
               cell->step_seconds);
        tokens += run * (double)s->seed_count;
        flops += run * cell->training_flops * (double)s->seed_count;
        seconds += cell->steps * cell->step_seconds * (double)s->seed_count / settings->jobs;
    }
    format_count((uint64_t)tokens, count);
    format_seconds(seconds, spent);
    printf("\nin all %s tokens, %.3g FLOPs", count, flops);
    if (isfinite(seconds)) {
        printf(
            ", about %s (%.2g hours) of training here with --jobs %d:\nan estimate from one step "
            "with random tokens, without scores and traces\n",
            spent, seconds / 3600, settings->jobs);
    } else {
        printf("; no step could be measured\n");
    }
}

/* ---- after it */

static bool fail_file(study *s, const char *path)
{
    s->failed = true;
    return study_refuse(s, 0, "%s: %s", path, strerror(errno));
}

static bool write_file(study *s, const char *path, void (*write)(const study *, FILE *))
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return study_no_memory(s);
    }
    write(s, stream);
    if (fclose(stream) != 0) {
        free(text);
        return study_no_memory(s);
    }
    bool good = files_replace(path, text, length) || fail_file(s, path);
    free(text);
    return good;
}

/* The figures that there are; one that there was before and is not now goes. */
static bool write_figures(study *s)
{
    const char *name;
    if (mkdir("figures", 0777) != 0 && errno != EEXIST) {
        return fail_file(s, "figures");
    }
    for (size_t i = 0; (name = study_figure_name(i)) != NULL; i++) {
        char path[64];
        size_t length;
        char *text = study_figure_text(s, i, &length);
        if (text == NULL) {
            return study_no_memory(s);
        }
        snprintf(path, sizeof path, "figures/%s", name);
        bool good =
            length > 0 ? files_replace(path, text, length) : unlink(path) == 0 || errno == ENOENT;
        free(text);
        if (!good) {
            return fail_file(s, path);
        }
    }
    return true;
}

static int print_results(study *s, const study_settings *settings)
{
    size_t failed = 0;
    if (!write_file(s, "results.csv", study_write_csv) ||
        !write_file(s, "results.json", study_write_json) ||
        !write_file(s, "times.csv", study_write_times) ||
        !write_file(s, "study.html", study_write_page) || !write_figures(s)) {
        return fail_with(STATUS_FAILED, "%s", s->message);
    }
    study_print_table(s, stdout);
    fputc('\n', stdout);
    say(stdout, "%s/results.csv, results.json, times.csv, figures/; the page: %s/study.html\n",
        settings->out, settings->out);
    for (size_t c = 0; c < s->cell_count; c++) {
        for (size_t k = 0; k < s->seed_count; k++) {
            failed += s->cells[c].runs[k].failure != NULL;
        }
    }
    return failed > 0 ? fail_with(STATUS_FAILED,
                                  "%zu of %zu runs failed; the same command tries "
                                  "them again",
                                  failed, s->cell_count * s->seed_count)
                      : STATUS_DONE;
}

/* A study that was killed a moment ago may still have children that are about to notice. */
static mixt_status lock_folder(const char *folder, int *lock, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int i = 0; i < 20; i++) {
        *error = (mixt_error)MIXT_ERROR_INIT;
        status = mixt_run_lock(folder, lock, error);
        if (status != MIXT_ERROR_BUSY) {
            break;
        }
        usleep(100000);
    }
    return status;
}

/* What stands where figures go is found before the runs; a link could lead to somebody's files. */
static int check_figures(const char *folder)
{
    char figures[4200], path[4300];
    snprintf(figures, sizeof figures, "%.4096s/figures", folder);
    if (files_is_link(figures)) {
        return fail_usage("%s: is a link; remove it", figures);
    }
    if (files_exist(figures) && !files_is_folder(figures)) {
        return fail_usage("%s: is no folder; remove it", figures);
    }
    const char *name;
    for (size_t i = 0; (name = study_figure_name(i)) != NULL; i++) {
        snprintf(path, sizeof path, "%s/%s", figures, name);
        if (files_is_folder(path) && !files_is_link(path)) {
            return fail_usage("%s: is a folder; remove it", path);
        }
    }
    return STATUS_DONE;
}

static int run_cells(study *s, const study_settings *settings, mixt_corpus *corpus)
{
    mixt_error error = MIXT_ERROR_INIT;
    int lock = -1, figures = check_figures(settings->out);
    if (figures != STATUS_DONE) {
        return figures;
    }
    if (lock_folder(settings->out, &lock, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    int status = STATUS_DONE;
    if (chdir(settings->out) != 0) {
        status = fail_with(STATUS_FAILED, "%s: %s", settings->out, strerror(errno));
    } else if (make_corpus(s, corpus, &error) != MIXT_OK) {
        status = fail_error(&error);
    } else {
        status = study_run_all(s, settings);
    }
    if (status == STATUS_DONE) {
        status = print_results(s, settings);
    }
    mixt_run_unlock(lock);
    return status;
}

/* ---- tasks */

static const struct {
    const char *name;
    int (*run)(const char *data, const char *out, uint64_t seed, int runs, int threads);
} tasks[] = {
    {"vowels-1991", study_vowels_run},
};

static int run_task(study *s, const study_settings *settings)
{
    const study_task *task = &s->task;
    size_t place = 0;
    while (place < sizeof tasks / sizeof *tasks && strcmp(tasks[place].name, task->name) != 0) {
        place++;
    }
    if (place == sizeof tasks / sizeof *tasks) {
        study_refuse(s, task->line, "task: \"%.80s\" is not one of: %s", task->name, tasks[0].name);
        return fail_with(STATUS_REFUSED, "%s", s->message);
    }
    if (s->data.count != 1) {
        return fail_with(STATUS_REFUSED, "%s: data: one file is needed, and there are %zu", s->path,
                         s->data.count);
    }
    if (settings->dry_run) {
        say(stdout, "%s: %d run%s of each system on %s\n", task->name, task->runs,
            plural((uint64_t)task->runs), s->data.items[0]);
        return STATUS_DONE;
    }
    int threads = settings->machine.threads > 0 ? settings->machine.threads : task->threads;
    return tasks[place].run(s->data.items[0], settings->out, task->seed, task->runs, threads);
}

/* ---- the command */

/* The other form of the spec is looked at too: a spec is right as a whole. */
static int read_spec(study *s, const study_settings *settings)
{
    bool good = study_read(s, settings->spec, !settings->quick) && study_check(s);
    if (good) {
        study_free(s);
        good = study_read(s, settings->spec, settings->quick) && study_check(s);
    }
    return good        ? STATUS_DONE
           : s->failed ? fail_with(STATUS_FAILED, "%s", s->message)
                       : fail_with(STATUS_REFUSED, "%s", s->message);
}

/* The data of --data, by paths that hold in any folder. */
static bool replace_data(study *s, const string_list *data)
{
    const char **items = calloc(data->count, sizeof *items);
    if (items == NULL) {
        return study_no_memory(s);
    }
    free(s->data.items);
    s->data = (string_list){items, 0};
    for (size_t i = 0; i < data->count; i++) {
        char *real = realpath(data->items[i], NULL);
        const char *path = real != NULL ? real : data->items[i];
        items[i] = study_keep(s, path, strlen(path));
        free(real);
        if (items[i] == NULL) {
            return false;
        }
        s->data.count++;
    }
    return true;
}

static int run_spec(study *s, study_settings *settings)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus = NULL;
    char out[STUDY_NAME_MAX + 20];
    int status = read_spec(s, settings);
    if (status != STATUS_DONE) {
        return status;
    }
    if (settings->data.count > 0 && !replace_data(s, &settings->data)) {
        return fail_with(STATUS_FAILED, "%s", s->message);
    }
    if (s->data.count == 0) {
        return fail_with(STATUS_REFUSED, "%s: data: needed, in the spec or as --data", s->path);
    }
    if (settings->out == NULL) {
        snprintf(out, sizeof out, "%s%s", s->name, settings->quick ? "-quick" : "");
        settings->out = out;
    }
    if (s->task.name != NULL) {
        return run_task(s, settings);
    }
    if (mixt_corpus_open(s->data.items, s->data.count, &corpus, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    if (settings->dry_run) {
        print_plan(s, settings);
    } else {
        status = run_cells(s, settings, corpus);
    }
    mixt_corpus_free(corpus);
    return status;
}

static int run_study(void *user, cli_arguments *arguments)
{
    study_settings *settings = user;
    (void)arguments;
    if (settings->spec == NULL) {
        return fail_usage("--spec: needed");
    }
    study *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail_with(STATUS_FAILED, "out of memory");
    }
    int status = run_spec(s, settings);
    study_free(s);
    free(s);
    return status;
}

const cli_command command_study = {
    .name = "study",
    .summary = "a grid of design choices, trained and compared",
    .synopsis = "SPEC [--quick] [--out FOLDER] [--jobs N] [options]",
    .about = "Trains every cell of a study (a base configuration of mixt train, axes with values, "
             "seeds), scores and traces each, and writes one table with means over seeds, "
             "standard errors, paired differences to a baseline with 95 % intervals, and counted "
             "FLOPs: in the terminal, as CSV and JSON, and as a page with learning curves. All "
             "cells share one vocabulary and one encoded corpus. Stopped or killed at any time, "
             "the same command goes on, and the tables come out the same.",
    .examples = "  mixt study examples/studies/routers.study --quick --data text/\n"
                "  mixt study examples/studies/routers.study --dry-run\n"
                "  mixt study my.study --out my-study --jobs 4\n",
    .positional = "spec",
    .groups = (const cli_group[]){{"options", study_options_table, 0},
                                  {"machine", options_machine, offsetof(study_settings, machine)},
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(study_settings),
    .defaults = study_defaults,
    .run = run_study,
};
