/* Packing for bfloat16 products without the instruction, on the lanes of vector.h: fp32 panels as
 * scalar_bf16.c defines them. Needs `kernel_pack`, TILE_ROWS, TILE_COLUMNS, `round_rows`, and
 * `pack_typed` of float_pack.h; fill_gemm enters both kinds of product, with `kernel_tile`. */
#include <stdint.h>

static inline __attribute__((always_inline)) void round_cell(float *even, float *odd,
                                                             const int width)
{
    for (int lane = 0; lane < width; lane += 16) {
        const int count = width - lane < 16 ? width - lane : 16;
        v16 first = v_round_bf16(v_load(odd + lane, count));
        v16 second = v_round_bf16(v_load(even + lane, count));
        v_store(even + lane, first, count);
        if (odd != even) {
            v_store(odd + lane, second, count);
        }
    }
}

/* Rounds a packed panel and swaps the two k of each pair. `round_rows` does so for pairs of a
 * panel of rows of A, without partial loads, which would wait for the stores before them. */
static void round_panel(int64_t k, float *panel, int panel_width)
{
    int64_t pairs = k / 2;
    float *last = panel + 2 * pairs * panel_width;
    if (panel_width == TILE_ROWS) {
        round_rows(pairs, panel);
    } else if (panel_width == TILE_COLUMNS) {
        for (float *pair = panel; pair < last; pair += 2 * TILE_COLUMNS) {
            round_cell(pair, pair + TILE_COLUMNS, TILE_COLUMNS);
        }
    } else {
        for (float *pair = panel; pair < last; pair += 2 * panel_width) {
            round_cell(pair, pair + panel_width, panel_width);
        }
    }
    if (k % 2 == 1) {
        round_cell(last, last, panel_width);
    }
}

static void kernel_pack_bf16(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                             float *panels, int panel_width)
{
    kernel_pack(k, width, x, x_k, x_width, panels, panel_width);
    for (int64_t begin = 0; begin < width; begin += panel_width) {
        round_panel(k, panels + begin * k, panel_width);
    }
}

static void pack_typed_bf16(const mixt_row_range *from, float *panels, int panel_width)
{
    pack_typed(from, panels, panel_width);
    for (int64_t begin = 0; begin < from->rows; begin += panel_width) {
        round_panel(from->k, panels + begin * from->k, panel_width);
    }
}

/* The thread's modes and the tile of products in bfloat16 are those of the instruction set. */
static void fill_gemm(mixt_kernels_f32 *table)
{
    table->gemm = (mixt_gemm_kernels_f32){.tile_rows = TILE_ROWS,
                                          .tile_columns = TILE_COLUMNS,
                                          .pack = kernel_pack,
                                          .tile = kernel_tile,
                                          .tile_lanes = kernel_tile_lanes,
                                          .pack_typed = pack_typed};
    table->gemm_bf16 = table->gemm;
    table->gemm_bf16.tile_lanes = NULL;
    table->gemm_bf16.pack = kernel_pack_bf16;
    table->gemm_bf16.pack_typed = pack_typed_bf16;
}
