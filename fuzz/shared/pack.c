/* Several files in one input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "mutate.h"

#define LINE_MAX_BYTES 128

size_t fuzz_unpack(const uint8_t *data, size_t size, fuzz_file files[FUZZ_FILES_MAX])
{
    size_t count = 0, at = 0;
    while (count < FUZZ_FILES_MAX && at < size) {
        char line[LINE_MAX_BYTES], name[64];
        unsigned long bytes;
        size_t left = size - at < sizeof line - 1 ? size - at : sizeof line - 1;
        const uint8_t *end = memchr(data + at, '\n', left);
        if (end == NULL) {
            break;
        }
        memcpy(line, data + at, (size_t)(end - (data + at)));
        line[end - (data + at)] = '\0';
        at = (size_t)(end - data) + 1;
        if (sscanf(line, "== %63s %lu", name, &bytes) != 2) {
            break;
        }
        fuzz_file *file = &files[count++];
        snprintf(file->name, sizeof file->name, "%s", name);
        file->data = data + at;
        file->size = bytes < size - at ? (size_t)bytes : size - at;
        at += file->size;
    }
    return count;
}

size_t fuzz_pack(const fuzz_file *files, size_t count, uint8_t *to, size_t max_size)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        char line[LINE_MAX_BYTES];
        size_t length =
            (size_t)snprintf(line, sizeof line, "== %s %zu\n", files[i].name, files[i].size);
        if (used + length + files[i].size > max_size) {
            return 0;
        }
        memcpy(to + used, line, length);
        if (files[i].size > 0) {
            memcpy(to + used + length, files[i].data, files[i].size);
        }
        used += length + files[i].size;
    }
    return used;
}

/* Names change places, one goes, one is there twice. */
static size_t change_list(fuzz_file *files, size_t count, fuzz_dice *dice)
{
    fuzz_file *one = &files[fuzz_below(dice, count)], *other = &files[fuzz_below(dice, count)];
    fuzz_file kept = *one;
    switch (fuzz_below(dice, 3)) {
    case 0:
        memcpy(one->name, other->name, sizeof one->name);
        memcpy(other->name, kept.name, sizeof kept.name);
        break;
    case 1:
        if (count > 1) {
            *one = files[--count];
        }
        break;
    default:
        one->data = other->data;
        one->size = other->size;
    }
    return count;
}

size_t fuzz_mutate_pack(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    fuzz_file files[FUZZ_FILES_MAX];
    fuzz_dice dice = fuzz_dice_of(seed);
    size_t count = fuzz_unpack(data, size, files);
    if (count == 0 || fuzz_chance(&dice, 2)) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    uint8_t *changed = malloc(2 * max_size + 1), *all = changed + max_size;
    FUZZ_REQUIRE(changed != NULL, "no memory");
    if (fuzz_chance(&dice, 4)) {
        count = change_list(files, count, &dice);
    } else {
        fuzz_file *file = &files[fuzz_below(&dice, count)];
        size_t others = size - file->size;
        size_t room = max_size > others + 64 ? max_size - others - 64 : 0;
        room = room > file->size ? room : file->size;
        memcpy(changed, file->data, file->size);
        unsigned int next = (unsigned int)fuzz_draw(&dice);
        size_t (*mutate)(uint8_t *, size_t, size_t, unsigned int) =
            mixt_ends_with(file->name, ".json")          ? fuzz_mutate_json
            : mixt_ends_with(file->name, ".safetensors") ? fuzz_mutate_safetensors
            : mixt_ends_with(file->name, ".gguf")        ? fuzz_mutate_gguf
                                                         : NULL;
        file->size = mutate != NULL ? mutate(changed, file->size, room, next)
                                    : LLVMFuzzerMutate(changed, file->size, room);
        file->data = changed;
    }
    size_t length = fuzz_pack(files, count, all, max_size);
    if (length > 0) {
        memcpy(data, all, length);
    }
    free(changed);
    return length > 0 ? length : LLVMFuzzerMutate(data, size, max_size);
}
