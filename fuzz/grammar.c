/* A grammar of any bytes, and behind its first NUL numbers by which texts of it are drawn: compiled
 * or refused in one line; what a mask allows is taken, and the same texts whole. */
#include <stdlib.h>
#include <string.h>

#include "sampling/grammar.h"
#include "shared/fuzz.h"
#include "tokenizer/tokenizer.h"

enum { STEPS = 40, WALKS = 3 };

static const mixt_token_trie *trie_of_bytes(void)
{
    static mixt_tokenizer *tokenizer;
    const mixt_token_trie *trie = NULL;
    if (tokenizer == NULL) {
        FUZZ_REQUIRE(mixt_tokenizer_bytes(&tokenizer, NULL) == MIXT_OK, "no tokenizer");
    }
    FUZZ_REQUIRE(mixt_tokenizer_trie(tokenizer, &trie, NULL) == MIXT_OK, "no trie");
    return trie;
}

/* A token of the mask, or -1. */
static int32_t choose(const uint64_t *bits, fuzz_dice *dice)
{
    int32_t allowed[256];
    size_t count = 0;
    for (int32_t id = 0; id < 256; id++) {
        if ((bits[id / 64] >> (id % 64) & 1) != 0) {
            allowed[count++] = id;
        }
    }
    return count > 0 ? allowed[fuzz_below(dice, count)] : -1;
}

static bool failed(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fuzz_refused(status, error);
    }
    return status != MIXT_OK;
}

static void walk(const mixt_grammar *grammar, fuzz_dice *dice)
{
    static const int32_t end = MIXT_SEPARATOR_ID;
    const mixt_machine_vocabulary vocabulary = {trie_of_bytes(), &end, 1, 257};
    char text[STEPS];
    size_t length = 0;
    mixt_machine *machine = NULL, *whole = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    bool stopped = failed(mixt_machine_create(grammar, &machine, &error), &error);
    while (!stopped && length < STEPS) {
        const uint64_t *bits = NULL;
        bool allowed = false;
        if (failed(mixt_machine_mask(machine, &vocabulary, &bits, &error), &error)) {
            break;
        }
        bool may_end = (bits[end / 64] >> (end % 64) & 1) != 0;
        FUZZ_REQUIRE(may_end == mixt_machine_may_end(machine), "the end");
        int32_t id = choose(bits, dice);
        if (id < 0) {
            break;
        }
        char byte = (char)mixt_byte_of_id(id);
        const mixt_machine_token token = {.id = id, .bytes = &byte, .length = 1};
        stopped = failed(mixt_machine_token_accept(machine, &token, &allowed, &error), &error);
        FUZZ_REQUIRE(stopped || allowed, "a token of the mask is refused");
        text[length++] = byte;
    }
    if (!stopped && !grammar->has_tokens && machine != NULL) {
        bool allowed = false;
        FUZZ_REQUIRE(mixt_machine_create(grammar, &whole, NULL) == MIXT_OK, "not again");
        if (mixt_machine_bytes(whole, text, length, &allowed, NULL) == MIXT_OK) {
            FUZZ_REQUIRE(allowed, "the text at once is refused");
            FUZZ_REQUIRE(mixt_machine_may_end(machine) == mixt_machine_may_end(whole), "its end");
        }
    }
    mixt_machine_free(whole);
    mixt_machine_free(machine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mixt_grammar *grammar = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t length = nul != NULL ? (size_t)(nul - data) : size;
    uint64_t seed = size;
    for (size_t i = length; i < size; i++) {
        seed = seed * 31 + data[i];
    }
    fuzz_dice dice = fuzz_dice_of(seed);
    mixt_status status = mixt_grammar_compile((const char *)data, length, NULL, &grammar, &error);
    if (failed(status, &error)) {
        FUZZ_REQUIRE(grammar == NULL, error.message);
        return 0;
    }
    for (int i = 0; i < WALKS; i++) {
        walk(grammar, &dice);
    }
    mixt_grammar_free(grammar);
    return 0;
}
