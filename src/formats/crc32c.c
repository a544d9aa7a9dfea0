#include "formats/crc32c.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define POLYNOMIAL 0x82f63b78u /* bit-reflected */

/* tables[j][b]: the effect of byte b followed by j zero bytes ("slicing by 8"; Kounavis & Berry
 * 2005). */
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int j = 1; j < 8; j++) {
            tables[j][i] = tables[j - 1][i] >> 8 ^ tables[0][tables[j - 1][i] & 0xff];
        }
    }
}

uint32_t mixt_crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    pthread_once(&tables_once, fill_tables);
    const unsigned char *at = data;
    crc = ~crc;
    for (; length >= 8; length -= 8, at += 8) {
        uint32_t low = crc ^ ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
                              (uint32_t)at[3] << 24);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][at[4]] ^ tables[2][at[5]] ^ tables[1][at[6]] ^
              tables[0][at[7]];
    }
    for (; length != 0; length--) {
        crc = crc >> 8 ^ tables[0][(crc ^ *at++) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t length)
{
    const unsigned char *at = data;
    uint64_t sum = ~crc;
    for (; length >= 8; length -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        sum = _mm_crc32_u64(sum, word);
    }
    crc = (uint32_t)sum;
    for (; length != 0; length--) {
        crc = _mm_crc32_u8(crc, *at++);
    }
    return ~crc;
}
#endif

uint32_t mixt_crc32c(uint32_t crc, const void *data, size_t length)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return crc32c_sse42(crc, data, length);
    }
#endif
    return mixt_crc32c_portable(crc, data, length);
}
