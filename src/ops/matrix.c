/* Products with weights in typed rows. Quantised ones: a list is cut into jobs of up to
 * MIXT_MATRIX_TOKENS rows of activations whose quantised form fits the shared buffer; two parallel
 * loops quantise the activations of a batch of jobs (once for products that share them) and
 * multiply ranges of weight rows. Plain floats are streamed where there are few rows of
 * activations, all products of a list in one loop; the rest of them is the product driver's. */
#include <assert.h>

#include "core/arithmetic.h"
#include "ops/gemm.h"
#include "ops/quantised.h"
#include "quant/quant.h"

#define JOBS_MAX 256
#define ITEMS_PER_THREAD 8
/* Tokens that weigh as much as reading a row once. */
#define ROW_COST 4
/* Fewest multiply-adds (of that cost) that are worth an item of their own. */
#define ITEM_WORK_MIN 500000
/* Values that are quantised by the calling thread alone, and those of an item. */
#define QUANTISE_ALONE 32768
#define QUANTISE_ITEM 16384

typedef struct job {
    const mixt_gemm_f32 *product;
    int64_t token_begin, tokens, steps;
    char *activations;
    mixt_q8_kind kind;
    size_t record;           /* bytes of an activation record */
    int64_t quantise_tokens; /* tokens of an item of the first loop; 0: another job's do */
    int64_t panels, items;   /* of the second loop */
    int64_t first_quantise, first_item;
} job;

typedef struct batch {
    const mixt_compute *compute;
    int count;
    size_t used;
    int64_t values; /* to quantise */
    job jobs[JOBS_MAX];
} batch;

/* The job of an item: the last whose first item is not behind it. */
static const job *job_of(const batch *work, int64_t item, bool quantising)
{
    int low = 0, high = work->count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        const job *at = &work->jobs[middle];
        if ((quantising ? at->first_quantise : at->first_item) <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &work->jobs[low];
}

static void quantise_tokens(const mixt_compute *compute, const job *part, int64_t begin,
                            int64_t end)
{
    const mixt_gemm_f32 *product = part->product;
    for (int64_t t = begin; t < end; t++) {
        const float *x = product->a + (part->token_begin + t) * product->a_row;
        for (int64_t step = 0; step < part->steps; step++) {
            int64_t count = mixt_least(product->k - step * MIXT_STEP, MIXT_STEP);
            char *to = part->activations + (size_t)(step * part->tokens + t) * part->record;
            compute->f32->matrix->quantise(x + step * MIXT_STEP, (int)count, part->kind,
                                           (mixt_q8 *)(void *)to);
        }
    }
}

static void quantise_item(void *context, int64_t item, int thread)
{
    (void)thread;
    const batch *work = context;
    const job *part = job_of(work, item, true);
    int64_t begin = (item - part->first_quantise) * part->quantise_tokens;
    quantise_tokens(work->compute, part, begin,
                    mixt_least(begin + part->quantise_tokens, part->tokens));
}

static void multiply_item(void *context, int64_t item, int thread)
{
    const batch *work = context;
    const job *part = job_of(work, item, false);
    const mixt_gemm_f32 *product = part->product;
    int rows = work->compute->f32->matrix->panel_rows;
    int64_t at = item - part->first_item;
    mixt_matrix_task task = {
        .matrix = product->matrix,
        .row_begin = part->panels * at / part->items * rows,
        .row_end = mixt_least(part->panels * (at + 1) / part->items * rows, product->n),
        .activations = part->activations,
        .activation_bytes = part->record,
        .tokens = part->tokens,
        .c = product->c + part->token_begin * product->c_row,
        .c_row = product->c_row,
        .accumulate = product->accumulate,
        .scratch = work->compute->gemm->a[thread],
    };
    work->compute->f32->matrix->multiply(&task);
}

static double job_work(const job *part)
{
    return (double)part->product->n * (double)part->product->k * (double)(part->tokens + ROW_COST);
}

static void quantise_batch(batch *work)
{
    int64_t items = 0;
    for (int i = 0; i < work->count; i++) {
        job *part = &work->jobs[i];
        part->first_quantise = items;
        if (part->quantise_tokens > 0 && work->values <= QUANTISE_ALONE) {
            quantise_tokens(work->compute, part, 0, part->tokens);
        } else if (part->quantise_tokens > 0) {
            items += mixt_divide_up(part->tokens, part->quantise_tokens);
        }
    }
    mixt_pool_run(work->compute->pool, items, quantise_item, work);
}

static void run_batch(batch *work)
{
    if (work->count == 0) {
        return;
    }
    quantise_batch(work);
    double total = 0;
    for (int i = 0; i < work->count; i++) {
        total += job_work(&work->jobs[i]);
    }
    double item_work = total / (work->compute->threads * ITEMS_PER_THREAD);
    item_work = item_work < ITEM_WORK_MIN ? ITEM_WORK_MIN : item_work;
    int64_t items = 0;
    for (int i = 0; i < work->count; i++) {
        job *part = &work->jobs[i];
        part->panels = mixt_divide_up(part->product->n, work->compute->f32->matrix->panel_rows);
        part->items = mixt_least((int64_t)(job_work(part) / item_work) + 1, part->panels);
        part->first_item = items;
        items += part->items;
    }
    mixt_pool_run(work->compute->pool, items, multiply_item, work);
    work->count = 0;
    work->used = 0;
    work->values = 0;
}

static bool same_activations(const job *a, const job *b)
{
    return a->product->a == b->product->a && a->product->a_row == b->product->a_row &&
           a->product->k == b->product->k && a->token_begin == b->token_begin &&
           a->tokens == b->tokens && a->kind.by_32 == b->kind.by_32 && a->kind.wide == b->kind.wide;
}

/* Where the job's activations go: another job's place, a new one, or NULL where none is left. */
static char *place_activations(batch *work, job *part)
{
    for (int i = 0; i < work->count; i++) {
        if (same_activations(&work->jobs[i], part)) {
            part->quantise_tokens = 0;
            return work->jobs[i].activations;
        }
    }
    size_t bytes = (size_t)(part->tokens * part->steps) * part->record;
    if (bytes > MIXT_GEMM_SHARED_BYTES - work->used) {
        return NULL;
    }
    char *place = (char *)work->compute->gemm->shared + work->used;
    work->used += bytes;
    work->values += part->tokens * part->product->k;
    part->quantise_tokens = 1 + QUANTISE_ITEM / part->product->k;
    return place;
}

static void add_product(batch *work, const mixt_gemm_f32 *product)
{
    assert(product->a_column == 1);
    job part = {.product = product,
                .kind = mixt_q8_kind_of(product->matrix->type),
                .steps = mixt_divide_up(product->k, MIXT_STEP)};
    part.record = mixt_q8_bytes(part.kind);
    int64_t most = (int64_t)(MIXT_GEMM_SHARED_BYTES / part.record) / part.steps;
    most = mixt_least(most, MIXT_MATRIX_TOKENS);
    assert(most > 0); /* no model's rows are longer (model/options.c) */
    for (; part.token_begin < product->m; part.token_begin += part.tokens) {
        part.tokens = mixt_least(most, product->m - part.token_begin);
        if (work->count == JOBS_MAX) {
            run_batch(work);
        }
        part.activations = place_activations(work, &part);
        if (part.activations == NULL) {
            run_batch(work);
            part.activations = place_activations(work, &part);
        }
        work->jobs[work->count++] = part;
    }
}

/* ------------------------------------------------------------------------------------------ */
/* F32, F16, BF16, F8 and few rows of activations                                             */

#define STREAMS_MAX 256
/* Rows of an item come in multiples of this: kernels take as many side by side. Where a thread
 * would have fewer, in multiples of the second: a router's, of which a thread alone reads slowly.
 */
#define STREAM_ROWS 64
#define STREAM_ROWS_LEAST 16
/* Bytes of weights of an item: the last one of a loop is waited for, and what is fetched behind a
 * thread's last one is lost. */
#define STREAM_ITEM_LEAST ((size_t)128 << 10)
#define STREAM_ITEM_MOST ((size_t)1 << 20)

_Static_assert(MIXT_STREAM_TOKENS *MIXT_STREAM_MOST * sizeof(float) <= MIXT_THREAD_BYTES,
               "a thread's buffer holds a stream's activations");

typedef struct streams {
    const mixt_compute *compute;
    int count;
    const mixt_gemm_f32 *products[STREAMS_MAX];
    int64_t item_rows[STREAMS_MAX], first_item[STREAMS_MAX];
} streams;

static void stream_item(void *context, int64_t item, int thread)
{
    const streams *work = context;
    int low = 0, high = work->count; /* the last whose first item is not behind this one */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (work->first_item[middle] <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const mixt_gemm_f32 *product = work->products[low];
    int64_t row = (item - work->first_item[low]) * work->item_rows[low];
    mixt_stream_task task = {
        .matrix = product->matrix,
        .row_begin = row,
        .row_end = mixt_least(row + work->item_rows[low], product->n),
        .a = product->a,
        .a_row = product->a_row,
        .tokens = product->m,
        .c = product->c,
        .c_row = product->c_row,
        .accumulate = product->accumulate,
        .scratch = work->compute->gemm->a[thread],
    };
    mixt_stream_of(mixt_gemm_kernels_for_f32(work->compute, product), product->matrix->type)(&task);
}

static size_t stream_bytes(const mixt_gemm_f32 *product)
{
    return (size_t)product->n * mixt_type_row_bytes(product->matrix->type, product->k);
}

static void run_streams(streams *work)
{
    size_t bytes = 0;
    for (int i = 0; i < work->count; i++) {
        bytes += stream_bytes(work->products[i]);
    }
    bytes /= (size_t)(work->compute->threads * ITEMS_PER_THREAD);
    bytes = bytes < STREAM_ITEM_LEAST ? STREAM_ITEM_LEAST : bytes;
    bytes = bytes > STREAM_ITEM_MOST ? STREAM_ITEM_MOST : bytes;
    int64_t items = 0;
    for (int i = 0; i < work->count; i++) {
        const mixt_gemm_f32 *product = work->products[i];
        int64_t rows = (int64_t)(bytes / mixt_type_row_bytes(product->matrix->type, product->k));
        bool few = product->n < work->compute->threads * STREAM_ROWS;
        int64_t grain = few ? STREAM_ROWS_LEAST : STREAM_ROWS;
        work->item_rows[i] = (rows / grain + 1) * grain;
        work->first_item[i] = items;
        items += mixt_divide_up(product->n, work->item_rows[i]);
    }
    mixt_pool_run(work->compute->pool, items, stream_item, work);
    work->count = 0;
}

static void add_stream(streams *work, const mixt_gemm_f32 *product)
{
    if (work->count == STREAMS_MAX) {
        run_streams(work);
    }
    work->products[work->count++] = product;
}

void mixt_matrix_run(const mixt_compute *compute, const mixt_gemm_f32 *list, int64_t count)
{
    batch work;
    streams floats;
    floats.compute = work.compute = compute;
    floats.count = work.count = 0;
    work.values = 0;
    work.used = 0;
    for (int64_t i = 0; i < count; i++) {
        const mixt_gemm_f32 *product = &list[i];
        if (product->matrix == NULL || product->m <= 0 || product->n <= 0 || product->k <= 0) {
            continue;
        }
        assert(product->matrix->n == product->n && product->matrix->k == product->k);
        assert(product->matrix->row_bytes >=
               mixt_type_row_bytes(product->matrix->type, product->k));
        assert(product->c_row >= product->n);
        if (mixt_type_info(product->matrix->type)->elements > 1) {
            add_product(&work, product);
        } else if (mixt_gemm_is_streamed(compute, product)) {
            add_stream(&floats, product);
        }
    }
    run_streams(&floats);
    run_batch(&work);
}

void mixt_matrix_row(const mixt_matrix *matrix, int64_t row, float *values)
{
    assert(row >= 0 && row < matrix->n);
    mixt_matrix_values(matrix, row, 0, matrix->k, values);
}
