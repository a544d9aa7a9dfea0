/* Models whose experts are spread over ranks, each of which runs batches of its own, against the
 * same model in one piece that runs all batches one after the other: the same losses, logits and
 * gradients of what is no expert's, bit for bit, and experts' gradients that are the sum of the
 * batches'. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/context.h"
#include "core/random.h"
#include "hub.h"
#include "model/parameters.h"
#include "model_runner.h"
#include "scratch.h"

#define RANKS_MAX 8
#define RUNS 2 /* of every rank */
#define BATCHES (RUNS * RANKS_MAX)
#define ROWS 2
#define WINDOW 12
#define TOKENS (ROWS * WINDOW)

typedef struct spread_case {
    const char *name;
    int data, expert, experts, chosen;
    size_t real_size;
    bool recompute, exact;
    void (*change)(mixt_model_options *options);
} spread_case;

/* What a batch gave. */
typedef struct batch_result {
    double loss, balance;
    void *logits, *gradients;
} batch_result;

typedef struct spread_run {
    const spread_case *c;
    mixt_model_options options;
    int32_t tokens[BATCHES][TOKENS], targets[BATCHES][TOKENS];
    mixt_model *whole;
    batch_result results[BATCHES];
    int chunks;
    void *gradients[RANKS_MAX]; /* of each rank's last batch, in one chunk */
} spread_run;

static test_batch batch_of(const spread_run *s, int batch)
{
    return (test_batch){ROWS, WINDOW, s->tokens[batch], s->targets[batch], NULL};
}

static void make_batches(spread_run *s)
{
    for (int b = 0; b < BATCHES; b++) {
        mixt_random_key key = {3, MIXT_RANDOM_DATA, (uint32_t)b};
        for (uint64_t i = 0; i < TOKENS; i++) {
            /* the third batch is one token again and again: all rows to the same experts */
            uint64_t bound = b == 2 ? 1 : (uint64_t)s->options.vocab_size;
            s->tokens[b][i] = (int32_t)mixt_random_below(&key, i, bound);
            s->targets[b][i] = (int32_t)mixt_random_below(&key, 1000 + i, 37);
        }
    }
}

static mixt_graph_options graph_of(const spread_case *c)
{
    return (mixt_graph_options){.phase = MIXT_PHASE_TRAIN,
                                .real_size = c->real_size,
                                .recompute = c->recompute,
                                .exact_reduce = c->exact};
}

static void *copy_of(const void *from, size_t size)
{
    void *copy = malloc(size);
    memcpy(copy, from, size);
    return copy;
}

static size_t logits_bytes(const spread_run *s)
{
    return TOKENS * (size_t)s->options.vocab_size * s->c->real_size;
}

static void run_whole(spread_run *s, const mixt_context *context)
{
    int count = RUNS * s->c->data * s->c->expert;
    mixt_graph_options options = graph_of(s->c);
    test_run run;
    for (int b = 0; b < count; b++) {
        test_batch batch = batch_of(s, b);
        batch_result *result = &s->results[b];
        if (b == 0) {
            test_run_create_with(&context->device, s->whole, &batch, &options, &run);
        } else {
            test_run_fill(&run, &batch);
            test_run_again(s->whole, &run, true);
        }
        result->loss = run.cross_entropy;
        result->balance = run.balance;
        result->logits =
            copy_of(mixt_instance_view(run.instance, run.graph->logits), logits_bytes(s));
        result->gradients = copy_of(run.gradients, s->whole->weight_count * s->c->real_size);
    }
    test_run_free(&run);
}

static double real_at(const spread_case *c, const void *values, size_t i)
{
    return c->real_size == sizeof(double) ? ((const double *)values)[i]
                                          : (double)((const float *)values)[i];
}

/* What the batches of a run of one copy's ranks gave for value i of the whole model: the sum in
 * their order, in fp32 with rounding of each. */
static double sum_of(const spread_run *s, int run, int copy, size_t i)
{
    const spread_case *c = s->c;
    int first = run * c->data * c->expert + copy * c->expert;
    double wide = 0;
    float narrow = 0;
    for (int e = 0; e < c->expert; e++) {
        double value = real_at(c, s->results[first + e].gradients, i);
        wide += value;
        narrow += (float)value;
    }
    return c->exact && c->real_size == sizeof(float) ? (double)narrow : wide;
}

static void check_experts(const spread_run *s, const mixt_model *model, int index, int run,
                          int copy, const void *gradients)
{
    const spread_case *c = s->c;
    const mixt_parameter *part = &model->parameters[index], *all = &s->whole->parameters[index];
    size_t before = all->offset + all->count / (size_t)c->experts * (size_t)model->share.first;
    double worst = 0, most = 0;
    for (size_t i = 0; i < part->count; i++) {
        double want = sum_of(s, run, copy, before + i);
        worst = fmax(worst, fabs(want - real_at(c, gradients, part->offset + i)));
        most = fmax(most, fabs(want));
    }
    double tolerance = c->exact ? 0 : c->real_size == sizeof(double) ? 1e-12 : 2e-6;
    if (!(worst <= tolerance * most)) {
        fprintf(stderr, "%s: %s: off by %g of %g\n", c->name, part->name, worst, most);
        HUB_CHECK(false);
    }
}

static void check_run(const spread_run *s, const mixt_model *model, const test_run *have, int run,
                      int rank)
{
    const spread_case *c = s->c;
    const batch_result *want = &s->results[run * c->data * c->expert + rank];
    HUB_CHECK(have->cross_entropy == want->loss);
    HUB_CHECK(have->balance == want->balance);
    const void *logits = mixt_instance_view(have->instance, have->graph->logits);
    HUB_CHECK(memcmp(logits, want->logits, logits_bytes(s)) == 0);
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const char *gradients = have->gradients, *alone = want->gradients;
        if (c->expert > 1 && mixt_slot_is_expert(p->slot)) {
            check_experts(s, model, i, run, rank / c->expert, gradients);
        } else if (memcmp(gradients + p->offset * c->real_size,
                          alone + s->whole->parameters[i].offset * c->real_size,
                          p->count * c->real_size) != 0) {
            fprintf(stderr, "%s: other bits of %s\n", c->name, p->name);
            HUB_CHECK(false);
        }
    }
}

static mixt_status run_part(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    spread_run *s = user;
    const spread_case *c = s->c;
    mixt_context_options options = {.threads = 1 + rank % 2};
    mixt_graph_options graph = graph_of(c);
    mixt_context *context;
    mixt_model *model;
    MIXT_TRY(mixt_ranks_arrange(ranks, c->data, c->expert, c->experts, error));
    ranks->chunks_told = s->chunks;
    MIXT_TRY(mixt_context_create(&options, &context, error));
    MIXT_TRY(mixt_model_create_spread(&s->options, 11, ranks, &model, error));
    test_run run;
    for (int i = 0; i < RUNS; i++) {
        test_batch batch = batch_of(s, i * c->data * c->expert + rank);
        if (i == 0) {
            test_run_create_with(&context->device, model, &batch, &graph, &run);
        } else {
            test_run_fill(&run, &batch);
            test_run_again(model, &run, true);
        }
        check_run(s, model, &run, i, rank);
    }
    size_t bytes = model->weight_count * c->real_size;
    if (s->chunks == 1) {
        s->gradients[rank] = copy_of(run.gradients, bytes);
    }
    HUB_CHECK(memcmp(run.gradients, s->gradients[rank], bytes) == 0);
    test_run_free(&run);
    mixt_model_free(model);
    mixt_context_free(context);
    return MIXT_OK;
}

static void shared_expert(mixt_model_options *o)
{
    o->shared_experts = 1;
    o->shared_ffn_size = 12;
    o->shared_gate = true;
}

static void biases(mixt_model_options *o)
{
    o->expert_bias = true;
    o->activation = MIXT_ACTIVATION_CLAMPED;
    o->router.score = MIXT_SCORE_TOP_K_SOFTMAX;
}

static void capacity(mixt_model_options *o)
{
    o->router.capacity = 1;
    o->router.score = MIXT_SCORE_SIGMOID;
}

static void little_capacity(mixt_model_options *o)
{
    o->router.capacity = 0.5;
    o->router.drop = MIXT_DROP_WEIGHT;
}

static void expert_choice(mixt_model_options *o)
{
    for (int i = 0; mixt_router_select_name(i) != NULL; i++) {
        o->router.select =
            strcmp(mixt_router_select_name(i), "expert-choice") == 0 ? i : o->router.select;
    }
    o->router.capacity = 1.5;
}

static void weightless(mixt_model_options *o)
{
    o->identity_experts = 2;
    o->zero_experts = 1;
}

static void over_step(mixt_model_options *o)
{
    o->router.balance_scope = MIXT_BALANCE_OVER_STEP;
    o->router.balance_coefficient = 0.5;
}

static void check_spread(const spread_case *c)
{
    spread_run s = {.c = c};
    mixt_error error = MIXT_ERROR_INIT;
    s.options = mixt_model_options_default();
    s.options.vocab_size = 37;
    s.options.context_length = 64;
    s.options.layers = 2;
    s.options.hidden_size = 16;
    s.options.heads = 4;
    s.options.kv_heads = 2;
    s.options.head_dim = 6;
    s.options.ffn_size = 20;
    s.options.experts = c->experts;
    s.options.experts_per_token = c->chosen;
    s.options.initializer_range = 0.3; /* so that no route is nearly a tie */
    if (c->change != NULL) {
        c->change(&s.options);
    }
    make_batches(&s);
    must(mixt_model_create(&s.options, 11, &s.whole, &error), &error);
    run_whole(&s, scratch_context);
    for (s.chunks = 1; s.chunks <= 3; s.chunks++) { /* no more than a rank has experts */
        hub_run(c->data * c->expert, run_part, &s);
    }
    for (int rank = 0; rank < c->data * c->expert; rank++) {
        free(s.gradients[rank]);
    }
    for (int b = 0; b < BATCHES; b++) {
        free(s.results[b].logits);
        free(s.results[b].gradients);
    }
    mixt_model_free(s.whole);
}

static void test_spread(void **state)
{
    (void)state;
    static const spread_case cases[] = {
        {"two ranks", 1, 2, 5, 2, 4, false, false, NULL},
        {"two ranks in fp64", 1, 2, 5, 2, 8, false, false, shared_expert},
        {"shared expert", 1, 4, 12, 3, 4, false, false, shared_expert},
        {"recomputed", 1, 3, 7, 3, 8, true, false, shared_expert},
        {"two copies", 2, 2, 6, 2, 8, false, false, NULL},
        {"an expert each", 1, 5, 5, 2, 8, true, false, biases},
        {"all experts", 1, 2, 4, 4, 8, false, false, biases},
        {"capacity", 1, 2, 6, 2, 8, false, false, capacity},
        {"little capacity", 1, 4, 9, 3, 4, false, false, little_capacity},
        {"expert choice", 1, 2, 6, 2, 8, false, false, expert_choice},
        {"expert choice of three", 1, 3, 8, 2, 4, true, false, expert_choice},
        {"weightless", 1, 2, 5, 3, 8, false, false, weightless},
        {"weightless, a rank an expert", 1, 3, 3, 4, 4, true, false, weightless},
        {"over a step", 1, 2, 5, 2, 8, false, false, over_step},
        {"over a step of copies", 2, 2, 5, 2, 4, false, false, over_step},
        {"over a step, no expert apart", 4, 1, 5, 2, 4, false, false, over_step},
        {"exact", 1, 2, 5, 2, 4, false, true, shared_expert},
        {"exact in fp64", 1, 4, 9, 3, 8, true, true, biases},
        {"exact with biases", 1, 4, 9, 3, 4, false, true, biases},
        {"eight ranks", 1, 8, 17, 3, 4, false, false, shared_expert},
        {"an expert each of eight", 1, 8, 8, 2, 8, true, false, little_capacity},
        {"two copies over four", 2, 4, 9, 3, 8, false, false, biases},
        {"eight copies over a step", 8, 1, 5, 2, 4, false, false, over_step},
        {"exact over eight", 1, 8, 12, 3, 4, false, true, capacity},
        {"exact over a step", 1, 3, 6, 2, 4, true, true, over_step},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (hub_has(cases[i].data * cases[i].expert)) {
            print_message("%s\n", cases[i].name);
            check_spread(&cases[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
