/* The header parser of safetensors, apart from files and shards. */
#ifndef MIXT_FORMATS_SAFETENSORS_HEADER_H
#define MIXT_FORMATS_SAFETENSORS_HEADER_H

#include "formats/safetensors.h"

/* What a header held. Names and texts point into the header bytes, which the parser decodes in
 * place and which must live as long. Free with mixt_parsed_header_free. */
typedef struct mixt_parsed_header {
    mixt_tensor_info *tensors; /* in the order of their data, offsets from the start of the data */
    size_t count;
    size_t capacity;
    mixt_text_pair *metadata; /* sorted by key */
    size_t metadata_count;
    size_t metadata_capacity;
    mixt_arena *shapes;
} mixt_parsed_header;

/* Parses `length` bytes of `text`, which are changed (text[length] must be writable too), and
 * checks the byte ranges against `data_bytes`. */
mixt_status mixt_safetensors_parse(char *text, size_t length, uint64_t data_bytes, const char *path,
                                   mixt_parsed_header *parsed, mixt_error *error);
void mixt_parsed_header_free(mixt_parsed_header *parsed);

#endif
