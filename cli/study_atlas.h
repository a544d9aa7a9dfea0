/* The numbers of a JSON text by their paths: {"a": {"b": [1]}} has a.b.0. */
#ifndef MIXT_CLI_STUDY_ATLAS_H
#define MIXT_CLI_STUDY_ATLAS_H

#include <stdbool.h>

typedef void (*study_atlas_sink)(void *user, const char *path, double value);

/* False where the text is no JSON. */
bool study_atlas_numbers(const char *json, study_atlas_sink sink, void *user);

#endif
