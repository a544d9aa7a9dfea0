/* A run of the smallest model that trains, a trace, and a probe of it. */
#ifndef MIXT_FUZZ_TRAINING_H
#define MIXT_FUZZ_TRAINING_H

#include "fuzz.h"

/* Resumes the run in this folder, or begins one, and trains for a step and a checkpoint; or sees
 * that it is well refused. */
void fuzz_resume(const char *run);
/* The routing of its texts through that model, as a trace file. */
void fuzz_trace(const char *path, bool logits);

/* That model, of the same weights at each call. */
mixt_model *fuzz_smallest_model(void);
/* Experiments on it with its texts, into `output`; goes on from output.partial. It is left
 * behind `steps` steps, 0: never. */
mixt_status fuzz_probe(const char *output, int steps, mixt_error *error);

#endif
