/* The VNNI products with their instructions spelled out, on the panels of the library. */
#include "avx512_emulated.h"

#include "backend/cpu/avx512_quantise.h"

/* Words of a times words of b, pairs of products summed in 32 bits, added to `sum`. */
static inline vi vi_dpwssd(vi sum, vi a, vi b)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}

/* Bytes without sign of a times bytes with sign of b, four products added to `sum`. */
static inline vi vi_dot4(vi sum, vi a, vi b)
{
    vi even = _mm512_madd_epi16(_mm512_and_si512(a, _mm512_set1_epi16(0xFF)),
                                _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
    vi odd = _mm512_madd_epi16(_mm512_srli_epi16(a, 8), _mm512_srai_epi16(b, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

#define QUANT_DOTS
#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#include "backend/cpu/quant_multiples.h"

#include "backend/cpu/quant_multiply.h"

#include "backend/cpu/quant_rows.h"

void mixt_fill_avx512_emulated_vnni(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, kernel_multiply};
    table->matrix = &kernels;
}
