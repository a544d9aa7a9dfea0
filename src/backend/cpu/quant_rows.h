/* One token, row by row: the blocks of QUANT_LANES rows that begin at the same k are multiplied one
 * after another, each as it lies in memory, 64 bytes (a line) at a time. What they give are lines
 * of partial sums, which are added up together, so that each row has a lane: the floats of a block
 * follow. Weights stream from as many rows at a time, and nothing is written. Included behind
 * quant_multiply.h by tiers that define
 *
 *   line                 64 bytes, and line_* operations on them
 *   sum_lines                          sums of lines; a row in each lane
 *   line_add_four, halves_of_fours, quarters_of_fours  the same of halves or quarters, by way of
 *                                      four rows each brought together
 *   signed_scales, scales_of_part, scales_times  scales of Q6_K
 *   halves_of_rows, bytes_of_rows, quads_of_rows  what lies at one place in every row
 */

/* The rows in work. */
typedef struct rows {
    const uint8_t *at[QUANT_LANES]; /* their blocks of this step */
    const uint8_t *next;            /* what is fetched meanwhile */
    const int8_t *spread;           /* activations of the step, in another order; or NULL */
} rows;

/* Products of bytes without and with sign on their way to 32 bits, below 2^15 in a group of 16 or
 * 32; they are then multiplied by the group's scale. */
#ifdef QUANT_DOTS
#define line_dot(w, x) vi_dot4(line_zero(), w, x)
#define line_scaled(total, dots, scale) vi_dpwssd(total, dots, scale)
/* A byte as a scale. */
#define SCALE_INDEX(b) (int)((uint32_t)(b) | 0x80808000U)
/* Products of weights with sign: these are added to weights and their products with the sums of
 * activations taken away behind. */
#define SIGN_SHIFT 128
#else
#define line_dot(w, x) line_maddubs(w, x)
#define line_scaled(total, dots, scale) line_add32(total, line_madd(dots, scale))
#define SCALE_INDEX(b) (int)((uint32_t)(b)*0x00010001U | 0x80008000U)
#define SIGN_SHIFT 0
#endif

/* Products of two lines whose bytes are below 32. */
INLINE line line_products(line w, line x, line w_next, line x_next)
{
#ifdef QUANT_DOTS
    return vi_dot4(vi_dot4(line_zero(), w, x), w_next, x_next);
#else
    line words = line_add16(line_maddubs(w, x), line_maddubs(w_next, x_next));
    return line_madd(words, line_words(1));
#endif
}

/* total + products of bytes with sign (to which SIGN_SHIFT was added). */
INLINE line line_add_signed(line total, line w, line x)
{
#ifdef QUANT_DOTS
    return vi_dot4(total, w, x);
#else
    return line_add32(total,
                      line_madd(line_maddubs(line_abs8(w), line_sign8(x, w)), line_words(1)));
#endif
}

/* The rows that come next are fetched in the order in which they lie in memory, at the pace of
 * those in work: these are read in an order that the hardware's prefetcher does not follow well.
 * Into the second cache: fetched into the first, they come at two thirds of the speed (Zen 4). */
INLINE void fetch_next(rows *from, const size_t bytes)
{
    UNROLL for (size_t i = 0; i < bytes; i += 64)
    {
        __builtin_prefetch(from->next + i, 0, 2);
    }
    from->next += bytes;
}

/* Sums of quarters of lines. */
INLINE void sum_quarters(const line lines[QUANT_LANES], vi out[4])
{
    line four[QUANT_LANES / 4];
    UNROLL for (int i = 0; i < QUANT_LANES / 4; i++) four[i] = line_add_four(lines + 4 * i);
    quarters_of_fours(four, out);
}

/* x & mask | y */
#define LINE_AND_OR(x, mask, y) line_or(line_and(x, mask), y)

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 256                                                                              */

/* Heads of Q4_K and Q5_K: a row in each lane. */
typedef struct row_heads {
    uint32_t scale[2][QUANT_LANES]; /* bytes of scales, as they are broadcast */
    vf d, m;
    vi minima; /* times sums of activations */
} row_heads;

INLINE void load_heads(const rows *from, const mixt_q8 *x, row_heads *to)
{
    vi head[4], total = vi_zero();
    quads_of_rows(from->at, 0, head);
    const vi low = vi_set32(LOW_NIBBLES), six = vi_set32(BYTES(63));
    vi a = head[1], b = head[2], c = head[3];
    vi scale[2] = {vi_and(a, six), AND_OR(vi_srl32(a, 2), BYTES(48), vi_and(c, low))};
    vi min[2] = {vi_and(b, six), AND_OR(vi_srl32(b, 2), BYTES(48), vi_and(vi_srl32(c, 4), low))};
    UNROLL for (int i = 0; i < 2; i++)
    {
        vi first = vi_pick(min[i], 0, NONE, 1, NONE), second = vi_pick(min[i], 2, NONE, 3, NONE);
        total = vi_add32(total, vi_madd(first, vi_broadcast32(x->block_sums + 4 * i)));
        total = vi_add32(total, vi_madd(second, vi_broadcast32(x->block_sums + 4 * i + 2)));
        memcpy(to->scale[i], &scale[i], sizeof scale[i]);
    }
    to->d = vf_half(head[0]);
    to->m = vf_negate(vf_half(vi_srl32(head[0], 16)));
    to->minima = total;
}

INLINE vf chain_heads(const row_heads *heads, const mixt_q8 *x, const line *lines, vf sum)
{
    sum = add_scaled(sum, heads->d, x->d[0], sum_lines(lines));
    return add_scaled(sum, heads->m, x->d[0], heads->minima);
}

/* total + products of 64 bytes: four groups, the first two of the low halves of bytes. */
INLINE line add_fours(line total, line first, line second, const line x[2], const uint32_t *scales)
{
    const line even = line_two(SCALE_INDEX(0), SCALE_INDEX(2));
    const line odd = line_two(SCALE_INDEX(1), SCALE_INDEX(3));
    line scale = line_broadcast32(scales);
    total = line_scaled(total, line_dot(first, x[0]), line_shuffle8(scale, even));
    return line_scaled(total, line_dot(second, x[1]), line_shuffle8(scale, odd));
}

INLINE vf step_q4_k(rows *from, const mixt_q8 *x, vf sum)
{
    row_heads heads;
    line lines[QUANT_LANES];
    const line low = line_bytes(15);
    const line x_low[2] = {line_of_halves(x->q, x->q + 64), line_of_halves(x->q + 32, x->q + 96)};
    const line x_high[2] = {line_of_halves(x->q + 128, x->q + 192),
                            line_of_halves(x->q + 160, x->q + 224)};
    load_heads(from, x, &heads);
    for (int i = 0; i < QUANT_LANES; i++) {
        const uint8_t *at = from->at[i];
        fetch_next(from, sizeof(mixt_q4_k_block));
        line a = line_load(at + 16), b = line_load(at + 80);
        line total =
            add_fours(line_zero(), LOW_HALVES(a), HIGH_HALVES(a), x_low, &heads.scale[0][i]);
        lines[i] = add_fours(total, LOW_HALVES(b), HIGH_HALVES(b), x_high, &heads.scale[1][i]);
    }
    return chain_heads(&heads, x, lines, sum);
}

INLINE vf step_q5_k(rows *from, const mixt_q8 *x, vf sum)
{
    row_heads heads;
    line lines[QUANT_LANES];
    const line low = line_bytes(15), fifth = line_bytes(16);
    const line x_low[2] = {line_of_halves(x->q, x->q + 64), line_of_halves(x->q + 32, x->q + 96)};
    const line x_high[2] = {line_of_halves(x->q + 128, x->q + 192),
                            line_of_halves(x->q + 160, x->q + 224)};
    load_heads(from, x, &heads);
    for (int i = 0; i < QUANT_LANES; i++) {
        const uint8_t *at = from->at[i];
        fetch_next(from, sizeof(mixt_q5_k_block));
        line high = line_twice(at + 16), a = line_load(at + 48), b = line_load(at + 112);
        /* bit j of group j to bit 4 */
        line a0 = LINE_AND_OR(line_rotate(high, 4, 2), fifth, LOW_HALVES(a));
        line a1 = LINE_AND_OR(line_rotate(high, 3, 1), fifth, HIGH_HALVES(a));
        line b0 = LINE_AND_OR(line_rotate(high, 0, 62), fifth, LOW_HALVES(b));
        line b1 = LINE_AND_OR(line_rotate(high, 63, 61), fifth, HIGH_HALVES(b));
        line total = add_fours(line_zero(), a0, a1, x_low, &heads.scale[0][i]);
        lines[i] = add_fours(total, b0, b1, x_high, &heads.scale[1][i]);
    }
    return chain_heads(&heads, x, lines, sum);
}

INLINE vf step_q6_k(rows *from, const mixt_q8 *x, vf sum)
{
    line lines[QUANT_LANES];
    const line low = line_bytes(15), upper = line_bytes(48);
    const line x_0 = line_load(x->q), x_1 = line_load(x->q + 64);
    const line x_2 = line_load(x->q + 128), x_3 = line_load(x->q + 192);
    /* half of what the scales are multiplied by for the 32 that values are too large */
    const __m256i shift = _mm256_mullo_epi16(
        _mm256_load_si256((const __m256i *)(const void *)x->sums), _mm256_set1_epi16(-16));
    for (int i = 0; i < QUANT_LANES; i++) {
        const uint8_t *at = from->at[i];
        fetch_next(from, sizeof(mixt_q6_k_block));
        line a = line_load(at), b = line_load(at + 64);
        line high = line_twice(at + 128), next = line_twice(at + 160);
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(at + 192));
        line scales = signed_scales(bytes), total = scales_times(bytes, shift);
        line w_0 = LINE_AND_OR(line_rotate(high, 4, 2), upper, LOW_HALVES(a));
        line w_1 = LINE_AND_OR(line_rotate(high, 0, 62), upper, HIGH_HALVES(a));
        line w_2 = LINE_AND_OR(line_rotate(next, 4, 2), upper, LOW_HALVES(b));
        line w_3 = LINE_AND_OR(line_rotate(next, 0, 62), upper, HIGH_HALVES(b));
        total = line_add32(total, total);
        total = line_scaled(total, line_dot(w_0, x_0), scales_of_part(scales, 0));
        total = line_scaled(total, line_dot(w_1, x_1), scales_of_part(scales, 1));
        total = line_scaled(total, line_dot(w_2, x_2), scales_of_part(scales, 2));
        lines[i] = line_scaled(total, line_dot(w_3, x_3), scales_of_part(scales, 3));
    }
    return add_scaled(sum, halves_of_rows(from->at, 208), x->d[0], sum_lines(lines));
}

/* The table of the IQ4 types, as line_add_signed wants it. */
INLINE line iq4_table(void)
{
    line table = line_table(mixt_iq4_values);
    return SIGN_SHIFT == 0 ? table : line_xor(table, line_bytes(128));
}

/* Products of four times 32 values whose halves lie in the halves of 16 bytes each. */
INLINE line iq4_products(line q, line table, line x_even, line x_odd)
{
    const line low = line_bytes(15);
    line total = line_add_signed(line_zero(), line_shuffle8(table, LOW_HALVES(q)), x_even);
    return line_add_signed(total, line_shuffle8(table, HIGH_HALVES(q)), x_odd);
}

INLINE vf step_iq4_xs(rows *from, const mixt_q8 *x, vf sum)
{
    vi head[4], total = vi_zero();
    const line table = iq4_table();
    quads_of_rows(from->at, 0, head);
    vi high = vi_srl32(head[0], 16), low = head[1];
    UNROLL for (int half = 0; half < 2; half++)
    {
        line lines[QUANT_LANES];
        vi sums[4];
        const line even = line_evens(x->q + 128 * half), odd = line_odds(x->q + 128 * half);
        for (int i = 0; i < QUANT_LANES; i++) {
            const uint8_t *at = from->at[i] + 64 * half;
            fetch_next(from, 64 + 8 * (size_t)half);
            lines[i] = iq4_products(line_load(at + 8), table, even, odd);
        }
        sum_quarters(lines, sums);
        UNROLL for (int i = 0; i < 4; i++)
        {
            int group = 4 * half + i;
            vi scale = vi_or(vi_and(vi_srl32(low, 4 * group), vi_set32(15)),
                             vi_and(vi_sll32(vi_srl32(high, 2 * group), 4), vi_set32(48)));
            vi products = vi_sub32(sums[i], vi_set32(SIGN_SHIFT * x->totals[group]));
            total = vi_add32(total, vi_mullo32(products, vi_sub32(scale, vi_set32(32))));
        }
    }
    return add_scaled(sum, vf_half(head[0]), x->d[0], total);
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 256 whose values of two bits lie four in a byte: those of a line in four turns     */

typedef struct two_lines {
    line x[4];
} two_lines;

INLINE two_lines load_twos(const mixt_q8 *x)
{
    return (two_lines){{line_of_halves(x->q, x->q + 128), line_of_halves(x->q + 32, x->q + 160),
                        line_of_halves(x->q + 64, x->q + 192),
                        line_of_halves(x->q + 96, x->q + 224)}};
}

#ifdef QUANT_DOTS
#define TURNS_SHIFT 0
#else
/* Two bits are used where they lie: those of turns 1 and 3 weigh four times what they stand for,
 * those of turns 0 and 2 have scales that are four times theirs. */
#define TURNS_SHIFT 2

/* Bytes with sign of scales, as words for turns 0 to 3, twice: quarters of a line have bytes 0, 1,
 * 8, 9 and every second one behind them. */
INLINE line scales_of_turns(line bytes)
{
    const line first = line_quarters(0, 0x01000100, 0x08000800, 0x09000900);
    const line four = line_dwords4(0x02800080, 0x06800480, 0x02800080, 0x06800480);
    const line times = line_dwords4(0x01000400, 0x01000400, 0x01000400, 0x01000400);
    return line_mulhi16(line_shuffle8(bytes, line_add8(first, four)), times);
}

/* total + products of four turns: sums of each turn's words come to lie beside those of the others
 * before they are scaled. */
INLINE line add_turns(line total, const line w[4], const line x[4], line scales)
{
    line a = line_maddubs(w[0], x[0]), b = line_maddubs(w[1], x[1]);
    line c = line_maddubs(w[2], x[2]), d = line_maddubs(w[3], x[3]);
    line first = line_add16(line_zip_low16(a, b), line_zip_high16(a, b));
    line second = line_add16(line_zip_low16(c, d), line_zip_high16(c, d));
    line all = line_add16(line_zip_low32(first, second), line_zip_high32(first, second));
    return line_add32(total, line_madd(all, scales));
}
#endif

/* One row's products with the four scales of each quarter of its lines. */
INLINE line line_of_q2_k(const uint8_t *at, const two_lines *values)
{
    line q = line_load(at + 16);
#ifdef QUANT_DOTS
    const line three = line_bytes(3);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    line scales = signed_scales(_mm_and_si128(bytes, _mm_set1_epi8(15))), total = line_zero();
    UNROLL for (int j = 0; j < 4; j++)
    {
        line w = line_and(line_srl16(q, 2 * j), three);
        total = line_scaled(total, line_dot(w, values->x[j]), scales_of_pair(scales, j));
    }
    return total;
#else
    const line even = line_bytes(3), odd = line_bytes(12);
    line high = line_srl16(q, 4), scales = line_and(line_table(at), line_bytes(15));
    line w[4] = {line_and(q, even), line_and(q, odd), line_and(high, even), line_and(high, odd)};
    return add_turns(line_zero(), w, values->x, scales_of_turns(scales));
#endif
}

INLINE vf step_q2_k(rows *from, const mixt_q8 *x, vf sum)
{
    line lines[QUANT_LANES];
    const two_lines values = load_twos(x);
    for (int i = 0; i < QUANT_LANES; i++) {
        fetch_next(from, sizeof(mixt_q2_k_block));
        lines[i] = line_of_q2_k(from->at[i], &values);
    }
    vi scale[4], halves[4], minima = vi_zero();
    quads_of_rows(from->at, 0, scale);
    quads_of_rows(from->at, 68, halves);
    UNROLL for (int i = 0; i < 4; i++)
    {
        vi min = vi_and(vi_srl32(scale[i], 4), vi_set32(LOW_NIBBLES));
        vi first = vi_pick(min, 0, NONE, 1, NONE), second = vi_pick(min, 2, NONE, 3, NONE);
        minima = vi_add32(minima, vi_madd(first, vi_broadcast32(x->sums + 4 * i)));
        minima = vi_add32(minima, vi_madd(second, vi_broadcast32(x->sums + 4 * i + 2)));
    }
    vi total = vi_sra32(sum_lines(lines), TURNS_SHIFT);
    sum = add_scaled(sum, vf_half(halves[3]), x->d[0], total);
    return add_scaled(sum, vf_negate(vf_half(vi_srl32(halves[3], 16))), x->d[0], minima);
}

/* Where the 16 bytes of row i lie when quads are transposed back. */
INLINE size_t place_of_row(int i)
{
    return (size_t)(i % 4) * sizeof(vi) + (size_t)(i / 4 * 16);
}

/* The scales of Q3_K, 16 bytes a row. */
INLINE void unpack_q3_scales(const rows *from, uint8_t *to)
{
    vi head[4], scale[4], out[4];
    quads_of_rows(from->at, 92, head);
    q3_scales(head, scale);
    vi_transpose_quads(scale, out);
    memcpy(to, out, sizeof out);
}

/* As line_of_q2_k; `shift`: what the scales are multiplied by for the 4 that values are too large.
 */
INLINE line line_of_q3_k(const uint8_t *at, const uint8_t *scale_bytes, const two_lines *values,
                         __m256i shift)
{
    line high = line_twice(at), q = line_load(at + 32), w[4];
    __m128i bytes = _mm_load_si128((const void *)scale_bytes);
    line total = scales_times(bytes, shift);
    /* bits j and 4 + j to bit 2, or in turns 1 and 3 to bit 4 */
    const int odd = TURNS_SHIFT;
    const line bits[4] = {line_rotate(high, 2, 62), line_rotate(high, 1 + odd, (61 + odd) % 64),
                          line_rotate(high, 0, 60), line_rotate(high, (63 + odd) % 64, 59 + odd)};
    UNROLL for (int j = 0; j < 4; j++)
    {
        const int up = j % 2 * odd;
        line two = line_and(line_srl16(q, 2 * j - up), line_bytes(3 << up));
        w[j] = LINE_AND_OR(bits[j], line_bytes(4 << up), two);
    }
#ifdef QUANT_DOTS
    line scales = signed_scales(bytes);
    UNROLL for (int j = 0; j < 4; j++)
    {
        total = line_scaled(total, line_dot(w[j], values->x[j]), scales_of_pair(scales, j));
    }
    return total;
#else
    return add_turns(total, w, values->x, scales_of_turns(line_table(scale_bytes)));
#endif
}

INLINE vf step_q3_k(rows *from, const mixt_q8 *x, vf sum)
{
    line lines[QUANT_LANES];
    _Alignas(64) uint8_t scale_bytes[QUANT_LANES * 16];
    const two_lines values = load_twos(x);
    const __m256i shift =
        _mm256_mullo_epi16(_mm256_load_si256((const __m256i *)(const void *)x->sums),
                           _mm256_set1_epi16(-(4 << TURNS_SHIFT)));
    unpack_q3_scales(from, scale_bytes);
    for (int i = 0; i < QUANT_LANES; i++) {
        fetch_next(from, sizeof(mixt_q3_k_block));
        lines[i] = line_of_q3_k(from->at[i], scale_bytes + place_of_row(i), &values, shift);
    }
    vi total = vi_sra32(sum_lines(lines), TURNS_SHIFT);
    return add_scaled(sum, halves_of_rows(from->at, 108), x->d[0], total);
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 32: those of a step, of which `blocks` count                                     */

/* How four blocks become products: halves of their bytes are weights, or look them up. */
typedef struct fours {
    size_t bytes, offset; /* of a block, of its nibbles */
    bool fifth;           /* bits of weights lie in the four bytes before them */
    bool looked_up, has_sign;
    line table;
    int shift; /* what was added to weights */
} fours;

/* Products of 64 bytes; `fifth`: where the four bytes of the first block's fifth bits are. */
INLINE line products_of_fours(line q, const uint8_t *fifth, const fours how, line even, line odd)
{
    const line low = line_bytes(15);
    line first = LOW_HALVES(q), second = HIGH_HALVES(q);
    if (how.fifth) {
        const line bits = line_dwords4(0x08040201, (int)0x80402010, 0x08040201, (int)0x80402010);
        const line sixteen = line_bytes(16);
        line high = line_broadcast_quarters(fifth, how.bytes);
        const line lower = line_dwords4(0, 0, BYTES(1), BYTES(1));
        const line upper = line_dwords4(BYTES(2), BYTES(2), BYTES(3), BYTES(3));
        first = line_add_bits(first, line_shuffle8(high, lower), bits, sixteen);
        second = line_add_bits(second, line_shuffle8(high, upper), bits, sixteen);
    }
    if (how.looked_up) {
        first = line_shuffle8(how.table, first);
        second = line_shuffle8(how.table, second);
    }
    if (how.has_sign) {
        return line_add_signed(line_add_signed(line_zero(), first, even), second, odd);
    }
    return line_products(first, even, second, odd);
}

/* Products of the eight blocks of a step. */
INLINE void eights_of_rows(rows *from, const mixt_q8 *x, const fours how, firsts *first,
                           vi out[MIXT_STEP_BLOCKS])
{
    line four[2][QUANT_LANES / 4];
    const bool plain = how.bytes % 2 == 0; /* else even and odd blocks lie together */
    const fours_index index = index_of_fours(how.bytes, how.offset);
    const size_t next = plain ? 128 : 32, step = plain ? 32 : 64;
    const line even[2] = {line_of_quarters((const uint8_t *)x->q, step),
                          line_of_quarters((const uint8_t *)x->q + next, step)};
    const line odd[2] = {line_of_quarters((const uint8_t *)x->q + 16, step),
                         line_of_quarters((const uint8_t *)x->q + next + 16, step)};
    /* four rows are brought together at once: a line is written for them in place of four */
    for (int i = 0; i < QUANT_LANES / 4; i++) {
        line lines[2][4];
        UNROLL for (int j = 0; j < 4; j++)
        {
            const uint8_t *at = from->at[4 * i + j], *fifth = at + how.offset - 4;
            line q[2];
            fetch_next(from, MIXT_STEP_BLOCKS * how.bytes);
            load_fours(at, how.bytes, &index, q, first->words[4 * i + j]);
            lines[0][j] = products_of_fours(q[0], fifth, how, even[0], odd[0]);
            lines[1][j] = products_of_fours(q[1], fifth + 4 * how.bytes, how, even[1], odd[1]);
        }
        four[0][i] = line_add_four(lines[0]);
        four[1][i] = line_add_four(lines[1]);
    }
    vi sums[2][4];
    quarters_of_fours(four[0], sums[0]);
    quarters_of_fours(four[1], sums[1]);
    UNROLL for (int i = 0; i < MIXT_STEP_BLOCKS; i++)
    {
        out[i] = plain ? sums[i / 4][i % 4] : sums[i % 2][i / 2];
    }
}

/* Sums of products of the blocks of a step, less how.shift times the sums of activations. */
INLINE void fours_of_rows(rows *from, const mixt_q8 *x, int blocks, const fours how, firsts *first,
                          vi out[MIXT_STEP_BLOCKS])
{
    if (blocks == MIXT_STEP_BLOCKS) {
        eights_of_rows(from, x, how, first, out);
    }
    for (int block = 0; block < blocks && blocks < MIXT_STEP_BLOCKS; block += 4) {
        line lines[QUANT_LANES];
        const line even = line_evens(x->q + 32 * block), odd = line_odds(x->q + 32 * block);
        for (int i = 0; i < QUANT_LANES; i++) {
            const uint8_t *at = from->at[i] + (size_t)block * how.bytes + how.offset;
            fetch_next(from, 4 * how.bytes);
            lines[i] = products_of_fours(line_of_quarters(at, how.bytes), at - 4, how, even, odd);
        }
        sum_quarters(lines, out + block);
    }
    for (int i = 0; i < blocks && how.shift != 0; i++) {
        out[i] = vi_sub32(out[i], vi_set32(how.shift * x->totals[i]));
    }
}

INLINE vf chain_blocks(const mixt_q8 *x, int blocks, const vf *d, const vi *products, vf sum)
{
    for (int i = 0; i < blocks; i++) {
        sum = add_scaled(sum, d[i], x->d[i], products[i]);
    }
    return sum;
}

/* Without minima. */
INLINE vf step_fours(rows *from, const mixt_q8 *x, int blocks, const fours how, vf sum)
{
    vf d[MIXT_STEP_BLOCKS];
    vi products[MIXT_STEP_BLOCKS];
    firsts first;
    fours_of_rows(from, x, blocks, how, &first, products);
    halves_of_step(from->at, &first, blocks, how.bytes, d);
    return chain_blocks(x, blocks, d, products, sum);
}

INLINE vf step_q4_0(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_q4_0_block), 2, false, false, false, line_zero(), 8};
    return step_fours(from, x, blocks, how, sum);
}

INLINE vf step_q5_0(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_q5_0_block), 6, true, false, false, line_zero(), 16};
    return step_fours(from, x, blocks, how, sum);
}

INLINE vf step_iq4_nl(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_iq4_nl_block), 2, false, true, true, iq4_table(), SIGN_SHIFT};
    return step_fours(from, x, blocks, how, sum);
}

/* With minima. */
INLINE vf step_least(rows *from, const mixt_q8 *x, int blocks, const fours how, vf sum)
{
    vi products[MIXT_STEP_BLOCKS];
    firsts first;
    fours_of_rows(from, x, blocks, how, &first, products);
    for (int i = 0; i < blocks; i++) {
        vi halves = dwords_of_rows(from->at, (size_t)i * how.bytes);
        sum = add_scaled(sum, vf_half(halves), x->d[i], products[i]);
        sum = add_scaled(sum, vf_half(vi_srl32(halves, 16)), x->d[i], vi_set32(x->totals[i]));
    }
    return sum;
}

INLINE vf step_q4_1(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_q4_1_block), 4, false, false, false, line_zero(), 0};
    return step_least(from, x, blocks, how, sum);
}

INLINE vf step_q5_1(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_q5_1_block), 8, true, false, false, line_zero(), 0};
    return step_least(from, x, blocks, how, sum);
}

/* 2^(e - 128) as the product of two normal numbers */
INLINE vf mxfp4_scales(vi e)
{
    vi half = vi_srl32(e, 1);
    vi first = vi_sll32(vi_add32(half, vi_set32(64)), 23);
    vi second = vi_sll32(vi_add32(vi_sub32(e, half), vi_set32(62)), 23);
    return vf_multiply(vf_of_bits(first), vf_of_bits(second));
}

INLINE vf step_mxfp4(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const fours how = {sizeof(mixt_mxfp4_block),
                       1,
                       false,
                       true,
                       false,
                       line_sub8(line_table(mixt_mxfp4_values), line_bytes(-12)),
                       12};
    vi exponents[MIXT_STEP_BLOCKS], products[MIXT_STEP_BLOCKS];
    firsts first;
    fours_of_rows(from, x, blocks, how, &first, products);
    bytes_of_step(from->at, &first, blocks, exponents);
    for (int i = 0; i < blocks; i++) {
        sum = add_scaled(sum, mxfp4_scales(exponents[i]), x->d[i], products[i]);
    }
    return sum;
}

INLINE vf step_q8_0(rows *from, const mixt_q8 *x, int blocks, vf sum)
{
    const size_t bytes = sizeof(mixt_q8_0_block);
    for (int first = 0; first < blocks; first += 2) {
        line four[QUANT_LANES / 4];
        vi products[2];
        const line values = line_load(x->q + 32 * first), sign = line_bytes(SIGN_SHIFT);
        for (int i = 0; i < QUANT_LANES / 4; i++) {
            line lines[4];
            UNROLL for (int j = 0; j < 4; j++)
            {
                const uint8_t *at = from->at[4 * i + j] + (size_t)first * bytes;
                fetch_next(from, 2 * bytes);
                line w = line_xor(line_of_halves(at + 2, at + 2 + bytes), sign);
                lines[j] = line_add_signed(line_zero(), w, values);
            }
            four[i] = line_add_four(lines);
        }
        halves_of_fours(four, products);
        for (int i = 0; i < 2 && first + i < blocks; i++) {
            int block = first + i;
            vf d = halves_of_rows(from->at, (size_t)block * bytes);
            vi total = vi_sub32(products[i], vi_set32(SIGN_SHIFT * x->totals[block]));
            sum = add_scaled(sum, d, x->d[block], total);
        }
    }
    return sum;
}

#include "backend/cpu/quant_rows_multiples.h"

#include "backend/cpu/quant_rows_parts.h"

/* ------------------------------------------------------------------------------------------ */
/* Rows                                                                                       */

typedef struct row_run {
    const mixt_matrix_task *task;
    int64_t row, rows; /* the first, and how many count: others are the last once more */
    size_t bytes;      /* of a step */
    const int8_t *spread;
} row_run;

static void start_rows(const row_run *run, rows *to)
{
    const mixt_matrix *matrix = run->task->matrix;
    const uint8_t *base = (const uint8_t *)matrix->data + (size_t)run->row * matrix->row_bytes;
    for (int i = 0; i < QUANT_LANES; i++) {
        to->at[i] = base + (size_t)mixt_least(i, run->rows - 1) * matrix->row_bytes;
    }
    to->spread = run->spread;
    /* behind the matrix may be anything: what is there already is fetched instead */
    to->next =
        run->row + 2 * QUANT_LANES <= matrix->n ? base + QUANT_LANES * matrix->row_bytes : base;
}

INLINE void next_step(const row_run *run, rows *to)
{
    for (int i = 0; i < QUANT_LANES; i++) {
        to->at[i] += run->bytes;
    }
    to->spread = to->spread == NULL ? NULL : to->spread + MIXT_STEP;
}

/* Points at a copy of a row's last blocks, which are no whole group, with zeros behind. */
static void copy_step(const row_run *run, int blocks, rows *to)
{
    size_t bytes = mixt_type_row_bytes(run->task->matrix->type, (int64_t)blocks * 32);
    for (int i = 0; i < QUANT_LANES; i++) {
        uint8_t *copy = (uint8_t *)run->task->scratch + (size_t)i * STEP_BYTES_MAX;
        memset(copy, 0, STEP_BYTES_MAX);
        memcpy(copy, to->at[i], bytes);
        to->at[i] = copy;
    }
}

INLINE const mixt_q8 *record_of_step(const mixt_matrix_task *task, int64_t step)
{
    return (const void *)(task->activations + (size_t)step * task->activation_bytes);
}

#define ROWS_256(name, call)                                                                       \
    static vf name(const row_run *run)                                                             \
    {                                                                                              \
        rows from;                                                                                 \
        vf sum = vf_set(0);                                                                        \
        start_rows(run, &from);                                                                    \
        for (int64_t step = 0; step < run->task->matrix->k / MIXT_STEP; step++) {                  \
            sum = call(&from, record_of_step(run->task, step), sum);                               \
            next_step(run, &from);                                                                 \
        }                                                                                          \
        return sum;                                                                                \
    }
ROWS_256(rows_q2_k, step_q2_k)
ROWS_256(rows_q3_k, step_q3_k)
ROWS_256(rows_q4_k, step_q4_k)
ROWS_256(rows_q5_k, step_q5_k)
ROWS_256(rows_q6_k, step_q6_k)
ROWS_256(rows_iq4_xs, step_iq4_xs)
ROWS_256(rows_iq1_s, step_iq1_s)
ROWS_256(rows_iq1_m, step_iq1_m)
ROWS_256(rows_iq2_xxs, step_iq2_xxs)
ROWS_256(rows_iq2_xs, step_iq2_xs)
ROWS_256(rows_iq2_s, step_iq2_s)
ROWS_256(rows_iq3_xxs, step_iq3_xxs)
ROWS_256(rows_iq3_s, step_iq3_s)
ROWS_256(rows_tq1_0, step_tq1_0)
ROWS_256(rows_tq2_0, step_tq2_0)

#define ROWS_32(name, call, group)                                                                 \
    static vf name(const row_run *run)                                                             \
    {                                                                                              \
        rows from;                                                                                 \
        vf sum = vf_set(0);                                                                        \
        const int64_t whole = run->task->matrix->k / MIXT_STEP;                                    \
        const int rest = (int)(run->task->matrix->k % MIXT_STEP / 32);                             \
        start_rows(run, &from);                                                                    \
        for (int64_t step = 0; step < whole; step++) {                                             \
            sum = call(&from, record_of_step(run->task, step), MIXT_STEP_BLOCKS, sum);             \
            next_step(run, &from);                                                                 \
        }                                                                                          \
        if (rest % (group) != 0) {                                                                 \
            copy_step(run, rest, &from);                                                           \
        }                                                                                          \
        return rest == 0 ? sum : call(&from, record_of_step(run->task, whole), rest, sum);         \
    }
ROWS_32(rows_nvfp4, step_nvfp4, 8)
ROWS_32(rows_q1_0, step_q1_0, 8)
ROWS_32(rows_q2_0, step_q2_0, 8)
ROWS_32(rows_q4_0, step_q4_0, 4)
ROWS_32(rows_q4_1, step_q4_1, 4)
ROWS_32(rows_q5_0, step_q5_0, 4)
ROWS_32(rows_q5_1, step_q5_1, 4)
ROWS_32(rows_q8_0, step_q8_0, 2)
ROWS_32(rows_iq4_nl, step_iq4_nl, 4)
ROWS_32(rows_mxfp4, step_mxfp4, 4)

/* Sums of up to QUANT_LANES rows. */
static vf (*const rows_of_type[MIXT_TYPE_COUNT])(const row_run *run) = {
    [MIXT_TYPE_NVFP4] = rows_nvfp4,     [MIXT_TYPE_Q1_0] = rows_q1_0,
    [MIXT_TYPE_Q2_0] = rows_q2_0,       [MIXT_TYPE_Q4_0] = rows_q4_0,
    [MIXT_TYPE_Q4_1] = rows_q4_1,       [MIXT_TYPE_Q8_0] = rows_q8_0,
    [MIXT_TYPE_Q4_K] = rows_q4_k,       [MIXT_TYPE_Q5_K] = rows_q5_k,
    [MIXT_TYPE_Q6_K] = rows_q6_k,       [MIXT_TYPE_IQ4_XS] = rows_iq4_xs,
    [MIXT_TYPE_IQ4_NL] = rows_iq4_nl,   [MIXT_TYPE_MXFP4] = rows_mxfp4,
    [MIXT_TYPE_IQ1_S] = rows_iq1_s,     [MIXT_TYPE_IQ1_M] = rows_iq1_m,
    [MIXT_TYPE_IQ2_XXS] = rows_iq2_xxs, [MIXT_TYPE_IQ2_XS] = rows_iq2_xs,
    [MIXT_TYPE_IQ2_S] = rows_iq2_s,     [MIXT_TYPE_IQ3_XXS] = rows_iq3_xxs,
    [MIXT_TYPE_IQ3_S] = rows_iq3_s,     [MIXT_TYPE_TQ1_0] = rows_tq1_0,
    [MIXT_TYPE_TQ2_0] = rows_tq2_0,     [MIXT_TYPE_Q5_0] = rows_q5_0,
    [MIXT_TYPE_Q5_1] = rows_q5_1,       [MIXT_TYPE_Q2_K] = rows_q2_k,
    [MIXT_TYPE_Q3_K] = rows_q3_k,
};

static void multiply_rows(const mixt_matrix_task *task)
{
    const mixt_type type = task->matrix->type;
    const mixt_type_row *info = mixt_type_info(type);
    row_run run = {task, task->row_begin, QUANT_LANES,
                   (size_t)(MIXT_STEP / info->elements * info->bytes), NULL};
    if (values_of_byte(type) > 0) {
        int8_t *spread = (int8_t *)task->scratch + (size_t)QUANT_LANES * STEP_BYTES_MAX;
        spread_activations(task, spread);
        run.spread = spread;
    }
    for (; run.row < task->row_end; run.row += QUANT_LANES) {
        float sums[QUANT_LANES], *c = task->c + run.row;
        run.rows = mixt_least(task->row_end - run.row, QUANT_LANES);
        vf_store(sums, rows_of_type[type](&run));
        for (int64_t i = 0; i < run.rows; i++) {
            c[i] = task->accumulate ? c[i] + sums[i] : sums[i];
        }
    }
}

#include "backend/cpu/quant_few.h"

static void kernel_multiply(const mixt_matrix_task *task)
{
    const mixt_type type = task->matrix->type;
    if (task->tokens == 1 && rows_of_type[type] != NULL &&
        (values_of_byte(type) == 0 || task->matrix->k <= SPREAD_MOST)) {
        multiply_rows(task);
    } else if (is_few(task)) {
        multiply_few(task);
    } else {
        multiply_panels(task);
    }
}
