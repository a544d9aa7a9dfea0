/* Types whose blocks are made of integers that lie nowhere as such (quant/multiples.h): rows are
 * decoded one by one into bytes (QUANT_BYTES) or 16-bit words and then transposed into a panel, or
 * for one token multiplied as they are, in words. Included behind quant_tile.h. */
#include "quant/multiples_decode.h"

#ifdef __x86_64__
#include "backend/cpu/quant_codebooks.h"
#endif

#ifdef QUANT_BYTES
typedef int8_t decoded_value;
#else
typedef int16_t decoded_value;
#endif

#if defined QUANT_DOTS
#define coded_bytes(bytes, type) ((void)(type), biased(bytes))
#elif defined QUANT_WRAPS
/* Bytes as tiles have them. Starts take 32 away: that is more than any value but those of IQ2 (43:
 * twice the starts) and of IQ3_XXS (62, but all are even: halves, and twice the scales). */
INLINE vi coded_bytes(vi bytes, const mixt_type type)
{
    const bool twos = type >= MIXT_TYPE_IQ2_XXS && type <= MIXT_TYPE_IQ2_S;
    const bool halved = type == MIXT_TYPE_IQ3_XXS;
    bytes = vi_sub8(bytes, vi_set32((int)((twos || halved ? 0xC0 : 0xE0) * 0x01010101U)));
    return halved ? vi_srl32(bytes, 1) : bytes;
}
#endif

/* `cells` cells from rows that lie `stride` bytes apart. */
INLINE void transpose(const decoded_value *rows, size_t stride, const int count,
                      const mixt_type type, vi *cells)
{
    (void)type;
    const source from = {(const uint8_t *)rows, stride, NULL};
    for (int i = 0; i < count; i += 4) {
        load_quads(&from, (size_t)(4 * i), cells + i);
#ifdef QUANT_BYTES
        EACH(j, 4) cells[i + j] = coded_bytes(cells[i + j], type);
#endif
    }
}

#ifdef QUANT_BYTES
/* Of rows' scales by groups of 16: those of the type's groups, and pairs. */
INLINE void put_scales(const int8_t *scales, mixt_type type, panel *to)
{
    const bool by_32 = type == MIXT_TYPE_IQ1_S || type == MIXT_TYPE_IQ2_XXS ||
                       type == MIXT_TYPE_IQ3_XXS || type == MIXT_TYPE_IQ3_S;
    const source from = {(const uint8_t *)scales, 16, NULL};
    vi four[4];
    load_quads(&from, 0, four);
    EACH(i, 4)
    {
        vi x = four[i];
#ifdef QUANT_WRAPS
        x = type == MIXT_TYPE_IQ3_XXS ? vi_add32(x, x) : x;
#endif
        if (by_32) {
            to->scales[2 * i] = SCALE_OF_BYTE(x, 0);
            to->scales[2 * i + 1] = SCALE_OF_BYTE(x, 2);
        } else {
            to->scales[4 * i] = SCALE_OF_BYTE(x, 0);
            to->scales[4 * i + 1] = SCALE_OF_BYTE(x, 1);
            to->scales[4 * i + 2] = SCALE_OF_BYTE(x, 2);
            to->scales[4 * i + 3] = SCALE_OF_BYTE(x, 3);
        }
#ifdef QUANT_DOTS
        /* scale << 8, down to scale * BYTE_BIAS, negated */
        to->pairs[2 * i] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 0, NONE, 1), 1));
        to->pairs[2 * i + 1] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 2, NONE, 3), 1));
#endif
    }
}
#endif

/* One block of each lane's row. */
INLINE void unpack_multiples(source *from, panel *to, mixt_type type)
{
    _Alignas(64) decoded_value rows[QUANT_LANES][MIXT_STEP];
    float d[QUANT_LANES];
    const mixt_grids *grids = mixt_grids_get();
    fetch_ahead(from, (size_t)(QUANT_LANES * mixt_type_info(type)->bytes));
#ifdef QUANT_BYTES
    _Alignas(64) int8_t scales[QUANT_LANES][16];
#endif
    for (int lane = 0; lane < QUANT_LANES; lane++) {
        const uint8_t *block = from->base + (size_t)lane * from->stride;
#ifdef QUANT_BYTES
        const mixt_decoded row = {NULL, rows[lane], scales[lane]};
#else
        const mixt_decoded row = {rows[lane], NULL, NULL};
#endif
        d[lane] = mixt_decode_multiples(type, block, grids, &row);
    }
    to->d[0] = vf_load(d);
#ifdef QUANT_BYTES
    put_scales(scales[0], type, to);
#endif
    transpose(rows[0], sizeof rows[0], MIXT_STEP / 4 * (int)sizeof(decoded_value), type, to->cells);
}

/* Part `part` (of 32 values, `block` of the step) of each lane's row. */
INLINE void unpack_part(source *from, panel *to, int block, mixt_type type)
{
    _Alignas(64) decoded_value rows[QUANT_LANES][32];
    float d[QUANT_LANES], m[QUANT_LANES];
    const mixt_grids *grids = mixt_grids_get();
    const int cells = 8 * (int)sizeof(decoded_value);
    int part = block % (mixt_type_info(type)->elements / 32);
    for (int lane = 0; lane < QUANT_LANES; lane++) {
        const uint8_t *at = from->base + (size_t)lane * from->stride;
        d[lane] = mixt_part_scale(type, at, part, 0);
        m[lane] = mixt_part_scale(type, at, part, 1);
#ifdef QUANT_BYTES
        mixt_bytes q[2];
        mixt_decode_part(type, at, part, grids, q);
        memcpy(rows[lane], q, sizeof q);
#else
        mixt_decode_part_words(type, at, part, grids, rows[lane]);
#endif
    }
    to->d[block] = vf_load(d);
    to->m[block] = vf_load(m);
    transpose(rows[0], sizeof rows[0], cells, type, to->cells + cells * block);
}

#ifdef __x86_64__
/* The same of a codebook type, whose rows are decoded by lines. */
INLINE void unpack_codebook(source *from, panel *to, const mixt_type type)
{
    _Alignas(64) int8_t rows[QUANT_LANES][MIXT_STEP], scales[QUANT_LANES][16];
    uint32_t halves[QUANT_LANES];
    const mixt_grids *grids = mixt_grids_get();
    const source lines = {(const uint8_t *)rows, sizeof rows[0], NULL};
    fetch_ahead(from, (size_t)(QUANT_LANES * mixt_type_info(type)->bytes));
    for (int lane = 0; lane < QUANT_LANES; lane++) {
        const uint8_t *block = from->base + (size_t)lane * from->stride;
        codebook_values values;
        values_of_block(type, block, grids, &values);
        put_values(type, &values, rows[lane]);
        _mm_store_si128((__m128i *)(void *)scales[lane], line_first_bytes(values.scales));
        halves[lane] = type == MIXT_TYPE_IQ1_M
                           ? mixt_iq1_m_half((const mixt_iq1_m_block *)(const void *)block)
                           : (uint32_t)(block[0] | block[1] << 8);
    }
    to->d[0] = vf_multiply(vf_half(vi_loadu(halves)), vf_set(codebook_factor(type)));
    put_scales(scales[0], type, to);
    EACH(i, 16)
    {
        vi *cells = to->cells + i % 4 * 16 + i / 4 * 4; /* put_values */
        load_quads(&lines, (size_t)(16 * i), cells);
        EACH(j, 4) cells[j] = coded_bytes(cells[j], type);
    }
}

#define UNPACK_CODEBOOK(name, type)                                                                \
    static void name(source *from, panel *to)                                                      \
    {                                                                                              \
        unpack_codebook(from, to, type);                                                           \
    }
#else
#define UNPACK_CODEBOOK(name, type) UNPACK_MULTIPLES(name, type)
#endif

#define UNPACK_MULTIPLES(name, type)                                                               \
    static void name(source *from, panel *to)                                                      \
    {                                                                                              \
        unpack_multiples(from, to, type);                                                          \
    }
UNPACK_CODEBOOK(unpack_iq1_s, MIXT_TYPE_IQ1_S)
UNPACK_CODEBOOK(unpack_iq1_m, MIXT_TYPE_IQ1_M)
UNPACK_CODEBOOK(unpack_iq2_xxs, MIXT_TYPE_IQ2_XXS)
UNPACK_CODEBOOK(unpack_iq2_xs, MIXT_TYPE_IQ2_XS)
UNPACK_CODEBOOK(unpack_iq2_s, MIXT_TYPE_IQ2_S)
UNPACK_CODEBOOK(unpack_iq3_xxs, MIXT_TYPE_IQ3_XXS)
UNPACK_CODEBOOK(unpack_iq3_s, MIXT_TYPE_IQ3_S)
UNPACK_MULTIPLES(unpack_tq1_0, MIXT_TYPE_TQ1_0)
UNPACK_MULTIPLES(unpack_tq2_0, MIXT_TYPE_TQ2_0)

#define UNPACK_PART(name, type)                                                                    \
    static void name(source *from, panel *to, int block)                                           \
    {                                                                                              \
        unpack_part(from, to, block, type);                                                        \
    }
#ifndef QUANT_BYTES
UNPACK_PART(unpack_nvfp4, MIXT_TYPE_NVFP4)
#endif
UNPACK_PART(unpack_q1_0, MIXT_TYPE_Q1_0)
UNPACK_PART(unpack_q2_0, MIXT_TYPE_Q2_0)

#if defined QUANT_DOTS || defined __x86_64__
/* mixt_nvfp4_scale of a byte in each lane. */
INLINE vf nvfp4_scales(vi byte)
{
    vi code = vi_and(byte, vi_set32(127)), other = vi_sub32(byte, vi_set32(127));
    /* all bits where the exponent is 0, and where the byte is not 127 */
    vi small = vi_sra32(vi_sub32(code, vi_set32(8)), 31);
    vi some = vi_sra32(vi_or(other, vi_sub32(vi_zero(), other)), 31);
    /* as if the exponent were 1, less the leading one, which is not there */
    vi bits = vi_add32(vi_sll32(code, 20), vi_set32(119 << 23));
    bits = vi_add32(bits, vi_and(small, vi_set32(1 << 23)));
    vi lead = vi_and(vi_and(some, small), vi_set32(INT32_MIN + (120 << 23)));
    return vf_add(vf_of_bits(vi_and(some, bits)), vf_of_bits(lead));
}
#endif

#ifdef QUANT_BYTES
/* Eight bytes hold the sixteen values of a half: low halves of bytes, then high ones. */
static void unpack_nvfp4(source *from, panel *to, int block)
{
    const vi low = vi_set32(LOW_NIBBLES),
             table = coded_bytes(vi_table(mixt_mxfp4_values), MIXT_TYPE_NVFP4);
    vi q[4], *cells = to->cells + 8 * block, scales = load_first(from, 0);
    scales = block % 2 == 0 ? scales : vi_srl32(scales, 16);
    to->d[block] = nvfp4_scales(vi_and(scales, vi_set32(255)));
    to->m[block] = nvfp4_scales(vi_and(vi_srl32(scales, 8), vi_set32(255)));
    load_quads(from, (size_t)(4 + block % 2 * 16), q);
    EACH(i, 4)
    {
        cells[i / 2 * 4 + i % 2] = vi_shuffle8(table, vi_and(q[i], low));
        cells[i / 2 * 4 + i % 2 + 2] = vi_shuffle8(table, vi_and(vi_srl32(q[i], 4), low));
    }
}
#endif

#ifndef __x86_64__ /* there by the line: quant_rows_multiples.h, quant_rows_parts.h */
/* ------------------------------------------------------------------------------------------ */
/* One token                                                                                  */

/* Sums over a row's dwords [first, first + count) of what lies in memory, a row in each lane. */
INLINE vi sum_dwords(const source *rows, int first, const int count)
{
    vi total = vi_zero();
    EACH(i, count / 4)
    {
        vi four[4];
        load_quads(rows, (size_t)(4 * first + 16 * i), four);
        total = vi_add32(total, vi_add32(vi_add32(four[0], four[1]), vi_add32(four[2], four[3])));
    }
    return total;
}

/* Up to QUANT_LANES rows of a task, from `row` on. */
typedef struct row_group {
    const uint8_t *base;
    size_t stride, bytes; /* of a row, of a block */
    int rows;
    int64_t blocks;
} row_group;

static row_group group_of(const mixt_matrix_task *task, int64_t row)
{
    const mixt_matrix *matrix = task->matrix;
    const mixt_type_row *info = mixt_type_info(matrix->type);
    int64_t rows = task->row_end - row;
    return (row_group){(const uint8_t *)matrix->data + (size_t)row * matrix->row_bytes,
                       matrix->row_bytes, (size_t)info->bytes,
                       (int)(rows < QUANT_LANES ? rows : QUANT_LANES), matrix->k / info->elements};
}

INLINE vf rows_of_multiples(const mixt_matrix_task *task, int64_t row, mixt_type type)
{
    const row_group group = group_of(task, row);
    const mixt_grids *grids = mixt_grids_get();
    _Alignas(64) int16_t q[MIXT_STEP];
    _Alignas(64) int32_t dwords[QUANT_LANES][QUANT_LANES] = {{0}};
    const source transposed = {(const uint8_t *)dwords, sizeof dwords[0], NULL};
    float d[QUANT_LANES] = {0};
    vf sum = vf_set(0);
    for (int64_t step = 0; step < group.blocks; step++) {
        const mixt_q8_wide *x =
            (const void *)(task->activations + (size_t)step * task->activation_bytes);
        for (int lane = 0; lane < group.rows; lane++) {
            const uint8_t *block =
                group.base + (size_t)lane * group.stride + (size_t)step * group.bytes;
            d[lane] = mixt_decode_multiples(type, block, grids, &(mixt_decoded){.words = q});
            vw products = vw_zero();
            EACH(i, MIXT_STEP / 2 / QUANT_LANES)
            {
                products = vw_next(products, vi_load(q + 2 * QUANT_LANES * i),
                                   vi_load(x->q + 2 * QUANT_LANES * i));
            }
            vi total = vw_sum(products);
            memcpy(dwords[lane], &total, sizeof total);
        }
        sum = add_scaled(sum, vf_load(d), x->narrow.d[0], sum_dwords(&transposed, 0, QUANT_LANES));
    }
    return sum;
}

/* The same by parts of 32, whose halves have scales of their own. */
INLINE vf rows_of_parts(const mixt_matrix_task *task, int64_t row, mixt_type type)
{
    const row_group group = group_of(task, row);
    const mixt_grids *grids = mixt_grids_get();
    const int parts = mixt_type_info(type)->elements / 32;
    _Alignas(64) int16_t q[32];
    _Alignas(64) int32_t dwords[QUANT_LANES][16] = {{0}};
    const source transposed = {(const uint8_t *)dwords, sizeof dwords[0], NULL};
    float d[2][QUANT_LANES] = {{0}};
    vf sum = vf_set(0);
    for (int64_t at = 0; at < group.blocks * parts; at++) {
        const mixt_q8_wide *x = (const void *)(task->activations + (size_t)(at / MIXT_STEP_BLOCKS) *
                                                                       task->activation_bytes);
        const int16_t *words = x->q + at % MIXT_STEP_BLOCKS * 32;
        for (int lane = 0; lane < group.rows; lane++) {
            const uint8_t *block =
                group.base + (size_t)lane * group.stride + (size_t)(at / parts) * group.bytes;
            mixt_decode_part_words(type, block, (int)(at % parts), grids, q);
            EACH(half, 2) d[half][lane] = mixt_part_scale(type, block, (int)(at % parts), half);
            EACH(i, 16 / QUANT_LANES)
            {
                vi part = vw_sum(vw_next(vw_zero(), vi_load(q + 2 * QUANT_LANES * i),
                                         vi_load(words + 2 * QUANT_LANES * i)));
                memcpy(dwords[lane] + QUANT_LANES * i, &part, sizeof part);
            }
        }
        EACH(half, 2)
        {
            sum = add_scaled(sum, vf_load(d[half]), x->narrow.d[at % MIXT_STEP_BLOCKS],
                             sum_dwords(&transposed, 8 * half, 8));
        }
    }
    return sum;
}

#define ROWS_OF(type)                                                                              \
    case MIXT_TYPE_##type:                                                                         \
        return mixt_type_has_parts(MIXT_TYPE_##type)                                               \
                   ? rows_of_parts(task, row, MIXT_TYPE_##type)                                    \
                   : rows_of_multiples(task, row, MIXT_TYPE_##type)

static vf rows_of(const mixt_matrix_task *task, int64_t row)
{
    switch ((int)task->matrix->type) {
        ROWS_OF(IQ1_S);
        ROWS_OF(IQ1_M);
        ROWS_OF(IQ2_XXS);
        ROWS_OF(IQ2_XS);
        ROWS_OF(IQ2_S);
        ROWS_OF(IQ3_XXS);
        ROWS_OF(IQ3_S);
        ROWS_OF(TQ1_0);
        ROWS_OF(TQ2_0);
        ROWS_OF(NVFP4);
        ROWS_OF(Q1_0);
    default:
        ROWS_OF(Q2_0);
    }
}

/* One token times all rows of a task. */
static void multiply_multiples(const mixt_matrix_task *task)
{
    for (int64_t row = task->row_begin; row < task->row_end; row += QUANT_LANES) {
        float sums[QUANT_LANES];
        vf_store(sums, rows_of(task, row));
        for (int64_t i = 0; i < QUANT_LANES && row + i < task->row_end; i++) {
            float *c = task->c + row + i;
            *c = task->accumulate ? *c + sums[i] : sums[i];
        }
    }
}
#endif
