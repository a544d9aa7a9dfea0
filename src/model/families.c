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
        if (strcmp(families[i]->name, model_type) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const mixt_family *mixt_family_for(const mixt_model_options *options)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (families[i]->fits(options)) {
            return families[i];
        }
    }
    return NULL;
}

const char *mixt_family_tensor(const mixt_family *family, mixt_slot slot)
{
    for (int i = 0; family->tensors[i].name != NULL; i++) {
        if (family->tensors[i].slot == slot) {
            return family->tensors[i].name;
        }
    }
    return NULL;
}
