/* A model with one parameter in few bits, and what that costs. */
#ifndef MIXT_MODEL_SENSITIVITY_H
#define MIXT_MODEL_SENSITIVITY_H

#include "core/threads.h"
#include "model/model.h"

/* What one parameter costs in the type that it was tried in. */
typedef struct mixt_sensitivity_entry {
    mixt_type type; /* MIXT_TYPE_COUNT: not tried, as its rows are no whole blocks */
    double kl;      /* of the predictions, mean over tokens, nats */
    double routing; /* of the routers' distributions, mean over tokens and layers, nats */
} mixt_sensitivity_entry;

struct mixt_sensitivity {
    int count;
    mixt_sensitivity_entry *entries; /* [parameters of the model] */
};

/* The model, but for one parameter. What it does not own points into the model's. */
typedef struct mixt_rounded {
    mixt_model model;
    mixt_matrix *matrices;
    char *bytes;
} mixt_rounded;

/* The type in which a parameter is tried: the loss is to stand out from rounding and still to be
 * small. MIXT_TYPE_COUNT where there is none for it. */
mixt_type mixt_rounded_type(const mixt_model *model, int parameter);
/* Quantises it, by its importance where that is known. Of an opened model. */
mixt_status mixt_rounded_create(const mixt_model *model, int parameter, mixt_type type,
                                const mixt_importance *importance, mixt_pool *pool,
                                mixt_rounded *rounded, mixt_error *error);
void mixt_rounded_free(mixt_rounded *rounded);

#endif
