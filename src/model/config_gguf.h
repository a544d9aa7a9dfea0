/* Options of a model in the metadata of GGUF files. */
#ifndef MIXT_MODEL_CONFIG_GGUF_H
#define MIXT_MODEL_CONFIG_GGUF_H

#include "formats/gguf.h"
#include "model/model.h"

/* Biases and norms that a family may have, and for which GGUF files have no key: a file has one
 * where layer 0 has its tensor, which is what these rows name in the place of a key. */
extern const mixt_config_row mixt_gguf_parts[];

/* Reads them by the rows of the family that general.architecture and the kind of routing name. */
mixt_status mixt_model_config_gguf(const mixt_gguf *file, mixt_model_options *options,
                                   const mixt_family **family, mixt_error *error);
/* Where options of a file are read from. */
typedef struct mixt_gguf_reader {
    const mixt_gguf *file;
    const char *arch; /* general.architecture, before the names of its keys */
    mixt_error *error;
} mixt_gguf_reader;

/* Fails with MIXT_ERROR_UNSUPPORTED: "FILE: ARCH.name: what". */
mixt_status mixt_gguf_unsupported(const mixt_gguf_reader *reader, const char *name,
                                  const char *what);
/* "ARCH.name" */
void mixt_gguf_key(const char *arch, const char *name, char key[160]);
/* Writes general.architecture and every key that reading needs, as llama.cpp expects them where it
 * knows the architecture. */
mixt_status mixt_model_gguf_keys(const mixt_model *model, mixt_gguf_writer *writer,
                                 mixt_error *error);

#endif
