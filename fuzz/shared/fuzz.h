/* What the fuzz targets share: a folder to write in, one context, checks of what is refused, four
 * tokens of a model, and chance. */
#ifndef MIXT_FUZZ_FUZZ_H
#define MIXT_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Says what does not hold and aborts. */
_Noreturn void fuzz_fail(const char *condition, const char *file, int line, const char *said);
#define FUZZ_REQUIRE(condition, said)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fuzz_fail(#condition, __FILE__, __LINE__, said);                                       \
        }                                                                                          \
    } while (0)

/* A call that was refused: its status is the error's, the message one line without control
 * characters, and the machine did not fail. */
void fuzz_refused(mixt_status status, const mixt_error *error);

/* No control characters reach the terminal but line feeds, and the escapes of colours. */
void fuzz_check_terminal(const char *text, size_t size, bool color);

#define FUZZ_PATH_MAX 512
/* folder/name, in a folder of this process that goes when it ends; in memory where there is
 * /dev/shm. "" gives the folder. */
const char *fuzz_path(const char *name, char path[FUZZ_PATH_MAX]);
void fuzz_write(const char *path, const void *data, size_t size);

/* One thread, exact products. */
mixt_context *fuzz_context(void);

/* Four tokens, each the most probable one behind the last. */
#define FUZZ_TOKENS 4
typedef struct fuzz_logits {
    mixt_status status;
    size_t count;  /* values: FUZZ_TOKENS x vocabulary, fewer where a call was refused */
    float *values; /* free() them */
} fuzz_logits;

fuzz_logits fuzz_generate(const mixt_model *model);
bool fuzz_same_logits(const fuzz_logits *a, const fuzz_logits *b);

/* Numbers from a seed. */
typedef struct fuzz_dice {
    uint64_t state;
} fuzz_dice;

fuzz_dice fuzz_dice_of(uint64_t seed);
uint64_t fuzz_draw(fuzz_dice *dice);
size_t fuzz_below(fuzz_dice *dice, size_t count); /* 0 for a count of 0 */
bool fuzz_chance(fuzz_dice *dice, int percent);
/* A whole number at which code turns: 0, 1, powers of two and their neighbours, -1, ... */
int64_t fuzz_integer(fuzz_dice *dice);
double fuzz_number(fuzz_dice *dice);
/* The sum of the bytes' products: a number that depends on all of them. */
uint64_t fuzz_hash(const uint8_t *data, size_t size);

#endif
