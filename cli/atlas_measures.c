#include "atlas_measures.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "shared.h"
#include "terminal.h"

enum { MEASURES_MOST = 256, TRACES_MOST = 2 };

const cli_option options_measures[] = {
    {.name = "measure",
     .kind = OPTION_TEXT,
     .offset = offsetof(measures_settings, names),
     .value = "NAME[,NAME...]|all",
     .help = "print tables of these measures in place of the atlas; all: those that the traces "
             "have everything for"},
    {.name = "list-measures",
     .kind = OPTION_FLAG,
     .offset = offsetof(measures_settings, list),
     .help = "print the name of every measure and what it is"},
    {.name = "format",
     .kind = OPTION_CHOICE,
     .offset = offsetof(measures_settings, format),
     .choices = "text json csv svg",
     .help = "of the tables; svg is a figure"},
    {.name = "out",
     .kind = OPTION_TEXT,
     .offset = offsetof(measures_settings, out),
     .value = "FOLDER",
     .help = "write each table into a file of its own, FOLDER/NAME.FORMAT (.txt of text)"},
    {.name = "shuffles",
     .kind = OPTION_INT,
     .offset = offsetof(measures_settings, shuffles),
     .low = 0,
     .high = 10000,
     .help = "draws for levels that have no formula; 0: 20, or up to 199 where a p counts them "
             "and they are cheap"},
    {.name = "seed",
     .kind = OPTION_SEED,
     .offset = offsetof(measures_settings, seed),
     .help = "of these draws"},
    {0},
};

static const char *const endings[] = {"txt", "json", "csv", "svg"};

int list_measures(void)
{
    for (int i = 0; mixt_measure_describe(i) != NULL; i++) {
        const mixt_measure_info *info = mixt_measure_describe(i);
        say(stdout, "%-14s %s%s%s%s\n", info->name, info->title, info->traces != 1 ? "; " : "",
            info->traces != 1 ? mixt_measure_takes(info) : "",
            info->logits ? "; router logits" : "");
    }
    return STATUS_DONE;
}

static const mixt_measure_info *find_measure(const char *name, size_t length)
{
    for (int i = 0; mixt_measure_describe(i) != NULL; i++) {
        const mixt_measure_info *info = mixt_measure_describe(i);
        if (strlen(info->name) == length && memcmp(info->name, name, length) == 0) {
            return info;
        }
    }
    return NULL;
}

typedef struct work {
    const measures_settings *settings;
    const mixt_measure_info *asked[MEASURES_MOST];
    int count;
    bool all;
    const char *log; /* of a training run, in place of traces; or NULL */
    mixt_trace *traces[TRACES_MOST];
    int trace_count;
} work;

/* Refuses a name, with the measure that it may be a slip of. */
static int refuse_name(const char *name, size_t length)
{
    char given[64];
    const char *nearest = NULL;
    int least = INT_MAX;
    snprintf(given, sizeof given, "%.*s", (int)(length < 60 ? length : 60), name);
    for (int i = 0; mixt_measure_describe(i) != NULL; i++) {
        int distance = options_distance(given, mixt_measure_describe(i)->name);
        if (distance >= 0 && distance < least) {
            least = distance;
            nearest = mixt_measure_describe(i)->name;
        }
    }
    if (nearest != NULL) {
        return fail_usage("--measure %s: there is none of this name; is it %s?", given, nearest);
    }
    return fail_usage("--measure %s: there is none of this name (mixt atlas --list-measures)",
                      given);
}

/* The names of --measure; 0, or the status of the refusal. */
static int parse_names(work *w)
{
    const char *at = w->settings->names;
    w->all = strcmp(at, "all") == 0;
    for (int i = 0; w->all && mixt_measure_describe(i) != NULL && i < MEASURES_MOST; i++) {
        w->asked[w->count++] = mixt_measure_describe(i);
    }
    while (!w->all) {
        size_t length = strcspn(at, ",");
        const mixt_measure_info *info = find_measure(at, length);
        if (info == NULL) {
            return refuse_name(at, length);
        }
        for (int i = 0; i < w->count; i++) {
            if (w->asked[i] == info) {
                return fail_usage("--measure %s: is named twice", info->name);
            }
        }
        if (w->count == MEASURES_MOST) {
            return fail_usage("--measure: more than %d names", MEASURES_MOST);
        }
        w->asked[w->count++] = info;
        if (at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    return STATUS_DONE;
}

/* Refuses what a measure lacks before anything is computed. Only logits of a trace show when it is
 * opened, and are the library's to refuse. */
static int check_traces(const work *w, size_t paths)
{
    for (int i = 0; i < w->count && !w->all; i++) {
        const mixt_measure_info *info = w->asked[i];
        if (w->log != NULL ? info->traces != 0 : (size_t)info->traces != paths) {
            return w->log != NULL || info->traces == 0
                       ? fail_usage("--measure %s: takes %s", info->name, mixt_measure_takes(info))
                       : fail_usage("--measure %s: takes %s, not %zu", info->name,
                                    mixt_measure_takes(info), paths);
        }
    }
    bool single = w->settings->format == MIXT_TABLE_SVG || w->settings->format == MIXT_TABLE_CSV;
    if (w->settings->out == NULL && w->count > 1 && single) {
        return fail_usage("--format %s: several measures need --out FOLDER",
                          endings[w->settings->format]);
    }
    return STATUS_DONE;
}

static mixt_status print_table(const work *w, const mixt_table *table, const char *path,
                               mixt_error *error)
{
    mixt_table_format format = (mixt_table_format)w->settings->format;
    if (path == NULL) {
        return mixt_table_print(table, format, terminal_width(stdout), stdout, error);
    }
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return set_memory_error(error);
    }
    mixt_status status = mixt_table_print(table, format, 0, stream, error);
    if (fclose(stream) != 0 && status == MIXT_OK) {
        status = set_memory_error(error);
    }
    if (status == MIXT_OK && !files_replace(path, text, length)) {
        status = set_io_error(error, path);
    }
    free(text);
    return status;
}

/* Where a measure's table goes: false where the path is too long. */
static bool path_of(const work *w, const mixt_measure_info *info, char *path, size_t size)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", info->name, endings[w->settings->format]);
    return files_join(path, size, w->settings->out, name);
}

/* `done`: which part of all measures stand before it. */
static mixt_status measure_one(const work *w, const mixt_measure_info *info, double done,
                               mixt_error *error)
{
    char path[4096];
    bool to_file = w->settings->out != NULL;
    const mixt_measure_options options = {.shuffles = w->settings->shuffles,
                                          .seed = w->settings->seed};
    const mixt_trace *traces[TRACES_MOST] = {w->traces[0], w->traces[1]};
    mixt_table *table = NULL;
    if (to_file && !path_of(w, info, path, sizeof path)) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "--out: the path is too long");
    }
    progress_line progress;
    progress_begin(&progress, "atlas");
    progress_draw(&progress, done, info->name);
    mixt_status status =
        w->log != NULL ? mixt_measure_log(info->name, w->log, &options, &table, error)
                       : mixt_measure(info->name, traces, w->trace_count, &options, &table, error);
    progress_end(&progress);
    TRY(status);
    status = print_table(w, table, to_file ? path : NULL, error);
    mixt_table_free(table);
    if (status == MIXT_OK && to_file) {
        say(stderr, "%s: %s\n", info->name, path);
    }
    return status;
}

/* Of all: what the traces have nothing for is passed over by name. Several objects of JSON on
 * standard output are one behind the other; CSV is refused there. */
static mixt_status measure_all(const work *w, mixt_error *error)
{
    for (int i = 0; i < w->count; i++) {
        const mixt_measure_info *info = w->asked[i];
        if (w->all && info->traces != w->trace_count) {
            say(stderr, "skipped %s: takes %s\n", info->name, mixt_measure_takes(info));
            continue;
        }
        mixt_error lacks = MIXT_ERROR_INIT;
        mixt_status status = measure_one(w, info, (double)i / w->count, w->all ? &lacks : error);
        if (w->all && status == MIXT_ERROR_ARGUMENT) {
            say(stderr, "skipped %s\n", lacks.message);
        } else if (status != MIXT_OK) {
            *error = w->all ? lacks : *error;
            return status;
        }
    }
    return MIXT_OK;
}

static mixt_status run_work(work *w, const string_list *paths, mixt_error *error)
{
    for (size_t i = 0; i < paths->count && w->log == NULL; i++) {
        TRY(mixt_trace_open(paths->items[i], &w->traces[i], error));
        w->trace_count++;
    }
    if (w->settings->out != NULL && !files_make_folder(w->settings->out)) {
        return set_io_error(error, w->settings->out);
    }
    return measure_all(w, error);
}

/* Traces are safetensors files; a folder or lines of JSON are of a run. */
static bool is_log(const char *path)
{
    size_t length = strlen(path);
    return files_is_folder(path) || (length > 6 && strcmp(path + length - 6, ".jsonl") == 0);
}

int run_measures(const measures_settings *settings, const string_list *paths)
{
    work w = {.settings = settings};
    int status = parse_names(&w);
    w.log = paths->count == 1 && is_log(paths->items[0]) ? paths->items[0] : NULL;
    if (status == STATUS_DONE && paths->count > TRACES_MOST) {
        status = fail_usage("--measure: takes one or two traces, not %zu", paths->count);
    }
    if (status == STATUS_DONE) {
        status = check_traces(&w, paths->count);
    }
    for (int i = 0; i < w.count && settings->out != NULL && status == STATUS_DONE; i++) {
        char path[4096];
        if (path_of(&w, w.asked[i], path, sizeof path)) {
            status = refuse_replacing("out", path, paths->items, paths->count, NULL);
        }
    }
    if (status != STATUS_DONE) {
        return status;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status made = run_work(&w, paths, &error);
    for (int i = 0; i < w.trace_count; i++) {
        mixt_trace_free(w.traces[i]);
    }
    return made == MIXT_OK ? STATUS_DONE : fail_error(&error);
}
