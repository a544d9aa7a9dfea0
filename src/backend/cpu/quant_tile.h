/* Panels times tokens: QUANT_PANELS panels, so QUANT_PANELS * QUANT_LANES rows, and up to
 * QUANT_TOKENS tokens at a time. Included behind quant_panel.h.
 *
 * Where there is no instruction that sums products of bytes in 32 bits at once (QUANT_DOTS), they
 * are summed in 16 bits as long as they fit (`depth` cells: two products a cell and word, at most
 * 127 times the largest weight each), and multiplied by the scale of their group on the way to 32
 * bits. QUANT_HALVES have one product a cell and word: those of a whole group fit. */

/* What a type's tiles are made of; constants to the functions they are passed to. */
typedef struct tile_kind {
    int group;  /* cells of a scale; blocks of 32 have none: 8 */
    int depth;  /* cells that 16 bits hold */
    int offset; /* taken from each weight. K types: their pairs are -offset times scales */
    int minima; /* pairs of minima: 8 (sums over 16), 4 (sums over 32); blocks of 32: 1 */
    bool plain; /* all scales of a block of 256 are 1 */
    int wraps;  /* sums of four cells start from `starts` so many times, modulo 2^16; no offset */
} tile_kind;

typedef struct tile {
    const panel *panels; /* [QUANT_PANELS] */
    const char *x;       /* activations, records of x_bytes */
    size_t x_bytes;
    int blocks;
    float *sums;          /* [tokens, QUANT_PANELS * QUANT_LANES] */
    const uint8_t *ahead; /* to be fetched, `lines` cache lines for each eighth of a step */
    int lines;
#ifdef QUANT_PAIRS
    bool paired; /* panels are as pair_rows leaves them: where a step has more than one token */
#endif
} tile;

#define ROWS (QUANT_PANELS * QUANT_LANES)

/* Keeps the compiler from turning a chain of sums into a tree, whose leaves would need more
 * registers than there are. (Instructions that add to their first operand stay a chain.) */
#ifdef __aarch64__
#define PIN(x) (void)0
#else
#define PIN(x) __asm__("" : "+v"(x))
#endif
/* Keeps a total in memory, where it costs less than moving others out of its way. */
#ifdef QUANT_SPILLS
#define SPILL(x) __asm__("" : "+m"(x))
#else
#define SPILL(x) (void)0
#endif
#ifdef QUANT_HALVES
#define DEPTH(kind) (kind).group
#else
#define DEPTH(kind) (kind).depth
#endif

/* The record of a token. */
INLINE const mixt_q8 *record_of(const tile *at, int token)
{
    return (const mixt_q8 *)(const void *)(at->x + (size_t)token * at->x_bytes);
}

INLINE void fetch_eighth(const tile *at, int eighth)
{
    for (int line = 0; line < at->lines; line++) {
        __builtin_prefetch(at->ahead + 64 * (eighth * at->lines + line), 0, 2);
    }
}

#if defined QUANT_DOTS && defined __aarch64__
#include "backend/cpu/neon_cells.h"
#elif defined QUANT_DOTS
/* Adds the products of `cells` cells to `part`. */
INLINE void add_cells(const tile *at, int cell, const int cells, const int tokens,
                      vi part[QUANT_TOKENS][QUANT_PANELS])
{
    EACH(i, cells)
    {
        EACH(t, tokens)
        {
            vi q = vi_broadcast32(record_of(at, t)->q + 4 * (cell + i));
            EACH(r, QUANT_PANELS)
            part[t][r] = vi_dot4(part[t][r], at->panels[r].cells[cell + i], q);
        }
    }
}
#endif

/* Adds to `total` the products of one group of cells that share a scale (NULL: 1). */
INLINE void add_group(const tile *at, int cell, const vi *scales, const tile_kind kind,
                      const int tokens, vi total[QUANT_TOKENS][QUANT_PANELS])
{
#ifdef QUANT_DOTS
    vi part[QUANT_TOKENS][QUANT_PANELS];
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) part[t][r] = scales == NULL ? total[t][r] : vi_zero();
    }
    add_cells(at, cell, kind.group, tokens, part);
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS)
        total[t][r] =
            scales == NULL ? part[t][r] : vi_add32(total[t][r], vi_mullo32(part[t][r], scales[r]));
    }
#else
    EACH(first, kind.group / DEPTH(kind))
    {
        vb part[QUANT_TOKENS][QUANT_PANELS];
        EACH(i, DEPTH(kind))
        {
            int c = cell + first * DEPTH(kind) + i;
            EACH(t, tokens)
            {
                vi q = vi_broadcast32(record_of(at, t)->q + 4 * c);
#ifdef QUANT_WRAPS
                if (i == 0 && kind.wraps > 0) {
                    vi start = vi_broadcast32(record_of(at, t)->starts + 2 * (c / 4));
                    start = kind.wraps == 2 ? vi_add16(start, start) : start;
                    EACH(r, QUANT_PANELS) part[t][r] = start;
                }
#endif
                EACH(r, QUANT_PANELS)
                {
                    vi w = at->panels[r].cells[c];
                    part[t][r] =
                        i == 0 && kind.wraps == 0 ? vb_first(w, q) : vb_next(part[t][r], w, q);
                    PIN(part[t][r]);
                }
            }
        }
        EACH(t, tokens)
        {
            EACH(r, QUANT_PANELS)
            {
                total[t][r] = scales == NULL ? vb_added(total[t][r], part[t][r])
                                             : vb_scaled(total[t][r], part[t][r], scales[r]);
                SPILL(total[t][r]);
            }
        }
    }
#endif
}

/* The pairs of a panel times sums of q. */
INLINE vi pairs_times(const panel *from, const int16_t *sums, const int count)
{
    vi sum = vi_madd(from->pairs[0], vi_broadcast32(sums));
    EACH(i, count)
    {
        if (i > 0) {
            sum = vi_add32(sum, vi_madd(from->pairs[i], vi_broadcast32(sums + 2 * i)));
        }
    }
    return sum;
}

/* sum + d_weights d_x total */
INLINE vf add_scaled(vf sum, vf d, float d_x, vi total)
{
    return vf_fma(vf_multiply(d, vf_set(d_x)), vf_convert(total), sum);
}

#ifdef QUANT_WRAPS
/* Adds to `total` the products of four cells of IQ2, bytes that are 64 more than values of up to
 * 43: eight of these products fit 16 bits where activations are not large, else two do. */
INLINE void add_twos(const tile *at, int cell, const vi *scales, const int tokens,
                     vi total[QUANT_TOKENS][QUANT_PANELS])
{
    const int group = cell / 4;
    int large = 0;
    EACH(t, tokens) large |= record_of(at, t)->large;
    if ((large >> group & 1) == 0) {
        add_group(at, cell, scales, (tile_kind){4, 4, 0, 0, false, 2}, tokens, total);
        return;
    }
    add_group(at, cell, scales, (tile_kind){4, 1, 0, 0, false, 0}, tokens, total);
    EACH(t, tokens)
    {
        vi start = vi_broadcast32(record_of(at, t)->starts + 2 * group);
        EACH(r, QUANT_PANELS)
        {
            vi less = vi_madd(scales[r], start);
            total[t][r] = vi_add32(total[t][r], vi_add32(less, less));
        }
    }
}
#endif

/* A block of 256 with scales of its groups. */
INLINE void tile_256(const tile *at, const tile_kind kind, const int tokens)
{
    vi total[QUANT_TOKENS][QUANT_PANELS];
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS)
        total[t][r] =
            kind.offset == 0 ? vi_zero() : pairs_times(&at->panels[r], record_of(at, t)->sums, 8);
    }
    for (int group = 0; group < MIXT_STEP / 4 / kind.group; group++) {
        if (kind.group == 8 || group % 2 == 0) {
            fetch_eighth(at, group * kind.group / 8);
        }
        vi scales[QUANT_PANELS];
        EACH(r, QUANT_PANELS) scales[r] = kind.plain ? vi_zero() : at->panels[r].scales[group];
#ifdef QUANT_WRAPS
        if (kind.wraps == 2) {
            EACH(i, kind.group / 4)
            add_twos(at, group * kind.group + 4 * i, scales, tokens, total);
            continue;
        }
#endif
        add_group(at, group * kind.group, kind.plain ? NULL : scales, kind, tokens, total);
    }
    EACH(t, tokens)
    {
        const mixt_q8 *x = record_of(at, t);
        EACH(r, QUANT_PANELS)
        {
            const panel *from = &at->panels[r];
            float *to = at->sums + t * ROWS + r * QUANT_LANES;
            vf sum = add_scaled(vf_load(to), from->d[0], x->d[0], total[t][r]);
            if (kind.minima > 0) {
                vi minima =
                    pairs_times(from, kind.minima == 4 ? x->block_sums : x->sums, kind.minima);
                sum = add_scaled(sum, from->m[0], x->d[0], minima);
            }
            vf_store(to, sum);
        }
    }
}

/* -offset times the sums of q of a block of 32: of its first half (1), its second (2) or all (3).
 */
INLINE vi less(const int offset, const tile *at, int token, int block, const int halves)
{
    uint32_t word = (uint32_t)-offset & 0xFFFF;
    uint32_t pair = (halves & 1 ? word : 0) | (halves & 2 ? word << 16 : 0);
    return vi_madd(vi_set32((int)pair), vi_broadcast32(record_of(at, token)->sums + 2 * block));
}

/* Blocks of 32. */
INLINE void tile_32(const tile *at, const tile_kind kind, const int tokens)
{
    vf sum[QUANT_TOKENS][QUANT_PANELS];
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) sum[t][r] = vf_load(at->sums + t * ROWS + r * QUANT_LANES);
    }
    for (int block = 0; block < at->blocks; block++) {
        vi total[QUANT_TOKENS][QUANT_PANELS];
        EACH(t, tokens)
        {
            EACH(r, QUANT_PANELS)
            total[t][r] = kind.offset == 0 ? vi_zero() : less(kind.offset, at, t, block, 3);
        }
        fetch_eighth(at, block);
        add_group(at, 8 * block, NULL, kind, tokens, total);
        EACH(t, tokens)
        {
            const mixt_q8 *x = record_of(at, t);
            EACH(r, QUANT_PANELS)
            {
                const panel *from = &at->panels[r];
                sum[t][r] = add_scaled(sum[t][r], from->d[block], x->d[block], total[t][r]);
                if (kind.minima > 0) {
                    sum[t][r] = add_scaled(sum[t][r], from->m[block], x->d[block],
                                           vi_set32(x->totals[block]));
                }
            }
        }
    }
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) vf_store(at->sums + t * ROWS + r * QUANT_LANES, sum[t][r]);
    }
}

/* Words instead of bytes: adds `cells` cells of two k to `total`. */
INLINE void add_wide(const tile *at, int cell, const int cells, const int tokens,
                     vw total[QUANT_TOKENS][QUANT_PANELS])
{
    EACH(i, cells)
    {
        EACH(t, tokens)
        {
            const mixt_q8_wide *x = (const void *)record_of(at, t);
            vi q = vi_broadcast32(x->q + 2 * (cell + i));
            EACH(r, QUANT_PANELS)
            {
                total[t][r] = vw_next(total[t][r], at->panels[r].cells[cell + i], q);
                PIN(total[t][r]);
            }
        }
    }
}

/* `cells` have a scale of their own: those of a block of 32, or of the one block of 256. */
INLINE void tile_wide(const tile *at, const int cells, const int tokens)
{
    vf sum[QUANT_TOKENS][QUANT_PANELS];
    int blocks = cells == MIXT_STEP / 2 ? 1 : at->blocks;
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) sum[t][r] = vf_load(at->sums + t * ROWS + r * QUANT_LANES);
    }
    for (int block = 0; block < blocks; block++) {
        vw total[QUANT_TOKENS][QUANT_PANELS];
        EACH(t, tokens)
        {
            EACH(r, QUANT_PANELS) total[t][r] = vw_zero();
        }
        for (int cell = 0; cell < cells; cell += 16) {
            fetch_eighth(at, cells == 16 ? block : cell / 16);
            add_wide(at, block * cells + cell, 16, tokens, total);
        }
        EACH(t, tokens)
        {
            float d = record_of(at, t)->d[block];
            EACH(r, QUANT_PANELS)
            sum[t][r] = add_scaled(sum[t][r], at->panels[r].d[block], d, vw_sum(total[t][r]));
        }
    }
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) vf_store(at->sums + t * ROWS + r * QUANT_LANES, sum[t][r]);
    }
}

/* The products of half a block of 32. */
INLINE void half_products(const tile *at, int block, const int half, const int tokens,
                          vi total[QUANT_TOKENS][QUANT_PANELS])
{
#ifdef QUANT_DOTS
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS)
        total[t][r] = BYTE_BIAS == 0 ? vi_zero() : less(BYTE_BIAS, at, t, block, half + 1);
    }
    add_cells(at, 8 * block + 4 * half, 4, tokens, total);
#elif defined QUANT_BYTES
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) total[t][r] = vi_zero();
    }
    add_group(at, 8 * block + 4 * half, NULL, (tile_kind){4, 4, 0, 0, false, 1}, tokens, total);
#else
    vw sum[QUANT_TOKENS][QUANT_PANELS];
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) sum[t][r] = vw_zero();
    }
    add_wide(at, 16 * block + 8 * half, 8, tokens, sum);
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) total[t][r] = vw_sum(sum[t][r]);
    }
#endif
}

/* Halves of blocks of 32 that have scales of their own: d, then m. */
INLINE void tile_16(const tile *at, const int tokens)
{
    vf sum[QUANT_TOKENS][QUANT_PANELS];
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) sum[t][r] = vf_load(at->sums + t * ROWS + r * QUANT_LANES);
    }
    for (int block = 0; block < at->blocks; block++) {
        fetch_eighth(at, block);
        EACH(half, 2)
        {
            vi total[QUANT_TOKENS][QUANT_PANELS];
            half_products(at, block, half, tokens, total);
            EACH(t, tokens)
            {
                float d = record_of(at, t)->d[block];
                EACH(r, QUANT_PANELS)
                {
                    const panel *from = &at->panels[r];
                    vf scale = half == 0 ? from->d[block] : from->m[block];
                    sum[t][r] = add_scaled(sum[t][r], scale, d, total[t][r]);
                }
            }
        }
    }
    EACH(t, tokens)
    {
        EACH(r, QUANT_PANELS) vf_store(at->sums + t * ROWS + r * QUANT_LANES, sum[t][r]);
    }
}

/* All tokens of a step, as evenly as they can be shared among tiles: a tile of few tokens has too
 * few chains of sums to keep the multipliers busy, and reads all of the panels nevertheless. */
INLINE int tokens_of_tile(int64_t left)
{
    int64_t tiles = (left + QUANT_TOKENS - 1) / QUANT_TOKENS;
    return (int)((left + tiles - 1) / tiles);
}

#define TILE_OF(n, call)                                                                           \
    case n: {                                                                                      \
        const int tokens = n;                                                                      \
        call;                                                                                      \
        break;                                                                                     \
    }
#if QUANT_TOKENS > 4
#define TILES_OF_MANY(call) TILE_OF(5, call) TILE_OF(6, call)
#else
#define TILES_OF_MANY(call)
#endif
_Static_assert(QUANT_TOKENS == 4 || QUANT_TOKENS == 6, "tokens of a tile");

#define TILE_FUNCTION(name, call)                                                                  \
    static void name(tile at, int64_t count)                                                       \
    {                                                                                              \
        while (count > 0) {                                                                        \
            int next = tokens_of_tile(count);                                                      \
            switch (next) {                                                                        \
                TILE_OF(1, call)                                                                   \
                TILE_OF(2, call)                                                                   \
                TILE_OF(3, call)                                                                   \
                TILE_OF(4, call)                                                                   \
                TILES_OF_MANY(call)                                                                \
            }                                                                                      \
            at.lines = 0;                                                                          \
            at.x += (size_t)next * at.x_bytes;                                                     \
            at.sums += next * ROWS;                                                                \
            count -= next;                                                                         \
        }                                                                                          \
    }

TILE_FUNCTION(tiles_q2_k, tile_256(&at, ((tile_kind){4, 4, 0, 8, false, 0}), tokens))
TILE_FUNCTION(tiles_q3_k, tile_256(&at, ((tile_kind){4, 4, 4, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_q4_k, tile_256(&at, ((tile_kind){8, 8, 0, 4, false, 0}), tokens))
TILE_FUNCTION(tiles_q5_k, tile_256(&at, ((tile_kind){8, 4, 0, 4, false, 0}), tokens))
#ifdef QUANT_WRAPS
TILE_FUNCTION(tiles_q6_k, tile_256(&at, ((tile_kind){4, 4, 0, 0, false, 1}), tokens))
#else
TILE_FUNCTION(tiles_q6_k, tile_256(&at, ((tile_kind){4, 2, 32, 0, false, 0}), tokens))
#endif
TILE_FUNCTION(tiles_q4_0, tile_32(&at, ((tile_kind){8, 8, 8, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_q4_1, tile_32(&at, ((tile_kind){8, 8, 0, 1, false, 0}), tokens))
TILE_FUNCTION(tiles_q5_0, tile_32(&at, ((tile_kind){8, 4, 16, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_q5_1, tile_32(&at, ((tile_kind){8, 4, 0, 1, false, 0}), tokens))
TILE_FUNCTION(tiles_mxfp4, tile_32(&at, ((tile_kind){8, 4, 12, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_16, tile_16(&at, tokens))
#ifdef QUANT_DOTS
TILE_FUNCTION(tiles_signed_32, tile_32(&at, ((tile_kind){8, 8, BYTE_BIAS, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_signed_256, tile_256(&at, ((tile_kind){8, 8, BYTE_BIAS, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_multiples_16,
              tile_256(&at, ((tile_kind){4, 4, BYTE_BIAS, 0, false, 0}), tokens))
TILE_FUNCTION(tiles_multiples_256,
              tile_256(&at, ((tile_kind){8, 8, BYTE_BIAS, 0, true, 0}), tokens))
#define tiles_iq4_xs tiles_signed_256
#define tiles_multiples_32 tiles_signed_256
#else
TILE_FUNCTION(tiles_signed_32, tile_wide(&at, 16, tokens))
TILE_FUNCTION(tiles_wide_256, tile_wide(&at, MIXT_STEP / 2, tokens))
#define tiles_iq4_xs tiles_wide_256
#endif
#ifdef QUANT_WRAPS
/* Values of up to 31: sums of eight products fit 16 bits. */
TILE_FUNCTION(tiles_multiples_16, tile_256(&at, ((tile_kind){4, 4, 0, 0, false, 1}), tokens))
TILE_FUNCTION(tiles_multiples_32, tile_256(&at, ((tile_kind){8, 4, 0, 0, false, 1}), tokens))
TILE_FUNCTION(tiles_multiples_256, tile_256(&at, ((tile_kind){8, 4, 0, 0, true, 1}), tokens))
/* Those of IQ2, of up to 43. */
TILE_FUNCTION(tiles_twos_16, tile_256(&at, ((tile_kind){4, 4, 0, 0, false, 2}), tokens))
TILE_FUNCTION(tiles_twos_32, tile_256(&at, ((tile_kind){8, 4, 0, 0, false, 2}), tokens))
#else
#define tiles_twos_16 tiles_multiples_16
#define tiles_twos_32 tiles_multiples_32
#endif
#ifdef QUANT_HALVES
#define tiles_multiples_16 tiles_wide_256
#define tiles_multiples_32 tiles_wide_256
#define tiles_multiples_256 tiles_wide_256
#endif
