/* One token times rows of codebooks (quant_codebooks.h) and ternary types (quant/multiples.h):
 * their values become bytes without sign, and activations are negated where values are negative.
 * Included by quant_rows.h. */

/* Products of 256 magnitudes, of whose signs byte b has four in its upper half. */
INLINE line signed_products(const codebook_values *from, const int8_t *spread)
{
    const line *w = from->w, scales = from->scales;
    line x[4];
    UNROLL for (int j = 0; j < 4; j++)
    {
        x[j] = line_negate(line_load(spread + 64 * j), from->signs, j);
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

/* ------------------------------------------------------------------------------------------ */
/* IQ2 and IQ3                                                                                 */

/* Sums of a step. */
#define STEP_OF_CODES(name, type, block, products)                                                 \
    INLINE vi name(rows *from)                                                                     \
    {                                                                                              \
        line lines[QUANT_LANES];                                                                   \
        const mixt_grids *grids = mixt_grids_get();                                                \
        for (int i = 0; i < QUANT_LANES; i++) {                                                    \
            codebook_values block_values;                                                          \
            fetch_next(from, sizeof(block));                                                       \
            values_of_block(type, from->at[i], grids, &block_values);                              \
            lines[i] = products(&block_values, from->spread);                                      \
        }                                                                                          \
        return sum_lines(lines);                                                                   \
    }
STEP_OF_CODES(sums_iq2_xxs, MIXT_TYPE_IQ2_XXS, mixt_iq2_xxs_block, signed_products)
STEP_OF_CODES(sums_iq2_xs, MIXT_TYPE_IQ2_XS, mixt_iq2_xs_block, signed_products)
STEP_OF_CODES(sums_iq2_s, MIXT_TYPE_IQ2_S, mixt_iq2_s_block, signed_products)
STEP_OF_CODES(sums_iq3_xxs, MIXT_TYPE_IQ3_XXS, mixt_iq3_xxs_block, signed_products)
STEP_OF_CODES(sums_iq3_s, MIXT_TYPE_IQ3_S, mixt_iq3_s_block, signed_products)

/* ------------------------------------------------------------------------------------------- */
/* IQ1: scale (8 g + 1) or scale (8 g - 1), g = -1, 0, 1; codes are g + 1                       */

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

INLINE line products_of_ones(const codebook_values *from, const int8_t *spread)
{
    line dots = line_maddubs(from->w[0], line_load(spread));
    UNROLL for (int j = 1; j < 4; j++)
    {
        dots = line_add16(dots, line_maddubs(from->w[j], line_load(spread + 64 * j)));
    }
    line total = line_scaled(line_zero(), dots, line_sll16(from->scales, 3));
    return line_scaled(total, line_mullo16(from->less, from->scales), sums_of_eights(spread));
}

STEP_OF_CODES(sums_iq1_s, MIXT_TYPE_IQ1_S, mixt_iq1_s_block, products_of_ones)
STEP_OF_CODES(sums_iq1_m, MIXT_TYPE_IQ1_M, mixt_iq1_m_block, products_of_ones)

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
#define STEP_OF_SUMS(name, call, type)                                                             \
    INLINE vf name(rows *from, const mixt_q8 *x, vf sum)                                           \
    {                                                                                              \
        vi total = call(from);                                                                     \
        vf d = vf_multiply(halves_of_rows(from->at, 0), vf_set(codebook_factor(type)));            \
        return add_scaled(sum, d, x->d[0], total);                                                 \
    }
STEP_OF_SUMS(step_iq1_s, sums_iq1_s, MIXT_TYPE_IQ1_S)
STEP_OF_SUMS(step_iq2_xxs, sums_iq2_xxs, MIXT_TYPE_IQ2_XXS)
STEP_OF_SUMS(step_iq2_xs, sums_iq2_xs, MIXT_TYPE_IQ2_XS)
STEP_OF_SUMS(step_iq2_s, sums_iq2_s, MIXT_TYPE_IQ2_S)
STEP_OF_SUMS(step_iq3_xxs, sums_iq3_xxs, MIXT_TYPE_IQ3_XXS)
STEP_OF_SUMS(step_iq3_s, sums_iq3_s, MIXT_TYPE_IQ3_S)

INLINE vf step_iq1_m(rows *from, const mixt_q8 *x, vf sum)
{
    vi total = sums_iq1_m(from);
    uint32_t half[QUANT_LANES];
    for (int i = 0; i < QUANT_LANES; i++) {
        half[i] = mixt_iq1_m_half((const mixt_iq1_m_block *)(const void *)from->at[i]);
    }
    return add_scaled(
        sum, vf_multiply(vf_half(vi_loadu(half)), vf_set(codebook_factor(MIXT_TYPE_IQ1_M))),
        x->d[0], total);
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
