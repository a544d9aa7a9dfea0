/* Products of bytes with NEON's dot products: the inner loop of quant_tile.h, whose types it uses.
 * Four dwords of activations are loaded at once and named by their lane. */

#define DOT_LANE(i)                                                                                \
    EACH(t, tokens)                                                                                \
    part[t][r] = vdotq_laneq_s32(part[t][r], AS_S8(from[i]), AS_S8(x[t]), i);

INLINE void add_dots(const tile *at, int cell, const int cells, const int tokens,
                     vi part[QUANT_TOKENS][QUANT_PANELS])
{
    EACH(four, cells / 4)
    {
        vi x[QUANT_TOKENS];
        EACH(t, tokens) x[t] = vi_load(record_of(at, t)->q + 4 * (cell + 4 * four));
        EACH(r, QUANT_PANELS)
        {
            const vi *from = at->panels[r].cells + cell + 4 * four;
            DOT_LANE(0)
            DOT_LANE(1)
            DOT_LANE(2)
            DOT_LANE(3)
        }
    }
}

#ifndef QUANT_PAIRS
#define add_cells add_dots
#else
/* SMMLA multiplies two rows of eight k by two tokens of eight k. So two cells, of four rows each,
 * become two pairs of rows: once for all tokens. */
INLINE void pair_rows(panel *of, int cells)
{
    for (int i = 0; i < cells; i += 2) {
        vi a = of->cells[i], b = of->cells[i + 1];
        of->cells[i] = vzip1q_s32(a, b);
        of->cells[i + 1] = vzip2q_s32(a, b);
    }
}

/* Sixteen k of tokens 2 p and 2 p + 1 (of one token twice where there is no other) as two pairs. */
INLINE void pair_tokens(const tile *at, int cell, const int p, const int tokens, vi pair[2])
{
    int64x2_t a = AS_S64(vi_load(record_of(at, 2 * p)->q + 4 * cell));
    int64x2_t b = tokens == 1 ? a : AS_S64(vi_load(record_of(at, 2 * p + 1)->q + 4 * cell));
    pair[0] = OF_S64(vzip1q_s64(a, b));
    pair[1] = OF_S64(vzip2q_s64(a, b));
}

#define TOKEN_PAIRS(tokens) (((tokens) + 1) / 2)

INLINE void add_pairs(const tile *at, int cell, const int cells, const int tokens,
                      vi part[QUANT_TOKENS][QUANT_PANELS])
{
    vi sum[TOKEN_PAIRS(QUANT_TOKENS)][QUANT_PANELS][2]; /* of two rows: row by row, two tokens */
    EACH(p, TOKEN_PAIRS(tokens))
    {
        EACH(r, QUANT_PANELS) sum[p][r][0] = sum[p][r][1] = vi_zero();
    }
    EACH(four, cells / 4)
    {
        vi x[TOKEN_PAIRS(QUANT_TOKENS)][2];
        EACH(p, TOKEN_PAIRS(tokens)) pair_tokens(at, cell + 4 * four, p, tokens, x[p]);
        EACH(r, QUANT_PANELS)
        {
            const vi *from = at->panels[r].cells + cell + 4 * four;
            EACH(i, 4) /* rows 0 and 1, rows 2 and 3, of the first eight k and of the next */
            {
                EACH(p, TOKEN_PAIRS(tokens))
                sum[p][r][i % 2] = vmmlaq_s32(sum[p][r][i % 2], AS_S8(from[i]), AS_S8(x[p][i / 2]));
            }
        }
    }
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS)
        {
            const vi *of = sum[t / 2][r];
            part[t][r] = vaddq_s32(part[t][r], t % 2 == 0 ? vuzp1q_s32(of[0], of[1])
                                                          : vuzp2q_s32(of[0], of[1]));
        }
    }
}

INLINE void add_cells(const tile *at, int cell, const int cells, const int tokens,
                      vi part[QUANT_TOKENS][QUANT_PANELS])
{
    if (at->paired) {
        add_pairs(at, cell, cells, tokens, part);
    } else {
        assert(tokens == 1);
        add_dots(at, cell, cells, 1, part);
    }
}
#endif
