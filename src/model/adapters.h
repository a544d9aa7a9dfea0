/* Low-rank adapters of expert matrices (Hu et al. 2021, arXiv 2106.09685): parameters beside those
 * of the family, which a trainer adds and files keep as PEFT does, in adapter_config.json and
 * adapter_model.safetensors. What an expert computes with is then w + alpha / rank b a. */
#ifndef MIXT_MODEL_ADAPTERS_H
#define MIXT_MODEL_ADAPTERS_H

#include "model/parameters.h"

#define MIXT_ADAPTER_CONFIG "adapter_config.json"
#define MIXT_ADAPTER_WEIGHTS "adapter_model.safetensors"
/* Names of its tensors: PREFIX MODULE A and PREFIX MODULE B. */
#define MIXT_ADAPTER_PREFIX "base_model.model."
#define MIXT_ADAPTER_A ".lora_A.weight"
#define MIXT_ADAPTER_B ".lora_B.weight"

typedef struct mixt_adapters {
    int rank;
    double alpha;
    int targets; /* mixt_lora_target joined by | */
    char *base;  /* what they are adapters of, for adapter_config.json; NULL: nothing is said */
} mixt_adapters;

/* Where the adapters of an expert matrix go; MIXT_SLOT_COUNT for other slots. */
mixt_slot mixt_adapter_a(mixt_slot slot);
mixt_slot mixt_adapter_b(mixt_slot slot);

/* Refused, by name: a model without experts, a rank above the smaller side of a matrix, a family
 * whose folders do not have each expert's matrix as a module of its own, a base that is no UTF-8.
 */
mixt_status mixt_adapters_check(const mixt_model *model, const mixt_adapters *adapters,
                                mixt_error *error);
/* Adds them and loads the model's weights into its block: A uniform in +-1 / sqrt(columns) by the
 * seed, B zero. Checked before. Nothing where the model has the same ones already, which then go
 * on; others are refused. */
mixt_status mixt_adapters_add(mixt_model *model, const mixt_adapters *adapters, uint64_t seed,
                              mixt_error *error);
/* The same of a layout, which has no weights and gets none. */
mixt_status mixt_adapters_lay_out(mixt_model *layout, const mixt_adapters *adapters,
                                  mixt_error *error);
void mixt_adapters_free(mixt_model *model);

/* Appends the tensors of the adapters' file, by name, to those of the folder. Nothing without
 * adapters. */
mixt_status mixt_adapters_list(const mixt_model *model, mixt_folder_tensors *list,
                               mixt_error *error);
/* adapter_config.json as text (malloc'd); `written` is the model as the family of its folder. */
mixt_status mixt_adapters_config_text(const mixt_model *written, char **text, mixt_error *error);

#endif
