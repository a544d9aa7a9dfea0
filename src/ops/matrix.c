/* Products with weights in typed rows. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
void mixt_matrix_run(const mixt_compute *compute, const mixt_gemm_f32 *list, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (list[i].matrix != NULL && list[i].matrix->type == MIXT_TYPE_F32) {
            mixt_gemm_f32 product = list[i];
            product.b = list[i].matrix->data;
            product.matrix = NULL;
            mixt_gemm_run_f32(compute, &product, 1);
        }
    }
}

void mixt_matrix_row(const mixt_compute *compute, const mixt_matrix *matrix, int64_t row,
                     float *values)
{
    (void)compute;
    if (matrix->type == MIXT_TYPE_F32) {
        memcpy(values, (const char *)matrix->data + (size_t)row * matrix->row_bytes,
               (size_t)matrix->k * sizeof(float));
    }
}
#endif
