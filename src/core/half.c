#include "core/half.h"

void mixt_bf16_to_f32(const uint16_t *from, float *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_bf16_value(from[i]);
    }
}

void mixt_f16_to_f32(const uint16_t *from, float *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_f16_value(from[i]);
    }
}

void mixt_f32_to_bf16(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_bf16_bits(from[i]);
    }
}

void mixt_f32_to_f16(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_f16_bits(from[i]);
    }
}
