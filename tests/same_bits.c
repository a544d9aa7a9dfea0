#include "same_bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "infer/session.h"
#include "model/model.h"
#include "model_checks.h"

#define SEQUENCES 12 /* that exist at once */
#define PAGE 64

static same_bits_counts counts;

same_bits_counts same_bits_count(void)
{
    return counts;
}

static void require(mixt_status status, const char *name, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s: %s", name, error->message);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* What is expected                                                                           */

/* One change, or two; a routing that the model refuses is no request of it. */
static const struct {
    int count;
    struct {
        mixt_routing_change change;
        int layer, value;
    } changes[3];
} routings[SAME_ROUTINGS] = {
    {0, {{0}}},
    {1, {{MIXT_ROUTING_TOP_K, -1, 3}}},
    {2, {{MIXT_ROUTING_MASK, -1, 1}, {MIXT_ROUTING_RENORMALISE, -1, 0}}},
    {3, {{MIXT_ROUTING_TOP_K, -1, 1}, {MIXT_ROUTING_TOP_K, 1, 3}, {MIXT_ROUTING_FORCE, -1, 2}}},
    {2, {{MIXT_ROUTING_RENORMALISE, -1, 1}, {MIXT_ROUTING_FORCE, 1, 0}}},
};

static mixt_status change_model(mixt_model *model, int routing, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int i = 0; i < routings[routing].count && status == MIXT_OK; i++) {
        status = mixt_model_change_routing(model, routings[routing].changes[i].change,
                                           routings[routing].changes[i].layer,
                                           routings[routing].changes[i].value, error);
    }
    return status;
}

static mixt_status change_sequence(mixt_sequence *sequence, int routing, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int i = 0; i < routings[routing].count && status == MIXT_OK; i++) {
        status = mixt_sequence_change_routing(sequence, routings[routing].changes[i].change,
                                              routings[routing].changes[i].layer,
                                              routings[routing].changes[i].value, error);
    }
    return status;
}

/* Texts that begin as the first does, for so long. */
static void write_texts(same_bits *bits)
{
    static const int alike[SAME_TEXTS] = {0, 64, 100, 130, 149};
    mixt_random_key key = {5, MIXT_RANDOM_DATA, 0};
    for (int text = 0; text < SAME_TEXTS; text++) {
        for (int i = 0, end = bits->first; i < SAME_TEXT; i++) {
            uint64_t index = (uint64_t)(text * SAME_TEXT + i);
            bits->tokens[text][i] =
                i < alike[text]
                    ? bits->tokens[0][i]
                    : (int32_t)mixt_random_below(&key, index, (uint64_t)bits->vocab_size);
            bits->ends[text][i] = i + 1 == end;
            if (i + 1 == end) {
                end += bits->by_feed ? 1 + (int)mixt_random_below(&key, 9999 + index, 40) : 1;
            }
        }
    }
}

static void expect(same_bits *bits, mixt_context *context, const mixt_model *model, same_request *r)
{
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    size_t columns = 0;
    for (int layer = 0; layer < model->options.layers; layer++) {
        size_t chosen = (size_t)mixt_model_router(model, layer)->chosen;
        columns = chosen > columns ? chosen : columns;
    }
    size_t choices = (size_t)bits->moe_layers * columns, row = (size_t)bits->vocab_size;
    r->chosen = (int)columns;
    r->logits = calloc(SAME_TEXT * row, sizeof *r->logits);
    r->ids = calloc(SAME_TEXT * choices + 1, sizeof *r->ids);
    r->weights = calloc(SAME_TEXT * choices + 1, sizeof *r->weights);
    r->margins = calloc(SAME_TEXT * (size_t)bits->moe_layers + 1, sizeof *r->margins);
    assert_true(r->logits != NULL && r->ids != NULL && r->weights != NULL && r->margins != NULL);
    mixt_session_options options = {.cache_type = bits->cache_type, .latent = bits->latent};
    require(mixt_session_create_with(context, model, &options, &session, &error), bits->name,
            &error);
    for (int from = 0, i = 0; i < SAME_TEXT; i++) {
        if (!bits->ends[r->text][i]) {
            continue;
        }
        require(mixt_session_feed(session, bits->tokens[r->text] + from, (size_t)(i + 1 - from),
                                  &error),
                bits->name, &error);
        from = i + 1;
        const int32_t *ids;
        const float *weights;
        mixt_session_routes(session, &ids, &weights);
        r->known[i] = true;
        memcpy(r->logits + (size_t)i * row, mixt_session_logits(session), row * sizeof(float));
        memcpy(r->ids + (size_t)i * choices, ids, choices * sizeof *ids);
        memcpy(r->weights + (size_t)i * choices, weights, choices * sizeof *weights);
        assert_true(mixt_sequence_last_routes(session->sequence, NULL, NULL,
                                              r->margins + i * bits->moe_layers));
    }
    mixt_session_free(session);
}

void same_bits_prepare(same_bits *bits, mixt_model *(*make)(const void *), const void *user)
{
    mixt_context *context = test_context(1, NULL);
    bits->model = make(user);
    bits->first = 1;
    const mixt_model_options *o = &bits->model->options;
    bits->vocab_size = o->vocab_size;
    bits->moe_layers = mixt_model_moe_layers(bits->model);
    bits->by_feed = mixt_rope_by_length(o, o->context_length) ||
                    (o->attention.latent_size > 0 && bits->latent == MIXT_LATENT_AUTO);
    if (o->experts > 0 && o->router.unit == MIXT_UNIT_SEQUENCE) {
        bits->first = 20;
    }
    write_texts(bits);
    for (int routing = 0; routing < SAME_ROUTINGS; routing++) {
        mixt_model *model = make(user);
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = change_model(model, routing, &error);
        for (int text = 0; text < SAME_TEXTS && status == MIXT_OK; text++) {
            if (routing > 0 && text > 0 && text != routing) {
                continue; /* two texts of each are enough */
            }
            same_request *r = &bits->requests[bits->request_count++];
            *r = (same_request){.text = text, .routing = routing};
            expect(bits, context, model, r);
        }
        mixt_model_free(model);
    }
    mixt_context_free(context);
}

void same_bits_free(same_bits *bits)
{
    for (int i = 0; i < bits->request_count; i++) {
        free(bits->requests[i].logits);
        free(bits->requests[i].ids);
        free(bits->requests[i].weights);
        free(bits->requests[i].margins);
    }
    mixt_model_free(bits->model);
}

/* ------------------------------------------------------------------------------------------ */
/* A random schedule                                                                          */

typedef struct running {
    mixt_sequence *sequence; /* NULL: this place is free */
    const same_request *request;
    mixt_sequence_options options;
    size_t expected; /* the next token whose results are due */
    size_t length;
} running;

typedef struct schedule {
    const same_bits *bits;
    mixt_engine *engine;
    mixt_random_key key;
    uint64_t draws;
    running all[SEQUENCES];
} schedule;

static int below(schedule *s, int bound)
{
    return (int)mixt_random_below(&s->key, s->draws++, (uint64_t)bound);
}

static void begin(schedule *s, running *r)
{
    mixt_error error = MIXT_ERROR_INIT;
    *r = (running){.request = &s->bits->requests[below(s, s->bits->request_count)],
                   .options = {.all_logits = below(s, 4) == 0,
                               .routes = below(s, 2) == 0,
                               .no_sharing = below(s, 5) == 0}};
    mixt_engine_options o;
    mixt_engine_describe_options(s->engine, &o);
    if (s->bits->first > 1 && o.logits_rows < o.batch_tokens) {
        r->options.all_logits = false;
    }
    require(mixt_sequence_create(s->engine, &r->options, &r->sequence, &error), s->bits->name,
            &error);
    require(change_sequence(r->sequence, r->request->routing, &error), s->bits->name, &error);
}

/* What is fed next goes to `end` or to the next place where a feed may end. */
static void feed(schedule *s, running *r, int most)
{
    mixt_error error = MIXT_ERROR_INIT;
    const bool *ends = s->bits->ends[r->request->text];
    size_t end = r->length + 1 + (size_t)below(s, most);
    if (r->length == 0 || s->bits->by_feed) { /* no further than one of the reference */
        for (end = r->length + 1; end < SAME_TEXT && !ends[end - 1];) {
            end++;
        }
    }
    if (end > SAME_TEXT || (s->bits->by_feed && !ends[end - 1])) {
        return;
    }
    require(mixt_sequence_feed(r->sequence, s->bits->tokens[r->request->text] + r->length,
                               end - r->length, &error),
            s->bits->name, &error);
    r->length = end;
}

static void cut(schedule *s, running *r)
{
    size_t length = (size_t)below(s, (int)r->length + 1);
    if (below(s, 3) == 0) {
        length -= length % PAGE;
    }
    while (length > 0 && !s->bits->ends[r->request->text][length - 1]) {
        length--;
    }
    assert_int_equal(mixt_sequence_truncate(r->sequence, length), MIXT_OK);
    r->length = length;
    r->expected = r->expected < length ? r->expected : length;
    const same_request *other = &s->bits->requests[below(s, s->bits->request_count)];
    if (!s->bits->by_feed && other->routing == r->request->routing &&
        memcmp(s->bits->tokens[other->text], s->bits->tokens[r->request->text],
               length * sizeof(int32_t)) == 0) {
        r->request = other; /* what comes behind may be another text */
    }
}

static void same_routes(const same_bits *bits, const running *r, const mixt_sequence_rows *rows,
                        size_t at, size_t position)
{
    const same_request *request = r->request;
    for (int layer = 0; layer < rows->moe_layers; layer++) {
        for (int j = 0; j < rows->chosen; j++) {
            size_t have =
                (at * (size_t)rows->moe_layers + (size_t)layer) * (size_t)rows->chosen + (size_t)j;
            size_t want =
                (position * (size_t)bits->moe_layers + (size_t)layer) * (size_t)request->chosen +
                (size_t)j;
            bool there = j < request->chosen;
            int32_t id = there ? request->ids[want] : -1;
            float weight = there ? request->weights[want] : 0;
            if (rows->route_ids[have] != id ||
                memcmp(&rows->route_weights[have], &weight, sizeof weight) != 0) {
                fail_msg("%s: text %d, routing %d, token %zu, layer %d: choice %d is %d (%.9g), "
                         "not %d (%.9g)",
                         bits->name, request->text, request->routing, position, layer, j,
                         rows->route_ids[have], (double)rows->route_weights[have], id,
                         (double)weight);
            }
        }
    }
}

static void same_margins(const same_bits *bits, const same_request *request, const float *margins,
                         size_t position)
{
    size_t layers = (size_t)bits->moe_layers;
    if (memcmp(margins, request->margins + position * layers, layers * sizeof *margins) != 0) {
        fail_msg("%s: text %d, routing %d, token %zu: other margins", bits->name, request->text,
                 request->routing, position);
    }
}

/* Who did not ask for routes sees those of the last token. */
static void same_last(const same_bits *bits, const running *r, const mixt_sequence_rows *rows)
{
    size_t position = rows->position + rows->count - 1, layers = (size_t)rows->moe_layers;
    size_t choices = layers * (size_t)rows->chosen;
    int32_t *ids = calloc(choices + 1, sizeof *ids);
    float *numbers = calloc(choices + layers + 1, sizeof *numbers), *margins = numbers + choices;
    assert_true(ids != NULL && numbers != NULL);
    assert_true(mixt_sequence_last_routes(r->sequence, ids, numbers, margins));
    if (r->request->known[position]) {
        mixt_sequence_rows one = *rows;
        one.route_ids = ids;
        one.route_weights = numbers;
        same_routes(bits, r, &one, 0, position);
        same_margins(bits, r->request, margins, position);
    }
    free(ids);
    free(numbers);
}

static void same_rows(const same_bits *bits, running *r)
{
    mixt_sequence_rows rows;
    mixt_error error = MIXT_ERROR_INIT;
    const same_request *request = r->request;
    size_t row = (size_t)bits->vocab_size;
    require(mixt_sequence_state(r->sequence, &error), bits->name, &error);
    mixt_sequence_computed(r->sequence, &rows);
    if (rows.count == 0) {
        return;
    }
    assert_true(rows.position >= r->expected); /* further where pages were found */
    assert_true(!(r->options.all_logits || r->options.no_sharing) || rows.position == r->expected);
    assert_true(r->options.routes == (rows.route_ids != NULL));
    assert_true(!r->options.all_logits || rows.logits_count == rows.count);
    r->expected = rows.position + rows.count;
    assert_true(r->expected <= r->length);
    assert_int_equal(mixt_sequence_waiting(r->sequence), r->length - r->expected);
    assert_true(r->expected < r->length || rows.logits_count > 0);
    for (size_t i = 0; i < rows.logits_count; i++) {
        size_t position = rows.logits_position + i;
        if (request->known[position] &&
            memcmp(rows.logits + i * row, request->logits + position * row, row * sizeof(float)) !=
                0) {
            fail_msg("%s: text %d, routing %d: other logits behind token %zu", bits->name,
                     request->text, request->routing, position);
        }
        counts.compared += request->known[position];
    }
    if (rows.logits_count > 0 && r->expected == r->length) {
        assert_memory_equal(mixt_sequence_logits(r->sequence),
                            rows.logits + (rows.logits_count - 1) * row, row * sizeof(float));
    }
    for (size_t i = 0; i < rows.count && rows.route_ids != NULL; i++) {
        if (request->known[rows.position + i]) {
            same_routes(bits, r, &rows, i, rows.position + i);
            same_margins(bits, request, rows.route_margins + i * (size_t)rows.moe_layers,
                         rows.position + i);
        }
    }
    same_last(bits, r, &rows);
}

static void act(schedule *s)
{
    running *r = &s->all[below(s, SEQUENCES)];
    if (r->sequence == NULL) {
        begin(s, r);
        return;
    }
    switch (below(s, 12)) {
    case 0:
        mixt_sequence_free(r->sequence);
        r->sequence = NULL;
        return;
    case 1:
        cut(s, r);
        return;
    case 2:
    case 3:
        feed(s, r, SAME_TEXT - (int)r->length > 0 ? SAME_TEXT - (int)r->length : 1);
        return;
    default: /* as a reply grows */
        if (mixt_sequence_waiting(r->sequence) == 0) {
            feed(s, r, 1);
        }
    }
}

/* Sequences end in a random order; then nobody has a page. */
static void end(schedule *s)
{
    int first = below(s, SEQUENCES);
    for (int i = 0; i < SEQUENCES; i++) {
        mixt_sequence_free(s->all[(first + 5 * i) % SEQUENCES].sequence);
    }
    mixt_engine_statistics count;
    mixt_engine_describe(s->engine, &count);
    assert_int_equal(count.pages_used, 0);
    assert_int_equal(count.sequences, 0);
    assert_true(count.pages_kept <= count.pages);
    counts.found += count.found_positions;
    counts.preemptions += count.preemptions;
    mixt_engine_free(s->engine);
}

static void run(const same_bits *bits, mixt_context *context, uint64_t seed)
{
    static const int batches[] = {1, 2, 7, 33, 64, 200, 512};
    schedule s = {.bits = bits, .key = {seed, MIXT_RANDOM_DATA, 7}};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_engine_options o = mixt_engine_options_default();
    o.sequences = 1 + below(&s, 6);
    o.batch_tokens = batches[below(&s, 7)];
    o.batch_tokens = o.batch_tokens < bits->first ? bits->first : o.batch_tokens;
    o.positions = PAGE * (4 + below(&s, 4 * o.sequences));
    o.logits_rows = below(&s, 2) == 0 ? 0 : 1 + below(&s, o.batch_tokens);
    o.no_sharing = below(&s, 3) == 0;
    o.cache_type = bits->cache_type;
    o.latent = bits->latent;
    o.experts_per_token_max = bits->moe_layers > 0 ? 3 : 0;
    o.step_tokens = below(&s, 2) == 0 ? 0 : o.batch_tokens + below(&s, 4 * o.batch_tokens);
    if (mixt_engine_create(context, bits->model, &o, &s.engine, &error) != MIXT_OK) {
        fail_msg("%s: %s", bits->name, error.message);
    }
    for (int i = 0; i < 150; i++) {
        for (int n = 1 + below(&s, 12); n > 0; n--) {
            act(&s);
        }
        mixt_engine_statistics before, after;
        mixt_engine_describe(s.engine, &before);
        require(mixt_engine_step(s.engine, &error), bits->name, &error);
        mixt_engine_describe(s.engine, &after);
        counts.sweeps += after.rows - before.rows > (uint64_t)o.batch_tokens;
        for (int j = 0; j < SEQUENCES; j++) {
            if (s.all[j].sequence != NULL) {
                same_rows(bits, &s.all[j]);
            }
        }
    }
    end(&s);
}

void same_bits_run(const same_bits *bits, uint64_t seed, uint64_t pairs)
{
    uint64_t before = counts.compared;
    mixt_context *contexts[] = {test_context(1, NULL), test_context(2, NULL)};
    for (uint64_t i = 0; counts.compared - before < pairs; i++) {
        run(bits, contexts[i % 2], seed + i);
    }
    mixt_context_free(contexts[0]);
    mixt_context_free(contexts[1]);
}
