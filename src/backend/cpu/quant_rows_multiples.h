/* One token times rows of codebooks and ternary types (quant/multiples.h): their values become
 * bytes without sign, and activations are negated where values are negative. Included by
 * quant_rows.h. */

#define vi256_loadu(from) _mm256_loadu_si256((const __m256i *)(const void *)(from))

/* Dwords 0, 2, 4, ... and 1, 3, 5, ... of 64 bytes. */
INLINE void split_dwords(const uint8_t *from, __m256i *even, __m256i *odd)
{
    __m256 a = _mm256_castsi256_ps(vi256_loadu(from));
    __m256 b = _mm256_castsi256_ps(vi256_loadu(from + 32));
    __m256i x = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    __m256i y = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD));
    *even = _mm256_permute4x64_epi64(x, 0xD8);
    *odd = _mm256_permute4x64_epi64(y, 0xD8);
}

/* The low words of dwords below 2^15. */
INLINE __m128i low_words(__m256i x)
{
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08));
}

/* Bit 7 of each byte such that the number of its ones is even. */
INLINE __m256i with_even_ones(__m256i x)
{
    const __m128i four =
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    const __m256i odd = _mm256_broadcastsi128_si256(four), low = _mm256_set1_epi8(15);
    __m256i first = _mm256_shuffle_epi8(odd, _mm256_and_si256(x, low));
    __m256i second = _mm256_shuffle_epi8(odd, _mm256_and_si256(_mm256_srli_epi16(x, 4), low));
    return _mm256_or_si256(x, _mm256_xor_si256(first, second));
}

/* Sixteen scales of 16 values each, and the signs of 256 values, a bit each. */
typedef struct group_scales {
    __m128i bytes;
    uint8_t signs[MIXT_STEP / 8];
} group_scales;

INLINE void put_signs(group_scales *to, __m256i signs)
{
    _mm256_storeu_si256((__m256i *)(void *)to->signs, signs);
}

/* total + 64 products, part `part` of a block. */
INLINE line add_grid(line total, line grid, const group_scales *groups, line x, const int part)
{
    line scale = scales_of_part(signed_scales(groups->bytes), part);
    return line_scaled(total, line_dot(grid, line_negate(x, groups->signs + 8 * part)), scale);
}

/* Four times seven signs and above them a scale of four bits, in each dword: the eighth sign makes
 * their number even. */
INLINE group_scales scales_of_sevens(__m256i x)
{
    group_scales to;
    const __m256i seven = _mm256_set1_epi32(127);
    __m256i signs = _mm256_and_si256(x, seven);
    signs = _mm256_or_si256(signs,
                            _mm256_and_si256(_mm256_slli_epi32(x, 1), _mm256_slli_epi32(seven, 8)));
    signs = _mm256_or_si256(
        signs, _mm256_and_si256(_mm256_slli_epi32(x, 2), _mm256_slli_epi32(seven, 16)));
    signs = _mm256_or_si256(
        signs, _mm256_and_si256(_mm256_slli_epi32(x, 3), _mm256_slli_epi32(seven, 24)));
    put_signs(&to, with_even_ones(signs));
    __m256i scale = _mm256_srli_epi32(x, 28);
    scale = _mm256_add_epi32(_mm256_add_epi32(scale, scale), _mm256_set1_epi32(1));
    scale = _mm256_or_si256(scale, _mm256_slli_epi32(scale, 8)); /* of 32 values: twice */
    to.bytes = low_words(scale);
    return to;
}

/* 2 scale + 1 of sixteen scales of four bits. */
INLINE __m128i odd_nibbles(const uint8_t *from)
{
    __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)from), low = _mm_set1_epi8(15);
    x = _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
    return _mm_add_epi8(_mm_add_epi8(x, x), _mm_set1_epi8(1));
}

/* Each of sixteen words' bytes; the upper ones are 0. */
INLINE __m256i load_wide(const uint8_t *from)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE line line_of_iq2_xxs(const uint8_t *at, line x[4], const mixt_grids *grids)
{
    __m256i entries, words;
    uint8_t index[MIXT_STEP / 8];
    split_dwords(at + 2, &entries, &words);
    group_scales groups = scales_of_sevens(words);
    _mm256_storeu_si256((__m256i *)(void *)index, entries);
    line total = line_zero();
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)(index + 8 * i));
        line grid = line_of_eights(grids->iq2_xxs, _mm256_cvtepu8_epi32(eight));
        total = add_grid(total, grid, &groups, x[i], i);
    }
    return total;
}

/* total + what 32 entries of 8 values give, by indices in words. */
INLINE line products_of_eights(const int8_t (*grid)[8], const __m256i index[2],
                               const group_scales *groups, const line x[4])
{
    line total = line_zero();
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m128i eight = i % 2 == 0 ? _mm256_castsi256_si128(index[i / 2])
                                   : _mm256_extracti128_si256(index[i / 2], 1);
        line entries = line_of_eights(grid, _mm256_cvtepu16_epi32(eight));
        total = add_grid(total, entries, groups, x[i], i);
    }
    return total;
}

INLINE line line_of_iq2_xs(const uint8_t *at, line x[4], const mixt_grids *grids)
{
    const mixt_iq2_xs_block *block = (const void *)at;
    const __m256i first = vi256_loadu(at + 2), second = vi256_loadu(at + 34);
    const __m256i nine = _mm256_set1_epi16(511);
    const __m256i index[2] = {_mm256_and_si256(first, nine), _mm256_and_si256(second, nine)};
    group_scales groups = {.bytes = odd_nibbles(block->scales)};
    __m256i signs = _mm256_packus_epi16(_mm256_srli_epi16(first, 9), _mm256_srli_epi16(second, 9));
    put_signs(&groups, with_even_ones(_mm256_permute4x64_epi64(signs, 0xD8)));
    return products_of_eights(grids->iq2_xs, index, &groups, x);
}

INLINE line line_of_iq2_s(const uint8_t *at, line x[4], const mixt_grids *grids)
{
    const mixt_iq2_s_block *block = (const void *)at;
    const __m256i power = _mm256_set1_epi64x(0x0004001000400100),
                  high_bits = _mm256_set1_epi16(0x300);
    /* a byte of `high` for four words each */
    const __m128i high = _mm_loadl_epi64((const __m128i *)(const void *)block->high);
    const __m128i four = _mm_setr_epi8(0, -1, 0, -1, 0, -1, 0, -1, 1, -1, 1, -1, 1, -1, 1, -1);
    const __m128i two = _mm_set1_epi16(2);
    __m256i index[2];
    UNROLL for (int i = 0; i < 2; i++)
    {
        __m128i pick = i == 0 ? four : _mm_add_epi8(four, _mm_set1_epi16(4));
        __m256i bits = _mm256_set_m128i(_mm_shuffle_epi8(high, _mm_add_epi8(pick, two)),
                                        _mm_shuffle_epi8(high, pick));
        bits = _mm256_and_si256(_mm256_mullo_epi16(bits, power), high_bits);
        index[i] = _mm256_or_si256(load_wide(block->q + 16 * i), bits);
    }
    group_scales groups = {.bytes = odd_nibbles(block->scales)};
    memcpy(groups.signs, block->signs, sizeof groups.signs);
    return products_of_eights(grids->iq2_s, index, &groups, x);
}

INLINE line line_of_iq3_xxs(const uint8_t *at, line x[4], const mixt_grids *grids)
{
    group_scales groups = scales_of_sevens(vi256_loadu(at + 66));
    line total = line_zero();
    UNROLL for (int i = 0; i < 4; i++)
    {
        line grid = line_of_fours(grids->iq3_xxs, at + 2 + 16 * i, 0);
        total = add_grid(total, grid, &groups, x[i], i);
    }
    return total;
}

INLINE line line_of_iq3_s(const uint8_t *at, line x[4], const mixt_grids *grids)
{
    const mixt_iq3_s_block *block = (const void *)at;
    group_scales groups;
    uint8_t doubled[8]; /* a scale is of 32 values */
    for (int i = 0; i < 4; i++) {
        doubled[2 * i] = (uint8_t)((block->scales[i] & 15) * 17);
        doubled[2 * i + 1] = (uint8_t)((block->scales[i] >> 4) * 17);
    }
    groups.bytes = odd_nibbles(doubled);
    memcpy(groups.signs, block->signs, sizeof groups.signs);
    line total = line_zero();
    UNROLL for (int i = 0; i < 4; i++)
    {
        unsigned high = block->high[2 * i] | (unsigned)block->high[2 * i + 1] << 8;
        line grid = line_of_fours(grids->iq3_s, block->q + 16 * i, high);
        total = add_grid(total, grid, &groups, x[i], i);
    }
    return total;
}

/* Values of IQ1 are scale (8 g + 1) or scale (8 g - 1), g = -1, 0, 1; as bytes they are 9 larger.
 * The entries, and whether one is added (a bit each), of 64 values. */
INLINE line line_of_ones(const int8_t (*grid)[8], const uint16_t index[8], unsigned added)
{
    int32_t wide[8];
    UNROLL for (int i = 0; i < 8; i++)
    {
        wide[i] = index[i];
    }
    line g = line_of_eights(grid, vi256_loadu(wide));
    g = line_sub8(g, line_bytes(-1));
    g = line_add8(g, g);
    g = line_add8(g, g);
    g = line_add8(g, g);
    return line_add8(g, line_of_twos(added));
}

INLINE line products_of_ones(const int8_t (*grid)[8], const uint16_t index[32], uint32_t added,
                             __m128i scales, const line x[4])
{
    line total = line_zero();
    UNROLL for (int i = 0; i < 4; i++)
    {
        line w = line_of_ones(grid, index + 8 * i, added >> 8 * i & 255);
        line scale = scales_of_part(signed_scales(scales), i);
        total = line_scaled(total, line_dot(w, x[i]), scale);
    }
    return total;
}

INLINE line line_of_iq1_s(const uint8_t *at, line x[4], __m256i shift, const mixt_grids *grids)
{
    const mixt_iq1_s_block *block = (const void *)at;
    uint16_t index[32];
    uint32_t added = 0;
    _Alignas(16) uint8_t scales[16];
    UNROLL for (int i = 0; i < 8; i++)
    {
        unsigned high = block->high[i];
        UNROLL for (int j = 0; j < 4; j++)
        {
            index[4 * i + j] = (uint16_t)(block->q[4 * i + j] | (high >> 3 * j & 7) << 8);
        }
        added |= (high >> 15 == 0 ? 15U : 0U) << 4 * i;
        scales[2 * i] = scales[2 * i + 1] = (uint8_t)((high >> 12 & 7) * 2 + 1);
    }
    __m128i bytes = _mm_load_si128((const __m128i *)(const void *)scales);
    line total = products_of_ones(grids->iq1, index, added, bytes, x);
    return line_add32(total, scales_times(bytes, shift));
}

INLINE line line_of_iq1_m(const uint8_t *at, line x[4], __m256i shift, const mixt_grids *grids)
{
    const mixt_iq1_m_block *block = (const void *)at;
    uint16_t index[32];
    uint32_t added = 0;
    _Alignas(16) uint8_t scales[16];
    UNROLL for (int i = 0; i < 16; i++)
    {
        unsigned high = block->high[i];
        index[2 * i] = (uint16_t)(block->q[2 * i] | (high & 7) << 8);
        index[2 * i + 1] = (uint16_t)(block->q[2 * i + 1] | (high >> 4 & 7) << 8);
        added |= ((~high >> 3 & 1) | (~high >> 6 & 2)) << 2 * i;
        scales[i] = (uint8_t)((block->scales[i / 4] >> i % 4 * 3 & 7) * 2 + 1);
    }
    __m128i bytes = _mm_load_si128((const __m128i *)(const void *)scales);
    line total = products_of_ones(grids->iq1, index, added, bytes, x);
    return line_add32(total, scales_times(bytes, shift));
}

/* Digits of base 3, highest first, of bytes that were multiplied by a power of 3: whether three
 * times the byte reaches 256, and 512. */
INLINE line digits_of(line bytes, line powers)
{
    const line low = line_words(255), one = line_bytes(1);
    line even = line_mullo16(line_and(bytes, low), line_and(powers, low));
    line odd = line_mullo16(line_srl16(bytes, 8), line_srl16(powers, 8));
    line y = line_or(line_and(even, low), line_sll16(odd, 8));
    return line_add8(line_min_u8(line_subs_u8(y, line_bytes(85)), one),
                     line_min_u8(line_subs_u8(y, line_bytes(170)), one));
}

INLINE line line_of_tq1_0(const uint8_t *at, line x[4])
{
    const line low_powers = line_two(BYTES(1), BYTES(3)), next = line_two(BYTES(9), BYTES(27));
    const line third = line_quarters(BYTES(81), BYTES(81), BYTES(1), BYTES(3));
    const line last = line_quarters(BYTES(9), BYTES(27), BYTES(81), 0);
    const line rest = line_last_quarter(0x01010101, 0x03030303, 0x09090909, 0x1B1B1B1B);
    line first = line_twice(at), middle = line_table(at + 32);
    line end = line_with_last(middle, at + 48);
    line total = line_products(digits_of(first, low_powers), x[0], digits_of(first, next), x[1]);
    line both = line_with_first(middle, at);
    return line_add32(total, line_products(digits_of(both, third), x[2],
                                           digits_of(end, line_or(last, rest)), x[3]));
}

/* ------------------------------------------------------------------------------------------ */
/* Steps                                                                                      */

/* Lines of all rows, of a type's function with what it wants. */
#define STEP_OF_LINES(name, block, call)                                                           \
    INLINE vi name(rows *from, const mixt_q8 *x)                                                   \
    {                                                                                              \
        line lines[QUANT_LANES];                                                                   \
        line values[4] = {line_load(x->q), line_load(x->q + 64), line_load(x->q + 128),            \
                          line_load(x->q + 192)};                                                  \
        const mixt_grids *grids = mixt_grids_get();                                                \
        /* what scales of IQ1 are multiplied by for the 9 that values are too large */             \
        const __m256i shift = _mm256_mullo_epi16(vi256_loadu(x->sums), _mm256_set1_epi16(-9));     \
        (void)grids;                                                                               \
        (void)shift;                                                                               \
        for (int i = 0; i < QUANT_LANES; i++) {                                                    \
            const uint8_t *at = from->at[i];                                                       \
            fetch_next(from, sizeof(block));                                                       \
            lines[i] = call;                                                                       \
        }                                                                                          \
        return sum_lines(lines);                                                                   \
    }
STEP_OF_LINES(sums_iq1_s, mixt_iq1_s_block, line_of_iq1_s(at, values, shift, grids))
STEP_OF_LINES(sums_iq1_m, mixt_iq1_m_block, line_of_iq1_m(at, values, shift, grids))
STEP_OF_LINES(sums_iq2_xxs, mixt_iq2_xxs_block, line_of_iq2_xxs(at, values, grids))
STEP_OF_LINES(sums_iq2_xs, mixt_iq2_xs_block, line_of_iq2_xs(at, values, grids))
STEP_OF_LINES(sums_iq2_s, mixt_iq2_s_block, line_of_iq2_s(at, values, grids))
STEP_OF_LINES(sums_iq3_xxs, mixt_iq3_xxs_block, line_of_iq3_xxs(at, values, grids))
STEP_OF_LINES(sums_iq3_s, mixt_iq3_s_block, line_of_iq3_s(at, values, grids))
STEP_OF_LINES(sums_tq1_0, mixt_tq1_0_block, line_of_tq1_0(at, values))

/* With the scale that comes first, times a power of two. */
#define STEP_OF_SUMS(name, call, factor)                                                           \
    INLINE vf name(rows *from, const mixt_q8 *x, vf sum)                                           \
    {                                                                                              \
        vi total = call(from, x);                                                                  \
        vf d = vf_multiply(halves_of_rows(from->at, 0), vf_set(factor));                           \
        return add_scaled(sum, d, x->d[0], total);                                                 \
    }
STEP_OF_SUMS(step_iq1_s, sums_iq1_s, 0.125F)
STEP_OF_SUMS(step_iq2_xxs, sums_iq2_xxs, 0.125F)
STEP_OF_SUMS(step_iq2_xs, sums_iq2_xs, 0.125F)
STEP_OF_SUMS(step_iq2_s, sums_iq2_s, 0.125F)
STEP_OF_SUMS(step_iq3_xxs, sums_iq3_xxs, 0.25F)
STEP_OF_SUMS(step_iq3_s, sums_iq3_s, 1.0F)

INLINE vf step_iq1_m(rows *from, const mixt_q8 *x, vf sum)
{
    vi total = sums_iq1_m(from, x);
    uint32_t half[QUANT_LANES];
    for (int i = 0; i < QUANT_LANES; i++) {
        half[i] = mixt_iq1_m_half((const mixt_iq1_m_block *)(const void *)from->at[i]);
    }
    return add_scaled(sum, vf_multiply(vf_half(vi_loadu(half)), vf_set(0.125F)), x->d[0], total);
}

INLINE int sum_of_step(const mixt_q8 *x)
{
    int sum = 0;
    for (int i = 0; i < MIXT_STEP_BLOCKS; i++) {
        sum += x->totals[i];
    }
    return sum;
}

INLINE vf step_tq1_0(rows *from, const mixt_q8 *x, vf sum)
{
    vi total = vi_sub32(sums_tq1_0(from, x), vi_set32(sum_of_step(x)));
    return add_scaled(sum, halves_of_rows(from->at, 52), x->d[0], total);
}

INLINE vf step_tq2_0(rows *from, const mixt_q8 *x, vf sum)
{
    line lines[QUANT_LANES];
    const line three = line_bytes(3);
    const two_lines values = load_twos(x);
    for (int i = 0; i < QUANT_LANES; i++) {
        const line q = line_load(from->at[i]);
        fetch_next(from, sizeof(mixt_tq2_0_block));
        line first = line_products(line_and(q, three), values.x[0],
                                   line_and(line_srl16(q, 2), three), values.x[1]);
        line second = line_products(line_and(line_srl16(q, 4), three), values.x[2],
                                    line_and(line_srl16(q, 6), three), values.x[3]);
        lines[i] = line_add32(first, second);
    }
    vi total = vi_sub32(sum_lines(lines), vi_set32(sum_of_step(x)));
    return add_scaled(sum, halves_of_rows(from->at, 64), x->d[0], total);
}
