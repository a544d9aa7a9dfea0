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
    mixt_status status = MIXT_OK;
    for (const char *at = text; text != NULL && status == MIXT_OK;) {
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
            error->status = MIXT_ERROR_ARGUMENT;
            snprintf(error->message, sizeof error->message,
                     "--%s: '%.100s' is not a list of numbers or LAYER:NUMBER", name, text);
            return error->status;
        }
        status = mixt_model_change_routing(model, change, (int)layer, (int)value, error);
        if (*end == 0) {
            break;
        }
        at = end + 1;
    }
    return status;
}

mixt_status change_routing(const routing_settings *settings, mixt_model *model, mixt_error *error)
{
    mixt_status status = change_all("top-experts", settings->top, MIXT_ROUTING_TOP_K, model, error);
    if (status == MIXT_OK) {
        status = change_all("mask-experts", settings->mask, MIXT_ROUTING_MASK, model, error);
    }
    if (status == MIXT_OK) {
        status = change_all("force-experts", settings->force, MIXT_ROUTING_FORCE, model, error);
    }
    if (status == MIXT_OK && settings->renormalise != 0) {
        status = mixt_model_change_routing(model, MIXT_ROUTING_RENORMALISE, -1,
                                           settings->renormalise == 1, error);
    }
    return status;
}
