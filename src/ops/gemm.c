/* Matrix products: which of a list the BLAS library runs, which have weights in typed rows, and the
 * rest for the driver; and B packed before. */
#include "ops/gemm.h"

#include <assert.h>

#include "core/arithmetic.h"
#include "core/error.h"
#include "core/memory.h"

static bool is_for_blas(const mixt_compute *compute, const mixt_gemm_f32 *product)
{
    const int64_t most = INT32_MAX;
    return compute->matmul == MIXT_MATMUL_BLAS && !product->exact && product->packed == NULL &&
           product->matrix == NULL && product->m > 0 && product->n > 0 && product->k > 0 &&
           product->m <= most && product->n <= most && product->k <= most &&
           product->c_row <= most && product->a_row <= most && product->a_column <= most &&
           product->b_row <= most && product->b_column <= most;
}

/* For the library, typed rows of fp32 are B as any other. */
static mixt_gemm_f32 for_blas(const mixt_compute *compute, const mixt_gemm_f32 *given)
{
    mixt_gemm_f32 product = *given;
    if (compute->matmul == MIXT_MATMUL_BLAS && given->matrix != NULL &&
        given->matrix->type == MIXT_TYPE_F32) {
        product.b = given->matrix->data;
        product.b_row = 1;
        product.b_column = (int64_t)(given->matrix->row_bytes / sizeof(float));
        product.matrix = NULL;
    }
    return product;
}

static void run_blas(const mixt_compute *compute, const mixt_gemm_f32 *product)
{
    const int row_major = 101, plain = 111, transposed = 112;
    assert(compute->gemm->sgemm != NULL);
    bool a_transposed = product->a_column != 1, b_transposed = product->b_column != 1;
    int64_t a_stride = a_transposed ? product->a_column : product->a_row;
    int64_t b_stride = b_transposed ? product->b_column : product->b_row;
    /* With one row or column both strides may be 1: BLAS wants at least the row's length. */
    a_stride = mixt_most(a_stride, a_transposed ? product->m : product->k);
    b_stride = mixt_most(b_stride, b_transposed ? product->k : product->n);
    if (compute->gemm->blas_threads != NULL) {
        compute->gemm->blas_threads(compute->threads);
    }
    compute->gemm->sgemm(row_major, a_transposed ? transposed : plain,
                         b_transposed ? transposed : plain, (int)product->m, (int)product->n,
                         (int)product->k, 1.0F, product->a, (int)a_stride, product->b,
                         (int)b_stride, product->accumulate ? 1.0F : 0.0F, product->c,
                         (int)product->c_row);
}

bool mixt_gemm_is_streamed(const mixt_compute *compute, const mixt_gemm_f32 *product)
{
    const mixt_matrix *matrix = product->matrix;
    const mixt_gemm_kernels_f32 *kernels = mixt_gemm_kernels_for_f32(compute, product);
    return matrix != NULL && mixt_type_info(matrix->type)->elements == 1 &&
           !(compute->matmul == MIXT_MATMUL_BLAS && matrix->type == MIXT_TYPE_F32) &&
           mixt_stream_of(kernels, matrix->type) != NULL && product->m <= MIXT_STREAM_TOKENS &&
           product->a_column == 1 && mixt_rows_fit(matrix) &&
           (product->k <= MIXT_STREAM_MOST || !mixt_in_lanes(matrix->type)) &&
           (!kernels->pairs || (matrix->type == MIXT_TYPE_BF16 && product->k % 2 == 0));
}

bool mixt_gemm_is_typed(const mixt_compute *compute, const mixt_gemm_f32 *product)
{
    return product->matrix != NULL && (mixt_type_info(product->matrix->type)->elements > 1 ||
                                       mixt_gemm_is_streamed(compute, product));
}

void mixt_gemm_run_f32(const mixt_compute *compute, const mixt_gemm_f32 *list, int64_t count)
{
    int64_t typed = 0, begin = 0; /* the first that the driver has not seen */
    for (int64_t i = 0; i < count; i++) {
        mixt_gemm_f32 product = for_blas(compute, &list[i]);
        typed += mixt_gemm_is_typed(compute, &list[i]);
        if (is_for_blas(compute, &product)) {
            mixt_gemm_drive_f32(compute, list + begin, i - begin);
            run_blas(compute, &product);
            begin = i + 1;
        }
    }
    mixt_gemm_drive_f32(compute, list + begin, count - begin);
    if (typed > 0) {
        mixt_matrix_run(compute, list, count);
    }
}

void mixt_gemm_run_f64(const mixt_compute *compute, const mixt_gemm_f64 *list, int64_t count)
{
    mixt_gemm_drive_f64(compute, list, count);
}

mixt_status mixt_pack_f32(const mixt_compute *compute, const mixt_gemm_f32 *gemm,
                          mixt_packed **result, mixt_error *error)
{
    *result = NULL;
    const mixt_gemm_kernels_f32 *kernels = mixt_gemm_kernels_for_f32(compute, gemm);
    int64_t panels = mixt_divide_up(gemm->n, kernels->tile_columns);
    size_t bytes;
    mixt_packed *packed = mixt_block_allocate(sizeof *packed);
    if (packed == NULL ||
        !mixt_multiply_size((size_t)panels * (size_t)kernels->tile_columns, sizeof(float),
                            &bytes) ||
        !mixt_multiply_size(bytes, (size_t)mixt_gemm_cells(kernels->pairs, gemm->k), &bytes)) {
        mixt_block_free(packed, sizeof *packed);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to pack a matrix");
    }
    *packed = (mixt_packed){.n = gemm->n, .k = gemm->k, .kernels = kernels, .size = bytes};
    packed->panels = mixt_block_allocate(bytes);
    if (packed->panels == NULL) {
        mixt_packed_free(packed);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to pack a matrix of %zu bytes",
                         bytes);
    }
    mixt_gemm_pack_f32(compute, gemm, packed->panels);
    *result = packed;
    return MIXT_OK;
}

bool mixt_packed_fits(const mixt_compute *compute, const mixt_packed *packed)
{
    const mixt_gemm_f32 product = {.exact = false};
    return packed->kernels == mixt_gemm_kernels_for_f32(compute, &product);
}

void mixt_packed_free(mixt_packed *packed)
{
    if (packed != NULL) {
        mixt_block_free(packed->panels, packed->size);
        mixt_block_free(packed, sizeof *packed);
    }
}
