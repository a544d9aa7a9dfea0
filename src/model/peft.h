/* LoRA adapters (Hu et al. 2021, arXiv 2106.09685) in the format of Hugging Face's PEFT: a folder
 * with adapter_config.json and adapter_model.safetensors. What they say; merging them is
 * mixt_model_merge. */
#ifndef MIXT_MODEL_PEFT_H
#define MIXT_MODEL_PEFT_H

#include <jansson.h>

#include "formats/safetensors.h"
#include "model/model.h"
#include "model/name_pattern.h"

/* Modules by pattern, with a number each; the first that matches counts. */
typedef struct mixt_peft_patterns {
    mixt_name_pattern **patterns;
    double *values;
    size_t count;
} mixt_peft_patterns;

/* A folder's adapter. Zeroed: nothing; mixt_peft_close in any case. */
typedef struct mixt_peft {
    char *config;  /* path of adapter_config.json */
    char *weights; /* path of adapter_model.safetensors */
    json_t *root;
    mixt_safetensors *file;
    int64_t rank;
    double alpha;
    bool by_root; /* alpha over the root of the rank, not over the rank (rsLoRA) */
    mixt_peft_patterns ranks, alphas;
} mixt_peft;

/* Reads both files. Refuses, by key, what is no LoRA adapter of plain matrices, or changes more
 * than their values. */
mixt_status mixt_peft_open(const char *folder, mixt_peft *adapter, mixt_error *error);
void mixt_peft_close(mixt_peft *adapter);
/* Rank and factor of a module's update, by the patterns that match its name as PEFT has it. */
mixt_status mixt_peft_scale(const mixt_peft *adapter, const char *module, int64_t *rank,
                            double *scale, mixt_error *error);
/* Is the parameter "MODULE.weight" one of target_parameters? PEFT then matches patterns with that
 * name. */
bool mixt_peft_targets_parameter(const mixt_peft *adapter, const char *name);

/* Has the folder an adapter_config.json? */
bool mixt_peft_is_in(const char *folder);
/* Is there one of which only the weights are left? */
bool mixt_peft_is_cut(const char *folder);
/* Refuses a folder with an adapter and no model: a model that is written there would have it
 * applied. */
mixt_status mixt_peft_check_output(const char *folder, mixt_error *error);
#endif
