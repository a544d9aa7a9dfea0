#include "live.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct live_listener {
    live_hub *hub;
    live_listener *next;
    http_request *request;
    uint64_t at;     /* byte of the hub's stream that comes next */
    uint64_t missed; /* events since the last word on them */
    bool sleeping, comment, gone;
};

/* `bytes` is a ring: byte b of the stream lies at b % size. Events are kept whole: their
 * borders are in `begins`. */
struct live_hub {
    pthread_mutex_t lock;
    char *bytes;
    size_t size;
    uint64_t end;                /* bytes written so far */
    uint64_t *begins;            /* of the last events, a ring as well */
    uint64_t events, first_kept; /* written so far; the oldest that is whole in the ring */
    live_listener *listeners;
    int count, most;
    bool closed;
    double spent, since; /* seconds of writing, of the time since the first listener */
    double began;        /* of the event that is being written */
};

enum { EVENTS_KEPT = 4096 };

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

live_hub *live_create(size_t bytes, int listeners_max)
{
    live_hub *hub = calloc(1, sizeof *hub);
    if (hub == NULL) {
        return NULL;
    }
    hub->bytes = malloc(bytes);
    hub->begins = calloc(EVENTS_KEPT, sizeof *hub->begins);
    hub->size = bytes;
    hub->most = listeners_max;
    pthread_mutex_init(&hub->lock, NULL);
    if (hub->bytes == NULL || hub->begins == NULL) {
        live_free(hub);
        return NULL;
    }
    return hub;
}

void live_free(live_hub *hub)
{
    if (hub != NULL) {
        pthread_mutex_destroy(&hub->lock);
        free(hub->bytes);
        free(hub->begins);
        free(hub);
    }
}

bool live_begin(live_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    double now = seconds_now();
    bool wanted = hub->count > 0 && hub->spent <= LIVE_SHARE * (now - hub->since);
    hub->began = now;
    pthread_mutex_unlock(&hub->lock);
    return wanted;
}

static void wake_all(live_hub *hub)
{
    for (live_listener *listener = hub->listeners; listener != NULL; listener = listener->next) {
        if (listener->sleeping) {
            listener->sleeping = false;
            http_wake(listener->request);
        }
    }
}

void live_publish(live_hub *hub, const char *line, size_t length)
{
    pthread_mutex_lock(&hub->lock);
    if (length < hub->size) {
        size_t at = (size_t)(hub->end % hub->size);
        size_t before = length < hub->size - at ? length : hub->size - at;
        memcpy(hub->bytes + at, line, before);
        memcpy(hub->bytes, line + before, length - before);
        hub->begins[hub->events++ % EVENTS_KEPT] = hub->end;
        hub->end += length;
        while (hub->events - hub->first_kept > EVENTS_KEPT ||
               hub->begins[hub->first_kept % EVENTS_KEPT] + hub->size < hub->end) {
            hub->first_kept++;
        }
        wake_all(hub);
    }
    hub->spent += seconds_now() - hub->began;
    pthread_mutex_unlock(&hub->lock);
}

void live_tick(live_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    for (live_listener *listener = hub->listeners; listener != NULL; listener = listener->next) {
        listener->comment = listener->sleeping;
    }
    wake_all(hub);
    pthread_mutex_unlock(&hub->lock);
}

void live_watch(live_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    for (live_listener *listener = hub->listeners; listener != NULL; listener = listener->next) {
        if (listener->sleeping && http_client_gone(listener->request)) {
            listener->gone = true;
            listener->sleeping = false;
            http_wake(listener->request);
        }
    }
    pthread_mutex_unlock(&hub->lock);
}

void live_close(live_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    hub->closed = true;
    wake_all(hub);
    pthread_mutex_unlock(&hub->lock);
}

live_listener *live_listen(live_hub *hub, http_request *request)
{
    live_listener *listener = calloc(1, sizeof *listener);
    pthread_mutex_lock(&hub->lock);
    if (listener == NULL || hub->count >= hub->most) {
        free(listener);
        listener = NULL;
    } else {
        if (hub->count++ == 0) {
            hub->spent = 0;
            hub->since = seconds_now();
        }
        listener->hub = hub;
        listener->request = request;
        listener->at = hub->events;
        listener->next = hub->listeners;
        hub->listeners = listener;
    }
    pthread_mutex_unlock(&hub->lock);
    return listener;
}

/* Event number `at` of the ring, or what was missed, as one server-sent event where there is room
 * for it. */
static size_t copy_event(live_listener *listener, char *bytes, size_t size)
{
    live_hub *hub = listener->hub;
    uint64_t from = hub->begins[listener->at % EVENTS_KEPT];
    uint64_t to =
        listener->at + 1 < hub->events ? hub->begins[(listener->at + 1) % EVENTS_KEPT] : hub->end;
    size_t length = (size_t)(to - from);
    if (length + 8 > size) {
        return 0;
    }
    memcpy(bytes, "data: ", 6);
    for (size_t i = 0; i < length; i++) {
        bytes[6 + i] = hub->bytes[(from + i) % hub->size];
    }
    memcpy(bytes + 6 + length, "\n\n", 2);
    listener->at++;
    return length + 8;
}

size_t live_read(live_listener *listener, char *bytes, size_t size, bool *end)
{
    live_hub *hub = listener->hub;
    size_t used = 0;
    pthread_mutex_lock(&hub->lock);
    if (listener->gone) { /* what came meanwhile is for nobody */
        pthread_mutex_unlock(&hub->lock);
        *end = true;
        return 0;
    }
    if (listener->at < hub->first_kept) {
        listener->missed += hub->first_kept - listener->at;
        listener->at = hub->first_kept;
    }
    if (listener->missed > 0 && size >= 100) {
        used = (size_t)snprintf(bytes, size, "event: missed\ndata: {\"missed\":%llu}\n\n",
                                (unsigned long long)listener->missed);
        listener->missed = 0;
    }
    while (listener->at < hub->events) {
        size_t got = copy_event(listener, bytes + used, size - used);
        if (got == 0 && used == 0) { /* larger than any buffer */
            listener->missed++;
            listener->at++;
            continue;
        }
        if (got == 0) {
            break;
        }
        used += got;
    }
    if (used == 0 && listener->comment && size >= 3) {
        memcpy(bytes, ":\n\n", 3);
        used = 3;
    }
    listener->comment = false;
    *end = used == 0 && hub->closed;
    if (used == 0 && !hub->closed) {
        listener->sleeping = true;
        http_sleep(listener->request);
    }
    pthread_mutex_unlock(&hub->lock);
    return used;
}

void live_leave(live_listener *listener)
{
    live_hub *hub = listener->hub;
    pthread_mutex_lock(&hub->lock);
    live_listener **at = &hub->listeners;
    while (*at != listener) {
        at = &(*at)->next;
    }
    *at = listener->next;
    hub->count--;
    pthread_mutex_unlock(&hub->lock);
    free(listener);
}

static void text_choices(text_buffer *text, const token_routes *routes, int layer)
{
    int begin = layer * routes->chosen, end = begin + routes->chosen;
    while (end > begin && routes->ids[end - 1] < 0) {
        end--;
    }
    text_comma(text);
    text_put(text, "[");
    for (int i = begin; i < end; i++) {
        text_comma(text);
        if (routes->ids[i] < 0) {
            text_put(text, "null");
            continue;
        }
        text_format(text, "[%d,", routes->ids[i]);
        text_float(text, routes->weights[i]);
        text_put(text, "]");
    }
    text_put(text, "]");
}

void text_routes(text_buffer *text, const token_routes *routes)
{
    text_key(text, "layers");
    if (routes->ids == NULL) {
        text_put(text, "null,\"margins\":null");
        return;
    }
    text_put(text, "[");
    for (int layer = 0; layer < routes->layers; layer++) {
        text_choices(text, routes, layer);
    }
    text_put(text, "]");
    text_key(text, "margins");
    text_put(text, "[");
    for (int layer = 0; layer < routes->layers; layer++) {
        text_comma(text);
        if (isfinite(routes->margins[layer])) {
            text_float(text, routes->margins[layer]);
        } else {
            text_put(text, "null");
        }
    }
    text_put(text, "]");
}
