#include "core/utf8.h"

#include <assert.h>
#include <string.h>

size_t mixt_utf8_valid_prefix(const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        while (length - at >= 8) { /* plain ASCII, eight bytes at a time */
            memcpy(&eight, bytes + at, 8);
            if ((eight & 0x8080808080808080u) != 0) {
                break;
            }
            at += 8;
        }
        if (at == length) {
            break;
        }
        size_t size = mixt_utf8_character(bytes + at, length - at);
        if (size == 0) {
            break;
        }
        at += size;
    }
    return at;
}

uint32_t mixt_utf8_decode(const unsigned char *text, size_t length)
{
    static const unsigned char first_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t character = text[0] & first_bits[length];
    for (size_t i = 1; i < length; i++) {
        character = character << 6 | (text[i] & 0x3f);
    }
    return character;
}

size_t mixt_utf8_encode(uint32_t character, char *text)
{
    assert(character < 0xd800 || (character >= 0xe000 && character <= 0x10ffff));
    if (character < 0x80) {
        text[0] = (char)character;
        return 1;
    }
    size_t size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const unsigned char first_mark[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--) {
        text[i] = (char)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    text[0] = (char)(first_mark[size] | character);
    return size;
}
