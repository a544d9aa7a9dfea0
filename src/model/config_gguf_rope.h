/* RoPE in GGUF files: keys below "ARCH.rope.", tensors of factors, and keys of our own. */
#ifndef MIXT_MODEL_CONFIG_GGUF_ROPE_H
#define MIXT_MODEL_CONFIG_GGUF_ROPE_H

#include "formats/gguf.h"
#include "model/model.h"

/* Keys behind "ARCH." that are read here or by the families' rows; ends with NULL. Others below
 * "ARCH.rope." are refused. */
extern const char *const mixt_gguf_rope_keys[];

/* Reads scaling into options that hold the family's rows and rope.dims. */
mixt_status mixt_gguf_rope_read(const mixt_gguf *file, const char *arch,
                                mixt_model_options *options, mixt_error *error);
mixt_status mixt_gguf_rope_write(mixt_gguf_writer *writer, const char *arch,
                                 const mixt_model_options *options, mixt_error *error);

/* Is this the name of a tensor that holds factors of RoPE's pairs? */
bool mixt_gguf_rope_tensor(const char *name);

typedef struct mixt_gguf_rope_pairs {
    const char *name;
    int count;
    float values[MIXT_ROPE_PAIRS_MAX];
} mixt_gguf_rope_pairs;

/* The tensors that a file of this model holds beside its parameters; their number. */
int mixt_gguf_rope_tensors(const mixt_model_options *options, mixt_gguf_rope_pairs found[2]);

#endif
