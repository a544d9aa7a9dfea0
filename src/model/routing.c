#include "model/routing.h"

#include <stdlib.h>
#include <string.h>

/* Of one layer; mask and forced are the spec's, or not in use. */
typedef struct mixt_routing {
    mixt_router_spec spec;
    uint8_t *mask;   /* [E] */
    int32_t *forced; /* [E], of which the spec reads k */
} mixt_routing;

void mixt_model_reset_routing(mixt_model *model)
{
    for (int layer = 0; model->routing != NULL && layer < model->options.layers; layer++) {
        free(model->routing[layer].mask);
        free(model->routing[layer].forced);
    }
    free(model->routing);
    model->routing = NULL;
}

const mixt_router_spec *mixt_model_router(const mixt_model *model, int layer)
{
    return model->routing != NULL ? &model->routing[layer].spec : &model->router;
}

static mixt_status begin(mixt_model *model, mixt_error *error)
{
    if (model->routing != NULL) {
        return MIXT_OK;
    }
    size_t experts = (size_t)model->router.experts;
    model->routing = calloc((size_t)model->options.layers, sizeof *model->routing);
    bool good = model->routing != NULL;
    for (int layer = 0; layer < model->options.layers && good; layer++) {
        mixt_routing *routing = &model->routing[layer];
        routing->spec = model->router;
        routing->spec.options.weights = MIXT_ROUTER_FROZEN; /* nothing learns: one renormalised
                                                               expert for a token is allowed */
        routing->mask = calloc(experts, sizeof *routing->mask);
        routing->forced = malloc(experts * sizeof *routing->forced);
        good = routing->mask != NULL && routing->forced != NULL;
    }
    if (!good) {
        mixt_model_reset_routing(model);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "routing: no memory");
    }
    return MIXT_OK;
}

static mixt_status force(mixt_routing *routing, int layer, int expert, mixt_error *error)
{
    mixt_router_spec *spec = &routing->spec;
    if (spec->forced == NULL) {
        for (int i = 0; i < spec->experts; i++) {
            routing->forced[i] = -1;
        }
        spec->forced = routing->forced;
    }
    int place = 0;
    while (place < spec->chosen && routing->forced[place] >= 0) {
        if (routing->forced[place] == expert) {
            return MIXT_OK;
        }
        place++;
    }
    if (place == spec->chosen) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "routing: layer %d: all %d choices of a token are forced already", layer,
                         spec->chosen);
    }
    routing->forced[place] = expert;
    return MIXT_OK;
}

static mixt_status change_layer(mixt_model *model, mixt_routing_change change, int layer, int value,
                                mixt_error *error)
{
    mixt_routing *routing = &model->routing[layer];
    mixt_router_spec *spec = &routing->spec;
    bool flag = change == MIXT_ROUTING_RENORMALISE;
    int most = change == MIXT_ROUTING_TOP_K ? spec->experts : flag ? 1 : spec->experts - 1;
    int least = change == MIXT_ROUTING_TOP_K ? 1 : 0;
    if (value < least || value > most) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "routing: layer %d: %s %d is not in %d..%d",
                         layer,
                         flag                           ? "renormalise"
                         : change == MIXT_ROUTING_TOP_K ? "number of experts"
                                                        : "expert",
                         value, least, most);
    }
    mixt_status status = MIXT_OK;
    if (change == MIXT_ROUTING_TOP_K) {
        spec->chosen = value;
        spec->forced = NULL;
    } else if (flag) {
        spec->options.renormalise = value != 0;
    } else if (change == MIXT_ROUTING_MASK) {
        routing->mask[value] = 1;
        spec->mask = routing->mask;
    } else {
        status = force(routing, layer, value, error);
    }
    mixt_error inner = MIXT_ERROR_INIT;
    if (status == MIXT_OK) {
        status = mixt_router_check(spec, &inner);
    }
    return inner.status == MIXT_OK
               ? status
               : mixt_fail(error, status, "routing: layer %d: %s", layer, inner.message);
}

mixt_status mixt_model_change_routing(mixt_model *model, mixt_routing_change change, int layer,
                                      int value, mixt_error *error)
{
    int layers = model->options.layers;
    if (layer < -1 || layer >= layers || mixt_model_moe_layers(model) == 0 ||
        (layer >= 0 && !mixt_model_layer_is_moe(model, layer))) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "routing: layer %d has no experts (the model has %d layers with them)",
                         layer, mixt_model_moe_layers(model));
    }
    if (layer >= 0 && !mixt_model_layer_routes(model, layer)) {
        int first = 0;
        while (!mixt_model_layer_routes(model, first)) {
            first++;
        }
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "routing: layer %d has no router of its own, layer %d decides for all",
                         layer, first);
    }
    if (model->options.router.scope == MIXT_SCOPE_GLOBAL) {
        layer = -1; /* the others follow the one that decides */
    }
    mixt_status status = begin(model, error);
    for (int i = 0; i < layers && status == MIXT_OK; i++) {
        if (layer == i || (layer < 0 && mixt_model_layer_is_moe(model, i))) {
            status = change_layer(model, change, i, value, error);
        }
    }
    return status;
}
