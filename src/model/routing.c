#include "model/routing.h"

#include <stdlib.h>
#include <string.h>

/* Of one layer; mask and forced are the spec's, or not in use. */
typedef struct layer_routing {
    mixt_router_spec spec;
    uint8_t *mask;   /* [E] */
    int32_t *forced; /* [E], of which the spec reads k */
} layer_routing;

struct mixt_routing {
    int layers;
    layer_routing layer[];
};

const mixt_router_spec *mixt_routing_layer(const mixt_routing *routing, int layer)
{
    return &routing->layer[layer].spec;
}

const mixt_router_spec *mixt_model_router(const mixt_model *model, int layer)
{
    return model->routing != NULL ? mixt_routing_layer(model->routing, layer) : &model->router;
}

void mixt_routing_free(mixt_routing *routing)
{
    for (int i = 0; routing != NULL && i < routing->layers; i++) {
        free(routing->layer[i].mask);
        free(routing->layer[i].forced);
    }
    free(routing);
}

void mixt_model_reset_routing(mixt_model *model)
{
    mixt_routing_free(model->routing);
    model->routing = NULL;
}

static bool copy_layer(const mixt_router_spec *from, layer_routing *to)
{
    size_t experts = (size_t)from->experts;
    to->spec = *from;
    to->spec.options.weights = MIXT_ROUTER_FROZEN; /* nothing learns: one renormalised expert for a
                                                      token is allowed */
    to->mask = calloc(experts + 1, sizeof *to->mask);
    to->forced = calloc(experts + 1, sizeof *to->forced);
    if (to->mask == NULL || to->forced == NULL) {
        return false;
    }
    if (from->mask != NULL) {
        memcpy(to->mask, from->mask, experts * sizeof *to->mask);
        to->spec.mask = to->mask;
    }
    if (from->forced != NULL) {
        memcpy(to->forced, from->forced, (size_t)from->chosen * sizeof *to->forced);
        to->spec.forced = to->forced;
    }
    return true;
}

mixt_status mixt_routing_create(const mixt_model *model, const mixt_routing *from,
                                mixt_routing **result, mixt_error *error)
{
    size_t layers = (size_t)model->options.layers;
    mixt_routing *routing = calloc(1, sizeof *routing + layers * sizeof routing->layer[0]);
    *result = NULL;
    bool good = routing != NULL;
    for (int i = 0; i < model->options.layers && good; i++) {
        routing->layers = i + 1;
        good = copy_layer(from != NULL ? mixt_routing_layer(from, i) : mixt_model_router(model, i),
                          &routing->layer[i]);
    }
    if (!good) {
        mixt_routing_free(routing);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "routing: no memory");
    }
    *result = routing;
    return MIXT_OK;
}

static bool same_layer(const mixt_router_spec *a, const mixt_router_spec *b)
{
    bool same = a->chosen == b->chosen && a->options.renormalise == b->options.renormalise;
    for (int e = 0; e < a->experts && same; e++) {
        same = (a->mask != NULL && a->mask[e] != 0) == (b->mask != NULL && b->mask[e] != 0);
    }
    for (int j = 0; j < a->chosen && same; j++) {
        same = (a->forced != NULL ? a->forced[j] : -1) == (b->forced != NULL ? b->forced[j] : -1);
    }
    return same;
}

bool mixt_routing_same(const mixt_routing *a, const mixt_routing *b)
{
    bool same = a->layers == b->layers;
    for (int i = 0; i < a->layers && same; i++) {
        same = same_layer(&a->layer[i].spec, &b->layer[i].spec);
    }
    return same;
}

static mixt_status force(layer_routing *routing, int layer, int expert, mixt_error *error)
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

/* One change of one layer. */
typedef struct layer_change {
    mixt_routing_change change;
    int value;
    int chosen_most; /* 0: all experts */
} layer_change;

static mixt_status change_layer(mixt_routing *of, const layer_change *to, int layer,
                                mixt_error *error)
{
    layer_routing *routing = &of->layer[layer];
    mixt_router_spec *spec = &routing->spec;
    mixt_routing_change change = to->change;
    int value = to->value;
    bool flag = change == MIXT_ROUTING_RENORMALISE;
    int chosen =
        to->chosen_most > 0 && to->chosen_most < spec->experts ? to->chosen_most : spec->experts;
    int most = change == MIXT_ROUTING_TOP_K ? chosen : flag ? 1 : spec->experts - 1;
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

mixt_status mixt_routing_apply(mixt_routing *routing, const mixt_model *model,
                               mixt_routing_change change, int layer, int value, int most,
                               mixt_error *error)
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
    layer_change to = {change, value, most};
    mixt_status status = MIXT_OK;
    for (int i = 0; i < layers && status == MIXT_OK; i++) {
        if (layer == i || (layer < 0 && mixt_model_layer_is_moe(model, i))) {
            status = change_layer(routing, &to, i, error);
        }
    }
    return status;
}

mixt_status mixt_model_change_routing(mixt_model *model, mixt_routing_change change, int layer,
                                      int value, mixt_error *error)
{
    bool first = model->routing == NULL;
    if (first) {
        MIXT_TRY(mixt_routing_create(model, NULL, &model->routing, error));
    }
    mixt_status status = mixt_routing_apply(model->routing, model, change, layer, value, 0, error);
    if (status != MIXT_OK && first) {
        mixt_model_reset_routing(model);
    }
    return status;
}
