#include "atlas/trace_metadata.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/json.h"

mixt_status mixt_metadata_text(const mixt_safetensors *file, const char *path, const char *key,
                               const char **value, mixt_error *error)
{
    *value = mixt_safetensors_metadata(file, key);
    return *value != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_FORMAT, "%s: __metadata__ has no \"%s\"", path, key);
}

mixt_status mixt_metadata_number(const mixt_safetensors *file, const char *path, const char *key,
                                 int *number, mixt_error *error)
{
    const char *text = NULL;
    MIXT_TRY(mixt_metadata_text(file, path, key, &text, error));
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 6 || text[digits] != '\0') {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: __metadata__ \"%s\": must be a decimal number of at most 6 digits",
                         path, key);
    }
    *number = (int)strtol(text, NULL, 10);
    return MIXT_OK;
}

mixt_status mixt_metadata_array(const mixt_safetensors *file, const char *path, const char *key,
                                json_type type, json_t **array, mixt_error *error)
{
    const char *text = NULL;
    MIXT_TRY(mixt_metadata_text(file, path, key, &text, error));
    json_error_t problem;
    *array = mixt_json_load(text, strlen(text), JSON_REJECT_DUPLICATES, &problem);
    if (*array == NULL && json_error_code(&problem) == json_error_out_of_memory) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    bool fits = json_is_array(*array) && json_array_size(*array) != 0;
    for (size_t i = 0; fits && i < json_array_size(*array); i++) {
        fits = json_typeof(json_array_get(*array, i)) == type;
    }
    return fits ? MIXT_OK
                : mixt_fail(error, MIXT_ERROR_FORMAT,
                            "%s: __metadata__ \"%s\": must be a JSON array of %s", path, key,
                            type == JSON_STRING ? "strings" : "whole numbers");
}

mixt_status mixt_metadata_keep_numbers(const char *path, const char *key, const json_t *array,
                                       int *numbers, mixt_error *error)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_int_t number = json_integer_value(json_array_get(array, i));
        if (number < 0 || number > 1000000) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: __metadata__ \"%s\": entry %zu is %lld",
                             path, key, i, (long long)number);
        }
        numbers[i] = (int)number;
    }
    return MIXT_OK;
}
