#include "quant/mix.h"

#include <assert.h>

#include "core/utf8.h"

typedef enum condition {
    ALWAYS,
    EIGHT_EXPERTS, /* the model has exactly eight: K, V are small beside them */
    NOT_EIGHT_EXPERTS,
    MORE_BITS,              /* first and last eighth of the layers, and every third between */
    FIRST_TWO,              /* layers */
    FIRST_FOUR,             /* layers */
    FIRST_SIXTEENTH,        /* of the layers */
    FIRST_EIGHTH,           /* of the layers */
    FIRST_EIGHTH_BLIND,     /* ... without an importance matrix */
    FIRST_EIGHTH_IMPORTANT, /* ... with one */
    GROUPED,                /* four or more query heads share a key head */
} condition;

typedef struct rule {
    mixt_place place;
    condition when;
    mixt_type type;
} rule;

#define RULES_MAX 10

struct mixt_mix {
    const char *name;
    mixt_type base;
    mixt_type output;
    rule rules[RULES_MAX]; /* the first that holds; MIXT_PLACE_OTHER ends the list */
};

#define EIGHT                                                                                      \
    {MIXT_PLACE_VALUE, EIGHT_EXPERTS, MIXT_TYPE_Q8_0},                                             \
    {                                                                                              \
        MIXT_PLACE_KEY, EIGHT_EXPERTS, MIXT_TYPE_Q8_0                                              \
    }
#define EIGHT_OUTPUT                                                                               \
    {                                                                                              \
        MIXT_PLACE_ATTENTION_OUTPUT, EIGHT_EXPERTS, MIXT_TYPE_Q5_K                                 \
    }
#define END                                                                                        \
    {                                                                                              \
        MIXT_PLACE_OTHER, ALWAYS, MIXT_TYPE_F32                                                    \
    }

static const mixt_mix mixes[] = {
    {"F32", MIXT_TYPE_F32, MIXT_TYPE_F32, {END}},
    {"F16", MIXT_TYPE_F16, MIXT_TYPE_F16, {END}},
    {"BF16", MIXT_TYPE_BF16, MIXT_TYPE_BF16, {END}},
    {"Q8_0", MIXT_TYPE_Q8_0, MIXT_TYPE_Q8_0, {END}},
    {"Q6_K", MIXT_TYPE_Q6_K, MIXT_TYPE_Q6_K, {EIGHT, END}},
    {"Q5_K_M",
     MIXT_TYPE_Q5_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      {MIXT_PLACE_VALUE, MORE_BITS, MIXT_TYPE_Q6_K},
      {MIXT_PLACE_DOWN, MORE_BITS, MIXT_TYPE_Q6_K},
      END}},
    {"Q5_K_S", MIXT_TYPE_Q5_K, MIXT_TYPE_Q6_K, {EIGHT, END}},
    {"Q4_K_M",
     MIXT_TYPE_Q4_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, MORE_BITS, MIXT_TYPE_Q6_K},
      {MIXT_PLACE_DOWN, MORE_BITS, MIXT_TYPE_Q6_K},
      END}},
    {"Q4_K_S",
     MIXT_TYPE_Q4_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, FIRST_FOUR, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_DOWN, FIRST_EIGHTH, MIXT_TYPE_Q5_K},
      END}},
    {"Q3_K_L",
     MIXT_TYPE_Q3_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      {MIXT_PLACE_VALUE, ALWAYS, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_DOWN, ALWAYS, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_ATTENTION_OUTPUT, NOT_EIGHT_EXPERTS, MIXT_TYPE_Q5_K},
      END}},
    {"Q3_K_M",
     MIXT_TYPE_Q3_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, FIRST_TWO, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_VALUE, ALWAYS, MIXT_TYPE_Q4_K},
      {MIXT_PLACE_DOWN, FIRST_SIXTEENTH, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_DOWN, ALWAYS, MIXT_TYPE_Q4_K},
      {MIXT_PLACE_ATTENTION_OUTPUT, ALWAYS, MIXT_TYPE_Q4_K},
      END}},
    {"Q3_K_S", MIXT_TYPE_Q3_K, MIXT_TYPE_Q6_K, {EIGHT, EIGHT_OUTPUT, END}},
    {"Q2_K",
     MIXT_TYPE_Q2_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, GROUPED, MIXT_TYPE_Q4_K},
      {MIXT_PLACE_VALUE, ALWAYS, MIXT_TYPE_Q3_K},
      {MIXT_PLACE_DOWN, ALWAYS, MIXT_TYPE_Q3_K},
      {MIXT_PLACE_ATTENTION_OUTPUT, ALWAYS, MIXT_TYPE_Q3_K},
      END}},
    {"Q2_K_S",
     MIXT_TYPE_Q2_K,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      {MIXT_PLACE_VALUE, GROUPED, MIXT_TYPE_Q4_K},
      {MIXT_PLACE_DOWN, FIRST_EIGHTH, MIXT_TYPE_Q4_K},
      END}},
    {"IQ4_XS",
     MIXT_TYPE_IQ4_XS,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, GROUPED, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_DOWN, FIRST_EIGHTH_BLIND, MIXT_TYPE_Q5_K},
      END}},
    {"IQ4_NL",
     MIXT_TYPE_IQ4_NL,
     MIXT_TYPE_Q6_K,
     {EIGHT,
      EIGHT_OUTPUT,
      {MIXT_PLACE_VALUE, GROUPED, MIXT_TYPE_Q5_K},
      {MIXT_PLACE_DOWN, FIRST_EIGHTH_BLIND, MIXT_TYPE_Q5_K},
      END}},
    {"Q5_1", MIXT_TYPE_Q5_1, MIXT_TYPE_Q6_K, {EIGHT, END}},
    {"Q5_0",
     MIXT_TYPE_Q5_0,
     MIXT_TYPE_Q6_K,
     {EIGHT, {MIXT_PLACE_DOWN, FIRST_EIGHTH_IMPORTANT, MIXT_TYPE_Q5_1}, END}},
    {"Q4_1", MIXT_TYPE_Q4_1, MIXT_TYPE_Q6_K, {EIGHT, END}},
    {"Q4_0",
     MIXT_TYPE_Q4_0,
     MIXT_TYPE_Q6_K,
     {EIGHT, {MIXT_PLACE_DOWN, FIRST_EIGHTH_IMPORTANT, MIXT_TYPE_Q4_1}, END}},
    {"MXFP4", /* the experts alone; the rest in eight bits */
     MIXT_TYPE_Q8_0,
     MIXT_TYPE_Q8_0,
     {{MIXT_PLACE_DOWN_STACK, ALWAYS, MIXT_TYPE_MXFP4},
      {MIXT_PLACE_OTHER_STACK, ALWAYS, MIXT_TYPE_MXFP4},
      END}},
};

#define MIX_COUNT ((int)(sizeof mixes / sizeof *mixes))

const mixt_mix *mixt_mix_by_name(const char *name)
{
    for (int i = 0; i < MIX_COUNT; i++) {
        if (mixt_ascii_equal(mixes[i].name, name)) {
            return &mixes[i];
        }
    }
    return NULL;
}

const char *mixt_mix_name(int index)
{
    return index >= 0 && index < MIX_COUNT ? mixes[index].name : NULL;
}

/* llama.cpp's numbers of mixes (enum llama_ftype); those that we do not write are named too. */
static const struct file_type {
    int number;
    const char *name;
} file_types[] = {{0, "F32"},      {1, "F16"},      {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
                  {8, "Q5_0"},     {9, "Q5_1"},     {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
                  {13, "Q3_K_L"},  {14, "Q4_K_S"},  {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
                  {18, "Q6_K"},    {19, "IQ2_XXS"}, {20, "IQ2_XS"}, {21, "Q2_K_S"}, {22, "IQ3_XS"},
                  {23, "IQ3_XXS"}, {24, "IQ1_S"},   {25, "IQ4_NL"}, {26, "IQ3_S"},  {27, "IQ3_M"},
                  {28, "IQ2_S"},   {29, "IQ2_M"},   {30, "IQ4_XS"}, {31, "IQ1_M"},  {32, "BF16"},
                  {36, "TQ1_0"},   {37, "TQ2_0"},   {38, "MXFP4"},  {39, "NVFP4"},  {40, "Q1_0"},
                  {41, "Q2_0"}};

const char *mixt_file_type_name(int64_t number)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].number == number) {
            return file_types[i].name;
        }
    }
    return NULL;
}

int mixt_mix_file_type(const mixt_mix *mix)
{
    for (size_t i = 0; mix != NULL && i < sizeof file_types / sizeof *file_types; i++) {
        if (mixt_ascii_equal(file_types[i].name, mix->name)) {
            return file_types[i].number;
        }
    }
    return MIXT_FILE_TYPE_GUESSED;
}

static bool holds(condition when, const mixt_mix_request *request)
{
    int layer = request->layer, layers = request->layers;
    switch (when) {
    case ALWAYS:
        return true;
    case EIGHT_EXPERTS:
        return request->experts == 8;
    case NOT_EIGHT_EXPERTS:
        return request->experts != 8;
    case MORE_BITS:
        return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    case FIRST_TWO:
        return layer < 2;
    case FIRST_FOUR:
        return layer < 4;
    case FIRST_SIXTEENTH:
        return layer < layers / 16;
    case FIRST_EIGHTH:
        return layer < layers / 8;
    case FIRST_EIGHTH_BLIND:
        return layer < layers / 8 && !request->importance;
    case FIRST_EIGHTH_IMPORTANT:
        return layer < layers / 8 && request->importance;
    case GROUPED:
        return request->head_group >= 4;
    }
    return false;
}

/* A type of 32-blocks with about as many bits, where 256 do not divide the row. */
static mixt_type fit(mixt_type type, int64_t columns)
{
    if (mixt_type_row_bytes(type, columns) == 0) {
        switch ((int)type) {
        case MIXT_TYPE_Q2_K:
        case MIXT_TYPE_Q3_K:
            type = MIXT_TYPE_Q4_0;
            break;
        case MIXT_TYPE_IQ4_XS:
            type = MIXT_TYPE_IQ4_NL;
            break;
        case MIXT_TYPE_Q4_K:
            type = MIXT_TYPE_Q5_0;
            break;
        case MIXT_TYPE_Q5_K:
            type = MIXT_TYPE_Q5_1;
            break;
        case MIXT_TYPE_Q6_K:
            type = MIXT_TYPE_Q8_0;
            break;
        default:
            break;
        }
    }
    return mixt_type_row_bytes(type, columns) == 0 ? MIXT_TYPE_F16 : type;
}

mixt_type mixt_mix_type(const mixt_mix *mix, const mixt_mix_request *request)
{
    mixt_place place = request->place;
    assert(request->columns > 0);
    if (place == MIXT_PLACE_OUTPUT) {
        bool whole = mixt_type_row_bytes(mix->base, request->columns) != 0;
        return whole ? fit(mix->output, request->columns) : fit(MIXT_TYPE_Q8_0, request->columns);
    }
    for (const rule *r = mix->rules; r->place != MIXT_PLACE_OTHER; r++) {
        bool here =
            r->place == place || (r->place == MIXT_PLACE_DOWN && place == MIXT_PLACE_DOWN_STACK);
        if (here && holds(r->when, request)) {
            return fit(r->type, request->columns);
        }
    }
    return fit(mix->base, request->columns);
}
