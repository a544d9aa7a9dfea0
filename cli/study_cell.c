/* One run of a study: trained by mixt train, scored on what is held out, traced, and its numbers in
 * a file that appears when all of them are there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "study.h"
#include "study_atlas.h"
#include "terminal.h"
#include "training.h"

enum { FILE_MAX = 1 << 26, CURVE_POINTS = 400 };

void study_run_folder(const study *s, const study_cell *cell, size_t seed, char folder[300])
{
    snprintf(folder, 300, "cells/%s-seed%llu", cell->name, (unsigned long long)s->seeds[seed]);
}

static void run_file(const study *s, const study_cell *cell, size_t seed, const char *name,
                     char path[400])
{
    char folder[300];
    study_run_folder(s, cell, seed, folder);
    snprintf(path, 400, "%s/%s", folder, name);
}

static void write_option(const study *s, size_t seed, const study_option *option, FILE *stream)
{
    char path[400];
    for (size_t i = 0; option->value[0] == '@' && i < s->cell_count; i++) {
        if (strcmp(s->cells[i].name, option->value + 1) == 0) {
            run_file(s, &s->cells[i], seed, "model", path);
            config_write(stream, option->name, path);
            return;
        }
    }
    config_write(stream, option->name, option->value);
}

char *study_config(const study *s, const study_cell *cell, size_t seed, size_t *length)
{
    static const char *const left_out[] = {"tokenizer", "tokenizer-bytes", "vocab-size"};
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    if (stream == NULL) {
        return NULL;
    }
    fputs("# A run of mixt study; paths count from the study's folder.\n"
          "data = corpus.tokens\ntokenizer = tokenizer\n",
          stream);
    for (size_t i = 0; i < cell->options.count; i++) {
        const study_option *option = &cell->options.items[i];
        bool writes = true;
        for (size_t k = 0; k < sizeof left_out / sizeof *left_out; k++) {
            writes = writes && strcmp(option->name, left_out[k]) != 0;
        }
        if (writes) {
            write_option(s, seed, option, stream);
        }
    }
    if (study_value_of(&cell->options, "checkpoint-seconds") == NULL) {
        fputs("checkpoint-seconds = 60\n", stream);
    }
    fprintf(stream, "seed = %llu\n", (unsigned long long)s->seeds[seed]);
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- numbers */

typedef struct numbers {
    char *text;
    size_t length;
    FILE *stream;
} numbers;

/* A line "VALUE NAME"; what is not finite is left out. */
static void put(numbers *n, double value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void put(numbers *n, double value, const char *format, ...)
{
    char name[400];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    mixt_text_plain(name);
    if (isfinite(value)) {
        fprintf(n->stream, "%.17g %s\n", value, name);
    }
}

static void put_scores(numbers *n, const mixt_score_row *rows, int domains)
{
    for (int i = 0; i <= domains; i++) {
        const mixt_score_row *row = &rows[i];
        char before[300] = "";
        if (row->tokens == 0) {
            continue;
        }
        if (row->domain != NULL) {
            snprintf(before, sizeof before, "domain.%.250s.", row->domain);
        }
        double loss = row->nats / (double)row->tokens;
        put(n, loss, "%sloss", before);
        put(n, exp(loss), "%sperplexity", before);
        put(n, row->bytes > 0 ? bits_per_byte(row) : NAN, "%sbits_per_byte", before);
        put(n, (double)row->tokens, "%sheldout_tokens", before);
        put(n, (double)row->bytes, "%sheldout_bytes", before);
    }
}

/* Of a layer's shares: their variation, and the violation of Wang et al. 2024 (2408.15664), how
 * much the busiest expert is above the mean. */
static void load_of(const double *shares, int experts, double *variation, double *violation)
{
    double squares = 0, most = 0, mean = 1.0 / experts;
    for (int e = 0; e < experts; e++) {
        squares += (shares[e] - mean) * (shares[e] - mean);
        most = shares[e] > most ? shares[e] : most;
    }
    *variation = sqrt(squares / experts) / mean;
    *violation = most / mean - 1;
}

/* Total variation distance of each domain's shares from the mean of the domains, their mean. */
static mixt_status domain_distance(const mixt_trace *trace, int layer, double *shares,
                                   double *distance, mixt_error *error)
{
    mixt_trace_info info;
    mixt_trace_describe(trace, &info);
    int experts = info.experts, used = 0;
    double *mean = shares + (size_t)info.domains * (size_t)experts;
    memset(mean, 0, (size_t)experts * sizeof *mean);
    for (int d = 0; d < info.domains; d++) {
        double *row = shares + (size_t)d * (size_t)experts, sum = 0;
        TRY(mixt_atlas_proportions(trace, layer, d, -1, row, error));
        for (int e = 0; e < experts; e++) {
            mean[e] += row[e];
            sum += row[e];
        }
        used += sum > 0;
    }
    *distance = used > 1 ? 0 : NAN;
    for (int d = 0; d < info.domains && used > 1; d++) {
        const double *row = shares + (size_t)d * (size_t)experts;
        double apart = 0, sum = 0;
        for (int e = 0; e < experts; e++) {
            apart += fabs(row[e] - mean[e] / used);
            sum += row[e];
        }
        *distance += sum > 0 ? apart / 2 / used : 0;
    }
    return MIXT_OK;
}

enum { MEASURES = 8 };

static const char *const measure_names[MEASURES] = {
    "load_variation",   "max_violation",           "dropped",        "domain_distance",
    "repetition_first", "repetition_first_chance", "repetition_any", "repetition_any_chance",
};

static mixt_status layer_measures(const mixt_trace *trace, int layer, double *shares,
                                  double values[MEASURES], mixt_error *error)
{
    mixt_trace_info info;
    mixt_rate rate;
    mixt_trace_describe(trace, &info);
    TRY(mixt_atlas_proportions(trace, layer, -1, -1, shares, error));
    load_of(shares, info.experts, &values[0], &values[1]);
    values[2] = mixt_trace_dropped(trace, layer);
    TRY(domain_distance(trace, layer, shares, &values[3], error));
    for (int which = 0; which < 2; which++) {
        TRY(mixt_atlas_repetition(trace, layer, -1, which, &rate, error));
        values[4 + 2 * which] = rate.pairs > 0 ? rate.value : NAN;
        values[5 + 2 * which] =
            mixt_atlas_random_level(info.experts, mixt_trace_layer_experts(trace, layer), which);
    }
    return MIXT_OK;
}

/* Of every layer, their means, and the worst violation. */
static mixt_status put_measures(numbers *n, const mixt_trace *trace, mixt_error *error)
{
    mixt_trace_info info;
    double means[MEASURES] = {0}, worst = 0;
    mixt_trace_describe(trace, &info);
    double *shares = calloc(((size_t)info.domains + 1) * (size_t)info.experts, sizeof *shares);
    if (shares == NULL) {
        return set_memory_error(error);
    }
    mixt_status status = MIXT_OK;
    for (int layer = 0; layer < info.layers && status == MIXT_OK; layer++) {
        double values[MEASURES] = {0};
        status = layer_measures(trace, layer, shares, values, error);
        for (int i = 0; i < MEASURES && status == MIXT_OK; i++) {
            put(n, values[i], "routing.layer.%d.%s", mixt_trace_layer(trace, layer),
                measure_names[i]);
            means[i] += values[i] / info.layers;
        }
        worst = values[1] > worst ? values[1] : worst;
    }
    free(shares);
    for (int i = 0; i < MEASURES && status == MIXT_OK; i++) {
        put(n, means[i], "routing.%s", measure_names[i]);
    }
    put(n, status == MIXT_OK ? worst : NAN, "routing.worst_violation");
    return status;
}

/* ---- the log */

/* The numbers of a line {"name":value,...}, one by one. False at its end. */
static bool next_number(const char **at, char name[64], double *value)
{
    for (;;) {
        const char *quote = strchr(*at, '"');
        const char *end = quote != NULL ? strchr(quote + 1, '"') : NULL;
        char *behind;
        if (end == NULL) {
            return false;
        }
        *at = end + 1;
        if (**at != ':' || end - quote > 60) {
            continue;
        }
        snprintf(name, 64, "%.*s", (int)(end - quote - 1), quote + 1);
        *value = strtod(*at + 1, &behind);
        if (behind != *at + 1) {
            *at = behind;
            return true;
        }
    }
}

/* Is the line one of a step, and not of scores? */
static bool is_step(const char *line)
{
    return strncmp(line, "{\"step\":", 8) == 0 && strstr(line, "\"loss\":") != NULL;
}

static size_t count_steps(char *text)
{
    size_t count = 0;
    for (char *line = text; *line != 0; line += strcspn(line, "\n"), line += *line == '\n') {
        count += strncmp(line, "{\"step\":", 8) == 0 && is_step(line);
    }
    return count;
}

/* Cuts the text into lines: NUL in place of their ends; both as they were for strtok-free loops. */
static char *next_line(char **at)
{
    char *line = *at;
    if (*line == 0) {
        return NULL;
    }
    size_t length = strcspn(line, "\n");
    *at = line + length + (line[length] == '\n');
    line[length] = 0;
    return line;
}

static mixt_status read_log(const study *s, const study_cell *cell, size_t seed, char **text,
                            mixt_error *error)
{
    char path[400], what[200];
    size_t length;
    run_file(s, cell, seed, "log.jsonl", path);
    mixt_status status = files_read(path, FILE_MAX, text, &length, what);
    return status == MIXT_OK ? MIXT_OK : set_error(error, status, "%s: %s", path, what);
}

typedef struct log_mean {
    char name[64];
    double sum;
    size_t count;
} log_mean;

/* Means over the last tenth of the log's steps of every number but those of the clock. */
static mixt_status put_log(numbers *n, const study *s, const study_cell *cell, size_t seed,
                           mixt_error *error)
{
    enum { MEANS = 64 };
    log_mean means[MEANS] = {0};
    char *text, *at, *line;
    double tokens = 0;
    TRY(read_log(s, cell, seed, &text, error));
    size_t steps = count_steps(text), step = 0, used = 0;
    at = text;
    while ((line = next_line(&at)) != NULL) {
        char name[64];
        double value;
        const char *field = line;
        if (!is_step(line)) {
            continue;
        }
        bool counts = 10 * ++step > 9 * steps;
        while (next_number(&field, name, &value)) {
            tokens = strcmp(name, "tokens") == 0 ? value : tokens;
            size_t i = 0;
            while (i < used && strcmp(means[i].name, name) != 0) {
                i++;
            }
            if (!counts || i == MEANS || strcmp(name, "tokens_per_second") == 0 ||
                strcmp(name, "tokens") == 0 || strcmp(name, "step") == 0 ||
                strcmp(name, "lr") == 0) {
                continue;
            }
            snprintf(means[i].name, sizeof means[i].name, "%s", name);
            means[i].sum += value;
            means[i].count++;
            used = i == used ? used + 1 : used;
        }
    }
    free(text);
    for (size_t i = 0; i < used; i++) {
        put(n, means[i].sum / (double)means[i].count, "train.%s", means[i].name);
    }
    put(n, tokens, "tokens");
    return MIXT_OK;
}

int64_t study_steps_done(const study *s, const study_cell *cell, size_t seed)
{
    char path[400], end[4097], what[200];
    FILE *file;
    int64_t step = 0;
    run_file(s, cell, seed, "log.jsonl", path);
    if (files_open(path, &file, what) != MIXT_OK) {
        return 0;
    }
    if (fseek(file, -4096, SEEK_END) != 0) {
        rewind(file);
    }
    end[fread(end, 1, 4096, file)] = 0;
    fclose(file);
    for (const char *at = end; (at = strstr(at, "{\"step\":")) != NULL; at++) {
        step = strtoll(at + 8, NULL, 10);
    }
    return step;
}

/* ---- work */

/* What mixt train made of the settings that scores depend on. */
typedef struct run_shape {
    int window;
    int64_t evaluate_tokens;
    double heldout;
} run_shape;

static bool take_shape(void *user, config_reader *reader, char *name, char *value)
{
    run_shape *shape = user;
    if (!config_unquote(reader, &value)) {
        return false;
    }
    if (strcmp(name, "window") == 0) {
        shape->window = atoi(value);
    } else if (strcmp(name, "eval-tokens") == 0) {
        shape->evaluate_tokens = strtoll(value, NULL, 10);
    } else if (strcmp(name, "heldout") == 0) {
        shape->heldout = strtod(value, NULL);
    }
    return true;
}

typedef struct cell_work {
    const study *s;
    const study_cell *cell;
    size_t seed;
    int threads;
    numbers numbers;
} cell_work;

static mixt_status open_run(const cell_work *w, run_shape *shape, cli_resources *resources,
                            mixt_error *error)
{
    char path[400], message[400];
    static const char *const corpus[] = {"corpus.tokens"};
    const machine_settings machine = {.threads = w->threads};
    run_file(w->s, w->cell, w->seed, "train.conf", path);
    config_reader reader = {.path = path, .message = message, .size = sizeof message};
    if (!config_read(&reader, take_shape, shape)) {
        return set_error(error, MIXT_ERROR_FORMAT, "%s", message);
    }
    TRY(open_context(&machine, resources, error));
    run_file(w->s, w->cell, w->seed, "model", path);
    TRY(open_model(path, resources, error));
    TRY(open_tokenizer("tokenizer", resources, error));
    const string_list paths = {(const char **)(uintptr_t)corpus, 1};
    const text_request request = {.paths = &paths,
                                  .heldout = shape->heldout,
                                  .max_tokens = shape->evaluate_tokens,
                                  .purpose = "to score"};
    return open_texts(&request, resources, error);
}

/* A command of the program with its standard output in a file. */
static int run_into(const char *path, int count, char **words)
{
    int status = STATUS_FAILED;
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (before >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0) {
        status = run_program(count, words);
        fflush(stdout);
        dup2(before, STDOUT_FILENO);
    }
    if (before >= 0) {
        close(before);
    }
    if (file >= 0) {
        close(file);
    }
    return status;
}

/* Numbers of the atlas; what the experts tell of domains and tokens, over all layers, also stands
 * with the other routing measures. */
static void take_atlas(void *user, const char *path, double value)
{
    numbers *n = user;
    char label[40], kind[40];
    if (sscanf(path, "information.%39[a-z_].first.mean.%39[a-z_]", label, kind) == 2) {
        const char *behind = strcmp(kind, "bits") == 0       ? ""
                             : strcmp(kind, "shuffled") == 0 ? "_chance"
                             : strcmp(kind, "excess") == 0   ? "_excess"
                                                             : NULL;
        if (behind != NULL) {
            put(n, value, "routing.information_%s%s", label, behind);
        }
    }
    if (strncmp(path, "repetition.", 11) == 0 || strncmp(path, "information.", 12) == 0) {
        put(n, value, "atlas.%s", path);
    }
}

/* The atlas of the trace as JSON, into atlas.json of the run. */
static mixt_status put_atlas(cell_work *w, const char *trace, mixt_error *error)
{
    char path[400], what[200], file[400], *text;
    size_t length, offset;
    const cli_command *atlas = command_find("atlas");
    if (options_find(atlas, "json", 4, &offset) == NULL) {
        return MIXT_OK;
    }
    run_file(w->s, w->cell, w->seed, "atlas.json", path);
    snprintf(file, sizeof file, "%s", trace);
    char *words[] = {"mixt", "atlas", file, "--json", NULL};
    if (run_into(path, 4, words) != STATUS_DONE) {
        return set_error(error, MIXT_ERROR_FORMAT, "%s: no atlas", trace);
    }
    mixt_status status = files_read(path, FILE_MAX, &text, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "%s: %s", path, what);
    }
    status = study_atlas_numbers(text, take_atlas, &w->numbers);
    free(text);
    return status == MIXT_OK
               ? status
               : set_error(error, status, "%s: %s", path,
                           status == MIXT_ERROR_MEMORY ? "out of memory" : "is no JSON");
}

static mixt_status trace_run(cell_work *w, const run_shape *shape, const cli_resources *resources,
                             mixt_error *error)
{
    char path[400];
    mixt_trace *trace = NULL;
    run_file(w->s, w->cell, w->seed, "trace.safetensors", path);
    const mixt_trace_options options = {.output = path,
                                        .model_name = w->cell->name,
                                        .window = shape->window,
                                        .max_tokens = (uint64_t)w->s->trace_tokens,
                                        .heldout = true};
    TRY(trace_data(resources, &options, error));
    TRY(mixt_trace_open(path, &trace, error));
    mixt_status status = put_measures(&w->numbers, trace, error);
    mixt_trace_free(trace);
    return status == MIXT_OK ? put_atlas(w, path, error) : status;
}

static mixt_status measure(cell_work *w, cli_resources *resources, mixt_error *error)
{
    run_shape shape = {0};
    mixt_score_row *rows = NULL;
    TRY(open_run(w, &shape, resources, error));
    if (mixt_data_tokens(resources->data, true) == 0) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "nothing is held out, so that there is no "
                         "score; see --heldout");
    }
    const score_request request = {"held-out text", true, shape.window,
                                   (uint64_t)shape.evaluate_tokens};
    TRY(score_data(resources, &request, &rows, error));
    put_scores(&w->numbers, rows, mixt_data_domain_count(resources->data));
    free(rows);
    TRY(put_log(&w->numbers, w->s, w->cell, w->seed, error));
    return w->cell->moe_layers > 0 ? trace_run(w, &shape, resources, error) : MIXT_OK;
}

/* Seconds in steps, which the newest checkpoint has. */
static double seconds_of(const study *s, const study_cell *cell, size_t seed)
{
    char path[400], inner[700], what[200], *text;
    size_t length;
    run_file(s, cell, seed, "LATEST", path);
    if (files_read(path, 300, &text, &length, what) != MIXT_OK) {
        return NAN;
    }
    text[strcspn(text, "\r\n")] = 0;
    run_file(s, cell, seed, text, path);
    free(text);
    if (!files_join(inner, sizeof inner, path, "state.json") ||
        files_read(inner, FILE_MAX, &text, &length, what) != MIXT_OK) {
        return NAN;
    }
    double seconds = study_json_number(text, "seconds");
    free(text);
    return seconds;
}

/* The times first: who finds a result finds them too. Measured again, a run has no checkpoint any
 * more, and keeps those it had. */
static mixt_status keep_result(cell_work *w, mixt_error *error)
{
    char path[400], times[100];
    run_file(w->s, w->cell, w->seed, "times", path);
    double seconds = seconds_of(w->s, w->cell, w->seed);
    int length = snprintf(times, sizeof times, "%.6g seconds\n", seconds);
    bool known = isfinite(seconds) || !files_exist(path);
    if (known && !files_replace(path, times, (size_t)length)) {
        return set_io_error(error, path);
    }
    run_file(w->s, w->cell, w->seed, "result", path);
    return files_replace(path, w->numbers.text, w->numbers.length) ? MIXT_OK
                                                                   : set_io_error(error, path);
}

static int measure_and_keep(cell_work *w)
{
    mixt_error error = MIXT_ERROR_INIT;
    cli_resources resources = {0};
    w->numbers.stream = open_memstream(&w->numbers.text, &w->numbers.length);
    mixt_status status =
        w->numbers.stream == NULL ? set_memory_error(&error) : measure(w, &resources, &error);
    resources_free(&resources);
    if (w->numbers.stream != NULL && fclose(w->numbers.stream) != 0 && status == MIXT_OK) {
        status = set_memory_error(&error);
    }
    status = status == MIXT_OK ? keep_result(w, &error) : status;
    free(w->numbers.text);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

/* Checkpoints hold three times what the model does. */
static void remove_checkpoints(const char *folder)
{
    DIR *stream = opendir(folder);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        char path[700];
        if ((strncmp(entry->d_name, "step-", 5) == 0 || strcmp(entry->d_name, "LATEST") == 0) &&
            files_join(path, sizeof path, folder, entry->d_name)) {
            files_remove(path);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
}

/* Cells that do not say otherwise have AdamW: a difference between them is not to be one of
 * optimizers, which --optimizer auto chooses by cost. */
int study_work(const study *s, const study_cell *cell, size_t seed, int threads)
{
    char folder[300], began[400], config[400], trained[400], count[16];
    study_run_folder(s, cell, seed, folder);
    run_file(s, cell, seed, "cell.conf", config);
    run_file(s, cell, seed, "train.conf", began);
    run_file(s, cell, seed, "trained", trained);
    snprintf(count, sizeof count, "%d", threads);
    char *words[] = {"mixt", "train", "--out",       folder,  "--threads",
                     count,  config,  "--optimizer", "adamw", NULL};
    int status = STATUS_DONE;
    if (!files_exist(trained)) { /* a run that goes on has settings of its own already */
        bool says = study_value_of(&cell->options, "optimizer") != NULL;
        status = run_program(files_exist(began) ? 6 : says ? 7 : 9, words);
        if (status == STATUS_DONE && !files_replace(trained, "", 0)) {
            status = fail_with(STATUS_FAILED, "%s: %s", trained, strerror(errno));
        }
    }
    if (status == STATUS_DONE) {
        cell_work w = {.s = s, .cell = cell, .seed = seed, .threads = threads};
        status = measure_and_keep(&w);
    }
    if (status == STATUS_DONE) {
        remove_checkpoints(folder);
    }
    return status;
}

/* ---- reading */

static int compare_values(const void *a, const void *b)
{
    return strcmp(((const study_value *)a)->name, ((const study_value *)b)->name);
}

static bool add_value(study *s, study_run *run, const char *name, double value)
{
    const char *kept = study_keep(s, name, strlen(name));
    if (kept == NULL ||
        !list_grow(&run->values, &run->capacity, run->count + 1, sizeof *run->values)) {
        return study_no_memory(s);
    }
    run->values[run->count++] = (study_value){kept, value};
    return true;
}

static bool read_result(study *s, study_cell *cell, size_t seed, study_run *run)
{
    char path[400], what[200], *text, *line;
    size_t length;
    run_file(s, cell, seed, "result", path);
    if (files_read(path, FILE_MAX, &text, &length, what) != MIXT_OK) {
        return study_refuse(s, 0, "%s: %s", path, what);
    }
    bool good = true;
    char *at = text;
    while (good && (line = next_line(&at)) != NULL) {
        char *end;
        double value = strtod(line, &end);
        good = end > line && *end == ' ' && isfinite(value);
        good = good ? add_value(s, run, end + 1, value)
                    : study_refuse(s, 0, "%s: a line is not VALUE NAME; remove the file", path);
    }
    bool whole = length > 0 && text[length - 1] == 0; /* its last line's end */
    free(text);
    if (!good) {
        return false;
    }
    qsort(run->values, run->count, sizeof *run->values, compare_values);
    whole = whole && isfinite(study_number(run, "tokens")) && /* what is measured last */
            (cell->moe_layers == 0 || isfinite(study_number(run, "routing.worst_violation")));
    return whole || study_refuse(s, 0, "%s: is cut short; remove the file", path);
}

/* Means of equally many steps each, so that a curve has at most CURVE_POINTS points. */
static bool read_curve(study *s, study_cell *cell, size_t seed, study_run *run)
{
    char *text, *at, *line;
    mixt_error error = MIXT_ERROR_INIT;
    if (read_log(s, cell, seed, &text, &error) != MIXT_OK) {
        return study_refuse(s, 0, "%s", error.message);
    }
    size_t steps = count_steps(text), step = 0;
    size_t group = (steps + CURVE_POINTS - 1) / CURVE_POINTS, inside = 0;
    double sum = 0, tokens = 0;
    run->curve = calloc(2 * CURVE_POINTS, sizeof *run->curve);
    at = text;
    while (run->curve != NULL && (line = next_line(&at)) != NULL) {
        double loss = study_json_number(line, "loss");
        if (!is_step(line)) {
            continue;
        }
        step++;
        tokens = study_json_number(line, "tokens");
        sum += isfinite(loss) ? loss : 0;
        inside += isfinite(loss);
        if (inside > 0 && (step % group == 0 || step == steps)) {
            double *point = run->curve + 2 * run->curve_count++;
            point[0] = study_json_number(line, "tokens");
            point[1] = sum / (double)inside;
            sum = 0;
            inside = 0;
        }
    }
    free(text);
    if (run->curve == NULL) {
        return study_no_memory(s);
    }
    if (tokens != study_number(run, "tokens")) {
        char path[400];
        run_file(s, cell, seed, "log.jsonl", path);
        return study_refuse(s, 0,
                            "%s: ends at %.0f tokens, the result beside it at %.0f; restore the "
                            "file, or remove the folder to train the run anew",
                            path, tokens, study_number(run, "tokens"));
    }
    return true;
}

bool study_read_run(study *s, study_cell *cell, size_t seed)
{
    study_run *run = &cell->runs[seed];
    char path[400], what[200], *text;
    size_t length;
    run->seconds = run->tokens_per_second = NAN;
    run_file(s, cell, seed, "result", path);
    if (!files_exist(path)) {
        return true;
    }
    if (!read_result(s, cell, seed, run) || !read_curve(s, cell, seed, run)) {
        return false;
    }
    run->finished = true;
    run_file(s, cell, seed, "times", path);
    if (files_read(path, 1000, &text, &length, what) == MIXT_OK) {
        double seconds = strtod(text, NULL);
        free(text);
        if (seconds > 0) {
            run->seconds = seconds;
            run->tokens_per_second = study_number(run, "tokens") / seconds;
        }
    }
    study_run_folder(s, cell, seed, path);
    remove_checkpoints(path);
    return true;
}
