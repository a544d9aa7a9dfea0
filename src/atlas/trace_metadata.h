/* Numbers and names in the metadata of a trace file, or of one that is imported. `path` is the file
 * for messages. */
#ifndef MIXT_ATLAS_TRACE_METADATA_H
#define MIXT_ATLAS_TRACE_METADATA_H

#include <jansson.h>

#include "formats/safetensors.h"

mixt_status mixt_metadata_text(const mixt_safetensors *file, const char *path, const char *key,
                               const char **value, mixt_error *error);
/* A decimal number of at most 6 digits. */
mixt_status mixt_metadata_number(const mixt_safetensors *file, const char *path, const char *key,
                                 int *number, mixt_error *error);
/* A JSON array whose entries are all of one type, JSON_STRING or JSON_INTEGER; not empty. */
mixt_status mixt_metadata_array(const mixt_safetensors *file, const char *path, const char *key,
                                json_type type, json_t **array, mixt_error *error);
/* All entries of an array of whole numbers, 0 to 1,000,000. */
mixt_status mixt_metadata_keep_numbers(const char *path, const char *key, const json_t *array,
                                       int *numbers, mixt_error *error);

#endif
