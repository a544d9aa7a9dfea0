/* The macros of backend/cpu/amx_registers.h in plain C. Registers belong to a thread, are empty
 * until they are configured and are given back behind it: both is asserted. */
#ifndef MIXT_TESTS_AMX_EMULATED_REGISTERS_H
#define MIXT_TESTS_AMX_EMULATED_REGISTERS_H

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Also where NDEBUG is set. */
#define EMULATED(condition)                                                                        \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct emulated_tile {
    int rows, row_bytes; /* 0: not configured */
    uint8_t bytes[16][64];
} emulated_tile;

static _Thread_local emulated_tile emulated_tiles[8];

static inline void emulated_configure(const void *configuration)
{
    const uint8_t *bytes = configuration;
    EMULATED(bytes[0] == 1 && bytes[1] == 0 && emulated_tiles[0].rows == 0);
    memset(emulated_tiles, 0, sizeof emulated_tiles);
    for (int i = 0; i < 8; i++) {
        int row_bytes = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8, rows = bytes[48 + i];
        EMULATED(row_bytes <= 64 && rows <= 16 && (row_bytes == 0) == (rows == 0));
        emulated_tiles[i].rows = rows;
        emulated_tiles[i].row_bytes = row_bytes;
    }
}

static inline void emulated_release(void)
{
    EMULATED(emulated_tiles[0].rows > 0);
    memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline emulated_tile *emulated_at(int tile)
{
    EMULATED(emulated_tiles[tile].rows > 0);
    return &emulated_tiles[tile];
}

static inline void emulated_zero(int tile)
{
    memset(emulated_at(tile)->bytes, 0, sizeof emulated_tiles[0].bytes);
}

static inline void emulated_load(int tile, const void *from, int64_t stride)
{
    emulated_tile *to = emulated_at(tile);
    memset(to->bytes, 0, sizeof to->bytes);
    for (int i = 0; i < to->rows; i++) {
        memcpy(to->bytes[i], (const char *)from + i * stride, (size_t)to->row_bytes);
    }
}

static inline void emulated_store(int tile, void *to, int64_t stride)
{
    const emulated_tile *from = emulated_at(tile);
    for (int i = 0; i < from->rows; i++) {
        memcpy((char *)to + i * stride, from->bytes[i], (size_t)from->row_bytes);
    }
}

static inline void emulated_shapes(const emulated_tile *sums, const emulated_tile *a,
                                   const emulated_tile *b)
{
    EMULATED(sums != a && sums != b && a != b && sums->rows == a->rows);
    EMULATED(sums->row_bytes == b->row_bytes && a->row_bytes / 4 == b->rows);
}

/* Subnormal numbers are zeros, going in (DAZ) and coming out (FTZ, after rounding to 24 bits). */
static inline float emulated_flush(float x)
{
    return fabsf(x) < 0x1p-126F ? copysignf(0, x) : x;
}

static inline float emulated_multiply_add(float a, float b, float sum)
{
    double exact = (double)emulated_flush(a) * (double)emulated_flush(b) + (double)sum;
    if (exact != 0 && fabs(exact) < 0x1p-126 - 0x1p-151) {
        return (float)copysign(0, exact);
    }
    return fmaf(emulated_flush(a), emulated_flush(b), sum);
}

static inline float emulated_bf16(const uint8_t *from)
{
    uint32_t bits = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void emulated_dot_bf16(int sums, int a, int b)
{
    emulated_tile *to = emulated_at(sums);
    const emulated_tile *left = emulated_at(a), *right = emulated_at(b);
    emulated_shapes(to, left, right);
    for (int m = 0; m < to->rows; m++) {
        for (int n = 0; n < to->row_bytes / 4; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < right->rows; k++) {
                const uint8_t *x = left->bytes[m] + 4 * k, *w = right->bytes[k] + 4 * n;
                even = emulated_multiply_add(emulated_bf16(x), emulated_bf16(w), even);
                odd = emulated_multiply_add(emulated_bf16(x + 2), emulated_bf16(w + 2), odd);
            }
            memcpy(&sum, to->bytes[m] + 4 * n, sizeof sum);
            sum = emulated_flush(emulated_flush(sum) + emulated_flush(even + odd));
            memcpy(to->bytes[m] + 4 * n, &sum, sizeof sum);
        }
    }
}

static inline void emulated_dot_bytes(int sums, int a, int b)
{
    emulated_tile *to = emulated_at(sums);
    const emulated_tile *left = emulated_at(a), *right = emulated_at(b);
    emulated_shapes(to, left, right);
    for (int m = 0; m < to->rows; m++) {
        for (int n = 0; n < to->row_bytes / 4; n++) {
            int32_t sum;
            memcpy(&sum, to->bytes[m] + 4 * n, sizeof sum);
            for (int k = 0; k < right->rows; k++) {
                for (int i = 0; i < 4; i++) {
                    sum += (int8_t)left->bytes[m][4 * k + i] * right->bytes[k][4 * n + i];
                }
            }
            memcpy(to->bytes[m] + 4 * n, &sum, sizeof sum);
        }
    }
}

#define AMX_CONFIGURE(configuration) emulated_configure(configuration)
#define AMX_RELEASE() emulated_release()
#define AMX_ZERO(tile) emulated_zero(tile)
#define AMX_LOAD(tile, from, stride) emulated_load(tile, from, stride)
#define AMX_STORE(tile, to, stride) emulated_store(tile, to, stride)
#define AMX_DOT_BF16(sums, a, b) emulated_dot_bf16(sums, a, b)
#define AMX_DOT_BYTES(sums, a, b) emulated_dot_bytes(sums, a, b)

#endif
