/* The weights of a model on a device: where its memory is the host's the very bytes that the model
 * holds or has mapped, elsewhere copies. */
#ifndef MIXT_MODEL_WEIGHTS_H
#define MIXT_MODEL_WEIGHTS_H

#include "model/model.h"

typedef struct mixt_weights mixt_weights;

/* The model must outlive them. */
mixt_status mixt_weights_create(const mixt_model *model, const mixt_device *device,
                                mixt_weights **weights, mixt_error *error);
void mixt_weights_free(mixt_weights *weights);
/* For generation: matrices of a model held in fp32 are packed once into the order that products by
 * `matmul` read. Nothing where the device reads them as they lie, or products pack by themselves.
 */
mixt_status mixt_weights_pack(mixt_weights *weights, mixt_matmul matmul, mixt_error *error);
/* Whether packing puts adapters into the matrices that they are of, once for all tokens; graphs are
 * then made `merged`. */
bool mixt_weights_merge(const mixt_model *model, const mixt_device *device, mixt_matmul matmul);
/* Binds every parameter of a graph, and announces it to ranks that work for this one. */
mixt_status mixt_weights_bind(const mixt_weights *weights, const mixt_graph *graph,
                              mixt_instance *instance, mixt_error *error);

/* The fp32 block, laid out as model->weights; NULL where the model is mapped. */
const mixt_device_memory *mixt_weights_block(const mixt_weights *weights);
/* Says that the block was changed on the device: the model's readers copy it back when they need
 * it. */
void mixt_weights_changed(mixt_weights *weights, mixt_model *model);
/* Copies a changed block back to the host. */
void mixt_weights_settle(mixt_weights *weights);

#endif
