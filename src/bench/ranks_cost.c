/* What a step of training over ranks costs on paper: seconds, bytes, memory. Computing is the sum
 * of the plan's operators, each as long as its floating-point operations or its bytes take at the
 * machine's limits; what ranks send each other is
 *
 *   seconds = waits * delay + messages * latency + bytes / network
 *
 * of messages that are waited for so many times, as those of a list start together, with the larger
 * of what a rank sends and receives. */
#include "bench/ranks_cost.h"

#include <math.h>

#include "model/parameters.h"
#include "ops/shape.h"
#include "train/trainer.h"

#define RANKS_MAX (1 << 20)
#define GATHER_RANKS 32 /* over more, what is small goes in rounds */
#define GATHER_BYTES 16384
#define INPUTS 6 /* numbers that a batch has for a row */

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

/* Of one region of the blocks: what is no expert's, summed over all ranks; experts, over those that
 * hold the same ones. */
typedef struct region {
    int places;
    double weights, learning; /* values */
    double matrices;          /* that learn; and biases of experts */
    double first, second;     /* moments that all places have together */
    double norm, step;        /* seconds of all of it on one rank */
    double parts;             /* of the norm, of the whole model */
} region;

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
    region regions[2];
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
    MIXT_TRY(mixt_ranks_set_chunks(r->ranks, p->chunks, error));
    r->transport.rank = r->ranks->expert - 1;
    if (p->ranks > 1) {
        r->model->ranks = r->ranks;
    }
    MIXT_TRY(mixt_trainer_check(r->model, t, error));
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

static bool is_of_experts(mixt_op op)
{
    return op == MIXT_OP_experts || op == MIXT_OP_exchange || op == MIXT_OP_arrive ||
           op == MIXT_OP_give_back || op == MIXT_OP_far_experts;
}

static const mixt_record *first_exchange(const mixt_plan *plan)
{
    for (int i = 0; i < plan->record_count; i++) {
        if (plan->records[i].op == MIXT_OP_exchange) {
            return &plan->records[i];
        }
    }
    return NULL;
}

static int chunks_of(const mixt_record *record)
{
    return record->attributes.chunks > 1 ? record->attributes.chunks : 1;
}

/* A plan that was made for the most rows that may come becomes one for as many as are sent, in all
 * layers alike. */
static mixt_status even_out(paper_rank *r, mixt_error *error)
{
    mixt_plan *plan = r->graph->plan;
    const mixt_record *exchange = first_exchange(plan);
    if (exchange == NULL) {
        return MIXT_OK;
    }
    int64_t rows = plan->values[exchange->in[EXCHANGE_ROWS]].shape.multiple;
    for (int i = 0; i < plan->record_count; i++) {
        mixt_record *record = &plan->records[i];
        bool experts = record->op == MIXT_OP_experts;
        if (is_of_experts(record->op)) {
            record->workspace =
                record->workspace / (size_t)exchange->attributes.rows * (size_t)rows;
        }
        for (int slot = 0; slot < EXPERTS_OUTPUTS && experts; slot++) {
            shrink(plan, record->out[slot], rows);
        }
        if (record->op == MIXT_OP_exchange) {
            shrink(plan, record->out[EXCHANGE_ARRIVED], rows);
        } else if (record->op == MIXT_OP_arrive) {
            shrink(plan, record->out[ARRIVE_Y], rows);
        }
        for (int slot = FAR_EXPERTS_ROWS;
             slot < FAR_EXPERTS_OUTPUTS && record->op == MIXT_OP_far_experts; slot++) {
            shrink(plan, record->out[slot], rows);
        }
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

/* How much longer experts take on the rank that has most rows. */
static double waiting(const paper_rank *r)
{
    return r->ranks->expert > 1 && r->paper->imbalance > 1 ? r->paper->imbalance : 1;
}

static double time_of_messages(const mixt_ranks_paper *p, double waits, double messages,
                               double bytes)
{
    return (messages > 0 ? waits * p->delay : 0) + messages * p->latency +
           (bytes > 0 ? bytes / p->network_bytes : 0);
}

/* Of far_experts, those that are not moved while experts are computed. */
static double bytes_of_rows(const mixt_plan *plan, const mixt_record *record)
{
    return record->op != MIXT_OP_far_experts
               ? 0
               : 24 * mixt_shape_values(&plan->values[record->in[FAR_EXPERTS_NEAR]].shape,
                                        plan->capacity);
}

static double time_of_record(const paper_rank *r, int record)
{
    const mixt_plan *plan = r->graph->plan;
    double flops, bytes;
    mixt_plan_cost(plan, record, plan->capacity, NULL, &flops, &bytes);
    double moved = bytes_of_rows(plan, &plan->records[record]);
    return (time_of_work(r->paper, flops, bytes - moved) + time_of_work(r->paper, 0, moved)) *
           (is_of_experts(plan->records[record].op) ? waiting(r) : 1);
}

/* Forward and backward of one micro batch, what ranks send each other left out. */
static double time_of_plan(const paper_rank *r)
{
    double seconds = 0;
    for (int i = 0; i < r->graph->plan->record_count; i++) {
        seconds += time_of_record(r, i);
    }
    return seconds;
}

/* What is computed while rows are on a way that begins at a record: until they have to be there. */
static double time_meanwhile(const paper_rank *r, int begin)
{
    const mixt_plan *plan = r->graph->plan;
    const mixt_record *first = &plan->records[begin];
    bool backward = first->pass == MIXT_PASS_BACKWARD;
    double seconds = 0;
    for (int i = begin + 1; i < plan->record_count; i++) {
        const mixt_record *record = &plan->records[i];
        bool ends = backward ? record->op == MIXT_OP_exchange
                             : record->op == MIXT_OP_arrive || record->op == MIXT_OP_far_experts;
        if (ends && record->pass == first->pass && record->layer == first->layer) {
            return seconds;
        }
        seconds += time_of_record(r, i);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------ */
/* Rows on their ways                                                                         */

/* What a micro batch of a layer sends in one way. */
typedef struct way_rows {
    double sent, received;             /* rows, loads even: to experts of others, and from others */
    double worst_sent, worst_received; /* the most that may be */
    double counts;                     /* bytes of row counts that go before them */
} way_rows;

/* Of the way out; that back has sent and received changed. */
static way_rows rows_of(const paper_rank *r, const mixt_record *exchange)
{
    const mixt_model_options *o = &r->model->options;
    const mixt_plan *plan = r->graph->plan;
    const mixt_split split = {r->ranks->expert, o->experts};
    double tokens = (double)plan->capacity, others = split.places - 1;
    double held = mixt_split_held(&split, split.places - 1);
    double rows = (double)plan->values[exchange->in[EXCHANGE_ROWS]].shape.multiple * tokens;
    double even = rows * o->experts / mixt_options_routed(o); /* that experts with weights take */
    double room = exchange->attributes.rows * tokens;
    return (way_rows){.sent = mixt_split_rows_even(&split, split.places - 1, even),
                      .received = others * even * held / split.experts,
                      .worst_sent = rows,
                      .worst_received = others * rows < room ? others * rows : room,
                      .counts = (split.experts - held) * sizeof(int32_t)};
}

/* The experts that an exchange of several chunks is for; -1: rows go in one. */
static int experts_behind(const mixt_plan *plan, int exchange)
{
    for (int i = exchange; i < plan->record_count && chunks_of(&plan->records[exchange]) > 1; i++) {
        if (plan->records[i].op == MIXT_OP_far_experts) {
            return i;
        }
    }
    return -1;
}

/* Of experts in chunks: what is computed while one of them travels. */
static double time_of_others(const paper_rank *r, int record)
{
    int chunks = chunks_of(&r->graph->plan->records[record]);
    return time_of_record(r, record) * (chunks - 1) / chunks;
}

static mixt_ranks_way *way_of(mixt_ranks_cost *cost, bool backward, bool out)
{
    return backward ? (out ? &cost->backward_out : &cost->backward_back)
                    : (out ? &cost->forward_out : &cost->forward_back);
}

/* One way of a layer: before its rows are there, or behind those that left first, the rank computes
 * something else for `meanwhile`, and experts of other chunks for `others`. */
typedef struct way_time {
    bool backward, out, counted;
    int chunks;
    double meanwhile, others;
} way_time;

/* Chunks travel one behind the other, each as long as the others, `moved` together: all but one of
 * them while experts of others are computed. The first comes `delay` later than that. Gives what is
 * hidden of so long a way. */
static double hide(const way_time *time, double delay, double moved)
{
    double part = (double)(time->chunks - 1) / time->chunks, all = delay + moved;
    double most = part * moved < time->others ? part * moved : time->others;
    return all < time->meanwhile + most ? all : time->meanwhile + most;
}

/* `first`: in the first layer that has some. Gives what it hides. */
static double add_way(const paper_rank *r, const way_rows *rows, const way_time *time, bool first,
                      mixt_ranks_cost *cost)
{
    double width = (double)r->model->options.hidden_size * sizeof(float);
    double others = r->ranks->expert - 1, runs = (double)r->runs;
    double counts = time->counted ? rows->counts : 0;
    double larger = rows->sent > rows->received ? rows->sent : rows->received;
    double told = time->counted ? time_of_messages(r->paper, 1, others, counts) : 0;
    double moved =
        time_of_messages(r->paper, 0, time->chunks * others, larger * waiting(r) * width);
    double hidden = hide(time, r->paper->delay, moved);
    mixt_ranks_way *way = way_of(cost, time->backward, time->out);
    way->bytes = (time->out ? rows->sent : rows->received) * width + counts;
    way->worst_bytes = (time->out ? rows->worst_sent : rows->worst_received) * width + counts;
    way->seconds = told + r->paper->delay + moved; /* counts are waited for */
    way->chunks = time->chunks;
    if (first) { /* a mean, as what is made again may hide less */
        way->hidden = (way->hidden * way->count + hidden) / (way->count + 1);
        way->count++;
    }
    cost->exchange += way->seconds * runs;
    cost->exchange_hidden += hidden * runs;
    cost->exchange_bytes += way->bytes * runs;
    cost->exchange_worst_bytes += way->worst_bytes * runs;
    cost->messages += ((time->counted ? 1 : 0) + time->chunks) * others * runs;
    return hidden;
}

/* Every way of the plan, in all layers. Ways in chunks share what is computed meanwhile: what goes
 * out and what comes back are sent by the same rank. */
static void add_ways(const paper_rank *r, mixt_ranks_cost *cost)
{
    const mixt_plan *plan = r->graph->plan;
    way_rows rows = {0};
    int layer = -1;
    for (int i = 0; i < plan->record_count; i++) {
        const mixt_record *record = &plan->records[i];
        bool backward = record->pass == MIXT_PASS_BACKWARD;
        bool far = record->op == MIXT_OP_far_experts;
        layer = layer < 0 && record->op == MIXT_OP_exchange ? record->layer : layer;
        bool first = record->layer == layer;
        way_time time = {.backward = backward, .chunks = 1};
        if (record->op == MIXT_OP_exchange && !backward) {
            int experts = experts_behind(plan, i);
            rows = rows_of(r, record);
            time.out = time.counted = true;
            time.chunks = chunks_of(record);
            time.meanwhile = time_meanwhile(r, i);
            time.others = experts < 0 ? 0 : time_of_others(r, experts);
            double left = time.meanwhile + time.others - add_way(r, &rows, &time, first, cost);
            if (experts >= 0) { /* the way back */
                time.out = time.counted = false;
                time.others = left < time.others ? left : time.others;
                time.meanwhile = 0;
                add_way(r, &rows, &time, first, cost);
            }
        } else if (record->op == MIXT_OP_give_back) {
            time.out = backward;
            add_way(r, &rows, &time, first, cost);
        } else if (backward && record->op == MIXT_OP_arrive) {
            time.meanwhile = time_meanwhile(r, i);
            add_way(r, &rows, &time, first, cost);
        } else if (backward && far) {
            time.chunks = chunks_of(record);
            time.others = time_of_others(r, i);
            time.meanwhile = time_meanwhile(r, i);
            double left = time.meanwhile + time.others - add_way(r, &rows, &time, first, cost);
            time.out = true;
            time.others = left < time.others ? left : time.others;
            time.meanwhile = 0;
            add_way(r, &rows, &time, first, cost);
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Gradients, moments, weights                                                                */

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

/* Sums of squares that the norm adds up, of the experts of all ranks. */
static double norm_parts(const paper_rank *r, const mixt_parameter *p)
{
    size_t unit = mixt_train_unit(p);
    size_t units =
        mixt_slot_is_expert(p->slot) ? (size_t)r->model->options.experts : p->count / unit;
    return (double)(units * ((unit + MIXT_SQUARES_PART - 1) / MIXT_SQUARES_PART));
}

static void add_regions(paper_rank *r)
{
    const mixt_trainer trainer = {.options = *r->training};
    int64_t parts = r->training->parts != 0 ? r->training->parts : MIXT_PART_ALL;
    for (int i = 0; i < r->model->parameter_count; i++) {
        const mixt_parameter *p = &r->model->parameters[i];
        region *to = &r->regions[r->ranks->expert > 1 && mixt_slot_is_expert(p->slot)];
        bool learns = (mixt_slot_part(p->slot) & parts) != 0;
        bool muon = mixt_train_uses_muon(&trainer, p);
        to->weights += rounded(p);
        to->learning += learns ? rounded(p) : 0;
        to->matrices += learns;
        to->first += learns ? rounded(p) : 0;
        to->second += learns && !muon ? rounded(p) : 0;
        to->parts += p->trainable ? norm_parts(r, p) : 0;
        to->norm += learns ? time_of_work(r->paper, 2 * rounded(p), 4 * rounded(p)) : 0;
        to->step += learns && p->trainable ? time_of_step(r, p, muon) : 0;
    }
}

/* Sums over ranks once a step, or with exact_reduce behind each micro batch. */
static void add_reduce(const paper_rank *r, const region *part, mixt_ranks_cost *cost)
{
    double places = part->places, others = places - 1;
    double times = r->training->exact_reduce ? (double)r->runs : 1;
    double bytes = times * mixt_sliced_values(part->learning, part->places) * sizeof(float);
    double turns = times * ceil(part->learning / places / MIXT_RANKS_ROOM);
    double messages = turns * others;
    cost->reduce += time_of_messages(r->paper, turns, messages, bytes) +
                    times * time_of_work(r->paper, part->learning, 12 * part->learning);
    cost->reduce_bytes += bytes;
    cost->messages += messages;
    cost->buffers += part->learning / places * sizeof(float);
}

/* With exact_reduce running totals of experts' gradients go from copy to copy within each run, back
 * to the first one behind it, and behind the last run out as slices. Bytes are those of a copy on
 * average, messages those of the first. */
static void add_totals(const paper_rank *r, const region *part, mixt_ranks_cost *cost)
{
    double copies = part->places, runs = (double)r->runs;
    double total = part->learning * sizeof(float), sliced = total / copies;
    double within = runs * fmin(2, copies - 1); /* one takes it over, then passes it on */
    double bytes = runs * (total - sliced) + (runs - 1) * sliced + (total - sliced) / copies;
    const mixt_record *exchange = first_exchange(r->graph->plan);
    double matrices = part->matrices * (exchange != NULL ? chunks_of(exchange) : 1);
    cost->reduce +=
        time_of_messages(r->paper, within * matrices, within * matrices, within * total) +
        time_of_messages(r->paper, runs - 1, runs - 1, (runs - 1) * total) +
        time_of_messages(r->paper, 1, copies - 1, total - sliced);
    cost->reduce_bytes += bytes;
    cost->messages += runs * matrices;
    cost->buffers += sliced;
}

static void add_region(const paper_rank *r, const region *part, mixt_ranks_cost *cost)
{
    double others = part->places - 1;
    bool first = part == r->regions;
    if (part->weights > 0 && (part->places > 1 || (r->training->exact_reduce && first))) {
        double bytes = mixt_sliced_values(part->weights, part->places) * sizeof(float);
        if (r->training->exact_reduce && !first) {
            add_totals(r, part, cost);
        } else {
            add_reduce(r, part, cost);
        }
        cost->spread += time_of_messages(r->paper, 1, others, bytes);
        cost->spread_bytes += bytes;
        cost->messages += others;
    }
    cost->optimizer += (part->norm + part->step) / part->places;
    cost->weights += part->weights * sizeof(float);
    cost->gradients += part->learning * sizeof(float);
    cost->moments += (part->first + part->second) / part->places * sizeof(float);
}

/* Messages of a gather from each of many ranks (dist/collectives.c), and how many times they are
 * waited for. */
static double gather_messages(double ranks, double bytes, double *waits)
{
    bool rounds = ranks > GATHER_RANKS && bytes <= GATHER_BYTES;
    *waits += rounds ? ceil(log2(ranks)) : 1;
    return rounds ? ceil(log2(ranks)) : ranks - 1;
}

/* Each rank's sums of micro batches, counts of experts and parts of the norm, and the rows with a
 * target, at every other rank. */
static void add_numbers(const paper_rank *r, mixt_ranks_cost *cost)
{
    double ranks = r->paper->ranks, others = ranks - 1;
    double parts = r->regions[0].parts + r->regions[1].parts; /* each rank's as many */
    double sums = (double)r->runs * sizeof(mixt_step_sums) +
                  8.0 * cost->moe_layers * (r->model->router.experts + 2);
    double waits = 0;
    double messages = gather_messages(ranks, sums, &waits) +
                      gather_messages(ranks, 8 * parts / ranks, &waits) +
                      gather_messages(ranks, 8, &waits);
    cost->numbers_bytes = others * (sums + 8 * parts / ranks + 8);
    cost->numbers = time_of_messages(r->paper, waits, messages, cost->numbers_bytes);
    cost->messages += messages;
    cost->buffers += others > 0 ? (ranks + 1) * (sums + 16 * parts / ranks) + 8 * parts : 0;
}

/* ------------------------------------------------------------------------------------------ */
/* All of it                                                                                  */

static mixt_status cost_of_rank(paper_rank *r, mixt_ranks_cost *cost, mixt_error *error)
{
    const mixt_plan *plan = r->graph->plan;
    MIXT_TRY(even_out(r, error));
    cost->data = r->ranks->data;
    cost->expert = r->ranks->expert;
    cost->experts = r->model->share.count;
    cost->moe_layers = r->graph->moe_layers;
    cost->runs = r->runs;
    cost->micro_tokens = plan->capacity;
    cost->tokens = cost->micro_tokens * r->training->accumulation;
    cost->compute = time_of_plan(r) * (double)r->runs;
    cost->buffers = (double)(r->runs * plan->capacity * INPUTS) * sizeof(int32_t);
    if (r->paper->ranks > 1) {
        cost->buffers += (double)r->paper->ranks * MIXT_RANKS_ROOM * sizeof(float);
    }
    add_ways(r, cost);
    r->regions[0].places = r->paper->ranks;
    r->regions[1].places = r->ranks->data;
    add_regions(r);
    for (int i = 0; i < 2; i++) {
        add_region(r, &r->regions[i], cost);
    }
    add_numbers(r, cost);
    cost->step = cost->compute + cost->exchange - cost->exchange_hidden + cost->reduce +
                 cost->numbers + cost->optimizer + cost->spread;
    cost->activations = r->memory;
    cost->even_activations = (double)plan->memory_size;
    cost->memory =
        cost->weights + cost->gradients + cost->moments + cost->activations + cost->buffers;
    return MIXT_OK;
}

static mixt_status predict(const mixt_model_options *model, const mixt_train_options *training,
                           const mixt_ranks_paper *paper, mixt_ranks_cost *cost, mixt_error *error)
{
    mixt_train_options chosen = *training;
    paper_rank rank = {.paper = paper, .training = &chosen};
    MIXT_TRY(mixt_train_options_choose(model, &chosen, NULL, error));
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
        !(p->latency >= 0) || !isfinite(p->latency) || !(p->delay >= 0) || !isfinite(p->delay) ||
        !(p->efficiency >= 0) || p->efficiency > 1 ||
        (p->imbalance != 0 && !(p->imbalance >= 1 && p->imbalance < 1e6))) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: flops, read_bytes and network_bytes must be above 0, latency and "
                         "delay not below it, efficiency in 0..1, imbalance at least 1");
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
    alone.chunks = 0;
    MIXT_TRY(predict(model, training, paper, cost, error));
    MIXT_TRY(predict(model, training, &alone, &one, error));
    cost->alone_step = one.step;
    cost->alone_memory = one.memory;
    cost->efficiency = one.step / (paper->ranks * cost->step);
    return MIXT_OK;
}
