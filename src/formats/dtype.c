#include "formats/dtype.h"

#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mixt reads and writes little-endian files in place: the machine must be little-endian"
#endif

typedef struct dtype_row {
    const char *name;
    unsigned bits;
} dtype_row;

static const dtype_row rows[] = {{"unknown", 0},
#define DTYPE_ROW(name, bits) {#name, bits},
                                 MIXT_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

const char *mixt_dtype_name(mixt_dtype dtype)
{
    return (size_t)dtype < ROW_COUNT ? rows[dtype].name : rows[0].name;
}

unsigned mixt_dtype_bits(mixt_dtype dtype)
{
    return (size_t)dtype < ROW_COUNT ? rows[dtype].bits : 0;
}

mixt_dtype mixt_dtype_from_name(const char *name)
{
    for (size_t i = 1; i < ROW_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return (mixt_dtype)i;
        }
    }
    return MIXT_DTYPE_UNKNOWN;
}

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void mixt_bf16_to_f32(const uint16_t *from, float *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = float_of((uint32_t)from[i] << 16);
    }
}

/* Exponent and mantissa move into a float's places. Normal numbers get the other bias added;
 * infinity and NaN get it twice, which fills the exponent; subnormals are normalised by a
 * subtraction that is exact in fp32. No branches, so that the loop becomes vector code. */
void mixt_f16_to_f32(const uint16_t *from, float *to, size_t count)
{
    const uint32_t bias = (127u - 15u) << 23;
    const float smallest = float_of(113u << 23); /* 2^-14 */
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = (uint32_t)(from[i] & 0x7fffu) << 13;
        uint32_t exponent = magnitude & (31u << 23);
        uint32_t normal = magnitude + bias + (exponent == (31u << 23) ? bias : 0);
        uint32_t subnormal = bits_of(float_of(magnitude + (113u << 23)) - smallest);
        uint32_t sign = (uint32_t)(from[i] & 0x8000u) << 16;
        to[i] = float_of((exponent == 0 ? subnormal : normal) | sign);
    }
}

void mixt_f32_to_bf16(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = bits_of(from[i]);
        uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        uint32_t nan = (bits >> 16) | 0x40u;
        to[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

void mixt_f32_to_f16(const float *from, uint16_t *to, size_t count)
{
    const float half = 0.5f; /* its last bit is worth 2^-24, the smallest half */
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = bits_of(from[i]);
        uint32_t magnitude = bits & 0x7fffffffu;
        uint32_t result;
        if (magnitude > 0x7f800000u) {
            result = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
        } else if (magnitude >= 0x477ff000u) { /* 65520 and more round to infinity */
            result = 0x7c00u;
        } else if (magnitude < (113u << 23)) { /* subnormal: the sum rounds at bit 2^-24 */
            result = bits_of(float_of(magnitude) + half) - bits_of(half);
        } else {
            uint32_t shifted = magnitude - ((127u - 15u) << 23);
            result = (shifted + 0xfffu + ((shifted >> 13) & 1u)) >> 13;
        }
        to[i] = (uint16_t)(result | ((bits >> 16) & 0x8000u));
    }
}
