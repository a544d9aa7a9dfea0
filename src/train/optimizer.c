/* What is done with the blocks of weights, gradients and moments: norms, a step of AdamW or Muon
 * over each parameter, the loss-free bias update. The first two are a plan of their own, so that
 * they run where the blocks lie. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/parameters.h"
#include "train/trainer.h"

/* With ranks: squares of matrices that this rank steps, or of a slice of one. */
typedef struct norm_piece {
    int parameter;
    size_t offset, values; /* of the parameter */
    size_t first;          /* of its parts among those of all ranks' parameters */
    mixt_value_id sums;    /* f64 [parts] */
} norm_piece;

typedef struct mixt_optimizer {
    mixt_plan *plan; /* records: the norm of each block, then a step for each trainable parameter
                        that this rank steps, then the squares of these pieces */
    mixt_instance *instance;
    mixt_value_id blocks[MIXT_TRAIN_BLOCKS];
    mixt_value_id squares[MIXT_TRAIN_BLOCKS]; /* f64 [parts]: sums of squares of a block's parts */
    double *sums;                             /* of the parts of the largest block */
    int steps_end;                            /* record behind the steps */
    norm_piece *pieces;
    size_t piece_count;
    double *parts; /* [part_count]: sums of squares, of all ranks' parts */
    size_t part_count;
    size_t width;     /* most parts of a rank */
    uint64_t *places; /* [ranks + 1, width]: of each rank's parts in `parts`; NULL: not known yet */
    double *gathered; /* the same: their sums, this rank's own last */
    mixt_adamw_arguments adamw[2];   /* without and with weight decay */
    mixt_adamw_arguments embeddings; /* with it, at their own rate */
    mixt_muon_arguments muon;
} mixt_optimizer;

/* Parts whose squares are summed one by one. */
static int64_t parts_of(const mixt_optimizer *optimizer, mixt_train_block block)
{
    return optimizer->plan->values[optimizer->squares[block]].shape.size[0];
}

static void append(mixt_plan *plan, mixt_op op, const mixt_attributes *attributes,
                   const mixt_value_id *in, mixt_value_id *out)
{
    mixt_operation operation = {.op = op, .layer = -1, .attributes = attributes, .in = in};
    mixt_plan_operator(plan, &operation, out);
}

static void append_norms(mixt_optimizer *optimizer, const mixt_train_blocks *blocks)
{
    static const char *const names[] = {"gradients", "weights", "moments", "squares"};
    mixt_attributes none = {0};
    for (int i = 0; i < MIXT_TRAIN_BLOCKS; i++) {
        mixt_value_id in[MIXT_SLOTS], out[MIXT_SLOTS];
        optimizer->blocks[i] = mixt_plan_state(
            optimizer->plan, names[i], mixt_shape_static(1, (int64_t)blocks->values[i], 0, 0));
        in[SQUARES_X] = optimizer->blocks[i];
        append(optimizer->plan, MIXT_OP_squares, &none, in, out);
        optimizer->squares[i] = out[SQUARES_SUMS];
        mixt_plan_keep(optimizer->plan, out[SQUARES_SUMS]);
    }
}

/* `values` of the parts of the blocks that are a parameter's, as AdamW's inputs. */
static void append_adamw(mixt_optimizer *optimizer, const mixt_parameter *p, size_t values)
{
    static const struct {
        int slot;
        const char *name;
    } inputs[] = {{ADAMW_WEIGHT, "weight"},
                  {ADAMW_GRADIENT, "gradient"},
                  {ADAMW_M, "moment"},
                  {ADAMW_V, "square"}};
    mixt_attributes attributes = {
        .adamw = p->slot == MIXT_SLOT_EMBED ? &optimizer->embeddings : &optimizer->adamw[p->decay]};
    mixt_value_id in[MIXT_SLOTS];
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        in[inputs[i].slot] = mixt_plan_state(optimizer->plan, inputs[i].name,
                                             mixt_shape_static(1, (int64_t)values, 0, 0));
    }
    append(optimizer->plan, MIXT_OP_adamw, &attributes, in, NULL);
}

/* The same as a stack of matrices for Muon; a single one is a stack too. */
static void append_muon(mixt_optimizer *optimizer, const mixt_parameter *p, size_t values)
{
    static const char *const names[] = {
        [MUON_WEIGHT] = "weight", [MUON_GRADIENT] = "gradient", [MUON_M] = "moment"};
    assert(p->decay && (p->rank == 2 || p->rank == 3));
    const int64_t *size = p->size + p->rank - 2;
    mixt_attributes attributes = {.muon = &optimizer->muon};
    mixt_value_id in[MIXT_SLOTS];
    int64_t matrices = (int64_t)(values / mixt_train_unit(p));
    for (int i = 0; i < MUON_INPUTS; i++) {
        in[i] = mixt_plan_state(optimizer->plan, names[i],
                                mixt_shape_static(3, matrices, size[0], size[1]));
    }
    append(optimizer->plan, MIXT_OP_muon, &attributes, in, NULL);
}

/* A step for each trainable parameter, over what this rank steps of it. */
static void append_steps(mixt_trainer *trainer)
{
    mixt_optimizer *optimizer = trainer->optimizer;
    for (int i = 0; i < trainer->model->parameter_count; i++) {
        const mixt_parameter *p = &trainer->model->parameters[i];
        mixt_train_range own = mixt_train_own(trainer, i);
        if (p->trainable && own.end > own.begin) {
            (mixt_train_uses_muon(trainer, p) ? append_muon : append_adamw)(optimizer, p,
                                                                            own.end - own.begin);
        }
    }
    optimizer->steps_end = optimizer->plan->record_count;
}

/* ------------------------------------------------------------------------------------------ */
/* The norm over ranks                                                                        */

/* Squares of parts of MIXT_SQUARES_PART values of each matrix by itself, whoever steps them, are
 * added up in the order of parameters, experts and parts: so the norm does not depend on the ranks.
 */
static size_t parts_in(size_t values)
{
    return (values + MIXT_SQUARES_PART - 1) / MIXT_SQUARES_PART;
}

static void append_piece(mixt_optimizer *optimizer, norm_piece piece)
{
    mixt_attributes none = {0};
    mixt_value_id in[MIXT_SLOTS], out[MIXT_SLOTS];
    in[SQUARES_X] = mixt_plan_state(optimizer->plan, "gradient",
                                    mixt_shape_static(1, (int64_t)piece.values, 0, 0));
    append(optimizer->plan, MIXT_OP_squares, &none, in, out);
    mixt_plan_keep(optimizer->plan, out[SQUARES_SUMS]);
    piece.sums = out[SQUARES_SUMS];
    optimizer->pieces[optimizer->piece_count++] = piece;
}

/* The pieces of a parameter that this rank steps; part `first` is the parameter's first. Returns
 * how many parts all ranks have of it. */
static size_t append_parameter(mixt_trainer *trainer, int parameter, size_t first)
{
    const mixt_model *model = trainer->model;
    const mixt_parameter *p = &model->parameters[parameter];
    mixt_train_range own = mixt_train_own(trainer, parameter);
    size_t unit = mixt_train_unit(p), parts = parts_in(unit), units = p->count / unit, before = 0;
    if (mixt_slot_is_spread(p->slot)) {
        before = (size_t)model->share.first;
        units = (size_t)model->options.experts;
    }
    for (size_t at = own.begin; at < own.end;) {
        size_t within = at % unit, end = at - within + unit;
        end = end < own.end ? end : own.end;
        size_t part = (before + at / unit) * parts + within / MIXT_SQUARES_PART;
        append_piece(trainer->optimizer, (norm_piece){parameter, at, end - at, first + part, 0});
        at = end;
    }
    return units * parts;
}

static mixt_status append_pieces(mixt_trainer *trainer, mixt_error *error)
{
    mixt_optimizer *optimizer = trainer->optimizer;
    const mixt_model *model = trainer->model;
    size_t most = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        most += model->parameters[i].count / mixt_train_unit(&model->parameters[i]);
    }
    optimizer->pieces = calloc(most + 1, sizeof *optimizer->pieces);
    for (int i = 0; i < model->parameter_count && optimizer->pieces != NULL; i++) {
        if (model->parameters[i].trainable) {
            optimizer->part_count += append_parameter(trainer, i, optimizer->part_count);
        }
    }
    optimizer->parts = calloc(optimizer->part_count + 1, sizeof *optimizer->parts);
    return optimizer->pieces != NULL && optimizer->parts != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
}

static void bind_pieces(mixt_trainer *trainer)
{
    const mixt_optimizer *optimizer = trainer->optimizer;
    for (size_t i = 0; i < optimizer->piece_count; i++) {
        const norm_piece *piece = &optimizer->pieces[i];
        const mixt_record *record = &optimizer->plan->records[optimizer->steps_end + (int)i];
        size_t place;
        const mixt_device_memory *memory = mixt_train_gradient(trainer, piece->parameter, &place);
        place += piece->offset - mixt_train_own(trainer, piece->parameter).begin;
        mixt_instance_bind(optimizer->instance, record->in[SQUARES_X], memory,
                           place * sizeof(float));
    }
}

/* Which part of all each rank's are, once: as many numbers of each as the one with most has. */
static mixt_status gather_places(mixt_trainer *trainer, mixt_error *error)
{
    mixt_optimizer *optimizer = trainer->optimizer;
    size_t ranks = (size_t)mixt_train_ranks(trainer), used = 0;
    int64_t most = 0;
    for (size_t i = 0; i < optimizer->piece_count; i++) {
        most += (int64_t)parts_in(optimizer->pieces[i].values);
    }
    MIXT_TRY(mixt_ranks_largest(trainer->ranks, &most, error));
    size_t width = (size_t)most;
    optimizer->places = calloc((ranks + 1) * width + 1, sizeof *optimizer->places);
    optimizer->gathered = calloc((ranks + 1) * width + 1, sizeof *optimizer->gathered);
    if (optimizer->places == NULL || optimizer->gathered == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    uint64_t *own = optimizer->places + ranks * width;
    for (size_t i = 0; i < optimizer->piece_count; i++) {
        const norm_piece *piece = &optimizer->pieces[i];
        for (size_t part = 0; part < parts_in(piece->values); part++) {
            own[used++] = piece->first + part;
        }
    }
    while (used < width) {
        own[used++] = UINT64_MAX;
    }
    optimizer->width = width;
    return mixt_ranks_gather(trainer->ranks, MIXT_GROUP_ALL, own, width * sizeof *own,
                             optimizer->places, error);
}

static mixt_status norm_over_ranks(mixt_trainer *trainer, double *norm, mixt_error *error)
{
    mixt_optimizer *optimizer = trainer->optimizer;
    MIXT_TRY(optimizer->places == NULL ? gather_places(trainer, error) : MIXT_OK);
    size_t all = (size_t)mixt_train_ranks(trainer) * optimizer->width;
    double sum = 0, *own = optimizer->gathered + all;
    MIXT_TRY(mixt_instance_run(optimizer->instance, 1, optimizer->steps_end,
                               optimizer->plan->record_count, error));
    for (size_t i = 0; i < optimizer->piece_count; i++) {
        size_t parts = parts_in(optimizer->pieces[i].values);
        mixt_instance_read(optimizer->instance, optimizer->pieces[i].sums, 0, own,
                           parts * sizeof *own);
        own += parts;
    }
    MIXT_TRY(mixt_ranks_gather(trainer->ranks, MIXT_GROUP_ALL, optimizer->gathered + all,
                               optimizer->width * sizeof *own, optimizer->gathered, error));
    for (size_t i = 0; i < all; i++) {
        if (optimizer->places[i] < optimizer->part_count) {
            optimizer->parts[optimizer->places[i]] = optimizer->gathered[i];
        }
    }
    for (size_t i = 0; i < optimizer->part_count; i++) {
        sum += optimizer->parts[i];
    }
    *norm = sqrt(sum);
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */

/* Binds the blocks, and the inputs of the steps in the order in which they were appended. */
static void bind(mixt_trainer *trainer)
{
    static const mixt_train_block adamw[] = {[ADAMW_WEIGHT] = MIXT_TRAIN_WEIGHTS,
                                             [ADAMW_GRADIENT] = MIXT_TRAIN_GRADIENTS,
                                             [ADAMW_M] = MIXT_TRAIN_FIRST_MOMENTS,
                                             [ADAMW_V] = MIXT_TRAIN_SECOND_MOMENTS};
    static const mixt_train_block muon[] = {[MUON_WEIGHT] = MIXT_TRAIN_WEIGHTS,
                                            [MUON_GRADIENT] = MIXT_TRAIN_GRADIENTS,
                                            [MUON_M] = MIXT_TRAIN_FIRST_MOMENTS};
    mixt_optimizer *optimizer = trainer->optimizer;
    int record = MIXT_TRAIN_BLOCKS;
    for (int i = 0; i < MIXT_TRAIN_BLOCKS; i++) {
        mixt_instance_bind(optimizer->instance, optimizer->blocks[i],
                           mixt_train_memory(trainer, (mixt_train_block)i), 0);
    }
    for (int i = 0; i < trainer->model->parameter_count; i++) {
        const mixt_parameter *p = &trainer->model->parameters[i];
        mixt_train_range own = mixt_train_own(trainer, i);
        bool matrix = mixt_train_uses_muon(trainer, p), steps = own.end > own.begin;
        int slots = matrix ? MUON_INPUTS : ADAMW_INPUTS;
        for (int slot = 0; p->trainable && steps && slot < slots; slot++) {
            mixt_train_block block = matrix ? muon[slot] : adamw[slot];
            const mixt_device_memory *memory = mixt_train_memory(trainer, block);
            size_t place = mixt_train_place(trainer, block, i);
            if (block == MIXT_TRAIN_GRADIENTS) {
                memory = mixt_train_gradient(trainer, i, &place);
            } else if (block == MIXT_TRAIN_WEIGHTS) {
                place += own.begin;
            }
            mixt_instance_bind(optimizer->instance, optimizer->plan->records[record].in[slot],
                               memory, place * sizeof(float));
        }
        record += p->trainable && steps;
    }
    assert(record == optimizer->steps_end);
    bind_pieces(trainer);
}

mixt_status mixt_optimizer_create(mixt_trainer *trainer, mixt_error *error)
{
    mixt_optimizer *optimizer = calloc(1, sizeof *optimizer);
    if (optimizer == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    trainer->optimizer = optimizer;
    optimizer->muon.steps = trainer->options.muon_steps;
    MIXT_TRY(mixt_plan_create("update", 1, sizeof(float), &optimizer->plan, error));
    append_norms(optimizer, &trainer->blocks);
    append_steps(trainer);
    MIXT_TRY(trainer->ranks != NULL ? append_pieces(trainer, error) : MIXT_OK);
    MIXT_TRY(mixt_plan_finish(optimizer->plan, error));
    MIXT_TRY(mixt_instance_create(optimizer->plan, &trainer->context->device,
                                  mixt_train_matmul(trainer), &optimizer->instance, error));
    bind(trainer);
    optimizer->sums =
        calloc((size_t)parts_of(optimizer, MIXT_TRAIN_WEIGHTS), sizeof *optimizer->sums);
    return optimizer->sums != NULL ? MIXT_OK
                                   : mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
}

void mixt_optimizer_free(mixt_optimizer *optimizer)
{
    if (optimizer != NULL) {
        mixt_instance_free(optimizer->instance);
        mixt_plan_free(optimizer->plan);
        free(optimizer->sums);
        free(optimizer->pieces);
        free(optimizer->parts);
        free(optimizer->places);
        free(optimizer->gathered);
        free(optimizer);
    }
}

mixt_instance *mixt_optimizer_instance(const mixt_trainer *trainer)
{
    return trainer->optimizer->instance;
}

mixt_status mixt_optimizer_norm(mixt_trainer *trainer, mixt_train_block block, double *norm,
                                mixt_error *error)
{
    mixt_optimizer *optimizer = trainer->optimizer;
    if (block == MIXT_TRAIN_GRADIENTS && trainer->ranks != NULL) {
        return norm_over_ranks(trainer, norm, error);
    }
    MIXT_TRY(mixt_instance_run(optimizer->instance, 1, (int)block, (int)block + 1, error));
    double sum = 0;
    int64_t parts = parts_of(optimizer, block);
    mixt_instance_read(optimizer->instance, optimizer->squares[block], 0, optimizer->sums,
                       (size_t)parts * sizeof *optimizer->sums);
    for (int64_t i = 0; i < parts; i++) {
        sum += optimizer->sums[i];
    }
    *norm = sqrt(sum);
    return MIXT_OK;
}

mixt_status mixt_optimizer_step(mixt_trainer *trainer, double rate, double gradient_scale,
                                mixt_error *error)
{
    const mixt_train_options *o = &trainer->options;
    mixt_optimizer *optimizer = trainer->optimizer;
    double t = (double)(trainer->counters.updates + 1);
    for (int decay = 0; decay < 2; decay++) {
        optimizer->adamw[decay] =
            (mixt_adamw_arguments){.scale = gradient_scale,
                                   .rate = rate,
                                   .beta1 = o->beta1,
                                   .beta2 = o->beta2,
                                   .epsilon = o->epsilon,
                                   .decay = decay != 0 ? o->weight_decay : 0.0,
                                   .correction1 = 1.0 - pow(o->beta1, t),
                                   .correction2 = 1.0 - pow(o->beta2, t)};
    }
    optimizer->embeddings = optimizer->adamw[1];
    if (o->embedding_rate > 0 && o->learning_rate > 0) {
        optimizer->embeddings.rate = rate * (o->embedding_rate / o->learning_rate);
    }
    optimizer->muon = (mixt_muon_arguments){.scale = gradient_scale,
                                            .rate = rate,
                                            .momentum = o->momentum,
                                            .decay = o->weight_decay,
                                            .steps = o->muon_steps};
    mixt_status status =
        mixt_instance_run(optimizer->instance, 1, MIXT_TRAIN_BLOCKS, optimizer->steps_end, error);
    if (status == MIXT_OK && trainer->ranks != NULL) {
        status = mixt_train_spread(trainer, error);
    }
    mixt_weights_changed(trainer->weights, trainer->model);
    return status;
}

void mixt_optimizer_bias(mixt_trainer *trainer)
{
    const mixt_model *model = trainer->model;
    const mixt_device_memory *weights = mixt_weights_block(trainer->weights);
    double bias_rate = model->options.router.bias_rate;
    float bias[MIXT_EXPERTS_MAX];
    bool moves = bias_rate != 0 && (trainer->options.parts & MIXT_PART_ROUTER) != 0;
    for (int i = 0; i < trainer->graph->moe_layers && moves; i++) {
        int p = mixt_model_find(model, MIXT_SLOT_ROUTER_BIAS, trainer->graph->routes[i].layer);
        if (p >= 0) {
            int experts = model->router.experts;
            size_t offset = model->parameters[p].offset * sizeof(float);
            size_t bytes = (size_t)experts * sizeof *bias;
            mixt_device_memory_read(weights, offset, bias, bytes);
            mixt_router_update_bias(bias, trainer->counts + (size_t)i * (size_t)experts, experts,
                                    bias_rate);
            mixt_device_memory_write(weights, offset, bias, bytes);
        }
    }
}

double mixt_optimizer_muon_flops(const mixt_parameter *p, int64_t steps)
{
    const mixt_muon_arguments arguments = {.steps = steps};
    const mixt_attributes attributes = {.muon = &arguments};
    mixt_shape in[MIXT_SLOTS] = {{0}}, out[MIXT_SLOTS] = {{0}};
    double bytes[MIXT_SLOTS] = {0};
    for (int i = 0; i < MUON_INPUTS; i++) {
        bytes[i] = sizeof(float);
        in[i] = mixt_shape_static(3, p->rank == 3 ? p->size[0] : 1, p->size[p->rank - 2],
                                  p->size[p->rank - 1]);
    }
    const mixt_cost_request request = {&attributes, in, out, 1, bytes};
    mixt_cost cost = {0};
    mixt_operator_row(MIXT_OP_muon)->cost(&request, &cost);
    return cost.forward_flops;
}
