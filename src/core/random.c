#include "core/random.h"

#include <assert.h>
#include <math.h>
#include <time.h>

#include "core/platform.h"
#include "mixt.h"

static void random_block(const mixt_random_key *key, uint64_t index, uint32_t block[4])
{
    uint32_t x0 = (uint32_t)index, x1 = (uint32_t)(index >> 32), x2 = key->purpose, x3 = key->step;
    uint32_t k0 = (uint32_t)key->seed, k1 = (uint32_t)(key->seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * x2;
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        uint32_t y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    block[0] = x0;
    block[1] = x1;
    block[2] = x2;
    block[3] = x3;
}

uint64_t mixt_random_bits(const mixt_random_key *key, uint64_t index)
{
    uint32_t block[4];
    random_block(key, index, block);
    return (uint64_t)block[1] << 32 | block[0];
}

double mixt_random_uniform(const mixt_random_key *key, uint64_t index)
{
    return (double)(mixt_random_bits(key, index) >> 11) * 0x1p-53;
}

double mixt_random_normal(const mixt_random_key *key, uint64_t index)
{
    uint32_t block[4];
    random_block(key, index, block);
    double u = ((double)block[0] + 0.5) * 0x1p-32;
    double v = ((double)block[1] + 0.5) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t mixt_random_seed(void)
{
    uint64_t seed;
    if (!mixt_entropy_read(&seed, sizeof seed)) {
        struct timespec now = {0, 0};
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    }
    return seed;
}

__extension__ typedef unsigned __int128 wide;

uint64_t mixt_random_below(const mixt_random_key *key, uint64_t index, uint64_t bound)
{
    assert(bound >= 1);
    return (uint64_t)(((wide)mixt_random_bits(key, index) * bound) >> 64);
}

uint64_t mixt_random_permute(const mixt_random_key *key, uint64_t index, uint64_t count)
{
    assert(index < count);
    uint32_t half = 1; /* bits of each half: 2^(2 half) >= count */
    while (half < 32 && (count - 1) >> (2 * half) != 0) {
        half++;
    }
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t value = index;
    do {
        uint64_t left = value >> half, right = value & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint64_t mixed = mixt_random_bits(key, right | round << 40 | (uint64_t)1 << 63) & mask;
            uint64_t next = left ^ mixed;
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= count); /* expected at most four rounds: the domain is < 4 count */
    return value;
}
