#include "route_batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

mixt_compute *route_compute;

int route_start(void **state)
{
    (void)state;
    mixt_context_options options = {.threads = 2};
    return mixt_compute_create(&options, &route_compute, NULL) != MIXT_OK;
}

int route_stop(void **state)
{
    (void)state;
    mixt_compute_free(route_compute);
    return 0;
}

static size_t values_of(const mixt_shape *shape)
{
    return (size_t)(shape->size[0] * (shape->rank > 1 ? shape->size[1] : 1));
}

/* Shapes of all that a spec may need. */
static void request_inputs(route_batch *batch, int64_t tokens, int64_t d)
{
    const mixt_router_spec *spec = &batch->spec;
    mixt_shape *in = batch->request.in;
    mixt_shape rows = mixt_shape_integers(mixt_shape_tokens(tokens, 1, 0));
    in[ROUTE_X] = mixt_shape_tokens(tokens, 1, d);
    in[ROUTE_WEIGHT] = mixt_shape_static(2, mixt_logits_columns(spec), d, 0);
    in[ROUTE_SCALE] = mixt_shape_static(1, MIXT_SCALES, 0, 0);
    in[ROUTE_TOKENS] = in[ROUTE_FIRST] = rows;
    in[ROUTE_DRAW] = mixt_shape_integers(mixt_shape_static(1, MIXT_DRAWS, 0, 0));
    in[ROUTE_SEEN] = mixt_shape_integers(mixt_shape_static(1, spec->experts, 0, 0));
    if (spec->options.logit_bias) {
        in[ROUTE_LOGIT_BIAS] = mixt_shape_static(1, spec->experts, 0, 0);
    }
}

void route_batch_create(route_batch *batch, const mixt_router_spec *spec, bool training,
                        int64_t tokens, int64_t d)
{
    mixt_error error = MIXT_ERROR_INIT;
    *batch = (route_batch){.spec = *spec, .scale = {1, 1}};
    batch->attributes = (mixt_attributes){.router = &batch->spec,
                                          .training = training,
                                          .balance_weight = 1,
                                          .device_weight = 1,
                                          .z_weight = 1};
    mixt_shape_request *request = &batch->request;
    request->attributes = &batch->attributes;
    request->capacity = tokens;
    request_inputs(batch, tokens, d);
    if (mixt_route_shape(request, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    batch->first = calloc((size_t)tokens, sizeof *batch->first);
    batch->call = (mixt_call){.compute = route_compute,
                              .attributes = &batch->attributes,
                              .tokens = tokens,
                              .in_shape = request->in,
                              .out_shape = request->out,
                              .in = {[ROUTE_SCALE] = batch->scale,
                                     [ROUTE_FIRST] = batch->first,
                                     [ROUTE_DRAW] = batch->draw}};
    for (int i = 0; i < ROUTE_OUTPUTS; i++) {
        size_t bytes = values_of(&request->out[i]) * 4;
        batch->call.out[i] = malloc(bytes);
        memset(batch->call.out[i], 0xff, bytes);
    }
    int64_t reals = mixt_most(request->forward_workspace, request->backward_workspace);
    batch->call.workspace = malloc((size_t)reals * sizeof(float));
}

void route_batch_free(route_batch *batch)
{
    for (int i = 0; i < ROUTE_OUTPUTS; i++) {
        free(batch->call.out[i]);
    }
    free(batch->first);
    free(batch->call.workspace);
}

float *route_logits(const route_batch *batch, int64_t t)
{
    return (float *)batch->call.out[ROUTE_SCORES] + t * batch->spec.experts;
}

const int32_t *route_ids(const route_batch *batch, int64_t t)
{
    return (const int32_t *)batch->call.out[ROUTE_IDS] + t * batch->request.out[ROUTE_IDS].size[1];
}

const float *route_weights(const route_batch *batch, int64_t t)
{
    return (const float *)batch->call.out[ROUTE_WEIGHTS] +
           t * batch->request.out[ROUTE_IDS].size[1];
}

void route_check_record(const route_batch *batch)
{
    int experts = batch->spec.experts;
    const int32_t *ids = batch->call.out[ROUTE_IDS], *counts = batch->call.out[ROUTE_COUNTS];
    const int32_t *offsets = batch->call.out[ROUTE_OFFSETS];
    const int32_t *order = batch->call.out[ROUTE_ORDER], *place = batch->call.out[ROUTE_PLACE];
    int32_t columns = (int32_t)batch->request.out[ROUTE_IDS].size[1];
    int32_t rows = (int32_t)batch->call.tokens * columns, choices = 0;
    int64_t room = mixt_rows(&batch->request.out[ROUTE_ORDER], batch->call.tokens);
    for (int32_t i = 0; i < rows; i++) {
        choices += ids[i] >= 0;
        assert_true((ids[i] >= 0) == (place[i] >= 0));
    }
    assert_true(offsets[0] == 0 && offsets[experts] == choices && choices <= room);
    for (int e = 0; e < experts; e++) {
        assert_int_equal(offsets[e + 1] - offsets[e], counts[e]);
        for (int32_t p = offsets[e]; p < offsets[e + 1]; p++) {
            assert_true(order[p] >= 0 && order[p] < rows);
            assert_int_equal(ids[order[p]], e);
            assert_int_equal(place[order[p]], p);
            assert_true(p == offsets[e] || order[p] > order[p - 1]);
        }
    }
    for (int64_t p = choices; p < room; p++) {
        assert_int_equal(order[p], -1);
    }
}

/* ---- rows */

static mixt_random_key key;
static uint64_t drawn;

void route_random_begin(uint64_t seed)
{
    key = (mixt_random_key){seed, MIXT_RANDOM_DATA, 3};
    drawn = 0;
}

uint64_t route_below(uint64_t bound)
{
    return mixt_random_below(&key, drawn++, bound);
}

float route_value(int kind)
{
    static const float odd[4] = {-INFINITY, INFINITY, 0.0F, -0.0F};
    uint64_t bits = mixt_random_bits(&key, drawn++);
    uint32_t pattern = (uint32_t)bits;
    float value = (float)(int32_t)(bits >> 40) / 2097152.0F - 4;
    switch (kind) {
    case ROUTE_TIES:
        return (float)(bits % 3);
    case ROUTE_DENORMAL:
        pattern &= 0x807fffffU;
        break;
    case ROUTE_ZEROS:
        return odd[2 + bits % 2];
    case ROUTE_HUGE:
        return (bits & 1 ? 3.4e38F : -3.4e38F) * (float)(bits >> 60) / 16;
    case ROUTE_SOME_NAN:
        return bits % 4 == 0 ? NAN : value;
    case ROUTE_SOME_INFINITE:
        return bits % 3 == 0 ? odd[bits / 3 % 2] : value;
    case ROUTE_BITS:
        break;
    default:
        return value;
    }
    memcpy(&value, &pattern, sizeof value);
    return value;
}

void route_fill_row(int kind, int experts, float *logits)
{
    for (int e = 0; e < experts; e++) {
        logits[e] = kind == ROUTE_EQUAL && e > 0 ? logits[0] : route_value(kind);
    }
}
