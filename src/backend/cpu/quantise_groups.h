/* Activations to bytes, a group of values with one scale after another. Included by tiers that have
 * defined quantise_group(x, count, q, d) before. */
#include <assert.h>

#ifndef Q8_FINISH /* else a tier's own */
#define Q8_FINISH mixt_q8_finish
#endif

static void kernel_quantise(const float *x, int count, mixt_q8_kind kind, mixt_q8 *to)
{
    int group = kind.by_32 ? 32 : MIXT_STEP;
    assert(count > 0 && count <= MIXT_STEP && count % group == 0);
    if (count < MIXT_STEP) {
        memset(to, 0, sizeof *to);
    }
    for (int j = 0; j < count; j += group) {
        quantise_group(x + j, group, to->q + j, &to->d[j / group]);
    }
    Q8_FINISH(kind, to);
}
