#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "files.h"
#include "options.h"

bool config_refuse(config_reader *reader, const char *format, ...)
{
    size_t used = 0;
    if (reader->line > 0) {
        used = (size_t)snprintf(reader->message, reader->size, "%.200s:%d: ", reader->path,
                                reader->line);
    }
    va_list list;
    va_start(list, format);
    vsnprintf(reader->message + used, reader->size - used, format, list);
    va_end(list);
    return false;
}

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL) {
        text[--length] = 0;
    }
    return text;
}

/* The value of the hexadecimal digits of \\xHH, or -1. */
static int byte_of(const char *digits)
{
    int value = 0;
    for (int i = 0; i < 2; i++) {
        const char *all = "0123456789abcdef";
        const char *at = digits[i] != 0 ? strchr(all, tolower((unsigned char)digits[i])) : NULL;
        if (at == NULL) {
            return -1;
        }
        value = 16 * value + (int)(at - all);
    }
    return value;
}

/* $'...' as the shell reads it: \\\\, \\', \\n, \\r, \\t and \\xHH. What options_write_config
 * writes of a value that the other quotes cannot hold. */
static bool unescape(config_reader *reader, char **value)
{
    static const char letters[] = "\\'nrt", bytes[] = "\\'\n\r\t";
    char *from = *value + 2, *to = from;
    *value = from;
    while (*from != '\'') {
        if (*from == 0) {
            return config_refuse(reader, "the quote is not closed");
        }
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        const char *letter = from[1] != 0 ? strchr(letters, from[1]) : NULL;
        int byte = letter != NULL   ? bytes[letter - letters]
                   : from[1] == 'x' ? byte_of(from + 2)
                                    : -1;
        if (byte <= 0) {
            return config_refuse(reader, "\\%.1s: no such escape", from + 1);
        }
        *to++ = (char)byte;
        from += letter != NULL ? 2 : 4;
    }
    const char *rest = trim(from + 1);
    *to = 0;
    return *rest == 0 || *rest == '#' || config_refuse(reader, "text behind the closing quote");
}

/* Takes quotes off, or cuts a comment from an unquoted value. */
static bool unquote(config_reader *reader, char **value)
{
    char *text = *value;
    if (text[0] == '$' && text[1] == '\'') {
        return unescape(reader, value);
    }
    if (*text == '"' || *text == '\'') {
        char *end = strchr(text + 1, *text);
        if (end == NULL) {
            return config_refuse(reader, "the quote is not closed");
        }
        char *rest = trim(end + 1);
        if (*rest != 0 && *rest != '#') {
            return config_refuse(reader, "text behind the closing quote");
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

bool config_unquote(config_reader *reader, char **value)
{
    return unquote(reader, value) && (text_is_utf8(*value, strlen(*value)) ||
                                      config_refuse(reader, "the value is not valid UTF-8"));
}

static bool take_line(config_reader *reader, config_pair take, void *user, char *line)
{
    char *text = trim(line);
    bool imports = reader->lenient && strchr(text, '=') == NULL &&
                   (strncmp(text, "import ", 7) == 0 || strncmp(text, "from ", 5) == 0);
    if (*text == 0 || *text == '#' || imports) {
        return true; /* nanoGPT's are Python, and one of them imports time to name its log */
    }
    if (!text_is_utf8(text, strlen(text))) {
        return config_refuse(reader, "not valid UTF-8");
    }
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        return config_refuse(reader, "not a line of the form key = value");
    }
    *equals = 0;
    char *name = trim(text);
    return take(user, reader, name, trim(equals + 1));
}

bool config_read(config_reader *reader, config_pair take, void *user)
{
    char *line = NULL;
    size_t capacity = 0;
    char what[200];
    FILE *file;
    reader->line = 0;
    mixt_status status = files_open(reader->path, &file, what);
    if (status != MIXT_OK) {
        reader->failed = !mixt_status_is_refusal(status);
        return config_refuse(reader, "%.200s: %s", reader->path, what);
    }
    bool good = true;
    ssize_t length;
    while (good && (length = getline(&line, &capacity, file)) >= 0) {
        reader->line++;
        if (length > OPTIONS_LINE_MAX) {
            good = config_refuse(reader, "the line is longer than %d bytes", OPTIONS_LINE_MAX);
        } else if (strlen(line) != (size_t)length) {
            good = config_refuse(reader, "a byte 0 is in the line");
        } else {
            good = take_line(reader, take, user, line);
        }
    }
    if (good && !feof(file)) {
        int number = errno;
        reader->failed = true;
        reader->line = 0;
        good = config_refuse(reader, "%.200s: %s", reader->path, strerror(number));
    }
    free(line);
    fclose(file);
    return good;
}

/* Can the value stand in a line between these quotes, or (0) without any? */
static bool can_stand(const char *value, char quote)
{
    for (const unsigned char *c = (const unsigned char *)value; *c != 0; c++) {
        bool control = *c < 0x20 || *c == 0x7F;
        if (control || (quote != 0 ? *c == quote : strchr("#\"' ", *c) != NULL)) {
            return false;
        }
    }
    return quote != 0 || value[0] != '$';
}

void config_write(FILE *stream, const char *name, const char *value)
{
    fprintf(stream, "%s = ", name);
    if (can_stand(value, 0)) {
        fprintf(stream, "%s\n", value);
    } else if (can_stand(value, '"')) {
        fprintf(stream, "\"%s\"\n", value);
    } else if (can_stand(value, '\'')) {
        fprintf(stream, "'%s'\n", value);
    } else {
        fputs("$'", stream);
        for (const unsigned char *c = (const unsigned char *)value; *c != 0; c++) {
            if (*c == '\'' || *c == '\\') {
                fprintf(stream, "\\%c", *c);
            } else if (*c < 0x20 || *c == 0x7F) {
                fprintf(stream, *c == '\n' ? "\\n" : "\\x%02x", *c);
            } else {
                fputc(*c, stream);
            }
        }
        fputs("'\n", stream);
    }
}
