/* safetensors: tensors of the header changed one by one, offsets and data laid out anew. */
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"
#include "mutate.h"

#define HEADER_MIN 8

/* Bytes that a tensor's dtype and shape want; UINT64_MAX: none that would fit. */
static uint64_t wanted_bytes(const json_t *tensor)
{
    const json_t *shape = json_object_get(tensor, "shape");
    const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
    unsigned bits = mixt_dtype_bits(mixt_dtype_from_name(dtype != NULL ? dtype : ""));
    uint64_t count = bits != 0 ? bits : 8;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        json_int_t size = json_integer_value(json_array_get(shape, i));
        if (size < 0 || __builtin_mul_overflow(count, (uint64_t)size, &count) || count > 1 << 26) {
            return UINT64_MAX;
        }
    }
    return (count + 7) / 8;
}

typedef struct span {
    uint64_t begin, end;
} span;

static span span_of(const json_t *tensor, uint64_t size)
{
    const json_t *offsets = json_object_get(tensor, "data_offsets");
    span s = {(uint64_t)json_integer_value(json_array_get(offsets, 0)),
              (uint64_t)json_integer_value(json_array_get(offsets, 1))};
    s.end = s.end < size ? s.end : size;
    s.begin = s.begin < s.end ? s.begin : s.end;
    return s;
}

static json_t *any_tensor(json_t *root, fuzz_dice *dice, const char **name)
{
    size_t at = fuzz_below(dice, json_object_size(root));
    json_t *value;
    json_object_foreach(root, *name, value)
    {
        if (at-- == 0) {
            return value;
        }
    }
    return NULL;
}

static void change_dimension(json_t *shape, fuzz_dice *dice)
{
    size_t rank = json_array_size(shape), at = fuzz_below(dice, rank);
    json_int_t size = json_integer_value(json_array_get(shape, at));
    switch (fuzz_below(dice, 8)) {
    case 0:
        json_array_insert_new(shape, at, json_integer((json_int_t)fuzz_below(dice, 3)));
        break;
    case 1:
        json_array_remove(shape, at);
        break;
    case 2:
        if (rank > 1) {
            json_array_set(shape, at, json_array_get(shape, 0));
            json_array_set_new(shape, 0, json_integer(size));
        }
        break;
    case 3:
        json_array_set_new(shape, at, json_integer(fuzz_integer(dice)));
        break;
    default:
        /* a size that the dice made may be the largest: it wraps */
        json_array_set_new(shape, at,
                           json_integer((json_int_t)((uint64_t)size + (fuzz_chance(dice, 50) ? 1
                                                                       : fuzz_chance(dice, 50)
                                                                           ? UINT64_MAX
                                                                           : (uint64_t)size))));
    }
}

static void change_header(json_t *root, fuzz_dice *dice)
{
    static const char *const dtypes[] = {"F32", "F16", "BF16", "U8",      "F8_E4M3",
                                         "F64", "I32", "I64",  "F8_E8M0", "F8_E5M2",
                                         "F4",  "U16", "X9",   "BOOL"};
    const char *name;
    json_t *tensor = any_tensor(root, dice, &name);
    if (tensor == NULL) {
        return;
    }
    json_t *kept = json_incref(tensor);
    char text[200];
    size_t length = strlen(name) < sizeof text / 2 ? strlen(name) : sizeof text / 2;
    memcpy(text, name, length + (length < sizeof text / 2));
    text[length] = '\0';
    switch (fuzz_below(dice, 8)) {
    case 0:
        json_object_set_new(tensor, "dtype",
                            json_string(dtypes[fuzz_below(dice, sizeof dtypes / sizeof *dtypes)]));
        break;
    case 1:
        json_object_del(root, text);
        break;
    case 2:
    case 3:
        if (fuzz_chance(dice, 50)) {
            json_object_del(root, text);
        }
        length = LLVMFuzzerMutate((uint8_t *)text, length, sizeof text - 1);
        text[length] = '\0';
        json_object_set_new(root, text, json_deep_copy(kept));
        break;
    case 4:
        fuzz_change_json(root, dice);
        break;
    default:
        change_dimension(json_object_get(tensor, "shape"), dice);
    }
    json_decref(kept);
}

/* Data as the header's shapes want them, each tensor's from its own bytes over and over, and the
 * offsets into the header; 0 where they do not fit. */
static size_t lay_out(json_t *root, const uint8_t *from, size_t from_size, uint8_t *to, size_t room)
{
    size_t used = 0;
    const char *name;
    json_t *tensor;
    json_object_foreach(root, name, tensor)
    {
        if (strcmp(name, "__metadata__") == 0 || !json_is_object(tensor)) {
            continue;
        }
        uint64_t wanted = wanted_bytes(tensor);
        span s = span_of(tensor, from_size);
        wanted = wanted == UINT64_MAX ? s.end - s.begin : wanted;
        if (wanted > room - used) {
            return 0;
        }
        for (size_t i = 0; i < wanted; i++) {
            to[used + i] = s.end > s.begin ? from[s.begin + i % (s.end - s.begin)] : 0;
        }
        json_t *offsets = json_array();
        json_array_append_new(offsets, json_integer((json_int_t)used));
        used += (size_t)wanted;
        json_array_append_new(offsets, json_integer((json_int_t)used));
        json_object_set_new(tensor, "data_offsets", offsets);
    }
    return used;
}

size_t fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    fuzz_dice dice = fuzz_dice_of(seed);
    uint64_t header = 0;
    memcpy(&header, data, size >= HEADER_MIN ? HEADER_MIN : 0);
    json_t *root = NULL;
    if (size > HEADER_MIN && header <= size - HEADER_MIN && fuzz_chance(&dice, 96)) {
        root = json_loadb((const char *)data + HEADER_MIN, (size_t)header, 0, NULL);
    }
    uint8_t *made = malloc(2 * max_size + 1), *text = made + max_size;
    if (root == NULL || !json_is_object(root) || made == NULL) {
        json_decref(root);
        free(made);
        return LLVMFuzzerMutate(data, size, max_size);
    }
    const uint8_t *from = data + HEADER_MIN + header;
    size_t from_size = size - HEADER_MIN - (size_t)header;
    bool values = fuzz_chance(&dice, 30);
    for (size_t changes = 1 + fuzz_below(&dice, 3); changes > 0 && !values; changes--) {
        change_header(root, &dice);
    }
    size_t used = lay_out(root, from, from_size, made, max_size);
    if (values) {
        fuzz_change_data(made, used, &dice);
    }
    if (fuzz_chance(&dice, 4)) { /* offsets that are wrong */
        fuzz_change_json(root, &dice);
    }
    size_t length = json_dumpb(root, (char *)text, max_size, JSON_COMPACT);
    json_decref(root);
    size_t padded = (length + 7) / 8 * 8;
    bool fits = length > 0 && HEADER_MIN + padded + used <= max_size;
    if (fits) {
        header = padded;
        memset(text + length, ' ', padded - length);
        memcpy(data, &header, HEADER_MIN);
        memcpy(data + HEADER_MIN, text, padded);
        memcpy(data + HEADER_MIN + padded, made, used);
    }
    free(made);
    return fits ? HEADER_MIN + padded + used : LLVMFuzzerMutate(data, size, max_size);
}
