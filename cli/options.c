#include "options.h"

#include "files.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENT_BYTES_MAX = 64 * 1024, LIST_MAX = 4096 };

static bool refuse(cli_arguments *arguments, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(cli_arguments *arguments, const char *format, ...)
{
    char *text = arguments->message;
    size_t size = sizeof arguments->message;
    size_t used = 0;
    if (arguments->config != NULL) {
        used = (size_t)snprintf(text, size, "%.200s:%d: ", arguments->config, arguments->line);
    }
    va_list list;
    va_start(list, format);
    vsnprintf(text + used, size - used, format, list);
    va_end(list);
    return false;
}

static bool fail_memory(cli_arguments *arguments)
{
    arguments->failed = true;
    return refuse(arguments, "out of memory");
}

static bool names_equal(const char *name, const char *given, size_t length)
{
    if (strlen(name) != length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (name[i] != given[i] && !(name[i] == '-' && given[i] == '_')) {
            return false;
        }
    }
    return true;
}

/* Is `given` one of the words in `words`? */
static bool words_have(const char *words, const char *given, size_t length)
{
    while (words != NULL && *words != 0) {
        size_t size = strcspn(words, " ");
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)size, words);
        if (names_equal(word, given, length)) {
            return true;
        }
        words += size + strspn(words + size, " ");
    }
    return false;
}

const cli_option *options_find(const cli_command *command, const char *name, size_t length,
                               size_t *offset)
{
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            if (names_equal(row->name, name, length) || words_have(row->aliases, name, length)) {
                *offset = group->offset + row->offset;
                return row;
            }
        }
    }
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter, size_t *offset)
{
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            if (row->letter == letter) {
                *offset = group->offset + row->offset;
                return row;
            }
        }
    }
    return NULL;
}

/* Edit distance of at most 2, counted by rows. */
bool options_similar(const char *word, const char *candidate)
{
    size_t n = strlen(word);
    size_t m = strlen(candidate);
    size_t row[65];
    if (n > 64 || m > 64 || n < 3) {
        return false;
    }
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            size_t best = diagonal + (word[i - 1] != candidate[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[m] <= 2;
}

static bool refuse_unknown(cli_arguments *arguments, const char *name, size_t length)
{
    char given[65];
    snprintf(given, sizeof given, "%.*s", (int)(length < 64 ? length : 64), name);
    for (char *c = given; *c != 0; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    const cli_command *command = arguments->command;
    const char *dashes = arguments->config != NULL ? "" : "--";
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            if (options_similar(given, row->name)) {
                return refuse(arguments, "%s%.*s: no such option; is it %s%s?", dashes, (int)length,
                              name, dashes, row->name);
            }
        }
    }
    return refuse(arguments, "%s%.*s: no such option", dashes, (int)(length < 200 ? length : 200),
                  name);
}

/* "1", "-1..3", "greater than 0" for a range. */
static void range_text(const cli_option *option, char *text, size_t size)
{
    if (isinf(option->high)) {
        if (option->low == 5e-324) {
            snprintf(text, size, "above 0");
        } else {
            snprintf(text, size, "at least %.15g", option->low);
        }
    } else {
        snprintf(text, size, "in %.15g..%.15g", option->low == 5e-324 ? 0 : option->low,
                 option->high);
    }
}

static bool check_range(cli_arguments *arguments, const cli_option *option, const char *label,
                        double value, const char *given)
{
    if (value >= option->low && value <= option->high) {
        return true;
    }
    char range[80];
    range_text(option, range, sizeof range);
    return refuse(arguments, "%s: %.40s is not %s", label, given, range);
}

static bool set_integer(cli_arguments *arguments, const cli_option *option, const char *label,
                        const char *given, void *field)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(given, &end, 10);
    if (end == given || *end != 0 || isspace((unsigned char)given[0])) {
        return refuse(arguments, "%s: \"%.40s\" is not a whole number", label, given);
    }
    double wide = errno == ERANGE ? (value < 0 ? -INFINITY : INFINITY) : (double)value;
    if (isinf(wide) && isinf(option->high)) {
        return refuse(arguments, "%s: %.40s does not fit into 64 bits", label, given);
    }
    if (!check_range(arguments, option, label, wide, given)) {
        return false;
    }
    if (option->kind == OPTION_INT) {
        *(int *)field = (int)value;
    } else {
        *(int64_t *)field = value;
    }
    return true;
}

static bool set_seed(cli_arguments *arguments, const char *label, const char *given,
                     uint64_t *field)
{
    if (strcmp(given, "-1") == 0) {
        *field = mixt_random_seed();
        return true;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(given, &end, 10);
    if (!isdigit((unsigned char)given[0]) || *end != 0 || errno == ERANGE) {
        return refuse(arguments, "%s: %.40s is not -1 or in 0..18446744073709551615", label, given);
    }
    *field = value;
    return true;
}

static bool set_number(cli_arguments *arguments, const cli_option *option, const char *label,
                       const char *given, double *field)
{
    char *end = NULL;
    double value = strtod(given, &end);
    if (end == given || *end != 0 || isspace((unsigned char)given[0]) || !isfinite(value) ||
        strpbrk(given, "xX") != NULL) {
        return refuse(arguments, "%s: \"%.40s\" is not a number", label, given);
    }
    if (!check_range(arguments, option, label, value, given)) {
        return false;
    }
    *field = value;
    return true;
}

static bool set_choice(cli_arguments *arguments, const cli_option *option, const char *label,
                       const char *given, int *field)
{
    int place = 0;
    size_t length = strlen(given);
    const char *words = option->choices;
    while (*words != 0) {
        size_t size = strcspn(words, " ");
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)size, words);
        if (names_equal(word, given, length)) {
            *field = place;
            return true;
        }
        place++;
        words += size + strspn(words + size, " ");
    }
    return refuse(arguments, "%s: \"%.40s\" is not one of: %s", label, given, option->choices);
}

static bool set_flag(cli_arguments *arguments, const char *label, const char *given, bool *field)
{
    static const char *const yes[] = {"true", "True", "1", "yes", "on"};
    static const char *const no[] = {"false", "False", "0", "no", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcmp(given, yes[i]) == 0 || strcmp(given, no[i]) == 0) {
            *field = strcmp(given, yes[i]) == 0;
            return true;
        }
    }
    return refuse(arguments, "%s: \"%.40s\" is not true or false", label, given);
}

/* A list that a config file filled is replaced by the first value from the command line. */
static bool add_to_list(cli_arguments *arguments, const cli_option *option, const char *given,
                        string_list *list)
{
    size_t place = 0;
    while (place < arguments->from_config_count && arguments->from_config[place] != option) {
        place++;
    }
    bool was_config = place < arguments->from_config_count;
    if (was_config && arguments->config == NULL) {
        list->count = 0;
        arguments->from_config[place] = NULL;
    } else if (!was_config && arguments->config != NULL) {
        const cli_option **grown =
            realloc(arguments->from_config, (arguments->from_config_count + 1) * sizeof *grown);
        if (grown == NULL) {
            return fail_memory(arguments);
        }
        arguments->from_config = grown;
        grown[arguments->from_config_count++] = option;
    }
    if (list->count == LIST_MAX) {
        return refuse(arguments, "--%s: more than %d values", option->name, LIST_MAX);
    }
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL) {
        return fail_memory(arguments);
    }
    list->items = items;
    items[list->count++] = given;
    return true;
}

static bool set_option(cli_arguments *arguments, const cli_option *option, size_t offset,
                       const char *given)
{
    void *field = (char *)arguments->settings + offset;
    char label[80];
    snprintf(label, sizeof label, "%s%s", arguments->config != NULL ? "" : "--", option->name);
    switch (option->kind) {
    case OPTION_FLAG:
        return set_flag(arguments, label, given, field);
    case OPTION_INT:
    case OPTION_LONG:
        return set_integer(arguments, option, label, given, field);
    case OPTION_SEED:
        return set_seed(arguments, label, given, field);
    case OPTION_NUMBER:
        return set_number(arguments, option, label, given, field);
    case OPTION_CHOICE:
        return set_choice(arguments, option, label, given, field);
    case OPTION_TEXT:
        if (given[0] == 0 && option->choices == NULL) {
            return refuse(arguments, "%s: the value is empty", label);
        }
        *(const char **)field = given;
        return true;
    case OPTION_LIST:
        if (given[0] == 0) {
            return refuse(arguments, "%s: the value is empty", label);
        }
        return add_to_list(arguments, option, given, field);
    }
    return false;
}

/* Sets one option by name as a command line does. */
static bool assign_option(cli_arguments *arguments, const char *name, const char *value)
{
    size_t offset = 0;
    const cli_option *found = options_find(arguments->command, name, strlen(name), &offset);
    if (found == NULL) {
        return refuse_unknown(arguments, name, strlen(name));
    }
    if (strcmp(found->name, "config") == 0) {
        return refuse(arguments, "a config file cannot name another");
    }
    return set_option(arguments, found, offset, value);
}

/* ---- config files */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL) {
        text[--length] = 0;
    }
    return text;
}

/* Takes quotes off, or cuts a comment from an unquoted value. */
static bool unquote(cli_arguments *arguments, char **value)
{
    char *text = *value;
    if (*text == '"' || *text == '\'') {
        char *end = strchr(text + 1, *text);
        if (end == NULL) {
            return refuse(arguments, "the quote is not closed");
        }
        char *rest = trim(end + 1);
        if (*rest != 0 && *rest != '#') {
            return refuse(arguments, "text behind the closing quote");
        }
        *end = 0;
        *value = text + 1;
        return true;
    }
    char *comment = strchr(text, '#');
    if (comment != NULL) {
        *comment = 0;
        *value = trim(text);
    }
    return true;
}

static bool config_line(cli_arguments *arguments, char *line)
{
    char *text = trim(line);
    if (*text == 0 || *text == '#') {
        return true;
    }
    if (!text_is_utf8(text, strlen(text))) {
        return refuse(arguments, "not valid UTF-8");
    }
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        return refuse(arguments, "not a line of the form key = value");
    }
    *equals = 0;
    char *name = trim(text);
    char *value = trim(equals + 1);
    if (!unquote(arguments, &value)) {
        return false;
    }
    size_t length = strlen(value);
    char **kept = realloc(arguments->kept, (arguments->kept_count + 1) * sizeof *kept);
    char *copy = malloc(length + 1);
    if (kept != NULL) {
        arguments->kept = kept;
    }
    if (kept == NULL || copy == NULL) {
        free(copy);
        return fail_memory(arguments);
    }
    memcpy(copy, value, length + 1);
    kept[arguments->kept_count++] = copy;
    return assign_option(arguments, name, copy);
}

/* Reads `key = value` lines; # begins a comment; a value may be quoted. */
static bool read_config(cli_arguments *arguments, const char *path)
{
    char line[8192];
    char what[200];
    FILE *file;
    mixt_status status = files_open(path, &file, what);
    if (status != MIXT_OK) {
        arguments->failed = !mixt_status_is_refusal(status);
        return refuse(arguments, "%.200s: %s", path, what);
    }
    arguments->config = path;
    arguments->line = 0;
    bool good = true;
    while (good && fgets(line, sizeof line, file) != NULL) {
        arguments->line++;
        size_t length = strlen(line);
        if (length + 1 == sizeof line && line[length - 1] != '\n') {
            good = refuse(arguments, "the line is longer than %zu bytes", sizeof line - 2);
        } else {
            good = config_line(arguments, line);
        }
    }
    arguments->config = NULL;
    if (good && ferror(file)) {
        arguments->failed = true;
        good = refuse(arguments, "%.200s: %s", path, strerror(errno));
    }
    fclose(file);
    return good;
}

void options_format(const cli_option *option, const void *field, char *text, size_t size)
{
    text[0] = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        snprintf(text, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case OPTION_INT:
        snprintf(text, size, "%d", *(const int *)field);
        break;
    case OPTION_LONG:
        snprintf(text, size, "%lld", (long long)*(const int64_t *)field);
        break;
    case OPTION_SEED:
        snprintf(text, size, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case OPTION_NUMBER:
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, size, "%.*g", digits, *(const double *)field);
            if (strtod(text, NULL) == *(const double *)field) {
                break;
            }
        }
        break;
    case OPTION_TEXT:
        if (*(const char *const *)field != NULL) {
            snprintf(text, size, "%s", *(const char *const *)field);
        }
        break;
    case OPTION_CHOICE: {
        const char *words = option->choices;
        for (int i = 0; i < *(const int *)field; i++) {
            words += strcspn(words, " ");
            words += strspn(words, " ");
        }
        snprintf(text, size, "%.*s", (int)strcspn(words, " "), words);
        break;
    }
    case OPTION_LIST:
        break;
    }
}

static void write_value(FILE *stream, const cli_option *option, const char *value)
{
    bool plain = strpbrk(value, "#\"' \t") == NULL;
    const char *quote = plain ? "" : strchr(value, '"') == NULL ? "\"" : "'";
    fprintf(stream, "%s = %s%s%s\n", option->name, quote, value, quote);
}

void options_write_config(const cli_command *command, const void *settings, const char *without,
                          FILE *stream)
{
    char text[4200];
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        if (strstr(without, group->title) != NULL) {
            continue;
        }
        fprintf(stream, "# %s\n", group->title);
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            const char *field = (const char *)settings + group->offset + row->offset;
            if (strcmp(row->name, "config") == 0) {
                continue;
            }
            if (row->kind == OPTION_LIST) {
                const string_list *list = (const string_list *)(const void *)field;
                for (size_t i = 0; i < list->count; i++) {
                    write_value(stream, row, list->items[i]);
                }
                continue;
            }
            options_format(row, field, text, sizeof text);
            if (text[0] != 0) {
                write_value(stream, row, text);
            }
        }
    }
}

/* ---- command lines */

bool text_is_utf8(const char *text, size_t length)
{
    const unsigned char *c = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t more = c[i] < 0x80 ? 0 : (c[i] & 0xE0) == 0xC0 ? 1 : (c[i] & 0xF0) == 0xE0 ? 2 : 3;
        if (c[i] >= 0x80 && (c[i] < 0xC2 || c[i] > 0xF4 || i + more >= length)) {
            return false;
        }
        for (size_t j = 1; j <= more; j++) {
            if ((c[i + j] & 0xC0) != 0x80) {
                return false;
            }
        }
        if ((c[i] == 0xE0 && c[i + 1] < 0xA0) || (c[i] == 0xED && c[i + 1] > 0x9F) ||
            (c[i] == 0xF0 && c[i + 1] < 0x90) || (c[i] == 0xF4 && c[i + 1] > 0x8F)) {
            return false;
        }
        i += more + 1;
    }
    return true;
}

/* Does the next argument look like a switch and not like a value (-, -1, -.5)? */
static bool is_switch(const char *argument)
{
    return argument[0] == '-' && argument[1] != 0 && !isdigit((unsigned char)argument[1]) &&
           argument[1] != '.';
}

static bool apply(cli_arguments *arguments, const cli_option *option, size_t offset,
                  const char *value)
{
    if (!set_option(arguments, option, offset, value)) {
        return false;
    }
    return strcmp(option->name, "config") != 0 || read_config(arguments, value);
}

/* Takes the switch at argv[*at] with its value or values. */
static bool take_switch(cli_arguments *arguments, int argc, char **argv, int *at)
{
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-';
    const char *name = argument + (is_long ? 2 : 1);
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    size_t offset = 0;
    const cli_option *found = NULL;
    bool negated = false;
    if (is_long) {
        found = options_find(arguments->command, name, length, &offset);
        if (found == NULL && length > 3 && strncmp(name, "no", 2) == 0 && value == NULL &&
            (name[2] == '-' || name[2] == '_')) {
            found = options_find(arguments->command, name + 3, length - 3, &offset);
            negated = found != NULL && found->kind == OPTION_FLAG;
            found = negated ? found : NULL;
        }
        if (found == NULL) {
            return refuse_unknown(arguments, name, length);
        }
    } else {
        found = length == 1 ? find_letter(arguments->command, name[0], &offset) : NULL;
        if (found == NULL) {
            return refuse(arguments, "%.80s: no such option", argument);
        }
    }
    if (found->kind == OPTION_FLAG) {
        return set_option(arguments, found, offset, value ? value : negated ? "false" : "true");
    }
    if (value == NULL) {
        if (*at + 1 >= argc || is_switch(argv[*at + 1])) {
            return refuse(arguments, "--%s: needs a value (%s)", found->name,
                          found->value ? found->value : found->choices);
        }
        value = argv[++*at];
    }
    if (!apply(arguments, found, offset, value)) {
        return false;
    }
    while (found->kind == OPTION_LIST && *at + 1 < argc && !is_switch(argv[*at + 1])) {
        if (!apply(arguments, found, offset, argv[++*at])) {
            return false;
        }
    }
    return true;
}

static bool take_positional(cli_arguments *arguments, const char *argument, int *taken)
{
    const char *name = arguments->command->positional;
    size_t offset = 0;
    const cli_option *found =
        name == NULL ? NULL : options_find(arguments->command, name, strlen(name), &offset);
    if (found == NULL || (*taken > 0 && found->kind != OPTION_LIST)) {
        return refuse(arguments, "%.200s: unexpected argument", argument);
    }
    ++*taken;
    return apply(arguments, found, offset, argument);
}

bool options_parse(cli_arguments *arguments, int argc, char **argv)
{
    int taken = 0;
    arguments->argc = argc;
    arguments->argv = argv;
    for (int i = 0; i < argc; i++) {
        size_t length = strlen(argv[i]);
        if (length > ARGUMENT_BYTES_MAX) {
            return refuse(arguments, "argument %d: %zu bytes are more than %d", i + 1, length,
                          ARGUMENT_BYTES_MAX);
        }
        if (!text_is_utf8(argv[i], length)) {
            return refuse(arguments, "argument %d: not valid UTF-8", i + 1);
        }
    }
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            arguments->help = true;
            return true;
        }
        bool good = is_switch(argv[i]) ? take_switch(arguments, argc, argv, &i)
                                       : take_positional(arguments, argv[i], &taken);
        if (!good) {
            return false;
        }
    }
    return true;
}

static void free_lists(cli_arguments *arguments)
{
    for (const cli_group *group = arguments->command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            if (row->kind == OPTION_LIST) {
                char *field = (char *)arguments->settings + group->offset + row->offset;
                string_list *list = (string_list *)(void *)field;
                free(list->items);
                *list = (string_list){NULL, 0};
            }
        }
    }
}

void options_reset(cli_arguments *arguments)
{
    options_free(arguments);
    if (arguments->command->settings_size > 0) {
        memset(arguments->settings, 0, arguments->command->settings_size);
    }
    if (arguments->command->defaults != NULL) {
        arguments->command->defaults(arguments->settings);
    }
}

void options_free(cli_arguments *arguments)
{
    free_lists(arguments);
    for (size_t i = 0; i < arguments->kept_count; i++) {
        free(arguments->kept[i]);
    }
    free(arguments->kept);
    free(arguments->from_config);
    arguments->kept = NULL;
    arguments->from_config = NULL;
    arguments->kept_count = arguments->from_config_count = 0;
}

bool options_parse_over(cli_arguments *arguments, const char *path)
{
    options_reset(arguments);
    return read_config(arguments, path) &&
           options_parse(arguments, arguments->argc, arguments->argv);
}
