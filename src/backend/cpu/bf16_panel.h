/* Packing for bfloat16 products without the instruction, on the lanes of vector.h: fp32 panels as
 * scalar_bf16.c defines them. Needs `kernel_pack`. */
#include <stdint.h>

/* Rounds a packed panel and swaps the two k of each pair. */
static void round_panel(int64_t k, float *panel, int panel_width)
{
    for (int64_t cell = 0; cell < k; cell += 2) {
        float *even = panel + cell * panel_width;
        float *odd = cell + 1 < k ? even + panel_width : even;
        for (int lane = 0; lane < panel_width; lane += 16) {
            int count = panel_width - lane < 16 ? panel_width - lane : 16;
            v16 first = v_round_bf16(v_load(odd + lane, count));
            v16 second = v_round_bf16(v_load(even + lane, count));
            v_store(even + lane, first, count);
            v_store(odd + lane, odd == even ? first : second, count);
        }
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
