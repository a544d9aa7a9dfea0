/* Writing folders of models that are spread over ranks. */
#ifndef MIXT_MODEL_FOLDER_SPREAD_H
#define MIXT_MODEL_FOLDER_SPREAD_H

#include "model/parameters.h"

/* Gets tensor `index` of a list, at rank 0. */
typedef mixt_status (*mixt_tensor_sink)(void *user, size_t index, const float *tensor,
                                        mixt_error *error);

/* The whole model's layout (free `whole`), and what it is in folders. */
mixt_status mixt_spread_layout(const mixt_model *model, mixt_model **whole, mixt_model *written,
                               mixt_error *error);
/* All ranks together: the whole model's tensors come to rank 0, who has a sink. */
mixt_status mixt_spread_bring(const mixt_model *model, const mixt_folder_tensors *list,
                              mixt_tensor_sink sink, void *user, mixt_error *error);
/* Lists of tensors that are brought for a folder: the family's, and the adapters'. */
int mixt_spread_lists(const mixt_model *model);
/* What the others do while rank 0 writes: for each list it says whether it came so far; not of
 * those behind one that it did not come to. */
mixt_status mixt_spread_serve(const mixt_model *model, mixt_error *error);

#endif
