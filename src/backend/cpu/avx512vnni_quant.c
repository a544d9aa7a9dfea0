/* Products with quantised weights with AVX-512 VNNI: products of bytes are summed in 32 bits. */
#include "backend/cpu/avx512_quantise.h"

#define QUANT_DOTS
#define vi_dot4(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define vi_dpwssd(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)

#define FILL mixt_fill_avx512vnni_matrix
#include "backend/cpu/quant_kernels.h"
