#include "quant/fit.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/half.h"

#define SMALLEST 1e-30f /* scales below are 0 */
#define REFINEMENTS 4

/* Four values at once; every group has a multiple of four. */
typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lane_mask __attribute__((vector_size(16)));
#define LANES 4

static inline lanes load(const float *from)
{
    lanes values;
    memcpy(&values, from, sizeof values);
    return values;
}

static inline lanes choose(lane_mask mask, lanes yes, lanes no)
{
    return (lanes)((mask & (lane_mask)yes) | (~mask & (lane_mask)no));
}

static inline float total(lanes v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

static inline lanes spread(float value)
{
    return (lanes){value, value, value, value};
}

/* Nearest codes to v. */
static inline lanes code_of(const mixt_codes *codes, lanes v)
{
    if (codes->table == NULL) {
        const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
        lanes low = spread(codes->low);
        lanes high = spread(codes->high);
        v = choose(v < low, low, v);
        v = choose(v > high, high, v);
        return v + magic - magic;
    }
    const float *table = codes->table;
    lanes code = spread(table[0]);
    v += v;
    for (int i = 0; i < 15; i++) { /* a step up for every middle between codes that v is above */
        lane_mask above = v > spread(table[i] + table[i + 1]);
        code += (lanes)(above & (lane_mask)spread(table[i + 1] - table[i]));
    }
    return code;
}

float mixt_fit_scale_error(const mixt_fit_group *group, const mixt_codes *codes, float scale,
                           float *out)
{
    float inverse = fabsf(scale) < SMALLEST ? 0 : 1 / scale;
    float used = inverse == 0 ? 0 : scale;
    lanes error = {0};
    for (int i = 0; i < group->count; i += LANES) {
        lanes x = load(group->x + i);
        lanes code = code_of(codes, x * inverse);
        lanes rest = x - used * code;
        error += load(group->w + i) * rest * rest;
        if (out != NULL) {
            memcpy(out + i, &code, sizeof code);
        }
    }
    return total(error);
}

/* Sums over the codes that 1 / inverse would choose: of w x c and of w c c. */
static inline void scale_sums(const mixt_fit_group *group, const mixt_codes *codes, float inverse,
                              float *xc, float *cc)
{
    lanes sum_xc = {0};
    lanes sum_cc = {0};
    for (int i = 0; i < group->count; i += LANES) {
        lanes x = load(group->x + i);
        lanes code = code_of(codes, x * inverse);
        lanes weighted = load(group->w + i) * code;
        sum_xc += weighted * x;
        sum_cc += weighted * code;
    }
    *xc = total(sum_xc);
    *cc = total(sum_cc);
}

/* With the best scale xc / cc for some codes, the error is sum w x x less xc xc / cc: the codes
 * with the largest such gain win. */
float mixt_fit_scale(const mixt_fit_group *group, const mixt_codes *codes)
{
    assert(group->count % LANES == 0 && group->count <= 256 && codes->low < codes->high);
    float largest = 0;
    for (int i = 0; i < group->count; i++) {
        largest = fabsf(group->x[i]) > fabsf(largest) ? group->x[i] : largest;
    }
    if (fabsf(largest) < SMALLEST) {
        return 0;
    }
    float best_gain = 0;
    float best = 0;
    for (int end = 0; end < 2; end++) {
        float unit = (end == 0 ? codes->low : codes->high) / largest;
        int count = (int)((codes->to - codes->from) / codes->step + 1.5f);
        for (int k = 0; k < count + REFINEMENTS; k++) {
            float inverse = unit * (codes->from + (float)k * codes->step);
            if (k >= count) { /* the codes of the best scale so far may have a better one */
                if (best == 0) {
                    break;
                }
                inverse = 1 / best;
            }
            float xc;
            float cc;
            scale_sums(group, codes, inverse, &xc, &cc);
            if (cc > 0 && xc * xc > best_gain * cc && fabsf(xc / cc) >= SMALLEST) {
                best_gain = xc * xc / cc;
                best = xc / cc;
            } else if (k >= count) {
                break;
            }
        }
    }
    return best;
}

/* ------------------------------------------------------------------------------------------ */

float mixt_fit_line_error(const mixt_fit_group *group, const mixt_codes *codes, float scale,
                          float offset, float *out)
{
    float inverse = fabsf(scale) < SMALLEST ? 0 : 1 / scale;
    lanes error = {0};
    for (int i = 0; i < group->count; i += LANES) {
        lanes x = load(group->x + i);
        lanes q = code_of(codes, (x - offset) * inverse);
        lanes rest = x - (scale * q + offset);
        error += load(group->w + i) * rest * rest;
        if (out != NULL) {
            memcpy(out + i, &q, sizeof q);
        }
    }
    return total(error);
}

/* The best line for the integers that `from` chooses; its error is of those integers. */
static mixt_fit_line solve_line(const mixt_fit_group *group, const mixt_codes *codes,
                                mixt_fit_line from, bool negative)
{
    float inverse = 1 / from.scale;
    lanes sums[6] = {{0}};
    for (int i = 0; i < group->count; i += LANES) {
        lanes value = load(group->x + i);
        lanes code = code_of(codes, (value - from.offset) * inverse);
        lanes weight = load(group->w + i);
        lanes weighted_code = weight * code;
        lanes weighted_value = weight * value;
        sums[0] += weight;
        sums[1] += weighted_code;
        sums[2] += weighted_code * code;
        sums[3] += weighted_value;
        sums[4] += weighted_value * code;
        sums[5] += weighted_value * value;
    }
    float w = total(sums[0]);
    float q = total(sums[1]);
    float qq = total(sums[2]);
    float x = total(sums[3]);
    float xq = total(sums[4]);
    float xx = total(sums[5]);
    mixt_fit_line line = {.error = FLT_MAX};
    float determinant = w * qq - q * q;
    if (determinant > 1e-6f * w * qq) {
        line.scale = (w * xq - x * q) / determinant;
        line.offset = (qq * x - q * xq) / determinant;
    }
    if (qq > 0 && (line.scale == 0 || (negative && line.offset > 0))) {
        line.scale = xq / qq;
        line.offset = 0;
    }
    if (line.scale >= SMALLEST) {
        float a = line.scale;
        float b = line.offset;
        line.error = xx - 2 * a * xq - 2 * b * x + a * a * qq + 2 * a * b * q + b * b * w;
        line.error = line.error < 0 ? 0 : line.error;
    }
    return line;
}

mixt_fit_line mixt_fit_offset(const mixt_fit_group *group, const mixt_codes *codes, bool negative)
{
    assert(group->count % LANES == 0 && group->count <= 256 && codes->high > 0);
    float low = group->x[0];
    float high = group->x[0];
    for (int i = 1; i < group->count; i++) {
        low = group->x[i] < low ? group->x[i] : low;
        high = group->x[i] > high ? group->x[i] : high;
    }
    low = negative && low > 0 ? 0 : low;
    mixt_fit_line best = {.offset = negative && low > 0 ? 0 : low, .error = FLT_MAX};
    if (high - low < SMALLEST) { /* all equal */
        best.error = 0;
        return best;
    }
    float middle = 0.5f * (low + high);
    for (float reach = codes->from; reach <= codes->to + 0.5f * codes->step; reach += codes->step) {
        float scale = (high - low) / (codes->high * reach);
        mixt_fit_line line = {.scale = scale, .offset = middle - 0.5f * scale * codes->high};
        if (negative && line.offset > 0) {
            line.offset = 0;
        }
        for (int side = 0; side < 2; side++) { /* clip both ends alike, then the upper one alone */
            mixt_fit_line found = line;
            if (side == 1) {
                found.offset = low;
            }
            for (int k = 0; k < REFINEMENTS; k++) {
                mixt_fit_line next = solve_line(group, codes, found, negative);
                if (next.error >= best.error) {
                    break;
                }
                best = next;
                found = next;
            }
        }
    }
    return best;
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks with two levels of scales */

static mixt_fit_group group_of(const mixt_fit_shape *shape, const mixt_fit_block *block, int group)
{
    assert(group < shape->groups && shape->groups <= MIXT_GROUPS_MAX);
    return (mixt_fit_group){.x = block->x + group * shape->group_size,
                            .w = block->w + group * shape->group_size,
                            .count = shape->group_size};
}

/* d as the half that a file holds, in units of x. */
static float half_of(float d, float unit, uint16_t *bits)
{
    *bits = mixt_f16_bits(d * unit);
    return mixt_f16_value(*bits) / unit;
}

static bool is_finite_half(uint16_t bits)
{
    return (bits & 0x7c00u) != 0x7c00u;
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* The integer below x, for x that may be anything. */
static int floor_of(float x, int low, int high)
{
    return x <= (float)low ? low : x >= (float)high ? high : (int)floorf(x);
}

/* Integer scales for d, with the group's best scales as a guide, and the total error. */
static void choose_scales(const mixt_fit_shape *shape, mixt_fit_block *block, float d,
                          const float *wanted)
{
    block->error = 0;
    for (int g = 0; g < shape->groups; g++) {
        mixt_fit_group group = group_of(shape, block, g);
        float *codes = block->codes + g * shape->group_size;
        int below = d == 0 ? 0 : floor_of(wanted[g] / d, shape->scale_low, shape->scale_high);
        float best = FLT_MAX;
        for (int scale = below; scale <= clamp(below + 1, below, shape->scale_high); scale++) {
            float error = mixt_fit_scale_error(&group, &shape->codes, d * (float)scale, NULL);
            if (error < best) {
                best = error;
                block->scales[g] = scale;
            }
        }
        mixt_fit_scale_error(&group, &shape->codes, d * (float)block->scales[g], codes);
        block->error += best;
    }
}

/* Best d for the integers of the block. */
static float solve_d(const mixt_fit_shape *shape, const mixt_fit_block *block)
{
    float xc = 0;
    float cc = 0;
    for (int i = 0; i < shape->groups * shape->group_size; i++) {
        float code = (float)block->scales[i / shape->group_size] * block->codes[i];
        xc += block->w[i] * block->x[i] * code;
        cc += block->w[i] * code * code;
    }
    return cc > 0 ? xc / cc : 0;
}

bool mixt_fit_scaled_block(const mixt_fit_shape *shape, mixt_fit_block *block)
{
    float wanted[MIXT_GROUPS_MAX];
    float largest = 0;
    for (int g = 0; g < shape->groups; g++) {
        mixt_fit_group group = group_of(shape, block, g);
        wanted[g] = mixt_fit_scale(&group, &shape->codes);
        largest = fabsf(wanted[g]) > fabsf(largest) ? wanted[g] : largest;
    }
    mixt_fit_block best = *block;
    best.error = FLT_MAX;
    for (int start = 0; start < 2; start++) {
        float d = largest / (float)(start == 0 ? shape->scale_low : shape->scale_high);
        for (int k = 0; k < 3; k++) {
            uint16_t bits;
            d = half_of(d, block->unit, &bits);
            if (!is_finite_half(bits)) {
                return false;
            }
            block->d = bits;
            choose_scales(shape, block, d, wanted);
            if (block->error >= best.error) {
                break;
            }
            best = *block;
            d = solve_d(shape, block);
        }
    }
    *block = best;
    return true;
}

typedef struct step_pair {
    float d, min_d; /* in units of x */
} step_pair;

/* Integer scales and minima for the steps, near the groups' best lines, and the total error. */
static void choose_lines(const mixt_fit_shape *shape, mixt_fit_block *block, step_pair steps,
                         const mixt_fit_line *wanted)
{
    const int high = shape->scale_high;
    block->error = 0;
    for (int g = 0; g < shape->groups; g++) {
        mixt_fit_group group = group_of(shape, block, g);
        int scale_below = steps.d == 0 ? 0 : floor_of(wanted[g].scale / steps.d, 0, high);
        int min_below = steps.min_d == 0 ? 0 : floor_of(-wanted[g].offset / steps.min_d, 0, high);
        float best = FLT_MAX;
        for (int k = 0; k < 4; k++) {
            int scale = scale_below + k % 2;
            int min = min_below + k / 2;
            if (scale > high || min > high) {
                continue;
            }
            float error = mixt_fit_line_error(&group, &shape->codes, steps.d * (float)scale,
                                              -steps.min_d * (float)min, NULL);
            if (error < best) {
                best = error;
                block->scales[g] = scale;
                block->mins[g] = min;
            }
        }
        mixt_fit_line_error(&group, &shape->codes, steps.d * (float)block->scales[g],
                            -steps.min_d * (float)block->mins[g],
                            block->codes + g * shape->group_size);
        block->error += best;
    }
}

/* Best d and min_d for the integers of the block: x ~ d u - min_d v with u = scale * q, v = min. */
static step_pair solve_steps(const mixt_fit_shape *shape, const mixt_fit_block *block,
                             step_pair before)
{
    float uu = 0;
    float uv = 0;
    float vv = 0;
    float xu = 0;
    float xv = 0;
    for (int i = 0; i < shape->groups * shape->group_size; i++) {
        float u = (float)block->scales[i / shape->group_size] * block->codes[i];
        float v = (float)block->mins[i / shape->group_size];
        float weight = block->w[i];
        uu += weight * u * u;
        uv += weight * u * v;
        vv += weight * v * v;
        xu += weight * block->x[i] * u;
        xv += weight * block->x[i] * v;
    }
    float determinant = uu * vv - uv * uv;
    step_pair found = before;
    if (determinant > 1e-6f * uu * vv) {
        found.d = (xu * vv - uv * xv) / determinant;
        found.min_d = (found.d * uv - xv) / vv;
    } else if (uu > 0 && vv == 0) {
        found.d = xu / uu;
    }
    return found.d > 0 && found.min_d >= 0 ? found : before;
}

bool mixt_fit_offset_block(const mixt_fit_shape *shape, mixt_fit_block *block)
{
    mixt_fit_line wanted[MIXT_GROUPS_MAX];
    float scale = 0;
    float min = 0;
    for (int g = 0; g < shape->groups; g++) {
        mixt_fit_group group = group_of(shape, block, g);
        wanted[g] = mixt_fit_offset(&group, &shape->codes, true);
        scale = wanted[g].scale > scale ? wanted[g].scale : scale;
        min = -wanted[g].offset > min ? -wanted[g].offset : min;
    }
    mixt_fit_block best = *block;
    best.error = FLT_MAX;
    step_pair steps = {scale / (float)shape->scale_high, min / (float)shape->scale_high};
    for (int k = 0; k < 4; k++) {
        steps.d = half_of(steps.d, block->unit, &block->d);
        steps.min_d = half_of(steps.min_d, block->unit, &block->min_d);
        if (!is_finite_half(block->d) || !is_finite_half(block->min_d)) {
            return false;
        }
        choose_lines(shape, block, steps, wanted);
        if (block->error >= best.error) {
            break;
        }
        best = *block;
        steps = solve_steps(shape, block, steps);
    }
    *block = best;
    return true;
}
