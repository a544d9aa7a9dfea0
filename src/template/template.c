#include "template/template.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/number.h"
#include "formats/json.h"
#include "core/utf8.h"

/* ---- budgets */

_Noreturn void mixt_template_fail(template_run *run, mixt_status status, const char *format, ...)
{
    char line[400];
    va_list list;
    va_start(list, format);
    mixt_format_list(line, sizeof line, format, list);
    va_end(list);
    line[mixt_utf8_valid_prefix(line, strlen(line))] = '\0'; /* a cut inside a character */
    mixt_fail(run->error, status, "%.80s: line %d: %s", run->name, run->line, line);
    longjmp(run->failed, (int)status);
}

void mixt_template_charge(template_run *run, size_t bytes)
{
    int64_t steps = 1 + (int64_t)(bytes / TEMPLATE_STEP_BYTES);
    run->steps -= steps;
    if (run->steps < 0) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT,
                           "the template takes more than %d steps; is there a loop without end?",
                           TEMPLATE_STEPS_MAX);
    }
}

void *mixt_template_allocate(template_run *run, size_t count, size_t size)
{
    size_t bytes;
    if (!mixt_multiply_size(count, size, &bytes) || bytes > run->memory) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "the template takes more than %d MiB of memory",
                           TEMPLATE_MEMORY_MAX >> 20);
    }
    mixt_template_charge(run, bytes);
    assert(bytes <= run->memory);
    run->memory -= bytes;
    void *piece = mixt_arena_allocate(run->arena, count, size);
    if (piece == NULL) {
        mixt_template_fail(run, MIXT_ERROR_MEMORY, "no memory for the template");
    }
    return piece;
}

void mixt_template_grow(template_run *run, void *array, size_t *capacity, size_t wanted,
                        size_t size)
{
    if (wanted <= *capacity) {
        return;
    }
    size_t grown = 2 * *capacity + 4; /* what is there came out of TEMPLATE_MEMORY_MAX */
    grown = grown > wanted ? grown : wanted;
    void *from, *to = mixt_template_allocate(run, grown, size);
    memcpy(&from, array, sizeof from);
    if (*capacity != 0) {
        memcpy(to, from, *capacity * size);
    }
    memcpy(array, &to, sizeof to);
    *capacity = grown;
}

void mixt_template_enter(template_run *run)
{
    if (++run->depth > TEMPLATE_DEPTH_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "more than %d evaluations inside one another",
                           TEMPLATE_DEPTH_MAX);
    }
}

void mixt_template_write(template_run *run, template_output *output, const char *data,
                         size_t length)
{
    size_t needed = output->length + length; /* both at most TEMPLATE_OUTPUT_MAX and a text */
    if (needed > TEMPLATE_OUTPUT_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "the template writes more than %d MiB",
                           TEMPLATE_OUTPUT_MAX >> 20);
    }
    if (needed > output->capacity) {
        mixt_template_grow(run, &output->data, &output->capacity, needed < 128 ? 256 : 2 * needed,
                           1);
    }
    assert(needed <= output->capacity);
    mixt_template_charge(run, length);
    if (length > 0) {
        memcpy(output->data + output->length, data, length);
    }
    output->length = needed;
}

/* ---- names */

static void grow_symbols(template_run *run)
{
    int capacity = run->symbol_capacity == 0 ? 128 : 2 * run->symbol_capacity;
    const char **symbols = mixt_template_allocate(run, (size_t)capacity, sizeof *symbols);
    int *table = mixt_template_allocate(run, 2 * (size_t)capacity, sizeof *table);
    if (run->symbol_count > 0) {
        memcpy(symbols, run->symbols, (size_t)run->symbol_count * sizeof *symbols);
    }
    run->symbols = symbols;
    run->symbol_table = table;
    run->symbol_capacity = capacity;
    int count = run->symbol_count;
    run->symbol_count = 0;
    for (int i = 0; i < count; i++) {
        mixt_template_symbol(run, symbols[i], strlen(symbols[i]));
    }
}

int mixt_template_symbol(template_run *run, const char *name, size_t length)
{
    if (run->symbol_count == run->symbol_capacity) {
        grow_symbols(run);
    }
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)name[i]) * 16777619U;
    }
    uint32_t mask = 2 * (uint32_t)run->symbol_capacity - 1;
    assert((mask & (mask + 1)) == 0 && run->symbol_count < run->symbol_capacity);
    uint32_t at = hash & mask;
    for (; run->symbol_table[at] != 0; at = (at + 1) & mask) {
        const char *known = run->symbols[run->symbol_table[at] - 1];
        if (strncmp(known, name, length) == 0 && known[length] == '\0') {
            return run->symbol_table[at] - 1;
        }
        mixt_template_charge(run, length);
    }
    char *copy = mixt_template_allocate(run, length + 1, 1);
    memcpy(copy, name, length);
    run->symbols[run->symbol_count] = copy;
    run->symbol_table[at] = ++run->symbol_count;
    return run->symbol_count - 1;
}

/* ---- dates */

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

static void complete_date(template_date *date)
{
    date->day_of_year = date->day - 1;
    for (int month = 1; month < date->month; month++) {
        date->day_of_year += days_of(date->year, month);
    }
    int before = date->year - 1; /* 1 January of year 1 was a Monday */
    date->weekday =
        (before * 365 + before / 4 - before / 100 + before / 400 + date->day_of_year) % 7;
}

static void today(template_date *date)
{
    struct tm tm;
    time_t now = time(NULL);
    memset(&tm, 0, sizeof tm);
    localtime_r(&now, &tm);
    *date = (template_date){.year = tm.tm_year + 1900,
                            .month = tm.tm_mon + 1,
                            .day = tm.tm_mday,
                            .hour = tm.tm_hour,
                            .minute = tm.tm_min,
                            .second = tm.tm_sec < 60 ? tm.tm_sec : 59};
    complete_date(date);
}

/* Two digits at `text`, or -1. */
static int two_digits(const char *text)
{
    if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9') {
        return -1;
    }
    return 10 * (text[0] - '0') + text[1] - '0';
}

mixt_status mixt_template_parse_date(const char *text, template_date *date, mixt_error *error)
{
    if (text == NULL) {
        today(date);
        return MIXT_OK;
    }
    size_t length = strlen(text);
    int century = -1, rest = -1;
    *date = (template_date){0};
    bool good = (length == 10 || length == 19) && text[4] == '-' && text[7] == '-';
    if (good) {
        century = two_digits(text);
        rest = two_digits(text + 2);
        date->month = two_digits(text + 5);
        date->day = two_digits(text + 8);
    }
    if (good && length == 19) {
        good = (text[10] == ' ' || text[10] == 'T') && text[13] == ':' && text[16] == ':';
        date->hour = two_digits(text + 11);
        date->minute = two_digits(text + 14);
        date->second = two_digits(text + 17);
    }
    date->year = 100 * century + rest;
    if (!good || century < 0 || rest < 0 || date->year < 1 || date->month < 1 || date->month > 12 ||
        date->day < 1 || date->day > days_of(date->year, date->month) || date->hour < 0 ||
        date->hour > 23 || date->minute < 0 || date->minute > 59 || date->second < 0 ||
        date->second > 59) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "date \"%.40s\": not of the form 2024-12-31 or 2024-12-31T23:59:59", text);
    }
    complete_date(date);
    return MIXT_OK;
}

/* ---- rendering */

static void bind_context(template_run *run, const json_t *context)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)context, key, value)
    {
        mixt_template_bind(run, run->scope, mixt_template_symbol(run, key, strlen(key)),
                           mixt_template_from_json(run, value, 0));
    }
}

static void render(template_run *run, const char *source, size_t length, const json_t *context)
{
    if (length > TEMPLATE_BYTES_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT,
                           "a template of %zu bytes is longer than the %d KiB that are read",
                           length, TEMPLATE_BYTES_MAX >> 10);
    }
    if (mixt_utf8_valid_prefix(source, length) != length || memchr(source, '\0', length) != NULL) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "the template is not valid UTF-8");
    }
    const template_node *body = mixt_template_parse(run, mixt_template_lex(run, source, length));
    /* What the caller gave is not the template's doing: only the work on it is counted. */
    run->scope = mixt_template_allocate(run, 1, sizeof *run->scope);
    mixt_template_bind_functions(run);
    int64_t steps = run->steps;
    size_t memory = run->memory;
    run->steps = INT64_MAX;
    run->memory = SIZE_MAX;
    bind_context(run, context);
    run->steps = steps + (int64_t)(run->given / 4); /* long conversations take more work */
    run->memory = memory + 16 * run->given;
    mixt_template_execute(run, body);
}

mixt_status mixt_template_render(const char *name, const char *template_text_, size_t length,
                                 const json_t *context, const template_date *date, char **text,
                                 mixt_error *error)
{
    template_output output = {0};
    template_run run = {.error = error,
                        .name = name,
                        .line = 1,
                        .steps = TEMPLATE_STEPS_MAX,
                        .memory = TEMPLATE_MEMORY_MAX,
                        .output = &output,
                        .date = *date};
    *text = NULL;
    run.arena = mixt_arena_create();
    if (run.arena == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%.80s: no memory", name);
    }
    int failed = setjmp(run.failed);
    if (failed != 0) {
        mixt_arena_free(run.arena);
        return (mixt_status)failed;
    }
    render(&run, template_text_, length, context);
    *text = malloc(output.length + 1);
    if (*text != NULL) {
        if (output.length > 0) {
            memcpy(*text, output.data, output.length);
        }
        (*text)[output.length] = '\0';
    }
    mixt_arena_free(run.arena);
    return *text != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "%.80s: no memory", name);
}
