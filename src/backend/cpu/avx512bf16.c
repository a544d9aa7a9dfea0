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

#define CHUNK 128 /* k of rows that are rounded at once: half as many pairs, in the first cache */

/* The first `count` of sixteen lanes. */
INLINE __mmask16 first_lanes(int count)
{
    return mask_of(count < 0 ? 0 : count < 16 ? count : 16);
}

/* Pairs of sixteen lanes of an even k and the next. */
INLINE __m512i pairs_of(__m512 even, __m512 odd)
{
    return _mm512_or_si512(_mm512_srli_epi32(round_bf16(even), 16), round_bf16(odd));
}

/* Behind the last k, if that is an even one: 0 of a row of A meets -0 of a column, as their product
 * leaves every sum as it is, -0 too. */
INLINE __m512 none_of(const int width)
{
    return _mm512_set1_ps(width == TILE_ROWS ? 0.0F : -0.0F);
}

/* A row of pairs from a row of fp32 and the next, of `stride` floats, or from an even one alone. */
INLINE void store_pairs(const float *even, const bool odd, const int stride, float *to,
                        const int width)
{
    for (int lane = 0; lane < width; lane += 16) {
        __m512 second = odd ? _mm512_loadu_ps(even + stride + lane) : none_of(width);
        __m512i pairs = pairs_of(_mm512_loadu_ps(even + lane), second);
        v_store(to + lane, _mm512_castsi512_ps(pairs), width - lane < 16 ? width - lane : 16);
    }
}

/* Pairs of k [p, end) of a panel whose columns lie side by side; p is even. */
INLINE void copy_pairs(int64_t p, int64_t end, int columns, const float *x, int64_t x_k,
                       float *panel, const int width)
{
    x += p * x_k;
    panel += p / 2 * width;
    for (; p < end; p += 2) {
        for (int lane = 0; lane < width; lane += 16) {
            const __mmask16 valid = first_lanes(columns - lane), lanes = first_lanes(width - lane);
            const float *from = x + lane, *next = from + x_k;
            _mm_prefetch((const char *)(from + COPY_AHEAD * x_k), _MM_HINT_T0);
            _mm_prefetch((const char *)(next + COPY_AHEAD * x_k), _MM_HINT_T0);
            __m512 odd = p + 1 < end ? _mm512_maskz_loadu_ps(valid, next) : none_of(width);
            __m512i pairs = pairs_of(_mm512_maskz_loadu_ps(valid, from), odd);
            _mm512_mask_storeu_epi32(panel + lane, lanes, pairs);
        }
        x += 2 * x_k;
        panel += width;
    }
}

/* Panels whose columns lie side by side. */
INLINE void pack_copies(int64_t k, int64_t columns, const float *x, int64_t x_k, float *panels,
                        const int width)
{
    for (int64_t p = 0; p < k; p += COPY_ROWS) {
        int64_t end = p + COPY_ROWS < k ? p + COPY_ROWS : k;
        for (int64_t i = 0; i < columns; i += width) {
            int valid = columns - i < width ? (int)(columns - i) : width;
            copy_pairs(p, end, valid, x + i, x_k, panels + i * ((k + 1) / 2), width);
        }
    }
}

/* Pairs of k that lie side by side; of an odd last one the lower half alone is written. */
static void round_pairs(int64_t k, const float *x, uint32_t *to)
{
    for (int64_t i = 0; i < k; i += 16) {
        const __mmask16 there = (__mmask16)(k - i < 16 ? (1U << (k - i)) - 1U : 0xFFFF);
        __m512i high = _mm512_srli_epi32(round_bf16(_mm512_maskz_loadu_ps(there, x + i)), 16);
        _mm256_mask_storeu_epi16(to + i / 2, there, _mm512_cvtepi32_epi16(high));
    }
}

/* Panels whose k lie side by side: columns are rounded first, so that pairs are turned. */
INLINE void pack_turned(int64_t k, int64_t columns, const float *x, int64_t x_width, float *panels,
                        const int width)
{
    const uint16_t none = width == TILE_ROWS ? 0 : 0x8000; /* as none_of */
    float pairs[TILE_COLUMNS * CHUNK / 2];
    for (; columns > 0; columns -= width) {
        int valid = columns < width ? (int)columns : width;
        for (int64_t begin = 0; begin < k; begin += CHUNK) {
            int64_t count = k - begin < CHUNK ? k - begin : CHUNK, cells = (count + 1) / 2;
            for (int i = 0; i < valid; i++) {
                const float *from = x + i * x_width + begin;
                void *to = pairs + i * CHUNK / 2;
                EACH(line, CHUNK / 16)
                _mm_prefetch((const char *)(from + CHUNK + 16 * line), _MM_HINT_T0);
                round_pairs(count, from, to);
                if (count % 2 != 0) {
                    memcpy((uint16_t *)to + count, &none, sizeof none);
                }
            }
            pack_panel(cells, valid, pairs, 1, CHUNK / 2, panels, width);
            panels += cells * width;
        }
        x += width * x_width;
    }
}

INLINE void pack_pairs_of(int64_t k, int64_t columns, const float *x, const int64_t steps[2],
                          float *panels, const int width)
{
    if (steps[1] == 1) {
        pack_copies(k, columns, x, steps[0], panels, width);
    } else {
        pack_turned(k, columns, x, steps[1], panels, width);
    }
}

static void kernel_pack_pairs(int64_t k, int64_t width, const float *x, int64_t x_k,
                              int64_t x_width, float *panels, int panel_width)
{
    const int64_t steps[2] = {x_k, x_width};
    assert(panel_width == TILE_ROWS || panel_width == TILE_COLUMNS);
    if (panel_width == TILE_ROWS) {
        pack_pairs_of(k, width, x, steps, panels, TILE_ROWS);
    } else {
        pack_pairs_of(k, width, x, steps, panels, TILE_COLUMNS);
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
