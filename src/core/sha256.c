#include "core/sha256.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define MIXT_SHA_NI 1
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* One round; the callers rename the eight words instead of moving them. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                           \
    do {                                                                                           \
        uint32_t t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) +    \
                     round_constants[i] + w[(i)&15];                                               \
        d += t;                                                                                    \
        h = t + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)));        \
    } while (0)

#define EIGHT_ROUNDS(i)                                                                            \
    do {                                                                                           \
        ROUND(a, b, c, d, e, f, g, h, (i));                                                        \
        ROUND(h, a, b, c, d, e, f, g, (i) + 1);                                                    \
        ROUND(g, h, a, b, c, d, e, f, (i) + 2);                                                    \
        ROUND(f, g, h, a, b, c, d, e, (i) + 3);                                                    \
        ROUND(e, f, g, h, a, b, c, d, (i) + 4);                                                    \
        ROUND(d, e, f, g, h, a, b, c, (i) + 5);                                                    \
        ROUND(c, d, e, f, g, h, a, b, (i) + 6);                                                    \
        ROUND(b, c, d, e, f, g, h, a, (i) + 7);                                                    \
    } while (0)

static void compress_portable(uint32_t state[8], const unsigned char *data, size_t blocks)
{
    for (; blocks != 0; blocks--, data += 64) {
        uint32_t w[16];
        for (int i = 0; i < 16; i++) {
            w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 |
                   (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0;;) {
            EIGHT_ROUNDS(i);
            EIGHT_ROUNDS(i + 8);
            i += 16;
            if (i == 64) {
                break;
            }
            for (int j = 0; j < 16; j++) { /* the next sixteen words of the message schedule */
                uint32_t x = w[(j + 1) & 15], y = w[(j + 14) & 15];
                w[j] += (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[(j + 9) & 15] +
                        (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
            }
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

#ifdef MIXT_SHA_NI
/* Four rounds an iteration. The instructions keep the state as ABEF and CDGH. */
__attribute__((target("sha,sse4.1"))) static void
compress_sha_ni(uint32_t state[8], const unsigned char *data, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)&state[0]);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)&state[4]);
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
    __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; blocks != 0; blocks--, data += 64) {
        const __m128i old_abef = abef, old_cdgh = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++) {
            const void *from = data + 16 * i;
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)from), big_endian);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i now = w[i & 3];
            const void *constants = &round_constants[4 * i];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)constants));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (i < 12) { /* words 4i+16.. of the schedule replace words 4i.. */
                __m128i later = _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4);
                __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(now, w[(i + 1) & 3]), later);
                w[i & 3] = _mm_sha256msg2_epu32(next, w[(i + 3) & 3]);
            }
        }
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)&state[0], _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)&state[4], _mm_alignr_epi8(dchg, feba, 8));
}

static int cpu_has_sha(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_SSE4_1) == 0 || (c & bit_SSSE3) == 0) {
        return 0;
    }
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}
#endif

static int choice; /* 0: not yet looked, 1: portable, 2: SHA extensions */

void mixt_sha256_force_portable(int portable)
{
    __atomic_store_n(&choice, portable ? 1 : 0, __ATOMIC_RELAXED);
}

static void compress(uint32_t state[8], const unsigned char *data, size_t blocks)
{
#ifdef MIXT_SHA_NI
    int chosen = __atomic_load_n(&choice, __ATOMIC_RELAXED);
    if (chosen == 0) {
        chosen = cpu_has_sha() ? 2 : 1;
        __atomic_store_n(&choice, chosen, __ATOMIC_RELAXED);
    }
    if (chosen == 2) {
        compress_sha_ni(state, data, blocks);
        return;
    }
#endif
    compress_portable(state, data, blocks);
}

void mixt_sha256_init(mixt_sha256 *hash)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->length = 0;
}

void mixt_sha256_update(mixt_sha256 *hash, const void *data, size_t length)
{
    if (length == 0) {
        return;
    }
    const unsigned char *from = data;
    size_t used = (size_t)(hash->length & 63);
    hash->length += length;
    if (used != 0) {
        size_t part = length < 64 - used ? length : 64 - used;
        memcpy(hash->block + used, from, part);
        from += part;
        length -= part;
        if (used + part < 64) {
            return;
        }
        compress(hash->state, hash->block, 1);
    }
    if (length >= 64) {
        compress(hash->state, from, length / 64);
        from += length / 64 * 64;
    }
    if (length % 64 != 0) {
        memcpy(hash->block, from, length % 64);
    }
}

void mixt_sha256_final(mixt_sha256 *hash, unsigned char digest[MIXT_SHA256_BYTES])
{
    static const unsigned char padding[64] = {0x80};
    unsigned char bits[8];
    for (int i = 0; i < 8; i++) {
        bits[i] = (unsigned char)(hash->length * 8 >> (56 - 8 * i));
    }
    mixt_sha256_update(hash, padding, 1 + ((119 - (size_t)(hash->length & 63)) & 63));
    mixt_sha256_update(hash, bits, 8);
    for (int i = 0; i < 32; i++) {
        digest[i] = (unsigned char)(hash->state[i / 4] >> (24 - i % 4 * 8));
    }
}

void mixt_sha256_final_hex(mixt_sha256 *hash, char text[MIXT_SHA256_HEX])
{
    unsigned char digest[MIXT_SHA256_BYTES];
    mixt_sha256_final(hash, digest);
    for (int i = 0; i < 32; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    text[64] = '\0';
}

void mixt_sha256_update_u64(mixt_sha256 *hash, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    mixt_sha256_update(hash, bytes, sizeof bytes);
}
