#include "model/weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapters.h"
#include "model/laid.h"
#include "model/stored.h"
#include "ops/low_rank.h"

/* One parameter of a mapped model on a device with memory of its own. */
typedef struct placed {
    mixt_device_memory memory; /* all matrices one behind the other, or the values */
    mixt_matrix *matrices;     /* [held.count], in that memory; NULL: values */
} placed;

struct mixt_weights {
    const mixt_model *model;
    const mixt_device *device;
    const mixt_backend *backend;
    mixt_device_memory block; /* of a model held in fp32 */
    mixt_model *changed;      /* whose block on the host is older than the device's, or NULL */
    placed *placed;           /* of each parameter of a mapped model */
    mixt_packed **packed;     /* one for a matrix, E for experts, parameters in order */
    int packed_count;
    int *packed_first; /* of each parameter, -1 where it is not packed; NULL: nothing is */
};

static size_t matrix_bytes(const mixt_matrix *matrix)
{
    return (size_t)matrix->n * matrix->row_bytes;
}

static size_t scales_bytes(const mixt_matrix *matrix)
{
    return (size_t)mixt_scales_count(matrix) * sizeof(float);
}

/* Copies the rows of a parameter's matrices into the device's memory. */
static mixt_status place_matrices(mixt_weights *weights, const mixt_held *held, placed *to,
                                  mixt_error *error)
{
    size_t bytes = 0, offset = 0;
    for (int i = 0; i < held->count; i++) {
        bytes += mixt_round_up(matrix_bytes(&held->matrices[i]), MIXT_ALIGNMENT);
        bytes += mixt_round_up(scales_bytes(&held->matrices[i]), MIXT_ALIGNMENT);
    }
    to->matrices = calloc((size_t)held->count, sizeof *to->matrices);
    if (to->matrices == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "weights: no memory");
    }
    mixt_status status = mixt_device_memory_create(weights->backend, bytes, &to->memory, error);
    for (int i = 0; i < held->count && status == MIXT_OK; i++) {
        const mixt_matrix *matrix = &held->matrices[i];
        size_t last = mixt_type_row_bytes(matrix->type, matrix->k);
        mixt_device_memory_write(&to->memory, offset, matrix->data,
                                 (size_t)(matrix->n - 1) * matrix->row_bytes + last);
        to->matrices[i] = *matrix;
        to->matrices[i].data = (char *)to->memory.data + offset;
        offset += mixt_round_up(matrix_bytes(matrix), MIXT_ALIGNMENT);
        if (matrix->scales.values != NULL) {
            mixt_device_memory_write(&to->memory, offset, matrix->scales.values,
                                     scales_bytes(matrix));
            void *factors = (char *)to->memory.data + offset;
            to->matrices[i].scales.values = factors;
            offset += mixt_round_up(scales_bytes(matrix), MIXT_ALIGNMENT);
        }
    }
    return status;
}

static mixt_status place_held(mixt_weights *weights, mixt_error *error)
{
    const mixt_model *model = weights->model;
    weights->placed = calloc((size_t)model->parameter_count, sizeof *weights->placed);
    if (weights->placed == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "weights: no memory");
    }
    mixt_status status = mixt_model_lay(model, error);
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        const mixt_held *held = &model->held[i];
        placed *to = &weights->placed[i];
        if (held->matrices == NULL) {
            status = mixt_device_memory_share(weights->backend, held->values,
                                              model->parameters[i].count * sizeof(float),
                                              &to->memory, error);
        } else if (!weights->backend->host_memory) {
            status = place_matrices(weights, held, to, error);
        }
    }
    return status;
}

mixt_status mixt_weights_create(const mixt_model *model, const mixt_device *device,
                                mixt_weights **result, mixt_error *error)
{
    *result = NULL;
    mixt_weights *weights = calloc(1, sizeof *weights);
    if (weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "weights: no memory");
    }
    *weights = (mixt_weights){
        .model = model, .device = device, .backend = mixt_device_backend(device, sizeof(float))};
    if (model->stored != NULL && !weights->backend->host_memory) {
        free(weights);
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "weights: experts that stay on disk need a device that computes in the "
                         "host's memory");
    }
    mixt_status status =
        model->held != NULL
            ? place_held(weights, error)
            : mixt_device_memory_share(weights->backend, (void *)mixt_model_block(model),
                                       model->weight_count * sizeof(float), &weights->block, error);
    if (status != MIXT_OK) {
        mixt_weights_free(weights);
        return status;
    }
    *result = weights;
    return MIXT_OK;
}

void mixt_weights_free(mixt_weights *weights)
{
    if (weights == NULL) {
        return;
    }
    mixt_weights_settle(weights);
    for (int i = 0; i < weights->packed_count; i++) {
        mixt_packed_free(weights->packed[i]);
    }
    for (int i = 0; weights->placed != NULL && i < weights->model->parameter_count; i++) {
        mixt_device_memory_free(&weights->placed[i].memory);
        free(weights->placed[i].matrices);
    }
    mixt_device_memory_free(&weights->block);
    free(weights->placed);
    free(weights->packed);
    free(weights->packed_first);
    free(weights);
}

/* ------------------------------------------------------------------------------------------ */
/* Packing                                                                                    */

bool mixt_weights_merge(const mixt_model *model, const mixt_device *device, mixt_matmul matmul)
{
    const mixt_backend *backend = mixt_device_backend(device, sizeof(float));
    return model->adapters != NULL && model->held == NULL && backend->host_memory &&
           backend->pack != NULL && matmul != MIXT_MATMUL_BLAS;
}

/* The parameter of adapters over an expert matrix, or NULL. B is the one behind A. */
static const mixt_parameter *adapter_of(const mixt_model *model, const mixt_parameter *p)
{
    int index =
        model->adapters != NULL ? mixt_model_find(model, mixt_adapter_a(p->slot), p->layer) : -1;
    return index >= 0 ? &model->parameters[index] : NULL;
}

/* Whether a parameter is a matrix that products with the batch's rows read. The router's product is
 * tiny and always exact; adapters are in the matrices that they are of, or read by rows. */
static bool is_multiplied(const mixt_model *model, const mixt_parameter *p)
{
    bool head = p->slot == MIXT_SLOT_OUTPUT ||
                (p->slot == MIXT_SLOT_EMBED && model->options.tie_embeddings);
    return p->rank >= 2 && (p->slot != MIXT_SLOT_EMBED || head) && p->slot != MIXT_SLOT_ROUTER &&
           !mixt_slot_is_adapter(p->slot);
}

/* Matrix e of an expert parameter [E, n, k] with its adapters in it, on the host. */
static void merge(const mixt_weights *weights, const mixt_parameter *p, int64_t e, float *merged)
{
    const mixt_adapters *adapters = weights->model->adapters;
    const mixt_parameter *a = adapter_of(weights->model, p), *b = a + 1;
    const float *block = weights->block.data;
    int64_t n = p->size[1], k = p->size[2], rank = a->size[1];
    mixt_low_rank shape = {k, rank, adapters->alpha / adapters->rank};
    for (int64_t row = 0; row < n; row++) {
        mixt_low_rank_row_f32(&shape, block + p->offset + (e * n + row) * k,
                              block + b->offset + (e * n + row) * rank,
                              block + a->offset + e * rank * k, merged + row * k);
    }
}

static mixt_status pack_parameter(mixt_weights *weights, int index, mixt_matmul matmul,
                                  mixt_error *error)
{
    const mixt_parameter *p = &weights->model->parameters[index];
    int64_t count = p->rank == 3 ? p->size[0] : 1;
    int64_t n = p->size[p->rank - 2], k = p->size[p->rank - 1];
    mixt_compute compute = *weights->device->compute;
    compute.matmul = matmul;
    weights->packed_first[index] = weights->packed_count;
    bool merges = mixt_weights_merge(weights->model, weights->device, matmul) &&
                  adapter_of(weights->model, p) != NULL;
    float *merged = merges ? malloc((size_t)(n * k) * sizeof *merged) : NULL;
    if (merges && merged == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "weights: no memory");
    }
    mixt_status status = MIXT_OK;
    for (int64_t e = 0; e < count && status == MIXT_OK; e++) {
        const void *from =
            (const char *)weights->block.data + (p->offset + (size_t)(e * n * k)) * sizeof(float);
        if (merges) {
            merge(weights, p, e, merged);
            from = merged;
        }
        status = weights->backend->pack(&compute, from, n, k,
                                        &weights->packed[weights->packed_count], error);
        weights->packed_count += status == MIXT_OK;
    }
    free(merged);
    return status;
}

mixt_status mixt_weights_pack(mixt_weights *weights, mixt_matmul matmul, mixt_error *error)
{
    const mixt_model *model = weights->model;
    if (model->held != NULL || weights->backend->pack == NULL || matmul == MIXT_MATMUL_BLAS) {
        return MIXT_OK; /* mapped rows are read in place; BLAS packs by itself */
    }
    size_t most = 1;
    for (int i = 0; i < model->parameter_count; i++) {
        most += model->parameters[i].rank == 3 ? (size_t)model->parameters[i].size[0] : 1;
    }
    weights->packed = calloc(most, sizeof *weights->packed);
    weights->packed_first = calloc((size_t)model->parameter_count, sizeof *weights->packed_first);
    if (weights->packed == NULL || weights->packed_first == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "weights: no memory");
    }
    mixt_status status = MIXT_OK;
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        weights->packed_first[i] = -1;
        if (is_multiplied(model, &model->parameters[i])) {
            status = pack_parameter(weights, i, matmul, error);
        }
    }
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Binding                                                                                    */

mixt_status mixt_weights_bind(const mixt_weights *weights, const mixt_graph *graph,
                              mixt_instance *instance, mixt_error *error)
{
    const mixt_model *model = weights->model;
    mixt_status status = mixt_model_announce(model, graph, error);
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        mixt_value_id value = graph->parameters[i];
        if (mixt_stored_bind(model, i, value, instance)) {
            continue;
        }
        if (model->held == NULL) {
            mixt_instance_bind(instance, value, &weights->block,
                               model->parameters[i].offset * sizeof(float));
        } else if (weights->placed[i].matrices != NULL) {
            mixt_instance_bind_matrices(instance, value, weights->placed[i].matrices);
        } else if (model->held[i].matrices != NULL) {
            mixt_instance_bind_matrices(instance, value, model->held[i].matrices);
        } else {
            mixt_instance_bind(instance, value, &weights->placed[i].memory, 0);
        }
        if (weights->packed_first != NULL && weights->packed_first[i] >= 0) {
            status = mixt_instance_bind_packed(
                instance, value,
                (const mixt_packed *const *)weights->packed + weights->packed_first[i], error);
        }
    }
    return status == MIXT_OK ? mixt_stored_listen(model, graph, instance, error) : status;
}

const mixt_device_memory *mixt_weights_block(const mixt_weights *weights)
{
    return weights->model->held == NULL ? &weights->block : NULL;
}

void mixt_weights_changed(mixt_weights *weights, mixt_model *model)
{
    assert(weights->model == model && model->held == NULL);
    if (!mixt_device_memory_is(&weights->block, model->weights)) {
        weights->changed = model;
        model->trained = weights;
    }
}

void mixt_weights_settle(mixt_weights *weights)
{
    mixt_model *model = weights->changed;
    if (model != NULL) {
        weights->changed = NULL;
        model->trained = NULL;
        mixt_device_memory_read(&weights->block, 0, model->weights,
                                model->weight_count * sizeof(float));
    }
}
