#include "tokenizer/charsmap.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define REPLACEMENT_LIMIT 1024 /* bytes; Unicode's longest compatibility mapping has 33 */

struct mixt_charsmap {
    char *data; /* size of the trie in 4 bytes, trie, strings with a NUL behind each */
    size_t length;
    const char *strings;
    size_t strings_length;
    size_t units; /* of the trie, 4 bytes each */
};

static uint32_t unit_at(const mixt_charsmap *map, size_t index)
{
    assert(index < map->units);
    const unsigned char *bytes = (const unsigned char *)map->data + 4 + 4 * index;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

mixt_status mixt_charsmap_create(const void *data, size_t length, mixt_charsmap **map,
                                 mixt_error *error)
{
    *map = NULL;
    mixt_charsmap *made = calloc(1, sizeof *made);
    char *copy = malloc(length + 1);
    if (made == NULL || copy == NULL) {
        free(made);
        free(copy);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "precompiled_charsmap: no memory");
    }
    if (length != 0) {
        memcpy(copy, data, length);
    }
    made->data = copy;
    made->length = length;
    uint32_t trie = 0;
    if (length > 4) {
        const unsigned char *bytes = (const unsigned char *)copy;
        trie = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
               (uint32_t)bytes[3] << 24;
    }
    size_t longest = 0, run = 0;
    bool good = length > 4 && trie >= 4 && trie % 4 == 0 && trie < length - 4;
    for (size_t at = good ? 4 + (size_t)trie : length; at < length; at++) {
        run = copy[at] == '\0' ? 0 : run + 1;
        longest = run > longest ? run : longest;
    }
    if (!good || run != 0 || longest > REPLACEMENT_LIMIT) {
        mixt_charsmap_free(made);
        return mixt_fail(error, MIXT_ERROR_FORMAT, "precompiled_charsmap: broken rules");
    }
    made->units = trie / 4;
    made->strings = copy + 4 + trie;
    made->strings_length = length - 4 - trie;
    *map = made;
    return MIXT_OK;
}

void mixt_charsmap_free(mixt_charsmap *map)
{
    if (map != NULL) {
        free(map->data);
        free(map);
    }
}

const char *mixt_charsmap_data(const mixt_charsmap *map, size_t *length)
{
    *length = map->length;
    return map->data;
}

/* A unit: bits 0-7 its byte (bit 31 set: it is a value), bit 8 whether a value hangs below, bits
 * 10-30 the offset of its children, shifted by 8 more where bit 9 is set. */
static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200u) >> 6);
}

size_t mixt_charsmap_find(const mixt_charsmap *map, const char *text, size_t length,
                          const char **replacement)
{
    size_t found = 0, node = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->units) {
            break;
        }
        uint32_t unit = unit_at(map, node);
        if ((unit & 0x800000ffu) != byte) {
            break;
        }
        node ^= offset_of(unit);
        if ((unit & 0x100u) != 0 && node < map->units) {
            size_t value = unit_at(map, node) & 0x7fffffffu;
            if (value < map->strings_length) {
                *replacement = map->strings + value;
                found = i + 1;
            }
        }
    }
    return found;
}
