/* One token times rows of types whose halves of 32 values have their own places in the chain
 * (NVFP4, Q1_0, Q2_0): sums of 16 values of each row. Included by quant_rows.h. */

#define STEP_HALVES (MIXT_STEP / 16)

/* sum + what the first `halves` groups of 16 values give: products less `shift` times the sums of
 * activations, times the scales of a group of each row. */
#define CHAIN_HALVES(sum, halves, products, shift, scales)                                         \
    for (int i = 0; i < (halves); i++) {                                                           \
        vi total = vi_sub32((products)[i], vi_set32((shift)*x->sums[i]));                          \
        sum = add_scaled(sum, scales, x->d[i / 2], total);                                         \
    }

/* The halves that `count` blocks of a step begin with. */
INLINE void halves_of_parts(const rows *from, const size_t bytes, const int count, vf *d)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        d[i] = halves_of_rows(from->at, (size_t)i * bytes);
    }
}

INLINE vf step_nvfp4(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const size_t bytes = sizeof(mixt_nvfp4_block);
    const line table = line_sub8(line_table(mixt_mxfp4_values), line_bytes(-12));
    const line low = line_bytes(15);
    vi products[STEP_HALVES], scales[4];
    for (int pair = 0; pair < 2; pair++) {
        line lines[QUANT_LANES];
        const line even = line_even_eights(x->q + 128 * pair);
        const line odd = line_odd_eights(x->q + 128 * pair);
        for (int i = 0; i < QUANT_LANES; i++) {
            const uint8_t *at = from->at[i] + 2 * bytes * (size_t)pair + 4;
            fetch_next(from, 2 * bytes);
            line q = line_of_halves(at, at + bytes);
            lines[i] = line_products(line_shuffle8(table, LOW_HALVES(q)), even,
                                     line_shuffle8(table, HIGH_HALVES(q)), odd);
        }
        sum_eighths(lines, products + 8 * pair);
    }
    for (int i = 0; i < 4; i++) {
        scales[i] = dwords_of_rows(from->at, bytes * (size_t)i);
    }
    CHAIN_HALVES(sum, 2 * blocks, products, 12,
                 nvfp4_scales(vi_and(vi_srl32(scales[i / 4], i % 4 * 8), vi_set32(255))));
    return sum;
}

/* Values 4 i, 4 i + 1, ... of a step lie in a byte: activations likewise, one line for each two
 * bits of the bytes. */
INLINE vf step_q2_0(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    line lines[QUANT_LANES], values[4];
    const line three = line_bytes(3);
    UNROLL for (int j = 0; j < 4; j++)
    {
        values[j] = line_load(from->spread + 64 * j);
    }
    for (int i = 0; i < QUANT_LANES; i++) {
        line q = line_of_quarters(from->at[i] + 2, sizeof(mixt_q2_0_block));
        fetch_next(from, 4 * sizeof(mixt_q2_0_block));
        line first = line_products(line_and(q, three), values[0], line_and(line_srl16(q, 2), three),
                                   values[1]);
        line second = line_products(line_and(line_srl16(q, 4), three), values[2],
                                    line_and(line_srl16(q, 6), three), values[3]);
        lines[i] = line_add32(first, second);
    }
    /* a dword for each 16 values */
    const source transposed = {(const uint8_t *)lines, sizeof lines[0], NULL};
    vi products[STEP_HALVES];
    UNROLL for (int i = 0; i < 4; i++)
    {
        load_quads(&transposed, (size_t)(16 * i), products + 4 * i);
    }
    vf d[4];
    halves_of_parts(from, sizeof(mixt_q2_0_block), 4, d);
    CHAIN_HALVES(sum, 2 * blocks, products, 1, d[i / 4]);
    return sum;
}

/* Values 8 i, 8 i + 1, ... lie in a byte: 32 bytes twice, the second time for the upper four bits.
 * A value is d or -d. */
INLINE vf step_q1_0(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    _Alignas(64) int16_t words[QUANT_LANES][STEP_HALVES]; /* a word for each 16 values */
    line values[4];
    const line one = line_bytes(1);
    UNROLL for (int j = 0; j < 4; j++)
    {
        values[j] = line_load(from->spread + 64 * j);
    }
    for (int i = 0; i < QUANT_LANES; i++) {
        const uint8_t *at = from->at[i] + 2;
        fetch_next(from, 2 * sizeof(mixt_q1_0_block));
        __m256i both =
            _mm256_loadu2_m128i((const void *)(at + sizeof(mixt_q1_0_block)), (const void *)at);
        line q = line_rotate(line_same(both), 0, 60);
        line total = line_maddubs(line_and(q, one), values[0]);
        UNROLL for (int j = 1; j < 4; j++)
        {
            total = line_add16(total, line_maddubs(line_and(line_srl16(q, j), one), values[j]));
        }
        _mm256_store_si256((__m256i *)(void *)words[i], add_words_of_halves(total));
    }
    const source transposed = {(const uint8_t *)words, sizeof words[0], NULL};
    vi products[STEP_HALVES];
    UNROLL for (int i = 0; i < 2; i++)
    {
        vi pairs[4];
        load_quads(&transposed, (size_t)(16 * i), pairs);
        UNROLL for (int j = 0; j < 4; j++)
        {
            vi first = vi_sra32(vi_sll32(pairs[j], 16), 16), second = vi_sra32(pairs[j], 16);
            products[8 * i + 2 * j] = vi_add32(first, first);
            products[8 * i + 2 * j + 1] = vi_add32(second, second);
        }
    }
    vf d[2];
    halves_of_parts(from, sizeof(mixt_q1_0_block), 2, d);
    CHAIN_HALVES(sum, 2 * blocks, products, 1, d[i / 8]);
    return sum;
}

/* Bytes of k that are spread at most: behind copies of steps, in a thread's scratch. */
#define SPREAD_MOST                                                                                \
    ((int64_t)(MIXT_MATRIX_SCRATCH - QUANT_LANES * STEP_BYTES_MAX) / MIXT_STEP * MIXT_STEP)

/* How many values a byte holds, for whose order activations are spread; else 0. */
static int values_of_byte(mixt_type type)
{
    const bool coded = type >= MIXT_TYPE_IQ1_S && type <= MIXT_TYPE_IQ3_S;
    return type == MIXT_TYPE_Q1_0 ? 8 : coded || type == MIXT_TYPE_Q2_0 ? 4 : 0;
}

/* Byte i of line j is value 4 i + j. */
static void spread_by_four(const int8_t *q, int8_t *to)
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int part = 0; part < 4; part++) {
        __m128i x[4];
        for (int i = 0; i < 4; i++) {
            const int8_t *at = q + 64 * part + 16 * i;
            x[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)at), order);
        }
        __m128i low01 = _mm_unpacklo_epi32(x[0], x[1]), low23 = _mm_unpacklo_epi32(x[2], x[3]);
        __m128i high01 = _mm_unpackhi_epi32(x[0], x[1]), high23 = _mm_unpackhi_epi32(x[2], x[3]);
        __m128i *out = (void *)(to + 16 * part);
        _mm_storeu_si128(out, _mm_unpacklo_epi64(low01, low23));
        _mm_storeu_si128(out + 4, _mm_unpackhi_epi64(low01, low23));
        _mm_storeu_si128(out + 8, _mm_unpacklo_epi64(high01, high23));
        _mm_storeu_si128(out + 12, _mm_unpackhi_epi64(high01, high23));
    }
}

/* Bits 0 to 3 of 32 bytes of Q1_0, then bits 4 to 7. */
static void spread_by_eight(const int8_t *q, int8_t *to)
{
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < 32; i++) {
            to[j % 4 * 64 + j / 4 * 32 + i] = q[8 * i + j];
        }
    }
}

/* Activations in the order in which bytes hold their values. */
static void spread_activations(const mixt_matrix_task *task, int8_t *to)
{
    const bool eight = values_of_byte(task->matrix->type) == 8;
    for (int64_t step = 0; step * MIXT_STEP < task->matrix->k; step++, to += MIXT_STEP) {
        const mixt_q8 *x =
            (const void *)(task->activations + (size_t)step * task->activation_bytes);
        if (eight) {
            spread_by_eight(x->q, to);
        } else {
            spread_by_four(x->q, to);
        }
    }
}
