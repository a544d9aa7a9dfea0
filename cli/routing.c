#include "routing.h"

#include <stdlib.h>

const cli_option options_routing[] = {
    {.name = "top-experts",
     .kind = OPTION_TEXT,
     .offset = offsetof(routing_settings, top),
     .value = "N",
     .help = "experts for a token: N in every layer, or LAYER:N,...",
     .fallback = "the model's"},
    {.name = "mask-experts",
     .kind = OPTION_TEXT,
     .offset = offsetof(routing_settings, mask),
     .value = "E",
     .help = "experts that are never chosen: E,... in every layer, or LAYER:E,..."},
    {.name = "force-experts",
     .kind = OPTION_TEXT,
     .offset = offsetof(routing_settings, force),
     .value = "E",
     .help = "experts that every token takes first: E,... in every layer, or LAYER:E,..."},
    {.name = "renormalise",
     .kind = OPTION_CHOICE,
     .offset = offsetof(routing_settings, renormalise),
     .choices = "auto yes no",
     .help = "weights of the chosen experts divided by their sum; auto: as the model's authors do",
     .aliases = "renormalize"},
    {0},
};

/* "V", "L:V" and lists of them with commas. */
static mixt_status change_all(const char *name, const char *text, mixt_routing_change change,
                              mixt_model *model, mixt_error *error)
{
    for (const char *at = text; at != NULL;) {
        char *end;
        long layer = -1, value = strtol(at, &end, 10);
        bool good = end != at;
        if (good && *end == ':') {
            layer = value;
            at = end + 1;
            value = strtol(at, &end, 10);
            good = end != at && layer >= 0;
        }
        if (!good || (*end != ',' && *end != 0) || value < 0 || value > 1 << 20 ||
            layer > 1 << 20) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--%s: '%.100s' is not a list of numbers or LAYER:NUMBER", name, text);
        }
        TRY(mixt_model_change_routing(model, change, (int)layer, (int)value, error));
        at = *end != 0 ? end + 1 : NULL;
    }
    return MIXT_OK;
}

mixt_status change_routing(const routing_settings *settings, mixt_model *model, mixt_error *error)
{
    TRY(change_all("top-experts", settings->top, MIXT_ROUTING_TOP_K, model, error));
    TRY(change_all("mask-experts", settings->mask, MIXT_ROUTING_MASK, model, error));
    TRY(change_all("force-experts", settings->force, MIXT_ROUTING_FORCE, model, error));
    return settings->renormalise != 0
               ? mixt_model_change_routing(model, MIXT_ROUTING_RENORMALISE, -1,
                                           settings->renormalise == 1, error)
               : MIXT_OK;
}
