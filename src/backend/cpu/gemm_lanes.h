/* What tiles by lanes share (ops/kernels_tmpl.h, tile_lanes), behind a file that has defined
 *
 *   EACH_ROW(X) TILE_ROWS TILE_COLUMNS DECLARE_ROW(i)   as its tiles have them
 *   ADD_CELLS(step)    the cells at a and b, those of A `step` apart, to the rows' sums
 *   TOTAL_ROW(i)       adds the sums of row i to its totals
 *
 * Totals are in memory that is the tile's own: rows of C may share a set of the first cache. They
 * begin with C, or with -0, which leaves whatever is added to it. */
#define ADD_LANES(k, from)                                                                         \
    for (int64_t lane = 0; lane < MIXT_GEMM_LANES && lane < (k); lane++) {                         \
        const float *a = (from) + lane * TILE_ROWS;                                                \
        int64_t cells = mixt_lane_values(k, lane);                                                 \
        EACH_ROW(DECLARE_ROW)                                                                      \
        ADD_CELLS(MIXT_GEMM_LANES)                                                                 \
        EACH_ROW(TOTAL_ROW)                                                                        \
    }
