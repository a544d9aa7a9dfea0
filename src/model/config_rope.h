/* RoPE in config.json: rope_theta, rope_scaling and partial_rotary_factor of transformers 4,
 * rope_parameters of transformers 5. */
#ifndef MIXT_MODEL_CONFIG_ROPE_H
#define MIXT_MODEL_CONFIG_ROPE_H

#include "formats/json.h"
#include "model/model.h"

/* Keys of a config.json that mixt_rope_read reads, each applied or refused; ends with NULL. What
 * stands inside rope_scaling and rope_parameters is checked there. */
extern const char *const mixt_rope_keys[];

/* Reads them into options that hold the family's constants and rows (sizes, rope_theta,
 * context_length). */
mixt_status mixt_rope_read(const mixt_json_object *json, mixt_model_options *options);
/* Puts rope_scaling, and what else rope_theta does not say, into a config.json. */
void mixt_rope_write(const mixt_family *family, const mixt_model_options *options, json_t *root);

#endif
