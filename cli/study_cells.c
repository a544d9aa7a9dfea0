/* The cells of a study: every combination of the axes, and what mixt train says of each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "study.h"

/* ---- combinations */

/* Does the word of `axis` stand in a list like "a,b"? */
static bool list_has(const char *list, size_t length, const char *word)
{
    while (length > 0) {
        size_t size = 0;
        while (size < length && list[size] != ',') {
            size++;
        }
        if (size == strlen(word) && memcmp(list, word, size) == 0) {
            return true;
        }
        size += size < length;
        list += size;
        length -= size;
    }
    return false;
}

/* The axis of "AXIS=WORDS", and what is behind the sign. */
static const study_axis *axis_of(const study *s, const char *term, size_t length, size_t *place)
{
    for (size_t i = 0; i < s->axis_count; i++) {
        size_t size = strlen(s->axes[i].name);
        if (length > size && term[size] == '=' && memcmp(s->axes[i].name, term, size) == 0) {
            *place = i;
            return &s->axes[i];
        }
    }
    return NULL;
}

/* Every word of a skip is a value of its axis. */
static bool check_skip(study *s, const study_skip *skip)
{
    for (const char *at = skip->text; *(at += strspn(at, " \t")) != 0;) {
        size_t length = strcspn(at, " \t"), place;
        const study_axis *axis = axis_of(s, at, length, &place);
        if (axis == NULL) {
            return study_refuse(s, skip->line, "skip: %.*s is not AXIS=VALUE of an axis",
                                (int)(length < 80 ? length : 80), at);
        }
        const char *list = at + strlen(axis->name) + 1;
        for (size_t left = length - strlen(axis->name) - 1; left > 0;) {
            size_t size = strcspn(list, ", \t");
            bool found = false;
            for (size_t i = 0; i < axis->count; i++) {
                found = found || (strlen(axis->labels[i].word) == size &&
                                  memcmp(axis->labels[i].word, list, size) == 0);
            }
            if (!found && !s->quick) { /* the quick form may have fewer */
                return study_refuse(s, skip->line, "skip: the axis %s has no value %.*s",
                                    axis->name, (int)(size < 80 ? size : 80), list);
            }
            size += size < left;
            list += size;
            left -= size;
        }
        at += length;
    }
    return true;
}

static bool skips(const study *s, const study_skip *skip, const char *const *words)
{
    for (const char *at = skip->text; *(at += strspn(at, " \t")) != 0;) {
        size_t length = strcspn(at, " \t"), place;
        const study_axis *axis = axis_of(s, at, length, &place);
        size_t size = strlen(axis->name) + 1;
        if (!list_has(at + size, length - size, words[place])) {
            return false;
        }
        at += length;
    }
    return true;
}

static bool add_options(study *s, study_options *to, const study_options *from)
{
    for (size_t i = 0; i < from->count; i++) {
        if (!study_set(s, to, &from->items[i])) {
            return false;
        }
    }
    return true;
}

/* The cell of these places on the axes, unless it is skipped. */
static bool add_combination(study *s, const size_t *places)
{
    char name[STUDY_AXES_MAX * (2 * STUDY_NAME_MAX + 3)] = "";
    size_t used = 0;
    study_cell cell = {.line = s->axes[0].line};
    cell.words = calloc(STUDY_AXES_MAX, sizeof *cell.words);
    if (cell.words == NULL ||
        !list_grow(&s->cells, &s->cell_capacity, s->cell_count + 1, sizeof *s->cells)) {
        free(cell.words);
        return study_no_memory(s);
    }
    for (size_t i = 0; i < s->axis_count; i++) {
        cell.words[i] = s->axes[i].labels[places[i]].word;
        used += (size_t)snprintf(name + used, sizeof name - used, "%s%s", i > 0 ? "_" : "",
                                 s->axes[i].labels[places[i]].name);
    }
    for (size_t i = 0; i < s->skip_count; i++) {
        if (skips(s, &s->skips[i], cell.words)) {
            free(cell.words);
            return true;
        }
    }
    if (s->cell_count == STUDY_CELLS_MAX || used > STUDY_NAME_MAX) {
        free(cell.words);
        return s->cell_count == STUDY_CELLS_MAX
                   ? study_refuse(s, cell.line, "more than %d cells", STUDY_CELLS_MAX)
                   : study_refuse(s, cell.line, "%.80s...: the name of a cell is too long", name);
    }
    cell.name = study_keep(s, name, used);
    s->cells[s->cell_count++] = cell;
    study_options *options = &s->cells[s->cell_count - 1].options;
    for (size_t i = 0; i < s->axis_count; i++) {
        if (!add_options(s, options, &s->axes[i].labels[places[i]].options)) {
            return false;
        }
    }
    return cell.name != NULL;
}

/* Puts the options of all cells below those of the cell. */
static bool add_base(study *s, study_cell *cell)
{
    study_options own = cell->options;
    cell->options = (study_options){0};
    bool good = add_options(s, &cell->options, &s->base) && add_options(s, &cell->options, &own);
    size_t kept = 0;
    for (size_t i = 0; i < cell->options.count; i++) {
        if (strcmp(cell->options.items[i].value, STUDY_UNSET) != 0) {
            cell->options.items[kept++] = cell->options.items[i];
        }
    }
    cell->options.count = kept;
    free(own.items);
    return good;
}

static size_t find_cell(const study *s, const char *name)
{
    size_t i = 0;
    while (i < s->cell_count && strcmp(s->cells[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* "@NAME" in an option is the model of that cell with the same seed. */
static bool find_sources(study *s)
{
    for (size_t i = 0; i < s->cell_count; i++) {
        study_cell *cell = &s->cells[i];
        for (size_t k = 0; k < cell->options.count; k++) {
            const study_option *option = &cell->options.items[k];
            if (option->value[0] != '@') {
                continue;
            }
            size_t place = find_cell(s, option->value + 1);
            if (place == s->cell_count) {
                return study_refuse(s, option->line, "%s: there is no cell %.120s", option->name,
                                    option->value + 1);
            }
            if (cell->source != NULL && strcmp(cell->source, s->cells[place].name) != 0) {
                return study_refuse(s, option->line, "%s: the cell begins with %s already",
                                    option->name, cell->source);
            }
            cell->source = s->cells[place].name;
        }
    }
    for (size_t i = 0; i < s->cell_count; i++) {
        size_t at = i;
        for (size_t steps = 0; s->cells[at].source != NULL; steps++) {
            if (steps == s->cell_count) {
                return study_refuse(s, s->cells[i].line, "%s begins with itself in the end",
                                    s->cells[i].name);
            }
            at = find_cell(s, s->cells[at].source);
        }
    }
    return true;
}

static bool find_baseline(study *s)
{
    for (size_t i = 0; i < s->cell_count; i++) {
        for (size_t k = i + 1; k < s->cell_count; k++) {
            if (strcmp(s->cells[i].name, s->cells[k].name) == 0) {
                return study_refuse(s, s->cells[k].line, "two cells are called %s",
                                    s->cells[i].name);
            }
        }
    }
    if (s->baseline == NULL) {
        return true;
    }
    s->baseline_cell = find_cell(s, s->baseline);
    if (s->baseline_cell < s->cell_count) {
        return true;
    }
    const char *best = NULL;
    for (size_t i = 0; i < s->cell_count && best == NULL; i++) {
        best = options_distance(s->baseline, s->cells[i].name) >= 0 ? s->cells[i].name : NULL;
    }
    return study_refuse(s, s->baseline_line, "baseline: there is no cell %.120s; is it %s?",
                        s->baseline, best != NULL ? best : s->cells[0].name);
}

bool study_expand(study *s)
{
    enum { COMBINATIONS_MAX = 1 << 16 }; /* skipped ones count: each is looked at */
    size_t places[STUDY_AXES_MAX] = {0}, combinations = 1;
    bool more = s->axis_count > 0;
    for (size_t i = 0; i < s->axis_count; i++) {
        combinations *= s->axes[i].count;
        if (combinations > COMBINATIONS_MAX) {
            return study_refuse(s, s->axes[i].line, "more than %d combinations", COMBINATIONS_MAX);
        }
    }
    for (size_t i = 0; i < s->skip_count; i++) {
        if (!check_skip(s, &s->skips[i])) {
            return false;
        }
    }
    while (more) {
        if (!add_combination(s, places)) {
            return false;
        }
        size_t i = s->axis_count;
        while (i > 0 && ++places[i - 1] == s->axes[i - 1].count) {
            places[--i] = 0;
        }
        more = i > 0;
    }
    if (s->cell_count == 0) {
        return study_refuse(s, 0, "no cells: a spec has an axis.NAME or cell.NAME.OPTION");
    }
    for (size_t i = 0; i < s->cell_count; i++) {
        study_cell *cell = &s->cells[i];
        cell->runs = calloc(s->seed_count, sizeof *cell->runs);
        if (cell->runs == NULL) {
            return study_no_memory(s);
        }
        if (!add_base(s, cell)) {
            return false;
        }
    }
    return find_baseline(s) && find_sources(s);
}

/* ---- what mixt train says */

typedef struct question {
    char **words; /* of a command line */
    int count;
} question;

static int ask(void *user)
{
    question *q = user;
    return run_program(q->count, q->words);
}

/* "NAME", or "--NAME=VALUE" */
static bool add_word(question *q, const char *name, const char *value)
{
    size_t length = strlen(name) + (value != NULL ? strlen(value) : 0) + 4;
    char *word = malloc(length);
    char **words = realloc(q->words, (size_t)(q->count + 2) * sizeof *words);
    q->words = words != NULL ? words : q->words;
    if (word == NULL || words == NULL) {
        free(word);
        return false;
    }
    snprintf(word, length, "%s%s%s%s", value != NULL ? "--" : "", name, value != NULL ? "=" : "",
             value != NULL ? value : "");
    words[q->count++] = word;
    words[q->count] = NULL;
    return true;
}

/* Reads a pipe to its end, cut at size. */
static void read_pipe(int descriptor, char *text, size_t size)
{
    size_t used = 0;
    char rest[512];
    for (;;) {
        bool full = used + 1 >= size;
        ssize_t got =
            read(descriptor, full ? rest : text + used, full ? sizeof rest : size - 1 - used);
        if (got <= 0) {
            break;
        }
        used += full ? 0 : (size_t)got;
    }
    text[used] = 0;
}

double study_json_number(const char *text, const char *name)
{
    char key[80];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(text, key);
    char *end;
    if (at == NULL) {
        return NAN;
    }
    at += strlen(key);
    double value = strtod(at, &end);
    return end == at ? NAN : value;
}

/* The string behind "NAME": "", as it stands there. */
static const char *json_text(study *s, const char *text, const char *name)
{
    char key[80];
    snprintf(key, sizeof key, "\"%s\": \"", name);
    const char *at = strstr(text, key);
    at = at != NULL ? at + strlen(key) : "";
    return study_keep(s, at, strcspn(at, "\""));
}

/* The line without the names of program and command, and without what the help would say. */
static char *plain_complaint(char *text)
{
    char *line = strstr(text, "mixt train: ");
    line = line != NULL ? line + 12 : text;
    line[strcspn(line, "\n")] = 0;
    char *behind = strstr(line, " (see mixt help");
    if (behind != NULL) {
        *behind = 0;
    }
    return line;
}

static bool hear(study *s, study_cell *cell, question *q)
{
    int out[2], err[2], status = 0;
    char said[4000], complaint[4000];
    if (pipe(out) != 0 || pipe(err) != 0) {
        s->failed = true;
        return study_refuse(s, 0, "no pipe");
    }
    pid_t child = study_fork(ask, q, (int[2]){out[1], err[1]});
    close(out[1]);
    close(err[1]);
    read_pipe(out[0], said, sizeof said);
    read_pipe(err[0], complaint, sizeof complaint);
    close(out[0]);
    close(err[0]);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        s->failed = true;
        return study_refuse(s, 0, "no process for the check of the cells");
    }
    if (status != 0) {
        s->failed = !WIFEXITED(status) || WEXITSTATUS(status) != STATUS_REFUSED;
        return study_refuse(s, cell->line, "the cell %s: %s", cell->name,
                            plain_complaint(complaint));
    }
    cell->parameters_total = study_json_number(said, "parameters_total");
    cell->parameters_active = study_json_number(said, "parameters_active");
    cell->moe_layers = study_json_number(said, "moe_layers");
    cell->experts = study_json_number(said, "experts");
    cell->steps = study_json_number(said, "steps");
    cell->tokens_per_step = study_json_number(said, "tokens_per_step");
    cell->forward_flops = study_json_number(said, "forward_flops_per_token");
    cell->training_flops = study_json_number(said, "training_flops_per_token");
    cell->held_out = json_text(s, said, "held_out");
    if (cell->held_out == NULL) {
        return false;
    }
    cell->step_seconds = study_json_number(said, "step_seconds");
    if (study_json_number(said, "seconds") > 0) {
        return study_refuse(s, cell->line,
                            "the cell %s: --seconds: a study's runs end after --steps, since time "
                            "depends on the machine",
                            cell->name);
    }
    return true;
}

/* Does the cell begin with the model of another one? */
static bool begins_with_cell(const study_cell *cell)
{
    for (size_t i = 0; i < cell->options.count; i++) {
        const study_option *option = &cell->options.items[i];
        if (strcmp(option->name, "init-from") == 0 && option->value[0] == '@') {
            return true;
        }
    }
    return false;
}

/* Of a model that is not trained yet: its cell, and adapters, which need the model. These change
 * no number that is asked for here; what is wrong with them shows when the run begins. */
static bool is_of_later(const study_option *option, bool begins)
{
    return option->value[0] == '@' || (begins && strncmp(option->name, "lora-", 5) == 0);
}

static bool is_shape(const char *name)
{
    const cli_option *const groups[] = {options_model, options_router};
    bool shape = strcmp(name, "init-from") == 0 || strcmp(name, "model-config") == 0;
    for (size_t g = 0; g < 2; g++) {
        for (const cli_option *option = groups[g]; option->name != NULL && !shape; option++) {
            shape = strcmp(option->name, name) == 0;
        }
    }
    return shape;
}

static bool has_option(const study_cell *cell, const char *name)
{
    for (size_t i = 0; i < cell->options.count; i++) {
        if (strcmp(cell->options.items[i].name, name) == 0 &&
            cell->options.items[i].value[0] != '@') {
            return true;
        }
    }
    return false;
}

/* The shape of the model that a cell begins with, which its numbers are of: what the cells before
 * it say and none behind them does. */
static bool add_shape(const study *s, const study_cell *cell, question *q)
{
    bool good = true;
    for (const study_cell *from = cell; good && begins_with_cell(from);) {
        from = &s->cells[find_cell(s, from->source)];
        for (size_t i = 0; i < from->options.count && good; i++) {
            const study_option *option = &from->options.items[i];
            bool said = option->value[0] == '@' || !is_shape(option->name);
            for (const study_cell *at = cell; at != from && !said;) {
                said = has_option(at, option->name);
                at = &s->cells[find_cell(s, at->source)];
            }
            good = said || add_word(q, option->name, option->value);
        }
    }
    return good;
}

/* threads 0: nothing is measured. */
static bool check_cell(study *s, study_cell *cell, int threads)
{
    question q = {0};
    char count[16];
    bool begins = begins_with_cell(cell);
    bool good = add_word(&q, "mixt", NULL) && add_word(&q, "train", NULL) &&
                add_word(&q, "dry-run", "true") && add_word(&q, "data", "corpus");
    if (threads > 0) {
        snprintf(count, sizeof count, "%d", threads);
        good = good && add_word(&q, "measure", "true") && add_word(&q, "threads", count);
    }
    for (size_t i = 0; i < cell->options.count && good; i++) {
        const study_option *option = &cell->options.items[i];
        if (!is_of_later(option, begins)) {
            good = add_word(&q, option->name, option->value);
        }
    }
    if (good && !has_option(cell, "optimizer")) { /* as study_work */
        good = add_word(&q, "optimizer", "adamw");
    }
    good = good && add_shape(s, cell, &q);
    good = good ? hear(s, cell, &q) : study_no_memory(s);
    for (int i = 0; i < q.count; i++) {
        free(q.words[i]);
    }
    free(q.words);
    return good;
}

bool study_check(study *s)
{
    for (size_t i = 0; i < s->cell_count; i++) {
        if (!check_cell(s, &s->cells[i], 0)) {
            return false;
        }
    }
    return true;
}

void study_measure(study *s, int threads)
{
    enum { MEASURED_MAX = 12 };
    size_t step = (s->cell_count + MEASURED_MAX - 1) / MEASURED_MAX;
    double seconds = 0, flops = 0;
    for (size_t i = 0; i < s->cell_count; i += step) { /* what cannot be measured is reckoned */
        study_cell *cell = &s->cells[i];
        if (!check_cell(s, cell, threads)) {
            s->failed = false;
        }
        if (cell->step_seconds > 0) {
            seconds += cell->step_seconds;
            flops += cell->tokens_per_step * cell->training_flops;
        }
    }
    for (size_t i = 0; i < s->cell_count; i++) {
        study_cell *cell = &s->cells[i];
        if (!(cell->step_seconds > 0)) { /* as the others do for so many operations */
            cell->step_seconds = cell->tokens_per_step * cell->training_flops * seconds / flops;
        }
    }
}
