/* Types whose blocks are made of integers that lie nowhere as such (quant/multiples.h): rows are
 * decoded one by one into 16-bit words and then transposed into a panel, or for one token
 * multiplied as they are. Included behind quant_tile.h. */

/* One block of each lane's row. */
INLINE void unpack_multiples(source *from, panel *to, mixt_type type)
{
    _Alignas(64) int16_t rows[QUANT_LANES][MIXT_STEP];
    float d[QUANT_LANES];
    const source words = {(const uint8_t *)rows, sizeof rows[0], NULL};
    for (int lane = 0; lane < QUANT_LANES; lane++) {
        fetch_ahead(from, (size_t)mixt_type_info(type)->bytes);
        d[lane] = mixt_multiples_of(type, from->base + (size_t)lane * from->stride, rows[lane]);
    }
    to->d[0] = vf_load(d);
    for (int i = 0; i < MIXT_STEP / 8; i++) {
        load_quads(&words, (size_t)(16 * i), to->cells + 4 * i);
    }
}

/* Part `part` (of 32 values, `block` of the step) of each lane's row. */
INLINE void unpack_part(source *from, panel *to, int block, mixt_type type)
{
    _Alignas(64) int16_t rows[QUANT_LANES][32];
    float d[QUANT_LANES], m[QUANT_LANES];
    const source words = {(const uint8_t *)rows, sizeof rows[0], NULL};
    int part = block % (mixt_type_info(type)->elements / 32);
    for (int lane = 0; lane < QUANT_LANES; lane++) {
        float scales[2];
        mixt_part_of(type, from->base + (size_t)lane * from->stride, part, rows[lane], scales);
        d[lane] = scales[0];
        m[lane] = scales[1];
    }
    to->d[block] = vf_load(d);
    to->m[block] = vf_load(m);
    for (int i = 0; i < 4; i++) {
        load_quads(&words, (size_t)(16 * i), to->cells + 16 * block + 4 * i);
    }
}

#define UNPACK_MULTIPLES(name, type)                                                               \
    static void name(source *from, panel *to)                                                      \
    {                                                                                              \
        unpack_multiples(from, to, type);                                                          \
    }
UNPACK_MULTIPLES(unpack_iq1_s, MIXT_TYPE_IQ1_S)
UNPACK_MULTIPLES(unpack_iq1_m, MIXT_TYPE_IQ1_M)
UNPACK_MULTIPLES(unpack_iq2_xxs, MIXT_TYPE_IQ2_XXS)
UNPACK_MULTIPLES(unpack_iq2_xs, MIXT_TYPE_IQ2_XS)
UNPACK_MULTIPLES(unpack_iq2_s, MIXT_TYPE_IQ2_S)
UNPACK_MULTIPLES(unpack_iq3_xxs, MIXT_TYPE_IQ3_XXS)
UNPACK_MULTIPLES(unpack_iq3_s, MIXT_TYPE_IQ3_S)
UNPACK_MULTIPLES(unpack_tq1_0, MIXT_TYPE_TQ1_0)
UNPACK_MULTIPLES(unpack_tq2_0, MIXT_TYPE_TQ2_0)

#define UNPACK_PART(name, type)                                                                    \
    static void name(source *from, panel *to, int block)                                           \
    {                                                                                              \
        unpack_part(from, to, block, type);                                                        \
    }
UNPACK_PART(unpack_nvfp4, MIXT_TYPE_NVFP4)
UNPACK_PART(unpack_q1_0, MIXT_TYPE_Q1_0)
UNPACK_PART(unpack_q2_0, MIXT_TYPE_Q2_0)

/* The sum of products of one block with its activations, in each lane a part of it. */
INLINE vi dot_words(const int16_t q[MIXT_STEP], const int16_t x[MIXT_STEP])
{
    vi total = vi_zero();
    EACH(i, MIXT_STEP / 2 / QUANT_LANES)
    {
        total =
            vi_dpwssd(total, vi_load(q + 2 * QUANT_LANES * i), vi_load(x + 2 * QUANT_LANES * i));
    }
    return total;
}

/* One token times QUANT_LANES rows from `row` on, or as many as there are. */
static vf rows_of_multiples(const mixt_matrix_task *task, int64_t row)
{
    const mixt_matrix *matrix = task->matrix;
    const size_t bytes = (size_t)mixt_type_info(matrix->type)->bytes;
    _Alignas(64) int16_t q[MIXT_STEP];
    _Alignas(64) int32_t lanes[QUANT_LANES][QUANT_LANES] = {{0}};
    float d[QUANT_LANES] = {0};
    const source dwords = {(const uint8_t *)lanes, sizeof lanes[0], NULL};
    int64_t rows = task->row_end - row < QUANT_LANES ? task->row_end - row : QUANT_LANES;
    vf sum = vf_set(0);
    for (int64_t step = 0; step < matrix->k / MIXT_STEP; step++) {
        const mixt_q8_wide *x =
            (const void *)(task->activations + (size_t)step * task->activation_bytes);
        for (int64_t lane = 0; lane < rows; lane++) {
            const uint8_t *block = (const uint8_t *)matrix->data +
                                   (size_t)(row + lane) * matrix->row_bytes + (size_t)step * bytes;
            d[lane] = mixt_multiples_of(matrix->type, block, q);
            vi part = dot_words(q, x->q);
            memcpy(lanes[lane], &part, sizeof part);
        }
        vi total = vi_zero();
        EACH(i, QUANT_LANES / 4)
        {
            vi four[4];
            load_quads(&dwords, (size_t)(16 * i), four);
            total = vi_add32(total, vi_add32(vi_add32(four[0], four[1]), //
                                             vi_add32(four[2], four[3])));
        }
        sum = add_scaled(sum, vf_load(d), x->narrow.d[0], total);
    }
    return sum;
}

/* One token times all rows of a task. */
static void multiply_multiples(const mixt_matrix_task *task)
{
    for (int64_t row = task->row_begin; row < task->row_end; row += QUANT_LANES) {
        float sums[QUANT_LANES];
        vf_store(sums, rows_of_multiples(task, row));
        for (int64_t i = 0; i < QUANT_LANES && row + i < task->row_end; i++) {
            float *c = task->c + row + i;
            *c = task->accumulate ? *c + sums[i] : sums[i];
        }
    }
}
