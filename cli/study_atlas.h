/* The numbers of a JSON text by their paths: {"a": {"b": [1]}} has a.b.0. */
#ifndef MIXT_CLI_STUDY_ATLAS_H
#define MIXT_CLI_STUDY_ATLAS_H

#include "mixt.h"

typedef void (*study_atlas_sink)(void *user, const char *path, double value);

/* MIXT_ERROR_FORMAT where the text is no JSON, MIXT_ERROR_MEMORY. */
mixt_status study_atlas_numbers(const char *json, study_atlas_sink sink, void *user);

#endif
