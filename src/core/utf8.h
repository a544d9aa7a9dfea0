/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef MIXT_CORE_UTF8_H
#define MIXT_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at `text` (1 to 4), or 0 where no whole valid character stands. */
static inline size_t mixt_utf8_character(const unsigned char *text, size_t length)
{
    if (length == 0) {
        return 0;
    }
    unsigned first = text[0];
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    if (length < 2) {
        return 0;
    }
    unsigned second = text[1];
    if (first < 0xe0) {
        return (second & 0xc0) == 0x80 ? 2 : 0;
    }
    unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (second < low || second > high || length < 3 || (text[2] & 0xc0) != 0x80) {
        return 0;
    }
    if (first < 0xf0) {
        return 3;
    }
    return length >= 4 && (text[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* ASCII letters as the C locale has them, whatever the program's is. */
static inline char mixt_ascii_lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

static inline char mixt_ascii_upper(char letter)
{
    return letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter;
}

static inline bool mixt_ascii_equal(const char *a, const char *b)
{
    while (*a != '\0' && mixt_ascii_lower(*a) == mixt_ascii_lower(*b)) {
        a++;
        b++;
    }
    return mixt_ascii_lower(*a) == mixt_ascii_lower(*b);
}

/* Whether a terminal or browser may act on a character instead of showing it: control characters
 * (C0, DEL, C1), marks, embeddings, overrides and isolates of the bidirectional algorithm, line and
 * paragraph separators. */
static inline bool mixt_utf8_acts(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* 0 to 15, or -1. */
static inline int mixt_hex_digit(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
           : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                          : -1;
}

/* Length of the longest valid start of `text`. */
size_t mixt_utf8_valid_prefix(const char *text, size_t length);
/* The character at valid `text`, whose length mixt_utf8_character gave. */
uint32_t mixt_utf8_decode(const unsigned char *text, size_t length);
/* Writes a character (a valid scalar value) and returns its 1 to 4 bytes. */
size_t mixt_utf8_encode(uint32_t character, char *text);

#endif
