#include "backend/cpu/cpu.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/platform.h"

const char *const mixt_cpu_tier_names[MIXT_CPU_TIERS] = {"scalar", "avx2",    "avx512", "amx",
                                                         "neon",   "dotprod", "i8mm"};

#if defined(__x86_64__)
#include <cpuid.h>

#define BIT(word, bit) (((word) >> (bit)) & 1U)

/* Register state that the operating system saves (XGETBV, register 0). */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

mixt_cpu mixt_cpu_detect(void)
{
    mixt_cpu cpu = {MIXT_CPU_SCALAR, false, false};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return cpu;
    }
    bool osxsave = BIT(c, 27), avx = BIT(c, 28), fma = BIT(c, 12), f16c = BIT(c, 29);
    if (!osxsave || !avx || !fma || !f16c || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return cpu;
    }
    const uint64_t avx_state = 0x06, avx512_state = 0xE6;
    uint64_t state = saved_state();
    if ((state & avx_state) != avx_state || !BIT(b, 5)) {
        return cpu;
    }
    cpu.tier = MIXT_CPU_AVX2;
    bool f = BIT(b, 16), dq = BIT(b, 17), bw = BIT(b, 30), vl = BIT(b, 31);
    if ((state & avx512_state) != avx512_state || !f || !dq || !bw || !vl) {
        return cpu;
    }
    cpu.tier = MIXT_CPU_AVX512;
    cpu.vnni = BIT(c, 11);
    uint32_t subleaves = a;
    bool tiles = BIT(d, 24) && BIT(d, 22) && BIT(d, 25); /* AMX-TILE, BF16, INT8 */
    cpu.bf16 = subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && BIT(a, 5);
    const uint64_t tile_state = 0x60000; /* XTILECFG, XTILEDATA */
    if (tiles && cpu.vnni && cpu.bf16 && (state & tile_state) == tile_state &&
        mixt_processor_permits_tiles()) {
        cpu.tier = MIXT_CPU_AMX;
    }
    return cpu;
}
#elif defined(__aarch64__)
mixt_cpu mixt_cpu_detect(void)
{
    mixt_cpu_tier tier = !mixt_processor_has_dotprod() ? MIXT_CPU_NEON
                         : !mixt_processor_has_i8mm()  ? MIXT_CPU_DOTPROD
                                                       : MIXT_CPU_I8MM;
    return (mixt_cpu){tier, false, false};
}
#else
mixt_cpu mixt_cpu_detect(void)
{
    return (mixt_cpu){MIXT_CPU_SCALAR, false, false};
}
#endif

/* Whether a processor whose best tier is `best` has this one. */
static bool has_tier(mixt_cpu_tier best, mixt_cpu_tier tier)
{
    bool same_kind = (best >= MIXT_CPU_NEON) == (tier >= MIXT_CPU_NEON);
    return tier == MIXT_CPU_SCALAR || (same_kind && tier <= best);
}

mixt_status mixt_cpu_choose(const char *wanted, mixt_cpu *cpu, mixt_error *error)
{
    *cpu = mixt_cpu_detect();
    const char *from = "cpu";
    if (wanted == NULL) {
        wanted = getenv("MIXT_CPU");
        from = "MIXT_CPU";
    }
    if (wanted == NULL || wanted[0] == '\0') {
        return MIXT_OK;
    }
    for (int tier = 0; tier < MIXT_CPU_TIERS; tier++) {
        if (strcmp(wanted, mixt_cpu_tier_names[tier]) != 0) {
            continue;
        }
        if (!has_tier(cpu->tier, (mixt_cpu_tier)tier)) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "%s: this processor has no %s (best: %s)", from, wanted,
                             mixt_cpu_tier_names[cpu->tier]);
        }
        bool has_avx512 = tier == MIXT_CPU_AVX512 || tier == MIXT_CPU_AMX;
        cpu->bf16 = cpu->bf16 && has_avx512;
        cpu->vnni = cpu->vnni && has_avx512;
        cpu->tier = (mixt_cpu_tier)tier;
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                     "%s: \"%.40s\" is not scalar, avx2, avx512, amx, neon, dotprod or i8mm", from,
                     wanted);
}
