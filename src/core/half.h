/* Short floats: IEEE halves and bfloat16. */
#ifndef MIXT_CORE_HALF_H
#define MIXT_CORE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline float mixt_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t mixt_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exact. Exponent and mantissa move into a float's places. Normal numbers get the other bias added;
 * infinity and NaN get it twice, which fills the exponent; subnormals are normalised by a
 * subtraction that is exact in fp32. No branches, so that a loop becomes vector code. */
static inline float mixt_f16_value(uint16_t half)
{
    const uint32_t bias = (127u - 15u) << 23;
    const float smallest = mixt_float_of_bits(113u << 23); /* 2^-14 */
    uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t exponent = magnitude & (31u << 23);
    uint32_t normal = magnitude + bias + (exponent == (31u << 23) ? bias : 0);
    uint32_t subnormal =
        mixt_bits_of_float(mixt_float_of_bits(magnitude + (113u << 23)) - smallest);
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    return mixt_float_of_bits((exponent == 0 ? subnormal : normal) | sign);
}

/* Nearest half, ties to even; beyond the largest half is infinity; NaN stays a quiet NaN. */
static inline uint16_t mixt_f16_bits(float value)
{
    const float half = 0.5f; /* its last bit is worth 2^-24, the smallest half */
    uint32_t bits = mixt_bits_of_float(value);
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
        result = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) { /* 65520 and more round to infinity */
        result = 0x7c00u;
    } else if (magnitude < (113u << 23)) { /* subnormal: the sum rounds at bit 2^-24 */
        result =
            mixt_bits_of_float(mixt_float_of_bits(magnitude) + half) - mixt_bits_of_float(half);
    } else {
        uint32_t shifted = magnitude - ((127u - 15u) << 23);
        result = (shifted + 0xfffu + ((shifted >> 13) & 1u)) >> 13;
    }
    return (uint16_t)(result | ((bits >> 16) & 0x8000u));
}

static inline float mixt_bf16_value(uint16_t bits)
{
    return mixt_float_of_bits((uint32_t)bits << 16);
}

/* Nearest bfloat16, ties to even; NaN stays a quiet NaN. */
static inline uint16_t mixt_bf16_bits(float value)
{
    uint32_t bits = mixt_bits_of_float(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

/* The same over arrays. */
void mixt_bf16_to_f32(const uint16_t *from, float *to, size_t count);
void mixt_f16_to_f32(const uint16_t *from, float *to, size_t count);
void mixt_f32_to_bf16(const float *from, uint16_t *to, size_t count);
void mixt_f32_to_f16(const float *from, uint16_t *to, size_t count);
/* Codes of OCP's E4M3, each times `factor`. */
void mixt_f8_to_f32(const uint8_t *from, float factor, float *to, size_t count);

#endif
