/* What a step of training over ranks costs on paper: seconds, bytes, memory. Computing is the sum
 * of the plan's operators, each as long as its floating-point operations or its bytes take at the
 * machine's limits; what ranks send each other is
 *
 *   seconds = messages * latency + bytes / network
 *
 * of a list of messages that start together, with the larger of what a rank sends and receives. */
#include "bench/ranks_cost.h"

#include <math.h>

#include "model/parameters.h"
#include "ops/shape.h"
#include "train/trainer.h"

#define RANKS_MAX (1 << 20)
#define NUMBERS 32 /* of 8 bytes that a rank gathers of each other behind a step, beside counts */

/* ------------------------------------------------------------------------------------------ */
/* What is sent                                                                               */

static int first_held(const mixt_split *split, int place)
{
    return (int)((int64_t)place * split->experts / split->places);
}

int mixt_split_held(const mixt_split *split, int place)
{
    return first_held(split, place + 1) - first_held(split, place);
}

int64_t mixt_split_rows_sent(const mixt_split *split, int place, const int64_t *counts)
{
    int64_t rows = 0;
    for (int e = 0; e < split->experts; e++) {
        bool own = e >= first_held(split, place) && e < first_held(split, place + 1);
        rows += own ? 0 : counts[e];
    }
    return rows;
}

double mixt_split_rows_even(const mixt_split *split, int place, double rows)
{
    return rows * (split->experts - mixt_split_held(split, place)) / split->experts;
}

double mixt_sliced_values(double values, int places)
{
    return values / places * (places - 1);
}

/* ------------------------------------------------------------------------------------------ */
/* A rank on paper                                                                            */

/* The rank that holds most experts: the last place of the first copy. */
typedef struct paper_rank {
    const mixt_ranks_paper *paper;
    const mixt_train_options *training;
    mixt_transport transport; /* that carries nothing */
    mixt_ranks *ranks;
    mixt_model *model;
    mixt_graph *graph;
    double memory; /* bytes that the plan needs whatever routers decide */
    int64_t runs;
} paper_rank;

static void free_rank(paper_rank *r)
{
    mixt_graph_free(r->graph);
    mixt_model_free(r->model);
    mixt_ranks_close(r->ranks, NULL);
}

static mixt_status lay_out(paper_rank *r, const mixt_model_options *options, mixt_error *error)
{
    const mixt_train_options *t = r->training;
    MIXT_TRY(mixt_ranks_create(&r->transport, 1, &r->ranks, error));
    MIXT_TRY(mixt_model_layout(options, NULL, "model", &r->model, error));
    const mixt_ranks_paper *p = r->paper;
    MIXT_TRY(mixt_ranks_arrange(r->ranks, p->data, p->expert, r->model->options.experts, error));
    r->transport.rank = r->ranks->expert - 1;
    if (p->ranks > 1) {
        r->model->ranks = r->ranks;
    }
    MIXT_TRY(mixt_trainer_check(r->model, t, error));
    if (t->accumulation % p->ranks != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: accumulation %d is not a multiple of %d ranks", t->accumulation,
                         p->ranks);
    }
    r->runs = t->accumulation / p->ranks;
    if (r->ranks->expert > 1) {
        const mixt_split split = {r->ranks->expert, r->model->options.experts};
        int place = split.places - 1;
        mixt_parameters_share(r->model, (mixt_expert_share){first_held(&split, place),
                                                            mixt_split_held(&split, place)});
    }
    mixt_graph_options how = {.phase = MIXT_PHASE_TRAIN,
                              .capacity = (int64_t)t->batch_size * t->window,
                              .window = t->window,
                              .real_size = sizeof(float),
                              .recompute = t->recompute};
    MIXT_TRY(mixt_graph_create(r->model, &how, &r->graph, error));
    r->memory = (double)r->graph->plan->memory_size;
    return MIXT_OK;
}

/* A value of rows that came from other ranks is as large as an even load makes it. */
static void shrink(const mixt_plan *plan, mixt_value_id id, int64_t rows)
{
    if (id >= 0 && plan->values[id].shape.per_token && plan->values[id].shape.multiple > rows) {
        mixt_value *value = &plan->values[id];
        value->bytes = value->bytes / (size_t)value->shape.multiple * (size_t)rows;
        value->shape.size[0] = value->shape.size[0] / value->shape.multiple * rows;
        value->shape.multiple = rows;
        shrink(plan, value->gradient, rows);
    }
}

/* A plan that was made for the most rows that may come becomes one for as many as are sent. */
static mixt_status even_out(paper_rank *r, mixt_error *error)
{
    mixt_plan *plan = r->graph->plan;
    for (int i = 0; i < plan->record_count; i++) {
        mixt_record *record = &plan->records[i];
        if (record->op != MIXT_OP_exchange) {
            continue;
        }
        const mixt_value *sent = &plan->values[record->in[EXCHANGE_ROWS]];
        mixt_value_id received = record->out[EXCHANGE_RECEIVED];
        for (int j = 0; j < plan->record_count; j++) {
            mixt_record *user = &plan->records[j];
            if (user->op == MIXT_OP_experts && user->in[EXPERTS_ROWS] == received) {
                for (int slot = 0; slot < EXPERTS_OUTPUTS; slot++) {
                    shrink(plan, user->out[slot], sent->shape.multiple);
                }
            }
        }
        shrink(plan, received, sent->shape.multiple);
    }
    return mixt_plan_layout(plan, error);
}

/* ------------------------------------------------------------------------------------------ */
/* Seconds                                                                                    */

static double reach(const mixt_ranks_paper *p)
{
    return p->efficiency > 0 ? p->efficiency : 1;
}

static double time_of_work(const mixt_ranks_paper *p, double flops, double bytes)
{
    double most =
        flops / p->flops > bytes / p->read_bytes ? flops / p->flops : bytes / p->read_bytes;
    return most / reach(p);
}

static double time_of_messages(const mixt_ranks_paper *p, double messages, double bytes)
{
    return messages * p->latency + (bytes > 0 ? bytes / p->network_bytes : 0);
}

static bool is_exchange(const mixt_record *record)
{
    return record->op == MIXT_OP_exchange || record->op == MIXT_OP_give_back;
}

/* Forward and backward of one micro batch, what ranks send each other left out. */
static double time_of_plan(const paper_rank *r)
{
    const mixt_plan *plan = r->graph->plan;
    double seconds = 0;
    for (int i = 0; i < plan->record_count; i++) {
        double flops, bytes;
        mixt_plan_cost(plan, i, plan->capacity, NULL, &flops, &bytes);
        seconds += time_of_work(r->paper, flops, bytes);
    }
    return seconds;
}

/* ------------------------------------------------------------------------------------------ */
/* Rows on their ways                                                                         */

/* Rows of a token that experts with weights take, at most and where all take alike. */
typedef struct choices {
    double most, even;
} choices;

static choices choices_of(const paper_rank *r, const mixt_record *exchange)
{
    const mixt_model_options *o = &r->model->options;
    const mixt_value *rows = &r->graph->plan->values[exchange->in[EXCHANGE_ROWS]];
    double most = (double)rows->shape.multiple;
    return (choices){most, most * o->experts / mixt_options_routed(o)};
}

/* The way that a record of the plan goes. */
static mixt_ranks_way *way_of(mixt_ranks_cost *cost, const mixt_record *record)
{
    bool out = (record->op == MIXT_OP_exchange) == (record->pass != MIXT_PASS_BACKWARD);
    return record->pass != MIXT_PASS_BACKWARD ? (out ? &cost->forward_out : &cost->forward_back)
                                              : (out ? &cost->backward_out : &cost->backward_back);
}

static void add_ways(const paper_rank *r, mixt_ranks_cost *cost)
{
    const mixt_plan *plan = r->graph->plan;
    const mixt_ranks_paper *p = r->paper;
    const mixt_split split = {r->ranks->expert, r->model->options.experts};
    int place = split.places - 1, layer = -1;
    double width = (double)r->model->options.hidden_size * sizeof(float);
    double tokens = (double)plan->capacity, others = split.places - 1;
    choices per_token = {0, 0};
    for (int i = 0; i < plan->record_count; i++) {
        const mixt_record *record = &plan->records[i];
        if (!is_exchange(record)) {
            continue;
        }
        if (record->op == MIXT_OP_exchange) {
            per_token = choices_of(r, record);
        }
        layer = layer < 0 ? record->layer : layer;
        mixt_ranks_way *way = way_of(cost, record);
        way->count += record->layer == layer;
        /* what goes to the experts of others, and what others send to this rank's, which the way
         * back returns */
        double sent = mixt_split_rows_even(&split, place, tokens * per_token.even);
        double received = others * tokens * per_token.even * cost->experts / split.experts;
        double larger = sent > received ? sent : received;
        bool counts = record->op == MIXT_OP_exchange && record->pass != MIXT_PASS_BACKWARD;
        bool out = way == &cost->forward_out || way == &cost->backward_out;
        double bytes = (out ? sent : received) * width;
        double worst = (out ? 1 : others) * tokens * per_token.most * width;
        double extra = counts ? (double)split.experts * sizeof(int32_t) : 0;
        double messages = (counts ? 2 : 1) * others;
        double seconds = time_of_messages(p, messages, larger * width + extra);
        way->bytes = bytes;
        way->worst_bytes = worst;
        way->seconds = seconds;
        cost->exchange += seconds * (double)r->runs;
        cost->exchange_bytes += bytes * (double)r->runs;
        cost->exchange_worst_bytes += worst * (double)r->runs;
        cost->messages += messages * (double)r->runs;
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Gradients, moments, weights                                                                */

/* Of one region of the blocks: what is no expert's, summed over all ranks; experts, over those that
 * hold the same ones. */
typedef struct region {
    int places;
    double weights, learning; /* values */
    double first, second;     /* moments that all places have together */
    double norm, step;        /* seconds of all of it on one rank */
} region;

static double rounded(const mixt_parameter *p)
{
    return (double)mixt_round_up(p->count, MIXT_ALIGNMENT / sizeof(float));
}

static double time_of_step(const paper_rank *r, const mixt_parameter *p, bool muon)
{
    const mixt_muon_arguments arguments = {.steps = r->training->muon_steps};
    const mixt_attributes attributes = {.muon = &arguments};
    mixt_shape in[MIXT_SLOTS] = {{0}}, out[MIXT_SLOTS] = {{0}};
    double four[MIXT_SLOTS];
    for (int i = 0; i < MIXT_SLOTS; i++) {
        four[i] = sizeof(float);
        in[i] = muon ? mixt_shape_static(3, p->rank == 3 ? p->size[0] : 1, p->size[p->rank - 2],
                                         p->size[p->rank - 1])
                     : mixt_shape_static(1, (int64_t)p->count, 0, 0);
    }
    const mixt_cost_request request = {&attributes, in, out, 1, four};
    mixt_cost cost = {0};
    mixt_operator_row(muon ? MIXT_OP_muon : MIXT_OP_adamw)->cost(&request, &cost);
    return time_of_work(r->paper, cost.forward_flops, cost.forward_bytes);
}

static void add_regions(const paper_rank *r, region regions[2])
{
    const mixt_trainer trainer = {.options = *r->training};
    int64_t parts = r->training->parts != 0 ? r->training->parts : MIXT_PART_ALL;
    for (int i = 0; i < r->model->parameter_count; i++) {
        const mixt_parameter *p = &r->model->parameters[i];
        region *to = &regions[r->ranks->expert > 1 && mixt_slot_is_expert(p->slot)];
        bool learns = (mixt_slot_part(p->slot) & parts) != 0;
        bool muon = mixt_train_uses_muon(&trainer, p);
        to->weights += rounded(p);
        to->learning += learns ? rounded(p) : 0;
        to->first += learns ? rounded(p) : 0;
        to->second += learns && !muon ? rounded(p) : 0;
        to->norm += learns ? time_of_work(r->paper, 2 * rounded(p), 4 * rounded(p)) : 0;
        to->step += learns && p->trainable ? time_of_step(r, p, muon) : 0;
    }
}

static void add_region(const paper_rank *r, const region *part, mixt_ranks_cost *cost)
{
    const mixt_ranks_paper *p = r->paper;
    double places = part->places, others = places - 1;
    double reduced = mixt_sliced_values(part->learning, part->places) * sizeof(float);
    double spread = mixt_sliced_values(part->weights, part->places) * sizeof(float);
    double turns = ceil(part->learning / places / MIXT_RANKS_ROOM);
    if (part->places > 1 && part->weights > 0) {
        cost->reduce += time_of_messages(p, turns * others, reduced) +
                        time_of_work(p, part->learning, 12 * part->learning);
        cost->spread += time_of_messages(p, others, spread);
        cost->reduce_bytes += reduced;
        cost->spread_bytes += spread;
        cost->messages += (turns + 1) * others;
    }
    cost->optimizer += (part->norm + part->step) / places;
    cost->weights += part->weights * sizeof(float);
    cost->gradients += part->learning * sizeof(float);
    cost->moments += (part->first + part->second) / places * sizeof(float);
}

/* ------------------------------------------------------------------------------------------ */
/* All of it                                                                                  */

static double buffers_of(const paper_rank *r)
{
    double count = r->paper->ranks;
    double room = count > 1 ? count * MIXT_RANKS_ROOM * sizeof(float) : 0;
    double inputs = (double)r->runs * (double)r->graph->plan->capacity * 6 * sizeof(int32_t);
    return room + inputs;
}

static mixt_status cost_of_rank(paper_rank *r, mixt_ranks_cost *cost, mixt_error *error)
{
    const mixt_model_options *o = &r->model->options;
    region regions[2] = {{.places = r->paper->ranks}, {.places = r->ranks->data}};
    MIXT_TRY(even_out(r, error));
    cost->data = r->ranks->data;
    cost->expert = r->ranks->expert;
    cost->experts = r->ranks->expert > 1 ? r->model->share.count : o->experts;
    cost->moe_layers = r->graph->moe_layers;
    cost->runs = r->runs;
    cost->micro_tokens = r->graph->plan->capacity;
    cost->tokens = cost->micro_tokens * r->training->accumulation;
    cost->compute = time_of_plan(r) * (double)r->runs;
    if (r->ranks->expert > 1) {
        add_ways(r, cost);
    }
    add_regions(r, regions);
    for (int i = 0; i < 2; i++) {
        add_region(r, &regions[i], cost);
    }
    double others = r->paper->ranks - 1;
    cost->numbers_bytes =
        others * 8 * (NUMBERS + (double)cost->moe_layers * mixt_options_routed(o));
    cost->numbers = time_of_messages(r->paper, others, cost->numbers_bytes);
    cost->messages += others;
    cost->step = cost->compute + cost->exchange - cost->exchange_hidden + cost->reduce +
                 cost->numbers + cost->optimizer + cost->spread;
    cost->activations = r->memory;
    cost->even_activations = (double)r->graph->plan->memory_size;
    cost->buffers = buffers_of(r);
    cost->memory =
        cost->weights + cost->gradients + cost->moments + cost->activations + cost->buffers;
    return MIXT_OK;
}

static mixt_status predict(const mixt_model_options *model, const mixt_train_options *training,
                           const mixt_ranks_paper *paper, mixt_ranks_cost *cost, mixt_error *error)
{
    paper_rank rank = {.paper = paper, .training = training};
    rank.transport = (mixt_transport){.version = MIXT_TRANSPORT_VERSION, .count = paper->ranks};
    *cost = (mixt_ranks_cost){0};
    mixt_status status = lay_out(&rank, model, error);
    status = status == MIXT_OK ? cost_of_rank(&rank, cost, error) : status;
    free_rank(&rank);
    return status;
}

static bool is_rate(double value)
{
    return value > 0 && isfinite(value);
}

static mixt_status check(const mixt_train_options *training, const mixt_ranks_paper *p,
                         mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_ranks_paper, p, error));
    if (p->ranks < 1 || p->ranks > RANKS_MAX || p->data < 0 || p->expert < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "ranks: %d is not in 1..%d", p->ranks,
                         RANKS_MAX);
    }
    if (!is_rate(p->flops) || !is_rate(p->read_bytes) || !is_rate(p->network_bytes) ||
        !(p->latency >= 0) || !isfinite(p->latency) || !(p->efficiency >= 0) || p->efficiency > 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: flops, read_bytes and network_bytes must be above 0, latency not "
                         "below it, efficiency in 0..1");
    }
    return training->lora_rank == 0
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "ranks: what adapters (lora_rank) cost is not predicted");
}

mixt_status mixt_ranks_predict(const mixt_model_options *model, const mixt_train_options *training,
                               const mixt_ranks_paper *paper, mixt_ranks_cost *cost,
                               mixt_error *error)
{
    mixt_ranks_paper alone = *paper;
    mixt_ranks_cost one;
    *cost = (mixt_ranks_cost){0};
    MIXT_TRY(check(training, paper, error));
    alone.ranks = alone.data = alone.expert = 1;
    MIXT_TRY(predict(model, training, paper, cost, error));
    MIXT_TRY(predict(model, training, &alone, &one, error));
    cost->alone_step = one.step;
    cost->alone_memory = one.memory;
    cost->efficiency = one.step / (paper->ranks * cost->step);
    return MIXT_OK;
}
