/* Python's strings over UTF-8: characters are code points. */
#include <assert.h>
#include <string.h>
#include <utf8proc.h>

#include "template/template.h"
#include "core/utf8.h"

size_t mixt_template_characters(template_run *run, const template_text *text)
{
    size_t count = text->length;
    if (!text->is_ascii) {
        mixt_template_charge(run, text->length);
        count = 0;
        for (size_t i = 0; i < text->length; i++) {
            count += ((unsigned char)text->data[i] & 0xc0) != 0x80;
        }
    }
    return count;
}

size_t mixt_template_offset(const template_text *text, size_t index)
{
    if (text->is_ascii) {
        return index < text->length ? index : text->length;
    }
    size_t at = 0;
    for (; at < text->length; at++) {
        if (((unsigned char)text->data[at] & 0xc0) != 0x80 && index-- == 0) {
            break;
        }
    }
    return at;
}

bool mixt_template_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

size_t mixt_template_space_at(const char *text, size_t length, size_t at)
{
    assert(at <= length);
    const unsigned char *c = (const unsigned char *)text + at;
    size_t bytes = mixt_utf8_character(c, length - at);
    return bytes > 0 && mixt_template_is_space(mixt_utf8_decode(c, bytes)) ? bytes : 0;
}

size_t mixt_template_skip_space(const char *text, size_t length, size_t at)
{
    size_t bytes;
    while ((bytes = mixt_template_space_at(text, length, at)) > 0) {
        at += bytes;
    }
    return at;
}

bool mixt_template_is_printable(uint32_t c)
{
    if (c < 0x7f) {
        return c >= 0x20;
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF &&
           category != UTF8PROC_CATEGORY_CS && category != UTF8PROC_CATEGORY_CO &&
           category != UTF8PROC_CATEGORY_CN && category != UTF8PROC_CATEGORY_ZL &&
           category != UTF8PROC_CATEGORY_ZP && category != UTF8PROC_CATEGORY_ZS;
}

/* Counts `bytes` of work, in portions that a step is charged for. */
static void count_work(template_run *run, size_t *work, size_t bytes)
{
    *work += bytes;
    if (*work >= 4096) {
        mixt_template_charge(run, *work);
        *work = 0;
    }
}

const char *mixt_template_search(template_run *run, const template_text *text, size_t from,
                                 const template_text *what)
{
    size_t work = 0;
    const char *at = text->data + from;
    const char *end = text->data + text->length;
    if (what->length == 0) {
        return at;
    }
    mixt_template_charge(run, 0);
    while ((size_t)(end - at) >= what->length) {
        const char *found = memchr(at, what->data[0], (size_t)(end - at) - what->length + 1);
        if (found == NULL) {
            count_work(run, &work, (size_t)(end - at));
            return NULL;
        }
        size_t same = 1;
        while (same < what->length && found[same] == what->data[same]) {
            same++;
        }
        count_work(run, &work, (size_t)(found - at) + same + 16);
        if (same == what->length) {
            return found;
        }
        at = found + 1;
    }
    return NULL;
}

/* A part of a text, which keeps being safe. */
static template_value part(template_run *run, const template_text *text, size_t from, size_t to)
{
    template_text *new_ = mixt_template_allocate(run, 1, sizeof *new_);
    *new_ = *text;
    new_->data = text->data + from;
    new_->length = to - from;
    return (template_value){.kind = TEMPLATE_STRING, .as.text = new_};
}

static bool is_stripped(template_run *run, const char *at, size_t bytes,
                        const template_text *characters)
{
    if (characters == NULL) {
        return mixt_template_is_space(mixt_utf8_decode((const unsigned char *)at, bytes));
    }
    for (size_t i = 0; i + bytes <= characters->length; i++) {
        if (memcmp(characters->data + i, at, bytes) == 0) {
            mixt_template_charge(run, 12 * i);
            return true;
        }
    }
    mixt_template_charge(run, 12 * characters->length);
    return false;
}

template_value mixt_template_strip(template_run *run, const template_text *text,
                                   const template_text *characters, int sides)
{
    size_t from = 0;
    size_t to = text->length;
    size_t work = 0;
    while ((sides & 1) != 0 && from < to) {
        size_t bytes = mixt_utf8_character((const unsigned char *)text->data + from, to - from);
        if (!is_stripped(run, text->data + from, bytes, characters)) {
            break;
        }
        count_work(run, &work, 1);
        from += bytes;
    }
    while ((sides & 2) != 0 && from < to) {
        size_t last = to - 1;
        while (((unsigned char)text->data[last] & 0xc0) == 0x80) {
            last--;
        }
        if (!is_stripped(run, text->data + last, to - last, characters)) {
            break;
        }
        count_work(run, &work, 1);
        to = last;
    }
    return part(run, text, from, to);
}

/* ---- case */

static bool is_cased(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
           category == UTF8PROC_CATEGORY_LT;
}

/* Character by character; of those that become several only the German sharp s is known. */
static size_t put_case(uint32_t c, bool upper, bool title, char *out)
{
    if (c == 0xdf && upper) {
        memcpy(out, title ? "Ss" : "SS", 2);
        return 2;
    }
    if (c < 0x80) {
        bool changes = upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        *out = (char)(changes ? c ^ 0x20 : c);
        return 1;
    }
    utf8proc_int32_t to = (utf8proc_int32_t)c;
    to = upper ? (title ? utf8proc_totitle(to) : utf8proc_toupper(to)) : utf8proc_tolower(to);
    return mixt_utf8_encode((uint32_t)to, out);
}

static bool begins_word(uint32_t c)
{
    return mixt_template_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

template_value mixt_template_case(template_run *run, const template_text *text, template_case to)
{
    /* Upper and lower case of a character take at most 2 bytes for 1, 3 for 2, 4 for 3 or 4. */
    char *out = mixt_template_allocate(run, 2 * text->length + 1, 1);
    size_t used = 0;
    bool first = true; /* of the text or of a word */
    mixt_template_charge(run, 6 * text->length);
    for (size_t at = 0; at < text->length;) {
        const unsigned char *c = (const unsigned char *)text->data + at;
        size_t bytes = mixt_utf8_character(c, text->length - at);
        uint32_t character = mixt_utf8_decode(c, bytes);
        bool upper = to == CASE_UPPER || (to != CASE_LOWER && first);
        bool title = upper && (to == CASE_CAPITALIZE || to == CASE_TITLE);
        used += put_case(character, upper, title, out + used);
        first = to == CASE_TITLE          ? !is_cased(character)
                : to == CASE_TITLE_FILTER ? begins_word(character)
                                          : false;
        at += bytes;
    }
    template_value value = mixt_template_view(run, out, used);
    ((template_text *)(uintptr_t)value.as.text)->is_safe = text->is_safe;
    return value;
}

/* ---- pieces */

template_value mixt_template_concat(template_run *run, const template_text *a,
                                    const template_text *b)
{
    bool is_safe = a->is_safe || b->is_safe;
    if (is_safe) {
        a = mixt_template_escape(run, a);
        b = mixt_template_escape(run, b);
    }
    char *data = mixt_template_allocate(run, a->length + b->length + 1, 1);
    memcpy(data, a->data, a->length);
    memcpy(data + a->length, b->data, b->length);
    template_text *text = mixt_template_allocate(run, 1, sizeof *text);
    *text = (template_text){data, a->length + b->length, a->is_ascii && b->is_ascii, is_safe};
    return (template_value){.kind = TEMPLATE_STRING, .as.text = text};
}

template_value mixt_template_repeat(template_run *run, const template_text *text, int64_t times)
{
    size_t length = 0;
    if (times < 0 || text->length == 0) {
        times = 0;
    }
    if (!mixt_multiply_size(text->length, (size_t)times, &length)) {
        length = SIZE_MAX;
    }
    if (length == SIZE_MAX) {
        length--; /* more than any budget */
    }
    char *data = mixt_template_allocate(run, length + 1, 1);
    size_t done = times > 0 ? text->length : 0;
    memcpy(data, text->data, done);
    while (done < length) { /* twice as much each time */
        size_t more = done < length - done ? done : length - done;
        memcpy(data + done, data, more);
        done += more;
    }
    return mixt_template_view(run, data, length);
}

template_value mixt_template_replace(template_run *run, const template_text *text,
                                     const template_text *old, const template_text *new_,
                                     int64_t count)
{
    template_output output = {0};
    size_t at = 0;
    mixt_template_charge(run, text->length);
    for (; count != 0 && at <= text->length; count--) {
        const char *found = mixt_template_search(run, text, at, old);
        if (found == NULL) {
            break;
        }
        size_t place = (size_t)(found - text->data);
        mixt_template_write(run, &output, text->data + at, place - at);
        mixt_template_write(run, &output, new_->data, new_->length);
        at = place + old->length;
        if (old->length == 0) { /* between all characters */
            size_t bytes =
                mixt_utf8_character((const unsigned char *)text->data + at, text->length - at);
            if (bytes == 0) {
                break;
            }
            mixt_template_write(run, &output, text->data + at, bytes);
            at += bytes;
        }
    }
    if (at < text->length) {
        mixt_template_write(run, &output, text->data + at, text->length - at);
    }
    return mixt_template_output_value(run, &output);
}

static template_list *split_words(template_run *run, const template_text *text, int64_t limit)
{
    template_list *list = mixt_template_new_list(run, 4);
    mixt_template_charge(run, 2 * text->length);
    for (size_t at = mixt_template_skip_space(text->data, text->length, 0); at < text->length;) {
        size_t end = at;
        while (end < text->length && mixt_template_space_at(text->data, text->length, end) == 0) {
            end += mixt_utf8_character((const unsigned char *)text->data + end, text->length - end);
        }
        if (limit-- == 0) { /* the rest as it is, but for white space at its end */
            template_value rest = part(run, text, at, text->length);
            mixt_template_append(run, list, mixt_template_strip(run, rest.as.text, NULL, 2));
            return list;
        }
        mixt_template_append(run, list, part(run, text, at, end));
        at = mixt_template_skip_space(text->data, text->length, end);
    }
    return list;
}

static void reverse(template_list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        template_value kept = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = kept;
    }
}

static template_list *split_from_right(template_run *run, const template_text *text,
                                       const template_text *separator, int64_t limit)
{
    template_list *list = mixt_template_new_list(run, 4);
    size_t end = text->length;
    mixt_template_charge(run, 12 * text->length);
    for (size_t at = end; limit != 0 && at >= separator->length;) {
        size_t from = at - separator->length;
        if (memcmp(text->data + from, separator->data, separator->length) == 0) {
            mixt_template_append(run, list, part(run, text, at, end));
            end = from;
            at = from;
            limit--;
        } else {
            at--;
        }
    }
    mixt_template_append(run, list, part(run, text, 0, end));
    reverse(list);
    return list;
}

template_list *mixt_template_split(template_run *run, const template_text *text,
                                   const template_text *separator, int64_t limit, bool from_right)
{
    if (separator == NULL && from_right && limit >= 0) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                           "rsplit at white space with a limit is not supported");
    }
    if (separator == NULL) {
        return split_words(run, text, limit);
    }
    if (separator->length == 0) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "split: an empty separator");
    }
    if (from_right) {
        return split_from_right(run, text, separator, limit);
    }
    template_list *list = mixt_template_new_list(run, 4);
    size_t at = 0;
    mixt_template_charge(run, text->length);
    for (; limit != 0; limit--) {
        const char *found = mixt_template_search(run, text, at, separator);
        if (found == NULL) {
            break;
        }
        mixt_template_append(run, list, part(run, text, at, (size_t)(found - text->data)));
        at = (size_t)(found - text->data) + separator->length;
    }
    mixt_template_append(run, list, part(run, text, at, text->length));
    return list;
}

static bool ends_line(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

template_list *mixt_template_lines(template_run *run, const template_text *text, bool keep_ends)
{
    template_list *list = mixt_template_new_list(run, 4);
    size_t from = 0;
    mixt_template_charge(run, 2 * text->length);
    for (size_t at = 0; at < text->length;) {
        const unsigned char *c = (const unsigned char *)text->data + at;
        size_t bytes = mixt_utf8_character(c, text->length - at);
        if (ends_line(mixt_utf8_decode(c, bytes))) {
            if (*c == '\r' && at + 1 < text->length && c[1] == '\n') {
                bytes = 2;
            }
            mixt_template_append(run, list, part(run, text, from, keep_ends ? at + bytes : at));
            from = at + bytes;
        }
        at += bytes;
    }
    if (from < text->length) {
        mixt_template_append(run, list, part(run, text, from, text->length));
    }
    return list;
}

const template_text *mixt_template_escape(template_run *run, const template_text *text)
{
    if (text->is_safe) {
        return text;
    }
    static const struct {
        char character;
        const char *text;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    template_output output = {0};
    size_t from = 0;
    for (size_t at = 0; at < text->length; at++) {
        for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
            if (text->data[at] == escapes[i].character) {
                mixt_template_write(run, &output, text->data + from, at - from);
                mixt_template_write(run, &output, escapes[i].text, strlen(escapes[i].text));
                from = at + 1;
            }
        }
    }
    mixt_template_write(run, &output, text->data + from, text->length - from);
    template_value value = mixt_template_output_value(run, &output);
    template_text *escaped = (template_text *)(uintptr_t)value.as.text;
    escaped->is_safe = true;
    return escaped;
}
