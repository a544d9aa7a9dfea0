#include "tokenizer/normalize.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/utf8.h"
#include "tokenizer/character_class.h"

int mixt_nfc_is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0xcc) { /* first byte of U+0300 and above */
            return 0;
        }
    }
    return 1;
}

/* Combining marks younger than Unicode 9, whose tables Hugging Face's tokenizers have: there they
 * are characters like any other, and models were trained with that. */
static const utf8proc_int32_t young_marks[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x10d24, 0x10d27},
    {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
    {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34},
    {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45},
    {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
};

static bool is_young_mark(utf8proc_int32_t character)
{
    size_t low = 0, high = sizeof young_marks / sizeof *young_marks;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (character > young_marks[middle][1]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof young_marks / sizeof *young_marks && character >= young_marks[low][0];
}

static int combining_class(utf8proc_int32_t character)
{
    int class = utf8proc_get_property(character)->combining_class;
    return class != 0 && !is_young_mark(character) ? class : 0;
}

/* Sorts a run of combining marks by class, stably; a counting sort keeps it linear. */
static void sort_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *scratch)
{
    size_t places[257] = {0};
    for (size_t i = 0; i < count; i++) {
        places[combining_class(marks[i]) + 1]++;
    }
    for (int i = 0; i < 256; i++) {
        places[i + 1] += places[i];
    }
    for (size_t i = 0; i < count; i++) {
        scratch[places[combining_class(marks[i])]++] = marks[i];
    }
    memcpy(marks, scratch, count * sizeof *marks);
}

static void sort_few(utf8proc_int32_t *marks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = i; j > 0; j--) {
            utf8proc_int32_t a = marks[j - 1], b = marks[j];
            if (combining_class(a) <= combining_class(b)) {
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
        while (end < count && combining_class(characters[end]) != 0) {
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

/* Characters younger than Unicode 9 that later versions decompose. */
static const utf8proc_int32_t young_characters[][2] = {
    {0x32ff, 0x32ff},   {0xa7f1, 0xa7f4},   {0xab69, 0xab69},   {0x105c9, 0x105c9},
    {0x105e4, 0x105e4}, {0x10781, 0x107ba}, {0x11383, 0x11391}, {0x113c5, 0x113c8},
    {0x11938, 0x11938}, {0x16121, 0x16128}, {0x16d68, 0x16d6a}, {0x1ccd6, 0x1ccf9},
    {0x1e030, 0x1e06d}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

static bool stays_whole(utf8proc_int32_t character)
{
    for (size_t i = 0; i < sizeof young_characters / sizeof *young_characters; i++) {
        if (character >= young_characters[i][0] && character <= young_characters[i][1]) {
            return true;
        }
    }
    return false;
}

/* The second half of the one young character that the tables of Unicode 14 compose. */
#define YOUNG_SECOND 0x11930

/* Composes in place and returns how many are left, negative where it failed. Nothing composes over
 * a young mark. */
static utf8proc_ssize_t compose(utf8proc_int32_t *characters, size_t count)
{
    size_t kept = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = begin + 1;
        while (end < count && !is_young_mark(characters[end]) && characters[end] != YOUNG_SECOND) {
            end++;
        }
        utf8proc_ssize_t made =
            utf8proc_normalize_utf32(characters + begin, (utf8proc_ssize_t)(end - begin),
                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (made < 0) {
            return made;
        }
        memmove(characters + kept, characters + begin, (size_t)made * sizeof *characters);
        kept += (size_t)made;
    }
    return (utf8proc_ssize_t)kept;
}

/* Decomposes, orders and composes the characters of valid text. */
static void normalize_valid(mixt_normal_form form, const char *text, size_t length, mixt_buffer *to)
{
    bool compatible = form == MIXT_NFKC || form == MIXT_NFKD;
    utf8proc_option_t options =
        UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    const unsigned char *bytes = (const unsigned char *)text;
    size_t count = 0, capacity;
    /* A canonical decomposition has at most 4 characters, of a character of at least 2 bytes, a
     * compatible one 18, of 3 bytes; the second half is for sorting. */
    if (length > SIZE_MAX / 256) {
        to->failed = true;
        return;
    }
    capacity = length * (compatible ? 6 : 2) + 18;
    utf8proc_int32_t *characters = malloc(2 * capacity * sizeof *characters);
    if (characters == NULL) {
        to->failed = true;
        return;
    }
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character(bytes + at, length - at);
        utf8proc_int32_t one = (utf8proc_int32_t)mixt_utf8_decode(bytes + at, size);
        int last_class = UTF8PROC_BOUNDCLASS_START;
        utf8proc_ssize_t made = 1;
        if (stays_whole(one)) {
            characters[count] = one;
        } else {
            made =
                utf8proc_decompose_char(one, characters + count,
                                        (utf8proc_ssize_t)(capacity - count), options, &last_class);
        }
        if (made <= 0 || (size_t)made > capacity - count) {
            to->failed = true; /* cannot happen: see capacity */
            break;
        }
        count += (size_t)made;
        at += size;
    }
    order_marks(characters, count, characters + capacity);
    bool composes = form == MIXT_NFC || form == MIXT_NFKC;
    utf8proc_ssize_t composed = composes ? compose(characters, count) : (utf8proc_ssize_t)count;
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

/* Whether a form surely leaves a text as it is, at a look. */
static bool is_plain(mixt_normal_form form, const char *text, size_t length)
{
    if (form == MIXT_NFC) {
        return mixt_nfc_is_plain(text, length);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

void mixt_normal_form_append(mixt_normal_form form, const char *text, size_t length,
                             mixt_buffer *to)
{
    while (length != 0) {
        size_t valid = mixt_utf8_valid_prefix(text, length);
        if (is_plain(form, text, valid)) {
            mixt_buffer_append(to, text, valid);
        } else {
            normalize_valid(form, text, valid, to);
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

/* --- Letter case -------------------------------------------------------------------------------
 */

/* Letters younger than Unicode 14 with small ones, as the tokenizers library (Rust) has them. */
static uint32_t young_lower(uint32_t c)
{
    static const uint32_t pairs[][2] = {
        {0x1c89, 0x1c8a}, {0xa7cb, 0x264},  {0xa7cc, 0xa7cd}, {0xa7ce, 0xa7cf},
        {0xa7d2, 0xa7d3}, {0xa7d4, 0xa7d5}, {0xa7da, 0xa7db}, {0xa7dc, 0x19b},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i][0] == c) {
            return pairs[i][1];
        }
    }
    return c >= 0x10d50 && c <= 0x10d65 ? c + 0x20 : c >= 0x16ea0 && c <= 0x16eb8 ? c + 0x1b : c;
}

void mixt_lower_append(const char *text, size_t length, mixt_buffer *to)
{
    for (size_t at = 0; at < length && !to->failed;) {
        const unsigned char *bytes = (const unsigned char *)text + at;
        size_t size = mixt_utf8_character(bytes, length - at);
        char encoded[8];
        if (size == 0) {
            mixt_buffer_append(to, text + at, 1);
            at++;
            continue;
        }
        uint32_t c = mixt_utf8_decode(bytes, size), lower = young_lower(c);
        lower = lower != c ? lower : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        if (c == 0x130) { /* the only letter with two small characters */
            mixt_buffer_text(to, "i\xcc\x87");
        } else {
            mixt_buffer_append(to, encoded, mixt_utf8_encode(lower, encoded));
        }
        at += size;
    }
}

/* --- SentencePiece's rules in a tokenizer.json -------------------------------------------------
 */

#define RULE_LENGTH 6 /* bytes of a cluster of characters from which on it is cut */

/* The rule for the shortest start of a text, as the tokenizers library takes it, or NULL. */
static const char *find_rule(const mixt_charsmap *map, const char *text, size_t length)
{
    const char *replacement = NULL;
    for (size_t size = 1; size <= length; size++) {
        if (mixt_charsmap_find(map, text, size, &replacement) != 0) {
            return replacement;
        }
    }
    return NULL;
}

/* Nothing joins a control character. */
static bool ends_cluster(utf8proc_int32_t character)
{
    int class = utf8proc_get_property(character)->boundclass;
    return class == UTF8PROC_BOUNDCLASS_CR || class == UTF8PROC_BOUNDCLASS_LF ||
           class == UTF8PROC_BOUNDCLASS_CONTROL;
}

static size_t cluster_length(const unsigned char *text, size_t length)
{
    utf8proc_int32_t state = 0;
    size_t at = mixt_utf8_character(text, length);
    uint32_t before = mixt_utf8_decode(text, at);
    while (at < length) {
        size_t size = mixt_utf8_character(text + at, length - at);
        uint32_t next = mixt_utf8_decode(text + at, size);
        bool joins = mixt_class_is_young_mark(next) && !ends_cluster((utf8proc_int32_t)before);
        if (!joins && utf8proc_grapheme_break_stateful((utf8proc_int32_t)before,
                                                       (utf8proc_int32_t)next, &state)) {
            break;
        }
        before = next;
        at += size;
    }
    return at;
}

static void append_cluster(const mixt_charsmap *map, const char *text, size_t length,
                           mixt_buffer *to)
{
    const char *rule = length < RULE_LENGTH ? find_rule(map, text, length) : NULL;
    if (rule != NULL) {
        mixt_buffer_text(to, rule);
        return;
    }
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character((const unsigned char *)text + at, length - at);
        rule = find_rule(map, text + at, size);
        mixt_buffer_append(to, rule != NULL ? rule : text + at, rule != NULL ? strlen(rule) : size);
        at += size;
    }
}

void mixt_precompiled_append(const mixt_charsmap *map, const char *text, size_t length,
                             mixt_buffer *to)
{
    while (length != 0 && !to->failed) {
        size_t valid = mixt_utf8_valid_prefix(text, length);
        for (size_t at = 0; at < valid;) {
            size_t size = cluster_length((const unsigned char *)text + at, valid - at);
            append_cluster(map, text + at, size, to);
            at += size;
        }
        mixt_buffer_append(to, text + valid, valid != length);
        text += valid + (valid != length);
        length -= valid + (valid != length);
    }
}
