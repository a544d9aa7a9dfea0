/* A tokenizer.json of any bytes must be read or refused; one that is read must encode text. */
#include <stdint.h>
#include <stdlib.h>

#include "mixt.h"
#include "tokenizer/tokenizer.h"
#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_json(data, size, max_size, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "ab a<|endoftext|> b\xcc\x81  1234 don't\n\n\xff x";
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_from_json((const char *)data, size, &tokenizer, &error) != MIXT_OK) {
        if (error.status == MIXT_OK || error.message[0] == '\0' || tokenizer != NULL) {
            abort();
        }
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        int32_t *ids;
        size_t count;
        if (mixt_tokenizer_encode(tokenizer, text, sizeof text - 1, special != 0, &ids, &count,
                                  NULL) == MIXT_OK) {
            for (size_t i = 0; i < count; i++) {
                size_t length;
                if (mixt_tokenizer_bytes_of(tokenizer, ids[i], &length) == NULL) {
                    abort();
                }
            }
        }
        free(ids);
    }
    mixt_tokenizer_free(tokenizer);
    return 0;
}
