/* The thread that owns the engine: begins orders, steps, draws, and hands pieces out. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "generation_parts.h"

enum { IDLE_MILLISECONDS = 100 }; /* how often clients are looked at while nothing is computed */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static mixt_status no_memory(mixt_error *error)
{
    *error = (mixt_error){.status = MIXT_ERROR_MEMORY, .message = "out of memory"};
    return MIXT_ERROR_MEMORY;
}

/* ---- one serve_choice */

/* A sampler is freed at once: where it stands in a large grammar takes megabytes, and others of the
 * order have yet to begin. */
static void choice_end(serve_generation *generation, serve_choice *choice)
{
    if (choice->sampler != NULL) {
        generation->order.samplers[choice->index] = NULL;
        mixt_sampler_free(choice->sampler);
        choice->sampler = NULL;
    }
    mixt_sequence_free(choice->sequence);
    mixt_stop_free(choice->stop);
    text_free(&choice->raw);
    free(choice->unrouted);
    free(choice->pooled);
    choice->pooled = NULL;
    choice->sequence = NULL;
    choice->stop = NULL;
    choice->unrouted = NULL;
    choice->over = choice->closed = true;
}

static mixt_status choice_begin(serve_generation *generation, serve_choice *choice,
                                mixt_error *error)
{
    const generation_order *order = &generation->order;
    const serve_generator *generator = generation->generator;
    mixt_sequence_options options = {.all_logits = order->prompt_logprobs,
                                     .states = order->embeds,
                                     .routes = order->routes,
                                     .no_sharing = order->routes};
    if (order->embeds) {
        choice->pooled = calloc((size_t)generator->hidden_size, sizeof *choice->pooled);
        if (choice->pooled == NULL) {
            return no_memory(error);
        }
    }
    mixt_status status =
        mixt_sequence_create(generator->engine, &options, &choice->sequence, error);
    for (size_t i = 0; status == MIXT_OK && i < order->change_count; i++) {
        const routing_change *change = &order->changes[i];
        status = mixt_sequence_change_routing(choice->sequence, change->change, change->layer,
                                              change->value, error);
    }
    if (status == MIXT_OK && order->stop_count > 0) {
        status = mixt_stop_create((const char *const *)order->stops, order->stop_count,
                                  &choice->stop, error);
    }
    if (status == MIXT_OK) {
        status =
            mixt_sequence_feed(choice->sequence, choice->prompt->ids, choice->prompt->count, error);
        choice->asked = true;
    }
    return status;
}

/* Bytes of the raw text that may be shown: no character that is not whole, nothing that may become
 * a stop string. */
static size_t may_be_shown(serve_choice *choice, const char *bytes, size_t length)
{
    size_t allowed = choice->raw.length;
    if (choice->stop != NULL) {
        allowed = mixt_stop_feed(choice->stop, bytes, length);
    }
    return allowed < choice->raw.length && mixt_stop_met(choice->stop) >= 0
               ? allowed
               : utf8_whole(choice->raw.bytes != NULL ? choice->raw.bytes : "", allowed);
}

/* Gives out the raw text up to `until`. */
static mixt_status show(serve_choice *choice, size_t until, generation_piece **piece,
                        const piece_size *sizes, mixt_error *error)
{
    text_buffer text = {0};
    if (until > choice->shown) {
        text_add_utf8(&text, choice->raw.bytes + choice->shown, until - choice->shown);
        choice->shown = until;
    }
    piece_size size = *sizes;
    size.text_length = text.length;
    *piece = text.failed ? NULL : piece_create(&size);
    if (*piece == NULL) {
        text_free(&text);
        return no_memory(error);
    }
    if (text.length > 0) {
        memcpy((*piece)->text, text.bytes, text.length);
    }
    (*piece)->choice = choice->index;
    (*piece)->stop = -1;
    text_free(&text);
    return MIXT_OK;
}

static void copy_routes(generation_piece *piece, const mixt_sequence_rows *rows, size_t row)
{
    size_t count = (size_t)rows->moe_layers * (size_t)rows->chosen;
    size_t layers = (size_t)rows->moe_layers;
    const token_routes *to = &piece->routes;
    memcpy(to->ids, rows->route_ids + row * count, count * sizeof *to->ids);
    memcpy(to->weights, rows->route_weights + row * count, count * sizeof *to->weights);
    memcpy(to->margins, rows->route_margins + row * layers, layers * sizeof *to->margins);
}

/* The piece of token `position` of a prompt: what the row before it said of it, and room for its
 * experts. */
static mixt_status make_prompt_piece(const serve_generation *generation, const serve_choice *choice,
                                     const mixt_sequence_rows *rows, size_t position,
                                     generation_piece **piece, mixt_error *error)
{
    const generation_order *order = &generation->order;
    int vocab_size = generation->generator->vocab_size;
    bool scored = order->prompt_logprobs && position > 0;
    piece_size size = {.tops = scored && order->top_logprobs > 0 ? order->top_logprobs : 0,
                       .layers = order->routes ? rows->moe_layers : 0,
                       .chosen = rows->chosen};
    *piece = piece_create(&size);
    if (*piece == NULL) {
        return no_memory(error);
    }
    (*piece)->kind = PIECE_PROMPT;
    (*piece)->choice = choice->index;
    (*piece)->position = position;
    (*piece)->token = choice->prompt->ids[position];
    (*piece)->stop = -1;
    if (scored) {
        const float *logits =
            rows->logits + (position - 1 - rows->logits_position) * (size_t)vocab_size;
        (*piece)->has_logprob = true;
        mixt_log_probabilities(logits, vocab_size, (*piece)->token, &(*piece)->logprob, size.tops,
                               (*piece)->top_ids, (*piece)->top_values);
    }
    return MIXT_OK;
}

/* Pieces of the tokens that a step computed, as far as the prompt goes. The probability of the
 * first token of the next step is known now, its experts are not: that piece waits for them. */
static mixt_status add_prompt(serve_generation *generation, serve_choice *choice,
                              const mixt_sequence_rows *rows, mixt_error *error)
{
    const generation_order *order = &generation->order;
    size_t end = rows->position + rows->count;
    size_t until = order->prompt_logprobs ? end + 1 : end;
    until = until < choice->prompt->count ? until : choice->prompt->count;
    if (!order->prompt_logprobs && !order->routes) {
        return MIXT_OK;
    }
    for (size_t i = rows->position; i < until; i++) {
        generation_piece *piece = choice->unrouted;
        if (piece == NULL || piece->position != i) {
            if (i < choice->prompt_given) {
                continue;
            }
            mixt_status status = make_prompt_piece(generation, choice, rows, i, &piece, error);
            if (status != MIXT_OK) {
                return status;
            }
            choice->prompt_given = i + 1;
        }
        if (piece->routes.ids != NULL && i >= end) {
            choice->unrouted = piece;
            continue;
        }
        if (piece->routes.ids != NULL) {
            copy_routes(piece, rows, i - rows->position);
        }
        choice->unrouted = choice->unrouted == piece ? NULL : choice->unrouted;
        generation_add(generation, piece);
    }
    return MIXT_OK;
}

/* Takes the states of a step into those of the text, token by token, so that the same text has the
 * same bits however it was cut into steps. */
static void pool_states(const serve_generation *generation, serve_choice *choice,
                        const mixt_sequence_rows *rows)
{
    size_t width = (size_t)generation->generator->hidden_size;
    bool last = generation->generator->options.pooling == SERVE_POOLING_LAST;
    for (size_t row = 0; row < rows->logits_count; row++) {
        for (size_t i = 0; i < width; i++) {
            double value = (double)rows->states[row * width + i];
            choice->pooled[i] = last ? value : choice->pooled[i] + value;
        }
    }
}

/* The live record: the last token that a step computed of this choice, whose experts are read for
 * it, whatever its order asked for, where somebody listens. */
static void live_write(const serve_generation *generation, const serve_choice *choice,
                       const mixt_sequence_rows *rows)
{
    live_hub *hub = generation->generator->options.live;
    if (rows->moe_layers == 0 || rows->count == 0 || !live_begin(hub)) {
        return;
    }
    size_t position = rows->position + rows->count - 1, length = 0;
    generation_piece *piece =
        piece_create(&(piece_size){.layers = rows->moe_layers, .chosen = rows->chosen});
    if (piece == NULL) {
        return; /* the record is a sample */
    }
    mixt_sequence_last_routes(choice->sequence, piece->routes.ids, piece->routes.weights,
                              piece->routes.margins);
    bool in_prompt = position < choice->prompt->count;
    int32_t token = in_prompt ? choice->prompt->ids[position] : choice->last;
    const char *bytes =
        mixt_tokenizer_bytes_of(generation->generator->options.tokenizer, token, &length);
    text_buffer line = {0};
    text_put(&line, "{");
    text_member_integer(&line, "request", (int64_t)generation->number);
    text_member_integer(&line, "choice", choice->index);
    text_member_integer(&line, "position", (int64_t)position);
    text_member_bool(&line, "prompt", in_prompt);
    text_member_integer(&line, "token", token);
    text_key(&line, "text");
    text_json(&line, bytes != NULL ? bytes : "", length);
    text_routes(&line, &piece->routes);
    text_put(&line, "}");
    if (!line.failed) {
        live_publish(hub, line.bytes, line.length);
    }
    text_free(&line);
    pieces_free(piece);
}

/* ---- drawing */

static bool ends_text(const serve_generator *generator, int32_t token)
{
    const mixt_tokenizer *tokenizer = generator->options.tokenizer;
    return mixt_tokenizer_is_end(tokenizer, token) || token == mixt_tokenizer_separator(tokenizer);
}

/* Why nothing more is drawn behind a token, or FINISH_NONE. */
static finish_reason reason_to_finish(const serve_generation *generation,
                                      const serve_choice *choice)
{
    const generation_order *order = &generation->order;
    if (choice->stop != NULL && mixt_stop_met(choice->stop) >= 0) {
        return FINISH_STOP;
    }
    if (mixt_sampler_complete(choice->sampler)) {
        return FINISH_END;
    }
    bool late = order->milliseconds > 0 && generation->times.first > 0 &&
                generation_now() - generation->times.first > 1000 * order->milliseconds;
    bool full = mixt_sequence_length(choice->sequence) + 1 >= generation->generator->context_length;
    return late || full || (order->max_tokens >= 0 && choice->drawn >= (size_t)order->max_tokens)
               ? FINISH_LENGTH
               : FINISH_NONE;
}

/* The end of a choice is given out, with what was held back. */
static mixt_status close_choice(serve_generation *generation, serve_choice *choice,
                                mixt_error *error)
{
    generation_piece *piece;
    const serve_generator *generator = generation->generator;
    bool stopped = choice->stop != NULL && mixt_stop_met(choice->stop) >= 0;
    const piece_size size = {.width = choice->pooled != NULL ? generator->hidden_size : 0};
    mixt_status status =
        show(choice, stopped ? choice->shown : choice->raw.length, &piece, &size, error);
    if (status == MIXT_OK) {
        bool mean = generator->options.pooling == SERVE_POOLING_MEAN;
        for (int i = 0; i < size.width; i++) {
            piece->pooled[i] = choice->pooled[i] / (mean ? (double)choice->prompt->count : 1);
        }
        piece->kind = PIECE_END;
        piece->finish = choice->finish;
        piece->stop = stopped ? mixt_stop_met(choice->stop) : -1;
        generation_add(generation, piece);
        choice_end(generation, choice);
    }
    return status;
}

static mixt_status feed_one(serve_choice *choice, int32_t token, mixt_error *error)
{
    choice->held = -1;
    choice->last = token;
    choice->asked = true;
    return mixt_sequence_feed(choice->sequence, &token, 1, error);
}

/* The piece of a token that was drawn: its text as far as it may be shown, its probability. */
static mixt_status make_piece(serve_generation *generation, serve_choice *choice, int32_t token,
                              const float *logits, mixt_error *error)
{
    const generation_order *order = &generation->order;
    const serve_generator *generator = generation->generator;
    mixt_sequence_rows rows;
    generation_piece *piece;
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(generator->options.tokenizer, token, &length);
    bytes = bytes != NULL ? bytes : "";
    const char *line = order->stop_at_line ? memchr(bytes, '\n', length) : NULL;
    if (line != NULL) {
        length = (size_t)(line - bytes);
        choice->finish = FINISH_STOP;
    }
    text_add(&choice->raw, bytes, length);
    if (choice->raw.failed) {
        return no_memory(error);
    }
    mixt_sequence_computed(choice->sequence, &rows);
    piece_size size = {.tops = order->top_logprobs > 0 ? order->top_logprobs : 0,
                       .layers = order->routes ? rows.moe_layers : 0,
                       .chosen = rows.chosen};
    mixt_status status = show(choice, may_be_shown(choice, bytes, length), &piece, &size, error);
    if (status != MIXT_OK) {
        return status;
    }
    piece->kind = PIECE_TOKEN;
    piece->position = mixt_sequence_length(choice->sequence);
    piece->token = token;
    if (order->top_logprobs >= 0) {
        piece->has_logprob = true;
        mixt_log_probabilities(logits, generator->vocab_size, token, &piece->logprob, size.tops,
                               piece->top_ids, piece->top_values);
    }
    if (size.layers > 0) {
        choice->unrouted = piece; /* until it was computed */
    } else {
        generation_add(generation, piece);
    }
    return MIXT_OK;
}

static mixt_status draw(serve_generation *generation, serve_choice *choice, mixt_error *error)
{
    int32_t token = 0;
    const serve_generator *generator = generation->generator;
    const float *logits = mixt_sequence_logits(choice->sequence);
    mixt_status status = mixt_sampler_next(choice->sampler, logits, &token, error);
    if (status != MIXT_OK) {
        return status;
    }
    choice->drawn++;
    pthread_mutex_lock(&generation->generator->lock);
    generation->counts.drawn_tokens++;
    bool first = generation->times.first == 0;
    generation->times.first = first ? generation_now() : generation->times.first;
    double waited = 1e-6 * (double)(generation->times.first - generation->times.queued);
    pthread_mutex_unlock(&generation->generator->lock);
    if (first) {
        metrics_first_token(generator->options.metrics, waited);
    }
    if (ends_text(generator, token)) {
        choice->finish = FINISH_END;
        choice->over = true;
        return close_choice(generation, choice, error);
    }
    status = mixt_sampler_accept(choice->sampler, token, true, error);
    if (status == MIXT_OK) {
        status = make_piece(generation, choice, token, logits, error);
    }
    if (status != MIXT_OK) {
        return status;
    }
    choice->finish =
        choice->finish != FINISH_NONE ? choice->finish : reason_to_finish(generation, choice);
    choice->over = choice->finish != FINISH_NONE;
    bool fits = mixt_sequence_length(choice->sequence) < generator->context_length;
    if (choice->over && (choice->unrouted == NULL || !fits)) {
        if (choice->unrouted != NULL) { /* no room to compute its experts */
            choice->unrouted->routes.ids = NULL;
            generation_add(generation, choice->unrouted);
            choice->unrouted = NULL;
        }
        return close_choice(generation, choice, error);
    }
    choice->held = token;
    return MIXT_OK;
}

/* What a step brought for a choice. */
static mixt_status choice_go_on(serve_generation *generation, serve_choice *choice,
                                mixt_error *error)
{
    mixt_sequence_rows rows;
    mixt_status status = mixt_sequence_state(choice->sequence, error);
    if (status != MIXT_OK || !choice->asked) {
        return status;
    }
    mixt_sequence_computed(choice->sequence, &rows);
    if (rows.count > 0) {
        live_write(generation, choice, &rows);
        if (choice->pooled != NULL) {
            pool_states(generation, choice, &rows);
        } else if (rows.position < choice->prompt->count) {
            status = add_prompt(generation, choice, &rows, error);
        } else if (choice->unrouted != NULL) {
            copy_routes(choice->unrouted, &rows, choice->unrouted->position - rows.position);
            generation_add(generation, choice->unrouted);
            choice->unrouted = NULL;
        }
    }
    if (status != MIXT_OK || mixt_sequence_waiting(choice->sequence) > 0) {
        return status;
    }
    choice->asked = false;
    if (!choice->computed) {
        choice->computed = true;
        pthread_mutex_lock(&generation->generator->lock);
        generation->counts.cached_tokens += mixt_sequence_found(choice->sequence);
        pthread_mutex_unlock(&generation->generator->lock);
    }
    if (!choice->over && generation->order.max_tokens == 0) {
        choice->finish = FINISH_LENGTH;
        choice->over = true;
    }
    return choice->over ? close_choice(generation, choice, error) : draw(generation, choice, error);
}

/* ---- orders */

/* Begins choices: the first of each prompt at once, the others when that prompt's pages are there
 * to be shared. */
static mixt_status begin_choices(serve_generation *generation, mixt_error *error)
{
    int n = generation->order.n;
    for (int i = 0; i < generation->choice_count; i++) {
        serve_choice *choice = &generation->choices[i];
        bool ready = i % n == 0 || generation->choices[i / n * n].computed;
        if (choice->sequence == NULL && !choice->closed && ready) {
            mixt_status status = choice_begin(generation, choice, error);
            if (status != MIXT_OK) {
                return status;
            }
        }
    }
    return MIXT_OK;
}

/* Gives tokens that were drawn to their sequences, unless the reader is too far behind. */
static mixt_status feed_held(serve_generation *generation, mixt_error *error)
{
    if (generation_is_behind(generation)) {
        return MIXT_OK;
    }
    for (int i = 0; i < generation->choice_count; i++) {
        serve_choice *choice = &generation->choices[i];
        if (choice->held >= 0) {
            mixt_status status = feed_one(choice, choice->held, error);
            if (status != MIXT_OK) {
                return status;
            }
        }
    }
    return MIXT_OK;
}

static bool all_closed(const serve_generation *generation)
{
    for (int i = 0; i < generation->choice_count; i++) {
        if (!generation->choices[i].closed) {
            return false;
        }
    }
    return true;
}

static void count_order(serve_generation *generation)
{
    int64_t now = generation_now();
    const generation_times *times = &generation->times;
    const generation_counts *counts = &generation->counts;
    int64_t first = times->first > 0 ? times->first : now;
    const uint64_t tokens[3] = {counts->prompt_tokens, counts->cached_tokens, counts->drawn_tokens};
    metrics_order(generation->generator->options.metrics, tokens,
                  times->begun > 0 ? 1e-6 * (double)(first - times->begun) : 0,
                  1e-6 * (double)(now - first));
}

/* Takes an order from the list and ends it. */
static void drop(serve_generator *generator, serve_generation **at, const mixt_error *error)
{
    serve_generation *generation = *at;
    for (int i = 0; i < generation->choice_count; i++) {
        choice_end(generation, &generation->choices[i]);
    }
    count_order(generation);
    if (error->status != MIXT_OK) {
        serve_metrics *metrics = generator->options.metrics;
        metrics_add(
            metrics,
            error->status == MIXT_ERROR_INTERRUPTED ? &metrics->cancelled : &metrics->failed, 1);
    }
    pthread_mutex_lock(&generator->lock);
    *at = generation->next;
    pthread_mutex_unlock(&generator->lock);
    generation_finish(generation, error);
}

static bool is_gone(serve_generation *generation)
{
    pthread_mutex_t *lock = &generation->generator->lock;
    pthread_mutex_lock(lock);
    bool gone = generation->request == NULL || http_client_gone(generation->request);
    pthread_mutex_unlock(lock);
    return gone;
}

/* One round over all orders: those whose client is gone or whose work is done leave. */
static void go_on(serve_generator *generator, mixt_status (*work)(serve_generation *, mixt_error *))
{
    for (serve_generation **at = &generator->active; *at != NULL;) {
        serve_generation *generation = *at;
        mixt_error error = MIXT_ERROR_INIT;
        if (is_gone(generation)) {
            error = (mixt_error){.status = MIXT_ERROR_INTERRUPTED, .message = "the client is gone"};
            drop(generator, at, &error);
        } else if (work(generation, &error) != MIXT_OK || all_closed(generation)) {
            drop(generator, at, &error);
        } else {
            at = &generation->next;
        }
    }
}

static mixt_status prepare(serve_generation *generation, mixt_error *error)
{
    mixt_status status = begin_choices(generation, error);
    return status == MIXT_OK ? feed_held(generation, error) : status;
}

static mixt_status gather(serve_generation *generation, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (int i = 0; status == MIXT_OK && i < generation->choice_count; i++) {
        serve_choice *choice = &generation->choices[i];
        if (choice->sequence != NULL) {
            status = choice_go_on(generation, choice, error);
        }
    }
    return status;
}

/* Takes what arrived; waits where there is nothing to compute. False: the thread ends. */
static bool take_arrivals(serve_generator *generator, bool idle)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += IDLE_MILLISECONDS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&generator->lock);
    while (generator->arrived == NULL && generator->active == NULL && !generator->stopping) {
        pthread_cond_wait(&generator->changed, &generator->lock);
    }
    if (idle && generator->arrived == NULL && !generator->stopping) {
        pthread_cond_timedwait(&generator->changed, &generator->lock, &until);
    }
    serve_generation **end = &generator->active;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = generator->arrived;
    for (serve_generation *one = generator->arrived; one != NULL; one = one->next) {
        one->times.begun = generation_now();
    }
    generator->arrived = generator->arrived_last = NULL;
    bool goes_on = !generator->stopping;
    pthread_mutex_unlock(&generator->lock);
    return goes_on;
}

static mixt_status fail_stopped(serve_generation *generation, mixt_error *error)
{
    (void)generation;
    *error = (mixt_error){.status = MIXT_ERROR_INTERRUPTED, .message = "the server stops"};
    return error->status;
}

/* An error of a step is the machine's (a file that shrank): every order fails by it. */
static void fail_all(serve_generator *generator, const mixt_error *error)
{
    while (generator->active != NULL) {
        drop(generator, &generator->active, error);
    }
}

static void update_statistics(serve_generator *generator)
{
    mixt_engine_statistics statistics;
    mixt_engine_describe(generator->engine, &statistics);
    pthread_mutex_lock(&generator->lock);
    generator->statistics = statistics;
    pthread_mutex_unlock(&generator->lock);
}

void *generation_thread(void *user)
{
    serve_generator *generator = user;
    bool idle = false;
    while (take_arrivals(generator, idle)) {
        mixt_error error = MIXT_ERROR_INIT;
        go_on(generator, prepare);
        idle = mixt_engine_waiting(generator->engine) == 0;
        double start = seconds_now();
        if (!idle && mixt_engine_step(generator->engine, &error) != MIXT_OK) {
            fail_all(generator, &error);
        } else if (!idle) {
            metrics_step(generator->options.metrics, seconds_now() - start);
            go_on(generator, gather);
        }
        update_statistics(generator);
    }
    go_on(generator, fail_stopped);
    return NULL;
}
