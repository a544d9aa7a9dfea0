#include "generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "generation_parts.h"

int64_t generation_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void generation_order_free(generation_order *order)
{
    size_t count = order->prompt_count * (size_t)order->n;
    for (size_t i = 0; order->samplers != NULL && i < count; i++) {
        mixt_sampler_free(order->samplers[i]);
    }
    for (size_t i = 0; order->prompts != NULL && i < order->prompt_count; i++) {
        free(order->prompts[i].ids);
    }
    for (size_t i = 0; order->stops != NULL && i < order->stop_count; i++) {
        free(order->stops[i]);
    }
    free(order->samplers);
    free(order->prompts);
    free(order->stops);
    free(order->changes);
    *order = (generation_order){0};
}

/* ---- pieces */

generation_piece *piece_create(const piece_size *size)
{
    size_t tops = (size_t)size->tops, layers = (size_t)size->layers, width = (size_t)size->width;
    size_t choices = layers * (size_t)size->chosen;
    size_t bytes = sizeof(generation_piece) + tops * (sizeof(double) + sizeof(int32_t)) +
                   width * sizeof(double) + choices * (sizeof(int32_t) + sizeof(float)) +
                   layers * sizeof(float) + size->text_length + 1;
    generation_piece *piece = calloc(1, bytes);
    if (piece == NULL) {
        return NULL;
    }
    piece->bytes = bytes;
    piece->top_count = size->tops;
    piece->top_values = (double *)(void *)(piece + 1);
    piece->width = size->width;
    piece->pooled = piece->top_values + tops;
    piece->top_ids = (int32_t *)(void *)(piece->pooled + width);
    int32_t *ids = piece->top_ids + tops;
    float *weights = (float *)(void *)(ids + choices), *margins = weights + choices;
    piece->text = (char *)(margins + layers);
    piece->text_length = size->text_length;
    if (choices > 0) {
        piece->routes = (token_routes){size->layers, size->chosen, ids, weights, margins};
    }
    return piece;
}

void pieces_free(generation_piece *pieces)
{
    while (pieces != NULL) {
        generation_piece *next = pieces->next;
        free(pieces);
        pieces = next;
    }
}

/* Under the lock. */
static void wake(serve_generation *generation, bool whole)
{
    if (generation->sleeping && (whole || !generation->sleeping_whole)) {
        generation->sleeping = false;
        http_wake(generation->request);
    }
}

void generation_add(serve_generation *generation, generation_piece *piece)
{
    pthread_mutex_t *lock = &generation->generator->lock;
    pthread_mutex_lock(lock);
    if (generation->request == NULL) { /* nobody wants it */
        free(piece);
    } else {
        *(generation->last != NULL ? &generation->last->next : &generation->first) = piece;
        generation->last = piece;
        generation->buffered += piece->bytes;
        wake(generation, false);
    }
    pthread_mutex_unlock(lock);
}

bool generation_is_behind(serve_generation *generation)
{
    pthread_mutex_t *lock = &generation->generator->lock;
    pthread_mutex_lock(lock);
    bool behind = generation->order.stream &&
                  generation->buffered > generation->generator->options.buffer_max;
    pthread_mutex_unlock(lock);
    return behind;
}

static void release(serve_generation *generation)
{
    pieces_free(generation->first);
    generation_order_free(&generation->order);
    free(generation->choices);
    free(generation);
}

void generation_finish(serve_generation *generation, const mixt_error *error)
{
    serve_generator *generator = generation->generator;
    pthread_mutex_lock(&generator->lock);
    generation->error = *error;
    generation->done = true;
    generation->held_by_thread = false;
    generation->times.ended = generation_now();
    generator->taken--;
    wake(generation, true);
    bool orphan = generation->request == NULL;
    pthread_mutex_unlock(&generator->lock);
    if (orphan) {
        release(generation);
    }
}

generation_piece *generation_take(serve_generation *generation, bool whole, bool *sleeps,
                                  bool *done)
{
    serve_generator *generator = generation->generator;
    generation_piece *pieces = NULL;
    pthread_mutex_lock(&generator->lock);
    *done = generation->done;
    *sleeps = !generation->done && (whole || generation->first == NULL);
    if (*sleeps) {
        generation->sleeping = true;
        generation->sleeping_whole = whole;
        http_sleep(generation->request);
    } else {
        bool behind = generation->buffered > generator->options.buffer_max;
        pieces = generation->first;
        generation->first = generation->last = NULL;
        generation->buffered = 0;
        if (behind) {
            pthread_cond_signal(&generator->changed);
        }
    }
    pthread_mutex_unlock(&generator->lock);
    return pieces;
}

mixt_status generation_error(serve_generation *generation, const char **message)
{
    *message = generation->error.message;
    return generation->error.status;
}

void generation_describe(serve_generation *generation, generation_counts *counts,
                         generation_times *times)
{
    pthread_mutex_lock(&generation->generator->lock);
    *counts = generation->counts;
    *times = generation->times;
    pthread_mutex_unlock(&generation->generator->lock);
}

const generation_order *generation_order_of(const serve_generation *generation)
{
    return &generation->order;
}

void generation_free(serve_generation *generation)
{
    if (generation == NULL) {
        return;
    }
    serve_generator *generator = generation->generator;
    pthread_mutex_lock(&generator->lock);
    generation->request = NULL;
    bool held = generation->held_by_thread;
    if (held) {
        pthread_cond_signal(&generator->changed);
    }
    pthread_mutex_unlock(&generator->lock);
    if (!held) {
        release(generation);
    }
}

/* ---- the queue */

bool generator_reserve(serve_generator *generator)
{
    pthread_mutex_lock(&generator->lock);
    bool free_place = !generator->draining && generator->taken < generator->options.queue_max;
    generator->taken += free_place;
    pthread_mutex_unlock(&generator->lock);
    return free_place;
}

void generator_give_back(serve_generator *generator)
{
    pthread_mutex_lock(&generator->lock);
    generator->taken--;
    pthread_mutex_unlock(&generator->lock);
}

serve_generation *generation_submit(serve_generator *generator, generation_order *order,
                                    http_request *request)
{
    serve_generation *made = calloc(1, sizeof *made);
    size_t count = order->prompt_count * (size_t)order->n;
    serve_choice *choices = calloc(count, sizeof *choices);
    if (made == NULL || choices == NULL) {
        free(made);
        free(choices);
        generation_order_free(order);
        generator_give_back(generator);
        return NULL;
    }
    made->generator = generator;
    made->order = *order;
    *order = (generation_order){0};
    made->choices = choices;
    made->choice_count = (int)count;
    made->number = request->number;
    made->request = request;
    made->held_by_thread = true;
    made->times.queued = generation_now();
    for (size_t i = 0; i < count; i++) {
        choices[i].index = (int)i;
        choices[i].prompt = &made->order.prompts[i / (size_t)made->order.n];
        choices[i].sampler = made->order.samplers != NULL ? made->order.samplers[i] : NULL;
        choices[i].held = -1;
    }
    for (size_t i = 0; i < made->order.prompt_count; i++) {
        made->counts.prompt_tokens += made->order.prompts[i].count;
    }
    pthread_mutex_lock(&generator->lock);
    *(generator->arrived_last != NULL ? &generator->arrived_last->next : &generator->arrived) =
        made;
    generator->arrived_last = made;
    pthread_cond_signal(&generator->changed);
    pthread_mutex_unlock(&generator->lock);
    return made;
}

int generator_orders(serve_generator *generator)
{
    pthread_mutex_lock(&generator->lock);
    int taken = generator->taken;
    pthread_mutex_unlock(&generator->lock);
    return taken;
}

void generator_describe(serve_generator *generator, mixt_engine_statistics *statistics)
{
    pthread_mutex_lock(&generator->lock);
    *statistics = generator->statistics;
    pthread_mutex_unlock(&generator->lock);
}

size_t generator_context(const serve_generator *generator)
{
    return generator->context_length;
}

int generator_parallel(const serve_generator *generator)
{
    return generator->parallel;
}

static void show_all(const serve_generation *list, void (*show)(void *, const generation_view *),
                     void *user)
{
    for (; list != NULL; list = list->next) {
        generation_view view = {.number = list->number,
                                .order = &list->order,
                                .counts = list->counts,
                                .begun = list->times.begun != 0};
        show(user, &view);
    }
}

void generator_each(serve_generator *generator,
                    void (*show)(void *user, const generation_view *view), void *user)
{
    pthread_mutex_lock(&generator->lock);
    show_all(generator->active, show, user);
    show_all(generator->arrived, show, user);
    pthread_mutex_unlock(&generator->lock);
}

/* ---- the serve_generator */

const mixt_engine_options *generator_engine(const serve_generator *generator)
{
    return &generator->options.engine;
}

/* What a generator without its thread holds. */
static void dismantle(serve_generator *generator)
{
    mixt_engine_free(generator->engine);
    pthread_cond_destroy(&generator->changed);
    pthread_mutex_destroy(&generator->lock);
    free(generator);
}

mixt_status generator_create(const generator_options *options, serve_generator **made,
                             mixt_error *error)
{
    serve_generator *generator = calloc(1, sizeof *generator);
    mixt_model_info info;
    mixt_engine_options applied;
    *made = NULL;
    if (generator == NULL) {
        error->status = MIXT_ERROR_MEMORY;
        snprintf(error->message, sizeof error->message, "no memory");
        return MIXT_ERROR_MEMORY;
    }
    generator->options = *options;
    mixt_status status = mixt_engine_create(options->context, options->model, &options->engine,
                                            &generator->engine, error);
    if (status != MIXT_OK) {
        free(generator);
        return status;
    }
    mixt_model_describe(options->model, &info);
    mixt_engine_describe_options(generator->engine, &applied);
    mixt_engine_describe(generator->engine, &generator->statistics);
    generator->options.engine = applied;
    generator->context_length = (size_t)applied.context_length;
    generator->parallel = applied.sequences;
    generator->vocab_size = info.options.vocab_size;
    generator->hidden_size = info.options.hidden_size;
    pthread_mutex_init(&generator->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&generator->changed, &clock);
    pthread_condattr_destroy(&clock);
    int number = pthread_create(&generator->thread, NULL, generation_thread, generator);
    if (number != 0) {
        dismantle(generator);
        error->status = MIXT_ERROR_MEMORY;
        snprintf(error->message, sizeof error->message,
                 "the thread that generates could not be started: %.100s", strerror(number));
        return MIXT_ERROR_MEMORY;
    }
    *made = generator;
    return MIXT_OK;
}

void generator_drain(serve_generator *generator)
{
    pthread_mutex_lock(&generator->lock);
    generator->draining = true;
    pthread_mutex_unlock(&generator->lock);
}

void generator_free(serve_generator *generator)
{
    if (generator == NULL) {
        return;
    }
    pthread_mutex_lock(&generator->lock);
    generator->stopping = true;
    pthread_cond_signal(&generator->changed);
    pthread_mutex_unlock(&generator->lock);
    pthread_join(generator->thread, NULL);
    dismantle(generator);
}
