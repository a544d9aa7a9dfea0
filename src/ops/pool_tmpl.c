/* pool: means of a document's rows, for routers that decide for more than one token; jitter: their
 * noise. A mean is a sum row by row in the order of the text, so that it has the same bits however
 * the text is fed. */
#include "ops/pages.h"
#include "ops/support_tmpl.h"

#define COLUMNS 64 /* of one parallel item */

/* Rows [begin, end) of a call that are of one document, the first of them its `place`-th. */
typedef struct run {
    int64_t begin, end, place;
} run;

static run next_run(const mixt_call *call, int64_t begin)
{
    const int32_t *first = call->in[POOL_FIRST], *last = call->in[POOL_LAST];
    mixt_pages pages = mixt_pages_of(call, POOL_PAGES, POOL_SEQUENCE);
    run r = {begin, begin + 1, last[begin] - first[begin]};
    while (r.end < call->tokens && mixt_pages_same(&pages, begin, r.end) &&
           first[r.end] == first[begin] && last[r.end] == last[r.end - 1] + 1) {
        r.end++;
    }
    return r;
}

/* The sum at a position of the sequence of row t: in the cache, or where documents are whole in the
 * call in the workspace. */
static real *sum_at(const mixt_call *call, int64_t t, int64_t position)
{
    mixt_pages pages = mixt_pages_of(call, POOL_PAGES, POOL_SEQUENCE);
    real *sums = call->in[POOL_CACHE] != NULL ? call->in[POOL_CACHE] : call->workspace;
    return sums + mixt_pages_row(&pages, t, position) * call->in_shape[POOL_X].size[1];
}

/* Columns [from, to) of y from the sums. */
static void segment_columns(const mixt_call *call, const run *r, mixt_range columns)
{
    int64_t d = call->in_shape[POOL_X].size[1], segment = call->attributes->segment;
    const int32_t *first = call->in[POOL_FIRST], *last = call->in[POOL_LAST];
    for (int64_t t = r->begin; t < r->end; t++) {
        int64_t place = last[t] - first[t], before = place / segment * segment;
        const real *x = (const real *)call->in[POOL_X] + t * d;
        const real *past = before > 0 ? sum_at(call, t, first[t] + before - 1) : NULL;
        const real *previous = place > 0 ? sum_at(call, t, last[t] - 1) : NULL;
        real *y = (real *)call->out[POOL_Y] + t * d, *sum = sum_at(call, t, last[t]);
        for (int64_t i = columns.begin; i < columns.end; i++) {
            sum[i] = place > 0 ? previous[i] + x[i] : x[i];
            y[i] = before > 0 ? past[i] / (real)before : 0;
        }
    }
}

/* The same without segments: the mean of the run, or what the document's first run left. */
static void document_columns(const mixt_call *call, const run *r, mixt_range columns)
{
    int64_t d = call->in_shape[POOL_X].size[1];
    const int32_t *first = call->in[POOL_FIRST];
    real *mean = sum_at(call, r->begin, first[r->begin]);
    for (int64_t i = columns.begin; i < columns.end && r->place == 0; i++) {
        mean[i] = 0;
        for (int64_t t = r->begin; t < r->end; t++) {
            mean[i] += ((const real *)call->in[POOL_X])[t * d + i];
        }
        mean[i] /= (real)(r->end - r->begin);
    }
    for (int64_t t = r->begin; t < r->end; t++) {
        memcpy((real *)call->out[POOL_Y] + t * d + columns.begin, mean + columns.begin,
               (size_t)(columns.end - columns.begin) * sizeof(real));
    }
}

static void forward_columns(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range columns = mixt_chunk(call->in_shape[POOL_X].size[1], COLUMNS, item);
    for (int64_t t = 0; t < call->tokens;) {
        run r = next_run(call, t);
        if (call->attributes->segment > 0) {
            segment_columns(call, &r, columns);
        } else {
            document_columns(call, &r, columns);
        }
        t = r.end;
    }
}

void MIXT_REAL(mixt_pool_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->in_shape[POOL_X].size[1], COLUMNS, forward_columns);
}

/* What the means that a row is in give back to it, going from a document's last row to its first:
 * `later` of those that are passed, `segment` of the rows of its own segment, which do not see it.
 */
typedef struct passed {
    real *later, *segment; /* [d] */
} passed;

static void backward_row(const mixt_call *call, int64_t t, int64_t place, mixt_range columns,
                         const passed *p)
{
    int64_t d = call->in_shape[POOL_X].size[1], segment = call->attributes->segment;
    real *dx = (real *)call->d_in[POOL_X] + t * d;
    const real *dy = (const real *)call->d_out[POOL_Y] + t * d;
    int64_t before = place / segment * segment;
    for (int64_t i = columns.begin; i < columns.end; i++) {
        dx[i] = call->add[POOL_X] ? dx[i] + p->later[i] : p->later[i];
        p->segment[i] += before > 0 ? dy[i] / (real)before : 0;
        if (place == before) {
            p->later[i] += p->segment[i];
            p->segment[i] = 0;
        }
    }
}

/* One mean for all rows. */
static void backward_document(const mixt_call *call, const run *r, mixt_range columns,
                              const passed *p)
{
    int64_t d = call->in_shape[POOL_X].size[1];
    const real *dy = call->d_out[POOL_Y];
    real *dx = call->d_in[POOL_X];
    for (int64_t i = columns.begin; i < columns.end; i++) {
        for (int64_t t = r->begin; t < r->end; t++) {
            p->later[i] += dy[t * d + i];
        }
        p->later[i] /= (real)(r->end - r->begin);
        for (int64_t t = r->begin; t < r->end; t++) {
            dx[t * d + i] = call->add[POOL_X] ? dx[t * d + i] + p->later[i] : p->later[i];
        }
    }
}

static void backward_columns(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t d = call->in_shape[POOL_X].size[1];
    mixt_range columns = mixt_chunk(d, COLUMNS, item);
    size_t bytes = (size_t)(columns.end - columns.begin) * sizeof(real);
    passed p = {call->workspace, (real *)call->workspace + d};
    for (int64_t begin = 0; begin < call->tokens;) {
        run r = next_run(call, begin);
        assert(r.place == 0); /* without a cache documents begin in the call */
        memset(p.later + columns.begin, 0, bytes);
        memset(p.segment + columns.begin, 0, bytes);
        if (call->attributes->segment == 0) {
            backward_document(call, &r, columns, &p);
        }
        for (int64_t t = r.end - 1; t >= r.begin && call->attributes->segment > 0; t--) {
            backward_row(call, t, t - r.begin, columns, &p);
        }
        begin = r.end;
    }
}

void MIXT_REAL(mixt_pool_backward)(const mixt_call *call)
{
    int64_t d = call->in_shape[POOL_X].size[1];
    assert(call->in[POOL_CACHE] == NULL); /* which is of generation */
    if (call->d_in[POOL_X] == NULL || call->d_out[POOL_Y] == NULL) {
        mixt_put_zero(call, POOL_X, call->tokens * d);
        return;
    }
    mixt_for_chunks(call, d, COLUMNS, backward_columns);
}

/* ---- jitter: y = x u; the backward draws u again */

static void jitter_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const int32_t *draw = call->in[JITTER_DRAW];
    mixt_random_key key = mixt_draw_key(draw, MIXT_RANDOM_JITTER, call->layer);
    mixt_range range = mixt_chunk(mixt_values(call, JITTER_X), MIXT_ELEMENTS, item);
    bool backward = call->d_in[JITTER_X] != NULL;
    const real *from = backward ? call->d_out[JITTER_Y] : call->in[JITTER_X];
    real *to = backward ? call->d_in[JITTER_X] : call->out[JITTER_Y];
    bool add = backward && call->add[JITTER_X];
    for (int64_t i = range.begin; i < range.end; i++) {
        double u = mixt_random_uniform(&key, mixt_draw_index(draw, i));
        real value = from[i] * (real)(1 + call->attributes->jitter * (2 * u - 1));
        to[i] = add ? to[i] + value : value;
    }
}

void MIXT_REAL(mixt_jitter_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, JITTER_X), MIXT_ELEMENTS, jitter_rows);
}

void MIXT_REAL(mixt_jitter_backward)(const mixt_call *call)
{
    if (call->d_in[JITTER_X] == NULL || call->d_out[JITTER_Y] == NULL) {
        mixt_put_zero(call, JITTER_X, mixt_values(call, JITTER_X));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, JITTER_X), MIXT_ELEMENTS, jitter_rows);
}
