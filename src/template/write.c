/* Values as text: Python's str and repr, and json.dumps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "template/template.h"
#include "core/number.h"
#include "core/utf8.h"

/* repr of a float: the fewest digits that read back as the same number; an exponent below 1e-4 and
 * from 1e16 on. */
static size_t write_number(double value, char out[40])
{
    char digits[40];
    if (isnan(value) || isinf(value)) {
        return (size_t)snprintf(out, 40, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
    }
    int precision = 0;
    do {
        mixt_format(digits, sizeof digits, "%.*e", precision, value);
    } while (mixt_number_read(digits, NULL) != value && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        return (size_t)snprintf(out, 40, "%s", digits);
    }
    int behind = precision - exponent;
    return (size_t)mixt_format(out, 40, "%.*f", behind > 0 ? behind : 1, value);
}

template_value mixt_template_output_value(template_run *run, const template_output *output)
{
    return mixt_template_view(run, output->data != NULL ? output->data : "", output->length);
}

static void put(template_run *run, template_output *output, const char *text)
{
    mixt_template_write(run, output, text, strlen(text));
}

/* Writes `text` with the characters replaced for which `escape` fills `out` (else it leaves it
 * empty); what lies between them goes out in one piece. */
typedef void (*escape_function)(uint32_t character, uint32_t how, char out[16]);

static void write_escaped(template_run *run, template_output *output, const template_text *text,
                          escape_function escape, uint32_t how)
{
    size_t from = 0;
    mixt_template_charge(run, text->length);
    for (size_t at = 0; at < text->length;) {
        char out[16] = "";
        const unsigned char *c = (const unsigned char *)text->data + at;
        size_t bytes = mixt_utf8_character(c, text->length - at);
        escape(mixt_utf8_decode(c, bytes), how, out);
        if (out[0] != '\0') {
            mixt_template_write(run, output, text->data + from, at - from);
            put(run, output, out);
            from = at + bytes;
        }
        at += bytes;
    }
    mixt_template_write(run, output, text->data + from, text->length - from);
}

/* how: the quote */
static void escape_repr(uint32_t character, uint32_t how, char out[16])
{
    if (character == how || character == '\\') {
        snprintf(out, 16, "\\%c", (char)character);
    } else if (character == '\n' || character == '\r' || character == '\t') {
        snprintf(out, 16, "\\%c", character == '\n' ? 'n' : character == '\r' ? 'r' : 't');
    } else if (!mixt_template_is_printable(character)) {
        snprintf(out, 16,
                 character < 0x100     ? "\\x%02x"
                 : character < 0x10000 ? "\\u%04x"
                                       : "\\U%08x",
                 (unsigned)character);
    }
}

static void write_repr_string(template_run *run, template_output *output, const template_text *text)
{
    bool has_single = memchr(text->data, '\'', text->length) != NULL;
    bool has_double = memchr(text->data, '"', text->length) != NULL;
    const char *quote = has_single && !has_double ? "\"" : "'";
    put(run, output, quote);
    write_escaped(run, output, text, escape_repr, (uint32_t)quote[0]);
    put(run, output, quote);
}

static void write_value(template_run *run, template_output *output, template_value value,
                        bool quoted, int depth);

static void write_items(template_run *run, template_output *output, const template_list *list,
                        int depth)
{
    for (size_t i = 0; i < list->count; i++) {
        put(run, output, i > 0 ? ", " : "");
        write_value(run, output, list->items[i], true, depth + 1);
    }
}

static void write_dict(template_run *run, template_output *output, const template_dict *dict,
                       int depth)
{
    put(run, output, "{");
    for (size_t i = 0; i < dict->count; i++) {
        put(run, output, i > 0 ? ", " : "");
        write_value(run, output, dict->entries[i].key, true, depth + 1);
        put(run, output, ": ");
        write_value(run, output, dict->entries[i].value, true, depth + 1);
    }
    put(run, output, "}");
}

static void check_depth(template_run *run, int depth)
{
    if (depth > TEMPLATE_VALUE_DEPTH_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a value is nested deeper than %d",
                           TEMPLATE_VALUE_DEPTH_MAX);
    }
}

static void write_value(template_run *run, template_output *output, template_value value,
                        bool quoted, int depth)
{
    char number[40];
    mixt_template_charge(run, 0);
    check_depth(run, depth);
    switch ((int)value.kind) {
    case TEMPLATE_UNDEFINED:
        put(run, output, quoted ? "Undefined" : "");
        break;
    case TEMPLATE_NONE:
        put(run, output, "None");
        break;
    case TEMPLATE_BOOL:
        put(run, output, value.as.boolean ? "True" : "False");
        break;
    case TEMPLATE_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)value.as.integer);
        put(run, output, number);
        break;
    case TEMPLATE_FLOAT:
        mixt_template_write(run, output, number, write_number(value.as.number, number));
        break;
    case TEMPLATE_STRING:
        if (!quoted) {
            mixt_template_write(run, output, value.as.text->data, value.as.text->length);
        } else if (value.as.text->is_safe) {
            mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                               "a |safe string inside of a list that is written");
        } else {
            write_repr_string(run, output, value.as.text);
        }
        break;
    case TEMPLATE_LIST:
        put(run, output, "[");
        write_items(run, output, value.as.list, depth);
        put(run, output, "]");
        break;
    case TEMPLATE_TUPLE:
        put(run, output, "(");
        write_items(run, output, value.as.list, depth);
        put(run, output, value.as.list->count == 1 ? ",)" : ")");
        break;
    case TEMPLATE_DICT:
        write_dict(run, output, value.as.dict, depth);
        break;
    default:
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "%s cannot be written",
                           mixt_template_kind_name(value));
    }
}

const template_text *mixt_template_text(template_run *run, template_value value)
{
    if (value.kind == TEMPLATE_STRING) {
        return value.as.text;
    }
    template_output output = {0};
    write_value(run, &output, value, false, 0);
    return mixt_template_output_value(run, &output).as.text;
}

const template_text *mixt_template_need_text(template_run *run, template_value value,
                                             const char *what)
{
    if (value.kind != TEMPLATE_STRING) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s: %s where a str is needed", what,
                           value.kind == TEMPLATE_UNDEFINED ? value.as.missing
                                                            : mixt_template_kind_name(value));
    }
    return value.as.text;
}

const char *mixt_template_c_string(template_run *run, const template_text *text)
{
    if (text->data[text->length] == '\0') { /* every text ends before the NUL of its memory */
        return text->data;
    }
    return mixt_template_string(run, text->data, text->length).as.text->data;
}

/* ---- JSON */

/* how: 1 for ASCII alone */
static void escape_json(uint32_t character, uint32_t how, char out[16])
{
    static const char named[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    for (const char *n = named; *n != '\0'; n += 2) {
        if ((uint32_t)*n == character) {
            snprintf(out, 16, "\\%c", n[1]);
            return;
        }
    }
    if (character < 0x20 || (how != 0 && character >= 0x7f && character < 0x10000)) {
        snprintf(out, 16, "\\u%04x", (unsigned)character);
    } else if (how != 0 && character >= 0x10000) {
        unsigned rest = (unsigned)character - 0x10000;
        snprintf(out, 16, "\\u%04x\\u%04x", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
    }
}

static void write_json_string(template_run *run, template_output *output, const template_text *text,
                              bool ascii)
{
    put(run, output, "\"");
    write_escaped(run, output, text, escape_json, ascii);
    put(run, output, "\"");
}

typedef struct json_writer {
    template_run *run;
    template_output *output;
    const template_json_style *style;
} json_writer;

static void write_json(const json_writer *writer, template_value value, int depth);

static void new_line(const json_writer *writer, int depth)
{
    if (writer->style->indent == NULL) {
        return;
    }
    put(writer->run, writer->output, "\n");
    for (int i = 0; i < depth; i++) {
        put(writer->run, writer->output, writer->style->indent);
    }
}

static void write_json_list(const json_writer *writer, const template_list *list, int depth)
{
    put(writer->run, writer->output, "[");
    for (size_t i = 0; i < list->count; i++) {
        put(writer->run, writer->output, i > 0 ? writer->style->item_separator : "");
        new_line(writer, depth + 1);
        write_json(writer, list->items[i], depth + 1);
    }
    if (list->count > 0) {
        new_line(writer, depth);
    }
    put(writer->run, writer->output, "]");
}

/* json.dumps writes keys that are numbers, bools or none as strings. */
static void write_key(const json_writer *writer, template_value key)
{
    if (key.kind == TEMPLATE_STRING) {
        write_json_string(writer->run, writer->output, key.as.text, writer->style->ascii);
        return;
    }
    if (!mixt_template_is_number(key) && key.kind != TEMPLATE_NONE) {
        mixt_template_fail(writer->run, MIXT_ERROR_FORMAT, "tojson: %s as a key",
                           mixt_template_kind_name(key));
    }
    put(writer->run, writer->output, "\"");
    write_json(writer, key, 0);
    put(writer->run, writer->output, "\"");
}

static void write_json_dict(const json_writer *writer, const template_dict *dict, int depth)
{
    const template_entry *entries = dict->entries;
    template_run *run = writer->run;
    if (writer->style->sorted) { /* by insertion: dicts of templates are small */
        template_entry *sorted = mixt_template_allocate(run, dict->count, sizeof *sorted);
        for (size_t i = 0; i < dict->count; i++) {
            size_t at = i;
            while (at > 0 &&
                   mixt_template_compare(run, dict->entries[i].key, sorted[at - 1].key) < 0) {
                sorted[at] = sorted[at - 1];
                at--;
            }
            sorted[at] = dict->entries[i];
        }
        entries = sorted;
    }
    put(run, writer->output, "{");
    for (size_t i = 0; i < dict->count; i++) {
        put(run, writer->output, i > 0 ? writer->style->item_separator : "");
        new_line(writer, depth + 1);
        write_key(writer, entries[i].key);
        put(run, writer->output, writer->style->key_separator);
        write_json(writer, entries[i].value, depth + 1);
    }
    if (dict->count > 0) {
        new_line(writer, depth);
    }
    put(run, writer->output, "}");
}

static void write_json(const json_writer *writer, template_value value, int depth)
{
    template_run *run = writer->run;
    check_depth(run, depth);
    mixt_template_charge(run, 0);
    switch ((int)value.kind) {
    case TEMPLATE_NONE:
        put(run, writer->output, "null");
        break;
    case TEMPLATE_BOOL:
        put(run, writer->output, value.as.boolean ? "true" : "false");
        break;
    case TEMPLATE_INTEGER:
        write_value(run, writer->output, value, false, depth);
        break;
    case TEMPLATE_FLOAT:
        if (isfinite(value.as.number)) {
            write_value(run, writer->output, value, false, depth);
        } else {
            put(run, writer->output,
                isnan(value.as.number)  ? "NaN"
                : value.as.number < 0.0 ? "-Infinity"
                                        : "Infinity");
        }
        break;
    case TEMPLATE_STRING:
        write_json_string(run, writer->output, value.as.text, writer->style->ascii);
        break;
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
        write_json_list(writer, value.as.list, depth);
        break;
    case TEMPLATE_DICT:
        write_json_dict(writer, value.as.dict, depth);
        break;
    default:
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "tojson: %s",
                           value.kind == TEMPLATE_UNDEFINED ? value.as.missing
                                                            : mixt_template_kind_name(value));
    }
}

void mixt_template_write_json(template_run *run, template_output *output, template_value value,
                              const template_json_style *style)
{
    json_writer writer = {run, output, style};
    write_json(&writer, value, 0);
}
