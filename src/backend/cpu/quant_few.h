/* Few tokens (2 to 16): QUANT_LANES rows in lanes as in a panel, but no panel is written. What has
 * been brought into lanes meets all tokens while it is in registers: each block is decoded once,
 * and of what a panel costs the stores and the loads are saved, which are as much as four tokens'
 * products. Included behind quant_rows.h; the sums are those of quant_tile.h. */

#define FEW_TOKENS 8 /* of a pass over the rows */

typedef struct few_run {
    int64_t steps;        /* of 256 values */
    int rest;             /* blocks behind them, of types with blocks of 32 */
    source from;          /* the rows, and what is fetched meanwhile */
    const char *x;        /* the first step of the first token of the pass */
    size_t x_step, bytes; /* from step to step: of activations, of weights of a row */
    float *sums;          /* [tokens, QUANT_LANES] */
} few_run;

/* The activations of a step. All but `x` is constant to the functions that it is passed to. */
typedef struct few {
    const char *x;
    size_t x_bytes;
    int tokens;
} few;

INLINE const mixt_q8 *few_record(const few *with, int token)
{
    return (const mixt_q8 *)(const void *)(with->x + (size_t)token * with->x_bytes);
}

/* Cells that share a scale, of how many of them products fit 16 bits (without QUANT_DOTS), and
 * whether those sums begin at `starts` (tile_kind's wraps of 1). */
typedef struct few_kind {
    int count, depth;
    bool wraps;
} few_kind;

/* total + products of cells, the first of them `cell`, times `scale` (NULL: 1). */
INLINE void few_bytes(const few *with, const vi *cells, int cell, const few_kind kind,
                      const vi *scale, vi *total)
{
#ifdef QUANT_DOTS
    EACH(t, with->tokens)
    {
        vi part = scale == NULL ? total[t] : vi_zero();
        EACH(i, kind.count)
        part = vi_dot4(part, cells[i], vi_broadcast32(few_record(with, t)->q + 4 * (cell + i)));
        total[t] = scale == NULL ? part : vi_add32(total[t], vi_mullo32(part, *scale));
    }
#else
    EACH(first, kind.count / kind.depth)
    {
        vb part[FEW_TOKENS];
        EACH(i, kind.depth)
        {
            const int c = first * kind.depth + i;
            EACH(t, with->tokens)
            {
                vi q = vi_broadcast32(few_record(with, t)->q + 4 * (cell + c));
#ifdef QUANT_WRAPS
                if (i == 0 && kind.wraps) {
                    part[t] = vi_broadcast32(few_record(with, t)->starts + 2 * ((cell + c) / 4));
                }
#endif
                part[t] =
                    i == 0 && !kind.wraps ? vb_first(cells[c], q) : vb_next(part[t], cells[c], q);
                PIN(part[t]);
            }
        }
        EACH(t, with->tokens)
        total[t] =
            scale == NULL ? vb_added(total[t], part[t]) : vb_scaled(total[t], part[t], *scale);
    }
#endif
}

#ifndef QUANT_DOTS
/* total + products of `count` cells of two words, the first of them `cell`. */
INLINE void few_words(const few *with, const vi *cells, int cell, const int count, vi *total)
{
    EACH(i, count)
    {
        EACH(t, with->tokens)
        {
            const mixt_q8_wide *x = (const void *)few_record(with, t);
            total[t] = vw_next(total[t], cells[i], vi_broadcast32(x->q + 2 * (cell + i)));
            PIN(total[t]);
        }
    }
}
#endif

/* total + products of four bytes with sign of each row, value 4 cell of a step and those behind. */
INLINE void few_signed(const few *with, vi bytes, int cell, vi *total)
{
#ifdef QUANT_DOTS
    vi cells[1] = {biased(bytes)};
    few_bytes(with, cells, cell, (few_kind){1, 1, false}, NULL, total);
#else
    vi cells[2];
    put_signed(bytes, cells);
    few_words(with, cells, 2 * cell, 2, total);
#endif
}

/* Pairs of words times `count` pairs of sums of each token. */
INLINE void few_pairs(const few *with, const vi *pairs, const bool of_32, const int count,
                      vi *total)
{
    EACH(t, with->tokens)
    {
        const int16_t *sums = of_32 ? few_record(with, t)->block_sums : few_record(with, t)->sums;
        total[t] = vi_madd(pairs[0], vi_broadcast32(sums));
        UNROLL for (int i = 1; i < count; i++)
        {
            total[t] = vi_add32(total[t], vi_madd(pairs[i], vi_broadcast32(sums + 2 * i)));
        }
    }
}

/* sums + d d_x total, of a block of 256 or of block `block` of 32 */
INLINE void few_scaled(const few *with, int block, vf d, const vi *total, vf *sums)
{
    EACH(t, with->tokens) sums[t] = add_scaled(sums[t], d, few_record(with, t)->d[block], total[t]);
}

INLINE void few_zero(const few *with, vi *total)
{
    EACH(t, with->tokens) total[t] = vi_zero();
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 256                                                                              */

/* Scales of groups lie in memory: each is used once, and loops over groups stay loops. */
typedef struct few_heads {
    vi scale[16];
    vi pairs[8];
    vf d, m;
} few_heads;

/* Scales of four bytes of each row. */
INLINE void few_scales(vi bytes, vi *scale)
{
    scale[0] = SCALE_OF_BYTE(bytes, 0);
    scale[1] = SCALE_OF_BYTE(bytes, 1);
    scale[2] = SCALE_OF_BYTE(bytes, 2);
    scale[3] = SCALE_OF_BYTE(bytes, 3);
}

INLINE void few_signed_scales(vi bytes, vi *scale)
{
    scale[0] = SCALE_OF_SIGNED_BYTE(bytes, 0);
    scale[1] = SCALE_OF_SIGNED_BYTE(bytes, 1);
    scale[2] = SCALE_OF_SIGNED_BYTE(bytes, 2);
    scale[3] = SCALE_OF_SIGNED_BYTE(bytes, 3);
}

/* Minima of four bytes of each row. */
INLINE void few_minima(vi bytes, vi *pairs)
{
    pairs[0] = vi_pick(bytes, 0, NONE, 1, NONE);
    pairs[1] = vi_pick(bytes, 2, NONE, 3, NONE);
}

/* Of four bytes with sign: -2^shift times these. */
INLINE void few_offsets(vi bytes, const int shift, vi *pairs)
{
    pairs[0] = vi_sub16(vi_zero(), vi_sra16(vi_pick(bytes, NONE, 0, NONE, 1), 8 - shift));
    pairs[1] = vi_sub16(vi_zero(), vi_sra16(vi_pick(bytes, NONE, 2, NONE, 3), 8 - shift));
}

/* Of Q4_K and Q5_K. */
INLINE void few_k_heads(source *from, few_heads *to)
{
    vi quads[4];
    stream_quads(from, 0, quads);
    k_head head = k_head_of(quads);
    EACH(i, 2)
    {
        few_scales(head.scale[i], to->scale + 4 * i);
        few_minima(head.min[i], to->pairs + 2 * i);
    }
    to->d = head.d;
    to->m = head.m;
}

/* The floats of a block of 256 with minima, which are in pairs. */
INLINE void few_chain(const few *with, const few_heads *heads, const bool of_32, const int count,
                      const vi *total, vf *sums)
{
    vi minima[FEW_TOKENS];
    few_scaled(with, 0, heads->d, total, sums);
    few_pairs(with, heads->pairs, of_32, count, minima);
    few_scaled(with, 0, heads->m, minima, sums);
}

INLINE void few_q4_k(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS];
    const vi low = vi_set32(LOW_NIBBLES);
    few_k_heads(from, &heads);
    few_zero(with, total);
    for (int i = 0; i < 4; i++) {
        vi q[8], cells[8];
        stream_quads(from, (size_t)(16 + 32 * i), q);
        stream_quads(from, (size_t)(32 + 32 * i), q + 4);
        EACH(j, 8) cells[j] = vi_and(q[j], low);
        few_bytes(with, cells, 16 * i, (few_kind){8, 8, false}, &heads.scale[2 * i], total);
        EACH(j, 8) cells[j] = vi_and(vi_srl32(q[j], 4), low);
        few_bytes(with, cells, 16 * i + 8, (few_kind){8, 8, false}, &heads.scale[2 * i + 1], total);
    }
    few_chain(with, &heads, true, 4, total, sums);
}

INLINE void few_q5_k(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS], high[8];
    const vi low = vi_set32(LOW_NIBBLES);
    few_k_heads(from, &heads);
    stream_quads(from, 16, high);
    stream_quads(from, 32, high + 4);
    few_zero(with, total);
    for (int i = 0; i < 4; i++) {
        vi q[8], cells[8];
        stream_quads(from, (size_t)(48 + 32 * i), q);
        stream_quads(from, (size_t)(64 + 32 * i), q + 4);
        EACH(j, 8) cells[j] = AND_OR(vi_sll32(high[j], 4), BYTES(16), vi_and(q[j], low));
        few_bytes(with, cells, 16 * i, (few_kind){8, 4, false}, &heads.scale[2 * i], total);
        EACH(j, 8)
        {
            cells[j] = AND_OR(vi_sll32(high[j], 3), BYTES(16), vi_and(vi_srl32(q[j], 4), low));
            high[j] = vi_srl32(high[j], 2);
        }
        few_bytes(with, cells, 16 * i + 8, (few_kind){8, 4, false}, &heads.scale[2 * i + 1], total);
    }
    few_chain(with, &heads, true, 4, total, sums);
}

#ifdef QUANT_WRAPS
#define FEW_Q6_K ((few_kind){4, 4, true})
#else
#define FEW_Q6_K ((few_kind){4, 2, false})
#endif

INLINE void few_q6_k(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS], bytes[4];
    const vi low = vi_set32(LOW_NIBBLES), upper = vi_set32(BYTES(48));
    stream_quads(from, 192, bytes);
    EACH(i, 4)
    {
        few_signed_scales(bytes[i], heads.scale + 4 * i);
#ifndef QUANT_WRAPS
        few_offsets(bytes[i], 5, heads.pairs + 2 * i);
#endif
    }
#ifdef QUANT_WRAPS
    few_zero(with, total);
#else
    few_pairs(with, heads.pairs, false, 8, total);
#endif
    for (int i = 0; i < 4; i++) { /* 16 bytes of the upper bits: 64 values */
        vi first[4], second[4], high[4], cells[4];
        const int group = i / 2 * 8 + i % 2; /* the first of four, 2 apart */
        const vi *scale = heads.scale + group;
        size_t at = (size_t)(i / 2 * 64 + i % 2 * 16);
        stream_quads(from, at, first);
        stream_quads(from, at + 32, second);
        stream_quads(from, (size_t)(128 + 16 * i), high);
        EACH(j, 4) cells[j] = vi_or(vi_and(vi_sll32(high[j], 4), upper), vi_and(first[j], low));
        few_bytes(with, cells, 4 * group, FEW_Q6_K, scale, total);
        EACH(j, 4) cells[j] = vi_or(vi_and(vi_sll32(high[j], 2), upper), vi_and(second[j], low));
        few_bytes(with, cells, 4 * group + 8, FEW_Q6_K, scale + 2, total);
        EACH(j, 4) cells[j] = vi_or(vi_and(high[j], upper), vi_and(vi_srl32(first[j], 4), low));
        few_bytes(with, cells, 4 * group + 16, FEW_Q6_K, scale + 4, total);
        EACH(j, 4)
        cells[j] = vi_or(vi_and(vi_srl32(high[j], 2), upper), vi_and(vi_srl32(second[j], 4), low));
        few_bytes(with, cells, 4 * group + 24, FEW_Q6_K, scale + 6, total);
    }
    few_scaled(with, 0, vf_half(vi_srl32(load_last(from, 206), 16)), total, sums);
}

/* 16 bytes of values of two bits: 64 values, of which each 16 have a scale. */
INLINE void few_q2_k(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS], bytes[4], halves = load_last(from, 80);
    const vi low = vi_set32(LOW_NIBBLES), three = vi_set32(BYTES(3));
    stream_quads(from, 0, bytes);
    EACH(i, 4)
    {
        few_scales(vi_and(bytes[i], low), heads.scale + 4 * i);
        few_minima(vi_and(vi_srl32(bytes[i], 4), low), heads.pairs + 2 * i);
    }
    heads.d = vf_half(halves);
    heads.m = vf_negate(vf_half(vi_srl32(halves, 16)));
    few_zero(with, total);
    for (int i = 0; i < 4; i++) {
        vi q[4], cells[4];
        const int group = i / 2 * 8 + i % 2; /* the first of four, 2 apart */
        stream_quads(from, (size_t)(16 + 16 * i), q);
        EACH(j, 4)
        {
            EACH(c, 4) cells[c] = vi_and(vi_srl32(q[c], 2 * j), three);
            few_bytes(with, cells, 4 * (group + 2 * j), (few_kind){4, 4, false},
                      heads.scale + group + 2 * j, total);
        }
    }
    few_chain(with, &heads, false, 8, total, sums);
}

INLINE void few_q3_k(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS], head[4], bytes[4], high[8];
    const vi three = vi_set32(BYTES(3)), third = vi_set32(BYTES(4));
    stream_quads(from, 92, head);
    q3_scales(head, bytes);
    EACH(i, 4)
    {
        few_signed_scales(bytes[i], heads.scale + 4 * i);
        few_offsets(bytes[i], 2, heads.pairs + 2 * i);
    }
    stream_quads(from, 0, high);
    stream_quads(from, 16, high + 4);
    few_pairs(with, heads.pairs, false, 8, total);
    for (int i = 0; i < 4; i++) {
        vi q[4], cells[4], *bits = high + i % 2 * 4;
        const int group = i / 2 * 8 + i % 2;
        stream_quads(from, (size_t)(32 + 16 * i), q);
        EACH(j, 4)
        {
            EACH(c, 4)
            {
                vi two = vi_and(vi_srl32(q[c], 2 * j), three);
                cells[c] = vi_or(vi_and(vi_sll32(bits[c], 2), third), two);
                bits[c] = vi_srl32(bits[c], 1);
            }
            few_bytes(with, cells, 4 * (group + 2 * j), (few_kind){4, 4, false},
                      heads.scale + group + 2 * j, total);
        }
    }
    few_scaled(with, 0, vf_half(vi_srl32(load_last(from, 106), 16)), total, sums);
}

INLINE void few_iq4_xs(source *from, const few *with, vf *sums)
{
    few_heads heads;
    vi total[FEW_TOKENS], head[4];
    stream_quads(from, 0, head);
    EACH(i, 8)
    {
        vi scale = vi_and(vi_srl32(head[1], 4 * i), vi_set32(15));
        vi high = vi_and(vi_srl32(head[0], 16 + 2 * i), vi_set32(3));
        heads.scale[i] = vi_sub32(vi_or(scale, vi_sll32(high, 4)), vi_set32(32));
#ifdef QUANT_DOTS
        vi times = vi_sub32(vi_zero(), vi_sll32(heads.scale[i], 7)); /* -BYTE_BIAS */
        heads.pairs[i] = vi_or(vi_and(times, vi_set32(0xFFFF)), vi_sll32(times, 16));
#endif
    }
#ifdef QUANT_DOTS
    few_pairs(with, heads.pairs, false, 8, total);
#else
    few_zero(with, total);
#endif
    for (int i = 0; i < 8; i++) {
        vi q[4], cells[IQ4_XS_CELLS];
        stream_quads(from, (size_t)(8 + 16 * i), q);
        unpack_iq4_group(q, heads.scale[i], cells);
#ifdef QUANT_DOTS
        few_bytes(with, cells, 8 * i, (few_kind){8, 8, false}, &heads.scale[i], total);
#else
        few_words(with, cells, 16 * i, 16, total);
#endif
    }
    few_scaled(with, 0, vf_half(head[0]), total, sums);
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 32                                                                               */

/* `offset` was added to weights: -offset times the sums of q. */
INLINE void few_less(const few *with, int block, const int offset, vi *total)
{
    const uint32_t word = (uint32_t)-offset & 0xFFFF;
    const vi pair = vi_set32((int)(word | word << 16));
    EACH(t, with->tokens)
    total[t] = vi_madd(pair, vi_broadcast32(few_record(with, t)->sums + 2 * block));
}

/* With minima: the second half of a block. */
INLINE void few_least(const few *with, int block, vf m, vf *sums)
{
    EACH(t, with->tokens)
    {
        const mixt_q8 *x = few_record(with, t);
        sums[t] = add_scaled(sums[t], m, x->d[block], vi_set32(x->totals[block]));
    }
}

INLINE void few_nibbles(const vi q[4], vi cells[8])
{
    const vi low = vi_set32(LOW_NIBBLES);
    EACH(j, 4)
    {
        cells[j] = vi_and(q[j], low);
        cells[j + 4] = vi_and(vi_srl32(q[j], 4), low);
    }
}

INLINE void few_q4_0(source *from, const few *with, int block, vf *sums)
{
    vi q[4], cells[8], total[FEW_TOKENS];
    load_quads(from, 2, q);
    few_less(with, block, 8, total);
    few_nibbles(q, cells);
    few_bytes(with, cells, 8 * block, (few_kind){8, 8, false}, NULL, total);
    few_scaled(with, block, vf_half(load_first(from, 0)), total, sums);
}

INLINE void few_q4_1(source *from, const few *with, int block, vf *sums)
{
    vi q[4], cells[8], total[FEW_TOKENS], halves = load_first(from, 0);
    load_quads(from, 4, q);
    few_zero(with, total);
    few_nibbles(q, cells);
    few_bytes(with, cells, 8 * block, (few_kind){8, 8, false}, NULL, total);
    few_scaled(with, block, vf_half(halves), total, sums);
    few_least(with, block, vf_half(vi_srl32(halves, 16)), sums);
}

INLINE void few_q5_0(source *from, const few *with, int block, vf *sums)
{
    vi head[4], q[4], cells[8], total[FEW_TOKENS];
    load_quads(from, 0, head);
    load_quads(from, 6, q);
    few_less(with, block, 16, total);
    unpack_fives(q, fifth_bits(head), cells);
    few_bytes(with, cells, 8 * block, (few_kind){8, 4, false}, NULL, total);
    few_scaled(with, block, vf_half(head[0]), total, sums);
}

INLINE void few_q5_1(source *from, const few *with, int block, vf *sums)
{
    vi head[4], q[4], cells[8], total[FEW_TOKENS];
    load_quads(from, 0, head);
    load_quads(from, 8, q);
    few_zero(with, total);
    unpack_fives(q, head[1], cells);
    few_bytes(with, cells, 8 * block, (few_kind){8, 4, false}, NULL, total);
    few_scaled(with, block, vf_half(head[0]), total, sums);
    few_least(with, block, vf_half(vi_srl32(head[0], 16)), sums);
}

INLINE void few_mxfp4(source *from, const few *with, int block, vf *sums)
{
    const vi table = vi_sub8(vi_table(mixt_mxfp4_values), vi_set32((int)BYTES(0xF4U)));
    vi q[4], cells[8], total[FEW_TOKENS];
    load_quads(from, 1, q);
    few_less(with, block, 12, total);
    few_nibbles(q, cells);
    EACH(j, 8) cells[j] = vi_shuffle8(table, cells[j]);
    few_bytes(with, cells, 8 * block, (few_kind){8, 4, false}, NULL, total);
    few_scaled(with, block, mxfp4_scales(vi_and(load_first(from, 0), vi_set32(0xFF))), total, sums);
}

/* Before products of bytes with sign. */
INLINE void few_unbiased(const few *with, int block, vi *total)
{
#ifdef QUANT_DOTS
    few_less(with, block, BYTE_BIAS, total);
#else
    (void)block;
    few_zero(with, total);
#endif
}

INLINE void few_q8_0(source *from, const few *with, int block, vf *sums)
{
    vi q[8], total[FEW_TOKENS];
    load_quads(from, 2, q);
    load_quads(from, 18, q + 4);
    few_unbiased(with, block, total);
    EACH(j, 8) few_signed(with, q[j], 8 * block + j, total);
    few_scaled(with, block, vf_half(load_first(from, 0)), total, sums);
}

INLINE void few_iq4_nl(source *from, const few *with, int block, vf *sums)
{
    const vi table = vi_table(mixt_iq4_values), low = vi_set32(LOW_NIBBLES);
    vi q[4], total[FEW_TOKENS];
    load_quads(from, 2, q);
    few_unbiased(with, block, total);
    EACH(j, 4)
    {
        few_signed(with, vi_shuffle8(table, vi_and(q[j], low)), 8 * block + j, total);
        few_signed(with, vi_shuffle8(table, vi_and(vi_srl32(q[j], 4), low)), 8 * block + 4 + j,
                   total);
    }
    few_scaled(with, block, vf_half(load_first(from, 0)), total, sums);
}

/* ------------------------------------------------------------------------------------------ */
/* Rows                                                                                       */

/* The loop over steps stands behind the name, what its blocks are and how many tokens there are. */
#define FEW_FUNCTION(name, record, count, ...)                                                     \
    static void few_##name##_##count(const few_run *run)                                           \
    {                                                                                              \
        source from = run->from;                                                                   \
        few with = {run->x, sizeof(record), count};                                                \
        vf sums[count];                                                                            \
        EACH(t, count) sums[t] = vf_set(0);                                                        \
        __VA_ARGS__                                                                                \
        EACH(t, count) vf_store(run->sums + (t)*QUANT_LANES, sums[t]);                             \
    }
#define FEW_256(name, record, count)                                                               \
    FEW_FUNCTION(                                                                                  \
        name, record, count, for (int64_t step = 0; step < run->steps; step++) {                   \
            few_##name(&from, &with, sums);                                                        \
            from.base += run->bytes;                                                               \
            with.x += run->x_step;                                                                 \
        })
#define FEW_32(name, record, count)                                                                \
    FEW_FUNCTION(                                                                                  \
        name, record, count, for (int64_t step = 0; step <= run->steps; step++) {                  \
            const int blocks = step < run->steps ? MIXT_STEP_BLOCKS : run->rest;                   \
            for (int block = 0; block < blocks; block++) {                                         \
                fetch_stream(&from, QUANT_LANES * sizeof(mixt_##name##_block));                    \
                few_##name(&from, &with, block, sums);                                             \
                from.base += sizeof(mixt_##name##_block);                                          \
            }                                                                                      \
            with.x += run->x_step;                                                                 \
        })
#define FEW_FUNCTIONS(kind, name, record)                                                          \
    kind(name, record, 2) kind(name, record, 3) kind(name, record, 4) kind(name, record, 6)        \
        kind(name, record, 8)

FEW_FUNCTIONS(FEW_256, q2_k, mixt_q8)
FEW_FUNCTIONS(FEW_256, q3_k, mixt_q8)
FEW_FUNCTIONS(FEW_256, q4_k, mixt_q8)
FEW_FUNCTIONS(FEW_256, q5_k, mixt_q8)
FEW_FUNCTIONS(FEW_256, q6_k, mixt_q8)
FEW_FUNCTIONS(FEW_256, iq4_xs, mixt_q8_wide)
FEW_FUNCTIONS(FEW_32, q4_0, mixt_q8)
FEW_FUNCTIONS(FEW_32, q4_1, mixt_q8)
FEW_FUNCTIONS(FEW_32, q5_0, mixt_q8)
FEW_FUNCTIONS(FEW_32, q5_1, mixt_q8)
FEW_FUNCTIONS(FEW_32, mxfp4, mixt_q8)
FEW_FUNCTIONS(FEW_32, q8_0, mixt_q8_wide)
FEW_FUNCTIONS(FEW_32, iq4_nl, mixt_q8_wide)

#define FEW_ENTRIES(name)                                                                          \
    {                                                                                              \
        NULL, NULL, few_##name##_2, few_##name##_3, few_##name##_4, NULL, few_##name##_6, NULL,    \
            few_##name##_8                                                                         \
    }

/* The functions of a type, by tokens. */
static void (*const few_of_type[MIXT_TYPE_COUNT][FEW_TOKENS + 1])(const few_run *run) = {
    [MIXT_TYPE_Q4_0] = FEW_ENTRIES(q4_0),     [MIXT_TYPE_Q4_1] = FEW_ENTRIES(q4_1),
    [MIXT_TYPE_Q5_0] = FEW_ENTRIES(q5_0),     [MIXT_TYPE_Q5_1] = FEW_ENTRIES(q5_1),
    [MIXT_TYPE_Q8_0] = FEW_ENTRIES(q8_0),     [MIXT_TYPE_Q2_K] = FEW_ENTRIES(q2_k),
    [MIXT_TYPE_Q3_K] = FEW_ENTRIES(q3_k),     [MIXT_TYPE_Q4_K] = FEW_ENTRIES(q4_k),
    [MIXT_TYPE_Q5_K] = FEW_ENTRIES(q5_k),     [MIXT_TYPE_Q6_K] = FEW_ENTRIES(q6_k),
    [MIXT_TYPE_IQ4_NL] = FEW_ENTRIES(iq4_nl), [MIXT_TYPE_IQ4_XS] = FEW_ENTRIES(iq4_xs),
    [MIXT_TYPE_MXFP4] = FEW_ENTRIES(mxfp4),
};

/* The sums of rows [skip, QUANT_LANES) of those in work, the first of which is `row`. */
static void put_few(const mixt_matrix_task *task, int64_t row, int64_t skip, const float *sums)
{
    for (int64_t t = 0; t < task->tokens; t++, sums += QUANT_LANES) {
        float *c = task->c + t * task->c_row + row;
        if (skip == 0) {
            vf sum = vf_load(sums);
            vf_store(c, task->accumulate ? vf_add(vf_load(c), sum) : sum);
            continue;
        }
        for (int64_t i = skip; i < QUANT_LANES; i++) {
            c[i] = task->accumulate ? c[i] + sums[i] : sums[i];
        }
    }
}

/* Of so many tokens that are left: none is left alone, and there is a function for each. */
static const int8_t few_of_pass[2 * FEW_TOKENS + 1] = {0, 0, 2, 3, 4, 3, 6, 4, 8,
                                                       6, 6, 8, 6, 6, 8, 8, 8};

/* Blocks of 32 cost more to bring into lanes: with them two passes are faster than a panel. */
static bool is_few(const mixt_matrix_task *task)
{
    const mixt_type type = task->matrix->type;
    int most = mixt_type_info(type)->elements < MIXT_STEP ? 2 * FEW_TOKENS : FEW_TOKENS;
    return task->tokens > 1 && task->tokens <= most && task->row_end >= QUANT_LANES &&
           few_of_type[type][FEW_TOKENS] != NULL;
}

static void multiply_few(const mixt_matrix_task *task)
{
    const mixt_matrix *matrix = task->matrix;
    const mixt_type_row *info = mixt_type_info(matrix->type);
    float *sums = task->scratch;
    few_run run = {.steps = matrix->k / MIXT_STEP,
                   .rest = (int)(matrix->k % MIXT_STEP / 32),
                   .x_step = (size_t)task->tokens * task->activation_bytes,
                   .bytes = (size_t)(MIXT_STEP / info->elements * info->bytes)};
    for (int64_t row = task->row_begin; row < task->row_end; row += QUANT_LANES) {
        /* the last ones, where they are fewer, with some of those before them */
        int64_t first = mixt_least(row, task->row_end - QUANT_LANES), tokens;
        run.from.base = (const uint8_t *)matrix->data + (size_t)first * matrix->row_bytes;
        run.from.stride = matrix->row_bytes;
        for (int64_t done = 0; done < task->tokens; done += tokens) {
            tokens = few_of_pass[task->tokens - done];
            /* behind the matrix may be anything: what is there already is fetched instead */
            bool next = done == 0 && first + 2 * QUANT_LANES <= matrix->n;
            run.from.ahead = run.from.base + (next ? QUANT_LANES * matrix->row_bytes : 0);
            run.x = task->activations + (size_t)done * task->activation_bytes;
            run.sums = sums + done * QUANT_LANES;
            few_of_type[matrix->type][tokens](&run);
        }
        put_few(task, first, row - first, sums);
    }
}
