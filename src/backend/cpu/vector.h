/* The row kernels of scalar_tmpl.c on sixteen fp32 lanes at a time: the same operations in the same
 * order. Included by one file for each instruction set, which has defined before
 *
 *   v16                              sixteen lanes
 *   v_set(x), v_load(from, count), v_store(to, x, count)
 *                                    lanes behind `count` (1 to 16) read as 0 and are not written
 *   v_add v_subtract v_multiply v_divide v_square_root v_negate
 *   v_fma(a, b, c)                   a b + c, rounded once
 *   v_least(a, b)                    a < b ? a : b, so b where one is NaN; v_greatest alike
 *   v_keep(old, new, count)          new in the first `count` lanes, old behind them
 *   v_hide(x, key, first, last)      -INFINITY in lanes where key < first or key > last
 *   v_clear_below(y, x, bound)      0 in lanes where x < bound, else y
 *   v_any_nan(x)                     whether a lane is NaN
 *   v_power(p, shifted, n)           p 2^n; `shifted` = n + MIXT_EXP_ROUNDER
 *   v_load_f16(from), v_store_f16(to, x), and _bf16
 *                                    sixteen halves or bfloat16, to the nearest, ties to even
 *   v_set_f16(bits)                  one half in every lane
 *   v_transpose(x)                   lane j of x[i] and lane i of x[j] change places, i, j < 16
 *   v_load_bytes(from)               sixteen int8_t as floats
 *   v_store_bytes(to, shifted)       the n of sixteen n + MIXT_EXP_ROUNDER as int8_t
 *   v_fold(x), v_fold_greatest(x)    lane j with j + 8, then j + 4, j + 2, j + 1
 */
#include <float.h>
#include <math.h>

#include "backend/cpu/tiers.h"

#define real float
#include "backend/cpu/narrow_tmpl.h"
#undef real

#define LANES 16

/* Runs `step` at i = 0, 16, ... with `count` lanes: 16, and what is left at the end. */
#define EACH_VECTOR(n, step)                                                                       \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= (n); i += LANES) {                                                     \
            const int count = LANES;                                                               \
            step;                                                                                  \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const int count = (int)((n)-i);                                                        \
            step;                                                                                  \
        }                                                                                          \
    } while (0)

static float kernel_dot(int64_t n, const float *a, const float *b)
{
    v16 lanes = v_set(0);
    EACH_VECTOR(n, {
        v16 more = v_fma(v_load(a + i, count), v_load(b + i, count), lanes);
        lanes = v_keep(lanes, more, count);
    });
    return v_fold(lanes);
}

static float kernel_sum(int64_t n, const float *a)
{
    v16 lanes = v_set(0);
    EACH_VECTOR(n, lanes = v_keep(lanes, v_add(lanes, v_load(a + i, count)), count));
    return v_fold(lanes);
}

static float kernel_max(int64_t n, const float *a)
{
    v16 lanes = v_set(-INFINITY);
    bool nan = false;
    EACH_VECTOR(n, {
        v16 x = v_load(a + i, count);
        nan |= v_any_nan(x);
        lanes = v_keep(lanes, v_greatest(x, lanes), count);
    });
    return nan ? NAN : v_fold_greatest(lanes);
}

static void kernel_add(int64_t n, float *y, const float *a, const float *b)
{
    EACH_VECTOR(n, v_store(y + i, v_add(v_load(a + i, count), v_load(b + i, count)), count));
}

static void kernel_axpy(int64_t n, float *y, float alpha, const float *x)
{
    v16 factor = v_set(alpha);
    EACH_VECTOR(n,
                v_store(y + i, v_fma(factor, v_load(x + i, count), v_load(y + i, count)), count));
}

static void kernel_scale(int64_t n, float *y, float alpha, const float *x)
{
    v16 factor = v_set(alpha);
    EACH_VECTOR(n, v_store(y + i, v_multiply(factor, v_load(x + i, count)), count));
}

static void kernel_multiply(int64_t n, float *y, const float *a, const float *b)
{
    EACH_VECTOR(n, v_store(y + i, v_multiply(v_load(a + i, count), v_load(b + i, count)), count));
}

static inline v16 exponential(v16 x)
{
    const v16 rounder = v_set(MIXT_EXP_ROUNDER), one = v_set(1);
    const v16 lowest = v_set(MIXT_EXP_LOWEST), given = x;
    x = v_least(v_set(MIXT_EXP_HIGHEST), x);
    x = v_greatest(lowest, x);
    v16 shifted = v_fma(x, v_set(MIXT_EXP_LOG2E), rounder);
    v16 n = v_subtract(shifted, rounder);
    v16 r = v_fma(n, v_set(-MIXT_EXP_LN2_HIGH), x);
    r = v_fma(n, v_set(-MIXT_EXP_LN2_LOW), r);
    v16 p = v_set(MIXT_EXP_C6);
    p = v_fma(p, r, v_set(MIXT_EXP_C5));
    p = v_fma(p, r, v_set(MIXT_EXP_C4));
    p = v_fma(p, r, v_set(MIXT_EXP_C3));
    p = v_fma(p, r, v_set(MIXT_EXP_C2));
    p = v_fma(p, r, one);
    p = v_fma(p, r, one);
    return v_clear_below(v_power(p, shifted, n), given, lowest);
}

/* Four at once, step by step side by side: of one alone each operation waits for the one before,
 * and a processor looks too few operations ahead to fill the wait with the next vector's. */
#define EACH_OF_FOUR(step) step(0) step(1) step(2) step(3)

static inline __attribute__((always_inline)) void exponential_four(v16 x[4])
{
    const v16 rounder = v_set(MIXT_EXP_ROUNDER), one = v_set(1);
    const v16 lowest = v_set(MIXT_EXP_LOWEST), highest = v_set(MIXT_EXP_HIGHEST);
    const v16 log2e = v_set(MIXT_EXP_LOG2E), c6 = v_set(MIXT_EXP_C6);
    const v16 high = v_set(-MIXT_EXP_LN2_HIGH), low = v_set(-MIXT_EXP_LN2_LOW);
    const v16 c5 = v_set(MIXT_EXP_C5), c4 = v_set(MIXT_EXP_C4);
    const v16 c3 = v_set(MIXT_EXP_C3), c2 = v_set(MIXT_EXP_C2);
#define BOUND(j) v16 r##j = v_greatest(lowest, v_least(highest, x[j]));
#define SHIFT(j) v16 shifted##j = v_fma(r##j, log2e, rounder);
#define WHOLE(j) v16 n##j = v_subtract(shifted##j, rounder);
#define REDUCE_HIGH(j) r##j = v_fma(n##j, high, r##j);
#define REDUCE_LOW(j) r##j = v_fma(n##j, low, r##j);
#define TERM5(j) v16 p##j = v_fma(c6, r##j, c5);
#define TERM4(j) p##j = v_fma(p##j, r##j, c4);
#define TERM3(j) p##j = v_fma(p##j, r##j, c3);
#define TERM2(j) p##j = v_fma(p##j, r##j, c2);
#define TERM_ONE(j) p##j = v_fma(p##j, r##j, one);
#define POWER(j) x[j] = v_clear_below(v_power(p##j, shifted##j, n##j), x[j], lowest);
    EACH_OF_FOUR(BOUND)
    EACH_OF_FOUR(SHIFT)
    EACH_OF_FOUR(WHOLE)
    EACH_OF_FOUR(REDUCE_HIGH)
    EACH_OF_FOUR(REDUCE_LOW)
    EACH_OF_FOUR(TERM5)
    EACH_OF_FOUR(TERM4)
    EACH_OF_FOUR(TERM3)
    EACH_OF_FOUR(TERM2)
    EACH_OF_FOUR(TERM_ONE)
    EACH_OF_FOUR(TERM_ONE)
    EACH_OF_FOUR(POWER)
}

static float kernel_exp_sum(int64_t n, float *y, const float *x, float shift)
{
    v16 lanes = v_set(0), offset = v_set(shift);
    int64_t done = 0;
    for (; done + 4 * LANES <= n; done += 4 * LANES) {
        v16 value[4];
#define LOAD(j) value[j] = v_subtract(v_load(x + done + (j)*LANES, LANES), offset);
#define STORE(j)                                                                                   \
    v_store(y + done + (j)*LANES, value[j], LANES);                                                \
    lanes = v_add(lanes, value[j]);
        EACH_OF_FOUR(LOAD)
        exponential_four(value);
        EACH_OF_FOUR(STORE)
#undef LOAD
#undef STORE
    }
    n -= done;
    x += done;
    y += done;
    EACH_VECTOR(n, {
        v16 value = exponential(v_subtract(v_load(x + i, count), offset));
        v_store(y + i, value, count);
        lanes = v_keep(lanes, v_add(lanes, value), count);
    });
    return v_fold(lanes);
}

static void kernel_swiglu(int64_t n, float *y, const float *gate, const float *up)
{
    const v16 one = v_set(1);
    int64_t done = 0;
    for (; done + 4 * LANES <= n; done += 4 * LANES) {
        v16 power[4];
#define LOAD(j) power[j] = v_negate(v_load(gate + done + (j)*LANES, LANES));
#define STORE(j)                                                                                   \
    v_store(y + done + (j)*LANES,                                                                  \
            v_multiply(v_divide(v_load(gate + done + (j)*LANES, LANES), v_add(one, power[j])),     \
                       v_load(up + done + (j)*LANES, LANES)),                                      \
            LANES);
        EACH_OF_FOUR(LOAD)
        exponential_four(power);
        EACH_OF_FOUR(STORE)
#undef LOAD
#undef STORE
    }
    n -= done;
    y += done;
    gate += done;
    up += done;
    EACH_VECTOR(n, {
        v16 z = v_load(gate + i, count);
        v16 silu = v_divide(z, v_add(one, exponential(v_negate(z))));
        v_store(y + i, v_multiply(silu, v_load(up + i, count)), count);
    });
}

static inline void swiglu_slope(float *dgate, float *dup, const float *gate, const float *up,
                                const float *dy, v16 power, int count)
{
    const v16 one = v_set(1);
    v16 z = v_load(gate, count), u = v_load(up, count), d = v_load(dy, count);
    v16 s = v_divide(one, v_add(one, power));
    v16 slope = v_multiply(s, v_fma(z, v_subtract(one, s), one));
    v_store(dup, v_multiply(d, v_multiply(z, s)), count);
    v_store(dgate, v_multiply(v_multiply(d, u), slope), count);
}

static void kernel_swiglu_backward(int64_t n, float *dgate, float *dup, const float *gate,
                                   const float *up, const float *dy)
{
    int64_t done = 0;
    for (; done + 4 * LANES <= n; done += 4 * LANES) {
        v16 power[4];
#define LOAD(j) power[j] = v_negate(v_load(gate + done + (j)*LANES, LANES));
#define STORE(j)                                                                                   \
    {                                                                                              \
        const int64_t at = done + (j)*LANES;                                                       \
        swiglu_slope(dgate + at, dup + at, gate + at, up + at, dy + at, power[j], LANES);          \
    }
        EACH_OF_FOUR(LOAD)
        exponential_four(power);
        EACH_OF_FOUR(STORE)
#undef LOAD
#undef STORE
    }
    for (; done < n; done += LANES) {
        int count = (int)(n - done < LANES ? n - done : LANES);
        v16 power = exponential(v_negate(v_load(gate + done, count)));
        swiglu_slope(dgate + done, dup + done, gate + done, up + done, dy + done, power, count);
    }
}

static inline v16 gelu_exponent(v16 z, v16 square)
{
    return v_multiply(z, v_fma(v_set((float)MIXT_GELU_C1), square, v_set((float)MIXT_GELU_C0)));
}

static void kernel_geglu(int64_t n, float *y, const float *gate, const float *up)
{
    const v16 one = v_set(1);
    EACH_VECTOR(n, {
        v16 z = v_load(gate + i, count);
        v16 w = gelu_exponent(z, v_multiply(z, z));
        v16 gelu = v_divide(z, v_add(one, exponential(v_negate(w))));
        v_store(y + i, v_multiply(gelu, v_load(up + i, count)), count);
    });
}

static void kernel_geglu_backward(int64_t n, float *dgate, float *dup, const float *gate,
                                  const float *up, const float *dy)
{
    const v16 one = v_set(1);
    EACH_VECTOR(n, {
        v16 z = v_load(gate + i, count);
        v16 u = v_load(up + i, count);
        v16 d = v_load(dy + i, count);
        v16 square = v_multiply(z, z);
        v16 s = v_divide(one, v_add(one, exponential(v_negate(gelu_exponent(z, square)))));
        v16 inner = v_fma(v_set((float)(3 * MIXT_GELU_C1)), square, v_set((float)MIXT_GELU_C0));
        v16 slope = v_multiply(s, v_fma(v_multiply(z, v_subtract(one, s)), inner, one));
        v_store(dup + i, v_multiply(d, v_multiply(z, s)), count);
        v_store(dgate + i, v_multiply(v_multiply(d, u), slope), count);
    });
}

static void kernel_clamped_glu(int64_t n, float *y, const float *gate, const float *up)
{
    const v16 one = v_set(1), most = v_set(MIXT_CLAMPED_LIMIT), least = v_set(-MIXT_CLAMPED_LIMIT);
    const v16 factor = v_set((float)-MIXT_CLAMPED_SLOPE);
    EACH_VECTOR(n, {
        v16 g = v_least(most, v_load(gate + i, count));
        v16 u = v_least(most, v_greatest(least, v_load(up + i, count)));
        v16 swish = v_divide(g, v_add(one, exponential(v_multiply(factor, g))));
        v_store(y + i, v_multiply(swish, v_add(u, one)), count);
    });
}

static void kernel_clamped_glu_backward(int64_t n, float *dgate, float *dup, const float *gate,
                                        const float *up, const float *dy)
{
    const v16 one = v_set(1), most = v_set(MIXT_CLAMPED_LIMIT), least = v_set(-MIXT_CLAMPED_LIMIT);
    const v16 factor = v_set((float)MIXT_CLAMPED_SLOPE);
    EACH_VECTOR(n, {
        v16 z = v_load(gate + i, count);
        v16 x = v_load(up + i, count);
        v16 d = v_load(dy + i, count);
        v16 g = v_least(most, z);
        v16 u = v_least(most, v_greatest(least, x));
        v16 s = v_divide(one, v_add(one, exponential(v_negate(v_multiply(factor, g)))));
        v16 slope = v_multiply(s, v_fma(v_multiply(factor, g), v_subtract(one, s), one));
        v16 to_up = v_clear_below(v_multiply(d, v_multiply(g, s)), most, x);
        v16 to_gate = v_multiply(v_multiply(d, v_add(u, one)), slope);
        v_store(dup + i, v_clear_below(to_up, x, least), count);
        v_store(dgate + i, v_clear_below(to_gate, most, z), count);
    });
}

static void kernel_norm_apply(int64_t n, float *y, const float *x, float inverse,
                              const float *weight)
{
    v16 factor = v_set(inverse);
    EACH_VECTOR(
        n, v_store(y + i,
                   v_multiply(v_multiply(v_load(x + i, count), factor), v_load(weight + i, count)),
                   count));
}

static void kernel_rope(int64_t n, float *y, const float *x, const float *cosine, const float *sine,
                        float sign)
{
    int64_t half = n / 2;
    v16 direction = v_set(sign);
    EACH_VECTOR(half, {
        v16 first = v_load(x + i, count);
        v16 second = v_load(x + i + half, count);
        v16 c = v_load(cosine + i, count);
        v16 s = v_multiply(direction, v_load(sine + i, count));
        v_store(y + i, v_fma(first, c, v_negate(v_multiply(second, s))), count);
        v_store(y + i + half, v_fma(second, c, v_multiply(first, s)), count);
    });
}

/* The largest of n scores; of zeros the first, as one comparison after the other keeps it. */
static float largest_score(int64_t n, const float *x)
{
    v16 lanes = v_set(-INFINITY);
    EACH_VECTOR(n, lanes = v_keep(lanes, v_greatest(v_load(x + i, count), lanes), count));
    float most = v_fold_greatest(lanes);
    for (int64_t i = 0; most == 0 && i < n; i++) {
        if (x[i] == 0) {
            return x[i];
        }
    }
    return most;
}

static const float key_numbers[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* The weights x of one query, keys across, and the change of what came before. */
static v16 weigh_one(const mixt_scores_f32 *s, float *x, float *max)
{
    const v16 scale = v_set(s->scale), number = v_load(key_numbers, LANES);
    float old = *max;
    EACH_VECTOR(s->keys, {
        v16 score = v_multiply(v_load(x + i, count), scale);
        if (s->first != NULL) {
            v16 key = v_add(v_set((float)i), number);
            score = v_hide(score, key, v_set(*s->first), v_set(*s->last));
        }
        v_store(x + i, score, count);
    });
    float most = largest_score(s->keys, x);
    most = most > old ? most : old;
    v16 base = v_set(most > -FLT_MAX ? most : -FLT_MAX);
    v16 change = exponential(v_subtract(v_set(old), base));
    EACH_VECTOR(s->keys,
                v_store(x + i, exponential(v_subtract(v_load(x + i, count), base)), count));
    *max = most;
    return change;
}

/* `count` queries, a row of keys each. Sums alone go key by key, side by side. */
static inline __attribute__((always_inline)) void softmax_some(const mixt_scores_f32 *s,
                                                               int64_t query, const int count)
{
    float *x = s->scores + query * s->stride, added[4] = {0};
    v16 change[4];
    for (int j = 0; j < count; j++) {
        change[j] = weigh_one(s, x + j * s->stride, s->max + query + j);
    }
    for (int64_t key = 0; key < s->keys; key++) {
        UNROLL for (int j = 0; j < count; j++) added[j] += x[j * s->stride + key];
    }
    for (int j = 0; j < count; j++) {
        float *sum = s->sum + query + j;
        v_store(sum, v_fma(v_set(*sum), change[j], v_set(added[j])), 1);
        v_store(s->change + query + j, change[j], 1);
    }
}

static void kernel_softmax_rows(const mixt_scores_f32 *s)
{
    int64_t query = 0;
    for (; query + 4 <= s->queries; query += 4) {
        softmax_some(s, query, 4);
    }
    for (; query < s->queries; query++) {
        softmax_some(s, query, 1);
    }
}

/* exp(x - base) of `keys` scores of sixteen queries, and their sum in rising key. */
static inline __attribute__((always_inline)) v16
exponential_column(int64_t keys, float *x, int64_t stride, v16 base, const int count)
{
    v16 added = v_set(0);
    int64_t key = 0;
    for (; key + 4 <= keys; key += 4) {
        float *at = x + key * stride;
        v16 four[4];
#define LOAD(j) four[j] = v_subtract(v_load(at + (j)*stride, count), base);
#define STORE(j)                                                                                   \
    v_store(at + (j)*stride, four[j], count);                                                      \
    added = v_add(added, four[j]);
        EACH_OF_FOUR(LOAD)
        exponential_four(four);
        EACH_OF_FOUR(STORE)
#undef LOAD
#undef STORE
    }
    for (; key < keys; key++) {
        v16 power = exponential(v_subtract(v_load(x + key * stride, count), base));
        v_store(x + key * stride, power, count);
        added = v_add(added, power);
    }
    return added;
}

/* Keys down, sixteen queries across: each lane does what scalar_tmpl.c does for its query. */
static void kernel_softmax(const mixt_scores_f32 *s)
{
    if (s->queries == 1 && s->stride == 1) {
        softmax_some(s, 0, 1);
        return;
    }
    const v16 scale = v_set(s->scale);
    EACH_VECTOR(s->queries, {
        float *column = s->scores + i;
        v16 most = v_set(-INFINITY);
        v16 first = v_set(0);
        v16 last = v_set(0);
        if (s->first != NULL) {
            first = v_load(s->first + i, count);
            last = v_load(s->last + i, count);
        }
        for (int64_t key = 0; key < s->keys; key++) {
            v16 x = v_multiply(v_load(column + key * s->stride, count), scale);
            x = s->first != NULL ? v_hide(x, v_set((float)key), first, last) : x;
            v_store(column + key * s->stride, x, count);
            most = v_greatest(x, most);
        }
        v16 old = v_load(s->max + i, count);
        most = v_greatest(most, old);
        v16 base = v_greatest(most, v_set(-FLT_MAX));
        v16 change = exponential(v_subtract(old, base));
        v16 added = exponential_column(s->keys, column, s->stride, base, count);
        v_store(s->sum + i, v_fma(v_load(s->sum + i, count), change, added), count);
        v_store(s->max + i, most, count);
        v_store(s->change + i, change, count);
    });
}

/* Scores of a query from key i on, scaled, less its lse. */
static inline __attribute__((always_inline)) v16 score_of(const mixt_scores_f32 *s, int64_t query,
                                                          int64_t i, const int count)
{
    v16 x = v_multiply(v_load(s->scores + query * s->stride + i, count), v_set(s->scale));
    if (s->first != NULL) {
        v16 key = v_add(v_set((float)(s->origin + i)), v_load(key_numbers, LANES));
        x = v_hide(x, key, v_set(s->first[query]), v_set(s->last[query]));
    }
    return v_subtract(x, v_set(s->lse[query]));
}

static inline void put_slopes(const mixt_scores_f32 *s, int64_t query, int64_t i, v16 p,
                              const int count)
{
    float *d = s->d_scores + query * s->stride + i;
    v_store(s->scores + query * s->stride + i, p, count);
    v16 slope = v_multiply(p, v_subtract(v_load(d, count), v_set(s->delta[query])));
    v_store(d, v_multiply(slope, v_set(s->scale)), count);
}

static inline __attribute__((always_inline)) void
four_queries(const mixt_scores_f32 *s, int64_t query, int64_t i, const int count)
{
    v16 four[4];
#define LOAD(j) four[j] = score_of(s, query + (j), i, count);
#define STORE(j) put_slopes(s, query + (j), i, four[j], count);
    EACH_OF_FOUR(LOAD)
    exponential_four(four);
    EACH_OF_FOUR(STORE)
#undef LOAD
#undef STORE
}

/* Queries down, sixteen keys across. */
static void kernel_softmax_backward(const mixt_scores_f32 *s)
{
    int64_t query = 0;
    for (; query + 4 <= s->queries; query += 4) {
        EACH_VECTOR(s->keys, four_queries(s, query, i, count));
    }
    for (; query < s->queries; query++) {
        EACH_VECTOR(s->keys,
                    put_slopes(s, query, i, exponential(score_of(s, query, i, count)), count));
    }
}

static void kernel_adamw(int64_t n, float *w, float *m, float *v, const float *gradient,
                         const mixt_adamw_arguments *arguments)
{
    const mixt_adamw_constants_f32 c = mixt_adamw_round_f32(arguments);
    EACH_VECTOR(n, {
        v16 g = v_multiply(v_set(c.scale), v_load(gradient + i, count));
        v16 mean =
            v_fma(v_set(c.beta1), v_load(m + i, count), v_multiply(v_set(c.one_minus_beta1), g));
        v16 square = v_fma(v_set(c.beta2), v_load(v + i, count),
                           v_multiply(v_multiply(v_set(c.one_minus_beta2), g), g));
        v16 root = v_square_root(v_multiply(square, v_set(c.inverse_correction2)));
        v16 step =
            v_divide(v_multiply(mean, v_set(c.inverse_correction1)), v_add(root, v_set(c.epsilon)));
        v16 old = v_load(w + i, count);
        step = v_fma(v_set(c.decay), old, step);
        v_store(m + i, mean, count);
        v_store(v + i, square, count);
        v_store(w + i, v_fma(v_set(-c.rate), step, old), count);
    });
}

/* Of Q8_0's 32 values. */
static void narrow_vectors(mixt_q8_0_block *to, const float *x)
{
    v16 a = v_load(x, LANES), b = v_load(x + LANES, LANES);
    v16 largest = v_greatest(v_greatest(a, v_negate(a)), v_greatest(b, v_negate(b)));
    bool nan = v_any_nan(a) || v_any_nan(b);
    float scale = (nan ? NAN : v_fold_greatest(largest)) / 127, inverse = scale > 0 ? 1 / scale : 0;
    v16 factor = v_set(inverse), low = v_set(-127), high = v_set(127);
    to->d = mixt_f16_bits(scale);
    a = v_least(v_greatest(v_multiply(a, factor), low), high);
    b = v_least(v_greatest(v_multiply(b, factor), low), high);
    v_store_bytes(to->q, v_add(a, v_set(MIXT_EXP_ROUNDER)));
    v_store_bytes(to->q + LANES, v_add(b, v_set(MIXT_EXP_ROUNDER)));
}

static void widen_vectors(float *y, const mixt_q8_0_block *from)
{
    v16 d = v_set(mixt_f16_value(from->d));
    v_store(y, v_multiply(d, v_load_bytes(from->q)), LANES);
    v_store(y + LANES, v_multiply(d, v_load_bytes(from->q + LANES)), LANES);
}

static void kernel_narrow(int64_t n, void *y, const float *x, mixt_type type)
{
    uint16_t *shorts = y;
    int64_t i = 0;
    for (; type == MIXT_TYPE_F16 && i + LANES <= n; i += LANES) {
        v_store_f16(shorts + i, v_load(x + i, LANES));
    }
    for (; type == MIXT_TYPE_BF16 && i + LANES <= n; i += LANES) {
        v_store_bf16(shorts + i, v_load(x + i, LANES));
    }
    for (; type == MIXT_TYPE_Q8_0 && i + 32 <= n; i += 32) {
        narrow_vectors((mixt_q8_0_block *)y + i / 32, x + i);
    }
    if (i < n) {
        narrow_values(n - i, shorts + i, x + i, type);
    }
}

static void kernel_widen(int64_t n, float *y, const void *x, mixt_type type)
{
    const uint16_t *shorts = x;
    int64_t i = 0;
    for (; type == MIXT_TYPE_F16 && i + LANES <= n; i += LANES) {
        v_store(y + i, v_load_f16(shorts + i), LANES);
    }
    for (; type == MIXT_TYPE_BF16 && i + LANES <= n; i += LANES) {
        v_store(y + i, v_load_bf16(shorts + i), LANES);
    }
    for (; type == MIXT_TYPE_Q8_0 && i + 32 <= n; i += 32) {
        widen_vectors(y + i, (const mixt_q8_0_block *)x + i / 32);
    }
    if (i < n) {
        widen_values(n - i, y + i, shorts + i, type);
    }
}

#include "backend/cpu/cached_rows.h"

static void fill_rows(mixt_kernels_f32 *table)
{
    table->dot = kernel_dot;
    table->sum = kernel_sum;
    table->max = kernel_max;
    table->add = kernel_add;
    table->axpy = kernel_axpy;
    table->scale = kernel_scale;
    table->multiply = kernel_multiply;
    table->exp_sum = kernel_exp_sum;
    table->swiglu = kernel_swiglu;
    table->swiglu_backward = kernel_swiglu_backward;
    table->geglu = kernel_geglu;
    table->geglu_backward = kernel_geglu_backward;
    table->clamped_glu = kernel_clamped_glu;
    table->clamped_glu_backward = kernel_clamped_glu_backward;
    table->norm_apply = kernel_norm_apply;
    table->rope = kernel_rope;
    table->softmax = kernel_softmax;
    table->softmax_rows = kernel_softmax_rows;
    table->softmax_backward = kernel_softmax_backward;
    table->narrow = kernel_narrow;
    table->widen = kernel_widen;
    table->cached_dot = kernel_cached_dot;
    table->cached_sum = kernel_cached_sum;
    table->adamw = kernel_adamw;
}
