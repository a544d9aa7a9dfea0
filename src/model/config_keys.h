/* Keys of a config.json: their values in every spelling, and which of them are known. */
#ifndef MIXT_MODEL_CONFIG_KEYS_H
#define MIXT_MODEL_CONFIG_KEYS_H

#include "formats/json.h"
#include "model/model.h"

/* Fails with MIXT_ERROR_UNSUPPORTED: "FILE: PLACE KEY: TEXT". */
mixt_status mixt_config_unsupported(const mixt_json_object *json, const char *key,
                                    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A row's value. What only Python could tell from the plain spelling is read as it: 2.0, 1e6 and
 * "2" for 2, 0 and 1 for false and true. Null is 0 or false where the row's type says so. */
mixt_status mixt_config_value(const mixt_json_object *json, const mixt_config_row *row,
                              const char *key, double *value);
/* The family's rows; a key "a.b" is read in the object a. */
mixt_status mixt_config_rows_read(const mixt_json_object *json, const mixt_family *family,
                                  mixt_model_options *options);
/* Refuses what the options, once they are read, do not say: values other than the fixed ones, two
 * names of a thing that differ, keys that nobody knows. */
mixt_status mixt_config_keys_check(const mixt_json_object *json, const mixt_family *family,
                                   const mixt_model_options *options);
/* Refuses keys of an object that are neither rows nor `names` (ends with NULL), unless neutral. */
mixt_status mixt_config_object_check(const mixt_json_object *json, const mixt_config_row *rows,
                                     const char *const *names, const char *title);

#endif
