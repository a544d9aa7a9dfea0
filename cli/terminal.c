#include "terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "shared.h"

#define DRAW_SECONDS 0.1  /* least time between two drawings on a terminal */
#define PLAIN_SECONDS 10. /* ... and elsewhere */

bool terminal_is_one(FILE *stream)
{
    const char *term = getenv("TERM");
    return isatty(fileno(stream)) && (term == NULL || strcmp(term, "dumb") != 0);
}

bool terminal_color(int choice, FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    if (choice != COLOR_AUTO) {
        return choice == COLOR_ALWAYS;
    }
    return terminal_is_one(stream) && (no_color == NULL || no_color[0] == 0);
}

int terminal_width(FILE *stream)
{
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) {
        return size.ws_col;
    }
    return 80;
}

mixt_status terminal_read_line(const char *prompt, input_line *line, mixt_error *error)
{
    if (isatty(STDIN_FILENO)) {
        fputs(prompt, stderr);
    }
    line->length = interrupt_read_line(&line->text, &line->capacity);
    if (line->length >= 0 || errno == 0 || errno == EINTR) {
        return MIXT_OK;
    }
    return errno == EMSGSIZE
               ? set_error(error, MIXT_ERROR_ARGUMENT,
                           "standard input: a line of more than %d bytes", LINE_BYTES_MAX)
           : errno == ENOMEM
               ? set_error(error, MIXT_ERROR_MEMORY, "standard input: no memory for a line")
               : set_io_error(error, "standard input");
}

double terminal_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_begin(progress_line *progress, const char *label)
{
    progress->label = label;
    progress->started = terminal_seconds();
    progress->shown = 0;
    progress->on_terminal = terminal_is_one(stderr);
    progress->drawn = false;
    if (!progress->on_terminal) {
        progress->shown = progress->started;
    }
}

/* Cuts a line to `width` columns, counting UTF-8 characters as one. */
static void cut_line(char *line, int width)
{
    int columns = 0;
    for (char *c = line; *c != 0; c++) {
        if (((unsigned char)*c & 0xC0) != 0x80 && columns++ == width) {
            *c = 0;
            return;
        }
    }
}

void progress_draw(progress_line *progress, double share, const char *detail)
{
    double now = terminal_seconds();
    if (now - progress->shown < (progress->on_terminal ? DRAW_SECONDS : PLAIN_SECONDS)) {
        return;
    }
    progress->shown = now;
    share = share < 0 || isnan(share) ? 0 : share > 1 ? 1 : share;
    char line[400];
    if (!progress->on_terminal) {
        fprintf(stderr, "%s %3.0f%% %s\n", progress->label, 100 * share, detail);
        return;
    }
    int width = terminal_width(stderr);
    int bar = width - (int)strlen(progress->label) - (int)strlen(detail) - 9;
    bar = bar > 30 ? 30 : bar;
    char marks[31] = "";
    for (int i = 0; i < bar; i++) {
        marks[i] = i < (int)(share * bar + 0.5) ? '#' : ' ';
        marks[i + 1] = 0;
    }
    snprintf(line, sizeof line, "%s %3.0f%%%s%s%s %s", progress->label, 100 * share,
             bar > 3 ? "|" : "", bar > 3 ? marks : "", bar > 3 ? "|" : "", detail);
    cut_line(line, width - 1);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    progress->drawn = true;
}

bool progress_callback(void *user, double done, double total)
{
    progress_line *progress = user;
    double share = total > 0 ? done / total : 0;
    double elapsed = terminal_seconds() - progress->started;
    char spent[24];
    char left[24];
    char detail[80];
    format_seconds(elapsed, spent);
    format_seconds(share > 0 ? elapsed / share - elapsed : 0, left);
    snprintf(detail, sizeof detail, "[%s<%s]", spent, share > 0 ? left : "?");
    progress_draw(progress, share, detail);
    return interrupt_status() == 0;
}

void progress_end(progress_line *progress)
{
    if (progress->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress->drawn = false;
    }
}

void format_seconds(double seconds, char text[24])
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 3.6e9) {
        snprintf(text, 24, "?");
        return;
    }
    long whole = (long)(seconds + 0.5);
    if (whole >= 3600) {
        snprintf(text, 24, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        snprintf(text, 24, "%ld:%02ld", whole / 60, whole % 60);
    }
}

void format_count(uint64_t count, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    int out = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[out++] = ',';
        }
        text[out++] = digits[i];
    }
    text[out] = 0;
}

void format_bytes(double bytes, char text[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, 24, unit > 0 && bytes < 9.95 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

void say(FILE *stream, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char small[8448]; /* a line must be said without memory too: longer ones are cut then */
    int length = vsnprintf(small, sizeof small, format, list);
    va_end(list);
    if (length < 0) {
        fputs("?", stream);
        return;
    }
    size_t end = strlen(format);
    bool line = end > 0 && format[end - 1] == '\n';
    char *large = (size_t)length >= sizeof small ? malloc((size_t)length + 1) : NULL;
    char *text = large != NULL ? large : small;
    if (large != NULL) {
        va_start(list, format);
        vsnprintf(large, (size_t)length + 1, format, list);
        va_end(list);
    }
    if (line && length > 0 && (large != NULL || (size_t)length < sizeof small)) {
        text[length - 1] = '\0'; /* the format's own */
    }
    mixt_text_plain(text);
    fputs(text, stream);
    fputs(line ? "\n" : "", stream);
    free(large);
}

void print_json_number(FILE *stream, double value)
{
    char text[NUMBER_SIZE];
    format_number(value, text);
    fputs(isfinite(value) ? text : "null", stream);
}

void print_json_measure(FILE *stream, double value)
{
    fprintf(stream, isfinite(value) ? "%.9g" : "null", value);
}

const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

void format_number(double value, char text[NUMBER_SIZE])
{
    int digits = 6;
    do {
        snprintf(text, NUMBER_SIZE, "%.*g", digits, value);
    } while (strtod(text, NULL) != value && digits++ < 17);
}

/* The character at `c` if a terminal would act on it and it is more than a byte long, else 0. */
static unsigned acting_character(const unsigned char *c)
{
    unsigned point = 0;
    if (c[0] >= 0xc2 && c[0] < 0xe0 && (c[1] & 0xc0) == 0x80) {
        point = (c[0] & 31u) << 6 | (c[1] & 63u);
    } else if (c[0] == 0xe2 && (c[1] & 0xc0) == 0x80 && (c[2] & 0xc0) == 0x80) {
        point = 0x2000u | (c[1] & 63u) << 6 | (c[2] & 63u);
    }
    bool acts = (point >= 0x80 && point < 0xa0) || point == 0x61c || point == 0x200e ||
                point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
                (point >= 0x2066 && point <= 0x2069);
    return acts ? point : 0;
}

void print_json_text(FILE *stream, const char *text)
{
    unsigned acts;
    fputc('"', stream);
    for (const unsigned char *c = (const unsigned char *)text; *c != 0; c++) {
        if (*c == '"' || *c == '\\') {
            fprintf(stream, "\\%c", *c);
        } else if (*c == '\n' || *c == '\t' || *c == '\r') {
            fputs(*c == '\n' ? "\\n" : *c == '\t' ? "\\t" : "\\r", stream);
        } else if (*c < 0x20 || *c == 0x7F) {
            fprintf(stream, "\\u%04x", *c);
        } else if ((acts = acting_character(c)) != 0) {
            fprintf(stream, "\\u%04x", acts);
            c += acts < 0x800 ? 1 : 2;
        } else {
            fputc(*c, stream);
        }
    }
    fputc('"', stream);
}

void print_shell_word(FILE *stream, const char *text)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
    if (text[0] != 0 && text[strspn(text, plain)] == 0) {
        fputs(text, stream);
        return;
    }
    bool acts = false;
    for (const unsigned char *c = (const unsigned char *)text; *c != 0; c++) {
        acts |= *c < 0x20 || *c == 0x7F || acting_character(c) != 0;
    }
    fputs(acts ? "$'" : "'", stream);
    for (const unsigned char *c = (const unsigned char *)text; *c != 0; c++) {
        size_t bytes = 1;
        if (acts && acting_character(c) != 0) {
            bytes = acting_character(c) < 0x800 ? 2 : 3;
            for (size_t i = 0; i < bytes; i++) {
                fprintf(stream, "\\x%02x", c[i]);
            }
        } else if (*c < 0x20 || *c == 0x7F) {
            fprintf(stream, "\\x%02x", *c);
        } else if (*c == '\'' || (acts && *c == '\\')) {
            fputs(!acts ? "'\\''" : *c == '\'' ? "\\'" : "\\\\", stream);
        } else {
            fputc(*c, stream);
        }
        c += bytes - 1;
    }
    fputc('\'', stream);
}
