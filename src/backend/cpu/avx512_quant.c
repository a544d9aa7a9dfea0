/* Products with quantised weights with AVX-512 F, BW, DQ, VL. */
#include "backend/cpu/avx512_quantise.h"

#define vi_dpwssd(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))

#define FILL mixt_fill_avx512_matrix
#include "backend/cpu/quant_kernels.h"
