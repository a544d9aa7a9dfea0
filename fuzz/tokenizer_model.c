/* A tokenizer.model of any bytes must be read or refused; one that is read must encode text, decode
 * it again, and go into a tokenizer.model of our own that reads alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mixt.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const mixt_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    char *text;
    size_t length;
    for (int skip = 0; skip < 2; skip++) {
        if (mixt_tokenizer_decode(tokenizer, ids, count, skip != 0, &text, &length, NULL) !=
            MIXT_OK) {
            abort();
        }
        free(text);
    }
}

static void encode(const mixt_tokenizer *tokenizer)
{
    static const char text[] = "ab  a</s> b\xef\xbc\xa1\xc2\xbd e\xcc\x81 \xe2\x96\x81 <tool>\n\n"
                               "<s>\xe3\x8c\x94 \xff\xc2 expert 123";
    for (int special = 0; special < 2; special++) {
        int32_t *ids;
        size_t count;
        if (mixt_tokenizer_encode(tokenizer, text, sizeof text - 1, special != 0, &ids, &count,
                                  NULL) == MIXT_OK) {
            decode(tokenizer, ids, count);
        }
        free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mixt_tokenizer *tokenizer, *again;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_from_model((const char *)data, size, NULL, &tokenizer, &error) != MIXT_OK) {
        if (error.status == MIXT_OK || error.message[0] == '\0' || tokenizer != NULL) {
            abort();
        }
        return 0;
    }
    encode(tokenizer);
    mixt_buffer written = {0};
    if (mixt_tokenizer_write_model(tokenizer, &written, NULL) == MIXT_OK) {
        if (mixt_tokenizer_from_model(written.data, written.length, NULL, &again, NULL) ==
            MIXT_OK) {
            encode(again);
            mixt_tokenizer_free(again);
        }
    }
    mixt_buffer_free(&written);
    mixt_tokenizer_free(tokenizer);
    return 0;
}
