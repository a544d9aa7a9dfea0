#include "options.h"

#include "cli.h"
#include "config.h"
#include "foreign.h"
#include "mixt.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
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

/* "top-a" and "top-k" are two things, not a slip. */
static bool differ_in_a_lone_letter(const char *word, const char *candidate, size_t length)
{
    return length > 2 && word[length - 2] == '-' && candidate[length - 2] == '-' &&
           memcmp(word, candidate, length - 1) == 0 && word[length - 1] != candidate[length - 1];
}

int options_distance(const char *word, const char *candidate)
{
    enum { LONGEST = 64 };
    size_t n = strlen(word), m = strlen(candidate);
    size_t rows[3][LONGEST + 1]; /* of prefixes of word that are two and one shorter, and of it */
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    if (n > LONGEST || m > LONGEST || n < 3 || m < 3 ||
        (n == m && differ_in_a_lone_letter(word, candidate, n))) {
        return -1;
    }
    for (size_t j = 0; j <= m; j++) {
        above[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = above[j - 1] + (word[i - 1] != candidate[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            bool swapped = i > 1 && j > 1 && word[i - 1] == candidate[j - 2] &&
                           word[i - 2] == candidate[j - 1];
            best = swapped && before[j - 2] + 1 < best ? before[j - 2] + 1 : best;
            row[j] = best;
        }
        size_t *free_row = before;
        before = above;
        above = row;
        row = free_row;
    }
    size_t most = (n > m ? n : m) / 4;
    most = most < 1 ? 1 : most > 3 ? 3 : most;
    return above[m] <= most ? (int)above[m] : -1;
}

/* The option that `given` is a slip of: the nearest by any of its names, the first of equals. */
static const cli_option *find_similar(const cli_command *command, const char *given)
{
    const cli_option *nearest = NULL;
    int least = INT_MAX;
    for (const cli_group *group = command->groups; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            char word[64];
            const char *words = row->aliases != NULL ? row->aliases : "";
            snprintf(word, sizeof word, "%s", row->name);
            for (;;) {
                int distance = options_distance(given, word);
                if (distance >= 0 && distance < least) {
                    least = distance;
                    nearest = row;
                }
                if (*words == 0) {
                    break;
                }
                size_t size = strcspn(words, " ");
                snprintf(word, sizeof word, "%.*s", (int)size, words);
                words += size + strspn(words + size, " ");
            }
        }
    }
    return nearest;
}

const cli_given *options_given(const cli_arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->given_count; i++) {
        if (strcmp(arguments->given[i].option->name, name) == 0) {
            return &arguments->given[i];
        }
    }
    return NULL;
}

bool options_given_after(const cli_arguments *arguments, const char *name, const char *other)
{
    const cli_given *a = options_given(arguments, name), *b = options_given(arguments, other);
    return a != NULL && (b == NULL || a->order >= b->order);
}

static bool note_given(cli_arguments *arguments, const cli_option *option)
{
    cli_given *given = NULL;
    for (size_t i = 0; i < arguments->given_count; i++) {
        given = arguments->given[i].option == option ? &arguments->given[i] : given;
    }
    if (given == NULL) {
        if (!list_grow(&arguments->given, &arguments->given_capacity, arguments->given_count + 1,
                       sizeof *given)) {
            return fail_memory(arguments);
        }
        given = &arguments->given[arguments->given_count++];
    }
    *given = (cli_given){option, arguments->config, arguments->line, ++arguments->order, ""};
    snprintf(given->word, sizeof given->word, "%s", arguments->word != NULL ? arguments->word : "");
    arguments->word = NULL;
    return true;
}

void options_mark(cli_arguments *arguments, const char *name)
{
    size_t offset = 0;
    const cli_option *option = options_find(arguments->command, name, strlen(name), &offset);
    assert(option != NULL);
    note_given(arguments, option);
}

void options_complain(cli_arguments *arguments, const cli_given *given, const char *format, ...)
{
    char *text = arguments->message;
    size_t size = sizeof arguments->message, used = arguments->complaints;
    if (size - used < 400) {
        return; /* a line of that length has said enough */
    }
    used += (size_t)snprintf(text + used, size - used, "%s", used > 0 ? "; " : "");
    if (given->config == NULL) {
        used += (size_t)snprintf(text + used, size - used, "--");
    } else if (arguments->complained != given->config) {
        used +=
            (size_t)snprintf(text + used, size - used, "%.200s:%d: ", given->config, given->line);
    } else {
        used += (size_t)snprintf(text + used, size - used, "line %d: ", given->line);
    }
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text + used, size - used, format, list);
    va_end(list);
    used += length > 0 ? (size_t)length : 0;
    arguments->complaints = used < size ? used : size - 1;
    arguments->complained = given->config;
}

/* In a config file the others are looked for too: whoever brings one wants to hear of all at once.
 */
static bool refuse_unknown(cli_arguments *arguments, const char *name, size_t length)
{
    char given[65];
    snprintf(given, sizeof given, "%.*s", (int)(length < 64 ? length : 64), name);
    for (char *c = given; *c != 0; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    const char *dashes = arguments->config != NULL ? "" : "--";
    const cli_given here = {.config = arguments->config, .line = arguments->line};
    const cli_option *similar = find_similar(arguments->command, given);
    if (similar != NULL) {
        options_complain(arguments, &here, "%.*s: no such option; is it %s%s?", (int)length, name,
                         dashes, similar->name);
        return arguments->config != NULL;
    }
    options_complain(arguments, &here, "%.*s: no such option", (int)(length < 200 ? length : 200),
                     name);
    return arguments->config != NULL;
}

/* A letter that other programs, or mixt before, have for one of the command's own options. */
static bool refuse_letter(cli_arguments *arguments, const char *argument)
{
    const cli_option *row = arguments->command->groups[0].options;
    while (row->name != NULL && (row->letter != 0 || row->name[0] != argument[1])) {
        row++;
    }
    if (argument[2] != 0 || row->name == NULL) {
        return refuse(arguments, "%.80s: no such option", argument);
    }
    return refuse(arguments, "%.80s: no such option; is it --%s?", argument, row->name);
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
    } else if (option->low == 5e-324) {
        snprintf(text, size, "above 0 and at most %.15g", option->high);
    } else {
        snprintf(text, size, "in %.15g..%.15g", option->low, option->high);
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

/* The word that `given` stands for, in `known` where it is a synonym. */
static const char *find_synonym(const cli_option *option, const char *given, char *known,
                                size_t size)
{
    size_t length = strlen(given);
    for (const char *pair = option->synonyms; pair != NULL; pair = strchr(pair, ' ')) {
        pair += *pair == ' ';
        if (strncmp(pair, given, length) == 0 && pair[length] == '=') {
            snprintf(known, size, "%.*s", (int)strcspn(pair + length + 1, " "), pair + length + 1);
            return known;
        }
    }
    return given;
}

static bool set_choice(cli_arguments *arguments, const cli_option *option, const char *label,
                       const char *given, int *field)
{
    int place = 0;
    char known[64];
    given = find_synonym(option, given, known, sizeof known);
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

/* Config files of nanoGPT are Python and say 5 * 8: factors are multiplied. false: no product of
 * numbers. */
static bool product_of(const char *given, double *value)
{
    *value = 1;
    for (;;) {
        char *end = NULL;
        double factor = strtod(given, &end);
        if (end == given || !isfinite(factor) ||
            !(isdigit((unsigned char)*given) || *given == '.')) {
            return false;
        }
        *value *= factor;
        end += strspn(end, " ");
        if (*end == 0) {
            return isfinite(*value);
        }
        if (*end != '*') {
            return false;
        }
        given = end + 1 + strspn(end + 1, " ");
    }
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
    if (!note_given(arguments, option)) {
        return false;
    }
    if (option->ignored) {
        return true;
    }
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

/* Sets an option from a config file. */
static bool assign_option(cli_arguments *arguments, const cli_option *option, size_t offset,
                          const char *value)
{
    char text[40];
    double product;
    bool whole = option->kind == OPTION_INT || option->kind == OPTION_LONG;
    if (strcmp(option->name, "config") == 0) {
        return refuse(arguments, "a config file cannot name another");
    }
    if ((whole || option->kind == OPTION_NUMBER) && strchr(value, '*') != NULL &&
        product_of(value, &product)) {
        snprintf(text, sizeof text, whole && fabs(product) < 1e15 ? "%.0f" : "%.17g", product);
        bool exact = !whole || product == floor(product);
        return set_option(arguments, option, offset, exact ? text : value);
    }
    return set_option(arguments, option, offset, value);
}

/* ---- config files */

static bool take_pair(void *user, config_reader *reader, char *name, char *value)
{
    cli_arguments *arguments = user;
    size_t offset = 0;
    arguments->line = reader->line;
    const cli_option *found = options_find(arguments->command, name, strlen(name), &offset);
    if (found == NULL) {
        return refuse_unknown(arguments, name, strlen(name));
    }
    if (!found->ignored && !config_unquote(reader, &value)) {
        return false;
    }
    char **kept = realloc(arguments->kept, (arguments->kept_count + 1) * sizeof *kept);
    char *copy = strdup(value);
    if (kept != NULL) {
        arguments->kept = kept;
    }
    if (kept == NULL || copy == NULL) {
        free(copy);
        return fail_memory(arguments);
    }
    kept[arguments->kept_count++] = copy;
    arguments->word = name;
    return assign_option(arguments, found, offset, copy);
}

bool options_read(cli_arguments *arguments, const char *path)
{
    config_reader reader = {.path = path,
                            .message = arguments->message,
                            .size = sizeof arguments->message,
                            .lenient = true};
    arguments->config = path;
    arguments->line = 0;
    bool good = config_read(&reader, take_pair, arguments);
    arguments->config = NULL;
    arguments->failed = arguments->failed || reader.failed;
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

/* Would the value be refused when it is read again? What an option means nothing for may be out of
 * its range: experts per token of a dense model. */
static bool in_range(const cli_option *option, const char *field)
{
    const void *at = field;
    double value = option->kind == OPTION_INT      ? *(const int *)at
                   : option->kind == OPTION_LONG   ? (double)*(const int64_t *)at
                   : option->kind == OPTION_NUMBER ? *(const double *)at
                                                   : option->low;
    return value >= option->low && value <= option->high;
}

void options_write_config(const cli_command *command, const void *settings, const char *without,
                          FILE *stream)
{
    char text[100];
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
                    config_write(stream, row->name, list->items[i]);
                }
                continue;
            }
            if (row->kind == OPTION_TEXT) {
                const char *const *value = (const char *const *)(const void *)field;
                if (*value != NULL) {
                    config_write(stream, row->name, *value);
                }
                continue;
            }
            options_format(row, field, text, sizeof text);
            if (text[0] != 0 && in_range(row, field)) {
                config_write(stream, row->name, text);
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
    return strcmp(option->name, "config") != 0 || options_read(arguments, value);
}

/* Is `word` one that the option takes? */
static bool is_choice(const cli_option *option, const char *word)
{
    char known[64];
    const char *given = find_synonym(option, word, known, sizeof known);
    return words_have(option->choices, given, strlen(given));
}

/* A switch that no option stands for: perhaps one of llama.cpp's. */
static bool take_foreign(cli_arguments *arguments, int argc, char **argv, int *at)
{
    const char *argument = argv[*at];
    size_t length = strcspn(argument, "=");
    const char *reason = NULL;
    foreign_kind kind = foreign_take(arguments->command->name, argc, argv, at, &reason);
    if (kind == FOREIGN_ACCEPTED) {
        return true;
    }
    if (kind == FOREIGN_REFUSED) {
        return refuse(arguments, "%.*s: %s", (int)length, argument, reason);
    }
    bool is_long = argument[1] == '-' && argument[2] != '-';
    return is_long ? refuse_unknown(arguments, argument + 2, length - 2)
                   : refuse_letter(arguments, argument);
}

/* Takes the switch at argv[*at] with its value or values. */
static bool take_switch(cli_arguments *arguments, int argc, char **argv, int *at)
{
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-' && argument[2] != '-';
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
            return take_foreign(arguments, argc, argv, at);
        }
    } else {
        found = length == 1 ? find_letter(arguments->command, name[0], &offset)
                            : options_find(arguments->command, argument, length + 1, &offset);
        if (found == NULL) {
            return take_foreign(arguments, argc, argv, at);
        }
    }
    arguments->word = name;
    if (found->kind == OPTION_FLAG) {
        return set_option(arguments, found, offset, value ? value : negated ? "false" : "true");
    }
    if (value == NULL && found->bare != NULL &&
        (*at + 1 >= argc || !is_choice(found, argv[*at + 1]))) {
        value = found->bare;
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
    if (arguments->command->translate != NULL) {
        arguments->command->translate(arguments->settings, arguments);
    }
    return arguments->complaints == 0;
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
    free(arguments->given);
    arguments->given = NULL;
    arguments->given_count = arguments->given_capacity = arguments->complaints = 0;
    arguments->complained = NULL;
    arguments->kept = NULL;
    arguments->from_config = NULL;
    arguments->kept_count = arguments->from_config_count = 0;
}
