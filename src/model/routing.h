/* Routing that is changed for running. */
#ifndef MIXT_MODEL_ROUTING_H
#define MIXT_MODEL_ROUTING_H

#include "model/model.h"

/* Back to the model's own; also before it is freed. */
void mixt_model_reset_routing(mixt_model *model);

#endif
