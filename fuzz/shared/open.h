/* What the targets of whole models do with a path. */
#ifndef MIXT_FUZZ_OPEN_H
#define MIXT_FUZZ_OPEN_H

#include "fuzz.h"

/* Opens, describes, verifies and runs the model at `path`, or sees that it is well refused. What is
 * opened and verified has logits that are numbers unless they overflow. */
void fuzz_open_model(const char *path);
/* Opens the tokenizer at `path` and encodes, decodes and chats with it, or sees that it is well
 * refused. */
void fuzz_open_tokenizer(const char *path);

#endif
