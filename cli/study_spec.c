/* The spec of a study: lines of key = value, taken in three walks, since an axis may be declared
 * behind what is said of its values. */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "files.h"
#include "study.h"

typedef struct spec_line {
    const char *key, *value;
    int line;
    bool taken;
} spec_line;

typedef struct spec_lines {
    study *s;
    spec_line *items;
    size_t count, capacity;
} spec_lines;

static const cli_command *train(void)
{
    return command_find("train");
}

bool study_refuse(study *s, int line, const char *format, ...)
{
    size_t used = (size_t)snprintf(s->message, sizeof s->message, "%.200s:", s->path);
    if (line > 0) {
        used += (size_t)snprintf(s->message + used, sizeof s->message - used, "%d:", line);
    }
    used += (size_t)snprintf(s->message + used, sizeof s->message - used, " ");
    va_list list;
    va_start(list, format);
    vsnprintf(s->message + used, sizeof s->message - used, format, list);
    va_end(list);
    return false;
}

bool study_no_memory(study *s)
{
    snprintf(s->message, sizeof s->message, "out of memory");
    s->failed = true;
    return false;
}

const char *study_keep(study *s, const char *text, size_t length)
{
    char *copy = NULL;
    if (list_grow(&s->strings.items, &s->strings.capacity, s->strings.count + 1,
                  sizeof *s->strings.items)) {
        copy = malloc(length + 1);
    }
    if (copy == NULL) {
        study_no_memory(s);
        return NULL;
    }
    memcpy(copy, text, length);
    copy[length] = 0;
    s->strings.items[s->strings.count++] = copy;
    return copy;
}

bool study_set(study *s, study_options *options, const study_option *option)
{
    for (size_t i = 0; i < options->count; i++) {
        if (strcmp(options->items[i].name, option->name) == 0) {
            options->items[i] = *option;
            return true;
        }
    }
    if (!list_grow(&options->items, &options->capacity, options->count + 1, sizeof *option)) {
        return study_no_memory(s);
    }
    options->items[options->count++] = *option;
    return true;
}

const char *study_value_of(const study_options *options, const char *name)
{
    for (size_t i = 0; i < options->count; i++) {
        if (strcmp(options->items[i].name, name) == 0) {
            return options->items[i].value;
        }
    }
    return NULL;
}

/* ---- lines */

/* Keys of a study beside the options of mixt train. */
static const char *const own_keys[] = {"name",   "title",        "question", "published",
                                       "source", "data",         "seeds",    "baseline",
                                       "skip",   "trace-tokens", "task",     NULL};
static const char *const many[] = {"published", "data", "skip", NULL};

static bool is_one_of(const char *const *words, const char *word)
{
    for (; *words != NULL; words++) {
        if (strcmp(*words, word) == 0) {
            return true;
        }
    }
    return false;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static const char *without_quick(const char *key)
{
    return key + (begins(key, "quick.") ? 6 : 0);
}

/* An option of mixt train that a study may speak of: nanoGPT's keys are for its files. */
static const cli_option *find_option(const char *name)
{
    size_t offset;
    const cli_option *option = options_find(train(), name, strlen(name), &offset);
    const cli_group *last = train()->groups;
    for (const cli_group *group = last; group->title != NULL; group++) {
        last = group;
    }
    for (const cli_option *row = last->options; option != NULL && row->name != NULL; row++) {
        option = row == option ? NULL : option;
    }
    return option;
}

/* The key with the option's own name in place of another one of it: all of the key, or the part
 * behind the last dot of AXIS.VALUE.OPTION. */
static const char *plain_key(study *s, const char *key)
{
    char text[OPTIONS_LINE_MAX + 2];
    const char *rest = without_quick(key), *dot = strchr(rest, '.'), *last = strrchr(rest, '.');
    bool names =
        !begins(rest, "published.") && (dot == NULL || dot != last || begins(rest, "axis."));
    const char *name = last != NULL ? last + 1 : rest;
    const cli_option *option = names ? find_option(name) : NULL;
    snprintf(text, sizeof text, "%.*s%s", (int)(name - key), key,
             option != NULL ? option->name : name);
    char *own = text + (name - key);
    for (char *c = own; dot == NULL && *c != 0; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    return study_keep(s, text, strlen(text));
}

static bool take_line(void *user, config_reader *reader, char *name, char *value)
{
    spec_lines *lines = user;
    study *s = lines->s;
    if (!config_unquote(reader, &value)) {
        return false;
    }
    if (value[0] == 0) {
        return config_refuse(reader, "%.80s: the value is empty", name);
    }
    spec_line line = {plain_key(s, name), study_keep(s, value, strlen(value)), reader->line, false};
    if (line.key == NULL || line.value == NULL) {
        reader->failed = true;
        return config_refuse(reader, "out of memory");
    }
    for (size_t i = 0; i < lines->count; i++) {
        if (strcmp(lines->items[i].key, line.key) == 0 &&
            !is_one_of(many, without_quick(line.key))) {
            return config_refuse(reader, "%.80s: is said in line %d already", name,
                                 lines->items[i].line);
        }
    }
    if (!list_grow(&lines->items, &lines->capacity, lines->count + 1, sizeof line)) {
        reader->failed = true;
        return config_refuse(reader, "out of memory");
    }
    lines->items[lines->count++] = line;
    return true;
}

static bool append_line(spec_lines *lines, spec_line line)
{
    if (!list_grow(&lines->items, &lines->capacity, lines->count + 1, sizeof line)) {
        return study_no_memory(lines->s);
    }
    line.key = without_quick(line.key);
    lines->items[lines->count++] = line;
    return true;
}

/* Whether there is a line of this key, `quick`: of the quick form. */
static bool has_key(const spec_lines *lines, const char *key, bool quick)
{
    for (size_t i = 0; i < lines->count; i++) {
        const char *other = lines->items[i].key;
        if (begins(other, "quick.") == quick && strcmp(without_quick(other), key) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the quick lines that stand for `key`, once. */
static bool append_quick(spec_lines *folded, const spec_lines *lines, const char *key)
{
    bool good = true;
    if (has_key(folded, key, false)) {
        return true;
    }
    for (size_t i = 0; i < lines->count && good; i++) {
        const char *other = lines->items[i].key;
        if (begins(other, "quick.") && strcmp(without_quick(other), key) == 0) {
            good = append_line(folded, lines->items[i]);
        }
    }
    return good;
}

/* The lines of the quick form take the places of those of the same key, the rest of them comes
 * behind; without it they only go. */
static bool fold_quick(spec_lines *lines)
{
    bool quick = lines->s->quick, good = true;
    spec_lines folded = {.s = lines->s};
    for (size_t i = 0; i < lines->count && good; i++) {
        const spec_line *line = &lines->items[i];
        if (!begins(line->key, "quick.")) {
            good = quick && has_key(lines, line->key, true)
                       ? append_quick(&folded, lines, line->key)
                       : append_line(&folded, *line);
        }
    }
    for (size_t i = 0; i < lines->count && good && quick; i++) {
        const char *key = lines->items[i].key;
        good = !begins(key, "quick.") || append_quick(&folded, lines, without_quick(key));
    }
    free(lines->items);
    *lines = folded;
    return good;
}

/* ---- words */

/* The next word of a value, between blanks or commas; NULL at its end. */
static const char *next_word(study *s, const char **at)
{
    *at += strspn(*at, " \t,");
    size_t length = strcspn(*at, " \t,");
    const char *word = length > 0 ? study_keep(s, *at, length) : NULL;
    *at += length;
    return word;
}

/* What may be part of a folder's name. */
static bool is_name(const char *word)
{
    size_t length = strlen(word);
    for (const char *c = word; *c != 0; c++) {
        if (!isalnum((unsigned char)*c) && strchr("-_+.", *c) == NULL) {
            return false;
        }
    }
    return length > 0 && length <= STUDY_NAME_MAX && word[0] != '.' && word[0] != '-';
}

/* ---- options of mixt train */

/* The group of what a cell may not say: the study says it, or it is the same in all. */
static const char *const not_here[] = {"out",   "config",  "seed", "threads",
                                       "color", "dry-run", "cpu",  NULL};
static const char *const shared_keys[] = {"data",    "tokenizer",  "tokenizer-bytes",
                                          "heldout", "vocab-size", NULL};

/* The word that `given` is nearest to, or NULL. */
static const char *nearest(const char *given, const study *s)
{
    const char *best = NULL;
    int least = 0;
    for (size_t i = 0; own_keys[i] != NULL; i++) {
        int distance = options_distance(given, own_keys[i]);
        if (distance >= 0 && (best == NULL || distance < least)) {
            best = own_keys[i];
            least = distance;
        }
    }
    for (const cli_group *group = train()->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            int distance = is_one_of(not_here, row->name) ? -1 : options_distance(given, row->name);
            if (distance >= 0 && find_option(row->name) != NULL &&
                (best == NULL || distance < least)) {
                best = row->name;
                least = distance;
            }
        }
    }
    for (size_t i = 0; i < s->axis_count; i++) {
        int distance = options_distance(given, s->axes[i].name);
        if (distance >= 0 && (best == NULL || distance < least)) {
            best = s->axes[i].name;
            least = distance;
        }
    }
    return best;
}

static bool refuse_key(study *s, const spec_line *line, const char *name)
{
    const char *best = nearest(name, s);
    return best != NULL
               ? study_refuse(s, line->line, "%.80s: no such key; is it %s?", line->key, best)
               : study_refuse(s, line->line, "%.80s: no such key of a study or of mixt train",
                              line->key);
}

/* Paths of a spec count from the folder that it is in; "@NAME" is the model of a cell. */
static const char *resolve_path(study *s, const char *value)
{
    char joined[4096], *real = NULL;
    if (value[0] == '@' || strcmp(value, STUDY_UNSET) == 0) {
        return value;
    }
    if (value[0] != '/' && files_join(joined, sizeof joined, s->folder, value)) {
        value = joined;
    }
    real = realpath(value, NULL);
    const char *kept =
        study_keep(s, real != NULL ? real : value, strlen(real != NULL ? real : value));
    free(real);
    return kept;
}

/* An option that a line names by `name`, into a list. `own`: of a cell, not of all. */
static bool take_option(study *s, const spec_line *line, const char *name, study_options *options,
                        bool own)
{
    const cli_option *option = find_option(name);
    if (option == NULL) {
        return refuse_key(s, line, name);
    }
    if (is_one_of(not_here, option->name)) {
        return study_refuse(s, line->line, "%.80s: %s is not the spec's to say", line->key,
                            strcmp(option->name, "seed") == 0 ? "seeds = ... says it; seed"
                                                              : option->name);
    }
    if (own && is_one_of(shared_keys, option->name)) {
        return study_refuse(s, line->line, "%.80s: %s is the same in every cell", line->key,
                            option->name);
    }
    study_option setting = {option->name, line->value, line->line};
    if (option->kind == OPTION_TEXT) {
        setting.value = resolve_path(s, line->value);
    }
    return setting.value != NULL && study_set(s, options, &setting);
}

/* ---- axes and cells */

static study_axis *find_axis(study *s, const char *name, size_t length)
{
    for (size_t i = 0; i < s->axis_count; i++) {
        if (strlen(s->axes[i].name) == length && memcmp(s->axes[i].name, name, length) == 0) {
            return &s->axes[i];
        }
    }
    return NULL;
}

static bool add_label(study *s, study_axis *axis, const cli_option *option, const char *word,
                      int line)
{
    char name[2 * STUDY_NAME_MAX + 2];
    bool prefixed = option != NULL && option->kind != OPTION_CHOICE && option->kind != OPTION_TEXT;
    if (!is_name(word) && option == NULL) {
        return study_refuse(s, line, "%.80s: a value is a word of letters, digits and -_+.", word);
    }
    for (size_t i = 0; i < axis->count; i++) {
        if (strcmp(axis->labels[i].word, word) == 0) {
            return study_refuse(s, line, "axis.%s: the value %.80s is there twice", axis->name,
                                word);
        }
    }
    study_label *labels = realloc(axis->labels, (axis->count + 1) * sizeof *labels);
    if (labels == NULL) {
        return study_no_memory(s);
    }
    axis->labels = labels;
    snprintf(name, sizeof name, prefixed ? "%.120s-%.120s" : "%.0s%.120s", axis->name, word);
    if (!is_name(name)) {
        return study_refuse(s, line,
                            "axis.%s: %.80s cannot be part of a name; make it a value of an axis "
                            "with a name of its own",
                            axis->name, word);
    }
    study_label *label = &axis->labels[axis->count++];
    *label = (study_label){.word = word, .name = study_keep(s, name, strlen(name))};
    if (label->name == NULL) {
        return false;
    }
    const spec_line setting = {axis->name, word, line, false};
    return option == NULL || take_option(s, &setting, axis->name, &label->options, true);
}

static bool take_axis(study *s, const spec_line *line)
{
    const char *name = line->key + 5, *at = line->value;
    const cli_option *option = find_option(name);
    if (s->axis_count == STUDY_AXES_MAX) {
        return study_refuse(s, line->line, "more than %d axes", STUDY_AXES_MAX);
    }
    if (!is_name(name) || strchr(name, '.') != NULL || strcmp(name, "cell") == 0 ||
        strcmp(name, "axis") == 0 || strcmp(name, "quick") == 0 || strcmp(name, "published") == 0) {
        return study_refuse(s, line->line, "%.80s: is no name of an axis", line->key);
    }
    if (is_one_of(own_keys, name)) {
        return study_refuse(s, line->line, "%.80s: is the same in every cell", line->key);
    }
    study_axis *axis = &s->axes[s->axis_count++];
    *axis = (study_axis){.name = option != NULL ? option->name : name,
                         .is_option = option != NULL,
                         .line = line->line};
    for (const char *word; (word = next_word(s, &at)) != NULL;) {
        if (!add_label(s, axis, option, word, line->line)) {
            return false;
        }
    }
    return axis->count > 0 || study_refuse(s, line->line, "%.80s: no values", line->key);
}

/* AXIS.WORD.OPTION */
static bool take_value(study *s, const spec_line *line)
{
    const char *dot = strchr(line->key, '.'), *last = strrchr(line->key, '.');
    study_axis *axis = find_axis(s, line->key, (size_t)(dot - line->key));
    if (axis == NULL) {
        char first[100];
        snprintf(first, sizeof first, "%.*s", (int)(dot - line->key), line->key);
        const char *best = nearest(first, s);
        return best != NULL
                   ? study_refuse(s, line->line, "%.80s: there is no axis %s; is it %s?", line->key,
                                  first, best)
                   : study_refuse(s, line->line, "%.80s: there is no axis %s", line->key, first);
    }
    if (last == dot) {
        return study_refuse(s, line->line, "%.80s: is said as %s.VALUE.OPTION", line->key,
                            axis->name);
    }
    for (size_t i = 0; i < axis->count; i++) {
        study_label *label = &axis->labels[i];
        size_t length = (size_t)(last - dot - 1);
        if (strlen(label->word) == length && memcmp(label->word, dot + 1, length) == 0) {
            return take_option(s, line, last + 1, &label->options, true);
        }
    }
    /* the quick form may have fewer values than the spec speaks of */
    return s->quick || study_refuse(s, line->line, "%.80s: the axis %s has no value %.*s",
                                    line->key, axis->name, (int)(last - dot - 1), dot + 1);
}

static study_cell *add_cell(study *s, const char *name, int line)
{
    if (s->cell_count == STUDY_CELLS_MAX) {
        study_refuse(s, line, "more than %d cells", STUDY_CELLS_MAX);
        return NULL;
    }
    if (!list_grow(&s->cells, &s->cell_capacity, s->cell_count + 1, sizeof *s->cells)) {
        study_no_memory(s);
        return NULL;
    }
    s->cells[s->cell_count] = (study_cell){.name = name, .line = line};
    return &s->cells[s->cell_count++];
}

/* cell.NAME.OPTION */
static bool take_cell(study *s, const spec_line *line)
{
    const char *name = line->key + 5, *last = strrchr(name, '.');
    const char *word = last != NULL ? study_keep(s, name, (size_t)(last - name)) : NULL;
    study_cell *cell = NULL;
    if (last == NULL || word == NULL || !is_name(word)) {
        return study_refuse(s, line->line, "%.80s: is said as cell.NAME.OPTION", line->key);
    }
    for (size_t i = 0; i < s->cell_count; i++) {
        cell = strcmp(s->cells[i].name, word) == 0 ? &s->cells[i] : cell;
    }
    cell = cell != NULL ? cell : add_cell(s, word, line->line);
    return cell != NULL && take_option(s, line, last + 1, &cell->options, true);
}

/* ---- the study's own keys */

static bool take_seeds(study *s, const spec_line *line)
{
    const char *at = line->value;
    for (const char *word; (word = next_word(s, &at)) != NULL;) {
        char *end;
        unsigned long long seed = strtoull(word, &end, 10);
        if (!isdigit((unsigned char)word[0]) || *end != 0 || strlen(word) > 18) {
            return study_refuse(s, line->line, "seeds: %.40s is not a whole number", word);
        }
        if (s->seed_count == STUDY_SEEDS_MAX) {
            return study_refuse(s, line->line, "seeds: more than %d", STUDY_SEEDS_MAX);
        }
        for (size_t i = 0; i < s->seed_count; i++) {
            if (s->seeds[i] == seed) {
                return study_refuse(s, line->line, "seeds: %llu is there twice", seed);
            }
        }
        s->seeds[s->seed_count++] = seed;
    }
    return true;
}

static bool add_text(study *s, string_list *list, const char *text)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL || text == NULL) {
        return study_no_memory(s);
    }
    list->items = items;
    items[list->count++] = text;
    return true;
}

static bool take_own(study *s, const spec_line *line)
{
    const char *key = line->key, *value = line->value;
    if (strcmp(key, "name") == 0) {
        s->name = value;
        return is_name(value) ||
               study_refuse(s, line->line, "name: \"%.80s\" is not of letters, digits and -_+.",
                            value);
    }
    if (strcmp(key, "title") == 0 || strcmp(key, "question") == 0 || strcmp(key, "source") == 0) {
        *(key[0] == 't' ? &s->title : key[0] == 'q' ? &s->question : &s->source) = value;
        return true;
    }
    if (strcmp(key, "published") == 0) {
        return add_text(s, &s->published, value);
    }
    if (strcmp(key, "data") == 0) {
        return add_text(s, &s->data, resolve_path(s, value));
    }
    if (strcmp(key, "seeds") == 0) {
        return take_seeds(s, line);
    }
    if (strcmp(key, "baseline") == 0) {
        s->baseline = value;
        s->baseline_line = line->line;
        return true;
    }
    if (strcmp(key, "trace-tokens") == 0) {
        char *end;
        s->trace_tokens = strtoll(value, &end, 10);
        return (isdigit((unsigned char)value[0]) && *end == 0 && strlen(value) < 16) ||
               study_refuse(s, line->line, "trace-tokens: \"%.40s\" is not a whole number", value);
    }
    if (!list_grow(&s->skips, &s->skip_capacity, s->skip_count + 1, sizeof *s->skips)) {
        return study_no_memory(s);
    }
    s->skips[s->skip_count++] = (study_skip){value, line->line};
    return true;
}

/* Keys of a task, which is a study of another kind than training: its numbers. */
static bool take_number(study *s, const spec_line *line)
{
    char *end;
    unsigned long long value = strtoull(line->value, &end, 10);
    if (!isdigit((unsigned char)line->value[0]) || *end != 0 || strlen(line->value) > 18) {
        return study_refuse(s, line->line, "%s: \"%.40s\" is not a whole number", line->key,
                            line->value);
    }
    if (strcmp(line->key, "seed") == 0) {
        s->task.seed = value;
    } else {
        *(line->key[0] == 'r' ? &s->task.runs : &s->task.threads) =
            value < 1000000 ? (int)value : 1000000;
    }
    return true;
}

static bool take_task(study *s, const spec_lines *lines)
{
    static const char *const own[] = {"name", "title", "data", NULL};
    static const char *const numbers[] = {"seed", "runs", "threads", NULL};
    for (size_t i = 0; i < lines->count; i++) {
        const spec_line *line = &lines->items[i];
        if (strcmp(line->key, "task") == 0) {
            s->task.name = line->value;
            s->task.line = line->line;
        } else if (is_one_of(numbers, line->key) ? !take_number(s, line)
                   : is_one_of(own, line->key)
                       ? !take_own(s, line)
                       : !study_refuse(s, line->line,
                                       "%.80s: no such key of a task; it has data, "
                                       "seed, runs and threads",
                                       line->key)) {
            return false;
        }
    }
    return true;
}

/* Axes first, then all that may speak of them. */
static bool take_lines(study *s, spec_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++) {
        if (begins(lines->items[i].key, "axis.") && !take_axis(s, &lines->items[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < lines->count; i++) {
        const spec_line *line = &lines->items[i];
        bool good = begins(line->key, "axis.") || begins(line->key, "published.") ? true
                    : begins(line->key, "cell.")     ? take_cell(s, line)
                    : is_one_of(own_keys, line->key) ? take_own(s, line)
                    : strchr(line->key, '.') != NULL
                        ? take_value(s, line)
                        : take_option(s, line, line->key, &s->base, false);
        if (!good) {
            return false;
        }
    }
    return true;
}

/* published.CELL, when the cells are known. */
static bool take_published(study *s, const spec_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++) {
        const spec_line *line = &lines->items[i];
        bool found = !begins(line->key, "published.");
        for (size_t c = 0; c < s->cell_count && !found; c++) {
            if (strcmp(s->cells[c].name, line->key + 10) == 0) {
                s->cells[c].published = line->value;
                found = true;
            }
        }
        if (!found && !s->quick) {
            return study_refuse(s, line->line, "%.120s: there is no such cell", line->key);
        }
    }
    return true;
}

/* What a spec must say, and what follows from its place. */
static bool complete(study *s)
{
    const char *slash = strrchr(s->path, '/');
    const char *file = slash != NULL ? slash + 1 : s->path;
    if (s->name == NULL) {
        s->name = study_keep(s, file, strcspn(file, "."));
        if (s->name == NULL) {
            return false;
        }
        if (!is_name(s->name)) {
            return study_refuse(s, 0, "name: needed, since the file's is no name of a folder");
        }
    }
    s->title = s->title != NULL ? s->title : s->name;
    if (s->seed_count == 0) {
        s->seeds[s->seed_count++] = 1;
    }
    return true;
}

bool study_read(study *s, const char *path, bool quick)
{
    const char *slash = strrchr(path, '/');
    *s = (study){.path = path, .quick = quick, .trace_tokens = 20000, .task.runs = 1};
    int length = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    snprintf(s->folder, sizeof s->folder, "%.*s", length, slash == NULL ? "." : path);
    spec_lines lines = {.s = s};
    config_reader reader = {.path = path, .message = s->message, .size = sizeof s->message};
    bool good = config_read(&reader, take_line, &lines);
    s->failed = reader.failed;
    good = good && fold_quick(&lines);
    if (good && has_key(&lines, "task", false)) {
        good = take_task(s, &lines) && complete(s);
    } else {
        good = good && take_lines(s, &lines) && complete(s) && study_expand(s) &&
               take_published(s, &lines);
    }
    free(lines.items);
    return good;
}

static void free_options(study_options *options)
{
    free(options->items);
    *options = (study_options){0};
}

void study_free(study *s)
{
    for (size_t i = 0; i < s->strings.count; i++) {
        free(s->strings.items[i]);
    }
    for (size_t i = 0; i < s->axis_count; i++) {
        for (size_t j = 0; j < s->axes[i].count; j++) {
            free_options(&s->axes[i].labels[j].options);
        }
        free(s->axes[i].labels);
    }
    for (size_t i = 0; i < s->cell_count; i++) {
        study_cell *cell = &s->cells[i];
        for (size_t k = 0; cell->runs != NULL && k < s->seed_count; k++) {
            free(cell->runs[k].values);
            free(cell->runs[k].curve);
        }
        free(cell->runs);
        free(cell->words);
        free_options(&cell->options);
    }
    free(s->strings.items);
    free_options(&s->base);
    free(s->cells);
    free(s->skips);
    free(s->published.items);
    free(s->data.items);
    *s = (study){0};
}
