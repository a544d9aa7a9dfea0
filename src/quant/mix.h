/* Mixes: which type each tensor of a quantised model gets. The names and rules are those of
 * llama.cpp's quantiser (src/llama-quant.cpp, 2026), so that a file of the same name has the same
 * size and the same sensitive tensors in more bits. */
#ifndef MIXT_QUANT_MIX_H
#define MIXT_QUANT_MIX_H

#include "quant/types.h"

/* What a matrix does in the model. */
typedef enum mixt_place {
    MIXT_PLACE_OTHER, /* attention query, expert gate and up, ... */
    MIXT_PLACE_EMBED,
    MIXT_PLACE_OUTPUT, /* also a tied embedding */
    MIXT_PLACE_KEY,
    MIXT_PLACE_VALUE,
    MIXT_PLACE_ATTENTION_OUTPUT,
    MIXT_PLACE_DOWN,        /* second matrix of an MLP */
    MIXT_PLACE_DOWN_STACK,  /* ... of all experts */
    MIXT_PLACE_OTHER_STACK, /* their gate and up */
} mixt_place;

typedef struct mixt_mix_request {
    mixt_place place;
    int layer, layers;
    int experts;     /* of the model; 0: dense */
    int head_group;  /* query heads for each key head */
    int64_t columns; /* elements of a row */
    bool importance; /* an importance matrix is at hand */
} mixt_mix_request;

typedef struct mixt_mix mixt_mix;

/* "Q4_K_M", "Q8_0", ...; NULL where there is none of that name (case is ignored). */
const mixt_mix *mixt_mix_by_name(const char *name);
/* Names in order, NULL behind the last. */
const char *mixt_mix_name(int index);
/* The mix behind general.file_type of a GGUF file; NULL for a number that nobody gave out. It is
 * for people: tensors say their types themselves. */
const char *mixt_file_type_name(int64_t number);
/* The number of a mix, MIXT_FILE_TYPE_GUESSED for NULL: readers are to look at the tensors. */
#define MIXT_FILE_TYPE_GUESSED 1024 /* as a bit beside a number: told from the tensors */
int mixt_mix_file_type(const mixt_mix *mix);
/* The type for one matrix. Rows that are no whole blocks of it get the next type of 32-blocks, or
 * F16. */
mixt_type mixt_mix_type(const mixt_mix *mix, const mixt_mix_request *request);

#endif
