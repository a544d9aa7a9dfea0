/* Routing that is changed for running: of a model, or of one sequence beside others. */
#ifndef MIXT_MODEL_ROUTING_H
#define MIXT_MODEL_ROUTING_H

#include "model/model.h"

/* A router spec of each layer, with masks and forced experts of its own. */
typedef struct mixt_routing mixt_routing;

/* As the model routes now; `from`, where it is not NULL. */
mixt_status mixt_routing_create(const mixt_model *model, const mixt_routing *from,
                                mixt_routing **routing, mixt_error *error);
void mixt_routing_free(mixt_routing *routing);
/* mixt_model_change_routing of it. A layer chooses `most` experts or fewer (0: as many as there
 * are). */
mixt_status mixt_routing_apply(mixt_routing *routing, const mixt_model *model,
                               mixt_routing_change change, int layer, int value, int most,
                               mixt_error *error);
const mixt_router_spec *mixt_routing_layer(const mixt_routing *routing, int layer);
/* Do both choose the same experts of the same logits, with the same weights? Of one model. */
bool mixt_routing_same(const mixt_routing *a, const mixt_routing *b);

/* Back to the model's own; also before it is freed. */
void mixt_model_reset_routing(mixt_model *model);

#endif
