/* bfloat16 products with VDPBF16PS: a cell holds two k, the even one in its low half, and the
 * instruction adds the odd product, then the even one, each with one rounding. It reads and writes
 * subnormal numbers as zeros, and so do all other ways (the thread's modes are for sums with C).
 * tests/avx512_emulated_bf16.c compiles this file with the instruction spelled out. */
#include "backend/cpu/avx512_pack.h"
#include "backend/cpu/avx512_rows.h"

#include "backend/cpu/float_rows.h"

#ifndef TILE_ADD
#define TILE_ADD(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define FILL mixt_fill_avx512bf16
#endif
#include "backend/cpu/avx512_tile.h"

#define CHUNK 32 /* k that are packed as fp32 at once */

/* A row of pairs from a row of fp32 and the next, of `stride` floats, or from an even one alone.
 * Then 0 of a row of A meets -0 of a column: their product leaves every sum as it is, -0 too. */
static inline __attribute__((always_inline)) void
store_pairs(const float *even, const bool odd, const int stride, float *to, const int width)
{
    const __m512i none = _mm512_set1_epi32(width == TILE_ROWS ? 0 : INT32_MIN);
    for (int lane = 0; lane < width; lane += 16) {
        __m512i pairs = _mm512_srli_epi32(round_bf16(_mm512_loadu_ps(even + lane)), 16);
        __m512i second = odd ? round_bf16(_mm512_loadu_ps(even + stride + lane)) : none;
        v_store(to + lane, _mm512_castsi512_ps(_mm512_or_si512(pairs, second)),
                width - lane < 16 ? width - lane : 16);
    }
}

/* `rows` has rows of whole vectors, so that no load overlaps two stores and waits for them. */
static inline __attribute__((always_inline)) void pack_columns(int64_t k, int columns,
                                                               const float *x, int64_t x_k,
                                                               int64_t x_width, float *panel,
                                                               const int width)
{
    const int stride = (width + 15) / 16 * 16;
    float rows[CHUNK * TILE_COLUMNS];
    for (int64_t begin = 0; begin < k; begin += CHUNK) {
        int count = k - begin < CHUNK ? (int)(k - begin) : CHUNK, p = 0;
        pack_panel(count, columns, x + begin * x_k, x_k, x_width, rows, stride);
        for (; p + 2 <= count; p += 2) {
            store_pairs(rows + p * stride, true, stride, panel, width);
            panel += width;
        }
        if (p < count) {
            store_pairs(rows + p * stride, false, stride, panel, width);
        }
    }
}

static void kernel_pack_pairs(int64_t k, int64_t width, const float *x, int64_t x_k,
                              int64_t x_width, float *panels, int panel_width)
{
    assert(panel_width == TILE_ROWS || panel_width == TILE_COLUMNS);
    for (; width > 0; width -= panel_width) {
        int columns = width < panel_width ? (int)width : panel_width;
        if (panel_width == TILE_ROWS) {
            pack_columns(k, columns, x, x_k, x_width, panels, TILE_ROWS);
        } else {
            pack_columns(k, columns, x, x_k, x_width, panels, TILE_COLUMNS);
        }
        x += panel_width * x_width;
        panels += panel_width * ((k + 1) / 2);
    }
}

/* Pairs of two values of every row; those of bfloat16 weights are the words of the file. */
INLINE void store_words(const mixt_type type, vw word, vr factor, float *to, int panel_width)
{
    vr values[WORD_VALUES_MAX];
    if (type == MIXT_TYPE_BF16) {
        _mm512_storeu_si512(to, word);
        return;
    }
    take_apart(type, word, factor, values);
    EACH(i, word_values(type) / 2)
    {
        __m512i even = _mm512_srli_epi32(round_bf16(values[2 * i]), 16);
        _mm512_storeu_si512(to + i * panel_width,
                            _mm512_or_si512(even, round_bf16(values[2 * i + 1])));
    }
}

/* Sixteen columns of a panel. */
INLINE void pack_pairs(const mixt_type type, const row_group *group, const mixt_row_range *from,
                       float *panel, int panel_width)
{
    const int per = word_values(type), tile = per * TILE_WORDS;
    int64_t at = 0;
    for (; group->valid == ROW_LANES && at + tile <= from->k; at += tile) {
        vw words[TILE_WORDS];
        int64_t k = from->k_begin + at;
        load_words(group->data + k * 4 / per, group->matrix->row_bytes, TILE_WORDS, words);
        vr factor = type == MIXT_TYPE_F8_E4M3 ? factors_at(group, k) : r_set(1);
        if (type == MIXT_TYPE_F32) {
            EACH(i, TILE_WORDS / 2)
            {
                __m512i even = _mm512_srli_epi32(round_bf16(values_f32(words[2 * i])), 16);
                __m512i odd = round_bf16(values_f32(words[2 * i + 1]));
                _mm512_storeu_si512(panel + (at / 2 + i) * panel_width, _mm512_or_si512(even, odd));
            }
        } else {
            EACH(i, TILE_WORDS)
            store_words(type, words[i], factor, panel + (at + i * per) / 2 * panel_width,
                        panel_width);
        }
    }
    for (; at < from->k; at += tile) {
        float values[TILE_VALUES_MAX * ROW_LANES];
        int count = from->k - at < tile ? (int)(from->k - at) : tile;
        edge_values(group, from->k_begin + at, count, values);
        for (int i = 0; i < count; i += 2) {
            const float *even = values + i * ROW_LANES;
            store_pairs(even, i + 1 < count, ROW_LANES, panel + (at + i) / 2 * panel_width,
                        ROW_LANES);
        }
    }
}

PACK_FUNCTIONS(pack_pairs_of_type, pack_pairs)

static void pack_typed_pairs(const mixt_row_range *from, float *panels, int panel_width)
{
    pack_groups(pack_pairs_of_type[type_index(from->matrix->type)], from, (from->k + 1) / 2, panels,
                panel_width);
}

#define r_add_pair(sum, word, x)                                                                   \
    TILE_ADD(sum, _mm512_castsi512_ps(word), _mm512_castsi512_ps(_mm512_set1_epi32((int)(x))))

static void round_pairs(int64_t k, const float *x, uint32_t *to)
{
    for (int64_t i = 0; i < k; i += 16) {
        const __mmask16 there = (__mmask16)(k - i < 16 ? (1U << (k - i)) - 1U : 0xFFFF);
        __m512i high = _mm512_srli_epi32(round_bf16(_mm512_maskz_loadu_ps(there, x + i)), 16);
        _mm256_mask_storeu_epi16(to + i / 2, there, _mm512_cvtepi32_epi16(high));
    }
}

#define STREAM_PAIRS
#define STREAM_GROUPS 2
#define STREAM_IN_TURN false
#include "backend/cpu/float_stream.h"

void FILL(mixt_kernels_f32 *table)
{
    table->gemm_bf16 = (mixt_gemm_kernels_f32){
        .tile_rows = TILE_ROWS,
        .tile_columns = TILE_COLUMNS,
        .pairs = true,
        .pack = kernel_pack_pairs,
        .tile = kernel_tile,
        .pack_typed = pack_typed_pairs,
        .stream = kernel_stream,
        .enter = mixt_flush_enter,
        .leave = mixt_flush_leave,
    };
}
