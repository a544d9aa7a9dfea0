/* One token times rows of codebooks and ternary types (quant/multiples.h): their values become
 * bytes without sign, and activations are negated where values are negative. Entries of codebooks
 * are looked up as codes of two or four bits a value, so that the tables are small. Included by
 * quant_rows.h. */

/* Values of codebooks lie in the order of their codes: byte b of line j is value 4 b + j of a
 * block, and so a dword belongs to 16 values; activations were spread likewise. */

/* A scale for each 16 values, as it multiplies dwords of products. */
#ifdef QUANT_DOTS
#define scale_words(x) line_dwords4(x, x, x, x)
#define SCALE_FROM(b) (int)((uint32_t)(b) | 0x80808000U)
#else
#define scale_words(x) line_words((short)(x))
#define SCALE_FROM(b) (int)((uint32_t)(b)*0x00010001U | 0x80008000U)
#endif

/* Products of 256 magnitudes, of whose signs byte b has four in its upper half. */
INLINE line signed_products(const line w[4], line signs, line scales, const int8_t *spread)
{
    line x[4];
    UNROLL for (int j = 0; j < 4; j++)
    {
        x[j] = line_negate(line_load(spread + 64 * j), signs, j);
    }
#ifdef QUANT_DOTS
    line dots = vi_dot4(vi_dot4(line_zero(), w[0], x[0]), w[1], x[1]);
    return line_mullo32(vi_dot4(vi_dot4(dots, w[2], x[2]), w[3], x[3]), scales);
#else /* two of 62 x 127 and two more fit 16 bits */
    line first = line_add16(line_maddubs(w[0], x[0]), line_maddubs(w[1], x[1]));
    line second = line_add16(line_maddubs(w[2], x[2]), line_maddubs(w[3], x[3]));
    return line_add32(line_madd(first, scales), line_madd(second, scales));
#endif
}

/* Signs of eight values, a word each, as signed_products has them: bits 8 to 15 of `upper` are the
 * last four of a word, bits 4 to 7 of `lower` its first four. Other bits may be anything, but each
 * byte is odd. */
INLINE line spread_signs(line upper, line lower, line odd)
{
    return line_or(line_or(upper, odd), line_and(lower, line_words(0xF0)));
}

/* Of seven signs from bit 8 on of each word; the eighth makes their number even. */
INLINE line spread_sevens(line x)
{
    const line parity = line_dwords4((int)0x01818101, (int)0x81010181, (int)0x81010181, 0x01818101);
    x = line_and(x, line_words(0x7F00));
    line lower = line_srl16(x, 4);
    line odd = line_shuffle8(parity, line_and(line_xor(x, lower), line_words(0x0F00)));
    return spread_signs(x, lower, odd);
}

/* Of eight signs in the low byte of each word. */
INLINE line spread_eights(line x)
{
    return spread_signs(line_sll16(x, 8), line_sll16(x, 4), line_words(0x0101));
}

/* Signs and scales of eights of groups of 32, which take a dword from byte `at` on of every eight:
 * seven signs of four eights and, above them, a scale of four bits. */
INLINE line signs_of_sevens(line x, const int at)
{
    const line words = line_dwords4(0x01000100 + BYTES(at), 0x03020201 + BYTES(at),
                                    0x09080908 + BYTES(at), 0x0B0A0A09 + BYTES(at));
    const line powers = line_dwords4(0x00020100, 0x00080004, 0x00020100, 0x00080004);
    return spread_sevens(line_mullo16(line_shuffle8(x, words), powers));
}

/* 2 scale + 1, where bits 3 to 6 of words (of dwords: QUANT_DOTS) are 0, 0, .. or the scale. */
INLINE line odd_scales(line x, const int mask)
{
    return line_or(line_and(line_srl16(x, 3), scale_words(mask)), scale_words(1));
}

INLINE line scales_of_sevens(line x, const int at)
{
    const int first = SCALE_FROM(at + 3), second = SCALE_FROM(at + 11);
    return odd_scales(line_shuffle8(x, line_dwords4(first, first, second, second)), 0x1E);
}

/* Four bytes of two scales each, as eight where each scale is there twice. */
INLINE __m128i nibbles_twice(const uint8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    __m128i x = _mm_cvtsi32_si128(four), high = _mm_set1_epi8((char)0xF0);
    __m128i first = _mm_andnot_si128(high, x), second = _mm_and_si128(x, high);
    first = _mm_or_si128(first, _mm_slli_epi16(first, 4));
    second = _mm_or_si128(second, _mm_srli_epi16(second, 4));
    return _mm_unpacklo_epi8(first, second);
}

/* 2 scale + 1 of sixteen scales of four bits. */
INLINE line scales_of_nibbles(__m128i x)
{
    const __m128i low = _mm_set1_epi8(15);
    x = _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
    return line_of_scales(_mm_add_epi8(_mm_add_epi8(x, x), _mm_set1_epi8(1)));
}

/* Four of eight values, two bits each, of which the table has the magnitudes. */
INLINE void put_twos(line codes, line w[4])
{
    const line low = line_bytes(15);
    const line even = line_dwords4(0x002B1908, 0x002B1908, 0x002B1908, 0x002B1908);
    const line odd = line_dwords4(BYTES(8), BYTES(25), BYTES(43), 0);
    line first = LOW_HALVES(codes), second = HIGH_HALVES(codes);
    w[0] = line_shuffle8(even, first);
    w[1] = line_shuffle8(odd, first);
    w[2] = line_shuffle8(even, second);
    w[3] = line_shuffle8(odd, second);
}

/* Words of four values, four bits each with the highest zero: of entries 0 to 7, 16 to 23, ... and
 * of the others. */
INLINE void put_threes(const line codes[2], line table, line w[4])
{
    const line low = line_words(255);
    line first = line_pack16(line_and(codes[0], low), line_and(codes[1], low));
    line second = line_pack16(line_srl16(codes[0], 8), line_srl16(codes[1], 8));
    w[0] = line_shuffle8(table, first);
    w[1] = line_shuffle8(table, line_srl16(first, 4));
    w[2] = line_shuffle8(table, second);
    w[3] = line_shuffle8(table, line_srl16(second, 4));
}

/* ------------------------------------------------------------------------------------------ */
/* IQ2 and IQ3: the codes of all rows, then their products                                     */

/* What a byte of `high` has for four words each: two bits to bit 8. */
INLINE line tenth_bits(const uint8_t *high)
{
    const line four =
        line_dwords4((int)0x80008000, (int)0x80008000, (int)0x80088008, (int)0x80088008);
    const line powers = line_dwords4(0x00400100, 0x00040010, 0x00400100, 0x00040010);
    line x = line_mullo16(line_shuffle8(line_qwords_of_bytes(high), four), powers);
    return line_and(x, line_words(0x300));
}

/* Codes of 32 entries of eight values. */
INLINE void codes_of_eights(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                            line *codes)
{
    if (type == MIXT_TYPE_IQ2_XXS) {
        const line bytes =
            line_dwords4((int)0x80018000, (int)0x80038002, (int)0x80098008, (int)0x800B800A);
        line index = line_shuffle8(line_load(at + 2), bytes);
        codes[0] = line_look_up(grids->iq2_xxs_codes, 256, index);
    } else if (type == MIXT_TYPE_IQ2_XS) {
        line index = line_and(line_load(at + 2), line_words(511));
        codes[0] = line_look_up(grids->iq2_xs_codes, 512, index);
    } else {
        const mixt_iq2_s_block *block = (const void *)at;
        line index = line_or(line_wide(block->q), tenth_bits(block->high));
        codes[0] = line_look_up(grids->iq2_s_codes, 1024, index);
    }
}

/* What a byte of `high` has for the eight words of a quarter, a bit each, to bit 8; `odd`: the
 * second byte for the quarter. */
INLINE line ninth_bits(const uint8_t *high, const bool odd)
{
    const int more = odd ? 0x00010001 : 0;
    const line bytes = line_quarters((int)0x80008000 + more, (int)0x80028002 + more,
                                     (int)0x80048004 + more, (int)0x80068006 + more);
    const line powers = line_dwords4(0x00800100, 0x00200040, 0x00080010, 0x00020004);
    line x = line_mullo16(line_shuffle8(line_broadcast64(high), bytes), powers);
    return line_and(x, line_words(0x100));
}

/* Codes of 64 entries of four values: of the first eight of each sixteen, and of the others. */
INLINE void codes_of_fours(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                           line codes[2])
{
    line q = line_load(at + 2), first = line_unpack_low8(q), second = line_unpack_high8(q);
    if (type == MIXT_TYPE_IQ3_XXS) {
        codes[0] = line_look_up(grids->iq3_xxs_codes, 256, first);
        codes[1] = line_look_up(grids->iq3_xxs_codes, 256, second);
        return;
    }
    const uint8_t *high = ((const mixt_iq3_s_block *)(const void *)at)->high;
    codes[0] = line_look_up(grids->iq3_s_codes, 512, line_or(first, ninth_bits(high, false)));
    codes[1] = line_look_up(grids->iq3_s_codes, 512, line_or(second, ninth_bits(high, true)));
}

INLINE line line_of_twos(const mixt_type type, const uint8_t *at, const line codes[1],
                         const int8_t *spread)
{
    line w[4], signs, scales;
    put_twos(codes[0], w);
    if (type == MIXT_TYPE_IQ2_XXS) {
        line q = line_load(at + 2);
        signs = signs_of_sevens(q, 4);
        scales = scales_of_sevens(q, 4);
    } else if (type == MIXT_TYPE_IQ2_XS) {
        signs = spread_sevens(line_srl16(line_load(at + 2), 1));
        scales = scales_of_nibbles(_mm_loadl_epi64((const void *)(at + 66)));
    } else {
        signs = spread_eights(line_wide(((const mixt_iq2_s_block *)(const void *)at)->signs));
        scales = scales_of_nibbles(_mm_loadl_epi64((const void *)(at + 74)));
    }
    return signed_products(w, signs, scales, spread);
}

INLINE line line_of_threes(const mixt_type type, const uint8_t *at, const line codes[2],
                           const int8_t *spread)
{
    static const int8_t even[16] = {4, 12, 20, 28, 36, 44, 52, 62};
    static const int8_t odd[16] = {1, 3, 5, 7, 9, 11, 13, 15};
    line w[4], signs, scales;
    put_threes(codes, line_table(type == MIXT_TYPE_IQ3_XXS ? even : odd), w);
    if (type == MIXT_TYPE_IQ3_XXS) {
        line x = line_qwords_of_dwords(at + 66);
        signs = signs_of_sevens(x, 0);
        scales = scales_of_sevens(x, 0);
    } else {
        const mixt_iq3_s_block *block = (const void *)at;
        signs = spread_eights(line_wide(block->signs));
        scales = scales_of_nibbles(nibbles_twice(block->scales));
    }
    return signed_products(w, signs, scales, spread);
}

/* Sums of a step. */
#define STEP_OF_CODES(name, type, block, look_up, call)                                            \
    INLINE vi name(rows *from)                                                                     \
    {                                                                                              \
        line lines[QUANT_LANES];                                                                   \
        const mixt_grids *grids = mixt_grids_get();                                                \
        for (int i = 0; i < QUANT_LANES; i++) {                                                    \
            line codes[2];                                                                         \
            fetch_next(from, sizeof(block));                                                       \
            look_up(type, from->at[i], grids, codes);                                              \
            lines[i] = call(type, from->at[i], codes, from->spread);                               \
        }                                                                                          \
        return sum_lines(lines);                                                                   \
    }
STEP_OF_CODES(sums_iq2_xxs, MIXT_TYPE_IQ2_XXS, mixt_iq2_xxs_block, codes_of_eights, line_of_twos)
STEP_OF_CODES(sums_iq2_xs, MIXT_TYPE_IQ2_XS, mixt_iq2_xs_block, codes_of_eights, line_of_twos)
STEP_OF_CODES(sums_iq2_s, MIXT_TYPE_IQ2_S, mixt_iq2_s_block, codes_of_eights, line_of_twos)
STEP_OF_CODES(sums_iq3_xxs, MIXT_TYPE_IQ3_XXS, mixt_iq3_xxs_block, codes_of_fours, line_of_threes)
STEP_OF_CODES(sums_iq3_s, MIXT_TYPE_IQ3_S, mixt_iq3_s_block, codes_of_fours, line_of_threes)

/* ------------------------------------------------------------------------------------------- */
/* IQ1: scale (8 g + 1) or scale (8 g - 1), g = -1, 0, 1; codes are g + 1                       */

/* The words of `high` that four entries of IQ1_S share, and the bytes that two of IQ1_M do. */
INLINE line highs_of_ones(const mixt_type type, const uint8_t *at)
{
    if (type == MIXT_TYPE_IQ1_S) {
        const line four = line_dwords4(0x01000100, 0x01000100, 0x09080908, 0x09080908);
        return line_shuffle8(line_qwords_of_words(at + 34), four);
    }
    const line two =
        line_dwords4((int)0x80008000, (int)0x80048004, (int)0x80088008, (int)0x800C800C);
    return line_shuffle8(line_dwords_of_bytes(at + 32), two);
}

INLINE void codes_of_ones(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                          line *codes)
{
    const bool s = type == MIXT_TYPE_IQ1_S;
    const line by_four = line_dwords4(0x00400200, 0x00010008, 0x00400200, 0x00010008);
    const line by_two = line_dwords4(0x00200200, 0x00200200, 0x00200200, 0x00200200);
    line high = line_mullo16(highs_of_ones(type, at), s ? by_four : by_two);
    high = line_srl16(line_and(high, line_words(0x0E00)), 1);
    codes[0] = line_look_up(grids->iq1_codes, 2048, line_or(line_wide(at + (s ? 2 : 0)), high));
}

/* Sums of the activations of eight values, in words. */
INLINE line sums_of_eights(const int8_t *spread)
{
    line sums = line_maddubs(line_bytes(1), line_load(spread));
    UNROLL for (int j = 1; j < 4; j++)
    {
        sums = line_add16(sums, line_maddubs(line_bytes(1), line_load(spread + 64 * j)));
    }
    return sums;
}

INLINE line line_of_ones(const mixt_type type, const uint8_t *at, const line codes[1],
                         const int8_t *spread)
{
    const line three = line_bytes(3);
    line high = highs_of_ones(type, at), less, scales, dots;
    if (type == MIXT_TYPE_IQ1_S) {
        less = line_sra16(high, 15);
        scales = line_srl16(high, 11);
    } else {
        const line powers = line_dwords4(0x01001000, 0x01001000, 0x01001000, 0x01001000);
        const line words = line_quarters(0x01000100, 0x03020302, 0x05040504, 0x07060706);
        const line places = line_dwords4(0x02000200, 0x00400040, 0x00080008, 0x00010001);
        less = line_sra16(line_mullo16(high, powers), 15);
        scales = line_shuffle8(line_broadcast64(at + 48), words);
        scales = line_srl16(line_mullo16(scales, places), 8);
    }
    scales = line_or(line_and(scales, line_words(0x0E)), line_words(1));
    /* 8 g + 1 is 8 (g + 1) - 7, 8 g - 1 two less */
    less = line_add16(line_add16(less, less), line_words(-7));
    dots = line_maddubs(line_and(codes[0], three), line_load(spread));
    UNROLL for (int j = 1; j < 4; j++)
    {
        line w = line_and(line_srl16(codes[0], 2 * j), three);
        dots = line_add16(dots, line_maddubs(w, line_load(spread + 64 * j)));
    }
    line total = line_scaled(line_zero(), dots, line_sll16(scales, 3));
    return line_scaled(total, line_mullo16(less, scales), sums_of_eights(spread));
}

STEP_OF_CODES(sums_iq1_s, MIXT_TYPE_IQ1_S, mixt_iq1_s_block, codes_of_ones, line_of_ones)
STEP_OF_CODES(sums_iq1_m, MIXT_TYPE_IQ1_M, mixt_iq1_m_block, codes_of_ones, line_of_ones)

/* ------------------------------------------------------------------------------------------ */
/* Ternary types                                                                               */

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

INLINE line line_of_tq1_0(const uint8_t *at, const line x[4])
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

INLINE vi sums_tq1_0(rows *from, const mixt_q8 *x)
{
    line lines[QUANT_LANES];
    const line values[4] = {line_load(x->q), line_load(x->q + 64), line_load(x->q + 128),
                            line_load(x->q + 192)};
    for (int i = 0; i < QUANT_LANES; i++) {
        fetch_next(from, sizeof(mixt_tq1_0_block));
        lines[i] = line_of_tq1_0(from->at[i], values);
    }
    return sum_lines(lines);
}

/* ------------------------------------------------------------------------------------------ */
/* Steps                                                                                      */

/* With the scale that comes first, times a power of two. */
#define STEP_OF_SUMS(name, call, factor)                                                           \
    INLINE vf name(rows *from, const mixt_q8 *x, vf sum)                                           \
    {                                                                                              \
        vi total = call(from);                                                                     \
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
    vi total = sums_iq1_m(from);
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
