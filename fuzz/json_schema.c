/* A JSON schema: a grammar, or refused in one line; texts that are drawn by it to their end are
 * JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "sampling/grammar.h"
#include "shared/mutate.h"

enum { TEXT_MAX = 400, TRIES = 300 };

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_json(data, size, max_size, seed);
}

/* A text by chance, towards its end after a while; false where it does not come to one. */
static bool draw(mixt_machine *machine, fuzz_dice *dice, char text[TEXT_MAX], size_t *length)
{
    static const char closing[] = "\"}]0e:,\n ";
    *length = 0;
    while (*length < TEXT_MAX) {
        bool taken = false;
        if (mixt_machine_may_end(machine) &&
            (mixt_machine_must_end(machine) || fuzz_chance(dice, 30))) {
            return true;
        }
        for (size_t i = 0; !taken && i < TRIES; i++) {
            bool closes = *length > TEXT_MAX / 4 && i < sizeof closing - 1;
            char byte = closes ? closing[i] : (char)(1 + fuzz_below(dice, 255));
            if (mixt_machine_bytes(machine, &byte, 1, &taken, NULL) != MIXT_OK) {
                return false;
            }
            text[*length] = byte;
        }
        if (!taken) {
            return false;
        }
        ++*length;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = NULL, drawn[TEXT_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    size_t length = 0;
    mixt_status status = mixt_json_schema_grammar((const char *)data, size, &text, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(text == NULL, error.message);
        fuzz_refused(status, &error);
        return 0;
    }
    mixt_grammar *grammar = NULL;
    mixt_machine *machine = NULL;
    fuzz_dice dice = fuzz_dice_of(size);
    FUZZ_REQUIRE(mixt_grammar_compile(text, strlen(text), NULL, &grammar, &error) == MIXT_OK,
                 error.message);
    for (int i = 0; i < 3 && mixt_machine_create(grammar, &machine, NULL) == MIXT_OK; i++) {
        if (draw(machine, &dice, drawn, &length)) {
            json_error_t problem;
            json_t *value = json_loadb(drawn, length, JSON_DECODE_ANY, &problem);
            bool overflow = json_error_code(&problem) == json_error_numeric_overflow;
            FUZZ_REQUIRE(value != NULL || overflow, problem.text);
            json_decref(value);
        }
        mixt_machine_free(machine);
    }
    mixt_grammar_free(grammar);
    free(text);
    return 0;
}
