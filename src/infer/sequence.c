/* Sequences: what is fed to them, how each routes, what they have of the cache. */
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "infer/engine.h"

/* ------------------------------------------------------------------------------------------ */
/* The line of an engine's sequences                                                          */

static void leave_line(mixt_sequence *s)
{
    mixt_engine *engine = s->engine;
    *(s->previous == NULL ? &engine->oldest : &s->previous->next) = s->next;
    *(s->next == NULL ? &engine->newest : &s->next->previous) = s->previous;
}

static void join_line(mixt_sequence *s)
{
    mixt_engine *engine = s->engine;
    s->next = NULL;
    s->previous = engine->newest;
    *(engine->newest == NULL ? &engine->oldest : &engine->newest->next) = s;
    engine->newest = s;
}

void mixt_sequence_queue(mixt_sequence *s)
{
    leave_line(s);
    join_line(s);
}

bool mixt_sequence_has_work(const mixt_sequence *s)
{
    return s->error.status == MIXT_OK && s->length > s->done;
}

const int32_t *mixt_sequence_page_tokens(const mixt_sequence *s, size_t page, int32_t *room)
{
    size_t first = page * MIXT_ATTENTION_BLOCK;
    for (size_t i = 0; i < MIXT_ATTENTION_BLOCK && s->engine->forms; i++) {
        int32_t token = s->tokens[first + i];
        room[i] = s->expanded[first + i] ? ~token : token;
    }
    return s->engine->forms ? room : s->tokens + first;
}

void mixt_sequence_give_back(mixt_sequence *s, size_t first)
{
    while (s->page_count > first) {
        mixt_page_release(s->engine->pool, s->pages[--s->page_count]);
    }
    s->held = mixt_least((int64_t)s->held, (int64_t)first * MIXT_ATTENTION_BLOCK);
}

/* ------------------------------------------------------------------------------------------ */
/* How it routes                                                                              */

static void leave_variant(mixt_engine *engine, mixt_variant *variant)
{
    if (variant == NULL || --variant->users > 0 || variant->next == NULL) {
        return; /* the model's own, which is the last, stays */
    }
    mixt_variant **link = &engine->variants;
    while (*link != variant) {
        link = &(*link)->next;
    }
    *link = variant->next;
    for (int i = 0; i < engine->options.sequences; i++) {
        engine->lines[i] = engine->lines[i] == variant ? NULL : engine->lines[i];
    }
    mixt_routing_free(variant->routing);
    free(variant);
}

static mixt_variant *own_variant(const mixt_engine *engine)
{
    mixt_variant *variant = engine->variants;
    while (variant->next != NULL) {
        variant = variant->next;
    }
    return variant;
}

/* The variant that is the same as `routing`, which is taken, or a new one. */
static mixt_variant *find_variant(mixt_engine *engine, mixt_routing *routing)
{
    for (mixt_variant *v = engine->variants; v != NULL; v = v->next) {
        if (mixt_routing_same(v->routing, routing)) {
            mixt_routing_free(routing);
            return v;
        }
    }
    mixt_variant *made = calloc(1, sizeof *made);
    if (made != NULL) {
        *made = (mixt_variant){routing, engine->variant_count++, 0, engine->variants};
        engine->variants = made;
    }
    return made;
}

mixt_status mixt_sequence_change_routing(mixt_sequence *s, mixt_routing_change change, int layer,
                                         int value, mixt_error *error)
{
    mixt_engine *engine = s->engine;
    mixt_routing *routing;
    if (s->length > 0 || s->page_count > 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "sequence: routing is changed before anything is fed, not behind %zu "
                         "tokens",
                         s->length);
    }
    int most = (int)engine->chosen;
    MIXT_TRY(mixt_routing_create(engine->model, s->variant->routing, &routing, error));
    mixt_status status =
        mixt_routing_apply(routing, engine->model, change, layer, value, most, error);
    if (status != MIXT_OK) {
        mixt_routing_free(routing);
        return status;
    }
    mixt_variant *variant = find_variant(engine, routing);
    if (variant == NULL) {
        mixt_routing_free(routing);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sequence: no memory");
    }
    variant->users++;
    leave_variant(engine, s->variant);
    s->variant = variant;
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Making, feeding, cutting                                                                   */

static void release(mixt_sequence *s)
{
    free(s->tokens);
    free(s->ends);
    free(s->expanded);
    free(s->pages);
    free(s->logits);
    free(s);
}

mixt_status mixt_sequence_create(mixt_engine *engine, const mixt_sequence_options *options,
                                 mixt_sequence **result, mixt_error *error)
{
    static const mixt_sequence_options none = {0};
    *result = NULL;
    options = options == NULL ? &none : options;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_sequence_options, options, error));
    if (options->all_logits && options->states) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "sequence: all_logits and states exclude each other");
    }
    bool every = options->all_logits || options->states;
    if (every && engine->whole_first &&
        engine->options.logits_rows < engine->options.batch_tokens) {
        return mixt_fail(
            error, MIXT_ERROR_ARGUMENT,
            "sequence: logits or states of all tokens of a model whose router decides once for "
            "a document need as many rows with logits as a batch has (%d, not %d)",
            engine->options.batch_tokens, engine->options.logits_rows);
    }
    MIXT_TRY(mixt_engine_make_room(engine, options, error));
    mixt_sequence *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->logits = calloc((size_t)engine->model->options.vocab_size, sizeof *s->logits);
    }
    if (s == NULL || s->logits == NULL) {
        free(s);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sequence: no memory");
    }
    s->engine = engine;
    s->options = *options;
    s->every = every;
    s->variant = own_variant(engine);
    s->variant->users++;
    join_line(s);
    *result = s;
    return MIXT_OK;
}

void mixt_sequence_free(mixt_sequence *s)
{
    if (s != NULL) {
        mixt_sequence_give_back(s, 0);
        leave_line(s);
        leave_variant(s->engine, s->variant);
        release(s);
    }
}

static mixt_status check_feed(const mixt_sequence *s, const int32_t *tokens, size_t count,
                              mixt_error *error)
{
    const mixt_engine *engine = s->engine;
    if (s->error.status != MIXT_OK) {
        return mixt_sequence_state(s, error);
    }
    if (count == 0 || count > (size_t)engine->capacity - s->length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%zu tokens behind %zu do not fit into a context of %lld", count,
                         s->length, (long long)engine->capacity);
    }
    if (s->length + count > (size_t)engine->options.positions) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%zu tokens behind %zu do not fit into a cache of %lld positions", count,
                         s->length, (long long)engine->options.positions);
    }
    int vocab_size = engine->model->options.vocab_size;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= vocab_size) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "token %zu: id %d is not in 0..%d", i,
                             tokens[i], vocab_size - 1);
        }
    }
    return MIXT_OK;
}

/* The form of latent attention of tokens that are fed at once. */
static bool is_expanded(const mixt_sequence *s, size_t count)
{
    return s->engine->options.latent == MIXT_LATENT_EXPANDED ||
           mixt_latent_expands(&s->engine->latent, (int64_t)s->length, (int64_t)count);
}

mixt_status mixt_sequence_feed(mixt_sequence *s, const int32_t *tokens, size_t count,
                               mixt_error *error)
{
    MIXT_TRY(check_feed(s, tokens, count, error));
    size_t length = s->length + count;
    size_t pages = (length + MIXT_ATTENTION_BLOCK - 1) / MIXT_ATTENTION_BLOCK;
    bool by_length = s->engine->rope_by_length, forms = s->engine->forms;
    if (!mixt_grow(&s->tokens, &s->token_capacity, length, sizeof *s->tokens) ||
        !mixt_grow(&s->pages, &s->page_capacity, pages, sizeof *s->pages) ||
        (by_length && !mixt_grow(&s->ends, &s->end_capacity, length, sizeof *s->ends)) ||
        (forms && !mixt_grow(&s->expanded, &s->form_capacity, length, sizeof *s->expanded))) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sequence: no memory");
    }
    memcpy(s->tokens + s->length, tokens, count * sizeof *tokens);
    for (size_t i = s->length; i < length && by_length; i++) {
        s->ends[i] = (int32_t)length;
    }
    bool expanded = forms && is_expanded(s, count);
    for (size_t i = s->length; i < length && forms; i++) {
        s->expanded[i] = expanded;
    }
    s->first_feed = s->length == 0 ? count : s->first_feed;
    if (!s->admitted && !mixt_sequence_has_work(s)) {
        mixt_sequence_queue(s);
    }
    s->length = length;
    return MIXT_OK;
}

mixt_status mixt_sequence_truncate(mixt_sequence *s, size_t length)
{
    if (length > s->length) {
        return MIXT_ERROR_ARGUMENT;
    }
    if (length < s->first_feed && s->engine->whole_first) { /* what was decided saw the others */
        mixt_sequence_give_back(s, 0);
        s->first_feed = length;
    }
    s->length = length;
    s->done = s->done < length ? s->done : length;
    s->held = s->held < length ? s->held : length;
    s->found = s->found < length ? s->found : length;
    mixt_sequence_give_back(s, (length + MIXT_ATTENTION_BLOCK - 1) / MIXT_ATTENTION_BLOCK);
    return MIXT_OK;
}

void mixt_sequence_recover(mixt_sequence *s, size_t length)
{
    s->error = (mixt_error)MIXT_ERROR_INIT;
    (void)mixt_sequence_truncate(s, length);
    s->done = s->length;
}

/* ------------------------------------------------------------------------------------------ */
/* Asking                                                                                     */

size_t mixt_sequence_length(const mixt_sequence *s)
{
    return s->length;
}

size_t mixt_sequence_waiting(const mixt_sequence *s)
{
    return mixt_sequence_has_work(s) ? s->length - s->done : 0;
}

size_t mixt_sequence_found(const mixt_sequence *s)
{
    return s->found;
}

const float *mixt_sequence_logits(const mixt_sequence *s)
{
    return s->logits;
}

mixt_status mixt_sequence_state(const mixt_sequence *s, mixt_error *error)
{
    return s->error.status == MIXT_OK ? MIXT_OK
                                      : mixt_fail(error, s->error.status, "%s", s->error.message);
}

bool mixt_sequence_is_fresh(const mixt_sequence *s)
{
    return s->served == s->engine->step && s->served > 0;
}

void mixt_sequence_computed(const mixt_sequence *s, mixt_sequence_rows *rows)
{
    *rows = mixt_sequence_is_fresh(s) ? s->rows : (mixt_sequence_rows){.position = s->done};
    rows->moe_layers = (int)s->engine->moe_layers;
    rows->chosen = (int)s->engine->chosen;
}
