/* What this machine can do at most: fused multiply-adds and memory reads, all threads. */
#include "bench/machine.h"

#include "backend/context.h"
#include "core/memory.h"
#include "train/trainer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CHAINS 12     /* independent sums: more than latency times ports needs */
#define ROUNDS 200000 /* of one item, about a millisecond */
#define READ_BYTES ((size_t)256 << 20)
#define READ_CHUNK ((size_t)1 << 20)

/* Runs ROUNDS rounds of CHAINS vector operations; returns the floating-point operations done. */
typedef double (*peak_function)(float *sink);

static double peak_scalar(float *sink)
{
    float sums[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        sums[i] = (float)i;
    }
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = sums[i] * 0.5f + 1.0f;
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        *sink += sums[i];
    }
    return 2.0 * CHAINS * ROUNDS;
}

#if defined(__x86_64__) || defined(__aarch64__)
#define PEAK(name, isa, vector, lanes, set, start, step, store)                                    \
    isa static double name(float *sink)                                                            \
    {                                                                                              \
        /* different starts: equal chains would be merged into one */                              \
        vector s0 = start(0), s1 = start(1), s2 = start(2), s3 = start(3), s4 = start(4),          \
               s5 = start(5), s6 = start(6), s7 = start(7), s8 = start(8), s9 = start(9),          \
               s10 = start(10), s11 = start(11);                                                   \
        const set##_vector a = set(0.5f), b = set(1.0f);                                           \
        for (int r = 0; r < ROUNDS; r++) {                                                         \
            s0 = step(s0, a, b);                                                                   \
            s1 = step(s1, a, b);                                                                   \
            s2 = step(s2, a, b);                                                                   \
            s3 = step(s3, a, b);                                                                   \
            s4 = step(s4, a, b);                                                                   \
            s5 = step(s5, a, b);                                                                   \
            s6 = step(s6, a, b);                                                                   \
            s7 = step(s7, a, b);                                                                   \
            s8 = step(s8, a, b);                                                                   \
            s9 = step(s9, a, b);                                                                   \
            s10 = step(s10, a, b);                                                                 \
            s11 = step(s11, a, b);                                                                 \
        }                                                                                          \
        vector all[CHAINS] = {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11};                   \
        float out[lanes];                                                                          \
        for (int i = 0; i < CHAINS; i++) {                                                         \
            store(out, all[i]);                                                                    \
            *sink += out[0];                                                                       \
        }                                                                                          \
        return 2.0 * CHAINS * ROUNDS * lanes;                                                      \
    }
#endif

#if defined(__x86_64__)
#define FMA256(s, a, b) _mm256_fmadd_ps(s, a, b)
#define FMA512(s, a, b) _mm512_fmadd_ps(s, a, b)
/* Two products a lane, added to the sum. */
#define DOT512(s, a, b) _mm512_dpbf16_ps(s, a, b)
#define SET256(x) _mm256_set1_ps(x)
#define SET256_vector __m256
#define SET512(x) _mm512_set1_ps(x)
#define SET512_vector __m512
#define SETBF16(x) (__m512bh) _mm512_set1_epi32(0x3f003f00) /* pairs of 0.5 */
#define SETBF16_vector __m512bh

/* Four products of bytes a lane, added to the sum; two of them, summed in 16 bits and added. */
#define DOT4_512(s, a, b) _mm512_dpbusd_epi32(s, a, b)
#define DOT2_256(s, a, b) _mm256_add_epi16(s, _mm256_maddubs_epi16(a, b))
#define SETI512(x) _mm512_set1_epi32((int)((x)*4))
#define SETI512_vector __m512i
#define STOREI512(to, x) _mm512_storeu_ps(to, _mm512_cvtepi32_ps(x))
#define SETI256(x) _mm256_set1_epi16((short)((x)*4))
#define SETI256_vector __m256i
#define STOREI256(to, x) _mm256_storeu_ps(to, _mm256_cvtepi32_ps(x))

#define TARGET(isa) __attribute__((target(isa)))

PEAK(peak_avx2, TARGET("avx2,fma"), __m256, 8, SET256, SET256, FMA256, _mm256_storeu_ps)
PEAK(peak_avx512, TARGET("avx512f"), __m512, 16, SET512, SET512, FMA512, _mm512_storeu_ps)
PEAK(peak_bf16, TARGET("avx512f,avx512bf16"), __m512, 16, SETBF16, SET512, DOT512, _mm512_storeu_ps)
PEAK(peak_vnni, TARGET("avx512f,avx512vnni"), __m512i, 16, SETI512, SETI512, DOT4_512, STOREI512)
PEAK(peak_bytes, TARGET("avx2"), __m256i, 8, SETI256, SETI256, DOT2_256, STOREI256)
#elif defined(__aarch64__)
/* Two registers: what four pipes need is more than twelve chains. */
typedef struct eight {
    float32x4_t low, high;
} eight;

static inline eight set_eight(float x)
{
    return (eight){vdupq_n_f32(x), vdupq_n_f32(x)};
}

static inline eight fma_eight(eight s, eight a, eight b)
{
    return (eight){vfmaq_f32(b.low, s.low, a.low), vfmaq_f32(b.high, s.high, a.high)};
}

static inline void store_eight(float *to, eight x)
{
    vst1q_f32(to, vaddq_f32(x.low, x.high));
}
#define set_eight_vector eight

PEAK(peak_neon, , eight, 8, set_eight, set_eight, fma_eight, store_eight)
#endif

typedef struct peak_work {
    peak_function function;
    double operations[MIXT_THREADS_MAX]; /* of each thread */
    float sinks[MIXT_THREADS_MAX];       /* keep the sums from being left out */
} peak_work;

static void peak_item(void *context, int64_t item, int thread)
{
    (void)item;
    peak_work *work = context;
    float sink = 0;
    work->operations[thread] += work->function(&sink);
    work->sinks[thread] += sink;
}

#define PEAK_ROUNDS 8

/* The best of `rounds` rounds over all threads. */
static double measure_peak(const mixt_compute *compute, peak_function function, int rounds)
{
    double best = 0;
    for (int round = 0; round < rounds; round++) {
        peak_work work = {.function = function};
        double begin = mixt_train_time(), operations = 0;
        mixt_pool_run(compute->pool, (int64_t)compute->threads * 16, peak_item, &work);
        double took = mixt_train_time() - begin;
        for (int i = 0; i < compute->threads; i++) {
            operations += work.operations[i];
        }
        best = operations / took > best ? operations / took : best;
    }
    return best;
}

typedef struct read_work {
    const uint64_t *values;
    uint64_t (*function)(const uint64_t *values); /* reads READ_CHUNK bytes */
    uint64_t sums[MIXT_THREADS_MAX];
} read_work;

#define READ_AHEAD 4096 /* bytes: what the memory needs to be asked for before it is read */

static uint64_t read_plain(const uint64_t *values)
{
    uint64_t lanes[8] = {0}, sum = 0;
    for (size_t i = 0; i < READ_CHUNK / sizeof *values; i += 8) {
        __builtin_prefetch((const char *)(values + i) + READ_AHEAD);
        for (size_t j = 0; j < 8; j++) {
            lanes[j] += values[i + j];
        }
    }
    for (size_t j = 0; j < 8; j++) {
        sum += lanes[j];
    }
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t read_avx2(const uint64_t *values)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    const __m256i *from = (const __m256i *)(const void *)values;
    for (size_t i = 0; i < READ_CHUNK / sizeof *from; i += 4) {
        _mm_prefetch((const char *)(from + i) + READ_AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)(from + i + 2) + READ_AHEAD, _MM_HINT_T0);
        a = _mm256_xor_si256(a, _mm256_load_si256(from + i));
        b = _mm256_xor_si256(b, _mm256_load_si256(from + i + 1));
        c = _mm256_xor_si256(c, _mm256_load_si256(from + i + 2));
        d = _mm256_xor_si256(d, _mm256_load_si256(from + i + 3));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 2);
}
#endif

static void read_item(void *context, int64_t item, int thread)
{
    read_work *work = context;
    const uint64_t *values = work->values + (size_t)item * (READ_CHUNK / sizeof *values);
    work->sums[thread] += work->function(values);
}

static double measure_read(const mixt_compute *compute)
{
    uint64_t *values = mixt_block_allocate(READ_BYTES);
    double best = 0;
    if (values == NULL) {
        return 0;
    }
    for (size_t i = 0; i < READ_BYTES / sizeof *values; i++) { /* pages of their own */
        values[i] = i;
    }
    for (int round = 0; round < 8; round++) {
        read_work work = {.values = values, .function = read_plain};
#if defined(__x86_64__)
        work.function = mixt_host_vectors().avx2 ? read_avx2 : read_plain;
#endif
        double begin = mixt_train_time();
        mixt_pool_run(compute->pool, (int64_t)(READ_BYTES / READ_CHUNK), read_item, &work);
        double rate = (double)READ_BYTES / (mixt_train_time() - begin);
        volatile uint64_t sink = work.sums[0];
        (void)sink;
        best = rate > best ? rate : best;
    }
    mixt_block_free(values, READ_BYTES);
    return best;
}

double mixt_bench_peak(const mixt_compute *compute, int rounds)
{
    peak_function fp32 = peak_scalar;
#if defined(__x86_64__)
    mixt_vectors vectors = mixt_host_vectors();
    fp32 = vectors.avx512 ? peak_avx512 : vectors.avx2 ? peak_avx2 : peak_scalar;
#elif defined(__aarch64__)
    fp32 = peak_neon;
#endif
    return measure_peak(compute, fp32, rounds);
}

void mixt_bench_machine(mixt_context *context, mixt_machine_limits *limits)
{
    const mixt_compute *compute = context->device.compute;
    *limits = (mixt_machine_limits){0};
#if defined(__x86_64__)
    mixt_vectors vectors = mixt_host_vectors();
    if (vectors.bf16) {
        limits->bf16_flops = 2 * measure_peak(compute, peak_bf16, PEAK_ROUNDS);
    }
    if (vectors.vnni || vectors.avx2) {
        limits->int8_flops =
            4 * measure_peak(compute, vectors.vnni ? peak_vnni : peak_bytes, PEAK_ROUNDS);
    }
#endif
    limits->fp32_flops = mixt_bench_peak(compute, PEAK_ROUNDS);
    limits->read_bytes = measure_read(compute);
}

void mixt_bench_host(mixt_context *context, mixt_host *host)
{
    mixt_bf16_measured measured;
    *host = (mixt_host){.cpu = mixt_context_cpu(context), .threads = mixt_context_threads(context)};
    mixt_context_measure_bf16(context, &measured);
    host->bf16_ways = measured.count;
    host->bf16_chosen = measured.chosen;
    host->exact_flops = measured.exact_flops;
    for (int i = 0; i < measured.count; i++) {
        host->bf16_names[i] = measured.names[i];
        host->bf16_flops[i] = measured.flops[i];
    }
    mixt_bench_machine(context, &host->limits);
}
