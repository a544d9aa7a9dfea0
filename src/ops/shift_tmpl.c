/* shift: each row's predecessor in its document, for convolutions over tokens (Yuan 2.0's
 * Localized Filtering-based Attention, Wu et al. 2023, arXiv 2311.15786). */
#include <assert.h>

#include "ops/pages.h"
#include "ops/support_tmpl.h"

/* The row of the source in the place of row t, -1 where there is none. */
static int64_t source_row(const mixt_call *call, int64_t t)
{
    int64_t window = call->attributes->window, origin = window > 0 ? t - t % window : 0;
    int64_t first = ((const int32_t *)call->in[SHIFT_FIRST])[t];
    int64_t last = ((const int32_t *)call->in[SHIFT_LAST])[t];
    mixt_pages pages = mixt_pages_of(call, SHIFT_PAGES, SHIFT_SEQUENCE);
    int64_t row = last > mixt_most(first, origin) ? mixt_pages_row(&pages, t, last - 1) : -1;
    assert(row < mixt_rows(&call->in_shape[SHIFT_SOURCE], call->tokens));
    return row;
}

static void shift_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t d = call->in_shape[SHIFT_SOURCE].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        int64_t row = source_row(call, t);
        real *y = (real *)call->out[SHIFT_Y] + t * d;
        if (row >= 0) {
            memcpy(y, (const real *)call->in[SHIFT_SOURCE] + row * d, (size_t)d * sizeof *y);
        } else {
            memset(y, 0, (size_t)d * sizeof *y);
        }
    }
}

void MIXT_REAL(mixt_shift_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, shift_forward_rows);
}

/* One sequence: it alone adds to its rows of the source, in the order of its own rows. */
static void shift_backward_sequence(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t d = call->in_shape[SHIFT_SOURCE].size[1], window = call->attributes->window;
    mixt_range rows = {0, call->tokens};
    mixt_range source = {0, mixt_rows(&call->in_shape[SHIFT_SOURCE], call->tokens)};
    if (window > 0) {
        rows = source = mixt_chunk(call->tokens, window, item);
    }
    real *dx = call->d_in[SHIFT_SOURCE];
    if (!call->add[SHIFT_SOURCE]) {
        memset(dx + source.begin * d, 0, (size_t)((source.end - source.begin) * d) * sizeof *dx);
    }
    for (int64_t t = rows.begin; t < rows.end; t++) {
        int64_t row = source_row(call, t);
        if (row >= 0) {
            mixt_kernels_of(call)->add(d, dx + row * d, dx + row * d,
                                       (const real *)call->d_out[SHIFT_Y] + t * d);
        }
    }
}

void MIXT_REAL(mixt_shift_backward)(const mixt_call *call)
{
    int64_t window = call->attributes->window;
    assert(call->in[SHIFT_PAGES] == NULL); /* which are of generation */
    if (call->d_in[SHIFT_SOURCE] == NULL || call->d_out[SHIFT_Y] == NULL) {
        mixt_put_zero(call, SHIFT_SOURCE,
                      mixt_rows(&call->in_shape[SHIFT_SOURCE], call->tokens) *
                          call->in_shape[SHIFT_SOURCE].size[1]);
        return;
    }
    mixt_pool_run(call->compute->pool, window > 0 ? mixt_divide_up(call->tokens, window) : 1,
                  shift_backward_sequence, (void *)call);
}
