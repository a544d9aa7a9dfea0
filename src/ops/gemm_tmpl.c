/* The matrix product driver (gemm.h): packs A and B into panels, cuts a list of products into items
 * of about equal work, and runs the tile kernel over them.
 *
 * A segment is a range of B's panels (tile_columns columns each) of one product over a range of k.
 * A batch of segments whose packed panels fit the shared buffer is run in two parallel loops: pack
 * the panels, then compute. The second is not preceded by the first where B was packed before, or
 * where a product has so few rows that each panel is read by one item only, which then packs it
 * for itself. Loops inside an item, after Goto & van de Geijn (2008): k blocks, A packed to half an
 * L2 cache, panels of B, tiles of A. */
#include "ops/gemm.h"

#include <assert.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/real.h"
#include "quant/quant.h"

#define GEMM MIXT_REAL(mixt_gemm)
#define KERNELS MIXT_REAL(mixt_gemm_kernels)
#define CHAIN MIXT_REAL(mixt_gemm_chain)

#ifdef MIXT_REAL_DOUBLE
#define IS_TYPED(compute, product) ((product)->matrix != NULL)
#else
#define IS_TYPED(compute, product) mixt_gemm_is_typed(compute, product)
#endif

#define SEGMENTS_MAX 64
#define ITEMS_PER_THREAD 24
/* Fewest multiply-adds that are worth an item of their own (about 15 us). */
#define ITEM_WORK_MIN 1000000
/* Fewest rows and panels of an item where rows of A lie side by side, as of a weight's gradient:
 * its k is long, so that B's panels come from the last cache and are to meet many rows, and A is
 * read across several cache lines, and not too often. */
#define SIDE_ROWS 48
#define SIDE_PANELS 8
#define SIDE_ITEMS_PER_THREAD 5
/* Panels that one item of the first loop packs. */
#define PACK_GROUP 4

typedef struct segment {
    const GEMM *product;
    const KERNELS *kernels;
    int64_t k_begin, k_end;         /* k_begin is a multiple of MIXT_GEMM_K_BLOCK */
    int64_t panel_begin, panel_end; /* of the product's panels */
    real *panels;                   /* packed here in the shared buffer, or NULL */
    int64_t row_tiles, row_parts, panel_parts;
    int64_t first_pack, first_item; /* this segment's first item of either loop */
    const CHAIN *chain;             /* whose first product this is, or NULL */
    int64_t chain_at;               /* its place in the caller's list */
    bool follows;                   /* a later one, whose rows are in the items of the first */
} segment;

typedef struct batch {
    const mixt_compute *compute;
    int count;
    size_t used; /* reals of the shared buffer */
    double work; /* multiply-adds */
    int64_t pack_items, items;
    segment segments[SEGMENTS_MAX];
} batch;

const KERNELS *MIXT_REAL(mixt_gemm_kernels_for)(const mixt_compute *compute, const GEMM *product)
{
    bool rounded = compute->matmul == MIXT_MATMUL_BF16 && !product->exact;
    const MIXT_REAL(mixt_kernels) *table = compute->MIXT_REAL_SUFFIX;
    return rounded ? &table->gemm_bf16 : &table->gemm;
}

/* Rows of tiles whose packed A, for a block of k values, fits a thread's buffer. */
static int64_t row_tiles_max(const KERNELS *kernels, int64_t k)
{
    int64_t block = mixt_least(k, MIXT_GEMM_K_BLOCK);
    size_t tile = (size_t)kernels->tile_rows * (size_t)block * sizeof(real);
    return (int64_t)(MIXT_GEMM_A_BYTES / tile);
}

/* One block of k for rows of tiles [tile_begin, tile_end) and panels [panel_begin, panel_end). */
typedef struct block {
    int64_t k_begin, k;
    int64_t tile_begin, tile_end;
    int64_t panel_begin, panel_end;
} block;

/* Whether a product is summed by lanes, so that panels of B have one lane's k behind another's. */
static bool is_by_lanes(const segment *part)
{
    const GEMM *product = part->product;
    return product->matrix != NULL && mixt_in_lanes(product->matrix->type) &&
           part->kernels->tile_lanes != NULL;
}

/* Typed rows as reals, for kernels that do not read them. */
static void expand_rows(const mixt_row_range *from, real *to)
{
    float values[MIXT_GEMM_K_BLOCK];
    assert(from->k <= MIXT_GEMM_K_BLOCK);
    for (int64_t i = 0; i < from->rows; i++) {
        mixt_matrix_values(from->matrix, from->row + i, from->k_begin, from->k, values);
        for (int64_t p = 0; p < from->k; p++) {
            int64_t place = from->by_lanes ? mixt_lane_place(from->k, p) : p;
            to[i * from->k + place] = (real)values[p];
        }
    }
}

/* Packs `count` panels for k in [k_begin, k_begin + k). `b`: the thread's buffer, behind which
 * expanded rows go. */
static void pack_panels(const segment *part, int64_t panel, int64_t count, const block *at,
                        real *to, real *b)
{
    const GEMM *product = part->product;
    int width = part->kernels->tile_columns;
    int64_t column = panel * width, columns = mixt_least(count * width, product->n - column);
    if (product->matrix == NULL) {
        part->kernels->pack(at->k, columns,
                            product->b + at->k_begin * product->b_row + column * product->b_column,
                            product->b_row, product->b_column, to, width);
        return;
    }
    mixt_row_range rows = {product->matrix, column, columns, at->k_begin, at->k, is_by_lanes(part)};
    if (part->kernels->pack_typed != NULL && mixt_rows_fit(product->matrix)) {
        part->kernels->pack_typed(&rows, to, width);
        return;
    }
    real *expanded = b + MIXT_GEMM_B_BYTES / sizeof(real);
    for (int64_t end = column + columns; rows.row < end; rows.row += width) {
        rows.rows = mixt_least(width, end - rows.row);
        expand_rows(&rows, expanded);
        part->kernels->pack(at->k, rows.rows, expanded, 1, at->k, to, width);
        to += width * mixt_gemm_cells(part->kernels->pairs, at->k);
    }
}

/* Where a panel lies among packed ones: blocks of k, in each all panels one behind the other.
 * `panel` counts from the first that is packed, k_begin from the first k. */
static int64_t panel_offset(const KERNELS *kernels, int64_t panels, int64_t panel, int64_t k_begin,
                            int64_t k)
{
    int64_t before = mixt_gemm_cells(kernels->pairs, k_begin) * panels;
    return (before + panel * mixt_gemm_cells(kernels->pairs, k)) * kernels->tile_columns;
}

/* The segment that item `item` of a loop belongs to. */
static const segment *segment_of(const batch *work, int64_t item, bool packing)
{
    int low = 0;
    for (int i = 1; i < work->count; i++) {
        const segment *part = &work->segments[i];
        if ((packing ? part->first_pack : part->first_item) <= item) {
            low = i;
        }
    }
    return &work->segments[low];
}

/* First loop: a few panels over their whole range of k. */
static void pack_item(void *context, int64_t item, int thread)
{
    const batch *work = context;
    const segment *part = segment_of(work, item, true);
    int64_t panels = part->panel_end - part->panel_begin;
    int64_t panel = (item - part->first_pack) * PACK_GROUP;
    int64_t count = mixt_least(PACK_GROUP, panels - panel);
    for (int64_t at = part->k_begin; at < part->k_end; at += MIXT_GEMM_K_BLOCK) {
        block piece = {.k_begin = at, .k = mixt_least(part->k_end - at, MIXT_GEMM_K_BLOCK)};
        int64_t offset = panel_offset(part->kernels, panels, panel, at - part->k_begin, piece.k);
        pack_panels(part, part->panel_begin + panel, count, &piece, part->panels + offset,
                    work->compute->gemm->b[thread]);
    }
}

static void pack_rows(const segment *part, const block *at, real *to)
{
    const GEMM *product = part->product;
    int64_t height = part->kernels->tile_rows, row = at->tile_begin * height;
    int64_t rows = mixt_least(at->tile_end * height, product->m) - row;
    const KERNELS *kernels = part->kernels;
    (kernels->pack_rows != NULL ? kernels->pack_rows : kernels->pack)(
        at->k, rows, product->a + row * product->a_row + at->k_begin * product->a_column,
        product->a_column, product->a_row, to, (int)height);
}

/* The packed panel for a block: packed before, shared, or packed now into `local`. */
static const real *find_panel(const segment *part, const block *at, int64_t panel, real *local)
{
    const struct mixt_packed *packed = part->product->packed;
    if (packed != NULL) {
        int64_t panels = mixt_divide_up(packed->n, part->kernels->tile_columns);
        return (const real *)packed->panels +
               panel_offset(part->kernels, panels, panel, at->k_begin, at->k);
    }
    if (part->panels != NULL) {
        return part->panels + panel_offset(part->kernels, part->panel_end - part->panel_begin,
                                           panel - part->panel_begin, at->k_begin - part->k_begin,
                                           at->k);
    }
    pack_panels(part, panel, 1, at, local, local);
    return local;
}

static void compute_block(const segment *part, const block *at, bool packed, real *a, real *local)
{
    const GEMM *product = part->product;
    const KERNELS *kernels = part->kernels;
    int height = kernels->tile_rows, width = kernels->tile_columns;
    int64_t cells = mixt_gemm_cells(kernels->pairs, at->k);
    bool accumulate = product->accumulate || at->k_begin > 0, by_lanes = is_by_lanes(part);
    MIXT_REAL(mixt_tile_kernel) *run = by_lanes ? kernels->tile_lanes : kernels->tile;
    if (!packed) {
        pack_rows(part, at, a);
    }
    for (int64_t panel = at->panel_begin; panel < at->panel_end; panel++) {
        int64_t first = mixt_most(at->tile_begin, product->lower ? panel * width / height : 0);
        if (first >= at->tile_end) {
            break;
        }
        const real *b = find_panel(part, at, panel, local);
        int columns = (int)mixt_least(width, product->n - panel * width);
        const real *tile_a = a + (first - at->tile_begin) * cells * height;
        for (int64_t tile = first; tile < at->tile_end; tile++) {
            int rows = (int)mixt_least(height, product->m - tile * height);
            run(cells, tile_a, b, product->c + tile * height * product->c_row + panel * width,
                product->c_row, rows, columns, accumulate);
            tile_a += cells * height;
        }
    }
}

/* packed: A is one block, and lies in `a` already. */
static void compute_range(const segment *part, block at, bool packed, real *a, real *local)
{
    int64_t tile_end = at.tile_end;
    int64_t step = row_tiles_max(part->kernels, part->k_end - part->k_begin);
    for (; at.tile_begin < tile_end; at.tile_begin = at.tile_end) {
        at.tile_end = mixt_least(at.tile_begin + step, tile_end);
        for (at.k_begin = part->k_begin; at.k_begin < part->k_end; at.k_begin += at.k) {
            at.k = mixt_least(part->k_end - at.k_begin, MIXT_GEMM_K_BLOCK);
            compute_block(part, &at, packed, a, local);
        }
    }
}

/* A product's rows, with what its tile needs. */
static void compute_product(const mixt_compute *compute, const segment *part, const block *at,
                            bool packed, int thread)
{
    const KERNELS *kernels = part->kernels;
    uint64_t before = kernels->enter != NULL ? kernels->enter() : 0;
    compute_range(part, *at, packed, compute->gemm->a[thread], compute->gemm->b[thread]);
    if (kernels->leave != NULL) {
        kernels->leave(before);
    }
}

/* Whether the rows of a product are packed as one block, which is that of the product before. */
static bool shares_rows(const segment *part, const block *at)
{
    const GEMM *product = part->product, *before = part[-1].product;
    return product->a == before->a && product->k == before->k && product->k <= MIXT_GEMM_K_BLOCK &&
           product->a_row == before->a_row && product->a_column == before->a_column &&
           part->kernels == part[-1].kernels &&
           at->tile_end - at->tile_begin <= row_tiles_max(part->kernels, product->k);
}

static void compute_chain(const mixt_compute *compute, const segment *part, block at, int thread)
{
    const CHAIN *chain = part->chain;
    int64_t height = part->kernels->tile_rows;
    for (int i = 0; i < chain->count; i++) {
        if (i == chain->before && chain->between != NULL) {
            chain->between(chain->context, part->chain_at, at.tile_begin * height,
                           mixt_least(at.tile_end * height, part->product->m));
        }
        at.panel_end = part[i].panel_end;
        compute_product(compute, &part[i], &at, i > 0 && shares_rows(&part[i], &at), thread);
    }
}

/* Second loop. */
static void compute_item(void *context, int64_t item, int thread)
{
    const batch *work = context;
    const segment *part = segment_of(work, item, false);
    int64_t row_part = (item - part->first_item) / part->panel_parts;
    int64_t panel_part = (item - part->first_item) % part->panel_parts;
    int64_t panels = part->panel_end - part->panel_begin;
    block at = {
        .tile_begin = part->row_tiles * row_part / part->row_parts,
        .tile_end = part->row_tiles * (row_part + 1) / part->row_parts,
        .panel_begin = part->panel_begin + panels * panel_part / part->panel_parts,
        .panel_end = part->panel_begin + panels * (panel_part + 1) / part->panel_parts,
    };
    if (part->chain != NULL) {
        compute_chain(work->compute, part, at, thread);
    } else {
        compute_product(work->compute, part, &at, false, thread);
    }
}

static double segment_work(const segment *part)
{
    double panels = (double)(part->panel_end - part->panel_begin);
    return (double)part->row_tiles * part->kernels->tile_rows * panels *
           part->kernels->tile_columns * (double)(part->k_end - part->k_begin);
}

/* Cuts a segment into about work / item_work items: by rows, so that no A is packed twice, and
 * what rows cannot give by panels. Where rows of A lie side by side larger items are wanted, up to
 * a work of side_work. */
static void split_segment(segment *part, double item_work, double side_work)
{
    int64_t panels = part->panel_end - part->panel_begin;
    double part_work = segment_work(part);
    for (int i = 1; part->chain != NULL && i < part->chain->count; i++) {
        part_work += segment_work(&part[i]);
    }
    int64_t wanted = (int64_t)(part_work / item_work) + 1;
    bool local = part->panels == NULL && part->product->packed == NULL;
    bool side = part->product->a_row == 1 && part->product->a_column != 1;
    int64_t tiles = side ? mixt_divide_up(SIDE_ROWS, part->kernels->tile_rows) : 2;
    part->row_parts = local ? 1 : mixt_least(mixt_divide_up(part->row_tiles, tiles), wanted);
    int64_t most = panels;
    if (side) { /* unless threads would be left without items */
        int64_t needed = mixt_divide_up((int64_t)(part_work / side_work) + 1, part->row_parts);
        most = mixt_least(panels, mixt_most(mixt_divide_up(panels, SIDE_PANELS), needed));
    }
    part->panel_parts =
        part->chain != NULL ? 1 : mixt_least(most, mixt_divide_up(wanted, part->row_parts));
}

static void run_batch(batch *work)
{
    if (work->count == 0) {
        return;
    }
    double item_work = work->work / (work->compute->threads * ITEMS_PER_THREAD);
    double side_work = work->work / (work->compute->threads * SIDE_ITEMS_PER_THREAD);
    item_work = item_work < ITEM_WORK_MIN ? ITEM_WORK_MIN : item_work;
    work->pack_items = work->items = 0;
    for (int i = 0; i < work->count; i++) {
        segment *part = &work->segments[i];
        split_segment(part, item_work, side_work);
        part->first_pack = work->pack_items;
        part->first_item = work->items;
        work->pack_items += part->panels == NULL
                                ? 0
                                : mixt_divide_up(part->panel_end - part->panel_begin, PACK_GROUP);
        work->items += part->follows ? 0 : part->row_parts * part->panel_parts;
    }
    mixt_pool_run(work->compute->pool, work->pack_items, pack_item, work);
    mixt_pool_run(work->compute->pool, work->items, compute_item, work);
    work->count = 0;
    work->used = 0;
    work->work = 0;
}

static void add_segment(batch *work, const segment *part)
{
    work->segments[work->count++] = *part;
    work->work += segment_work(part);
    if (work->count == SEGMENTS_MAX) {
        run_batch(work);
    }
}

/* Cuts [k_begin, k_end) of a product into segments that fit the shared buffer. */
static void add_shared(batch *work, segment part, int64_t panels)
{
    int64_t k = part.k_end - part.k_begin;
    size_t panel_size =
        (size_t)(mixt_gemm_cells(part.kernels->pairs, k) * part.kernels->tile_columns);
    size_t capacity = MIXT_GEMM_SHARED_BYTES / sizeof(real);
    for (part.panel_end = 0; part.panel_end < panels;) {
        int64_t free_panels = (int64_t)((capacity - work->used) / panel_size);
        if (free_panels == 0) {
            run_batch(work);
            continue;
        }
        part.panel_begin = part.panel_end;
        part.panel_end = mixt_least(panels, part.panel_begin + free_panels);
        part.panels = (real *)work->compute->gemm->shared + work->used;
        work->used += (size_t)(part.panel_end - part.panel_begin) * panel_size;
        add_segment(work, &part);
    }
}

static void clear_product(const GEMM *product)
{
    for (int64_t i = 0; i < product->m && !product->accumulate; i++) {
        memset(product->c + i * product->c_row, 0, (size_t)product->n * sizeof(real));
    }
}

static void add_product(batch *work, const GEMM *product)
{
    const KERNELS *kernels = MIXT_REAL(mixt_gemm_kernels_for)(work->compute, product);
    assert(product->a_row == 1 || product->a_column == 1);
    assert(product->packed != NULL || product->matrix != NULL || product->b_row == 1 ||
           product->b_column == 1);
    assert(product->packed == NULL ||
           (product->packed->n == product->n && product->packed->k == product->k &&
            (const void *)product->packed->kernels == kernels));
    assert(product->c_row >= product->n);
    int64_t panels = mixt_divide_up(product->n, kernels->tile_columns);
    segment part = {
        .product = product,
        .kernels = kernels,
        .k_end = product->k,
        .panel_end = panels,
        .row_tiles = mixt_divide_up(product->m, kernels->tile_rows),
    };
    if (product->packed != NULL || part.row_tiles <= row_tiles_max(kernels, product->k)) {
        add_segment(work, &part);
        return;
    }
    int64_t longest = (int64_t)(MIXT_GEMM_SHARED_BYTES / sizeof(real)) / kernels->tile_columns;
    longest -= longest % MIXT_GEMM_K_BLOCK;
    for (; part.k_begin < product->k; part.k_begin = part.k_end) {
        if (part.k_begin > 0) {
            run_batch(work); /* two ranges of k add to the same C */
        }
        part.k_end = mixt_least(part.k_begin + longest, product->k);
        add_shared(work, part, panels);
    }
}

void MIXT_REAL(mixt_gemm_drive)(const mixt_compute *compute, const GEMM *list, int64_t count)
{
    batch work;
    work.compute = compute;
    work.count = 0;
    work.used = 0;
    work.work = 0;
    for (int64_t i = 0; i < count; i++) {
        const GEMM *product = &list[i];
        if (product->m <= 0 || product->n <= 0) {
            continue;
        }
        if (product->k <= 0) {
            clear_product(product);
        } else if (!IS_TYPED(compute, product)) {
            add_product(&work, product);
        }
    }
    run_batch(&work);
}

/* Whether all of a chain's panels fit the shared buffer, and how many reals they are. */
static bool chain_fits(const mixt_compute *compute, const CHAIN *chain, size_t *reals)
{
    *reals = 0;
    for (int i = 0; i < chain->count; i++) {
        const GEMM *product = &chain->products[i];
        const KERNELS *kernels = MIXT_REAL(mixt_gemm_kernels_for)(compute, product);
        *reals += (size_t)(mixt_divide_up(product->n, kernels->tile_columns) *
                           kernels->tile_columns * mixt_gemm_cells(kernels->pairs, product->k));
    }
    return *reals <= MIXT_GEMM_SHARED_BYTES / sizeof(real);
}

static void add_chain(batch *work, const CHAIN *chain, int64_t place)
{
    for (int i = 0; i < chain->count; i++) {
        const GEMM *product = &chain->products[i];
        const KERNELS *kernels = MIXT_REAL(mixt_gemm_kernels_for)(work->compute, product);
        segment part = {
            .product = product,
            .kernels = kernels,
            .k_end = product->k,
            .panel_end = mixt_divide_up(product->n, kernels->tile_columns),
            .panels = (real *)work->compute->gemm->shared + work->used,
            .row_tiles = mixt_divide_up(product->m, kernels->tile_rows),
            .chain = i == 0 ? chain : NULL,
            .chain_at = place,
            .follows = i > 0,
        };
        assert(product->m == chain->products[0].m && product->n > 0 && product->k > 0);
        assert(product->packed == NULL && product->matrix == NULL);
        work->used += (size_t)(part.panel_end * kernels->tile_columns *
                               mixt_gemm_cells(kernels->pairs, product->k));
        work->segments[work->count++] = part;
        work->work += segment_work(&part);
    }
}

/* One product of the chain after the other, over all rows. */
static void run_apart(const mixt_compute *compute, const CHAIN *chain, int64_t place)
{
    for (int i = 0; i < chain->count; i++) {
        if (i == chain->before && chain->between != NULL) {
            chain->between(chain->context, place, 0, chain->products[0].m);
        }
        MIXT_REAL(mixt_gemm_drive)(compute, &chain->products[i], 1);
    }
}

void MIXT_REAL(mixt_gemm_run_chains)(const mixt_compute *compute, const CHAIN *list, int64_t count)
{
    batch work = {.compute = compute};
    for (int64_t i = 0; i < count; i++) {
        size_t reals;
        if (list[i].products[0].m <= 0) {
            continue;
        }
        assert(list[i].count <= MIXT_CHAIN_MOST && list[i].before < list[i].count);
        if (!chain_fits(compute, &list[i], &reals)) {
            run_apart(compute, &list[i], i);
            continue;
        }
        if (work.used + reals > MIXT_GEMM_SHARED_BYTES / sizeof(real) ||
            work.count + list[i].count > SEGMENTS_MAX) {
            run_batch(&work);
        }
        add_chain(&work, &list[i], i);
    }
    run_batch(&work);
}

void MIXT_REAL(mixt_gemm_block)(const mixt_compute *compute, int thread, const GEMM *gemm)
{
    if (gemm->m <= 0 || gemm->n <= 0) {
        return;
    }
    if (gemm->k <= 0) {
        clear_product(gemm);
        return;
    }
    assert(thread >= 0 && thread < compute->threads && gemm->c_row >= gemm->n);
    const KERNELS *kernels = &compute->MIXT_REAL_SUFFIX->gemm;
    segment part = {.product = gemm, .kernels = kernels, .k_end = gemm->k};
    block at = {
        .tile_end = mixt_divide_up(gemm->m, kernels->tile_rows),
        .panel_end = mixt_divide_up(gemm->n, kernels->tile_columns),
    };
    compute_range(&part, at, false, compute->gemm->a[thread], compute->gemm->b[thread]);
}

void MIXT_REAL(mixt_gemm_pack)(const mixt_compute *compute, const GEMM *gemm, real *to)
{
    const KERNELS *kernels = MIXT_REAL(mixt_gemm_kernels_for)(compute, gemm);
    int64_t panels = mixt_divide_up(gemm->n, kernels->tile_columns);
    batch work = {.compute = compute, .count = 1};
    work.segments[0] = (segment){
        .product = gemm, .kernels = kernels, .k_end = gemm->k, .panel_end = panels, .panels = to};
    mixt_pool_run(compute->pool, gemm->k > 0 ? mixt_divide_up(panels, PACK_GROUP) : 0, pack_item,
                  &work);
}
