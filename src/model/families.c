#include "model/arch.h"

#include <string.h>

#define MIXT_FAMILY(symbol) extern const mixt_family mixt_family_##symbol;
#include "model/families.def"
#undef MIXT_FAMILY

static const mixt_family *const families[] = {
#define MIXT_FAMILY(symbol) &mixt_family_##symbol,
#include "model/families.def"
#undef MIXT_FAMILY
    NULL,
};

const mixt_family *const *mixt_families(void)
{
    return families;
}

const mixt_family *mixt_family_by_name(const char *model_type)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (strcmp(families[i]->name, model_type) == 0 ||
            (families[i]->alias != NULL && strcmp(families[i]->alias, model_type) == 0)) {
            return families[i];
        }
    }
    return NULL;
}

const mixt_family *mixt_family_by_class(const char *hf_class)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (strcmp(families[i]->hf_class, hf_class) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const char *mixt_llama_cpp_window(const mixt_model_options *options)
{
    return options->attention.window > 0 ? "attention.window" : NULL;
}

const mixt_tensor_row *mixt_family_row(const mixt_family *family, mixt_slot slot, mixt_form form,
                                       const mixt_tensor_row *after)
{
    for (const mixt_tensor_row *row = after == NULL ? family->tensors : after + 1;
         row->slot != MIXT_SLOT_COUNT; row++) {
        if (row->slot == slot && (form == MIXT_FORM_GGUF ? row->gguf : row->hf) != NULL) {
            return row;
        }
    }
    return NULL;
}
