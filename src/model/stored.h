/* A model within a limit of memory (mixt_model_store): what every token reads lies in memory, the
 * experts go through a store. */
#ifndef MIXT_MODEL_STORED_H
#define MIXT_MODEL_STORED_H

#include "model/model.h"

typedef struct mixt_stored mixt_stored;

void mixt_stored_free(mixt_stored *stored);
/* An error, where a model is stored, that says that this is done before. NULL: nothing is stored.
 */
mixt_status mixt_stored_refuse(const mixt_model *model, const char *what, mixt_error *error);
/* Whether parameter `index` comes from the store. */
bool mixt_stored_has(const mixt_model *model, int index);
/* The same; it is then bound to it. */
bool mixt_stored_bind(const mixt_model *model, int index, mixt_value_id value,
                      mixt_instance *instance);
/* Tells the store what routers of a graph decide, and what they may decide. */
mixt_status mixt_stored_listen(const mixt_model *model, const mixt_graph *graph,
                               mixt_instance *instance, mixt_error *error);
/* Memory of caches and plans, which the limit counts; nothing where the model is not stored. */
mixt_status mixt_stored_reserve(const mixt_model *model, uint64_t bytes, mixt_error *error);
/* How much could be reserved; everything where the model is not stored. */
uint64_t mixt_stored_room(const mixt_model *model);
void mixt_stored_release(const mixt_model *model, uint64_t bytes);

#endif
