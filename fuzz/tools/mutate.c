/* libFuzzer's mutator where libFuzzer is not: a changed byte, a longer or a shorter input. */
#include <string.h>

#include "shared/fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    static fuzz_dice dice;
    switch (fuzz_below(&dice, 4)) {
    case 0:
        return size > 1 ? size - 1 - fuzz_below(&dice, size < 16 ? size - 1 : 16) : size;
    case 1:
        if (size < max_size) {
            size_t at = fuzz_below(&dice, size + 1);
            memmove(data + at + 1, data + at, size - at);
            data[at] = (uint8_t)fuzz_draw(&dice);
            return size + 1;
        }
        return size;
    default:
        if (size > 0) {
            data[fuzz_below(&dice, size)] =
                (uint8_t)(fuzz_chance(&dice, 50) ? fuzz_draw(&dice) : 0xff);
        }
        return size;
    }
}
