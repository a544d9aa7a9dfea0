#include "text/normalize.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/utf8.h"

int mixt_nfc_is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0xcc) { /* first byte of U+0300 and above */
            return 0;
        }
    }
    return 1;
}

/* Sorts a run of combining marks by class, stably; a counting sort keeps it linear. */
static void sort_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *scratch)
{
    size_t places[257] = {0};
    for (size_t i = 0; i < count; i++) {
        places[utf8proc_get_property(marks[i])->combining_class + 1]++;
    }
    for (int i = 0; i < 256; i++) {
        places[i + 1] += places[i];
    }
    for (size_t i = 0; i < count; i++) {
        scratch[places[utf8proc_get_property(marks[i])->combining_class]++] = marks[i];
    }
    memcpy(marks, scratch, count * sizeof *marks);
}

static void sort_few(utf8proc_int32_t *marks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = i; j > 0; j--) {
            utf8proc_int32_t a = marks[j - 1], b = marks[j];
            if (utf8proc_get_property(a)->combining_class <=
                utf8proc_get_property(b)->combining_class) {
                break;
            }
            marks[j - 1] = b;
            marks[j] = a;
        }
    }
}

static void order_marks(utf8proc_int32_t *characters, size_t count, utf8proc_int32_t *scratch)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && utf8proc_get_property(characters[end])->combining_class != 0) {
            end++;
        }
        if (end - i > 16) {
            sort_marks(characters + i, end - i, scratch);
        } else if (end - i > 1) {
            sort_few(characters + i, end - i);
        }
        i = end + 1;
    }
}

/* Decomposes, orders and composes `count` characters of valid text. */
static void normalize_valid(const char *text, size_t length, mixt_buffer *to)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t count = 0, capacity;
    /* A canonical decomposition has at most 4 characters, of a character of at least 2 bytes; the
     * second half is for sorting. */
    if (length > SIZE_MAX / 64) {
        to->failed = true;
        return;
    }
    capacity = length * 2 + 8;
    utf8proc_int32_t *characters = malloc(2 * capacity * sizeof *characters);
    if (characters == NULL) {
        to->failed = true;
        return;
    }
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character(bytes + at, length - at);
        utf8proc_int32_t one = (utf8proc_int32_t)mixt_utf8_decode(bytes + at, size);
        int last_class = UTF8PROC_BOUNDCLASS_START;
        utf8proc_ssize_t made =
            utf8proc_decompose_char(one, characters + count, (utf8proc_ssize_t)(capacity - count),
                                    UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &last_class);
        if (made <= 0 || (size_t)made > capacity - count) {
            to->failed = true; /* cannot happen: see capacity */
            break;
        }
        count += (size_t)made;
        at += size;
    }
    order_marks(characters, count, characters + capacity);
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(characters, (utf8proc_ssize_t)count,
                                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    char encoded[256];
    size_t used = 0;
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        used += mixt_utf8_encode((uint32_t)characters[i], encoded + used);
        if (used > sizeof encoded - 4 || i + 1 == composed) {
            mixt_buffer_append(to, encoded, used);
            used = 0;
        }
    }
    to->failed = to->failed || composed < 0;
    free(characters);
}

void mixt_nfc_append(const char *text, size_t length, mixt_buffer *to)
{
    while (length != 0) {
        size_t valid = mixt_utf8_valid_prefix(text, length);
        if (mixt_nfc_is_plain(text, valid)) {
            mixt_buffer_append(to, text, valid);
        } else {
            normalize_valid(text, valid, to);
        }
        text += valid;
        length -= valid;
        if (length != 0) { /* a byte that is not UTF-8 */
            mixt_buffer_append(to, text, 1);
            text++;
            length--;
        }
    }
}
