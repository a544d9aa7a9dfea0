/* A run of the smallest model that trains. */
#ifndef MIXT_FUZZ_TRAINING_H
#define MIXT_FUZZ_TRAINING_H

#include "fuzz.h"

/* Resumes the run in this folder, or begins one, and trains for a step and a checkpoint; or sees
 * that it is well refused. */
void fuzz_resume(const char *run);
/* The routing of its texts through that model, as a trace file. */
void fuzz_trace(const char *path, bool logits);

#endif
