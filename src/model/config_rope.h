/* RoPE and its scaling in config.json. */
#ifndef MIXT_MODEL_CONFIG_ROPE_H
#define MIXT_MODEL_CONFIG_ROPE_H

#include "formats/json.h"
#include "model/model.h"

/* Reads them from a config.json into options that hold the family's rows. */
mixt_status mixt_rope_scaling_read(const mixt_json_object *json, mixt_model_options *options);
/* The value of rope_scaling. */
json_t *mixt_rope_scaling_json(const mixt_rope_options *rope);

#endif
