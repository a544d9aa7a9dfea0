#include "model/sensitivity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "model/importance.h"
#include "model/parameters.h"
#include "quant/quant.h"

mixt_type mixt_rounded_type(const mixt_model *model, int parameter)
{
    static const mixt_type types[] = {MIXT_TYPE_Q3_K, MIXT_TYPE_Q4_0};
    const mixt_parameter *p = &model->parameters[parameter];
    bool held = model->held != NULL && model->held[parameter].matrices != NULL;
    for (int i = 0; i < 2 && held && mixt_parameter_is_matrix(p); i++) {
        if (mixt_type_row_bytes(types[i], p->size[p->rank - 1]) != 0) {
            return types[i];
        }
    }
    return MIXT_TYPE_COUNT;
}

/* Rows of a parameter on their way into `bytes`. */
typedef struct rounding {
    const mixt_model *model;
    int parameter;
    mixt_type type;
    int64_t columns, rows_of_matrix;
    const float *means; /* [matrices, columns], or NULL */
    const bool *known;  /* [matrices]: means is filled */
    char *bytes;
    float *scratch; /* [threads, columns] */
    mixt_error errors[MIXT_THREADS_MAX];
} rounding;

static void round_row(void *context, int64_t row, int thread)
{
    rounding *r = context;
    float *values = r->scratch + thread * r->columns;
    int64_t matrix = row / r->rows_of_matrix;
    const float *means = r->known[matrix] ? r->means + matrix * r->columns : NULL;
    mixt_model_values(r->model, r->parameter, (size_t)(row * r->columns), (size_t)r->columns,
                      values);
    mixt_quantise(r->type, values, 1, r->columns, means,
                  r->bytes + (size_t)row * mixt_type_row_bytes(r->type, r->columns),
                  &r->errors[thread]);
}

static mixt_status round_rows(rounding *r, int64_t rows, mixt_pool *pool, mixt_error *error)
{
    mixt_pool_run(pool, rows, round_row, r);
    for (int i = 0; i < mixt_pool_threads(pool); i++) {
        if (r->errors[i].status != MIXT_OK) {
            return mixt_fail(error, r->errors[i].status, "%s: %s",
                             r->model->parameters[r->parameter].name, r->errors[i].message);
        }
    }
    return MIXT_OK;
}

static mixt_status fill_bytes(const mixt_model *model, int parameter, mixt_type type,
                              const mixt_importance *importance, mixt_pool *pool, char *bytes,
                              mixt_error *error)
{
    const mixt_parameter *p = &model->parameters[parameter];
    int64_t columns = p->size[p->rank - 1], matrices = model->held[parameter].count;
    int64_t rows = (int64_t)p->count / columns;
    rounding *r = calloc(1, sizeof *r);
    float *means = calloc((size_t)(matrices * columns), sizeof *means);
    bool *known = calloc((size_t)matrices, sizeof *known);
    float *scratch = calloc((size_t)(mixt_pool_threads(pool) * columns), sizeof *scratch);
    mixt_status status = r == NULL || means == NULL || known == NULL || scratch == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "sensitivity: no memory")
                             : MIXT_OK;
    if (status == MIXT_OK) {
        for (int64_t i = 0; i < matrices && importance != NULL; i++) {
            known[i] =
                mixt_importance_of(importance, p->gguf_name, i, columns, means + i * columns);
        }
        *r = (rounding){.model = model,
                        .parameter = parameter,
                        .type = type,
                        .columns = columns,
                        .rows_of_matrix = rows / matrices,
                        .means = means,
                        .known = known,
                        .bytes = bytes,
                        .scratch = scratch};
        status = round_rows(r, rows, pool, error);
    }
    free(r);
    free(means);
    free(known);
    free(scratch);
    return status;
}

mixt_status mixt_rounded_create(const mixt_model *model, int parameter, mixt_type type,
                                const mixt_importance *importance, mixt_pool *pool,
                                mixt_rounded *rounded, mixt_error *error)
{
    *rounded = (mixt_rounded){.model = *model};
    const mixt_parameter *p = &model->parameters[parameter];
    const mixt_held *from = &model->held[parameter];
    int64_t columns = p->size[p->rank - 1], rows = (int64_t)p->count / columns;
    size_t row_bytes = mixt_type_row_bytes(type, columns);
    assert(row_bytes != 0 && from->matrices != NULL);
    size_t each = (size_t)(rows / from->count) * row_bytes;
    rounded->model.held = malloc((size_t)model->parameter_count * sizeof *rounded->model.held);
    rounded->matrices = malloc((size_t)from->count * sizeof *rounded->matrices);
    rounded->bytes = malloc((size_t)rows * row_bytes + 64); /* kernels may read beyond a row */
    if (rounded->model.held == NULL || rounded->matrices == NULL || rounded->bytes == NULL) {
        mixt_rounded_free(rounded);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sensitivity: no memory");
    }
    memcpy(rounded->model.held, model->held,
           (size_t)model->parameter_count * sizeof *rounded->model.held);
    for (int i = 0; i < from->count; i++) {
        rounded->matrices[i] = (mixt_matrix){.type = type,
                                             .n = rows / from->count,
                                             .k = columns,
                                             .data = rounded->bytes + (size_t)i * each,
                                             .row_bytes = row_bytes};
    }
    rounded->model.held[parameter].matrices = rounded->matrices;
    mixt_status status =
        fill_bytes(model, parameter, type, importance, pool, rounded->bytes, error);
    if (status != MIXT_OK) {
        mixt_rounded_free(rounded);
    }
    return status;
}

void mixt_rounded_free(mixt_rounded *rounded)
{
    free(rounded->model.held);
    free(rounded->matrices);
    free(rounded->bytes);
    *rounded = (mixt_rounded){0};
}

void mixt_sensitivity_free(mixt_sensitivity *sensitivity)
{
    if (sensitivity != NULL) {
        free(sensitivity->entries);
        free(sensitivity);
    }
}
